# slotring: data plane
"""The writer of the append-only file; see aof.pxd."""
from libc.errno cimport errno
from libc.stdlib cimport abort, free, realloc
from libc.string cimport memcpy, memset
from engine.conf cimport conf
from engine.defs cimport *
from engine.effects cimport *
from engine.hashing cimport SLOTS, fold
from engine.lock cimport lock, try_lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.reply cimport write_i64
from engine.store cimport lock_all, unlock_all
from persist.prealloc cimport prealloc_cut, prealloc_forget, prealloc_has, prealloc_room
from persist.slot_feed cimport feed_bytes, feed_record, feed_take, feeds

cdef extern from "<unistd.h>" nogil:
    ssize_t c_write "write"(int, const void*, size_t)
    ssize_t pwrite(int, const void*, size_t, i64)
    int fdatasync(int)
    int usleep(unsigned)
cdef extern from "<errno.h>" nogil:
    int EINTR, EAGAIN, EBADF
cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)
cdef extern from * nogil:
    int SEQ_CST "__ATOMIC_SEQ_CST"

cdef enum:
    WRITE_BYTES = 1 << 18              # the stage goes to the file when it has so much
    STAGE_KEEP_BYTES = 1 << 20
    SELECT_MAX = 64
    MULTI_BYTES = 15               # MULTI as RESP, the beginning of a record of several commands
    ANY_SLOT = 0xFFFFFFFF

cdef inline void conf_word(i64* word, i64 v) noexcept nogil:
    """Of conf: workers look at it without a lock, and see the old one or the new one."""
    racy_begin()
    word[0] = v
    racy_end()


cdef u64 SUM_SEED = 0x9E3779B97F4A7C15
cdef u64 SUM_KEY = 0xE7037ED1A0B428DB
cdef u32 NO_DB = 0xFFFFFFFF
cdef u64 NO_LIMIT = 0xFFFFFFFFFFFFFFFF
cdef i64 clock_s = 0                   # for timestamps, set by the cron too


# ---- sums of blocks

cdef void sum_clear(Sum* s) noexcept nogil:
    s.h = SUM_SEED
    s.bytes = 0
    s.n_rest = 0


cdef inline void sum_step(Sum* s, const void* p) noexcept nogil:
    cdef u64 w[2]
    memcpy(w, p, 16)
    s.h = fold(w[0] ^ SUM_KEY, w[1] ^ s.h)


cdef void sum_add(Sum* s, const void* p, size_t n) noexcept nogil:
    """Sixteen bytes a step, the rest is kept for the next piece."""
    cdef const char* q = <const char*>p
    cdef size_t part
    s.bytes += n
    if s.n_rest:
        part = 16 - s.n_rest
        if part > n:
            part = n
        memcpy(s.rest + s.n_rest, q, part)
        s.n_rest += <u32>part
        q += part
        n -= part
        if s.n_rest < 16:
            return
        sum_step(s, s.rest)
        s.n_rest = 0
    while n >= 16:
        sum_step(s, q)
        q += 16
        n -= 16
    memcpy(s.rest, q, n)
    s.n_rest = <u32>n


cdef u64 sum_end(Sum* s) noexcept nogil:
    """The sum of all that was added; the last step's gap is zeros."""
    memset(s.rest + s.n_rest, 0, 16 - s.n_rest)
    sum_step(s, s.rest)
    return fold(s.h ^ SUM_SEED, s.bytes ^ SUM_KEY)


def block_sum(bytes data) -> int:
    """The sum that the side file has of these bytes."""
    cdef Sum s
    cdef const char* p = data
    cdef size_t n = len(data)
    with nogil:
        sum_clear(&s)
        sum_add(&s, p, n)
        n = sum_end(&s)
    return n


# ---- to the file

cdef void stage_room(size_t n) noexcept nogil:
    if aof.len + n <= aof.cap:
        return
    aof.cap = (aof.len + n) * 2
    aof.stage = <char*>realloc(aof.stage, aof.cap)
    if aof.stage == NULL:
        abort()


