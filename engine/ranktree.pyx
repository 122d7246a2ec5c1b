# slotring: data plane
"""A counted B+tree of scores and members; see ranktree.pxd."""
from libc.string cimport memcpy, memmove, memcmp
from engine.defs cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_good_size
from engine.members cimport ITEM_BIG, ITEM_EXPIRE, ITEM_SCORE

cdef enum:
    LEAF_SPARSE = LEAF_MAX // 2    # at most so many: look for a neighbour to merge with
    LEAF_MERGED = LEAF_MAX - 4     # what a merged leaf may have: room is left, so that it is not split at once
    INNER_SPARSE = INNER_MAX // 2
    INNER_MERGED = INNER_MAX - 4

cdef struct Path:                  # from the root down: inner nodes and the child taken in each
    Inner* nodes[TREE_DEPTH_MAX]
    u32 at[TREE_DEPTH_MAX]


cdef inline size_t item_member(u8* i, const char** p) noexcept nogil:
    if unlikely(i[0] & ITEM_BIG):
        p[0] = <char*>i + 12 + ((i[0] & ITEM_EXPIRE) << 3) + ((i[0] & ITEM_SCORE) << 1)
        return (<u32*>(i + 4))[0]
    p[0] = <char*>i + 3 + ((i[0] & ITEM_EXPIRE) << 3) + ((i[0] & ITEM_SCORE) << 1)
    return i[1]


cdef inline int compare(const char* p, size_t n, const char* q, size_t m) noexcept nogil:
    """Order of two members: bytes, then length."""
    cdef int r = memcmp(p, q, n if n < m else m)
    if r:
        return r
    return (n > m) - (n < m)


cdef inline bint before(Pair* x, Bound* b) noexcept nogil:
    """Is a pair before a bound?"""
    cdef const char* p
    cdef size_t n
    if b.kind <= AFTER_SCORE:
        if x.score != b.score:
            return x.score < b.score
        if b.kind != BEFORE_PAIR:
            return b.kind == AFTER_SCORE
    n = item_member(x.item, &p)
    cdef int r = compare(p, n, b.p, b.n)
    return r < 0 or (r == 0 and b.kind == AFTER_LEX)


cdef inline u32 find_in_leaf(Leaf* l, Bound* b) noexcept nogil:
    """How many of a leaf's pairs are before the bound."""
    cdef u32 lo = 0, hi = l.n, mid
    while lo < hi:
        mid = (lo + hi) >> 1
        if before(&l.pairs[mid], b):
            lo = mid + 1
        else:
            hi = mid
    return lo


cdef inline u32 find_in_inner(Inner* x, Bound* b) noexcept nogil:
    """The child where the bound is: the last one whose first pair is before it."""
    cdef u32 lo = 1, hi = x.n, mid
    while lo < hi:
        mid = (lo + hi) >> 1
        if before(&x.firsts[mid], b):
            lo = mid + 1
        else:
            hi = mid
    return lo - 1


cdef inline void bound_of(Bound* b, double score, u8* item) noexcept nogil:
    b.kind = BEFORE_PAIR
    b.score = score
    b.n = item_member(item, &b.p)


cdef Leaf* descend(RankTree* t, Bound* b, Path* path) noexcept nogil:
    """The leaf where the bound is (or at whose end it is), and the way to it."""
    cdef void* x = t.root
    cdef u32 level, i
    for level in range(t.height):
        i = find_in_inner(<Inner*>x, b)
        path.nodes[level] = <Inner*>x
        path.at[level] = i
        x = (<Inner*>x).kids[i]
    return <Leaf*>x


cdef Leaf* descend_rank(RankTree* t, u32* rank, Path* path) noexcept nogil:
    """The leaf of the rank'th pair, which is there; *rank becomes its index in it."""
    cdef void* x = t.root
    cdef Inner* y
    cdef u32 level, i
    for level in range(t.height):
        y = <Inner*>x
        i = 0
        while rank[0] >= y.counts[i]:
            rank[0] -= y.counts[i]
            i += 1
        path.nodes[level] = y
        path.at[level] = i
        x = y.kids[i]
    return <Leaf*>x


