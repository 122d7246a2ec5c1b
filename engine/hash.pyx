# slotring: data plane
"""Hashes: fields in a listpack or a table, and their expiry; see hash.pxd."""
from libc.string cimport memcpy
from engine.defs cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_good_size, arena_usable
from engine.command cimport Ctx
from engine.effects cimport effect_arg, effect_gone, effects_wanted
from engine.keyspace cimport *
from engine.listpack cimport *
from engine.members cimport *
from engine.rdbio cimport *
from engine.restate cimport RESTATED_WORDS, also_open, restate_close

cdef enum:
    SMALL_BYTES = sizeof(Members)  # of the block without expiries
    EXPECT_MAX = 1 << 16           # fields to make room for before they have come
    DUE_BATCH = 32
    EVENT_FIELDS = 80              # that one event of the active expiry stands for, at most
    # the time from a pass to the next where few of the fields had expired: as many ms as there are fields, up to
    # PASS_WAIT_MS, then one for every PASS_FIELDS
    PASS_WAIT_MS = 2000
    PASS_FIELDS = 1500
    PASS_FEW = 16                  # less than one in so many

cdef i64 NEVER = 0x7FFFFFFFFFFFFFFF
cdef u64 expired_fields = 0


# ---- the block of a table

cdef Hash* table_block(Arena* a, bint expiring) noexcept nogil:
    cdef Hash* h = <Hash*>arena_alloc(a, sizeof(Hash) if expiring else SMALL_BYTES)
    members_init(&h.t)
    if expiring:
        h.next_due = NEVER
        h.mark = 0
        h.expiring = h.cursor = h.found = 0
    return h


cdef void resize_block(Key* k, bint expiring) noexcept nogil:
    """Exchange the block for one with or without the part about expiry."""
    cdef Hash* old = hash_of(k.entry)
    cdef Hash* h = table_block(&k.part.arena, expiring)
    h.t = old.t
    arena_free(&k.part.arena, old)
    value_ptr(k.entry)[0] = h


cdef i64 hash_next_expire(Entry* e) noexcept nogil:
    """When the active expiry should look at the hash, ms."""
    cdef Hash* h = hash_of(e)
    cdef i64 at = h.next_due
    if h.cursor:
        return 0
    if at != NEVER:
        at += 1                    # a field lives to the end of its millisecond
    return at if at > h.mark else h.mark


cdef void expiring_changed(Key* k, int delta, i64 when_ms) noexcept nogil:
    """The number of fields with an expiry changed by delta; when_ms: one of them expires then; -1: none is new."""
    cdef Hash* h
    cdef bint first = not k.entry.flags & E_FIELDS
    if first:
        resize_block(k, True)
    h = hash_of(k.entry)
    h.expiring += <u32>delta
    if h.expiring == 0:
        resize_block(k, False)
        entry_set_fields(k, False, 0)
    elif when_ms >= 0:
        if h.cursor and when_ms < h.mark:
            h.mark = when_ms
        if when_ms < h.next_due or first:
            h.next_due = when_ms
            entry_set_fields(k, True, hash_next_expire(k.entry))


cdef Entry* hash_make(Ctx* c, Key* k, i64 fields, bint table) noexcept nogil:
    cdef Hash* h
    if not table and fields <= conf.hash_max_listpack_entries:
        return key_put_value(c, k, TYPE_HASH, ENC_LISTPACK, lp_new(&k.part.arena, 0))
    h = table_block(&k.part.arena, False)
    members_expect(&k.part.arena, &h.t, <u32>(fields if fields < EXPECT_MAX else EXPECT_MAX))
    return key_put_value(c, k, TYPE_HASH, ENC_HASHTABLE, h)


cdef Hash* table_from(Arena* a, u8* lp, i64 fields, bint unique) noexcept nogil:
    """A table of a listpack's fields, which stays; fields: how many there may come to be. unique: NULL if a field is
    there twice."""
    cdef Hash* h = table_block(a, False)
    cdef char f_tmp[24]
    cdef char v_tmp[24]
    cdef const char* f
    cdef const char* v
    cdef size_t fn, vn
    cdef u64 hash
    cdef i64 budget = NEVER
    cdef u8* p = lp_first(lp)
    if fields < lp_len(lp) // 2:
        fields = lp_len(lp) // 2
    members_expect(a, &h.t, <u32>(fields if fields < EXPECT_MAX else EXPECT_MAX))
    while p != NULL:
        fn = lp_text(p, f_tmp, &f)
        p = lp_next(lp, p)
        vn = lp_text(p, v_tmp, &v)
        p = lp_next(lp, p)
        hash = hash_bytes(f, fn)
        if unique and members_find(&h.t, f, fn, hash) != NULL:
            members_free(a, &h.t, &budget)
            arena_free(a, h)
            return NULL
        members_add(a, &h.t, cell_new(a, f, fn, v, vn, -1, NULL), hash)
    return h


