# slotring: data plane
"""Sets' values; see setvalue.pxd. When a set changes its encoding is Valkey's rule, to the last element."""
from libc.string cimport memcpy
from engine.defs cimport *
from engine.store cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_usable
from engine.conf cimport conf
from engine.hashing cimport hash_bytes
from engine.intset cimport *
from engine.listpack cimport *
from engine.members cimport *
from engine.numbers cimport parse_i64
from engine.rdbio cimport *
from engine.reply cimport write_i64, digits10

cdef enum:
    INT_TEXT_MAX = 20
    LP_INT_MOST = 10               # bytes that an integer takes in a listpack at most
    EXPECT_MOST = 1 << 30


# ---- making, freeing, converting

cdef inline u64 intset_most() noexcept nogil:
    return <u64>conf.set_max_intset_entries if conf.set_max_intset_entries < IS_LEN_MAX else IS_LEN_MAX


cdef void set_new(SetRef* r, Arena* a, int enc) noexcept nogil:
    """An empty set."""
    r.arena = a
    r.enc = enc
    if enc == ENC_INTSET:
        r.value = is_new(a)
    elif enc == ENC_LISTPACK:
        r.value = lp_new(a, 0)
    else:
        r.value = arena_alloc(a, sizeof(Members))
        members_init(<Members*>r.value)


cdef void set_new_for(SetRef* r, Arena* a, const char* s, size_t n, u64 expect) noexcept nogil:
    """An empty set that will get about `expect` elements, the first of them s."""
    cdef i64 v
    if expect <= <u64>conf.set_max_intset_entries and n <= INT_TEXT_MAX and parse_i64(s, n, &v):
        set_new(r, a, ENC_INTSET)
    elif expect <= <u64>conf.set_max_listpack_entries:
        set_new(r, a, ENC_LISTPACK)
    else:
        set_new(r, a, ENC_HASHTABLE)


cdef void set_free(SetRef* r) noexcept nogil:
    """The value of a set that is no key's."""
    cdef i64 budget = 1 << 62
    if r.enc == ENC_HASHTABLE:
        members_free(r.arena, <Members*>r.value, &budget)
    arena_free(r.arena, r.value)


cdef inline void table_add(Arena* a, Members* t, const char* s, size_t n) noexcept nogil:
    """A member that is not there."""
    members_add(a, t, cell_new(a, s, n, NULL, 0, -1, NULL), hash_bytes(s, n))


cdef void set_convert(SetRef* r, int enc, u64 expect) noexcept nogil:
    """To ENC_LISTPACK (from an intset) or ENC_HASHTABLE, with room for about `expect` elements."""
    cdef SetRef old = r[0]
    cdef SetWalk w
    cdef LpValue v
    cdef char tmp[24]
    cdef Members* t
    set_new(r, old.arena, enc)
    set_walk(&old, &w)
    if enc == ENC_LISTPACK:
        while set_next(&w, &v):
            r.value = lp_append_int(r.arena, <u8*>r.value, v.v)
    else:
        t = <Members*>r.value
        members_expect(r.arena, t, <u32>(expect if expect < EXPECT_MOST else EXPECT_MOST))
        while set_next(&w, &v):
            if v.s == NULL:
                v.n = write_i64(tmp, v.v) & 31
                v.s = tmp
            table_add(r.arena, t, v.s, v.n)
    set_free(&old)


cdef void set_expect(SetRef* r, u64 more) noexcept nogil:
    """So many elements are about to be added: become a table at once if that is what it comes to."""
    if (r.enc == ENC_LISTPACK and more > <u64>conf.set_max_listpack_entries) or \
            (r.enc == ENC_INTSET and more > <u64>conf.set_max_intset_entries):
        set_convert(r, ENC_HASHTABLE, set_size(r))


cdef void set_to_intset(SetRef* r) noexcept nogil:
    cdef SetRef old = r[0]
    cdef SetWalk w
    cdef LpValue v
    cdef bint fresh
    if old.enc == ENC_INTSET or set_size(&old) > intset_most():
        return
    set_new(r, old.arena, ENC_INTSET)
    set_walk(&old, &w)
    while set_next(&w, &v):
        if v.s != NULL:
            parse_i64(v.s, v.n, &v.v)
        r.value = is_add(r.arena, <u8*>r.value, v.v, &fresh)
    set_free(&old)


cdef void set_shrink(SetRef* r) noexcept nogil:
    if r.enc == ENC_LISTPACK:
        r.value = lp_shrink(r.arena, <u8*>r.value)


# ---- elements

