# slotring: data plane
"""Consumer groups' storage; see stream_groups.pxd."""
from libc.string cimport memcpy
from engine.defs cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_usable, arena_good_size
from engine.stream cimport Stream, last_id, first_id, deleted_id


cdef Group* group_find(Stream* s, const char* p, size_t n) noexcept nogil:
    cdef NamesPos pos
    return <Group*>names_find(&s.groups, p, n, &pos)


cdef Group* group_new(Arena* a, Stream* s, const char* p, size_t n, u128 last, i64 read) noexcept nogil:
    cdef NamesPos pos
    cdef Group* g
    if names_find(&s.groups, p, n, &pos) != NULL:
        return NULL
    g = <Group*>arena_alloc(a, sizeof(Group) + n)
    g.name.len = <u32>n
    g.name.at = sizeof(Group)
    memcpy(g.text, p, n)
    set_group_last(g, last)
    g.read = read
    idtree_init(&g.pending)
    names_init(&g.consumers)
    names_insert(a, &s.groups, &g.name, &pos)
    return g


cdef Consumer* consumer_find(Group* g, const char* p, size_t n) noexcept nogil:
    cdef NamesPos pos
    return <Consumer*>names_find(&g.consumers, p, n, &pos)


cdef Consumer* consumer_new(Arena* a, Group* g, const char* p, size_t n, i64 now_ms) noexcept nogil:
    cdef NamesPos pos
    cdef Consumer* consumer
    if names_find(&g.consumers, p, n, &pos) != NULL:
        return NULL
    consumer = <Consumer*>arena_alloc(a, sizeof(Consumer) + n)
    consumer.name.len = <u32>n
    consumer.name.at = sizeof(Consumer)
    memcpy(consumer.text, p, n)
    consumer.seen_ms = now_ms
    consumer.active_ms = -1
    idtree_init(&consumer.pending)
    names_insert(a, &g.consumers, &consumer.name, &pos)
    return consumer


cdef void consumer_delete(Arena* a, Group* g, Consumer* consumer) noexcept nogil:
    cdef IdPos at
    cdef NamesPos pos
    cdef i64 budget = 1 << 62
    cdef bint more = idtree_ge(&consumer.pending, 0, &at)
    while more:
        arena_free(a, idtree_remove(a, &g.pending, pos_id(&at)))
        more = idtree_next(&at)
    idtree_free(a, &consumer.pending, NULL, &budget)
    names_find(&g.consumers, consumer.text, consumer.name.len, &pos)
    names_remove(a, &g.consumers, &pos)
    arena_free(a, consumer)


cdef Pending* pending_find(Group* g, u128 id_) noexcept nogil:
    cdef void** v = idtree_find(&g.pending, id_)
    return NULL if v == NULL else <Pending*>v[0]


cdef Pending* pending_new(Arena* a, Group* g, u128 id_, i64 now_ms) noexcept nogil:
    """A pending entry, delivered once, that must still be given to a consumer; NULL: the group has the id already."""
    cdef Pending* p = <Pending*>arena_alloc(a, sizeof(Pending))
    if not idtree_add(a, &g.pending, id_, p):
        arena_free(a, p)
        return NULL
    p.delivered_ms = now_ms
    p.deliveries = 1
    p.consumer = NULL
    return p


cdef void pending_give(Arena* a, Pending* p, u128 id_, Consumer* to) noexcept nogil:
    if p.consumer == to:
        return
    if p.consumer != NULL:
        idtree_remove(a, &p.consumer.pending, id_)
    p.consumer = to
    idtree_add(a, &to.pending, id_, p)


cdef void pending_delete(Arena* a, Group* g, u128 id_, Pending* p) noexcept nogil:
    idtree_remove(a, &g.pending, id_)
    if p.consumer != NULL:
        idtree_remove(a, &p.consumer.pending, id_)
    arena_free(a, p)


# ---- how far a group is

cdef bint tombs_after(Stream* s, u128 id_) noexcept nogil:
    return s.length != 0 and deleted_id(s) != 0 and id_ <= deleted_id(s)


cdef i64 read_before(Stream* s, u128 id_) noexcept nogil:
    """How many entries had been added when the one with this id was, where nothing deleted may lie between."""
    if s.added == 0:
        return 0
    if s.length == 0 and id_ <= last_id(s):
        return <i64>s.added
    if id_ != 0 and id_ < deleted_id(s):
        return READ_UNKNOWN
    if id_ == last_id(s):
        return <i64>s.added
    if id_ > last_id(s):
        return READ_UNKNOWN
    if deleted_id(s) == 0 or deleted_id(s) < first_id(s):
        if id_ < first_id(s):
            return <i64>(s.added - s.length)
        if id_ == first_id(s):
            return <i64>(s.added - s.length + 1)
    return READ_UNKNOWN


