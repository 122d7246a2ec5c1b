# slotring: data plane
"""XINFO."""
from libc.string cimport strlen
from engine.defs cimport *
from engine.command cimport Ctx, Arg, register, arg_is
from engine.commands.keys cimport error_quoting
from engine.commands.streams cimport *
from engine.reply cimport *
from engine.store cimport *
from engine.stream cimport *
from engine.stream_groups cimport *

cdef enum:
    FULL_COUNT = 10                # entries and pending entries that FULL shows, unless told


cdef inline void label(Ctx* c, const char* text) noexcept nogil:
    reply_bulk(c.out, text, strlen(text))


cdef inline void label_int(Ctx* c, const char* text, i64 v) noexcept nogil:
    label(c, text)
    reply_int(c.out, v)


cdef inline void label_id(Ctx* c, const char* text, u128 id_) noexcept nogil:
    label(c, text)
    reply_id(c.out, id_)


cdef void label_name(Ctx* c, Named* x) noexcept nogil:
    label(c, b"name")
    reply_bulk(c.out, name_of(x), x.len)


cdef Stream* the_stream(Ctx* c) noexcept nogil:
    """The stream of argv[2]; NULL: an error was replied."""
    cdef Entry* e = lookup_read(c, &c.key)
    if e == NULL:
        reply_error(c.out, b"ERR no such key")
        return NULL
    return NULL if wrong_type(c, e, TYPE_STREAM) else stream_of(e)


cdef void reply_read_and_lag(Ctx* c, Stream* s, Group* g) noexcept nogil:
    """How many entries a group has read, and how many it has not; nulls where that cannot be told."""
    cdef i64 read = g.read
    label(c, b"entries-read")
    if read == READ_UNKNOWN:
        reply_null(c.out, c.resp)
    else:
        reply_int(c.out, read)
    label(c, b"lag")
    if s.added == 0:
        reply_int(c.out, 0)
        return
    if read == READ_UNKNOWN or tombs_after(s, group_last(g)):
        read = read_before(s, group_last(g))
        if read == READ_UNKNOWN:
            reply_null(c.out, c.resp)
            return
    reply_int(c.out, <i64>(s.added - <u64>read))


# ---- XINFO STREAM

cdef void reply_pending(Ctx* c, IdTree* t, i64 count, bint with_name) noexcept nogil:
    """Pending entries of a group (with_name) or of a consumer."""
    cdef IdPos at
    cdef Pending* p
    cdef i64 n = <i64>t.count if count == 0 or <u64>count > t.count else count
    cdef bint more = idtree_ge(t, 0, &at)
    label(c, b"pending")
    reply_array(c.out, n)
    while more and n:
        p = <Pending*>pos_entry(&at).v
        reply_array(c.out, 4 if with_name else 3)
        reply_id(c.out, pos_id(&at))
        if with_name:
            reply_bulk(c.out, p.consumer.text, p.consumer.name.len)
        reply_int(c.out, p.delivered_ms)
        reply_int(c.out, <i64>p.deliveries)
        n -= 1
        more = idtree_next(&at)


cdef void reply_group_full(Ctx* c, Stream* s, Group* g, i64 count) noexcept nogil:
    cdef NamesPos at
    cdef Consumer* consumer
    reply_map(c.out, c.resp, 7)
    label_name(c, &g.name)
    label_id(c, b"last-delivered-id", group_last(g))
    reply_read_and_lag(c, s, g)
    label_int(c, b"pel-count", <i64>g.pending.count)
    reply_pending(c, &g.pending, count, True)
    label(c, b"consumers")
    reply_array(c.out, <i64>g.consumers.count)
    at.block = at.at = 0
    while True:
        consumer = <Consumer*>names_at(&g.consumers, &at)
        if consumer == NULL:
            return
        reply_map(c.out, c.resp, 5)
        label_name(c, &consumer.name)
        label_int(c, b"seen-time", consumer.seen_ms)
        label_int(c, b"active-time", consumer.active_ms)
        label_int(c, b"pel-count", <i64>consumer.pending.count)
        reply_pending(c, &consumer.pending, count, False)


cdef void reply_edge(Ctx* c, Stream* s, bint last) noexcept nogil:
    if not reply_range(c.out, s, 0, id_max(), 1, last):
        reply_null(c.out, c.resp)


