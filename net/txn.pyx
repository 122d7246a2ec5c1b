# slotring: data plane
"""The queue of a transaction; see txn.pxd."""
from libc.stdlib cimport malloc, calloc, realloc, free, abort
from libc.string cimport memcpy
from engine.defs cimport *
from engine.command cimport LOCK_ALL, LOCK_SELF
from engine.multikey cimport command_slots
from net.conn cimport C_MULTI
from net.router cimport slots_add


cdef void txn_begin(Conn* c) noexcept nogil:
    """MULTI."""
    c.txn = calloc(1, sizeof(Txn))
    if c.txn == NULL:
        abort()
    c.flags |= C_MULTI
    c.queued = 0


cdef void txn_queue(Conn* c, Command* cmd, Arg* argv, i64 argc) noexcept nogil:
    """Add a command; its arguments are copied."""
    cdef Txn* t = <Txn*>c.txn
    cdef Queued* q
    cdef size_t size = argc * sizeof(Arg)
    cdef char* at
    cdef i64 i
    if t.n == t.cap:
        t.cap = t.cap * 2 + 8
        q = <Queued*>realloc(t.commands, t.cap * sizeof(Queued))
        if q == NULL:
            abort()
        t.commands = q
    for i in range(argc):
        size += argv[i].len
    q = &t.commands[t.n]
    q.argv = <Arg*>malloc(size)
    if q.argv == NULL:
        abort()
    at = <char*>(q.argv + argc)
    for i in range(argc):
        memcpy(at, argv[i].ptr, argv[i].len)
        q.argv[i].ptr = at
        q.argv[i].len = argv[i].len
        at += argv[i].len
    q.argc = argc
    q.cmd = cmd
    t.n += 1
    c.queued = t.n
    c.queued_bytes += size + sizeof(Queued)
    t.flags |= cmd.flags


cdef void txn_free(Conn* c) noexcept nogil:
    """The end of a transaction, or of its connection."""
    cdef Txn* t = <Txn*>c.txn
    cdef u32 i
    c.flags &= ~<u32>C_MULTI
    if t == NULL:
        return
    c.txn = NULL
    c.queued = -1
    c.queued_bytes = 0
    for i in range(t.n):
        free(t.commands[i].argv)
    free(t.commands)
    free(t)


cdef bint txn_slots(Txn* t, KeySlots* s) noexcept nogil:
    """Add the slots of all keys; False: a command needs every partition."""
    cdef u32 i
    cdef Queued* q
    cdef bint known = True
    for i in range(t.n):
        q = &t.commands[i]
        if q.cmd.lock == LOCK_ALL or q.cmd.lock == LOCK_SELF:
            known = False
        if not command_slots(q.cmd, q.argv, q.argc, slots_add, s):
            known = False
    return known
