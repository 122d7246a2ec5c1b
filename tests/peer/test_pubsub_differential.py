"""Random subscriptions and messages on several connections to Slotring and a real Valkey: everything each one hears."""

import os
import random

import pytest
from resp import NOTHING, Raw, encode

pytestmark = pytest.mark.peer

SERVER_OPTIONS = ["--io-threads", "2"]
STEPS = int(os.environ.get("SLOTRING_DIFFERENTIAL", "2000"))
CHANNELS = [b"a", b"b", b"ab", b"", b"news.1", b"x" * 60]
PATTERNS = [b"*", b"a*", b"?", b"news.[1-3]", b"", b"[ab]", b"zz*"]
END_ALL = (b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE")


class Stream:
    """Which connection says what."""

    def __init__(self, seed: int, connections: int):
        self.random = random.Random(seed)
        self.one_of = self.random.choice
        self.connections = connections

    def some(self, names: list[bytes], least: int = 1) -> list[bytes]:
        return [self.one_of(names) for _ in range(self.random.randint(least, 3))]

    def next(self) -> tuple[int, list[bytes]]:
        return self.random.randrange(self.connections), self.one_of([
            lambda: [b"SUBSCRIBE", *self.some(CHANNELS)], lambda: [b"PSUBSCRIBE", *self.some(PATTERNS)],
            lambda: [b"SSUBSCRIBE", *self.some(CHANNELS)], lambda: [b"UNSUBSCRIBE", *self.some(CHANNELS, 0)],
            lambda: [b"PUNSUBSCRIBE", *self.some(PATTERNS, 0)], lambda: [b"SUNSUBSCRIBE", *self.some(CHANNELS, 0)],
            self.publish, self.publish, self.publish, self.publish, self.look, self.look, self.other])()

    def publish(self) -> list[bytes]:
        return [self.one_of([b"PUBLISH", b"PUBLISH", b"SPUBLISH"]), self.one_of(CHANNELS),
                self.one_of([b"m", b"", b"m" * 100, b"m" * 20000, b"\r\n\x00"])]

    def look(self) -> list[bytes]:
        return [b"PUBSUB", *self.one_of([
            [b"CHANNELS"], [b"channels", self.one_of(PATTERNS)], [b"NUMSUB"], [b"NUMSUB", *self.some(CHANNELS)],
            [b"NUMPAT"], [b"SHARDCHANNELS"], [b"SHARDCHANNELS", self.one_of(PATTERNS)],
            [b"SHARDNUMSUB", *self.some(CHANNELS)], [b"CHANNELS", b"a", b"b"], [b"NUMPAT", b"x"], [b"none"]])]

    def other(self) -> list[bytes]:
        return self.one_of([[b"PING"], [b"PING", b"x"], [b"PING", b"x", b"y"], [b"GET", b"none"], [b"RESET"],
                            [b"HELLO", b"3"], [b"MULTI"], [b"EXEC"], [b"SUBSCRIBE"], [b"PUBLISH", b"a"],
                            [b"CLIENT", b"REPLY", b"SKIP"], [b"HELLO", b"2"]])


def settle(raws: list[Raw]) -> list[list]:
    """What each connection of a server of one thread has got: commands of other connections are done by then."""
    probe = raws[-1]
    probe.call("PING")
    probe.call("PING")
    heard = []
    for raw in raws[:-1]:
        raw.socket.settimeout(0.0)
        values = []
        while True:
            value = raw.parser.next()
            if value is not NOTHING:
                values.append(value)
                continue
            try:
                raw.parser.feed(raw.socket.recv(1 << 18))
            except BlockingIOError:
                break
        raw.socket.settimeout(20)
        heard.append(values)
    return heard


def plain(value: object, words: list[bytes]) -> object:
    """A reply without what may differ: ids, and the order in which a table is walked."""
    if isinstance(value, dict):
        return sorted(str(key) for key in value)
    if isinstance(value, list) and words[0] == b"HELLO":
        return len(value)
    if isinstance(value, list) and words[:1] == [b"PUBSUB"] and words[1].upper() in (b"CHANNELS", b"SHARDCHANNELS"):
        return sorted(value)
    return type(value).__name__, value


def same(words: list[bytes], got: list, expected: list) -> bool:
    if len(words) == 1 and words[0] in END_ALL or words == [b"EXEC"]:
        return len(got) == len(expected)
    return (sorted(repr(plain(value, words)) for value in got)
            == sorted(repr(plain(value, words)) for value in expected))


@pytest.mark.parametrize("seed", [1, 2])
def test_what_each_connection_hears(server, valkey, seed):
    count = 5
    stream = Stream(seed, count)
    ours = [server.raw() for _ in range(count + 1)]
    theirs = [valkey.raw() for _ in range(count + 1)]
    history = []
    for _ in range(STEPS // 2):
        at, words = stream.next()
        history.append((at, words))
        theirs[at].send(encode(*words))
        ours[at].send(encode(*words))
        expected = settle(theirs)
        for number in range(count):
            got = ours[number].replies(len(expected[number]), 5) if expected[number] else []
            assert same(words, got, expected[number]), (number, got, expected[number], history[-12:])
    for raw in ours[:-1]:
        assert raw.parser.pending == b"", raw.parser.pending
    for raw in ours + theirs:
        raw.close()
