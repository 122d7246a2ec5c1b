"""The border between the data plane and Python: starting workers, calling Python commands, looking at connections.

This is the one compiled module that attaches: `call_python` runs a control-plane command on the worker that received
it. A handler is (client, args) -> reply; the reply is encoded by net.reply.
"""
import os
import threading

from libc.stdlib cimport malloc, realloc, free, abort
from libc.string cimport memcpy, strlen, strncmp
from engine.defs cimport *
from engine.reply cimport *
from engine.command cimport *
from engine.hashing cimport SLOTS
from engine.imports cimport S_IMPORT
from engine.conf cimport conf
from engine.lock cimport lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.store cimport store, Partition
from net.clientmem cimport conn_bytes, evicted_clients
from net.conn cimport *
from net.worker cimport *
from net.pubsub cimport pubsub_leave, PS_CHANNEL, PS_PATTERN, PS_SHARD
from net.feed cimport feed_monitors
from net.tracking cimport tracking_begin, tracking_end, tracking_prefix, T_BCAST, T_BROKEN, T_CACHING
from net.txn cimport Txn, txn_free
from engine.snapshot cimport hook_dirty
from engine.blocking cimport Blocked, blocked_claim, blocked_new, SERVED, WAITING
from engine.events cimport unwatch_all, Watch
from cpython.bytes cimport PyBytes_AS_STRING
from net.uring cimport uring_setup, uring_loop
from net.epoll cimport epoll_setup, epoll_loop

from engine import command as _command
from engine import keyspace as _keyspace
from net import router as _router
from net import reply as _reply

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    int getpeername(int, sockaddr*, unsigned int*)
    int getsockname(int, sockaddr*, unsigned int*)
    int AF_INET, AF_INET6
cdef extern from "<netdb.h>" nogil:
    int getnameinfo(const sockaddr*, unsigned int, char*, unsigned int, char*, unsigned int, int)
    int NI_NUMERICHOST, NI_NUMERICSERV
cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int, int)
    int EFD_NONBLOCK, EFD_CLOEXEC
cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

_threads = []
_pieces = _reply.pieces
unix_path = b""
HISTOGRAM_BOUNDS_NS = ()


cdef void describe(int fd, bint local, bint is_unix, char* out) noexcept nogil:
    """ip:port of one end of a socket (64 bytes)."""
    cdef sockaddr_storage a
    cdef unsigned int n = sizeof(a)
    cdef char host[48]
    cdef char port[8]
    cdef int r
    if is_unix:
        snprintf(out, 64, b"%s:0", <char*>unix_name)
        return
    r = getsockname(fd, <sockaddr*>&a, &n) if local else getpeername(fd, <sockaddr*>&a, &n)
    if r or getnameinfo(<sockaddr*>&a, n, host, 48, port, 8, NI_NUMERICHOST | NI_NUMERICSERV):
        snprintf(out, 64, b"?:0")
    elif a.ss_family == AF_INET6:
        snprintf(out, 64, b"[%s]:%s", host, port)
    else:
        snprintf(out, 64, b"%s:%s", host, port)


cdef char unix_name[64]
unix_name[0] = 0


cdef void set_text(char** place, bytes value):
    """Replace a connection's text; others read it under the same lock."""
    cdef char* fresh = NULL
    if value:
        fresh = <char*>malloc(len(value) + 1)
        memcpy(fresh, <char*>value, len(value) + 1)
    swap_text(place, fresh)


cdef bytes get_text(char** place):
    cdef char* copy = copy_text(place)
    result = <bytes>copy if copy != NULL else b""
    free(copy)
    return result


