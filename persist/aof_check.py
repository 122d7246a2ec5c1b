"""One append-only file loaded, and what its outcome means: Valkey's words for the log. What follows from it (whether
a truncated file may be the last one, what the server does) is net/appendonly's to decide."""

import os
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from persist import aof_load

MAGICS = (b"REDIS0", b"VALKEY")
WORDS_SHOWN_BYTES = 128
SLOW_STEP_BYTES = 4096


class Outcome(Enum):
    """How the load of a file ended. OK, MISSING and EMPTY leave nothing to say that is an error of the file."""

    OK = "ok"
    MISSING = "missing"                # there is no such file
    EMPTY = "empty"                    # it has no byte
    OPEN_FAILED = "open failed"        # errno says why
    READ_FAILED = "read failed"        # it cannot be mapped: errno
    TRUNCATED = "truncated"            # it ends within a command or a transaction; all before `valid` was run
    FORMAT = "format"                  # at `offset` stands no command
    COMMAND = "command"                # one that does not exist, or of a wrong number of words: `error`
    FOREIGN = "foreign"                # one that has no place in such a file (of connections, of the control plane)


ENDS = {aof_load.END: Outcome.OK, aof_load.SHORT: Outcome.TRUNCATED, aof_load.FORMAT: Outcome.FORMAT,
        aof_load.UNKNOWN: Outcome.COMMAND, aof_load.ARITY: Outcome.COMMAND, aof_load.FOREIGN: Outcome.FOREIGN}


class Loaded(NamedTuple):
    """What came of a file."""

    outcome: Outcome
    name: str
    errno: int = 0
    size: int = 0
    offset: int = 0                    # of the first command that was not run
    valid: int = 0                     # the file could be cut here and would be whole
    in_multi: bool = False             # it ends within a transaction
    commands: int = 0                  # that were run
    errors: int = 0                    # of these replied an error
    first_error: bytes = b""
    failed: bytes = b""                # the command that replied it
    error: str = ""
    db: int = 0                        # database that is selected at the end
    notes: Sequence[list[bytes]] = ()  # CLUSTER SYNCSLOTS commands


def begins_with_rdb(path: str | bytes) -> bool:
    """Is it an RDB file, or one with such a preamble?"""
    with open(path, "rb") as file:
        return file.read(6) in MAGICS


def load(path: str | bytes, preamble: Callable[[int], int], progress: Callable[[int], None] | None = None,
         name: str = "", delay: Callable[[int], None] | None = None) -> Loaded:
    """Load a file, while no other thread touches the data. preamble: loads the RDB file that the descriptor begins
    with and says where it ends (net.saving.load_preamble); its exceptions go through. progress: told how many bytes
    are loaded, every two megabytes. delay: called after every few commands with their number, to slow it down."""
    name = name or os.path.basename(os.fsdecode(path))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Loaded(Outcome.MISSING, name)
    except OSError as error:
        return Loaded(Outcome.OPEN_FAILED, name, errno=error.errno or 0)
    try:
        size = os.fstat(fd).st_size
        if not size:
            return Loaded(Outcome.EMPTY, name)
        offset = preamble(fd) if os.pread(fd, 6, 0) in MAGICS else 0
        if progress is not None:
            progress(offset)
        return _load_commands(fd, name, size, offset, progress, delay)
    except OSError as error:
        return Loaded(Outcome.READ_FAILED, name, errno=error.errno or 0)
    finally:
        os.close(fd)


def _load_commands(fd: int, name: str, size: int, offset: int, progress: Callable[[int], None] | None,
                   delay: Callable[[int], None] | None) -> Loaded:
    try:
        if not aof_load.begin(fd, size, offset):
            return Loaded(Outcome.READ_FAILED, name, size=size, offset=offset, valid=offset)
        while (end := aof_load.step() if delay is None else _slow_step(delay)) == aof_load.MORE:
            if progress is not None:
                progress(aof_load.figures()["offset"])
        found = aof_load.figures()
        words, notes = aof_load.words(), aof_load.notes()
    finally:
        aof_load.end()
    if progress is not None:
        progress(found["offset"])
    error = ""
    if end == aof_load.ARITY:
        error = f"wrong number of arguments for '{_text(found['refused'])}' command"
    elif end in (aof_load.UNKNOWN, aof_load.FOREIGN):
        error = _unknown(words, found["container"])
    return Loaded(ENDS[end], name, 0, size, found["offset"], found["valid"], found["in_multi"], found["commands"],
                  found["errors"], found["first_error"], found["failed"], error, found["db"], notes)


