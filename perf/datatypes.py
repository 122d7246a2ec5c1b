"""Every data type, Slotring and a real Valkey side by side: CPU time a command, and bytes of large and of many values.

    perf/types --valkey DIR [--runs 5] [--seconds 1.5] [--pipeline 16] [--commands LPUSH,HSET] [--only cpu,memory]
               [--keys one,many] [--readme] [--from perf/out/types.json]

cpu: both servers pinned to core 0 with one thread, valkey-benchmark (50 connections) on core 1. "one" uses one key, as
valkey-benchmark's own tests do; "many" spreads the commands over 10,000 keys. Before each run both servers are emptied
and get the same data. memory: used_memory and resident bytes that a data set adds to a fresh server.
"""

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
from compare import attempt, machine, median, ratio, say
from peers import ROOT, Benchmark, Connection, Peer, PerfError, build, find_valkey, slotring, valkey

OUT = ROOT / "perf" / "out"
MARKERS = ("<!-- types: written by perf/types --readme -->", "<!-- /types -->")
R = "__rand_int__"
RATE = 450_000          # requests a second that a run's length is planned with
SPREAD = 10_000         # keys of the "many" form
SUBSCRIBERS = 10
BATCH = 2000
VALUE = bytes(97 + i % 26 for i in range(64))
Commands = Iterator[tuple[bytes, ...]]


def chunked(head: tuple[bytes, ...], items: Iterator[bytes], size: int) -> Commands:
    """Commands that carry `size` items each after their head."""
    row = list(head)
    for item in items:
        row.append(item)
        if len(row) == len(head) + size:
            yield tuple(row)
            row = list(head)
    if len(row) > len(head):
        yield tuple(row)


def names(many: bool, kind: bytes) -> list[bytes]:
    """The keys that a command meets: valkey-benchmark writes a random number as twelve digits."""
    return [b"%b:%012d" % (kind, i) for i in range(SPREAD)] if many else [b"my" + kind]


def fill(kind: bytes, head: bytes, item: Callable[[int], tuple[bytes, ...]], total: Callable[[int], int]):
    """What prepares a run: `total` items over the keys of a kind, by a command of many items."""
    def prepare(many: bool, requests: int) -> Commands:
        keys = names(many, kind)
        each = max(1, total(requests) // len(keys))
        for key in keys:
            flat = (part for i in range(each) for part in item(i))
            yield from chunked((head, key), flat, 100 * len(item(0)))
    return prepare


def member(i: int) -> bytes:
    """A member as valkey-benchmark's tests write it."""
    return b"element:%012d" % i


def elements(i: int) -> tuple[bytes, ...]:
    return (VALUE,)


def members(i: int) -> tuple[bytes, ...]:
    return (member(i),)


def scored(i: int) -> tuple[bytes, ...]:
    return (b"%d" % i, member(i))


def fields(i: int) -> tuple[bytes, ...]:
    return (member(i), VALUE)


def nothing(many: bool, requests: int) -> Commands:
    return iter(())


def as_requests(n: int) -> int:
    return n + SPREAD


def hundred_thousand(n: int) -> int:
    return 100_000


def lists_of_200(n: int) -> int:
    return SPREAD * 200


# name: (command, how the data before it are made); {key} is one key or one of many
COMMANDS: dict[str, tuple[list[str], Callable]] = {
    "LPUSH": (["LPUSH", "{list}", "__data__"], nothing),
    "RPOP": (["RPOP", "{list}"], fill(b"list", b"RPUSH", elements, as_requests)),
    "SADD": (["SADD", "{set}", f"element:{R}"], nothing),
    "SPOP": (["SPOP", "{set}"], fill(b"set", b"SADD", members, as_requests)),
    "HSET": (["HSET", "{hash}", f"element:{R}", "__data__"], nothing),
    "HGET": (["HGET", "{hash}", f"element:{R}"], fill(b"hash", b"HSET", fields, hundred_thousand)),
    "HSETEX": (["HSETEX", "{hash}", "EX", "1000", "FIELDS", "1", f"element:{R}", "__data__"], nothing),
    "ZADD": (["ZADD", "{zset}", R, f"element:{R}"], nothing),
    "ZRANGE": (["ZRANGE", "{zset}", "0", "9"], fill(b"zset", b"ZADD", scored, hundred_thousand)),
    "ZPOPMIN": (["ZPOPMIN", "{zset}"], fill(b"zset", b"ZADD", scored, as_requests)),
    "XADD": (["XADD", "{stream}", "*", "field", "__data__"], nothing),
    "LRANGE": (["LRANGE", "{list}", "0", "99"], fill(b"list", b"RPUSH", elements, lists_of_200)),
    "MSET": (["MSET", *(word for i in range(10) for word in (f"key{i}:{R}", "__data__"))], nothing),
    "PUBLISH": (["PUBLISH", "channel", "__data__"], nothing),
}
SLOW = {"LRANGE": 12, "MSET": 6, "PUBLISH": 8, "ZPOPMIN": 2, "SPOP": 2, "RPOP": 2}


def words(name: str, many: bool) -> list[str]:
    """The command with its key."""
    found = []
    for word in COMMANDS[name][0]:
        if word.startswith("{"):
            word = f"{word[1:-1]}:{R}" if many else "my" + word[1:-1]
        found.append(word)
    return found


def send(connection: Connection, commands: Commands) -> None:
    """A stream of commands, whose replies must not be errors."""
    batch: list[bytes] = []

    def flush() -> None:
        connection.socket.sendall(b"".join(batch))
        for _ in batch:
            reply = connection._reply()
            if isinstance(reply, str) and reply.startswith("-"):
                raise PerfError(reply)
        batch.clear()

    for command in commands:
        batch.append(b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in command))
        if len(batch) == BATCH:
            flush()
    flush()


