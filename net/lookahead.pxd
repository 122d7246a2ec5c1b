# Memory that a batch of commands will read is asked for before the first of them runs, level by level, so that they wait
# for it together.
from engine.defs cimport *
from net.conn cimport Worker

cdef void prefetch_batch(Worker* w, u32 n) noexcept nogil      # w.batch[:n] are hashed
