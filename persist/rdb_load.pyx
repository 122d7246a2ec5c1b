# slotring: data plane
"""Reading an RDB file of any version that Valkey 9.1 reads.

The file is mapped; nothing of it is believed before it is looked at, and no length before its bytes are there.
`begin`, then `step` until it says END or something is wrong; what the control plane must say or decide comes between
as an event. Values are read by load_ops, like RESTORE's.

Strings are gathered in batches, looked ahead and put in place, by the thread that reads or by a second one (`help`):
that has the larger part of the partitions, and a ring of batches that wait for it. While it helps, a lock of this
module for each partition says who works on it. Before an event is told everything is in place (`settle`)."""
import engine.oldrdb  # its load_ops

from libc.string cimport memcmp, memcpy, memset
from libc.stdlib cimport atoi, free
from engine.conf cimport conf
from engine.defs cimport *
from engine.hashing cimport SLOTS, hash_bytes, key_slot
from engine.arena cimport arena_alloc, arena_free
from engine.keyspace cimport lfu_policy, lru_clock, string_embeds
from engine.lock cimport lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.numbers cimport parse_i64
from engine.rdbio cimport *
from engine.store cimport *
from persist.ahead cimport *
from persist.rdb cimport *

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int)
cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void*, size_t, int, int, int, i64)
    int munmap(void*, size_t)
    int madvise(void*, size_t, int)
    void* MAP_FAILED
    int PROT_READ, MAP_PRIVATE, MADV_SEQUENTIAL, MADV_WILLNEED

cdef enum:
    MAGIC_BYTES = 9
    CRC_BYTES = 8
    FORM_LZF = 0xC3                # the first byte of a compressed string
    FOREIGN_FIRST = 12             # RDB versions of other servers
    FOREIGN_LAST = 79
    FOREIGN_TYPE_FIRST = 22        # type bytes and opcodes that other servers and Valkey number differently
    FOREIGN_TYPE_LAST = 243
    IMPORT_NAME = 40               # bytes of a slot import's name
    TYPES_KNOWN = 23
    CRC_SINCE = 5                  # RDB version
    IDLE_MAX = 0xFFFFFF
    MODULE_TYPE_1 = 6
    MODULE_TYPE_2 = 7

    EV_END = 0                     # events of step
    EV_AUX = 1
    EV_SHORT = 2
    EV_UNKNOWN = 3
    EV_DB = 4
    EV_FOREIGN = 5
    EV_EMPTY = 6
    EV_DUPLICATE = 7
    EV_MODULE_AUX = 8
    EV_MODULE = 9
    EV_FUNCTION_OLD = 10
    EV_CORRUPT = 11
    EV_MORE = 12

    STEP_KEYS = 1 << 16            # keys between two looks of the control plane

    RING_BATCHES = 16              # that wait for the helper
    HELPER_SHARE = 5               # of 8 partitions
    LOCKS = 4096                   # as many as there may be partitions
    SPINS_MAX = 200
    NAP_US = 20
    KEY_BYTES_MIN = 4              # of a key in the file: type, lengths, a byte
    KEYS_PER_BUCKET = 6            # where store.pyx would split

    B_FREE = 0                     # state of a batch
    B_WAITING = 1
    B_TAKEN = 2

END, AUX, SHORT, UNKNOWN, DB, FOREIGN, EMPTY, DUPLICATE = range(8)
MODULE_AUX, MODULE, FUNCTION_OLD, CORRUPT, MORE = range(8, 13)
SLOT_IMPORT = OP_SLOT_IMPORT

