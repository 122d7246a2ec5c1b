# slotring: data plane
"""RDB's primitives; see rdbio.pxd.

A length is 6, 14, 32 or 64 bits behind two bits that say which (or six: 0x80, 0x81), big endian. The fourth kind
marks a string that is kept in another form: an integer of 1, 2 or 4 bytes, or LZF.

LZF: a control byte below 32 is followed by that many + 1 literal bytes; else its top three bits are the length of
a copy minus 2 (7: one more byte of length follows), its low five and the last byte the distance minus 1."""
from libc.math cimport NAN, INFINITY
from libc.stdlib cimport abort, free, malloc, realloc, strtod
from libc.string cimport memcpy, memmove, memset
from engine.defs cimport *
from engine.numbers cimport parse_i64
from engine.reply cimport write_i64

cdef enum:
    FORM = 0xC0                # kind of length: a string in another form
    FORM_INT8 = 0
    FORM_INT16 = 1
    FORM_INT32 = 2
    FORM_LZF = 3
    LENGTH_32 = 0x80
    LENGTH_64 = 0x81
    OUT_ROOM_MIN = 64
    INT_TEXT_MAX = 11          # longer strings are not tried as integers
    LZF_TRY_MIN = 21           # shorter strings are not tried

    LZF_LITERALS_MAX = 32
    LZF_DISTANCE_MAX = 8192
    LZF_COPY_MAX = 264
    LZF_GROWTH_MAX = 88        # no byte of LZF stands for more than this: 3 bytes for 264
    LZF_BITS_MIN = 8           # of the table of places
    LZF_BITS_MAX = 14
    LZF_HASTE = 6              # after 2^6 misses in a row every second place is tried, and so on

cdef u64 crc_table[8][256]     # [k][b]: the CRC of byte b followed by k zero bytes


# ---- CRC64

cdef void make_crc64() noexcept nogil:
    cdef u64 crc
    cdef u32 i, k
    for i in range(256):
        crc = i
        for k in range(8):
            crc = (crc >> 1) ^ (<u64>0x95ac9329ac4bc9b5 if crc & 1 else 0)
        crc_table[0][i] = crc
    for k in range(1, 8):
        for i in range(256):
            crc = crc_table[k - 1][i]
            crc_table[k][i] = (crc >> 8) ^ crc_table[0][crc & 255]


cdef u64 crc64(u64 crc, const void* p, size_t n) noexcept nogil:
    """Goes on from crc (0 at first) with n bytes; eight a step."""
    cdef const u8* q = <const u8*>p
    cdef u64 word
    while n >= 8:
        memcpy(&word, q, 8)
        crc ^= word
        crc = (crc_table[7][crc & 255] ^ crc_table[6][(crc >> 8) & 255]
               ^ crc_table[5][(crc >> 16) & 255] ^ crc_table[4][(crc >> 24) & 255]
               ^ crc_table[3][(crc >> 32) & 255] ^ crc_table[2][(crc >> 40) & 255]
               ^ crc_table[1][(crc >> 48) & 255] ^ crc_table[0][crc >> 56])
        q += 8
        n -= 8
    while n:
        crc = (crc >> 8) ^ crc_table[0][(crc ^ q[0]) & 255]
        q += 1
        n -= 1
    return crc


# ---- LZF

cdef inline u32 load3(const u8* p) noexcept nogil:
    """Three bytes; four are read."""
    cdef u32 v
    memcpy(&v, p, 4)
    return v & 0xFFFFFF


cdef inline u32 place_of(u32 three, u32 bits) noexcept nogil:
    return (three * <u32>2654435761) >> (32 - bits)


cdef inline size_t common(const u8* a, const u8* b, size_t most) noexcept nogil:
    """How many of the first `most` bytes are the same."""
    cdef size_t n = 0
    cdef u64 x, y
    while n + 8 <= most:
        memcpy(&x, a + n, 8)
        memcpy(&y, b + n, 8)
        if x != y:
            return n + (ctz64(x ^ y) >> 3)
        n += 8
    while n < most and a[n] == b[n]:
        n += 1
    return n


cdef u8* put_literals(u8* op, u8* end, const u8* p, size_t n) noexcept nogil:
    """Runs of literals at op; NULL: no room."""
    cdef size_t m
    if <size_t>(end - op) < n + (n + LZF_LITERALS_MAX - 1) // LZF_LITERALS_MAX:
        return NULL
    while n:
        m = n if n < LZF_LITERALS_MAX else LZF_LITERALS_MAX
        op[0] = <u8>(m - 1)
        memcpy(op + 1, p, m)
        op += m + 1
        p += m
        n -= m
    return op


