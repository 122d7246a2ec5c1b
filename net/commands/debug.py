"""DEBUG: for tests and for a look inside."""

import time
from collections.abc import Callable

from engine.command import register_python

from engine import conf, digest, inspect
from engine import quicklist as lists
from engine.commands import dump
from engine.quoting import parse_memory
from engine.shared import find
from net import aofload, cron, log, saving
from net.commands import faults
from net.commands.common import (
    NO_KEYS,
    about,
    bare_syntax_error,
    help_lines,
    integer,
    loose_int,
    number_setting,
    text_setting,
    words,
)
from net.config import config
from net.reply import Error, Raw, Verbatim
from persist import aof

NOT_ALLOWED = (
    'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you '
    "can run it from a local connection, otherwise you need to set this option in the "
    "configuration file, and then restart the server."
)
NO_SUCH_KEY = "ERR no such key"
PACKED_THRESHOLD_MAX = (1 << 32) - (1 << 20)
POSITIVE = "value is out of range, must be positive"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# ---- digests


def dataset_digest(_client: object, _args: list[bytes]) -> object:
    """DEBUG DIGEST"""
    return digest.dataset().hex()


def digest_value(client: object, args: list[bytes]) -> object:
    """DEBUG DIGEST-VALUE [key ...]"""
    return [digest.of_key(client.db, key).hex() for key in args[2:]]


# ---- keys


def _describe(client: object, key: bytes, fast: bool = True) -> dict:
    found = inspect.describe(client.db, key, _now_ms(), fast)
    if found is None:
        raise Error(NO_SUCH_KEY)
    return found


def show_object(client: object, args: list[bytes]) -> object:
    """DEBUG OBJECT key [FAST]"""
    fast = len(args) == 4 and args[3].lower() == b"fast"
    found = _describe(client, args[2], fast)
    text = f"Value at:{found['address']:#x} refcount:1 encoding:{found['encoding']}"
    if not fast:
        text += f" serializedlength:{found['rdb_bytes']}"
    if found["lfu"]:
        text += f" lfu_freq:{found['idle']} lfu_access_time_minutes:{found['lru'] >> 8}"
    else:
        text += f" lru:{found['lru']} lru_seconds_idle:{found['idle']}"
    if "nodes" in found:
        text += (
            f" ql_nodes:{found['nodes']} ql_avg_node:{found['elements'] / found['nodes']:.2f}"
            f" ql_listpack_max:{conf.get('list_max_listpack_size')}"
            f" ql_compressed:{int(conf.get('list_compress_depth') != 0)}"
        )
        if not fast:
            text += f" ql_uncompressed_size:{found['node_bytes']}"
    return text


def listpack(client: object, args: list[bytes]) -> object:
    """DEBUG LISTPACK key; the structure itself is not shown"""
    if _describe(client, args[2])["encoding"] != "listpack":
        raise Error("ERR Not a listpack encoded object.")
    return "Listpack structure printed on stdout"


def quicklist(client: object, args: list[bytes]) -> object:
    """DEBUG QUICKLIST key [0|1]; the structure itself is not shown"""
    if _describe(client, args[2])["encoding"] != "quicklist":
        raise Error("ERR Not a quicklist encoded object.")
    return "Quicklist structure printed on stdout"


def quicklist_packed_threshold(_client: object, args: list[bytes]) -> object:
    """DEBUG QUICKLIST-PACKED-THRESHOLD size"""
    size = parse_memory(words(args[2]))
    if size is None or size > PACKED_THRESHOLD_MAX:
        raise Error("ERR argument must be a memory value bigger than 1 and smaller than 4gb")
    lists.set_packed_threshold(size)
    return "OK"


def sdslen(client: object, args: list[bytes]) -> object:
    """DEBUG SDSLEN key"""
    found = _describe(client, args[2])
    if found["type"] != "string" or found["encoding"] == "int":
        raise Error("ERR Not an sds encoded string.")
    spare = max(0, found["usable"] - 8 - found["key_len"] - found["value_len"])
    return (
        f"key_sds_len:{found['key_len']} key_sds_avail:0 obj_alloc:{found['usable']} "
        f"val_sds_len:{found['value_len']} val_sds_avail:{spare} val_alloc:0"
    )


