# slotring: data plane
"""Places kept in the output; see later.pxd."""
from libc.string cimport memcpy, memmove
from engine.defs cimport *
from engine.reply cimport Chunk, OutBuf, out_reserve, write_i64


cdef void reply_later(OutBuf* o, Later* l, u32 room) noexcept nogil:
    """Keep room for at most so many bytes at this place of the output."""
    out_reserve(o, room)
    l.chunk = o.tail
    l.at = <u32>(o.pos - o.tail.data)
    l.room = room
    o.pos += room


cdef void reply_now(OutBuf* o, Later* l, const char* p, size_t n) noexcept nogil:
    """Fill a place that was kept; what follows it in its chunk moves up."""
    cdef char* at = l.chunk.data + l.at
    cdef char* end = o.pos if l.chunk == o.tail else l.chunk.data + l.chunk.len
    memcpy(at, p, n)
    memmove(at + n, at + l.room, end - (at + l.room))
    if l.chunk == o.tail:
        o.pos -= l.room - n
    else:
        l.chunk.len -= <u32>(l.room - n)
        o.bytes -= l.room - n


cdef void reply_head_now(OutBuf* o, Later* l, char kind, i64 n) noexcept nogil:
    """The head of an array or of a map of n pairs at a place that was kept."""
    cdef char tmp[24]
    cdef int size
    tmp[0] = kind
    size = 1 + write_i64(tmp + 1, n)
    tmp[size] = c'\r'
    tmp[size + 1] = c'\n'
    reply_now(o, l, tmp, size + 2)
