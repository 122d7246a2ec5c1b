# slotring: data plane
"""BGSAVE without a fork: the data as it was at one moment, written while commands go on. So is the base of an AOF.

`begin` fixes the moment while it holds every partition. From then on a slot is written by whoever comes first: the
saver (`run`), which takes the slots in order, or a command that is about to change it (engine/snapshot.pxd). What
commands write is left in side buffers that the saver takes; when it is behind, they write to the file themselves, so
that the buffers stay small. Each piece of the file begins by naming its database.

The file is RDB or plain commands (commands_out.pxd). With an index (extents.pyx) each slot begins by naming its
database; where it is in the file is noted when the piece that it is in is written.

The longest pause that a client sees is the time to serialise one slot: a 16384th of the keys, or a large value."""
from libc.stdlib cimport abort, calloc, free, malloc
from libc.string cimport memset
from engine.conf cimport conf
from engine.defs cimport *
from engine.effects cimport effects_log
from engine.hashing cimport SLOTS
from engine.lock cimport lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.rdbio cimport *
from engine.snapshot cimport hook_emptied, hook_preimage, hook_preimage_all
from engine.store cimport *
from persist.commands_out cimport *
from persist.extents cimport *
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

cdef struct Piece:                 # of the file
    RdbOut out
    i64 db                         # the database that it has named last; -1: none
    u32 first                      # with an index: its slots, linked by Extent.next; SLOTS: none
    u32 last

cdef struct Side:
    Side* next
    Piece piece

cdef struct Snapshot:
    RdbFile file
    Piece piece                    # the saver's
    Extent* rows                   # of all slots; NULL: no index is wanted
    u64 head_crc
    u64 head_bytes
    int index_error                # errno of writing the index
    u32 stop                       # it is not wanted any more
    bint commands                  # not RDB
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
    u64 copied                     # memory that pieces which commands had to write have taken, all in all
    Side* side
    u8[SLOTS] done                 # under the lock of the slot's partition

cdef Snapshot s


cdef void piece_clear(Piece* p) noexcept nogil:
    """Nothing is in it (any more); its memory stays."""
    p.out.len = 0
    p.db = -1
    p.first = p.last = SLOTS


cdef void piece_init(Piece* p) noexcept nogil:
    p.out.p = NULL
    p.out.cap = 0
    p.out.compress = s.compress
    piece_clear(p)


cdef void name_db(RdbOut* o, u32 db) noexcept nogil:
    if s.commands:
        commands_select(o, db)
    else:
        rdb_out_byte(o, OP_SELECTDB)
        rdb_out_length(o, db)


cdef void note_extent(Piece* p, u32 slot, size_t start, u64 keys) noexcept nogil:
    """For the index: a slot's place in its piece."""
    cdef Extent* x = &s.rows[slot]
    x.offset = start
    x.len = p.out.len - start
    x.keys = <u32>keys
    x.next = SLOTS
    if p.last == SLOTS:
        p.first = slot
    else:
        s.rows[p.last].next = slot
    p.last = slot


cdef u64 put_slot(Piece* p, u32 slot) noexcept nogil:
    """A slot in all databases. Returns how many keys."""
    cdef u32 i
    cdef Table* t
    cdef u64 n = 0
    cdef RdbOut* o = &p.out
    cdef size_t start = o.len
    if s.rows != NULL:
        p.db = -1
    for i in range(store.ndbs):
        t = store.dbs[i].slots[slot]
        if t == NULL or t.count == 0:
            continue
        if p.db != i:
            name_db(o, i)
            p.db = i
        if s.commands:
            n += commands_table(o, t)
        else:
            if s.slots:
                save_slot_info(o, t)
            n += save_table(o, t, s.now_ms)
    if n and s.rows != NULL:
        note_extent(p, slot, start, n)
    return n


cdef void write_piece(Piece* p) noexcept nogil:
    """Append a piece to the file; with an index: note where its slots are now, and their sums. On any thread."""
    cdef u64 crc, at
    cdef u32 slot
    cdef Extent* x
    if s.rows == NULL:
        rdb_write(&s.file, p.out.p, p.out.len)
        return
    crc = crc64(0, p.out.p, p.out.len if p.first == SLOTS else s.rows[p.first].offset)
    slot = p.first
    while slot != SLOTS:
        x = &s.rows[slot]
        x.crc = crc64(0, p.out.p + x.offset, x.len)
        crc = crc64_join(crc, x.crc, x.len)
        slot = x.next
    rdb_write_summed(&s.file, p.out.p, p.out.len, crc, &at)
    slot = p.first
    while slot != SLOTS:
        s.rows[slot].offset += at
        slot = s.rows[slot].next


