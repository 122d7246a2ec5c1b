# Commands that wait. A command that finds nothing calls block_on, under the locks of its keys' partitions, and returns
# without a reply; it is run again from the start, with the same arguments, when one of the keys is ready (events.pxd),
# by the worker that made it ready and with the locks of all its keys. A run that has something replies; one that calls
# block_on again keeps waiting, in its old place of the queue. Clients are served in the order in which they came.
#
# In a transaction or script a command must not wait: where c.no_block is set it replies as if its time had run out.
from engine.defs cimport *
from engine.command cimport Ctx, Arg, Session, Command
from engine.reply cimport OutBuf
from engine.store cimport Key, Partition

cdef enum:
    WAIT_NULL = 0                  # the reply at the end of the time: a null
    WAIT_NULL_ARRAY = 1
    WAIT_ON_DELETE = 4             # added: run again too when a key is deleted or changes its type (XREADGROUP)
    WAIT_LIST = 1 << 8             # added: what the key must hold: TYPE_… << 8
    WAIT_ZSET = 3 << 8
    WAIT_STREAM = 6 << 8

    WAIT_BUCKETS = 64

    WAITING = 0                    # Blocked.state
    SERVED = 1                     # somebody has the right to answer it
    GONE = 2

cdef struct WaitNode:              # a client on a key's queue
    Blocked* blocked
    WaitNode* next
    WaitNode* prev
    Partition* part
    u64 hash
    const char* key
    u32 klen
    u32 db

cdef struct WaitTable:             # of a partition: queues by hash, in order of arrival
    WaitNode* first[WAIT_BUCKETS]
    WaitNode* last[WAIT_BUCKETS]
    u32 count

cdef struct Blocked:               # a command that waits, owned by its connection
    u32 state
    u32 flags                      # WAIT_…
    Blocked* next_free             # never given back: CLIENT UNBLOCK may look at one that has just ended
    void* mem                      # its argv, nodes and bytes, one block
    Session* session
    u64 session_id
    Command* cmd
    Arg* argv                      # its own copies
    i64 argc
    i64 deadline_us                # wall clock; 0: for ever
    i64 since_us
    WaitNode* nodes
    u32 n_nodes
    u32 still                      # the run under way called block_on again
    u32 worker
    u32 resp
    u32 db
    u32 pad

cdef struct Ready:                 # a key that became ready during a command
    Ready* next
    u32 db
    u32 klen
    u64 hash
    u32 slot
    char key[0]

# wait for argv[first], argv[first + step], … (n of them); timeout_ms 0: for ever
cdef void block_on(Ctx* c, i64 first, i64 n, i64 step, i64 timeout_ms, u32 flags) noexcept nogil
# a timeout in seconds, as BLPOP takes it; False: the error was replied
cdef bint timeout_arg(Ctx* c, Arg* a, i64* timeout_ms) noexcept nogil
cdef Blocked* blocked_new() noexcept nogil
cdef void blocked_unlink(Blocked* b) noexcept nogil      # takes the partitions' locks itself
cdef void blocked_free(Blocked* b) noexcept nogil
cdef bint blocked_claim(Blocked* b) noexcept nogil       # may I answer it? At most one is told so
cdef Blocked* ready_next(Ready* r, Blocked* after) noexcept nogil
