"""nodes.conf, Valkey's file of a cluster's nodes: as text, from text, on the disk. CLUSTER NODES has its lines."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable

from engine.quoting import split_args
from engine.shared import find
from net.cluster import messages as m
from net.cluster.nodes import SLOTS, ClusterState, Node, range_words, slots_of
from net.lazy import numpy as np

FIELDS_MIN = 8
FILE_MODE = 0o644
NOTICE, WARNING = 2, 3
PORT_OFFSET = 10000
FLAG_NAMES = ((m.F_MYSELF, "myself"), (m.F_PRIMARY, "master"), (m.F_REPLICA, "slave"), (m.F_PFAIL, "fail?"),
              (m.F_FAIL, "fail"), (m.F_HANDSHAKE, "handshake"), (m.F_NOADDR, "noaddr"),
              (m.F_NOFAILOVER, "nofailover"))
FLAGS_READ = {name: flag for flag, name in FLAG_NAMES} | {
    "primary": m.F_PRIMARY, "replica": m.F_REPLICA, "noaddr": m.F_NOADDR | m.F_FAIL, "noflags": 0}
# auxiliary fields in the order in which they are written
AUX_TEXTS = {"availability-zone": "zone", "client-ipv6": "client_ipv6", "client-ipv4": "client_ipv4",
             "nodename": "nodename"}
AUX_PORTS = {"client-tls-port": "client_tls_port", "client-tcp-port": "client_port", "tls-port": "tls_port",
             "tcp-port": "tcp_port"}
AUX_FAMILIES = {"client-ipv4": socket.AF_INET, "client-ipv6": socket.AF_INET6}


class CorruptFile(Exception):
    """A line of nodes.conf that nobody can have written."""


# --- to text -------------------------------------------------------------------------------------


def flag_text(flags: int) -> str:
    """A node's flags in words."""
    return ",".join(name for flag, name in FLAG_NAMES if flags & flag) or "noflags"


def _aux_text(node: Node) -> str:
    parts = [] if node.hostname else [","]
    for name in ("availability-zone", "client-tls-port", "client-tcp-port", "client-ipv6", "client-ipv4", "tls-port",
                 "nodename"):
        value = getattr(node, find(AUX_TEXTS, name) or AUX_PORTS[name])
        if value or name == "tls-port":
            parts.append(f",{name}={value}")
    parts.append(f",shard-id={node.shard_id.decode()}")
    return "".join(parts)


def describe(state: ClusterState, node: Node, address: tuple[str, int] | None = None) -> str:
    """A node's line. address: as a client is told; None: for the file, with all that is known."""
    ip, port = address or (node.ip, node.tcp_port)
    host = f",{node.hostname}" if node.hostname else ""
    aux = _aux_text(node) if address is None else ""
    linked = node.link is not None or node.flags & m.F_MYSELF
    parts = [f"{node.name} {ip}:{port}@{node.cport}{host}{aux} {flag_text(node.flags)} "
             f"{node.replicaof.name if node.replicaof else '-'} {node.ping_sent} {node.pong_received} {node.epoch} "
             f"{'connected' if linked else 'disconnected'}"]
    if node.numslots:
        parts += range_words(slots_of(node.slots))
    if node.flags & m.F_MYSELF:
        for slot in sorted(state.migrating.keys() | state.importing.keys()):
            if slot in state.migrating:
                parts.append(f"[{slot}->-{state.migrating[slot].name}]")
            else:
                parts.append(f"[{slot}-<-{state.importing[slot].name}]")
    return " ".join(parts)


def file_text(state: ClusterState) -> str:
    """All of nodes.conf."""
    lines = [describe(state, node) for node in state.order[1:] if not node.in_handshake]
    return "\n".join(lines) + (f"\nvars currentEpoch {state.current_epoch} lastVoteEpoch "
                               f"{state.last_vote_epoch}\n")


# --- from text -----------------------------------------------------------------------------------


def _number(text: str) -> int:
    """The digits that a text begins with, as C's atoi; 0: none."""
    digits = 0
    while digits < len(text) and text[digits].isascii() and text[digits].isdigit():
        digits += 1
    return int(text[:digits] or "0")


