# What other command families borrow from the keys family.
from engine.defs cimport *
from engine.command cimport Ctx, Arg
from engine.store cimport Entry, Key, E_EXPIRE, entry_expire
from engine.events cimport notify, N_KEY_MISS
from engine.keyspace cimport lookup
from engine.reply cimport OutBuf

cdef bint int_arg(Ctx* c, Arg* a, i64* v, const char* message) noexcept nogil
cdef void error_quoting(Ctx* c, const char* before, Arg* a, size_t most,
                        const char* after) noexcept nogil
cdef void out_append(OutBuf* o, OutBuf* more) noexcept nogil

cdef struct ScanArgs:
    i64 count
    const char* pattern            # NULL: all
    size_t pattern_len
    int type_                      # of SCAN: keys of that type, -1: any
    i64 slot                       # of CLUSTERSCAN; -1: any
    bint bare                      # NOVALUES, NOSCORES

cdef enum:
    SCAN_KEYS = -1                 # what scan_args is about if not the type of a value
    SCAN_CLUSTER = -2
    SCAN_DUE = 64                  # expired entries deleted under one hold of a lock

cdef struct Gather:                # the names that match, as replies
    OutBuf out
    const char* pattern            # NULL: all
    size_t pattern_len
    i64 now_ms
    i64 seen                       # entries looked at
    i64 found
    i64 type_                      # -1: any
    bint held                      # the partitions are locked already
    u32 due                        # expired entries that were met: SCAN deletes them
    Entry* dead[SCAN_DUE]

cdef void gather_init(Gather* g, Ctx* c, const char* pattern, size_t pattern_len) noexcept nogil
# the buckets from a position of a slot on, before slot `last`, until `count` entries were seen; returns the next cursor
cdef u64 scan_walk(Ctx* c, u32 slot, u64 position, u32 last, i64 count, Gather* g) noexcept nogil
cdef bint parse_cursor(Arg* a, u64* cursor) noexcept nogil
cdef bint scan_args(Ctx* c, i64 at, int of, ScanArgs* s) noexcept nogil


cdef inline bint is_expired(Entry* e, i64 now_ms) noexcept nogil:
    return e.flags & E_EXPIRE and entry_expire(e) <= now_ms


cdef inline Entry* lookup_quiet(Ctx* c, Key* k) noexcept nogil:
    """As lookup_read, without noting the access."""
    cdef Entry* e = lookup(c, k)
    if e == NULL:
        c.misses += 1
    else:
        c.hits += 1
    return e


cdef inline Entry* lookup_untouched(Ctx* c, Key* k) noexcept nogil:
    """As lookup_quiet, with the event of a key that is not there."""
    cdef Entry* e = lookup_quiet(c, k)
    if e == NULL:
        notify(c, N_KEY_MISS, b"keymiss", k)
    return e
