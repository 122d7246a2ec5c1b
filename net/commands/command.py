"""COMMAND: what the server can do, from the rows of the command table."""

from threading import Lock

from engine.command import register_python

from engine import command

# the orders in which Valkey lists them
from engine.shared import find
from net.commands import keyspecs
from net.commands.common import (
    NO_KEYS,
    about,
    register_help,
    syntax_error,
    unknown_subcommand,
    words,
)
from net.reply import Error, Raw, encode

FLAGS = [
    "write", "readonly", "denyoom", "module", "admin", "pubsub", "noscript", "blocking", "loading",
    "stale", "skip_monitor", "skip_commandlog", "asking", "fast", "no_auth", "no_mandatory_keys",
    "no_async_loading", "no_multi", "movablekeys", "allow_busy",
]  # fmt: skip
CATEGORIES = [
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap",
    "hyperloglog", "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous",
    "connection", "transaction", "scripting",
]  # fmt: skip
NO_MANDATORY_KEYS = frozenset(("eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"))

INFO, DOCS = range(2)
ALL = ""

# What has been encoded of a command, or of ALL. Each step of a walk over a dict takes its lock: workers that walk
# at once wait for each other, for seconds where the machine is busy.
_cache: dict[tuple[int, str, int], Raw] = {}
_making = Lock()             # of ALL: it walks over what all threads share


class _Tree:
    """The rows by container, as of when there were `count`."""

    count = 0
    heads: list[dict] = []
    below: dict[str, list[dict]] = {}


def _tree() -> _Tree:
    global _known
    if _known.count != len(command.rows):
        tree = _Tree()
        tree.count, tree.heads, tree.below = len(command.rows), [], {}
        for name, row in list(command.rows.items()):
            head, bar, _ = name.partition("|")
            tree.below.setdefault(head, [])
            (tree.below[head] if bar else tree.heads).append(row)
        _known = tree
    return _known


_known = _Tree()


def _as_set(items: list, resp: int) -> Raw:
    """A reply that is a set in this order, which may hold maps."""
    head = b"~%d\r\n" if resp >= 3 else b"*%d\r\n"
    return Raw(head % len(items) + b"".join([encode(item, resp) for item in items]))


def _ordered(found: list[str], order: list[str]) -> list[str]:
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def _categories(row: dict) -> list[str]:
    names = [name.lstrip("@") for name in find(row["about"], "acl", "").split()]
    return ["@" + name for name in _ordered(names, CATEGORIES)]


def _shown_flags(row: dict) -> list[str]:
    names = [name for name in row["flags"] if name != "may_replicate"]
    if row["name"] in NO_MANDATORY_KEYS and "no_mandatory_keys" not in names:
        names.append("no_mandatory_keys")
    return _ordered(names, FLAGS)


def _spec_map(spec: keyspecs.Spec, resp: int) -> dict:
    begin: dict = {b"type": b"unknown", b"spec": {}}
    find: dict = {b"type": b"unknown", b"spec": {}}
    if spec.begin is not None:
        word, at = spec.begin
        if word:
            begin = {
                b"type": b"keyword",
                b"spec": {b"keyword": word.encode(), b"startfrom": at},
            }
        else:
            begin = {b"type": b"index", b"spec": {b"index": at}}
    if spec.find is not None:
        kind, numbers = spec.find
        names = (
            (b"lastkey", b"keystep", b"limit")
            if kind == "range"
            else (b"keynumidx", b"firstkey", b"keystep")
        )
        find = {b"type": kind.encode(), b"spec": dict(zip(names, numbers, strict=True))}
    return {b"flags": _as_set(spec.flags, resp), b"begin_search": begin, b"find_keys": find}


def subcommands(name: str) -> list[dict]:
    """The rows below a container."""
    return find(_tree().below, name, [])


def heads() -> list[dict]:
    """The rows of commands, without subcommands."""
    return _tree().heads


def info_of(row: dict, resp: int) -> Raw:
    """What COMMAND INFO replies of a row, as bytes."""
    key = INFO, row["name"], resp
    if key in _cache:
        return _cache[key]
    first, last, step = row["keys"]
    reply = [
        row["name"].encode(),
        row["arity"],
        _as_set(_shown_flags(row), resp),
        first,
        last,
        step,
        _as_set(_categories(row), resp),
        _as_set([tip.encode() for tip in keyspecs.tips(row["name"])], resp),
        _as_set([_spec_map(spec, resp) for spec in keyspecs.of_row(row)], resp),
        [info_of(sub, resp) for sub in subcommands(row["name"])],
    ]
    known = _cache[key] = Raw(encode(reply, resp))
    return known


def _all(kind: int, resp: int) -> Raw:
    key = kind, ALL, resp
    if key not in _cache:
        with _making:
            if key not in _cache:
                what = [info_of(row, resp) for row in heads()] if kind == INFO else _docs(heads())
                _cache[key] = Raw(encode(what, resp))
    return _cache[key]


