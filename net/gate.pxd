# What is not run, and the words for it: commands that do not exist, that a subscriber may not send, that have to wait
# until the data set is loaded, or that the state of the disk forbids.
from engine.command cimport Arg, Command
from engine.defs cimport *
from engine.reply cimport OutBuf

cdef u32 loading               # the data set is being loaded, under all locks

cdef void unknown_command(OutBuf* o, Arg* argv, i64 argc) noexcept nogil
cdef bint subscriber_may(Command* cmd) noexcept nogil
cdef void say_misconf(OutBuf* o, const char* before) noexcept nogil     # what the disk forbids, after a prefix
cdef bint must_wait(Command* cmd, OutBuf* o) noexcept nogil