cdef void hash_to_table(Key* k, i64 fields) noexcept nogil:
    """From listpack to table; fields: how many there may come to be."""
    cdef u8* lp = <u8*>value_ptr(k.entry)[0]
    value_ptr(k.entry)[0] = table_from(&k.part.arena, lp, fields, False)
    entry_set_enc(k.entry, ENC_HASHTABLE)
    arena_free(&k.part.arena, lp)


# ---- changes

cdef void item_update(Arena* a, u64* cell, const char* v, size_t vn, i64 expire_ms) noexcept nogil:
    """Give a field another value and expiry (-1: none): in place where the block fits."""
    cdef u8* i = cell_item(cell[0])
    cdef const char* key
    cdef size_t kn = cell_key(cell, &key), size
    cdef u32 have = i[0] & ITEM_EXPIRE, want = ITEM_EXPIRE if expire_ms >= 0 else 0
    cdef bint big = kn > 255 or vn > 255
    if have == want and big == <bint>(i[0] & ITEM_BIG):
        size = (12 if big else 3) + (want << 3) + kn + vn
        if arena_good_size(size) == arena_usable(i):
            if unlikely(big):
                (<u32*>(i + 8))[0] = <u32>vn
            else:
                i[2] = <u8>vn
            if want:
                memcpy(i + (12 if big else 3), &expire_ms, 8)
            memcpy(<char*>key + kn, v, vn)
            return
    cell[0] = cell_new(a, key, kn, v, vn, expire_ms, NULL)
    arena_free(a, i)


cdef void hash_set_expire(Key* k, u64* cell, i64 when_ms) noexcept nogil:
    """Change a field's expiry, -1: none."""
    cdef const char* v
    cdef size_t vn
    cdef u8* i = cell_item(cell[0])
    cdef i64 old = cell_expire(cell[0])
    cdef const char* key
    if old >= 0 and when_ms >= 0:
        memcpy(i + (12 if i[0] & ITEM_BIG else 3), &when_ms, 8)
    elif old < 0 and when_ms < 0:
        return
    else:
        vn = cell_value(cell, &v)
        cell[0] = cell_new(&k.part.arena, v - cell_key(cell, &key), cell_key(cell, &key), v, vn, when_ms, NULL)
        arena_free(&k.part.arena, i)
    expiring_changed(k, (1 if when_ms >= 0 else 0) - (1 if old >= 0 else 0), when_ms)


cdef int table_set(Ctx* c, Key* k, const char* f, size_t fn, const char* v, size_t vn, i64 expire_ms,
                   bint keep_ttl) noexcept nogil:
    cdef Arena* a = &k.part.arena
    cdef Hash* h = hash_of(k.entry)
    cdef u64 hash = hash_bytes(f, fn)
    cdef u64* cell = members_find(&h.t, f, fn, hash)
    cdef i64 old
    cdef int result = FIELD_UPDATED
    if cell == NULL:
        members_add(a, &h.t, cell_new(a, f, fn, v, vn, expire_ms, NULL), hash)
        if expire_ms >= 0:
            expiring_changed(k, 1, expire_ms)
        return FIELD_NEW
    old = cell_expire(cell[0])
    if old >= 0:
        if old <= c.now_ms and not conf.import_mode:
            result = FIELD_WAS_EXPIRED
        elif keep_ttl:
            expire_ms = old
    item_update(a, cell, v, vn, expire_ms)
    if old >= 0 or expire_ms >= 0:
        expiring_changed(k, (1 if expire_ms >= 0 else 0) - (1 if old >= 0 else 0), expire_ms)
    return result