cdef inline void descend_edge(RankTree* t, bint right, Path* path) noexcept nogil:
    """The way to the first or the last leaf."""
    cdef void* x = t.root
    cdef u32 level, i
    for level in range(t.height):
        i = (<Inner*>x).n - 1 if right else 0
        path.nodes[level] = <Inner*>x
        path.at[level] = i
        x = (<Inner*>x).kids[i]


cdef inline void add_counts(RankTree* t, Path* path, i32 by) noexcept nogil:
    cdef u32 level
    for level in range(t.height):
        path.nodes[level].counts[path.at[level]] += <u32>by


cdef void set_first(Path* path, u32 level, Pair* first) noexcept nogil:
    """A node's first pair changed (its parent is at `level` - 1): tell the ancestor that keeps it."""
    while level:
        level -= 1
        path.nodes[level].firsts[path.at[level]] = first[0]
        if path.at[level]:
            return


# ---- inserting

cdef inline void inner_open(Inner* x, u32 at) noexcept nogil:
    """Room for a child at a place."""
    cdef u32 more = x.n - at
    memmove(&x.kids[at + 1], &x.kids[at], more * sizeof(void*))
    memmove(&x.firsts[at + 1], &x.firsts[at], more * sizeof(Pair))
    memmove(&x.counts[at + 1], &x.counts[at], more * sizeof(u32))
    x.n += 1


cdef inline void inner_close(Inner* x, u32 at) noexcept nogil:
    """Take the child at a place out."""
    cdef u32 more = x.n - at - 1
    memmove(&x.kids[at], &x.kids[at + 1], more * sizeof(void*))
    memmove(&x.firsts[at], &x.firsts[at + 1], more * sizeof(Pair))
    memmove(&x.counts[at], &x.counts[at + 1], more * sizeof(u32))
    x.n -= 1


cdef inline void inner_append(Inner* to, Inner* x, u32 from_, u32 n) noexcept nogil:
    """Copy n children of x to the end of another node."""
    memcpy(&to.kids[to.n], &x.kids[from_], n * sizeof(void*))
    memcpy(&to.firsts[to.n], &x.firsts[from_], n * sizeof(Pair))
    memcpy(&to.counts[to.n], &x.counts[from_], n * sizeof(u32))
    to.n += n


cdef u32 inner_total(Inner* x) noexcept nogil:
    cdef u32 i, n = 0
    for i in range(x.n):
        n += x.counts[i]
    return n


cdef void add_child(Arena* a, RankTree* t, Path* path, u32 level, void* left, u32 left_count, Pair* left_first,
                    void* right, u32 right_count, Pair* right_first) noexcept nogil:
    """A node at depth `level` was split into two: put the right one beside it, splitting upwards as needed.

    The left one keeps its place in its parent; its first pair is told too, which only a new root needs."""
    cdef Inner* x
    cdef Inner* y
    cdef u32 at, keep, x_count
    cdef Pair x_first
    if level == 0:
        x = <Inner*>arena_alloc(a, sizeof(Inner))
        x.n = 2
        x.kids[0] = left
        x.kids[1] = right
        x.firsts[0] = left_first[0]
        x.firsts[1] = right_first[0]
        x.counts[0] = left_count
        x.counts[1] = right_count
        t.root = x
        t.height += 1
        return
    x = path.nodes[level - 1]
    at = path.at[level - 1]
    x.counts[at] = left_count
    if x.n < INNER_MAX:
        inner_open(x, at + 1)
        x.kids[at + 1] = right
        x.firsts[at + 1] = right_first[0]
        x.counts[at + 1] = right_count
        return
    y = <Inner*>arena_alloc(a, sizeof(Inner))
    y.n = 0
    keep = x.n if at + 1 == x.n else x.n // 2      # appending leaves full nodes behind
    inner_append(y, x, keep, x.n - keep)
    x.n = keep
    if at + 1 <= keep and keep < INNER_MAX:
        inner_open(x, at + 1)
        x.kids[at + 1] = right
        x.firsts[at + 1] = right_first[0]
        x.counts[at + 1] = right_count
    else:
        at = at + 1 - keep
        inner_open(y, at)
        y.kids[at] = right
        y.firsts[at] = right_first[0]
        y.counts[at] = right_count
    x_count = inner_total(x)
    x_first = x.firsts[0]
    add_child(a, t, path, level - 1, x, x_count, &x_first, y, inner_total(y), &y.firsts[0])


