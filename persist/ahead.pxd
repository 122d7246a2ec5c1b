# The look-ahead of the loaders: slot, table, bucket and entry of some keys on their way from memory at the same time,
# a stage for all of them before the next. Nothing is promised: what is not prefetched is only slower.
from engine.defs cimport *
from engine.store cimport Key

cdef enum:
    AHEAD_MAX = 32

# alone: nobody else changes these keys' tables meanwhile, so that chains and values may be followed
cdef void keys_ahead(Key** keys, u32 n, bint alone) noexcept nogil
