"""A flame graph of a running process, by `perf record` and nothing else.

    perf/profile PID [--seconds 10] [--dwarf] [--thread NAME] [--out perf/out/profile.svg]

Folds the stacks, gives Cython's functions their names back (engine.keyspace.lookup instead of
__pyx_f_6engine_8keyspace_lookup), writes an SVG whose boxes say name and share when pointed at, the folded
stacks beside it, and prints the functions that cost most by themselves. The release build has no frame
pointers: --dwarf unwinds without them, at the price of larger samples.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from html import escape
from pathlib import Path

OUT = Path(__file__).resolve().parent / "out"
WIDTH = 1200
ROW = 17
HEAD = 40
LETTER = 6.6
SELF_ROWS = 25
HERTZ = 999
SUFFIX = re.compile(r"\.(?:constprop|isra|part|cold|lto_priv)(?:\.\d+)?|\.localalias")


def plain_name(symbol: str) -> str:
    """A symbol as the source has it; a number that Cython puts before a method goes."""
    symbol = SUFFIX.sub("", symbol)
    match = re.match(r"__pyx_(?:f|pf|pw|fuse_\d+|vi)_(?=\d)", symbol)
    if not match:
        return symbol
    parts, rest = [], symbol[match.end():]
    while size := re.match(r"(\d+)", rest):
        start = size.end()
        end = start + int(size[1])
        if end > len(rest) or rest[end : end + 1] not in ("_", ""):
            break
        parts.append(rest[start:end])
        rest = rest[end + 1 :]
    return ".".join([*parts, rest.lstrip("0123456789")]) if rest else ".".join(parts)


def fold(script: str, thread: str | None = None) -> Counter:
    """Text of `perf script` to counts of stacks, from the outermost function inwards."""
    stacks: Counter = Counter()
    for block in script.split("\n\n"):
        lines = [line for line in block.splitlines() if line.strip()]
        if len(lines) < 2:
            continue
        name = lines[0].split("  ")[0].strip() or lines[0].split()[0]
        if thread and thread not in name:
            continue
        frames = []
        for line in lines[1:]:
            parts = line.strip().split(None, 1)
            text = parts[1] if len(parts) > 1 else "?"
            symbol, _, library = text.rpartition(" (")
            symbol = plain_name(symbol.partition("+0x")[0].strip())
            if symbol in ("", "[unknown]"):
                symbol = f"[{Path(library.rstrip(')')).name or '?'}]"
            frames.append(symbol)
        stacks[(name, *reversed(frames))] += 1
    return stacks


class _Node:
    def __init__(self) -> None:
        self.count = 0
        self.children: dict[str, _Node] = {}


def _tree(stacks: Counter) -> _Node:
    root = _Node()
    for stack, count in stacks.items():
        node = root
        node.count += count
        for frame in stack:
            node = node.children.setdefault(frame, _Node())
            node.count += count
    return root


def _colour(name: str) -> str:
    """Cython's functions warm, the kernel's and foreign ones cool."""
    shade = sum(name.encode()) % 50
    if name.startswith(("engine.", "net.", "persist.")):
        return f"rgb({225 - shade // 2},{120 + shade},60)"
    return f"rgb({150 + shade},{180 + shade // 2},{210 + shade // 2})"


def _draw(node: _Node, x: float, depth: int, scale: float, total: int, out: list[str], floor: int) -> None:
    for name, child in sorted(node.children.items()):
        width = child.count * scale
        if width >= 0.4:
            y = floor - (depth + 1) * ROW
            share = 100 * child.count / total
            label = name if len(name) * LETTER < width else name[: max(0, int(width / LETTER) - 1)]
            out.append(f'<g><title>{escape(name)} {share:.2f} %</title><rect x="{x:.1f}" y="{y}" '
                       f'width="{max(width - 0.5, 0.3):.1f}" height="{ROW - 1}" fill="{_colour(name)}"/>'
                       f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(label)}</text></g>')
            _draw(child, x, depth + 1, scale, total, out, floor)
        x += width


def _depth(node: _Node) -> int:
    return 1 + max((_depth(child) for child in node.children.values()), default=0)


def flame_svg(stacks: Counter, title: str) -> str:
    """The flame graph, outermost functions at the bottom."""
    root = _tree(stacks)
    height = HEAD + _depth(root) * ROW + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           f'viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">',
           f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
           f'<text x="10" y="20" font-size="14" font-weight="bold">{escape(title)}</text>']
    if root.count:
        _draw(root, 0.0, 0, WIDTH / root.count, root.count, out, height - 5)
    return "\n".join([*out, "</svg>"]) + "\n"


def self_table(stacks: Counter) -> str:
    """The functions on top of the stacks, the costliest first."""
    own: Counter = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
    total = sum(own.values()) or 1
    return "\n".join(f"{100 * count / total:6.2f} %  {name}" for name, count in own.most_common(SELF_ROWS))


def record(pid: int, seconds: float, dwarf: bool) -> str:
    """Samples a process and gives the text of `perf script`."""
    graph = "dwarf,16384" if dwarf else "fp"
    with tempfile.TemporaryDirectory(prefix="slotring-profile-") as folder:
        data = f"{folder}/perf.data"
        command = ["perf", "record", "-q", "-F", str(HERTZ), "-e", "cpu-clock", "-g", "--call-graph", graph,
                   "-p", str(pid), "-o", data, "--", "sleep", str(seconds)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        done = subprocess.run(["perf", "script", "-i", data, "-F", "comm,tid,ip,sym,dso"], check=True,
                              capture_output=True, text=True)
    return done.stdout


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="perf/profile", description="A flame graph of a running server.")
    parser.add_argument("pid", type=int)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--dwarf", action="store_true", help="unwind without frame pointers")
    parser.add_argument("--thread", help="only threads whose name contains this")
    parser.add_argument("--out", type=Path, default=OUT / "profile.svg")
    options = parser.parse_args()
    try:
        stacks = fold(record(options.pid, options.seconds, options.dwarf), options.thread)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"perf/profile: {error}", file=sys.stderr)
        return 1
    if not stacks:
        print("perf/profile: no samples; was the process idle?", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(flame_svg(stacks, f"process {options.pid}, {options.seconds:g} s, {HERTZ} Hz"))
    folded = "\n".join(f"{';'.join(stack)} {count}" for stack, count in sorted(stacks.items()))
    options.out.with_suffix(".folded").write_text(folded + "\n")
    print(self_table(stacks))
    print(f"wrote {options.out} ({sum(stacks.values())} samples)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
