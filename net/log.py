"""The log: Valkey's line formats, to stdout, a file or syslog. Each line is one write, from any thread."""

import os
import time

DEBUG, VERBOSE, NOTICE, WARNING, NOTHING = range(5)
LEVELS = {"debug": DEBUG, "verbose": VERBOSE, "notice": NOTICE, "warning": WARNING,
          "nothing": NOTHING}

_MARKS = ".-*#"
_NAMES = ("debug", "info", "notice", "warning")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ROLES = {"M": "primary", "S": "replica", "C": "RDB/AOF"}
_LINE_MAX = 1024


class _State:
    """What the settings say of the log."""

    level = NOTICE
    path = ""  # empty: stdout
    style = "legacy"
    stamp = "legacy"
    syslog: object = None
    pid = os.getpid()
    replica = False


state = _State()


def _stamp(now: float) -> str:
    ms = int(now * 1000)
    if state.stamp == "milliseconds":
        return str(ms)
    t = time.localtime(ms // 1000)
    clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}.{ms % 1000:03}"
    if state.stamp == "iso8601":
        offset = t.tm_gmtoff or 0
        sign = "+" if offset >= 0 else "-"
        hours, rest = divmod(abs(offset), 3600)
        date = f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}"
        return f"{date}T{clock}{sign}{hours:02}:{rest // 60:02}"
    return f"{t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} {clock}"


def _json(text: str) -> str:
    out = ['"']
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char in "\n\r\t\b\f":
            out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}[char])
        elif char < " ":
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(char)
    out.append('"')
    return "".join(out)


def format_line(level: int, text: str, now: float) -> str:
    """One line, as the settings want it."""
    pid = os.getpid()
    role = "C" if pid != state.pid else ("S" if state.replica else "M")
    stamp = _stamp(now)
    if state.style == "logfmt":
        plain = text.replace('"', "'").replace("\n", " ").replace("\r", " ")
        return (f'pid={pid} role={_ROLES[role]} timestamp="{stamp}" level={_NAMES[level]} '
                f'message="{plain}"\n')
    if state.style == "json":
        return (f'{{"pid":{pid},"role":"{_ROLES[role]}","timestamp":"{stamp}",'
                f'"level":"{_NAMES[level]}","message":{_json(text)}}}\n')
    return f"{pid}:{role} {stamp} {_MARKS[level]} {text}\n"


def _write(raw: bytes) -> None:
    """Appends to the log. The file is opened each time, so that it may be moved away meanwhile."""
    fd = 1
    try:
        if state.path:
            fd = os.open(state.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            while raw:
                raw = raw[os.write(fd, raw):]
        finally:
            if fd != 1:
                os.close(fd)
    except OSError:
        pass  # a log that cannot be written must not stop the server


def write(level: int, text: str, raw: bool = False) -> None:
    """Logs a text; raw: as it is, without the line's head."""
    if level < state.level:
        return
    if raw:
        line = text
    else:
        text = text[:_LINE_MAX]
        line = format_line(level, text, time.time())
    _write(line.encode("utf-8", "surrogateescape"))
    if state.syslog is not None:
        state.syslog(level, text)


def debug(text: str) -> None:
    """Logs at level debug."""
    write(DEBUG, text)


def verbose(text: str) -> None:
    """Logs at level verbose."""
    write(VERBOSE, text)


def notice(text: str) -> None:
    """Logs at level notice."""
    write(NOTICE, text)


def warning(text: str) -> None:
    """Logs at level warning."""
    write(WARNING, text)


def _open_syslog(ident: str, facility: str) -> None:
    import syslog
    priorities = (syslog.LOG_DEBUG, syslog.LOG_INFO, syslog.LOG_NOTICE, syslog.LOG_WARNING)
    syslog.openlog(ident, syslog.LOG_PID | syslog.LOG_NDELAY | syslog.LOG_NOWAIT,
                   getattr(syslog, "LOG_" + facility.upper()))
    state.syslog = lambda level, text: syslog.syslog(priorities[level], text.replace("\0", " "))


def set_up(config: object) -> None:
    """Takes the settings over, now and whenever they change."""
    def level(name: str) -> None:
        state.level = LEVELS[name]

    def style(name: str) -> None:
        state.style = name

    def stamp(name: str) -> None:
        state.stamp = name

    for name, hook in (("loglevel", level), ("log-format", style), ("log-timestamp-format", stamp)):
        hook(config.get_value(name))
        config.on_change(name, hook)
    path = config.get_value("logfile")
    state.path = os.path.abspath(path) if path else ""
    if config.get_value("syslog-enabled"):
        _open_syslog(config.get_value("syslog-ident"), config.get_value("syslog-facility"))


def reset_pid() -> None:
    """After a fork: this process is the server."""
    state.pid = os.getpid()
