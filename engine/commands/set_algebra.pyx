# slotring: data plane
"""Intersections, unions and differences of sets, replied, stored or counted."""
from libc.stdlib cimport malloc, free, qsort
from engine.defs cimport *
from engine.store cimport *
from engine.arena cimport Arena
from engine.args cimport least_arg
from engine.command cimport Ctx, Arg, register, arg_is
from engine.commands.keys cimport out_append
from engine.events cimport *
from engine.keyspace cimport key_delete, key_put_value, lookup, lookup_read, wrong_type
from engine.listpack cimport LpValue
from engine.multikey cimport KEY_BATCH, keys_batch, row_keynum
from engine.numbers cimport parse_i64
from engine.reply cimport *
from engine.setvalue cimport *

cdef enum:
    FEW = 16                       # sets that need no memory of their own
    ASK_MOST = 3                   # a union of so many sets asks the earlier ones instead of noting what it had

cdef struct Operand:
    Entry* e                       # NULL: no such key
    u64 size
    SetRef r

cdef struct Operands:              # in the order of the arguments, until somebody sorts them
    Operand* sets
    i64 n
    i64 missing
    Operand few[FEW]


# ---- the sets that a command names

cdef void operands_free(Operands* o) noexcept nogil:
    if o.sets != o.few:
        free(o.sets)


cdef bint operands(Ctx* c, Operands* o, i64 first, i64 n) noexcept nogil:
    """Look up the n keys from argv[first] on; False: an error was replied."""
    cdef Key keys[KEY_BATCH]
    cdef Operand* s
    cdef i64 at = first, batch, i
    o.n = n
    o.missing = 0
    o.sets = o.few
    if n > FEW:
        o.sets = <Operand*>malloc(n * sizeof(Operand))
        if o.sets == NULL:
            reply_error(c.out, b"ERR out of memory")
            return False
    s = o.sets
    while at < first + n:
        batch = keys_batch(c, at, first + n, 1, keys)
        for i in range(batch):
            s.e = lookup_read(c, &keys[i])
            s.size = 0
            if s.e == NULL:
                o.missing += 1
            elif wrong_type(c, s.e, TYPE_SET):
                operands_free(o)
                return False
            else:
                set_ref(&s.r, keys[i].part, s.e)
                s.size = set_size(&s.r)
            s += 1
        at += batch
    return True


cdef int smaller_first(const void* a, const void* b) noexcept nogil:
    cdef u64 m = (<Operand*>a).size, n = (<Operand*>b).size
    return (m > n) - (m < n)


cdef int larger_first(const void* a, const void* b) noexcept nogil:
    return smaller_first(b, a)


cdef void store_result(Ctx* c, SetRef* r, const char* event) noexcept nogil:
    """The destination (the first key) becomes the set, or is deleted if that is empty; the size is replied."""
    cdef u64 size = set_size(r)
    if size:
        lookup(c, &c.key)
        key_put_value(c, &c.key, TYPE_SET, r.enc, r.value)
        key_changed(c, &c.key, N_SET, event)
        c.dirty += 1
    else:
        set_free(r)
        if table_find(&c.key) != NULL:         # even one that has expired
            key_delete(c, &c.key)
            key_changed(c, &c.key, N_GENERIC, b"del")
            c.dirty += 1
    reply_int(c.out, <i64>size)


# ---- intersections

cdef inline bint in_others(Operands* o, LpValue* v) noexcept nogil:
    """Is an element of the first set in all others?"""
    cdef i64 i
    for i in range(1, o.n):
        if o.sets[i].e != o.sets[0].e and not set_has_value(&o.sets[i].r, v):
            return False
    return True


cdef void cmd_sinter(Ctx* c) noexcept nogil:
    cdef Operands o
    cdef SetWalk w
    cdef LpValue v
    cdef OutBuf found
    cdef i64 n = 0
    if not operands(c, &o, 1, c.argc - 1):
        return
    if o.missing == 0:
        qsort(o.sets, o.n, sizeof(Operand), smaller_first)
        out_init(&found, c.out.pool)
        set_walk(&o.sets[0].r, &w)
        while set_next(&w, &v):
            if in_others(&o, &v):
                reply_value(&found, &v)
                n += 1
        reply_set(c.out, c.resp, n)
        out_append(c.out, &found)
    else:
        reply_set(c.out, c.resp, 0)
    operands_free(&o)


