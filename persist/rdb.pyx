# slotring: data plane
"""Writing an RDB file; see rdb.pxd."""
from libc.errno cimport errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, strlen
from engine.arena cimport memory_used_atomic
from engine.conf cimport conf
from engine.defs cimport *
from engine.hashing cimport SLOTS
from engine.keyspace cimport idle_or_freq, lfu_policy, string_value
from engine.lock cimport lock, unlock
from engine.rdbio cimport *
from engine.snapshot cimport hook_dirty
from engine.store cimport *

cdef extern from "<fcntl.h>" nogil:
    int c_open "open"(const char*, int, ...)
    int O_WRONLY, O_CREAT, O_TRUNC, O_CLOEXEC
    int sync_file_range(int, i64, i64, unsigned int)
    unsigned int SYNC_FILE_RANGE_WRITE
cdef extern from "<unistd.h>" nogil:
    ssize_t c_write "write"(int, const void*, size_t)
    int c_close "close"(int)
    int fsync(int)
    int usleep(unsigned int)
cdef extern from "<stdio.h>" nogil:
    int c_rename "rename"(const char*, const char*)
    int snprintf(char*, size_t, const char*, ...)
cdef extern from "<errno.h>" nogil:
    int EINTR

cdef enum:
    PUSH_BYTES = 4 << 20           # so much at a time is put on its way to the disk
    FILE_MODE = 0o666

cdef const char* MAGIC = b"VALKEY080"
cdef char version[16]              # of the server that the files name
version[0] = 0


cdef u64 powers[64]                # [k]: x to the 8 * 2^k, modulo the CRC's polynomial


# ---- CRC64 of parts

cdef u64 times(u64 a, u64 b) noexcept nogil:
    """The product of two polynomials modulo the CRC's, bits in its order: the highest bit stands for 1."""
    cdef u64 product = 0
    while a:
        if a >> 63:
            product ^= b
        a <<= 1
        b = (b >> 1) ^ (<u64>0x95ac9329ac4bc9b5 & (<u64>0 - (b & 1)))
    return product


cdef void make_powers() noexcept nogil:
    cdef int k
    powers[0] = <u64>1 << 55           # x to the 8
    for k in range(1, 64):
        powers[k] = times(powers[k - 1], powers[k - 1])


cdef u64 crc64_join(u64 a, u64 b, u64 n) noexcept nogil:
    cdef int k = 0
    while n and a:
        if n & 1:
            a = times(a, powers[k])
        n >>= 1
        k += 1
    return a ^ b


make_powers()


# ---- the file

cdef bint rdb_open(RdbFile* f, const char* path, bint checksum) noexcept nogil:
    """Make a file; False: f.error says why not."""
    f.error = 0
    f.lock = 0
    f.checksum = checksum
    f.crc = f.bytes = f.pushed = 0
    f.fd = c_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE)
    if f.fd < 0:
        f.error = errno
    return f.fd >= 0


cdef bint write_all(RdbFile* f, const char* p, size_t n) noexcept nogil:
    cdef ssize_t r
    while n:
        r = c_write(f.fd, p, n)
        if r < 0:
            if errno == EINTR:
                continue
            f.error = errno
            return False
        p += r
        n -= r
    return True


cdef bint rdb_write(RdbFile* f, const char* p, size_t n) noexcept nogil:
    """Append a piece; False: the file is no good any more (f.error)."""
    cdef bint good
    lock(&f.lock)
    good = f.error == 0
    if good and n:
        if f.checksum:
            f.crc = crc64(f.crc, p, n)
        good = write_all(f, p, n)
        f.bytes += n
    unlock(&f.lock)
    return good


cdef bint rdb_write_summed(RdbFile* f, const char* p, size_t n, u64 crc, u64* at) noexcept nogil:
    cdef bint good
    lock(&f.lock)
    at[0] = f.bytes
    good = f.error == 0
    if good and n:
        f.crc = crc64_join(f.crc, crc, n)
        good = write_all(f, p, n)
        f.bytes += n
    unlock(&f.lock)
    return good


cdef void rdb_push(RdbFile* f) noexcept nogil:
    """Begin to bring what is written to the disk, or fsync has all of it to do. It may take its time: without the
    file's lock, on one thread."""
    cdef u64 end
    lock(&f.lock)
    end = f.bytes
    unlock(&f.lock)
    if end - f.pushed >= PUSH_BYTES:
        sync_file_range(f.fd, f.pushed, end - f.pushed, SYNC_FILE_RANGE_WRITE)
        f.pushed = end


cdef bint rdb_finish(RdbFile* f) noexcept nogil:
    """The end of the file, on the disk; False: f.error. The file is closed in any case."""
    cdef u8 end = OP_EOF
    cdef u64 crc
    rdb_write(f, <char*>&end, 1)
    crc = f.crc if f.checksum else 0
    rdb_write(f, <char*>&crc, 8)
    return rdb_close(f)


