"""Clusters of a few servers for tests: started, met, their slots handed out."""

import contextlib
import time

from servers import Server

SLOTS = 16384
NODE_TIMEOUT_MS = 3000
OPTIONS = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--enable-debug-command", "yes",
           "--cluster-databases", "4"]
LOG_LENGTH = "cluster-slot-migration-log-max-len"
OVER = ("success", "failed", "cancelled")
WAIT_S = 60.0


def wait(check, what, seconds=WAIT_S):
    """Until check() is true; its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := check():
                return found
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"not in {seconds} s: {what}")


def call(server, *words, db=0):
    """One command on a connection of its own."""
    with server.raw() as raw:
        if db:
            raw.call("SELECT", db)
        return raw.call(*words)


def meet(one, other):
    """Until they know each other: a handshake that takes longer than the node timeout is given up."""
    def known():
        seen = call(other, "CLUSTER", "NODES")
        return seen.count(b" connected") > 1 and b"handshake" not in seen

    began = time.monotonic()
    while time.monotonic() - began < WAIT_S:
        call(one, "CLUSTER", "MEET", "127.0.0.1", other.port)
        with contextlib.suppress(AssertionError):
            wait(known, "they have met", 5)
            return
    raise AssertionError("they do not meet")


def wait_up(servers):
    """Until every one of them sees all slots served and all nodes connected."""
    for server in servers:
        wait(lambda server=server: b"cluster_state:ok" in call(server, "CLUSTER", "INFO"), "the cluster is up")
        wait(lambda server=server: call(server, "CLUSTER", "NODES").count(b" connected") == len(servers),
             "all know all")


def start(folder, commands=(None, None), options=(), engine="", split=None):
    """Servers that are a cluster; the first has all slots, or each the ranges that split has for it. commands: None is
    Slotring."""
    servers = []
    for at, command in enumerate(commands):
        servers.append(Server(folder / f"node{at}", *OPTIONS, *options, command=command, engine=engine).start())
    for server, ranges in zip(servers, split or [[(0, SLOTS - 1)]], strict=False):
        call(server, "CLUSTER", "ADDSLOTSRANGE", *[slot for pair in ranges for slot in pair])
    for at, server in enumerate(servers[1:], 1):
        call(server, "CLUSTER", "SET-CONFIG-EPOCH", at)
        meet(servers[0], server)
    wait_up(servers)
    return servers


@contextlib.contextmanager
def running(*args, **options):
    """A cluster as start() makes it, ended afterwards whatever happened."""
    servers = start(*args, **options)
    try:
        yield servers
        stop(servers)
    finally:
        for server in servers:
            server.kill()


def home(servers):
    """As start() left them, for the next test: all alive, no data, no migration, the slots at the first."""
    for server in servers:
        if not server.is_alive():
            server.start()
    wait_up(servers)
    for server in servers:
        for switch in ("PREVENT-PAUSE", "PREVENT-FAILOVER"):
            call(server, "DEBUG", "SLOTMIGRATION", switch, 0)
        call(server, "CLUSTER", "CANCELSLOTMIGRATIONS")      # an error where there are none
    for server in servers:
        wait(lambda server=server: all(job["state"] in OVER for job in migrations(server)), "migrations are over")
        call(server, "FLUSHALL")
    for server in servers[1:]:
        for line in call(server, "CLUSTER", "NODES").decode().splitlines():
            if "myself" in line and (ranges := line.split(" ")[8:]):
                move(server, servers[0], *[number for each in ranges for number in (each.split("-") * 2)[:2]])
                assert wait_over(server) == ("success", "")
    for server in servers:
        call(server, "CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT_MS)
        call(server, "CONFIG", "SET", LOG_LENGTH, 0)
        wait(lambda server=server: migrations(server) == [], "the log of migrations is empty")
        call(server, "CONFIG", "SET", LOG_LENGTH, 1000)


def node_id(server):
    """A node's id."""
    return call(server, "CLUSTER", "MYID")


def migrations(server):
    """GETSLOTMIGRATIONS as dictionaries of text, newest first."""
    found = []
    for row in call(server, "CLUSTER", "GETSLOTMIGRATIONS"):
        pairs = list(row.items()) if isinstance(row, dict) else list(zip(row[::2], row[1::2], strict=True))
        found.append({key.decode(): value.decode() if isinstance(value, bytes) else value for key, value in pairs})
    return found


def move(source, target, *ranges):
    """Begins a migration of ranges: first, last, first, last …"""
    answer = call(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", node_id(target))
    assert answer == b"OK", answer


def wait_over(server, seconds=WAIT_S):
    """(state, message) of the newest migration once it is over."""
    def look():
        job = migrations(server)[0]
        return job if job["state"] in OVER else None
    job = wait(look, f"the migration is over\n{server.log_tail()}", seconds)
    return job["state"], job["message"]


def wait_state(server, state):
    """Until the newest migration is in a state."""
    wait(lambda: migrations(server)[0]["state"] == state, state)


def stop(servers):
    """Ends them all."""
    try:
        for server in servers:
            if server.is_alive():
                server.stop()
    finally:
        for server in servers:
            server.kill()
