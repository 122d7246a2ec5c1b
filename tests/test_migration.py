"""Slots move from one node to another while clients write to them."""

import signal
import threading
import time

import pytest
import slotcluster
from resp import Error, encode
from slotcluster import call, migrations, move, node_id, wait, wait_over, wait_state
from slotmap import key

DBS = 4
FIRST, LAST = 0, 63
SLOTS = range(FIRST, LAST + 1)


@pytest.fixture(scope="module")
def nodes(engine, tmp_path_factory):
    """Two nodes for the module's tests."""
    with slotcluster.running(tmp_path_factory.mktemp("pair"), engine=engine,
                             options=["--cluster-manual-failover-timeout", "1000"]) as servers:
        yield servers


@pytest.fixture
def pair(nodes):
    """(source, which has all slots; target), empty."""
    slotcluster.home(nodes)
    return nodes


class Writer(threading.Thread):
    """A client that follows redirections and knows what it was told is written."""

    def __init__(self, servers, number):
        super().__init__()
        self.links = {str(server.port): [server.raw() for _ in range(DBS)] for server in servers}
        for links in self.links.values():
            for db, link in enumerate(links):
                link.call("SELECT", db)
        self.port = str(servers[0].port)
        self.number = number
        self.written = {}                  # (db, key) -> values
        self.counts = {}
        self.copies = {}
        self.longest = 0.0
        self.moved = 0
        self.stop = threading.Event()
        self.error = None

    def call(self, db, *words):
        began = time.monotonic()
        port = self.port
        while True:
            answer = self.links[port][db].call(*words)
            if not isinstance(answer, Error) or not answer.startswith("MOVED"):
                break
            port = answer.rpartition(":")[2]
            self.moved += 1
        self.longest = max(self.longest, time.monotonic() - began)
        if isinstance(answer, Error):
            raise AssertionError(f"{words}: {answer}")
        return answer

    def run(self):
        try:
            turn = 0
            while not self.stop.is_set():
                self.one(turn)
                turn += 1
        except BaseException as error:
            self.error = error

    def one(self, turn):
        slot, db = SLOTS[turn * 7 % len(SLOTS)], turn % DBS
        value = f"{self.number}-{turn}".encode()
        name = key(slot, "list")
        self.call(db, "RPUSH", name, value)
        self.written.setdefault((db, name), []).append(value)
        name = key(slot, f"count{self.number}")
        self.counts[db, name] = self.call(db, "INCR", name)
        if turn % 5 == 0:
            one, two, three = (key(slot, f"{word}{self.number}") for word in ("one", "two", "three"))
            self.call(db, "MSET", one, value, two, value)
            self.call(db, "RENAME", one, three)
            self.copies[db, two] = self.copies[db, three] = value


def fill(source):
    for db in range(DBS):
        with source.raw() as raw:
            raw.call("SELECT", db)
            for slot in SLOTS:
                raw.call("SET", key(slot, "string"), f"{db}-{slot}")
                raw.call("HSETEX", key(slot, "hash"), "EX", 1000, "FIELDS", 1, "f", "v")
                raw.call("HSET", key(slot, "hash"), "g", "w")
                raw.call("SET", key(slot, "ttl"), 1, "EX", 1000)
                raw.call("ZADD", key(slot, "zset"), *[word for n in range(200) for word in (n, f"m{n}")])


def digests(server):
    found = []
    for db in range(DBS):
        with server.raw() as raw:
            raw.call("SELECT", db)
            for slot in SLOTS:
                found.append(raw.call("DEBUG", "DIGEST-VALUE", *[key(slot, word) for word in
                                                                 ("string", "hash", "ttl", "zset")]))
    return found


