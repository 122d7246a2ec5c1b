# slotring: data plane
"""Sorted sets: both encodings, what the store asks of them, and their RDB forms; see zset.pxd."""
from libc.stdlib cimport malloc, free, abort, qsort
from libc.string cimport memcmp, memcpy
from engine.defs cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_good_size, arena_usable
from engine.conf cimport conf
from engine.doubles cimport DOUBLE_CHARS, double_integer, scan_double, write_double
from engine.hashing cimport hash_bytes
from engine.listpack cimport *
from engine.members cimport *
from engine.ranktree cimport *
from engine.rdbio cimport *
from engine.store cimport *

cdef extern from "<math.h>" nogil:
    bint isnan(double)

cdef enum:
    FREE_ALL = 1 << 30
    COUNT_MAX = 0xFFFFFFF0         # members of one set


# ---- listpacks

cdef inline double lp_score(u8* p) noexcept nogil:
    """The score at p."""
    cdef LpValue v
    cdef double score = 0
    cdef bint outside
    lp_get(p, &v)
    if likely(v.s == NULL):
        return <double>v.v
    scan_double(v.s, v.n, &score, &outside)
    return score


cdef inline int lp_compare(u8* p, const char* s, size_t n) noexcept nogil:
    """Order of the member at p and a string."""
    cdef char tmp[24]
    cdef const char* q
    cdef size_t m = lp_text(p, tmp, &q)
    cdef int r = memcmp(q, s, m if m < n else n)
    if r:
        return r
    return (m > n) - (m < n)


cdef inline bint lp_before(u8* p, Bound* b) noexcept nogil:
    """Is the pair whose member is at p before a bound?"""
    cdef double score
    cdef int r
    if b.kind <= AFTER_SCORE:
        score = lp_score(lp_skip(p))
        if score != b.score:
            return score < b.score
        if b.kind != BEFORE_PAIR:
            return b.kind == AFTER_SCORE
    r = lp_compare(p, b.p, b.n)
    return r < 0 or (r == 0 and b.kind == AFTER_LEX)


cdef void pair_put(Z* z, double score, const char* s, size_t n) noexcept nogil:
    """Insert a pair at its place."""
    cdef u8* lp = <u8*>z.v
    cdef u8* p = lp + lp_bytes(lp) - 1         # the end mark
    cdef u8* last
    cdef Bound b
    cdef i64 whole
    cdef char tmp[DOUBLE_CHARS]
    cdef int digits = 0
    b.kind = BEFORE_PAIR
    b.score = score
    b.p = s
    b.n = n
    last = lp_prev(lp, p)
    if last != NULL and not lp_before(lp_prev(lp, last), &b):
        p = lp + LP_HEADER
        while lp_before(p, &b):
            p = lp_skip(lp_skip(p))
    cdef bint is_int = double_integer(score, &whole)
    if not is_int:
        digits = write_double(tmp, score)
    if p[0] == LP_EOF:
        lp = lp_append(z.a, lp, s, n)
        lp = lp_append_int(z.a, lp, whole) if is_int else lp_append(z.a, lp, tmp, digits)
    else:
        lp = lp_insert(z.a, lp, p, s, n, LP_BEFORE, &p)
        if is_int:
            lp = lp_insert_int(z.a, lp, p, whole, LP_AFTER, NULL)
        else:
            lp = lp_insert(z.a, lp, p, tmp, digits, LP_AFTER, NULL)
    z.v = lp


cdef void pair_rescore(Z* z, u8* p, double score, const char* s, size_t n) noexcept nogil:
    """Change the score of the member at p, moving the pair only if its neighbours say so."""
    cdef u8* lp = <u8*>z.v
    cdef u8* at = lp_skip(p)
    cdef u8* next_ = lp_skip(at)
    cdef u8* prev = lp_prev(lp, p)
    cdef Bound b
    cdef i64 whole
    cdef char tmp[DOUBLE_CHARS]
    b.kind = BEFORE_PAIR
    b.score = score
    b.p = s
    b.n = n
    if (next_[0] == LP_EOF or not lp_before(next_, &b)) and (prev == NULL or lp_before(lp_prev(lp, prev), &b)):
        if double_integer(score, &whole):
            z.v = lp_insert_int(z.a, lp, at, whole, LP_REPLACE, NULL)
        else:
            z.v = lp_insert(z.a, lp, at, tmp, write_double(tmp, score), LP_REPLACE, NULL)
        return
    z.v = lp_delete_many(z.a, lp, p, 2, NULL)
    pair_put(z, score, s, n)


