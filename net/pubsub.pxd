# Publish and subscribe: who listens to which channel or pattern, and how a message reaches them.
#
# Channels (and shard channels, the same with another kind) lie in tables by their hash, each with a lock; patterns in a
# table of their own. A channel has an array of its subscribers, a connection a list of its subscriptions; a Link is one
# pair of both. These locks come after the partitions' and before the inboxes', and nothing waits while one is held.
#
# A message is encoded once. Who is on the publisher's worker gets it into the output at once, every other worker one
# message with the bytes and the list of who they are for, posted under the channel's lock: so all see one order.
from engine.defs cimport *
from engine.command cimport Ctx
from engine.reply cimport OutBuf
from net.conn cimport Worker, Conn, Message

cdef enum:
    PS_CHANNEL = 0
    PS_PATTERN = 1
    PS_SHARD = 2
    PS_KINDS = 3

cdef struct Subscriber:
    Conn* conn
    u64 id
    Link* link
    u32 worker
    u32 pad

cdef struct Channel:
    Channel* next              # in its place of the table
    u64 hash
    u32 kind
    u32 len
    u32 n
    u32 cap
    Subscriber* subscribers
    char name[0]

cdef struct Link:
    Link* next                 # of the connection, one kind, oldest first
    Link* prev
    Link* chain                # in the connection's table
    Channel* channel
    u64 place                  # in channel.subscribers; under the channel's lock

cdef struct Subs:              # of a connection; only its worker looks
    Link* first[PS_KINDS]
    Link* last[PS_KINDS]
    Link** table
    u32 cap
    u32 n

cdef struct Shelf:             # a table of channels
    u32 lock
    u32 cap
    u32 n
    u32 pad
    Channel** places

cdef enum:
    SHELVES = 64

cdef Shelf shelves[SHELVES]
cdef Shelf patterns
cdef u64 pubsub_counts[PS_KINDS]           # channels, patterns, shard channels that have subscribers

cdef bint pubsub_add(Conn* c, u32 kind, const char* name, size_t n) noexcept nogil
cdef bint pubsub_remove(Worker* w, Conn* c, u32 kind, const char* name, size_t n) noexcept nogil
cdef void pubsub_leave(Conn* c) noexcept nogil         # all subscriptions end without a reply
cdef i64 pubsub_publish(Ctx* c, u32 kind, const char* channel, size_t channel_len, const char* text,
                        size_t text_len) noexcept nogil
cdef i64 pubsub_subscribers(u32 kind, const char* name, size_t n) noexcept nogil
cdef void pushes_flush(Worker* w) noexcept nogil       # what a command pushed to its own connection: after its reply
cdef OutBuf* conn_push(Worker* w, Conn* c, void* own) noexcept nogil
cdef Worker* worker_of(Ctx* c) noexcept nogil
cdef void on_published(Worker* w, Message* m, void* own) noexcept nogil
