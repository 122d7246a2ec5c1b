"""The base of an AOF: the snapshot as commands or as RDB, its index, one slot of it alone."""

import os
import pickle
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from engine.hashing import slot_of
from rdbdata import digest, fill
from resp import Parser, Raw, encode
from servers import ROOT, Server
from test_snapshot import Writers, check, prepare, wait_saved

from persist import commands_out, extents

pytestmark = pytest.mark.usefixtures("slotring_only")
OPTIONS = ("--enable-debug-command", "yes", "--enable-protected-configs", "yes", "--io-threads", "2")
SERVER_OPTIONS = list(OPTIONS)
DRIVER = str(Path(__file__).with_name("base_server.py"))
FORMS = ("commands", "rdb")
FOREVER_MS = 4_000_000_000_000
ALL_SENT = b"all of it was sent"


@pytest.fixture
def base_server(tmp_path):
    """Starts servers whose BGSAVE writes a base: base_server("commands")."""
    started = []

    def start(form: str, *options: str) -> Server:
        command = [sys.executable, "-X", "gil=0", "-B", DRIVER, form]
        started.append(Server(tmp_path / f"base{len(started)}", *OPTIONS, *options, command=command))
        return started[-1].start()

    try:
        yield start
        for server in started:
            server.stop()
    finally:
        for server in started:
            server.kill()


def fill_odd(client) -> None:
    """What `fill` has not: extremes of each type."""
    call = client.execute_command
    call("SET", b"\x00bin\r\n\xff", b"\r\n$3\r\n\x00")
    call("SET", "", "empty key")
    call("SET", "empty", "")
    for key, value in (("int", "-9223372036854775808"), ("zero", "0"), ("padded", "007")):
        call("SET", key, value)
    call("RPUSH", "l64", *range(64))
    call("RPUSH", "l65", *range(-5, 60))
    call("RPUSH", "lplain", "a" * 20000, "b", "c" * 20000)
    call("SADD", "sint", *range(-10, 54), 1 << 40)
    call("SADD", "smixed", "a", "1", "x" * 70)
    scores = ("inf", "-inf", "-0.0", "0", "1e21", "1e18", "0.1", "3", "-17.25", "1e-7", "123456789012")
    call("ZADD", "zsmall", *[word for at, score in enumerate(scores) for word in (score, f"m{at}")])
    call("ZADD", "zlarge", *[word for at in range(300) for word in (at * 1e15, f"member{at}")])
    call("HSET", "hsmall", "f", "v", "1", "2")
    call("HSET", "httl", *[word for at in range(200) for word in (f"f{at}", at)])
    call("HPEXPIREAT", "httl", FOREVER_MS + 5, "FIELDS", 3, "f1", "f2", "f150")
    call("HSETEX", "hallttl", "PXAT", FOREVER_MS, "FIELDS", 2, "a", "x" * 300, "b", "")
    call("PEXPIREAT", "httl", FOREVER_MS + 7)
    fill_streams(client)


def fill_streams(client) -> None:
    """Streams: no entries, none left, groups that were read in part, consumers with nothing."""
    call = client.execute_command
    call("XGROUP", "CREATE", "xempty", "g", "$", "MKSTREAM")
    for at in range(1, 200):
        call("XADD", "xmany", f"{at}-{at % 3}", *(("f", at) if at % 5 else ("g", "x", "h", "y")))
    call("XDEL", "xmany", "7-1", "199-1")
    call("XADD", "xgone", "5-5", "a", "b")
    call("XDEL", "xgone", "5-5")
    call("XGROUP", "CREATE", "xmany", "one", "0")
    call("XGROUP", "CREATE", "xmany", "two", "50-1", "ENTRIESREAD", "49")
    call("XGROUP", "CREATE", "xmany", "nobody", "$")
    call("XREADGROUP", "GROUP", "one", "ann", "COUNT", "10", "STREAMS", "xmany", ">")
    call("XREADGROUP", "GROUP", "one", "bob", "COUNT", "3", "STREAMS", "xmany", ">")
    call("XREADGROUP", "GROUP", "one", "ann", "COUNT", "3", "STREAMS", "xmany", "0")
    call("XGROUP", "CREATECONSUMER", "xmany", "two", "idle")
    call("XACK", "xmany", "one", "1-1", "2-2")


def commands(data: bytes) -> list:
    """The commands in some RESP; all of it is whole."""
    parser = Parser()
    parser.feed(data)
    found = []
    while parser.pending:
        found.append(parser.next())
        assert isinstance(found[-1], list)
    return found