def keys_in(server, slots=SLOTS):
    with server.raw() as raw:
        found = 0
        for db in range(DBS):
            raw.call("SELECT", db)
            found += sum(raw.call("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots)
        return found


def test_slots_move_under_writes(pair):
    source, target = pair
    fill(source)
    before = digests(source)
    writers = [Writer(pair, number) for number in range(3)]
    for writer in writers:
        writer.start()
    time.sleep(0.3)
    move(source, target, FIRST, LAST)
    state = wait_over(source)
    assert state == ("success", ""), (state, source.log_tail(), target.log_tail())
    time.sleep(0.3)
    for writer in writers:
        writer.stop.set()
        writer.join()
        assert writer.error is None
        assert writer.moved
        assert writer.longest < 5
    assert migrations(target)[0]["state"] == "success"
    assert migrations(target)[0]["operation"] == "IMPORT"
    assert digests(target) == before
    links = Writer(pair, 9).links[str(target.port)]
    lists = {}
    for writer in writers:
        for (db, name), values in writer.written.items():
            lists.setdefault((db, name), []).extend(values)
        for (db, name), count in writer.counts.items():
            assert links[db].call("GET", name) == b"%d" % count
        for (db, name), value in writer.copies.items():
            assert links[db].call("GET", name) == value
    for (db, name), values in lists.items():
        assert sorted(links[db].call("LRANGE", name, 0, -1)) == sorted(values)
    assert 900 < links[3].call("TTL", key(5, "ttl")) <= 1000
    assert 900 < links[3].call("HTTL", key(5, "hash"), "FIELDS", 1, "f")[0] <= 1000
    wait(lambda: keys_in(source) == 0, "the source has let go of them")


def test_what_comes_late(pair):
    """The target takes it as the source meant it: a key or field that was persisted in time is there."""
    source, target = pair
    for server in pair:
        call(server, "CONFIG", "SET", "cluster-node-timeout", 60000)
    waiting_to_pause(source, target)
    assert call(target, "CLIENT", "LIST").count(b" flags=i ") == 1       # the source's connection
    string, fields, numbers, members = (key(5, word) for word in ("late", "fields", "numbers", "members"))
    target.process.send_signal(signal.SIGSTOP)
    try:
        with source.raw() as raw:
            raw.call("SET", string, 1, "PX", 2000)
            raw.call("APPEND", string, 2)
            assert raw.call("PERSIST", string) == 1
            raw.call("SET", key(5, "gone"), 1, "PX", 2000)
            raw.call("HSETEX", fields, "PX", 2000, "FIELDS", 2, "f", 1, "g", 2)
            assert raw.call("HPERSIST", fields, "FIELDS", 1, "f") == [1]
            raw.call("RPUSH", numbers, 1)
            raw.call("PEXPIRE", numbers, 2000)
            raw.call("RPUSH", numbers, 2)
            assert raw.call("PERSIST", numbers) == 1
            raw.call("SADD", members, "a")
            raw.call("PEXPIRE", members, 2000)
            raw.call("SADD", members, "b")
            assert raw.call("PERSIST", members) == 1
        time.sleep(2.3)
    finally:
        target.process.send_signal(signal.SIGCONT)
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 0)
    assert wait_over(source) == ("success", "")
    with target.raw() as there:
        assert there.call("MGET", string, key(5, "gone")) == [b"12", None]
        assert there.call("HMGET", fields, "f", "g") == [b"1", None]
        assert there.call("LRANGE", numbers, 0, -1) == [b"1", b"2"]
        assert sorted(there.call("SMEMBERS", members)) == [b"a", b"b"]
        assert there.call("OBJECT", "IDLETIME", string) < 100


def test_what_has_gone_is_out_of_sight(pair):
    """At once, though the keys are deleted a few at a time."""
    source, target = pair
    with source.raw() as raw:
        for slot in SLOTS:
            raw.call("DEBUG", "POPULATE", 2000, key(slot, "p"))
        before = raw.call("DBSIZE")
        assert before == 2000 * len(SLOTS)
        raw.call("SET", key(1000), 1)
        move(source, target, FIRST, LAST)
        wait(lambda: migrations(source)[0]["state"] == "success", "it is over")
        wait(lambda: raw.call("DBSIZE") == 1, "all are out of sight", 1)
        assert raw.call("KEYS", "*") == [key(1000).encode()]
        wait(lambda: keys_in(source) == 0, "all keys are deleted")
        assert raw.call("DBSIZE") == 1
    assert call(target, "DBSIZE") == before


def test_a_word_ends_at_its_nul(pair):
    """So valkey-cli --cluster-use-atomic-slot-migration says it."""
    source, target = pair
    assert call(source, "CLUSTER", "MIGRATESLOTS", b"SLOTSRANGE\0", 0, 9, "NODE", node_id(target)) == b"OK"
    assert wait_over(source) == ("success", "")


def test_what_may_not_be_said(pair):
    source, target = pair
    there = node_id(target)
    for words, error in (
            (("SLOTSRANGE", 0, 9, "NODE", node_id(source)), "ERR Target node can not be this node."),
            (("SLOTSRANGE", 0, 9, "NODE", "x" * 40), f"ERR Unknown node name: {'x' * 40}"),
            (("SLOTSRANGE", 0, 9, "NODE", "x"), "ERR Invalid node name: x"),
            (("SLOTSRANGE", 9, 0, "NODE", there), "ERR Start slot number 9 is greater than end slot number 0."),
            (("SLOTSRANGE", 0, 9, 5, 20, "NODE", there), "ERR Slot range 5-20 overlaps with previous range 0-9."),
            (("SLOTSRANGE", "NODE", there), "ERR No slot ranges specified"),
            (("SLOTSRANGE", 0, 9, "NODE", there, "SLOTSRANGE", 9, 9, "NODE", there),
             "ERR Slot ranges in migrations overlap"),
            (("SLOT", 0, 9), "ERR syntax error")):
        assert call(source, "CLUSTER", "MIGRATESLOTS", *words) == error
    assert call(target, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 0, 9, "NODE", node_id(source)) == (
        "ERR Slots are not served by this node.")
    assert call(source, "CLUSTER", "CANCELSLOTMIGRATIONS") == "ERR No migrations ongoing"
    assert call(source, "CLUSTER", "GETSLOTMIGRATIONS") == []
    assert call(source, "CLUSTER", "SYNCSLOTS", "PAUSED") == (
        "ERR CLUSTER SYNCSLOTS PAUSED should only be used by slot migration clients")
    assert call(source, "CLUSTER", "SYNCSLOTS", "ESTABLISH", "SOURCE", "x" * 40) == (
        "ERR Target node does not know the source node")


def waiting_to_pause(source, target):
    fill(source)
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 1)
    move(source, target, FIRST, LAST)
    wait_state(source, "waiting-to-pause")


