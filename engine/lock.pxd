# A lock is one C word: 0 free, 1 held, 2 held with sleepers (Drepper's third mutex).
# It spins briefly, then sleeps in futex: on a machine whose cores are shared with clients the holder may
# have been preempted, and spinning would burn what it needs. No thread state is involved (not a PyMutex).
from engine.defs cimport *

cdef enum:
    LOCK_SPINS_MAX = 60

cdef extern from "<unistd.h>" nogil:
    long syscall(long, ...)
cdef extern from "<sys/syscall.h>" nogil:
    long SYS_futex
cdef extern from "<linux/futex.h>" nogil:
    int FUTEX_WAIT_PRIVATE
    int FUTEX_WAKE_PRIVATE


cdef inline void lock_slow(u32* word) noexcept nogil:
    cdef u32 expected
    cdef int i
    for i in range(LOCK_SPINS_MAX):
        cpu_relax()
        if atomic_load32(word, RELAXED) == 0:
            expected = 0
            if atomic_cas32(word, &expected, 1, False, ACQUIRE, RELAXED):
                return
    while atomic_xchg32(word, 2, ACQUIRE) != 0:
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0)


cdef inline void lock(u32* word) noexcept nogil:
    cdef u32 expected = 0
    if unlikely(not atomic_cas32(word, &expected, 1, False, ACQUIRE, RELAXED)):
        lock_slow(word)


cdef inline bint try_lock(u32* word) noexcept nogil:
    cdef u32 expected = 0
    return atomic_cas32(word, &expected, 1, False, ACQUIRE, RELAXED)


cdef inline void unlock(u32* word) noexcept nogil:
    if unlikely(atomic_xchg32(word, 0, RELEASE) == 2):
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0)
