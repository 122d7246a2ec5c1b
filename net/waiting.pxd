# Connections whose command waits (engine/blocking.pxd): who answers them, when, and how they go on.
#
# A waiting command is answered by exactly one of: the worker that made a key ready and ran it again (serve_ready), its
# own worker when its time ends (deadlines), CLIENT UNBLOCK, or the end of its connection. Who claims it does it.
from engine.defs cimport *
from net.conn cimport Worker, Conn, Message

cdef void conn_blocked(Worker* w, Conn* c) noexcept nogil        # a command has just called block_on
cdef bint conn_unwait(Worker* w, Conn* c) noexcept nogil         # the connection ends: True if nothing waits any more
cdef void conn_goes_on(Worker* w, Conn* c) noexcept nogil         # its command is answered and unlinked
cdef void serve_ready(Worker* w) noexcept nogil                  # after a command: run who waits for what it made ready
cdef void deadlines(Worker* w) noexcept nogil
cdef void on_served(Worker* w, Message* m) noexcept nogil
cdef void on_unblock(Worker* w, Message* m) noexcept nogil
