"""Loading the append-only files: Valkey's decisions and words. What a file says is persist/aof_load's business."""

import mmap
import os
import time

from engine import store
from engine.commands import keys
from net import appendonly, bridge, log, saving
from net.cluster import restored
from net.config import config
from persist import aof, aof_check, extents, incr_index, snapshot
from persist.aof_check import Loaded, Outcome
from persist.manifest import Manifest, Part


class State:
    """How far a load is."""

    done = 0                           # bytes


state = State()


def _fail(text: str) -> None:
    from net.main import StartError
    raise StartError(text)


def _raw(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def cut_ahead(part: Part) -> None:
    """After a kill an increment may have room ahead of its end (persist/prealloc): it goes before the file is read."""
    path = appendonly.place(part.name)
    size = _size(part)
    if size == 0:
        return
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            end = incr_index.end_of(data, _raw(path + appendonly.INDEX))
        if end < size:
            os.truncate(path, end)
    except OSError as error:           # a loader skips the room; where the file cannot be read, it says so
        log.warning(f"Could not look for the end of the records in {part.name}, or cut it there: {error.strerror}")


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
            except incr_index.Replaced:
                _without_sums(part)
            except incr_index.Damage as damage:
                _fail(f"Bad file format reading the append only file {part.name}: {damage}. Restore it from a backup; "
                      f"or remove {part.name}{appendonly.INDEX} to load it without the check of sums.")


def _without_sums(part: Part) -> None:
    """Somebody has edited a file, or put another one in its place: it is believed, what we know of it is not."""
    log.warning(f"{part.name} is not the file that {part.name}{appendonly.INDEX} is about, somebody has changed it: it "
                "is loaded without the check of sums")
    os.unlink(appendonly.place(part.name + appendonly.INDEX))


def check_base(part: Part) -> None:
    """Where a base has an index, each of its extents has the sum that it was written with. A base is on the disk before
    it gets its name, so one of another length was changed by somebody, unless it is the same up to where it ends."""
    path = appendonly.place(part.name)
    index = None
    try:
        index = extents.read_index(path + appendonly.INDEX)
        if index is not None:
            extents.verify(path, index)
    except extents.Damage as damage:
        size = os.stat(path).st_size
        if index is not None and (size > index.base_bytes or (size < index.base_bytes and damage.is_of_content)):
            _without_sums(part)
            return
        _fail(f"Bad file format reading the append only file {part.name}: {damage}. Restore it from a backup; or "
              f"remove {part.name}{appendonly.INDEX} to load it without the check of sums.")


def mend_index(path: str, index_fd: int) -> None:
    """The side file reaches to the increment's end, and no further, before more is written."""
    raw = _raw(path + appendonly.INDEX)
    size = os.stat(path).st_size
    length = incr_index.rows_bytes(raw, size)
    os.ftruncate(index_fd, length)
    begin = incr_index.reach(raw[:length])
    with open(path, "rb") as file:
        file.seek(begin)
        while begin < size:
            data = file.read(min(size - begin, incr_index.ROW_BYTES_MAX))
            begin += len(data)
            os.write(index_fd, incr_index.row(data, begin))


def _preamble(part: Part, fd: int) -> int:
    """The RDB form that a file begins with; returns where its commands begin."""
    log.notice("Reading RDB base file on AOF loading..." if part.name.endswith(".rdb")
               else "Reading RDB preamble from AOF file...")
    try:
        return saving.load_preamble(fd)
    except saving.LoadFailed:
        _fail(f"Error reading the RDB preamble of the AOF file {part.name}, AOF loading aborted")
    return 0


def _truncated(part: Part, loaded: Loaded, is_last: bool) -> None:
    """It ends within a command: what comes after the last whole one goes, if that may be (aof-load-truncated)."""
    if not config.get_value("aof-load-truncated"):
        for line in aof_check.reverted_lines(loaded):
            log.warning(line)
        _fail(aof_check.fatal_line(loaded))
    for line in aof_check.truncated_lines(loaded):
        log.warning(line)
    failed = aof_check.cut(loaded, appendonly.place(part.name))
    if failed:
        log.warning(failed)
        _fail(aof_check.fatal_line(loaded))
    log.warning(aof_check.anyway_line(loaded))
    if not is_last:
        _fail("Fatal error: the truncated file is not the last file")


def _load(part: Part, is_last: bool, before: int) -> None:
    """One file: an RDB preamble, if it has one, then commands. before: bytes of the files loaded already."""
    def progress(done: int) -> None:
        state.done = before + done

    loaded = aof_check.load(appendonly.place(part.name), lambda fd: _preamble(part, fd), progress, part.name,
                            saving.delay if config.get_value("key-load-delay") else None)
    for words in loaded.notes:
        restored.note(words)
    if aof_check.critical_line(loaded):
        log.warning(aof_check.critical_line(loaded))
    if loaded.outcome is Outcome.TRUNCATED:
        _truncated(part, loaded, is_last)
    elif aof_check.fatal_line(loaded):
        _fail(aof_check.fatal_line(loaded))


def load_held() -> None:
    """DEBUG LOADAOF: everything is loaded again; nobody else may touch the data meanwhile, or the log."""
    from net.main import StartError
    with appendonly.state.changing:
        store.hold_all()
        try:
            aof.flush()
            aof.cut()
            snapshot.rest()
            keys.empty_held()
            appendonly.state.manifest = appendonly.read_manifest()
            load_all(appendonly.state.manifest)
        except StartError as error:        # the data is gone: as Valkey does
            log.warning(str(error))
            os._exit(1)
        finally:
            store.let_go()
    saving.state.saved_dirty = bridge.totals()["dirty"]
    restored.loaded_again()


def _size(part: Part) -> int:
    try:
        return os.stat(appendonly.place(part.name)).st_size
    except OSError as error:
        _fail(f"Unable to obtain the AOF file {part.name} length. stat: {error.strerror}")
    return 0


def load_at_start(manifest: Manifest) -> bool:
    """As load_all, under all locks, with what INFO says meanwhile."""
    parts = manifest.parts()
    with saving.held(sum(map(_size, parts)), lambda: state.done):
        return load_all(manifest)


def load_all(manifest: Manifest) -> bool:
    """Everything that the manifest names; False: it names nothing, or only empty files."""
    parts = manifest.parts()
    if not parts:
        return False
    if sum(map(_size, parts)) == 0:
        return False
    before = 0
    for number, part in enumerate(parts, 1):
        start_s = time.monotonic()
        if part.kind == b"b":
            check_base(part)
        else:
            cut_ahead(part)
            check_index(part)
        _load(part, number == len(parts), before)
        before += _size(part)
        kind = "base" if part.kind == b"b" else "incr"
        log.notice(f"DB loaded from {kind} file {part.name}: {time.monotonic() - start_s:.3f} seconds")
    return True
