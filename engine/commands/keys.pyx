# slotring: data plane
"""Commands on keys of any type: deletion, existence, renaming, databases, iteration, OBJECT."""
from libc.stdlib cimport malloc, free
from libc.string cimport memcpy, memcmp, memchr
from engine.defs cimport *
from engine.store cimport *
from engine.command cimport Ctx, Arg, register, arg_is, ctx_random, S_NO_TOUCH
from engine.imports cimport S_IMPORT
from engine.conf cimport conf
from engine.glob cimport glob_match, glob_slot
from engine.effects cimport effect_own, effect_words, effects_wanted
from engine.events cimport *
from engine.keyspace cimport (entry_copy, entry_move, expire_if_needed, idle_or_freq, key_delete, key_init,
                              key_put, lfu_policy, lookup, lookup_read, lookup_write)
from engine.lock cimport lock, unlock
from engine.multikey cimport KEY_BATCH, keys_batch
from engine.numbers cimport parse_i64
from engine.racy cimport racy_begin, racy_end
from engine.reply cimport *
from engine.snapshot cimport preimage_all, hook_emptied

cdef enum:
    SCAN_COUNT = 10            # elements a call of SCAN looks at, unless told
    SCAN_HOLD = 64             # buckets visited under one hold of a partition's lock
    KEYS_HOLD = 1024           # the same for KEYS, which lets go only between two slots
    FLUSH_NOW_KEYS = 10000     # FLUSHALL of no more than these frees them at once
    LAZY_HOLD = 64             # buckets emptied under one hold by lazy_free
    RANDOM_TRIES = 1000
    RANDOM_EXPIRED = 100       # expired keys that RANDOMKEY meets before it takes one, if they do not go
    EMBSTR_BLOCK = 128         # a string whose parts need more is "raw" to OBJECT ENCODING

cdef extern from "<stdlib.h>" nogil:
    unsigned long long strtoull(const char*, char**, int)
cdef extern from "<errno.h>" nogil:
    int errno
    int ERANGE


# ---- helpers

cdef void error_quoting(Ctx* c, const char* before, Arg* a, size_t most,
                        const char* after) noexcept nogil:
    """An error with an argument in it, up to its first NUL and `most` bytes."""
    cdef char small[512]
    cdef char* text = small
    cdef size_t n = strlen(before), tail = strlen(after), part = a.len
    cdef const char* nul = <const char*>memchr(a.ptr, 0, a.len)
    if nul != NULL:
        part = nul - a.ptr
    if part > most:
        part = most
    if n + part + tail > sizeof(small):
        text = <char*>malloc(n + part + tail)
        if text == NULL:
            text = small
            part = sizeof(small) - n - tail
    memcpy(text, before, n)
    memcpy(text + n, a.ptr, part)
    memcpy(text + n + part, after, tail)
    n += part + tail
    while n and (text[n - 1] == c'\r' or text[n - 1] == c'\n'):
        n -= 1
    reply_error_len(c.out, text, n)
    if text != small:
        free(text)


cdef bint int_arg(Ctx* c, Arg* a, i64* v, const char* message) noexcept nogil:
    """A 32-bit integer; False: an error was replied, `message` if it is not NULL."""
    cdef const char* text = b"ERR value is not an integer or out of range"
    if parse_i64(a.ptr, a.len, v):
        if -2147483648 <= v[0] <= 2147483647:
            return True
        text = b"ERR value is out of range, value must between -2147483648 and 2147483647"
    reply_error(c.out, text if message == NULL else message)
    return False


cdef bint db_arg(Ctx* c, Arg* a, u32* db) noexcept nogil:
    """The index of a database; False: an error was replied."""
    cdef i64 v
    if not int_arg(c, a, &v, NULL):
        return False
    if v < 0 or v >= store.ndbs:
        reply_error(c.out, b"ERR DB index is out of range")
        return False
    db[0] = <u32>v
    return True


cdef inline bint same_key(Arg* a, Arg* b) noexcept nogil:
    return a.len == b.len and memcmp(a.ptr, b.ptr, a.len) == 0


cdef const char* type_name(int type_) noexcept nogil:
    if type_ == TYPE_STRING:
        return b"string"
    if type_ == TYPE_LIST:
        return b"list"
    if type_ == TYPE_SET:
        return b"set"
    if type_ == TYPE_ZSET:
        return b"zset"
    if type_ == TYPE_HASH:
        return b"hash"
    return b"stream"


cdef int type_by_name(Arg* a) noexcept nogil:
    """The type that a word names, or -1."""
    cdef const char* name
    cdef int i
    for i in range(TYPE_STREAM + 1):
        name = type_name(i)
        if i != 5 and arg_is(a, name, strlen(name)):
            return i
    return -1


