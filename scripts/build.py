"""Compiles the .pyx modules, each only when its content (or what it cimports) has changed.

A module's key is a hash of its source, of every .pxd it reaches, of the flags, the interpreter and the CPU.
The result lies in .build/<variant>/<package>/ and, by its key, in the user's cache, so that a fresh clone of the
same sources compiles nothing. Variants: release, asan, tsan (environment SLOTRING_VARIANT).
"""
from __future__ import annotations

import hashlib
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGES = ("engine", "net", "persist")
VARIANT = os.environ.get("SLOTRING_VARIANT", "release")
OUT = os.path.join(ROOT, ".build", VARIANT)
CACHE = os.environ.get("SLOTRING_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "slotring")
SUFFIX = f".cpython-{sys.version_info[0]}{sys.version_info[1]}t-x86_64-linux-gnu.so"
WARNINGS = ("-Wno-unused-function -Wno-unused-variable -Wno-unused-but-set-variable "
            "-Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-array-bounds -fno-strict-aliasing")
FLAGS = {
    "release": "-O3 -g1 -march=native -fno-plt -fno-semantic-interposition " + WARNINGS,
    "asan": "-O1 -g -fsanitize=address -fno-omit-frame-pointer " + WARNINGS,
    "tsan": "-O1 -g -fsanitize=thread -fno-omit-frame-pointer " + WARNINGS,
}[VARIANT]
DIRECTIVES = {
    "language_level": "3", "freethreading_compatible": True, "boundscheck": False,
    "wraparound": False, "cdivision": True, "initializedcheck": False, "nonecheck": False,
    "embedsignature": False,
}
CIMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+cimport\s+([\w*]+)|cimport\s+([\w.]+))", re.M)


def sources() -> dict[str, str]:
    """Dotted module names of all .pyx files, with their paths."""
    found = {}
    for package in PACKAGES:
        for folder, dirs, files in os.walk(os.path.join(ROOT, package)):
            dirs[:] = [d for d in dirs if not d.startswith(("_", "."))]
            for name in files:
                if name.endswith(".pyx"):
                    path = os.path.join(folder, name)
                    found[os.path.relpath(path, ROOT)[:-4].replace(os.sep, ".")] = path
    return found


def cpu() -> str:
    """The line of CPU flags: -march=native depends on it."""
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith(("flags", "Features")):
                return line
    return ""


def keys() -> dict[str, str]:
    """Content key of every module."""
    texts: dict[str, tuple[str, list[str]] | None] = {}

    def read(path: str):
        if path not in texts:
            try:
                with open(path) as f:
                    text = f.read()
            except OSError:
                texts[path] = None
                return None
            names = []
            for a, b, c in CIMPORT.findall(text):
                names += [a, f"{a}.{b}"] if a else [c]
            texts[path] = (text, [n for n in names if n.split(".")[0] in PACKAGES])
        return texts[path]

    base = "\n".join((FLAGS, sys.version, repr(sorted(DIRECTIVES.items())), cpu()))
    result = {}
    for module, path in sources().items():
        todo, seen = [path, path[:-1] + "d"], set()
        digest = hashlib.sha256(base.encode())
        while todo:
            item = todo.pop()
            if item in seen:
                continue
            seen.add(item)
            got = read(item)
            if got:
                digest.update(got[0].encode())
                todo += sorted(os.path.join(ROOT, *n.split(".")) + ".pxd" for n in got[1])
        result[module] = digest.hexdigest()[:32]
    return result


def target(module: str) -> str:
    """Where a module's shared object lies."""
    return os.path.join(OUT, *module.split(".")) + SUFFIX


def stale() -> list[str]:
    """Modules whose compiled form is missing or of other content."""
    try:
        with open(os.path.join(OUT, "manifest")) as f:
            have = dict(line.split() for line in f)
    except OSError:
        have = {}
    return [m for m, k in keys().items() if have.get(m) != k or not os.path.exists(target(m))]


def compile_one(module: str, path: str) -> None:
    """Cython, then gcc; raises CalledProcessError with everything they said."""
    import subprocess
    import sysconfig
    c_file = os.path.join(OUT, "c", module + ".c")
    os.makedirs(os.path.dirname(c_file), exist_ok=True)
    os.makedirs(os.path.dirname(target(module)), exist_ok=True)
    options = [f"-X{k}={v}" for k, v in DIRECTIVES.items()]
    run = dict(cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    subprocess.run([sys.executable, "-B", "-m", "cython", "-3", "--module-name", module, *options,
                    os.path.relpath(path, ROOT), "-o", c_file], **run)
    import importlib.util
    spec = importlib.util.find_spec("liburing")
    where = os.path.dirname(spec.origin)
    extra, link = [], []
    with open(path) as f:
        if "# slotring: link liburing" in f.read():
            queue = [n for n in os.listdir(os.path.join(where, "lib")) if n.startswith("queue.")]
            extra = [f"-I{where}/include"]
            link = [f"-L{where}/lib", "-l:" + queue[0], f"-Wl,-rpath,{where}/lib"] if queue else []
    partial = target(module) + ".part"
    subprocess.run(["gcc", "-shared", "-fPIC", *FLAGS.split(), f"-I{sysconfig.get_path('include')}",
                    *extra, c_file, "-o", partial, *link, "-lm"], **run)
    os.replace(partial, target(module))


def build() -> None:
    """Bring every module up to date; prints a line a module; exits with the compiler's words on failure."""
    import shutil
    import subprocess
    import time
    from concurrent.futures import ThreadPoolExecutor
    wanted, paths = keys(), sources()
    todo = sorted(stale(), key=lambda m: -os.path.getsize(paths[m]))
    store = os.path.join(CACHE, "objects")
    os.makedirs(store, exist_ok=True)

    def one(module: str) -> str:
        start = time.monotonic()
        kept = os.path.join(store, f"{wanted[module]}-{VARIANT}.so")
        kept_c = kept[:-3] + ".c"
        c_file = os.path.join(OUT, "c", module + ".c")
        if os.path.exists(kept) and os.path.exists(kept_c):
            for folder in (target(module), c_file):
                os.makedirs(os.path.dirname(folder), exist_ok=True)
            shutil.copyfile(kept, target(module))
            shutil.copyfile(kept_c, c_file)
            return ""
        try:
            compile_one(module, paths[module])
        except subprocess.CalledProcessError as e:
            return f"!{module}\n{e.stdout}"
        for source, kept_name in ((c_file, kept_c), (target(module), kept)):
            shutil.copyfile(source, kept_name + ".part")
            os.replace(kept_name + ".part", kept_name)
        print(f"[build] {module} {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
        return ""

    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        failures = [r[1:] for r in pool.map(one, todo) if r]
    done = {m: k for m, k in wanted.items() if not any(f.startswith(m + "\n") for f in failures)}
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, "manifest.part"), "w") as f:
        f.writelines(f"{m} {k}\n" for m, k in done.items())
    os.replace(os.path.join(OUT, "manifest.part"), os.path.join(OUT, "manifest"))
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    build()
