# slotring: data plane
"""Sorted sets: union, intersection and difference of sorted sets and sets.

The result is collected in the table of a fresh Zset in the arena of the destination's partition (or of the first
key's), then sorted at once by z_finish."""
from libc.stdlib cimport calloc, free, abort
from engine.defs cimport *
from engine.args cimport least_arg, long_arg
from engine.command cimport Arg, Ctx, arg_is, register
from engine.commands.zsets cimport double_arg, store_result
from engine.events cimport *
from engine.hashing cimport hash_bytes
from engine.keyspace cimport *
from engine.members cimport *
from engine.multikey cimport row_keynum
from engine.reply cimport *
from engine.setvalue cimport SetRef, set_has, set_ref
from engine.store cimport *
from engine.zset cimport *
from engine.commands.zsets import about

cdef extern from *:
    """
    #pragma GCC optimize ("fp-contract=off")
    """
    # no fused multiply-add: the last digit would differ from Valkey's

cdef extern from "<math.h>" nogil:
    bint isnan(double)

cdef enum:
    OP_UNION = 0
    OP_INTER = 1
    OP_DIFF = 2

    AGG_SUM = 0
    AGG_MIN = 1
    AGG_MAX = 2

cdef struct Source:
    Entry* e                       # NULL: missing
    u64 n
    double weight
    bint is_set
    SetRef set_
    Z z

cdef struct Job:
    Ctx* c
    Arena* a
    int op
    int aggregate
    bint with_scores
    bint count_only
    i64 limit
    i64 found                      # by count_only
    i64 n
    Source* sources
    Source* now                    # the one that is walked
    Zset* made


# ---- arguments

cdef void sort_sources(Job* j) noexcept nogil:
    """From the smallest to the largest; equal ones keep their order."""
    cdef i64 i, k
    cdef Source s
    for i in range(1, j.n):
        s = j.sources[i]
        k = i
        while k and j.sources[k - 1].n > s.n:
            j.sources[k] = j.sources[k - 1]
            k -= 1
        j.sources[k] = s


cdef bint read_sources(Job* j, i64 first) noexcept nogil:
    """Look the inputs up; False: WRONGTYPE was replied."""
    cdef i64 i
    cdef Key k
    cdef Source* s
    cdef int type_
    for i in range(j.n):
        s = &j.sources[i]
        key_init(j.c, &k, &j.c.argv[first + i])
        if i == 0 and j.a == NULL:
            j.a = &k.part.arena
        s.weight = 1
        s.e = lookup_read(j.c, &k)
        if s.e == NULL:
            continue
        type_ = entry_type(s.e)
        s.is_set = type_ == TYPE_SET
        if type_ != TYPE_ZSET and wrong_type(j.c, s.e, TYPE_SET):
            return False
        if s.is_set:
            set_ref(&s.set_, k.part, s.e)
        else:
            z_of(&s.z, &k, s.e)
        s.n = type_ops[type_].length(s.e)
    return True


cdef bint read_options(Job* j, i64 at, bint store) noexcept nogil:
    """WEIGHTS, AGGREGATE, WITHSCORES, LIMIT; False: an error was replied."""
    cdef Ctx* c = j.c
    cdef i64 i
    cdef bint plain = j.op != OP_DIFF and not j.count_only
    while at < c.argc:
        if plain and c.argc - at > j.n and arg_is(&c.argv[at], b"weights", 7):
            for i in range(j.n):
                if not double_arg(c, &c.argv[at + 1 + i], &j.sources[i].weight, b"ERR weight value is not a float"):
                    return False
            at += j.n + 1
        elif plain and c.argc - at >= 2 and arg_is(&c.argv[at], b"aggregate", 9):
            if arg_is(&c.argv[at + 1], b"sum", 3):
                j.aggregate = AGG_SUM
            elif arg_is(&c.argv[at + 1], b"min", 3):
                j.aggregate = AGG_MIN
            elif arg_is(&c.argv[at + 1], b"max", 3):
                j.aggregate = AGG_MAX
            else:
                reply_error(c.out, b"ERR syntax error")
                return False
            at += 2
        elif not store and not j.count_only and arg_is(&c.argv[at], b"withscores", 10):
            j.with_scores = True
            at += 1
        elif j.count_only and c.argc - at >= 2 and arg_is(&c.argv[at], b"limit", 5):
            if not least_arg(c, &c.argv[at + 1], &j.limit, 0, b"ERR LIMIT can't be negative"):
                return False
            at += 2
        else:
            reply_error(c.out, b"ERR syntax error")
            return False
    return True