def is_clean(source, target):
    """A migration that has failed left nothing."""
    wait(lambda: migrations(target)[0]["state"] == "failed", "the target's job is over")
    assert keys_in(target) == 0
    assert call(target, "DBSIZE") == 0
    assert call(source, "SET", key(5), 1) == b"OK"
    assert str(call(target, "GET", key(5))).startswith("MOVED 5 ")


def test_cancel(pair):
    source, target = pair
    waiting_to_pause(source, target)
    assert call(target, "DBSIZE") == 0             # out of sight
    assert keys_in(target) > 0
    assert call(source, "CLUSTER", "SETSLOT", 9, "STABLE") == "ERR Slot export in progress."
    assert call(target, "CLUSTER", "SETSLOT", 9, "STABLE") == "ERR Slot import in progress."
    assert call(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 5, 5, "NODE", node_id(target)) == (
        "ERR I am already migrating slot 5.")
    assert call(source, "CLUSTER", "CANCELSLOTMIGRATIONS") == b"OK"
    assert migrations(source)[0]["state"] == "cancelled"
    is_clean(source, target)
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 0)
    move(source, target, FIRST, LAST)
    assert wait_over(source) == ("success", "")


@pytest.mark.parametrize("where", [0, 1])
def test_flush(pair, where):
    source, target = pair
    waiting_to_pause(source, target)
    assert call(pair[where], "FLUSHALL") == b"OK"
    state, text = wait_over(source)
    assert state == "failed"
    if where == 0:
        assert text == "Data was flushed"
    else:
        wait(lambda: migrations(target)[0]["message"] == "Data was flushed", "the target says why")
    is_clean(source, target)


