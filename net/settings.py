"""The table of settings: names, defaults, bounds and marks, as Valkey 9.1 has them.

The tables are text, one setting a line. Marks: immutable (only at start), hidden (CONFIG GET wants
the whole name), protected (enable-protected-configs), sensitive (kept out of logs), loading (not while
a data set loads), volatile (its hooks run even where the value stays), alias=NAME.
"""

import os
import sys

INT_MAX = (1 << 31) - 1
UINT_MAX = (1 << 32) - 1
LONG_MAX = (1 << 63) - 1
ULONG_MAX = (1 << 64) - 1
LIMITS = {"int": INT_MAX, "-int": -INT_MAX - 1, "uint": UINT_MAX, "long": LONG_MAX,
          "ulong": ULONG_MAX, "octal777": 0o777}
IO_THREADS_MAX = 16

BOOL, INT, OCTAL, MEMORY, PERCENT, SIGNED, ENUM, FLAGS, STRING, SPECIAL = (
    "bool", "int", "octal", "memory", "percent", "signed", "enum", "flags", "string", "special")
NUMBERS = frozenset((INT, OCTAL, MEMORY, PERCENT, SIGNED))

_BOOLS = """
rdbchecksum yes immutable
daemonize no immutable
always-show-logo no immutable
protected-mode yes
rdbcompression yes
rdb-del-sync-files no
activerehashing yes
stop-writes-on-bgsave-error yes
set-proc-title yes immutable
lazyfree-lazy-eviction yes
lazyfree-lazy-expire yes
lazyfree-lazy-server-del yes
lazyfree-lazy-user-del yes
lazyfree-lazy-user-flush yes
repl-disable-tcp-nodelay no
repl-mptcp no immutable
repl-diskless-sync yes
dual-channel-replication-enabled no
aof-rewrite-incremental-fsync yes
no-appendfsync-on-rewrite no
cluster-require-full-coverage yes
rdb-save-incremental-fsync yes
aof-load-truncated yes
aof-use-rdb-preamble yes
aof-timestamp-enabled no
cluster-replica-no-failover no alias=cluster-slave-no-failover
replica-lazy-flush yes alias=slave-lazy-flush
replica-serve-stale-data yes alias=slave-serve-stale-data
replica-read-only yes alias=slave-read-only
replica-ignore-maxmemory yes alias=slave-ignore-maxmemory
jemalloc-bg-thread yes
activedefrag no
syslog-enabled no immutable
cluster-enabled no immutable
appendonly no loading
cluster-allow-reads-when-down no
cluster-allow-pubsubshard-when-down yes
crash-log-enabled yes
crash-memcheck-enabled yes
use-exit-on-panic no hidden
disable-thp yes immutable
cluster-allow-replica-migration yes
replica-announced yes
latency-tracking yes
aof-disable-auto-gc no hidden
replica-ignore-disk-write-errors no
extended-redis-compatibility no
enable-debug-assert no immutable hidden
cluster-slot-stats-enabled no
hide-user-data-from-log yes
lua-enable-insecure-api no hidden protected alias=lua-enable-deprecated-api
import-mode no
io-threads-always-active no hidden
mptcp no immutable
tls-cluster no
tls-replication no
tls-prefer-server-ciphers no
tls-session-caching yes
"""

