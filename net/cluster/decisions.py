"""What the bus decides, for whoever runs it to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from net.cluster.bus import Link


class Dial(NamedTuple):
    """Connect the link; answer with `connected` or `closed`."""
    link: Link
    ip: str
    port: int


class Close(NamedTuple):
    """Close the link's connection; no answer."""
    link: Link


class Save(NamedTuple):
    """Write nodes.conf, before anything is sent."""
    fsync: bool


class Deliver(NamedTuple):
    """Somebody published a message."""
    channel: bytes
    message: bytes
    sharded: bool


class DropKeys(NamedTuple):
    """These slots have gone to another node; their keys go."""
    slots: list[int]


class PauseWrites(NamedTuple):
    """Clients' writes wait until then, at most; 0: they go on."""
    until: int


class Follow(NamedTuple):
    """Replicate from that primary; empty: from nobody."""
    ip: str
    port: int
    full_sync: bool
