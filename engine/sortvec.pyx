# slotring: data plane
"""SORT's elements and their order; see sortvec.pxd."""
from libc.stdlib cimport malloc, realloc, free
from libc.string cimport memcpy, memcmp, memchr, strcmp
from engine.defs cimport *
from engine.numbers cimport parse_i64

cdef extern from "<string.h>" nogil:
    int strcoll(const char*, const char*)
cdef extern from "<stdlib.h>" nogil:
    double strtod(const char*, char**)
cdef extern from "<math.h>" nogil:
    bint isinf(double)
cdef extern from * nogil:
    """
    #include <errno.h>
    #define sortvec_clear_errno() (errno = 0)
    static const double sortvec_tens[23] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    """
    void sortvec_clear_errno()
    const double sortvec_tens[23]
    int errno
    int ERANGE

cdef enum:
    PIECE_BYTES = 65536
    FEW = 12                   # ranks that are sorted by insertion
    NUMBER_CHARS = 400


# ---- elements

cdef bint vec_init(SortVec* v, i64 room) noexcept nogil:
    v.n = 0
    v.room = room if room > 0 else 1
    v.pieces = NULL
    v.pos = v.end = NULL
    v.ranks = NULL
    v.mode = BY_SCORE
    v.desc = False
    v.items = <Item*>malloc(v.room * sizeof(Item))
    return v.items != NULL


cdef void vec_free(SortVec* v) noexcept nogil:
    cdef Piece* p = v.pieces
    cdef Piece* following
    while p != NULL:
        following = p.next
        free(p)
        p = following
    free(v.items)
    free(v.ranks)


cdef const char* vec_keep(SortVec* v, const char* s, size_t n) noexcept nogil:
    """A copy of a text, with a NUL behind it, that lives as long as v."""
    cdef size_t size
    cdef Piece* p
    cdef char* at
    if <size_t>(v.end - v.pos) < n + 1:
        size = PIECE_BYTES if n < PIECE_BYTES // 4 else n + 1 + sizeof(Piece)
        p = <Piece*>malloc(size)
        if p == NULL:
            return NULL
        p.next = v.pieces
        v.pieces = p
        at = <char*>(p + 1)
        if size != PIECE_BYTES:            # a long one has a piece of its own
            memcpy(at, s, n)
            at[n] = 0
            return at
        v.pos = at
        v.end = <char*>p + size
    at = v.pos
    memcpy(at, s, n)
    at[n] = 0
    v.pos += n + 1
    return at


cdef bint vec_add(SortVec* v, const char* s, size_t n) noexcept nogil:
    """One more element; False: no memory."""
    cdef Item* i
    if v.n == v.room:
        i = <Item*>realloc(v.items, v.room * 2 * sizeof(Item))
        if i == NULL:
            return False
        v.items = i
        v.room *= 2
    i = &v.items[v.n]
    i.s = i.k = vec_keep(v, s, n)
    i.n = i.kn = <u32>n
    v.n += 1
    return i.s != NULL


cdef void vec_reverse(SortVec* v) noexcept nogil:
    """The elements, the last one first."""
    cdef i64 i = 0, j = v.n - 1
    cdef Item keep
    while i < j:
        keep = v.items[i]
        v.items[i] = v.items[j]
        v.items[j] = keep
        i += 1
        j -= 1


# ---- keys of ranks

cdef u64 score_key(SortVec* v, double score) noexcept nogil:
    """Bits in the order of the numbers; the two zeros are one."""
    cdef u64 bits
    score += 0.0
    memcpy(&bits, &score, 8)
    bits = ~bits if bits >> 63 else bits | <u64>1 << 63
    return ~bits if v.desc else bits


