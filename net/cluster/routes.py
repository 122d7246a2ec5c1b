"""What the data plane's router must know of the cluster, told to it whenever it changes; what it knows of keys.

The router (net/router) has its own numbers of nodes: they stay while a node is known, and are used again only when no
slot refers to them any more. Where it is not built (the bus in a test), nobody is told and slots have no keys.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

from engine import store
from engine.shared import find
from net.cluster import nodes
from net.cluster.nodes import ClusterState, Node
from net.lazy import numpy as np

ROUTER_MYSELF = 1
# ClusterState.fail_reason and what the router calls it; a cluster that is down before any reason is known
DOWN = {nodes.REASON_COVERAGE: 1, nodes.REASON_MINORITY: 2, nodes.REASON_NONE: 3}


def endpoint(node: Node, preferred: str, ipv6: bool = False) -> tuple[str, int]:
    """How clients are sent to a node: host as cluster-preferred-endpoint-type wants it, port."""
    port = node.client_port or node.tcp_port
    if preferred == "hostname":
        return node.hostname or "?", port
    if preferred == "unknown-endpoint":
        return "", port
    return client_ip(node, ipv6), port


def client_ip(node: Node, ipv6: bool = False) -> str:
    """A node's address as clients are told it."""
    return (node.client_ipv6 if ipv6 else node.client_ipv4) or node.ip


def find_router() -> object | None:
    """The router module, where it is built."""
    try:
        return importlib.import_module("net.router")
    except ImportError:
        return None


class Routes:
    """Keeps a router equal to a state."""

    def __init__(self, router: object | None):
        self.router = router
        self.version = -1
        self.numbers: dict[bytes, int] = {}        # node id -> the router's number
        self.endpoints: dict[int, tuple] = {}
        self.open: dict[str, dict[int, int]] = {"migrating": {}, "importing": {}}
        self.owners = b""
        self.state = -1

    def count_keys(self, slot: int) -> int:
        """Keys of a slot, over all databases."""
        counted = getattr(self.router, "slot_keys", None)
        if counted is not None:
            return counted(slot)
        return int(not self.is_empty()) if self.router is not None else 0

    def with_keys(self, slots: list[int]) -> list[int]:
        """Those of these slots that have keys."""
        look = getattr(self.router, "slots_with_keys", None)
        return look(slots) if look is not None else [slot for slot in slots if self.count_keys(slot)]

    @staticmethod
    def is_empty() -> bool:
        """Is there no key in any database?"""
        from engine import inspect
        return not any(store.counts(db)[0] for db in range(inspect.databases()))

    def drop_keys(self, slots: list[int]) -> None:
        """Deletes the keys of slots that have gone to others."""
        drop = getattr(self.router, "drop_slot_keys", None)
        for slot in slots if drop is not None else ():
            drop(slot)

    @contextlib.contextmanager
    def paused(self, slot: int | None) -> Iterator[None]:
        """Clients' writes to a slot wait: what is decided by its keys holds until the router knows of it."""
        slots = [] if slot is None or self.router is None else [slot]
        if slots:
            self.router.pause(slots)
        try:
            yield
        finally:
            if slots:
                self.router.resume(slots)

    def update(self, state: ClusterState, preferred: str) -> None:
        """Tells the router what has changed since the last time."""
        if self.router is None or state.version == self.version:
            return
        self.version = state.version
        fresh = self._number_nodes(state)
        lookup = np.zeros(len(state.order), np.uint16)
        for place, node in enumerate(state.order[1:], 1):
            number = self.numbers[node.id]
            lookup[place] = number
            texts = tuple(b"%b:%d" % (host.encode("latin-1"), port) for host, port in (
                endpoint(node, preferred), endpoint(node, preferred, ipv6=True)))
            if find(self.endpoints, number) != texts:
                self.router.set_node(number, *texts)
                self.endpoints[number] = texts
        owners = lookup[state.owners].astype("<u2").tobytes()
        if owners != self.owners:
            self.router.set_owners(owners)
            self.owners = owners
        self._tell_open("migrating", state.migrating, self.router.set_migrating)
        self._tell_open("importing", state.importing, self.router.set_importing)
        self._tell_state(state)
        for gone in [node_id for node_id in self.numbers if node_id not in fresh]:
            self.endpoints.pop(self.numbers.pop(gone), None)

    def _number_nodes(self, state: ClusterState) -> set[bytes]:
        used = set(self.numbers.values()) | {ROUTER_MYSELF}
        free = (number for number in range(ROUTER_MYSELF + 1, 1 << 16) if number not in used)
        me = state.myself.id
        if find(self.numbers, me) != ROUTER_MYSELF:        # the first time, or a reset with a new id
            self.numbers = {node_id: number for node_id, number in self.numbers.items() if number != ROUTER_MYSELF}
            self.numbers[me] = ROUTER_MYSELF
        for node in state.others():
            if node.id not in self.numbers:
                self.numbers[node.id] = next(free)
        return set(state.nodes)

    def _tell_open(self, name: str, slots: dict[int, Node], tell: object) -> None:
        wanted = {slot: self.numbers[node.id] for slot, node in slots.items()}
        told = self.open[name]
        for slot in told.keys() - wanted.keys():
            tell(slot, 0)
        for slot, number in wanted.items():
            if find(told, slot) != number:
                tell(slot, number)
        self.open[name] = wanted

    def _tell_state(self, state: ClusterState) -> None:
        code = 0 if state.state == nodes.STATE_OK else DOWN[state.fail_reason]
        if code != self.state:
            self.router.set_state(code)
            self.state = code
        set_primary = getattr(self.router, "set_primary", None)
        if set_primary is not None:
            primary = state.myself.replicaof
            set_primary(self.numbers[primary.id] if primary is not None else 0)
