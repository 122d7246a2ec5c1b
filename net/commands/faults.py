"""What goes wrong, for the log: clients' protocol errors, crashes on request (DEBUG SEGFAULT, ASSERT, PANIC)."""

import faulthandler
import os
import signal
import time

from net import bridge, crash, log
from net.commands.cluster import who
from net.commands.common import setting
from net.config import config

SHOWN_BYTES = 128
SHOW_STACKS = signal.SIGRTMIN + 1


def _sample(raw: bytes) -> str:
    """What of a query buffer is shown: its begin and end, printable."""
    def plain(part: bytes) -> str:
        return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)

    if len(raw) < SHOWN_BYTES:
        return f"'{plain(raw)}'"
    half = SHOWN_BYTES // 2
    return f"'{plain(raw[:half])}' (... more {len(raw) - SHOWN_BYTES} bytes ...) '{plain(raw[-half:])}'"


def _tell(_level: object = None) -> None:
    bridge.tell_protocol_errors(config.get_value("loglevel") in ("debug", "verbose"))


def protocol_error(client: object, reason: str, raw: bytes) -> None:
    """A connection has sent what is no command, and is closed; asked for at loglevel verbose only."""
    shown = "*redacted*" if setting("hide-user-data-from-log", True) else _sample(raw)
    log.verbose(f"Protocol error ({reason}) from client: {who(client)}. Query buffer: {shown}")


def segfault(_client: object, _args: list[bytes]) -> object:
    """DEBUG SEGFAULT"""
    crash.segfault()
    return None


def _end(*lines: str) -> None:
    crash.failed([line.encode() for line in lines], config.get_value("crash-log-enabled"),
                 config.get_value("use-exit-on-panic"))


def fail_assertion(_client: object, _args: list[bytes]) -> object:
    """DEBUG ASSERT"""
    _end("=== ASSERTION FAILED ===", "==> DEBUG ASSERT: '1 == 2' is not true")
    return None


def panic(_client: object, _args: list[bytes]) -> object:
    """DEBUG PANIC"""
    _end("Software Failure, the server ends itself.", f"Reason: DEBUG PANIC was called at {int(time.time())}")
    return None


def set_up() -> None:
    """Reports of crashes and of protocol errors, as the settings want them now and later."""
    shown = os.open("/dev/null", os.O_WRONLY)          # a report puts the log in its place
    faulthandler.register(SHOW_STACKS, file=shown, all_threads=True)

    def apply(_value: object = None) -> None:
        crash.set_up(log.state.path.encode(), config.get_value("crash-log-enabled"), SHOW_STACKS, shown)

    apply()
    config.on_change("crash-log-enabled", apply)
    _tell()
    config.on_change("loglevel", _tell)
