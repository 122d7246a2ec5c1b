"""Who is in the cluster and who owns which slot, as one node sees it: no protocol, no sockets, no clock.

What is looked at for all nodes at once (times of pings and pongs, flags) lies in arrays (table.pyx), one place a node;
the rest in Node objects. A node's place is its `index`: 1 is always this node, 0 nobody. `owners` has the index of each
slot's owner. Indexes of others may change when a node goes.
"""

from __future__ import annotations

from random import Random

from engine.shared import find
from net.cluster import messages as m
from net.cluster.messages import MAP_BYTES, NO_SLOTS, SLOTS
from net.cluster.table import Place, Table
from net.lazy import numpy as np

MYSELF = 1
STATE_OK, STATE_FAIL = 0, 1
REASON_NONE, REASON_COVERAGE, REASON_MINORITY = 0, 1, 2
# what before_sleep has to do
T_FAILOVER, T_STATE, T_SAVE, T_FSYNC, T_MANUAL, T_BROADCAST = (1 << bit for bit in range(6))
MASK64 = m.U64


def slots_of(raw: bytes) -> np.ndarray:
    """The numbers of the slots in a map of 2048 bytes, ascending."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little"))


def map_of(mask: np.ndarray) -> bytes:
    """The map of a boolean array of all slots."""
    return np.packbits(mask, bitorder="little").tobytes()


def ranges_of(numbers: np.ndarray) -> list[tuple[int, int]]:
    """Ascending slot numbers as (first, last) of each run."""
    if not len(numbers):
        return []
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    firsts = numbers[np.concatenate(([0], breaks + 1))]
    lasts = numbers[np.concatenate((breaks, [len(numbers) - 1]))]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def range_words(numbers: np.ndarray) -> list[str]:
    """Ascending slot numbers as nodes.conf and the log have them: "5", "7-9"."""
    return [str(first) if first == last else f"{first}-{last}" for first, last in ranges_of(numbers)]


class Node(Place):
    """A node as this one knows it. Times are Unix milliseconds; 0: never. Ids are 40 bytes."""

    __slots__ = ()

    @property
    def epoch(self) -> int:
        """The configuration epoch of its shard."""
        return self.replicaof.config_epoch if self.replicaof else self.config_epoch

    @property
    def primary(self) -> Node:
        """Its primary, or itself."""
        node = self
        while node.replicaof is not None and node.replicaof is not self:
            node = node.replicaof
        return node

    @property
    def name(self) -> str:
        """Its id as text."""
        return self.id.decode()

    @property
    def human(self) -> str:
        """What the log calls it: its announced name, or its address."""
        if self.nodename:
            return self.nodename
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{host}:{self.tcp_port}"

    @property
    def label(self) -> str:
        """Id and name, as in log lines."""
        return f"{self.name} ({self.human})"

    def set_address(self, ip: str, tcp_port: int, tls_port: int, cport: int) -> None:
        """Where it is; also into what is gossiped of it."""
        self.ip, self.tcp_port, self.tls_port, self.cport = ip, tcp_port, tls_port, cport
        self.said = None
        self.table.set_address(self.index, ip.encode("latin-1"), tcp_port, tls_port, cport)

    def __repr__(self) -> str:
        return f"<node {self.name[:8]} {self.human} flags {self.flags:#x}>"


def _different(owners: np.ndarray) -> list[int]:
    """The indexes of nodes that occur; counted, which is faster than sorting."""
    return np.flatnonzero(np.bincount(owners)).tolist()


class ClusterState:
    """The cluster as one node sees it."""

    def __init__(self, rng: Random, now: int, maps: dict[bytes, bytes] | None = None):
        self.rng = rng
        self.table = Table()
        self.order: list[Node | None] = [None]       # by index
        self.nodes: dict[bytes, Node] = {}
        self.shards: dict[bytes, list[Node]] = {}
        self.owners = np.zeros(SLOTS, np.uint16)
        self.not_claimed = np.zeros(SLOTS, bool)     # the owner has stopped claiming it
        self.any_not_claimed = False
        self.migrating: dict[int, Node] = {}
        self.importing: dict[int, Node] = {}
        self.blacklist: dict[bytes, int] = {}        # id: Unix seconds until which it is not added again
        self.current_epoch = self.last_vote_epoch = 0
        self.state = STATE_FAIL
        self.fail_reason = REASON_NONE
        self.safe_to_join = False
        self.size = 0                                # primaries with slots
        self.todo = 0
        self.version = 0                             # counts changes of what the router must know
        self.maps = maps           # one object for equal bytes, where many states are in one process
        self.myself: Node | None = None
        self.now = now

    # ---- nodes

    def hex_id(self) -> bytes:
        """A new random id."""
        return b"%040x" % self.rng.getrandbits(160)

    def create(self, node_id: bytes | None, flags: int, now: int, shard_id: bytes | None = None) -> Node:
        """A node, known from now on; node_id None: a made-up id. It is in no shard's list yet."""
        node = Node(self.table, node_id or self.hex_id(), shard_id or self.hex_id(), flags, now)
        self.nodes[node.id] = node
        self.order.append(node)
        return node

    def create_myself(self, now: int, node_id: bytes | None = None) -> Node:
        """This node, the first of all."""
        node = self.create(node_id, m.F_MYSELF | m.F_PRIMARY, now)
        self.adopt(node)
        self.add_to_shard(node)
        return node

    def adopt(self, node: Node) -> None:
        """`node` is this one: it moves to index 1."""
        self.myself = node
        if node.index == MYSELF:
            return
        other, table, place = self.order[MYSELF], self.table, node.index
        table.swap(MYSELF, place)
        mine, theirs = self.owners == place, self.owners == MYSELF
        self.owners[mine], self.owners[theirs] = MYSELF, place
        self.order[MYSELF], self.order[place] = node, other
        node.move_to(table, MYSELF)
        other.move_to(table, place)
        self.version += 1

    def rename(self, node: Node, node_id: bytes) -> None:
        """The node's true id is known now."""
        del self.nodes[node.id]
        node.id = node_id
        self.nodes[node_id] = node
        self.table.set_id(node.index, node_id)
        node.said = None
        self.version += 1

    def forget(self, node: Node) -> None:
        """Takes a node out of everything; its links must be closed already."""
        for open_slots in (self.migrating, self.importing):
            for slot in [slot for slot, other in open_slots.items() if other is node]:
                del open_slots[slot]
        self.unassign(slots_of(node.slots))
        self.remove_from_shard(node)
        for replica in node.replicas or ():
            replica.replicaof = None
        if node.replicaof is not None:
            self.remove_replica(node.replicaof, node)
        del self.nodes[node.id]
        place, last = node.index, self.order.pop()
        self.table.drop(place)
        if last is not node:
            self.owners[self.owners == last.index] = place
            self.order[place] = last
            last.move_to(self.table, place)
        nowhere = Table(2)         # who still holds it writes into nothing
        node.move_to(nowhere, nowhere.add(node.id, 0, 0))
        self.version += 1

    def lookup(self, node_id: bytes) -> Node | None:
        """The node with this id."""
        return find(self.nodes, node_id)

    def others(self) -> list[Node]:
        """All nodes but this one."""
        return self.order[MYSELF + 1:]

    # ---- shards and replicas

    def add_to_shard(self, node: Node) -> None:
        """Into the list of its shard id."""
        members = self.shards.setdefault(node.shard_id, [])
        if node not in members:
            members.append(node)

    def remove_from_shard(self, node: Node) -> None:
        """Out of the list of its shard id."""
        members = find(self.shards, node.shard_id)
        if members is not None:
            if node in members:
                members.remove(node)
            if not members:
                del self.shards[node.shard_id]

    def move_to_shard(self, node: Node, shard_id: bytes) -> None:
        """Another shard id."""
        self.remove_from_shard(node)
        node.shard_id = shard_id
        self.add_to_shard(node)

    def add_replica(self, primary: Node, replica: Node) -> None:
        """Into the primary's list, which is sorted by id."""
        if primary.replicas is None:
            primary.replicas = []
        if replica not in primary.replicas:
            primary.replicas.append(replica)
            primary.replicas.sort(key=lambda node: node.id)
            primary.flags |= m.F_MIGRATE_TO

    def remove_replica(self, primary: Node, replica: Node) -> None:
        """Out of the primary's list."""
        if primary.replicas and replica in primary.replicas:
            primary.replicas.remove(replica)
            if not primary.replicas:
                primary.flags &= ~m.F_MIGRATE_TO

    # ---- slots

    def owner(self, slot: int) -> Node | None:
        """Who has the slot."""
        return self.order[self.owners[slot]]

    def shared(self, raw: bytes) -> bytes:
        """The one object for these bytes."""
        return raw if self.maps is None else self.maps.setdefault(raw, raw)

    def _set_map(self, node: Node) -> None:
        had = node.numslots
        mask = self.owners == node.index
        node.slots = self.shared(map_of(mask))
        node.numslots = int(np.count_nonzero(mask))
        if not had and node.numslots and any(other.replicas for other in self.order[MYSELF:] if not other.is_replica):
            node.flags |= m.F_MIGRATE_TO

    def assign(self, node: Node, slots: np.ndarray) -> None:
        """These slots are the node's from now on, whoever had them."""
        if not len(slots):
            return
        losers = set(_different(self.owners[slots])) - {0, node.index}
        self.owners[slots] = node.index
        self.not_claimed[slots] = False
        for index in losers:
            self._set_map(self.order[index])
        self._set_map(node)
        self.version += 1

    def unassign(self, slots: np.ndarray) -> None:
        """These slots are nobody's."""
        losers = set(_different(self.owners[slots])) - {0}
        if not losers:
            return
        self.owners[slots] = 0
        self.not_claimed[slots] = False
        for index in losers:
            self._set_map(self.order[index])
        self.version += 1

    def close_slots(self) -> None:
        """No slot is migrating or importing any more."""
        if self.migrating or self.importing:
            self.migrating.clear()
            self.importing.clear()
            self.version += 1

    def unclaimed(self) -> np.ndarray:
        """Which slots nobody has, or their owner no longer claims."""
        return (self.owners == 0) | self.not_claimed

    def owner_epochs(self) -> np.ndarray:
        """The configuration epoch of each slot's owner; 0 where there is none."""
        epochs = np.zeros(len(self.order), np.uint64)
        for index in _different(self.owners):
            if index:
                epochs[index] = self.order[index].config_epoch
        return epochs[self.owners]

    # ---- failure reports

    def add_report(self, failing: Node, sender: Node, now: int) -> bool:
        """A primary says that a node fails; True: it had not said so."""
        return not failing.is_failed and self.table.report(failing.index, sender.index, now)

    def drop_report(self, node: Node, sender: Node) -> bool:
        """The sender sees the node well again; True: it had not."""
        return self.table.withdraw(node.index, sender.index)

    def count_reports(self, node: Node, oldest: int) -> int:
        """How many reports are newer than `oldest`; older ones are dropped."""
        return self.table.count_reports(node.index, oldest)

    # ---- the blacklist

    def is_blacklisted(self, node_id: bytes, now_s: int) -> bool:
        """May the node not be added again yet?"""
        if not self.blacklist:
            return False
        for key in [key for key, until in self.blacklist.items() if until < now_s]:
            del self.blacklist[key]
        return node_id in self.blacklist

    # ---- epochs

    def max_epoch(self) -> int:
        """The greatest epoch known."""
        return max(self.current_epoch, max((node.config_epoch for node in self.order[MYSELF:]), default=0))

    def next_epoch(self) -> int:
        """The current epoch, raised by one."""
        self.current_epoch = min(self.current_epoch + 1, MASK64)
        return self.current_epoch


assert bytes(MAP_BYTES) == NO_SLOTS
