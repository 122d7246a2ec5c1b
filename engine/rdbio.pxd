# RDB's primitives, for DUMP and RESTORE, and for the RDB file: lengths, strings (with their integer and LZF forms),
# doubles, CRC64. An RdbOut grows in malloc'ed memory. An RdbIn reads from memory that anyone may have made: every
# read checks what is left, sets `bad` and returns 0 instead of reading on, and no length is believed before its bytes
# are there.
from engine.defs cimport *

cdef enum:
    RDB_VERSION = 80               # of Valkey 9.1's dumps: verified in rdbio.pyx's tests
    RDB_TYPE_STRING = 0
    RDB_TYPE_LIST = 1
    RDB_TYPE_SET = 2
    RDB_TYPE_ZSET = 3
    RDB_TYPE_HASH = 4
    RDB_TYPE_ZSET_2 = 5
    RDB_TYPE_HASH_ZIPMAP = 9
    RDB_TYPE_LIST_ZIPLIST = 10
    RDB_TYPE_SET_INTSET = 11
    RDB_TYPE_ZSET_ZIPLIST = 12
    RDB_TYPE_HASH_ZIPLIST = 13
    RDB_TYPE_LIST_QUICKLIST = 14
    RDB_TYPE_STREAM_LISTPACKS = 15
    RDB_TYPE_HASH_LISTPACK = 16
    RDB_TYPE_ZSET_LISTPACK = 17
    RDB_TYPE_LIST_QUICKLIST_2 = 18
    RDB_TYPE_STREAM_LISTPACKS_2 = 19
    RDB_TYPE_SET_LISTPACK = 20
    RDB_TYPE_STREAM_LISTPACKS_3 = 21
    RDB_TYPE_HASH_2 = 22           # fields with expiry

cdef struct RdbOut:
    char* p
    size_t len
    size_t cap
    bint compress                  # strings over 20 bytes are tried with LZF (rdbcompression)

cdef struct RdbIn:
    const u8* p
    const u8* end
    bint bad                       # something was wrong or missing; stays set
    bint missing                   # it was missing: the bytes end too early
    u8* scratch                    # malloc'ed: where rdb_in_string unpacks LZF
    size_t scratch_cap

cdef void rdb_out_free(RdbOut* o) noexcept nogil
cdef void rdb_out_bytes(RdbOut* o, const void* p, size_t n) noexcept nogil       # raw
cdef void rdb_out_byte(RdbOut* o, u8 b) noexcept nogil
cdef void rdb_out_length(RdbOut* o, u64 n) noexcept nogil
cdef void rdb_out_string(RdbOut* o, const char* s, size_t n) noexcept nogil      # as Valkey: integer form, LZF, or raw
cdef void rdb_out_int(RdbOut* o, i64 v) noexcept nogil                            # a number as a string object
cdef void rdb_out_double(RdbOut* o, double v) noexcept nogil                      # 8 bytes, as ZSET_2
cdef void rdb_out_ms(RdbOut* o, i64 ms) noexcept nogil                            # 8 bytes little endian

cdef void rdb_in_init(RdbIn* in_, const char* p, size_t n) noexcept nogil
cdef void rdb_in_done(RdbIn* in_) noexcept nogil                                  # frees scratch
cdef u8 rdb_in_byte(RdbIn* in_) noexcept nogil
cdef u64 rdb_in_length(RdbIn* in_) noexcept nogil
# a string object: *s is good until the next read; tmp (24 bytes) takes integers; returns its length
cdef size_t rdb_in_string(RdbIn* in_, char* tmp, const char** s) noexcept nogil
cdef const u8* rdb_in_bytes(RdbIn* in_, size_t n) noexcept nogil                  # raw; NULL and bad where missing
cdef double rdb_in_double(RdbIn* in_) noexcept nogil
cdef double rdb_in_old_double(RdbIn* in_) noexcept nogil                          # the text form of ZSET
cdef i64 rdb_in_ms(RdbIn* in_) noexcept nogil

cdef u64 crc64(u64 crc, const void* p, size_t n) noexcept nogil                   # Jones, as Valkey
cdef size_t lzf_compress(const void* p, size_t n, void* out, size_t room) noexcept nogil      # 0: does not fit
cdef size_t lzf_decompress(const void* p, size_t n, void* out, size_t room) noexcept nogil    # 0: corrupt


cdef inline size_t rdb_in_left(RdbIn* in_) noexcept nogil:
    return 0 if in_.bad else <size_t>(in_.end - in_.p)
