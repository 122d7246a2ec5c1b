# slotring: data plane
"""A worker's connections: bytes to commands, commands to their functions under the right locks, replies to sends.

Up to BATCH_MAX commands are parsed, then hashed and prefetched in stages, then executed in order. The ring (uring.pyx
or epoll.pyx) calls conn_data, conn_sent, conn_eof and, once a turn, worker_flush."""
from libc.stdlib cimport malloc, calloc, realloc, free, abort
from libc.string cimport memcmp, memcpy, memmove, memset, strlen
from engine.defs cimport *
from engine.lock cimport lock, unlock
from engine.reply cimport *
from engine.command cimport *
from engine.sanitizer cimport ASAN_ON
from engine.store cimport *
from engine.keyspace cimport key_init, evict_if_needed
from engine.hashing cimport SLOTS
from engine.multikey cimport PartSet, command_slots, parts_clear, parts_lock, parts_unlock
from engine.blocking cimport Blocked
from engine.events cimport unwatch_all
from engine.conf cimport conf
from engine.effects cimport call
from engine.outside cimport outside
from engine.snapshot cimport preimage_keys, preimage_slot
from net.clientmem cimport clients_check, clients_max, memory_tell, qbuf_room, qbuf_shrink
from net.acks cimport acks_serve, acks_waiting
from net.conn cimport *
from net.durable cimport durable_hold, durable_release
from net.lookahead cimport prefetch_batch, prefetch_slot
from net.obey cimport call_timeless
from net.gate cimport loading, must_wait, say_misconf, subscriber_may, unknown_command
from net.txn cimport exec_flags, txn_queue, txn_fail, txn_free
from net.waiting cimport conn_blocked, conn_unwait, serve_ready, deadlines, on_served, on_unblock
from net.pubsub cimport pubsub_leave, pushes_flush, on_published
from net.tracking cimport (tracking_broadcast, tracking_command, tracking_end, tracking_limit, tracking_read,
                           on_tracking)
from net.reroute cimport on_routes
from net.resp cimport parse, parser_free, parser_wants
from net.router cimport (KeySlots, TURNED_HELD, count_slot, is_plain, router, slots_add, slots_init, turned_away,
                         turned_early, turned_many)

cdef extern from "<unistd.h>" nogil:
    int close(int)
    ssize_t write(int, const void*, size_t)
cdef extern from "<sys/socket.h>" nogil:
    int shutdown(int, int)
    int SHUT_RDWR, AF_INET, AF_INET6
    struct sockaddr_storage:
        unsigned short ss_family
    struct sockaddr:
        pass
    int getpeername(int, sockaddr*, unsigned int*)
    int setsockopt(int, int, int, const void*, unsigned int)
    int SOL_SOCKET, SO_KEEPALIVE
cdef extern from "<netinet/tcp.h>" nogil:
    int TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT
cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_TCP
cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

cdef enum:
    TICK_US = 100000

cdef const char* EXEC_ABORTED = b"EXECABORT Transaction discarded because of:"
cdef u64 next_client_id = 0
cdef u32 text_lock = 0
hook_python = NULL
hook_event = NULL
total_conns = 0


cdef void worker_hooks(python_hook python, event_hook event, double rate) noexcept nogil:
    global hook_python, hook_event, cycles_per_us
    hook_python = python
    hook_event = event
    cycles_per_us = rate


cdef void swap_text(char** place, char* fresh) noexcept nogil:
    """Give a connection another name (or library name); NULL: none. CLIENT LIST on other threads reads it."""
    cdef char* old
    lock(&text_lock)
    old = place[0]
    place[0] = fresh
    unlock(&text_lock)
    free(old)


cdef char* copy_text(char** place) noexcept nogil:
    """A malloc'ed copy, or NULL."""
    cdef char* copy = NULL
    cdef size_t n
    lock(&text_lock)
    if place[0] != NULL:
        n = strlen(place[0]) + 1
        copy = <char*>malloc(n)
        if copy != NULL:
            memcpy(copy, place[0], n)
    unlock(&text_lock)
    return copy


cdef void worker_count(u32 n) noexcept nogil:
    global nworkers
    nworkers = n


# ---- connections

cdef void worker_init(Worker* w, u32 index) noexcept nogil:
    memset(w, 0, sizeof(Worker))
    w.index = index
    w.ctx.log_id = index
    out_init(&w.trash, &w.pool)
    out_init(&w.pushes, &w.pool)
    w.ctx.random = rdtsc() * 2 + 1
    w.now_us = wall_us()
    w.ctx.now_ms = w.now_us // 1000


