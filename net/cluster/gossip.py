"""Pings, pongs and meets: what a node tells of itself and of others, and what it takes from what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.cluster import liveness
from net.cluster import messages as m
from net.cluster.decisions import Follow
from net.cluster.later import numpy as np
from net.cluster.nodes import T_FSYNC, T_SAVE, T_STATE, Node

if TYPE_CHECKING:
    from net.cluster.bus import Bus, Link

VERBOSE, NOTICE, WARNING = 1, 2, 3
GOSSIP_MIN = 3
GOSSIP_MAX = 65535
FUTURE_MS = 500           # how far a gossiped pong may lie in our future
FAILING = m.F_PFAIL | m.F_FAIL
NOT_NORMAL = m.F_HANDSHAKE | m.F_MEET | FAILING


# --- sending -------------------------------------------------------------------------------------


def send_ping(bus: Bus, link: Link, kind: int) -> None:
    """Sends PING, PONG or MEET with gossip of some nodes, and of all that are suspected."""
    node = link.node
    if bus.debugs():
        name, human = (node.name, node.human) if node is not None else ("<unknown>", "<unknown>")
        way = "inbound" if link.is_inbound else "outbound"
        bus.log(0, f"Sending {m.type_name(kind)} packet to node {name} ({human}) on {way} link")
    if node is not None and not link.is_inbound:
        if kind == m.PING:
            node.ping_sent = bus.now
        elif kind == m.MEET:
            node.meet_sent = bus.now
    rows = _gossip_rows(bus, node)
    body = rows.tobytes()
    count = 0
    if link.extensions or (node is not None and node.flags & m.F_EXTENSIONS):
        parts = _extensions(bus)
        count = len(parts)
        body += b"".join(parts)
    bus.send(link, kind, m.finish(bus.head(kind), kind, body, m.M_EXT_DATA, len(rows), count))


def _gossip_rows(bus: Bus, receiver: Node | None) -> np.ndarray:
    """The entries: a run of nodes from a random one on, then the suspected ones."""
    table = bus.state.table
    known = table.used - 1
    wanted = max(known * bus.settings.gossip_percent // 100, GOSSIP_MIN)
    wanted = min(wanted, known - 2)
    places = np.empty(0, np.intp)
    if wanted > 0:
        start = bus.rng.randrange(known)
        picked = (np.arange(start, start + min(wanted + 2, known)) % known) + 1
        flags = table.flags[picked]
        fit = flags & (m.F_MYSELF | m.F_PFAIL | m.F_HANDSHAKE | m.F_NOADDR) == 0
        fit &= (table.link_ctime[picked] != 0) | (table.numslots[picked] != 0)
        if receiver is not None:
            fit &= picked != receiver.index
        places = picked[fit][:wanted]
    if bus.pfail_nodes:
        flags = table.flags[:table.used]
        suspects = np.flatnonzero((flags & (m.F_PFAIL | m.F_HANDSHAKE | m.F_NOADDR | m.F_MYSELF)) == m.F_PFAIL)
        places = np.concatenate((places, suspects[:bus.pfail_nodes]))
    rows = table.rows[places]
    rows["ping_sent"] = table.ping_sent[places] // 1000
    rows["pong_received"] = table.pong_received[places] // 1000
    rows["flags"] = table.flags[places]
    return rows[:GOSSIP_MAX]


def _extensions(bus: Bus) -> list[bytes]:
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


def process_gossip(bus: Bus, packet: m.Packet, sender: Node | None) -> None:
    """What a packet says of other nodes. sender: None where it is not known; a node in handshake counts as known."""
    if not packet.count:
        return
    state, gossip = bus.state, packet.gossip
    nodes = state.nodes
    ids = gossip["id"].tolist()
    found = [nodes.get(node_id) for node_id in ids]
    strangers = [place for place, node in enumerate(found) if node is None]
    if strangers and not _ids_are_valid(bus, gossip, strangers, sender):
        return
    for place in strangers:
        if sender is not None:
            _add_node(bus, gossip[place])
    places = np.fromiter((0 if node is None else node.index for node in found), np.intp, len(found))
    flags = gossip["flags"].astype(np.int32)
    known = places > 1
    bad = flags & FAILING != 0
    table = state.table
    local = table.flags[places]
    if sender is not None:
        special = known & (bad | (table.reports[places] != 0) | (local & FAILING != 0))
        if special.any():
            for at in np.flatnonzero(special).tolist():
                node = found[at]
                if node.table is table:
                    _failure_news(bus, node, sender, int(flags[at]))
                    _address_news(bus, node, gossip[at], int(flags[at]))
            local = table.flags[places]
    fine = known & ~bad & (local & NOT_NORMAL == 0) & (table.ping_sent[places] == 0) & (table.reports[places] == 0)
    pongs = gossip["pong_received"].astype(np.int64) * 1000
    fine &= (pongs > table.pong_received[places]) & (pongs <= bus.now + FUTURE_MS)
    table.pong_received[places[fine]] = pongs[fine]


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


def _failure_news(bus: Bus, node: Node, sender: Node | None, flags: int) -> None:
    """The sender thinks that the node fails, or no longer."""
    if sender is None:
        return
    if flags & FAILING:
        if sender.is_voting and bus.state.add_report(node, sender, bus.now):
            bus.log(VERBOSE, f"Node {sender.label} reported node {node.label} as not reachable.")
        liveness.fail_if_agreed(bus, node)
    elif bus.state.drop_report(node, sender):
        bus.log(VERBOSE, f"Node {sender.label} reported node {node.label} is back online.")
    if bus.state.table.reports_v[node.index]:
        liveness.count_reports(bus, node)


def _address_news(bus: Bus, node: Node, entry: np.void, flags: int) -> None:
    """A node that we cannot reach is elsewhere, says somebody who reaches it."""
    if not node.flags & FAILING or flags & (m.F_NOADDR | FAILING):
        return
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
