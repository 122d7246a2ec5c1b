"""Bus packets that are broken on purpose."""

import numpy as np

from net.cluster import messages as m

ID_A, ID_B = b"a" * 40, b"b" * 40


def gossip_row(node_id=ID_B, flags=m.F_PRIMARY, ip=b"10.0.0.9", pong=0):
    """One entry of gossip."""
    row = np.zeros(1, m.gossip_type())
    row["id"], row["ip"], row["port"], row["cport"], row["flags"] = node_id, ip, 6379, 16379, flags
    row["pong_received"] = pong
    return row.tobytes()


def mutate(rng, raw):
    """A packet with a few bytes changed where it matters, cut, or grown."""
    data = bytearray(raw)
    for _ in range(rng.randrange(1, 5)):
        choice = rng.random()
        if choice < 0.75:
            at = rng.randrange(min(len(data), 80)) if rng.random() < 0.5 else rng.randrange(len(data))
            data[at] = rng.randrange(256)
        elif choice < 0.85 and len(data) > 2300:
            at = rng.randrange(2128, len(data))
            data[at] = rng.choice((0, 1, 255))
        elif choice < 0.93:
            del data[rng.randrange(1, len(data)):]
        else:
            data += rng.randbytes(rng.randrange(1, 30))
        if len(data) < 14:
            data += raw[len(data):14]
    if rng.random() < 0.5:
        data[4:8] = len(data).to_bytes(4, "big")
    return bytes(data)


def is_valid(data):
    """Is it a packet as the protocol has them, or the beginning of one?"""
    try:
        length = m.frame_length(data[:m.PREFIX_BYTES])
        if length > len(data):
            return True          # it waits for the rest
        m.decode(data[:length])
    except m.BadPacket:
        return False
    return True
