"""Random commands of lists to Slotring and a real Valkey: the same bytes back, the same state.

SLOTRING_DIFFERENTIAL in the environment: how many for each seed and setting."""

import os
import random

import pytest
from resp import Raw, encode
from test_events_differential import heard, listen
from test_strings_differential import END, compare, exchange, split

pytestmark = pytest.mark.peer
SERVER_OPTIONS = ["--enable-debug-command", "yes"]
VALKEY_OPTIONS = ["--enable-debug-command", "yes"]

COMMANDS = int(os.environ.get("SLOTRING_DIFFERENTIAL", "800"))
BATCH = 40
KEYS = [b"l%d" % number for number in range(5)] + [b"{a}1", b"{a}2", b"", b"K" * 300]
STRING_KEY = b"a-string"
NUMBERS = [b"0", b"1", b"-1", b"2", b"-2", b"3", b"-100", b"1000", b"9223372036854775807", b"-9223372036854775808",
           b"9223372036854775808", b"4294967296", b"2147483648", b"-2147483648"]
NO_NUMBERS = [b"", b"abc", b" 1", b"1.5", b"+1", b"01", b"-0", b"1e3"]
# (list-max-listpack-size, list-compress-depth, DEBUG QUICKLIST-PACKED-THRESHOLD)
SETTINGS = [(-2, 0, b"0"), (-1, 0, b"0"), (4, 0, b"0"), (1, 0, b"0"), (0, 0, b"0"), (-1, 1, b"0"), (5, 2, b"0"),
            (-5, 0, b"300b"), (16, 1, b"100b")]