cdef struct Load:
    RdbIn in_
    RdbIn scratch                  # what puts strings in place reads with
    const u8* start
    size_t size
    int version
    bint foreign_magic             # REDIS: some types mean something else
    bint merge                     # a key that is there already is replaced
    u32 db
    i64 expire_ms                  # of the key that follows, -1: none
    i64 idle_s
    i64 freq
    i64 now_ms                     # keys that have expired by then are left out; 0: none is
    i64 clock_ms                   # what time it is
    u64 keys                       # read so far
    u64 loaded
    u64 expired
    u64 all_fields_expired
    const u8* key_at               # where the last key begins
    int type_                      # type byte or opcode of the event
    u64 module
    u64 wanted_buckets             # of a slot's table, as the file's sizes let expect

cdef struct Pending:               # a string that was read but is not in place
    Key key
    char key_text[24]              # of a key that the file has as a number
    const u8* value                # where its value stands in the file
    const u8* key_at
    i64 expire_ms
    i64 idle_s
    i64 freq

cdef struct Batch:
    u32 state
    u32 n
    Pending items[AHEAD_MAX]

cdef struct Helping:
    u32 on                         # somebody helps
    u32 stop
    u32 failed                     # EV_… of the first string that cannot be put in place; 0: none
    u32 fail_lock
    const u8* failed_at
    Batch* filling                 # of the ring
    u32 next_take
    Batch own
    Batch ring[RING_BATCHES]
    u32 locks[LOCKS]

cdef Helping h
cdef Load l                        # one load at a time


cdef void reset_key() noexcept nogil:
    l.expire_ms = l.idle_s = l.freq = -1


cdef bint type_known(int t) noexcept nogil:
    return t < TYPES_KNOWN and (t == RDB_TYPE_STRING or load_ops[t].load != NULL)


# ---- keys

cdef void place_key(Key* k, const char* p, size_t n) noexcept nogil:
    k.ptr = p
    k.len = n
    k.hash = hash_bytes(p, n)
    k.slot = key_slot(p, n)
    k.db = l.db
    k.part = part_of(k.slot)
    k.table = NULL
    k.entry = NULL


cdef Entry* new_string(Key* k, const char* s, size_t n, bint with_expire) noexcept nogil:
    cdef i64 number
    cdef Entry* e
    cdef bint is_int = n <= 20 and parse_i64(s, n, &number)
    cdef int enc = ENC_RAW
    if is_int:
        enc = ENC_INT
    elif string_embeds(k.len, n, False):
        enc = ENC_EMBSTR
    e = entry_new(k.part, k.ptr, k.len, 8 if is_int else n, TYPE_STRING | (enc << 4), with_expire)
    if is_int:
        memcpy(entry_value(e), &number, 8)
    else:
        memcpy(entry_value(e), s, n)
    return e


cdef Entry* new_value(Key* k, int t, bint with_expire) noexcept nogil:
    """An entry with the value that follows in the file; NULL: it is corrupt, or a collection without an element."""
    cdef int enc = 0
    cdef u32 flags = 0
    cdef void* value = load_ops[t].load(&k.part.arena, &l.in_, t, &enc, &flags, l.now_ms)
    cdef Entry* e
    if value == NULL:
        return NULL
    e = entry_new(k.part, k.ptr, k.len, sizeof(void*), <u32>load_ops[t].type_ | (<u32>enc << 4), with_expire)
    e.flags |= <u8>(flags & E_FIELDS)
    value_ptr(e)[0] = value
    return e