cdef int hash_set(Ctx* c, Key* k, const char* f, size_t fn, const char* v, size_t vn, i64 expire_ms,
                  bint keep_ttl) noexcept nogil:
    cdef u8* lp
    cdef u8* p
    cdef int result = FIELD_UPDATED
    if entry_enc(k.entry) != ENC_LISTPACK:
        return table_set(c, k, f, fn, v, vn, expire_ms, keep_ttl)
    lp = <u8*>value_ptr(k.entry)[0]
    if (expire_ms >= 0 or fn > <size_t>conf.hash_max_listpack_value or vn > <size_t>conf.hash_max_listpack_value
            or not lp_fits(lp, fn + vn + 32)):
        hash_to_table(k, 0)
        return table_set(c, k, f, fn, v, vn, expire_ms, keep_ttl)
    p = lp_first(lp)
    if p != NULL:
        p = lp_find(lp, p, f, fn, 1)
    if p != NULL:
        lp = lp_insert(&k.part.arena, lp, lp_next(lp, p), v, vn, LP_REPLACE, NULL)
    else:
        lp = lp_append(&k.part.arena, lp, f, fn)
        lp = lp_append(&k.part.arena, lp, v, vn)
        result = FIELD_NEW
    value_ptr(k.entry)[0] = lp
    if result == FIELD_NEW and lp_len(lp) // 2 > conf.hash_max_listpack_entries:
        hash_to_table(k, 0)
    return result


cdef void table_remove_cell(Key* k, u64* cell, u64 hash) noexcept nogil:
    cdef u64 gone = cell[0]
    members_remove(&k.part.arena, &hash_of(k.entry).t, cell, hash)
    cell_free(&k.part.arena, gone)
    if gone & 1:
        expiring_changed(k, -1, -1)


cdef bint hash_delete(Ctx* c, Key* k, const char* f, size_t fn, bint even_expired) noexcept nogil:
    """Delete a field; True: it was there. The hash may be empty then: the key is the caller's."""
    cdef u8* lp
    cdef u8* p
    cdef u64 hash
    cdef u64* cell
    if entry_enc(k.entry) == ENC_LISTPACK:
        lp = <u8*>value_ptr(k.entry)[0]
        p = lp_first(lp)
        if p != NULL:
            p = lp_find(lp, p, f, fn, 1)
        if p == NULL:
            return False
        value_ptr(k.entry)[0] = lp_delete_many(&k.part.arena, lp, p, 2, NULL)
        return True
    hash = hash_bytes(f, fn)
    cell = members_find(&hash_of(k.entry).t, f, fn, hash)
    if cell == NULL or (not even_expired and cell_over(cell[0], c.now_ms)):
        return False
    table_remove_cell(k, cell, hash)
    return True


# ---- walking

cdef void fields_walk(Entry* e, i64 now_ms, FieldWalk* w) noexcept nogil:
    w.now_ms = now_ms
    w.expire_ms = -1
    w.lp = NULL
    if entry_enc(e) == ENC_LISTPACK:
        w.lp = <u8*>value_ptr(e)[0]
        w.p = lp_first(w.lp)
    else:
        members_walk(&hash_of(e).t, &w.w)


cdef bint field_next(FieldWalk* w) noexcept nogil:
    cdef u64* cell
    if w.lp != NULL:
        if w.p == NULL:
            return False
        w.fn = lp_text(w.p, w.f_tmp, &w.f)
        w.p = lp_next(w.lp, w.p)
        w.vn = lp_text(w.p, w.v_tmp, &w.v)
        w.p = lp_next(w.lp, w.p)
        return True
    while True:
        cell = members_walk_next(&w.w)
        if cell == NULL:
            return False
        if not cell_over(cell[0], w.now_ms):
            break
    w.fn = cell_key(cell, &w.f)
    w.vn = cell_value(cell, &w.v)
    w.expire_ms = cell_expire(cell[0])
    return True


cdef u64 hash_live(Entry* e, i64 now_ms) noexcept nogil:
    cdef MemberWalk w
    cdef u64* cell
    cdef u64 n = hash_length(e)
    if not e.flags & E_FIELDS or hash_of(e).next_due >= now_ms:
        return n
    members_walk(&hash_of(e).t, &w)
    cell = members_walk_next(&w)
    while cell != NULL:
        if cell_over(cell[0], now_ms):
            n -= 1
        cell = members_walk_next(&w)
    return n


# ---- active expiry

cdef struct Due:                   # what a slice of a pass has come by
    i64 now_ms
    i64 first                      # of those that have not expired
    u64 cells[DUE_BATCH]
    u32 n
    u32 looked


