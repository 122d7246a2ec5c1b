# slotring: data plane
"""HyperLogLogs; see hll.pxd. The estimate is Ertl's ("New cardinality estimation algorithms for HyperLogLog
sketches", arXiv:1702.01284)."""
from libc.math cimport INFINITY, llround, pow, sqrt
from libc.string cimport memcpy, memmove, memset
from engine.defs cimport *

cdef enum:
    INDEX_BITS = 14
    VALUE_MAX = 64 - INDEX_BITS + 1
    SEED = 0xadc83b19
    ZERO_RUN_MAX = 64              # of a one-byte opcode
    SAME_RUN_MAX = 4
    CHUNK = 32                     # opcodes looked at together
    LANE = 64                      # registers unpacked together

cdef double ALPHA = 0.721347520444481703680        # 0.5 / ln 2
cdef u64 MULTIPLIER = 0xc6a4a7935bd1e995


cdef void hll_start(u8* h) noexcept nogil:
    memset(h, 0, HLL_EMPTY_BYTES)
    memcpy(h, b"HYLL", 4)
    h[4] = HLL_SPARSE
    h[16] = 0x40 | (HLL_REGISTERS - 1) >> 8
    h[17] = (HLL_REGISTERS - 1) & 255


cdef int hll_hash(const char* s, size_t n, u32* index) noexcept nogil:
    """MurmurHash64A: its low bits are the register, the place of the lowest one of the others is the value."""
    cdef u64 m = MULTIPLIER, h = <u64>SEED ^ (n * m), k
    cdef size_t i = 0
    while i + 8 <= n:
        memcpy(&k, s + i, 8)
        k *= m
        k ^= k >> 47
        k *= m
        h = (h ^ k) * m
        i += 8
    if i < n:
        k = 0
        memcpy(&k, s + i, n - i)
        h = (h ^ k) * m
    h ^= h >> 47
    h *= m
    h ^= h >> 47
    index[0] = <u32>(h & (HLL_REGISTERS - 1))
    return 1 + ctz64((h >> INDEX_BITS) | (<u64>1 << (64 - INDEX_BITS)))


# ---- dense

cdef int hll_dense_set(u8* h, u32 index, int value) noexcept nogil:
    cdef u32 bit = index * 6
    cdef u32 last = index == HLL_REGISTERS - 1         # two bytes from there would be one too many
    cdef u8* p = h + HLL_HEAD + (bit >> 3) - last
    cdef u32 shift = (bit & 7) + 8 * last
    cdef u16 word
    memcpy(&word, p, 2)
    if value <= ((word >> shift) & 63):
        return ADD_SAME
    word = <u16>((word & ~(63 << shift)) | value << shift)
    memcpy(p, &word, 2)
    return ADD_CHANGED


cdef inline void unpack_lane(u64* lane, const u8* p, bint last) noexcept nogil:
    """64 registers of 6 bits to bytes. last: nothing may be read behind them."""
    cdef u64 w
    cdef int i
    for i in range(8):
        memcpy(&lane[i], p + 6 * i - (2 if last and i == 7 else 0), 8)
    if last:
        lane[7] >>= 16
    for i in range(8):
        w = lane[i]
        w = (w & <u64>0xFFFFFF) | (w & <u64>0xFFFFFF000000) << 8
        w = (w & <u64>0x00000FFF00000FFF) | (w & <u64>0x00FFF00000FFF000) << 4
        lane[i] = (w & <u64>0x003F003F003F003F) | (w & <u64>0x0FC00FC00FC00FC0) << 2


