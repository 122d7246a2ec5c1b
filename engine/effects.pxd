# The effects log: what commands did to the data, as the commands that do it again, in one order for all keys.
#
# A command's effect is its own words, unless it calls effect_own and says others (effect_begin … effect_end): those
# that do the same at any other time and place. Effects are collected while the command runs and go to the log when it
# has ended, still under the locks of its keys: that gives each key its order without a lock for all. Several effects
# of one command, and those of a transaction, stay together between MULTI and EXEC. With no reader (conf.effects 0) all
# this costs one test of a word.
#
# The log is a ring of bytes. A writer takes a range with one atomic addition, copies, and says that it is done
# (`pending`); the reader takes whole records up to the first range that is still being written. Where the ring is full
# the writer makes room itself by running the reader (hook_drain), so what is logged may be larger than the ring.
#
# A record: struct Record, then `len` bytes of RESP, then up to 7 bytes of padding.
from engine.conf cimport conf
from engine.defs cimport *
from engine.command cimport Ctx, Command
from engine.store cimport Key

cdef enum:
    LOG_BYTES = 1 << 23            # of the ring, a power of two
    LOG_CRON = 64                  # log_id of the control thread; workers come before it
    LOG_SLOTS = 65                 # of who deletes by slot, one at a time (slots.pxd)
    LOG_WRITERS = 66

cdef struct Record:
    u64 len                        # bytes of RESP that follow
    u32 db                         # database in which they begin, and in which they end
    u32 db_after
    u32 slot                       # of all keys; SLOTS: of several slots, or of none
    u32 count                      # commands, MULTI and EXEC included

cdef struct Writer:                # a cache line each
    u64 pending                    # it may be writing from here on; LOG_NOTHING: it is not
    char pad[56]

cdef struct Log:
    char* mem
    char pad0[56]
    u64 tail                       # handed out so far
    char pad1[56]
    u64 taken                      # the reader needs nothing before this
    char pad2[56]
    Writer writers[LOG_WRITERS]

ctypedef void (*drain_fn)() noexcept nogil

cdef Log effects_log
cdef drain_fn hook_drain           # set by persist: take what is whole. May be called under partitions' locks.

cdef bint effects_open() noexcept nogil                 # the ring's memory; False: there is none
cdef u64 effects_whole() noexcept nogil                 # the reader may go up to here
cdef void effects_read(u64 at, void* to, size_t n) noexcept nogil      # copies n bytes of the ring

# What a command says instead of its own words. `argc` counts the name too.
cdef void effect_own(Ctx* c) noexcept nogil             # nothing is logged but what follows
cdef void effect_begin(Ctx* c, u32 db, u32 slot, i64 argc, const char* name) noexcept nogil
cdef void effect_arg(Ctx* c, const char* p, size_t n) noexcept nogil
cdef void effect_word(Ctx* c, const char* word) noexcept nogil
cdef void effect_int(Ctx* c, i64 v) noexcept nogil
cdef void effect_end(Ctx* c) noexcept nogil
cdef void effect_words(Ctx* c) noexcept nogil           # the command's own words, in its place among others
cdef void effect_gone(Ctx* c, Key* k) noexcept nogil    # DEL or UNLINK of a key that expired or was evicted

cdef void call_logged(Ctx* c, Command* cmd) noexcept nogil
cdef void effects_commit(Ctx* c) noexcept nogil


cdef inline bint effects_wanted() noexcept nogil:
    """Does anybody read? Ask before saying effects."""
    return unlikely(conf.effects != 0)


cdef inline void call(Ctx* c, Command* cmd) noexcept nogil:
    """Run a row's function, and log what it did. Its locks are held (unless it takes them itself)."""
    if unlikely(conf.effects != 0):
        call_logged(c, cmd)
    else:
        cmd.fn(c)
