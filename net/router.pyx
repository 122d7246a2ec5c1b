# slotring: data plane
"""The slot map and the decisions that it makes; see router.pxd. ASKING, READONLY and READWRITE.

The functions for Python are called by one thread or several; each leaves the map whole."""
from libc.stdlib cimport calloc
from libc.string cimport memcmp, memset
from engine.command cimport *
from engine.defs cimport *
from engine.keyspace cimport key_init
from engine.lock cimport lock, unlock
from engine.multikey cimport command_keys, command_slots, parts_add
from engine.numbers cimport parse_i64
from engine.racy cimport racy_begin, racy_end
from engine.reply cimport *
from engine.slots cimport barrier_marked
from engine.store cimport *
from net.conn cimport *
from net.txn cimport Queued, Txn
from net.worker cimport cycles_per_us, nworkers, post, workers

from engine import slots as _slots

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)
cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr_storage:
        unsigned short ss_family
    struct sockaddr:
        pass
    int getpeername(int, sockaddr*, unsigned int*)
    int AF_INET6

cdef struct Seen:                  # the keys of a command for a slot that is on the move
    Ctx* ctx
    Command* cmd
    u32 db
    bint count                     # look whether they are there
    bint unstable                  # what the command does cannot be done now
    bint several                   # different keys
    Arg* first
    u32 missing
    u32 existing

cdef enum:
    MULTI_BYTES = 15               # "*1\r\n$5\r\nMULTI\r\n", counted once its keys' slot is known

cdef u32 map_lock = 0
memset(&router, 0, sizeof(router))


# ---- decisions

cdef inline bint is_word(Command* cmd, const char* name, u32 n) noexcept nogil:
    return cmd.name_len == n and not memcmp(cmd.name, name, n)


cdef void slots_init(KeySlots* s, PartSet* parts) noexcept nogil:
    """Before the first key."""
    s.parts = parts
    s.slot = SLOTS
    s.cross = s.paused = 0


cdef void slots_add(void* key_slots, u32 slot) noexcept nogil:
    """One more key."""
    cdef KeySlots* s = <KeySlots*>key_slots
    if s.parts != NULL:
        parts_add(s.parts, part_of(slot))
    if s.slot == SLOTS:
        s.slot = slot
    s.cross |= s.slot != slot
    s.paused |= atomic_load16(&router.pauses[slot], RELAXED)


cdef void see_key(void* arg, Arg* key) noexcept nogil:
    """One key of a command for a slot on the move."""
    cdef Seen* s = <Seen*>arg
    cdef Key k
    if s.first == NULL:
        s.first = key
    elif s.first.len != key.len or memcmp(s.first.ptr, key.ptr, key.len):
        s.several = True
    if is_word(s.cmd, b"move", 4):         # whether the other database's key has moved already is not known
        s.unstable = True
    if not s.count:
        return
    key_init(s.ctx, &k, key)
    k.db = s.db
    if table_find(&k) == NULL or (k.entry.flags & E_EXPIRE and entry_expire(k.entry) <= s.ctx.now_ms):
        s.missing += 1
    else:
        s.existing += 1


cdef void see_command(Seen* s, Command* cmd, Arg* argv, i64 argc) noexcept nogil:
    """The keys of one command."""
    cdef i64 db, i = 3
    s.cmd = cmd
    if is_word(cmd, b"select", 6) and argc > 1 and parse_i64(argv[1].ptr, argv[1].len, &db) and 0 <= db < store.ndbs:
        s.db = <u32>db
    command_keys(cmd, argv, argc, see_key, s)
    if is_word(cmd, b"copy", 4):           # likewise
        while i + 1 < argc:
            if arg_is(&argv[i], b"db", 2):
                i += 1
                if not parse_i64(argv[i].ptr, argv[i].len, &db) or db != s.db:
                    s.unstable = True
            i += 1


cdef void see_all(Seen* s, Ctx* x, Command* cmd, Txn* t, bint count) noexcept nogil:
    """The keys of a command, or of EXEC's commands."""
    cdef u32 i
    memset(s, 0, sizeof(Seen))
    s.ctx = x
    s.db = x.db
    s.count = count
    if t == NULL:
        see_command(s, cmd, x.argv, x.argc)
        return
    for i in range(t.n):
        see_command(s, t.commands[i].cmd, t.commands[i].argv, t.commands[i].argc)


