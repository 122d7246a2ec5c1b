"""Compiles the Cython modules of engine/, net/ and persist/, only those that changed.

    python scripts/build.py [--variant release|asan|tsan] [--annotate] [--stale] [--force]
                            [module ...]

What a module is built from names what comes out: its key is a hash over its .pyx, every .pxd, .pxi
and .h it reads, directly or not, the flags, Python, Cython, the C compiler and the processor's
features. Results are kept by key in the cache folder too, so that a fresh clone on the same machine
compiles nothing. Under .build/<variant>/:

    <package>/<name>.<suffix>   the extension modules; each package's __path__ ends in its folder
    c/<package>/<name>.c        the generated C (and .html, with --annotate)
    manifest.json               the key of each module
    fresh                       a digest over all sources; a server's start compares only this one

The variant is SLOTRING_VARIANT, else release. A line `# slotring: link liburing` in a .pyx links
the module with the io_uring functions that the liburing package carries inside its `queue`
extension, found by rpath: no Python import of that package happens, at run time or here. The top of
this file is on every server's way to being ready: it imports only what Python has loaded already.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGES = ("engine", "net", "persist")
SOURCE_SUFFIXES = (".pyx", ".pxd", ".pxi", ".h")
LINK_LIBURING = b"# slotring: link liburing"
CACHE_ENTRIES_MAX = 1500
CPUINFO_BYTES_MAX = 8192

# from (dots)(module) cimport (names, perhaps in parentheses over several lines)
FROM_CIMPORT = (
    r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+cimport[ \t]+(\([^)]*\)|(?:[^\n\\]|\\\n)*)"
)
# include "x.pxi", extern from "x.h", and a C #include "x.h" in a verbatim block
INCLUDE = r"""(?:^[ \t]*#?[ \t]*include|\bextern[ \t]+from)[ \t]+['"]([^'"<>]+)['"]"""

DIRECTIVES = {
    "language_level": 3,
    "freethreading_compatible": True,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "nonecheck": False,
    "legacy_implicit_noexcept": False,
}
COMMON_FLAGS = (
    "-fPIC -g -fno-strict-aliasing -fvisibility=hidden -fno-semantic-interposition -fno-plt "
    "-DCYTHON_CLINE_IN_TRACEBACK=0 -Wall -Werror=implicit-function-declaration "
    "-Werror=incompatible-pointer-types -Werror=int-conversion -Wno-unused-function "
    "-Wno-unused-variable -Wno-unused-but-set-variable -Wno-unused-label -Wno-cpp "
    "-Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-array-bounds"
)
VARIANTS = {
    "release": f"{COMMON_FLAGS} -O3 -march=native -DNDEBUG",
    "asan": f"{COMMON_FLAGS} -O1 -fsanitize=address -fno-omit-frame-pointer",
    "tsan": f"{COMMON_FLAGS} -O1 -fsanitize=thread -fno-omit-frame-pointer",
}
LINK_FLAGS = "-shared -Wl,-O1 -Wl,-z,now"
RECIPE = "recipe 1"  # raise it when this file does something else with the same sources


def default_variant():
    """The variant that the packages' __path__ names."""
    return os.environ.get("SLOTRING_VARIANT", "release")


def out_dir(variant):
    """The folder of a variant's results."""
    return os.path.join(ROOT, ".build", variant)


def site_packages():
    """The environment's package folder, without asking sysconfig."""
    abi = getattr(sys, "abiflags", "")
    return f"{sys.prefix}/lib/python{sys.version_info[0]}.{sys.version_info[1]}{abi}/site-packages"


def extension_suffix():
    """The suffix of an extension module of this Python: `.cpython-313t-x86_64-linux-gnu.so`."""
    import _imp

    return _imp.extension_suffixes()[0]


def sources():
    """The path of each source file, relative to the root, sorted."""
    found = []
    stack = list(PACKAGES)
    while stack:
        folder = stack.pop()
        try:
            entries = list(os.scandir(os.path.join(ROOT, folder)))
        except FileNotFoundError:
            continue
        for entry in entries:
            name = entry.name
            if name.endswith(SOURCE_SUFFIXES):
                found.append(f"{folder}/{name}")
            elif "." not in name and name != "__pycache__" and entry.is_dir():
                stack.append(f"{folder}/{name}")
    found.sort()
    return found


def environment(variant):
    """All that a result depends on besides the sources, as text."""
    with open("/proc/cpuinfo", "rb", buffering=0) as file:
        lines = file.read(CPUINFO_BYTES_MAX).decode("ascii", "replace").split("\n\n")[0].split("\n")
    kept = ("flags", "Features", "cpu family", "model\t", "CPU part")
    cpu = "\n".join(line for line in lines if line.startswith(kept))
    cython = sorted(name for name in os.listdir(site_packages()) if name[:7].lower() == "cython-")
    for folder in os.environ.get("PATH", "/usr/bin").split(os.pathsep):
        gcc = os.path.realpath(os.path.join(folder, "gcc"))
        if os.path.exists(gcc):
            compiler = f"{gcc} {os.stat(gcc).st_size}"
            break
    else:
        compiler = "none"
    parts = [sys.version, extension_suffix(), *cython, compiler, VARIANTS[variant], LINK_FLAGS]
    return "\n".join([*parts, repr(DIRECTIVES), cpu, RECIPE])


def _hasher():
    """BLAKE2 without hashlib, whose import loads OpenSSL."""
    try:
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b
    return blake2b(digest_size=20)


def tree_digest(variant):
    """One digest over the environment and all sources."""
    digest = _hasher()
    digest.update(f"{environment(variant)}\n{site_packages()}".encode())
    for path in sources():
        with open(os.path.join(ROOT, path), "rb", buffering=0) as file:
            text = file.readall()
        digest.update(f"\0{path}\0{len(text)}\0".encode())
        digest.update(text)
    return digest.hexdigest()


def fresh(variant=None):
    """True where every module of the variant is built from the sources as they are now."""
    variant = variant or default_variant()
    try:
        with open(os.path.join(out_dir(variant), "fresh")) as file:
            digest, *results = file.read().split("\n")
    except FileNotFoundError:
        return False
    return digest == tree_digest(variant) and all(
        os.path.exists(os.path.join(out_dir(variant), path)) for path in results if path
    )


def stale(variant=None):
    """The modules of the variant that have to be built; none is the usual answer, and quick."""
    variant = variant or default_variant()
    if fresh(variant):
        return []
    return _plan(variant).stale()


# --- the rest runs only when something has changed ---------------------------------------------


class _Module:
    """One .pyx: its name, where its results go, and the key of its contents."""

    def __init__(self, source, variant):
        self.source = source
        self.name = source[:-4].replace("/", ".")
        base = source[:-4]
        self.result = base + extension_suffix()
        self.result_path = os.path.join(out_dir(variant), self.result)
        self.c_path = os.path.join(out_dir(variant), "c", f"{base}.c")
        self.size_bytes = os.path.getsize(os.path.join(ROOT, source))
        self.links_liburing = False
        self.key = ""


class _Plan:
    """What a variant consists of, and what of it is there already."""

    def __init__(self, variant):
        import json

        self.variant = variant
        self.digest = tree_digest(variant)
        self.texts = {}
        self.modules = [_Module(path, variant) for path in sources() if path.endswith(".pyx")]
        base = environment(variant)
        for module in self.modules:
            _give_key(module, base, self.texts)
        try:
            with open(os.path.join(out_dir(variant), "manifest.json")) as file:
                self.manifest = json.load(file)
        except (FileNotFoundError, ValueError):
            self.manifest = {}

    def is_stale(self, module):
        """True where the result is missing or was made of other contents."""
        known = self.manifest.get(module.name) == module.key
        return not (known and os.path.exists(module.result_path) and os.path.exists(module.c_path))

    def stale(self):
        """The names of the modules to build."""
        return [module.name for module in self.modules if self.is_stale(module)]


def _plan(variant):
    return _Plan(variant)


def _text(path, texts):
    if path not in texts:
        with open(os.path.join(ROOT, path), "rb") as file:
            texts[path] = file.read()
    return texts[path]


def _give_key(module, base, texts):
    digest = _hasher()
    digest.update(base.encode())
    for path in sorted(dependencies(module.source, texts)):
        text = _text(path, texts)
        digest.update(f"\0{path}\0{len(text)}\0".encode())
        digest.update(text)
    module.links_liburing = LINK_LIBURING in _text(module.source, texts)
    if module.links_liburing:
        digest.update(repr(_liburing_flags()).encode())
    module.key = digest.hexdigest()


def dependencies(source, texts):
    """Every file of the tree that compiling a source reads: itself, what it cimports, includes."""
    seen = set()
    queue = [source]
    while queue:
        path = queue.pop()
        if path in seen or not os.path.isfile(os.path.join(ROOT, path)):
            continue
        seen.add(path)
        if path.endswith(".pyx"):
            queue.append(path[:-4] + ".pxd")
        queue.extend(_references(path, _text(path, texts).decode()))
    return seen


def _references(path, text):
    """The files that one file names, whether they exist or not."""
    import re

    package = path.split("/")[:-1]
    for dots, base, names in re.findall(FROM_CIMPORT, text, re.M):
        parts = package[: len(package) - len(dots) + 1] if dots else []
        parts = [*parts, *base.split(".")] if base else parts
        yield from _module_files("/".join(parts))
        for name in re.findall(r"(\w+)(?:[ \t]+as[ \t]+\w+)?[ \t]*(?:,|$|\)|\n|#)", names):
            yield from _module_files("/".join([*parts, name]))
    for names in re.findall(r"^[ \t]*cimport[ \t]+([^\n#]*)", text, re.M):
        for name in names.split(","):
            yield from _module_files(name.split(" as ")[0].strip().replace(".", "/"))
    for name in re.findall(INCLUDE, text, re.M):
        yield os.path.normpath("/".join([*package, name]))
        yield name


def _module_files(path):
    """The .pxd files that a cimport of a module or package may read."""
    yield f"{path}.pxd"
    parts = path.split("/")
    for end in range(1, len(parts) + 1):
        yield "/".join([*parts[:end], "__init__.pxd"])


def _liburing_flags():
    """(compiler flags, linker flags) for the io_uring functions in liburing's queue extension.

    That library has no soname: named with `-l:` it is referred to by its bare file name, which the
    rpath completes.
    """
    folder = os.path.join(site_packages(), "liburing")
    library = "queue" + extension_suffix()
    if not os.path.exists(os.path.join(folder, library)):
        raise SystemExit(f"build: {folder} has no {library}; run scripts/setup")
    return (
        [f"-I{folder}/include", f"-I{folder}"],
        [f"-L{folder}", f"-l:{library}", f"-Wl,-rpath,{folder}"],
    )


def _cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.environ.get("SLOTRING_CACHE") or os.path.join(base, "slotring")
    folder = os.path.join(folder, "objects")
    os.makedirs(folder, exist_ok=True)
    return folder


def _place(source, target):
    """Puts a file in its place in one step: a running server keeps the one it has mapped."""
    import shutil

    os.makedirs(os.path.dirname(target), exist_ok=True)
    part = f"{target}.{os.getpid()}.part"
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    os.replace(part, target)


def _from_cache(module):
    """Takes a module's results from the cache; False where they are not there."""
    base = os.path.join(_cache_dir(), module.key)
    if not (os.path.exists(f"{base}.so") and os.path.exists(f"{base}.c")):
        return False
    for suffix, target in ((".so", module.result_path), (".c", module.c_path)):
        os.utime(base + suffix)
        _place(base + suffix, target)
    return True


def _to_cache(module):
    base = os.path.join(_cache_dir(), module.key)
    _place(module.c_path, f"{base}.c")
    _place(module.result_path, f"{base}.so")  # last: it says that both are there


def _prune_cache():
    """Forgets the results that have not been used for longest."""
    entries = sorted(os.scandir(_cache_dir()), key=lambda entry: entry.stat().st_mtime)
    for entry in entries[: max(0, len(entries) - CACHE_ENTRIES_MAX)]:
        os.unlink(entry.path)


def _cythonize(module, variant, annotate):
    """Turns a .pyx into C; Cython's messages go to standard error. The directory is the root."""
    from Cython.Compiler import Main, Options

    os.makedirs(os.path.dirname(module.c_path), exist_ok=True)
    Options.docstrings = True
    options = Main.CompilationOptions(
        Main.default_options,
        include_path=[ROOT, site_packages()],
        compiler_directives=dict(DIRECTIVES),
        output_file=os.path.relpath(module.c_path, ROOT),
        annotate="default" if annotate else None,
        emit_linenums=variant != "release",
    )
    result = Main.compile_single(module.source, options, full_module_name=module.name)
    return result.num_errors == 0


def _compile_c(module, variant):
    """Turns the C into an extension module; the compiler's messages go to standard error."""
    import subprocess
    import sysconfig

    compile_flags, link_flags = _liburing_flags() if module.links_liburing else ([], [])
    part = f"{module.result_path}.{os.getpid()}.part"
    os.makedirs(os.path.dirname(part), exist_ok=True)
    c_path = os.path.relpath(module.c_path, ROOT)
    includes = [ROOT, os.path.dirname(module.source), sysconfig.get_path("include")]
    command = ["gcc", *VARIANTS[variant].split(), f"-ffile-prefix-map={ROOT}=."]
    command += [*(f"-I{folder}" for folder in includes), *compile_flags]
    command += [c_path, "-o", os.path.relpath(part, ROOT), *LINK_FLAGS.split(), *link_flags]
    if subprocess.run(command).returncode:
        print("the command was:", *command, file=sys.stderr)
        return False
    os.replace(part, module.result_path)
    return True


def _still_has_its_key(module, variant):
    """False, said, where a source changed after the key was made: the result would be kept under a wrong name."""
    key = module.key
    _give_key(module, environment(variant), {})
    if module.key != key:
        print(f"{module.name} or what it reads changed while it was compiled: build again")
    return module.key == key


def _build_one(module, variant, annotate, log_path):
    """The life of a child process: builds one module with all output in a log, then leaves."""
    import time

    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = os.fdopen(2, "w", closefd=False, buffering=1)
    ok = False
    try:
        os.chdir(ROOT)
        started = time.monotonic()
        ok = _cythonize(module, variant, annotate)
        if ok:
            middle = time.monotonic()
            ok = _compile_c(module, variant)
            with open(f"{log_path}.time", "w") as file:
                file.write(f"cython {middle - started:.1f}, gcc {time.monotonic() - middle:.1f}")
        if ok and (ok := _still_has_its_key(module, variant)):
            _to_cache(module)
    except BaseException:
        import traceback

        traceback.print_exc()
        ok = False
    finally:
        sys.stdout.flush()
        os._exit(0 if ok else 1)


class BuildFailed(Exception):
    """Some modules did not compile; what their compilers said has been shown."""


def build(variant=None, annotate=False, force=False, only=()):
    """Builds what is stale, in parallel, the largest first; returns the names, or BuildFailed."""
    import fcntl

    variant = variant or default_variant()
    os.makedirs(out_dir(variant), exist_ok=True)
    with open(os.path.join(out_dir(variant), "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        plan = _plan(variant)
        todo = [
            module
            for module in plan.modules
            if (not only or module.name in only) and (force or annotate or plan.is_stale(module))
        ]
        built = [] if force or annotate else [module for module in todo if _from_cache(module)]
        todo = [module for module in todo if module not in built]
        todo.sort(key=lambda module: -module.size_bytes)
        try:
            if todo:
                _run_children(todo, variant, annotate, built)
        finally:
            _record(plan, built)
    return [module.name for module in built]


def _run_children(todo, variant, annotate, built):
    """Keeps one child a processor at work until all is done; adds what succeeded to `built`."""
    import shutil
    import tempfile
    import time

    from Cython.Compiler import Main  # noqa: F401  (loaded once here, not in every child)

    logs = tempfile.mkdtemp(prefix="slotring-build-")
    started = time.monotonic()
    waiting = list(todo)
    running = {}
    failed = []
    sys.stdout.flush()
    sys.stderr.flush()
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            module = waiting.pop(0)
            log_path = os.path.join(logs, module.name)
            pid = os.fork()
            if pid == 0:
                _build_one(module, variant, annotate, log_path)
            running[pid] = (module, log_path, time.monotonic())
        pid, status = os.wait()
        module, log_path, began = running.pop(pid)
        (failed if status else built).append(module)
        done = len(todo) - len(waiting) - len(running)
        progress = f"[{done}/{len(todo)}]"
        _report(progress, module, log_path, status, time.monotonic() - began)
    shutil.rmtree(logs, ignore_errors=True)
    _prune_cache()
    if failed:
        raise BuildFailed(", ".join(module.name for module in failed))
    seconds = time.monotonic() - started
    print(f"built {len(todo)} modules ({variant}) in {seconds:.1f} s", file=sys.stderr)


def _report(progress, module, log_path, status, seconds):
    """One line for a module, and whatever its compilers said."""
    said = parts = ""
    if os.path.exists(log_path):
        with open(log_path, errors="replace") as file:
            said = file.read()
    if os.path.exists(f"{log_path}.time"):
        with open(f"{log_path}.time") as file:
            parts = f" ({file.read()})"
    outcome = "FAILED" if status else f"{seconds:.1f} s{parts}"
    print(f"{progress} {module.name}: {outcome}", file=sys.stderr)
    if said.strip():
        print(said.rstrip(), file=sys.stderr, flush=True)


def _record(plan, built):
    """Writes the manifest and, where all is built, the tree's digest; removes orphaned results."""
    import json

    for module in built:
        plan.manifest[module.name] = module.key
    names = {module.name for module in plan.modules}
    plan.manifest = {name: key for name, key in sorted(plan.manifest.items()) if name in names}
    folder = out_dir(plan.variant)
    wanted = {path for module in plan.modules for path in (module.result_path, module.c_path)}
    for base, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(base, name)
            if path.endswith((".so", ".c", ".part")) and path not in wanted:
                os.unlink(path)
    _write(os.path.join(folder, "manifest.json"), json.dumps(plan.manifest, indent=1) + "\n")
    if not plan.stale():
        lines = [plan.digest, *(module.result for module in plan.modules)]
        _write(os.path.join(folder, "fresh"), "\n".join(lines) + "\n")


def _write(path, text):
    with open(f"{path}.part", "w") as file:
        file.write(text)
    os.replace(f"{path}.part", path)


def main():
    """The command line."""
    import argparse

    parser = argparse.ArgumentParser(description="Compiles the Cython modules that changed.")
    option = parser.add_argument
    option("--variant", choices=VARIANTS, default=default_variant())
    option("--annotate", action="store_true", help="rebuild, with Cython's .html beside the C")
    option("--stale", action="store_true", help="only print the modules that would be built")
    option("--force", action="store_true", help="build all, whatever is there")
    option("module", nargs="*", help="only these: engine.arena or engine/arena.pyx")
    options = parser.parse_args()
    if options.stale:
        print("\n".join(stale(options.variant)))
        return 0
    only = {name.removesuffix(".pyx").replace("/", ".") for name in options.module}
    try:
        build(options.variant, options.annotate, options.force, only)
    except BuildFailed as failure:
        print(f"build: failed: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
