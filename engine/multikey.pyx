# slotring: data plane
"""Batches of keys and sets of partitions; see multikey.pxd."""
from engine.defs cimport *
from engine.store cimport *
from libc.stdlib cimport malloc, free
from engine.command cimport Ctx, Command, Arg, commands, LOCK_NONE, LOCK_KEYS
from engine.hashing cimport key_slot
from engine.numbers cimport parse_i64
from engine.keyspace cimport key_init
from engine.lock cimport lock, unlock

cdef enum:
    PREFETCH_KEYS_MIN = 3          # fewer keys: the walk ahead costs more than it saves
    PLACES = 64                    # places of keys that get_keys may give without a block of its own


cdef void parts_clear(PartSet* s) noexcept nogil:
    """An empty set."""
    cdef u32 i
    s.used = (store.nparts + 63) // 64
    for i in range(s.used):
        s.words[i] = 0


cdef void parts_lock(PartSet* s) noexcept nogil:
    """Lock the partitions of the set in ascending order."""
    cdef u32 i
    cdef u64 left
    for i in range(s.used):
        left = s.words[i]
        while left:
            lock(&store.parts[(i << 6) + <u32>ctz64(left)].lock)
            left &= left - 1


cdef void parts_unlock(PartSet* s) noexcept nogil:
    """Unlock the partitions of the set."""
    cdef u32 i
    cdef u64 left
    for i in range(s.used):
        left = s.words[i]
        while left:
            unlock(&store.parts[(i << 6) + <u32>ctz64(left)].lock)
            left &= left - 1


cdef inline void prefetch_entry(Key* k) noexcept nogil:
    """Ask for the entry that a key's bucket probably names."""
    cdef Table* t = store.dbs[k.db].slots[k.slot]
    cdef Bucket* b
    cdef u8 tag = hash_tag_byte(k.hash)
    cdef u32 i
    if t == NULL:
        return
    b = table_bucket(t, table_index(t, k.hash))
    for i in range(BUCKET_SLOTS):
        if b.tags[i] == tag and b.bits >> i & 1:
            prefetch(cell_entry(b.cells[i]))


cdef i64 keys_batch(Ctx* c, i64 first, i64 end, i64 step, Key* keys) noexcept nogil:
    """Keys argv[first], argv[first + step], … before argv[end], at most KEY_BATCH, ready for look-up.

    Returns how many. The memory that the look-ups will read is asked for level by level, so that
    the keys wait together. The locks of the keys' partitions are held."""
    cdef i64 n = 0, i
    cdef Table* t
    while first < end and n < KEY_BATCH:
        if c.argv[first].ptr == c.key.ptr and c.argv[first].len == c.key.len:
            keys[n] = c.key
        else:
            key_init(c, &keys[n], &c.argv[first])
        prefetch(&store.dbs[c.db].slots[keys[n].slot])
        n += 1
        first += step
    if n < PREFETCH_KEYS_MIN:
        return n
    for i in range(n):
        t = store.dbs[c.db].slots[keys[i].slot]
        if t != NULL:
            prefetch(t)
    for i in range(n):
        t = store.dbs[c.db].slots[keys[i].slot]
        if t != NULL:
            prefetch(table_bucket(t, table_index(t, keys[i].hash)))
    for i in range(n):
        prefetch_entry(&keys[i])
    return n


cdef void add_part(void* parts, u32 slot) noexcept nogil:
    parts_add(<PartSet*>parts, part_of(slot))


cdef bint odd_keys(Command* cmd, Arg* argv, i64 argc, key_visit fn, void* arg) noexcept nogil:
    """Keys that the row's own function finds."""
    cdef i64 few[PLACES]
    cdef i64* places = few
    cdef i64 n = cmd.get_keys(argv, argc, places, PLACES), i, known
    known = n if n >= 0 else -1 - n
    if known > PLACES:
        places = <i64*>malloc(known * sizeof(i64))
        if places == NULL:
            return False
        cmd.get_keys(argv, argc, places, known)
    for i in range(known):
        fn(arg, &argv[places[i]])
    if places != few:
        free(places)
    return n >= 0


cdef bint command_keys(Command* cmd, Arg* argv, i64 argc, key_visit fn, void* arg) noexcept nogil:
    """fn for each key of a command. What is out of range here is the command's to refuse."""
    cdef i64 a, last, n
    cdef u32 special = cmd.special
    if cmd.first:
        last = cmd.last if cmd.last >= 0 else argc + cmd.last
        a = cmd.first
        while a <= last and a < argc:
            fn(arg, &argv[a])
            a += cmd.step
    if special:
        a = special & 255
        if a < argc and parse_i64(argv[a].ptr, argv[a].len, &n) and n > 0:
            a = (special >> 8) & 255
            while n > 0 and a < argc:
                fn(arg, &argv[a])
                a += (special >> 16) & 255
                n -= 1
    return cmd.get_keys == NULL or odd_keys(cmd, argv, argc, fn, arg)


cdef struct SlotVisit:
    slot_visit fn
    void* arg


cdef void visit_slot(void* arg, Arg* key) noexcept nogil:
    (<SlotVisit*>arg).fn((<SlotVisit*>arg).arg, key_slot(key.ptr, key.len))


cdef bint command_slots(Command* cmd, Arg* argv, i64 argc, slot_visit fn, void* arg) noexcept nogil:
    """fn for the slot of each key of a command."""
    cdef SlotVisit v
    v.fn = fn
    v.arg = arg
    return command_keys(cmd, argv, argc, visit_slot, &v)


cdef bint command_parts(PartSet* s, Command* cmd, Arg* argv, i64 argc) noexcept nogil:
    """Add the partitions of a command's keys."""
    return command_slots(cmd, argv, argc, add_part, s)


cdef object row_keynum(dict row, int count_at, int first, int step):
    """Say of a row that argv[count_at] is the number of keys, argv[first] the first; all keys are locked for it."""
    commands[<int>row["id"]].lock = LOCK_KEYS
    commands[<int>row["id"]].special = SPECIAL_KEYNUM | count_at | first << 8 | step << 16
    row["keynum"] = (count_at, first, step)
    return row