cdef u64 text_key(SortVec* v, const char* s, size_t n) noexcept nogil:
    """The text's first eight bytes; nothing where their order is not that of the texts."""
    cdef u64 bits = 0
    cdef size_t i
    if v.mode == BY_LOCALE:
        return 0
    if s != NULL:
        if n >= 8:
            memcpy(&bits, s, 8)
            bits = bswap64(bits)
        else:
            for i in range(n):
                bits |= <u64><u8>s[i] << (56 - 8 * i)
        if v.mode == BY_C_LOCALE:
            for i in range(8):             # nothing counts behind a NUL
                if not (bits >> (56 - 8 * i)) & 255:
                    bits = bits & ~((<u64>1 << (63 - 8 * i) << 1) - 1)
                    break
    return ~bits if v.desc else bits


# ---- order

cdef int compare_bytes(const char* a, size_t an, const char* b, size_t bn) noexcept nogil:
    cdef int d = memcmp(a, b, an if an < bn else bn)
    if d == 0 and an != bn:
        d = -1 if an < bn else 1
    return d


cdef bint tie_before(SortVec* v, u64 a, u64 b) noexcept nogil:
    """Does item a come before b, their keys being equal?"""
    cdef Item* x = &v.items[a]
    cdef Item* y = &v.items[b]
    cdef int d
    if v.mode == BY_SCORE:
        d = compare_bytes(x.s, x.n, y.s, y.n)
    elif x.k == NULL or y.k == NULL:
        d = (x.k != NULL) - (y.k != NULL)
    elif v.mode == BY_BYTES:
        d = compare_bytes(x.k, x.kn, y.k, y.kn)
    elif v.mode == BY_LOCALE:
        d = strcoll(x.k, y.k)
    else:
        d = strcmp(x.k, y.k)
    if d == 0:
        return a < b
    return (d < 0) != v.desc


cdef inline bint before(SortVec* v, Rank* a, Rank* b) noexcept nogil:
    if likely(a.key != b.key):
        return a.key < b.key
    return tie_before(v, a.at, b.at)


cdef void sort_few(SortVec* v, Rank* r, i64 n) noexcept nogil:
    """By insertion."""
    cdef i64 i, j
    cdef Rank x
    for i in range(1, n):
        x = r[i]
        j = i
        while j > 0 and before(v, &x, &r[j - 1]):
            r[j] = r[j - 1]
            j -= 1
        r[j] = x


cdef void sift_down(SortVec* v, Rank* r, i64 i, i64 n) noexcept nogil:
    cdef Rank x = r[i]
    cdef i64 child
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and before(v, &r[child], &r[child + 1]):
            child += 1
        if not before(v, &x, &r[child]):
            break
        r[i] = r[child]
        i = child
    r[i] = x


cdef void heap_sort(SortVec* v, Rank* r, i64 n) noexcept nogil:
    """For what a bad choice of pivots would make slow."""
    cdef i64 i = n // 2
    cdef Rank x
    while i > 0:
        i -= 1
        sift_down(v, r, i, n)
    i = n - 1
    while i > 0:
        x = r[0]
        r[0] = r[i]
        r[i] = x
        sift_down(v, r, 0, i)
        i -= 1


cdef inline void swap_ranks(Rank* a, Rank* b) noexcept nogil:
    cdef Rank x = a[0]
    a[0] = b[0]
    b[0] = x


