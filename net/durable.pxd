# appendfsync always: replies wait until what was logged before them is on the disk; no worker waits with them.
#
# At the end of a turn, connections that have output are put aside together (`worker.held`, C_SYNCING) with the log's
# end as it was then, and one fsync is begun in the ring; what arrives for them meanwhile is kept, not run. When the
# disk has passed that place they go on, and the connections that came later are put aside in turn: a group commit. One
# fsync is under way at a time, whoever began it; its end wakes the other workers that wait.
from net.conn cimport Conn, Worker

cdef void durable_release(Worker* w) noexcept nogil     # begin a turn's end: send what the disk has caught up with
cdef bint durable_hold(Worker* w) noexcept nogil        # True: w.flush stays as it is, its replies wait
cdef void durable_synced(Worker* w, int result) noexcept nogil     # the fsync that this worker began has ended