cdef Conn* conn_new(Worker* w, int fd, bint is_unix) noexcept nogil:
    cdef Conn* c = w.free_conns
    cdef int one = 1, v
    if c != NULL:
        w.free_conns = c.next
    else:
        c = <Conn*>malloc(sizeof(Conn))
        if c == NULL:
            abort()
    memset(c, 0, sizeof(Conn))
    c.session.id = atomic_add64(&next_client_id, 1, RELAXED)
    c.session.resp = 2
    c.fd = fd
    c.worker = c.session.worker = w.index
    c.flags = C_UNIX if is_unix else 0
    if not conf.need_auth:
        c.flags |= C_AUTH
    c.created_us = c.last_us = w.now_us
    c.last_cmd = 0xFFFFFFFF
    c.queued = -1
    out_init(&c.out, &w.pool)
    if not is_unix:
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(int))
        if conf.tcp_keepalive_s > 0:
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(int))
            v = <int>conf.tcp_keepalive_s
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &v, sizeof(int))
            v = v // 3 if v >= 3 else 1
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &v, sizeof(int))
            v = 3
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &v, sizeof(int))
    lock(&w.conns_lock)
    c.next = w.conns
    if w.conns != NULL:
        w.conns.prev = c
    w.conns = c
    unlock(&w.conns_lock)
    atomic_add32(&w.nconns, 1, RELAXED)
    w.recv_arm(w, c)
    return c


cdef const char* DENIED = (
    b"-DENIED Running in protected mode because protected mode is enabled and no password is set for "
    b"the default user. In this mode connections are only accepted from the loopback interface. "
    b"To connect from external computers, set a password, or turn protected mode off with "
    b"'CONFIG SET protected-mode no' from the loopback interface, or in the configuration file.\r\n")


cdef bint from_here(int fd) noexcept nogil:
    """Does the peer of a socket have a loopback address?"""
    cdef sockaddr_storage a
    cdef unsigned int n = sizeof(a)
    cdef u8* p = <u8*>&a
    cdef int i
    if getpeername(fd, <sockaddr*>&a, &n):
        return True
    if a.ss_family == AF_INET:
        return p[4] == 127
    if a.ss_family != AF_INET6:
        return True
    for i in range(15):
        if p[8 + i] != 0:              # not ::1; IPv4 in IPv6 has 127 after ten zeros and ff ff
            return i == 10 and p[18] == 255 and p[19] == 255 and p[20] == 127
    return p[23] == 1


cdef void conn_accepted(Worker* w, int fd, bint is_unix) noexcept nogil:
    """A new socket: give it to the worker with the fewest connections."""
    cdef u32 i
    cdef Worker* best = w
    cdef const char* refusal = b"-ERR max number of clients reached\r\n"
    if (unlikely(conf.protected_mode) and not conf.need_auth and not is_unix
            and not from_here(fd)):
        w.rejected += 1
        write(fd, DENIED, strlen(DENIED))
        close(fd)
        return
    if atomic_load32(&total_conns, RELAXED) >= conf.maxclients:
        w.rejected += 1
        write(fd, refusal, strlen(refusal))
        close(fd)
        return
    atomic_add32(&total_conns, 1, RELAXED)
    w.accepted += 1
    for i in range(nworkers):
        if atomic_load32(&workers[i].nconns, RELAXED) < atomic_load32(&best.nconns, RELAXED):
            best = workers[i]
    if best == w:
        conn_new(w, fd, is_unix)
    else:
        atomic_add32(&best.nconns, 1, RELAXED)     # counted at once, so that a burst spreads evenly
        post(best, MSG_ACCEPTED, fd, NULL, 0, NULL, is_unix)


cdef void conn_close(Worker* w, Conn* c) noexcept nogil:
    """Begin the end: nothing more is read or run; the memory goes when its operations have ended."""
    if c.flags & C_CLOSING:
        return
    c.flags |= C_CLOSING
    pubsub_leave(c)
    tracking_end(c)
    shutdown(c.fd, SHUT_RDWR)
    flush_later(w, c)


cdef void link_event(Worker* w, Conn* c, i64 what) noexcept nogil:
    """Something that ends what a link from another node does."""
    if unlikely(c.session.flags & S_OBEY) and hook_event != NULL:
        hook_event(w, c, NULL, NULL, 0, EVENT_LINK, what)


cdef void conn_release(Worker* w, Conn* c) noexcept nogil:
    """Free a closing connection if no operation of it is under way."""
    if c.flags & (C_SENDING | C_RECV | C_LISTED):
        return
    if c.session.blocked != NULL and not conn_unwait(w, c):
        return                         # another worker is answering it; its message comes
    if c.session.watches != NULL:
        unwatch_all(&c.session, False)
    if c.txn != NULL:
        txn_free(c)
    pubsub_leave(c)
    tracking_end(c)
    if hook_event != NULL and c.flags & C_MONITOR:
        hook_event(w, c, NULL, NULL, 0, EVENT_GONE, 0)
    link_event(w, c, LINK_GONE)
    close(c.fd)
    out_free(&c.out)
    w.qbuf_bytes -= c.qcap
    free(c.qbuf)
    parser_free(&c.parser)
    swap_text(&c.name, NULL)
    swap_text(&c.lib_name, NULL)
    swap_text(&c.lib_ver, NULL)
    c.qbuf = NULL
    c.qcap = c.qlen = 0
    lock(&w.conns_lock)
    if c.prev != NULL:
        c.prev.next = c.next
    else:
        w.conns = c.next
    if c.next != NULL:
        c.next.prev = c.prev
    c.session.id = 0
    unlock(&w.conns_lock)
    c.fd = -1
    c.next = w.free_conns
    w.free_conns = c
    atomic_add32(&w.nconns, <u32>-1, RELAXED)
    atomic_add32(&total_conns, <u32>-1, RELAXED)
    if unlikely(c.dying != 0):             # (whoever evicted it has let go of conns_lock by now)
        memory_tell(w)
        atomic_addi64(&outside.dying, -<i64>c.dying, RELAXED)


