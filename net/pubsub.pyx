# slotring: data plane
"""The tables of channels and patterns, and the delivery of messages; see pubsub.pxd."""
from libc.stdlib cimport malloc, calloc, realloc, free, abort
from libc.string cimport memcpy, memcmp, memset
from engine.defs cimport *
from engine.events cimport hook_publish
from engine.glob cimport glob_match
from engine.hashing cimport hash_bytes
from engine.lock cimport lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.reply cimport *
from net.conn cimport *
from net.worker cimport workers, nworkers, flush_later, message_new, message_post

import engine.events

cdef enum:
    SMALL_BYTES = 1024             # a message of that size is encoded on the stack
    AHEAD = 4                      # subscribers whose memory is on its way

cdef struct Text:                  # an encoded message; its first byte is the receiver's: * or >
    char* p
    size_t n
    char small[SMALL_BYTES]

cdef struct Target:
    Conn* conn
    u64 id

memset(shelves, 0, sizeof(shelves))
memset(&patterns, 0, sizeof(patterns))
memset(pubsub_counts, 0, sizeof(pubsub_counts))


# ---- tables

cdef inline u64 name_hash(u32 kind, const char* name, size_t n) noexcept nogil:
    return hash_bytes(name, n) ^ (<u64>kind << 40)


cdef inline Shelf* shelf_of(u32 kind, u64 h) noexcept nogil:
    return &patterns if kind == PS_PATTERN else &shelves[h >> 58]


cdef inline bint is_channel(Channel* ch, u32 kind, u64 h, const char* name, size_t n) noexcept nogil:
    return ch.hash == h and ch.kind == kind and ch.len == n and not memcmp(ch.name, name, n)


cdef Channel* channel_find(Shelf* s, u32 kind, u64 h, const char* name, size_t n) noexcept nogil:
    cdef Channel* ch
    if s.cap == 0:
        return NULL
    ch = s.places[h & (s.cap - 1)]
    while ch != NULL and not is_channel(ch, kind, h, name, n):
        ch = ch.next
    return ch


cdef void shelf_resize(Shelf* s, u32 cap) noexcept nogil:
    cdef Channel** fresh = <Channel**>calloc(cap, sizeof(void*))
    cdef Channel* ch
    cdef Channel* following
    cdef u32 i
    if fresh == NULL:
        abort()
    for i in range(s.cap):
        ch = s.places[i]
        while ch != NULL:
            following = ch.next
            ch.next = fresh[ch.hash & (cap - 1)]
            fresh[ch.hash & (cap - 1)] = ch
            ch = following
    free(s.places)
    s.places = fresh
    s.cap = cap


cdef Channel* channel_new(Shelf* s, u32 kind, u64 h, const char* name, size_t n) noexcept nogil:
    cdef Channel* ch = <Channel*>malloc(sizeof(Channel) + n)
    if ch == NULL:
        abort()
    if s.n >= s.cap:
        shelf_resize(s, s.cap * 2 if s.cap else 4)
    ch.hash = h
    ch.kind = kind
    ch.len = <u32>n
    ch.n = ch.cap = 0
    ch.subscribers = NULL
    memcpy(ch.name, name, n)
    ch.next = s.places[h & (s.cap - 1)]
    s.places[h & (s.cap - 1)] = ch
    s.n += 1
    atomic_add64(&pubsub_counts[kind], 1, RELAXED)
    return ch


