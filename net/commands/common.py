"""What the administration commands share: strict numbers, containers, HELP, names of settings."""

from engine.command import register_python

from net.config import config
from net.reply import Error

INT64_MIN = -(1 << 63)
INT64_MAX = (1 << 63) - 1
NOT_INTEGER = "value is not an integer or out of range"
NO_KEYS = (0, 0, 0)
WORD_BYTES_MAX = 4096  # more of an argument is in no message: as text it takes four times its bytes


def words(raw: bytes) -> str:
    """A client's bytes, the first few thousand of them, for use in a message or as a name."""
    return raw[:WORD_BYTES_MAX].decode("utf-8", "surrogateescape")


def syntax_error() -> Error:
    """The error of options that nobody understands."""
    return Error("ERR syntax error")


def integer(raw: bytes, message: str = NOT_INTEGER) -> int:
    """A signed 64-bit number: no spaces, no plus, no leading zero; raises Error otherwise."""
    if 0 < len(raw) <= 20:
        digits = raw[1:] if raw[0] == 0x2D else raw
        if digits.isdigit() and (digits[0] != 0x30 or raw == b"0"):
            value = int(raw)
            if INT64_MIN <= value <= INT64_MAX:
                return value
    raise Error(f"ERR {message}")


def on_off(raw: bytes) -> bool:
    """ON or OFF; raises Error otherwise."""
    word = raw.lower()
    if word == b"on":
        return True
    if word == b"off":
        return False
    raise syntax_error()


def loose_int(raw: bytes) -> int:
    """The number at the start of a text, zero if there is none (what C's atoi does)."""
    text = raw.strip()
    end = 1 if text[:1] in (b"-", b"+") else 0
    while end < len(text) and 0x30 <= text[end] <= 0x39:
        end += 1
    try:
        return int(text[:end])
    except ValueError:
        return 0


def setting(name: str, default: object = None) -> object:
    """A setting's value; `default` where this server has no such setting."""
    try:
        return config.get_value(name)
    except KeyError:
        return default


def number_setting(name: str, default: int = 0) -> int:
    """A setting as a number."""
    value = setting(name, default)
    return default if value is None else int(value)


def text_setting(name: str, default: str = "") -> str:
    """A setting as text."""
    value = setting(name, default)
    if isinstance(value, bytes):
        return words(value)
    return default if value is None else str(value)


def bytes_setting(name: str) -> bytes:
    """A setting as bytes, empty where it is not set."""
    value = setting(name, b"")
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return bytes(value) if value else b""


def bare_syntax_error(args: list[bytes]) -> Error:
    """The error of a subcommand that does not exist in this form, for commands without rows."""
    head = words(args[0]).upper()
    return Error(
        "ERR unknown subcommand or wrong number of arguments for "
        f"'{words(args[1][:128])}'. Try {head} HELP."
    )


def unknown_subcommand(_client: object, args: list[bytes]) -> object:
    """Handler of a container: its subcommands have rows of their own, so this one is unknown."""
    head = words(args[0]).upper()
    raise Error(f"ERR unknown subcommand '{words(args[1][:128])}'. Try {head} HELP.")


def help_lines(head: str, entries: list[tuple[str, str]]) -> list[str]:
    """The reply of HELP: usage of each subcommand and, indented, what it does."""
    lines = [f"{head.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for usage, text in [*entries, ("HELP", "Shows these lines.")]:
        lines.append(usage)
        lines.extend("    " + line for line in text.split("\n"))
    return lines


def about(since: str, group: str, acl: str, summary: str, complexity: str = "O(1)") -> dict:
    """What COMMAND DOCS and ACL categories say of a row."""
    return {
        "since": since,
        "group": group,
        "complexity": complexity,
        "summary": summary,
        "acl": acl,
    }


def register_container(name: str, since: str, group: str, summary: str) -> None:
    """The row of a command that only has subcommands."""
    register_python(
        name,
        -2,
        "",
        NO_KEYS,
        unknown_subcommand,
        about(since, group, "slow", summary, "That of the subcommand."),
    )


def register_help(
    name: str, since: str, group: str, acl: str, entries: list[tuple[str, str]]
) -> None:
    """The HELP subcommand of a container."""
    lines = help_lines(name, entries)
    register_python(
        f"{name}|help",
        2,
        "loading stale",
        NO_KEYS,
        lambda _client, _args: lines,
        about(since, group, acl, "Lists the subcommands."),
    )
