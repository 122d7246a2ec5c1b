# What slots on the move leave behind: their contents as commands, and then what is logged of them.
#
# A feed belongs to one slot transfer. `capture` writes a slot as commands and from that moment on, under the lock of
# the slot's partition, the log's records of that slot belong to the feed: contents and records together are the slot,
# at every position of the log. The log's reader (persist/aof.pyx) hands the records over as it meets them, in the
# log's order; whoever sends them takes them (aof.take_feed). A record that touches all slots (FLUSHALL) ends the
# feeds.
from engine.defs cimport *
from engine.effects cimport Record
from engine.hashing cimport SLOTS

cdef enum:
    FEEDS_MAX = 64
    FEED_OPEN = 1
    FEED_FULL = 2                  # more was logged than it may keep
    FEED_ALL = 3                   # something happened to all slots

cdef struct Feed:
    u32 lock
    u32 state                      # 0: nobody's
    u32 age                        # how many there were in this place
    u32 db                         # of the last record; NO_FEED_DB: to be said again
    char* p                        # records that nobody has taken yet
    size_t len
    size_t cap
    size_t limit                   # bytes
    u64 total                      # bytes so far

cdef struct Feeds:
    u32 open                       # how many there are
    bint logged                    # the append-only file reads the log too; changed with all locks held
    u8[SLOTS] of_slot              # feed + 1; 0: none
    u64[SLOTS] since               # position from which on the slot's records are the feed's
    Feed[FEEDS_MAX] feeds
    # the record that the log's reader is at
    Feed* now
    u32 now_age
    u64 skip                       # bytes of it that are not wanted: MULTI at its head
    u64 keep                       # and how many then are, before EXEC

cdef Feeds feeds

cdef void feed_record(Record* r, u64 at) noexcept nogil         # the reader is at a record, at a position
cdef void feed_bytes(const char* p, size_t n) noexcept nogil    # the next bytes of it
# what was handed over since the last call, malloc'ed, to the caller; False: it ends within a record. The reader rests.
cdef bint feed_take(int feed, char** p, size_t* n) noexcept nogil
