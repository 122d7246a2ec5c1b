"""RDB's primitives for the tests (tests/test_rdbio.py). Inputs are copied to blocks of just their size, so that
the address sanitizer sees a byte read too far."""
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from engine.defs cimport *
from engine.rdbio cimport *


def crc(bytes data, u64 start=0):
    return crc64(start, <const char*>data, len(data))


def compress(bytes data, room=None):
    """LZF, or None where it does not fit in room (default: the data's own length)."""
    cdef size_t cap = len(data) if room is None else room
    cdef char* out = <char*>malloc(cap + 1)
    cdef char* exact = <char*>malloc(len(data) + 1) + 1
    memcpy(exact, <const char*>data, len(data))
    cdef size_t n = lzf_compress(exact, len(data), out, cap)
    try:
        return out[:n] if n else None
    finally:
        free(out)
        free(exact - 1)


def decompress(bytes data, size_t room):
    """The bytes, or None: corrupt."""
    cdef char* out = <char*>malloc(room)
    cdef char* copy = <char*>malloc(len(data))
    memcpy(copy, <const char*>data, len(data))
    cdef size_t n = lzf_decompress(copy, len(data), out, room)
    try:
        return out[:n] if n else None
    finally:
        free(out)
        free(copy)


def write(list items, bint compress=True):
    """Items are bytes (strings), ints (number strings), floats, ('length', n), ('ms', n), ('raw', bytes)."""
    cdef RdbOut o
    o.p = NULL
    o.len = o.cap = 0
    o.compress = compress
    for item in items:
        if isinstance(item, bytes):
            rdb_out_string(&o, item, len(item))
        elif isinstance(item, int):
            rdb_out_int(&o, item)
        elif isinstance(item, float):
            rdb_out_double(&o, item)
        elif item[0] == "length":
            rdb_out_length(&o, item[1])
        elif item[0] == "ms":
            rdb_out_ms(&o, item[1])
        else:
            rdb_out_bytes(&o, <const char*>item[1], len(item[1]))
    try:
        return o.p[:o.len] if o.len else b""
    finally:
        rdb_out_free(&o)


def read(bytes data, list kinds):
    """What is read, and whether it was bad: kinds of 'string', 'length', 'double', 'old', 'ms', 'byte', or a count."""
    cdef RdbIn r
    cdef char tmp[24]
    cdef const char* s
    cdef size_t n
    cdef char* copy = <char*>malloc(len(data))
    memcpy(copy, <const char*>data, len(data))
    rdb_in_init(&r, copy, len(data))
    out = []
    for kind in kinds:
        if kind == "string":
            n = rdb_in_string(&r, tmp, &s)
            out.append(s[:n])
        elif kind == "length":
            out.append(rdb_in_length(&r))
        elif kind == "double":
            out.append(rdb_in_double(&r))
        elif kind == "old":
            out.append(rdb_in_old_double(&r))
        elif kind == "ms":
            out.append(rdb_in_ms(&r))
        elif kind == "byte":
            out.append(rdb_in_byte(&r))
        else:
            s = <const char*>rdb_in_bytes(&r, kind)
            out.append(None if s == NULL else s[:<size_t>kind])
    rdb_in_done(&r)
    free(copy)
    return out, bool(r.bad), rdb_in_left(&r)
