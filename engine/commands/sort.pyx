# slotring: data plane
"""SORT and SORT_RO.

Elements are copied out of the value first, since looking up what BY and GET name may change it (an expired key is
deleted) and an element may only exist as a number. BY and GET with a pattern reach any key: such a command holds every
partition; any other only those of its key and of STORE's."""
from libc.stdlib cimport malloc, realloc, free
from libc.string cimport memcpy, memchr
from engine.defs cimport *
from engine.command cimport Ctx, Arg, arg_is, register, commands
from engine.commands.keys cimport int_arg
from engine.conf cimport conf
from engine.events cimport *
from engine.glob cimport glob_slot
from engine.hash cimport hash_get
from engine.hashing cimport key_slot
from engine.keyspace cimport *
from engine.multikey cimport KEY_BATCH, keys_batch
from engine.numbers cimport parse_i64
from engine.quicklist cimport *
from engine.reply cimport *
from engine.sortvec cimport *
from engine.store cimport *
from engine.zset cimport Z, ZItem, ZWalk, z_next, z_walk

cdef extern from "<string.h>" nogil:
    void* memmem(const void*, size_t, const void*, size_t)
cdef extern from "<locale.h>" nogil:
    char* setlocale(int, const char*)
    int LC_COLLATE

cdef enum:
    GET_ITSELF = 0             # "#"
    GET_NOTHING = 1            # no '*' in it: always missing
    GET_STRING = 2
    GET_FIELD = 3              # key->field

    ELEMENT_EXTRA = 16         # more than a listpack adds to an element's bytes

cdef struct Pattern:           # of BY or GET: before * between [-> field]
    int kind
    const char* before
    size_t before_n
    const char* between
    size_t between_n
    const char* field
    size_t field_n

cdef struct SortArgs:
    bint desc
    bint alpha
    bint unsorted              # BY a pattern without '*'
    bint any_key               # BY or GET reach keys that only the elements tell
    Arg* by                    # NULL: by the element
    i64 store                  # place of STORE's key; 0: none
    i64 offset
    i64 count                  # -1: all
    Pattern* gets
    i64 ngets

cdef struct Batch:             # keys that a pattern makes of some elements, looked up together
    Arg args[KEY_BATCH]
    Key keys[KEY_BATCH]
    i64 place[KEY_BATCH]       # of each of the batch's results in keys; -1: no key
    char* text                 # the keys' names
    size_t room
    char tmp[24]

cdef struct Wanted:            # elements from..to of a walk
    SortVec* v
    i64 at
    i64 from_
    i64 to
    bint failed


# ---- arguments

cdef void pattern_of(Arg* a, Pattern* p) noexcept nogil:
    """Take a pattern apart; as in Valkey, what is behind a NUL is only ever copied."""
    cdef const char* nul = <const char*>memchr(a.ptr, 0, a.len)
    cdef size_t n = a.len if nul == NULL else <size_t>(nul - a.ptr)
    cdef const char* end = a.ptr + a.len
    cdef const char* star = <const char*>memchr(a.ptr, c'*', n)
    cdef const char* arrow
    if n == 1 and a.ptr[0] == c'#':
        p.kind = GET_ITSELF
        return
    if star == NULL:
        p.kind = GET_NOTHING
        return
    p.kind = GET_STRING
    p.before = a.ptr
    p.before_n = star - a.ptr
    p.between = star + 1
    p.between_n = end - star - 1
    arrow = <const char*>memmem(star + 1, a.ptr + n - star - 1, <const char*>b"->", 2)
    if arrow != NULL and arrow + 2 < a.ptr + n:
        p.kind = GET_FIELD
        p.between_n = arrow - star - 1
        p.field = arrow + 2
        p.field_n = end - arrow - 2


cdef bint add_get(SortArgs* s, Arg* a, bint keep) noexcept nogil:
    """One more GET; False: no memory."""
    cdef Pattern one
    cdef Pattern* more
    pattern_of(a, &one)
    if one.kind >= GET_STRING:
        s.any_key = True
    if keep and s.ngets & (s.ngets - 1) == 0:
        more = <Pattern*>realloc(s.gets, (2 * s.ngets + 1) * sizeof(Pattern))
        if more == NULL:
            return False
        s.gets = more
    if keep:
        s.gets[s.ngets] = one
    s.ngets += 1
    return True