class Commands:
    """A stream of commands from one seed; some are wrong on purpose."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.one_of = self.random.choice
        self.big = self.random.random() < 0.5

    def key(self) -> bytes:
        return STRING_KEY if self.random.random() < 0.02 else self.one_of(KEYS)

    def number(self) -> bytes:
        if self.random.random() < 0.03:
            return self.one_of(NO_NUMBERS)
        if self.random.random() < 0.2:
            return self.one_of(NUMBERS)
        return b"%d" % self.random.randint(-12, 12)

    def value(self) -> bytes:
        kind = self.random.random()
        if kind < 0.5:
            return self.one_of([b"a", b"b", b"c", b"1", b"2", b"300", b"", b"01", b"-7"])
        if kind < 0.6:
            bits = self.one_of([7, 13, 24, 32, 63])
            return b"%d" % self.random.randint(-(1 << bits - 1), 1 << bits)
        if kind < 0.9:
            return self.random.randbytes(self.random.randint(0, 80))
        if kind < 0.98:
            return bytes(self.random.choices(b"xyz", k=self.one_of([63, 64, 65, 127, 128, 200, 500, 4095, 4096])))
        return bytes(self.random.choices(b"pq", k=self.one_of([5000, 8100, 8192, 8193, 9000, 20000, 70000])))

    def case(self, word: bytes) -> bytes:
        return self.one_of([word, word.lower(), word.title()])

    def side(self) -> bytes:
        return self.case(self.one_of([b"LEFT", b"RIGHT"])) if self.random.random() > 0.02 else b"MIDDLE"

    def next(self) -> list[bytes]:
        """One command."""
        makers = [self.push] * 6 + [self.pop] * 3 + [self.read] * 4 + [self.change] * 4 + [self.move] * 3
        makers += [self.mpop, self.lpos, self.blocking, self.other]
        words = self.one_of(makers)()
        wrong = self.random.random()
        if wrong < 0.005 and not words[0].upper().startswith(b"B"):
            return words[:-1] or words
        if wrong < 0.01:
            return [*words, self.value()]
        return words

    def push(self) -> list[bytes]:
        name = self.one_of([b"LPUSH", b"RPUSH", b"LPUSH", b"RPUSH", b"LPUSHX", b"RPUSHX"])
        many = self.one_of([1, 1, 2, 3, 10, 60 if self.big else 5])
        return [self.case(name), self.key(), *(self.value() for _ in range(many))]

    def pop(self) -> list[bytes]:
        words = [self.one_of([b"LPOP", b"RPOP"]), self.key()]
        return words if self.random.random() < 0.7 else [*words, self.number()]

    def read(self) -> list[bytes]:
        name = self.one_of([b"LLEN", b"LINDEX", b"LRANGE", b"LRANGE"])
        if name == b"LLEN":
            return [name, self.key()]
        return [name, self.key(), self.number()] + ([self.number()] if name == b"LRANGE" else [])

    def change(self) -> list[bytes]:
        name = self.one_of([b"LSET", b"LREM", b"LINSERT", b"LINSERT", b"LTRIM"])
        if name == b"LSET":
            return [name, self.key(), self.number(), self.value()]
        if name == b"LREM":
            return [name, self.key(), self.number(), self.value()]
        if name == b"LTRIM":
            if self.random.random() < 0.7:  # seldom down to nothing
                return [name, self.key(), b"%d" % self.random.randint(0, 3), b"%d" % self.random.randint(-3, -1)]
            return [name, self.key(), self.number(), self.number()]
        where = self.case(self.one_of([b"BEFORE", b"AFTER"])) if self.random.random() > 0.02 else b"BESIDE"
        return [name, self.key(), where, self.value(), self.value()]

    def move(self) -> list[bytes]:
        if self.random.random() < 0.3:
            return [b"RPOPLPUSH", self.key(), self.key()]
        return [b"LMOVE", self.key(), self.key(), self.side(), self.side()]

    def mpop(self) -> list[bytes]:
        keys = [self.key() for _ in range(self.random.randint(1, 3))]
        count = b"%d" % len(keys) if self.random.random() > 0.05 else self.number()
        words = [b"LMPOP", count, *keys, self.side()]
        if self.random.random() < 0.4:
            words += [self.case(b"COUNT"), self.number()]
        return words

    def lpos(self) -> list[bytes]:
        words = [b"LPOS", self.key(), self.value()]
        for _ in range(self.random.randint(0, 3)):
            words += [self.case(self.one_of([b"RANK", b"COUNT", b"MAXLEN"])), self.number()]
        return words

    def blocking(self) -> list[bytes]:
        """In a transaction, where nothing waits."""
        time = self.one_of([b"0", b"0.5", b"1", b"-1", b"x", b"1e400", b"inf"])
        name = self.one_of([b"BLPOP", b"BRPOP", b"BLMOVE", b"BRPOPLPUSH", b"BLMPOP"])
        if name in (b"BLPOP", b"BRPOP"):
            return [name, *(self.key() for _ in range(self.random.randint(1, 3))), time]
        if name == b"BLMOVE":
            return [name, self.key(), self.key(), self.side(), self.side(), time]
        if name == b"BRPOPLPUSH":
            return [name, self.key(), self.key(), time]
        return [name, time, *self.mpop()[1:]]

    def other(self) -> list[bytes]:
        return self.one_of([
            [b"COPY", self.one_of(KEYS), self.one_of(KEYS), b"REPLACE"],
            [b"RENAME", self.one_of(KEYS), self.one_of(KEYS)],
            [b"SET", STRING_KEY, b"x"], [b"TYPE", self.key()], [b"OBJECT", b"ENCODING", self.key()],
            [b"DEL", self.key()], [b"PEXPIRE", self.key(), b"100000"], [b"SORT", self.key(), b"ALPHA"],
        ])


def looks() -> list[list[bytes]]:
    """Commands that show the state of all keys."""
    found = []
    for key in [*KEYS, STRING_KEY]:
        found += [[b"OBJECT", b"ENCODING", key], [b"LRANGE", key, b"0", b"-1"], [b"PERSIST", key]]
    return [*found, [b"DEBUG", b"DIGEST"]]


def no_waiting(commands: list[list[bytes]]) -> list[list[bytes]]:
    """The commands that may wait, each in a transaction of its own."""
    found = []
    for words in commands:
        if words[0].upper().startswith(b"B"):
            found += [[b"MULTI"], words, [b"EXEC"]]
        else:
            found.append(words)
    return found


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_commands_get_the_same_bytes(server, valkey, seed, setting):
    size, depth, packed = setting
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("HELLO", 1 + seed % 2 + 1)
            raw.call("FLUSHALL")
            raw.call("CONFIG", "SET", "list-max-listpack-size", size, "list-compress-depth", depth)
            assert raw.call("DEBUG", "QUICKLIST-PACKED-THRESHOLD", packed) == b"OK"
        commands = Commands(seed * 100 + size)
        history: list[list[bytes]] = []
        for batch in range(COMMANDS // BATCH):
            some = no_waiting([commands.next() for _ in range(BATCH)])
            compare(ours, theirs, some, history)
            history += some
            if batch % 5 == 4:
                compare(ours, theirs, looks(), history)
            if batch % 25 == 24:
                gone = [b"DEL", *commands.random.sample(KEYS, 4)]
                compare(ours, theirs, [gone], history)
                history.append(gone)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_encodings_change_at_the_same_elements(server, valkey, setting):
    """One list that grows and shrinks; its encoding after every step."""
    size, depth, packed = setting
    numbers = random.Random(size)
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("FLUSHALL")
            raw.call("CONFIG", "SET", "list-max-listpack-size", size, "list-compress-depth", depth)
            raw.call("DEBUG", "QUICKLIST-PACKED-THRESHOLD", packed)
        length, history = 0, []
        for round_ in range(6):
            growing = round_ % 2 == 0
            for _ in range(60):
                commands = []
                for _ in range(4):
                    value = b"v" * numbers.choice([1, 30, 100, 300, 900])
                    words = [numbers.choice([b"LPUSH", b"RPUSH"]), b"l", value]
                    if not growing:
                        words = numbers.choice([[b"LPOP", b"l"], [b"RPOP", b"l"], [b"LTRIM", b"l", b"1", b"-2"],
                                                [b"LREM", b"l", b"1", value], [b"LSET", b"l", b"0", b"s"]])
                    commands += [words, [b"OBJECT", b"ENCODING", b"l"], [b"LLEN", b"l"]]
                    length += growing
                compare(ours, theirs, commands, history)
                history += commands
            compare(ours, theirs, [[b"LRANGE", b"l", b"0", b"-1"]], history)


def test_harness_reads_what_is_sent(server):
    """The comparison sees every reply."""
    with server.raw() as ours:
        data = exchange(ours, [[b"PING"], [b"LLEN", b"nothing"]])
    assert split(data) == [b"+PONG\r\n", b":0\r\n", END]
    assert encode(b"PING") == b"*1\r\n$4\r\nPING\r\n"


def changes(raw: Raw) -> int:
    """How many changes the server has counted."""
    for line in raw.call("INFO", "persistence").split(b"\r\n"):
        if line.startswith(b"rdb_changes_since_last_save:"):
            return int(line.split(b":")[1])
    raise AssertionError("no rdb_changes_since_last_save")


@pytest.mark.parametrize("seed", [1, 2])
def test_random_commands_make_the_same_events_and_changes(server, valkey, seed):
    """Events and changes one command after the other, lists that come and go."""
    (ours, our_ears), (theirs, their_ears) = listen(server, "KEA"), listen(valkey, "KEA")
    with ours, our_ears, theirs, their_ears:
        for raw in (ours, theirs):
            raw.call("CONFIG", "SET", "list-max-listpack-size", -2, "list-compress-depth", 0)
            raw.call("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "0")
        commands, history = Commands(seed * 31), []
        first = changes(ours), changes(theirs)
        for number in range(COMMANDS // 6):
            some = no_waiting([commands.next()])
            if number % 9 == 8:
                some = [[b"DEL", *commands.random.sample(KEYS, 3)]]
            compare(ours, theirs, some, history)
            history += some
            assert heard(ours, our_ears) == heard(theirs, their_ears), some
            assert changes(ours) - first[0] == changes(theirs) - first[1], some
        for raw in (ours, theirs):
            raw.call("CONFIG", "SET", "notify-keyspace-events", "")


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_large_element_becomes_a_small_one(server, valkey, at):
    """It goes to the node behind it, where that has room: seen by when the list is a listpack again."""
    said = []
    for each in (server, valkey):
        with each.raw() as raw:
            raw.call("FLUSHALL")
            raw.call("CONFIG", "SET", "list-max-listpack-size", -2, "list-compress-depth", 0)
            raw.call("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "0")
            raw.call("RPUSH", "l", *("B" * 9000 if number == at else "s" for number in range(3)))
            seen = [raw.call("LSET", "l", at, "x")]
            for _ in range(3):
                seen += [raw.call("OBJECT", "ENCODING", "l"), raw.call("LRANGE", "l", 0, -1), raw.call("LPOP", "l")]
            said.append(seen)
    assert said[0] == said[1]