def docs_of(row: dict) -> dict:
    """What COMMAND DOCS replies of a row."""
    text = row["about"]
    reply: dict = {}
    for name in ("summary", "since", "group", "complexity"):
        value = find(text, name) or ("generic" if name == "group" else "")
        if value:
            reply[name.encode()] = value.encode()
    if "doc_flags" in text:
        reply[b"doc_flags"] = set(text["doc_flags"].split())
    for name in ("deprecated_since", "replaced_by"):
        if name in text:
            reply[name.encode()] = text[name].encode()
    if "arguments" in text:
        reply[b"arguments"] = text["arguments"]
    below = subcommands(row["name"])
    if below:
        reply[b"subcommands"] = {sub["name"].encode(): docs_of(sub) for sub in below}
    return reply


def _row(raw: bytes) -> dict | None:
    return find(command.rows, words(raw).lower())


def command_all(client: object, args: list[bytes]) -> object:
    """COMMAND"""
    if len(args) > 1:
        return unknown_subcommand(client, args)
    return _all(INFO, client.resp)


def command_count(_client: object, _args: list[bytes]) -> object:
    """COMMAND COUNT"""
    return len(heads())


def command_info(client: object, args: list[bytes]) -> object:
    """COMMAND INFO [name ...]"""
    if len(args) == 2:
        return _all(INFO, client.resp)
    rows = [_row(name) for name in args[2:]]
    return [None if row is None else info_of(row, client.resp) for row in rows]


def _docs(rows: list[dict]) -> dict:
    return {row["name"].encode(): docs_of(row) for row in rows}


def command_docs(client: object, args: list[bytes]) -> object:
    """COMMAND DOCS [name ...]"""
    if len(args) > 2:
        return _docs([row for row in map(_row, args[2:]) if row is not None])
    return _all(DOCS, client.resp)


# ---- LIST


def glob_matches(pattern: str, text: str) -> bool:
    """A pattern of ? * [a-z] [^a-z] and \\x against all of a text, whatever the case."""
    import re

    out = []
    at, end = 0, len(pattern)
    while at < end:
        char = pattern[at]
        at += 1
        if char == "*":
            out.append(".*")
        elif char == "?":
            out.append(".")
        elif char == "\\" and at < end:
            out.append(re.escape(pattern[at]))
            at += 1
        elif char == "[":
            close = pattern.find("]", at)
            body = pattern[at : close if close >= 0 else end]
            at = end if close < 0 else close + 1
            sign = "^" if body.startswith("^") else ""
            body = "".join(c if c == "-" else re.escape(c) for c in body[len(sign) :])
            out.append(f"[{sign}{body}]" if body else "(?!)")
        else:
            out.append(re.escape(char))
    try:
        return re.fullmatch("".join(out), text, re.IGNORECASE | re.DOTALL) is not None
    except re.error:
        return False


def command_list(_client: object, args: list[bytes]) -> object:
    """COMMAND LIST [FILTERBY MODULE|ACLCAT|PATTERN value]"""
    rows = list(command.rows.values())
    if len(args) == 2:
        return [row["name"].encode() for row in rows]
    if len(args) != 5 or args[2].lower() != b"filterby":
        raise syntax_error()
    kind, value = args[3].lower(), words(args[4])
    if kind == b"module":
        rows = []
    elif kind == b"aclcat":
        rows = [row for row in rows if "@" + value.lower() in _categories(row)]
    elif kind == b"pattern":
        rows = [row for row in rows if glob_matches(value, row["name"])]
    else:
        raise syntax_error()
    return [row["name"].encode() for row in rows]


# ---- GETKEYS


def _begin(spec: keyspecs.Spec, argv: list[bytes]) -> int:
    """Where a specification's keys begin; 0: nowhere."""
    if spec.begin is None:
        return 0
    word, at = spec.begin
    if not word:
        return at
    wanted = word.lower().encode()
    places = range(at, len(argv)) if at > 0 else range(len(argv) + at, 0, -1)
    for place in places:
        if place < len(argv) and argv[place].lower() == wanted:
            return place + 1
    return 0


def _places(spec: keyspecs.Spec, argv: list[bytes]) -> list[int] | None:
    """The places of a specification's keys; None: the command's words do not fit it."""
    first = _begin(spec, argv)
    if not first or spec.find is None:
        return []
    kind, numbers = spec.find
    if kind == "range":
        last, step, limit = numbers
        if last >= 0:
            last += first
        elif limit <= 1:
            last += len(argv)
        else:
            last = first + (len(argv) - first) // limit + last
    else:
        number_at, offset, step = numbers
        if first + number_at >= len(argv) or not argv[first + number_at].isdigit():
            return None
        count = int(argv[first + number_at])
        first += offset
        last = first + (count - 1) * step
        if not count:
            return []
    if last >= len(argv) or last < first or first >= len(argv):
        return None
    return list(range(first, last + 1, step))


