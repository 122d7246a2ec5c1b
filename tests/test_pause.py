"""CLIENT PAUSE: what is held, what is answered all the same, what stands still."""

import time

import pytest
from resp import encode

SERVER_OPTIONS = ["--io-threads", "2", "--enable-debug-command", "yes"]


@pytest.fixture
def mouth(server):
    """A connection that is not held: it set the pause and only reads; the pause ends with the test."""
    with server.raw() as raw:
        raw.call("FLUSHALL")
        yield raw
        raw.call("CLIENT", "UNPAUSE")


def blocked(raw) -> int:
    text = raw.call("INFO", "clients").decode()
    return int(text.split("blocked_clients:")[1].split("\r\n")[0])


def stat(raw, name: str) -> int:
    text = raw.call("INFO", "stats").decode()
    return int(text.split(f"\r\n{name}:")[1].split("\r\n")[0])


def wait_blocked(raw, count: int) -> None:
    deadline = time.monotonic() + 10
    while blocked(raw) != count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_writes_wait_and_keep_their_order(mouth, server):
    mouth.call("CLIENT", "PAUSE", 60000, "WRITE")
    with server.raw() as raw:
        assert raw.call("GET", "a") is None
        raw.send(encode("SET", "a", 1) + encode("INCR", "a") + encode("GET", "a"))
        wait_blocked(mouth, 1)
        assert mouth.call("GET", "a") is None
        mouth.call("CLIENT", "UNPAUSE")
        assert raw.replies(3) == [b"OK", 2, b"2"]


def test_what_is_refused_anyway_is_answered(mouth):
    mouth.call("CLIENT", "PAUSE", 60000, "WRITE")
    assert mouth.call("SET", "a") == "ERR wrong number of arguments for 'set' command"
    assert mouth.call("NOSUCH").startswith("ERR unknown command")


@pytest.mark.parametrize("command", [("PFCOUNT", "h"), ("PUBLISH", "c", "m")])
def test_commands_that_may_write_wait(mouth, server, command):
    mouth.call("PFADD", "h", "x")
    mouth.call("CLIENT", "PAUSE", 60000, "WRITE")
    with server.raw() as raw:
        raw.send(encode(*command))
        wait_blocked(mouth, 1)
        mouth.call("CLIENT", "UNPAUSE")
        assert isinstance(raw.reply(), int)


def test_exec_waits_if_it_would_write(mouth, server):
    with server.raw() as reads, server.raw() as writes:
        for raw in (reads, writes):
            raw.call("MULTI")
        reads.call("GET", "a")
        writes.call("SET", "a", 1)
        mouth.call("CLIENT", "PAUSE", 60000, "WRITE")
        assert reads.call("EXEC") == [None]
        writes.send(encode("EXEC"))
        wait_blocked(mouth, 1)
        assert mouth.call("GET", "a") is None
        mouth.call("CLIENT", "UNPAUSE")
        assert writes.reply() == [b"OK"]


def test_all_means_all(mouth, server):
    """CLIENT and CONFIG too, as with Valkey; the time ends it."""
    with server.raw() as raw:
        assert mouth.call("CLIENT", "PAUSE", 300, "ALL") == b"OK"
        begun = time.monotonic()
        raw.send(encode("CLIENT", "ID") + encode("CONFIG", "GET", "port"))
        assert isinstance(raw.reply(), int)
        assert time.monotonic() - begun > 0.2
        assert raw.reply()[0] == b"port"


def test_nothing_expires_meanwhile(mouth):
    """What is due is gone for those that read, and stays in the data until the pause ends."""
    before = stat(mouth, "expired_keys")
    mouth.pipeline([("MULTI",), ("SET", "a", 1, "PX", 5), ("CLIENT", "PAUSE", 60000, "WRITE"), ("EXEC",)])
    time.sleep(0.3)
    assert mouth.call("GET", "a") is None
    assert mouth.call("TTL", "a") == -2
    assert mouth.call("DBSIZE") == 1
    assert mouth.call("RANDOMKEY") == b"a"
    assert stat(mouth, "expired_keys") == before
    mouth.call("CLIENT", "UNPAUSE")
    assert mouth.call("RANDOMKEY") is None
    assert stat(mouth, "expired_keys") == before + 1
