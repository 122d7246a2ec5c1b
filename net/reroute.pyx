# slotring: data plane
"""Connections after a change of the slot map; see reroute.pxd."""
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcpy
from engine.blocking cimport *
from engine.command cimport *
from engine.conf cimport conf
from engine.defs cimport *
from engine.events cimport ready_slow
from engine.hashing cimport key_slot
from engine.lock cimport lock, unlock
from engine.store cimport Key
from net.conn cimport *
from net.pubsub cimport PS_CHANNEL, PS_PATTERN, PS_SHARD, Channel, Link, Subs, pubsub_remove
from net.router cimport ROUTE_HERE, is_ours, route_blocked, say_route
from net.subscribe cimport push_change
from net.waiting cimport conn_goes_on, serve_ready
from net.worker cimport flush_later


cdef bint send_away(Worker* w, Conn* c, Blocked* b) noexcept nogil:
    """Answer a waiting command whose slot is not served here any more; False: it goes on waiting."""
    cdef u32 node = 0, route
    cdef u32 slot = key_slot(b.nodes[0].key, b.nodes[0].klen)
    cdef Ctx look
    look.session = &c.session
    route = route_blocked(&look, b.cmd, slot, &node)
    if route == ROUTE_HERE or not blocked_claim(b):
        return False
    blocked_unlink(b)
    say_route(&c.out, c.fd, route, slot, node)
    w.stats[b.cmd.id].calls += 1
    w.stats[b.cmd.id].failed += 1
    conn_goes_on(w, c)
    return True


cdef void look_again(Worker* w, Blocked* b) noexcept nogil:
    """A slot's pause has ended: what made a key ready meanwhile may have gone unserved."""
    cdef Key k
    cdef u32 i
    for i in range(b.n_nodes):
        k.ptr = b.nodes[i].key
        k.len = b.nodes[i].klen
        k.hash = b.nodes[i].hash
        k.slot = key_slot(k.ptr, k.len)
        k.db = b.nodes[i].db
        k.part = b.nodes[i].part
        lock(&k.part.lock)
        if k.part.waits != NULL:
            ready_slow(&w.ctx, &k)
        unlock(&k.part.lock)


cdef void leave_channels(Worker* w, Conn* c) noexcept nogil:
    """End the subscriptions to shard channels whose slot is another shard's now."""
    cdef Subs* subs = <Subs*>c.subs
    cdef Link* l = subs.first[PS_SHARD]
    cdef Link* following
    cdef Channel* ch
    cdef char* name
    cdef u32 n
    while l != NULL:
        following = l.next
        ch = l.channel
        if not is_ours(key_slot(ch.name, ch.len)):
            n = ch.len
            name = <char*>malloc(n + 1)        # the channel goes with its last subscriber
            if name == NULL:
                abort()
            memcpy(name, ch.name, n)
            pubsub_remove(w, c, PS_SHARD, name, n)
            push_change(c, PS_SHARD, b"sunsubscribe", name, n)
            free(name)
            flush_later(w, c)
        l = following
    if not (c.subs_n[PS_CHANNEL] or c.subs_n[PS_PATTERN] or c.subs_n[PS_SHARD]):
        c.session.flags &= ~<u32>S_PUBSUB


cdef void on_routes(Worker* w, Message* m) noexcept nogil:
    """The map has changed; m.fd: a pause has ended."""
    cdef Conn* c = w.conns
    cdef Conn* following
    cdef Blocked* b
    while c != NULL:
        following = c.next
        if not c.flags & C_CLOSING:
            b = <Blocked*>c.session.blocked
            if b != NULL and b.n_nodes and not (conf.cluster and send_away(w, c, b)) and m.fd:
                look_again(w, b)
            if conf.cluster and c.subs_n[PS_SHARD]:
                leave_channels(w, c)
        c = following
    if w.ctx.ready != NULL:
        serve_ready(w)
