"""Settings whose values are more than one word, and checks of the others."""

import os

from net.settings import DEFAULT_BIND, OUTPUT_CLASSES, SPECIAL_DEFAULTS

BIND_MAX = 16
OOM_MAX = 2000
HOST_MAX = 256
IP_MAX = 46
HASH_SEED_MAX = 256
TITLE_WORDS = frozenset(("title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket",
                         "config-file"))
# The letters of notify-keyspace-events, in the order in which they are shown.
EVENT_KINDS = "g$lshzxetd"
EVENT_LETTERS = EVENT_KINDS + "nKEm"
_NAME_BAD = frozenset(";<=>?@[]^{|}~\\\x7f")


class ConfigError(Exception):
    """A value that a setting cannot have."""


def number(text: str) -> int | None:
    """C's reading of a whole text as a number: spaces before it and a sign are fine, "" is zero."""
    body = text.lstrip(" \t\n\v\f\r")
    digits = body[1:] if body[:1] in ("+", "-") else body
    if not body:
        return 0 if not text else None
    if not digits.isascii() or not digits.isdigit():
        return None
    return int(body)


class Special:
    """How a setting is read and written. This one: a list of words."""

    def __init__(self, name: str):
        self.name = name

    def parse(self, words: list[str]) -> object:
        """The value of its words."""
        return tuple(words)

    def format(self, value: object) -> str:
        """As CONFIG GET shows it."""
        return " ".join(str(item) for item in value)

    def lines(self, value: object) -> tuple[list[str], bool]:
        """What stands behind its name in a file; whether that must be there."""
        return [self.format(value) or '""'], value != SPECIAL_DEFAULTS[self.name]


class Folder(Special):
    """dir: the working directory itself."""

    def parse(self, words: list[str]) -> str:
        if len(words) != 1:
            raise ConfigError("wrong number of arguments")
        if not words[0]:
            raise ConfigError("dir can't be empty")
        try:
            os.chdir(words[0])
        except OSError as error:
            raise ConfigError(error.strerror) from None
        return words[0]

    def format(self, value: str) -> str:
        return value

    def lines(self, value: str) -> tuple[list[str], bool]:
        from engine.quoting import quote
        raw = quote(value.encode("utf-8", "surrogateescape"))
        return ([raw.decode("utf-8", "surrogateescape")] if value else []), True


class SavePoints(Special):
    """save: pairs of seconds and changes."""

    def parse(self, words: list[str]) -> tuple[tuple[int, int], ...]:
        if words == [""]:
            return ()
        numbers = [number(word) for word in words]
        if len(words) % 2 or any(
                value is None or value < (1 if at % 2 == 0 else 0)
                for at, value in enumerate(numbers)):
            raise ConfigError("Invalid save parameters")
        return tuple(zip(numbers[::2], numbers[1::2], strict=True))

    def format(self, value: tuple) -> str:
        return " ".join(f"{seconds} {changes}" for seconds, changes in value)

    def lines(self, value: tuple) -> tuple[list[str], bool]:
        return [self.format(value) or '""'], True