# ---- freeing, copying, measuring

cdef void block_free(Arena* a, void* v) noexcept nogil:
    arena_free(a, v)


cdef bint group_free_some(Arena* a, Group* g, i64* budget) noexcept nogil:
    """All that hangs on a group; True: it is bare."""
    cdef NamesPos pos
    cdef Consumer* consumer
    if not idtree_free(a, &g.pending, block_free, budget):
        return False
    while True:
        consumer = <Consumer*>names_last(&g.consumers, &pos)
        if consumer == NULL:
            return True
        if not idtree_free(a, &consumer.pending, NULL, budget):
            return False
        names_remove(a, &g.consumers, &pos)
        arena_free(a, consumer)
        budget[0] -= 1


cdef bint groups_free(Arena* a, Stream* s, i64* budget) noexcept nogil:
    cdef NamesPos pos
    cdef Group* g
    while True:
        g = <Group*>names_last(&s.groups, &pos)
        if g == NULL:
            return True
        if budget[0] <= 0 or not group_free_some(a, g, budget):
            return False
        names_remove(a, &s.groups, &pos)
        arena_free(a, g)
        budget[0] -= 1


cdef void group_delete(Arena* a, Stream* s, Group* g) noexcept nogil:
    cdef i64 budget = 1 << 62
    cdef NamesPos pos
    group_free_some(a, g, &budget)
    names_find(&s.groups, g.text, g.name.len, &pos)
    names_remove(a, &s.groups, &pos)
    arena_free(a, g)


cdef void group_copy(Arena* to, Group* src, Group* dst) noexcept nogil:
    """Consumers and pending entries."""
    cdef NamesPos pos
    cdef IdPos at
    cdef Consumer* from_
    cdef Consumer* consumer
    cdef Pending* p
    cdef bint more
    pos.block = pos.at = 0
    while True:
        from_ = <Consumer*>names_at(&src.consumers, &pos)
        if from_ == NULL:
            break
        consumer = consumer_new(to, dst, from_.text, from_.name.len, from_.seen_ms)
        consumer.active_ms = from_.active_ms
    more = idtree_ge(&src.pending, 0, &at)
    while more:
        from_ = (<Pending*>pos_entry(&at).v).consumer
        p = pending_new(to, dst, pos_id(&at), (<Pending*>pos_entry(&at).v).delivered_ms)
        p.deliveries = (<Pending*>pos_entry(&at).v).deliveries
        pending_give(to, p, pos_id(&at), consumer_find(dst, from_.text, from_.name.len))
        more = idtree_next(&at)


cdef void groups_copy(Arena* to, Stream* src, Stream* dst) noexcept nogil:
    cdef NamesPos pos
    cdef Group* g
    pos.block = pos.at = 0
    while True:
        g = <Group*>names_at(&src.groups, &pos)
        if g == NULL:
            return
        group_copy(to, g, group_new(to, dst, g.text, g.name.len, group_last(g), g.read))


cdef u64 groups_bytes(Stream* s) noexcept nogil:
    """Arena bytes of all groups."""
    cdef NamesPos pos, at
    cdef Group* g
    cdef Consumer* consumer
    cdef u64 n = names_bytes(&s.groups)
    pos.block = pos.at = 0
    while True:
        g = <Group*>names_at(&s.groups, &pos)
        if g == NULL:
            return n
        n += arena_usable(g) + idtree_bytes(&g.pending) + names_bytes(&g.consumers)
        n += g.pending.count * arena_good_size(sizeof(Pending))
        at.block = at.at = 0
        while True:
            consumer = <Consumer*>names_at(&g.consumers, &at)
            if consumer == NULL:
                break
            n += arena_usable(consumer) + idtree_bytes(&consumer.pending)


cdef u64 groups_blocks(Stream* s) noexcept nogil:
    """How many blocks groups_free frees, about."""
    cdef NamesPos pos
    cdef Group* g
    cdef u64 n = 0
    pos.block = pos.at = 0
    while True:
        g = <Group*>names_at(&s.groups, &pos)
        if g == NULL:
            return n
        n += 1 + g.consumers.count + g.pending.count + g.pending.count // 12
