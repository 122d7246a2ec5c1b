# What a stream tells the rest about itself: type_ops[TYPE_STREAM], and its RDB form with load_ops for it.

cdef void stream_type_ready() noexcept nogil       # to be called by what imports this for its side effect
