"""Valkey's bus packets: bytes to fields and back, with strict checks. Nothing here knows a node or a socket.

A full packet is a header of 2256 bytes and a body; a light one a header of 16 and a body. `frame_length` says from the
first 14 bytes how long a packet is, `decode` makes a Packet of a whole one; both raise BadPacket. All integers are big
endian. Texts of addresses and names are str, ids are 40 bytes.
"""

from __future__ import annotations

import struct
from functools import cache

from net.lazy import numpy as np

SIGNATURE = b"RCmb"
VERSION = 1
PREFIX_BYTES = 14
HEADER_BYTES = 2256
LIGHT_BYTES = 16
ID_BYTES = 40
IP_BYTES = 46
SLOTS = 16384
MAP_BYTES = SLOTS // 8
NO_ID = b"\0" * ID_BYTES
NO_SLOTS = b"\0" * MAP_BYTES
LIGHT = 0x8000
U64 = (1 << 64) - 1

PING, PONG, MEET, FAIL, PUBLISH, AUTH_REQUEST, AUTH_ACK, UPDATE, MFSTART, MODULE, PUBLISHSHARD = range(11)
TYPES = ("ping", "pong", "meet", "fail", "publish", "auth-req", "auth-ack", "update", "mfstart", "module",
         "publishshard")
PING_FAMILY = frozenset((PING, PONG, MEET))
LIGHT_TYPES = frozenset((PUBLISH, PUBLISHSHARD, MODULE))

# flags of a node, in headers and gossip
F_PRIMARY, F_REPLICA, F_PFAIL, F_FAIL, F_MYSELF, F_HANDSHAKE, F_NOADDR, F_MEET = (1 << bit for bit in range(8))
F_MIGRATE_TO, F_NOFAILOVER, F_EXTENSIONS, F_LIGHT_PUBLISH, F_LIGHT_MODULE, F_PRIMARY_FAIL = (
    1 << bit for bit in range(8, 14))
F_MULTI_MEET = F_LIGHT_MODULE  # both came with one version

# the first byte of a header's message flags
M_PAUSED, M_FORCEACK, M_EXT_DATA = 1, 2, 4

X_HOSTNAME, X_NODENAME, X_FORGOTTEN, X_SHARD_ID, X_IPV4, X_IPV6, X_PORT, X_TLS_PORT, X_ZONE = range(9)
TEXT_EXTENSIONS = frozenset((X_HOSTNAME, X_NODENAME, X_IPV4, X_IPV6, X_ZONE))
PORT_EXTENSIONS = frozenset((X_PORT, X_TLS_PORT))

HEADER = struct.Struct(">4sIHHHHQQq40s2048s40s46sH30sHHHB3s")
LIGHT_HEADER = struct.Struct(">4sIHHHH")
UPDATE_BODY = struct.Struct(">Q40s2048s")
LENGTHS = struct.Struct(">II")
EXTENSION = struct.Struct(">IHH")
MODULE_HEAD = struct.Struct(">QIB")
MODULE_BYTES = 13
GOSSIP_BYTES = 104

_HEX = frozenset(b"0123456789abcdef")
_BAD_CHARS = frozenset(";<=>?@[]^{|}~\\")


@cache
def gossip_type() -> np.dtype:
    """An entry of gossip as numpy sees it."""
    return np.dtype([("id", "S40"), ("ping_sent", ">u4"), ("pong_received", ">u4"), ("ip", "S46"), ("port", ">u2"),
                     ("cport", ">u2"), ("flags", ">u2"), ("pport", ">u2"), ("reserved", ">u2")])


class BadPacket(Exception):
    """A packet that is ignored, or (`fatal`) closes its link; level: of the log line, None: no line."""

    def __init__(self, text: str, level: int | None = 3, fatal: bool = False):
        super().__init__(text)
        self.level = level
        self.fatal = fatal


