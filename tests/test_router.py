"""What the slot map does to commands: redirections, refusals, transactions, waiting commands, shard channels."""

import threading
import time

import pytest
import slotmap
from resp import Error, Push, encode
from slotmap import OTHER, SLOTS, THIRD, key

MINE, MINE2, THEIRS, NOBODYS = 7, 8, 9000, SLOTS - 1
CROSS = "CROSSSLOT Keys in request don't hash to the same slot"
TRYAGAIN = "TRYAGAIN Multiple keys request during rehashing of slot"
UNBOUND = "CLUSTERDOWN Hash slot not served"
DOWN = "CLUSTERDOWN The cluster is down"
MOVED = f"MOVED {THEIRS} 10.0.0.2:7002"


@pytest.fixture
def raw(cluster):
    with cluster.raw() as raw:
        slotmap.reset(raw)
        yield raw
        for slot in (MINE, MINE2, THEIRS):
            for word in ("MIGRATING", "IMPORTING"):
                raw.call("TESTMAP", word, slot, 0)


def wait_blocked(raw, count: int) -> None:
    deadline = time.monotonic() + 10
    while f"blocked_clients:{count}\r\n".encode() not in raw.call("INFO", "clients"):
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.01)


def test_where_a_key_is(raw):
    assert raw.call("SET", key(MINE), 1) == b"OK"
    assert raw.call("GET", key(MINE)) == b"1"
    assert raw.call("GET", key(THEIRS)) == MOVED
    assert raw.call("SET", key(THEIRS), 1) == MOVED
    assert raw.call("GET", key(NOBODYS)) == UNBOUND
    assert raw.call("DBSIZE") == 1
    assert raw.call("PING") == b"PONG"


def test_commands_of_many_keys(raw):
    assert raw.call("MSET", key(MINE, "a"), 1, key(MINE, "b"), 2) == b"OK"
    assert raw.call("MGET", key(MINE, "a"), key(MINE, "b")) == [b"1", b"2"]
    assert raw.call("MSET", key(MINE), 1, key(MINE2), 2) == CROSS
    assert raw.call("MGET", key(THEIRS, "a"), key(THEIRS, "b")) == MOVED
    assert raw.call("DEL", key(MINE), key(THEIRS)) == CROSS
    assert raw.call("DEL", key(THEIRS)) == MOVED
    assert raw.call("SUNIONSTORE", key(MINE), key(MINE, "s"), key(MINE2)) == CROSS
    assert raw.call("EXISTS", key(NOBODYS, "a"), key(NOBODYS, "b")) == UNBOUND
    assert raw.call("OBJECT", "ENCODING", key(THEIRS)) == MOVED
    assert raw.call("MEMORY", "USAGE", key(THEIRS)) == MOVED
    assert raw.call("XREAD", "STREAMS", key(THEIRS), 0) == MOVED
    assert raw.call("ZUNION", 2, key(MINE), key(MINE2)) == CROSS
    assert raw.call("MSETEX", 2, key(MINE), 1, key(MINE2), 2) == CROSS
    assert raw.call("MSETEX", 1, key(THEIRS), 1) == MOVED
    assert raw.call("SORT", key(MINE), "STORE", key(MINE2)) == CROSS
    assert raw.call("SORT", key(MINE), "BY", "w_*") == (
        "ERR BY option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots.")
    assert raw.call("SORT", key(MINE), "GET", "w_*") == (
        "ERR GET option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots.")
    raw.call("SET", key(MINE, "w1"), 5)
    raw.call("RPUSH", key(MINE, "l"), 1)
    assert raw.call("SORT", key(MINE, "l"), "BY", key(MINE, "w*"), "GET", key(MINE, "w*"), "GET", "#") == [b"5", b"1"]


def test_slots_that_go_key_by_key(raw):
    raw.call("SET", key(MINE, "there"), 1)
    raw.call("TESTMAP", "MIGRATING", MINE, THIRD)
    ask = f"ASK {MINE} 10.0.0.3:7003"
    assert raw.call("GET", key(MINE, "there")) == b"1"
    assert raw.call("GET", key(MINE, "gone")) == ask
    assert raw.call("SET", key(MINE, "gone"), 1) == ask
    assert raw.call("MGET", key(MINE, "gone"), key(MINE, "gone2")) == ask
    assert raw.call("MGET", key(MINE, "there"), key(MINE, "gone")) == TRYAGAIN
    assert raw.call("MGET", key(MINE, "there"), key(MINE, "there")) == [b"1", b"1"]
    assert raw.call("MOVE", key(MINE, "there"), 1) == TRYAGAIN
    assert raw.call("COPY", key(MINE, "there"), key(MINE, "there"), "DB", 1) == TRYAGAIN
    raw.call("PEXPIRE", key(MINE, "there"), 1)
    time.sleep(0.01)
    assert raw.call("GET", key(MINE, "there")) == ask
    raw.call("TESTMAP", "MIGRATING", MINE, 0)
    assert raw.call("GET", key(MINE, "there")) is None


