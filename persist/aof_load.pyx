# slotring: data plane
"""Reading an append-only file: its commands are run in place, with the look-ahead of the workers.

`begin`, then `step` until it says something else than MORE, then `end`. Nothing expires meanwhile but what the file
deletes, nothing is logged, nobody is notified. Either no worker runs yet, or the caller holds every lock.
What the answers mean to a person is said in aof_check.py."""
from libc.stdlib cimport abort, free, malloc, realloc
from libc.string cimport memchr, memcpy, memset
from engine.command cimport *
from engine.conf cimport conf
from engine.defs cimport *
from engine.imports cimport S_IMPORT
from engine.keyspace cimport key_init, lfu_initial, lfu_policy, lru_clock
from engine.racy cimport racy_begin, racy_end
from engine.reply cimport *
from engine.store cimport *
from persist.ahead cimport *

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void*, size_t, int, int, int, i64)
    int munmap(void*, size_t)
    int madvise(void*, size_t, int)
    void* MAP_FAILED
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_NORESERVE, MADV_SEQUENTIAL, MADV_DONTNEED

cdef enum:
    GOT_END = 0                    # of the file, between two commands
    GOT_COMMAND = 1
    GOT_MORE = 2                   # go on
    GOT_SHORT = 3                  # the file ends within a command
    GOT_FORMAT = 4
    GOT_UNKNOWN = 5                # no such command
    GOT_ARITY = 6
    GOT_FOREIGN = 7                # a command that has no place in such a file

    KIND_DATA = 0
    KIND_MULTI = 1
    KIND_EXEC = 2
    KIND_NOTE = 3                  # CLUSTER SYNCSLOTS: of a slot import, for the control plane

    STEP_BYTES = 2 << 20           # between two looks of the control plane
    FORGET_BYTES = 32 << 20        # what is read is given back in pieces of this
    PAGE = 4096
    HEAD_DIGITS_MAX = 18
    TEXT_MAX = 256
    WORDS_MAX = 128

END, COMMAND, MORE, SHORT, FORMAT, UNKNOWN, ARITY, FOREIGN = range(8)

cdef struct Item:                  # a command that was read
    Command* cmd
    i64 argi                       # its arguments in args
    i64 argc
    char* end                      # where it ends in the file
    Key key
    u32 keyed
    u32 kind

cdef struct Args:
    Arg* at
    i64 n
    i64 cap

cdef struct Saved:                 # settings that are others while this loads
    i64 import_mode
    i64 effects
    i64 notify
    i64 tracking

cdef struct Aof:
    char* start
    char* p
    char* end
    char* forgotten                # before this the pages are given back
    i64 valid                      # up to here all is well and was run
    i64 before_multi
    bint in_multi
    Ctx ctx
    Session session
    OutBuf out
    ChunkPool pool
    Args args                      # of the batch
    Args queued_args               # of the transaction
    Item* queue
    i64 queued
    i64 queue_cap
    Item batch[AHEAD_MAX]
    u64 commands
    u64 errors
    char first_error[TEXT_MAX]
    u32 first_error_len
    char failed_name[40]           # the command that the first error was about
    i64 refused_argi               # the command that cannot be run, among args
    i64 refused_argc
    Command* refused               # its row, if it has one
    bint refused_container         # it is the row of its first word: there is no such subcommand
    Args notes                     # words of notes, one after the other; an empty place ends each
    Saved saved
    bint open_

cdef Aof a                         # one load at a time


# ---- reading

cdef void args_room(Args* s, i64 n) noexcept nogil:
    if s.n + n > s.cap:
        s.cap = s.cap * 2 if s.cap * 2 >= s.n + n else s.n + n + 256
        s.at = <Arg*>realloc(s.at, s.cap * sizeof(Arg))
        if s.at == NULL:
            abort()


cdef inline char* line_number(char* p, char* end, i64* v) noexcept nogil:
    """The number that begins at p, as atoi would say it, and the place after its line; the file's end counts as one."""
    cdef char* nl
    cdef i64 n = 0
    cdef int digits = 0
    cdef bint minus = False
    if p < end and (p[0] == c'-' or p[0] == c'+'):
        minus = p[0] == c'-'
        p += 1
    while p < end and c'0' <= p[0] <= c'9' and digits < HEAD_DIGITS_MAX:
        n = n * 10 + (p[0] - c'0')
        digits += 1
        p += 1
    v[0] = -n if minus else n
    if end - p >= 2 and p[0] == c'\r' and p[1] == c'\n':
        return p + 2
    nl = <char*>memchr(p, c'\n', end - p)
    return end if nl == NULL else nl + 1


