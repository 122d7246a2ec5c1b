"""The loader of append-only files: whole files, files cut at any byte, damaged ones, expired keys, RDB preambles."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PAST_MS = 1_000_000_000_000


def words(*parts: object) -> bytes:
    """A command as the file has it."""
    raw = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in raw)


class Child:
    """A process that loads files."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.process = subprocess.Popen([sys.executable, "-X", "gil=0", str(Path(__file__).parent / "aof_child.py")],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, **request: str) -> object:
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the loader has crashed: {self.process.wait()}"
        return json.loads(line)

    def load(self, data: bytes) -> dict:
        (self.folder / "a.aof").write_bytes(data)
        return self.ask(load=str(self.folder / "a.aof"))


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    loader = Child(tmp_path_factory.mktemp("aof"))
    yield loader
    loader.process.stdin.close()
    loader.process.wait(20)


COMMANDS = [
    words("SELECT", 0), words("SET", "a", "1"), words("set", "b", "x" * 70), words("INCR", "a"),
    words("RPUSH", "l", *range(40)), words("LPOP", "l"), words("SADD", "s", 1, 2, 3), words("SADD", "s", "word"),
    words("HSET", "h", "f", "v", "g", "w"), words("HDEL", "h", "g"), words("ZADD", "z", 1, "m", 2.5, "n"),
    words("XADD", "x", "1-1", "f", "v"), words("XGROUP", "CREATE", "x", "g", "0"), words("PEXPIREAT", "b", 1 << 42),
    words("SET", "", b"\x00\r\n\xff"), words("APPEND", "b", b"*1\r\n$4\r\nPING\r\n"), words("DEL", "nothing", "a"),
    words("SELECT", 3), words("MSET", *sum(([f"k{i}", i] for i in range(20)), [])), words("RENAME", "k1", "k21"),
    words("COPY", "k2", "k22", "DB", 0), words("PFADD", "p", 1, 2, 3), words("SETBIT", "bits", 99, 1),
    words("GEOADD", "geo", 1, 2, "here"),
]
MIXED = (COMMANDS[:8] + [b"#TS:1700000000\r\n"] + COMMANDS[8:12]
         + [words("MULTI") + words("SET", "t", 1) + words("INCR", "t") + words("SELECT", 0) + words("DEL", "b")
            + words("EXEC")] + COMMANDS[12:] + [b"# a note\r\n", words("SWAPDB", 0, 3)])


def test_a_whole_file(child):
    found = child.load(b"".join(MIXED))
    assert found["outcome"] == "ok"
    assert found["errors"] == 0, found["critical"]
    assert found["valid"] == found["offset"] == found["size"] == sum(map(len, MIXED))
    assert found["commands"] == len(COMMANDS) + 5
    assert found["told"][-1] == found["size"]
    assert found["db"] == 3
    assert found["digest"] != child.load(words("SELECT", 0))["digest"]
    assert child.load(b"")["outcome"] == "empty"
    assert child.ask(load=str(child.folder / "none"))["outcome"] == "missing"


def test_every_cut_loads_what_is_before_it(child):
    digests, ends, at = [child.load(words("SELECT", 0))["digest"]], [0], 0
    for piece in MIXED:
        at += len(piece)
        ends.append(at)
        digests.append(child.load(b"".join(MIXED)[:at])["digest"])
    data = b"".join(MIXED)
    notes = [(data.index(note), len(note)) for note in (b"#TS", b"# a note")]
    for cut in range(1, len(data)):
        found = child.load(data[:cut])
        last = max(i for i, end in enumerate(ends) if end <= cut)
        in_note = any(begin < cut <= begin + 20 and b"\n" not in data[begin:cut] for begin, _ in notes)
        if cut == ends[last] or in_note:
            assert (found["outcome"], found["valid"]) == ("ok", cut)
        else:
            assert found["outcome"] == "truncated"
            before = last - 1 if last and MIXED[last - 1][:1] == b"#" else last
            assert found["valid"] in (ends[last], ends[before]), cut
        assert found["digest"] == digests[last], cut


def test_a_transaction_that_does_not_end_is_not_applied(child):
    head = words("SET", "a", 1)
    found = child.load(head + words("MULTI") + words("SET", "a", 2) + words("SET", "b", 2))
    assert found["outcome"] == "truncated"
    assert found["valid"] == len(head)
    assert found["truncated"] == [
        "Revert incomplete MULTI/EXEC transaction in AOF file a.aof",
        "!!! Warning: short read while loading the AOF file a.aof!!!",
        f"!!! Truncating the AOF a.aof at offset {len(head)} !!!"]
    assert found["fatal"].startswith("Unexpected end of file reading the append only file a.aof. You can: 1) Make a")
    assert found["digest"] == child.load(head)["digest"]