cdef void flush_later(Worker* w, Conn* c) noexcept nogil:
    if not c.flags & C_LISTED:
        c.flags |= C_LISTED
        c.next_flush = w.flush
        w.flush = c


cdef int conn_gather(Conn* c) noexcept nogil:
    """Fill c.iov with what is to be sent; returns how many."""
    cdef Chunk* k = c.out.head
    cdef int n = 0
    cdef size_t skip = c.head_sent, have
    c.sending = 0
    while k != NULL and n < IOV_MAX_CHUNKS:
        have = <size_t>(c.out.pos - k.data) if k == c.out.tail else k.len
        if have > skip:
            c.iov[n].iov_base = k.data + skip
            c.iov[n].iov_len = have - skip
            c.sending += have - skip
            n += 1
        skip = 0
        k = k.next
    return n


cdef void conn_sent(Worker* w, Conn* c, i64 n) noexcept nogil:
    """A send ended: n bytes, or a negative errno."""
    cdef Chunk* k
    cdef size_t have
    c.flags &= ~<u32>C_SENDING
    if n < 0:
        conn_close(w, c)
        return
    w.net_out += n
    w.writes += 1
    c.net_out += n
    c.head_sent += n
    while c.out.head != NULL:
        k = c.out.head
        if k == c.out.tail:
            if c.head_sent == <size_t>(c.out.pos - k.data):
                chunk_release(&w.pool, k)
                c.out.head = c.out.tail = NULL
                c.out.pos = c.out.end = NULL
                c.out.chunks = 0
                c.head_sent = 0
            break
        have = k.len
        if c.head_sent < have:
            break
        c.head_sent -= have
        c.out.bytes -= have
        c.out.head = k.next
        c.out.chunks -= 1
        chunk_release(&w.pool, k)
    if c.out.head != NULL or c.flags & (C_CLOSE_SOON | C_CLOSING):
        flush_later(w, c)


cdef void check_output_limit(Worker* w, Conn* c) noexcept nogil:
    cdef u64 pending = out_pending(&c.out) - c.head_sent
    cdef bint pubsub = c.session.flags & S_PUBSUB
    cdef i64 hard = conf.pubsub_hard_bytes if pubsub else conf.out_hard_bytes
    cdef i64 soft = conf.pubsub_soft_bytes if pubsub else conf.out_soft_bytes
    if hard and pending > <u64>hard:
        w.over_output += 1
        conn_close(w, c)
        return
    if soft and pending > <u64>soft:
        if c.soft_since_us == 0:
            c.soft_since_us = w.now_us
        elif w.now_us - c.soft_since_us > (conf.pubsub_soft_s if pubsub else conf.out_soft_s) * 1000000:
            w.over_output += 1
            conn_close(w, c)
    else:
        c.soft_since_us = 0


cdef void worker_flush(Worker* w) noexcept nogil:
    """Once a turn: start the sends of every connection that has output, end those that are to end."""
    cdef Conn* c
    cdef u64 began
    cdef bint held
    if unlikely(w.held != NULL):
        durable_release(w)
    if unlikely(acks_waiting[w.index]):
        acks_serve(w)
    while w.resume != NULL:                # what was waiting has its answer: go on with what follows it
        c = w.resume
        w.resume = c.next_resume
        c.flags &= ~<u32>C_RESUME
        conn_data(w, c, NULL, 0)
    pushes_flush(w)
    if w.changes != NULL:
        tracking_broadcast(w)
    if unlikely(conf.effects):
        began = rdtsc()
        held = durable_hold(w)
        w.busy_aof += rdtsc() - began
        if held:
            return
    c = w.flush
    w.flush = NULL
    flush_list(w, c)
    if clients_max:
        memory_tell(w)
        clients_check(w)
    elif conf.maxmemory:
        memory_tell(w)


cdef void flush_list(Worker* w, Conn* c) noexcept nogil:
    """The connections of a list (next_flush): send, or end."""
    cdef Conn* following
    while c != NULL:
        following = c.next_flush
        c.flags &= ~<u32>C_LISTED
        if c.flags & C_CLOSING:
            conn_release(w, c)
            c = following
            continue
        if c.out.head != NULL and (c.session.flags & S_PUBSUB or conf.out_hard_bytes or conf.out_soft_bytes):
            check_output_limit(w, c)       # also while a slow reader's send is under way
        if not c.flags & (C_SENDING | C_CLOSING):
            if c.out.head != NULL:
                c.flags |= C_SENDING
                w.send_start(w, c)
            elif c.flags & C_CLOSE_SOON:
                conn_close(w, c)
        c = following


# ---- messages between workers

cdef Message* message_new(u32 kind, size_t n) noexcept nogil:
    """A message with room for n bytes."""
    cdef Message* m = <Message*>malloc(sizeof(Message) + n)
    if m == NULL:
        abort()
    m.next = NULL
    m.kind = kind
    m.conn = NULL
    return m


