"""Slots as cluster administration sees them: paused, hidden, flushed, counted; CLUSTERSCAN."""

import time

import pytest
import slotmap
from resp import encode
from slotmap import SLOTS, THIRD, key

MINE, MINE2, THEIRS = 7, 8, 9000


@pytest.fixture
def raw(cluster):
    with cluster.raw() as raw:
        slotmap.reset(raw)
        yield raw


def is_silent(raw) -> bool:
    try:
        raw.reply(0.15)
    except TimeoutError:
        return True
    return False


# ---- paused slots

def test_only_writes_to_a_paused_slot_wait(cluster, raw):
    raw.call("SET", key(MINE), 0)
    raw.call("RPUSH", key(MINE, "l"), 1)
    assert raw.call("TESTMAP", "PAUSE", MINE) == b"OK"
    held = [cluster.raw() for _ in range(4)]
    held[0].send(encode("INCR", key(MINE)) + encode("INCR", key(MINE)))
    held[1].send(encode("MULTI") + encode("INCR", key(MINE)) + encode("EXEC"))
    held[2].send(encode("MSET", key(MINE, "a"), 1, key(MINE, "b"), 2))
    held[3].send(encode("FLUSHALL"))
    assert held[1].replies(2) == [b"OK", b"QUEUED"]
    assert raw.call("GET", key(MINE)) == b"0"
    assert raw.call("MGET", key(MINE), key(MINE, "a")) == [b"0", None]
    assert raw.call("SET", key(MINE2), 1) == b"OK"
    assert raw.call("PUBLISH", "c", "x") == 0
    held[2].send(encode("PING"))
    assert all(is_silent(one) for one in held)
    assert raw.call("GET", key(MINE)) == b"0"
    held[3].close()
    raw.call("TESTMAP", "RESUME", MINE)
    assert len(held[0].replies(2)) == 2
    assert len(held[1].reply()) == 1
    assert held[2].replies(2) == [b"OK", b"PONG"]
    for one in held:
        one.close()


def test_what_waited_for_a_pause_goes_where_the_slot_is(cluster, raw):
    raw.call("TESTMAP", "PAUSE", MINE)
    with cluster.raw() as one, cluster.raw() as transaction, cluster.raw() as blocked:
        blocked.send(encode("BLPOP", key(MINE, "l"), 0))
        one.send(encode("SET", key(MINE), 1))
        transaction.send(encode("MULTI") + encode("SET", key(MINE), 1) + encode("EXEC"))
        transaction.replies(2)
        assert is_silent(one)
        slotmap.own(raw, MINE, MINE, THIRD)
        raw.call("TESTMAP", "RESUME", MINE)
        moved = f"MOVED {MINE} 10.0.0.3:7003"
        assert one.reply() == moved
        assert transaction.reply() == moved
        assert blocked.reply() == moved


def test_a_waiting_command_is_served_when_the_pause_ends(cluster, raw):
    """A transaction makes the key ready while the slot is being paused; who waits for it gets it afterwards."""
    for _ in range(20):
        with cluster.raw() as blocked:
            blocked.send(encode("BLPOP", key(MINE, "l"), 0))
            time.sleep(0.005)
            with cluster.raw() as writer:
                writer.send(encode("RPUSH", key(MINE, "l"), "x"))
                raw.call("TESTMAP", "PAUSE", MINE)
                raw.call("TESTMAP", "RESUME", MINE)
                assert blocked.reply() == [key(MINE, "l").encode(), b"x"]
                assert writer.reply() == 1


def test_pauses_are_counted(cluster, raw):
    raw.call("TESTMAP", "PAUSE", MINE)
    raw.call("TESTMAP", "PAUSE", MINE)
    raw.call("TESTMAP", "RESUME", MINE)
    with cluster.raw() as one:
        one.send(encode("SET", key(MINE), 1))
        assert is_silent(one)
        raw.call("TESTMAP", "RESUME", MINE)
        assert one.reply() == b"OK"


# ---- hidden slots

