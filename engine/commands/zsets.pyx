# slotring: data plane
"""Sorted sets: members and scores, taking from the ends, chance and iteration."""
from libc.stdlib cimport malloc, calloc, free, abort
from engine.defs cimport *
from engine.blocking cimport block_on, timeout_arg, WAIT_NULL_ARRAY, WAIT_ZSET
from engine.args cimport least_arg, long_arg
from engine.command cimport Arg, Ctx, arg_is, ctx_random, register
from engine.commands.keys cimport ScanArgs, out_append, parse_cursor, scan_args
from engine.doubles cimport read_double
from engine.effects cimport effects_wanted
from engine.events cimport *
from engine.glob cimport glob_match
from engine.keyspace cimport *
from engine.members cimport MemberWalk, cell_item, cell_key, item_score, members_scan
from engine.multikey cimport row_keynum
from engine.reply cimport *
from engine.restate cimport *
from engine.store cimport *
from engine.zset cimport *

cdef enum:
    SCORES_SMALL = 16              # scores of one ZADD that need no memory
    SAMPLE_MAX = 1 << 26           # members that ZRANDMEMBER repeats at most

cdef i64 I64_MAX = 0x7FFFFFFFFFFFFFFF


# ---- shared

cdef bint zset_read(Ctx* c, Key* k, Z* z) noexcept nogil:
    """Look a set up for reading: z.v is NULL where there is none. False: WRONGTYPE was replied."""
    cdef Entry* e = lookup_read(c, k)
    z.v = NULL
    if e == NULL:
        return True
    if wrong_type(c, e, TYPE_ZSET):
        return False
    z_of(z, k, e)
    return True


cdef Entry* zset_write(Ctx* c, Key* k, Z* z, bint* wrong) noexcept nogil:
    """Look a set up for a change; NULL: there is none. *wrong: WRONGTYPE was replied."""
    cdef Entry* e = lookup_write(c, k)
    wrong[0] = wrong_type(c, e, TYPE_ZSET)
    if e == NULL or wrong[0]:
        return NULL
    z_of(z, k, e)
    return e


cdef bint double_arg(Ctx* c, Arg* a, double* v, const char* message) noexcept nogil:
    if likely(read_double(a.ptr, a.len, v)):
        return True
    if message == NULL:
        message = b"ERR value is not a valid float"
    reply_error(c.out, message)
    return False


cdef void store_result(Ctx* c, Key* dst, Z* z, const char* event) noexcept nogil:
    cdef i64 n = <i64>z_len(z)
    if n:
        lookup_write(c, dst)
        key_put_value(c, dst, TYPE_ZSET, z.enc, z.v)
        notify(c, N_ZSET, event, dst)
        c.dirty += 1
    else:
        z_free(z)
        if table_find(dst) != NULL:            # even one that has expired
            key_delete(c, dst)
            notify(c, N_GENERIC, b"del", dst)
            c.dirty += 1
    reply_int(c.out, n)


# ---- ZADD, ZINCRBY

cdef u32 zadd_options(Ctx* c, i64* at, bint* ch) noexcept nogil:
    """The words before the first score: flags, and *at behind them."""
    cdef u32 flags = 0
    cdef Arg* a
    ch[0] = False
    while at[0] < c.argc:
        a = &c.argv[at[0]]
        if likely(a.len == 0 or a.ptr[0] <= c'9'):
            break
        if arg_is(a, b"nx", 2):
            flags |= ZIN_NX
        elif arg_is(a, b"xx", 2):
            flags |= ZIN_XX
        elif arg_is(a, b"ch", 2):
            ch[0] = True
        elif arg_is(a, b"incr", 4):
            flags |= ZIN_INCR
        elif arg_is(a, b"gt", 2):
            flags |= ZIN_GT
        elif arg_is(a, b"lt", 2):
            flags |= ZIN_LT
        else:
            break
        at[0] += 1
    return flags


cdef bint zadd_conflict(Ctx* c, u32 flags, i64 left) noexcept nogil:
    """Replies an error where options or the number of arguments do not fit together."""
    if left & 1 or left == 0:
        reply_error(c.out, b"ERR syntax error")
    elif flags & ZIN_NX and flags & ZIN_XX:
        reply_error(c.out, b"ERR XX and NX options at the same time are not compatible")
    elif (flags & ZIN_NX and flags & (ZIN_GT | ZIN_LT)) or (flags & ZIN_GT and flags & ZIN_LT):
        reply_error(c.out, b"ERR GT, LT, and/or NX options at the same time are not compatible")
    elif flags & ZIN_INCR and left > 2:
        reply_error(c.out, b"ERR INCR option supports a single increment-element pair")
    else:
        return False
    return True


