# slotring: data plane
"""The effects log; see effects.pxd."""
from libc.stdlib cimport abort, realloc
from libc.string cimport memcpy, memset, strlen
from engine.command cimport *
from engine.conf cimport conf
from engine.defs cimport *
from engine.hashing cimport SLOTS
from engine.multikey cimport command_slots
from engine.reply cimport write_i64
from engine.store cimport Key

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void*, size_t, int, int, int, long)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS
    void* MAP_FAILED
cdef extern from * nogil:
    int SEQ_CST "__ATOMIC_SEQ_CST"
cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef enum:
    HEAD_MAX = 32                      # "$" and a length, or "*" and a count
    FX_KEEP_BYTES = 1 << 20            # a larger buffer of effects is given back
    PIECE_BYTES = LOG_BYTES // 4       # a larger record is copied in pieces of this

cdef u64 NOTHING = <u64>-1
hook_drain = NULL


cdef bint effects_open() noexcept nogil:
    """Once, before anybody logs."""
    cdef void* mem
    cdef u32 i
    if effects_log.mem != NULL:
        return True
    mem = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if mem == MAP_FAILED:
        return False
    for i in range(LOG_WRITERS):
        effects_log.writers[i].pending = NOTHING
    effects_log.mem = <char*>mem
    return True


cdef u64 effects_whole() noexcept nogil:
    """The end of what is written without a gap. The tail is read first: who took a range before that has said so."""
    cdef u64 end = atomic_load64(&effects_log.tail, SEQ_CST), at
    cdef u32 i
    for i in range(LOG_WRITERS):
        at = atomic_load64(&effects_log.writers[i].pending, SEQ_CST)
        if at < end:
            end = at
    return end


cdef void effects_read(u64 at, void* to, size_t n) noexcept nogil:
    cdef size_t place = at & (LOG_BYTES - 1)
    cdef size_t first = LOG_BYTES - place
    if first > n:
        first = n
    memcpy(to, effects_log.mem + place, first)
    memcpy(<char*>to + first, effects_log.mem, n - first)


# ---- writing

cdef u64 log_begin(u32 who, u64 size) noexcept nogil:
    """Take a range."""
    cdef u64* pending = &effects_log.writers[who].pending
    atomic_store64(pending, atomic_load64(&effects_log.tail, SEQ_CST), SEQ_CST)
    cdef u64 at = atomic_add64(&effects_log.tail, size, SEQ_CST) - size
    atomic_store64(pending, at, RELEASE)
    return at


cdef void log_room(u32 who, u64 at, u64 upto) noexcept nogil:
    """Wait until the ring has room up to `upto`; what is before `at` is written."""
    if likely(upto - atomic_load64(&effects_log.taken, ACQUIRE) <= LOG_BYTES):
        return
    atomic_store64(&effects_log.writers[who].pending, at, RELEASE)
    while upto - atomic_load64(&effects_log.taken, ACQUIRE) > LOG_BYTES:
        hook_drain()
        if upto - atomic_load64(&effects_log.taken, ACQUIRE) > LOG_BYTES:
            sched_yield()


cdef u64 log_put(u32 who, u64 at, const void* p, size_t n) noexcept nogil:
    """Copy bytes to their place; returns the place after them."""
    cdef size_t place, first, part
    while n:
        part = n if n < PIECE_BYTES else PIECE_BYTES
        log_room(who, at, at + part)
        place = at & (LOG_BYTES - 1)
        first = LOG_BYTES - place
        if first > part:
            first = part
        memcpy(effects_log.mem + place, p, first)
        memcpy(effects_log.mem, <const char*>p + first, part - first)
        at += part
        p = <const char*>p + part
        n -= part
    return at


cdef inline u64 record_size(u64 n) noexcept nogil:
    return sizeof(Record) + ((n + 7) & ~<u64>7)


cdef inline u64 log_head(Ctx* c, Record* r) noexcept nogil:
    """Take a record's range and write its head; returns where its bytes go."""
    cdef u64 size = record_size(r.len), at = log_begin(c.log_id, size)
    if c.session != NULL:
        c.session.wrote = at + size
    return log_put(c.log_id, at, r, sizeof(Record))


cdef inline void log_end(u32 who, u64 at, u64 n) noexcept nogil:
    """The record is whole (its padding needs room too)."""
    log_room(who, at, at + (-n & 7))
    atomic_store64(&effects_log.writers[who].pending, NOTHING, RELEASE)


# ---- one command's effects

cdef inline size_t put_head(char* to, char kind, i64 n) noexcept nogil:
    cdef size_t k
    to[0] = kind
    k = 1 + write_i64(to + 1, n)
    to[k] = c'\r'
    to[k + 1] = c'\n'
    return k + 2


cdef size_t words_size(Arg* argv, i64 argc) noexcept nogil:
    """Bytes of a command as RESP."""
    cdef char tmp[HEAD_MAX]
    cdef size_t n = put_head(tmp, c'*', argc)
    cdef i64 i
    for i in range(argc):
        n += put_head(tmp, c'$', <i64>argv[i].len) + argv[i].len + 2
    return n


cdef void fx_room(Ctx* c, size_t n) noexcept nogil:
    if c.fx_len + n <= c.fx_cap:
        return
    c.fx_cap = (c.fx_len + n) * 2
    c.fx = <char*>realloc(c.fx, c.fx_cap)
    if c.fx == NULL:
        abort()


cdef void effect_own(Ctx* c) noexcept nogil:
    c.fx_own = 1


cdef void fx_select(Ctx* c, u32 db) noexcept nogil:
    """Between two records of different databases."""
    cdef char tmp[24]
    cdef size_t n = write_i64(tmp, db)
    fx_room(c, 64)
    memcpy(c.fx + c.fx_len, b"*2\r\n$6\r\nSELECT\r\n", 16)
    c.fx_len += 16
    c.fx_n += 1
    c.fx_db = db
    effect_arg(c, tmp, n)


