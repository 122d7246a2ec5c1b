# slotring: data plane
"""Consumer groups: XGROUP, XACK, XPENDING, XCLAIM, XAUTOCLAIM."""
from libc.stdlib cimport malloc, realloc, free, abort
from engine.defs cimport *
from engine.arena cimport Arena
from engine.command cimport Ctx, Arg, register, arg_is
from engine.commands.keys cimport error_quoting
from engine.commands.streams cimport *
from engine.effects cimport effect_own, effects_wanted
from engine.later cimport Later, reply_later, reply_now, reply_head_later, reply_head_now
from engine.numbers cimport parse_i64
from engine.reply cimport *
from engine.restate_stream cimport say_claimed, say_group_at
from engine.store cimport *
from engine.stream cimport *
from engine.stream_groups cimport *

cdef enum:
    FEW_IDS = 8                    # ids that need no block of their own
    AUTOCLAIM_COUNT = 100          # entries that XAUTOCLAIM claims, unless told
    AUTOCLAIM_LOOKS = 10           # pending entries looked at for each of them
    ID_REPLY_ROOM = 64


cdef i64 AUTOCLAIM_COUNT_HUGE = <i64>1 << 40      # Valkey cannot allocate for so many


# ---- shared

cdef void subcommand_error(Ctx* c) noexcept nogil:
    error_quoting(c, b"ERR unknown subcommand or wrong number of arguments for '", &c.argv[1], 128,
                  b"'. Try XGROUP HELP.")


cdef Group* the_group(Ctx* c, Stream** s, bint* failed) noexcept nogil:
    """The group argv[2] of stream argv[1]; NULL: there is none, or (failed) an error was replied."""
    cdef Entry* e = lookup_read(c, &c.key)
    failed[0] = wrong_type(c, e, TYPE_STREAM)
    s[0] = NULL
    if e == NULL or failed[0]:
        return NULL
    s[0] = stream_of(e)
    return group_find(s[0], c.argv[2].ptr, c.argv[2].len)


cdef void no_such_group(Ctx* c) noexcept nogil:
    error_two(c, b"NOGROUP No such key '", &c.argv[1], b"' or consumer group '", &c.argv[2], b"'")


cdef Consumer* claiming_consumer(Ctx* c, Group* g) noexcept nogil:
    """The consumer argv[3], made if need be."""
    cdef Consumer* consumer = consumer_find(g, c.argv[3].ptr, c.argv[3].len)
    if consumer == NULL:
        consumer = consumer_new(&c.key.part.arena, g, c.argv[3].ptr, c.argv[3].len, c.now_ms)
        c.dirty += 1
        notify(c, N_STREAM, b"xgroup-createconsumer", &c.key)
    consumer.seen_ms = c.now_ms
    return consumer


# ---- XGROUP

cdef struct GroupArgs:             # what XGROUP's subcommands begin with
    Stream* s                      # NULL: no key, and MKSTREAM was given
    Group* group                   # NULL: there is none
    i64 read
    bint make


cdef bint group_options(Ctx* c, GroupArgs* g, bint create) noexcept nogil:
    """MKSTREAM and ENTRIESREAD, from argv[5] on."""
    cdef i64 i = 5
    while i < c.argc:
        if create and arg_is(&c.argv[i], b"mkstream", 8):
            g.make = True
            i += 1
        elif arg_is(&c.argv[i], b"entriesread", 11) and i + 1 < c.argc:
            if not i64_arg(c, &c.argv[i + 1], &g.read, NULL):
                return False
            if g.read < 0 and g.read != READ_UNKNOWN:
                reply_error(c.out, b"ERR value for ENTRIESREAD must be positive or -1")
                return False
            i += 2
        else:
            subcommand_error(c)
            return False
    return True


cdef bint group_args(Ctx* c, GroupArgs* g, bint needed) noexcept nogil:
    """Look up stream and group; needed: the group must be there. False: an error was replied."""
    cdef Entry* e = lookup_write(c, &c.key)
    if wrong_type(c, e, TYPE_STREAM):
        return False
    g.s = NULL if e == NULL else stream_of(e)
    g.group = NULL
    if g.s != NULL:
        g.group = group_find(g.s, c.argv[3].ptr, c.argv[3].len)
    elif not g.make:
        reply_error(c.out, b"ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to "
                    b"use the MKSTREAM option to create an empty stream automatically.")
        return False
    if needed and g.group == NULL:
        error_two(c, b"NOGROUP No such consumer group '", &c.argv[3], b"' for key name '", &c.argv[2], b"'")
        return False
    return True