cdef void zadd_pairs(Ctx* c, Entry* e, Z* z, i64 at, i64 step, double* scores, u32 flags, bint ch) noexcept nogil:
    """Add the members argv[at + step - 1], argv[at + 2 * step - 1], … to a set that is there; events and reply."""
    cdef i64 n = (c.argc - at) // step, i, added = 0, updated = 0
    cdef u32 out = 0
    cdef double now = 0
    cdef bint nan = False
    cdef Arg* a = &c.argv[at + step - 1]
    for i in range(n):
        out = z_add(z, scores[i], a.ptr, a.len, flags, &now)
        a += step
        if out & ZOUT_NAN:
            nan = True
            break
        added += (out & ZOUT_ADDED) != 0
        updated += (out & ZOUT_UPDATED) != 0
    z_keep(z, e)
    if not nan:
        c.dirty += added + updated
    if added + updated:
        key_changed(c, &c.key, N_ZSET, b"zincr" if flags & ZIN_INCR else b"zadd")
    if nan:
        reply_error(c.out, b"ERR resulting score is not a number (NaN)")
    elif not flags & ZIN_INCR:
        reply_int(c.out, added + updated if ch else added)
    elif out & ZOUT_NOP:
        reply_null(c.out, c.resp)
    else:
        reply_double(c.out, c.resp, now)


cdef void zadd_scored(Ctx* c, i64 at, i64 step, double* scores, u32 flags, bint ch) noexcept nogil:
    cdef i64 n = (c.argc - at) // step, i
    cdef size_t longest = 0
    cdef bint wrong
    cdef Z z
    cdef Entry* e
    for i in range(n):
        if c.argv[at + step * i + step - 1].len > longest:
            longest = c.argv[at + step * i + step - 1].len
    e = zset_write(c, &c.key, &z, &wrong)
    if wrong:
        return
    if e != NULL:
        z_expect(&z, <u64>n, longest)
    elif flags & ZIN_XX:
        if flags & ZIN_INCR:
            reply_null(c.out, c.resp)
        else:
            reply_int(c.out, 0)
        return
    else:
        z_new(&z, &c.key.part.arena, <u64>n, longest)
        e = key_put_value(c, &c.key, TYPE_ZSET, z.enc, z.v)
    zadd_pairs(c, e, &z, at, step, scores, flags, ch)


cdef void zadd_generic(Ctx* c, u32 flags) noexcept nogil:
    cdef double small[SCORES_SMALL]
    cdef double* scores = small
    cdef i64 at = 2, n, i
    cdef bint ch
    flags |= zadd_options(c, &at, &ch)
    if zadd_conflict(c, flags, c.argc - at):
        return
    n = (c.argc - at) // 2
    if n > SCORES_SMALL:
        scores = <double*>malloc(n * sizeof(double))
        if scores == NULL:
            abort()
    for i in range(n):
        if not double_arg(c, &c.argv[at + 2 * i], &scores[i], NULL):
            break
    else:
        zadd_scored(c, at, 2, scores, flags, ch)
    if scores != small:
        free(scores)


cdef void cmd_zadd(Ctx* c) noexcept nogil:
    zadd_generic(c, 0)


cdef void cmd_zincrby(Ctx* c) noexcept nogil:
    zadd_generic(c, ZIN_INCR)


# ---- single members

cdef void cmd_zrem(Ctx* c) noexcept nogil:
    cdef bint wrong, gone = False
    cdef Z z
    cdef i64 i, deleted = 0
    cdef Entry* e = zset_write(c, &c.key, &z, &wrong)
    if wrong:
        return
    if e != NULL:
        for i in range(2, c.argc):
            deleted += z_remove(&z, c.argv[i].ptr, c.argv[i].len)
            if z_len(&z) == 0:
                gone = True
                break
        z_keep(&z, e)
        if gone:
            key_delete(c, &c.key)
        if deleted:
            key_changed(c, &c.key, N_ZSET, b"zrem")
            if gone:
                notify(c, N_GENERIC, b"del", &c.key)
            c.dirty += deleted
    reply_int(c.out, deleted)


cdef void cmd_zcard(Ctx* c) noexcept nogil:
    cdef Z z
    if zset_read(c, &c.key, &z):
        reply_int(c.out, 0 if z.v == NULL else <i64>z_len(&z))


