# slotring: data plane
"""CLUSTERSCAN: the keys of a whole cluster, a few at a time, whichever node is asked.

A cursor is FINGERPRINT-{TAG}-POSITION. The tag says the slot where it goes on, so that a client that routes the cursor
as if it were a key comes to the node that has that slot. The position is that node's own, as for SCAN; the fingerprint
tells it from those of others (and of this node before it was started again), with which a slot begins anew. A node goes
through its slots up to the first one that another node has, and gives a cursor for that."""
from libc.string cimport memchr, memcmp, memcpy
from engine.command cimport Arg, Ctx, register
from engine.commands.keys cimport *
from engine.conf cimport conf
from engine.defs cimport *
from engine.glob cimport glob_slot
from engine.hashing cimport SLOTS, crc16, fold, hash_seed, key_slot
from engine.reply cimport *
from net.router cimport atomic_load16, router

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

cdef enum:
    PRINT_BYTES = 6
    CURSOR_BYTES = 64

cdef char tags[SLOTS][4]           # of each slot: the shortest text that hashes there, the first of those in order
cdef char fingerprint[8]


cdef void make_tags() noexcept nogil:
    cdef const char* letters = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    cdef char text[4]
    cdef u32 n, i, count = 62, slot, rest, k
    for slot in range(SLOTS):
        tags[slot][0] = 0
    for n in range(1, 4):
        for i in range(count):
            rest = i
            for k in range(n):
                text[n - 1 - k] = letters[rest % 62]
                rest //= 62
            text[n] = 0
            slot = crc16(text, n) & (SLOTS - 1)
            if tags[slot][0] == 0:
                memcpy(tags[slot], text, 4)
        count *= 62


cdef void make_fingerprint() noexcept nogil:
    """Six characters that say which process a position is of; none of them is one of a cursor's own."""
    cdef u64 h = fold(hash_seed[0], hash_seed[1])
    cdef u32 i
    for i in range(PRINT_BYTES):
        fingerprint[i] = <char>(48 + (h & 63))
        h >>= 6
    fingerprint[PRINT_BYTES] = 0


cdef bint parse_place(Ctx* c, u32* slot, u64* cursor) noexcept nogil:
    """The cursor's slot, and the position if it is ours, else 0; False: it is none."""
    cdef const char* p = c.argv[1].ptr
    cdef size_t n = c.argv[1].len
    cdef const char* tag = <const char*>memchr(p, c'-', n)
    cdef const char* at
    cdef Arg number
    if tag == NULL:
        return False
    at = <const char*>memchr(tag + 1, c'-', n - (tag + 1 - p))
    if at == NULL:
        return False
    slot[0] = key_slot(tag + 1, at - (tag + 1))
    number.ptr = <char*>at + 1
    number.len = n - (at + 1 - p)
    if not parse_cursor(&number, cursor):
        return False
    if tag - p != PRINT_BYTES or memcmp(p, fingerprint, PRINT_BYTES):
        cursor[0] = 0
    return True


cdef void say_cursor(Ctx* c, const char* whose, u32 slot, u64 position) noexcept nogil:
    cdef char text[CURSOR_BYTES]
    reply_bulk(c.out, text, snprintf(text, CURSOR_BYTES, b"%s-{%s}-%llu", whose, <char*>tags[slot],
                                     <unsigned long long>position))


cdef void say_nothing(Ctx* c, i64 slot) noexcept nogil:
    """No keys; go on with that slot, or it was all (-1)."""
    reply_array(c.out, 2)
    if slot < 0:
        reply_bulk(c.out, b"0", 1)
    else:
        say_cursor(c, b"0", <u32>slot, 0)
    reply_array(c.out, 0)


cdef void walk(Ctx* c, ScanArgs* args, u32 slot, u64 cursor, bint one_slot) noexcept nogil:
    cdef Gather g
    cdef u32 last = slot, first = slot
    cdef u64 position = 0
    cdef u16 owner = atomic_load16(&router.owners[slot], RELAXED)
    if not one_slot:
        while last + 1 < SLOTS and atomic_load16(&router.owners[last + 1], RELAXED) == owner:
            last += 1
    if cursor and slot <= (cursor & (SLOTS - 1)) <= last and not cursor >> 46:
        first = <u32>(cursor & (SLOTS - 1))
        position = cursor >> 14
    gather_init(&g, c, args.pattern, args.pattern_len)
    g.type_ = args.type_
    cursor = scan_walk(c, first, position, last + 1, args.count, &g)
    reply_array(c.out, 2)
    if cursor:
        say_cursor(c, fingerprint, <u32>(cursor & (SLOTS - 1)), cursor)
    elif not one_slot and last + 1 < SLOTS:
        say_cursor(c, b"0", last + 1, 0)
    else:
        reply_bulk(c.out, b"0", 1)
    reply_array(c.out, g.found)
    out_append(c.out, &g.out)


cdef void cmd_clusterscan(Ctx* c) noexcept nogil:
    cdef ScanArgs args
    cdef i64 only = -1
    cdef u32 slot = 0
    cdef u64 cursor = 0
    cdef bint nowhere
    if not conf.cluster:
        reply_error(c.out, b"ERR This instance has cluster support disabled")
        return
    if not scan_args(c, 2, SCAN_CLUSTER, &args):
        return
    if args.pattern != NULL:
        only = glob_slot(args.pattern, args.pattern_len)
    nowhere = args.slot >= 0 and only >= 0 and args.slot != only
    if c.argv[1].len == 1 and c.argv[1].ptr[0] == c'0':
        say_nothing(c, -1 if nowhere else args.slot if args.slot >= 0 else only if only >= 0 else 0)
        return
    if not parse_place(c, &slot, &cursor):
        reply_error(c.out, b"ERR Invalid cursor")
    elif args.slot >= 0 and slot != args.slot:
        reply_error(c.out, b"ERR Cursor slot mismatch with SLOT argument")
    elif only >= 0 and slot != only:
        say_nothing(c, only if not nowhere and only > slot else -1)
    else:
        walk(c, &args, slot, cursor, args.slot >= 0 or only >= 0)


make_tags()
make_fingerprint()
register("clusterscan", -2, "readonly lock=self", (1, 1, 1), cmd_clusterscan, {
    "since": "9.1.0", "group": "cluster", "complexity": "O(1) a call, O(N) for all N keys of the cluster",
    "summary": "Goes through the keys of the cluster a few at a time.", "acl": "keyspace read slow",
    "tips": "nondeterministic_output request_policy:special response_policy:special", "key_flags": ["not_key"]})
