# slotring: data plane
"""Sorted lists of named things; see names.pxd."""
from libc.string cimport memcmp, memcpy, memmove
from engine.defs cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_usable

cdef enum:
    BLOCK_HEAD = 8                 # bytes of a NameBlock before its items


cdef inline int compare(Named* x, const char* s, size_t n) noexcept nogil:
    cdef int d = memcmp(name_of(x), s, x.len if x.len < n else n)
    if d:
        return d
    return -1 if x.len < n else (1 if x.len > n else 0)


cdef Named* names_find(Names* t, const char* s, size_t n, NamesPos* p) noexcept nogil:
    cdef u32 lo = 0, hi = t.used, mid
    cdef NameBlock* b
    cdef int d
    p.block = p.at = 0
    if t.used == 0:
        return NULL
    while hi - lo > 1:             # the last block whose first name is not beyond
        mid = (lo + hi) >> 1
        if compare(t.blocks[mid].item[0], s, n) <= 0:
            lo = mid
        else:
            hi = mid
    p.block = lo
    b = t.blocks[lo]
    lo = 0
    hi = b.n
    while lo < hi:
        mid = (lo + hi) >> 1
        d = compare(b.item[mid], s, n)
        if d == 0:
            p.at = mid
            return b.item[mid]
        if d < 0:
            lo = mid + 1
        else:
            hi = mid
    p.at = lo
    return NULL


cdef NameBlock* block_new(Arena* a, u32 cap) noexcept nogil:
    cdef NameBlock* b = <NameBlock*>arena_alloc(a, BLOCK_HEAD + cap * sizeof(void*))
    b.n = 0
    b.cap = cap
    return b


cdef void directory_insert(Arena* a, Names* t, u32 at, NameBlock* b) noexcept nogil:
    cdef NameBlock** more
    if t.used == t.cap:
        t.cap = t.cap * 2 if t.cap else 1
        more = <NameBlock**>arena_alloc(a, t.cap * sizeof(void*))
        if t.blocks != NULL:
            memcpy(more, t.blocks, t.used * sizeof(void*))
            arena_free(a, t.blocks)
        t.blocks = more
    memmove(&t.blocks[at + 1], &t.blocks[at], (t.used - at) * sizeof(void*))
    t.blocks[at] = b
    t.used += 1


cdef void names_insert(Arena* a, Names* t, Named* x, NamesPos* p) noexcept nogil:
    cdef NameBlock* b
    cdef NameBlock* other
    cdef u32 keep
    if t.used == 0:
        directory_insert(a, t, 0, block_new(a, 1))
    b = t.blocks[p.block]
    if b.n == b.cap and b.cap < NAMES_BLOCK:
        other = block_new(a, b.cap * 2 + 1)
        memcpy(other.item, b.item, b.n * sizeof(void*))
        other.n = b.n
        arena_free(a, b)
        t.blocks[p.block] = b = other
    elif b.n == b.cap:
        other = block_new(a, NAMES_BLOCK)
        keep = b.n if p.at == b.n and p.block + 1 == t.used else b.n // 2
        memcpy(other.item, &b.item[keep], (b.n - keep) * sizeof(void*))
        other.n = b.n - keep
        b.n = keep
        directory_insert(a, t, p.block + 1, other)
        if p.at > keep or other.n == 0:
            p.at -= keep
            p.block += 1
            b = other
    memmove(&b.item[p.at + 1], &b.item[p.at], (b.n - p.at) * sizeof(void*))
    b.item[p.at] = x
    b.n += 1
    t.count += 1


cdef void names_remove(Arena* a, Names* t, NamesPos* p) noexcept nogil:
    cdef NameBlock* b = t.blocks[p.block]
    b.n -= 1
    t.count -= 1
    memmove(&b.item[p.at], &b.item[p.at + 1], (b.n - p.at) * sizeof(void*))
    if b.n:
        return
    arena_free(a, b)
    t.used -= 1
    memmove(&t.blocks[p.block], &t.blocks[p.block + 1], (t.used - p.block) * sizeof(void*))
    if t.used == 0:
        arena_free(a, t.blocks)
        names_init(t)


cdef u64 names_bytes(Names* t) noexcept nogil:
    cdef u64 n = 0
    cdef u32 i
    if t.used == 0:
        return 0
    for i in range(t.used):
        n += arena_usable(t.blocks[i])
    return n + arena_usable(t.blocks)