cdef inline void reply_score_of(Ctx* c, Z* z, Arg* a) noexcept nogil:
    cdef double score
    if z.v != NULL and z_score(z, a.ptr, a.len, &score):
        reply_double(c.out, c.resp, score)
    else:
        reply_null(c.out, c.resp)


cdef void cmd_zscore(Ctx* c) noexcept nogil:
    cdef Z z
    if zset_read(c, &c.key, &z):
        reply_score_of(c, &z, &c.argv[2])


cdef void cmd_zmscore(Ctx* c) noexcept nogil:
    cdef Z z
    cdef i64 i
    if zset_read(c, &c.key, &z):
        reply_array(c.out, c.argc - 2)
        for i in range(2, c.argc):
            reply_score_of(c, &z, &c.argv[i])


cdef void arity_error(Ctx* c) noexcept nogil:
    cdef char text[96]
    cdef size_t n = 41
    memcpy(text, b"ERR wrong number of arguments for '", 35)
    memcpy(text + 35, c.cmd.name, c.cmd.name_len)
    n = 35 + c.cmd.name_len
    memcpy(text + n, b"' command", 9)
    reply_error_len(c.out, text, n + 9)


cdef void zrank_generic(Ctx* c, bint back) noexcept nogil:
    cdef bint with_score = c.argc == 4
    cdef Z z
    cdef i64 rank = -1
    cdef double score
    if c.argc > 4:
        arity_error(c)
        return
    if with_score and not arg_is(&c.argv[3], b"withscore", 9):
        reply_error(c.out, b"ERR syntax error")
        return
    if not zset_read(c, &c.key, &z):
        return
    if z.v != NULL:
        rank = z_rank(&z, c.argv[2].ptr, c.argv[2].len, &score)
    if rank < 0:
        if with_score:
            reply_null_array(c.out, c.resp)
        else:
            reply_null(c.out, c.resp)
        return
    if back:
        rank = <i64>z_len(&z) - 1 - rank
    if with_score:
        reply_array(c.out, 2)
    reply_int(c.out, rank)
    if with_score:
        reply_double(c.out, c.resp, score)


cdef void cmd_zrank(Ctx* c) noexcept nogil:
    zrank_generic(c, False)


cdef void cmd_zrevrank(Ctx* c) noexcept nogil:
    zrank_generic(c, True)


# ---- taking from the ends

cdef void pop(Ctx* c, Key* k, Entry* e, bint max_, i64 count, bint nested) noexcept nogil:
    """Take up to `count` (at least 1) members from an end and reply them, without the head of the reply."""
    cdef Z z
    cdef ZWalk w
    cdef ZItem item
    cdef i64 have, n, i
    z_of(&z, k, e)
    have = <i64>z_len(&z)
    n = count if count < have else have
    z_walk(&z, &w, <u64>(have - 1) if max_ else 0, max_)
    for i in range(n):
        if not z_next(&w, &item):
            break
        if nested:
            reply_array(c.out, 2)
        reply_bulk(c.out, item.s, item.n)
        reply_double(c.out, c.resp, item.score)
    c.dirty += n
    if n < have:
        z_remove_ranks(&z, <u64>(have - n) if max_ else 0, <u64>n)
        z_keep(&z, e)
    notify(c, N_ZSET, b"zpopmax" if max_ else b"zpopmin", k)
    if n == have:
        key_delete(c, k)
        notify(c, N_GENERIC, b"del", k)
    key_modified(c, k)


cdef void zpop_generic(Ctx* c, bint max_) noexcept nogil:
    cdef i64 count = -1, n
    cdef bint wrong
    cdef Z z
    cdef Entry* e
    if c.argc > 3:
        reply_error(c.out, b"ERR syntax error")
        return
    if c.argc == 3 and not least_arg(c, &c.argv[2], &count, 0, b"ERR value is out of range, must be positive"):
        return
    e = zset_write(c, &c.key, &z, &wrong)
    if wrong:
        return
    if e == NULL or count == 0:
        reply_array(c.out, 0)
        return
    n = 1 if count < 0 else count
    if n > <i64>z_len(&z):
        n = <i64>z_len(&z)
    if c.resp > 2 and count >= 0:
        reply_array(c.out, n)
        pop(c, &c.key, e, max_, n, True)
    else:
        reply_array(c.out, n * 2)
        pop(c, &c.key, e, max_, n, False)


cdef void cmd_zpopmin(Ctx* c) noexcept nogil:
    zpop_generic(c, False)


