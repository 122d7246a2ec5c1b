"""Random commands of the set family to Slotring and a real Valkey: the same replies, encodings and members.

SLOTRING_DIFFERENTIAL says how many commands a seed has (1200). Members come in any order and random ones are random:
replies that are lists are compared sorted, and after a random draw both servers get the same sets again.
"""

import os
import random

import pytest
from resp import Error, Raw, Set, encode

from engine import rdbio_probe

pytestmark = pytest.mark.peer

COMMANDS = int(os.environ.get("SLOTRING_DIFFERENTIAL", "1200"))
BATCH = 40
KEYS = [b"s%d" % number for number in range(8)] + [b"{a}1", b"{a}2", b"", b"K" * 300]
STRING_KEY = b"a-string"
NUMBERS = [b"0", b"-1", b"32767", b"32768", b"-32768", b"-32769", b"2147483647", b"2147483648", b"-2147483649",
           b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"-0", b"01", b"+1", b"1 ", b""]
COUNTS = [b"0", b"1", b"2", b"5", b"30", b"200", b"1000", b"-1", b"-3", b"-40", b"x", b"", b"1.5",
          b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808"]
SETTINGS = [
    (b"512", b"128", b"64"), (b"8", b"12", b"10"), (b"0", b"16", b"20"), (b"16", b"0", b"64"), (b"16", b"4", b"3"),
    (b"3", b"128", b"64"),
]
LISTS = (b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF", b"SSCAN", b"SPOP", b"SRANDMEMBER")


class Commands:
    """A stream of commands from one seed; about one in twenty is wrong on purpose."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.one_of = self.random.choice

    def key(self) -> bytes:
        return STRING_KEY if self.random.random() < 0.02 else self.one_of(KEYS)

    def keys(self) -> list[bytes]:
        return [self.key() for _ in range(self.one_of([1, 1, 2, 2, 2, 3, 4, 6, 20]))]

    def member(self) -> bytes:
        kind = self.random.random()
        if kind < 0.55:
            return b"%d" % self.random.randint(-15, 40)
        if kind < 0.65:
            return self.one_of(NUMBERS)
        if kind < 0.95:
            return b"m%d" % self.random.randint(0, 40)
        return self.one_of([b"7 bytes", b"8 bytes.", self.random.randbytes(self.random.randint(0, 12)),
                            b"x" * self.one_of([63, 64, 65, 255, 256, 300, 5000])])

    def members(self) -> list[bytes]:
        return [self.member() for _ in range(self.one_of([1, 1, 1, 2, 3, 5, 10, 25, 60]))]

    def integers(self) -> list[bytes]:
        first = self.one_of([0, 100, 32760, 2**31 - 5])
        return [b"%d" % (first + number) for number in range(self.one_of([3, 10, 30, 140, 600]))]

    def next(self) -> list[bytes]:
        """One command."""
        words = self.one_of([self.change, self.change, self.change, self.look, self.look, self.many, self.many,
                             self.draw, self.scan])()
        wrong = self.random.random()
        if wrong < 0.01:
            return words[:-1] or words
        return [*words, self.member()] if wrong < 0.02 else words

    def change(self) -> list[bytes]:
        kind = self.random.random()
        if kind < 0.4:
            return [b"SADD", self.key(), *self.members()]
        if kind < 0.5:
            return [b"sadd", self.key(), *self.integers()]
        if kind < 0.8:
            return [b"SREM", self.key(), *self.members()]
        if kind < 0.95:
            return [b"SMOVE", self.key(), self.key(), self.member()]
        return [b"DEL", self.key()] if kind < 0.99 else [b"SET", STRING_KEY, b"no set"]

    def look(self) -> list[bytes]:
        name = self.one_of([b"SISMEMBER", b"SMISMEMBER", b"SCARD", b"SMEMBERS", b"OBJECT"])
        if name == b"OBJECT":
            return [name, b"ENCODING", self.key()]
        if name in (b"SCARD", b"SMEMBERS"):
            return [name, self.key()]
        return [name, self.key(), *(self.members() if name == b"SMISMEMBER" else [self.member()])]

    def many(self) -> list[bytes]:
        name = self.one_of([b"SINTER", b"SUNION", b"SDIFF", b"SINTERSTORE", b"SUNIONSTORE", b"SDIFFSTORE",
                            b"SINTERCARD"])
        keys = self.keys()
        if name == b"SINTERCARD":
            given = b"%d" % len(keys) if self.random.random() < 0.9 else self.one_of(COUNTS)
            limit = [self.one_of([b"LIMIT", b"limit", b"LIMITS"]), self.one_of(COUNTS)]
            return [name, given, *keys, *(limit if self.random.random() < 0.4 else [])]
        return [name, *([self.key()] if name.endswith(b"STORE") else []), *keys]

    def draw(self) -> list[bytes]:
        name = self.one_of([b"SPOP", b"SRANDMEMBER"])
        return [name, self.key(), *([self.one_of(COUNTS)] if self.random.random() < 0.7 else [])]

    def scan(self) -> list[bytes]:
        words = [b"SSCAN", self.key(), self.one_of([b"0", b"0", b"0", b"x", b"-1", b"", b"18446744073709551616"])]
        for _ in range(self.one_of([0, 1, 1, 2])):
            words += self.one_of([[b"COUNT", b"2000"], [b"count", self.one_of(COUNTS)], [b"MATCH", b"*1*"],
                                  [b"MATCH", b"*"], [b"NOVALUES"], [b"NOSCORES"], [b"TYPE", b"set"], [b"COUNT"]])
        return words


def ask(raw: Raw, commands: list[list[bytes]]) -> list:
    """The replies to the commands, sent at once."""
    raw.send(b"".join(encode(*words) for words in commands))
    return raw.replies(len(commands))


def plain(words: list[bytes], reply: object) -> object:
    """A reply without what chance decides."""
    name = words[0].upper()
    if name in (b"SPOP", b"SRANDMEMBER"):
        if isinstance(reply, list):
            unique = len(set(reply)) == len(reply)
            return type(reply).__name__, len(reply), unique or b"-" in words[2]
        return isinstance(reply, bytes) if not isinstance(reply, Error) else reply
    if name == b"SSCAN" and isinstance(reply, list):
        return reply[0], sorted(reply[1])
    if name in LISTS and isinstance(reply, list):
        return type(reply).__name__, sorted(reply)
    return reply


def same_again(ours: Raw, theirs: Raw, key: bytes) -> None:
    """Give our set of a key the members of theirs (and theirs their own, so that both are encoded anew)."""
    members = theirs.call("SMEMBERS", key)
    if isinstance(members, Error):
        return
    for raw in (ours, theirs):
        raw.call("DEL", key)
        if members:
            raw.call("SADD", key, *members)


def compare(ours: Raw, theirs: Raw, commands: list[list[bytes]], history: list) -> None:
    """The same replies, or the difference with what happened to these keys before."""
    for words, mine, real in zip(commands, ask(ours, commands), ask(theirs, commands), strict=True):
        history.append(words)
        if plain(words, mine) == plain(words, real):
            continue
        if words[0] == b"SSCAN" and isinstance(mine, list) and isinstance(real, list) and \
                (mine[0] != b"0" or real[0] != b"0"):
            continue  # parts of a table
        touching = [past[:12] for past in history if set(past[1:]) & set(words[1:])][-6:]
        raise AssertionError((words[:20], mine, real, touching))


def encoding(raw: Raw, key: bytes) -> object:
    return raw.call("OBJECT", "ENCODING", key)


def state(raw: Raw) -> list:
    """Encodings and members of all keys, and what INFO counts."""
    found = []
    for key in KEYS:
        members = raw.call("SMEMBERS", key)
        assert raw.call("SCARD", key) == len(members)
        found.append((key, sorted(members), encoding(raw, key)))
    return found


@pytest.mark.parametrize("seed", range(len(SETTINGS)))
def test_random_commands_get_the_same_replies(server, valkey, seed):
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("HELLO", 2 + seed % 2)
            raw.call("FLUSHALL")
            raw.call("SET", STRING_KEY, "no set")
            for name, value in zip(("set-max-intset-entries", "set-max-listpack-entries", "set-max-listpack-value"),
                                   SETTINGS[seed], strict=True):
                assert raw.call("CONFIG", "SET", name, value) == b"OK"
        commands = Commands(seed)
        history: list[list[bytes]] = []
        some: list[list[bytes]] = []
        for number in range(COMMANDS):
            words = commands.next()
            some.append(words)
            # how the result of a store is encoded may depend on the order of a table's members
            chance = len(words) > 1 and (words[0] == b"SPOP" or (seed and words[0].endswith(b"STORE")))
            if chance or len(some) == BATCH:
                compare(ours, theirs, some, history)
                some = []
            if chance and (words[0] == b"SPOP" or encoding(ours, words[1]) != encoding(theirs, words[1])):
                same_again(ours, theirs, words[1])
            if number % 400 == 399:
                compare(ours, theirs, some, history)
                some = []
                assert state(ours) == state(theirs)


@pytest.mark.parametrize("size", [5, 100, 500, 2000])
@pytest.mark.parametrize("strings", [False, True])
def test_spop_with_counts_leaves_the_same_encoding(server, valkey, size, strings):
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("FLUSHALL")
            for name, value in (("intset-entries", 512), ("listpack-entries", 128), ("listpack-value", 64)):
                raw.call("CONFIG", "SET", "set-max-" + name, value)
        members = [b"member:%d" % n if strings else b"%d" % n for n in range(size)]
        for part in (0.01, 0.3, 0.8, 0.9, 0.99, 1.0):
            results = []
            for raw in (ours, theirs):
                raw.call("SADD", "s", *members)
                popped = raw.call("SPOP", "s", int(size * part))
                assert len(set(popped)) == int(size * part) and set(popped) <= set(members)
                assert set(popped) | set(raw.call("SMEMBERS", "s")) == set(members)
                results.append(raw.call("OBJECT", "ENCODING", "s"))
                raw.call("DEL", "s")
            assert results[0] == results[1], part


@pytest.mark.parametrize("limits", SETTINGS)
def test_results_are_encoded_the_same(server, valkey, limits):
    """Of sources without a table, whose order is known."""
    sources = {"i": range(3), "j": range(2, 40, 3), "l": [*range(4), "x"], "m": ["x", "y", 1, 2, 3, "zz"],
               "n": ["a" * 9, "b" * 3, 7]}
    with server.raw() as ours, valkey.raw() as theirs:
        results = []
        for raw in (ours, theirs):
            raw.call("FLUSHALL")
            for name, value in zip(("intset-entries", "listpack-entries", "listpack-value"), limits, strict=True):
                raw.call("CONFIG", "SET", "set-max-" + name, value)
            for key, members in sources.items():
                for member in members:
                    raw.call("SADD", key, member)
            results.append([])
            for name in ("SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"):
                for one in (key for key in sources if encoding(raw, key) != b"hashtable"):
                    for other in sources:
                        size = raw.call(name, "to", one, other)
                        results[-1].append((name, one, other, size, encoding(raw, "to")))
        for mine, real in zip(*results, strict=True):
            assert mine == real or encoding(theirs, real[2]) == b"hashtable" and real[0] != "SDIFFSTORE"


def test_resp3_has_sets(server, valkey):
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("HELLO", 3)
            raw.call("FLUSHALL")
            raw.call("SADD", "s", *range(3))
        for words in (("SMEMBERS", "s"), ("SINTER", "s"), ("SUNION", "s", "t"), ("SDIFF", "s", "t"), ("SPOP", "s", 2),
                      ("SPOP", "none", 2), ("SINTER", "none"), ("SMEMBERS", "none"), ("SRANDMEMBER", "s", 2),
                      ("SRANDMEMBER", "none"), ("SPOP", "none")):
            mine, real = ours.call(*words), theirs.call(*words)
            assert type(mine) is type(real), words
            assert isinstance(mine, Set) or words[0] in ("SRANDMEMBER", "SPOP")


def without_chance(commands: Commands) -> list[bytes]:
    """A command after which both servers have the same sets: what SPOP takes is either all or one of one."""
    while True:
        words = commands.one_of([commands.change, commands.change, commands.many])()
        if commands.random.random() < 0.1:
            words = [b"SPOP", commands.key(), commands.one_of([b"100000", b"0", b"x"])]
        elif commands.random.random() < 0.1:
            words = [b"SPOP", b"one"] if commands.random.random() < 0.5 else [b"SADD", b"one", b"x"]
        if words[0] != b"SRANDMEMBER":
            return words


def changes(raw: Raw) -> int:
    """How many changes the server has counted."""
    info = raw.call("INFO", "persistence").decode()
    return int(info.split("rdb_changes_since_last_save:")[1].split("\r")[0])


def test_events_and_changes(server, valkey):
    commands = Commands(77)
    raws, ears = [], []
    for one in (server, valkey):
        raws.append(one.raw())
        ears.append(one.raw())
        raws[-1].call("FLUSHALL")
        assert raws[-1].call("CONFIG", "SET", "notify-keyspace-events", "KEAmn") == b"OK"
        ears[-1].call("PSUBSCRIBE", "__key*@*__:*")
    try:
        for _ in range(COMMANDS // 5):
            words = without_chance(commands)
            told = []
            for raw, ear in zip(raws, ears, strict=True):
                before = changes(raw)
                reply = raw.call(*words)
                counted = changes(raw) - before
                raw.call("PUBLISH", "__key@__:end", "")
                events: list = []
                while not events or events[-1][2] != b"__key@__:end":
                    events += ear.replies(1)
                told.append((plain(words, reply), counted, events))
            assert told[0] == told[1], words[:12]
    finally:
        for raw in (*raws, *ears):
            raw.call("CONFIG", "SET", "notify-keyspace-events", "") if raw in raws else None
            raw.close()


DUMPED = [range(3), range(-40000, 40000, 5000), [2**40, -(2**62), 5], range(500), ["a", 1, -5, "x" * 60, "70000"],
          [f"m{n}" for n in range(100)], range(1000), [f"member:{n}" for n in range(300)], ["x" * 70, "", "y" * 20000]]


@pytest.mark.parametrize("members", DUMPED, ids=range(len(DUMPED)))
def test_dumps_are_understood_by_both(server, valkey, members):
    with server.raw() as ours, valkey.raw() as theirs:
        dumps = []
        for raw in (ours, theirs):
            raw.call("FLUSHALL")
            for name, value in (("intset-entries", 512), ("listpack-entries", 128), ("listpack-value", 64)):
                raw.call("CONFIG", "SET", "set-max-" + name, value)
            for member in members:
                raw.call("SADD", "s", member)
            dumps.append(raw.call("DUMP", "s"))
        known = sorted(str(member).encode() for member in members)
        for limit in (512, 2):
            for raw in (ours, theirs):
                raw.call("CONFIG", "SET", "set-max-intset-entries", limit)
                raw.call("CONFIG", "SET", "set-max-listpack-entries", limit // 4 or 2)
            for dump in dumps:
                encodings = []
                for raw in (ours, theirs):
                    assert raw.call("RESTORE", "copy", 0, dump, "REPLACE") == b"OK"
                    assert sorted(raw.call("SMEMBERS", "copy")) == known
                    encodings.append(encoding(raw, "copy"))
                assert encodings[0] == encodings[1]


def signed(payload: bytes) -> bytes:
    """A payload of DUMP with its check sum made right."""
    body = payload[:-8]
    return body + rdbio_probe.crc(body).to_bytes(8, "little")


def test_forged_dumps(server, slotring_only):
    rng = random.Random(5)
    with server.raw() as raw:
        raw.call("FLUSHALL")
        raw.call("CONFIG", "SET", "rdbcompression", "no")
        accepted = 0
        for turn in range(max(3000, COMMANDS // 2)):
            if turn % 50 == 0:
                raw.call("DEL", "s")
                raw.call("SADD", "s", *[str(member) for member in DUMPED[turn // 50 % len(DUMPED)]][:200])
                dump = raw.call("DUMP", "s")
            forged = bytearray(dump)
            for _ in range(rng.randint(1, 3)):
                forged[rng.randrange(min(len(forged) - 10, rng.choice([12, 10**6])))] = rng.choice(
                    [rng.randrange(256), 0, 255, 0x80, 0x81, 0xC3])
            if rng.random() < 0.1:
                del forged[rng.randrange(len(forged) - 10):-10]
            reply = raw.call("RESTORE", "forged", 0, signed(bytes(forged)), "REPLACE")
            if reply == b"OK" and raw.call("TYPE", "forged") == b"set":
                accepted += 1
                members = raw.call("SMEMBERS", "forged")
                assert len(members) == raw.call("SCARD", "forged") == len(set(members))
                raw.call("SPOP", "forged", rng.randrange(300))
            else:
                raw.call("DEL", "forged")
        assert accepted