# ---- before a change

cdef Side* new_side() noexcept nogil:
    cdef Side* side = <Side*>malloc(sizeof(Side))
    if side == NULL:
        abort()
    piece_init(&side.piece)
    return side


cdef void give(Side* side) noexcept nogil:
    """Leave a piece for the saver; where it is behind, write it here."""
    if atomic_load64(&s.side_bytes, RELAXED) > s.side_max and atomic_load32(&s.opened, ACQUIRE):
        write_piece(&side.piece)
        rdb_out_free(&side.piece.out)
        free(side)
        return
    lock(&s.side_lock)
    side.next = s.side
    s.side = side
    atomic_add64(&s.side_bytes, side.piece.out.cap, RELAXED)
    if s.side_bytes > s.side_peak:
        atomic_store64(&s.side_peak, s.side_bytes, RELAXED)
    unlock(&s.side_lock)


cdef void preimage(u32 slot) noexcept nogil:
    """Write a slot before a command changes it; its partition is held."""
    cdef Side* side
    cdef u64 n
    if s.done[slot]:
        return
    s.done[slot] = 1
    side = new_side()
    n = put_slot(&side.piece, slot)
    if n == 0 or atomic_load32(&s.stop, ACQUIRE):
        rdb_out_free(&side.piece.out)
        free(side)
        return
    atomic_add64(&s.keys, n, RELAXED)
    atomic_add64(&s.copied, side.piece.out.cap, RELAXED)
    give(side)


cdef void preimage_rest() noexcept nogil:
    """Write all that is left, since databases are about to change places or to be emptied; everything is held."""
    cdef Side* side = new_side()
    cdef u32 slot
    cdef u64 n = 0
    for slot in range(SLOTS):
        if atomic_load32(&s.stop, ACQUIRE):
            break
        if s.done[slot]:
            continue
        s.done[slot] = 1
        n += put_slot(&side.piece, slot)
        if side.piece.out.len >= PIECE_BYTES:
            give(side)
            side = new_side()
    if side.piece.out.len:
        give(side)
    else:                              # nothing was left: the saver may have ended, and would not take it
        rdb_out_free(&side.piece.out)
        free(side)
    atomic_add64(&s.keys, n, RELAXED)


cdef void not_any_more() noexcept nogil:
    racy_begin()                       # who sees it later finds that all slots are written, or that it is stopped
    conf.snapshot = 0
    racy_end()


cdef void emptied() noexcept nogil:
    """FLUSHALL: what is being saved is not wanted any more."""
    if conf.snapshot:
        not_any_more()
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
            write_piece(&side.piece)
        rdb_out_free(&side.piece.out)
        free(side)
        side = following


cdef void flush_out() noexcept nogil:
    write_piece(&s.piece)
    rdb_push(&s.file)
    piece_clear(&s.piece)


cdef u64 save_slot(u32 slot) noexcept nogil:
    """A slot whose turn has come; returns how many keys were written for it here."""
    cdef Partition* p = part_of(slot)
    cdef u64 n = 0
    lock(&p.lock)
    if not s.done[slot]:
        s.done[slot] = 1
        n = put_slot(&s.piece, slot)
    unlock(&p.lock)
    atomic_add64(&s.keys, n, RELAXED)
    if s.piece.out.len >= PIECE_BYTES:
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


