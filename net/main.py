"""The server process: start, the control thread's loop, end. See `main`."""

import gc
import importlib
import os
import select
import signal
import sys

from net import log, version
from net.config import ConfigError, ConfigFileError, config

PARTITIONS_PER_THREAD = 32
PARTITIONS_ALONE = 16          # one thread: each partition has its own partly filled spans of every size
PARTITIONS_MAX = 4096
RESERVED_FILES = 32
LONG_LOAD_BYTES = 8 << 20
DEFAULT_PID_FILE = "/var/run/valkey.pid"
MIB = 1 << 20
WAKE_MAX = 4096

LOGO = r"""
      .--O--.
    O'  .-.  'O        Slotring {slotring}, does what Valkey {valkey} does ({bits} bit)
   |   ( o )   |
   O    '-'    O       Running in {mode} mode
   |           |       Port: {port}
    O.       .O        PID: {pid}
      '--O--'          {engine}, {threads} threads

"""

USAGE = """\
Usage: scripts/server [/path/to/valkey.conf] [--NAME VALUE ...] [-]
       scripts/server -                settings from stdin
       scripts/server -v | --version
       scripts/server -h | --help

A setting of the file can be given as an option, which wins:
       scripts/server valkey.conf --port 7777 --maxmemory 128mb
"""


class StartError(Exception):
    """The server cannot start; the text goes to the log."""


class Server:
    """What the process holds from its start to its end."""

    def __init__(self):
        self.listeners: list = []
        self.pid_file = ""
        self.engine = ""
        self.pipe = (-1, -1)
        self.interrupted = False


# --- start ---------------------------------------------------------------------------------------


def load_settings(argv: list[str]) -> bool:
    """Reads file and options; False: they are wrong, which has been said."""
    try:
        config.load_args(argv)
    except ConfigFileError as error:
        text = error.report(version.VALKEY).encode("utf-8", "surrogateescape")
        os.write(2, text)
        return False
    except OSError as error:
        log.warning(f"Fatal error, can't open config file '{error.filename}': {error.strerror}")
        return False
    return True


def daemonize() -> None:
    """Goes to the background: two forks, a session of its own, nothing on the terminal."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
    log.reset_pid()


def supervisor_says(text: str) -> None:
    """A message to systemd, where it supervises this process."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path or config.get_value("supervised") not in ("systemd", "auto"):
        return
    import socket
    if path.startswith("@"):
        path = "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(text.encode(), path)
    except OSError as error:
        log.warning(f"systemd cannot be told: {error.strerror}")


def is_supervised() -> bool:
    """Does somebody watch this process, so that it must stay in the foreground?"""
    return config.get_value("supervised") != "no" and "NOTIFY_SOCKET" in os.environ


def room_for_files(wanted: int) -> tuple[int, int]:
    """Raises the limit of open files to `wanted`, or as far as may be: (before, now)."""
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft, wanted
    limits = [(wanted, max(wanted, hard))]
    if soft < hard < wanted:
        limits.append((hard, hard))
    for limit in limits:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            return soft, limit[0]
        except (OSError, ValueError):
            continue
    return soft, soft


def raise_file_limit() -> None:
    """Makes room for maxclients files, or lowers maxclients to the room there is."""
    clients = config.get_value("maxclients")
    wanted = clients + RESERVED_FILES
    before, now = room_for_files(wanted)
    if now >= wanted:
        if before < now and before != -1:
            log.verbose(f"The limit of open files is {now} now, it was {before}.")
        return
    if now <= RESERVED_FILES:
        raise StartError(f"Your current 'ulimit -n' of {before} is not enough for the server to "
                         f"start. Please increase your open file limit to at least {wanted}. "
                         "Exiting.")
    config.set("maxclients", now - RESERVED_FILES)
    log.warning(f"You requested maxclients of {clients} requiring at least {wanted} "
                "max file descriptors.")
    log.warning(f"Current maximum open files is {now}. maxclients has been reduced to "
                f"{now - RESERVED_FILES} to compensate for low ulimit. "
                "If you need higher maxclients increase 'ulimit -n'.")