cdef void cmd_zpopmax(Ctx* c) noexcept nogil:
    zpop_generic(c, True)


cdef bint pop_first(Ctx* c, i64 first, i64 n, bint max_, i64 count) noexcept nogil:
    """Take from the first set of argv[first …] that is there; count 0: one, as BZPOPMIN replies it.

    False: all are missing, nothing was replied."""
    cdef Key k
    cdef Entry* e
    cdef i64 i, have
    cdef bint wrong
    cdef Z z
    for i in range(n):
        key_init(c, &k, &c.argv[first + i])
        e = zset_write(c, &k, &z, &wrong)
        if wrong:
            return True
        if e == NULL:
            continue
        if count == 0:
            reply_array(c.out, 3)
            reply_bulk(c.out, k.ptr, k.len)
            pop(c, &k, e, max_, 1, False)
            if effects_wanted():
                restate_key(c, &k, b"ZPOPMAX" if max_ else b"ZPOPMIN")
        else:
            have = <i64>z_len(&z)
            reply_array(c.out, 2)
            reply_bulk(c.out, k.ptr, k.len)
            if count > have:
                count = have
            reply_array(c.out, count)
            pop(c, &k, e, max_, count, True)
            if effects_wanted():
                restate_count(c, &k, b"ZPOPMAX" if max_ else b"ZPOPMIN", count)
        return True
    return False


cdef void wait_for(Ctx* c, i64 first, i64 n, i64 timeout_ms) noexcept nogil:
    if c.no_block:
        reply_null_array(c.out, c.resp)
    else:
        block_on(c, first, n, 1, timeout_ms, WAIT_ZSET | WAIT_NULL_ARRAY)


cdef void bzpop_generic(Ctx* c, bint max_) noexcept nogil:
    cdef i64 timeout_ms
    if timeout_arg(c, &c.argv[c.argc - 1], &timeout_ms) and not pop_first(c, 1, c.argc - 2, max_, 0):
        wait_for(c, 1, c.argc - 2, timeout_ms)


cdef void cmd_bzpopmin(Ctx* c) noexcept nogil:
    bzpop_generic(c, False)


cdef void cmd_bzpopmax(Ctx* c) noexcept nogil:
    bzpop_generic(c, True)


cdef bint mpop_args(Ctx* c, i64 at, i64* numkeys, bint* max_, i64* count) noexcept nogil:
    """numkeys key … MIN|MAX [COUNT n] from argv[at] on; False: an error was replied."""
    cdef i64 i
    count[0] = -1
    if not least_arg(c, &c.argv[at], numkeys, 1, b"ERR numkeys should be greater than 0"):
        return False
    if numkeys[0] >= c.argc or at + numkeys[0] + 1 >= c.argc:
        reply_error(c.out, b"ERR syntax error")
        return False
    i = at + numkeys[0] + 1
    max_[0] = arg_is(&c.argv[i], b"max", 3)
    if not max_[0] and not arg_is(&c.argv[i], b"min", 3):
        reply_error(c.out, b"ERR syntax error")
        return False
    i += 1
    while i < c.argc:
        if count[0] != -1 or i + 1 == c.argc or not arg_is(&c.argv[i], b"count", 5):
            reply_error(c.out, b"ERR syntax error")
            return False
        if not least_arg(c, &c.argv[i + 1], count, 1, b"ERR count should be greater than 0"):
            return False
        i += 2
    if count[0] == -1:
        count[0] = 1
    return True


cdef void cmd_zmpop(Ctx* c) noexcept nogil:
    cdef i64 numkeys, count
    cdef bint max_
    if mpop_args(c, 1, &numkeys, &max_, &count) and not pop_first(c, 2, numkeys, max_, count):
        reply_null_array(c.out, c.resp)


cdef void cmd_bzmpop(Ctx* c) noexcept nogil:
    cdef i64 numkeys, count, timeout_ms
    cdef bint max_
    if mpop_args(c, 2, &numkeys, &max_, &count) and timeout_arg(c, &c.argv[1], &timeout_ms) and \
            not pop_first(c, 3, numkeys, max_, count):
        wait_for(c, 3, numkeys, timeout_ms)


# ---- ZRANDMEMBER

cdef inline void reply_member(Ctx* c, ZItem* item, bint with_scores) noexcept nogil:
    if with_scores and c.resp > 2:
        reply_array(c.out, 2)
    reply_bulk(c.out, item.s, item.n)
    if with_scores:
        reply_double(c.out, c.resp, item.score)


