# slotring: data plane
"""Lists: pushing, popping, ranges, positions, moving; what waits is run again when a list comes (blocking.pxd)."""
from libc.stdlib cimport malloc, free, abort
from libc.string cimport memcpy, memcmp
from engine.defs cimport *
from engine.blocking cimport block_on, timeout_arg, WAIT_LIST, WAIT_NULL_ARRAY
from engine.commands.keys cimport out_append
from engine.command cimport Ctx, Arg, register, arg_is
from engine.effects cimport effect_arg, effect_end, effects_wanted
from engine.events cimport *
from engine.keyspace cimport *
from engine.listpack cimport LpValue, lp_entry_bytes
from engine.multikey cimport row_keynum
from engine.numbers cimport parse_i64
from engine.quicklist cimport *
from engine.reply cimport *
from engine.restate cimport *
from engine.store cimport *

cdef enum:
    FRONT = 1
    BACK = 0
    COPY_BYTES = 512               # an element that is moved is copied here, if it fits

cdef i64 I64_MAX = 0x7FFFFFFFFFFFFFFF
cdef i64 I64_MIN = -I64_MAX - 1

cdef struct Moved:                 # an element on its way from one list to another
    char small[COPY_BYTES]
    char* p
    size_t n
    bint number                    # Valkey does not count its bytes when it decides about the encoding


# ---- helpers

cdef inline bint long_arg(Ctx* c, Arg* a, i64* v) noexcept nogil:
    if likely(parse_i64(a.ptr, a.len, v)):
        return True
    reply_error(c.out, b"ERR value is not an integer or out of range")
    return False


cdef bint signed_arg(Ctx* c, Arg* a, i64* v) noexcept nogil:
    """A number that has a negative."""
    if not long_arg(c, a, v):
        return False
    if v[0] != I64_MIN:
        return True
    reply_error(c.out, b"ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")
    return False


cdef bint positive_arg(Ctx* c, Arg* a, i64* v, i64 least, const char* message) noexcept nogil:
    """A number of at least `least`; else `message` is the error."""
    if parse_i64(a.ptr, a.len, v) and v[0] >= least:
        return True
    reply_error(c.out, message)
    return False


cdef inline void reply_value(OutBuf* o, LpValue* v) noexcept nogil:
    if v.s != NULL:
        reply_bulk(o, v.s, v.n)
    else:
        reply_bulk_int(o, v.v)


cdef inline void reply_spot(OutBuf* o, Spot* s) noexcept nogil:
    cdef LpValue v
    list_get(s, &v)
    reply_value(o, &v)


cdef inline Entry* list_read(Ctx* c, Key* k, bint* wrong) noexcept nogil:
    """The list at a key; NULL: there is none, or (*wrong) an error was replied."""
    cdef Entry* e = lookup_read(c, k)
    wrong[0] = wrong_type(c, e, TYPE_LIST)
    return NULL if wrong[0] else e


cdef inline Entry* list_write(Ctx* c, Key* k, bint* wrong) noexcept nogil:
    cdef Entry* e = lookup_write(c, k)
    wrong[0] = wrong_type(c, e, TYPE_LIST)
    return NULL if wrong[0] else e


cdef inline bint where_arg(Ctx* c, Arg* a, bint* front) noexcept nogil:
    """LEFT or RIGHT."""
    if arg_is(a, b"left", 4):
        front[0] = True
    elif arg_is(a, b"right", 5):
        front[0] = False
    else:
        reply_error(c.out, b"ERR syntax error")
        return False
    return True


cdef void removed(Ctx* c, Key* k, List* l, bint front, i64 n) noexcept nogil:
    """After elements were taken from an end: the key goes with its last one."""
    cdef bint empty = list_len(l) == 0
    if not empty:
        list_shrunk(l, True)
    list_close(l)
    key_changed(c, k, N_LIST, b"lpop" if front else b"rpop")
    if empty:
        key_gone(c, k)
    c.dirty += n


cdef void key_gone(Ctx* c, Key* k) noexcept nogil:
    """The list is empty."""
    if table_find(k) != NULL:          # a command of two keys may have changed the slot: find it again
        key_delete(c, k)
    notify(c, N_GENERIC, b"del", k)


# ---- pushing

