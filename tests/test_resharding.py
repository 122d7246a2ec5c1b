"""A slot goes from node to node the old way, key by key, on the real bus, while clients write to it."""

import threading
import time

import pytest
from resp import Error, Raw
from servers import Server
from slotmap import key

SLOT = 7
COUNTERS = 12
ROUNDS = 6
WRITERS = 3


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the cluster does not come to be"
        time.sleep(0.02)


@pytest.fixture
def nodes(engine, tmp_path):
    """Two nodes that have half of the slots each."""
    servers = [Server(tmp_path / name, "--cluster-enabled", "yes", "--cluster-node-timeout", 5000, "--io-threads", 2,
                      engine=engine).start() for name in ("a", "b")]
    try:
        with servers[0].raw() as one, servers[1].raw() as two:
            assert one.call("CLUSTER", "ADDSLOTSRANGE", 0, 8191) == b"OK"
            assert two.call("CLUSTER", "ADDSLOTSRANGE", 8192, 16383) == b"OK"
            two.call("CLUSTER", "SET-CONFIG-EPOCH", 2)
            one.call("CLUSTER", "MEET", "127.0.0.1", servers[1].port)
            wait_for(lambda: all(b"cluster_state:ok" in raw.call("CLUSTER", "INFO") for raw in (one, two)))
        yield servers
        for server in servers:
            server.stop()
    finally:
        for server in servers:
            server.kill()


class Follower:
    """A client that goes where it is sent."""

    def __init__(self, servers: list[Server]):
        self.connections = {server.port: server.raw() for server in servers}
        self.port = servers[0].port
        self.seen: set[str] = set()

    def call(self, *words: object) -> object:
        """A command and its reply, after all redirections."""
        raw = self.connections[self.port]
        for _ in range(1000):
            reply = raw.call(*words)
            if not isinstance(reply, Error):
                return reply
            kind, *rest = reply.split()
            self.seen.add(kind)
            if kind == "MOVED":
                self.port = int(rest[1].rpartition(":")[2])
                raw = self.connections[self.port]
            elif kind == "ASK":
                raw = self.connections[int(rest[1].rpartition(":")[2])]
                raw.call("ASKING")
            else:
                assert kind in ("TRYAGAIN", "CLUSTERDOWN"), reply
                time.sleep(0.001)
        raise AssertionError("sent to and fro without an end")


def move(source: Raw, target: Raw, target_port: int) -> None:
    """As valkey-cli --cluster reshard does it without atomic migration."""
    ids = [raw.call("CLUSTER", "MYID") for raw in (source, target)]
    assert target.call("CLUSTER", "SETSLOT", SLOT, "IMPORTING", ids[0]) == b"OK"
    assert source.call("CLUSTER", "SETSLOT", SLOT, "MIGRATING", ids[1]) == b"OK"
    while names := source.call("CLUSTER", "GETKEYSINSLOT", SLOT, 5):
        reply = source.call("MIGRATE", "127.0.0.1", target_port, "", 0, 5000, "KEYS", *names)
        assert reply in (b"OK", b"NOKEY"), reply
    assert target.call("CLUSTER", "SETSLOT", SLOT, "NODE", ids[1]) == b"OK"
    assert source.call("CLUSTER", "SETSLOT", SLOT, "NODE", ids[1]) == b"OK"


def test_no_acknowledged_write_is_lost_or_doubled(nodes):
    acknowledged = [[0] * COUNTERS for _ in range(WRITERS)]
    stop = threading.Event()
    seen: list[set] = []
    failed: list[BaseException] = []

    def write(at: int) -> None:
        client = Follower(nodes)
        try:
            while not stop.is_set():
                for counter in range(COUNTERS):
                    client.call("INCR", key(SLOT, str(counter)))
                    acknowledged[at][counter] += 1
        except BaseException as error:
            failed.append(error)
        seen.append(client.seen)

    threads = [threading.Thread(target=write, args=(at,)) for at in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        raws = [server.raw() for server in nodes]
        for turn in range(ROUNDS):
            time.sleep(0.1)
            here, there = turn % 2, 1 - turn % 2
            move(raws[here], raws[there], nodes[there].port)
            assert raws[here].call("CLUSTER", "COUNTKEYSINSLOT", SLOT) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    client = Follower(nodes)
    for counter in range(COUNTERS):
        found = int(client.call("GET", key(SLOT, str(counter))))
        assert found == sum(mine[counter] for mine in acknowledged) > 10
    assert {"MOVED", "ASK"} <= set().union(*seen)