def test_the_target_dies_while_it_receives(pair):
    source, target = pair
    fill(source)
    call(source, "CONFIG", "SET", "rdb-key-save-delay", 20000)
    move(source, target, FIRST, LAST)
    wait_state(source, "snapshotting")
    target.kill()
    state, text = wait_over(source)
    call(source, "CONFIG", "SET", "rdb-key-save-delay", 0)
    assert state == "failed"
    assert text.startswith("Connection lost to target.")
    assert call(source, "SET", key(5), 1) == b"OK"


def grant(source, target):
    """A target that has the grant and does nothing with it."""
    fill(source)
    call(target, "DEBUG", "SLOTMIGRATION", "PREVENT-FAILOVER", 1)
    move(source, target, FIRST, LAST)
    wait_state(source, "failover-granted")
    assert b"paused_reason:slot_migration_in_progress" in call(source, "INFO", "clients")


def test_a_grant_that_is_not_used(pair):
    """Writers wait until the target has shown that it has not taken over, and no longer."""
    source, target = pair
    grant(source, target)
    began = time.monotonic()
    assert call(source, "SET", key(5), 1) == b"OK"
    assert time.monotonic() - began > 1
    state, text = wait_over(source)
    assert state == "failed"
    assert "did not take the slots over" in text
    is_clean(source, target)
    assert b"paused_reason:none" in call(source, "INFO", "clients")


@pytest.mark.parametrize("longest", [0, 1])      # one of them is on the worker that the source is connected to
def test_a_busy_target_does_not_take_what_was_given_up(pair, longest):
    """Its workers have not seen yet that the source has let go when it would take over."""
    source, target = pair
    grant(source, target)
    busy = [target.raw() for _ in range(2)]
    if longest:
        busy.reverse()
    try:
        busy[0].send(encode("DEBUG", "SLEEP", 4))
        busy[1].send(encode("DEBUG", "SLEEP", 3) + encode("DEBUG", "SLOTMIGRATION", "PREVENT-FAILOVER", 0))
        assert call(source, "CLUSTER", "CANCELSLOTMIGRATIONS") == b"OK"
        assert wait_over(source)[0] == "cancelled"
        assert call(source, "SET", key(5), "kept") == b"OK"
        assert busy[1].replies(2) == [b"OK", b"OK"]
        assert busy[0].reply() == b"OK"
    finally:
        for raw in busy:
            raw.close()
    assert wait_over(target)[0] == "failed"
    assert call(source, "GET", key(5)) == b"kept"
    is_clean(source, target)


def test_flushslot_while_the_slot_is_handed_over(pair):
    source, target = pair
    grant(source, target)
    answer = call(source, "CLUSTER", "FLUSHSLOT", 5)
    assert str(answer).startswith("TRYAGAIN"), answer
    assert keys_in(source, [5]) == 4 * DBS
    call(target, "DEBUG", "SLOTMIGRATION", "PREVENT-FAILOVER", 0)
    assert wait_over(source)[0] == "success"
    assert keys_in(target, [5]) == 4 * DBS


def test_flushslot_reaches_the_target(pair):
    source, target = pair
    fill(source)
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 1)
    move(source, target, FIRST, LAST)
    wait_state(source, "waiting-to-pause")
    assert call(source, "CLUSTER", "FLUSHSLOT", 5) == b"OK"
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 0)
    assert wait_over(source)[0] == "success"
    assert keys_in(target, [5]) == 0
    assert keys_in(target, [6]) == 4 * DBS


def test_flushslot_at_the_target_ends_the_import(pair):
    source, target = pair
    grant(source, target)
    assert call(target, "CLUSTER", "FLUSHSLOT", 5) == b"OK"
    assert wait_over(target) == ("failed", "Data was flushed")
    assert wait_over(source)[0] == "failed"
    is_clean(source, target)


