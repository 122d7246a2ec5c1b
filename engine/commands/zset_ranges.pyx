# slotring: data plane
"""Sorted sets: ranges by rank, score and member, read, counted, stored and deleted."""
from libc.string cimport memchr
from engine.defs cimport *
from engine.args cimport long_arg
from engine.command cimport Arg, Ctx, arg_is, register
from engine.commands.zsets cimport store_result, zset_read, zset_write
from engine.doubles cimport scan_double
from engine.events cimport *
from engine.keyspace cimport *
from engine.reply cimport *
from engine.store cimport *
from engine.zset cimport *
from engine.commands.zsets import about

cdef extern from "<math.h>" nogil:
    bint isnan(double)
    double INFINITY

cdef enum:
    BY_AUTO = 0
    BY_RANK = 1
    BY_SCORE = 2
    BY_LEX = 3

    ALL = 5                        # Bound.kind beyond ranktree's: before everything, behind everything
    NONE = 6

cdef struct Range:                 # what a command asks for, and what was found
    int by
    bint back
    bint with_scores
    i64 start                      # ranks: as given
    i64 end
    i64 offset
    i64 limit                      # -1: none
    Bound low                      # the first pair is the first not before low,
    Bound high                     # the last one the last before high
    u64 first                      # ranks found: first … first + n - 1
    u64 n


# ---- arguments

cdef bint score_bound(Arg* a, Bound* b, bint low) noexcept nogil:
    """A score, `(` before it leaves it out."""
    cdef size_t i = 0, end
    cdef bint outside, open_ = False
    if a.len and a.ptr[0] == c'(':
        open_ = True
        i = 1
    b.score = 0
    end = scan_double(a.ptr + i, a.len - i, &b.score, &outside)
    if end < a.len - i and a.ptr[i + end] != 0:
        return False
    if isnan(b.score):
        return False
    b.kind = AFTER_SCORE if open_ == low else BEFORE_SCORE
    return True


cdef bint lex_bound(Arg* a, Bound* b, bint low) noexcept nogil:
    """A member behind `[` or `(`, or - or +."""
    cdef char kind = a.ptr[0] if a.len else 0
    if kind == c'-' or kind == c'+':
        b.kind = ALL if kind == c'-' else NONE
        return a.len == 1 or a.ptr[1] == 0
    b.p = a.ptr + 1
    b.n = a.len - 1
    if kind == c'(':
        b.kind = AFTER_LEX if low else BEFORE_LEX
    elif kind == c'[':
        b.kind = BEFORE_LEX if low else AFTER_LEX
    else:
        return False
    return True


cdef bint bounds(Ctx* c, Range* r, Arg* min_, Arg* max_) noexcept nogil:
    """Both ends of a range; False: an error was replied."""
    if r.by == BY_RANK:
        return long_arg(c, min_, &r.start) and long_arg(c, max_, &r.end)
    if r.by == BY_SCORE:
        if score_bound(min_, &r.low, True) and score_bound(max_, &r.high, False):
            return True
        reply_error(c.out, b"ERR min or max is not a float")
    else:
        if lex_bound(min_, &r.low, True) and lex_bound(max_, &r.high, False):
            return True
        reply_error(c.out, b"ERR min or max not valid string range item")
    return False


# ---- finding

cdef void find_ranks(Z* z, Range* r) noexcept nogil:
    """Ranks as Valkey reads them: negative ones from the end."""
    cdef i64 n = <i64>z_len(z)
    if r.start < 0:
        r.start += n
    if r.end < 0:
        r.end += n
    if r.start < 0:
        r.start = 0
    if r.end >= n:
        r.end = n - 1
    r.n = 0
    if r.start > r.end or r.start >= n:
        return
    r.n = <u64>(r.end - r.start + 1)
    r.first = <u64>(n - 1 - r.end if r.back else r.start)


cdef void find_bounds(Z* z, Range* r) noexcept nogil:
    """All pairs between the bounds, whatever LIMIT says."""
    cdef Bound low = r.low, high = r.high
    cdef u64 start, end
    r.first = r.n = 0
    if r.low.kind == NONE or r.high.kind == ALL:
        return
    if low.kind == ALL:
        low.kind = BEFORE_SCORE
        low.score = -INFINITY
    if high.kind == NONE:
        high.kind = AFTER_SCORE
        high.score = INFINITY
    z_range(z, &low, &high, &start, &end)
    r.first = start
    r.n = end - start if end > start else 0


cdef void apply_limit(Z* z, Range* r) noexcept nogil:
    """LIMIT offset count. A negative offset finds nothing in a listpack and counts from the far end in a large set."""
    cdef i64 skip = r.offset, n = <i64>r.n
    if n and skip < 0 and z.enc != ENC_LISTPACK:
        skip += n
    if skip < 0 or skip >= n:
        r.n = 0
        return
    n -= skip
    if 0 <= r.limit < n:
        n = r.limit
    if r.back:
        r.first += r.n - <u64>skip - <u64>n
    else:
        r.first += <u64>skip
    r.n = <u64>n