cdef void push_generic(Ctx* c, bint front, bint only_existing) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = list_write(c, &c.key, &wrong)
    cdef List l
    cdef i64 i
    cdef size_t bytes = 0
    if wrong:
        return
    if e == NULL:
        if only_existing:
            reply_int(c.out, 0)
            return
        for i in range(2, c.argc):
            bytes += lp_entry_bytes(c.argv[i].ptr, c.argv[i].len)
        e = key_put_value(c, &c.key, TYPE_LIST, ENC_LISTPACK, list_new(&c.key.part.arena, bytes))
        bytes = 0
    list_open(&l, &c.key.part.arena, e)
    if entry_enc(e) == ENC_LISTPACK:
        for i in range(2, c.argc):
            bytes += c.argv[i].len
        list_will_grow(&l, bytes, c.argc - 2)
    for i in range(2, c.argc):
        list_push(&l, c.argv[i].ptr, c.argv[i].len, front)
    list_close(&l)
    c.dirty += c.argc - 2
    reply_int(c.out, <i64>list_len(&l))
    key_changed(c, &c.key, N_LIST, b"lpush" if front else b"rpush")


cdef void cmd_lpush(Ctx* c) noexcept nogil:
    push_generic(c, True, False)


cdef void cmd_rpush(Ctx* c) noexcept nogil:
    push_generic(c, False, False)


cdef void cmd_lpushx(Ctx* c) noexcept nogil:
    push_generic(c, True, True)


cdef void cmd_rpushx(Ctx* c) noexcept nogil:
    push_generic(c, False, True)


cdef void cmd_linsert(Ctx* c) noexcept nogil:
    cdef bint wrong, after
    cdef Entry* e
    cdef List l
    cdef Spot s
    if arg_is(&c.argv[2], b"after", 5):
        after = True
    elif arg_is(&c.argv[2], b"before", 6):
        after = False
    else:
        reply_error(c.out, b"ERR syntax error")
        return
    e = list_write(c, &c.key, &wrong)
    if e == NULL:
        if not wrong:
            reply_int(c.out, 0)
        return
    list_open(&l, &c.key.part.arena, e)
    list_will_grow(&l, c.argv[4].len, 1)
    list_end(&l, &s, True)
    while s.node != NULL and not list_equals(&s, c.argv[3].ptr, c.argv[3].len):
        list_step(&l, &s, True)
    if s.node == NULL:
        list_close(&l)
        reply_int(c.out, -1)
        return
    list_insert(&l, &s, c.argv[4].ptr, c.argv[4].len, after)
    list_close(&l)
    c.dirty += 1
    key_changed(c, &c.key, N_LIST, b"linsert")
    reply_int(c.out, <i64>list_len(&l))


