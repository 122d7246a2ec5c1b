# slotring: data plane
"""The hash table of members inside a value; see members.pxd for the layout.

The same linear hashing as a slot's table (store.pyx), over cells that are members instead of pointers to entries:
bucket i is shared out when bucket 2^k + i comes, and takes its members back when that goes."""
from libc.string cimport memcpy, memset
from engine.defs cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_usable
from engine.hashing cimport hash_bytes, load64, load32
from engine.store cimport Bucket, BUCKET_CHAINED, CACHE_LINE, SEGMENT_BUCKETS

cdef enum:
    # a bucket is split when there are more members than this for each bucket, merged below SHRINK_MEMBERS
    GROW_MEMBERS = 6
    SHRINK_MEMBERS = 2
    EXPECT_MAX = 1 << 20       # members to make room for on somebody's word
    DRAWS_CHAINED = 21         # a random member of a bucket is drawn from so many, where there are chains
    DRAWS_MAX = 4096


# ---- buckets

cdef inline Bucket* bucket_at(Members* t, u32 index) noexcept nogil:
    if likely(t.nbuckets <= SEGMENT_BUCKETS):
        return <Bucket*>t.mem + index
    return (<Bucket**>t.mem)[index // SEGMENT_BUCKETS] + (index & (SEGMENT_BUCKETS - 1))


cdef inline u32 mask_of(u32 n) noexcept nogil:
    """The smallest 2^k - 1 that is at least n > 0."""
    return (<u32>0xFFFFFFFF) >> (clz64(<u64>n) - 32)


cdef inline u32 index_of(Members* t, u64 hash) noexcept nogil:
    cdef u32 n = t.nbuckets, mask, b
    if n <= 1:
        return 0
    mask = mask_of(n - 1)
    b = <u32>hash & mask
    return b if b < n else b & (mask >> 1)


cdef inline u8 tag_of(u64 hash) noexcept nogil:
    return <u8>(hash >> 56)


cdef inline Bucket* chain_next(Bucket* b) noexcept nogil:
    return <Bucket*>b.cells[6] if unlikely(b.bits & BUCKET_CHAINED) else NULL


cdef inline u32 taken(Bucket* b) noexcept nogil:
    """Bits of the cells that hold a member."""
    return b.bits & (0x3F if b.bits & BUCKET_CHAINED else 0x7F)


cdef inline u32 candidates(Bucket* b, u8 tag) noexcept nogil:
    """Taken cells whose hash byte is tag."""
    cdef u64 word, x, y
    memcpy(&word, b, 8)
    x = (word >> 8) ^ (<u64>0x01010101010101 * tag)
    y = (x & <u64>0x7F7F7F7F7F7F7F) + <u64>0x7F7F7F7F7F7F7F
    y = ~(y | x) & <u64>0x80808080808080
    return <u32>(((y >> 7) * <u64>0x0001020408102040) >> 48) & <u32>(word & 0x7F)


cdef inline bint same(const char* p, const char* q, size_t n) noexcept nogil:
    """Are n bytes equal? Short ones without a call."""
    cdef size_t i = 0
    if likely(n >= 8):
        while i + 8 < n:
            if load64(p + i) != load64(q + i):
                return False
            i += 8
        return load64(p + n - 8) == load64(q + n - 8)
    if n >= 4:
        return load32(p) == load32(q) and load32(p + n - 4) == load32(q + n - 4)
    for i in range(n):
        if p[i] != q[i]:
            return False
    return True


cdef void put(Arena* a, Members* t, Bucket* b, u64 cell, u8 tag) noexcept nogil:
    cdef u32 room, i
    cdef Bucket* more
    while True:
        room = ~<u32>b.bits & (0x3F if b.bits & BUCKET_CHAINED else 0x7F)
        if likely(room):
            i = ctz32(room)
            b.cells[i] = cell
            b.tags[i] = tag
            b.bits |= <u8>(1 << i)
            return
        if b.bits & BUCKET_CHAINED:
            b = <Bucket*>b.cells[6]
            continue
        more = <Bucket*>arena_alloc(a, sizeof(Bucket))
        more.bits = 1
        more.tags[0] = b.tags[6]
        more.cells[0] = b.cells[6]
        b.cells[6] = <u64>more
        b.bits = <u8>((b.bits & 0x3F) | BUCKET_CHAINED)
        t.chained += 1
        b = more


cdef void chain_free(Arena* a, Members* t, Bucket* b) noexcept nogil:
    cdef Bucket* following
    while b != NULL:
        following = chain_next(b)
        arena_free(a, b)
        t.chained -= 1
        b = following


# ---- growth and shrinkage

cdef inline u32 cap_for(u32 n) noexcept nogil:
    """Buckets to make room for when n are wanted: few sizes, so that outgrown blocks leave whole spans empty."""
    if n <= 2:
        return n
    if n <= 24:
        return (n + 1) & ~<u32>1
    return (n + 7) & ~<u32>7


cdef void resize(Arena* a, Members* t, u32 cap) noexcept nogil:
    """The one block of buckets, or the directory, moves to one with room for cap of them."""
    cdef size_t each = sizeof(Bucket) if t.nbuckets <= SEGMENT_BUCKETS and cap <= SEGMENT_BUCKETS else sizeof(void*)
    cdef void* mem = arena_alloc(a, cap * each)
    memcpy(mem, t.mem, (t.cap if t.cap < cap else cap) * each)
    arena_free(a, t.mem)
    t.mem = mem
    t.cap = cap


cdef void make_room(Arena* a, Members* t) noexcept nogil:
    """Room for bucket number nbuckets."""
    cdef u32 n = t.nbuckets
    cdef void* mem
    if n < SEGMENT_BUCKETS:
        if n == 0:
            t.mem = arena_alloc(a, sizeof(Bucket))
            t.cap = 1
        elif n == t.cap:
            resize(a, t, cap_for(n + 1))
        return
    if n == SEGMENT_BUCKETS:       # the one block becomes segment 0 of a directory
        mem = arena_alloc(a, 8 * sizeof(void*))
        (<void**>mem)[0] = t.mem
        t.mem = mem
        t.cap = 8
    if n % SEGMENT_BUCKETS == 0:
        if n // SEGMENT_BUCKETS == t.cap:
            mem = arena_alloc(a, 2 * t.cap * sizeof(void*))
            memcpy(mem, t.mem, t.cap * sizeof(void*))
            arena_free(a, t.mem)
            t.mem = mem
            t.cap *= 2
        (<void**>t.mem)[n // SEGMENT_BUCKETS] = arena_alloc(a, SEGMENT_BUCKETS * sizeof(Bucket))


cdef void drop_last(Arena* a, Members* t) noexcept nogil:
    """One bucket less; the last one is empty and has no chain."""
    cdef u32 n = t.nbuckets - 1
    cdef void* mem
    t.nbuckets = n
    if n >= SEGMENT_BUCKETS:
        if n % SEGMENT_BUCKETS == 0:
            arena_free(a, (<void**>t.mem)[n // SEGMENT_BUCKETS])
            if n == SEGMENT_BUCKETS:                      # back to one block
                mem = (<void**>t.mem)[0]
                arena_free(a, t.mem)
                t.mem = mem
                t.cap = SEGMENT_BUCKETS
    elif n == 0:
        arena_free(a, t.mem)
        t.mem = NULL
        t.cap = 0
    elif n * 2 <= t.cap and cap_for(n) < t.cap:
        resize(a, t, cap_for(n))


cdef void split(Arena* a, Members* t) noexcept nogil:
    """Add one bucket and share out the members of its older twin."""
    cdef u32 n = t.nbuckets, i, bits, level
    cdef Bucket* source
    cdef Bucket* fresh
    cdef Bucket* b
    cdef Bucket* chain
    cdef Bucket old
    cdef const char* p
    cdef size_t len_
    make_room(a, t)
    t.nbuckets = n + 1
    fresh = bucket_at(t, n)
    fresh.bits = 0
    if n == 0:
        return
    level = mask_of(n)                                    # the bits that tell n from its twin
    source = bucket_at(t, n & (level >> 1))
    old = source[0]
    chain = chain_next(source)
    source.bits = 0
    b = &old
    while b != NULL:                                      # have the items on their way
        bits = taken(b)
        while bits:
            i = ctz32(bits)
            if not cell_inline(b.cells[i]):
                prefetch(cell_item(b.cells[i]))
            bits &= bits - 1
        b = chain_next(b)
    b = &old
    while b != NULL:
        bits = taken(b)
        while bits:
            i = ctz32(bits)
            bits &= bits - 1
            len_ = cell_key(&b.cells[i], &p)
            put(a, t, fresh if (<u32>hash_bytes(p, len_) & level) == n else source, b.cells[i], b.tags[i])
        b = chain_next(b)
    chain_free(a, t, chain)


cdef void merge(Arena* a, Members* t) noexcept nogil:
    """Give the last bucket's members back to its twin and drop it."""
    cdef u32 n = t.nbuckets - 1, i, bits
    cdef Bucket* last = bucket_at(t, n)
    cdef Bucket* twin = bucket_at(t, n & (mask_of(n) >> 1))
    cdef Bucket* b = last
    while b != NULL:
        bits = taken(b)
        while bits:
            i = ctz32(bits)
            bits &= bits - 1
            put(a, t, twin, b.cells[i], b.tags[i])
        b = chain_next(b)
    chain_free(a, t, chain_next(last))
    drop_last(a, t)


# ---- look-up and change

cdef u64* members_find(Members* t, const char* p, size_t n, u64 hash) noexcept nogil:
    """The cell of the member with these bytes, whose hash_bytes is hash; or NULL."""
    cdef Bucket* b
    cdef u32 hits, i
    cdef const char* q
    if unlikely(t.nbuckets == 0):
        return NULL
    b = bucket_at(t, index_of(t, hash))
    while b != NULL:
        # a chained bucket's seventh place is no member
        hits = candidates(b, tag_of(hash)) & taken(b)
        while hits:
            i = ctz32(hits)
            hits &= hits - 1
            if likely(cell_key(&b.cells[i], &q) == n and same(p, q, n)):
                return &b.cells[i]
        b = chain_next(b)
    return NULL


cdef void members_prefetch_bucket(Members* t, u64 hash) noexcept nogil:
    prefetch(bucket_at(t, index_of(t, hash)))


cdef void members_prefetch_item(Members* t, u64 hash) noexcept nogil:
    cdef Bucket* b = bucket_at(t, index_of(t, hash))
    cdef u32 hits = candidates(b, tag_of(hash)) & taken(b), i
    while hits:
        i = ctz32(hits)
        hits &= hits - 1
        if not cell_inline(b.cells[i]):
            prefetch(cell_item(b.cells[i]))
            prefetch(cell_item(b.cells[i]) + CACHE_LINE)


cdef void members_add(Arena* a, Members* t, u64 cell, u64 hash) noexcept nogil:
    """Put a cell of a member that is not there; hash: hash_bytes of the member. Cells' places change."""
    if unlikely(t.count >= t.nbuckets * <u64>GROW_MEMBERS):
        split(a, t)
    put(a, t, bucket_at(t, index_of(t, hash)), cell, tag_of(hash))
    t.count += 1


cdef void members_remove(Arena* a, Members* t, u64* cell, u64 hash) noexcept nogil:
    """Take a cell out; its item is left alone. Cells' places change: read what is needed of the cell before."""
    cdef Bucket* b = <Bucket*>(<uintptr_t>cell & ~<uintptr_t>63)
    cdef u32 place = <u32>(cell - b.cells), i
    cdef Bucket* before
    cdef Bucket* tail
    b.bits &= <u8>~(1 << place)
    if unlikely(t.chained):
        before = NULL
        tail = bucket_at(t, index_of(t, hash))
        while tail.bits & BUCKET_CHAINED:
            before = tail
            tail = <Bucket*>tail.cells[6]
        if b != tail and tail.bits:        # fill the hole from the end of the chain, so that it gets shorter again
            i = ctz32(tail.bits)
            b.cells[place] = tail.cells[i]
            b.tags[place] = tail.tags[i]
            b.bits |= <u8>(1 << place)
            tail.bits &= <u8>~(1 << i)
        if not tail.bits and before != NULL:
            before.bits &= 0x3F
            arena_free(a, tail)
            t.chained -= 1
    t.count -= 1
    if t.count < t.nbuckets * <u64>SHRINK_MEMBERS:
        if t.nbuckets > 1:
            merge(a, t)
        elif t.count == 0:
            drop_last(a, t)


cdef void members_expect(Arena* a, Members* t, u32 count) noexcept nogil:
    """Room for so many members in a table that is empty."""
    cdef u32 n = (count if count < EXPECT_MAX else EXPECT_MAX) // GROW_MEMBERS + 1, i
    cdef Bucket* b
    if t.count or t.nbuckets or count == 0:
        return
    if n <= SEGMENT_BUCKETS:
        t.cap = cap_for(n)
        t.mem = arena_alloc(a, t.cap * sizeof(Bucket))
    else:
        i = (n + SEGMENT_BUCKETS - 1) // SEGMENT_BUCKETS
        t.cap = 8
        while t.cap < i:
            t.cap *= 2
        t.mem = arena_alloc(a, t.cap * sizeof(void*))
        while i:
            i -= 1
            (<void**>t.mem)[i] = arena_alloc(a, SEGMENT_BUCKETS * sizeof(Bucket))
    t.nbuckets = n
    for i in range(n):
        b = bucket_at(t, i)
        b.bits = 0


# ---- all of them, some of them

cdef u32 last_draw(Bucket* b, u32 random) noexcept nogil:
    """The last place of a chain that is drawn stands for all from there on."""
    cdef u32 n = 0
    while b != NULL:
        n += <u32>popcount64(taken(b))
        b = chain_next(b)
    if n <= DRAWS_CHAINED:
        return DRAWS_CHAINED - 1
    return DRAWS_CHAINED - 1 + random % (n - DRAWS_CHAINED + 1)


cdef u64* members_random(Members* t, u64 random) noexcept nogil:
    """A member, each as likely as another but for the last ones of very long chains; NULL when empty."""
    cdef u32 draws = DRAWS_CHAINED if t.chained else 7, bits, i, tries
    cdef MemberWalk w
    cdef Bucket* b
    if t.count == 0:
        return NULL
    for tries in range(DRAWS_MAX):
        random += <u64>0x9E3779B97F4A7C15
        random = (random ^ (random >> 30)) * <u64>0xBF58476D1CE4E5B9
        random = (random ^ (random >> 27)) * <u64>0x94D049BB133111EB
        random ^= random >> 31
        b = bucket_at(t, <u32>(((random >> 32) * t.nbuckets) >> 32))
        i = <u32>(((random & <u64>0xFFFFFFFF) * draws) >> 32)
        if unlikely(i == DRAWS_CHAINED - 1):
            i = last_draw(b, <u32>(random >> 16))
        while b != NULL:                   # the i-th of the bucket's chain; none: draw again
            bits = taken(b)
            if i < <u32>popcount64(bits):
                while i:
                    bits &= bits - 1
                    i -= 1
                return &b.cells[ctz32(bits)]
            i -= <u32>popcount64(bits)
            b = chain_next(b)
    members_walk(t, &w)
    return members_walk_next(&w)


cdef inline u32 reverse32(u32 v) noexcept nogil:
    v = ((v >> 1) & 0x55555555) | ((v & 0x55555555) << 1)
    v = ((v >> 2) & 0x33333333) | ((v & 0x33333333) << 2)
    v = ((v >> 4) & 0x0F0F0F0F) | ((v & 0x0F0F0F0F) << 4)
    return <u32>(bswap64(<u64>v) >> 32)


cdef u64 members_scan(Members* t, u64 position, member_fn fn, void* arg) noexcept nogil:
    cdef u32 index, bits, mask, width
    cdef Bucket* b
    if t.nbuckets == 0:
        return <u64>1 << 32
    index = index_of(t, reverse32(<u32>position))
    b = bucket_at(t, index)
    while b != NULL:
        bits = taken(b)
        while bits:
            if not cell_inline(b.cells[ctz32(bits)]):
                prefetch(cell_item(b.cells[ctz32(bits)]))
            bits &= bits - 1
        bits = taken(b)
        while bits:
            fn(arg, &b.cells[ctz32(bits)])
            bits &= bits - 1
        b = chain_next(b)
    if t.nbuckets == 1:
        return <u64>1 << 32
    mask = mask_of(t.nbuckets - 1)
    width = popcount64(mask)
    # a bucket whose upper twin does not exist yet is known by one bit less
    if not index & ~(mask >> 1) and (index | ((mask >> 1) + 1)) >= t.nbuckets:
        width -= 1
    return (((position & <u64>0xFFFFFFFF) >> (32 - width)) + 1) << (32 - width)


cdef inline void enter_bucket(MemberWalk* w) noexcept nogil:
    """The walk comes to a bucket: have its items on their way, all at once."""
    cdef u32 bits = taken(w.b), i
    w.bits = bits
    while bits:
        i = ctz32(bits)
        bits &= bits - 1
        if not cell_inline(w.b.cells[i]):
            prefetch(cell_item(w.b.cells[i]))


cdef void members_walk(Members* t, MemberWalk* w) noexcept nogil:
    w.t = t
    w.index = 0
    w.b = NULL
    w.bits = 0
    if t.nbuckets:
        w.b = bucket_at(t, 0)
        enter_bucket(w)


cdef u64* members_walk_next(MemberWalk* w) noexcept nogil:
    cdef u32 i
    while w.bits == 0:
        if w.b == NULL:
            return NULL
        w.b = chain_next(w.b)
        if w.b == NULL:
            w.index += 1
            if w.index >= w.t.nbuckets:
                return NULL
            w.b = bucket_at(w.t, w.index)
        enter_bucket(w)
    i = ctz32(w.bits)
    w.bits &= w.bits - 1
    return &w.b.cells[i]


cdef bint members_free(Arena* a, Members* t, i64* budget) noexcept nogil:
    cdef Bucket* b
    cdef Bucket* first
    cdef u32 bits
    while t.nbuckets:
        if budget[0] <= 0:
            return False
        b = first = bucket_at(t, t.nbuckets - 1)
        while b != NULL:
            bits = taken(b)
            budget[0] -= 1
            while bits:
                cell_free(a, b.cells[ctz32(bits)])
                bits &= bits - 1
                budget[0] -= 1
            b = chain_next(b)
        chain_free(a, t, chain_next(first))
        first.bits = 0
        # no shrinking of the one block on the way
        if t.nbuckets <= SEGMENT_BUCKETS and t.nbuckets > 1:
            t.nbuckets -= 1
        else:
            drop_last(a, t)
    t.count = 0
    return True


cdef u64 members_bytes(Members* t, i64 samples) noexcept nogil:
    cdef u64 n, items = 0, seen = 0
    cdef MemberWalk w
    cdef u64* cell
    if t.nbuckets == 0:
        return 0
    n = arena_usable(t.mem) + t.chained * <u64>sizeof(Bucket)
    if t.nbuckets > SEGMENT_BUCKETS:
        n += ((t.nbuckets + SEGMENT_BUCKETS - 1) // SEGMENT_BUCKETS) * arena_usable((<void**>t.mem)[0])
    members_walk(t, &w)
    cell = members_walk_next(&w)
    while cell != NULL and (samples <= 0 or seen < <u64>samples):
        items += cell_bytes(cell[0])
        seen += 1
        cell = members_walk_next(&w)
    if seen and seen < t.count:
        items = <u64>(<double>items / seen * t.count)
    return n + items


cdef u64 cell_twin(Arena* to, u64 cell) noexcept nogil:
    """The same cell with an item of its own, in another arena."""
    cdef void* item
    cdef size_t n
    if cell_inline(cell):
        return cell
    n = item_length(cell_item(cell))
    item = arena_alloc(to, n)
    memcpy(item, cell_item(cell), n)
    return <u64>item | (cell & 7)


cdef void members_copy(Arena* to, Members* src, Members* dst) noexcept nogil:
    cdef MemberWalk w
    cdef u64* cell
    cdef const char* p
    cdef size_t n
    members_init(dst)
    members_expect(to, dst, src.count)
    members_walk(src, &w)
    cell = members_walk_next(&w)
    while cell != NULL:
        n = cell_key(cell, &p)
        members_add(to, dst, cell_twin(to, cell[0]), hash_bytes(p, n))
        cell = members_walk_next(&w)


# ---- cells and items

cdef u64 cell_new(Arena* a, const char* key, size_t klen, const char* value, size_t vlen,
                  i64 expire_ms, double* score) noexcept nogil:
    """A cell for a member: value NULL: it has none. Kept in the cell itself where that is possible."""
    cdef u64 cell = 0
    cdef u8* i
    cdef u8* at
    cdef u8 flags = 0
    cdef size_t size = klen + vlen
    if klen <= INLINE_MAX and value == NULL and expire_ms < 0 and score == NULL:
        memcpy(<char*>&cell + 1, key, klen)
        return cell | CELL_INLINE | (klen << 3)
    if expire_ms >= 0:
        flags |= ITEM_EXPIRE
        size += 8
    if score != NULL:
        flags |= ITEM_SCORE
        size += 8
    if unlikely(klen > 255 or vlen > 255):
        flags |= ITEM_BIG
        i = <u8*>arena_alloc(a, size + 12)
        (<u32*>(i + 4))[0] = <u32>klen
        (<u32*>(i + 8))[0] = <u32>vlen
        at = i + 12
    else:
        i = <u8*>arena_alloc(a, size + 3)
        i[1] = <u8>klen
        i[2] = <u8>vlen
        at = i + 3
    i[0] = flags
    if expire_ms >= 0:
        memcpy(at, &expire_ms, 8)
        at += 8
    if score != NULL:
        memcpy(at, score, 8)
        at += 8
    memcpy(at, key, klen)
    if value != NULL:
        memcpy(at + klen, value, vlen)
    return <u64>i | (flags & ITEM_EXPIRE)


cdef void cell_free(Arena* a, u64 cell) noexcept nogil:
    if not cell_inline(cell):
        arena_free(a, cell_item(cell))


cdef size_t cell_bytes(u64 cell) noexcept nogil:
    return 0 if cell_inline(cell) else arena_usable(cell_item(cell))