def test_slots_that_come_key_by_key(raw):
    raw.call("TESTMAP", "IMPORTING", THEIRS, OTHER)
    assert raw.call("GET", key(THEIRS)) == MOVED
    assert raw.call("ASKING") == b"OK"
    assert raw.call("SET", key(THEIRS), 1) == b"OK"
    assert raw.call("GET", key(THEIRS)) == MOVED, "ASKING is for one command"
    raw.call("ASKING")
    raw.call("PING")
    assert raw.call("GET", key(THEIRS)) == MOVED
    raw.call("ASKING")
    assert raw.call("MGET", key(THEIRS), key(THEIRS, "no")) == TRYAGAIN
    raw.call("ASKING")
    assert raw.call("MGET", key(THEIRS), key(THEIRS)) == [b"1", b"1"]
    raw.call("ASKING")
    assert raw.call("MULTI") == b"OK"
    assert raw.call("GET", key(THEIRS)) == b"QUEUED"
    assert raw.call("GET", key(THEIRS)) == b"QUEUED"
    assert raw.call("EXEC") == [b"1", b"1"]
    assert raw.call("GET", key(THEIRS)) == MOVED
    payload = b"\x00\x01x"
    assert raw.call("RESTORE-ASKING", key(THEIRS, "r"), 0, payload).startswith("ERR DUMP payload")
    assert raw.call("RESTORE", key(THEIRS, "r"), 0, payload) == MOVED


def test_transactions(raw):
    raw.call("MULTI")
    assert raw.call("SET", key(MINE), 1) == b"QUEUED"
    assert raw.call("SET", key(THEIRS), 1) == MOVED
    assert raw.call("EXEC") == "EXECABORT Transaction discarded because of previous errors."
    raw.call("MULTI")
    assert raw.call("MSET", key(MINE), 1, key(MINE2), 1) == CROSS
    assert raw.call("DISCARD") == b"OK"
    raw.call("MULTI")
    raw.call("SET", key(MINE), 1)
    assert raw.call("SET", key(MINE2), 1) == b"QUEUED"
    assert raw.call("EXEC") == CROSS
    assert raw.call("EXEC") == "ERR EXEC without MULTI"
    raw.call("MULTI")
    raw.call("SET", key(MINE), 1)
    raw.call("GET", key(MINE))
    assert raw.call("EXEC") == [b"OK", b"1"]


def test_a_slot_leaves_between_the_commands_of_a_transaction(raw, cluster):
    with cluster.raw() as other:
        raw.call("MULTI")
        assert raw.call("SET", key(MINE), 1) == b"QUEUED"
        slotmap.own(other, MINE, MINE, THIRD)
        assert raw.call("EXEC") == f"MOVED {MINE} 10.0.0.3:7003"
        assert raw.call("EXEC") == "ERR EXEC without MULTI"
        slotmap.own(other)
        raw.call("MULTI")
        raw.call("SET", key(MINE), 1)
        raw.call("SELECT", 1)
        raw.call("GET", key(MINE))
        other.call("TESTMAP", "MIGRATING", MINE, THIRD)
        assert raw.call("EXEC") == f"ASK {MINE} 10.0.0.3:7003"
        assert other.call("DBSIZE") == 0


def test_a_cluster_that_is_down(raw):
    raw.call("SET", key(MINE), 1)
    raw.call("TESTMAP", "STATE", 1)
    assert raw.call("GET", key(MINE)) == DOWN
    assert raw.call("GET", key(NOBODYS)) == UNBOUND
    assert raw.call("DBSIZE") == 1
    assert raw.call("CONFIG", "SET", "cluster-allow-reads-when-down", "yes") == b"OK"
    assert raw.call("GET", key(MINE)) == b"1"
    assert raw.call("SET", key(MINE), 2) == "CLUSTERDOWN The cluster is down and only accepts read commands"
    assert raw.call("SPUBLISH", key(MINE), "x") == 0
    raw.call("CONFIG", "SET", "cluster-allow-pubsubshard-when-down", "no")
    assert raw.call("SPUBLISH", key(MINE), "x") == DOWN
    raw.call("CONFIG", "SET", "cluster-allow-pubsubshard-when-down", "yes")
    raw.call("CONFIG", "SET", "cluster-allow-reads-when-down", "no")
    raw.call("TESTMAP", "STATE", 0)
    assert raw.call("SET", key(MINE), 2) == b"OK"


def test_a_replica(raw):
    raw.call("TESTMAP", "PRIMARY", OTHER)
    assert raw.call("GET", key(THEIRS)) == MOVED
    assert raw.call("READONLY") == b"OK"
    assert raw.call("GET", key(THEIRS)) is None
    assert raw.call("SET", key(THEIRS), 1) == MOVED
    raw.call("MULTI")
    raw.call("GET", key(THEIRS))
    assert raw.call("EXEC") == [None]
    assert raw.call("READWRITE") == b"OK"
    assert raw.call("GET", key(THEIRS)) == MOVED
    assert raw.call("SSUBSCRIBE", key(THEIRS)) == [b"ssubscribe", key(THEIRS).encode(), 1]
    raw.call("RESET")