cdef class Client:
    """A connection as a control-plane command sees it; lives for one command, on the connection's own worker."""
    cdef Conn* c
    cdef Worker* w

    @property
    def id(self): return self.c.session.id
    @property
    def fd(self): return self.c.fd
    @property
    def in_exec(self): return self.c.txn != NULL
    @property
    def addr(self):
        if not self.c.addr[0]:
            describe(self.c.fd, False, self.c.flags & C_UNIX, self.c.addr)
        return <bytes>self.c.addr
    @property
    def laddr(self):
        if not self.c.laddr[0]:
            describe(self.c.fd, True, self.c.flags & C_UNIX, self.c.laddr)
        return <bytes>self.c.laddr
    @property
    def name(self): return get_text(&self.c.name)
    @name.setter
    def name(self, bytes value): set_text(&self.c.name, value)
    @property
    def lib_name(self): return get_text(&self.c.lib_name)
    @lib_name.setter
    def lib_name(self, bytes value): set_text(&self.c.lib_name, value)
    @property
    def lib_ver(self): return get_text(&self.c.lib_ver)
    @lib_ver.setter
    def lib_ver(self, bytes value): set_text(&self.c.lib_ver, value)
    @property
    def db(self): return self.c.session.db
    @db.setter
    def db(self, value): self.c.session.db = value
    @property
    def resp(self): return self.c.session.resp
    @resp.setter
    def resp(self, value): self.c.session.resp = value
    @property
    def user(self): return b"default"
    @property
    def authenticated(self): return bool(self.c.flags & C_AUTH)
    @authenticated.setter
    def authenticated(self, value): self._flag(C_AUTH, value)
    @property
    def monitor(self): return bool(self.c.flags & C_MONITOR)
    @monitor.setter
    def monitor(self, value): self._flag(C_MONITOR, value)
    @property
    def no_touch(self): return bool(self.c.session.flags & S_NO_TOUCH)
    @no_touch.setter
    def no_touch(self, value):
        self.c.session.flags = self.c.session.flags & ~S_NO_TOUCH | (S_NO_TOUCH if value else 0)
    @property
    def import_source(self): return bool(self.c.session.flags & S_IMPORT)
    @import_source.setter
    def import_source(self, value):
        self.c.session.flags = self.c.session.flags & ~S_IMPORT | (S_IMPORT if value else 0)
    @property
    def unrouted(self):
        """Are its commands run whoever has the slot? So it is with a link from another node that imports one."""
        return bool(self.c.session.flags & S_OBEY)
    @unrouted.setter
    def unrouted(self, value):
        self.c.session.flags = self.c.session.flags & ~S_OBEY | (S_OBEY if value else 0)
    @property
    def no_evict(self): return bool(self.c.session.flags & S_NO_EVICT)
    @no_evict.setter
    def no_evict(self, value):
        self.c.session.flags = self.c.session.flags & ~S_NO_EVICT | (S_NO_EVICT if value else 0)
    @property
    def created_us(self): return self.c.created_us
    @property
    def last_us(self): return self.c.last_us
    @property
    def reply_mode(self):
        return "off" if self.c.flags & C_REPLY_OFF else "skip" if self.c.flags & C_REPLY_SKIP else "on"
    @reply_mode.setter
    def reply_mode(self, value):
        self.c.flags &= ~<u32>(C_REPLY_OFF | C_REPLY_SKIP)
        self.c.flags |= (C_REPLY_BACK if value == "on" else C_REPLY_OFF if value == "off"
                         else C_REPLY_SKIP)
    capa = ""

    @property
    def flags(self): return flag_text(self.c)

    def discard(self):
        """Forget the transaction, the watched keys and the subscriptions."""
        txn_free(self.c)
        pubsub_leave(self.c)
        self.c.session.flags &= ~<u32>(S_PUBSUB | S_READONLY | S_ASKING | S_ASKED)
        tracking_end(self.c)

    def track(self, u32 bits, u64 redirect, prefixes):
        """CLIENT TRACKING ON with options that were checked; redirect: an id, 0 for none."""
        cdef Conn* to = NULL
        cdef bytes prefix
        if redirect:
            to = conn_by_id(redirect)
        tracking_begin(self.c, bits, to, redirect)
        for prefix in prefixes:
            tracking_prefix(self.c, <char*>prefix, len(prefix))

    def untrack(self):
        """CLIENT TRACKING OFF"""
        tracking_end(self.c)

    @property
    def tracking(self):
        """The options of CLIENT TRACKING as T_… bits, None while it is off."""
        return self.c.track_flags if self.c.session.flags & S_TRACKING else None

    @property
    def redirect(self):
        """Who gets the invalidations, 0: itself."""
        return self.c.track_redirect_id

    def caching(self):
        """CLIENT CACHING"""
        self.c.track_flags |= T_CACHING
        unwatch_all(&self.c.session, False)

    def kill(self, after_reply=True):
        """Close this connection, after the reply of the command under way or at once."""
        if after_reply:
            self.c.flags |= C_CLOSE_SOON | C_NO_MORE
        else:
            conn_close(self.w, self.c)

    def _flag(self, u32 bit, value):
        if value:
            self.c.flags |= bit
        else:
            self.c.flags &= ~bit


