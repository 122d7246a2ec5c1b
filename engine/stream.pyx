# slotring: data plane
"""Streams' nodes: adding, looking through, deleting, trimming, checking; see stream.pxd."""
from libc.string cimport memcpy, memcmp, memmove
from engine.defs cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_usable
from engine.conf cimport conf
from engine.listpack cimport *
from engine.names cimport names_init
from engine.numbers cimport parse_i64
from engine.reply cimport write_u64

cdef enum:
    NODE_BYTES_MAX = 1 << 30       # of one listpack, whatever the settings say
    INT_TEXT_MAX = 20
    NUMBER_ROOM = 10               # bytes that a number takes at most as an element
    RAX_EXACT_MAX = 4096           # nodes; rax_nodes scales beyond
    ID_BYTES = 16

cdef struct Master:
    i64 live
    i64 deleted
    i64 fields
    u8* deleted_at
    u8* first_field
    u8* entries                    # the place behind the master entry


cdef Stream* stream_new(Arena* a) noexcept nogil:
    cdef Stream* s = <Stream*>arena_alloc(a, sizeof(Stream))
    idtree_init(&s.nodes)
    names_init(&s.groups)
    s.length = s.added = 0
    s.last_ms = s.last_seq = s.first_ms = s.first_seq = s.deleted_ms = s.deleted_seq = 0
    return s


# ---- numbers in a node

cdef i64 number_slow(u8* p) noexcept nogil:
    cdef LpValue v
    cdef i64 n = 0
    lp_get(p, &v)
    if v.s == NULL:
        return v.v
    parse_i64(v.s, v.n, &n)        # a forged node may hold numbers as text
    return n


cdef inline i64 number(u8* p) noexcept nogil:
    return p[0] if likely(p[0] < 0x80) else number_slow(p)


cdef u8* set_number(Arena* a, u8* lp, u8* p, i64 v, u8** at) noexcept nogil:
    """Another number at p; *at: its place."""
    if likely(p[0] < 0x80 and 0 <= v < 0x80):
        p[0] = <u8>v
        at[0] = p
        return lp
    return lp_insert_int(a, lp, p, v, LP_REPLACE, at)


cdef inline void read_master(u8* lp, Master* m) noexcept nogil:
    cdef u8* p = lp + LP_HEADER
    cdef i64 i
    m.live = number(p)
    p = m.deleted_at = lp_skip(p)
    m.deleted = number(p)
    p = lp_skip(p)
    m.fields = number(p)
    p = m.first_field = lp_skip(p)
    for i in range(m.fields):
        p = lp_skip(p)
    m.entries = lp_skip(p)


# ---- adding

cdef inline u8* put_number(u8* p, i64 v) noexcept nogil:
    """A number as an element at p; returns the place behind it."""
    if 0 <= v <= 127:
        p[0] = <u8>v
        p[1] = 1
        return p + 2
    if -4096 <= v <= 4095:
        p[0] = <u8>(0xC0 | ((v >> 8) & 31))
        p[1] = <u8>(v & 255)
        p[2] = 2
        return p + 3
    if -32768 <= v <= 32767:
        p[0] = 0xF1
        memcpy(p + 1, &v, 2)
        p[3] = 3
        return p + 4
    if -8388608 <= v <= 8388607:
        p[0] = 0xF2
        memcpy(p + 1, &v, 3)
        p[4] = 4
        return p + 5
    if -2147483648 <= v <= 2147483647:
        p[0] = 0xF3
        memcpy(p + 1, &v, 4)
        p[5] = 5
        return p + 6
    p[0] = 0xF4
    memcpy(p + 1, &v, 8)
    p[9] = 9
    return p + 10


cdef u8* put_long(u8* p, const char* s, size_t n) noexcept nogil:
    """A string of 64 bytes or more."""
    cdef u32 n32 = <u32>n
    cdef size_t body, k, i
    if n < 4096:
        p[0] = <u8>(0xE0 | (n >> 8))
        p[1] = <u8>(n & 255)
        body = 2
    else:
        p[0] = 0xF0
        memcpy(p + 1, &n32, 4)
        body = 5
    memcpy(p + body, s, n)
    body += n
    p += body
    k = lp_backlen_bytes(body)
    for i in range(k):             # most significant seven bits first, all but the first byte flagged
        p[i] = <u8>((body >> (7 * (k - 1 - i))) & 127) | (128 if i else 0)
    return p + k