def type_name(kind: int) -> str:
    """A packet type in words."""
    return TYPES[kind] if 0 <= kind < len(TYPES) else "unknown"


_GRAPHIC = frozenset(range(33, 127))        # a stranger that meets us is called anything until it has answered


def is_id(raw: bytes) -> bool:
    """Are these the 40 lower-case hex digits of a node's or shard's id?"""
    return len(raw) == ID_BYTES and _HEX.issuperset(raw)


def is_plain(text: str) -> bool:
    """May a name or address with these characters stand in nodes.conf?"""
    return all("," < char < "\x7f" and char not in _BAD_CHARS for char in text)


def text_of(raw: bytes) -> str:
    """A text field up to its first NUL; BadPacket where it has characters that no name has."""
    text = raw.split(b"\0", 1)[0].decode("latin-1")
    if not is_plain(text):
        raise BadPacket("a text with characters that no name has")
    return text


class Packet:
    """A packet that holds what its lengths promise. `body` depends on the type, see `decode`."""

    __slots__ = ("kind", "light", "length", "port", "count", "current_epoch", "config_epoch", "offset", "sender",
                 "slots", "replicaof", "ip", "pport", "cport", "flags", "state", "mflags", "body", "data",
                 "extensions")

    def __init__(self, kind: int, light: bool, length: int):
        self.kind = kind
        self.light = light
        self.length = length
        self.body: tuple = ()
        self.data = b""            # all of it, of the ping family
        self.extensions: list[tuple[int, object]] = []

    @property
    def gossip(self) -> np.ndarray:
        """The entries of gossip, an array of gossip_type()."""
        return np.frombuffer(self.data, gossip_type(), self.count, HEADER_BYTES)

    @property
    def tail(self) -> bytes:
        """What comes after the gossip."""
        return self.data[HEADER_BYTES + GOSSIP_BYTES * self.count:]

    @property
    def claims_primary(self) -> bool:
        """Does the sender say that it is a primary?"""
        return self.replicaof == NO_ID


# --- decoding ------------------------------------------------------------------------------------


def frame_length(prefix: bytes) -> int:
    """The length of the packet that begins with these 14 bytes; BadPacket (fatal) where none begins so."""
    total, kind = struct.unpack_from(">I4xH", prefix, 4)
    shortest = LIGHT_BYTES if kind & LIGHT else HEADER_BYTES
    if prefix[:4] != SIGNATURE or total < shortest:
        raise BadPacket("Bad message length or signature received on the Cluster bus", fatal=True)
    return total


def kind_of(data: bytes) -> int:
    """The type of a packet, without the bit of light ones."""
    return ((data[12] << 8) | data[13]) & ~LIGHT


def decode(data: bytes) -> Packet:
    """The packet that is all of `data` (its first 14 bytes have passed frame_length).

    body: FAIL (id,); UPDATE (epoch, id, slot map); PUBLISH, PUBLISHSHARD (channel, message); MODULE (module id, type,
    payload); else (). The ping family has `gossip`, an array of gossip_type(), and `extensions`, (type, value) each.
    """
    total, version, _, kind, _ = struct.unpack_from(">IHHHH", data, 4)
    light = bool(kind & LIGHT)
    kind &= ~LIGHT
    if light and kind not in LIGHT_TYPES:
        raise BadPacket(f"Packet of type '{type_name(kind)}' ({kind}) does not support light cluster header. "
                        "Marking packet as invalid.", 2)
    if total != len(data) or version != VERSION:
        raise BadPacket("another version or length", None)
    packet = Packet(kind, light, total)
    if light:
        _decode_data(packet, data, LIGHT_BYTES)
        return packet
    _decode_header(packet, data)
    if kind in PING_FAMILY:
        _decode_ping(packet, data)
    elif kind == FAIL:
        _expect(packet, HEADER_BYTES + ID_BYTES)
        packet.body = (data[HEADER_BYTES:],)
    elif kind == UPDATE:
        _expect(packet, HEADER_BYTES + UPDATE_BODY.size)
        packet.body = UPDATE_BODY.unpack_from(data, HEADER_BYTES)
    elif kind in LIGHT_TYPES:
        _decode_data(packet, data, HEADER_BYTES)
    elif kind < len(TYPES):
        _expect(packet, HEADER_BYTES)
    return packet


