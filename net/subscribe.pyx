# slotring: data plane
"""SUBSCRIBE and its family, PUBLISH, SPUBLISH, PUBSUB."""
from libc.stdlib cimport malloc, free, abort
from libc.string cimport memcpy, memset, strlen
from engine.defs cimport *
from engine.command cimport Ctx, Arg, Command, Session, register, S_PUBSUB
from engine.conf cimport conf
from engine.glob cimport glob_match
from engine.lock cimport lock, unlock
from engine.reply cimport *
from net.conn cimport *
from net.pubsub cimport *
from net.router cimport count_slot_out, request_bytes
from net.worker cimport workers

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd_write(int, u64)
cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

cdef const char** ADDED = [b"subscribe", b"psubscribe", b"ssubscribe"]
cdef const char** REMOVED = [b"unsubscribe", b"punsubscribe", b"sunsubscribe"]


cdef void push_change(Conn* c, u32 kind, const char* word, const char* name, size_t n) noexcept nogil:
    """The reply for one channel: a push, which CLIENT REPLY does not silence. name NULL: there was none."""
    cdef OutBuf* o = &c.out
    cdef u32 resp = c.session.resp
    reply_head(o, c'>' if resp > 2 else c'*', 3)
    reply_bulk(o, word, strlen(word))
    if name != NULL:
        reply_bulk(o, name, n)
    else:
        reply_null(o, resp)
    reply_int(o, c.subs_n[PS_SHARD] if kind == PS_SHARD else c.subs_n[PS_CHANNEL] + c.subs_n[PS_PATTERN])


cdef void add(Ctx* x, u32 kind) noexcept nogil:
    cdef Conn* c = <Conn*>x.session
    cdef i64 i
    for i in range(1, x.argc):
        pubsub_add(c, kind, x.argv[i].ptr, x.argv[i].len)
        push_change(c, kind, ADDED[kind], x.argv[i].ptr, x.argv[i].len)
    c.session.flags |= S_PUBSUB


cdef void remove_all(Conn* c, u32 kind) noexcept nogil:
    cdef Subs* subs = <Subs*>c.subs
    cdef Worker* w = workers[c.worker]
    cdef Channel* ch
    cdef char* name
    cdef u32 n
    if c.subs_n[kind] == 0:
        push_change(c, kind, REMOVED[kind], NULL, 0)
        return
    while c.subs_n[kind]:
        ch = subs.first[kind].channel
        n = ch.len
        name = <char*>malloc(n + 1)            # the channel goes with its last subscriber
        if name == NULL:
            abort()
        memcpy(name, ch.name, n)
        pubsub_remove(w, c, kind, name, n)
        push_change(c, kind, REMOVED[kind], name, n)
        free(name)


cdef void remove(Ctx* x, u32 kind) noexcept nogil:
    cdef Conn* c = <Conn*>x.session
    cdef i64 i
    if x.argc == 1:
        remove_all(c, kind)
    for i in range(1, x.argc):
        pubsub_remove(workers[c.worker], c, kind, x.argv[i].ptr, x.argv[i].len)
        push_change(c, kind, REMOVED[kind], x.argv[i].ptr, x.argv[i].len)
    if not (c.subs_n[PS_CHANNEL] or c.subs_n[PS_PATTERN] or c.subs_n[PS_SHARD]):
        c.session.flags &= ~<u32>S_PUBSUB


cdef void cmd_subscribe(Ctx* x) noexcept nogil:
    add(x, PS_CHANNEL)


cdef void cmd_psubscribe(Ctx* x) noexcept nogil:
    add(x, PS_PATTERN)