cdef void block_clear() noexcept nogil:
    sum_clear(&aof.sum)
    memset(aof.slots, 0, sizeof(aof.slots))
    aof.many = False
    aof.block_start = aof.bytes


cdef void block_end() noexcept nogil:
    """A block's row goes to the side file. That is best effort: what has no row is unknown, not wrong."""
    cdef char[40 + 2 * SLOTS] row
    cdef u32 n = 0, i
    cdef u16 slot
    cdef u64 word
    if aof.bytes == aof.block_start or aof.index_fd < 0 or aof.left:
        return
    if not aof.many:
        for i in range(256):
            word = aof.slots[i]
            while word:
                slot = <u16>(i * 64 + ctz64(word))
                memcpy(row + 24 + 2 * n, &slot, 2)
                n += 1
                word &= word - 1
    memset(row + 24 + 2 * n, 0, 8)
    memcpy(row, &aof.bytes, 8)
    word = sum_end(&aof.sum)
    memcpy(row + 8, &word, 8)
    word = <u64>(<u32>ANY_SLOT) if aof.many else n
    memcpy(row + 16, &word, 8)
    i = 24 + ((2 * n + 7) & ~<u32>7)
    if c_write(aof.index_fd, row, i) != <ssize_t>i:
        aof.index_fd = -1              # no more of it; who opened it closes it
    block_clear()


cdef void file_end() noexcept nogil:
    """Nothing more comes to the file: its side file says so, if it reaches so far."""
    cdef u64[3] mark
    if aof.fd >= 0:
        prealloc_cut(aof.fd, aof.bytes)
    block_end()
    if aof.index_fd < 0 or aof.bytes != aof.block_start or aof.len != aof.done:
        return
    mark[0] = aof.bytes
    mark[1] = 0
    mark[2] = <u64>1 << 32
    if c_write(aof.index_fd, mark, sizeof(mark)) != sizeof(mark):
        aof.index_fd = -1


cdef void write_failed(int error) noexcept nogil:
    aof.broken = True
    if aof.fatal:
        aof.fatal_errno = error
    conf_word(&conf.aof_errno, error)


cdef bint stage_write() noexcept nogil:
    """All of the stage to the file; False: the disk would not, what is left stays."""
    cdef ssize_t r
    cdef size_t n, more
    if unlikely(aof.sleep_us) and aof.done < aof.len:
        usleep(<unsigned>aof.sleep_us)
    while aof.done < aof.len:
        n = aof.len - aof.done
        more = prealloc_room(aof.fd, aof.index_fd, aof.bytes, n) if aof.fatal else prealloc_has(aof.bytes, n)
        if more:
            stage_room(1)
            aof.stage[aof.len] = c'#'
        r = pwrite(aof.fd, aof.stage + aof.done, n + more, <i64>aof.bytes)
        if r < 0:
            if errno == EINTR:
                continue
            write_failed(errno)
            return False
        r = r if <size_t>r < n else <ssize_t>n
        sum_add(&aof.sum, aof.stage + aof.done, <size_t>r)
        aof.done += <size_t>r
        aof.bytes += <u64>r
    aof.len = aof.done = 0
    if aof.cap > STAGE_KEEP_BYTES:
        free(aof.stage)
        aof.stage = NULL
        aof.cap = 0
    aof.broken = False
    conf_word(&conf.aof_errno, 0)
    if aof.bytes - aof.block_start >= BLOCK_BYTES:
        block_end()
    return True


cdef void stage_select(u32 db) noexcept nogil:
    cdef char number[24]
    cdef int n = write_i64(number, db)
    number[n] = 0
    stage_room(SELECT_MAX)
    aof.len += <size_t>snprintf(aof.stage + aof.len, SELECT_MAX, b"*2\r\n$6\r\nSELECT\r\n$%d\r\n%s\r\n", n, number)


cdef void stage_stamp() noexcept nogil:
    cdef i64 now_s = wall_us() // 1000000
    if now_s <= aof.stamp_s:
        return
    aof.stamp_s = now_s
    stage_room(SELECT_MAX)
    aof.len += <size_t>snprintf(aof.stage + aof.len, SELECT_MAX, b"#TS:%lld\r\n", <long long>now_s)


