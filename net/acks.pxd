# WAIT and WAITAOF: commands that wait until others have what the connection wrote: replicas, this server's own disk.
# A connection knows how far into the effects log it has written (Session.wrote), the log's reader how far the disk is
# (persist/aof), so nothing is kept by the write itself. Who waits is looked through once a turn of its worker; who
# moves the disk's place forward wakes the workers that have somebody waiting (acks_wake).
from engine.blocking cimport Blocked
from engine.defs cimport *
from net.conn cimport Conn, Worker, WORKERS_MAX

cdef u32[WORKERS_MAX] acks_waiting                               # connections that wait, by worker

cdef void acks_serve(Worker* w) noexcept nogil                   # answer those that have what they wait for
cdef void acks_answer(Worker* w, Conn* c, Blocked* b) noexcept nogil     # the reply, with what is there by now
cdef void acks_wake() noexcept nogil                             # all workers with somebody waiting
