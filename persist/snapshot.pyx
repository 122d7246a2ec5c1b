# slotring: data plane
"""BGSAVE without a fork: the data as it was at one moment, written while commands go on.

`begin` fixes the moment while it holds every partition. From then on a slot is written by whoever comes first: the
saver (`run`), which takes the slots in order, or a command that is about to change it (engine/snapshot.pxd). What
commands write is left in side buffers that the saver takes; when it is behind, they write to the file themselves, so
that the buffers stay small. Each piece of the file begins by naming its database.

The longest pause that a client sees is the time to serialise one slot: a 16384th of the keys, or a large value."""
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memset
from engine.conf cimport conf
from engine.defs cimport *
from engine.hashing cimport SLOTS
from engine.lock cimport lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.rdbio cimport *
from engine.snapshot cimport hook_emptied, hook_preimage, hook_preimage_all
from engine.store cimport *
from persist.rdb cimport *

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int)

cdef enum:
    SIDE_MAX = 8 << 20             # bytes in side buffers from which on commands write to the file themselves,
    SIDE_SHARE = 16                # or this part of the memory that is used, whichever is more
    SIDE_FIRST = 4096
    CHUNK_US = 200                 # so long the saver works, and then so long it rests
    REST_US = 200
    NAP_US = 1000                  # rdb-key-save-delay: how often it is looked whether the save goes on

cdef struct Side:
    Side* next
    RdbOut out

cdef struct Snapshot:
    RdbFile file
    RdbOut out                     # the saver's
    i64 out_db                     # database that the saver's piece has named last; -1: none
    u32 stop                       # it is not wanted any more
    u32 ended                      # of `run`: what it wrote here is seen by the next `begin`
    bint slots                     # cluster mode: say what each slot has
    bint compress
    i64 now_ms
    i64 delay_us
    u64 keys                       # written so far
    u64 keys_total
    u32 side_lock
    u64 side_bytes
    u64 side_max
    u32 opened                     # the file can be written to
    u64 side_peak
    Side* side
    u8[SLOTS] done                 # under the lock of the slot's partition

cdef Snapshot s


cdef void out_init(RdbOut* o) noexcept nogil:
    o.p = NULL
    o.len = o.cap = 0
    o.compress = s.compress


cdef u64 put_slot(RdbOut* o, u32 slot, i64* db) noexcept nogil:
    """A slot in all databases; *db: the one that the piece has named last. Returns how many keys."""
    cdef u32 i
    cdef Table* t
    cdef u64 n = 0
    for i in range(store.ndbs):
        t = store.dbs[i].slots[slot]
        if t == NULL:
            continue
        if db[0] != i:
            rdb_out_byte(o, OP_SELECTDB)
            rdb_out_length(o, i)
            db[0] = i
        if s.slots:
            save_slot_info(o, t)
        n += save_table(o, t, s.now_ms)
    return n


# ---- before a change

cdef Side* new_side() noexcept nogil:
    cdef Side* side = <Side*>malloc(sizeof(Side))
    if side == NULL:
        abort()
    out_init(&side.out)
    return side


cdef void give(Side* side) noexcept nogil:
    """Leave a piece for the saver; where it is behind, write it here."""
    if atomic_load64(&s.side_bytes, RELAXED) > s.side_max and atomic_load32(&s.opened, ACQUIRE):
        rdb_write(&s.file, side.out.p, side.out.len)
        rdb_out_free(&side.out)
        free(side)
        return
    lock(&s.side_lock)
    side.next = s.side
    s.side = side
    atomic_add64(&s.side_bytes, side.out.cap, RELAXED)
    if s.side_bytes > s.side_peak:
        atomic_store64(&s.side_peak, s.side_bytes, RELAXED)
    unlock(&s.side_lock)


cdef void preimage(u32 slot) noexcept nogil:
    """Write a slot before a command changes it; its partition is held."""
    cdef Side* side
    cdef i64 db = -1
    cdef u64 n
    if s.done[slot]:
        return
    s.done[slot] = 1
    side = new_side()
    n = put_slot(&side.out, slot, &db)
    if n == 0 or atomic_load32(&s.stop, ACQUIRE):
        rdb_out_free(&side.out)
        free(side)
        return
    atomic_add64(&s.keys, n, RELAXED)
    give(side)


cdef void preimage_rest() noexcept nogil:
    """Write all that is left, since databases are about to change places or to be emptied; everything is held."""
    cdef Side* side = new_side()
    cdef u32 slot
    cdef i64 db = -1
    cdef u64 n = 0
    for slot in range(SLOTS):
        if atomic_load32(&s.stop, ACQUIRE):
            break
        if s.done[slot]:
            continue
        s.done[slot] = 1
        n += put_slot(&side.out, slot, &db)
        if side.out.len >= PIECE_BYTES:
            give(side)
            side = new_side()
            db = -1
    if side.out.len:
        give(side)
    else:                              # nothing was left: the saver may have ended, and would not take it
        rdb_out_free(&side.out)
        free(side)
    atomic_add64(&s.keys, n, RELAXED)


cdef void emptied() noexcept nogil:
    """FLUSHALL: what is being saved is not wanted any more."""
    if conf.snapshot:
        conf.snapshot = 0
        atomic_store32(&s.stop, 1, RELEASE)
    save_emptied()


# ---- the saver

cdef void write_side() noexcept nogil:
    """Take what commands have left."""
    cdef Side* side
    cdef Side* following
    lock(&s.side_lock)
    side = s.side
    s.side = NULL
    atomic_store64(&s.side_bytes, 0, RELAXED)
    unlock(&s.side_lock)
    while side != NULL:
        following = side.next
        if not atomic_load32(&s.stop, ACQUIRE) and s.opened:
            rdb_write(&s.file, side.out.p, side.out.len)
        rdb_out_free(&side.out)
        free(side)
        side = following


