# slotring: data plane
"""Loads the RDB forms that older servers wrote and 9.1 still reads: ziplists and zipmaps, by turning them into forms
of today and giving those to the families' loaders.

A ziplist: u32 bytes, u32 place of the last entry, u16 entries (65535: count them), entries, 0xFF. An entry: the length
of the one before it (1 byte, or 0xFE and 4 bytes), an encoding with the length of a string or the size of an integer,
and the string or integer. A zipmap: entries (254: count them), then field and value in turn, each behind its length (1
byte, or 0xFE and 4 bytes) and a value's also behind a byte that tells how many unused bytes follow it, 0xFF."""
from libc.string cimport memcpy
from engine.defs cimport *
from engine.arena cimport Arena, arena_free
from engine.listpack cimport lp_append, lp_bytes, lp_fits, lp_new
from engine.rdbio cimport *
from engine.store cimport *

cdef enum:
    ZIPLIST_HEAD = 10
    LONG_LENGTH = 0xFE
    END = 0xFF
    PACKED_NODE = 2            # of LIST_QUICKLIST_2: a listpack follows


cdef inline u64 number_at(const u8* p, u32 n) noexcept nogil:
    """n bytes, little endian."""
    cdef u64 v = 0
    memcpy(&v, p, n)
    return v


cdef inline i64 signed_at(const u8* p, u32 n) noexcept nogil:
    return <i64>(number_at(p, n) << (64 - 8 * n)) >> (64 - 8 * n)


cdef inline u32 int_bytes(u8 enc) noexcept nogil:
    """Bytes of an integer of this encoding; 0: it is in the encoding itself, 255: there is no such encoding."""
    if enc == 0xC0:
        return 2
    if enc == 0xD0:
        return 4
    if enc == 0xE0:
        return 8
    if enc == 0xF0:
        return 3
    if enc == 0xFE:
        return 1
    return 0 if 0xF1 <= enc <= 0xFD else 255


cdef size_t ziplist_entry(const u8* p, size_t left, u64 before, RdbOut* o) noexcept nogil:
    """The entry at p (left: bytes to the end mark) goes to o; returns its length, 0: it is corrupt."""
    cdef size_t head = 1 if p[0] < LONG_LENGTH else 5, n, head_end
    cdef u8 enc
    if left <= head or (number_at(p + 1, 4) if head == 5 else p[0]) != before:
        return 0
    enc = p[head]
    if enc >= 0xC0:
        n = int_bytes(enc)
        if n == 255 or left < head + 1 + n:
            return 0
        rdb_out_int(o, signed_at(p + head + 1, <u32>n) if n else (enc & 15) - 1)
        return head + 1 + n
    head_end = head + (1 if enc < 0x40 else (2 if enc < 0x80 else 5))
    if left < head_end:
        return 0
    if enc < 0x40:
        n = enc
    elif enc < 0x80:
        n = (enc & 63) << 8 | p[head + 1]
    else:
        n = bswap64(number_at(p + head + 1, 4)) >> 32
    if left - head_end < n:
        return 0
    rdb_out_string(o, <const char*>p + head_end, n)
    return head_end + n


cdef bint ziplist_strings(const u8* z, size_t size, RdbOut* o, u64* count) noexcept nogil:
    """All elements of a ziplist as RDB strings, added to o and count. False: it is corrupt."""
    cdef size_t at = ZIPLIST_HEAD, last = ZIPLIST_HEAD, n = 0
    cdef u64 found = 0
    if size < ZIPLIST_HEAD + 1 or number_at(z, 4) != size or z[size - 1] != END:
        return False
    while z[at] != END:
        n = ziplist_entry(z + at, size - 1 - at, n, o)
        if n == 0:
            return False
        last = at
        at += n
        found += 1
    count[0] += found
    return (at == size - 1 and number_at(z + 4, 4) <= size - 1 and (found == 0 or number_at(z + 4, 4) == last)
            and (number_at(z + 8, 2) == 65535 or number_at(z + 8, 2) == found))


cdef size_t zipmap_length(const u8* p, size_t left, u64* n) noexcept nogil:
    """The length at p; returns how many bytes it takes, 0: it is corrupt."""
    n[0] = p[0]
    if p[0] < LONG_LENGTH:
        return 1
    if left < 5:
        return 0
    n[0] = number_at(p + 1, 4)
    return 5 if p[0] == LONG_LENGTH and n[0] >= LONG_LENGTH else 0


cdef bint zipmap_strings(const u8* z, size_t size, RdbOut* o, u64* count) noexcept nogil:
    """All fields and values of a zipmap as RDB strings; count: of fields. False: it is corrupt or empty."""
    cdef size_t at = 1, head, unused
    cdef u64 n
    cdef int which
    if size < 2 or z[size - 1] != END:
        return False
    while z[at] != END:
        for which in range(2):
            head = zipmap_length(z + at, size - 1 - at, &n)
            at += head
            unused = 0
            if head == 0 or at >= size - 1:
                return False
            if which:
                unused = z[at]
                at += 1
            if n + unused > size - 1 - at:
                return False
            rdb_out_string(o, <const char*>z + at, n)
            at += n + unused
            if at >= size - 1 and not which:
                return False
        count[0] += 1
    return at == size - 1 and count[0] > 0 and (z[0] >= LONG_LENGTH or z[0] == count[0])