# name lowest highest default marks
_INTS = """
databases 1 int 16 immutable
cluster-databases 1 int 1 immutable
port 0 65535 6379
min-io-threads-avoid-copy-reply 0 int 7 hidden
min-string-size-avoid-copy-reply 0 int 16384 hidden
min-string-size-avoid-copy-reply-threaded 0 int 65536 hidden
prefetch-batch-max-size 0 128 16
auto-aof-rewrite-percentage 0 int 100
cluster-replica-validity-factor 0 int 10 alias=cluster-slave-validity-factor
list-max-listpack-size -int int -2 alias=list-max-ziplist-size
tcp-keepalive 0 int 300
cluster-migration-barrier 0 int 1
active-defrag-cycle-min 1 99 1
active-defrag-cycle-max 1 99 25
active-defrag-threshold-lower 0 1000 10
active-defrag-threshold-upper 0 1000 100
active-defrag-cycle-us 0 100000 500
lfu-log-factor 0 int 10
lfu-decay-time 0 int 1
replica-priority 0 int 100 alias=slave-priority
repl-diskless-sync-delay 0 int 5
maxmemory-samples 1 64 5
maxmemory-eviction-tenacity 0 100 10
timeout 0 int 0
replica-announce-port 0 65535 0 alias=slave-announce-port
tcp-backlog 0 int 511 immutable
cluster-port 0 65535 0 immutable
cluster-announce-bus-port 0 65535 0
cluster-announce-port 0 65535 0
cluster-announce-tls-port 0 65535 0
cluster-announce-client-port 0 65535 0
cluster-announce-client-tls-port 0 65535 0
repl-timeout 1 int 60
repl-ping-replica-period 1 int 10 alias=repl-ping-slave-period
list-compress-depth 0 int 0
rdb-key-save-delay -int int 0 hidden
key-load-delay -int int 0 hidden
active-expire-effort 1 10 1
hz 0 int 10
min-replicas-to-write 0 int 0 alias=min-slaves-to-write
min-replicas-max-lag 0 int 10 alias=min-slaves-max-lag
watchdog-period 0 int 0 hidden
shutdown-timeout 0 int 10
repl-diskless-sync-max-replicas 0 int 0
rdma-port 0 65535 0
rdma-rx-size 65536 16777216 1048576 immutable
rdma-completion-vector -1 1024 -1 immutable
cluster-message-gossip-perc 1 100 10 hidden
maxclients 1 uint 10000
socket-mark-id 0 uint 0 immutable
max-new-connections-per-cycle 1 1000 10
max-new-tls-connections-per-cycle 1 1000 1
active-defrag-max-scan-fields 1 long 1000
commandlog-slow-execution-max-len 0 long 128 alias=slowlog-max-len
commandlog-large-request-max-len 0 long 128
commandlog-large-reply-max-len 0 long 128
acllog-max-len 0 long 128
cluster-blacklist-ttl 0 ulong 60
cluster-slot-migration-log-max-len 0 long 1000
busy-reply-threshold 0 long 5000 alias=lua-time-limit
cluster-node-timeout 0 long 15000
cluster-ping-interval 0 long 0 hidden
commandlog-execution-slower-than -1 long 10000 alias=slowlog-log-slower-than
commandlog-request-larger-than -1 long 1048576
commandlog-reply-larger-than -1 long 1048576
latency-monitor-threshold 0 long 0
stream-node-max-entries 0 long 100
cluster-manual-failover-timeout 1 int 5000
hash-max-listpack-entries 0 long 512 alias=hash-max-ziplist-entries
set-max-intset-entries 0 long 512
set-max-listpack-entries 0 long 128
set-max-listpack-value 0 long 64
zset-max-listpack-entries 0 long 128 alias=zset-max-ziplist-entries
tracking-table-max-keys 0 long 1000000
repl-backlog-ttl 0 long 3600
loading-process-events-interval-bytes 1024 int 2097152 hidden
tls-port 0 65535 0
tls-session-cache-size 0 int 20480
tls-session-cache-timeout 0 int 300
tls-auto-reload-interval 0 int 0
"""

_OCTALS = """
unixsocketperm 0 octal777 0 immutable
"""

_MEMORIES = """
proto-max-bulk-len 1048576 long 536870912
repl-backlog-size 1 long 10485760
maxmemory 0 ulong 0
cluster-link-sendbuf-limit 0 ulong 0
active-defrag-ignore-bytes 1 long 104857600
hash-max-listpack-value 0 long 64 alias=hash-max-ziplist-value
stream-node-max-bytes 0 long 4096
zset-max-listpack-value 0 long 64 alias=zset-max-ziplist-value
hll-sparse-max-bytes 0 long 3000
client-query-buffer-limit 1048576 long 1073741824
auto-aof-rewrite-min-size 0 long 67108864
"""

_PERCENTS = """
maxmemory-clients -100 long 0
"""

_SIGNEDS = """
slot-migration-max-failover-repl-bytes -1 long 0
"""

# name choices default marks
_ENUMS = """
supervised upstart,systemd,auto,no no immutable
syslog-facility user,local0,local1,local2,local3,local4,local5,local6,local7 local0 immutable
repl-diskless-load disabled,on-empty-db,swapdb,flush-before-load disabled loading
loglevel debug,verbose,notice,warning,nothing notice
maxmemory-policy volatile-lru,volatile-lfu,volatile-random,volatile-ttl,allkeys-lru,allkeys-lfu,\
allkeys-random,noeviction noeviction
appendfsync everysec,always,no everysec
oom-score-adj no,yes,relative,absolute no
acl-pubsub-default allchannels,resetchannels resetchannels
enable-protected-configs no,yes,local no immutable
enable-debug-command no,yes,local no immutable
enable-module-command no,yes,local no immutable
cluster-preferred-endpoint-type ip,hostname,unknown-endpoint ip
cluster-config-save-behavior sync,best-effort sync
propagation-error-behavior ignore,panic,panic-on-replicas ignore
log-format legacy,logfmt,json legacy
log-timestamp-format legacy,iso8601,milliseconds legacy
rdb-version-check strict,relaxed strict
tls-auth-clients no,yes,optional yes
tls-auth-clients-user CN,URI,off off
io-engine auto,io_uring,epoll auto
"""

