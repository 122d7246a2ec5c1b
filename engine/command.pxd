# A command is one row and one function. The row is made by `register` at import of its family's module; routing,
# locking, COMMAND, ACL categories and statistics read it. The function runs with the locks that the row's keys ask
# for already held, writes its reply to ctx.out, and touches no Python object.
from engine.defs cimport *
from engine.reply cimport OutBuf
from engine.store cimport Key, Entry, Partition

cdef enum:
    # flags, as COMMAND INFO names them
    F_WRITE = 1
    F_READONLY = 2
    F_DENYOOM = 4
    F_ADMIN = 8
    F_PUBSUB = 16
    F_NOSCRIPT = 32
    F_BLOCKING = 64
    F_LOADING = 128
    F_STALE = 256
    F_SKIP_MONITOR = 512
    F_SKIP_COMMANDLOG = 1024
    F_ASKING = 2048
    F_FAST = 4096
    F_NO_AUTH = 8192
    F_MAY_REPLICATE = 16384
    F_NO_ASYNC_LOADING = 32768
    F_NO_MULTI = 65536
    F_MOVABLEKEYS = 131072
    F_ALLOW_BUSY = 262144
    F_CONTAINER = 524288       # has subcommands (not shown)
    F_IMMEDIATE = 1048576      # runs inside MULTI instead of being queued (not shown)
    F_VALUE = 2097152          # of a type whose values are apart from their entries (not shown)

    LOCK_NONE = 0              # the function takes what it needs
    LOCK_KEY = 1               # the partition of the one key
    LOCK_KEYS = 2              # the partitions of all keys, ascending
    LOCK_ALL = 3
    LOCK_SELF = 4              # takes partitions one by one itself, unless c.held (a transaction holds all)

    COMMANDS_MAX = 512
    COMMAND_HASH = 2048        # places of the name table, a power of two

cdef struct Arg:
    char* ptr
    size_t len

cdef struct Session:           # what a connection is to the commands
    u64 id
    u32 db
    u32 resp
    u32 flags
    u32 cas_dirty              # a watched key changed (other threads set it)
    u32 worker                 # the thread that serves it
    u32 watched                # how many keys it watches
    void* watches              # Watch*, see events.pxd
    void* blocked              # Blocked*, see blocking.pxd: the session waits

cdef enum:
    S_NO_TOUCH = 1             # CLIENT NO-TOUCH on
    S_NO_EVICT = 2
    S_PUBSUB = 4               # has subscriptions
    S_TRACKING = 8             # is told when keys that it has read change
    # 16: see imports.pxd
    S_ASKING = 32              # ASKING was the last command
    S_ASKED = 64               # and is about the one under way (or the transaction)
    S_READONLY = 128           # READONLY: reads of the primary's slots are served by its replica
    S_OBEY = 256               # not a client: what it sends is run whoever owns the slot

cdef struct Ctx:               # one command under way; a worker has one
    Arg* argv
    i64 argc
    OutBuf* out
    Session* session
    Command* cmd
    i64 now_ms                 # wall clock of this turn of the loop
    u32 db
    u32 resp
    i64 dirty                  # changes to the data set
    u64 hits
    u64 misses
    u64 expired
    u64 random                 # state of the worker's generator
    bint no_block              # in a transaction or script: reply instead of waiting
    bint no_ready              # the keys' waiting clients are served in another way
    bint unasked               # what changes is not the session's doing: expiry, eviction
    bint held                  # the caller holds every lock that is needed: take none
    void* rerun                # Blocked*: this is another run of a command that waits
    void* ready                # Ready*: keys that became ready
    void* ready_last
    u32 turned                 # the command did not run: TURNED_… of net/router.pxd
    u32 slot                   # of a command's keys where `key` does not say it; SLOTS: none
    Key key                    # the first key, hash and slot already computed
    # what the command under way leaves in the log, see effects.pxd
    char* fx                   # records as RESP, malloc'ed, kept from command to command
    size_t fx_len
    size_t fx_cap
    size_t fx_words            # where the record begins that is being written
    u32 fx_n                   # records
    u32 fx_first_db            # database of the first of them, of the last
    u32 fx_db
    u32 fx_slot                # of all of them; SLOTS: of several
    u32 fx_own                 # the command says its effects itself: its words are not logged
    u32 fx_now                 # its locks go before it ends: each record goes to the log at once
    u32 fx_inside              # a command is under way
    u32 log_id                 # who writes to the log: the worker's index, or LOG_CRON

ctypedef void (*cmd_fn)(Ctx* c) noexcept nogil
# Places of the keys among the arguments, for rows whose first, last and step do not say it: at most `most` are
# written to `places`; returns how many there are, or -1 - n: n are told, others cannot be (everything is locked).
ctypedef i64 (*keys_fn)(Arg* argv, i64 argc, i64* places, i64 most) noexcept nogil

cdef struct Command:
    char name[40]              # lower case; subcommands "object|encoding"
    u32 name_len
    u32 id
    cmd_fn fn                  # NULL: a Python callable, kept under id
    i32 arity
    u32 lock
    u64 flags
    i32 first
    i32 last
    i32 step
    u32 special                # whose keys follow a count, see multikey.pxd
    keys_fn get_keys           # NULL: first, last and step (and special) tell

cdef Command commands[COMMANDS_MAX]
cdef u32 commands_used
cdef u16 command_places[COMMAND_HASH]

cdef Command* command_find(const char* name, size_t n, const char* sub, size_t sub_n) noexcept nogil
cdef object register(str name, int arity, str flags, tuple keys, cmd_fn fn, dict about=*)


cdef inline bint arg_is(Arg* a, const char* word, size_t n) noexcept nogil:
    """Is an argument this word (given in lower case, n bytes), whatever its case?"""
    cdef size_t i
    if a.len != n:
        return False
    for i in range(n):
        if (a.ptr[i] | 0x20) != word[i]:
            return False
    return True


cdef inline u64 ctx_random(Ctx* c) noexcept nogil:
    """xorshift64*"""
    c.random ^= c.random >> 12
    c.random ^= c.random << 25
    c.random ^= c.random >> 27
    return c.random * <u64>2685821657736338717