cdef bint slot_strays(Arg* argv, Arg* pattern) noexcept nogil:
    """In cluster mode: may the pattern's keys have another slot than the key that is sorted?"""
    return conf.cluster and glob_slot(pattern.ptr, pattern.len) != <int>key_slot(argv[1].ptr, argv[1].len)


cdef bint has_star(Arg* a) noexcept nogil:
    cdef Pattern p
    pattern_of(a, &p)
    return p.kind >= GET_STRING


cdef const char* sort_parse(Arg* argv, i64 argc, bint keep, SortArgs* s) noexcept nogil:
    """Read the options; NULL or the text of an error. keep: s.gets is wanted, and the caller's to free."""
    cdef i64 i = 2, left
    s.desc = s.alpha = s.unsorted = s.any_key = False
    s.by = NULL
    s.gets = NULL
    s.store = s.offset = s.ngets = 0
    s.count = -1
    while i < argc:
        left = argc - i - 1
        if arg_is(&argv[i], b"asc", 3):
            s.desc = False
        elif arg_is(&argv[i], b"desc", 4):
            s.desc = True
        elif arg_is(&argv[i], b"alpha", 5):
            s.alpha = True
        elif left >= 2 and arg_is(&argv[i], b"limit", 5):
            if not (parse_i64(argv[i + 1].ptr, argv[i + 1].len, &s.offset)
                    and parse_i64(argv[i + 2].ptr, argv[i + 2].len, &s.count)):
                return b"ERR value is not an integer or out of range"
            i += 2
        elif left >= 1 and argv[0].len == 4 and arg_is(&argv[i], b"store", 5):
            i += 1
            s.store = i
        elif left >= 1 and arg_is(&argv[i], b"by", 2):
            i += 1
            s.by = &argv[i]
            if has_star(s.by):
                if slot_strays(argv, s.by):
                    return (b"ERR BY option of SORT denied in Cluster mode when keys formed by the pattern may be in "
                            b"different slots.")
                s.any_key = True
            else:
                s.unsorted = True
        elif left >= 1 and arg_is(&argv[i], b"get", 3):
            i += 1
            if not (argv[i].len == 1 and argv[i].ptr[0] == c'#') and slot_strays(argv, &argv[i]):
                return (b"ERR GET option of SORT denied in Cluster mode when keys formed by the pattern may be in "
                        b"different slots.")
            if not add_get(s, &argv[i], keep):
                return b"ERR out of memory"
        else:
            return b"ERR syntax error"
        i += 1
    return NULL


cdef i64 sort_keys(Arg* argv, i64 argc, i64* places, i64 most) noexcept nogil:
    """STORE's key, which may stand anywhere, and others that only the elements tell."""
    cdef SortArgs s
    if argc < 2 or sort_parse(argv, argc, False, &s) != NULL:
        return 0
    if s.store and most > 0:
        places[0] = s.store
    if s.any_key:
        return -2 if s.store else -1
    return 1 if s.store else 0


# ---- elements

cdef bint take(void* arg, Element* el) noexcept nogil:
    """element_fn: keep the elements that are wanted."""
    cdef Wanted* w = <Wanted*>arg
    if w.at > w.to:
        return False
    if w.at >= w.from_ and not vec_add(w.v, el.s, el.n):
        w.failed = True
        return False
    w.at += 1
    return True


cdef void load_ranks(Entry* e, Wanted* w) noexcept nogil:
    """Members of a sorted set, from the rank that is wanted on."""
    cdef Z z
    cdef ZWalk walk
    cdef ZItem item
    cdef Element el
    z.a = NULL
    z.v = value_ptr(e)[0]
    z.enc = entry_enc(e)
    w.at = w.from_
    z_walk(&z, &walk, <u64>w.from_, False)
    while w.at <= w.to and z_next(&walk, &item):
        el.s = item.s
        el.n = item.n
        if not take(w, &el):
            return


