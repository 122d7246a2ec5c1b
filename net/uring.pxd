# The io_uring engine of a worker: set up on the worker's own thread, then the loop.
from net.conn cimport Worker

cdef int uring_setup(Worker* w) noexcept nogil
cdef void uring_loop(Worker* w) noexcept nogil