cdef Leaf* leaf_new(Arena* a, RankTree* t, Leaf* after) noexcept nogil:
    """A leaf behind another (NULL: before all)."""
    cdef Leaf* l = <Leaf*>arena_alloc(a, sizeof(Leaf))
    l.n = 0
    l.prev = after
    l.next = after.next if after != NULL else t.first
    if l.next != NULL:
        l.next.prev = l
    else:
        t.last = l
    if after != NULL:
        after.next = l
    else:
        t.first = l
    return l


cdef inline void leaf_put(Leaf* l, u32 i, Pair* x) noexcept nogil:
    memmove(&l.pairs[i + 1], &l.pairs[i], (l.n - i) * sizeof(Pair))
    l.pairs[i] = x[0]
    l.n += 1


cdef void tree_insert(Arena* a, RankTree* t, double score, u8* item) noexcept nogil:
    cdef Bound b
    cdef Path path
    cdef Pair x
    cdef Leaf* l
    cdef Leaf* r
    cdef u32 i, keep
    bound_of(&b, score, item)
    x.score = score
    x.item = item
    if t.root == NULL:
        t.root = leaf_new(a, t, NULL)
    l = t.last
    if l.n == 0 or before(&l.pairs[l.n - 1], &b):      # the usual case with times and sequences
        descend_edge(t, True, &path)
        i = l.n
    else:
        l = descend(t, &b, &path)
        i = find_in_leaf(l, &b)
    t.count += 1
    if likely(l.n < LEAF_MAX):
        leaf_put(l, i, &x)
        add_counts(t, &path, 1)
        if i == 0:
            set_first(&path, t.height, &x)
        return
    add_counts(t, &path, 1)
    r = leaf_new(a, t, l)
    keep = LEAF_MAX // 2
    if i == LEAF_MAX and r.next == NULL:
        keep = LEAF_MAX
    elif i == 0 and l.prev == NULL:
        keep = 0
    r.n = LEAF_MAX - keep
    memcpy(r.pairs, &l.pairs[keep], r.n * sizeof(Pair))
    l.n = keep
    if i <= keep and keep < LEAF_MAX:
        leaf_put(l, i, &x)
    else:
        leaf_put(r, i - keep, &x)
    if i == 0:
        set_first(&path, t.height, &x)
    add_child(a, t, &path, t.height, l, l.n, &l.pairs[0], r, r.n, &r.pairs[0])


# ---- removing

cdef void leaf_unlink(Arena* a, RankTree* t, Leaf* l) noexcept nogil:
    if l.prev != NULL:
        l.prev.next = l.next
    else:
        t.first = l.next
    if l.next != NULL:
        l.next.prev = l.prev
    else:
        t.last = l.prev
    arena_free(a, l)


cdef void drop_child(Arena* a, RankTree* t, Path* path, u32 level, u32 at) noexcept nogil:
    """Take a child (already freed) out of the inner node at depth `level`; merge that node if it became sparse."""
    cdef Inner* x = path.nodes[level]
    cdef Inner* y
    cdef Inner* parent
    cdef u32 i
    cdef void* only
    inner_close(x, at)
    if level == 0:
        while t.height and (<Inner*>t.root).n <= 1:
            x = <Inner*>t.root
            only = x.kids[0] if x.n else NULL
            arena_free(a, x)
            t.root = only
            t.height = t.height - 1 if only != NULL else 0
            if only == NULL:
                break
        return
    if at == 0 and x.n:
        set_first(path, level, &x.firsts[0])
    if x.n > INNER_SPARSE:
        return
    parent = path.nodes[level - 1]
    i = path.at[level - 1]
    if x.n == 0:
        arena_free(a, x)
        drop_child(a, t, path, level - 1, i)
        return
    if i + 1 < parent.n:
        y = <Inner*>parent.kids[i + 1]
        if x.n + y.n <= INNER_MERGED:
            y.firsts[0] = parent.firsts[i + 1]
            inner_append(x, y, 0, y.n)
            parent.counts[i] += parent.counts[i + 1]
            arena_free(a, y)
            drop_child(a, t, path, level - 1, i + 1)
            return
    if i > 0:
        y = <Inner*>parent.kids[i - 1]
        if x.n + y.n <= INNER_MERGED:
            x.firsts[0] = parent.firsts[i]
            inner_append(y, x, 0, x.n)
            parent.counts[i - 1] += parent.counts[i]
            arena_free(a, x)
            drop_child(a, t, path, level - 1, i)


