# Listpacks: a sequence of strings and integers in one block, byte for byte Valkey's format (so that DUMP and RDB copy).
#
# Layout: u32 total bytes, u16 elements (65535: count them), entries, 0xFF. An entry is encoding + data + its own
# length once more, 7 bits a byte, for walking backwards. A string that is the canonical text of an int64 is kept as
# an integer of 1 to 9 bytes. Numbers are little endian.
#
# A function that may move the block returns its new address; `p` arguments are places of elements in it, and die with
# it unless the function says where it went. The block has the room its size class gives (arena_usable).
from engine.defs cimport *
from engine.arena cimport Arena
from engine.reply cimport write_i64

cdef enum:
    LP_HEADER = 6
    LP_EOF = 0xFF
    LP_BYTES_MAX = 1 << 30         # lp_fits refuses beyond

    LP_BEFORE = 0
    LP_AFTER = 1
    LP_REPLACE = 2

cdef struct LpValue:               # an element, decoded
    const char* s                  # NULL: an integer
    size_t n
    i64 v

cdef struct LpCoded:               # an element ready to be put: head, then (for strings) the string itself
    u8 head[16]
    u32 head_n
    const char* s
    size_t n
    size_t body                    # head and string
    size_t all_                    # and the length behind

cdef void lp_code(LpCoded* e, const char* s, size_t n) noexcept nogil
cdef void lp_code_int(LpCoded* e, i64 v) noexcept nogil
cdef void lp_put(u8* p, LpCoded* e) noexcept nogil             # all_ bytes at p
cdef u8* lp_new(Arena* a, size_t room) noexcept nogil          # an empty one; room: bytes expected, 0 will do
cdef u8* lp_copy(Arena* to, u8* lp) noexcept nogil
cdef u8* lp_append(Arena* a, u8* lp, const char* s, size_t n) noexcept nogil
cdef u8* lp_prepend(Arena* a, u8* lp, const char* s, size_t n) noexcept nogil
cdef u8* lp_append_int(Arena* a, u8* lp, i64 v) noexcept nogil
# before, after or instead of the element at p; at[0] (if not NULL) becomes the place of the new element
cdef u8* lp_insert(Arena* a, u8* lp, u8* p, const char* s, size_t n, int where, u8** at) noexcept nogil
cdef u8* lp_insert_int(Arena* a, u8* lp, u8* p, i64 v, int where, u8** at) noexcept nogil
# at[0] (if not NULL) becomes the place of the element after the deleted one, NULL at the end
cdef u8* lp_delete(Arena* a, u8* lp, u8* p, u8** at) noexcept nogil
cdef u8* lp_delete_many(Arena* a, u8* lp, u8* p, u64 many, u8** at) noexcept nogil
cdef u8* lp_delete_index(Arena* a, u8* lp, i64 index, u64 many) noexcept nogil   # negative: from the end
cdef u8* lp_concat(Arena* a, u8* lp, u8* more) noexcept nogil  # lp gets more's elements at its end; more is freed
cdef u8* lp_shrink(Arena* a, u8* lp) noexcept nogil            # to the smallest size class that holds it
cdef u8* lp_seek(u8* lp, i64 index) noexcept nogil             # NULL: there is none
cdef u32 lp_count_slow(u8* lp) noexcept nogil
# the first element equal to the string from p on, looking at every (skip + 1)th; NULL: none
cdef u8* lp_find(u8* lp, u8* p, const char* s, size_t n, u32 skip) noexcept nogil
cdef bint lp_equals(u8* p, const char* s, size_t n) noexcept nogil
# is this, from anywhere, a whole listpack? Every entry is walked. Never reads past size.
cdef bint lp_valid(const u8* lp, size_t size) noexcept nogil
# are the elements (every (skip + 1)th) all different? A forged one may say what it likes
cdef bint lp_distinct(u8* lp, u32 skip) noexcept nogil
cdef size_t lp_entry_bytes(const char* s, size_t n) noexcept nogil     # what this string would take as an element


cdef inline u32 lp_bytes(u8* lp) noexcept nogil:
    return (<u32*>lp)[0]


