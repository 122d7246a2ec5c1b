"""Clients that write and keep account of what was acknowledged, and the check of that after a kill -9."""

import random
import threading
import time

import redis

CLIENTS = 6
BATCH = 8


class Account:
    """What one client knows: the last values that were acknowledged, and when."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[float, int]] = []     # empty: the kill came before it knew anything
        self.pairs = 0


class Load:
    """Runs until the server is gone, or `over`. Each client counts in a key of its own (one command, a pipeline, a
    transaction over two keys of different slots), so that what is there can be told from what was acknowledged."""

    def __init__(self, server, seed: int):
        self.server = server
        self.accounts = [Account() for _ in range(CLIENTS)]
        self.threads = [threading.Thread(target=self._run, args=(number, random.Random(seed * 100 + number)))
                        for number in range(CLIENTS)]
        self.failures: list[Exception] = []
        self.over = threading.Event()

    def start(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def join(self) -> None:
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures

    def _run(self, number: int, rng: random.Random) -> None:
        account = self.accounts[number]
        try:
            with self.server.connect() as client:
                value = int(client.get(f"count:{number}") or 0)
                pairs = int(client.get(f"left:{number}") or 0)
                account.acknowledged.append((0.0, value))
                while not self.over.is_set():
                    if rng.random() < 0.6:
                        value = client.incr(f"count:{number}")
                    elif rng.random() < 0.5:
                        pipe = client.pipeline(transaction=False)
                        for _ in range(BATCH):
                            pipe.incr(f"count:{number}")
                        value = pipe.execute()[-1]
                    else:
                        pipe = client.pipeline(transaction=True)
                        pipe.incr(f"left:{number}")
                        pipe.incr(f"right:{number}")
                        pipe.lpush(f"list:{number}", pairs)
                        pairs = pipe.execute()[0]
                        account.pairs = pairs
                    account.acknowledged.append((time.monotonic(), value))
        except (redis.ConnectionError, redis.TimeoutError, OSError):
            pass
        except Exception as error:
            self.failures.append(error)


def check(server, load: Load, killed_at_s: float, window_s: float) -> None:
    """After the restart: nothing acknowledged is missing but what came within window_s before the kill (0: nothing),
    nothing that was never asked for is there, no transaction is half there."""
    with server.connect() as client:
        for number, account in enumerate(load.accounts):
            if not account.acknowledged:
                continue
            found = int(client.get(f"count:{number}") or 0)
            promised = max((value for at_s, value in account.acknowledged if at_s <= killed_at_s - window_s), default=0)
            if window_s == 0:
                promised = account.acknowledged[-1][1]
            assert found >= promised, f"client {number}: {found} after {promised} was acknowledged"
            most = max(value for _, value in account.acknowledged) + BATCH
            assert found <= most, f"client {number}: {found}, at most {most} was asked for"
            left, right = (int(client.get(f"{name}:{number}") or 0) for name in ("left", "right"))
            assert left == right == client.llen(f"list:{number}"), "a transaction is half there"
            if window_s == 0:
                assert left >= account.pairs