def test_the_target_dies_with_a_grant(pair):
    source, target = pair
    grant(source, target)
    target.kill()
    with source.raw(60) as raw:
        assert raw.call("SET", key(5), 1) == b"OK"
    assert wait_over(source)[0] == "failed"


def test_a_failing_command_ends_the_import(pair):
    source, target = pair
    fill(source)
    for db in range(DBS):
        with source.raw() as raw:
            raw.call("SELECT", db)
            for n in range(2000):
                raw.call("SET", key(5, f"big{n}"), "x" * 1000)
    call(target, "CONFIG", "SET", "maxmemory", 1)
    move(source, target, FIRST, LAST)
    assert wait_over(source)[0] == "failed"
    wait(lambda: migrations(target)[0]["message"] == "Ran out of memory (OOM) during slot import", "the reason")
    assert keys_in(target) == 0
    call(target, "CONFIG", "SET", "maxmemory", 0)


def test_the_log_of_migrations_has_an_end(pair):
    source, target = pair
    call(source, "CONFIG", "SET", slotcluster.LOG_LENGTH, 2)
    for slot in range(4):
        move(source, target, slot, slot)
        assert wait_over(source) == ("success", "")
    wait(lambda: len(migrations(source)) == 2, "two are kept")
    assert [job["slot_ranges"] for job in migrations(source)] == ["3-3", "2-2"]


def test_commands_of_several_keys(pair):
    """What they do is of one slot: the target gets it, in transactions too."""
    source, target = pair
    waiting_to_pause(source, target)
    a, b, c, d = (key(5, word) for word in "abcd")
    with source.raw() as raw:
        raw.call("SELECT", 2)
        raw.call("SADD", a, 1, 2)
        raw.call("SADD", b, 2, 3)
        raw.call("SUNIONSTORE", c, a, b)
        raw.call("MULTI")
        raw.call("MSET", d, 1, key(5, "e"), 2)
        raw.call("RENAME", d, key(5, "f"))
        raw.call("SINTERSTORE", key(5, "g"), a, b)
        assert raw.call("EXEC") == [b"OK", b"OK", 1]
        raw.call("SMOVE", a, b, 1)
        raw.call("DEL", a, c)
        raw.call("ZADD", key(5, "z"), 1, "m")
        raw.call("ZUNIONSTORE", key(5, "y"), 2, key(5, "z"), key(5, "z"))
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 0)
    assert wait_over(source) == ("success", "")
    with target.raw() as raw:
        raw.call("SELECT", 2)
        assert raw.call("EXISTS", a, c, d) == 0
        assert sorted(raw.call("SMEMBERS", b)) == [b"1", b"2", b"3"]
        assert raw.call("SMEMBERS", key(5, "g")) == [b"2"]
        assert raw.call("MGET", key(5, "f"), key(5, "e")) == [b"1", b"2"]
        assert raw.call("ZSCORE", key(5, "y"), "m") == b"2"


def test_a_target_with_an_append_only_file_is_killed(pair):
    """What it had taken over is there when it is back, what had only been on its way is not."""
    source, target = pair
    assert call(target, "CONFIG", "SET", "appendonly", "yes") == b"OK"
    usual = target.argv
    target.argv = [*usual, "--appendonly", "yes", "--appendfsync", "no"]
    fill(source)
    before = digests(source)
    move(source, target, FIRST, LAST)
    assert wait_over(source) == ("success", "")
    call(source, "SET", key(100), 1)
    call(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 1)
    move(source, target, 100, 100)
    wait_state(source, "waiting-to-pause")
    assert keys_in(target, [100]) == 1
    target.kill()
    target.start()
    slotcluster.wait_up(pair)          # it may have been away for so long that the source saw it fail
    target.argv = usual
    assert digests(target) == before
    assert keys_in(target, [100]) == 0
    assert call(source, "GET", key(100)) == b"1"
    assert call(target, "CONFIG", "SET", "appendonly", "no") == b"OK"
