# Connections and workers: what a worker thread owns. Only the owner touches a Conn's buffers; others may read its
# counters (Conn memory is never given back, so a stale pointer reads old numbers at worst) and send it messages.
from engine.defs cimport *
from engine.reply cimport OutBuf, ChunkPool
from engine.command cimport Session, Arg, Ctx, Command, COMMANDS_MAX
from engine.store cimport Key

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

cdef enum:
    C_CLOSE_SOON = 1           # close once the output is sent
    C_CLOSING = 2              # shut down, waits for its operations to end
    C_SENDING = 4
    C_LISTED = 8               # is on the worker's list of connections to flush
    C_MONITOR = 16
    C_REPLY_OFF = 32
    C_REPLY_SKIP = 64          # skip the reply of the next command
    C_REPLY_BACK = 128         # CLIENT REPLY ON: this command answers after all
    C_AUTH = 256
    C_RECV = 512               # a receive is armed
    C_HELD = 1024              # commands wait for CLIENT PAUSE to end
    C_UNIX = 2048
    C_WRITE_ARMED = 4096       # epoll: waits for room in the socket
    C_EOF = 8192
    C_NO_MORE = 16384          # protocol error or QUIT: reads no more commands
    C_MULTI = 1 << 15          # commands are queued for EXEC
    C_BLOCKED = 1 << 16        # a command waits (session.blocked): reads no more until it is answered
    C_RESUME = 1 << 17         # on the worker's list of connections that go on reading
    C_SYNCING = 1 << 18        # its replies wait for the disk, see durable.pxd: what arrives is kept, not run

    BATCH_MAX = 32             # commands parsed and prefetched together
    IOV_MAX_CHUNKS = 16
    HIST_BUCKETS = 64
    WORKERS_MAX = 64
    LISTENERS_MAX = 32
    INLINE_MAX = 65536
    RECEIVE_BYTES = 1 << 20    # a worker's receive buffers

cdef struct Parser:            # a command that has not arrived whole
    i64 left                   # arguments still to come; 0: at the start of a command
    i64 total
    i64 bulk                   # length of the bulk that is arriving, -1: its line is
    size_t pos                 # where to go on, from the start of the command
    size_t* saved              # (offset, length) of the arguments that are in
    i64 saved_n
    i64 saved_cap
    const char* error

cdef struct Conn:
    Session session
    i32 fd
    u32 flags
    u32 worker
    u32 last_cmd
    u64 doomed                 # CLIENT KILL from another thread: the session id that is to go
    OutBuf out
    size_t head_sent           # bytes of the first output chunk that are sent
    char* qbuf
    size_t qlen
    size_t qcap
    size_t qpeak               # the most that it held since the last tick
    Parser parser
    Conn* next                 # of the worker
    Conn* prev
    Conn* next_flush
    iovec iov[IOV_MAX_CHUNKS]
    char msg[64]               # a struct msghdr
    i64 created_us
    i64 last_us
    i64 soft_since_us          # output over its soft limit since; 0: it is not
    u64 net_in
    u64 net_out
    u64 commands
    char addr[64]
    char laddr[64]
    char* name                 # malloc'ed, owner writes; or NULL
    char* lib_name
    char* lib_ver
    size_t sending             # bytes of the send under way
    void* txn                  # Txn*: between MULTI and EXEC; the owner's alone, others read the two figures
    i64 queued                 # commands queued; -1: not in MULTI
    u64 queued_bytes
    u64 dying                  # evicted, so much will be free; 0: it is to stay (under conns_lock)
    Conn* next_resume
    void* subs                 # Subs*: its subscriptions, see pubsub.pxd; others read the figures
    u32 subs_n[4]              # by kind
    u64 track_redirect_id      # who gets its invalidations; 0: itself
    Conn* track_redirect
    u32 track_flags            # T_… of tracking.pxd

cdef struct CmdStat:
    u64 calls
    u64 cycles
    u64 rejected
    u64 failed

cdef struct SlotStat:          # what a worker did for a slot, CLUSTER SLOT-STATS
    u64 us                     # whole microseconds of each command
    u64 net_in
    u64 net_out

