"""BGSAVE: the file is the data as it was at one moment, whatever is written meanwhile.

SLOTRING_SNAPSHOT_ROUNDS: how many saves are made under load (1)."""

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import redis
from rdbdata import digest, fill

pytestmark = pytest.mark.usefixtures("slotring_only")
OPTIONS = ("--enable-debug-command", "yes", "--enable-protected-configs", "yes", "--io-threads", "2")
ROUNDS = int(os.environ.get("SLOTRING_SNAPSHOT_ROUNDS", "1"))
ACCOUNTS = 300
STEPS = 64
MEMBERS = 200
FILLERS = 8000


def wait_saved(client) -> None:
    """Until no save is under way."""
    while client.info("persistence")["rdb_bgsave_in_progress"]:
        time.sleep(0.01)


class Writers:
    """Clients that write while they keep invariants."""

    def __init__(self, server):
        self.server = server
        self.over = threading.Event()
        self.errors: list = []
        self.threads = [threading.Thread(target=self._run, args=(work, at))
                        for at, work in enumerate((self._move, self._move, self._steps, self._sets, self._odd))]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert not self.errors

    def _run(self, work, seed):
        try:
            with self.server.connect() as client:
                rng = random.Random(seed)
                number = 0
                while not self.over.is_set():
                    number += 1
                    work(client, rng, number)
        except Exception as error:
            self.errors.append(error)

    def _move(self, client, rng, _number):
        """MULTI: what all accounts have together stays."""
        one, two, amount = rng.randrange(ACCOUNTS), rng.randrange(ACCOUNTS), rng.randrange(50)
        with client.pipeline(transaction=True) as pipe:
            pipe.decrby(f"account:{one}", amount)
            pipe.incrby(f"account:{two}", amount)
            pipe.execute()

    def _steps(self, client, _rng, number):
        """One after the other: an earlier step has the same number as a later one, or one more."""
        for at in range(STEPS):
            client.set(f"step:{at}", number)

    def _sets(self, client, rng, _number):
        """SMOVE and LMOVE: every member is in one of two places."""
        member = rng.randrange(MEMBERS)
        client.smove(*rng.sample(["left", "right"], 2), member)
        client.execute_command("LMOVE", *rng.choice([("la", "lb"), ("lb", "la")]), "LEFT", "RIGHT")

    def _odd(self, client, rng, number):
        """RENAME, COPY, deletion and making again, values equal in one MSET."""
        client.mset({f"same:{at}": number for at in range(20)})
        here, there = rng.sample(["here", "there"], 2)
        try:
            client.rename(here, there)
        except redis.ResponseError:
            pass
        client.set(f"fresh:{number}", "x")
        client.delete(f"filler:{rng.randrange(FILLERS)}")


def prepare(client) -> None:
    client.flushall()
    client.mset({f"account:{at}": 1000 for at in range(ACCOUNTS)})
    client.mset({f"step:{at}": 0 for at in range(STEPS)})
    client.mset({f"same:{at}": 0 for at in range(20)})
    client.sadd("left", *range(MEMBERS))
    client.rpush("la", *range(MEMBERS))
    client.set("here", "1")
    client.execute_command("DEBUG", "POPULATE", FILLERS, "filler", 60)


def check(client) -> None:
    assert sum(int(value) for value in client.mget([f"account:{at}" for at in range(ACCOUNTS)])) == ACCOUNTS * 1000
    steps = [int(value) for value in client.mget([f"step:{at}" for at in range(STEPS)])]
    assert steps == sorted(steps, reverse=True) and steps[0] - steps[-1] <= 1, steps
    assert len(set(client.mget([f"same:{at}" for at in range(20)]))) == 1
    left, right = client.smembers("left"), client.smembers("right")
    assert len(left) + len(right) == MEMBERS and not left & right
    assert sorted(map(int, client.lrange("la", 0, -1) + client.lrange("lb", 0, -1))) == list(range(MEMBERS))
    assert client.exists("here", "there") == 1


def test_one_moment(own_server):
    server = own_server(*OPTIONS)
    other = own_server(*OPTIONS)
    with server.connect() as client, other.connect() as reader:
        prepare(client)
        for _ in range(ROUNDS):
            with Writers(server):
                time.sleep(0.1)
                client.config_set("rdb-key-save-delay", 20)
                assert client.bgsave()
                time.sleep(0.05)
                wait_saved(client)
            os.replace(server.folder / "dump.rdb", other.folder / "dump.rdb")
            reader.execute_command("DEBUG", "RELOAD", "NOSAVE")
            check(reader)


