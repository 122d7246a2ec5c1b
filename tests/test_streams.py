"""Streams by themselves: waiting readers, DUMP payloads that were tampered with, memory that comes back."""

import random
import struct
import threading
import time

import pytest
import redis
from resp import Error

SERVER_OPTIONS = ["--enable-debug-command", "yes"]
ID_1, ID_2 = (struct.pack(">QQ", 77777777777, number) for number in (1, 2))


@pytest.fixture
def raw(server):
    with server.raw() as raw:
        raw.call("FLUSHALL")
        yield raw


def waiting(raw, count):
    """Wait until so many clients are blocked."""
    for _ in range(500):
        if b"blocked_clients:%d\r\n" % count in raw.call("INFO", "clients"):
            return
        time.sleep(0.01)
    raise AssertionError("clients do not wait")


def test_xread_waits_for_entries_after_the_last_one(server, raw):
    raw.call("XADD", "s", "1-1", "f", "v")
    with server.raw() as reader, server.raw() as other:
        reader.send(b"*6\r\n$5\r\nXREAD\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$1\r\ns\r\n$1\r\n$\r\n")
        other.send(b"*8\r\n$5\r\nXREAD\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$1\r\ns\r\n$1\r\nt\r\n"
                   b"$1\r\n$\r\n$1\r\n$\r\n")
        waiting(raw, 2)
        assert raw.call("XDEL", "s", "1-1") == 1
        assert raw.call("XADD", "s", "2-1", "f", "w") == b"2-1"
        expected = [[b"s", [[b"2-1", [b"f", b"w"]]]]]
        assert reader.reply() == expected and other.reply() == expected
        assert reader.call("XREAD", "BLOCK", "20", "STREAMS", "s", "$") is None


