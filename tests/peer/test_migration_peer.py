"""Slots move between Slotring and a real Valkey, in both directions, with two databases."""

import pytest
import slotcluster
from servers import server_command
from slotcluster import call, migrations, move, wait, wait_over, wait_state
from slotmap import key

pytestmark = pytest.mark.peer
LAST = 31
SLOT = 7


@pytest.fixture(params=["slotring", "valkey"])
def pair(request, tmp_path, valkey_binary):
    """(source, target); the parameter is who the source is."""
    commands = [None, [valkey_binary]]
    if request.param == "valkey":
        commands.reverse()
    with slotcluster.running(tmp_path, commands) as servers:
        yield servers


def fill(source):
    for db in (0, 1):
        with source.raw() as raw:
            raw.call("SELECT", db)
            for slot in range(LAST + 1):
                raw.call("SET", key(slot, "s"), f"{db}-{slot}")
                raw.call("RPUSH", key(slot, "l"), *range(200))
                raw.call("HSETEX", key(slot, "h"), "EX", 1000, "FIELDS", 1, "f", "v")
                raw.call("XADD", key(slot, "x"), "1-1", "f", "v")
                raw.call("SET", key(slot, "t"), "v", "EX", 1000)


def digests(server):
    found = []
    for db in (0, 1):
        with server.raw() as raw:
            raw.call("SELECT", db)
            found += [raw.call("DEBUG", "DIGEST-VALUE", *[key(slot, word) for word in "slhxt"])
                      for slot in range(LAST + 1)]
    return found


def test_slots_move(pair):
    source, target = pair
    fill(source)
    before = digests(source)
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 1)
    move(source, target, 0, LAST)
    wait_state(source, "waiting-to-pause")
    # after the snapshot, which ends in database 1: the stream begins in 0, whatever the source says
    call(source, "SET", key(SLOT, "zero"), 0)
    call(source, "SET", key(SLOT, "one"), 1, db=1)
    with source.raw() as raw:
        raw.call("MULTI")
        raw.call("MSET", key(SLOT, "m"), 1, key(SLOT, "n"), 2)
        raw.call("RENAME", key(SLOT, "m"), key(SLOT, "o"))
        assert raw.call("EXEC") == [b"OK", b"OK"]
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 0)
    state = wait_over(source)
    assert state == ("success", ""), (state, source.log_tail(), target.log_tail())
    assert migrations(target)[0]["state"] == "success"
    assert digests(target) == before
    for db, word in ((0, "zero"), (1, "one")):
        assert call(target, "GET", key(SLOT, word), db=db) == b"%d" % db
        assert call(target, "GET", key(SLOT, word), db=1 - db) is None
    assert call(target, "MGET", key(SLOT, "o"), key(SLOT, "n")) == [b"1", b"2"]
    assert str(call(source, "GET", key(SLOT, "s"))).startswith(f"MOVED {SLOT} ")
    wait(lambda: not any(call(source, "CLUSTER", "COUNTKEYSINSLOT", slot) for slot in range(LAST + 1)),
         "the source has let go of them")


def test_cancel(pair):
    source, target = pair
    fill(source)
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 1)
    move(source, target, 0, LAST)
    wait_state(source, "waiting-to-pause")
    assert call(source, "CLUSTER", "CANCELSLOTMIGRATIONS") == b"OK"
    assert wait_over(source)[0] == "cancelled"
    assert wait_over(target)[0] == "failed"
    assert call(target, "DBSIZE") == 0
    assert call(source, "GET", key(SLOT, "s")) == b"0-7"


def change_program(server, command, was):
    """The same folder and options, another program."""
    server.argv = command + server.argv[len(was):]


def use_log(server):
    call(server, "CONFIG", "SET", "appendonly", "yes")
    server.argv += ["--appendonly", "yes"]
    wait(lambda: "aof_rewrite_in_progress:0" in text(call(server, "INFO", "persistence")), "the first base is written")


def text(raw):
    return raw.decode() if isinstance(raw, bytes) else raw


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_a_log_with_imports_in_the_other_program(tmp_path, valkey_binary, preamble):
    """One import that has ended and one that has not: the target's files mean the same to both programs."""
    for was, then in ((server_command(), [valkey_binary]), ([valkey_binary], server_command())):
        folder = tmp_path / ("ours" if was[0] != valkey_binary else "theirs")
        source, target = slotcluster.start(folder, [None, was], ["--aof-use-rdb-preamble", preamble])
        try:
            use_log(target)
            fill(source)
            before = digests(source)
            move(source, target, 0, LAST)
            assert wait_over(source) == ("success", "")
            call(source, "SET", key(100), 1)
            call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 1)
            move(source, target, 100, 101)
            wait_state(source, "waiting-to-pause")
            if was[0] != valkey_binary or preamble == "yes":     # else Valkey's base would not tell of the import
                call(target, "BGREWRITEAOF")
                wait(lambda server=target: "aof_rewrite_in_progress:0" in text(call(server, "INFO", "persistence")),
                     "it is rewritten")
            wait(lambda server=target: "aof_pending_bio_fsync:0" in text(call(server, "INFO", "persistence")), "synced")
            target.kill()
            assert wait_over(source)[0] == "failed"
            change_program(target, then, was)
            target.start()
            for server in (source, target):
                wait(lambda server=server: "cluster_state:ok" in text(call(server, "CLUSTER", "INFO")), "it is up")
            assert digests(target) == before
            assert call(target, "CLUSTER", "COUNTKEYSINSLOT", 100) == 0
            newest = {job["slot_ranges"]: (job["state"], job["message"]) for job in migrations(target)}
            assert newest["100-101"] == ("failed", "Process restarted")
        finally:
            for server in (source, target):
                server.kill()
