# slotring: data plane
# slotring: link liburing
"""The io_uring of a worker: multishot accept and receive, a ring of provided buffers, one submit-and-wait a turn."""
from libc.stdlib cimport malloc, calloc, free, abort
from libc.string cimport memset
from engine.defs cimport *
from net.conn cimport *
from net.durable cimport durable_synced
from net.worker cimport *

cdef extern from "<liburing.h>" nogil:
    struct io_uring_cq "io_uring_cq":
        unsigned int* khead
    struct io_uring:
        unsigned int flags
        int ring_fd
    struct io_uring_params:
        u32 sq_entries
        u32 cq_entries
        u32 flags
    struct io_uring_sqe:
        u16 buf_group
    struct io_uring_cqe:
        u64 user_data
        i32 res
        u32 flags
    struct io_uring_buf_ring:
        pass
    struct kernel_timespec "__kernel_timespec":
        long long tv_sec
        long long tv_nsec
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    int io_uring_queue_init_params(unsigned, io_uring*, io_uring_params*)
    void io_uring_queue_exit(io_uring*)
    io_uring_sqe* io_uring_get_sqe(io_uring*)
    int io_uring_submit(io_uring*)
    int io_uring_submit_and_wait(io_uring*, unsigned)
    int io_uring_register_ring_fd(io_uring*)
    void io_uring_prep_timeout(io_uring_sqe*, kernel_timespec*, unsigned, unsigned)
    unsigned IORING_TIMEOUT_MULTISHOT
    unsigned io_uring_peek_batch_cqe(io_uring*, io_uring_cqe**, unsigned)
    void io_uring_cq_advance(io_uring*, unsigned)
    io_uring_buf_ring* io_uring_setup_buf_ring(io_uring*, unsigned, int, unsigned, int*)
    void io_uring_buf_ring_add(io_uring_buf_ring*, void*, unsigned, unsigned short, int, int)
    void io_uring_buf_ring_advance(io_uring_buf_ring*, int)
    int io_uring_buf_ring_mask(u32)
    unsigned io_uring_cq_ready(const io_uring*)
    bint io_uring_cq_has_overflow(const io_uring*)
    void io_uring_prep_multishot_accept(io_uring_sqe*, int, void*, void*, int)
    void io_uring_prep_recv_multishot(io_uring_sqe*, int, void*, size_t, int)
    void io_uring_prep_send(io_uring_sqe*, int, const void*, size_t, int)
    void io_uring_prep_sendmsg(io_uring_sqe*, int, const msghdr*, unsigned)
    void io_uring_prep_poll_multishot(io_uring_sqe*, int, unsigned)
    void io_uring_prep_cancel64(io_uring_sqe*, u64, int)
    void io_uring_prep_fsync(io_uring_sqe*, int, unsigned)
    unsigned IORING_FSYNC_DATASYNC
    void io_uring_sqe_set_data64(io_uring_sqe*, u64)
    void io_uring_sqe_set_flags(io_uring_sqe*, unsigned)
    unsigned IORING_SETUP_SINGLE_ISSUER, IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_CQSIZE
    unsigned IORING_SETUP_SUBMIT_ALL
    unsigned IORING_CQE_F_MORE, IORING_CQE_F_BUFFER, IORING_CQE_BUFFER_SHIFT, IOSQE_BUFFER_SELECT
cdef extern from "<sys/socket.h>" nogil:
    int MSG_NOSIGNAL, MSG_WAITALL, MSG_PEEK, MSG_DONTWAIT
    ssize_t recv(int, void*, size_t, int)
cdef extern from "<poll.h>" nogil:
    int POLLIN
cdef extern from "<errno.h>" nogil:
    int errno
    int ENOBUFS, EINTR, EAGAIN, EINVAL, EBADF
cdef extern from "<unistd.h>" nogil:
    ssize_t read(int, void*, size_t)
cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void*, size_t, int, int, int, long)
    int madvise(void*, size_t, int)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MADV_DONTNEED

