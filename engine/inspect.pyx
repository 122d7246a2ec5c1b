# slotring: data plane
"""What administration asks about the data: sizes, encodings, digests, tables; and DEBUG POPULATE.

Every function copies what it needs while the partition is locked, without the GIL's rules in the
way, and makes Python objects of it afterwards."""
from libc.stdlib cimport malloc, realloc, free
from libc.string cimport memcpy
from engine.defs cimport *
from engine.store cimport *
from engine.lock cimport lock, unlock
from engine.arena cimport arena_usable
from engine.hashing cimport hash_bytes, key_slot, SLOTS
from engine.numbers cimport parse_i64
from engine.keyspace cimport (lru_clock, lfu_policy, lfu_initial, idle_or_freq, string_value,
                              set_string)
from engine.command cimport Ctx, Session
from engine.conf cimport conf

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

cdef enum:
    LOOK_BYTES = 64            # a Look's text that needs no block of its own
    CHAIN_KINDS = 32

ENCODINGS = {0: "raw", 1: "int", 2: "embstr"}
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
    char* value
    size_t value_len


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


cdef void look(const char* p, size_t n, u32 db, bint with_value, i64 now_ms,
               Look* l) noexcept nogil:
    """Copy what is known about a key, expired or not; l.value is the caller's to free."""
    cdef Key k
    cdef Entry* e
    cdef char tmp[24]
    cdef const char* text = NULL
    place_key(&k, p, n, db)
    l.value = NULL
    l.value_len = 0
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
        if with_value and l.type_ == TYPE_STRING:
            l.value_len = string_value(e, tmp, &text)
            l.value = <char*>malloc(l.value_len + 1)
            if l.value != NULL:
                memcpy(l.value, text, l.value_len)
    unlock(&k.part.lock)


def memory_usage(int db, bytes key):
    """Bytes that a key takes: its block and its cell in the table; None if it is not there."""
    cdef Look l
    cdef const char* p = key
    cdef size_t n = len(key)
    with nogil:
        look(p, n, db, False, 0, &l)
    return l.usable + 8 if l.there else None


def describe(int db, bytes key, i64 now_ms):
    """What DEBUG OBJECT shows of a key, as a dict; None if it is not there."""
    cdef Look l
    cdef const char* p = key
    cdef size_t n = len(key)
    cdef bint lfu
    with nogil:
        look(p, n, db, False, now_ms, &l)
        lfu = lfu_policy()
    if not l.there:
        return None
    return {"type": TYPES.get(l.type_, "unknown"), "encoding": encoding_name(l.type_, l.enc),
            "address": l.address, "usable": l.usable, "key_len": l.klen, "value_len": l.vlen,
            "expire_ms": l.expire_ms, "lru": l.lru, "idle": l.idle, "lfu": bool(lfu)}


cdef object encoding_name(int type_, int enc):
    return ENCODINGS.get(enc, "unknown") if type_ == TYPE_STRING else TYPES.get(type_, "unknown")


def value_of(int db, bytes key):
    """(type, value, expire_ms) of a key, expired or not; the value of a string only, else None."""
    cdef Look l
    cdef const char* p = key
    cdef size_t n = len(key)
    with nogil:
        look(p, n, db, True, 0, &l)
    if not l.there:
        return None
    value = None
    if l.value != NULL:
        value = l.value[:l.value_len]
        free(l.value)
    return l.type_, value, l.expire_ms


# ---- walking a database, a slot at a time

cdef struct Pile:              # records: u32 klen, u32 vlen, i64 expiry, u32 type, key, value
    char* bytes
    size_t used
    size_t cap
    bint failed


cdef void pile_entry(Pile* pile, Entry* e) noexcept nogil:
    cdef char tmp[24]
    cdef const char* text = NULL
    cdef size_t klen = entry_klen(e), vlen = 0, need, cap
    cdef char* at
    cdef u32 word
    cdef i64 expire_ms = entry_expire(e)
    if entry_type(e) == TYPE_STRING:
        vlen = string_value(e, tmp, &text)
    need = pile.used + 20 + klen + vlen
    if need > pile.cap:
        cap = need * 2
        at = <char*>realloc(pile.bytes, cap)
        if at == NULL:
            pile.failed = True
            return
        pile.bytes = at
        pile.cap = cap
    at = pile.bytes + pile.used
    word = <u32>klen
    memcpy(at, &word, 4)
    word = <u32>vlen
    memcpy(at + 4, &word, 4)
    memcpy(at + 8, &expire_ms, 8)
    word = <u32>entry_type(e)
    memcpy(at + 16, &word, 4)
    memcpy(at + 20, entry_key(e), klen)
    if vlen:
        memcpy(at + 20 + klen, text, vlen)
    pile.used = need