def test_a_hidden_slot_is_out_of_sight(raw):
    raw.call("SET", key(MINE), 1, "PX", 60)
    raw.call("SET", key(MINE, "stays"), 1)
    raw.call("HSET", key(MINE, "h"), "f", 1)
    raw.call("HPEXPIRE", key(MINE, "h"), 1000000, "FIELDS", 1, "f")
    raw.call("SET", key(MINE2), 1)
    raw.call("TESTMAP", "HIDE", MINE, 1)
    assert raw.call("DBSIZE") == 1
    assert raw.call("KEYS", "*") == raw.call("SCAN", 0, "COUNT", 1000)[1] == [key(MINE2).encode()]
    assert raw.call("KEYS", key(MINE) + "*") == []
    assert {raw.call("RANDOMKEY") for _ in range(50)} == {key(MINE2).encode()}
    assert b"db0:keys=1,expires=0" in raw.call("INFO", "keyspace")
    assert raw.call("CLUSTER", "COUNTKEYSINSLOT", MINE) == 3
    raw.call("SET", key(MINE, "more"), 1)
    raw.call("DEL", key(MINE, "more"))
    assert raw.call("DBSIZE") == 1
    time.sleep(0.5)
    assert raw.call("CLUSTER", "COUNTKEYSINSLOT", MINE) == 3, "it does not expire"
    raw.call("TESTMAP", "HIDE", MINE, 0)
    left = [key(MINE, "stays"), key(MINE, "h"), key(MINE2)]
    assert sorted(raw.call("KEYS", "*")) == sorted(name.encode() for name in left)
    deadline = time.monotonic() + 10
    while raw.call("DBSIZE") != 3:
        assert time.monotonic() < deadline, "what is in sight again expires"
        time.sleep(0.02)
    assert b"db0:keys=3,expires=0" in raw.call("INFO", "keyspace")
    raw.call("FLUSHALL")
    assert raw.call("DBSIZE") == 0
    assert raw.call("TESTMAP", "WITHKEYS") == []


def test_a_file_has_what_is_hidden(raw, cluster):
    raw.call("SET", key(MINE), 1)
    raw.call("TESTMAP", "HIDE", MINE, 1)
    assert raw.call("DBSIZE") == 0
    assert raw.call("SAVE") == b"OK"
    assert b"db0:keys=1" not in raw.call("INFO", "keyspace")
    raw.call("TESTMAP", "HIDE", MINE, 0)
    raw.call("FLUSHALL")
    assert raw.call("DEBUG", "RELOAD", "NOSAVE") == b"OK"
    assert raw.call("DBSIZE") == 1
    raw.call("TESTMAP", "HIDE", MINE, 1)
    raw.call("FLUSHALL")
    raw.call("TESTMAP", "HIDE", MINE, 0)
    assert raw.call("DBSIZE") == 0


