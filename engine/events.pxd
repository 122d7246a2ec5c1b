# What else wants to know that a key changed: keyspace notifications, WATCH, clients that wait for the key.
# All of it is called under the lock of the key's partition, and costs a flag's test where nobody asked.
#
# A command that changes a value calls key_changed once for each event that Valkey sends, in Valkey's order, and adds to
# c.dirty. Storing a key (key_put, key_put_value) and deleting one (key_delete) wake waiting clients by themselves; a
# command that adds to a stream, or makes a key out of nothing in another way, calls key_ready.
from engine.defs cimport *
from engine.command cimport Ctx, Session
from engine.conf cimport conf
from engine.store cimport Key, Partition

cdef enum:                         # classes of notify-keyspace-events
    N_KEYSPACE = 1                 # K
    N_KEYEVENT = 2                 # E
    N_GENERIC = 4                  # g
    N_STRING = 8                   # $
    N_LIST = 16                    # l
    N_SET = 32                     # s
    N_HASH = 64                    # h
    N_ZSET = 128                   # z
    N_EXPIRED = 256                # x
    N_EVICTED = 512                # e
    N_STREAM = 1024                # t
    N_KEY_MISS = 2048              # m
    N_MODULE = 8192                # d
    N_NEW = 16384                  # n

# set by net/pubsub: a message on a channel, from a command that runs under a partition's lock
ctypedef void (*publish_fn)(Ctx* c, const char* channel, size_t channel_len, const char* text,
                            size_t text_len) noexcept nogil
cdef publish_fn hook_publish
# set by net/tracking: a key was modified; a database was flushed. Called where conf.tracking is set
ctypedef void (*tracked_fn)(Ctx* c, Key* k) noexcept nogil
ctypedef void (*flushed_fn)(Ctx* c) noexcept nogil
cdef tracked_fn hook_tracked
cdef flushed_fn hook_flushed

cdef struct Watch:                 # one key that a session watches; on its partition's list and on the session's
    Session* session
    Watch* next                    # of the partition
    Watch* prev
    Watch* session_next
    Partition* part
    u64 hash
    u32 db
    u32 klen
    u32 expired                    # it was already expired when WATCH was called
    u32 pad
    char key[0]

cdef void notify_slow(Ctx* c, u32 event_class, const char* event, Key* k) noexcept nogil
cdef void tracked_slow(Ctx* c, Key* k) noexcept nogil
cdef void watch_hit(Key* k) noexcept nogil
cdef void watch_hit_db(u32 db, i64 replaced_by, i64 now_ms) noexcept nogil    # FLUSHDB, SWAPDB; all partitions are held
cdef void ready_db(Ctx* c, u32 db) noexcept nogil      # after FLUSHDB, SWAPDB, with all partitions held
cdef void ready_slow(Ctx* c, Key* k) noexcept nogil
cdef void watch_key(Session* s, Key* k, i64 now_ms) noexcept nogil
cdef void unwatch_all(Session* s, bint locked) noexcept nogil
cdef bint watch_failed(Session* s, i64 now_ms) noexcept nogil


cdef inline void notify(Ctx* c, u32 event_class, const char* event, Key* k) noexcept nogil:
    """A keyspace event, if it was asked for (notify-keyspace-events)."""
    if unlikely(conf.notify & event_class):
        notify_slow(c, event_class, event, k)


cdef inline void key_modified(Ctx* c, Key* k) noexcept nogil:
    """A key's value changed, or the key came or went: who watches it must know."""
    if unlikely(k.part.watches != NULL):
        watch_hit(k)
    if unlikely(conf.tracking):
        tracked_slow(c, k)


cdef inline void key_changed(Ctx* c, Key* k, u32 event_class, const char* event) noexcept nogil:
    """key_modified and notify: what nearly every write does."""
    key_modified(c, k)
    notify(c, event_class, event, k)


cdef inline void key_ready(Ctx* c, Key* k) noexcept nogil:
    """A key has something for clients that wait for it (they run when this command has ended)."""
    if unlikely(k.part.waits != NULL):
        ready_slow(c, k)
