"""The cluster bus as a machine: bytes and time go in, bytes and decisions come out. No sockets, no clock.

Whoever runs it (net/cluster/driver.py, a simulated network) calls `cron` every 100 ms, tells it of connections
(`accepted`, `connected`, `received`, `closed`), and after each of these calls `before_sleep`; then it carries out
`take_actions` in their order and only then sends what `take_output` has: what had to be saved first is saved first.
Times are Unix milliseconds. All calls are made under one lock of the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from engine.shared import find
from net.cluster import failover, gossip, liveness, receive
from net.cluster import messages as m
from net.cluster.decisions import Close, Dial, Save
from net.cluster.nodes import (
    MYSELF,
    T_BROADCAST,
    T_FAILOVER,
    T_FSYNC,
    T_MANUAL,
    T_SAVE,
    T_STATE,
    ClusterState,
    Node,
    map_of,
)
from net.cluster.table import Link
from net.lazy import numpy as np

PORT_OFFSET = 10000
CRON_MS = 100
RETRIES_PER_TIMEOUT = 10
LINK_BYTES = 48              # what an empty queue counts
RANDOM_PICKS = 5
RANDOM_PING_EVERY = 10
HANDSHAKE_MIN_MS = 1000
DROP_NONE, DROP_ALL = -1, -2
VERBOSE, NOTICE, WARNING = 1, 2, 3   # levels of log lines, as net.log's


class Settings:
    """What the settings say; whoever changes one calls `Bus.settings_changed`."""

    def __init__(self, **given: object):
        for name, value in given.items():
            assert hasattr(self, name), name
            setattr(self, name, value)

    node_timeout: int = 15000
    ping_interval: int = 0
    gossip_percent: int = 10
    blacklist_ttl_s: int = 60
    sendbuf_limit: int = 0
    require_full_coverage: bool = True
    allow_replica_migration: bool = True
    replica_no_failover: bool = False
    replica_validity_factor: int = 10
    migration_barrier: int = 1
    manual_failover_timeout: int = 5000
    repl_ping_period_s: int = 10
    can_replicate: bool = False      # may this node become a replica?
    port: int = 6379                 # announced ports and addresses
    tls_port: int = 0
    cport: int = 16379
    ip: str = ""                     # empty: found out from connections
    hostname: str = ""
    nodename: str = ""
    zone: str = ""
    client_ipv4: str = ""
    client_ipv6: str = ""
    client_port: int = 0
    client_tls_port: int = 0


class Election:
    """The state of failovers, automatic ones and those that a user asks for."""

    def __init__(self):
        self.voters: set[bytes] = set()

    auth_time: int = 0
    auth_sent: bool = False
    auth_rank: int = 0
    primary_rank: int = 0
    auth_epoch: int = 0
    cant_reason: int = 0
    cant_logged: int = 0
    mf_end: int = 0
    mf_replica: Node | None = None
    mf_primary_offset: int = -1
    mf_can_start: bool = False


class Stats:
    """Counts since the start or CONFIG RESETSTAT. sent, received: messages of each type."""

    def __init__(self):
        self.sent = [0] * len(m.TYPES)
        self.received = [0] * len(m.TYPES)

    bytes_sent: int = 0
    bytes_received: int = 0
    pubsub_bytes_sent: int = 0
    pubsub_bytes_received: int = 0
    module_bytes_sent: int = 0
    module_bytes_received: int = 0
    buffer_limit_exceeded: int = 0


def no_keys(_slot: int) -> int:
    """How many keys a slot has, where nobody knows of any."""
    return 0


def verbose() -> int:
    """A level of log lines, where nobody says which are written."""
    return VERBOSE


def no_slots(_node: str) -> tuple[int, ...]:
    """Slots that a node may claim whatever its epoch, where none are given away."""
    return ()


class Bus:
    """One node's part of the protocol."""

    def __init__(self, state: ClusterState, settings: Settings, rng: Random, log: Callable[[int, str], None]):
        self.state = state
        self.settings = settings
        self.rng = rng
        self.log = log
        self.link_class = Link                      # a network that is not real has its own
        self.level: Callable[[], int] = verbose     # the least level of lines that are written
        self.count_keys: Callable[[int], int] = no_keys
        self.with_keys: Callable[[list[int]], list[int]] = self._with_keys
        self.granted: Callable[[str], Iterable[np.ndarray]] = no_slots
        self.repl_offset: Callable[[], int] = int
        self.data_age_ms: Callable[[], int] = int
        self.now = state.now
        self.iteration = 0
        self.pfail_nodes = 0
        self.actions: list[object] = []
        self.dirty: list[Link] = []
        self.strangers: dict[Link, None] = {}       # inbound links whose node is not known
        self.election = Election()
        self.stats = Stats()
        self.among_minority_time = 0
        self.first_state_time = 0
        self.drop_filter = DROP_NONE                # DEBUG's switches
        self.close_on_drop = False
        self.disable_reconnection = False
        self.disable_random_ping = False
        self.has_address = False                    # announced, else found out
        self.heads: tuple = ()                      # see ping_heads
        self.heads_made_of: tuple = ()
        self.least_line = VERBOSE                   # what `level` said a moment ago
        self.settings_changed()

    # ---- settings

    @property
    def handshake_timeout(self) -> int:
        """How long a handshake may take, in milliseconds."""
        return max(self.settings.node_timeout, HANDSHAKE_MIN_MS)

    def settings_changed(self) -> None:
        """Takes over what this node announces of itself."""
        me, s = self.state.myself, self.settings
        me.set_address(s.ip if s.ip or self.has_address else me.ip, s.port, s.tls_port, s.cport)
        self.has_address = bool(s.ip)
        me.client_port, me.client_tls_port = s.client_port, s.client_tls_port
        me.hostname, me.nodename, me.zone = s.hostname, s.nodename, s.zone
        me.client_ipv4, me.client_ipv6 = s.client_ipv4, s.client_ipv6
        me.flags = (me.flags & ~m.F_NOFAILOVER | m.F_EXTENSIONS | m.F_LIGHT_PUBLISH | m.F_LIGHT_MODULE
                    | (m.F_NOFAILOVER if s.replica_no_failover else 0))
        self.state.version += 1
        self.heads_made_of = ()
        self.state.table.report_ms = s.node_timeout * liveness.REPORT_VALIDITY
        for node in self.state.others():
            node.said = None       # in full the next time: perhaps this node's address is to be found out again
        self.todo(T_SAVE | T_STATE)

    def todo(self, flags: int) -> None:
        """before_sleep has that to do."""
        self.state.todo |= flags

    # ---- what the caller takes

    def take_actions(self) -> list[object]:
        """The decisions since the last call, in order."""
        actions = self.actions
        self.actions = []
        return actions

    def take_output(self) -> list[tuple[Link, list[bytes]]]:
        """What goes out on links that are open and connected."""
        taken = []
        for link in self.dirty:
            if link.is_open and link.is_connected and link.out:
                taken.append((link, link.out))
                link.out = None
                link.out_bytes = 0
        self.dirty = []
        return taken

    # ---- connections

    def accepted(self, peer_ip: str, local_ip: str, peer: str, now: int) -> Link:
        """Somebody has connected."""
        self.now = now
        link = self.link_class(None, now, peer_ip, local_ip, peer)
        self.strangers[link] = None
        return link

    def connected(self, link: Link, local_ip: str, peer_ip: str, now: int) -> None:
        """A dialled link is there: the first packet says who we are, or asks to be met."""
        self.now = now
        if not link.is_open:
            return
        link.is_connected = True
        link.local_ip, link.peer_ip = local_ip, peer_ip
        node = link.node
        before = node.ping_sent
        gossip.send_ping(self, link, m.MEET if node.flags & m.F_MEET else m.PING)
        if before:
            node.ping_sent = before   # the ping before the connection was lost still waits for its answer
        if link.out and link not in self.dirty:
            self.dirty.append(link)

    def closed(self, link: Link, now: int) -> None:
        """The other side has closed, or could not be reached."""
        self.now = now
        if not link.is_open:
            return
        node = link.node
        if not link.is_connected and node is not None and node.ping_sent == 0:
            node.ping_sent = now      # the failure detector counts from here
        self.drop_link(link, tell=False)

    def drop_link(self, link: Link | None, tell: bool = True) -> None:
        """Lets go of a link; tell: the caller has to close its connection."""
        if link is None or not link.is_open:
            return
        link.is_open = False
        link.out = None
        link.pending = b""
        self.strangers.pop(link, None)
        node = link.node
        if node is not None:
            if node.link is link:
                node.link = None
            elif node.inbound is link:
                node.inbound = None
                node.inbound_freed = self.now
            link.node = None
        if tell:
            self.actions.append(Close(link))

    def start_handshake(self, ip: str, port: int, cport: int) -> bool:
        """CLUSTER MEET: a node at that address is to be met; ValueError where that is none; False: it is being met."""
        from ipaddress import ip_address
        ip = str(ip_address(ip))
        for node in self.state.others():
            if node.in_handshake and (node.ip.lower(), node.tcp_port, node.cport) == (ip.lower(), port, cport):
                return False
        self.state.create(None, m.F_HANDSHAKE | m.F_MEET, self.now).set_address(ip, port, 0, cport)
        return True

    def bind_inbound(self, node: Node, link: Link) -> None:
        """An inbound link is that node's; it has one at most."""
        if node.inbound is not None:
            self.drop_link(node.inbound)
        self.strangers.pop(link, None)
        node.inbound = link
        link.node = node
        self.log(VERBOSE, f"Bound cluster node {node.label} to connection of client {link.peer}")

    def delete_node(self, node: Node) -> None:
        """Forgets a node and its links."""
        self.drop_link(node.link)
        self.drop_link(node.inbound)
        self.state.forget(node)
        if self.election.mf_replica is node:
            self.election.mf_replica = None

    def received(self, link: Link, data: bytes, now: int) -> None:
        """Bytes have come in on a link."""
        self.now = now
        if link.pending:
            link.pending += data
            data = bytes(link.pending)
        at, end = 0, len(data)
        while link.is_open and end - at >= m.PREFIX_BYTES:
            try:
                length = m.frame_length(data[at:at + m.PREFIX_BYTES])
            except m.BadPacket as error:
                self.log(WARNING, f"{error} from {link.peer}" if link.peer else str(error))
                self.drop_link(link)
                return
            if end - at < length:
                break
            receive.packet(self, link, data if length == end and not at else data[at:at + length])
            at += length
        if link.is_open:
            if at:
                link.pending = bytearray(data[at:]) if at < end else b""
            elif not link.pending:
                link.pending = bytearray(data)

    # ---- sending

    def head(self, kind: int) -> bytearray:
        """The header of a packet of this node."""
        state, me = self.state, self.state.myself
        primary = me.replicaof if me.is_replica and me.replicaof else me
        s = self.settings
        paused = m.M_PAUSED if me.is_primary and self.election.mf_end else 0
        return bytearray(m.HEADER.pack(
            m.SIGNATURE, m.HEADER_BYTES, m.VERSION, s.port, kind, 0, state.current_epoch, primary.config_epoch,
            self.repl_offset(), me.id, primary.slots, me.replicaof.id if me.replicaof else m.NO_ID,
            s.ip.encode("latin-1"), 0, b"", s.tls_port, s.cport, me.flags & 0xFFFF, state.state, bytes((paused, 0, 0))))

    def ping_heads(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """Header and extensions of the ping family, without extensions and with them, but for type, counts and length:
        most often those of the last time."""
        state = self.state
        made_of = state.table.changes, state.current_epoch, state.state, self.election.mf_end
        if made_of != self.heads_made_of or state.blacklist:
            parts = gossip.extensions(self)
            head = self.head(m.PING)
            self.heads = ((m.finish(head, m.PING, b"", m.M_EXT_DATA), b""),
                          (m.finish(head, m.PING, b"", m.M_EXT_DATA, 0, len(parts)), b"".join(parts)))
            self.heads_made_of = made_of
        return self.heads

    def send(self, link: Link | None, kind: int, packet: bytes) -> None:
        """Puts a packet into a link's queue."""
        if link is None or not link.is_open:
            return
        if link.out is None:
            link.out = [packet]
            self.dirty.append(link)
        else:
            link.out.append(packet)
        length = len(packet)
        link.out_bytes += length
        stats = self.stats
        stats.sent[kind] += 1
        stats.bytes_sent += length
        if kind in (m.PUBLISH, m.PUBLISHSHARD):
            stats.pubsub_bytes_sent += length
        elif kind == m.MODULE:
            stats.module_bytes_sent += length

    def broadcast(self, kind: int, packet: bytes) -> None:
        """To all nodes that this one is connected to."""
        for node in self.state.others():
            if node.link is not None and not node.in_handshake:
                self.send(node.link, kind, packet)

    def broadcast_pong(self, local_replicas: bool = False) -> None:
        """Tells all nodes, or the replicas of this shard, how this one is."""
        me = self.state.myself
        for node in self.state.others():
            if node.link is None or node.in_handshake:
                continue
            if local_replicas and not (node.is_replica and node.replicaof
                                       and node.replicaof in (me, me.replicaof)):
                continue
            gossip.send_ping(self, node.link, m.PONG)

    def send_fail(self, node: Node) -> None:
        """Tells all nodes that one has failed."""
        self.broadcast(m.FAIL, m.finish(self.head(m.FAIL), m.FAIL, node.id))

    def send_update(self, link: Link | None, node: Node) -> None:
        """Tells a node with old news which slots another has, but for those that it no longer claims."""
        if link is None:
            return
        slots = node.slots
        if self.state.any_not_claimed:
            slots = map_of((self.state.owners == node.index) & ~self.state.not_claimed)
        body = m.update_body(node.config_epoch, node.id, slots)
        self.send(link, m.UPDATE, m.finish(self.head(m.UPDATE), m.UPDATE, body))

    def publish(self, channel: bytes, message: bytes, sharded: bool) -> None:
        """Sends a message that a client of this node has published: to all nodes, or to this shard's."""
        kind = m.PUBLISHSHARD if sharded else m.PUBLISH
        body = m.publish_body(channel, message)
        light, full = m.light(kind, body), b""
        me = self.state.myself
        for node in find(self.state.shards, me.shard_id, ()) if sharded else self.state.others():
            if node is me or node.in_handshake or node.link is None:
                continue
            if node.pong_received >= node.link.ctime and node.flags & m.F_LIGHT_PUBLISH:
                self.send(node.link, kind, light)
            else:
                full = full or m.finish(self.head(kind), kind, body)
                self.send(node.link, kind, full)

    # ---- time

    def cron(self, now: int) -> None:
        """Every 100 ms."""
        self.now = now
        self.iteration += 1
        self.least_line = self.level()
        if self.settings.sendbuf_limit:
            self._limit_buffers()
        self.pfail_nodes = 0
        if not self.disable_reconnection:
            self._reconnect()
        if not self.disable_random_ping and self.iteration % RANDOM_PING_EVERY == 0:
            self._ping_random()
        changed, orphaned, most, mine = self._watch()
        me = self.state.myself
        failover.check_manual_timeout(self)
        if me.is_replica:
            failover.handle_manual(self)
            failover.handle_replica(self)
            if orphaned and most >= 2 and mine == most and self.settings.allow_replica_migration:
                failover.migrate_replica(self, most)
        if changed or self.state.state:
            liveness.update_state(self)

    def _with_keys(self, slots: list[int]) -> list[int]:
        return [slot for slot in slots if self.count_keys(slot)]

    def before_sleep(self, now: int) -> None:
        """What is to be done before anything goes out."""
        self.now = now
        flags, self.state.todo = self.state.todo, 0
        if not flags:
            return
        if flags & T_STATE:
            liveness.update_state(self)
        if self.state.myself.is_replica:
            if flags & T_MANUAL:
                failover.handle_manual(self)
            if flags & (T_MANUAL | T_FAILOVER):
                failover.handle_replica(self)
        if flags & T_SAVE:
            self.actions.append(Save(bool(flags & T_FSYNC)))
        if flags & T_BROADCAST:
            self.broadcast_pong()

    def queued_bytes(self, link: Link) -> int:
        """Memory of a link's queue: what waits to be sent, here and in the driver's hands, and the queue itself."""
        waiting = LINK_BYTES + link.out_bytes
        if link.transport is not None:
            waiting += link.transport.queued_bytes()
        return waiting

    def _limit_buffers(self) -> None:
        limit = self.settings.sendbuf_limit
        for node in self.state.others():
            for link in (node.link, node.inbound):
                if link is None:
                    continue
                waiting = self.queued_bytes(link)
                if waiting > limit:
                    self.log(WARNING, f"Freeing cluster link({'from' if link.is_inbound else 'to'} node {node.label}, "
                                      f"used memory: {waiting}) due to exceeding send buffer memory limit.")
                    self.drop_link(link)
                    self.stats.buffer_limit_exceeded += 1

    def _reconnect(self) -> None:
        """Dials who is not connected, gives up handshakes, asks again to be met."""
        state = self.state
        found = state.table.unconnected(self.now, self.handshake_timeout)
        if found is None:
            return        # all is well, nearly always
        places, self.pfail_nodes = found
        if not places:
            return
        budget = [0]
        if self.settings.node_timeout >= 2:
            budget[0] = len(state.nodes) * CRON_MS // (self.settings.node_timeout // 2) * RETRIES_PER_TIMEOUT
        for node in [state.order[place] for place in places]:
            self._reconnect_one(node, budget)

    def _reconnect_one(self, node: Node, budget: list[int]) -> None:
        now, timeout = self.now, self.handshake_timeout
        if node.in_handshake and now - node.ctime > timeout:
            self.log(WARNING, f"Clusterbus handshake timeout {node.ip}:{node.cport}")
            self.delete_node(node)
            return
        unhealthy = m.F_HANDSHAKE | m.F_MEET | m.F_PFAIL | m.F_FAIL
        if (node.link is not None and node.inbound is None and not node.flags & unhealthy
                and now - node.inbound_freed > timeout and now - node.meet_sent > timeout
                and node.flags & m.F_MULTI_MEET):
            node.flags |= m.F_MEET
            self.log(NOTICE, f"Sending MEET packet to node {node.label} because there is no inbound link for it")
            gossip.send_ping(self, node.link, m.MEET)
        if node.link is not None:
            return
        pause = self.settings.node_timeout // 2 // RETRIES_PER_TIMEOUT
        if node.inbound is None and now - node.attempt < pause and budget[0] == 0:
            return
        node.attempt = now
        budget[0] -= 1
        link = self.link_class(node, now)
        node.link = link
        self.actions.append(Dial(link, node.ip, node.cport))

    def _ping_random(self) -> None:
        """Of a few random nodes, the one that has not been heard of for the longest."""
        oldest: Node | None = None
        order = self.state.order
        for _ in range(RANDOM_PICKS):
            node = order[self.rng.randrange(1, len(order))]
            if node.link is None or node.ping_sent or node.index == MYSELF or node.in_handshake:
                continue
            if oldest is None or oldest.pong_received > node.pong_received:
                oldest = node
        if oldest is not None:
            gossip.send_ping(self, oldest.link, m.PING)

    def _watch(self) -> tuple[bool, int, int, int]:
        """Looks at all nodes' times: drops dead links, pings, suspects. (Has a state changed, orphaned primaries,
        most replicas of one, replicas of this shard's)."""
        state, table, s, me = self.state, self.state.table, self.settings, self.state.myself
        half, interval = s.node_timeout // 2, s.ping_interval or s.node_timeout // 2
        counted = failover.count_replicas(self) if me.is_replica else (0, 0, 0)
        changed = False
        for node in [state.order[place] for place in table.watch(self.now, half, interval) or ()]:
            if node.table is table:      # not forgotten meanwhile
                changed |= self._watch_one(node, half, interval)
        replica = self.election.mf_replica
        if self.election.mf_end and me.is_primary and replica is not None and replica.link is not None:
            gossip.send_ping(self, replica.link, m.PING)
        return (changed, *counted)

    def _watch_one(self, node: Node, half: int, interval: int) -> bool:
        now, timeout = self.now, self.settings.node_timeout
        ping_delay, data_delay = now - node.ping_sent, now - node.data_received
        if (node.link is not None and now - node.link.ctime > timeout and node.ping_sent and ping_delay > half
                and data_delay > half):
            self.drop_link(node.link)    # perhaps only the connection is bad
        if node.link is not None and not node.ping_sent and now - node.pong_received > interval:
            gossip.send_ping(self, node.link, m.PING)
            return False
        if not node.ping_sent or min(ping_delay, data_delay) <= timeout or node.flags & (m.F_PFAIL | m.F_FAIL):
            return False
        node.flags |= m.F_PFAIL
        if self.state.myself.is_voting:
            liveness.fail_if_agreed(self, node)
        else:
            self.log(NOTICE, f"NODE {node.label} possibly failing.")
        return True
