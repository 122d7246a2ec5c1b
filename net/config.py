"""The settings' values: read from a file and arguments, changed at run time, written back.

`config` is the server's own. Values are typed (get_value) or text (get_text); a setting's hooks
(on_change) run when it has changed and may refuse by raising ConfigError.
"""

import os
from threading import RLock

from engine.quoting import format_memory, parse_memory, quote, split_args
from engine.shared import find
from net import settings
from net.settings import DEPRECATED, Setting
from net.special import CHECKS, SPECIALS, ConfigError

HZ_MAX = 500
_DIRECTIVES = ("rename-command", "user", "loadmodule")
_YES_NO = {"yes": True, "no": False}
_I64 = 1 << 63
_GLOB_CHARS = frozenset("*?[")

__all__ = ["Config", "ConfigError", "ConfigFileError", "config"]


class ConfigFileError(Exception):
    """A line that the server cannot start with; number 0: it is no line's fault."""

    def __init__(self, message: str, number: int = 0, line: str = ""):
        super().__init__(message)
        self.number = number
        self.line = line

    def report(self, version: str) -> str:
        """What goes to stderr."""
        text = f"\n*** FATAL CONFIG FILE ERROR (Version {version}) ***\n"
        if self.number:
            text += f"Reading the configuration file, at line {self.number}\n>>> '{self.line}'\n"
        return f"{text}{self}\n"


def text_of(raw: bytes) -> str:
    """Bytes of a file or client as text; any bytes survive the way there and back."""
    return raw.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """The other way."""
    return text.encode("utf-8", "surrogateescape")


def parse_integer(text: str) -> int | None:
    """A decimal number of 64 bits without spaces, plus sign or leading zeros."""
    digits = text[1:] if text[:1] == "-" else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
        return None
    if digits[0] == "0" and text != "0":
        return None
    value = int(text)
    return value if -_I64 <= value < _I64 else None


def _parse_number(row: Setting, text: str) -> int:
    if row.kind == settings.INT:
        value = parse_integer(text)
        if value is None:
            raise ConfigError("argument couldn't be parsed into an integer")
        return value
    if row.kind == settings.OCTAL:
        if text and all(char in "01234567" for char in text):
            return int(text, 8)
        raise ConfigError("argument couldn't be parsed as an octal number")
    value = parse_memory(text)
    if value is not None:
        if row.high < _I64 <= value:
            value -= 2 * _I64
        return value
    if row.kind == settings.SIGNED:
        value = parse_integer(text)
        if value is not None:
            return value
    if row.kind == settings.PERCENT:
        value = parse_integer(text[:-1]) if text[-1:] == "%" else None
        if value is not None and value >= 0:
            return -value
        raise ConfigError("argument must be a memory or percent value")
    raise ConfigError("argument must be a memory value")


def _check_bounds(row: Setting, value: int) -> None:
    if row.low <= value <= row.high:
        return
    if row.kind == settings.PERCENT and value < 0:
        raise ConfigError(f"percentage argument must be less or equal to {-row.low}")
    style = "o" if row.kind == settings.OCTAL else "d"
    raise ConfigError(f"argument must be between {row.low:{style}} and {row.high:{style}} inclusive")


def _parse_choice(row: Setting, words: list[str]) -> str:
    known = {choice.lower(): choice for choice in row.choices}
    chosen = [known.get(word.lower()) for word in words]
    if not chosen or None in chosen or (row.kind == settings.ENUM and len(chosen) != 1):
        raise ConfigError("argument(s) must be one of the following: " + ", ".join(row.choices))
    if row.kind == settings.ENUM:
        return chosen[0]
    return " ".join(choice for choice in row.choices[1:] if choice in chosen) or row.choices[0]


def parse_value(row: Setting, words: list[str]) -> object:
    """The typed value of a setting's words; ConfigError where they are none."""
    if row.kind == settings.BOOL:
        value = find(_YES_NO, words[0].lower())
        if value is None:
            raise ConfigError("argument must be 'yes' or 'no'")
    elif row.kind in settings.NUMBERS:
        value = _parse_number(row, words[0])
        _check_bounds(row, value)
        if row.name == "hz":
            value = max(1, min(value, HZ_MAX))
    elif row.kind in (settings.ENUM, settings.FLAGS):
        value = _parse_choice(row, words)
    elif row.kind == settings.STRING:
        value = words[0]
    else:
        return SPECIALS[row.name].parse(words)
    check = find(CHECKS, row.name)
    if check:
        check(value)
    return value


