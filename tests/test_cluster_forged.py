"""Broken and forged packets, over real sockets, at a node of a cluster."""

import errno
import random
import socket

import slotcluster
from busfuzz import ID_A, ID_B, gossip_row, is_valid, mutate

from net.cluster import messages as m

PACKETS = 6000
A_CONNECTION = 40
BUS_OFFSET = 10000


def packets(sender, target):
    """Packets of every kind as that node would send them."""
    fields = {"sender": sender, "slots": m.NO_SLOTS, "config_epoch": 99, "current_epoch": 99, "flags": m.F_PRIMARY}
    bodies = {m.FAIL: target, m.UPDATE: m.update_body(99, sender, b"\xff" * m.MAP_BYTES),
              m.PUBLISH: m.publish_body(b"c", b"m"), m.MODULE: m.module_body(1, 2, b"abc"), m.AUTH_REQUEST: b"",
              m.MFSTART: b""}
    made = [m.finish(m.header(kind, **fields), kind, body) for kind, body in bodies.items()]
    said = b"".join(m.extension(*each) for each in (
        (m.X_HOSTNAME, "forged"), (m.X_FORGOTTEN, (target, 5)), (m.X_SHARD_ID, ID_B)))
    made += [m.finish(m.header(kind, **fields), kind, gossip_row() + said, m.M_EXT_DATA, 1, 3)
             for kind in (m.PING, m.PONG, m.MEET)]
    return made


def view(server):
    """What a node knows of the cluster, but for times of pings and links."""
    lines = slotcluster.call(server, "CLUSTER", "NODES").decode().splitlines()
    info = slotcluster.call(server, "CLUSTER", "INFO").decode().splitlines()
    kept = ("cluster_state", "cluster_slots", "cluster_known_nodes", "cluster_size", "cluster_current_epoch",
            "cluster_my_epoch")
    rows = [line.split() for line in lines]
    return (sorted((*row[:4], row[6], *row[8:]) for row in rows), [line for line in info if line.startswith(kept)])


def send(server, chunks):
    """Writes packets on a new connection, as long as the other side takes them."""
    with socket.create_connection(("127.0.0.1", server.port + BUS_OFFSET), 20) as sock:
        try:
            for chunk in chunks:
                sock.sendall(chunk)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except OSError as error:     # it closed the connection: in the middle, or before we did
            if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
                raise


def test_broken_packets_change_nothing(tmp_path):
    servers = slotcluster.start(tmp_path)
    try:
        target, other = servers
        sender, own = slotcluster.node_id(other), slotcluster.node_id(target)
        good = packets(sender, own)
        before, rng = view(target), random.Random(5)
        broken = []
        while len(broken) < PACKETS:
            data = mutate(rng, good[len(broken) % len(good)])
            if not is_valid(data):
                broken.append(data)
        for at in range(0, PACKETS, A_CONNECTION):
            send(target, broken[at:at + A_CONNECTION])
        assert view(target) == before
        every = b"\xff" * m.MAP_BYTES
        stranger = [m.finish(m.header(m.UPDATE, sender=ID_A), m.UPDATE, m.update_body(99, sender, every)),
                    m.finish(m.header(m.FAIL, sender=ID_A), m.FAIL, sender),
                    m.finish(m.header(m.PING, sender=ID_A, config_epoch=99, slots=every), m.PING, gossip_row(), 0, 1)]
        send(target, stranger)
        assert view(target) == before
        assert "Traceback" not in target.log_path.read_text()
        assert "Error" not in target.log_path.read_text()
    finally:
        slotcluster.stop(servers)
