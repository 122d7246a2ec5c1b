"""CLUSTER: the commands that change the cluster as this node sees it. What only shows it is in clusterview.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.command import register_python

from engine import hashing
from net import log
from net.cluster import failover, liveness, ownership, running
from net.cluster.bus import PORT_OFFSET, Bus
from net.cluster.nodes import SLOTS, T_BROADCAST, T_FSYNC, T_SAVE, T_STATE, Node
from net.commands.common import (
    NO_KEYS,
    about,
    bare_syntax_error,
    integer,
    register_container,
    setting,
    syntax_error,
    words,
)
from net.config import parse_integer
from net.lazy import numpy as np
from net.reply import OK, Error

if TYPE_CHECKING:
    from net.cluster.driver import Driver

DISABLED = "ERR This instance has cluster support disabled"
NO_REPLICATION = "ERR This node can't become a replica: replication is not built yet"
PORT_MAX = 65535
ADMIN = "no_async_loading admin stale"
ACL_ADMIN = "admin slow dangerous"


def current() -> Driver:
    """The running cluster; the error of a server that is no cluster's node."""
    if running.driver is None:
        raise Error(DISABLED)
    return running.driver


def find_node(bus: Bus, raw: bytes, message: str = "ERR Unknown node {}") -> Node:
    """The node with this id; an error where there is none."""
    node = bus.state.lookup(raw)
    if node is None:
        raise Error(message.format(words(raw)))
    return node


def find_slot(raw: bytes) -> int:
    """A slot's number."""
    slot = parse_integer(words(raw))
    if slot is None or not 0 <= slot < SLOTS:
        raise Error("ERR Invalid or out of range slot")
    return slot


def who(client: object) -> str:
    """A client as log lines name it."""
    hidden = setting("hide-user-data-from-log", True)
    name = "*redacted*" if hidden else words(client.name or b"")
    user = "*redacted*" if hidden else words(client.user)
    return (f"id={client.id} addr={words(client.addr)} laddr={words(client.laddr)} fd={client.fd} name={name} "
            f"user={user} lib-name={words(client.lib_name or b'')} lib-ver={words(client.lib_ver or b'')}")


# ---- nodes


def meet(client: object, args: list[bytes]) -> object:
    """CLUSTER MEET ip port [bus-port]"""
    driver = current()
    if len(args) > 5:
        raise bare_syntax_error(args)
    port = parse_integer(words(args[3]))
    if port is None:
        raise Error(f"ERR Invalid base port specified: {words(args[3])}")
    if not 0 < port <= PORT_MAX:
        raise Error("ERR Port number is out of range")
    cport = parse_integer(words(args[4])) if len(args) == 5 else port + PORT_OFFSET
    if cport is None:
        raise Error(f"ERR Invalid bus port specified: {words(args[4])}")
    if not 0 < cport <= PORT_MAX:
        raise Error("ERR Cluster bus port number is out of range")
    with driver.working() as bus:
        try:
            bus.start_handshake(words(args[2]), port, cport)
        except ValueError:
            raise Error(f"ERR Invalid node address specified: {words(args[2])}:{words(args[3])}") from None
        log.notice(f"Cluster meet {words(args[2])}:{port} (user request from '{who(client)}').")
    return OK


