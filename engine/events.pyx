# slotring: data plane
"""Keyspace notifications, watched keys, keys that became ready; see events.pxd."""
from libc.stdlib cimport malloc, free, abort
from libc.string cimport memcpy, memcmp, strlen
from engine.defs cimport *
from engine.blocking cimport Ready, WaitNode, WaitTable, WAIT_BUCKETS, WAIT_ON_DELETE
from engine.hashing cimport key_slot
from engine.lock cimport lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.store cimport *

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

hook_publish = NULL
hook_tracked = NULL
hook_flushed = NULL


cdef void tracked_slow(Ctx* c, Key* k) noexcept nogil:
    if hook_tracked != NULL:
        hook_tracked(c, k)
cdef u64 watched_keys = 0
cdef u64 watching_sessions = 0


def watching() -> tuple:
    """(sessions that watch keys, keys they watch)."""
    racy_begin()                       # figures
    found = watching_sessions, watched_keys
    racy_end()
    return found


def waiting_keys() -> tuple:
    """(keys that clients wait for, those of them where a deletion ends the wait too)."""
    cdef u32 i, k
    cdef WaitTable* t
    cdef WaitNode* n
    found = {}
    for i in range(store.nparts):
        lock(&store.parts[i].lock)
        t = <WaitTable*>store.parts[i].waits
        if t != NULL:
            for k in range(WAIT_BUCKETS):
                n = t.first[k]
                while n != NULL:
                    key = (n.db, n.key[:n.klen])
                    found[key] = found.get(key, 0) | (n.blocked.flags & WAIT_ON_DELETE)
                    n = n.next
        unlock(&store.parts[i].lock)
    return len(found), sum(1 for flags in found.values() if flags)


cdef void notify_slow(Ctx* c, u32 event_class, const char* event, Key* k) noexcept nogil:
    """Publish an event on the key's channel and on the event's."""
    cdef char small[256]
    cdef char* text = small
    cdef size_t n, word = strlen(event)
    if hook_publish == NULL:
        return
    if conf.notify & N_KEYSPACE:
        if k.len + 40 > sizeof(small):
            text = <char*>malloc(k.len + 40)
            if text == NULL:
                return
        n = <size_t>snprintf(text, 40, b"__keyspace@%u__:", <unsigned>k.db)
        memcpy(text + n, k.ptr, k.len)
        hook_publish(c, text, n + k.len, event, word)
        if text != small:
            free(text)
    if conf.notify & N_KEYEVENT:
        n = <size_t>snprintf(small, sizeof(small), b"__keyevent@%u__:%s", <unsigned>k.db, event)
        hook_publish(c, small, n, k.ptr, k.len)


# ---- WATCH

cdef inline bint watch_is(Watch* w, Key* k) noexcept nogil:
    return w.hash == k.hash and w.db == k.db and w.klen == k.len and not memcmp(w.key, k.ptr, k.len)


cdef void watch_hit(Key* k) noexcept nogil:
    """Fail the transactions of all sessions that watch a key."""
    cdef Watch* w = <Watch*>k.part.watches
    cdef Key look
    while w != NULL:
        if watch_is(w, k):
            if w.expired:
                look = k[0]
                if table_find(&look) == NULL:      # what had expired before WATCH is gone now: no change
                    w.expired = 0
                    w = w.next
                    continue
            atomic_store32(&w.session.cas_dirty, 1, RELEASE)
        w = w.next


cdef void watch_place(Watch* w, Key* k) noexcept nogil:
    """The key of a watch, looked up."""
    k.ptr = w.key
    k.len = w.klen
    k.hash = w.hash
    k.slot = key_slot(w.key, w.klen)
    k.db = w.db
    k.part = w.part
    table_find(k)


cdef inline bint stale(Entry* e, i64 now_ms) noexcept nogil:
    return e != NULL and e.flags & E_EXPIRE and entry_expire(e) <= now_ms


cdef void watch_hit_db(u32 db, i64 replaced_by, i64 now_ms) noexcept nogil:
    """A database is emptied, or gets the keys of another one (replaced_by; -1: none): fail who watches a key of it that
    is there before or afterwards. What had expired, or is expired when it comes, is no change."""
    cdef u32 i
    cdef Watch* w
    cdef Key k
    cdef Entry* before
    cdef Entry* after
    for i in range(store.nparts):
        w = <Watch*>store.parts[i].watches
        while w != NULL:
            if w.db == db:
                watch_place(w, &k)
                before = k.entry
                after = NULL
                if replaced_by >= 0:
                    k.db = <u32>replaced_by
                    after = table_find(&k)
                if before == NULL and after == NULL:
                    pass
                elif w.expired and after == NULL:
                    w.expired = 0
                elif w.expired and stale(after, now_ms):
                    pass
                elif not w.expired and before == NULL and stale(after, now_ms):
                    w.expired = 1
                else:
                    atomic_store32(&w.session.cas_dirty, 1, RELEASE)
            w = w.next


