# slotring: data plane
"""XREAD and XREADGROUP."""
from libc.stdlib cimport malloc, free, abort
from engine.defs cimport *
from engine.arena cimport Arena
from engine.blocking cimport block_on, timeout_ms_arg, WAIT_STREAM, WAIT_NULL_ARRAY, WAIT_ON_DELETE
from engine.command cimport Ctx, Arg, register, arg_is, commands
from engine.commands.streams cimport *
from engine.effects cimport effect_own, effects_wanted
from engine.later cimport Later, reply_head_later, reply_head_now
from engine.reply cimport *
from engine.restate_stream cimport say_claimed, say_group_at, say_consumer
from engine.store cimport *
from engine.stream cimport *
from engine.stream_groups cimport *

cdef enum:
    ID_CHARS = 48

cdef struct Read:                  # the options of a command
    i64 timeout_ms                 # -1: no BLOCK
    i64 count
    i64 first                      # place of the first key
    i64 n                          # streams
    Arg* group                     # NULL: XREAD
    Arg* consumer
    bint noack
    bint grouped                   # the command is XREADGROUP

cdef struct Wanted:                # a stream to be read
    Key key
    Stream* s                      # NULL: there is none
    Group* group
    u128 after                     # entries above this id; id_max() for >


# ---- options

cdef i64 streams_at(Arg* argv, i64 argc) noexcept nogil:
    """The place behind STREAMS, found as the commands themselves find it; 0: there is none."""
    cdef i64 i = 1
    while i + 1 < argc:
        if arg_is(&argv[i], b"streams", 7):
            return i + 1
        if arg_is(&argv[i], b"block", 5) or arg_is(&argv[i], b"count", 5):
            i += 1
        elif arg_is(&argv[i], b"group", 5):
            i += 2
        i += 1
    return 0


cdef i64 read_keys(Arg* argv, i64 argc, i64* places, i64 most) noexcept nogil:
    """Where the keys are, for the dispatcher: the first half of what follows STREAMS."""
    cdef i64 first = streams_at(argv, argc), n, i
    if first == 0 or (argc - first) & 1:
        return 0
    n = (argc - first) // 2
    for i in range(n if n < most else most):
        places[i] = first + i
    return n


cdef bint only_for_groups(Ctx* c, Read* r, const char* error) noexcept nogil:
    if not r.grouped:
        reply_error(c.out, error)
    return r.grouped


cdef bint read_options(Ctx* c, Read* r) noexcept nogil:
    cdef i64 i = 1, more
    cdef Arg* a
    r.timeout_ms = -1
    r.count = r.first = r.n = 0
    r.group = r.consumer = NULL
    r.noack = False
    r.grouped = c.cmd.name_len == 10
    while i < c.argc and r.first == 0:
        a = &c.argv[i]
        more = c.argc - i - 1
        if arg_is(a, b"block", 5) and more:
            i += 1
            if not timeout_ms_arg(c, &c.argv[i], &r.timeout_ms):
                return False
        elif arg_is(a, b"count", 5) and more:
            i += 1
            if not i64_arg(c, &c.argv[i], &r.count, NULL):
                return False
            if r.count < 0:
                r.count = 0
        elif arg_is(a, b"streams", 7) and more:
            r.first = i + 1
        elif arg_is(a, b"group", 5) and more >= 2:
            if not only_for_groups(c, r, b"ERR The GROUP option is only supported by XREADGROUP. "
                                   b"You called XREAD instead."):
                return False
            r.group = &c.argv[i + 1]
            r.consumer = &c.argv[i + 2]
            i += 2
        elif arg_is(a, b"noack", 5):
            if not only_for_groups(c, r, b"ERR The NOACK option is only supported by XREADGROUP. "
                                   b"You called XREAD instead."):
                return False
            r.noack = True
        else:
            reply_error(c.out, b"ERR syntax error")
            return False
        i += 1
    if r.first == 0:
        reply_error(c.out, b"ERR syntax error")
        return False
    if (c.argc - r.first) & 1:
        if r.grouped:
            reply_error(c.out, b"ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be "
                        b"specified.")
        else:
            reply_error(c.out, b"ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be "
                        b"specified.")
        return False
    r.n = (c.argc - r.first) // 2
    if r.grouped and r.group == NULL:
        reply_error(c.out, b"ERR Missing GROUP option for XREADGROUP")
        return False
    return True


cdef inline bint is_char(Arg* a, char ch) noexcept nogil:
    return a.len and a.ptr[0] == ch and (a.len == 1 or a.ptr[1] == 0)