cdef size_t lzf_compress(const void* p, size_t n, void* out, size_t room) noexcept nogil:
    """n bytes at p as LZF at out: the length, or 0 where that takes more than room.

    Greedy: the last place with the same hash of three bytes is the only one looked at."""
    cdef u32[1 << LZF_BITS_MAX] places         # offsets plus 1; 0: none
    cdef const u8* start = <const u8*>p
    cdef const u8* literals = start
    cdef u8* op = <u8*>out
    cdef u8* end = op + room
    cdef u32 bits = LZF_BITS_MIN, three, place, seen
    cdef size_t at = 0, last, most, m, back, misses = 0
    if n == 0 or (n + 1) >> 32:
        return 0
    last = n - 3 if n > 3 else 0               # places from here on are literals: load3 reads four bytes
    while bits < LZF_BITS_MAX and (<size_t>1 << bits) < n:
        bits += 1
    memset(places, 0, (<size_t>1 << bits) * sizeof(u32))
    while at < last:
        three = load3(start + at)
        place = place_of(three, bits)
        seen = places[place]
        places[place] = <u32>at + 1
        back = at + 1 - seen
        if seen == 0 or back > LZF_DISTANCE_MAX or load3(start + seen - 1) != three:
            misses += 1
            at += 1 + (misses >> LZF_HASTE)
            if unlikely((misses & 63) == 0 and start + at > literals + room):
                return 0                       # that many literals will not fit
            continue
        misses = 0
        most = n - at
        m = 3 + common(start + at + 3, start + seen + 2, (most if most < LZF_COPY_MAX else LZF_COPY_MAX) - 3)
        op = put_literals(op, end, literals, start + at - literals)
        if op == NULL or end - op < (2 if m < 9 else 3):
            return 0
        back -= 1
        if m < 9:
            op[0] = <u8>((m - 2) << 5 | back >> 8)
            op += 1
        else:
            op[0] = <u8>(7 << 5 | back >> 8)
            op[1] = <u8>(m - 9)
            op += 2
        op[0] = <u8>back
        op += 1
        at += m
        literals = start + at
        if at < last:                          # the copy's end is where the next one often starts
            places[place_of(load3(start + at - 2), bits)] = <u32>at - 1
            places[place_of(load3(start + at - 1), bits)] = <u32>at
    op = put_literals(op, end, literals, start + n - literals)
    return 0 if op == NULL else op - <u8*>out


cdef inline void copy_back(u8* op, size_t back, size_t m) noexcept nogil:
    """m bytes from `back` bytes before op; what is written may be read again."""
    cdef size_t i
    if back >= m:
        memcpy(op, op - back, m)
    elif back == 1:
        memset(op, (op - 1)[0], m)
    elif back >= 8:
        i = 0
        while i + 8 <= m:
            memcpy(op + i, op + i - back, 8)
            i += 8
        while i < m:
            op[i] = op[i - back]
            i += 1
    else:
        for i in range(m):
            op[i] = op[i - back]


cdef size_t lzf_decompress(const void* p, size_t n, void* out, size_t room) noexcept nogil:
    """n bytes of LZF unpacked at out: how many bytes came out, or 0 where p is corrupt or room too small."""
    cdef const u8* q = <const u8*>p
    cdef const u8* end = q + n
    cdef u8* op = <u8*>out
    cdef u8* out_end = op + room
    cdef u32 control
    cdef size_t m, back
    while q < end:
        control = q[0]
        q += 1
        if control < LZF_LITERALS_MAX:
            m = control + 1
            if <size_t>(end - q) < m or <size_t>(out_end - op) < m:
                return 0
            if end - q >= LZF_LITERALS_MAX and out_end - op >= LZF_LITERALS_MAX:
                memcpy(op, q, LZF_LITERALS_MAX)    # a constant length is four moves
            else:
                memcpy(op, q, m)
            q += m
        else:
            m = control >> 5
            if m == 7:
                if q == end:
                    return 0
                m += q[0]
                q += 1
            m += 2
            if q == end:
                return 0
            back = ((control & 31) << 8 | q[0]) + 1
            q += 1
            if <size_t>(op - <u8*>out) < back or <size_t>(out_end - op) < m:
                return 0
            copy_back(op, back, m)
        op += m
    return op - <u8*>out


# ---- writing

cdef void out_room(RdbOut* o, size_t n) noexcept nogil:
    """Room for n more bytes. Out of memory aborts, as in the arena."""
    if likely(o.cap - o.len >= n):
        return
    o.cap = o.cap * 2 if o.cap * 2 >= o.len + n else o.len + n
    if o.cap < OUT_ROOM_MIN:
        o.cap = OUT_ROOM_MIN
    o.p = <char*>realloc(o.p, o.cap)
    if o.p == NULL:
        abort()


