# slotring: data plane
"""Listpacks; see listpack.pxd for the format and the rules."""
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memmove, memcmp
from engine.defs cimport *
from engine.hashing cimport hash_bytes
from engine.arena cimport Arena, arena_alloc, arena_free, arena_usable, arena_good_size
from engine.numbers cimport parse_i64

cdef enum:
    ELEMENTS_UNKNOWN = 65535
    INT_TEXT_MAX = 20              # a longer string is no int64
    SHRINK_BYTES_MIN = 64          # smaller blocks are left as they are

cdef void lp_code_int(LpCoded* e, i64 v) noexcept nogil:
    cdef u8* h = e.head
    e.s = NULL
    e.n = 0
    if 0 <= v <= 127:
        h[0] = <u8>v
        e.head_n = 1
    elif -4096 <= v <= 4095:
        h[0] = <u8>(0xC0 | ((v >> 8) & 31))
        h[1] = <u8>(v & 255)
        e.head_n = 2
    elif -32768 <= v <= 32767:
        h[0] = 0xF1
        memcpy(h + 1, &v, 2)
        e.head_n = 3
    elif -8388608 <= v <= 8388607:
        h[0] = 0xF2
        memcpy(h + 1, &v, 3)
        e.head_n = 4
    elif -2147483648 <= v <= 2147483647:
        h[0] = 0xF3
        memcpy(h + 1, &v, 4)
        e.head_n = 5
    else:
        h[0] = 0xF4
        memcpy(h + 1, &v, 8)
        e.head_n = 9
    e.body = e.head_n
    e.all_ = e.body + 1


cdef void lp_code(LpCoded* e, const char* s, size_t n) noexcept nogil:
    """A string, as an integer where it is the text of one."""
    cdef i64 v
    cdef u32 n32 = <u32>n
    if n <= INT_TEXT_MAX and n and (s[0] == c'-' or c'0' <= s[0] <= c'9') and parse_i64(s, n, &v):
        lp_code_int(e, v)
        return
    e.s = s
    e.n = n
    if n < 64:
        e.head[0] = <u8>(0x80 | n)
        e.head_n = 1
    elif n < 4096:
        e.head[0] = <u8>(0xE0 | (n >> 8))
        e.head[1] = <u8>(n & 255)
        e.head_n = 2
    else:
        e.head[0] = 0xF0
        memcpy(e.head + 1, &n32, 4)
        e.head_n = 5
    e.body = e.head_n + n
    e.all_ = e.body + lp_backlen_bytes(e.body)


cdef inline void put_backlen(u8* p, size_t n) noexcept nogil:
    cdef size_t k = lp_backlen_bytes(n), i
    for i in range(k):
        p[k - 1 - i] = <u8>((n & 127) | (128 if i < k - 1 else 0))
        n >>= 7
    if k > 1:
        p[0] &= 127
        for i in range(1, k):
            p[i] |= 128


cdef void lp_put(u8* p, LpCoded* e) noexcept nogil:
    """Write a coded element."""
    memcpy(p, e.head, e.head_n)
    if e.n:
        memcpy(p + e.head_n, e.s, e.n)
    if likely(e.body <= 127):
        p[e.body] = <u8>e.body
    else:
        put_backlen(p + e.body, e.body)


cdef inline void set_bytes(u8* lp, size_t n) noexcept nogil:
    (<u32*>lp)[0] = <u32>n


cdef inline void count_changed(u8* lp, i64 by) noexcept nogil:
    cdef i64 n = (<u16*>(lp + 4))[0]
    if n == ELEMENTS_UNKNOWN:
        return
    n += by
    (<u16*>(lp + 4))[0] = <u16>(n if n < ELEMENTS_UNKNOWN else ELEMENTS_UNKNOWN)


cdef u8* splice(Arena* a, u8* lp, size_t at, size_t gone, size_t fresh) noexcept nogil:
    """Replace `gone` bytes at offset `at` by `fresh` bytes to be written; the size in the header is kept right."""
    cdef size_t old = lp_bytes(lp), size = old - gone + fresh, room = arena_usable(lp)
    cdef u8* moved
    if likely(size <= room and (size * 2 > room or room <= SHRINK_BYTES_MIN or fresh >= gone)):
        if gone != fresh:
            memmove(lp + at + fresh, lp + at + gone, old - at - gone)
    else:
        moved = <u8*>arena_alloc(a, size)
        memcpy(moved, lp, at)
        memcpy(moved + at + fresh, lp + at + gone, old - at - gone)
        arena_free(a, lp)
        lp = moved
    set_bytes(lp, size)
    return lp


cdef u8* lp_new(Arena* a, size_t room) noexcept nogil:
    """An empty listpack in a block of at least `room` bytes."""
    cdef u8* lp = <u8*>arena_alloc(a, room if room > LP_HEADER + 1 else LP_HEADER + 1)
    set_bytes(lp, LP_HEADER + 1)
    (<u16*>(lp + 4))[0] = 0
    lp[LP_HEADER] = LP_EOF
    return lp


