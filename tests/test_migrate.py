"""MIGRATE between two servers."""

import threading
import time

import pytest
import slotmap
from servers import Server
from slotmap import key

SERVER_OPTIONS = ["--io-threads", "2"]
SLOT = 7


@pytest.fixture(scope="module")
def target(engine, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("target"), engine=engine).start()
    try:
        yield server
        server.stop()
    finally:
        server.kill()


@pytest.fixture
def pair(server, target):
    """(source, target) connections, empty."""
    with server.raw() as source, target.raw() as other:
        source.call("FLUSHALL")
        other.call("FLUSHALL")
        other.call("CONFIG", "SET", "requirepass", "")
        yield source, other


def to(target, *words: object) -> tuple:
    return ("MIGRATE", "127.0.0.1", target.port, *words)


def test_one_key_of_each_type(pair, target):
    source, other = pair
    source.call("SET", "s", "v", "EX", 100)
    source.call("RPUSH", "l", *range(300))
    source.call("HSET", "h", "f", "v")
    source.call("ZADD", "z", 1, "m")
    source.call("XADD", "x", "1-1", "f", "v")
    source.call("SADD", "set", "a", "b")
    digests = {name: source.call("DEBUG", "DIGEST-VALUE", name) for name in ("s", "l", "h", "z", "x", "set")}
    for name, digest in digests.items():
        assert source.call(*to(target, name, 2, 1000)) == b"OK"
        assert source.call("EXISTS", name) == 0
        other.call("SELECT", 2)
        assert other.call("DEBUG", "DIGEST-VALUE", name) == digest
    assert 90 < other.call("TTL", "s") <= 100
    assert source.call(*to(target, "s", 2, 1000)) == b"NOKEY"