cdef struct Message:           # to a worker
    Message* next
    u32 kind
    i32 fd
    u64 conn_id
    Conn* conn
    size_t len
    char data[0]

cdef enum:
    MSG_ACCEPTED = 1           # fd: a new connection (len: 1 if on the unix socket)
    MSG_KILL = 2
    MSG_OUTPUT = 3             # data goes to the connection's output
    MSG_STOP = 4
    MSG_UNPAUSE = 5
    MSG_LISTEN = 6             # fd: index of a listener to accept from
    MSG_SERVED = 7             # the connection's waiting command has run elsewhere: data is its reply
    MSG_UNBLOCK = 8            # CLIENT UNBLOCK, claimed; fd: 1 with an error
    MSG_PUBLISH = 9            # data: fd targets (connection, id), then len bytes for each of them
    MSG_ROUTES = 10            # the slot map has changed, see reroute.pxd
    MSG_TRACK_KEY = 11         # these and the following: see tracking.pyx
    MSG_TRACK_BCAST = 12
    MSG_TRACK_REDIRECTED = 13
    MSG_TRACK_FLUSH = 14

cdef struct Parsed:
    u32 argi                   # first argument's place in worker.args
    u32 keyed
    i64 argc
    u64 bytes                  # as it came
    Command* cmd
    Key key

cdef struct Worker:
    u32 index
    u32 stop
    i32 wake_fd                # eventfd
    u32 sleeping
    void* engine               # of uring.pyx or epoll.pyx
    void (*recv_arm)(Worker*, Conn*) noexcept nogil
    void (*send_start)(Worker*, Conn*) noexcept nogil
    void (*accept_arm)(Worker*, u32) noexcept nogil
    void (*timer_arm)(Worker*, i64 us) noexcept nogil   # wake the loop after so long
    void (*sync_start)(Worker*, int fd) noexcept nogil  # fdatasync; durable_synced follows
    u64 sync_upto              # what the fsync that this worker began will have covered
    Conn* held                 # connections whose replies wait for the disk
    u64 held_pos               # until it has passed this position of the log
    u32 holding                # there are some (others read it)
    u32 group_enough           # so many connections make the next group
    i64 gather_since_us        # the first of the next ones came then; 0: none has
    i64 gather_max_us          # so long it is waited for more of them; 0: this engine has no timer so fine
    Ctx ctx
    ChunkPool pool
    OutBuf trash
    OutBuf pushes              # what the command under way pushed to its own connection, push_conn
    Conn* push_conn
    void* changes              # keys changed in this turn, for BCAST clients, see tracking.pyx
    Arg* args
    i64 args_n
    i64 args_cap
    Parsed batch[BATCH_MAX]
    Conn* conns
    u32 conns_lock             # held to change the list, and by other threads to walk it
    Conn* flush
    Conn* free_conns
    u32 nconns
    u32 inbox_lock
    Message* inbox
    Message* inbox_tail
    i64 now_us
    i64 next_tick_us
    i64 next_deadline_us       # a waiting command's time ends; 0: none does
    u64 blocked                # connections that wait
    Conn* resume
    u64 commands
    u64 net_in
    u64 net_out
    u64 reads
    u64 writes
    u64 over_query             # connections closed for client-query-buffer-limit, client-output-buffer-limit
    u64 over_output
    u64 turns                  # of the loop, and the cycles that it was not waiting
    u64 busy
    u64 busy_aof               # of them, at the append-only file
    u64 turn_began
    u64 turn_commands          # w.commands when it began
    u64 turn_max
    u64 turn_commands_max
    u64 accepted
    u64 rejected
    u64 qbuf_bytes
    u64 queued_bytes           # of commands queued for EXEC
    i64 told                   # what of its connections' memory engine.outside has been told
    CmdStat stats[COMMANDS_MAX]
    SlotStat* slot_stats       # by slot; NULL: not wanted so far
    u32* hist[COMMANDS_MAX]    # calls by duration, made on first use
    i32 listeners[32]
    u32 nlisteners
    u32 unix_listeners         # bit i: listener i is a unix socket
