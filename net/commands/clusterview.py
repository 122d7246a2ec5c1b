"""CLUSTER: the commands that show the cluster as this node sees it."""

from net.cluster import messages as m
from net.cluster import nodesconf, routes, running
from net.cluster.bus import LINK_BYTES, Bus, Link, Stats
from net.cluster.nodes import MYSELF, Node, ranges_of, slots_of
from net.commands import config as config_commands
from net.commands.cluster import current, find_node, row
from net.commands.common import help_lines, text_setting
from net.lazy import numpy as np
from net.reply import Error, Verbatim

SHOW = "loading stale"
PREFERRED = "cluster-preferred-endpoint-type"


def _is_ipv6(client: object) -> bool:
    return client.addr.startswith(b"[")


def _address(client: object, node: Node) -> tuple[str, int]:
    return routes.client_ip(node, _is_ipv6(client)), node.client_port or node.tcp_port


def my_id(_client: object, _args: list[bytes]) -> object:
    """CLUSTER MYID"""
    return current().bus.state.myself.id


def my_shard_id(_client: object, _args: list[bytes]) -> object:
    """CLUSTER MYSHARDID"""
    return current().bus.state.myself.shard_id


def show_nodes(client: object, _args: list[bytes]) -> object:
    """CLUSTER NODES"""
    with current().lock:
        state = current().bus.state
        lines = [nodesconf.describe(state, node, _address(client, node)) + "\n" for node in state.order[MYSELF:]]
    return Verbatim("".join(lines).encode("latin-1"), "txt")


def replicas(client: object, args: list[bytes]) -> object:
    """CLUSTER REPLICAS node-id"""
    with current().lock:
        bus = current().bus
        node = find_node(bus, args[2])
        if node.is_replica:
            raise Error("ERR The specified node is not a master")
        return [nodesconf.describe(bus.state, replica, _address(client, replica)).encode("latin-1")
                for replica in node.replicas or ()]


# ---- SLOTS, SHARDS


def _offset(bus: Bus, node: Node) -> int:
    return bus.repl_offset() if node.index == MYSELF else node.repl_offset


def _slots_node(client: object, node: Node) -> list:
    """A node as CLUSTER SLOTS shows it."""
    preferred = text_setting(PREFERRED)
    host, port = routes.endpoint(node, preferred, _is_ipv6(client))
    more = {}
    if preferred != "ip":
        more[b"ip"] = routes.client_ip(node, _is_ipv6(client)).encode("latin-1")
    if preferred != "hostname" and node.hostname:
        more[b"hostname"] = node.hostname.encode("latin-1")
    if node.zone:
        more[b"availability-zone"] = node.zone.encode("latin-1")
    return [None if preferred == "unknown-endpoint" else host.encode("latin-1"), port, node.id, more]


def show_slots(client: object, _args: list[bytes]) -> object:
    """CLUSTER SLOTS"""
    with current().lock:
        bus = current().bus
        owners = bus.state.owners
        edges = np.concatenate(([0], np.flatnonzero(np.diff(owners.astype(np.int32))) + 1, [len(owners)]))
        reply = []
        for first, after in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            node = bus.state.owner(first)
            if node is not None:
                shown = [replica for replica in node.replicas or ()
                         if not replica.is_failed and _offset(bus, replica)]
                reply.append([first, after - 1, *(_slots_node(client, each) for each in (node, *shown))])
        return reply


def _shard_node(client: object, bus: Bus, node: Node) -> dict:
    """A node as CLUSTER SHARDS shows it."""
    ipv6 = _is_ipv6(client)
    host, port = routes.endpoint(node, text_setting(PREFERRED), ipv6)
    reply: dict = {b"id": node.id}
    if node.tcp_port:
        reply[b"port"] = port
    if node.tls_port:
        reply[b"tls-port"] = node.client_tls_port or node.tls_port
    reply[b"ip"] = routes.client_ip(node, ipv6).encode("latin-1")
    reply[b"endpoint"] = host.encode("latin-1")
    if node.hostname:
        reply[b"hostname"] = node.hostname.encode("latin-1")
    offset = _offset(bus, node)
    reply[b"role"] = b"replica" if node.is_replica else b"master"
    reply[b"replication-offset"] = offset
    loading = node.is_replica and not offset
    reply[b"health"] = b"fail" if node.is_failed else b"loading" if loading else b"online"
    if node.zone:
        reply[b"availability-zone"] = node.zone.encode("latin-1")
    return reply


