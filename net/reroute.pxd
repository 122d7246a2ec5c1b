# What connections learn of a change of the slot map: commands that wait for keys of a slot that has gone are sent away,
# subscribers to its shard channels are told. Each worker does it for its own connections (MSG_ROUTES).
from net.conn cimport Message, Worker

cdef void on_routes(Worker* w, Message* m) noexcept nogil