cdef enum:
    SQ_ENTRIES = 1024
    CQ_ENTRIES = 4096
    BUFFERS = 128             # x BUFFER_BYTES: net.conn.RECEIVE_BYTES
    BUFFER_BYTES = 8192
    FIRST_BUFFERS = 16        # the kernel takes them in turn, so each costs its memory: more when these run out
    CQE_BATCH = 256
    OP_RECV = 1                # in the low bits of user_data, above them the Conn
    OP_SEND = 2
    OP_ACCEPT = 3              # above: the listener's index
    OP_WAKE = 4
    OP_TICK = 5
    OP_TIMER = 6
    OP_SYNC = 7
    GATHER_US = 150            # less than an fsync takes on most disks
    TICK_NS = 100000000
    QUIET_BUFFERS = 2          # filled in a tick at most: then the memory of those filled before can go
    LOOK_TICKS = 50            # a connection that is idle is looked at every so many
    LOOK_IDLE_US = 1000000
    TIMERS = 8

cdef struct Uring:
    io_uring ring
    io_uring_buf_ring* buffers
    char* memory
    int mask
    u32 provided               # buffers the kernel has been given, the first ones
    u32 filled                 # of them, since the last tick
    u32 touched                # since their memory was given back
    bint gives_back
    kernel_timespec tick
    kernel_timespec[TIMERS] timers # of one turn: they are read when the turn is submitted
    u32 timers_used
    u64 ticks


cdef io_uring_sqe* sqe(Uring* u) noexcept nogil:
    cdef io_uring_sqe* s = io_uring_get_sqe(&u.ring)
    while s == NULL:
        io_uring_submit(&u.ring)
        s = io_uring_get_sqe(&u.ring)
    return s


cdef void recv_arm(Worker* w, Conn* c) noexcept nogil:
    cdef Uring* u = <Uring*>w.engine
    cdef io_uring_sqe* s = sqe(u)
    io_uring_prep_recv_multishot(s, c.fd, NULL, 0, 0)
    io_uring_sqe_set_flags(s, IOSQE_BUFFER_SELECT)
    s.buf_group = 0
    io_uring_sqe_set_data64(s, <u64>c | OP_RECV)
    c.flags |= C_RECV


cdef void recv_cancel(Uring* u, Conn* c) noexcept nogil:
    """The receive ends, which on_recv hears of; of this operation itself nobody does."""
    cdef io_uring_sqe* s = sqe(u)
    io_uring_prep_cancel64(s, <u64>c | OP_RECV, 0)
    io_uring_sqe_set_data64(s, 0)


cdef void send_start(Worker* w, Conn* c) noexcept nogil:
    cdef io_uring_sqe* s = sqe(<Uring*>w.engine)
    cdef int n = conn_gather(c)
    cdef msghdr* m
    if n == 1:
        io_uring_prep_send(s, c.fd, c.iov[0].iov_base, c.iov[0].iov_len, MSG_NOSIGNAL | MSG_WAITALL)
    else:
        m = <msghdr*>c.msg
        memset(m, 0, sizeof(msghdr))
        m.msg_iov = c.iov
        m.msg_iovlen = n
        io_uring_prep_sendmsg(s, c.fd, m, MSG_NOSIGNAL | MSG_WAITALL)
    io_uring_sqe_set_data64(s, <u64>c | OP_SEND)


cdef void accept_arm(Worker* w, u32 i) noexcept nogil:
    cdef io_uring_sqe* s
    if w.listeners[i] < 0:
        return
    s = sqe(<Uring*>w.engine)
    io_uring_prep_multishot_accept(s, w.listeners[i], NULL, NULL, 0x80000)   # SOCK_CLOEXEC
    io_uring_sqe_set_data64(s, (<u64>i << 3) | OP_ACCEPT)


cdef void wake_arm(Worker* w) noexcept nogil:
    cdef io_uring_sqe* s = sqe(<Uring*>w.engine)
    io_uring_prep_poll_multishot(s, w.wake_fd, POLLIN)
    io_uring_sqe_set_data64(s, OP_WAKE)