cdef void flush_out() noexcept nogil:
    rdb_write(&s.file, s.out.p, s.out.len)
    rdb_push(&s.file)
    s.out.len = 0
    s.out_db = -1


cdef u64 save_slot(u32 slot) noexcept nogil:
    """A slot whose turn has come; returns how many keys were written for it here."""
    cdef Partition* p = part_of(slot)
    cdef u64 n = 0
    lock(&p.lock)
    if not s.done[slot]:
        s.done[slot] = 1
        n = put_slot(&s.out, slot, &s.out_db)
    unlock(&p.lock)
    atomic_add64(&s.keys, n, RELAXED)
    if s.out.len >= PIECE_BYTES:
        flush_out()
    return n


cdef void delay(u64 keys) noexcept nogil:
    """rdb-key-save-delay, cut into naps."""
    cdef i64 left = s.delay_us * <i64>keys
    while left > 0 and not atomic_load32(&s.stop, ACQUIRE):
        usleep(<unsigned int>(left if left < NAP_US else NAP_US))
        left -= NAP_US


cdef void save_slots() noexcept nogil:
    cdef u32 slot
    cdef u64 n
    cdef bint done, failed
    cdef i64 rest_at = mono_us() + CHUNK_US
    for slot in range(SLOTS):
        racy_begin()
        failed = s.file.error != 0     # if a command's piece fails at this moment the next slot's turn sees it
        done = s.done[slot]            # it stays so; where it is not yet, it is looked at again under the lock
        racy_end()
        if failed or atomic_load32(&s.stop, ACQUIRE):
            return
        if done:
            continue
        n = save_slot(slot)
        write_side()
        if s.delay_us:
            delay(n)
        if mono_us() >= rest_at:
            usleep(REST_US)
            rest_at = mono_us() + CHUNK_US


cdef void wait_for_all() noexcept nogil:
    """Commands that are writing a slot have ended when their partitions can be had."""
    cdef u32 i
    for i in range(store.nparts):
        lock(&store.parts[i].lock)
        unlock(&store.parts[i].lock)


cdef void not_any_more() noexcept nogil:
    racy_begin()                       # who sees it later finds that all slots are written, or that it is stopped
    conf.snapshot = 0
    racy_end()


def begin(bint slots, bytes functions, i64 used_bytes, i64 delay_us) -> None:
    """Fix the moment: from now on what is about to change is kept. `run` follows. One snapshot at a time."""
    cdef const char* text = functions
    cdef size_t n = len(functions)
    cdef u32 db
    with nogil:
        atomic_load32(&s.ended, ACQUIRE)
        atomic_store32(&s.stop, 0, RELAXED)
        s.slots = slots
        s.compress = conf.rdb_compression
        s.now_ms = wall_us() // 1000
        s.delay_us = delay_us
        atomic_store64(&s.keys, 0, RELAXED)
        atomic_store64(&s.keys_total, 0, RELAXED)
        atomic_store64(&s.side_bytes, 0, RELAXED)
        atomic_store64(&s.side_peak, 0, RELAXED)
        s.side_max = <u64>(used_bytes // SIDE_SHARE)
        if s.side_max < SIDE_MAX:
            s.side_max = SIDE_MAX
        s.side = NULL
        s.opened = False
        memset(s.done, 0, SLOTS)
        out_init(&s.out)
        s.out_db = -1
        save_head(&s.out, used_bytes, text, n)
        lock_all()
        for db in range(store.ndbs):
            if store_count(db):
                save_db_head(&s.out, db, store_count(db), store_expires(db))
                atomic_add64(&s.keys_total, store_count(db), RELAXED)
        conf.snapshot = 1
        unlock_all()


def run(bytes path, bint checksum) -> tuple:
    """Write it all to a new file: (errno or 0, was it stopped, was the file made). It is finished and closed."""
    cdef bint stopped, made
    cdef const char* name = path
    with nogil:
        made = rdb_open(&s.file, name, checksum)
        if made:
            flush_out()                # the head, before any command can write to the file
            atomic_store32(&s.opened, 1, RELEASE)
            save_slots()
        if s.file.error or atomic_load32(&s.stop, ACQUIRE):
            atomic_store32(&s.stop, 1, RELEASE)
            not_any_more()
        wait_for_all()
        not_any_more()
        stopped = atomic_load32(&s.stop, ACQUIRE)  # a FLUSHALL that comes later has nothing to stop
        write_side()
        if stopped:
            rdb_drop(&s.file)
        else:
            flush_out()
            rdb_finish(&s.file)
        rdb_out_free(&s.out)
        atomic_store32(&s.ended, 1, RELEASE)
    return s.file.error, bool(stopped), bool(made)


def rest() -> None:
    """Write all that is left, since what follows does not ask slot by slot. The caller holds all partitions."""
    if conf.snapshot:
        preimage_rest()


def stop() -> None:
    """End it as soon as can be."""
    atomic_store32(&s.stop, 1, RELEASE)


def figures() -> dict:
    """Keys written and to be written, bytes of side buffers at their most, bytes of the file."""
    racy_begin()
    written = s.file.bytes
    racy_end()
    return {"keys": atomic_load64(&s.keys, RELAXED), "keys_total": atomic_load64(&s.keys_total, RELAXED),
            "side_peak": atomic_load64(&s.side_peak, RELAXED), "bytes": written}


hook_preimage = preimage
hook_preimage_all = preimage_rest
hook_emptied = emptied
