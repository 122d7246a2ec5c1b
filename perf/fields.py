"""A million hash fields that expire over a minute while 50 connections read: is their memory back, does GET feel it?

    perf/fields --valkey DIR [--fields 1000000] [--over 60] [--hashes 1000]

For each server: keys for GET, then valkey-benchmark's GET (50 connections, pipeline 1) for `over` seconds as a base,
then the fields are written with expiries spread evenly over `over` seconds and GET runs for as long again.
Reported: p99 of both, their ratio, and how long after the last expiry the memory of the fields was back (used_memory
within 2 % of the fields' bytes of what it was before).
"""

import argparse
import csv
import io
import subprocess
import sys
import time

from datatypes import send
from peers import Peer, PerfError, build, find_valkey, slotring, valkey

BACK_SHARE = 0.02


def used(peer: Peer) -> int:
    """used_memory."""
    return int(peer.info()["used_memory"])


def start_load(options: argparse.Namespace, peer: Peer, seconds: float) -> subprocess.Popen:
    """GET from 50 connections, planned for about so many seconds."""
    argv = ["taskset", "-c", "1", str(options.valkey / "valkey-benchmark"), "-p", str(peer.port), "--csv", "-c", "50",
            "-r", "100000", "-n", str(int(options.rate * seconds)), "--", "GET", "key:__rand_int__"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def p99(load: subprocess.Popen) -> tuple[float, float]:
    """(p99 in ms, requests a second) of a load that has ended."""
    out, errors = load.communicate()
    rows = list(csv.DictReader(io.StringIO(out)))
    if not rows:
        raise PerfError(errors[-300:])
    return float(rows[-1]["p99_latency_ms"]), float(rows[-1]["rps"])


def write_fields(options: argparse.Namespace, peer: Peer) -> float:
    """Writes the fields; returns the wall clock at which the last expires, s."""
    each = options.fields // options.hashes
    first = time.time() + 5
    connection = peer.connect()

    def commands():
        for h in range(options.hashes):
            for start in range(0, each, 100):
                at = int((first + (h * each + start) * options.over / options.fields) * 1000)
                some = [b"field:%d" % i for i in range(start, min(start + 100, each))]
                yield (b"HSETEX", b"hash:%d" % h, b"PXAT", b"%d" % at, b"FIELDS", b"%d" % len(some),
                       *(part for name in some for part in (name, b"value of the field")))

    send(connection, commands())
    connection.close()
    return first + options.over


def one(options: argparse.Namespace, peer: Peer) -> dict:
    """All of it on one server."""
    connection = peer.connect()
    connection.load(100_000, 64)
    base, base_rps = p99(start_load(options, peer, options.over / 2))
    before = used(peer)
    last = write_fields(options, peer)
    peak = used(peer)
    load = start_load(options, peer, options.over + 5)
    back = None
    while time.time() < last + 30:
        if time.time() > last - 1 and used(peer) - before < (peak - before) * BACK_SHARE:
            back = time.time() - last
            break
        time.sleep(0.2)
    expiring, rps = p99(load)
    connection.close()
    return {"base_p99_ms": base, "p99_ms": expiring, "ratio": expiring / base, "base_rps": base_rps, "rps": rps,
            "back_s": back, "peak_mib": (peak - before) / 2**20, "left_mib": (used(peer) - before) / 2**20}


def main() -> int:
    """Both servers, one after the other."""
    parser = argparse.ArgumentParser(prog="perf/fields")
    parser.add_argument("--valkey")
    parser.add_argument("--fields", type=int, default=1_000_000)
    parser.add_argument("--hashes", type=int, default=1000)
    parser.add_argument("--over", type=float, default=60)
    parser.add_argument("--rate", type=int, default=80_000, help="GETs a second that the load is planned with")
    options = parser.parse_args()
    options.valkey = find_valkey(options.valkey)
    build()
    for start in (lambda: slotring("0", 1), lambda: valkey(options.valkey, "0", 1)):
        peer = start()
        try:
            cell = one(options, peer)
            back = "not within 30 s" if cell["back_s"] is None else f"{max(cell['back_s'], 0):.1f} s after the last"
            print(f"{peer.name}: p99 of GET {cell['base_p99_ms']:.2f} ms without, {cell['p99_ms']:.2f} ms with "
                  f"expiring fields (ratio {cell['ratio']:.2f}; {cell['base_rps']:,.0f} and {cell['rps']:,.0f} GET/s); "
                  f"{cell['peak_mib']:.1f} MiB of fields, back {back}, {cell['left_mib']:.1f} MiB left", flush=True)
        finally:
            peer.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