cdef void take_head(u64 at) noexcept nogil:
    """A record begins: what must stand before it."""
    cdef Record r
    effects_read(at, &r, sizeof(Record))
    aof.left = r.len
    aof.pad = -r.len & 7
    if feeds.open:
        feed_record(&r, at)
    if aof.fd < 0:
        return
    if aof.timestamps:
        stage_stamp()
    if aof.db != r.db and r.count > 1:     # a transaction: SELECT stands inside, as Valkey has it
        stage_room(MULTI_BYTES)
        memcpy(aof.stage + aof.len, b"*1\r\n$5\r\nMULTI\r\n", MULTI_BYTES)
        aof.len += MULTI_BYTES
        aof.skip = MULTI_BYTES
    if aof.db != r.db:
        stage_select(r.db)
    aof.db = r.db_after
    if r.slot < SLOTS:
        aof.slots[r.slot >> 6] |= <u64>1 << (r.slot & 63)
    else:
        aof.many = True


cdef void take(bint write) noexcept nogil:
    """What is whole in the log goes to the stage, and from there (write) to the file; to feeds too."""
    cdef u64 at = effects_log.taken, end = effects_whole(), n
    while at < end:
        if aof.left == 0 and aof.pad == 0:
            take_head(at)
            at += sizeof(Record)
            continue
        n = aof.left if aof.left < end - at else end - at
        if aof.skip:
            n = n if n < aof.skip else aof.skip
            aof.skip -= n
            aof.left -= n
            at += n
            continue
        stage_room(n)
        effects_read(at, aof.stage + aof.len, n)
        if feeds.open:
            feed_bytes(aof.stage + aof.len, n)
        if aof.fd >= 0:
            aof.len += n
        aof.left -= n
        at += n
        if aof.left == 0 and at + aof.pad <= end:
            at += aof.pad
            aof.pad = 0
        elif aof.left == 0:
            break                      # its padding is not claimed as written yet
        if aof.len - aof.done >= WRITE_BYTES and write:
            atomic_store64(&effects_log.taken, at, RELEASE)
            write = stage_write()
    atomic_store64(&effects_log.taken, at, RELEASE)
    if write and (aof.len == aof.done or stage_write()):
        atomic_store64(&aof.written, at, SEQ_CST)


cdef void drain() noexcept nogil:
    """The ring is full: take what there is, by whoever needs the room."""
    lock(&aof.lock)
    take(aof.fd >= 0 and not aof.broken)
    unlock(&aof.lock)


def pump() -> int:
    """Take what is whole in the log, for whoever waits for it but the file; the log's position up to which it is."""
    with nogil:
        drain()
    return atomic_load64(&effects_log.taken, ACQUIRE)


def take_feed(int feed) -> tuple:
    """(what a feed of slots has got since the last call, does it end with a whole record?), pumped before.

    Where it does not, nothing else may be put between it and what comes next."""
    cdef char* p
    cdef size_t n
    cdef bint whole
    with nogil:
        lock(&aof.lock)                # else somebody could be handing a record over
        take(aof.fd >= 0 and not aof.broken)
        whole = feed_take(feed, &p, &n)
        unlock(&aof.lock)
    found = p[:n] if n else b""
    free(p)
    return found, bool(whole)


cdef bint writes() noexcept nogil:
    """Is there a file that takes something? Without the lock: where that has just changed, the turn does nothing, or a
    write more is tried."""
    cdef bint yes
    racy_begin()
    yes = not aof.broken and aof.fd >= 0
    racy_end()
    return yes


cdef void aof_turn() noexcept nogil:
    while (writes() and atomic_load64(&effects_log.tail, SEQ_CST) != atomic_load64(&aof.written, SEQ_CST)):
        if not try_lock(&aof.lock):
            return                     # who has it looks again afterwards
        take(True)
        unlock(&aof.lock)
        if effects_whole() == atomic_load64(&aof.written, RELAXED):
            return                     # what is beyond is being written by another worker, whose turn takes it


# ---- to the disk

