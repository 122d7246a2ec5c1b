# slotring: data plane
"""The nodes of a cluster as arrays, and the loops over all of them and over the gossip of a packet.

A node has a place: 1 is this node itself, 0 nobody. What is asked of all nodes at once (times, flags) lies in arrays
with an entry a place, which numpy sees too; what is gossiped of a node lies ready in its wire form. `Place` is what a
net.cluster.nodes.Node has in the arrays, and what is remembered of its last header. Times are Unix milliseconds.
All of it is called under the bus's lock.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from engine.defs cimport *

from net.cluster.messages import NO_SLOTS, gossip_type
from net.lazy import numpy as np

cdef enum:
    HEADER_BYTES = 2256
    CURRENT_EPOCH_AT = 16
    EPOCH_AT = 24                  # of the sender's slots
    OFFSET_AT = 32
    SENDER_AT = 40
    STATE_AT = 2252
    MFLAGS_AT = 2253
    ROW_BYTES = 104                # of gossip: id, times of ping and pong (s), ip, port, bus port, flags, TLS port
    ID_BYTES = 40
    IP_BYTES = 46
    PING_AT = 40
    PONG_AT = 44
    IP_AT = 48
    PORT_AT = 94
    CPORT_AT = 96
    FLAGS_AT = 98
    PPORT_AT = 100
    ROWS_MAX = 65535
    GOSSIP_MIN = 3
    KIND_PING = 0
    KIND_PONG = 1
    KIND_MEET = 2
    EXT_DATA = 4                   # a header's flag of a message
    FUTURE_MS = 500                # how far a gossiped pong may lie in our future

    PRIMARY = 1
    REPLICA = 2
    PFAIL = 4
    FAIL = 8
    MYSELF = 16
    HANDSHAKE = 32
    NOADDR = 64
    MEET = 128
    EXTENSIONS = 1024
    ROLES = PRIMARY | REPLICA
    FAILING = PFAIL | FAIL
    NOT_NORMAL = HANDSHAKE | MEET | FAILING
    NOT_GOSSIPED = MYSELF | PFAIL | HANDSHAKE | NOADDR
    NOT_WATCHED = MYSELF | NOADDR | HANDSHAKE

NEWS_REPORT = 1                    # `take`: the sender reports the node, and had not
NEWS_BACK = 2                      # it reports it no longer
NEWS_AGREED = 4                    # perhaps enough of them do
NEWS_ADDRESS = 8                   # the node, which is not reached, is said to be elsewhere
cdef enum:
    REPORT = 1
    BACK = 2
    AGREED = 4
    ADDRESS = 8

TIMES = ("ping_sent", "pong_received", "data_received", "link_ctime", "inbound_freed", "meet_sent", "attempt")
KINDS = dict.fromkeys(TIMES, "i8") | {"flags": "i4", "numslots": "i4", "inbound": "i1", "reports": "i4", "rows": None}


cdef inline u32 be16(const u8* p) noexcept nogil:
    return (<u32>p[0] << 8) | p[1]


cdef inline u32 be32(const u8* p) noexcept nogil:
    return (<u32>p[0] << 24) | (<u32>p[1] << 16) | (<u32>p[2] << 8) | p[3]


cdef inline u64 be64(const u8* p) noexcept nogil:
    return (<u64>be32(p) << 32) | be32(p + 4)


cdef inline void put16(u8* p, u32 value) noexcept nogil:
    p[0] = <u8>(value >> 8)
    p[1] = <u8>value


cdef inline void put32(u8* p, u32 value) noexcept nogil:
    put16(p, value >> 16)
    put16(p + 2, value & 0xFFFF)


cdef inline u64 id_hash(const u8* p) noexcept nogil:
    cdef u64 word, h = 0
    cdef int k
    for k in range(ID_BYTES // 8):
        memcpy(&word, p + k * 8, 8)
        h = (h ^ word) * <u64>0x9E3779B97F4A7C15
        h ^= h >> 29
    return h


cdef void* address_of(object array) except NULL:
    return <void*><uintptr_t>array.ctypes.data


cdef class Table:
    """The arrays. `used` is one more than the last place in use; arrays are replaced where they grow."""

    cdef public object ping_sent, pong_received, data_received, link_ctime, inbound_freed, meet_sent, attempt
    cdef public object flags, numslots, inbound, reports, rows
    cdef readonly int used, places
    cdef i64* ping_at
    cdef i64* pong_at
    cdef i64* data_at
    cdef i64* link_at
    cdef i64* freed_at
    cdef i64* meet_at
    cdef i64* attempt_at
    cdef i32* flags_at
    cdef i32* numslots_at
    cdef signed char* inbound_at
    cdef i32* reports_at
    cdef u8* rows_at
    cdef u32** when                # of each place that is reported: the time of each other's report, s; 0: none
    cdef int lacking               # places without a link, an inbound link, or in handshake or suspected
    cdef public int quorum         # so many primaries' reports make a failure
    cdef public i64 report_ms      # how long a report counts
    cdef readonly i64 changes      # of what the header of a packet says
    cdef u64 my_epoch
    cdef i64 half, interval        # those that `quiet` was found with
    cdef i64 quiet                 # until then no node is to be pinged or late
    cdef i32* index                # places by hash of their id
    cdef u32 index_mask
    cdef bint index_stale
    cdef i32* picked               # as many places as there may be in a packet
    cdef int picked_room

    def __cinit__(self, int places=16):
        self.used = 1
        self.index_stale = True
        self.resize(places)

    def __dealloc__(self):
        cdef int i
        for i in range(self.places):
            free(self.when[i])
        free(self.when)
        free(self.index)
        free(self.picked)

    cdef int resize(self, int places) except -1:
        cdef int i, before = self.places
        cdef u32* times
        cdef u32** fresh
        for name, kind in KINDS.items():
            array = np.zeros(places, kind or gossip_type())
            if before:
                array[:before] = getattr(self, name)
            setattr(self, name, array)
        self.ping_at = <i64*>address_of(self.ping_sent)
        self.pong_at = <i64*>address_of(self.pong_received)
        self.data_at = <i64*>address_of(self.data_received)
        self.link_at = <i64*>address_of(self.link_ctime)
        self.freed_at = <i64*>address_of(self.inbound_freed)
        self.meet_at = <i64*>address_of(self.meet_sent)
        self.attempt_at = <i64*>address_of(self.attempt)
        self.flags_at = <i32*>address_of(self.flags)
        self.numslots_at = <i32*>address_of(self.numslots)
        self.inbound_at = <signed char*>address_of(self.inbound)
        self.reports_at = <i32*>address_of(self.reports)
        self.rows_at = <u8*>address_of(self.rows)
        fresh = <u32**>realloc(self.when, places * sizeof(u32*))
        if fresh == NULL:
            raise MemoryError
        self.when = fresh
        memset(&self.when[before], 0, (places - before) * sizeof(u32*))
        for i in range(before):
            if self.when[i] != NULL:
                times = <u32*>realloc(self.when[i], places * sizeof(u32))
                if times == NULL:
                    raise MemoryError
                memset(&times[before], 0, (places - before) * sizeof(u32))
                self.when[i] = times
        self.places = places
        self.index_stale = True
        return 0

    # ---- places

    def add(self, bytes node_id, i64 now, int flags):
        """A new place for a node with that id, all else zero; its number."""
        if self.used == self.places:
            self.resize(self.places * 2)
        self.used += 1
        self.set_id(self.used - 1, node_id)
        self.flags_at[self.used - 1] = flags
        self.freed_at[self.used - 1] = now
        self.lacking += self.is_lacking(self.used - 1)
        self.quiet = 0
        return self.used - 1

    def drop(self, int place):
        """Takes a place away; the last one moves there, all that is said by or of it too."""
        cdef int i, last = self.used - 1
        for i in range(self.used):
            if self.when[i] != NULL:
                self.erase(i, place)
                if self.when[i] != NULL:
                    self.when[i][place] = self.when[i][last]
                    self.when[i][last] = 0
        free(self.when[place])
        self.when[place] = NULL
        self.swap_rows(place, last)
        for name in KINDS:
            array = getattr(self, name)
            array[last] = np.zeros(1, array.dtype)[0]
        self.used = last
        self.recount()

    def swap(self, int one, int other):
        """Two nodes change places."""
        cdef int i
        cdef u32 kept
        for i in range(self.used):
            if self.when[i] != NULL:
                kept = self.when[i][one]
                self.when[i][one] = self.when[i][other]
                self.when[i][other] = kept
        self.swap_rows(one, other)
        self.recount()

    cdef int swap_rows(self, int one, int other) except -1:
        cdef u32* kept = self.when[one]
        self.when[one] = self.when[other]
        self.when[other] = kept
        if one != other:
            for name in KINDS:
                array = getattr(self, name)
                array[[one, other]] = array[[other, one]]
        self.index_stale = True
        return 0

    def recount(self):
        """After arrays have been written to from outside."""
        cdef int i
        self.lacking = 0
        for i in range(2, self.used):
            self.lacking += self.is_lacking(i)
        self.index_stale = True
        self.quiet = 0

    cdef inline void mind(self, int i) noexcept nogil:
        """One of the node's times has changed."""
        cdef i64 due
        if self.ping_at[i]:
            due = max(self.ping_at[i], self.data_at[i]) + self.half
        else:
            due = self.pong_at[i] + self.interval
        self.quiet = min(self.quiet, due)

    cdef inline bint is_lacking(self, int i) noexcept nogil:
        return i > 1 and (self.link_at[i] == 0 or self.inbound_at[i] == 0
                          or self.flags_at[i] & (HANDSHAKE | PFAIL) != 0)

    cdef inline void set_flags(self, int i, int flags) noexcept nogil:
        self.lacking -= self.is_lacking(i)
        self.changes += i == 1
        if self.flags_at[i] & NOT_WATCHED and not flags & NOT_WATCHED:
            self.quiet = 0
        self.flags_at[i] = flags
        self.lacking += self.is_lacking(i)

    cdef inline void set_link(self, int i, i64 ctime) noexcept nogil:
        self.lacking -= self.is_lacking(i)
        self.link_at[i] = ctime
        self.lacking += self.is_lacking(i)
        self.mind(i)

    cdef inline void set_inbound(self, int i, bint there) noexcept nogil:
        self.lacking -= self.is_lacking(i)
        self.inbound_at[i] = there
        self.lacking += self.is_lacking(i)

    def set_id(self, int place, bytes node_id):
        """The id of a node, 40 bytes."""
        cdef u8* row = self.rows_at + place * ROW_BYTES
        memset(row, 0, ID_BYTES)
        memcpy(row, PyBytes_AS_STRING(node_id), min(PyBytes_GET_SIZE(node_id), ID_BYTES))
        self.index_stale = True

    def set_address(self, int place, bytes ip, int port, int pport, int cport):
        """Where a node is, as others are told it."""
        cdef u8* row = self.rows_at + place * ROW_BYTES
        memset(row + IP_AT, 0, IP_BYTES)
        memcpy(row + IP_AT, PyBytes_AS_STRING(ip), min(PyBytes_GET_SIZE(ip), IP_BYTES))
        put16(row + PORT_AT, port)
        put16(row + CPORT_AT, cport)
        put16(row + PPORT_AT, pport)

    # ---- by id

    cdef int make_index(self) noexcept nogil:
        """The index anew; False: no memory."""
        cdef u32 size = 16, at
        cdef int i
        cdef i32* fresh
        while size < <u32>self.places * 2:
            size *= 2
        if self.index == NULL or size != self.index_mask + 1:
            fresh = <i32*>realloc(self.index, size * sizeof(i32))
            if fresh == NULL:
                return False
            self.index = fresh
            self.index_mask = size - 1
        memset(self.index, 0, size * sizeof(i32))
        for i in range(1, self.used):
            at = <u32>id_hash(self.rows_at + i * ROW_BYTES) & self.index_mask
            while self.index[at]:
                at = (at + 1) & self.index_mask
            self.index[at] = i
        self.index_stale = False
        return True

    cdef inline int place_of(self, const u8* node_id) noexcept nogil:
        cdef u32 at = <u32>id_hash(node_id) & self.index_mask
        cdef int i = self.index[at]
        while i:
            if memcmp(self.rows_at + i * ROW_BYTES, node_id, ID_BYTES) == 0:
                return i
            at = (at + 1) & self.index_mask
            i = self.index[at]
        return 0

    cdef int room_for(self, int count) except -1:
        cdef i32* fresh
        if count > self.picked_room:
            fresh = <i32*>realloc(self.picked, count * sizeof(i32))
            if fresh == NULL:
                raise MemoryError
            self.picked = fresh
            self.picked_room = count
        return 0

    # ---- gossip that goes out

    cdef int pick(self, int start, int wanted, int receiver, int suspects) noexcept nogil:
        """A run of nodes from one on, then suspected ones: how many there are in `picked`."""
        cdef int known = self.used - 1, n = 0, i = start + 1, k, flags
        for k in range(min(wanted + 2, known) if wanted > 0 else 0):
            flags = self.flags_at[i]
            if flags & NOT_GOSSIPED == 0 and i != receiver and (self.link_at[i] or self.numslots_at[i]):
                self.picked[n] = i
                n += 1
                if n == wanted:
                    break
            i = i + 1 if i < known else 1
        if suspects:
            for i in range(1, self.used):
                if self.flags_at[i] & NOT_GOSSIPED == PFAIL:
                    self.picked[n] = i
                    n += 1
                    suspects -= 1
                    if not suspects:
                        break
        return min(n, ROWS_MAX)

    cdef void write_rows(self, u8* out, int n) noexcept nogil:
        cdef int k, i
        for k in range(n):
            i = self.picked[k]
            memcpy(out, self.rows_at + i * ROW_BYTES, ROW_BYTES)
            put32(out + PING_AT, <u32>(self.ping_at[i] // 1000))
            put32(out + PONG_AT, <u32>(self.pong_at[i] // 1000))
            put16(out + FLAGS_AT, self.flags_at[i] & 0xFFFF)
            out += ROW_BYTES

    def ping(self, Link link not None, int kind, i64 now, int percent, double chance, i64 offset, int suspects,
             tuple heads):
        """A packet of the ping family for a link, whose node's time of it is noted: one of the `heads` (without and
        with extensions, each a header and what comes after the gossip) with type and replication offset, and the gossip
        of that part of all nodes from one on that `chance` (0 to 1) picks, and of so many suspected ones."""
        cdef int n, k, receiver = 0, flags = 0, known = self.used - 1, wanted
        cdef Py_ssize_t size, tail_bytes
        cdef u8* out
        cdef Place node
        if link.node is not None:
            node = <Place?>link.node
            receiver = node.index
            flags = self.flags_at[receiver]
            if not link.is_inbound and kind == KIND_PING:
                self.ping_at[receiver] = now
                self.mind(receiver)
            elif not link.is_inbound and kind == KIND_MEET:
                self.meet_at[receiver] = now
        head, tail = <tuple?>heads[link.extensions or flags & EXTENSIONS != 0]
        self.room_for(2 * self.places)
        wanted = min(max(known * percent // 100, GOSSIP_MIN), known - 2)
        with nogil:
            n = self.pick(min(<int>(chance * known), known - 1), wanted, receiver, suspects)
        tail_bytes = PyBytes_GET_SIZE(tail)
        size = HEADER_BYTES + n * ROW_BYTES + tail_bytes
        packet = PyBytes_FromStringAndSize(NULL, size)
        out = <u8*>PyBytes_AS_STRING(packet)
        memcpy(out, PyBytes_AS_STRING(head), HEADER_BYTES)
        put32(out + 4, <u32>size)
        put16(out + 12, kind)
        put16(out + 14, n)
        for k in range(8):
            out[OFFSET_AT + k] = <u8>(<u64>offset >> (56 - 8 * k))
        with nogil:
            self.write_rows(out + HEADER_BYTES, n)
        memcpy(out + size - tail_bytes, PyBytes_AS_STRING(tail), tail_bytes)
        return packet

    # ---- what comes in

    def hear(self, Link link not None, bytes data, int kind, i64 now, u64 current_epoch):
        """A ping or pong has come. If all that it says of its sender is known from the last one that was no news
        (`Place.said`), notes that it has come and returns the number of its entries of gossip. -1: read it in full."""
        cdef Place node
        cdef const u8* p = <const u8*>PyBytes_AS_STRING(data)
        cdef int count, i, k
        cdef u64 offset = 0
        if link.node is None or link.is_inbound == (kind == KIND_PONG):
            return -1
        node = <Place?>link.node
        i = node.index
        if (node.said is None or node._table is not self or i == 1
                or self.flags_at[i] & NOT_NORMAL or node._config_epoch == self.my_epoch):
            return -1
        count = same_words(data, node.said, node.said_tail)
        if count < 0 or be64(p + CURRENT_EPOCH_AT) > current_epoch:
            return -1
        if PyBytes_AS_STRING(node.said)[MFLAGS_AT] & EXT_DATA:
            link.extensions = True
        self.data_at[i] = now
        node.repl_offset = <i64>be64(p + OFFSET_AT)
        if kind == KIND_PONG:
            self.pong_at[i] = now
            self.ping_at[i] = 0
            self.mind(i)
        return count

    def find(self, bytes data, int count):
        """Looks up the nodes that a packet of the ping family gossips of; the numbers of those entries whose node is
        not known, or None. `count` entries are there."""
        cdef const u8* row = <const u8*>PyBytes_AS_STRING(data) + HEADER_BYTES
        cdef int k, i = 0, missing = 0
        self.room_for(count)
        if self.index_stale and not self.make_index():
            raise MemoryError
        with nogil:
            for k in range(count):
                i += 1           # others know the nodes in much the same order
                if i >= self.used or memcmp(self.rows_at + i * ROW_BYTES, row, ID_BYTES) != 0:
                    i = self.place_of(row)
                self.picked[k] = i
                missing += i == 0
                row += ROW_BYTES
        if missing:
            return [k for k in range(count) if self.picked[k] == 0]
        return None

    def take(self, bytes data, int count, Place sender, i64 now, bint tells):
        """After `find`, with the same packet: takes what it says of nodes that were known. sender: None where it is not
        known, then it is believed only that nodes are well; tells: new reports and withdrawn ones are news too.

        The news as (number of the entry, place, NEWS_… bits), or None."""
        cdef const u8* row = <const u8*>PyBytes_AS_STRING(data) + HEADER_BYTES
        cdef int k, i, bits, place = 0, quorum = self.quorum - self.is_voting(1)
        cdef bint votes = False
        news = None
        if sender is not None:
            place = sender.index
            votes = self.is_voting(place)
        for k in range(count):
            i = self.picked[k]
            if i > 1:
                bits = self.take_row(row, i, place, votes, now, now - self.report_ms, quorum)
                if bits < 0:
                    raise MemoryError
                if not tells:
                    bits &= ~(REPORT | BACK)
                if bits:
                    if news is None:
                        news = []
                    news.append((k, i, bits))
            row += ROW_BYTES
        return news

    cdef inline bint is_voting(self, int i) noexcept nogil:
        return self.flags_at[i] & PRIMARY and self.numslots_at[i] > 0

    cdef int take_row(self, const u8* row, int i, int sender, bint votes, i64 now, i64 oldest,
                      int quorum) noexcept nogil:
        cdef int said = be16(row + FLAGS_AT), bits = 0, local = self.flags_at[i]
        cdef i64 pong
        if sender and (said & FAILING or self.reports_at[i] or local & FAILING):
            if said & FAILING:
                if votes and not local & FAIL:
                    bits = self.note(i, sender, <u32>(now // 1000 + 1))
                    if bits < 0:
                        return bits
                if local & FAILING == PFAIL and self.reports_at[i] >= quorum:
                    bits |= AGREED
            else:
                if self.reports_at[i]:
                    if self.erase(i, sender):
                        bits = BACK
                    self.expire(i, oldest)
                if (local & FAILING and not said & NOADDR
                        and (memcmp(row + IP_AT, self.rows_at + i * ROW_BYTES + IP_AT, FLAGS_AT - IP_AT) != 0
                             or be16(row + PPORT_AT) != be16(self.rows_at + i * ROW_BYTES + PPORT_AT))):
                    bits |= ADDRESS
        if said & FAILING or local & NOT_NORMAL or self.ping_at[i] or self.reports_at[i]:
            return bits
        pong = <i64>be32(row + PONG_AT) * 1000
        if self.pong_at[i] < pong <= now + FUTURE_MS:
            self.pong_at[i] = pong
        return bits

    # ---- failure reports

    cdef int note(self, int i, int sender, u32 second) noexcept nogil:
        """REPORT: a new one, 0: it stood already, -1: no memory."""
        cdef u32* times = self.when[i]
        if times == NULL:
            times = <u32*>malloc(self.places * sizeof(u32))
            if times == NULL:
                return -1
            memset(times, 0, self.places * sizeof(u32))
            self.when[i] = times
        cdef bint fresh = times[sender] == 0
        times[sender] = second
        self.reports_at[i] += fresh
        return REPORT if fresh else 0

    cdef bint erase(self, int i, int sender) noexcept nogil:
        """Takes a report back; was there one?"""
        cdef u32* times = self.when[i]
        if times == NULL or times[sender] == 0:
            return False
        times[sender] = 0
        self.reports_at[i] -= 1
        if not self.reports_at[i]:
            free(times)
            self.when[i] = NULL
        return True

    cdef void expire(self, int i, i64 oldest) noexcept nogil:
        cdef u32* times = self.when[i]
        cdef u32 limit = <u32>(oldest // 1000) if oldest > 0 else 0
        cdef int k, left = 0
        if times == NULL:
            return
        for k in range(self.used):
            if times[k] <= limit:
                times[k] = 0
            left += times[k] != 0
        self.reports_at[i] = left
        if not left:
            free(times)
            self.when[i] = NULL

    def report(self, int place, int sender, i64 now):
        """A node says that another fails; True: it had not said so."""
        cdef int bits = self.note(place, sender, <u32>(now // 1000 + 1))
        if bits < 0:
            raise MemoryError
        return bits != 0

    def withdraw(self, int place, int sender):
        """It says so no longer; True: it had."""
        return self.erase(place, sender)

    def count_reports(self, int place, i64 oldest):
        """How many reports of a node are newer than that; older ones are dropped."""
        self.expire(place, oldest)
        return self.reports_at[place]

    # ---- all nodes at once

    def watch(self, i64 now, i64 half, i64 interval):
        """The places of nodes that are to be pinged, not heard of for longer than `interval`, or whose answer is late,
        silent for longer than `half`; None where there is none. Most often it is known from the last time until when
        there will be none."""
        cdef int i, n
        if now <= self.quiet and half == self.half and interval == self.interval:
            return None
        self.half = half
        self.interval = interval
        self.room_for(self.places)
        with nogil:
            n = self.look(now)
        return [self.picked[i] for i in range(n)] if n else None

    cdef int look(self, i64 now) noexcept nogil:
        cdef i64 first = now + self.interval, due
        cdef int i, n = 0
        for i in range(2, self.used):
            if self.ping_at[i] == 0:
                due = self.pong_at[i] + self.interval
                if due < first and self.link_at[i] == 0:
                    continue
            else:
                due = max(self.ping_at[i], self.data_at[i]) + self.half
            if due >= first or self.flags_at[i] & NOT_WATCHED:
                continue
            if due < now:
                self.picked[n] = i
                n += 1
            else:
                first = due
        self.quiet = now - 1 if n else first
        return n

    def unconnected(self, i64 now, i64 timeout):
        """(Places of nodes that are to be dialled, met again or given up, number of suspected ones) or None where
        there is no reason to look."""
        cdef int i, flags, n = 0, suspected = 0
        cdef bint wanted
        if not self.lacking:
            return None
        self.room_for(self.places)
        with nogil:
            for i in range(2, self.used):
                flags = self.flags_at[i]
                if flags & (MYSELF | NOADDR):
                    continue
                suspected += flags & PFAIL != 0
                wanted = self.link_at[i] == 0 or flags & HANDSHAKE != 0
                if not wanted and self.inbound_at[i] == 0:
                    wanted = now - self.freed_at[i] > timeout and now - self.meet_at[i] > timeout
                if wanted:
                    self.picked[n] = i
                    n += 1
        return [self.picked[i] for i in range(n)], suspected

    def census(self):
        """(Primaries with slots, those of them that are neither failed nor suspected, slots of nodes not failed)."""
        cdef int i, flags, voting = 0, reachable = 0, slots = 0
        for i in range(1, self.used):
            flags = self.flags_at[i]
            if not self.numslots_at[i]:
                continue
            if not flags & FAIL:
                slots += self.numslots_at[i]
            if flags & PRIMARY:
                voting += 1
                reachable += flags & FAILING == 0
        return voting, reachable, slots


cdef int same_words(bytes data, bytes head, bytes tail) noexcept:
    """Does a packet of the ping family say of its sender what another one did (`head`: its header, `tail`: what comes
    after the gossip), but for the cluster's epoch and state and the replication offset? The number of its entries of
    gossip, or -1."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), tail_bytes = PyBytes_GET_SIZE(tail)
    cdef const u8* p = <const u8*>PyBytes_AS_STRING(data)
    cdef const u8* q = <const u8*>PyBytes_AS_STRING(head)
    cdef int count
    if size < HEADER_BYTES:
        return -1
    count = be16(p + 14)
    if (size != HEADER_BYTES + count * ROW_BYTES + tail_bytes or memcmp(p + 8, q + 8, 4) != 0
            or memcmp(p + EPOCH_AT, q + EPOCH_AT, 8) != 0 or memcmp(p + SENDER_AT, q + SENDER_AT, STATE_AT - SENDER_AT)
            or memcmp(p + STATE_AT + 1, q + STATE_AT + 1, HEADER_BYTES - STATE_AT - 1) != 0
            or memcmp(p + size - tail_bytes, PyBytes_AS_STRING(tail), tail_bytes) != 0):
        return -1
    return count


cdef class Link:
    """One connection to or from a node."""

    cdef public object node
    cdef public bint is_inbound, is_open, is_connected
    cdef public bint extensions                    # the other side has said that it knows ping extensions
    cdef public i64 ctime, out_bytes
    cdef public object pending                     # the beginning of a packet
    cdef public list out                           # packets to be sent, or None
    cdef public str peer_ip, local_ip
    cdef public str peer                           # host:port, for the log
    cdef public object transport                   # the driver's

    def __init__(self, node, i64 now, str peer_ip="", str local_ip="", str peer=""):
        self.node = node
        self.is_inbound = self.is_connected = node is None
        self.ctime = now
        self.pending = b""
        self.is_open = True
        self.peer_ip = peer_ip
        self.local_ip = local_ip
        self.peer = peer


cdef class Place:
    """What a node has in a Table, and what decides whether its next header is news: `said` and `said_tail`, header and
    extensions of the last packet that was none, are forgotten when what it was compared with changes."""

    cdef Table _table
    cdef readonly int index
    cdef public bytes said, said_tail
    cdef Link _link, _inbound
    cdef object _replicaof
    cdef bytes _slots, _shard_id
    cdef u64 _config_epoch
    cdef public bytes id
    cdef public i64 ctime, fail_time, orphaned_time, repl_offset
    cdef public list replicas                      # by id, or None
    cdef public str ip, hostname, nodename, zone, client_ipv4, client_ipv6
    cdef public int tcp_port, tls_port, cport, client_port, client_tls_port

    def __init__(self, Table table not None, bytes node_id, bytes shard_id, int flags, i64 now):
        self.id = node_id
        self.ctime = now
        self.ip = self.hostname = self.nodename = self.zone = self.client_ipv4 = self.client_ipv6 = ""
        self._table = table
        self._shard_id = shard_id
        self._slots = NO_SLOTS
        self.index = table.add(node_id, now, flags)
        table.changes += 1

    cdef void note_change(self):
        """What is remembered of its header does not hold any more, perhaps nor does what this node says of itself."""
        self.said = None
        self._table.changes += 1
        if self.index == 1:
            self._table.my_epoch = self._config_epoch

    def move_to(self, Table table not None, int place):
        """It is there now."""
        self._table = table
        self.index = place
        self.note_change()

    @property
    def table(self):
        """The arrays."""
        return self._table

    @property
    def flags(self):
        """Bits F_…"""
        return self._table.flags_at[self.index]

    @flags.setter
    def flags(self, int flags):
        if (self._table.flags_at[self.index] ^ flags) & ROLES:
            self.said = None
        self._table.set_flags(self.index, flags)

    @property
    def link(self):
        """The connection that this node has dialled to it, or None."""
        return self._link

    @link.setter
    def link(self, Link link):
        self._link = link
        self._table.set_link(self.index, 0 if link is None else link.ctime)

    @property
    def inbound(self):
        """The connection that it has dialled to this node, or None."""
        return self._inbound

    @inbound.setter
    def inbound(self, Link link):
        self._inbound = link
        self.said = None
        self._table.set_inbound(self.index, link is not None)

    @property
    def slots(self):
        """The map of its slots."""
        return self._slots

    @slots.setter
    def slots(self, bytes slots):
        self._slots = slots
        self.note_change()

    @property
    def shard_id(self):
        """The shard that it is of."""
        return self._shard_id

    @shard_id.setter
    def shard_id(self, bytes shard_id):
        self._shard_id = shard_id
        self.note_change()

    @property
    def replicaof(self):
        """Its primary, where it is a replica."""
        return self._replicaof

    @replicaof.setter
    def replicaof(self, node):
        self._replicaof = node
        self.note_change()

    @property
    def config_epoch(self):
        """Under which epoch it has its slots."""
        return self._config_epoch

    @config_epoch.setter
    def config_epoch(self, u64 epoch):
        self._config_epoch = epoch
        self.note_change()

    @property
    def ping_sent(self):
        """When the ping was sent that has no answer yet."""
        return self._table.ping_at[self.index]

    @ping_sent.setter
    def ping_sent(self, i64 when):
        self._table.ping_at[self.index] = when
        self._table.mind(self.index)

    @property
    def pong_received(self):
        """When it, or somebody of it, was last heard to be well."""
        return self._table.pong_at[self.index]

    @pong_received.setter
    def pong_received(self, i64 when):
        self._table.pong_at[self.index] = when
        self._table.mind(self.index)

    @property
    def data_received(self):
        """When the last packet came from it."""
        return self._table.data_at[self.index]

    @data_received.setter
    def data_received(self, i64 when):
        self._table.data_at[self.index] = when

    @property
    def inbound_freed(self):
        """When its inbound link ended."""
        return self._table.freed_at[self.index]

    @inbound_freed.setter
    def inbound_freed(self, i64 when):
        self._table.freed_at[self.index] = when

    @property
    def meet_sent(self):
        """When it was last asked to meet."""
        return self._table.meet_at[self.index]

    @meet_sent.setter
    def meet_sent(self, i64 when):
        self._table.meet_at[self.index] = when

    @property
    def attempt(self):
        """When it was last dialled."""
        return self._table.attempt_at[self.index]

    @attempt.setter
    def attempt(self, i64 when):
        self._table.attempt_at[self.index] = when

    @property
    def numslots(self):
        """How many slots it has."""
        return self._table.numslots_at[self.index]

    @numslots.setter
    def numslots(self, int count):
        self._table.numslots_at[self.index] = count

    @property
    def reports(self):
        """How many primaries have said that it fails; some of that may be old."""
        return self._table.reports_at[self.index]

    # ---- what is asked most

    @property
    def is_primary(self):
        """Is it a primary?"""
        return self._table.flags_at[self.index] & PRIMARY

    @property
    def is_replica(self):
        """Is it a replica?"""
        return self._table.flags_at[self.index] & REPLICA

    @property
    def is_failed(self):
        """Do the primaries agree that it is gone?"""
        return self._table.flags_at[self.index] & FAIL

    @property
    def in_handshake(self):
        """Is its id still one made up here?"""
        return self._table.flags_at[self.index] & HANDSHAKE

    @property
    def is_voting(self):
        """Has it a vote: is it a primary with slots?"""
        return bool(self._table.flags_at[self.index] & PRIMARY and self._table.numslots_at[self.index])
