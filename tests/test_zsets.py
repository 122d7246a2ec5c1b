"""Sorted sets: waiting commands, events, payloads that lie, memory that comes back."""

import struct

import pytest
from resp import Error

CRC_AND_VERSION = 10


def crc64(data: bytes) -> bytes:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x95AC9329AC4BC9B5 if value & 1 else 0)
    return struct.pack("<Q", value)


def payload(body: bytes, like: bytes) -> bytes:
    """A dump with this body and the version of another one."""
    data = body + like[-CRC_AND_VERSION:-8]
    return data + crc64(data)


@pytest.mark.parametrize("words, answer", [
    (("BZPOPMIN", "a", "b", "0"), [b"b", b"one", b"1"]), (("BZPOPMAX", "b", "0"), [b"b", b"two", b"2"]),
    (("BZMPOP", "0", "2", "a", "b", "MIN", "COUNT", "5"), [b"b", [[b"one", b"1"], [b"two", b"2"]]])])
def test_waiting_clients_are_served(server, client, words, answer):
    with server.raw() as waiting:
        waiting.send(b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words)]))
        while client.info("clients")["blocked_clients"] == 0:
            pass
        client.execute_command("ZADD", "b", 1, "one", 2, "two")
        assert waiting.reply() == answer
    assert client.zcard("b") == 2 - (len(answer[1]) if isinstance(answer[1], list) else 1)


def test_events(client):
    client.config_set("notify-keyspace-events", "KEA")
    listener = client.pubsub()
    listener.psubscribe("__keyspace@0__:*")
    listener.get_message(timeout=2)
    client.execute_command("ZADD", "z", 1, "a", 2, "b", 3, "c", 4, "d")
    client.zincrby("z", 5, "a")
    client.zpopmin("z")
    client.zremrangebyrank("z", 0, 0)
    client.zunionstore("y", ["z", "none"])
    client.execute_command("ZRANGESTORE", "x", "z", 0, -1)
    client.zrem("z", "a", "d", "c")
    client.zinterstore("y", ["z", "x"])
    client.execute_command("GEOADD", "g", 1, 1, "p")
    found = []
    while message := listener.get_message(timeout=0.3):
        found.append(message["channel"].split(b":")[1].decode() + ":" + message["data"].decode())
    client.config_set("notify-keyspace-events", "")
    assert found == ["z:zadd", "z:zincr", "z:zpopmin", "z:zremrangebyrank", "y:zunionstore", "x:zrangestore", "z:zrem",
                     "z:del", "y:del", "g:zadd"]


def test_payloads_that_lie(client):
    client.zadd("z", {"a": 1.5})
    dump = client.dump("z")
    nan = struct.pack("<d", float("nan"))
    one = struct.pack("<d", 1)
    bad = [b"\x05\x01\x01a" + nan, b"\x05\x02\x01a" + one + b"\x01a" + one, b"\x05\x00", b"\x05\x02\x01a" + one,
           b"\x05\x81" + b"\xff" * 8 + b"\x01a" + one, b"\x03\x01\x01a\xfd",
           b"\x11\x07\x07\x00\x00\x00\x00\x00\xff",                                     # an empty listpack
           b"\x11\x0a\x0a\x00\x00\x00\x01\x00\x81a\x02\xff",                            # a member without a score
           b"\x11\x10\x10\x00\x00\x00\x02\x00\x81a\x02\x83nan\x04\xff",
           b"\x11\x11\x11\x00\x00\x00\x04\x00\x81a\x02\x01\x01\x81a\x02\x02\x01\xff"]   # a member twice
    for body in bad:
        with pytest.raises(Exception, match="Bad data format"):
            client.restore("bad", 0, payload(body, dump))
    good = b"\x05\x02\x01b" + struct.pack("<d", 2) + b"\x01a" + one
    client.restore("good", 0, payload(good, dump))
    assert client.zrange("good", 0, -1, withscores=True) == [(b"a", 1), (b"b", 2)]


def test_memory_comes_back(server, client):
    before = client.info("memory")["used_memory"]
    for start in range(0, 30000, 1000):
        client.zadd("z", {b"member:%d" % n: n * 7919 % 30000 for n in range(start, start + 1000)})
    full = client.info("memory")["used_memory"] - before
    assert client.memory_usage("z", samples=0) == pytest.approx(full, rel=0.02, abs=80_000)
    client.execute_command("COPY", "z", "copy")
    assert client.zrange("z", 0, -1, withscores=True) == client.zrange("copy", 0, -1, withscores=True)
    client.delete("copy")
    for _ in range(29):
        client.zpopmin("z", 500)
        client.zpopmax("z", 500)
    assert client.zcard("z") == 1000
    assert client.memory_usage("z", samples=0) < full / 12
    client.zremrangebyscore("z", "-inf", "+inf")
    assert client.exists("z") == 0


def test_a_reply_too_large_is_refused(server):
    with server.raw() as raw:
        raw.call("ZADD", "z", "1", "a")
        assert isinstance(raw.call("ZRANDMEMBER", "z", "-9000000000000000000"), Error)
        assert raw.call("ZMPOP", "9223372036854775807", "z", "MIN") == Error("ERR syntax error")