cdef void leaf_take(Arena* a, RankTree* t, Path* path, Leaf* l, u32 i) noexcept nogil:
    """Take a pair out of a leaf."""
    cdef Inner* parent
    cdef Leaf* other
    cdef u32 at
    l.n -= 1
    memmove(&l.pairs[i], &l.pairs[i + 1], (l.n - i) * sizeof(Pair))
    t.count -= 1
    add_counts(t, path, -1)
    if t.height == 0:
        if l.n == 0:
            leaf_unlink(a, t, l)
            t.root = NULL
        return
    if i == 0 and l.n:
        set_first(path, t.height, &l.pairs[0])
    if l.n > LEAF_SPARSE:
        return
    parent = path.nodes[t.height - 1]
    at = path.at[t.height - 1]
    if l.n == 0:
        leaf_unlink(a, t, l)
        drop_child(a, t, path, t.height - 1, at)
        return
    if at + 1 < parent.n:
        other = <Leaf*>parent.kids[at + 1]
        if l.n + other.n <= LEAF_MERGED:
            memcpy(&l.pairs[l.n], other.pairs, other.n * sizeof(Pair))
            l.n += other.n
            parent.counts[at] = l.n
            leaf_unlink(a, t, other)
            drop_child(a, t, path, t.height - 1, at + 1)
            return
    if at > 0:
        other = <Leaf*>parent.kids[at - 1]
        if l.n + other.n <= LEAF_MERGED:
            memcpy(&other.pairs[other.n], l.pairs, l.n * sizeof(Pair))
            other.n += l.n
            parent.counts[at - 1] = other.n
            leaf_unlink(a, t, l)
            drop_child(a, t, path, t.height - 1, at)


cdef bint tree_remove(Arena* a, RankTree* t, double score, u8* item) noexcept nogil:
    cdef Bound b
    cdef Path path
    cdef Leaf* l
    cdef u32 i
    if t.root == NULL:
        return False
    bound_of(&b, score, item)
    if t.first.pairs[0].item == item:
        l = t.first
        descend_edge(t, False, &path)
        i = 0
    elif t.last.pairs[t.last.n - 1].item == item:
        l = t.last
        descend_edge(t, True, &path)
        i = l.n - 1
    else:
        # the leaf that may begin with the pair itself: look for what is at or behind it
        l = descend(t, &b, &path)
        i = find_in_leaf(l, &b)
        if i == l.n:
            l = next_leaf(t, l, &path)
            i = 0
    if l == NULL or l.pairs[i].item != item:
        return False
    leaf_take(a, t, &path, l, i)
    return True


cdef Leaf* next_leaf(RankTree* t, Leaf* l, Path* path) noexcept nogil:
    """Moves a path on to the leaf behind; NULL at the end."""
    cdef u32 level = t.height, down
    if l.next == NULL:
        return NULL
    while level:
        level -= 1
        if path.at[level] + 1 < path.nodes[level].n:
            path.at[level] += 1
            for down in range(level + 1, t.height):
                path.nodes[down] = <Inner*>path.nodes[down - 1].kids[path.at[down - 1]]
                path.at[down] = 0
            return l.next
    return NULL


cdef u8* tree_remove_at(Arena* a, RankTree* t, u32 rank) noexcept nogil:
    cdef Path path
    cdef Leaf* l
    cdef u8* item
    if rank >= t.count:
        return NULL
    if rank == 0:
        l = t.first
        descend_edge(t, False, &path)
    elif t.count - rank <= t.last.n:
        l = t.last
        descend_edge(t, True, &path)
        rank = l.n - (t.count - rank)
    else:
        l = descend_rank(t, &rank, &path)
    item = l.pairs[rank].item
    leaf_take(a, t, &path, l, rank)
    return item


# ---- looking

cdef u32 tree_rank(RankTree* t, Bound* b) noexcept nogil:
    cdef void* x = t.root
    cdef Inner* y
    cdef u32 level, i, j, rank = 0
    if x == NULL:
        return 0
    for level in range(t.height):
        y = <Inner*>x
        i = find_in_inner(y, b)
        x = y.kids[i]
        prefetch(x)
        for j in range(i):
            rank += y.counts[j]
    return rank + find_in_leaf(<Leaf*>x, b)


