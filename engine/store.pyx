# slotring: data plane
"""Tables of a slot, entries, partitions; see store.pxd for the layout."""
from libc.stdlib cimport calloc, malloc, realloc, free, abort
from libc.string cimport memcpy, memcmp, memset
from engine.defs cimport *
from engine.lock cimport lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.arena cimport (Arena, Span, PAGE_BITS, arena_alloc, arena_free, arena_usable, arena_good_size, span_of,
                           class_of_units, arena_init, arena_trim, arena_purge, arena_free_bytes)
from engine.hashing cimport hash_bytes, SLOTS

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void**, size_t, size_t)

cdef extern from "<malloc.h>" nogil:
    int malloc_trim(size_t)
    int mallopt(int, int)
    int M_MMAP_THRESHOLD

cdef enum:
    MALLOC_MMAP_BYTES = 128 << 10  # (setting it keeps glibc from raising it)
    MALLOC_TRIM_EVERY = 10     # calls of trim
    # a bucket is split when there are more than GROW_NUM / GROW_DEN keys a bucket, merged below SHRINK
    GROW_NUM = 12
    GROW_DEN = 2
    SHRINK_KEYS = 2
    DOOM_PIECE = 1024          # blocks freed under one hold of a partition's lock
    DOOM_BLOCKS_MIN = 64       # a value of more blocks is freed in pieces
    SPARSE_LOOK = 16           # spans that are looked at to find two sparse ones
    PACK_PIECE = 128           # slots whose tables are packed under one hold of a partition's lock

cdef u64 doomed_count = 0
cdef u32 trims = 0
cdef i64 NEVER = 0x7FFFFFFFFFFFFFFF


# ---- entries

cdef Entry* entry_new(Partition* p, const char* key, size_t klen, size_t vlen, u32 type_enc,
                      bint with_expire) noexcept nogil:
    """A block with header and key filled in, value bytes (vlen of them) left to the caller."""
    cdef bint big = klen > 255 or vlen > 65535
    cdef size_t size = 8 + klen + vlen
    if big:
        size += 8
    if with_expire:
        size += 8
    if type_enc & 15 != TYPE_STRING:
        size = ((size - vlen + 7) & ~<size_t>7) + vlen
    cdef Entry* e = <Entry*>arena_alloc(&p.arena, size)
    e.head = type_enc
    e.flags = (E_BIG if big else 0) | (E_EXPIRE if with_expire else 0)
    if unlikely(big):
        e.klen = 0
        e.vlen = 0
        (<u32*>(<char*>e + 8))[0] = <u32>klen
        (<u32*>(<char*>e + 8))[1] = <u32>vlen
    else:
        e.klen = <u8>klen
        e.vlen = <u16>vlen
    memcpy(entry_key(e), key, klen)
    return e


cdef void entry_free_now(Partition* p, Entry* e) noexcept nogil:
    """Free an entry and its value, however large."""
    cdef i64 budget = NEVER
    if entry_type(e) != TYPE_STRING and value_ptr(e)[0] != NULL:
        type_ops[entry_type(e)].free(&p.arena, e, &budget)
    arena_free(&p.arena, e)


cdef void entry_free(Partition* p, Entry* e) noexcept nogil:
    """Free an entry that no table points to. A value of many blocks is left to doomed_free_some."""
    cdef u32 cap
    cdef Entry** more
    if likely(entry_type(e) == TYPE_STRING) or value_ptr(e)[0] == NULL:
        arena_free(&p.arena, e)
        return
    if type_ops[entry_type(e)].blocks(e) <= DOOM_BLOCKS_MIN:
        entry_free_now(p, e)
        return
    if p.doomed_n == p.doomed_cap:
        cap = p.doomed_cap * 2 + 8
        more = <Entry**>realloc(p.doomed, cap * sizeof(Entry*))
        if more == NULL:
            entry_free_now(p, e)
            return
        p.doomed = more
        p.doomed_cap = cap
    p.doomed[p.doomed_n] = e
    p.doomed_n += 1
    atomic_add64(&doomed_count, 1, RELAXED)


