# slotring: data plane
"""Feeds of slots on the move; see slot_feed.pxd.

A command's MULTI and EXEC are left out: nothing of a slot is seen where it goes before all of it is there, and real
Valkey expects none."""
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
from engine.conf cimport conf
from engine.defs cimport *
from engine.effects cimport *
from engine.hashing cimport SLOTS
from engine.lock cimport lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.rdbio cimport RdbOut, rdb_out_free
from engine.reply cimport write_i64
from engine.store cimport *
from persist.commands_out cimport commands_select, commands_table

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)
cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int)
cdef extern from * nogil:
    u8 atomic_load8 "__atomic_load_n"(u8*, int)
    void atomic_store8 "__atomic_store_n"(u8*, u8, int)

cdef enum:
    MULTI_BYTES = 15               # "*1\r\n$5\r\nMULTI\r\n"
    EXEC_BYTES = 14
    SELECT_MAX = 64
    WORK_US = 500                  # so long slots are written, and then it is rested, so that clients' turns come
    REST_US = 100

cdef u32 NO_FEED_DB = 0xFFFFFFFF


cdef bint feed_room(Feed* f, size_t n) noexcept nogil:
    """Room for n bytes more; False: there may not be so many."""
    cdef char* p
    cdef size_t cap
    if f.len + n > f.limit:
        f.state = FEED_FULL
        return False
    if f.len + n > f.cap:
        cap = (f.len + n) * 2
        p = <char*>realloc(f.p, cap)
        if p == NULL:
            f.state = FEED_FULL
            return False
        f.p = p
        f.cap = cap
    return True


cdef void feed_select(Feed* f, u32 db) noexcept nogil:
    cdef char number[24]
    cdef int n = write_i64(number, db)
    number[n] = 0
    if feed_room(f, SELECT_MAX):
        f.len += <size_t>snprintf(f.p + f.len, SELECT_MAX, b"*2\r\n$6\r\nSELECT\r\n$%d\r\n%s\r\n", n, number)


cdef void end_all() noexcept nogil:
    cdef u32 i
    for i in range(FEEDS_MAX):
        lock(&feeds.feeds[i].lock)
        if feeds.feeds[i].state == FEED_OPEN:
            feeds.feeds[i].state = FEED_ALL
        unlock(&feeds.feeds[i].lock)


cdef void feed_record(Record* r, u64 at) noexcept nogil:
    cdef Feed* f
    cdef u32 i
    feeds.now = NULL
    if r.slot >= SLOTS:
        end_all()
        return
    i = atomic_load8(&feeds.of_slot[r.slot], ACQUIRE)
    if i == 0 or at < atomic_load64(&feeds.since[r.slot], RELAXED):
        return
    f = &feeds.feeds[i - 1]
    lock(&f.lock)
    if f.state == FEED_OPEN:
        if f.db != r.db:
            feed_select(f, r.db)
        f.db = r.db_after
        feeds.now = f
        feeds.now_age = f.age
        feeds.skip = MULTI_BYTES if r.count > 1 else 0
        feeds.keep = r.len - (MULTI_BYTES + EXEC_BYTES if r.count > 1 else 0)
    unlock(&f.lock)


cdef void feed_bytes(const char* p, size_t n) noexcept nogil:
    cdef Feed* f = feeds.now
    cdef size_t part
    if f == NULL:
        return
    part = feeds.skip if feeds.skip < n else n
    feeds.skip -= part
    p += part
    n -= part
    if n > feeds.keep:
        n = feeds.keep
    feeds.keep -= n
    lock(&f.lock)
    if f.state == FEED_OPEN and f.age == feeds.now_age and n and feed_room(f, n):
        memcpy(f.p + f.len, p, n)
        f.len += n
        f.total += n
    unlock(&f.lock)


