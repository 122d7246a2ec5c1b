# slotring: data plane
"""The look-ahead of the loaders; see ahead.pxd."""
from engine.defs cimport *
from engine.racy cimport racy_begin, racy_end
from engine.store cimport *


cdef inline u64 cell_like(Bucket* b, u64 hash) noexcept nogil:
    """The first cell of a bucket whose hash byte is the hash's, or 0."""
    cdef u8 tag = hash_tag_byte(hash)
    cdef u32 i
    for i in range(BUCKET_SLOTS):
        if b.tags[i] == tag and b.bits >> i & 1 and not (i == 6 and b.bits & BUCKET_CHAINED):
            return b.cells[i]
    return 0


cdef inline Bucket* bucket_of(Key* k, bint alone) noexcept nogil:
    """The first bucket of a key whose table was read before, as far as it may be told without a lock."""
    cdef Table* t = k.table
    cdef Bucket* b
    cdef void* mem
    if t == NULL:
        return NULL
    if alone:
        return table_bucket(t, table_index(t, k.hash))
    mem = t.mem
    if mem == NULL or t.nbuckets > SEGMENT_BUCKETS:
        return NULL
    b = <Bucket*>mem + table_index(t, k.hash)
    return NULL if (<uintptr_t>b ^ <uintptr_t>mem) >> 22 else b


cdef inline Bucket* to_split(Table* t) noexcept nogil:
    """The bucket that the next key in a table will share out (as store.pyx decides), or NULL."""
    cdef u32 n = t.nbuckets
    if t.count * 2 <= n * 12:
        return NULL
    return table_bucket(t, n & ((<u32>0xFFFFFFFF) >> (clz64(<u64>n) - 32) >> 1))


cdef void entries_ahead(Bucket* b) noexcept nogil:
    cdef u32 bits = b.bits & 0x3F
    while bits:
        prefetch(cell_entry(b.cells[ctz32(bits)]))
        bits &= bits - 1


cdef void keys_ahead(Key** keys, u32 n, bint alone) noexcept nogil:
    cdef Bucket* found[AHEAD_MAX]
    cdef Bucket* twins[AHEAD_MAX]
    cdef u64 cells[AHEAD_MAX]
    cdef Bucket* b
    cdef Entry* e
    cdef u32 i
    if n > AHEAD_MAX:
        n = AHEAD_MAX
    racy_begin()                       # not alone: another thread may be in the same table, and this is but a guess
    for i in range(n):
        prefetch(&store.dbs[keys[i].db].slots[keys[i].slot])
        prefetch(&keys[i].part.arena)
    for i in range(n):
        keys[i].table = store.dbs[keys[i].db].slots[keys[i].slot]
        prefetch(keys[i].table)
    for i in range(n):
        found[i] = bucket_of(keys[i], alone)
        prefetch(found[i])
        twins[i] = to_split(keys[i].table) if alone and keys[i].table != NULL else NULL
        prefetch(twins[i])
    for i in range(n):
        cells[i] = 0
        b = found[i]
        if b == NULL:
            continue
        cells[i] = cell_like(b, keys[i].hash) & ~<u64>CELL_TAG
        if cells[i]:
            prefetch(<void*>cells[i])
            prefetch(<char*>cells[i] + 64)
        elif b.bits & BUCKET_CHAINED:
            prefetch(<void*>b.cells[6])
    racy_end()
    if not alone:
        return
    for i in range(n):
        if twins[i] != NULL:
            entries_ahead(twins[i])
        if cells[i]:
            e = <Entry*>cells[i]
            if entry_type(e) != TYPE_STRING:
                prefetch(value_ptr(e)[0])
                prefetch(<char*>value_ptr(e)[0] + 64)
