# slotring: data plane
"""Commands that see strings as arrays of bits, bit 0 the highest of the first byte."""
from libc.string cimport memcpy, memset
from engine.defs cimport *
from engine.store cimport *
from engine.args cimport long_arg
from engine.command cimport Arg, Ctx, arg_is, register
from engine.conf cimport conf
from engine.events cimport key_changed, notify, N_GENERIC, N_STRING
from engine.hashing cimport load64
from engine.keyspace cimport *
from engine.numbers cimport parse_i64
from engine.reply cimport *

cdef extern from * nogil:
    ctypedef i64 i128 "__int128"

cdef enum:
    OP_AND = 0
    OP_OR = 1
    OP_XOR = 2
    OP_NOT = 3

    # subcommands of BITFIELD
    FIELD_OVERFLOW = 0
    FIELD_GET = 1
    FIELD_SET = 2
    FIELD_INCRBY = 3

    # what BITFIELD does with a value that does not fit
    FIT_WRAP = 0
    FIT_SAT = 1
    FIT_FAIL = 2

cdef struct Range:                 # [start, end] of BITCOUNT and BITPOS, as given
    i64 start
    i64 end
    bint whole                     # no range was given
    bint end_given
    bint in_bits

cdef struct Field:                 # one subcommand of BITFIELD
    u64 offset
    i64 value
    u32 kind
    u32 fit                        # keeps what the last OVERFLOW said
    u32 bits
    bint is_signed


# ---- arguments

cdef inline bint offset_arg(Ctx* c, Arg* a, u32 field_bits, u64* out) noexcept nogil:
    """A bit's number; with field_bits "#n" is the n-th field of so many bits."""
    cdef size_t sign = 1 if field_bits and a.len and a.ptr[0] == c'#' else 0
    cdef i64 at
    if likely(parse_i64(a.ptr + sign, a.len - sign, &at)):
        if sign:
            at = <i64>(<u64>at * field_bits)
        if likely(at >= 0 and at >> 3 < conf.proto_max_bulk_len):
            out[0] = at
            return True
    reply_error(c.out, b"ERR bit offset is not an integer or out of range")
    return False


cdef bint range_args(Ctx* c, i64 at, Range* r) noexcept nogil:
    """[start [end [BIT|BYTE]]] at argv[at]; False: an error was replied."""
    cdef i64 given = c.argc - at
    r.whole = given == 0
    r.end_given = given > 1
    r.in_bits = False
    r.start = 0
    r.end = -1
    if given == 0:
        return True
    if given > 3:
        reply_error(c.out, b"ERR syntax error")
        return False
    if not long_arg(c, &c.argv[at], &r.start):
        return False
    if given == 3:
        r.in_bits = arg_is(&c.argv[at + 2], b"bit", 3)
        if not r.in_bits and not arg_is(&c.argv[at + 2], b"byte", 4):
            reply_error(c.out, b"ERR syntax error")
            return False
    return given == 1 or long_arg(c, &c.argv[at + 1], &r.end)


cdef bint range_bits(Range* r, i64 length, i64* first, i64* last) noexcept nogil:
    """The first and last bit of a range in a string of so many bytes; False: it is empty."""
    cdef i64 total = length << 3 if r.in_bits else length
    cdef i64 start = r.start, end = r.end
    if not r.end_given:
        end = length - 1
    if start < 0:
        start = start + total if start + total > 0 else 0
    if end < 0:
        end = end + total if end + total > 0 else 0
    if end >= total:
        end = total - 1
    if start > end:
        return False
    first[0] = start if r.in_bits else start << 3
    last[0] = end if r.in_bits else (end << 3) + 7
    return True


# ---- counting and finding

cdef u64 count_bytes(const char* p, size_t n) noexcept nogil:
    """Bits that are set in n bytes."""
    cdef u64 a = 0, b = 0, d = 0, e = 0
    while n >= 32:
        a += popcount64(load64(p))
        b += popcount64(load64(p + 8))
        d += popcount64(load64(p + 16))
        e += popcount64(load64(p + 24))
        p += 32
        n -= 32
    while n >= 8:
        a += popcount64(load64(p))
        p += 8
        n -= 8
    while n:
        a += popcount64(<u8>p[0])
        p += 1
        n -= 1
    return a + b + d + e


