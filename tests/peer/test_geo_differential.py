"""Random geo commands to Slotring and a real Valkey: the same bytes back, the same sets in the end.

SLOTRING_DIFFERENTIAL says how many commands a seed sends.
"""

import os
import random

import pytest
from test_strings_differential import compare

pytestmark = pytest.mark.peer

COMMANDS = int(os.environ.get("SLOTRING_DIFFERENTIAL", "2000"))
BATCH = 40
SERVER_OPTIONS = VALKEY_OPTIONS = ["--zset-max-listpack-entries", "16"]
KEYS = [b"g%d" % number for number in range(3)]
MEMBERS = [b"m%d" % number for number in range(60)] + [b"17", b"-4", b""]
UNITS = [b"m", b"km", b"KM", b"ft", b"mi"]
WRONG_NUMBERS = [b"", b"abc", b"nan", b"-1", b"1e400"]


class Commands:
    """A stream of commands from one seed; some are wrong on purpose."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.one_of = self.random.choice
        self.centre = (0.0, 0.0)

    def key(self) -> bytes:
        return b"a-string" if self.random.random() < 0.02 else self.one_of([*KEYS, *KEYS, *KEYS, b"missing"])

    def number(self, low: float, high: float) -> bytes:
        if self.random.random() < 0.02:
            return self.one_of(WRONG_NUMBERS)
        return repr(self.random.uniform(low, high)).encode()

    def place(self, edges: bool = True) -> list[bytes]:
        kind = self.random.random()
        if kind < 0.3:
            return [self.number(-181, 181), self.number(-86, 86)]
        if kind < 0.4 and edges:
            return [self.one_of([b"180", b"-180", b"0"]), self.one_of([b"85.05112878", b"-85.05112878", b"0", b"70"])]
        return [self.number(13, 15), self.number(37, 39)]

    def distance(self) -> bytes:
        return self.number(0, self.one_of([10, 1000, 100000, 10000000]))

    def unit(self) -> bytes:
        return self.one_of([b"x", b""]) if self.random.random() < 0.02 else self.one_of(UNITS)

    def case(self, word: bytes) -> bytes:
        return self.one_of([word, word.lower(), word.title()])

    def next(self) -> list[bytes]:
        """One command."""
        words = self.one_of([self.add, self.add, self.plain, self.radius, self.search, self.search, self.store])()
        wrong = self.random.random()
        if wrong < 0.02:
            return words[:-1]
        return [*words, self.one_of(MEMBERS)] if wrong < 0.03 else words

    def add(self) -> list[bytes]:
        words = [b"GEOADD", self.key()]
        for _ in range(self.one_of([0, 0, 1, 2])):
            words.append(self.case(self.one_of([b"NX", b"XX", b"CH", b"CH"])))
        for _ in range(self.one_of([1, 2, 5, 20])):
            words += [*self.place(self.random.random() < 0.05), self.one_of(MEMBERS)]
        return words

    def plain(self) -> list[bytes]:
        name = self.one_of([b"GEOPOS", b"GEOHASH", b"GEODIST", b"ZREM", b"ZSCORE"])
        if name == b"GEODIST":
            words = [name, self.key(), self.one_of(MEMBERS), self.one_of(MEMBERS)]
            return words + ([self.unit()] if self.random.random() < 0.5 else [])
        if name == b"ZSCORE":
            return [name, self.key(), self.one_of(MEMBERS)]
        return [name, self.key(), *(self.one_of(MEMBERS) for _ in range(self.random.randint(0, 6)))]

    def options(self, stores: bool) -> list[bytes]:
        words = []
        for word in (b"WITHDIST", b"WITHHASH", b"WITHCOORD"):
            if self.random.random() < (0.03 if stores else 0.4):
                words.append(self.case(word))
        kind = self.random.random()
        if kind < 0.4:
            words += [self.case(b"COUNT"), self.one_of([b"1", b"2", b"5", b"100", b"0", b"x"])]
            if self.random.random() < 0.3:
                words.append(self.case(b"ANY"))
        elif kind < 0.43:
            words.append(b"ANY")
        if self.random.random() < 0.7:
            words.append(self.case(self.one_of([b"ASC", b"DESC"])))
        return words

    def radius(self) -> list[bytes]:
        member = self.random.random() < 0.5
        name = b"GEORADIUSBYMEMBER" if member else b"GEORADIUS"
        read_only = self.random.random() < 0.3
        store = self.random.random() < 0.3
        words = [name + b"_RO" if read_only else name, self.key()]
        words += [self.one_of(MEMBERS)] if member else self.place()
        words += [self.distance(), self.unit(), *self.options(store)]
        if store and not (read_only and self.random.random() < 0.9):
            words += [self.case(self.one_of([b"STORE", b"STOREDIST"])), self.one_of([*KEYS, b"out"])]
        return words

    def shape(self) -> list[bytes]:
        start = self.one_of([[b"FROMLONLAT", *self.place()], [b"FROMLONLAT", *self.place()],
                             [b"FROMMEMBER", self.one_of(MEMBERS)]])
        kind = self.random.random()
        if kind < 0.35:
            return [*start, self.case(b"BYRADIUS"), self.distance(), self.unit()]
        if kind < 0.65:
            return [*start, self.case(b"BYBOX"), self.distance(), self.distance(), self.unit()]
        if kind < 0.95:
            count = self.one_of([3, 3, 4, 6])
            # not around a pole: where a polygon's centre cannot be encoded Valkey uses what is on its stack
            some = [self.one_of([[self.number(-60, 60), self.number(-70, 70)],
                                 [self.number(13, 15), self.number(37, 39)]])
                    for _ in range(count)]
            return [self.case(b"BYPOLYGON"), self.one_of([b"%d" % count] * 20 + [b"2", b"x", b"99"]),
                    *(word for place in some for word in place)]
        return self.one_of([start, [b"BYRADIUS", b"1", b"km"], [*start, *start], []])

    def search(self) -> list[bytes]:
        return [self.one_of([b"GEOSEARCH", b"geosearch"]), self.key(), *self.shape(), *self.options(False)]

    def store(self) -> list[bytes]:
        words = [b"GEOSEARCHSTORE", self.one_of([*KEYS, b"out"]), self.key(), *self.shape(), *self.options(True)]
        return [*words, b"STOREDIST"] if self.random.random() < 0.3 else words


def looks() -> list[list[bytes]]:
    found = []
    for key in [*KEYS, b"out"]:
        found += [[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"], [b"OBJECT", b"ENCODING", key]]
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("protocol", [2, 3])
def test_random_commands_get_the_same_bytes(server, valkey, seed, protocol):
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("HELLO", protocol)
            raw.call("FLUSHALL")
            raw.call("SET", "a-string", "x")
        commands = Commands(seed * 10 + protocol)
        history: list[list[bytes]] = []
        for batch in range(COMMANDS // BATCH):
            some = [commands.next() for _ in range(BATCH)]
            compare(ours, theirs, some, history)
            history = history[-200:] + some
            if batch % 5 == 4:
                compare(ours, theirs, looks(), history)
            if batch % 10 == 9:
                gone = [b"DEL", commands.one_of(KEYS), b"out"]
                compare(ours, theirs, [gone], history)
                history.append(gone)


def test_scores_that_are_no_places(server, valkey):
    with server.raw() as ours, valkey.raw() as theirs:
        scores = [b"-1", b"1.5", b"1e18", b"inf", b"-inf", b"4503599627370496", b"0", b"1e300", b"18446744073709551615"]
        compare(ours, theirs, [[b"DEL", b"odd"], *([b"ZADD", b"odd", score, score] for score in scores),
                               [b"GEOPOS", b"odd", *scores], [b"GEOHASH", b"odd", *scores],
                               [b"GEODIST", b"odd", b"0", b"1e18"],
                               [b"GEOSEARCH", b"odd", b"FROMLONLAT", b"0", b"0", b"BYRADIUS", b"30000", b"km", b"ASC"]],
                [])
