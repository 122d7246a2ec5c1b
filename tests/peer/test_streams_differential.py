"""Random stream commands to Slotring and a real Valkey: the same replies, events and bytes of DUMP."""

import os
import random
import time

import pytest
from resp import Error

pytestmark = pytest.mark.peer

SERVER_OPTIONS = ["--enable-debug-command", "yes"]
VALKEY_OPTIONS = ["--enable-debug-command", "yes"]
COMMANDS = int(os.environ.get("SLOTRING_DIFFERENTIAL", "1500"))
BATCH = 50
SLACK_MS = 20000  # how far times that both servers count from their own clocks may lie apart
TIMES_FROM = 10**12  # greater numbers are times
STREAMS = [b"s%d" % number for number in range(4)] + [b"{s}1", b"{s}2"]
KEYS = STREAMS + [b"string", b"nothing", b"bi\x00n ary"]
GROUPS = [b"g", b"g1", b"g2", b"h\x00", b"G" * 80, b"none"]
CONSUMERS = [b"alice", b"al", b"bob", b"bo\x00b", b"carol", b"z" * 70]
BAD_IDS = [b"", b"x", b"1-", b"-", b"+", b"-1", b"1-1-1", b"1-x", b"x-1", b"0-0", b"18446744073709551616",
           b"1-18446744073709551616", b"01-02", b" 1-1", b"+5-+6", b"5--3", b"5--03", b"1\x00x", b"1-1\x00",
           b"1" * 127, b"1" * 128, b"*", b"$", b">", b"(", b"((1", b"1-*", b"-0", b"18446744073709551615-*"]
NO_INTEGERS = [b"", b"abc", b"1.5", b"01", b"9223372036854775808", b"-1", b"+1"]
MAX = b"18446744073709551615-18446744073709551615"


