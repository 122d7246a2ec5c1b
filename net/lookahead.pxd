# Memory that a batch of commands will read is asked for before the first of them runs, level by level, so that they
# wait for it together.
from engine.defs cimport *
from engine.racy cimport racy_begin, racy_end
from engine.store cimport store
from net.conn cimport Worker

cdef void prefetch_batch(Worker* w, u32 n) noexcept nogil      # w.batch[:n] are hashed


cdef inline void prefetch_slot(u32 db, u32 slot) noexcept nogil:
    """The pointer to a slot's table; SWAPDB may change what it is a pointer of: then the wrong one is asked for."""
    racy_begin()
    prefetch(&store.dbs[db].slots[slot])
    racy_end()
