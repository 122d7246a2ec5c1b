"""CLIENT: connections, listed, named, tuned, paused and closed."""

import sys
import time

from engine.command import register_python

from engine.shared import find
from net import bridge, cron
from net.commands import clientfilter
from net.commands.common import (
    INT64_MAX,
    NO_KEYS,
    about,
    integer,
    on_off,
    register_container,
    register_help,
    setting,
    syntax_error,
    words,
)
from net.commands.hello import BAD_NAME, printable
from net.reply import NO_REPLY, Error, Verbatim

PAUSE_NONE, PAUSE_WRITES, PAUSE_ALL = 0, 1, 2

cron.CRON.append(bridge.pause_tick)

# what CLIENT PAUSE asked for last, for INFO and for a second PAUSE
pause_state = {"mode": PAUSE_NONE, "until_ms": 0}
# ids of the connections that can be redirected; those gone are dropped when there are many
redirectable: set[int] = set()
REDIRECTABLE_MAX = 10000


def snapshot() -> list[dict]:
    """All connections, with what the bridge does not know of them."""
    rows = bridge.clients()
    importing = find(sys.modules, "net.cluster.importing")
    if importing is not None and importing.links:
        for row in rows:
            if row["id"] in importing.links:
                row["flags"] = row["flags"].replace("N", "") + "i"
    if redirectable:
        for row in rows:
            if row["id"] in redirectable:
                row["capa"] = "r"
        if len(redirectable) > REDIRECTABLE_MAX:
            redirectable.intersection_update([row["id"] for row in rows])
    return rows


def client_line(row: dict) -> bytes:
    """A connection as CLIENT LIST shows it."""
    return (
        b"id=%d addr=%b laddr=%b fd=%d name=%b age=%d idle=%d flags=%b capa=%b db=%d sub=%d psub=%d "
        b"ssub=%d multi=%d watch=%d qbuf=%d qbuf-free=%d argv-mem=%d multi-mem=%d rbs=%d rbp=%d "
        b"obl=%d oll=%d omem=%d tot-mem=%d events=%b cmd=%b user=%b redir=%d resp=%d lib-name=%b "
        b"lib-ver=%b tot-net-in=%d tot-net-out=%d tot-cmds=%d\n"
    ) % (
        row["id"], row["addr"], row["laddr"], row["fd"], row["name"],
        max(0, row["age_us"]) // 1_000_000, max(0, row["idle_us"]) // 1_000_000,
        row["flags"].encode(), row["capa"].encode(), row["db"],
        row.get("sub", 0), row.get("psub", 0), row.get("ssub", 0),
        row.get("multi", -1), row.get("watch", 0),
        row["qbuf"], row["qbuf_free"], row["argv_mem"], row.get("multi_mem", 0),
        row["rbs"], row["rbp"], row["obl"], row["oll"], row["omem"], row["tot_mem"],
        row.get("events", "r").encode(), row["cmd"] or b"NULL", row.get("user", b"default"),
        row.get("redir", -1), row["resp"], row["lib_name"], row["lib_ver"],
        row["tot_net_in"], row["tot_net_out"], row["tot_cmds"],
    )  # fmt: skip


def client_id(client: object, _args: list[bytes]) -> object:
    """CLIENT ID"""
    return client.id


def client_info(client: object, _args: list[bytes]) -> object:
    """CLIENT INFO"""
    own = [row for row in snapshot() if row["id"] == client.id]
    return Verbatim(b"".join(map(client_line, own)), "txt")


def client_list(client: object, args: list[bytes]) -> object:
    """CLIENT LIST [filter value ...]"""
    if len(args) == 3:
        raise syntax_error()
    rows = snapshot()
    if len(args) > 3:
        wanted = clientfilter.parse(args[2:])
        rows = [row for row in rows if clientfilter.matches(wanted, row, client.id)]
    return Verbatim(b"".join(map(client_line, rows)), "txt")


def client_kill(client: object, args: list[bytes]) -> object:
    """CLIENT KILL ip:port, or CLIENT KILL filter value [filter value ...]"""
    if len(args) == 3:
        wanted = {b"addr": args[2]}
    else:
        wanted = {b"skipme": True, **clientfilter.parse(args[2:])}
    killed = 0
    for row in snapshot():
        if not clientfilter.matches(wanted, row, client.id):
            continue
        if row["id"] == client.id:
            client.kill(True)
            killed += 1
        elif bridge.kill_client(row["id"]):
            killed += 1
    if len(args) > 3:
        return killed
    if not killed:
        raise Error("ERR No such client")
    return "OK"


