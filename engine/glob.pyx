# slotring: data plane
"""Glob matching, equal to Valkey's in result, without recursion; see glob.pxd."""
from engine.defs cimport *
from engine.hashing cimport crc16, SLOTS

cdef enum:
    STARS_MAX = 1000           # Valkey gives up on patterns with more (groups of) stars


cdef inline int lower(int ch) noexcept nogil:
    return ch + 32 if c'A' <= ch <= c'Z' else ch


cdef const char* class_end(const char* p, const char* pe, int ch, bint nocase,
                           bint* hit) noexcept nogil:
    """Match ch with the class whose text begins at p, after the bracket; returns what follows it.

    A class without its closing bracket ends with the pattern. Bytes compare as signed chars.
    """
    cdef bint negated = p < pe and p[0] == c'^', match = False
    cdef int low, high
    if negated:
        p += 1
    while p < pe and p[0] != c']':
        if p[0] == c'\\' and pe - p >= 2:
            match |= <signed char>p[1] == ch
            p += 2
        elif pe - p >= 3 and p[1] == c'-':
            low = <signed char>p[0]
            high = <signed char>p[2]
            if low > high:
                low, high = high, low
            if nocase:
                match |= lower(low) <= lower(ch) <= lower(high)
            else:
                match |= low <= ch <= high
            p += 3
        else:
            if nocase:
                match |= lower(<signed char>p[0]) == lower(ch)
            else:
                match |= <signed char>p[0] == ch
            p += 1
    hit[0] = match != negated
    return p + 1 if p < pe else p


cdef inline const char* element(const char* p, const char* pe, int ch, bint nocase,
                                bint* hit) noexcept nogil:
    """Match ch with the pattern's element at p (not a star); returns where the next one begins."""
    if p[0] == c'?':
        hit[0] = True
        return p + 1
    if p[0] == c'[':
        return class_end(p + 1, pe, ch, nocase, hit)
    if p[0] == c'\\' and pe - p >= 2:
        p += 1
    if nocase:
        hit[0] = lower(<signed char>p[0]) == lower(ch)
    else:
        hit[0] = <signed char>p[0] == ch
    return p + 1


cdef bint glob_match(const char* p, size_t pn, const char* s, size_t sn,
                     bint nocase) noexcept nogil:
    """Does the whole of s match the pattern? An empty string matches the empty pattern only."""
    cdef const char* pe = p + pn
    cdef const char* se = s + sn
    cdef const char* after_star = NULL       # the last star passed: the pattern behind it,
    cdef const char* from_here = NULL        # and where in s that was last tried
    cdef const char* following = NULL
    cdef u32 stars = 0
    cdef bint hit
    if sn == 0:
        return pn == 0
    while s < se:
        hit = False
        if p < pe:
            if p[0] == c'*':
                while p < pe and p[0] == c'*':
                    p += 1
                if p == pe:
                    return True
                stars += 1
                if stars > STARS_MAX:
                    return False
                after_star = p
                from_here = s
            following = element(p, pe, <signed char>s[0], nocase, &hit)
        if hit:
            p = following
            s += 1
            continue
        if after_star == NULL:
            return False
        from_here += 1
        s = from_here
        p = after_star
    while p < pe and p[0] == c'*':
        p += 1
    return p == pe


cdef int glob_slot(const char* p, size_t n) noexcept nogil:
    """The only slot whose keys can match, or -1: any."""
    cdef size_t i, open_ = 0
    cdef int state = 0                       # 0: no brace yet, 1: in a tag, 2: empty tag, no tag
    for i in range(n):
        if p[i] == c'*' or p[i] == c'?' or p[i] == c'[' or p[i] == c'\\':
            return -1
        if state == 0 and p[i] == c'{':
            state = 1
            open_ = i + 1
        elif state == 1 and p[i] == c'}':
            if i > open_:
                return crc16(p + open_, i - open_) & (SLOTS - 1)
            state = 2
    return crc16(p, n) & (SLOTS - 1)


def match(bytes pattern, bytes text, bint nocase=False) -> bool:
    """glob_match for the control plane."""
    return glob_match(pattern, len(pattern), text, len(text), nocase)


def slot_of_pattern(bytes pattern) -> int:
    """glob_slot for tests."""
    return glob_slot(pattern, len(pattern))
