# slotring: data plane
"""Queues of clients that wait for keys; see blocking.pxd."""
from libc.stdlib cimport malloc, calloc, free, abort
from libc.string cimport memcpy, memcmp
from engine.defs cimport *
from engine.hashing cimport hash_bytes, key_slot
from engine.lock cimport lock, unlock
from engine.numbers cimport parse_i64, parse_long_double
from engine.reply cimport reply_error
from engine.store cimport *

cdef i64 TIMEOUT_MAX_MS = 0x7FFFFFFFFFFFFFFF // 1000 - 1000
cdef Blocked* spare = NULL
cdef u32 spare_lock = 0


cdef Blocked* blocked_new() noexcept nogil:
    global spare
    cdef Blocked* b
    lock(&spare_lock)
    b = spare
    if b != NULL:
        spare = b.next_free
    unlock(&spare_lock)
    if b == NULL:
        b = <Blocked*>calloc(1, sizeof(Blocked))
        if b == NULL:
            abort()
    return b


cdef void blocked_free(Blocked* b) noexcept nogil:
    """The end of one that was claimed and unlinked."""
    global spare
    free(b.mem)
    b.mem = NULL
    b.session_id = 0
    atomic_store32(&b.state, GONE, RELEASE)
    lock(&spare_lock)
    b.next_free = spare
    spare = b
    unlock(&spare_lock)


cdef bint blocked_claim(Blocked* b) noexcept nogil:
    cdef u32 expected = WAITING
    return atomic_cas32(&b.state, &expected, SERVED, False, ACQ_REL, RELAXED)


cdef void node_link(WaitNode* n) noexcept nogil:
    """Put a client at the end of a key's queue; the partition is locked."""
    cdef WaitTable* t = <WaitTable*>n.part.waits
    cdef u32 i = n.hash & (WAIT_BUCKETS - 1)
    if t == NULL:
        t = <WaitTable*>calloc(1, sizeof(WaitTable))
        if t == NULL:
            abort()
        n.part.waits = t
    n.next = NULL
    n.prev = t.last[i]
    if n.prev != NULL:
        n.prev.next = n
    else:
        t.first[i] = n
    t.last[i] = n
    t.count += 1


cdef void node_unlink(WaitNode* n) noexcept nogil:
    cdef WaitTable* t = <WaitTable*>n.part.waits
    cdef u32 i = n.hash & (WAIT_BUCKETS - 1)
    if n.prev != NULL:
        n.prev.next = n.next
    else:
        t.first[i] = n.next
    if n.next != NULL:
        n.next.prev = n.prev
    else:
        t.last[i] = n.prev
    t.count -= 1
    if t.count == 0:
        n.part.waits = NULL
        free(t)


cdef void blocked_unlink(Blocked* b) noexcept nogil:
    """Take a claimed client out of its keys' queues; no lock is held."""
    cdef u32 i
    for i in range(b.n_nodes):
        lock(&b.nodes[i].part.lock)
        node_unlink(&b.nodes[i])
        unlock(&b.nodes[i].part.lock)
    b.n_nodes = 0


cdef void block_on(Ctx* c, i64 first, i64 n, i64 step, i64 timeout_ms, u32 flags) noexcept nogil:
    cdef Blocked* b
    cdef i64 i
    cdef size_t size = 0
    cdef char* at
    cdef WaitNode* node
    if c.rerun != NULL:
        (<Blocked*>c.rerun).still = 1
        return
    b = blocked_new()
    for i in range(c.argc):
        size += c.argv[i].len
    b.mem = malloc(c.argc * sizeof(Arg) + n * sizeof(WaitNode) + size + 1)
    if b.mem == NULL:
        abort()
    b.argv = <Arg*>b.mem
    b.nodes = <WaitNode*>(b.argv + c.argc)
    at = <char*>(b.nodes + n)
    for i in range(c.argc):
        memcpy(at, c.argv[i].ptr, c.argv[i].len)
        b.argv[i].ptr = at
        b.argv[i].len = c.argv[i].len
        at += c.argv[i].len
    b.argc = c.argc
    b.flags = flags
    b.session = c.session
    b.session_id = c.session.id
    b.cmd = c.cmd
    b.since_us = wall_us()
    b.deadline_us = b.since_us + timeout_ms * 1000 if timeout_ms else 0
    b.still = 0
    b.resp = c.resp
    b.worker = c.session.worker
    b.db = c.db
    b.n_nodes = <u32>n
    for i in range(n):
        node = &b.nodes[i]
        node.blocked = b
        node.key = b.argv[first + i * step].ptr
        node.klen = <u32>b.argv[first + i * step].len
        node.hash = hash_bytes(node.key, node.klen)
        node.db = c.db
        node.part = part_of(key_slot(node.key, node.klen))
        node_link(node)
    atomic_store32(&b.state, WAITING, RELEASE)
    c.session.blocked = b