cdef str flag_text(Conn* c):
    cdef str text = ""
    if c.flags & C_MONITOR:
        text += "O"
    if c.session.flags & S_PUBSUB:
        text += "P"
    if c.flags & (C_CLOSE_SOON | C_CLOSING):
        text += "c"
    if c.flags & C_UNIX:
        text += "U"
    if c.session.flags & S_READONLY:
        text += "r"
    if c.flags & (C_HELD | C_BLOCKED):
        text += "b"
    if c.flags & C_MULTI:
        text += "x"
    if c.session.cas_dirty:
        text += "d"
    if c.session.flags & S_TRACKING:
        text += "t" + ("R" if c.track_flags & T_BROKEN else "") + ("B" if c.track_flags & T_BCAST else "")
    if c.session.flags & S_NO_EVICT:
        text += "e"
    if c.session.flags & S_NO_TOUCH:
        text += "T"
    if c.session.flags & S_IMPORT:
        text += "I"
    return text or "N"


cdef object client_of(Worker* w, Conn* c):
    cdef Client client = Client.__new__(Client)
    client.c = c
    client.w = w
    return client


cdef list words(Arg* argv, i64 argc):
    return [argv[i].ptr[:argv[i].len] for i in range(argc)]


cdef void call_python(Worker* w, Conn* c, Command* cmd, Arg* argv, i64 argc) noexcept nogil:
    """Run a control-plane command; whatever goes wrong is an error reply, never an end."""
    cdef OutBuf* out = w.ctx.out
    with gil:
        try:
            args = words(argv, argc)
            client = client_of(w, c)
            try:
                answer = _command.handlers[cmd.id](client, args)
                data = [] if answer is NOTHING else _pieces(answer, c.session.resp)
            except _reply.Error as e:
                data = _pieces(e, c.session.resp)
            if data and data[0].startswith(b"-"):
                text = data[0][1:len(data[0]) - 2]
                count_error(<char*><bytes>text, len(text))
                out.errors += 1
            if c.flags & C_REPLY_OFF:
                data = []              # CLIENT REPLY OFF does not answer either
            elif c.flags & C_REPLY_BACK:
                out = &c.out           # and CLIENT REPLY ON does, skipped or not
            c.flags &= ~<u32>C_REPLY_BACK
            for piece in data:         # one by one: the interpreter's heap keeps what a long string took
                out_write(out, <char*>PyBytes_AS_STRING(piece), len(piece))
        except BaseException as e:
            import traceback
            traceback.print_exc()
            message = f"-ERR internal error: {type(e).__name__}\r\n".encode()
            out_write(out, <char*><bytes>message, len(message))


NOTHING = object()     # a handler that has no reply returns this