cdef bint special_id(Ctx* c, Read* r, Arg* a, Wanted* w) noexcept nogil:
    """$, + and >; False: an error was replied."""
    if a.ptr[0] == c'>':
        w.after = id_max()
        if not r.grouped:
            reply_error(c.out, b"ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> "
                        b"<consumer> option.")
        return r.grouped
    if r.grouped:
        if a.ptr[0] == c'$':
            reply_error(c.out, b"ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the "
                        b"history of this consumer by specifying a proper ID, or use the > ID to get new messages. "
                        b"The $ ID would just return an empty result set.")
        else:
            reply_error(c.out, b"ERR The + ID is meaningless in the context of XREADGROUP: you want to read the "
                        b"history of this consumer by specifying a proper ID, or use the > ID to get new messages. "
                        b"The + ID would just return an empty result set.")
        return False
    w.after = 0
    if w.s != NULL:
        if a.ptr[0] == c'$':
            w.after = last_id(w.s)
        elif w.s.length:
            w.after = last_id(w.s)
            if w.after == 0:
                reply_error(c.out, b"ERR the stream last element ID is 0-0")
                return False
            w.after -= 1
    return True


cdef bint find_wanted(Ctx* c, Read* r, i64 i, Wanted* w) noexcept nogil:
    """Look up the i-th stream, its group and the id; False: an error was replied."""
    cdef Arg* id_text = &c.argv[r.first + r.n + i]
    cdef Entry* e
    key_init(c, &w.key, &c.argv[r.first + i])
    e = lookup_read(c, &w.key)
    if wrong_type(c, e, TYPE_STREAM):
        return False
    w.s = NULL if e == NULL else stream_of(e)
    w.group = NULL
    if r.grouped:
        if w.s != NULL:
            w.group = group_find(w.s, r.group.ptr, r.group.len)
        if w.group == NULL:
            error_two(c, b"NOGROUP No such key '", &c.argv[r.first + i], b"' or consumer group '", r.group,
                      b"' in XREADGROUP with GROUP option")
            return False
    if is_char(id_text, c'$') or is_char(id_text, c'+') or is_char(id_text, c'>'):
        return special_id(c, r, id_text, w)
    return id_arg(c, id_text, &w.after, 0, True, NULL)


# ---- reading

cdef void group_passed(Group* g, Stream* s, u128 id_) noexcept nogil:
    """A group gets an entry beyond its last one: its last id, and how many it has read."""
    cdef u128 last = group_last(g)
    if g.read != READ_UNKNOWN and last >= first_id(s) and not tombs_after(s, last):
        g.read += 1
    elif s.added:
        g.read = read_before(s, id_)
    set_group_last(g, id_)


cdef void deliver(Ctx* c, Read* r, Wanted* w, Consumer* consumer, u128 id_) noexcept nogil:
    """An entry that a consumer was just sent becomes pending; somebody else's becomes its own."""
    cdef Arena* a = &w.key.part.arena
    cdef Pending* p = pending_new(a, w.group, id_, c.now_ms)
    if unlikely(p == NULL):            # after XGROUP SETID
        p = pending_find(w.group, id_)
        p.delivered_ms = c.now_ms
        p.deliveries = 1
    pending_give(a, p, id_, consumer)
    consumer.active_ms = c.now_ms
    if effects_wanted():
        say_claimed(c, &w.key, r.group, w.group, NULL, id_, p)


cdef void reply_new(Ctx* c, Read* r, Wanted* w, Consumer* consumer) noexcept nogil:
    """The entries above an id; for a group, delivered to a consumer."""
    cdef StreamIter it
    cdef Later head
    cdef i64 n = 0
    cdef bint moved = False
    reply_head_later(c.out, &head)
    iter_start(&it, w.s, w.after + 1, id_max(), False)
    while iter_next(&it):
        if w.group != NULL and it.id_ > group_last(w.group):
            group_passed(w.group, w.s, it.id_)
            moved = True
        reply_entry(c.out, &it)
        if w.group != NULL and not r.noack:
            deliver(c, r, w, consumer, it.id_)
        n += 1
        if n == r.count:
            break
    if moved and effects_wanted():
        say_group_at(c, &w.key, r.group, w.group)
    reply_head_now(c.out, &head, c'*', n)


cdef void reply_history(Ctx* c, Read* r, Wanted* w, Consumer* consumer) noexcept nogil:
    """A consumer's pending entries above an id; those that are no more have a null for their fields."""
    cdef IdPos at
    cdef Later head
    cdef Pending* p
    cdef i64 n = 0
    cdef u128 id_
    cdef bint more = idtree_ge(&consumer.pending, w.after + 1, &at)
    reply_head_later(c.out, &head)
    while more and (r.count == 0 or n < r.count):
        id_ = pos_id(&at)
        if reply_range(c.out, w.s, id_, id_, 1, False):
            p = <Pending*>pos_entry(&at).v
            p.delivered_ms = c.now_ms
            p.deliveries += 1
        else:
            reply_array(c.out, 2)
            reply_id(c.out, id_)
            reply_null_array(c.out, c.resp)
        n += 1
        more = idtree_next(&at)
    reply_head_now(c.out, &head, c'*', n)