cdef void sample_some(Ctx* c, Z* z, u64 count, u64 size, bint with_scores) noexcept nogil:
    """`count` different members of a set that has more."""
    cdef u64 left = size, rank
    cdef ZWalk w
    cdef ZItem item
    cdef u64* seen
    if z.enc == ENC_LISTPACK or count > size // 16:
        z_walk(z, &w, 0, False)            # one pass, each member with its fair chance
        while count and z_next(&w, &item):
            if (ctx_random(c) >> 16) % left < count:
                reply_member(c, &item, with_scores)
                count -= 1
            left -= 1
        return
    seen = <u64*>calloc((size >> 6) + 1, 8)
    if seen == NULL:
        abort()
    while count:
        rank = (ctx_random(c) >> 16) % size
        if seen[rank >> 6] >> (rank & 63) & 1:
            continue
        seen[rank >> 6] |= <u64>1 << (rank & 63)
        z_walk(z, &w, rank, False)
        if z_next(&w, &item):
            reply_member(c, &item, with_scores)
        count -= 1
    free(seen)


cdef void sample(Ctx* c, Z* z, i64 count, bint with_scores) noexcept nogil:
    cdef u64 size = z_len(z), n = <u64>count if count >= 0 else <u64>-count
    cdef ZItem item
    cdef char tmp[24]
    if count >= 0 and n > size:
        n = size
    if n > SAMPLE_MAX and count < 0:
        reply_error(c.out, b"ERR value is out of range")
        return
    reply_array(c.out, <i64>(n * 2 if with_scores and c.resp == 2 else n))
    if count >= 0 and n < size:
        sample_some(c, z, n, size, with_scores)
    elif count >= 0:
        sample_some(c, z, n, n, with_scores)
    else:
        while n:
            z_random(z, ctx_random(c), &item, tmp)
            reply_member(c, &item, with_scores)
            n -= 1