# ---- the work

cdef inline double combine(double a, double b, int how) noexcept nogil:
    if how == AGG_SUM:
        a += b
        return 0 if isnan(a) else a
    if how == AGG_MIN:
        return b if b < a else a
    return b if b > a else a


cdef inline void collect(Job* j, const char* p, size_t n, u64 hash, double score) noexcept nogil:
    members_add(j.a, &j.made.members, cell_new(j.a, p, n, NULL, 0, -1, &score), hash)


cdef bint source_has(Source* s, const char* p, size_t n, double* score) noexcept nogil:
    if s.e == NULL:
        return False
    if s.is_set:
        score[0] = 1
        return set_has(&s.set_, p, n)
    return z_score(&s.z, p, n, score)


cdef bint visit_union(void* arg, Element* el) noexcept nogil:
    cdef Job* j = <Job*>arg
    cdef u64 hash = hash_bytes(el.s, el.n)
    cdef u64* cell = members_find(&j.made.members, el.s, el.n, hash)
    cdef double score = j.now.weight * (1.0 if j.now.is_set else el.score)
    cdef u8* item
    if isnan(score):
        score = 0
    if cell == NULL:
        collect(j, el.s, el.n, hash, score)
    else:
        item = cell_item(cell[0])
        item_set_score(item, combine(item_score(item), score, j.aggregate))
    return True


cdef bint visit_inter(void* arg, Element* el) noexcept nogil:
    cdef Job* j = <Job*>arg
    cdef double own = 1.0 if j.now.is_set else el.score, value = 0
    cdef double score = j.now.weight * own
    cdef i64 i
    if isnan(score):
        score = 0
    for i in range(1, j.n):
        if j.sources[i].e == j.now.e:
            value = own
        elif not source_has(&j.sources[i], el.s, el.n, &value):
            return True
        score = combine(score, value * j.sources[i].weight, j.aggregate)
    if j.count_only:
        j.found += 1
        return j.limit == 0 or j.found < j.limit
    collect(j, el.s, el.n, hash_bytes(el.s, el.n), score)
    return True


cdef bint visit_diff(void* arg, Element* el) noexcept nogil:
    cdef Job* j = <Job*>arg
    cdef double score = 1.0 if j.now.is_set else el.score, value
    cdef i64 i
    for i in range(1, j.n):
        if source_has(&j.sources[i], el.s, el.n, &value):
            return True
    collect(j, el.s, el.n, hash_bytes(el.s, el.n), score)
    return True


cdef inline void walk(Job* j, Source* s, element_fn fn) noexcept nogil:
    j.now = s
    if s.e != NULL:
        type_ops[entry_type(s.e)].walk(s.e, fn, j)


cdef void run(Job* j) noexcept nogil:
    """Collect the result in j.made."""
    cdef i64 i
    if j.op == OP_UNION:
        for i in range(j.n):
            walk(j, &j.sources[i], visit_union)
        return
    if j.sources[0].e == NULL:
        return
    for i in range(1, j.n):
        if j.op == OP_DIFF and j.sources[i].e == j.sources[0].e:
            return
    walk(j, &j.sources[0], visit_inter if j.op == OP_INTER else visit_diff)


cdef void show(Job* j, Z* z) noexcept nogil:
    """Reply the result and let it go."""
    cdef Ctx* c = j.c
    cdef ZWalk w
    cdef ZItem item
    cdef i64 n = <i64>z_len(z)
    reply_array(c.out, n * 2 if j.with_scores and c.resp == 2 else n)
    z_walk(z, &w, 0, False)
    while z_next(&w, &item):
        if j.with_scores and c.resp > 2:
            reply_array(c.out, 2)
        reply_bulk(c.out, item.s, item.n)
        if j.with_scores:
            reply_double(c.out, c.resp, item.score)
    z_free(z)


cdef void finish(Job* j, bint store, const char* event) noexcept nogil:
    cdef Z z
    z_new(&z, j.a, <u64>-1, 0)             # large, until it is known how small it is
    j.made = <Zset*>z.v
    run(j)
    if j.count_only:
        z_free(&z)
        reply_int(j.c.out, j.found)
        return
    z_finish(&z, store)
    if store:
        store_result(j.c, &j.c.key, &z, event)
    else:
        show(j, &z)


