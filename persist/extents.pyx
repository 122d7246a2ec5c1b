# slotring: data plane
"""The index of a base file: where the piece of each slot is, and what its bytes sum to.

A base (an RDB file or plain commands) holds each slot in one contiguous piece, its extent, that begins by naming its
database and can be read alone. Extents follow one another without gaps, in any order of slots, behind a head (magic,
AUX fields, functions, sizes of databases; with commands: functions) and before a tail (RDB: the end and the CRC64 of
the file, 9 bytes; commands: nothing). The index is a file of its own beside the base, `<name of the base>.idx`. It may
be missing, then nothing is known. All numbers are little endian, all sums Valkey's CRC64 from 0:

    0   8   magic, "SLOTIDX" and a zero byte
    8   4   version, 1
    12  4   form of the base: 1 RDB, 2 commands
    16  8   bytes of the base
    24  8   bytes of the head
    32  8   sum of the head
    40  4   how many rows
    44  4   bytes of a row, 32
    48      rows by ascending slot, of the slots that have keys:
            0   4   slot
            4   4   keys, in all databases
            8   8   offset in the base
            16  8   length
            24  8   sum of these bytes
    end 8   sum of all before it"""
import os
from bisect import bisect_left
from struct import calcsize, unpack_from
from typing import NamedTuple

from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy
from engine.defs cimport *
from engine.hashing cimport SLOTS
from engine.rdbio cimport RdbOut, crc64, rdb_out_bytes, rdb_out_free
from persist.rdb cimport *

cdef extern from "<unistd.h>" nogil:
    int c_unlink "unlink"(const char*)
cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void*, size_t, int, int, int, i64)
    int munmap(void*, size_t)
    int madvise(void*, size_t, int)
    void* MAP_FAILED
    int PROT_READ, MAP_PRIVATE, MADV_SEQUENTIAL

cdef enum:
    INDEX_VERSION = 1
    TAIL_BYTES = 9                 # of an RDB file

    BAD_NOTHING = 0
    BAD_SUM = 1
    BAD_PLACE = 2                  # not where the one before ends
    BAD_HEAD = 3
    BAD_TAIL = 4

cdef struct Row:
    u32 slot
    u32 keys
    u64 offset
    u64 len
    u64 crc

cdef struct FileHead:
    char magic[8]
    u32 version
    u32 form
    u64 base_bytes
    u64 head_bytes
    u64 head_crc
    u32 count
    u32 row_bytes

cdef struct Found:                 # what is wrong with a base
    int bad
    Row row

SUFFIX = ".idx"
RDB, COMMANDS = FORM_RDB, FORM_COMMANDS
OUTSIDE = -1
_HEAD = "<8sIIQQQII"
_ROW = "<IIQQQ"
_HEAD_BYTES, _ROW_BYTES = calcsize(_HEAD), calcsize(_ROW)
_REASONS = {BAD_SUM: "the checksum is wrong", BAD_PLACE: "it is not where the one before it ends",
            BAD_HEAD: "the file's head is damaged", BAD_TAIL: "the file's end is damaged"}


# ---- writing

cdef int index_write(const char* path, Extent* rows, IndexHead* h) noexcept nogil:
    cdef RdbOut o
    cdef RdbFile f
    cdef FileHead head
    cdef Row row
    cdef u32 slot
    cdef u64 crc
    if not rdb_open(&f, path, False):
        return f.error
    o.p = NULL
    o.len = o.cap = 0
    memcpy(head.magic, b"SLOTIDX\0", 8)
    head.version = INDEX_VERSION
    head.form = h.form
    head.base_bytes = h.base_bytes
    head.head_bytes = h.head_bytes
    head.head_crc = h.head_crc
    head.count = 0
    head.row_bytes = sizeof(Row)
    rdb_out_bytes(&o, &head, sizeof(head))
    for slot in range(SLOTS):
        if rows[slot].len == 0:
            continue
        row.slot = slot
        row.keys = rows[slot].keys
        row.offset = rows[slot].offset
        row.len = rows[slot].len
        row.crc = rows[slot].crc
        rdb_out_bytes(&o, &row, sizeof(row))
        head.count += 1
    memcpy(o.p, &head, sizeof(head))
    crc = crc64(0, o.p, o.len)
    rdb_out_bytes(&o, &crc, 8)
    rdb_write(&f, o.p, o.len)
    rdb_close(&f)
    rdb_out_free(&o)
    if f.error:
        c_unlink(path)
    return f.error


# ---- checking

cdef int by_offset(const void* a, const void* b) noexcept nogil:
    cdef u64 x = (<const Row*>a).offset, y = (<const Row*>b).offset
    return (x > y) - (x < y)


cdef void check_rows(const u8* p, size_t n, FileHead* h, Row* rows, Found* found) noexcept nogil:
    """The base is n bytes at p, its rows are in the order of the file."""
    cdef u64 at = h.head_bytes, sum_, tail = TAIL_BYTES if h.form == FORM_RDB else 0
    cdef u32 i
    found.bad = BAD_HEAD
    if at > n or crc64(0, p, at) != h.head_crc:
        return
    sum_ = h.head_crc
    for i in range(h.count):
        found.row = rows[i]
        found.bad = BAD_PLACE
        if rows[i].offset != at or rows[i].len > n - at:
            return
        found.bad = BAD_SUM
        if crc64(0, p + at, rows[i].len) != rows[i].crc:
            return
        sum_ = crc64_join(sum_, rows[i].crc, rows[i].len)
        at += rows[i].len
    found.row.offset = at
    found.bad = BAD_TAIL
    if n - at != tail:
        return
    if tail:
        if p[at] != OP_EOF:
            return
        sum_ = crc64(sum_, p + at, 1)
        memcpy(&at, p + at + 1, 8)
        if at and at != sum_:              # 0: it was written without a checksum
            return
    found.bad = BAD_NOTHING