cdef inline u8* put_string(u8* p, const char* s, size_t n) noexcept nogil:
    """A string as an element at p, as a number where it is the text of one."""
    cdef i64 v
    if n and n <= INT_TEXT_MAX and c'0' <= s[n - 1] <= c'9' and (s[0] == c'-' or c'0' <= s[0] <= c'9') and \
            parse_i64(s, n, &v):
        return put_number(p, v)
    if unlikely(n >= 64):
        return put_long(p, s, n)
    p[0] = <u8>(0x80 | n)
    memcpy(p + 1, s, n)
    p[n + 1] = <u8>(n + 1)
    return p + n + 2


cdef inline bint same_text(u8* p, Arg* field) noexcept nogil:
    """Is the element at p this string?"""
    if likely(0x80 <= p[0] < 0xC0):
        return field.len == <size_t>(p[0] & 63) and not memcmp(p + 1, field.ptr, field.len)
    return lp_equals(p, field.ptr, field.len)


cdef bint same_fields(Master* m, Arg* argv, i64 fields) noexcept nogil:
    cdef u8* p = m.first_field
    cdef i64 i
    if m.fields != fields:
        return False
    for i in range(fields):
        if not same_text(p, &argv[2 * i]):
            return False
        p = lp_skip(p)
    return True


cdef inline void head_changed(u8* lp, u8* end, i64 elements) noexcept nogil:
    """After elements were put before `end`: the end mark, the bytes and the count."""
    cdef i64 n = (<u16*>(lp + 4))[0]
    end[0] = LP_EOF
    (<u32*>lp)[0] = <u32>(end + 1 - lp)
    if n != 65535:
        n += elements
        (<u16*>(lp + 4))[0] = <u16>(n if n < 65535 else 65535)


cdef u8* roomier(Arena* a, u8* lp, size_t need) noexcept nogil:
    """A node's block with room for `need` bytes and some growth."""
    cdef size_t size = arena_usable(lp) * 2, most = <size_t>conf.stream_node_max_bytes
    cdef u8* moved
    if most and size > most + most // 4:
        size = arena_usable(lp) + arena_usable(lp) // 8
    if size < need:
        size = need
    moved = <u8*>arena_alloc(a, size)
    memcpy(moved, lp, lp_bytes(lp))
    arena_free(a, lp)
    return moved


cdef bint node_full(u8* lp, size_t more) noexcept nogil:
    """Is a new node due for an entry of so many bytes of text?"""
    cdef size_t most = <size_t>conf.stream_node_max_bytes
    cdef u8* p = lp + LP_HEADER
    if most == 0 or most > NODE_BYTES_MAX:
        most = NODE_BYTES_MAX
    if lp_bytes(lp) + more >= most:
        return True
    return conf.stream_node_max_entries and number(p) + number(lp_skip(p)) >= conf.stream_node_max_entries


cdef u8* node_new(Arena* a, size_t room, Arg* argv, i64 fields) noexcept nogil:
    """A node with nothing but its master entry, which counts one entry already."""
    cdef u8* lp = <u8*>arena_alloc(a, room)
    cdef u8* p = lp + LP_HEADER
    cdef i64 i
    (<u16*>(lp + 4))[0] = 0
    p = put_number(p, 1)
    p = put_number(p, 0)
    p = put_number(p, fields)
    for i in range(fields):
        p = put_string(p, argv[2 * i].ptr, argv[2 * i].len)
    head_changed(lp, put_number(p, 0), fields + 4)
    return lp


