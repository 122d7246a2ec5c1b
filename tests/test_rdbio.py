"""RDB's primitives: vectors of Valkey 9.1.2's DUMP, round trips, and damage."""

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from engine import rdbio_probe as rdb

# what DUMP made of a string: type 0, the string, version 80 (little endian), CRC64
VECTORS = [
    (b"", "0000500092b195d1912dc52e"),
    (b"a", "000161500070d4260a11641a40"),
    (b"12", "00c00c5000f30031c0c256db21"),
    (b"-300", "00c1d4fe500009ee4fb260ecb9da"),
    (b"70000", "00c2701101005000ce8ec16f0b62f251"),
    (b"99999999999", "000b39393939393939393939395000ec9a816a9089888b"),
    (b"007", "00033030375000bd722bead23bdd2d"),
    (
        bytes(range(70)),
        "004046" + bytes(range(70)).hex() + "50002f09d826c94ec719",
    ),
]
LZF_VECTORS = [
    (b"a" * 21, "00c30615016161e00a00500032267af99913589c"),
    (b"a" * 300, "00c30c412c016161e0ff00e01700016161500084310bf3cc1480e7"),
    (b"ab" * 40 + b"xyz" * 10,
     "00c311406e02616261e044010278797ae0100201797a5000cde55f900842b308"),
    (b"The quick brown fox. The quick brown dog. " * 3,
     "00c327407e1554686520717569636b2062726f776e20666f782e2054e0061402646f67e00914e03929012e20"
     "50003736679928c21c2d"),
]


def test_strings_are_written_as_valkey_writes_them():
    for value, vector in VECTORS:
        vector = bytes.fromhex(vector)
        assert b"\x00" + rdb.write([value]) == vector[:-10]
        assert rdb.crc(vector[:-8]) == int.from_bytes(vector[-8:], "little")


def test_lzf_strings_of_valkey_are_read():
    for value, vector in LZF_VECTORS:
        vector = bytes.fromhex(vector)
        assert rdb.read(vector[1:-10], ["string"]) == ([value], False, 0)
        assert rdb.crc(vector[:-8]) == int.from_bytes(vector[-8:], "little")
        written = rdb.write([value])
        assert rdb.read(written, ["string"]) == ([value], False, 0)
        assert len(written) <= len(vector) - 11


def test_crc():
    assert rdb.crc(b"123456789") == 0xE9C6D914C4B8D9CA
    data = random.Random(1).randbytes(1000)
    for cut in (0, 1, 7, 8, 9, 500, 999):
        assert rdb.crc(data[cut:], rdb.crc(data[:cut])) == rdb.crc(data)


WORDS = st.lists(st.sampled_from([b"the", b"quick", b"a", b"aaaaaaaaaaaaaaaaaaaaaaa", b"12", b"\x00" * 40,
                                  bytes(range(64))]), max_size=300).map(b"".join)


@given(st.one_of(st.binary(max_size=400), WORDS))
def test_lzf_round_trip(data):
    packed = rdb.compress(data)
    if packed is not None:
        assert rdb.decompress(packed, len(data)) == data
        assert rdb.decompress(packed, len(data) - 1) is None
        assert rdb.compress(data, len(packed)) == packed
        assert rdb.compress(data, len(packed) - 1) is None
    assert rdb.read(rdb.write([data]), ["string"]) == ([data], False, 0)


def test_lzf_of_large_data():
    rng = random.Random(2)
    noise = rng.randbytes(100_000)
    assert rdb.compress(noise) is None
    assert rdb.decompress(rdb.compress(noise, 110_000), 100_000) == noise
    mixed = b"".join(rng.choice((noise[:8000], b"x" * 9000, b"abc" * 3000, noise[500:700])) for _ in range(60))
    packed = rdb.compress(mixed)
    assert len(packed) < len(mixed) / 2
    assert rdb.decompress(packed, len(mixed)) == mixed


@given(st.one_of(st.binary(max_size=80), WORDS), st.integers(0, 400), st.randoms())
def test_damaged_lzf_is_survived(data, room, rng):
    packed = bytearray(rdb.compress(data, len(data) + 20) or b"\x00")
    for _ in range(rng.randrange(1, 4)):
        packed[rng.randrange(len(packed))] = rng.randrange(256)
    rdb.decompress(bytes(packed), room)
    rdb.decompress(bytes(packed[: rng.randrange(len(packed) + 1)]), room)


INTS = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-70000, 70000))


@given(st.lists(st.one_of(st.binary(max_size=40), INTS, st.floats(allow_nan=False),
                          st.integers(0, (1 << 64) - 1).map(lambda n: ("length", n)),
                          INTS.map(lambda n: ("ms", n))), max_size=8))
def test_round_trip(items):
    kinds = {bytes: "string", int: "string", float: "double"}
    read, bad, left = rdb.read(rdb.write(items), [
        item[0] if isinstance(item, tuple) else kinds[type(item)] for item in items])
    assert not bad and not left
    assert read == [item[1] if isinstance(item, tuple) else b"%d" % item if isinstance(item, int) else item
                    for item in items]


def test_lengths_at_their_limits():
    for n, size in ((0, 1), (63, 1), (64, 2), (16383, 2), (16384, 5), (2**32 - 1, 5), (2**32, 9), (2**64 - 1, 9)):
        written = rdb.write([("length", n)])
        assert len(written) == size
        assert rdb.read(written, ["length"]) == ([n], False, 0)
        for cut in range(size):
            assert rdb.read(written[:cut], ["length"])[1]


def test_old_doubles():
    assert rdb.read(b"\x041.5e\x023e" + b"\xfe\xff", ["old", "old", "old", "old"]) == (
        [1.5, 3.0, math.inf, -math.inf], False, 0)
    assert math.isnan(rdb.read(b"\xfd", ["old"])[0][0])
    assert rdb.read(b"\x02xy", ["old"])[1]
    assert rdb.read(b"\x00", ["old"])[1]
    assert rdb.read(b"\xfc1", ["old"])[1]


def test_forged_lengths():
    """No memory is taken on a length's word, and nothing is read after the first thing wrong."""
    huge = rdb.write([("length", 2**63)])
    assert rdb.read(huge + b"abc", ["string", "byte"]) == ([b"", 0], True, 0)
    assert rdb.read(b"\xc3\x03" + huge + b"\x00a\x00", ["string"]) == ([b""], True, 0)
    assert rdb.read(b"\xc3" + huge + b"\x05" + b"\x00a\x00", ["string"]) == ([b""], True, 0)
    assert rdb.read(b"\xc3\x02\x00\x00a", ["string"])[1]
    assert rdb.read(b"\xc3\x02\x02\x00a", ["string"])[1]
    for head in (0x82, 0xBF, 0xC4, 0xFF):
        assert rdb.read(bytes([head]) + b"abcdefghi", ["string"]) == ([b""], True, 0)
    for head in (0xC0, 0xC3):
        assert rdb.read(bytes([head]) + b"\x01\x01", ["length"]) == ([0], True, 0)


KINDS = st.lists(st.one_of(st.sampled_from(["string", "length", "double", "old", "ms", "byte"]),
                           st.integers(0, 50)), min_size=1, max_size=10)


@given(st.binary(max_size=100), KINDS)
def test_anything_can_be_read(data, kinds):
    rdb.read(data, kinds)
