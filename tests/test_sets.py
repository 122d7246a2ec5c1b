"""Sets on a real socket: what a comparison with Valkey does not show."""

import random
import time
from collections import Counter

import pytest

KINDS = {"intset": [b"%d" % n for n in range(40)], "listpack": [b"m%d" % n for n in range(40)],
         "hashtable": [b"member:%d" % n for n in range(40)] + [b"x" * 100]}
CHI_SQUARE_MOST = 100.0  # of 40 degrees of freedom: less than one in a million


def uneven(counts: Counter, members: list[bytes]) -> float:
    """The chi square of counts that should be even."""
    wanted = sum(counts.values()) / len(members)
    return sum((counts[member] - wanted) ** 2 / wanted for member in members)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [None, 1, 5, 20, 39, -7, -100])
def test_random_members_are_even(server, kind, count):
    members = KINDS[kind]
    counts: Counter = Counter()
    with server.raw() as raw:
        raw.call("FLUSHALL")
        raw.call("SADD", "s", *members)
        assert raw.call("OBJECT", "ENCODING", "s") == kind.encode()
        ask = ("SRANDMEMBER", "s") if count is None else ("SRANDMEMBER", "s", count)
        for reply in raw.pipeline([ask] * (20000 // max(1, abs(count or 1)))):
            some = [reply] if count is None else reply
            assert len(some) == abs(count or 1) and (count is None or count < 0 or len(set(some)) == count)
            counts.update(some)
    # draws without repetition are more even than chance
    assert uneven(counts, members) < CHI_SQUARE_MOST


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [None, 3, 20, 38])
def test_popped_members_are_even(server, kind, count):
    members = KINDS[kind]
    counts: Counter = Counter()
    with server.raw() as raw:
        raw.call("FLUSHALL")
        ask = ("SPOP", "s") if count is None else ("SPOP", "s", count)
        for _ in range(6000 // (count or 1) // 50):
            for reply in raw.pipeline([("DEL", "s"), ("SADD", "s", *members), ask] * 50)[2::3]:
                counts.update([reply] if count is None else reply)
    assert uneven(counts, members) < CHI_SQUARE_MOST


@pytest.mark.parametrize("seed", range(4))
def test_sscan_shows_all_that_stays(server, seed):
    rng = random.Random(seed)
    with server.raw() as raw:
        raw.call("FLUSHALL")
        stays = {b"stays:%d" % n for n in range(rng.choice([10, 300, 2000]))}
        comes = [b"comes:%d" % n for n in range(rng.choice([200, 5000]))]
        raw.call("SADD", "s", *stays, *comes[: len(comes) // 2])
        raw.call("SADD", "s", b"x" * 70)
        cursor, seen = b"0", set()
        while True:
            cursor, some = raw.call("SSCAN", "s", cursor, "COUNT", rng.choice([1, 10, 50]))
            seen.update(some)
            if cursor == b"0":
                break
            churn = rng.sample(comes, 40)
            raw.call(rng.choice(["SADD", "SREM", "SREM" if seed % 2 else "SADD"]), "s", *churn)
        assert stays <= seen
        # cursors of nobody
        for cursor in (1, 12345, 2**32 - 1, 2**32, 2**63, 2**64 - 1):
            after, some = raw.call("SSCAN", "s", cursor)
            assert int(after) < 2**32


def test_memory_comes_back(server):
    with server.raw() as raw:
        raw.call("FLUSHALL")
        raw.call("SADD", "s", 1)
        before = server.info()["used_memory"]
        rng = random.Random(3)
        for _turn in range(30):
            members = [b"%d" % rng.randrange(10**rng.randint(1, 18)) if rng.random() < 0.5 else
                       b"m" * rng.randint(0, 30) + b"%d" % rng.randrange(1000)
                       for _ in range(rng.choice([5, 100, 3000]))]
            raw.call("SADD", "s", *members)
            raw.call("SADD", "t", *members[: len(members) // 2])
            for words in (("SUNIONSTORE", "u", "s", "t"), ("SDIFFSTORE", "d", "s", "t"), ("SINTERSTORE", "i", "t", "s"),
                          ("SUNION", "s", "t", "u", "d", "i"), ("SDIFF", "u", "t"), ("SPOP", "u", len(members) // 3),
                          ("SPOP", "s", len(members) - 3), ("SREM", "t", *members[::2])):
                raw.call(*words)
        raw.call("DEL", "s", "t", "u", "d", "i")
        raw.call("SADD", "s", 1)
        deadline = time.monotonic() + 10
        while (after := server.info()["used_memory"]) > before + 200_000 and time.monotonic() < deadline:
            time.sleep(0.1)  # large values are freed piece by piece
    assert after < before + 200_000


def test_counts_that_nobody_can_serve(server):
    with server.raw() as raw:
        raw.call("DEL", "s")
        raw.call("SADD", "s", "a", "b")
        assert str(raw.call("SRANDMEMBER", "s", -(2**63) + 1)).startswith("ERR")
        assert len(raw.call("SRANDMEMBER", "s", 2**63 - 1)) == 2
        assert len(raw.call("SRANDMEMBER", "s", -100000)) == 100000
        assert len(raw.call("SPOP", "s", 2**63 - 1)) == 2
