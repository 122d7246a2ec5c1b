# slotring: data plane
"""Settings of the data plane by name; see conf.pxd."""
from engine.defs cimport *
from engine.racy cimport racy_begin, racy_end

NAMES = ("maxmemory", "refuse_writes", "aof_errno", "effects", "hold_replies", "snapshot",
         "maxmemory_policy", "maxmemory_samples", "lfu_log_factor", "lfu_decay_time",
         "proto_max_bulk_len", "query_buffer_limit", "maxclients", "timeout_s", "tcp_keepalive_s",
         "out_hard_bytes", "out_soft_bytes", "out_soft_s", "active_expire", "slow_us",
         "large_request_bytes", "large_reply_bytes", "latency_ms", "monitors", "need_auth", "paused",
         "import_mode", "protected_mode", "notify", "hash_max_listpack_entries",
         "hash_max_listpack_value", "set_max_intset_entries", "set_max_listpack_entries",
         "set_max_listpack_value", "zset_max_listpack_entries", "zset_max_listpack_value",
         "list_max_listpack_size", "list_compress_depth", "stream_node_max_bytes",
         "stream_node_max_entries", "hll_sparse_max_bytes", "lazyfree_user_del", "lazyfree_server_del",
         "lazyfree_expire", "lazyfree_eviction", "lazyfree_user_flush", "sanitize_dump_payload",
         "rdb_compression", "pubsub_hard_bytes", "pubsub_soft_bytes", "pubsub_soft_s",
         "tracking", "tracking_max_keys", "cluster", "routing", "slot_stats", "cluster_reads_down",
         "cluster_pubsub_down")


def set(str name, value: int) -> None:
    """Set one word."""
    cdef i64* word = <i64*>&conf + <i64>NAMES.index(name)
    cdef i64 n = value
    racy_begin()                       # whole words: a worker sees the old one or the new one
    word[0] = n
    racy_end()


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
conf.hash_max_listpack_entries = 512
conf.hash_max_listpack_value = 64
conf.set_max_intset_entries = 512
conf.set_max_listpack_entries = 128
conf.set_max_listpack_value = 64
conf.zset_max_listpack_entries = 128
conf.zset_max_listpack_value = 64
conf.list_max_listpack_size = -2
conf.stream_node_max_bytes = 4096
conf.stream_node_max_entries = 100
conf.hll_sparse_max_bytes = 3000
conf.lazyfree_user_del = 1
conf.lazyfree_server_del = 1
conf.lazyfree_expire = 1
conf.lazyfree_eviction = 1
conf.lazyfree_user_flush = 1
conf.cluster_pubsub_down = 1
conf.rdb_compression = 1
