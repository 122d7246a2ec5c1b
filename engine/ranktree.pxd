# The order of a sorted set: a counted B+tree of (score, item) pairs, by score, then by the member's bytes.
#
# Leaves hold up to LEAF_MAX pairs with the scores beside the items' addresses, so that a search reads items only where
# scores are equal; they are linked both ways for walks. An inner node has for each child its address, how many
# pairs are below it (rank in O(log n)), and its first pair. Nothing points upwards: a change keeps the path it came by.
# A leaf that is split by an append (or a prepend) stays full, so that sequential inserts fill leaves. A node that has
# become sparse is merged with a neighbour when both fit into one; there is no borrowing.
#
# Items are members.pxd's, with a score of their own; they belong to the table, the tree only points to them.
from engine.defs cimport *
from engine.arena cimport Arena

cdef enum:
    LEAF_MAX = 30
    INNER_MAX = 36
    TREE_DEPTH_MAX = 16            # levels: 2 ** 32 pairs in sparse nodes need fewer

    BEFORE_PAIR = 0                # pairs before (score, member)
    BEFORE_SCORE = 1               # pairs with a score below
    AFTER_SCORE = 2                # pairs with a score below, or that one
    BEFORE_LEX = 3                 # pairs with a member below (all scores are the same)
    AFTER_LEX = 4

cdef struct Pair:
    double score
    u8* item

cdef struct Leaf:
    Leaf* prev
    Leaf* next
    u32 n
    u32 pad
    Pair pairs[LEAF_MAX]

cdef struct Inner:
    u32 n
    u32 pad
    void* kids[INNER_MAX]
    Pair firsts[INNER_MAX]         # firsts[0] may be stale: it is the parent's to know
    u32 counts[INNER_MAX]

cdef struct RankTree:
    void* root                     # a Leaf where height is 0; NULL: empty
    Leaf* first
    Leaf* last
    u32 count
    u32 height

cdef struct Bound:                 # a place in the order
    int kind
    double score
    const char* p
    size_t n

cdef struct Place:                 # of a pair; leaf NULL: none
    Leaf* leaf
    u32 i

cdef void tree_insert(Arena* a, RankTree* t, double score, u8* item) noexcept nogil    # a pair that is not there
cdef bint tree_remove(Arena* a, RankTree* t, double score, u8* item) noexcept nogil
cdef u8* tree_remove_at(Arena* a, RankTree* t, u32 rank) noexcept nogil                # the item, or NULL
cdef u32 tree_rank(RankTree* t, Bound* b) noexcept nogil                               # pairs before the bound
cdef void tree_at(RankTree* t, u32 rank, Place* at) noexcept nogil
cdef void tree_moved(RankTree* t, double score, u8* item, u8* now) noexcept nogil      # an item has a new address
cdef bint tree_free(Arena* a, RankTree* t, i64* budget) noexcept nogil                 # True: all is gone
cdef u64 tree_bytes(RankTree* t) noexcept nogil
cdef bint tree_check(RankTree* t) noexcept nogil                                       # for tests


cdef inline void tree_init(RankTree* t) noexcept nogil:
    t.root = NULL
    t.first = t.last = NULL
    t.count = t.height = 0


cdef inline void place_next(Place* at) noexcept nogil:
    at.i += 1
    if at.i >= at.leaf.n:
        at.leaf = at.leaf.next
        at.i = 0
        if at.leaf != NULL:
            prefetch(at.leaf.next)


cdef inline void place_prev(Place* at) noexcept nogil:
    if at.i == 0:
        at.leaf = at.leaf.prev
        if at.leaf != NULL:
            at.i = at.leaf.n - 1
    else:
        at.i -= 1
