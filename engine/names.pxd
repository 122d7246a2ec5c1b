# A sorted list of things that have a name: the groups of a stream, the consumers of a group.
#
# Blocks of at most NAMES_BLOCK pointers, in the order of the names' bytes (a prefix first), and a directory of the
# blocks. A thing begins with Named, which says where its name is.
from engine.defs cimport *
from engine.arena cimport Arena

cdef enum:
    NAMES_BLOCK = 127

cdef struct Named:                 # what a named thing begins with
    u32 len
    u32 at                         # bytes from the thing's beginning to its name

cdef struct NameBlock:
    u32 n
    u32 cap
    Named* item[0]

cdef struct Names:                 # 24 bytes
    NameBlock** blocks
    u32 used                       # blocks
    u32 cap
    u64 count

cdef struct NamesPos:
    u32 block
    u32 at

cdef Named* names_find(Names* t, const char* s, size_t n, NamesPos* p) noexcept nogil   # NULL; p: where it would be
cdef void names_insert(Arena* a, Names* t, Named* x, NamesPos* p) noexcept nogil        # where names_find said
cdef void names_remove(Arena* a, Names* t, NamesPos* p) noexcept nogil                  # where names_find said
cdef u64 names_bytes(Names* t) noexcept nogil


cdef inline void names_init(Names* t) noexcept nogil:
    t.blocks = NULL
    t.used = t.cap = 0
    t.count = 0


cdef inline char* name_of(Named* x) noexcept nogil:
    return <char*>x + x.at


cdef inline Named* names_at(Names* t, NamesPos* p) noexcept nogil:
    """The thing at a place, and the place one further; NULL at the end. Begin with a place of zeros."""
    cdef Named* x
    if p.block >= t.used:
        return NULL
    x = t.blocks[p.block].item[p.at]
    p.at += 1
    if p.at == t.blocks[p.block].n:
        p.block += 1
        p.at = 0
    return x


cdef inline Named* names_last(Names* t, NamesPos* p) noexcept nogil:
    """The last thing and its place, or NULL."""
    if t.used == 0:
        return NULL
    p.block = t.used - 1
    p.at = t.blocks[p.block].n - 1
    return t.blocks[p.block].item[p.at]