cdef bint rdb_close(RdbFile* f) noexcept nogil:
    if f.error == 0 and fsync(f.fd):
        f.error = errno
    if c_close(f.fd) and f.error == 0:
        f.error = errno
    f.fd = -1
    return f.error == 0


cdef void rdb_drop(RdbFile* f) noexcept nogil:
    """Close a file that nobody wants; its name is the caller's to remove."""
    if f.fd >= 0:
        c_close(f.fd)
    f.fd = -1


# ---- what is in it

cdef void put_raw(RdbOut* o, const char* s, size_t n) noexcept nogil:
    rdb_out_length(o, n)
    rdb_out_bytes(o, s, n)


cdef void put_aux(RdbOut* o, const char* name, const char* text) noexcept nogil:
    rdb_out_byte(o, OP_AUX)
    put_raw(o, name, strlen(name))
    put_raw(o, text, strlen(text))


cdef void put_aux_int(RdbOut* o, const char* name, i64 v) noexcept nogil:
    rdb_out_byte(o, OP_AUX)
    put_raw(o, name, strlen(name))
    rdb_out_int(o, v)


cdef void save_head(RdbOut* o, i64 used_bytes, const char* functions, size_t functions_len,
                    bint aof_base) noexcept nogil:
    """Magic, AUX fields and the function libraries that were loaded, as they were."""
    rdb_out_bytes(o, MAGIC, strlen(MAGIC))
    put_aux(o, b"valkey-ver", version)
    put_aux_int(o, b"redis-bits", 64)
    put_aux_int(o, b"ctime", wall_us() // 1000000)
    put_aux_int(o, b"used-mem", used_bytes)
    put_aux_int(o, b"aof-base", aof_base)
    rdb_out_bytes(o, functions, functions_len)


cdef void save_db_head(RdbOut* o, u32 db, u64 keys, u64 expires) noexcept nogil:
    rdb_out_byte(o, OP_SELECTDB)
    rdb_out_length(o, db)
    rdb_out_byte(o, OP_RESIZEDB)
    rdb_out_length(o, keys)
    rdb_out_length(o, expires)


cdef void save_slot_info(RdbOut* o, Table* t) noexcept nogil:
    """In cluster mode: what a slot has, before its keys. Hashes with fields that expire are not counted by slot: 0."""
    cdef char text[64]
    snprintf(text, 64, b"%u,%u,%u,0", t.slot, t.count, t.expires)
    put_aux(o, b"slot-info", text)


cdef void save_entry(RdbOut* o, Entry* e, i64 now_ms) noexcept nogil:
    cdef char tmp[24]
    cdef const char* s = NULL
    cdef size_t n
    if e.flags & E_EXPIRE:
        rdb_out_byte(o, OP_EXPIRE_MS)
        rdb_out_ms(o, entry_expire(e))
    if conf.maxmemory_policy == 1 or conf.maxmemory_policy == 5:
        rdb_out_byte(o, OP_IDLE)
        rdb_out_length(o, idle_or_freq(e, now_ms, False))
    elif lfu_policy():
        rdb_out_byte(o, OP_FREQ)
        rdb_out_byte(o, <u8>idle_or_freq(e, now_ms, True))
    if entry_type(e) == TYPE_STRING:
        rdb_out_byte(o, RDB_TYPE_STRING)
        rdb_out_string(o, entry_key(e), entry_klen(e))
        n = string_value(e, tmp, &s)
        rdb_out_string(o, s, n)
    else:
        rdb_out_byte(o, <u8>type_ops[entry_type(e)].rdb_type(e))
        rdb_out_string(o, entry_key(e), entry_klen(e))
        type_ops[entry_type(e)].save(o, e)


cdef void bucket_ahead(Bucket* b) noexcept nogil:
    """Ask for the entries of a bucket that comes next."""
    cdef u32 bits = b.bits & (0x3F if b.bits & BUCKET_CHAINED else 0x7F)
    while bits:
        prefetch(cell_entry(b.cells[ctz32(bits)]))
        bits &= bits - 1
    if b.bits & BUCKET_CHAINED:
        prefetch(<void*>b.cells[6])


cdef u64 save_table(RdbOut* o, Table* t, i64 now_ms) noexcept nogil:
    return walk_table(o, t, now_ms, save_entry)


cdef u64 walk_table(RdbOut* o, Table* t, i64 now_ms, save_fn fn) noexcept nogil:
    """All keys of a slot's table; returns how many. Its partition is held."""
    cdef u32 i, bits
    cdef Bucket* b
    bucket_ahead(table_bucket(t, 0))
    for i in range(t.nbuckets):
        b = table_bucket(t, i)
        if i + 1 < t.nbuckets:
            bucket_ahead(table_bucket(t, i + 1))
        while True:
            bits = b.bits & (0x3F if b.bits & BUCKET_CHAINED else 0x7F)
            while bits:
                fn(o, cell_entry(b.cells[ctz32(bits)]), now_ms)
                bits &= bits - 1
            if not b.bits & BUCKET_CHAINED:
                break
            b = <Bucket*>b.cells[6]
            bucket_ahead(b)
    return t.count


cdef bint save_dbs(RdbFile* f, RdbOut* o, bint slots, i64 delay_us) noexcept nogil:
    """Every database, all partitions held; False: f.error. slots: say what each slot has."""
    cdef u32 db, slot
    cdef Table* t
    cdef u64 n
    cdef i64 now_ms = wall_us() // 1000
    for db in range(store.ndbs):
        if store_count_all(db) == 0:
            continue
        save_db_head(o, db, store_count_all(db), store_expires_all(db))
        for slot in range(SLOTS):
            t = store.dbs[db].slots[slot]
            if t == NULL:
                continue
            if slots:
                save_slot_info(o, t)
            n = save_table(o, t, now_ms)
            if delay_us:
                usleep(<unsigned int>(delay_us * <i64>n))
            if o.len >= PIECE_BYTES:
                if not rdb_write(f, o.p, o.len):
                    return False
                rdb_push(f)
                o.len = 0
    return rdb_write(f, o.p, o.len)


cdef int save_held(const char* path, bint checksum, bint slots, const char* functions, size_t functions_len,
                   i64 used_bytes, i64 delay_us, RdbFile* f) noexcept nogil:
    """Write everything to a new file while all partitions are held; an errno or 0. The file stays open."""
    cdef RdbOut o
    if not rdb_open(f, path, checksum):
        return f.error
    o.p = NULL
    o.len = o.cap = 0
    o.compress = conf.rdb_compression
    save_head(&o, used_bytes, functions, functions_len, False)
    save_dbs(f, &o, slots, delay_us)
    rdb_out_free(&o)
    return f.error


# ---- FLUSHALL

cdef struct Emptied:               # where save points are set, FLUSHALL saves at once: what was flushed stays away
    char temporary[512]
    char name[512]                 # empty: it does not
    bint checksum
    bint slots
    char* functions
    size_t functions_len
    u64 saves
    int error                      # errno of the last one, 0: it went well
    i64 dirty                      # changes by then
    u32 lock                       # of the last three

cdef Emptied em


cdef void save_emptied() noexcept nogil:
    cdef RdbFile f
    cdef int error
    cdef i64 used = atomic_loadi64(&memory_used_atomic, RELAXED)
    if not em.name[0]:
        return
    error = save_held(em.temporary, em.checksum, em.slots, em.functions, em.functions_len, used, 0, &f)
    if error:
        rdb_drop(&f)
    elif not rdb_finish(&f):
        error = f.error
    elif c_rename(em.temporary, em.name):
        error = errno
    lock(&em.lock)
    em.error = error
    em.dirty = hook_dirty()
    em.saves += 1
    unlock(&em.lock)


def set_emptied_save(bytes temporary, bytes name, bint checksum, bint slots, bytes functions) -> None:
    """What FLUSHALL does from now on; name empty: it saves nothing."""
    cdef const char* text = functions
    cdef size_t n = len(functions)
    cdef char* copy = <char*>malloc(n + 1)
    cdef const char* t = temporary
    cdef const char* to = name
    if copy == NULL or len(name) >= 512:
        free(copy)
        return
    memcpy(copy, text, n)
    with nogil:
        lock_all()
        free(em.functions)
        em.functions = copy
        em.functions_len = n
        snprintf(em.temporary, 512, b"%s", t)
        snprintf(em.name, 512, b"%s", to)
        em.checksum = checksum
        em.slots = slots
        unlock_all()


def emptied_saves() -> tuple:
    """(how often FLUSHALL has saved, errno or 0 of the last one, the changes by then)."""
    cdef u64 saves
    cdef int error
    cdef i64 dirty
    lock(&em.lock)
    saves, error, dirty = em.saves, em.error, em.dirty
    unlock(&em.lock)
    return saves, error, dirty


def save(bytes path, bint checksum, bint slots, bytes functions, i64 used_bytes, i64 delay_us) -> tuple:
    """Write a file of all data while nothing else may touch it: (errno or 0, was the file made). slots: cluster mode's
    remarks on each slot; functions: the part of the file that holds them; delay_us: for tests, a key."""
    cdef RdbFile f
    cdef const char* name = path
    cdef const char* text = functions
    cdef size_t n = len(functions)
    cdef bint made
    with nogil:
        lock_all()
        save_held(name, checksum, slots, text, n, used_bytes, delay_us, &f)
        unlock_all()
        made = f.fd >= 0
        if made:
            if f.error:
                rdb_drop(&f)
            else:
                rdb_finish(&f)
    return f.error, made


def set_version(bytes text) -> None:
    """Which server the files are said to come from."""
    snprintf(version, sizeof(version), b"%s", <char*>text)
