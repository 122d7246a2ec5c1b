"""The append-only files: what is loaded at the start, where effects go, rewrites, fsync, INFO. How a file is written is
persist/aof's business, how it is read persist/aof_load's; Valkey's words for the log are said here."""

import os
import signal
import threading
import time
from errno import ENOENT

from engine import store
from net import acks, bridge, cron, log, saving, shutdown, standin
from net.cluster import restored
from net.config import ConfigError, config
from persist import aof, commands_out, snapshot
from persist.manifest import Manifest, ManifestError, Part, parse

OFF, ON, WAIT_REWRITE = "off", "on", "wait_rewrite"   # WAIT_REWRITE: switched on, the first base is being written
INDEX_MAGIC = b"SLOTRIX1"
INDEX = ".idx"
FSYNC_S = 1.0
ERROR_LOG_S = 30.0
RETRY_S = 1.0
LIMIT_FAILURES = 3                 # from so many rewrites that failed on, they are tried more and more seldom
LIMIT_MINUTES_MAX = 60


class State:
    """What INFO and the rules ask about."""

    def __init__(self) -> None:
        self.mode = OFF
        self.manifest = Manifest()
        self.fd = -1
        self.index_fd = -1
        self.closed_bytes = 0             # of all files but the one that is written
        self.base_bytes = 0               # of the whole after the last rewrite
        self.scheduled = False
        self.rewrites = 0
        self.failures = 0
        self.rewrite_ok = True
        self.next_try_s = 0.0             # 0: no time is set
        self.wait_minutes = 0
        self.last_duration_s = -1
        self.copied = 0                # as saving.state.copied
        self.delayed_fsyncs = 0
        self.error_logged_s = 0.0
        self.retried_s = 0.0
        self.write_ok = True
        self.syncing = threading.Event()  # set: the thread has an fsync to do
        self.sync_began_s = 0.0
        self.sync_thread: threading.Thread | None = None
        self.changing = threading.RLock()

    def bytes(self) -> int:
        """Of all files."""
        return self.closed_bytes + (aof.figures()["bytes"] if self.fd >= 0 else 0)


state = State()


def set_mode(mode: str) -> None:
    """OFF, ON or WAIT_REWRITE; who waits for the disk is told."""
    state.mode = mode
    aof.set_mode({OFF: aof.OFF, WAIT_REWRITE: aof.FIRST, ON: aof.ON}[mode])
    acks.wake()


def stem() -> str:
    """What the names begin with."""
    return config.get_value("appendfilename")


def place(name: str) -> str:
    """A file of the append-only folder."""
    return os.path.join(config.get_value("appenddirname"), name)


def _file_bytes(name: str) -> int:
    try:
        return os.stat(place(name)).st_size
    except OSError:
        return 0


# ---- files


