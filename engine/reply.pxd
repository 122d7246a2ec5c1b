# Replies: a connection's output is a list of chunks; a command appends, the network side sends and frees.
# The engine knows nothing of sockets: it writes at out.pos and asks for more room when there is too little.
# RESP2 and RESP3 differ only in the few functions that take `resp`.
from libc.string cimport memcpy, strlen
from engine.defs cimport *

cdef enum:
    CHUNK_BYTES = 16384        # of an ordinary chunk, header included; those are pooled a worker

cdef struct Chunk:
    Chunk* next
    u32 cap                    # bytes of data
    u32 len                    # bytes filled; of the tail chunk only true after out_seal
    char data[0]

cdef struct ChunkPool:         # one a worker
    Chunk* free
    u32 count
    u32 pad
    i64 bytes                  # memory of all chunks out of and in the pool

cdef struct OutBuf:
    char* pos                  # where the next byte goes
    char* end
    Chunk* head
    Chunk* tail
    ChunkPool* pool
    u64 bytes                  # in the chunks before the tail (see out_pending)
    u32 chunks
    u32 errors                 # error replies written, ever

cdef char* out_grow(OutBuf* o, size_t n) noexcept nogil
cdef void out_free(OutBuf* o) noexcept nogil
cdef void chunk_release(ChunkPool* pool, Chunk* c) noexcept nogil
cdef void reply_error(OutBuf* o, const char* text) noexcept nogil
cdef void reply_error_len(OutBuf* o, const char* text, size_t n) noexcept nogil
cdef void reply_double(OutBuf* o, int resp, double v) noexcept nogil
cdef void out_write_slow(OutBuf* o, const char* p, size_t n) noexcept nogil
cdef void count_error(const char* text, size_t n) noexcept nogil


cdef inline void out_init(OutBuf* o, ChunkPool* pool) noexcept nogil:
    o.pos = o.end = NULL
    o.head = o.tail = NULL
    o.pool = pool
    o.bytes = 0
    o.chunks = 0
    o.errors = 0


cdef inline u64 out_pending(OutBuf* o) noexcept nogil:
    """Bytes written and not yet taken away by the network side."""
    if o.tail == NULL:
        return 0
    return o.bytes + <u64>(o.pos - o.tail.data)


cdef inline char* out_reserve(OutBuf* o, size_t n) noexcept nogil:
    """Room for n contiguous bytes at the returned place; the caller moves o.pos by what it wrote."""
    if likely(<size_t>(o.end - o.pos) >= n):
        return o.pos
    return out_grow(o, n)


cdef inline void out_write(OutBuf* o, const char* p, size_t n) noexcept nogil:
    if likely(<size_t>(o.end - o.pos) >= n):
        memcpy(o.pos, p, n)
        o.pos += n
        return
    out_write_slow(o, p, n)


cdef inline int digits10(u64 v) noexcept nogil:
    cdef int n = 1
    while v >= 10000:
        v //= 10000
        n += 4
    if v >= 1000:
        return n + 3
    if v >= 100:
        return n + 2
    if v >= 10:
        return n + 1
    return n


cdef inline int write_u64(char* p, u64 v) noexcept nogil:
    """Decimal digits of v at p (no terminator); returns how many, at most 20."""
    cdef int n = digits10(v), i = n
    while v >= 10:
        i -= 1
        p[i] = <char>(c'0' + v % 10)
        v //= 10
    p[0] = <char>(c'0' + v)
    return n


cdef inline int write_i64(char* p, i64 v) noexcept nogil:
    """Decimal text of v at p (no terminator); returns its length, at most 20."""
    if v < 0:
        p[0] = c'-'
        return 1 + write_u64(p + 1, <u64>0 - <u64>v)
    return write_u64(p, <u64>v)


cdef inline void reply_head(OutBuf* o, char kind, i64 v) noexcept nogil:
    """One line: a type byte and a number."""
    cdef char* p = out_reserve(o, 24)
    cdef int n
    p[0] = kind
    if likely(0 <= v < 10):
        p[1] = <char>(c'0' + v)
        n = 1
    else:
        n = write_i64(p + 1, v)
    p[n + 1] = c'\r'
    p[n + 2] = c'\n'
    o.pos = p + n + 3


cdef inline void reply_int(OutBuf* o, i64 v) noexcept nogil:
    reply_head(o, c':', v)


cdef inline void reply_array(OutBuf* o, i64 n) noexcept nogil:
    reply_head(o, c'*', n)


cdef inline void reply_map(OutBuf* o, int resp, i64 pairs) noexcept nogil:
    if resp > 2:
        reply_head(o, c'%', pairs)
    else:
        reply_head(o, c'*', pairs * 2)


cdef inline void reply_set(OutBuf* o, int resp, i64 n) noexcept nogil:
    reply_head(o, c'~' if resp > 2 else c'*', n)


cdef inline void reply_bulk(OutBuf* o, const char* s, size_t n) noexcept nogil:
    cdef char* p
    if likely(<size_t>(o.end - o.pos) >= n + 24):
        p = o.pos
    elif n < 8192:
        p = out_grow(o, n + 24)
    else:
        reply_head(o, c'$', <i64>n)
        out_write(o, s, n)
        out_write(o, b"\r\n", 2)
        return
    p[0] = c'$'
    cdef int d = write_u64(p + 1, n)
    p += d + 1
    p[0] = c'\r'
    p[1] = c'\n'
    memcpy(p + 2, s, n)
    p += n + 2
    p[0] = c'\r'
    p[1] = c'\n'
    o.pos = p + 2


cdef inline void reply_bulk_int(OutBuf* o, i64 v) noexcept nogil:
    cdef char tmp[24]
    reply_bulk(o, tmp, write_i64(tmp, v))


cdef inline void reply_raw(OutBuf* o, const char* text) noexcept nogil:
    """A whole reply that is a constant."""
    out_write(o, text, strlen(text))


cdef inline void reply_ok(OutBuf* o) noexcept nogil:
    cdef char* p = out_reserve(o, 5)
    memcpy(p, b"+OK\r\n", 5)
    o.pos = p + 5


cdef inline void reply_status(OutBuf* o, const char* text) noexcept nogil:
    out_write(o, b"+", 1)
    out_write(o, text, strlen(text))
    out_write(o, b"\r\n", 2)


cdef inline void reply_null(OutBuf* o, int resp) noexcept nogil:
    """The null of a missing bulk string."""
    if resp > 2:
        out_write(o, b"_\r\n", 3)
    else:
        out_write(o, b"$-1\r\n", 5)


cdef inline void reply_null_array(OutBuf* o, int resp) noexcept nogil:
    if resp > 2:
        out_write(o, b"_\r\n", 3)
    else:
        out_write(o, b"*-1\r\n", 5)


cdef inline void reply_bool(OutBuf* o, int resp, bint v) noexcept nogil:
    if resp > 2:
        out_write(o, b"#t\r\n" if v else b"#f\r\n", 4)
    else:
        reply_int(o, 1 if v else 0)