cdef void watch_key(Session* s, Key* k, i64 now_ms) noexcept nogil:
    """WATCH of one key, looked up under its lock; a second time is no news."""
    cdef Watch* w = <Watch*>s.watches
    while w != NULL:
        if watch_is(w, k):
            return
        w = w.session_next
    w = <Watch*>malloc(sizeof(Watch) + k.len)
    if w == NULL:
        abort()
    w.session = s
    w.part = k.part
    w.hash = k.hash
    w.db = k.db
    w.klen = <u32>k.len
    memcpy(w.key, k.ptr, k.len)
    table_find(k)
    w.expired = k.entry != NULL and k.entry.flags & E_EXPIRE and entry_expire(k.entry) <= now_ms
    w.prev = NULL
    w.next = <Watch*>k.part.watches
    if w.next != NULL:
        w.next.prev = w
    k.part.watches = w
    w.session_next = <Watch*>s.watches
    s.watches = w
    s.watched += 1
    atomic_add64(&watched_keys, 1, RELAXED)
    if s.watched == 1:
        atomic_add64(&watching_sessions, 1, RELAXED)


cdef void unwatch_all(Session* s, bint locked) noexcept nogil:
    """Forget a session's watches. locked: the caller holds the partitions of all of them."""
    cdef Watch* w = <Watch*>s.watches
    cdef Watch* following
    s.watches = NULL
    if w != NULL:
        atomic_sub64(&watched_keys, s.watched, RELAXED)
        atomic_sub64(&watching_sessions, 1, RELAXED)
        s.watched = 0
    while w != NULL:
        following = w.session_next
        if not locked:
            lock(&w.part.lock)
        if w.prev != NULL:
            w.prev.next = w.next
        else:
            w.part.watches = w.next
        if w.next != NULL:
            w.next.prev = w.prev
        if not locked:
            unlock(&w.part.lock)
        free(w)
        w = following
    s.cas_dirty = 0


cdef bint watch_failed(Session* s, i64 now_ms) noexcept nogil:
    """At EXEC, with the partitions of all watched keys held: did one of them change, or expire?"""
    cdef Watch* w = <Watch*>s.watches
    cdef Key k
    if atomic_load32(&s.cas_dirty, ACQUIRE):
        return True
    while w != NULL:
        if not w.expired:
            watch_place(w, &k)
            if k.entry != NULL and k.entry.flags & E_EXPIRE and entry_expire(k.entry) <= now_ms:
                return True
        w = w.session_next
    return False


# ---- keys that clients wait for

cdef void ready_slow(Ctx* c, Key* k) noexcept nogil:
    """Note a key that has waiting clients, to be served when the command has ended."""
    cdef WaitNode* n = (<WaitTable*>k.part.waits).first[k.hash & (WAIT_BUCKETS - 1)]
    cdef Ready* r = <Ready*>c.ready_last
    while n != NULL:
        if n.hash == k.hash and n.db == k.db and n.klen == k.len and not memcmp(n.key, k.ptr, k.len):
            break
        n = n.next
    else:
        return
    if c.no_ready or (r != NULL and r.hash == k.hash and r.db == k.db):
        return
    r = <Ready*>malloc(sizeof(Ready) + k.len)
    if r == NULL:
        abort()
    r.next = NULL
    r.db = k.db
    r.klen = <u32>k.len
    r.hash = k.hash
    r.slot = k.slot
    memcpy(r.key, k.ptr, k.len)
    if c.ready_last != NULL:
        (<Ready*>c.ready_last).next = r
    else:
        c.ready = r
    c.ready_last = r


cdef void ready_db(Ctx* c, u32 db) noexcept nogil:
    """A whole database has changed: every key of it that clients wait for is ready, if it is there (or gone)."""
    cdef u32 i, b
    cdef WaitTable* t
    cdef WaitNode* n
    cdef Key k
    for i in range(store.nparts):
        t = <WaitTable*>store.parts[i].waits
        for b in range(WAIT_BUCKETS if t != NULL else 0):
            n = t.first[b]
            while n != NULL:
                if n.db == db:
                    k.ptr = n.key
                    k.len = n.klen
                    k.hash = n.hash
                    k.slot = key_slot(n.key, n.klen)
                    k.db = db
                    k.part = n.part
                    ready_slow(c, &k)
                n = n.next