class OutputLimits(Special):
    """client-output-buffer-limit: for each class (hard bytes, soft bytes, soft seconds)."""

    def parse(self, words: list[str]) -> dict[str, tuple[int, int, int]]:
        from engine.quoting import parse_memory
        if len(words) % 4:
            raise ConfigError("Wrong number of arguments in buffer limit configuration.")
        limits = {}
        for at in range(0, len(words), 4):
            kind = words[at].lower()
            kind = "replica" if kind == "slave" else kind
            if kind not in OUTPUT_CLASSES:
                raise ConfigError("Invalid client class specified in buffer limit configuration.")
            hard, soft = parse_memory(words[at + 1]), parse_memory(words[at + 2])
            seconds = number(words[at + 3])
            if hard is None or soft is None or seconds is None or seconds < 0:
                raise ConfigError(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.")
            limits[kind] = (hard, soft, seconds)
        return limits

    def merge(self, old: tuple, limits: dict) -> tuple:
        """The old limits with some classes changed."""
        return tuple(limits.get(kind, old[at]) for at, kind in enumerate(OUTPUT_CLASSES))

    def format(self, value: tuple) -> str:
        return " ".join(f"{kind} {hard} {soft} {seconds}" for kind, (hard, soft, seconds)
                        in zip(("normal", "slave", "pubsub"), value, strict=True))

    def lines(self, value: tuple) -> tuple[list[str], bool]:
        from engine.quoting import format_memory
        lines = [f"{kind} {format_memory(hard)} {format_memory(soft)} {seconds}"
                 for kind, (hard, soft, seconds) in zip(OUTPUT_CLASSES, value, strict=True)]
        return lines, value != SPECIAL_DEFAULTS[self.name]


class OomValues(Special):
    """oom-score-adj-values: of a primary, a replica and a saving child."""

    def parse(self, words: list[str]) -> tuple[int, ...]:
        if len(words) != 3:
            raise ConfigError("wrong number of arguments")
        values = tuple(number(word) for word in words)
        if any(value is None or not -OOM_MAX <= value <= OOM_MAX for value in values):
            raise ConfigError(
                "Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
        return values


class EventLetters(Special):
    """notify-keyspace-events: a set of letters in one order."""

    def parse(self, words: list[str]) -> str:
        if len(words) != 1:
            raise ConfigError("wrong number of arguments")
        letters = set(words[0].replace("A", EVENT_KINDS))
        if not letters.issubset(EVENT_LETTERS):
            raise ConfigError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
        if letters.issuperset(EVENT_KINDS):
            shown = "A" + "".join(letter for letter in "KEm" if letter in letters)
            return shown + ("n" if "n" in letters else "")
        return "".join(letter for letter in EVENT_LETTERS if letter in letters)

    def format(self, value: str) -> str:
        # where all kinds are on, the letter n is not shown
        return value.replace("n", "") if value.startswith("A") else value

    def lines(self, value: str) -> tuple[list[str], bool]:
        return [f'"{value}"'], value != ""


class Addresses(Special):
    """bind, rdma-bind."""

    def parse(self, words: list[str]) -> tuple[str, ...]:
        if len(words) > BIND_MAX:
            raise ConfigError("Too many bind addresses specified.")
        return () if words == [""] else tuple(words)

    def lines(self, value: tuple) -> tuple[list[str], bool]:
        if value == (DEFAULT_BIND if self.name == "bind" else ()):
            return [], False
        return [self.format(value) or '""'], True


class Primary(Special):
    """replicaof: None, or host and port."""

    def parse(self, words: list[str]) -> tuple[str, int] | None:
        if len(words) != 2:
            raise ConfigError("wrong number of arguments")
        if [word.lower() for word in words] == ["no", "one"]:
            return None
        port = number(words[1])
        if port is None or not 0 <= port <= 65535:
            raise ConfigError("Invalid primary port")
        return words[0], port

    def format(self, value: tuple | None) -> str:
        return f"{value[0]} {value[1]}" if value else ""

    def lines(self, value: tuple | None) -> tuple[list[str], bool]:
        return ([self.format(value)] if value else []), True


class Percentiles(Special):
    """latency-tracking-info-percentiles."""

    def parse(self, words: list[str]) -> tuple[float, ...]:
        if words == [""]:
            return ()
        values = []
        for word in words:
            try:
                value = float(word) if word == word.strip() and "_" not in word else None
            except ValueError:
                value = None
            if value is None or value != value:
                raise ConfigError("Invalid latency-tracking-info-percentiles parameters")
            if not 0.0 <= value <= 100.0:
                raise ConfigError("latency-tracking-info-percentiles parameters should sit "
                                  "between [0.0,100.0]")
            values.append(value)
        return tuple(values)

    def format(self, value: tuple) -> str:
        return " ".join(f"{item:f}".rstrip("0").rstrip(".") for item in value)

    def lines(self, value: tuple) -> tuple[list[str], bool]:
        return [self.format(value) or '""'], True


SPECIALS: dict[str, Special] = {
    name: kind(name) for name, kind in (
        ("dir", Folder), ("save", SavePoints), ("client-output-buffer-limit", OutputLimits),
        ("oom-score-adj-values", OomValues), ("notify-keyspace-events", EventLetters),
        ("bind", Addresses), ("rdma-bind", Addresses), ("replicaof", Primary),
        ("latency-tracking-info-percentiles", Percentiles))}


def _base_name(name: str, what: str) -> object:
    def check(value: str) -> None:
        if not value:
            raise ConfigError(f"{name} can't be empty")
        if what and ("/" in value or "\\" in value):
            raise ConfigError(f"{name} can't be a path, just a {what}")
    return check


def _plain_name(message: str) -> object:
    def check(value: str) -> None:
        if any(char <= "," or char in _NAME_BAD for char in value):
            raise ConfigError(message)
    return check


def _announced_ip(value: str) -> None:
    if len(value) >= IP_MAX:
        raise ConfigError("cluster-announce-ip is too long")
    _plain_name("cluster-announce-ip contains invalid character")(value)


def _host_name(value: str) -> None:
    if len(value) >= HOST_MAX:
        raise ConfigError(f"Hostnames must be less than {HOST_MAX} characters")
    if any(not (char.isascii() and char.isalnum()) and char not in "-." for char in value):
        raise ConfigError("Hostnames may only contain alphanumeric characters, hyphens or dots")


def _address(family: str, message: str) -> object:
    def check(value: str) -> None:
        import socket
        try:
            if value:
                socket.inet_pton(getattr(socket, family), value)
        except OSError:
            raise ConfigError(message) from None
    return check


def _save_or_not(value: str) -> None:
    words = value.split()
    if "save" in words and "nosave" in words:
        raise ConfigError("shutdown options SAVE and NOSAVE can't be used simultaneously")


def _mptcp(value: bool) -> None:
    if value and not os.path.exists("/proc/sys/net/mptcp/enabled"):
        raise ConfigError("MPTCP is not supported on this platform")


def _no_defrag(value: bool) -> None:
    if value:
        raise ConfigError("Active defragmentation cannot be enabled: this server has none")


def _title(value: str) -> None:
    rest = value
    shown = ""
    while rest:
        before, brace, rest = rest.partition("{")
        shown += before
        if not brace:
            break
        if rest.startswith("{"):
            shown += "{"
            rest = rest[1:]
            continue
        word, end, rest = rest.partition("}")
        if not end or word not in TITLE_WORDS:
            raise ConfigError("template format is invalid or contains unknown variables")
        shown += word
    if not shown.strip(" "):
        raise ConfigError("template format is invalid or contains unknown variables")


def _hash_seed(value: str) -> None:
    if len(value) > HASH_SEED_MAX:
        raise ConfigError(f"hash-seed must be less than or equal to {HASH_SEED_MAX} characters")


def cpu_list(text: str) -> list[int]:
    """The processors of "0-3,8", "0-7:2"; ConfigError where it is no such list."""
    cpus: list[int] = []
    for part in text.split(",") if text else ():
        span, _, step = part.strip().partition(":")
        low, dash, high = span.partition("-")
        try:
            first = int(low)
            last = int(high) if dash else first
            cpus.extend(range(first, last + 1, int(step or "1")))
        except ValueError:
            raise ConfigError(f"'{text}' is no list of processors") from None
    return list(dict.fromkeys(cpus))


CHECKS: dict[str, object] = {
    "activedefrag": _no_defrag,
    "cluster-config-file": _base_name("cluster-config-file", ""),
    "dbfilename": _base_name("dbfilename", "filename"),
    "appendfilename": _base_name("appendfilename", "filename"),
    "appenddirname": _base_name("appenddirname", "dirname"),
    "shutdown-on-sigint": _save_or_not,
    "shutdown-on-sigterm": _save_or_not,
    "cluster-announce-human-nodename":
        _plain_name("Announced human node name contained invalid character"),
    "cluster-announce-ip": _announced_ip,
    "cluster-announce-hostname": _host_name,
    "cluster-announce-client-ipv4": _address("AF_INET", "Invalid IPv4 address"),
    "cluster-announce-client-ipv6": _address("AF_INET6", "Invalid IPv6 address"),
    "mptcp": _mptcp,
    "repl-mptcp": _mptcp,
    "proc-title-template": _title,
    "hash-seed": _hash_seed,
    "server-cpulist": cpu_list,
}
