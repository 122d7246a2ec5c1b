"""HELLO, AUTH and RESET: what a connection speaks, who it is, and back to the start."""

from _operator import _compare_digest

from engine.command import register_python

from net import version
from net.commands.common import NO_KEYS, about, bytes_setting, integer, setting, words
from net.commands.monitor import watch
from net.reply import Error

DEFAULT_USER = b"default"
BAD_NAME = "ERR Client names cannot contain spaces, newlines or special characters."
WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."
HELLO_WANTS_AUTH = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
    "<proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
    "RESP protocol version at the same time"
)
NO_PASSWORD_SET = (
    "ERR AUTH <password> called without any password configured for the default user. Are you "
    "sure your configuration is correct?"
)

denied = {"auth": 0}       # how many attempts failed, for INFO


def says_redis() -> bool:
    """Does the server give Redis's name and version for its own?"""
    return bool(setting("extended-redis-compatibility", False))


def printable(raw: bytes) -> bool:
    """May a name or a version stand in CLIENT LIST: no space, nothing but ASCII?"""
    return all(0x21 <= byte <= 0x7E for byte in raw)


def authenticate(client: object, user: bytes, password: bytes) -> None:
    """Let a connection in; raises Error if user or password are wrong."""
    wanted = bytes_setting("requirepass")
    if user != DEFAULT_USER or (wanted and not _compare_digest(wanted, password)):
        denied["auth"] += 1
        raise Error(WRONG_PASSWORD)
    client.authenticated = True


def auth(client: object, args: list[bytes]) -> object:
    """AUTH [user] password"""
    if len(args) > 3:
        raise Error("ERR syntax error")
    if len(args) == 3:
        authenticate(client, args[1], args[2])
        return "OK"
    if not bytes_setting("requirepass"):
        raise Error(NO_PASSWORD_SET)
    authenticate(client, DEFAULT_USER, args[1])
    return "OK"


def _hello_options(args: list[bytes]) -> tuple[tuple[bytes, bytes] | None, bytes | None]:
    """(user, password) of AUTH and the name of SETNAME, where they are given."""
    who = name = None
    at = 2
    while at < len(args):
        word = args[at].lower()
        left = len(args) - 1 - at
        if word == b"auth" and left >= 2:
            who = (args[at + 1], args[at + 2])
            at += 3
        elif word == b"setname" and left >= 1:
            name = args[at + 1]
            if not printable(name):
                raise Error(BAD_NAME)
            at += 2
        else:
            raise Error(f"ERR Syntax error in HELLO option '{words(args[at])}'")
    return who, name


def hello(client: object, args: list[bytes]) -> object:
    """HELLO [version [AUTH user password] [SETNAME name]]"""
    protocol = 0
    if len(args) > 1:
        protocol = integer(args[1], "Protocol version is not an integer or out of range")
        if protocol not in (2, 3):
            raise Error("NOPROTO unsupported protocol version")
    who, name = _hello_options(args)
    if who is not None:
        authenticate(client, *who)
    if not client.authenticated:
        raise Error(HELLO_WANTS_AUTH)
    if name is not None:
        client.name = name
    if protocol:
        client.resp = protocol
    compatible = says_redis()
    reply = {
        b"server": b"redis" if compatible else b"valkey",
        b"version": (version.REDIS if compatible else version.VALKEY).encode(),
        b"proto": client.resp,
        b"id": client.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }
    zone = bytes_setting("availability-zone")
    if zone:
        reply[b"availability_zone"] = zone
    return reply


def reset(client: object, _args: list[bytes]) -> object:
    """RESET"""
    watch(client, False)
    client.discard()
    client.db = 0
    client.resp = 2
    client.name = b""
    client.no_touch = False
    client.no_evict = False
    client.import_source = False
    client.reply_mode = "on"
    client.authenticated = not bytes_setting("requirepass")
    return "RESET"


FLAGS = "noscript loading stale fast no_auth allow_busy"
ACL = "fast connection"
register_python(
    "hello", -1, FLAGS, NO_KEYS, hello,
    about("6.0.0", "connection", ACL, "Greets the server and chooses the protocol."),
)
register_python(
    "auth", -2, FLAGS, NO_KEYS, auth,
    about("1.0.0", "connection", ACL, "Shows the server a password.",
          "O(N), N the passwords of the user"),
)
register_python(
    "reset", 1, FLAGS + " immediate", NO_KEYS, reset,
    about("6.2.0", "connection", ACL, "Brings a connection back to its first state."),
)
