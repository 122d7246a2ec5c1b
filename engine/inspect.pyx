# slotring: data plane
"""What administration asks about the data: sizes, encodings, tables; and DEBUG POPULATE.

Every function copies what it needs while the partition is locked, without the GIL's rules in the
way, and makes Python objects of it afterwards."""
from libc.stdlib cimport malloc, free
from libc.string cimport memcpy
from engine.defs cimport *
from engine.store cimport *
from engine.lock cimport lock, unlock
from engine.arena cimport arena_usable
from engine.hashing cimport hash_bytes, key_slot, SLOTS
from engine.keyspace cimport (lru_clock, lfu_policy, lfu_initial, idle_or_freq, string_value,
                              set_string)
from engine.command cimport Ctx, Session
from engine.conf cimport conf
from engine.racy cimport racy_begin, racy_end
from engine.snapshot cimport preimage_slot
from engine.members cimport Members
from engine.quicklist cimport Node, Quicklist
from engine.rdbio cimport RdbOut, rdb_out_free, rdb_out_string

from engine.shared import find

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int)

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

cdef enum:
    CHAIN_KINDS = 32
    WANT_BYTES = 1
    WANT_RDB = 2

ENCODINGS = {0: "raw", 1: "int", 2: "embstr", 3: "listpack", 4: "hashtable", 5: "intset", 6: "skiplist",
             7: "quicklist", 8: "stream"}
TYPES = {0: "string", 1: "list", 2: "set", 3: "zset", 4: "hash", 6: "stream"}

cdef struct Look:              # a key's entry, copied out
    bint there
    int type_
    int enc
    size_t usable
    size_t klen
    size_t vlen
    i64 expire_ms
    u32 lru
    u32 idle
    uintptr_t address
    u64 value_bytes            # WANT_BYTES: what the value takes outside of the entry
    u64 rdb_bytes              # WANT_RDB: the value in an RDB file
    u64 nodes                  # of a quicklist
    u64 elements
    u64 node_bytes


cdef void place_key(Key* k, const char* p, size_t n, u32 db) noexcept nogil:
    """Hash, slot and partition of a key, without a command's context."""
    k.ptr = p
    k.len = n
    k.hash = hash_bytes(p, n)
    k.slot = key_slot(p, n)
    k.db = db
    k.part = part_of(k.slot)
    k.table = NULL
    k.entry = NULL


cdef u64 rdb_bytes(Entry* e) noexcept nogil:
    """Bytes of a value in an RDB file."""
    cdef RdbOut o
    cdef char tmp[24]
    cdef const char* text = NULL
    cdef u64 n
    o.p = NULL
    o.len = o.cap = 0
    o.compress = conf.rdb_compression
    if entry_type(e) == TYPE_STRING:
        n = string_value(e, tmp, &text)
        rdb_out_string(&o, text, n)
    else:
        type_ops[entry_type(e)].save(&o, e)
    n = o.len
    rdb_out_free(&o)
    return n


cdef void look_at_value(Entry* e, int want, i64 samples, Look* l) noexcept nogil:
    """The figures of a value of another type than string."""
    cdef Node* node
    if want & WANT_BYTES:
        l.value_bytes = type_ops[l.type_].bytes(e, samples)
    l.nodes = l.elements = l.node_bytes = 0
    if l.enc == ENC_QUICKLIST:
        l.nodes = (<Quicklist*>value_ptr(e)[0]).nodes
        l.elements = (<Quicklist*>value_ptr(e)[0]).count
        node = (<Quicklist*>value_ptr(e)[0]).head
        while node != NULL and want & WANT_RDB:
            l.node_bytes += node.size
            node = node.next


cdef void look(const char* p, size_t n, u32 db, int want, i64 samples, i64 now_ms, Look* l) noexcept nogil:
    """Copy what is known about a key, expired or not. want: WANT_…; samples: of WANT_BYTES, 0: look at all."""
    cdef Key k
    cdef Entry* e
    place_key(&k, p, n, db)
    l.value_bytes = l.rdb_bytes = 0
    lock(&k.part.lock)
    e = table_find(&k)
    l.there = e != NULL
    if e != NULL:
        l.type_ = entry_type(e)
        l.enc = entry_enc(e)
        l.usable = arena_usable(e)
        l.klen = entry_klen(e)
        l.vlen = entry_vlen(e)
        l.expire_ms = entry_expire(e)
        l.lru = e.head >> 8
        l.idle = idle_or_freq(e, now_ms, lfu_policy())
        l.address = <uintptr_t>e
        if l.type_ != TYPE_STRING:
            look_at_value(e, want, samples, l)
        if want & WANT_RDB:
            l.rdb_bytes = rdb_bytes(e)
    unlock(&k.part.lock)