# ---- making, converting

cdef inline Zset* zs_new(Arena* a) noexcept nogil:
    cdef Zset* s = <Zset*>arena_alloc(a, sizeof(Zset))
    members_init(&s.members)
    tree_init(&s.tree)
    return s


cdef inline void zs_put(Arena* a, Zset* s, double score, const char* p, size_t n, u64 hash) noexcept nogil:
    cdef u64 cell = cell_new(a, p, n, NULL, 0, -1, &score)
    members_add(a, &s.members, cell, hash)
    tree_insert(a, &s.tree, score, cell_item(cell))


cdef inline bint too_large(u64 entries, size_t longest) noexcept nogil:
    return entries > <u64>conf.zset_max_listpack_entries or longest > <u64>conf.zset_max_listpack_value


cdef void z_new(Z* z, Arena* a, u64 entries, size_t longest) noexcept nogil:
    z.a = a
    if too_large(entries, longest):
        z.v = zs_new(a)
        z.enc = ENC_SKIPLIST
    else:
        z.v = lp_new(a, 0)
        z.enc = ENC_LISTPACK


cdef bint zs_free(Arena* a, Zset* s, i64* budget) noexcept nogil:
    if not tree_free(a, &s.tree, budget) or not members_free(a, &s.members, budget):
        return False
    arena_free(a, s)
    return True


cdef void z_free(Z* z) noexcept nogil:
    cdef i64 budget = <i64>1 << 60
    if z.enc == ENC_LISTPACK:
        arena_free(z.a, z.v)
    else:
        zs_free(z.a, <Zset*>z.v, &budget)
    z.v = NULL


cdef void convert(Z* z, u64 expect) noexcept nogil:
    """A listpack becomes large."""
    cdef u8* lp = <u8*>z.v
    cdef u8* p = lp_first(lp)
    cdef Zset* s = zs_new(z.a)
    cdef char tmp[24]
    cdef const char* q
    cdef size_t n
    cdef u64 have = lp_len(lp) >> 1
    if expect > have:
        have = expect if expect < 4096 else 4096
    members_expect(z.a, &s.members, <u32>have)
    while p != NULL:
        n = lp_text(p, tmp, &q)
        p = lp_skip(p)
        zs_put(z.a, s, lp_score(p), q, n, hash_bytes(q, n))
        p = lp_next(lp, p)
    arena_free(z.a, lp)
    z.v = s
    z.enc = ENC_SKIPLIST


cdef void z_expect(Z* z, u64 entries, size_t longest) noexcept nogil:
    if z.enc == ENC_LISTPACK and too_large(entries, longest):
        convert(z, entries)


# ---- members

cdef bint z_score(Z* z, const char* p, size_t n, double* score) noexcept nogil:
    cdef u8* at
    cdef u64* cell
    if z.enc == ENC_LISTPACK:
        at = lp_find(<u8*>z.v, lp_first(<u8*>z.v), p, n, 1)
        if at == NULL:
            return False
        score[0] = lp_score(lp_skip(at))
        return True
    cell = members_find(&(<Zset*>z.v).members, p, n, hash_bytes(p, n))
    if cell == NULL:
        return False
    score[0] = item_score(cell_item(cell[0]))
    return True


cdef i64 z_rank(Z* z, const char* p, size_t n, double* score) noexcept nogil:
    cdef u8* at
    cdef u8* x
    cdef i64 rank = 0
    cdef Bound b
    if z.enc == ENC_LISTPACK:
        at = lp_find(<u8*>z.v, lp_first(<u8*>z.v), p, n, 1)
        if at == NULL:
            return -1
        score[0] = lp_score(lp_skip(at))
        x = lp_first(<u8*>z.v)
        while x != at:
            x = lp_skip(lp_skip(x))
            rank += 1
        return rank
    if not z_score(z, p, n, score):
        return -1
    b.kind = BEFORE_PAIR
    b.score = score[0]
    b.p = p
    b.n = n
    return tree_rank(&(<Zset*>z.v).tree, &b)