cdef u32 route_down(u64 flags, bint shard_channel) noexcept nogil:
    """While the cluster is down."""
    if shard_channel:
        return ROUTE_HERE if conf.cluster_pubsub_down else ROUTE_DOWN
    if not conf.cluster_reads_down:
        return ROUTE_DOWN
    return ROUTE_DOWN_WRITE if flags & F_WRITE else ROUTE_HERE


cdef u32 route_of(Ctx* x, Command* cmd, Txn* t, u32 slot, u32* node) noexcept nogil:
    """Where a command whose keys are all of one slot is to run, and by whom (*node). The slot's lock is held, unless
    the command is only to be queued."""
    cdef u32 owner = atomic_load16(&router.owners[slot], RELAXED), primary = atomic_load32(&router.primary, RELAXED), r
    cdef u32 to = atomic_load16(&router.migrating[slot], RELAXED)
    cdef Conn* c = <Conn*>x.session
    cdef bint migrating = False, importing = False
    cdef bint shard_channel = (cmd.flags | (t.flags if t != NULL else 0)) & F_PUBSUB
    cdef Seen seen
    seen.missing = seen.existing = 0
    seen.several = False
    if owner == OWNER_NONE:
        return ROUTE_UNBOUND
    if primary == 0 or x.session.flags & S_READONLY:
        migrating = to and is_ours(slot)
        importing = not migrating and atomic_load16(&router.importing[slot], RELAXED)
    if migrating or importing:
        see_all(&seen, x, cmd, t, not shard_channel and (t != NULL or not c.flags & C_MULTI))
        if seen.unstable:
            return ROUTE_TRYAGAIN
    if atomic_load32(&router.state, RELAXED) != STATE_OK:
        r = route_down(cmd.flags, shard_channel)
        if r != ROUTE_HERE:
            return r
    if (migrating or importing) and primary == 0 and is_word(cmd, b"migrate", 7):
        return ROUTE_HERE
    if migrating and seen.missing:
        node[0] = to
        return ROUTE_TRYAGAIN if seen.existing else ROUTE_ASK
    if importing and (x.session.flags & S_ASKED or cmd.flags & F_ASKING):
        return ROUTE_TRYAGAIN if seen.several and seen.missing else ROUTE_HERE
    if owner == OWNER_HERE:
        return ROUTE_HERE
    if (primary == owner and (x.session.flags & S_READONLY or shard_channel)
            and not (cmd.flags | (t.flags if t != NULL else 0)) & F_WRITE):
        return ROUTE_HERE
    node[0] = owner
    return ROUTE_MOVED


cdef u32 route_blocked(Ctx* x, Command* cmd, u32 slot, u32* node) noexcept nogil:
    """May a command that waits for a key of the slot go on waiting (ROUTE_HERE)? Else what it is told. Only the
    session of x is looked at."""
    cdef u32 owner = atomic_load16(&router.owners[slot], RELAXED)
    if atomic_load32(&router.state, RELAXED) != STATE_OK:
        return ROUTE_DOWN
    if owner == OWNER_HERE or atomic_load16(&router.importing[slot], RELAXED):
        return ROUTE_HERE
    if owner == OWNER_NONE:
        return ROUTE_UNBOUND
    if atomic_load32(&router.primary, RELAXED) == owner and x.session.flags & S_READONLY and not cmd.flags & F_WRITE:
        return ROUTE_HERE
    node[0] = owner
    return ROUTE_MOVED


cdef bint by_ipv6(int fd) noexcept nogil:
    cdef sockaddr_storage a
    cdef unsigned int n = sizeof(a)
    return getpeername(fd, <sockaddr*>&a, &n) == 0 and a.ss_family == AF_INET6