cdef void message_post(Worker* to, Message* m) noexcept nogil:
    """Leave a message for a worker; whoever leaves the first wakes it."""
    cdef u64 one = 1
    cdef bint wake
    lock(&to.inbox_lock)
    wake = to.inbox == NULL
    if wake:
        to.inbox = m
    else:
        to.inbox_tail.next = m
    to.inbox_tail = m
    unlock(&to.inbox_lock)
    if wake:
        write(to.wake_fd, &one, 8)


cdef void post(Worker* to, u32 kind, int fd, Conn* c, u64 id, const char* p, size_t n) noexcept nogil:
    """Leave a message for a worker and wake it. p NULL: n is only a number."""
    cdef Message* m = message_new(kind, n if p != NULL else 0)
    m.fd = fd
    m.conn = c
    m.conn_id = id
    m.len = n
    if p != NULL:
        memcpy(m.data, p, n)
    message_post(to, m)


cdef void worker_inbox(Worker* w) noexcept nogil:
    cdef Message* m
    cdef Message* following
    lock(&w.inbox_lock)
    m = w.inbox
    w.inbox = w.inbox_tail = NULL
    unlock(&w.inbox_lock)
    while m != NULL:
        following = m.next
        if m.kind == MSG_ACCEPTED:
            atomic_add32(&w.nconns, <u32>-1, RELAXED)
            conn_new(w, m.fd, m.len != 0)
        elif m.kind == MSG_STOP:
            w.stop = 1
        elif m.kind == MSG_LISTEN:
            w.accept_arm(w, <u32>m.fd)
        elif m.kind == MSG_UNPAUSE:
            resume_held(w)
        elif m.kind == MSG_SERVED:
            on_served(w, m)
        elif m.kind == MSG_UNBLOCK:
            on_unblock(w, m)
        elif m.kind == MSG_PUBLISH:
            on_published(w, m, NULL)
        elif m.kind == MSG_ROUTES:
            on_routes(w, m)
        elif m.kind >= MSG_TRACK_KEY:
            on_tracking(w, m)
        elif m.conn.session.id == m.conn_id and not m.conn.flags & C_CLOSING:
            if m.kind == MSG_KILL:
                conn_close(w, m.conn)
            elif m.kind == MSG_OUTPUT:
                out_write(&m.conn.out, m.data, m.len)
                flush_later(w, m.conn)
        free(m)
        m = following


cdef void resume_held(Worker* w) noexcept nogil:
    """CLIENT PAUSE has ended: run what waited."""
    cdef Conn* c = w.conns
    cdef Conn* following
    while c != NULL:
        following = c.next
        if c.flags & C_HELD:
            c.flags &= ~<u32>C_HELD
            conn_data(w, c, NULL, 0)
        c = following


cdef void worker_tick(Worker* w) noexcept nogil:
    """Ten times a second: idle clients, soft output limits, paused clients."""
    cdef Conn* c
    if unlikely(w.next_deadline_us != 0) and w.now_us >= w.next_deadline_us:
        deadlines(w)
    if w.now_us < w.next_tick_us:
        return
    w.next_tick_us = w.now_us + TICK_US
    c = w.conns
    while c != NULL:
        if c.flags & C_CLOSING:
            if c.session.blocked != NULL:
                flush_later(w, c)
        elif conf.timeout_s > 0 and not c.flags & (C_MONITOR | C_BLOCKED) and \
                not c.session.flags & (S_PUBSUB | S_OBEY) and \
                w.now_us - c.last_us > conf.timeout_s * 1000000:
            conn_close(w, c)
        elif c.soft_since_us:
            check_output_limit(w, c)
        if c.qcap:
            qbuf_shrink(w, c)
        c = c.next
    if not conf.paused:
        resume_held(w)


# ---- execution

cdef void run_keys(Ctx* c, Command* cmd) noexcept nogil:
    """A row that locks all its keys' partitions."""
    cdef PartSet parts
    cdef KeySlots slots
    cdef bint known
    parts_clear(&parts)
    slots_init(&slots, &parts)
    known = command_slots(cmd, c.argv, c.argc, slots_add, &slots)
    c.slot = slots.slot
    if likely(known):
        parts_lock(&parts)
    else:
        lock_all()
    if likely(conf.routing == 0) or not turned_many(c, cmd, NULL, &slots):
        if unlikely(conf.snapshot) and cmd.flags & F_WRITE:
            preimage_keys(cmd, c.argv, c.argc)
        call(c, cmd)
    if likely(known):
        parts_unlock(&parts)
    else:
        unlock_all()


cdef void run_locked(Ctx* c, Command* cmd) noexcept nogil:
    """Run a row's function with the locks that the row asks for, unless its keys are not for here (c.turned)."""
    if cmd.lock == LOCK_KEY:
        lock(&c.key.part.lock)
        c.slot = c.key.slot
        if likely(conf.routing == 0) or is_plain(c.slot) or not turned_away(c, cmd, NULL, c.slot):
            if unlikely(conf.snapshot) and cmd.flags & F_WRITE:
                preimage_slot(c.slot)
            call(c, cmd)
        unlock(&c.key.part.lock)
    elif cmd.lock == LOCK_KEYS:
        run_keys(c, cmd)
    elif cmd.lock == LOCK_ALL:
        lock_all()
        if unlikely(router.paused != 0) and cmd.flags & F_WRITE:
            c.turned = TURNED_HELD         # it writes to every slot
        else:
            call(c, cmd)
        unlock_all()
    elif likely(conf.routing == 0) or not has_keys(cmd) or not turned_early(c, cmd):
        call(c, cmd)


