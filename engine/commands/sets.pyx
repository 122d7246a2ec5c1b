# slotring: data plane
"""Commands on one set: members added, removed, looked for, drawn, listed. Several sets: see set_algebra.pyx."""
from libc.stdlib cimport calloc, free
from libc.string cimport memmove
from engine.defs cimport *
from engine.store cimport *
from engine.arena cimport arena_free
from engine.args cimport long_arg
from engine.command cimport Ctx, Arg, register, ctx_random
from engine.commands.keys cimport (ScanArgs, error_quoting, out_append, parse_cursor, scan_args)
from engine.conf cimport conf
from engine.effects cimport effect_arg, effect_end, effect_int, effects_wanted
from engine.events cimport *
from engine.glob cimport glob_match
from engine.hashing cimport hash_bytes
from engine.intset cimport is_get, is_keep, is_len, is_remove_at
from engine.keyspace cimport (key_delete, key_init, key_put_value, lookup_read, lookup_write, wrong_type)
from engine.listpack cimport *
from engine.members cimport *
from engine.numbers cimport parse_i64
from engine.reply cimport *
from engine.restate cimport *
from engine.setvalue cimport *

cdef enum:
    POP_FEW = 5                    # SPOP rebuilds the set where what stays is less than a fifth of what goes
    DRAW_FEW = 3                   # SRANDMEMBER draws until it has enough where a third of the set or less is wanted
    DRAWS_MOST = 1 << 27           # members that SRANDMEMBER gives with repetition; more would be all the memory

cdef i64 INT64_MIN = -0x7FFFFFFFFFFFFFFF - 1


cdef inline u64 below(Ctx* c, u64 n) noexcept nogil:
    """A random number less than n (at most 2^32)."""
    return ((ctx_random(c) >> 32) * n) >> 32


cdef inline Entry* read_set(Ctx* c, SetRef* r) noexcept nogil:
    """The first key, for reading, and its value if it is a set; NULL: there is no such key."""
    cdef Entry* e = lookup_read(c, &c.key)
    if e != NULL and entry_type(e) == TYPE_SET:
        set_ref(r, c.key.part, e)
    return e


cdef void reply_all(OutBuf* o, SetRef* r) noexcept nogil:
    """All elements, without a head."""
    cdef SetWalk w
    cdef LpValue v
    set_walk(r, &w)
    while set_next(&w, &v):
        reply_value(o, &v)


# ---- adding, removing, asking