def replay(data: bytes, port: int) -> None:
    """Send commands to a server; none may fail."""
    with Raw(port, 60) as raw:
        sender = threading.Thread(target=raw.send, args=(data + encode("ECHO", ALL_SENT),))
        sender.start()
        replies = bytearray()
        while not replies.endswith(ALL_SENT + b"\r\n"):
            replies += raw.socket.recv(1 << 18)
        sender.join()
    assert not [line for line in replies.split(b"\r\n") if line.startswith(b"-")]


def saved(server, client) -> tuple[Path, extents.Index]:
    """The base and its index after a BGSAVE."""
    client.bgsave()
    wait_saved(client)
    index = extents.read_index(server.folder / "base.idx")
    assert index is not None
    return server.folder / "dump.rdb", index


def state(client) -> dict:
    """What DEBUG DIGEST does not see."""
    found = {}
    for key in sorted(client.keys()):
        kind = client.type(key)
        found[key] = [kind, client.pexpiretime(key)]
        if kind == b"hash":
            fields = sorted(client.hkeys(key))
            found[key] += zip(fields, client.execute_command("HPEXPIRETIME", key, "FIELDS", len(fields), *fields),
                              strict=True)
        elif kind == b"stream":
            found[key].append(stream_state(client, key))
    return found


def pairs(flat: list) -> dict:
    """A map of RESP2."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def stream_state(client, key) -> list:
    """A stream's figures and groups without times of consumers, and without what was deleted and is pending."""
    info = pairs(client.execute_command("XINFO", "STREAM", key, "FULL", "COUNT", 0))
    there = {item[0] for item in client.execute_command("XRANGE", key, "-", "+")}
    found = [info[name] for name in (b"length", b"last-generated-id", b"max-deleted-entry-id", b"entries-added",
                                     b"recorded-first-entry-id")]
    for group in map(pairs, info[b"groups"]):
        found.append([group[name] for name in (b"name", b"last-delivered-id", b"entries-read", b"lag")])
        found.append([pairs(consumer)[b"name"] for consumer in group[b"consumers"]])
        found.append([(item["message_id"], item["consumer"], item["times_delivered"])
                      for item in client.xpending_range(key, group[b"name"], "-", "+", 10000)
                      if item["message_id"] in there])
    return found


# ---- what is in it

@pytest.mark.parametrize("depth", [0, 1])
def test_commands_make_the_data_again(base_server, client, server, depth):
    source = base_server("commands", "--list-compress-depth", str(depth))
    with source.connect() as filled:
        fill(filled)
        fill_odd(filled)
        path, index = saved(source, filled)
        assert index.form == extents.COMMANDS and index.head_bytes == 0
        replay(path.read_bytes(), server.port)
        assert digest(client) == digest(filled)
        assert state(client) == state(filled)


def test_words(base_server):
    """What is written for each type, to the byte."""
    source = base_server("commands")
    with source.connect() as client:
        for words in (("SET", "{t}s", "v"), ("PEXPIREAT", "{t}s", FOREVER_MS), ("RPUSH", "{t}l", *range(65)),
                      ("HSETEX", "{t}h", "PXAT", FOREVER_MS, "FIELDS", "1", "f", "v"), ("HSET", "{t}h", "g", "w"),
                      ("ZADD", "{t}z", "1e18", "m"), ("XGROUP", "CREATE", "{t}x", "g", "$", "MKSTREAM")):
            client.execute_command(*words)
        path, index = saved(source, client)
    assert [row.slot for row in index.rows()] == [slot_of(b"t")]
    found: dict = {}
    for words in commands(path.read_bytes()):
        found.setdefault(words[1], []).append(b" ".join([words[0], *words[2:]]).decode())
    assert found == {
        b"0": ["SELECT"],
        b"{t}s": ["SET v", f"PEXPIREAT {FOREVER_MS}"],
        b"{t}l": ["RPUSH " + " ".join(map(str, range(64))), "RPUSH 64"],
        b"{t}h": [f"HSETEX PXAT {FOREVER_MS} FIELDS 1 f v", "HMSET g w"],
        b"{t}z": ["ZADD 1e+18 m"],
        b"{t}x": ["XADD MAXLEN 0 0-1 x y", "XSETID 0-0 ENTRIESADDED 0 MAXDELETEDID 0-0"],
        b"CREATE": ["XGROUP {t}x g 0-0 ENTRIESREAD -1"],
    }


