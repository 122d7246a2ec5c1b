"""SLOWLOG and COMMANDLOG: the commands that took long, or were long, or had a long reply."""

import threading
import time

from engine.command import register_python

from engine.shared import find
from net.commands.common import (
    INT64_MAX,
    NO_KEYS,
    about,
    bare_syntax_error,
    integer,
    number_setting,
    register_container,
    register_help,
)
from net.reply import Error

SLOW, LARGE_REQUEST, LARGE_REPLY = 0, 1, 2
KINDS = {b"slow": SLOW, b"large-request": LARGE_REQUEST, b"large-reply": LARGE_REPLY}
LENGTH_SETTINGS = (
    "commandlog-slow-execution-max-len",
    "commandlog-large-request-max-len",
    "commandlog-large-reply-max-len",
)
ARGS_MAX = 32
ARG_BYTES_MAX = 128
GET_DEFAULT = 10
REDACTED = b"(redacted)"
SECRET_COMMANDS = frozenset((b"auth", b"hello", b"acl", b"config", b"migrate"))
SECRET_SETTINGS = frozenset(
    (
        b"requirepass",
        b"primaryauth",
        b"masterauth",
        b"primaryuser",
        b"masteruser",
        b"tls-key-file-pass",
        b"tls-client-key-file-pass",
    )
)


class Log:
    """The entries of one kind, oldest first; any thread may add."""

    def __init__(self, length_setting: str) -> None:
        self.length_setting = length_setting
        self.lock = threading.Lock()
        self.entries: list[list] = []
        self.next_id = 0

    def add(self, argv: list[bytes], value: int, addr: bytes, name: bytes) -> None:
        """Add an entry and drop what exceeds the configured length."""
        length_max = number_setting(self.length_setting, 128)
        if length_max <= 0:
            return
        kept = trimmed(redact(argv))
        with self.lock:
            self.entries.append([self.next_id, int(time.time()), value, kept, addr, name or b""])
            self.next_id += 1
            if len(self.entries) > length_max:
                del self.entries[: len(self.entries) - length_max]

    def clear(self) -> None:
        """Forget all entries; numbers go on."""
        with self.lock:
            self.entries.clear()

    def newest(self, count: int) -> list:
        """Up to count entries, the newest first; -1: all."""
        with self.lock:
            found = self.entries[::-1]
        return found if count < 0 else found[:count]


LOGS = tuple(Log(name) for name in LENGTH_SETTINGS)


def _hide(argv: list[bytes], places: list[int]) -> list[bytes]:
    shown = list(argv)
    for at in places:
        if at < len(shown):
            shown[at] = REDACTED
    return shown


def _secret_places(argv: list[bytes], name: bytes) -> list[int]:
    """Where a command has what nobody else should read."""
    count = len(argv)
    second = argv[1].lower() if count > 1 else b""
    if name == b"auth":
        return list(range(1, min(count, 3)))
    if name == b"acl":
        if second in (b"setuser", b"deluser", b"getuser"):
            return list(range(2, count))
        return []
    if name == b"config":
        if second != b"set":
            return []
        return [at + 1 for at in range(2, count - 1, 2) if argv[at].lower() in SECRET_SETTINGS]
    places: list[int] = []
    for at in range(1, count):
        word = argv[at].lower()
        if word == b"auth":
            places.extend((at + 1, at + 2) if name == b"hello" else (at + 1,))
        elif word == b"auth2":
            places.extend((at + 1, at + 2))
    return places


def redact(argv: list[bytes]) -> list[bytes]:
    """A command's words as logs and monitors may show them: without passwords."""
    name = argv[0].lower()
    if name not in SECRET_COMMANDS:
        return argv
    return _hide(argv, _secret_places(argv, name))


def trimmed(argv: list[bytes]) -> list[bytes]:
    """At most 32 words of at most 128 bytes, with a note of what is left out."""
    shown = argv
    if len(argv) > ARGS_MAX:
        shown = argv[: ARGS_MAX - 1]
    kept = [
        arg
        if len(arg) <= ARG_BYTES_MAX
        else arg[:ARG_BYTES_MAX] + b"... (%d more bytes)" % (len(arg) - ARG_BYTES_MAX)
        for arg in shown
    ]
    if len(argv) > ARGS_MAX:
        kept.append(b"... (%d more arguments)" % (len(argv) - ARGS_MAX + 1))
    return kept