cdef int read_command(Item* item) noexcept nogil:
    """The next command: its arguments go to a.args."""
    cdef char* p = a.p
    cdef char* nl
    cdef i64 argc, n, i
    while p < a.end and p[0] == c'#':
        nl = <char*>memchr(p, c'\n', a.end - p)
        p = a.end if nl == NULL else nl + 1
    a.p = p
    if p == a.end:
        return GOT_END
    if p[0] != c'*':
        return GOT_FORMAT
    if p + 1 == a.end:
        return GOT_SHORT
    p = line_number(p + 1, a.end, &argc)
    if argc < 1:
        return GOT_FORMAT
    item.argi = a.args.n
    item.argc = argc
    for i in range(argc):
        if p == a.end:
            return GOT_SHORT
        if p[0] != c'$':
            return GOT_FORMAT
        p = line_number(p + 1, a.end, &n)
        if n < 0:
            return GOT_FORMAT
        if a.end - p < n + 2:
            return GOT_SHORT
        args_room(&a.args, 1)
        a.args.at[a.args.n].ptr = p
        a.args.at[a.args.n].len = <size_t>n
        a.args.n += 1
        p += n + 2
    a.p = item.end = p
    return GOT_COMMAND


cdef int refuse(int why, Item* item) noexcept nogil:
    """A command that cannot be run."""
    a.refused_argi = item.argi
    a.refused_argc = item.argc
    a.refused = item.cmd
    return why


cdef int prepare(Item* item) noexcept nogil:
    """Row, hash and slot of a command; GOT_COMMAND, or why it cannot be run."""
    cdef Arg* argv = &a.args.at[item.argi]
    cdef Command* cmd
    cdef Command* sub
    item.kind = KIND_DATA
    item.keyed = 0
    item.cmd = NULL
    cmd = command_find(argv[0].ptr, argv[0].len, NULL, 0)
    if unlikely(cmd != NULL and cmd.flags & F_CONTAINER and item.argc > 1):
        sub = command_find(argv[0].ptr, argv[0].len, argv[1].ptr, argv[1].len)
        if sub == NULL:
            a.refused_container = True
            return refuse(GOT_UNKNOWN, item)
        cmd = sub
    item.cmd = cmd
    if unlikely(cmd == NULL or not cmd.flags & (F_WRITE | F_READONLY)):
        if arg_is(&argv[0], b"multi", 5):
            item.kind = KIND_MULTI
            return GOT_COMMAND
        if arg_is(&argv[0], b"exec", 4):
            item.kind = KIND_EXEC
            return GOT_COMMAND
        if cmd != NULL and item.argc > 2 and arg_is(&argv[0], b"cluster", 7) and arg_is(&argv[1], b"syncslots", 9):
            item.kind = KIND_NOTE
            return GOT_COMMAND
    if cmd == NULL:
        return refuse(GOT_UNKNOWN, item)
    if (cmd.arity > 0 and item.argc != cmd.arity) or item.argc < -cmd.arity:
        return refuse(GOT_ARITY, item)
    if cmd.fn == NULL or not (cmd.flags & (F_WRITE | F_READONLY) or arg_is(&argv[0], b"select", 6)
                              or arg_is(&argv[0], b"ping", 4)):
        return refuse(GOT_FOREIGN, item)
    if cmd.first and cmd.first < item.argc:
        item.keyed = 1
        key_init(&a.ctx, &item.key, &argv[cmd.first])
        prefetch(&store.dbs[item.key.db].slots[item.key.slot])
    return GOT_COMMAND


# ---- running

cdef void note_error(Command* cmd) noexcept nogil:
    """The first error is kept as text."""
    cdef char* p
    cdef size_t n
    a.errors += 1
    if a.first_error_len or a.out.tail == NULL:
        return
    p = a.out.tail.data
    n = a.out.pos - p
    if n < 3 or p[0] != c'-':
        return
    n = n - 3 if n - 3 < TEXT_MAX else TEXT_MAX
    memcpy(a.first_error, p + 1, n)
    a.first_error_len = <u32>n
    memcpy(a.failed_name, cmd.name, sizeof(a.failed_name))


cdef inline void forget_reply() noexcept nogil:
    if likely(a.out.chunks <= 1 and a.out.tail != NULL):
        a.out.pos = a.out.tail.data
    elif a.out.head != NULL:
        out_free(&a.out)


cdef void run_on_fields(Ctx* c, Command* cmd) noexcept nogil:
    """A command about a hash with fields that expire: to it none has, whatever time it is."""
    cdef i64 now_ms = c.now_ms
    cdef Entry* e
    c.now_ms = 0
    cmd.fn(c)
    c.now_ms = now_ms
    e = table_find(&c.key)
    if e != NULL:                      # it was touched at another time
        e.head = (e.head & 0xFF) | (lfu_initial(now_ms) if lfu_policy() else lru_clock(now_ms)) << 8