cdef void set_clock(Entry* e, i64 idle_s, i64 freq) noexcept nogil:
    cdef u32 clock = lru_clock(l.clock_ms)
    if lfu_policy():
        clock = (<u32>(l.clock_ms // 60000) & 0xFFFF) << 8 | <u32>(freq if freq >= 0 else 5)
    elif idle_s >= 0:
        clock -= <u32>(idle_s if idle_s < IDLE_MAX else IDLE_MAX)
    e.head = (e.head & 0xFF) | (clock & 0xFFFFFF) << 8


cdef void give_room(Key* k, u32 n) noexcept nogil:
    """A table with its first key gets the n buckets that its slot will need, so that they need not be split."""
    cdef Table* t = k.table
    cdef Bucket* old = <Bucket*>t.mem
    cdef Bucket* b
    cdef u32 i
    if t.nbuckets != 1 or t.count != 1 or old.bits != 1:
        return
    b = <Bucket*>arena_alloc(&k.part.arena, n * sizeof(Bucket))
    for i in range(n):
        b[i].bits = 0
    t.mem = b
    t.nbuckets = n
    b += table_index(t, k.hash)
    b.cells[0] = old.cells[0]
    b.tags[0] = old.tags[0]
    b.bits = 1
    arena_free(&k.part.arena, old)


cdef bint insert(Key* k, Entry* e, i64 expire_ms, i64 idle_s, i64 freq) noexcept nogil:
    """Put a key in its table; False: it is there twice."""
    cdef Entry* old
    cdef bint fresh
    cdef u64 wanted
    if table_find(k) != NULL:
        if not l.merge:
            entry_free_now(k.part, e)
            return False
        old = k.entry
        table_remove(k)
        entry_free(k.part, old)
        table_find(k)
    fresh = k.table == NULL
    if expire_ms != -1:
        entry_expire_at(e)[0] = expire_ms
    set_clock(e, idle_s, freq)
    table_insert(k, e)
    if fresh:
        wanted = atomic_load64(&l.wanted_buckets, RELAXED)     # the reader may be at the next database
        if wanted > 1:
            give_room(k, <u32>wanted)
    return True


cdef bint is_blob(int t) noexcept nogil:
    """Is a value of this type one string, and not a count and its elements?"""
    return 9 <= t <= 17 and t != RDB_TYPE_LIST_QUICKLIST and t != RDB_TYPE_STREAM_LISTPACKS or \
        t == RDB_TYPE_SET_LISTPACK


cdef bint empty_blob(RdbIn* in_, int t) noexcept nogil:
    """Is the string that follows a ziplist, listpack, intset or zipmap without an element?"""
    cdef char tmp[24]
    cdef const char* s = NULL
    cdef size_t n = rdb_in_string(in_, tmp, &s)
    if in_.bad:
        return False
    if t == RDB_TYPE_SET_INTSET:
        return n == 8 and s[4] == 0 and s[5] == 0 and s[6] == 0 and s[7] == 0
    if t == RDB_TYPE_HASH_ZIPMAP:
        return n == 2 and s[0] == 0
    if t == RDB_TYPE_HASH_LISTPACK or t == RDB_TYPE_ZSET_LISTPACK or t == RDB_TYPE_SET_LISTPACK \
            or t == RDB_TYPE_LIST_QUICKLIST_2:
        return n == 7 and <u8>s[6] == 255
    return n == 11 and <u8>s[10] == 255


cdef bint empty_value(RdbIn* in_, int t) noexcept nogil:
    """Is the value that follows a collection without an element? Then it is passed: older servers wrote such."""
    cdef u64 n
    if t in (RDB_TYPE_LIST, RDB_TYPE_SET, RDB_TYPE_ZSET, RDB_TYPE_ZSET_2, RDB_TYPE_HASH, RDB_TYPE_HASH_2):
        n = rdb_in_length(in_)
        return n == 0 and not in_.bad
    if t == RDB_TYPE_LIST_QUICKLIST or t == RDB_TYPE_LIST_QUICKLIST_2:
        n = rdb_in_length(in_)
        while n and not in_.bad:
            if t == RDB_TYPE_LIST_QUICKLIST_2 and rdb_in_length(in_) != 2:
                return False
            if not empty_blob(in_, t):
                return False
            n -= 1
        return not in_.bad
    if t == RDB_TYPE_STREAM_LISTPACKS or t == RDB_TYPE_STREAM_LISTPACKS_2 or t == RDB_TYPE_STREAM_LISTPACKS_3:
        return False
    return empty_blob(in_, t)


cdef bint all_expired(Key* k, int t, const u8* at) noexcept nogil:
    """Is the value at `at` a hash all of whose fields have expired? Then it is passed."""
    cdef i64 now_ms = l.now_ms
    cdef Entry* e
    if t != RDB_TYPE_HASH_2:
        return False
    l.in_.p = at
    l.in_.bad = False
    l.now_ms = 0
    e = new_value(k, t, False)
    l.now_ms = now_ms
    if e == NULL:
        return False
    entry_free_now(k.part, e)
    l.all_fields_expired += 1
    return True


cdef int not_a_value(Key* k, int t, const u8* at) noexcept nogil:
    """The value at `at` could not be read: why? EV_MORE: it may be left out."""
    cdef bint short_ = l.in_.missing
    l.in_.p = at
    l.in_.bad = False
    if not is_blob(t) and rdb_in_length(&l.in_) > rdb_in_left(&l.in_):
        short_ = True              # an element takes a byte at least
    l.in_.p = at
    l.in_.bad = False
    if empty_value(&l.in_, t):
        return EV_EMPTY
    if all_expired(k, t, at):
        return EV_MORE
    l.in_.bad = True
    return EV_SHORT if short_ else EV_CORRUPT


cdef int load_key(int t) noexcept nogil:
    """Key and value of another type than string; EV_MORE: go on."""
    cdef char key_tmp[24]
    cdef const char* name = NULL
    cdef char* copy = NULL
    cdef size_t n
    cdef const u8* at
    cdef Key k
    cdef Entry* e
    cdef bint with_expire = l.expire_ms != -1
    cdef bint helped = atomic_load32(&h.on, ACQUIRE) != 0
    cdef int r = EV_MORE
    n = rdb_in_string(&l.in_, key_tmp, &name)
    if l.in_.bad:
        return EV_SHORT
    if <const u8*>name == l.in_.scratch:       # LZF: the scratch is the value's next
        copy = <char*>l.in_.scratch
        l.in_.scratch = NULL
        l.in_.scratch_cap = 0
    place_key(&k, name, n)
    at = l.in_.p
    if helped:
        lock(&h.locks[k.part.index & (LOCKS - 1)])
    e = new_value(&k, t, with_expire)
    if e == NULL:
        r = not_a_value(&k, t, at)
    elif with_expire and l.now_ms and l.expire_ms < l.now_ms:
        entry_free_now(k.part, e)
        l.expired += 1
    elif insert(&k, e, l.expire_ms, l.idle_s, l.freq):
        atomic_add64(&l.loaded, 1, RELAXED)
    else:
        r = EV_DUPLICATE
    if helped:
        unlock(&h.locks[k.part.index & (LOCKS - 1)])
    free(copy)
    return r


# ---- strings, in batches

cdef void fail(int event, const u8* key_at) noexcept nogil:
    lock(&h.fail_lock)
    if not h.failed:
        h.failed_at = key_at
        atomic_store32(&h.failed, event, RELEASE)
    unlock(&h.fail_lock)


cdef void put_batch(Batch* b, RdbIn* in_) noexcept nogil:
    """Put the strings of a batch in place; in_: a scratch of the thread's own."""
    cdef Key* keys[AHEAD_MAX]
    cdef Pending* p
    cdef char tmp[24]
    cdef const char* s
    cdef size_t n
    cdef u32 i
    cdef u64 loaded = 0
    cdef bint done, helped = atomic_load32(&h.on, ACQUIRE) != 0
    for i in range(b.n):
        keys[i] = &b.items[i].key
    keys_ahead(keys, b.n, not helped)
    for i in range(b.n):
        p = &b.items[i]
        in_.p = p.value
        in_.bad = False
        n = rdb_in_string(in_, tmp, &s)
        if in_.bad:
            fail(EV_SHORT, p.key_at)
            break
        if helped:
            lock(&h.locks[p.key.part.index & (LOCKS - 1)])
        done = insert(&p.key, new_string(&p.key, s, n, p.expire_ms != -1), p.expire_ms, p.idle_s, p.freq)
        if helped:
            unlock(&h.locks[p.key.part.index & (LOCKS - 1)])
        if not done:
            fail(EV_DUPLICATE, p.key_at)
            break
        loaded += 1
    b.n = 0
    atomic_add64(&l.loaded, loaded, RELAXED)


cdef bint take_batch(u32 i) noexcept nogil:
    """Is this batch of the ring now this thread's?"""
    cdef u32 expected = B_WAITING
    return atomic_load32(&h.ring[i].state, RELAXED) == B_WAITING and \
        atomic_cas32(&h.ring[i].state, &expected, B_TAKEN, False, ACQUIRE, RELAXED)


cdef void hand_over() noexcept nogil:
    """A batch for the helper is full: it waits in the ring, and a free one takes its place; if there is none it is
    put in place here."""
    cdef u32 i
    cdef Batch* b
    for i in range(RING_BATCHES):
        b = &h.ring[i]
        if b != h.filling and atomic_load32(&b.state, ACQUIRE) == B_FREE:
            atomic_store32(&h.filling.state, B_WAITING, RELEASE)
            h.filling = b
            return
    put_batch(h.filling, &l.scratch)


cdef int settle() noexcept nogil:
    """Everything that was read is put in place: EV_MORE, or what was wrong with a string."""
    cdef u32 i
    put_batch(&h.own, &l.scratch)
    put_batch(h.filling, &l.scratch)
    for i in range(RING_BATCHES):
        if take_batch(i):
            put_batch(&h.ring[i], &l.scratch)
            atomic_store32(&h.ring[i].state, B_FREE, RELEASE)
    for i in range(RING_BATCHES):
        while atomic_load32(&h.ring[i].state, ACQUIRE) != B_FREE:
            usleep(NAP_US)
    if h.failed:
        l.key_at = h.failed_at
        return h.failed
    return EV_MORE


cdef bint skip_string() noexcept nogil:
    """Pass the string that follows; False: it is not all there."""
    cdef RdbIn* in_ = &l.in_
    cdef u8 head
    cdef u64 n
    if in_.p == in_.end:
        in_.bad = True
        return False
    head = in_.p[0]
    if head < 0xC0:
        n = rdb_in_length(in_)
    elif head == FORM_LZF:
        in_.p += 1
        n = rdb_in_length(in_)
        rdb_in_length(in_)
    elif head < FORM_LZF:
        in_.p += 1
        n = <u64>1 << (head & 3)
    else:
        in_.bad = True
        return False
    rdb_in_bytes(in_, n)
    return not in_.bad


cdef int read_string() noexcept nogil:
    """A key and its string: into a batch; EV_UNKNOWN: load_string must do it."""
    cdef const u8* at = l.in_.p
    cdef const char* name = NULL
    cdef size_t n
    cdef Pending* p
    cdef Batch* b = &h.own
    if at < l.in_.end and at[0] == FORM_LZF:
        return EV_UNKNOWN
    p = &b.items[b.n]
    n = rdb_in_string(&l.in_, p.key_text, &name)
    if l.in_.bad:
        return EV_SHORT
    place_key(&p.key, name, n)
    if atomic_load32(&h.on, RELAXED) and (p.key.part.index & 7) < HELPER_SHARE and not l.merge:
        b = h.filling
        b.items[b.n].key = p.key
        if name == p.key_text:
            memcpy(b.items[b.n].key_text, p.key_text, sizeof(p.key_text))
            b.items[b.n].key.ptr = b.items[b.n].key_text
        p = &b.items[b.n]
    p.value = l.in_.p
    p.key_at = l.key_at
    if not skip_string():
        return EV_SHORT
    if l.expire_ms != -1 and l.now_ms and l.expire_ms < l.now_ms:
        l.expired += 1
        return EV_MORE
    p.expire_ms = l.expire_ms
    p.idle_s = l.idle_s
    p.freq = l.freq
    b.n += 1
    if b.n == AHEAD_MAX:
        if b == &h.own:
            put_batch(b, &l.scratch)
        else:
            hand_over()
        if h.failed:
            return settle()
    return EV_MORE


cdef int load_string() noexcept nogil:
    """A string whose key is compressed: at once."""
    cdef RdbIn key_in = l.in_
    cdef Batch one
    cdef const char* name = NULL
    cdef Pending* p = &one.items[0]
    cdef size_t n
    key_in.scratch = NULL
    key_in.scratch_cap = 0
    n = rdb_in_string(&key_in, p.key_text, &name)
    l.in_.p = key_in.p
    l.in_.bad = key_in.bad
    p.value = l.in_.p
    p.key_at = l.key_at
    p.expire_ms = l.expire_ms
    p.idle_s = l.idle_s
    p.freq = l.freq
    one.n = 1
    if not key_in.bad and skip_string():
        if l.expire_ms != -1 and l.now_ms and l.expire_ms < l.now_ms:
            l.expired += 1
        else:
            place_key(&p.key, name, n)
            put_batch(&one, &l.scratch)
    rdb_in_done(&key_in)
    if l.in_.bad:
        return EV_SHORT
    return settle() if h.failed else EV_MORE


cdef int load_entry(int t) noexcept nogil:
    """A key with its value; EV_MORE: go on."""
    cdef int r = EV_UNKNOWN
    l.keys += 1
    if t == RDB_TYPE_STRING:
        r = read_string()
        if r == EV_UNKNOWN:
            r = load_string()
    else:
        if l.merge:
            settle()
        r = load_key(t)
    reset_key()
    return r


cdef void help_on() noexcept nogil:
    cdef RdbIn in_
    cdef u32 i, idle = 0
    rdb_in_init(&in_, NULL, 0)
    in_.end = l.in_.end
    while not atomic_load32(&h.stop, ACQUIRE):
        for i in range(RING_BATCHES):
            if take_batch(i):
                put_batch(&h.ring[i], &in_)
                atomic_store32(&h.ring[i].state, B_FREE, RELEASE)
                idle = 0
        idle += 1
        cpu_relax()
        if idle > SPINS_MAX:
            usleep(NAP_US)
    rdb_in_done(&in_)


# ---- opcodes

cdef int load_sizes(int n) noexcept nogil:
    """Numbers that are only hints."""
    cdef int i
    for i in range(n):
        rdb_in_length(&l.in_)
    return EV_SHORT if l.in_.bad else EV_MORE


cdef void expect_keys(u64 n) noexcept nogil:
    """The sizes of a database, which may be wrong."""
    if n > rdb_in_left(&l.in_) // KEY_BYTES_MIN:
        n = rdb_in_left(&l.in_) // KEY_BYTES_MIN
    n = n // (SLOTS * KEYS_PER_BUCKET)
    atomic_store64(&l.wanted_buckets, n if n < SEGMENT_BUCKETS else SEGMENT_BUCKETS, RELAXED)


cdef int load_attribute(int op) noexcept nogil:
    """What is said of the next key, or of the database; EV_UNKNOWN: no such opcode."""
    cdef u64 n
    cdef const u8* p
    if op == OP_EXPIRE_MS:
        l.expire_ms = rdb_in_ms(&l.in_)
    elif op == OP_EXPIRE:
        p = rdb_in_bytes(&l.in_, 4)
        if p != NULL:
            l.expire_ms = <i64>(<i32*>p)[0] * 1000
    elif op == OP_FREQ:
        l.freq = rdb_in_byte(&l.in_)
    elif op == OP_IDLE:
        n = rdb_in_length(&l.in_)
        l.idle_s = IDLE_MAX if n > IDLE_MAX else <i64>n
    elif op == OP_SELECTDB:
        n = rdb_in_length(&l.in_)
        if not l.in_.bad and n >= store.ndbs:
            return EV_DB
        l.db = <u32>n
    elif op == OP_RESIZEDB:
        n = rdb_in_length(&l.in_)
        rdb_in_length(&l.in_)
        expect_keys(n)
    elif op == OP_SLOT_INFO:
        return load_sizes(3)
    else:
        return EV_UNKNOWN
    return EV_SHORT if l.in_.bad else EV_MORE


cdef int load_module_aux() noexcept nogil:
    l.module = rdb_in_length(&l.in_)
    rdb_in_length(&l.in_)
    rdb_in_length(&l.in_)
    return EV_SHORT if l.in_.bad else EV_MODULE_AUX


cdef int load_one() noexcept nogil:
    """The next opcode or key; EV_MORE: nothing to be said."""
    cdef int t, r
    l.key_at = l.in_.p
    t = l.type_ = rdb_in_byte(&l.in_)
    if l.in_.bad:
        return EV_SHORT
    if l.foreign_magic and FOREIGN_TYPE_FIRST <= t <= FOREIGN_TYPE_LAST:
        return EV_FOREIGN
    if type_known(t):
        return load_entry(t)
    if t == OP_EOF:
        return EV_END
    if t == OP_AUX or t == OP_FUNCTION2 or t == OP_SLOT_IMPORT:
        return EV_AUX
    if t == OP_MODULE_AUX:
        return load_module_aux()
    if t == OP_FUNCTION_PRE_GA:
        return EV_FUNCTION_OLD
    if t == MODULE_TYPE_1 or t == MODULE_TYPE_2:
        return EV_MODULE
    return load_attribute(t)


cdef int load_step(u64 keys) noexcept nogil:
    cdef u64 until = l.keys + keys
    cdef int r = EV_MORE, wrong
    while r == EV_MORE and l.keys < until:
        r = load_one()
    if r != EV_MORE:
        wrong = settle()
        if wrong != EV_MORE:
            return wrong
    return r


# ---- what the control plane calls

def begin(int fd, size, bint any_version, bint merge, i64 now_ms) -> str:
    """Map a file and look at its head: "" or why it cannot be loaded. now_ms: keys and fields that have expired by
    then are left out."""
    cdef void* mem
    cdef char head[MAGIC_BYTES + 1]
    cdef bint valkey
    l.size = size
    l.start = NULL
    rdb_in_init(&l.in_, NULL, 0)
    if l.size:
        mem = mmap(NULL, l.size, PROT_READ, MAP_PRIVATE, fd, 0)
        if mem == MAP_FAILED:
            return "map"
        madvise(mem, l.size, MADV_SEQUENTIAL)
        l.start = <const u8*>mem
        rdb_in_init(&l.in_, <const char*>mem, l.size)
    if l.size < MAGIC_BYTES:
        return "short"
    memcpy(head, l.start, MAGIC_BYTES)
    head[MAGIC_BYTES] = 0
    valkey = memcmp(head, b"VALKEY", 6) == 0
    if not valkey and memcmp(head, b"REDIS0", 6):
        return "magic"
    l.version = atoi(head + 6)
    l.foreign_magic = not valkey
    if (l.version < 1 or valkey != (l.version > FOREIGN_LAST) or (not any_version and (
            l.version > RDB_VERSION or FOREIGN_FIRST <= l.version <= FOREIGN_LAST))):
        return "version"
    l.in_.p = l.start + MAGIC_BYTES
    l.merge = merge
    l.now_ms = now_ms
    l.clock_ms = wall_us() // 1000
    rdb_in_init(&l.scratch, NULL, 0)
    l.scratch.end = l.in_.end
    memset(&h, 0, sizeof(Helping))
    h.filling = &h.ring[0]
    atomic_store64(&l.wanted_buckets, 0, RELAXED)
    l.db = 0
    l.keys = l.loaded = l.expired = l.all_fields_expired = 0
    l.module = 0
    reset_key()
    return ""


def head() -> tuple:
    """(first nine bytes, version) of the file."""
    return (<const char*>l.start)[:MAGIC_BYTES if l.size > MAGIC_BYTES else l.size], l.version


def step(u64 keys=STEP_KEYS) -> int:
    """Load on until there is something to say, or so many keys are read."""
    cdef int r
    with nogil:
        r = load_step(keys)
    return r


def help_along() -> None:
    """A second thread's part of the work, between `begin` and `helped`."""
    with nogil:
        atomic_store32(&h.on, 1, RELEASE)
        help_on()


def helped() -> None:
    """It is all loaded, or will not be: the helper may go."""
    atomic_store32(&h.stop, 1, RELEASE)


cdef list import_slots():
    """The slots of an import's ranges, first and last of each; None: they cannot be."""
    cdef u64 n = rdb_in_length(&l.in_), i, slot
    found = []
    for i in range(n * 2):
        slot = rdb_in_length(&l.in_)
        if l.in_.bad or slot >= SLOTS or (i & 1 and slot < found[i - 1]):
            return None
        found.append(slot)
    return None if l.in_.bad else found


def strings() -> tuple:
    """After AUX: (type byte, its strings, the bytes of the file); None: they are not all there, or cannot be.
    Of a slot import (SLOT_IMPORT): its name and a list of slots, instead of strings."""
    cdef char tmp[24]
    cdef const char* s = NULL
    cdef size_t n
    cdef const u8* at = l.in_.p - 1
    found = []
    for i in range(2 if l.type_ == OP_AUX else 1):
        n = rdb_in_string(&l.in_, tmp, &s)
        if l.in_.bad:
            return None
        found.append(s[:n])
    if l.type_ == OP_SLOT_IMPORT:
        slots = import_slots()
        if slots is None or n != IMPORT_NAME:
            return None
        found.append(slots)
    return l.type_, found, (<const char*>at)[:l.in_.p - at]


def last_key() -> bytes:
    """The key that the last event is about."""
    cdef RdbIn copy = l.in_
    cdef char tmp[24]
    cdef const char* s = NULL
    cdef size_t n
    copy.p = l.key_at + 1
    copy.bad = False
    copy.scratch = NULL
    copy.scratch_cap = 0
    n = rdb_in_string(&copy, tmp, &s)
    key = s[:n]
    rdb_in_done(&copy)
    return key


def figures() -> dict:
    """How far it is, and what was counted."""
    racy_begin()                       # whole words of about this moment
    found = {"keys": l.keys, "loaded": l.loaded, "expired": l.expired, "all_fields_expired": l.all_fields_expired,
             "db": l.db, "offset": l.in_.p - l.start, "size": l.size, "type": l.type_, "module": l.module,
             "version": l.version}
    racy_end()
    return found


def crc_ahead() -> int:
    """The CRC64 of all but the last 8 bytes, for another thread while the first one loads."""
    cdef u64 crc = 0
    if l.size > CRC_BYTES:
        with nogil:
            crc = crc64(0, l.start, l.size - CRC_BYTES)
    return crc


def checksum(ahead) -> tuple:
    """After END: (CRC64 in the file, that of its contents); (0, 0) for versions without, None: it is not there.
    ahead: what crc_ahead said."""
    cdef u64 stored = 0, crc
    cdef size_t n = l.in_.p - l.start
    cdef const u8* p
    if l.version < CRC_SINCE:
        return 0, 0
    p = rdb_in_bytes(&l.in_, CRC_BYTES)
    if p == NULL:
        return None
    memcpy(&stored, p, CRC_BYTES)
    if n + CRC_BYTES == l.size:
        return stored, ahead
    with nogil:
        crc = crc64(0, l.start, n)
    return stored, crc


def done() -> None:
    """The mapping goes."""
    rdb_in_done(&l.in_)
    rdb_in_done(&l.scratch)
    if l.start != NULL:
        munmap(<void*>l.start, l.size)
    l.start = NULL
