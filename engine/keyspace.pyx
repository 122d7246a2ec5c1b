# slotring: data plane
"""Keys and string values as commands use them; expiry, eviction; see keyspace.pxd."""
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcpy, memset, memmove
from engine.defs cimport *
from engine.store cimport *
from engine.lock cimport lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.arena cimport (DRIFT_MAX, arena_alloc, arena_free, arena_usable, arena_good_size,
                           memory_used_atomic)
from engine.numbers cimport parse_i64
from engine.imports cimport S_IMPORT
from engine.effects cimport LOG_CRON, effect_arg, effect_begin, effect_end, effect_gone, effects_wanted
from engine.command cimport F_WRITE, Session, ctx_random
from engine.outside cimport outside_bytes
from engine.snapshot cimport preimage_slot

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int)

cdef enum:
    GROW_SLACK_MAX = 1 << 20      # as sds: double up to this, then add as much
    EVICT_CLOCK = 16               # keys evicted between two looks at the clock
    VOLATILE_BUCKETS_MAX = 4096    # looked at in a table for one that has a key with an expiry

cdef i64 NEVER = 0x7FFFFFFFFFFFFFFF
cdef u64 evicted_keys = 0
cdef i64 evict_us = 500           # see set_evict_us
cdef u64 expired_keys_active = 0


