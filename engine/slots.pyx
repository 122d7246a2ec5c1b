# slotring: data plane
"""What cluster administration does to the data of a slot: counting and listing keys, taking single ones away for
another node, deleting a whole slot, hiding one that is being imported.

Deletions are made a few keys at a time under the slot's lock, and each is in the effects log as DEL or UNLINK, so that
nobody waits long, and who reads the log needs to know nothing of slots. One thread at a time deletes."""
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcpy, memset
from engine.command cimport Ctx, Session
from engine.commands.dump cimport dump_entry
from engine.defs cimport *
from engine.effects cimport LOG_SLOTS, effect_arg, effect_begin, effect_end, effects_wanted
from engine.events cimport N_GENERIC, notify
from engine.hashing cimport hash_bytes, key_slot
from engine.keyspace cimport key_delete
from engine.lock cimport lock, unlock
from engine.rdbio cimport RdbOut, rdb_out_free
from engine.snapshot cimport preimage_slot
from engine.store cimport *

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int)

cdef enum:
    HOLD_KEYS = 256                # deleted under one hold of a lock
    HIDE_SLOTS = 64                # hidden or shown under one
    BUCKET_KEYS = 64               # of one bucket; what it has more has its turn later
    WORK_US = 500                  # so long keys are deleted, and then it is rested: who waits for a lock has it then
    REST_US = 100

cdef struct Names:                 # entries that a bucket showed
    u32 n
    Entry* entries[BUCKET_KEYS]

cdef struct Deletion:              # of a slot
    u32 slot
    bint lazy
    bint event
    u64 gone

cdef Ctx slots_ctx
cdef Session slots_session
cdef u32 slots_lock = 0            # who deletes has it; taken before a partition's
cdef i64 slots_rest_at = 0


cdef void place(Key* k, u32 db, const char* p, size_t n) noexcept nogil:
    """Hash, slot and partition of a key."""
    k.ptr = p
    k.len = n
    k.hash = hash_bytes(p, n)
    k.slot = key_slot(p, n)
    k.db = db
    k.part = part_of(k.slot)
    k.table = NULL
    k.entry = NULL
    k.cell = NULL


cdef void delete_found(Key* k, bint lazy, bint event) noexcept nogil:
    """Delete a key that table_find found; its name is not the entry's own. The slot's lock and slots_lock are held."""
    cdef Ctx* c = &slots_ctx
    c.db = k.db
    key_delete(c, k)
    if effects_wanted():
        effect_begin(c, k.db, k.slot, 2, b"UNLINK" if lazy else b"DEL")
        effect_arg(c, k.ptr, k.len)
        effect_end(c)
    if event:
        notify(c, N_GENERIC, b"del", k)
    c.dirty += 1


cdef void begin_deleting() noexcept nogil:
    lock(&slots_lock)
    slots_ctx.session = &slots_session
    slots_ctx.log_id = LOG_SLOTS
    slots_ctx.unasked = True
    slots_ctx.no_ready = True          # who waits for such a key is looked after by the caller
    slots_ctx.now_ms = wall_us() // 1000


cdef void rest() noexcept nogil:
    """Slot after slot is one partition's: its lock would be had again before anybody who waits for it woke up."""
    global slots_rest_at
    cdef i64 now = mono_us()
    if now >= slots_rest_at:
        if now < slots_rest_at + WORK_US:
            usleep(REST_US)
        slots_rest_at = mono_us() + WORK_US


cdef void end_deleting() noexcept nogil:
    unlock(&slots_lock)


cdef void names_visit(void* arg, Entry* e) noexcept nogil:
    cdef Names* names = <Names*>arg
    if names.n < BUCKET_KEYS:
        names.entries[names.n] = e
        names.n += 1


cdef void delete_entry(Deletion* d, u32 db, Entry* e) noexcept nogil:
    """One entry of the slot."""
    cdef char small[512]
    cdef char* name = small
    cdef Key k
    cdef size_t n = entry_klen(e)
    if n > sizeof(small):
        name = <char*>malloc(n)
        if name == NULL:
            abort()
    memcpy(name, entry_key(e), n)
    place(&k, db, name, n)
    if table_find(&k) == e:
        delete_found(&k, d.lazy, d.event)
        d.gone += 1
    if name != small:
        free(name)


