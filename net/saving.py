"""The data set on the disk: when it is saved, whether that went well, and how it comes back. The file itself is
persist's business; Valkey's words for the log are said here."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from errno import ENOENT

from engine import conf, inspect, store
from engine.commands import keys
from net import bridge, cron, log, shutdown, standin, version
from net.cluster import restored
from net.config import config
from persist import rdb, rdb_load, snapshot

SPAN_NAME_BYTES = 9
MODULE_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
EMPTY_LOGGED_MAX = 10
RETRY_S = 5                       # after a save that failed
MIB = 1 << 20
SLOW_STEP_KEYS = 64
CHECKSUM_VERSION = 5                # from this RDB version on a file ends in a checksum


class LoadFailed(Exception):
    """A file could not be loaded. fatal: some of it may be in memory already."""

    def __init__(self, fatal: bool):
        super().__init__()
        self.fatal = fatal


class Loading:
    """A load under way. offset: how many of its bytes are done."""

    def __init__(self, start_s: int, total_bytes: int, offset: Callable[[], int]):
        self.start_s = start_s
        self.total_bytes = total_bytes
        self.offset = offset
        self.used_mem = 0             # as the file says


class Background:
    """A save in the background: a thread, which is what Valkey's child process is."""

    kind = "rdb"

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        self.failed = False
        self.started_s = int(time.time())
        self.pid = 0                          # of what stands for it
        self.signal = signal.SIGUSR1          # by which it ended, if it is stopped: Valkey's own
        self.dirty = bridge.totals()["dirty"]
        state.child = self
        snapshot.begin(config.get_value("cluster-enabled"), head(), store.used_exact(),
                       config.get_value("rdb-key-save-delay"))
        threading.Thread(target=self._main, daemon=True, name="rdb_bgsave").start()
        self.began.wait()

    def stop(self) -> None:
        """It is not wanted any more; waits for its end."""
        log.notice(f"Killing running RDB child: {self.pid}")
        snapshot.stop()
        self.ended.wait()

    def _killed(self, number: int) -> None:
        self.signal = number
        snapshot.stop()

    def _main(self) -> None:
        child = standin.StandIn(self._killed)
        self.pid = child.pid
        self.began.set()
        temporary = f"temp-{self.pid}.rdb"
        try:
            self.set_cpus("bgsave-cpulist")
            self._write(temporary)
        except Exception as error:  # whatever it is, the server goes on
            log.warning(f"The save in the background fails: {error!r}")
            self.failed = True
        finally:
            child.end()
            state.last_duration_s = int(time.time()) - self.started_s
            state.copied = snapshot.figures()["copied"]
            if self.failed:
                log.warning("Background saving error")
                state.status_ok = False
            update_gate()                         # before anybody can see that it has ended
            state.child = None
            self.ended.set()

    def _write(self, temporary: str) -> None:
        number, stopped, made, _ = snapshot.run(temporary.encode(), config.get_value("rdbchecksum"))
        if number:
            say_write_error(number, made, temporary)
            remove(temporary)
            self.failed = True
        elif stopped:
            remove(temporary)
            log.warning(f"Background saving terminated by signal {self.signal:d}")
            if self.signal != signal.SIGUSR1:
                state.status_ok = False
        elif put_in_place(temporary, path()):
            log.notice("DB saved on disk")
            log.notice("Background saving terminated with success")
            state.saved_dirty = self.dirty
            state.last_save_s = int(time.time())
            state.status_ok = True
        else:
            self.failed = True

    @staticmethod
    def set_cpus(setting: str) -> None:
        """Where it may run; else it would stay on the processor of the worker that started it."""
        from net.special import cpu_list
        try:
            os.sched_setaffinity(0, cpu_list(config.get_value(setting)) or state.cpus)
        except OSError:
            pass


class State:
    """What INFO and the rules ask about."""

    def __init__(self) -> None:
        self.lock = threading.Lock()          # one save at a time
        self.saved_dirty = 0                  # the workers' count of changes when the last save began
        self.last_save_s = int(time.time())
        self.last_try_s = 0
        self.status_ok = True
        self.saves = 0
        self.last_duration_s = -1
        self.copied = 0                       # memory that the last save's copies took: slots changed meanwhile
        self.keys_loaded = 0
        self.keys_expired = 0
        self.functions = b""                  # libraries of the loaded file, as they stood there
        self.loading: Loading | None = None
        self.child: object = None             # a save, or a rewrite of the AOF, in the background (kind says which)
        self.scheduled = False
        self.emptied_saves = 0
        self.starting = threading.Lock()
        self.cpus = os.sched_getaffinity(0)   # before any thread is pinned


