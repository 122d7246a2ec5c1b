# slotring: data plane
"""What connections take: query buffers, the sum that counts toward maxmemory, and maxmemory-clients.

Each worker keeps what its own connections take in words of its own, and tells engine.outside the difference at the end
of a turn. Only when the sum is over maxmemory-clients are the connections looked at one by one.
"""
from libc.stdlib cimport free, realloc, abort, qsort
from engine.command cimport S_NO_EVICT
from engine.defs cimport *
from engine.lock cimport lock, try_lock, unlock
from engine.outside cimport outside, outside_clients
from engine.racy cimport racy_begin, racy_end
from engine.reply cimport CHUNK_BYTES, out_pending
from net.conn cimport *
from net.worker cimport conn_close, nworkers, post, workers

cdef enum:
    QBUF_BYTES = 16384             # a query buffer at least
    QBUF_KEEP_BYTES = 32768        # a larger one shrinks to what was needed lately
    QBUF_IDLE_US = 2000000         # of an idle client there is only what is in it
    LOOK_AGAIN_US = 1000           # after a look at all connections that found nobody to evict

cdef struct Taker:
    Conn* conn
    u64 id
    u64 bytes
    bint stays

evicted_clients = 0
clients_max = 0
cdef u32 looking = 0               # a lock: one worker evicts at a time
cdef i64 look_again_us = 0


# ---- query buffers

cdef void qbuf_resize(Worker* w, Conn* c, size_t cap) noexcept nogil:
    if cap == 0:
        free(c.qbuf)
        c.qbuf = NULL
    else:
        c.qbuf = <char*>realloc(c.qbuf, cap)
        if c.qbuf == NULL:
            abort()
    w.qbuf_bytes += cap - c.qcap
    c.qcap = cap


cdef void qbuf_room(Worker* w, Conn* c, size_t need) noexcept nogil:
    """Make the query buffer hold `need` bytes."""
    if need <= c.qcap:
        return
    qbuf_resize(w, c, QBUF_BYTES if need <= QBUF_BYTES else need if need > (1 << 20) else need * 2)


cdef void qbuf_shrink(Worker* w, Conn* c) noexcept nogil:
    """From the tick: nothing of an idle client's query buffer is kept, of a busy one's what it lately needed."""
    if w.now_us - c.last_us > QBUF_IDLE_US:
        if c.qcap > c.qlen:
            qbuf_resize(w, c, c.qlen)
    elif c.qcap > QBUF_KEEP_BYTES and c.qpeak < c.qcap // 2 and c.qlen < c.qcap // 2:
        qbuf_resize(w, c, c.qpeak if c.qpeak > QBUF_BYTES else QBUF_BYTES)
    c.qpeak = c.qlen


# ---- sums

cdef i64 worker_bytes(Worker* w) noexcept nogil:
    """What the worker's connections take. Chunks in its pool are free memory, as an allocator's."""
    return (w.pool.bytes - <i64>w.pool.count * CHUNK_BYTES + <i64>w.qbuf_bytes + <i64>w.queued_bytes
            + <i64>atomic_load32(&w.nconns, RELAXED) * <i64>sizeof(Conn))


cdef u64 conn_bytes(Conn* c) noexcept nogil:
    """What a connection takes; others read it while it changes."""
    cdef u64 out = <u64>c.out.chunks * CHUNK_BYTES
    if c.out.bytes > out:
        out = c.out.bytes              # chunks as long as what is in them
    return sizeof(Conn) + c.qcap + out + c.queued_bytes


cdef void memory_tell(Worker* w) noexcept nogil:
    """Tell the others what this worker's connections take now."""
    cdef i64 now = worker_bytes(w)
    if now != w.told:
        atomic_addi64(&outside.clients, now - w.told, RELAXED)
        w.told = now


# ---- maxmemory-clients

cdef int by_bytes(const void* a, const void* b) noexcept nogil:
    """The largest first."""
    cdef u64 x = (<const Taker*>a).bytes, y = (<const Taker*>b).bytes
    return <int>(x < y) - <int>(x > y)


cdef Taker* all_takers(u64* n, u64* total) noexcept nogil:
    """Every connection that is to stay, malloc'ed, and what they take together."""
    cdef Taker* found = NULL
    cdef u64 cap = 0
    cdef u32 i
    cdef Conn* c
    n[0] = total[0] = 0
    for i in range(nworkers):
        lock(&workers[i].conns_lock)
        racy_begin()                   # their owners go on: the figures are of about this moment
        c = workers[i].conns
        while c != NULL:
            if n[0] == cap:
                cap = cap * 2 + 64
                found = <Taker*>realloc(found, cap * sizeof(Taker))
                if found == NULL:
                    abort()
            if not c.dying and not c.flags & C_CLOSING:
                found[n[0]] = Taker(c, c.session.id, conn_bytes(c), c.session.flags & S_NO_EVICT)
                total[0] += found[n[0]].bytes
                n[0] += 1
            c = c.next
        racy_end()
        unlock(&workers[i].conns_lock)
    return found


cdef void evict(Worker* w, Taker* t) noexcept nogil:
    """Close a connection; what it takes is counted as free at once, so that no key goes for it."""
    cdef Worker* owner = workers[t.conn.worker]
    cdef bint there
    lock(&owner.conns_lock)
    there = t.conn.session.id == t.id
    if there:
        t.conn.dying = t.bytes
        atomic_addi64(&outside.dying, <i64>t.bytes, RELAXED)
    unlock(&owner.conns_lock)
    if not there:
        return
    atomic_add64(&evicted_clients, 1, RELAXED)
    if owner == w:
        conn_close(w, t.conn)
    else:
        atomic_store64(&t.conn.doomed, t.id, RELAXED)
        post(owner, MSG_KILL, -1, t.conn, t.id, NULL, 0)


cdef void clients_check(Worker* w) noexcept nogil:
    """Evict the connections that take most, until all together take less than maxmemory-clients."""
    cdef u64 n, total, limit = <u64>clients_max, i
    cdef Taker* found
    cdef bint some = False
    if limit == 0 or outside_clients() < <i64>limit or w.now_us < atomic_loadi64(&look_again_us, RELAXED) \
            or not try_lock(&looking):
        return
    found = all_takers(&n, &total)
    if total >= limit:
        qsort(found, n, sizeof(Taker), by_bytes)
    for i in range(n):
        if total < limit:
            break
        if not found[i].stays:
            evict(w, &found[i])
            total -= found[i].bytes
            some = True
    free(found)
    if not some:
        atomic_store64(<u64*>&look_again_us, <u64>(w.now_us + LOOK_AGAIN_US), RELAXED)
    unlock(&looking)


def clients_bytes() -> int:
    """Bytes that all connections take, but for those that are evicted and about to go."""
    cdef i64 n = -atomic_loadi64(&outside.dying, RELAXED)
    cdef u32 i
    racy_begin()                       # words that one worker writes
    for i in range(nworkers):
        n += worker_bytes(workers[i])
    racy_end()
    return n


def set_limit(i64 n) -> None:
    """So many bytes may connections take together; 0: no limit."""
    global clients_max
    racy_begin()                       # one word: a worker sees the old one or the new one
    clients_max = n
    racy_end()
