"""The cluster bus without sockets: packets, and clusters on a network that is not there (perf/virtual.py)."""

import os
import random

import numpy as np
import pytest
from busfuzz import ID_A, ID_B, gossip_row, is_valid, mutate
from hypothesis import given
from hypothesis import strategies as st

from net.cluster import failover, nodesconf, ownership
from net.cluster import messages as m
from net.cluster.decisions import Close, Deliver, DropKeys, Follow, PauseWrites
from net.cluster.nodes import MYSELF, SLOTS, T_SAVE, T_STATE, ClusterState, map_of, ranges_of, slots_of
from perf.virtual import Machine, Network

NODE_TIMEOUT = 3000


# --- packets -------------------------------------------------------------------------------------

ids = st.text("0123456789abcdef", min_size=40, max_size=40).map(str.encode)
u16 = st.integers(0, (1 << 16) - 1)
u64 = st.integers(0, (1 << 64) - 1)
names = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789.-:_/", max_size=45)
maps = st.one_of(st.just(m.NO_SLOTS), st.binary(min_size=m.MAP_BYTES, max_size=m.MAP_BYTES))
headers = st.fixed_dictionaries({
    "port": u16, "current_epoch": u64, "config_epoch": u64, "offset": st.integers(-(1 << 63), (1 << 63) - 1),
    "sender": ids, "slots": maps, "replicaof": st.one_of(st.just(m.NO_ID), ids), "ip": names, "pport": u16,
    "cport": u16, "flags": u16, "state": st.integers(0, 255)})
extensions = st.lists(st.one_of(
    st.tuples(st.sampled_from(sorted(m.TEXT_EXTENSIONS)), names),
    st.tuples(st.sampled_from(sorted(m.PORT_EXTENSIONS)), u16),
    st.tuples(st.just(m.X_SHARD_ID), ids),
    st.tuples(st.just(m.X_FORGOTTEN), st.tuples(ids, u64))), max_size=5)


def check_header(packet, fields):
    for name, value in fields.items():
        assert getattr(packet, name) == value, name


@given(headers, st.sampled_from((m.PING, m.PONG, m.MEET)), st.lists(ids, max_size=4), extensions)
def test_ping_round_trip(fields, kind, gossiped, said):
    body = b"".join(gossip_row(node_id) for node_id in gossiped) + b"".join(m.extension(*each) for each in said)
    raw = m.finish(m.header(kind, **fields), kind, body, m.M_EXT_DATA, len(gossiped), len(said))
    assert m.frame_length(raw[:m.PREFIX_BYTES]) == len(raw)
    packet = m.decode(raw)
    check_header(packet, fields)
    assert packet.kind == kind
    assert packet.mflags == m.M_EXT_DATA
    assert packet.gossip["id"].tolist() == gossiped
    assert packet.extensions == said


@given(headers, st.binary(max_size=50), st.binary(max_size=50), u64, ids, maps)
def test_other_packets_round_trip(fields, one, other, number, node_id, slots):
    bodies = {
        m.FAIL: (node_id, (node_id,)), m.UPDATE: (m.update_body(number, node_id, slots), (number, node_id, slots)),
        m.PUBLISH: (m.publish_body(one, other), (one, other)),
        m.PUBLISHSHARD: (m.publish_body(one, other), (one, other)),
        m.MODULE: (m.module_body(number, 7, one), (number, 7, one)), m.AUTH_REQUEST: (b"", ()), m.AUTH_ACK: (b"", ()),
        m.MFSTART: (b"", ())}
    for kind, (body, expected) in bodies.items():
        packet = m.decode(m.finish(m.header(kind, **fields), kind, body))
        check_header(packet, fields)
        assert (packet.kind, packet.body, packet.light) == (kind, expected, False)
        if kind in m.LIGHT_TYPES:
            raw = m.light(kind, body)
            assert m.frame_length(raw[:m.PREFIX_BYTES]) == len(raw) == m.LIGHT_BYTES + len(body)
            packet = m.decode(raw)
            assert (packet.kind, packet.body, packet.light) == (kind, expected, True)