@pytest.mark.parametrize(("bad", "outcome", "text"), [
    (b"hello\r\n", "format", "Bad file format reading the append only file a.aof: make a backup of your AOF file, "
     "then use ./valkey-check-aof --fix <filename.manifest>"),
    (b"*0\r\n", "format", None), (b"*1\r\nPING\r\n", "format", None), (b"*1\r\n$-4\r\nPING\r\n", "format", None),
    (words("NOSUCH", "a", "b"), "command", "Error reading the append only file a.aof, error: unknown command 'NOSUCH', "
     "with args beginning with: 'a' 'b' "),
    (words("XGROUP", "NO", "b"), "command", "Error reading the append only file a.aof, error: unknown subcommand 'NO'. "
     "Try XGROUP HELP."),
    (words("SET", "a"), "command", "Error reading the append only file a.aof, error: wrong number of arguments for "
     "'set' command"),
    (words("CONFIG"), "command", "Error reading the append only file a.aof, error: wrong number of arguments for "
     "'config' command"),
    (words("SUBSCRIBE", "a"), "foreign", None), (words("QUIT"), "foreign", None),
    (words("WATCH", "a"), "foreign", None),
    (words("MULTI") + words("MULTI"), "foreign", None), (words("CONFIG", "SET", "port", 1), "foreign", None),
])
def test_what_is_no_command_ends_the_load(child, bad, outcome, text):
    head = words("SET", "a", 1)
    found = child.load(head + bad + words("SET", "a", 2))
    assert (found["outcome"], found["commands"]) == (outcome, 1)
    assert text in (None, found["fatal"])
    assert found["fatal"]
    assert found["digest"] == child.load(head)["digest"]


def test_errors_of_commands_are_counted(child):
    found = child.load(words("SET", "a", 1) + words("LPUSH", "a", 1) + words("SET", "b", 1))
    assert (found["outcome"], found["errors"], found["failed"]) == ("ok", 1, "lpush")
    assert "'-WRONGTYPE Operation against" in found["critical"]


def test_nothing_expires_but_what_the_file_says(child):
    soon = int(time.time() * 1000) - 1
    found = child.load(
        words("SET", "a", 1, "PXAT", PAST_MS) + words("INCR", "a") + words("PERSIST", "a")
        + words("SET", "b", 1) + words("PEXPIREAT", "b", soon) + words("APPEND", "b", 2) + words("PERSIST", "b")
        + words("HSET", "h", "f", 1, "g", 2) + words("HPEXPIREAT", "h", PAST_MS, "FIELDS", 1, "f")
        + words("HINCRBY", "h", "f", 1) + words("HPERSIST", "h", "FIELDS", 1, "f")
        + words("SET", "c", 1, "PXAT", PAST_MS) + words("DEL", "c"))
    same = child.load(words("SET", "a", 2) + words("SET", "b", 12) + words("HSET", "h", "f", 2, "g", 2))
    assert found["errors"] == 0, found["critical"]
    assert found["digest"] == same["digest"]


def test_an_rdb_preamble(child):
    child.load(words("SET", "a", 1) + words("RPUSH", "l", *range(50)) + words("SET", "gone", 1, "PXAT", PAST_MS)
               + words("SELECT", 2) + b"".join(words("SET", f"k{i}", i) for i in range(500)))
    assert child.ask(save=str(child.folder / "base.rdb"))[0] == 0
    base = (child.folder / "base.rdb").read_bytes()
    tail = words("INCR", "a") + words("PERSIST", "gone") + words("SELECT", 2) + words("DEL", "k7")
    found = child.load(base + tail)
    same = child.load(words("SET", "a", 2) + words("RPUSH", "l", *range(50)) + words("SET", "gone", 1)
                      + words("SELECT", 2) + b"".join(words("SET", f"k{i}", i) for i in range(500) if i != 7))
    assert (found["outcome"], found["commands"]) == ("ok", 4)
    assert found["told"][0] == len(base)
    assert found["digest"] == same["digest"]
    assert child.load(base)["outcome"] == "ok"
    assert child.load(base + tail[:-3])["valid"] == len(base + tail) - len(words("DEL", "k7"))
    assert child.load(base[:-20])["outcome"] == "preamble"


def mutate(data: bytes, seed: int) -> bytes:
    """Bytes changed, taken out, doubled."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out))
        kind = rng.randrange(5)
        if kind == 0:
            out[at] = rng.randrange(256)
        elif kind == 1:
            out[at] = rng.choice(b"0123456789$*\r\n-#")
        elif kind == 2:
            del out[at:at + rng.randint(1, 9)]
        elif kind == 3:
            out[at:at] = out[at:at + rng.randint(1, 60)]
        else:
            out[at] ^= 1 << rng.randrange(8)
        if not out:
            break
    return bytes(out)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), order=st.randoms(use_true_random=False))
def test_damage_never_crashes_the_loader(child, seed, order):
    pieces = list(MIXED)
    order.shuffle(pieces)
    found = child.load(mutate(b"".join(pieces), seed))
    assert found["outcome"] in ("ok", "truncated", "format", "command", "foreign", "empty", "preamble")
    if found["outcome"] not in ("empty", "preamble"):
        assert 0 <= found["valid"] <= found["size"]
        assert child.load((child.folder / "a.aof").read_bytes()[:found["valid"]] or b"#\n")["outcome"] == "ok"