cdef void say_route(OutBuf* o, int fd, u32 route, u32 slot, u32 node) noexcept nogil:
    """The error that sends a client elsewhere, or away."""
    cdef char text[320]
    cdef const char* where
    if route == ROUTE_MOVED or route == ROUTE_ASK:
        where = <const char*>atomic_load64(&router.endpoints[0][node], ACQUIRE)
        if <u64>where != atomic_load64(&router.endpoints[1][node], ACQUIRE) and by_ipv6(fd):
            where = <const char*>atomic_load64(&router.endpoints[1][node], ACQUIRE)
        snprintf(text, 320, b"%s %u %s", <const char*>(b"MOVED" if route == ROUTE_MOVED else b"ASK"), <unsigned>slot,
                 where if where != NULL else <const char*>b":0")
        reply_error(o, text)
    elif route == ROUTE_TRYAGAIN:
        reply_error(o, b"TRYAGAIN Multiple keys request during rehashing of slot")
    elif route == ROUTE_CROSSSLOT:
        reply_error(o, b"CROSSSLOT Keys in request don't hash to the same slot")
    elif route == ROUTE_UNBOUND:
        reply_error(o, b"CLUSTERDOWN Hash slot not served")
    elif route == ROUTE_DOWN:
        reply_error(o, b"CLUSTERDOWN The cluster is down")
    else:
        reply_error(o, b"CLUSTERDOWN The cluster is down and only accepts read commands")


cdef void say_crossslot(Ctx* x) noexcept nogil:
    say_route(x.out, -1, ROUTE_CROSSSLOT, 0, 0)
    x.turned = TURNED_REPLIED


cdef bint turned_away(Ctx* x, Command* cmd, void* txn, u32 slot) noexcept nogil:
    cdef u32 node = 0, r = ROUTE_HERE
    cdef Txn* t = <Txn*>txn
    if x.session.flags & S_OBEY:
        return False
    if conf.cluster:
        r = route_of(x, cmd, t, slot, &node)
    if r != ROUTE_HERE:
        say_route(x.out, (<Conn*>x.session).fd, r, slot, node)
        x.turned = TURNED_REPLIED
        return True
    if atomic_load16(&router.pauses[slot], RELAXED) and (cmd.flags | (t.flags if t != NULL else 0)) & F_WRITE:
        x.turned = TURNED_HELD
        return True
    return False


cdef bint turned_many(Ctx* x, Command* cmd, void* txn, KeySlots* s) noexcept nogil:
    """Locks are held. Outside of cluster mode keys may be of several slots: each of them must not be paused."""
    cdef KeySlots now
    cdef Txn* t = <Txn*>txn
    cdef u32 i
    if s.slot == SLOTS or x.session.flags & S_OBEY:
        return False
    if conf.cluster:
        if s.cross:
            say_crossslot(x)
            return True
        return not is_plain(s.slot) and turned_away(x, cmd, txn, s.slot)
    if not (cmd.flags | (t.flags if t != NULL else 0)) & F_WRITE:
        return False
    slots_init(&now, NULL)
    if t == NULL:
        command_slots(cmd, x.argv, x.argc, slots_add, &now)
    else:
        for i in range(t.n):
            command_slots(t.commands[i].cmd, t.commands[i].argv, t.commands[i].argc, slots_add, &now)
    if now.paused:
        x.turned = TURNED_HELD
    return now.paused != 0


cdef bint turned_early(Ctx* x, Command* cmd) noexcept nogil:
    """Of a command that takes its locks later, if any: of the control plane, about channels, or to be queued."""
    cdef KeySlots s
    cdef bint turned
    slots_init(&s, NULL)
    command_slots(cmd, x.argv, x.argc, slots_add, &s)
    x.slot = s.slot
    if s.slot == SLOTS:
        return False
    lock(&part_of(s.slot).lock)
    turned = turned_many(x, cmd, NULL, &s)
    unlock(&part_of(s.slot).lock)
    return turned


cdef i64 keys_of_migrate(Arg* argv, i64 argc, i64* places, i64 most) noexcept nogil:
    """The one key, or what follows KEYS where that one is empty."""
    cdef i64 i = 6, first = 3, n = 1
    while i < argc and argc > 6:
        if argv[3].len == 0 and arg_is(&argv[i], b"keys", 4):
            first = i + 1
            n = argc - first
            break
        i += 3 if arg_is(&argv[i], b"auth2", 5) else 2 if arg_is(&argv[i], b"auth", 4) else 1
    for i in range(n if n < most else most):
        places[i] = first + i
    return n