cdef u8* lp_copy(Arena* to, u8* lp) noexcept nogil:
    """The same in another arena, in the smallest block."""
    cdef u8* copy = <u8*>arena_alloc(to, lp_bytes(lp))
    memcpy(copy, lp, lp_bytes(lp))
    return copy


cdef inline u8* add_at(Arena* a, u8* lp, size_t at, size_t gone, LpCoded* e) noexcept nogil:
    lp = splice(a, lp, at, gone, e.all_)
    lp_put(lp + at, e)
    return lp


cdef u8* lp_append(Arena* a, u8* lp, const char* s, size_t n) noexcept nogil:
    """A string at the end. s is not in lp."""
    cdef LpCoded e
    cdef size_t size = lp_bytes(lp)
    lp_code(&e, s, n)
    if likely(size + e.all_ <= arena_usable(lp)):
        lp_put(lp + size - 1, &e)
        lp[size + e.all_ - 1] = LP_EOF
        set_bytes(lp, size + e.all_)
    else:
        lp = add_at(a, lp, size - 1, 0, &e)
    count_changed(lp, 1)
    return lp


cdef u8* lp_append_int(Arena* a, u8* lp, i64 v) noexcept nogil:
    """An integer at the end."""
    cdef LpCoded e
    lp_code_int(&e, v)
    lp = add_at(a, lp, lp_bytes(lp) - 1, 0, &e)
    count_changed(lp, 1)
    return lp


cdef u8* lp_prepend(Arena* a, u8* lp, const char* s, size_t n) noexcept nogil:
    """A string at the front. s is not in lp."""
    cdef LpCoded e
    lp_code(&e, s, n)
    lp = add_at(a, lp, LP_HEADER, 0, &e)
    count_changed(lp, 1)
    return lp


cdef u8* insert(Arena* a, u8* lp, u8* p, LpCoded* e, int where, u8** at) noexcept nogil:
    cdef size_t gone = 0, place
    if where == LP_AFTER:
        p = lp_skip(p)
    elif where == LP_REPLACE:
        gone = lp_skip(p) - p
    place = p - lp
    lp = add_at(a, lp, place, gone, e)
    if where != LP_REPLACE:
        count_changed(lp, 1)
    if at != NULL:
        at[0] = lp + place
    return lp


cdef u8* lp_insert(Arena* a, u8* lp, u8* p, const char* s, size_t n, int where, u8** at) noexcept nogil:
    """A string before, after or instead of the element at p (before the end mark: append). s is not in lp."""
    cdef LpCoded e
    lp_code(&e, s, n)
    return insert(a, lp, p, &e, where, at)


cdef u8* lp_insert_int(Arena* a, u8* lp, u8* p, i64 v, int where, u8** at) noexcept nogil:
    """As lp_insert, for an integer."""
    cdef LpCoded e
    lp_code_int(&e, v)
    return insert(a, lp, p, &e, where, at)


cdef u8* lp_delete_many(Arena* a, u8* lp, u8* p, u64 many, u8** at) noexcept nogil:
    """Delete up to `many` elements from p on."""
    cdef u8* end = p
    cdef u64 n = 0
    cdef size_t place = p - lp
    while n < many and end[0] != LP_EOF:
        end = lp_skip(end)
        n += 1
    lp = splice(a, lp, place, end - p, 0)
    count_changed(lp, -<i64>n)
    if at != NULL:
        at[0] = NULL if lp[place] == LP_EOF else lp + place
    return lp


cdef u8* lp_delete(Arena* a, u8* lp, u8* p, u8** at) noexcept nogil:
    """Delete the element at p."""
    return lp_delete_many(a, lp, p, 1, at)


cdef u8* lp_delete_index(Arena* a, u8* lp, i64 index, u64 many) noexcept nogil:
    """Delete up to `many` elements from an index on; nothing if there is no such element."""
    cdef u8* p = lp_seek(lp, index)
    if p == NULL or many == 0:
        return lp
    return lp_delete_many(a, lp, p, many, NULL)


cdef u8* lp_concat(Arena* a, u8* lp, u8* more) noexcept nogil:
    """Give lp the elements of `more` at its end, and free `more`."""
    cdef size_t size = lp_bytes(lp), n = lp_bytes(more) - LP_HEADER - 1
    cdef i64 count = (<u16*>(more + 4))[0]
    lp = splice(a, lp, size - 1, 0, n)
    memcpy(lp + size - 1, more + LP_HEADER, n)
    if count == ELEMENTS_UNKNOWN:
        (<u16*>(lp + 4))[0] = ELEMENTS_UNKNOWN
    else:
        count_changed(lp, count)
    arena_free(a, more)
    return lp


cdef u8* lp_shrink(Arena* a, u8* lp) noexcept nogil:
    """To the smallest size class."""
    cdef u8* moved
    if arena_good_size(lp_bytes(lp)) >= arena_usable(lp):
        return lp
    moved = lp_copy(a, lp)
    arena_free(a, lp)
    return moved