cdef void cmd_lset(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = list_write(c, &c.key, &wrong)
    cdef i64 index
    cdef List l
    cdef Spot s
    if e == NULL:
        if not wrong:
            reply_error(c.out, b"ERR no such key")
        return
    if not long_arg(c, &c.argv[2], &index):
        return
    list_open(&l, &c.key.part.arena, e)
    list_will_grow(&l, c.argv[3].len, 1)
    list_seek(&l, <i32>index, &s)          # Valkey's LSET too sees 32 bits of it
    if s.node == NULL:
        list_close(&l)
        reply_error(c.out, b"ERR index out of range")
        return
    list_replace(&l, &s, c.argv[3].ptr, c.argv[3].len)
    list_shrunk(&l, True)
    list_close(&l)
    c.dirty += 1
    reply_ok(c.out)
    key_changed(c, &c.key, N_LIST, b"lset")


# ---- popping

cdef void pop_some(Ctx* c, Key* k, Entry* e, bint front, i64 n) noexcept nogil:
    """Reply and delete n elements from an end."""
    cdef List l
    cdef Spot s
    cdef i64 i
    list_open(&l, &k.part.arena, e)
    list_end(&l, &s, front)
    for i in range(n):
        reply_spot(c.out, &s)
        list_delete(&l, &s, front)
    removed(c, k, &l, front, n)


cdef void pop_generic(Ctx* c, bint front) noexcept nogil:
    cdef bint wrong
    cdef Entry* e
    cdef i64 count = 1
    cdef u64 have
    if c.argc > 3:
        reply_error(c.out, b"ERR wrong number of arguments for 'lpop' command" if front
                    else b"ERR wrong number of arguments for 'rpop' command")
        return
    if c.argc == 3 and not positive_arg(c, &c.argv[2], &count, 0,
                                        b"ERR value is out of range, must be positive"):
        return
    e = list_write(c, &c.key, &wrong)
    if e == NULL:
        if wrong:
            return
        if c.argc == 3:
            reply_null_array(c.out, c.resp)
        else:
            reply_null(c.out, c.resp)
        return
    if c.argc == 3:
        have = type_ops[TYPE_LIST].length(e)
        if <u64>count > have:
            count = <i64>have
        reply_array(c.out, count)
        if count == 0:
            return
    pop_some(c, &c.key, e, front, count)


cdef void cmd_lpop(Ctx* c) noexcept nogil:
    pop_generic(c, True)


cdef void cmd_rpop(Ctx* c) noexcept nogil:
    pop_generic(c, False)


cdef void blocking_pop(Ctx* c, bint front) noexcept nogil:
    """BLPOP, BRPOP: [key, element] from the first list that is there."""
    cdef i64 timeout_ms, i
    cdef bint wrong
    cdef Key k
    cdef Entry* e
    if not timeout_arg(c, &c.argv[c.argc - 1], &timeout_ms):
        return
    for i in range(1, c.argc - 1):
        key_init(c, &k, &c.argv[i])
        e = list_write(c, &k, &wrong)
        if wrong:
            return
        if e != NULL:
            reply_array(c.out, 2)
            reply_bulk(c.out, k.ptr, k.len)
            pop_some(c, &k, e, front, 1)
            if effects_wanted():
                restate_key(c, &k, b"LPOP" if front else b"RPOP")
            return
    if c.no_block:
        reply_null_array(c.out, c.resp)
    else:
        block_on(c, 1, c.argc - 2, 1, timeout_ms, WAIT_LIST | WAIT_NULL_ARRAY)


cdef void cmd_blpop(Ctx* c) noexcept nogil:
    blocking_pop(c, True)


cdef void cmd_brpop(Ctx* c) noexcept nogil:
    blocking_pop(c, False)


cdef struct Mpop:                  # numkeys key … LEFT|RIGHT [COUNT n]
    i64 first                      # place of the first key
    i64 numkeys
    i64 count
    bint front


cdef bint mpop_args(Ctx* c, i64 at, Mpop* m) noexcept nogil:
    """The arguments from numkeys (argv[at]) on; False: an error was replied."""
    cdef i64 i
    m.first = at + 1
    m.count = -1
    if not positive_arg(c, &c.argv[at], &m.numkeys, 1, b"ERR numkeys should be greater than 0"):
        return False
    if m.numkeys >= c.argc or m.first + m.numkeys >= c.argc:
        reply_error(c.out, b"ERR syntax error")
        return False
    i = m.first + m.numkeys
    if not where_arg(c, &c.argv[i], &m.front):
        return False
    i += 1
    while i < c.argc:
        if m.count != -1 or not arg_is(&c.argv[i], b"count", 5) or i + 1 >= c.argc:
            reply_error(c.out, b"ERR syntax error")
            return False
        if not positive_arg(c, &c.argv[i + 1], &m.count, 1, b"ERR count should be greater than 0"):
            return False
        i += 2
    if m.count == -1:
        m.count = 1
    return True


cdef bint mpop(Ctx* c, Mpop* m) noexcept nogil:
    """Pop from the first list that is there; True: none is, and nothing was replied."""
    cdef i64 i, count
    cdef bint wrong
    cdef Key k
    cdef Entry* e
    for i in range(m.first, m.first + m.numkeys):
        key_init(c, &k, &c.argv[i])
        e = list_write(c, &k, &wrong)
        if wrong:
            return False
        if e != NULL:
            count = <i64>type_ops[TYPE_LIST].length(e)
            if count > m.count:
                count = m.count
            reply_array(c.out, 2)
            reply_bulk(c.out, k.ptr, k.len)
            reply_array(c.out, count)
            pop_some(c, &k, e, m.front, count)
            if effects_wanted():
                restate_count(c, &k, b"LPOP" if m.front else b"RPOP", count)
            return False
    return True


cdef void cmd_lmpop(Ctx* c) noexcept nogil:
    cdef Mpop m
    if mpop_args(c, 1, &m) and mpop(c, &m):
        reply_null_array(c.out, c.resp)


cdef void cmd_blmpop(Ctx* c) noexcept nogil:
    cdef i64 timeout_ms
    cdef Mpop m
    if mpop_args(c, 2, &m) and timeout_arg(c, &c.argv[1], &timeout_ms) and mpop(c, &m):
        if c.no_block:
            reply_null_array(c.out, c.resp)
        else:
            block_on(c, m.first, m.numkeys, 1, timeout_ms, WAIT_LIST | WAIT_NULL_ARRAY)


# ---- moving

cdef bint take(Moved* m, Spot* s) noexcept nogil:
    """Copy an element out; m.p is malloc'ed if it is not m.small."""
    cdef LpValue v
    list_get(s, &v)
    m.p = m.small
    m.number = v.s == NULL
    if v.s == NULL:
        m.n = write_i64(m.small, v.v)
        return True
    if v.n > COPY_BYTES:
        m.p = <char*>malloc(v.n)
        if m.p == NULL:
            abort()
    m.n = v.n
    memcpy(m.p, v.s, v.n)
    return True


cdef void rotate(Ctx* c, Entry* e, bint from_front, bint to_front) noexcept nogil:
    """Both keys are one: an element goes from one end to the other."""
    cdef List l
    cdef Spot s
    cdef Moved m
    list_open(&l, &c.key.part.arena, e)
    list_end(&l, &s, from_front)
    take(&m, &s)
    list_delete(&l, &s, from_front)
    list_will_grow(&l, 0 if m.number else m.n, 1)
    list_push(&l, m.p, m.n, to_front)
    list_shrunk(&l, True)
    list_close(&l)
    key_changed(c, &c.key, N_LIST, b"lpush" if to_front else b"rpush")
    reply_bulk(c.out, m.p, m.n)
    key_changed(c, &c.key, N_LIST, b"lpop" if from_front else b"rpop")
    c.dirty += 1
    if m.p != m.small:
        free(m.p)


cdef void move_to(Ctx* c, Key* dst, Entry* to, Moved* m, bint front) noexcept nogil:
    cdef List l
    if to == NULL:
        to = key_put_value(c, dst, TYPE_LIST, ENC_LISTPACK, list_new(&dst.part.arena, lp_entry_bytes(m.p, m.n)))
    list_open(&l, &dst.part.arena, to)
    list_will_grow(&l, 0 if m.number else m.n, 1)
    list_push(&l, m.p, m.n, front)
    list_close(&l)
    key_changed(c, dst, N_LIST, b"lpush" if front else b"rpush")


cdef bint move_generic(Ctx* c, bint from_front, bint to_front) noexcept nogil:
    """argv[1] to argv[2]; True if the source is missing, and nothing was replied."""
    cdef bint wrong
    cdef Entry* e = list_write(c, &c.key, &wrong)
    cdef Entry* to
    cdef Key dst
    cdef List l
    cdef Spot s
    cdef Moved m
    if e == NULL:
        return not wrong
    if c.argv[1].len == c.argv[2].len and not memcmp(c.argv[1].ptr, c.argv[2].ptr, c.argv[1].len):
        rotate(c, e, from_front, to_front)
        return False
    key_init(c, &dst, &c.argv[2])
    to = list_write(c, &dst, &wrong)
    if wrong:
        return False
    list_open(&l, &c.key.part.arena, e)
    list_end(&l, &s, from_front)
    take(&m, &s)
    list_delete(&l, &s, from_front)
    move_to(c, &dst, to, &m, to_front)
    reply_bulk(c.out, m.p, m.n)
    removed(c, &c.key, &l, from_front, 1)
    if m.p != m.small:
        free(m.p)
    return False


cdef void cmd_lmove(Ctx* c) noexcept nogil:
    cdef bint from_front, to_front
    if where_arg(c, &c.argv[3], &from_front) and where_arg(c, &c.argv[4], &to_front):
        if move_generic(c, from_front, to_front):
            reply_null(c.out, c.resp)


cdef void cmd_rpoplpush(Ctx* c) noexcept nogil:
    if move_generic(c, False, True):
        reply_null(c.out, c.resp)


cdef void restate_move(Ctx* c) noexcept nogil:
    """BLMOVE and BRPOPLPUSH as the forms that do not wait."""
    cdef i64 argc = c.argc - 1
    restate_named(c, argc, b"LMOVE" if argc == 5 else b"RPOPLPUSH")
    restate_words(c, 1, argc)
    effect_end(c)


cdef void blocking_move(Ctx* c, bint from_front, bint to_front, Arg* timeout) noexcept nogil:
    cdef i64 timeout_ms, dirty = c.dirty
    if not timeout_arg(c, timeout, &timeout_ms):
        return
    if move_generic(c, from_front, to_front):
        if c.no_block:
            reply_null(c.out, c.resp)
        else:
            block_on(c, 1, 1, 1, timeout_ms, WAIT_LIST | WAIT_NULL_ARRAY)
    elif effects_wanted() and c.dirty != dirty:
        restate_move(c)


cdef void cmd_blmove(Ctx* c) noexcept nogil:
    cdef bint from_front, to_front
    if where_arg(c, &c.argv[3], &from_front) and where_arg(c, &c.argv[4], &to_front):
        blocking_move(c, from_front, to_front, &c.argv[5])


cdef void cmd_brpoplpush(Ctx* c) noexcept nogil:
    blocking_move(c, False, True, &c.argv[3])


# ---- reading

cdef void cmd_llen(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = list_read(c, &c.key, &wrong)
    if not wrong:
        reply_int(c.out, 0 if e == NULL else <i64>type_ops[TYPE_LIST].length(e))


cdef void cmd_lindex(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = list_read(c, &c.key, &wrong)
    cdef i64 index
    cdef List l
    cdef Spot s
    if e == NULL:
        if not wrong:
            reply_null(c.out, c.resp)
        return
    if not long_arg(c, &c.argv[2], &index):
        return
    list_open(&l, &c.key.part.arena, e)
    list_seek(&l, index, &s)
    if s.node == NULL:
        reply_null(c.out, c.resp)
    else:
        reply_spot(c.out, &s)
        list_leave(&l, &s)
    list_close(&l)


cdef void cmd_lrange(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e
    cdef i64 start, end, count, i
    cdef List l
    cdef Spot s
    if not long_arg(c, &c.argv[2], &start) or not long_arg(c, &c.argv[3], &end):
        return
    e = list_read(c, &c.key, &wrong)
    if wrong:
        return
    count = 0 if e == NULL else <i64>type_ops[TYPE_LIST].length(e)
    if start < 0:
        start = start + count if start + count > 0 else 0
    if end < 0:
        end += count
    if end >= count:
        end = count - 1
    if start > end or start >= count:
        reply_array(c.out, 0)
        return
    list_open(&l, &c.key.part.arena, e)
    list_seek(&l, start, &s)
    reply_array(c.out, end - start + 1)
    for i in range(end - start + 1):
        reply_spot(c.out, &s)
        list_step(&l, &s, True)
    list_leave(&l, &s)
    list_close(&l)


cdef void cmd_ltrim(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e
    cdef i64 start, end, count, front, back
    cdef List l
    if not long_arg(c, &c.argv[2], &start) or not long_arg(c, &c.argv[3], &end):
        return
    e = list_write(c, &c.key, &wrong)
    if e == NULL:
        if not wrong:
            reply_ok(c.out)
        return
    count = <i64>type_ops[TYPE_LIST].length(e)
    if start < 0:
        start = start + count if start + count > 0 else 0
    if end < 0:
        end += count
    if start > end or start >= count:
        front = count
        back = 0
    else:
        if end >= count:
            end = count - 1
        front = start
        back = count - end - 1
    list_open(&l, &c.key.part.arena, e)
    list_delete_range(&l, <u64>(count - back), <u64>back)
    list_delete_range(&l, 0, <u64>front)
    if list_len(&l):
        list_shrunk(&l, True)
    list_close(&l)
    key_changed(c, &c.key, N_LIST, b"ltrim")
    if list_len(&l) == 0:
        key_gone(c, &c.key)
    c.dirty += front + back
    reply_ok(c.out)


cdef void cmd_lrem(Ctx* c) noexcept nogil:
    cdef bint wrong, forward = True
    cdef Entry* e
    cdef i64 most, gone = 0
    cdef List l
    cdef Spot s
    if not signed_arg(c, &c.argv[2], &most):
        return
    e = list_write(c, &c.key, &wrong)
    if e == NULL:
        if not wrong:
            reply_int(c.out, 0)
        return
    if most < 0:
        most = -most
        forward = False
    list_open(&l, &c.key.part.arena, e)
    list_end(&l, &s, forward)
    while s.node != NULL:
        if list_equals(&s, c.argv[3].ptr, c.argv[3].len):
            list_delete(&l, &s, forward)
            gone += 1
            if gone == most:
                break
        else:
            list_step(&l, &s, forward)
    if gone and list_len(&l):
        list_shrunk(&l, True)
    list_close(&l)
    if gone:
        key_changed(c, &c.key, N_LIST, b"lrem")
        if list_len(&l) == 0:
            key_gone(c, &c.key)
    c.dirty += gone
    reply_int(c.out, gone)


cdef struct Positions:
    i64 rank
    i64 count                      # -1: not asked for, 0: all
    i64 maxlen


cdef bint lpos_options(Ctx* c, Positions* o) noexcept nogil:
    cdef i64 i = 3
    cdef Arg* v
    o.rank = 1
    o.count = -1
    o.maxlen = 0
    while i < c.argc:
        v = &c.argv[i + 1] if i + 1 < c.argc else NULL
        if v != NULL and arg_is(&c.argv[i], b"rank", 4):
            if not signed_arg(c, v, &o.rank):
                return False
            if o.rank == 0:
                reply_error(c.out, b"ERR RANK can't be zero: use 1 to start from the first match, "
                            b"2 from the second ... or use negative to start from the end of the list")
                return False
        elif v != NULL and arg_is(&c.argv[i], b"count", 5):
            if not positive_arg(c, v, &o.count, 0, b"ERR COUNT can't be negative"):
                return False
        elif v != NULL and arg_is(&c.argv[i], b"maxlen", 6):
            if not positive_arg(c, v, &o.maxlen, 0, b"ERR MAXLEN can't be negative"):
                return False
        else:
            reply_error(c.out, b"ERR syntax error")
            return False
        i += 2
    return True


cdef i64 lpos_walk(Ctx* c, List* l, Positions* o, OutBuf* found) noexcept nogil:
    """Reply the places of matches to `found`; returns how many. Without COUNT it stops at the first."""
    cdef bint forward = o.rank > 0
    cdef i64 rank = o.rank if forward else -o.rank
    cdef i64 most = o.count if o.count > 0 else (1 if o.count < 0 else I64_MAX)
    cdef i64 index = 0, matches = 0, n = 0, count = <i64>list_len(l)
    cdef Spot s
    list_end(l, &s, forward)
    while s.node != NULL and (o.maxlen == 0 or index < o.maxlen):
        if list_equals(&s, c.argv[2].ptr, c.argv[2].len):
            matches += 1
            if matches >= rank:
                reply_int(found, index if forward else count - index - 1)
                n += 1
                if n == most:
                    break
        index += 1
        list_step(l, &s, forward)
    if s.node != NULL:
        list_leave(l, &s)
    return n


cdef void cmd_lpos(Ctx* c) noexcept nogil:
    cdef Positions o
    cdef bint wrong
    cdef Entry* e
    cdef List l
    cdef OutBuf found
    cdef i64 n = 0
    if not lpos_options(c, &o):
        return
    e = list_read(c, &c.key, &wrong)
    if wrong:
        return
    out_init(&found, c.out.pool)
    if e != NULL:
        list_open(&l, &c.key.part.arena, e)
        n = lpos_walk(c, &l, &o, &found)
        list_close(&l)
    if o.count >= 0:
        reply_array(c.out, n)
    elif n == 0:
        reply_null(c.out, c.resp)
    out_append(c.out, &found)


# ---- the rows

cdef dict about(str since, str complexity, str summary, str acl):
    return {"since": since, "group": "list", "complexity": complexity, "summary": summary, "acl": acl}


cdef str O_PUSH = "O(1) for each element"
cdef str O_KEYS_N = "O(N+M), N the keys and M the elements taken"

register("lpush", -3, "write denyoom fast", (1, 1, 1), cmd_lpush,
         about("1.0.0", O_PUSH, "Puts elements in front of a list; makes the list if need be.", "write list fast"))
register("rpush", -3, "write denyoom fast", (1, 1, 1), cmd_rpush,
         about("1.0.0", O_PUSH, "Puts elements at the end of a list; makes the list if need be.", "write list fast"))
register("lpushx", -3, "write denyoom fast", (1, 1, 1), cmd_lpushx,
         about("2.2.0", O_PUSH, "Puts elements in front of a list that exists.", "write list fast"))
register("rpushx", -3, "write denyoom fast", (1, 1, 1), cmd_rpushx,
         about("2.2.0", O_PUSH, "Puts elements at the end of a list that exists.", "write list fast"))
register("linsert", 5, "write denyoom", (1, 1, 1), cmd_linsert,
         about("2.2.0", "O(N), N the elements before the pivot", "Puts an element beside another one.",
               "write list slow"))
register("lset", 4, "write denyoom", (1, 1, 1), cmd_lset,
         about("1.0.0", "O(N), less near the ends", "Replaces the element at an index.", "write list slow"))
register("lpop", -2, "write fast", (1, 1, 1), cmd_lpop,
         about("1.0.0", "O(N), N the elements taken", "Takes the first elements of a list.", "write list fast"))
register("rpop", -2, "write fast", (1, 1, 1), cmd_rpop,
         about("1.0.0", "O(N), N the elements taken", "Takes the last elements of a list.", "write list fast"))
register("blpop", -3, "write blocking", (1, -2, 1), cmd_blpop,
         about("2.0.0", "O(N), N the keys", "Takes the first element of one of several lists, or waits for one.",
               "write list slow blocking"))
register("brpop", -3, "write blocking", (1, -2, 1), cmd_brpop,
         about("2.0.0", "O(N), N the keys", "Takes the last element of one of several lists, or waits for one.",
               "write list slow blocking"))
row_keynum(register("lmpop", -4, "write movablekeys", (0, 0, 0), cmd_lmpop,
                    about("7.0.0", O_KEYS_N, "Takes elements from the first of several lists that is there.",
                          "write list slow")), 1, 2, 1)
row_keynum(register("blmpop", -5, "write blocking movablekeys", (0, 0, 0), cmd_blmpop,
                    about("7.0.0", O_KEYS_N, "Takes elements from the first of several lists that is there, "
                          "or waits for one.", "write list slow blocking")), 2, 3, 1)
register("lmove", 5, "write denyoom", (1, 2, 1), cmd_lmove,
         about("6.2.0", "O(1)", "Moves an element from an end of a list to an end of another.", "write list slow"))
register("rpoplpush", 3, "write denyoom", (1, 2, 1), cmd_rpoplpush,
         about("1.2.0", "O(1)", "Moves the last element of a list to the front of another.", "write list slow"))
register("blmove", 6, "write denyoom blocking", (1, 2, 1), cmd_blmove,
         about("6.2.0", "O(1)", "As LMOVE, and waits for an element.", "write list slow blocking"))
register("brpoplpush", 4, "write denyoom blocking", (1, 2, 1), cmd_brpoplpush,
         about("2.2.0", "O(1)", "As RPOPLPUSH, and waits for an element.", "write list slow blocking"))
register("llen", 2, "readonly fast", (1, 1, 1), cmd_llen,
         about("1.0.0", "O(1)", "Says how many elements a list has.", "read list fast"))
register("lindex", 3, "readonly", (1, 1, 1), cmd_lindex,
         about("1.0.0", "O(N), less near the ends", "Reads the element at an index.", "read list slow"))
register("lrange", 4, "readonly", (1, 1, 1), cmd_lrange,
         about("1.0.0", "O(S+N), S the way to the start and N the elements", "Reads a range of elements.",
               "read list slow"))
register("ltrim", 4, "write", (1, 1, 1), cmd_ltrim,
         about("1.0.0", "O(N), N the elements deleted", "Deletes what is outside a range.", "write list slow"))
register("lrem", 4, "write", (1, 1, 1), cmd_lrem,
         about("1.0.0", "O(N), N the elements", "Deletes elements that are equal to one.", "write list slow"))
register("lpos", -3, "readonly", (1, 1, 1), cmd_lpos,
         about("6.0.6", "O(N), N the elements looked at", "Finds the index of an element.", "read list slow"))