cdef bint delete_some(Deletion* d, u32 db) noexcept nogil:
    """Delete up to HOLD_KEYS of the slot's keys under one hold of its lock; False: none are left in this database."""
    cdef Partition* p = part_of(d.slot)
    cdef Table* t
    cdef Names names
    cdef u64 at = 0, before = d.gone
    cdef u32 i
    lock(&p.lock)
    preimage_slot(d.slot)
    while d.gone - before < HOLD_KEYS:
        t = store.dbs[db].slots[d.slot]
        if t == NULL:
            break
        names.n = 0
        at = table_scan(t, at, names_visit, &names)
        for i in range(names.n):
            delete_entry(d, db, names.entries[i])
        if at >> 32:
            at = 0
    t = store.dbs[db].slots[d.slot]
    unlock(&p.lock)
    return t != NULL


def delete_slot(u32 slot, bint lazy=True, bint event=False, i64 budget_us=0) -> tuple:
    """Delete a slot's keys in all databases: (how many went, are some left?).

    lazy: say UNLINK and not DEL in the log. event: keyspace events too (of a slot that has moved there are none, the
    keys still exist). budget_us: about so long at most, 0: to the end. What is written meanwhile may go too."""
    cdef Deletion d
    cdef i64 stop = mono_us() + budget_us
    cdef u32 db
    cdef bint more = False
    d.slot = slot
    d.lazy = lazy
    d.event = event
    d.gone = 0
    with nogil:
        begin_deleting()
        for db in range(store.ndbs):
            more = True
            while more and (budget_us == 0 or mono_us() < stop):
                more = delete_some(&d, db)
                rest()
            if more:
                break
        end_deleting()
    return d.gone, bool(more)


def log_words(u32 slot, list words) -> None:
    """Put words that are about a slot, and change nothing, into the effects log, if anybody reads it."""
    cdef const char* p = words[0]
    cdef const char* q
    cdef size_t n
    cdef i64 argc = len(words), i
    cdef Partition* part = part_of(slot)
    with nogil:
        begin_deleting()
        lock(&part.lock)
    if effects_wanted():
        effect_begin(&slots_ctx, 0, slot, argc, p)
        for i in range(1, argc):
            q = words[i]
            n = len(words[i])
            effect_arg(&slots_ctx, q, n)
        with nogil:
            effect_end(&slots_ctx)
    unlock(&part.lock)
    end_deleting()


def delete_keys(u32 db, list keys) -> int:
    """Delete keys that have been given to another node: in the log and as an event each is a DEL."""
    cdef Key k
    cdef const char* p
    cdef size_t n
    cdef i64 gone = 0
    for key in keys:
        p = key
        n = len(key)
        with nogil:
            begin_deleting()
            place(&k, db, p, n)
            lock(&k.part.lock)
            if table_find(&k) != NULL:
                preimage_slot(k.slot)
                delete_found(&k, False, True)
                gone += 1
            unlock(&k.part.lock)
            end_deleting()
    return gone


def dump(u32 db, bytes key, i64 now_ms):
    """(what DUMP says of a key, when it expires in ms since 1970 or -1), or None: it is not there, or has expired."""
    cdef Key k
    cdef RdbOut o
    cdef const char* p = key
    cdef size_t n = len(key)
    cdef i64 expires = -1
    cdef bint found
    with nogil:
        place(&k, db, p, n)
        lock(&k.part.lock)
        found = table_find(&k) != NULL
        if found:
            expires = entry_expire(k.entry)
            found = expires < 0 or expires > now_ms
            if found:
                dump_entry(&o, k.entry)
        unlock(&k.part.lock)
    if not found:
        return None
    try:
        return o.p[:o.len], expires
    finally:
        rdb_out_free(&o)


# ---- counting and listing

def count(u32 slot, i64 db=-1) -> int:
    """Keys of a slot in one database, or in all; hidden ones too."""
    cdef u64 n = 0
    cdef u32 i
    cdef Table* t
    with nogil:
        lock(&part_of(slot).lock)
        for i in range(store.ndbs):
            t = store.dbs[i].slots[slot]
            if t != NULL and (db < 0 or db == i):
                n += t.count
        unlock(&part_of(slot).lock)
    return n


cdef struct Listing:
    char* text                     # lengths (u32) and names
    size_t used
    size_t cap
    u64 n
    u64 most