state = State()


def notice_emptied() -> None:
    """What FLUSHALL saved by itself counts as a save."""
    count, error, dirty = rdb.emptied_saves()
    if count == state.emptied_saves:
        return
    with state.lock:
        if count == state.emptied_saves:
            return
        state.emptied_saves = count
        if error:
            log.warning(f"Write error while saving DB to the disk(FLUSHALL): {os.strerror(error)}")
            return
        log.notice("DB saved on disk")
        state.saved_dirty = max(dirty, state.saved_dirty)
        state.last_save_s = int(time.time())
        state.status_ok = True
    update_gate()


def changes() -> int:
    """Changes to the data since the last save."""
    notice_emptied()
    return bridge.totals()["dirty"] - state.saved_dirty


def path() -> str:
    """The file's name, in the current folder (which `dir` sets)."""
    return config.get_value("dbfilename")


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "unknown"


# ---- saving


def put_in_place(temporary: str, name: str) -> bool:
    """Give a finished file its name."""
    try:
        os.rename(temporary, name)
    except OSError as error:
        log.warning(f"Error moving temp DB file {temporary} on the final destination {name} (in server root dir "
                    f"{_here()}): {error.strerror}")
        remove(temporary)
        return False
    try:
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        log.warning(f"Failed to fsync directory while saving DB: {error.strerror}")
        return False
    return True


def remove(temporary: str) -> None:
    """A file that nobody wants goes."""
    try:
        os.unlink(temporary)
    except OSError:
        pass


def head() -> bytes:
    """What an RDB file has before its keys: function libraries, slot imports that are under way."""
    return state.functions + restored.as_rdb()


def say_write_error(number: int, made: bool, temporary: str) -> None:
    """Why a file could not be written."""
    reason = os.strerror(number)
    if made:
        log.warning(f"Write error while saving DB to the disk(rdbSaveRio): {reason}")
    else:
        log.warning(f"Failed opening the temp RDB file {temporary} (in server root dir {_here()}) for saving: {reason}")


def save() -> bool:
    """Save now, in this thread; nothing is written to the data meanwhile."""
    temporary = f"temp-{os.getpid()}.rdb"
    with state.lock:
        dirty = bridge.totals()["dirty"]
        number, made = rdb.save(temporary.encode(), config.get_value("rdbchecksum"),
                                config.get_value("cluster-enabled"), head(), store.used_exact(),
                                config.get_value("rdb-key-save-delay"))
        if number:
            say_write_error(number, made, temporary)
            if made:
                remove(temporary)
            return False
        if not put_in_place(temporary, path()):
            return False
        log.notice("DB saved on disk")
        state.saved_dirty = dirty
        state.last_save_s = int(time.time())
        state.status_ok = True
        update_gate()
        return True


def start_background() -> bool:
    """BGSAVE; False: it cannot begin."""
    with state.starting:
        if state.child is not None:
            return False
        state.saves += 1
        state.last_try_s = int(time.time())
        child = Background()
    log.notice(f"Background saving started by pid {child.pid}")
    return True


def update_gate(_value: object = None) -> None:
    """Writes are refused while saves fail, if the settings want that."""
    refuse = not state.status_ok and config.get_value("stop-writes-on-bgsave-error") and config.get_value("save")
    conf.set("refuse_writes", int(bool(refuse)))


def plan_emptied(_value: object = None) -> None:
    """FLUSHALL saves where there are save points."""
    rdb.set_emptied_save(f"temp-{os.getpid()}.rdb".encode(), path().encode() if config.get_value("save") else b"",
                         config.get_value("rdbchecksum"), config.get_value("cluster-enabled"), state.functions)


def tick(_now_ms: int = 0) -> None:
    """From cron: the save points, and a save that waits for its turn."""
    notice_emptied()
    if state.child is not None:
        return
    now_s = int(time.time())
    may = state.status_ok or now_s - state.last_try_s > RETRY_S
    if not may:
        return
    if state.scheduled:
        state.scheduled = not start_background()
        return
    for seconds, least in config.get_value("save"):
        if changes() >= least and now_s - state.last_save_s > seconds:
            log.notice(f"{least} changes in {seconds} seconds. Saving...")
            start_background()
            return


