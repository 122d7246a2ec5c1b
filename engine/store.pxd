# The keyspace: databases -> slots -> tables -> buckets -> entries, and the partitions that own them.
#
# Slots are grouped into partitions: partition = slot >> store.part_shift. A partition has one lock and one arena;
# everything below a slot belongs to it and is touched only under its lock.
#
# A slot's table is a linear-hash table of 64-byte buckets: one word of presence bits and seven hash bytes, then
# seven tagged pointers to entries (a chained bucket gives its seventh place to the next bucket's address). It
# grows and shrinks by one bucket at a time, so there is no second table and no pause. Up to SEGMENT_BUCKETS buckets
# are one block; beyond that `dir` points to segments of that many.
#
# SCAN walks buckets in the order of their reversed hash bits: each bucket covers one interval of that order however
# the table has grown since, which is what gives SCAN its guarantee (see table_scan).
#
# An entry is one block: header, [8 bytes of lengths if E_BIG], [8 bytes of expiry if E_EXPIRE], key, value. A string's
# value is its bytes, or an int64 (ENC_INT); other types keep the address of their value there, 8-aligned.
from libc.string cimport memcpy, memcmp
from engine.defs cimport *
from engine.arena cimport Arena, arena_usable
from engine.hashing cimport SLOTS
from engine.rdbio cimport RdbOut, RdbIn

cdef enum:
    TYPE_STRING = 0
    TYPE_LIST = 1
    TYPE_SET = 2
    TYPE_ZSET = 3
    TYPE_HASH = 4
    TYPE_STREAM = 6

    ENC_RAW = 0            # a string that OBJECT ENCODING calls raw
    ENC_INT = 1
    ENC_EMBSTR = 2
    ENC_LISTPACK = 3
    ENC_HASHTABLE = 4
    ENC_INTSET = 5
    ENC_SKIPLIST = 6
    ENC_QUICKLIST = 7
    ENC_STREAM = 8

    E_EXPIRE = 1           # 8 bytes of expiry follow the header
    E_BIG = 2              # key or value too long for the header's own lengths
    E_FIELDS = 4           # a hash that has fields with an expiry

    BUCKET_SLOTS = 7
    BUCKET_CHAINED = 0x80
    SEGMENT_BUCKETS = 64
    CELL_TAG = 7           # low bits of a cell; bit 0: the entry has an expiry
    CELL_EXPIRE = 1
    CELL_FIELDS = 2        # bit 1: the entry is a hash with fields that expire (E_FIELDS)

    EMBSTR_MAX = 44        # longest string value that OBJECT ENCODING calls embstr
    CACHE_LINE = 64

    SLOT_HIDDEN = 1        # slot_flags: what is there is being imported and not counted, walked, picked or expired yet

cdef struct Entry:
    u32 head               # bits 0-3 type, 4-7 encoding, 8-31 LRU clock or LFU counter
    u8 flags
    u8 klen
    u16 vlen

cdef struct Bucket:
    u8 bits                # bit i: cell i taken; bit 7: chained
    u8 tags[7]             # top byte of each key's hash
    u64 cells[7]

cdef struct Table:         # 40 bytes
    void* mem              # Bucket*, or Bucket** (dir) when nbuckets > SEGMENT_BUCKETS
    u32 nbuckets
    u32 count              # keys
    u32 expires            # keys with an expiry
    u32 expire_cursor      # next bucket for the active expiry of a large slot
    i64 next_expire        # no key here expires before this, ms; INT64_MAX: none has an expiry
    u32 slot
    u32 chained            # overflow buckets

cdef struct Partition:     # the lock's line is its own
    u32 lock
    u32 index
    char pad0[56]
    Arena arena
    u64* db_keys           # per database, without hidden slots
    u64* db_expires
    u64* db_fields         # hashes with fields that expire
    u64* hidden_keys       # the same three of hidden slots
    u64* hidden_expires
    u64* hidden_fields
    Table* free_tables     # tables are only ever reused as tables: workers prefetch through them unlocked
    void* watches          # Watch*: keys that sessions watch (events.pxd)
    void* waits            # WaitTable*: clients that wait for keys (blocking.pxd)
    Entry** doomed         # entries whose large values are freed a piece at a time (values_free_some)
    u32 doomed_n
    u32 doomed_cap

cdef struct Db:
    Table* slots[SLOTS]

