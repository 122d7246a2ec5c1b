"""Random commands of sorted sets to Slotring and a real Valkey: the same bytes back, the same state in the end.

SLOTRING_DIFFERENTIAL says how many commands a seed sends.
"""

import os
import random

import pytest
from test_strings_differential import compare, exchange, split

pytestmark = pytest.mark.peer

COMMANDS = int(os.environ.get("SLOTRING_DIFFERENTIAL", "1500"))
BATCH = 40
SMALL = ["--rdbcompression", "no", "--zset-max-listpack-entries", "8", "--zset-max-listpack-value", "24"]
SERVER_OPTIONS = VALKEY_OPTIONS = SMALL
ZSETS = [b"z%d" % number for number in range(5)]
LEX = b"same-scores"
SETS = [b"set1", b"set2"]
STRING = b"a-string"
SCORES = [b"0", b"1", b"-1", b"2.5", b"inf", b"-inf", b"+inf", b"1e3", b"0.1", b"-0", b"3", b"1e300", b"5e-324", b"17",
          b"123456789012345678", b"0.30000000000000004", b"-1e308", b"4611686018427387904", b"1e19"]
NO_SCORES = [b"", b"abc", b" 1", b"1 ", b"0x10", b"nan", b"1e400", b"(1", b"1_0", b"2e-324"]
INTEGERS = [b"0", b"1", b"-1", b"2", b"-3", b"9223372036854775807", b"-9223372036854775808"]
NO_INTEGERS = [b"", b"abc", b"1.5", b"9223372036854775808", b" 1", b"+1"]
MEMBERS = [b"%c" % letter for letter in range(97, 117)] + [b"%d" % n for n in range(-3, 12)]
MEMBERS += [b"", b"M" * 25, b"a" * 300]


