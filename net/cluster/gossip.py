"""Pings, pongs and meets: what a node tells of itself and of others, and what it takes from what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.cluster import liveness
from net.cluster import messages as m
from net.cluster.decisions import Follow
from net.cluster.nodes import T_FSYNC, T_SAVE, T_STATE, Node
from net.cluster.table import NEWS_ADDRESS, NEWS_AGREED, NEWS_BACK, NEWS_REPORT
from net.lazy import numpy as np

if TYPE_CHECKING:
    from net.cluster.bus import Bus, Link

DEBUG, VERBOSE, NOTICE, WARNING = range(4)


# --- sending -------------------------------------------------------------------------------------


def send_ping(bus: Bus, link: Link, kind: int) -> None:
    """Sends PING, PONG or MEET with gossip of some nodes, and of all that are suspected."""
    node = link.node
    if bus.least_line <= DEBUG:
        name, human = (node.name, node.human) if node is not None else ("<unknown>", "<unknown>")
        way = "inbound" if link.is_inbound else "outbound"
        bus.log(DEBUG, f"Sending {m.type_name(kind)} packet to node {name} ({human}) on {way} link")
    bus.send(link, kind, bus.state.table.ping(link, kind, bus.now, bus.settings.gossip_percent, bus.rng.random(),
                                              bus.repl_offset(), bus.pfail_nodes, bus.ping_heads()))


def extensions(bus: Bus) -> list[bytes]:
    """The extensions of a ping, in Valkey's order."""
    me = bus.state.myself
    parts = [m.extension(kind, value) for kind, value in (
        (m.X_HOSTNAME, me.hostname), (m.X_NODENAME, me.nodename), (m.X_IPV4, me.client_ipv4),
        (m.X_IPV6, me.client_ipv6), (m.X_PORT, me.client_port), (m.X_TLS_PORT, me.client_tls_port),
        (m.X_ZONE, me.zone)) if value]
    now_s = bus.now // 1000
    for node_id, until in bus.state.blacklist.items():
        if until >= now_s:
            parts.append(m.extension(m.X_FORGOTTEN, (node_id, until - now_s)))
    parts.append(m.extension(m.X_SHARD_ID, me.shard_id))
    return parts


# --- receiving -----------------------------------------------------------------------------------


def process_gossip(bus: Bus, data: bytes, count: int, sender: Node | None) -> None:
    """What a packet says of `count` other nodes. sender: None where it is not known; a node in handshake counts as
    known."""
    if not count:
        return
    state, table = bus.state, bus.state.table
    strangers = table.find(data, count)
    if strangers is not None:
        gossip = np.frombuffer(data, m.gossip_type(), count, m.HEADER_BYTES)
        if not _ids_are_valid(bus, gossip, strangers, sender):
            return
        for place in strangers if sender is not None else ():
            _add_node(bus, gossip[place])
    news = table.take(data, count, sender, bus.now, bus.least_line <= VERBOSE)
    if news is not None:
        order = state.order
        _gossip_news(bus, sender, data, [(entry, order[place], bits) for entry, place, bits in news])


def _gossip_news(bus: Bus, sender: Node, data: bytes, news: list[tuple[int, Node, int]]) -> None:
    """What is to be said or decided of nodes that somebody does not reach, or this node does not."""
    for entry, node, bits in news:
        if bits & NEWS_REPORT:
            bus.log(VERBOSE, f"Node {sender.label} reported node {node.label} as not reachable.")
        if bits & NEWS_BACK:
            bus.log(VERBOSE, f"Node {sender.label} reported node {node.label} is back online.")
        if bits & NEWS_AGREED:
            liveness.fail_if_agreed(bus, node)
        if bits & NEWS_ADDRESS:
            at = m.HEADER_BYTES + m.GOSSIP_BYTES * entry
            _address_news(bus, node, np.frombuffer(data, m.gossip_type(), 1, at)[0])


def _ids_are_valid(bus: Bus, gossip: np.ndarray, places: list[int], sender: Node | None) -> bool:
    """An invalid id or address spoils all entries: the sender's memory is not to be trusted."""
    invalid = 0
    for place in places:
        entry = gossip[place]
        node_id = bytes(entry["id"])
        if m.is_id(node_id):
            try:
                m.text_of(bytes(entry["ip"]))
                continue
            except m.BadPacket:
                pass
        invalid += 1
        shown = "".join(f"\\x{byte:02X}" for byte in entry.tobytes()[:48])
        bus.log(WARNING, f"Received gossip about a node with invalid ID {node_id.decode('latin-1')}. For debugging "
                         f"purposes, the 48 bytes including the invalid ID and 8 trailing bytes are: {shown}")
    if invalid:
        who = f"Node {sender.label}" if sender is not None else "Unknown node"
        bus.log(WARNING, f"{who} gossiped {invalid} nodes with invalid IDs.")
    return not invalid


