"""A cluster of two Slotring nodes and a real Valkey: it forms, agrees, notices failures, and swaps its files."""

import os
import shutil
import signal
import time

import pytest
import slotcluster
from servers import Server

pytestmark = pytest.mark.peer
TIMEOUT_MS = 2000
OPTIONS = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(TIMEOUT_MS), "--enable-debug-command", "yes"]
WAIT_S = 60.0


def wait(check, what, seconds=WAIT_S):
    """Until check() is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if check():
                return
        except (OSError, ConnectionError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"not in {seconds} s: {what}")


def call(server, *words):
    with server.connect() as client:
        client.set_response_callback("CLUSTER NODES", lambda raw, **_: raw)
        return client.execute_command(*words)


def info(server):
    text = call(server, "CLUSTER INFO")
    if isinstance(text, dict):
        return text
    text = text.decode() if isinstance(text, bytes) else text
    return dict(line.split(":", 1) for line in text.split("\r\n") if line)


def nodes(server):
    """id -> (flags, epoch, slots) as a node sees them."""
    with server.raw() as raw:
        text = raw.call("CLUSTER", "NODES")
    text = text.decode() if isinstance(text, bytes) else text
    found = {}
    for line in text.strip().split("\n"):
        words = line.split(" ")
        flags = set(words[2].split(",")) - {"myself"}
        found[words[0]] = (tuple(sorted(flags)), int(words[6]), tuple(words[8:]))
    return found


def agree(servers):
    views = [nodes(server) for server in servers]
    return len(views[0]) == len(servers) and all(view == views[0] for view in views)


def started(folder, valkey_binary):
    """Two Slotrings and a Valkey, one cluster, a third of the slots each; killed at the end."""
    servers = [Server(folder / "a", *OPTIONS), Server(folder / "b", *OPTIONS),
               Server(folder / "v", *OPTIONS, command=[valkey_binary])]
    try:
        for server in servers:
            server.start()
        for number, server in enumerate(servers):
            call(server, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        slotcluster.meet(servers[0], servers[2])
        slotcluster.meet(servers[2], servers[1])
        for server, (first, last) in zip(servers, ((0, 5000), (5001, 10000), (10001, 16383)), strict=True):
            call(server, "CLUSTER ADDSLOTSRANGE", first, last)
        wait(lambda: all(info(server)["cluster_state"] == "ok" for server in servers) and agree(servers), "a cluster")
        yield servers
    finally:
        for server in servers:
            server.kill()


@pytest.fixture(scope="module")
def trio(tmp_path_factory, valkey_binary):
    """The cluster of the module's tests, whole before each."""
    yield from started(tmp_path_factory.mktemp("trio"), valkey_binary)


@pytest.fixture
def own_trio(tmp_path, valkey_binary):
    """A cluster for one test, which takes it apart."""
    yield from started(tmp_path, valkey_binary)


def test_they_agree(trio):
    views = nodes(trio[0])
    assert sorted(slots for _, _, slots in views.values()) == [("0-5000",), ("10001-16383",), ("5001-10000",)]
    for server in trio:
        assert info(server)["cluster_size"] == "3"
        assert info(server)["cluster_slots_ok"] == "16384"
        assert len(call(server, "CLUSTER LINKS")) == 4


def test_shards_and_slots_are_shown_alike(trio):
    def plain(server, word):
        with server.raw() as raw:
            return raw.call("CLUSTER", word)

    for word in ("SLOTS", "SHARDS"):
        shown = [sorted(plain(server, word), key=repr) for server in trio]
        assert shown[0] == shown[1] == shown[2], word


def test_an_epoch_collision_is_resolved(trio):
    call(trio[0], "CLUSTER BUMPEPOCH")
    call(trio[2], "CLUSTER BUMPEPOCH")
    wait(lambda: agree(trio) and len({epoch for _, epoch, _ in nodes(trio[0]).values()}) == 3, "different epochs")


