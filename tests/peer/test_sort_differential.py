"""Random SORT and SORT_RO to Slotring and a real Valkey: the same bytes back.

SLOTRING_DIFFERENTIAL: how many for each seed. Where Valkey's order hangs on its own hash table or on the
choice of pivots (equal weights with BY and LIMIT), it is not asked for."""

import os
import random

import pytest
from resp import Raw
from test_events_differential import heard, listen
from test_lists_differential import changes
from test_strings_differential import compare

pytestmark = pytest.mark.peer
COMMANDS = int(os.environ.get("SLOTRING_DIFFERENTIAL", "1500"))
BATCH = 25
LISTS = [b"l1", b"l2", b"long", b"texts", b"dst", b"none"]
SETS = [b"ints", b"small-set"]
ZSETS = [b"z"]
ODD = [b"a-string", b"a-hash"]


def filling(numbers: random.Random) -> list[list[bytes]]:
    """Commands that make what is sorted, and what BY and GET look at."""
    plain = [b"%d" % number for number in numbers.sample(range(-500, 500), 60)]
    found = [
        [b"RPUSH", b"l1", *plain[:20]],
        [b"RPUSH", b"l2", b"1.5", b"-2", b"+3", b".5", b"5.", b"1e2", b"inf", b"-inf", b"-0", b"0", b"1\x00x", b"007"],
        [b"RPUSH", b"long", *(b"%.3f" % numbers.uniform(-9, 9) for _ in range(400))],
        [b"RPUSH", b"texts", *(bytes(numbers.choices(b"ab\x00\xffzA", k=numbers.randint(0, 12))) for _ in range(80))],
        [b"SADD", b"ints", *plain[:40]], [b"SADD", b"small-set", b"x", b"y", b"7", b"1.5", b"zz"],
        [b"ZADD", b"z", *(word for at, name in enumerate(plain[:50]) for word in (b"%d" % (at * 7 % 50), name))],
        [b"SET", b"a-string", b"x"], [b"HSET", b"a-hash", b"f", b"v"],
    ]
    weights = numbers.sample(range(1000), 60)
    for name, weight in zip(plain, weights, strict=True):
        found += [[b"SET", b"w_" + name, b"%d" % weight], [b"SET", b"t_" + name + b"_x", b"text %d" % (weight * 7919)],
                  [b"HSET", b"h_" + name, b"weight", b"%.1f" % (1000 - weight), b"name", b"n%d" % weight]]
    found += [[b"DEL", b"w_" + plain[0]], [b"PSETEX", b"w_" + plain[1], b"1000000", b"1e3"], [b"SET", b"b_1", b"no"]]
    return found


