"""Fuzzes a running server: random, mutated and well-formed but senseless bytes while others use it.

    scripts/fuzz [--seconds 600] [--connections 50] [--seed N] [--port N --pid N] [--no-rss] [--benchmark PATH]

Without --port it starts a server of its own (two workers, a memory limit). It passes if the server lives,
answers PING within PING_LIMIT_S all the time, gives well-formed replies to the load that runs beside the
fuzz, is idle and without clients afterwards, and its memory is back near what it was. The command names
come from the server's own COMMAND, so that a new command is fuzzed from the day it has a row.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from resp import Closed, Error, Raw, encode  # noqa: E402
from servers import Server  # noqa: E402

PING_LIMIT_S = 2.0 if os.environ.get("SLOTRING_TEST_VARIANT", "release") == "release" else 20.0
RSS_SLACK_BYTES = 32 << 20
SEND_BYTES_MAX = 1 << 20
LOAD_THREADS = 2
LOAD_PATIENCE = 5  # times the limit of a PING, for a hundred commands
FUZZ_NICE = 15  # connections that never wait would leave the server, and those who watch it, no processor
FUZZ_PROCESSES = 2
IDLE_CPU_SHARE_MAX = 0.5
SERVER_OPTIONS = ["--io-threads", "2", "--maxmemory", "512mb", "--maxmemory-policy", "allkeys-random",
                  "--proto-max-bulk-len", "16mb", "--client-query-buffer-limit", "64mb"]
# what ends the server, locks everybody out, or reaches beyond it
BANNED = {
    "acl", "bgrewriteaof", "bgsave", "client|kill", "client|pause", "cluster", "config|rewrite",
    "config|set", "debug", "failover", "migrate", "module", "psync", "replconf", "replicaof", "save",
    "script|debug", "shutdown", "slaveof", "sync",
}
NUMBERS = [b"0", b"1", b"-1", b"2", b"10", b"100", b"+1", b"01", b" 1", b"1e3", b"nan", b"inf", b"-inf",
           b"3.5", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"65536",
           b"4294967296", b"2147483648", b"1048576", b"18446744073709551616", b""]
WORDS = [b"EX", b"PX", b"NX", b"XX", b"GT", b"LT", b"CH", b"KEEPTTL", b"GET", b"INCR", b"COUNT", b"MATCH",
         b"*", b"[", b"a*?[^b]", b"LIMIT", b"WITHSCORES", b"ASC", b"DESC", b"STORE", b"AND", b"OR", b"NOT",
         b"u8", b"i64", b"#1", b"BYTE", b"BIT", b"LEFT", b"RIGHT", b"BEFORE", b"AFTER", b"REPLACE", b"DB",
         b"ABSTTL", b"FREQ", b"IDLETIME", b"FIELDS", b"(1", b"[a", b"-", b"+", b"$", b">", b"MAXLEN", b"~"]
TOKENS = [b"\r\n", b"\r", b"\n", b"*", b"$", b"*-1\r\n", b"*0\r\n", b"$-1\r\n", b"$0\r\n\r\n", b"\0", b"\xff",
          b"*1000000\r\n", b"$15000000\r\n", b"*2147483647\r\n", b"$99999999999999999999\r\n", b"'", b'"',
          b"*1\r\n$4\r\nPING\r\n", b"PING\r\n", b"*1\r\n*1\r\n", b"%1\r\n", b"$4\r\n"]


class Grammar:
    """Random bytes to send, from none to all of them making sense."""

    def __init__(self, commands: list[tuple[bytes, ...]], seed: int):
        self.commands = commands
        self.chance = random.Random(seed)

    def key(self) -> bytes:
        """Few keys, so that types collide."""
        return b"fuzz:%d" % self.chance.randrange(64)

    def argument(self) -> bytes:
        """A key, a number, a word of some command's syntax, or bytes."""
        kind = self.chance.random()
        if kind < 0.4:
            return self.key()
        if kind < 0.65:
            return self.chance.choice(NUMBERS)
        if kind < 0.85:
            return self.chance.choice(WORDS)
        if kind < 0.87:
            return self.chance.randbytes(self.chance.choice([300, 5000, 20_000, 70_000]))
        return self.chance.randbytes(self.chance.randrange(12))

    def command(self) -> bytes:
        """A well-formed frame of a command that exists."""
        words = list(self.chance.choice(self.commands))
        if self.chance.random() < 0.8:
            words.append(self.key())
        words += [self.argument() for _ in range(self.chance.choice([0, 0, 1, 1, 1, 2, 2, 3, 4, 6, 12]))]
        return encode(*words)

    def pipeline(self) -> bytes:
        """Several well-formed frames."""
        return b"".join(self.command() for _ in range(self.chance.choice([1, 1, 2, 5, 20, 100])))

    def inline(self) -> bytes:
        """A line, with quotes that may not match."""
        words = [*self.chance.choice(self.commands), self.argument(), self.chance.choice(TOKENS), self.argument()]
        return b" ".join(words) + self.chance.choice([b"\r\n", b"\n", b"\r", b""])

    def mutated(self) -> bytes:
        """Frames with some of their bytes changed, gone, doubled or foreign."""
        data = bytearray(self.pipeline())
        for _ in range(self.chance.choice([1, 1, 2, 5])):
            at = self.chance.randrange(len(data) + 1)
            end = min(len(data), at + self.chance.choice([1, 1, 2, 8, 100]))
            kind = self.chance.randrange(5)
            if kind == 0:
                data[at:end] = self.chance.randbytes(end - at)
            elif kind == 1:
                del data[at:end]
            elif kind == 2:
                data[at:at] = data[at:end]
            elif kind == 3:
                data[at:at] = self.chance.choice(TOKENS)
            elif at < len(data):
                data[at] ^= 1 << self.chance.randrange(8)
        return bytes(data)

    def noise(self) -> bytes:
        """Bytes."""
        return self.chance.randbytes(self.chance.choice([1, 10, 100, 1000, 10_000, 100_000]))

    def tokens(self) -> bytes:
        """Pieces of protocol in any order."""
        return b"".join(self.chance.choices(TOKENS, k=self.chance.randrange(1, 30)))

    def any(self) -> bytes:
        """One of all these."""
        kinds = [self.pipeline, self.pipeline, self.mutated, self.mutated, self.mutated, self.inline,
                 self.noise, self.tokens]
        return self.chance.choice(kinds)()