cdef u32 doomed_free_some(Partition* p, i64 budget) noexcept nogil:
    """Under the partition's lock: free about `budget` blocks of large deleted values; returns how many ended."""
    cdef u32 ended = 0
    cdef Entry* e
    while p.doomed_n and budget > 0:
        e = p.doomed[p.doomed_n - 1]
        if not type_ops[entry_type(e)].free(&p.arena, e, &budget):
            break
        arena_free(&p.arena, e)
        p.doomed_n -= 1
        ended += 1
    if p.doomed_n == 0 and p.doomed != NULL:
        free(p.doomed)
        p.doomed = NULL
        p.doomed_cap = 0
    atomic_sub64(&doomed_count, ended, RELAXED)
    return ended


cdef void entry_set_fields(Key* k, bint any, i64 next_ms) noexcept nogil:
    """Say of the hash that was found whether it has fields that expire, the first of them not before next_ms."""
    cdef Entry* e = k.entry
    if any:
        if not e.flags & E_FIELDS:
            e.flags |= E_FIELDS
            fields_counter(k.part, k.db, k.slot)[0] += 1
        if next_ms < k.table.next_expire:
            k.table.next_expire = next_ms
    elif e.flags & E_FIELDS:
        e.flags &= <u8>~E_FIELDS
        fields_counter(k.part, k.db, k.slot)[0] -= 1
    if k.cell == NULL:
        table_find(k)
    k.cell[0] = cell_of(e)


# ---- buckets

cdef inline u64 bucket_word(Bucket* b) noexcept nogil:
    cdef u64 word
    memcpy(&word, b, 8)
    return word


cdef inline u32 gather(u64 y) noexcept nogil:
    """High bits of seven bytes to bits 0-6."""
    return <u32>(((y >> 7) * <u64>0x0001020408102040) >> 48) & 0x7F


cdef inline u32 bucket_candidates(Bucket* b, u8 tag) noexcept nogil:
    """Bits 0-6: taken cells whose hash byte equals tag."""
    cdef u64 word = bucket_word(b)
    cdef u64 x = (word >> 8) ^ (<u64>0x01010101010101 * tag)
    # exact zero-byte test (no borrow between bytes), then the high bits gathered to seven low ones
    cdef u64 y = (x & <u64>0x7F7F7F7F7F7F7F) + <u64>0x7F7F7F7F7F7F7F
    y = ~(y | x) & <u64>0x80808080808080
    return gather(y) & <u32>(word & 0x7F)


cdef inline Bucket* bucket_next(Bucket* b) noexcept nogil:
    if likely(not (b.bits & BUCKET_CHAINED)):
        return NULL
    return <Bucket*>b.cells[6]


cdef inline u32 bucket_full_bits(Bucket* b) noexcept nogil:
    """The presence bits that mean no free cell here."""
    return 0x3F if b.bits & BUCKET_CHAINED else 0x7F


cdef Bucket* table_bucket_at(Table* t, u32 index) noexcept nogil:
    return table_bucket(t, index)


cdef Entry* table_find(Key* k) noexcept nogil:
    """Fill in table, bucket, place, cell and entry of a key whose ptr, len, hash, slot, db are set."""
    cdef Table* t = store.dbs[k.db].slots[k.slot]
    cdef Bucket* b
    cdef u32 hits, i
    cdef Entry* e
    k.table = t
    k.entry = NULL
    k.cell = NULL
    if t == NULL:
        return NULL
    b = table_bucket(t, table_index(t, k.hash))
    while b != NULL:
        hits = bucket_candidates(b, hash_tag_byte(k.hash))
        while hits:
            i = ctz32(hits)
            hits &= hits - 1
            e = cell_entry(b.cells[i])
            if likely(entry_klen(e) == k.len and memcmp(entry_key(e), k.ptr, k.len) == 0):
                k.bucket = b
                k.place = i
                k.cell = &b.cells[i]
                k.entry = e
                return e
        b = bucket_next(b)
    return NULL


cdef void bucket_put(Partition* p, Table* t, Bucket* b, u64 cell, u8 tag) noexcept nogil:
    cdef u32 free_bits, i
    cdef Bucket* more
    while True:
        free_bits = ~<u32>b.bits & bucket_full_bits(b)
        if free_bits:
            i = ctz32(free_bits)
            b.cells[i] = cell
            b.tags[i] = tag
            b.bits |= <u8>(1 << i)
            return
        if b.bits & BUCKET_CHAINED:
            b = <Bucket*>b.cells[6]
            continue
        more = <Bucket*>arena_alloc(&p.arena, sizeof(Bucket))
        more.bits = 1
        more.tags[0] = b.tags[6]
        more.cells[0] = b.cells[6]
        b.cells[6] = <u64>more
        b.bits = <u8>((b.bits & 0x3F) | BUCKET_CHAINED)
        t.chained += 1
        b = more