cdef bint refused(Worker* w, Conn* c, Parsed* b) noexcept nogil:
    """The checks that are off the usual way; True if the command must not run (the reply is written)."""
    cdef char text[160]
    cdef Command* cmd = b.cmd
    cdef bint exec_
    cdef const char* kind
    if not c.flags & C_AUTH and not (cmd != NULL and cmd.flags & F_NO_AUTH):
        reply_error(w.ctx.out, b"NOAUTH Authentication required.")
    elif cmd == NULL:
        unknown_command(w.ctx.out, &w.args[b.argi], b.argc)
    elif (cmd.arity > 0 and b.argc != cmd.arity) or b.argc < -cmd.arity:
        kind = b"ERR"
        exec_ = c.txn != NULL and cmd.name_len == 4 and not memcmp(cmd.name, b"exec", 4)
        if exec_:
            kind = EXEC_ABORTED
        snprintf(text, 160, b"%s wrong number of arguments for '%.*s' command", kind,
                 <int>cmd.name_len, cmd.name)
        reply_error(w.ctx.out, text)
        if exec_:
            txn_free(c)
            unwatch_all(&c.session, False)
    elif not must_wait(cmd, w.ctx.out):
        return False
    if cmd != NULL:
        w.stats[cmd.id].rejected += 1
    link_event(w, c, LINK_ERROR)
    txn_fail(c)
    return True


cdef bint is_elsewhere(Worker* w, Command* cmd) noexcept nogil:
    """A command that may not run here: has it to go elsewhere anyway? That is what it is told then."""
    cdef bint away = conf.cluster and has_keys(cmd) and turned_early(&w.ctx, cmd) and w.ctx.turned != TURNED_HELD
    w.ctx.turned = 0
    return away


cdef bint barred(Worker* w, Conn* c, Command* cmd) noexcept nogil:
    """What memory or the disk does not allow: True, and the reply is written."""
    if conf.maxmemory or clients_max:
        memory_tell(w)
        clients_check(w)                   # before any key goes
        if c.flags & C_CLOSING:
            return True
    if (conf.refuse_writes | conf.aof_errno) and (
            cmd.flags & F_WRITE or (cmd.name_len == 4 and not memcmp(cmd.name, b"ping", 4))):
        if not is_elsewhere(w, cmd):
            say_misconf(w.ctx.out, b"")
    elif conf.maxmemory and evict_if_needed(&w.ctx) < 0 and cmd.flags & F_DENYOOM:
        if not is_elsewhere(w, cmd):
            reply_error(w.ctx.out, b"OOM command not allowed when used memory > 'maxmemory'.")
    else:
        return False
    w.stats[cmd.id].rejected += 1
    return True


cdef inline bint has_keys(Command* cmd) noexcept nogil:
    return cmd.first or cmd.special or cmd.get_keys != NULL


cdef void turned(Worker* w, Conn* c, Parsed* b) noexcept nogil:
    """A command did not run because of its slot: it was answered, or it is tried again when the slot's pause ends."""
    if w.ctx.turned == TURNED_HELD:
        c.flags |= C_HELD
        c.commands -= 1
        w.commands -= 1
        if w.ctx.out == &w.trash and not c.flags & C_REPLY_OFF:
            c.flags |= C_REPLY_SKIP
        if c.session.flags & S_ASKED and not c.flags & C_MULTI:
            c.session.flags |= S_ASKING
    else:
        w.stats[b.cmd.id].rejected += 1
    w.ctx.turned = 0
    if w.push_conn != NULL:
        pushes_flush(w)
    if w.ctx.out == &w.trash:
        out_free(&w.trash)


cdef void queue_command(Worker* w, Conn* c, Parsed* b) noexcept nogil:
    """A command between MULTI and EXEC."""
    cdef Ctx* x = &w.ctx
    x.slot = SLOTS
    if unlikely(conf.cluster != 0) and has_keys(b.cmd) and turned_early(x, b.cmd) and x.turned != TURNED_HELD:
        turned(w, c, b)
        txn_fail(c)
        return
    x.turned = 0                           # EXEC waits, not what is queued for it
    if (conf.maxmemory | clients_max | conf.refuse_writes | conf.aof_errno) and barred(w, c, b.cmd):
        txn_fail(c)
        return
    if unlikely(c.session.flags & S_TRACKING):
        tracking_limit(c)
        pushes_flush(w)                    # what that says of keys comes before the reply
    txn_queue(c, b.cmd, &w.args[b.argi], b.argc)
    if unlikely(conf.slot_stats != 0):
        count_slot(w, x, 0, b.bytes, 0)
    out_write(x.out, b"+QUEUED\r\n", 9)


