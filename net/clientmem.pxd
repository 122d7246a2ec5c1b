# What connections take, and who goes when all together take too much (maxmemory-clients).
from engine.defs cimport *
from net.conn cimport Conn, Worker

cdef u64 evicted_clients
cdef i64 clients_max            # maxmemory-clients in bytes; 0: no limit

cdef i64 worker_bytes(Worker* w) noexcept nogil
cdef u64 conn_bytes(Conn* c) noexcept nogil
cdef void memory_tell(Worker* w) noexcept nogil
cdef void clients_check(Worker* w) noexcept nogil
cdef void qbuf_room(Worker* w, Conn* c, size_t need) noexcept nogil
cdef void qbuf_shrink(Worker* w, Conn* c) noexcept nogil