class _Loader:
    """Fills a state, line by line."""

    def __init__(self, state: ClusterState, now: int, log: Callable[[int, str], None]):
        self.state, self.now, self.log = state, now, log
        self.seen: set[Node] = set()
        self.myself: Node | None = None

    def node(self, node_id: str) -> Node:
        """The node with this id, made where it is not there yet."""
        raw = node_id.encode("latin-1", "replace")
        if not m.is_id(raw):
            raise CorruptFile(f"'{node_id}' is no node id")
        return self.state.lookup(raw) or self.state.create(raw, 0, self.now)

    def variables(self, words: list[str]) -> None:
        """The line that begins with vars."""
        if len(words) % 2 == 0:
            raise CorruptFile("vars without a value")
        for name, value in zip(words[1::2], words[2::2], strict=True):
            if name.lower() == "currentepoch":
                self.state.current_epoch = min(_number(value), m.U64)
            elif name.lower() == "lastvoteepoch":
                self.state.last_vote_epoch = min(_number(value), m.U64)
            else:
                self.log(NOTICE, f"Skipping unknown cluster config variable '{name}'")

    def line(self, words: list[str]) -> None:
        """A node's line."""
        if words and words[0].lower() == "vars":
            self.variables(words)
            return
        if len(words) < FIELDS_MIN:
            raise CorruptFile(f"{len(words)} fields, {FIELDS_MIN} at least")
        node = self.node(words[0])
        if node in self.seen:
            self.log(WARNING, f"Duplicate nodeid detected: {words[0]}")
            raise CorruptFile("a node id twice")
        self.seen.add(node)
        has_shard = self._address(node, words[1])
        self._flags(node, words[2])
        self._primary(node, words[3], has_shard)
        if _number(words[4]):
            node.ping_sent = self.now
        if _number(words[5]):
            node.pong_received = self.now
        node.config_epoch = 0 if node.is_replica and node.replicaof else min(_number(words[6]), m.U64)
        slots: list[int] = []
        for word in words[8:]:
            slots += self._slots(word)
        wanted = np.unique(np.array(slots, np.intp))
        self.state.assign(node, wanted[self.state.owners[wanted] == 0])

    def _address(self, node: Node, word: str) -> bool:
        """Address, hostname and auxiliary fields; True: a shard id was among them."""
        address, *rest = word.split(",")
        node.hostname = rest[0] if rest else ""
        if not m.is_plain(node.hostname):
            raise CorruptFile(f"host name '{node.hostname}'")
        given: set[str] = set()
        for field in rest[1:]:
            name, sign, value = field.partition("=")
            if not sign or "=" in value or not m.is_plain(name) or not m.is_plain(value):
                raise CorruptFile(f"'{field}'")
            given.add(name)
            self._aux(node, name, value)
        ip, colon, ports = address.rpartition(":")
        if not colon or not m.is_plain(ip) or len(ip) >= m.IP_BYTES:
            raise CorruptFile(f"address '{address}'")
        port, at, cport = ports.partition("@")
        tcp, tls = node.tcp_port if "tcp-port" in given else _number(port), node.tls_port
        bus_port = _number(cport) if at else tcp + PORT_OFFSET
        if max(tcp, bus_port) > 65535:
            raise CorruptFile(f"ports '{ports}'")
        node.set_address(ip, tcp, tls, bus_port)
        return "shard-id" in given

    def _aux(self, node: Node, name: str, value: str) -> None:
        if name == "shard-id":
            raw = value.encode("latin-1")
            if not m.is_id(raw):
                raise CorruptFile(f"shard id '{value}'")
            for replica in node.replicas or ():
                if replica.shard_id != raw:
                    self.log(NOTICE, f"Node {replica.name} has a different shard id ({replica.shard_id.decode()}) than "
                                     f"its primary's shard id {node.name} ({value}). Updating replica's shard id to "
                                     "match primary's shard id.")
                    self.state.move_to_shard(replica, raw)
            node.shard_id = raw
            self.state.add_to_shard(node)
        elif name in AUX_TEXTS:
            if value and name in AUX_FAMILIES:
                try:
                    socket.inet_pton(AUX_FAMILIES[name], value)
                except OSError:
                    raise CorruptFile(f"{name} '{value}'") from None
            setattr(node, AUX_TEXTS[name], value)
        elif name in AUX_PORTS:
            if not 1 <= len(value) <= 5 or _number(value) > 65535:
                raise CorruptFile(f"{name} '{value}'")
            setattr(node, AUX_PORTS[name], _number(value))
        else:
            raise CorruptFile(f"'{name}' is no field")

    def _flags(self, node: Node, word: str) -> None:
        for name in word.split(","):
            flag = find(FLAGS_READ, name.lower())
            if flag is None:
                raise CorruptFile(f"flag '{name}'")
            node.flags |= flag
            if flag & m.F_FAIL:
                node.fail_time = self.now
            if flag == m.F_MYSELF:
                if self.myself is not None:
                    raise CorruptFile("two nodes are myself")
                self.myself = node

    def _primary(self, node: Node, word: str, has_shard: bool) -> None:
        state = self.state
        if word.startswith("-"):
            if not has_shard:
                state.add_to_shard(node)
            return
        primary = self.node(word)
        if primary is node:
            raise CorruptFile("a node that is its own primary")
        if not has_shard:
            node.shard_id = primary.shard_id
            state.add_to_shard(node)
        elif primary.shard_id in state.shards and primary.shard_id != node.shard_id:
            self.log(NOTICE, f"Node {node.name} has a different shard id ({node.shard_id.decode()}) than its primary "
                             f"{primary.name} ({primary.shard_id.decode()}). Updating replica's shard id to match "
                             "primary's shard id.")
            state.move_to_shard(node, primary.shard_id)
        node.replicaof = primary
        state.add_replica(primary, node)

    def _slots(self, word: str) -> list[int]:
        if word.startswith("["):
            slot, dash, rest = word[1:].partition("-")
            number = _number(slot)
            if not dash or rest[:2] not in (">-", "<-") or not rest.endswith("]") or number >= SLOTS:
                raise CorruptFile(f"slot '{word}'")
            open_slots = self.state.migrating if rest[0] == ">" else self.state.importing
            open_slots[number] = self.node(rest[2:-1])
            return []
        first, dash, last = word.partition("-")
        low = _number(first)
        high = _number(last) if dash else low
        if max(low, high) >= SLOTS:
            raise CorruptFile(f"slots '{word}'")
        return list(range(low, high + 1))