cdef bint load_elements(Entry* e, SortVec* v, i64 from_, i64 to, bint backwards) noexcept nogil:
    """Elements from..to of a value; backwards: counted from its end, in that order. False: no memory."""
    cdef Wanted w
    cdef i64 n
    w.v = v
    w.at = 0
    w.failed = False
    w.from_ = from_
    w.to = to
    if backwards:
        n = <i64>type_ops[entry_type(e)].length(e)
        w.from_ = n - 1 - to
        w.to = n - 1 - from_
    if to >= from_ and entry_type(e) == TYPE_ZSET:
        load_ranks(e, &w)
    elif to >= from_:
        type_ops[entry_type(e)].walk(e, take, &w)
    if backwards:
        vec_reverse(v)
    return not w.failed


# ---- what patterns name

cdef bint batch_keys(Ctx* c, Batch* b, SortVec* v, i64* items, Pattern** patterns, i64 n) noexcept nogil:
    """Look up the keys that n patterns make of n items, at most KEY_BATCH. False: no memory."""
    cdef Arg* argv = c.argv
    cdef i64 i, used = 0
    cdef size_t need = 0, at = 0
    cdef Item* it
    cdef Pattern* p
    cdef char* text
    for i in range(n):
        if patterns[i].kind >= GET_STRING:
            need += patterns[i].before_n + patterns[i].between_n + v.items[items[i]].n
    if need > b.room:
        text = <char*>realloc(b.text, need * 2)
        if text == NULL:
            return False
        b.text = text
        b.room = need * 2
    for i in range(n):
        p = patterns[i]
        b.place[i] = -1
        if p.kind < GET_STRING:
            continue
        it = &v.items[items[i]]
        b.place[i] = used
        b.args[used].ptr = b.text + at
        b.args[used].len = p.before_n + p.between_n + it.n
        memcpy(b.text + at, p.before, p.before_n)
        memcpy(b.text + at + p.before_n, it.s, it.n)
        memcpy(b.text + at + p.before_n + it.n, p.between, p.between_n)
        at += b.args[used].len
        used += 1
    c.argv = b.args                        # keys_batch looks ahead for all of them
    keys_batch(c, 0, used, 1, b.keys)
    c.argv = argv
    return True


cdef i64 batch_value(Ctx* c, Batch* b, i64 i, Item* it, Pattern* p, const char** text) noexcept nogil:
    """The i-th of a batch: *text and its length, or -1: missing. It is good until the next look-up."""
    cdef Entry* e
    if p.kind == GET_ITSELF:
        text[0] = it.s
        return it.n
    if b.place[i] < 0:
        return -1
    e = lookup_read(c, &b.keys[b.place[i]])
    if e == NULL:
        return -1
    if p.kind == GET_STRING:
        return -1 if entry_type(e) != TYPE_STRING else <i64>string_value(e, b.tmp, text)
    return -1 if entry_type(e) != TYPE_HASH else hash_get(e, c.now_ms, p.field, p.field_n, b.tmp, text)


# ---- order

cdef bint make_rank(SortVec* v, SortArgs* s, i64 i, bint found) noexcept nogil:
    """The rank of item i, whose k and kn say what it is sorted by. False: that is no number."""
    cdef Item* it = &v.items[i]
    cdef double score = 0
    cdef bint good = True
    if s.alpha:
        v.ranks[i].key = text_key(v, it.k, it.kn)
    else:
        if found:
            good = sort_score(it.k, it.kn, &score)
        v.ranks[i].key = score_key(v, score)
    v.ranks[i].at = <u64>i
    return good


cdef const char* rank_by_pattern(Ctx* c, SortVec* v, SortArgs* s, Batch* b, bint* bad) noexcept nogil:
    """Ranks by the values that BY names; returns the text of an error, or NULL. *bad: one is no number."""
    cdef Pattern by
    cdef Pattern* patterns[KEY_BATCH]
    cdef i64 items[KEY_BATCH]
    cdef i64 at = 0, n, i, len_
    cdef Item* it
    pattern_of(s.by, &by)
    while at < v.n:
        n = v.n - at if v.n - at < KEY_BATCH else KEY_BATCH
        for i in range(n):
            patterns[i] = &by
            items[i] = at + i
        if not batch_keys(c, b, v, items, patterns, n):
            return b"ERR out of memory"
        for i in range(n):
            it = &v.items[at + i]
            len_ = batch_value(c, b, i, it, &by, &it.k)
            if len_ < 0:
                it.k = NULL
            it.kn = <u32>len_ if len_ >= 0 else 0
            if s.alpha and it.k != NULL:
                it.k = vec_keep(v, it.k, it.kn)
                if it.k == NULL:
                    return b"ERR out of memory"
            if not make_rank(v, s, at + i, it.k != NULL):
                bad[0] = True
        at += n
    return NULL


