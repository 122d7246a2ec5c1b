"""The append-only files: what is in them after a kill, a cut, a flipped byte; rewrites; errors of the disk.

SLOTRING_AOF_KILLS: how often a server is killed under load (4; the long form does 200)."""

import contextlib
import os
import random
import time

import pytest
import redis
from aofcrash import Load, check
from servers import ServerDied

pytestmark = pytest.mark.usefixtures("slotring_only")
KILLS = int(os.environ.get("SLOTRING_AOF_KILLS", "3"))
OPTIONS = ("--appendonly", "yes", "--io-threads", "2", "--enable-debug-command", "yes")
FOLDER = "appendonlydir"


def wait_rewritten(client) -> None:
    """Until no rewrite is under way or planned."""
    while True:
        found = client.info("persistence")
        if not found["aof_rewrite_in_progress"] and not found["aof_rewrite_scheduled"]:
            return
        time.sleep(0.01)


def incr_path(server):
    """The increment that is written."""
    return sorted((server.folder / FOLDER).glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)[-1]


def kill_often(own_server, policy: str, window_s: float, kills: int) -> None:
    server = own_server(*OPTIONS, "--appendfsync", policy, "--auto-aof-rewrite-min-size", "64kb")
    rng = random.Random(kills)
    with server.connect() as client:
        client.set("large", "x" * (4 << 20))              # from here on there is room made ahead, with always
    for number in range(kills):
        load = Load(server, number).start()
        time.sleep(rng.uniform(0.05, 0.5))
        if number % 3 == 2:
            with server.connect() as client, contextlib.suppress(redis.ResponseError):   # one may be under way
                client.bgrewriteaof()
            time.sleep(rng.uniform(0, 0.02))
        killed_at_s = time.monotonic()
        server.kill()
        load.join()
        server.start()
        check(server, load, killed_at_s, window_s)


def test_always_loses_nothing_to_a_kill(own_server):
    kill_often(own_server, "always", 0, KILLS)


def test_everysec_loses_two_seconds_at_most(own_server):
    kill_often(own_server, "everysec", 2.0, max(KILLS // 2, 1))


@pytest.mark.slow
def test_many_kills(own_server):
    kill_often(own_server, "always", 0, 200)


def write_some(client) -> None:
    client.set("before", "1")
    client.expire("before", 1000)
    client.rpush("list", *range(200))
    client.hset("hash", mapping={str(number): number for number in range(50)})
    pipe = client.pipeline(transaction=True)
    pipe.set("{a}1", "x")
    pipe.set("{b}2", "y")
    pipe.execute()
    client.set("after", "z" * 100)


def test_cut_at_any_byte_loads_up_to_the_cut(own_server):
    server = own_server(*OPTIONS, "--appendfsync", "always")
    with server.connect() as client:
        write_some(client)
    server.kill()
    path = incr_path(server)
    whole = path.read_bytes()
    rng = random.Random(5)
    for cut in sorted(rng.sample(range(1, len(whole)), 6), reverse=True):
        path.write_bytes(whole[:cut])
        server.start()
        with server.connect() as client:
            assert client.exists("{a}1") == client.exists("{b}2")
            if client.exists("after"):
                assert cut >= len(whole) - 1
        server.kill()
    path.write_bytes(whole)
    server.start()


def test_cut_is_refused_where_the_setting_says_so(own_server):
    server = own_server(*OPTIONS, "--appendfsync", "always")
    with server.connect() as client:
        write_some(client)
    server.kill()
    path = incr_path(server)
    path.write_bytes(path.read_bytes()[:-3])
    server.argv += ["--aof-load-truncated", "no"]
    with pytest.raises(ServerDied, match="Unexpected end of file reading the append only file"):
        server.start()
    server.argv[-1] = "yes"
    server.start()


def test_a_flipped_byte_is_named(own_server):
    server = own_server(*OPTIONS, "--appendfsync", "always")
    with server.connect() as client:
        client.set("key", "v" * 1000)
        write_some(client)
        deadline = time.monotonic() + 10
        while incr_path(server).with_name(incr_path(server).name + ".idx").stat().st_size < 24:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    server.kill()
    path = incr_path(server)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"vvvv") + 500] ^= 1                # it still parses
    path.write_bytes(raw)
    with pytest.raises(ServerDied, match=r"Bad file format reading the append only file \S+: bytes \d+ to \d+ are not"):
        server.start()
    raw[raw.index(b"vvvv") + 500] ^= 1
    path.write_bytes(raw)
    server.start()