cdef void effect_begin(Ctx* c, u32 db, u32 slot, i64 argc, const char* name) noexcept nogil:
    """A command of argc words that does what was done; its first word."""
    c.fx_words = c.fx_len
    if c.fx_n == 0:
        c.fx_first_db = c.fx_db = db
        c.fx_slot = slot
    else:
        if c.fx_db != db:
            fx_select(c, db)
        if c.fx_slot != slot:
            c.fx_slot = SLOTS
    c.fx_n += 1
    fx_room(c, HEAD_MAX)
    c.fx_len += put_head(c.fx + c.fx_len, c'*', argc)
    effect_arg(c, name, strlen(name))


cdef void effect_arg(Ctx* c, const char* p, size_t n) noexcept nogil:
    fx_room(c, n + HEAD_MAX)
    c.fx_len += put_head(c.fx + c.fx_len, c'$', <i64>n)
    memcpy(c.fx + c.fx_len, p, n)
    c.fx_len += n
    c.fx[c.fx_len] = c'\r'
    c.fx[c.fx_len + 1] = c'\n'
    c.fx_len += 2


cdef void effect_word(Ctx* c, const char* word) noexcept nogil:
    effect_arg(c, word, strlen(word))


cdef void effect_int(Ctx* c, i64 v) noexcept nogil:
    cdef char tmp[24]
    effect_arg(c, tmp, write_i64(tmp, v))


cdef void effect_end(Ctx* c) noexcept nogil:
    """The last word is said. Outside a command, or where its locks will not last, it is logged at once."""
    if not c.fx_inside or c.fx_now:
        effects_commit(c)


cdef void first_slot(void* arg, u32 slot) noexcept nogil:
    cdef u32* first = <u32*>arg
    if first[0] == SLOTS:
        first[0] = slot


cdef u32 words_slot(Ctx* c) noexcept nogil:
    """The slot of the command under way, if its keys have one for sure."""
    cdef u32 slot = SLOTS
    if c.cmd.lock == LOCK_KEY:
        return c.key.slot
    if conf.cluster and c.cmd.lock == LOCK_KEYS:       # its keys are of one slot, or it would not have been run
        command_slots(c.cmd, c.argv, c.argc, first_slot, &slot)
    return slot


cdef void effect_words(Ctx* c) noexcept nogil:
    cdef char name[40]
    cdef i64 i
    name[0] = 0
    effect_begin(c, c.db, words_slot(c), c.argc, name)
    c.fx_len -= 6                      # the empty name: "$0\r\n\r\n"
    for i in range(c.argc):
        effect_arg(c, c.argv[i].ptr, c.argv[i].len)
    effect_end(c)


cdef void effect_gone(Ctx* c, Key* k) noexcept nogil:
    """Valkey's word depends on how the value is freed."""
    effect_begin(c, k.db, k.slot, 2, b"UNLINK" if conf.lazyfree_expire else b"DEL")
    effect_arg(c, k.ptr, k.len)
    effect_end(c)


cdef void log_words(Ctx* c) noexcept nogil:
    """The usual case: a command is its own only effect; its words go straight to the ring."""
    cdef Record r
    cdef char head[HEAD_MAX + 2]
    cdef i64 i
    cdef size_t n
    cdef u64 at
    r.len = words_size(c.argv, c.argc)
    r.db = r.db_after = c.db
    r.slot = words_slot(c)
    r.count = 1
    at = log_head(c, &r)
    at = log_put(c.log_id, at, head, put_head(head, c'*', c.argc))
    for i in range(c.argc):
        n = put_head(head, c'$', <i64>c.argv[i].len)
        at = log_put(c.log_id, at, head, n)
        at = log_put(c.log_id, at, c.argv[i].ptr, c.argv[i].len)
        at = log_put(c.log_id, at, b"\r\n", 2)
    log_end(c.log_id, at, r.len)


cdef void effects_commit(Ctx* c) noexcept nogil:
    """Everything collected goes to the log as one record, under the locks of its keys."""
    cdef Record r
    cdef u64 at
    cdef bint several = c.fx_n > 1
    if c.fx_n == 0:
        return
    r.len = c.fx_len + (29 if several else 0)
    r.db = c.fx_first_db
    r.db_after = c.fx_db
    r.slot = c.fx_slot
    r.count = c.fx_n + (2 if several else 0)
    at = log_head(c, &r)
    if several:
        at = log_put(c.log_id, at, b"*1\r\n$5\r\nMULTI\r\n", 15)
    at = log_put(c.log_id, at, c.fx, c.fx_len)
    if several:
        at = log_put(c.log_id, at, b"*1\r\n$4\r\nEXEC\r\n", 14)
    log_end(c.log_id, at, r.len)
    c.fx_n = 0
    c.fx_len = 0
    if c.fx_cap > FX_KEEP_BYTES:
        c.fx_cap = 0
        c.fx = <char*>realloc(c.fx, 64)
        c.fx_cap = 64


cdef void call_logged(Ctx* c, Command* cmd) noexcept nogil:
    """Run a command and log what it did. Inside a transaction (c.held) its effects wait for the others."""
    cdef i64 dirty = c.dirty
    c.fx_own = 0
    c.fx_inside = 1
    c.fx_now = (cmd.lock == LOCK_NONE or cmd.lock == LOCK_SELF) and not c.held
    cmd.fn(c)
    if c.dirty != dirty and not c.fx_own:
        if c.fx_n == 0 and not c.held:
            log_words(c)
        else:
            effect_words(c)
    c.fx_inside = c.fx_now = 0
    if not c.held:
        effects_commit(c)