cdef bint set_has(SetRef* r, const char* s, size_t n) noexcept nogil:
    """Is this string an element?"""
    cdef i64 v
    cdef u32 place
    if r.enc == ENC_HASHTABLE:
        return members_find(<Members*>r.value, s, n, hash_bytes(s, n)) != NULL
    if r.enc == ENC_LISTPACK:
        return lp_find(<u8*>r.value, lp_first(<u8*>r.value), s, n, 0) != NULL
    return n <= INT_TEXT_MAX and parse_i64(s, n, &v) and is_find(<u8*>r.value, v, &place)


cdef bint set_has_value(SetRef* r, LpValue* v) noexcept nogil:
    cdef u32 place
    cdef char tmp[24]
    if v.s != NULL:
        return set_has(r, v.s, v.n)
    if r.enc == ENC_INTSET:
        return is_find(<u8*>r.value, v.v, &place)
    return set_has(r, tmp, write_i64(tmp, v.v) & 31)


cdef bint add_int(SetRef* r, i64 v) noexcept nogil:
    """To an intset, which may have to become a table."""
    cdef bint fresh
    r.value = is_add(r.arena, <u8*>r.value, v, &fresh)
    if fresh and unlikely(is_len(<u8*>r.value) > intset_most()):
        set_convert(r, ENC_HASHTABLE, is_len(<u8*>r.value))
    return fresh


cdef inline u64 text_length(i64 v) noexcept nogil:
    return digits10(<u64>v) if v >= 0 else 1 + digits10(<u64>0 - <u64>v)


cdef void leave_intset(SetRef* r, size_t n) noexcept nogil:
    """A string of n bytes that is no integer comes to an intset: become a listpack if all fits in there."""
    cdef u8* s = <u8*>r.value
    cdef u64 count = is_len(s), longest = 0, last
    if count:
        longest = text_length(is_get(s, 0))
        last = text_length(is_get(s, <u32>count - 1))
        longest = last if last > longest else longest
    if count < <u64>conf.set_max_listpack_entries and n <= <u64>conf.set_max_listpack_value and \
            longest <= <u64>conf.set_max_listpack_value and lp_fits(NULL, count * LP_INT_MOST + n):
        set_convert(r, ENC_LISTPACK, count + 1)
    else:
        set_convert(r, ENC_HASHTABLE, count + 1)


cdef bint set_add(SetRef* r, const char* s, size_t n) noexcept nogil:
    """Add a string (not in the set's own memory)."""
    cdef u64 hash
    cdef i64 v
    cdef u8* lp
    if r.enc == ENC_HASHTABLE:
        hash = hash_bytes(s, n)
        if members_find(<Members*>r.value, s, n, hash) != NULL:
            return False
        members_add(r.arena, <Members*>r.value, cell_new(r.arena, s, n, NULL, 0, -1, NULL), hash)
        return True
    if r.enc == ENC_INTSET:
        if n <= INT_TEXT_MAX and parse_i64(s, n, &v):
            return add_int(r, v)
        leave_intset(r, n)
    else:
        lp = <u8*>r.value
        if lp_find(lp, lp_first(lp), s, n, 0) != NULL:
            return False
        if lp_len(lp) >= <u64>conf.set_max_listpack_entries or n > <u64>conf.set_max_listpack_value or \
                not lp_fits(lp, n):
            set_convert(r, ENC_HASHTABLE, lp_len(lp) + 1)
    # whatever it has become: s is not in there
    if r.enc == ENC_LISTPACK:
        r.value = lp_append(r.arena, <u8*>r.value, s, n)
    else:
        table_add(r.arena, <Members*>r.value, s, n)
    return True


cdef bint set_add_value(SetRef* r, LpValue* v) noexcept nogil:
    cdef char tmp[24]
    if v.s != NULL:
        return set_add(r, v.s, v.n)
    if r.enc == ENC_INTSET:
        return add_int(r, v.v)
    return set_add(r, tmp, write_i64(tmp, v.v) & 31)


cdef bint set_remove(SetRef* r, const char* s, size_t n) noexcept nogil:
    """Remove a string (not in the set's own memory). The set may be empty then."""
    cdef bint found
    cdef i64 v
    cdef u64 hash, cell
    cdef u64* at
    cdef u8* p
    if r.enc == ENC_HASHTABLE:
        hash = hash_bytes(s, n)
        at = members_find(<Members*>r.value, s, n, hash)
        if at == NULL:
            return False
        cell = at[0]
        members_remove(r.arena, <Members*>r.value, at, hash)
        cell_free(r.arena, cell)
        return True
    if r.enc == ENC_LISTPACK:
        p = lp_find(<u8*>r.value, lp_first(<u8*>r.value), s, n, 0)
        if p == NULL:
            return False
        r.value = lp_delete(r.arena, <u8*>r.value, p, NULL)
        return True
    if n > INT_TEXT_MAX or not parse_i64(s, n, &v):
        return False
    r.value = is_remove(r.arena, <u8*>r.value, v, &found)
    return found


