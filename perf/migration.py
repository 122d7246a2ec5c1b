"""Atomic slot migration between two Slotring nodes beside one between two Valkey nodes, under the same load.

    perf/migration --valkey DIR [--runs 5] [--keys 500000] [--slots 4096] [--value 64] [--rate 10000] [--threads 1,2]

Runs of the two pairs alternate, and the slots go there and back. Printed are medians, and the median of the ratios
within each run: seconds from MIGRATESLOTS to success at the source; CPU seconds of both nodes and of what they fork,
until the source has let go of the keys, less what the load alone takes in that time; the longest write in the second
and a half before it, which is the machine's own noise; the longest write to a slot that moves, and to one that stays,
as clients see it who follow redirections; the growth of each node's resident memory at its highest.
"""

import argparse
import binascii
import gc
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable

from peers import Connection, Peer, PerfError, build, find_valkey, slotring, valkey

SLOTS = 16384
BATCH = 16
PROBE_S = 0.0005                # between two writes of a client that looks for pauses
SETTLE_S = 60.0
JOB_S = 120.0
PROBE_KEYS = 200
FIGURES = (("seconds of the job", 3), ("CPU s of both nodes", 3), ("longest write before, ms", 1),
           ("longest write, moving slot, ms", 1),
           ("99.9 % of writes, moving slot, ms", 1), ("longest write, staying slot, ms", 1),
           ("99.9 % of writes, staying slot, ms", 1), ("source's memory, MiB over start", 1),
           ("target's memory, MiB over start", 1))


def slot_tags() -> list[bytes]:
    """A hash tag for each slot."""
    tags: list[bytes] = [b""] * SLOTS
    left, n = SLOTS, 0
    while left:
        tag = b"%x" % n
        n += 1
        slot = binascii.crc_hqx(tag, 0) % SLOTS
        if not tags[slot]:
            tags[slot] = tag
            left -= 1
    return tags


def set_command(key: bytes, value: bytes) -> bytes:
    """SET as RESP."""
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)