cdef void cmd_xinfo_stream(Ctx* c) noexcept nogil:
    cdef Stream* s = the_stream(c)
    cdef i64 count = FULL_COUNT
    cdef bint full = c.argc > 3
    cdef NamesPos at
    cdef Group* g
    if s == NULL:
        return
    if full:
        if (c.argc != 4 and c.argc != 6) or not arg_is(&c.argv[3], b"full", 4) or \
                (c.argc == 6 and not arg_is(&c.argv[4], b"count", 5)):
            error_quoting(c, b"ERR unknown subcommand or wrong number of arguments for '", &c.argv[1], 128,
                          b"'. Try XINFO HELP.")
            return
        if c.argc == 6 and not i64_arg(c, &c.argv[5], &count, NULL):
            return
        if count < 0:
            count = FULL_COUNT
    reply_map(c.out, c.resp, 9 if full else 10)
    label_int(c, b"length", <i64>s.length)
    label_int(c, b"radix-tree-keys", <i64>s.nodes.count)
    label_int(c, b"radix-tree-nodes", <i64>rax_nodes(s))
    label_id(c, b"last-generated-id", last_id(s))
    label_id(c, b"max-deleted-entry-id", deleted_id(s))
    label_int(c, b"entries-added", <i64>s.added)
    label_id(c, b"recorded-first-entry-id", first_id(s))
    if not full:
        label_int(c, b"groups", <i64>s.groups.count)
        label(c, b"first-entry")
        reply_edge(c, s, False)
        label(c, b"last-entry")
        reply_edge(c, s, True)
        return
    label(c, b"entries")
    reply_range_array(c.out, s, 0, id_max(), <u64>count, False)
    label(c, b"groups")
    reply_array(c.out, <i64>s.groups.count)
    at.block = at.at = 0
    while True:
        g = <Group*>names_at(&s.groups, &at)
        if g == NULL:
            return
        reply_group_full(c, s, g, count)


# ---- the others

cdef void cmd_xinfo_groups(Ctx* c) noexcept nogil:
    cdef Stream* s = the_stream(c)
    cdef NamesPos at
    cdef Group* g
    if s == NULL:
        return
    reply_array(c.out, <i64>s.groups.count)
    at.block = at.at = 0
    while True:
        g = <Group*>names_at(&s.groups, &at)
        if g == NULL:
            return
        reply_map(c.out, c.resp, 6)
        label_name(c, &g.name)
        label_int(c, b"consumers", <i64>g.consumers.count)
        label_int(c, b"pending", <i64>g.pending.count)
        label_id(c, b"last-delivered-id", group_last(g))
        reply_read_and_lag(c, s, g)


cdef void cmd_xinfo_consumers(Ctx* c) noexcept nogil:
    cdef Stream* s = the_stream(c)
    cdef NamesPos at
    cdef Group* g
    cdef Consumer* consumer
    if s == NULL:
        return
    g = group_find(s, c.argv[3].ptr, c.argv[3].len)
    if g == NULL:
        error_two(c, b"NOGROUP No such consumer group '", &c.argv[3], b"' for key name '", &c.argv[2], b"'")
        return
    reply_array(c.out, <i64>g.consumers.count)
    at.block = at.at = 0
    while True:
        consumer = <Consumer*>names_at(&g.consumers, &at)
        if consumer == NULL:
            return
        reply_map(c.out, c.resp, 4)
        label_name(c, &consumer.name)
        label_int(c, b"pending", <i64>consumer.pending.count)
        label_int(c, b"idle", c.now_ms - consumer.seen_ms if c.now_ms > consumer.seen_ms else 0)
        label_int(c, b"inactive", c.now_ms - consumer.active_ms if consumer.active_ms != -1 else -1)


cdef void cmd_xinfo(Ctx* c) noexcept nogil:
    error_quoting(c, b"ERR unknown subcommand '", &c.argv[1], 128, b"'. Try XINFO HELP.")


cdef void cmd_xinfo_help(Ctx* c) noexcept nogil:
    cdef const char* lines[6]
    lines[0] = b"CONSUMERS <key> <groupname>"
    lines[1] = b"    The consumers of a group."
    lines[2] = b"GROUPS <key>"
    lines[3] = b"    The groups of a stream."
    lines[4] = b"STREAM <key> [FULL [COUNT <count>]"
    lines[5] = b"    Figures of a stream; with FULL, entries and groups too."
    help_lines(c, b"XINFO", lines, 6)


# ---- rows

def about(since, summary, acl="stream read slow", complexity="O(1)", key_flags=("RO access",), tips=""):
    """What COMMAND DOCS and ACL say of a row of this family."""
    return {"since": since, "group": "stream", "complexity": complexity, "summary": summary, "acl": acl,
            "key_flags": list(key_flags), "tips": tips}


register("xinfo", -2, "", (0, 0, 0), cmd_xinfo, about(
    "5.0.0", "Looks into streams.", "slow", "Depends on the subcommand.", ()))
register("xinfo|stream", -3, "readonly", (2, 2, 1), cmd_xinfo_stream, about(
    "5.0.0", "Shows a stream's figures."))
register("xinfo|groups", 3, "readonly", (2, 2, 1), cmd_xinfo_groups, about(
    "5.0.0", "Shows a stream's groups."))
register("xinfo|consumers", 4, "readonly", (2, 2, 1), cmd_xinfo_consumers, about(
    "5.0.0", "Shows a group's consumers.", tips="nondeterministic_output"))
register("xinfo|help", 2, "loading stale", (0, 0, 0), cmd_xinfo_help, about(
    "5.0.0", "Explains XINFO.", "stream slow", key_flags=()))
