# slotring: data plane
"""MULTI, EXEC, DISCARD, WATCH, UNWATCH.

EXEC locks the partitions of all keys of its commands, and of the watched ones, in ascending order, and runs the
commands in place: keys that share a partition (a hash tag) cost one lock. Commands of the control plane run without any
lock, so a transaction that contains one is not isolated around it.
"""
from libc.string cimport memcpy, strlen
from engine.defs cimport *
from engine.command cimport *
from engine.conf cimport conf
from engine.effects cimport call, effect_own, effects_commit
from engine.events cimport watch_key, watch_failed, unwatch_all, Watch
from engine.hashing cimport SLOTS
from engine.keyspace cimport key_init, evict_if_needed
from engine.lock cimport lock, unlock
from engine.multikey cimport PartSet, parts_clear, parts_add, parts_lock, parts_unlock
from engine.reply cimport *
from engine.snapshot cimport preimage_keys
from engine.store cimport Key, part_of, store
from net.conn cimport *
from net.router cimport KeySlots, TURNED_HELD, TURNED_REPLIED, router, slots_init, turned_many
from net.tracking cimport tracking_read
from net.txn cimport *
from net.gate cimport say_misconf
from net.worker cimport workers, hook_python, hook_event, note_duration, EVENT_MONITOR


cdef void cmd_multi(Ctx* x) noexcept nogil:
    cdef Conn* c = <Conn*>x.session
    txn_begin(c)
    reply_ok(x.out)


cdef void cmd_discard(Ctx* x) noexcept nogil:
    cdef Conn* c = <Conn*>x.session
    if not c.flags & C_MULTI:
        reply_error(x.out, b"ERR DISCARD without MULTI")
        return
    txn_free(c)
    unwatch_all(x.session, False)
    reply_ok(x.out)


cdef void cmd_watch(Ctx* x) noexcept nogil:
    cdef Key k
    cdef i64 i
    for i in range(1, x.argc):
        key_init(x, &k, &x.argv[i])
        watch_key(x.session, &k, x.now_ms)
    reply_ok(x.out)


cdef void cmd_unwatch(Ctx* x) noexcept nogil:
    if not x.held:                     # inside EXEC the watches have gone already
        unwatch_all(x.session, False)
    reply_ok(x.out)


cdef void lock_some(PartSet* parts, bint all_) noexcept nogil:
    cdef u32 i
    if all_:
        for i in range(parts.used):
            parts.words[i] = ~<u64>0 if (i + 1) * 64 <= store.nparts else (<u64>1 << (store.nparts & 63)) - 1
    parts_lock(parts)


cdef void run_queued(Ctx* x, Conn* c, Txn* t, PartSet* parts) noexcept nogil:
    """The commands of a transaction, with all their locks held."""
    cdef u32 i, errors
    cdef Queued* q
    cdef CmdStat* stat
    cdef u64 clock = rdtsc(), now, before
    for i in range(t.n):
        q = &t.commands[i]
        x.argv = q.argv
        x.argc = q.argc
        x.cmd = q.cmd
        x.db = c.session.db
        x.resp = c.session.resp
        errors = x.out.errors
        if unlikely(c.session.flags & S_TRACKING):
            tracking_read(c, q.cmd, q.argv, q.argc)
        before = out_pending(x.out)
        if q.cmd.fn == NULL:
            effects_commit(x)          # under the locks of its keys
            parts_unlock(parts)
            x.held = False
            hook_python(workers[c.worker], c, q.cmd, q.argv, q.argc)
            x.held = True
            parts_lock(parts)
        else:
            if q.cmd.first and q.cmd.first < q.argc:
                key_init(x, &x.key, &q.argv[q.cmd.first])
            if unlikely(conf.snapshot) and q.cmd.flags & F_WRITE:
                preimage_keys(q.cmd, q.argv, q.argc)
            call(x, q.cmd)
        now = rdtsc()
        stat = &workers[c.worker].stats[q.cmd.id]
        stat.calls += 1
        stat.cycles += now - clock
        stat.failed += x.out.errors != errors
        q.cycles = now - clock
        q.reply_bytes = out_pending(x.out) - before
        clock = now


cdef void tell_about(Ctx* x, Conn* c, Txn* t, Arg* argv, i64 argc) noexcept nogil:
    """After EXEC, without locks: the logs of slow commands; to monitors the commands, then EXEC itself."""
    cdef Worker* w = workers[c.worker]
    cdef Queued* q
    cdef u32 i
    for i in range(t.n):
        q = &t.commands[i]
        if unlikely(conf.monitors) and not q.cmd.flags & (F_SKIP_MONITOR | F_ADMIN):
            hook_event(w, c, q.cmd, q.argv, q.argc, EVENT_MONITOR, 0)
        note_duration(w, c, q.cmd, q.argv, q.argc, q.cycles, q.reply_bytes)
    if unlikely(conf.monitors):
        hook_event(w, c, x.cmd, argv, argc, EVENT_MONITOR, 0)


cdef void exec_abort(Ctx* x, Conn* c, const char* text) noexcept nogil:
    txn_free(c)
    unwatch_all(x.session, False)
    reply_error(x.out, text)