cdef bint feed_take(int feed, char** p, size_t* n) noexcept nogil:
    cdef Feed* f = &feeds.feeds[feed]
    cdef bint whole
    lock(&f.lock)
    p[0] = f.p
    n[0] = f.len
    f.p = NULL
    f.len = f.cap = 0
    f.db = NO_FEED_DB              # the taker may say something else before the next
    whole = feeds.now != f or feeds.now_age != f.age or feeds.keep == 0
    unlock(&f.lock)
    return whole


# ---- for the control plane

cdef void effects_word(i64 v) noexcept nogil:
    racy_begin()                       # at the end of a turn workers look at it without a lock
    conf.effects = v
    racy_end()


def open_feed(size_t limit) -> int:
    """A new feed that may keep so many bytes; -1: there are too many. While there is one, effects are logged."""
    cdef int i
    cdef Feed* f
    if not effects_open():
        raise MemoryError
    for i in range(FEEDS_MAX):
        f = &feeds.feeds[i]
        if f.state == 0:
            break
    else:
        return -1
    with nogil:
        lock_all()
        lock(&f.lock)
        f.state = FEED_OPEN
        f.age += 1
        f.db = NO_FEED_DB
        f.len = f.total = 0
        f.limit = limit
        unlock(&f.lock)
        feeds.open += 1
        if conf.effects == 0:          # nobody has read so far
            atomic_store64(&effects_log.taken, atomic_load64(&effects_log.tail, RELAXED), RELEASE)
            effects_word(1)
        unlock_all()
    return i


def close_feed(int feed) -> None:
    """The feed has ended."""
    cdef Feed* f = &feeds.feeds[feed]
    cdef u32 slot
    with nogil:
        lock_all()
        for slot in range(SLOTS):
            if feeds.of_slot[slot] == feed + 1:
                atomic_store8(&feeds.of_slot[slot], 0, RELEASE)
        lock(&f.lock)
        free(f.p)
        f.p = NULL
        f.len = f.cap = 0
        f.state = 0
        unlock(&f.lock)
        feeds.open -= 1
        if feeds.open == 0 and not feeds.logged:
            effects_word(0)
        unlock_all()


cdef void write_slot(RdbOut* o, u32 slot, u32* db) noexcept nogil:
    """A slot in all databases; its partition is held. db: the last one that was named."""
    cdef Table* t
    cdef u32 i
    for i in range(store.ndbs):
        t = store.dbs[i].slots[slot]
        if t != NULL and t.count:
            if db[0] != i:
                commands_select(o, i)
                db[0] = i
            commands_table(o, t)


def capture(int feed, slots, int first, size_t most) -> tuple:
    """(commands that make slots, the place after the last of them): slots[first] and following, until there are `most`
    bytes. What is logged of them from now on is the feed's."""
    cdef RdbOut o
    cdef Partition* p
    cdef u32 db = NO_FEED_DB, slot
    cdef int n = len(slots)
    cdef i64 rest_at = mono_us() + WORK_US
    o.p = NULL
    o.len = o.cap = 0
    o.compress = False
    while first < n and o.len < most:
        slot = slots[first]
        first += 1
        with nogil:
            p = part_of(slot)
            lock(&p.lock)
            atomic_store64(&feeds.since[slot], atomic_load64(&effects_log.tail, ACQUIRE), RELAXED)
            atomic_store8(&feeds.of_slot[slot], <u8>(feed + 1), RELEASE)
            write_slot(&o, slot, &db)
            unlock(&p.lock)
            if mono_us() >= rest_at:
                usleep(REST_US)
                rest_at = mono_us() + WORK_US
    found = o.p[:o.len] if o.len else b""
    rdb_out_free(&o)
    return found, first


def state(int feed) -> tuple:
    """(1 open, 2 too much was logged, 3 something happened to all slots; bytes that wait to be taken)."""
    cdef Feed* f = &feeds.feeds[feed]
    cdef u32 s
    cdef size_t n
    lock(&f.lock)
    s = f.state
    n = f.len
    unlock(&f.lock)
    return s, n
