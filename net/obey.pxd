# What a link from another node sends (S_OBEY): its commands are run in another time than clients' are.
from engine.command cimport Command, Ctx
from engine.defs cimport *
from engine.effects cimport call
from engine.keyspace cimport lfu_initial, lfu_policy, lru_clock
from engine.store cimport *


cdef inline void call_timeless(Ctx* x, Command* cmd) noexcept nogil:
    """A command of a link from another node, which says itself what expires: to it nothing has, however late it comes.
    Streams' commands need the time for themselves; a plain SET, which most are, does not care what was there."""
    cdef i64 now_ms = x.now_ms
    cdef Entry* e
    if cmd.name[0] == c'x' or (x.argc == 3 and cmd.name_len == 3 and cmd.name[0] == c's'):
        call(x, cmd)
        return
    x.now_ms = 0
    call(x, cmd)
    x.now_ms = now_ms
    e = table_find(&x.key)
    if e != NULL:                          # it was touched at another time
        e.head = (e.head & 0xFF) | (lfu_initial(now_ms) if lfu_policy() else lru_clock(now_ms)) << 8
