# slotring: data plane
"""The loop of a worker on epoll: level-triggered reads into one buffer, writes at the end of the turn."""
from libc.stdlib cimport malloc, calloc, free
from libc.string cimport memset
from engine.defs cimport *
from net.conn cimport *
from net.durable cimport durable_release, durable_synced
from net.worker cimport *

cdef extern from "<sys/epoll.h>" nogil:
    union epoll_data_t:
        void* ptr
        u64 u64 "u64"
    struct epoll_event:
        u32 events
        epoll_data_t data
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event*)
    int epoll_wait(int, epoll_event*, int, int)
    int EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    u32 EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
cdef extern from "<sys/socket.h>" nogil:
    int accept4(int, void*, void*, int)
    int SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_DONTWAIT, MSG_NOSIGNAL
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    ssize_t recv(int, void*, size_t, int)
    ssize_t sendmsg(int, const msghdr*, int)
cdef extern from "<errno.h>" nogil:
    int errno
    int EAGAIN, EINTR
cdef extern from "<unistd.h>" nogil:
    int fdatasync(int)
    ssize_t read(int, void*, size_t)

cdef enum:
    EVENTS = 256
    READ_BYTES = 65536
    ACCEPTS_MAX = 1000

cdef struct Epoll:
    int fd
    char* buffer
    char wake_mark             # its address stands for the eventfd
    char listen_mark[LISTENERS_MAX]


cdef void watch(Worker* w, int op, int fd, u32 events, void* p) noexcept nogil:
    cdef epoll_event e
    e.events = events
    e.data.ptr = p
    epoll_ctl((<Epoll*>w.engine).fd, op, fd, &e)


cdef void recv_arm(Worker* w, Conn* c) noexcept nogil:
    watch(w, EPOLL_CTL_ADD, c.fd, EPOLLIN, c)


cdef void send_start(Worker* w, Conn* c) noexcept nogil:
    cdef msghdr m
    cdef ssize_t n
    while True:
        memset(&m, 0, sizeof(m))
        m.msg_iov = c.iov
        m.msg_iovlen = conn_gather(c)
        if m.msg_iovlen == 0:
            conn_sent(w, c, 0)
            return
        n = sendmsg(c.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL)
        if n < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:                  # C_SENDING stays until the socket has room
                if not c.flags & C_WRITE_ARMED:
                    c.flags |= C_WRITE_ARMED
                    watch(w, EPOLL_CTL_MOD, c.fd, EPOLLIN | EPOLLOUT, c)
                return
            conn_sent(w, c, -1)
            return
        conn_sent(w, c, n)
        if c.out.head == NULL or c.flags & C_CLOSING:
            return
        c.flags |= C_SENDING


cdef void on_conn(Worker* w, Conn* c, u32 events) noexcept nogil:
    cdef Epoll* ep = <Epoll*>w.engine
    cdef ssize_t n
    if c.fd < 0:
        return
    if c.flags & C_CLOSING:
        watch(w, EPOLL_CTL_DEL, c.fd, 0, c)
        c.flags &= ~<u32>C_SENDING
        flush_later(w, c)
        return
    if events & EPOLLOUT and c.flags & C_WRITE_ARMED:
        c.flags &= ~<u32>C_WRITE_ARMED
        watch(w, EPOLL_CTL_MOD, c.fd, EPOLLIN, c)
        send_start(w, c)
    if events & (EPOLLIN | EPOLLERR | EPOLLHUP) and not c.flags & C_CLOSING:
        n = recv(c.fd, ep.buffer, READ_BYTES, MSG_DONTWAIT)
        if n > 0:
            conn_data(w, c, ep.buffer, <size_t>n)
        elif n == 0 or (errno != EAGAIN and errno != EINTR):
            c.flags &= ~<u32>C_SENDING
            conn_eof(w, c)


cdef void accept_arm(Worker* w, u32 i) noexcept nogil:
    watch(w, EPOLL_CTL_ADD, w.listeners[i], EPOLLIN, &(<Epoll*>w.engine).listen_mark[i])


cdef void sync_start(Worker* w, int fd) noexcept nogil:
    """Without a ring the worker waits itself, as Valkey does."""
    durable_synced(w, -errno if fdatasync(fd) else 0)
    durable_release(w)


cdef void timer_arm(Worker* w, i64 us) noexcept nogil:
    """Nothing to do: epoll_loop looks at w.next_deadline_us."""
    pass


cdef int epoll_wait_ms(Worker* w) noexcept nogil:
    """How long to wait: a tick, or until the first waiting command's time ends."""
    cdef i64 left
    if w.next_deadline_us == 0:
        return 100
    left = (w.next_deadline_us - wall_us() + 999) // 1000
    return 0 if left < 0 else <int>left if left < 100 else 100


cdef int epoll_setup(Worker* w) noexcept nogil:
    """0, or a negative errno."""
    cdef Epoll* ep = <Epoll*>calloc(1, sizeof(Epoll))
    ep.fd = epoll_create1(0x80000)
    if ep.fd < 0:
        free(ep)
        return -errno
    ep.buffer = <char*>malloc(READ_BYTES)
    w.engine = ep
    w.recv_arm = recv_arm
    w.send_start = send_start
    w.accept_arm = accept_arm
    w.timer_arm = timer_arm
    w.sync_start = sync_start
    return 0


cdef void epoll_loop(Worker* w) noexcept nogil:
    """Until w.stop: wait, handle what came, write what there is to write."""
    cdef Epoll* ep = <Epoll*>w.engine
    cdef epoll_event events[EVENTS]
    cdef int n, i, fd, accepts
    cdef u64 drained
    cdef char* mark
    cdef u32 k
    for k in range(w.nlisteners):
        accept_arm(w, k)
    watch(w, EPOLL_CTL_ADD, w.wake_fd, EPOLLIN, &ep.wake_mark)
    while not w.stop:
        n = epoll_wait(ep.fd, events, EVENTS, epoll_wait_ms(w))
        w.now_us = wall_us()
        w.ctx.now_ms = w.now_us // 1000
        turn_begin(w)
        for i in range(n):
            mark = <char*>events[i].data.ptr
            if mark == &ep.wake_mark:
                read(w.wake_fd, &drained, 8)
                worker_inbox(w)
            elif &ep.listen_mark[0] <= mark < &ep.listen_mark[0] + LISTENERS_MAX:
                k = <u32>(mark - &ep.listen_mark[0])
                for accepts in range(ACCEPTS_MAX):
                    fd = accept4(w.listeners[k], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
                    if fd < 0:
                        break
                    conn_accepted(w, fd, w.unix_listeners >> k & 1)
            else:
                on_conn(w, <Conn*>mark, events[i].events)
        worker_tick(w)
        worker_flush(w)
        turn_end(w)