cdef inline u8* put_entry(u8* p, i64 flags, i64 ms, i64 seq, Arg* argv, i64 fields) noexcept nogil:
    cdef i64 i
    p = put_number(p, flags)
    p = put_number(p, ms)
    p = put_number(p, seq)
    if flags & SAME_FIELDS:
        for i in range(fields):
            p = put_string(p, argv[2 * i + 1].ptr, argv[2 * i + 1].len)
        return put_number(p, fields + 3)
    p = put_number(p, fields)
    for i in range(2 * fields):
        p = put_string(p, argv[i].ptr, argv[i].len)
    return put_number(p, 2 * fields + 4)


cdef u8* entry_room(Arena* a, u8* lp, size_t room) noexcept nogil:
    if likely(lp_bytes(lp) + room <= arena_usable(lp)):
        return lp
    return roomier(a, lp, lp_bytes(lp) + room)


cdef IdEntry* tail_new(Arena* a, Stream* s, u128 id_, size_t room, Arg* argv, i64 fields) noexcept nogil:
    """A new last node; NULL: there is one at or beyond this id, as only forged streams have it."""
    cdef IdEntry* e = idtree_last(&s.nodes)
    cdef u8* lp
    if e != NULL:
        if entry_id(e) >= id_:
            return NULL
        lp = <u8*>e.v
        if lp_bytes(lp) > room:    # it will probably become as large as the one before
            room = lp_bytes(lp)
        e.v = lp_shrink(a, lp)
    idtree_add(a, &s.nodes, id_, node_new(a, room, argv, fields))
    return idtree_last(&s.nodes)


cdef int stream_append(Arena* a, Stream* s, u128 id_, Arg* argv, i64 fields) noexcept nogil:
    cdef size_t text = 0, room = NUMBER_ROOM * 8, n
    cdef i64 i, flags = SAME_FIELDS
    cdef IdEntry* tail = idtree_last(&s.nodes)
    cdef u8* lp
    cdef u8* p
    cdef Master m
    for i in range(2 * fields):
        n = argv[i].len
        text += n
        room += n + (2 if n < 64 else (4 if n < 4096 else 10))
    if text > NODE_BYTES_MAX:
        return ADD_TOO_LARGE
    if tail == NULL or node_full(<u8*>tail.v, text):
        tail = tail_new(a, s, id_, room + NUMBER_ROOM * 4, argv, fields)
        if tail == NULL:
            return ADD_SMALL_ID
        lp = <u8*>tail.v
    else:
        tail.v = lp = entry_room(a, <u8*>tail.v, room)
        read_master(lp, &m)
        if not same_fields(&m, argv, fields):
            flags = 0
        lp = set_number(a, lp, lp + LP_HEADER, m.live + 1, &p)
        tail.v = lp = entry_room(a, lp, room)
    p = put_entry(lp + lp_bytes(lp) - 1, flags, <i64>(id_ms(id_) - tail.ms), <i64>(id_seq(id_) - tail.seq), argv,
                  fields)
    head_changed(lp, p, fields + 4 if flags else 2 * fields + 5)
    s.length += 1
    s.added += 1
    set_last_id(s, id_)
    if s.length == 1:
        s.first_ms = s.last_ms
        s.first_seq = s.last_seq
    return ADD_OK


# ---- looking through

cdef void iter_start(StreamIter* it, Stream* s, u128 start, u128 end, bint rev) noexcept nogil:
    """All live entries from start to end, both included; rev: from the end."""
    it.start = start
    it.end = end
    it.rev = rev
    it.tombs = False
    it.lp = NULL
    it.left = 0
    if not idtree_le(&s.nodes, end if rev else start, &it.pos) and not rev:
        idtree_ge(&s.nodes, 0, &it.pos)


cdef inline void iter_node(StreamIter* it) noexcept nogil:
    """Begin with the node at `pos`."""
    cdef Master m
    it.lp = <u8*>pos_entry(&it.pos).v
    it.master = pos_id(&it.pos)
    read_master(it.lp, &m)
    it.master_fields = m.fields
    it.master_start = m.first_field
    it.at = it.lp + lp_bytes(it.lp) - 1 if it.rev else m.entries
    it.left = 0