def defer(Client client) -> tuple:
    """For a handler that returns NOTHING: another thread will `answer`; until then the connection reads no more."""
    cdef Blocked* b = blocked_new()
    b.flags = b.n_nodes = b.still = 0
    b.deadline_us = 0
    b.mem = NULL
    b.argv = NULL
    b.argc = 0
    b.session = &client.c.session
    b.session_id = client.c.session.id
    b.cmd = &commands[client.c.last_cmd]
    b.worker = client.w.index
    b.since_us = wall_us()
    atomic_store32(&b.state, SERVED, RELEASE)      # nobody else may answer it
    client.c.session.blocked = b
    return client.w.index, <uintptr_t>client.c, client.c.session.id, client.c.session.resp


def answer(tuple deferred, reply) -> None:
    """The reply of a deferred command, from any thread; once."""
    cdef uintptr_t conn = deferred[1]
    cdef u64 id = deferred[2]
    data = b"".join(_pieces(reply, deferred[3]))
    if data.startswith(b"-"):
        text = data[1:len(data) - 2]
        count_error(<char*><bytes>text, len(text))
    post(workers[deferred[0]], MSG_SERVED, -1, <Conn*>conn, id, <char*><bytes>data, len(data))


cdef bint may_have_secret(Command* cmd) noexcept nogil:
    """Is it one of net.commands.commandlog's SECRET_COMMANDS?"""
    cdef const char* n = cmd.name
    return (strncmp(n, b"auth", 5) == 0 or strncmp(n, b"hello", 6) == 0 or strncmp(n, b"acl", 3) == 0
            or strncmp(n, b"config", 6) == 0 or strncmp(n, b"migrate", 8) == 0)


cdef void feed_words(Worker* w, Conn* c, list shown):
    """Show monitors a command whose words are not all as they came."""
    cdef i64 n = len(shown), i
    cdef Arg* argv = <Arg*>malloc(n * sizeof(Arg))
    if argv == NULL:
        abort()
    for i in range(n):
        argv[i].ptr = PyBytes_AS_STRING(shown[i])
        argv[i].len = len(shown[i])
    feed_monitors(w, c, argv, n)
    free(argv)


cdef bint protocol_told = False        # does the log want to know of protocol errors?


def tell_protocol_errors(bint wanted) -> None:
    """Whether faults.protocol_error is to be called: whoever sends garbage shall not have the interpreter for it."""
    global protocol_told
    protocol_told = wanted


cdef void on_event(Worker* w, Conn* c, Command* cmd, Arg* argv, i64 argc, int kind,
                   i64 value) noexcept nogil:
    if kind == EVENT_PROTOCOL and not protocol_told:
        return
    if kind == EVENT_MONITOR and not may_have_secret(cmd):
        if not c.addr[0]:
            describe(c.fd, False, c.flags & C_UNIX, c.addr)
        feed_monitors(w, c, argv, argc)
        return
    with gil:
        try:
            client = client_of(w, c)
            if kind == EVENT_MONITOR:
                from net.commands import commandlog
                client.addr                # describes the connection
                feed_words(w, c, commandlog.redact(words(argv, argc)))
            elif kind == EVENT_GONE:
                from net.commands import monitor
                monitor.watch(client, False)
            elif kind == EVENT_BAD_PAYLOAD:
                from net.commands import payloads
                payloads.refused(value)
            elif kind == EVENT_PROTOCOL:
                from net.commands import faults
                faults.protocol_error(client, argv[0].ptr[:argv[0].len].decode("latin-1"), argv[1].ptr[:argv[1].len])
            elif kind == EVENT_LINK:
                from net.cluster import importing
                importing.link_event(client.id, value)
            elif kind == EVENT_LATENCY:
                from net.commands import latency
                latency.sample("fast-command" if cmd.flags & F_FAST else "command", value)
            else:
                from net.commands import commandlog
                commandlog.record(kind, words(argv, argc), value, client.addr, client.name)
        except BaseException:
            import traceback
            traceback.print_exc()