cdef bint group_id(Ctx* c, Stream* s, bint strict, u128* id_) noexcept nogil:
    """The id argv[4]; $ is the stream's last one."""
    cdef Arg* a = &c.argv[4]
    if a.len and a.ptr[0] == c'$' and (a.len == 1 or a.ptr[1] == 0):
        id_[0] = 0 if s == NULL else last_id(s)
        return True
    return id_arg(c, a, id_, 0, strict, NULL)


cdef void cmd_xgroup_create(Ctx* c) noexcept nogil:
    cdef GroupArgs g
    cdef u128 id_
    g.make = False
    g.read = READ_UNKNOWN
    if not group_options(c, &g, True) or not group_args(c, &g, False):
        return
    if c.argc > 8:
        subcommand_error(c)
        return
    if not group_id(c, g.s, True, &id_):
        return
    if g.s == NULL:
        g.s = stream_new(&c.key.part.arena)
        key_put_value(c, &c.key, TYPE_STREAM, ENC_STREAM, g.s)
    if group_new(&c.key.part.arena, g.s, c.argv[3].ptr, c.argv[3].len, id_, g.read) == NULL:
        reply_error(c.out, b"BUSYGROUP Consumer Group name already exists")
        return
    c.dirty += 1
    notify(c, N_STREAM, b"xgroup-create", &c.key)
    reply_ok(c.out)


cdef void cmd_xgroup_setid(Ctx* c) noexcept nogil:
    cdef GroupArgs g
    cdef u128 id_
    g.make = False
    g.read = READ_UNKNOWN
    if not group_options(c, &g, False) or not group_args(c, &g, True):
        return
    if c.argc != 5 and c.argc != 7:
        subcommand_error(c)
        return
    if not group_id(c, g.s, False, &id_):
        return
    set_group_last(g.group, id_)
    g.group.read = g.read
    c.dirty += 1
    notify(c, N_STREAM, b"xgroup-setid", &c.key)
    reply_ok(c.out)


cdef void cmd_xgroup_destroy(Ctx* c) noexcept nogil:
    cdef GroupArgs g
    g.make = False
    if not group_args(c, &g, False):
        return
    if g.group == NULL:
        reply_int(c.out, 0)
        return
    group_delete(&c.key.part.arena, g.s, g.group)
    c.dirty += 1
    notify(c, N_STREAM, b"xgroup-destroy", &c.key)
    reply_int(c.out, 1)
    key_ready(c, &c.key)           # who reads for the group must be told that it is gone


cdef void cmd_xgroup_createconsumer(Ctx* c) noexcept nogil:
    cdef GroupArgs g
    g.make = False
    if not group_args(c, &g, True):
        return
    if consumer_new(&c.key.part.arena, g.group, c.argv[4].ptr, c.argv[4].len, c.now_ms) == NULL:
        reply_int(c.out, 0)
        return
    c.dirty += 1
    notify(c, N_STREAM, b"xgroup-createconsumer", &c.key)
    reply_int(c.out, 1)


cdef void cmd_xgroup_delconsumer(Ctx* c) noexcept nogil:
    cdef GroupArgs g
    cdef Consumer* consumer
    cdef u64 pending = 0
    g.make = False
    if not group_args(c, &g, True):
        return
    consumer = consumer_find(g.group, c.argv[4].ptr, c.argv[4].len)
    if consumer != NULL:
        pending = consumer.pending.count
        consumer_delete(&c.key.part.arena, g.group, consumer)
        c.dirty += 1
        notify(c, N_STREAM, b"xgroup-delconsumer", &c.key)
    reply_int(c.out, <i64>pending)


cdef void cmd_xgroup(Ctx* c) noexcept nogil:
    error_quoting(c, b"ERR unknown subcommand '", &c.argv[1], 128, b"'. Try XGROUP HELP.")