def _slow_step(delay: Callable[[int], None]) -> int:
    before = aof_load.figures()["commands"]
    end = aof_load.step(SLOW_STEP_BYTES)
    delay(aof_load.figures()["commands"] - before)
    return end


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape").replace("\r", " ").replace("\n", " ")


def _unknown(words: list[bytes], container: bool) -> str:
    """Valkey's commandCheckExistence."""
    if container:
        return f"unknown subcommand '{_text(words[1][:WORDS_SHOWN_BYTES])}'. Try {_text(words[0].upper())} HELP."
    shown = b""
    for word in words[1:]:
        if len(shown) >= WORDS_SHOWN_BYTES:
            break
        shown += b"'" + word[:WORDS_SHOWN_BYTES - len(shown)] + b"' "
    return f"unknown command '{_text(words[0][:WORDS_SHOWN_BYTES])}', with args beginning with: {_text(shown)}"


# ---- Valkey's words for the log


def truncated_lines(loaded: Loaded) -> list[str]:
    """Before a truncated file is cut at `valid` (aof-load-truncated yes)."""
    return [*reverted_lines(loaded),
            f"!!! Warning: short read while loading the AOF file {loaded.name}!!!",
            f"!!! Truncating the AOF {loaded.name} at offset {loaded.valid} !!!"]


def reverted_lines(loaded: Loaded) -> list[str]:
    """Of a file that ends within a transaction, whatever aof-load-truncated says."""
    if not loaded.in_multi:
        return []
    return [f"Revert incomplete MULTI/EXEC transaction in AOF file {loaded.name}"]


def anyway_line(loaded: Loaded) -> str:
    """After it was cut."""
    return f"AOF {loaded.name} loaded anyway because aof-load-truncated is enabled"


def cut(loaded: Loaded, path: str | bytes) -> str:
    """Cut a truncated file at `valid`: "", or Valkey's word for why that failed (fatal_line is said next)."""
    try:
        os.truncate(path, loaded.valid)
    except OSError as error:
        return f"Error truncating the AOF file {loaded.name}: {error.strerror}"
    return ""


def critical_line(loaded: Loaded) -> str:
    """Commands replied errors: the first of them; "": none did."""
    if not loaded.errors:
        return ""
    return ("== CRITICAL == This server is sending an error to its AOF-loading-client: "
            f"'-{_text(loaded.first_error)}' after processing the command '{_text(loaded.failed)}'")


def fatal_line(loaded: Loaded) -> str:
    """Why a file cannot be loaded; "": it can."""
    name = loaded.name
    if loaded.outcome is Outcome.MISSING:
        return f"The append log file {name} doesn't exist: No such file or directory"
    if loaded.outcome is Outcome.OPEN_FAILED:
        return f"Fatal error: can't open the append log file {name} for reading: {os.strerror(loaded.errno)}"
    if loaded.outcome is Outcome.READ_FAILED:
        return f"Unrecoverable error reading the append only file {name}: {os.strerror(loaded.errno)}"
    if loaded.outcome is Outcome.TRUNCATED:
        return (f"Unexpected end of file reading the append only file {name}. You can: "
                "1) Make a backup of your AOF file, then use ./valkey-check-aof --fix <filename.manifest>. "
                "2) Alternatively you can set the 'aof-load-truncated' configuration option to yes and restart the "
                "server.")
    if loaded.outcome is Outcome.FORMAT:
        return (f"Bad file format reading the append only file {name}: "
                "make a backup of your AOF file, then use ./valkey-check-aof --fix <filename.manifest>")
    if loaded.outcome in (Outcome.COMMAND, Outcome.FOREIGN):
        return f"Error reading the append only file {name}, error: {loaded.error}"
    return ""
