# Names that every data-plane module shares: integer types, branch hints, atomics, clocks.
# Nothing here has state. GCC builtins are declared, not wrapped, so that they inline.
from libc.stdint cimport (int8_t, int16_t, int32_t, int64_t,
                          uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t)
from libc.stddef cimport size_t

ctypedef uint8_t u8
ctypedef uint16_t u16
ctypedef uint32_t u32
ctypedef uint64_t u64
ctypedef int32_t i32
ctypedef int64_t i64

cdef extern from * nogil:
    ctypedef u64 u128 "unsigned __int128"
    bint likely(bint)
    bint unlikely(bint)
    void prefetch "__builtin_prefetch"(const void*)
    int ctz32 "__builtin_ctz"(u32)
    int ctz64 "__builtin_ctzll"(u64)
    int clz64 "__builtin_clzll"(u64)
    int popcount64 "__builtin_popcountll"(u64)
    u64 bswap64 "__builtin_bswap64"(u64)
    void cpu_relax "__builtin_ia32_pause"()
    u64 rdtsc "__builtin_ia32_rdtsc"()
    bint add_overflow "__builtin_add_overflow"(i64, i64, i64*)
    bint mul_overflow "__builtin_mul_overflow"(i64, i64, i64*)

    int RELAXED "__ATOMIC_RELAXED"
    int ACQUIRE "__ATOMIC_ACQUIRE"
    int RELEASE "__ATOMIC_RELEASE"
    int ACQ_REL "__ATOMIC_ACQ_REL"
    u32 atomic_xchg32 "__atomic_exchange_n"(u32*, u32, int)
    u32 atomic_load32 "__atomic_load_n"(u32*, int)
    void atomic_store32 "__atomic_store_n"(u32*, u32, int)
    bint atomic_cas32 "__atomic_compare_exchange_n"(u32*, u32*, u32, bint, int, int)
    u32 atomic_add32 "__atomic_add_fetch"(u32*, u32, int)
    u64 atomic_load64 "__atomic_load_n"(u64*, int)
    void atomic_store64 "__atomic_store_n"(u64*, u64, int)
    u64 atomic_add64 "__atomic_add_fetch"(u64*, u64, int)
    u64 atomic_sub64 "__atomic_sub_fetch"(u64*, u64, int)
    i64 atomic_addi64 "__atomic_add_fetch"(i64*, i64, int)
    i64 atomic_loadi64 "__atomic_load_n"(i64*, int)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int, timespec*)
    int CLOCK_REALTIME
    int CLOCK_MONOTONIC


cdef inline i64 wall_us() noexcept nogil:
    """Wall clock, microseconds since 1970."""
    cdef timespec t
    clock_gettime(CLOCK_REALTIME, &t)
    return <i64>t.tv_sec * 1000000 + t.tv_nsec // 1000


cdef inline i64 mono_us() noexcept nogil:
    """Monotonic clock, microseconds."""
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <i64>t.tv_sec * 1000000 + t.tv_nsec // 1000
