# A snapshot that is written while commands go on: what a write must do first. conf.snapshot says that one is under way.
#
# Each slot (in all databases) is written as it was when the snapshot began: by the saver when its turn comes, or before
# that by the command that is about to change it. Who changes data calls preimage_keys, preimage_slot or preimage_all
# under the locks of what it will change, before it does. Deleting what has expired needs none of it.
from engine.defs cimport *
from engine.command cimport Arg, Command
from engine.conf cimport conf

ctypedef void (*preimage_fn)(u32 slot) noexcept nogil
ctypedef void (*everything_fn)() noexcept nogil
ctypedef i64 (*count_fn)() noexcept nogil

cdef preimage_fn hook_preimage         # set by persist: write this slot if it is not written yet
cdef everything_fn hook_preimage_all   # all that is left; every partition is held
cdef count_fn hook_dirty               # set by net: the changes of all workers so far
cdef everything_fn hook_emptied        # FLUSHALL has emptied everything; every partition is held

cdef void preimage_keys(Command* cmd, Arg* argv, i64 argc) noexcept nogil


cdef inline void preimage_slot(u32 slot) noexcept nogil:
    if unlikely(conf.snapshot):
        hook_preimage(slot)


cdef inline void preimage_all() noexcept nogil:
    if unlikely(conf.snapshot):
        hook_preimage_all()