cdef void due_visit(void* arg, u64* cell) noexcept nogil:
    cdef Due* d = <Due*>arg
    cdef i64 at
    d.looked += 1
    if not cell[0] & 1:
        return
    at = cell_expire(cell[0])
    if at >= d.now_ms:
        if at < d.first:
            d.first = at
    elif d.n < DUE_BATCH:
        d.cells[d.n] = cell[0]
        d.n += 1


cdef void pass_ended(Hash* h, i64 now_ms) noexcept nogil:
    cdef u64 fields = h.t.count + <u64>h.found, wait = 0
    h.cursor = 0
    h.next_due = h.mark
    if <u64>h.found * PASS_FEW < fields:
        wait = fields if fields < PASS_WAIT_MS else PASS_WAIT_MS
        if wait < fields // PASS_FIELDS:
            wait = fields // PASS_FIELDS
        if fields < 64:
            wait = 0
    h.mark = now_ms + <i64>wait


cdef void field_expired(Ctx* c, Key* k, const char* f, size_t n, u32 before) noexcept nogil:
    """In the log: an HDEL for so many fields; `before` have gone before."""
    if before % RESTATED_WORDS == 0:
        if before:
            restate_close(c, 2 + RESTATED_WORDS)
        also_open(c, k, b"HDEL")
    effect_arg(c, f, n)


cdef u32 expire_slice(Ctx* c, Key* k, i64* budget) noexcept nogil:
    """Go on with the pass, or begin one; returns how many fields were taken away."""
    cdef Hash* h = hash_of(k.entry)
    cdef Due d
    cdef u64 position = h.cursor, following
    cdef u32 i, gone = 0
    cdef u64* cell
    cdef const char* f
    cdef size_t n
    cdef u64 hash
    cdef bint tell = effects_wanted()
    if h.cursor == 0:
        h.mark = NEVER
        h.found = 0
    d.now_ms = c.now_ms
    while budget[0] > 0:
        d.n = d.looked = 0
        d.first = h.mark
        following = members_scan(&h.t, position, due_visit, &d)
        h.mark = d.first
        budget[0] -= d.looked + 1
        if d.n < DUE_BATCH:        # else there may be more of them here
            position = following
        h.cursor = <u32>position
        h.found += d.n
        for i in range(d.n):
            n = cell_key(&d.cells[i], &f)
            hash = hash_bytes(f, n)
            cell = members_find(&h.t, f, n, hash)
            if tell:
                field_expired(c, k, f, n, gone)
            gone += 1
            table_remove_cell(k, cell, hash)
            if not k.entry.flags & E_FIELDS:
                return gone        # that was the last that had an expiry; h is gone
        if position >> 32:
            pass_ended(h, c.now_ms)
            break
    return gone