@pytest.mark.parametrize("source,target", [(0, 2), (2, 1)])
def test_a_slot_moves(trio, source, target):
    slot = {0: 100, 2: 12000}[source]
    source_id, target_id = (call(trio[at], "CLUSTER MYID").decode() for at in (source, target))
    assert call(trio[target], "CLUSTER SETSLOT", slot, "IMPORTING", source_id) in (b"OK", True)
    assert call(trio[source], "CLUSTER SETSLOT", slot, "MIGRATING", target_id) in (b"OK", True)
    call(trio[target], "CLUSTER SETSLOT", slot, "NODE", target_id)
    call(trio[source], "CLUSTER SETSLOT", slot, "NODE", target_id)
    wait(lambda: agree(trio) and str(slot) in nodes(trio[0])[target_id][2], "the slot's new owner")


@pytest.mark.parametrize("victim", [1, 2])
def test_a_stopped_node_fails_and_recovers(trio, victim):
    gone = call(trio[victim], "CLUSTER MYID").decode()
    rest = [server for at, server in enumerate(trio) if at != victim]
    os.kill(trio[victim].pid, signal.SIGSTOP)
    try:
        wait(lambda: all("fail" in nodes(server)[gone][0] for server in rest), "FAIL")
        assert all(info(server)["cluster_state"] == "fail" for server in rest)
    finally:
        os.kill(trio[victim].pid, signal.SIGCONT)
    wait(lambda: all(info(server)["cluster_state"] == "ok" for server in trio) and agree(trio), "recovery")


def test_messages_cross(trio):
    for publisher in trio:
        readers = [server for server in trio if server is not publisher]
        subscribed = []
        for server in readers:
            raw = server.raw()
            raw.call("SUBSCRIBE", "news")
            subscribed.append(raw)
        time.sleep(0.3)
        call(publisher, "PUBLISH", "news", "hello")
        for raw in subscribed:
            assert [bytes(part) for part in raw.reply()] == [b"message", b"news", b"hello"]
            raw.close()


def test_the_files_load_in_each_other(own_trio, valkey_binary):
    before = nodes(own_trio[0])
    for server in own_trio:
        server.stop()
    a, v = own_trio[0].folder / "nodes.conf", own_trio[2].folder / "nodes.conf"
    keep = a.with_suffix(".keep")
    shutil.move(a, keep)
    shutil.move(v, a)
    shutil.move(keep, v)
    # each takes the other's place: its id, its port
    swapped = [Server(own_trio[0].folder, *OPTIONS), own_trio[1],
               Server(own_trio[2].folder, *OPTIONS, command=[valkey_binary])]
    for server, port in ((swapped[0], own_trio[2].port), (swapped[2], own_trio[0].port)):
        server.argv[server.argv.index("--port") + 1] = str(port)
        server.port = port
    try:
        for server in swapped:
            server.start()
        wait(lambda: all(info(server)["cluster_state"] == "ok" for server in swapped) and agree(swapped),
             "the cluster again")
        assert {key: slots for key, (_, _, slots) in nodes(swapped[0]).items()} == {
            key: slots for key, (_, _, slots) in before.items()}
    finally:
        for server in swapped:
            server.kill()


def test_a_forgotten_node_is_forgotten_everywhere(own_trio):
    gone = call(own_trio[1], "CLUSTER MYID").decode()
    own_trio[1].stop()
    call(own_trio[0], "CLUSTER FORGET", gone)
    wait(lambda: gone not in nodes(own_trio[2]), "the Valkey has forgotten too")
    assert gone not in nodes(own_trio[0])
    own_trio[1].start()


def test_reset_makes_a_stranger(trio):
    """The last of this file: the cluster is not whole afterwards."""
    old = call(trio[1], "CLUSTER MYID").decode()
    call(trio[1], "CLUSTER RESET", "HARD")
    assert len(nodes(trio[1])) == 1
    assert call(trio[1], "CLUSTER MYID").decode() != old
    wait(lambda: all("noaddr" in nodes(server)[old][0] for server in (trio[0], trio[2])), "the old id has no address")