cdef void z_range(Z* z, Bound* low, Bound* high, u64* start, u64* end) noexcept nogil:
    cdef u8* p
    cdef u64 i = 0
    if z.enc != ENC_LISTPACK:
        start[0] = tree_rank(&(<Zset*>z.v).tree, low)
        end[0] = tree_rank(&(<Zset*>z.v).tree, high)
        return
    p = <u8*>z.v + LP_HEADER
    while p[0] != LP_EOF and lp_before(p, low):
        p = lp_skip(lp_skip(p))
        i += 1
    start[0] = i
    while p[0] != LP_EOF and lp_before(p, high):
        p = lp_skip(lp_skip(p))
        i += 1
    end[0] = i


cdef void zs_rescore(Arena* a, Zset* s, u8* item, double old, double score) noexcept nogil:
    tree_remove(a, &s.tree, old, item)
    item_set_score(item, score)
    tree_insert(a, &s.tree, score, item)


cdef inline u32 decide(double* score, double old, u32 flags) noexcept nogil:
    """What adding does to a member that is there; *score becomes its new one."""
    if flags & ZIN_NX:
        return ZOUT_NOP
    if flags & ZIN_INCR:
        score[0] += old
        if isnan(score[0]):
            return ZOUT_NAN
    if (flags & ZIN_LT and score[0] >= old) or (flags & ZIN_GT and score[0] <= old):
        return ZOUT_NOP
    return ZOUT_UPDATED if score[0] != old else 0


cdef u32 z_add(Z* z, double score, const char* p, size_t n, u32 flags, double* now) noexcept nogil:
    cdef u8* at
    cdef u64* cell
    cdef u64 hash
    cdef double old
    cdef u32 out
    if z.enc == ENC_LISTPACK:
        at = lp_find(<u8*>z.v, lp_first(<u8*>z.v), p, n, 1)
        if at != NULL:
            old = lp_score(lp_skip(at))
            out = decide(&score, old, flags)
            now[0] = score
            if out == ZOUT_UPDATED:
                pair_rescore(z, at, score, p, n)
            return out
        if flags & ZIN_XX:
            return ZOUT_NOP
        now[0] = score
        if too_large((lp_len(<u8*>z.v) >> 1) + 1, n) or not lp_fits(<u8*>z.v, n):
            convert(z, 0)
        else:
            pair_put(z, score, p, n)
            return ZOUT_ADDED
    hash = hash_bytes(p, n)
    cell = members_find(&(<Zset*>z.v).members, p, n, hash)
    if cell == NULL:
        if flags & ZIN_XX or (<Zset*>z.v).members.count >= COUNT_MAX:
            return ZOUT_NOP
        now[0] = score
        zs_put(z.a, <Zset*>z.v, score, p, n, hash)
        return ZOUT_ADDED
    old = item_score(cell_item(cell[0]))
    out = decide(&score, old, flags)
    now[0] = score
    if out == ZOUT_UPDATED:
        zs_rescore(z.a, <Zset*>z.v, cell_item(cell[0]), old, score)
    return out


cdef void z_put(Z* z, double score, const char* p, size_t n) noexcept nogil:
    if z.enc == ENC_LISTPACK:
        if not too_large((lp_len(<u8*>z.v) >> 1) + 1, n) and lp_fits(<u8*>z.v, n):
            pair_put(z, score, p, n)
            return
        convert(z, 0)
    zs_put(z.a, <Zset*>z.v, score, p, n, hash_bytes(p, n))


cdef bint z_remove(Z* z, const char* p, size_t n) noexcept nogil:
    cdef u8* at
    cdef u64* cell
    cdef u64 hash, found
    cdef Zset* s
    if z.enc == ENC_LISTPACK:
        at = lp_find(<u8*>z.v, lp_first(<u8*>z.v), p, n, 1)
        if at == NULL:
            return False
        z.v = lp_delete_many(z.a, <u8*>z.v, at, 2, NULL)
        return True
    s = <Zset*>z.v
    hash = hash_bytes(p, n)
    cell = members_find(&s.members, p, n, hash)
    if cell == NULL:
        return False
    found = cell[0]
    tree_remove(z.a, &s.tree, item_score(cell_item(found)), cell_item(found))
    members_remove(z.a, &s.members, cell, hash)
    cell_free(z.a, found)
    return True