cdef u64 count_bits(const char* p, i64 first, i64 last) noexcept nogil:
    """Bits that are set from first to last."""
    cdef i64 start = first >> 3, end = last >> 3
    return (count_bytes(p + start, end - start + 1)
            - popcount64(<u8>p[start] & ~(<u64>0xFF >> (first & 7)))
            - popcount64(<u8>p[end] & (<u64>0x7F >> (last & 7))))


cdef i64 find_bit(const char* p, i64 first, i64 last, bint bit) noexcept nogil:
    """The first bit of that value from first to last; -1: there is none."""
    cdef u64 flip = 0 if bit else ~<u64>0
    cdef i64 at = first >> 3, end = (last >> 3) + 1, found
    cdef u64 word = (<u8>p[at] ^ flip) & (<u64>0xFF >> (first & 7))
    while not word:
        at += 1
        while at + 8 <= end and load64(p + at) == flip:
            at += 8
        if at >= end:
            return -1
        word = (<u8>p[at] ^ flip) & 0xFF
    found = (at << 3) + clz64(word) - 56
    return found if found <= last else -1


cdef void cmd_bitcount(Ctx* c) noexcept nogil:
    cdef Range r
    cdef Entry* e
    cdef char tmp[24]
    cdef const char* p
    cdef i64 length, first, last
    if not range_args(c, 2, &r):
        return
    e = lookup_read(c, &c.key)
    if wrong_type(c, e, TYPE_STRING):
        return
    if e == NULL or (r.end_given and r.end < r.start < 0):
        reply_int(c.out, 0)
        return
    length = string_value(e, tmp, &p)
    reply_int(c.out, count_bits(p, first, last) if range_bits(&r, length, &first, &last) else 0)


cdef void cmd_bitpos(Ctx* c) noexcept nogil:
    cdef Range r
    cdef Entry* e
    cdef char tmp[24]
    cdef const char* p
    cdef i64 bit, length, first, last, found
    if not long_arg(c, &c.argv[2], &bit):
        return
    if bit & ~1:
        reply_error(c.out, b"ERR The bit argument must be 1 or 0.")
        return
    if not range_args(c, 3, &r):
        return
    e = lookup_read(c, &c.key)
    if wrong_type(c, e, TYPE_STRING):
        return
    if e == NULL:
        reply_int(c.out, -1 if bit else 0)
        return
    length = string_value(e, tmp, &p)
    if not range_bits(&r, length, &first, &last):
        reply_int(c.out, -1)
        return
    found = find_bit(p, first, last, bit)
    if found < 0 and not bit and not r.end_given:
        found = length << 3            # beyond the end there are zeros
    reply_int(c.out, found)


# ---- one bit

cdef void cmd_setbit(Ctx* c) noexcept nogil:
    cdef Entry* e
    cdef u64 at
    cdef i64 on
    cdef char tmp[24]
    cdef const char* old
    cdef char* p
    cdef size_t have = 0, need
    cdef u8 mask
    if not offset_arg(c, &c.argv[2], 0, &at):
        return
    if not parse_i64(c.argv[3].ptr, c.argv[3].len, &on) or on & ~1:
        reply_error(c.out, b"ERR bit is not an integer or out of range")
        return
    e = lookup_write(c, &c.key)
    if wrong_type(c, e, TYPE_STRING):
        return
    if e != NULL:
        have = string_value(e, tmp, &old)
    need = (at >> 3) + 1
    if likely(need <= have and entry_enc(e) != ENC_INT):
        p = entry_value(e)
        entry_set_enc(e, ENC_RAW)
    else:
        p = string_writable(c, &c.key, need if need > have else have)
    p += at >> 3
    mask = <u8>(0x80 >> (at & 7))
    if (p[0] & mask != 0) != on:
        p[0] ^= mask
        key_changed(c, &c.key, N_STRING, b"setbit")
        c.dirty += 1
        reply_int(c.out, 1 - on)
        return
    if need > have:
        key_changed(c, &c.key, N_STRING, b"setbit")
        c.dirty += 1
    reply_int(c.out, on)