def check_max_clients(clients: int) -> None:
    """CONFIG SET maxclients: there must be files for them."""
    _, now = room_for_files(clients + RESERVED_FILES)
    if now < clients + RESERVED_FILES:
        raise ConfigError("The operating system is not able to handle the specified number of "
                          f"clients, try with {now - RESERVED_FILES}")


def write_pid_file(server: Server, background: bool) -> None:
    """Best effort, as Valkey's."""
    path = config.get_value("pidfile")
    if not path and background:
        path = DEFAULT_PID_FILE
        config.set("pidfile", path)
    if not path:
        return
    server.pid_file = os.path.abspath(path)
    if background:
        from net import crash
        crash.set_pid_file(os.fsencode(server.pid_file))
    try:
        with open(path, "w") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        log.warning(f"Failed to write PID file: {error.strerror}")


def module_names(package: object) -> list[str]:
    """The modules in a package's folders, compiled ones included."""
    names = set()
    for folder in package.__path__:
        if os.path.isdir(folder):
            for entry in os.listdir(folder):
                stem, _, rest = entry.partition(".")
                if rest == "py" or rest.endswith("so"):
                    names.add(stem)
    names.discard("__init__")
    return sorted(names)


def import_commands() -> None:
    """Imports every module of commands: the engine's first, then the control plane's."""
    for package_name in ("engine.commands", "net.commands"):
        package = importlib.import_module(package_name)
        for name in module_names(package):
            importlib.import_module(f"{package_name}.{name}")
    importlib.import_module("net.multi")
    importlib.import_module("net.subscribe")
    importlib.import_module("net.clusterscan")
    importlib.import_module("net.acks")


def create_store() -> None:
    """The keyspace, cut into parts enough for the threads to rarely meet."""
    from engine import store
    threads = config.get_value("io-threads")
    wanted = PARTITIONS_PER_THREAD * threads if threads > 1 else PARTITIONS_ALONE
    partitions = min(1 << (wanted - 1).bit_length(), PARTITIONS_MAX)
    in_cluster = config.get_value("cluster-enabled")
    store.create(partitions, config.get_value("cluster-databases" if in_cluster else "databases"))
    if in_cluster:
        from net import router
        router.begin_cluster()


def run_directives() -> None:
    """Lines of the file that are no settings: each goes to the function that its feature put in
    config.handlers; ConfigFileError where there is none."""
    for name, words, number, line in config.directives:
        handler = config.handlers.get(name) or config.handlers.get("." if "." in name else "")
        try:
            if handler is None:
                raise ConfigError(f"the directive '{name}' is not supported")
            handler(words)
        except ConfigError as error:
            raise ConfigFileError(str(error), number, line) from None


def rename_command(words: list[bytes]) -> None:
    """rename-command OLD NEW; NEW empty: the command is gone."""
    from engine import command
    if len(words) != 2:
        raise ConfigError("Bad directive or wrong number of arguments")
    if command.find(words[0]) is None:
        raise ConfigError("No such command in rename-command")
    if words[1] and command.find(words[1]) is not None:
        raise ConfigError("Target command name already exists")
    command.rename(words[0], words[1])


def show_logo(engine: str) -> None:
    """The picture on a terminal, or where always-show-logo wants it; else one line."""
    mode = "cluster" if config.get_value("cluster-enabled") else "standalone"
    port = config.get_value("port")
    to_terminal = (not config.get_value("syslog-enabled") and not config.get_value("logfile")
                   and os.isatty(1))
    if not to_terminal and not config.get_value("always-show-logo"):
        log.notice(f"Running mode={mode}, port={port}.")
        return
    text = LOGO.format(slotring=version.SLOTRING, valkey=version.VALKEY, bits=64, mode=mode,
                       port=port, pid=os.getpid(), engine=f"io-engine {engine}",
                       threads=config.get_value("io-threads"))
    log.write(log.NOTICE, text, raw=True)


def loads_long() -> bool:
    """Is so much to be loaded that clients should be served meanwhile, be it with -LOADING?"""
    from net import cron, gate
    config.is_loading = gate.is_loading
    if sum(size() for size in cron.LOAD_BYTES) < (LONG_LOAD_BYTES if not config.get_value("key-load-delay") else 1):
        return False
    gate.set_loading(True)         # before there are clients
    return True