def show_shards(client: object, _args: list[bytes]) -> object:
    """CLUSTER SHARDS"""
    with current().lock:
        bus = current().bus
        reply = []
        for shard_id, members in bus.state.shards.items():
            slots: list[int] = []
            owner = next((node for node in members if node.numslots), None)
            for pair in ranges_of(slots_of(owner.slots)) if owner is not None else ():
                slots += pair
            reply.append({b"slots": slots, b"nodes": [_shard_node(client, bus, node) for node in members],
                          b"id": shard_id})
        return reply


# ---- INFO, LINKS


def info_fields() -> list[tuple[str, object]]:
    """What CLUSTER INFO says."""
    driver = current()
    with driver.lock:
        bus = driver.bus
        state, stats, table = bus.state, bus.stats, bus.state.table
        flags, slots = table.flags[MYSELF:table.used], table.numslots[MYSELF:table.used]
        failed = flags & m.F_FAIL != 0
        suspected = flags & m.F_PFAIL != 0
        voting = (flags & m.F_PRIMARY != 0) & (slots > 0)
        fields: list[tuple[str, object]] = [
            ("cluster_state", ("ok", "fail")[state.state]),
            ("cluster_slots_assigned", int(slots.sum())),
            ("cluster_slots_ok", int(slots[~failed & ~suspected].sum())),
            ("cluster_slots_pfail", int(slots[suspected & ~failed].sum())),
            ("cluster_slots_fail", int(slots[failed].sum())),
            ("cluster_nodes_pfail", int(suspected.sum())),
            ("cluster_nodes_fail", int(failed.sum())),
            ("cluster_voting_nodes_pfail", int((suspected & voting).sum())),
            ("cluster_voting_nodes_fail", int((failed & voting).sum())),
            ("cluster_known_nodes", len(state.nodes)),
            ("cluster_size", state.size),
            ("cluster_current_epoch", state.current_epoch),
            ("cluster_my_epoch", state.myself.epoch),
        ]
        for way, counts in (("sent", stats.sent), ("received", stats.received)):
            fields += [(f"cluster_stats_messages_{m.type_name(kind)}_{way}", count)
                       for kind, count in enumerate(counts) if count]
            fields.append((f"cluster_stats_messages_{way}", sum(counts)))
        fields += [(f"cluster_stats_{name}", getattr(stats, name)) for name in (
            "bytes_sent", "bytes_received", "pubsub_bytes_sent", "pubsub_bytes_received", "module_bytes_sent",
            "module_bytes_received")]
        fields.append(("total_cluster_links_buffer_limit_exceeded", stats.buffer_limit_exceeded))
        return fields


def info_section() -> list[tuple[str, object]]:
    """INFO's section of the cluster."""
    return info_fields() if running.driver is not None else []


def _reset_stats() -> None:
    if running.driver is not None:
        running.driver.bus.stats = Stats()


config_commands.RESETTERS.append(_reset_stats)


def show_info(_client: object, _args: list[bytes]) -> object:
    """CLUSTER INFO"""
    text = "".join(f"{name}:{value}\r\n" for name, value in info_fields())
    return Verbatim(text.encode(), "txt")


def _link(bus: Bus, link: Link) -> dict:
    queued = bus.queued_bytes(link)
    return {b"direction": b"from" if link.is_inbound else b"to", b"node": link.node.id, b"create-time": link.ctime,
            b"events": b"rw" if queued > LINK_BYTES else b"r", b"send-buffer-allocated": queued,
            b"send-buffer-used": queued}