cdef void cmd_getbit(Ctx* c) noexcept nogil:
    cdef Entry* e
    cdef u64 at
    cdef char tmp[24]
    cdef const char* p
    if not offset_arg(c, &c.argv[2], 0, &at):
        return
    e = lookup_read(c, &c.key)
    if wrong_type(c, e, TYPE_STRING):
        return
    if e == NULL or string_value(e, tmp, &p) <= at >> 3:
        reply_int(c.out, 0)
    else:
        reply_int(c.out, <u8>p[at >> 3] >> (7 - (at & 7)) & 1)


# ---- BITOP

cdef int op_arg(Arg* a) noexcept nogil:
    if arg_is(a, b"and", 3):
        return OP_AND
    if arg_is(a, b"or", 2):
        return OP_OR
    if arg_is(a, b"xor", 3):
        return OP_XOR
    if arg_is(a, b"not", 3):
        return OP_NOT
    return -1


cdef void combine(int op, u8* to, size_t size, const u8* p, size_t n) noexcept nogil:
    """to op= p, whose n bytes are followed by zeros up to size."""
    cdef size_t i
    if op == OP_AND:
        for i in range(n):
            to[i] &= p[i]
        memset(to + n, 0, size - n)
    elif op == OP_OR:
        for i in range(n):
            to[i] |= p[i]
    elif op == OP_XOR:
        for i in range(n):
            to[i] ^= p[i]
    else:
        for i in range(n):
            to[i] = ~p[i]


cdef bint op_size(Ctx* c, size_t* size) noexcept nogil:
    """The length of BITOP's result, that of the longest source; False: a source is no string."""
    cdef Key k
    cdef Entry* e
    cdef char tmp[24]
    cdef const char* p
    cdef size_t n
    cdef i64 i
    size[0] = 0
    for i in range(3, c.argc):
        key_init(c, &k, &c.argv[i])
        e = lookup_read(c, &k)
        if wrong_type(c, e, TYPE_STRING):
            return False
        if e != NULL:
            n = string_value(e, tmp, &p)
            if n > size[0]:
                size[0] = n
    return True


cdef void cmd_bitop(Ctx* c) noexcept nogil:
    cdef int op = op_arg(&c.argv[1])
    cdef Entry* result
    cdef Entry* e
    cdef Key k
    cdef char tmp[24]
    cdef const char* p = NULL
    cdef size_t size, n
    cdef u8* to
    cdef i64 i
    if op < 0:
        reply_error(c.out, b"ERR syntax error")
        return
    if op == OP_NOT and c.argc != 4:
        reply_error(c.out, b"ERR BITOP NOT must be called with a single source key.")
        return
    if not op_size(c, &size):
        return
    if size == 0:
        if lookup(c, &c.key) != NULL:
            key_delete(c, &c.key)
            notify(c, N_GENERIC, b"del", &c.key)
            c.dirty += 1
        reply_int(c.out, 0)
        return
    result = entry_new(c.key.part, c.key.ptr, c.key.len, size, TYPE_STRING | ENC_RAW << 4, False)
    to = <u8*>entry_value(result)
    for i in range(3, c.argc):
        key_init(c, &k, &c.argv[i])
        e = lookup(c, &k)
        n = 0 if e == NULL else string_value(e, tmp, &p)
        if i > 3 or op == OP_NOT:
            combine(op, to, size, <const u8*>p, n)
        else:
            memcpy(to, p, n)
            memset(to + n, 0, size - n)
    lookup(c, &c.key)
    key_put(c, &c.key, result)
    key_changed(c, &c.key, N_STRING, b"set")
    c.dirty += 1
    reply_int(c.out, size)


# ---- BITFIELD

cdef bint field_type(Ctx* c, Arg* a, Field* f) noexcept nogil:
    """u1 to u63, i1 to i64."""
    cdef i64 bits
    if a.len > 1 and (a.ptr[0] == c'i' or a.ptr[0] == c'u'):
        f.is_signed = a.ptr[0] == c'i'
        if parse_i64(a.ptr + 1, a.len - 1, &bits) and 1 <= bits <= (64 if f.is_signed else 63):
            f.bits = <u32>bits
            return True
    reply_error(c.out, b"ERR Invalid bitfield type. Use something like i16 u8. "
                       b"Note that u64 is not supported but i64 is.")
    return False


