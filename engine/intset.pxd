# Intsets: a sorted array of distinct integers in one block, byte for byte Valkey's format (so that DUMP and RDB copy).
#
# Layout: u32 bytes of an integer (2, 4 or 8), u32 how many, the integers in ascending order, little endian. A wider
# integer widens all; it never narrows. Functions that may move the block return its new address; the block has the room
# its size class gives (arena_usable).
from engine.defs cimport *
from engine.arena cimport Arena

cdef enum:
    IS_HEADER = 8
    IS_LEN_MAX = 1 << 30           # integers; a set with more gets another encoding

cdef u8* is_new(Arena* a) noexcept nogil                       # an empty one
cdef u8* is_copy(Arena* to, u8* s) noexcept nogil
# place: the index of v, or where it would be put
cdef bint is_find(u8* s, i64 v, u32* place) noexcept nogil
cdef u8* is_add(Arena* a, u8* s, i64 v, bint* added) noexcept nogil
cdef u8* is_remove(Arena* a, u8* s, i64 v, bint* removed) noexcept nogil
cdef u8* is_remove_at(Arena* a, u8* s, u32 index) noexcept nogil
# keeps the integers whose index has a 0 in `gone` (one byte each)
cdef u8* is_keep(Arena* a, u8* s, const u8* gone) noexcept nogil
# is this, from anywhere, a whole intset that is not empty? Never reads past size.
cdef bint is_valid(const u8* s, size_t size) noexcept nogil


cdef inline u32 is_width(const u8* s) noexcept nogil:
    """Bytes of an integer."""
    return (<u32*>s)[0]


cdef inline u32 is_len(const u8* s) noexcept nogil:
    return (<u32*>s)[1]


cdef inline size_t is_bytes(const u8* s) noexcept nogil:
    return IS_HEADER + <size_t>is_len(s) * is_width(s)


cdef inline i64 is_get(const u8* s, u32 index) noexcept nogil:
    """The integer at an index that is there."""
    cdef u32 width = is_width(s)
    if width == 2:
        return (<int16_t*>(s + IS_HEADER))[index]
    if width == 4:
        return (<i32*>(s + IS_HEADER))[index]
    return (<i64*>(s + IS_HEADER))[index]
