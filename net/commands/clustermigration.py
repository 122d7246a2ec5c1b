"""CLUSTER and DEBUG: moving slots as a whole. The protocol is in net/cluster/jobs.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.shared import find
from net import log
from net.cluster.bus import Bus
from net.cluster.exporting import ExportRun
from net.cluster.importing import ImportRun, links
from net.cluster.jobs import NAME_LEN, Job, range_text
from net.cluster.nodes import ClusterState, Node
from net.commands import debug
from net.commands.cluster import ADMIN, current, find_slot, row, who
from net.commands.common import help_lines, loose_int, syntax_error, words
from net.config import parse_integer
from net.lazy import numpy as np
from net.reply import OK, Error

if TYPE_CHECKING:
    from net.cluster.driver import Driver

Ranges = list[tuple[int, int]]
MIGRATION_WORDS = {b"snapshot-eof": "SNAPSHOT-EOF", b"paused": "PAUSED", b"failover-granted": "FAILOVER-GRANTED",
                   b"request-pause": "REQUEST-PAUSE", b"request-failover": "REQUEST-FAILOVER", b"ack": "ACK"}


def _check_can_start(bus: Bus) -> None:
    if not bus.state.myself.is_primary:
        raise Error("ERR Slot migration can only be used on primary nodes.")
    if bus.state.importing:
        raise Error("ERR Slots are being manually imported")
    if bus.state.migrating:
        raise Error("ERR Slots are being manually migrated")


def _owner(state: ClusterState, first: int, last: int, owner: Node | None) -> Node:
    """Who has all of these slots; it must be `owner` where that is known. In bulk: a worker's clients wait for this."""
    owners = state.owners[first:last + 1]
    wanted = owner.index if owner is not None else int(owners[0])
    others = np.flatnonzero((owners != wanted) | (owners == 0))
    if len(others):
        if owners[others[0]] == 0:
            raise Error(f"ERR Slot {first + others[0]} has no node served.")
        raise Error("ERR Requested slots span multiple shards")
    return state.order[wanted]


def _ranges(bus: Bus, args: list[bytes], at: int) -> tuple[Ranges, Node | None, int]:
    """(slot ranges from args[at] on, who has them all, the place after them)"""
    state = bus.state
    found: Ranges = []
    owner: Node | None = None
    while at < len(args) and parse_integer(words(args[at])) is not None:
        first = find_slot(args[at])
        if at + 1 >= len(args):
            raise Error("ERR No end slot for final slot range")
        last = find_slot(args[at + 1])
        if first > last:
            raise Error(f"ERR Start slot number {first} is greater than end slot number {last}.")
        owner = _owner(state, first, last, owner)
        for a, b in found:
            if first <= b and a <= last:
                raise Error(f"ERR Slot range {first}-{last} overlaps with previous range {a}-{b}.")
        found.append((first, last))
        at += 2
    if not found:
        raise Error("ERR No slot ranges specified")
    return found, owner, at


def _word(arg: bytes) -> bytes:
    """A word up to its first NUL: valkey-cli 9.1 sends one after SLOTSRANGE."""
    return arg.partition(b"\0")[0].lower()


def _target(bus: Bus, args: list[bytes], at: int) -> Node:
    """The node of NODE at args[at]."""
    if at + 1 >= len(args) or _word(args[at]) != b"node":
        raise syntax_error()
    name = args[at + 1]
    if len(name) != NAME_LEN:
        raise Error(f"ERR Invalid node name: {words(name)}")
    node = bus.state.lookup(name)
    if node is None:
        raise Error(f"ERR Unknown node name: {words(name)}")
    if node is bus.state.myself:
        raise Error("ERR Target node can not be this node.")
    return node


def _wanted(driver: Driver, args: list[bytes]) -> list[tuple[Ranges, Node]]:
    """What MIGRATESLOTS asks for."""
    bus = driver.bus
    asked: list[tuple[Ranges, Node]] = []
    at = 2
    while at < len(args):
        if _word(args[at]) != b"slotsrange":
            raise syntax_error()
        ranges, owner, at = _ranges(bus, args, at + 1)
        if owner is not bus.state.myself:
            raise Error("ERR Slots are not served by this node.")
        slot = driver.migrations.first_moving("EXPORT", ranges)
        if slot is not None:
            raise Error(f"ERR I am already migrating slot {slot}.")
        if any(a <= last and first <= b for other, _ in asked for a, b in other for first, last in ranges):
            raise Error("ERR Slot ranges in migrations overlap")
        asked.append((ranges, _target(bus, args, at)))
        at += 2
    return asked


def migrate_slots(client: object, args: list[bytes]) -> object:
    """CLUSTER MIGRATESLOTS SLOTSRANGE first last [first last ...] NODE node-id [SLOTSRANGE ... NODE ...]"""
    driver = current()
    with driver.working() as bus:
        _check_can_start(bus)
        for ranges, node in _wanted(driver, args):
            job = Job("EXPORT", ranges, bus.state.myself.name, node.name, node.name, bus.now)
            run = ExportRun(driver.migrations, job, (node.ip, node.tcp_port))
            driver.migrations.add(run)
            log.notice(f"Slot migration initiated through CLUSTER MIGRATESLOTS command: {job} (user request from "
                       f"'{who(client)}')")
            run.thread.start()
    return OK


