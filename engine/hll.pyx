# slotring: data plane
"""HyperLogLogs; see hll.pxd. The estimate is Ertl's ("New cardinality estimation algorithms for HyperLogLog
sketches", arXiv:1702.01284)."""
from libc.math cimport INFINITY, llround, pow, sqrt
from libc.string cimport memcpy, memmove, memset
from engine.defs cimport *

cdef extern from * nogil:
    """
    /* Runs of 32 registers, four in each word of a vector: GCC's vectors, since no loop of scalars becomes this. */
    typedef unsigned char slotring_bytes __attribute__((vector_size(32)));
    typedef signed char slotring_signed __attribute__((vector_size(32)));
    typedef unsigned int slotring_words __attribute__((vector_size(32)));

    /* The larger of 32 registers and of the 32 that are packed in p[4 .. 27]; reads p[0 .. 31]. */
    static inline void slotring_merge_run(unsigned char* registers, const unsigned char* p) {
        const slotring_bytes spread = {4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12, 12, 13, 14, 15, 15,
                                       16, 17, 18, 18, 19, 20, 21, 21, 22, 23, 24, 24, 25, 26, 27, 27};
        slotring_bytes packed, old, larger;
        slotring_words w;
        memcpy(&packed, p, 32);
        memcpy(&old, registers, 32);
        w = (slotring_words)__builtin_shuffle(packed, spread);
        w = (w & 0x3f) | (w << 2 & 0x3f00) | (w << 4 & 0x3f0000) | (w << 6 & 0x3f000000);
        packed = (slotring_bytes)w;
        larger = (slotring_bytes)((slotring_signed)old > (slotring_signed)packed);
        old = (old & larger) | (packed & ~larger);
        memcpy(registers, &old, 32);
    }

    /* 32 registers to 24 bytes; writes 28. */
    static inline void slotring_pack_run(unsigned char* p, const unsigned char* registers) {
        const slotring_bytes squeeze = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 15, 15, 15, 15,
                                        16, 17, 18, 20, 21, 22, 24, 25, 26, 28, 29, 30, 31, 31, 31, 31};
        slotring_bytes packed;
        slotring_words w;
        memcpy(&w, registers, 32);
        w = (w & 0x3f) | (w >> 2 & 0xfc0) | (w >> 4 & 0x3f000) | (w >> 6 & 0xfc0000);
        packed = __builtin_shuffle((slotring_bytes)w, squeeze);
        memcpy(p, &packed, 16);
        memcpy(p + 12, (const char*)&packed + 16, 16);
    }
    """
    void merge_run "slotring_merge_run"(u8*, const u8*)
    void pack_run "slotring_pack_run"(u8*, const u8*)

cdef enum:
    INDEX_BITS = 14
    VALUE_MAX = 64 - INDEX_BITS + 1
    SEED = 0xadc83b19
    ZERO_RUN_MAX = 64              # of a one-byte opcode
    SAME_RUN_MAX = 4
    CHUNK = 32                     # opcodes looked at together
    RUN = 32                       # registers packed and unpacked together
    RUN_BYTES = 24                 # what they are packed to
    RUN_BEFORE = 4                 # bytes read, and not used, before those 24
    RUN_READ = 32                  # bytes read in all

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


cdef void merge_dense(u8* registers, const u8* h) noexcept nogil:
    cdef u8 last[RUN_READ]             # the last run: nothing may be read behind it
    cdef u32 i
    h += HLL_HEAD
    for i in range(HLL_REGISTERS // RUN - 1):
        merge_run(registers + i * RUN, h + i * RUN_BYTES - RUN_BEFORE)
    i = HLL_REGISTERS // RUN - 1
    memcpy(last + RUN_BEFORE, h + i * RUN_BYTES, RUN_BYTES)
    merge_run(registers + i * RUN, last)


cdef void hll_pack(u8* h, const u8* registers) noexcept nogil:
    cdef u8 last[RUN_READ]
    cdef u32 i
    h += HLL_HEAD
    for i in range(HLL_REGISTERS // RUN - 1):
        pack_run(h + i * RUN_BYTES, registers + i * RUN)
    i = HLL_REGISTERS // RUN - 1
    pack_run(last, registers + i * RUN)
    memcpy(h + i * RUN_BYTES, last, RUN_BYTES)


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


cdef struct Found:             # an opcode; offsets into the string, 0: there is none
    u32 at
    u32 first                  # its first register
    u32 before                 # the opcode before it,
    u32 before_first
    u32 prior                  # and the one before that


cdef bint find_op(const u8* h, size_t n, u32 index, HllPlace* start, Found* f) noexcept nogil:
    """The opcode that stands for a register, from a place on; False: the opcodes are corrupt."""
    cdef u32 at = start.at, try_at = at, span
    f.first = start.first
    f.before = start.before
    f.before_first = f.prior = 0
    while at < n:
        if at >= try_at and n - at >= CHUNK:
            if skip_chunk(h + at, index, &f.first):
                at += CHUNK
                f.before = at - 1
                f.before_first = f.first - span_of(h + f.before)
                f.prior = at - 2
                continue
            try_at = at + CHUNK // 2        # whatever stopped it stays in the way for a while
        if is_long(h[at]) and n - at < 2:
            return False
        span = span_of(h + at)
        if index < f.first + span:
            f.at = at
            return True
        f.prior = f.before
        f.before = at
        f.before_first = f.first
        at += 2 if is_long(h[at]) else 1
        f.first += span
    return False


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


cdef int hll_sparse_set(u8* h, size_t* len_, size_t room, size_t limit, u32 index, int value,
                        HllPlace* place) noexcept nogil:
    cdef u8[8] fresh
    cdef Found f
    cdef u8* end = h + len_[0]
    cdef u8* p
    cdef size_t n, old
    if value > HLL_RUN_MAX:
        return ADD_TO_DENSE
    if not find_op(h, len_[0], index, place, &f):
        return ADD_CORRUPT
    p = h + f.at
    place.at, place.first, place.before = f.at, f.first, f.before
    if is_value(p[0]) and value_of(p[0]) >= value:
        return ADD_SAME
    old = 2 if is_long(p[0]) else 1
    n = split_op(fresh, p, f.first, index, value)
    if n > old:
        if len_[0] + n - old > limit:
            return ADD_TO_DENSE
        if len_[0] + n - old > room:
            return ADD_NEEDS_ROOM
    memmove(p + n, p + old, end - p - old)
    memcpy(p, fresh, n)
    end += n
    end -= old
    len_[0] = end - h - join_ops(h + (f.before if f.before else HLL_HEAD), end)
    hll_forget(h)
    if f.before and (f.prior or f.before == HLL_HEAD):     # where opcodes were joined, and what came before
        place.at, place.first, place.before = f.before, f.before_first, f.prior
    else:
        hll_place_start(place)
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
