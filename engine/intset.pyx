# slotring: data plane
"""Intsets; see intset.pxd for the format and the rules."""
from libc.string cimport memcpy, memmove
from engine.defs cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_usable, arena_good_size

cdef enum:
    BYTES_MIN = IS_HEADER + 8      # of a fresh block: room for the first few


cdef inline u32 width_of(i64 v) noexcept nogil:
    if -32768 <= v <= 32767:
        return 2
    return 4 if -2147483648 <= v <= 2147483647 else 8


cdef inline void put(u8* s, u32 index, i64 v) noexcept nogil:
    cdef u32 width = is_width(s)
    memcpy(s + IS_HEADER + <size_t>index * width, &v, width)


cdef u8* is_new(Arena* a) noexcept nogil:
    """An empty one, of the narrowest integers."""
    cdef u8* s = <u8*>arena_alloc(a, BYTES_MIN)
    (<u32*>s)[0] = 2
    (<u32*>s)[1] = 0
    return s


cdef u8* is_copy(Arena* to, u8* s) noexcept nogil:
    """The same in another arena."""
    cdef u8* copy = <u8*>arena_alloc(to, is_bytes(s))
    memcpy(copy, s, is_bytes(s))
    return copy


cdef bint is_find(u8* s, i64 v, u32* place) noexcept nogil:
    """Is it there? *place: where it is, or would be put."""
    cdef u32 low = 0, n = is_len(s), half
    if n == 0 or is_get(s, n - 1) < v:
        place[0] = n
        return False
    # the answer is in [low, low + n]; no branch depends on what is read
    while n > 1:
        half = n >> 1
        low += half if is_get(s, low + half - 1) < v else 0
        n -= half
    place[0] = low
    return is_get(s, low) == v


cdef inline u8* room_for(Arena* a, u8* s, size_t size) noexcept nogil:
    cdef u8* moved
    if likely(size <= arena_usable(s)):
        return s
    moved = <u8*>arena_alloc(a, size)
    memcpy(moved, s, is_bytes(s))
    arena_free(a, s)
    return moved


cdef u8* widen(Arena* a, u8* s, i64 v) noexcept nogil:
    """Add v, which needs wider integers than there are: it is less or more than all of them."""
    cdef u32 width = width_of(v), n = is_len(s), i
    cdef u8* wide = <u8*>arena_alloc(a, IS_HEADER + <size_t>(n + 1) * width)
    (<u32*>wide)[0] = width
    (<u32*>wide)[1] = n + 1
    for i in range(n):
        put(wide, i + (v < 0), is_get(s, i))
    put(wide, 0 if v < 0 else n, v)
    arena_free(a, s)
    return wide


cdef u8* is_add(Arena* a, u8* s, i64 v, bint* added) noexcept nogil:
    """Add an integer; added[0]: it was not there."""
    cdef u32 place, n = is_len(s), width = is_width(s)
    added[0] = True
    if unlikely(width_of(v) > width):
        return widen(a, s, v)
    if is_find(s, v, &place):
        added[0] = False
        return s
    s = room_for(a, s, IS_HEADER + <size_t>(n + 1) * width)
    if place < n:
        memmove(s + IS_HEADER + <size_t>(place + 1) * width, s + IS_HEADER + <size_t>place * width,
                <size_t>(n - place) * width)
    put(s, place, v)
    (<u32*>s)[1] = n + 1
    return s


cdef inline u8* fit(Arena* a, u8* s) noexcept nogil:
    """To a smaller block where a size class (and a little more, lest it go to and fro) became free."""
    cdef size_t size = is_bytes(s)
    cdef u8* moved
    if likely(arena_good_size(size + (size >> 4) + 8) >= arena_usable(s)):
        return s
    moved = is_copy(a, s)
    arena_free(a, s)
    return moved


cdef u8* is_remove_at(Arena* a, u8* s, u32 index) noexcept nogil:
    """Remove the integer at an index that is there."""
    cdef u32 n = is_len(s), width = is_width(s)
    memmove(s + IS_HEADER + <size_t>index * width, s + IS_HEADER + <size_t>(index + 1) * width,
            <size_t>(n - index - 1) * width)
    (<u32*>s)[1] = n - 1
    return fit(a, s)


cdef u8* is_remove(Arena* a, u8* s, i64 v, bint* removed) noexcept nogil:
    """Remove an integer; removed[0]: it was there."""
    cdef u32 place
    removed[0] = width_of(v) <= is_width(s) and is_find(s, v, &place)
    return is_remove_at(a, s, place) if removed[0] else s


cdef u8* is_keep(Arena* a, u8* s, const u8* gone) noexcept nogil:
    """Remove those that gone[index] says."""
    cdef u32 n = is_len(s), i, kept = 0
    for i in range(n):
        if not gone[i]:
            put(s, kept, is_get(s, i))
            kept += 1
    (<u32*>s)[1] = kept
    return fit(a, s)


cdef bint is_valid(const u8* s, size_t size) noexcept nogil:
    """Is this, from anywhere (not even aligned), a whole intset, sorted, without doubles, not empty?"""
    cdef u32 width, n, i
    cdef i64 before = 0, v = 0
    if size < IS_HEADER:
        return False
    memcpy(&width, s, 4)
    memcpy(&n, s + 4, 4)
    if (width != 2 and width != 4 and width != 8) or n == 0 or size != IS_HEADER + <size_t>n * width:
        return False
    for i in range(n):
        v = 0
        memcpy(&v, s + IS_HEADER + <size_t>i * width, width)
        v = (v << (64 - 8 * width)) >> (64 - 8 * width)
        if i and v <= before:
            return False
        before = v
    return True
