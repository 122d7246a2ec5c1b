# The two hashes of a key: CRC16 for its slot (the protocol's, see INTEROP) and a keyed 64-bit hash for its
# place in the slot's table. The latter is a multiply-and-fold hash in the manner of wyhash, seeded at start
# from the kernel so that nobody outside can aim at a bucket.
from libc.string cimport memcpy, memchr
from engine.defs cimport *

cdef enum:
    SLOTS = 16384

cdef u16 crc16_table[8][256]   # [k][b]: the CRC of byte b followed by k zero bytes
cdef u64 hash_seed[4]


cdef inline u16 crc16(const char* p, size_t n) noexcept nogil:
    """CRC16-XMODEM: polynomial 0x1021, init 0; eight bytes a step."""
    cdef u16 crc = 0
    cdef const u8* q = <const u8*>p
    while n >= 8:
        crc = <u16>(crc16_table[7][q[0] ^ (crc >> 8)] ^ crc16_table[6][q[1] ^ (crc & 0xFF)]
                    ^ crc16_table[5][q[2]] ^ crc16_table[4][q[3]] ^ crc16_table[3][q[4]]
                    ^ crc16_table[2][q[5]] ^ crc16_table[1][q[6]] ^ crc16_table[0][q[7]])
        q += 8
        n -= 8
    while n:
        crc = <u16>((crc << 8) ^ crc16_table[0][(crc >> 8) ^ q[0]])
        q += 1
        n -= 1
    return crc


cdef inline u32 key_slot(const char* p, size_t n) noexcept nogil:
    """Slot of a key: CRC16 of its hash tag, if it has a non-empty one, else of all of it, mod 16384."""
    cdef const char* open_ = <const char*>memchr(p, c'{', n)
    cdef const char* close_
    if unlikely(open_ != NULL):
        open_ += 1
        close_ = <const char*>memchr(open_, c'}', n - (open_ - p))
        if close_ != NULL and close_ > open_:
            return crc16(open_, close_ - open_) & (SLOTS - 1)
    return crc16(p, n) & (SLOTS - 1)


cdef inline u64 fold(u64 a, u64 b) noexcept nogil:
    cdef u128 m = <u128>a * b
    return <u64>m ^ <u64>(m >> 64)


cdef inline u64 load64(const char* p) noexcept nogil:
    cdef u64 v
    memcpy(&v, p, 8)
    return v


cdef inline u64 load32(const char* p) noexcept nogil:
    cdef u32 v
    memcpy(&v, p, 4)
    return v


cdef inline u64 hash_bytes(const char* p, size_t n) noexcept nogil:
    """Keyed 64-bit hash of n bytes."""
    cdef u64 h = hash_seed[0] ^ n
    cdef u64 a = 0, b = 0
    cdef size_t left = n
    while unlikely(left > 16):
        h = fold(load64(p) ^ hash_seed[1], load64(p + 8) ^ h)
        p += 16
        left -= 16
    if likely(left >= 8):
        a = load64(p)
        b = load64(p + left - 8)
    elif left >= 4:
        a = load32(p)
        b = load32(p + left - 4)
    elif left > 0:
        a = (<u64><u8>p[0] << 16) | (<u64><u8>p[left >> 1] << 8) | <u8>p[left - 1]
    return fold(fold(a ^ hash_seed[2], b ^ h) ^ hash_seed[3], h ^ hash_seed[1])