cdef const char* sort_elements(Ctx* c, SortVec* v, SortArgs* s, Batch* b, i64 from_, i64 to) noexcept nogil:
    """Put the elements in order; returns the text of an error, or NULL."""
    cdef bint bad = False
    cdef const char* error = NULL
    cdef const char* locale
    cdef i64 i
    v.ranks = <Rank*>malloc((v.n + 1) * sizeof(Rank))
    if v.ranks == NULL:
        return b"ERR out of memory"
    v.desc = s.desc
    v.mode = BY_SCORE
    if s.alpha and s.store:
        v.mode = BY_BYTES
    elif s.alpha:
        locale = setlocale(LC_COLLATE, NULL)
        v.mode = BY_C_LOCALE if locale != NULL and locale[0] == c'C' and locale[1] == 0 else BY_LOCALE
    if s.by != NULL:
        error = rank_by_pattern(c, v, s, b, &bad)
    else:
        for i in range(v.n):
            if not make_rank(v, s, i, True):
                bad = True
    if error == NULL and bad:
        error = b"ERR One or more scores can't be converted into double"
    if error == NULL:
        vec_sort(v, from_, to)
    return error


# ---- results

cdef inline i64 ordered(SortVec* v, i64 i) noexcept nogil:
    """Which item comes at place i?"""
    return i if v.ranks == NULL else <i64>v.ranks[i].at


cdef bint put_result(Ctx* c, SortVec* out, const char* text, i64 n) noexcept nogil:
    """Reply one result (n -1: missing), or keep it for STORE (out). False: no memory."""
    if out != NULL:
        return vec_add(out, text, <size_t>n) if n >= 0 else vec_add(out, b"", 0)
    if n >= 0:
        reply_bulk(c.out, text, <size_t>n)
    else:
        reply_null(c.out, c.resp)
    return True


cdef bint give_results(Ctx* c, SortVec* v, SortArgs* s, Batch* b, i64 from_, i64 to, SortVec* out) noexcept nogil:
    """The elements from..to, or what GET makes of each: replied, or kept in out. False: no memory."""
    cdef Pattern* patterns[KEY_BATCH]
    cdef i64 items[KEY_BATCH]
    cdef i64 i, n, len_, at = from_, get = 0
    cdef const char* text
    if s.ngets == 0:
        for i in range(from_, to + 1):
            n = ordered(v, i)
            if not put_result(c, out, v.items[n].s, v.items[n].n):
                return False
        return True
    while at <= to:
        n = 0
        while n < KEY_BATCH and at <= to:
            patterns[n] = &s.gets[get]
            items[n] = ordered(v, at)
            n += 1
            get += 1
            if get == s.ngets:
                get = 0
                at += 1
        if not batch_keys(c, b, v, items, patterns, n):
            return False
        for i in range(n):
            text = NULL
            len_ = batch_value(c, b, i, &v.items[items[i]], patterns[i], &text)
            if not put_result(c, out, text, len_):
                return False
    return True


cdef void store_list(Ctx* c, Key* dst, SortVec* out) noexcept nogil:
    """A new list of the results."""
    cdef Entry* e = key_put_value(c, dst, TYPE_LIST, ENC_LISTPACK, list_new(&dst.part.arena, 0))
    cdef List l
    cdef size_t bytes = 0
    cdef i64 i
    list_open(&l, &dst.part.arena, e)
    for i in range(out.n):
        bytes += out.items[i].n + ELEMENT_EXTRA
    list_will_grow(&l, bytes, <u64>out.n)
    for i in range(out.n):
        list_push(&l, out.items[i].s, out.items[i].n, False)
    list_shrunk(&l, False)                 # the estimate may have been too high
    list_close(&l)