cdef bint runs_now(Worker* w, Conn* c, Parsed* b) noexcept nogil:
    """A command of a connection in MULTI, with subscriptions or tracking, or after ASKING: False if it was queued or
    refused."""
    cdef char text[192]
    cdef Command* cmd = b.cmd
    if c.session.flags & (S_ASKING | S_ASKED) and not c.flags & C_MULTI:
        c.session.flags = (c.session.flags & ~<u32>(S_ASKING | S_ASKED)) | (
            S_ASKED if c.session.flags & S_ASKING else 0)
    if cmd.flags & F_CONTAINER:            # its function says that the subcommand is unknown
        txn_fail(c)
        return True
    if c.flags & C_MULTI and cmd.flags & F_NO_MULTI:
        snprintf(text, 192, b"ERR Command '%.*s' not allowed inside a transaction", <int>cmd.name_len, cmd.name)
    elif c.session.flags & S_PUBSUB and c.session.resp == 2 and not subscriber_may(cmd):
        snprintf(text, 192, b"ERR Can't execute '%.*s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
                 b"RESET are allowed in this context", <int>cmd.name_len, cmd.name)
    elif c.flags & C_MULTI and not cmd.flags & F_IMMEDIATE:
        queue_command(w, c, b)
        return False
    else:
        if c.session.flags & S_TRACKING:
            tracking_command(c, cmd)
            tracking_read(c, cmd, w.ctx.argv, w.ctx.argc)
        return True
    reply_error(w.ctx.out, text)
    w.stats[cmd.id].rejected += 1
    txn_fail(c)
    return False


cdef void show_monitors(Worker* w, Conn* c, Command* cmd) noexcept nogil:
    """After the command, as Valkey does: RESET does not show itself to the monitor that it ends."""
    if not cmd.flags & (F_SKIP_MONITOR | F_ADMIN):
        hook_event(w, c, cmd, w.ctx.argv, w.ctx.argc, EVENT_MONITOR, 0)


