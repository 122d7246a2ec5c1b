"""LATENCY: samples of slow events, and how long commands take."""

import threading
import time

from engine.command import register_python

from engine import command
from engine.shared import find
from net import bridge
from net.commands.common import (
    NO_KEYS,
    about,
    number_setting,
    register_container,
    register_help,
    words,
)
from net.reply import Error, Verbatim

SAMPLES_MAX = 160
GRAPH_COLUMNS = 80
GRAPH_ROWS = 4
GRAPH_CHARS = "_o#"
LEVELS = 24            # of HISTOGRAM: from a microsecond to some eight seconds


class Series:
    """The samples of one event: at most one a second, the newest 160."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, int]] = []     # (unix time, milliseconds)
        self.max_ms = 0
        self.sum_ms = 0
        self.count = 0

    def add(self, now: int, ms: int) -> None:
        """A sample; of several in a second the worst stays."""
        self.max_ms = max(self.max_ms, ms)
        self.sum_ms += ms
        self.count += 1
        if self.samples and self.samples[-1][0] == now:
            self.samples[-1] = (now, max(ms, self.samples[-1][1]))
            return
        self.samples.append((now, ms))
        if len(self.samples) > SAMPLES_MAX:
            del self.samples[0]


_lock = threading.Lock()
_events: dict[bytes, Series] = {}


def sample(event: str, ms: int) -> None:
    """Note that an event took some milliseconds, which the caller found to be too long."""
    with _lock:
        _events.setdefault(event.encode(), Series()).add(int(time.time()), ms)


def latest(_client: object, _args: list[bytes]) -> object:
    """LATENCY LATEST"""
    with _lock:
        return [
            [name, *one.samples[-1], one.max_ms, one.sum_ms, one.count]
            for name, one in _events.items()
        ]


def history(_client: object, args: list[bytes]) -> object:
    """LATENCY HISTORY event"""
    with _lock:
        one = find(_events, args[2])
        return [list(pair) for pair in one.samples] if one else []


def reset(_client: object, args: list[bytes]) -> object:
    """LATENCY RESET [event ...]"""
    wanted = {name.lower() for name in args[2:]}
    with _lock:
        gone = [name for name in _events if not wanted or name.lower() in wanted]
        for name in gone:
            del _events[name]
    return len(gone)


# ---- GRAPH


def ago(seconds: int) -> str:
    """A time span in its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _graph_rows(values: list[int], labels: list[str], low: int, high: int) -> list[str]:
    """Columns of characters, one a value, with the labels written downwards below."""
    steps = len(GRAPH_CHARS) * GRAPH_ROWS
    span = (high - low) or 1
    heights = [min(int((value - low) * steps / span), steps - 1) for value in values]
    rows = []
    for row in range(GRAPH_ROWS):
        base = (GRAPH_ROWS - row - 1) * len(GRAPH_CHARS)
        rows.append("".join(
            " " if height < base
            else GRAPH_CHARS[height - base] if height - base < len(GRAPH_CHARS)
            else "|"
            for height in heights
        ))
    rows.append(" " * len(values))
    for at in range(max(map(len, labels), default=0)):
        rows.append("".join(label[at] if at < len(label) else " " for label in labels))
    return rows


def graph_text(name: bytes, one: Series, now: int) -> str:
    """The samples of an event as a bar chart of text."""
    values = [ms for _, ms in one.samples]
    labels = [ago(max(0, now - when)) for when, _ in one.samples]
    low, high = min(values), max(values)
    lines = [
        f"{words(name)} - high {high} ms, low {low} ms (all time high {one.max_ms} ms)",
        "-" * GRAPH_COLUMNS,
    ]
    for at in range(0, len(values), GRAPH_COLUMNS):
        if at:
            lines.append("")
        part = slice(at, at + GRAPH_COLUMNS)
        lines.extend(_graph_rows(values[part], labels[part], low, high))
    return "\n".join(lines) + "\n"


def graph(_client: object, args: list[bytes]) -> object:
    """LATENCY GRAPH event"""
    with _lock:
        one = find(_events, args[2])
        if one is None:
            raise Error(f"ERR No samples available for event '{words(args[2])}'")
        text = graph_text(args[2], one, int(time.time()))
    return Verbatim(text.encode("utf-8", "surrogateescape"), "txt")


# ---- DOCTOR

SLOW_COMMANDS = "- Look at SLOWLOG GET: it names the commands that take long, with their arguments."
LARGE_VALUES = (
    "- Deleting, expiring or evicting a very large value takes time in which its partition\n"
    "  serves nobody: cut such values into smaller ones, or use UNLINK."
)
ADVICE: dict[bytes, tuple[str, ...]] = {
    b"command": (SLOW_COMMANDS, LARGE_VALUES),
    b"fast-command": (
        "- Commands that do little take long, so the server does not get the processor when it\n"
        "  wants it: lower the load of the machine, or give the server a machine of its own.",
    ),
    b"expire-cycle": (LARGE_VALUES,),
    b"eviction-del": (LARGE_VALUES,),
    b"eviction-cycle": (
        "- A lowered 'maxmemory', or one large value that is stored, makes the server evict\n"
        "  many keys at once.",
    ),
}


