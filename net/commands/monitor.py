"""MONITOR: a connection that is shown every command, and the lines that it is shown."""

import time

from engine.command import register_python
from net.commands.commandlog import redact
from net.commands.common import NO_KEYS, about
from net.reply import Raw


def _shown_byte(byte: int) -> bytes:
    """A byte as it stands between quotes."""
    if byte in b'\\"':
        return b"\\" + bytes((byte,))
    if byte in b"\n\r\t\a\b":
        return {10: b"\\n", 13: b"\\r", 9: b"\\t", 7: b"\\a", 8: b"\\b"}[byte]
    if 0x20 <= byte < 0x7F:
        return bytes((byte,))
    return b"\\x%02x" % byte


SHOWN = [_shown_byte(byte) for byte in range(256)]
PLAIN = bytes(byte for byte in range(256) if SHOWN[byte] == bytes((byte,)))


def quoted(raw: bytes) -> bytes:
    """Bytes between quotes, with escapes for those that cannot be printed."""
    if not raw.translate(None, PLAIN):
        return b'"' + raw + b'"'
    return b'"' + b"".join([SHOWN[byte] for byte in raw]) + b'"'


def line(db: int, addr: bytes, argv: list[bytes]) -> bytes:
    """What monitors are sent for a command: a status line, with its end."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    shown = b" ".join([quoted(arg) for arg in redact(argv)])
    return b"+%d.%06d [%d %b] %b\r\n" % (seconds, nanoseconds // 1000, db, addr, shown)


def monitor(client: object, _args: list[bytes]) -> object:
    """MONITOR"""
    if client.monitor:
        return Raw(b"")
    client.monitor = True
    return "OK"


register_python(
    "monitor",
    1,
    "admin noscript loading stale",
    NO_KEYS,
    monitor,
    about("1.0.0", "server", "admin slow dangerous", "Shows every command as it is run."),
)