cdef void z_remove_ranks(Z* z, u64 start, u64 n) noexcept nogil:
    cdef Zset* s
    cdef u8* item
    cdef u64 cell, hash
    cdef const char* p
    cdef size_t m
    if n == 0:
        return
    if z.enc == ENC_LISTPACK:
        z.v = lp_delete_index(z.a, <u8*>z.v, <i64>(start * 2), n * 2)
        return
    s = <Zset*>z.v
    while n:
        n -= 1
        item = tree_remove_at(z.a, &s.tree, <u32>start)
        if item == NULL:
            return
        cell = <u64>item
        m = cell_key(&cell, &p)
        hash = hash_bytes(p, m)
        members_remove(z.a, &s.members, members_find(&s.members, p, m, hash), hash)
        cell_free(z.a, cell)
    if s.tree.count:                       # whoever takes from an end will take the next one too
        prefetch(s.tree.first.pairs[s.tree.first.n > 1].item if start == 0 else
                 s.tree.last.pairs[s.tree.last.n - 1].item)


# ---- walking

cdef void z_walk(Z* z, ZWalk* w, u64 rank, bint back) noexcept nogil:
    w.back = back
    if z.enc == ENC_LISTPACK:
        w.lp = <u8*>z.v
        w.p = lp_seek(w.lp, <i64>rank * 2)
    else:
        w.lp = NULL
        tree_at(&(<Zset*>z.v).tree, <u32>rank, &w.at)


cdef bint z_next(ZWalk* w, ZItem* item) noexcept nogil:
    cdef Pair* x
    cdef u64 cell
    cdef u8* p
    if w.lp != NULL:
        p = w.p
        if p == NULL:
            return False
        item.n = lp_text(p, w.tmp, &item.s)
        item.score = lp_score(lp_skip(p))
        if w.back:
            p = lp_prev(w.lp, p)
            w.p = lp_prev(w.lp, p) if p != NULL else NULL
        else:
            p = lp_skip(lp_skip(p))
            w.p = p if p[0] != LP_EOF else NULL
        return True
    if w.at.leaf == NULL:
        return False
    x = &w.at.leaf.pairs[w.at.i]
    cell = <u64>x.item
    item.n = cell_key(&cell, &item.s)
    item.score = x.score
    if w.back:
        place_prev(&w.at)
    else:
        if w.at.i + 6 < w.at.leaf.n:
            prefetch(w.at.leaf.pairs[w.at.i + 6].item)
        place_next(&w.at)
    return True


cdef bint z_random(Z* z, u64 random, ZItem* item, char* tmp) noexcept nogil:
    cdef u8* p
    cdef u64* cell
    if z.enc == ENC_LISTPACK:
        p = lp_seek(<u8*>z.v, <i64>((random >> 8) % z_len(z)) * 2)
        item.n = lp_text(p, tmp, &item.s)
        item.score = lp_score(lp_skip(p))
        return True
    cell = members_random(&(<Zset*>z.v).members, random)
    if cell == NULL:
        return False
    item.n = cell_key(cell, &item.s)
    item.score = item_score(cell_item(cell[0]))
    return True


# ---- building at once

cdef int compare_pairs(const void* a, const void* b) noexcept nogil:
    cdef Pair* x = <Pair*>a
    cdef Pair* y = <Pair*>b
    cdef u64 cell
    cdef const char* p
    cdef const char* q
    cdef size_t n, m
    cdef int r
    if x.score != y.score:
        return -1 if x.score < y.score else 1
    cell = <u64>x.item
    n = cell_key(&cell, &p)
    cell = <u64>y.item
    m = cell_key(&cell, &q)
    r = memcmp(p, q, n if n < m else m)
    if r:
        return r
    return (n > m) - (n < m)