cdef void out_append(OutBuf* o, OutBuf* more) noexcept nogil:
    """Move all output of `more` (same pool) to the end of o."""
    cdef size_t n
    if more.tail == NULL:
        return
    n = more.pos - more.tail.data
    if more.chunks == 1 and <size_t>(o.end - o.pos) >= n:
        memcpy(o.pos, more.tail.data, n)
        o.pos += n
        out_free(more)
        return
    if o.tail == NULL:
        o.head = more.head
    else:
        o.tail.len = <u32>(o.pos - o.tail.data)
        o.bytes += o.tail.len
        o.tail.next = more.head
    o.tail = more.tail
    o.bytes += more.bytes
    o.chunks += more.chunks
    o.pos = more.pos
    o.end = more.end
    more.head = more.tail = NULL
    more.pos = more.end = NULL
    more.bytes = 0
    more.chunks = 0


# ---- one key, many keys

cdef void cmd_del(Ctx* c) noexcept nogil:
    cdef Key keys[KEY_BATCH]
    cdef i64 at = 1, found = 0, n, i
    while at < c.argc:
        n = keys_batch(c, at, c.argc, 1, keys)
        for i in range(n):
            if lookup(c, &keys[i]) != NULL:
                key_delete(c, &keys[i])
                notify(c, N_GENERIC, b"del", &keys[i])
                found += 1
        at += n
    c.dirty += found
    reply_int(c.out, found)


cdef void cmd_exists(Ctx* c) noexcept nogil:
    cdef Key keys[KEY_BATCH]
    cdef i64 at = 1, found = 0, n, i
    while at < c.argc:
        n = keys_batch(c, at, c.argc, 1, keys)
        for i in range(n):
            found += lookup_untouched(c, &keys[i]) != NULL
        at += n
    reply_int(c.out, found)


cdef void cmd_touch(Ctx* c) noexcept nogil:
    cdef Key keys[KEY_BATCH]
    cdef i64 at = 1, found = 0, n, i
    cdef u32 flags = c.session.flags
    c.session.flags &= ~<u32>S_NO_TOUCH    # TOUCH does so even on a connection that asked not to
    while at < c.argc:
        n = keys_batch(c, at, c.argc, 1, keys)
        for i in range(n):
            found += lookup_read(c, &keys[i]) != NULL
        at += n
    c.session.flags = flags
    reply_int(c.out, found)