def test_the_base_as_rdb(base_server, client, server):
    source = base_server("rdb")
    with source.connect() as filled:
        fill(filled)
        fill_odd(filled)
        path, index = saved(source, filled)
        assert index.form == extents.RDB
        assert b"\xfa\x08aof-base\xc0\x01" in path.read_bytes()
        (server.folder / "dump.rdb").write_bytes(path.read_bytes())
        client.execute_command("DEBUG", "RELOAD", "NOSAVE")
        assert digest(client) == digest(filled)
        assert state(client) == state(filled)


def test_an_extent_of_rdb_alone(base_server, client, server):
    source = base_server("rdb")
    with source.connect() as filled:
        fill(filled)
        filled.execute_command("SELECT", 5)
        path, index = saved(source, filled)
    for row in index.rows()[::40]:
        (server.folder / "dump.rdb").write_bytes(
            extents.as_rdb(extents.extent_payload(path, index, row.slot)))
        client.execute_command("DEBUG", "RELOAD", "NOSAVE")
        keys = [key for db in (0, 5) for key in (client.select(db), client.keys())[1]]
        client.select(0)
        assert len(keys) == row.keys and {slot_of(key) for key in keys} == {row.slot}
        client.flushall()


# ---- the index

@pytest.mark.parametrize("form", FORMS)
def test_the_index_under_load(base_server, own_server, form):
    """Pieces come from the saver and from commands; each is found, and all of it is one moment."""
    source, other = base_server(form), own_server(*OPTIONS)
    with source.connect() as client, other.connect() as reader:
        prepare(client)
        with Writers(source):
            time.sleep(0.1)
            path, index = saved(source, client)
        extents.verify(path, index)
        rows = index.rows()
        assert sum(row.length for row in rows) + index.head_bytes + (9 if form == "rdb" else 0) == path.stat().st_size
        assert [row.offset for row in rows] != sorted(row.offset for row in rows), "commands wrote nothing"
        if form == "rdb":
            (other.folder / "dump.rdb").write_bytes(path.read_bytes())
            reader.execute_command("DEBUG", "RELOAD", "NOSAVE")
        else:
            replay(path.read_bytes(), other.port)
        check(reader)
        assert sum(row.keys for row in rows) == reader.dbsize()


@pytest.mark.parametrize("form", FORMS)
def test_commands_write_to_the_file_themselves(base_server, form):
    """SWAPDB writes all that is left, more than the side buffers may hold."""
    source = base_server(form, "--rdb-key-save-delay", "200", "--rdbcompression", "no")
    with source.connect() as client:
        client.execute_command("DEBUG", "POPULATE", 30000, "filler", 700)
        client.bgsave()
        time.sleep(0.2)
        client.swapdb(0, 1)
        wait_saved(client)
        assert client.dbsize() == 0
    path, index = source.folder / "dump.rdb", extents.read_index(source.folder / "base.idx")
    assert index is not None and index.base_bytes > 20_000_000
    extents.verify(path, index)
    assert sum(row.keys for row in index.rows()) == 30000
    select = {"rdb": b"\xfe\x00", "commands": encode("SELECT", 0)}[form]
    assert all(extents.extent_payload(path, index, row.slot).startswith(select) for row in index.rows()[::500])