cdef struct Store:
    Partition* parts
    Db** dbs
    u32 nparts
    u32 part_shift
    u32 ndbs
    u32 hidden             # slots that are hidden
    u8* slot_flags         # by slot, SLOT_…; changed under the slot's lock
    u64 flushes            # databases emptied so far: who reads a slot over time must know

cdef struct Key:           # a key of the command under way, and where it was found
    const char* ptr
    size_t len
    u64 hash
    u32 slot
    u32 db
    Partition* part
    Table* table           # NULL: the slot is empty
    Entry* entry           # NULL: not there
    u64* cell              # the bucket's cell that points to entry
    Bucket* bucket
    u32 place              # of the cell in bucket
    u32 pad

# What a type other than string tells the rest about its values. Its family fills in type_ops[TYPE_…] at import.
# `e` is an entry of that type; its value is value_ptr(e)[0], a block of the partition's arena.
cdef struct Element:               # one element of a value, as `walk` shows it
    const char* s                  # list element, member, field
    size_t n
    const char* v                  # a hash's value
    size_t vn
    double score
    i64 expire_ms                  # of a hash's field, -1: none

ctypedef bint (*element_fn)(void* arg, Element* el) noexcept nogil     # False: stop

cdef struct TypeOps:
    # frees blocks of the value, about *budget of them (counted down); True when nothing is left. The value stays
    # fit to be freed further, not to be read.
    bint (*free)(Arena* a, Entry* e, i64* budget) noexcept nogil
    u64 (*blocks)(Entry* e) noexcept nogil                 # how many blocks `free` would free, about
    u64 (*length)(Entry* e) noexcept nogil                 # elements
    u64 (*bytes)(Entry* e, i64 samples) noexcept nogil     # arena bytes of the value without the entry; 0: look at all
    void* (*copy)(Arena* to, Entry* e) noexcept nogil      # the value again, in another arena
    void (*walk)(Entry* e, element_fn fn, void* arg) noexcept nogil    # streams: not set, see streams
    i64 (*next_expire)(Entry* e) noexcept nogil            # of E_FIELDS: no field expires before this, ms; else NULL
    # deletes fields that have expired, at most about *budget looked at (counted down), with events; may delete the key
    void (*expire)(void* ctx, Key* k, i64* budget) noexcept nogil
    int (*rdb_type)(Entry* e) noexcept nogil               # RDB_TYPE_… that save will write
    void (*save)(RdbOut* o, Entry* e) noexcept nogil       # RDB form of the value, without the type byte

# Reads a value of an RDB type: its address, or NULL (in_.bad set, nothing left behind). enc: the encoding of the
# entry; flags: E_FIELDS where that is due. An empty collection is bad. All that is read is checked to the last byte.
ctypedef void* (*load_fn)(Arena* a, RdbIn* in_, int rdb_type, int* enc, u32* flags, i64 now_ms) noexcept nogil

cdef struct LoadOps:
    load_fn load               # NULL: no such type
    int type_                  # TYPE_…

cdef TypeOps type_ops[16]      # by TYPE_…
cdef LoadOps load_ops[32]      # by RDB_TYPE_…
cdef Store store

cdef void entry_free_now(Partition* p, Entry* e) noexcept nogil
cdef u32 doomed_free_some(Partition* p, i64 budget) noexcept nogil
cdef void entry_set_fields(Key* k, bint any, i64 next_ms) noexcept nogil
cdef Entry* table_find(Key* k) noexcept nogil
cdef void table_insert(Key* k, Entry* e) noexcept nogil
cdef void table_remove(Key* k) noexcept nogil
cdef void table_expiry_changed(Key* k, bint had, bint has, i64 when_ms) noexcept nogil
cdef void table_drop(Partition* p, u32 db, Table* t) noexcept nogil
cdef u64 store_count(u32 db) noexcept nogil            # what clients see: without hidden slots
cdef u64 store_expires(u32 db) noexcept nogil
cdef u64 store_count_all(u32 db) noexcept nogil        # with them
cdef u64 store_expires_all(u32 db) noexcept nogil
cdef void slot_hide(u32 slot, bint hidden) noexcept nogil      # under the slot's lock
cdef void lock_all() noexcept nogil
cdef void unlock_all() noexcept nogil
cdef Entry* entry_new(Partition* p, const char* key, size_t klen, size_t vlen, u32 type_enc,
                      bint with_expire) noexcept nogil
