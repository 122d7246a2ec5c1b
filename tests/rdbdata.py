"""A data set of all types, encodings and times to live, for tests of what is written to the disk."""

import random


def digest(client) -> bytes:
    """DEBUG DIGEST"""
    return client.execute_command("DEBUG", "DIGEST")


def fill(client, count: int = 400, seed: int = 5) -> None:
    """Make about `count` strings and a tenth as many other values, in databases 0 and 5."""
    rng = random.Random(seed)
    pipe = client.pipeline(transaction=False)
    for i in range(count):
        pipe.set(f"s:{i}", rng.choice([str(rng.randrange(1 << 40)), "x" * rng.randrange(200),
                                       f"{rng.getrandbits(100):x}"]))
        if i % 7 == 0:
            pipe.pexpire(f"s:{i}", 10_000_000 + i)
    for i in range(count // 40):
        pipe.rpush(f"l:{i}", *[f"e{j}" * rng.randrange(1, 9) for j in range(rng.randrange(1, 300))])
        pipe.rpush(f"ll:{i}", *["y" * rng.randrange(9000) for _ in range(3)])
        pipe.sadd(f"is:{i}", *[rng.randrange(100_000) for _ in range(rng.randrange(1, 700))])
        pipe.sadd(f"ss:{i}", *[f"m{rng.randrange(100_000)}" for _ in range(rng.randrange(1, 300))])
        pipe.zadd(f"z:{i}", {f"m{rng.randrange(1000)}": rng.random() * 100 for _ in range(rng.randrange(1, 300))})
        pipe.hset(f"h:{i}", mapping={f"f{j}": f"v{rng.randrange(1000)}" for j in range(rng.randrange(1, 700))})
        if i % 3 == 0:
            pipe.execute_command("HPEXPIRE", f"h:{i}", 9_000_000, "FIELDS", 1, "f0")
        for j in range(rng.randrange(1, 200)):
            pipe.xadd(f"x:{i}", {"a": j, "b": "c"}, id=f"{j + 1}-1")
        pipe.xgroup_create(f"x:{i}", "g", 0)
        pipe.xreadgroup("g", "c1", {f"x:{i}": ">"}, count=5)
        pipe.xdel(f"x:{i}", "2-1")
    pipe.set("l" * 300, "v" * 70000)
    pipe.execute_command("SELECT", 5)
    pipe.set("other", "db")
    pipe.pfadd("hll", *range(2000))
    pipe.execute_command("SELECT", 0)
    pipe.execute()