cdef void cmd_sintercard(Ctx* c) noexcept nogil:
    cdef Operands o
    cdef SetWalk w
    cdef LpValue v
    cdef i64 keys, limit = 0, n = 0, i
    if not least_arg(c, &c.argv[1], &keys, 1, b"ERR numkeys should be greater than 0"):
        return
    if keys > c.argc - 2:
        reply_error(c.out, b"ERR Number of keys can't be greater than number of args")
        return
    i = keys + 2
    while i < c.argc:
        if not arg_is(&c.argv[i], b"limit", 5) or i + 1 == c.argc:
            reply_error(c.out, b"ERR syntax error")
            return
        if not least_arg(c, &c.argv[i + 1], &limit, 0, b"ERR LIMIT can't be negative"):
            return
        i += 2
    if not operands(c, &o, 2, keys):
        return
    if o.missing == 0:
        qsort(o.sets, o.n, sizeof(Operand), smaller_first)
        set_walk(&o.sets[0].r, &w)
        while set_next(&w, &v) and (limit == 0 or n < limit):
            n += in_others(&o, &v)
    reply_int(c.out, n)
    operands_free(&o)


cdef void intersect(Operands* o, SetRef* to) noexcept nogil:
    """Into a fresh set, which becomes an intset wherever that is possible."""
    cdef SetWalk w
    cdef LpValue v
    cdef i64 number
    cdef bint integers = True
    cdef int enc = o.sets[0].r.enc
    set_new(to, to.arena, ENC_INTSET if enc == ENC_INTSET else ENC_LISTPACK)
    set_walk(&o.sets[0].r, &w)
    while set_next(&w, &v):
        if in_others(o, &v):
            if v.s != NULL and integers:
                integers = enc == ENC_HASHTABLE and parse_i64(v.s, v.n, &number)
            set_add_value(to, &v)
    if set_size(to) and integers:
        set_to_intset(to)
    set_shrink(to)


cdef void cmd_sinterstore(Ctx* c) noexcept nogil:
    cdef Operands o
    cdef SetRef r
    if not operands(c, &o, 2, c.argc - 2):
        return
    r.arena = &c.key.part.arena
    if o.missing == 0:
        qsort(o.sets, o.n, sizeof(Operand), smaller_first)
        intersect(&o, &r)
    else:
        set_new(&r, r.arena, ENC_INTSET)
    operands_free(&o)
    store_result(c, &r, b"sinterstore")


# ---- unions

cdef void add_all(SetRef* to, Operands* o, OutBuf* out) noexcept nogil:
    """All elements of all sets; those that are new are also replied, if out is not NULL."""
    cdef SetWalk w
    cdef LpValue v
    cdef i64 i
    for i in range(o.n):
        if o.sets[i].e == NULL:
            continue
        set_walk(&o.sets[i].r, &w)
        while set_next(&w, &v):
            if set_add_value(to, &v) and out != NULL:
                reply_value(out, &v)


cdef inline bint in_earlier(Operands* o, i64 j, LpValue* v) noexcept nogil:
    """Is an element of set j in one before it?"""
    cdef i64 i
    for i in range(j):
        if o.sets[i].e != NULL and set_has_value(&o.sets[i].r, v):
            return True
    return False


cdef i64 union_by_asking(Operands* o, OutBuf* out) noexcept nogil:
    """Reply the union of a few sets; returns its size."""
    cdef SetWalk w
    cdef LpValue v
    cdef i64 i, n = 0
    for i in range(o.n):
        if o.sets[i].e == NULL:
            continue
        set_walk(&o.sets[i].r, &w)
        while set_next(&w, &v):
            if not in_earlier(o, i, &v):
                reply_value(out, &v)
                n += 1
    return n


cdef void cmd_sunion(Ctx* c) noexcept nogil:
    cdef Operands o
    cdef SetRef r
    cdef OutBuf found
    cdef i64 n
    if not operands(c, &o, 1, c.argc - 1):
        return
    out_init(&found, c.out.pool)
    if o.n - o.missing <= ASK_MOST:
        n = union_by_asking(&o, &found)
    else:
        set_new(&r, &c.key.part.arena, ENC_HASHTABLE)
        add_all(&r, &o, &found)
        n = <i64>set_size(&r)
        set_free(&r)
    reply_set(c.out, c.resp, n)
    out_append(c.out, &found)
    operands_free(&o)


cdef void cmd_sunionstore(Ctx* c) noexcept nogil:
    cdef Operands o
    cdef SetRef r
    if not operands(c, &o, 2, c.argc - 2):
        return
    set_new(&r, &c.key.part.arena, ENC_INTSET)
    add_all(&r, &o, NULL)
    operands_free(&o)
    store_result(c, &r, b"sunionstore")


# ---- differences

cdef bint diff_empty(Operands* o) noexcept nogil:
    """Is it plain that nothing will be left? There is no first set, or it is named again."""
    cdef i64 i
    for i in range(1, o.n):
        if o.sets[i].e == o.sets[0].e:
            return True
    return o.sets[0].e == NULL