def _worker_main(u32 index, int cpu, bint uring, ready):
    """The life of a worker thread: pin, make the ring, serve until told to stop."""
    cdef Worker* w = workers[index]
    cdef int r
    if cpu >= 0:
        try:
            os.sched_setaffinity(0, {cpu})
        except OSError:
            pass
    with nogil:
        r = uring_setup(w) if uring else epoll_setup(w)
    ready.append(r)
    if r < 0:
        return
    with nogil:
        if uring:
            uring_loop(w)
        else:
            epoll_loop(w)


def _launch(int threads, list cpus, bint uring):
    """Start the threads; False if the engine cannot be had."""
    import time
    results = []
    _threads.clear()
    for i in range(threads):
        thread = threading.Thread(target=_worker_main, daemon=True, name=f"io_thd_{i}",
                                  args=(i, cpus[i % len(cpus)] if cpus else -1, uring, results))
        thread.start()
        _threads.append(thread)
    while len(results) < threads:
        time.sleep(0.0005)
    return all(r >= 0 for r in results)


def start(listeners, int threads, cpus, engine="auto") -> str:
    """Start `threads` workers on the CPUs given; listeners: bound, listening sockets. Returns the engine."""
    cdef u32 i
    cdef Worker* w
    cdef u64 a, b
    cdef double rate
    import socket
    from time import monotonic_ns
    t = monotonic_ns()             # to the nanosecond: microseconds made a sleep of 0.2 s look shorter than it was
    a = rdtsc()
    while monotonic_ns() - t < 2_000_000:
        pass
    b = rdtsc()
    rate = (b - a) * 1000.0 / (monotonic_ns() - t)
    global HISTOGRAM_BOUNDS_NS
    HISTOGRAM_BOUNDS_NS = tuple((2 << b) / rate * 1000 for b in range(HIST_BUCKETS))
    worker_hooks(call_python, on_event, rate)
    for i in range(<u32>threads):
        w = <Worker*>malloc(sizeof(Worker))
        worker_init(w, i)
        w.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        workers[i] = w
    w = workers[0]
    for s in listeners:
        s.setblocking(False)
        if s.family == socket.AF_UNIX:
            w.unix_listeners |= 1 << w.nlisteners
            name = s.getsockname().encode()[:60]
            memcpy(unix_name, <char*><bytes>name, len(name) + 1)
        w.listeners[w.nlisteners] = s.fileno()
        w.nlisteners += 1
    worker_count(threads)
    if engine != "epoll":
        if _launch(threads, list(cpus), True):
            return "io_uring"
        if engine == "io_uring":
            raise OSError("io_uring cannot be had here")
        for i in range(<u32>threads):
            workers[i].stop = 0
    if not _launch(threads, list(cpus), False):
        raise OSError("epoll cannot be had here")
    return "epoll"


def set_listeners(listeners) -> None:
    """Accept from these sockets (bound, listening) and no others. The caller closes the old ones afterwards."""
    cdef Worker* w = workers[0]
    cdef u32 i
    import socket
    wanted = {s.fileno(): s for s in listeners}
    for i in range(w.nlisteners):
        if w.listeners[i] in wanted:
            del wanted[w.listeners[i]]
        elif w.listeners[i] >= 0:
            old = w.listeners[i]
            w.listeners[i] = -1
            w.unix_listeners &= ~(<u32>1 << i)
            copy = socket.socket(fileno=os.dup(old))
            try:
                copy.shutdown(socket.SHUT_RDWR)       # ends the accept that is under way
            except OSError:
                pass
            copy.close()
    for fd, s in wanted.items():
        s.setblocking(False)
        for i in range(LISTENERS_MAX):
            if i == w.nlisteners or w.listeners[i] < 0:
                break
        else:
            raise OSError("too many listeners")
        if s.family == socket.AF_UNIX:
            w.unix_listeners |= <u32>1 << i
        w.listeners[i] = fd
        if i == w.nlisteners:
            w.nlisteners += 1
        post(w, MSG_LISTEN, <int>i, NULL, 0, NULL, 0)