def _add_node(bus: Bus, entry: np.void) -> None:
    """A node that a known one speaks of: its id and address are taken as they are."""
    flags, node_id = int(entry["flags"]), bytes(entry["id"])
    state = bus.state
    if flags & m.F_NOADDR or flags & m.F_PRIMARY and flags & m.F_REPLICA or node_id in state.nodes:
        return
    if state.is_blacklisted(node_id, bus.now // 1000):
        return
    node = state.create(node_id, flags & ~(m.F_MYSELF | m.F_HANDSHAKE), bus.now)
    node.set_address(m.text_of(bytes(entry["ip"])), int(entry["port"]), int(entry["pport"]), int(entry["cport"]))
    if flags & m.F_FAIL:
        node.fail_time = bus.now
    state.add_to_shard(node)
    state.version += 1


def _address_news(bus: Bus, node: Node, entry: np.void) -> None:
    """A node that we cannot reach is elsewhere, says somebody who reaches it."""
    try:
        ip = m.text_of(bytes(entry["ip"]))
    except m.BadPacket:
        return
    address = ip, int(entry["port"]), int(entry["pport"]), int(entry["cport"])
    if (node.ip.lower(), node.tcp_port, node.tls_port, node.cport) == (ip.lower(), *address[1:]):
        return
    bus.drop_link(node.link)
    move(bus, node, *address)


def move(bus: Bus, node: Node, ip: str, tcp_port: int, tls_port: int, cport: int) -> None:
    """A node has another address, whose link is closed already."""
    node.set_address(ip, tcp_port, tls_port, cport)
    node.flags &= ~m.F_NOADDR
    bus.state.version += 1
    bus.log(NOTICE, f"Address updated for node {node.label}, now {ip}:{tcp_port}")
    if bus.state.myself.is_replica and bus.state.myself.replicaof is node:
        bus.actions.append(Follow(ip, tcp_port, False))


# --- extensions ----------------------------------------------------------------------------------

TEXT_FIELDS = {m.X_HOSTNAME: "hostname", m.X_NODENAME: "nodename", m.X_IPV4: "client_ipv4", m.X_IPV6: "client_ipv6",
               m.X_PORT: "client_port", m.X_TLS_PORT: "client_tls_port", m.X_ZONE: "zone"}


def process_extensions(bus: Bus, packet: m.Packet, sender: Node) -> None:
    """What a node announces of itself, and whom it has forgotten. What it does not say, it no longer has."""
    said: dict[int, object] = {}
    for kind, value in packet.extensions:
        if kind == m.X_FORGOTTEN:
            _forget(bus, *value)
        elif kind in TEXT_FIELDS or kind == m.X_SHARD_ID:
            said[kind] = value
        else:
            bus.log(WARNING, f"Received unknown extension type {kind}")
    if sender.id not in bus.state.nodes:      # it has told us to forget itself
        return
    for kind, name in TEXT_FIELDS.items():
        empty = 0 if kind in m.PORT_EXTENSIONS else ""
        value = said.get(kind, empty)
        if getattr(sender, name) != value:
            setattr(sender, name, value)
            bus.state.version += 1
            bus.todo(T_SAVE)
    update_shard_id(bus, sender, said.get(m.X_SHARD_ID) or sender.primary.shard_id)


def _forget(bus: Bus, node_id: bytes, seconds: int) -> None:
    state, me = bus.state, bus.state.myself
    node = state.lookup(node_id)
    if node is None or node is me or (me.is_replica and me.replicaof is node):
        return
    state.blacklist[node_id] = min(bus.now // 1000 + seconds, m.U64)
    bus.delete_node(node)
    bus.todo(T_STATE | T_SAVE)


def update_shard_id(bus: Bus, node: Node, shard_id: bytes) -> None:
    """A node is of that shard, unless it is a replica and its primary is of another."""
    state, me = bus.state, bus.state.myself
    if node.is_replica and node.primary.shard_id != shard_id:
        bus.log(NOTICE, f"Shard id {shard_id.decode()} update request for node id {node.name} diverges from existing "
                        f"primary shard id {node.primary.shard_id.decode()}, rejecting!")
        return
    if node.shard_id != shard_id:
        state.move_to_shard(node, shard_id)
        bus.todo(T_SAVE)
    if node is not me and me.replicaof is node and me.shard_id != shard_id:
        state.move_to_shard(me, shard_id)
        bus.todo(T_SAVE | T_FSYNC)