def cancel(client: object, _args: list[bytes]) -> object:
    """CLUSTER CANCELSLOTMIGRATIONS"""
    driver = current()
    with driver.working() as bus:
        if not driver.migrations.moving("EXPORT"):
            raise Error("ERR No migrations ongoing")
        for run in driver.migrations.runs:
            if isinstance(run, ExportRun) and run.job.in_progress:
                run.machine.cancel(bus.now)
                run.moved()
        log.notice(f"Canceled all in progress slot migrations (user request from '{who(client)}')")
    return OK


def show(_client: object, _args: list[bytes]) -> object:
    """CLUSTER GETSLOTMIGRATIONS: without the lock, a worker does not wait only to look"""
    return [_describe(run.job) for run in tuple(current().migrations.runs)]


def _describe(job: Job) -> dict:
    nodes = {b"target_node": job.target.encode(), b"source_node": job.source.encode()} if job.source else {}
    return {
        b"name": job.name.encode(), b"operation": job.operation.encode(),
        b"slot_ranges": range_text(job.ranges).encode(), **nodes,
        b"create_time": job.created_s, b"last_update_time": job.updated_s, b"last_ack_time": job.acked_s,
        b"state": job.state.encode(), b"message": job.text.encode(), b"cow_size": 0,
        b"remaining_repl_size": job.left_bytes if job.operation == "EXPORT" else 0}


# ---- the target


def _source(bus: Bus, name: bytes) -> Node:
    node = bus.state.lookup(name)
    if node is None:
        raise Error("ERR Target node does not know the source node")
    if node is bus.state.myself:
        raise Error("ERR Source node is target node itself")
    return node


def _parse_establish(driver: Driver, args: list[bytes]) -> tuple[Node, str, Ranges]:
    bus = driver.bus
    source = owner = None
    name, ranges, at = b"", None, 3
    while at < len(args):
        word = args[at].lower()
        if word in (b"source", b"name"):
            has = source if word == b"source" else name
            if has or at + 1 >= len(args) or len(args[at + 1]) != NAME_LEN:
                raise syntax_error()
            if word == b"name":
                name = args[at + 1]
            else:
                source = _source(bus, args[at + 1])
            at += 2
        elif word == b"slotsrange" and ranges is None:
            ranges, owner, at = _ranges(bus, args, at + 1)
            if driver.migrations.first_moving("IMPORT", ranges) is not None:
                raise Error("ERR Slot is already being imported on the target by a different migration")
        else:
            raise syntax_error()
    if not name or ranges is None or source is None:
        raise syntax_error()
    if source is not owner:
        raise Error("ERR Target node does not agree about current slot ownership")
    return source, words(name), ranges


def _establish(client: object, args: list[bytes]) -> object:
    from net import bridge
    driver = current()
    with driver.working() as bus:
        _check_can_start(bus)
        source, name, ranges = _parse_establish(driver, args)
        job = Job("IMPORT", ranges, source.name, bus.state.myself.name, source.name, bus.now, name)
        run = ImportRun(driver.migrations, job, client.id, client.fd)
        driver.migrations.add(run)
        driver.migrations.drops.now(run.slots)
    client.unrouted = True
    client.reply_mode = "off"
    driver.migrations.wants(run)
    return bridge.NOTHING


def sync_slots(client: object, args: list[bytes]) -> object:
    """CLUSTER SYNCSLOTS word ...: what nodes tell each other of a migration"""
    from net import bridge
    current()
    word = args[2].lower()
    run = find(links, client.id)
    if word == b"establish" and run is None:
        return _establish(client, args)
    if word == b"finish":
        raise Error("ERR No such slot migration job")       # only a primary's replicas are told
    if word == b"capa" and run is None:
        return bridge.NOTHING
    if run is None:
        if word in MIGRATION_WORDS:
            raise Error(f"ERR CLUSTER SYNCSLOTS {MIGRATION_WORDS[word]} should only be used by slot migration clients")
        raise syntax_error()
    if word == b"snapshot-eof":
        client.db = 0          # real Valkey's stream after the snapshot counts from there
    run.said(args[2].upper())
    return bridge.NOTHING


# ---- DEBUG


def debug_migration(_client: object, args: list[bytes]) -> object:
    """DEBUG SLOTMIGRATION PREVENT-PAUSE|PREVENT-FAILOVER 0|1"""
    migrations = current().migrations
    word, value = args[2].lower(), bool(loose_int(args[3]))
    if word == b"prevent-pause":
        migrations.prevents_pause = value
    elif word == b"prevent-failover":
        migrations.prevents_failover = value
    else:
        raise debug.bare_syntax_error(args)
    return OK


O_SLOTS = "O(N), N the slots"
row("migrateslots", -4, ADMIN, migrate_slots, "9.0.0", "Moves slots to other nodes.", complexity=O_SLOTS)
row("cancelslotmigrations", 2, ADMIN, cancel, "9.0.0", "Ends all migrations of this node's slots.",
    complexity="O(N), N the migrations")
row("getslotmigrations", 2, ADMIN, show, "9.0.0", "Shows the migrations of slots, those that are over too.",
    complexity="O(N), N the migrations")
row("syncslots", -3, ADMIN + " may_replicate", sync_slots, "9.0.0", "What nodes say to each other when slots move.")
debug.HANDLERS[b"slotmigration"] = (4, 4, debug_migration)
debug.HELP += [
    ("SLOTMIGRATION PREVENT-FAILOVER <0|1>", "Slots that are granted to this node are not taken over."),
    ("SLOTMIGRATION PREVENT-PAUSE <0|1>", "Slots that leave this node are not paused."),
]
debug.HELP_LINES[:] = help_lines("debug", debug.HELP)
