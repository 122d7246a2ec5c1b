# slotring: data plane
"""Reading an RDB file of any version that Valkey 9.1 reads.

The file is mapped; nothing of it is believed before it is looked at, and no length before its bytes are there.
`begin`, then `step` until it says END or something is wrong; what the control plane must say or decide comes between
as an event. Values are read by load_ops, like RESTORE's."""
import engine.oldrdb  # its load_ops

from libc.string cimport memcmp, memcpy
from libc.stdlib cimport atoi, free
from engine.conf cimport conf
from engine.defs cimport *
from engine.hashing cimport hash_bytes, key_slot
from engine.keyspace cimport lfu_policy, lru_clock, string_embeds
from engine.listpack cimport lp_len
from engine.numbers cimport parse_i64
from engine.rdbio cimport *
from engine.store cimport *
from persist.rdb cimport *

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void*, size_t, int, int, int, i64)
    int munmap(void*, size_t)
    int madvise(void*, size_t, int)
    void* MAP_FAILED
    int PROT_READ, MAP_PRIVATE, MADV_SEQUENTIAL, MADV_WILLNEED

cdef enum:
    MAGIC_BYTES = 9
    CRC_BYTES = 8
    FOREIGN_FIRST = 12             # RDB versions of other servers
    FOREIGN_LAST = 79
    FOREIGN_TYPE_FIRST = 22        # type bytes and opcodes that other servers and Valkey number differently
    FOREIGN_TYPE_LAST = 243
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

END, AUX, SHORT, UNKNOWN, DB, FOREIGN, EMPTY, DUPLICATE = range(8)
MODULE_AUX, MODULE, FUNCTION_OLD, CORRUPT, MORE = range(8, 13)

cdef struct Load:
    RdbIn in_
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
    u64 loaded
    u64 expired
    u64 all_fields_expired
    const u8* key_at               # where the last key begins
    int type_                      # type byte or opcode of the event
    u64 module

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


cdef void set_clock(Entry* e) noexcept nogil:
    cdef u32 clock = lru_clock(l.now_ms)
    if lfu_policy():
        clock = (<u32>(l.now_ms // 60000) & 0xFFFF) << 8 | <u32>(l.freq if l.freq >= 0 else 5)
    elif l.idle_s >= 0:
        clock -= <u32>(l.idle_s if l.idle_s < IDLE_MAX else IDLE_MAX)
    e.head = (e.head & 0xFF) | (clock & 0xFFFFFF) << 8


cdef bint insert(Key* k, Entry* e) noexcept nogil:
    """Put a key in its table; False: it is there twice."""
    cdef Entry* old
    if table_find(k) != NULL:
        if not l.merge:
            entry_free_now(k.part, e)
            return False
        old = k.entry
        table_remove(k)
        entry_free(k.part, old)
    if l.expire_ms != -1:
        entry_expire_at(e)[0] = l.expire_ms
    set_clock(e)
    table_insert(k, e)
    l.loaded += 1
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
    """Key and value of a type; EV_MORE: go on."""
    cdef char key_tmp[24]
    cdef char tmp[24]
    cdef const char* name = NULL
    cdef const char* s = NULL
    cdef char* copy = NULL
    cdef size_t n
    cdef const u8* at
    cdef Key k
    cdef Entry* e
    cdef bint with_expire = l.expire_ms != -1
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
    if t == RDB_TYPE_STRING:
        n = rdb_in_string(&l.in_, tmp, &s)
        e = NULL if l.in_.bad else new_string(&k, s, n, with_expire)
        if e == NULL:
            r = EV_SHORT
    else:
        e = new_value(&k, t, with_expire)
        if e == NULL:
            r = not_a_value(&k, t, at)
    if e != NULL:
        if with_expire and l.now_ms and l.expire_ms < l.now_ms:
            entry_free_now(k.part, e)
            l.expired += 1
        elif not insert(&k, e):
            r = EV_DUPLICATE
    free(copy)
    reset_key()
    return r


# ---- opcodes

cdef int load_sizes(int n) noexcept nogil:
    """Numbers that are only hints."""
    cdef int i
    for i in range(n):
        rdb_in_length(&l.in_)
    return EV_SHORT if l.in_.bad else EV_MORE


cdef int load_slot_import() noexcept nogil:
    """A slot import that was under way: the job's name and its ranges, which are not gone on with."""
    cdef char tmp[24]
    cdef const char* s
    cdef u64 n
    rdb_in_string(&l.in_, tmp, &s)
    n = rdb_in_length(&l.in_)
    while n and not l.in_.bad:
        rdb_in_length(&l.in_)
        rdb_in_length(&l.in_)
        n -= 1
    return EV_SHORT if l.in_.bad else EV_MORE


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
        return load_sizes(2)
    elif op == OP_SLOT_INFO:
        return load_sizes(3)
    elif op == OP_SLOT_IMPORT:
        return load_slot_import()
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
        return load_key(t)
    if t == OP_EOF:
        return EV_END
    if t == OP_AUX or t == OP_FUNCTION2:
        return EV_AUX
    if t == OP_MODULE_AUX:
        return load_module_aux()
    if t == OP_FUNCTION_PRE_GA:
        return EV_FUNCTION_OLD
    if t == MODULE_TYPE_1 or t == MODULE_TYPE_2:
        return EV_MODULE
    return load_attribute(t)


cdef int load_step() noexcept nogil:
    cdef u64 until = l.loaded + STEP_KEYS
    cdef int r = EV_MORE
    while r == EV_MORE and l.loaded < until:
        r = load_one()
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
    l.db = 0
    l.loaded = l.expired = l.all_fields_expired = 0
    l.module = 0
    reset_key()
    return ""


def head() -> tuple:
    """(first nine bytes, version) of the file."""
    return (<const char*>l.start)[:MAGIC_BYTES if l.size > MAGIC_BYTES else l.size], l.version


def step() -> int:
    """Load on until there is something to say."""
    cdef int r
    with nogil:
        r = load_step()
    return r


def strings() -> tuple:
    """After AUX: (type byte, its strings, the bytes of the file); None: they are not all there."""
    cdef char tmp[24]
    cdef const char* s = NULL
    cdef size_t n
    cdef const u8* at = l.in_.p - 1
    found = []
    for i in range(1 if l.type_ == OP_FUNCTION2 else 2):
        n = rdb_in_string(&l.in_, tmp, &s)
        if l.in_.bad:
            return None
        found.append(s[:n])
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
    return {"loaded": l.loaded, "expired": l.expired, "all_fields_expired": l.all_fields_expired, "db": l.db,
            "offset": l.in_.p - l.start, "size": l.size, "type": l.type_, "module": l.module, "version": l.version}


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
    if l.start != NULL:
        munmap(<void*>l.start, l.size)
    l.start = NULL