cdef void z_finish(Z* z, bint small) noexcept nogil:
    cdef Zset* s = <Zset*>z.v
    cdef u32 n = s.members.count, i = 0
    cdef Pair* pairs
    cdef MemberWalk w
    cdef u64* cell
    cdef u64 item
    cdef size_t longest = 0, total = 0, m
    cdef const char* p
    cdef Z lp
    if n == 0:
        return
    pairs = <Pair*>malloc(n * sizeof(Pair))
    if pairs == NULL:
        abort()
    members_walk(&s.members, &w)
    while i < n:
        cell = members_walk_next(&w)
        pairs[i].item = cell_item(cell[0])
        pairs[i].score = item_score(pairs[i].item)
        m = cell_key(cell, &p)
        if m > longest:
            longest = m
        total += m
        i += 1
    qsort(pairs, n, sizeof(Pair), compare_pairs)
    if small and not too_large(n, longest) and total <= LP_BYTES_MAX:
        lp.a = z.a
        lp.v = lp_new(z.a, total + 8 * n)
        lp.enc = ENC_LISTPACK
        for i in range(n):
            item = <u64>pairs[i].item
            m = cell_key(&item, &p)
            pair_put(&lp, pairs[i].score, p, m)
        z_free(z)
        lp.v = lp_shrink(z.a, <u8*>lp.v)
        z[0] = lp
    else:
        for i in range(n):
            tree_insert(z.a, &s.tree, pairs[i].score, pairs[i].item)
    free(pairs)


# ---- what the store asks (TypeOps)

cdef bint ops_free(Arena* a, Entry* e, i64* budget) noexcept nogil:
    if entry_enc(e) == ENC_LISTPACK:
        arena_free(a, value_ptr(e)[0])
        return True
    return zs_free(a, <Zset*>value_ptr(e)[0], budget)


cdef u64 ops_length(Entry* e) noexcept nogil:
    if entry_enc(e) == ENC_LISTPACK:
        return lp_len(<u8*>value_ptr(e)[0]) >> 1
    return (<Zset*>value_ptr(e)[0]).members.count


cdef u64 ops_blocks(Entry* e) noexcept nogil:
    cdef u64 n
    if entry_enc(e) == ENC_LISTPACK:
        return 1
    n = (<Zset*>value_ptr(e)[0]).members.count
    return n + n // 16 + 2


cdef u64 ops_bytes(Entry* e, i64 samples) noexcept nogil:
    cdef Zset* s
    if entry_enc(e) == ENC_LISTPACK:
        return arena_usable(value_ptr(e)[0])
    s = <Zset*>value_ptr(e)[0]
    return arena_usable(s) + members_bytes(&s.members, samples) + tree_bytes(&s.tree)


cdef void* ops_copy(Arena* to, Entry* e) noexcept nogil:
    cdef Zset* s
    cdef Zset* d
    cdef Place at
    cdef u64 cell
    cdef const char* p
    cdef size_t n
    if entry_enc(e) == ENC_LISTPACK:
        return lp_copy(to, <u8*>value_ptr(e)[0])
    s = <Zset*>value_ptr(e)[0]
    d = zs_new(to)
    members_copy(to, &s.members, &d.members)
    tree_at(&s.tree, 0, &at)
    while at.leaf != NULL:
        cell = <u64>at.leaf.pairs[at.i].item
        n = cell_key(&cell, &p)
        cell = members_find(&d.members, p, n, hash_bytes(p, n))[0]
        tree_insert(to, &d.tree, at.leaf.pairs[at.i].score, cell_item(cell))
        place_next(&at)
    return d


cdef void ops_walk(Entry* e, element_fn fn, void* arg) noexcept nogil:
    cdef Z z
    cdef ZWalk w
    cdef ZItem item
    cdef Element el
    z.a = NULL
    z.v = value_ptr(e)[0]
    z.enc = entry_enc(e)
    el.v = NULL
    el.vn = 0
    el.expire_ms = -1
    z_walk(&z, &w, 0, False)
    while z_next(&w, &item):
        el.s = item.s
        el.n = item.n
        el.score = item.score
        if not fn(arg, &el):
            return


cdef int ops_rdb_type(Entry* e) noexcept nogil:
    return RDB_TYPE_ZSET_LISTPACK if entry_enc(e) == ENC_LISTPACK else RDB_TYPE_ZSET_2


cdef void ops_save(RdbOut* o, Entry* e) noexcept nogil:
    """A large set goes from its last pair to its first, as Valkey writes it."""
    cdef Zset* s
    cdef Place at
    cdef u64 cell
    cdef const char* p
    cdef size_t n
    if entry_enc(e) == ENC_LISTPACK:
        rdb_out_string(o, <char*>value_ptr(e)[0], lp_bytes(<u8*>value_ptr(e)[0]))
        return
    s = <Zset*>value_ptr(e)[0]
    rdb_out_length(o, s.members.count)
    tree_at(&s.tree, s.tree.count - 1, &at)
    while at.leaf != NULL:
        cell = <u64>at.leaf.pairs[at.i].item
        n = cell_key(&cell, &p)
        rdb_out_string(o, p, n)
        rdb_out_double(o, at.leaf.pairs[at.i].score)
        place_prev(&at)