def forget(client: object, args: list[bytes]) -> object:
    """CLUSTER FORGET node-id"""
    with current().working() as bus:
        state, me = bus.state, bus.state.myself
        node = state.lookup(args[2])
        if node is None:
            if state.is_blacklisted(args[2], bus.now // 1000):
                return OK      # another node has said so already
            raise Error(f"ERR Unknown node {words(args[2])}")
        if node is me:
            raise Error("ERR I tried hard but I can't forget myself...")
        if me.is_replica and me.replicaof is node:
            raise Error("ERR Can't forget my master!")
        log.notice(f"Cluster forget {words(args[2])} (user request from '{who(client)}').")
        state.is_blacklisted(node.id, bus.now // 1000)      # old entries go
        state.blacklist[node.id] = bus.now // 1000 + bus.settings.blacklist_ttl_s
        bus.delete_node(node)
        bus.todo(T_STATE | T_SAVE)
    return OK


def reset(client: object, args: list[bytes]) -> object:
    """CLUSTER RESET [HARD | SOFT]"""
    driver = current()
    if len(args) > 3:
        raise bare_syntax_error(args)
    how = args[2].lower() if len(args) == 3 else b"soft"
    if how not in (b"hard", b"soft"):
        raise syntax_error()
    with driver.working() as bus:
        if bus.state.myself.is_primary and not driver.routes.is_empty():
            raise Error("ERR CLUSTER RESET can't be called with master nodes containing keys")
        log.notice(f"Cluster reset (user request from '{who(client)}').")
        ownership.reset(bus, how == b"hard")
    return OK


def replicate(_client: object, args: list[bytes]) -> object:
    """CLUSTER REPLICATE node-id | NO ONE"""
    driver = current()
    if len(args) > 4 or (len(args) == 4 and (args[2].lower(), args[3].lower()) != (b"no", b"one")):
        raise bare_syntax_error(args)
    with driver.working() as bus:
        me = bus.state.myself
        if len(args) == 4:
            if me.is_primary:
                return OK
            ownership.set_as_primary(bus, me)
            bus.state.close_slots()
            failover.reset_manual(bus)
            bus.state.move_to_shard(me, bus.state.hex_id())
            log.notice(f"Moving myself to a new shard {ownership.shard(me)}.")
            bus.todo(T_STATE | T_SAVE | T_BROADCAST)
            return OK
        node = find_node(bus, args[2])
        if node is me:
            raise Error("ERR Can't replicate myself")
        if node.is_replica:
            raise Error("ERR I can only replicate a master, not a replica.")
        if me.is_primary and (me.numslots or not driver.routes.is_empty()):
            raise Error("ERR To set a master the node must be empty and without assigned slots.")
        if me.replicaof is node:
            return OK
        if not bus.settings.can_replicate:
            raise Error(NO_REPLICATION)
        ownership.set_my_primary(bus, node, True, True)
        bus.todo(T_STATE | T_SAVE | T_BROADCAST)
    return OK


def fail_over(client: object, args: list[bytes]) -> object:
    """CLUSTER FAILOVER [FORCE | TAKEOVER]"""
    force = takeover = False
    driver = current()
    for word in args[2:]:
        if word.lower() not in (b"force", b"takeover"):
            raise syntax_error()
        takeover = takeover or word.lower() == b"takeover"
        force = True
    with driver.working() as bus:
        me = bus.state.myself
        if me.is_primary:
            raise Error("ERR You should send CLUSTER FAILOVER to a replica")
        if me.replicaof is None:
            raise Error("ERR I'm a replica but my master is unknown to me")
        if not force and (me.replicaof.is_failed or me.replicaof.link is None):
            raise Error("ERR Master is down or failed, please use CLUSTER FAILOVER FORCE")
        if not bus.settings.can_replicate:
            raise Error(NO_REPLICATION)
        how = ("Taking over the primary" if takeover else "Forced failover user request accepted" if force
               else "Manual failover user request accepted")
        log.notice(f"{how} (user request from '{who(client)}').")
        failover.start_as_replica(bus, force, takeover)
    return OK


def count_failure_reports(_client: object, args: list[bytes]) -> object:
    """CLUSTER COUNT-FAILURE-REPORTS node-id"""
    with current().working() as bus:
        return liveness.count_reports(bus, find_node(bus, args[2]))


# ---- epochs, the file


def bump_epoch(_client: object, _args: list[bytes]) -> object:
    """CLUSTER BUMPEPOCH"""
    with current().working() as bus:
        word = "BUMPED" if ownership.bump_epoch(bus) else "STILL"
        return f"{word} {bus.state.myself.config_epoch}"


def set_config_epoch(_client: object, args: list[bytes]) -> object:
    """CLUSTER SET-CONFIG-EPOCH epoch"""
    driver = current()
    epoch = integer(args[2])
    with driver.working() as bus:
        state, me = bus.state, bus.state.myself
        if epoch < 0:
            raise Error(f"ERR Invalid config epoch specified: {epoch}")
        if len(state.nodes) > 1:
            raise Error("ERR The user can assign a config epoch only when the node does not know any other node.")
        if me.config_epoch:
            raise Error("ERR Node config epoch is already non-zero")
        me.config_epoch = epoch
        log.notice(f"configEpoch set to {epoch} via CLUSTER SET-CONFIG-EPOCH")
        state.current_epoch = max(state.current_epoch, epoch)
        bus.todo(T_STATE | T_SAVE)
    return OK


def save_config(_client: object, _args: list[bytes]) -> object:
    """CLUSTER SAVECONFIG"""
    failed = current().save()
    if failed:
        raise Error(f"ERR error saving the cluster node config: {failed}")
    return OK


# ---- slots


def _check(bus: Bus, slots: list[int], free: bool) -> None:
    """Are these slots assigned to nobody (free) or somebody, and named once each? free: ADDSLOTS."""
    seen: set[int] = set()
    owners = bus.state.owners
    for slot in slots:
        if not free and not owners[slot]:
            raise Error(f"ERR Slot {slot} is already unassigned")
        if free and owners[slot]:
            raise Error(f"ERR Slot {slot} is already busy")
        if slot in seen:
            raise Error(f"ERR Slot {slot} specified multiple times")
        seen.add(slot)


def _change(args: list[bytes], free: bool, parse: Callable[[list[bytes]], list[int]]) -> object:
    driver = current()
    with driver.working() as bus:
        slots = parse(args)
        _check(bus, slots, free)
        for slot in slots:
            bus.state.importing.pop(slot, None)
        numbers = np.array(slots, np.intp)
        if free:
            bus.state.assign(bus.state.myself, numbers)
        else:
            bus.state.unassign(numbers)
        bus.todo(T_STATE | T_SAVE)
    return OK


def _single(args: list[bytes]) -> list[int]:
    return [find_slot(raw) for raw in args[2:]]


def _ranges(args: list[bytes]) -> list[int]:
    if len(args) % 2:
        name = words(args[1]).lower()
        raise Error(f"ERR wrong number of arguments for 'cluster|{name}' command")
    slots: list[int] = []
    for low, high in zip(args[2::2], args[3::2], strict=True):
        first, last = find_slot(low), find_slot(high)
        if first > last:
            raise Error(f"ERR start slot number {first} is greater than end slot number {last}")
        slots += range(first, last + 1)
    return slots


def add_slots(_client: object, args: list[bytes]) -> object:
    """CLUSTER ADDSLOTS slot [slot ...]"""
    return _change(args, True, _single)


def del_slots(_client: object, args: list[bytes]) -> object:
    """CLUSTER DELSLOTS slot [slot ...]"""
    return _change(args, False, _single)


def add_slots_range(_client: object, args: list[bytes]) -> object:
    """CLUSTER ADDSLOTSRANGE first last [first last ...]"""
    return _change(args, True, _ranges)


def del_slots_range(_client: object, args: list[bytes]) -> object:
    """CLUSTER DELSLOTSRANGE first last [first last ...]"""
    return _change(args, False, _ranges)


def flush_slots(_client: object, _args: list[bytes]) -> object:
    """CLUSTER FLUSHSLOTS"""
    driver = current()
    if not driver.routes.is_empty():
        raise Error("ERR DB must be empty to perform CLUSTER FLUSHSLOTS.")
    with driver.working() as bus:
        bus.state.unassign(np.flatnonzero(bus.state.owners == bus.state.myself.index))
        bus.todo(T_STATE | T_SAVE)
    return OK


def _open_target(bus: Bus, args: list[bytes], slot: int) -> Node:
    """The other node of MIGRATING and IMPORTING."""
    me = bus.state.myself
    owner = bus.state.owner(slot)
    if args[3].lower() == b"migrating" and me.is_primary and owner is not me:
        raise Error(f"ERR I'm not the owner of hash slot {slot}")
    if args[3].lower() == b"importing" and owner is me:
        raise Error(f"ERR I'm already the owner of hash slot {slot}")
    node = find_node(bus, args[4], "ERR I don't know about node {}")
    if node is me:
        raise Error("ERR Target node is myself")
    if node.is_replica:
        raise Error("ERR Target node is not a master")
    return node


def _new_owner(driver: Driver, args: list[bytes], slot: int) -> Node:
    """The node of SETSLOT NODE."""
    bus = driver.bus
    node = find_node(bus, args[4])
    if node.is_replica:
        raise Error("ERR Target node is not a master")
    if bus.state.owner(slot) is bus.state.myself and node is not bus.state.myself and bus.count_keys(slot):
        raise Error(f"ERR Can't assign hashslot {slot} to a different node while I still hold keys for this hash slot.")
    return node


def _check_timeout(args: list[bytes]) -> None:
    for at, word in enumerate(args):
        if word.lower() != b"timeout":
            continue
        if at + 1 >= len(args):
            raise Error("ERR Missing timeout value")
        if integer(args[at + 1], "timeout is not an integer or out of range") < 0:
            raise Error("ERR timeout is negative")


def set_slot(_client: object, args: list[bytes]) -> object:
    """CLUSTER SETSLOT slot IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE [TIMEOUT ms]"""
    driver = current()
    slot = parse_integer(words(args[2])) if args[3].lower() == b"node" else None
    still = slot if slot is not None and 0 <= slot < SLOTS else None
    with driver.routes.paused(still), driver.working() as bus:
        if bus.state.myself.is_replica:
            raise Error("ERR Please use SETSLOT only with masters.")
        if driver.migrations.moving("IMPORT"):
            raise Error("ERR Slot import in progress.")
        if driver.migrations.moving("EXPORT"):
            raise Error("ERR Slot export in progress.")
        slot, action = find_slot(args[2]), args[3].lower()
        node: Node | None = None
        if action in (b"migrating", b"importing") and len(args) >= 5:
            node = _open_target(bus, args, slot)
        elif action == b"node" and len(args) >= 5:
            node = _new_owner(driver, args, slot)
        elif action != b"stable":
            raise Error("ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP")
        _check_timeout(args[4 if action == b"stable" else 5:])
        if action == b"migrating":
            log.notice(f"Migrating slot {slot} to node {node.label}")
            bus.state.migrating[slot] = node
        elif action == b"importing":
            log.notice(f"Importing slot {slot} from node {node.label}")
            bus.state.importing[slot] = node
        elif action == b"stable":
            log.notice(f"Marking slot {slot} stable")
            bus.state.importing.pop(slot, None)
            bus.state.migrating.pop(slot, None)
        else:
            _assign(bus, slot, node)
        bus.state.version += 1
        bus.todo(T_STATE | T_SAVE)
    return OK


def _assign(bus: Bus, slot: int, node: Node) -> None:
    """SETSLOT NODE: the slot is that node's."""
    state, me = bus.state, bus.state.myself
    log.notice(f"Assigning slot {slot} to node {node.label} in shard {ownership.shard(node)}")
    if slot in state.migrating and not bus.count_keys(slot):
        del state.migrating[slot]
    was_mine = state.owner(slot) is me
    state.assign(node, np.array([slot]))
    if was_mine and not me.numslots and node is not me:
        if bus.settings.allow_replica_migration and bus.settings.can_replicate:
            log.notice(f"Lost my last slot during slot migration. Reconfiguring myself as a replica of {node.label} in "
                       f"shard {ownership.shard(node)}")
            ownership.set_my_primary(bus, node, True, True)
            bus.todo(T_SAVE | T_STATE | T_FSYNC | T_BROADCAST)
        else:
            log.notice(f"My last slot was migrated to node {node.label} in shard {ownership.shard(node)}. I am now an "
                       "empty primary.")
    if node is me and state.importing.pop(slot, None) is not None:
        if ownership.bump_epoch(bus):
            log.notice(f"ConfigEpoch updated after importing slot {slot}")
        bus.todo(T_BROADCAST)


def key_slot(_client: object, args: list[bytes]) -> object:
    """CLUSTER KEYSLOT key"""
    return hashing.slot_of(args[2])


# ---- the rows

register_container("cluster", "3.0.0", "cluster", "Holds the commands of cluster mode.")


def row(name: str, arity: int, flags: str, handler: object, since: str, summary: str, acl: str = ACL_ADMIN,
        complexity: str = "O(1)", **more: object) -> None:
    """A subcommand of CLUSTER."""
    register_python(f"cluster|{name}", arity, flags, NO_KEYS, handler,
                    {**about(since, "cluster", acl, summary, complexity), **more})


O_SLOTS = "O(N), N the slots"
row("addslots", -3, ADMIN, add_slots, "3.0.0", "Makes slots this node's.", complexity=O_SLOTS)
row("addslotsrange", -4, ADMIN, add_slots_range, "7.0.0", "Makes ranges of slots this node's.", complexity=O_SLOTS)
row("bumpepoch", 2, ADMIN, bump_epoch, "3.0.0", "Takes a new configuration epoch.")
row("count-failure-reports", 3, "admin stale", count_failure_reports, "3.0.0",
    "Counts the primaries that say a node fails.", complexity="O(N), N the reports")
row("delslots", -3, ADMIN, del_slots, "3.0.0", "Makes slots nobody's.", complexity=O_SLOTS)
row("delslotsrange", -4, ADMIN, del_slots_range, "7.0.0", "Makes ranges of slots nobody's.", complexity=O_SLOTS)
row("failover", -2, ADMIN, fail_over, "3.0.0", "Lets a replica take its primary's place.")
row("flushslots", 2, ADMIN, flush_slots, "3.0.0", "Makes all of this node's slots nobody's.")
row("forget", 3, ADMIN, forget, "3.0.0", "Takes a node out of the cluster.")
row("keyslot", 3, "stale", key_slot, "3.0.0", "Says which slot a key has.", "slow", "O(N), N the key's bytes")
row("meet", -4, ADMIN, meet, "3.0.0", "Makes another node part of the cluster.")
row("replicate", -3, ADMIN, replicate, "3.0.0", "Makes this node the replica of another.")
row("reset", -2, "admin stale noscript", reset, "3.0.0", "Makes this node forget the cluster.",
    complexity="O(N), N the nodes")
row("saveconfig", 2, ADMIN, save_config, "3.0.0", "Writes nodes.conf.")
row("set-config-epoch", 3, ADMIN, set_config_epoch, "3.0.0", "Sets the configuration epoch of a new node.")
row("setslot", -4, ADMIN + " may_replicate", set_slot, "3.0.0", "Says what is under way with a slot, or whose it is.")

