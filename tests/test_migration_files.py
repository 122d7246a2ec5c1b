"""Slot imports in the files of the data: after a crash of the target nothing of one is there, or all of it."""

import os

import pytest
import slotcluster
from resp import encode
from servers import Server
from slotcluster import call, migrations, move, wait, wait_over, wait_state
from slotmap import key

FIRST, LAST, OTHER = 0, 31, 100
SLOTS = range(FIRST, LAST + 1)
NAME, OTHER_NAME = b"1" * 40, b"2" * 40
DBS = 2


@pytest.fixture
def pair(engine, tmp_path):
    """(source, which has all slots; target), empty."""
    with slotcluster.running(tmp_path, engine=engine) as servers:
        yield servers


def fill(source, word):
    for db in range(DBS):
        with source.raw() as raw:
            raw.call("SELECT", db)
            for slot in SLOTS:
                raw.call("SET", key(slot, word), f"{db}-{slot}-{word}")
                raw.call("RPUSH", key(slot, "list"), word)


def keys_in(server, slots=SLOTS):
    found = 0
    for db in range(DBS):
        with server.raw() as raw:
            raw.call("SELECT", db)
            found += sum(raw.call("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots)
    return found


def contents(server):
    found = []
    for db in range(DBS):
        with server.raw() as raw:
            raw.call("SELECT", db)
            found += [raw.call("DEBUG", "DIGEST-VALUE", key(slot, "one"), key(slot, "two"), key(slot, "list"))
                      for slot in SLOTS]
    return found


def log_files(server):
    """What the increments of the append-only file say."""
    folder = server.folder / "appendonlydir"
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.incr.aof")))


def use_log(server, *options):
    call(server, "CONFIG", "SET", "appendonly", "yes")
    server.argv += ["--appendonly", "yes", *options]
    wait(lambda: b"aof_rewrite_in_progress:0" in call(server, "INFO", "persistence"), "the first base is written")


def stop_before_the_pause(source, target):
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 1)
    move(source, target, FIRST, LAST)
    wait_state(source, "waiting-to-pause")


def come_back(pair):
    """The target after a crash: nothing of the import is there, and its log of migrations says why."""
    source, target = pair
    target.kill()
    assert wait_over(source)[0] == "failed"
    target.start()
    for server in pair:
        wait(lambda server=server: b"cluster_state:ok" in call(server, "CLUSTER", "INFO"), "the cluster is up")
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 0)
    assert keys_in(target) == 0
    assert call(target, "DBSIZE") == 0


def test_nothing_of_an_import_that_was_not_finished(pair):
    """Nor later, when the slots have come after all without some of the keys."""
    source, target = pair
    use_log(target)
    fill(source, "one")
    stop_before_the_pause(source, target)
    assert keys_in(target) == len(SLOTS) * 2 * DBS
    come_back(pair)
    name = migrations(source)[0]["name"]
    job = migrations(target)[0]
    assert (job["name"], job["operation"], job["state"], job["message"]) == (
        name, "IMPORT", "failed", "Process restarted")
    assert job["slot_ranges"] == "0-31"
    assert "source_node" not in job
    for slot in SLOTS:
        call(source, "DEL", key(slot, "one"), key(slot, "list"))
    fill(source, "two")
    before = contents(source)
    move(source, target, FIRST, LAST)
    assert wait_over(source) == ("success", "")
    assert contents(target) == before
    target.kill()
    target.start()
    wait(lambda: b"cluster_state:ok" in call(target, "CLUSTER", "INFO"), "the target is back")
    assert contents(target) == before
    assert [(job["state"], job["message"]) for job in migrations(target)] == [
        ("success", ""), ("failed", "Process restarted")]