# ---- loading


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _number(raw: bytes) -> int:
    try:
        return int(raw)
    except ValueError:
        return 0


def _say_aux(name: bytes, value: bytes) -> None:
    """What the file says of itself."""
    low = name.lower()
    if name.startswith(b"%"):
        log.notice(f"RDB '{_text(name)}': {_text(value)}")
    elif low == b"redis-ver":
        log.notice(f"Loading RDB produced by Redis version {_text(value)}")
    elif low == b"valkey-ver":
        log.notice(f"Loading RDB produced by Valkey version {_text(value)}")
    elif low == b"ctime":
        log.notice(f"RDB age {max(0, int(time.time()) - _number(value))} seconds")
    elif low == b"used-mem":
        if state.loading is not None:
            state.loading.used_mem = _number(value)
        log.notice(f"RDB memory usage when created {_number(value) / MIB:.2f} Mb")
    elif low == b"aof-base":
        if _number(value):
            log.notice("RDB is base AOF")
    elif low not in (b"repl-stream-db", b"repl-id", b"repl-offset", b"lua", b"redis-bits", b"slot-info"):
        log.debug(f"Unrecognized RDB AUX field: '{_text(name)}'")


def _broken(reason: str, corrupt: str = "") -> None:
    """The file is damaged: say so and give up."""
    if not corrupt:
        log.warning("Short read or OOM loading DB. Unrecoverable error, aborting now.")
    offset = rdb_load.figures()["offset"]
    log.warning(f"Internal error in RDB reading offset {offset} -> {reason}")
    log.warning("Terminating server after rdb file reading failure.")
    raise LoadFailed(True)


def _module_name(number: int) -> str:
    return "".join(MODULE_CHARS[number >> (10 + 6 * (SPAN_NAME_BYTES - 1 - at)) & 63] for at in range(SPAN_NAME_BYTES))


def _refuse(event: int, found: dict) -> None:
    """Events that end the load."""
    if event == rdb_load.SHORT:
        _broken("Unexpected EOF reading RDB file")
    if event == rdb_load.CORRUPT:
        _broken(f"The value of a key is corrupt, type {found['type']}", "value")
    if event == rdb_load.UNKNOWN:
        log.warning("Unknown type or opcode when loading DB. Unrecoverable error, aborting now.")
        raise LoadFailed(True)
    if event == rdb_load.FOREIGN:
        log.warning(f"Can't handle foreign type or opcode {found['type']} in RDB with version {found['version']}")
        raise LoadFailed(True)
    if event == rdb_load.DB:
        log.warning("FATAL: Data file was created with a Valkey server configured to handle more than "
                    f"{inspect.databases()} databases. Exiting")
    elif event == rdb_load.MODULE_AUX:
        log.warning("The RDB file contains AUX module data I can't load: no matching module "
                    f"'{_module_name(found['module'])}'")
    elif event == rdb_load.MODULE:
        log.warning("The RDB file contains module data I can't load: there are no modules here")
    elif event == rdb_load.FUNCTION_OLD:
        _broken("Pre-release function format not supported.", "function")
    elif event == rdb_load.DUPLICATE:
        log.warning(f"RDB has duplicated key '{_text(rdb_load.last_key())}' in DB {found['db']}")
    raise LoadFailed(True)


def _check_sum(ahead: list[int]) -> None:
    sums = rdb_load.checksum(ahead[0] if ahead else 0)
    if sums is None:
        _broken("Unexpected EOF reading RDB file")
    stored, computed = sums
    if not config.get_value("rdbchecksum") or rdb_load.figures()["version"] < CHECKSUM_VERSION:
        return
    if stored == 0:
        log.notice("RDB file was saved with checksum disabled: no check performed.")
    elif stored != computed and not checksum_skipped():
        log.warning(f"Wrong RDB checksum expected: ({computed:x}) but got ({stored:x}). Aborting now.")
        _broken("RDB CRC error", "crc")


def checksum_skipped() -> bool:
    """DEBUG SET-SKIP-CHECKSUM-VALIDATION"""
    from engine.commands import dump
    return dump.is_any_checksum()


def delay(keys: int) -> None:
    """key-load-delay: so many keys, or commands, are loaded. It is microseconds for each; negative: keys for each."""
    us = config.get_value("key-load-delay")
    time.sleep(keys * (us if us > 0 else -1 / us) / 1e6 if us else 0)


