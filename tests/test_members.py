"""The hash table inside a value, against a Python dict."""

import random

import pytest
from engine.members_probe import Probe

SCAN_END = 1 << 32


def some_key(rng, n):
    """Keys of all lengths around those where the layout changes, empty and binary ones too."""
    number = rng.randrange(n)
    kind = number % 8
    if kind < 3:
        return b"%x" % number
    if kind < 6:
        return b"member:%d" % number
    if kind == 6:
        return bytes([number & 255]) * (number % 40)
    return b"%d" % number * (1 + number % 120)


def some_value(rng):
    return rng.randbytes(rng.choice((0, 1, 5, 20, 200, 255, 256, 300, 2000)))


def check(probe, model):
    """Everything there is, and nothing else."""
    assert {k: (v, e) for k, v, e, _ in probe.items()} == model
    assert probe.shape[0] == len(model)
    assert probe.bytes() == probe.used


def one_change(probe, model, rng, keys, removals):
    key = some_key(rng, keys)
    if rng.random() < removals:
        assert probe.remove(key) == (key in model)
        model.pop(key, None)
        return
    value = None if rng.random() < 0.5 else some_value(rng)
    expire = rng.choice((-1, -1, 0, 1 << 40))
    probe.put(key, value, expire)
    model[key] = (value or b"", expire)
    assert probe.get(key) == (key, *model[key], 0.0)


@pytest.mark.parametrize(("keys", "seed"), [(10, 1), (60, 2), (600, 3), (5000, 4), (5000, 5)])
def test_against_a_dict(keys, seed):
    rng = random.Random(seed)
    probe, model = Probe(), {}
    for removals in (0.1, 0.5, 0.9, 0.3, 0.97):
        for _ in range(min(6 * keys, 20000)):
            one_change(probe, model, rng, keys, removals)
        check(probe, model)
    for key in list(model):
        assert probe.remove(key)
    assert probe.used == 0
    assert probe.shape == (0, 0, 0)


def test_growth_and_shrinkage_by_a_bucket():
    probe = Probe()
    chained = 0
    for i in range(30000):
        probe.put(b"m%d" % i)
        count, buckets, chains = probe.shape
        assert count <= 6 * buckets <= count + 6
        chained = max(chained, chains)
    assert chained > 100, "the chains were not tried"
    for i in range(30000):
        assert probe.remove(b"m%d" % i)
        assert not probe.remove(b"m%d" % i)
        count, buckets, _ = probe.shape
        assert buckets <= count // 2 + 2 or i < 20001
    assert probe.used == 0


def test_scores_and_expiries():
    probe = Probe()
    for i in range(300):
        key, value = b"z" * i, b"v" * (i * 3 % 280)
        probe.put(key, value, i if i % 2 else -1, i / 7 if i % 3 else None)
    for i in range(300):
        key, value = b"z" * i, b"v" * (i * 3 % 280)
        assert probe.get(key) == (key, value, i if i % 2 else -1, i / 7 if i % 3 else 0.0)


@pytest.mark.parametrize("seed", range(6))
def test_scan_shows_what_stays(seed):
    """Each member that is there from the first call to the last is shown, however the table changes between."""
    rng = random.Random(seed)
    probe = Probe()
    start = rng.choice((5, 100, 900, 6000))
    for i in range(start):
        probe.put(b"stays%d" % i)
        probe.put(b"goes%d" % i)
    extra, gone, seen, position, grow = 0, 0, set(), 0, rng.random() < 0.5
    while position < SCAN_END:
        position, items = probe.scan(position)
        seen.update(item[0] for item in items)
        for _ in range(rng.randrange(40)):
            if grow and rng.random() < 0.9:
                probe.put(b"more%d" % extra)
                extra += 1
            elif gone < start:
                probe.remove(b"goes%d" % gone)
                gone += 1
        if rng.random() < 0.01:
            grow = not grow
    assert {b"stays%d" % i for i in range(start)} <= seen


def test_scan_of_a_quiet_table_shows_each_once():
    for n in (1, 6, 7, 50, 385, 2000, 20000):
        probe = Probe()
        for i in range(n):
            probe.put(b"%d" % i)
        position, shown = 0, []
        while position < SCAN_END:
            position, items = probe.scan(position)
            shown += [item[0] for item in items]
        assert sorted(shown) == sorted(b"%d" % i for i in range(n))


@pytest.mark.parametrize("n", [0, 1, 7, 400, 20000])
def test_free_in_pieces(n):
    probe = Probe()
    for i in range(n):
        probe.put(b"m%d" % i, b"value" * (i % 100))
    done, rounds = False, 0
    while not done:
        done, left = probe.free_some(50)
        assert left > -60
        rounds += 1
    assert probe.used == 0
    assert probe.shape == (0, 0, 0)
    assert rounds >= n // 60
    probe.put(b"again")                    # and it is fit for use
    assert probe.get(b"again")


@pytest.mark.parametrize("n", [0, 1, 7, 400, 20000])
def test_copy(n):
    probe = Probe()
    for i in range(n):
        probe.put(b"m%d" % i, b"value" * (i % 100), 5 if i % 3 == 0 else -1)
    other = probe.copy()
    assert sorted(other.items()) == sorted(probe.items())
    assert other.bytes() == other.used
    probe.free_some(1 << 40)
    assert len(other.items()) == n
    other.free_some(1 << 40)
    assert other.used == 0


def test_expected_room():
    for n in (0, 1, 6, 380, 390, 5000):
        probe = Probe()
        probe.expect(n)
        room = probe.shape[1]
        for i in range(n):
            probe.put(b"%d" % i)
        assert n == 0 or probe.shape[1] == room
        assert len(probe.items()) == n
        for i in range(n):
            probe.remove(b"%d" % i)
        if n:
            assert probe.used == 0
    probe = Probe()
    probe.expect((1 << 32) - 1)            # nobody's word is worth that much memory
    assert probe.used < 20_000_000
    probe.free_some(1 << 40)
    assert probe.used == 0


@pytest.mark.parametrize("n", [1, 5, 40, 700])
def test_random_is_fair(n):
    probe = Probe()
    for i in range(n):
        probe.put(b"%d" % i)
    draws = 200 * n
    counts = {}
    rng = random.Random(7)
    for _ in range(draws):
        key = probe.random(rng.getrandbits(64))[0]
        counts[key] = counts.get(key, 0) + 1
    chi = sum((counts.get(b"%d" % i, 0) - 200) ** 2 / 200 for i in range(n))
    assert chi < n + 6 * (2 * n) ** 0.5 + 6
    assert Probe().random(1) is None


def test_random_finds_the_ends_of_long_chains():
    """With so many members some bucket has a chain of more than the twenty-one that are drawn from."""
    probe, rng = Probe(), random.Random(3)
    for i in range(12_000):
        probe.put(b"%d" % i)
    assert len({probe.random(rng.getrandbits(64))[0] for _ in range(60 * 12_000)}) == 12_000


def test_samples_estimate_the_bytes():
    probe = Probe()
    for i in range(3000):
        probe.put(b"member:%06d" % i)
    assert probe.bytes(5) == probe.bytes() == probe.used