cdef void cmd_xgroup_help(Ctx* c) noexcept nogil:
    cdef const char* lines[13]
    lines[0] = b"CREATE <key> <groupname> <id|$> [option]"
    lines[1] = b"    Make a group. Options are:"
    lines[2] = b"    * MKSTREAM"
    lines[3] = b"      Make the stream if it is not there."
    lines[4] = b"    * ENTRIESREAD entries_read"
    lines[5] = b"      The group's counter of entries read (for internal use)."
    lines[6] = b"CREATECONSUMER <key> <groupname> <consumer>"
    lines[7] = b"    Make a consumer of a group."
    lines[8] = b"DELCONSUMER <key> <groupname> <consumer>"
    lines[9] = b"    Delete a consumer of a group."
    lines[10] = b"DESTROY <key> <groupname>"
    lines[11] = b"    Delete a group."
    lines[12] = b"SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]"
    help_lines(c, b"XGROUP", lines, 13)


# ---- XACK

cdef void cmd_xack(Ctx* c) noexcept nogil:
    cdef Stream* s
    cdef bint failed
    cdef Group* g = the_group(c, &s, &failed)
    cdef u128 few[FEW_IDS]
    cdef u128* ids
    cdef Pending* p
    cdef i64 i, n = 0
    if g == NULL:
        if not failed:
            reply_int(c.out, 0)
        return
    ids = ids_args(c, 3, few, FEW_IDS)
    if ids == NULL:
        return
    for i in range(c.argc - 3):
        p = pending_find(g, ids[i])
        if p != NULL:
            pending_delete(&c.key.part.arena, g, ids[i], p)
            n += 1
    if ids != few:
        free(ids)
    c.dirty += n
    reply_int(c.out, n)


# ---- XPENDING

cdef void pending_summary(Ctx* c, Group* g) noexcept nogil:
    cdef IdPos at
    cdef NamesPos pos
    cdef Consumer* consumer
    cdef Later head
    cdef i64 n = 0
    reply_array(c.out, 4)
    reply_int(c.out, <i64>g.pending.count)
    if not idtree_ge(&g.pending, 0, &at):
        reply_null(c.out, c.resp)
        reply_null(c.out, c.resp)
        reply_null_array(c.out, c.resp)
        return
    reply_id(c.out, pos_id(&at))
    reply_id(c.out, entry_id(idtree_last(&g.pending)))
    reply_head_later(c.out, &head)
    pos.block = pos.at = 0
    while True:
        consumer = <Consumer*>names_at(&g.consumers, &pos)
        if consumer == NULL:
            break
        if consumer.pending.count:
            reply_array(c.out, 2)
            reply_bulk(c.out, consumer.text, consumer.name.len)
            reply_bulk_int(c.out, <i64>consumer.pending.count)
            n += 1
    reply_head_now(c.out, &head, c'*', n)


cdef void pending_list(Ctx* c, IdTree* t, u128 start, u128 end, i64 count, i64 idle) noexcept nogil:
    cdef IdPos at
    cdef Pending* p
    cdef Later head
    cdef i64 n = 0, elapsed
    cdef bint more = idtree_ge(t, start, &at)
    reply_head_later(c.out, &head)
    while more and n < count and pos_id(&at) <= end:
        p = <Pending*>pos_entry(&at).v
        elapsed = <i64>(<u64>c.now_ms - <u64>p.delivered_ms)
        if idle == 0 or elapsed >= idle:
            reply_array(c.out, 4)
            reply_id(c.out, pos_id(&at))
            reply_bulk(c.out, p.consumer.text, p.consumer.name.len)
            reply_int(c.out, elapsed if elapsed > 0 else 0)
            reply_int(c.out, <i64>p.deliveries)
            n += 1
        more = idtree_next(&at)
    reply_head_now(c.out, &head, c'*', n)


cdef void cmd_xpending(Ctx* c) noexcept nogil:
    cdef Stream* s
    cdef Group* g
    cdef Consumer* consumer = NULL
    cdef u128 start = 0, end = 0
    cdef i64 idle = 0, count = 0, i = 3
    cdef bint failed
    if c.argc != 3 and (c.argc < 6 or c.argc > 9):
        reply_error(c.out, b"ERR syntax error")
        return
    if c.argc > 3:
        if arg_is(&c.argv[3], b"idle", 4):
            if not i64_arg(c, &c.argv[4], &idle, NULL):
                return
            if c.argc < 8:
                reply_error(c.out, b"ERR syntax error")
                return
            i = 5
        if not i64_arg(c, &c.argv[i + 2], &count, NULL) or not range_start_arg(c, &c.argv[i], &start) or \
                not range_end_arg(c, &c.argv[i + 1], &end):
            return
    g = the_group(c, &s, &failed)
    if g == NULL:
        if not failed:
            no_such_group(c)
        return
    if c.argc == 3:
        pending_summary(c, g)
        return
    if i + 3 < c.argc:
        consumer = consumer_find(g, c.argv[i + 3].ptr, c.argv[i + 3].len)
        if consumer == NULL:
            reply_array(c.out, 0)
            return
    pending_list(c, &g.pending if consumer == NULL else &consumer.pending, start, end, count, idle)


