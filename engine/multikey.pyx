# slotring: data plane
"""Batches of keys and sets of partitions; see multikey.pxd."""
from engine.defs cimport *
from engine.store cimport *
from engine.command cimport Ctx, commands
from engine.keyspace cimport key_init
from engine.lock cimport lock, unlock

cdef enum:
    PREFETCH_KEYS_MIN = 3          # fewer keys: the walk ahead costs more than it saves


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


cdef object row_keynum(dict row, int count_at, int first, int step):
    """Say of a row that argv[count_at] is the number of keys, argv[first] the first."""
    commands[<int>row["id"]].special = SPECIAL_KEYNUM | count_at | first << 8 | step << 16
    row["keynum"] = (count_at, first, step)
    return row
