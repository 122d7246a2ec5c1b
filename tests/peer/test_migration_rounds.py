"""Slots go round in a cluster of two Slotring nodes and a real Valkey, between every ordered pair, while cluster
clients write in four databases; nodes and connections are killed meanwhile. Afterwards every acknowledged write
is there exactly once.

The long form: SLOTRING_MIGRATION_ROUNDS=200 pytest -m slow tests/peer/test_migration_rounds.py"""

import importlib
import os
import random
import threading
import time
from collections import Counter

import pytest
import slotcluster
from slotcluster import call, migrations, node_id, wait
from slotmap import key

pytestmark = pytest.mark.peer
DBS, BLOCKS, BLOCK_SLOTS, WRITERS = 4, 6, 8, 4
SLOTS = BLOCKS * BLOCK_SLOTS
PAIRS = [(0, 1), (1, 2), (2, 0), (0, 2), (2, 1), (1, 0)]
ROUNDS = int(os.environ.get("SLOTRING_MIGRATION_ROUNDS", "5"))
SEED = int(os.environ.get("SLOTRING_MIGRATION_SEED", "1"))
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
OVER = ("success", "failed", "cancelled")


def cluster_client(number, port, db):
    """redis-py's or valkey-py's cluster client, which never sends a command again after an error."""
    name = ("redis", "valkey")[number % 2] if importlib.util.find_spec("valkey") else "redis"
    package = importlib.import_module(name)

    def select(connection):
        connection.send_command("SELECT", db)
        connection.read_response()

    retry = importlib.import_module(f"{name}.retry").Retry(importlib.import_module(f"{name}.backoff").NoBackoff(), 0)
    make = getattr(importlib.import_module(f"{name}.cluster"), f"{name.capitalize()}Cluster")
    return make(host="127.0.0.1", port=port, require_full_coverage=False, cluster_error_retry_attempts=0, retry=retry,
                socket_timeout=20, **{f"{name}_connect_func": select}), package.exceptions


class Writer(threading.Thread):
    """Pushes values that are never pushed twice."""

    def __init__(self, number, servers, may_fail):
        super().__init__(daemon=True)
        self.number, self.servers, self.may_fail = number, servers, may_fail
        self.stop, self.ready = threading.Event(), threading.Event()
        self.acked = [{} for _ in range(DBS)]
        self.unknown = [set() for _ in range(DBS)]
        self.failures = Counter()
        self.error = None
        self.writes = 0

    def run(self):
        try:
            clients = [self.connect(db) for db in range(DBS)]
            rng = random.Random(self.number)
            self.ready.set()
            while not self.stop.is_set():
                db = rng.randrange(DBS)
                name = key(rng.randrange(SLOTS), f"w{self.number}")
                value = f"{self.number}:{self.writes}".encode()
                self.writes += 1
                try:
                    clients[db].rpush(name, value)
                    self.acked[db].setdefault(name, []).append(value)
                except Exception as error:
                    self.unknown[db].add(value)
                    self.failures[type(error).__name__] += 1
                    if not self.may_fail:
                        raise
                    clients[db] = self.connect(db)
        except BaseException as error:
            self.error = error

    def connect(self, db):
        while True:
            for server in self.servers:
                try:
                    return cluster_client(self.number, server.port, db)[0]
                except Exception:
                    if not self.may_fail:
                        raise
            if self.stop.is_set():
                return None
            time.sleep(0.1)


@pytest.fixture
def cluster(request, engine, tmp_path, valkey_binary):
    """Two Slotring nodes and a real Valkey; blocks of slots are theirs in turns, the other slots too."""
    options = ["--cluster-manual-failover-timeout", "2000", *getattr(request, "param", ())]
    with slotcluster.running(tmp_path, [None, None, [valkey_binary]], options, engine, split=split()) as servers:
        yield servers


def split():
    """Slot ranges of each node: two blocks, and a third of the rest."""
    found = [[], [], []]
    for block in range(BLOCKS):
        found[block % 3].append((block * BLOCK_SLOTS, block * BLOCK_SLOTS + BLOCK_SLOTS - 1))
    cuts = [SLOTS, 6000, 11000, 16384]
    for node, (first, end) in enumerate(zip(cuts, cuts[1:], strict=False)):
        found[node].append((first, end - 1))
    return found


def owners(server):
    """Which node has each block, as a server sees it: ids."""
    found = {}
    for row in call(server, "CLUSTER", "SLOTS"):
        for slot in range(int(row[0]), min(int(row[1]), SLOTS - 1) + 1):
            found[slot] = row[2][2]
    return [found.get(slot) for slot in range(SLOTS)]


