# slotring: data plane
"""Growth of output chunks, error replies and their statistics; see reply.pxd."""
from libc.stdlib cimport malloc, free, abort
from libc.string cimport memcmp
from engine.defs cimport *
from engine.doubles cimport DOUBLE_CHARS, write_double
from engine.lock cimport lock, unlock

cdef enum:
    POOLED_CHUNKS_MAX = 64
    ERROR_KINDS_MAX = 128      # as Valkey: past that, errors count under one name

cdef struct ErrorKind:
    char name[64]
    u32 len
    u64 count

cdef ErrorKind error_kinds[ERROR_KINDS_MAX + 1]
cdef u32 error_kinds_used = 0
cdef u32 errors_lock = 0
cdef u64 errors_total = 0


cdef Chunk* chunk_new(ChunkPool* pool, size_t need) noexcept nogil:
    cdef Chunk* c
    cdef size_t cap = CHUNK_BYTES - sizeof(Chunk)
    if need <= cap:
        c = pool.free
        if c != NULL:
            pool.free = c.next
            pool.count -= 1
            c.next = NULL
            c.len = 0
            return c
    else:
        cap = need
    c = <Chunk*>malloc(sizeof(Chunk) + cap)
    if c == NULL:
        abort()
    pool.bytes += sizeof(Chunk) + cap
    c.next = NULL
    c.cap = <u32>cap
    c.len = 0
    return c


cdef void chunk_release(ChunkPool* pool, Chunk* c) noexcept nogil:
    if c.cap == CHUNK_BYTES - sizeof(Chunk) and pool.count < POOLED_CHUNKS_MAX:
        c.next = pool.free
        pool.free = c
        pool.count += 1
        return
    pool.bytes -= sizeof(Chunk) + c.cap
    free(c)


cdef char* out_grow(OutBuf* o, size_t n) noexcept nogil:
    """A new tail chunk with room for n bytes."""
    cdef Chunk* c = chunk_new(o.pool, n)
    if o.tail != NULL:
        o.tail.len = <u32>(o.pos - o.tail.data)
        o.bytes += o.tail.len
        o.tail.next = c
    else:
        o.head = c
    o.tail = c
    o.chunks += 1
    o.pos = c.data
    o.end = c.data + c.cap
    return c.data


cdef void out_write_slow(OutBuf* o, const char* p, size_t n) noexcept nogil:
    """Fill the tail, then a chunk of the right size for the rest."""
    cdef size_t room = o.end - o.pos
    if room:
        memcpy(o.pos, p, room)
        o.pos += room
        p += room
        n -= room
    while n:
        room = n if n < (1 << 30) else (1 << 30)
        memcpy(out_grow(o, room), p, room)
        o.pos += room
        p += room
        n -= room


cdef void out_free(OutBuf* o) noexcept nogil:
    """Throw away all output."""
    cdef Chunk* c = o.head
    cdef Chunk* following
    while c != NULL:
        following = c.next
        chunk_release(o.pool, c)
        c = following
    o.head = o.tail = NULL
    o.pos = o.end = NULL
    o.bytes = 0
    o.chunks = 0


cdef void count_error(const char* text, size_t n) noexcept nogil:
    """Errorstats: count under the first word of an error (without the dash)."""
    cdef size_t len_ = 0
    cdef u32 i
    cdef ErrorKind* kind
    while len_ < n and len_ < 63 and text[len_] != c' ' and text[len_] != c'\r':
        len_ += 1
    global errors_total, error_kinds_used
    lock(&errors_lock)
    errors_total += 1
    for i in range(error_kinds_used):
        kind = &error_kinds[i]
        if kind.len == len_ and memcmp(kind.name, text, len_) == 0:
            kind.count += 1
            unlock(&errors_lock)
            return
    if error_kinds_used < ERROR_KINDS_MAX:
        kind = &error_kinds[error_kinds_used]
        error_kinds_used += 1
        memcpy(kind.name, text, len_)
        kind.len = <u32>len_
        kind.count = 1
    unlock(&errors_lock)


cdef void reply_error_len(OutBuf* o, const char* text, size_t n) noexcept nogil:
    """An error reply; text has its code ("ERR …") and no dash. Line ends in it become spaces."""
    cdef char* p = out_reserve(o, n + 3)
    cdef size_t i
    p[0] = c'-'
    memcpy(p + 1, text, n)
    for i in range(1, n + 1):
        if p[i] == c'\r' or p[i] == c'\n':
            p[i] = c' '
    p[n + 1] = c'\r'
    p[n + 2] = c'\n'
    o.pos = p + n + 3
    o.errors += 1
    count_error(text, n)


cdef void reply_error(OutBuf* o, const char* text) noexcept nogil:
    reply_error_len(o, text, strlen(text))


cdef void reply_double(OutBuf* o, int resp, double v) noexcept nogil:
    """A double: RESP3 `,v`, RESP2 a bulk string; the digits are Valkey's."""
    cdef char* p = out_reserve(o, DOUBLE_CHARS + 8)
    cdef char tmp[DOUBLE_CHARS]
    cdef int n
    if resp > 2:
        p[0] = c','
        p += 1
        n = write_double(p, v)
    else:
        n = write_double(tmp, v)
        p[0] = c'$'
        p += 1 + write_u64(p + 1, n)
        p[0] = c'\r'
        p[1] = c'\n'
        p += 2
        memcpy(p, tmp, n)
    p[n] = c'\r'
    p[n + 1] = c'\n'
    o.pos = p + n + 2


def error_stats() -> dict:
    """Errors by their first word, and the total under None."""
    cdef ErrorKind* copy = <ErrorKind*>malloc(sizeof(error_kinds))
    cdef u32 i, used
    cdef u64 total
    with nogil:                    # no Python object is touched while a C lock is held
        lock(&errors_lock)
        used = error_kinds_used
        total = errors_total
        memcpy(copy, error_kinds, sizeof(error_kinds))
        unlock(&errors_lock)
    result = {copy[i].name[:copy[i].len]: copy[i].count for i in range(used)}
    free(copy)
    result[None] = total
    return result


def count_python_error(bytes text) -> None:
    """Errorstats for an error that the control plane replied."""
    count_error(text, len(text))


def reset_error_stats() -> None:
    """CONFIG RESETSTAT."""
    global error_kinds_used, errors_total
    lock(&errors_lock)
    error_kinds_used = 0
    errors_total = 0
    unlock(&errors_lock)
