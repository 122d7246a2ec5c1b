"""The house rules that a machine can check, read from the sources and from the C made of them.

Limits have a name here; what may exceed one is listed with its reason.
"""

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

from scripts import build

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("engine", "persist", "net")
CHECKED_FOLDERS = (*PACKAGES, "scripts", "tests", "perf")

FILE_LINES_MAX = 1000
FUNCTION_LINES_MAX = 100
LINE_COLUMNS_MAX = 120

# "path": "why it may be longer"
LONG_FILES: dict[str, str] = {}
# "path:function": "why it may be longer"
LONG_FUNCTIONS: dict[str, str] = {}

# A package may import itself and those on its right: net -> persist -> engine.
MAY_IMPORT = {
    "engine": {"engine"},
    "persist": {"persist", "engine"},
    "net": {"net", "persist", "engine"},
}

# The Cython modules that work with Python objects on purpose; all others are the data plane.
CONTROL_PLANE = ("net/bridge.pyx",)

# What attaches a thread to the interpreter in generated C: the call itself, and the helpers of
# Cython that contain it (an error check after a call in nogil code is the hidden one).
ATTACHES = re.compile(
    r"\b(?:__Pyx_)?PyGILState_Ensure\s*\(|\b\w*WithGIL\s*\(|\b__Pyx_Raise\w*Nogil\s*\("
    r"|\b__Pyx_WriteUnraisable\s*\([^;]*,\s*1\s*\)\s*;"
)