class Tally(dict):
    """Counters of one thread; nobody else writes to them."""

    def add(self, **counts: int) -> None:
        """Adds to the named counters."""
        for name, value in counts.items():
            self[name] = self.get(name, 0) + value


class Report:
    """What happened, counted by many threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[str, int] = {}
        self.tallies: list[Tally] = []
        self.pings_s: list[float] = []
        self.failures: list[str] = []
        self.stop = threading.Event()

    def tally(self) -> Tally:
        """Counters for one thread: with a lock around common ones, 50 threads wait for each other and send little."""
        with self.lock:
            self.tallies.append(Tally())
            return self.tallies[-1]

    def sum(self) -> None:
        """Adds up what the threads, which have ended, have counted."""
        for tally in self.tallies:
            for name, value in tally.items():
                self.counts[name] = self.counts.get(name, 0) + value

    def fail(self, text: str) -> None:
        """Notes a failure and ends the run."""
        with self.lock:
            self.failures.append(text)
        self.stop.set()


def commands_of(port: int) -> list[tuple[bytes, ...]]:
    """The names of all commands that may be fuzzed, containers by their subcommands."""
    found: list[tuple[bytes, ...]] = []
    with Raw(port) as raw:
        rows = raw.call("COMMAND")
    if isinstance(rows, Error) or not rows:
        return [(b"GET",), (b"SET",), (b"DEL",), (b"INCR",), (b"APPEND",), (b"MSET",), (b"MGET",)]
    for row in rows:
        name = row[0].decode().lower()
        subs = [sub[0].decode().lower() for sub in row[9]] if len(row) > 9 else []
        for full in subs or [name]:
            if name not in BANNED and full not in BANNED:
                found.append(tuple(part.encode() for part in full.split("|")))
    return found


def _fuzz_one_connection(port: int, grammar: Grammar, report: Report, tally: Tally) -> None:
    """Opens a connection, does its mischief, and leaves in one of several ways."""
    chance = grammar.chance
    small_window = 4096 if chance.random() < 0.1 else 0
    with Raw(port, 1.0, small_window) as raw:
        for _ in range(chance.randrange(1, 40)):
            if report.stop.is_set():
                break
            data = grammar.any()[:SEND_BYTES_MAX]
            if len(data) > 2 and chance.random() < 0.3:
                cut = chance.randrange(len(data))
                raw.send(data[:cut])
                raw.send(data[cut:])
            else:
                raw.send(data)
            tally.add(bytes_sent=len(data), sends=1)
            if not small_window:
                _drain(raw, tally)
        ending = chance.random()
        if ending < 0.2:
            raw.half_close()
            _drain(raw, tally)
        elif ending < 0.4:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def _drain(raw: Raw, tally: Tally) -> None:
    raw.socket.settimeout(0.002)
    try:
        while True:
            data = raw.socket.recv(1 << 18)
            if not data:
                raise Closed
            tally.add(bytes_received=len(data), protocol_errors=data.count(b"-ERR Protocol error"))
    except TimeoutError:
        pass
    raw.socket.settimeout(1.0)


def _fuzz(port: int, grammar: Grammar, report: Report) -> None:
    tally = report.tally()
    while not report.stop.is_set():
        try:
            tally.add(connections=1)
            _fuzz_one_connection(port, grammar, report, tally)
        except (OSError, Closed, TimeoutError):
            pass  # the server may close on us, that is its right
        except Exception as error:
            report.fail(f"the fuzzer itself: {error!r}")


def attack(port: int, connections: int, seed: int) -> None:
    """A process of connections that fuzz until standard input ends; what they counted goes to standard output."""
    os.nice(FUZZ_NICE)
    report = Report()
    commands = commands_of(port)
    threads = [threading.Thread(target=_fuzz, args=(port, Grammar(commands, seed * 1000 + i), report))
               for i in range(connections)]
    for thread in threads:
        thread.start()
    sys.stdin.buffer.read()
    report.stop.set()
    for thread in threads:
        thread.join()
    report.sum()
    print(json.dumps({"counts": report.counts, "failures": report.failures}))


@contextlib.contextmanager
def _attackers(port: int, connections: int, seed: int, report: Report) -> Iterator[None]:
    """The fuzz in processes of its own: a thread that has no processor would stop the watchers too, when Python
    collects."""
    each = -(-connections // FUZZ_PROCESSES)
    sizes = [min(each, connections - first) for first in range(0, connections, each)]
    processes = [subprocess.Popen([sys.executable, "-X", "gil=0", "-B", __file__, "--attack", f"{port},{n},{seed + i}"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE) for i, n in enumerate(sizes)]
    try:
        yield
    finally:
        for process in processes:
            process.stdin.close()
        for process in processes:
            said = process.stdout.read()
            if process.wait():
                report.fail(f"the fuzzer itself ended with {process.returncode}")
                continue
            found = json.loads(said)
            report.tallies.append(Tally(found["counts"]))
            report.failures += found["failures"]


def _load(port: int, number: int, report: Report, limit_s: float) -> None:
    """Plain use of the server, whose replies must be well-formed and plausible."""
    turn = 0
    tally = report.tally()
    try:
        with Raw(port, LOAD_PATIENCE * limit_s) as raw:
            while not report.stop.is_set():
                key, value = f"load:{number}:{turn % 100}", b"%d" % turn * 50
                replies = raw.pipeline([("SET", key, value), ("GET", key), ("INCR", f"load:n:{number}"),
                                        ("PING",)] * 25)
                for done, got, count, pong in zip(*[iter(replies)] * 4, strict=True):
                    if not (done == b"OK" and got in (value, None) and isinstance(count, int)
                            and pong == b"PONG"):
                        report.fail(f"the load got {(done, got, count, pong)!r}"[:300])
                        return
                tally.add(load_commands=len(replies))
                turn += 1
                time.sleep(0.002)
    except Exception as error:
        report.fail(f"the load: {error!r}"[:300])


@contextlib.contextmanager
def _benchmark(path: str | None, port: int, report: Report) -> Iterator[None]:
    """valkey-benchmark beside the fuzz, where there is one: it must not end by itself."""
    if path is None:
        yield
        return
    command = ["nice", path, "-p", str(port), "-t", "set,get,incr", "-r", "100000", "-d", "64", "-P", "16", "-c", "20",
               "-n", "200000", "-l", "-q"]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            yield
        finally:
            status = process.poll()
            process.kill()
            process.wait()
        said.seek(0)
        text = said.read()
    report.counts["benchmark_rounds"] = text.count(b"requests per second")
    if status is not None:
        report.fail(f"valkey-benchmark ended with {status}: {text[-200:]!r}")


def _ping(port: int, report: Report, limit_s: float) -> None:
    """A PING on a connection that stays, and one on a new connection, ten times a second."""
    try:
        with Raw(port, limit_s) as kept:
            while not report.stop.is_set():
                started = time.monotonic()
                kept.call("PING")
                with Raw(port, limit_s) as fresh:
                    fresh.call("PING")
                report.pings_s.append(time.monotonic() - started)
                time.sleep(0.1)
    except Exception as error:
        report.fail(f"no PONG within {limit_s:.0f} s: {error!r}"[:300])


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _connected(raw: Raw) -> int:
    for line in raw.call("INFO", "clients").split(b"\r\n"):
        if line.startswith(b"connected_clients:"):
            return int(line.partition(b":")[2])
    return 0


def _afterwards(port: int, pid: int, rss_start: int, report: Report, check_rss: bool) -> None:
    """With everybody gone: no clients left over, nobody spins, memory back."""
    with Raw(port, 30) as raw:
        for name in ("FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH"):
            raw.call(*name.split())
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            report.counts["clients_left"] = _connected(raw) - 1
            report.counts["rss_end_mb"] = rss_bytes(pid) >> 20
            rss_is_back = not check_rss or rss_bytes(pid) <= rss_start + RSS_SLACK_BYTES
            if report.counts["clients_left"] == 0 and rss_is_back:
                break
            time.sleep(0.2)
        else:
            if report.counts["clients_left"]:
                report.fail(f"{report.counts['clients_left']} clients are left over")
            if not rss_is_back:
                report.fail(f"RSS {rss_bytes(pid) >> 20} MB, it was {rss_start >> 20} MB")
        before = cpu_s(pid)
        time.sleep(1)
        if cpu_s(pid) - before > IDLE_CPU_SHARE_MAX:
            report.fail(f"idle, but used {cpu_s(pid) - before:.2f} s of CPU in a second")


def fuzz(port: int, pid: int, seconds: float, connections: int = 50, seed: int = 0,
         check_rss: bool = True, benchmark: str | None = None, ping_limit_s: float = PING_LIMIT_S) -> Report:
    """Runs everything for so long; the report says what failed. benchmark: valkey-benchmark's path."""
    report = Report()
    commands = commands_of(port)
    _ping_once(port)
    rss_start = rss_bytes(pid)
    threads = [threading.Thread(target=_load, args=(port, i, report, ping_limit_s)) for i in range(LOAD_THREADS)]
    threads.append(threading.Thread(target=_ping, args=(port, report, ping_limit_s)))
    peak = rss_start
    with _benchmark(benchmark, port, report), _attackers(port, connections, seed, report):
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not report.stop.wait(0.2):
            try:
                peak = max(peak, rss_bytes(pid))
            except (OSError, IndexError):
                report.fail("the server's process is gone")
        report.stop.set()
    for thread in threads:
        thread.join()
    report.sum()
    report.counts |= {"commands_known": len(commands), "rss_start_mb": rss_start >> 20,
                      "rss_peak_mb": peak >> 20, "seed": seed}
    try:
        _afterwards(port, pid, rss_start, report, check_rss)
    except Exception as error:
        report.fail(f"afterwards: {error!r}"[:300])
    return report


