"""The manifest of the append-only files, and the side file of an increment, without a server."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from persist.aof import block_sum

from persist import incr_index
from persist.manifest import Manifest, ManifestError, parse

TEXT = (b"file a.aof.2.base.rdb seq 2 type b\nfile a.aof.1.incr.aof seq 1 type h\n"
        b"file a.aof.4.incr.aof seq 4 type i\nfile a.aof.5.incr.aof seq 5 type i\n")


def test_read_and_written_again():
    assert parse(TEXT).text() == TEXT
    assert [part.name for part in parse(TEXT).parts()] == ["a.aof.2.base.rdb", "a.aof.4.incr.aof", "a.aof.5.incr.aof"]


def test_a_rewrite_in_steps():
    manifest = parse(TEXT)
    incr = manifest.next_incr("a.aof")
    assert incr.name == "a.aof.6.incr.aof"
    manifest = manifest.with_incr(incr)
    base = manifest.next_base("a.aof", False)
    manifest = manifest.rewritten(base, 1)
    assert [part.name for part in manifest.parts()] == ["a.aof.3.base.aof", "a.aof.6.incr.aof"]
    assert [part.name for part in manifest.history] == [
        "a.aof.5.incr.aof", "a.aof.4.incr.aof", "a.aof.2.base.rdb", "a.aof.1.incr.aof"]
    assert manifest.rewritten(manifest.next_base("a.aof", True), 0).incrs == ()
    assert parse(manifest.text()) == manifest
    assert manifest.without_history().history == ()


@pytest.mark.parametrize(("text", "why"), [
    (b"", "Found an empty AOF manifest"),
    (b"file x seq 1\n", "Invalid AOF manifest file format"),
    (b"file x seq 0 type b\n", "Invalid AOF manifest file format"),
    (b"\n", "Invalid AOF manifest file format"),
    (b"file a/b seq 1 type b\n", "File can't be a path, just a filename"),
    (b"file x seq 1 type b\nfile y seq 2 type b\n", "Found duplicate base file information"),
    (b"file x seq 2 type i\nfile y seq 2 type i\n", "Found a non-monotonic sequence number"),
    (b"file x seq 1 type q\n", "Unknown AOF file type"),
    (b"file x seq 1 type b", "The AOF manifest file contains too long line"),
])
def test_refused_in_valkeys_words(text, why):
    with pytest.raises(ManifestError, match=why.replace("?", r"\?")):
        parse(text)


@given(st.binary(max_size=300))
def test_senseless_bytes_are_refused_or_read(raw):
    try:
        assert isinstance(parse(raw), Manifest)
    except ManifestError:
        pass


@given(st.binary(min_size=1, max_size=500), st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_changes_the_sum(data, place, change):
    at = place % len(data)
    other = data[:at] + bytes([data[at] ^ change]) + data[at + 1:]
    assert block_sum(data) != block_sum(other)


def test_side_file():
    data = bytes(range(256)) * 10
    slots = struct.pack("<3H", 1, 5, 16383) + b"\0\0"
    raw = (incr_index.MAGIC + incr_index.HEAD.pack(1000, block_sum(data[:1000]), 3, 0) + slots
           + incr_index.row(data[1000:2000], 2000))
    found = list(incr_index.blocks(raw))
    assert [(block.begin, block.end, block.slots) for block in found] == [(0, 1000, (1, 5, 16383)), (1000, 2000, None)]
    assert incr_index.check(data, raw) == 2000
    assert incr_index.check(data[:1500], raw) == 1000     # cut: what is whole is checked
    assert incr_index.rows_bytes(raw, 1500) == len(raw) - incr_index.HEAD.size
    damaged = bytearray(data)
    damaged[1200] ^= 4
    with pytest.raises(incr_index.Damage) as info:
        incr_index.check(bytes(damaged[:2000]), raw)
    assert (info.value.begin, info.value.end) == (1000, 2000)


RECORD = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n%d\r\n"
RECORDS = b"".join(RECORD % (number % 10) for number in range(60))
STEP = 10 * len(RECORD % 0)                           # ten records a block, six blocks


def side_file(closed: bool, data: bytes = RECORDS) -> bytes:
    """As the writer leaves it for this increment."""
    raw = incr_index.MAGIC + b"".join(incr_index.row(data[end - STEP:end], end)
                                      for end in range(STEP, len(data) + 1, STEP))
    return raw + (incr_index.HEAD.pack(len(data), 0, 0, 1) if closed else b"")


def flipped(at: int, data: bytes = RECORDS) -> bytes:
    """One bit other."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


TAIL = RECORD % 7
DAMAGED = {                                           # the file, whether it was closed
    "one byte": (flipped(20), True), "one byte of the last block": (flipped(len(RECORDS) - 5), True),
    "killed, with a tail": (flipped(len(RECORDS) - 5) + TAIL, False),
    "every block": (bytes(byte ^ 1 for byte in RECORDS), True),
    "lengthened behind it": (flipped(20) + TAIL, True), "cut behind it": (flipped(20)[:-STEP], False),
}
EDITED = {
    "a record taken out": (RECORDS[:30] + RECORDS[60:], True),
    "a record put in": (RECORDS[:STEP + 30] + TAIL + RECORDS[STEP + 30:], True),
    "one put in after a kill": (RECORDS[:STEP + 30] + TAIL + RECORDS[STEP + 30:], False),
    "a byte put in after a kill": (RECORDS[:-40] + b"x" + RECORDS[-40:], False),
    "another and longer": (b"*1\r\n$8\r\nFLUSHALL\r\n" * 200, True),
    "the end taken off": (RECORDS[:-30], True),
    "another and shorter": (b"*1\r\n$8\r\nFLUSHALL\r\n" * 20, True),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_told_from_an_edit(name):
    data, closed = DAMAGED[name]
    with pytest.raises(incr_index.Damage):
        incr_index.check(data, side_file(closed))


@pytest.mark.parametrize("name", EDITED)
def test_an_edit_is_told_from_damage(name):
    data, closed = EDITED[name]
    with pytest.raises(incr_index.Replaced):
        incr_index.check(data, side_file(closed))


def test_a_mark_goes_where_more_is_written():
    raw = side_file(True)
    assert incr_index.read(raw).closed and incr_index.check(RECORDS, raw) == len(RECORDS)
    assert incr_index.rows_bytes(raw, len(RECORDS)) == len(raw) - incr_index.HEAD.size
    more = raw + incr_index.row(TAIL, len(RECORDS) + len(TAIL))
    assert not incr_index.read(more).closed and incr_index.check(RECORDS + TAIL, more) == len(RECORDS + TAIL)
    assert incr_index.rows_bytes(more, len(RECORDS + TAIL)) == len(more)
    assert incr_index.check(RECORDS + TAIL, raw) == len(RECORDS)      # a real Valkey has written on


@given(st.binary(max_size=200))
def test_a_senseless_side_file_says_nothing_wrong(raw):
    list(incr_index.blocks(incr_index.MAGIC + raw))
    incr_index.rows_bytes(incr_index.MAGIC + raw, 100)