cdef inline void iter_entry(StreamIter* it, u8* p) noexcept nogil:
    """Read the head of the entry at p."""
    cdef i64 ms, seq
    it.flags_at = p
    it.flags = number(p)
    p = lp_skip(p)
    ms = number(p)
    p = lp_skip(p)
    seq = number(p)
    p = lp_skip(p)
    it.id_ = id_of(id_ms(it.master) + <u64>ms, id_seq(it.master) + <u64>seq)
    if it.flags & SAME_FIELDS:
        it.fields = it.master_fields
    else:
        it.fields = number(p)
        p = lp_skip(p)
    it.data = p


cdef inline bint iter_back(StreamIter* it) noexcept nogil:
    """The entry before `at`; False: the node has no more."""
    cdef u8* p = lp_prev(it.lp, it.at)
    cdef i64 n = number(p)
    if n == 0:
        return False
    while n:
        p = lp_prev(it.lp, p)
        n -= 1
    it.at = p
    iter_entry(it, p)
    return True


cdef inline bint iter_on(StreamIter* it) noexcept nogil:
    """The next entry of the node; False: it has no more."""
    cdef u8* p = it.at
    cdef i64 left = it.left
    while left:
        p = lp_skip(p)
        left -= 1
    if p[0] == LP_EOF:
        return False
    iter_entry(it, p)
    it.at = it.data
    it.left = it.fields * (1 if it.flags & SAME_FIELDS else 2) + 1
    return True


cdef bint iter_next(StreamIter* it) noexcept nogil:
    """The next entry in range; False: there is none."""
    while it.pos.node != NULL:
        if it.lp == NULL:
            iter_node(it)
        if it.rev:
            while iter_back(it):
                if it.id_ <= it.end and (it.tombs or not it.flags & ENTRY_DELETED):
                    return it.id_ >= it.start
            if not idtree_prev(&it.pos):
                return False
        else:
            while iter_on(it):
                if it.id_ >= it.start and (it.tombs or not it.flags & ENTRY_DELETED):
                    return it.id_ <= it.end
            if not idtree_next(&it.pos):
                return False
        it.lp = NULL
    return False


cdef bint stream_has(Stream* s, u128 id_) noexcept nogil:
    cdef StreamIter it
    iter_start(&it, s, id_, id_, False)
    return iter_next(&it)


cdef bint stream_edge(Stream* s, bint first, bint tombs, u128* id_) noexcept nogil:
    """The id of the first or last entry."""
    cdef StreamIter it
    iter_start(&it, s, 0, id_max(), not first)
    it.tombs = tombs
    if not iter_next(&it):
        return False
    id_[0] = it.id_
    return True


cdef void stream_first_changed(Stream* s) noexcept nogil:
    """The first entry may be another one."""
    cdef u128 id_ = 0
    if s.length and not stream_edge(s, True, False, &id_):
        id_ = id_max()
    s.first_ms = id_ms(id_)
    s.first_seq = id_seq(id_)


cdef void stream_pieces(Entry* e, piece_fn fn, void* arg) noexcept nogil:
    cdef StreamIter it
    cdef char text[64]
    cdef const char* p
    cdef u8* f
    cdef u8* v
    cdef size_t n
    cdef i64 i
    iter_start(&it, stream_of(e), 0, id_max(), False)
    while iter_next(&it):
        n = write_u64(text, id_ms(it.id_))
        text[n] = c'.'
        n += 1 + write_u64(text + n + 1, id_seq(it.id_))
        fn(arg, text, n)
        f = it.master_start
        v = it.data
        for i in range(it.fields):
            if it.flags & SAME_FIELDS:
                n = lp_text(f, text, &p)
                f = lp_skip(f)
            else:
                n = lp_text(v, text, &p)
                v = lp_skip(v)
            fn(arg, p, n)
            n = lp_text(v, text, &p)
            v = lp_skip(v)
            fn(arg, p, n)


# ---- deleting

cdef u8* count_deleted(Arena* a, u8* lp, i64 n) noexcept nogil:
    """Note in the master entry that n live entries are deleted ones now."""
    cdef u8* p
    cdef i64 live = number(lp + LP_HEADER), deleted
    lp = set_number(a, lp, lp + LP_HEADER, live - n, &p)
    p = lp_skip(p)
    deleted = number(p)
    return set_number(a, lp, p, deleted + n, &p)