class Commands:
    """A stream of commands from one seed; some are wrong on purpose."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.one_of = self.random.choice
        self.ms = 1

    def next(self) -> list[bytes]:
        """One command, without ids from the clock."""
        words = self.any()
        return self.next() if words[0] == b"XADD" and b"*" in words else words

    def any(self) -> list[bytes]:
        words = self.one_of([
            self.add, self.add, self.add, self.add, self.add, self.range_, self.range_, self.delete, self.trim,
            self.read, self.read_group, self.read_group, self.read_group, self.group, self.group, self.ack,
            self.pending, self.claim, self.autoclaim, self.info, self.setid, self.others])()
        wrong = self.random.random()
        if wrong < 0.01:
            return words[:-1] or words
        if wrong < 0.02:
            return [*words, self.one_of([b"x", self.key(), self.id()])]
        if wrong < 0.03:
            words[self.random.randrange(len(words))] = self.one_of(BAD_IDS + NO_INTEGERS)
            return words if words[0] in NAMES else self.any()
        return words

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def key(self) -> bytes:
        return self.one_of(STREAMS) if self.chance(0.95) else self.one_of(KEYS)

    def id(self) -> bytes:
        if self.chance(0.03):
            return self.one_of(BAD_IDS)
        ms = max(0, self.ms - self.random.randrange(25))
        return b"%d" % ms if self.chance(0.1) else b"%d-%d" % (ms, self.random.randrange(3))

    def end(self) -> bytes:
        kind = self.random.random()
        if kind < 0.3:
            return self.one_of([b"-", b"+", b"0", MAX])
        return b"(" + self.id() if kind < 0.45 else self.id()

    def count(self) -> list[bytes]:
        if self.chance(0.5):
            return []
        return [self.one_of([b"COUNT", b"count"]), self.integer()]

    def integer(self) -> bytes:
        return self.one_of(NO_INTEGERS) if self.chance(0.04) else b"%d" % self.random.randrange(1, 12)

    def pairs(self) -> list[bytes]:
        kind = self.random.random()
        if kind < 0.6:
            return [b"field", self.value(), b"x", self.value()]
        if kind < 0.8:
            return [b"7", self.value()]
        return [self.value() for _ in range(2 * self.random.randrange(1, 5))]

    def value(self) -> bytes:
        kind = self.random.random()
        if kind < 0.4:
            return b"%d" % self.one_of([0, 1, -1, 127, 128, 4095, 4096, -4096, -4097, 32767, 32768, 8388607, 8388608,
                                        2**31 - 1, 2**31, -2**31, -2**31 - 1, 2**63 - 1, -2**63, 2**63])
        if kind < 0.9:
            return self.one_of([b"", b"v", b"-", b"-0", b"007", b"1a", b"a1", b"hello", b"x" * 63, b"x" * 64, b"\x00"])
        return b"long" * self.one_of([16, 40, 1023, 1024, 1100, 5000])

    def trimming(self) -> list[bytes]:
        way = self.one_of([[], [b"~"], [b"="], [b"~"]])
        limit = [b"LIMIT", self.integer()] if self.chance(0.3) else []
        if self.chance(0.5):
            bound = b"%d" % self.random.randrange(60) if self.chance(0.95) else self.one_of(NO_INTEGERS)
            return [self.one_of([b"MAXLEN", b"maxlen"]), *way, bound, *limit]
        return [b"MINID", *way, self.id(), *limit]

    def add(self) -> list[bytes]:
        self.ms += self.one_of([0, 0, 1, 1, 2, 300]) if self.chance(0.97) else 70000
        which = self.random.random()
        if which < 0.8:
            id_ = b"%d-%d" % (self.ms, self.random.randrange(4))
        elif which < 0.95:
            id_ = b"%d-*" % self.ms
        else:
            id_ = self.id()
        options = []
        if self.chance(0.1):
            options += [b"NOMKSTREAM"]
        if self.chance(0.12):
            options += self.trimming()
        return [b"XADD", self.key(), *options, id_, *self.pairs()]

    def range_(self) -> list[bytes]:
        if self.chance(0.5):
            return [b"XRANGE", self.key(), self.end(), self.end(), *self.count()]
        return [b"XREVRANGE", self.key(), self.end(), self.end(), *self.count()]

    def ids(self) -> list[bytes]:
        return [self.id() for _ in range(self.one_of([1, 1, 2, 3, 12]))]

    def delete(self) -> list[bytes]:
        return [b"XDEL", self.key(), *self.ids()]

    def trim(self) -> list[bytes]:
        return [b"XTRIM", self.key(), *self.trimming()]

    def read(self) -> list[bytes]:
        n = self.one_of([1, 1, 2, 3])
        ids = [self.one_of([b"$", b"+", b"0", self.id(), self.id()]) for _ in range(n)]
        return [b"XREAD", *self.count(), b"STREAMS", *(self.key() for _ in range(n)), *ids]

    def read_group(self) -> list[bytes]:
        n = self.one_of([1, 1, 1, 2])
        ids = [self.one_of([b">", b">", b">", b"0", self.id()]) for _ in range(n)]
        return [b"XREADGROUP", b"GROUP", self.one_of(GROUPS), self.one_of(CONSUMERS), *self.count(),
                *([b"NOACK"] if self.chance(0.15) else []), b"STREAMS", *(self.key() for _ in range(n)), *ids]

    def group(self) -> list[bytes]:
        kind = self.random.random()
        where = [self.key(), self.one_of(GROUPS)]
        read = [b"ENTRIESREAD", self.one_of([b"0", b"-1", b"5", b"-2", b"x"])] if self.chance(0.3) else []
        if kind < 0.55:
            make = [b"MKSTREAM"] if self.chance(0.6) else []
            return [b"XGROUP", b"CREATE", *where, self.one_of([b"0", b"$", self.id()]), *make, *read]
        if kind < 0.7:
            return [b"XGROUP", b"SETID", *where, self.one_of([b"0", b"$", b"-", b"+", self.id()]), *read]
        if kind < 0.75:
            return [b"XGROUP", b"DESTROY", *where]
        if kind < 0.88:
            return [b"XGROUP", b"CREATECONSUMER", *where, self.one_of(CONSUMERS)]
        return [b"XGROUP", b"DELCONSUMER", *where, self.one_of(CONSUMERS)]

    def ack(self) -> list[bytes]:
        return [b"XACK", self.key(), self.one_of(GROUPS), *self.ids()]

    def pending(self) -> list[bytes]:
        words = [b"XPENDING", self.key(), self.one_of(GROUPS)]
        if self.chance(0.3):
            return words
        if self.chance(0.2):
            words += [b"IDLE", self.one_of([b"0", b"500000", b"x"])]
        words += [self.end(), self.end(), self.integer()]
        return words + ([self.one_of(CONSUMERS)] if self.chance(0.4) else [])

    def claim(self) -> list[bytes]:
        words = [b"XCLAIM", self.key(), self.one_of(GROUPS), self.one_of(CONSUMERS),
                 self.one_of([b"0", b"0", b"500000", b"-5", b"x"]), *self.ids()]
        for options in ([b"IDLE", self.one_of([b"0", b"1000000", b"x"])], [b"TIME", b"1"], [b"FORCE"], [b"JUSTID"],
                        [b"RETRYCOUNT", self.one_of([b"0", b"9", b"-1"])], [b"LASTID", self.id()], [b"WHAT"]):
            if self.chance(0.2 if options != [b"WHAT"] else 0.02):
                words += options
        return words

    def autoclaim(self) -> list[bytes]:
        count = [b"COUNT", self.one_of([b"0", b"1", b"2", b"5", b"x"])] if self.chance(0.6) else []
        return [b"XAUTOCLAIM", self.key(), self.one_of(GROUPS), self.one_of(CONSUMERS),
                self.one_of([b"0", b"500000"]), self.end(), *count, *([b"JUSTID"] if self.chance(0.3) else [])]

    def info(self) -> list[bytes]:
        kind = self.random.random()
        if kind < 0.3:
            return [b"XINFO", b"GROUPS", self.key()]
        if kind < 0.5:
            return [b"XINFO", b"CONSUMERS", self.key(), self.one_of(GROUPS)]
        return [b"XINFO", b"STREAM", self.key(), *self.one_of([
            [], [], [b"FULL"], [b"FULL", b"COUNT", self.integer()], [b"what"], [b"FULL", b"x", b"1"]])]

    def setid(self) -> list[bytes]:
        words = [b"XSETID", self.key(), self.one_of([self.id(), b"%d" % self.ms])]
        if self.chance(0.3):
            words += [b"ENTRIESADDED", b"%d" % self.random.randrange(-1, 60)]
        if self.chance(0.3):
            words += [b"MAXDELETEDID", self.id()]
        return words

    def others(self) -> list[bytes]:
        kind = self.random.random()
        if kind < 0.5:
            return [b"XLEN", self.key()]
        if kind < 0.6:
            return [self.one_of([b"COPY", b"RENAME"]), self.one_of(STREAMS), self.one_of(STREAMS)]
        if kind < 0.7:
            return [b"DEL", self.one_of(STREAMS)]
        return [self.one_of([b"TYPE", b"EXISTS", b"GET"]), self.key()]


NAMES = {b"XADD", b"XRANGE", b"XREVRANGE", b"XDEL", b"XTRIM", b"XREAD", b"XREADGROUP", b"XGROUP", b"XACK", b"XPENDING",
         b"XCLAIM", b"XAUTOCLAIM", b"XINFO", b"XSETID", b"XLEN"}


def about_equal(ours, theirs, clocked: bool) -> bool:
    """The same, or numbers that clocks make differ a little."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        ours = [part for pair in ours.items() for part in pair]
        theirs = [part for pair in theirs.items() for part in pair]
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(
            about_equal(one, other, clocked) for one, other in zip(ours, theirs, strict=True))
    if isinstance(ours, int) and (clocked or ours > TIMES_FROM):
        return ours == theirs or abs(ours - theirs) < SLACK_MS
    return ours == theirs