cdef i64 dirty_so_far() noexcept nogil:
    """Changes to the data by all workers."""
    cdef u32 i
    cdef i64 n = 0
    racy_begin()
    for i in range(nworkers):
        n += workers[i].ctx.dirty
    racy_end()
    return n


hook_dirty = dirty_so_far


def stop() -> None:
    """End the workers and wait for them."""
    cdef u32 i
    for i in range(nworkers):
        post(workers[i], MSG_STOP, -1, NULL, 0, NULL, 0)
    for thread in _threads:
        thread.join(5)


cdef Conn** all_conns(u64* n) noexcept nogil:
    """The connections of all workers, malloc'ed: nothing of Python may run under the lists' locks."""
    cdef u32 i
    cdef Conn* c
    cdef Conn** found = NULL
    cdef u64 cap = 0
    n[0] = 0
    for i in range(nworkers):
        lock(&workers[i].conns_lock)
        c = workers[i].conns
        while c != NULL:
            if n[0] == cap:
                cap = cap * 2 + 64
                found = <Conn**>realloc(found, cap * sizeof(Conn*))
                if found == NULL:
                    abort()
            found[n[0]] = c
            n[0] += 1
            c = c.next
        unlock(&workers[i].conns_lock)
    return found


def clients() -> list:
    """All connections, oldest first. Their owners go on meanwhile: the figures may be of different moments."""
    cdef u64 n
    cdef Conn** conns = all_conns(&n)
    racy_begin()
    try:
        found = [row for row in [describe_client(conns[k]) for k in range(n)] if row is not None]
    finally:
        racy_end()
        free(conns)
    found.sort(key=lambda row: row["id"])
    return found


cdef object describe_client(Conn* c):
    """What CLIENT LIST and INFO say of a connection; None if it is going."""
    cdef i64 now = wall_us()
    cdef u64 pending = c.out.bytes
    if not c.session.id or c.flags & C_CLOSING:
        return None
    if not c.addr[0]:
        describe(c.fd, False, c.flags & C_UNIX, c.addr)
    if not c.laddr[0]:
        describe(c.fd, True, c.flags & C_UNIX, c.laddr)
    return {
        "id": c.session.id, "addr": <bytes>c.addr, "laddr": <bytes>c.laddr, "fd": c.fd,
        "name": get_text(&c.name), "age_us": now - c.created_us,
        "idle_us": now - c.last_us, "db": c.session.db, "resp": c.session.resp,
        "qbuf": c.qlen, "qbuf_free": c.qcap - c.qlen, "argv_mem": 0,
        "rbp": CHUNK_BYTES if c.out.chunks else 0, "rbs": CHUNK_BYTES if c.out.chunks else 0,
        "obl": 0, "oll": c.out.chunks, "omem": pending,
        "tot_mem": conn_bytes(c),
        "cmd": commands[c.last_cmd].name[:commands[c.last_cmd].name_len]
               if c.last_cmd < commands_used else b"NULL",
        "lib_name": get_text(&c.lib_name), "lib_ver": get_text(&c.lib_ver),
        "tot_net_in": c.net_in, "tot_net_out": c.net_out, "tot_cmds": c.commands,
        "sub": c.subs_n[PS_CHANNEL], "psub": c.subs_n[PS_PATTERN], "ssub": c.subs_n[PS_SHARD],
        "redir": c.track_redirect_id if c.session.flags & S_TRACKING else -1,
        "multi": c.queued, "multi_mem": c.queued_bytes, "watch": c.session.watched,
        "flags": flag_text(c), "user": b"default", "capa": ""}


cdef Conn* conn_by_id(u64 id):
    """An open connection, or NULL. Its memory stays, whatever becomes of it."""
    cdef u32 i
    cdef Conn* c
    cdef Conn* found = NULL
    racy_begin()                       # of the flags: one that closes at this moment may be found or not
    for i in range(nworkers):
        lock(&workers[i].conns_lock)
        c = workers[i].conns
        while c != NULL and found == NULL:
            if c.session.id == id and not c.flags & C_CLOSING:
                found = c
            c = c.next
        unlock(&workers[i].conns_lock)
    racy_end()
    return found