@pytest.mark.parametrize("happens, said", [
    (("OWNERS", 0, 8191, 3), f"MOVED {MINE} 10.0.0.3:7003"), (("OWNERS", 8, 8191, 1), UNBOUND), (("STATE", 2), DOWN)])
def test_waiting_commands_are_sent_away(cluster, raw, happens, said):
    waiting = [cluster.raw() for _ in range(4)]
    for at, one in enumerate(waiting):
        one.send(encode("BLPOP", key(MINE, str(at)), 0) + encode("PING"))
    with cluster.raw() as stays:
        stays.send(encode("BLPOP", key(MINE2) if happens[0] == "OWNERS" and happens[1] else key(MINE, "4"), 0))
        wait_blocked(raw, 5)
        raw.call("TESTMAP", *happens)
        for one in waiting:
            assert one.replies(2) == [said, b"PONG"]
            one.close()


def test_a_waiting_command_stays_while_its_slot_does(cluster, raw):
    with cluster.raw() as waiting:
        waiting.send(encode("BLPOP", key(MINE), 0))
        wait_blocked(raw, 1)
        slotmap.own(raw, MINE2, MINE2, THIRD)
        raw.call("RPUSH", key(MINE), "x")
        assert waiting.reply() == [key(MINE).encode(), b"x"]


def test_shard_channels_leave_with_their_slot(cluster, raw):
    gone, stays = key(MINE, "channel"), key(MINE2, "channel")
    ears = [cluster.raw() for _ in range(3)]
    ears[0].call("HELLO", 3)
    for ear in ears:
        ear.send(encode("SSUBSCRIBE", gone))
        ear.reply()
        ear.send(encode("SSUBSCRIBE", stays))
        ear.reply()
    assert ears[1].call("SSUBSCRIBE", key(THEIRS)) == MOVED
    assert ears[1].call("SSUBSCRIBE", gone, stays) == CROSS
    assert raw.call("SPUBLISH", gone, "x") == 3
    for ear in ears:
        assert list(ear.reply()) == [b"smessage", gone.encode(), b"x"]
    slotmap.own(raw, MINE, MINE, THIRD)
    for ear in ears:
        said = ear.reply()
        assert list(said) == [b"sunsubscribe", gone.encode(), 1]
    assert isinstance(said, list)
    assert raw.call("SPUBLISH", gone, "x") == f"MOVED {MINE} 10.0.0.3:7003"
    assert raw.call("SPUBLISH", stays, "y") == 3
    assert isinstance(ears[0].reply(), Push)
    for ear in ears:
        ear.close()


def test_databases(raw):
    assert raw.call("SELECT", 3) == b"OK"
    assert raw.call("SELECT", 4) == "ERR DB index is out of range"
    assert raw.call("SET", key(MINE), 3) == b"OK"
    assert raw.call("COPY", key(MINE), key(MINE), "DB", 1) == 1
    assert raw.call("MOVE", key(MINE), 2) == 1
    assert raw.call("SWAPDB", 0, 1) == "ERR SWAPDB is not allowed in cluster mode"
    assert [raw.call("SELECT", db) and raw.call("DBSIZE") for db in range(4)] == [0, 1, 1, 0]
    assert b"db1:keys=1" in raw.call("INFO", "keyspace")


def test_no_write_lands_after_its_slot_has_gone(cluster, raw):
    """Clients count what was acknowledged; when set_owners has returned, the sum stays as it is."""
    acknowledged = [0] * 4
    stop = threading.Event()

    def client(at: int) -> None:
        with cluster.raw() as mine:
            while not stop.is_set():
                words = [("INCR", key(MINE)), ("MULTI",), ("INCR", key(MINE)), ("EXEC",)] if at % 2 else [
                    ("INCR", key(MINE))] * 8
                for reply in mine.pipeline(words):
                    acknowledged[at] += isinstance(reply, int | list)

    threads = [threading.Thread(target=client, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            time.sleep(0.02)
            slotmap.own(raw, MINE, MINE, THIRD)
            raw.call("READONLY")
            before = raw.call("DEBUG", "DIGEST-VALUE", key(MINE))
            time.sleep(0.01)
            assert raw.call("DEBUG", "DIGEST-VALUE", key(MINE)) == before
            slotmap.own(raw)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert int(raw.call("GET", key(MINE))) == sum(acknowledged) > 100


def test_without_cluster_mode_nothing_is_routed(server):
    with server.raw() as raw:
        assert raw.call("ASKING") == "ERR This instance has cluster support disabled"
        assert raw.call("MSET", key(MINE), 1, key(MINE2), 2) == b"OK"
        assert raw.call("READONLY") == b"OK"
        assert raw.call("CLUSTERSCAN", 0) == "ERR This instance has cluster support disabled"
        assert isinstance(raw.call("CLUSTER", "COUNTKEYSINSLOT", 0), Error)