def populate(client: object, args: list[bytes]) -> object:
    """DEBUG POPULATE count [prefix [size]]"""
    count = integer(args[2], POSITIVE)
    size = integer(args[4], POSITIVE) if len(args) == 5 else 0
    if count < 0 or size < 0:
        raise Error(f"ERR {POSITIVE}")
    prefix = args[3] if len(args) > 3 else b"key"
    inspect.populate(client.db, count, prefix, size, _now_ms())
    return "OK"


# ---- tables


def _table_text(found: dict, full: bool) -> str:
    """A database's tables, all slots together."""
    lines = [
        "Hash table 0 stats (main hash table):",
        f" table size: {found['buckets'] * 7}",
        f" number of entries: {found['keys']}",
        " rehashing index: -1",
    ]
    if full:
        chains = found["chains"]
        longest = max((at for at, count in enumerate(chains) if count), default=0)
        total = max(1, sum(chains))
        mean = sum(at * count for at, count in enumerate(chains)) / total
        lines += [
            f" top-level buckets: {found['buckets']}",
            f" child buckets: {found['chained']}",
            f" max chain length: {longest}",
            f" avg chain length: {mean:f}",
            " chain length distribution:",
        ]
        lines += [
            f"   {at}: {count} ({100 * count / total:.2f}%)"
            for at, count in enumerate(chains)
            if count
        ]
    return "\n".join(lines) + "\n"


def htstats(_client: object, args: list[bytes]) -> object:
    """DEBUG HTSTATS database [FULL]"""
    db = integer(args[2])
    if not 0 <= db < number_setting("databases", 16):
        raise Error("ERR Out of range database")
    full = len(args) > 3 and args[3].lower() == b"full"
    found = inspect.figures(db, full)
    text = "[Dictionary HT]\n"
    if found["keys"]:
        text += _table_text(found, full)
    text += "[Expires HT]\n"
    if found["expires"]:
        text += f"number of entries: {found['expires']} (they are marked in the keys' own table)\n"
    return Verbatim(text.encode(), "txt")


def htstats_key(client: object, args: list[bytes]) -> object:
    """DEBUG HTSTATS-KEY key [FULL]"""
    try:
        found = inspect.members_figures(client.db, args[2])
    except KeyError:
        raise Error(NO_SUCH_KEY) from None
    if found is None:
        raise Error(
            "ERR The value stored at the specified key is not represented using an hash table"
        )
    names = ("keys", "buckets", "chained", "chains")
    full = len(args) > 3 and args[3].lower() == b"full"
    text = _table_text(dict(zip(names, found, strict=True)), full)
    return Verbatim(text.encode(), "txt")


# ---- replies


def protocol(client: object, args: list[bytes]) -> object:
    """DEBUG PROTOCOL type"""
    known: dict[bytes, object] = {
        b"string": b"Hello World",
        b"integer": 12345,
        b"double": 3.141,
        b"bignum": 1234567999999999999999999999999999999,
        b"null": None,
        b"array": [0, 1, 2],
        b"set": {0, 1, 2},
        b"map": {0: False, 1: True, 2: False},
        b"verbatim": Verbatim(b"This is a verbatim\nstring", "txt"),
        b"true": True,
        b"false": False,
    }
    name = args[2].lower()
    if name in known:
        return known[name]
    if name == b"attrib":
        head = b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n"
        tail = b"$39\r\nSome real reply following the attribute\r\n"
        return Raw(head + tail if client.resp >= 3 else tail)
    if name == b"push":
        if client.resp < 3:
            raise Error("ERR RESP2 is not supported by this command")
        return Raw(
            b"$40\r\nSome real reply following the push reply\r\n"
            b">2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n"
        )
    raise Error(
        "ERR Wrong protocol type name. Please use one of the following: string|integer|double|"
        "bignum|null|array|set|map|attrib|push|verbatim|true|false"
    )


