"""Eight client threads on few keys over two workers: nothing is lost, doubled, torn or deadlocked.

Every role has an outcome that can be computed exactly from the replies alone, however they
interleave: a counter's sum, an APPEND's bytes in each thread's order, a bit that only one thread
sets, a GETSET chain in which each value comes out once, RENAMENX that moves tokens about without
losing one, MSET that MGET never sees half of, and counters that expire or are flushed under the
feet of those who count.
"""

import os
import random
import threading
import time
from collections import Counter

import pytest
from resp import Error, Raw

SERVER_OPTIONS = ["--io-threads", "2"]
THREADS = 8
BATCH = 40
SHORT_S = float(os.environ.get("SLOTRING_TEST_THREADS_S", "1.5"))
LONG_S = 120.0
COUNTERS = [f"count:{i}" for i in range(4)]
TOKENS = 12
TOKEN_KEYS = [f"token:{i}" for i in range(3 * TOKENS)]
PAIR_KEYS = [f"pair:{i}" for i in range(5)]
BITS = 4096
FLUSHED_DB = 9
CHUNK_BYTES = 12


class Role:
    """What one client thread does, and what it saw."""

    def __init__(self, port: int, number: int):
        self.number = number
        self.chance = random.Random(number)
        self.raw = Raw(port, 30)
        self.flusher = Raw(port, 30)
        assert self.flusher.call("SELECT", FLUSHED_DB) == b"OK"
        self.counts: Counter = Counter()
        self.appended = 0
        self.bits = [0] * BITS
        self.given: list[bytes] = []
        self.taken: list[bytes | None] = []
        self.expiring: Counter = Counter()
        self.flushed: Counter = Counter()
        self.flushes = 0
        self.batches = 0
        self.actions = [self.incr, self.append, self.setbit, self.getset, self.rename, self.pairs,
                        self.expire, self.flush]

    def incr(self) -> None:
        keys = [self.chance.choice(COUNTERS) for _ in range(BATCH)]
        replies = self.raw.pipeline([("INCR", key) for key in keys])
        assert all(isinstance(reply, int) for reply in replies), replies
        last: dict[str, int] = {}
        for key, value in zip(keys, replies, strict=True):
            assert value > last.get(key, 0), "a counter went back within one connection"
            last[key] = value
        self.counts.update(keys)

    def append(self) -> None:
        chunks = [f"{self.number}:{self.appended + i:09d};" for i in range(BATCH)]
        self.appended += BATCH
        lengths = self.raw.pipeline([("APPEND", "text", chunk) for chunk in chunks])
        assert all(length % CHUNK_BYTES == 0 for length in lengths), lengths
        assert lengths == sorted(set(lengths))

    def setbit(self) -> None:
        commands, expected = [], []
        for _ in range(BATCH):
            bit = self.chance.randrange(BITS)
            value = self.chance.randrange(2)
            commands.append(("SETBIT", "bits", bit * THREADS + self.number, value))
            expected.append(self.bits[bit])
            self.bits[bit] = value
        assert self.raw.pipeline(commands) == expected

    def getset(self) -> None:
        values = [b"%d.%d" % (self.number, len(self.given) + i) for i in range(BATCH)]
        self.given += values
        self.taken += self.raw.pipeline([("GETSET", "chain", value) for value in values])

    def rename(self) -> None:
        commands = []
        for _ in range(BATCH):
            source, target = self.chance.sample(TOKEN_KEYS, 2)
            commands.append(("RENAMENX", source, target))
        for reply in self.raw.pipeline(commands):
            assert reply in (0, 1) or reply == Error("ERR no such key"), reply

    def pairs(self) -> None:
        value = f"{self.number}:{self.batches}" * self.chance.choice([1, 1, 10])
        commands: list[tuple] = []
        for _ in range(BATCH // 2):
            keys = self.chance.sample(PAIR_KEYS, len(PAIR_KEYS))
            commands.append(("MSET", *(item for key in keys for item in (key, value))))
            commands.append(("MGET", *self.chance.sample(PAIR_KEYS, len(PAIR_KEYS))))
        for reply in self.raw.pipeline(commands)[1::2]:
            assert len(set(reply)) == 1, f"MGET saw half of an MSET: {reply}"

    def expire(self) -> None:
        commands: list[tuple] = []
        for _ in range(BATCH // 2):
            commands.append(("INCR", "expiring"))
            commands.append(("PEXPIRE", "expiring", self.chance.choice([1, 2, 20, 50]), "NX"))
        self.expiring.update(self.raw.pipeline(commands)[::2])

    def flush(self) -> None:
        commands: list[tuple] = [("INCR", "flushed")] * BATCH
        if self.chance.random() < 0.3:
            commands.insert(self.chance.randrange(BATCH), ("FLUSHDB",))
            self.flushes += 1
        self.flushed.update(r for r in self.flusher.pipeline(commands) if r != b"OK")

    def run(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            self.chance.choice(self.actions)()
            self.batches += 1

    def close(self) -> None:
        self.raw.close()
        self.flusher.close()


def _run_all(roles: list[Role], seconds: float) -> None:
    failures: list[BaseException] = []
    deadline = time.monotonic() + seconds

    def body(role: Role) -> None:
        try:
            role.run(deadline)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=body, args=(role,)) for role in roles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _check_counted_epochs(seen: Counter, what: str) -> None:
    """A counter that is removed now and then gives 1, 2, … m in each of its lives."""
    assert all(isinstance(value, int) for value in seen), seen
    values = sorted(seen)
    assert values == list(range(1, len(values) + 1)), f"{what}: values left out"
    lives = [seen[value] for value in values]
    assert lives == sorted(lives, reverse=True), f"{what}: a value came too often"


def _check(client, roles: list[Role]) -> None:
    for key in COUNTERS:
        assert int(client.get(key)) == sum(role.counts[key] for role in roles)
    text = client.get("text").decode()
    assert len(text) == CHUNK_BYTES * sum(role.appended for role in roles)
    for role in roles:
        own = [part for part in text.split(";") if part.startswith(f"{role.number}:")]
        assert own == [f"{role.number}:{i:09d}" for i in range(role.appended)]
    assert client.bitcount("bits") == sum(sum(role.bits) for role in roles)
    given = Counter(value for role in roles for value in role.given)
    taken = Counter(value for role in roles for value in role.taken if value is not None)
    taken[client.get("chain")] += 1
    assert given == taken, "a GETSET value was lost or came twice"
    assert sum(value is None for role in roles for value in role.taken) == 1
    tokens = [value for value in client.mget(TOKEN_KEYS) if value is not None]
    assert sorted(tokens) == sorted(b"%d" % i for i in range(TOKENS))
    assert len(set(client.mget(PAIR_KEYS))) == 1
    _check_counted_epochs(sum((role.expiring for role in roles), Counter()), "expiry")
    _check_counted_epochs(sum((role.flushed for role in roles), Counter()), "FLUSHDB")


@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(LONG_S, marks=pytest.mark.slow)])
def test_eight_threads_on_few_keys(client, server, seconds):
    client.mset({TOKEN_KEYS[i]: i for i in range(TOKENS)})
    client.mset(dict.fromkeys(PAIR_KEYS, "start"))
    expired = client.info("stats")["expired_keys"]
    roles = [Role(server.port, number) for number in range(THREADS)]
    try:
        _run_all(roles, seconds)
        _check(client, roles)
    finally:
        for role in roles:
            role.close()
    assert all(role.batches > 10 for role in roles), "a thread hardly came to run"
    epochs = sum(role.expiring[1] for role in roles)
    time.sleep(0.3)
    assert client.get("expiring") is None
    assert client.info("stats")["expired_keys"] - expired == epochs
    client.execute_command("FLUSHALL")
    assert client.info("keyspace") == {}


