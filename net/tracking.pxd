# Client-side caching: which connections have read which keys, and the messages that tell them to forget.
#
# The table is by key name (whatever the database), in locked shelves; the locks come where pubsub has its. A key is
# noted before the command that reads it runs: a change in between then tells the reader too early, never too late.
# Only the worker of a connection looks at its options, so others send it what changed. BCAST connections are told of
# the changes of a turn at its end, by prefix.
from engine.defs cimport *
from engine.command cimport Ctx, Arg, Command
from net.conn cimport Worker, Conn, Message

cdef enum:                         # Conn.track_flags
    T_BCAST = 1
    T_OPTIN = 2
    T_OPTOUT = 4
    T_NOLOOP = 8
    T_CACHING = 16                 # CLIENT CACHING was given
    T_USED = 32                    # the command it was given for has run
    T_BROKEN = 64                  # who the messages are redirected to has gone

cdef void tracking_limit(Conn* c) noexcept nogil
cdef void tracking_read(Conn* c, Command* cmd, Arg* argv, i64 argc) noexcept nogil
cdef void tracking_command(Conn* c, Command* cmd) noexcept nogil       # CACHING lasts for one command
cdef void tracking_broadcast(Worker* w) noexcept nogil
cdef void tracking_end(Conn* c) noexcept nogil
cdef void on_tracking(Worker* w, Message* m) noexcept nogil
cdef bint tracking_begin(Conn* c, u32 flags, Conn* redirect, u64 redirect_id) noexcept nogil
cdef void tracking_prefix(Conn* c, const char* name, size_t n) noexcept nogil