cdef bint set_remove_value(SetRef* r, LpValue* v) noexcept nogil:
    cdef bint found
    cdef char tmp[24]
    if v.s != NULL:
        return set_remove(r, v.s, v.n)
    if r.enc == ENC_INTSET:
        r.value = is_remove(r.arena, <u8*>r.value, v.v, &found)
        return found
    return set_remove(r, tmp, write_i64(tmp, v.v) & 31)


# ---- walking

cdef void set_walk(SetRef* r, SetWalk* w) noexcept nogil:
    """Go before the first element."""
    w.enc = r.enc
    w.p = <u8*>r.value
    w.index = 0
    if r.enc == ENC_LISTPACK:
        w.p += LP_HEADER
    elif r.enc == ENC_HASHTABLE:
        members_walk(<Members*>r.value, &w.w)


cdef bint set_next(SetWalk* w, LpValue* v) noexcept nogil:
    """The next element, in the set's own memory."""
    cdef u64* cell
    if w.enc == ENC_HASHTABLE:
        cell = members_walk_next(&w.w)
        if cell == NULL:
            return False
        v.n = cell_key(cell, &v.s)
        return True
    if w.enc == ENC_INTSET:
        if w.index >= is_len(w.p):
            return False
        v.s = NULL
        v.v = is_get(w.p, w.index)
        w.index += 1
        return True
    if w.p[0] == LP_EOF:
        return False
    lp_get(w.p, v)
    w.p = lp_skip(w.p)
    return True


# ---- what the rest of the server asks of a set

cdef bint op_free(Arena* a, Entry* e, i64* budget) noexcept nogil:
    cdef void* value = value_ptr(e)[0]
    if entry_enc(e) == ENC_HASHTABLE and not members_free(a, <Members*>value, budget):
        return False
    budget[0] -= 1
    arena_free(a, value)
    return True


cdef u64 op_blocks(Entry* e) noexcept nogil:
    cdef Members* t = <Members*>value_ptr(e)[0]
    return 1 if entry_enc(e) != ENC_HASHTABLE else 1 + t.nbuckets + <u64>t.count


cdef u64 op_length(Entry* e) noexcept nogil:
    cdef SetRef r
    r.value = value_ptr(e)[0]
    r.enc = entry_enc(e)
    return set_size(&r)


cdef u64 op_bytes(Entry* e, i64 samples) noexcept nogil:
    cdef void* value = value_ptr(e)[0]
    cdef u64 n = arena_usable(value)
    return n if entry_enc(e) != ENC_HASHTABLE else n + members_bytes(<Members*>value, samples)


cdef void* op_copy(Arena* to, Entry* e) noexcept nogil:
    cdef void* value = value_ptr(e)[0]
    cdef Members* t
    if entry_enc(e) == ENC_INTSET:
        return is_copy(to, <u8*>value)
    if entry_enc(e) == ENC_LISTPACK:
        return lp_copy(to, <u8*>value)
    t = <Members*>arena_alloc(to, sizeof(Members))
    members_copy(to, <Members*>value, t)
    return t


cdef void op_walk(Entry* e, element_fn fn, void* arg) noexcept nogil:
    cdef SetRef r
    cdef SetWalk w
    cdef LpValue v
    cdef Element el
    cdef char tmp[24]
    r.value = value_ptr(e)[0]
    r.enc = entry_enc(e)
    el.v = NULL
    el.vn = 0
    el.score = 0
    el.expire_ms = -1
    set_walk(&r, &w)
    while set_next(&w, &v):
        el.s = v.s
        el.n = v.n
        if v.s == NULL:
            el.s = tmp
            el.n = write_i64(tmp, v.v) & 31
        if not fn(arg, &el):
            return


cdef int op_rdb_type(Entry* e) noexcept nogil:
    if entry_enc(e) == ENC_INTSET:
        return RDB_TYPE_SET_INTSET
    return RDB_TYPE_SET_LISTPACK if entry_enc(e) == ENC_LISTPACK else RDB_TYPE_SET


cdef void op_save(RdbOut* o, Entry* e) noexcept nogil:
    cdef void* value = value_ptr(e)[0]
    cdef MemberWalk w
    cdef u64* cell
    cdef const char* s
    cdef size_t n
    if entry_enc(e) == ENC_INTSET:
        rdb_out_string(o, <const char*>value, is_bytes(<u8*>value))
        return
    if entry_enc(e) == ENC_LISTPACK:
        rdb_out_string(o, <const char*>value, lp_bytes(<u8*>value))
        return
    rdb_out_length(o, (<Members*>value).count)
    members_walk(<Members*>value, &w)
    cell = members_walk_next(&w)
    while cell != NULL:
        n = cell_key(cell, &s)
        rdb_out_string(o, s, n)
        cell = members_walk_next(&w)