cdef void pile_table(Pile* pile, Table* t) noexcept nogil:
    cdef u32 i, bits
    cdef Bucket* b
    for i in range(t.nbuckets):
        b = table_bucket_at(t, i)
        while b != NULL:
            bits = b.bits & (0x3F if b.bits & BUCKET_CHAINED else 0x7F)
            while bits:
                pile_entry(pile, cell_entry(b.cells[ctz32(bits)]))
                bits &= bits - 1
            b = <Bucket*>b.cells[6] if b.bits & BUCKET_CHAINED else NULL


def slot_entries(int db, int slot) -> list:
    """[(key, type, value, expire_ms)] of one slot; the values of strings only, else empty."""
    cdef Pile pile
    cdef Partition* p = part_of(slot)
    cdef Table* t
    cdef size_t at = 0
    cdef u32 klen, vlen, kind
    cdef i64 expire_ms
    pile.bytes = NULL
    pile.used = pile.cap = 0
    pile.failed = False
    with nogil:
        lock(&p.lock)
        t = store.dbs[db].slots[slot]
        if t != NULL:
            pile_table(&pile, t)
        unlock(&p.lock)
    if pile.failed:
        free(pile.bytes)
        raise MemoryError
    found = []
    while at < pile.used:
        memcpy(&klen, pile.bytes + at, 4)
        memcpy(&vlen, pile.bytes + at + 4, 4)
        memcpy(&expire_ms, pile.bytes + at + 8, 8)
        memcpy(&kind, pile.bytes + at + 16, 4)
        at += 20
        found.append((pile.bytes[at:at + klen], kind, pile.bytes[at + klen:at + klen + vlen],
                      expire_ms))
        at += klen + vlen
    free(pile.bytes)
    return found


def entries(int db):
    """All entries of a database, as slot_entries gives them, each slot as it is when read."""
    cdef u32 slot
    for slot in used_slots(db):
        yield from slot_entries(db, slot)


def used_slots(int db) -> list:
    """The slots that have a table in a database."""
    cdef u32 slot, n = 0
    cdef u16 found[SLOTS]
    with nogil:
        for slot in range(SLOTS):
            if store.dbs[db].slots[slot] != NULL:
                found[n] = <u16>slot
                n += 1
    return [found[slot] for slot in range(n)]


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
    u64 entry_bytes
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
    cdef u32 i, slot
    cdef Partition* p
    cdef Table* t
    for i in range(CHAIN_KINDS):
        f.chains[i] = 0
    f.keys = f.expires = f.tables = f.buckets = f.chained = f.entry_bytes = f.table_bytes = 0
    f.ttl_sum = f.ttl_seen = 0
    with nogil:
        for i in range(store.nparts):
            p = &store.parts[i]
            if p.db_keys[db] == 0:
                continue
            lock(&p.lock)
            for slot in range(i << store.part_shift, (i + 1) << store.part_shift):
                t = store.dbs[db].slots[slot]
                if t == NULL:
                    continue
                f.keys += t.count
                f.expires += t.expires
                f.tables += 1
                f.buckets += t.nbuckets
                f.chained += t.chained
                f.entry_bytes += t.bytes
                table_bytes_add(&f, t)
                if chains:
                    chains_add(&f, t)
                if t.expires and <i64>f.ttl_seen < ttl_samples:
                    ttl_add(&f, t, now_ms)
            unlock(&p.lock)
    return {"keys": f.keys, "expires": f.expires, "tables": f.tables, "buckets": f.buckets,
            "chained": f.chained, "entry_bytes": f.entry_bytes, "table_bytes": f.table_bytes,
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
                set_string(&c, &k, value, vlen, -1, False)
                made += 1
            unlock(&k.part.lock)
    free(name)
    free(value)
    return made