def error(_client: object, args: list[bytes]) -> object:
    """DEBUG ERROR text"""
    return Raw(b"-" + args[2].replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n")


# ---- the server


def sleep(_client: object, args: list[bytes]) -> object:
    """DEBUG SLEEP seconds: no key can be reached meanwhile, by nobody"""
    try:
        seconds = float(args[2])
    except ValueError:
        seconds = 0.0
    if 0 < seconds < 1e9:
        inspect.stand_still(seconds)
    return "OK"


def set_active_expire(_client: object, args: list[bytes]) -> object:
    """DEBUG SET-ACTIVE-EXPIRE 0|1"""
    conf.set("active_expire", loose_int(args[2]))
    return "OK"


def write_log(_client: object, args: list[bytes]) -> object:
    """DEBUG LOG text"""
    log.warning("DEBUG LOG: " + words(args[2]))
    return "OK"


def structsize(_client: object, _args: list[bytes]) -> object:
    """DEBUG STRUCTSIZE"""
    return b"bits:64 entry:8 bucket:64 table:64 span:64 "


def replybuffer(_client: object, args: list[bytes]) -> object:
    """DEBUG REPLYBUFFER PEAK-RESET-TIME|RESIZING value; there is nothing to tune here"""
    what = args[2].lower()
    if what == b"peak-reset-time":
        if args[3].lower() not in (b"never", b"reset"):
            integer(args[3])
    elif what != b"resizing":
        raise bare_syntax_error(args)
    return "OK"


def pause_cron(_client: object, args: list[bytes]) -> object:
    """DEBUG PAUSE-CRON 0|1"""
    cron.paused = bool(loose_int(args[2]))
    return "OK"


def config_rewrite_force_all(_client: object, _args: list[bytes]) -> object:
    """DEBUG CONFIG-REWRITE-FORCE-ALL: every setting goes to the file, those with their default too"""
    try:
        config.rewrite(force_all=True)
    except OSError as failure:
        raise Error(f"ERR CONFIG-REWRITE-FORCE-ALL failed: {failure.strerror}") from None
    return "OK"


def set_skip_checksum_validation(_client: object, args: list[bytes]) -> object:
    """DEBUG SET-SKIP-CHECKSUM-VALIDATION 0|1"""
    dump.set_any_checksum(bool(loose_int(args[2])))
    return "OK"


RELOAD_WORDS = {b"merge", b"noflush", b"nosave"}


def reload(_client: object, args: list[bytes]) -> object:
    """DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]"""
    wanted = {word.lower() for word in args[2:]}
    if not wanted <= RELOAD_WORDS:
        raise Error("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
    try:
        if not saving.reload(b"noflush" not in wanted, b"nosave" not in wanted, b"merge" in wanted):
            raise Error("ERR")
    except saving.LoadFailed:
        raise Error("ERR Error trying to load the RDB dump, check server logs.") from None
    return "OK"


def aof_flush_sleep(_client: object, args: list[bytes]) -> object:
    """DEBUG AOF-FLUSH-SLEEP microseconds"""
    aof.set_sleep(max(loose_int(args[2]), 0))
    return "OK"


def load_aof(_client: object, _args: list[bytes]) -> object:
    """DEBUG LOADAOF"""
    aofload.load_held()
    log.notice("Append Only File loaded by DEBUG LOADAOF")
    return "OK"


def accepted(_client: object, _args: list[bytes]) -> object:
    """A switch of Valkey's insides that has no counterpart here."""
    return "OK"


HELP = [
    ("AOF-FLUSH-SLEEP <microseconds>", "Sleeps so long before each write to the append-only file."),
    ("CLIENT-ENFORCE-REPLY-LIST <0|1>", "Accepted, without effect."),
    ("DICT-RESIZING <0|1>", "Accepted, without effect."),
    ("DIGEST", "Replies a digest of all the data."),
    ("DIGEST-VALUE [<key> ...]", "Replies digests of the keys' values."),
    ("ERROR <text>", "Replies an error with that text."),
    ("HTSTATS <database> [FULL]", "Describes a database's tables."),
    ("HTSTATS-KEY <key> [FULL]", "Describes the hash table of a key's value."),
    ("LISTPACK <key>", "Says whether the key's value is a listpack."),
    ("LOADAOF", "Empties the data set and loads the append-only files."),
    ("LOG <text>", "Writes the text to the log."),
    ("OBJECT <key> [FAST]", "Shows the insides of a key."),
    ("ASSERT", "Ends the server with a failed assertion."),
    ("CONFIG-REWRITE-FORCE-ALL", "Rewrites the configuration file with all settings."),
    ("PANIC", "Ends the server with a panic."),
    ("PAUSE-CRON <0|1>", "Stops or starts the periodic work."),
    ("POPULATE <count> [<prefix> [<size>]]", "Makes that many string keys: <prefix>:<number>."),
    ("PROTOCOL <type>", "Replies a sample of a type: string, integer, double, bignum, null,\n"
     "array, set, map, attrib, push, verbatim, true, false."),
    ("QUICKLIST <key> [<0|1>]", "Says whether the key's value is a quicklist."),
    ("QUICKLIST-PACKED-THRESHOLD <size>",
     "Elements of so many bytes get a node of their own; 0: the usual rule."),
    ("RELOAD [MERGE] [NOFLUSH] [NOSAVE]", "Saves the data, forgets it and loads it back."),
    ("REPLYBUFFER (PEAK-RESET-TIME|RESIZING) <value>", "Accepted, without effect."),
    ("SDSLEN <key>", "Shows the sizes of a string key."),
    ("SEGFAULT", "Crashes the server."),
    ("SET-ACTIVE-EXPIRE <0|1>", "Stops or starts the expiry of keys that nobody reads."),
    ("SET-SKIP-CHECKSUM-VALIDATION <0|1>", "RESTORE does not look at payloads' checksums."),
    ("SLEEP <seconds>", "Sleeps in the worker that serves this connection."),
    ("STRUCTSIZE", "Replies sizes of structures."),
]
HELP_LINES = help_lines("debug", HELP)


def show_help(_client: object, _args: list[bytes]) -> object:
    """DEBUG HELP"""
    return HELP_LINES


# subcommand: fewest and most words, handler
HANDLERS: dict[bytes, tuple[int, int, Callable[[object, list[bytes]], object]]] = {
    b"help": (2, 2, show_help),
    b"sleep": (3, 3, sleep),
    b"set-active-expire": (3, 3, set_active_expire),
    b"log": (3, 3, write_log),
    b"object": (3, 4, show_object),
    b"populate": (3, 5, populate),
    b"digest": (2, 2, dataset_digest),
    b"digest-value": (2, 1 << 30, digest_value),
    b"htstats": (3, 1 << 30, htstats),
    b"htstats-key": (3, 1 << 30, htstats_key),
    b"listpack": (3, 3, listpack),
    b"quicklist": (3, 4, quicklist),
    b"quicklist-packed-threshold": (3, 3, quicklist_packed_threshold),
    b"reload": (2, 1 << 30, reload),
    b"aof-flush-sleep": (3, 3, aof_flush_sleep),
    b"loadaof": (2, 2, load_aof),
    b"structsize": (2, 2, structsize),
    b"sdslen": (3, 3, sdslen),
    b"protocol": (3, 3, protocol),
    b"error": (3, 3, error),
    b"replybuffer": (4, 4, replybuffer),
    b"pause-cron": (3, 3, pause_cron),
    b"config-rewrite-force-all": (2, 2, config_rewrite_force_all),
    b"set-skip-checksum-validation": (3, 3, set_skip_checksum_validation),
    b"segfault": (2, 2, faults.segfault),
    b"assert": (2, 2, faults.fail_assertion),
    b"panic": (2, 2, faults.panic),
    b"dict-resizing": (3, 3, accepted),
    b"hashtable-can-abort-shrink": (3, 3, accepted),
    b"client-enforce-reply-list": (3, 3, accepted),
}


def is_local(addr: bytes) -> bool:
    """Is this the address of a client on the same machine?"""
    return addr.startswith((b"127.", b"[::1]", b"::1", b"/"))


def debug(client: object, args: list[bytes]) -> object:
    """DEBUG subcommand ..."""
    allowed = text_setting("enable-debug-command", "no")
    if allowed == "no" or (allowed == "local" and not is_local(client.addr)):
        raise Error(NOT_ALLOWED)
    fewest, most, handler = find(HANDLERS, args[1].lower(), (0, 0, None))
    if handler is None or not fewest <= len(args) <= most:
        raise bare_syntax_error(args)
    return handler(client, args)


register_python(
    "debug", -2, "admin noscript loading stale", NO_KEYS, debug,
    {
        **about("1.0.0", "server", "admin slow dangerous", "Holds the commands for tests.",
                "That of the subcommand."),
        "doc_flags": "syscmd",
    },
)