def _event_line(number: int, name: bytes, one: Series, now: int) -> str:
    values = [ms for _, ms in one.samples]
    mean = sum(values) // len(values)
    deviation = sum(abs(mean - value) for value in values) // len(values)
    span_s = max(1, now - one.samples[0][0])
    return (
        f"{number}. {words(name)}: {len(values)} latency spikes (average {mean}ms, mean deviation "
        f"{deviation}ms, period {span_s / len(values):.2f} sec). Worst all time event "
        f"{one.max_ms}ms."
    )


def doctor(_client: object, _args: list[bytes]) -> object:
    """LATENCY DOCTOR"""
    threshold_ms = number_setting("latency-monitor-threshold")
    now = int(time.time())
    with _lock:
        events = list(_events.items())
        lines = [_event_line(at, *item, now) for at, item in enumerate(events, 1)]
    if not events and not threshold_ms:
        text = (
            "Nothing is watched: latency monitoring is disabled. Say from how many milliseconds on\n"
            'something is slow with "CONFIG SET latency-monitor-threshold <milliseconds>".\n'
        )
    elif not events:
        text = "No latency spike was observed since the server started or was reset.\n"
    else:
        advice = dict.fromkeys(text for name, _ in events for text in find(ADVICE, name, ()))
        text = "Latency spikes were observed:\n\n" + "\n".join(lines) + "\n"
        if advice:
            text += "\nWhat may help:\n\n" + "\n".join(advice) + "\n"
    return Verbatim(text.encode("utf-8", "surrogateescape"), "txt")


# ---- HISTOGRAM


def level_us(level: int) -> int:
    """The top of a level in microseconds: Valkey's histograms double from 1024 ns on."""
    top_ns = 1024 << level
    return (top_ns + (top_ns >> 7) - 1) // 1000


def histogram(row_id: int) -> dict[int, int]:
    """How many calls took at most so many microseconds; levels without calls are left out."""
    counts = bridge.command_histogram(row_id)
    bounds = bridge.HISTOGRAM_BOUNDS_NS
    by_level: dict[int, int] = {}
    for bound_ns, count in zip(bounds, counts, strict=False):
        if count:
            # a bucket counts for the level that holds its geometric middle
            level = max(0, (int(bound_ns * 0.7072) // 1024).bit_length())
            by_level[level] = by_level.get(level, 0) + count
    total = 0
    tops = {}
    for level in sorted(by_level):
        total += by_level[level]
        tops[level_us(level)] = total
    return tops


def _histograms(names: list[str]) -> dict:
    calls = {row[0]: row[1] for row in bridge.command_stats()}
    reply = {}
    for name in names:
        number = calls.get(command.rows[name]["id"], 0)
        if number:
            tops = histogram(command.rows[name]["id"])
            if tops:
                reply[name.encode()] = {
                    b"calls": max(tops.values()), b"histogram_usec": tops,
                }
    return reply


def histogram_command(_client: object, args: list[bytes]) -> object:
    """LATENCY HISTOGRAM [command ...]"""
    if len(args) == 2:
        return _histograms(list(command.rows))
    names: list[str] = []
    for raw in args[2:]:
        name = words(raw).lower()
        names.extend(
            row for row in command.rows if row == name or row.startswith(name + "|")
        )
    return _histograms(names)


HELP = [
    ("DOCTOR", "Reports on the slow events and what may be done about them."),
    ("GRAPH <event>", "Draws the samples of an event."),
    ("HISTOGRAM [<command> ...]", "Replies how long commands take: those named, or all."),
    ("HISTORY <event>", "Replies the samples of an event: time and milliseconds."),
    ("LATEST", "Replies the newest sample of every event, its worst, its sum, its number."),
    ("RESET [<event> ...]", "Forgets the samples of the events named, or all."),
]
FLAGS = "admin noscript loading stale"
ACL = "admin slow dangerous"
ROWS: tuple[tuple[str, int, str, object, str, str], ...] = (
    ("doctor", 2, "2.8.13", doctor, "Reports on slow events.", "O(1)"),
    ("graph", 3, "2.8.13", graph, "Draws an event's samples.", "O(1)"),
    ("histogram", -2, "7.0.0", histogram_command, "Replies how long commands take.",
     "O(N), N the commands replied"),
    ("history", 3, "2.8.13", history, "Replies an event's samples.", "O(1)"),
    ("latest", 2, "2.8.13", latest, "Replies the newest samples.", "O(1)"),
    ("reset", -2, "2.8.13", reset, "Forgets samples.", "O(1)"),
)
register_container("latency", "2.8.13", "server", "Holds the commands about slow events.")
for _name, _arity, _since, _handler, _summary, _cost in ROWS:
    register_python(
        f"latency|{_name}", _arity, FLAGS, NO_KEYS, _handler,
        about(_since, "server", ACL, _summary, _cost),
    )
register_help("latency", "2.8.13", "server", "slow", HELP)