cdef void channel_drop(Shelf* s, Channel* ch) noexcept nogil:
    """The last subscriber has gone."""
    cdef Channel** at = &s.places[ch.hash & (s.cap - 1)]
    while at[0] != ch:
        at = &at[0].next
    at[0] = ch.next
    s.n -= 1
    atomic_sub64(&pubsub_counts[ch.kind], 1, RELAXED)
    free(ch.subscribers)
    free(ch)
    if s.cap > 64 and s.n < s.cap // 8:
        shelf_resize(s, s.cap // 2)


# ---- a connection's subscriptions

cdef Link* link_find(Subs* subs, u32 kind, u64 h, const char* name, size_t n) noexcept nogil:
    cdef Link* l
    if subs == NULL or subs.cap == 0:
        return NULL
    l = subs.table[h & (subs.cap - 1)]
    while l != NULL and not is_channel(l.channel, kind, h, name, n):
        l = l.chain
    return l


cdef void subs_grow(Subs* subs) noexcept nogil:
    cdef u32 cap = subs.cap * 2 if subs.cap else 4, kind
    cdef Link* l
    free(subs.table)
    subs.table = <Link**>calloc(cap, sizeof(void*))
    if subs.table == NULL:
        abort()
    subs.cap = cap
    for kind in range(PS_KINDS):
        l = subs.first[kind]
        while l != NULL:
            l.chain = subs.table[l.channel.hash & (cap - 1)]
            subs.table[l.channel.hash & (cap - 1)] = l
            l = l.next


cdef bint pubsub_add(Conn* c, u32 kind, const char* name, size_t n) noexcept nogil:
    """Subscribe; False: it was already."""
    cdef u64 h = name_hash(kind, name, n)
    cdef Subs* subs = <Subs*>c.subs
    cdef Shelf* s = shelf_of(kind, h)
    cdef Channel* ch
    cdef Subscriber* sub
    cdef Link* l
    if link_find(subs, kind, h, name, n) != NULL:
        return False
    if subs == NULL:
        subs = <Subs*>calloc(1, sizeof(Subs))
        c.subs = subs
    if subs == NULL:
        abort()
    if subs.n >= subs.cap:
        subs_grow(subs)
    l = <Link*>malloc(sizeof(Link))
    if l == NULL:
        abort()
    lock(&s.lock)
    ch = channel_find(s, kind, h, name, n)
    if ch == NULL:
        ch = channel_new(s, kind, h, name, n)
    if ch.n == ch.cap:
        ch.cap = ch.cap * 2 if ch.cap else 2
        ch.subscribers = <Subscriber*>realloc(ch.subscribers, ch.cap * sizeof(Subscriber))
        if ch.subscribers == NULL:
            abort()
    sub = &ch.subscribers[ch.n]
    sub.conn = c
    sub.id = c.session.id
    sub.link = l
    sub.worker = c.worker
    l.place = ch.n
    l.channel = ch
    ch.n += 1
    unlock(&s.lock)
    l.next = NULL
    l.prev = subs.last[kind]
    if l.prev != NULL:
        l.prev.next = l
    else:
        subs.first[kind] = l
    subs.last[kind] = l
    l.chain = subs.table[h & (subs.cap - 1)]
    subs.table[h & (subs.cap - 1)] = l
    subs.n += 1
    c.subs_n[kind] += 1
    return True


cdef void link_end(Conn* c, Link* l) noexcept nogil:
    """End one subscription."""
    cdef Subs* subs = <Subs*>c.subs
    cdef Channel* ch = l.channel
    cdef u32 kind = ch.kind
    cdef Link** at = &subs.table[ch.hash & (subs.cap - 1)]
    cdef Shelf* s = shelf_of(kind, ch.hash)
    while at[0] != l:
        at = &at[0].chain
    at[0] = l.chain
    if l.prev != NULL:
        l.prev.next = l.next
    else:
        subs.first[kind] = l.next
    if l.next != NULL:
        l.next.prev = l.prev
    else:
        subs.last[kind] = l.prev
    subs.n -= 1
    c.subs_n[kind] -= 1
    lock(&s.lock)
    ch.n -= 1
    if l.place != ch.n:                # the last one moves into the gap
        ch.subscribers[l.place] = ch.subscribers[ch.n]
        ch.subscribers[l.place].link.place = l.place
    if ch.n == 0:
        channel_drop(s, ch)
    unlock(&s.lock)
    free(l)


cdef void published_first(Worker* w, void* own) noexcept nogil:
    """Deliver what other workers have published to us: after the reply of an UNSUBSCRIBE nothing more may come, and
    what is published here comes after it. own: the session whose command is under way, or NULL."""
    cdef bint empty
    cdef Message* mine = NULL
    cdef Message** mine_end = &mine
    cdef Message** at
    cdef Message* m
    racy_begin()                       # what was published before this is seen: the channel's lock lies between
    empty = w.inbox == NULL
    racy_end()
    if empty:
        return
    lock(&w.inbox_lock)
    w.inbox_tail = NULL
    at = &w.inbox
    while at[0] != NULL:
        m = at[0]
        if m.kind == MSG_PUBLISH:
            at[0] = m.next
            mine_end[0] = m
            m.next = NULL
            mine_end = &m.next
        else:
            w.inbox_tail = m
            at = &m.next
    unlock(&w.inbox_lock)
    while mine != NULL:
        m = mine
        mine = m.next
        on_published(w, m, own)
        free(m)


cdef bint pubsub_remove(Worker* w, Conn* c, u32 kind, const char* name, size_t n) noexcept nogil:
    """Unsubscribe; False: it was not subscribed."""
    cdef Link* l = link_find(<Subs*>c.subs, kind, name_hash(kind, name, n), name, n)
    if l == NULL:
        return False
    link_end(c, l)
    published_first(w, NULL)
    return True


cdef void pubsub_leave(Conn* c) noexcept nogil:
    cdef Subs* subs = <Subs*>c.subs
    cdef u32 kind
    if subs == NULL:
        return
    for kind in range(PS_KINDS):
        while subs.first[kind] != NULL:
            link_end(c, subs.first[kind])
    free(subs.table)
    free(subs)
    c.subs = NULL


cdef i64 pubsub_subscribers(u32 kind, const char* name, size_t n) noexcept nogil:
    cdef u64 h = name_hash(kind, name, n)
    cdef Shelf* s = shelf_of(kind, h)
    cdef Channel* ch
    cdef i64 found
    lock(&s.lock)
    ch = channel_find(s, kind, h, name, n)
    found = ch.n if ch != NULL else 0
    unlock(&s.lock)
    return found


# ---- delivery

cdef inline char* put_bulk(char* p, const char* s, size_t n) noexcept nogil:
    p[0] = c'$'
    p += 1 + write_u64(p + 1, n)
    p[0] = c'\r'
    p[1] = c'\n'
    memcpy(p + 2, s, n)
    p += n + 2
    p[0] = c'\r'
    p[1] = c'\n'
    return p + 2


cdef void encode(Text* t, u32 kind, Channel* pattern, const char* channel, size_t channel_len, const char* text,
                 size_t text_len) noexcept nogil:
    """message, smessage or, of a pattern, pmessage."""
    cdef size_t room = 128 + channel_len + text_len + (pattern.len if pattern != NULL else 0)
    cdef char* p = t.small
    if room > SMALL_BYTES:
        p = <char*>malloc(room)
        if p == NULL:
            abort()
    t.p = p
    if pattern != NULL:
        memcpy(p, b"*4\r\n$8\r\npmessage\r\n", 18)
        p = put_bulk(p + 18, pattern.name, pattern.len)
    elif kind == PS_SHARD:
        memcpy(p, b"*3\r\n$8\r\nsmessage\r\n", 18)
        p += 18
    else:
        memcpy(p, b"*3\r\n$7\r\nmessage\r\n", 17)
        p += 17
    p = put_bulk(put_bulk(p, channel, channel_len), text, text_len)
    t.n = p - t.p


cdef inline void put_out(OutBuf* o, u32 resp, const char* p, size_t n) noexcept nogil:
    """Append a message with the receiver's first byte."""
    cdef char* at
    cdef char first = c'>' if resp > 2 else c'*'
    if likely(n < 8192):
        at = out_reserve(o, n)
        memcpy(at, p, n)
        at[0] = first
        o.pos = at + n
        return
    out_write(o, &first, 1)
    out_write(o, p + 1, n - 1)


cdef inline OutBuf* conn_push(Worker* w, Conn* c, void* own) noexcept nogil:
    """Where a push to a connection of this worker goes; NULL: nowhere, it is closing. own: the session whose command is
    under way: what is pushed to that one comes after the command's reply."""
    if unlikely(c.flags & (C_CLOSING | C_CLOSE_SOON)):
        return NULL
    if unlikely(own == <void*>&c.session):
        if w.push_conn != c:
            pushes_flush(w)
            w.push_conn = c
        return &w.pushes
    flush_later(w, c)
    return &c.out


cdef inline void put_conn(Worker* w, Conn* c, void* own, const char* p, size_t n) noexcept nogil:
    """Append a message to a connection of this worker. own: the session whose command is under way."""
    cdef OutBuf* o = conn_push(w, c, own)
    if o != NULL:
        put_out(o, c.session.resp, p, n)


cdef void pushes_flush(Worker* w) noexcept nogil:
    cdef Conn* c = w.push_conn
    cdef Chunk* k = w.pushes.head
    if c == NULL:
        return
    w.push_conn = NULL
    while k != NULL:
        out_write(&c.out, k.data, <size_t>(w.pushes.pos - k.data) if k == w.pushes.tail else k.len)
        k = k.next
    out_free(&w.pushes)
    flush_later(w, c)


cdef void deliver_elsewhere(Worker* w, Channel* ch, Text* t) noexcept nogil:
    """One message to each other worker that has subscribers."""
    cdef u32 counts[WORKERS_MAX]
    cdef Message* to[WORKERS_MAX]
    cdef u32 i, own = w.index if w != NULL else WORKERS_MAX
    cdef Subscriber* s
    cdef Target* target
    memset(counts, 0, sizeof(counts))
    for i in range(ch.n):
        counts[ch.subscribers[i].worker] += 1
    for i in range(nworkers):
        if i != own and counts[i]:
            to[i] = message_new(MSG_PUBLISH, 8 + counts[i] * sizeof(Target) + t.n)
            to[i].fd = <i32>counts[i]
            memcpy(to[i].data + counts[i] * sizeof(Target), t.p, t.n)
            to[i].len = t.n
            to[i].conn_id = 0          # how many of the list are filled in
    for i in range(ch.n):
        s = &ch.subscribers[i]
        if s.worker != own:
            target = <Target*>to[s.worker].data + to[s.worker].conn_id
            target.conn = s.conn
            target.id = s.id
            to[s.worker].conn_id += 1
    for i in range(nworkers):
        if i != own and counts[i]:
            message_post(workers[i], to[i])


cdef void deliver(Worker* w, void* own, Channel* ch, Text* t) noexcept nogil:
    """To all subscribers of a channel (or pattern), whose lock is held."""
    cdef u32 i, here = w.index if w != NULL else WORKERS_MAX
    cdef bint others = False
    cdef Subscriber* s = ch.subscribers
    if w != NULL:
        published_first(w, own)        # all hear a channel's messages in one order, whoever publishes them
    for i in range(ch.n):
        if i + AHEAD < ch.n:
            prefetch(&s[i + AHEAD].conn.session)
            prefetch(&s[i + AHEAD].conn.out)
        if s[i].worker == here:
            put_conn(w, s[i].conn, own, t.p, t.n)
        else:
            others = True
    if others:
        deliver_elsewhere(w, ch, t)


cdef void on_published(Worker* w, Message* m, void* own) noexcept nogil:
    """A message from another worker. own: as for put_conn."""
    cdef Target* target = <Target*>m.data
    cdef i32 i
    for i in range(m.fd):
        if target[i].conn.session.id == target[i].id:
            put_conn(w, target[i].conn, own, <char*>(target + m.fd), m.len)


cdef Worker* worker_of(Ctx* c) noexcept nogil:
    """Whose context it is; NULL: of no worker (expiry in the background)."""
    cdef u32 i
    for i in range(nworkers):
        if &workers[i].ctx == c:
            return workers[i]
    return NULL


cdef i64 to_patterns(Ctx* c, Worker* w, const char* channel, size_t channel_len, const char* text,
                     size_t text_len) noexcept nogil:
    cdef Text t
    cdef u32 i
    cdef i64 receivers = 0
    cdef Channel* ch
    lock(&patterns.lock)
    for i in range(patterns.cap):
        ch = patterns.places[i]
        while ch != NULL:
            if glob_match(ch.name, ch.len, channel, channel_len, False):
                encode(&t, PS_CHANNEL, ch, channel, channel_len, text, text_len)
                deliver(w, c.session, ch, &t)
                receivers += ch.n
                if t.p != t.small:
                    free(t.p)
            ch = ch.next
    unlock(&patterns.lock)
    return receivers


cdef i64 pubsub_publish(Ctx* c, u32 kind, const char* channel, size_t channel_len, const char* text,
                        size_t text_len) noexcept nogil:
    """A message on a channel; returns how many get it."""
    cdef Text t
    cdef Worker* w
    cdef Shelf* s
    cdef Channel* ch
    cdef u64 h
    cdef i64 receivers = 0
    cdef bint by_pattern = kind == PS_CHANNEL and atomic_load64(&pubsub_counts[PS_PATTERN], RELAXED)
    cdef bint by_name = atomic_load64(&pubsub_counts[kind], RELAXED) != 0
    if not by_pattern and not by_name:
        return 0
    w = worker_of(c)
    if by_name:
        h = name_hash(kind, channel, channel_len)
        s = shelf_of(kind, h)
        lock(&s.lock)
        ch = channel_find(s, kind, h, channel, channel_len)
        if ch != NULL:
            encode(&t, kind, NULL, channel, channel_len, text, text_len)
            deliver(w, c.session, ch, &t)
            receivers = ch.n
            if t.p != t.small:
                free(t.p)
        unlock(&s.lock)
    if by_pattern:
        receivers += to_patterns(c, w, channel, channel_len, text, text_len)
    return receivers


cdef void publish_event(Ctx* c, const char* channel, size_t channel_len, const char* text,
                        size_t text_len) noexcept nogil:
    pubsub_publish(c, PS_CHANNEL, channel, channel_len, text, text_len)


hook_publish = publish_event


def counts() -> tuple:
    """Channels, patterns and shard channels that somebody listens to."""
    return tuple([atomic_load64(&pubsub_counts[kind], RELAXED) for kind in (PS_CHANNEL, PS_PATTERN, PS_SHARD)])
