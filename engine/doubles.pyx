# slotring: data plane
"""Doubles to text and back; see doubles.pxd."""
from libc.stdlib cimport malloc, free
from libc.string cimport memcpy, memset, memmove
from engine.defs cimport *
from engine.reply cimport write_i64

cdef extern from "<stdlib.h>" nogil:
    double strtod(const char*, char**)
cdef extern from "<math.h>" nogil:
    bint isinf(double)
    bint isnan(double)
    double INFINITY
    double NAN

cdef enum:
    POWERS = 87                    # cached powers of ten: 10 ** (-348 + 8 * i)
    POWER_FIRST = -348
    POWER_STEP = 8
    EXP_LOW = -60                  # the binary exponent that a scaled boundary must have
    EXP_HIGH = -32
    SCAN_CHARS = 512               # longer numbers are copied to the heap

cdef u64 HIDDEN = <u64>1 << 52

cdef struct Fp:                    # frac * 2 ** exp
    u64 frac
    int exp

cdef Fp powers[POWERS]
cdef double exact_tens[23]         # 10 ** 0 … 10 ** 22: all exact


def _make_tables():
    """64 significant bits of each power, rounded to nearest."""
    cdef int i
    for i in range(23):
        exact_tens[i] = 10.0 ** i
    for i in range(POWERS):
        ten = POWER_FIRST + POWER_STEP * i
        if ten >= 0:
            shift = (10 ** ten).bit_length() - 64
            value = 10 ** ten << -shift if shift <= 0 else ((10 ** ten >> (shift - 1)) + 1) >> 1
        else:
            shift = 1 - (10 ** -ten).bit_length() - 63
            value = ((2 << -shift) // 10 ** -ten + 1) >> 1
        if value >> 64:
            value >>= 1
            shift += 1
        elif not value >> 63:
            shift -= 1
            value = ((2 << -shift) // 10 ** -ten + 1) >> 1
        powers[i].frac = value
        powers[i].exp = shift


_make_tables()


cdef inline int power_for(int exp) noexcept nogil:
    """Which cached power brings a number with this binary exponent into the window."""
    cdef int approx = <int>(-(exp + POWERS) * 0.30102999566398114)
    cdef int i = (approx - POWER_FIRST) / POWER_STEP
    while True:
        if exp + powers[i].exp + 64 < EXP_LOW:
            i += 1
        elif exp + powers[i].exp + 64 > EXP_HIGH:
            i -= 1
        else:
            return i


cdef inline u64 scaled(u64 a, u64 b) noexcept nogil:
    """The upper half of a product, rounded half up."""
    return <u64>((<u128>a * b + (<u64>1 << 63)) >> 64)


cdef inline void weed(char* last, u64 delta, u64 rest, u64 unit, u64 target) noexcept nogil:
    """Lower the last digit while that comes closer to the number and stays inside the boundaries."""
    while rest < target and delta - rest >= unit and \
            (rest + unit < target or target - rest > rest + unit - target):
        last[0] -= 1
        rest += unit


cdef int shortest(double v, char* digits, int* ten) noexcept nogil:
    """Digits of a positive finite number; v is about digits * 10 ** *ten. Returns how many (at most 18)."""
    cdef u64 bits, frac, upper, lower, target, delta, one_mask, rest, unit
    cdef int exp, up_exp, shift, i, n = 0, kappa = 10
    cdef u32 whole, div = 1000000000, digit
    memcpy(&bits, &v, 8)
    frac = bits & (HIDDEN - 1)
    exp = <int>((bits >> 52) & 0x7FF)
    if exp:
        frac |= HIDDEN
        exp -= 1075
    else:
        exp = -1074
    # the boundaries halfway to the neighbours, on the upper one's normalised exponent
    upper = (frac << 1) + 1
    shift = clz64(upper)
    up_exp = exp - 1 - shift
    upper <<= shift
    i = 2 if frac == HIDDEN else 1
    lower = ((frac << i) - 1) << (exp - i - up_exp)
    target = frac << clz64(frac)
    i = power_for(up_exp)
    ten[0] = -(POWER_FIRST + POWER_STEP * i)
    target = scaled(target, powers[i].frac)
    upper = scaled(upper, powers[i].frac) - 1
    lower = scaled(lower, powers[i].frac) + 1
    shift = -(up_exp + powers[i].exp + 64)
    one_mask = (<u64>1 << shift) - 1
    target = upper - target
    delta = upper - lower
    whole = <u32>(upper >> shift)
    upper &= one_mask
    while kappa > 0:
        digit = whole // div
        if digit or n:
            digits[n] = <char>(c'0' + digit)
            n += 1
        whole -= digit * div
        kappa -= 1
        rest = (<u64>whole << shift) + upper
        if rest <= delta:
            ten[0] += kappa
            weed(&digits[n - 1], delta, rest, <u64>div << shift, target)
            return n
        div //= 10
    unit = 1
    while True:
        upper *= 10
        delta *= 10
        unit *= 10
        kappa -= 1
        digit = <u32>(upper >> shift)
        if digit or n:
            digits[n] = <char>(c'0' + digit)
            n += 1
        upper &= one_mask
        if upper < delta:
            ten[0] += kappa
            weed(&digits[n - 1], delta, upper, one_mask + 1, target * unit)
            return n


cdef int write_digits(char* buf, double v) noexcept nogil:
    cdef char digits[24]
    cdef char* p = buf
    cdef int ten, n, exp, lead
    if v < 0:
        p[0] = c'-'
        p += 1
        v = -v
    n = shortest(v, digits, &ten)
    exp = ten + n - 1
    if exp < 0:
        exp = -exp
    if ten >= 0 and exp < n + 7:
        memcpy(p, digits, n)
        memset(p + n, c'0', ten)
        return <int>(p - buf) + n + ten
    if ten < 0 and (ten > -7 or exp < 4):
        lead = n + ten
        if lead <= 0:
            p[0] = c'0'
            p[1] = c'.'
            memset(p + 2, c'0', -lead)
            memcpy(p + 2 - lead, digits, n)
            return <int>(p - buf) + n + 2 - lead
        memcpy(p, digits, lead)
        p[lead] = c'.'
        memcpy(p + lead + 1, digits + lead, n - lead)
        return <int>(p - buf) + n + 1
    lead = ten + n - 1
    if n > 18 - (p != buf):
        n = 18 - (p != buf)
    p[0] = digits[0]
    p += 1
    if n > 1:
        p[0] = c'.'
        memcpy(p + 1, digits + 1, n - 1)
        p += n
    p[0] = c'e'
    p[1] = c'-' if lead < 0 else c'+'
    return <int>(p - buf) + 2 + write_i64(p + 2, exp)


cdef int write_double(char* buf, double v) noexcept nogil:
    cdef i64 whole
    if v == 0:
        memcpy(buf, b"-0", 2)
        if 1.0 / v < 0:
            return 2
        buf[0] = c'0'
        return 1
    if double_integer(v, &whole):
        return write_i64(buf, whole)
    if isnan(v):
        memcpy(buf, b"nan", 3)
        return 3
    if isinf(v):
        memcpy(buf, b"-inf" if v < 0 else b"inf ", 4)
        return 4 if v < 0 else 3
    return write_digits(buf, v)


# ---- reading

cdef inline bint word_is(const char* p, size_t n, const char* word, size_t len_) noexcept nogil:
    cdef size_t i
    if n < len_:
        return False
    for i in range(len_):
        if (p[i] | 0x20) != word[i]:
            return False
    return True


cdef size_t scan_word(const char* p, size_t n, size_t i, double* v) noexcept nogil:
    """inf, infinity or nan behind the sign."""
    if word_is(p + i, n - i, b"infinity", 8):
        i += 8
    elif word_is(p + i, n - i, b"inf", 3):
        i += 3
    elif word_is(p + i, n - i, b"nan", 3):
        v[0] = NAN
        return i + 3
    else:
        return 0
    v[0] = -INFINITY if p[0] == c'-' else INFINITY
    return i


cdef double slow_double(const char* p, size_t n) noexcept nogil:
    """A number whose text was checked, by the C library."""
    cdef char small[SCAN_CHARS]
    cdef char* text = small
    cdef double v
    if n >= SCAN_CHARS:
        text = <char*>malloc(n + 1)
        if text == NULL:
            return NAN
    memcpy(text, p, n)
    text[n] = 0
    v = strtod(text, NULL)
    if text != small:
        free(text)
    return v


cdef size_t scan_double(const char* p, size_t n, double* v, bint* outside) noexcept nogil:
    cdef size_t i = 0, start, end
    cdef u64 mantissa = 0
    cdef i64 ten = 0, exp = 0
    cdef int digits = 0                # significant ones in mantissa
    cdef bint any_digit = False, negative, exp_negative
    outside[0] = False
    if i < n and (p[i] == c'-' or p[i] == c'+'):
        i = 1
    negative = i and p[0] == c'-'
    while i < n and c'0' <= p[i] <= c'9':
        any_digit = True
        if digits or p[i] != c'0':
            if digits < 19:
                mantissa = mantissa * 10 + <u64>(p[i] - c'0')
            else:
                ten += 1
            digits += 1
        i += 1
    if i < n and p[i] == c'.':
        end = i + 1
        while end < n and c'0' <= p[end] <= c'9':
            any_digit = True
            if digits or p[end] != c'0':
                if digits < 19:
                    mantissa = mantissa * 10 + <u64>(p[end] - c'0')
                    ten -= 1
                digits += 1
            else:
                ten -= 1
            end += 1
        if any_digit:
            i = end
    if not any_digit:
        return scan_word(p, n, i, v)
    if i + 1 < n and p[i] | 0x20 == c'e':
        start = i + 1
        exp_negative = p[start] == c'-'
        if p[start] == c'-' or p[start] == c'+':
            start += 1
        end = start
        while end < n and c'0' <= p[end] <= c'9':
            if exp < 100000000:
                exp = exp * 10 + (p[end] - c'0')
            end += 1
        if end > start:
            i = end
            ten += -exp if exp_negative else exp
    if mantissa == 0:
        v[0] = -0.0 if negative else 0.0
        return i
    if digits <= 19 and mantissa <= HIDDEN << 1 and -22 <= ten <= 22:      # both sides exact: one rounding
        v[0] = <double>mantissa
        if ten < 0:
            v[0] /= exact_tens[-ten]
        elif ten > 0:
            v[0] *= exact_tens[ten]
        if negative:
            v[0] = -v[0]
        return i
    v[0] = slow_double(p, i)
    outside[0] = v[0] == 0 or isinf(v[0])
    return i


cdef bint read_double(const char* p, size_t n, double* v) noexcept nogil:
    cdef bint outside
    return n > 0 and scan_double(p, n, v, &outside) == n and not outside and not isnan(v[0])
