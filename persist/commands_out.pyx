# slotring: data plane
"""Entries as commands; see commands_out.pxd.

Collections go out ITEMS_MAX elements a command. A field with an expiry is an HSETEX of its own. Keys and fields that
have expired go out like others: who reads the commands sees the same time. A stream's pending entry whose entry was
deleted is claimed like others, and whoever reads that leaves it out, as in Valkey."""
from libc.stdlib cimport abort, realloc
from libc.string cimport memcpy, strlen
from engine.defs cimport *
from engine.doubles cimport DOUBLE_CHARS, write_digits
from engine.hash cimport FieldWalk, field_next, fields_walk, hash_length
from engine.idtree cimport *
from engine.keyspace cimport string_value
from engine.listpack cimport LpValue, lp_skip, lp_text
from engine.names cimport *
from engine.rdbio cimport *
from engine.reply cimport write_i64, write_u64
from engine.setvalue cimport *
from engine.store cimport *
from engine.stream cimport *
from engine.stream_groups cimport *
from engine.zset cimport Z, ZItem, ZWalk, z_len, z_next, z_walk
from persist.rdb cimport OP_FUNCTION2, walk_table

cdef extern from "<math.h>" nogil:
    bint isinf(double)
    bint signbit(double)

cdef enum:
    ITEMS_MAX = 64                 # AOF_REWRITE_ITEMS_PER_CMD
    HEAD_MAX = 32                  # "$" and a length with its end, and the end of the string
    ID_MAX = 48
    FIRST_BYTES = 4096

cdef struct Batch:                 # a collection's elements on their way
    RdbOut* o
    Entry* e
    const char* name
    u64 left                       # elements that are still to come
    u32 now                        # elements in the command under way
    u32 words                      # an element has


# ---- words

cdef void grow(RdbOut* o, size_t n) noexcept nogil:
    cdef size_t cap = o.cap * 2 if o.cap else FIRST_BYTES
    if cap < o.len + n:
        cap = o.len + n
    o.p = <char*>realloc(o.p, cap)
    if o.p == NULL:
        abort()
    o.cap = cap


cdef inline char* room(RdbOut* o, size_t n) noexcept nogil:
    if unlikely(o.cap - o.len < n):
        grow(o, n)
    return o.p + o.len


cdef inline size_t put_head(char* p, char kind, u64 n) noexcept nogil:
    cdef size_t k
    p[0] = kind
    k = 1 + write_u64(p + 1, n)
    p[k] = c'\r'
    p[k + 1] = c'\n'
    return k + 2


cdef void word(RdbOut* o, const char* s, size_t n) noexcept nogil:
    cdef char* p = room(o, n + HEAD_MAX)
    cdef size_t k = put_head(p, c'$', n)
    memcpy(p + k, s, n)
    p[k + n] = c'\r'
    p[k + n + 1] = c'\n'
    o.len += k + n + 2


cdef inline void text(RdbOut* o, const char* s) noexcept nogil:
    word(o, s, strlen(s))


cdef void number(RdbOut* o, i64 v) noexcept nogil:
    cdef char tmp[24]
    word(o, tmp, write_i64(tmp, v))


cdef void double_word(RdbOut* o, double v) noexcept nogil:
    """As Valkey's fpconv_dtoa: not as ZSCORE's reply, where integers are printed in full."""
    cdef char tmp[DOUBLE_CHARS]
    if v == 0:
        text(o, b"-0" if signbit(v) else b"0")
    elif isinf(v):
        text(o, b"-inf" if v < 0 else b"inf")
    else:
        word(o, tmp, write_digits(tmp, v))


cdef void id_word(RdbOut* o, u64 ms, u64 seq) noexcept nogil:
    cdef char tmp[ID_MAX]
    cdef size_t n = write_u64(tmp, ms)
    tmp[n] = c'-'
    n += 1
    word(o, tmp, n + write_u64(tmp + n, seq))


cdef void begin(RdbOut* o, u64 words, const char* name) noexcept nogil:
    o.len += put_head(room(o, HEAD_MAX), c'*', words)
    text(o, name)


cdef void begin_key(RdbOut* o, u64 words, const char* name, Entry* e) noexcept nogil:
    begin(o, words, name)
    word(o, entry_key(e), entry_klen(e))


cdef inline void batch_init(Batch* b, RdbOut* o, Entry* e, const char* name, u32 words, u64 count) noexcept nogil:
    b.o = o
    b.e = e
    b.name = name
    b.words = words
    b.left = count
    b.now = 0