def find_keys_of_migrate(u32 row) -> None:
    """MIGRATE's row: its keys are found by a function of its own."""
    commands[row].first = 0
    commands[row].get_keys = keys_of_migrate


# ---- commands

cdef bint in_cluster(Ctx* x) noexcept nogil:
    if not conf.cluster:
        reply_error(x.out, b"ERR This instance has cluster support disabled")
    return conf.cluster != 0


cdef void cmd_asking(Ctx* x) noexcept nogil:
    if in_cluster(x):
        x.session.flags |= S_ASKING
        reply_ok(x.out)


cdef void cmd_readonly(Ctx* x) noexcept nogil:
    x.session.flags |= S_READONLY
    reply_ok(x.out)


cdef void cmd_readwrite(Ctx* x) noexcept nogil:
    x.session.flags &= ~<u32>S_READONLY
    reply_ok(x.out)


# ---- the map, for the cluster's thread

_texts = {}                        # endpoint texts, kept for ever: workers may be reading them


cdef u64 text_of(bytes text):
    """The address of a text that stays."""
    kept = _texts.setdefault(text, text)
    return <u64><uintptr_t><const char*><bytes>kept


cdef void replain(u32 slot) noexcept nogil:
    """Set or clear a slot's bit; map_lock is held."""
    cdef u64 bit = <u64>1 << (slot & 63)
    cdef u64 word = router.plain[slot >> 6] & ~bit
    if not router.pauses[slot] and (not conf.cluster or (
            router.owners[slot] == OWNER_HERE and not router.migrating[slot] and not router.importing[slot]
            and router.state == STATE_OK and router.primary == 0)):
        word |= bit
    atomic_store64(&router.plain[slot >> 6], word, RELEASE)


cdef void replain_all() noexcept nogil:
    cdef u32 slot
    for slot in range(SLOTS):
        replain(slot)


cdef void tell_workers(bint resumed) noexcept nogil:
    """Each worker looks at the commands that wait and at the shard channels of its connections."""
    cdef u32 i
    for i in range(nworkers):
        post(workers[i], MSG_ROUTES, 1 if resumed else 0, NULL, 0, NULL, 0)


def begin_cluster() -> None:
    """Once, before there are clients: cluster mode. Until set_owners says otherwise nobody has a slot."""
    conf.cluster = conf.routing = 1
    replain_all()


cdef bint take_owners(const u16* fresh, u8* changed, u8* lost) noexcept nogil:
    """The new map; says which slots have another owner, and which of those were ours; False: none."""
    cdef u32 slot
    cdef bint some = False
    lock(&map_lock)
    for slot in range(SLOTS):
        changed[slot] = router.owners[slot] != fresh[slot]
        lost[slot] = changed[slot] and is_ours(slot)
        if changed[slot]:
            some = True
            atomic_store16(&router.owners[slot], fresh[slot], RELAXED)
            replain(slot)
    unlock(&map_lock)
    return some


def set_owners(bytes owners) -> None:
    """Who serves each slot: 16384 little-endian u16 of node indexes, 0 for nobody, 1 for this node.

    When it returns no command runs any more in a slot that was taken from here; commands that wait for keys of such a
    slot are sent away, and subscribers to its channels are told."""
    cdef const u16* fresh = <const u16*><const char*>owners
    cdef u8 changed[SLOTS]
    cdef u8 lost[SLOTS]
    cdef u32 slot, most = 0
    if len(owners) == 2 * SLOTS:
        for slot in range(SLOTS):
            most = most if most > fresh[slot] else fresh[slot]
    if len(owners) != 2 * SLOTS or most >= NODES_MAX:
        raise ValueError("owners of 16384 slots are wanted, as indexes of nodes")
    with nogil:
        if take_owners(fresh, changed, lost):
            barrier_marked(lost)
            reset_marked(changed)
            tell_workers(False)


def slot_keys(u32 slot) -> int:
    """How many keys a slot has, over all databases."""
    return _slots.count(slot)


