"""CLUSTER's subcommands about the data of slots: COUNTKEYSINSLOT, GETKEYSINSLOT, FLUSHSLOT, SLOT-STATS."""

import contextlib
from collections.abc import Iterator

from engine.command import register_python, rows

from engine import conf, slots
from net import router
from net.cluster import running
from net.commands.common import NO_KEYS, about, bare_syntax_error, integer, register_container, syntax_error, words
from net.reply import OK, Error

SLOTS = 16384
BAD_SLOT = "ERR Invalid or out of range slot"
LIMIT_RANGE = "ERR Limit has to lie in between 1 and 16384 (maximum number of slots)."
METRICS = ("cpu-usec", "network-bytes-in", "network-bytes-out")  # what cluster-slot-stats-enabled adds, in order


def check_enabled() -> None:
    """Raises Error outside of cluster mode."""
    if not conf.get("cluster"):
        raise Error("ERR This instance has cluster support disabled")


def slot_arg(raw: bytes) -> int:
    """The number of a slot; raises Error."""
    try:
        slot = integer(raw)
    except Error:
        raise Error(BAD_SLOT) from None
    if not 0 <= slot < SLOTS:
        raise Error(BAD_SLOT)
    return slot


def count_keys(client: object, args: list[bytes]) -> object:
    """CLUSTER COUNTKEYSINSLOT slot: in the connection's database"""
    check_enabled()
    slot = integer(args[2])
    if not 0 <= slot < SLOTS:
        raise Error("ERR Invalid slot")
    return slots.count(slot, client.db)


def get_keys(client: object, args: list[bytes]) -> object:
    """CLUSTER GETKEYSINSLOT slot count: of the connection's database"""
    check_enabled()
    slot, most = integer(args[2]), integer(args[3])
    if not 0 <= slot < SLOTS or most < 0:
        raise Error("ERR Invalid slot or number of keys")
    return slots.keys(slot, client.db, most)


def flush_slot(_client: object, args: list[bytes]) -> object:
    """CLUSTER FLUSHSLOT slot [ASYNC | SYNC]: in all databases"""
    check_enabled()
    slot = slot_arg(args[2])
    lazy = bool(conf.get("lazyfree_user_flush"))
    if len(args) == 4:
        word = args[3].lower()
        if word not in (b"async", b"sync"):
            raise syntax_error()
        lazy = word == b"async"
    elif len(args) > 4:
        raise bare_syntax_error(args)
    with flushing(slot):
        slots.delete_slot(slot, lazy, True)
    router.look_again()
    return OK


@contextlib.contextmanager
def flushing(slot: int) -> Iterator[None]:
    """Migrations know that the slot is being flushed; Error while it is handed over (a client of Valkey waits then)."""
    driver = running.driver
    if driver is None:
        yield
        return
    with driver.lock:
        if not driver.migrations.flush_begins(slot):
            raise Error("TRYAGAIN The slot is being handed over to another node")
    try:
        yield
    finally:
        with driver.lock:
            driver.migrations.flush_ends(slot)


# ---- SLOT-STATS

def figures(slot: int) -> list[int]:
    """Keys of a slot and, where they are counted, its other figures."""
    found = [slots.count(slot)]
    return found + list(router.slot_stats(slot)) if conf.get("slot_stats") else found


def stats_of(slot: int) -> list:
    """One slot as SLOT-STATS shows it."""
    return [slot, dict(zip((b"key-count", *(name.encode() for name in METRICS)), figures(slot), strict=False))]


def order_options(args: list[bytes]) -> tuple[int, bool]:
    """LIMIT and ASC or DESC: (how many, descending?)"""
    limit, descending = SLOTS, True
    seen = {"limit": 0, "order": 0}
    at = 4
    while at < len(args):
        word = args[at].lower()
        if word == b"limit" and at + 1 < len(args):
            limit = integer(args[at + 1], LIMIT_RANGE[4:])
            if not 1 <= limit <= SLOTS:
                raise Error(LIMIT_RANGE)
            seen["limit"] += 1
            at += 1
        elif word in (b"asc", b"desc"):
            descending = word == b"desc"
            seen["order"] += 1
        else:
            raise syntax_error()
        if max(seen.values()) > 1:
            raise Error("ERR Multiple filters of the same type are disallowed.")
        at += 1
    return limit, descending


def slot_stats(_client: object, args: list[bytes]) -> object:
    """CLUSTER SLOT-STATS SLOTSRANGE first last | ORDERBY metric [LIMIT n] [ASC | DESC]"""
    check_enabled()
    word = args[2].lower()
    if word == b"slotsrange" and len(args) == 5:
        first, last = slot_arg(args[3]), slot_arg(args[4])
        if first > last:
            raise Error(f"ERR Start slot number {first} is greater than end slot number {last}")
        return [stats_of(slot) for slot in router.our_slots() if first <= slot <= last]
    if word != b"orderby" or len(args) < 4:
        raise bare_syntax_error(args)
    metric = words(args[3]).lower()
    known = ("key-count", *METRICS) if conf.get("slot_stats") else ("key-count",)
    if metric not in known:
        raise Error("ERR Unrecognized sort metric for ORDERBY.")
    limit, descending = order_options(args)
    place, sign = known.index(metric), -1 if descending else 1
    found = sorted((sign * figures(slot)[place], slot) for slot in router.our_slots())
    return [stats_of(slot) for _value, slot in found[:limit]]


def _register() -> None:
    if "cluster" not in rows:
        register_container("cluster", "3.0.0", "cluster", "Looks at the cluster and changes it.")
    register_python("cluster|countkeysinslot", 3, "stale", NO_KEYS, count_keys, about(
        "3.0.0", "cluster", "slow", "Counts the keys of a slot."))
    register_python("cluster|getkeysinslot", 4, "stale", NO_KEYS, get_keys, about(
        "3.0.0", "cluster", "slow", "Lists keys of a slot.", "O(N), N the keys asked for")
        | {"tips": "nondeterministic_output"})
    register_python("cluster|flushslot", -3, "write no_async_loading admin", NO_KEYS, flush_slot, about(
        "9.0.0", "cluster", "admin dangerous keyspace slow write", "Deletes the keys of a slot.",
        "O(N), N keys of the slot"))
    register_python("cluster|slot-stats", -4, "stale loading", NO_KEYS, slot_stats, about(
        "8.0.0", "cluster", "slow", "Shows what slots have and take.", "O(N log N), N the slots asked about")
        | {"tips": "nondeterministic_output request_policy:all_shards"})


_register()
