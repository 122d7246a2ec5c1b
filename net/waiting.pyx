# slotring: data plane
"""Waiting commands on the network's side; see waiting.pxd."""
from libc.stdlib cimport malloc, free, abort
from libc.string cimport memcpy
from engine.defs cimport *
from engine.blocking cimport *
from engine.command cimport *
from engine.conf cimport conf
from engine.keyspace cimport key_init
from engine.reply cimport *
from net.conn cimport *
from net.pubsub cimport pushes_flush
from net.router cimport TURNED_HELD, count_slot
from net.worker cimport workers, flush_later, note_duration, post, run_locked


cdef void conn_blocked(Worker* w, Conn* c) noexcept nogil:
    cdef Blocked* b = <Blocked*>c.session.blocked
    c.flags |= C_BLOCKED
    w.blocked += 1
    if b.deadline_us and (w.next_deadline_us == 0 or b.deadline_us < w.next_deadline_us):
        w.next_deadline_us = b.deadline_us
        w.timer_arm(w, b.deadline_us - w.now_us)


cdef void conn_goes_on(Worker* w, Conn* c) noexcept nogil:
    """Its command is answered (and unlinked): free what waited, read on at the end of this turn."""
    blocked_free(<Blocked*>c.session.blocked)
    c.session.blocked = NULL
    c.flags &= ~<u32>C_BLOCKED
    w.blocked -= 1
    flush_later(w, c)
    if not c.flags & (C_RESUME | C_CLOSING):
        c.flags |= C_RESUME
        c.next_resume = w.resume
        w.resume = c


cdef bint conn_unwait(Worker* w, Conn* c) noexcept nogil:
    cdef Blocked* b = <Blocked*>c.session.blocked
    if not blocked_claim(b):
        return False
    blocked_unlink(b)
    blocked_free(b)
    c.session.blocked = NULL
    w.blocked -= 1
    return True


cdef void answer_null(Worker* w, Conn* c, Blocked* b) noexcept nogil:
    """The reply of a command whose time ended, which counts as a call."""
    w.stats[b.cmd.id].calls += 1
    if b.flags & WAIT_NULL_ARRAY:
        reply_null_array(&c.out, <int>c.session.resp)
    else:
        reply_null(&c.out, <int>c.session.resp)


cdef void deadlines(Worker* w) noexcept nogil:
    """Answer the commands whose time has ended; set the next deadline."""
    cdef Conn* c = w.conns
    cdef Blocked* b
    cdef i64 first = 0
    while c != NULL:
        b = <Blocked*>c.session.blocked
        if b != NULL and b.deadline_us:
            if b.deadline_us <= w.now_us:
                if not c.flags & C_CLOSING and blocked_claim(b):
                    blocked_unlink(b)
                    answer_null(w, c, b)
                    conn_goes_on(w, c)
            elif first == 0 or b.deadline_us < first:
                first = b.deadline_us
        c = c.next
    w.next_deadline_us = first
    if first:
        w.timer_arm(w, first - w.now_us)


cdef void on_served(Worker* w, Message* m) noexcept nogil:
    """Another worker has run a waiting command of ours."""
    if m.conn.session.id != m.conn_id or m.conn.session.blocked == NULL:
        return
    if not m.conn.flags & C_CLOSING:
        out_write(&m.conn.out, m.data, m.len)
    conn_goes_on(w, m.conn)


cdef void on_unblock(Worker* w, Message* m) noexcept nogil:
    """CLIENT UNBLOCK, by whoever claimed the command."""
    cdef Conn* c = m.conn
    cdef Blocked* b = <Blocked*>c.session.blocked
    if c.session.id != m.conn_id or b == NULL:
        return
    blocked_unlink(b)
    if m.fd:
        reply_error(&c.out, b"UNBLOCKED client unblocked via CLIENT UNBLOCK")
        w.stats[b.cmd.id].calls += 1
        w.stats[b.cmd.id].failed += 1
    else:
        answer_null(w, c, b)
    conn_goes_on(w, c)


cdef void hand_over(Worker* w, Blocked* b, OutBuf* out) noexcept nogil:
    """Give the reply of a served command to its connection, here or on its own worker."""
    cdef Conn* c = <Conn*>b.session
    cdef Chunk* k
    cdef size_t n = out_pending(out), at = 0, have
    cdef char* text
    if b.worker == w.index:
        k = out.head
        while k != NULL:
            out_write(&c.out, k.data, <size_t>(out.pos - k.data) if k == out.tail else k.len)
            k = k.next
        out_free(out)
        conn_goes_on(w, c)
        return
    text = <char*>malloc(n + 1)
    if text == NULL:
        abort()
    k = out.head
    while k != NULL:
        have = <size_t>(out.pos - k.data) if k == out.tail else k.len
        memcpy(text + at, k.data, have)
        at += have
        k = k.next
    out_free(out)
    post(workers[b.worker], MSG_SERVED, -1, c, b.session_id, text, n)
    free(text)


cdef bint serve_one(Worker* w, Blocked* b) noexcept nogil:
    """Run a claimed command again; False: it goes on waiting."""
    cdef Ctx* x = &w.ctx
    cdef OutBuf out
    cdef u64 clock = rdtsc()
    out_init(&out, &w.pool)
    x.out = &out
    x.argv = b.argv
    x.argc = b.argc
    x.session = b.session
    x.cmd = b.cmd
    x.db = b.db
    x.resp = b.resp
    x.rerun = b
    x.now_ms = wall_us() // 1000           # the command that made the key ready may have taken long
    b.still = 0
    if b.cmd.first:
        key_init(x, &x.key, &x.argv[b.cmd.first])
    run_locked(x, b.cmd)
    x.rerun = NULL
    if x.turned == TURNED_HELD:            # its slot's pause ends with another look
        b.still = 1
    x.turned = 0
    if b.still:
        out_free(&out)
        return False
    clock = rdtsc() - clock
    w.stats[b.cmd.id].calls += 1
    w.stats[b.cmd.id].cycles += clock
    if out.errors:
        w.stats[b.cmd.id].failed += 1
    note_duration(w, <Conn*>b.session, b.cmd, b.argv, b.argc, clock, out_pending(&out))
    if unlikely(conf.slot_stats != 0):
        count_slot(w, x, clock, out_pending(&out))
    blocked_unlink(b)
    hand_over(w, b, &out)
    pushes_flush(w)
    return True


cdef void serve_ready(Worker* w) noexcept nogil:
    cdef Ctx* x = &w.ctx
    cdef Ctx saved = x[0]
    cdef Ready* r
    cdef Blocked* b
    while x.ready != NULL:
        r = <Ready*>x.ready
        x.ready = r.next
        if r.next == NULL:
            x.ready_last = NULL
        b = ready_next(r, NULL)
        while b != NULL:
            b = ready_next(r, NULL if serve_one(w, b) else b)
        free(r)
    x.out = saved.out
    x.argv = saved.argv
    x.argc = saved.argc
    x.session = saved.session
    x.cmd = saved.cmd
    x.db = saved.db
    x.resp = saved.resp
    x.key = saved.key