cdef Consumer* consumer_of(Ctx* c, Read* r, Wanted* w) noexcept nogil:
    """The reading consumer, made if need be."""
    cdef Consumer* consumer = consumer_find(w.group, r.consumer.ptr, r.consumer.len)
    if consumer == NULL:
        consumer = consumer_new(&w.key.part.arena, w.group, r.consumer.ptr, r.consumer.len, c.now_ms)
        c.dirty += 1
        if r.noack and effects_wanted():
            say_consumer(c, &w.key, r.group, r.consumer)
        notify(c, N_STREAM, b"xgroup-createconsumer", &w.key)
    consumer.seen_ms = c.now_ms
    return consumer


cdef bint read_one(Ctx* c, Read* r, Wanted* w, Later* head, i64* served) noexcept nogil:
    """Reply what a stream has; False: it has nothing to be served at once."""
    cdef Consumer* consumer = NULL
    cdef u128 top = 0
    cdef bint history = r.grouped and w.after != id_max(), serve = history
    if w.s == NULL:
        c.misses += 1
        notify(c, N_KEY_MISS, b"keymiss", &w.key)
        return False
    c.hits += 1
    if not history and w.s.length:
        stream_edge(w.s, False, False, &top)
        serve = top > (group_last(w.group) if r.grouped else w.after)
        if serve and r.grouped:
            w.after = group_last(w.group)
    if r.grouped:
        consumer = consumer_of(c, r, w)
    if not serve:
        return False
    if served[0] == 0:
        reply_head_later(c.out, head)
    served[0] += 1
    if c.resp == 2:
        reply_array(c.out, 2)
    reply_bulk(c.out, w.key.ptr, w.key.len)
    if history:
        reply_history(c, r, w, consumer)
    else:
        reply_new(c, r, w, consumer)
    if r.grouped:
        c.dirty += 1
    return True


cdef void wait_for_more(Ctx* c, Read* r, Wanted* w) noexcept nogil:
    """Wait, with $ replaced by the id it stands for now."""
    cdef u32 flags = WAIT_STREAM | WAIT_NULL_ARRAY | (WAIT_ON_DELETE if r.grouped else 0)
    cdef i64 i
    cdef size_t n
    cdef Arg* ids = &c.argv[r.first + r.n]
    cdef Arg* kept = <Arg*>malloc(r.n * (sizeof(Arg) + ID_CHARS))
    cdef char* text = <char*>(kept + r.n)
    if kept == NULL:
        abort()
    for i in range(r.n):
        kept[i] = ids[i]
        if is_char(&ids[i], c'$'):
            n = write_u64(text, id_ms(w[i].after))
            text[n] = c'-'
            n += 1
            ids[i].len = n + write_u64(text + n, id_seq(w[i].after))
            ids[i].ptr = text
        text += ID_CHARS
    block_on(c, r.first, r.n, 1, r.timeout_ms, flags)
    for i in range(r.n):               # it has made its own copies
        ids[i] = kept[i]
    free(kept)


cdef void cmd_xread(Ctx* c) noexcept nogil:
    cdef Read r
    cdef Wanted few[8]
    cdef Wanted* w = few
    cdef Later head
    cdef i64 i, served = 0
    cdef bint good = True
    if not read_options(c, &r):
        return
    if r.n > 8:
        w = <Wanted*>malloc(r.n * sizeof(Wanted))
        if w == NULL:
            abort()
    for i in range(r.n):
        if not find_wanted(c, &r, i, &w[i]):
            good = False
            break
    if good:
        for i in range(r.n):
            read_one(c, &r, &w[i], &head, &served)
        if served:
            reply_head_now(c.out, &head, c'*' if c.resp == 2 else c'%', served)
        elif r.timeout_ms >= 0 and not c.no_block:
            wait_for_more(c, &r, w)
        else:
            reply_null_array(c.out, c.resp)
    if w != few:
        free(w)
    effect_own(c)


# ---- rows

def about(summary, acl, key_flags):
    """What COMMAND DOCS and ACL say of a row of this family."""
    return {"since": "5.0.0", "group": "stream", "complexity": "O(N), N entries shown", "summary": summary,
            "acl": "stream slow blocking " + acl, "key_flags": [key_flags]}


commands[<int>register("xread", -4, "readonly blocking movablekeys lock=keys", (0, 0, 0), cmd_xread, about(
    "Shows the entries of streams above the IDs given, and may wait for some.", "read",
    "RO access"))["id"]].get_keys = read_keys
commands[<int>register("xreadgroup", -7, "write blocking movablekeys lock=keys", (0, 0, 0), cmd_xread, about(
    "Shows a consumer of a group new entries of streams, or its pending ones, and may wait for some.", "write",
    "RO access"))["id"]].get_keys = read_keys
