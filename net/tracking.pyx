# slotring: data plane
"""The table of keys that clients cache, prefixes of BCAST clients, invalidation messages; see tracking.pxd."""
from libc.stdlib cimport malloc, calloc, realloc, free, abort, qsort
from libc.string cimport memcpy, memcmp, memset
from engine.defs cimport *
from engine.command cimport *
from engine.conf cimport conf
from engine.events cimport hook_tracked, hook_flushed
from engine.hashing cimport hash_bytes
from engine.lock cimport lock, unlock
from engine.numbers cimport parse_i64
from engine.racy cimport racy_begin, racy_end
from engine.multikey cimport SPECIAL_KEYNUM
from engine.reply cimport *
from engine.store cimport Key
from net.conn cimport *
from net.pubsub cimport conn_push, worker_of
from net.worker cimport workers, nworkers, message_new, message_post

cdef extern from * nogil:
    int SEQ_CST "__ATOMIC_SEQ_CST"
    i64 exchange "__atomic_exchange_n"(i64*, i64, int)

cdef enum:
    TRACK_SHELVES = 64
    PLACES = 64
    EVICT_MAX = 100                # keys forgotten at once when there are too many

cdef struct Reader:
    Conn* conn
    u64 id
    u32 worker
    u32 pad

cdef struct Tracked:               # a key and who may have it cached
    Tracked* next
    u64 hash
    u32 len
    u32 n
    u32 cap
    u32 pad
    Reader* readers
    char name[0]

cdef struct Shelf:
    u32 lock
    u32 cap
    u32 n
    u32 pad
    Tracked** places

cdef struct Prefix:
    Prefix* next
    u32 len
    u32 n
    u32 cap
    u32 pad
    Reader* readers
    char name[0]

cdef struct Change:                # a key that a worker has changed in this turn
    char* key
    size_t len
    u64 origin                     # the connection that did
    u64 at

cdef struct Changes:
    Change* items
    u64 n
    u64 cap

cdef struct Value:                 # the second part of a message: the keys, or a null
    char* p
    size_t n

cdef Shelf table[TRACK_SHELVES]
cdef Prefix* prefixes = NULL
cdef u32 prefixes_lock = 0
cdef u64 n_prefixes = 0
cdef u64 n_clients = 0
cdef u64 n_keys = 0
cdef u64 n_items = 0
memset(table, 0, sizeof(table))


# ---- messages