def memory_usage(int db, bytes key, i64 samples):
    """Bytes that a key takes: its block, its cell in the table and its value, estimated from so many of the elements
    (0: all); None if it is not there."""
    cdef Look l
    cdef const char* p = key
    cdef size_t n = len(key)
    with nogil:
        look(p, n, db, WANT_BYTES, samples, 0, &l)
    return l.usable + 8 + l.value_bytes if l.there else None


def describe(int db, bytes key, i64 now_ms, bint fast=True):
    """What DEBUG OBJECT shows of a key, as a dict; None if it is not there. fast: without rdb_bytes and node_bytes."""
    cdef Look l
    cdef const char* p = key
    cdef size_t n = len(key)
    cdef bint lfu
    cdef int want = 0 if fast else WANT_RDB
    with nogil:
        look(p, n, db, want, 0, now_ms, &l)
        lfu = lfu_policy()
    if not l.there:
        return None
    found = {"type": find(TYPES, l.type_, "unknown"), "encoding": find(ENCODINGS, l.enc, "unknown"),
             "address": l.address, "usable": l.usable, "key_len": l.klen, "value_len": l.vlen,
             "expire_ms": l.expire_ms, "lru": l.lru, "idle": l.idle, "lfu": bool(lfu), "rdb_bytes": l.rdb_bytes}
    if l.enc == ENC_QUICKLIST:
        found.update(nodes=l.nodes, elements=l.elements, node_bytes=l.node_bytes)
    return found


def members_figures(int db, bytes key):
    """(members, buckets, chained buckets, [buckets by their chain's length]) of the hash table in a key's value; None:
    there is none; KeyError: no such key."""
    cdef Key k
    cdef Entry* e
    cdef Members* t = NULL
    cdef Members copy
    cdef u64 chains[CHAIN_KINDS]
    cdef const char* p = key
    cdef size_t n = len(key)
    cdef u32 i
    for i in range(CHAIN_KINDS):
        chains[i] = 0
    with nogil:
        place_key(&k, p, n, db)
        lock(&k.part.lock)
        e = table_find(&k)
        if e != NULL:
            t = members_of(e)
            if t != NULL:
                copy = t[0]
                member_chains(t, chains)
        unlock(&k.part.lock)
    if e == NULL:
        raise KeyError(key)
    if t == NULL:
        return None
    return copy.count, copy.nbuckets, copy.chained, [chains[i] for i in range(CHAIN_KINDS)]


cdef Members* members_of(Entry* e) noexcept nogil:
    """The table of members in a value: all types that have one begin with it."""
    if entry_enc(e) == ENC_HASHTABLE or entry_enc(e) == ENC_SKIPLIST:
        return <Members*>value_ptr(e)[0]
    return NULL