# ---- XCLAIM

cdef struct Claim:
    i64 min_idle
    i64 delivered_ms               # -1: not given
    i64 deliveries                 # -1: not given
    bint force
    bint just_ids
    u128 last
    Arg* id_text                   # the id at hand, as it was typed; NULL: it was not
    i64 end                        # the argument behind the ids


cdef bint claim_options(Ctx* c, Claim* o) noexcept nogil:
    cdef i64 i = o.end
    cdef bint more
    while i < c.argc:
        more = i + 1 < c.argc
        if arg_is(&c.argv[i], b"force", 5):
            o.force = True
        elif arg_is(&c.argv[i], b"justid", 6):
            o.just_ids = True
        elif arg_is(&c.argv[i], b"idle", 4) and more:
            i += 1
            if not i64_arg(c, &c.argv[i], &o.delivered_ms, b"ERR Invalid IDLE option argument for XCLAIM"):
                return False
            o.delivered_ms = <i64>(<u64>c.now_ms - <u64>o.delivered_ms)
        elif arg_is(&c.argv[i], b"time", 4) and more:
            i += 1
            if not i64_arg(c, &c.argv[i], &o.delivered_ms, b"ERR Invalid TIME option argument for XCLAIM"):
                return False
        elif arg_is(&c.argv[i], b"retrycount", 10) and more:
            i += 1
            if not i64_arg(c, &c.argv[i], &o.deliveries, b"ERR Invalid RETRYCOUNT option argument for XCLAIM"):
                return False
        elif arg_is(&c.argv[i], b"lastid", 6) and more:
            i += 1
            if not id_arg(c, &c.argv[i], &o.last, 0, True, NULL):
                return False
        else:
            error_quoting(c, b"ERR Unrecognized XCLAIM option '", &c.argv[i], c.argv[i].len, b"'")
            return False
        i += 1
    if o.delivered_ms < 0 or o.delivered_ms > c.now_ms:
        o.delivered_ms = c.now_ms
    return True


cdef void reply_claimed(Ctx* c, Stream* s, u128 id_, bint just_id) noexcept nogil:
    if just_id:
        reply_id(c.out, id_)
    else:
        reply_range(c.out, s, id_, id_, 1, False)


cdef bint claim_one(Ctx* c, Claim* o, Stream* s, Group* g, Consumer* consumer, u128 id_) noexcept nogil:
    """Claim and show an entry; False: nothing was shown."""
    cdef Pending* p = pending_find(g, id_)
    cdef Arena* a = &c.key.part.arena
    if not stream_has(s, id_):
        if p != NULL:              # deleted since: nothing to be acknowledged any more
            if effects_wanted():
                say_claimed(c, &c.key, &c.argv[2], g, o.id_text, id_, p)
            pending_delete(a, g, id_, p)
            c.dirty += 1
        return False
    if p == NULL:
        if not o.force:
            return False
        p = pending_new(a, g, id_, c.now_ms)
    elif o.min_idle and <i64>(<u64>c.now_ms - <u64>p.delivered_ms) < o.min_idle:
        return False
    p.delivered_ms = o.delivered_ms
    if o.deliveries >= 0:
        p.deliveries = <u64>o.deliveries
    elif not o.just_ids:
        p.deliveries += 1
    pending_give(a, p, id_, consumer)
    reply_claimed(c, s, id_, o.just_ids)
    consumer.active_ms = c.now_ms
    if effects_wanted():
        say_claimed(c, &c.key, &c.argv[2], g, o.id_text, id_, p)
    c.dirty += 1
    return True