cdef void exec_misconf(Ctx* x, Conn* c) noexcept nogil:
    txn_free(c)
    unwatch_all(x.session, False)
    say_misconf(x.out, b"EXECABORT Transaction discarded because of: ")


cdef bint exec_turned(Ctx* x, Conn* c, KeySlots* slots) noexcept nogil:
    """Are the transaction's keys not here, or its writes to wait? All locks of its keys are held."""
    cdef Txn* t = <Txn*>c.txn
    cdef u32 i
    if turned_many(x, x.cmd, t, slots):
        return True
    for i in range(t.n if router.paused else 0):
        if t.commands[i].cmd.lock == LOCK_ALL and t.commands[i].cmd.flags & F_WRITE:
            x.turned = TURNED_HELD         # FLUSHALL and its like write to every slot
            return True
    return False


cdef void exec_forget(Ctx* x, Conn* c) noexcept nogil:
    """It is not run: sent elsewhere it ends, while it has to wait it stays."""
    if x.turned == TURNED_REPLIED:
        txn_free(c)
        unwatch_all(x.session, False)


cdef bint exec_elsewhere(Ctx* x, Conn* c, KeySlots* slots) noexcept nogil:
    """Before anything else is said of it: is it for another node? Of cluster mode only."""
    cdef bint turned
    if not conf.cluster or slots.slot == SLOTS:
        return False
    lock(&part_of(slots.slot).lock)
    turned = turned_many(x, x.cmd, c.txn, slots)
    unlock(&part_of(slots.slot).lock)
    if turned:
        exec_forget(x, c)
    return turned


cdef void cmd_exec(Ctx* x) noexcept nogil:
    cdef Conn* c = <Conn*>x.session
    cdef Txn* t = <Txn*>c.txn
    cdef PartSet parts
    cdef KeySlots slots
    cdef Watch* w = <Watch*>x.session.watches
    cdef Arg* argv = x.argv
    cdef i64 argc = x.argc
    cdef Command* cmd = x.cmd
    cdef bint all_
    if t == NULL:
        reply_error(x.out, b"ERR EXEC without MULTI")
        return
    parts_clear(&parts)
    slots_init(&slots, &parts)
    all_ = not txn_slots(t, &slots)
    x.slot = slots.slot
    if unlikely(conf.routing != 0) and exec_elsewhere(x, c, &slots):
        return
    if t.failed:
        exec_abort(x, c, b"EXECABORT Transaction discarded because of previous errors.")
        return
    if unlikely(conf.refuse_writes | conf.aof_errno) and t.flags & F_WRITE:
        exec_misconf(x, c)
        return
    if unlikely(conf.maxmemory) and t.flags & F_DENYOOM and evict_if_needed(x) < 0:
        exec_abort(x, c, b"EXECABORT Transaction discarded because of: OOM command not allowed when "
                   b"used memory > 'maxmemory'.")
        return
    while w != NULL:
        parts_add(&parts, w.part)
        w = w.session_next
    lock_some(&parts, all_)
    if unlikely(conf.routing != 0) and exec_turned(x, c, &slots):
        parts_unlock(&parts)
        exec_forget(x, c)
        return
    if watch_failed(x.session, x.now_ms):
        parts_unlock(&parts)
        txn_free(c)
        unwatch_all(x.session, False)
        reply_null_array(x.out, x.resp)
        return
    unwatch_all(x.session, True)
    reply_array(x.out, t.n)
    x.no_block = True
    x.held = True
    c.flags &= ~<u32>C_MULTI           # what a command asks about its connection is not about the queue
    run_queued(x, c, t, &parts)
    x.no_block = False
    x.held = False
    effects_commit(x)
    effect_own(x)                      # EXEC itself is not among them
    parts_unlock(&parts)
    x.argv = argv
    x.argc = argc
    x.cmd = cmd
    tell_about(x, c, t, argv, argc)
    txn_free(c)



def _about(since, summary, complexity="O(1)"):
    return {"since": since, "group": "transactions", "complexity": complexity, "summary": summary,
            "acl": "fast transaction"}


NO_KEYS = (0, 0, 0)
QUIET = "noscript loading stale fast allow_busy"
register("multi", 1, QUIET + " no_multi", NO_KEYS, cmd_multi, _about(
    "1.2.0", "Begins a transaction: the commands that follow wait for EXEC."))
register("discard", 1, QUIET + " immediate", NO_KEYS, cmd_discard, _about(
    "2.0.0", "Forgets the commands of a transaction.", "O(N), N the queued commands"))
_exec = register("exec", 1, "noscript loading stale skip_commandlog immediate", NO_KEYS, cmd_exec, {
    "since": "1.2.0", "group": "transactions", "complexity": "that of its commands",
    "summary": "Runs the commands of a transaction, all together.", "acl": "slow transaction"})
commands[<int>_exec["id"]].flags |= F_SKIP_MONITOR      # it tells of itself, after its commands
register("watch", -2, QUIET + " no_multi", (1, -1, 1), cmd_watch, _about(
    "2.2.0", "Lets EXEC fail if one of these keys changes before.", "O(1) a key"))
register("unwatch", 1, "noscript loading stale fast allow_busy", NO_KEYS, cmd_unwatch, _about(
    "2.2.0", "Forgets all watched keys.", "O(N), N the watched keys"))