cdef void cmd_sadd(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_write(c, &c.key)
    cdef SetRef r
    cdef i64 i, added = 0
    if wrong_type(c, e, TYPE_SET):
        return
    if e == NULL:
        set_new_for(&r, &c.key.part.arena, c.argv[2].ptr, c.argv[2].len, c.argc - 2)
    else:
        set_ref(&r, c.key.part, e)
        if c.argc > 3 or conf.set_max_listpack_entries == 0 or conf.set_max_intset_entries == 0:
            set_expect(&r, c.argc - 2)
    for i in range(2, c.argc):
        added += set_add(&r, c.argv[i].ptr, c.argv[i].len)
    if e == NULL:
        key_put_value(c, &c.key, TYPE_SET, r.enc, r.value)
    else:
        set_put_back(&r, e)
    if added:
        key_changed(c, &c.key, N_SET, b"sadd")
        c.dirty += added
    reply_int(c.out, added)


cdef void cmd_srem(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_write(c, &c.key)
    cdef SetRef r
    cdef i64 i, removed = 0
    cdef bint empty = False
    if e == NULL:
        reply_int(c.out, 0)
        return
    if wrong_type(c, e, TYPE_SET):
        return
    set_ref(&r, c.key.part, e)
    for i in range(2, c.argc):
        if set_remove(&r, c.argv[i].ptr, c.argv[i].len):
            removed += 1
            if set_size(&r) == 0:
                empty = True
                break
    set_put_back(&r, e)
    if empty:
        key_delete(c, &c.key)
    if removed:
        key_changed(c, &c.key, N_SET, b"srem")
        if empty:
            notify(c, N_GENERIC, b"del", &c.key)
        c.dirty += removed
    reply_int(c.out, removed)


cdef void smove_put(Ctx* c, Key* dst) noexcept nogil:
    """Add the member to the destination."""
    cdef Arg* a = &c.argv[3]
    cdef SetRef r
    cdef Entry* e = table_find(dst)            # its slot may have changed
    cdef bint added
    if e == NULL:
        set_new_for(&r, &dst.part.arena, a.ptr, a.len, 1)
        added = set_add(&r, a.ptr, a.len)
        key_put_value(c, dst, TYPE_SET, r.enc, r.value)
    else:
        set_ref(&r, dst.part, e)
        added = set_add(&r, a.ptr, a.len)
        set_put_back(&r, e)
    if added:
        c.dirty += 1
        key_changed(c, dst, N_SET, b"sadd")


cdef void cmd_smove(Ctx* c) noexcept nogil:
    cdef Arg* a = &c.argv[3]
    cdef Entry* src = lookup_write(c, &c.key)
    cdef Entry* e
    cdef Key dst
    cdef SetRef r
    key_init(c, &dst, &c.argv[2])
    e = lookup_write(c, &dst)
    if src == NULL:
        reply_int(c.out, 0)
        return
    if wrong_type(c, src, TYPE_SET) or wrong_type(c, e, TYPE_SET):
        return
    set_ref(&r, c.key.part, src)
    if src == e:
        reply_int(c.out, set_has(&r, a.ptr, a.len))
        return
    if not set_remove(&r, a.ptr, a.len):
        reply_int(c.out, 0)
        return
    set_put_back(&r, src)
    c.dirty += 1
    key_changed(c, &c.key, N_SET, b"srem")
    if set_size(&r) == 0:
        table_find(&c.key)                     # the other look-up may have deleted an expired key of the slot
        key_delete(c, &c.key)
        notify(c, N_GENERIC, b"del", &c.key)
    smove_put(c, &dst)
    reply_int(c.out, 1)


cdef void cmd_sismember(Ctx* c) noexcept nogil:
    cdef SetRef r
    cdef Entry* e = read_set(c, &r)
    if e == NULL:
        reply_int(c.out, 0)
    elif not wrong_type(c, e, TYPE_SET):
        reply_int(c.out, set_has(&r, c.argv[2].ptr, c.argv[2].len))


cdef void cmd_smismember(Ctx* c) noexcept nogil:
    cdef SetRef r
    cdef Entry* e = read_set(c, &r)
    cdef i64 i
    if wrong_type(c, e, TYPE_SET):
        return
    reply_array(c.out, c.argc - 2)
    for i in range(2, c.argc):
        reply_int(c.out, e != NULL and set_has(&r, c.argv[i].ptr, c.argv[i].len))


cdef void cmd_scard(Ctx* c) noexcept nogil:
    cdef SetRef r
    cdef Entry* e = read_set(c, &r)
    if e == NULL:
        reply_int(c.out, 0)
    elif not wrong_type(c, e, TYPE_SET):
        reply_int(c.out, <i64>set_size(&r))


cdef void cmd_smembers(Ctx* c) noexcept nogil:
    cdef SetRef r
    cdef Entry* e = read_set(c, &r)
    if e == NULL:
        reply_set(c.out, c.resp, 0)
    elif not wrong_type(c, e, TYPE_SET):
        reply_set(c.out, c.resp, <i64>set_size(&r))
        reply_all(c.out, &r)


# ---- SPOP

cdef void popped(Ctx* c, LpValue* v, u64 left, u64 total) noexcept nogil:
    """Reply a member of `total` that go; `left` counts it and those to come. In the log they are SREMs."""
    cdef u64 done = total - left
    cdef char tmp[24]
    reply_value(c.out, v)
    if not effects_wanted():
        return
    if done % RESTATED_WORDS == 0:
        restate(c, &c.key, 2 + <i64>(left if left < RESTATED_WORDS else RESTATED_WORDS), b"SREM")
    if v.s != NULL:
        effect_arg(c, v.s, v.n)
    else:
        effect_int(c, v.v)
    if left == 1 or (done + 1) % RESTATED_WORDS == 0:
        effect_end(c)


cdef void pop_one(Ctx* c, SetRef* r, u64 left, u64 total) noexcept nogil:
    """Take a random member out and reply it."""
    cdef LpValue v
    cdef u64* at
    cdef u64 cell, hash
    cdef u8* p
    cdef u32 index
    if r.enc == ENC_HASHTABLE:
        at = members_random(<Members*>r.value, ctx_random(c))
        cell = at[0]
        v.n = cell_key(&cell, &v.s)
        popped(c, &v, left, total)
        hash = hash_bytes(v.s, v.n)
        members_remove(r.arena, <Members*>r.value, at, hash)
        cell_free(r.arena, cell)
    elif r.enc == ENC_INTSET:
        index = <u32>below(c, is_len(<u8*>r.value))
        v.s = NULL
        v.v = is_get(<u8*>r.value, index)
        popped(c, &v, left, total)
        r.value = is_remove_at(r.arena, <u8*>r.value, index)
    else:
        p = lp_seek(<u8*>r.value, <i64>below(c, lp_len(<u8*>r.value)))
        lp_get(p, &v)
        popped(c, &v, left, total)
        r.value = lp_delete(r.arena, <u8*>r.value, p, NULL)


cdef void pop_from_listpack(Ctx* c, SetRef* r, u64 count) noexcept nogil:
    """Take `count` random elements, fewer than there are, out of a listpack in one pass, and reply them."""
    cdef u8* lp = <u8*>r.value
    cdef u8* p = lp + LP_HEADER
    cdef u8* to = p
    cdef u8* following
    cdef u64 left = lp_len(lp), stays = left - count, total = count
    cdef LpValue v
    while p[0] != LP_EOF:
        following = lp_skip(p)
        if count and below(c, left) < count:
            lp_get(p, &v)
            popped(c, &v, count, total)
            count -= 1
        else:
            memmove(to, p, following - p)
            to += following - p
        left -= 1
        p = following
    to[0] = LP_EOF
    (<u32*>lp)[0] = <u32>(to + 1 - lp)
    (<u16*>(lp + 4))[0] = <u16>(stays if stays < 65535 else 65535)
    r.value = lp_shrink(r.arena, lp)


cdef bint pop_from_intset(Ctx* c, SetRef* r, u64 count) noexcept nogil:
    """The same for an intset; False: there was no memory for it."""
    cdef u8* s = <u8*>r.value
    cdef u32 left = is_len(s), i = 0
    cdef u8* gone = <u8*>calloc(left, 1)
    cdef u64 total = count
    cdef LpValue v
    if gone == NULL:
        return False
    while count:
        if below(c, left) < count:
            v.s = NULL
            v.v = is_get(s, i)
            popped(c, &v, count, total)
            gone[i] = 1
            count -= 1
        i += 1
        left -= 1
    r.value = is_keep(r.arena, s, gone)
    free(gone)
    return True


cdef void pop_most(Ctx* c, SetRef* r, u64 count) noexcept nogil:
    """Reply `count` random members; the few that stay become a new set."""
    cdef u64 left = set_size(r), stay = left - count, total = count
    cdef SetRef few
    cdef SetWalk w
    cdef LpValue v
    set_new(&few, r.arena, ENC_INTSET if r.enc == ENC_INTSET else ENC_LISTPACK)
    set_walk(r, &w)
    while set_next(&w, &v):
        if stay and below(c, left) < stay:
            set_add_value(&few, &v)
            stay -= 1
        else:
            popped(c, &v, count, total)
            count -= 1
        left -= 1
    set_free(r)
    r[0] = few


cdef void pop_many(Ctx* c, SetRef* r, u64 count) noexcept nogil:
    """Take `count` random members, fewer than there are, out of a set, and reply them."""
    cdef u64 total = count
    if (set_size(r) - count) * POP_FEW <= count:
        pop_most(c, r, count)
    elif r.enc == ENC_LISTPACK:
        pop_from_listpack(c, r, count)
    elif r.enc == ENC_HASHTABLE or not pop_from_intset(c, r, count):
        while count:
            pop_one(c, r, count, total)
            count -= 1


cdef void spop_count(Ctx* c) noexcept nogil:
    cdef i64 count
    cdef u64 size
    cdef Entry* e
    cdef SetRef r
    if not parse_i64(c.argv[2].ptr, c.argv[2].len, &count) or count < 0:
        reply_error(c.out, b"ERR value is out of range, must be positive")
        return
    e = lookup_write(c, &c.key)
    if wrong_type(c, e, TYPE_SET):
        return
    if e == NULL or count == 0:
        reply_set(c.out, c.resp, 0)
        return
    set_ref(&r, c.key.part, e)
    size = set_size(&r)
    if <u64>count >= size:
        reply_set(c.out, c.resp, <i64>size)
        reply_all(c.out, &r)
        key_delete(c, &c.key)
        if effects_wanted():
            restate_key(c, &c.key, b"UNLINK" if conf.lazyfree_server_del else b"DEL")
        key_changed(c, &c.key, N_SET, b"spop")
        notify(c, N_GENERIC, b"del", &c.key)
        c.dirty += <i64>size
        return
    reply_set(c.out, c.resp, count)
    pop_many(c, &r, <u64>count)
    set_put_back(&r, e)
    key_changed(c, &c.key, N_SET, b"spop")
    c.dirty += count


cdef void cmd_spop(Ctx* c) noexcept nogil:
    cdef Entry* e
    cdef SetRef r
    cdef bint empty
    if c.argc == 3:
        spop_count(c)
        return
    if c.argc > 3:
        reply_error(c.out, b"ERR syntax error")
        return
    e = lookup_write(c, &c.key)
    if e == NULL:
        reply_null(c.out, c.resp)
        return
    if wrong_type(c, e, TYPE_SET):
        return
    set_ref(&r, c.key.part, e)
    pop_one(c, &r, 1, 1)
    set_put_back(&r, e)
    empty = set_size(&r) == 0
    if empty:
        key_delete(c, &c.key)
    key_changed(c, &c.key, N_SET, b"spop")
    if empty:
        notify(c, N_GENERIC, b"del", &c.key)
    c.dirty += 1


# ---- SRANDMEMBER

cdef inline void draw(Ctx* c, SetRef* r, LpValue* v) noexcept nogil:
    """A random member."""
    cdef u64* cell
    if r.enc == ENC_HASHTABLE:
        cell = members_random(<Members*>r.value, ctx_random(c))
        v.n = cell_key(cell, &v.s)
    elif r.enc == ENC_INTSET:
        v.s = NULL
        v.v = is_get(<u8*>r.value, <u32>below(c, is_len(<u8*>r.value)))
    else:
        lp_get(lp_seek(<u8*>r.value, <i64>below(c, lp_len(<u8*>r.value))), v)


cdef void draw_again(Ctx* c, SetRef* r, u64 count) noexcept nogil:
    """`count` random members, the same ones again and again if it so happens."""
    cdef LpValue v
    cdef u64 n = lp_len(<u8*>r.value) if r.enc == ENC_LISTPACK else 0, i
    cdef u32* places = NULL
    cdef u8* p
    if n and count > n:                        # more draws than elements: find all elements first
        places = <u32*>calloc(n, sizeof(u32))
    if places != NULL:
        p = lp_first(<u8*>r.value)
        for i in range(n):
            places[i] = <u32>(p - <u8*>r.value)
            p = lp_skip(p)
    reply_array(c.out, <i64>count)
    while count:
        if places != NULL:
            lp_get(<u8*>r.value + places[below(c, n)], &v)
        else:
            draw(c, r, &v)
        reply_value(c.out, &v)
        count -= 1
        if conf.out_hard_bytes and not count & 1023 and out_pending(c.out) > <u64>conf.out_hard_bytes:
            break                              # the client will be closed
    free(places)


cdef void draw_by_walk(Ctx* c, SetRef* r, u64 count) noexcept nogil:
    """`count` different random members in one pass."""
    cdef u64 left = set_size(r)
    cdef SetWalk w
    cdef LpValue v
    set_walk(r, &w)
    while count and set_next(&w, &v):
        if below(c, left) < count:
            reply_value(c.out, &v)
            count -= 1
        left -= 1


cdef bint draw_few(Ctx* c, SetRef* r, u64 count) noexcept nogil:
    """`count` different random members of a table or an intset, a small part of all. False: no memory."""
    cdef u64 places = 16, at, drawn
    cdef u64* seen                             # cells' addresses, or indexes + 1, by their hash
    cdef LpValue v
    while places < count * 2:
        places *= 2
    seen = <u64*>calloc(places, sizeof(u64))
    if seen == NULL:
        return False
    while count:
        if r.enc == ENC_HASHTABLE:
            drawn = <u64>members_random(<Members*>r.value, ctx_random(c))
        else:
            drawn = below(c, is_len(<u8*>r.value)) + 1
        at = (drawn * <u64>0x9E3779B97F4A7C15) >> 20 & (places - 1)
        while seen[at] and seen[at] != drawn:
            at = (at + 1) & (places - 1)
        if seen[at]:
            continue
        seen[at] = drawn
        count -= 1
        if r.enc == ENC_HASHTABLE:
            v.n = cell_key(<u64*>drawn, &v.s)
        else:
            v.s = NULL
            v.v = is_get(<u8*>r.value, <u32>drawn - 1)
        reply_value(c.out, &v)
    free(seen)
    return True


cdef void srandmember_count(Ctx* c) noexcept nogil:
    cdef i64 count
    cdef u64 size
    cdef SetRef r
    cdef Entry* e
    if not long_arg(c, &c.argv[2], &count):
        return
    if count == INT64_MIN:
        reply_error(c.out, b"ERR value is out of range, value must between -9223372036854775807 and "
                    b"9223372036854775807")
        return
    e = read_set(c, &r)
    if wrong_type(c, e, TYPE_SET):
        return
    if e == NULL or count == 0:
        reply_array(c.out, 0)
        return
    size = set_size(&r)
    if count < -DRAWS_MOST:
        reply_error(c.out, b"ERR value is out of range")
    elif count < 0:
        draw_again(c, &r, <u64>-count)
    elif <u64>count >= size:
        reply_array(c.out, <i64>size)
        reply_all(c.out, &r)
    else:
        reply_array(c.out, count)
        if r.enc == ENC_LISTPACK or <u64>count * DRAW_FEW > size or not draw_few(c, &r, <u64>count):
            draw_by_walk(c, &r, <u64>count)


cdef void cmd_srandmember(Ctx* c) noexcept nogil:
    cdef SetRef r
    cdef Entry* e
    cdef LpValue v
    if c.argc == 3:
        srandmember_count(c)
        return
    if c.argc > 3:
        reply_error(c.out, b"ERR syntax error")
        return
    e = read_set(c, &r)
    if e == NULL:
        reply_null(c.out, c.resp)
    elif not wrong_type(c, e, TYPE_SET):
        draw(c, &r, &v)
        reply_value(c.out, &v)


# ---- SSCAN

cdef struct Gather:
    OutBuf out
    ScanArgs* args
    i64 seen
    i64 found


cdef inline void gather(Gather* g, const char* s, size_t n) noexcept nogil:
    g.seen += 1
    if g.args.pattern == NULL or glob_match(g.args.pattern, g.args.pattern_len, s, n, False):
        g.found += 1
        reply_bulk(&g.out, s, n)


cdef void gather_cell(void* arg, u64* cell) noexcept nogil:
    cdef const char* s
    cdef size_t n = cell_key(cell, &s)
    gather(<Gather*>arg, s, n)


cdef u64 gather_table(Gather* g, Members* t, u64 cursor) noexcept nogil:
    """From a cursor on until COUNT members were seen (or many empty buckets); the next cursor."""
    cdef i64 rounds = g.args.count * 10 if g.args.count < (<i64>1 << 59) else g.args.count
    cursor &= <u64>0xFFFFFFFF
    while True:
        cursor = members_scan(t, cursor, gather_cell, g)
        rounds -= 1
        if cursor >> 32:
            return 0
        if g.seen >= g.args.count or rounds <= 0:
            return cursor


cdef void cmd_sscan(Ctx* c) noexcept nogil:
    cdef Gather g
    cdef ScanArgs args
    cdef SetRef r
    cdef SetWalk w
    cdef LpValue v
    cdef Entry* e
    cdef u64 cursor
    cdef char tmp[24]
    if not parse_cursor(&c.argv[2], &cursor):
        reply_error(c.out, b"ERR invalid cursor")
        return
    e = read_set(c, &r)
    if e == NULL:
        reply_raw(c.out, b"*2\r\n$1\r\n0\r\n*0\r\n")
        return
    if wrong_type(c, e, TYPE_SET) or not scan_args(c, 3, TYPE_SET, &args):
        return
    out_init(&g.out, c.out.pool)
    g.args = &args
    g.seen = g.found = 0
    if r.enc == ENC_HASHTABLE:
        cursor = gather_table(&g, <Members*>r.value, cursor)
    else:
        cursor = 0
        set_walk(&r, &w)
        while set_next(&w, &v):
            if v.s == NULL:
                v.n = write_i64(tmp, v.v) & 31
                v.s = tmp
            gather(&g, v.s, v.n)
    reply_array(c.out, 2)
    reply_bulk(c.out, tmp, write_u64(tmp, cursor) & 31)
    reply_array(c.out, g.found)
    out_append(c.out, &g.out)


# ---- rows

def about(since, summary, acl, complexity="O(1)", **more):
    """What COMMAND DOCS and ACL say of a row of this family."""
    return {"since": since, "group": "set", "complexity": complexity, "summary": summary, "acl": "set " + acl, **more}


register("sadd", -3, "write denyoom fast", (1, 1, 1), cmd_sadd, about(
    "1.0.0", "Adds members to a set.", "write fast", "O(N), N members to add", key_flags=["RW insert"]))
register("srem", -3, "write fast", (1, 1, 1), cmd_srem, about(
    "1.0.0", "Removes members from a set.", "write fast", "O(N), N members to remove", key_flags=["RW delete"]))
register("smove", 4, "write fast", (1, 2, 1), cmd_smove, about(
    "1.0.0", "Moves a member from one set to another.", "write fast",
    key_flags=["RW access delete", "RW insert"]))
register("sismember", 3, "readonly fast", (1, 1, 1), cmd_sismember, about(
    "1.0.0", "Says whether a set has a member.", "read fast", key_flags=["RO"]))
register("smismember", -3, "readonly fast", (1, 1, 1), cmd_smismember, about(
    "6.2.0", "Says of several members whether a set has them.", "read fast", "O(N), N members asked for",
    key_flags=["RO access"]))
register("scard", 2, "readonly fast", (1, 1, 1), cmd_scard, about(
    "1.0.0", "Counts the members of a set.", "read fast", key_flags=["RO"]))
register("smembers", 2, "readonly", (1, 1, 1), cmd_smembers, about(
    "1.0.0", "Lists the members of a set.", "read slow", "O(N), N members of the set",
    tips="nondeterministic_output_order", key_flags=["RO access"]))
register("spop", -2, "write fast", (1, 1, 1), cmd_spop, about(
    "1.0.0", "Takes random members out of a set.", "write fast", "O(1), with a count O(N), N the count",
    tips="nondeterministic_output", key_flags=["RW access delete"]))
register("srandmember", -2, "readonly", (1, 1, 1), cmd_srandmember, about(
    "1.0.0", "Shows random members of a set.", "read slow", "O(1), with a count O(N), N the count",
    tips="nondeterministic_output", key_flags=["RO access"]))
register("sscan", -3, "readonly", (1, 1, 1), cmd_sscan, about(
    "2.8.0", "Goes through the members of a set a few at a time.", "read slow",
    "O(1) a call, O(N) for all N members", tips="nondeterministic_output", key_flags=["RO access"]))
