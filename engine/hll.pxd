# HyperLogLogs: 16384 registers of 6 bits that estimate how many different elements were added. The value is a
# string, byte for byte Valkey's: "HYLL", an encoding byte, 3 zero bytes, the last estimate (8 bytes; the top bit says
# that it is out of date), then the registers: dense, 6 bits each from the lowest bit on; or sparse, run-length opcodes.
#
# Opcodes: 00nnnnnn: n + 1 registers are 0; 01nnnnnn nnnnnnnn: the same for longer runs; 1vvvvvnn: n + 1 registers
# are v + 1. Who adds elements in the same order gets the same opcodes as in Valkey.
from engine.defs cimport *

cdef enum:
    HLL_REGISTERS = 16384
    HLL_HEAD = 16
    HLL_DENSE_BYTES = HLL_HEAD + HLL_REGISTERS * 6 // 8
    HLL_EMPTY_BYTES = HLL_HEAD + 2     # of a fresh sparse one
    HLL_DENSE = 0                      # the encoding byte
    HLL_SPARSE = 1
    HLL_RUN_MAX = 32                   # larger values of a register need the dense form

    ADD_SAME = 0
    ADD_CHANGED = 1
    ADD_CORRUPT = -1
    ADD_TO_DENSE = -2                  # the sparse form cannot hold it
    ADD_NEEDS_ROOM = -3                # up to 3 bytes more than there is room for

cdef struct HllPlace:          # where in a sparse one to look for a register: no later than it is
    u32 at                     # offset of an opcode, of its first register and of the opcode before it (0: none)
    u32 first
    u32 before

cdef void hll_start(u8* h) noexcept nogil                              # an empty one, HLL_EMPTY_BYTES
# an element's register and the value it asks for
cdef int hll_hash(const char* s, size_t n, u32* index) noexcept nogil
cdef int hll_dense_set(u8* h, u32 index, int value) noexcept nogil         # ADD_SAME or ADD_CHANGED
# *len: bytes of the whole string, room: how many it may take; limit: hll-sparse-max-bytes; *place moves on, and is
# good for any higher register
cdef int hll_sparse_set(u8* h, size_t* len_, size_t room, size_t limit, u32 index, int value,
                        HllPlace* place) noexcept nogil
cdef bint hll_to_dense(const u8* h, size_t n, u8* dense) noexcept nogil    # HLL_DENSE_BYTES; False: corrupt
cdef bint hll_merge(u8* registers, const u8* h, size_t n) noexcept nogil   # a byte a register, the larger stays
cdef void hll_pack(u8* h, const u8* registers) noexcept nogil              # the registers of a dense one
cdef bint hll_unpack(u8* registers, const u8* h, size_t n) noexcept nogil
cdef u64 hll_estimate(const u8* registers) noexcept nogil


cdef inline void hll_forget(u8* h) noexcept nogil:
    """The estimate is out of date."""
    h[15] |= 0x80


cdef inline void hll_place_start(HllPlace* place) noexcept nogil:
    place.at = HLL_HEAD
    place.first = place.before = 0