cdef u32 lp_count_slow(u8* lp) noexcept nogil:
    """Count the elements; what fits is noted in the header."""
    cdef u8* p = lp + LP_HEADER
    cdef u32 n = 0
    while p[0] != LP_EOF:
        p = lp_skip(p)
        n += 1
    if n < ELEMENTS_UNKNOWN:
        (<u16*>(lp + 4))[0] = <u16>n
    return n


cdef u8* lp_seek(u8* lp, i64 index) noexcept nogil:
    """The element at an index, negative from the end; from the nearer end. NULL: there is none."""
    cdef i64 n = (<u16*>(lp + 4))[0]
    cdef u8* p
    if n != ELEMENTS_UNKNOWN:
        if index >= n or index < -n:
            return NULL
        if index < 0:
            index += n
        if index > n // 2:
            index -= n
    if index >= 0:
        p = lp_first(lp)
        while index > 0 and p != NULL:
            p = lp_next(lp, p)
            index -= 1
        return p
    p = lp_last(lp)
    while index < -1 and p != NULL:
        p = lp_prev(lp, p)
        index += 1
    return p


cdef bint lp_equals(u8* p, const char* s, size_t n) noexcept nogil:
    """Is the element at p this string?"""
    cdef LpValue v
    cdef i64 number
    lp_get(p, &v)
    if v.s != NULL:
        return v.n == n and not memcmp(v.s, s, n)
    return n <= INT_TEXT_MAX and parse_i64(s, n, &number) and number == v.v


cdef u8* lp_find(u8* lp, u8* p, const char* s, size_t n, u32 skip) noexcept nogil:
    """The first element equal to a string from p on (NULL: none), looking at every (skip + 1)th."""
    cdef LpCoded e
    cdef u32 left = 0
    cdef size_t body
    if p == NULL:
        return NULL
    lp_code(&e, s, n)
    while p[0] != LP_EOF:
        body = lp_body_bytes(p)
        if left == 0:
            # equal strings are encoded equally, so the encoded forms are compared
            if body == e.body and p[0] == e.head[0] and not memcmp(p, e.head, e.head_n) and \
                    (e.n == 0 or not memcmp(p + e.head_n, s, n)):
                return p
            left = skip
        else:
            left -= 1
        p += body + lp_backlen_bytes(body)
    return NULL


cdef bint element_valid(const u8* p, const u8* end, size_t* size) noexcept nogil:
    """Is there a whole element at p, with a true length behind it? *size: its bytes. end: of what may be read."""
    cdef size_t left = end - p, head, body, n, i
    cdef u8 b
    cdef size_t back = 0
    if left < 2:
        return False
    b = p[0]
    head = 5 if b == 0xF0 else (2 if 0xE0 <= b < 0xF0 else 1)
    if b > 0xF4 or left < head:
        return False
    body = lp_body_bytes(p)
    n = lp_backlen_bytes(body)
    if body >= left or n >= left - body + 1:
        return False
    for i in range(n):
        if (p[body + i] & 128 != 0) != (i > 0):
            return False
        back = (back << 7) | (p[body + i] & 127)
    size[0] = body + n
    return back == body


cdef bint lp_valid(const u8* lp, size_t size) noexcept nogil:
    """Is this, from anywhere, a whole listpack of `size` bytes? Every element is looked at."""
    cdef const u8* p = lp + LP_HEADER
    cdef const u8* end = lp + size - 1
    cdef size_t n
    cdef u32 count = 0, said
    cdef u32 total
    if size < LP_HEADER + 1:
        return False
    memcpy(&total, lp, 4)
    if total != size or end[0] != LP_EOF:
        return False
    while p < end:
        if not element_valid(p, end, &n):
            return False
        p += n
        count += 1
    said = lp[4] | (<u32>lp[5] << 8)
    return p == end and (said == ELEMENTS_UNKNOWN or said == count)


cdef size_t lp_entry_bytes(const char* s, size_t n) noexcept nogil:
    """What a string would take as an element."""
    cdef LpCoded e
    lp_code(&e, s, n)
    return e.all_


cdef bint lp_distinct(u8* lp, u32 skip) noexcept nogil:
    """Are the elements (every (skip + 1)th) all different, as texts? Of a listpack that lp_valid has seen."""
    cdef u64 places = 16, at, wanted = <u64>lp_len(lp) * 2
    cdef u32* seen                 # offsets of elements by the hash of their text
    cdef u32 left = 0
    cdef u8* p = lp + LP_HEADER
    cdef char tmp[24]
    cdef const char* s
    cdef size_t n
    cdef bint fine = True
    while places < wanted:
        places *= 2
    seen = <u32*>calloc(places, sizeof(u32))
    if seen == NULL:
        return False
    while p[0] != LP_EOF and fine:
        if left:
            left -= 1
        else:
            left = skip
            n = lp_text(p, tmp, &s)
            at = hash_bytes(s, n) & (places - 1)
            while seen[at] and fine:
                fine = not lp_equals(lp + seen[at], s, n)
                at = (at + 1) & (places - 1)
            seen[at] = <u32>(p - lp)
        p = lp_skip(p)
    free(seen)
    return fine