cdef void cmd_xclaim(Ctx* c) noexcept nogil:
    cdef Stream* s
    cdef bint failed, last_moved = False
    cdef Group* g = the_group(c, &s, &failed)
    cdef Consumer* consumer
    cdef Claim o
    cdef Later head
    cdef i64 i, n = 0, dirty
    cdef u128 id_ = 0
    if g == NULL:
        if not failed:
            no_such_group(c)
        return
    if not i64_arg(c, &c.argv[4], &o.min_idle, b"ERR Invalid min-idle-time argument for XCLAIM"):
        return
    if o.min_idle < 0:
        o.min_idle = 0
    o.delivered_ms = o.deliveries = -1
    o.force = o.just_ids = False
    o.last = 0
    o.end = 5
    while o.end < c.argc and id_arg(NULL, &c.argv[o.end], &id_, 0, True, NULL):
        o.end += 1
    if not claim_options(c, &o):
        return
    if o.last > group_last(g):
        set_group_last(g, o.last)
        last_moved = True
    consumer = claiming_consumer(c, g)
    dirty = c.dirty
    reply_head_later(c.out, &head)
    for i in range(5, o.end):
        id_arg(NULL, &c.argv[i], &id_, 0, True, NULL)
        o.id_text = &c.argv[i]
        if claim_one(c, &o, s, g, consumer, id_):
            n += 1
    reply_head_now(c.out, &head, c'*', n)
    if last_moved and c.dirty == dirty:
        if effects_wanted():
            say_group_at(c, &c.key, &c.argv[2], g)
        c.dirty += 1
    effect_own(c)


# ---- XAUTOCLAIM

cdef struct Gone:                  # ids of pending entries that are no more in the stream
    u128* ids
    i64 n
    i64 room


cdef void gone_add(Gone* g, u128 id_) noexcept nogil:
    if g.n == g.room:
        g.room = g.room * 2 + 8
        g.ids = <u128*>realloc(g.ids, g.room * sizeof(u128))
        if g.ids == NULL:
            abort()
    g.ids[g.n] = id_
    g.n += 1


cdef bint autoclaim_options(Ctx* c, Claim* o, i64* count) noexcept nogil:
    cdef i64 i = 6
    while i < c.argc:
        if arg_is(&c.argv[i], b"count", 5) and i + 1 < c.argc:
            i += 1
            if not parse_i64(c.argv[i].ptr, c.argv[i].len, count) or count[0] < 1 or \
                    count[0] > <i64>0x7FFFFFFFFFFFFFFF // 16:
                reply_error(c.out, b"ERR COUNT must be > 0")
                return False
        elif arg_is(&c.argv[i], b"justid", 6):
            o.just_ids = True
        else:
            reply_error(c.out, b"ERR syntax error")
            return False
        i += 1
    return True


cdef i64 autoclaim(Ctx* c, Claim* o, Stream* s, Group* g, Consumer* consumer, u128* at, i64 count,
                   Gone* gone) noexcept nogil:
    """Claim and show up to `count` entries from *at on; *at becomes where to go on, 0 at the end. Returns how many."""
    cdef i64 looks = count * AUTOCLAIM_LOOKS, n = 0
    cdef IdPos pos
    cdef Pending* p
    cdef u128 id_
    cdef bint more = idtree_ge(&g.pending, at[0], &pos)
    while more and looks and count:
        looks -= 1
        id_ = pos_id(&pos)
        p = <Pending*>pos_entry(&pos).v
        if not stream_has(s, id_):
            if effects_wanted():
                say_claimed(c, &c.key, &c.argv[2], g, NULL, id_, p)
            pending_delete(&c.key.part.arena, g, id_, p)
            gone_add(gone, id_)
            c.dirty += 1
            count -= 1
            more = idtree_ge(&g.pending, id_, &pos)
            continue
        if o.min_idle == 0 or <i64>(<u64>c.now_ms - <u64>p.delivered_ms) >= o.min_idle:
            p.delivered_ms = c.now_ms
            if not o.just_ids:
                p.deliveries += 1
            pending_give(&c.key.part.arena, p, id_, consumer)
            reply_claimed(c, s, id_, o.just_ids)
            consumer.active_ms = c.now_ms
            if effects_wanted():
                say_claimed(c, &c.key, &c.argv[2], g, NULL, id_, p)
            c.dirty += 1
            count -= 1
            n += 1
        more = idtree_next(&pos)
    at[0] = pos_id(&pos) if more else 0
    return n