def test_sizes_are_those_of_the_protocol():
    head = m.header(m.PING, sender=ID_A)
    assert len(head) == 2256
    assert m.GOSSIP_BYTES == 104
    assert len(m.finish(head, m.FAIL, ID_B)) == 2296
    assert len(m.finish(head, m.UPDATE, m.update_body(1, ID_B, m.NO_SLOTS))) == 4352
    assert len(m.extension(m.X_FORGOTTEN, (ID_B, 60))) == 56
    assert len(m.extension(m.X_SHARD_ID, ID_B)) == 48
    assert len(m.extension(m.X_PORT, 1)) == 16
    assert len(m.extension(m.X_HOSTNAME, "1234567")) == 16
    assert len(m.extension(m.X_HOSTNAME, "12345678")) == 24


BAD = {
    "signature": (0, b"X", True), "shorter than its header": (4, b"\0\0\0\x20", True), "version": (8, b"\0\2", False),
    "a light ping": (12, b"\x80\0", False), "more gossip than bytes": (14, b"\0\xff", False),
    "sender": (40, b"G", False), "primary": (2128, b"\1", False), "address": (2168, b"\n", False),
    "extension that exceeds": (2256, b"\0\0\1\0", False), "extension of no bytes": (2256, b"\0\0\0\0", False),
    "extension without padding": (2256, b"\0\0\0\x2f", False),
    "shard id": (2256 + 8, b"?", False)}


@pytest.mark.parametrize("name", BAD)
def test_bad_packets_are_refused(name):
    at, patch, fatal = BAD[name]
    head = m.header(m.PING, sender=ID_A)
    raw = bytearray(m.finish(head, m.PING, m.extension(m.X_SHARD_ID, ID_B), m.M_EXT_DATA, 0, 1))
    m.decode(bytes(raw))
    raw[at:at + len(patch)] = patch
    with pytest.raises(m.BadPacket) as raised:
        if m.frame_length(bytes(raw[:m.PREFIX_BYTES])) != len(raw):
            raise m.BadPacket("length")
        m.decode(bytes(raw))
    assert raised.value.fatal == fatal


def test_a_stranger_that_meets_has_any_name():
    """It gets an answer; its real id is learned from its own, which is checked."""
    for sender, is_good in ((b"fakenode" * 5, True), (b"fakenode" * 4 + b"fake no\n", False)):
        head = m.header(m.MEET, sender=sender)
        raw = m.finish(head, m.MEET, b"", 0, 0, 0)
        if is_good:
            assert m.decode(raw).sender == sender
        else:
            with pytest.raises(m.BadPacket):
                m.decode(raw)
    with pytest.raises(m.BadPacket):
        m.decode(m.finish(m.header(m.PING, sender=b"fakenode" * 5), m.PING, b"", 0, 0, 0))


def test_text_without_end_and_lengths_beyond_the_packet():
    head = m.header(m.PING, sender=ID_A)
    endless = m.EXTENSION.pack(16, m.X_HOSTNAME, 0) + b"x" * 8
    with pytest.raises(m.BadPacket):
        m.decode(m.finish(head, m.PING, endless, m.M_EXT_DATA, 0, 1))
    for lengths in ((1 << 32) - 1, 0), (0, (1 << 32) - 1), (5, 0), (0, 5):
        for raw in (m.finish(head, m.PUBLISH, m.LENGTHS.pack(*lengths)), m.light(m.PUBLISH, m.LENGTHS.pack(*lengths))):
            with pytest.raises(m.BadPacket):
                m.decode(raw)


# --- slot maps -----------------------------------------------------------------------------------