cdef bint stream_delete(Arena* a, Stream* s, u128 id_) noexcept nogil:
    cdef StreamIter it
    cdef u8* lp
    cdef u8* p
    iter_start(&it, s, id_, id_, False)
    if not iter_next(&it):
        return False
    lp = it.lp
    s.length -= 1
    if number(lp + LP_HEADER) == 1:
        idtree_remove(a, &s.nodes, it.master)
        arena_free(a, lp)
        return True
    lp = set_number(a, lp, it.flags_at, it.flags | ENTRY_DELETED, &p)
    pos_entry(&it.pos).v = count_deleted(a, lp, 1)
    return True


cdef u128 node_last_id(u8* lp, u128 master) noexcept nogil:
    """The id of a node's last entry, deleted or not; 0: it has none."""
    cdef u8* p = lp_prev(lp, lp + lp_bytes(lp) - 1)
    cdef i64 n = number(p), ms
    if n == 0:
        return 0
    while n:
        p = lp_prev(lp, p)
        n -= 1
    p = lp_skip(p)
    ms = number(p)
    return id_of(id_ms(master) + <u64>ms, id_seq(master) + <u64>number(lp_skip(p)))


cdef i64 trim_node(Arena* a, Stream* s, IdEntry* e, Trim* t) noexcept nogil:
    """Flag entries at the beginning of a node; how many."""
    cdef u8* lp = <u8*>e.v
    cdef u8* p
    cdef Master m
    cdef i64 deleted = 0, flags, ms, k
    cdef u8* q
    cdef u8* at
    cdef size_t old
    read_master(lp, &m)
    p = m.entries
    while p[0] != LP_EOF:
        flags = number(p)
        q = lp_skip(p)
        ms = number(q)
        q = lp_skip(q)
        if t.strategy == TRIM_MAXLEN:
            if s.length <= <u64>t.maxlen:
                break
        elif id_of(e.ms + <u64>ms, e.seq + <u64>number(q)) >= t.minid:
            break
        q = lp_skip(q)
        k = m.fields
        if not flags & SAME_FIELDS:
            k = number(q) * 2
            q = lp_skip(q)
        while k >= 0:              # and the count behind the entry
            q = lp_skip(q)
            k -= 1
        if not flags & ENTRY_DELETED:
            old = q - lp_skip(p)
            lp = set_number(a, lp, p, flags | ENTRY_DELETED, &at)
            q = lp_skip(at) + old
            deleted += 1
            s.length -= 1
        p = q
    e.v = count_deleted(a, lp, deleted)
    return deleted


cdef i64 stream_trim(Arena* a, Stream* s, Trim* t) noexcept nogil:
    cdef i64 deleted = 0, live
    cdef IdPos pos
    cdef IdEntry* e
    cdef u8* lp
    cdef bint whole
    if t.strategy == TRIM_NONE:
        return 0
    while idtree_ge(&s.nodes, 0, &pos):
        if t.strategy == TRIM_MAXLEN and s.length <= <u64>t.maxlen:
            break
        e = pos_entry(&pos)
        lp = <u8*>e.v
        live = number(lp + LP_HEADER)
        if t.limit and deleted + live > t.limit:
            break
        if t.strategy == TRIM_MAXLEN:
            whole = s.length - <u64>live >= <u64>t.maxlen
        else:
            whole = node_last_id(lp, entry_id(e)) < t.minid
        if not whole:
            if not t.approx:
                deleted += trim_node(a, s, e, t)
            break
        idtree_remove(a, &s.nodes, entry_id(e))
        arena_free(a, lp)
        s.length -= <u64>live
        deleted += live
    if deleted or s.length == 0:
        stream_first_changed(s)
    return deleted


# ---- checking what came from anywhere