cdef void cmd_type(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_untouched(c, &c.key)
    if e == NULL:
        reply_status(c.out, b"none")
    else:
        reply_status(c.out, type_name(entry_type(e)))


cdef void move_entry(Ctx* c, Key* src, Key* dst, Entry* e, const char* from_event,
                     const char* to_event) noexcept nogil:
    """Put a copy of src's entry at dst (looked up), then delete src."""
    if dst.entry != NULL:
        notify(c, N_NEW, b"new", dst)      # what is overwritten counts as deleted
    if dst.part == src.part:
        key_put(c, dst, entry_move(dst.part, e, dst.ptr, dst.len))
    else:
        key_put(c, dst, entry_copy(dst.part, e, dst.ptr, dst.len))
    key_modified(c, dst)
    key_ready(c, dst)
    if table_find(src) != NULL:            # the slot may have changed: find it again
        key_delete(c, src)
    notify(c, N_GENERIC, from_event, src)
    notify(c, N_GENERIC, to_event, dst)
    c.dirty += 1


cdef void rename_generic(Ctx* c, bint nx) noexcept nogil:
    cdef Key dst
    cdef Entry* e = lookup_write(c, &c.key)
    if e == NULL:
        reply_error(c.out, b"ERR no such key")
        return
    if not same_key(&c.argv[1], &c.argv[2]):
        key_init(c, &dst, &c.argv[2])
        if lookup_write(c, &dst) == NULL or not nx:
            move_entry(c, &c.key, &dst, e, b"rename_from", b"rename_to")
            if nx:
                reply_int(c.out, 1)
            else:
                reply_ok(c.out)
            return
    if nx:
        reply_int(c.out, 0)
    else:
        reply_ok(c.out)


cdef void cmd_rename(Ctx* c) noexcept nogil:
    rename_generic(c, False)


cdef void cmd_renamenx(Ctx* c) noexcept nogil:
    rename_generic(c, True)


cdef void cmd_copy(Ctx* c) noexcept nogil:
    cdef bint replace = False
    cdef u32 db = c.db
    cdef i64 i = 3
    cdef Key dst
    cdef Entry* e
    while i < c.argc:
        if arg_is(&c.argv[i], b"replace", 7):
            replace = True
        elif arg_is(&c.argv[i], b"db", 2) and i + 1 < c.argc:
            i += 1
            if not db_arg(c, &c.argv[i], &db):
                return
        else:
            reply_error(c.out, b"ERR syntax error")
            return
        i += 1
    if db == c.db and same_key(&c.argv[1], &c.argv[2]):
        reply_error(c.out, b"ERR source and destination objects are the same")
        return
    e = lookup_read(c, &c.key)
    if e != NULL:
        key_init(c, &dst, &c.argv[2])
        dst.db = db
        if lookup_write(c, &dst) == NULL or replace:
            if dst.entry != NULL:
                notify(c, N_NEW, b"new", &dst)
            key_put(c, &dst, entry_copy(dst.part, e, dst.ptr, dst.len))
            key_changed(c, &dst, N_GENERIC, b"copy_to")
            key_ready(c, &dst)
            c.dirty += 1
            reply_int(c.out, 1)
            return
    reply_int(c.out, 0)


cdef void cmd_move(Ctx* c) noexcept nogil:
    cdef u32 db
    cdef Key dst
    cdef Entry* e
    if not db_arg(c, &c.argv[2], &db):
        return
    if db == c.db:
        reply_error(c.out, b"ERR source and destination objects are the same")
        return
    e = lookup_write(c, &c.key)
    if e != NULL:
        key_init(c, &dst, &c.argv[1])
        dst.db = db
        if lookup_write(c, &dst) == NULL:
            move_entry(c, &c.key, &dst, e, b"move_from", b"move_to")
            reply_int(c.out, 1)
            return
    reply_int(c.out, 0)


# ---- whole databases

cdef void cmd_dbsize(Ctx* c) noexcept nogil:
    reply_int(c.out, <i64>store_count(c.db))


cdef void cmd_randomkey(Ctx* c) noexcept nogil:
    cdef Key k
    cdef Entry* e
    cdef u32 tries
    for tries in range(RANDOM_TRIES):
        e = store_random(c.db, &k, ctx_random(c), c.held)
        if e == NULL:
            if store_count(c.db) == 0:
                break
            continue
        if not is_expired(e, c.now_ms) or (tries >= RANDOM_EXPIRED and conf.paused | conf.import_mode) or \
                not expire_if_needed(c, &k):
            reply_bulk(c.out, k.ptr, k.len)
            if not c.held:
                unlock(&k.part.lock)
            return
        if not c.held:
            unlock(&k.part.lock)
    reply_null(c.out, c.resp)


cdef void cmd_swapdb(Ctx* c) noexcept nogil:
    cdef i64 a, b
    cdef u32 i
    cdef Db* db
    cdef Partition* p
    if not int_arg(c, &c.argv[1], &a, b"ERR invalid first DB index"):
        return
    if not int_arg(c, &c.argv[2], &b, b"ERR invalid second DB index"):
        return
    if not (0 <= a < store.ndbs and 0 <= b < store.ndbs):
        reply_error(c.out, b"ERR DB index is out of range")
        return
    if conf.cluster:
        reply_error(c.out, b"ERR SWAPDB is not allowed in cluster mode")
        return
    preimage_all()
    watch_hit_db(<u32>a, b, c.now_ms)
    watch_hit_db(<u32>b, a, c.now_ms)
    db = store.dbs[a]
    store.dbs[a] = store.dbs[b]
    store.dbs[b] = db
    for i in range(store.nparts):
        p = &store.parts[i]
        p.db_keys[a], p.db_keys[b] = p.db_keys[b], p.db_keys[a]
        p.db_expires[a], p.db_expires[b] = p.db_expires[b], p.db_expires[a]
        p.db_fields[a], p.db_fields[b] = p.db_fields[b], p.db_fields[a]
    ready_db(c, <u32>a)
    ready_db(c, <u32>b)
    c.dirty += 1
    reply_ok(c.out)


# Tables that FLUSHALL ASYNC and FLUSHDB ASYNC took out of a database, until the control thread has
# freed them. The list has a lock of its own; the tables' memory belongs to their partitions' arenas
# and is freed under those locks.

cdef struct Job:
    Job* next
    u32 db
    u32 n
    u32 at                     # the next table
    u32 bucket                 # the next bucket of it
    Table* tables[0]

cdef Job* lazy_jobs = NULL     # waiting
cdef Job* lazy_current = NULL  # the control thread's
cdef u32 lazy_lock = 0
cdef u64 lazy_waiting = 0      # keys not yet freed
cdef u64 lazy_freed = 0        # keys freed, ever


cdef u64 flush_db(u32 db, bint later) noexcept nogil:
    """Empty a database while all partitions are held; returns how many keys it had."""
    global lazy_jobs
    cdef u64 had = store_count_all(db)
    cdef u32 slot, n = 0, i
    cdef Table* t
    cdef Table** tables = store.dbs[db].slots
    cdef Job* job = NULL
    atomic_add64(&store.flushes, 1, RELAXED)
    if had == 0:
        return 0
    watch_hit_db(db, -1, 0)
    if later:
        for slot in range(SLOTS):
            n += tables[slot] != NULL
        job = <Job*>malloc(sizeof(Job) + n * sizeof(Table*))
    n = 0
    for slot in range(SLOTS):
        t = tables[slot]
        if t == NULL:
            continue
        tables[slot] = NULL
        if job != NULL:
            job.tables[n] = t
            n += 1
        else:
            table_drop(part_of(slot), db, t)
    for i in range(store.nparts):
        store.parts[i].db_keys[db] = 0
        store.parts[i].db_expires[db] = 0
        store.parts[i].db_fields[db] = 0
        store.parts[i].hidden_keys[db] = 0
        store.parts[i].hidden_expires[db] = 0
        store.parts[i].hidden_fields[db] = 0
    if job != NULL:
        job.db = db
        job.n = n
        job.at = job.bucket = 0
        atomic_add64(&lazy_waiting, had, RELAXED)
        lock(&lazy_lock)
        job.next = lazy_jobs
        lazy_jobs = job
        unlock(&lazy_lock)
    return had


cdef u64 all_keys() noexcept nogil:
    cdef u64 n = 0
    cdef u32 db
    for db in range(store.ndbs):
        n += store_count(db)
    return n


cdef bint flush_option(Ctx* c, bint* later) noexcept nogil:
    if c.argc == 1:                        # to hand over a small one would take longer
        later[0] = conf.lazyfree_user_flush and all_keys() > FLUSH_NOW_KEYS
    elif c.argc == 2 and arg_is(&c.argv[1], b"async", 5):
        later[0] = True
    elif c.argc == 2 and arg_is(&c.argv[1], b"sync", 4):
        later[0] = False
    else:
        reply_error(c.out, b"ERR syntax error")
        return False
    return True


cdef void cmd_flushdb(Ctx* c) noexcept nogil:
    cdef bint later
    if flush_option(c, &later):
        preimage_all()
        c.dirty += <i64>flush_db(c.db, later)
        ready_db(c, c.db)
        if conf.tracking and hook_flushed != NULL:
            hook_flushed(c)
        if effects_wanted():           # even where it was empty
            effect_own(c)
            effect_words(c)
        reply_ok(c.out)


cdef void cmd_flushall(Ctx* c) noexcept nogil:
    cdef bint later
    cdef u32 db
    if flush_option(c, &later):
        for db in range(store.ndbs):
            c.dirty += <i64>flush_db(db, later)
            ready_db(c, db)
        if conf.tracking and hook_flushed != NULL:
            hook_flushed(c)
        if hook_emptied != NULL:
            hook_emptied()
        if effects_wanted():
            effect_own(c)
            effect_words(c)
        reply_ok(c.out)


cdef u32 empty_bucket(Partition* p, Bucket* b) noexcept nogil:
    """Free the entries of a bucket and its chain; the chain itself stays."""
    cdef u32 bits, n = 0
    while b != NULL:
        bits = b.bits & (0x3F if b.bits & BUCKET_CHAINED else 0x7F)
        b.bits &= BUCKET_CHAINED
        while bits:
            entry_free(p, cell_entry(b.cells[ctz32(bits)]))
            bits &= bits - 1
            n += 1
        b = <Bucket*>b.cells[6] if b.bits & BUCKET_CHAINED else NULL
    return n


cdef void lazy_step(Job* job) noexcept nogil:
    """Free a few buckets' worth of one partition's tables under its lock."""
    cdef Partition* p = part_of(job.tables[job.at].slot)
    cdef Table* t
    cdef u32 budget = LAZY_HOLD
    cdef u64 n = 0
    cdef u32 doomed
    lock(&p.lock)
    doomed = p.doomed_n        # large values are only put there, and count when they have ended
    while budget and job.at < job.n:
        t = job.tables[job.at]
        if part_of(t.slot) != p:
            break
        if job.bucket < t.nbuckets:
            n += empty_bucket(p, table_bucket(t, job.bucket))
            job.bucket += 1
            budget -= 1
            continue
        table_drop(p, job.db, t)
        job.at += 1
        job.bucket = 0
    doomed = p.doomed_n - doomed
    unlock(&p.lock)
    atomic_sub64(&lazy_waiting, n, RELAXED)
    atomic_add64(&lazy_freed, n - doomed, RELAXED)


cdef bint lazy_run(i64 budget_us) noexcept nogil:
    global lazy_jobs, lazy_current
    cdef i64 stop = mono_us() + budget_us
    while True:
        if lazy_current == NULL:
            lock(&lazy_lock)
            lazy_current = lazy_jobs
            if lazy_current != NULL:
                lazy_jobs = lazy_current.next
            unlock(&lazy_lock)
            if lazy_current == NULL:
                return False
        while lazy_current.at < lazy_current.n:
            lazy_step(lazy_current)
            if mono_us() >= stop:
                return True
        free(lazy_current)
        lazy_current = NULL


def empty_held() -> int:
    """Empty every database while the caller holds all partitions (store.hold_all); returns how many keys there were."""
    cdef u32 db
    cdef u64 n = 0
    with nogil:
        preimage_all()
        for db in range(store.ndbs):
            n += flush_db(db, False)
    return n


def lazy_free(i64 budget_us) -> bool:
    """Free flushed data for at most about budget_us; is any left? One thread at a time."""
    with nogil:
        more = lazy_run(budget_us)
    return more


def lazyfree_pending() -> int:
    """Keys that were flushed and still take memory."""
    return atomic_load64(&lazy_waiting, RELAXED)


def count_lazyfreed(n: int) -> None:
    """The control thread freed n large values."""
    atomic_add64(&lazy_freed, n, RELAXED)


def lazyfreed_objects() -> int:
    """Keys freed in the background since the start or the last reset."""
    return atomic_load64(&lazy_freed, RELAXED)


def reset_lazyfreed() -> None:
    """CONFIG RESETSTAT."""
    atomic_store64(&lazy_freed, 0, RELAXED)


# ---- KEYS and SCAN

cdef void gather_init(Gather* g, Ctx* c, const char* pattern, size_t pattern_len) noexcept nogil:
    out_init(&g.out, c.out.pool)
    g.pattern = NULL if pattern != NULL and pattern_len == 1 and pattern[0] == c'*' else pattern
    g.pattern_len = pattern_len
    g.now_ms = c.now_ms if not (conf.import_mode and c.session.flags & S_IMPORT) else 0
    g.seen = g.found = 0
    g.type_ = -1
    g.due = 0
    g.held = c.held


cdef void gather_visit(void* arg, Entry* e) noexcept nogil:
    cdef Gather* g = <Gather*>arg
    g.seen += 1
    if g.type_ >= 0 and entry_type(e) != g.type_:
        return
    if g.pattern != NULL and not glob_match(g.pattern, g.pattern_len, entry_key(e),
                                            entry_klen(e), False):
        return
    if is_expired(e, g.now_ms):
        if g.due < SCAN_DUE:
            g.dead[g.due] = e
            g.due += 1
        return
    g.found += 1
    reply_bulk(&g.out, entry_key(e), entry_klen(e))


cdef inline bint may_have_keys(u32 db, u32 slot) noexcept nogil:
    """Without the lock: a key that comes at this moment may be missed, as if it had come later; what is hidden is asked
    again under the lock."""
    cdef bint may
    racy_begin()
    may = store.dbs[db].slots[slot] != NULL and not slot_hidden(slot)
    racy_end()
    return may


cdef void cmd_keys(Ctx* c) noexcept nogil:
    cdef Gather g
    cdef u32 slot = 0, last = SLOTS, held
    cdef u64 position
    cdef int only
    cdef Partition* p
    cdef Table* t
    gather_init(&g, c, c.argv[1].ptr, c.argv[1].len)
    if g.pattern != NULL:
        only = glob_slot(g.pattern, g.pattern_len)
        if only >= 0:
            slot = <u32>only
            last = slot + 1
    while slot < last:
        if not may_have_keys(c.db, slot):
            slot += 1
            continue
        p = part_of(slot)
        held = 0
        if not g.held:
            lock(&p.lock)
        while slot < last and part_of(slot) == p and held < KEYS_HOLD:
            t = NULL if slot_hidden(slot) else store.dbs[c.db].slots[slot]
            position = 0
            while t != NULL and not position >> 32:
                position = table_scan(t, position, gather_visit, &g)
                held += 1
            slot += 1
        if not g.held:
            unlock(&p.lock)
    reply_array(c.out, g.found)
    out_append(c.out, &g.out)


cdef bint parse_cursor(Arg* a, u64* cursor) noexcept nogil:
    """As strict as Valkey: an integer, or what strtoull takes whole."""
    global errno               # else the assignment below would make a local of it
    cdef i64 v
    cdef char text[64]
    cdef char* end = NULL
    if parse_i64(a.ptr, a.len, &v):
        cursor[0] = <u64>v
        return v >= 0
    if a.len == 0 or a.len >= sizeof(text):
        return False
    memcpy(text, a.ptr, a.len)
    text[a.len] = 0
    errno = 0
    cursor[0] = strtoull(text, &end, 10)
    return errno == 0 and text[0] != 0 and end != text and end[0] == 0


cdef bint scan_args(Ctx* c, i64 at, int of, ScanArgs* s) noexcept nogil:
    """The options of SCAN and its kin from argv[at] on; of: the type of value scanned, or SCAN_KEYS, SCAN_CLUSTER.

    False: an error was replied."""
    cdef Arg* a
    cdef Arg* v
    s.count = SCAN_COUNT
    s.pattern = NULL
    s.pattern_len = 0
    s.type_ = -1
    s.slot = -1
    s.bare = False
    while at < c.argc:
        a = &c.argv[at]
        v = a + 1 if at + 1 < c.argc else NULL
        at += 2
        if v != NULL and arg_is(a, b"count", 5):
            if not parse_i64(v.ptr, v.len, &s.count):
                reply_error(c.out, b"ERR value is not an integer or out of range")
                return False
            if s.count < 1:
                reply_error(c.out, b"ERR syntax error")
                return False
        elif v != NULL and arg_is(a, b"match", 5):
            s.pattern = NULL if v.len == 1 and v.ptr[0] == c'*' else v.ptr
            s.pattern_len = v.len
        elif v != NULL and of < 0 and arg_is(a, b"type", 4):
            s.type_ = type_by_name(v)
            if s.type_ < 0:
                error_quoting(c, b"ERR unknown type name '", v, <size_t>-1, b"'")
                return False
        elif arg_is(a, b"novalues", 8):
            if of != TYPE_HASH:
                reply_error(c.out, b"ERR NOVALUES option can only be used in HSCAN")
                return False
            s.bare = True
            at -= 1
        elif arg_is(a, b"noscores", 8):
            if of != TYPE_ZSET:
                reply_error(c.out, b"ERR NOSCORES option can only be used in ZSCAN")
                return False
            s.bare = True
            at -= 1
        elif v != NULL and of == SCAN_CLUSTER and arg_is(a, b"slot", 4):
            if s.slot >= 0:
                reply_error(c.out, b"ERR SLOT option can only be specified once")
                return False
            if not parse_i64(v.ptr, v.len, &s.slot) or not 0 <= s.slot < SLOTS:
                reply_error(c.out, b"ERR Invalid or out of range slot")
                return False
        else:
            reply_error(c.out, b"ERR syntax error")
            return False
    return True


cdef void scan_expire(Ctx* c, Gather* g) noexcept nogil:
    """Delete the expired entries that a bucket had; its partition is locked."""
    cdef Key k
    cdef Arg name
    cdef Entry* e
    while g.due:
        g.due -= 1
        e = g.dead[g.due]
        name.ptr = entry_key(e)
        name.len = entry_klen(e)
        key_init(c, &k, &name)
        if table_find(&k) == e:
            expire_if_needed(c, &k)


cdef u64 scan_walk(Ctx* c, u32 slot, u64 position, u32 last, i64 count,
                   Gather* g) noexcept nogil:
    """Visit buckets from a position until count entries were seen; returns the next cursor."""
    cdef i64 rounds = 0
    cdef i64 rounds_max = count * 10 if count < (<i64>1 << 59) else count
    cdef u32 held
    cdef Partition* p
    cdef Table* t
    while slot < last:
        if not may_have_keys(c.db, slot):
            slot += 1
            position = 0
            continue
        if g.seen >= count or rounds >= rounds_max:
            return (position << 14) | slot
        p = part_of(slot)
        held = 0
        if not g.held:
            lock(&p.lock)
        while (slot < last and part_of(slot) == p and held < SCAN_HOLD and g.seen < count
               and rounds < rounds_max):
            t = NULL if slot_hidden(slot) else store.dbs[c.db].slots[slot]
            if t != NULL:
                position = table_scan(t, position, gather_visit, g)
                if unlikely(g.due):
                    scan_expire(c, g)
                held += 1
                rounds += 1
            if t == NULL or position >> 32:
                slot += 1
                position = 0
        if not g.held:
            unlock(&p.lock)
    return 0


cdef void cmd_scan(Ctx* c) noexcept nogil:
    cdef Gather g
    cdef ScanArgs args
    cdef u64 cursor, position
    cdef u32 slot, last = SLOTS
    cdef int only = -1
    cdef char digits[32]
    if not parse_cursor(&c.argv[1], &cursor):
        reply_error(c.out, b"ERR invalid cursor")
        return
    if not scan_args(c, 2, SCAN_KEYS, &args):
        return
    gather_init(&g, c, args.pattern, args.pattern_len)
    g.type_ = args.type_
    slot = <u32>(cursor & (SLOTS - 1))
    position = cursor >> 14
    if position >> 32:                     # no cursor of ours
        slot += 1
        position = 0
    if g.pattern != NULL:
        only = glob_slot(g.pattern, g.pattern_len)
    if only >= 0:
        last = <u32>only + 1
        if slot < <u32>only:
            slot = <u32>only
            position = 0
    cursor = scan_walk(c, slot, position, last, args.count, &g)
    reply_array(c.out, 2)
    reply_bulk(c.out, digits, write_u64(digits, cursor) & 31)    # the mask is for the compiler
    reply_array(c.out, g.found)
    out_append(c.out, &g.out)


# ---- OBJECT

cdef void cmd_object(Ctx* c) noexcept nogil:
    error_quoting(c, b"ERR unknown subcommand '", &c.argv[1], 128, b"'. Try OBJECT HELP.")


cdef Entry* object_entry(Ctx* c) noexcept nogil:
    """The key that a subcommand asks about; NULL: a null was replied."""
    cdef Entry* e = lookup_quiet(c, &c.key)
    if e == NULL:
        reply_null(c.out, c.resp)
    return e


cdef bint embstr_fits(Entry* e) noexcept nogil:
    """Would Valkey keep key, value and their lengths in one small block? An expiry counts with it
    only sometimes (on what was there before, and on its allocator); here it never does."""
    cdef size_t klen = entry_klen(e)
    cdef size_t head = 1 if klen < 32 else (3 if klen < 256 else (5 if klen < 65536 else 9))
    return 8 + head + klen + 2 + 3 + entry_vlen(e) + 1 <= EMBSTR_BLOCK


cdef const char* encoding_name(Entry* e) noexcept nogil:
    cdef int enc = entry_enc(e)
    if enc == ENC_EMBSTR and not embstr_fits(e):
        return b"raw"
    return (b"raw" if enc == ENC_RAW else b"int" if enc == ENC_INT else b"embstr" if enc == ENC_EMBSTR
            else b"listpack" if enc == ENC_LISTPACK else b"hashtable" if enc == ENC_HASHTABLE
            else b"intset" if enc == ENC_INTSET else b"skiplist" if enc == ENC_SKIPLIST
            else b"quicklist" if enc == ENC_QUICKLIST else b"stream")


cdef void cmd_object_encoding(Ctx* c) noexcept nogil:
    cdef Entry* e = object_entry(c)
    if e != NULL:
        reply_bulk(c.out, encoding_name(e), strlen(encoding_name(e)))


cdef void cmd_object_refcount(Ctx* c) noexcept nogil:
    if object_entry(c) != NULL:
        reply_int(c.out, 1)


cdef void cmd_object_idletime(Ctx* c) noexcept nogil:
    cdef Entry* e = object_entry(c)
    if e == NULL:
        return
    if lfu_policy():
        reply_error(c.out, b"ERR An LFU maxmemory policy is selected, idle time not tracked. "
                    b"Please note that when switching between policies at runtime LRU and LFU "
                    b"data will take some time to adjust.")
    else:
        reply_int(c.out, idle_or_freq(e, c.now_ms, False))


cdef void cmd_object_freq(Ctx* c) noexcept nogil:
    cdef Entry* e = object_entry(c)
    if e == NULL:
        return
    if not lfu_policy():
        reply_error(c.out, b"ERR An LFU maxmemory policy is not selected, access frequency not "
                    b"tracked. Please note that when switching between policies at runtime LRU "
                    b"and LFU data will take some time to adjust.")
    else:
        reply_int(c.out, idle_or_freq(e, c.now_ms, True))


cdef void cmd_object_help(Ctx* c) noexcept nogil:
    reply_array(c.out, 11)
    reply_status(c.out, b"OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
    reply_status(c.out, b"ENCODING <key>")
    reply_status(c.out, b"    How the value of <key> is kept in memory.")
    reply_status(c.out, b"FREQ <key>")
    reply_status(c.out, b"    The access counter of <key>, under an LFU maxmemory policy.")
    reply_status(c.out, b"IDLETIME <key>")
    reply_status(c.out, b"    Seconds since <key> was last accessed, under any other policy.")
    reply_status(c.out, b"REFCOUNT <key>")
    reply_status(c.out, b"    How many references the value of <key> has: one.")
    reply_status(c.out, b"HELP")
    reply_status(c.out, b"    Print this help.")


# ---- rows

SHARDS = "request_policy:multi_shard response_policy:agg_sum"
EVERYWHERE = "request_policy:all_shards "


def about(since, summary, acl, complexity="O(1)", **more):
    """What COMMAND DOCS and ACL say of a row of this family."""
    return {"since": since, "group": more.pop("group", "generic"), "complexity": complexity,
            "summary": summary, "acl": acl, **more}


register("del", -2, "write", (1, -1, 1), cmd_del, about(
    "1.0.0", "Deletes keys.", "keyspace write slow", "O(N), N keys to delete", tips=SHARDS,
    key_flags=["RM delete"]))
register("unlink", -2, "write fast", (1, -1, 1), cmd_del, about(
    "4.0.0", "Deletes keys; large values are freed later.", "keyspace write fast",
    "O(1) a key", tips=SHARDS, key_flags=["RM delete"]))
register("exists", -2, "readonly fast", (1, -1, 1), cmd_exists, about(
    "1.0.0", "Counts how many of the keys named are there.", "keyspace read fast",
    "O(N), N keys named", tips=SHARDS, key_flags=["RO"]))
register("touch", -2, "readonly fast", (1, -1, 1), cmd_touch, about(
    "3.2.1", "Marks keys as just accessed and counts those that are there.",
    "keyspace read fast", "O(N), N keys named", tips=SHARDS, key_flags=["RO"]))
register("type", 2, "readonly fast", (1, 1, 1), cmd_type, about(
    "1.0.0", "Tells the type of a key's value.", "keyspace read fast", key_flags=["RO"]))
register("rename", 3, "write", (1, 2, 1), cmd_rename, about(
    "1.0.0", "Gives a key another name, replacing a key of that name.", "keyspace write slow",
    key_flags=["RW access delete", "OW update"]))
register("renamenx", 3, "write fast", (1, 2, 1), cmd_renamenx, about(
    "1.0.0", "Gives a key another name unless that is taken.", "keyspace write fast",
    key_flags=["RW access delete", "OW insert"]))
register("copy", -3, "write denyoom", (1, 2, 1), cmd_copy, about(
    "6.2.0", "Copies a key's value to another key or database.", "keyspace write slow",
    "O(N), N the size of the value", key_flags=["RO access", "OW update"]))
register("move", 3, "write fast", (1, 1, 1), cmd_move, about(
    "1.0.0", "Moves a key to another database.", "keyspace write fast",
    key_flags=["RW access update"]))
register("randomkey", 1, "readonly lock=self", (0, 0, 0), cmd_randomkey, about(
    "1.0.0", "Picks some key of the database.", "keyspace read slow",
    tips="request_policy:all_shards response_policy:special nondeterministic_output"))
register("keys", 2, "readonly lock=self", (0, 0, 0), cmd_keys, about(
    "1.0.0", "Lists all keys that match a pattern.", "keyspace read slow dangerous",
    "O(N), N keys in the database", tips=EVERYWHERE + "nondeterministic_output_order"))
register("scan", -2, "readonly lock=self", (0, 0, 0), cmd_scan, about(
    "2.8.0", "Goes through the keys of the database a few at a time.", "keyspace read slow",
    "O(1) a call, O(N) for all N keys",
    tips="nondeterministic_output request_policy:special response_policy:special"))
register("dbsize", 1, "readonly fast", (0, 0, 0), cmd_dbsize, about(
    "1.0.0", "Counts the keys of the database.", "keyspace read fast", group="server",
    tips=EVERYWHERE + "response_policy:agg_sum"))
register("flushdb", -1, "write lock=all", (0, 0, 0), cmd_flushdb, about(
    "1.0.0", "Empties the database.", "keyspace write slow dangerous",
    "O(N), N keys in the database", group="server",
    tips=EVERYWHERE + "response_policy:all_succeeded"))
register("flushall", -1, "write lock=all", (0, 0, 0), cmd_flushall, about(
    "1.0.0", "Empties all databases.", "keyspace write slow dangerous",
    "O(N), N keys in all databases", group="server",
    tips=EVERYWHERE + "response_policy:all_succeeded"))
register("swapdb", 3, "write fast lock=all", (0, 0, 0), cmd_swapdb, about(
    "4.0.0", "Exchanges the contents of two databases.", "keyspace write fast dangerous",
    "O(N), N clients that watch or wait for keys of the two", group="server"))
register("object", -2, "", (0, 0, 0), cmd_object, about(
    "2.2.3", "Looks at how keys are kept.", "slow", "Depends on the subcommand."))
register("object|encoding", 3, "readonly", (2, 2, 1), cmd_object_encoding, about(
    "2.2.3", "Tells how a key's value is kept in memory.", "keyspace read slow",
    tips="nondeterministic_output", key_flags=["RO"]))
register("object|freq", 3, "readonly", (2, 2, 1), cmd_object_freq, about(
    "4.0.0", "Tells a key's access counter.", "keyspace read slow",
    tips="nondeterministic_output", key_flags=["RO"]))
register("object|idletime", 3, "readonly", (2, 2, 1), cmd_object_idletime, about(
    "2.2.3", "Tells the seconds since a key was last accessed.", "keyspace read slow",
    tips="nondeterministic_output", key_flags=["RO"]))
register("object|refcount", 3, "readonly", (2, 2, 1), cmd_object_refcount, about(
    "2.2.3", "Tells how many references a key's value has.", "keyspace read slow",
    tips="nondeterministic_output", key_flags=["RO"]))
register("object|help", 2, "loading stale", (0, 0, 0), cmd_object_help, about(
    "6.2.0", "Explains OBJECT.", "keyspace slow"))
