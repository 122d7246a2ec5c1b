"""Publish and subscribe over the socket: several workers, both protocols, limits, endings."""

import threading
import time

import pytest
from resp import Closed, Push, Raw, encode

SERVER_OPTIONS = ["--io-threads", "2"]
RESP2_ONLY = ("ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
              "are allowed in this context")


def subscribe(raw: Raw, *words: str) -> list:
    raw.send(encode(*words))
    return raw.replies(len(words) - 1)


def wait_until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def raws(server):
    """Connections, spread over the workers; the last one for commands."""
    made = [server.raw() for _ in range(7)]
    made[-1].call("CONFIG", "SET", "notify-keyspace-events", "")
    yield made
    for raw in made:
        raw.close()


def test_messages_reach_every_worker_in_order(raws):
    *ears, mouth = raws
    for at, raw in enumerate(ears):
        if at % 2:
            raw.call("HELLO", 3)
        assert subscribe(raw, "SUBSCRIBE", "c1", "c2") == [[b"subscribe", b"c1", 1], [b"subscribe", b"c2", 2]]
        assert subscribe(raw, "PSUBSCRIBE", "c[13]") == [[b"psubscribe", b"c[13]", 3]]
    rounds = 300
    mouth.send(b"".join(encode("PUBLISH", channel, f"{channel} {number}") for number in range(rounds)
                        for channel in ("c1", "c2", "c3")))
    assert mouth.replies(rounds * 3) == [12, 6, 6] * rounds
    for at, raw in enumerate(ears):
        told = raw.replies(rounds * 4)
        assert all(isinstance(message, Push) == bool(at % 2) for message in told)
        wanted = []
        for number in range(rounds):
            wanted += [[b"message", b"c1", b"c1 %d" % number], [b"pmessage", b"c[13]", b"c1", b"c1 %d" % number],
                       [b"message", b"c2", b"c2 %d" % number], [b"pmessage", b"c[13]", b"c3", b"c3 %d" % number]]
        assert told == wanted


def test_one_order_for_all_when_many_publish(raws):
    ears = raws[:4]
    for raw in ears:
        subscribe(raw, "SUBSCRIBE", "busy")
    count = 2000

    def publish(raw: Raw, name: int) -> None:
        raw.send(b"".join(encode("PUBLISH", "busy", f"{name}:{number}") for number in range(count)))
        assert raw.replies(count) == [4] * count

    threads = [threading.Thread(target=publish, args=(raw, at)) for at, raw in enumerate(raws[4:])]
    for thread in threads:
        thread.start()
    heard = [raw.replies(count * 3) for raw in ears]
    for thread in threads:
        thread.join()
    assert heard[0] == heard[1] == heard[2] == heard[3]


def test_nothing_comes_after_the_reply_of_unsubscribe(raws):
    ear, mouth = raws[0], raws[-1]
    stop = threading.Event()

    def publish(raw: Raw) -> None:
        while not stop.is_set():
            raw.pipeline([("PUBLISH", "often", "x")] * 16)

    threads = [threading.Thread(target=publish, args=(raw,)) for raw in raws[1:4]]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            ear.send(encode("SUBSCRIBE", "often"))
            while ear.replies(1)[0][0] != b"message":
                pass
            ear.send(encode("UNSUBSCRIBE", "often") + encode("PING") + encode("ECHO", "e"))
            while (reply := ear.replies(1)[0])[0] == b"message":
                pass
            assert reply == [b"unsubscribe", b"often", 0]
            assert ear.replies(2) == [b"PONG", b"e"]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert mouth.call("PUBSUB", "NUMSUB", "often") == [b"often", 0]


def test_resp2_subscribers_are_restricted(raws):
    raw, mouth = raws[0], raws[-1]
    for word, end in (("SUBSCRIBE", "UNSUBSCRIBE"), ("PSUBSCRIBE", "PUNSUBSCRIBE"), ("SSUBSCRIBE", "SUNSUBSCRIBE")):
        subscribe(raw, word, "c")
        assert raw.call("GET", "x") == RESP2_ONLY % "get"
        assert raw.call("CLIENT", "ID") == RESP2_ONLY % "client|id"
        assert raw.call("PING") == [b"pong", b""]
        assert raw.call("PING", "x") == [b"pong", b"x"]
        raw.send(encode(end))
        assert raw.replies(1) == [[end.lower().encode(), b"c", 0]]
        assert raw.call("PING") == b"PONG"
    raw.call("MULTI")
    raw.call("SUBSCRIBE", "c")
    raw.send(encode("EXEC"))
    assert raw.replies(1) == [[[b"subscribe", b"c", 1]]]
    assert raw.call("MULTI") == RESP2_ONLY % "multi"
    assert raw.call("RESET") == b"RESET"
    assert raw.call("PING") == b"PONG"
    assert mouth.call("PUBLISH", "c", "x") == 0