def sync_folder() -> None:
    """A rename is on the disk when its folder is."""
    fd = os.open(config.get_value("appenddirname"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def put_manifest(manifest: Manifest) -> None:
    """Write it beside the old one, on the disk, then in its place. OSError."""
    name = f"{stem()}.manifest"
    temporary = place(f"temp-{name}")
    with open(temporary, "wb") as file:
        file.write(manifest.text())
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, place(name))
    sync_folder()
    state.manifest = manifest


def open_incr(name: str, truncate: bool) -> tuple[int, int]:
    """An increment, and its side file, which is open for appending."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if truncate else 0)
    fd = os.open(place(name), flags, 0o644)
    try:
        index_fd = os.open(place(name + INDEX), flags | os.O_APPEND, 0o644)
        if os.fstat(index_fd).st_size == 0:
            os.write(index_fd, INDEX_MAGIC)
    except OSError:
        index_fd = -1                     # it can be rebuilt, it need not be there
    return fd, index_fd


def close_files(fd: int, index_fd: int) -> int:
    """An increment that nobody writes any more, on the disk; returns the errno where that fails."""
    failed = 0
    for each in (index_fd, fd):
        if each >= 0:
            try:
                os.fdatasync(each)
            except OSError as error:
                failed = (error.errno or 0) if each == fd else 0
                log.warning(f"Fail to fsync the AOF file: {error.strerror}")
            os.close(each)
    return failed


def close_replaced(generation: int, fd: int, index_fd: int) -> None:
    """After a rewrite has begun another increment, in a thread."""
    aof.closed(generation, close_files(fd, index_fd))
    acks.wake()


def remove(name: str) -> None:
    """A file of the folder and what lies beside it."""
    for each in (name, name + INDEX):
        try:
            os.unlink(place(each))
        except OSError:
            pass


def drop_history(_value: object = None) -> None:
    """Deletes what a finished rewrite has replaced."""
    if config.get_value("aof-disable-auto-gc") or not state.manifest.history:
        return
    for part in state.manifest.history:
        log.notice(f"Removing the history file {part.name} in the background")
        remove(part.name)
    try:
        put_manifest(state.manifest.without_history())
    except OSError as error:
        log.warning(f"Fail to persist the AOF manifest file: {error.strerror}")


# ---- fsync and errors


def _sync_main() -> None:
    while True:
        state.syncing.wait()
        error = aof.sync()
        if error:
            log.warning(f"Fail to fsync the AOF file: {os.strerror(error)}")
        acks.wake()
        state.syncing.clear()


def _sync_each_second(now_s: float) -> None:
    _, written, synced = aof.position()
    if written == synced or config.get_value("appendfsync") == "no" or now_s - state.sync_began_s < FSYNC_S:
        return                            # (with "always" it is for what nobody waits for)
    if config.get_value("no-appendfsync-on-rewrite") and saving.state.child is not None:
        return
    if state.syncing.is_set():
        state.delayed_fsyncs += 1
        log.notice("Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting "
                   "for fsync to complete, this may slow down the server.")
        state.sync_began_s = now_s
        return
    if state.sync_thread is None:
        state.sync_thread = threading.Thread(target=_sync_main, daemon=True, name="bio_aof")
        state.sync_thread.start()
    state.sync_began_s = now_s
    state.syncing.set()


def _look_for_errors(now_s: float) -> None:
    found = aof.figures()
    error, by_sync = found["fatal"]
    if error and by_sync:
        log.warning("Can't persist AOF for fsync error when the AOF fsync policy is 'always': "
                    f"{os.strerror(error)}. Exiting...")
        os._exit(1)
    if error:
        log.warning(f"Error writing to the AOF file: {os.strerror(error)}")
        log.warning("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...")
        os._exit(1)
    if found["errno"]:
        state.write_ok = False
        if now_s - state.error_logged_s >= ERROR_LOG_S:
            state.error_logged_s = now_s
            log.warning(f"Error writing to the AOF file: {os.strerror(found['errno'])}")
        if now_s - state.retried_s >= RETRY_S:
            state.retried_s = now_s
            aof.flush()
    elif not state.write_ok:
        state.write_ok = True
        state.error_logged_s = 0.0
        log.warning("AOF write error looks solved. The server can write again.")


def use_policy(_value: object = None) -> None:
    """appendfsync, aof-timestamp-enabled"""
    aof.set_policy(config.get_value("appendfsync") == "always", config.get_value("aof-timestamp-enabled"))


# ---- rewriting


class Rewrite:
    """BGREWRITEAOF: a thread writes the base, effects go to a new increment meanwhile."""

    kind = "aof"

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        self.started_s = int(time.time())
        self.pid = 0
        self.killed = False
        self.signal = 0                  # somebody else's, that ended it
        self.emptied = False             # a FLUSHALL came
        self.is_rdb = config.get_value("aof-use-rdb-preamble")

    def start(self) -> None:
        """The moment is fixed already."""
        threading.Thread(target=self._main, daemon=True, name="aof_rewrite").start()
        self.began.wait()

    def stop(self) -> None:
        """It is not wanted any more; waits for its end."""
        log.notice(f"Killing running AOF rewrite child: {self.pid}")
        self.killed = True
        snapshot.stop()
        self.ended.wait()

    def _shot(self, number: int) -> None:
        self.signal = number
        snapshot.stop()

    def _main(self) -> None:
        child = standin.StandIn(self._shot)
        self.pid = child.pid
        self.began.set()
        temporary = f"temp-rewriteaof-bg-{self.pid}.aof"
        good = False
        try:
            saving.Background.set_cpus("aof-rewrite-cpulist")
            good = self._write(temporary) and self._finish(temporary)
        except Exception as error:  # whatever it is, the server goes on
            log.warning(f"The rewrite of the append only file fails: {error!r}")
        finally:
            child.end()
            if not good:
                _give_up(temporary)
            if self.emptied and not self.killed:
                state.scheduled = True           # FLUSHALL has made the base worthless: another one
            elif not self.killed or good:
                _note_end(good)
            state.last_duration_s = int(time.time()) - self.started_s
            state.copied = snapshot.figures()["copied"]
            saving.state.child = None
            with state.changing:
                set_mode(state.mode)             # who waits for the first base sees no rewrite under way any more
            self.ended.set()

    def _write(self, temporary: str) -> bool:
        found = snapshot.run(temporary.encode(), config.get_value("rdbchecksum"))
        number, stopped, made = found[:3]
        if number:
            saving.say_write_error(number, made, temporary)
            log.warning("Background AOF rewrite terminated with error")
        elif stopped:
            self.emptied = not self.signal
            log.warning(f"Background AOF rewrite terminated by signal {self.signal or signal.SIGUSR1:d}")
        else:
            log.notice(f"Successfully created the temporary AOF base file {temporary}")
            log.notice("Background AOF rewrite terminated with success")
        return not number and not stopped

    def _finish(self, temporary: str) -> bool:
        with state.changing:
            if self.killed:
                return False
            base = state.manifest.next_base(stem(), self.is_rdb)
            return _adopt(temporary, base)


def _give_up(temporary: str) -> None:
    for name in (temporary, temporary + INDEX):
        saving.remove(name)


def _note_end(good: bool) -> None:
    state.rewrite_ok = good
    state.failures = 0 if good else state.failures + 1
    if not good and state.mode == WAIT_REWRITE:
        log.notice(f"Removing the temp incr aof file {temporary_incr()} in the background")
        remove(temporary_incr())             # the next rewrite begins another
        state.scheduled = True


def _limited() -> bool:
    """Have so many rewrites failed that one which nobody asks for must wait? A while for each try, twice as long."""
    if state.failures < LIMIT_FAILURES:
        state.wait_minutes = 0
        state.next_try_s = 0.0
        return False
    if state.next_try_s:
        if time.monotonic() < state.next_try_s:
            return True
        state.next_try_s = 0.0
        return False
    state.wait_minutes = min(state.wait_minutes * 2 or 1, LIMIT_MINUTES_MAX)
    state.next_try_s = time.monotonic() + 60 * state.wait_minutes
    log.warning("Background AOF rewrite has repeatedly failed and triggered the limit, will retry in "
                f"{state.wait_minutes} minutes")
    return True


def _adopt(temporary: str, base: Part) -> bool:
    """A base is written: it and the increment that goes with it become the data set."""
    manifest = state.manifest
    waiting = state.mode == WAIT_REWRITE
    try:
        if os.path.exists(temporary + INDEX):
            os.rename(temporary + INDEX, place(base.name + INDEX))
        os.rename(temporary, place(base.name))
        log.notice(f"Successfully renamed the temporary AOF base file {temporary} into {base.name}")
        if waiting:
            incr = manifest.next_incr(stem())
            for end in (INDEX, ""):
                if os.path.exists(place(temporary_incr() + end)):
                    os.rename(place(temporary_incr() + end), place(incr.name + end))
            log.notice(f"Successfully renamed the temporary AOF incr file {temporary_incr()} into {incr.name}")
            manifest = manifest.with_incr(incr)
        put_manifest(manifest.rewritten(base, 0 if state.mode == OFF else 1))
    except OSError as error:
        log.warning(f"Error trying to put the new AOF files in place: {error.strerror}")
        remove(base.name)
        return False
    state.closed_bytes = _file_bytes(base.name)
    state.base_bytes = state.bytes()
    if state.mode != OFF:
        state.mode = ON
    drop_history()
    log.notice("Background AOF rewrite finished successfully")
    return True


def temporary_incr() -> str:
    """Where effects go until the first base is written."""
    return f"temp-{stem()}.incr.aof"


def start_rewrite() -> bool:
    """Fix the moment, send effects to a new increment, write the base in the background. False: it cannot begin."""
    with state.changing, saving.state.starting:
        if saving.state.child is not None:
            return False
        try:
            os.makedirs(config.get_value("appenddirname"), 0o755, exist_ok=True)
        except OSError as error:
            log.warning(f"Can't open or create append-only dir {config.get_value('appenddirname')}: {error.strerror}")
            state.rewrite_ok = False
            return False
        child = Rewrite()
        try:
            _cut(child)
        except OSError as error:
            log.warning(f"Can't open the append-only file: {error.strerror}")
            state.rewrite_ok = False
            return False
        state.rewrites += 1
        state.scheduled = False
        saving.state.child = child
        child.start()
    log.notice(f"Background append only file rewriting started by pid {child.pid}")
    return True


def _begin_base(is_rdb: bool, held: bool) -> None:
    """Fix the moment that a base shows. held: every partition is."""
    functions = saving.head() if is_rdb else (commands_out.functions(saving.state.functions) + restored.as_commands())
    if not is_rdb and config.get_value("aof-timestamp-enabled"):
        functions = b"#TS:%d\r\n" % time.time() + functions
    snapshot.begin(config.get_value("cluster-enabled"), functions, store.used_exact(),
                   config.get_value("rdb-key-save-delay"), held, not is_rdb, is_rdb, True)


def _cut(child: Rewrite) -> None:
    """The moment of the rewrite. With the AOF off (a rewrite by hand) no increment is made."""
    old = state.fd, state.index_fd
    fresh = (-1, -1)
    if state.mode == ON:
        part = state.manifest.next_incr(stem())
        fresh = open_incr(part.name, True)
        log.notice(f"Creating AOF incr file {part.name} on background rewrite")
        put_manifest(state.manifest.with_incr(part))
    elif state.mode == WAIT_REWRITE:
        fresh = open_incr(temporary_incr(), True)
        log.notice(f"Creating AOF incr file {temporary_incr()} on background rewrite")
    bytes_before = aof.figures()["bytes"]
    store.hold_all()
    try:
        error = 0
        if state.mode != OFF and old[0] >= 0:
            error = aof.switch(*fresh)
            if not error and config.get_value("appendfsync") == "always":
                _sync_replaced(old[0])
        elif state.mode != OFF:
            aof.begin(*fresh, 0, True)
            use_policy()
        if error:
            raise OSError(error, os.strerror(error))
        _begin_base(child.is_rdb, held=True)
    finally:
        store.let_go()
    if state.mode != OFF:
        state.fd, state.index_fd = fresh
        if old[0] >= 0:
            state.closed_bytes += bytes_before
            threading.Thread(target=close_replaced, args=(aof.generation(), *old), daemon=True).start()


def _sync_replaced(fd: int) -> None:
    """With appendfsync always replies go out as soon as the locks are let go of: the old increment comes first."""
    try:
        os.fdatasync(fd)
        aof.closed(aof.generation(), 0)
    except OSError as error:
        aof.closed(aof.generation(), error.errno)      # ends the process


# ---- on and off


def switch_on(loading: bool = False) -> None:
    """CONFIG SET appendonly yes: effects are logged from now on; it counts when the first base is written."""
    set_mode(WAIT_REWRITE)
    if saving.state.child is not None:
        state.scheduled = True
        log.notice("AOF was enabled but there is already another background operation. An AOF background was scheduled "
                   "to start when possible.")
    elif not start_rewrite():
        set_mode(OFF)
        log.warning("The server needs to enable the AOF but can't trigger a background AOF rewrite operation. Check "
                    "the above logs for more info about the error.")
        raise ConfigError("Unable to turn on AOF. Check server logs.")


def switch_off() -> None:
    """CONFIG SET appendonly no"""
    child = saving.state.child
    with state.changing:
        aof.end()
        close_files(state.fd, state.index_fd)
        state.fd = state.index_fd = -1
        waiting = state.mode == WAIT_REWRITE
        set_mode(OFF)
        state.closed_bytes = 0
        if state.scheduled:
            state.scheduled = False
            log.notice("AOF was disabled but there is a scheduled AOF background, cancel it.")
        if child is not None and child.kind == "aof":
            child.killed = True
    if child is not None and child.kind == "aof":
        child.stop()
    if waiting:
        remove(temporary_incr())


def changed(value: object) -> None:
    """CONFIG SET appendonly"""
    if value and state.mode == OFF:
        switch_on()
    elif not value and state.mode != OFF:
        switch_off()


# ---- the start


def read_manifest() -> Manifest:
    """The manifest on the disk; an empty one where there is none. StartError where it is damaged."""
    from net.main import StartError
    try:
        with open(place(f"{stem()}.manifest"), "rb") as file:
            return parse(file.read())
    except OSError as error:
        if error.errno == ENOENT:
            return Manifest()
        raise StartError(f"Fatal error: can't open the AOF manifest file {stem()}.manifest for reading: "
                         f"{error.strerror}") from None
    except ManifestError as error:
        log.warning("\n*** FATAL AOF MANIFEST FILE ERROR ***\n")
        if error.text is not None:
            log.warning(f"Reading the manifest file, at line {error.line}\n")
            log.warning(f">>> '{error.text}'\n")
        raise StartError(f"{error}\n") from None


def take_over_old() -> None:
    """A single file of an older server becomes the base."""
    from net.main import StartError
    name, manifest = stem(), state.manifest
    if not os.path.exists(name):
        return
    named = manifest.base is not None and manifest.base.name == name and not manifest.incrs
    if manifest.parts() and not (named and not os.path.exists(place(name))):
        return
    if not named:
        log.notice(f"Successfully migrated an old-style AOF configuration ({name}) into the AOF directory "
                   f"({config.get_value('appenddirname')}).")
    try:
        put_manifest(Manifest(base=Part(name, 1, b"b"), base_sequence=1))
        os.rename(name, place(name))
    except OSError as error:
        raise StartError(f"Error trying to move the old AOF file {name} into dir "
                         f"{config.get_value('appenddirname')}: {error.strerror}") from None


def _first_base() -> None:
    """There was nothing: an empty data set is a base too, so that a folder without one means damage."""
    base = state.manifest.next_base(stem(), config.get_value("aof-use-rdb-preamble"))
    log.notice(f"Creating AOF base file {base.name} on server start")
    temporary = f"temp-rewriteaof-{os.getpid()}.aof"
    _begin_base(config.get_value("aof-use-rdb-preamble"), held=False)
    error = snapshot.run(temporary.encode(), config.get_value("rdbchecksum"))[0]
    if error:
        raise OSError(error, os.strerror(error))
    for end in (INDEX, ""):
        if os.path.exists(temporary + end):
            os.rename(temporary + end, place(base.name + end))
    put_manifest(state.manifest.rewritten(base, len(state.manifest.incrs)))


def open_at_start() -> None:
    """After loading: effects go to the last increment, which is made where there is none."""
    from net.main import StartError
    try:
        if not state.manifest.parts():
            _first_base()
        if state.manifest.incrs:
            part = state.manifest.incrs[-1]
        else:
            part = state.manifest.next_incr(stem())
            log.notice(f"Creating AOF incr file {part.name} on server start")
            put_manifest(state.manifest.with_incr(part))
        state.fd, state.index_fd = open_incr(part.name, False)
    except OSError as error:
        raise StartError(f"Can't open the append-only file: {error.strerror}") from None
    size = os.fstat(state.fd).st_size
    if state.index_fd >= 0:
        from net import aofload
        aofload.mend_index(place(part.name), state.index_fd)
    state.closed_bytes = sum(_file_bytes(each.name) for each in state.manifest.parts()) - size
    state.base_bytes = _file_bytes(state.manifest.base.name) if state.manifest.base else 0
    set_mode(ON)
    aof.begin(state.fd, state.index_fd, size)
    use_policy()
    drop_history()


def load_at_start() -> None:
    """Brings the data back, before clients come, and begins to log."""
    from net import aofload
    from net.main import StartError
    if not config.get_value("appendonly"):
        return
    try:
        os.makedirs(config.get_value("appenddirname"), 0o755, exist_ok=True)
    except OSError as error:
        raise StartError(f"Can't open or create append-only dir {config.get_value('appenddirname')}: "
                         f"{error.strerror}") from None
    state.manifest = read_manifest()
    take_over_old()
    start_s = time.monotonic()
    if aofload.load_at_start(state.manifest):
        log.notice(f"DB loaded from append only file: {time.monotonic() - start_s:.3f} seconds")
    saving.state.saved_dirty = bridge.totals()["dirty"]
    saving.plan_emptied()
    open_at_start()


# ---- rules and the end


def _grown() -> bool:
    """Is it time for a rewrite by itself?"""
    percent = config.get_value("auto-aof-rewrite-percentage")
    size = state.bytes()
    if state.mode != ON or not percent or size <= config.get_value("auto-aof-rewrite-min-size"):
        return False
    growth = size * 100 // (state.base_bytes or 1) - 100
    if growth < percent or _limited():
        return False
    log.notice(f"Starting automatic rewriting of AOF on {growth}% growth")
    return True


def tick(_now_ms: int = 0) -> None:
    """From cron: errors, fsync each second, what the control thread logged, rewrites."""
    if state.mode != OFF and state.fd >= 0:
        now_s = time.monotonic()
        _look_for_errors(now_s)
        if not aof.figures()["errno"]:
            aof.flush()
        _sync_each_second(now_s)
    if saving.state.child is None and ((state.scheduled and not _limited()) or _grown()):
        start_rewrite()


def before_exit(flags: frozenset) -> None:
    """The rewrite ends, the file goes to the disk."""
    child = saving.state.child
    if child is not None and child.kind == "aof":
        if state.mode == WAIT_REWRITE and "force" not in flags and "nosave" not in flags:
            log.warning("Writing initial AOF, can't exit")
            raise shutdown.Refused("Writing initial AOF, can't exit")
        log.warning("There is a child rewriting the AOF. Killing it!")
        child.stop()
    if state.mode != OFF and state.fd >= 0:
        log.notice("Calling fsync() on the AOF file.")
        aof.finish()
        if aof.sync():
            log.warning("Fail to fsync the AOF file")


def buffered() -> int:
    """Bytes that are logged and not written yet."""
    return aof.figures()["buffered"] if state.mode != OFF else 0


def info() -> list[tuple[str, object]]:
    """INFO persistence, the lines about the AOF."""
    child = saving.state.child
    active = child is not None and child.kind == "aof"
    rows = [
        ("aof_enabled", int(state.mode != OFF)),
        ("aof_rewrite_in_progress", int(active)),
        ("aof_rewrite_scheduled", int(state.scheduled)),
        ("aof_last_rewrite_time_sec", state.last_duration_s),
        ("aof_current_rewrite_time_sec", int(time.time()) - child.started_s if active else -1),
        ("aof_last_bgrewrite_status", "ok" if state.rewrite_ok else "err"),
        ("aof_rewrites", state.rewrites),
        ("aof_rewrites_consecutive_failures", state.failures),
        ("aof_last_write_status", "ok" if state.write_ok else "err"),
        ("aof_last_cow_size", state.copied),
    ]
    if state.mode != OFF:
        rows += [
            ("aof_current_size", state.bytes()),
            ("aof_base_size", state.base_bytes),
            ("aof_pending_rewrite", int(state.scheduled)),
            ("aof_buffer_length", aof.figures()["buffered"]),
            ("aof_pending_bio_fsync", int(state.syncing.is_set())),
            ("aof_delayed_fsync", state.delayed_fsyncs),
        ]
    return rows


def load_bytes() -> int:
    """What is about to be loaded at the start."""
    if not config.get_value("appendonly"):
        return 0
    return sum(_file_bytes(name) for name in _names() if not name.endswith(INDEX))


def _names() -> list[str]:
    try:
        return os.listdir(config.get_value("appenddirname"))
    except OSError:
        return []


cron.ON_START.append(load_at_start)
cron.LOAD_BYTES.append(load_bytes)
cron.CRON.append(tick)
shutdown.BEFORE_EXIT.append(before_exit)
config.on_change("appendonly", changed)
config.on_change("aof-disable-auto-gc", drop_history)
for _name in ("appendfsync", "aof-timestamp-enabled"):
    config.on_change(_name, use_policy)