def test_options(pair, target):
    source, other = pair
    source.call("MSET", "a", 1, "b", 2, "c", 3)
    assert source.call(*to(target, "a", 0, 1000, "COPY")) == b"OK"
    assert source.call("GET", "a") == other.call("GET", "a") == b"1"
    source.call("DEL", "a")
    source.call("MSET", "a", 1, "x", 1, "y", 1)
    assert source.call(*to(target, "", 0, 1000, "KEYS", "x", "a", "y")).startswith(
        "ERR Target instance replied with error: BUSYKEY")
    assert source.call("EXISTS", "x", "y") == 0, "those that have arrived go all the same"
    assert source.call("SET", "a", 5) == b"OK"
    assert source.call(*to(target, "a", 0, 1000)) == (
        "ERR Target instance replied with error: BUSYKEY Target key name already exists.")
    assert source.call("GET", "a") == b"5"
    assert source.call(*to(target, "", 0, 1000, "REPLACE", "KEYS", "a", "b", "none", "c")) == b"OK"
    assert other.call("MGET", "a", "b", "c") == [b"5", b"2", b"3"]
    assert source.call("DBSIZE") == 0
    assert other.call("DEL", "x", "y") == 2
    assert source.call(*to(target, "x", 0, 1000, "KEYS", "a")) == (
        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string")
    assert source.call(*to(target, "x", 0, 1000, "AUTH")) == "ERR syntax error"
    assert source.call(*to(target, "x", "y", 1000)) == "ERR value is not an integer or out of range"


def test_passwords(pair, target):
    source, other = pair
    source.call("SET", "a", 1)
    other.call("CONFIG", "SET", "requirepass", "secret")
    with target.raw() as fresh:
        assert source.call(*to(target, "a", 1, 1000, "AUTH", "wrong")).startswith(
            "ERR Target instance replied with error: WRONGPASS")
        assert source.call("GET", "a") == b"1"
        assert source.call(*to(target, "a", 1, 1000, "REPLACE", "AUTH2", "default", "secret")) == b"OK"
        fresh.call("AUTH", "secret")
        fresh.call("SELECT", 1)
        assert fresh.call("GET", "a") == b"1"
        fresh.call("CONFIG", "SET", "requirepass", "")


def test_a_target_that_is_not_there_or_does_not_answer(pair, server, tmp_path):
    source, _ = pair
    source.call("SET", "a", 1)
    assert source.call("MIGRATE", "127.0.0.1", 1, "a", 0, 200) == "IOERR error or timeout connecting to the client"
    import socket
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        begun = time.monotonic()
        assert source.call("MIGRATE", "127.0.0.1", deaf.getsockname()[1], "a", 0, 300) == (
            "IOERR error or timeout reading to target instance")
        assert 0.2 < time.monotonic() - begun < 5
    assert source.call("GET", "a") == b"1"
    assert source.call("SET", "a", 2) == b"OK"


def test_old_connections_are_used_again_and_replaced(pair, target, server):
    source, _ = pair
    for number in range(20):
        source.call("SET", "k", number)
        assert source.call(*to(target, "k", 0, 1000, "REPLACE")) == b"OK"
    assert b"migrate_cached_sockets:1\r\n" in source.call("INFO", "stats")
    with target.connect() as control:
        control.client_kill_filter(_type="normal", skipme=True)
    source.call("SET", "k", 1)
    assert source.call(*to(target, "k", 0, 1000, "REPLACE")) == b"OK"


def test_in_a_transaction(pair, target):
    source, other = pair
    source.pipeline([("SET", "a", 1), ("MULTI",), to(target, "a", 0, 1000), ("EXISTS", "a")])
    assert source.call("EXEC") == [b"OK", 0]
    assert other.call("GET", "a") == b"1"


def test_the_server_goes_on_while_keys_travel_and_no_write_is_lost(pair, server, target):
    """Writers append while their lists are moved away again and again: each acknowledged element is in one of the two
    servers, once, and none in between."""
    source, other = pair
    stop = threading.Event()
    said: list[list[bytes]] = [[] for _ in range(3)]

    def write(at: int) -> None:
        with server.raw() as mine:
            number = 0
            while not stop.is_set():
                number += 1
                if isinstance(mine.call("RPUSH", f"list{at}", number), int):
                    said[at].append(b"%d" % number)

    threads = [threading.Thread(target=write, args=(at,)) for at in range(3)]
    for thread in threads:
        thread.start()
    arrived: list[list[bytes]] = [[] for _ in range(3)]
    for _ in range(60):
        assert source.call(*to(target, "", 0, 2000, "KEYS", "list0", "list1", "list2")) in (b"OK", b"NOKEY")
        for at in range(3):
            arrived[at] += other.call("LRANGE", f"list{at}", 0, -1)
            other.call("DEL", f"list{at}")
    stop.set()
    for thread in threads:
        thread.join()
    for at in range(3):
        assert arrived[at] + source.call("LRANGE", f"list{at}", 0, -1) == said[at]
        assert len(said[at]) > 20


def test_between_nodes_of_a_cluster(engine, tmp_path):
    nodes = [slotmap.start(tmp_path / name, engine=engine) for name in ("a", "b")]
    try:
        with nodes[0].raw() as source, nodes[1].raw() as other:
            source.call("SET", key(SLOT), 1)
            source.call("SET", key(SLOT, "more"), 1)
            other.call("TESTMAP", "OWNERS", 0, 16383, 2)
            other.call("TESTMAP", "IMPORTING", SLOT, 2)
            source.call("TESTMAP", "MIGRATING", SLOT, 2)
            command = ("MIGRATE", "127.0.0.1", nodes[1].port, "", 0, 1000, "KEYS", key(SLOT), key(SLOT, "none"))
            assert source.call(*command) == b"OK"
            assert source.call("GET", key(SLOT)).startswith(f"ASK {SLOT} ")
            other.call("ASKING")
            assert other.call("GET", key(SLOT)) == b"1"
            assert source.call("MIGRATE", "127.0.0.1", 1, "", 0, 1000, "KEYS", key(SLOT), key(8)) == (
                "CROSSSLOT Keys in request don't hash to the same slot")
        for node in nodes:
            node.stop()
    finally:
        for node in nodes:
            node.kill()