cdef bint valid_number(u8* p, i64* v) noexcept nogil:
    cdef LpValue x
    if p[0] == LP_EOF:
        return False
    lp_get(p, &x)
    if x.s == NULL:
        v[0] = x.v
        return True
    return parse_i64(x.s, x.n, v)


cdef u8* skip_some(u8* p, i64 n) noexcept nogil:
    """n elements further; NULL: there are not so many."""
    while n > 0:
        if p[0] == LP_EOF:
            return NULL
        p = lp_skip(p)
        n -= 1
    return p


cdef bint node_valid(u8* lp, size_t size, u64* live) noexcept nogil:
    """Is a block a listpack and a stream's node? *live is increased by its live entries."""
    cdef i64 v, fields, n, said_live, said_deleted, flags, same
    cdef u8* p = lp + LP_HEADER
    cdef u8* begin
    cdef i64 found_live = 0, found_deleted = 0
    if not lp_valid(lp, size) or size > 0x7FFFFFFF:
        return False
    if not valid_number(p, &said_live) or said_live < 0:
        return False
    p = lp_skip(p)
    if not valid_number(p, &said_deleted) or said_deleted < 0:
        return False
    p = lp_skip(p)
    if not valid_number(p, &same) or same < 0:
        return False
    p = skip_some(lp_skip(p), same)
    if p == NULL or not valid_number(p, &v) or v != 0:
        return False
    p = lp_skip(p)
    while p[0] != LP_EOF:
        if not valid_number(p, &flags):
            return False
        p = lp_skip(p)
        if not valid_number(p, &v):
            return False
        p = lp_skip(p)
        if not valid_number(p, &v):
            return False
        p = lp_skip(p)
        n = same
        fields = same + 3
        if not flags & SAME_FIELDS:
            if not valid_number(p, &n) or n < 0 or n > NODE_BYTES_MAX:
                return False
            p = lp_skip(p)
            fields = 2 * n + 4
            n *= 2
        p = skip_some(p, n)
        if p == NULL or not valid_number(p, &v) or v != fields:
            return False
        p = lp_skip(p)
        if flags & ENTRY_DELETED:
            found_deleted += 1
        else:
            found_live += 1
    live[0] += <u64>found_live
    return found_live == said_live and found_deleted == said_deleted


# ---- what XINFO shows of Valkey's radix tree

cdef inline u32 common_bytes(u128 x, u128 y) noexcept nogil:
    """Leading bytes that two different ids share."""
    cdef u64 d = id_ms(x) ^ id_ms(y)
    if d:
        return <u32>clz64(d) >> 3
    return 8 + (<u32>clz64(id_seq(x) ^ id_seq(y)) >> 3)


cdef u64 rax_nodes(Stream* s) noexcept nogil:
    """Nodes of the radix tree of the same keys: leaves, branches, and the runs of single bytes between them.

    Exact up to RAX_EXACT_MAX keys, in proportion beyond."""
    cdef u32 stack[ID_BYTES]
    cdef u32 depth = 0, shared, before = 0, top
    cdef u64 n = 0, keys = 0
    cdef IdPos pos
    cdef u128 last
    cdef bint more
    if not idtree_ge(&s.nodes, 0, &pos):
        return 1
    while True:
        keys += 1
        n += 1
        last = pos_id(&pos)
        more = idtree_next(&pos) and keys < RAX_EXACT_MAX
        shared = common_bytes(last, pos_id(&pos)) if more else 0
        top = before
        if more and (keys == 1 or shared > before):
            top = shared           # the branch that this leaf hangs from
        if more or keys > 1:
            if ID_BYTES > top + 1:
                n += 1
        while depth and (not more or stack[depth - 1] > shared):
            depth -= 1
            top = stack[depth]
            if depth and (not more or stack[depth - 1] > shared):
                n += top > stack[depth - 1] + 1
            elif more:
                n += top > shared + 1
            else:
                n += top > 0
        if not more:
            break
        if depth == 0 or stack[depth - 1] < shared:
            stack[depth] = shared
            depth += 1
            n += 1
        before = shared
    if keys == 1:
        n += 1
    if s.nodes.count > keys:
        n = n * s.nodes.count // keys
    return n
