# The settings that the data plane reads, as plain words; the control plane sets them by name (conf.set).
from engine.defs cimport *

cdef enum:
    EVICT_NONE = 0
    EVICT_VOLATILE_LRU = 1
    EVICT_VOLATILE_LFU = 2
    EVICT_VOLATILE_RANDOM = 3
    EVICT_VOLATILE_TTL = 4
    EVICT_ALLKEYS_LRU = 5
    EVICT_ALLKEYS_LFU = 6
    EVICT_ALLKEYS_RANDOM = 7

cdef struct Conf:
    i64 maxmemory
    i64 refuse_writes          # the last save in the background failed (stop-writes-on-bgsave-error)
    i64 aof_errno              # the last write to the AOF failed with this: writes are refused; 0: it went well
    i64 effects                # somebody reads the effects log
    i64 hold_replies           # until what was logged before them is on the disk (appendfsync always)
    i64 snapshot               # one is under way: see snapshot.pxd
    i64 maxmemory_policy
    i64 maxmemory_samples
    i64 lfu_log_factor
    i64 lfu_decay_time
    i64 proto_max_bulk_len
    i64 query_buffer_limit
    i64 maxclients
    i64 timeout_s
    i64 tcp_keepalive_s
    i64 out_hard_bytes
    i64 out_soft_bytes
    i64 out_soft_s
    i64 active_expire          # DEBUG SET-ACTIVE-EXPIRE
    i64 slow_us                # commandlog-execution-slower-than; -1 off
    i64 large_request_bytes
    i64 large_reply_bytes
    i64 latency_ms             # latency-monitor-threshold; 0 off
    i64 monitors               # clients in MONITOR
    i64 need_auth              # requirepass is set
    i64 paused                 # CLIENT PAUSE: 0, 1 writes, 2 all
    i64 import_mode
    i64 protected_mode         # refuse peers from elsewhere while there is no password
    i64 notify                 # notify-keyspace-events: N_… of events.pxd; 0: none
    i64 hash_max_listpack_entries
    i64 hash_max_listpack_value
    i64 set_max_intset_entries
    i64 set_max_listpack_entries
    i64 set_max_listpack_value
    i64 zset_max_listpack_entries
    i64 zset_max_listpack_value
    i64 list_max_listpack_size
    i64 list_compress_depth
    i64 stream_node_max_bytes
    i64 stream_node_max_entries
    i64 hll_sparse_max_bytes
    i64 lazyfree_user_del
    i64 lazyfree_server_del
    i64 lazyfree_expire
    i64 lazyfree_eviction
    i64 lazyfree_user_flush
    i64 sanitize_dump_payload  # 0 no, 1 clients, 2 yes
    i64 rdb_compression
    i64 pubsub_hard_bytes      # client-output-buffer-limit of who has subscriptions
    i64 pubsub_soft_bytes
    i64 pubsub_soft_s
    i64 tracking               # somebody is told of changes (CLIENT TRACKING)
    i64 tracking_max_keys
    i64 cluster                # cluster mode
    i64 routing                # keys' slots are looked at before a command runs: cluster mode, or slots are paused
    i64 slot_stats             # cluster-slot-stats-enabled, in cluster mode
    i64 cluster_reads_down     # cluster-allow-reads-when-down
    i64 cluster_pubsub_down    # cluster-allow-pubsubshard-when-down

cdef Conf conf