cdef bint diff_by_asking(Operands* o) noexcept nogil:
    """Is it cheaper to ask the others for each element of the first set than to remove all of theirs from a copy?

    The answer also decides how the result of SDIFFSTORE is encoded: a copy that was large stays a table."""
    cdef u64 asking = 0, removing = 0
    cdef i64 i
    for i in range(o.n):
        if o.sets[i].e != NULL:
            asking += o.sets[0].size
            removing += o.sets[i].size
    return asking // 2 <= removing


cdef inline bint in_any(Operands* o, LpValue* v) noexcept nogil:
    cdef i64 i
    for i in range(1, o.n):
        if o.sets[i].e != NULL and set_has_value(&o.sets[i].r, v):
            return True
    return False


cdef void subtract(Operands* o, SetRef* to) noexcept nogil:
    """A copy of the first set, without the others' elements."""
    cdef SetWalk w
    cdef LpValue v
    cdef i64 i
    for i in range(o.n):
        if o.sets[i].e == NULL:
            continue
        set_walk(&o.sets[i].r, &w)
        while set_next(&w, &v):
            if i == 0:
                set_add_value(to, &v)
            else:
                set_remove_value(to, &v)
        if set_size(to) == 0:
            return


cdef i64 diff(Operands* o, SetRef* to, OutBuf* out) noexcept nogil:
    """The difference, replied to out or (NULL) put into the set `to`, which is an empty one; returns its size."""
    cdef SetWalk w
    cdef LpValue v
    cdef i64 n = 0
    if diff_empty(o):
        return 0
    if not diff_by_asking(o):
        subtract(o, to)
        if out != NULL:
            set_walk(to, &w)
            while set_next(&w, &v):
                reply_value(out, &v)
        return <i64>set_size(to)
    if o.n > 1:                                # what is in the largest is found soonest
        qsort(o.sets + 1, o.n - 1, sizeof(Operand), larger_first)
    set_walk(&o.sets[0].r, &w)
    while set_next(&w, &v):
        if in_any(o, &v):
            continue
        n += 1
        if out != NULL:
            reply_value(out, &v)
        else:
            set_add_value(to, &v)
    return n


cdef void cmd_sdiff(Ctx* c) noexcept nogil:
    cdef Operands o
    cdef SetRef r
    cdef OutBuf found
    if not operands(c, &o, 1, c.argc - 1):
        return
    out_init(&found, c.out.pool)
    set_new(&r, &c.key.part.arena, ENC_HASHTABLE)
    reply_set(c.out, c.resp, diff(&o, &r, &found))
    out_append(c.out, &found)
    set_free(&r)
    operands_free(&o)


cdef void cmd_sdiffstore(Ctx* c) noexcept nogil:
    cdef Operands o
    cdef SetRef r
    if not operands(c, &o, 2, c.argc - 2):
        return
    set_new(&r, &c.key.part.arena, ENC_INTSET)
    diff(&o, &r, NULL)
    operands_free(&o)
    store_result(c, &r, b"sdiffstore")


# ---- rows

def about(since, summary, acl, complexity, **more):
    """What COMMAND DOCS and ACL say of a row of this family."""
    return {"since": since, "group": "set", "complexity": complexity, "summary": summary, "acl": "set " + acl, **more}


READ = {"tips": "nondeterministic_output_order", "key_flags": ["RO access"]}
STORE = {"key_flags": ["OW update", "RO access"]}
SMALLEST = "O(N*M) at worst, N members of the smallest set, M sets"
ALL = "O(N), N members of all sets together"

register("sinter", -2, "readonly", (1, -1, 1), cmd_sinter, about(
    "1.0.0", "Lists the members that all sets have.", "read slow", SMALLEST, **READ))
row_keynum(register("sintercard", -3, "readonly movablekeys", (0, 0, 0), cmd_sintercard, about(
    "7.0.0", "Counts the members that all sets have.", "read slow", SMALLEST, key_flags=["RO access"])), 1, 2, 1)
register("sinterstore", -3, "write denyoom", (1, -1, 1), cmd_sinterstore, about(
    "1.0.0", "Stores the members that all sets have.", "write slow", SMALLEST, **STORE))
register("sunion", -2, "readonly", (1, -1, 1), cmd_sunion, about(
    "1.0.0", "Lists the members that any of the sets has.", "read slow", ALL, **READ))
register("sunionstore", -3, "write denyoom", (1, -1, 1), cmd_sunionstore, about(
    "1.0.0", "Stores the members that any of the sets has.", "write slow", ALL, **STORE))
register("sdiff", -2, "readonly", (1, -1, 1), cmd_sdiff, about(
    "1.0.0", "Lists the members of the first set that no other has.", "read slow", ALL, **READ))
register("sdiffstore", -3, "write denyoom", (1, -1, 1), cmd_sdiffstore, about(
    "1.0.0", "Stores the members of the first set that no other has.", "write slow", ALL, **STORE))
