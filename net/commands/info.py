"""INFO: the server's state in Valkey's sections and field names."""

import os
import resource
import sys
import threading
import time

from engine.command import register_python
from engine.reply import error_stats

from engine import arena, command, conf, events, inspect, keyspace, store
from engine import hash as hashes
from engine.commands import keys
from net import appendonly, bridge, cron, gate, migrate, pubsub, saving, standin, tracking, version
from net.cluster import running
from net.commands import client as client_commands
from net.commands import clusterview, hello, memory
from net.commands.common import NO_KEYS, about, number_setting, setting, text_setting, words
from net.config import config
from net.reply import Verbatim

RUN_ID = os.urandom(20).hex()
REPLICATION_ID = os.urandom(20).hex()
START_S = time.time()
LRU_BITS = 24
TTL_SAMPLES = 256
NOT_SAFE = {ord(char): "_" for char in "#:\n\r"}

Fields = list[tuple[str, object]]


def human(count: int) -> str:
    """Bytes in the unit that suits them."""
    if count < 1024:
        return f"{count}B"
    value = float(count)
    for unit in "KMGTP":
        value /= 1024
        if value < 1024 or unit == "P":
            return f"{value:.2f}{unit}"
    return f"{count}B"


# ---- rates: what was done in the last seconds


class Rates:
    """The newest sixteen rates of a few counters."""

    SAMPLES_MAX = 16

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last: tuple[float, tuple[int, ...]] | None = None
        self.samples: list[tuple[float, ...]] = []

    def add(self, now_s: float, counters: tuple[int, ...]) -> None:
        """Counters at some time; the rates since the time before are kept."""
        with self.lock:
            last, self.last = self.last, (now_s, counters)
            if last is None or now_s <= last[0]:
                return
            passed_s = now_s - last[0]
            pairs = zip(counters, last[1], strict=True)
            self.samples.append(tuple(max(0, new - old) / passed_s for new, old in pairs))
            if len(self.samples) > self.SAMPLES_MAX:
                del self.samples[0]

    def means(self, now_s: float, counters: tuple[int, ...]) -> list[float]:
        """The mean rates; where nobody samples, those since the last time they were asked for."""
        with self.lock:
            stale = self.last is None or now_s - self.last[0] > 1.0
        if stale:
            self.samples.clear()
            self.add(now_s, counters)
        with self.lock:
            samples = list(self.samples)
        if not samples:
            return [0.0] * len(counters)
        return [sum(column) / len(samples) for column in zip(*samples, strict=True)]


rates = Rates()


def _counters(totals: dict) -> tuple[int, ...]:
    loop = bridge.loop_totals()
    return (totals["commands_processed"], totals["net_in"], totals["net_out"], loop["eventloop_cycles"],
            loop["eventloop_duration_sum"])


def sample(_now_ms: int = 0) -> None:
    """Called from cron, some ten times a second: rates and the memory's peak."""
    totals = bridge.totals()
    rates.add(time.monotonic(), _counters(totals))
    memory.used_bytes()


cron.CRON.append(sample)


# ---- sections

_engine: list[str] = []


def io_engine() -> str:
    """What the workers wait with."""
    if not _engine:
        found = "epoll"
        for fd in os.listdir("/proc/self/fd"):
            try:
                if "io_uring" in os.readlink(f"/proc/self/fd/{fd}"):
                    found = "io_uring"
            except OSError:
                continue
        _engine.append(found)
    return _engine[0]


def _compiler() -> str:
    _, _, tail = sys.version.partition("[GCC ")
    return tail.split("]")[0].split(" ")[0] if tail else "0.0.0"


def _listeners() -> Fields:
    """The sockets that are listened on."""
    found: Fields = []
    port = number_setting("port", 6379)
    if port:
        binds = setting("bind", ())
        if isinstance(binds, str):
            binds = binds.split()
        places = "".join(f",bind={place}" for place in binds)
        found.append((f"listener{len(found)}", f"name=tcp{places},port={port}"))
    path = text_setting("unixsocket")
    if path:
        found.append((f"listener{len(found)}", f"name=unix,bind={path}"))
    return found