cdef inline u32 lfu_minutes(i64 now_ms) noexcept nogil:
    return <u32>(now_ms // 60000) & 0xFFFF


cdef u32 lfu_initial(i64 now_ms) noexcept nogil:
    return (lfu_minutes(now_ms) << 8) | 5


cdef u32 lfu_decayed(Entry* e, i64 now_ms) noexcept nogil:
    cdef u32 ldt = e.head >> 16, counter = (e.head >> 8) & 255, periods
    if conf.lfu_decay_time <= 0:
        return counter
    periods = <u32>(((lfu_minutes(now_ms) - ldt) & 0xFFFF) // conf.lfu_decay_time)
    return 0 if periods > counter else counter - periods


cdef u32 idle_or_freq(Entry* e, i64 now_ms, bint freq) noexcept nogil:
    """Idle seconds, or the decayed LFU counter."""
    if freq:
        return lfu_decayed(e, now_ms)
    return (lru_clock(now_ms) - (e.head >> 8)) & 0xFFFFFF


cdef void touch_slow(Ctx* c, Entry* e) noexcept nogil:
    cdef u32 counter
    cdef double chance
    if c.session.flags & S_NO_TOUCH:
        return
    if not lfu_policy():
        e.head = (e.head & 0xFF) | (lru_clock(c.now_ms) << 8)
        return
    counter = lfu_decayed(e, c.now_ms)
    if counter < 255:
        chance = 1.0 / ((counter - 5 if counter > 5 else 0) * conf.lfu_log_factor + 1)
        if (ctx_random(c) >> 11) * (1.0 / 9007199254740992.0) < chance:
            counter += 1
    e.head = (e.head & 0xFF) | (lfu_minutes(c.now_ms) << 16) | (counter << 8)


cdef bint expire_if_needed(Ctx* c, Key* k) noexcept nogil:
    if entry_expire(k.entry) >= c.now_ms or slot_hidden(k.slot):
        return False                       # (what is being imported expires when its source says so)
    if unlikely(conf.import_mode != 0):    # nothing expires by itself; only the source of the import still sees it
        if c.session != NULL and c.session.flags & S_IMPORT:
            return False
        if c.cmd == NULL or not c.cmd.flags & F_WRITE:
            k.entry = NULL
            return True
    if unlikely(conf.paused != 0) and (c.cmd == NULL or not c.cmd.flags & F_WRITE):
        k.entry = NULL                     # nothing is written while writes are paused
        return True
    cdef char name[512]
    cdef char* copy = name
    if k.ptr == entry_key(k.entry):        # the event names the key after its entry has gone
        if k.len > sizeof(name):
            copy = <char*>malloc(k.len)
            if copy == NULL:
                abort()
        memcpy(copy, k.ptr, k.len)
        k.ptr = copy
    c.unasked = True
    key_delete(c, k)
    c.unasked = False
    if effects_wanted():
        effect_gone(c, k)
    c.expired += 1
    notify(c, N_EXPIRED, b"expired", k)
    if copy != name:
        free(copy)
    return True


cdef void key_delete(Ctx* c, Key* k) noexcept nogil:
    """Delete the entry that a look-up found; the event is the caller's."""
    cdef Entry* e = k.entry
    table_remove(k)
    entry_free(k.part, e)
    key_modified(c, k)
    key_ready(c, k)


cdef void key_put(Ctx* c, Key* k, Entry* e) noexcept nogil:
    """Make e the entry of a key that was looked up: insert it, or let it take the old one's place."""
    cdef Entry* old = k.entry
    cdef bint had
    e.head = (e.head & 0xFF) | ((lfu_initial(c.now_ms) if lfu_policy() else lru_clock(c.now_ms)) << 8)
    if old == NULL:
        table_insert(k, e)
        notify(c, N_NEW, b"new", k)
        return
    had = old.flags & E_EXPIRE
    k.cell[0] = cell_of(e)
    k.entry = e
    if unlikely((old.flags ^ e.flags) & E_FIELDS):
        fields_counter(k.part, k.db, k.slot)[0] += <u64>(1 if e.flags & E_FIELDS else -1)
    if e.flags & E_FIELDS:
        k.table.next_expire = 0
    if had or e.flags & E_EXPIRE:
        table_expiry_changed(k, had, e.flags & E_EXPIRE, entry_expire(e))
    if entry_type(old) != entry_type(e):
        key_ready(c, k)                # XREADGROUP wants to know
    entry_free(k.part, old)


cdef Entry* key_put_value(Ctx* c, Key* k, int type_, int enc, void* value) noexcept nogil:
    """Make a value of another type than string the key's (looked up before), without expiry; what was there goes."""
    cdef Entry* e = entry_new(k.part, k.ptr, k.len, sizeof(void*), <u32>type_ | (<u32>enc << 4), False)
    value_ptr(e)[0] = value
    key_put(c, k, e)
    key_modified(c, k)
    key_ready(c, k)
    return e


cdef void set_string(Ctx* c, Key* k, const char* p, size_t n, i64 expire_ms, bint keep_ttl) noexcept nogil:
    """SET: the key (looked up before) gets a string value. expire_ms: -1 none. keep_ttl: the old one stays."""
    cdef Entry* e = k.entry
    cdef i64 number
    cdef int enc = ENC_RAW
    cdef size_t vlen = n
    cdef bint big
    if n <= 20 and parse_i64(p, n, &number):
        enc = ENC_INT
        vlen = 8
    if e != NULL and keep_ttl:
        expire_ms = entry_expire(e)
    if enc != ENC_INT and string_embeds(k.len, n, False):
        enc = ENC_EMBSTR
    key_modified(c, k)
    if e != NULL:
        big = k.len > 255 or vlen > 65535
        if (entry_type(e) == TYPE_STRING and (expire_ms >= 0) == <bint>(e.flags & E_EXPIRE)
                and big == <bint>(e.flags & E_BIG)
                and (vlen == entry_vlen(e) or arena_good_size(
                     8 + k.len + vlen + (8 if big else 0) + ((e.flags & 1) << 3)) == arena_usable(e))):
            # same block: overwrite in place
            if big:
                (<u32*>(<char*>e + 8))[1] = <u32>vlen
            else:
                e.vlen = <u16>vlen
            entry_set_enc(e, enc)
            if enc == ENC_INT:
                memcpy(entry_value(e), &number, 8)
            else:
                memmove(entry_value(e), p, n)
            if expire_ms >= 0:
                entry_expire_at(e)[0] = expire_ms
                table_expiry_changed(k, True, True, expire_ms)
            touch(c, e)
            return
    e = entry_new(k.part, k.ptr, k.len, vlen, TYPE_STRING | (enc << 4), expire_ms >= 0)
    if expire_ms >= 0:
        entry_expire_at(e)[0] = expire_ms
    if enc == ENC_INT:
        memcpy(entry_value(e), &number, 8)
    else:
        memcpy(entry_value(e), p, n)
    key_put(c, k, e)


cdef void set_integer(Ctx* c, Key* k, i64 v) noexcept nogil:
    """As set_string for a number, keeping the TTL; in place when it already is one."""
    cdef Entry* e = k.entry
    cdef char tmp[24]
    if e != NULL and entry_enc(e) == ENC_INT and entry_type(e) == TYPE_STRING:
        key_modified(c, k)
        memcpy(entry_value(e), &v, 8)
        return
    set_string(c, k, tmp, write_i64(tmp, v), -1, True)


cdef char* string_writable(Ctx* c, Key* k, size_t n) noexcept nogil:
    """The value of a string key (looked up; made if absent) as n writable bytes, old ones kept, new ones zero.

    Grows with slack, so that repeated APPEND costs amortised constant time."""
    cdef Entry* e = k.entry
    cdef Entry* fresh
    cdef char tmp[24]
    cdef const char* old = NULL
    cdef size_t have = 0, need, slack
    cdef i64 expire_ms = -1
    cdef bint big = k.len > 255 or n > 65535
    key_modified(c, k)
    if e != NULL:
        have = string_value(e, tmp, &old)
        expire_ms = entry_expire(e)
        need = 8 + k.len + n + (8 if big else 0) + (8 if expire_ms >= 0 else 0)
        if (entry_enc(e) != ENC_INT and big == <bint>(e.flags & E_BIG)
                and need <= arena_usable(e)):
            if n > have:
                memset(entry_value(e) + have, 0, n - have)
            if big:
                (<u32*>(<char*>e + 8))[1] = <u32>n
            else:
                e.vlen = <u16>n
            entry_set_enc(e, ENC_RAW)
            return entry_value(e)
    slack = 0
    if e != NULL and n > have:
        slack = n if n < GROW_SLACK_MAX else GROW_SLACK_MAX
        if not big and n + slack > 65535:
            slack = 65535 - n
    fresh = entry_new(k.part, k.ptr, k.len, n + slack, TYPE_STRING, expire_ms >= 0)
    if fresh.flags & E_BIG:
        (<u32*>(<char*>fresh + 8))[1] = <u32>n
    else:
        fresh.vlen = <u16>n
    if expire_ms >= 0:
        entry_expire_at(fresh)[0] = expire_ms
    memcpy(entry_value(fresh), old, have if have < n else n)
    if n > have:
        memset(entry_value(fresh) + have, 0, n - have)
    key_put(c, k, fresh)
    return entry_value(fresh)


cdef Entry* entry_twin(Partition* p, Entry* e, const char* key, size_t klen, bint with_expire) noexcept nogil:
    """An entry like e under another key, without the value of another type than string."""
    cdef Entry* fresh = entry_new(p, key, klen, entry_vlen(e), e.head & 0xFF, with_expire)
    if with_expire and e.flags & E_EXPIRE:
        entry_expire_at(fresh)[0] = entry_expire(e)
    fresh.flags |= e.flags & E_FIELDS
    if entry_type(e) == TYPE_STRING:
        memcpy(entry_value(fresh), entry_value(e), entry_vlen(e))
    return fresh


cdef Entry* entry_copy(Partition* p, Entry* e, const char* key, size_t klen) noexcept nogil:
    """A copy of an entry under another key, in another partition's arena, expiry included."""
    cdef Entry* fresh = entry_twin(p, e, key, klen, e.flags & E_EXPIRE)
    if entry_type(e) != TYPE_STRING:
        value_ptr(fresh)[0] = type_ops[entry_type(e)].copy(&p.arena, e)
    return fresh


cdef Entry* entry_move(Partition* p, Entry* e, const char* key, size_t klen) noexcept nogil:
    """As entry_copy for an entry of the same partition that is about to be freed: takes its value away."""
    cdef Entry* fresh = entry_twin(p, e, key, klen, e.flags & E_EXPIRE)
    if entry_type(e) != TYPE_STRING:
        value_ptr(fresh)[0] = value_ptr(e)[0]
        value_ptr(e)[0] = NULL
    return fresh


cdef void key_expire_at(Ctx* c, Key* k, i64 when_ms) noexcept nogil:
    """Give the key that was found an expiry, or take it away (when_ms -1)."""
    cdef Entry* e = k.entry
    cdef Entry* fresh
    cdef u32 lru = e.head >> 8
    key_modified(c, k)
    if <bint>(e.flags & E_EXPIRE) == (when_ms >= 0):
        if when_ms >= 0:
            entry_expire_at(e)[0] = when_ms
            table_expiry_changed(k, True, True, when_ms)
        return
    fresh = entry_twin(k.part, e, k.ptr, k.len, when_ms >= 0)
    if when_ms >= 0:
        entry_expire_at(fresh)[0] = when_ms
    if entry_type(e) != TYPE_STRING:
        value_ptr(fresh)[0] = value_ptr(e)[0]
        value_ptr(e)[0] = NULL
    key_put(c, k, fresh)
    fresh.head = (fresh.head & 0xFF) | (lru << 8)


# ---- active expiry

cdef enum:
    DUE_MAX = 64
    FIELDS_LOOKED_AT = 4096        # of one hash under one hold of the lock
    HAND_OVER_US = 50

cdef struct Sweep:
    i64 now_ms
    u32 found
    i64 next_ms
    bint more                      # a hash has more fields to look at now
    Entry* due[DUE_MAX]

cdef struct Cycle:                 # of the active expiry
    i64 now_ms
    i64 stop_us
    u64 gone
    u32 db                         # where it is, and where the next cycle goes on
    u32 slot

cdef Ctx cron_ctx                  # of the control thread: what expires by itself has no client
cdef Session cron_session
cdef Cycle cycle


cdef void sweep_visit(void* arg, Entry* e) noexcept nogil:
    cdef Sweep* s = <Sweep*>arg
    cdef i64 at = NEVER
    if not e.flags & (E_EXPIRE | E_FIELDS):
        return
    if e.flags & E_EXPIRE:
        at = entry_expire(e)
    if e.flags & E_FIELDS and type_ops[entry_type(e)].next_expire(e) < at:
        at = type_ops[entry_type(e)].next_expire(e)
    if at <= s.now_ms and s.found < DUE_MAX:
        s.due[s.found] = e
        s.found += 1
    elif at < s.next_ms:
        s.next_ms = at


cdef u64 sweep_entry(Ctx* c, Key* k, Sweep* s) noexcept nogil:
    """An entry that is due: the key goes (returns 1), or those of its fields that have expired."""
    cdef Entry* e = k.entry
    cdef i64 budget = FIELDS_LOOKED_AT, at
    if e.flags & E_EXPIRE and entry_expire(e) <= s.now_ms:
        key_delete(c, k)
        if effects_wanted():
            effect_gone(c, k)
        notify(c, N_EXPIRED, b"expired", k)
        return 1
    type_ops[entry_type(e)].expire(c, k, &budget)
    if table_find(k) != NULL and k.entry.flags & E_FIELDS:
        e = k.entry
        at = type_ops[entry_type(e)].next_expire(e)
        if at < s.next_ms:
            s.next_ms = at
        if at <= s.now_ms:
            s.more = True
    return 0


cdef u64 sweep_one(Partition* p, u32 db, u32 slot, Entry* e, Sweep* s) noexcept nogil:
    """An entry of the slot that is due; 1 if its key went."""
    cdef Key k
    cdef char small[512]
    cdef char* name = small
    cdef u64 gone = 0
    k.len = entry_klen(e)
    if k.len > sizeof(small):          # the events name the key after its entry has gone
        name = <char*>malloc(k.len)
        if name == NULL:
            return 0
    memcpy(name, entry_key(e), k.len)
    k.ptr = name
    k.hash = hash_bytes(k.ptr, k.len)
    k.slot = slot
    k.db = db
    k.part = p
    if table_find(&k) == e:
        gone = sweep_entry(&cron_ctx, &k, s)
    if name != small:
        free(name)
    return gone


cdef u64 sweep_slot(Partition* p, u32 db, u32 slot, i64 now_ms, u64* position, bint* more) noexcept nogil:
    """Delete what has expired in up to 64 buckets of one slot, from *position on (0 again at the end).

    *more: there is more to do in these buckets; *position stays."""
    cdef Sweep s
    cdef u64 gone = 0, at = position[0]
    cdef u32 rounds, i
    cdef bint whole = at == 0
    cdef Table* t
    s.now_ms = now_ms
    s.next_ms = NEVER
    s.more = False
    for rounds in range(64):
        t = store.dbs[db].slots[slot]
        if t == NULL or at >> 32:
            break
        s.found = 0
        at = table_scan(t, at, sweep_visit, &s)
        for i in range(s.found):
            gone += sweep_one(p, db, slot, s.due[i], &s)
    t = store.dbs[db].slots[slot]
    more[0] = s.more and t != NULL
    if more[0]:
        return gone
    if t == NULL or at >> 32:
        if t != NULL and whole:
            t.next_expire = s.next_ms
        at = 0
    position[0] = at
    return gone


cdef bint expire_slots(Partition* p, u32 last) noexcept nogil:
    """Sweep a partition's slots from cycle.slot to before `last`; False: out of time."""
    cdef u64 position
    cdef Table* t
    cdef bint more, awaited
    lock(&p.lock)
    while cycle.slot < last:
        t = store.dbs[cycle.db].slots[cycle.slot]
        if t == NULL or t.next_expire > cycle.now_ms or slot_hidden(cycle.slot):
            cycle.slot += 1
            continue
        position = t.expire_cursor
        cycle.gone += sweep_slot(p, cycle.db, cycle.slot, cycle.now_ms, &position, &more)
        t = store.dbs[cycle.db].slots[cycle.slot]
        if t != NULL:
            t.expire_cursor = <u32>position
        if position == 0 and not more:
            cycle.slot += 1
        awaited = atomic_load32(&p.lock, RELAXED) == 2
        unlock(&p.lock)                # let commands in between
        if mono_us() > cycle.stop_us:
            return False
        if awaited:
            usleep(HAND_OVER_US)       # else we have it again before the one that sleeps is awake
        lock(&p.lock)
    unlock(&p.lock)
    return True


cdef void expire_all() noexcept nogil:
    """One round through the databases, from where the last one stopped, while there is time."""
    cdef u64 rounds
    cdef Partition* p
    cdef u32 last
    cdef bint none
    for rounds in range(<u64>store.ndbs * store.nparts + 1):
        if cycle.slot >= SLOTS:
            cycle.slot = 0
            cycle.db += 1
        if cycle.db >= store.ndbs:
            cycle.db = 0
        cron_ctx.db = cycle.db
        p = part_of(cycle.slot)
        last = (p.index + 1) << store.part_shift
        racy_begin()                   # what comes a moment later is found in the next round
        none = p.db_expires[cycle.db] == 0 and p.db_fields[cycle.db] == 0
        racy_end()
        if none:
            cycle.slot = last
        elif not expire_slots(p, last):
            cycle.slot += 1            # another's turn
            return


def expire_cycle(i64 now_ms, i64 budget_us) -> int:
    """Delete expired keys, at most for budget_us microseconds; returns how many. One thread at a time."""
    if conf.import_mode:               # what is imported expires when its source says so
        return 0
    with nogil:
        cron_ctx.now_ms = now_ms
        cron_ctx.session = &cron_session
        cycle.now_ms = now_ms
        cycle.stop_us = mono_us() + budget_us
        cycle.gone = 0
        expire_all()
        atomic_add64(&expired_keys_active, cycle.gone, RELAXED)
    return cycle.gone


# ---- eviction

cdef i64 used_now() noexcept nogil:
    """What maxmemory is compared with. Where the sum's lag would be more than a 1024th of it, the arenas are asked."""
    cdef i64 used = atomic_loadi64(&memory_used_atomic, RELAXED) + outside_bytes()
    cdef i64 lag = <i64>store.nparts * DRIFT_MAX
    cdef u32 i
    if used + lag <= conf.maxmemory or lag <= conf.maxmemory >> 10:
        return used
    used = outside_bytes()
    racy_begin()                       # each is a whole word; together they are of about this moment
    for i in range(store.nparts):
        used += store.parts[i].arena.used
    racy_end()
    return used


cdef u64 evict_score(Ctx* c, Entry* e) noexcept nogil:
    """How much an entry deserves to go under the policy; 0: it may not."""
    cdef i64 policy = conf.maxmemory_policy
    if 1 <= policy <= 4 and not e.flags & E_EXPIRE:
        return 0
    if policy == 1 or policy == 5:
        return idle_or_freq(e, c.now_ms, False) + 1
    if policy == 2 or policy == 6:
        return 256 - idle_or_freq(e, c.now_ms, True)
    if policy == 4:
        return <u64>0x7FFFFFFFFFFFFFFF - entry_expire(e)
    return 1 + (ctx_random(c) >> 8)


cdef bint any_to_evict(bint only_volatile) noexcept nogil:
    """Is there a key that the policy may take, in any database?"""
    cdef u32 db
    for db in range(store.ndbs):
        if store_expires(db) if only_volatile else store_count(db):
            return True
    return False


cdef bint volatile_bucket(u32 db, Key* k, u64 random) noexcept nogil:
    """As store_random, but a bucket that has a key with an expiry (k.bucket): where few keys have one, it would take
    long to meet one by chance. Its partition stays locked (k.part); False: none was found."""
    cdef u64 total = store_expires(db), target, n
    cdef u32 i, slot, last, tries, bits
    cdef Table* t
    cdef Bucket* b
    if total == 0:
        return False
    target = random % total
    for i in range(store.nparts):
        racy_begin()
        n = store.parts[i].db_expires[db]      # read once: it may change, and only says where to look
        racy_end()
        if target < n:
            break
        target -= n
    else:
        return False                   # some went meanwhile
    k.part = &store.parts[i]
    lock(&k.part.lock)
    last = (i + 1) << store.part_shift
    random = hash_bytes(<const char*>&random, 8)
    for slot in range(i << store.part_shift, last):
        t = store.dbs[db].slots[slot]
        if t == NULL or slot_hidden(slot):
            continue
        if target >= t.expires:
            target -= t.expires
            continue
        for tries in range(VOLATILE_BUCKETS_MAX):
            b = table_bucket(t, <u32>((random + tries) % t.nbuckets))
            while b != NULL:
                bits = b.bits & (0x3F if b.bits & BUCKET_CHAINED else 0x7F)
                while bits:
                    if b.cells[ctz32(bits)] & CELL_EXPIRE:
                        k.bucket = b
                        return True
                    bits &= bits - 1
                b = <Bucket*>b.cells[6] if b.bits & BUCKET_CHAINED else NULL
        break
    unlock(&k.part.lock)
    return False


cdef void keep_name(Arg* a, char* small, size_t small_size, Entry* e) noexcept nogil:
    """Copy a key's name to `small`, or to the heap if it is long; what a held before goes."""
    if a.ptr != small:
        free(a.ptr)
        a.ptr = small
    a.len = entry_klen(e)
    if a.len > small_size:
        a.ptr = <char*>malloc(a.len)
        if a.ptr == NULL:
            abort()
    memcpy(a.ptr, entry_key(e), a.len)


cdef bint evict_one(Ctx* c) noexcept nogil:
    """Evict the best of the keys of a few random buckets under the policy; False if nothing could go."""
    cdef bint only_volatile = 1 <= conf.maxmemory_policy <= 4
    cdef u64 best = 0, score, cell
    cdef u32 n, tries, db, best_db = 0, bits, seen = 0
    cdef char name[512]
    cdef Arg a                         # the best one's name
    cdef Key k
    cdef Entry* e
    a.ptr = name
    if not any_to_evict(only_volatile):
        return False
    for tries in range(conf.maxmemory_samples * 32):
        db = <u32>(ctx_random(c) % store.ndbs)
        for n in range(store.ndbs):
            if store_expires(db) if only_volatile else store_count(db):
                break
            db = (db + 1) % store.ndbs
        if only_volatile:
            if not volatile_bucket(db, &k, ctx_random(c)):
                continue
        elif store_random(db, &k, ctx_random(c), False) == NULL:
            continue
        bits = k.bucket.bits & (0x3F if k.bucket.bits & BUCKET_CHAINED else 0x7F)
        while bits:
            cell = k.bucket.cells[ctz32(bits)]
            bits &= bits - 1
            if only_volatile and not cell & CELL_EXPIRE:
                continue
            e = cell_entry(cell)
            score = evict_score(c, e)
            if score == 0:
                continue
            seen += 1
            if score > best:
                best = score
                best_db = db
                keep_name(&a, name, sizeof(name), e)
        unlock(&k.part.lock)
        if seen >= 4 * conf.maxmemory_samples:
            break
    if best:
        evict_key(c, &a, best_db)
    if a.ptr != name:
        free(a.ptr)
    return best != 0


cdef void evict_key(Ctx* c, Arg* name, u32 db) noexcept nogil:
    """Evict a key that was chosen, unless it has gone meanwhile."""
    cdef Key k
    key_init(c, &k, name)
    k.db = db
    lock(&k.part.lock)
    if conf.maxmemory and table_find(&k) != NULL:      # (while we waited the limit may have been lifted)
        preimage_slot(k.slot)
        c.unasked = True
        key_delete(c, &k)
        c.unasked = False
        if effects_wanted():
            effect_begin(c, k.db, k.slot, 2, b"UNLINK" if conf.lazyfree_eviction else b"DEL")
            effect_arg(c, k.ptr, k.len)
            effect_end(c)
        notify(c, N_EVICTED, b"evicted", &k)
        atomic_add64(&evicted_keys, 1, RELAXED)
    unlock(&k.part.lock)


cdef inline bint fits(i64 used) noexcept nogil:
    """Is so much allowed now? CONFIG SET may raise the limit, or lift it, while we evict."""
    cdef i64 limit = conf.maxmemory
    return limit == 0 or used <= limit


cdef bint evict_some(Ctx* c, i64 limit_us) noexcept nogil:
    """Evict until what is used fits, for about limit_us at most (negative: no limit); False: nothing may go."""
    cdef u32 rounds = 0
    cdef i64 stop = 0
    while not fits(used_now()):
        if not evict_one(c):
            return False
        rounds += 1
        if limit_us >= 0 and rounds % EVICT_CLOCK == 0:
            if stop == 0:
                stop = mono_us() + limit_us
            elif mono_us() >= stop:
                break
    return True


cdef int evict_if_needed(Ctx* c) noexcept nogil:
    """Before a command that may use memory, no lock held: 0 fine, -1 over maxmemory and nothing to evict."""
    if fits(used_now()) or conf.paused:
        return 0
    if conf.maxmemory_policy == 0 or conf.import_mode:
        return -1
    return 0 if evict_some(c, evict_us) else -1


def set_evict_us(i64 n) -> None:
    """How long a command evicts at most (maxmemory-eviction-tenacity); -1: as long as it takes."""
    global evict_us
    racy_begin()                       # one word: whoever evicts sees the old one or the new one
    evict_us = n
    racy_end()


def evict_cycle(i64 now_ms, i64 budget_us) -> None:
    """Evict when maxmemory has become smaller than what is used, whoever writes. On the control thread."""
    if not conf.maxmemory or not conf.maxmemory_policy or conf.import_mode or conf.paused:
        return
    cron_ctx.now_ms = now_ms
    cron_ctx.session = &cron_session
    if cron_ctx.random == 0:
        cron_ctx.random = rdtsc() | 1
    with nogil:
        evict_some(&cron_ctx, budget_us)


def reset_stats() -> None:
    """CONFIG RESETSTAT."""
    atomic_store64(&evicted_keys, 0, RELAXED)
    atomic_store64(&expired_keys_active, 0, RELAXED)


def stats() -> dict:
    """Counters of eviction and active expiry."""
    return {"evicted_keys": atomic_load64(&evicted_keys, RELAXED),
            "expired_active": atomic_load64(&expired_keys_active, RELAXED)}


cron_ctx.log_id = LOG_CRON