def test_own_messages_come_after_the_reply(raws):
    raw, other = raws[0], raws[1]
    raw.call("HELLO", 3)
    raw.call("CONFIG", "SET", "notify-keyspace-events", "KA")
    subscribe(raw, "SUBSCRIBE", "own")
    subscribe(raw, "PSUBSCRIBE", "__keyspace*")
    raw.send(encode("PUBLISH", "own", "m") + encode("MULTI") + encode("PUBLISH", "own", "1") + encode("SET", "a", "b")
             + encode("EXEC") + encode("DEL", "a"))
    assert raw.replies(9) == [
        1, [b"message", b"own", b"m"], b"OK", b"QUEUED", b"QUEUED", [1, b"OK"], [b"message", b"own", b"1"],
        [b"pmessage", b"__keyspace*", b"__keyspace@0__:a", b"set"], 1]
    assert raw.replies(1) == [[b"pmessage", b"__keyspace*", b"__keyspace@0__:a", b"del"]]
    raw.send(encode("CLIENT", "REPLY", "OFF") + encode("PUBLISH", "own", "quiet") + encode("SUBSCRIBE", "more")
             + encode("CLIENT", "REPLY", "ON"))
    assert raw.replies(3) == [[b"message", b"own", b"quiet"], [b"subscribe", b"more", 3], b"OK"]
    assert other.call("PUBLISH", "more", "x") == 1


def test_ends_with_the_connection(raws, server):
    mouth = raws[-1]
    raw = server.raw()
    subscribe(raw, "SUBSCRIBE", "gone", "gone2")
    subscribe(raw, "PSUBSCRIBE", "gone*")
    assert mouth.call("PUBLISH", "gone", "x") == 2
    stats = mouth.call("INFO", "stats").decode()
    assert "pubsub_channels:2\r\n" in stats and "pubsub_patterns:1\r\n" in stats
    assert "pubsub_clients:1\r\n" in mouth.call("INFO", "clients").decode()
    assert b" sub=2 psub=1 ssub=0 " in mouth.call("CLIENT", "LIST", "TYPE", "pubsub")
    assert b"flags=P " in mouth.call("CLIENT", "LIST", "TYPE", "pubsub")
    raw.close()
    wait_until(lambda: mouth.call("PUBLISH", "gone", "x") == 0)
    assert mouth.call("PUBSUB", "NUMPAT") == 0
    raw = server.raw()
    subscribe(raw, "SUBSCRIBE", "gone")
    assert mouth.call("CLIENT", "KILL", "TYPE", "pubsub") == 1
    with pytest.raises(Closed):
        raw.replies(1)
    wait_until(lambda: mouth.call("PUBSUB", "CHANNELS") == [])
    raw.close()


def test_many_subscriptions_and_many_subscribers(raws, server):
    raw, mouth = raws[0], raws[-1]
    names = [f"channel {number}" for number in range(20_000)]
    assert subscribe(raw, "SUBSCRIBE", *names)[-1] == [b"subscribe", names[-1].encode(), len(names)]
    assert len(mouth.call("PUBSUB", "CHANNELS")) == len(names)
    assert len(mouth.call("PUBSUB", "CHANNELS", "*9999")) == 2
    others = [server.raw() for _ in range(300)]
    for other in others:
        subscribe(other, "SUBSCRIBE", names[0])
    assert mouth.call("PUBLISH", names[0], "m" * 20_000) == 301
    for other in [raw, *others]:
        assert other.replies(1) == [[b"message", names[0].encode(), b"m" * 20_000]]
    for other in others[::2]:
        other.send(encode("UNSUBSCRIBE"))
        other.replies(1)
    assert mouth.call("PUBSUB", "NUMSUB", names[0]) == [names[0].encode(), 151]
    raw.send(encode("UNSUBSCRIBE"))
    told = raw.replies(len(names))
    assert [count for *_, count in told] == list(range(len(names) - 1, -1, -1))
    assert {name for _, name, _ in told} == {name.encode() for name in names}
    assert mouth.call("PUBLISH", names[0], "x") == 150
    for other in others:
        other.close()
    wait_until(lambda: mouth.call("PUBSUB", "CHANNELS") == [])


@pytest.mark.parametrize("limit", ["pubsub 300000 0 0", "pubsub 0 100000 1"])
def test_output_limits_of_subscribers(raws, server, limit):
    mouth = raws[-1]
    mouth.call("CONFIG", "SET", "client-output-buffer-limit", limit)
    slow = server.raw(recv_bytes=4096)
    subscribe(slow, "SUBSCRIBE", "flood")
    deadline = time.monotonic() + 20
    while mouth.call("PUBLISH", "flood", "x" * 50_000):
        assert time.monotonic() < deadline, "the limit was not kept"
        time.sleep(0.002)
    slow.close()
    mouth.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60")


def test_events_reach_other_workers(raws):
    *ears, mouth = raws
    mouth.call("CONFIG", "SET", "notify-keyspace-events", "EA")
    for raw in ears:
        subscribe(raw, "SUBSCRIBE", "__keyevent@0__:set", "__keyevent@0__:expired")
    mouth.pipeline([("SET", f"k{number}", "v") for number in range(500)])
    mouth.call("SET", "short", "v", "PX", "10")
    for raw in ears:
        told = raw.replies(502)
        assert [key for _, _, key in told] == [b"k%d" % number for number in range(500)] + [b"short"] * 2
        assert told[-1][1] == b"__keyevent@0__:expired"
    mouth.call("CONFIG", "SET", "notify-keyspace-events", "")
