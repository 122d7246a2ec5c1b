"""MONITOR: a connection that is shown every command."""

import threading

from engine.command import register_python

from engine import conf
from net.commands.common import NO_KEYS, about
from net.reply import NO_REPLY

_count_lock = threading.Lock()


def watch(client: object, on: bool) -> None:
    """Put a connection into MONITOR or out of it; the data plane reads how many there are."""
    if client.monitor == on:
        return
    with _count_lock:
        before = conf.get("monitors")
        client.monitor = on
        if conf.get("monitors") == before:
            conf.set("monitors", before + (1 if on else -1))


def monitor(client: object, _args: list[bytes]) -> object:
    """MONITOR"""
    if client.monitor:
        return NO_REPLY
    watch(client, True)
    return "OK"


register_python(
    "monitor",
    1,
    "admin noscript loading stale",
    NO_KEYS,
    monitor,
    about("1.0.0", "server", "admin slow dangerous", "Shows every command as it is run."),
)
