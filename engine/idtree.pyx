# slotring: data plane
"""The ordered map of stream ids; see idtree.pxd."""
from libc.string cimport memcpy, memmove
from engine.defs cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_usable

cdef enum:
    HEAD = 24                      # bytes of an IdNode before its entries
    MERGE_BELOW = 8                # a node with fewer entries is merged with a neighbour where both fit
    EXACT_BYTES_MAX = 4096         # entries; idtree_bytes estimates beyond

cdef struct Path:                  # from the root to a leaf
    IdNode* node[IDTREE_LEVELS]
    u32 at[IDTREE_LEVELS]
    i32 depth                      # index of the leaf


cdef IdNode* node_new(Arena* a, u32 cap, u32 level) noexcept nogil:
    cdef IdNode* x = <IdNode*>arena_alloc(a, HEAD + cap * sizeof(IdEntry))
    cdef size_t room = (arena_usable(x) - HEAD) // sizeof(IdEntry)
    x.n = 0
    x.cap = <u16>(room if room < IDTREE_CAP else IDTREE_CAP)
    x.level = <u16>level
    x.next = x.prev = NULL
    return x


cdef inline u32 upper(IdNode* x, u128 id_) noexcept nogil:
    """How many of a node's ids are at most id."""
    cdef u32 lo = 0, hi = x.n, mid
    while lo < hi:
        mid = (lo + hi) >> 1
        if entry_id(&x.e[mid]) <= id_:
            lo = mid + 1
        else:
            hi = mid
    return lo


cdef inline u32 child_at(IdNode* x, u128 id_) noexcept nogil:
    cdef u32 k = upper(x, id_)
    return k - 1 if k else 0


cdef inline IdNode* leaf_of(IdTree* t, u128 id_) noexcept nogil:
    """The leaf that id belongs to; the tree is not empty."""
    cdef IdNode* x = t.root
    while x.level:
        x = <IdNode*>x.e[child_at(x, id_)].v
    return x


cdef void** idtree_find(IdTree* t, u128 id_) noexcept nogil:
    cdef IdNode* x
    cdef u32 k
    if t.root == NULL:
        return NULL
    x = leaf_of(t, id_)
    k = upper(x, id_)
    if k == 0 or entry_id(&x.e[k - 1]) != id_:
        return NULL
    return &x.e[k - 1].v


cdef IdNode* descend(IdTree* t, u128 id_, Path* path) noexcept nogil:
    cdef IdNode* x = t.root
    cdef i32 d = 0
    while x.level:
        path.node[d] = x
        path.at[d] = child_at(x, id_)
        x = <IdNode*>x.e[path.at[d]].v
        d += 1
    path.node[d] = x
    path.depth = d
    return x


cdef inline void place(IdNode* x, u32 at, u128 id_, void* v) noexcept nogil:
    """An entry at a place of a node that has room."""
    if at < x.n:
        memmove(&x.e[at + 1], &x.e[at], (x.n - at) * sizeof(IdEntry))
    x.e[at].ms = id_ms(id_)
    x.e[at].seq = id_seq(id_)
    x.e[at].v = v
    x.n += 1


cdef IdNode* resize(Arena* a, IdTree* t, Path* path, i32 d, u32 cap) noexcept nogil:
    """A node in a block for cap entries, known to its parent and neighbours."""
    cdef IdNode* old = path.node[d]
    cdef IdNode* x = node_new(a, cap, old.level)
    memcpy(x.e, old.e, old.n * sizeof(IdEntry))
    x.n = old.n
    x.next = old.next
    x.prev = old.prev
    if x.level == 0:
        if x.next != NULL:
            x.next.prev = x
        if x.prev != NULL:
            x.prev.next = x
        if t.last == old:
            t.last = x
    if d:
        path.node[d - 1].e[path.at[d - 1]].v = x
    else:
        t.root = x
    path.node[d] = x
    arena_free(a, old)
    return x