def load_data() -> None:
    """What the features do before clients' commands run: bringing the data set back, for one. Who loads takes all
    locks (saving.held)."""
    from net import cron, gate
    from net.cluster import running
    gate.set_loading(True)
    for start in tuple(cron.ON_START):
        start()
    if running.driver is not None:
        running.driver.loaded()
    gate.set_loading(False)


def set_collation() -> None:
    """locale-collate is checked by taking it over."""
    def hook(name: str) -> None:
        import locale
        try:
            locale.setlocale(locale.LC_COLLATE, name)
        except (locale.Error, ValueError):
            raise ConfigError("Invalid locale name") from None

    config.on_change("locale-collate", hook)
    if config.get_value("locale-collate"):
        hook(config.get_value("locale-collate"))


def warn_about_memory(_value: object = None) -> None:
    """A limit below one megabyte is most likely a slip."""
    limit = config.get_value("maxmemory")
    if 0 < limit < MIB:
        log.warning("WARNING: You specified a maxmemory value that is less than 1MB (current value "
                    f"is {limit} bytes). Are you sure this is what you really want?")


def prepare(server: Server, argv: list[str]) -> None:
    """Everything from the settings to an open server, but for its threads."""
    background = config.get_value("daemonize") and not is_supervised()
    if background:
        daemonize()
    log.notice(f"Slotring {version.SLOTRING} is starting")
    log.notice(f"Valkey version={version.VALKEY}, bits=64, commit=00000000, modified=0, "
               f"pid={os.getpid()}, just started")
    if argv:
        log.notice("Configuration loaded")
    else:
        log.warning("Warning: No config file specified, using the default config. In order to "
                    "specify a config file use scripts/server /path/to/valkey.conf")
    raise_file_limit()
    from net import listen, words
    config.on_change("maxclients", check_max_clients)
    words.set_up(config)
    create_store()
    import_commands()
    run_directives()
    from net.commands import faults
    faults.set_up()
    set_collation()
    if config.get_value("cluster-enabled"):
        prepare_cluster()
    write_pid_file(server, background)
    show_logo(config.get_value("io-engine"))
    server.listeners = listen.open_all(config)


def prepare_cluster() -> None:
    """nodes.conf is read, before there is data."""
    from net import shutdown
    from net.cluster import driver, running
    try:
        driver.prepare(config)
    except driver.ClusterError as error:
        raise StartError(str(error)) from None
    shutdown.AT_EXIT.append(running.driver.end)


def begin_cluster() -> None:
    """The bus runs."""
    from net.cluster import running
    if running.driver is not None:
        running.driver.begin()


def only_at_start(_value: object) -> None:
    """For settings that CONFIG SET may repeat but not change."""
    raise ConfigError("it can be chosen at the start only")


def start_threads(server: Server) -> None:
    """Workers on their processors, serving the listeners."""
    from engine import outside
    from net import bridge, listen, title
    from net.special import cpu_list
    cpus = cpu_list(config.get_value("server-cpulist"))
    threads = config.get_value("io-threads")
    for name in ("io-engine", "io-threads"):
        config.on_change(name, only_at_start)
    title.set_up(config)                       # before the first client could set it
    try:
        server.engine = bridge.start(server.listeners, threads, cpus,
                                     config.get_value("io-engine"))
    except OSError as error:
        raise StartError(f"The I/O threads cannot start: {error}") from None
    outside.set_base(bridge.base_bytes())
    listen.watch(config, _replacer(server, bridge))
    log.verbose(f"I/O: {server.engine}, {threads} threads")


def _replacer(server: Server, bridge: object) -> object:
    """How listen.watch moves the TCP listeners; None where the bridge cannot."""
    set_listeners = getattr(bridge, "set_listeners", None)
    if set_listeners is None:
        return None
    import socket

    def replace(open_new: object) -> None:
        unix = [sock for sock in server.listeners if sock.family == socket.AF_UNIX]
        old = [sock for sock in server.listeners if sock.family != socket.AF_UNIX]
        set_listeners(unix)
        for sock in old:
            sock.close()
        server.listeners = unix
        server.listeners = unix + open_new()
        set_listeners(server.listeners)

    return replace


