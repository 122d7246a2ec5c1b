"""Random commands of strings and bitmaps to Slotring and a real Valkey: the same bytes back."""

import os
import random

import pytest
from resp import NOTHING, Parser, Raw, encode

pytestmark = pytest.mark.peer

COMMANDS = int(os.environ.get("SLOTRING_DIFFERENTIAL", "2000"))
BATCH = 40
END = b"$9\r\nend-of-it\r\n"
KEYS = [b"k%d" % number for number in range(6)] + [b"{a}1", b"{a}2", b"", b"K" * 300]
LIST_KEY = b"a-list"
INTEGERS = [
    b"0",
    b"1",
    b"-1",
    b"2",
    b"7",
    b"10",
    b"-3",
    b"100",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"4294967296",
]
NO_INTEGERS = [b"", b"abc", b" 1", b"1 ", b"01", b"+1", b"-0", b"1.5", b"1e3", b"--1", b"\x00"]
FLOATS = [
    b"0.1",
    b"-0.1",
    b"1.5",
    b"3.0e3",
    b"1e-20",
    b"inf",
    b"-inf",
    b"nan",
    b"0x10",
    b"1e300",
    b"1e4900",
    b"5.",
    b".5",
    b"-0",
    b"1e5000",
    b" 1.5",
    b"3.14159265358979323846",
]
EXPIRIES = [
    b"1",
    b"0",
    b"-1",
    b"100000",
    b"99999999999",
    b"9223372036854775807",
    b"abc",
    b"",
    b"9223372036854775",
]
FAR_S = [b"32503680000", b"1", b"0", b"-5", b"9223372036854775807", b"x"]
FAR_MS = [b"32503680000123", b"1", b"0", b"-5", b"9223372036854775807", b"x"]


