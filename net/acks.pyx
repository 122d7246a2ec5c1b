# slotring: data plane
"""WAIT and WAITAOF; see acks.pxd. There are no replicas yet: none of them has anything."""
from engine.args cimport least_arg, long_arg
from engine.blocking cimport *
from engine.command cimport *
from engine.defs cimport *
from engine.numbers cimport parse_i64
from engine.reply cimport OutBuf, reply_array, reply_error, reply_int
from net.conn cimport *
from net.waiting cimport conn_goes_on
from net.worker cimport nworkers, workers
from persist.aof cimport AOF_OFF, aof, aof_has

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int, const void*, size_t)
cdef extern from * nogil:
    int SEQ_CST "__ATOMIC_SEQ_CST"

cdef const char* NO_AOF = b"ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."


cdef bint aof_off() noexcept nogil:
    return atomic_load32(&aof.mode, SEQ_CST) == AOF_OFF


cdef void reply_both(Ctx* c, u64 upto) noexcept nogil:
    reply_array(c.out, 2)
    reply_int(c.out, 1 if aof_has(upto) else 0)
    reply_int(c.out, 0)


cdef void wait_for(Ctx* c, i64 timeout_ms, bint local) noexcept nogil:
    """Answered by this worker, which counts it before it looks at the disk again: no wake is lost."""
    block_on(c, 0, 0, 0, timeout_ms, WAIT_ACKS)
    (<Blocked*>c.session.blocked).local = local
    atomic_add32(&acks_waiting[c.session.worker], 1, SEQ_CST)


cdef void cmd_wait(Ctx* c) noexcept nogil:
    cdef i64 replicas, timeout_ms
    if not long_arg(c, &c.argv[1], &replicas) or not timeout_ms_arg(c, &c.argv[2], &timeout_ms):
        return
    if replicas <= 0 or c.no_block:
        reply_int(c.out, 0)
    else:
        wait_for(c, timeout_ms, False)


cdef void cmd_waitaof(Ctx* c) noexcept nogil:
    cdef i64 local, replicas, timeout_ms
    if not long_arg(c, &c.argv[1], &local):
        return
    if local < 0 or local > 1:
        reply_error(c.out, b"ERR value is out of range, value must between 0 and 1")
        return
    if not least_arg(c, &c.argv[2], &replicas, 0, b"ERR value is out of range, must be positive") or \
            not timeout_ms_arg(c, &c.argv[3], &timeout_ms):
        return
    if local and aof_off():
        reply_error(c.out, NO_AOF)
    elif c.no_block or (replicas == 0 and (not local or aof_has(c.session.wrote))):
        reply_both(c, c.session.wrote)
    else:
        wait_for(c, timeout_ms, local)


cdef void acks_answer(Worker* w, Conn* c, Blocked* b) noexcept nogil:
    cdef Ctx* x = &w.ctx
    cdef OutBuf* saved = x.out
    x.out = &c.out
    if b.argc == 3:                    # WAIT
        reply_int(x.out, 0)
    elif b.local and aof_off():
        reply_error(x.out, NO_AOF)
        w.stats[b.cmd.id].failed += 1
    else:
        reply_both(x, c.session.wrote)
    x.out = saved


cdef i64 replicas_wanted(Blocked* b) noexcept nogil:
    """It was a number when the command began."""
    cdef i64 n = 0
    parse_i64(b.argv[2].ptr, b.argv[2].len, &n)
    return n


cdef bint served(Conn* c, Blocked* b) noexcept nogil:
    """Has it what it waits for, or can it never have it? What needs replicas waits for its time's end."""
    if b.argc != 4 or not b.local:
        return False
    return aof_off() or (aof_has(c.session.wrote) and replicas_wanted(b) == 0)


cdef void acks_serve(Worker* w) noexcept nogil:
    cdef Conn* c = w.conns
    cdef Blocked* b
    while c != NULL:
        b = <Blocked*>c.session.blocked
        if b != NULL and b.flags & WAIT_ACKS and not c.flags & C_CLOSING and served(c, b) and blocked_claim(b):
            w.stats[b.cmd.id].calls += 1
            acks_answer(w, c, b)
            conn_goes_on(w, c)
        c = c.next


cdef void acks_wake() noexcept nogil:
    cdef u64 one = 1
    cdef u32 i
    for i in range(nworkers):
        if atomic_load32(&acks_waiting[i], SEQ_CST):
            write(workers[i].wake_fd, &one, 8)


def wake() -> None:
    """The disk has more, or the AOF has been switched on or off."""
    with nogil:
        acks_wake()


def _about(since, summary):
    return {"since": since, "group": "generic", "complexity": "O(1)", "summary": summary,
            "acl": "slow blocking connection", "tips": "request_policy:all_shards response_policy:agg_min"}


register("wait", 3, "blocking lock=none", (0, 0, 0), cmd_wait, _about(
    "3.0.0", "Waits until replicas have what the connection wrote."))
register("waitaof", 4, "blocking lock=none", (0, 0, 0), cmd_waitaof, _about(
    "7.2.0", "Waits until what the connection wrote is on the disk, here and at replicas."))
