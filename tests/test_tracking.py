"""Client-side caching: who is told that which key has changed."""

import time

import pytest
from resp import Raw, encode

SERVER_OPTIONS = ["--io-threads", "2", "--enable-debug-command", "yes"]


def told(raw: Raw, count: int = 1) -> list:
    return raw.replies(count, 5)


def silent(raw: Raw) -> bool:
    """Nothing has come, also a moment later."""
    time.sleep(0.05)
    return raw.call("PING") == b"PONG"


@pytest.fixture
def raws(server):
    """Connections that speak RESP3, spread over the workers, and a plain one."""
    made = [server.raw() for _ in range(5)]
    for raw in made[:4]:
        raw.call("HELLO", 3)
    made[-1].call("FLUSHALL")
    yield made
    for raw in made:
        raw.close()


def key(*names: bytes) -> list:
    return [b"invalidate", list(names)]


def test_readers_are_told_once(raws):
    *readers, mouth = raws
    mouth.call("MSET", "a", 1, "b", 2)
    for raw in readers:
        assert raw.call("CLIENT", "TRACKING", "ON") == b"OK"
        raw.call("MGET", "a", "b")
    mouth.pipeline([("SET", "a", 2), ("SET", "a", 3), ("INCR", "b")])
    for raw in readers:
        assert told(raw, 2) == [key(b"a"), key(b"b")]
        raw.call("GET", "a")
    mouth.call("DEL", "a")
    for raw in readers:
        assert told(raw) == [key(b"a")]
        assert silent(raw)
    stats = mouth.call("INFO", "stats").decode()
    assert "tracking_total_keys:0\r\n" in stats
    assert "tracking_clients:4\r\n" in mouth.call("INFO", "clients").decode()


def test_own_changes_come_after_the_reply(raws):
    raw = raws[0]
    raw.call("CLIENT", "TRACKING", "ON")
    raw.send(encode("GET", "a") + encode("SET", "a", 1) + encode("MULTI") + encode("GET", "a") + encode("INCR", "a")
             + encode("GET", "b") + encode("EXEC"))
    assert told(raw, 9) == [None, b"OK", key(b"a"), b"OK", b"QUEUED", b"QUEUED", b"QUEUED", [b"1", 2, None], key(b"a")]
    raw.call("CLIENT", "TRACKING", "ON", "NOLOOP")
    raw.call("GET", "b")
    raw.call("SET", "b", 1)
    assert silent(raw)


def test_optin_and_optout(raws):
    raw, mouth = raws[0], raws[-1]
    raw.call("CLIENT", "TRACKING", "ON", "OPTIN")
    raw.call("GET", "a")
    mouth.call("SET", "a", 1)
    assert silent(raw)
    raw.pipeline([("CLIENT", "CACHING", "YES"), ("GET", "a"), ("GET", "b")])
    mouth.call("MSET", "a", 1, "b", 1)
    assert told(raw) == [key(b"a")]
    assert silent(raw)
    assert "OPTIN/OPTOUT" in raw.call("CLIENT", "TRACKING", "ON", "OPTOUT")
    raw.call("CLIENT", "TRACKING", "OFF")
    raw.call("CLIENT", "TRACKING", "ON", "OPTOUT")
    raw.pipeline([("CLIENT", "CACHING", "NO"), ("GET", "a"), ("GET", "b")])
    mouth.call("MSET", "a", 1, "b", 1)
    assert told(raw) == [key(b"b")]
    assert silent(raw)


def test_bcast(raws):
    one, two, *_, mouth = raws
    one.call("CLIENT", "TRACKING", "ON", "BCAST")
    two.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "x:", "PREFIX", "y", "NOLOOP")
    mouth.call("MSET", "z", 1, "x:1", 1, "y", 1, "x:2", 1)
    assert told(one) == [key(b"x:1", b"x:2", b"y", b"z")]
    assert sorted(told(two, 2)) == [key(b"x:1", b"x:2"), key(b"y")]
    two.call("SET", "x:mine", 1)
    assert told(one) == [key(b"x:mine")]
    assert silent(two)
    info = two.call("CLIENT", "TRACKINGINFO")
    assert info == {b"flags": [b"on", b"bcast", b"noloop"], b"redirect": 0, b"prefixes": [b"x:", b"y"]}
    assert two.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "x") == (
        "ERR Prefix 'x' overlaps with an existing prefix 'x:'. Prefixes for a single client must not overlap.")
    two.close()


def test_redirection(raws, server):
    raw, mouth = raws[0], raws[-1]
    ears = server.raw()
    number = ears.call("CLIENT", "ID")
    ears.send(encode("SUBSCRIBE", "__redis__:invalidate"))
    ears.replies(1)
    plain = server.raw()
    for reader in (raw, plain):
        assert reader.call("CLIENT", "TRACKING", "ON", "REDIRECT", number) == b"OK"
        assert reader.call("CLIENT", "GETREDIR") == number
        reader.call("GET", "a")
        mouth.call("SET", "a", 1)
        assert told(ears) == [[b"message", b"__redis__:invalidate", [b"a"]]]
    mouth.call("FLUSHALL")
    assert told(ears, 2) == [[b"message", b"__redis__:invalidate", None]] * 2
    raw.call("GET", "b")
    ears.close()
    deadline = time.monotonic() + 5
    while mouth.call("CLIENT", "LIST", "ID", number) and time.monotonic() < deadline:
        time.sleep(0.01)
    mouth.call("SET", "b", 1)
    assert told(raw) == [[b"tracking-redir-broken", number]]
    assert b"broken_redirect" in raw.call("CLIENT", "TRACKINGINFO")[b"flags"]
    plain.close()


def test_flush_expiry_and_the_limit(raws):
    raw, other, *_, mouth = raws
    for one in (raw, other):
        one.call("CLIENT", "TRACKING", "ON")
        one.call("GET", "a")
    mouth.call("FLUSHDB")
    assert told(raw) == told(other) == [[b"invalidate", None]]
    mouth.call("SET", "short", 1, "PX", 20)
    raw.call("GET", "short")
    assert told(raw) == [key(b"short")]
    mouth.call("CONFIG", "SET", "tracking-table-max-keys", 10)
    raw.pipeline([("GET", f"k{number}") for number in range(30)])
    assert len(told(raw, 20)) == 20
    mouth.call("CONFIG", "SET", "tracking-table-max-keys", 1000000)


def test_the_limit_holds_while_commands_are_queued(raws):
    """A command that only waits for EXEC makes room too, and what that says comes before QUEUED."""
    raw, mouth = raws[0], raws[-1]
    raw.call("CLIENT", "TRACKING", "ON")
    raw.call("MGET", "a{x}", "b{x}")
    raw.call("MULTI")
    mouth.call("DEBUG", "PAUSE-CRON", 1)       # which would do it
    try:
        mouth.call("CONFIG", "SET", "tracking-table-max-keys", 1)
        raw.send(encode("PING") + encode("EXEC"))
        found = raw.replies(3)
    finally:
        mouth.call("CONFIG", "SET", "tracking-table-max-keys", 1000000)
        mouth.call("DEBUG", "PAUSE-CRON", 0)
    assert found[0] in (key(b"a{x}"), key(b"b{x}"))
    assert found[1:] == [b"QUEUED", [b"PONG"]]