_FLAGS = """
shutdown-on-sigint default,save,nosave,now,force,safe,failover default
shutdown-on-sigterm default,save,nosave,now,force,safe,failover default
"""

# name default marks; "-" is no value at all, '' the empty text
_STRINGS = """
aclfile '' immutable
unixsocket - immutable
unixsocketgroup - immutable
pidfile - immutable
replica-announce-ip - alias=slave-announce-ip
primaryuser - sensitive alias=masteruser
cluster-announce-ip -
cluster-announce-client-ipv4 -
cluster-announce-client-ipv6 -
cluster-config-file nodes.conf immutable
cluster-announce-hostname -
cluster-announce-human-nodename -
syslog-ident valkey immutable
dbfilename dump.rdb protected
appendfilename appendonly.aof immutable
appenddirname appendonlydir immutable
server-cpulist - immutable alias=server_cpulist
bio-cpulist - immutable alias=bio_cpulist
aof-rewrite-cpulist - immutable alias=aof_rewrite_cpulist
bgsave-cpulist - immutable alias=bgsave_cpulist
ignore-warnings ''
proc-title-template %s
bind-source-addr -
logfile '' immutable
locale-collate ''
debug-context '' hidden
primaryauth - sensitive alias=masterauth
requirepass - sensitive
availability-zone ''
hash-seed - immutable
tls-cert-file - volatile
tls-key-file - volatile
tls-key-file-pass - sensitive
tls-client-cert-file - volatile
tls-client-key-file - volatile
tls-client-key-file-pass - sensitive
tls-dh-params-file - volatile
tls-ca-cert-file - volatile
tls-ca-cert-dir - volatile
tls-protocols -
tls-ciphers -
tls-ciphersuites -
"""

_SPECIALS = """
dir protected loading
save multi
client-output-buffer-limit multi
oom-score-adj-values multi
notify-keyspace-events
bind multi
rdma-bind multi
replicaof immutable multi alias=slaveof
latency-tracking-info-percentiles multi
"""

PROC_TITLE = "{title} {listen-addr} {server-mode}"
DEFAULT_BIND = ("*", "-::*")
OUTPUT_CLASSES = ("normal", "replica", "pubsub")
SPECIAL_DEFAULTS: dict[str, object] = {
    "dir": "",
    "save": ((3600, 1), (300, 100), (60, 10000)),
    "client-output-buffer-limit": ((0, 0, 0), (256 << 20, 64 << 20, 60), (32 << 20, 8 << 20, 60)),
    "oom-score-adj-values": (0, 200, 800),
    "notify-keyspace-events": "",
    "bind": DEFAULT_BIND,
    "rdma-bind": (),
    "replicaof": None,
    "latency-tracking-info-percentiles": (50.0, 99.0, 99.9),
}

# Lines of old files that mean nothing any more and are passed over.
DEPRECATED = frozenset((
    "list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands",
    "io-threads-do-reads", "dynamic-hz", "events-per-io-thread", "sanitize-dump-payload"))

