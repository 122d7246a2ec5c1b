# What a ring (uring.pyx, epoll.pyx) may ask of a worker, and the hooks by which the control plane is reached.
from engine.defs cimport *
from engine.command cimport Arg, Command, Ctx
from net.conn cimport Worker, Conn, Message

ctypedef void (*python_hook)(Worker* w, Conn* c, Command* cmd, Arg* argv, i64 argc) noexcept nogil
ctypedef void (*event_hook)(Worker* w, Conn* c, Command* cmd, Arg* argv, i64 argc, int kind, i64 value) noexcept nogil

cdef enum:
    EVENT_SLOW = 0
    EVENT_LARGE_REQUEST = 1
    EVENT_LARGE_REPLY = 2
    EVENT_LATENCY = 3
    EVENT_MONITOR = 4
    EVENT_GONE = 5             # the connection is about to be freed
    EVENT_BAD_PAYLOAD = 6      # RESTORE refused a value; the event's value is its RDB type
    EVENT_PROTOCOL = 8         # what came is no command: the reason, and what of it was not read
    EVENT_LINK = 7             # of a link from another node (S_OBEY); the event's value is one of these:
    LINK_ERROR = 1             # a command has failed
    LINK_FULL = 2              # for want of memory
    LINK_GONE = 3              # the connection is about to be freed

cdef Worker* workers[64]
cdef u32 nworkers
cdef python_hook hook_python
cdef event_hook hook_event
cdef double cycles_per_us
cdef u32 total_conns


cdef inline void turn_begin(Worker* w) noexcept nogil:
    """The loop has something to do."""
    w.turn_began = rdtsc()
    w.turn_commands = w.commands


cdef inline void turn_end(Worker* w) noexcept nogil:
    """It waits again: count."""
    cdef u64 took = rdtsc() - w.turn_began, ran = w.commands - w.turn_commands
    w.turns += 1
    w.busy += took
    if took > w.turn_max:
        w.turn_max = took
    if <i64>ran > <i64>w.turn_commands_max:
        w.turn_commands_max = ran


cdef void run_locked(Ctx* c, Command* cmd) noexcept nogil
cdef void note_duration(Worker* w, Conn* c, Command* cmd, Arg* argv, i64 argc, u64 cycles,
                        u64 reply_bytes) noexcept nogil
cdef Conn* conn_new(Worker* w, int fd, bint is_unix) noexcept nogil
cdef void conn_data(Worker* w, Conn* c, char* p, size_t n) noexcept nogil
cdef void conn_eof(Worker* w, Conn* c) noexcept nogil
cdef void conn_sent(Worker* w, Conn* c, i64 n) noexcept nogil
cdef void conn_release(Worker* w, Conn* c) noexcept nogil
cdef void conn_close(Worker* w, Conn* c) noexcept nogil
cdef int conn_gather(Conn* c) noexcept nogil
cdef void conn_accepted(Worker* w, int fd, bint is_unix) noexcept nogil
cdef void flush_later(Worker* w, Conn* c) noexcept nogil
cdef void worker_flush(Worker* w) noexcept nogil
cdef void flush_list(Worker* w, Conn* c) noexcept nogil
cdef void worker_tick(Worker* w) noexcept nogil
cdef void worker_inbox(Worker* w) noexcept nogil
cdef Message* message_new(u32 kind, size_t n) noexcept nogil
cdef void message_post(Worker* to, Message* m) noexcept nogil
cdef void post(Worker* to, u32 kind, int fd, Conn* c, u64 id, const char* p, size_t n) noexcept nogil
cdef void worker_init(Worker* w, u32 index) noexcept nogil
cdef void worker_hooks(python_hook python, event_hook event, double rate) noexcept nogil
cdef void worker_count(u32 n) noexcept nogil
cdef void swap_text(char** place, char* fresh) noexcept nogil
cdef char* copy_text(char** place) noexcept nogil