cdef Table* table_new(Key* k) noexcept nogil:
    cdef Arena* a = &k.part.arena
    cdef Table* t = k.part.free_tables
    if t != NULL:
        k.part.free_tables = <Table*>t.mem
    else:
        t = <Table*>arena_alloc(a, sizeof(Table))
    memset(t, 0, sizeof(Table))
    t.mem = arena_alloc(a, sizeof(Bucket))
    (<Bucket*>t.mem).bits = 0
    t.nbuckets = 1
    t.next_expire = NEVER
    t.slot = k.slot
    store.dbs[k.db].slots[k.slot] = t
    return t


cdef inline u32 bucket_cap(u32 n) noexcept nogil:
    """Buckets to make room for when n are wanted: few sizes, so that outgrown blocks leave whole spans empty."""
    if n <= 2:
        return n
    if n <= 24:
        return (n + 1) & ~<u32>1
    return (n + 7) & ~<u32>7


cdef void table_room(Arena* a, Table* t) noexcept nogil:
    """Make place for bucket number nbuckets."""
    cdef u32 n = t.nbuckets, cap
    cdef void* mem
    if n < SEGMENT_BUCKETS:
        if n * sizeof(Bucket) < arena_usable(t.mem):
            return
        mem = arena_alloc(a, bucket_cap(n + 1) * sizeof(Bucket))
        memcpy(mem, t.mem, n * sizeof(Bucket))
        arena_free(a, t.mem)
        t.mem = mem
        return
    if n == SEGMENT_BUCKETS:       # the one block becomes segment 0 of a directory
        mem = arena_alloc(a, 8 * sizeof(void*))
        (<void**>mem)[0] = t.mem
        t.mem = mem
    if n % SEGMENT_BUCKETS:
        return
    cap = <u32>(arena_usable(t.mem) // sizeof(void*))
    if n // SEGMENT_BUCKETS >= cap:
        mem = arena_alloc(a, 2 * cap * sizeof(void*))
        memcpy(mem, t.mem, cap * sizeof(void*))
        arena_free(a, t.mem)
        t.mem = mem
    (<void**>t.mem)[n // SEGMENT_BUCKETS] = arena_alloc(a, SEGMENT_BUCKETS * sizeof(Bucket))


cdef void chain_free(Partition* p, Table* t, Bucket* b) noexcept nogil:
    cdef Bucket* following
    while b != NULL:
        following = bucket_next(b)
        arena_free(&p.arena, b)
        t.chained -= 1
        b = following


cdef void table_split(Partition* p, Table* t) noexcept nogil:
    """Add one bucket and share out the keys of its older twin."""
    cdef u32 n = t.nbuckets, twin, i, bits, level
    cdef Bucket* source
    cdef Bucket* fresh
    cdef Bucket* b
    cdef Bucket* chain
    cdef Bucket old
    cdef Entry* e
    cdef u64 h
    table_room(&p.arena, t)
    t.nbuckets = n + 1
    fresh = table_bucket(t, n)
    fresh.bits = 0
    if n == 0:
        return
    level = (<u32>0xFFFFFFFF) >> (clz64(<u64>n) - 32)     # mask that tells n from its twin
    twin = n & (level >> 1)
    source = table_bucket(t, twin)
    old = source[0]
    chain = bucket_next(source)
    source.bits = 0
    b = &old
    while b != NULL:                                      # have the keys on their way
        bits = b.bits & bucket_full_bits(b)
        while bits:
            prefetch(cell_entry(b.cells[ctz32(bits)]))
            bits &= bits - 1
        b = bucket_next(b)
    b = &old
    while b != NULL:
        bits = b.bits & bucket_full_bits(b)
        while bits:
            i = ctz32(bits)
            bits &= bits - 1
            e = cell_entry(b.cells[i])
            h = hash_bytes(entry_key(e), entry_klen(e))
            bucket_put(p, t, fresh if (<u32>h & level) == n else source, b.cells[i], b.tags[i])
        b = bucket_next(b)
    chain_free(p, t, chain)


cdef void table_merge(Partition* p, Table* t) noexcept nogil:
    """Give the last bucket's keys back to its twin and drop it."""
    cdef u32 n = t.nbuckets - 1, i, bits, level
    cdef Arena* a = &p.arena
    cdef Bucket* last = table_bucket(t, n)
    cdef Bucket* twin
    cdef Bucket* b = last
    cdef void* mem
    level = (<u32>0xFFFFFFFF) >> (clz64(<u64>n) - 32)
    twin = table_bucket(t, n & (level >> 1))
    while b != NULL:
        bits = b.bits & bucket_full_bits(b)
        while bits:
            i = ctz32(bits)
            bits &= bits - 1
            bucket_put(p, t, twin, b.cells[i], b.tags[i])
        b = bucket_next(b)
    chain_free(p, t, bucket_next(last))
    t.nbuckets = n
    if n >= SEGMENT_BUCKETS:
        if n % SEGMENT_BUCKETS == 0:
            arena_free(a, (<void**>t.mem)[n // SEGMENT_BUCKETS])
            if n == SEGMENT_BUCKETS:                      # back to one block
                mem = (<void**>t.mem)[0]
                arena_free(a, t.mem)
                t.mem = mem
    elif n >= 1 and n * 2 * sizeof(Bucket) <= arena_usable(t.mem):
        mem = arena_alloc(a, bucket_cap(n) * sizeof(Bucket))
        memcpy(mem, t.mem, n * sizeof(Bucket))
        arena_free(a, t.mem)
        t.mem = mem


cdef void table_insert(Key* k, Entry* e) noexcept nogil:
    """Put an entry of a key that is not there. Afterwards k.entry is set, k.cell is not."""
    cdef Table* t = k.table
    cdef Partition* p = k.part
    if t == NULL:
        t = k.table = table_new(k)
    if unlikely(t.count * GROW_DEN > t.nbuckets * GROW_NUM) and (t.nbuckets > 1 or t.count >= BUCKET_SLOTS):
        table_split(p, t)
    bucket_put(p, t, table_bucket(t, table_index(t, k.hash)), cell_of(e), hash_tag_byte(k.hash))
    t.count += 1
    if unlikely(slot_hidden(k.slot)):
        p.hidden_keys[k.db] += 1
    else:
        p.db_keys[k.db] += 1
    k.entry = e
    k.cell = NULL
    if e.flags & E_EXPIRE:
        table_expiry_changed(k, False, True, entry_expire(e))
    if unlikely(e.flags & E_FIELDS):
        fields_counter(p, k.db, k.slot)[0] += 1
        t.next_expire = 0


cdef void table_free(Partition* p, u32 db, Table* t) noexcept nogil:
    """Free an empty table."""
    cdef u32 i
    cdef Arena* a = &p.arena
    for i in range(t.nbuckets):
        chain_free(p, t, bucket_next(table_bucket(t, i)))
    if t.nbuckets > SEGMENT_BUCKETS:
        for i in range((t.nbuckets + SEGMENT_BUCKETS - 1) // SEGMENT_BUCKETS):
            arena_free(a, (<void**>t.mem)[i])
    arena_free(a, t.mem)
    t.nbuckets = 0
    t.mem = p.free_tables
    p.free_tables = t


cdef void table_remove(Key* k) noexcept nogil:
    """Take the entry that table_find found out of the table; the entry itself is the caller's to free."""
    cdef Table* t = k.table
    cdef Partition* p = k.part
    cdef Bucket* b = k.bucket
    cdef Bucket* tail
    cdef Bucket* before
    cdef u32 i
    cdef bint had = k.entry.flags & E_EXPIRE
    b.bits &= <u8>~(1 << k.place)
    if unlikely(b.bits & BUCKET_CHAINED):
        # fill the hole from the end of the chain, so that chains get shorter again
        before = b
        tail = bucket_next(b)
        while tail.bits & BUCKET_CHAINED:
            before = tail
            tail = bucket_next(tail)
        if tail.bits:
            i = ctz32(tail.bits)
            b.cells[k.place] = tail.cells[i]
            b.tags[k.place] = tail.tags[i]
            b.bits |= <u8>(1 << k.place)
            tail.bits &= <u8>~(1 << i)
        if not tail.bits:
            before.bits &= 0x7F & ~0x40
            arena_free(&p.arena, tail)
            t.chained -= 1
    elif not b.bits and t.chained:
        bucket_unchain(p, t, table_bucket(t, table_index(t, k.hash)), b)
    t.count -= 1
    if unlikely(slot_hidden(k.slot)):
        p.hidden_keys[k.db] -= 1
    else:
        p.db_keys[k.db] -= 1
    if unlikely(k.entry.flags & E_FIELDS):
        fields_counter(p, k.db, k.slot)[0] -= 1
    if had:
        table_expiry_changed(k, True, False, 0)
    if t.count == 0:
        store.dbs[k.db].slots[k.slot] = NULL
        table_free(p, k.db, t)
        k.table = NULL
    elif t.nbuckets > 1 and t.count < t.nbuckets * SHRINK_KEYS:
        table_merge(p, t)
    k.entry = NULL
    k.cell = NULL


cdef void bucket_unchain(Partition* p, Table* t, Bucket* first, Bucket* empty) noexcept nogil:
    """Drop an empty last bucket of a chain."""
    if first == empty:
        return
    while bucket_next(first) != empty:
        first = bucket_next(first)
        if first == NULL:
            return
    first.bits &= 0x3F
    arena_free(&p.arena, empty)
    t.chained -= 1


cdef void table_expiry_changed(Key* k, bint had, bint has, i64 when_ms) noexcept nogil:
    """Keep counts and the earliest expiry of a slot."""
    cdef Table* t = k.table
    cdef u64* all_ = k.part.db_expires
    if unlikely(slot_hidden(k.slot)):
        all_ = k.part.hidden_expires
    if has:
        if not had:
            t.expires += 1
            all_[k.db] += 1
        if when_ms < t.next_expire:
            t.next_expire = when_ms
    elif had:
        t.expires -= 1
        all_[k.db] -= 1
        if t.expires == 0 and not k.part.db_fields[k.db] and not k.part.hidden_fields[k.db]:
            t.next_expire = NEVER


cdef void table_drop(Partition* p, u32 db, Table* t) noexcept nogil:
    """Free a table that no database points to any more, entries and all."""
    cdef u32 i, bits
    cdef Bucket* b
    for i in range(t.nbuckets):
        b = table_bucket(t, i)
        while b != NULL:
            bits = b.bits & bucket_full_bits(b)
            while bits:
                entry_free_now(p, cell_entry(b.cells[ctz32(bits)]))
                bits &= bits - 1
            b = bucket_next(b)
    table_free(p, db, t)


# ---- scanning

cdef inline u64 reverse64(u64 v) noexcept nogil:
    v = ((v >> 1) & <u64>0x5555555555555555) | ((v & <u64>0x5555555555555555) << 1)
    v = ((v >> 2) & <u64>0x3333333333333333) | ((v & <u64>0x3333333333333333) << 2)
    v = ((v >> 4) & <u64>0x0F0F0F0F0F0F0F0F) | ((v & <u64>0x0F0F0F0F0F0F0F0F) << 4)
    return bswap64(v)


cdef u64 table_scan(Table* t, u64 position, scan_fn fn, void* arg) noexcept nogil:
    """Visit the bucket that covers `position` of the reversed-hash order.

    position: 32 bits, the reversed low half of a hash. Returns the first position after the bucket, or
    1 << 32 at the end of the table.
    """
    cdef u32 hash = <u32>(reverse64(position) >> 32)
    cdef u32 index = table_index(t, hash), bits, mask, width
    cdef Bucket* b = table_bucket(t, index)
    while b != NULL:
        bits = b.bits & bucket_full_bits(b)
        while bits:
            fn(arg, cell_entry(b.cells[ctz32(bits)]))
            bits &= bits - 1
        b = bucket_next(b)
    if t.nbuckets <= 1:
        return <u64>1 << 32
    mask = (<u32>0xFFFFFFFF) >> (clz64(<u64>(t.nbuckets - 1)) - 32)
    width = popcount64(mask)
    # a bucket whose upper twin does not exist yet is known by one bit less
    if not index & ~(mask >> 1) and (index | ((mask >> 1) + 1)) >= t.nbuckets:
        width -= 1
    return ((position >> (32 - width)) + 1) << (32 - width)


cdef Entry* store_random(u32 db, Key* k, u64 random, bint held) noexcept nogil:
    """A key of the database, each about as likely; NULL if it is empty. Takes no lock and needs
    none held: the partition chosen is locked (unless held: the caller
    has all), and stays locked if an entry is returned (k.part)."""
    cdef u64 total = store_count(db), target, seen, n
    cdef u32 i, slot, last, tries, bits, place
    cdef Partition* p
    cdef Table* t
    cdef Bucket* b
    if total == 0:
        return NULL
    target = random % total
    for i in range(store.nparts):
        p = &store.parts[i]
        racy_begin()
        n = p.db_keys[db]              # read once: it may change, and only says where to look
        racy_end()
        if target >= n:
            target -= n
            continue
        if not held:
            lock(&p.lock)
        last = (i + 1) << store.part_shift
        slot = i << store.part_shift
        while slot < last:
            t = store.dbs[db].slots[slot]
            if t != NULL and not slot_hidden(slot):
                if target < t.count:
                    break
                target -= t.count
            slot += 1
        if slot == last:             # it shrank meanwhile
            if not held:
                unlock(&p.lock)
            return NULL
        random = hash_bytes(<const char*>&random, 8)
        for tries in range(4096):
            b = table_bucket(t, <u32>((random + tries) % t.nbuckets))
            seen = 0
            while bucket_next(b) != NULL and (random >> (40 + seen)) & 1:
                b = bucket_next(b)
                seen += 1
            bits = b.bits & bucket_full_bits(b)
            if not bits:
                continue
            place = <u32>((random >> 32) % popcount64(bits))
            while place:
                bits &= bits - 1
                place -= 1
            place = ctz32(bits)
            k.part = p
            k.db = db
            k.slot = slot
            k.table = t
            k.bucket = b
            k.place = place
            k.cell = &b.cells[place]
            k.entry = cell_entry(b.cells[place])
            k.ptr = entry_key(k.entry)
            k.len = entry_klen(k.entry)
            k.hash = hash_bytes(k.ptr, k.len)
            return k.entry
        if not held:
            unlock(&p.lock)
        return NULL
    return NULL


# ---- partitions

cdef u64 hidden_sum(u32 db, bint expires) noexcept nogil:
    cdef u64 n = 0
    cdef u32 i
    racy_begin()
    for i in range(store.nparts):
        n += store.parts[i].hidden_expires[db] if expires else store.parts[i].hidden_keys[db]
    racy_end()
    return n


cdef u64 store_count_all(u32 db) noexcept nogil:
    """Keys in a database, those of hidden slots included."""
    return store_count(db) + hidden_sum(db, False)


cdef u64 store_expires_all(u32 db) noexcept nogil:
    """Keys with an expiry in a database, those of hidden slots included."""
    return store_expires(db) + hidden_sum(db, True)


cdef u64 table_fields(Table* t) noexcept nogil:
    """Hashes with fields that expire."""
    cdef u64 n = 0
    cdef u32 i, bits
    cdef Bucket* b
    for i in range(t.nbuckets):
        b = table_bucket(t, i)
        while b != NULL:
            bits = b.bits & bucket_full_bits(b)
            while bits:
                n += b.cells[ctz32(bits)] & CELL_FIELDS != 0
                bits &= bits - 1
            b = bucket_next(b)
    return n


cdef void slot_hide(u32 slot, bint hidden) noexcept nogil:
    """Let a slot and what is in it go out of sight of everything but its own commands, or come back. The slot's
    partition is locked."""
    cdef Partition* p = part_of(slot)
    cdef Table* t
    cdef u32 db
    cdef u64 sign = <u64>1 if hidden else <u64>-1
    cdef u64 fields
    if hidden == (store.slot_flags[slot] & SLOT_HIDDEN != 0):
        return
    store.slot_flags[slot] ^= SLOT_HIDDEN
    atomic_add32(&store.hidden, <u32>sign, RELAXED)
    for db in range(store.ndbs):
        if not p.db_keys[db] and not p.hidden_keys[db]:
            continue                   # nothing in the whole partition: most of the databases
        t = store.dbs[db].slots[slot]
        if t == NULL:
            continue
        fields = table_fields(t) if p.db_fields[db] or p.hidden_fields[db] else 0
        p.hidden_keys[db] += sign * t.count
        p.db_keys[db] -= sign * t.count
        p.hidden_expires[db] += sign * t.expires
        p.db_expires[db] -= sign * t.expires
        p.hidden_fields[db] += sign * fields
        p.db_fields[db] -= sign * fields


cdef u64 store_count(u32 db) noexcept nogil:
    """Keys in a database; exact when nothing is written meanwhile."""
    cdef u64 n = 0
    cdef u32 i
    racy_begin()
    for i in range(store.nparts):
        n += store.parts[i].db_keys[db]
    racy_end()
    return n


cdef u64 store_expires(u32 db) noexcept nogil:
    """Keys with an expiry in a database."""
    cdef u64 n = 0
    cdef u32 i
    racy_begin()
    for i in range(store.nparts):
        n += store.parts[i].db_expires[db]
    racy_end()
    return n


cdef void lock_all() noexcept nogil:
    """Every partition, in ascending order: the world stands still for the keyspace."""
    cdef u32 i
    for i in range(store.nparts):
        lock(&store.parts[i].lock)


cdef void unlock_all() noexcept nogil:
    cdef u32 i
    for i in range(store.nparts):
        unlock(&store.parts[i].lock)


def hold_all() -> None:
    """lock_all for the control plane: nothing of the data moves until let_go."""
    with nogil:
        lock_all()


def let_go() -> None:
    """The end of hold_all."""
    unlock_all()


def create(int partitions, int databases) -> None:
    """Make the store. partitions: a power of two, at most 16384."""
    cdef u32 i
    assert partitions & (partitions - 1) == 0 and 0 < partitions <= SLOTS
    mallopt(M_MMAP_THRESHOLD, MALLOC_MMAP_BYTES)    # large buffers go back when freed, and tear no holes into heaps
    store.nparts = partitions
    store.part_shift = 14 - (partitions.bit_length() - 1)
    store.ndbs = databases
    if posix_memalign(<void**>&store.parts, CACHE_LINE, partitions * sizeof(Partition)):
        abort()
    memset(store.parts, 0, partitions * sizeof(Partition))
    for i in range(<u32>partitions):
        store.parts[i].index = i
        arena_init(&store.parts[i].arena)
        store.parts[i].db_keys = <u64*>calloc((databases + 7) // 8 * 8, 8)
        store.parts[i].db_expires = <u64*>calloc((databases + 7) // 8 * 8, 8)
        store.parts[i].db_fields = <u64*>calloc((databases + 7) // 8 * 8, 8)
        store.parts[i].hidden_keys = <u64*>calloc(3 * databases, 8)
        store.parts[i].hidden_expires = store.parts[i].hidden_keys + databases
        store.parts[i].hidden_fields = store.parts[i].hidden_expires + databases
    store.slot_flags = <u8*>calloc(SLOTS, 1)
    store.dbs = <Db**>calloc(databases, sizeof(Db*))
    for i in range(<u32>databases):
        store.dbs[i] = <Db*>calloc(1, sizeof(Db))


cdef inline bint span_is_sparse(Span* s) noexcept nogil:
    return (<u64>s.live * s.size * 2) < (<u64>s.pages << PAGE_BITS)


cdef inline bint is_sparse(Arena* a, u32 size) noexcept nogil:
    """Are two spans of the blocks' class, or more, mostly empty?"""
    cdef Span* s = a.room[class_of_units[(size + 7) >> 3]]
    cdef u32 sparse = 0, seen = 0
    while s != NULL and seen < SPARSE_LOOK and sparse < 2:
        sparse += span_is_sparse(s)
        seen += 1
        s = s.next
    return sparse == 2


cdef u32 sparse_sizes(Arena* a) noexcept nogil:
    """The sizes of buckets' blocks whose spans are mostly empty: bit n // 8 for n buckets."""
    cdef u32 n, found = 0
    for n in range(4, SEGMENT_BUCKETS + 1):
        if bucket_cap(n) == n and is_sparse(a, n * sizeof(Bucket)):
            found |= <u32>1 << (n >> 3)
    return found


cdef void table_pack(Arena* a, Table* t, u32 sizes) noexcept nogil:
    """Moves the buckets' block out of a span that is mostly empty, so that the span can go."""
    cdef size_t size
    cdef Span* s
    cdef void* mem
    if t == NULL or t.nbuckets > SEGMENT_BUCKETS:
        return
    size = arena_usable(t.mem)
    if not sizes >> (size // sizeof(Bucket) >> 3) & 1:
        return
    s = span_of(t.mem)
    if a.room[s.cls] == s or not span_is_sparse(s):      # the first is the one that is filled
        return
    mem = arena_alloc(a, size)
    memcpy(mem, t.mem, t.nbuckets * sizeof(Bucket))
    arena_free(a, t.mem)
    t.mem = mem


cdef inline bint has_keys(Partition* p, u32 db) noexcept nogil:
    """A hint: what comes meanwhile has its turn in the next round."""
    cdef bint some
    racy_begin()
    some = p.db_keys[db] != 0 or p.hidden_keys[db] != 0
    racy_end()
    return some


cdef void pack_tables(Partition* p) noexcept nogil:
    """As tables grow together, block by block, each size leaves spans behind that a few late ones keep."""
    cdef u32 sizes, db, slot, last, first = p.index << store.part_shift, end = (p.index + 1) << store.part_shift
    lock(&p.lock)
    sizes = sparse_sizes(&p.arena)
    unlock(&p.lock)
    if not sizes:
        return
    for db in range(store.ndbs):
        slot = first if has_keys(p, db) else end
        while slot < end:
            last = min(slot + PACK_PIECE, end)
            lock(&p.lock)
            while slot < last:
                table_pack(&p.arena, store.dbs[db].slots[slot], sizes)
                slot += 1
            unlock(&p.lock)


def trim(keep_bytes: int) -> int:
    """Give free memory back to the kernel if there is more of it than keep_bytes; returns how many bytes.

    From cron, about once a second: free() itself never does it, so that a busy key does not pay for it.
    """
    cdef u32 i
    cdef u64 keep = keep_bytes, n = 0
    global trims
    trims += 1
    with nogil:
        if trims % MALLOC_TRIM_EVERY == 0:
            malloc_trim(0)         # query and output buffers of connections that are gone
        for i in range(store.nparts):
            lock(&store.parts[i].lock)
            arena_trim(&store.parts[i].arena)
            unlock(&store.parts[i].lock)
            pack_tables(&store.parts[i])
        if arena_free_bytes() > keep:
            n = arena_purge()
    return n


def used_exact() -> int:
    """Bytes of all blocks handed out, summed over the arenas."""
    cdef i64 n = 0
    cdef u32 i
    racy_begin()                       # each is a whole word; together they are of about this moment
    for i in range(store.nparts):
        n += store.parts[i].arena.used
    racy_end()
    return n


def counts(int db) -> tuple:
    """(keys, keys with an expiry) of a database."""
    return store_count(db), store_expires(db)


def field_expiring(int db) -> int:
    """Hashes of a database that have fields with an expiry."""
    cdef u32 i
    cdef u64 n = 0
    racy_begin()
    for i in range(store.nparts):
        n += store.parts[i].db_fields[db]
    racy_end()
    return n


def doomed() -> int:
    """Large values that are deleted and not yet freed."""
    return atomic_load64(&doomed_count, RELAXED)


cdef inline bint has_doomed(Partition* p) noexcept nogil:
    """A hint: what is put there meanwhile has its turn in the next round."""
    cdef bint some
    racy_begin()
    some = p.doomed_n != 0
    racy_end()
    return some


def free_doomed(i64 budget_us) -> int:
    """Free large deleted values for at most about budget_us; returns how many ended. One thread at a time."""
    cdef i64 stop
    cdef u32 i
    cdef u64 ended = 0
    cdef Partition* p
    if not atomic_load64(&doomed_count, RELAXED):
        return 0
    with nogil:
        stop = mono_us() + budget_us
        for i in range(store.nparts):
            p = &store.parts[i]
            while has_doomed(p) and mono_us() < stop:
                lock(&p.lock)
                ended += doomed_free_some(p, DOOM_PIECE)
                unlock(&p.lock)
    return ended


assert sizeof(Entry) == 8 and sizeof(Bucket) == 64 and sizeof(Table) == 40, sizeof(Table)