def files(*suffixes, folders=CHECKED_FOLDERS):
    """The files with one of the suffixes, as (path relative to the root, text), sorted."""
    found = []
    for folder in folders:
        for base, directories, names in os.walk(ROOT / folder):
            directories[:] = [name for name in directories if name not in ("__pycache__", "out")]
            paths = [Path(base, name) for name in names if name.endswith(suffixes)]
            found += [(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]
    return sorted(found)


def data_plane(*suffixes):
    """The files of the data plane, as (path, text)."""
    control = {path.rsplit(".", 1)[0] for path in CONTROL_PLANE}
    found = files(*suffixes, folders=PACKAGES)
    return [(path, text) for path, text in found if path.rsplit(".", 1)[0] not in control]


def code_lines(text):
    """(number, line) of a Python or Cython text without its comments; strings stay."""
    for number, line in enumerate(text.split("\n"), 1):
        yield number, line.split("#", 1)[0].rstrip()


# --- imports -------------------------------------------------------------------------------------

IMPORT = re.compile(r"^\s*(?:from\s+(\.*[\w.]*)\s+c?import\s+(.*)|c?import\s+(.*))$")


def imported_packages(path, line):
    """The top packages that a line imports or cimports."""
    match = IMPORT.match(line)
    if not match:
        return []
    base, names, plain = match.groups()
    if plain is not None:
        return [name.strip().split(".")[0].split(" ")[0] for name in plain.split(",")]
    dots = len(base) - len(base.lstrip("."))
    if not dots:
        return [base.split(".")[0]]
    package = path.split("/")[:-1]
    inside = package[: len(package) - dots + 1]
    if inside:
        return [inside[0]]
    rest = base.lstrip(".")
    return [rest.split(".")[0]] if rest else [name.strip() for name in names.split(",")]


def test_imports_point_one_way():
    offences = []
    for path, text in files(".py", ".pyx", ".pxd", folders=PACKAGES):
        allowed = MAY_IMPORT[path.split("/")[0]]
        for number, line in code_lines(text):
            for package in imported_packages(path, line):
                if package in MAY_IMPORT and package not in allowed:
                    offences.append(f"{path}:{number}: {line.strip()}")
    assert not offences, "\n".join(offences)


def test_import_lines_are_understood():
    cases = {
        "from net.x cimport y": ["net"],
        "    import persist.log as log, os": ["persist", "os"],
        "cimport engine.arena as arena": ["engine"],
        "from . cimport lock": ["engine"],
        "from ..commands import table": ["engine"],
        "from ...net import ring": ["net"],
        "from importlib import reload": ["importlib"],
        "x = 'import net'": [],
    }
    for line, expected in cases.items():
        assert imported_packages("engine/commands/strings.pyx", line) == expected, line


# --- lengths -------------------------------------------------------------------------------------


def cython_functions(text):
    """(name, first line, last line) of each function of a .pyx or .pxd, found by indentation."""
    head = re.compile(
        r"^(\s*)(?:cdef|cpdef|def|async\s+def)\s+"
        r"(?!extern\b|class\b|struct\b|enum\b|union\b|packed\b|cppclass\b)[^=#(]*?(\w+)\s*\("
    )
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        match = head.match(lines[at])
        first, at = at, at + 1
        if not match:
            continue
        signature = lines[first].split("#", 1)[0]
        while signature.count("(") > signature.count(")") and at < len(lines):
            signature += lines[at].split("#", 1)[0]
            at += 1
        if not signature.rstrip().endswith(":"):
            continue  # a declaration
        indent, last, body = len(match[1]), at, at
        while body < len(lines):
            line = lines[body]
            if line.strip() and not line.lstrip().startswith("#"):
                if len(line) - len(line.lstrip()) <= indent:
                    break
                last = body + 1
            body += 1
        yield match[2], first + 1, last


def python_functions(text):
    """(name, first line, last line) of each function of a .py."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, node.end_lineno


def test_file_lengths():
    found = files(".py", ".pyx", ".pxd")
    lengths = {path: text.count("\n") for path, text in found}
    offences = [
        f"{path}: {length} lines, {FILE_LINES_MAX} at most"
        for path, length in lengths.items()
        if length > FILE_LINES_MAX and path not in LONG_FILES
    ]
    offences += [
        f"{path} is listed in LONG_FILES and is not long"
        for path in LONG_FILES
        if lengths.get(path, 0) <= FILE_LINES_MAX
    ]
    assert not offences, "\n".join(offences)


def test_function_lengths():
    offences, long = [], set()
    for path, text in files(".py", ".pyx", ".pxd"):
        functions = python_functions if path.endswith(".py") else cython_functions
        for name, first, last in functions(text):
            if last - first + 1 > FUNCTION_LINES_MAX:
                long.add(f"{path}:{name}")
                if f"{path}:{name}" not in LONG_FUNCTIONS:
                    offences.append(f"{path}:{first}: {name} has {last - first + 1} lines")
    offences += [f"{name} is listed and is not long" for name in LONG_FUNCTIONS.keys() - long]
    assert not offences, f"{FUNCTION_LINES_MAX} lines at most\n" + "\n".join(offences)


def test_shared_dicts_are_not_asked_by_get():
    """See engine/shared.py: dict.get of a dict that another thread has made costs fifty times a subscript."""
    offences = [f"{path}:{number}: {line.strip()}" for path, text in files(".py", ".pyx")
                if path.startswith(("engine/", "net/", "persist/")) and not path.endswith("__init__.py")
                for number, line in enumerate(text.split("\n"), 1)
                if re.search(r"\b(_?[A-Z][A-Z_]+|_[a-z_]+|self\.[a-z_]+)\.get\(", line) and "queue.get" not in line]
    assert not offences, "engine.shared.find is to be used\n" + "\n".join(offences)


def test_cython_functions_are_found():
    text = (
        "cdef struct S:\n    int x\n\ncdef int declared(int a) noexcept nogil\n\n"
        "cdef inline int one(int a,\n                    int b) noexcept nogil:\n"
        "    # comment\n    return a\n\n\ndef two():\n\n    return 1\n"
    )
    assert list(cython_functions(text)) == [("one", 6, 9), ("two", 12, 14)]


def test_line_lengths():
    offences = [
        f"{path}:{number}: {len(line)} columns"
        for path, text in files(".py", ".pyx", ".pxd")
        for number, line in enumerate(text.split("\n"), 1)
        if len(line) > LINE_COLUMNS_MAX
    ]
    assert not offences, f"{LINE_COLUMNS_MAX} columns at most\n" + "\n".join(offences)


def test_modules_have_docstrings():
    offences = []
    for path, text in files(".py", ".pyx"):
        lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
        if not (lines and lines[0].lstrip("rR").startswith('"""')):
            offences.append(f"{path}: begins without a docstring")
    assert not offences, "\n".join(offences)


# --- the data plane ------------------------------------------------------------------------------


def test_data_plane_declares_no_except_star():
    offences = [
        f"{path}:{number}: {line.strip()}"
        for path, text in data_plane(".pyx", ".pxd")
        for number, line in code_lines(text)
        if re.search(r"\)\s*(?:nogil\s+)?except\s*\*", line)
    ]
    assert not offences, "an `except *` attaches in every call\n" + "\n".join(offences)


@pytest.fixture(scope="module")
def generated_c():
    """The C of each Cython module, as {path of the .pyx: text}; built first where it is stale."""
    build.build("release")
    folder = Path(build.out_dir("release"), "c")
    found = {}
    for path, _ in files(".pyx", folders=PACKAGES):
        found[path] = (folder / path).with_suffix(".c").read_text()
    return found


def user_functions(text):
    """(name, body) of the C functions made from cdef functions: those named __pyx_f_…

    Wrappers of def functions (__pyx_pw_, __pyx_pf_) run attached; helpers are Cython's own.
    """
    head = re.compile(r"^[A-Za-z_][^\n;=#]*?\b(__pyx_f_\w+)\([^;{]*\)\s*\{.*?^\}", re.M | re.S)
    for match in head.finditer(text):
        yield match[1], match[0]


def attaches(text):
    """Where generated C attaches to the interpreter within the functions made from the source."""
    for name, body in user_functions(text):
        for match in ATTACHES.finditer(body):
            yield f"{name}: {match[0]}"


def test_data_plane_never_attaches(generated_c):
    offences = [
        f"{path}: {what}"
        for path, text in generated_c.items()
        if path not in CONTROL_PLANE
        for what in attaches(text)
    ]
    assert not offences, "\n".join(offences)


def test_every_module_is_declared_free_threading_compatible(generated_c):
    offences = [
        path
        for path, text in generated_c.items()
        if "#else\n#define __Pyx_FREETHREADING_COMPATIBLE Py_MOD_GIL_NOT_USED\n" not in text
    ]
    assert not offences, "\n".join(offences)


ATTACHING_SOURCE = '''"""Attaches openly and in a hidden way, and has functions that do not."""

cdef int plain(int a) noexcept nogil:
    return a + 1

cdef int raises(int a) except -1 nogil:
    if a:
        with gil:
            raise ValueError
    return 0

cdef void star(int a) except * nogil:
    plain(a)

cdef int hidden(int a) except -1 nogil:
    star(a)
    return 0

def wrapper(int a):
    with nogil:
        a = plain(a)
    return a
'''


def test_an_attach_is_seen(tmp_path):
    from Cython.Compiler import Main

    (tmp_path / "sample.pyx").write_text(ATTACHING_SOURCE)
    options = Main.CompilationOptions(Main.default_options, compiler_directives=build.DIRECTIVES)
    assert Main.compile_single(str(tmp_path / "sample.pyx"), options, "sample").num_errors == 0
    seen = {what.split(":")[0] for what in attaches((tmp_path / "sample.c").read_text())}
    assert seen == {"__pyx_f_6sample_raises", "__pyx_f_6sample_hidden"}


# --- the whole repository ------------------------------------------------------------------------


def test_no_path_of_a_certain_machine_is_named():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
    )
    if listed.returncode:
        pytest.skip("not a git work tree")
    place = re.compile(rb"(?<![\w./$}-])/" + rb"(?:work|root)(?![\w-])")
    offences = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
            if place.search(line):
                offences.append(f"{name}:{number}: {line.decode(errors='replace').strip()}")
    assert not offences, "\n".join(offences)