cdef void aof_sync_begin(u64* upto, int* fd) noexcept nogil:
    upto[0] = atomic_load64(&aof.written, ACQUIRE)
    fd[0] = <int>atomic_load32(<u32*>&aof.fd, ACQUIRE)      # after it the limit, which `switch` sets before it
    if upto[0] > atomic_load64(&aof.limit, ACQUIRE):
        upto[0] = atomic_load64(&aof.limit, ACQUIRE)


cdef void aof_sync_end(u64 upto, int error) noexcept nogil:
    cdef u64 had = atomic_load64(&aof.synced, ACQUIRE)
    if error == EBADF:
        return                         # the file was replaced meanwhile, and brought to the disk by who closed it
    if error:
        racy_begin()                   # words of their own; the cron sees them a moment later
        if aof.fatal:
            aof.fatal_sync = True
            aof.fatal_errno = error
        racy_end()
        return
    while had < upto and not atomic_cas64(&aof.synced, &had, upto):
        pass


cdef bint aof_has(u64 upto) noexcept nogil:
    return atomic_load32(&aof.mode, SEQ_CST) == AOF_ON and atomic_load64(&aof.synced, SEQ_CST) >= upto


cdef bint atomic_cas64(u64* p, u64* had, u64 v) noexcept nogil:
    """synced moves forward only; two may try at once."""
    lock(&aof.lock)
    if p[0] == had[0]:
        atomic_store64(p, v, RELEASE)
        unlock(&aof.lock)
        return True
    had[0] = p[0]
    unlock(&aof.lock)
    return False


# ---- for the control plane

def begin(int fd, int index_fd, u64 bytes_, bint held=False) -> None:
    """From now on effects go to this file, `bytes_` long and not open for appending (it is written at places).
    held: the caller has all partitions."""
    if not effects_open():
        raise MemoryError
    with nogil:
        if not held:
            lock_all()
        lock(&aof.lock)
        start(fd, index_fd, bytes_)
        unlock(&aof.lock)
        if not held:
            unlock_all()


cdef void start(int fd, int index_fd, u64 size) noexcept nogil:
    if feeds.open:
        take(False)                    # theirs only
    atomic_store32(<u32*>&aof.fd, <u32>fd, RELEASE)
    aof.index_fd = index_fd
    aof.bytes = size
    aof.db = NO_DB
    aof.stamp_s = 0
    aof.left = aof.pad = 0
    aof.len = aof.done = 0
    aof.broken = False
    aof.fatal_errno = 0
    aof.limit = NO_LIMIT
    aof.closing = 0
    aof.generation += 1
    prealloc_forget()
    conf_word(&conf.aof_errno, 0)
    block_clear()
    cdef u64 at = atomic_load64(&effects_log.tail, RELAXED)     # (nobody writes)
    atomic_store64(&effects_log.taken, at, RELEASE)
    atomic_store64(&aof.written, at, RELEASE)
    atomic_store64(&aof.synced, at, RELEASE)
    feeds.logged = True
    conf_word(&conf.effects, 1)


def switch(int fd, int index_fd, u64 bytes_=0) -> int:
    """What follows goes to another file; the caller holds all partitions. Returns the errno of what could not be
    written to the old one (it stays then), or 0. The old files' closing is the caller's; nothing counts as on the disk
    from here on before the caller has said `closed` of the old one."""
    cdef int error = 0
    with nogil:
        lock(&aof.lock)
        take(True)
        if aof.len != aof.done:
            error = <int>conf.aof_errno
        else:
            file_end()
            if aof.closing == 0:
                atomic_store64(&aof.limit, aof.written, RELEASE)
            aof.closing += 1
            atomic_store32(<u32*>&aof.fd, <u32>fd, RELEASE)
            aof.index_fd = index_fd
            prealloc_forget()
            aof.bytes = bytes_
            aof.db = NO_DB
            aof.stamp_s = 0
            block_clear()
        unlock(&aof.lock)
    return error