cdef i64 split_ranks(SortVec* v, Rank* r, i64 n) noexcept nogil:
    """Move what comes before a pivot to the front; returns the pivot's place."""
    cdef Rank pivot
    cdef i64 i = 0, j = n - 1
    if before(v, &r[n // 2], &r[0]):       # the middle one of three goes to the front
        swap_ranks(&r[n // 2], &r[0])
    if before(v, &r[n - 1], &r[0]):
        swap_ranks(&r[n - 1], &r[0])
    if before(v, &r[n - 1], &r[n // 2]):
        swap_ranks(&r[n - 1], &r[n // 2])
    swap_ranks(&r[0], &r[n // 2])
    pivot = r[0]
    while True:
        i += 1
        while i < n and before(v, &r[i], &pivot):
            i += 1
        while before(v, &pivot, &r[j]):
            j -= 1
        if i >= j:
            break
        swap_ranks(&r[i], &r[j])
        j -= 1
    swap_ranks(&r[0], &r[j])
    return j


cdef void sort_part(SortVec* v, i64 lo, i64 hi, i64 from_, i64 to, int depth) noexcept nogil:
    """Ranks lo..hi - 1, as far as they fall within from_..to."""
    cdef i64 mid
    while hi - lo > FEW:
        if depth == 0:
            heap_sort(v, v.ranks + lo, hi - lo)
            return
        depth -= 1
        mid = lo + split_ranks(v, v.ranks + lo, hi - lo)
        if mid > from_:                    # something on the left is wanted
            if mid < to:
                sort_part(v, lo, mid, from_, to, depth)
                lo = mid + 1
            else:
                hi = mid
        elif mid < to:
            lo = mid + 1
        else:
            return
    sort_few(v, v.ranks + lo, hi - lo)


cdef void vec_sort(SortVec* v, i64 from_, i64 to) noexcept nogil:
    if v.n > 1 and to >= from_:
        sort_part(v, 0, v.n, from_, to, 2 * (64 - clz64(<u64>v.n)))


# ---- numbers

cdef bint decimal_shape(const char* s, size_t n, u64* digits, int* after, bint* exact) noexcept nogil:
    """Is this [sign] digits [. digits] [e [sign] digits]? *exact: it is digits / 10 ** after, both exact as doubles."""
    cdef size_t i = 0, seen = 0
    cdef bint point = False
    cdef u64 m = 0
    after[0] = 0
    exact[0] = True
    if n and (s[0] == c'-' or s[0] == c'+'):
        i = 1
    while i < n and (c'0' <= s[i] <= c'9' or (s[i] == c'.' and not point)):
        if s[i] == c'.':
            point = True
        else:
            seen += 1
            if seen <= 15:
                m = m * 10 + <u64>(s[i] - c'0')
                after[0] += point
        i += 1
    digits[0] = m
    if seen > 15:
        exact[0] = False
    if seen == 0 or i == n:
        return seen > 0
    exact[0] = False
    if s[i] | 0x20 != c'e':
        return False
    i += 1
    if i < n and (s[i] == c'-' or s[i] == c'+'):
        i += 1
    if i == n:
        return False
    while i < n:
        if not c'0' <= s[i] <= c'9':
            return False
        i += 1
    return True


cdef bint is_infinity(const char* s, size_t n) noexcept nogil:
    """inf or infinity, in any case."""
    cdef const char* word = b"infinity"
    cdef size_t i
    if n != 3 and n != 8:
        return False
    for i in range(n):
        if (s[i] | 0x20) != word[i]:
            return False
    return True


cdef bint sort_score(const char* s, size_t n, double* out) noexcept nogil:
    cdef char small[NUMBER_CHARS]
    cdef char* text = small
    cdef const char* nul
    cdef u64 digits
    cdef int after
    cdef bint exact
    cdef i64 whole
    cdef size_t sign
    if parse_i64(s, n, &whole):
        out[0] = <double>whole
        return True
    nul = <const char*>memchr(s, 0, n)
    if nul != NULL:
        n = nul - s
    if not decimal_shape(s, n, &digits, &after, &exact):
        sign = n > 0 and (s[0] == c'-' or s[0] == c'+')
        if not is_infinity(s + sign, n - sign):
            return False
        out[0] = strtod(b"-inf" if s[0] == c'-' else b"inf", NULL)
        return True
    if exact:
        out[0] = <double>digits / sortvec_tens[after]
        if s[0] == c'-':
            out[0] = -out[0]
        return True
    if n >= sizeof(small):
        text = <char*>malloc(n + 1)
        if text == NULL:
            return False
    memcpy(text, s, n)
    text[n] = 0
    sortvec_clear_errno()
    out[0] = strtod(text, NULL)
    exact = errno != ERANGE or (out[0] != 0 and not isinf(out[0]))
    if text != small:
        free(text)
    return exact
