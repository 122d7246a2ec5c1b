# slotring: data plane
"""Number parsing and printing; see numbers.pxd."""
from libc.string cimport memcpy, strlen
from engine.defs cimport *
from engine.doubles cimport read_double

cdef extern from "<stdlib.h>" nogil:
    long double strtold(const char*, char**)
cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)
cdef extern from "<math.h>" nogil:
    bint isnan(long double)
    bint isinf(long double)
cdef extern from * nogil:
    """
    #include <errno.h>
    #define set_errno(v) (errno = (v))
    """
    void set_errno(int)
    int errno
    int ERANGE
cdef extern from "<ctype.h>" nogil:
    int isspace(int)


cdef enum:
    LONG_DOUBLE_CHARS = 5120


cdef bint parse_i64_slow(const char* p, size_t n, i64* out) noexcept nogil:
    cdef u64 v = 0
    cdef size_t i = 0
    cdef bint negative = False
    if n == 0 or n > 20:
        return False
    if p[0] == c'-':
        negative = True
        i = 1
        if n == 1:
            return False
    if p[i] == c'0':
        if n == 1:
            out[0] = 0
            return True
        return False
    while i < n:
        if not c'0' <= p[i] <= c'9':
            return False
        if v > <u64>1844674407370955161 or (v == <u64>1844674407370955161 and p[i] > c'5'):
            return False
        v = v * 10 + <u64>(p[i] - c'0')
        i += 1
    if negative:
        if v > <u64>1 << 63:
            return False
        out[0] = <i64>(<u64>0 - v)
    else:
        if v > (<u64>1 << 63) - 1:
            return False
        out[0] = <i64>v
    return True


cdef bint parse_long_double(const char* p, size_t n, long double* out) noexcept nogil:
    """As Valkey's string2ld: no leading space, the whole of it, no NaN."""
    cdef char tmp[LONG_DOUBLE_CHARS]
    cdef char* end
    if n == 0 or n >= LONG_DOUBLE_CHARS or isspace(<u8>p[0]):
        return False
    memcpy(tmp, p, n)
    tmp[n] = 0
    if strlen(tmp) != n:
        return False
    set_errno(0)
    out[0] = strtold(tmp, &end)
    if end != tmp + n or isnan(out[0]):
        return False
    return errno != ERANGE or (not isinf(out[0]) and out[0] != 0)


cdef bint parse_double(const char* p, size_t n, double* out) noexcept nogil:
    """A score or a distance: no space, the whole of it, no NaN, in range; inf is one."""
    return read_double(p, n, out)


cdef int write_long_double(char* buf, size_t cap, long double v) noexcept nogil:
    """%.17Lf without trailing zeros (LD_STR_HUMAN); returns the length."""
    cdef int n
    if isinf(v):
        memcpy(buf, b"inf" if v > 0 else b"-inf", 4)
        return 3 if v > 0 else 4
    n = snprintf(buf, cap, b"%.17Lf", v)
    while buf[n - 1] == c'0':
        n -= 1
    if buf[n - 1] == c'.':
        n -= 1
    if n == 2 and buf[0] == c'-' and buf[1] == c'0':
        buf[0] = c'0'
        n = 1
    return n