cdef i64 field_args(Ctx* c, i64 at, Field* f) noexcept nogil:
    """One subcommand from argv[at] on; where the next one is, or -1: an error was replied."""
    cdef Arg* a = &c.argv[at]
    cdef i64 more = c.argc - at - 1
    if more >= 2 and arg_is(a, b"get", 3):
        f.kind = FIELD_GET
    elif more >= 3 and arg_is(a, b"set", 3):
        f.kind = FIELD_SET
    elif more >= 3 and arg_is(a, b"incrby", 6):
        f.kind = FIELD_INCRBY
    elif more >= 1 and arg_is(a, b"overflow", 8):
        f.kind = FIELD_OVERFLOW
        if arg_is(a + 1, b"wrap", 4):
            f.fit = FIT_WRAP
        elif arg_is(a + 1, b"sat", 3):
            f.fit = FIT_SAT
        elif arg_is(a + 1, b"fail", 4):
            f.fit = FIT_FAIL
        else:
            reply_error(c.out, b"ERR Invalid OVERFLOW type specified")
            return -1
        return at + 2
    else:
        reply_error(c.out, b"ERR syntax error")
        return -1
    if not field_type(c, a + 1, f) or not offset_arg(c, a + 2, f.bits, &f.offset):
        return -1
    if f.kind == FIELD_GET:
        return at + 3
    return at + 4 if long_arg(c, a + 3, &f.value) else -1


cdef i64 field_load(const char* p, size_t length, Field* f) noexcept nogil:
    """The field's value; bytes beyond the string are zero."""
    cdef u64 at = f.offset >> 3, i
    cdef u32 start = f.offset & 7, n = (start + f.bits + 7) >> 3
    cdef u128 v = 0
    for i in range(at, at + n):
        v = v << 8 | (<u8>p[i] if i < length else 0)
    v >>= n * 8 - start - f.bits
    return trim(f, <u64>v)


cdef inline i64 trim(Field* f, u64 v) noexcept nogil:
    """The low bits of v as a value of the field's type."""
    v <<= 64 - f.bits
    if f.is_signed:
        return <i64>v >> (64 - f.bits)
    return <i64>(v >> (64 - f.bits))


cdef void field_store(char* p, Field* f, i64 value) noexcept nogil:
    """Write the field; its bytes are in the string."""
    cdef u32 start = f.offset & 7, n = (start + f.bits + 7) >> 3, i
    cdef u32 shift = n * 8 - start - f.bits
    cdef u128 mask = ((<u128>1 << f.bits) - 1) << shift
    cdef u128 v = (<u128><u64>value << shift) & mask
    p += f.offset >> 3
    i = n
    while i:
        i -= 1
        p[i] = <char>((<u8>p[i] & <u8>~mask) | <u8>v)
        mask >>= 8
        v >>= 8


cdef bint field_fit(Field* f, i64 value, i64 by, i64* out) noexcept nogil:
    """value + by as the field can hold it; False: it cannot, and OVERFLOW said FAIL."""
    cdef i128 sum_, low, high
    if f.is_signed:
        sum_ = <i128>value + <i128>by
        high = (<i128>1 << (f.bits - 1)) - 1
        low = -high - 1
    else:
        sum_ = <i128><u64>value + <i128>by
        high = (<i128>1 << f.bits) - 1
        low = 0
    if sum_ > high or sum_ < low:
        if f.fit == FIT_FAIL:
            return False
        if f.fit == FIT_SAT:
            # so far below that max - value overflows in Valkey, it counts as too high
            if f.is_signed and f.bits < 64 and by == 0 and high - sum_ > <i128>0x7FFFFFFFFFFFFFFF:
                sum_ = high
            else:
                sum_ = high if sum_ > high else low
    out[0] = trim(f, <u64>sum_)
    return True


cdef bint field_change(Ctx* c, char* p, size_t size, Field* f, bint grown) noexcept nogil:
    """SET or INCRBY, replied; did it write, and another value than before (or into a string that has grown)?"""
    cdef i64 old = field_load(p, size, f), fresh
    cdef bint fits
    if f.kind == FIELD_INCRBY:
        fits = field_fit(f, old, f.value, &fresh)
    else:
        fits = field_fit(f, f.value, 0, &fresh)
    if not fits:
        reply_null(c.out, c.resp)
        return False
    reply_int(c.out, fresh if f.kind == FIELD_INCRBY else old)
    if fresh == old:
        return grown
    field_store(p, f, fresh)
    return True