cdef void member_chains(Members* t, u64* chains) noexcept nogil:
    cdef u32 i, n
    cdef Bucket* b
    for i in range(t.nbuckets):
        b = <Bucket*>t.mem + i if t.nbuckets <= SEGMENT_BUCKETS else (
            (<Bucket**>t.mem)[i // SEGMENT_BUCKETS] + (i & (SEGMENT_BUCKETS - 1)))
        n = 0
        while b.bits & BUCKET_CHAINED:
            b = <Bucket*>b.cells[6]
            n += 1
        chains[n if n < CHAIN_KINDS else CHAIN_KINDS - 1] += 1


def databases() -> int:
    """How many databases the store has."""
    return store.ndbs


# ---- figures over a database

cdef struct Figures:
    u64 keys
    u64 expires
    u64 tables
    u64 buckets
    u64 chained
    u64 table_bytes
    u64 ttl_sum
    u64 ttl_seen
    u64 chains[CHAIN_KINDS]    # buckets by the length of their chain


cdef void table_bytes_add(Figures* f, Table* t) noexcept nogil:
    cdef u32 i
    f.table_bytes += sizeof(Table) + arena_usable(t.mem) + t.chained * sizeof(Bucket)
    if t.nbuckets > SEGMENT_BUCKETS:
        for i in range((t.nbuckets + SEGMENT_BUCKETS - 1) // SEGMENT_BUCKETS):
            f.table_bytes += arena_usable((<void**>t.mem)[i])


cdef void chains_add(Figures* f, Table* t) noexcept nogil:
    cdef u32 i, n
    cdef Bucket* b
    for i in range(t.nbuckets):
        b = table_bucket_at(t, i)
        n = 0
        while b.bits & BUCKET_CHAINED:
            b = <Bucket*>b.cells[6]
            n += 1
        f.chains[n if n < CHAIN_KINDS else CHAIN_KINDS - 1] += 1


cdef void ttl_add(Figures* f, Table* t, i64 now_ms) noexcept nogil:
    """A sample of a table's expiries: those of its first buckets."""
    cdef u32 i, bits
    cdef Bucket* b
    cdef i64 left
    for i in range(t.nbuckets if t.nbuckets < 8 else 8):
        b = table_bucket_at(t, i)
        bits = b.bits & (0x3F if b.bits & BUCKET_CHAINED else 0x7F)
        while bits:
            if b.cells[ctz32(bits)] & CELL_EXPIRE:
                left = entry_expire(cell_entry(b.cells[ctz32(bits)])) - now_ms
                if left > 0:
                    f.ttl_sum += left
                    f.ttl_seen += 1
            bits &= bits - 1


def figures(int db, bint chains=False, i64 now_ms=0, i64 ttl_samples=0) -> dict:
    """Sizes of a database's tables; its chains' lengths and an average TTL if asked for."""
    cdef Figures f
    cdef u64 n
    cdef u32 i, slot
    cdef Partition* p
    cdef Table* t
    for i in range(CHAIN_KINDS):
        f.chains[i] = 0
    f.keys = f.expires = f.tables = f.buckets = f.chained = f.table_bytes = 0
    f.ttl_sum = f.ttl_seen = 0
    with nogil:
        for i in range(store.nparts):
            p = &store.parts[i]
            racy_begin()               # what comes a moment later comes too late
            n = p.db_keys[db]
            racy_end()
            if n == 0:
                continue
            lock(&p.lock)
            for slot in range(i << store.part_shift, (i + 1) << store.part_shift):
                t = store.dbs[db].slots[slot]
                if t == NULL or slot_hidden(slot):
                    continue
                f.keys += t.count
                f.expires += t.expires
                f.tables += 1
                f.buckets += t.nbuckets
                f.chained += t.chained
                table_bytes_add(&f, t)
                if chains:
                    chains_add(&f, t)
                if t.expires and <i64>f.ttl_seen < ttl_samples:
                    ttl_add(&f, t, now_ms)
            unlock(&p.lock)
    return {"keys": f.keys, "expires": f.expires, "tables": f.tables, "buckets": f.buckets,
            "chained": f.chained, "table_bytes": f.table_bytes,
            "avg_ttl": f.ttl_sum // f.ttl_seen if f.ttl_seen else 0,
            "chains": [f.chains[i] for i in range(CHAIN_KINDS)] if chains else []}


# ---- DEBUG POPULATE

def populate(int db, i64 count, bytes prefix, i64 value_bytes, i64 now_ms) -> int:
    """Make the string keys prefix:0 … that do not exist; returns how many were made.

    value_bytes: length of the values, which start with "value:N" and end in zero bytes; 0: just
    that text."""
    cdef char number[32]
    cdef char text[48]
    cdef i64 i, made = 0
    cdef size_t plen = len(prefix), n, vlen
    cdef const char* head = prefix
    cdef char* name = <char*>malloc(plen + 32)
    cdef char* value = <char*>malloc(value_bytes + 1 if value_bytes else 48)
    cdef Ctx c
    cdef Session s
    cdef Key k
    if name == NULL or value == NULL:
        free(name)
        free(value)
        raise MemoryError
    with nogil:
        s.flags = 0
        c.session = &s
        c.now_ms = now_ms
        c.db = db
        memcpy(name, head, plen)
        for i in range(value_bytes):
            value[i] = 0
        for i in range(count):
            n = plen + snprintf(name + plen, 32, b":%lld", <long long>i)
            vlen = snprintf(text, 48, b"value:%lld", <long long>i)
            if value_bytes:
                memcpy(value, text, vlen if <i64>vlen <= value_bytes else value_bytes)
                vlen = value_bytes
            else:
                memcpy(value, text, vlen)
            place_key(&k, name, n, db)
            lock(&k.part.lock)
            if table_find(&k) == NULL:
                preimage_slot(k.slot)
                set_string(&c, &k, value, vlen, -1, False)
                made += 1
            unlock(&k.part.lock)
    free(name)
    free(value)
    return made


def stand_still(double seconds) -> None:
    """DEBUG SLEEP: hold every partition's lock for so long."""
    cdef i64 until = mono_us() + <i64>(seconds * 1000000)
    with nogil:
        lock_all()
        while mono_us() < until:
            usleep(500000 if until - mono_us() > 500000 else <unsigned int>(until - mono_us()) + 1)
        unlock_all()
