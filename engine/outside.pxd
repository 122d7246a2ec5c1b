# Memory outside the arenas that counts toward maxmemory, as words that everybody may read: what was there from the
# start, and what connections take. Each worker adds what its connections have gained (net/clientmem.pyx).
from engine.defs cimport *

cdef struct Outside:
    i64 base                   # threads and partitions
    i64 clients                # connections, their queries and replies
    i64 dying                  # of that: what goes as soon as a connection that is evicted has ended

cdef Outside outside


cdef inline i64 outside_clients() noexcept nogil:
    """What connections take that are to stay."""
    return atomic_loadi64(&outside.clients, RELAXED) - atomic_loadi64(&outside.dying, RELAXED)


cdef inline i64 outside_bytes() noexcept nogil:
    return atomic_loadi64(&outside.base, RELAXED) + outside_clients()
