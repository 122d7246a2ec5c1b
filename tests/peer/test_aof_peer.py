"""A real Valkey loads our AOF directory and our RDB file, and we load its: every key, time to live, field's time to
live, stream group and encoding is the same. The slow form has a million keys."""

import random
import shutil
import time
from collections.abc import Iterator

import pytest
from rdbdata import digest, fill
from resp import Error, Raw
from servers import Server
from test_aof_base import fill_odd, pairs

pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("slotring_only")]
OPTIONS = ("--enable-debug-command", "yes", "--auto-aof-rewrite-percentage", "0")
PATIENCE_S = 600                   # a digest of a million keys
BATCH = 2000
FOREVER_MS = 4_000_000_000_000
DATABASES = (0, 5)
PARTS = ("appendonlydir", "dump.rdb")


def words_of(key: int, rng: random.Random) -> Iterator[tuple]:
    """The commands that make a key: seven of ten are strings, the others of all types, small and large."""
    kind = key % 20
    if kind < 14:
        yield ("SET", f"s:{key}", rng.choice((key, f"value {key}", "x" * rng.randrange(150))))
        if kind < 3:
            yield ("PEXPIREAT", f"s:{key}", FOREVER_MS + key)
        return
    many = rng.randrange(130, 160) if key % 1000 < 20 else rng.randrange(1, 12)
    items = range(many)
    if kind == 14:
        yield ("RPUSH", f"l:{key}", *(f"element {item}" * (1 + item % 3) for item in items))
        yield ("LPOP", f"l:{key}") if many > 1 else ("LPUSH", f"l:{key}", "x")
    elif kind == 15:
        yield ("SADD", f"i:{key}", *(item * key for item in items))
    elif kind == 16:
        yield ("SADD", f"m:{key}", *(f"member {item}" for item in items))
    elif kind == 17:
        yield ("ZADD", f"z:{key}", *(word for item in items for word in (item * 1.25 - 3, f"member {item}")))
        yield ("PEXPIREAT", f"z:{key}", FOREVER_MS - key)
    elif kind == 18:
        yield ("HSET", f"h:{key}", *(word for item in items for word in (f"field {item}", item)))
        if key % 3:
            yield ("HPEXPIREAT", f"h:{key}", FOREVER_MS + key, "FIELDS", 1, "field 0")
    else:
        yield from stream_words(key, many)


def stream_words(key: int, many: int) -> Iterator[tuple]:
    """A stream with a group that has read some of it."""
    name = f"x:{key}"
    for item in range(many):
        yield ("XADD", name, f"{item + 1}-1", "a", item, "b", "text")
    yield ("XGROUP", "CREATE", name, "group", "0")
    yield ("XREADGROUP", "GROUP", "group", "ann", "COUNT", "3", "STREAMS", name, ">")
    if many > 3:  # a consumer that finds nothing is not logged, by neither server
        yield ("XREADGROUP", "GROUP", "group", "bob", "COUNT", "1", "STREAMS", name, ">")
    yield ("XACK", name, "group", "1-1")
    yield ("XDEL", name, "2-1")


def make(server: Server, first: int, after: int) -> None:
    """Keys of these numbers, of all types."""
    rng = random.Random(first)
    with Raw(server.port, 120) as raw:
        batch: list = []
        for key in range(first, after):
            batch += words_of(key, rng)
            if len(batch) >= BATCH or key == after - 1:
                assert not [reply for reply in raw.pipeline(batch) if isinstance(reply, Error)]
                batch = []


def asked(kind: bytes, key: bytes) -> list:
    """What is asked about a key besides its value, which the digest tells."""
    found: list = [("PEXPIRETIME", key), ("OBJECT", "ENCODING", key)]
    if kind == b"stream":
        found.append(("XINFO", "STREAM", key, "FULL", "COUNT", 0))
    return found


def told(raw: Raw) -> dict:
    """Of each key: type, time to live, encoding; of a hash its fields' times, of a stream its figures and groups."""
    found: dict = {}
    for db in DATABASES:
        raw.call("SELECT", db)
        for kind in (b"string", b"list", b"set", b"zset", b"hash", b"stream"):
            cursor = b"0"
            while True:
                cursor, keys = raw.call("SCAN", cursor, "COUNT", BATCH, "TYPE", kind)
                found |= told_of(raw, db, kind, keys)
                if cursor == b"0":
                    break
    raw.call("SELECT", 0)
    return found


