# The append-only file that is being written: the effects log's reader that brings it to the disk.
#
# Workers call aof_turn once a turn, before their replies go out: whoever comes first writes what is whole in the log to
# the file, in one write. The fsync is another's: the control plane's each second (everysec), or the workers' rings'
# (always), where replies wait until aof.synced has passed the log's end of their turn.
#
# Side file `<name>.idx`, so that damage is found where commands still parse, and a slot's records are found without
# reading all: 8 bytes "SLOTRIX1", then blocks, little endian:
#     u64 end       the block ends before this offset of the file, the first begins at 0
#     u64 sum       block_sum of its bytes
#     u32 slots     how many slot numbers follow; 0xFFFFFFFF: any slot
#     u32 zero
#     u16 slot …    ascending, padded with zeros to 8 bytes
# and where the file was closed in good order a mark: u64 its length, u64 zero, u32 zero, u32 1. With it the length is
# known, so a file of another length was changed by somebody else (persist/incr_index). Where room was made ahead
# (persist/prealloc) there is a row with the digits of its lines: u64 digits, u64 zero, u32 zero, u32 2. The side file
# may end early, or be missing: what it does not cover is unknown. Real Valkey never looks at it.
from engine.defs cimport *

cdef enum:
    BLOCK_BYTES = 1 << 16          # of the file, at least, from one block's end to the next

    AOF_OFF = 0                    # Aof.mode
    AOF_FIRST = 1                  # switched on, but the first base is not written: nothing counts as on the disk
    AOF_ON = 2

cdef struct Sum:                   # of bytes that come in pieces
    u64 h
    u64 bytes
    u8[16] rest
    u32 n_rest

cdef struct Aof:
    u32 lock
    u32 mode
    int fd                         # -1: nobody writes
    int index_fd
    bint fatal                     # an error ends the process (appendfsync always)
    bint timestamps                # aof-timestamp-enabled
    i64 sleep_us                   # DEBUG AOF-FLUSH-SLEEP: before each write
    bint broken                    # a write failed (conf.aof_errno); the cron tries again
    int fatal_errno                # the error that ends it, of a write or (fatal_sync) an fsync
    bint fatal_sync
    char* stage                    # taken from the log, not written yet: stage[done:len]
    size_t len
    size_t done
    size_t cap
    u64 left                       # bytes of the record under way that are still in the log, and its padding
    u64 pad
    u64 skip                       # of that: MULTI, which is in the stage already
    u32 db                         # the file's database; -1: not said yet
    u32 db_after
    i64 stamp_s                    # the last timestamp written
    u64 written                    # log position up to which the kernel has everything
    u64 synced                     # … and the disk
    u64 limit                      # … which cannot be said of what is beyond: an older file is still being synced
    u32 closing                    # so many of them are
    u32 generation                 # counts begin()
    u64 bytes                      # of the file
    u64 block_start
    Sum sum
    bint many                      # the block has records of several slots each
    u64[256] slots                 # of the block, a bit each

cdef Aof aof

cdef void sum_add(Sum* s, const void* p, size_t n) noexcept nogil
cdef u64 sum_end(Sum* s) noexcept nogil
cdef void aof_turn() noexcept nogil                       # write what there is, unless somebody is just doing it
cdef void aof_sync_begin(u64* upto, int* fd) noexcept nogil   # the position that an fsync begun now covers
cdef void aof_sync_end(u64 upto, int error) noexcept nogil
cdef bint aof_has(u64 upto) noexcept nogil                # is the log up to there on the disk for good?
