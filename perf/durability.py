"""What durability costs: appendfsync always and everysec, pauses of BGSAVE and BGREWRITEAOF, loading.

    perf/durability --valkey DIR [--runs 5] [--requests 300000] [--keys 1000000] [--only always,everysec,pauses,loading]

Servers on core 0 (loading: on both), benchmark and pinger on core 1, runs interleaved, medians.
always: SET from 50 connections, requests a second at pipeline 1 and 16. everysec: CPU a command at pipeline 16.
pauses: the longest time that a PING sent each millisecond takes during the save, less that of as long without one,
while a benchmark writes; and the growth of resident memory. loading: what the log says that the load took.
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from peers import ROOT, Benchmark, Peer, PerfError, build, find_valkey, slotring, valkey

COMMAND = ["SET", "key:__rand_int__", "__data__"]
LOADED = re.compile(r"DB loaded from (?:append only file|disk): ([0-9.]+) seconds")


def both(options: argparse.Namespace, *settings: str) -> list[Peer]:
    return [slotring("0", 1, *settings), valkey(options.valkey, "0", 1, *settings)]


def show(name: str, values: list[list[float]], unit: str) -> None:
    """Medians of both, and the median of the ratios within each run."""
    ratios = [own / other for own, other in zip(*values, strict=True)]
    own, other = (statistics.median(each) for each in values)
    print(f"{name}: Slotring {own:,.2f} {unit}, Valkey {other:,.2f} {unit}, ratio {statistics.median(ratios):.2f}",
          flush=True)


def run_policy(options: argparse.Namespace, policy: str, pipelines: tuple[int, ...], figure: str) -> None:
    peers = both(options, "--appendonly", "yes", "--appendfsync", policy, "--auto-aof-rewrite-percentage", "0")
    bench = Benchmark(options.valkey / "valkey-benchmark", "1", keys=options.keys)
    try:
        for pipeline in pipelines:
            values: list[list[float]] = [[], []]
            for _ in range(options.runs):
                for peer, found in zip(peers, values, strict=True):
                    sample = bench.run(peer, COMMAND, pipeline, options.requests * (4 if pipeline > 1 else 1))
                    found.append(sample.rps / 1000 if figure == "rps" else sample.cpu_us)
            show(f"SET, appendfsync {policy}, pipeline {pipeline}", values, "k/s" if figure == "rps" else "µs CPU")
    finally:
        for peer in peers:
            peer.stop()


def longest_ms(peer: Peer, until) -> float:
    """Ping each millisecond until `until` says so: the longest wait for an answer."""
    connection = peer.connect()
    longest = 0.0
    began = time.monotonic()
    while not until(time.monotonic() - began):
        sent = time.monotonic()
        connection.call("PING")
        longest = max(longest, time.monotonic() - sent)
        time.sleep(0.001)
    connection.close()
    return longest * 1000


def pause_ms(options: argparse.Namespace, peer: Peer, command: str, field: str) -> tuple[float, float, float]:
    """(longest ping without, with, peak growth of resident memory)."""
    load = subprocess.Popen(["taskset", "-c", "1", str(options.valkey / "valkey-benchmark"), "-p", str(peer.port), "-q",
                             "-c", "10", "-r", str(options.keys), "-d", "64", "--rps", "20000", "-n", "100000000", "--",
                             *COMMAND], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    asker = peer.connect()
    try:
        time.sleep(0.5)
        without = longest_ms(peer, lambda elapsed: elapsed > 2)
        before = peer.rss_bytes()
        asker.call(*command.split())
        state = {"asked": 0.0, "peak": before, "over": False}

        def until(elapsed: float) -> bool:
            if elapsed - state["asked"] > 0.1:
                state["asked"] = elapsed
                state["peak"] = max(state["peak"], peer.rss_bytes())
                state["over"] = f"{field}:0" in str(asker.call("INFO", "persistence"))
            return bool(state["over"])

        with_it = longest_ms(peer, until)
        return without, with_it, state["peak"] / before - 1
    finally:
        load.kill()
        load.wait()
        asker.close()


def run_pauses(options: argparse.Namespace) -> None:
    for command, field in (("BGSAVE", "rdb_bgsave_in_progress"), ("BGREWRITEAOF", "aof_rewrite_in_progress")):
        peers = both(options, "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
        try:
            for peer in peers:
                connection = peer.connect()
                connection.load(options.keys, 64)
                connection.close()
                found = [pause_ms(options, peer, command, field) for _ in range(options.runs)]
                without, with_it, growth = (statistics.median(each) for each in zip(*found, strict=True))
                print(f"{command} of {options.keys:,} keys, {peer.name}: longest ping {without:.2f} ms without, "
                      f"{with_it:.2f} ms with ({with_it - without:+.2f}), RSS {growth:+.1%}", flush=True)
        finally:
            for peer in peers:
                peer.stop()


def run_loading(options: argparse.Namespace) -> None:
    """Each server loads the folder that it wrote: an RDB file, then an AOF of plain commands."""
    for name, settings in (("RDB", ("--appendonly", "no")), ("AOF", ("--appendonly", "yes"))):
        values: list[list[float]] = [[], []]
        for number in (0, 1):
            every = (*settings, "--auto-aof-rewrite-percentage", "0")
            peer = slotring("0,1", 2, *every) if number == 0 else valkey(options.valkey, "0,1", 1, *every)
            connection = peer.connect()
            connection.load(options.keys, 64)
            if name == "RDB":
                connection.call("SAVE")
            connection.close()
            for _ in range(options.runs):
                values[number].append(load_time(options, peer, number, settings))
            peer.stop()
        show(f"loading {name} of {options.keys:,} keys", values, "s")


def load_time(options: argparse.Namespace, peer: Peer, number: int, settings: tuple[str, ...]) -> float:
    """Start another server of the kind on a copy of the folder; what its log says."""
    copy = Path(peer.folder.name) / "copy"
    subprocess.run(["rm", "-rf", str(copy)], check=True)
    copy.mkdir()
    time.sleep(1.2)                    # what everysec has not written yet
    for part in ("dump.rdb", "appendonlydir"):
        if (Path(peer.folder.name) / part).exists():
            subprocess.run(["cp", "-a", str(Path(peer.folder.name) / part), str(copy)], check=True)
    command = [str(ROOT / "scripts" / "server"), "--io-threads", "2"] if number == 0 else [
        str(options.valkey / "valkey-server")]
    again = Peer("again", command, "0,1", "--dir", str(copy), *settings)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = LOADED.search(again.log_path.read_text(errors="replace"))
            if found:
                return float(found[1])
            time.sleep(0.05)
        raise PerfError("nothing was loaded")
    finally:
        again.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="perf/durability", description=__doc__.splitlines()[0])
    parser.add_argument("--valkey", type=str)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--only", default="always,everysec,pauses,loading")
    options = parser.parse_args()
    wanted = options.only.split(",")
    try:
        options.valkey = find_valkey(options.valkey)
        build()
        if "always" in wanted:
            run_policy(options, "always", (1, 16), "rps")
        if "everysec" in wanted:
            run_policy(options, "everysec", (16,), "cpu")
        if "pauses" in wanted:
            run_pauses(options)
        if "loading" in wanted:
            run_loading(options)
    except PerfError as error:
        print(f"perf/durability: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