def settled(servers):
    """Do all agree, and is nothing under way?"""
    views = [owners(server) for server in servers]
    return (all(view == views[0] for view in views) and None not in views[0]
            and all(b"cluster_state:ok" in call(server, "CLUSTER", "INFO") for server in servers)
            and all(job["state"] in OVER for server in servers for job in migrations(server)))


def wait_settled(servers):
    """Until all agree; what they say where they do not."""
    try:
        wait(lambda: settled(servers), "all agree")
    except AssertionError as error:
        said = [(call(server, "CLUSTER", "NODES").decode(), call(server, "CLUSTER", "INFO").decode()[:200],
                 migrations(server)[:2], server.log_tail()) for server in servers]
        raise AssertionError("\n".join(str(word) for words in said for word in words)) from error


def kill_something(rng, servers, source, target):
    """A node, or all connections of one."""
    time.sleep(rng.random() * 0.4)
    what = rng.choice(["source", "target", "connections", "connections"])
    victim = {"source": source, "target": target}.get(what, rng.choice(servers))
    if what == "connections":
        call(victim, "CLIENT", "KILL", "TYPE", "normal")
    else:
        victim.kill()
        victim.start()
    return what


def migrate(servers, pair, rng, kills):
    """One migration; its state."""
    source, target = servers[pair[0]], servers[pair[1]]
    view = owners(source)
    block = rng.choice([block for block in range(BLOCKS) if view[block * BLOCK_SLOTS] == node_id(source)] or [-1])
    if block < 0:
        return "nothing"
    first = block * BLOCK_SLOTS
    answer = call(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, first + BLOCK_SLOTS - 1, "NODE",
                  node_id(target))
    assert answer == b"OK", answer
    if kills:
        kill_something(rng, servers, source, target)
    wait(lambda: all(job["state"] in OVER for job in migrations(source)), "the migration is over")
    state = "killed" if not migrations(source) else migrations(source)[0]["state"]
    assert kills or state == "success", (pair, migrations(source)[0], source.log_tail(), target.log_tail())
    wait_settled(servers)
    return state


def check(servers, writers):
    """Every acknowledged write is there once, in its order, and nothing else."""
    for db in range(DBS):
        client = cluster_client(0, servers[0].port, db)[0]
        for writer in writers:
            unknown = writer.unknown[db]
            for name, values in writer.acked[db].items():
                there = client.lrange(name, 0, -1)
                assert len(there) == len(set(there)), (db, name, "doubled")
                assert [value for value in there if value not in unknown] == values, (db, name)
        client.close()


def fields(servers):
    """Hashes with fields that expire, for each slot and database."""
    for db in range(DBS):
        client = cluster_client(0, servers[0].port, db)[0]
        for slot in range(SLOTS):
            client.execute_command("HSETEX", key(slot, "fields"), "EX", 100000, "FIELDS", 2, "a", 1, "b", slot)
            client.hset(key(slot, "fields"), "c", db)
        client.close()


def check_fields(servers):
    for db in range(DBS):
        client = cluster_client(0, servers[0].port, db)[0]
        for slot in range(SLOTS):
            name = key(slot, "fields")
            assert client.hmget(name, "a", "b", "c") == [b"1", b"%d" % slot, b"%d" % db]
            left = client.execute_command("HTTL", name, "FIELDS", 3, "a", "b", "c")
            assert 90000 < left[0] <= 100000 and 90000 < left[1] <= 100000 and left[2] == -1
        client.close()


def go_round(servers, rounds, kills):
    rng = random.Random(SEED)
    fields(servers)
    writers = [Writer(number, servers, kills) for number in range(WRITERS)]
    states = Counter()
    for writer in writers:
        writer.start()
    for writer in writers:
        assert writer.ready.wait(60)
    try:
        for _ in range(rounds):
            for pair in PAIRS:
                states[migrate(servers, pair, rng, kills)] += 1
    finally:
        for writer in writers:
            writer.stop.set()
        for writer in writers:
            writer.join(60)
    for writer in writers:
        assert writer.error is None, (writer.error, writer.failures)
    wait_settled(servers)
    print(f"\n{states} with {sum(writer.writes for writer in writers)} writes, not acknowledged: "
          f"{sum((writer.failures for writer in writers), Counter())}")
    check(servers, writers)
    check_fields(servers)
    return states


def test_a_round(cluster):
    assert go_round(cluster, 1, False) == {"success": len(PAIRS)}


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_rounds(cluster):
    assert go_round(cluster, ROUNDS, False) == {"success": ROUNDS * len(PAIRS)}


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("cluster", [ALWAYS], indirect=True, ids=["always"])
def test_rounds_with_kills(cluster):
    states = go_round(cluster, ROUNDS, True)
    assert states["success"], states