def record(kind: int, argv: list[bytes], value: int, addr: bytes, name: bytes) -> None:
    """The bridge tells of a command beyond a limit; value: microseconds or bytes."""
    LOGS[kind].add(argv, value, addr, name)


def _kind(raw: bytes) -> int:
    kind = find(KINDS, raw.lower())
    if kind is None:
        raise Error(
            "ERR type should be one of the following: slow, large-request, large-reply"
        )
    return kind


def _count(raw: bytes) -> int:
    message = "count should be greater than or equal to -1"
    count = integer(raw, message)
    if not -1 <= count <= INT64_MAX:
        raise Error(f"ERR {message}")
    return count


def slowlog_get(_client: object, args: list[bytes]) -> object:
    """SLOWLOG GET [count]"""
    if len(args) > 3:
        raise bare_syntax_error(args)
    return LOGS[SLOW].newest(_count(args[2]) if len(args) == 3 else GET_DEFAULT)


def slowlog_len(_client: object, _args: list[bytes]) -> object:
    """SLOWLOG LEN"""
    return len(LOGS[SLOW].entries)


def slowlog_reset(_client: object, _args: list[bytes]) -> object:
    """SLOWLOG RESET"""
    LOGS[SLOW].clear()
    return "OK"


def commandlog_get(_client: object, args: list[bytes]) -> object:
    """COMMANDLOG GET count type"""
    count = _count(args[2])
    return LOGS[_kind(args[3])].newest(count)


def commandlog_len(_client: object, args: list[bytes]) -> object:
    """COMMANDLOG LEN type"""
    return len(LOGS[_kind(args[2])].entries)


def commandlog_reset(_client: object, args: list[bytes]) -> object:
    """COMMANDLOG RESET type"""
    LOGS[_kind(args[2])].clear()
    return "OK"


SLOWLOG_HELP = [
    ("GET [<count>]", "Replies the newest entries: 10 of them unless a count says otherwise,\n"
     "all with -1. An entry is: id, time, microseconds, arguments,\n"
     "address and name of the client."),
    ("LEN", "Says how many entries there are."),
    ("RESET", "Forgets all entries."),
]
COMMANDLOG_HELP = [
    ("GET <count> <type>", "Replies that many of the newest entries of a type, all with -1.\n"
     "Types: slow, large-request, large-reply. An entry is: id, time,\n"
     "microseconds or bytes, arguments, address and name of the client."),
    ("LEN <type>", "Says how many entries of a type there are."),
    ("RESET <type>", "Forgets all entries of a type."),
]

ACL = "admin slow dangerous"
FLAGS = "admin loading stale"


def _row(name: str, arity: int, since: str, handler: object, summary: str, cost: str) -> None:
    register_python(
        name, arity, FLAGS, NO_KEYS, handler, about(since, "server", ACL, summary, cost)
    )


register_container("slowlog", "2.2.12", "server", "Holds the commands about the slow log.")
_row("slowlog|get", -2, "2.2.12", slowlog_get, "Replies the newest slow commands.",
     "O(N), N the entries replied")
_row("slowlog|len", 2, "2.2.12", slowlog_len, "Counts the slow log's entries.", "O(1)")
_row("slowlog|reset", 2, "2.2.12", slowlog_reset, "Empties the slow log.",
     "O(N), N the entries of the log")
register_help("slowlog", "6.2.0", "server", "slow", SLOWLOG_HELP)
register_container("commandlog", "8.1.0", "server", "Holds the commands about the command logs.")
_row("commandlog|get", 4, "8.1.0", commandlog_get, "Replies the newest entries of a command log.",
     "O(N), N the entries replied")
_row("commandlog|len", 3, "8.1.0", commandlog_len, "Counts a command log's entries.", "O(1)")
_row("commandlog|reset", 3, "8.1.0", commandlog_reset, "Empties a command log.",
     "O(N), N the entries of the log")
register_help("commandlog", "8.1.0", "server", "slow", COMMANDLOG_HELP)