class Commands:
    """A stream of commands from one seed; about one in ten is wrong on purpose."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.one_of = self.random.choice

    def key(self) -> bytes:
        return LIST_KEY if self.random.random() < 0.03 else self.one_of(KEYS)

    def integer(self) -> bytes:
        if self.random.random() < 0.1:
            return self.one_of(NO_INTEGERS)
        if self.random.random() < 0.3:
            return self.one_of(INTEGERS)
        return b"%d" % self.random.randint(-20, 60)

    def value(self) -> bytes:
        kind = self.random.random()
        if kind < 0.35:
            return self.integer()
        if kind < 0.45:
            return self.one_of(FLOATS)
        if kind < 0.85:
            return self.random.randbytes(self.random.randint(0, 12))
        if kind < 0.93:
            return bytes(self.random.choices(b"abc", k=self.random.randint(20, 90)))
        return self.random.randbytes(self.one_of([43, 44, 45, 63, 64, 65, 255, 256, 257, 2000]))

    def case(self, word: bytes) -> bytes:
        return self.one_of([word, word.lower(), word.title()])

    def expiry(self) -> list[bytes]:
        word = self.one_of([b"EX", b"PX", b"EXAT", b"PXAT"])
        times = {b"EXAT": FAR_S, b"PXAT": FAR_MS}.get(word, EXPIRIES)
        chosen = self.one_of(times)
        if word in (b"PX",) and chosen in (b"1",):
            chosen = b"500000"  # would expire while we look
        if word in (b"EX",) and chosen in (b"1",):
            chosen = b"500"
        return [self.case(word), chosen] if self.random.random() > 0.05 else [self.case(word)]

    def options(self, words: list[bytes], most: int) -> list[bytes]:
        found: list[bytes] = []
        for _ in range(self.random.randint(0, most)):
            word = self.one_of(words)
            if word == b"<expiry>":
                found += self.expiry()
            elif word == b"IFEQ":
                found += [self.case(word), self.value()][: self.random.choice([1, 2, 2, 2])]
            else:
                found.append(self.case(word))
        return found

    def next(self) -> list[bytes]:
        """One command."""
        makers = [
            self.plain,
            self.plain,
            self.set_,
            self.set_,
            self.numbers,
            self.ranges,
            self.many,
            self.many,
            self.bits,
            self.bits,
            self.bit_ranges,
            self.bitop,
            self.bitfield,
            self.bitfield,
            self.lcs,
        ]
        words = self.one_of(makers)()
        wrong = self.random.random()
        if wrong < 0.01:
            return words[:-1] or words
        if wrong < 0.02:
            return [*words, self.value()]
        return words

    def plain(self) -> list[bytes]:
        name = self.one_of(
            [
                b"GET",
                b"GETSET",
                b"GETDEL",
                b"STRLEN",
                b"SETNX",
                b"APPEND",
                b"DELIFEQ",
                b"SETEX",
                b"PSETEX",
                b"GETEX",
            ]
        )
        if name in (b"GET", b"GETDEL", b"STRLEN"):
            return [name, self.key()]
        if name in (b"SETEX", b"PSETEX"):
            time = self.one_of([*EXPIRIES[1:], b"500000"])
            return [name, self.key(), time, self.value()]
        if name == b"GETEX":
            return [
                name,
                self.key(),
                *self.options([b"<expiry>", b"<expiry>", b"PERSIST", b"KEEPTTL", b"NX"], 2),
            ]
        return [name, self.key(), self.value()]

    def set_(self) -> list[bytes]:
        words = [
            b"NX",
            b"XX",
            b"GET",
            b"KEEPTTL",
            b"IFEQ",
            b"IFEQ",
            b"<expiry>",
            b"<expiry>",
            b"PERSIST",
            b"WRONG",
        ]
        return [
            b"SET",
            self.key(),
            self.value(),
            *self.options(words, self.one_of([0, 0, 1, 2, 4])),
        ]

    def numbers(self) -> list[bytes]:
        name = self.one_of([b"INCR", b"DECR", b"INCRBY", b"DECRBY", b"INCRBYFLOAT"])
        if name == b"INCRBYFLOAT":
            return [name, self.key(), self.one_of(FLOATS + INTEGERS)]
        return [name, self.key()] + ([self.integer()] if name.endswith(b"BY") else [])

    def ranges(self) -> list[bytes]:
        if self.random.random() < 0.5:
            return [
                self.one_of([b"GETRANGE", b"SUBSTR"]),
                self.key(),
                self.integer(),
                self.integer(),
            ]
        offset = self.one_of(
            [
                b"%d" % self.random.randint(0, 80),
                b"536870911",
                b"536870912",
                b"-1",
                b"9223372036854775807",
                b"x",
            ]
        )
        value = self.value()
        return [b"SETRANGE", self.key(), offset, value * 2 if offset.startswith(b"5368") else value]

    def many(self) -> list[bytes]:
        name = self.one_of([b"MGET", b"MSET", b"MSETNX", b"MSETEX"])
        count = self.one_of([1, 2, 3, 5, 20])
        if name == b"MGET":
            return [name, *(self.key() for _ in range(count))]
        pairs = [word for _ in range(count) for word in (self.key(), self.value())]
        if name != b"MSETEX":
            return [name, *pairs]
        given = b"%d" % count if self.random.random() > 0.1 else self.integer()
        return [
            name,
            given,
            *pairs,
            *self.options([b"NX", b"XX", b"KEEPTTL", b"<expiry>", b"GET"], 2),
        ]

    def offset(self) -> bytes:
        return self.one_of(
            [
                b"%d" % self.random.randint(0, 100),
                b"%d" % self.random.randint(0, 3000),
                b"4294967296",
                b"-1",
                self.integer(),
            ]
        )

    def bits(self) -> list[bytes]:
        if self.random.random() < 0.5:
            return [b"GETBIT", self.key(), self.offset()]
        return [b"SETBIT", self.key(), self.offset(), self.one_of([b"0", b"1", b"1", b"2", b"x"])]

    def bit_ranges(self) -> list[bytes]:
        words = [b"BITCOUNT", self.key()]
        if self.random.random() < 0.5:
            words = [b"BITPOS", self.key(), self.one_of([b"0", b"1", b"0", b"1", b"2", b"x"])]
        given = self.random.randint(0, 3)
        words += [self.one_of([self.integer(), b"%d" % self.random.randint(-300, 300)]) for _ in range(min(given, 2))]
        if given == 3:
            words.append(self.case(self.one_of([b"BIT", b"BIT", b"BYTE", b"NIB"])))
        return words

    def bitop(self) -> list[bytes]:
        name = self.case(self.one_of([b"AND", b"OR", b"XOR", b"NOT", b"DIFF", b"ONE"]))
        count = 1 if name.upper() == b"NOT" and self.random.random() < 0.9 else self.random.randint(1, 4)
        return [b"BITOP", name, self.key(), *(self.key() for _ in range(count))]

    def bitfield(self) -> list[bytes]:
        words = [self.one_of([b"BITFIELD", b"BITFIELD", b"BITFIELD", b"BITFIELD_RO"]), self.key()]
        for _ in range(self.random.randint(0, 4)):
            sub = self.case(self.one_of([b"GET", b"SET", b"INCRBY", b"OVERFLOW"]))
            if words[0] == b"BITFIELD_RO" and self.random.random() < 0.8:
                sub = b"GET"
            if sub.upper() == b"OVERFLOW":
                words += [
                    sub,
                    self.case(self.one_of([b"WRAP", b"SAT", b"FAIL", b"FAIL", b"SAT", b"NO"])),
                ]
                continue
            kind = self.one_of([b"i", b"u"])
            words += [
                sub,
                b"%b%d" % (kind, self.one_of([1, 2, 5, 8, 13, 16, 31, 32, 63, 64]))
                if self.random.random() < 0.97
                else self.one_of([b"i0", b"u64", b"i65", b"x8", b"i", b""]),
            ]
            words.append(
                self.one_of(
                    [
                        b"#%d" % self.random.randint(0, 9),
                        b"%d" % self.random.randint(0, 130),
                        b"-1",
                        b"#-1",
                        b"#",
                    ]
                )
                if self.random.random() < 0.2
                else b"%d" % self.random.randint(0, 200)
            )
            if sub.upper() != b"GET":
                words.append(self.integer())
        return words

    def lcs(self) -> list[bytes]:
        words = [b"LCS", self.key(), self.key()]
        for _ in range(self.random.randint(0, 3)):
            words.append(self.case(self.one_of([b"LEN", b"IDX", b"IDX", b"WITHMATCHLEN", b"MINMATCHLEN"])))
            if words[-1].upper() == b"MINMATCHLEN":
                words.append(self.one_of([b"0", b"1", b"2", b"3", b"-1", b"x"]))
        return words


def looks() -> list[list[bytes]]:
    """Commands that show the state of all keys."""
    found = []
    for key in [*KEYS, LIST_KEY]:
        found += [
            [b"GETRANGE", key, b"0", b"5000"],
            [b"STRLEN", key],
            [b"OBJECT", b"ENCODING", key],
            [b"PERSIST", key],
        ]
    return found


def exchange(raw: Raw, commands: list[list[bytes]]) -> bytes:
    """Everything that comes back for the commands, as it is."""
    raw.send(b"".join(encode(*words) for words in commands) + encode(b"ECHO", END[4:-2]))
    data = b""
    while not data.endswith(END):
        more = raw.socket.recv(1 << 18)
        assert more, f"closed after {data[-200:]!r}"
        data += more
    return data


def split(data: bytes) -> list[bytes]:
    """The replies one by one, still as they are."""
    parser = Parser()
    parser.feed(data)
    found, start = [], len(data)
    while parser.next() is not NOTHING:
        rest = len(parser.pending)
        found.append(data[len(data) - start : len(data) - rest])
        start = rest
    return found


def compare(ours: Raw, theirs: Raw, commands: list[list[bytes]], history: list) -> None:
    got, wanted = exchange(ours, commands), exchange(theirs, commands)
    if got == wanted:
        return
    for words, mine, real in zip(commands, split(got), split(wanted), strict=False):
        touching = [past for past in history if set(past[1:]) & set(words[1:2])][-6:]
        assert mine == real, (words, touching)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("protocol", [2, 3])
def test_random_commands_get_the_same_bytes(server, valkey, seed, protocol):
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("HELLO", protocol)
            raw.call("FLUSHALL")
            raw.call("RPUSH", LIST_KEY, "x")
        commands = Commands(seed * 10 + protocol)
        history: list[list[bytes]] = []
        for batch in range(COMMANDS // BATCH):
            some = [commands.next() for _ in range(BATCH)]
            compare(ours, theirs, some, history)
            history += some
            if batch % 5 == 4:
                compare(ours, theirs, looks(), history)
                gone = [b"DEL", *commands.random.sample(KEYS, 3)]
                compare(ours, theirs, [gone], history)
                history.append(gone)


EXPIRES = [
    (b"EXAT", b"32503680000"),
    (b"PXAT", b"32503680000123"),
    (b"PXAT", b"1"),
    (b"EXAT", b"1"),
]


@pytest.mark.parametrize("unit, when", EXPIRES)
@pytest.mark.parametrize("write", [b"SET", b"GETEX", b"MSETEX"])
@pytest.mark.parametrize("before", [None, b"EX", b"LIST"])
def test_absolute_expiries_are_kept(server, valkey, unit, when, write, before):
    with server.raw() as ours, valkey.raw() as theirs:
        commands = [[b"FLUSHALL"]]
        if before == b"EX":
            commands += [[b"SET", b"k", b"1", b"EX", b"5000"]]
        elif before == b"LIST":
            commands += [[b"RPUSH", b"k", b"x"]]
        if write == b"MSETEX":
            commands += [[write, b"2", b"k", b"v", b"other", b"v", unit, when]]
        else:
            commands += [[write, b"k", *([b"v"] if write == b"SET" else []), unit, when]]
        commands += [[b"PEXPIRETIME", b"k"], [b"GET", b"k"], [b"EXISTS", b"other"]]
        commands += [[b"SET", b"k", b"w", b"KEEPTTL"], [b"APPEND", b"k", b"x"], [b"INCR", b"k"]]
        commands += [[b"PEXPIRETIME", b"k"], [b"SET", b"k", b"5"], [b"PEXPIRETIME", b"k"]]
        compare(ours, theirs, commands, [])


@pytest.mark.parametrize("how", [b"WRAP", b"SAT", b"FAIL"])
@pytest.mark.parametrize("bits", [1, 2, 31, 32, 63, 64])
def test_fields_at_their_limits(server, valkey, how, bits):
    limits = [sign * ((1 << power) + near)
              for power in (bits - 1, bits, 62, 63) for sign in (1, -1) for near in (-1, 0, 1)]
    with server.raw() as ours, valkey.raw() as theirs:
        for kind in (b"i", b"u") if bits < 64 else (b"i",):
            field = b"%b%d" % (kind, bits)
            for first in (b"0", b"-1", b"%d" % limits[0]):
                for number in limits:
                    for change in (b"SET", b"INCRBY"):
                        words = [b"BITFIELD", b"k", b"SET", field, b"3", first, b"OVERFLOW", how,
                                 change, field, b"3", b"%d" % number, b"GET", field, b"3"]
                        compare(ours, theirs, [words], [])