class Commands:
    """A stream of SORTs from one seed; some are wrong on purpose."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.one_of = self.random.choice

    def case(self, word: bytes) -> bytes:
        return self.one_of([word, word.lower(), word.title()])

    def pattern(self) -> bytes:
        return self.one_of([b"w_*", b"w_*", b"t_*_x", b"h_*->weight", b"h_*->name", b"h_*->nothing", b"#", b"*",
                            b"h_*->", b"none_*", b"w_*->f", b"constant", b"->", b"", b"x\x00w_*", b"*->name", b"a-*"])

    def next(self) -> list[bytes]:
        """One command."""
        key = self.one_of(LISTS * 3 + SETS * 3 + ZSETS * 4 + ODD)
        words = [self.case(self.one_of([b"SORT", b"SORT", b"SORT_RO"])), key]
        by = self.one_of([None, None, b"w_*", b"h_*->weight", b"h_*->name", b"nosort", b"t_*_x", b"none_*", b"b_*"])
        texts = by in (b"t_*_x", b"h_*->name") or key in (b"texts", b"small-set")
        alpha = self.random.random() < (0.9 if texts else 0.4)
        if key in (*SETS, *ZSETS) and (by in (b"none_*", b"b_*", b"nosort")) and key != b"ints" and key != b"z":
            by = None
        if by is not None:
            words += [self.case(b"BY"), by]
        if alpha:
            words.append(self.case(b"ALPHA"))
        tied = by is not None and b"*" in by and (alpha or key in (b"long", b"l2", b"texts"))
        if key == b"z" and alpha and by is not None and b"*" in by:
            words = words[:2]  # equal ones come in its table's order
        if self.random.random() < 0.4 and not tied:
            words += [self.case(b"LIMIT"), self.number(), self.number()]
        for _ in range(self.one_of([0, 0, 1, 2, 5, 20])):
            words += [self.case(b"GET"), self.pattern()]
        if self.random.random() < 0.5:
            words.append(self.case(self.one_of([b"DESC", b"ASC"])))
        if self.random.random() < 0.25:
            words += [self.case(b"STORE"), self.one_of([b"dst", b"dst", b"{a}dst"])]
        if self.random.random() < 0.03:
            words = words[:-1] if self.random.random() < 0.5 else [*words, b"WRONG"]
        return words

    def number(self) -> bytes:
        if self.random.random() < 0.02:
            return self.one_of([b"x", b"", b"9223372036854775808", b"1.5"])
        return self.one_of([b"0", b"1", b"2", b"5", b"10", b"-1", b"-5", b"39", b"40", b"1000", b"9223372036854775807",
                            b"-9223372036854775808"])


LOOKS = [[b"LRANGE", b"dst", b"0", b"-1"], [b"OBJECT", b"ENCODING", b"dst"], [b"TTL", b"dst"], [b"EXISTS", b"dst"],
         [b"LRANGE", b"{a}dst", b"0", b"-1"]]


def fill(ours: Raw, theirs: Raw, commands: Commands) -> None:
    """Make the keys on both."""
    filled = filling(commands.random)
    known = {name for name in (b"SADD", b"ZADD", b"HSET") if ours.call("COMMAND", "INFO", name)[0]}
    filled = [words for words in filled if words[0] in known | {b"RPUSH", b"SET", b"DEL", b"PSETEX"}]
    compare(ours, theirs, filled, [])


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_random_sorts_get_the_same_bytes(server, valkey, seed):
    with server.raw() as ours, valkey.raw() as theirs:
        commands = Commands(seed)
        for raw in (ours, theirs):
            raw.call("HELLO", 2 + seed % 2)
            raw.call("FLUSHALL")
        fill(ours, theirs, commands)
        history: list[list[bytes]] = []
        for batch in range(COMMANDS // BATCH):
            some = [commands.next() for _ in range(BATCH)]
            if batch % 3 == 0:
                some = [[b"MULTI"], *(words for words in some if words[0].upper() != b"MULTI"), [b"EXEC"]]
            compare(ours, theirs, some + LOOKS, history)
            history += some


@pytest.mark.parametrize("count", [1, 2, 13, 100, 5000])
@pytest.mark.parametrize("shape", ["random", "sorted", "reversed", "equal", "saw"])
def test_orders_of_every_shape(server, valkey, count, shape):
    """Inputs that are hard for one way of sorting or another, whole and in parts."""
    numbers = {"random": random.Random(count).choices(range(1 << 40), k=count), "sorted": list(range(count)),
               "reversed": list(range(count, 0, -1)), "equal": [7] * count,
               "saw": [at % 17 * 1000 + at % 5 for at in range(count)]}[shape]
    with server.raw() as ours, valkey.raw() as theirs:
        commands = [[b"DEL", b"l"], [b"RPUSH", b"l", *(b"%d" % number for number in numbers)]]
        for limit in ([], [b"LIMIT", b"3", b"7"], [b"LIMIT", b"%d" % (count // 2), b"1"], [b"LIMIT", b"-1", b"0"]):
            for more in ([], [b"DESC"], [b"ALPHA"], [b"ALPHA", b"DESC"], [b"BY", b"x", b"DESC"]):
                commands.append([b"SORT", b"l", *limit, *more])
        compare(ours, theirs, commands, [])


def test_sorts_make_the_same_events_and_changes(server, valkey):
    (ours, our_ears), (theirs, their_ears) = listen(server, "KEA"), listen(valkey, "KEA")
    with ours, our_ears, theirs, their_ears:
        commands = Commands(99)
        fill(ours, theirs, commands)
        heard(ours, our_ears), heard(theirs, their_ears)
        first = changes(ours), changes(theirs)
        for _ in range(COMMANDS // 10):
            words = commands.next()
            compare(ours, theirs, [words], [])
            assert heard(ours, our_ears) == heard(theirs, their_ears), words
            assert changes(ours) - first[0] == changes(theirs) - first[1], words
        for raw in (ours, theirs):
            raw.call("CONFIG", "SET", "notify-keyspace-events", "")
