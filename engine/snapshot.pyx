# slotring: data plane
"""What a write does before it changes what a snapshot has not written yet; see snapshot.pxd."""
from engine.defs cimport *
from engine.command cimport LOCK_ALL
from engine.multikey cimport command_slots

hook_preimage = NULL
hook_preimage_all = NULL
hook_emptied = NULL
hook_dirty = NULL


cdef void visit(void* arg, u32 slot) noexcept nogil:
    hook_preimage(slot)


cdef void preimage_keys(Command* cmd, Arg* argv, i64 argc) noexcept nogil:
    """Before a command that writes; all its locks are held. Rows that lock everything do it themselves."""
    if cmd.lock != LOCK_ALL and not command_slots(cmd, argv, argc, visit, NULL):
        hook_preimage_all()
