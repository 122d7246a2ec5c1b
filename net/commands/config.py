"""CONFIG: the settings as clients see them."""

from engine.command import register_python

from engine import hash as hashes
from engine import keyspace
from engine import reply as engine_reply
from engine.commands import keys
from net import bridge, log
from net.commands import memory
from net.commands.common import (
    NO_KEYS,
    about,
    register_container,
    register_help,
    syntax_error,
    words,
)
from net.config import ConfigError, config, text_of
from net.reply import OK, Error

# Called by CONFIG RESETSTAT, after the counters of the workers.
RESETTERS: list = [engine_reply.reset_error_stats, memory.reset_peak, keys.reset_lazyfreed]
if hasattr(keyspace, "reset_stats"):
    RESETTERS.append(keyspace.reset_stats)
RESETTERS.append(hashes.reset_stats)

_FLAGS = "admin noscript loading stale"
_ACL = "admin slow dangerous"


def is_local(client: object) -> bool:
    """Does a client come from this machine? (For settings and commands left to local clients.)"""
    address = client.addr
    by_network = address[:1].isdigit() or address.startswith(b"[")
    return not by_network or address.startswith((b"127.", b"[::1]"))


def get(_client: object, args: list[bytes]) -> object:
    """CONFIG GET pattern [pattern …]"""
    found = config.get([words(arg) for arg in args[2:]])
    return {name.encode("utf-8", "surrogateescape"): value.encode("utf-8", "surrogateescape")
            for name, value in found.items()}


def set_(client: object, args: list[bytes]) -> object:
    """CONFIG SET name value [name value …]"""
    if len(args) % 2:
        raise syntax_error()
    pairs = [(words(args[at]), text_of(args[at + 1])) for at in range(2, len(args), 2)]
    try:
        config.set_many(pairs, is_local(client))
    except ConfigError as error:
        raise Error(str(error)) from None
    return OK


def rewrite(_client: object, _args: list[bytes]) -> object:
    """CONFIG REWRITE"""
    if not config.path:
        raise Error("ERR The server is running without a config file")
    try:
        config.rewrite()
    except OSError as error:
        log.warning(f"CONFIG REWRITE failed: {error.strerror}")
        raise Error(f"ERR Rewriting config file: {error.strerror}") from None
    log.notice("CONFIG REWRITE executed with success.")
    return OK


def reset_stat(_client: object, _args: list[bytes]) -> object:
    """CONFIG RESETSTAT"""
    bridge.reset_stats()
    for reset in RESETTERS:
        reset()
    return OK


register_container("config", "2.0.0", "server", "Reads and changes settings.")
register_python("config|get", -3, _FLAGS, NO_KEYS, get, about(
    "2.0.0", "server", _ACL, "The settings whose names fit a pattern.",
    "O(N) with N settings."))
register_python("config|set", -4, _FLAGS, NO_KEYS, set_, about(
    "2.0.0", "server", _ACL, "Changes settings, all or none.",
    "O(N) with N settings given."))
register_python("config|rewrite", 2, _FLAGS, NO_KEYS, rewrite, about(
    "2.8.0", "server", _ACL, "Writes the settings in force to the file of the start."))
register_python("config|resetstat", 2, _FLAGS, NO_KEYS, reset_stat, about(
    "2.0.0", "server", _ACL, "Sets the counters of INFO to zero."))
register_help("config", "5.0.0", "server", "slow", [
    ("GET <pattern>", "Names and values of the settings that fit."),
    ("SET <directive> <value>", "Gives a setting another value."),
    ("RESETSTAT", "Sets the counters of INFO to zero."),
    ("REWRITE", "Writes the settings to the configuration file."),
])