cdef char* field_string(Ctx* c, Entry* e, u64 last_bit, size_t* size, bint* grown) noexcept nogil:
    """The string of a BITFIELD that writes, so long that it has the last bit."""
    cdef char tmp[24]
    cdef const char* old
    cdef size_t have = 0 if e == NULL else string_value(e, tmp, &old)
    size[0] = (last_bit >> 3) + 1
    grown[0] = size[0] > have
    if size[0] < have:
        size[0] = have
    return string_writable(c, &c.key, size[0])


cdef void bitfield(Ctx* c, bint read_only) noexcept nogil:
    """All subcommands are checked before the first is carried out."""
    cdef i64 before
    cdef Field f
    cdef i64 at = 2, count = 0
    cdef u64 last_bit = 0
    cdef bint writes = False, grown = False
    cdef Entry* e
    cdef char tmp[24]
    cdef const char* p = NULL
    cdef size_t size = 0
    f.fit = FIT_WRAP
    while at < c.argc:
        at = field_args(c, at, &f)
        if at < 0:
            return
        count += f.kind != FIELD_OVERFLOW
        if f.kind >= FIELD_SET:
            writes = True
            if f.offset + f.bits - 1 > last_bit:
                last_bit = f.offset + f.bits - 1
    if writes and read_only:
        reply_error(c.out, b"ERR BITFIELD_RO only supports the GET subcommand")
        return
    e = lookup_write(c, &c.key) if writes else lookup_read(c, &c.key)
    if wrong_type(c, e, TYPE_STRING):
        return
    if writes:
        p = field_string(c, e, last_bit, &size, &grown)
    elif e != NULL:
        size = string_value(e, tmp, &p)
    reply_array(c.out, count)
    at = 2
    before = c.dirty
    f.fit = FIT_WRAP
    while at < c.argc:
        at = field_args(c, at, &f)
        if f.kind == FIELD_GET:
            reply_int(c.out, field_load(p, size, &f))
        elif f.kind != FIELD_OVERFLOW:
            c.dirty += field_change(c, <char*>p, size, &f, grown)
    if c.dirty != before:
        key_changed(c, &c.key, N_STRING, b"setbit")


cdef void cmd_bitfield(Ctx* c) noexcept nogil:
    bitfield(c, False)


cdef void cmd_bitfield_ro(Ctx* c) noexcept nogil:
    bitfield(c, True)


# ---- the rows

cdef dict about(str since, str complexity, str summary, str acl):
    return {"since": since, "group": "bitmap", "complexity": complexity, "summary": summary,
            "acl": acl}


cdef str O_BYTES = "O(N), N the bytes looked at"
cdef str O_FIELDS = "O(1) for each subcommand"

register("setbit", 4, "write denyoom", (1, 1, 1), cmd_setbit,
         about("2.2.0", "O(1)", "Sets or clears one bit; the string grows as far as needed.",
               "write bitmap slow"))
register("getbit", 3, "readonly fast", (1, 1, 1), cmd_getbit,
         about("2.2.0", "O(1)", "Reads one bit.", "read bitmap fast"))
register("bitcount", -2, "readonly", (1, 1, 1), cmd_bitcount,
         about("2.6.0", O_BYTES, "Counts the bits that are set, in all or a part of a string.",
               "read bitmap slow"))
register("bitpos", -3, "readonly", (1, 1, 1), cmd_bitpos,
         about("2.8.7", O_BYTES, "Finds the first bit that is set, or clear.", "read bitmap slow"))
register("bitop", -4, "write denyoom", (2, -1, 1), cmd_bitop,
         about("2.6.0", O_BYTES, "Combines strings bit by bit and stores the result.",
               "write bitmap slow"))
register("bitfield", -2, "write denyoom", (1, 1, 1), cmd_bitfield,
         about("3.2.0", O_FIELDS, "Reads, writes and adds to integers of any width in a string.",
               "write bitmap slow"))
register("bitfield_ro", -2, "readonly fast", (1, 1, 1), cmd_bitfield_ro,
         about("6.0.0", O_FIELDS, "Reads integers of any width in a string.", "read bitmap fast"))
