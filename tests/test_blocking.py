"""Commands that wait: order, timeouts, several keys, CLIENT UNBLOCK, transactions, over several workers."""

import socket
import threading
import time

import pytest
import redis
from resp import encode

SERVER_OPTIONS = ["--io-threads", "2", "--enable-debug-command", "yes"]
WAIT_S = 10


def blocked(server, n):
    """Wait until n clients wait."""
    client = server.connect()
    end = time.monotonic() + WAIT_S
    while client.info("clients")["blocked_clients"] != n:
        assert time.monotonic() < end, client.info("clients")
        time.sleep(0.002)


class Waiter:
    """A client in a thread of its own that sends one command."""

    def __init__(self, server, *words):
        self.client = server.connect(socket_timeout=None)
        self.client.ping()
        self.reply = None
        self.at = 0.0
        self.thread = threading.Thread(target=self._run, args=words, daemon=True)
        self.thread.start()

    def _run(self, *words):
        try:
            self.reply = self.client.execute_command(*words)
        except redis.RedisError as error:
            self.reply = error
        self.at = time.monotonic()

    def result(self):
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()
        return self.reply


@pytest.fixture
def client(server):
    one = server.connect()
    one.flushall()
    return one


def test_order_of_arrival(server, client):
    waiters = []
    for i in range(6):
        waiters.append(Waiter(server, "BLPOP", "q", "other", "0"))
        blocked(server, i + 1)
    client.rpush("q", *"abcd")
    client.rpush("q", "e")
    client.rpush("other", "f")
    assert [w.result()[1] for w in waiters] == [b"a", b"b", b"c", b"d", b"e", b"f"]
    assert client.exists("q", "other") == 0


@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.3])
def test_timeouts(server, client, seconds):
    start = time.monotonic()
    assert client.execute_command("BLPOP", "none", str(seconds)) is None
    assert seconds <= time.monotonic() - start < seconds + 0.2
    blocked(server, 0)
    client.rpush("none", "x")
    assert client.lrange("none", 0, -1) == [b"x"]


def test_unblock(server, client):
    for how, reply in (("TIMEOUT", None), ("ERROR", "UNBLOCKED client unblocked via CLIENT UNBLOCK")):
        waiter = Waiter(server, "BLMOVE", "q", "r", "LEFT", "RIGHT", "0")
        blocked(server, 1)
        row = next(row for row in client.client_list() if row["cmd"] == "blmove")
        assert "b" in row["flags"]
        assert client.client_unblock(int(row["id"]), error=how == "ERROR") == 1
        result = waiter.result()
        assert result is None if reply is None else str(result) == reply
    assert client.client_unblock(int(client.client_id())) == 0
    blocked(server, 0)


def test_what_follows_waits_too(server, client):
    raw = server.raw()
    raw.send(b"BLPOP q 0\r\nECHO one\r\nBLPOP q 0\r\nECHO two\r\n")
    blocked(server, 1)
    client.rpush("q", "a")
    assert raw.replies(2) == [[b"q", b"a"], b"one"]
    blocked(server, 1)
    client.rpush("q", "b")
    assert raw.replies(2) == [[b"q", b"b"], b"two"]
    raw.close()


def test_gone_client_takes_nothing(server, client):
    for _ in range(20):
        raw = server.raw()
        raw.send(b"BLPOP q 0\r\n")
        blocked(server, 1)
        raw.close()
        blocked(server, 0)
        client.rpush("q", "x")
        assert client.lpop("q") == b"x"


def test_client_that_leaves_at_once_is_noticed(server, client):
    """Data and reset come while the worker is busy."""
    busy = [server.raw() for _ in range(2)]        # one a worker
    waiters = [server.raw() for _ in range(20)]
    for raw in waiters:
        raw.call("PING")
    before = client.info("clients")["connected_clients"]
    for raw in busy:
        raw.send(encode("DEBUG", "SLEEP", "0.5"))
    time.sleep(0.1)
    for raw in waiters:
        raw.send(encode("BLPOP", "never", "0"))
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.close()                                # with a reset
    for raw in busy:
        assert raw.reply() == b"OK"
    end = time.monotonic() + WAIT_S
    while client.info("clients")["connected_clients"] != before - len(waiters):
        assert time.monotonic() < end, client.info("clients")
        time.sleep(0.1)
    assert client.info("clients")["blocked_clients"] == 0


def test_in_transactions(server, client):
    waiter = Waiter(server, "BLPOP", "q", "0")
    blocked(server, 1)
    with client.pipeline(transaction=True) as pipe:
        pipe.rpush("q", "a")
        pipe.lpush("q", "b")
        pipe.execute_command("BLPOP", "q", "0")
        pipe.execute_command("BLPOP", "empty", "0")
        assert pipe.execute() == [1, 2, (b"q", b"b"), None]
    assert waiter.result() == (b"q", b"a")


@pytest.mark.parametrize("how", ["rename", "move", "copy", "swapdb", "lmove"])
def test_keys_that_come_otherwise(server, client, how):
    waiter = Waiter(server, "BRPOP", "q", "0")
    blocked(server, 1)
    other = server.connect(db=3)
    if how in ("rename", "copy", "lmove"):
        client.rpush("p", "x")
    else:
        other.rpush("q", "x")
    if how == "rename":
        client.rename("p", "q")
    elif how == "copy":
        client.copy("p", "q")
    elif how == "lmove":
        client.lmove("p", "q")
    elif how == "move":
        other.move("q", 0)
    else:
        client.swapdb(0, 3)
    assert waiter.result() == (b"q", b"x")


def test_wrong_type_does_not_wake(server, client):
    waiter = Waiter(server, "BLPOP", "q", "0")
    blocked(server, 1)
    client.set("q", "x")
    client.delete("q")
    client.rpush("q", "y")
    assert waiter.result() == (b"q", b"y")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seconds", [1.0, pytest.param(300.0, marks=pytest.mark.slow)])
def test_nothing_popped_twice_or_lost(server, client, seconds):
    """Eight threads push, pop, move and transact on a few lists; at the end every element is somewhere once."""
    taken, pushed, errors = [], [], []
    end = time.monotonic() + seconds

    def work(number):
        mine, conn, n, got = [], server.connect(socket_timeout=30), 0, []
        try:
            while time.monotonic() < end:
                n += 1
                key = f"l{n % 3}"
                if number < 3:
                    word = f"{number}:{n}"
                    if n % 4:
                        conn.rpush(key, word)
                    else:
                        with conn.pipeline(transaction=True) as pipe:
                            pipe.lpush(key, word)
                            pipe.lmove(key, "moved", "LEFT", "RIGHT")
                            pipe.execute()
                    mine.append(word)
                elif number < 6:
                    found = conn.blpop(["l0", "l1", "l2", "moved"], 0.05)
                    if found:
                        got.append(found[1].decode())
                elif number == 6:
                    conn.execute_command("BLMOVE", key, f"l{(n + 1) % 3}", "LEFT", "RIGHT", "0.01")
                else:
                    found = conn.execute_command("BLMPOP", "0.02", "2", "moved", key, "RIGHT", "COUNT", "3")
                    if found:
                        got.extend(word.decode() for word in found[1])
        except Exception as error:  # noqa: BLE001
            errors.append(error)
        pushed.extend(mine)
        taken.extend(got)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for key in ("l0", "l1", "l2", "moved"):
        taken.extend(word.decode() for word in client.lrange(key, 0, -1))
    assert len(pushed) > 500
    assert sorted(taken) == sorted(pushed)
    blocked(server, 0)
