# What others tell a subscriber.
from engine.defs cimport *
from net.conn cimport Conn

# the reply for one channel, which is also the push when a subscription ends; name NULL: there was none
cdef void push_change(Conn* c, u32 kind, const char* word, const char* name, size_t n) noexcept nogil