def slots_with_keys(slots) -> list:
    """Those of these slots that have keys, in any database."""
    return _slots.with_keys(slots)


def drop_slot_keys(u32 slot) -> int:
    """Delete the keys of a slot that another node has now; returns how many there were. No client hears of it."""
    return _slots.delete_slot(slot, conf.lazyfree_server_del != 0)[0]


def owner(u32 slot) -> int:
    """The index of the node that has a slot."""
    return router.owners[slot]


def our_slots() -> list:
    """The slots of this node, or of its primary."""
    return [slot for slot in range(SLOTS) if is_ours(slot)]


def set_node(u32 index, bytes endpoint, endpoint_ipv6=None) -> None:
    """What MOVED and ASK say of a node: host:port, perhaps another one to clients that came by IPv6."""
    if not 0 < index < NODES_MAX:
        raise ValueError(f"there is no node {index}")
    other = endpoint if endpoint_ipv6 is None else endpoint_ipv6
    atomic_store64(&router.endpoints[0][index], text_of(endpoint), RELEASE)
    atomic_store64(&router.endpoints[1][index], text_of(other), RELEASE)


cdef void set_one(u16* words, u32 slot, u32 index) noexcept nogil:
    lock(&map_lock)
    atomic_store16(&words[slot], <u16>index, RELAXED)
    replain(slot)
    unlock(&map_lock)


def set_migrating(u32 slot, u32 index) -> None:
    """The slot's keys go to a node one by one (CLUSTER SETSLOT MIGRATING); 0: not any more."""
    if slot >= SLOTS or index >= NODES_MAX:
        raise ValueError("no such slot or node")
    set_one(router.migrating, slot, index)
    _slots.barrier((slot,))


def set_importing(u32 slot, u32 index) -> None:
    """The slot's keys come from a node one by one (CLUSTER SETSLOT IMPORTING); 0: not any more."""
    if slot >= SLOTS or index >= NODES_MAX:
        raise ValueError("no such slot or node")
    set_one(router.importing, slot, index)
    _slots.barrier((slot,))
    if index == 0:
        tell_workers(False)


def set_state(u32 code) -> None:
    """0: the cluster is healthy; anything else: it is down, and commands with keys are refused."""
    if router.state == code:
        return
    with nogil:
        lock(&map_lock)
        atomic_store32(&router.state, code, RELAXED)
        replain_all()
        unlock(&map_lock)
    tell_workers(False)


def set_primary(u32 index) -> None:
    """This node is the replica of another one; 0: it is a primary."""
    if router.primary == index:
        return
    with nogil:
        lock(&map_lock)
        atomic_store32(&router.primary, index, RELAXED)
        replain_all()
        unlock(&map_lock)
    _slots.barrier(range(SLOTS))
    tell_workers(False)


# ---- paused slots

cdef void pause_marked(const u8* wanted, i32 by) noexcept nogil:
    """Count a pause of each marked slot up or down."""
    cdef u32 slot, before
    lock(&map_lock)
    for slot in range(SLOTS):
        before = router.pauses[slot]
        if not wanted[slot] or (before == 0 and by < 0):
            continue
        atomic_store16(&router.pauses[slot], <u16>(before + by), RELAXED)
        if before == 0:
            router.paused += 1
        elif before + by == 0:
            router.paused -= 1
        replain(slot)
    racy_begin()                       # workers look at it under the locks of their keys, see `barrier`
    conf.routing = conf.cluster or router.paused
    racy_end()
    unlock(&map_lock)


cdef bytearray marks_of(slots):
    """A byte for each slot, 1 for these (numbers)."""
    marks = bytearray(SLOTS)
    for slot in slots:
        marks[slot] = 1
    return marks


def pause(slots) -> None:
    """Hold writes to these slots (numbers) back, and only those; when it returns none is under way. Each pause needs
    its resume; there is no time after which it ends by itself."""
    cdef const u8* wanted
    marks = marks_of(slots)
    wanted = marks
    with nogil:
        pause_marked(wanted, 1)
        barrier_marked(wanted)