cdef void list_visit(void* arg, Entry* e) noexcept nogil:
    cdef Listing* l = <Listing*>arg
    cdef u32 n = <u32>entry_klen(e)
    cdef char* more
    if l.n >= l.most:
        return
    if l.used + n + 4 > l.cap:
        more = <char*>malloc((l.cap + n + 4) * 2)
        if more == NULL:
            return
        memcpy(more, l.text, l.used)
        free(l.text)
        l.text = more
        l.cap = (l.cap + n + 4) * 2
    memcpy(l.text + l.used, &n, 4)
    memcpy(l.text + l.used + 4, entry_key(e), n)
    l.used += n + 4
    l.n += 1


def keys(u32 slot, u32 db, u64 most) -> list:
    """Up to so many keys of a slot in a database, expired ones too."""
    cdef Listing l
    cdef Table* t
    cdef u64 at = 0
    cdef u32 n
    cdef size_t i = 0
    l.text = NULL
    l.used = l.cap = 0
    l.n = 0
    l.most = most
    with nogil:
        lock(&part_of(slot).lock)
        t = store.dbs[db].slots[slot]
        while t != NULL and not at >> 32 and l.n < most:
            at = table_scan(t, at, list_visit, &l)
        unlock(&part_of(slot).lock)
    found = []
    while i < l.used:
        memcpy(&n, l.text + i, 4)
        found.append(l.text[i + 4:i + 4 + n])
        i += n + 4
    free(l.text)
    return found


cdef u32 next_marked(const u8* marked, u32 slot) noexcept nogil:
    """The first from `slot` on that is marked; SLOTS: none."""
    while slot < SLOTS and not marked[slot]:
        slot += 1
    return slot


def with_keys(slots=range(SLOTS)) -> list:
    """Those of these slots that have keys, in any database."""
    cdef u32 slot, db
    cdef Partition* p
    cdef u8[SLOTS] some
    memset(some, 0, sizeof(some))
    for slot in slots:
        some[slot] = 1
    with nogil:
        slot = next_marked(some, 0)
        while slot < SLOTS:
            p = part_of(slot)
            lock(&p.lock)
            while slot < SLOTS and part_of(slot) == p:
                some[slot] = 0
                for db in range(store.ndbs):
                    if p.db_keys[db] or p.hidden_keys[db]:
                        some[slot] |= store.dbs[db].slots[slot] != NULL
                slot = next_marked(some, slot + 1)
            unlock(&p.lock)
    return [slot for slot in range(SLOTS) if some[slot]]


# ---- slots that are being imported

cdef void hide_marked(const u8* marked, bint hidden) noexcept nogil:
    cdef u32 slot = next_marked(marked, 0), held
    cdef Partition* p
    while slot < SLOTS:
        p = part_of(slot)
        held = 0
        lock(&p.lock)
        while slot < SLOTS and part_of(slot) == p and held < HIDE_SLOTS:
            slot_hide(slot, hidden)
            held += 1
            slot = next_marked(marked, slot + 1)
        unlock(&p.lock)


def hide(slots, bint hidden=True) -> None:
    """Let slots (numbers) go out of sight, or come back: DBSIZE, SCAN, KEYS, RANDOMKEY, INFO, expiry and eviction do
    not see what is in a hidden slot. RDB files and `count` have it, and commands on its keys find them."""
    cdef u8[SLOTS] marked
    memset(marked, 0, sizeof(marked))
    for number in slots:
        marked[<u32>number] = 1
    with nogil:
        hide_marked(marked, hidden)


def is_hidden(u32 slot) -> bool:
    """Is the slot out of sight?"""
    return bool(store.slot_flags[slot] & SLOT_HIDDEN)


cdef void barrier_marked(const u8* marked) noexcept nogil:
    cdef u32 slot = next_marked(marked, 0)
    cdef Partition* p
    while slot < SLOTS:
        p = part_of(slot)
        lock(&p.lock)
        unlock(&p.lock)
        while slot < SLOTS and part_of(slot) == p:
            slot = next_marked(marked, slot + 1)


def barrier(slots) -> None:
    """Wait until whoever was running a command under one of these slots' locks has ended it."""
    cdef u8[SLOTS] marked
    memset(marked, 0, sizeof(marked))
    for number in slots:
        marked[<u32>number] = 1
    with nogil:
        barrier_marked(marked)


def flushes() -> int:
    """How many databases FLUSHDB and FLUSHALL have emptied so far."""
    return atomic_load64(&store.flushes, RELAXED)