def _expect(packet: Packet, length: int) -> None:
    if packet.length != length:
        raise BadPacket(f"Received invalid {type_name(packet.kind)} packet of length {packet.length} but expected "
                        f"length {length}")


def _exceeds(packet: Packet, what: str) -> BadPacket:
    return BadPacket(f"Received invalid {type_name(packet.kind)} packet with {what} that exceeds total packet length "
                     f"({packet.length})")


def _decode_header(packet: Packet, data: bytes) -> None:
    (_, _, _, packet.port, _, packet.count, packet.current_epoch, packet.config_epoch, packet.offset, packet.sender,
     packet.slots, packet.replicaof, ip, _, _, packet.pport, packet.cport, packet.flags, packet.state,
     mflags) = HEADER.unpack_from(data)
    packet.mflags = mflags[0]
    packet.ip = text_of(ip) if ip[0] else ""
    if not is_id(packet.sender) and not (packet.kind == MEET and _GRAPHIC.issuperset(packet.sender)):
        raise BadPacket("a sender whose id is none", None)
    if packet.replicaof != NO_ID and not is_id(packet.replicaof):
        raise BadPacket("a primary whose id is none", None)


def _decode_data(packet: Packet, data: bytes, at: int) -> None:
    """The bodies that may come with a light header."""
    if packet.kind == MODULE:
        if packet.length < at + MODULE_BYTES:
            raise _exceeds(packet, "module payload length")
        module, length, kind = MODULE_HEAD.unpack_from(data, at)
        if packet.length - at - MODULE_BYTES < length:
            raise _exceeds(packet, "module payload length")
        _expect(packet, at + MODULE_BYTES + length)
        packet.body = (module, kind, data[at + MODULE_BYTES:])
        return
    if packet.length < at + 8:
        raise _exceeds(packet, "channel length")
    channel, message = LENGTHS.unpack_from(data, at)
    at += 8
    if packet.length - at < channel:
        raise _exceeds(packet, "channel length")
    if packet.length - at - channel < message:
        raise _exceeds(packet, "message length")
    _expect(packet, at + channel + message)
    packet.body = (data[at:at + channel], data[at + channel:])


def _decode_ping(packet: Packet, data: bytes) -> None:
    at = HEADER_BYTES + GOSSIP_BYTES * packet.count
    if packet.length < at:
        raise BadPacket(f"Received invalid {type_name(packet.kind)} packet with gossip count {packet.count} that "
                        f"exceeds total packet length ({packet.length})")
    packet.data = data
    if packet.mflags & M_EXT_DATA:
        left = (data[2214] << 8) | data[2215]
        for _ in range(left):
            if packet.length - at < EXTENSION.size:
                raise _exceeds(packet, "extension data")
            length, kind, _unused = EXTENSION.unpack_from(data, at)
            if length % 8:
                raise BadPacket(f"Received a {type_name(packet.kind)} packet without proper padding ({length} bytes)")
            if packet.length - at < length or length < EXTENSION.size:
                raise _exceeds(packet, "extension data")
            packet.extensions.append((kind, _extension(kind, data[at + EXTENSION.size:at + length])))
            at += length
    _expect(packet, at)


