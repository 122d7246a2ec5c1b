"""SCAN: what is there from beginning to end is returned, however the tables change meanwhile."""

import os
import random
import threading
import time

import pytest

SERVER_OPTIONS = ["--io-threads", "4"]
THREADS_S = float(os.environ.get("SLOTRING_TEST_THREADS_S", "1"))

STABLE = 8_000
LOOSE = 32_000
BATCH = 4_000
MANY_SLOTS = "key:%s:%d"
ONE_SLOT = "{one}%s:%d"


@pytest.fixture
def raw(server):
    """A connection to an empty server."""
    with server.raw(60) as raw:
        raw.call("FLUSHALL")
        yield raw


def put(raw, names):
    """Sets keys in large pipelines."""
    for at in range(0, len(names), BATCH):
        raw.pipeline([("SET", name, "v") for name in names[at : at + BATCH]])


def drop(raw, names):
    """Deletes keys in large pipelines."""
    for at in range(0, len(names), BATCH):
        raw.pipeline([("DEL", name) for name in names[at : at + BATCH]])


def scan(raw, *options, between=None):
    """All keys that a whole SCAN returns, with repetitions, and how many calls it took."""
    found, calls, cursor = [], 0, b"0"
    while True:
        cursor, keys = raw.call("SCAN", cursor, *options)
        found += keys
        calls += 1
        if cursor == b"0":
            return found, calls
        assert calls < 2_000_000, "SCAN does not end"
        if between:
            between(calls)


