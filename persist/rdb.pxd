# The RDB file: Valkey 9.1's form written, every version that it reads read. A file is a magic with the version, AUX
# fields, for each database its number, sizes and keys, an end and a CRC64 of all before it.
#
# Written: an RdbFile takes pieces that save_slot and save_head have made in an RdbOut. Its own lock is taken for each
# piece, since workers write their pre-images to it (snapshot.pyx). Read: see load_step in rdb_load.pyx.
from engine.defs cimport *
from engine.rdbio cimport RdbOut
from engine.store cimport Entry, Table

cdef enum:
    OP_SLOT_IMPORT = 243
    OP_SLOT_INFO = 244
    OP_FUNCTION2 = 245
    OP_FUNCTION_PRE_GA = 246
    OP_MODULE_AUX = 247
    OP_IDLE = 248
    OP_FREQ = 249
    OP_AUX = 250
    OP_RESIZEDB = 251
    OP_EXPIRE_MS = 252
    OP_EXPIRE = 253
    OP_SELECTDB = 254
    OP_EOF = 255

    PIECE_BYTES = 256 << 10        # an RdbOut this long goes to the file

cdef struct RdbFile:
    int fd                         # -1: not open
    int error                      # errno of the first write that failed; 0: none
    u32 lock
    bint checksum
    u64 crc
    u64 bytes
    u64 pushed                     # bytes whose way to the disk has been begun

ctypedef void (*save_fn)(RdbOut* o, Entry* e, i64 now_ms) noexcept nogil

cdef u64 crc64_join(u64 a, u64 b, u64 n) noexcept nogil  # the CRC64 of two texts from theirs; the second has n bytes
cdef void save_emptied() noexcept nogil        # FLUSHALL, everything held: saves if that is due
cdef bint rdb_open(RdbFile* f, const char* path, bint checksum) noexcept nogil
cdef bint rdb_write(RdbFile* f, const char* p, size_t n) noexcept nogil
# as rdb_write of a piece whose CRC64 is known; *at: where in the file it is
cdef bint rdb_write_summed(RdbFile* f, const char* p, size_t n, u64 crc, u64* at) noexcept nogil
cdef void rdb_push(RdbFile* f) noexcept nogil                  # what is written goes on its way to the disk
cdef bint rdb_finish(RdbFile* f) noexcept nogil                # end, checksum, fsync, close
cdef bint rdb_close(RdbFile* f) noexcept nogil                 # fsync, close: a file that is no RDB file
cdef void rdb_drop(RdbFile* f) noexcept nogil
cdef void save_head(RdbOut* o, i64 used_bytes, const char* functions, size_t functions_len,
                    bint aof_base) noexcept nogil
cdef void save_db_head(RdbOut* o, u32 db, u64 keys, u64 expires) noexcept nogil
cdef void save_slot_info(RdbOut* o, Table* t) noexcept nogil
cdef u64 walk_table(RdbOut* o, Table* t, i64 now_ms, save_fn fn) noexcept nogil
cdef u64 save_table(RdbOut* o, Table* t, i64 now_ms) noexcept nogil