cdef inline void next_item(Batch* b) noexcept nogil:
    """Before each element: a command begins where that is due."""
    if b.now == 0:
        begin_key(b.o, 2 + <u64>b.words * (b.left if b.left < ITEMS_MAX else ITEMS_MAX), b.name, b.e)
    b.now += 1
    b.left -= 1
    if b.now == ITEMS_MAX:
        b.now = 0


# ---- types

cdef void put_string(RdbOut* o, Entry* e) noexcept nogil:
    cdef char tmp[24]
    cdef const char* s = NULL
    cdef size_t n = string_value(e, tmp, &s)
    begin_key(o, 3, b"SET", e)
    word(o, s, n)


cdef bint put_element(void* arg, Element* el) noexcept nogil:
    cdef Batch* b = <Batch*>arg
    next_item(b)
    word(b.o, el.s, el.n)
    return True


cdef void put_list(RdbOut* o, Entry* e) noexcept nogil:
    cdef Batch b
    batch_init(&b, o, e, b"RPUSH", 1, type_ops[TYPE_LIST].length(e))
    type_ops[TYPE_LIST].walk(e, put_element, &b)


cdef void put_set(RdbOut* o, Entry* e) noexcept nogil:
    cdef Batch b
    cdef SetRef r
    cdef SetWalk w
    cdef LpValue v
    r.arena = NULL
    r.value = value_ptr(e)[0]
    r.enc = entry_enc(e)
    batch_init(&b, o, e, b"SADD", 1, set_size(&r))
    set_walk(&r, &w)
    while set_next(&w, &v):
        next_item(&b)
        if v.s != NULL:
            word(o, v.s, v.n)
        else:
            number(o, v.v)


cdef void put_zset(RdbOut* o, Entry* e) noexcept nogil:
    cdef Batch b
    cdef Z z
    cdef ZWalk w
    cdef ZItem item
    z.a = NULL
    z.v = value_ptr(e)[0]
    z.enc = entry_enc(e)
    batch_init(&b, o, e, b"ZADD", 2, z_len(&z))
    z_walk(&z, &w, 0, False)
    while z_next(&w, &item):
        next_item(&b)
        double_word(o, item.score)
        word(o, item.s, item.n)


cdef u64 put_expiring(RdbOut* o, Entry* e) noexcept nogil:
    """The fields with an expiry; returns how many."""
    cdef FieldWalk w
    cdef u64 n = 0
    fields_walk(e, -1, &w)
    while field_next(&w):
        if w.expire_ms == -1:
            continue
        begin_key(o, 8, b"HSETEX", e)
        text(o, b"PXAT")
        number(o, w.expire_ms)
        text(o, b"FIELDS")
        number(o, 1)
        word(o, w.f, w.fn)
        word(o, w.v, w.vn)
        n += 1
    return n


cdef void put_hash(RdbOut* o, Entry* e) noexcept nogil:
    cdef Batch b
    cdef FieldWalk w
    cdef u64 count = hash_length(e)
    if e.flags & E_FIELDS:
        count -= put_expiring(o, e)
    batch_init(&b, o, e, b"HMSET", 2, count)
    fields_walk(e, -1, &w)
    while field_next(&w):
        if w.expire_ms != -1:
            continue
        next_item(&b)
        word(o, w.f, w.fn)
        word(o, w.v, w.vn)


# ---- streams

cdef void put_items(RdbOut* o, Entry* e) noexcept nogil:
    """XADD for each entry."""
    cdef StreamIter it
    cdef char tmp[24]
    cdef const char* p
    cdef u8* f
    cdef u8* v
    cdef size_t n
    cdef i64 i
    iter_start(&it, stream_of(e), 0, id_max(), False)
    while iter_next(&it):
        begin_key(o, 3 + 2 * <u64>it.fields, b"XADD", e)
        id_word(o, id_ms(it.id_), id_seq(it.id_))
        f = it.master_start
        v = it.data
        for i in range(it.fields):
            if it.flags & SAME_FIELDS:
                n = lp_text(f, tmp, &p)
                f = lp_skip(f)
            else:
                n = lp_text(v, tmp, &p)
                v = lp_skip(v)
            word(o, p, n)
            n = lp_text(v, tmp, &p)
            v = lp_skip(v)
            word(o, p, n)