@given(st.sets(st.integers(0, SLOTS - 1), max_size=50))
def test_slot_maps(numbers):
    mask = np.zeros(SLOTS, bool)
    mask[list(numbers)] = True
    raw = map_of(mask)
    assert slots_of(raw).tolist() == sorted(numbers)
    assert all(raw[slot // 8] >> (slot % 8) & 1 for slot in numbers)
    ranges = ranges_of(slots_of(raw))
    assert [slot for first, last in ranges for slot in range(first, last + 1)] == sorted(numbers)
    assert all(after[0] - before[1] > 1 for before, after in zip(ranges, ranges[1:], strict=False))


@given(st.data())
def test_nodes_that_come_and_go_keep_their_slots(data):
    rng = random.Random(data.draw(st.integers(0, 1 << 30)))
    state = ClusterState(rng, 1000)
    state.create_myself(1000)
    model = {}
    for _ in range(data.draw(st.integers(1, 25))):
        if rng.random() < 0.4 and len(state.order) > 2:
            node = rng.choice(state.others())
            state.forget(node)
            model = {slot: owner for slot, owner in model.items() if owner is not node}
        else:
            node = state.create(None, m.F_PRIMARY, 1000)
            state.add_to_shard(node)
            node.ping_sent = node.index * 7
        slots = rng.sample(range(SLOTS), 5)
        owner = rng.choice(state.order[1:])
        state.assign(owner, np.array(slots))
        model.update(dict.fromkeys(slots, owner))
        for slot, owner in model.items():
            assert state.owner(slot) is owner
        for index, node in enumerate(state.order[1:], 1):
            assert node.index == index
            assert state.nodes[node.id] is node
            assert state.table.rows["id"][index] == node.id
            held = sorted(slot for slot, owner in model.items() if owner is node)
            assert slots_of(node.slots).tolist() == held
            assert node.numslots == len(held)
        assert state.myself.index == MYSELF


# --- clusters ------------------------------------------------------------------------------------


def all_joined(machines):
    return all(len(each.bus.state.nodes) == len(machines) and not any(
        node.in_handshake or node.link is None or node.inbound is None for node in each.bus.state.others())
        for each in machines)


def make_cluster(count, seed=1, slots=True, epochs=True, **settings):
    """Machines that know each other, each with its part of the slots."""
    network = Network(seed=seed, keeps_logs=True)
    settings = {"node_timeout": NODE_TIMEOUT, **settings}
    machines = [network.add(**settings) for _ in range(count)]
    for number, machine in enumerate(machines if epochs else ()):
        machine.bus.state.myself.config_epoch = machine.bus.state.current_epoch = number + 1
    for machine in machines[1:]:
        machines[0].meet(machine)
    assert network.run(20000, lambda: all_joined(machines))
    if slots:
        for machine, part in zip(machines, np.array_split(np.arange(SLOTS), count), strict=True):
            give(machine, part)
        assert network.run(20000, lambda: all(each.bus.state.state == 0 and agree(machines) for each in machines))
    return network, machines


def give(machine, slots):
    machine.bus.state.assign(machine.bus.state.myself, np.asarray(slots))
    machine.bus.todo(T_SAVE | T_STATE)
    machine.settle()


def view(machine):
    """Who has which slot, by id."""
    state = machine.bus.state
    ids = np.array([b""] + [node.id for node in state.order[1:]])
    return ids[state.owners]


def agree(machines):
    first = view(machines[0])
    return all((view(other) == first).all() for other in machines[1:])


def me(machine):
    return machine.bus.state.myself


def known(machine, other):
    """What a machine thinks of another."""
    return machine.bus.state.nodes[me(other).id]


def logged(machine, text):
    return any(text in line for _, _, line in machine.logs)


def test_nodes_join_and_agree_on_slots():
    network, machines = make_cluster(5)
    for machine in machines:
        assert machine.bus.state.size == 5
        assert me(machine).ip == machine.ip
        for other in machines:
            assert known(machine, other).shard_id == me(other).shard_id
            assert known(machine, other).flags & m.F_LIGHT_PUBLISH
    network.run(60000)
    assert all_joined(machines) and agree(machines)
    assert not any(logged(machine, "possibly failing") or logged(machine, "as failing") for machine in machines)


def test_epochs_that_collide_become_different():
    network, machines = make_cluster(6, epochs=False)
    network.run(20000)
    epochs = [me(machine).config_epoch for machine in machines]
    assert sorted(epochs) == [0, 1, 2, 3, 4, 5]
    assert me(max(machines, key=lambda each: me(each).id)).config_epoch == 0    # the greatest id never moves
    assert all(True in machine.saves for machine in machines if me(machine).config_epoch)
    assert all(known(one, other).config_epoch == me(other).config_epoch for one in machines for other in machines)


def test_a_slot_moves_with_a_greater_epoch():
    network, machines = make_cluster(3)
    source, target = machines[0], machines[1]
    slot = int(slots_of(me(source).slots)[7])
    target.bus.count_keys = source.bus.count_keys = lambda number: int(number == slot)
    target.bus.now = network.now_ms
    give(target, [slot])
    assert ownership.bump_epoch(target.bus)
    target.settle()
    assert network.run(2000, lambda: agree(machines) and view(machines[2])[slot] == me(target).id)
    assert [each.slots for each in source.other if isinstance(each, DropKeys)] == [[slot]]
    assert logged(source, f"Slot range [{slot}, {slot}] is migrated from node")
    assert True in target.saves


def test_old_claims_are_answered_with_update():
    network, machines = make_cluster(3)
    old, fresh, _ = machines
    network.cut.add((1, 2))     # the loser does not hear of it from the winner
    for link in (known(old, fresh).link, known(old, fresh).inbound):
        old.bus.drop_link(link)
    old.settle()
    slot = int(slots_of(me(old).slots)[0])
    fresh.bus.now = network.now_ms
    give(fresh, [slot])
    ownership.bump_epoch(fresh.bus)
    fresh.settle()
    assert network.run(20000, lambda: view(old)[slot] == me(fresh).id)
    assert old.bus.stats.received[m.UPDATE] > 0
    assert me(fresh).config_epoch == known(old, fresh).config_epoch


@pytest.mark.parametrize("dead", [1, 2])
def test_dead_nodes_fail_and_recover(dead):
    network, machines = make_cluster(5)
    gone, rest = machines[-dead:], machines[:-dead]
    for machine in gone:
        machine.alive = False
    died = network.now
    assert network.run(4 * NODE_TIMEOUT, lambda: all(known(one, other).is_failed for one in rest for other in gone))
    assert network.now - died > NODE_TIMEOUT
    assert network.run(1000, lambda: all(one.bus.state.state == 1 for one in rest))
    assert all(one.bus.state.fail_reason == 1 for one in rest)
    for machine in gone:
        machine.alive = True
        machine.tick()
    assert network.run(10 * NODE_TIMEOUT, lambda: all(each.bus.state.state == 0 for each in machines))
    assert not any(known(one, other).is_failed for one in rest for other in gone)
    assert agree(machines)


def test_no_majority_no_fail():
    network, machines = make_cluster(3)
    for machine in machines[1:]:
        machine.alive = False
    assert not network.run(6 * NODE_TIMEOUT, lambda: known(machines[0], machines[1]).is_failed)
    assert known(machines[0], machines[1]).flags & m.F_PFAIL
    assert machines[0].bus.state.state == 1
    assert logged(machines[0], "I am part of a minority partition.")


def test_a_few_lost_pings_are_no_failure():
    network, machines = make_cluster(4)
    network.cut.add((1, 2))
    for link in (known(machines[0], machines[1]).link, known(machines[0], machines[1]).inbound):
        machines[0].bus.drop_link(link)
    machines[0].settle()
    assert network.run(5 * NODE_TIMEOUT, lambda: known(machines[0], machines[1]).flags & m.F_PFAIL)
    assert not any(known(one, machines[1]).is_failed for one in machines if one is not machines[1])
    network.cut.clear()
    assert network.run(5 * NODE_TIMEOUT, lambda: not known(machines[0], machines[1]).flags & m.F_PFAIL)


def test_forgotten_nodes_are_forgotten_by_all():
    network, machines = make_cluster(4, slots=False)
    gone = machines[3]
    gone.alive = False
    bus = machines[0].bus
    bus.now = network.now_ms
    bus.state.blacklist[me(gone).id] = network.now_ms // 1000 + 60
    bus.delete_node(known(machines[0], gone))
    machines[0].settle()
    assert network.run(10000, lambda: all(me(gone).id not in one.bus.state.nodes for one in machines[:3]))
    network.run(30000)
    assert all(me(gone).id not in one.bus.state.nodes for one in machines[:3])


def test_a_node_with_a_new_id_leaves_the_old_one_without_address():
    network, machines = make_cluster(3)
    old_id = me(machines[2]).id
    machines[2].bus.now = network.now_ms
    machines[2].bus.state.unassign(np.flatnonzero(machines[2].bus.state.owners))
    ownership.reset(machines[2].bus, True)
    machines[2].settle()
    assert me(machines[2]).id != old_id and len(machines[2].bus.state.nodes) == 1
    assert network.run(20000, lambda: all(one.bus.state.nodes[old_id].flags & m.F_NOADDR for one in machines[:2]))
    assert all(one.bus.state.nodes[old_id].is_failed for one in machines[:2])
    assert all("noaddr" in nodesconf.describe(one.bus.state, one.bus.state.nodes[old_id]) for one in machines[:2])


def test_names_spread_and_go():
    network, machines = make_cluster(3, slots=False)
    machines[0].bus.settings.hostname = "first.example"
    machines[0].bus.settings.zone = "zone-1"
    machines[0].call("settings_changed")
    assert network.run(15000, lambda: all(known(one, machines[0]).hostname == "first.example" for one in machines))
    assert all(known(one, machines[0]).zone == "zone-1" for one in machines)
    machines[0].bus.settings.hostname = ""
    machines[0].call("settings_changed")
    assert network.run(15000, lambda: all(known(one, machines[0]).hostname == "" for one in machines))


def test_messages_reach_all_nodes_and_shards():
    network, machines = make_cluster(4)
    network.run(5000)
    machines[0].call("publish", b"news", b"x" * 1000, False)
    machines[0].call("publish", b"own", b"y", True)
    network.run(10)
    assert all(one.delivered == [Deliver(b"news", b"x" * 1000, False)] for one in machines[1:])
    assert machines[0].bus.stats.pubsub_bytes_sent == 3 * (16 + 8 + 4 + 1000)
    assert machines[1].bus.stats.received[m.PUBLISH] == 1


def test_full_links_are_dropped():
    network, machines = make_cluster(3)
    machines[0].bus.settings.sendbuf_limit = 1000
    link = known(machines[0], machines[1]).link
    link.is_connected = False       # nothing leaves
    machines[0].call("publish", b"c", b"z" * 5000, False)
    assert network.run(300, lambda: not link.is_open)
    assert machines[0].bus.stats.buffer_limit_exceeded == 1
    assert network.run(2000, lambda: known(machines[0], machines[1]).link is not None)


# --- failover ------------------------------------------------------------------------------------


def with_replica(seed=1, offset=10):
    """Three primaries and a replica of the first."""
    network, machines = make_cluster(4, seed=seed, slots=False, can_replicate=True)
    for machine, part in zip(machines[:3], np.array_split(np.arange(SLOTS), 3), strict=True):
        give(machine, part)
    assert network.run(20000, lambda: all(each.bus.state.state == 0 for each in machines))
    for machine in machines:
        machine.bus.repl_offset = lambda: offset
    replica = machines[3]
    replica.bus.now = network.now_ms
    ownership.set_my_primary(replica.bus, known(replica, machines[0]), True, True)
    replica.bus.todo(T_SAVE | 32)
    replica.settle()
    assert network.run(10000, lambda: all(known(one, replica).replicaof is known(one, machines[0]) for one in machines
                                          if one is not replica))
    network.run(6000)
    return network, machines


def test_a_replica_follows_and_is_of_the_shard():
    _, machines = with_replica()
    assert [each for each in machines[3].other if isinstance(each, Follow)] == [Follow(machines[0].ip, 6379, True)]
    for one in machines:
        assert known(one, machines[3]).shard_id == me(machines[0]).shard_id
        assert known(one, machines[3]).flags & m.F_REPLICA


def test_a_replica_is_elected():
    network, machines = with_replica()
    dead, rest = machines[0], machines[1:]
    lost = me(dead).slots
    dead.alive = False
    assert network.run(30000, lambda: all(known(one, machines[3]).slots == lost for one in rest))
    assert me(machines[3]).is_primary
    assert me(machines[3]).config_epoch > 4
    assert all(one.bus.state.last_vote_epoch == me(machines[3]).config_epoch for one in machines[1:3])
    assert all(logged(one, "Failover auth granted to") for one in machines[1:3])
    dead.alive = True
    dead.tick()
    assert network.run(30000, lambda: known(machines[1], dead).replicaof is known(machines[1], machines[3]))
    assert me(dead).is_replica and me(dead).replicaof is known(dead, machines[3])
    assert agree(machines)


def request(machine, **fields):
    """A vote request as a machine's replica would send it."""
    state = machine.bus.state
    primary = state.myself.replicaof
    sent = {"sender": state.myself.id, "current_epoch": state.current_epoch + 1, "config_epoch": primary.config_epoch,
            "slots": primary.slots, "replicaof": primary.id, "flags": m.F_REPLICA, "mflags": m.M_FORCEACK, **fields}
    return m.decode(m.finish(m.header(m.AUTH_REQUEST, **sent), m.AUTH_REQUEST, mflags=sent["mflags"]))


def test_one_vote_an_epoch_and_saved_before_it_leaves():
    network, machines = with_replica()
    voter, replica = machines[1], machines[3]
    bus, node = voter.bus, known(machines[1], machines[3])
    bus.now = network.now_ms
    for fields, answer in (
            ({"current_epoch": 0}, "reqEpoch (0) < curEpoch"),
            ({"mflags": 0}, "its primary is up"),
            ({"config_epoch": 0}, "> reqConfigEpoch (0)"),
            ({}, "Failover auth granted to"),
            ({}, "already voted for epoch")):
        asked = request(replica, **fields)
        bus.state.current_epoch = max(bus.state.current_epoch, asked.current_epoch)
        voter.logs.clear()
        failover.vote(bus, node, asked)
        assert logged(voter, answer), (answer, voter.logs)
        if "granted" in answer:
            assert bus.state.last_vote_epoch == bus.state.current_epoch
            bus.before_sleep(bus.now)
            kinds = [type(action).__name__ for action in bus.take_actions()]
            assert kinds == ["Save"]
            assert [m.kind_of(packet) for _, packets in bus.take_output() for packet in packets][-1:] == [m.AUTH_ACK]
    assert bus.stats.sent[m.AUTH_ACK] == 1
    assert bus.stats.sent[m.UPDATE] == 1        # to the one with old slots


def test_votes_are_counted_once_a_voter():
    network, machines = with_replica()
    replica, voter = machines[3], machines[1]
    replica.bus.election.auth_epoch = replica.bus.state.current_epoch
    ack = m.finish(voter.bus.head(m.AUTH_ACK), m.AUTH_ACK)
    for _ in range(5):
        replica.bus.received(known(replica, voter).link, ack, network.now_ms)
    assert len(replica.bus.election.voters) == 1


def test_manual_failover_pauses_the_primary():
    network, machines = with_replica()
    primary, replica = machines[0], machines[3]
    slots = me(primary).slots
    replica.bus.now = network.now_ms
    failover.start_as_replica(replica.bus, False, False)
    replica.settle()
    assert network.run(5000, lambda: all(known(one, replica).slots == slots for one in machines))
    assert any(isinstance(each, PauseWrites) and each.until > 0 for each in primary.other)
    assert [each for each in primary.other if isinstance(each, PauseWrites)][-1].until == 0
    assert me(primary).is_replica
    assert agree(machines)


def test_takeover_asks_nobody():
    network, machines = with_replica()
    slots = me(machines[0]).slots
    for machine in machines[:3]:
        machine.alive = False
    machines[3].bus.now = network.now_ms
    failover.start_as_replica(machines[3].bus, True, True)
    machines[3].settle()
    assert me(machines[3]).is_primary and me(machines[3]).slots == slots


# --- forged and broken packets -------------------------------------------------------------------


def fingerprint(machine):
    """All that a packet may change, but for counters."""
    state = machine.bus.state
    table = state.table
    return (nodesconf.file_text(state), state.state, sorted(state.blacklist), len(machine.bus.actions),
            [node.reports for node in state.order[1:]], table.flags[:table.used].tolist(),
            sorted(state.shards))


def samples(machine, sender):
    """Packets of every kind from a known node."""
    bus = sender.bus
    kinds = {m.FAIL: me(machine).id, m.UPDATE: m.update_body(1, me(sender).id, me(sender).slots),
             m.PUBLISH: m.publish_body(b"c", b"m"), m.PUBLISHSHARD: m.publish_body(b"c", b"m"),
             m.MODULE: m.module_body(1, 2, b"abc"), m.AUTH_REQUEST: b"", m.AUTH_ACK: b"", m.MFSTART: b""}
    made = [m.finish(bus.head(kind), kind, body) for kind, body in kinds.items()]
    made += [m.light(kind, kinds[kind]) for kind in m.LIGHT_TYPES]
    said = m.extension(m.X_HOSTNAME, "name") + m.extension(m.X_FORGOTTEN, (ID_A, 5)) + m.extension(m.X_SHARD_ID, ID_B)
    return made + [m.finish(bus.head(kind), kind, gossip_row() + said, m.M_EXT_DATA, 1, 3)
                   for kind in (m.PING, m.PONG, m.MEET)]


def run_mutations(count, seed=7):
    """Sends so many mutated packets, to a new cluster whenever one has lost its shape: how many were not valid."""
    done = refused = 0
    while done < count:
        sent, checked = mutations_of_a_cluster(count - done, seed + done)
        done, refused = done + sent, refused + checked
    return refused


ARRAYS = ("ping_sent", "pong_received", "data_received", "meet_sent", "flags", "numslots", "reports", "rows")
FIELDS = ("id", "shard_id", "config_epoch", "repl_offset", "fail_time", "ip", "tcp_port", "tls_port", "cport",
          "hostname", "nodename", "zone", "client_ipv4", "client_ipv6", "client_port", "client_tls_port", "slots")


def digest(machine):
    """All that a node knows, but for its links: a packet that is not valid may close one, and nothing else."""
    bus, state = machine.bus, machine.bus.state
    table, election = state.table, bus.election
    return (table.used, [getattr(table, name)[:table.used].tobytes() for name in ARRAYS], state.owners.tobytes(),
            [tuple(getattr(node, name) for name in FIELDS) for node in state.order[1:]],
            state.current_epoch, state.last_vote_epoch, state.state, state.todo, state.version, state.any_not_claimed,
            tuple(state.blacklist.items()), tuple(state.shards), tuple(state.migrating), tuple(state.importing),
            [(node.replicaof, tuple(node.replicas or ())) for node in state.order[1:]],
            election.auth_time, len(election.voters), election.mf_end, sum(bus.stats.sent))


def mutations_of_a_cluster(count, seed):
    """Sends mutated packets to a node until it no longer knows the cluster: how many, how many of them not valid."""
    network, machines = make_cluster(3)
    target, sender = machines[0], machines[1]
    rng = random.Random(seed)
    packets = samples(target, sender)
    bus, refused, state = target.bus, 0, None
    for number in range(count):
        if number % 20000 == 0:
            network.run(200)
            target.logs.clear()
            state = None
        data = mutate(rng, packets[number % len(packets)])
        node = bus.state.nodes.get(me(sender).id)
        link = node.inbound if node is not None else None
        if link is None or rng.random() < 0.2:
            link = bus.accepted(sender.ip, target.ip, "x:1", network.now_ms)
        valid = is_valid(data)
        if not valid and state is None:
            state = digest(target)
        bus.received(link, data, network.now_ms)
        link.pending = b""
        if link.node is None:
            bus.drop_link(link)
        if valid:
            state = None
            bus.take_actions()
        else:
            refused += 1
            assert all(isinstance(action, Close) for action in bus.take_actions())
            assert digest(target) == state
        bus.take_output()
        if len(bus.state.nodes) > 50 or node is None:
            return number + 1, refused
    return count, refused


def test_mutated_packets_change_nothing_unless_they_are_valid():
    assert run_mutations(3000) > 1000


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_million_mutated_packets():
    count = int(os.environ.get("SLOTRING_TEST_MUTATIONS", "1000000"))
    assert run_mutations(count) > count // 3


def test_forged_senders():
    network, machines = make_cluster(3)
    target, other = machines[0], machines[1]
    bus = target.bus
    before = fingerprint(target)
    forged = [
        m.finish(m.header(m.PING, sender=me(target).id, config_epoch=99, current_epoch=5, slots=b"\xff" * 2048),
                 m.PING),
        m.finish(m.header(m.PING, sender=ID_A, config_epoch=99, slots=b"\xff" * 2048), m.PING, gossip_row(), 0, 1),
        m.finish(m.header(m.UPDATE, sender=ID_A), m.UPDATE, m.update_body(99, me(other).id, b"\xff" * 2048)),
        m.finish(m.header(m.FAIL, sender=ID_A), m.FAIL, me(other).id),
        m.finish(m.header(m.PUBLISH, sender=ID_A), m.PUBLISH, m.publish_body(b"c", b"m"))]
    for raw in forged:
        link = bus.accepted("10.9.9.9", target.ip, "10.9.9.9:1", network.now_ms)
        bus.received(link, raw, network.now_ms)
        bus.take_output()
        assert fingerprint(target)[:2] == before[:2]
        assert not bus.take_actions()
    light = bus.accepted("10.9.9.9", target.ip, "10.9.9.9:1", network.now_ms)
    bus.received(light, m.light(m.PUBLISH, m.publish_body(b"c", b"m")), network.now_ms)
    assert not light.is_open and not target.delivered


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30))
def test_packets_in_any_pieces(sizes):
    network = Network()
    one = Machine(network, 1)
    link = one.bus.accepted("10.0.0.2", "10.0.0.1", "10.0.0.2:1", network.now_ms)
    raw = m.finish(m.header(m.PING, sender=ID_A), m.PING) * 3
    at = 0
    while at < len(raw):
        for size in sizes:
            one.bus.received(link, raw[at:at + size], network.now_ms)
            at += size
    assert one.bus.stats.received[m.PING] == 3
    assert one.bus.stats.sent[m.PONG] == 3