cdef inline u32 lp_len(u8* lp) noexcept nogil:
    """Elements."""
    cdef u32 n = (<u16*>(lp + 4))[0]
    if unlikely(n == 65535):
        return lp_count_slow(lp)
    return n


cdef inline u8* lp_first(u8* lp) noexcept nogil:
    """The first element's place, or NULL."""
    return NULL if lp[LP_HEADER] == LP_EOF else lp + LP_HEADER


cdef inline bint lp_fits(u8* lp, size_t more) noexcept nogil:
    """May `more` bytes be added?"""
    return (0 if lp == NULL else lp_bytes(lp)) + more <= LP_BYTES_MAX


cdef inline size_t lp_backlen_bytes(size_t n) noexcept nogil:
    """How many bytes the length n takes behind an entry."""
    if likely(n <= 127):
        return 1
    if n <= 16383:
        return 2
    if n <= 2097151:
        return 3
    return 4 if n <= 268435455 else 5


cdef inline size_t lp_body_bytes(const u8* p) noexcept nogil:
    """Encoding and data of the element at p, in bytes, without the length behind it."""
    cdef u8 b = p[0]
    if b < 0x80:
        return 1
    if b < 0xC0:
        return 1 + (b & 63)
    if b < 0xE0:
        return 2
    if b < 0xF0:
        return 2 + ((<size_t>(b & 15) << 8) | p[1])
    if b == 0xF0:
        return 5 + <size_t>(<u32*>(p + 1))[0]
    if b == 0xF1:
        return 3
    if b == 0xF2:
        return 4
    if b == 0xF3:
        return 5
    return 9 if b == 0xF4 else 1


cdef inline u8* lp_skip(u8* p) noexcept nogil:
    """The place after the element at p: of the next one, or of the end mark."""
    cdef size_t n = lp_body_bytes(p)
    return p + n + lp_backlen_bytes(n)


cdef inline u8* lp_next(u8* lp, u8* p) noexcept nogil:
    """NULL at the end."""
    p = lp_skip(p)
    return NULL if p[0] == LP_EOF else p


cdef inline u8* lp_prev(u8* lp, u8* p) noexcept nogil:
    """The element before p (which may be the end mark); NULL before the first."""
    cdef size_t n = 0
    cdef u32 shift = 0
    if p == lp + LP_HEADER:
        return NULL
    while True:
        p -= 1
        n |= <size_t>(p[0] & 127) << shift
        if not p[0] & 128 or shift >= 28:
            break
        shift += 7
    return p - n


cdef inline void lp_get(u8* p, LpValue* v) noexcept nogil:
    """Decode the element at p."""
    cdef u8 b = p[0]
    cdef i64 n
    v.s = NULL
    if b < 0x80:
        v.v = b
    elif b < 0xC0:
        v.s = <char*>p + 1
        v.n = b & 63
    elif b < 0xE0:
        n = (<i64>(b & 31) << 8) | p[1]
        v.v = n - 8192 if n >= 4096 else n
    elif b < 0xF0:
        v.s = <char*>p + 2
        v.n = (<size_t>(b & 15) << 8) | p[1]
    elif b == 0xF0:
        v.s = <char*>p + 5
        v.n = (<u32*>(p + 1))[0]
    elif b == 0xF1:
        v.v = (<int16_t*>(p + 1))[0]
    elif b == 0xF2:
        v.v = <i32>((<u32>p[1] << 8) | (<u32>p[2] << 16) | (<u32>p[3] << 24)) >> 8
    elif b == 0xF3:
        v.v = (<i32*>(p + 1))[0]
    else:
        v.v = (<i64*>(p + 1))[0]


cdef inline size_t lp_text(u8* p, char* tmp, const char** s) noexcept nogil:
    """The element's bytes; integers are printed into tmp (24 bytes)."""
    cdef LpValue v
    lp_get(p, &v)
    if v.s != NULL:
        s[0] = v.s
        return v.n
    s[0] = tmp
    return write_i64(tmp, v.v)


cdef inline u8* lp_last(u8* lp) noexcept nogil:
    """The last element's place, or NULL."""
    return lp_prev(lp, lp + lp_bytes(lp) - 1)