def is_client(u64 id) -> bool:
    """Is there an open connection of that id?"""
    return conn_by_id(id) != NULL


def kill_client(u64 id) -> bool:
    """Close a connection by id; False if there is none."""
    cdef Conn* c = conn_by_id(id)
    if c == NULL:
        return False
    atomic_store64(&c.doomed, id, RELAXED)     # what it has sent already does not run either
    post(workers[c.worker], MSG_KILL, -1, c, id, NULL, 0)
    return True


def push(u64 id, bytes data) -> bool:
    """Bytes to a connection after what it has been sent, replies on or off; False if there is none of that id."""
    cdef Conn* c = conn_by_id(id)
    if c == NULL:
        return False
    post(workers[c.worker], MSG_OUTPUT, -1, c, id, data, len(data))
    return True


def unblock(u64 id, bint error) -> bool:
    """CLIENT UNBLOCK: end the wait of a connection's command; False if none of that id waits."""
    cdef Conn* c = conn_by_id(id)
    cdef Blocked* b
    cdef bint its = False
    if c == NULL:
        return False
    racy_begin()                       # its memory stays, and who claims it looks whose it is
    b = <Blocked*>c.session.blocked
    if b != NULL and blocked_claim(b):
        its = b.session_id == id
        if its:
            post(workers[c.worker], MSG_UNBLOCK, 1 if error else 0, c, id, NULL, 0)
        else:
            atomic_store32(&b.state, WAITING, RELEASE)     # it was another's by then
    racy_end()
    return its


def blocked_clients() -> int:
    """Connections whose command waits, for a key or for the end of CLIENT PAUSE."""
    cdef u32 i
    cdef u64 n = 0
    cdef Conn* c
    racy_begin()
    for i in range(nworkers):
        n += workers[i].blocked
        if conf.paused:
            lock(&workers[i].conns_lock)
            c = workers[i].conns
            while c != NULL:
                n += c.flags & C_HELD != 0
                c = c.next
            unlock(&workers[i].conns_lock)
    racy_end()
    return n


def base_bytes() -> int:
    """Memory of the threads and the partitions, which is there before any data or client."""
    cdef i64 n = store.nparts * sizeof(Partition)
    return n + nworkers * (sizeof(Worker) + RECEIVE_BYTES)


def command_stats() -> list:
    """(command id, calls, microseconds, rejected, failed) of every command called."""
    cdef u32 i, k
    cdef u64 calls, cycles, rejected, failed
    rows = []
    for k in range(commands_used):
        calls = cycles = rejected = failed = 0
        racy_begin()                   # statistics: words that one worker writes
        for i in range(nworkers):
            calls += workers[i].stats[k].calls
            cycles += workers[i].stats[k].cycles
            rejected += workers[i].stats[k].rejected
            failed += workers[i].stats[k].failed
        racy_end()
        if calls or rejected or failed:
            rows.append((k, calls, int(cycles / cycles_per_us), rejected, failed))
    return rows


def command_histogram(u32 id) -> list:
    """Calls by duration; bucket i is below HISTOGRAM_BOUNDS_NS[i] nanoseconds."""
    cdef u32 i, b
    counts = [0] * HIST_BUCKETS
    racy_begin()
    for i in range(nworkers):
        if workers[i].hist[id] != NULL:
            for b in range(HIST_BUCKETS):
                counts[b] += workers[i].hist[id][b]
    racy_end()
    return counts


