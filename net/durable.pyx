# slotring: data plane
"""Replies that wait for the disk; see durable.pxd."""
from engine.conf cimport conf
from engine.defs cimport *
from engine.effects cimport effects_log
from engine.racy cimport racy_begin, racy_end
from net.acks cimport acks_waiting, acks_wake
from net.conn cimport *
from net.worker cimport nworkers, workers, flush_list
from persist.aof cimport aof, aof_sync_begin, aof_sync_end, aof_turn

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int, const void*, size_t)
cdef extern from * nogil:
    int SEQ_CST "__ATOMIC_SEQ_CST"

cdef enum:
    HALF = 28                          # of 64: so much of the connections that write makes a group, where they take
    WHOLE = 48                         # turns at the disk, and where they go together
    GATHER_LONGEST_US = 5000
    LEAN = 4                           # groups that speak for the other way, less those against it, until it is taken
    FORGET = 16                        # a part of the connections that are gone, with each group

cdef struct Pace:                      # of a worker's groups
    u32 active                         # connections that write: the most of late
    bint whole                         # all go together: the disk takes longer than their commands do
    i64 lean
    i64 began_us                       # the group at the disk
    i64 released_us                    # the one before it
    i64 came_us                        # when the last commands ran that wait for the next one
    i64 gather_us                      # so long it is waited for more of them

cdef Pace[WORKERS_MAX] paces
cdef u32 sync_busy = 0                 # an fsync is under way


cdef bint dying() noexcept nogil:
    """Has the disk failed for good? One word, that the cron acts on."""
    cdef bint yes
    racy_begin()
    yes = aof.fatal_errno != 0
    racy_end()
    return yes


cdef void sync_wanted(Worker* w) noexcept nogil:
    """Begin an fsync unless one is under way or all is on the disk that can be."""
    global sync_busy
    cdef u32 expected = 0
    cdef int fd
    if dying() or not atomic_cas32(&sync_busy, &expected, 1, False, SEQ_CST, RELAXED):
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
    acks_wake()


cdef bint enough(Worker* w) noexcept nogil:
    """Are there as many connections as a group should have?"""
    cdef u32 n = 0
    cdef Conn* c = w.flush
    while c != NULL and n < w.group_enough:
        n += 1
        c = c.next_flush
    return n >= w.group_enough


cdef void group_begin(Worker* w) noexcept nogil:
    """The connections that have output wait from now on, for the disk to pass what is in the log."""
    cdef Conn* c = w.flush
    aof_turn()                         # one write a group, not one a turn
    w.held = c
    w.held_pos = atomic_load64(&effects_log.tail, SEQ_CST)
    w.flush = NULL
    w.gather_since_us = 0
    paces[w.index].began_us = w.now_us
    while c != NULL:
        c.flags |= C_SYNCING
        c = c.next_flush
    atomic_store32(&w.holding, 1, SEQ_CST)


cdef void keep_pace(Worker* w, Pace* p, bint waiting) noexcept nogil:
    """A group is on the disk: how shall they go on? Two halves that take turns need an fsync each, which is worth it as
    long as the commands of all take longer than one. waiting: there are some for the next group already."""
    cdef i64 took = w.now_us - p.began_us
    cdef bint other
    if p.whole:
        other = p.began_us - p.released_us >= took
    else:
        other = waiting and 2 * (w.now_us - p.came_us) > took
    p.lean += 1 if other else -1 if p.lean > 0 else 0
    if p.lean == LEAN:
        p.lean = 0
        p.whole = not p.whole
    p.gather_us = w.gather_max_us
    if p.whole and took // 2 > p.gather_us:
        p.gather_us = took // 2 if took // 2 < GATHER_LONGEST_US else GATHER_LONGEST_US
    p.released_us = w.now_us


cdef void durable_release(Worker* w) noexcept nogil:
    cdef Conn* c = w.held
    cdef Conn* head = c
    cdef u32 active = 0
    cdef Pace* p = &paces[w.index]
    cdef bint waiting = w.flush != NULL
    if c == NULL:
        return
    if conf.hold_replies and atomic_load64(&aof.synced, ACQUIRE) < w.held_pos:
        return
    w.held = NULL
    atomic_store32(&w.holding, 0, SEQ_CST)
    while c != NULL:
        active += 1
        c.flags &= ~<u32>C_SYNCING
        if c.qlen and not c.flags & (C_RESUME | C_CLOSING):
            c.flags |= C_RESUME
            c.next_resume = w.resume
            w.resume = c
        c = c.next_flush
    c = w.flush
    while c != NULL:
        active += 1
        c = c.next_flush
    keep_pace(w, p, waiting)
    p.active -= (p.active + FORGET - 1) // FORGET
    if active > p.active:
        p.active = active
    w.group_enough = p.active * (WHOLE if p.whole else HALF) // 64
    if conf.hold_replies and w.flush != NULL and w.gather_max_us and enough(w):
        group_begin(w)                 # the disk works while the replies of the former group are sent
        sync_wanted(w)
    flush_list(w, head)


cdef bint gathers(Worker* w) noexcept nogil:
    """Is it worth waiting for more connections before an fsync is begun? When one group has been answered its clients
    write again one after the other: without this the first of them would have an fsync of its own. The connections
    come to be in two groups: one's replies are sent and its next commands run while the disk has the other."""
    cdef i64 longest = paces[w.index].gather_us
    if not w.gather_max_us:
        return False
    if not enough(w) and (not w.gather_since_us or w.now_us - w.gather_since_us < longest):
        if not w.gather_since_us:
            w.gather_since_us = w.now_us
            w.timer_arm(w, longest)
        return True
    return False


cdef bint durable_hold(Worker* w) noexcept nogil:
    if not conf.hold_replies:
        aof_turn()
        return False
    if w.commands != w.turn_commands:
        paces[w.index].came_us = w.now_us
    if w.held == NULL:
        if atomic_load64(&effects_log.tail, SEQ_CST) == atomic_load64(&aof.synced, ACQUIRE):
            return False
        if w.flush == NULL:
            aof_turn()
            if acks_waiting[w.index]:
                sync_wanted(w)         # (else nobody waits for it: the cron sees to the disk)
            return False
        if gathers(w):
            return True
        group_begin(w)
    elif atomic_load64(&aof.written, ACQUIRE) < w.held_pos:
        aof_turn()                     # another writer's range was not whole yet
    sync_wanted(w)
    return True