def _step() -> int:
    if not config.get_value("key-load-delay"):
        return rdb_load.step()
    before = rdb_load.figures()["keys"]
    event = rdb_load.step(SLOW_STEP_KEYS)
    delay(rdb_load.figures()["keys"] - before)
    return event


def _run() -> int:
    """Load what `begin` has opened; returns how many keys without an element were left out."""
    empty, functions = 0, []
    while True:
        event = _step()
        if event == rdb_load.MORE:
            continue
        if event == rdb_load.END:
            break
        if event == rdb_load.AUX:
            found = rdb_load.strings()
            if found is None:
                _broken("Unexpected EOF reading RDB file")
            if found[0] == rdb_load.SLOT_IMPORT:
                slots = found[1][1]
                restored.add(found[1][0], list(zip(slots[::2], slots[1::2], strict=True)))
            elif len(found[1]) == 2:
                _say_aux(*found[1])
            else:
                functions.append(found[2])
        elif event == rdb_load.EMPTY:
            if empty < EMPTY_LOGGED_MAX:
                hidden = config.get_value("hide-user-data-from-log")
                log.notice("rdbLoadObject skipping empty key"
                           + ("" if hidden else f": {_text(rdb_load.last_key())}"))
            empty += 1
        else:
            _refuse(event, rdb_load.figures())
    state.functions = b"".join(functions)
    return empty


def _begin(fd: int, merge: bool, now_ms: int) -> None:
    why = rdb_load.begin(fd, os.fstat(fd).st_size, config.get_value("rdb-version-check") == "relaxed", merge, now_ms)
    if why == "short":
        _broken("Unexpected EOF reading RDB file")
    if why == "magic":
        log.warning(f"Wrong signature trying to load DB from file: {_text(rdb_load.head()[0])}")
    elif why == "version":
        log.warning(f"Can't handle RDB format version {rdb_load.head()[1]}")
    elif why:
        log.warning("The RDB file cannot be mapped into memory")
    if why:
        raise LoadFailed(False)


def _load(fd: int, flush: bool, merge: bool, now_ms: int) -> int:
    """Load an open file; returns where its contents end. What had expired by now_ms is left out; 0: nothing is."""
    try:
        _begin(fd, merge, now_ms)
        ahead: list[int] = []
        threads = [threading.Thread(target=rdb_load.help_along, daemon=True)]
        if config.get_value("rdbchecksum"):
            threads.append(threading.Thread(target=lambda: ahead.append(rdb_load.crc_ahead()), daemon=True))
        for thread in threads:
            thread.start()
        try:
            if flush:
                log.notice("RDB signature and version check passed. Flushing old data")
                keys.empty_held()
            empty = _run()
        finally:
            rdb_load.helped()
            for thread in threads:
                thread.join()
        _check_sum(ahead)
    finally:
        found = rdb_load.figures()
        rdb_load.done()
    state.keys_loaded, state.keys_expired = found["loaded"], found["expired"]
    skipped = f", empty keys skipped: {empty}" if empty else ""
    log.notice(f"Done loading RDB, keys loaded: {found['loaded']}, keys expired: {found['expired']}{skipped}, "
               f"all fields expired hashes: {found['all_fields_expired']}.")
    return found["offset"]