def test_databases_change_places(own_server):
    server = own_server(*OPTIONS)
    with server.connect() as client:
        fill(client)
        before = digest(client)
        client.config_set("rdb-key-save-delay", 3000)
        client.bgsave()
        assert client.info("persistence")["rdb_bgsave_in_progress"]
        client.swapdb(0, 3)
        client.swapdb(5, 3)
        client.flushdb()
        client.set("after", "x")
        client.config_set("rdb-key-save-delay", 0)
        wait_saved(client)
        client.execute_command("DEBUG", "RELOAD", "NOSAVE")
        assert digest(client) == before


def test_eviction_and_expiry(own_server):
    server = own_server(*OPTIONS)
    with server.connect() as client:
        client.execute_command("DEBUG", "POPULATE", 3000, "key", 60)
        client.config_set("rdb-key-save-delay", 300)
        before = digest(client)
        client.bgsave()
        client.config_set("maxmemory-policy", "allkeys-random")
        client.config_set("maxmemory", 1)
        time.sleep(0.2)
        wait_saved(client)
        assert client.dbsize() < 3000
        client.config_set("maxmemory", 0)
        client.execute_command("DEBUG", "RELOAD", "NOSAVE")
        assert digest(client) == before


def test_killed_while_saving(own_server):
    server = own_server(*OPTIONS)
    with server.connect() as client:
        client.set("a", "old")
        client.save()
        client.execute_command("DEBUG", "POPULATE", 1000)
        client.config_set("rdb-key-save-delay", 1000)
        client.bgsave()
        time.sleep(0.1)
    server.kill()
    server.start()
    with server.connect() as client:
        assert client.get("a") == b"old" and client.dbsize() == 1


def test_what_ends_a_save(own_server):
    server = own_server(*OPTIONS)
    with server.connect() as client:
        client.execute_command("DEBUG", "POPULATE", 5000)
        client.config_set("rdb-key-save-delay", 1000)
        client.bgsave()
        for command in ("BGSAVE", "SAVE"):
            with pytest.raises(redis.ResponseError, match="Background save already in progress"):
                client.execute_command(command)
        assert client.execute_command("BGSAVE", "CANCEL")
        with pytest.raises(redis.ResponseError, match="not in progress or scheduled"):
            client.execute_command("BGSAVE", "CANCEL")
        client.bgsave()
        client.flushall()
        wait_saved(client)
        assert client.info("persistence")["rdb_last_bgsave_status"] == "ok"
        assert not list(server.folder.glob("*.rdb"))


def child_of(server) -> int:
    """The process that stands for the save."""
    found = []
    for task in os.listdir(f"/proc/{server.pid}/task"):
        with contextlib.suppress(FileNotFoundError):        # threads end
            found += [int(word) for word in Path(f"/proc/{server.pid}/task/{task}/children").read_text().split()]
    assert found
    return found[-1]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, "err"), (signal.SIGUSR1, "ok")])
def test_killing_what_stands_for_a_save_ends_it(own_server, number, status):
    server = own_server(*OPTIONS)
    with server.connect() as client:
        client.execute_command("DEBUG", "POPULATE", 3000, "key", 60)
        client.config_set("rdb-key-save-delay", 100000)
        client.bgsave()
        pid = child_of(server)
        assert f"started by pid {pid}" in server.log_path.read_text()
        deadline = time.monotonic() + 5
        while not (server.folder / f"temp-{pid}.rdb").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        for at in range(50):
            client.set(f"key:{at}", "x")
        copied = client.info("persistence")["current_cow_size"]
        assert copied > 0
        os.kill(pid, number)
        wait_saved(client)
        found = client.info("persistence")
        assert (found["rdb_last_bgsave_status"], found["rdb_last_cow_size"]) == (status, copied)
        assert not (server.folder / f"temp-{pid}.rdb").exists()
        assert f"Background saving terminated by signal {number:d}" in server.log_path.read_text()
        client.config_set("rdb-key-save-delay", 0)
        client.bgsave()
        wait_saved(client)
        assert client.info("persistence")["rdb_last_bgsave_status"] == "ok"
        assert client.info("stats")["total_forks"] == 2


