"""What a cluster of real processes does on its bus, beside the simulation of the same: for perf.cluster_sim --compare.

All nodes run on this machine. A dead node is a stopped process: as in the simulation it no longer answers, and closes
nothing. Times are found by asking all nodes in turn, so they are late by up to the round of questions.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from perf.peers import ROOT, Connection, PerfError

SLOTS = 16384
START_S = 600.0
AT_ONCE = 4                 # so many start together
LIMIT_S = 120.0
STEADY_S = 15.0             # two rounds of pings
SETTLE_S = 12.0
POLL_S = 0.05
LATENCY_MS = 0.1            # of loopback
CLUSTER_PORTS = 400         # from a node's port to its bus's
KEYS = ("{06S}", "{5}", "{1dn}", "{2H2}", "{7z}")     # of any slots


class Process:
    """A server in cluster mode and a connection to it."""

    def __init__(self, command: list[str], port: int, folder: Path):
        self.port, self.bus_port = port, port + CLUSTER_PORTS
        folder.mkdir()
        self.log_path = folder / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(port), "--cluster-port", str(self.bus_port), "--cluster-enabled", "yes",
                 "--dir", str(folder), "--save", "", "--bind", "127.0.0.1", "--io-threads", "1"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, PerfError):
                self.connection = Connection(self.port, START_S)
                self.id = self.call("CLUSTER", "MYID")
                return
            time.sleep(0.1)
        raise PerfError(f"no server on port {self.port}: {self.log_path.read_text(errors='replace')[-500:]}")

    def call(self, *args: object) -> object:
        """One command."""
        found = self.connection.call(*map(str, args))
        if isinstance(found, str) and found.startswith("-") and not found.startswith("-MOVED"):
            raise PerfError(f"{args}: {found}")
        return found

    def info(self) -> dict[str, str]:
        """CLUSTER INFO."""
        return dict(line.split(":", 1) for line in self.call("CLUSTER", "INFO").splitlines() if ":" in line)

    def links(self) -> list[dict]:
        """CLUSTER LINKS."""
        return [dict(zip(row[::2], row[1::2], strict=True)) for row in self.call("CLUSTER", "LINKS")]

    def cpu_s(self) -> float:
        """User and system time."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Kills it."""
        self.process.kill()
        self.process.wait()


def sync_ms(runs: int = 15, file_bytes: int = 20000) -> float:
    """How long it takes until a file like nodes.conf is on the disk: written, synced, renamed, its folder synced."""
    took = []
    with tempfile.TemporaryDirectory(prefix="slotring-cluster-") as folder:
        directory = os.open(folder, os.O_RDONLY)
        for _ in range(runs):
            start = time.monotonic()
            with open(f"{folder}/new", "wb") as file:
                file.write(bytes(file_bytes))
                file.flush()
                os.fsync(file.fileno())
            os.rename(f"{folder}/new", f"{folder}/nodes.conf")
            os.fsync(directory)
            took.append((time.monotonic() - start) * 1000)
        os.close(directory)
    return float(np.median(took))


def until_all(processes: list[Process], knows: Callable[[Process], bool], poll_s: float = POLL_S,
              limit_s: float = LIMIT_S) -> float:
    """How long it takes until knows() holds for all, in ms."""
    start = time.monotonic()
    missing = list(processes)
    while True:
        missing = [each for each in missing if not knows(each)]
        passed = time.monotonic() - start
        if not missing:
            return passed * 1000
        if passed > limit_s:
            raise PerfError(f"not in {limit_s} s on {len(missing)} nodes")
        time.sleep(poll_s)


def _knows_all(process: Process, count: int) -> bool:
    """Links to and from all others, none in handshake."""
    return len(process.links()) == 2 * (count - 1) and "handshake" not in process.call("CLUSTER", "NODES")


def _linked(process: Process, node: str) -> bool:
    return {row["direction"] for row in process.links() if row["node"] == node} == {"to", "from"}