cdef void put_pending(RdbOut* o, Entry* e, Group* g, Consumer* who) noexcept nogil:
    cdef IdPos pos
    cdef Pending* p
    cdef bint more = idtree_ge(&who.pending, 0, &pos)
    while more:
        p = <Pending*>pos_entry(&pos).v
        begin_key(o, 12, b"XCLAIM", e)
        word(o, g.text, g.name.len)
        word(o, who.text, who.name.len)
        number(o, 0)
        id_word(o, pos_entry(&pos).ms, pos_entry(&pos).seq)
        text(o, b"TIME")
        number(o, p.delivered_ms)
        text(o, b"RETRYCOUNT")
        number(o, <i64>p.deliveries)
        text(o, b"JUSTID")
        text(o, b"FORCE")
        more = idtree_next(&pos)


cdef void begin_group(RdbOut* o, u64 words, const char* what, Entry* e, Group* g) noexcept nogil:
    begin(o, words, b"XGROUP")
    text(o, what)
    word(o, entry_key(e), entry_klen(e))
    word(o, g.text, g.name.len)


cdef void put_group(RdbOut* o, Entry* e, Group* g) noexcept nogil:
    cdef NamesPos at
    cdef Consumer* who
    begin_group(o, 7, b"CREATE", e, g)
    id_word(o, g.last_ms, g.last_seq)
    text(o, b"ENTRIESREAD")
    number(o, g.read)
    at.block = at.at = 0
    while True:
        who = <Consumer*>names_at(&g.consumers, &at)
        if who == NULL:
            return
        if who.pending.count:
            put_pending(o, e, g, who)
        else:
            begin_group(o, 5, b"CREATECONSUMER", e, g)
            word(o, who.text, who.name.len)


cdef void put_stream(RdbOut* o, Entry* e) noexcept nogil:
    cdef Stream* s = stream_of(e)
    cdef NamesPos at
    cdef Group* g
    if s.length:
        put_items(o, e)
    else:
        begin_key(o, 7, b"XADD", e)    # an empty stream: an entry that is trimmed at once
        text(o, b"MAXLEN")
        number(o, 0)
        id_word(o, 0, 1)
        text(o, b"x")
        text(o, b"y")
    begin_key(o, 7, b"XSETID", e)
    id_word(o, s.last_ms, s.last_seq)
    text(o, b"ENTRIESADDED")
    number(o, <i64>s.added)
    text(o, b"MAXDELETEDID")
    id_word(o, s.deleted_ms, s.deleted_seq)
    at.block = at.at = 0
    while True:
        g = <Group*>names_at(&s.groups, &at)
        if g == NULL:
            return
        put_group(o, e, g)


# ---- all of it

cdef void commands_select(RdbOut* o, u32 db) noexcept nogil:
    begin(o, 2, b"SELECT")
    number(o, db)


cdef void commands_entry(RdbOut* o, Entry* e, i64 now_ms) noexcept nogil:
    cdef int t = entry_type(e)
    if t == TYPE_STRING:
        put_string(o, e)
    elif t == TYPE_LIST:
        put_list(o, e)
    elif t == TYPE_SET:
        put_set(o, e)
    elif t == TYPE_ZSET:
        put_zset(o, e)
    elif t == TYPE_HASH:
        put_hash(o, e)
    else:
        put_stream(o, e)
    if e.flags & E_EXPIRE:
        begin_key(o, 3, b"PEXPIREAT", e)
        number(o, entry_expire(e))


cdef u64 commands_table(RdbOut* o, Table* t) noexcept nogil:
    return walk_table(o, t, 0, commands_entry)


def functions(bytes libraries) -> bytes:
    """The part of an RDB file that holds function libraries, as FUNCTION LOAD commands."""
    cdef RdbIn in_
    cdef RdbOut o
    cdef char tmp[24]
    cdef const char* s = NULL
    cdef size_t n
    o.p = NULL
    o.len = o.cap = 0
    rdb_in_init(&in_, libraries, len(libraries))
    while rdb_in_left(&in_) and rdb_in_byte(&in_) == OP_FUNCTION2:
        n = rdb_in_string(&in_, tmp, &s)
        if in_.bad:
            break
        begin(&o, 3, b"FUNCTION")
        text(&o, b"LOAD")
        word(&o, s, n)
    rdb_in_done(&in_)
    found = o.p[:o.len] if o.len else b""
    rdb_out_free(&o)
    return found