cdef void reset(i64 used_bytes, i64 delay_us) noexcept nogil:
    atomic_load32(&s.ended, ACQUIRE)
    atomic_store32(&s.stop, 0, RELAXED)
    s.compress = conf.rdb_compression
    s.now_ms = wall_us() // 1000
    s.delay_us = delay_us
    atomic_store64(&s.keys, 0, RELAXED)
    atomic_store64(&s.keys_total, 0, RELAXED)
    s.side_lock = 0
    atomic_store64(&s.side_bytes, 0, RELAXED)
    atomic_store64(&s.side_peak, 0, RELAXED)
    atomic_store64(&s.copied, 0, RELAXED)
    s.side_max = <u64>(used_bytes // SIDE_SHARE)
    if s.side_max < SIDE_MAX:
        s.side_max = SIDE_MAX
    s.side = NULL
    s.opened = False
    s.rows = NULL
    s.index_error = 0
    memset(s.done, 0, SLOTS)
    piece_init(&s.piece)


cdef void fix_moment() noexcept nogil:
    """Everything is held."""
    cdef u32 db
    for db in range(store.ndbs):
        if store_count_all(db):
            if not s.commands:
                save_db_head(&s.piece.out, db, store_count_all(db), store_expires_all(db))
            atomic_add64(&s.keys_total, store_count_all(db), RELAXED)
    conf.snapshot = 1


def begin(bint slots, bytes functions, i64 used_bytes, i64 delay_us, bint held=False, bint commands=False,
          bint aof_base=False, bint index=False) -> None:
    """Fix the moment: from now on what is about to change is kept. `run` follows. One snapshot at a time.

    held: the caller has every partition (store.hold_all) and lets go of them. commands: not RDB but commands, after
    `functions`, which are commands too (commands_out.functions). aof_base: an RDB file that says that it is one.
    index: `run` will write one."""
    cdef const char* text = functions
    cdef size_t n = len(functions)
    with nogil:
        reset(used_bytes, delay_us)
        s.slots = slots
        s.commands = commands
        if index:
            s.rows = <Extent*>calloc(SLOTS, sizeof(Extent))
            if s.rows == NULL:
                abort()
        if commands:
            rdb_out_bytes(&s.piece.out, text, n)
        else:
            save_head(&s.piece.out, used_bytes, text, n, aof_base)
        if not held:
            lock_all()
        fix_moment()
        if not held:
            unlock_all()


cdef void write_slots() noexcept nogil:
    """The file is open."""
    s.head_bytes = s.piece.out.len
    if s.rows != NULL:
        s.head_crc = crc64(0, s.piece.out.p, s.piece.out.len)
    flush_out()                        # the head, before any command can write to the file
    atomic_store32(&s.opened, 1, RELEASE)
    save_slots()


cdef void finish(const char* index) noexcept nogil:
    """All pieces are there: the end of the file, then the index."""
    cdef IndexHead h
    flush_out()
    if s.commands:
        rdb_close(&s.file)
    else:
        rdb_finish(&s.file)
    if s.file.error or s.rows == NULL:
        return
    h.form = FORM_COMMANDS if s.commands else FORM_RDB
    h.base_bytes = s.file.bytes
    h.head_bytes = s.head_bytes
    h.head_crc = s.head_crc
    s.index_error = index_write(index, s.rows, &h)


def run(bytes path, bint checksum, bytes index_path=b"") -> tuple:
    """Write it all to a new file: (errno or 0, was it stopped, was the file made, was the index written). The file is
    finished, on the disk and closed; then so is the index, at index_path or, where that is empty, at path + ".idx". An
    index that could not be written is removed: figures()["index_error"] says why. checksum: of an RDB file."""
    cdef bint stopped, made, indexed
    cdef const char* name = path
    cdef bytes beside = index_path or path + b".idx"
    cdef const char* index = beside
    with nogil:
        made = rdb_open(&s.file, name, checksum)
        if made:
            write_slots()
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
            finish(index)
        indexed = s.rows != NULL and not stopped and s.file.error == 0 and s.index_error == 0
        rdb_out_free(&s.piece.out)
        free(s.rows)
        s.rows = NULL
        atomic_store32(&s.ended, 1, RELEASE)
    return s.file.error, bool(stopped), bool(made), bool(indexed)


def slot_payload(int slot, bint held=False) -> tuple:
    """(a slot's keys in all databases as commands, the end of the effects log at that moment). held: the caller has the
    slot's partition, or all."""
    cdef RdbOut o
    cdef Table* t
    cdef u64 tail
    cdef u32 i
    if not 0 <= slot < SLOTS:
        raise ValueError("no such slot")
    o.p = NULL
    o.len = o.cap = 0
    with nogil:
        if not held:
            lock(&part_of(slot).lock)
        for i in range(store.ndbs):
            t = store.dbs[i].slots[slot]
            if t != NULL and t.count:
                commands_select(&o, i)
                commands_table(&o, t)
        tail = atomic_load64(&effects_log.tail, ACQUIRE)
        if not held:
            unlock(&part_of(slot).lock)
    found = o.p[:o.len] if o.len else b""
    rdb_out_free(&o)
    return found, tail


def rest() -> None:
    """Write all that is left, since what follows does not ask slot by slot. The caller holds all partitions."""
    if conf.snapshot:
        preimage_rest()


def stop() -> None:
    """End it as soon as can be."""
    atomic_store32(&s.stop, 1, RELEASE)


def figures() -> dict:
    """Keys written and to be written, bytes of side buffers at their most, and all that they have been, bytes of
    the file, errno of the index."""
    racy_begin()                       # whole words of about this moment
    found = {"keys": s.keys, "keys_total": s.keys_total, "side_peak": s.side_peak, "bytes": s.file.bytes,
             "copied": s.copied, "index_error": s.index_error}
    racy_end()
    return found


hook_preimage = preimage
hook_preimage_all = preimage_rest
hook_emptied = emptied