def test_eviction_leaves_a_hidden_slot_alone(raw):
    for number in range(2000):
        raw.call("SET", key(MINE, str(number)), "x" * 100)
    for number in range(2000):
        raw.call("SET", key(MINE2, str(number)), "x" * 100)
    raw.call("TESTMAP", "HIDE", MINE, 1)
    raw.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "1mb")
    try:
        deadline = time.monotonic() + 10
        while raw.call("DBSIZE"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert raw.call("CLUSTER", "COUNTKEYSINSLOT", MINE) == 2000
    finally:
        raw.call("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")
        raw.call("TESTMAP", "HIDE", MINE, 0)


# ---- a slot's keys

def test_counting_and_listing(raw):
    names = {key(MINE, str(number)) for number in range(100)}
    for name in names:
        raw.call("SET", name, 1)
    raw.call("SELECT", 1)
    raw.call("SET", key(MINE), 1)
    assert raw.call("CLUSTER", "COUNTKEYSINSLOT", MINE) == 1
    assert raw.call("CLUSTER", "GETKEYSINSLOT", MINE, 10) == [key(MINE).encode()]
    raw.call("SELECT", 0)
    assert raw.call("CLUSTER", "COUNTKEYSINSLOT", MINE) == 100
    assert {name.decode() for name in raw.call("CLUSTER", "GETKEYSINSLOT", MINE, 1000)} == names
    assert len(set(raw.call("CLUSTER", "GETKEYSINSLOT", MINE, 7))) == 7
    assert raw.call("CLUSTER", "COUNTKEYSINSLOT", SLOTS) == "ERR Invalid slot"
    assert raw.call("CLUSTER", "GETKEYSINSLOT", MINE, -1) == "ERR Invalid slot or number of keys"
    assert raw.call("CLUSTER", "COUNTKEYSINSLOT", "x") == "ERR value is not an integer or out of range"


def test_flushing_a_slot(cluster, raw):
    for number in range(1000):
        raw.call("SET", key(MINE, str(number)), 1)
    raw.call("SELECT", 2)
    raw.call("RPUSH", key(MINE), *range(1000))
    raw.call("SET", key(MINE2), 1)
    raw.call("CONFIG", "SET", "notify-keyspace-events", "KEg")
    with cluster.raw() as ear, cluster.raw() as watcher:
        watcher.call("SELECT", 2)
        watcher.call("WATCH", key(MINE))
        ear.send(encode("PSUBSCRIBE", "__keyevent@2__:*"))
        ear.reply()
        assert raw.call("CLUSTER", "FLUSHSLOT", MINE, "ASYNC") == b"OK"
        assert ear.reply()[2:] == [b"__keyevent@2__:del", key(MINE).encode()]
        watcher.call("MULTI")
        assert watcher.call("EXEC") is None
    raw.call("CONFIG", "SET", "notify-keyspace-events", "")
    assert raw.call("TESTMAP", "WITHKEYS") == [MINE2]
    assert raw.call("CLUSTER", "FLUSHSLOT", MINE2, "SYNC") == b"OK"
    assert raw.call("DBSIZE") == 0
    assert raw.call("CLUSTER", "FLUSHSLOT", MINE, "X") == "ERR syntax error"
    assert raw.call("CLUSTER", "FLUSHSLOT", SLOTS) == "ERR Invalid or out of range slot"


def test_a_lost_slot_is_dropped_without_a_word(cluster, raw):
    for number in range(3000):
        raw.call("SET", key(MINE, str(number)), 1)
    raw.call("CONFIG", "SET", "notify-keyspace-events", "KEA")
    slotmap.own(raw, MINE, MINE, THIRD)
    with cluster.raw() as ear:
        ear.send(encode("PSUBSCRIBE", "*"))
        ear.reply()
        assert raw.call("TESTMAP", "DROP", MINE) == 3000
        assert is_silent(ear)
    raw.call("CONFIG", "SET", "notify-keyspace-events", "")
    assert raw.call("DBSIZE") == 0


def test_what_is_dropped_is_dropped_in_the_aof_too(engine, tmp_path):
    server = slotmap.start(tmp_path / "a", "--appendonly", "yes", "--cluster-databases", 2, engine=engine)
    try:
        with server.raw() as raw:
            for number in range(300):
                raw.call("SET", key(MINE, str(number)), 1)
            raw.call("SELECT", 1)
            raw.call("SET", key(MINE), 1)
            raw.call("SET", key(MINE2), 1)
            assert raw.call("TESTMAP", "DROP", MINE) == 301
            assert raw.call("DEBUG", "LOADAOF") == b"OK"
            assert raw.call("TESTMAP", "WITHKEYS") == [MINE2]
        server.stop()
    finally:
        server.kill()


# ---- SLOT-STATS

def stats(raw, slot: int) -> dict:
    (found,) = raw.call("CLUSTER", "SLOT-STATS", "SLOTSRANGE", slot, slot)
    assert found[0] == slot
    return dict(zip(found[1][::2], found[1][1::2], strict=True))


def test_slot_stats(raw):
    raw.call("SET", key(MINE), 1)
    assert stats(raw, MINE) == {b"key-count": 1}
    raw.call("CONFIG", "SET", "cluster-slot-stats-enabled", "yes")
    raw.call("CONFIG", "RESETSTAT")
    zero = {b"cpu-usec": 0, b"network-bytes-in": 0, b"network-bytes-out": 0}
    assert stats(raw, MINE) == {b"key-count": 1} | zero
    request = encode("SET", key(MINE), "value")
    raw.send(request)
    raw.reply()
    found = stats(raw, MINE)
    assert found[b"network-bytes-in"] == len(request)
    assert found[b"network-bytes-out"] == len("+OK\r\n")
    raw.call("CONFIG", "RESETSTAT")
    line = f"SET {key(MINE)} value\r\n".encode()
    raw.send(line)
    raw.reply()
    assert stats(raw, MINE)[b"network-bytes-in"] == len(line), "what came, not what it would be as an array"
    raw.call("CONFIG", "RESETSTAT")
    transaction = [encode("MULTI"), encode("SET", key(MINE), 1), encode("EXEC")]
    raw.send(b"".join(transaction))
    raw.replies(3)
    assert stats(raw, MINE)[b"network-bytes-in"] == sum(map(len, transaction))
    assert raw.call("SPUBLISH", key(MINE), "x") == 0
    raw.call("RPUSH", key(MINE, "l"), *["x" * 1000] * 1000)
    for _ in range(20):
        raw.call("LRANGE", key(MINE, "l"), 0, -1)
    assert stats(raw, MINE)[b"cpu-usec"] > 0
    raw.call("DEL", key(MINE, "l"))
    assert stats(raw, MINE2) == {b"key-count": 0} | zero
    raw.call("GET", key(THEIRS))
    assert raw.call("CLUSTER", "SLOT-STATS", "SLOTSRANGE", THEIRS, THEIRS) == []
    top = raw.call("CLUSTER", "SLOT-STATS", "ORDERBY", "network-bytes-in", "LIMIT", 2)
    assert [row[0] for row in top] == [MINE, 0]
    assert len(raw.call("CLUSTER", "SLOT-STATS", "ORDERBY", "key-count", "ASC")) == 8192
    assert raw.call("CLUSTER", "SLOT-STATS", "ORDERBY", "x") == "ERR Unrecognized sort metric for ORDERBY."
    slotmap.own(raw, MINE, MINE, THIRD)
    slotmap.own(raw)
    assert stats(raw, MINE)[b"network-bytes-in"] == 0, "a slot that comes back begins anew"
    raw.call("CONFIG", "SET", "cluster-slot-stats-enabled", "no")


# ---- CLUSTERSCAN

def scan_all(raw, cursor: object, *options: object) -> tuple[list, bytes]:
    """The keys up to the first cursor that is for another node."""
    found = []
    while True:
        cursor, keys = raw.call("CLUSTERSCAN", cursor, *options)
        found.extend(keys)
        if cursor == b"0" or (cursor.startswith(b"0-{") and found):
            return found, cursor


def test_clusterscan(raw):
    names = sorted(key(slot, str(number)).encode() for slot in (0, MINE, 8191) for number in range(50))
    for name in names:
        raw.call("SET", name, 1)
    raw.call("RPUSH", key(MINE, "list"), 1)
    cursor, keys = raw.call("CLUSTERSCAN", "0-{06S}-0", "COUNT", 10)
    assert keys and cursor.split(b"-")[0] != b"0"
    found, last = scan_all(raw, "0-{06S}-0", "COUNT", 10, "TYPE", "string")
    assert sorted(set(found)) == names
    assert raw.call("CLUSTERSCAN", last).startswith("MOVED 8192 ")
    found, last = scan_all(raw, "0-{06S}-0", "SLOT", 0)
    assert (len(found), last) == (50, b"0")
    assert raw.call("CLUSTERSCAN", "0-{06S}-0", "SLOT", 1) == "ERR Cursor slot mismatch with SLOT argument"
    assert raw.call("CLUSTERSCAN", "0-{06S}-0", "MATCH", "{Qi}x") == [b"0-{Qi}-0", []]
    assert raw.call("CLUSTERSCAN", "0-{Qi}-0", "MATCH", "{06S}x") == [b"0", []]
    assert raw.call("CLUSTERSCAN", "0-{06S}-0", "SLOT", 0, "MATCH", "{Qi}x") == [b"0", []]
    assert raw.call("CLUSTERSCAN", "0-{06S}") == "ERR Invalid cursor"
    print_, _, _ = cursor.partition(b"-")
    assert raw.call("CLUSTERSCAN", print_ + b"-{06S}-x") == "ERR Invalid cursor"