cdef void hash_expire(void* ctx, Key* k, i64* budget) noexcept nogil:
    """Active expiry: delete fields whose time is over, looking at about *budget fields (counted down)."""
    cdef Ctx* c = <Ctx*>ctx
    cdef u32 gone, i
    if not k.entry.flags & E_FIELDS:
        return
    gone = expire_slice(c, k, budget)
    if gone == 0:
        return
    if effects_wanted():
        c.fx_inside = hash_length(k.entry) == 0        # with the deletion that follows
        restate_close(c, 3 + (gone - 1) % RESTATED_WORDS)
    atomic_add64(&expired_fields, gone, RELAXED)
    key_modified(c, k)
    for i in range((gone + EVENT_FIELDS - 1) // EVENT_FIELDS):
        notify(c, N_EXPIRED, b"hexpired", k)
    if hash_length(k.entry) == 0:
        key_delete(c, k)
        if effects_wanted():
            c.fx_inside = 0
            effect_gone(c, k)
        notify(c, N_GENERIC, b"del", k)


# ---- what the rest needs to know of hashes (TypeOps)

cdef bint hash_free(Arena* a, Entry* e, i64* budget) noexcept nogil:
    if entry_enc(e) == ENC_HASHTABLE and not members_free(a, &hash_of(e).t, budget):
        return False
    arena_free(a, value_ptr(e)[0])
    value_ptr(e)[0] = NULL
    budget[0] -= 1
    return True


cdef u64 hash_blocks(Entry* e) noexcept nogil:
    if entry_enc(e) == ENC_LISTPACK:
        return 1
    return 2 + hash_of(e).t.count + hash_of(e).t.nbuckets // SEGMENT_BUCKETS


cdef u64 hash_fields(Entry* e) noexcept nogil:
    return hash_length(e)


cdef u64 hash_memory(Entry* e, i64 samples) noexcept nogil:
    if entry_enc(e) == ENC_LISTPACK:
        return arena_usable(value_ptr(e)[0])
    return arena_usable(value_ptr(e)[0]) + members_bytes(&hash_of(e).t, samples)


cdef void* hash_copy(Arena* to, Entry* e) noexcept nogil:
    cdef Hash* h = hash_of(e)
    cdef Hash* fresh
    if entry_enc(e) == ENC_LISTPACK:
        return lp_copy(to, <u8*>value_ptr(e)[0])
    fresh = table_block(to, e.flags & E_FIELDS)
    if e.flags & E_FIELDS:
        fresh.next_due = h.next_due
        fresh.expiring = h.expiring
    members_copy(to, &h.t, &fresh.t)
    return fresh


cdef void hash_walk(Entry* e, element_fn fn, void* arg) noexcept nogil:
    """The live fields."""
    cdef FieldWalk w
    cdef Element el
    fields_walk(e, wall_us() // 1000 if e.flags & E_FIELDS else -1, &w)
    while field_next(&w):
        el.s = w.f
        el.n = w.fn
        el.v = w.v
        el.vn = w.vn
        el.score = 0
        el.expire_ms = w.expire_ms
        if not fn(arg, &el):
            return


cdef int hash_rdb_type(Entry* e) noexcept nogil:
    if entry_enc(e) == ENC_LISTPACK:
        return RDB_TYPE_HASH_LISTPACK
    return RDB_TYPE_HASH_2 if e.flags & E_FIELDS else RDB_TYPE_HASH


cdef void hash_save(RdbOut* o, Entry* e) noexcept nogil:
    cdef FieldWalk w
    cdef u8* lp
    if entry_enc(e) == ENC_LISTPACK:
        lp = <u8*>value_ptr(e)[0]
        rdb_out_string(o, <char*>lp, lp_bytes(lp))
        return
    rdb_out_length(o, hash_of(e).t.count)
    fields_walk(e, -1, &w)
    while field_next(&w):
        rdb_out_string(o, w.f, w.fn)
        rdb_out_string(o, w.v, w.vn)
        if e.flags & E_FIELDS:
            rdb_out_ms(o, w.expire_ms)


# ---- reading RDB

cdef void* bad_table(Arena* a, Hash* h, RdbIn* in_) noexcept nogil:
    cdef i64 budget = NEVER
    in_.bad = True
    members_free(a, &h.t, &budget)
    arena_free(a, h)
    return NULL


cdef void* load_listpack(Arena* a, RdbIn* in_, int rdb_type, int* enc, u32* flags, i64 now_ms) noexcept nogil:
    cdef char tmp[24]
    cdef const char* s = NULL
    cdef size_t n = rdb_in_string(in_, tmp, &s)
    cdef u8* lp
    cdef Hash* h
    if in_.bad or not lp_valid(<const u8*>s, n) or lp_len(<u8*>s) == 0 or lp_len(<u8*>s) & 1:
        in_.bad = True
        return NULL
    h = table_from(a, <u8*>s, 0, True)     # a field twice would be found here
    if h == NULL:
        in_.bad = True
        return NULL
    if h.t.count > conf.hash_max_listpack_entries:
        enc[0] = ENC_HASHTABLE
        return h
    bad_table(a, h, in_)
    in_.bad = False
    lp = <u8*>arena_alloc(a, n)
    memcpy(lp, s, n)
    enc[0] = ENC_LISTPACK
    return lp


cdef u8* listpack_from(Arena* a, Hash* h) noexcept nogil:
    """A small table's fields as a listpack; the table goes."""
    cdef MemberWalk w
    cdef u64* cell
    cdef const char* p
    cdef size_t n
    cdef i64 budget = NEVER
    cdef u8* lp = lp_new(a, 0)
    members_walk(&h.t, &w)
    cell = members_walk_next(&w)
    while cell != NULL:
        n = cell_key(cell, &p)
        lp = lp_append(a, lp, p, n)
        n = cell_value(cell, &p)
        lp = lp_append(a, lp, p, n)
        cell = members_walk_next(&w)
    members_free(a, &h.t, &budget)
    arena_free(a, h)
    return lp


cdef u64 load_cell(Arena* a, RdbIn* in_, bint expiring) noexcept nogil:
    """Read a field with its value and, where there are any, its expiry; 0: bad."""
    cdef u64 cell, field
    cdef char tmp[24]
    cdef const char* p = NULL
    cdef const char* v
    cdef size_t n = rdb_in_string(in_, tmp, &p)
    cdef i64 at = -1
    if in_.bad:
        return 0
    # an item with the field alone, since the next read takes its bytes away
    cell = cell_new(a, p, n, b"", 0, -1, NULL)
    n = rdb_in_string(in_, tmp, &p)
    if not in_.bad:
        item_update(a, &cell, p, n, -1)
    if expiring and not in_.bad:
        at = rdb_in_ms(in_)
    if in_.bad or at < -1:
        cell_free(a, cell)
        return 0
    if at >= 0:
        field = cell
        n = cell_key(&field, &p)
        cell = cell_new(a, p, n, p + n, cell_value(&field, &v), at, NULL)
        cell_free(a, field)
    return cell


cdef void* load_fields(Arena* a, RdbIn* in_, int rdb_type, int* enc, u32* flags, i64 now_ms) noexcept nogil:
    """HASH and HASH_2; fields that have expired at now_ms are left out."""
    cdef bint expiring = rdb_type == RDB_TYPE_HASH_2
    cdef u64 count = rdb_in_length(in_), hash, cell
    cdef Hash* h = table_block(a, expiring)
    cdef const char* p
    cdef size_t n
    while count and not in_.bad:
        count -= 1
        cell = load_cell(a, in_, expiring)
        if cell == 0:
            return bad_table(a, h, in_)
        n = cell_key(&cell, &p)
        hash = hash_bytes(p, n)
        if members_find(&h.t, p, n, hash) != NULL:
            cell_free(a, cell)
            return bad_table(a, h, in_)
        if cell_over(cell, now_ms):        # it has expired on the way
            cell_free(a, cell)
            continue
        if cell & 1:
            h.expiring += 1
            if cell_expire(cell) < h.next_due:
                h.next_due = cell_expire(cell)
        members_add(a, &h.t, cell, hash)
    if in_.bad or h.t.count == 0:
        return bad_table(a, h, in_)
    return loaded(a, h, expiring, enc, flags)


cdef void* loaded(Arena* a, Hash* h, bint expiring, int* enc, u32* flags) noexcept nogil:
    """What was read, in the encoding that is due."""
    cdef Hash* small
    cdef u64 longest = 0
    cdef MemberWalk w
    cdef u64* cell
    cdef const char* p
    if expiring and h.expiring == 0:
        small = table_block(a, False)
        small.t = h.t
        arena_free(a, h)
        h = small
    elif expiring:
        flags[0] |= E_FIELDS
    enc[0] = ENC_HASHTABLE
    if expiring or h.t.count > conf.hash_max_listpack_entries:
        return h
    members_walk(&h.t, &w)
    cell = members_walk_next(&w)
    while cell != NULL:
        longest |= cell_key(cell, &p) > <size_t>conf.hash_max_listpack_value
        longest |= cell_value(cell, &p) > <size_t>conf.hash_max_listpack_value
        cell = members_walk_next(&w)
    if longest:
        return h
    enc[0] = ENC_LISTPACK
    return listpack_from(a, h)


type_ops[TYPE_HASH].free = hash_free
type_ops[TYPE_HASH].blocks = hash_blocks
type_ops[TYPE_HASH].length = hash_fields
type_ops[TYPE_HASH].bytes = hash_memory
type_ops[TYPE_HASH].copy = hash_copy
type_ops[TYPE_HASH].walk = hash_walk
type_ops[TYPE_HASH].next_expire = hash_next_expire
type_ops[TYPE_HASH].expire = hash_expire
type_ops[TYPE_HASH].rdb_type = hash_rdb_type
type_ops[TYPE_HASH].save = hash_save
load_ops[RDB_TYPE_HASH].load = load_fields
load_ops[RDB_TYPE_HASH].type_ = TYPE_HASH
load_ops[RDB_TYPE_HASH_2].load = load_fields
load_ops[RDB_TYPE_HASH_2].type_ = TYPE_HASH
load_ops[RDB_TYPE_HASH_LISTPACK].load = load_listpack
load_ops[RDB_TYPE_HASH_LISTPACK].type_ = TYPE_HASH


def stats() -> dict:
    """Counters."""
    return {"expired_fields": expired_fields}


def reset_stats() -> None:
    """CONFIG RESETSTAT."""
    global expired_fields
    expired_fields = 0