cdef void rdb_out_free(RdbOut* o) noexcept nogil:
    free(o.p)
    o.p = NULL
    o.len = o.cap = 0


cdef void rdb_out_bytes(RdbOut* o, const void* p, size_t n) noexcept nogil:
    if n:
        out_room(o, n)
        memcpy(o.p + o.len, p, n)
        o.len += n


cdef void rdb_out_byte(RdbOut* o, u8 b) noexcept nogil:
    out_room(o, 1)
    o.p[o.len] = <char>b
    o.len += 1


cdef size_t put_length(u8* p, u64 n) noexcept nogil:
    """A length at p; how many bytes it took, at most 9."""
    cdef u64 swapped
    if n < 64:
        p[0] = <u8>n
        return 1
    if n < 16384:
        p[0] = <u8>(0x40 | n >> 8)
        p[1] = <u8>n
        return 2
    if (n >> 32) == 0:
        p[0] = LENGTH_32
        swapped = bswap64(n << 32)
        memcpy(p + 1, &swapped, 4)
        return 5
    p[0] = LENGTH_64
    swapped = bswap64(n)
    memcpy(p + 1, &swapped, 8)
    return 9


cdef void rdb_out_length(RdbOut* o, u64 n) noexcept nogil:
    out_room(o, 9)
    o.len += put_length(<u8*>o.p + o.len, n)


cdef size_t put_int_form(u8* p, i64 v) noexcept nogil:
    """An integer's short form at p (5 bytes): its length, or 0 if it takes more than 32 bits."""
    cdef i32 v32 = <i32>v
    if -128 <= v <= 127:
        p[0] = FORM | FORM_INT8
        p[1] = <u8>v
        return 2
    if -32768 <= v <= 32767:
        p[0] = FORM | FORM_INT16
        memcpy(p + 1, &v32, 2)
        return 3
    if v32 == v:
        p[0] = FORM | FORM_INT32
        memcpy(p + 1, &v32, 4)
        return 5
    return 0


cdef bint out_lzf(RdbOut* o, const char* s, size_t n) noexcept nogil:
    """A string as LZF, if that saves 4 bytes."""
    cdef u8 head[24]
    cdef u8* at
    cdef size_t packed, h, reserved = 1 + put_length(head, n - 4) + put_length(head, n)
    out_room(o, reserved + n)
    at = <u8*>o.p + o.len
    packed = lzf_compress(s, n, at + reserved, n - 4)
    if packed == 0:
        return False
    head[0] = FORM | FORM_LZF
    h = 1 + put_length(head + 1, packed)
    h += put_length(head + h, n)
    if h != reserved:
        memmove(at + h, at + reserved, packed)
    memcpy(at, head, h)
    o.len += h + packed
    return True


cdef void rdb_out_string(RdbOut* o, const char* s, size_t n) noexcept nogil:
    """A string object in the form that Valkey would give it."""
    cdef u8 form[8]
    cdef size_t m
    cdef i64 v
    if 0 < n <= INT_TEXT_MAX and parse_i64(s, n, &v):
        m = put_int_form(form, v)
        if m:
            rdb_out_bytes(o, form, m)
            return
    if n >= LZF_TRY_MIN and o.compress and out_lzf(o, s, n):
        return
    rdb_out_length(o, n)
    rdb_out_bytes(o, s, n)


cdef void rdb_out_int(RdbOut* o, i64 v) noexcept nogil:
    cdef char tmp[24]
    cdef size_t n = put_int_form(<u8*>tmp, v)
    if n:
        rdb_out_bytes(o, tmp, n)
        return
    n = write_i64(tmp, v)
    rdb_out_length(o, n)
    rdb_out_bytes(o, tmp, n)


cdef void rdb_out_double(RdbOut* o, double v) noexcept nogil:
    rdb_out_bytes(o, &v, 8)


cdef void rdb_out_ms(RdbOut* o, i64 ms) noexcept nogil:
    rdb_out_bytes(o, &ms, 8)


# ---- reading

cdef void rdb_in_init(RdbIn* in_, const char* p, size_t n) noexcept nogil:
    in_.p = <const u8*>p
    in_.end = in_.p + n
    in_.bad = in_.missing = False
    in_.scratch = NULL
    in_.scratch_cap = 0


cdef void rdb_in_done(RdbIn* in_) noexcept nogil:
    free(in_.scratch)
    in_.scratch = NULL
    in_.scratch_cap = 0


