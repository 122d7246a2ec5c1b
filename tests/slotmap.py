"""Servers in cluster mode whose slot map the test sets itself (cluster_child.py), and keys of wanted slots."""

import itertools
import os
import sys
from functools import cache
from pathlib import Path

from engine.hashing import slot_of
from resp import Raw
from servers import ROOT, Server

SLOTS = 16384
HERE, OTHER, THIRD = 1, 2, 3
ENDPOINTS = {OTHER: "10.0.0.2:7002", THIRD: "10.0.0.3:7003"}


@cache
def tag(slot: int) -> str:
    """A hash tag of that slot."""
    return next(str(number) for number in itertools.count() if slot_of(str(number).encode()) == slot)


def key(slot: int, name: str = "k") -> str:
    """A key of that slot."""
    return f"{{{tag(slot)}}}{name}"


def start(folder: Path, *options: object, engine: str = "", cluster: bool = True) -> Server:
    """A server with TESTMAP; in cluster mode it has slots 0 to 8191, node OTHER the rest but the last, which is
    nobody's."""
    mode = ("--enable-debug-command", "yes", *(("--cluster-enabled", "yes") if cluster else ()))
    server = Server(folder, *mode, *options, engine=engine,
                    command=[sys.executable, "-X", "gil=0", str(ROOT / "tests" / "cluster_child.py")],
                    env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)})
    server.start()
    if cluster:
        with server.raw() as raw:
            reset(raw)
    return server


def reset(raw: Raw) -> None:
    """The map of the start, healthy, and no data."""
    for index, endpoint in ENDPOINTS.items():
        assert raw.call("TESTMAP", "NODE", index, endpoint) == b"OK"
    raw.call("TESTMAP", "PRIMARY", 0)
    raw.call("TESTMAP", "STATE", 0)
    own(raw)
    raw.call("FLUSHALL")


def own(raw: Raw, *more: int) -> None:
    """Slots 0 to 8191 here, the rest elsewhere, with changes: first, last, index, …"""
    assert raw.call("TESTMAP", "OWNERS", 0, 8191, HERE, 8192, SLOTS - 2, OTHER, *more) == b"OK"