cdef void cmd_xautoclaim(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_read(c, &c.key)
    cdef Claim o
    cdef i64 count = AUTOCLAIM_COUNT, i
    cdef u128 at
    cdef Group* g = NULL
    cdef Consumer* consumer
    cdef Gone gone
    cdef Later cursor, head
    cdef char text[ID_REPLY_ROOM]
    cdef OutBuf* out = c.out
    if not i64_arg(c, &c.argv[4], &o.min_idle, b"ERR Invalid min-idle-time argument for XAUTOCLAIM"):
        return
    if o.min_idle < 0:
        o.min_idle = 0
    o.just_ids = False
    if not range_start_arg(c, &c.argv[5], &at) or not autoclaim_options(c, &o, &count) or \
            wrong_type(c, e, TYPE_STREAM):
        return
    if e != NULL:
        g = group_find(stream_of(e), c.argv[2].ptr, c.argv[2].len)
    if g == NULL:
        no_such_group(c)
        return
    if count > AUTOCLAIM_COUNT_HUGE:
        reply_error(out, b"ERR Insufficient memory, failed allocating transient memory, COUNT too high.")
        return
    consumer = claiming_consumer(c, g)
    gone.ids = NULL
    gone.n = gone.room = 0
    reply_array(out, 3)
    reply_later(out, &cursor, ID_REPLY_ROOM)
    reply_head_later(out, &head)
    reply_head_now(out, &head, c'*', autoclaim(c, &o, stream_of(e), g, consumer, &at, count, &gone))
    reply_now(out, &cursor, text, id_bulk(text, at))
    reply_array(out, gone.n)
    for i in range(gone.n):
        reply_id(out, gone.ids[i])
    free(gone.ids)
    effect_own(c)


cdef size_t id_bulk(char* p, u128 id_) noexcept nogil:
    """An id as a bulk string at p; its bytes."""
    cdef char text[48]
    cdef size_t n = write_u64(text, id_ms(id_)), k
    text[n] = c'-'
    n += 1
    n += write_u64(text + n, id_seq(id_))
    p[0] = c'$'
    k = 1 + write_u64(p + 1, n)
    p[k] = c'\r'
    p[k + 1] = c'\n'
    memcpy(p + k + 2, text, n)
    p[k + 2 + n] = c'\r'
    p[k + 3 + n] = c'\n'
    return k + n + 4


# ---- rows

def about(summary, acl="write slow", complexity="O(1)", key_flags="RW update", since="5.0.0", tips=""):
    """What COMMAND DOCS and ACL say of a row of this family."""
    return {"since": since, "group": "stream", "complexity": complexity, "summary": summary,
            "acl": "stream " + acl, "key_flags": [key_flags] if key_flags else [], "tips": tips}


register("xgroup", -2, "", (0, 0, 0), cmd_xgroup, about(
    "Makes, changes and deletes consumer groups.", "slow", "Depends on the subcommand.", "") | {"acl": "slow"})
register("xgroup|create", -5, "write denyoom", (2, 2, 1), cmd_xgroup_create, about(
    "Makes a consumer group.", key_flags="RW insert"))
register("xgroup|setid", -5, "write", (2, 2, 1), cmd_xgroup_setid, about(
    "Sets the last ID that a group was given."))
register("xgroup|destroy", 4, "write", (2, 2, 1), cmd_xgroup_destroy, about(
    "Deletes a consumer group.", complexity="O(N), N pending entries", key_flags="RW delete"))
register("xgroup|createconsumer", 5, "write denyoom", (2, 2, 1), cmd_xgroup_createconsumer, about(
    "Makes a consumer of a group.", key_flags="RW insert", since="6.2.0"))
register("xgroup|delconsumer", 5, "write", (2, 2, 1), cmd_xgroup_delconsumer, about(
    "Deletes a consumer of a group.", key_flags="RW delete"))
register("xgroup|help", 2, "loading stale", (0, 0, 0), cmd_xgroup_help, about(
    "Explains XGROUP.", "slow", key_flags=""))
register("xack", -4, "write fast", (1, 1, 1), cmd_xack, about(
    "Acknowledges entries that a group was given.", "write fast", "O(1) an ID"))
register("xpending", -3, "readonly", (1, 1, 1), cmd_xpending, about(
    "Shows the entries of a group that were not acknowledged.", "read slow", "O(N), N entries shown or looked at",
    "RO access", tips="nondeterministic_output"))
register("xclaim", -6, "write fast", (1, 1, 1), cmd_xclaim, about(
    "Gives pending entries to another consumer.", "write fast", "O(log N), N pending entries",
    tips="nondeterministic_output"))
register("xautoclaim", -6, "write fast", (1, 1, 1), cmd_xautoclaim, about(
    "Gives entries that are pending for long to another consumer.", "write fast", "O(1) if COUNT is small",
    "RW delete", "6.2.0", "nondeterministic_output"))