# ---- RDB

cdef void* load_pairs(Arena* a, RdbIn* in_, int rdb_type, int* enc, u32* flags, i64 now_ms) noexcept nogil:
    """Members and scores in any order; NaN and a member that comes twice are refused."""
    cdef u64 n = rdb_in_length(in_), hash, cell
    cdef Z z
    cdef Zset* s = zs_new(a)
    cdef const char* p
    cdef char tmp[24]
    cdef size_t m
    cdef double score
    z.a = a
    z.v = s
    z.enc = ENC_SKIPLIST
    if n == 0 or n > rdb_in_left(in_):
        in_.bad = True
    while n and not in_.bad:
        n -= 1
        m = rdb_in_string(in_, tmp, &p)
        if in_.bad:
            break
        hash = hash_bytes(p, m)
        if members_find(&s.members, p, m, hash) != NULL:
            in_.bad = True
            break
        score = 0
        cell = cell_new(a, p, m, NULL, 0, -1, &score)
        members_add(a, &s.members, cell, hash)
        score = rdb_in_double(in_) if rdb_type == RDB_TYPE_ZSET_2 else rdb_in_old_double(in_)
        if isnan(score):
            in_.bad = True
        item_set_score(cell_item(cell), score)
    if in_.bad:
        z_free(&z)
        return NULL
    z_finish(&z, True)
    enc[0] = z.enc
    return z.v


cdef bint listpack_good(Arena* a, u8* lp) noexcept nogil:
    """Pairs, no score NaN or no number at all, no member twice. The listpack itself is whole."""
    cdef Members seen
    cdef u8* p = lp_first(lp)
    cdef u64 hash
    cdef const char* q
    cdef char tmp[24]
    cdef size_t n
    cdef bint good = p != NULL and not lp_len(lp) & 1
    cdef i64 budget = <i64>1 << 60
    members_init(&seen)
    while good and p != NULL:
        n = lp_text(p, tmp, &q)
        hash = hash_bytes(q, n)
        if members_find(&seen, q, n, hash) != NULL:
            good = False
            break
        members_add(a, &seen, cell_new(a, q, n, NULL, 0, -1, NULL), hash)
        p = lp_skip(p)
        good = not isnan(lp_score(p))
        p = lp_next(lp, p)
    members_free(a, &seen, &budget)
    return good


cdef void* load_listpack(Arena* a, RdbIn* in_, int rdb_type, int* enc, u32* flags, i64 now_ms) noexcept nogil:
    cdef const char* p
    cdef char tmp[24]
    cdef size_t n = rdb_in_string(in_, tmp, &p)
    cdef Z z
    if in_.bad or not lp_valid(<const u8*>p, n):
        in_.bad = True
        return NULL
    z.a = a
    z.v = lp_copy(a, <u8*>p)
    z.enc = ENC_LISTPACK
    if not listpack_good(a, <u8*>z.v):
        arena_free(a, z.v)
        in_.bad = True
        return NULL
    if lp_len(<u8*>z.v) >> 1 > <u64>conf.zset_max_listpack_entries:
        convert(&z, 0)
    enc[0] = z.enc
    return z.v


def _register():
    cdef TypeOps* ops = &type_ops[TYPE_ZSET]
    ops.free = ops_free
    ops.blocks = ops_blocks
    ops.length = ops_length
    ops.bytes = ops_bytes
    ops.copy = ops_copy
    ops.walk = ops_walk
    ops.rdb_type = ops_rdb_type
    ops.save = ops_save
    load_ops[RDB_TYPE_ZSET].load = load_ops[RDB_TYPE_ZSET_2].load = load_pairs
    load_ops[RDB_TYPE_ZSET_LISTPACK].load = load_listpack
    for kind in (RDB_TYPE_ZSET, RDB_TYPE_ZSET_2, RDB_TYPE_ZSET_LISTPACK):
        load_ops[<int>kind].type_ = TYPE_ZSET


_register()