def show_links(_client: object, _args: list[bytes]) -> object:
    """CLUSTER LINKS"""
    with current().lock:
        bus = current().bus
        return [_link(bus, link) for node in bus.state.order[MYSELF:] for link in (node.link, node.inbound)
                if link is not None]


# ---- HELP

HELP = [
    ("ADDSLOTS <slot> [<slot> ...]", "Makes slots this node's."),
    ("ADDSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]", "Makes ranges of slots this node's."),
    ("BUMPEPOCH", "Takes a new configuration epoch."),
    ("COUNT-FAILURE-REPORTS <node-id>", "Counts the primaries that say that the node fails."),
    ("DELSLOTS <slot> [<slot> ...]", "Makes slots nobody's."),
    ("DELSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]", "Makes ranges of slots nobody's."),
    ("FAILOVER [FORCE|TAKEOVER]", "On a replica: takes its primary's place."),
    ("FORGET <node-id>", "Takes a node out of the cluster."),
    ("FLUSHSLOTS", "Makes all of this node's slots nobody's."),
    ("INFO", "Shows how the cluster is."),
    ("KEYSLOT <key>", "Says which slot the key has."),
    ("LINKS", "Lists the connections to and from other nodes, a map each."),
    ("MEET <ip> <port> [<bus-port>]", "Makes another node part of the cluster."),
    ("MYID", "Shows this node's id."),
    ("MYSHARDID", "Shows the id of this node's shard."),
    ("NODES", "Lists the nodes, a line each:\n"
     "<id> <ip:port@bus-port[,hostname]> <flags> <primary> <pings> <pongs> <epoch> <link> <slot> ..."),
    ("REPLICAS <node-id>", "Lists a primary's replicas."),
    ("REPLICATE <node-id>", "Makes this node the replica of another."),
    ("RESET [HARD|SOFT]", "Forgets the cluster (default: soft)."),
    ("SAVECONFIG", "Writes nodes.conf."),
    ("SET-CONFIG-EPOCH <epoch>", "Sets the configuration epoch of a new node."),
    ("SETSLOT <slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)",
     "Says what is under way with a slot, or whose it is."),
    ("SHARDS", "Lists the shards: their slots and their nodes."),
    ("SLOTS", "Lists the slots: first, last, primary and replicas."),
]
HELP_LINES = help_lines("cluster", HELP)


def show_help(_client: object, _args: list[bytes]) -> object:
    """CLUSTER HELP"""
    current()
    return HELP_LINES


O_NODES = "O(N), N the nodes"
O_REPLICAS = "O(N), N the replicas"
row("help", 2, SHOW, show_help, "5.0.0", "Lists the subcommands.", "slow")
row("info", 2, SHOW, show_info, "3.0.0", "Shows how the cluster is.", "slow")
row("links", 2, "stale", show_links, "7.0.0", "Lists the connections between nodes.", "slow", O_NODES)
row("myid", 2, SHOW, my_id, "3.0.0", "Shows this node's id.", "slow")
row("myshardid", 2, SHOW, my_shard_id, "7.2.0", "Shows the id of this node's shard.", "slow")
row("nodes", 2, SHOW, show_nodes, "3.0.0", "Lists the nodes.", "slow", O_NODES)
row("replicas", 3, "admin stale", replicas, "5.0.0", "Lists a primary's replicas.", complexity=O_REPLICAS)
row("shards", 2, SHOW, show_shards, "7.0.0", "Lists the shards.", "slow", O_NODES)
row("slaves", 3, "admin stale", replicas, "3.0.0", "Lists a primary's replicas.", complexity=O_REPLICAS,
    doc_flags="deprecated", deprecated_since="5.0.0", replaced_by="`CLUSTER REPLICAS`")
row("slots", 2, SHOW, show_slots, "3.0.0", "Lists which node has which slots.", "slow", O_NODES)