class Commands:
    """A stream of commands from one seed; about one in ten is wrong on purpose."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.one_of = self.random.choice

    def key(self) -> bytes:
        kind = self.random.random()
        if kind < 0.02:
            return STRING
        return LEX if kind < 0.1 else self.one_of(ZSETS)

    def score(self) -> bytes:
        if self.random.random() < 0.03:
            return self.one_of(NO_SCORES)
        if self.random.random() < 0.3:
            return self.one_of(SCORES)
        if self.random.random() < 0.3:
            return repr(self.random.uniform(-50, 50)).encode()
        return b"%d" % self.random.randint(-20, 20)

    def integer(self) -> bytes:
        if self.random.random() < 0.06:
            return self.one_of(NO_INTEGERS)
        if self.random.random() < 0.1:
            return self.one_of(INTEGERS)
        return b"%d" % self.random.randint(-12, 25)

    def member(self) -> bytes:
        return self.one_of(MEMBERS)

    def bound(self) -> bytes:
        return (b"(" if self.random.random() < 0.3 else b"") + self.score()

    def lex(self) -> bytes:
        if self.random.random() < 0.04:
            return self.one_of([b"", b"a", b"--", b"+x", b"\x00"])
        return self.one_of([b"-", b"+", b"[" + self.member(), b"(" + self.member()])

    def case(self, word: bytes) -> bytes:
        return self.one_of([word, word.lower(), word.title()])

    def limit(self) -> list[bytes]:
        return [self.case(b"LIMIT"), self.integer(), self.integer()] if self.random.random() < 0.4 else []

    def next(self) -> list[bytes]:
        """One command."""
        makers = [self.add, self.add, self.add, self.plain, self.plain, self.ranges, self.ranges, self.old_ranges,
                  self.count, self.pops, self.algebra, self.algebra, self.remove]
        words = self.one_of(makers)()
        wrong = self.random.random()
        if wrong < 0.01:
            return words[:-1] or words
        if wrong < 0.02:
            return [*words, self.member()]
        return words

    def add(self) -> list[bytes]:
        if self.random.random() < 0.12:
            return [b"ZINCRBY", self.one_of(ZSETS), self.score(), self.member()]
        key = self.key()
        words = [b"ZADD", key]
        for _ in range(self.one_of([0, 0, 0, 1, 1, 2, 3])):
            words.append(self.case(self.one_of([b"NX", b"XX", b"GT", b"LT", b"CH", b"CH", b"INCR"])))
        for _ in range(self.one_of([1, 1, 1, 2, 3, 12, 30])):
            words += [b"0" if key == LEX else self.score(), self.member()]
        return words

    def plain(self) -> list[bytes]:
        name = self.one_of([b"ZCARD", b"ZSCORE", b"ZMSCORE", b"ZRANK", b"ZREVRANK", b"ZREM", b"TYPE", b"ENCODING"])
        if name == b"ENCODING":
            return [b"OBJECT", name, self.key()]
        if name in (b"ZCARD", b"TYPE"):
            return [name, self.key()]
        if name in (b"ZMSCORE", b"ZREM"):
            return [name, self.key(), *(self.member() for _ in range(self.random.randint(1, 6)))]
        words = [name, self.key(), self.member()]
        if name != b"ZSCORE" and self.random.random() < 0.4:
            words.append(self.one_of([b"WITHSCORE", b"withscore", b"WITHSCORES", b"x"]))
        return words

    def ends(self, by: bytes) -> list[bytes]:
        if by == b"BYLEX":
            return [LEX if self.random.random() < 0.95 else b"missing", self.lex(), self.lex()]
        if by == b"BYSCORE":
            return [self.key(), self.bound(), self.bound()]
        return [self.key(), self.integer(), self.integer()]

    def ranges(self) -> list[bytes]:
        by = self.one_of([b"", b"", b"BYSCORE", b"BYSCORE", b"BYLEX"])
        words = self.ends(by) + ([self.case(by)] if by else [])
        if self.random.random() < 0.3:
            words.append(self.case(b"REV"))
        words += self.limit() if by or self.random.random() < 0.1 else []
        if self.random.random() < 0.3:
            return [b"ZRANGESTORE", self.one_of([*ZSETS, b"out"]), *words]
        if self.random.random() < (0.1 if by == b"BYLEX" else 0.5):
            words.append(self.case(b"WITHSCORES"))
        return [b"ZRANGE", *words]

    def old_ranges(self) -> list[bytes]:
        name, by = self.one_of([(b"ZREVRANGE", b""), (b"ZRANGEBYSCORE", b"BYSCORE"), (b"ZREVRANGEBYSCORE", b"BYSCORE"),
                                (b"ZRANGEBYLEX", b"BYLEX"), (b"ZREVRANGEBYLEX", b"BYLEX")])
        words = [name, *self.ends(by), *(self.limit() if by else [])]
        if self.random.random() < (0.05 if by == b"BYLEX" else 0.5):
            words.append(self.case(b"WITHSCORES"))
        return words

    def count(self) -> list[bytes]:
        if self.random.random() < 0.3:
            return [b"ZLEXCOUNT", *self.ends(b"BYLEX")]
        return [b"ZCOUNT", *self.ends(b"BYSCORE")]

    def remove(self) -> list[bytes]:
        name, by = self.one_of([(b"RANK", b""), (b"SCORE", b"BYSCORE"), (b"LEX", b"BYLEX")])
        return [b"ZREMRANGEBY" + name, *self.ends(by)]

    def pops(self) -> list[bytes]:
        name = self.one_of([b"ZPOPMIN", b"ZPOPMAX", b"ZMPOP", b"BZPOPMIN", b"BZPOPMAX", b"BZMPOP", b"ZRANDMEMBER"])
        if name == b"ZRANDMEMBER":
            return [name, b"missing", self.integer(), *self.one_of([[], [b"WITHSCORES"], [b"x"]])]
        if name.startswith(b"ZPOP"):
            return [name, self.key(), *([self.integer()] if self.random.random() < 0.5 else [])]
        keys = [self.key() for _ in range(self.random.randint(1, 3))]
        if name.startswith(b"BZPOP"):
            return [name, *keys, LEX, self.one_of([b"0.001", b"0.002", b"-1", b"x", b"0.001"])]
        words = [self.integer() if self.random.random() < 0.05 else b"%d" % len(keys), *keys]
        words.append(self.case(self.one_of([b"MIN", b"MAX", b"MIN", b"MAX", b"MID"])))
        if self.random.random() < 0.5:
            words += [self.case(b"COUNT"), self.integer()]
        return [name, b"0.001", *words] if name == b"BZMPOP" else [name, *words]

    def algebra(self) -> list[bytes]:
        name = self.one_of([b"ZUNION", b"ZINTER", b"ZDIFF", b"ZUNIONSTORE", b"ZINTERSTORE", b"ZDIFFSTORE",
                            b"ZINTERCARD"])
        keys = [self.one_of([*ZSETS, *ZSETS, *SETS, LEX, b"missing"]) for _ in range(self.random.randint(1, 4))]
        if self.random.random() < 0.03:
            keys.append(STRING)
        words = [self.integer() if self.random.random() < 0.05 else b"%d" % len(keys), *keys]
        if name.endswith(b"STORE"):
            words.insert(0, self.one_of([*ZSETS, b"out"]))
        rare = 0.05 if name.startswith(b"ZDIFF") or name == b"ZINTERCARD" else 0.4
        if self.random.random() < rare:
            words += [self.case(b"WEIGHTS"), *(self.score() for _ in keys)]
        if self.random.random() < rare:
            words += [self.case(b"AGGREGATE"), self.case(self.one_of([b"SUM", b"MIN", b"MAX", b"MAX", b"AVG"]))]
        if self.random.random() < (0.02 if name.endswith((b"STORE", b"CARD")) else 0.4):
            words.append(self.case(b"WITHSCORES"))
        if self.random.random() < (0.5 if name == b"ZINTERCARD" else 0.02):
            words += [self.case(b"LIMIT"), self.integer()]
        return [name, *words]


def looks() -> list[list[bytes]]:
    """Commands that show the state of all keys."""
    found = []
    for key in [*ZSETS, LEX, b"out"]:
        found += [[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"], [b"ZREVRANGE", key, b"0", b"-1", b"WITHSCORES"],
                  [b"OBJECT", b"ENCODING", key]]
    return found


def setup(key: bytes = LEX) -> list[list[bytes]]:
    return [[b"SET", STRING, b"x"], [b"SADD", SETS[0], b"a", b"b", b"c", b"x", b"M" * 25],
            [b"SADD", SETS[1], *(b"%d" % n for n in range(-3, 9))], [b"ZADD", key, b"0", b"k"]]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("protocol", [2, 3])
def test_random_commands_get_the_same_bytes(server, valkey, seed, protocol):
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("HELLO", protocol)
            raw.call("FLUSHALL")
        commands = Commands(seed * 10 + protocol)
        history: list[list[bytes]] = []
        compare(ours, theirs, setup(), history)
        for batch in range(COMMANDS // BATCH):
            some = [commands.next() for _ in range(BATCH)]
            compare(ours, theirs, some, history)
            history = history[-400:] + some
            if batch % 5 == 4:
                compare(ours, theirs, looks(), history)
                compare(ours, theirs, [[b"DEBUG", b"DIGEST"]], history)
            if batch % 10 == 9:
                gone = [b"DEL", *commands.random.sample([*ZSETS, b"out"], 3)]
                compare(ours, theirs, [gone], history)
                history.append(gone)


@pytest.mark.parametrize("count", [5, 300])
@pytest.mark.parametrize("protocol", [2, 3])
def test_scan_and_random_members(server, valkey, count, protocol):
    pairs = [word for n in range(count) for word in (b"%d" % (n % 7) if n % 3 else b"%d.5" % n, b"m%d" % n)]
    with server.raw() as ours, valkey.raw() as theirs:
        answers = []
        for raw in (ours, theirs):
            raw.call("HELLO", protocol)
            exchange(raw, [[b"DEL", b"k"], [b"ZADD", b"k", *pairs]])
            seen, cursor = [], b"0"
            while True:
                cursor, some = raw.call("ZSCAN", "k", cursor, "COUNT", 50)
                seen += zip(some[::2], some[1::2], strict=True)
                if cursor == b"0":
                    break
            bare = raw.call("ZSCAN", "k", 0, "COUNT", 10000, "NOSCORES", "MATCH", "m1*")[1]
            whole = raw.call("ZRANDMEMBER", "k", 1000, "WITHSCORES")
            flat = whole if protocol == 3 else list(zip(whole[::2], whole[1::2], strict=True))
            some = raw.call("ZRANDMEMBER", "k", count // 2)
            assert len(set(some)) == count // 2
            assert len(raw.call("ZRANDMEMBER", "k", -count * 3)) == count * 3
            assert raw.call("ZSCORE", "k", raw.call("ZRANDMEMBER", "k")) is not None
            answers.append((sorted(set(seen)), sorted(bare), sorted(map(tuple, flat))))
        assert answers[0] == answers[1]
        compare(ours, theirs, [[b"ZSCAN", b"k", b"x"], [b"ZSCAN", b"none", b"0"], [b"ZSCAN", b"k", b"0", b"NOVALUES"],
                               [b"ZSCAN", b"k", b"0", b"COUNT", b"0"], [b"ZRANDMEMBER", b"k", b"x"],
                               [b"ZRANDMEMBER", b"k", b"-9223372036854775808"], [b"ZRANDMEMBER", b"k", b"0"],
                               [b"ZRANDMEMBER", b"k", b"-9223372036854775807", b"WITHSCORES"]], [])


def test_dumps_are_the_same(server, valkey):
    with server.raw() as ours, valkey.raw() as theirs:
        for count in (1, 8, 9, 200):
            words = [b"ZADD", b"k"]
            for n in range(count):
                words += [repr(n / 7).encode() if n % 2 else b"%d" % n, b"m%d" % n]
            dumps = []
            for raw in (ours, theirs):
                exchange(raw, [[b"DEL", b"k"], words])
                dumps.append(split(exchange(raw, [[b"DUMP", b"k"]]))[0])
            assert dumps[0] == dumps[1]
            dump = dumps[0].split(b"\r\n", 1)[1][:-2]
            compare(ours, theirs, [[b"DEL", b"r"], [b"RESTORE", b"r", b"0", dump], [b"OBJECT", b"ENCODING", b"r"],
                                   [b"ZRANGE", b"r", b"0", b"-1", b"WITHSCORES"]], [])


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("scores", [(-1, 0, 1), (1, 0, -1)])
def test_what_becomes_of_minus_zero_in_a_stored_range(server, valkey, back, scores):
    """A listpack has no -0, a skip list has: it hangs on when a long member makes one of the other."""
    bounds = (("+inf", "-inf") if back else ("-inf", "+inf"))
    said = []
    for each in (server, valkey):
        with each.raw() as raw:
            raw.call("FLUSHALL")
            raw.call("ZADD", "z", scores[0], "m" * 300, "-0", "zero", scores[2], "short")
            raw.call("ZRANGESTORE", "out", "z", *bounds, "BYSCORE", *(("REV",) if back else ()))
            raw.call("ZRANGESTORE", "out2", "z", 0, -1, *(("REV",) if back else ()))
            said.append([raw.call("ZRANGE", key, 0, -1, "WITHSCORES") for key in ("out", "out2")])
    assert said[0] == said[1]
