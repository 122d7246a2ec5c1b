# slotring: data plane
"""The look-ahead of a batch; see lookahead.pxd."""
from engine.defs cimport *
from engine.command cimport F_VALUE, Arg
from engine.hashing cimport hash_bytes
from engine.lock cimport try_lock, unlock
from engine.members cimport Members, members_prefetch_bucket, members_prefetch_item
from engine.racy cimport racy_begin, racy_end
from engine.store cimport *
from net.conn cimport *

cdef enum:
    BIG_BUCKETS = 16           # a table of members that may not be in the processor's cache
    MEMBER_MAX = 512           # longer ones are not hashed twice


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


cdef Entry* entry_found(Key* k, Bucket* b, u32 place) noexcept nogil:
    """The entry in a cell that was seen without the lock, which is held now; NULL where it may be another's."""
    cdef Table* t = store.dbs[k.db].slots[k.slot]
    if t == NULL or t != k.table or t.nbuckets > SEGMENT_BUCKETS or b != <Bucket*>t.mem + table_index(t, k.hash) or \
            not b.bits >> place & 1 or place == 6 and b.bits & BUCKET_CHAINED:
        return NULL
    return cell_entry(b.cells[place])


cdef inline Members* members_of(Entry* e) noexcept nogil:
    """The table of a value that is one, or has one first; NULL: it is none, or a small one."""
    cdef Members* t
    if not (entry_enc(e) == ENC_HASHTABLE or entry_enc(e) == ENC_SKIPLIST):
        return NULL
    t = <Members*>value_ptr(e)[0]
    return t if t.nbuckets >= BIG_BUCKETS else NULL


cdef u32 prefetch_values(Worker* w, Bucket** found, u32* valued, u32 n, u32 stage, u64* hashes) noexcept nogil:
    """Values behind entries, which are only read under the lock, if that is free. valued: place in the batch << 3 |
    place in the bucket. Stage 0: the value's block; 1: the bucket of the member that the command is about; 2: the
    member. Returns how many of `valued` are worth the next stage, which come first then."""
    cdef Partition* held = NULL
    cdef Parsed* cmd
    cdef Entry* e
    cdef Arg* member
    cdef Members* t
    cdef u32 j, i, more = 0
    for j in range(n):
        i = valued[j] >> 3
        cmd = &w.batch[i]
        if cmd.key.part != held:               # batches are often about one key
            if held != NULL:
                unlock(&held.lock)
            held = cmd.key.part if try_lock(&cmd.key.part.lock) else NULL
        if held == NULL:
            continue
        e = entry_found(&cmd.key, found[i], valued[j] & 7)
        if e == NULL or entry_type(e) == TYPE_STRING:
            continue
        if stage == 0:
            prefetch(<char*>value_ptr(e)[0])
            prefetch(<char*>value_ptr(e)[0] + CACHE_LINE)
            if not (entry_enc(e) == ENC_HASHTABLE or entry_enc(e) == ENC_SKIPLIST) or cmd.argc < 3:
                continue
        else:
            t = members_of(e)
            if t == NULL:
                continue
            if stage == 1:                     # ZADD has its member last, the others second
                member = &w.args[cmd.argi + (cmd.argc - 1 if entry_type(e) == TYPE_ZSET else 2)]
                if member.len > MEMBER_MAX:
                    continue
                hashes[i] = hash_bytes(member.ptr, member.len)
                members_prefetch_bucket(t, hashes[i])
            else:
                members_prefetch_item(t, hashes[i])
        valued[more] = valued[j]
        more += 1
    if held != NULL:
        unlock(&held.lock)
    return more


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
    cdef u64 hashes[BATCH_MAX]
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
    for i in range(3):
        if n_valued:
            n_valued = prefetch_values(w, found, valued, n_valued, i, hashes)