def told_of(raw: Raw, db: int, kind: bytes, keys: list) -> dict:
    """As `told`, of keys of one type."""
    step = len(asked(kind, b""))
    replies = raw.pipeline([words for key in keys for words in asked(kind, key)])
    found = {(db, key): [kind, *replies[at * step:at * step + 2]] for at, key in enumerate(keys)}
    if kind == b"stream":
        for at, key in enumerate(keys):
            found[db, key].append(stream_facts(replies[at * step + 2]))
    elif kind == b"hash":
        fields = [sorted(names) for names in raw.pipeline([("HKEYS", key) for key in keys])]
        times = raw.pipeline([("HPEXPIRETIME", key, "FIELDS", len(names), *names)
                              for key, names in zip(keys, fields, strict=True)])
        for key, names, when in zip(keys, fields, times, strict=True):
            found[db, key].append(list(zip(names, when, strict=True)))
    return found


def stream_facts(reply: list) -> list:
    """XINFO STREAM FULL without what neither server logs: when consumers were seen, what was read again."""
    info = pairs(reply)
    facts = [info[name] for name in (b"length", b"last-generated-id", b"max-deleted-entry-id", b"entries-added",
                                     b"recorded-first-entry-id")]
    for group in map(pairs, info[b"groups"]):
        facts.append([group[name] for name in (b"name", b"last-delivered-id", b"entries-read", b"lag", b"pel-count")])
        facts.append([tuple(entry[:2]) for entry in group[b"pending"]])
        facts += [(pairs(consumer)[b"name"], pairs(consumer)[b"pel-count"]) for consumer in group[b"consumers"]]
    return facts


def rewrite(client) -> None:
    """BGREWRITEAOF, to its end."""
    client.bgrewriteaof()
    while client.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.02)
    assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"


def written(server: Server, count: int) -> tuple[bytes, dict]:
    """A server with a base, an increment and an RDB file of the same data, stopped; what is in it."""
    make(server, 0, count // 2)
    with server.connect(socket_timeout=PATIENCE_S) as client:
        client.config_set("save", "")
        rewrite(client)
        fill(client)
        fill_odd(client)
    make(server, count // 2, count)
    with server.connect(socket_timeout=PATIENCE_S) as client:
        client.save()
        with server.raw(PATIENCE_S) as raw:
            found = digest(client), told(raw)
    server.stop()
    return found


def loads(reader: Server, source: Server, appendonly: str, expected: tuple[bytes, dict]) -> float:
    """Another server begins with the files; returns how long it took."""
    for part in PARTS:
        shutil.rmtree(reader.folder / part, ignore_errors=True)
        (reader.folder / part).unlink(missing_ok=True)
    reader.folder.mkdir(parents=True, exist_ok=True)
    if appendonly == "yes":
        shutil.copytree(source.folder / "appendonlydir", reader.folder / "appendonlydir")
    else:
        shutil.copy(source.folder / "dump.rdb", reader.folder / "dump.rdb")
    reader.argv += ["--appendonly", appendonly]
    began_s = time.monotonic()
    reader.start()
    took_s = time.monotonic() - began_s
    with reader.connect(socket_timeout=PATIENCE_S) as client, reader.raw(PATIENCE_S) as raw:
        assert digest(client) == expected[0]
        found = told(raw)
        assert found.keys() == expected[1].keys()
        assert not [(key, found[key], was) for key, was in expected[1].items() if found[key] != was][:3]
    reader.stop()
    return took_s


@pytest.mark.parametrize("count", [
    6000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(5000)])])
@pytest.mark.parametrize("ours_first", [True, False], ids=["ours", "theirs"])
def test_the_other_loads_all_of_it(tmp_path, valkey_binary, ours_first, count):
    ours = Server(tmp_path / "ours", *OPTIONS, "--io-threads", "2")
    theirs = Server(tmp_path / "theirs", *OPTIONS, command=[valkey_binary])
    source, reader = (ours, theirs) if ours_first else (theirs, ours)
    source.argv += ["--appendonly", "yes"]
    try:
        source.start()
        expected = written(source, count)
        assert len(expected[1]) > count
        for appendonly in ("yes", "no"):
            took_s = loads(reader, source, appendonly, expected)
            print(f"{len(expected[1]):,} keys, {'AOF' if appendonly == 'yes' else 'RDB'} of {source.folder.name} "
                  f"loaded by {reader.folder.name} in {took_s:.1f} s")
    finally:
        ours.kill()
        theirs.kill()