cdef bint timeout_arg(Ctx* c, Arg* a, i64* timeout_ms) noexcept nogil:
    cdef long double seconds
    if not parse_long_double(a.ptr, a.len, &seconds):
        reply_error(c.out, b"ERR timeout is not a float or out of range")
        return False
    if seconds < 0:
        reply_error(c.out, b"ERR timeout is negative")
        return False
    seconds = seconds * 1000
    if seconds > TIMEOUT_MAX_MS - c.now_ms:
        reply_error(c.out, b"ERR timeout is out of range")
        return False
    timeout_ms[0] = <i64>seconds
    if seconds > <long double>timeout_ms[0]:
        timeout_ms[0] += 1             # never earlier than asked
    return True


cdef bint timeout_ms_arg(Ctx* c, Arg* a, i64* timeout_ms) noexcept nogil:
    if not parse_i64(a.ptr, a.len, timeout_ms):
        reply_error(c.out, b"ERR timeout is not an integer or out of range")
        return False
    if timeout_ms[0] < 0:
        reply_error(c.out, b"ERR timeout is negative")
        return False
    if timeout_ms[0] > <i64>0x7FFFFFFFFFFFFFFF - c.now_ms:
        reply_error(c.out, b"ERR timeout is out of range")
        return False
    if timeout_ms[0] > <i64>0x7FFFFFFFFFFFFFFF // 1000 - c.now_ms:
        timeout_ms[0] = 0              # further than the clock in microseconds goes: for ever
    return True


cdef bint serves(Blocked* b, Entry* e) noexcept nogil:
    """Has a run of the command a chance now, with e (or nothing) at the key?"""
    if e != NULL and entry_type(e) == <int>(b.flags >> 8):
        return True
    return b.flags & WAIT_ON_DELETE


cdef Blocked* ready_next(Ready* r, Blocked* after) noexcept nogil:
    """Claim the next client on a ready key's queue that the key may serve, or NULL.

    after: the one claimed before that went on waiting (it is let go here), or NULL to begin at the front."""
    cdef Partition* p = part_of(r.slot)
    cdef WaitNode* n
    cdef Blocked* found = NULL
    cdef Key k
    cdef u32 i
    k.ptr = r.key
    k.len = r.klen
    k.hash = r.hash
    k.slot = r.slot
    k.db = r.db
    k.part = p
    lock(&p.lock)
    if p.waits != NULL:
        table_find(&k)
        n = (<WaitTable*>p.waits).first[r.hash & (WAIT_BUCKETS - 1)]
        if after != NULL:
            for i in range(after.n_nodes):
                if after.nodes[i].part == p and after.nodes[i].hash == r.hash:
                    n = after.nodes[i].next
        while n != NULL:
            if n.hash == r.hash and n.db == r.db and n.klen == r.klen and \
                    not memcmp(n.key, r.key, r.klen) and serves(n.blocked, k.entry) and \
                    blocked_claim(n.blocked):
                found = n.blocked
                break
            n = n.next
    if after != NULL:
        atomic_store32(&after.state, WAITING, RELEASE)
    unlock(&p.lock)
    return found