cdef void tree_at(RankTree* t, u32 rank, Place* at) noexcept nogil:
    cdef Path path
    if rank >= t.count:
        at.leaf = NULL
        at.i = 0
    elif rank < t.first.n:
        at.leaf = t.first
        at.i = rank
    elif t.count - rank <= t.last.n:
        at.leaf = t.last
        at.i = t.last.n - (t.count - rank)
    else:
        at.leaf = descend_rank(t, &rank, &path)
        at.i = rank


cdef void tree_moved(RankTree* t, double score, u8* item, u8* now) noexcept nogil:
    cdef Bound b
    cdef Path path
    cdef Leaf* l
    cdef u32 i
    bound_of(&b, score, now)
    if t.root == NULL:
        return
    l = descend(t, &b, &path)
    i = find_in_leaf(l, &b)
    if i == l.n:
        l = next_leaf(t, l, &path)
        i = 0
    if l != NULL and l.pairs[i].item == item:
        l.pairs[i].item = now
        if i == 0:
            set_first(&path, t.height, &l.pairs[0])


# ---- as a whole

cdef bint tree_free(Arena* a, RankTree* t, i64* budget) noexcept nogil:
    """Frees inner nodes at once (there are few), then leaves, at most *budget of them (counted down)."""
    cdef Leaf* l
    if t.height:
        free_inner(a, <Inner*>t.root, t.height)
        t.height = 0
    t.root = NULL
    t.count = 0
    while t.first != NULL and budget[0] > 0:
        l = t.first
        t.first = l.next
        arena_free(a, l)
        budget[0] -= 1
    t.last = NULL
    return t.first == NULL


cdef void free_inner(Arena* a, Inner* x, u32 height) noexcept nogil:
    cdef u32 i
    if height > 1:
        for i in range(x.n):
            free_inner(a, <Inner*>x.kids[i], height - 1)
    arena_free(a, x)


cdef u64 tree_bytes(RankTree* t) noexcept nogil:
    """Arena bytes of all nodes."""
    cdef u64 n = 0
    cdef Leaf* l = t.first
    while l != NULL:
        n += 1
        l = l.next
    n *= arena_good_size(sizeof(Leaf))
    if t.height:
        n += inner_count(<Inner*>t.root, t.height) * arena_good_size(sizeof(Inner))
    return n


cdef u64 inner_count(Inner* x, u32 height) noexcept nogil:
    cdef u64 n = 1
    cdef u32 i
    if height > 1:
        for i in range(x.n):
            n += inner_count(<Inner*>x.kids[i], height - 1)
    return n


cdef i64 check_node(void* x, u32 height, Pair* first, Leaf** walk) noexcept nogil:
    """Pairs below a node, -1 where something is wrong; *walk is the leaf that should come next."""
    cdef i64 total = 0, n
    cdef u32 i
    cdef Leaf* l
    cdef Inner* y
    cdef Pair below
    if height == 0:
        l = <Leaf*>x
        if l != walk[0] or l.n == 0 or l.n > LEAF_MAX:
            return -1
        walk[0] = l.next
        first[0] = l.pairs[0]
        return l.n
    y = <Inner*>x
    if y.n == 0 or y.n > INNER_MAX:
        return -1
    for i in range(y.n):
        n = check_node(y.kids[i], height - 1, &below, walk)
        if n < 0 or <u32>n != y.counts[i]:
            return -1
        if i == 0:
            first[0] = below
        elif below.item != y.firsts[i].item or below.score != y.firsts[i].score:
            return -1
        total += n
    return total


cdef bint tree_check(RankTree* t) noexcept nogil:
    cdef Leaf* walk = t.first
    cdef Pair first
    cdef Place at
    cdef Bound b
    cdef Pair* last = NULL
    if t.root == NULL:
        return t.count == 0 and t.first == NULL and t.last == NULL
    if check_node(t.root, t.height, &first, &walk) != t.count or walk != NULL:
        return False
    tree_at(t, 0, &at)
    while at.leaf != NULL:
        bound_of(&b, at.leaf.pairs[at.i].score, at.leaf.pairs[at.i].item)
        if last != NULL and not before(last, &b):
            return False
        last = &at.leaf.pairs[at.i]
        place_next(&at)
    return True