cdef IdNode* split(Arena* a, IdTree* t, IdNode* x, u32* at) noexcept nogil:
    """A new right neighbour of a full node; at: where an entry is to go, afterwards its place in the right one of the
    two (x if it is at most x.n)."""
    cdef IdNode* y = node_new(a, IDTREE_CAP, x.level)
    cdef u32 keep = x.n // 2
    if at[0] == x.n:               # at the end, where more will follow: x stays full
        keep = x.n
    memcpy(y.e, &x.e[keep], (x.n - keep) * sizeof(IdEntry))
    y.n = <u16>(x.n - keep)
    x.n = <u16>keep
    if x.level == 0:
        y.next = x.next
        y.prev = x
        if y.next != NULL:
            y.next.prev = y
        x.next = y
        if t.last == x:
            t.last = y
    return y


cdef bint idtree_add(Arena* a, IdTree* t, u128 id_, void* v) noexcept nogil:
    cdef Path path
    cdef IdNode* x = t.last
    cdef IdNode* y
    cdef i32 d
    cdef u32 at
    if x == NULL:
        x = node_new(a, 1, 0)
        place(x, 0, id_, v)
        t.root = t.last = x
        t.count = 1
        return True
    if x.n < x.cap and entry_id(&x.e[x.n - 1]) < id_:
        place(x, x.n, id_, v)
        t.count += 1
        return True
    x = descend(t, id_, &path)
    at = upper(x, id_)
    if at and entry_id(&x.e[at - 1]) == id_:
        return False
    t.count += 1
    d = path.depth
    while True:
        if x.n == x.cap and x.cap < IDTREE_CAP:
            x = resize(a, t, &path, d, x.cap * 2 if x.cap * 2 < IDTREE_CAP else IDTREE_CAP)
        if x.n < x.cap:
            place(x, at, id_, v)
            return True
        y = split(a, t, x, &at)
        if at > x.n or y.n == 0:
            place(y, at - x.n, id_, v)
        else:
            place(x, at, id_, v)
        # y goes into the parent
        id_ = entry_id(&y.e[0])
        v = y
        if d == 0:
            y = node_new(a, 2, x.level + 1)
            place(y, 0, entry_id(&x.e[0]), x)
            place(y, 1, id_, v)
            t.root = y
            return True
        d -= 1
        x = path.node[d]
        at = path.at[d] + 1


cdef inline void take(IdNode* x, u32 at) noexcept nogil:
    x.n -= 1
    memmove(&x.e[at], &x.e[at + 1], (x.n - at) * sizeof(IdEntry))


cdef void unlink(IdTree* t, IdNode* x) noexcept nogil:
    """Take a leaf out of the chain."""
    if x.next != NULL:
        x.next.prev = x.prev
    if x.prev != NULL:
        x.prev.next = x.next
    if t.last == x:
        t.last = x.prev


cdef bint merge(Arena* a, IdTree* t, IdNode* parent, u32 left) noexcept nogil:
    """Give the node at place `left` what its right neighbour has, if that fits; False: it does not."""
    cdef IdNode* x = <IdNode*>parent.e[left].v
    cdef IdNode* y = <IdNode*>parent.e[left + 1].v
    if x.n + y.n > x.cap - 2:
        return False
    y.e[0].ms = parent.e[left + 1].ms if y.level else y.e[0].ms
    y.e[0].seq = parent.e[left + 1].seq if y.level else y.e[0].seq
    memcpy(&x.e[x.n], y.e, y.n * sizeof(IdEntry))
    x.n += y.n
    if y.level == 0:
        unlink(t, y)
    arena_free(a, y)
    take(parent, left + 1)
    return True