cdef void cmd_ssubscribe(Ctx* x) noexcept nogil:
    if x.no_block:
        reply_error(x.out, b"ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
        return
    add(x, PS_SHARD)


cdef void cmd_unsubscribe(Ctx* x) noexcept nogil:
    remove(x, PS_CHANNEL)


cdef void cmd_punsubscribe(Ctx* x) noexcept nogil:
    remove(x, PS_PATTERN)


cdef void cmd_sunsubscribe(Ctx* x) noexcept nogil:
    remove(x, PS_SHARD)


cdef u64 smessage_bytes(Arg* argv) noexcept nogil:
    """What each subscriber is sent of SPUBLISH channel text: the command's words, with another name."""
    return request_bytes(argv, 3) - argv[0].len + 8


cdef void publish(Ctx* x, u32 kind) noexcept nogil:
    cdef i64 receivers = pubsub_publish(x, kind, x.argv[1].ptr, x.argv[1].len, x.argv[2].ptr, x.argv[2].len)
    reply_int(x.out, receivers)
    if unlikely(conf.slot_stats != 0) and kind == PS_SHARD:
        count_slot_out(workers[(<Conn*>x.session).worker], x.slot, <u64>receivers * smessage_bytes(x.argv))
    if posts.fd >= 0:
        post(kind, &x.argv[1], &x.argv[2])


cdef void cmd_publish(Ctx* x) noexcept nogil:
    publish(x, PS_CHANNEL)


cdef void cmd_spublish(Ctx* x) noexcept nogil:
    publish(x, PS_SHARD)


# ---- cluster mode: other nodes' subscribers hear it too

cdef struct Post:              # a message on its way to the bus's thread; channel and text follow
    Post* next
    u32 kind
    size_t channel_len
    size_t text_len

cdef struct Posts:
    u32 lock
    int fd                     # an eventfd that wakes the bus's thread; -1: there is no cluster
    Post* first
    Post* last

cdef Posts posts
posts.fd = -1


cdef void post(u32 kind, Arg* channel, Arg* text) noexcept nogil:
    cdef Post* p = <Post*>malloc(sizeof(Post) + channel.len + text.len)
    cdef bint empty
    if p == NULL:
        abort()
    p.next = NULL
    p.kind, p.channel_len, p.text_len = kind, channel.len, text.len
    memcpy(<char*>(p + 1), channel.ptr, channel.len)
    memcpy(<char*>(p + 1) + channel.len, text.ptr, text.len)
    lock(&posts.lock)
    empty = posts.first == NULL
    if empty:
        posts.first = p
    else:
        posts.last.next = p
    posts.last = p
    unlock(&posts.lock)
    if empty:
        eventfd_write(posts.fd, 1)


def take_posts() -> list:
    """What clients have published since the last call: (channel, message, sharded) each, in order."""
    cdef Post* p
    cdef Post* next_
    cdef list taken = []
    lock(&posts.lock)
    p = posts.first
    posts.first = posts.last = NULL
    unlock(&posts.lock)
    while p != NULL:
        next_ = p.next
        taken.append(((<char*>(p + 1))[:p.channel_len], (<char*>(p + 1))[p.channel_len:p.channel_len + p.text_len],
                      p.kind == PS_SHARD))
        free(p)
        p = next_
    return taken


def set_posts_fd(int fd) -> None:
    """From now on what is published is kept for take_posts, and this eventfd is written to; -1: no longer."""
    posts.fd = fd


def deliver(bytes channel, bytes message, bint sharded) -> int:
    """A message that was published on another node goes to this one's subscribers; how many get it."""
    cdef Ctx x
    cdef const char* name = channel
    cdef const char* text = message
    cdef size_t name_len = len(channel), text_len = len(message)
    cdef i64 n
    memset(&x, 0, sizeof(Ctx))
    with nogil:
        n = pubsub_publish(&x, PS_SHARD if sharded else PS_CHANNEL, name, name_len, text, text_len)
    return n


# ---- PUBSUB

cdef void list_channels(Ctx* x, u32 kind) noexcept nogil:
    """All channels with subscribers, or those that match a pattern."""
    cdef OutBuf names
    cdef Shelf* s
    cdef Channel* ch
    cdef Chunk* k
    cdef u32 i, at
    cdef i64 found = 0
    if x.argc > 3:
        bad_form(x)
        return
    out_init(&names, x.out.pool)
    for i in range(SHELVES):
        s = &shelves[i]
        lock(&s.lock)
        for at in range(s.cap):
            ch = s.places[at]
            while ch != NULL:
                if ch.kind == kind and (x.argc == 2 or glob_match(x.argv[2].ptr, x.argv[2].len, ch.name,
                                                                  ch.len, False)):
                    reply_bulk(&names, ch.name, ch.len)
                    found += 1
                ch = ch.next
        unlock(&s.lock)
    reply_array(x.out, found)
    k = names.head
    while k != NULL:
        out_write(x.out, k.data, <size_t>(names.pos - k.data) if k == names.tail else k.len)
        k = k.next
    out_free(&names)


cdef void bad_form(Ctx* x) noexcept nogil:
    cdef char text[256]
    snprintf(text, 256, b"ERR unknown subcommand or wrong number of arguments for '%.*s'. Try PUBSUB HELP.",
             <int>(x.argv[1].len if x.argv[1].len < 128 else 128), x.argv[1].ptr)
    reply_error(x.out, text)


cdef void list_numbers(Ctx* x, u32 kind) noexcept nogil:
    cdef i64 i
    reply_array(x.out, (x.argc - 2) * 2)
    for i in range(2, x.argc):
        reply_bulk(x.out, x.argv[i].ptr, x.argv[i].len)
        reply_int(x.out, pubsub_subscribers(kind, x.argv[i].ptr, x.argv[i].len))


cdef void cmd_channels(Ctx* x) noexcept nogil:
    list_channels(x, PS_CHANNEL)


cdef void cmd_shardchannels(Ctx* x) noexcept nogil:
    list_channels(x, PS_SHARD)


cdef void cmd_numsub(Ctx* x) noexcept nogil:
    list_numbers(x, PS_CHANNEL)


cdef void cmd_shardnumsub(Ctx* x) noexcept nogil:
    list_numbers(x, PS_SHARD)


cdef void cmd_numpat(Ctx* x) noexcept nogil:
    reply_int(x.out, <i64>atomic_load64(&pubsub_counts[PS_PATTERN], RELAXED))


def _about(since, complexity, summary, acl="slow pubsub"):
    return {"since": since, "group": "pubsub", "complexity": complexity, "summary": summary, "acl": acl}


O_NAMES = "O(N), N the channels named"
QUIET = "pubsub noscript loading stale"
POST = "pubsub loading stale fast may_replicate lock=none"
LOOK = "pubsub loading stale"
NONE = (0, 0, 0)
register("subscribe", -2, QUIET, NONE, cmd_subscribe, _about("2.0.0", O_NAMES, "Listens to channels."))
register("unsubscribe", -1, QUIET, NONE, cmd_unsubscribe, _about(
    "2.0.0", O_NAMES, "Stops listening to channels, or to all."))
register("psubscribe", -2, QUIET, NONE, cmd_psubscribe, _about(
    "2.0.0", "O(N), N the patterns", "Listens to all channels whose names match a pattern."))
register("punsubscribe", -1, QUIET, NONE, cmd_punsubscribe, _about(
    "2.0.0", "O(N), N the patterns", "Stops listening by patterns, or by any."))
register("ssubscribe", -2, QUIET + " lock=none", (1, -1, 1), cmd_ssubscribe, _about(
    "7.0.0", O_NAMES, "Listens to shard channels."))
register("sunsubscribe", -1, QUIET + " lock=none", (1, -1, 1), cmd_sunsubscribe, _about(
    "7.0.0", O_NAMES, "Stops listening to shard channels, or to all."))
register("publish", 3, POST, NONE, cmd_publish, _about(
    "2.0.0", "O(N+M), N the channel's subscribers, M all patterns", "Sends a message to who listens to a channel.",
    "fast pubsub"))
register("spublish", 3, POST, (1, 1, 1), cmd_spublish, _about(
    "7.0.0", "O(N), N the channel's subscribers", "Sends a message to who listens to a shard channel.",
    "fast pubsub"))
register("pubsub|channels", -2, LOOK, NONE, cmd_channels, _about(
    "2.8.0", "O(N), N all channels", "Lists the channels that somebody listens to."))
register("pubsub|numsub", -2, LOOK, NONE, cmd_numsub, _about(
    "2.8.0", O_NAMES, "Counts the subscribers of channels."))
register("pubsub|numpat", 2, LOOK, NONE, cmd_numpat, _about(
    "2.8.0", "O(1)", "Counts the patterns that somebody listens by."))
register("pubsub|shardchannels", -2, LOOK, NONE, cmd_shardchannels, _about(
    "7.0.0", "O(N), N all shard channels", "Lists the shard channels that somebody listens to."))
register("pubsub|shardnumsub", -2, LOOK, NONE, cmd_shardnumsub, _about(
    "7.0.0", O_NAMES, "Counts the subscribers of shard channels."))