def _extension(kind: int, raw: bytes) -> object:
    """An extension's value: text, port, id, or (id, seconds); of an unknown type: its bytes."""
    if kind in TEXT_EXTENSIONS:
        if b"\0" not in raw:
            raise BadPacket("an extension's text has no end")
        return text_of(raw)
    if kind in PORT_EXTENSIONS:
        if len(raw) != 8:
            raise BadPacket("an extension's port has another size")
        return (raw[0] << 8) | raw[1]
    if kind == X_SHARD_ID:
        if not is_id(raw):
            raise BadPacket("an extension's shard id is none")
        return raw
    if kind == X_FORGOTTEN:
        if len(raw) != ID_BYTES + 8 or not is_id(raw[:ID_BYTES]):
            raise BadPacket("an extension's forgotten node is none")
        return raw[:ID_BYTES], int.from_bytes(raw[ID_BYTES:], "big")
    return raw


# --- encoding ------------------------------------------------------------------------------------


def header(kind: int, **fields: object) -> bytearray:
    """A full header with `fields` (those of Packet), its total length not yet filled in: see `finish`."""
    get = fields.get
    ip = get("ip") or ""
    return bytearray(HEADER.pack(
        SIGNATURE, 0, VERSION, get("port", 0), kind, get("count", 0), get("current_epoch", 0) & U64,
        get("config_epoch", 0) & U64, get("offset", 0), get("sender", NO_ID), get("slots", NO_SLOTS),
        get("replicaof", NO_ID), ip.encode("latin-1")[:IP_BYTES - 1], 0, b"", get("pport", 0), get("cport", 0),
        get("flags", 0), get("state", 0), bytes((get("mflags", 0), 0, 0))))


def finish(head: bytearray, kind: int, body: bytes = b"", mflags: int = 0, count: int = 0,
           extensions: int = 0) -> bytes:
    """The packet of a header made before: type, counts, flags (added) and length are filled in."""
    packet = head.copy()
    packet[4:8] = (HEADER_BYTES + len(body)).to_bytes(4, "big")
    packet[12:16] = (kind << 16 | count).to_bytes(4, "big")
    packet[2214:2216] = extensions.to_bytes(2, "big")
    packet[2253] |= mflags
    packet += body
    return bytes(packet)


def plain_head(data: bytes) -> bytes:
    """A packet's header without what says nothing of its sender, see Table.hear."""
    return (data[:4] + bytes(4) + data[8:12] + bytes(12) + data[24:32] + bytes(8) + data[40:2252] + b"\0"
            + data[2253:HEADER_BYTES])


def light(kind: int, body: bytes) -> bytes:
    """A packet with the light header."""
    return LIGHT_HEADER.pack(SIGNATURE, LIGHT_BYTES + len(body), VERSION, 0, kind | LIGHT, 0) + body


def update_body(epoch: int, node_id: bytes, slots: bytes) -> bytes:
    """The body of UPDATE."""
    return UPDATE_BODY.pack(epoch & U64, node_id, slots)


def publish_body(channel: bytes, message: bytes) -> bytes:
    """The body of PUBLISH and PUBLISHSHARD."""
    return LENGTHS.pack(len(channel), len(message)) + channel + message


def module_body(module: int, kind: int, payload: bytes) -> bytes:
    """The body of MODULE."""
    return MODULE_HEAD.pack(module, len(payload), kind) + payload


def _extension_bytes(kind: int, payload: bytes) -> bytes:
    padded = (len(payload) + 7) & ~7
    return EXTENSION.pack(EXTENSION.size + padded, kind, 0) + payload.ljust(padded, b"\0")


def extension(kind: int, value: object) -> bytes:
    """One ping extension; value as `decode` gives it."""
    if kind in TEXT_EXTENSIONS:
        return _extension_bytes(kind, str(value).encode("latin-1") + b"\0")
    if kind in PORT_EXTENSIONS:
        return _extension_bytes(kind, int(value).to_bytes(2, "big"))
    if kind == X_FORGOTTEN:
        node_id, seconds = value
        return _extension_bytes(kind, node_id + min(seconds, U64).to_bytes(8, "big"))
    return _extension_bytes(kind, bytes(value))
