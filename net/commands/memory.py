"""MEMORY: what the data, the connections and the process take; the figures are INFO's too."""

import os
import sys

from engine.command import register_python

from engine import arena, inspect, store
from net import appendonly, bridge, clientmem, gate
from net.cluster import running
from net.commands.common import (
    NO_KEYS,
    about,
    integer,
    register_container,
    register_help,
    syntax_error,
)
from net.reply import Verbatim

ALLOCATOR = "slotring-arena"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MB = 1 << 20
USAGE_SAMPLES = 5  # elements that MEMORY USAGE looks at

_peak = {"bytes": 0}


def rss_bytes() -> int:
    """Resident memory of the process."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read(128).split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def used_bytes() -> int:
    """Memory in use: the data, the connections and what is there from the start. What maxmemory is compared with."""
    used = store.used_exact() + bridge.base_bytes() + clientmem.clients_bytes()
    _peak["bytes"] = max(_peak["bytes"], used)
    return used


def reset_peak() -> None:
    """CONFIG RESETSTAT: the peak begins again."""
    _peak["bytes"] = used_bytes()


def _ratio(over: int, under: int) -> float:
    return over / under if under else 1.0


class Usage:
    """The figures of one moment."""

    def __init__(self) -> None:
        self.data = store.used_exact()
        self.total = used_bytes()
        self.peak = _peak["bytes"]
        self.startup = bridge.base_bytes()
        self.rss = rss_bytes()
        self.mapped = max(arena.mapped(), self.data)
        self.clients = self.total - self.data - self.startup
        self.databases = []
        for db in range(inspect.databases()):
            if store.counts(db)[0] and not gate.is_loading():      # who loads has all locks
                self.databases.append((db, inspect.figures(db)))
        tables = sum(found["table_bytes"] for _, found in self.databases)
        self.keys = sum(found["keys"] for _, found in self.databases)
        self.tables = tables
        self.overhead = tables + self.clients + self.startup
        self.dataset = max(0, self.total - self.overhead)

    @property
    def dataset_percent(self) -> float:
        """How much of the memory is data."""
        return 100.0 * self.dataset / max(1, self.total - self.startup)

    @property
    def peak_percent(self) -> float:
        """How much of the peak is in use now."""
        return 100.0 * _ratio(self.total, self.peak)

    @property
    def fragmentation(self) -> float:
        """Memory mapped for data, over data."""
        return _ratio(self.mapped, self.data)

    @property
    def rss_extra(self) -> float:
        """Resident memory of all, over memory mapped for data."""
        return _ratio(self.rss, self.mapped)

    @property
    def rss_ratio(self) -> float:
        """Resident memory, over memory in use."""
        return _ratio(self.rss, self.total)


def usage(client: object, args: list[bytes]) -> object:
    """MEMORY USAGE key [SAMPLES count]"""
    at, samples = 3, USAGE_SAMPLES
    while at < len(args):
        if args[at].lower() != b"samples" or at + 1 == len(args):
            raise syntax_error()
        samples = integer(args[at + 1])
        if samples < 0:
            raise syntax_error()
        at += 2
    return inspect.memory_usage(client.db, args[2], samples)


def stats(client: object, _args: list[bytes]) -> object:
    """MEMORY STATS; a database that is selected is shown without a key too"""
    now = Usage()
    if all(db != client.db for db, _ in now.databases):
        now.databases.append((client.db, {"table_bytes": 0}))
    reply: dict = {
        b"peak.allocated": now.peak,
        b"total.allocated": now.total,
        b"startup.allocated": now.startup,
        b"replication.backlog": 0,
        b"replicas.repl.buffer": 0,
        b"clients.slaves": 0,
        b"clients.normal": now.clients,
        b"cluster.links": running.links_bytes(),
        b"cluster.slot_import": 0,
        b"cluster.slot_export": 0,
        b"aof.buffer": appendonly.buffered(),
        b"lua.caches": 0,
        b"functions.caches": 0,
    }
    for db, found in now.databases:
        reply[b"db.%d" % db] = {
            b"overhead.hashtable.main": found["table_bytes"],
            b"overhead.hashtable.expires": 0,
        }
    reply.update(
        {
            b"overhead.db.hashtable.lut": now.tables,
            b"overhead.db.hashtable.rehashing": 0,
            b"overhead.total": now.overhead,
            b"db.dict.rehashing.count": 0,
            b"keys.count": now.keys,
            b"keys.bytes-per-key": now.dataset // now.keys if now.keys else 0,
            b"dataset.bytes": now.dataset,
            b"dataset.percentage": now.dataset_percent,
            b"peak.percentage": now.peak_percent,
            b"allocator.allocated": now.data,
            b"allocator.active": now.mapped,
            b"allocator.resident": now.mapped,
            b"allocator.muzzy": 0,
            b"allocator-fragmentation.ratio": now.fragmentation,
            b"allocator-fragmentation.bytes": now.mapped - now.data,
            b"allocator-rss.ratio": 1.0,
            b"allocator-rss.bytes": 0,
            b"rss-overhead.ratio": now.rss_extra,
            b"rss-overhead.bytes": now.rss - now.mapped,
            b"fragmentation": now.rss_ratio,
            b"fragmentation.bytes": now.rss - now.total,
        }
    )
    return reply


def doctor_text(now: Usage, clients: int) -> str:
    """What is striking about the figures, in sentences."""
    if now.total < 5 * MB:
        return "There is too little data in this server to say anything about its memory.\n"
    found = []
    if now.peak > 1.5 * now.total:
        found.append(
            "Peak memory: this server once used more than one and a half times what it uses now.\n"
            "   Freed memory is kept for reuse; MEMORY PURGE gives it back to the system."
        )
    if now.fragmentation > 1.4 and now.mapped - now.data > 10 * MB:
        found.append(
            "Fragmentation: much more memory is mapped for data than the data takes. It is used\n"
            "   again as data comes; MEMORY PURGE gives back what is wholly free."
        )
    if now.rss_extra > 1.1 and now.rss - now.mapped > 64 * MB:
        found.append(
            "Resident memory: the process holds much memory besides the data's."
        )
    if clients and now.clients // clients > 200 * 1024:
        found.append(
            "Connections: their buffers take more than 200 KB each on average. CLIENT LIST shows\n"
            "   whose: clients that read their replies slowly, or very long pipelines."
        )
    if not found:
        return "Nothing is wrong with this server's memory.\n"
    return "What is striking about this server's memory:\n\n" + "".join(
        f" * {text}\n\n" for text in found
    )


def doctor(_client: object, _args: list[bytes]) -> object:
    """MEMORY DOCTOR"""
    clients = bridge.totals().get("connected_clients", 0)
    return Verbatim(doctor_text(Usage(), clients).encode(), "txt")


def malloc_stats(_client: object, _args: list[bytes]) -> object:
    """MEMORY MALLOC-STATS"""
    now = Usage()
    lines = [
        f"allocator: {ALLOCATOR}",
        f"allocated: {now.data} bytes in blocks",
        f"mapped: {now.mapped} bytes in segments",
        f"buffers of connections: {now.clients} bytes (malloc)",
        f"resident: {now.rss} bytes of the process",
        f"python blocks: {sys.getallocatedblocks()}",
    ]
    for db, found in now.databases:
        lines.append(
            f"db{db}: {found['keys']} keys, "
            f"{found['table_bytes']} bytes in {found['tables']} tables"
        )
    return Verbatim(("\n".join(lines) + "\n").encode(), "txt")


def purge(_client: object, _args: list[bytes]) -> object:
    """MEMORY PURGE"""
    arena.purge()
    return "OK"


HELP = [
    ("DOCTOR", "Reports what is striking about the memory."),
    ("MALLOC-STATS", "Replies the allocator's figures."),
    ("PURGE", "Gives free memory back to the system."),
    ("STATS", "Replies what takes how much."),
    ("USAGE <key> [SAMPLES <count>]", "Replies how many bytes a key takes."),
]
ROWS: tuple[tuple[str, int, str, tuple[int, int, int], object, str, str], ...] = (
    ("doctor", 2, "", NO_KEYS, doctor, "Reports what is striking about the memory.", "O(1)"),
    ("malloc-stats", 2, "loading", NO_KEYS, malloc_stats, "Replies the allocator's figures.",
     "O(N), N the slots in use"),
    ("purge", 2, "loading", NO_KEYS, purge, "Gives free memory back to the system.",
     "O(N), N the memory that is mapped"),
    ("stats", 2, "", NO_KEYS, stats, "Replies what takes how much memory.", "O(1)"),
    ("usage", -3, "readonly", (2, 2, 1), usage, "Replies how many bytes a key takes.",
     "O(N), N the samples taken"),
)
register_container("memory", "4.0.0", "server", "Holds the commands about memory.")
for _name, _arity, _flags, _keys, _handler, _summary, _cost in ROWS:
    register_python(
        f"memory|{_name}", _arity, _flags, _keys, _handler,
        about("4.0.0", "server", "read slow" if _keys[0] else "slow", _summary, _cost),
    )
register_help("memory", "4.0.0", "server", "slow", HELP)
