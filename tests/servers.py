"""Servers as the tests see them: started on a free port in a folder of their own, watched, stopped.

Environment:
    SLOTRING_TEST_COMMAND   what to run instead of scripts/server: a real valkey-server, a wrapper
    SLOTRING_TEST_ENGINE    io_uring, epoll or auto; several, with commas, run every test on each
    SLOTRING_TEST_VARIANT   asan or tsan, where that is what the command runs: slow, and its memory says nothing
    SLOTRING_TEST_THREADS   io-threads of servers whose test does not say
    SLOTRING_TEST_ZYGOTE    0: every server starts from nothing, by scripts/server (zygote.py)
"""

import os
import random
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from resp import Raw
from zygote import Zygote

ROOT = Path(__file__).resolve().parent.parent
BUS_OFFSET = 10000  # the cluster bus listens that far above the port
START_TIMEOUT_S = 240.0  # a start may have to compile
STOP_TIMEOUT_S = 20.0
PORT_TIMEOUT_S = 20.0
LOG_TAIL_BYTES = 6000
SANITIZER_WORDS = (b"ERROR: AddressSanitizer", b"WARNING: ThreadSanitizer", b"runtime error:")


ZYGOTES: dict[bool, Zygote] = {}           # for servers alone and for those of clusters


def zygote(for_clusters: bool) -> Zygote:
    """The one that forks such servers."""
    if for_clusters not in ZYGOTES:
        # scripts/server builds what has changed, and knows the interpreter
        python = subprocess.run([ROOT / "scripts" / "setup", "--print-python"], check=True, capture_output=True,
                                text=True, stdin=subprocess.DEVNULL).stdout.strip()
        ZYGOTES[for_clusters] = Zygote(python, for_clusters)
    return ZYGOTES[for_clusters]


class ServerDied(AssertionError):
    """The server ended when nobody had asked it to, or its sanitizer spoke."""


def free_port() -> int:
    """A port that nobody listens on, whose bus port is free too. Both are below those that the kernel gives to whoever
    connects, and no port is another's bus port."""
    for _ in range(200):
        port = random.SystemRandom().randrange(11000, 21000)
        try:
            for number in (port, port + BUS_OFFSET):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port
    raise RuntimeError("no free port found")


def wait_for_port(port: int) -> None:
    """Until a server may listen there."""
    deadline = time.monotonic() + PORT_TIMEOUT_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return
            except OSError:
                time.sleep(0.002)


def server_command() -> list[str]:
    """What the tests run as the server."""
    return shlex.split(os.environ.get("SLOTRING_TEST_COMMAND", str(ROOT / "scripts" / "server")))


def is_slotring() -> bool:
    """False where SLOTRING_TEST_COMMAND names somebody else's server."""
    return not server_command()[-1].endswith(("valkey-server", "redis-server"))


class Server:
    """One server process."""

    def __init__(self, folder: Path, *options: str | int, command: list[str] | None = None,
                 engine: str = "", env: dict[str, str] | None = None):
        self.folder = Path(folder)
        self.port = free_port()
        self.log_path = self.folder / "server.log"
        argv = list(command or server_command())
        argv += ["--port", str(self.port), "--dir", str(self.folder), "--save", "",
                 "--bind", "127.0.0.1"]
        if engine and engine != "auto":
            argv += ["--io-engine", engine]
        threads = os.environ.get("SLOTRING_TEST_THREADS")
        if threads and command is None and "--io-threads" not in options:
            argv += ["--io-threads", threads]
        self.argv = argv + [str(option) for option in options]
        self.forked = (command is None and env is None and "SLOTRING_TEST_COMMAND" not in os.environ
                       and os.environ.get("SLOTRING_TEST_ZYGOTE") != "0")
        self.process: subprocess.Popen | None = None
        self.env = {**os.environ, **(env or {})}

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self.process is not None, "not started"
        return self.process.pid

    def start(self) -> "Server":
        """Starts it and waits until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.process is not None:
            wait_for_port(self.port)       # a killed one's rings, and what they have, are taken down after its end
        with open(self.log_path, "ab") as log:
            if self.forked:
                options = self.argv[len(server_command()):]
                self.process = zygote("--cluster-enabled" in options).fork(options, str(self.folder), self.env,
                                                                            log.fileno())
            else:
                self.process = subprocess.Popen(
                    self.argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                    cwd=self.folder, env=self.env
                )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self.is_alive():
                break
            try:
                with Raw(self.port, 5) as raw:
                    if not str(raw.call("PING")).startswith("LOADING"):
                        return self
            except (OSError, TimeoutError):
                time.sleep(0.02)
            except Exception:
                time.sleep(0.1)
        self.kill()
        raise ServerDied(f"did not come up: {' '.join(self.argv)}\n{self.log_tail()}")

    def stop(self) -> None:
        """Stops it; ServerDied where it had ended before, does not end, or a sanitizer spoke."""
        if self.process is None:
            return
        if not self.is_alive():
            raise ServerDied(f"ended by itself with {self.process.returncode}\n{self.log_tail()}")
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerDied(f"did not stop on SIGTERM\n{self.log_tail()}") from None
        if self.process.returncode != 0:
            raise ServerDied(f"stopped with {self.process.returncode}\n{self.log_tail()}")
        if is_slotring() and self.is_listening():
            raise ServerDied("its port is still taken after its end")
        log = self.log_path.read_bytes()
        if any(word in log for word in SANITIZER_WORDS):
            raise ServerDied(f"a sanitizer reports, see {self.log_path}\n{self.log_tail()}")

    def is_listening(self) -> bool:
        """Does anybody take connections on its port?"""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Ends it at once."""
        if self.process is not None and self.is_alive():
            self.process.kill()
            self.process.wait()

    def is_alive(self) -> bool:
        """Is the process there?"""
        return self.process is not None and self.process.poll() is None

    def log_tail(self) -> str:
        """The end of what it wrote."""
        data = self.log_path.read_bytes() if self.log_path.exists() else b""
        return data[-LOG_TAIL_BYTES:].decode("utf-8", "replace")

    def connect(self, **options: object) -> redis.Redis:
        """A client; RESP2 unless `protocol=3`. It tries again at once: its own pauses are seconds."""
        return redis.Redis(**{"host": "127.0.0.1", "port": self.port, "protocol": 2, "socket_timeout": 30,
                              "retry": Retry(NoBackoff(), 3), **options})

    def raw(self, timeout_s: float = 20.0, recv_bytes: int = 0) -> Raw:
        """A connection for bytes."""
        return Raw(self.port, timeout_s, recv_bytes)

    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """User and system time of the process."""
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def info(self, section: str = "everything") -> dict:
        """INFO, parsed."""
        with self.connect() as client:
            return client.info(section)