def load_file(name: str, flush: bool = False, merge: bool = False) -> bool:
    """Load a file while nothing else touches the data; False: there is none. LoadFailed: it cannot be loaded."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == ENOENT:
            return False
        log.warning(f"Fatal error: can't open the RDB file {name} for reading: {error.strerror}")
        raise LoadFailed(False) from None
    try:
        _load(fd, flush, merge, time.time_ns() // 1_000_000)
    finally:
        os.close(fd)
    return True


def load_preamble(fd: int) -> int:
    """Load the RDB form that an append-only file begins with; returns where its commands begin. Expired keys stay:
    the commands may be about them."""
    return _load(fd, False, False, 0)


@contextlib.contextmanager
def held(total_bytes: int, offset: Callable[[], int]) -> Iterator[None]:
    """While the data set is loaded: all locks, and what INFO says of it. offset: how many bytes of total are done."""
    store.hold_all()
    state.loading = Loading(int(time.time()), total_bytes, offset)
    try:
        yield
    finally:
        state.loading = None
        store.let_go()


def loading_info() -> list[tuple[str, object]]:
    """INFO persistence: how far a load is."""
    load = state.loading
    if load is None:
        return []
    done = min(max(load.offset(), 0), load.total_bytes)
    elapsed = int(time.time()) - load.start_s
    return [
        ("loading_start_time", load.start_s),
        ("loading_total_bytes", load.total_bytes),
        ("loading_rdb_used_mem", load.used_mem),
        ("loading_loaded_bytes", done),
        ("loading_loaded_perc", f"{100 * done / load.total_bytes if load.total_bytes else 0:.2f}"),
        ("loading_eta_seconds", elapsed * (load.total_bytes - done) // (done + 1) if elapsed else 1),
    ]


def _size(name: str) -> int:
    try:
        return os.stat(name).st_size
    except OSError:
        return 0


def load_at_start() -> None:
    """Brings the data back before clients' commands run."""
    from net.main import StartError
    if config.get_value("appendonly"):
        return                                # net/appendonly brings it back
    start_s = time.monotonic()
    try:
        with held(_size(path()), lambda: rdb_load.figures()["offset"]):
            there = load_file(path())
        if there:
            log.notice(f"DB loaded from disk: {time.monotonic() - start_s:.3f} seconds")
    except LoadFailed:
        raise StartError("Fatal error loading the DB, check server logs. Exiting.") from None
    state.saved_dirty = bridge.totals()["dirty"]
    plan_emptied()


def reload(flush: bool, save_first: bool, merge: bool) -> bool:
    """DEBUG RELOAD; False: it cannot be saved. LoadFailed: it cannot be loaded; the process ends if data is gone."""
    if save_first and not save():
        return False
    with state.lock:
        store.hold_all()
        try:
            snapshot.rest()
            if not load_file(path(), flush, merge):
                raise LoadFailed(False)
        except LoadFailed as failure:
            if failure.fatal and flush:
                os._exit(1)
            raise
        finally:
            store.let_go()
    plan_emptied()
    restored.loaded_again()
    log.notice("DB reloaded by DEBUG RELOAD")
    return True


# ---- rules and the end


def before_exit(flags: frozenset) -> None:
    """The last save, if there are save points or it was asked for."""
    child = state.child
    if child is not None and child.kind == "rdb":
        log.warning("There is a child saving an .rdb. Killing it!")
        child.stop()
    if "save" not in flags and ("nosave" in flags or not config.get_value("save")):
        return
    log.notice("Saving the final RDB snapshot before exiting.")
    bridge.pause(2, 1 << 62)     # what comes after the save would be lost
    if not save():
        bridge.pause(0)
        raise shutdown.Refused("Error trying to save the DB")


def copied() -> int:
    """Memory that the save under way has taken for slots that were about to change: the copy on write of a fork."""
    return snapshot.figures()["copied"] if state.child is not None else 0


def info() -> list[tuple[str, object]]:
    """INFO persistence, the lines about RDB."""
    child = state.child if state.child is not None and state.child.kind == "rdb" else None
    done = snapshot.figures() if state.child is not None else {"keys": 0, "keys_total": 0}
    return [
        ("current_fork_perc", f"{100 * done['keys'] / done['keys_total'] if done['keys_total'] else 0:.2f}"),
        ("current_save_keys_processed", done["keys"]),
        ("current_save_keys_total", done["keys_total"]),
        ("rdb_changes_since_last_save", changes()),
        ("rdb_bgsave_in_progress", int(child is not None)),
        ("rdb_last_save_time", state.last_save_s),
        ("rdb_last_bgsave_status", "ok" if state.status_ok else "err"),
        ("rdb_last_bgsave_time_sec", state.last_duration_s),
        ("rdb_current_bgsave_time_sec", int(time.time()) - child.started_s if child is not None else -1),
        ("rdb_saves", state.saves),
        ("rdb_last_cow_size", state.copied),
        ("rdb_last_load_keys_expired", state.keys_expired),
        ("rdb_last_load_keys_loaded", state.keys_loaded),
    ]


rdb.set_version(version.VALKEY.encode())
cron.ON_START.append(load_at_start)
cron.LOAD_BYTES.append(lambda: 0 if config.get_value("appendonly") else _size(path()))
cron.CRON.append(tick)
shutdown.BEFORE_EXIT.append(before_exit)
def save_points_changed(_value: object) -> None:
    """CONFIG SET save, dbfilename"""
    update_gate()
    plan_emptied()


for setting_name in ("save", "dbfilename"):
    config.on_change(setting_name, save_points_changed)
config.on_change("stop-writes-on-bgsave-error", update_gate)