def test_what_the_log_says_of_an_import(pair):
    source, target = pair
    use_log(target)
    fill(source, "one")
    move(source, target, FIRST, LAST)
    assert wait_over(source) == ("success", "")
    name = migrations(source)[0]["name"]
    wait(lambda: b"FINISH" in log_files(target), "the end of the import is in the log")
    text = log_files(target)
    begin = encode("CLUSTER", "SYNCSLOTS", "ESTABLISH", "SOURCE", call(source, "CLUSTER", "MYID"), "NAME", name,
                   "SLOTSRANGE", FIRST, LAST)
    end = encode("CLUSTER", "SYNCSLOTS", "FINISH", "STATE", "success", "NAME", name)
    assert text.index(begin) < text.index(b"one") < text.index(end)
    call(source, "SET", key(OTHER), 1)
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 1)
    move(source, target, OTHER, OTHER)
    wait_state(source, "waiting-to-pause")
    call(source, "CLUSTER", "CANCELSLOTMIGRATIONS")
    assert wait_over(target)[0] == "failed"
    wait(lambda: b"MESSAGE" in log_files(target), "the second end is in the log")
    text = log_files(target)
    assert text.index(b"UNLINK") < text.index(b"failed")
    assert call(target, "DEBUG", "LOADAOF") == b"OK"
    assert keys_in(target) == len(SLOTS) * 2 * DBS
    assert keys_in(target, [OTHER]) == 0


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_a_rewrite_in_the_middle(pair, preamble):
    """The base tells of the import, in either form."""
    source, target = pair
    call(target, "CONFIG", "SET", "aof-use-rdb-preamble", preamble)
    use_log(target, "--aof-use-rdb-preamble", preamble)
    fill(source, "one")
    stop_before_the_pause(source, target)
    call(target, "BGREWRITEAOF")
    wait(lambda: b"aof_rewrite_in_progress:0" in call(target, "INFO", "persistence")
         and b"ESTABLISH" not in log_files(target), "it is rewritten")
    come_back(pair)
    assert (migrations(target)[0]["state"], migrations(target)[0]["message"]) == ("failed", "Process restarted")


@pytest.mark.parametrize("how", ["SAVE", "BGSAVE"])
def test_a_snapshot_in_the_middle(pair, how):
    source, target = pair
    fill(source, "one")
    stop_before_the_pause(source, target)
    call(target, how)
    wait(lambda: b"rdb_bgsave_in_progress:0" in call(target, "INFO", "persistence"), "it is saved")
    head = (target.folder / "dump.rdb").read_bytes()[:400]
    assert b"\xf3\x28" + migrations(source)[0]["name"].encode() + b"\x01\x00\x1f" in head
    come_back(pair)
    assert migrations(target)[0]["message"] == "Process restarted"


def words(*lines):
    return b"".join(encode(*line) for line in lines)


def test_a_log_of_somebody_else(tmp_path, engine):
    """As a real Valkey leaves it behind. The slots are nobody's by nodes.conf: what had an end is kept."""
    folder = tmp_path / "one" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    establish = ("CLUSTER", "SYNCSLOTS", "ESTABLISH", "SOURCE", "3" * 40, "NAME")
    (folder / "appendonly.aof.1.incr.aof").write_bytes(words(
        ("SELECT", 0), (*establish, NAME, "SLOTSRANGE", 5, 5, 9, 10), (*establish, OTHER_NAME, "SLOTSRANGE", 7, 7),
        ("SET", key(5), 1), ("SET", key(7), 1), ("SET", key(20), 1),
        ("cluster", "syncslots", "finish", "state", "success", "name", NAME), ("SET", key(7, "more"), 1)))
    server = Server(tmp_path / "one", "--cluster-enabled", "yes", "--appendonly", "yes", engine=engine).start()
    try:
        wait(lambda: [call(server, "CLUSTER", "COUNTKEYSINSLOT", slot) for slot in (5, 7, 20)] == [1, 0, 1],
             "what has no end is gone")          # it answers before it has looked at its slots
        assert sorted((job["name"], job["slot_ranges"], job["state"], job["message"])
                      for job in migrations(server)) == [
            (NAME.decode(), "5-5 9-10", "success", ""), (OTHER_NAME.decode(), "7-7", "failed", "Process restarted")]
        server.stop()
    finally:
        server.kill()
    assert os.path.getsize(folder / "appendonly.aof.1.incr.aof") > 0


def test_the_same_without_a_cluster(tmp_path, engine):
    """Nobody asks whose slots they are."""
    folder = tmp_path / "one" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    (folder / "appendonly.aof.1.incr.aof").write_bytes(words(
        ("SELECT", 0), ("CLUSTER", "SYNCSLOTS", "ESTABLISH", "NAME", NAME, "SLOTSRANGE", 5, 5), ("SET", key(5), 1)))
    server = Server(tmp_path / "one", "--appendonly", "yes", engine=engine).start()
    try:
        assert call(server, "GET", key(5)) == b"1"
        server.stop()
    finally:
        server.kill()
