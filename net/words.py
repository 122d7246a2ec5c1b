"""The data plane's words (engine.conf), kept equal to the settings."""

from engine import conf, keyspace
from engine.commands import dump
from engine.shared import find
from net import clientmem

# Settings whose word has another name.
RENAMED = {
    "timeout": "timeout_s",
    "tcp-keepalive": "tcp_keepalive_s",
    "client-query-buffer-limit": "query_buffer_limit",
    "commandlog-execution-slower-than": "slow_us",
    "commandlog-request-larger-than": "large_request_bytes",
    "commandlog-reply-larger-than": "large_reply_bytes",
    "latency-monitor-threshold": "latency_ms",
    "lazyfree-lazy-user-del": "lazyfree_user_del",
    "lazyfree-lazy-server-del": "lazyfree_server_del",
    "lazyfree-lazy-expire": "lazyfree_expire",
    "lazyfree-lazy-eviction": "lazyfree_eviction",
    "lazyfree-lazy-user-flush": "lazyfree_user_flush",
    "rdbcompression": "rdb_compression",
    "tracking-table-max-keys": "tracking_max_keys",
    "cluster-slot-stats-enabled": "slot_stats",
    "cluster-allow-reads-when-down": "cluster_reads_down",
    "cluster-allow-pubsubshard-when-down": "cluster_pubsub_down",
}
# N_* of engine/events.pxd by the letters of notify-keyspace-events; A is all kinds but m and n.
EVENT_BITS = {"K": 1, "E": 2, "g": 4, "$": 8, "l": 16, "s": 32, "h": 64, "z": 128, "x": 256, "e": 512, "t": 1024,
              "m": 2048, "d": 8192, "n": 16384}
EVENTS_ALL = sum(EVENT_BITS[letter] for letter in "g$lshzxetd")
# EVICT_* of engine/conf.pxd.
POLICIES = ("noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
            "allkeys-lru", "allkeys-lfu", "allkeys-random")
CLIENTS_LIMIT_MIN = 128 << 10   # of maxmemory-clients, where it is on
_I64_MAX = (1 << 63) - 1


def _number_hook(word: str) -> object:
    def hook(value: int) -> None:
        conf.set(word, min(int(value), _I64_MAX))
    return hook


def _memory_limits(config: object) -> object:
    """maxmemory and maxmemory-clients, which may be a share of it."""
    def hook(_value: int) -> None:
        limit = min(config.get_value("maxmemory"), _I64_MAX)
        conf.set("maxmemory", limit)
        clients = config.get_value("maxmemory-clients")
        if clients < 0:
            clients = -clients * limit // 100
        clientmem.set_limit(max(clients, CLIENTS_LIMIT_MIN) if clients else 0)
    return hook


def evict_us(tenacity: int) -> int:
    """How long a command may evict, for a maxmemory-eviction-tenacity; -1: as long as it takes."""
    if tenacity <= 10:
        return 50 * tenacity
    return int(500 * 1.15 ** (tenacity - 10)) if tenacity < 100 else -1


def _tenacity(value: int) -> None:
    keyspace.set_evict_us(evict_us(value))


def _policy(value: str) -> None:
    conf.set("maxmemory_policy", POLICIES.index(value))


def _output_limits(value: tuple) -> None:
    hard, soft, seconds = value[0]
    conf.set("out_hard_bytes", hard)
    conf.set("out_soft_bytes", soft)
    conf.set("out_soft_s", seconds)
    hard, soft, seconds = value[2]
    conf.set("pubsub_hard_bytes", hard)
    conf.set("pubsub_soft_bytes", soft)
    conf.set("pubsub_soft_s", seconds)


def _events(value: str) -> None:
    bits = 0
    for letter in value:
        bits |= EVENTS_ALL if letter == "A" else EVENT_BITS[letter]
    conf.set("notify", bits if bits & 3 else 0)        # neither K nor E: nothing is sent


def _password(value: str) -> None:
    conf.set("need_auth", 1 if value else 0)


def _version_check(value: str) -> None:
    dump.set_any_version(value == "relaxed")


def set_up(config: object) -> None:
    """Sets every word, now and whenever its setting changes. A bool or number whose name is a word's
    (with - for _) needs no entry here."""
    hooks = {"maxmemory-policy": _policy, "client-output-buffer-limit": _output_limits,
             "requirepass": _password, "notify-keyspace-events": _events,
             "rdb-version-check": _version_check}
    for name, value in config.values.items():
        word = find(RENAMED, name, name.replace("-", "_"))
        if word in conf.NAMES and isinstance(value, int):
            hooks[name] = _number_hook(word)
    hooks["maxmemory"] = hooks["maxmemory-clients"] = _memory_limits(config)
    hooks["maxmemory-eviction-tenacity"] = _tenacity
    for name, hook in hooks.items():
        hook(config.get_value(name))
        config.on_change(name, hook)
