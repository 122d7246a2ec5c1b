"""Intsets against sets of Python; forged ones are refused."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from engine import intset_probe as probe

NUMBER = st.one_of(st.integers(-20, 20), st.integers(-(2**63), 2**63 - 1), st.sampled_from(
    [32767, 32768, -32768, -32769, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63)]))
STEP = st.tuples(st.sampled_from(["add", "add", "remove", "find"]), NUMBER)


@given(st.lists(STEP, max_size=80))
def test_as_a_set(steps):
    s, model = probe.Intset(), set()
    for what, n in steps:
        if what == "add":
            assert s.add(n) == (n not in model)
            model.add(n)
        elif what == "remove":
            assert s.remove(n) == (n in model)
            model.discard(n)
        else:
            assert s.find(n) == (n in model, sum(other < n for other in model))
    assert s.all() == sorted(model)
    assert probe.valid(bytes(s)) == bool(model)
    gone = bytes(n % 3 == 0 for n in sorted(model))
    s.keep(gone)
    assert s.all() == [n for n in sorted(model) if n % 3]


def test_known_bytes_and_memory():
    s = probe.Intset()
    for n in (3, -1, 70000):
        s.add(n)
    assert bytes(s) == struct.pack("<IIiii", 4, 3, -1, 3, 70000)
    for n in range(5000):
        s.add(n)
    assert s.used < 4 * 5003 * 1.15 + 64
    for n in range(4990):
        s.remove(n)
    assert s.used <= 96


@given(st.sets(NUMBER, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_forged(numbers, rng):
    s = probe.Intset()
    for n in numbers:
        s.add(n)
    data = bytearray(bytes(s))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if probe.valid(bytes(data)):
        width, count = struct.unpack_from("<II", data)
        found = [int.from_bytes(data[8 + i * width:8 + (i + 1) * width], "little", signed=True)
                 for i in range(count)]
        assert len(data) == 8 + width * count and found == sorted(set(found))
    assert not probe.valid(bytes(s)[:-1])
    assert not probe.valid(bytes(s) + b"\0")
    assert not probe.valid(b"")