cdef void store_results(Ctx* c, SortArgs* s, SortVec* out) noexcept nogil:
    """Make STORE's key a list of the results, or delete it where there is none; replies how many."""
    cdef Key dst
    key_init(c, &dst, &c.argv[s.store])
    if out.n:
        lookup_write(c, &dst)
        store_list(c, &dst, out)
        key_changed(c, &dst, N_LIST, b"sortstore")
        c.dirty += out.n
    elif table_find(&dst) != NULL:     # even one that has expired
        key_delete(c, &dst)
        key_changed(c, &dst, N_GENERIC, b"del")
        c.dirty += 1
    reply_int(c.out, out.n)




# ---- commands

cdef const char* sort_value(Ctx* c, Entry* e, SortArgs* s, SortVec* v, Batch* b, i64 n) noexcept nogil:
    """SORT of a value of n elements (e NULL: none); returns the text of an error, or NULL."""
    cdef i64 from_ = min(max(s.offset, 0), n), to, part
    cdef i64 count = min(max(s.count, -1), n)
    cdef bint backwards = False
    cdef const char* error = NULL
    cdef SortVec out
    to = n - 1 if count < 0 else from_ + count - 1
    if from_ >= n:
        from_ = n - 1
        to = n - 2
    if to >= n:
        to = n - 1
    part = to - from_ + 1
    if s.unsorted and e != NULL and entry_type(e) != TYPE_SET:
        if not load_elements(e, v, from_, to, s.desc):   # only what is wanted, in its own order
            return b"ERR out of memory"
        to -= from_
        from_ = 0
    elif e != NULL and not load_elements(e, v, 0, n - 1, False):
        return b"ERR out of memory"
    if not s.unsorted:
        error = sort_elements(c, v, s, b, from_, to)
        if error != NULL:
            return error
    if s.store == 0:
        reply_array(c.out, part * (s.ngets if s.ngets else 1))
        give_results(c, v, s, b, from_, to, NULL)
        return NULL
    if not vec_init(&out, part):
        return b"ERR out of memory"
    if give_results(c, v, s, b, from_, to, &out):
        store_results(c, s, &out)
    else:
        error = b"ERR out of memory"
    vec_free(&out)
    return error


cdef void cmd_sort(Ctx* c) noexcept nogil:
    cdef SortArgs s
    cdef SortVec v
    cdef Batch b
    cdef Entry* e
    cdef i64 n = 0
    cdef const char* error = sort_parse(c.argv, c.argc, True, &s)
    if error != NULL:
        reply_error(c.out, error)
        free(s.gets)
        return
    e = lookup_read(c, &c.key)
    if e != NULL and entry_type(e) != TYPE_SET and entry_type(e) != TYPE_ZSET and wrong_type(c, e, TYPE_LIST):
        free(s.gets)
        return
    if e != NULL:
        n = <i64>type_ops[entry_type(e)].length(e)
        if entry_type(e) == TYPE_SET and s.unsorted and s.store:
            s.unsorted = False             # what is stored should not depend on a table's order
            s.alpha = True
            s.by = NULL
    b.text = NULL
    b.room = 0
    if vec_init(&v, n):
        error = sort_value(c, e, &s, &v, &b, n)
        vec_free(&v)
    else:
        error = b"ERR out of memory"
    if error != NULL:
        reply_error(c.out, error)
    free(b.text)
    free(s.gets)


SORT_KEYS = "RO access"
SORT_TIME = ("O(N+M*log(M)), N the elements sorted and M those replied; O(N) where nothing is sorted")

for name, flags, since, what, acl in (
        ("sort", "write denyoom", "1.0.0", "Sorts a list, set or sorted set, and replies or stores the result.",
         "write set sortedset list slow dangerous"),
        ("sort_ro", "readonly", "7.0.0", "Sorts a list, set or sorted set.",
         "read set sortedset list slow dangerous")):
    row = register(name, -2, flags + " movablekeys lock=keys", (1, 1, 1), cmd_sort, {
        "since": since, "group": "generic", "complexity": SORT_TIME, "summary": what, "acl": acl})
    commands[<int>row["id"]].get_keys = sort_keys