cdef bint check_base(int fd, size_t n, const char* index, Found* found) noexcept nogil:
    """False: it cannot be mapped."""
    cdef FileHead* h = <FileHead*>index
    cdef Row* rows = <Row*>malloc(h.count * sizeof(Row) + 1)
    cdef void* mem = NULL
    if n:
        mem = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0)
    if rows == NULL or mem == MAP_FAILED:
        free(rows)
        return False
    if n:
        madvise(mem, n, MADV_SEQUENTIAL)
    memcpy(rows, index + sizeof(FileHead), h.count * sizeof(Row))
    qsort(rows, h.count, sizeof(Row), by_offset)
    found.row.offset = 0
    check_rows(<const u8*>mem, n, h, rows, found)
    if n:
        munmap(mem, n)
    free(rows)
    return True


# ---- what the control plane calls

class Damage(Exception):
    """Bytes are not what they were. slot: OUTSIDE where they are no slot's. is_of_content: they are there, but others
    than were written (else the file ends before, or goes on after them)."""

    def __init__(self, path, slot: int, offset: int, length: int, reason: str, is_of_content: bool = False):
        self.is_of_content = is_of_content
        self.path, self.slot, self.offset, self.length, self.reason = path, slot, offset, length, reason
        what = "" if slot == OUTSIDE else f"slot {slot}, "
        super().__init__(f"{path}: {what}offset {offset}, {length} bytes: {reason}")


class Place(NamedTuple):
    """Where a slot is."""

    slot: int
    keys: int
    offset: int
    length: int
    checksum: int


class Index:
    """An index that was read. form: RDB or COMMANDS."""

    def __init__(self, path, raw: bytes):
        self.path = path
        self.raw = raw
        _, _, self.form, self.base_bytes, self.head_bytes, self.head_checksum, self.count, _ = unpack_from(_HEAD, raw)

    def _row(self, at: int) -> Place:
        return Place(*unpack_from(_ROW, self.raw, _HEAD_BYTES + at * _ROW_BYTES))

    def rows(self) -> list:
        """All slots that have keys, ascending."""
        return [self._row(at) for at in range(self.count)]

    def row(self, slot: int) -> Place | None:
        """A slot's place; None: it has no keys."""
        at = bisect_left(range(self.count), slot,
                         key=lambda i: unpack_from("<I", self.raw, _HEAD_BYTES + i * _ROW_BYTES)[0])
        found = self._row(at) if at < self.count else None
        return found if found is not None and found.slot == slot else None


def read_index(path) -> Index | None:
    """The index in a file; None: there is no such file. Damage: it is none, or is damaged."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except FileNotFoundError:
        return None
    if len(raw) < _HEAD_BYTES + 8 or raw[:8] != b"SLOTIDX\0":
        raise Damage(path, OUTSIDE, 0, len(raw), "this is no index")
    magic, version, form, base_bytes, head_bytes, _, count, row_bytes = unpack_from(_HEAD, raw)
    if version != INDEX_VERSION or row_bytes != _ROW_BYTES or form not in (FORM_RDB, FORM_COMMANDS):
        raise Damage(path, OUTSIDE, 8, len(raw), f"an index of version {version} cannot be read")
    end = _HEAD_BYTES + count * _ROW_BYTES
    if len(raw) != end + 8 or checksum(raw[:end]) != unpack_from("<Q", raw, end)[0]:
        raise Damage(path, OUTSIDE, 0, len(raw), "the index is damaged")
    return Index(path, raw)


def checksum(bytes data) -> int:
    """Valkey's CRC64."""
    return crc64(0, <const char*>data, len(data))


def extent_payload(base_path, index: Index, slot: int) -> bytes:
    """A slot's bytes from the base, checked; b"": it has no keys there. Damage names the file, the slot, the offset."""
    row = index.row(slot)
    if row is None:
        return b""
    with open(base_path, "rb") as file:
        file.seek(row.offset)
        data = file.read(row.length)
    if len(data) != row.length:
        raise Damage(base_path, slot, row.offset, row.length, f"the file ends after {len(data)} of them")
    if checksum(data) != row.checksum:
        raise Damage(base_path, slot, row.offset, row.length, _REASONS[BAD_SUM])
    return data


def as_rdb(bytes payload) -> bytes:
    """An extent of an RDB base as an RDB file of its own, without a checksum: for rdb_load, by a memfd."""
    return b"VALKEY080" + payload + bytes([OP_EOF]) + bytes(8)


def verify(base_path, index: Index) -> None:
    """Look at every byte of a base, in its order; Damage: the first slot that is not what it was."""
    cdef Found found
    cdef bytes raw = index.raw
    cdef const char* text = raw
    cdef int fd
    cdef size_t n
    cdef bint mapped
    fd = os.open(base_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        n = os.fstat(fd).st_size
        with nogil:
            mapped = check_base(fd, n, text, &found)
    finally:
        os.close(fd)
    if not mapped:
        raise OSError(f"{base_path} cannot be mapped into memory")
    if found.bad in (BAD_HEAD, BAD_TAIL):
        start = found.row.offset if found.bad == BAD_TAIL else 0
        raise Damage(base_path, OUTSIDE, start, n - start if found.bad == BAD_TAIL else index.head_bytes,
                     _REASONS[found.bad], found.bad == BAD_HEAD and n >= index.head_bytes)
    if found.bad:
        raise Damage(base_path, found.row.slot, found.row.offset, found.row.len, _REASONS[found.bad],
                     found.bad == BAD_SUM)