def server_section() -> Fields:
    """What this server is."""
    now_us = time.time_ns() // 1000
    uptime_s = max(0, int(time.time() - START_S))
    system = os.uname()
    hz = number_setting("hz", 10)
    return [
        ("redis_version", version.REDIS),
        ("server_name", "valkey"),
        ("valkey_version", version.VALKEY),
        ("valkey_release_stage", "ga"),
        ("slotring_version", version.SLOTRING),
        ("redis_git_sha1", "00000000"),
        ("redis_git_dirty", 0),
        ("redis_build_id", "0" * 16),
        ("redis_mode" if hello.says_redis() else "server_mode", "standalone"),
        ("os", f"{system.sysname} {system.release} {system.machine}"),
        ("arch_bits", 64),
        ("monotonic_clock", "POSIX clock_gettime"),
        ("multiplexing_api", io_engine()),
        ("gcc_version", _compiler()),
        ("process_id", os.getpid()),
        ("process_supervised", "no"),
        ("run_id", RUN_ID),
        ("tcp_port", number_setting("port", 6379)),
        ("server_time_usec", now_us),
        ("uptime_in_seconds", uptime_s),
        ("uptime_in_days", uptime_s // 86400),
        ("hz", hz),
        ("configured_hz", hz),
        ("clients_hz", hz),
        ("lru_clock", now_us // 1_000_000 & ((1 << LRU_BITS) - 1)),
        ("executable", sys.executable),
        ("config_file", getattr(config, "path", "") or ""),
        ("io_threads_active", 1 if bridge.totals().get("threads", 1) > 1 else 0),
        ("availability_zone", text_setting("availability-zone")),
        *_listeners(),
    ]


def tls_section() -> Fields:
    """There is no TLS."""
    fields: Fields = []
    for side in ("server", "client", "ca"):
        fields.append((f"tls_{side}_cert_serial", "none"))
        fields.append((f"tls_{side}_cert_expires_in_seconds", 0))
    return fields


def clients_section() -> Fields:
    """Who is connected, and whether commands are paused."""
    totals = bridge.totals()
    rows = bridge.clients()
    watchers, watched, waited_for, waited_on_delete = 0, 0, 0, 0
    if not gate.is_loading():          # who loads has all locks, and nobody waits or watches
        watchers, watched = events.watching()
        waited_for, waited_on_delete = events.waiting_keys()
    mode = conf.get("paused")
    left_ms = max(0, client_commands.pause_state["until_ms"] - time.time_ns() // 1_000_000)
    if not mode or not left_ms:
        mode = left_ms = 0
    reason = "client_pause" if mode else "none"
    if not mode and running.driver is not None and running.driver.migrations.holds_writes():
        mode, reason = 1, "slot_migration_in_progress"
    return [
        ("connected_clients", totals.get("connected_clients", len(rows))),
        ("cluster_connections", running.connections()),
        ("maxclients", number_setting("maxclients", 10000)),
        ("client_recent_max_input_buffer", max((row["qbuf"] for row in rows), default=0)),
        ("client_recent_max_output_buffer", max((row["omem"] for row in rows), default=0)),
        ("blocked_clients", bridge.blocked_clients()),
        ("tracking_clients", tracking.figures()[0]),
        ("pubsub_clients", sum("P" in row["flags"] for row in rows)),
        ("watching_clients", watchers),
        ("clients_in_timeout_table", 0),
        ("total_watched_keys", watched),
        ("total_blocking_keys", waited_for),
        ("total_blocking_keys_on_nokey", waited_on_delete),
        ("paused_reason", reason),
        ("paused_actions", ("none", "write", "all")[mode]),
        ("paused_timeout_milliseconds", left_ms),
    ]


def _system_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_section() -> Fields:
    """What takes how much memory."""
    now = memory.Usage()
    maxmemory = number_setting("maxmemory")
    system = _system_memory()
    return [
        ("used_memory", now.total),
        ("used_memory_human", human(now.total)),
        ("used_memory_rss", now.rss),
        ("used_memory_rss_human", human(now.rss)),
        ("used_memory_peak", now.peak),
        ("used_memory_peak_human", human(now.peak)),
        ("used_memory_peak_perc", f"{now.peak_percent:.2f}%"),
        ("used_memory_overhead", now.overhead),
        ("used_memory_startup", now.startup),
        ("used_memory_dataset", now.dataset),
        ("used_memory_dataset_perc", f"{now.dataset_percent:.2f}%"),
        ("allocator_allocated", now.data),
        ("allocator_active", now.mapped),
        ("allocator_resident", now.mapped),
        ("allocator_muzzy", 0),
        ("total_system_memory", system),
        ("total_system_memory_human", human(system)),
        ("used_memory_lua", 0),
        ("used_memory_vm_eval", 0),
        ("used_memory_lua_human", "0B"),
        ("used_memory_scripts_eval", 0),
        ("number_of_cached_scripts", 0),
        ("number_of_functions", 0),
        ("number_of_libraries", 0),
        ("used_memory_vm_functions", 0),
        ("used_memory_vm_total", 0),
        ("used_memory_vm_total_human", "0B"),
        ("used_memory_functions", 0),
        ("used_memory_scripts", 0),
        ("used_memory_scripts_human", "0B"),
        ("maxmemory", maxmemory),
        ("maxmemory_human", human(maxmemory)),
        ("maxmemory_policy", text_setting("maxmemory-policy", "noeviction")),
        ("allocator_frag_ratio", f"{now.fragmentation:.2f}"),
        ("allocator_frag_bytes", now.mapped - now.data),
        ("allocator_rss_ratio", "1.00"),
        ("allocator_rss_bytes", 0),
        ("rss_overhead_ratio", f"{now.rss_extra:.2f}"),
        ("rss_overhead_bytes", now.rss - now.mapped),
        ("mem_fragmentation_ratio", f"{now.rss_ratio:.2f}"),
        ("mem_fragmentation_bytes", now.rss - now.total),
        ("mem_not_counted_for_evict", 0),
        ("mem_replication_backlog", 0),
        ("mem_total_replication_buffers", 0),
        ("mem_replicas_repl_buffer", 0),
        ("mem_clients_slaves", 0),
        ("mem_clients_normal", now.clients),
        ("mem_cluster_links", running.links_bytes()),
        ("mem_cluster_slot_import", 0),
        ("mem_cluster_slot_export", 0),
        ("mem_aof_buffer", appendonly.buffered()),
        ("mem_allocator", memory.ALLOCATOR),
        ("mem_overhead_db_hashtable_rehashing", 0),
        ("active_defrag_running", 0),
        ("lazyfree_pending_objects", keys.lazyfree_pending() + store.doomed()),
        ("lazyfreed_objects", keys.lazyfreed_objects()),
    ]


AOF_FIRST = 10     # lines about the AOF that are always there


def persistence_section() -> Fields:
    """What is saved and what was loaded."""
    return [
        ("loading", int(gate.is_loading())),
        ("async_loading", 0),
        ("current_cow_peak", saving.copied()),
        ("current_cow_size", saving.copied()),
        ("current_cow_size_age", 0),
        *saving.info(),
        *appendonly.info()[:AOF_FIRST],
        ("module_fork_in_progress", 0),
        ("module_fork_last_cow_size", 0),
        ("slot_migration_fork_in_progress", 0),
        *appendonly.info()[AOF_FIRST:],
        *saving.loading_info(),
    ]


def _stats_of_traffic(totals: dict) -> Fields:
    means = rates.means(time.monotonic(), _counters(totals))
    return [
        ("total_connections_received", totals["connections_received"]),
        ("total_commands_processed", totals["commands_processed"]),
        ("instantaneous_ops_per_sec", int(means[0])),
        ("total_net_input_bytes", totals["net_in"]),
        ("total_net_output_bytes", totals["net_out"]),
        ("total_net_repl_input_bytes", 0),
        ("total_net_repl_output_bytes", 0),
        ("total_net_cluster_slot_import_bytes", 0),
        ("total_net_cluster_slot_export_bytes", 0),
        ("instantaneous_input_kbps", f"{means[1] / 1024:.2f}"),
        ("instantaneous_output_kbps", f"{means[2] / 1024:.2f}"),
        ("instantaneous_input_repl_kbps", "0.00"),
        ("instantaneous_output_repl_kbps", "0.00"),
        ("rejected_connections", totals["rejected_connections"]),
        ("sync_full", 0),
        ("sync_partial_ok", 0),
        ("sync_partial_err", 0),
    ]


def _stats_of_keys(totals: dict) -> Fields:
    counts = keyspace.stats()
    channels, patterns, shard_channels = pubsub.counts()
    return [
        ("expired_keys", totals["expired_keys"] + counts["expired_active"]),
        ("expired_fields", hashes.stats()["expired_fields"]),
        ("expired_stale_perc", "0.00"),
        ("expired_keys_with_volatile_items_stale_perc", "0.00"),
        ("expired_time_cap_reached_count", 0),
        ("expire_cycle_cpu_milliseconds", totals.get("expire_cycle_us", 0) // 1000),
        ("evicted_keys", counts["evicted_keys"]),
        ("evicted_clients", totals["evicted_clients"]),
        ("evicted_scripts", 0),
        ("total_eviction_exceeded_time", 0),
        ("current_eviction_exceeded_time", 0),
        ("keyspace_hits", totals["keyspace_hits"]),
        ("keyspace_misses", totals["keyspace_misses"]),
        ("pubsub_channels", channels),
        ("pubsub_patterns", patterns),
        ("pubsubshard_channels", shard_channels),
    ]


NOTHING_YET = [
    "slave_expires_tracked_keys", "active_defrag_hits",
    "active_defrag_misses", "active_defrag_key_hits", "active_defrag_key_misses",
    "total_active_defrag_time", "current_active_defrag_time", "unexpected_error_replies",
]  # fmt: skip
# fields that the bridge's totals may have under their own name
COUNTED_BY_BRIDGE = [
    "total_reads_processed", "total_writes_processed", "io_threaded_reads_processed",
    "io_threaded_writes_processed", "io_threaded_freed_objects", "io_threaded_accept_processed",
    "io_threaded_poll_processed", "io_threaded_total_prefetch_batches",
    "io_threaded_total_prefetch_entries", "client_query_buffer_limit_disconnections",
    "client_output_buffer_limit_disconnections", "reply_buffer_shrinks", "reply_buffer_expands",
]  # fmt: skip


def _stats_of_loops(totals: dict) -> Fields:
    """How often the workers' loops went round, and for how long they did not wait."""
    loop = bridge.loop_totals()
    turns, busy_us = rates.means(time.monotonic(), _counters(totals))[3:]
    return [
        *((name, loop[name]) for name in
          ("eventloop_cycles", "eventloop_duration_sum", "eventloop_duration_cmd_sum")),
        ("instantaneous_eventloop_cycles_per_sec", int(turns)),
        ("instantaneous_eventloop_duration_usec", round(busy_us / turns) if turns else 0),
    ]


def stats_section() -> Fields:
    """What was done since the start or CONFIG RESETSTAT."""
    totals = bridge.totals()
    return [
        *_stats_of_traffic(totals),
        *_stats_of_keys(totals),
        ("latest_fork_usec", 0),
        ("total_forks", standin.started[0]),
        ("migrate_cached_sockets", migrate.links.count()),
        *((name, 0) for name in NOTHING_YET),
        *zip(("tracking_total_keys", "tracking_total_items", "tracking_total_prefixes"), tracking.figures()[1:],
             strict=True),
        ("total_error_replies", error_stats()[None]),
        ("dump_payload_sanitizations", 0),
        *((name, totals.get(name, 0)) for name in COUNTED_BY_BRIDGE),
        *_stats_of_loops(totals),
        ("acl_access_denied_auth", hello.denied["auth"]),
        ("acl_access_denied_cmd", 0),
        ("acl_access_denied_key", 0),
        ("acl_access_denied_channel", 0),
        ("acl_access_denied_tls_cert", 0),
        ("acl_access_denied_db", 0),
    ]


def replication_section() -> Fields:
    """There is no replication yet: a primary without replicas."""
    return [
        ("role", "master"),
        ("connected_slaves", 0),
        ("replicas_waiting_psync", 0),
        ("master_failover_state", "no-failover"),
        ("master_replid", REPLICATION_ID),
        ("master_replid2", "0" * 40),
        ("master_repl_offset", 0),
        ("second_repl_offset", -1),
        ("repl_backlog_active", 0),
        ("repl_backlog_size", number_setting("repl-backlog-size", 10 << 20)),
        ("repl_backlog_first_byte_offset", 0),
        ("repl_backlog_histlen", 0),
    ]


def cpu_section() -> Fields:
    """Processor time."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    thread = resource.getrusage(resource.RUSAGE_THREAD)
    return [
        ("used_cpu_sys", f"{own.ru_stime:.6f}"),
        ("used_cpu_user", f"{own.ru_utime:.6f}"),
        ("used_cpu_sys_children", f"{children.ru_stime:.6f}"),
        ("used_cpu_user_children", f"{children.ru_utime:.6f}"),
        ("used_cpu_sys_main_thread", f"{thread.ru_stime:.6f}"),
        ("used_cpu_user_main_thread", f"{thread.ru_utime:.6f}"),
        ("used_active_time_main_thread", f"{thread.ru_stime + thread.ru_utime:.6f}"),
    ]


def command_names() -> dict[int, str]:
    """Commands' names by their numbers."""
    return {row["id"]: name for name, row in command.rows.items()}


def commandstats_section() -> Fields:
    """Calls of each command."""
    names = command_names()
    return [
        (
            f"cmdstat_{names[number].translate(NOT_SAFE)}",
            f"calls={calls},usec={usec},usec_per_call={usec / calls if calls else 0:.2f}"
            f",rejected_calls={rejected},failed_calls={failed}",
        )
        for number, calls, usec, rejected, failed in bridge.command_stats()
        if calls or rejected or failed
    ]


def errorstats_section() -> Fields:
    """Error replies by their first word."""
    found = error_stats()
    return [
        (f"errorstat_{words(name).translate(NOT_SAFE)}", f"count={found[name]}")
        for name in sorted(name for name in found if name is not None)
    ]


def percentile_us(tops: list[tuple[float, int]], percent: float) -> float:
    """The duration that so many percent of the calls do not exceed; tops: (ns, calls so far)."""
    wanted = tops[-1][1] * percent / 100
    for bound_ns, so_far in tops:
        if so_far >= wanted:
            return bound_ns / 1000
    return tops[-1][0] / 1000


def latencystats_section() -> Fields:
    """Percentiles of each command's duration."""
    fields: Fields = []
    if not setting("latency-tracking", True):
        return fields
    names = command_names()
    percents = setting("latency-tracking-info-percentiles", (50.0, 99.0, 99.9))
    for number, calls, *_ in bridge.command_stats():
        if not calls:
            continue
        total = 0
        tops: list[tuple[float, int]] = []
        bounds = bridge.HISTOGRAM_BOUNDS_NS
        for bound_ns, count in zip(bounds, bridge.command_histogram(number), strict=False):
            if count:
                total += count
                tops.append((bound_ns, total))
        if tops:
            text = ",".join(
                f"p{float(percent):g}={percentile_us(tops, percent):.3f}" for percent in percents
            )
            name = names[number].translate(NOT_SAFE)
            fields.append((f"latency_percentiles_usec_{name}", text))
    return fields


def keyspace_section() -> Fields:
    """Keys of each database that has some."""
    fields: Fields = []
    now_ms = time.time_ns() // 1_000_000
    for db in range(inspect.databases()):
        keys, expires = store.counts(db)
        if keys or expires:
            looks = expires and not gate.is_loading()      # who loads has all locks
            ttl_ms = inspect.figures(db, False, now_ms, TTL_SAMPLES)["avg_ttl"] if looks else 0
            volatile = store.field_expiring(db)
            text = f"keys={keys},expires={expires},avg_ttl={ttl_ms},keys_with_volatile_items={volatile}"
            fields.append((f"db{db}", text))
    return fields


def debug_section() -> Fields:
    """Figures for those who work on the server."""
    figures = {**bridge.loop_totals(), "eventloop_duration_cron_sum": cron.spent_us}
    names = [
        "eventloop_duration_aof_sum", "eventloop_duration_cron_sum", "eventloop_duration_max",
        "eventloop_cmd_per_cycle_max", "io_threaded_reads_pending", "io_threaded_writes_pending",
    ]  # fmt: skip
    return [
        *((name, figures.get(name, 0)) for name in names),
        ("arena_mapped_bytes", arena.mapped()),
        ("arena_used_bytes", arena.used_bytes()),
    ]


# name: title, fields; in the order in which they are printed
SECTIONS = (
    ("server", "Server", server_section),
    ("tls", "TLS", tls_section),
    ("clients", "Clients", clients_section),
    ("memory", "Memory", memory_section),
    ("persistence", "Persistence", persistence_section),
    ("stats", "Stats", stats_section),
    ("replication", "Replication", replication_section),
    ("cpu", "CPU", cpu_section),
    ("module_list", "Modules", list),
    ("commandstats", "Commandstats", commandstats_section),
    ("errorstats", "Errorstats", errorstats_section),
    ("latencystats", "Latencystats", latencystats_section),
    ("cluster", "Cluster", lambda: [("cluster_enabled", int(config.get_value("cluster-enabled")))]),
    ("cluster_info", "Cluster Info", clusterview.info_section),
    ("scriptingengines", "Scripting Engines", lambda: [
        ("engines_count", 0), ("engines_total_used_memory", 0),
        ("engines_total_memory_overhead", 0)]),
    ("keyspace", "Keyspace", keyspace_section),
)
DEFAULT = frozenset(
    (
        "server", "clients", "memory", "persistence", "stats", "replication", "cpu",
        "module_list", "errorstats", "cluster", "keyspace",
    )
)  # fmt: skip


def text_of(wanted: set[str]) -> bytes:
    """INFO's text of the sections named; "all" and "everything" name all but debug."""
    every = "all" in wanted or "everything" in wanted
    parts = []
    for name, title, section in SECTIONS:
        if every or name in wanted or (name == "module_list" and "modules" in wanted):
            parts.append((title, section()))
    if "debug" in wanted:
        parts.append(("Debug", debug_section()))
    blocks = [
        f"# {title}\r\n" + "".join([f"{name}:{value}\r\n" for name, value in fields])
        for title, fields in parts
    ]
    return "\r\n".join(blocks).encode("utf-8", "surrogateescape")


def info(_client: object, args: list[bytes]) -> object:
    """INFO [section ...]"""
    wanted = {words(name).lower() for name in args[1:]}
    if not wanted:
        wanted = set(DEFAULT)
    elif "default" in wanted:
        wanted |= DEFAULT
    return Verbatim(text_of(wanted), "txt")


register_python(
    "info", -1, "loading stale", NO_KEYS, info,
    about("1.0.0", "server", "slow dangerous", "Replies the server's state."),
)
