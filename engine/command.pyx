# slotring: data plane
"""The command table; see command.pxd."""
import sys

from libc.string cimport memcpy, memcmp, memset
from engine.defs cimport *

FLAG_NAMES = {
    "write": F_WRITE, "readonly": F_READONLY, "denyoom": F_DENYOOM, "admin": F_ADMIN,
    "pubsub": F_PUBSUB, "noscript": F_NOSCRIPT, "blocking": F_BLOCKING, "loading": F_LOADING,
    "stale": F_STALE, "skip_monitor": F_SKIP_MONITOR, "skip_commandlog": F_SKIP_COMMANDLOG,
    "asking": F_ASKING, "fast": F_FAST, "no_auth": F_NO_AUTH, "may_replicate": F_MAY_REPLICATE,
    "no_async_loading": F_NO_ASYNC_LOADING, "no_multi": F_NO_MULTI,
    "movablekeys": F_MOVABLEKEYS, "allow_busy": F_ALLOW_BUSY,
}
LOCKS = {"none": LOCK_NONE, "key": LOCK_KEY, "keys": LOCK_KEYS, "all": LOCK_ALL,
         "self": LOCK_SELF}

VALUE_GROUPS = ("list", "set", "sorted-set", "sorted_set", "hash", "stream", "geo")

# name -> row, for COMMAND and statistics: id, name, arity, flags, keys, handler, about
rows = {}
handlers = []      # by id: the Python callable of a control-plane command, or None

cdef u8 is_sub[COMMANDS_MAX]           # by id: a subcommand, which its whole name ("config|get") does not reach


cdef u32 name_hash(const char* name, size_t n, u32 h) noexcept nogil:
    cdef size_t i
    for i in range(n):
        h = (h ^ (<u8>name[i] | 0x20)) * 16777619
    return h


cdef bint same_word(const char* a, const char* lower, size_t n) noexcept nogil:
    cdef size_t i
    cdef char c
    for i in range(n):
        c = a[i]
        if c'A' <= c <= c'Z':
            c |= 0x20
        if c != lower[i]:
            return False
    return True


cdef struct Renamed:           # rename-command
    char old[40]
    u32 old_len
    u32 fresh_len              # 0: the command is gone
    char fresh[64]

cdef Renamed renames[64]
cdef u32 renamed_used = 0


cdef bint renamed(const char** name, size_t* n) noexcept nogil:
    """The table's name for a client's; False if that name does not exist any more."""
    cdef u32 i
    cdef Renamed* r
    for i in range(renamed_used):
        r = &renames[i]
        if r.fresh_len and r.fresh_len == n[0] and same_word(name[0], r.fresh, n[0]):
            name[0] = r.old
            n[0] = r.old_len
            return True
    for i in range(renamed_used):
        r = &renames[i]
        if r.old_len == n[0] and same_word(name[0], r.old, n[0]):
            return False
    return True


cdef Command* command_find(const char* name, size_t n, const char* sub, size_t sub_n) noexcept nogil:
    """The row of a command (sub NULL) or subcommand; any case. NULL: there is none."""
    cdef u32 h
    cdef u32 at
    cdef Command* c
    if unlikely(renamed_used != 0) and not renamed(&name, &n):
        return NULL
    h = name_hash(name, n, 2166136261)
    if sub != NULL:
        h = name_hash(sub, sub_n, (h ^ (<u32>c'|')) * 16777619)
    at = (h ^ (h >> 15)) & (COMMAND_HASH - 1)
    while command_places[at]:
        c = &commands[command_places[at] - 1]
        if sub == NULL:
            if c.name_len == n and not is_sub[c.id] and same_word(name, c.name, n):
                return c
        elif (c.name_len == n + 1 + sub_n and c.name[n] == c'|' and same_word(name, c.name, n)
              and same_word(sub, c.name + n + 1, sub_n)):
            return c
        at = (at + 1) & (COMMAND_HASH - 1)
    return NULL


cdef object register(str name, int arity, str flags, tuple keys, cmd_fn fn, dict about=None):
    """Add a row.

    name: lower case, "object|encoding" for a subcommand. arity: as in COMMAND INFO. flags: words of
    COMMAND INFO, and lock=none|key|keys|all where the keys do not say it. keys: (first, last, step).
    """
    cdef u32 id_ = len(handlers)
    cdef Command* c = &commands[id_]
    cdef bytes raw = name.encode()
    cdef u32 h, at
    global commands_used
    if name in rows or id_ >= COMMANDS_MAX or len(raw) >= sizeof(c.name):
        raise ValueError(f"command {name!r} cannot be registered")
    first, last, step = keys
    memset(c, 0, sizeof(Command))
    memcpy(c.name, <char*>raw, len(raw))
    c.name_len = len(raw)
    c.id = id_
    c.fn = fn
    if (about or {}).get("group") in VALUE_GROUPS:
        c.flags |= F_VALUE
    c.arity = arity
    c.first, c.last, c.step = first, last, step
    c.lock = LOCK_NONE if not first else (LOCK_KEY if first == last else LOCK_KEYS)
    words = []
    for word in flags.split():
        if word.startswith("lock="):
            c.lock = LOCKS[word[5:]]
        elif word == "immediate":
            c.flags |= F_IMMEDIATE
        else:
            c.flags |= <u64>FLAG_NAMES[word]
            words.append(word)
    head, _, tail = name.partition("|")
    is_sub[id_] = bool(tail)
    if tail and head in rows:
        commands[rows[head]["id"]].flags |= F_CONTAINER
    h = name_hash(raw, len(head), 2166136261)
    if tail:
        h = name_hash(<char*>raw + len(head) + 1, len(tail), (h ^ (<u32>c'|')) * 16777619)
    at = (h ^ (h >> 15)) & (COMMAND_HASH - 1)
    while command_places[at]:
        at = (at + 1) & (COMMAND_HASH - 1)
    command_places[at] = <u16>(id_ + 1)
    commands_used = id_ + 1
    handlers.append(None)
    name = sys.intern(name)            # it never dies: threads look it up without the dict's lock
    rows[name] = {"id": id_, "name": name, "arity": arity, "flags": words, "keys": keys,
                  "about": about or {}}
    return rows[name]


def register_python(str name, int arity, str flags, tuple keys, handler, dict about=None):
    """A row whose function is a Python callable (client, args) -> reply; it takes the locks it needs."""
    row = register(name, arity, flags + " lock=none", keys, NULL, about)
    handlers[row["id"]] = handler
    return row


def find(bytes name, sub=None):
    """The row that a client's words reach, or None."""
    cdef Command* c
    if sub is None:
        c = command_find(name, len(name), NULL, 0)
    else:
        c = command_find(name, len(name), <bytes>sub, len(sub))
    return None if c == NULL else rows[c.name[:c.name_len].decode()]


def rename(bytes old, bytes fresh) -> None:
    """rename-command, before there are clients: a command (not a subcommand) gets another name; b"": none."""
    global renamed_used
    cdef Renamed* r = &renames[renamed_used]
    row = find(old)
    name = row["name"].encode()
    if renamed_used == 64 or len(fresh) > 63:
        raise ValueError("too many commands are renamed, or the name is too long")
    memcpy(r.old, <char*><bytes>name, len(name) + 1)
    r.old_len = len(name)
    fresh = fresh.lower()
    memcpy(r.fresh, <char*>fresh, len(fresh) + 1)
    r.fresh_len = len(fresh)
    renamed_used += 1