class Cluster:
    """So many processes that have met."""

    def __init__(self, command: list[str], count: int, port: int, folder: Path):
        self.all: list[Process] = []
        try:
            for number in range(count + 1):
                self.all.append(Process(command, port + number, folder / str(number)))
                if number % AT_ONCE == AT_ONCE - 1 or number == count:
                    for each in self.all[-AT_ONCE:]:
                        each.wait()
            self.spare = self.all[count]
            self.nodes = self.all[:count]
            for number, each in enumerate(self.nodes):
                each.call("CLUSTER", "ADDSLOTSRANGE", number * SLOTS // count, (number + 1) * SLOTS // count - 1)
                each.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for each in self.nodes[1:]:
                self._meet(each)
            until_all(self.nodes, lambda each: _knows_all(each, count) and each.info()["cluster_state"] == "ok", 0.5,
                      START_S)
        except BaseException:
            self.end()
            raise
        time.sleep(SETTLE_S)

    def _meet(self, process: Process) -> None:
        self.nodes[0].call("CLUSTER", "MEET", "127.0.0.1", process.port, process.bus_port)

    def end(self) -> None:
        """Kills all."""
        for each in self.all:
            each.end()

    def steady(self) -> dict:
        """Bytes and processor time of a node in a second."""
        def look() -> tuple[float, float]:
            return (sum(int(each.info()["cluster_stats_bytes_sent"]) for each in self.nodes),
                    sum(each.cpu_s() for each in self.nodes))
        start, before = time.monotonic(), look()
        time.sleep(STEADY_S)
        after, share = look(), (time.monotonic() - start) * len(self.nodes)
        return {"bytes_per_node_s": (after[0] - before[0]) / share, "cpu_ms_per_node_s":
                (after[1] - before[1]) * 1000 / share}

    def meet(self) -> float:
        """A new node meets the first: until all have links with it, and it with all. Then it is new again."""
        fresh = self.spare
        self._meet(fresh)
        took = until_all([*self.nodes, fresh], lambda each: (
            _knows_all(each, len(self.nodes) + 1) if each is fresh else _linked(each, fresh.id)))
        fresh.call("CLUSTER", "RESET", "HARD")
        for each in self.nodes:
            each.call("CLUSTER", "FORGET", fresh.id)
        fresh.id = fresh.call("CLUSTER", "MYID")
        until_all(self.nodes, lambda each: _knows_all(each, len(self.nodes)), 0.5)
        time.sleep(SETTLE_S)
        return took

    def move(self, key: str) -> float:
        """A slot gets another owner: until all send clients there."""
        slot = self.nodes[0].call("CLUSTER", "KEYSLOT", key)
        owner = next(each for each in self.nodes if not str(each.call("GET", key)).startswith("-MOVED"))
        target = next(each for each in self.nodes if each is not owner)
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", owner.id)
        target.call("CLUSTER", "SETSLOT", slot, "NODE", target.id)
        place = f"-MOVED {slot} 127.0.0.1:{target.port}"
        return until_all([each for each in self.nodes if each is not target],
                         lambda each: each.call("GET", key) == place, 0)

    def death(self) -> float:
        """The last node stops: until all others have it as failed. Then it goes on, until all is well again."""
        dead, rest = self.nodes[-1], self.nodes[:-1]
        os.kill(dead.process.pid, signal.SIGSTOP)
        try:
            took = until_all(rest, lambda each: each.info()["cluster_nodes_fail"] == "1")
        finally:
            os.kill(dead.process.pid, signal.SIGCONT)
        until_all(self.nodes, lambda each: each.info()["cluster_nodes_fail"] == "0", 0.5)
        until_all(self.nodes, lambda each: _knows_all(each, len(self.nodes)), 0.5)
        time.sleep(SETTLE_S)
        return took


def measure(command: list[str] | None, count: int, runs: int, port: int, say: Callable[[str], None]) -> dict:
    """All figures of one size, means of the runs. command: the server's, None: Slotring's."""
    with tempfile.TemporaryDirectory(prefix="slotring-cluster-") as folder:
        cluster = Cluster(command or [str(ROOT / "scripts" / "server")], count, port, Path(folder))
        try:
            steady = [cluster.steady() for _ in range(runs)]
            found = {name: [each[name] for each in steady] for name in steady[0]}
            say(f"{count} processes: {found}")
            found["slot_ms"] = [cluster.move(KEYS[number % len(KEYS)]) for number in range(runs)]
            say(f"{count} processes: a slot moved, {found['slot_ms']} ms")
            found["death_ms"] = [cluster.death() for _ in range(runs)]
            say(f"{count} processes: a node dead, {found['death_ms']} ms")
            found["meet_ms"] = [cluster.meet() for _ in range(runs)]
            say(f"{count} processes: a node met, {found['meet_ms']} ms")
        finally:
            cluster.end()
    return {name: float(np.mean(values)) for name, values in found.items()}