def end() -> None:
    """No more effects; what there are go to the file first. The files' closing is the caller's."""
    with nogil:
        lock_all()
        feeds.logged = False
        conf_word(&conf.effects, 1 if feeds.open else 0)
        conf_word(&conf.hold_replies, 0)
        lock(&aof.lock)
        take(True)
        file_end()
        atomic_store32(<u32*>&aof.fd, <u32>-1, RELEASE)
        aof.index_fd = -1
        conf_word(&conf.aof_errno, 0)
        unlock(&aof.lock)
        unlock_all()


def generation() -> int:
    """Which of the logs begun it is, for `closed`."""
    return aof.generation


def closed(u32 generation_, int error) -> None:
    """A file that `switch` has replaced in that log is on the disk, or (errno) cannot be said to be."""
    with nogil:
        lock(&aof.lock)
        if generation_ == aof.generation and error and aof.fatal:
            aof.fatal_sync = True
            aof.fatal_errno = error
        elif generation_ == aof.generation and not error and aof.closing:
            aof.closing -= 1
            if aof.closing == 0:
                atomic_store64(&aof.limit, NO_LIMIT, RELEASE)
        unlock(&aof.lock)


def finish() -> int:
    """The process is about to end: as `flush`, and the side file says that nothing more comes."""
    cdef int error = flush()
    with nogil:
        lock(&aof.lock)
        if aof.fd >= 0 and not error:
            file_end()
        unlock(&aof.lock)
    return error


def set_mode(u32 mode) -> None:
    """AOF_OFF, AOF_FIRST, AOF_ON"""
    atomic_store32(&aof.mode, mode, SEQ_CST)


def set_sleep(i64 us) -> None:
    """DEBUG AOF-FLUSH-SLEEP: so long before each write to the file; 0: no more."""
    with nogil:
        lock(&aof.lock)
        aof.sleep_us = us
        unlock(&aof.lock)


def flush() -> int:
    """Write what there is, also after an error: errno or 0."""
    cdef int error
    with nogil:
        lock(&aof.lock)
        if aof.fd >= 0:
            take(True)
            if aof.bytes > aof.block_start and not aof.broken:
                block_end()
        error = <int>conf.aof_errno
        unlock(&aof.lock)
    return error


def cut() -> None:
    """The file ends where its records end, for who reads it now; the caller holds all partitions."""
    with nogil:
        lock(&aof.lock)
        if aof.fd >= 0:
            prealloc_cut(aof.fd, aof.bytes)
        unlock(&aof.lock)


def sync() -> int:
    """fdatasync on this thread: errno or 0."""
    cdef u64 upto
    cdef int fd, error = 0
    with nogil:
        aof_sync_begin(&upto, &fd)
        if fd >= 0:
            if fdatasync(fd):
                error = errno
            aof_sync_end(upto, error)
    return error


def set_policy(bint always, bint timestamps) -> None:
    """appendfsync always: replies wait for the disk, and its errors end the process."""
    with nogil:
        lock(&aof.lock)
        aof.fatal = always
        aof.timestamps = timestamps
        conf_word(&conf.hold_replies, 1 if always and aof.fd >= 0 else 0)
        unlock(&aof.lock)


def position() -> tuple:
    """(log's end, written, on the disk), as positions of the log."""
    return (atomic_load64(&effects_log.tail, SEQ_CST), atomic_load64(&aof.written, SEQ_CST),
            atomic_load64(&aof.synced, SEQ_CST))


def figures() -> dict:
    """Of the file: bytes, bytes taken but not written, and the error that must end the process (errno, by fsync?)."""
    cdef i64 buffered
    racy_begin()                       # whole words of about this moment: a disk that hangs must not hold up who asks
    buffered = <i64>(aof.len - aof.done + (effects_log.tail - effects_log.taken))
    found = {"bytes": aof.bytes, "buffered": max(buffered, 0),
             "fatal": (aof.fatal_errno, bool(aof.fatal_sync)), "errno": conf.aof_errno}
    racy_end()
    return found


OFF, FIRST, ON = AOF_OFF, AOF_FIRST, AOF_ON
hook_drain = drain
aof.fd = aof.index_fd = -1
aof.limit = NO_LIMIT