def client_setname(client: object, args: list[bytes]) -> object:
    """CLIENT SETNAME name"""
    if not printable(args[2]):
        raise Error(BAD_NAME)
    client.name = args[2]
    return "OK"


def client_getname(client: object, _args: list[bytes]) -> object:
    """CLIENT GETNAME"""
    return client.name or None


def client_setinfo(client: object, args: list[bytes]) -> object:
    """CLIENT SETINFO LIB-NAME|LIB-VER value"""
    what = args[2].lower()
    if what not in (b"lib-name", b"lib-ver"):
        raise Error(f"ERR Unrecognized option '{words(args[2])}'")
    if not printable(args[3]):
        raise Error(
            f"ERR {words(args[2])} cannot contain spaces, newlines or special characters."
        )
    if what == b"lib-name":
        client.lib_name = args[3]
    else:
        client.lib_ver = args[3]
    return "OK"


def client_reply(client: object, args: list[bytes]) -> object:
    """CLIENT REPLY ON|OFF|SKIP"""
    mode = args[2].lower()
    if mode == b"on":
        client.reply_mode = "on"
        return "OK"
    if mode == b"off":
        client.reply_mode = "off"
    elif mode == b"skip":
        if client.reply_mode != "off":
            client.reply_mode = "skip"
    else:
        raise syntax_error()
    return NO_REPLY


def client_no_evict(client: object, args: list[bytes]) -> object:
    """CLIENT NO-EVICT ON|OFF"""
    client.no_evict = on_off(args[2])
    return "OK"


def client_no_touch(client: object, args: list[bytes]) -> object:
    """CLIENT NO-TOUCH ON|OFF"""
    client.no_touch = on_off(args[2])
    return "OK"


def client_pause(_client: object, args: list[bytes]) -> object:
    """CLIENT PAUSE milliseconds [WRITE|ALL]"""
    mode = PAUSE_ALL
    if len(args) == 4:
        word = args[3].lower()
        if word == b"write":
            mode = PAUSE_WRITES
        elif word != b"all":
            raise Error("ERR CLIENT PAUSE mode must be WRITE or ALL")
    left_ms = integer(args[2], "timeout is not an integer or out of range")
    if left_ms < 0:
        raise Error("ERR timeout is negative")
    now_ms = time.time_ns() // 1_000_000
    if left_ms > INT64_MAX - now_ms:
        raise Error("ERR timeout is out of range")
    until_ms = now_ms + left_ms if left_ms else 0
    if pause_state["until_ms"] > now_ms:       # a pause under way is never made weaker
        mode = max(mode, pause_state["mode"])
        until_ms = max(until_ms, pause_state["until_ms"])
    if until_ms > now_ms:
        pause_state.update(mode=mode, until_ms=until_ms)
        bridge.pause(mode, until_ms)
    return "OK"


def client_unpause(_client: object, _args: list[bytes]) -> object:
    """CLIENT UNPAUSE"""
    pause_state.update(mode=PAUSE_NONE, until_ms=0)
    bridge.pause(PAUSE_NONE, 0)
    return "OK"


def client_unblock(_client: object, args: list[bytes]) -> object:
    """CLIENT UNBLOCK id [TIMEOUT|ERROR]"""
    reason = args[3].lower() if len(args) == 4 else b"timeout"
    if reason not in (b"timeout", b"error"):
        raise Error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    return int(bridge.unblock(max(integer(args[2]), 0), reason == b"error"))


def client_capa(client: object, args: list[bytes]) -> object:
    """CLIENT CAPA capability ...; those that are not known are let pass."""
    if any(word.lower() == b"redirect" for word in args[2:]):
        redirectable.add(client.id)
    return "OK"


def client_import_source(client: object, args: list[bytes]) -> object:
    """CLIENT IMPORT-SOURCE ON|OFF"""
    word = args[2].lower()
    if not setting("import-mode", False) and word != b"off":
        raise Error("ERR Server is not in import mode")
    client.import_source = on_off(args[2])
    return "OK"