def announce(server: Server) -> None:
    """Says that clients may come, once for each kind of listener."""
    import socket
    kinds = {"unix" if sock.family == socket.AF_UNIX else "tcp" for sock in server.listeners}
    for kind in sorted(kinds):
        log.notice(f"Ready to accept connections {kind}")
    supervisor_says("STATUS=Ready to accept connections\nREADY=1\n")
    warn_about_memory()


# --- signals and the loop ------------------------------------------------------------------------


def watch_signals(server: Server) -> None:
    """SIGTERM and SIGINT ask for the end, SIGHUP is ignored; each wakes the control thread."""
    from net import shutdown
    server.pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(server.pipe[1], warn_on_full_buffer=False)
    shutdown.set_wake_fd(server.pipe[1])

    def on_signal(number: int, _frame: object) -> None:
        name = "SIGINT" if number == signal.SIGINT else "SIGTERM"
        if server.interrupted and number == signal.SIGINT:
            log.warning("You insist... exiting now.")
            os._exit(1)
        server.interrupted = True
        if config.is_loading():
            log.warning("Received shutdown signal during loading, scheduling shutdown.")
        else:
            log.warning(f"Received {name} scheduling shutdown...")
        shutdown.signalled(name)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def run_loop(server: Server) -> None:
    """The control thread until the end: ticks hz times a second, and whatever wakes it between."""
    import time

    from net import cron, shutdown
    ticker = cron.Ticker(config, log)
    pipe = server.pipe[0]
    next_tick = time.monotonic()
    while True:
        wait = next_tick - time.monotonic()
        if wait > 0 and select.select([pipe], [], [], wait)[0]:
            os.read(pipe, WAKE_MAX)
        if time.monotonic() >= next_tick:
            ticker.tick()
            next_tick = max(next_tick + ticker.period_s(), time.monotonic())
        if shutdown.step(cron.paused):
            return
        server.interrupted = shutdown.is_asked()


def end(server: Server) -> None:
    """The last steps, once nothing keeps the server."""
    supervisor_says("STOPPING=1\n")
    if server.pid_file:
        log.notice("Removing the pid file.")
        try:
            os.unlink(server.pid_file)
        except OSError:
            pass
    import socket

    from net import bridge
    bridge.stop()
    path = config.get_value("unixsocket")
    for sock in server.listeners:
        try:
            sock.shutdown(socket.SHUT_RDWR)  # a ring may keep the socket, and its port, a while longer than the process
        except OSError:
            pass
        sock.close()
    if path:
        log.notice("Removing the unix socket file.")
        try:
            os.unlink(path)
        except OSError:
            pass
    log.warning("Valkey is now ready to exit, bye bye...")


def serve(server: Server, argv: list[str]) -> int:
    """Start, loop, end."""
    try:
        prepare(server, argv)
        watch_signals(server)
        log.notice("Server initialized")
        if loads_long():
            start_threads(server)
            load_data()
        else:
            load_data()
            start_threads(server)
        begin_cluster()
    except ConfigFileError as error:
        os.write(2, error.report(version.VALKEY).encode("utf-8", "surrogateescape"))
        return 1
    except Exception as error:
        from net.listen import ListenError
        if isinstance(error, StartError | ListenError):
            if str(error):
                log.warning(str(error))
            return 1
        raise
    config.on_change("maxmemory", warn_about_memory)
    gc.collect()
    gc.freeze()
    gc.disable()
    announce(server)
    run_loop(server)
    end(server)
    return 0


def main(argv: list[str]) -> int:
    """Runs the server; argv without the program's name. Returns the process's exit code."""
    word = argv[0] if argv else ""
    if word in ("-v", "--version"):
        print(f"Valkey server v={version.VALKEY} sha=00000000:0 malloc=slotring-{version.SLOTRING} "
              "bits=64 build=0")
        return 0
    if word in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0
    config.handlers["rename-command"] = rename_command
    if not load_settings(argv):
        return 1
    log.set_up(config)
    code = serve(Server(), argv)
    sys.stdout.flush()
    os._exit(code)  # no thread may keep the process