def _ping_once(port: int) -> None:
    with Raw(port, 10) as raw:
        raw.call("PING")


def table(report: Report, seconds: float) -> str:
    """The report as lines of text."""
    rows = [("seconds", f"{seconds:.0f}")]
    rows += [(name.replace("_", " "), f"{value:,}") for name, value in report.counts.items()]
    pings = sorted(report.pings_s) or [0.0]
    rows.append(("pings", f"{len(report.pings_s):,}"))
    rows.append(("ping median ms", f"{pings[len(pings) // 2] * 1000:.1f}"))
    rows.append(("ping worst ms", f"{pings[-1] * 1000:.1f}"))
    rows.append(("result", "; ".join(report.failures) or "passed"))
    return "\n".join(f"{name:<18}{value:>16}" for name, value in rows)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Fuzzes a server with bytes on many connections.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--port", type=int, help="a server that runs already; needs --pid too")
    parser.add_argument("--pid", type=int)
    parser.add_argument("--no-rss", action="store_true", help="do not ask for memory to come back")
    parser.add_argument("--benchmark", default=shutil.which("valkey-benchmark"),
                        help="valkey-benchmark, which runs beside the fuzz; default: the one in the PATH, if any")
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--ping-limit", type=float, default=PING_LIMIT_S, help="seconds (a busy machine needs more)")
    parser.add_argument("server_option", nargs="*", help="after --: options of the server it starts")
    options = parser.parse_args()
    if options.attack:
        attack(*map(int, options.attack.split(",")))
        return 0
    if bool(options.port) != bool(options.pid):
        parser.error("--port and --pid go together")
    args = (options.seconds, options.connections, options.seed, not options.no_rss, options.benchmark,
            options.ping_limit)
    if options.port:
        report = fuzz(options.port, options.pid, *args)
        print(table(report, options.seconds))
        return 1 if report.failures else 0
    with tempfile.TemporaryDirectory(prefix="slotring-fuzz-") as folder:
        server = Server(Path(folder), *SERVER_OPTIONS, *options.server_option).start()
        try:
            report = fuzz(server.port, server.pid, *args)
            print(table(report, options.seconds))
            if report.failures:
                print(server.log_tail(), file=sys.stderr)
            server.stop()
        finally:
            server.kill()
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