def load(state: ClusterState, text: str, now: int, log: Callable[[int, str], None]) -> None:
    """Fills an empty state with what a file says; CorruptFile with the line where it is wrong."""
    loader = _Loader(state, now, log)
    for line in text.split("\n"):
        if not line.strip("\0"):
            continue
        try:
            words = split_args(line.encode("latin-1"))
            if words is None:
                raise CorruptFile("unbalanced quotes")
            if words:
                loader.line([word.decode("latin-1") for word in words])
        except (CorruptFile, ValueError) as error:
            raise CorruptFile(f'Unrecoverable error: corrupted cluster config file "{line[:512]}". ({error})') from None
    if loader.myself is None:
        raise CorruptFile('Unrecoverable error: corrupted cluster config file "". (no node is myself)')
    for node in state.order[1:]:      # named as a primary only, and no line of its own
        if node.shard_id not in state.shards or node not in state.shards[node.shard_id]:
            state.add_to_shard(node)
    state.adopt(loader.myself)
    state.current_epoch = state.max_epoch()


# --- on the disk ---------------------------------------------------------------------------------


class NodesFile:
    """The file of this process: locked from `lock` until `release`."""

    def __init__(self, path: str, log: Callable[[int, str], None]):
        self.path, self.log = path, log
        self.lock_fd = -1

    def lock(self) -> bool:
        """Makes the file if it is not there, and locks it; False: it cannot be had, which has been logged."""
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            self.log(WARNING, f"Can't open {self.path} in order to acquire a lock: {error.strerror}")
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.log(WARNING, f"Sorry, the cluster configuration file {self.path} is already used by a different "
                              "Cluster node. Please make sure that different nodes use different cluster "
                              "configuration files.")
            os.close(fd)
            return False
        self.lock_fd = fd
        return True

    def read(self) -> str:
        """What is in it; empty where it is new."""
        with open(self.path, encoding="latin-1") as file:
            return file.read()

    def save(self, text: str, fsync: bool, now: int) -> str:
        """Replaces the file as a whole; empty, or what failed, which has been logged."""
        path = f"{self.path}.tmp-{os.getpid()}-{now}"
        what, fd = "open temp cluster config file", -1
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            what = "write tmp cluster config file"
            raw = memoryview(text.encode("latin-1"))
            while raw:
                raw = raw[os.write(fd, raw):]
            if fsync:
                what = "sync tmp cluster config file"
                os.fsync(fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)   # the new file is locked before it has the name
            what = "rename tmp cluster config file"
            os.rename(path, self.path)
            self._keep(fd)
            fd = -1
            if fsync:
                what = "sync cluster config file dir"
                self._sync_folder()
        except OSError as error:
            self.log(WARNING, f"Could not {what}: {error.strerror}")
            if fd >= 0:
                os.close(fd)
                try:
                    os.unlink(path)
                except OSError:
                    pass
            return error.strerror or "error"
        return ""

    def _keep(self, fd: int) -> None:
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = fd
        else:
            os.close(fd)

    def _sync_folder(self) -> None:
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def release(self) -> None:
        """The lock is gone."""
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1
