"""What a command costs on the store alone: no socket, no parsing, one thread, one lock taken a command.

    perf/micro [--keys 1000000] [--count 2000000] [--data 64]

Set against the CPU time of perf/compare it says how much of a command is the network's.
"""

import argparse
import importlib
import sys

import numpy as np
from peers import ROOT, build

RUNS = 3
PARTITIONS = 64
FAMILIES = ("basics", "strings", "bitmaps", "keys", "expire")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="perf/micro", description="Commands on the store alone.")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--count", type=int, default=2_000_000)
    parser.add_argument("--data", type=int, default=64, help="bytes of a value")
    options = parser.parse_args()
    build()
    sys.path.insert(0, str(ROOT))
    for name in FAMILIES:
        importlib.import_module(f"engine.commands.{name}")
    from engine import bench, store

    store.create(PARTITIONS, 16)
    value = b"v" * options.data
    nanoseconds, grown = bench.run([b"set", b"", value], options.keys, options.keys, False)
    print(f"{'fill, in order':<24}{nanoseconds:8.1f} ns{grown / options.keys:10.1f} bytes a key")
    for words in ([b"get", b""], [b"set", b"", value], [b"exists", b""], [b"strlen", b""],
                  [b"getrange", b"", b"0", b"7"], [b"setrange", b"", b"3", b"x"], [b"ttl", b""],
                  [b"expire", b"", b"1000"], [b"get", b""], [b"persist", b""]):
        times = [bench.run(words, options.count, options.keys)[0] for _ in range(RUNS)]
        name = " ".join(word.decode() for word in words if len(word) < 9)
        print(f"{name:<24}{float(np.median(times)):8.1f} ns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