def test_watchers_and_writers_of_one_key(client, server):
    """SET and GET of values of many sizes: a reader never sees a value that nobody wrote."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        chance = random.Random(number)
        letter = b"abcdefgh"[number : number + 1]
        with server.raw(30) as raw:
            while not stop.is_set():
                sizes = chance.choices([1, 8, 44, 45, 300, 5000, 70_000], k=5)
                raw.pipeline([("SET", "torn", letter * size) for size in sizes])

    def read() -> None:
        with server.raw(30) as raw:
            while not stop.is_set():
                for value in raw.pipeline([("GET", "torn")] * 10):
                    assert value is None or len(set(value)) == 1, "a torn value"

    def body(function, *args) -> None:
        try:
            function(*args)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=body, args=(write, number)) for number in range(4)]
    threads += [threading.Thread(target=body, args=(read,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(min(1.5, SHORT_S))
    stop.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_flushall_and_counting_threads(client, server):
    """Everybody stops the world at once: FLUSHALL from every thread among single-key commands."""
    stop_at = time.monotonic() + min(1, SHORT_S)
    failures: list[BaseException] = []
    seen: list[Counter] = []

    def body(number: int) -> None:
        counts: Counter = Counter()
        try:
            with server.raw(30) as raw:
                while time.monotonic() < stop_at:
                    commands = [("INCR", "n"), ("DBSIZE",), ("MSET", "a", 1, "b", 2), ("INCR", "n")]
                    if number % 2 == 0:
                        commands.insert(1 + number % 3, ("FLUSHALL",))
                    replies = raw.pipeline(commands)
                    counts.update([replies[0], replies[-1]])
        except BaseException as error:
            failures.append(error)
        seen.append(counts)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    _check_counted_epochs(sum(seen, Counter()), "FLUSHALL")