class Client(threading.Thread):
    """Writes batches of keys, one after the other, wherever their slots are; keeps how long each took."""

    def __init__(self, ports: list[int], owner: int, make: Callable[[], bytes], batch: int, every_s: float):
        super().__init__(daemon=True)
        self.files = [socket.create_connection(("127.0.0.1", port), 60) for port in ports]
        self.readers = [sock.makefile("rb") for sock in self.files]
        for sock in self.files:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ports, self.owner, self.make, self.batch, self.every_s = ports, owner, make, batch, every_s
        self.took: list[tuple[float, float]] = []
        self.stop = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Until it is told to stop."""
        try:
            due = time.monotonic()
            while not self.stop.is_set():
                began = time.monotonic()
                self._write([self.make() for _ in range(self.batch)])
                ended = time.monotonic()
                self.took.append((began, ended - began))
                due = max(due + self.every_s, ended - 0.1)
                if due > ended:
                    time.sleep(due - ended)
        except (OSError, PerfError) as error:
            self.error = error

    def _write(self, commands: list[bytes]) -> None:
        while commands:
            self.files[self.owner].sendall(b"".join(commands))
            again, to = [], self.owner
            for command in commands:
                line = self.readers[self.owner].readline()
                if line.startswith(b"-MOVED"):
                    to = self.ports.index(int(line.rstrip().rpartition(b":")[2]))
                    again.append(command)
                elif line != b"+OK\r\n":
                    raise PerfError(f"a write was answered {line[:100]!r}")
            commands, self.owner = again, to

    def end(self) -> list[tuple[float, float]]:
        """Stops; (when, seconds) of each batch."""
        self.stop.set()
        self.join()
        for sock in self.files:
            sock.close()
        if self.error is not None:
            raise self.error
        return self.took


class Pair:
    """Two nodes of a kind; slots of the first go to and fro."""

    def __init__(self, options: argparse.Namespace, is_own: bool, threads: int):
        self.options = options
        self.peers = []
        with tempfile.TemporaryDirectory() as folder:
            for n in range(2):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    bus_port = probe.getsockname()[1]
                settings = ("--cluster-enabled", "yes", "--cluster-port", str(bus_port), *options.set)
                cores = options.cores[n]
                self.peers.append(slotring(cores, threads, *settings) if is_own
                                  else valkey(options.valkey, cores, threads, *settings))
            del folder
        self.ids = [str(peer.connect().call("CLUSTER", "MYID")) for peer in self.peers]
        self.at = 0
        self._form()

    def _form(self) -> None:
        one, two = (peer.connect() for peer in self.peers)
        own = SLOTS - SLOTS // 8       # from here on they are the second one's: without any it would become a replica
        one.call("CLUSTER", "ADDSLOTSRANGE", "0", str(own - 1))
        two.call("CLUSTER", "ADDSLOTSRANGE", str(own), str(SLOTS - 1))
        two.call("CLUSTER", "SET-CONFIG-EPOCH", "1")
        nodes = str(two.call("CLUSTER", "NODES"))
        bus_port = nodes.split("@")[1].split()[0].split(",")[0]
        one.call("CLUSTER", "MEET", "127.0.0.1", str(self.peers[1].port), bus_port)
        deadline = time.monotonic() + 60
        while not all("cluster_state:ok" in str(each.call("CLUSTER", "INFO"))
                      and str(each.call("CLUSTER", "NODES")).count(" connected") == 2 for each in (one, two)):
            if time.monotonic() > deadline:
                raise PerfError("no cluster")
            time.sleep(0.05)

    def load(self, tags: list[bytes]) -> None:
        """The keys of the slots that move."""
        connection = self.peers[0].connect()
        value = b"v" * self.options.value
        for start in range(0, self.options.keys, 5000):
            end = min(start + 5000, self.options.keys)
            connection.socket.sendall(b"".join(set_command(b"{%b}:%07d" % (tags[n % self.options.slots], n), value)
                                               for n in range(start, end)))
            if connection.file.read(5 * (end - start)) != b"+OK\r\n" * (end - start):
                raise PerfError("loading keys")
        connection.close()

    def clients(self, tags: list[bytes]) -> list[Client]:
        """Who writes while slots move: the load, and two that look for pauses."""
        options, ports = self.options, [peer.port for peer in self.peers]
        rng, value = random.Random(7), b"w" * options.value
        staying = tags[options.slots:options.slots * 2]

        def some(choice: list[bytes]) -> Callable[[], bytes]:
            return lambda: set_command(b"{%b}:p%d" % (rng.choice(choice), rng.randrange(PROBE_KEYS)), value)

        def existing() -> bytes:
            n = rng.randrange(options.keys)
            return set_command(b"{%b}:%07d" % (tags[n % options.slots], n), value)

        every_s = 2 * BATCH / options.rate
        few = [tags[slot] for slot in range(0, options.slots, max(options.slots // 64, 1))]
        return [Client(ports, self.at, some(few), 1, PROBE_S), Client(ports, 0, some(staying[::64]), 1, PROBE_S),
                Client(ports, self.at, existing, BATCH, every_s), Client(ports, 0, some(staying[::16]), BATCH, every_s)]

    def cpu_s(self) -> float:
        """Of both nodes and the children that they have waited for."""
        total = 0
        for peer in self.peers:
            with open(f"/proc/{peer.process.pid}/stat") as file:
                total += sum(int(word) for word in file.read().rpartition(")")[2].split()[11:15])
        return total / os.sysconf("SC_CLK_TCK")

    def memory(self, peer: Peer, name: str) -> int:
        """VmRSS or VmHWM in KiB."""
        with open(f"/proc/{peer.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(name))

    def run(self, tags: list[bytes]) -> list[float]:
        """One migration: FIGURES."""
        source, target = self.peers[self.at], self.peers[1 - self.at]
        for peer in self.peers:
            with open(f"/proc/{peer.process.pid}/clear_refs", "w") as file:
                file.write("5")        # VmHWM begins anew
        rss = [self.memory(peer, "VmRSS") for peer in (source, target)]
        clients = self.clients(tags)
        for client in clients:
            client.start()
        time.sleep(0.5)
        control = source.connect()
        cpu, began = self.cpu_s(), time.monotonic()
        time.sleep(1)
        idle = (self.cpu_s() - cpu) / (time.monotonic() - began)
        cpu, began = self.cpu_s(), time.monotonic()
        answer = control.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", "0", str(self.options.slots - 1), "NODE",
                              self.ids[1 - self.at])
        if answer != "+OK":
            raise PerfError(f"MIGRATESLOTS: {answer}")
        took = self._wait_over(control, source, began)
        self._wait_empty(control, tags)
        until = time.monotonic()
        cpu = self.cpu_s() - cpu - idle * (until - began)
        control.close()
        waits = [client.end() for client in clients]
        peaks = [(self.memory(peer, "VmHWM") - before) / 1024
                 for peer, before in zip((source, target), rss, strict=True)]
        self.at = 1 - self.at
        figures = [took, cpu, max(seconds * 1000 for wait in waits[:2] for when, seconds in wait if when < began)]
        for wait in waits[:2]:
            inside = sorted(seconds * 1000 for when, seconds in wait if began <= when + seconds and when <= until)
            figures += [inside[-1], inside[int(len(inside) * 0.999)]]
        return figures + peaks

    def _wait_over(self, control: Connection, source: Peer, began: float) -> float:
        while time.monotonic() < began + JOB_S:
            job = control.call("CLUSTER", "GETSLOTMIGRATIONS")[0]
            state = job[job.index("state") + 1]
            if state == "success":
                return time.monotonic() - began
            if state in ("failed", "cancelled"):
                raise PerfError(f"the migration is {state}: {job}\n{source.log_path.read_text()[-3000:]}")
            time.sleep(0.002)
        raise PerfError("the migration does not end")

    def _wait_empty(self, control: Connection, tags: list[bytes]) -> None:
        deadline = time.monotonic() + SETTLE_S
        while any(control.call("CLUSTER", "COUNTKEYSINSLOT", str(slot))
                  for slot in range(self.options.slots - 1, -1, -97)):
            if time.monotonic() > deadline:
                raise PerfError("the source keeps the keys")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends both."""
        for peer in self.peers:
            peer.stop()