class Subscribers:
    """Clients that subscribe to the channel and throw away what they get."""

    def __init__(self, peer: Peer):
        self.connections = [peer.connect() for _ in range(SUBSCRIBERS)]
        for connection in self.connections:
            connection.call("SUBSCRIBE", "channel")
            threading.Thread(target=self.drain, args=(connection,), daemon=True).start()

    @staticmethod
    def drain(connection: Connection) -> None:
        room = bytearray(1 << 20)
        try:
            while connection.socket.recv_into(room):
                pass
        except (OSError, ValueError):
            pass

    def close(self) -> None:
        for connection in self.connections:
            connection.socket.close()


def compare_cpu(options: argparse.Namespace, result: dict, save: Callable) -> None:
    """CPU time a command."""
    peers = [slotring("0", 1), valkey(options.valkey, "0", 1)]
    benchmark = Benchmark(options.valkey / "valkey-benchmark", "1", 50, 0, 64)
    try:
        for run in range(options.runs):
            for form in options.keys:
                for name in options.commands:
                    many = form == "many"
                    if many and name in ("MSET", "PUBLISH"):
                        continue
                    one_run(options, result, benchmark, peers if run % 2 == 0 else peers[::-1], name, many, run)
            save()
    finally:
        for peer in peers:
            peer.stop()


def one_run(options, result, benchmark, peers, name, many, run) -> None:
    """One command on both servers in turn."""
    requests = int(RATE * options.seconds / SLOW.get(name, 1))
    benchmark.keys = SPREAD if many else 1_000_000
    line = []
    for peer in peers:
        connection = peer.connect()
        connection.call("FLUSHALL", "SYNC")
        send(connection, COMMANDS[name][1](many, requests))
        connection.close()
        subscribers = Subscribers(peer) if name == "PUBLISH" else None
        sample = attempt(benchmark, peer, words(name, many), options.pipeline, requests)
        if subscribers:
            subscribers.close()
        cells = result.setdefault("cpu", {}).setdefault("many" if many else "one", {}).setdefault(name, {})
        cell = cells.setdefault(peer.name, {"cpu_us": [], "rps": []})
        cell["cpu_us"].append(sample.cpu_us)
        cell["rps"].append(sample.rps)
        line.append(f"{peer.name} {sample.cpu_us:.2f} µs")
    say(f"  run {run + 1}/{options.runs} {'many' if many else 'one'} {name}: {'; '.join(sorted(line))}")


# --- memory -----------------------------------------------------------------------------------------------------------


def small_hashes(ttl: bool) -> Commands:
    for i in range(100_000):
        key = b"hash:%d" % i
        yield (b"HSET", key, *(part for k in range(10) for part in (b"field:%d" % k, b"value:%d:%d" % (i, k))))
        if ttl:
            yield (b"HEXPIRE", key, b"100000", b"FIELDS", b"10", *(b"field:%d" % k for k in range(10)))


def small_zsets() -> Commands:
    for i in range(100_000):
        yield (b"ZADD", b"zset:%d" % i, *(part for k in range(10) for part in (b"%d.5" % (i + k), b"member:%d" % k)))


def stream() -> Commands:
    for i in range(1_000_000):
        yield (b"XADD", b"stream", b"%d-0" % (1_700_000_000_000 + i), b"temperature", b"%d" % (i % 40), b"humidity",
               b"%d" % (i % 100))


def numbers(n: int) -> Iterator[bytes]:
    return (b"%d" % i for i in range(n))


DATA_SETS: dict[str, Callable[[], Commands]] = {
    "100k hashes of 10 fields": lambda: small_hashes(False),
    "100k hashes of 10 fields with a TTL each": lambda: small_hashes(True),
    "100k zsets of 10": small_zsets,
    "one zset of 1M": lambda: chunked((b"ZADD", b"zset"), (p for i in range(1_000_000) for p in (
        b"%d" % (i * 7919 % 1_000_003), b"member:%d" % i)), 200),
    "one list of 1M": lambda: chunked((b"RPUSH", b"list"), (b"element:%d" % i for i in range(1_000_000)), 100),
    "one set of 1M integers": lambda: chunked((b"SADD", b"set"), numbers(1_000_000), 100),
    "one set of 1M strings": lambda: chunked((b"SADD", b"set"), (member(i) for i in range(1_000_000)), 100),
    "one hash of 1M": lambda: chunked((b"HSET", b"hash"), (p for i in range(1_000_000) for p in (
        b"field:%d" % i, b"value:%d" % i)), 200),
    "one stream of 1M": stream,
}