def totals() -> dict:
    """Sums over the workers."""
    cdef u32 i
    cdef Worker* w
    cdef u64 accepted = 0, rejected = 0, done = 0, net_in = 0, net_out = 0, hits = 0, misses = 0
    cdef u64 expired = 0, reads = 0, writes = 0, over_query = 0, over_output = 0
    cdef i64 dirty = 0
    racy_begin()                       # statistics: words that one worker writes; they may lag, never tear
    for i in range(nworkers):
        w = workers[i]
        accepted += w.accepted
        rejected += w.rejected
        done += w.commands
        net_in += w.net_in
        net_out += w.net_out
        reads += w.reads
        writes += w.writes
        over_query += w.over_query
        over_output += w.over_output
        hits += w.ctx.hits
        misses += w.ctx.misses
        expired += w.ctx.expired
        dirty += w.ctx.dirty
    racy_end()
    return {"connections_received": accepted, "rejected_connections": rejected,
            "commands_processed": done, "net_in": net_in, "net_out": net_out,
            "total_reads_processed": reads, "total_writes_processed": writes,
            "client_query_buffer_limit_disconnections": over_query,
            "client_output_buffer_limit_disconnections": over_output,
            "keyspace_hits": hits, "keyspace_misses": misses, "expired_keys": expired,
            "dirty": dirty, "connected_clients": atomic_load32(&total_conns, RELAXED), "threads": nworkers,
            "evicted_clients": atomic_load64(&evicted_clients, RELAXED)}


def loop_totals() -> dict:
    """What the workers' loops did, in INFO's names; microseconds."""
    cdef u32 i, k
    cdef Worker* w
    cdef u64 turns = 0, busy = 0, aof = 0, in_commands = 0, longest = 0, most = 0
    racy_begin()                       # as in totals
    for i in range(nworkers):
        w = workers[i]
        turns += w.turns
        busy += w.busy
        aof += w.busy_aof
        longest = max(longest, w.turn_max)
        most = max(most, w.turn_commands_max)
        for k in range(commands_used):
            in_commands += w.stats[k].cycles
    racy_end()
    return {"eventloop_cycles": turns, "eventloop_duration_sum": int(busy / cycles_per_us),
            "eventloop_duration_cmd_sum": int(in_commands / cycles_per_us),
            "eventloop_duration_aof_sum": int(aof / cycles_per_us),
            "eventloop_duration_max": int(longest / cycles_per_us), "eventloop_cmd_per_cycle_max": most}


def reset_stats() -> None:
    """CONFIG RESETSTAT: the workers' counters back to zero."""
    _keyspace.reset_stats()
    if conf.cluster:
        _router.reset_slot_stats(range(SLOTS))
    atomic_store64(&evicted_clients, 0, RELAXED)
    cdef u32 i, k, b
    cdef Worker* w
    racy_begin()                       # what a worker counts at this moment may be counted still
    for i in range(nworkers):
        w = workers[i]
        w.accepted = w.rejected = w.commands = w.net_in = w.net_out = 0
        w.reads = w.writes = w.over_query = w.over_output = 0
        w.turns = w.busy = w.busy_aof = w.turn_max = w.turn_commands_max = 0
        w.ctx.hits = w.ctx.misses = w.ctx.expired = 0
        for k in range(COMMANDS_MAX):
            w.stats[k].calls = w.stats[k].cycles = w.stats[k].rejected = w.stats[k].failed = 0
            if w.hist[k] != NULL:
                for b in range(HIST_BUCKETS):
                    w.hist[k][b] = 0
    racy_end()


_pause_until = 0


def pause(int mode, until_ms=0) -> None:
    """CLIENT PAUSE: 0 none, 1 writes, 2 all commands; ends by itself at until_ms (see pause_tick)."""
    global _pause_until
    cdef u32 i
    _pause_until = until_ms
    racy_begin()                       # a worker sees it at its next command, or the one after
    conf.paused = mode
    racy_end()
    if not mode:
        for i in range(nworkers):
            post(workers[i], MSG_UNPAUSE, -1, NULL, 0, NULL, 0)


def pause_tick(now_ms) -> None:
    """From cron: end a pause whose time is over."""
    racy_begin()
    over = conf.paused and now_ms >= _pause_until
    racy_end()
    if over:
        pause(0)