def resume(slots) -> None:
    """The end of a pause: what waited is run, or sent to where the slot is now."""
    cdef u32 i
    cdef const u8* wanted
    marks = marks_of(slots)
    wanted = marks
    with nogil:
        pause_marked(wanted, -1)
    for i in range(nworkers):
        post(workers[i], MSG_UNPAUSE, -1, NULL, 0, NULL, 0)
    tell_workers(True)


def look_again() -> None:
    """Keys have been deleted by slot: commands that wait for them look whether that is their end."""
    tell_workers(True)


def paused() -> int:
    """How many slots hold writes back."""
    return router.paused


# ---- statistics of slots

cdef inline u64 digits(u64 n) noexcept nogil:
    cdef u64 k = 1
    while n > 9:
        n //= 10
        k += 1
    return k


cdef u64 request_bytes(Arg* argv, i64 argc) noexcept nogil:
    """A command as RESP."""
    cdef u64 n = 3 + digits(argc)
    cdef i64 i
    for i in range(argc):
        n += argv[i].len + digits(argv[i].len) + 5
    return n


cdef SlotStat* stat_of(Worker* w, u32 slot) noexcept nogil:
    """A slot's figures; NULL: there are none for it."""
    if not conf.cluster or slot >= SLOTS:
        return NULL
    if w.slot_stats == NULL:
        w.slot_stats = <SlotStat*>calloc(SLOTS, sizeof(SlotStat))
    return &w.slot_stats[slot] if w.slot_stats != NULL else NULL


cdef void count_slot_out(Worker* w, u32 slot, u64 net_out) noexcept nogil:
    """CLUSTER SLOT-STATS: more bytes to clients."""
    cdef SlotStat* s = stat_of(w, slot)
    if s != NULL:
        s.net_out += net_out


cdef void count_slot(Worker* w, Ctx* x, u64 cycles, u64 net_in, u64 net_out) noexcept nogil:
    """CLUSTER SLOT-STATS: what a command took of its keys' slot."""
    cdef SlotStat* s = stat_of(w, x.slot)
    if s == NULL:
        return
    s.us += <u64>(cycles / cycles_per_us)
    s.net_out += net_out
    s.net_in += net_in
    if is_word(x.cmd, b"exec", 4):
        s.net_in += MULTI_BYTES


cdef void reset_marked(const u8* marked) noexcept nogil:
    """Slots that have changed hands begin anew."""
    cdef u32 slot, i
    racy_begin()                       # what a worker counts at this moment may be counted still
    for i in range(nworkers):
        if workers[i].slot_stats != NULL:
            for slot in range(SLOTS):
                if marked[slot]:
                    memset(&workers[i].slot_stats[slot], 0, sizeof(SlotStat))
    racy_end()


def reset_slot_stats(slots) -> None:
    """The figures of these slots begin anew."""
    cdef const u8* marked
    marks = marks_of(slots)
    marked = marks
    with nogil:
        reset_marked(marked)


def slot_stats(u32 slot) -> tuple:
    """(microseconds, bytes in, bytes out) of a slot since the start or the last reset."""
    cdef u32 i
    cdef u64 us = 0, net_in = 0, net_out = 0
    racy_begin()                       # statistics: words that one worker writes
    for i in range(nworkers):
        if workers[i].slot_stats != NULL:
            us += workers[i].slot_stats[slot].us
            net_in += workers[i].slot_stats[slot].net_in
            net_out += workers[i].slot_stats[slot].net_out
    racy_end()
    return us, net_in, net_out


def _about(since, summary, group="cluster", acl="fast connection"):
    return {"since": since, "group": group, "complexity": "O(1)", "summary": summary, "acl": acl}


register("asking", 1, "fast", (0, 0, 0), cmd_asking, _about(
    "3.0.0", "Says that the next command follows an ASK redirection."))
register("readonly", 1, "fast loading stale", (0, 0, 0), cmd_readonly, _about(
    "3.0.0", "Lets a replica serve reads of its primary's slots to this connection."))
register("readwrite", 1, "fast loading stale", (0, 0, 0), cmd_readwrite, _about(
    "3.0.0", "Ends READONLY."))
replain_all()
