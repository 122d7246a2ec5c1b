# Text to numbers and back, as strict as Valkey's string2ll and string2ld.
from engine.defs cimport *

cdef bint parse_i64_slow(const char* p, size_t n, i64* out) noexcept nogil
cdef bint parse_long_double(const char* p, size_t n, long double* out) noexcept nogil
cdef bint parse_double(const char* p, size_t n, double* out) noexcept nogil
cdef int write_long_double(char* buf, size_t cap, long double v) noexcept nogil


cdef inline bint parse_i64(const char* p, size_t n, i64* out) noexcept nogil:
    """Decimal, no space, no plus, no leading zero, in range: True and *out set."""
    if likely(n == 1 and c'0' <= p[0] <= c'9'):
        out[0] = p[0] - c'0'
        return True
    return parse_i64_slow(p, n, out)
