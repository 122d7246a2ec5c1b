"""Hashes: the fields' expiry in time, its events and statistics, memory that comes back."""

import random
import time

import pytest

SERVER_OPTIONS = ["--enable-debug-command", "yes"]


def wait_for(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def info(client, name):
    return client.info("all")[name]


def flat(reply):
    """A reply of pairs as a dict, from RESP2 or RESP3."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def test_an_expired_field_is_gone_at_its_instant(client):
    call = client.execute_command
    call("HSET", "h", "stays", "1", "goes", "2", "other", "3")
    call("CONFIG", "SET", "hz", "10")
    call("HPEXPIRE", "h", "60", "FIELDS", "1", "goes")
    assert call("HGET", "h", "goes") == b"2"
    time.sleep(0.062)
    assert call("HGET", "h", "goes") is None
    assert call("HEXISTS", "h", "goes") == 0
    assert call("HMGET", "h", "goes", "stays") == [None, b"1"]
    assert flat(client.hgetall("h")) == {b"stays": b"1", b"other": b"3"}
    assert sorted(call("HKEYS", "h")) == [b"other", b"stays"]
    assert call("HTTL", "h", "FIELDS", "1", "goes") == [-2]
    wait_for(lambda: call("HLEN", "h") == 2)


def test_the_last_field_takes_the_key_along(client):
    call = client.execute_command
    before = info(client, "expired_fields")
    call("HSETEX", "h", "PX", "1000", "FIELDS", "3", "a", "1", "b", "2", "c", "3")
    assert info(client, "db0")["keys_with_volatile_items"] == 1
    wait_for(lambda: call("EXISTS", "h") == 0)
    assert info(client, "expired_fields") - before == 3
    assert call("DBSIZE") == 0


def test_count_of_hashes_with_expiring_fields(client):
    call = client.execute_command

    def there():
        return info(client, "db0")["keys_with_volatile_items"]

    call("HSET", "h", "a", "1", "b", "2")
    assert there() == 0
    call("HEXPIRE", "h", "100", "FIELDS", "2", "a", "b")
    call("HSETEX", "g", "EX", "100", "FIELDS", "1", "a", "1")
    assert there() == 2
    call("HPERSIST", "h", "FIELDS", "1", "a")
    assert there() == 2
    call("HSET", "h", "b", "3")
    assert there() == 1
    call("RENAME", "g", "i")
    assert there() == 1
    call("COPY", "i", "j")
    assert there() == 2
    call("SET", "i", "1")
    call("EXPIRE", "j", "1000")
    assert there() == 1
    call("HDEL", "j", "a")
    assert call("DBSIZE") == 2
    assert there() == 0


@pytest.mark.parametrize("fields", [10, 1000, 60000])
def test_one_hash_whose_fields_expire_at_different_times(client, server, fields):
    call = client.execute_command
    rng = random.Random(fields)
    with server.raw() as raw:
        raw.pipeline([("HSETEX", "h", "PX", rng.randint(200, 1500), "FIELDS", "1", f"field:{i}", "value")
                      for i in range(fields)])
    call("HSET", "h", "stays", "1")
    wait_for(lambda: call("HLEN", "h") == 1, 8)
    assert call("HGETALL", "h") in ({b"stays": b"1"}, [b"stays", b"1"])
    assert info(client, "db0")["keys_with_volatile_items"] == 0


def test_events_of_the_active_expiry(server, client):
    call = client.execute_command
    call("CONFIG", "SET", "notify-keyspace-events", "KEA")
    with server.raw() as raw:
        raw.call("PSUBSCRIBE", "__keyspace@0__:*")
        call("HSETEX", "h", "PX", "50", "FIELDS", "3", "a", "1", "b", "2", "c", "3")
        call("HSET", "g", "stays", "1", "goes", "2")
        call("HPEXPIRE", "g", "50", "FIELDS", "1", "goes")
        seen = {b"h": [], b"g": []}
        for message in raw.replies(7):
            seen[message[2].split(b":")[1]].append(message[3])
    call("CONFIG", "SET", "notify-keyspace-events", "")
    assert seen == {b"h": [b"hset", b"hexpire", b"hexpired", b"del"], b"g": [b"hset", b"hexpire", b"hexpired"]}


def test_many_hashes_whose_fields_expire(client):
    call = client.execute_command
    pipe = client.pipeline(transaction=False)
    for i in range(3000):
        pipe.execute_command("HSETEX", f"h{i}", "PX", str(300 + i // 3), "FIELDS", "3", "a", "1", "b", "2", "c", "3")
    pipe.execute()
    wait_for(lambda: call("DBSIZE") == 0, 8)
    assert info(client, "used_memory_dataset") >= 0


def test_memory_comes_back(client):
    call = client.execute_command
    before = info(client, "used_memory")
    rng = random.Random(4)
    for _ in range(40):
        pipe = client.pipeline(transaction=False)
        for _ in range(500):
            key, field = f"h{rng.randrange(20)}", f"f{rng.randrange(400)}"
            pipe.execute_command(*rng.choice([
                ("HSET", key, field, "v" * rng.choice([1, 30, 70, 300])),
                ("HSETEX", key, "EX", "100", "FIELDS", "1", field, "v" * rng.choice([1, 30, 70, 300])),
                ("HEXPIRE", key, "100", "FIELDS", "1", field),
                ("HPERSIST", key, "FIELDS", "1", field),
                ("HDEL", key, field),
                ("HINCRBY", key, "n" + field, "5"),
                ("COPY", key, f"h{rng.randrange(20)}", "REPLACE"),
            ]))
        pipe.execute(raise_on_error=False)
    for i in range(20):
        size = call("HLEN", f"h{i}")
        fields = call("HKEYS", f"h{i}")
        assert size == len(fields)
        while fields:
            call("HDEL", f"h{i}", *fields[:50])
            fields = fields[50:]
    assert call("DBSIZE") == 0
    wait_for(lambda: info(client, "used_memory") - before < 300_000)


def test_dump_and_restore(client):
    call = client.execute_command
    call("HSET", "small", "a", "1", "b", "x" * 60)
    call("HSET", "large", *[f"{i}" for i in range(2000)])
    call("HSETEX", "expiring", "EX", "1000", "FIELDS", "2", "a", "1", "b", "x" * 600)
    call("HSET", "expiring", "c", "3")
    for key in ("small", "large", "expiring"):
        payload = call("DUMP", key)
        assert call("RESTORE", key + "2", "0", payload) == b"OK"
        assert flat(client.hgetall(key)) == flat(client.hgetall(key + "2"))
        assert call("OBJECT", "ENCODING", key) == call("OBJECT", "ENCODING", key + "2")
    assert call("HTTL", "expiring2", "FIELDS", "3", "a", "b", "c") == [1000, 1000, -1]


def test_a_small_hash_with_expiries_is_small(client):
    words = [word for i in range(10) for word in (f"field{i}", f"value:{i}")]
    client.execute_command("HSETEX", "h", "EX", "1000", "FIELDS", "10", *words)
    assert client.memory_usage("h") < 700


def test_restored_fields_may_have_expired(server):
    with server.raw() as raw:
        raw.call("FLUSHALL")
        raw.call("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        raw.call("HSETEX", "h", "PX", "1", "FIELDS", "3", "a", "1", "b", "2", "c", "3")
        time.sleep(0.01)
        payload = raw.call("DUMP", "h")
        raw.call("DEL", "h")
        assert raw.call("RESTORE", "h", "0", payload) == b"OK"
        assert raw.call("HLEN", "h") == 3
        assert raw.call("HGETALL", "h") == []
        assert raw.call("HRANDFIELD", "h") is None
        assert raw.call("HRANDFIELD", "h", "5") == []
        assert raw.call("HSCAN", "h", "0") == [b"0", []]
        raw.call("DEBUG", "SET-ACTIVE-EXPIRE", "1")
        wait_for(lambda: raw.call("EXISTS", "h") == 0)


def test_times_at_the_end_of_the_range(client):
    call = client.execute_command
    names = [f"f{i}" for i in range(128)]
    call("HSET", "h", *[word for name in names for word in (name, "v")])
    last = 2**63 - 1
    for at in (last, last - 1, last - 8191):
        assert set(call("HPEXPIREAT", "h", at, "FIELDS", "128", *names)) == {1}
        assert info(client, "db0")["keys_with_volatile_items"] == 1
        assert set(call("HPEXPIRETIME", "h", "FIELDS", "128", *names)) == {at}
    time.sleep(0.3)
    assert call("HLEN", "h") == 128
    assert call("HDEL", "h", *names) == 128


def test_random_fields_are_fair(client):
    call = client.execute_command
    for key, n in (("small", 10), ("large", 200)):
        call("HSET", key, *[word for i in range(n) for word in (f"f{i}", "x")])
        seen = {}
        for _ in range(200):
            for field in call("HRANDFIELD", key, -n):
                seen[field] = seen.get(field, 0) + 1
        assert len(seen) == n
        assert all(100 < count < 320 for count in seen.values())
        for count in (1, 2, n // 2, n - 1, n, n + 5):
            fields = call("HRANDFIELD", key, count)
            assert len(fields) == len(set(fields)) == min(count, n)


def test_scan_of_a_growing_hash(client):
    call = client.execute_command
    call("HSET", "h", *[word for i in range(1000) for word in (f"f{i}", str(i))])
    cursor, seen, more = 0, set(), 0
    while True:
        cursor, found = call("HSCAN", "h", cursor, "COUNT", "20")
        seen.update(found)
        for _ in range(20):
            call("HSET", "h", f"more{more}", "1")
            more += 1
        if not int(cursor):
            break
        if more > 2000:
            more = 0
    assert {b"f%d" % i for i in range(1000)} <= seen