def show(threads: int, found: list[list[list[float]]]) -> None:
    """Medians of Slotring and Valkey, and of the ratios."""
    print(f"io-threads {threads}, medians of {len(found[0])} runs")
    for place, (name, digits) in enumerate(FIGURES):
        own, other = ([figures[place] for figures in runs] for runs in found)
        ratio = statistics.median(b / a if a > 0 else float("nan") for a, b in zip(own, other, strict=True))
        print(f"  {name:36} Slotring {statistics.median(own):8.{digits}f}  (worst {max(own):.{digits}f})   "
              f"Valkey {statistics.median(other):8.{digits}f}  (worst {max(other):.{digits}f})   ratio {ratio:.2f}",
              flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--valkey")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keys", type=int, default=500_000)
    parser.add_argument("--slots", type=int, default=4096)
    parser.add_argument("--value", type=int, default=64)
    parser.add_argument("--rate", type=int, default=10_000, help="writes a second besides those that look for pauses")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--cores", default="0-1 0-1", help="of the first and of the second node of a pair")
    parser.add_argument("--set", action="append", default=[], help="a word of the nodes' command line")
    parser.add_argument("--only", choices=("slotring", "valkey"))
    parser.add_argument("--no-build", action="store_true")
    options = parser.parse_args()
    options.cores = options.cores.split()
    options.valkey = find_valkey(options.valkey)
    return options


def measure(options: argparse.Namespace, threads: int, tags: list[bytes]) -> None:
    """Both pairs, in turns."""
    kinds = [is_own for is_own in (True, False) if options.only in (None, "slotring" if is_own else "valkey")]
    pairs: list[Pair] = []
    try:
        for is_own in kinds:
            pairs.append(Pair(options, is_own, threads))
            pairs[-1].load(tags)
        found: list[list[list[float]]] = [[] for _ in pairs]
        for _ in range(options.runs):
            for pair, runs in zip(pairs, found, strict=True):
                gc.collect()
                runs.append(pair.run(tags))
                print(f"  {pair.peers[0].name}: " + ", ".join(
                    f"{value:.{digits}f}" for value, (_, digits) in zip(runs[-1], FIGURES, strict=True)), flush=True)
        if len(found) == 2:
            show(threads, found)
    finally:
        for pair in pairs:
            pair.stop()


def main() -> int:
    """Measures and prints."""
    options = arguments()
    gc.disable()
    try:
        if not options.no_build:
            build()
        tags = slot_tags()
        for threads in options.threads.split(","):
            measure(options, int(threads), tags)
    except PerfError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