cdef void tick_arm(Worker* w) noexcept nogil:
    """A timer in the ring itself: a wait with a timeout would set one up at every turn."""
    cdef Uring* u = <Uring*>w.engine
    cdef io_uring_sqe* s = sqe(u)
    u.tick.tv_sec = 0
    u.tick.tv_nsec = TICK_NS
    io_uring_prep_timeout(s, &u.tick, 0, IORING_TIMEOUT_MULTISHOT)
    io_uring_sqe_set_data64(s, OP_TICK)


cdef void sync_start(Worker* w, int fd) noexcept nogil:
    cdef io_uring_sqe* s = sqe(<Uring*>w.engine)
    io_uring_prep_fsync(s, fd, IORING_FSYNC_DATASYNC)
    io_uring_sqe_set_data64(s, OP_SYNC)


cdef void timer_arm(Worker* w, i64 us) noexcept nogil:
    cdef Uring* u = <Uring*>w.engine
    cdef io_uring_sqe* s = sqe(u)
    if us < 1:
        us = 1
    u.timers_used = (u.timers_used + 1) % TIMERS
    u.timers[u.timers_used].tv_sec = us // 1000000
    u.timers[u.timers_used].tv_nsec = us % 1000000 * 1000
    io_uring_prep_timeout(s, &u.timers[u.timers_used], 0, 0)
    io_uring_sqe_set_data64(s, OP_TIMER)