cdef const u8* rdb_in_bytes(RdbIn* in_, size_t n) noexcept nogil:
    """The place of the next n bytes, which are passed; NULL and bad where there are not as many."""
    cdef const u8* p = in_.p
    if in_.bad or <size_t>(in_.end - p) < n:
        in_.missing |= not in_.bad
        in_.bad = True
        return NULL
    in_.p += n
    return p


cdef u8 rdb_in_byte(RdbIn* in_) noexcept nogil:
    cdef const u8* p = rdb_in_bytes(in_, 1)
    return 0 if p == NULL else p[0]


cdef u64 in_number(RdbIn* in_, size_t n) noexcept nogil:
    """n bytes, little endian; 0 and bad where they are missing."""
    cdef u64 v = 0
    cdef const u8* p = rdb_in_bytes(in_, n)
    if p != NULL:
        memcpy(&v, p, n)
    return v


cdef u64 in_length_rest(RdbIn* in_, u8 head) noexcept nogil:
    """The length that begins with head."""
    if head < 0x40:
        return head
    if head < 0x80:
        return <u64>(head & 63) << 8 | rdb_in_byte(in_)
    if head == LENGTH_32:
        return bswap64(in_number(in_, 4)) >> 32
    if head == LENGTH_64:
        return bswap64(in_number(in_, 8))
    in_.bad = True
    return 0


cdef u64 rdb_in_length(RdbIn* in_) noexcept nogil:
    """A length or a number. It may be anything: compare it to what is left before you believe it."""
    cdef u64 n = in_length_rest(in_, rdb_in_byte(in_))
    return 0 if in_.bad else n


cdef size_t in_lzf(RdbIn* in_, const char** s) noexcept nogil:
    """Unpacks into the scratch, which is not made larger than the packed bytes can fill."""
    cdef u64 packed = rdb_in_length(in_), n = rdb_in_length(in_)
    cdef const u8* p
    p = rdb_in_bytes(in_, packed)
    if in_.bad or n == 0 or n > packed * LZF_GROWTH_MAX:
        in_.bad = True
        return 0
    if n > in_.scratch_cap:
        free(in_.scratch)
        in_.scratch_cap = 0
        in_.scratch = <u8*>malloc(n)
        if in_.scratch == NULL:
            in_.bad = True
            return 0
        in_.scratch_cap = n
    if lzf_decompress(p, packed, in_.scratch, n) != n:
        in_.bad = True
        return 0
    s[0] = <const char*>in_.scratch
    return n


cdef size_t rdb_in_string(RdbIn* in_, char* tmp, const char** s) noexcept nogil:
    """A string object: *s and its length. On bad input: an empty string, so that nothing reads on."""
    cdef u8 head = rdb_in_byte(in_)
    cdef u64 n
    cdef i64 v
    s[0] = tmp
    if in_.bad:
        return 0
    if head < FORM:
        n = in_length_rest(in_, head)
        if rdb_in_bytes(in_, n) == NULL:
            return 0
        s[0] = <const char*>in_.p - n
        return n
    head &= 63
    if head == FORM_LZF:
        return in_lzf(in_, s)
    if head == FORM_INT8:
        v = <int8_t>in_number(in_, 1)
    elif head == FORM_INT16:
        v = <int16_t>in_number(in_, 2)
    elif head == FORM_INT32:
        v = <int32_t>in_number(in_, 4)
    else:
        in_.bad = True
        return 0
    return 0 if in_.bad else write_i64(tmp, v)


cdef double rdb_in_double(RdbIn* in_) noexcept nogil:
    """8 bytes; may be a NaN."""
    cdef u64 bits = in_number(in_, 8)
    cdef double v
    memcpy(&v, &bits, 8)
    return v


cdef double rdb_in_old_double(RdbIn* in_) noexcept nogil:
    """The text form of RDB_TYPE_ZSET: a byte of length, decimal digits; 253: NaN, 254: inf, 255: -inf."""
    cdef char tmp[256]
    cdef char* end
    cdef double v
    cdef u8 n = rdb_in_byte(in_)
    cdef const u8* p
    if in_.bad:
        return 0
    if n >= 253:
        return NAN if n == 253 else (INFINITY if n == 254 else -INFINITY)
    p = rdb_in_bytes(in_, n)
    if p == NULL:
        return 0
    memcpy(tmp, p, n)
    tmp[n] = 0
    v = strtod(tmp, &end)
    if end == tmp:
        in_.bad = True
        return 0
    return v


cdef i64 rdb_in_ms(RdbIn* in_) noexcept nogil:
    return <i64>in_number(in_, 8)


make_crc64()