cdef void settle(Arena* a, IdTree* t, Path* path) noexcept nogil:
    """After a removal: free what is empty, merge what is nearly so, from the leaf up."""
    cdef i32 d = path.depth
    cdef IdNode* x
    cdef IdNode* parent
    while d:
        x = path.node[d]
        parent = path.node[d - 1]
        if x.n == 0:
            if x.level == 0:
                unlink(t, x)
            arena_free(a, x)
            take(parent, path.at[d - 1])
        elif x.n < MERGE_BELOW:
            if not (path.at[d - 1] + 1 < parent.n and merge(a, t, parent, path.at[d - 1])) and \
                    not (path.at[d - 1] and merge(a, t, parent, path.at[d - 1] - 1)):
                return
        else:
            return
        d -= 1
    x = t.root
    while x.level and x.n == 1:
        t.root = <IdNode*>x.e[0].v
        arena_free(a, x)
        x = t.root
    if x.n == 0:
        arena_free(a, x)
        t.root = t.last = NULL
    elif x.level == 0 and x.n * 4 <= x.cap and x.cap > 4:
        path.node[0] = x
        resize(a, t, path, 0, x.n * 2)


cdef void* idtree_remove(Arena* a, IdTree* t, u128 id_) noexcept nogil:
    cdef Path path
    cdef IdNode* x
    cdef u32 k
    cdef void* v
    if t.root == NULL:
        return NULL
    x = descend(t, id_, &path)
    k = upper(x, id_)
    if k == 0 or entry_id(&x.e[k - 1]) != id_:
        return NULL
    v = x.e[k - 1].v
    take(x, k - 1)
    t.count -= 1
    if x.n < MERGE_BELOW:
        settle(a, t, &path)
    return v


cdef bint idtree_ge(IdTree* t, u128 id_, IdPos* p) noexcept nogil:
    p.node = NULL
    if t.root == NULL:
        return False
    p.node = leaf_of(t, id_)
    p.at = upper(p.node, id_)
    if p.at and entry_id(&p.node.e[p.at - 1]) == id_:
        p.at -= 1
    elif p.at == p.node.n:
        p.node = p.node.next
        p.at = 0
    return p.node != NULL


cdef bint idtree_le(IdTree* t, u128 id_, IdPos* p) noexcept nogil:
    p.node = NULL
    if t.root == NULL:
        return False
    p.node = leaf_of(t, id_)
    p.at = upper(p.node, id_)
    if p.at == 0:
        p.node = p.node.prev
        if p.node == NULL:
            return False
        p.at = p.node.n
    p.at -= 1
    return True


cdef bint idtree_next(IdPos* p) noexcept nogil:
    p.at += 1
    if p.at == p.node.n:
        p.node = p.node.next
        p.at = 0
    return p.node != NULL


cdef bint idtree_prev(IdPos* p) noexcept nogil:
    if p.at == 0:
        p.node = p.node.prev
        if p.node == NULL:
            return False
        p.at = p.node.n
    p.at -= 1
    return True


cdef bint idtree_free(Arena* a, IdTree* t, id_free_fn fn, i64* budget) noexcept nogil:
    cdef IdNode* x
    cdef IdNode* parent
    while t.root != NULL:
        if budget[0] <= 0:
            return False
        x = t.root
        parent = NULL
        while x.level and x.n:
            parent = x
            x = <IdNode*>x.e[x.n - 1].v
        while x.n and budget[0] > 0:
            x.n -= 1
            if fn != NULL:
                fn(a, x.e[x.n].v)
                budget[0] -= 1
        if x.n:
            return False
        if parent != NULL:
            parent.n -= 1
        else:
            t.root = NULL
        arena_free(a, x)
        budget[0] -= 1
    t.last = NULL
    t.count = 0
    return True


cdef u64 node_bytes(IdNode* x) noexcept nogil:
    cdef u64 n = arena_usable(x)
    cdef u32 i
    if x.level:
        for i in range(x.n):
            n += node_bytes(<IdNode*>x.e[i].v)
    return n


cdef u64 idtree_bytes(IdTree* t) noexcept nogil:
    if t.root == NULL:
        return 0
    if t.count > EXACT_BYTES_MAX:
        return t.count * arena_usable(t.last) // IDTREE_CAP
    return node_bytes(t.root)
