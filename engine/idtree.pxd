# An ordered map from 128-bit ids to pointers: the nodes of a stream, the pending entries of a group and of a consumer.
#
# A B+tree in arena blocks. Leaves and inner nodes have one shape, an array of (id, pointer); an inner node's id is a
# lower bound of what is below its pointer (that of its first is not looked at). Leaves are linked. A node that fills up
# at the tree's end is left full and a new one begun, since ids mostly come in ascending order; one that is nearly empty
# is merged with its neighbour. A tree of few entries is one small leaf that grows by doubling.
from engine.defs cimport *
from engine.arena cimport Arena

cdef enum:
    IDTREE_CAP = 33                # entries of a full-sized node: 816 bytes
    IDTREE_LEVELS = 16

cdef struct IdEntry:
    u64 ms
    u64 seq
    void* v

cdef struct IdNode:
    u16 n
    u16 cap
    u16 level                      # 0: a leaf
    u16 pad
    IdNode* next                   # of leaves
    IdNode* prev
    IdEntry e[0]

cdef struct IdTree:                # 24 bytes
    IdNode* root                   # NULL: empty
    IdNode* last                   # the last leaf
    u64 count

cdef struct IdPos:                 # a place in the tree; dies with any change to it
    IdNode* node                   # NULL: none
    u32 at

ctypedef void (*id_free_fn)(Arena* a, void* v) noexcept nogil

cdef void** idtree_find(IdTree* t, u128 id_) noexcept nogil                # the pointer's place, or NULL
cdef bint idtree_add(Arena* a, IdTree* t, u128 id_, void* v) noexcept nogil    # False: it is there already
cdef void* idtree_remove(Arena* a, IdTree* t, u128 id_) noexcept nogil     # the pointer, or NULL
cdef bint idtree_ge(IdTree* t, u128 id_, IdPos* p) noexcept nogil          # the first at or after id
cdef bint idtree_le(IdTree* t, u128 id_, IdPos* p) noexcept nogil          # the last at or before id
cdef bint idtree_next(IdPos* p) noexcept nogil
cdef bint idtree_prev(IdPos* p) noexcept nogil
# frees entries from the end (fn, if not NULL, what they point to) and nodes, about *budget blocks; True: all is gone
cdef bint idtree_free(Arena* a, IdTree* t, id_free_fn fn, i64* budget) noexcept nogil
cdef u64 idtree_bytes(IdTree* t) noexcept nogil                           # of its nodes; estimated if they are many


cdef inline u128 id_of(u64 ms, u64 seq) noexcept nogil:
    return (<u128>ms << 64) | seq


cdef inline u64 id_ms(u128 id_) noexcept nogil:
    return <u64>(id_ >> 64)


cdef inline u64 id_seq(u128 id_) noexcept nogil:
    return <u64>id_


cdef inline void idtree_init(IdTree* t) noexcept nogil:
    t.root = t.last = NULL
    t.count = 0


cdef inline u128 entry_id(IdEntry* e) noexcept nogil:
    return (<u128>e.ms << 64) | e.seq


cdef inline IdEntry* pos_entry(IdPos* p) noexcept nogil:
    return &p.node.e[p.at]


cdef inline u128 pos_id(IdPos* p) noexcept nogil:
    return entry_id(&p.node.e[p.at])


cdef inline IdEntry* idtree_last(IdTree* t) noexcept nogil:
    """The last entry, or NULL."""
    return NULL if t.last == NULL else &t.last.e[t.last.n - 1]