def compare_memory(options: argparse.Namespace, result: dict, save: Callable) -> None:
    """Bytes of data sets, in fresh servers."""
    for title, commands in DATA_SETS.items():
        for start in (lambda: slotring("0", 1), lambda: valkey(options.valkey, "0", 1)):
            peer = start()
            try:
                connection = peer.connect()
                time.sleep(0.3)
                used = int(peer.info()["used_memory"])      # the first INFO takes memory of its own
                rss = peer.rss_bytes()
                send(connection, commands())
                time.sleep(1.2)
                cell = {"used_memory": int(peer.info()["used_memory"]) - used, "rss": peer.rss_bytes() - rss}
                result.setdefault("memory", {}).setdefault(title, {})[peer.name] = cell
                say(f"  {title}: {peer.name} {cell['used_memory'] / 2**20:.1f} MiB, RSS {cell['rss'] / 2**20:.1f}")
            finally:
                peer.stop()
        save()


# --- what comes out ---------------------------------------------------------------------------------------------------


def markdown(result: dict) -> str:
    """Both tables."""
    lines = []
    if result.get("cpu"):
        settings = result["settings"]
        lines += [f"CPU µs a command at pipeline {settings['pipeline']}, one thread on a core of its own, medians of "
                  f"{settings['runs']} interleaved runs, values of 64 bytes ({result['date']}):", "",
                  "| command | one key: Slotring | Valkey | ratio | 10,000 keys: Slotring | Valkey | ratio |",
                  "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
        for name in COMMANDS:
            row = [name]
            for form in ("one", "many"):
                cell = result["cpu"].get(form, {}).get(name)
                if cell is None:
                    row += ["", "", ""]
                    continue
                ours, theirs = cell["Slotring"]["cpu_us"], cell["Valkey"]["cpu_us"]
                row += [f"{median(ours):.2f}", f"{median(theirs):.2f}", f"**{ratio(ours, theirs):.2f}**"]
            if any(row[1:]):
                lines.append("| " + " | ".join(row) + " |")
    if result.get("memory"):
        lines += ["", "| data | used_memory, MiB: Slotring | Valkey | ratio | RSS, MiB: Slotring | Valkey | ratio |",
                  "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
        for title, cell in result["memory"].items():
            ours, theirs = cell["Slotring"], cell["Valkey"]
            lines.append(
                f"| {title} | {ours['used_memory'] / 2**20:.1f} | {theirs['used_memory'] / 2**20:.1f} "
                f"| **{ours['used_memory'] / theirs['used_memory']:.2f}** | {ours['rss'] / 2**20:.1f} "
                f"| {theirs['rss'] / 2**20:.1f} | {ours['rss'] / theirs['rss']:.2f} |")
    return "\n".join(lines) + "\n"


def write_readme(text: str) -> None:
    """Puts the tables between their markers in README.md."""
    path = ROOT / "README.md"
    head, _, rest = path.read_text().partition(MARKERS[0])
    _, _, tail = rest.partition(MARKERS[1])
    if not rest:
        raise PerfError("README.md has no markers for the types' figures")
    path.write_text(f"{head}{MARKERS[0]}\n{text}{MARKERS[1]}{tail}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="perf/types", description="Every data type beside Valkey.")
    parser.add_argument("--valkey", help="folder of valkey-server and valkey-benchmark")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="planned length of one run")
    parser.add_argument("--pipeline", type=int, default=16)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--keys", default="one,many")
    parser.add_argument("--only", default="cpu,memory")
    parser.add_argument("--out", type=Path, default=OUT / "types.json")
    parser.add_argument("--from", dest="source", type=Path, help="no measuring: tables of an earlier result")
    parser.add_argument("--readme", action="store_true", help="put the tables into README.md")
    options = parser.parse_args()
    options.commands = [name.upper() for name in options.commands.split(",")]
    options.keys = options.keys.split(",")
    return options


def main() -> int:
    """Measures or reads, prints."""
    options = parse()
    try:
        if options.source:
            result = orjson.loads(options.source.read_bytes())
        else:
            options.valkey = find_valkey(options.valkey)
            build()
            options.out.parent.mkdir(parents=True, exist_ok=True)
            result = orjson.loads(options.out.read_bytes()) if options.out.exists() else {}
            result.update(date=time.strftime("%Y-%m-%d"), machine=machine(), settings={
                "runs": options.runs, "seconds": options.seconds, "pipeline": options.pipeline})

            def save() -> None:
                options.out.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))

            for part, measure in (("cpu", compare_cpu), ("memory", compare_memory)):
                if part in options.only.split(","):
                    result.pop(part, None)
                    say(f"--- {part}")
                    measure(options, result, save)
        text = markdown(result)
        print(text)
        if options.readme:
            write_readme(text)
    except (PerfError, subprocess.SubprocessError, KeyboardInterrupt) as error:
        say(f"perf/types: {error or 'interrupted'}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