cdef void out_start(RdbOut* o) noexcept nogil:
    o.p = NULL
    o.len = o.cap = 0
    o.compress = False


cdef bint out_listpack(Arena* a, RdbOut* o, RdbOut* strings, u64 count) noexcept nogil:
    """RDB strings as one listpack, added to o. False: they are too large for one."""
    cdef RdbIn sub
    cdef u8* lp = lp_new(a, strings.len)
    cdef char tmp[24]
    cdef const char* s
    cdef size_t n
    rdb_in_init(&sub, strings.p, strings.len)
    while count and lp_fits(lp, strings.len):
        n = rdb_in_string(&sub, tmp, &s)
        lp = lp_append(a, lp, s, n)
        count -= 1
    rdb_in_done(&sub)
    rdb_out_length(o, lp_bytes(lp))
    rdb_out_bytes(o, lp, lp_bytes(lp))
    arena_free(a, lp)
    return count == 0


cdef void read_nodes(Arena* a, RdbIn* in_, RdbOut* o, u64* count) noexcept nogil:
    """LIST_QUICKLIST's ziplists as LIST_QUICKLIST_2's nodes; the empty ones are left out."""
    cdef RdbOut strings
    cdef u64 nodes = rdb_in_length(in_), elements
    cdef char tmp[24]
    cdef const char* s
    cdef size_t n
    if nodes > rdb_in_left(in_):
        in_.bad = True
    out_start(&strings)
    while nodes and not in_.bad:
        n = rdb_in_string(in_, tmp, &s)
        strings.len = 0
        elements = 0
        if in_.bad or not ziplist_strings(<const u8*>s, n, &strings, &elements):
            in_.bad = True
        elif elements:
            rdb_out_length(o, PACKED_NODE)
            in_.bad = not out_listpack(a, o, &strings, elements)
            count[0] += 1
        nodes -= 1
    rdb_out_free(&strings)


cdef void read_strings(RdbIn* in_, int rdb_type, RdbOut* o, u64* count) noexcept nogil:
    """The elements of a ziplist, or the fields and values of a zipmap (count: of fields)."""
    cdef char tmp[24]
    cdef const char* s
    cdef size_t n = rdb_in_string(in_, tmp, &s)
    cdef bint good
    if rdb_type == RDB_TYPE_HASH_ZIPMAP:
        good = zipmap_strings(<const u8*>s, n, o, count)
    else:
        good = ziplist_strings(<const u8*>s, n, o, count)
    in_.bad = in_.bad or not good


cdef void* load_old(Arena* a, RdbIn* in_, int rdb_type, int* enc, u32* flags, i64 now_ms) noexcept nogil:
    """Every old form: a string that is a ziplist or zipmap; LIST_QUICKLIST: a count and that many ziplists."""
    cdef RdbOut parts, whole
    cdef RdbIn sub
    cdef u64 count = 0
    cdef void* value = NULL
    cdef int now_type = RDB_TYPE_LIST
    out_start(&parts)
    out_start(&whole)
    if rdb_type == RDB_TYPE_LIST_QUICKLIST:
        now_type = RDB_TYPE_LIST_QUICKLIST_2
        read_nodes(a, in_, &parts, &count)
    else:
        read_strings(in_, rdb_type, &parts, &count)
    if not in_.bad and count:
        if rdb_type == RDB_TYPE_HASH_ZIPLIST or rdb_type == RDB_TYPE_ZSET_ZIPLIST:
            now_type = RDB_TYPE_HASH_LISTPACK if rdb_type == RDB_TYPE_HASH_ZIPLIST else RDB_TYPE_ZSET_LISTPACK
            in_.bad = not out_listpack(a, &whole, &parts, count)
        else:
            now_type = RDB_TYPE_HASH if rdb_type == RDB_TYPE_HASH_ZIPMAP else now_type
            rdb_out_length(&whole, count)
            rdb_out_bytes(&whole, parts.p, parts.len)
        rdb_in_init(&sub, whole.p, whole.len)
        if load_ops[now_type].load != NULL and not in_.bad:
            value = load_ops[now_type].load(a, &sub, now_type, enc, flags, now_ms)
        rdb_in_done(&sub)
    rdb_out_free(&parts)
    rdb_out_free(&whole)
    in_.bad = in_.bad or value == NULL
    return value


cdef void fill_in(int rdb_type, int type_) noexcept nogil:
    load_ops[rdb_type].load = load_old
    load_ops[rdb_type].type_ = type_


fill_in(RDB_TYPE_LIST_ZIPLIST, TYPE_LIST)
fill_in(RDB_TYPE_LIST_QUICKLIST, TYPE_LIST)
fill_in(RDB_TYPE_ZSET_ZIPLIST, TYPE_ZSET)
fill_in(RDB_TYPE_HASH_ZIPLIST, TYPE_HASH)
fill_in(RDB_TYPE_HASH_ZIPMAP, TYPE_HASH)
