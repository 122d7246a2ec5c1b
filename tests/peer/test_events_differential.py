"""Random commands to Slotring and a real Valkey with every keyspace event on: the same events in the same order."""

import os
import random

import pytest
from resp import Raw, encode

pytestmark = pytest.mark.peer

COMMANDS = int(os.environ.get("SLOTRING_DIFFERENTIAL", "1500"))
BATCH = 50
KEYS = [b"k%d" % number for number in range(7)] + [b"{t}1", b"{t}2", b"", b"K" * 40, b"b\x00\r\n"]
NUMBERS = [b"0", b"1", b"-1", b"7", b"100", b"9223372036854775807", b"x", b"1.5"]
VALUES = [b"", b"12", b"v", b"v" * 44, b"v" * 200, b"-5", b"1.25"]


class Commands:
    """A stream of commands from one seed."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.one_of = self.random.choice

    def key(self) -> bytes:
        return self.one_of(KEYS)

    def number(self) -> bytes:
        return self.one_of(NUMBERS)

    def value(self) -> bytes:
        return self.one_of(VALUES)

    def next(self) -> list[bytes]:
        """One command."""
        return self.one_of([
            self.set_, self.set_, self.strings, self.strings, self.numbers, self.many, self.bits, self.bits,
            self.keys, self.keys, self.expiry, self.expiry, self.reads, self.databases])()

    def set_(self) -> list[bytes]:
        options = [self.one_of([[], [], [b"NX"], [b"XX"], [b"IFEQ", self.value()]]),
                   self.one_of([[], [], [b"EX", b"5000"], [b"PX", b"5000000"], [b"PXAT", b"1"], [b"EXAT", b"1"],
                                [b"PXAT", b"99999999999999"], [b"KEEPTTL"]]),
                   self.one_of([[], [b"GET"]])]
        return [b"SET", self.key(), self.value(), *(word for option in options for word in option)]

    def strings(self) -> list[bytes]:
        key, value = self.key(), self.value()
        return self.one_of([
            [b"SETNX", key, value], [b"SETEX", key, self.one_of([b"5000", b"0", b"x"]), value],
            [b"PSETEX", key, b"5000000", value], [b"GETSET", key, value], [b"GETDEL", key], [b"GETEX", key],
            [b"GETEX", key, *self.one_of([[b"PERSIST"], [b"EX", b"7000"], [b"PXAT", b"5"], [b"EXAT", b"5"]])],
            [b"DELIFEQ", key, value], [b"APPEND", key, value],
            [b"SETRANGE", key, self.one_of([b"0", b"3", b"90", b"-1"]), value]])

    def numbers(self) -> list[bytes]:
        key = self.key()
        return self.one_of([[b"INCR", key], [b"DECR", key], [b"INCRBY", key, self.number()],
                            [b"DECRBY", key, self.number()], [b"INCRBYFLOAT", key, self.number()]])

    def many(self) -> list[bytes]:
        pairs = [word for _ in range(self.one_of([1, 2, 3])) for word in (self.key(), self.value())]
        return self.one_of([
            [b"MSET", *pairs], [b"MSETNX", *pairs],
            [b"MSETEX", b"%d" % (len(pairs) // 2), *pairs,
             *self.one_of([[], [b"NX"], [b"XX"], [b"EX", b"5000"], [b"KEEPTTL"]])]])

    def bits(self) -> list[bytes]:
        key = self.key()
        at = self.one_of([b"0", b"7", b"9", b"500"])
        return self.one_of([
            [b"SETBIT", key, at, self.one_of([b"0", b"1"])], [b"GETBIT", key, at], [b"BITCOUNT", key],
            [b"BITOP", self.one_of([b"AND", b"OR", b"XOR"]), key, self.key(), self.key()],
            [b"BITOP", b"NOT", key, self.key()], [b"BITPOS", key, b"1"],
            [b"BITFIELD", key, b"SET", b"u8", at, self.one_of([b"0", b"255"]), b"INCRBY", b"u4", b"0", b"0"],
            [b"BITFIELD", key, b"GET", b"u8", at], [b"BITFIELD", key, b"INCRBY", b"i5", at, self.number()],
            [b"BITFIELD_RO", key, b"GET", b"u8", at]])

    def keys(self) -> list[bytes]:
        key = self.key()
        return self.one_of([
            [b"DEL", key, self.key(), self.key()], [b"UNLINK", key, self.key()], [b"RENAME", key, self.key()],
            [b"RENAMENX", key, self.key()], [b"COPY", key, self.key()], [b"COPY", key, self.key(), b"REPLACE"],
            [b"COPY", key, self.key(), b"DB", b"1", *self.one_of([[], [b"REPLACE"]])],
            [b"MOVE", key, self.one_of([b"1", b"0"])]])

    def expiry(self) -> list[bytes]:
        key = self.key()
        return self.one_of([
            [b"EXPIRE", key, self.one_of([b"5000", b"-1", b"0"])], [b"PEXPIRE", key, b"6000000"],
            [b"EXPIREAT", key, self.one_of([b"1", b"99999999999"])], [b"PERSIST", key],
            [b"EXPIRE", key, b"7000", self.one_of([b"NX", b"XX", b"GT", b"LT"])], [b"TTL", key],
            [b"EXPIRETIME", key]])

    def reads(self) -> list[bytes]:
        key = self.key()
        return self.one_of([
            [b"GET", key], [b"MGET", key, self.key()], [b"STRLEN", key], [b"GETRANGE", key, b"0", b"5"],
            [b"EXISTS", key, self.key()], [b"TYPE", key], [b"TOUCH", key], [b"OBJECT", b"ENCODING", key],
            [b"LCS", key, self.key()]])

    def databases(self) -> list[bytes]:
        if self.random.random() < 0.3:
            return self.one_of([[b"FLUSHDB"], [b"FLUSHALL"], [b"SWAPDB", b"0", b"1"]])
        return [b"SELECT", self.one_of([b"0", b"0", b"1"])]


def listen(server, classes: str) -> tuple[Raw, Raw]:
    """A connection for commands and one that hears every event."""
    raw, ears = server.raw(), server.raw()
    raw.call("FLUSHALL")
    assert raw.call("CONFIG", "SET", "notify-keyspace-events", classes) == b"OK"
    ears.send(encode("PSUBSCRIBE", "__key*@*__:*"))
    ears.replies(1)
    return raw, ears


def heard(raw: Raw, ears: Raw) -> list:
    """The events since the last call."""
    raw.call("PUBLISH", "__key@__:end", "")
    events: list = []
    while not events or events[-1][2] != b"__key@__:end":
        events += ears.replies(1)
    return events[:-1]


@pytest.mark.parametrize("classes", ["KEAmn", "KEA", "Eg$", "Kx$n", "E"])
def test_events(server, valkey, classes):
    stream = Commands(len(classes))
    ours, our_ears = listen(server, classes)
    theirs, their_ears = listen(valkey, classes)
    for _ in range(max(1, COMMANDS // 5 // BATCH)):
        batch = [stream.next() for _ in range(BATCH)]
        replies = ours.pipeline(batch), theirs.pipeline(batch)
        events = heard(ours, our_ears), heard(theirs, their_ears)
        if events[0] != events[1]:
            pairs = enumerate(zip(*events, strict=False))
            first = next((at for at, pair in pairs if pair[0] != pair[1]), min(map(len, events)))
            raise AssertionError((events[0][first - 2 : first + 3], events[1][first - 2 : first + 3], batch))
        for words, got, expected in zip(batch, *replies, strict=True):
            assert got == expected or words[0] in (b"TTL", b"EXPIRETIME"), (words, got, expected)
    for raw in (ours, our_ears, theirs, their_ears):
        raw.close()


def test_dirty_counts_as_valkeys(server, valkey):
    stream = Commands(99)
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("CONFIG", "SET", "notify-keyspace-events", "")
            raw.call("FLUSHALL")
        before = None
        for _ in range(COMMANDS // 5):
            words = stream.next()
            changes = []
            for raw in (ours, theirs):
                raw.call(*words)
                info = raw.call("INFO", "persistence").decode()
                changes.append(int(info.split("rdb_changes_since_last_save:")[1].split("\r")[0]))
            if before is not None:
                assert changes[0] - before[0] == changes[1] - before[1], (words, changes, before)
            before = changes


def test_expired_is_told(server, valkey):
    for one in (server, valkey):
        raw, ears = listen(one, "KEA")
        raw.call("SET", "gone", "v", "PX", "20")
        told = ears.replies(6, 5)
        assert [event[2:] for event in told] == [
            [b"__keyspace@0__:gone", b"set"], [b"__keyevent@0__:set", b"gone"],
            [b"__keyspace@0__:gone", b"expire"], [b"__keyevent@0__:expire", b"gone"],
            [b"__keyspace@0__:gone", b"expired"], [b"__keyevent@0__:expired", b"gone"]]
        raw.close()
        ears.close()


def test_setting_is_shown_as_valkey_shows_it(server, valkey):
    rng = random.Random(4)
    with server.raw() as ours, valkey.raw() as theirs:
        for _ in range(300):
            letters = "".join(rng.choices("KEg$lshzxetdmnA" + "q" * (rng.random() < 0.1), k=rng.randint(0, 16)))
            answers = [[raw.call("CONFIG", "SET", "notify-keyspace-events", letters),
                        raw.call("CONFIG", "GET", "notify-keyspace-events")] for raw in (ours, theirs)]
            assert answers[0] == answers[1], letters
