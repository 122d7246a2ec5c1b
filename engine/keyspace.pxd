# What a command does with keys: look them up (expiry and LRU included), store, replace, delete, and the string
# values themselves. All of it runs under the lock of the key's partition, which the caller holds.
from engine.defs cimport *
from engine.store cimport *
from engine.command cimport Ctx, Arg, S_NO_TOUCH
from engine.conf cimport conf
from engine.events cimport *
from engine.hashing cimport hash_bytes, key_slot
from engine.reply cimport write_i64, reply_error, OutBuf, reply_error_len

cdef u32 lfu_initial(i64 now_ms) noexcept nogil
cdef void touch_slow(Ctx* c, Entry* e) noexcept nogil
cdef bint expire_if_needed(Ctx* c, Key* k) noexcept nogil
cdef void key_delete(Ctx* c, Key* k) noexcept nogil
cdef void key_put(Ctx* c, Key* k, Entry* e) noexcept nogil
cdef Entry* key_put_value(Ctx* c, Key* k, int type_, int enc, void* value) noexcept nogil
cdef void set_string(Ctx* c, Key* k, const char* p, size_t n, i64 expire_ms, bint keep_ttl) noexcept nogil
cdef void set_integer(Ctx* c, Key* k, i64 v) noexcept nogil
cdef char* string_writable(Ctx* c, Key* k, size_t n) noexcept nogil
cdef void key_expire_at(Ctx* c, Key* k, i64 when_ms) noexcept nogil
cdef Entry* entry_move(Partition* p, Entry* e, const char* key, size_t klen) noexcept nogil
cdef Entry* entry_copy(Partition* p, Entry* e, const char* key, size_t klen) noexcept nogil
cdef int evict_if_needed(Ctx* c) noexcept nogil
cdef u32 idle_or_freq(Entry* e, i64 now_ms, bint freq) noexcept nogil


cdef inline bint lfu_policy() noexcept nogil:
    return conf.maxmemory_policy == 2 or conf.maxmemory_policy == 6


cdef inline void key_init(Ctx* c, Key* k, Arg* a) noexcept nogil:
    """Hash and slot of a key; no look-up."""
    k.ptr = a.ptr
    k.len = a.len
    k.hash = hash_bytes(a.ptr, a.len)
    k.slot = key_slot(a.ptr, a.len)
    k.db = c.db
    k.part = part_of(k.slot)
    k.table = NULL
    k.entry = NULL


cdef inline u32 lru_clock(i64 now_ms) noexcept nogil:
    return <u32>(now_ms // 1000) & 0xFFFFFF


cdef inline Entry* lookup(Ctx* c, Key* k) noexcept nogil:
    """The live entry of a key, or NULL. An expired one is deleted. No statistics, no LRU."""
    cdef Entry* e = table_find(k)
    if e != NULL and unlikely(e.flags & E_EXPIRE) and expire_if_needed(c, k):
        return NULL
    return e


cdef inline void touch(Ctx* c, Entry* e) noexcept nogil:
    cdef u32 clock = lru_clock(c.now_ms)
    if likely((e.head >> 8) == clock):
        return
    if unlikely(conf.maxmemory_policy != 0 or c.session.flags):
        touch_slow(c, e)
        return
    e.head = (e.head & 0xFF) | (clock << 8)


cdef inline Entry* lookup_read(Ctx* c, Key* k) noexcept nogil:
    """As lookup, with hit and miss counted and the access noted."""
    cdef Entry* e = lookup(c, k)
    if e == NULL:
        c.misses += 1
        notify(c, N_KEY_MISS, b"keymiss", k)
    else:
        c.hits += 1
        touch(c, e)
    return e


cdef inline Entry* lookup_write(Ctx* c, Key* k) noexcept nogil:
    cdef Entry* e = lookup(c, k)
    if e != NULL:
        touch(c, e)
    return e


cdef inline bint string_embeds(size_t klen, size_t vlen, bint with_expire) noexcept nogil:
    """Is a fresh string embstr? In Valkey 9.1: header, key and value in 128 bytes."""
    cdef size_t key_head = 2 if klen < 32 else (4 if klen < 256 else 6)
    return 8 + 1 + key_head + klen + (8 if with_expire else 0) + 4 + vlen <= 128


cdef inline bint wrong_type(Ctx* c, Entry* e, int type_) noexcept nogil:
    """Replies WRONGTYPE and says True if a key exists with another type."""
    if e == NULL or likely(entry_type(e) == type_):
        return False
    reply_error(c.out, b"WRONGTYPE Operation against a key holding the wrong kind of value")
    return True


cdef inline size_t string_value(Entry* e, char* tmp, const char** p) noexcept nogil:
    """A string's bytes: *p and the length; integers are printed into tmp (24 bytes)."""
    cdef i64 v
    if entry_enc(e) == ENC_INT:
        memcpy(&v, entry_value(e), 8)
        p[0] = tmp
        return write_i64(tmp, v)
    p[0] = entry_value(e)
    return entry_vlen(e)
