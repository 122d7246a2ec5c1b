# The errors of commands that may not run, off the usual way (net/worker.pyx decides, this says it).
from engine.command cimport Arg, Command
from engine.defs cimport *
from engine.reply cimport OutBuf

cdef void say_unknown(OutBuf* o, Arg* argv, i64 argc) noexcept nogil
cdef void say_misconf(OutBuf* o, const char* before) noexcept nogil    # what the disk forbids, after a prefix
cdef bint subscriber_may(Command* cmd) noexcept nogil                  # of a RESP2 connection with subscriptions