cdef void merge_dense(u8* registers, const u8* h) noexcept nogil:
    """Bytes below 128 are compared eight at a time: a borrow from the top bit says that b is larger."""
    cdef u64 lane[8]
    cdef u64 old[8]
    cdef u64 top = <u64>0x8080808080808080, larger
    cdef u32 i, lanes
    for lanes in range(HLL_REGISTERS // LANE):
        unpack_lane(lane, h + HLL_HEAD + lanes * (LANE // 4 * 3), lanes == HLL_REGISTERS // LANE - 1)
        memcpy(old, registers + lanes * LANE, LANE)
        for i in range(8):
            larger = ((old[i] | top) - lane[i]) & top
            larger -= larger >> 7
            lane[i] = (old[i] & larger) | (lane[i] & ~larger)
        memcpy(registers + lanes * LANE, lane, LANE)


cdef void hll_pack(u8* h, const u8* registers) noexcept nogil:
    cdef u64 lane[8]
    cdef u64 out[3]
    cdef u64 w
    cdef u8* p = h + HLL_HEAD
    cdef u32 i, lanes
    for lanes in range(HLL_REGISTERS // LANE):
        memcpy(lane, registers + lanes * LANE, LANE)
        for i in range(8):
            w = lane[i] & <u64>0x3F3F3F3F3F3F3F3F
            w = (w & <u64>0x003F003F003F003F) | (w & <u64>0x3F003F003F003F00) >> 2
            w = (w & <u64>0x00000FFF00000FFF) | (w & <u64>0x0FFF00000FFF0000) >> 4
            lane[i] = (w & <u64>0xFFFFFF) | (w & <u64>0x00FFFFFF00000000) >> 8
        for i in range(2):                     # four times 48 bits are three words
            out[0] = lane[4 * i] | lane[4 * i + 1] << 48
            out[1] = lane[4 * i + 1] >> 16 | lane[4 * i + 2] << 32
            out[2] = lane[4 * i + 2] >> 32 | lane[4 * i + 3] << 16
            memcpy(p, out, 24)
            p += 24


# ---- sparse

cdef inline bint is_zero(u8 op) noexcept nogil:
    return op < 0x40


cdef inline bint is_long(u8 op) noexcept nogil:
    return op & 0xC0 == 0x40


cdef inline bint is_value(u8 op) noexcept nogil:
    return op >= 0x80


cdef inline u32 span_of(const u8* p) noexcept nogil:
    """Registers that the opcode at p stands for; a long one's second byte is read too."""
    if is_zero(p[0]):
        return p[0] + 1
    if is_value(p[0]):
        return (p[0] & 3) + 1
    return ((p[0] & 63) << 8 | p[1]) + 1


cdef inline int value_of(u8 op) noexcept nogil:
    return ((op >> 2) & 31) + 1


cdef inline u8 value_op(int value, u32 span) noexcept nogil:
    return <u8>(0x80 | (value - 1) << 2 | (span - 1))


cdef inline u8* put_zeros(u8* p, u32 span) noexcept nogil:
    if span > ZERO_RUN_MAX:
        p[0] = <u8>(0x40 | (span - 1) >> 8)
        p[1] = <u8>(span - 1)
        return p + 2
    p[0] = <u8>(span - 1)
    return p + 1


cdef inline bint skip_chunk(const u8* p, u32 index, u32* first) noexcept nogil:
    """Are the CHUNK bytes at p opcodes of one byte that end before the register? *first moves behind them."""
    cdef u32 i, spans = CHUNK, longs = 0
    for i in range(CHUNK):
        spans += p[i] & (<u8>3 if p[i] >= 0x80 else <u8>63)
        longs += <u8>(p[i] & 0xC0) == 0x40
    if longs or first[0] + spans > index:
        return False
    first[0] += spans
    return True


cdef const u8* find_op(const u8* p, const u8* end, u32 index, u32* first, const u8** before) noexcept nogil:
    """The opcode that stands for a register, NULL: the opcodes are corrupt. *first: its first register; *before: the
    opcode before it, or NULL."""
    cdef u32 span
    before[0] = NULL
    first[0] = 0
    while end - p >= CHUNK and skip_chunk(p, index, first):
        p += CHUNK
        before[0] = p - 1
    while p < end:
        if is_long(p[0]) and end - p < 2:
            return NULL
        span = span_of(p)
        if index < first[0] + span:
            return p
        before[0] = p
        p += 2 if is_long(p[0]) else 1
        first[0] += span
        if end - p >= CHUNK and skip_chunk(p, index, first):
            p += CHUNK
            before[0] = p - 1
    return NULL


cdef size_t split_op(u8* out, const u8* p, u32 first, u32 index, int value) noexcept nogil:
    """What takes the place of the opcode at p when one of its registers gets a value: at most 5 bytes."""
    cdef u32 last = first + span_of(p) - 1
    cdef u8* o = out
    if is_value(p[0]):
        if index != first:
            o[0] = value_op(value_of(p[0]), index - first)
            o += 1
        o[0] = value_op(value, 1)
        o += 1
        if index != last:
            o[0] = value_op(value_of(p[0]), last - index)
            o += 1
        return o - out
    if index != first:
        o = put_zeros(o, index - first)
    o[0] = value_op(value, 1)
    o += 1
    if index != last:
        o = put_zeros(o, last - index)
    return o - out


cdef size_t join_ops(u8* p, u8* end) noexcept nogil:
    """Join equal values among the five opcodes from p on; returns by how many bytes that made it shorter."""
    cdef int looks = 5
    cdef u8* stop = end
    cdef u32 span
    while p < stop and looks:
        looks -= 1
        if is_long(p[0]):
            p += 2
            continue
        if is_value(p[0]) and p + 1 < stop and is_value(p[1]) and value_of(p[0]) == value_of(p[1]):
            span = span_of(p) + span_of(p + 1)
            if span <= SAME_RUN_MAX:
                p[1] = value_op(value_of(p[0]), span)
                memmove(p, p + 1, stop - p - 1)
                stop -= 1
                continue
        p += 1
    return end - stop


cdef int hll_sparse_set(u8* h, size_t* len_, size_t room, size_t limit, u32 index, int value) noexcept nogil:
    cdef u8[8] fresh
    cdef u32 first
    cdef const u8* before
    cdef u8* end = h + len_[0]
    cdef u8* p
    cdef size_t n, old
    if value > HLL_RUN_MAX:
        return ADD_TO_DENSE
    p = <u8*>find_op(h + HLL_HEAD, end, index, &first, &before)
    if p == NULL:
        return ADD_CORRUPT
    if is_value(p[0]) and value_of(p[0]) >= value:
        return ADD_SAME
    old = 2 if is_long(p[0]) else 1
    n = split_op(fresh, p, first, index, value)
    if n > old:
        if len_[0] + n - old > limit:
            return ADD_TO_DENSE
        if len_[0] + n - old > room:
            return ADD_NEEDS_ROOM
    memmove(p + n, p + old, end - p - old)
    memcpy(p, fresh, n)
    end += n
    end -= old
    p = <u8*>before if before != NULL else h + HLL_HEAD
    len_[0] = end - h - join_ops(p, end)
    hll_forget(h)
    return ADD_CHANGED


cdef bint merge_sparse(u8* registers, const u8* h, size_t n) noexcept nogil:
    cdef const u8* p = h + HLL_HEAD
    cdef const u8* end = h + n
    cdef u32 at = 0, span
    cdef u8 value
    while p < end:
        if is_long(p[0]) and end - p < 2:
            return False
        span = span_of(p)
        if at + span > HLL_REGISTERS:
            return False
        if is_value(p[0]):
            value = <u8>value_of(p[0])
            while span:
                if value > registers[at]:
                    registers[at] = value
                at += 1
                span -= 1
        at += span
        p += 2 if is_long(p[0]) else 1
    return at == HLL_REGISTERS


# ---- both

cdef bint hll_merge(u8* registers, const u8* h, size_t n) noexcept nogil:
    """registers: a byte each, the larger stays. False: corrupt."""
    if h[4] == HLL_DENSE:
        merge_dense(registers, h)
        return True
    return merge_sparse(registers, h, n)


cdef bint hll_unpack(u8* registers, const u8* h, size_t n) noexcept nogil:
    memset(registers, 0, HLL_REGISTERS)
    return hll_merge(registers, h, n)


cdef bint hll_to_dense(const u8* h, size_t n, u8* dense) noexcept nogil:
    cdef u8 registers[HLL_REGISTERS]
    if not hll_unpack(registers, h, n):
        return False
    memcpy(dense, h, HLL_HEAD)
    dense[4] = HLL_DENSE
    hll_pack(dense, registers)
    return True


cdef double sigma(double x) noexcept nogil:
    cdef double y = 1, z = x, before = -1
    if x == 1:
        return INFINITY
    while z != before:
        x *= x
        before = z
        z += x * y
        y += y
    return z


cdef double tau(double x) noexcept nogil:
    cdef double y = 1, z = 1 - x, before = -1
    if x == 0 or x == 1:
        return 0
    while z != before:
        x = sqrt(x)
        before = z
        y *= 0.5
        z -= pow(1 - x, 2) * y
    return z / 3


cdef u64 hll_estimate(const u8* registers) noexcept nogil:
    """How many elements. registers: a byte each, below 64."""
    cdef u32 counts[4][64]         # four, so that equal neighbours do not wait for each other
    cdef u32 i
    cdef double m = HLL_REGISTERS, z
    memset(counts, 0, sizeof(counts))
    for i in range(HLL_REGISTERS // 4):
        counts[0][registers[4 * i]] += 1
        counts[1][registers[4 * i + 1]] += 1
        counts[2][registers[4 * i + 2]] += 1
        counts[3][registers[4 * i + 3]] += 1
    for i in range(64):
        counts[0][i] += counts[1][i] + counts[2][i] + counts[3][i]
    z = m * tau((m - counts[0][VALUE_MAX]) / m)
    for i in range(VALUE_MAX - 1, 0, -1):
        z = (z + counts[0][i]) * 0.5
    z += m * sigma(counts[0][0] / m)
    return <u64>llround(ALPHA * m * m / z)
