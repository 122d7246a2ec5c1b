# Doubles as text, digit for digit Valkey's: integers plainly, else the digits of Grisu2 (Loitsch 2010; the shortest
# nearly always) with its choice of cached powers of ten. Reading takes what Valkey's reader takes: decimal, with an
# optional plus; inf, infinity and nan in any case; no hexadecimal, no space.
from engine.defs cimport *

cdef enum:
    DOUBLE_CHARS = 32              # what write_double may write

cdef int write_double(char* buf, double v) noexcept nogil              # no terminator; returns the length
# Reads the number that p begins with: how many bytes it takes, 0 where there is none. *outside: it is too large
# (v: an infinity) or too small (v: 0).
cdef size_t scan_double(const char* p, size_t n, double* v, bint* outside) noexcept nogil
cdef bint read_double(const char* p, size_t n, double* v) noexcept nogil   # all of it, in range
cdef int write_digits(char* buf, double v) noexcept nogil        # write_double of what is finite and no integer


cdef inline bint double_integer(double v, i64* out) noexcept nogil:
    """Is it an integer that Valkey prints as one?"""
    if not -4611686018427387904.0 <= v <= 4611686018427387904.0:
        return False
    out[0] = <i64>v
    return <double>out[0] == v
