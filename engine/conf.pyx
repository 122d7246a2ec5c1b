# slotring: data plane
"""Settings of the data plane by name; see conf.pxd."""
from engine.defs cimport *

NAMES = ("maxmemory", "maxmemory_policy", "maxmemory_samples", "lfu_log_factor", "lfu_decay_time",
         "proto_max_bulk_len", "query_buffer_limit", "maxclients", "timeout_s", "tcp_keepalive_s",
         "out_hard_bytes", "out_soft_bytes", "out_soft_s", "active_expire", "slow_us",
         "large_request_bytes", "large_reply_bytes", "latency_ms", "monitors", "need_auth", "paused",
         "import_mode", "protected_mode")


def set(str name, value: int) -> None:
    """Set one word."""
    (<i64*>&conf)[NAMES.index(name)] = value


def get(str name) -> int:
    """Read one word."""
    return (<i64*>&conf)[NAMES.index(name)]


assert sizeof(Conf) == 8 * len(NAMES)
conf.maxmemory_samples = 5
conf.lfu_log_factor = 10
conf.lfu_decay_time = 1
conf.proto_max_bulk_len = 512 << 20
conf.query_buffer_limit = 1 << 30
conf.maxclients = 10000
conf.tcp_keepalive_s = 300
conf.active_expire = 1
conf.slow_us = 10000
conf.large_request_bytes = 1 << 20
conf.large_reply_bytes = 1 << 20