def format_value(row: Setting, value: object) -> str:
    """A value as CONFIG GET shows it."""
    if row.kind == settings.BOOL:
        return "yes" if value else "no"
    if row.kind == settings.OCTAL:
        return f"{value:o}"
    if row.kind == settings.PERCENT and value < 0:
        return f"{-value}%"
    if row.kind == settings.SPECIAL:
        return SPECIALS[row.name].format(value)
    return str(value)


class Config:
    """All settings of one server."""

    def __init__(self):
        self.table = settings.build_table()
        self.names = dict(self.table)  # aliases too
        for row in self.table.values():
            if row.alias:
                self.names[row.alias] = row
        self.rows = tuple(self.names.items())   # to walk over: each step of a walk over a dict takes its lock
        self.values: dict[str, object] = {name: row.default for name, row in self.table.items()}
        self.hooks: dict[str, list] = {}
        self.path = ""  # of the file, absolute; empty: none
        self.directives: list[tuple[str, list[bytes], int, str]] = []  # word, arguments, line
        self.rewriters: dict[str, object] = {}  # "user": () -> lines, for rewrite
        self.handlers: dict[str, object] = {}   # "user": (words) -> None; "." for module.name
        self.is_loading = lambda: False
        self.lock = RLock()
        self._saves_given = False

    # --- reading ---------------------------------------------------------------------------------

    def get_value(self, name: str) -> object:
        """A setting's typed value; KeyError where there is no such setting."""
        row = find(self.names, name) or self.names[name.lower()]
        if row.name == "dir":
            return _working_folder()
        return self.values[row.name]

    def get_text(self, name: str) -> str:
        """A setting as CONFIG GET shows it."""
        row = self.names[name.lower()]
        return format_value(row, self.get_value(row.name))

    def get(self, patterns: list[str]) -> dict[str, str]:
        """What CONFIG GET replies: the settings that any pattern names, sorted."""
        found: dict[str, Setting] = {}
        for pattern in patterns:
            if not _GLOB_CHARS.intersection(pattern):
                row = find(self.names, pattern.lower())
                if row:
                    found[pattern] = row
                continue
            matches = _matcher(pattern)
            for name, row in self.rows:
                if "hidden" not in row.marks and matches(name):
                    found[name] = row
        with self.lock:
            return {name: self.get_text(found[name].name)
                    for name in sorted(found, key=bytes_of)}

    # --- start -----------------------------------------------------------------------------------

    def load_args(self, argv: list[str], stdin: object = None) -> None:
        """Takes what the server was started with: [file] [--name value …] [-]."""
        path, from_stdin, options = parse_args(argv)
        text = b""
        if path:
            self.path = os.path.abspath(path)
            text = _read_files(self.path)
        if from_stdin:
            import sys
            text += (stdin or sys.stdin.buffer).read()
        if argv:
            self.load_text(text + b"\n" + options)

    def load_file(self, path: str) -> None:
        """Takes a file's lines; a pattern: those of all the files it names."""
        self.load_text(_read_files(path))

    def load_text(self, text: bytes) -> None:
        """Takes lines; ConfigFileError at the first that is wrong."""
        for number, raw in enumerate(text.split(b"\n"), 1):
            line = raw.strip(b" \t\r\n")
            if not line or line.startswith(b"#"):
                continue
            try:
                self._load_line(line, number)
            except ConfigError as error:
                raise ConfigFileError(str(error), number, text_of(line)) from None
        self._check_whole()

    def _load_line(self, line: bytes, number: int) -> None:
        words = split_args(line)
        if words is None:
            raise ConfigError("Unbalanced quotes in configuration line")
        if not words:
            return
        name = text_of(words[0]).lower()
        values = [text_of(word) for word in words[1:]]
        row = find(self.names, name)
        if row is None:
            self._load_directive(name, words, values, number, text_of(line))
            return
        if not row.multi and len(values) != 1:
            raise ConfigError("wrong number of arguments")
        if row.multi and len(values) == 1 and values[0]:
            values = [text_of(word) for word in split_args(words[1]) or []]
        value = parse_value(row, values)
        if name == "save":
            if self._saves_given and values != [""]:
                value = (*self.values["save"], *value)
            self._saves_given = True
        elif row.name == "client-output-buffer-limit":
            value = SPECIALS[row.name].merge(self.values[row.name], value)
        self.values[row.name] = value

    def _load_directive(self, name: str, words: list[bytes], values: list[str], number: int,
                        line: str) -> None:
        if name in DEPRECATED and len(words) == 2:
            return
        if name == "include" and len(words) == 2:
            self.load_file(values[0])
        elif name in _DIRECTIVES and len(words) > (2 if name == "rename-command" else 1):
            self.directives.append((name, words[1:], number, line))
        elif "." in name and len(words) >= 2:
            self.directives.append((name, words[1:], number, line))
        elif "." in name:
            raise ConfigError("Module config specified without value")
        elif name == "sentinel":
            raise ConfigError("sentinel directive while not in sentinel mode")
        else:
            raise ConfigError("Bad directive or wrong number of arguments")

    def _check_whole(self) -> None:
        path = self.values["logfile"]
        if path:
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
            except OSError as error:
                raise ConfigFileError(f"Can't open the log file: {error.strerror}") from None
        if self.values["cluster-enabled"] and self.values["replicaof"]:
            raise ConfigFileError("replicaof directive not allowed in cluster mode")

    # --- changes ---------------------------------------------------------------------------------

    def on_change(self, name: str, hook: object) -> None:
        """hook(value) runs after a change at run time; ConfigError from it takes the change back."""
        self.hooks.setdefault(self.names[name].name, []).append(hook)

    def set_many(self, pairs: list[tuple[str, str]], local: bool = False) -> None:
        """CONFIG SET: all of the changes or none; ConfigError is the reply's text.

        local: the client may do what enable-protected-configs leaves to local ones.
        """
        with self.lock:
            rows = self._rows_to_set(pairs, local)
            before = [self.get_value(row.name) for row in rows]
            changed: list[Setting] = []
            for at, row in enumerate(rows):
                try:
                    if self._store(row, self._words(row, pairs[at][1])):
                        changed.append(row)
                except ConfigError as error:
                    self._put_back(rows[:at], before, ())
                    raise _set_failed(pairs[at][0].lower(), str(error)) from None
            self._apply(rows, before, changed, pairs)

    def set(self, name: str, value: object) -> None:
        """Gives a setting a typed value without running its hooks."""
        self.values[self.names[name].name] = value

    def _words(self, row: Setting, text: str) -> list[str]:
        if not row.multi:
            return [text]
        return text.split(" ") if text else []

    def _rows_to_set(self, pairs: list[tuple[str, str]], local: bool) -> list[Setting]:
        rows: list[Setting] = []
        failed: ConfigError | None = None
        for name, _ in pairs:
            row = find(self.names, name.lower())
            if row is None:
                failed = ConfigError(
                    f"ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
            elif "immutable" in row.marks:
                failed = _set_failed(name, "can't set immutable config")
            elif "protected" in row.marks and not self._may_set_protected(local):
                failed = _set_failed(name, "can't set protected config")
            elif "loading" in row.marks and self.is_loading():
                failed = ConfigError("LOADING Valkey is loading the dataset in memory")
            elif row in rows:
                failed = _set_failed(name, "duplicate parameter")
            if failed:
                raise failed
            rows.append(row)
        return rows

    def _may_set_protected(self, local: bool) -> bool:
        allowed = self.values["enable-protected-configs"]
        return allowed == "yes" or (allowed == "local" and local)

    def _store(self, row: Setting, words: list[str]) -> bool:
        """Parses and keeps a value; has it changed?"""
        old = self.values[row.name]
        value = parse_value(row, words)
        if row.name == "dir":
            return True
        if row.name == "client-output-buffer-limit":
            value = SPECIALS[row.name].merge(old, value)
        self.values[row.name] = value
        return value != old or "volatile" in row.marks

    def _apply(self, rows: list[Setting], before: list, changed: list[Setting],
               pairs: list[tuple[str, str]]) -> None:
        for at, row in enumerate(changed):
            try:
                self.run_hooks(row.name)
            except (ConfigError, OSError, ValueError) as error:
                self._put_back(rows, before, changed[: at + 1])
                names = {row.name: pair[0].lower() for row, pair in zip(rows, pairs, strict=True)}
                raise _set_failed(names[row.name], str(error)) from None

    def _put_back(self, rows: list[Setting], before: list, applied: tuple | list) -> None:
        for row, value in zip(rows, before, strict=False):
            if row.name == "dir":
                os.chdir(value)
            else:
                self.values[row.name] = value
        for row in applied:
            try:
                self.run_hooks(row.name)
            except (ConfigError, OSError, ValueError):
                pass  # the first failure is the one to report

    def run_hooks(self, name: str) -> None:
        """Runs a setting's hooks with its value."""
        for hook in find(self.hooks, name, ()):
            hook(self.get_value(name))

    # --- writing ---------------------------------------------------------------------------------

    def rewrite(self, path: str = "", force_all: bool = False) -> None:
        """CONFIG REWRITE: the file with its comments and order kept; OSError as it comes."""
        with self.lock:
            old = _OldFile(path or self.path, self.names)
            old.force_all = force_all
            for row in self.table.values():
                lines, force = self._file_lines(row)
                for line in lines:
                    old.put(row.name, line, force)
                old.done.add(row.name)
            for name, rewriter in self.rewriters.items():
                for line in rewriter():
                    old.put(name, line, True)
                old.done.add(name)
            old.write()

    def _file_lines(self, row: Setting) -> tuple[list[bytes], bool]:
        """A setting's lines, and whether they must be in the file."""
        name = row.name
        value = self.get_value(name)
        if row.kind == settings.SPECIAL:
            lines, force = SPECIALS[name].lines(value)
            return [bytes_of(f"{name} {line}") for line in lines], force
        force = value != row.default
        if row.kind == settings.STRING:
            if row.null and value == "":
                return [], False
            return [bytes_of(name) + b" " + quote(bytes_of(value))], force or row.null
        text = format_value(row, value)
        if row.kind in (settings.MEMORY, settings.PERCENT, settings.SIGNED) and value >= 0:
            text = format_memory(value)
        return [f"{name} {text}".encode()], force


class _OldFile:
    """A configuration file on its way to its next version."""

    SIGNATURE = b"# Generated by CONFIG REWRITE"

    def __init__(self, path: str, names: dict[str, Setting]):
        self.path = path
        self.lines: list[bytes] = []
        self.places: dict[str, list[int]] = {}  # setting -> its lines not yet taken
        self.done: set[str] = set()
        self.signed = False
        self.force_all = False
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return
        if content:
            for line in content.split(b"\n"):
                self._take(line.strip(b"\r\n\t "), names)

    def _take(self, line: bytes, names: dict[str, Setting]) -> None:
        if not line or line.startswith(b"#"):
            self.signed = self.signed or line == self.SIGNATURE
            self.lines.append(line)
            return
        words = split_args(line)
        name = text_of(words[0]).lower() if words else ""
        if name in names:
            name = names[name].name
        elif name not in _DIRECTIVES and name not in ("include", "sentinel"):
            self.lines.append(b"# ??? " + line)
            return
        self.places.setdefault(name, []).append(len(self.lines))
        self.lines.append(line)

    def put(self, name: str, line: bytes, force: bool) -> None:
        """A line of a setting: in the place of an old one, or, if forced, at the end."""
        places = find(self.places, name)
        if places:
            self.lines[places.pop(0)] = line
            return
        if not force and not self.force_all:
            return
        if not self.signed:
            self.lines.append(self.SIGNATURE)
            self.signed = True
        self.lines.append(line)

    def _content(self) -> bytes:
        for name, places in self.places.items():
            if name in self.done:
                for place in places:
                    self.lines[place] = b""
        kept = [line for at, line in enumerate(self.lines)
                if line or at == 0 or self.lines[at - 1]]
        return b"".join(line + b"\n" for line in kept)

    def write(self) -> None:
        """Replaces the file in one step."""
        content = self._content()
        temporary = f"{self.path}.{os.getpid()}.tmp"
        mask = os.umask(0o077)
        os.umask(mask)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                while content:
                    content = content[os.write(fd, content):]
                os.fsync(fd)
                os.fchmod(fd, 0o644 & ~mask)
            finally:
                os.close(fd)
            os.rename(temporary, self.path)
        except OSError:
            os.unlink(temporary)
            raise
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _set_failed(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _matcher(pattern: str) -> object:
    """Does a name fit a glob, whatever its case?"""
    from engine import glob
    wanted = pattern.encode("utf-8", "surrogateescape")
    return lambda name: glob.match(wanted, name.encode(), True)


def _read_files(path: str) -> bytes:
    """A file's bytes; those of all the files that a pattern names."""
    paths = [path]
    if _GLOB_CHARS.intersection(path):
        import glob
        paths = sorted(glob.glob(path))
    content = b""
    for name in paths:
        with open(name, "rb") as file:
            content += file.read()
    return content


def parse_args(argv: list[str]) -> tuple[str, bool, bytes]:
    """The file, whether stdin has settings too, and the options as lines of a file."""
    at = 0
    path = ""
    if argv and not argv[0].startswith("-"):
        path = argv[0]
        at = 1
    from_stdin = False
    lines: list[bytes] = []
    has_value = True
    while at < len(argv):
        word = bytes_of(argv[at])
        last = at == len(argv) - 1
        if argv[at] == "-" and (at == 0 or last):
            from_stdin = True
        elif has_value and word.startswith(b"--"):
            lines.append(word[2:] + b" ")
            has_value = len(split_args(word) or ()) != 1
            if not has_value:
                next_is_name = not last and argv[at + 1].startswith("--")
                if word.lower() == b"--save" and (last or next_is_name):
                    lines[-1] += b'""'
                    has_value = True
        else:
            if not lines:
                lines.append(b"")
            lines[-1] += quote(word) + b" "
            has_value = True
        at += 1
    return path, from_stdin, b"\n".join(lines)


config = Config()
