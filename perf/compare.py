"""Slotring and a real Valkey side by side, by Valkey's own benchmark, in turns, as medians.

    perf/compare --valkey DIR [--runs 5] [--seconds 2] [--commands GET,SET] [--only cpu,threads,memory]
                 [--readme] [--from perf/out/compare.json]

Three tables:
  cpu      both servers pinned to core 0 with one thread, the benchmark on core 1: CPU time of the server a
           command (user and system, from /proc), requests a second, latency
  threads  both cores for the server and a benchmark of two threads: Slotring with two workers against the
           better of Valkey with io-threads 1 and 2
  memory   resident bytes a key: 1M keys of 16 bytes with values of 64, without and with an expiry

Each run measures the servers one after the other, in an order that changes, so that what else happens on the
machine meets both; ratios are medians of the ratios within a run. Results are written to perf/out/ after every
run: an interrupted comparison keeps what it has.
"""

import argparse
import platform
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import charts
import numpy as np
import orjson
from peers import ROOT, Benchmark, Peer, PerfError, build, find_valkey, slotring, valkey

OUT = ROOT / "perf" / "out"
K = "key:__rand_int__"
KEYS_10 = [f"key:__rand_{n}__" for n in ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th", "int")]
COMMANDS = {
    "GET": ["GET", K],
    "SET": ["SET", K, "__data__"],
    "INCR": ["INCR", "counter:__rand_int__"],
    "MSET": ["MSET", *(item for key in KEYS_10 for item in (key, "__data__"))],
    "MGET": ["MGET", *KEYS_10],
    "SETEX": ["SETEX", "expiring:__rand_int__", "1000", "__data__"],
    "GETSET": ["GETSET", K, "__data__"],
    "EXISTS": ["EXISTS", K],
    "EXPIRE": ["EXPIRE", "expiring:__rand_int__", "1000"],
    "GETRANGE": ["GETRANGE", K, "8", "15"],
    "SETBIT": ["SETBIT", "bits:__rand_int__", "7", "1"],
    "PING": ["PING"],
    "LPUSH": ["LPUSH", "list:__rand_int__", "__data__"],
    "RPOP": ["RPOP", "list:__rand_int__"],
    "HSET": ["HSET", "hash:__rand_int__", "field", "__data__"],
    "SADD": ["SADD", "set:__rand_int__", "member"],
    "ZADD": ["ZADD", "zset:__rand_int__", "1", "member"],
}
DEFAULT_COMMANDS = "GET,SET,INCR,MSET,MGET,SETEX,GETSET,EXISTS"
THREADS_COMMANDS = ("GET", "SET", "INCR", "MSET")
PIPELINES = (1, 16, 64)
RATES = {1: 60_000, 16: 500_000, 64: 800_000}  # requests a second that one run's length is planned with
SLOW = {"MSET": 6, "MGET": 4}  # these touch ten keys
MARKERS = ("<!-- figures: written by perf/compare --readme -->", "<!-- /figures -->")
MEASURES = ("cpu_us", "rps", "p50_ms", "p99_ms")


def say(text: str) -> None:
    """Progress, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def requests_of(name: str, pipeline: int, seconds: float) -> int:
    """How many requests one run sends."""
    return max(pipeline * 50, int(RATES.get(pipeline, 500_000) * seconds / SLOW.get(name, 1)))


def supported(peer: Peer, names: list[str]) -> list[str]:
    """Those commands that the server does not refuse."""
    connection = peer.connect()
    found = []
    for name in names:
        reply = connection.call(*(word.replace("__", "") for word in COMMANDS[name]))
        if isinstance(reply, str) and reply.startswith("-"):
            say(f"  {name}: {peer.name} says {reply}")
        else:
            found.append(name)
    connection.call("FLUSHALL")
    connection.close()
    return found


def prefill(peer: Peer, options: argparse.Namespace) -> None:
    """Puts the keys there that the commands will meet."""
    connection = peer.connect()
    connection.call("FLUSHALL")
    connection.load(options.keys, options.data)
    size = connection.call("DBSIZE")
    connection.close()
    if size != options.keys:
        raise PerfError(f"{peer.name} has {size} keys after loading {options.keys}")


def measure(benchmark: Benchmark, peers: list[Peer], names: list[str], pipelines: list[int],
            options: argparse.Namespace, table: dict, save) -> None:
    """Fills table[pipeline][command][server][measure] with one value a run.

    A benchmark of several threads looks for its end every quarter of a second: its runs are twice as long.
    """
    seconds = options.seconds * (2 if benchmark.threads > 1 else 1)
    for run in range(options.runs):
        for pipeline in pipelines:
            for name in names:
                order = peers if run % 2 == 0 else peers[::-1]
                line = []
                for peer in order:
                    requests = requests_of(name, pipeline, seconds)
                    sample = attempt(benchmark, peer, COMMANDS[name], pipeline, requests)
                    cell = table.setdefault(str(pipeline), {}).setdefault(name, {}).setdefault(peer.name, {})
                    for key, value in asdict(sample).items():
                        cell.setdefault(key, []).append(value)
                    line.append(f"{peer.name} {sample.cpu_us:.2f} µs {sample.rps / 1000:.0f} k/s")
                say(f"  run {run + 1}/{options.runs} P{pipeline} {name}: {'; '.join(sorted(line))}")
        save()


def attempt(benchmark: Benchmark, peer: Peer, command: list[str], pipeline: int, requests: int):
    """One run, and another one where the benchmark itself fails once."""
    try:
        return benchmark.run(peer, command, pipeline, requests)
    except (PerfError, subprocess.TimeoutExpired) as error:
        say(f"  again: {error}")
        return benchmark.run(peer, command, pipeline, requests)


def compare_cpu(options: argparse.Namespace, result: dict, save) -> None:
    """The table of CPU time a command."""
    peers = [slotring("0", 1, *options.slotring_option), valkey(options.valkey, "0", 1)]
    try:
        result["versions"] = {peer.name: peer.info().get("valkey_version", "?") for peer in peers}
        names = supported(peers[0], options.commands)
        for peer in peers:
            say(f"prefill {peer.name} with {options.keys} keys")
            prefill(peer, options)
        benchmark = Benchmark(options.valkey / "valkey-benchmark", "1", options.clients, options.keys,
                              options.data)
        measure(benchmark, peers, names, options.pipelines, options, result.setdefault("cpu", {}), save)
    finally:
        for peer in peers:
            peer.stop()


def compare_threads(options: argparse.Namespace, result: dict, save) -> None:
    """The table of two threads on two cores, shared with the benchmark."""
    peers = [slotring("0,1", 2, *options.slotring_option), valkey(options.valkey, "0,1", 1),
             valkey(options.valkey, "0,1", 2)]
    try:
        names = supported(peers[0], [name for name in options.commands if name in THREADS_COMMANDS])
        for peer in peers:
            say(f"prefill {peer.name} with {options.keys} keys")
            prefill(peer, options)
        benchmark = Benchmark(options.valkey / "valkey-benchmark", "0,1", options.clients, options.keys,
                              options.data, threads=2)
        measure(benchmark, peers, names, options.pipelines, options, result.setdefault("threads", {}), save)
    finally:
        for peer in peers:
            peer.stop()


def compare_memory(options: argparse.Namespace, result: dict, save) -> None:
    """The table of bytes a key; servers are fresh for each."""
    ttl = b"$2\r\nEX\r\n$6\r\n100000\r\n"
    for kind, extra, extra_args in (("plain", b"", 0), ("with expiry", ttl, 2)):
        for start in (lambda: slotring("0", 1, *options.slotring_option),
                      lambda: valkey(options.valkey, "0", 1)):
            peer = start()
            try:
                connection = peer.connect()
                connection.load(1000, options.data)
                connection.call("FLUSHALL")
                time.sleep(0.5)
                rss, used = peer.rss_bytes(), int(peer.info()["used_memory"])
                connection.load(options.keys, options.data, extra, extra_args)
                time.sleep(0.5)
                cell = {
                    "rss_bytes": (peer.rss_bytes() - rss) / options.keys,
                    "used_memory_bytes": (int(peer.info()["used_memory"]) - used) / options.keys,
                    "start_rss_bytes": rss,
                }
                result.setdefault("memory", {}).setdefault(kind, {})[peer.name] = cell
                say(f"  {kind}: {peer.name} {cell['rss_bytes']:.1f} bytes a key")
            finally:
                peer.stop()
    save()


# --- what comes out ---------------------------------------------------------------------------------------------------


def median(values: list[float]) -> float:
    """The median."""
    return float(np.median(np.asarray(values)))


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of ours over theirs, run by run."""
    count = min(len(ours), len(theirs))
    return float(np.median(np.asarray(ours[:count]) / np.maximum(np.asarray(theirs[:count]), 1e-9)))


def markdown_cpu(result: dict) -> list[str]:
    """One core each: CPU time, throughput, latency."""
    lines = ["| pipeline | command | CPU µs a command: Slotring | Valkey | ratio | requests/s: Slotring | Valkey "
             "| p50 ms | p99 ms |", "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |"]
    for pipeline, rows in result.get("cpu", {}).items():
        for name, cell in rows.items():
            ours, theirs = cell["Slotring"], cell["Valkey"]
            lines.append(
                f"| {pipeline} | {name} | {median(ours['cpu_us']):.2f} | {median(theirs['cpu_us']):.2f} "
                f"| **{ratio(ours['cpu_us'], theirs['cpu_us']):.2f}** "
                f"| {median(ours['rps']):,.0f} | {median(theirs['rps']):,.0f} "
                f"| {median(ours['p50_ms']):.2f} / {median(theirs['p50_ms']):.2f} "
                f"| {median(ours['p99_ms']):.2f} / {median(theirs['p99_ms']):.2f} |")
    return lines


def best_of_valkey(cell: dict) -> tuple[str, dict]:
    """Valkey's better setting for one command."""
    names = [name for name in cell if name.startswith("Valkey")]
    best = max(names, key=lambda name: median(cell[name]["rps"]))
    return best, cell[best]


def markdown_threads(result: dict) -> list[str]:
    """Two threads, two cores, the benchmark on the same cores."""
    lines = ["| pipeline | command | requests/s: Slotring | Valkey's best | with | ratio | p50 ms | p99 ms |",
             "| --- | --- | ---: | ---: | --- | ---: | --- | --- |"]
    for pipeline, rows in result.get("threads", {}).items():
        for name, cell in rows.items():
            ours = next(value for key, value in cell.items() if key.startswith("Slotring"))
            best, theirs = best_of_valkey(cell)
            how = "io-threads 2" if best.endswith("2") else "io-threads 1"
            lines.append(
                f"| {pipeline} | {name} | {median(ours['rps']):,.0f} | {median(theirs['rps']):,.0f} | {how} "
                f"| **{ratio(ours['rps'], theirs['rps']):.2f}** "
                f"| {median(ours['p50_ms']):.2f} / {median(theirs['p50_ms']):.2f} "
                f"| {median(ours['p99_ms']):.2f} / {median(theirs['p99_ms']):.2f} |")
    return lines


def markdown_memory(result: dict) -> list[str]:
    """Bytes a key."""
    lines = ["| keys | resident bytes a key: Slotring | Valkey | ratio | used_memory a key | RSS at start, MB |",
             "| --- | ---: | ---: | ---: | --- | --- |"]
    for kind, cell in result.get("memory", {}).items():
        ours, theirs = cell["Slotring"], cell["Valkey"]
        lines.append(
            f"| 16 + {result['settings']['data']} bytes, {kind} | {ours['rss_bytes']:.1f} | {theirs['rss_bytes']:.1f} "
            f"| **{ours['rss_bytes'] / theirs['rss_bytes']:.2f}** "
            f"| {ours['used_memory_bytes']:.1f} / {theirs['used_memory_bytes']:.1f} "
            f"| {ours['start_rss_bytes'] / 2**20:.0f} / {theirs['start_rss_bytes'] / 2**20:.0f} |")
    return lines


def markdown(result: dict) -> str:
    """All tables, with what they were measured on."""
    machine, settings = result["machine"], result["settings"]
    lines = [
        f"Measured {result['date']} on {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}: "
        f"`valkey-benchmark -r {settings['keys']} -d {settings['data']} -c {settings['clients']}` over loopback, "
        f"{settings['keys']:,} keys prefilled, medians of {settings['runs']} interleaved runs; pairs are "
        "Slotring / Valkey, ratios medians of the ratios within each run."]
    for key, title, table in (
            ("cpu", "One thread on a core of its own, the benchmark on the other", markdown_cpu),
            ("threads", "Two threads on two cores, shared with the benchmark", markdown_threads),
            ("memory", "Memory", markdown_memory)):
        if result.get(key):
            lines += ["", f"**{title}**", "", *table(result)]
    return "\n".join(lines) + "\n"


def write_charts(result: dict, path: Path) -> list[Path]:
    """The plots that the tables allow."""
    written = []
    groups = [(f"P{pipeline} {name}", [median(cell["Slotring"]["cpu_us"]), median(cell["Valkey"]["cpu_us"])])
              for pipeline, rows in result.get("cpu", {}).items() for name, cell in rows.items()]
    if groups:
        written.append(path.with_name(f"{path.stem}-cpu.svg"))
        written[-1].write_text(charts.bars("CPU time a command (less is better)", "µs", ["Slotring", "Valkey"], groups))
    groups = [(f"P{pipeline} {name}",
               [median(next(v for k, v in cell.items() if k.startswith("Slotring"))["rps"]) / 1000,
                median(best_of_valkey(cell)[1]["rps"]) / 1000])
              for pipeline, rows in result.get("threads", {}).items() for name, cell in rows.items()]
    if groups:
        written.append(path.with_name(f"{path.stem}-threads.svg"))
        written[-1].write_text(charts.bars("Two threads: thousand requests a second (more is better)", "k/s",
                                           ["Slotring", "Valkey's best"], groups))
    return written


def write_readme(text: str) -> None:
    """Puts the tables between the markers of README.md."""
    path = ROOT / "README.md"
    readme = path.read_text()
    pattern = re.compile(re.escape(MARKERS[0]) + ".*?" + re.escape(MARKERS[1]), re.S)
    if not pattern.search(readme):
        raise PerfError("README.md has no markers for the figures")
    path.write_text(pattern.sub(lambda _: f"{MARKERS[0]}\n{text}{MARKERS[1]}", readme))


def machine() -> dict:
    """What it was measured on."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "?")
    cores = subprocess.run(["nproc"], capture_output=True, text=True).stdout.strip()
    return {"cpu": model, "cores": int(cores or 1), "kernel": platform.release().split("-")[0]}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="perf/compare", description="Slotring and Valkey side by side.")
    parser.add_argument("--valkey", help="folder of valkey-server and valkey-benchmark")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="planned length of one run")
    parser.add_argument("--commands", default=DEFAULT_COMMANDS, help=f"of {','.join(COMMANDS)}")
    parser.add_argument("--pipelines", default=",".join(map(str, PIPELINES)))
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--data", type=int, default=64)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--only", default="cpu,threads,memory")
    parser.add_argument("--out", type=Path, default=OUT / "compare.json")
    parser.add_argument("--from", dest="source", type=Path, help="no measuring: tables of an earlier result")
    parser.add_argument("--readme", action="store_true", help="put the tables into README.md")
    parser.add_argument("slotring_option", nargs="*", help="after --: options of Slotring")
    options = parser.parse_args()
    options.commands = [name.upper() for name in options.commands.split(",")]
    options.pipelines = [int(number) for number in options.pipelines.split(",")]
    return options


def run(options: argparse.Namespace) -> dict:
    """Measures what is asked for."""
    options.valkey = find_valkey(options.valkey)
    build()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result: dict = {
        "date": time.strftime("%Y-%m-%d"), "machine": machine(),
        "settings": {name: getattr(options, name) for name in ("runs", "seconds", "keys", "data", "clients")},
    }

    def save() -> None:
        options.out.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))

    for name, part in (("cpu", compare_cpu), ("threads", compare_threads), ("memory", compare_memory)):
        if name in options.only.split(","):
            say(f"--- {name}")
            part(options, result, save)
    return result


def main() -> int:
    """Measures or reads, prints, plots."""
    options = parse()
    try:
        result = orjson.loads(options.source.read_bytes()) if options.source else run(options)
        text = markdown(result)
        print(text)
        for path in write_charts(result, options.source or options.out):
            say(f"wrote {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
        if options.readme:
            write_readme(text)
    except (PerfError, KeyboardInterrupt) as error:
        say(f"perf/compare: {error or 'interrupted'}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
