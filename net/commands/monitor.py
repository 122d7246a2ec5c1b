"""MONITOR: a connection that is shown every command, and the lines that it is shown."""

import threading
import time

from engine.command import register_python

from engine import conf
from engine.quoting import quote
from net.commands.commandlog import redact
from net.commands.common import NO_KEYS, about
from net.reply import NO_REPLY

PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'\\"')
_count_lock = threading.Lock()


def quoted(raw: bytes) -> bytes:
    """Bytes between quotes, with escapes for those that cannot be printed."""
    return quote(raw) if raw.translate(None, PLAIN) else b'"' + raw + b'"'


def line(db: int, addr: bytes, argv: list[bytes]) -> bytes:
    """What monitors are sent for a command: a status line, with its end."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    shown = b" ".join([quoted(arg) for arg in redact(argv)])
    return b"+%d.%06d [%d %b] %b\r\n" % (seconds, nanoseconds // 1000, db, addr, shown)


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