# ---- reading from RDB: nothing that is read can be trusted

cdef void* loaded(SetRef* r, RdbIn* in_, int* enc) noexcept nogil:
    """Hand the value out, or free it where something was wrong."""
    if in_.bad or set_size(r) == 0:
        in_.bad = True
        set_free(r)
        return NULL
    enc[0] = r.enc
    return r.value


cdef void load_first(SetRef* r, u64 len_, size_t longest, size_t sum_) noexcept nogil:
    """The first element that is no integer came (longest, sum_: of the elements' bytes, this one's too)."""
    if set_size(r) < <u64>conf.set_max_listpack_entries and longest <= <u64>conf.set_max_listpack_value and \
            lp_fits(NULL, sum_):
        set_convert(r, ENC_LISTPACK, len_)
    else:
        set_convert(r, ENC_HASHTABLE, len_)


cdef void* load_set(Arena* a, RdbIn* in_, int rdb_type, int* enc, u32* flags, i64 now_ms) noexcept nogil:
    """Strings, one by one."""
    cdef SetRef r
    cdef u64 len_ = rdb_in_length(in_), i
    cdef size_t n, longest = 0, sum_ = 0
    cdef const char* s
    cdef char tmp[24]
    cdef i64 v
    if in_.bad or len_ > rdb_in_left(in_) or len_ == 0:    # an element takes a byte at least
        in_.bad = True
        return NULL
    set_new(&r, a, ENC_HASHTABLE if len_ > intset_most() else ENC_INTSET)
    if r.enc == ENC_HASHTABLE:
        members_expect(a, <Members*>r.value, <u32>(len_ if len_ < EXPECT_MOST else EXPECT_MOST))
    for i in range(len_):
        n = rdb_in_string(in_, tmp, &s)
        if in_.bad:
            break
        sum_ += n
        longest = n if n > longest else longest
        if r.enc == ENC_INTSET and not (n <= INT_TEXT_MAX and parse_i64(s, n, &v)):
            load_first(&r, len_, longest, sum_)
        if not set_add(&r, s, n):
            in_.bad = True                                 # twice the same
            break
    return loaded(&r, in_, enc)


cdef void* load_intset(Arena* a, RdbIn* in_, int rdb_type, int* enc, u32* flags, i64 now_ms) noexcept nogil:
    cdef SetRef r
    cdef const char* s
    cdef char tmp[24]
    cdef size_t n = rdb_in_string(in_, tmp, &s)
    if in_.bad or not is_valid(<const u8*>s, n):
        in_.bad = True
        return NULL
    r.arena = a
    r.enc = ENC_INTSET
    r.value = arena_alloc(a, n)
    memcpy(r.value, s, n)
    if is_len(<u8*>r.value) > <u64>conf.set_max_intset_entries:
        set_convert(&r, ENC_HASHTABLE, is_len(<u8*>r.value))
    return loaded(&r, in_, enc)


cdef void* load_listpack(Arena* a, RdbIn* in_, int rdb_type, int* enc, u32* flags, i64 now_ms) noexcept nogil:
    cdef SetRef r
    cdef const char* s
    cdef char tmp[24]
    cdef size_t n = rdb_in_string(in_, tmp, &s)
    if in_.bad or not lp_valid(<const u8*>s, n):
        in_.bad = True
        return NULL
    r.arena = a
    r.enc = ENC_LISTPACK
    r.value = arena_alloc(a, n)
    memcpy(r.value, s, n)
    if not lp_distinct(<u8*>r.value, 0):
        in_.bad = True
    elif lp_len(<u8*>r.value) > <u64>conf.set_max_listpack_entries:
        set_convert(&r, ENC_HASHTABLE, lp_len(<u8*>r.value))
    return loaded(&r, in_, enc)


type_ops[TYPE_SET].free = op_free
type_ops[TYPE_SET].blocks = op_blocks
type_ops[TYPE_SET].length = op_length
type_ops[TYPE_SET].bytes = op_bytes
type_ops[TYPE_SET].copy = op_copy
type_ops[TYPE_SET].walk = op_walk
type_ops[TYPE_SET].rdb_type = op_rdb_type
type_ops[TYPE_SET].save = op_save
load_ops[RDB_TYPE_SET].load = load_set
load_ops[RDB_TYPE_SET].type_ = TYPE_SET
load_ops[RDB_TYPE_SET_INTSET].load = load_intset
load_ops[RDB_TYPE_SET_INTSET].type_ = TYPE_SET
load_ops[RDB_TYPE_SET_LISTPACK].load = load_listpack
load_ops[RDB_TYPE_SET_LISTPACK].type_ = TYPE_SET