def test_one_slot(base_server):
    """A slot's commands from memory and from the disk are the same, and about no other slot."""
    source = base_server("commands")
    with source.connect() as client:
        fill(client)
        fill_odd(client)
        path, index = saved(source, client)
        total = sum(client.execute_command("SELECT", db) and client.dbsize() for db in (0, 5))
    payloads = pickle.loads((source.folder / "payloads").read_bytes())
    assert set(payloads) == {row.slot for row in index.rows()}
    for slot, (payload, tail) in payloads.items():
        assert extents.extent_payload(path, index, slot) == payload and tail == 0
        words = commands(payload)
        assert words[0][0] == b"SELECT"
        assert {slot_of(found[2 if found[0] == b"XGROUP" else 1]) for found in words if found[0] != b"SELECT"} == {slot}
    assert sum(row.keys for row in index.rows()) == total
    absent = next(slot for slot in range(16384) if slot not in payloads)
    assert index.row(absent) is None and extents.extent_payload(path, index, absent) == b""


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_named(base_server, form, tmp_path):
    source = base_server(form)
    with source.connect() as client:
        fill(client)
        path, index = saved(source, client)
    whole = path.read_bytes()
    damaged = tmp_path / "damaged"
    rows = sorted(index.rows(), key=lambda row: row.offset)

    def damage(at: int) -> extents.Damage:
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:])
        with pytest.raises(extents.Damage) as caught:
            extents.verify(damaged, index)
        return caught.value

    extents.verify(path, index)
    for row in rows[::20]:
        for at in (row.offset, row.offset + row.length // 2, row.offset + row.length - 1):
            found = damage(at)
            assert (found.slot, found.offset, found.length) == (row.slot, row.offset, row.length)
            assert f"{damaged}: slot {row.slot}, offset {row.offset}, {row.length} bytes" in str(found)
            with pytest.raises(extents.Damage, match=f"slot {row.slot}, offset {row.offset}"):
                extents.extent_payload(damaged, index, row.slot)
    if form == "rdb":
        assert damage(20).slot == extents.OUTSIDE
        assert damage(len(whole) - 1).offset == len(whole) - 9
        assert damage(len(whole) - 9).slot == extents.OUTSIDE
    last = rows[-1]
    damaged.write_bytes(whole[:last.offset + 1])
    with pytest.raises(extents.Damage, match=f"slot {last.slot},"):
        extents.verify(damaged, index)
    damaged.write_bytes(whole + b"x")
    with pytest.raises(extents.Damage, match="end is damaged"):
        extents.verify(damaged, index)
    check_index_damage(index.raw, damaged)


def check_index_damage(raw: bytes, path: Path) -> None:
    """Any byte of the index."""
    assert extents.read_index(path.with_name("absent")) is None
    for at in (0, 8, 17, 40, 44, 60, len(raw) - 1):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1:])
        with pytest.raises(extents.Damage):
            extents.read_index(path)
    for length in (0, 10, 48, len(raw) - 1, len(raw) - 32):
        path.write_bytes(raw[:length])
        with pytest.raises(extents.Damage):
            extents.read_index(path)
    assert struct.unpack_from("<Q", raw, len(raw) - 8)[0] == extents.checksum(raw[:-8])


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_store(base_server, form):
    source = base_server(form)
    with source.connect() as client:
        path, index = saved(source, client)
    assert index.rows() == [] and path.stat().st_size == index.base_bytes
    extents.verify(path, index)


def test_what_has_expired_goes_out_and_comes_back_gone(client, server):
    """A loader or the target of a slot reads times that have passed."""
    client.set("k", "v")
    replay(b"".join(encode(*words) for words in (
        ("HSETEX", "h", "PXAT", 1, "FIELDS", 1, "f", "v"), ("PEXPIREAT", "h", FOREVER_MS),
        ("HMSET", "h2", "f", "v"), ("HSETEX", "h2", "PXAT", 1, "FIELDS", 1, "g", "v"),
        ("PEXPIREAT", "k", 1))), server.port)
    assert client.keys() == [b"h2"] and client.hkeys("h2") == [b"f"]


def test_functions_as_commands():
    code = b"#!lua name=lib\nserver.register_function('f', function() return 1 end)"
    short = b"\xf5" + bytes([len(b"#!x")]) + b"#!x"
    long = b"\xf5" + bytes([0x40, len(code)]) + code
    assert commands(commands_out.functions(short + long)) == [[b"FUNCTION", b"LOAD", b"#!x"],
                                                              [b"FUNCTION", b"LOAD", code]]
    assert commands_out.functions(b"") == b"" and commands_out.functions(b"\xf5\x05ab") == b""


IN_PROCESS = """
import os, sys
from engine import store
from persist import extents, snapshot
store.create(16, 16)
for path, beside, expected in ((b"one", b"", True), (b"two", b"absent/two.idx", False), (b"absent/three", b"", False)):
    snapshot.begin(False, b"#TS:1\\r\\n", 0, 0, commands=True, index=True)
    number, stopped, made, indexed = snapshot.run(path, True, beside)
    assert indexed == expected, (path, number, stopped, made, indexed)
    assert (number, made) == ((0, True) if path != b"absent/three" else (2, False))
    assert snapshot.figures()["index_error"] == (2 if path == b"two" else 0)
index = extents.read_index("one.idx")
assert index.head_bytes == index.base_bytes == 7
extents.verify("one", index)
assert sorted(os.listdir()) == ["one", "one.idx", "two"]
assert snapshot.slot_payload(16383) == (b"", 0)
store.hold_all()
assert snapshot.slot_payload(0, held=True) == (b"", 0)
store.let_go()
"""


def test_an_index_that_cannot_be_written(tmp_path):
    """The base is there, and what is said of the index is true."""
    subprocess.run([sys.executable, "-X", "gil=0", "-B", "-c", IN_PROCESS], cwd=tmp_path, check=True,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})