def test_killing_what_stands_for_a_rewrite_ends_it(own_server):
    server = own_server(*OPTIONS, "--appendonly", "yes")
    with server.connect() as client:
        client.execute_command("DEBUG", "POPULATE", 3000, "key", 60)
        client.config_set("rdb-key-save-delay", 100000)
        client.bgrewriteaof()
        os.kill(child_of(server), signal.SIGKILL)
        while client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
        found = client.info("persistence")
        assert (found["aof_last_bgrewrite_status"], found["aof_rewrites_consecutive_failures"]) == ("err", 1)
        assert "Background AOF rewrite terminated by signal 9" in server.log_path.read_text()


def test_the_first_rewrite_is_tried_again(own_server):
    """CONFIG SET appendonly yes: what was logged for a base that was not finished goes, and another one is written."""
    server = own_server(*OPTIONS)
    with server.connect() as client:
        client.execute_command("DEBUG", "POPULATE", 3000, "key", 60)
        client.config_set("rdb-key-save-delay", 100000)
        client.config_set("appendonly", "yes")
        client.set("a", "1")
        assert (server.folder / "appendonlydir" / "temp-appendonly.aof.incr.aof").exists()
        client.config_set("rdb-key-save-delay", 0)
        os.kill(child_of(server), signal.SIGKILL)
        while "Background AOF rewrite finished successfully" not in server.log_path.read_text():
            time.sleep(0.05)
        assert "Removing the temp incr aof file" in server.log_path.read_text()
        client.set("b", "2")
        before = digest(client)
        client.execute_command("DEBUG", "LOADAOF")
        assert digest(client) == before


def test_rewrites_that_fail_are_tried_seldom(own_server):
    """Three that fail set a limit for those that nobody asks for, when the next one would begin."""
    server = own_server(*OPTIONS, "--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
    limit = "has repeatedly failed and triggered the limit, will retry in 1 minutes"
    with server.connect() as client:
        client.execute_command("DEBUG", "POPULATE", 3000, "key", 60)
        client.config_set("rdb-key-save-delay", 100000)
        for _ in range(3):
            client.bgrewriteaof()
            os.kill(child_of(server), signal.SIGKILL)
            while client.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.01)
        assert limit not in server.log_path.read_text()
        client.config_set("auto-aof-rewrite-min-size", 100)
        client.config_set("auto-aof-rewrite-percentage", 1)
        client.set("more", "x" * 10000)
        while limit not in server.log_path.read_text():
            time.sleep(0.05)
        assert not client.info("persistence")["aof_rewrite_in_progress"]
        client.config_set("rdb-key-save-delay", 0)
        client.bgrewriteaof()                              # asked for: at once
        while client.info("persistence")["aof_rewrites_consecutive_failures"]:
            time.sleep(0.05)
        assert server.log_path.read_text().count(limit) == 1


def test_flushall_saves_where_there_are_save_points(own_server):
    server = own_server(*OPTIONS)
    with server.connect() as client:
        client.set("a", 1)
        client.save()
        client.flushall()
        assert client.info("persistence")["rdb_changes_since_last_save"] == 1
        client.execute_command("DEBUG", "RELOAD", "NOSAVE")
        assert client.get("a") == b"1"
        client.config_set("save", "900 1")
        client.flushall()
        assert client.info("persistence")["rdb_changes_since_last_save"] == 0
    server.kill()
    server.start()
    with server.connect() as client:
        assert client.dbsize() == 0


def test_a_save_that_fails_stops_writes(own_server):
    server = own_server(*OPTIONS)
    with server.connect() as client:
        client.set("a", 1)
        client.config_set("save", "900 100000")
        os.mkdir(server.folder / "dump.rdb")
        client.bgsave()
        wait_saved(client)
        assert client.info("persistence")["rdb_last_bgsave_status"] == "err"
        for command in (("SET", "a", 2), ("PING",)):
            with pytest.raises(redis.ResponseError, match="MISCONF Valkey is configured"):
                client.execute_command(*command)
        assert client.get("a") == b"1"
        client.config_set("stop-writes-on-bgsave-error", "no")
        assert client.set("a", 2)
        client.config_set("stop-writes-on-bgsave-error", "yes")
        os.rmdir(server.folder / "dump.rdb")
        client.bgsave()
        wait_saved(client)
        assert client.set("a", 3)


def test_save_points(own_server):
    server = own_server(*OPTIONS)
    with server.connect() as client:
        client.config_set("save", "1 10")
        client.mset({at: at for at in range(20)})
        deadline = time.monotonic() + 5
        while client.info("persistence")["rdb_saves"] == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        wait_saved(client)
        assert "10 changes in 1 seconds. Saving..." in server.log_path.read_text()
        assert client.info("persistence")["rdb_changes_since_last_save"] == 0
        client.config_set("save", "")
