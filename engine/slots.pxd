from engine.defs cimport *

cdef void barrier_marked(const u8* marked) noexcept nogil    # see `barrier`; a byte for each slot