cdef inline bint is_relative(Command* cmd) noexcept nogil:
    """HEXPIRE and HPEXPIRE count from now."""
    return (cmd.name_len == 7 or cmd.name_len == 8) and memcmp(cmd.name + cmd.name_len - 6, b"expire", 6) == 0


cdef void run(Item* item, Arg* argv) noexcept nogil:
    cdef Ctx* c = &a.ctx
    cdef Command* cmd = item.cmd
    cdef u32 errors = a.out.errors
    cdef Entry* e
    a.commands += 1
    c.argv = argv
    c.argc = item.argc
    c.cmd = cmd
    c.db = a.session.db
    if item.keyed:
        c.key = item.key
        c.key.db = c.db
    if unlikely(cmd.name[0] == c'h' and cmd.flags & F_VALUE and item.keyed and not is_relative(cmd)):
        e = table_find(&c.key)
        if e != NULL and e.flags & E_FIELDS:
            run_on_fields(c, cmd)
        else:
            cmd.fn(c)
    else:
        cmd.fn(c)
    if unlikely(a.out.errors != errors):
        note_error(cmd)
    forget_reply()


cdef void queue_item(Item* item) noexcept nogil:
    """A command between MULTI and EXEC: its bytes stay where they are."""
    cdef Item* q
    if a.queued == a.queue_cap:
        a.queue_cap = a.queue_cap * 2 + 32
        a.queue = <Item*>realloc(a.queue, a.queue_cap * sizeof(Item))
        if a.queue == NULL:
            abort()
    q = &a.queue[a.queued]
    q[0] = item[0]
    args_room(&a.queued_args, item.argc)
    q.argi = a.queued_args.n
    memcpy(a.queued_args.at + a.queued_args.n, a.args.at + item.argi, item.argc * sizeof(Arg))
    a.queued_args.n += item.argc
    a.queued += 1


cdef void run_queue() noexcept nogil:
    cdef i64 i
    for i in range(a.queued):
        run(&a.queue[i], &a.queued_args.at[a.queue[i].argi])
    a.queued = 0
    a.queued_args.n = 0
    a.in_multi = False


cdef void keep_note(Item* item) noexcept nogil:
    """A note's words: the file's bytes may be given back before anybody asks."""
    cdef Arg* arg
    cdef char* copy
    cdef i64 i
    args_room(&a.notes, item.argc + 1)
    for i in range(item.argc):
        arg = &a.args.at[item.argi + i]
        copy = <char*>malloc(arg.len + 1)
        if copy == NULL:
            abort()
        memcpy(copy, arg.ptr, arg.len)
        a.notes.at[a.notes.n].ptr = copy
        a.notes.at[a.notes.n].len = arg.len
        a.notes.n += 1
    a.notes.at[a.notes.n].ptr = NULL
    a.notes.n += 1


cdef int take(Item* item) noexcept nogil:
    """Run a command, or queue it."""
    if unlikely(item.kind == KIND_NOTE):
        keep_note(item)
    elif item.kind == KIND_DATA:
        if a.in_multi:
            queue_item(item)
        else:
            run(item, &a.args.at[item.argi])
    elif item.kind == KIND_MULTI:
        if a.in_multi:
            return refuse(GOT_FOREIGN, item)
        a.in_multi = True
        a.before_multi = a.valid
    elif a.in_multi:                   # (Valkey's EXEC without MULTI does nothing either)
        run_queue()
    a.valid = item.end - a.start
    return GOT_COMMAND


cdef int load_batch() noexcept nogil:
    """Up to AHEAD_MAX commands: read, looked up, looked ahead, run. GOT_MORE, or what ended it."""
    cdef Key* keys[AHEAD_MAX]
    cdef u32 n = 0, k = 0, i
    cdef int got = GOT_COMMAND
    cdef char* before
    a.args.n = 0
    a.ctx.db = a.session.db
    while n < AHEAD_MAX:
        before = a.p
        got = read_command(&a.batch[n])
        if got == GOT_COMMAND:
            got = prepare(&a.batch[n])
            if got != GOT_COMMAND:
                a.p = before
        if got != GOT_COMMAND:
            break
        if a.batch[n].keyed:
            keys[k] = &a.batch[n].key
            k += 1
        n += 1
    keys_ahead(keys, k, True)
    for i in range(n):
        if take(&a.batch[i]) != GOT_COMMAND:
            a.p = a.start + a.valid
            return GOT_FOREIGN
    return GOT_MORE if got == GOT_COMMAND else got


cdef void forget() noexcept nogil:
    """Pages that are read need not stay."""
    cdef size_t n
    if not a.in_multi and a.p - a.forgotten > FORGET_BYTES:
        n = (a.p - a.forgotten) & ~<size_t>(PAGE - 1)
        madvise(a.forgotten, n, MADV_DONTNEED)
        a.forgotten += n