cdef void put(Worker* w, Conn* c, void* own, Value* v, bint redirected) noexcept nogil:
    """An invalidation, as the receiver's protocol has it; none for RESP2 but to who listens for others."""
    cdef OutBuf* o
    if c.session.resp == 2 and not (redirected and c.session.flags & S_PUBSUB):
        return
    o = conn_push(w, c, own)
    if o == NULL:
        return
    if c.session.resp > 2:
        out_write(o, b">2\r\n$10\r\ninvalidate\r\n", 21)
    else:
        out_write(o, b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n", 44)
    out_write(o, v.p, v.n)


cdef bint is_gone(Conn* c, u64 id) noexcept nogil:
    """Another worker's, perhaps: its memory stays, and who gets a message for it looks again."""
    cdef bint gone
    racy_begin()
    gone = c.session.id != id or c.flags & (C_CLOSING | C_CLOSE_SOON)
    racy_end()
    return gone


cdef void send(Worker* w, Conn* c, void* own, Value* v) noexcept nogil:
    """An invalidation to a connection of this worker, or to whom it redirects them."""
    cdef Conn* r = c.track_redirect
    cdef OutBuf* o
    cdef Message* m
    if c.track_redirect_id == 0:
        put(w, c, own, v, False)
    elif r == NULL or is_gone(r, c.track_redirect_id):
        c.track_flags |= T_BROKEN
        o = conn_push(w, c, own) if c.session.resp > 2 else NULL
        if o != NULL:
            out_write(o, b">2\r\n$21\r\ntracking-redir-broken\r\n", 32)
            reply_int(o, <i64>c.track_redirect_id)
    elif r.worker == w.index:
        put(w, r, own, v, True)
    else:
        m = message_new(MSG_TRACK_REDIRECTED, sizeof(Reader) + v.n)
        (<Reader*>m.data).conn = r
        (<Reader*>m.data).id = c.track_redirect_id
        m.fd = 1
        m.len = v.n
        memcpy(m.data + sizeof(Reader), v.p, v.n)
        message_post(workers[r.worker], m)


cdef void tell(Worker* w, Conn* c, void* own, u64 origin, u32 kind, Value* v) noexcept nogil:
    """On the connection's own worker: send, if its options still ask for it."""
    cdef Value null
    cdef bint bcast = c.track_flags & T_BCAST
    if not c.session.flags & S_TRACKING:
        return
    if kind == MSG_TRACK_FLUSH:
        null.p = <char*>(b"_\r\n" if c.session.resp > 2 else b"$-1\r\n")
        null.n = 3 if c.session.resp > 2 else 5
        send(w, c, own, &null)
    elif bcast == (kind == MSG_TRACK_BCAST) and (bcast or not (c.track_flags & T_NOLOOP and origin == c.session.id)):
        send(w, c, own, v)


cdef void tell_all(Worker* w, void* own, u64 origin, u32 kind, Reader* readers, u32 n, Value* v) noexcept nogil:
    """A message to each reader: at once on this worker, one message to each other worker."""
    cdef u32 counts[WORKERS_MAX]
    cdef Message* m
    cdef u32 i, to, here = w.index if w != NULL else WORKERS_MAX
    cdef Reader* at
    memset(counts, 0, sizeof(counts))
    for i in range(n):
        if readers[i].worker != here:
            counts[readers[i].worker] += 1
        elif readers[i].conn.session.id == readers[i].id:
            tell(w, readers[i].conn, own, origin, kind, v)
    for to in range(nworkers):
        if counts[to]:
            m = message_new(kind, counts[to] * sizeof(Reader) + v.n)
            at = <Reader*>m.data
            for i in range(n):
                if readers[i].worker == to:
                    at[0] = readers[i]
                    at += 1
            memcpy(at, v.p, v.n)
            m.fd = <i32>counts[to]
            m.len = v.n
            m.conn_id = origin
            message_post(workers[to], m)


cdef void on_tracking(Worker* w, Message* m) noexcept nogil:
    """What another worker says."""
    cdef Reader* r = <Reader*>m.data
    cdef Conn* c
    cdef Value v
    cdef i32 i
    if m.kind == MSG_TRACK_FLUSH:
        c = w.conns
        while c != NULL:
            tell(w, c, NULL, 0, MSG_TRACK_FLUSH, NULL)
            c = c.next
        return
    v.p = <char*>(r + m.fd)
    v.n = m.len
    for i in range(m.fd):
        if r[i].conn.session.id != r[i].id:
            continue
        if m.kind == MSG_TRACK_REDIRECTED:
            put(w, r[i].conn, NULL, &v, True)
        else:
            tell(w, r[i].conn, NULL, m.conn_id, m.kind, &v)


cdef Value one_key(const char* name, size_t n) noexcept nogil:
    cdef Value v
    v.p = <char*>malloc(n + 64)
    if v.p == NULL:
        abort()
    memcpy(v.p, b"*1\r\n$", 5)
    v.n = 5 + write_u64(v.p + 5, n)
    memcpy(v.p + v.n, b"\r\n", 2)
    memcpy(v.p + v.n + 2, name, n)
    memcpy(v.p + v.n + 2 + n, b"\r\n", 2)
    v.n += n + 4
    return v


# ---- keys that were read

cdef void readers_add(Reader** readers, u32* n, u32* cap, Conn* c) noexcept nogil:
    if n[0] == cap[0]:
        cap[0] = cap[0] * 2 if cap[0] else 2
        readers[0] = <Reader*>realloc(readers[0], cap[0] * sizeof(Reader))
        if readers[0] == NULL:
            abort()
    readers[0][n[0]].conn = c
    readers[0][n[0]].id = c.session.id
    readers[0][n[0]].worker = c.worker
    n[0] += 1


cdef Tracked** place_of(Shelf* s, u64 h, const char* name, size_t n) noexcept nogil:
    """Where the pointer to a key is, or to its end of a chain; NULL: the shelf is empty."""
    cdef Tracked** at
    if s.cap == 0:
        return NULL
    at = &s.places[h & (s.cap - 1)]
    while at[0] != NULL and not (at[0].hash == h and at[0].len == n and not memcmp(at[0].name, name, n)):
        at = &at[0].next
    return at


cdef void shelf_grow(Shelf* s) noexcept nogil:
    cdef u32 cap = s.cap * 2 if s.cap else 16, i
    cdef Tracked** fresh = <Tracked**>calloc(cap, sizeof(void*))
    cdef Tracked* t
    if fresh == NULL:
        abort()
    for i in range(s.cap):
        while s.places[i] != NULL:
            t = s.places[i]
            s.places[i] = t.next
            t.next = fresh[t.hash & (cap - 1)]
            fresh[t.hash & (cap - 1)] = t
    free(s.places)
    s.places = fresh
    s.cap = cap


cdef void note_key(Conn* c, Arg* a) noexcept nogil:
    cdef u64 h = hash_bytes(a.ptr, a.len)
    cdef Shelf* s = &table[h >> 58]
    cdef Tracked** at
    cdef Tracked* t
    cdef u32 i
    lock(&s.lock)
    if s.n >= s.cap:
        shelf_grow(s)
    at = place_of(s, h, a.ptr, a.len)
    t = at[0]
    if t == NULL:
        t = <Tracked*>calloc(1, sizeof(Tracked) + a.len)
        if t == NULL:
            abort()
        t.hash = h
        t.len = <u32>a.len
        memcpy(t.name, a.ptr, a.len)
        at[0] = t
        s.n += 1
        atomic_add64(&n_keys, 1, RELAXED)
    for i in range(t.n):
        if t.readers[i].conn == c:
            t.readers[i].id = c.session.id
            break
    else:
        readers_add(&t.readers, &t.n, &t.cap, c)
        atomic_add64(&n_items, 1, RELAXED)
    unlock(&s.lock)


cdef void note_keys(Conn* c, Command* cmd, Arg* argv, i64 argc) noexcept nogil:
    cdef i64 few[PLACES]
    cdef i64 a, n, last = cmd.last if cmd.last >= 0 else argc + cmd.last
    if cmd.first:
        a = cmd.first
        while a <= last and a < argc:
            note_key(c, &argv[a])
            a += cmd.step
    if cmd.special & SPECIAL_KEYNUM:
        a = cmd.special & 255
        if a < argc and parse_i64(argv[a].ptr, argv[a].len, &n):
            a = (cmd.special >> 8) & 255
            while n > 0 and a < argc:
                note_key(c, &argv[a])
                a += (cmd.special >> 16) & 255
                n -= 1
    if cmd.get_keys != NULL:
        n = cmd.get_keys(argv, argc, few, PLACES)
        for a in range(n if n < PLACES else PLACES):
            note_key(c, &argv[few[a]])


cdef void tracking_limit(Conn* c) noexcept nogil:
    """A command of a tracking connection: keep to tracking-table-max-keys."""
    if unlikely(atomic_load64(&n_keys, RELAXED) > <u64>conf.tracking_max_keys) and conf.tracking_max_keys:
        forget_some(workers[c.worker], &c.session)


cdef void tracking_read(Conn* c, Command* cmd, Arg* argv, i64 argc) noexcept nogil:
    """A command of a tracking connection is about to run: note the keys that it reads."""
    cdef u32 f = c.track_flags
    if not cmd.flags & F_READONLY or cmd.flags & F_PUBSUB or f & T_BCAST:
        return
    if (f & T_OPTIN and not f & T_CACHING) or (f & T_OPTOUT and f & T_CACHING):
        return
    note_keys(c, cmd, argv, argc)
    tracking_limit(c)


cdef void tracking_command(Conn* c, Command* cmd) noexcept nogil:
    if c.flags & C_MULTI:
        return
    if c.track_flags & T_USED:
        c.track_flags &= ~<u32>(T_USED | T_CACHING)
    if cmd.name_len < 7 or memcmp(cmd.name, b"client|", 7):
        c.track_flags |= T_USED


cdef void forget(Worker* w, void* own, u64 origin, Tracked* t) noexcept nogil:
    """Tell the readers of a key that was taken out of the table."""
    cdef Value v = one_key(t.name, t.len)
    atomic_sub64(&n_keys, 1, RELAXED)
    atomic_sub64(&n_items, t.n, RELAXED)
    tell_all(w, own, origin, MSG_TRACK_KEY, t.readers, t.n, &v)
    free(v.p)
    free(t.readers)
    free(t)


cdef void forget_some(Worker* w, void* own) noexcept nogil:
    """There are more keys than tracking-table-max-keys."""
    cdef u64 random = rdtsc() * <u64>0x9E3779B97F4A7C15
    cdef u32 i, shelf = <u32>(random >> 58), at
    cdef i64 left = EVICT_MAX
    cdef Shelf* s
    cdef Tracked* t
    for i in range(TRACK_SHELVES):
        s = &table[(shelf + i) & (TRACK_SHELVES - 1)]
        lock(&s.lock)
        at = 0
        while at < s.cap and left > 0 and atomic_load64(&n_keys, RELAXED) > <u64>conf.tracking_max_keys:
            t = s.places[at]
            if t == NULL:
                at += 1
                continue
            s.places[at] = t.next
            s.n -= 1
            left -= 1
            forget(w, own, 0, t)
        unlock(&s.lock)


# ---- changes

cdef void key_changed_at(Ctx* c, Key* k) noexcept nogil:
    """A key was modified; its partition is locked."""
    cdef u64 h
    cdef Shelf* s
    cdef Tracked** at
    cdef Tracked* t = NULL
    cdef Worker* w = worker_of(c)
    cdef u64 origin = c.session.id if c.session != NULL else 0
    if atomic_load64(&n_prefixes, RELAXED):
        note_change(w, k, 0 if c.unasked else origin)
    if atomic_load64(&n_keys, RELAXED) == 0:
        return
    h = hash_bytes(k.ptr, k.len)
    s = &table[h >> 58]
    lock(&s.lock)
    at = place_of(s, h, k.ptr, k.len)
    if at != NULL and at[0] != NULL:
        t = at[0]
        at[0] = t.next
        s.n -= 1
    unlock(&s.lock)
    if t != NULL:
        forget(w, c.session, origin, t)


cdef void all_changed(Ctx* c) noexcept nogil:
    """FLUSHDB, FLUSHALL: every tracking connection forgets everything."""
    cdef Worker* w = worker_of(c)
    cdef Conn* own
    cdef Tracked* t
    cdef u32 i, at
    for i in range(TRACK_SHELVES):
        lock(&table[i].lock)
        for at in range(table[i].cap):
            while table[i].places[at] != NULL:
                t = table[i].places[at]
                table[i].places[at] = t.next
                atomic_sub64(&n_keys, 1, RELAXED)
                atomic_sub64(&n_items, t.n, RELAXED)
                free(t.readers)
                free(t)
        table[i].n = 0
        unlock(&table[i].lock)
    for i in range(nworkers):
        if workers[i] != w:
            message_post(workers[i], message_new(MSG_TRACK_FLUSH, 0))
    own = w.conns if w != NULL else NULL
    while own != NULL:
        tell(w, own, c.session, 0, MSG_TRACK_FLUSH, NULL)
        own = own.next


hook_tracked = key_changed_at
hook_flushed = all_changed


# ---- BCAST

cdef void note_change(Worker* w, Key* k, u64 origin) noexcept nogil:
    cdef Changes* all_
    cdef Changes one
    cdef Change* item
    cdef char* copy = <char*>malloc(k.len + 1)
    if copy == NULL:
        abort()
    memcpy(copy, k.ptr, k.len)
    if w == NULL:                          # of no worker: told at once
        one.cap = one.n = 0
        one.items = NULL
        all_ = &one
    else:
        if w.changes == NULL:
            w.changes = calloc(1, sizeof(Changes))
        all_ = <Changes*>w.changes
        if all_ == NULL:
            abort()
    if all_.n == all_.cap:
        all_.cap = all_.cap * 2 + 1
        all_.items = <Change*>realloc(all_.items, all_.cap * sizeof(Change))
        if all_.items == NULL:
            abort()
    item = &all_.items[all_.n]
    item.key = copy
    item.len = k.len
    item.origin = origin
    item.at = all_.n
    all_.n += 1
    if w == NULL:
        broadcast(NULL, &one)
        free(one.items)


cdef int by_key(const void* a, const void* b) noexcept nogil:
    cdef Change* x = <Change*>a
    cdef Change* y = <Change*>b
    cdef int r = memcmp(x.key, y.key, x.len if x.len < y.len else y.len)
    if r:
        return r
    if x.len != y.len:
        return -1 if x.len < y.len else 1
    return -1 if x.at < y.at else 1


cdef Value keys_under(Changes* all_, Prefix* p, u64 but_of) noexcept nogil:
    """The array of the changed keys with a prefix, without those that one connection changed (0: all); p NULL: none."""
    cdef Value v
    cdef u64 i, count = 0
    cdef size_t room = 32
    cdef Change* x
    for i in range(all_.n):
        x = &all_.items[i]
        if x.len >= p.len and not memcmp(x.key, p.name, p.len) and not (but_of and x.origin == but_of):
            count += 1
            room += x.len + 32
    v.p = NULL
    v.n = 0
    if count == 0:
        return v
    v.p = <char*>malloc(room)
    if v.p == NULL:
        abort()
    v.p[0] = c'*'
    v.n = 1 + write_u64(v.p + 1, count)
    memcpy(v.p + v.n, b"\r\n", 2)
    v.n += 2
    for i in range(all_.n):
        x = &all_.items[i]
        if x.len >= p.len and not memcmp(x.key, p.name, p.len) and not (but_of and x.origin == but_of):
            v.p[v.n] = c'$'
            v.n += 1 + write_u64(v.p + v.n + 1, x.len)
            memcpy(v.p + v.n, b"\r\n", 2)
            memcpy(v.p + v.n + 2, x.key, x.len)
            memcpy(v.p + v.n + 2 + x.len, b"\r\n", 2)
            v.n += x.len + 4
    return v


cdef void broadcast_prefix(Worker* w, Changes* all_, Prefix* p) noexcept nogil:
    cdef Value v = keys_under(all_, p, 0), own
    cdef u32 i
    cdef Conn* c
    if v.p == NULL:
        return
    for i in range(p.n):
        c = p.readers[i].conn
        if w != NULL and p.readers[i].worker == w.index and c.track_flags & T_NOLOOP:
            own = keys_under(all_, p, c.session.id)
            if own.p != NULL:
                tell(w, c, NULL, 0, MSG_TRACK_BCAST, &own)
                free(own.p)
        else:
            tell_all(w, NULL, 0, MSG_TRACK_BCAST, &p.readers[i], 1, &v)
    free(v.p)


cdef void broadcast(Worker* w, Changes* all_) noexcept nogil:
    """Tell of these changes, each key once, in order; frees the keys."""
    cdef u64 i, kept = 0
    cdef Prefix* p
    qsort(all_.items, all_.n, sizeof(Change), by_key)
    for i in range(all_.n):
        if kept and all_.items[kept - 1].len == all_.items[i].len and not memcmp(
                all_.items[kept - 1].key, all_.items[i].key, all_.items[i].len):
            free(all_.items[kept - 1].key)
            all_.items[kept - 1] = all_.items[i]       # the last change counts
        else:
            all_.items[kept] = all_.items[i]
            kept += 1
    all_.n = kept
    lock(&prefixes_lock)
    p = prefixes
    while p != NULL:
        broadcast_prefix(w, all_, p)
        p = p.next
    unlock(&prefixes_lock)
    for i in range(all_.n):
        free(all_.items[i].key)
    all_.n = 0


cdef void tracking_broadcast(Worker* w) noexcept nogil:
    """At the end of a turn."""
    cdef Changes* all_ = <Changes*>w.changes
    if all_ != NULL and all_.n:
        broadcast(w, all_)


# ---- on and off

cdef void set_tracking(i64 on) noexcept nogil:
    """In one order with n_clients, or a client that comes while `tick` finds none would never be told anything."""
    racy_begin()                       # commands read it as a plain word
    exchange(&conf.tracking, on, SEQ_CST)
    racy_end()


cdef bint tracking_begin(Conn* c, u32 flags, Conn* redirect, u64 redirect_id) noexcept nogil:
    """CLIENT TRACKING ON; True if it was off."""
    cdef bint fresh = not c.session.flags & S_TRACKING
    c.track_flags = flags
    c.track_redirect = redirect
    c.track_redirect_id = redirect_id
    if fresh:
        c.session.flags |= S_TRACKING
        atomic_add64(&n_clients, 1, SEQ_CST)
        set_tracking(1)
    return fresh


cdef void tracking_prefix(Conn* c, const char* name, size_t n) noexcept nogil:
    """Let a BCAST connection be told of keys with this prefix."""
    global prefixes
    cdef Prefix* p
    cdef u32 i
    lock(&prefixes_lock)
    p = prefixes
    while p != NULL and not (p.len == n and not memcmp(p.name, name, n)):
        p = p.next
    if p == NULL:
        p = <Prefix*>calloc(1, sizeof(Prefix) + n)
        if p == NULL:
            abort()
        p.len = <u32>n
        memcpy(p.name, name, n)
        p.next = prefixes
        prefixes = p
        atomic_add64(&n_prefixes, 1, RELAXED)
    for i in range(p.n):
        if p.readers[i].conn == c:
            break
    else:
        readers_add(&p.readers, &p.n, &p.cap, c)
    unlock(&prefixes_lock)


cdef void tracking_end(Conn* c) noexcept nogil:
    """CLIENT TRACKING OFF, RESET, or the connection ends. Keys it has read stay noted until they change."""
    cdef Prefix** at = &prefixes
    cdef Prefix* p
    cdef u32 i
    if not c.session.flags & S_TRACKING:
        return
    c.session.flags &= ~<u32>S_TRACKING
    if c.track_flags & T_BCAST:
        lock(&prefixes_lock)
        while at[0] != NULL:
            p = at[0]
            i = 0
            while i < p.n and p.readers[i].conn != c:
                i += 1
            if i < p.n:
                p.n -= 1
                p.readers[i] = p.readers[p.n]
            if p.n == 0:
                at[0] = p.next
                free(p.readers)
                free(p)
                atomic_sub64(&n_prefixes, 1, RELAXED)
            else:
                at = &p.next
        unlock(&prefixes_lock)
    c.track_flags = 0
    atomic_sub64(&n_clients, 1, RELAXED)


def prefixes_of(u64 id) -> list:
    """The prefixes of a connection."""
    cdef Prefix* p
    cdef u32 i
    cdef u64 size = 0
    cdef char* copy                    # no Python under the lock: it may stop for a collection, others attached wait
    cdef char* to
    lock(&prefixes_lock)
    p = prefixes
    while p != NULL:
        size += p.len + sizeof(u32)
        p = p.next
    copy = to = <char*>malloc(size + 1)
    if copy == NULL:
        abort()
    p = prefixes
    while p != NULL:
        for i in range(p.n):
            if p.readers[i].id == id:
                memcpy(to, &p.len, sizeof(u32))
                memcpy(to + sizeof(u32), p.name, p.len)
                to += sizeof(u32) + p.len
                break
        p = p.next
    unlock(&prefixes_lock)
    size = to - copy
    to = copy
    found = []
    while to < copy + size:
        memcpy(&i, to, sizeof(u32))
        found.append(to[sizeof(u32):sizeof(u32) + i])
        to += sizeof(u32) + i
    free(copy)
    return sorted(found)


def figures() -> tuple:
    """Tracking connections, keys, pairs of key and reader, prefixes."""
    return (atomic_load64(&n_clients, RELAXED), atomic_load64(&n_keys, RELAXED), atomic_load64(&n_items, RELAXED),
            atomic_load64(&n_prefixes, RELAXED))


def tick(now_ms) -> None:
    """From cron: keep to tracking-table-max-keys; nothing to look for once nobody tracks and nothing is noted."""
    with nogil:
        if conf.tracking_max_keys and atomic_load64(&n_keys, RELAXED) > <u64>conf.tracking_max_keys:
            forget_some(NULL, NULL)
        if conf.tracking and not atomic_load64(&n_clients, RELAXED) and not atomic_load64(&n_keys, RELAXED):
            set_tracking(0)
            if atomic_load64(&n_clients, SEQ_CST):     # one came meanwhile
                set_tracking(1)
