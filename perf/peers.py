"""The programs that the benchmarks run: Slotring, a real Valkey, and Valkey's benchmark."""

import csv
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 240.0
LOAD_BATCH = 5000
KEY = "key:%012d"


class PerfError(Exception):
    """Something is missing or does not answer."""


def find_valkey(folder: str | None) -> Path:
    """The folder of valkey-server and valkey-benchmark: given, of $VALKEY_SRC, or of the PATH."""
    source = os.environ.get("VALKEY_SRC")
    on_path = shutil.which("valkey-benchmark")
    candidates = [Path(name) for name in (folder, source) if name]
    candidates += [path / "src" for path in candidates]
    if on_path:
        candidates.append(Path(on_path).parent)
    for path in candidates:
        if (path / "valkey-benchmark").exists() and (path / "valkey-server").exists():
            return path
    raise PerfError("no valkey-benchmark and valkey-server: name their folder by --valkey or $VALKEY_SRC")


class Connection:
    """As much of a client as a benchmark needs."""

    def __init__(self, port: int, timeout_s: float = 60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.file = self.socket.makefile("rb")

    def close(self) -> None:
        """Closes it."""
        self.file.close()
        self.socket.close()

    def call(self, *args: str) -> object:
        """One command; errors come back as text that starts with a minus."""
        parts = [arg.encode() for arg in args]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts))
        return self._reply()

    def _reply(self) -> object:
        line = self.file.readline()
        if not line:
            raise PerfError("the server closed the connection")
        kind, rest = line[:1], line[1:].rstrip()
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self.file.read(size + 2)[:-2].decode("utf-8", "replace")
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        return int(rest) if kind == b":" else line.rstrip().decode()

    def load(self, count: int, value_bytes: int, extra: bytes = b"", extra_args: int = 0) -> None:
        """Writes `count` keys as a stream of commands, LOAD_BATCH of them in flight."""
        value = bytes(97 + i % 26 for i in range(value_bytes))
        key_bytes = len(KEY % 0)
        head = b"*%d\r\n$3\r\nSET\r\n$%d\r\n" % (3 + extra_args, key_bytes)
        tail = b"\r\n$%d\r\n%b\r\n%b" % (value_bytes, value, extra)
        for start in range(0, count, LOAD_BATCH):
            end = min(start + LOAD_BATCH, count)
            self.socket.sendall(b"".join(b"%bkey:%012d%b" % (head, i, tail) for i in range(start, end)))
            replies = self.file.read(5 * (end - start))
            if replies != b"+OK\r\n" * (end - start):
                raise PerfError(f"loading keys: {replies[:100]!r}")


class Peer:
    """A server process, pinned to the cores it is given."""

    def __init__(self, name: str, command: list[str], cores: str, *options: str):
        self.name = name
        self.folder = tempfile.TemporaryDirectory(prefix="slotring-perf-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        argv = ["taskset", "-c", cores, *command, "--port", str(self.port), "--dir", self.folder.name,
                "--save", "", "--bind", "127.0.0.1", "--daemonize", "no", *options]
        self.log_path = Path(self.folder.name) / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                connection = Connection(self.port, 5)
                connection.call("PING")
                connection.close()
                return
            except (OSError, PerfError):
                time.sleep(0.05)
        tail = self.log_path.read_text(errors="replace")[-2000:]
        self.stop()
        raise PerfError(f"{self.name} did not come up:\n{tail}")

    def connect(self) -> Connection:
        """A connection to it."""
        return Connection(self.port)

    def info(self) -> dict[str, str]:
        """INFO, flat."""
        connection = self.connect()
        text = str(connection.call("INFO", "everything"))
        connection.close()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def cpu_s(self) -> float:
        """User and system time of all its threads."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """Resident memory, exact (statm lags behind by pages counted a thread)."""
        with open(f"/proc/{self.process.pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Rss:"):
                    return int(line.split()[1]) << 10
        raise PerfError("no Rss")

    def stop(self) -> None:
        """Ends it and removes its folder."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


def slotring(cores: str, threads: int, *options: str) -> Peer:
    """Slotring with so many workers."""
    name = "Slotring" if threads == 1 else f"Slotring, {threads} workers"
    return Peer(name, [str(ROOT / "scripts" / "server")], cores, "--io-threads", str(threads), *options)


def valkey(folder: Path, cores: str, threads: int, *options: str) -> Peer:
    """A real Valkey with so many I/O threads."""
    name = "Valkey" if threads == 1 else f"Valkey, io-threads {threads}"
    return Peer(name, [str(folder / "valkey-server")], cores, "--io-threads", str(threads), *options)


def build() -> None:
    """Compiles what has changed, so that no server does it while it is measured."""
    subprocess.run([sys.executable, "-X", "gil=0", "-B", str(ROOT / "scripts" / "build.py")], check=True)


@dataclass
class Sample:
    """One run of the benchmark against one server."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    cpu_share: float


@dataclass
class Benchmark:
    """How valkey-benchmark is called."""

    program: Path
    cores: str
    clients: int = 50
    keys: int = 1_000_000
    value_bytes: int = 64
    threads: int = 1
    timeout_s: float = 300

    def run(self, peer: Peer, command: list[str], pipeline: int, requests: int) -> Sample:
        """One run; the server's CPU time is taken around it."""
        argv = ["taskset", "-c", self.cores, str(self.program), "-p", str(peer.port), "--csv",
                "-c", str(self.clients), "-r", str(self.keys), "-d", str(self.value_bytes),
                "-P", str(pipeline), "-n", str(requests)]
        if self.threads > 1:
            argv += ["--threads", str(self.threads)]
        cpu, started = peer.cpu_s(), time.monotonic()
        done = subprocess.run([*argv, "--", *command], capture_output=True, text=True, timeout=self.timeout_s)
        elapsed = time.monotonic() - started
        cpu = peer.cpu_s() - cpu
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        if done.returncode or not rows:
            raise PerfError(f"valkey-benchmark {' '.join(command)}: {(done.stderr or done.stdout)[-300:]}")
        row = rows[-1]
        return Sample(float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]),
                      cpu / requests * 1e6, cpu / elapsed)
