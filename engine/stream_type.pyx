# slotring: data plane
"""Streams as values of keys: freed in pieces, copied, measured, saved and loaded; see stream_type.pxd."""
from libc.string cimport memcpy
from engine.defs cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_usable
from engine.listpack cimport lp_bytes, lp_copy
from engine.rdbio cimport *
from engine.store cimport *
from engine.stream cimport *
from engine.stream_groups cimport *


cdef void stream_type_ready() noexcept nogil:
    pass


cdef void node_free(Arena* a, void* v) noexcept nogil:
    arena_free(a, v)


cdef bint stream_free(Arena* a, Entry* e, i64* budget) noexcept nogil:
    cdef Stream* s = stream_of(e)
    if not idtree_free(a, &s.nodes, node_free, budget) or not groups_free(a, s, budget):
        return False
    arena_free(a, s)
    return True


cdef u64 stream_blocks(Entry* e) noexcept nogil:
    cdef Stream* s = stream_of(e)
    return 1 + s.nodes.count + groups_blocks(s)


cdef u64 stream_length(Entry* e) noexcept nogil:
    return stream_of(e).length


cdef u64 stream_bytes(Entry* e, i64 samples) noexcept nogil:
    """Arena bytes; of nodes the first `samples` are looked at and the last, the others taken for their average."""
    cdef Stream* s = stream_of(e)
    cdef u64 n = arena_usable(s) + idtree_bytes(&s.nodes) + groups_bytes(s), some = 0, seen = 0
    cdef IdPos pos
    cdef bint more = idtree_ge(&s.nodes, 0, &pos)
    while more and (samples == 0 or seen < <u64>samples):
        some += arena_usable(pos_entry(&pos).v)
        seen += 1
        more = idtree_next(&pos)
    if more:
        some = some // seen * (s.nodes.count - 1) + arena_usable(idtree_last(&s.nodes).v)
    return n + some


cdef void* stream_copy(Arena* to, Entry* e) noexcept nogil:
    cdef Stream* src = stream_of(e)
    cdef Stream* s = stream_new(to)
    cdef IdPos pos
    cdef bint more = idtree_ge(&src.nodes, 0, &pos)
    while more:
        idtree_add(to, &s.nodes, pos_id(&pos), lp_copy(to, <u8*>pos_entry(&pos).v))
        more = idtree_next(&pos)
    s.length = src.length
    s.last_ms = src.last_ms
    s.last_seq = src.last_seq
    s.first_ms = src.first_ms
    s.first_seq = src.first_seq
    s.deleted_ms = src.deleted_ms
    s.deleted_seq = src.deleted_seq
    s.added = src.added
    groups_copy(to, src, s)
    return s


cdef int stream_rdb_type(Entry* e) noexcept nogil:
    return RDB_TYPE_STREAM_LISTPACKS_3


# ---- saving

cdef inline void raw_id(u64 ms, u64 seq, u64* raw) noexcept nogil:
    """Sixteen bytes, big endian."""
    raw[0] = bswap64(ms)
    raw[1] = bswap64(seq)


cdef void save_pending(RdbOut* o, IdTree* t, bint whole) noexcept nogil:
    """Ids; whole: with when and how often they were delivered."""
    cdef IdPos pos
    cdef u64 raw[2]
    cdef Pending* p
    cdef bint more = idtree_ge(t, 0, &pos)
    rdb_out_length(o, t.count)
    while more:
        raw_id(pos_entry(&pos).ms, pos_entry(&pos).seq, raw)
        rdb_out_bytes(o, raw, 16)
        if whole:
            p = <Pending*>pos_entry(&pos).v
            rdb_out_ms(o, p.delivered_ms)
            rdb_out_length(o, p.deliveries)
        more = idtree_next(&pos)


cdef void save_group(RdbOut* o, Group* g) noexcept nogil:
    cdef NamesPos at
    cdef Consumer* consumer
    rdb_out_string(o, g.text, g.name.len)
    rdb_out_length(o, g.last_ms)
    rdb_out_length(o, g.last_seq)
    rdb_out_length(o, <u64>g.read)
    save_pending(o, &g.pending, True)
    rdb_out_length(o, g.consumers.count)
    at.block = at.at = 0
    while True:
        consumer = <Consumer*>names_at(&g.consumers, &at)
        if consumer == NULL:
            return
        rdb_out_string(o, consumer.text, consumer.name.len)
        rdb_out_ms(o, consumer.seen_ms)
        rdb_out_ms(o, consumer.active_ms)
        save_pending(o, &consumer.pending, False)