def _last_stored(argv: list[bytes], start: int, *wanted: bytes) -> list[int]:
    """The place after the last of some words, if there is one."""
    found = [at + 1 for at in range(start, len(argv) - 1) if argv[at].lower() in wanted]
    return found[-1:]


def _special_keys(name: str, argv: list[bytes]) -> list[tuple[int, list[str]]] | None:
    """Keys and their flags of commands whose options change them; None: not such a command."""
    if name == "set":
        gets = any(word.lower() == b"get" for word in argv[3:])
        return [(1, ["RW", "access", "update"] if gets else ["OW", "update"])]
    if name == "bitfield":
        writes = any(word.lower() in (b"set", b"incrby") for word in argv[2:])
        return [(1, ["RW", "access", "update"] if writes else ["RO", "access"])]
    stores: list[int] | None = None
    if name == "sort":
        stores = _last_stored(argv, 2, b"store")
    elif name in ("georadius", "georadiusbymember"):
        stores = _last_stored(argv, 5 if name == "georadius" else 4, b"store", b"storedist")
    if stores is None:
        return None
    return [(1, ["RO", "access"])] + [(at, ["OW", "update"]) for at in stores]


def keys_of(row: dict, argv: list[bytes]) -> list[tuple[int, list[str]]] | None:
    """(place, flags) of each key of a command; None: its words do not fit."""
    special = _special_keys(row["name"], argv)
    if special is not None:
        return special
    found = []
    for spec in keyspecs.of_row(row):
        if "not_key" in spec.flags:
            continue
        places = _places(spec, argv)
        if places is None:
            if "incomplete" in spec.flags:
                continue
            return None
        found.extend((at, spec.flags) for at in places if argv[at] or row["name"] != "migrate")
    return found


def _find_keys(argv: list[bytes]) -> list[tuple[int, list[str]]]:
    row = _row(argv[0])
    if row is not None and len(argv) > 1:
        row = _row(argv[0] + b"|" + argv[1]) or row
    if row is None or (row["name"].find("|") < 0 and subcommands(row["name"])):
        raise Error("ERR Invalid command specified")
    if not keyspecs.of_row(row):
        raise Error("ERR The command has no key arguments")
    arity = row["arity"]
    if (arity > 0 and arity != len(argv)) or len(argv) < -arity:
        raise Error("ERR Invalid number of arguments specified for command")
    found = keys_of(row, argv)
    if not found:
        if row["name"] in NO_MANDATORY_KEYS or "no_mandatory_keys" in row["flags"]:
            return []
        raise Error("ERR Invalid arguments specified for command")
    return found


def command_getkeys(_client: object, args: list[bytes]) -> object:
    """COMMAND GETKEYS command argument ..."""
    argv = args[2:]
    return [argv[at] for at, _ in _find_keys(argv)]


def command_getkeysandflags(client: object, args: list[bytes]) -> object:
    """COMMAND GETKEYSANDFLAGS command argument ..."""
    argv = args[2:]
    return [[argv[at], _as_set(flags, client.resp)] for at, flags in _find_keys(argv)]


HELP = [
    ("(no subcommand)", "Replies the details of all commands."),
    ("COUNT", "Replies how many commands there are."),
    ("DOCS [<command> ...]", "Describes the commands named, or all."),
    ("GETKEYS <command> <argument> ...", "Replies the keys among a command's arguments."),
    ("GETKEYSANDFLAGS <command> <argument> ...", "As GETKEYS, with what is done to each key."),
    ("INFO [<command> ...]", "Replies the details of the commands named, or of all."),
    ("LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
     "Replies the commands' names."),
]
ROW_FLAGS = "loading stale"
ACL = "slow connection"
O_NAMED = "O(N), N the commands looked up"
ROWS: tuple[tuple[str, int, str, object, str, str], ...] = (
    ("count", 2, "2.8.13", command_count, "Counts the commands.", "O(1)"),
    ("docs", -2, "7.0.0", command_docs, "Describes commands.", O_NAMED),
    ("getkeys", -3, "2.8.13", command_getkeys, "Finds the keys of a command.",
     "O(N), N the arguments"),
    ("getkeysandflags", -3, "7.0.0", command_getkeysandflags,
     "Finds the keys of a command and what is done to them.", "O(N), N the arguments"),
    ("info", -2, "2.8.13", command_info, "Replies details of commands.", O_NAMED),
    ("list", -2, "7.0.0", command_list, "Replies the commands' names.",
     "O(N), N the commands there are"),
)
register_python(
    "command", -1, ROW_FLAGS, NO_KEYS, command_all,
    about("2.8.13", "server", ACL, "Replies details of all commands.",
          "O(N), N the commands there are"),
)
for _name, _arity, _since, _handler, _summary, _cost in ROWS:
    register_python(
        f"command|{_name}", _arity, ROW_FLAGS, NO_KEYS, _handler,
        about(_since, "server", ACL, _summary, _cost),
    )
register_help("command", "5.0.0", "server", ACL, HELP)