_ACCEPTED_GROUPS = {
    "rehashing happens one bucket at a time with each change": "activerehashing",
    "memory comes from the engine's own arenas, which do not fragment as a heap does":
        "activedefrag active-defrag-cycle-min active-defrag-cycle-max active-defrag-threshold-lower "
        "active-defrag-threshold-upper active-defrag-cycle-us active-defrag-max-scan-fields "
        "active-defrag-ignore-bytes jemalloc-bg-thread",
    "every I/O thread runs commands itself; nothing is handed over or copied between them":
        "min-io-threads-avoid-copy-reply min-string-size-avoid-copy-reply "
        "min-string-size-avoid-copy-reply-threaded io-threads-always-active "
        "prefetch-batch-max-size max-new-connections-per-cycle",
    "no TLS":
        "tls-cluster tls-replication tls-prefer-server-ciphers tls-session-caching "
        "tls-session-cache-size tls-session-cache-timeout tls-auto-reload-interval "
        "tls-auth-clients tls-auth-clients-user tls-cert-file tls-key-file tls-key-file-pass "
        "tls-client-cert-file tls-client-key-file tls-client-key-file-pass tls-dh-params-file "
        "tls-ca-cert-file tls-ca-cert-dir tls-protocols tls-ciphers tls-ciphersuites "
        "max-new-tls-connections-per-cycle",
    "no RDMA": "rdma-port rdma-rx-size rdma-completion-vector rdma-bind",
    "no watchdog; a crash report does not test the memory":
        "crash-memcheck-enabled watchdog-period "
        "enable-debug-assert",
    "the kernel's settings for the process are left alone":
        "disable-thp oom-score-adj oom-score-adj-values socket-mark-id",
    "threads other than the server's are not pinned":
        "bio-cpulist aof-rewrite-cpulist",
    "hashes of keys use a fixed seed": "hash-seed",
    "there are no warnings to ignore": "ignore-warnings",
    # Features to come: whoever builds one takes its names out here.
    "a file is written and loaded in one go":
        "rdb-del-sync-files rdb-save-incremental-fsync loading-process-events-interval-bytes",
    "a base is brought to the disk while it is written, an increment by its fsync":
        "aof-rewrite-incremental-fsync",
    "replication is not built yet":
        "replicaof replica-serve-stale-data replica-read-only "
        "replica-lazy-flush replica-ignore-maxmemory replica-ignore-disk-write-errors "
        "replica-announced replica-announce-ip replica-announce-port replica-priority "
        "repl-disable-tcp-nodelay repl-mptcp repl-diskless-sync repl-diskless-sync-delay "
        "repl-diskless-sync-max-replicas repl-diskless-load repl-ping-replica-period "
        "repl-backlog-size repl-backlog-ttl dual-channel-replication-enabled "
        "min-replicas-to-write min-replicas-max-lag propagation-error-behavior",
    "cluster mode: replicas are not built yet":
        "cluster-replica-validity-factor cluster-migration-barrier cluster-allow-replica-migration",
    "scripts are not built yet": "lua-enable-insecure-api busy-reply-threshold",
    "ACL users are not built yet": "aclfile acllog-max-len acl-pubsub-default",
}
ACCEPTED_ONLY: dict[str, str] = {
    name: reason for reason, names in _ACCEPTED_GROUPS.items() for name in names.split()}


class Setting:
    """One row of the table."""

    __slots__ = ("name", "kind", "default", "low", "high", "choices", "alias", "marks", "null")

    def __init__(self, name: str, kind: str, default: object, marks: list[str]):
        # Interned: a dict that threads share is read without its lock only where its keys never die.
        self.name = sys.intern(name)
        self.kind = kind
        self.default = default
        self.low = 0
        self.high = 0
        self.choices: tuple[str, ...] = ()
        self.null = False  # the empty text means "not set"
        self.alias = ""
        for mark in marks:
            if mark.startswith("alias="):
                self.alias = sys.intern(mark[6:])
        self.marks = frozenset(marks)

    @property
    def multi(self) -> bool:
        """Does it take several words?"""
        return self.kind == FLAGS or "multi" in self.marks


def _lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line]


def usable_cores() -> int:
    """The processors that this process may run on, as many as there may be I/O threads."""
    return max(1, min(len(os.sched_getaffinity(0)), IO_THREADS_MAX))


def build_table() -> dict[str, Setting]:
    """Every setting by its own name, in the tables' order."""
    table: dict[str, Setting] = {}

    def add(name: str, kind: str, default: object, marks: list[str]) -> Setting:
        row = Setting(name, kind, default, marks)
        table[row.name] = row
        return row

    for name, default, *marks in _lines(_BOOLS):
        add(name, BOOL, default == "yes", marks)
    numbers = ((INT, _INTS), (OCTAL, _OCTALS), (MEMORY, _MEMORIES), (PERCENT, _PERCENTS),
               (SIGNED, _SIGNEDS))
    for kind, text in numbers:
        for name, low, high, default, *marks in _lines(text):
            row = add(name, kind, int(default), marks)
            row.low = LIMITS[low] if low in LIMITS else int(low)
            row.high = LIMITS[high] if high in LIMITS else int(high)
    threads = add("io-threads", INT, usable_cores(), [])
    threads.low, threads.high = 1, IO_THREADS_MAX
    for kind, text in ((ENUM, _ENUMS), (FLAGS, _FLAGS)):
        for name, choices, default, *marks in _lines(text):
            add(name, kind, default, marks).choices = tuple(choices.split(","))
    for name, default, *marks in _lines(_STRINGS):
        known = {"-": "", "''": "", "%s": PROC_TITLE}
        add(name, STRING, known.get(default, default), marks).null = default == "-"
    for name, *marks in _lines(_SPECIALS):
        add(name, SPECIAL, SPECIAL_DEFAULTS[name], marks)
    return table
