"""What a node does on a packet that has come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.cluster import failover, gossip, liveness, ownership
from net.cluster import messages as m
from net.cluster.decisions import Deliver
from net.cluster.nodes import T_BROADCAST, T_FAILOVER, T_FSYNC, T_MANUAL, T_SAVE, T_STATE, Node, slots_of
from net.lazy import numpy as np

if TYPE_CHECKING:
    from net.cluster.bus import Bus, Link

DEBUG, VERBOSE, NOTICE, WARNING = range(4)
COPIED_FLAGS = m.F_LIGHT_PUBLISH | m.F_LIGHT_MODULE | m.F_PRIMARY_FAIL
DROP_ALL = -2


def packet(bus: Bus, link: Link, data: bytes) -> None:
    """Takes a packet whose length and signature are right."""
    kind = m.kind_of(data)
    if kind < len(m.TYPES):
        stats = bus.stats
        stats.received[kind] += 1
        stats.bytes_received += len(data)
        if kind in (m.PUBLISH, m.PUBLISHSHARD):
            stats.pubsub_bytes_received += len(data)
        elif kind == m.MODULE:
            stats.module_bytes_received += len(data)
    if bus.drop_filter in (kind, DROP_ALL):
        bus.log(WARNING, f"Dropping packet of type {m.type_name(kind)} that matches debug drop filter")
        if bus.close_on_drop:
            bus.drop_link(link)
            bus.log(WARNING, f"Closing link for matching packet type {m.type_name(kind)}")
        return
    if kind <= m.PONG and bus.least_line > DEBUG:
        state = bus.state
        count = state.table.hear(link, data, kind, bus.now, state.current_epoch)
        if count >= 0:          # nothing new but its gossip
            node = link.node
            if kind == m.PING:
                gossip.send_ping(bus, link, m.PONG)
            gossip.process_gossip(bus, data, count, node)
            return
    try:
        found = m.decode(data)
    except m.BadPacket as error:
        if error.level is not None:
            bus.log(error.level, str(error))
        return
    if found.light:
        _light(bus, link, found)
        return
    _Received(bus, link, found).process()


def _light(bus: Bus, link: Link, found: m.Packet) -> None:
    node = link.node
    if node is None or node.in_handshake:
        name, human = (node.name, node.human) if node is not None else ("<unknown>", "<unknown>")
        bus.log(NOTICE, f"Closing link for node {name} ({human}) that sent a lightweight message of type "
                        f"{m.type_name(found.kind)} as its first message on the link")
        bus.drop_link(link)
        return
    node.data_received = bus.now
    _deliver(bus, found)


def _deliver(bus: Bus, found: m.Packet) -> None:
    if found.kind != m.MODULE:      # there are no modules
        channel, message = found.body
        bus.actions.append(Deliver(channel, message, found.kind == m.PUBLISHSHARD))


class _Received:
    """A full packet under way through its steps."""

    def __init__(self, bus: Bus, link: Link, found: m.Packet):
        self.bus, self.link, self.packet = bus, link, found
        self.state = bus.state
        self.sender = self._find_sender()

    def _find_sender(self) -> Node | None:
        link = self.link
        if link.node is not None and not link.node.in_handshake:
            return link.node
        sender = self.state.lookup(self.packet.sender)
        if sender is not None and link.node is None:
            self.bus.bind_inbound(sender, link)
        return sender

    def process(self) -> None:
        """All that a packet of its type does."""
        bus, sender, found, kind = self.bus, self.sender, self.packet, self.packet.kind
        if bus.least_line <= DEBUG:
            bus.log(DEBUG, f"{m.type_name(kind)} packet received from: {found.sender.decode()}")
        if found.mflags & m.M_EXT_DATA:
            self.link.extensions = True
        if sender is not None:
            self._note_flags()
            sender.data_received = bus.now
            if not sender.in_handshake and sender is not self.state.myself:
                self._note_epochs()
        if kind in (m.PING, m.MEET) and not self._answer():
            return
        if kind in m.PING_FAMILY:
            self._ping()
        elif kind == m.FAIL:
            self._fail()
        elif kind >= len(m.TYPES):
            bus.log(WARNING, f"Received unknown packet type: {kind}")
        elif sender is None:
            return
        elif kind in m.LIGHT_TYPES:
            _deliver(bus, found)
        elif kind == m.AUTH_REQUEST:
            failover.vote(bus, sender, found)
        elif kind == m.AUTH_ACK:
            if sender.is_voting and found.current_epoch >= bus.election.auth_epoch:
                bus.election.voters.add(sender.id)
                bus.todo(T_FAILOVER)
        elif kind == m.MFSTART:
            failover.start_as_primary(bus, sender, self.link)
        elif kind == m.UPDATE:
            self._update()

    # ---- what every packet says

    def _note_flags(self) -> None:
        sender, flags = self.sender, self.packet.flags
        if self.link.extensions:
            sender.flags |= m.F_EXTENSIONS
        if sender is not self.state.myself:
            sender.flags = sender.flags & ~COPIED_FLAGS | flags & COPIED_FLAGS

    def _note_epochs(self) -> None:
        bus, sender, found, election = self.bus, self.sender, self.packet, self.bus.election
        self.state.current_epoch = max(self.state.current_epoch, found.current_epoch)
        if found.claims_primary and found.config_epoch > sender.config_epoch:
            sender.config_epoch = found.config_epoch
            bus.todo(T_SAVE | T_FSYNC)
            if election.auth_time and election.auth_sent and sender.config_epoch >= election.auth_epoch:
                election.auth_time = 0
                bus.log(WARNING, f"Failover election in progress for epoch {election.auth_epoch}, but received a claim "
                                 f"from node {sender.label} with an equal or higher epoch {sender.config_epoch}. "
                                 "Resetting the election since we cannot win an election in the past.")
                bus.todo(T_FAILOVER)
        sender.repl_offset = found.offset
        me = self.state.myself
        if (election.mf_end and me.is_replica and me.replicaof is sender and found.mflags & m.M_PAUSED
                and election.mf_primary_offset == -1):
            election.mf_primary_offset = sender.repl_offset
            bus.todo(T_MANUAL)
            bus.log(NOTICE, "Received replication offset for paused primary manual failover: "
                            f"{election.mf_primary_offset}")

    # ---- PING, MEET: the answer

    def _answer(self) -> bool:
        """Sends PONG; False: the link is gone."""
        bus, link, me = self.bus, self.link, self.state.myself
        if (self.packet.kind == m.MEET or not me.ip) and not bus.settings.ip and link.local_ip not in ("", me.ip):
            me.set_address(link.local_ip, me.tcp_port, me.tls_port, me.cport)
            self.state.version += 1
            bus.log(NOTICE, f"IP address for this node updated to {me.ip}")
            bus.todo(T_SAVE)
        if self.packet.kind == m.MEET and not self._meet():
            return False
        gossip.send_ping(bus, link, m.PONG)
        return True

    def _meet(self) -> bool:
        bus, link, sender, found = self.bus, self.link, self.sender, self.packet
        if sender is None:
            if link.node is None:
                ip = found.ip or link.peer_ip
                if not ip:
                    bus.log(NOTICE, "Closing cluster link due to failure to retrieve IP from the connection, possibly "
                                    "caused by a closed connection.")
                    bus.drop_link(link)
                    return False
                node = self.state.create(None, m.F_HANDSHAKE | (m.F_EXTENSIONS if link.extensions else 0), bus.now)
                node.set_address(ip, found.port, found.pport, found.cport)
                bus.bind_inbound(node, link)
                bus.todo(T_SAVE)
            gossip.process_gossip(bus, found.data, found.count, link.node)
        elif sender.link is not None and sender.link is not link and bus.now - sender.ctime > bus.handshake_timeout:
            bus.log(NOTICE, f"Freeing outbound link to node {sender.label} after receiving a MEET packet from this "
                            "known node")
            bus.drop_link(sender.link)
        return True

    # ---- PING, PONG, MEET: the configuration

    def _ping(self) -> None:
        bus, link, sender, found, me = self.bus, self.link, self.sender, self.packet, self.state.myself
        if sender is not None and sender.flags & m.F_MEET:
            sender.flags &= ~m.F_MEET
            bus.log(NOTICE, f"Successfully completed handshake with {sender.label}")
        if not link.is_inbound and not self._check_identity():
            return
        if sender is not None:
            if found.flags & m.F_NOFAILOVER != sender.flags & m.F_NOFAILOVER:
                sender.flags ^= m.F_NOFAILOVER
                bus.todo(T_SAVE)
            if found.kind == m.PING and not sender.in_handshake and self._note_address(sender):
                bus.todo(T_SAVE | T_STATE)
        if not link.is_inbound and found.kind == m.PONG:
            self._note_pong(link.node)
        if sender is None:
            return
        if sender is me:
            return          # our own words tell us nothing
        was_replica = bool(sender.is_replica)
        if found.claims_primary:
            if was_replica:
                ownership.set_as_primary(bus, sender)
            sender.flags |= m.F_PRIMARY
        elif not self._note_replica():
            return
        if found.claims_primary and (was_replica or sender.slots != found.slots):
            self._note_slots()
        if me.is_primary and sender.is_primary and found.config_epoch == me.config_epoch:
            ownership.resolve_collision(bus, sender)
        gossip.process_gossip(bus, found.data, found.count, sender)
        if sender.id in self.state.nodes:
            gossip.process_extensions(bus, found, sender)
            self._remember()

    def _remember(self) -> None:
        """If another header like this one would be no news, Table.hear need not read it."""
        sender, found = self.sender, self.packet
        if (found.kind == m.PING and self.link.is_inbound and self.link.node is sender and not sender.in_handshake
                and sender.is_primary and found.claims_primary and sender.slots == found.slots
                and sender.config_epoch == found.config_epoch and not found.mflags & m.M_PAUSED
                and all(kind != m.X_FORGOTTEN for kind, _ in found.extensions)):
            sender.said_tail = self.state.shared(found.tail)
            sender.said = self.state.shared(m.plain_head(found.data))

    def _check_identity(self) -> bool:
        """On a link that we have dialled: is it who we think? False: the link is gone."""
        bus, node, sender, found = self.bus, self.link.node, self.sender, self.packet
        if node.in_handshake:
            if sender is not None:
                bus.log(VERBOSE, f"Handshake: we already know node {sender.label}, updating the address if needed.")
                if sender is not self.state.myself and self._note_address(sender):
                    bus.todo(T_SAVE | T_STATE)
                bus.delete_node(node)
                return False
            self.state.rename(node, found.sender)
            self.state.add_to_shard(node)
            roles = found.flags & (m.F_PRIMARY | m.F_REPLICA)
            if roles not in (m.F_PRIMARY, m.F_REPLICA):
                roles = m.F_PRIMARY if found.claims_primary else m.F_REPLICA
            node.flags = node.flags & ~m.F_HANDSHAKE | roles
            self.state.version += 1
            bus.todo(T_SAVE)
            return True
        if node.id == found.sender:
            return True
        bus.log(NOTICE, f"PONG contains mismatching sender ID. About node {node.label} in shard "
                        f"{ownership.shard(node)} added {bus.now - node.ctime} ms ago, having flags {node.flags}")
        node.flags |= m.F_NOADDR
        node.set_address("", 0, 0, 0)
        bus.drop_link(self.link)
        self.state.version += 1
        if not node.is_failed:
            liveness.mark_failing(bus, node)
            bus.send_fail(node)
        bus.todo(T_SAVE | T_STATE)
        return False

    def _note_address(self, node: Node) -> bool:
        """Where the sender is, if that is news; True: it was."""
        bus, link, found = self.bus, self.link, self.packet
        ip = found.ip or link.peer_ip
        if link is node.link or not ip:
            return False
        if (node.ip, node.tcp_port, node.tls_port, node.cport) == (ip, found.port, found.pport, found.cport):
            return False
        if node is self.state.myself:
            return False
        bus.drop_link(node.link)
        gossip.move(bus, node, ip, found.port, found.pport, found.cport)
        return True

    def _note_pong(self, node: Node) -> None:
        bus = self.bus
        node.pong_received = bus.now
        node.ping_sent = 0
        if node.flags & m.F_PFAIL:
            node.flags &= ~m.F_PFAIL
            bus.todo(T_SAVE | T_STATE)
        elif node.is_failed:
            liveness.clear_failure(bus, node)

    # ---- replicas

    def _note_replica(self) -> bool:
        """The sender says that it is a replica; False: an old packet, which is left."""
        bus, sender, found = self.bus, self.sender, self.packet
        primary = self.state.lookup(found.replicaof)
        if primary is sender:
            return False
        if sender.is_primary:
            if primary is not None and ownership.same_shard(primary, sender):
                if max(sender.epoch, primary.epoch) > found.config_epoch:
                    bus.log(NOTICE, f"Ignore stale message from {sender.label} in shard {ownership.shard(sender)}; "
                                    f"gossip config epoch: {found.config_epoch}, current config epoch: "
                                    f"{max(sender.epoch, primary.epoch)}")
                    return False
                if primary.is_replica:
                    self._note_failover(primary)
            else:
                count = sender.numslots
                self.state.unassign(slots_of(sender.slots))
                bus.log(NOTICE, f"Node {sender.label} is no longer primary of shard {ownership.shard(sender)}; "
                                f"removed all {count} slot(s) it used to own")
                if primary is not None:
                    bus.log(NOTICE, f"Node {sender.label} is now part of shard {ownership.shard(primary)}")
            sender.flags = sender.flags & ~(m.F_PRIMARY | m.F_MIGRATE_TO) | m.F_REPLICA
            self.state.version += 1
            bus.todo(T_SAVE | T_STATE | T_FSYNC)
        elif not sender.is_replica:
            sender.flags |= m.F_REPLICA
        if primary is not None and sender.replicaof is not primary:
            self._note_primary(primary)
        return True

    def _note_failover(self, primary: Node) -> None:
        """The sender's shard has another primary, which we still take for a replica."""
        bus, sender = self.bus, self.sender
        slots, importing, migrating = ownership.move_node_slots(bus, sender, primary)
        ownership.set_as_primary(bus, primary)
        primary.config_epoch = self.packet.config_epoch
        if slots:
            bus.log(NOTICE, f"A failover occurred in shard {ownership.shard(sender)}; node {sender.label} lost {slots} "
                            f"slot(s) and failed over to node {primary.label} with a config epoch of "
                            f"{primary.config_epoch}")
        for count, words in ((importing, "migration source. Update importing source"),
                             (migrating, "migration target. Update migrating target")):
            if count:
                bus.log(NOTICE, f"A failover occurred in {words} of {count} slot(s) to node {primary.label} in shard "
                                f"{ownership.shard(primary)}.")

    def _note_primary(self, primary: Node) -> None:
        """The sender is a replica of that node, which is news."""
        bus, sender, me = self.bus, self.sender, self.state.myself
        if sender.replicaof is not None:
            self.state.remove_replica(sender.replicaof, sender)
        bus.log(NOTICE, f"Node {sender.label} is now a replica of node {primary.label} in shard "
                        f"{ownership.shard(primary)}")
        self.state.add_replica(primary, sender)
        sender.replicaof = primary
        above = me.replicaof.replicaof if me.replicaof is not None else None
        if above is not None and above is not me:
            bus.log(NOTICE, f"I'm a sub-replica! Reconfiguring myself as a replica of {above.name} from "
                            f"{me.replicaof.name}")
            ownership.set_my_primary(bus, above, True, not ownership.same_shard(above, me))
            bus.todo(ownership.SAVE_ALL | T_BROADCAST)
        gossip.update_shard_id(bus, sender, primary.shard_id)
        self.state.version += 1
        bus.todo(T_SAVE)

    # ---- slots

    def _note_slots(self) -> None:
        """The sender claims other slots than we thought; old claims are answered with who has them."""
        bus, state, sender, found = self.bus, self.state, self.sender, self.packet
        bus.log(NOTICE, f"Mismatch in topology information for sender node {sender.label} in shard "
                        f"{ownership.shard(sender)}")
        ownership.apply_claim(bus, sender, found.config_epoch, found.slots)
        claimed = np.unpackbits(np.frombuffer(found.slots, np.uint8), bitorder="little").astype(bool)
        newer = claimed & ~state.unclaimed() & (state.owners != sender.index) & (
            state.owner_epochs() > np.uint64(found.config_epoch))
        if newer.any():
            owner = state.owner(int(np.argmax(newer)))
            bus.log(VERBOSE, f"Node {sender.label} has old slots configuration, sending an UPDATE message about "
                             f"{owner.label}")
            bus.send_update(sender.link, owner)

    # ---- FAIL, UPDATE

    def _fail(self) -> None:
        bus, sender, (failing_id,) = self.bus, self.sender, self.packet.body
        if sender is None:
            bus.log(NOTICE, f"Ignoring FAIL message from unknown node {self.packet.sender.decode()} about "
                            f"{failing_id.decode('latin-1')}")
            return
        failing = self.state.lookup(failing_id)
        if failing is not None and not failing.flags & (m.F_FAIL | m.F_MYSELF):
            bus.log(NOTICE, f"FAIL message received from {sender.label} about {failing.label}")
            liveness.mark_failing(bus, failing)

    def _update(self) -> None:
        bus, sender = self.bus, self.sender
        epoch, node_id, slots = self.packet.body
        node = self.state.lookup(node_id)
        if node is None or node.config_epoch >= epoch:
            return
        bus.log(NOTICE, f"Processing UPDATE message received from {sender.label} in shard {ownership.shard(sender)} "
                        f"about node {node.label} in shard {ownership.shard(node)}. old configEpoch "
                        f"{node.config_epoch}, new configEpoch {epoch}")
        if node.is_replica:
            ownership.set_as_primary(bus, node)
        node.config_epoch = epoch
        bus.todo(T_SAVE | T_FSYNC)
        ownership.apply_claim(bus, node, epoch, slots)