cdef void find(Z* z, Range* r) noexcept nogil:
    if r.by == BY_RANK:
        find_ranks(z, r)
    else:
        find_bounds(z, r)
        apply_limit(z, r)


# ---- the ZRANGE commands

cdef bint range_options(Ctx* c, i64 at, Range* r, bint store, bint direction_given) noexcept nogil:
    """Words behind the ends; False: an error was replied."""
    cdef Arg* a
    cdef bint direct = direction_given
    while at < c.argc:
        a = &c.argv[at]
        at += 1
        if not store and arg_is(a, b"withscores", 10):
            r.with_scores = True
        elif arg_is(a, b"limit", 5) and at + 1 < c.argc:
            if not long_arg(c, &c.argv[at], &r.offset) or not long_arg(c, &c.argv[at + 1], &r.limit):
                return False
            at += 2
        elif not direct and arg_is(a, b"rev", 3):
            r.back = True
            direct = True
        elif r.by == BY_AUTO and arg_is(a, b"bylex", 5):
            r.by = BY_LEX
        elif r.by == BY_AUTO and arg_is(a, b"byscore", 7):
            r.by = BY_SCORE
        else:
            reply_error(c.out, b"ERR syntax error")
            return False
    if r.by == BY_AUTO:
        r.by = BY_RANK
    if r.limit != -1 and r.by == BY_RANK:
        reply_error(c.out, b"ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
        return False
    if r.with_scores and r.by == BY_LEX:
        reply_error(c.out, b"ERR syntax error, WITHSCORES not supported in combination with BYLEX")
        return False
    return True


cdef inline void range_init(Range* r, int by, bint back) noexcept nogil:
    r.by = by
    r.back = back
    r.with_scores = False
    r.offset = 0
    r.limit = -1


cdef void show(Ctx* c, Z* z, Range* r) noexcept nogil:
    """Reply the pairs that were found."""
    cdef ZWalk w
    cdef ZItem item
    cdef u64 n = r.n
    cdef bint nested = r.with_scores and c.resp > 2
    reply_array(c.out, <i64>(n * 2 if r.with_scores and not nested else n))
    if n == 0:
        return
    z_walk(z, &w, r.first + n - 1 if r.back else r.first, r.back)
    while n and z_next(&w, &item):
        if nested:
            reply_array(c.out, 2)
        reply_bulk(c.out, item.s, item.n)
        if r.with_scores:
            reply_double(c.out, c.resp, item.score)
        n -= 1


cdef void zrange_generic(Ctx* c, int by, bint back, bint direction_given) noexcept nogil:
    cdef Range r
    cdef Z z
    cdef i64 low = 2, high = 3
    range_init(&r, by, back)
    if c.argc > 4 or by == BY_AUTO:
        if not range_options(c, 4, &r, False, direction_given):
            return
    if r.back and r.by != BY_RANK:
        low = 3
        high = 2
    if not bounds(c, &r, &c.argv[low], &c.argv[high]) or not zset_read(c, &c.key, &z):
        return
    if z.v == NULL:
        reply_array(c.out, 0)
        return
    find(&z, &r)
    show(c, &z, &r)


cdef void cmd_zrange(Ctx* c) noexcept nogil:
    zrange_generic(c, BY_AUTO, False, False)


cdef void cmd_zrevrange(Ctx* c) noexcept nogil:
    zrange_generic(c, BY_RANK, True, True)


cdef void cmd_zrangebyscore(Ctx* c) noexcept nogil:
    zrange_generic(c, BY_SCORE, False, True)


cdef void cmd_zrevrangebyscore(Ctx* c) noexcept nogil:
    zrange_generic(c, BY_SCORE, True, True)


cdef void cmd_zrangebylex(Ctx* c) noexcept nogil:
    zrange_generic(c, BY_LEX, False, True)


cdef void cmd_zrevrangebylex(Ctx* c) noexcept nogil:
    zrange_generic(c, BY_LEX, True, True)


cdef void cmd_zrangestore(Ctx* c) noexcept nogil:
    cdef Range r
    cdef Key src
    cdef Z z, made
    cdef ZWalk w
    cdef ZItem item
    cdef i64 low = 3, high = 4
    cdef u64 n = 0
    range_init(&r, BY_AUTO, False)
    if not range_options(c, 5, &r, True, False):
        return
    if r.back and r.by != BY_RANK:
        low = 4
        high = 3
    key_init(c, &src, &c.argv[2])
    if not bounds(c, &r, &c.argv[low], &c.argv[high]) or not zset_read(c, &src, &z):
        return
    if z.v != NULL:
        find(&z, &r)
        n = r.n
    z_new(&made, &c.key.part.arena, n if r.by == BY_RANK else 0, 0)
    if n:
        # in the order of the reply: what a listpack makes of -0 hangs on when it becomes a tree
        z_walk(&z, &w, r.first + n - 1 if r.back else r.first, r.back)
        while n and z_next(&w, &item):
            z_put(&made, item.score, item.s, item.n)
            n -= 1
    store_result(c, &c.key, &made, b"zrangestore")


# ---- counting and deleting

cdef void count_generic(Ctx* c, int by) noexcept nogil:
    cdef Range r
    cdef Z z
    range_init(&r, by, False)
    if bounds(c, &r, &c.argv[2], &c.argv[3]) and zset_read(c, &c.key, &z):
        r.n = 0
        if z.v != NULL:
            find_bounds(&z, &r)
        reply_int(c.out, <i64>r.n)


cdef void cmd_zcount(Ctx* c) noexcept nogil:
    count_generic(c, BY_SCORE)


cdef void cmd_zlexcount(Ctx* c) noexcept nogil:
    count_generic(c, BY_LEX)


cdef void remove_generic(Ctx* c, int by, const char* event) noexcept nogil:
    cdef Range r
    cdef Z z
    cdef bint wrong, all_
    cdef Entry* e
    range_init(&r, by, False)
    if not bounds(c, &r, &c.argv[2], &c.argv[3]):
        return
    e = zset_write(c, &c.key, &z, &wrong)
    if wrong:
        return
    r.n = 0
    if e != NULL:
        find(&z, &r)
    if r.n:
        all_ = r.n == z_len(&z)
        if all_:
            key_delete(c, &c.key)
        else:
            z_remove_ranks(&z, r.first, r.n)
            z_keep(&z, e)
        key_changed(c, &c.key, N_ZSET, event)
        if all_:
            notify(c, N_GENERIC, b"del", &c.key)
        c.dirty += <i64>r.n
    reply_int(c.out, <i64>r.n)


cdef void cmd_zremrangebyrank(Ctx* c) noexcept nogil:
    remove_generic(c, BY_RANK, b"zremrangebyrank")


cdef void cmd_zremrangebyscore(Ctx* c) noexcept nogil:
    remove_generic(c, BY_SCORE, b"zremrangebyscore")


cdef void cmd_zremrangebylex(Ctx* c) noexcept nogil:
    remove_generic(c, BY_LEX, b"zremrangebylex")


# ---- the rows

_RANGE = "O(log(N)+M), M the members in the range"

register("zrange", -4, "readonly", (1, 1, 1), cmd_zrange,
         about("1.2.0", _RANGE, "Reads members in a range of ranks, scores or names.", "read sortedset slow"))
register("zrevrange", -4, "readonly", (1, 1, 1), cmd_zrevrange,
         about("1.2.0", _RANGE, "Reads members in a range of ranks, from the highest score.", "read sortedset slow"))
register("zrangebyscore", -4, "readonly", (1, 1, 1), cmd_zrangebyscore,
         about("1.0.5", _RANGE, "Reads members in a range of scores.", "read sortedset slow"))
register("zrevrangebyscore", -4, "readonly", (1, 1, 1), cmd_zrevrangebyscore,
         about("2.2.0", _RANGE, "Reads members in a range of scores, from the highest.", "read sortedset slow"))
register("zrangebylex", -4, "readonly", (1, 1, 1), cmd_zrangebylex,
         about("2.8.9", _RANGE, "Reads members in a range of names.", "read sortedset slow"))
register("zrevrangebylex", -4, "readonly", (1, 1, 1), cmd_zrevrangebylex,
         about("2.8.9", _RANGE, "Reads members in a range of names, from the last.", "read sortedset slow"))
register("zrangestore", -5, "write denyoom", (1, 2, 1), cmd_zrangestore,
         about("6.2.0", _RANGE, "Stores a range of a sorted set as another.", "write sortedset slow"))
register("zcount", 4, "readonly fast", (1, 1, 1), cmd_zcount,
         about("2.0.0", "O(log(N))", "Counts members in a range of scores.", "read sortedset fast"))
register("zlexcount", 4, "readonly fast", (1, 1, 1), cmd_zlexcount,
         about("2.8.9", "O(log(N))", "Counts members in a range of names.", "read sortedset fast"))
register("zremrangebyrank", 4, "write", (1, 1, 1), cmd_zremrangebyrank,
         about("2.0.0", _RANGE, "Deletes members in a range of ranks.", "write sortedset slow"))
register("zremrangebyscore", 4, "write", (1, 1, 1), cmd_zremrangebyscore,
         about("1.2.0", _RANGE, "Deletes members in a range of scores.", "write sortedset slow"))
register("zremrangebylex", 4, "write", (1, 1, 1), cmd_zremrangebylex,
         about("2.8.9", _RANGE, "Deletes members in a range of names.", "write sortedset slow"))