cdef void note_duration(Worker* w, Conn* c, Command* cmd, Arg* argv, i64 argc, u64 cycles,
                        u64 reply_bytes) noexcept nogil:
    """Histogram, and the logs of what was slow or large."""
    cdef u32 id_ = cmd.id, place
    cdef i64 us, i
    cdef u64 request = 0
    if unlikely(w.hist[id_] == NULL):
        w.hist[id_] = <u32*>calloc(HIST_BUCKETS, sizeof(u32))
    place = 63 - clz64(cycles | 1)
    w.hist[id_][place] += 1
    if hook_event == NULL or cmd.flags & F_SKIP_COMMANDLOG:
        return
    if cycles > 1 << 12 or conf.slow_us == 0:
        us = <i64>(cycles / cycles_per_us)
        if conf.slow_us >= 0 and us >= conf.slow_us:
            hook_event(w, c, cmd, argv, argc, EVENT_SLOW, us)
        if conf.latency_ms and us >= conf.latency_ms * 1000:
            hook_event(w, c, cmd, NULL, 0, EVENT_LATENCY, us // 1000)
    if conf.large_reply_bytes >= 0 and reply_bytes > <u64>conf.large_reply_bytes:
        hook_event(w, c, cmd, argv, argc, EVENT_LARGE_REPLY, <i64>reply_bytes)
    if conf.large_request_bytes >= 0:
        for i in range(argc if argc < 1024 else 1024):
            request += argv[i].len
        if unlikely(request > <u64>conf.large_request_bytes):
            hook_event(w, c, cmd, argv, argc, EVENT_LARGE_REQUEST, <i64>request)


cdef void note_failure(Worker* w, Conn* c, Parsed* b) noexcept nogil:
    """A command replied an error. What RESTORE finds damaged goes to the log."""
    cdef Arg* argv = &w.args[b.argi]
    cdef OutBuf* o = w.ctx.out
    w.stats[b.cmd.id].failed += 1
    link_event(w, c, LINK_ERROR)
    if (hook_event != NULL and memcmp(b.cmd.name, b"restore", 7) == 0 and o.tail != NULL
            and o.pos - o.tail.data >= 22 and memcmp(o.pos - 22, b"-ERR Bad data format\r\n", 22) == 0):
        hook_event(w, c, b.cmd, NULL, 0, EVENT_BAD_PAYLOAD, <u8>argv[3].ptr[0])


cdef void execute(Worker* w, Conn* c, Parsed* b, u64* clock) noexcept nogil:
    """One command: checks, locks, function, statistics. *clock: cycles at its start, then at its end."""
    cdef Ctx* x = &w.ctx
    cdef Command* cmd = b.cmd
    cdef u64 now, before
    cdef u32 errors
    c.commands += 1
    w.commands += 1
    x.out = &c.out
    if unlikely(c.flags & (C_REPLY_OFF | C_REPLY_SKIP)):
        x.out = &w.trash
        c.flags &= ~<u32>C_REPLY_SKIP
    if (unlikely(cmd == NULL or not c.flags & C_AUTH or atomic_load32(&loading, RELAXED))
            or (cmd.arity > 0 and b.argc != cmd.arity) or b.argc < -cmd.arity) and refused(w, c, b):
        clock[0] = rdtsc()
        return
    c.last_cmd = cmd.id
    x.argv = &w.args[b.argi]
    x.argc = b.argc
    x.session = &c.session
    x.cmd = cmd
    x.db = c.session.db
    x.resp = c.session.resp
    if unlikely(c.flags & C_MULTI or c.session.flags & (S_PUBSUB | S_TRACKING | S_ASKING | S_ASKED)) and \
            not runs_now(w, c, b):
        clock[0] = rdtsc()
        return
    if unlikely(conf.maxmemory | clients_max | conf.refuse_writes | conf.aof_errno) and \
            barred(w, c, cmd):
        link_event(w, c, LINK_ERROR if (conf.refuse_writes | conf.aof_errno) else LINK_FULL)
        clock[0] = rdtsc()
        return
    if unlikely(w.push_conn != NULL):      # what eviction told this connection comes before the reply
        pushes_flush(w)
    errors = x.out.errors
    before = out_pending(x.out)
    if likely(cmd.fn != NULL):
        if likely(b.keyed):
            x.key = b.key
            x.key.db = x.db
            x.slot = x.key.slot
            lock(&x.key.part.lock)
            if unlikely(conf.routing != 0) and unlikely(not is_plain(x.slot)) and turned_away(x, cmd, NULL, x.slot):
                unlock(&x.key.part.lock)
            else:
                if unlikely(conf.snapshot) and cmd.flags & F_WRITE:
                    preimage_slot(x.slot)
                if unlikely(c.session.flags & S_OBEY):
                    call_timeless(x, cmd)
                else:
                    call(x, cmd)
                unlock(&x.key.part.lock)
        else:
            x.slot = SLOTS
            if cmd.first and b.argc > cmd.first:
                key_init(x, &x.key, &x.argv[cmd.first])
            run_locked(x, cmd)
        if unlikely(x.turned != 0):
            turned(w, c, b)
            clock[0] = rdtsc()
            return
        if unlikely(conf.monitors):
            show_monitors(w, c, cmd)
        if unlikely(c.session.blocked != NULL):
            conn_blocked(w, c)             # it counts when it has run
            c.commands -= 1
            w.commands -= 1
            pushes_flush(w)
            clock[0] = rdtsc()
            return
    else:
        x.slot = SLOTS
        if unlikely(conf.routing != 0) and has_keys(cmd) and turned_early(x, cmd):
            turned(w, c, b)
            clock[0] = rdtsc()
            return
        hook_python(w, c, cmd, x.argv, x.argc)
        if unlikely(c.session.blocked != NULL):
            conn_blocked(w, c)             # its answer comes from another thread
        if unlikely(cmd.flags & F_CONTAINER and b.argc > 1):
            clock[0] = rdtsc()             # its subcommand does not exist: nothing was called
            return
        if unlikely(conf.monitors):
            show_monitors(w, c, cmd)
    now = rdtsc()
    w.stats[cmd.id].calls += 1
    w.stats[cmd.id].cycles += now - clock[0]
    if unlikely(x.out.errors != errors):
        note_failure(w, c, b)
    note_duration(w, c, cmd, x.argv, x.argc, now - clock[0], out_pending(x.out) - before)
    if unlikely(conf.slot_stats != 0):
        count_slot(w, x, now - clock[0], b.bytes, out_pending(x.out) - before)
    clock[0] = now
    if unlikely(w.push_conn != NULL):
        pushes_flush(w)
    if unlikely(x.ready != NULL):
        serve_ready(w)
        clock[0] = rdtsc()
    if unlikely(x.out == &w.trash):
        out_free(&w.trash)


cdef void prepare(Worker* w, Conn* c, Parsed* b) noexcept nogil:
    """Row, hash and slot of a parsed command; the slot's pointer on its way."""
    cdef Arg* a = &w.args[b.argi]
    cdef Command* cmd = command_find(a[0].ptr, a[0].len, NULL, 0)
    cdef Command* sub
    if unlikely(cmd != NULL and cmd.flags & F_CONTAINER and b.argc > 1):
        sub = command_find(a[0].ptr, a[0].len, a[1].ptr, a[1].len)
        if sub != NULL:
            cmd = sub
    b.cmd = cmd
    b.keyed = 0
    if cmd == NULL or b.argc <= cmd.first or (cmd.lock != LOCK_KEY and not (
            cmd.lock == LOCK_KEYS and b.argc == 2 and cmd.first == 1 and cmd.last == -1 and cmd.get_keys == NULL)):
        return                         # (DEL and its like of a single key are commands of one key)
    b.keyed = 1
    w.ctx.db = c.session.db
    key_init(&w.ctx, &b.key, &a[cmd.first])
    prefetch_slot(c.session.db, b.key.slot)


cdef void protocol_error(Worker* w, Conn* c, char* base, size_t left) noexcept nogil:
    cdef char text[96]
    cdef char got
    cdef Arg told[2]
    if c.parser.error != NULL:
        snprintf(text, 96, b"ERR %s", c.parser.error)
    else:
        got = base[c.parser.pos]
        snprintf(text, 96, b"ERR Protocol error: expected '$', got '%c'", <int>got)
    told[0], told[1] = Arg(&text[20], strlen(&text[20])), Arg(base, left)
    if hook_event != NULL:
        hook_event(w, c, NULL, told, 2, EVENT_PROTOCOL, 0)
    reply_error(&c.out, text)
    c.flags |= C_CLOSE_SOON | C_NO_MORE
    flush_later(w, c)


cdef bint paused(Conn* c, Parsed* b) noexcept nogil:
    """Does CLIENT PAUSE hold the command: any, or one that may write. What is refused anyway is answered."""
    cdef Command* cmd = b.cmd
    if cmd == NULL or not c.flags & C_AUTH or (cmd.arity > 0 and b.argc != cmd.arity) or b.argc < -cmd.arity:
        return False
    return conf.paused == 2 or (cmd.flags | exec_flags(c, cmd)) & (F_WRITE | F_MAY_REPLICATE) != 0


cdef size_t run_input(Worker* w, Conn* c, char* p, size_t n) noexcept nogil:
    """Run all whole commands in p[0:n]; returns how many bytes they took."""
    cdef size_t done = 0, used = 0, marks[BATCH_MAX]
    cdef u32 k, i
    cdef int got = 1
    cdef i64 before
    cdef u64 clock
    while got == 1 and not c.flags & (C_NO_MORE | C_CLOSING | C_HELD | C_BLOCKED):
        k = 0
        w.args_n = 0
        while k < BATCH_MAX:
            before = w.args_n
            got = parse(&c.parser, w, p + done, n - done, &used, c.flags & C_AUTH)
            if got != 1:
                break
            done += used
            if w.args_n == before:
                continue
            w.batch[k].argi = <u32>before
            w.batch[k].argc = w.args_n - before
            w.batch[k].bytes = used
            marks[k] = done - used
            k += 1
            if not c.flags & C_AUTH:
                break
        for i in range(k):
            prepare(w, c, &w.batch[i])
        if k > 1 and not ASAN_ON:          # (it would see reads of what another thread has just freed)
            prefetch_batch(w, k)
        clock = rdtsc()
        for i in range(k):
            if unlikely(conf.paused != 0) and not c.session.flags & S_OBEY and paused(c, &w.batch[i]):
                c.flags |= C_HELD
                parser_free(&c.parser)
                return marks[i]
            execute(w, c, &w.batch[i], &clock)
            if unlikely(c.flags & (C_NO_MORE | C_CLOSING | C_HELD)):
                if c.flags & C_HELD:           # its slot is paused: it is parsed again afterwards
                    parser_free(&c.parser)
                    return marks[i]
                break
            if unlikely(c.flags & C_BLOCKED):      # what follows is parsed again when it is answered
                if i + 1 < k:
                    done = marks[i + 1]
                if i + 1 < k or got < 0:
                    parser_free(&c.parser)
                return done
        if got < 0 and not c.flags & (C_NO_MORE | C_CLOSING):
            protocol_error(w, c, p + done, n - done)
    if w.args_cap > 65536:
        free(w.args)
        w.args = NULL
        w.args_cap = w.args_n = 0
    return done


cdef void conn_data(Worker* w, Conn* c, char* p, size_t n) noexcept nogil:
    """Bytes have arrived (n may be 0: try again what is buffered)."""
    cdef size_t used, wants
    if c.flags & (C_CLOSING | C_NO_MORE):
        return
    if unlikely(atomic_load64(&c.doomed, RELAXED) == c.session.id):
        conn_close(w, c)
        return
    w.net_in += n
    w.reads += n != 0
    c.net_in += n
    c.last_us = w.now_us
    if c.qlen == 0 and n and not c.flags & (C_HELD | C_BLOCKED | C_SYNCING):
        used = run_input(w, c, p, n)      # the usual case: straight from the ring's buffer
        p += used
        n -= used
    if n or c.qlen:
        if n and not c.flags & (C_CLOSING | C_NO_MORE):
            wants = parser_wants(&c.parser)
            qbuf_room(w, c, wants if wants > c.qlen + n else c.qlen + n)
            memcpy(c.qbuf + c.qlen, p, n)
            c.qlen += n
            if c.qlen > c.qpeak:
                c.qpeak = c.qlen
        if c.qlen and not c.flags & (C_HELD | C_BLOCKED | C_SYNCING | C_CLOSING | C_NO_MORE):
            used = run_input(w, c, c.qbuf, c.qlen)
            c.qlen -= used
            if c.qlen and used:
                memmove(c.qbuf, c.qbuf + used, c.qlen)
        if c.qlen > <size_t>conf.query_buffer_limit and not c.flags & C_CLOSING:
            w.over_query += 1
            conn_close(w, c)
    if c.out.head != NULL or c.flags & C_CLOSE_SOON:
        flush_later(w, c)


cdef void conn_eof(Worker* w, Conn* c) noexcept nogil:
    """The peer has closed or reset: what is still to be sent is tried, then it ends."""
    conn_close(w, c)


cdef void cmd_quit(Ctx* x) noexcept nogil:
    cdef Conn* c = <Conn*>x.session
    reply_ok(x.out)
    c.flags |= C_CLOSE_SOON | C_NO_MORE


register("quit", -1, "noscript loading stale fast no_auth allow_busy immediate", (0, 0, 0), cmd_quit, {
    "since": "1.0.0", "group": "connection", "complexity": "O(1)", "acl": "fast connection",
    "summary": "Ends the connection once its replies are sent."})
