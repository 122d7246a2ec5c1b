"""nodes.conf: Valkey's lines read and written, broken ones refused, the file on the disk."""

import fcntl
import os
import random
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import Server, ServerDied

from net.cluster import messages as m
from net.cluster import nodesconf
from net.cluster.nodes import SLOTS, ClusterState

A, B, C, D = (letter * 40 for letter in "abcd")
NOW = 1_795_604_326_814
# as a Valkey 9.1.2 wrote it, but for ids
VALKEY_FILE = f"""\
{A} 127.0.0.1:24101@34101,,tls-port=0,shard-id={A} master - 0 1795604362545 2 connected 0-5000 7000
{B} 127.0.0.1:24102@34102,host.example,availability-zone=z1,client-tls-port=7,client-tcp-port=6,client-ipv6=::1,\
client-ipv4=1.2.3.4,tls-port=0,nodename=second,shard-id={A} slave {A} 0 1795604363464 2 connected
{C} 127.0.0.1:24103@34103,,tls-port=0,shard-id={C} myself,master - 0 0 1 connected 10001-16383 [42->-{A}] [7000-<-{A}]
{D} :0@0,,tls-port=0,shard-id={D} master,fail,noaddr - 1795604363464 1795604363464 9 disconnected

vars currentEpoch 12 lastVoteEpoch 11
"""


def loaded(text, now=NOW):
    """The state of a file's text, and what was logged."""
    lines = []
    state = ClusterState(random.Random(1), now)
    nodesconf.load(state, text, now, lambda level, line: lines.append(line))
    return state, lines


def test_valkeys_lines():
    state, lines = loaded(VALKEY_FILE)
    assert not lines
    me, one, two = state.myself, state.nodes[A.encode()], state.nodes[B.encode()]
    assert me.index == 1 and me.name == C
    assert me.numslots == 16383 - 10001 + 1 and one.numslots == 5002
    assert state.owner(7000) is one and state.owner(5001) is None
    assert two.replicaof is one and one.replicas == [two] and two.shard_id == one.shard_id
    assert (two.hostname, two.zone, two.nodename) == ("host.example", "z1", "second")
    assert (two.client_ipv4, two.client_ipv6, two.client_port, two.client_tls_port) == ("1.2.3.4", "::1", 6, 7)
    assert two.config_epoch == 0 and two.epoch == 2
    assert state.migrating == {42: one} and state.importing == {7000: one}
    assert state.nodes[D.encode()].flags == m.F_PRIMARY | m.F_FAIL | m.F_NOADDR
    assert (state.current_epoch, state.last_vote_epoch) == (12, 11)
    assert one.pong_received == NOW and one.ping_sent == 0
    assert sorted(map(sorted, ([node.name for node in each] for each in state.shards.values()))) == [[A, B], [C], [D]]


def test_written_as_read():
    state, _ = loaded(VALKEY_FILE)

    def lines(text):
        plain = re.sub(r"\b1\d{12}\b", "T", text).replace("disconnected", "connected")
        return sorted(line for line in plain.split("\n") if line)

    wanted = VALKEY_FILE.replace("1795604362545", "T").replace(" 0 1795604363464 2", " 0 T 2")
    assert lines(nodesconf.file_text(state)) == lines(wanted)
    again, _ = loaded(nodesconf.file_text(state))
    assert lines(nodesconf.file_text(again)) == lines(nodesconf.file_text(state))


def test_old_files_without_extra_fields():
    state, _ = loaded(f"{A} 10.0.0.1:7000 myself,master - 0 0 1 connected 1 3-4\n{B} 10.0.0.2:7001@17009 slave {A} "
                      "0 0 1 connected\nvars currentEpoch 0 lastVoteEpoch 0 future 3\n")
    me = state.myself
    assert (me.ip, me.tcp_port, me.cport) == ("10.0.0.1", 7000, 17000)
    assert state.nodes[B.encode()].cport == 17009
    assert state.nodes[B.encode()].shard_id == me.shard_id
    assert state.current_epoch == 1        # never less than a node's


def test_a_replicas_shard_follows_its_primary():
    for order in (0, 1):
        pair = [f"{A} 1.1.1.1:1@2,,shard-id={A} myself,master - 0 0 1 connected",
                f"{B} 1.1.1.1:3@4,,shard-id={B} slave {A} 0 0 1 connected"]
        text = "\n".join(pair[::-1] if order else pair) + "\n"
        state, lines = loaded(text)
        assert state.nodes[B.encode()].shard_id == A.encode()
        assert any("different shard id" in line for line in lines)
        assert len(state.shards) == 1