cdef void entry_free(Partition* p, Entry* e) noexcept nogil
cdef Bucket* table_bucket_at(Table* t, u32 index) noexcept nogil
ctypedef void (*scan_fn)(void* arg, Entry* e) noexcept nogil
cdef u64 table_scan(Table* t, u64 position, scan_fn fn, void* arg) noexcept nogil
cdef Entry* store_random(u32 db, Key* k, u64 random, bint held) noexcept nogil


cdef inline Partition* part_of(u32 slot) noexcept nogil:
    return &store.parts[slot >> store.part_shift]


cdef inline bint slot_hidden(u32 slot) noexcept nogil:
    """Is the slot's data out of sight? Exact under the slot's lock, a hint without."""
    return unlikely(atomic_load32(&store.hidden, RELAXED) != 0) and store.slot_flags[slot] & SLOT_HIDDEN


cdef inline u64* fields_counter(Partition* p, u32 db, u32 slot) noexcept nogil:
    """Where hashes of the slot with fields that expire are counted."""
    return &p.hidden_fields[db] if slot_hidden(slot) else &p.db_fields[db]


cdef inline int entry_type(Entry* e) noexcept nogil:
    return e.head & 15


cdef inline int entry_enc(Entry* e) noexcept nogil:
    return (e.head >> 4) & 15


cdef inline void entry_set_enc(Entry* e, int enc) noexcept nogil:
    e.head = (e.head & ~<u32>0xF0) | (<u32>enc << 4)


cdef inline bint entry_has_expire(Entry* e) noexcept nogil:
    return e.flags & E_EXPIRE


cdef inline size_t entry_klen(Entry* e) noexcept nogil:
    if unlikely(e.flags & E_BIG):
        return (<u32*>(<char*>e + 8))[0]
    return e.klen


cdef inline size_t entry_vlen(Entry* e) noexcept nogil:
    if unlikely(e.flags & E_BIG):
        return (<u32*>(<char*>e + 8))[1]
    return e.vlen


cdef inline char* entry_key(Entry* e) noexcept nogil:
    # E_EXPIRE is 1 and E_BIG is 2, each of them adds eight bytes
    return <char*>e + 8 + ((e.flags & 1) << 3) + ((e.flags & 2) << 2)


cdef inline char* entry_value(Entry* e) noexcept nogil:
    """The value's bytes (strings), or the place of its pointer, rounded up to 8 (other types)."""
    cdef char* p = entry_key(e) + entry_klen(e)
    if unlikely(entry_type(e) != TYPE_STRING):
        p = <char*>((<uintptr_t>p + 7) & ~<uintptr_t>7)
    return p


cdef inline void** value_ptr(Entry* e) noexcept nogil:
    """Where an entry that is no string keeps the address of its value."""
    return <void**>(<char*>(((<uintptr_t>(entry_key(e) + entry_klen(e))) + 7) & ~<uintptr_t>7))


cdef inline i64* entry_expire_at(Entry* e) noexcept nogil:
    return <i64*>(<char*>e + 8 + ((e.flags & 2) << 2))


cdef inline i64 entry_expire(Entry* e) noexcept nogil:
    """When the key expires, ms since 1970; -1: never."""
    if likely(not (e.flags & E_EXPIRE)):
        return -1
    return entry_expire_at(e)[0]


cdef inline u64 cell_of(Entry* e) noexcept nogil:
    return <u64>e | (e.flags & E_EXPIRE) | ((e.flags & E_FIELDS) >> 1)


cdef inline Entry* cell_entry(u64 cell) noexcept nogil:
    return <Entry*>(cell & ~<u64>CELL_TAG)


cdef inline u32 table_index(Table* t, u64 hash) noexcept nogil:
    """The bucket of a hash: linear hashing over nbuckets."""
    cdef u32 n = t.nbuckets
    if n <= 1:
        return 0
    cdef u32 mask = (<u32>0xFFFFFFFF) >> (clz64(<u64>(n - 1)) - 32)
    cdef u32 b = <u32>hash & mask
    if b >= n:
        b &= mask >> 1
    return b


cdef inline Bucket* table_bucket(Table* t, u32 index) noexcept nogil:
    if likely(t.nbuckets <= SEGMENT_BUCKETS):
        return <Bucket*>t.mem + index
    return (<Bucket**>t.mem)[index // SEGMENT_BUCKETS] + (index & (SEGMENT_BUCKETS - 1))




cdef inline u8 hash_tag_byte(u64 hash) noexcept nogil:
    return <u8>(hash >> 56)