def test_rewrite_under_load_keeps_everything(own_server):
    server = own_server(*OPTIONS, "--appendfsync", "everysec")
    load = Load(server, 1).start()
    with server.connect() as client:
        for preamble in ("yes", "no", "yes"):
            client.config_set("aof-use-rdb-preamble", preamble)
            assert client.bgrewriteaof()
            wait_rewritten(client)
            assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
            suffix = "rdb" if preamble == "yes" else "aof"
            assert [path.suffix for path in (server.folder / FOLDER).glob("*.base.*") if path.suffix != ".idx"] == [
                f".{suffix}"]
        time.sleep(0.2)
        load.over.set()
        load.join()
        digest = client.execute_command("DEBUG", "DIGEST")
        client.execute_command("DEBUG", "LOADAOF")
        assert client.execute_command("DEBUG", "DIGEST") == digest
    server.stop()
    server.start()
    with server.connect() as client:
        assert client.execute_command("DEBUG", "DIGEST") == digest


def test_switched_on_and_off_at_run_time(own_server):
    server = own_server("--io-threads", "2", "--enable-debug-command", "yes")
    with server.connect() as client:
        client.mset({f"key:{number}": number for number in range(1000)})
        client.config_set("appendonly", "yes")
        wait_rewritten(client)
        client.set("later", "1")
        digest = client.execute_command("DEBUG", "DIGEST")
        client.execute_command("DEBUG", "LOADAOF")
        assert client.execute_command("DEBUG", "DIGEST") == digest
        client.config_set("appendonly", "no")
        client.set("unlogged", "1")
        assert b"unlogged" not in incr_path(server).read_bytes()


def test_always_refuses_to_answer_what_is_not_on_the_disk(own_server):
    """A full disk ends the process, as in Valkey: what it had not acknowledged may be lost, nothing else."""
    server = own_server(*OPTIONS, "--appendfsync", "always")
    with server.connect() as client:
        client.set("key", "1")
        os.system(f"prlimit --pid {server.pid} --fsize={incr_path(server).stat().st_size + 100}")
        with pytest.raises(Exception, match="."):
            for number in range(100):
                client.set(f"key:{number}", "x" * 100)
    deadline = time.monotonic() + 10
    while server.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.process.poll() == 1                 # (the log is over its limit too)
    server.start()
    with server.connect() as client:
        assert client.get("key") == b"1"


def test_everysec_refuses_writes_while_the_disk_is_full(own_server):
    server = own_server(*OPTIONS, "--appendfsync", "everysec")
    with server.connect() as client:
        client.set("key", "1")
        os.system(f"prlimit --pid {server.pid} --fsize={incr_path(server).stat().st_size + 100}:unlimited")
        with pytest.raises(Exception, match="MISCONF Errors writing to the AOF file: File too large"):
            for number in range(100):
                client.set(f"key:{number}", "x" * 100)
        assert client.get("key") == b"1"
        os.system(f"prlimit --pid {server.pid} --fsize=unlimited")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                client.set("again", "1")
                break
            except Exception:
                time.sleep(0.1)
        assert client.get("again") == b"1"
        digest = client.execute_command("DEBUG", "DIGEST")
        client.execute_command("DEBUG", "LOADAOF")
        assert client.execute_command("DEBUG", "DIGEST") == digest


def test_a_transaction_holds_its_own_select(own_server):
    """Where the database changes with a transaction SELECT stands after MULTI, as Valkey writes it."""
    server = own_server(*OPTIONS)
    with server.connect() as client:
        client.set("a", 1)
        with client.pipeline() as transaction:
            transaction.execute_command("SELECT", 9)
            transaction.set("b", 1)
            transaction.execute_command("SELECT", 3)
            transaction.set("c", 1)
            transaction.execute()
        client.set("d", 1)
        expected = [b"SELECT 0", b"SET a 1", b"MULTI", b"SELECT 9", b"SET b 1", b"SELECT 3", b"SET c 1", b"EXEC",
                          b"SET d 1"]
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            parts = incr_path(server).read_bytes().split(b"\r\n")
            found = b" ".join(word for word in parts if not word.startswith((b"*", b"$"))).strip()
            if found == b" ".join(expected):
                break
            time.sleep(0.02)
        assert found == b" ".join(expected)
    server.kill()
    server.start()
    with server.connect() as client:
        assert client.info("keyspace").keys() == {"db0", "db3", "db9"}
