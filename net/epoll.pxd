# The epoll engine of a worker, for kernels and containers that forbid io_uring: same interface, same tests.
from net.conn cimport Worker

cdef int epoll_setup(Worker* w) noexcept nogil
cdef void epoll_loop(Worker* w) noexcept nogil
