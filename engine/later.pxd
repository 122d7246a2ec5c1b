# Replies whose head is known only when what follows is written: a place is kept in the output and filled afterwards,
# the last place kept first.
from engine.defs cimport *
from engine.reply cimport Chunk, OutBuf

cdef struct Later:
    Chunk* chunk
    u32 at                         # bytes before the place in the chunk's data
    u32 room

cdef void reply_later(OutBuf* o, Later* l, u32 room) noexcept nogil                # room: bytes it may take at most
cdef void reply_now(OutBuf* o, Later* l, const char* p, size_t n) noexcept nogil
cdef void reply_head_now(OutBuf* o, Later* l, char kind, i64 n) noexcept nogil     # an array's (*) or map's (%) head


cdef inline void reply_head_later(OutBuf* o, Later* l) noexcept nogil:
    reply_later(o, l, 24)
