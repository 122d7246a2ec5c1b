"""The filters of CLIENT LIST and CLIENT KILL."""

from collections.abc import Callable

from engine.shared import find
from net.commands.common import INT64_MIN, integer, number_setting, syntax_error, words
from net.reply import Error

KNOWN_FLAGS = frozenset("OSMPxbtRBdcuAUreTIiEN")
TYPES = {
    b"normal": "normal",
    b"slave": "replica",
    b"replica": "replica",
    b"pubsub": "pubsub",
    b"master": "primary",
    b"primary": "primary",
}
INT32_MAX = (1 << 31) - 1


def _type(raw: bytes, _name: str) -> str:
    kind = find(TYPES, raw.lower())
    if kind is None:
        raise Error(f"ERR Unknown client type '{words(raw)}'")
    return kind


def _user(raw: bytes, _name: str) -> bytes:
    if raw != b"default":
        raise Error(f"ERR No such user '{words(raw)}'")
    return raw


def _flags(raw: bytes, name: str) -> str:
    text = words(raw)
    if not KNOWN_FLAGS.issuperset(text):
        where = "provided" if name == "FLAGS" else "NOT-FLAGS"
        raise Error(f"ERR Unknown flags found in the {where} filter: {text}")
    return text


def _capa(raw: bytes, name: str) -> str:
    text = words(raw)
    if set(text) - {"r"}:
        where = "provided" if name == "CAPA" else "NOT-CAPA"
        raise Error(f"ERR Unknown capa found in the {where} filter: {text}")
    return text


def _db(raw: bytes, name: str) -> int:
    message = f"{name} is not an integer or out of range"
    number = integer(raw, message)
    if not -INT32_MAX - 1 <= number <= INT32_MAX:
        raise Error(f"ERR {message}")
    last = number_setting("databases", 16) - 1
    if not 0 <= number <= last:
        raise Error(f"ERR {name} number should be between 0 and {last}")
    return number


def _seconds(raw: bytes, name: str) -> int:
    name = name.lower()
    number = integer(raw, f"{name} is not an integer or out of range")
    if number <= 0:
        raise Error(f"ERR {name} should be greater than 0")
    return number


def _yes_no(raw: bytes, _name: str) -> bool:
    word = raw.lower()
    if word not in (b"yes", b"no"):
        raise syntax_error()
    return word == b"yes"


def _text(raw: bytes, _name: str) -> bytes:
    return raw


# those that have a NOT- form, and those that do not
READERS: dict[bytes, Callable[[bytes, str], object]] = {
    b"type": _type,
    b"addr": _text,
    b"laddr": _text,
    b"user": _user,
    b"flags": _flags,
    b"name": _text,
    b"lib-name": _text,
    b"lib-ver": _text,
    b"db": _db,
    b"capa": _capa,
    b"ip": _text,
}
PLAIN_READERS: dict[bytes, Callable[[bytes, str], object]] = {
    b"skipme": _yes_no,
    b"maxage": _seconds,
    b"idle": _seconds,
}


def _ids(args: list[bytes], at: int, found: set[int]) -> int:
    """Read the numbers from `at` on; returns the place of what follows them."""
    while at < len(args):
        try:
            number = integer(args[at])
        except Error:
            break
        if number < 1:
            raise Error("ERR client-id should be greater than 0")
        found.add(number)
        at += 1
    return at


def parse(args: list[bytes]) -> dict[bytes, object]:
    """The filters by name, the later of two of a kind; raises Error."""
    wanted: dict[bytes, object] = {}
    at = 0
    while at < len(args):
        word = args[at].lower()
        if word in (b"id", b"not-id"):
            at = _ids(args, at + 1, wanted.setdefault(word, set()))
            continue
        reader = find(READERS, word.removeprefix(b"not-")) or find(PLAIN_READERS, word)
        if reader is None or at + 1 == len(args):
            raise syntax_error()
        wanted[word] = reader(args[at + 1], words(word).upper())
        at += 2
    return wanted


def client_type(row: dict) -> str:
    """The type of a connection: monitors are normal clients."""
    flags = row["flags"]
    if "S" in flags:
        return "replica"
    if "M" in flags:
        return "primary"
    return "pubsub" if "P" in flags else "normal"


def _has_flags(row: dict, flags: str) -> bool:
    own = row["flags"].replace("O", "OS")
    return all(flag in own for flag in flags)


def _from_ip(row: dict, ip: bytes) -> bool:
    host, _, port = row["addr"].rpartition(b":")
    return host.strip(b"[]") == ip and not port.startswith(b"0")


TESTS: dict[bytes, Callable[[dict, object], bool]] = {
    b"id": lambda row, value: row["id"] in value,
    b"type": lambda row, value: client_type(row) == value,
    b"addr": lambda row, value: row["addr"] == value,
    b"laddr": lambda row, value: row["laddr"] == value,
    b"user": lambda row, value: row.get("user", b"default") == value,
    b"flags": _has_flags,
    b"name": lambda row, value: bool(row["name"]) and row["name"] == value,
    b"lib-name": lambda row, value: bool(row["lib_name"]) and row["lib_name"] == value,
    b"lib-ver": lambda row, value: bool(row["lib_ver"]) and row["lib_ver"] == value,
    b"db": lambda row, value: row["db"] == value,
    b"capa": lambda row, value: all(letter in row["capa"] for letter in value),
    b"ip": _from_ip,
    b"maxage": lambda row, value: row["age_us"] // 1_000_000 >= value,
    b"idle": lambda row, value: row["idle_us"] // 1_000_000 >= value,
}


def matches(wanted: dict[bytes, object], row: dict, own_id: int = INT64_MIN) -> bool:
    """Does a connection pass all filters? own_id: whom SKIPME skips."""
    for name, value in wanted.items():
        if name == b"skipme":
            if value and row["id"] == own_id:
                return False
        elif name in TESTS:
            if not TESTS[name](row, value):
                return False
        elif TESTS[name[4:]](row, value):
            return False
    return True