cdef void keys_error(Ctx* c) noexcept nogil:
    cdef char text[128]
    cdef size_t n = 44
    memcpy(text, b"ERR at least 1 input key is needed for '", 40)
    memcpy(text + 40, c.cmd.name, c.cmd.name_len)
    n = 40 + c.cmd.name_len
    memcpy(text + n, b"' command", 9)
    reply_error_len(c.out, text, n + 9)


cdef void algebra(Ctx* c, int op, i64 at, bint count_only, const char* event) noexcept nogil:
    """numkeys key … options from argv[at] on; at 2: with a destination before it."""
    cdef Job j
    j.c = c
    j.op = op
    j.aggregate = AGG_SUM
    j.with_scores = False
    j.count_only = count_only
    j.limit = j.found = 0
    j.a = &c.key.part.arena if at == 2 else NULL
    if not long_arg(c, &c.argv[at], &j.n):
        return
    if j.n < 1:
        keys_error(c)
        return
    if j.n > c.argc - at - 1:
        reply_error(c.out, b"ERR syntax error")
        return
    j.sources = <Source*>calloc(j.n, sizeof(Source))
    if j.sources == NULL:
        abort()
    if read_sources(&j, at + 1) and read_options(&j, at + 1 + j.n, at == 2):
        if op != OP_DIFF:
            sort_sources(&j)
        finish(&j, at == 2, event)
    free(j.sources)


cdef void cmd_zunion(Ctx* c) noexcept nogil:
    algebra(c, OP_UNION, 1, False, NULL)


cdef void cmd_zinter(Ctx* c) noexcept nogil:
    algebra(c, OP_INTER, 1, False, NULL)


cdef void cmd_zdiff(Ctx* c) noexcept nogil:
    algebra(c, OP_DIFF, 1, False, NULL)


cdef void cmd_zintercard(Ctx* c) noexcept nogil:
    algebra(c, OP_INTER, 1, True, NULL)


cdef void cmd_zunionstore(Ctx* c) noexcept nogil:
    algebra(c, OP_UNION, 2, False, b"zunionstore")


cdef void cmd_zinterstore(Ctx* c) noexcept nogil:
    algebra(c, OP_INTER, 2, False, b"zinterstore")


cdef void cmd_zdiffstore(Ctx* c) noexcept nogil:
    algebra(c, OP_DIFF, 2, False, b"zdiffstore")


# ---- the rows

_UNION = "O(N)+O(M*log(M)), N the members of all inputs and M those of the result"
_INTER = "O(N*K)+O(M*log(M)), N the members of the smallest input, K the inputs, M the result's members"
_DIFF = "O(N*K)+O(M*log(M)), N the members of the first input, K the inputs, M the result's members"

row_keynum(register("zunion", -3, "readonly movablekeys", (0, 0, 0), cmd_zunion,
                    about("6.2.0", _UNION, "Unites sorted sets.", "read sortedset slow")), 1, 2, 1)
row_keynum(register("zinter", -3, "readonly movablekeys", (0, 0, 0), cmd_zinter,
                    about("6.2.0", _INTER, "Intersects sorted sets.", "read sortedset slow")), 1, 2, 1)
row_keynum(register("zdiff", -3, "readonly movablekeys", (0, 0, 0), cmd_zdiff,
                    about("6.2.0", _DIFF, "Subtracts sorted sets from the first.", "read sortedset slow")), 1, 2, 1)
row_keynum(register("zintercard", -3, "readonly movablekeys", (0, 0, 0), cmd_zintercard,
                    about("7.0.0", _INTER, "Counts the members that all sorted sets have.",
                          "read sortedset slow")), 1, 2, 1)
row_keynum(register("zunionstore", -4, "write denyoom movablekeys", (1, 1, 1), cmd_zunionstore,
                    about("2.0.0", _UNION, "Unites sorted sets and stores the result.",
                          "write sortedset slow")), 2, 3, 1)
row_keynum(register("zinterstore", -4, "write denyoom movablekeys", (1, 1, 1), cmd_zinterstore,
                    about("2.0.0", _INTER, "Intersects sorted sets and stores the result.",
                          "write sortedset slow")), 2, 3, 1)
row_keynum(register("zdiffstore", -4, "write denyoom movablekeys", (1, 1, 1), cmd_zdiffstore,
                    about("6.2.0", _DIFF, "Subtracts sorted sets from the first and stores the result.",
                          "write sortedset slow")), 2, 3, 1)