BROKEN = {
    "no myself": VALKEY_FILE.replace("myself,", ""),
    "twice myself": VALKEY_FILE.replace("master -", "myself,master -"),
    "too few fields": f"{A} 1.1.1.1:1@2 myself,master - 0 0 1\n",
    "id": VALKEY_FILE.replace(A, "g" * 40, 1),
    "twice the same": VALKEY_FILE + VALKEY_FILE.split("\n")[0] + "\n",
    "aux name": VALKEY_FILE.replace("nodename", "other"),
    "aux value": VALKEY_FILE.replace("nodename=second", "nodename=a;b"),
    "aux form": VALKEY_FILE.replace("nodename=second", "nodename"),
    "ipv4": VALKEY_FILE.replace("1.2.3.4", "1.2.3"),
    "port": VALKEY_FILE.replace("client-tcp-port=6", "client-tcp-port=66666"),
    "address": VALKEY_FILE.replace("127.0.0.1:24101@34101", "127.0.0.1"),
    "flag": VALKEY_FILE.replace("slave", "serf"),
    "slot": VALKEY_FILE.replace("10001-16383", "10001-16384"),
    "open slot": VALKEY_FILE.replace("[42->-", "[42-?-"),
    "open slot's node": VALKEY_FILE.replace(f"[42->-{A}]", "[42->-x]"),
    "vars": VALKEY_FILE.replace("lastVoteEpoch 11", "lastVoteEpoch"),
    "quotes": '"' + VALKEY_FILE,
    "its own primary": VALKEY_FILE.replace(f"slave {A}", f"slave {B}"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(name):
    assert BROKEN[name] != VALKEY_FILE
    with pytest.raises(nodesconf.CorruptFile):
        loaded(BROKEN[name])


@given(st.data())
def test_broken_lines_never_crash(data):
    raw = list(VALKEY_FILE)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from("abc019,:@=-[]<> \n\0\"'"))
    try:
        state, _ = loaded("".join(raw))
    except nodesconf.CorruptFile:
        return
    again, _ = loaded(nodesconf.file_text(state))
    assert (again.owners > 0).sum() == (state.owners > 0).sum()


@given(st.lists(st.tuples(st.integers(0, SLOTS - 1), st.integers(1, 60)), max_size=8))
def test_any_slots_come_back(runs):
    state = ClusterState(random.Random(3), NOW)
    me = state.create_myself(NOW)
    for first, count in runs:
        state.assign(me, np.arange(first, min(first + count, SLOTS)))
    again, _ = loaded(nodesconf.file_text(state))
    assert again.myself.slots == me.slots
    assert again.myself.shard_id == me.shard_id


# --- the file ------------------------------------------------------------------------------------


def test_the_file_is_replaced_as_a_whole(tmp_path):
    path, lines = str(tmp_path / "nodes.conf"), []
    file = nodesconf.NodesFile(path, lambda level, line: lines.append(line))
    assert file.lock() and file.read() == ""
    for text in ("one\n", "two\n", ""):
        assert file.save(text, True, NOW) == ""
        assert file.read() == text
        assert os.listdir(tmp_path) == ["nodes.conf"]
        other = nodesconf.NodesFile(path, lambda level, line: lines.append(line))
        assert not other.lock()           # the new file is locked as well
        assert "already used by a different Cluster node" in lines[-1]
    file.release()
    with open(path, "a") as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_save_that_fails_leaves_the_old_file(tmp_path):
    lines = []
    file = nodesconf.NodesFile(str(tmp_path / "nodes.conf"), lambda level, line: lines.append(line))
    assert file.lock() and file.save("old\n", True, NOW) == ""
    os.unlink(tmp_path / "nodes.conf")
    os.mkdir(tmp_path / "nodes.conf")
    assert file.save("new\n", True, NOW)
    assert "Could not rename tmp cluster config file" in lines[-1]
    assert os.listdir(tmp_path) == ["nodes.conf"]


def cluster_server(folder, *options):
    return Server(folder, "--cluster-enabled", "yes", *options)


def test_a_server_keeps_its_id_and_slots(tmp_path, slotring_only):
    first = cluster_server(tmp_path / "one").start()
    with first.connect() as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 5, 9, 11, 11)
        client.execute_command("CLUSTER SET-CONFIG-EPOCH", 3)
        node_id = client.execute_command("CLUSTER MYID")
    first.stop()
    text = (tmp_path / "one" / "nodes.conf").read_text()
    assert re.fullmatch(rf"{node_id.decode()} :\d+@\d+,,tls-port=0,shard-id=[0-9a-f]{{40}} myself,master - "
                        r"0 0 3 connected 5-9 11\nvars currentEpoch 3 lastVoteEpoch 0\n", text)
    again = cluster_server(tmp_path / "one").start()
    with again.connect() as client:
        assert client.execute_command("CLUSTER MYID") == node_id
        assert client.execute_command("CLUSTER SLOTS")[0][:2] == [5, 9]
    second = Server(tmp_path / "one", "--cluster-enabled", "yes")
    with pytest.raises(ServerDied):
        second.start()
    assert "already used by a different Cluster node" in second.log_tail()
    again.stop()


def test_a_corrupt_file_stops_the_start(tmp_path, slotring_only):
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "nodes.conf").write_text("rubbish\n")
    server = cluster_server(folder)
    with pytest.raises(ServerDied):
        server.start()
    assert "corrupted cluster config file" in server.log_tail()


@pytest.mark.parametrize("behaviour", ["sync", "best-effort"])
def test_what_a_failed_save_does(tmp_path, behaviour, slotring_only):
    folder = tmp_path / "one"
    server = cluster_server(folder, "--cluster-config-save-behavior", behaviour).start()
    (folder / "nodes.conf").unlink()
    (folder / "nodes.conf").mkdir()
    try:
        with server.connect(retry=None) as client:
            client.execute_command("CLUSTER ADDSLOTS", 1)
            survived = client.ping()
    except Exception:
        survived = False
    assert survived == (behaviour == "best-effort")
    if survived:
        assert "even though writing the cluster config file to disk failed" in server.log_tail()
        shutil.rmtree(folder / "nodes.conf")
        server.stop()
    else:
        server.process.wait(10)
        assert server.process.returncode == 1
        assert "Fatal: can't update cluster config file." in server.log_tail()
