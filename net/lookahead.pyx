# slotring: data plane
"""The look-ahead of a batch; see lookahead.pxd."""
from engine.defs cimport *
from engine.command cimport F_VALUE
from engine.lock cimport try_lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.store cimport *
from net.conn cimport *


cdef void prefetch_chained(Key* key) noexcept nogil:
    """The key may be in a chained bucket, which is only followed under the lock, if that is free."""
    cdef Key k = key[0]
    cdef Table* t
    cdef Bucket* b
    cdef u32 i
    cdef char* e
    if not try_lock(&k.part.lock):
        return
    t = store.dbs[k.db].slots[k.slot]
    if t != NULL:
        b = table_bucket(t, table_index(t, k.hash))
        while b.bits & BUCKET_CHAINED:
            b = <Bucket*>b.cells[6]
            for i in range(7):
                if b.tags[i] == hash_tag_byte(k.hash) and b.bits >> i & 1:
                    e = <char*>(b.cells[i] & ~<u64>CELL_TAG)
                    prefetch(e)
                    prefetch(e + 64)
    unlock(&k.part.lock)


cdef void prefetch_value(Key* k, Bucket* b, u32 place) noexcept nogil:
    """The value behind an entry: the entry is only read under the lock, if that is free."""
    cdef Table* t
    cdef Entry* e
    cdef char* value
    if not try_lock(&k.part.lock):
        return
    t = store.dbs[k.db].slots[k.slot]
    if t != NULL and t == k.table and t.nbuckets <= SEGMENT_BUCKETS and \
            b == <Bucket*>t.mem + table_index(t, k.hash) and b.bits >> place & 1 and \
            not (place == 6 and b.bits & BUCKET_CHAINED):
        e = cell_entry(b.cells[place])
        if entry_type(e) != TYPE_STRING:
            value = <char*>value_ptr(e)[0]
            prefetch(value)
            prefetch(value + 64)
    unlock(&k.part.lock)


cdef void prefetch_batch(Worker* w, u32 n) noexcept nogil:
    """Slot, bucket and entry of each command, a stage at a time. What is read here is read without a lock and
    only used as an address to prefetch (tables are never reused as anything else, segments never unmapped)."""
    cdef u32 i, hits
    cdef Table* t
    cdef Bucket* b
    cdef Bucket* found[BATCH_MAX]
    cdef u64 word
    cdef void* mem
    cdef u32 chained[BATCH_MAX]
    cdef u32 valued[BATCH_MAX]
    cdef u32 n_chained = 0, n_valued = 0
    racy_begin()
    for i in range(n):
        if w.batch[i].keyed:
            t = store.dbs[w.batch[i].key.db].slots[w.batch[i].key.slot]
            w.batch[i].key.table = t
            prefetch(t)
    for i in range(n):
        found[i] = NULL
        t = w.batch[i].key.table
        if not w.batch[i].keyed or t == NULL or t.nbuckets > SEGMENT_BUCKETS:
            continue
        mem = t.mem
        b = <Bucket*>mem + table_index(t, w.batch[i].key.hash)
        if mem == NULL or (<uintptr_t>b ^ <uintptr_t>mem) >> 22:
            continue
        found[i] = b
        prefetch(b)
    for i in range(n):
        b = found[i]
        if b == NULL:
            continue
        for hits in range(7):
            if b.tags[hits] == hash_tag_byte(w.batch[i].key.hash) and b.bits >> hits & 1:
                word = b.cells[hits] & ~<u64>CELL_TAG
                prefetch(<void*>word)
                prefetch(<char*>word + 64)
                if w.batch[i].cmd.flags & F_VALUE:
                    valued[n_valued] = i << 3 | hits
                    n_valued += 1
                break
        else:
            if b.bits & BUCKET_CHAINED:
                prefetch(<void*>b.cells[6])
                chained[n_chained] = i
                n_chained += 1
    racy_end()
    for i in range(n_chained):
        prefetch_chained(&w.batch[chained[i]].key)
    for i in range(n_valued):
        prefetch_value(&w.batch[valued[i] >> 3].key, found[valued[i] >> 3], valued[i] & 7)