def compare(ours, theirs, commands, history) -> None:
    """Both get the commands; the replies agree."""
    replies = zip(commands, ours.pipeline(commands), theirs.pipeline(commands), strict=True)
    for at, (words, got, expected) in enumerate(replies):
        clocked = words[0] == b"XPENDING" or words[:2] == [b"XINFO", b"CONSUMERS"]
        if not about_equal(got, expected, clocked):
            before = "\n".join(str(one)[:300] for one in (history + commands[:at])[-25:])
            raise AssertionError(f"{words}\n  ours   {got!s:.3000}\n  theirs {expected!s:.3000}\nbefore:\n{before}")


def looks() -> list[list[bytes]]:
    """Commands that show the whole state."""
    return [command for key in STREAMS for command in (
        [b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"], [b"XINFO", b"STREAM", key], [b"XINFO", b"GROUPS", key],
        [b"XREVRANGE", key, b"+", b"-"])]


def same_bytes(ours, theirs) -> None:
    """Streams without groups have the same DUMP, and each reads what the other wrote."""
    for key in STREAMS:
        if not ours.call("EXISTS", key):
            continue
        dumps = [raw.call("DUMP", key) for raw in (ours, theirs)]
        digests = [raw.call("DEBUG", "DIGEST-VALUE", key) for raw in (ours, theirs)]
        assert digests[0] == digests[1] and not isinstance(digests[0], Error), key
        if ours.call("XINFO", "GROUPS", key) == []:
            assert dumps[0][:-10] == dumps[1][:-10], key
        for raw, dump in ((ours, dumps[1]), (theirs, dumps[0])):
            assert raw.call("RESTORE", "back" + key.decode(), 0, dump, "REPLACE") == b"OK"
        words = ("XINFO", "STREAM", "back" + key.decode(), "FULL", "COUNT", 0)
        assert about_equal(ours.call(*words), theirs.call(*words), False), key
        for raw in (ours, theirs):
            raw.call("DEL", "back" + key.decode())


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_random_commands_get_the_same_replies(server, valkey, seed, protocol):
    rng = random.Random(seed)
    settings = {"stream-node-max-entries": rng.choice([3, 10, 100, 0]) if seed else 100,
                "stream-node-max-bytes": rng.choice([200, 4096, 0]) if seed else 4096, "rdbcompression": "no"}
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("HELLO", protocol)
            raw.call("FLUSHALL")
            raw.call("SET", "string", "x")
            for name, value in settings.items():
                raw.call("CONFIG", "SET", name, value)
        commands = Commands(seed * 10 + protocol)
        history: list[list[bytes]] = []
        for batch in range(COMMANDS // BATCH):
            some = [commands.next() for _ in range(BATCH)]
            compare(ours, theirs, some, history)
            history = (history + some)[-200:]
            if batch % 4 == 3:
                compare(ours, theirs, looks(), history)
            if batch % 16 == 15:
                same_bytes(ours, theirs)
                compare(ours, theirs, [[b"DEL", *commands.random.sample(STREAMS, 2)]], history)
        for raw in (ours, theirs):
            raw.call("FLUSHALL")


def test_the_same_events_in_the_same_order(server, valkey):
    commands = Commands(77)
    words = [one for one in (commands.next() for _ in range(2000)) if one[0] in NAMES]
    heard = []
    for one in (server, valkey):
        with one.raw() as raw, one.raw() as listener:
            raw.call("FLUSHALL")
            raw.call("SET", "string", "x")
            raw.call("CONFIG", "SET", "notify-keyspace-events", "KEAnm")
            listener.call("PSUBSCRIBE", "__key*")
            for at in range(0, len(words), BATCH):
                raw.pipeline(words[at : at + BATCH])
            raw.call("PUBLISH", "__keyend", "x")
            events = []
            while not events or events[-1][2] != b"__keyend":
                events.append(listener.reply())
            heard.append(events)
            raw.call("CONFIG", "SET", "notify-keyspace-events", "")
    for at, (got, expected) in enumerate(zip(*heard, strict=False)):
        assert got == expected, "\n".join(map(str, [*heard[0][max(at - 6, 0) : at + 3], *heard[1][at : at + 3]]))
    assert len(heard[0]) == len(heard[1])


def test_automatic_ids(server, valkey):
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("DEL", "auto")
            before = int(time.time() * 1000)
            first, second = (raw.call("XADD", "auto", "*", "f", "v") for _ in range(2))
            ms, seq = first.split(b"-")
            assert before - 1000 <= int(ms) <= before + 1000 and seq == b"0"
            assert tuple(map(int, second.split(b"-"))) > (int(ms), 0)
            raw.call("XADD", "auto", "99999999999999-5", "f", "v")
            assert raw.call("XADD", "auto", "*", "f", "v") == b"99999999999999-6"
            raw.call("XSETID", "auto", "18446744073709551615-18446744073709551614")
            assert raw.call("XADD", "auto", "*", "f", "v") == MAX
            assert isinstance(raw.call("XADD", "auto", "*", "f", "v"), Error)


def test_options_and_their_errors(server, valkey):
    script = [
        ["XADD", "k", "MAXLEN", "1", "MINID", "1", "1-1", "f", "v"], ["XADD", "k", "MAXLEN", "-1", "1-1", "f", "v"],
        ["XADD", "k", "LIMIT", "1", "1-1", "f", "v"], ["XADD", "k", "LIMIT", "0", "1-1", "f", "v"],
        ["XADD", "k", "MAXLEN", "~", "5", "LIMIT", "-1", "1-1", "f", "v"], ["XADD", "k", "0-0", "f", "v"],
        ["XADD", "k", "MAXLEN", "=", "5", "LIMIT", "1", "1-1", "f", "v"], ["XADD", "k", "*", "f"],
        ["XADD", "k", "MAXLEN", "~", "f", "v"], ["XADD", "k", "MAXLEN", "5", "6", "7"], ["XADD", "k", "-", "f", "v"],
        ["XADD", "k", "NOMKSTREAM", "*", "f", "v"], ["XADD", "k", "NOMKSTREAM", "NOMKSTREAM", "1-1", "f", "v"],
        ["XADD", "k", "5-5", "f", "v"], ["XADD", "k", "5-4", "f", "v"], ["XADD", "k", "5-*", "f", "v"],
        ["XADD", "k", "4-*", "f", "v"], ["XADD", "k", "5-18446744073709551615", "f", "v"],
        ["XADD", "k", "5-*", "f", "v"],
        ["XTRIM", "k", "LIMIT", "1"], ["XTRIM", "k", "5"], ["XTRIM", "k", "MAXLEN"], ["XTRIM", "k", "MAXLEN", "~"],
        ["XTRIM", "k", "MAXLEN", "~", "0", "LIMIT", "0"], ["XTRIM", "k", "MAXLEN", "0", "LIMIT", "0"],
        ["XREAD", "STREAMS"], ["XREAD", "STREAMS", "k"], ["XREAD", "COUNT", "STREAMS", "k", "0"],
        ["XREAD", "BLOCK", "x", "STREAMS", "k", "0"], ["XREAD", "BLOCK", "-1", "STREAMS", "k", "0"],
        ["XREAD", "BLOCK", "9223372036854775807", "STREAMS", "k", "0"], ["XREAD", "STREAMS", "k", ">"],
        ["XREAD", "GROUP", "a", "b", "STREAMS", "k", "0"], ["XREAD", "NOACK", "STREAMS", "k", "0"],
        ["XREAD", "BLOCK", "1", "STREAMS", "nothing", "$"], ["XREAD", "COUNT", "-1", "STREAMS", "k", "0"],
        ["XREADGROUP", "GROUP", "a", "b", "STREAMS", "k", "0"], ["XREADGROUP", "COUNT", "1", "STREAMS", "k", "0", "1"],
        ["XREADGROUP", "COUNT", "1", "BLOCK", "1", "STREAMS", "k", "0"],
        ["XREADGROUP", "GROUP", "STREAMS", "STREAMS", "STREAMS", "k", "0"],
        ["XGROUP", "CREATE", "k", "g", "$"], ["XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", "$"],
        ["XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", "+"], ["XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", MAX],
        ["XREADGROUP", "GROUP", "g", "c", "BLOCK", "1", "STREAMS", "k", ">"], ["XGROUP", "WHAT", "k"],
        ["XGROUP", "CREATE", "k", "g", "$"], ["XGROUP", "CREATE", "new", "g", "$"],
        ["XGROUP", "CREATE", "string", "g", "$"],
        ["XGROUP", "CREATE", "k", "g", "0", "MKSTREAM", "MKSTREAM", "MKSTREAM", "MKSTREAM"],
        ["XGROUP", "SETID", "k", "g", "0", "MKSTREAM"], ["XGROUP", "SETID", "k", "none", "0"],
        ["XGROUP", "CREATE", "k", "g4", "0", "ENTRIESREAD"], ["XGROUP", "DESTROY", "none", "g"],
        ["XINFO", "WHAT", "k"], ["XINFO", "STREAM", "none"], ["XINFO", "STREAM", "k", "FULL", "COUNT", "x"],
        ["XINFO", "CONSUMERS", "k", "none"], ["XINFO", "CONSUMERS", "k"], ["XINFO", "GROUPS", "string"],
        ["XAUTOCLAIM", "k", "g", "c", "0", "0", "COUNT", "8070450532247928833"], ["XPENDING", "k", "g", "-", "+"],
        ["XAUTOCLAIM", "k", "g", "c", "0", "0", "COUNT", "576460752303423487"], ["XPENDING", "k", "none"],
        ["XPENDING", "k", "g", "-", "+", "1", "c", "d"], ["XPENDING", "k", "g", "IDLE", "1", "-", "+"],
        ["XRANGE", "k", "(" + MAX.decode(), "+"], ["XRANGE", "k", "-", "(0-0"], ["XRANGE", "k", "(-", "+"],
        ["XRANGE", "k", "-", "+", "COUNT", "0"], ["XRANGE", "none", "-", "+", "COUNT", "0"],
        ["XRANGE", "k", "-", "+", "COUNT", "1", "COUNT", "2"], ["XSETID", "none", "1-1"], ["XSETID", "k", "1-1"]]
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("FLUSHALL")
            raw.call("SET", "string", "x")
        compare(ours, theirs, [[w if isinstance(w, bytes) else w.encode() for w in words] for words in script], [])