cdef int uring_setup(Worker* w) noexcept nogil:
    """On the worker's own thread (single issuer): 0, or a negative errno if io_uring cannot be had."""
    cdef Uring* u = <Uring*>calloc(1, sizeof(Uring))
    cdef io_uring_params p
    cdef int r
    memset(&p, 0, sizeof(p))
    p.flags = (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE
               | IORING_SETUP_SUBMIT_ALL)
    p.cq_entries = CQ_ENTRIES
    r = io_uring_queue_init_params(SQ_ENTRIES, &u.ring, &p)
    if r < 0:
        free(u)
        return r
    u.buffers = io_uring_setup_buf_ring(&u.ring, BUFFERS, 0, 0, &r)
    if u.buffers == NULL:
        io_uring_queue_exit(&u.ring)
        free(u)
        return r
    u.memory = <char*>mmap(NULL, BUFFERS * BUFFER_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    u.mask = io_uring_buf_ring_mask(BUFFERS)
    provide(u, FIRST_BUFFERS)
    w.engine = u
    w.recv_arm = recv_arm
    w.send_start = send_start
    w.accept_arm = accept_arm
    w.timer_arm = timer_arm
    w.sync_start = sync_start
    w.gather_max_us = GATHER_US
    return 0


cdef void provide(Uring* u, u32 count) noexcept nogil:
    """Give the kernel so many more buffers, of those that there are."""
    cdef u32 i, left = BUFFERS - u.provided
    if count > left:
        count = left
    for i in range(count):
        io_uring_buf_ring_add(u.buffers, u.memory + (u.provided + i) * BUFFER_BYTES, BUFFER_BYTES,
                              <u16>(u.provided + i), u.mask, <int>i)
    io_uring_buf_ring_advance(u.buffers, <int>count)
    u.provided += count


cdef void on_recv(Worker* w, Uring* u, Conn* c, io_uring_cqe* e) noexcept nogil:
    """A receive: hand the bytes over, the buffer back to the ring."""
    cdef u32 id_
    if not e.flags & IORING_CQE_F_MORE:
        c.flags &= ~<u32>C_RECV
    if e.flags & IORING_CQE_F_BUFFER:
        id_ = e.flags >> IORING_CQE_BUFFER_SHIFT
        u.filled += 1
        if e.res > 0:
            conn_data(w, c, u.memory + id_ * BUFFER_BYTES, <size_t>e.res)
        io_uring_buf_ring_add(u.buffers, u.memory + id_ * BUFFER_BYTES, BUFFER_BYTES, <u16>id_,
                              u.mask, 0)
        io_uring_buf_ring_advance(u.buffers, 1)
    if c.flags & C_CLOSING:
        flush_later(w, c)
    elif e.res == 0 or (e.res < 0 and e.res != -ENOBUFS and e.res != -EAGAIN and e.res != -EINTR):
        conn_eof(w, c)
    elif not c.flags & C_RECV:
        if e.res == -ENOBUFS:
            provide(u, 1)
        recv_arm(w, c)         # it ended: no buffers were left, or the kernel's own choice


cdef void buffers_rest(Uring* u) noexcept nogil:
    """After a burst: the memory of the buffers goes, they stay with the kernel. Receives are made in this thread's own
    calls only (DEFER_TASKRUN), and every one that was reported has been handled: nothing is in them."""
    if not io_uring_cq_ready(&u.ring) and not io_uring_cq_has_overflow(&u.ring):
        madvise(u.memory, BUFFERS * BUFFER_BYTES, MADV_DONTNEED)
        u.touched = 0
    u.gives_back = False


cdef void look_for_gone(Worker* w, Uring* u) noexcept nogil:
    """Close the connections whose peer has gone unseen.

    Seen under the fuzz (Linux 6.18, one connection in thousands): reset right behind its data, the socket was closed,
    its multishot receive armed and never woken. A waiting command would keep such a connection for ever.
    """
    cdef Conn* c = w.conns
    cdef char byte
    cdef ssize_t n
    u.ticks += 1
    while c != NULL:
        if (c.session.id + u.ticks) % LOOK_TICKS == 0 and c.flags & C_RECV and w.now_us - c.last_us > LOOK_IDLE_US:
            if c.flags & C_CLOSING:            # it was shut down, which should have ended the receive
                recv_cancel(u, c)
                c = c.next
                continue
            n = recv(c.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT)
            if n == 0 or (n < 0 and errno != EAGAIN and errno != EINTR):
                conn_eof(w, c)
                recv_cancel(u, c)
        c = c.next


cdef void on_event(Worker* w, Uring* u, io_uring_cqe* e) noexcept nogil:
    cdef u32 op = e.user_data & 7
    cdef Conn* c
    cdef u64 drained
    if op == OP_RECV:
        on_recv(w, u, <Conn*>(e.user_data & ~<u64>7), e)
    elif op == OP_SEND:
        c = <Conn*>(e.user_data & ~<u64>7)
        conn_sent(w, c, e.res)
    elif op == OP_ACCEPT:
        if e.res >= 0:
            conn_accepted(w, e.res, w.unix_listeners >> (e.user_data >> 3) & 1)
        if not e.flags & IORING_CQE_F_MORE and e.res != -EINVAL and e.res != -EBADF:
            accept_arm(w, <u32>(e.user_data >> 3))
    elif op == OP_WAKE:
        read(w.wake_fd, &drained, 8)
        worker_inbox(w)
        if not e.flags & IORING_CQE_F_MORE:
            wake_arm(w)
    elif op == OP_SYNC:
        durable_synced(w, e.res)
    elif op == OP_TICK:
        look_for_gone(w, u)
        u.touched += u.filled
        u.gives_back = u.touched > FIRST_BUFFERS and u.filled <= QUIET_BUFFERS
        u.filled = 0
        if not e.flags & IORING_CQE_F_MORE:
            tick_arm(w)


cdef void uring_loop(Worker* w) noexcept nogil:
    """Until w.stop: wait, handle what came, submit everything at once."""
    cdef Uring* u = <Uring*>w.engine
    cdef io_uring_cqe* events[CQE_BATCH]
    cdef unsigned n, i
    for i in range(w.nlisteners):
        accept_arm(w, i)
    wake_arm(w)
    tick_arm(w)
    io_uring_register_ring_fd(&u.ring)
    while not w.stop:
        io_uring_submit_and_wait(&u.ring, 1)
        w.now_us = wall_us()
        w.ctx.now_ms = w.now_us // 1000
        turn_begin(w)
        while True:
            n = io_uring_peek_batch_cqe(&u.ring, events, CQE_BATCH)
            for i in range(n):
                on_event(w, u, events[i])
            io_uring_cq_advance(&u.ring, n)
            if n < CQE_BATCH:
                break
        if unlikely(u.gives_back):
            buffers_rest(u)
        worker_tick(w)
        worker_flush(w)
        turn_end(w)
    io_uring_queue_exit(&u.ring)