cdef void stream_save(RdbOut* o, Entry* e) noexcept nogil:
    cdef Stream* s = stream_of(e)
    cdef IdPos pos
    cdef NamesPos at
    cdef u64 raw[2]
    cdef Group* g
    cdef bint more = idtree_ge(&s.nodes, 0, &pos)
    rdb_out_length(o, s.nodes.count)
    while more:
        raw_id(pos_entry(&pos).ms, pos_entry(&pos).seq, raw)
        rdb_out_string(o, <char*>raw, 16)
        rdb_out_string(o, <char*>pos_entry(&pos).v, lp_bytes(<u8*>pos_entry(&pos).v))
        more = idtree_next(&pos)
    rdb_out_length(o, s.length)
    rdb_out_length(o, s.last_ms)
    rdb_out_length(o, s.last_seq)
    rdb_out_length(o, s.first_ms)
    rdb_out_length(o, s.first_seq)
    rdb_out_length(o, s.deleted_ms)
    rdb_out_length(o, s.deleted_seq)
    rdb_out_length(o, s.added)
    rdb_out_length(o, s.groups.count)
    at.block = at.at = 0
    while True:
        g = <Group*>names_at(&s.groups, &at)
        if g == NULL:
            return
        save_group(o, g)


cdef enum:
    TWICE_GROUP = 1
    TWICE_PENDING = 2
    TWICE_CONSUMER = 3
    TWICE_OWNED = 4
    UNKNOWN_OWNED = 5

REASONS = ("", "Duplicated consumer group name", "Duplicated global PEL entry", "Duplicate stream consumer detected",
           "Duplicated consumer PEL entry", "Consumer entry not found in group global PEL")
cdef u32 last_reason = 0


# ---- loading; a stream that turns out bad is thrown away as a whole by stream_load

cdef bint load_raw_id(RdbIn* in_, u128* id_) noexcept nogil:
    cdef const u8* p = rdb_in_bytes(in_, 16)
    cdef u64 raw[2]
    if p == NULL:
        return False
    memcpy(raw, p, 16)
    id_[0] = id_of(bswap64(raw[0]), bswap64(raw[1]))
    return True


cdef bint load_nodes(Arena* a, RdbIn* in_, Stream* s, u64* live) noexcept nogil:
    cdef u64 n = rdb_in_length(in_), raw[2]
    cdef char tmp[24]
    cdef const char* p
    cdef size_t size
    cdef u8* lp
    while n and not in_.bad:
        n -= 1
        if rdb_in_string(in_, tmp, &p) != 16:
            return False
        memcpy(raw, p, 16)
        size = rdb_in_string(in_, tmp, &p)
        if in_.bad or size < 7:
            return False
        lp = <u8*>arena_alloc(a, size)
        memcpy(lp, p, size)
        if not node_valid(lp, size, live) or \
                not idtree_add(a, &s.nodes, id_of(bswap64(raw[0]), bswap64(raw[1])), lp):
            arena_free(a, lp)
            return False
    return not in_.bad


cdef bint load_figures(RdbIn* in_, Stream* s, int rdb_type, u64 live) noexcept nogil:
    s.length = rdb_in_length(in_)
    s.last_ms = rdb_in_length(in_)
    s.last_seq = rdb_in_length(in_)
    if rdb_type == RDB_TYPE_STREAM_LISTPACKS:
        s.added = s.length
        if s.length == live:
            stream_first_loaded(s)
    else:
        s.first_ms = rdb_in_length(in_)
        s.first_seq = rdb_in_length(in_)
        s.deleted_ms = rdb_in_length(in_)
        s.deleted_seq = rdb_in_length(in_)
        s.added = rdb_in_length(in_)
    return not in_.bad and s.length == live


cdef void stream_first_loaded(Stream* s) noexcept nogil:
    """The first id of a stream that was saved without it: the largest id there is where it has no entries."""
    cdef u128 id_ = id_max()
    stream_edge(s, True, False, &id_)
    s.first_ms = id_ms(id_)
    s.first_seq = id_seq(id_)


cdef bint refuse(u32 reason) noexcept nogil:
    atomic_store32(&last_reason, reason, RELAXED)
    return False


