"""Loading the append-only files: Valkey's decisions and words. What a file says is persist/aof_load's business."""

import mmap
import os
import time

from engine import store
from engine.commands import keys
from net import appendonly, bridge, log, saving
from net.config import config
from persist import aof, aof_load, incr_index, snapshot
from persist.manifest import Manifest, Part

MAGIC_BYTES = 6


def _fail(text: str) -> None:
    from net.main import StartError
    raise StartError(text)


def _raw(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def check_index(part: Part) -> None:
    """Where an increment has a side file, damage is found before anything of it is believed."""
    path = appendonly.place(part.name)
    raw = _raw(path + appendonly.INDEX)
    if not raw:
        return
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                incr_index.check(data, raw)
            except incr_index.Damage as damage:
                _fail(f"Bad file format reading the append only file {part.name}: {damage}. Restore it from a backup; "
                      f"or remove {part.name}{appendonly.INDEX} to load it without the check of sums.")


def mend_index(path: str, index_fd: int) -> None:
    """The side file reaches to the increment's end, and no further, before more is written."""
    raw = _raw(path + appendonly.INDEX)
    size = os.stat(path).st_size
    length = incr_index.rows_bytes(raw, size)
    os.ftruncate(index_fd, length)
    begin = max((block.end for block in incr_index.blocks(raw[:length])), default=0)
    with open(path, "rb") as file:
        file.seek(begin)
        if begin < size:
            os.write(index_fd, incr_index.row(file.read(size - begin), size))


def _cut(part: Part, valid: int) -> None:
    """aof-load-truncated: what comes after the last whole command goes."""
    log.warning("!!! Warning: short read while loading the AOF file!!!")
    if not config.get_value("aof-load-truncated"):
        _fail(f"Unexpected end of file reading the append only file {part.name}. You can: 1) Make a backup of your AOF "
              "file, then use ./valkey-check-aof --fix <filename.manifest>. 2) Alternatively you can set the "
              "'aof-load-truncated' configuration option to yes and restart the server.")
    log.warning(f"AOF {part.name} loaded anyway because aof-load-truncated is enabled")
    log.warning(f"Truncating the AOF {part.name} at offset {valid}")
    try:
        os.truncate(appendonly.place(part.name), valid)
    except OSError as error:
        _fail(f"Error truncating the AOF file {part.name}: {error.strerror}")


def _preamble(part: Part, fd: int, magic: bytes) -> int:
    """An RDB file at the beginning; returns where it ends."""
    if not magic.startswith((b"REDIS", b"VALKEY")):
        return 0
    log.notice("Reading RDB base file on AOF loading..." if part.name.endswith(".rdb")
               else "Reading RDB preamble from AOF file...")
    try:
        return saving.load_open(fd)
    except saving.LoadFailed:
        _fail(f"Error reading the RDB preamble of the AOF file {part.name}, AOF loading aborted")
    return 0


def _refuse(part: Part, event: int) -> None:
    """What a file says that cannot be loaded."""
    if event == aof_load.UNKNOWN:
        words = aof_load.words()
        _fail(f"Unknown command '{words[0].decode('utf-8', 'replace') if words else ''}' reading the append only file "
              f"{part.name}")
    _fail(f"Bad file format reading the append only file {part.name}: make a backup of your AOF file, then use "
          "./valkey-check-aof --fix <filename.manifest>")


def _commands(part: Part, fd: int, offset: int, is_last: bool) -> None:
    """The commands of a file, from offset on."""
    size = os.fstat(fd).st_size
    try:
        if not aof_load.begin(fd, size, offset):
            _fail(f"The append only file {part.name} cannot be mapped into memory")
        event = aof_load.step()
        while event == aof_load.MORE:
            event = aof_load.step()
        valid = aof_load.figures()["valid"]
        if event == aof_load.SHORT:
            if aof_load.figures()["in_multi"]:
                log.warning(f"Revert incomplete MULTI/EXEC transaction in AOF file {part.name}")
            if not is_last:
                log.warning("Fatal error: the truncated file is not the last file")
                _fail(f"The AOF file {part.name} ends within a command")
        elif event != aof_load.END:
            _refuse(part, event)
    finally:
        aof_load.end()
    if event == aof_load.SHORT:
        _cut(part, valid)


def _load(part: Part, is_last: bool) -> None:
    """One file: an RDB preamble, if it has one, then commands."""
    path = appendonly.place(part.name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        _fail(f"Fatal error: can't open the append log file {part.name} for reading: {error.strerror}")
    try:
        offset = _preamble(part, fd, os.pread(fd, MAGIC_BYTES, 0))
        _commands(part, fd, offset, is_last)
    finally:
        os.close(fd)


def load_held(manifest: Manifest) -> None:
    """DEBUG LOADAOF: everything is loaded again; nobody else may touch the data meanwhile, or the log."""
    from net.main import StartError
    store.hold_all()
    try:
        aof.flush()
        snapshot.rest()
        keys.empty_held()
        load_all(manifest)
    except StartError as error:        # the data is gone: as Valkey does
        log.warning(str(error))
        os._exit(1)
    finally:
        store.let_go()
    saving.state.saved_dirty = bridge.totals()["dirty"]


def load_all(manifest: Manifest) -> bool:
    """Everything that the manifest names; False: it names nothing, or only empty files."""
    parts = manifest.parts()
    if not parts:
        return False
    total = 0
    for part in parts:
        try:
            total += os.stat(appendonly.place(part.name)).st_size
        except OSError as error:
            _fail(f"Unable to obtain the AOF file {part.name} length. stat: {error.strerror}")
    if total == 0:
        return False
    for number, part in enumerate(parts, 1):
        start_s = time.monotonic()
        if part.kind != b"b":
            check_index(part)
        _load(part, number == len(parts))
        kind = "base" if part.kind == b"b" else "incr"
        log.notice(f"DB loaded from {kind} file {part.name}: {time.monotonic() - start_s:.3f} seconds")
    return True