def test_each_entry_goes_to_one_waiting_consumer(server, raw):
    raw.call("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    readers = [server.raw() for _ in range(5)]
    try:
        for at, reader in enumerate(readers):
            name = b"c%d" % at
            reader.send(b"*9\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$1\r\ng\r\n$2\r\n" + name + b"\r\n$5\r\nBLOCK\r\n"
                        b"$1\r\n0\r\n$7\r\nSTREAMS\r\n$1\r\ns\r\n$1\r\n>\r\n")
            waiting(raw, at + 1)
        for at in range(3):
            raw.call("XADD", "s", f"{at + 1}-1", "f", "v")
            assert readers[at].reply() == [[b"s", [[b"%d-1" % (at + 1), [b"f", b"v"]]]]]
        raw.call("XGROUP", "DESTROY", "s", "g")
        for reader in readers[3:]:
            assert str(reader.reply()).startswith("NOGROUP")
    finally:
        for reader in readers:
            reader.close()


@pytest.mark.parametrize("change", [("DEL", "s"), ("SET", "s", "x"), ("RENAME", "s", "t"), ("FLUSHALL",)])
def test_a_waiting_consumer_hears_that_its_stream_is_gone(server, raw, change):
    raw.call("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    with server.raw() as reader:
        reader.send(b"*9\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$1\r\ng\r\n$1\r\nc\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n"
                    b"$7\r\nSTREAMS\r\n$1\r\ns\r\n$1\r\n>\r\n")
        waiting(raw, 1)
        raw.call(*change)
        assert str(reader.reply()).startswith("WRONGTYPE" if change[0] == "SET" else "NOGROUP")


def test_no_waiting_in_a_transaction(raw):
    raw.pipeline([("MULTI",), ("XREAD", "BLOCK", "0", "STREAMS", "s", "$"), ("XADD", "s", "1-1", "f", "v")])
    assert raw.call("EXEC") == [None, b"1-1"]


def fill(raw):
    rng = random.Random(5)
    raw.call("CONFIG", "SET", "stream-node-max-entries", "7")
    for ms in range(1, 60):
        usual = rng.random() < 0.8
        pair = (b"field", b"%d" % rng.randrange(10**6)) if usual else (b"other", b"v" * rng.randrange(80))
        raw.call("XADD", "s", f"{ms}-{rng.randrange(9)}", *pair)
    raw.call("XDEL", "s", *(f"{ms}-{seq}" for ms in range(1, 60, 3) for seq in range(9)))
    for group in ("g", "h"):
        raw.call("XGROUP", "CREATE", "s", group, "0")
        for consumer in "abc":
            raw.call("XREADGROUP", "GROUP", group, consumer, "COUNT", "5", "STREAMS", "s", ">")
    raw.call("CONFIG", "SET", "stream-node-max-entries", "100")


USES = [("XRANGE", "t", "-", "+"), ("XREVRANGE", "t", "+", "-"), ("XINFO", "STREAM", "t", "FULL", "COUNT", "0"),
        ("XINFO", "STREAM", "t"), ("XPENDING", "t", "g", "-", "+", "100"), ("COPY", "t", "u", "REPLACE"),
        ("XREADGROUP", "GROUP", "g", "a", "STREAMS", "t", "0"), ("XREADGROUP", "GROUP", "g", "z", "STREAMS", "t", ">"),
        ("XADD", "t", "*", "field", "v"), ("XADD", "t", "18446744073709551614-1", "f", "v"),
        ("XAUTOCLAIM", "t", "h", "z", "0", "0"), ("XCLAIM", "t", "g", "q", "0", "5-1", "FORCE"),
        ("XDEL", "t", "1-1", "20-1", "20-2", "20-3"), ("XGROUP", "DELCONSUMER", "t", "g", "a"),
        ("XTRIM", "t", "MAXLEN", "9"), ("XTRIM", "t", "MINID", "50-3"), ("XSETID", "t", "99999-1"), ("DUMP", "t"),
        ("DEBUG", "DIGEST-VALUE", "t"), ("MEMORY", "USAGE", "t"), ("XTRIM", "t", "MAXLEN", "0"), ("DEL", "t", "u")]


def test_tampered_payloads_are_refused_or_harmless(raw):
    """The checksum is left out of account (DEBUG), so that the checks behind it are reached."""
    fill(raw)
    raw.call("CONFIG", "SET", "rdbcompression", "no")
    whole = raw.call("DUMP", "s")
    raw.call("CONFIG", "SET", "rdbcompression", "yes")
    if isinstance(raw.call("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "1"), Error):
        pytest.skip("checksums cannot be skipped")
    rng = random.Random(9)
    taken = 0
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(len(data) - 10)
            kind = rng.random()
            if kind < 0.6:
                data[at] = rng.choice([rng.randrange(256), data[at] ^ 1 << rng.randrange(8), 0, 255])
            elif kind < 0.8:
                del data[at : at + rng.randrange(1, 6)]
            else:
                data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 6)))
        if raw.call("RESTORE", "t", 0, bytes(data)) == b"OK":
            taken += 1
            raw.pipeline(USES)
    assert taken > 10
    assert raw.call("RESTORE", "t", 0, whole) == b"OK"
    assert raw.call("DEBUG", "DIGEST-VALUE", "s") == raw.call("DEBUG", "DIGEST-VALUE", "t")


def used(raw):
    info = raw.call("INFO", "memory").decode()
    return int(info.split("used_memory_dataset:")[1].split("\r\n")[0])


def test_memory_comes_back(raw):
    for _ in range(2):
        raw.call("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
        raw.pipeline([("XADD", "s", f"{ms}-1", "field", f"value {ms}") for ms in range(1, 20001)])
        for consumer in range(40):
            raw.call("XREADGROUP", "GROUP", "g", f"c{consumer}", "COUNT", "500", "STREAMS", "s", ">")
        full = raw.call("MEMORY", "USAGE", "s", "SAMPLES", "0")
        assert 20000 * 80 < full < 20000 * 120
        assert raw.call("XACK", "s", "g", *(f"{ms}-1" for ms in range(1, 19001))) == 19000
        assert raw.call("XTRIM", "s", "MINID", "19001") == 19000
        left = raw.call("MEMORY", "USAGE", "s", "SAMPLES", "0")
        assert left < full / 15
        raw.call("COPY", "s", "t")
        raw.call("DEL", "s", "t")
    assert raw.call("DBSIZE") == 0


def test_many_consumers_stay_in_order(raw):
    names = [f"c{number * 7919 % 3001}" for number in range(3001)]
    raw.call("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    raw.pipeline([("XGROUP", "CREATECONSUMER", "s", "g", name) for name in names])
    assert raw.call("XGROUP", "CREATECONSUMER", "s", "g", "c5") == 0
    shown = [one[1].decode() for one in raw.call("XINFO", "CONSUMERS", "s", "g")]
    assert shown == sorted(names)
    raw.pipeline([("XGROUP", "DELCONSUMER", "s", "g", name) for name in names[:2900]])
    shown = [one[1].decode() for one in raw.call("XINFO", "CONSUMERS", "s", "g")]
    assert shown == sorted(names[2900:])


def test_readers_and_writers_at_once(server, raw):
    """Several consumers read and acknowledge while others add: every entry is delivered exactly once."""
    raw.call("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    total, seen, lock = 2000, [], threading.Lock()

    def add():
        with server.raw() as one:
            for _ in range(total // 20):
                one.pipeline([("XADD", "s", "*", "f", "v")] * 10)

    def read(name):
        with server.raw() as one:
            while True:
                reply = one.call("XREADGROUP", "GROUP", "g", name, "COUNT", "7", "BLOCK", "600", "STREAMS", "s", ">")
                if reply is None:
                    return
                ids = [entry[0] for entry in reply[0][1]]
                assert one.call("XACK", "s", "g", *ids) == len(ids)
                with lock:
                    seen.extend(ids)

    threads = [threading.Thread(target=add) for _ in range(2)]
    threads += [threading.Thread(target=read, args=(f"c{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(set(seen)) == total
    assert raw.call("XPENDING", "s", "g")[0] == 0


@pytest.mark.usefixtures("slotring_only")
@pytest.mark.parametrize(("change", "reason"), [
    (lambda raw: raw.replace(b"bobby", b"alice"), "Duplicate stream consumer detected"),
    (lambda raw: raw[:raw.rindex(ID_2)] + ID_1 + raw[raw.rindex(ID_2) + 16:], "Duplicated consumer PEL entry"),
    (lambda raw: raw.replace(ID_2, ID_1, 1), "Duplicated global PEL entry"),
])
def test_the_log_says_why_a_stream_is_refused(own_server, change, reason):
    server = own_server("--enable-debug-command", "yes", "--loglevel", "verbose")
    with server.connect() as client:
        client.xgroup_create("s", "g", mkstream=True)
        for at in (1, 2, 3):
            client.xadd("s", {"f": "v"}, id=f"77777777777-{at}")
        client.xreadgroup("g", "alice", {"s": ">"}, count=2)
        client.xreadgroup("g", "bobby", {"s": ">"}, count=1)
        client.execute_command("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", 1)
        with pytest.raises(redis.ResponseError, match="Bad data format"):
            client.restore("t", 0, change(client.dump("s")))
        assert f"integrity check failed: {reason}" in server.log_path.read_text()