def reason() -> int:
    """Why the last stream that was refused was: index into REASONS. (Two at a time: that of either.)"""
    return last_reason


cdef bint load_pending(Arena* a, RdbIn* in_, Group* g) noexcept nogil:
    cdef u64 n = rdb_in_length(in_)
    cdef u128 id_
    cdef Pending* p
    while n and not in_.bad:
        n -= 1
        if not load_raw_id(in_, &id_):
            return False
        p = pending_new(a, g, id_, rdb_in_ms(in_))
        if p == NULL:
            return refuse(TWICE_PENDING)
        p.deliveries = rdb_in_length(in_)
    return not in_.bad


cdef bint load_consumer(Arena* a, RdbIn* in_, Group* g, int rdb_type, u64* owned) noexcept nogil:
    cdef char tmp[24]
    cdef const char* name
    cdef size_t len_ = rdb_in_string(in_, tmp, &name)
    cdef Consumer* consumer
    cdef u64 n
    cdef u128 id_
    cdef Pending* p
    if in_.bad or len_ > 0x7FFFFFFF:
        return False
    consumer = consumer_new(a, g, name, len_, 0)
    if consumer == NULL:
        return refuse(TWICE_CONSUMER)
    consumer.seen_ms = consumer.active_ms = rdb_in_ms(in_)
    if rdb_type == RDB_TYPE_STREAM_LISTPACKS_3:
        consumer.active_ms = rdb_in_ms(in_)
    n = rdb_in_length(in_)
    while n and not in_.bad:
        n -= 1
        if not load_raw_id(in_, &id_):
            return False
        p = pending_find(g, id_)
        if p == NULL or p.consumer != NULL:
            return refuse(UNKNOWN_OWNED if p == NULL else TWICE_OWNED)
        pending_give(a, p, id_, consumer)
        owned[0] += 1
    return not in_.bad


cdef bint load_group(Arena* a, RdbIn* in_, Stream* s, int rdb_type) noexcept nogil:
    cdef char tmp[24]
    cdef const char* name
    cdef size_t len_ = rdb_in_string(in_, tmp, &name)
    cdef Group* g
    cdef u64 n, owned = 0
    if in_.bad or len_ > 0x7FFFFFFF:
        return False
    g = group_new(a, s, name, len_, 0, 0)
    if g == NULL:
        return refuse(TWICE_GROUP)
    g.last_ms = rdb_in_length(in_)
    g.last_seq = rdb_in_length(in_)
    if rdb_type == RDB_TYPE_STREAM_LISTPACKS:
        g.read = read_before(s, group_last(g))
    else:
        g.read = <i64>rdb_in_length(in_)
    if not load_pending(a, in_, g):
        return False
    n = rdb_in_length(in_)
    while n and not in_.bad:
        n -= 1
        if not load_consumer(a, in_, g, rdb_type, &owned):
            return False
    return not in_.bad and owned == g.pending.count


cdef void* stream_load(Arena* a, RdbIn* in_, int rdb_type, int* enc, u32* flags, i64 now_ms) noexcept nogil:
    cdef Stream* s = stream_new(a)
    cdef u64 live = 0, n = 0
    cdef i64 budget = 1 << 62
    cdef bint good
    refuse(0)
    good = load_nodes(a, in_, s, &live) and load_figures(in_, s, rdb_type, live)
    if good:
        n = rdb_in_length(in_)
    while good and n and not in_.bad:
        n -= 1
        good = load_group(a, in_, s, rdb_type)
    if good and not in_.bad:
        enc[0] = ENC_STREAM
        return s
    in_.bad = True
    idtree_free(a, &s.nodes, node_free, &budget)
    groups_free(a, s, &budget)
    arena_free(a, s)
    return NULL


cdef void fill_in() noexcept nogil:
    cdef TypeOps* t = &type_ops[TYPE_STREAM]
    cdef int i
    cdef int* kinds = [RDB_TYPE_STREAM_LISTPACKS, RDB_TYPE_STREAM_LISTPACKS_2, RDB_TYPE_STREAM_LISTPACKS_3]
    t.free = stream_free
    t.blocks = stream_blocks
    t.length = stream_length
    t.bytes = stream_bytes
    t.copy = stream_copy
    t.rdb_type = stream_rdb_type
    t.save = stream_save
    for i in range(3):
        load_ops[kinds[i]].load = stream_load
        load_ops[kinds[i]].type_ = TYPE_STREAM


fill_in()
