"""Random HyperLogLog commands to Slotring and a real Valkey: the same replies, the same bytes in the keys."""

import os
import random

import pytest
from resp import Raw

pytestmark = pytest.mark.peer

COMMANDS = int(os.environ.get("SLOTRING_DIFFERENTIAL", "600"))
KEYS = [f"h{number}" for number in range(6)]
OTHER_VALUES = [
    b"x",
    b"12",
    b"HYLL" + bytes(12),
    b"HYLL\1" + bytes(11),
    b"HYLL\1" + bytes(11) + b"\x7f\xff",
    b"HYLL\1" + bytes(11) + b"\x7f\xfe\x80",
    b"HYLL\2" + bytes(11) + b"\x7f\xff",
    b"HYLL" + bytes(12300),
]


def words(rng: random.Random) -> tuple:
    """A command."""
    key, kind = rng.choice(KEYS), rng.random()
    if kind < 0.6:
        count = rng.choice((0, 1, 2, 10, 200))
        return ("PFADD", key, *[rng.randbytes(rng.randrange(30)) for _ in range(count)])
    if kind < 0.7:
        return ("PFCOUNT", key)
    if kind < 0.75:
        return ("PFCOUNT", *rng.sample(KEYS, 3))
    if kind < 0.8:
        return ("PFMERGE", *rng.sample(KEYS, rng.randrange(1, 4)))
    if kind < 0.84:
        what = rng.choice(("ENCODING", "decode", "TODENSE", "GETREG", "no-such-thing"))
        return ("PFDEBUG", what, key)
    if kind < 0.87:
        return ("DEL", key)
    if kind < 0.89:
        size = rng.choice((3000, 100, 20, 10000, 0))
        return ("CONFIG", "SET", "hll-sparse-max-bytes", size)
    if kind < 0.9:
        return ("SETRANGE", key, rng.randrange(40), rng.randbytes(rng.choice((1, 2, 5))))
    if kind < 0.91:
        return ("SET", key, rng.choice(OTHER_VALUES))
    if kind < 0.915:
        return ("RPUSH", key, "1")
    if kind < 0.93:
        return ("EXPIRE", key, 10000)
    return ("OBJECT", "ENCODING", key)


def truncated(raw: Raw, key: str) -> bool:
    """Does a sparse one end within an opcode? Valkey reads the byte behind it; Slotring calls that corrupt."""
    value = raw.call("GET", key)
    if not isinstance(value, bytes) or value[:5] != b"HYLL\1":
        return False
    at = 16
    while at < len(value):
        at += 2 if value[at] & 0xC0 == 0x40 else 1
    return at > len(value)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_commands(server, valkey, seed):
    rng = random.Random(seed)
    with server.raw() as ours, valkey.raw() as theirs:
        for raw in (ours, theirs):
            raw.call("FLUSHALL")
        for number in range(COMMANDS):
            command = words(rng)
            assert ours.call(*command) == theirs.call(*command), command[:4]
            if command[0] == "SETRANGE" and truncated(theirs, command[1]):
                for raw in (ours, theirs):
                    raw.call("DEL", command[1])
            for key in KEYS if number % 20 == 19 else set(KEYS) & set(command):
                assert ours.call("GET", key) == theirs.call("GET", key), (key, command[:4])
        for key in KEYS:
            assert (ours.call("TTL", key) > 0) == (theirs.call("TTL", key) > 0)


def test_self_test(server):
    with server.raw() as ours:
        assert ours.call("PFSELFTEST") == b"OK"
        assert ours.call("PFDEBUG", "SIMD", "off") == b"disabled"
        assert ours.call("PFDEBUG", "SIMD", "ON") == b"enabled"


def test_damage_is_survived(server):
    """Opcodes of all kinds, cut anywhere: nothing but a reply."""
    rng = random.Random(5)
    with server.raw() as ours:
        ours.call("CONFIG", "SET", "hll-sparse-max-bytes", "3000")
        for _ in range(400):
            size = rng.choice((0, 1, 2, 3, 40, 70, 500))
            value = b"HYLL\1" + bytes(11) + rng.randbytes(size)
            for command in (
                ("SET", "k", value),
                ("PFADD", "k", "a", "b", "c"),
                ("PFCOUNT", "k"),
                ("PFCOUNT", "k", "k2"),
                ("PFMERGE", "k3", "k"),
                ("PFDEBUG", "DECODE", "k"),
                ("PFDEBUG", "GETREG", "k"),
            ):
                ours.call(*command)
        assert ours.call("PING") == b"PONG"