@pytest.mark.parametrize("name", [MANY_SLOTS, ONE_SLOT], ids=["many_slots", "one_slot"])
def test_unchanging_data_comes_once(raw, name):
    names = [name % ("s", number) for number in range(STABLE + LOOSE)]
    put(raw, names)
    for count in (10, 1000, 10**9):
        found, calls = scan(raw, "COUNT", count)
        assert sorted(found) == sorted(name.encode() for name in names)
        assert calls <= (STABLE + LOOSE) / min(count, 10**7) * 1.2 + 5


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", [MANY_SLOTS, ONE_SLOT], ids=["many_slots", "one_slot"])
def test_keys_that_stay_are_all_returned(raw, name, seed):
    rng = random.Random(seed)
    stable = {(name % ("s", number)).encode() for number in range(STABLE)}
    loose = [name % ("l", number) for number in range(LOOSE)]
    put(raw, sorted(stable))
    there = rng.choice([0, LOOSE])
    put(raw, loose[:there])

    def change(calls):
        nonlocal there
        if calls % 8:
            return
        target = rng.choice([0, LOOSE, there // 2, rng.randrange(LOOSE)])
        if target > there:
            put(raw, loose[there:target])
        else:
            drop(raw, loose[target:there])
        there = target

    found, calls = scan(raw, "COUNT", 500, between=change)
    assert calls > 8
    assert stable <= set(found)
    assert set(found) <= stable | {name.encode() for name in loose}


def test_a_table_that_only_shrinks_or_only_grows(raw):
    stable = {b"{one}s:%d" % number for number in range(500)}
    loose = [ONE_SLOT % ("l", number) for number in range(30_000)]
    for steps in ([loose[at : at + 300] for at in range(0, len(loose), 300)], loose[::-1]):
        shrinking = isinstance(steps[0], list)
        raw.call("FLUSHALL")
        put(raw, sorted(stable))
        if shrinking:
            put(raw, loose)

        def change(_, steps=steps, shrinking=shrinking):
            if not steps:
                return
            if shrinking:
                drop(raw, steps.pop())
            else:
                put(raw, [steps.pop() for _ in range(min(300, len(steps)))])

        found, _ = scan(raw, "COUNT", 50, between=change)
        assert stable <= set(found)


def test_filters(raw):
    put(raw, [f"{{t{number % 7}}}:{number}" for number in range(3000)])
    put(raw, [f"plain{number}" for number in range(3000)])
    found, _ = scan(raw, "MATCH", "plain*1", "COUNT", 100)
    assert sorted(found) == sorted(b"plain%d" % n for n in range(3000) if n % 10 == 1)
    found, calls = scan(raw, "MATCH", "{t3}:*", "COUNT", 100)
    assert sorted(found) == sorted(b"{t3}:%d" % n for n in range(3000) if n % 7 == 3)
    assert calls < 20  # one slot, not all of them
    assert scan(raw, "MATCH", "plain77") == ([b"plain77"], 1)
    assert scan(raw, "MATCH", "none", "COUNT", 10**6) == ([], 1)
    assert len(scan(raw, "TYPE", "string", "COUNT", 1000)[0]) == 6000
    assert scan(raw, "TYPE", "zset", "COUNT", 10**6) == ([], 1)


def test_expired_keys_are_not_returned(raw):
    raw.pipeline([("SET", f"k{number}", "v", "PX", 1) for number in range(1000)])
    put(raw, ["stays"])
    time.sleep(0.005)
    assert scan(raw, "COUNT", 10**6)[0] == [b"stays"]
    assert raw.call("KEYS", "*") == [b"stays"]
    assert raw.call("RANDOMKEY") == b"stays"


def test_cursors_that_nobody_gave(raw):
    put(raw, [f"k{number}" for number in range(1000)])
    rng = random.Random(7)
    for bits in range(1, 65):
        cursor, keys = raw.call("SCAN", rng.getrandbits(bits), "COUNT", 5)
        assert int(cursor) < 1 << 46 and len(keys) < 100


def test_databases_are_apart(raw):
    put(raw, [f"k{number}" for number in range(2000)])
    raw.call("SELECT", 1)
    assert scan(raw) == ([], 1)
    put(raw, ["other"])
    assert scan(raw)[0] == [b"other"]
    raw.call("SWAPDB", 0, 1)
    assert len(scan(raw)[0]) == 2000 and raw.call("DBSIZE") == 2000


def test_long_replies_and_many_names(raw):
    names = [b"n%07d" % number + b"x" * (number % 500) for number in range(20_000)]
    put(raw, names)
    assert sorted(raw.call("KEYS", "*")) == names
    assert sorted(raw.call("SCAN", 0, "COUNT", 10**6)[1]) == names
    assert raw.call("KEYS", "n0000007*") == [names[7]]
    assert raw.call("PING") == b"PONG"


@pytest.mark.parametrize("mode", ["SYNC", "ASYNC"])
@pytest.mark.parametrize("name", [MANY_SLOTS, ONE_SLOT], ids=["many_slots", "one_slot"])
def test_flushed_data_is_gone_and_new_data_stays(raw, name, mode):
    for turn in range(2):
        put(raw, [name % ("s", number) for number in range(STABLE)])
        assert raw.call("DBSIZE") == STABLE + (100 if turn else 0)
        assert raw.call("FLUSHALL", mode) == b"OK"
        assert raw.call("DBSIZE") == 0 and scan(raw) == ([], 1)
        put(raw, [name % ("new", number) for number in range(100)])
        assert len(raw.call("KEYS", "*")) == 100 == raw.call("DBSIZE")


def random_command(rng):
    """Something that changes, moves, walks or empties databases."""
    def key():
        return rng.choice(["k%d", "{t}%d"]) % rng.randrange(2000)

    kind = rng.random()
    if kind < 0.5:
        expiry = rng.choice([[], [], ["PX", rng.randrange(1, 50)]])
        return ["SET", key(), "v" * rng.randrange(200), *expiry]
    if kind < 0.65:
        return [rng.choice(["DEL", "EXISTS", "TOUCH"])] + [key() for _ in range(rng.choice([1, 9]))]
    if kind < 0.75:
        return [rng.choice(["RENAME", "RENAMENX"]), key(), key()]
    if kind < 0.85:
        return rng.choice([["COPY", key(), key(), "DB", rng.randrange(4), "REPLACE"],
                           ["MOVE", key(), rng.randrange(4)]])
    if kind < 0.9:
        return rng.choice([["PEXPIRE", key(), rng.randrange(100)], ["PERSIST", key()]])
    if kind < 0.98:
        return rng.choice([["RANDOMKEY"], ["DBSIZE"], ["SELECT", rng.randrange(4)],
                           ["SCAN", rng.getrandbits(46), "COUNT", rng.choice([1, 100])]])
    return rng.choice([["KEYS", "*"], ["SWAPDB", rng.randrange(4), rng.randrange(4)],
                       ["FLUSHDB", rng.choice(["SYNC", "ASYNC"])],
                       ["FLUSHALL", rng.choice(["SYNC", "ASYNC"])]])


def test_everything_at_once(server, raw):
    stop = time.monotonic() + THREADS_S
    failures = []

    def run(seed):
        rng = random.Random(seed)
        with server.raw(60) as own:
            while time.monotonic() < stop:
                commands = [random_command(rng) for _ in range(50)]
                for command, reply in zip(commands, own.pipeline(commands), strict=True):
                    if command[0] == "KEYS" and len(set(reply)) != len(reply):
                        failures.append("KEYS names a key twice")
                    if command[0] == "DBSIZE" and not 0 <= reply <= 4000:
                        failures.append(f"DBSIZE {reply}")

    def guarded(seed):
        try:
            run(seed)
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    raw.call("FLUSHALL", "SYNC")
    assert [raw.call("SELECT", db) and raw.call("DBSIZE") for db in range(4)] == [0] * 4
