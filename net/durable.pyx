# slotring: data plane
"""Replies that wait for the disk; see durable.pxd."""
from engine.conf cimport conf
from engine.defs cimport *
from engine.effects cimport effects_log
from net.conn cimport *
from net.worker cimport nworkers, workers, flush_list
from persist.aof cimport aof, aof_sync_begin, aof_sync_end, aof_turn

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int, const void*, size_t)
cdef extern from * nogil:
    int SEQ_CST "__ATOMIC_SEQ_CST"

cdef u32 sync_busy = 0                 # an fsync is under way


cdef void sync_wanted(Worker* w) noexcept nogil:
    """Begin an fsync unless one is under way or all is on the disk that can be."""
    global sync_busy
    cdef u32 expected = 0
    cdef int fd
    if aof.fatal_errno or not atomic_cas32(&sync_busy, &expected, 1, False, SEQ_CST, RELAXED):
        return
    aof_sync_begin(&w.sync_upto, &fd)
    if fd < 0 or w.sync_upto == atomic_load64(&aof.synced, ACQUIRE):
        atomic_store32(&sync_busy, 0, SEQ_CST)
        return
    w.sync_start(w, fd)


cdef void durable_synced(Worker* w, int result) noexcept nogil:
    global sync_busy
    cdef u64 one = 1
    cdef u32 i
    aof_sync_end(w.sync_upto, -result if result < 0 else 0)
    atomic_store32(&sync_busy, 0, SEQ_CST)
    for i in range(nworkers):
        if workers[i] != w and atomic_load32(&workers[i].holding, SEQ_CST):
            write(workers[i].wake_fd, &one, 8)


cdef void durable_release(Worker* w) noexcept nogil:
    cdef Conn* c = w.held
    cdef Conn* head = c
    if c == NULL:
        return
    if conf.hold_replies and atomic_load64(&aof.synced, ACQUIRE) < w.held_pos:
        return
    w.held = NULL
    atomic_store32(&w.holding, 0, SEQ_CST)
    while c != NULL:
        c.flags &= ~<u32>C_SYNCING
        if c.qlen and not c.flags & (C_RESUME | C_CLOSING):
            c.flags |= C_RESUME
            c.next_resume = w.resume
            w.resume = c
        c = c.next_flush
    flush_list(w, head)


cdef bint durable_hold(Worker* w) noexcept nogil:
    cdef Conn* c
    cdef u64 end
    aof_turn()
    if not conf.hold_replies:
        return False
    end = atomic_load64(&effects_log.tail, SEQ_CST)
    if w.held == NULL:
        if end == atomic_load64(&aof.synced, ACQUIRE):
            return False
        if w.flush != NULL:
            w.held = c = w.flush
            w.held_pos = end
            w.flush = NULL
            while c != NULL:
                c.flags |= C_SYNCING
                c = c.next_flush
            atomic_store32(&w.holding, 1, SEQ_CST)
    if w.held != NULL:
        sync_wanted(w)
        return True
    return False
