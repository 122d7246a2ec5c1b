# What a connection keeps between MULTI and EXEC: its commands, with copies of their arguments.
from engine.defs cimport *
from engine.command cimport Arg, Command
from net.conn cimport Conn
from net.router cimport KeySlots

cdef struct Queued:
    Command* cmd
    Arg* argv                      # one malloc'ed block: the Args, then their bytes
    i64 argc
    u64 cycles                     # what it took, at EXEC
    u64 reply_bytes

cdef struct Txn:
    Queued* commands
    u32 n
    u32 cap
    u64 flags                      # of all commands
    bint failed                    # a command was refused: EXEC must refuse too

cdef void txn_begin(Conn* c) noexcept nogil
cdef void txn_queue(Conn* c, Command* cmd, Arg* argv, i64 argc) noexcept nogil
cdef void txn_free(Conn* c) noexcept nogil
cdef bint txn_slots(Txn* t, KeySlots* s) noexcept nogil    # False: everything must be locked


cdef inline void txn_fail(Conn* c) noexcept nogil:
    """A command was refused while the connection was in MULTI."""
    if c.txn != NULL:
        (<Txn*>c.txn).failed = True