cdef void cmd_zrandmember(Ctx* c) noexcept nogil:
    cdef i64 count
    cdef bint with_scores = c.argc == 4
    cdef Z z
    cdef ZItem item
    cdef char tmp[24]
    if c.argc >= 3:
        if not long_arg(c, &c.argv[2], &count):
            return
        if count < -I64_MAX:
            reply_error(c.out, b"ERR value is out of range, value must between -9223372036854775807 and "
                        b"9223372036854775807")
            return
        if c.argc > 4 or (with_scores and not arg_is(&c.argv[3], b"withscores", 10)):
            reply_error(c.out, b"ERR syntax error")
            return
        if with_scores and not -(I64_MAX // 2) <= count <= I64_MAX // 2:
            reply_error(c.out, b"ERR value is out of range")
            return
    if not zset_read(c, &c.key, &z):
        return
    if c.argc == 2:
        if z.v == NULL:
            reply_null(c.out, c.resp)
        elif z_random(&z, ctx_random(c), &item, tmp):
            reply_bulk(c.out, item.s, item.n)
    elif z.v == NULL or count == 0:
        reply_array(c.out, 0)
    else:
        sample(c, &z, count, with_scores)


# ---- ZSCAN

cdef struct Scan:
    OutBuf out
    ScanArgs* args
    i64 found
    i64 seen


cdef void scan_show(Scan* s, const char* p, size_t n, double score) noexcept nogil:
    s.seen += 1
    if s.args.pattern != NULL and not glob_match(s.args.pattern, s.args.pattern_len, p, n, False):
        return
    reply_bulk(&s.out, p, n)
    s.found += 1
    if not s.args.bare:
        reply_double(&s.out, 2, score)     # a string in RESP3 too
        s.found += 1


cdef void scan_cell(void* arg, u64* cell) noexcept nogil:
    cdef const char* p
    cdef size_t n = cell_key(cell, &p)
    scan_show(<Scan*>arg, p, n, item_score(cell_item(cell[0])))


cdef void cmd_zscan(Ctx* c) noexcept nogil:
    cdef u64 cursor
    cdef ScanArgs args
    cdef Scan s
    cdef Z z
    cdef ZWalk w
    cdef ZItem item
    cdef char digits[32]
    if not parse_cursor(&c.argv[2], &cursor):
        reply_error(c.out, b"ERR invalid cursor")
        return
    if not zset_read(c, &c.key, &z):
        return
    if z.v == NULL:
        reply_raw(c.out, b"*2\r\n$1\r\n0\r\n*0\r\n")
        return
    if not scan_args(c, 3, TYPE_ZSET, &args):
        return
    out_init(&s.out, c.out.pool)
    s.args = &args
    s.found = s.seen = 0
    if z.enc == ENC_LISTPACK:
        cursor = 0
        z_walk(&z, &w, 0, False)
        while z_next(&w, &item):
            scan_show(&s, item.s, item.n, item.score)
    elif cursor >> 32:                     # no cursor of ours
        cursor = 0
    else:
        while True:
            cursor = members_scan(&(<Zset*>z.v).members, cursor, scan_cell, &s)
            if cursor >> 32:
                cursor = 0
                break
            if s.seen >= args.count:
                break
    reply_array(c.out, 2)
    reply_bulk(c.out, digits, write_u64(digits, cursor) & 31)
    reply_array(c.out, s.found)
    out_append(c.out, &s.out)


# ---- the rows

def about(str since, str complexity, str summary, str acl, str group="sorted-set") -> dict:
    """What COMMAND DOCS and ACL categories say of a row."""
    return {"since": since, "group": group, "complexity": complexity, "summary": summary, "acl": acl}


_ZADD = "O(log(N)) a member"
_POP = "O(log(N)*M), M the members taken"

register("zadd", -4, "write denyoom fast", (1, 1, 1), cmd_zadd,
         about("1.2.0", _ZADD, "Adds members with scores, or changes scores.", "write sortedset fast"))
register("zincrby", 4, "write denyoom fast", (1, 1, 1), cmd_zincrby,
         about("1.2.0", _ZADD, "Adds to a member's score.", "write sortedset fast"))
register("zrem", -3, "write fast", (1, 1, 1), cmd_zrem,
         about("1.2.0", _ZADD, "Deletes members.", "write sortedset fast"))
register("zcard", 2, "readonly fast", (1, 1, 1), cmd_zcard,
         about("1.2.0", "O(1)", "Says how many members a sorted set has.", "read sortedset fast"))
register("zscore", 3, "readonly fast", (1, 1, 1), cmd_zscore,
         about("1.2.0", "O(1)", "Reads a member's score.", "read sortedset fast"))
register("zmscore", -3, "readonly fast", (1, 1, 1), cmd_zmscore,
         about("6.2.0", "O(M), M the members", "Reads the scores of several members.", "read sortedset fast"))
register("zrank", -3, "readonly fast", (1, 1, 1), cmd_zrank,
         about("2.0.0", "O(log(N))", "Says where a member stands, from the lowest score.", "read sortedset fast"))
register("zrevrank", -3, "readonly fast", (1, 1, 1), cmd_zrevrank,
         about("2.0.0", "O(log(N))", "Says where a member stands, from the highest score.", "read sortedset fast"))
register("zpopmin", -2, "write fast", (1, 1, 1), cmd_zpopmin,
         about("5.0.0", _POP, "Takes the members with the lowest scores.", "write sortedset fast"))
register("zpopmax", -2, "write fast", (1, 1, 1), cmd_zpopmax,
         about("5.0.0", _POP, "Takes the members with the highest scores.", "write sortedset fast"))
register("bzpopmin", -3, "write blocking fast", (1, -2, 1), cmd_bzpopmin,
         about("5.0.0", "O(log(N))", "As ZPOPMIN on the first of several sets that is there, or waits for one.",
               "write sortedset fast blocking"))
register("bzpopmax", -3, "write blocking fast", (1, -2, 1), cmd_bzpopmax,
         about("5.0.0", "O(log(N))", "As ZPOPMAX on the first of several sets that is there, or waits for one.",
               "write sortedset fast blocking"))
row_keynum(register("zmpop", -4, "write movablekeys", (0, 0, 0), cmd_zmpop,
                    about("7.0.0", _POP, "Takes members from the first of several sets that is there.",
                          "write sortedset slow")), 1, 2, 1)
row_keynum(register("bzmpop", -5, "write blocking movablekeys", (0, 0, 0), cmd_bzmpop,
                    about("7.0.0", _POP, "As ZMPOP, and waits for a set.",
                          "write sortedset slow blocking")), 2, 3, 1)
register("zrandmember", -2, "readonly", (1, 1, 1), cmd_zrandmember,
         about("6.2.0", "O(M*log(N)), M the members", "Shows random members.", "read sortedset slow"))
register("zscan", -3, "readonly", (1, 1, 1), cmd_zscan,
         about("2.8.0", "O(1) a call, O(N) for all", "Iterates over members and scores.", "read sortedset slow"))