cdef int load_step(size_t bytes_) noexcept nogil:
    cdef char* until = a.p + bytes_
    cdef int got = GOT_MORE
    a.ctx.now_ms = wall_us() // 1000
    while got == GOT_MORE and a.p < until:
        got = load_batch()
    forget()
    if got == GOT_MORE:
        return got
    if a.in_multi:
        a.valid = a.before_multi
        return GOT_SHORT if got == GOT_END else got
    if got == GOT_END:                 # annotations at the end too
        a.valid = a.p - a.start
    return got


# ---- what the control plane calls

cdef void settings_on() noexcept nogil:
    """As in an import nothing expires by itself; nobody hears or logs what is done."""
    a.saved.import_mode = conf.import_mode
    a.saved.effects = conf.effects
    a.saved.notify = conf.notify
    a.saved.tracking = conf.tracking
    racy_begin()                       # whole words, that idle workers and the cron look at
    conf.import_mode = 1
    conf.effects = conf.notify = conf.tracking = 0
    racy_end()


cdef void settings_back() noexcept nogil:
    racy_begin()
    conf.import_mode = a.saved.import_mode
    conf.effects = a.saved.effects
    conf.notify = a.saved.notify
    conf.tracking = a.saved.tracking
    racy_end()


def begin(int fd, size, offset=0) -> bool:
    """Map a file whose commands begin at offset; False: it cannot be mapped. `end` must follow in any case."""
    cdef void* mem
    end()
    memset(&a, 0, sizeof(Aof))
    out_init(&a.out, &a.pool)
    a.session.flags = S_IMPORT
    a.session.resp = 2
    a.ctx.session = &a.session
    a.ctx.out = &a.out
    a.ctx.resp = 2
    a.ctx.random = rdtsc() * 2 + 1
    a.ctx.no_block = a.ctx.no_ready = a.ctx.held = True
    a.open_ = True
    settings_on()
    if size:
        mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0)
        if mem == MAP_FAILED:
            return False
        madvise(mem, size, MADV_SEQUENTIAL)
        a.start = a.forgotten = <char*>mem
        a.p = a.start + <size_t>offset
        a.end = a.start + <size_t>size
        a.valid = offset
    return True


def step(size_t bytes_=STEP_BYTES) -> int:
    """Load so many bytes or some more (two megabytes): MORE, or what ended it."""
    cdef int got
    with nogil:
        got = load_step(bytes_)
    return got


def figures() -> dict:
    """How far it is: offset, valid (up to there all was run), commands, errors, and the words about those."""
    refused = a.refused.name[:a.refused.name_len] if a.refused != NULL else b""
    return {"offset": a.p - a.start, "valid": a.valid, "size": a.end - a.start, "commands": a.commands,
            "errors": a.errors, "first_error": a.first_error[:a.first_error_len], "failed": <bytes>a.failed_name,
            "in_multi": bool(a.in_multi), "db": a.session.db, "refused": refused,
            "container": bool(a.refused_container)}


def notes() -> list:
    """What the file says of slot imports, in its order: the words of each CLUSTER SYNCSLOTS."""
    cdef Arg* at
    cdef i64 i
    found, now = [], []
    for i in range(a.notes.n):
        at = &a.notes.at[i]
        if at.ptr != NULL:
            now.append(at.ptr[:at.len])
        else:
            found.append(now)
            now = []
    return found


def words() -> list:
    """After UNKNOWN, ARITY, FOREIGN: the command's words, the first ones, cut."""
    cdef Arg* at
    cdef i64 i
    found = []
    for i in range(min(a.refused_argc, WORDS_MAX)):
        at = &a.args.at[a.refused_argi + i]
        found.append(at.ptr[:at.len if at.len < TEXT_MAX else TEXT_MAX])
    return found


def end() -> None:
    """The settings as they were, the mapping gone."""
    cdef Chunk* chunk
    cdef i64 i
    if not a.open_:
        return
    for i in range(a.notes.n):
        free(<void*>a.notes.at[i].ptr)
    free(a.notes.at)
    a.notes.at = NULL
    a.notes.n = 0
    settings_back()
    out_free(&a.out)
    while a.pool.free != NULL:
        chunk = a.pool.free
        a.pool.free = chunk.next
        free(chunk)
    free(a.args.at)
    free(a.queued_args.at)
    free(a.queue)
    free(a.ctx.fx)
    if a.start != NULL:
        munmap(a.start, a.end - a.start)
    a.open_ = False
    a.start = a.p = a.end = NULL
    a.args.at = a.queued_args.at = NULL
    a.queue = NULL
    a.refused_argc = 0
    a.ctx.fx = NULL