LIST_FILTERS = (
    "Filters: ID <id> ..., TYPE (NORMAL|PRIMARY|REPLICA|PUBSUB), USER <name>,\n"
    "ADDR <ip:port>, LADDR <ip:port>, IP <ip>, SKIPME (YES|NO), MAXAGE <seconds>,\n"
    "IDLE <seconds>, FLAGS <flags>, NAME <name>, LIB-NAME <name>, LIB-VER <version>,\n"
    "DB <number>, CAPA <capabilities>; each but SKIPME, MAXAGE and IDLE with NOT- too."
)
HELP = [
    ("CACHING (YES|NO)", "Lets the keys that the next command reads be tracked, or not."),
    ("CAPA <capability> ...", "Tells what the client is capable of: REDIRECT."),
    ("GETNAME", "Replies the connection's name."),
    ("GETREDIR", "Replies which client gets this one's invalidations."),
    ("ID", "Replies the connection's number."),
    ("IMPORT-SOURCE (ON|OFF)", "Marks the connection as a source of data in import mode."),
    ("INFO", "Describes this connection."),
    ("KILL <ip:port>", "Closes the connection from there."),
    ("KILL <filter> <value> ...", "Closes the connections that pass; see LIST."),
    ("LIST [<filter> <value> ...]", "Describes the connections that pass.\n" + LIST_FILTERS),
    ("NO-EVICT (ON|OFF)", "Keeps the connection when clients are evicted."),
    ("NO-TOUCH (ON|OFF)", "Reads without changing when a key was last used."),
    ("PAUSE <milliseconds> [WRITE|ALL]", "Holds back writes, or all commands, for a while."),
    ("REPLY (ON|OFF|SKIP)", "Says whether this connection wants replies."),
    ("SETINFO (LIB-NAME|LIB-VER) <value>", "Tells the client library's name or version."),
    ("SETNAME <name>", "Names the connection."),
    ("TRACKING (ON|OFF) [<option> ...]", "Tells this connection when keys that it has read change.\n"
     "Options: REDIRECT <id>, BCAST, PREFIX <prefix> (may be repeated), OPTIN, OPTOUT, NOLOOP."),
    ("TRACKINGINFO", "Describes the connection's tracking of keys."),
    ("UNBLOCK <id> [TIMEOUT|ERROR]", "Ends the wait of a client that is blocked."),
    ("UNPAUSE", "Ends a PAUSE."),
]

FREE = "noscript loading stale"
BUSY = "noscript loading stale allow_busy"
ADMIN = "admin noscript loading stale"
ACL_FREE = "slow connection"
ACL_ADMIN = "admin slow dangerous connection"
O_CLIENTS = "O(N), N the number of connections"

# subcommand: arity, flags, since, handler, summary, complexity
ROWS: tuple[tuple[str, int, str, str, object, str, str], ...] = (
    ("capa", -3, BUSY, "8.0.0", client_capa, "Tells what the client can do.", "O(1)"),
    ("getname", 2, BUSY, "2.6.9", client_getname, "Replies the connection's name.", "O(1)"),
    ("id", 2, BUSY, "5.0.0", client_id, "Replies the connection's number.", "O(1)"),
    ("import-source", 3, FREE, "8.1.0", client_import_source,
     "Marks the connection as a source of an import.", "O(1)"),
    ("info", 2, FREE, "6.2.0", client_info, "Describes this connection.", "O(1)"),
    ("kill", -3, ADMIN, "2.4.0", client_kill, "Closes connections.", O_CLIENTS),
    ("list", -2, ADMIN, "2.4.0", client_list, "Describes the connections.", O_CLIENTS),
    ("no-evict", 3, ADMIN + " allow_busy", "7.0.0", client_no_evict,
     "Keeps the connection from being evicted.", "O(1)"),
    ("no-touch", 3, BUSY, "7.2.0", client_no_touch,
     "Reads without touching the keys' age.", "O(1)"),
    ("pause", -3, ADMIN, "3.0.0", client_pause, "Holds back commands for a while.", "O(1)"),
    ("reply", 3, BUSY + " no_multi", "3.2.0", client_reply,
     "Chooses whether there are replies.", "O(1)"),
    ("setinfo", 4, BUSY, "7.2.0", client_setinfo, "Tells about the client library.", "O(1)"),
    ("setname", 3, BUSY, "2.6.9", client_setname, "Names the connection.", "O(1)"),
    ("unblock", -3, ADMIN, "5.0.0", client_unblock, "Ends the wait of a blocked client.",
     "O(log N), N the number of connections"),
    ("unpause", 2, ADMIN, "6.2.0", client_unpause, "Ends a pause.",
     "O(N), N the connections held back"),
)

register_container("client", "2.4.0", "connection", "Holds the commands about connections.")
for _name, _arity, _flags, _since, _handler, _summary, _cost in ROWS:
    register_python(
        f"client|{_name}", _arity, _flags, NO_KEYS, _handler,
        about(_since, "connection", ACL_ADMIN if "admin" in _flags else ACL_FREE, _summary, _cost),
    )
register_help("client", "5.0.0", "connection", ACL_FREE, HELP)
