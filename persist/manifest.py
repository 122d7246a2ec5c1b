"""The manifest of an append-only directory: which files make up the data set, and in which order (Valkey's multi-part
AOF). Text in, text out; what touches the disk is the caller's.

    file appendonly.aof.2.base.rdb seq 2 type b
    file appendonly.aof.1.incr.aof seq 1 type h
    file appendonly.aof.2.incr.aof seq 2 type i

One base at most (b), increments in the order of their numbers (i), and history (h), the latest first: files that a
finished rewrite has replaced and that are to be deleted. Lines that begin with '#' are comments, unknown pairs of words
are skipped.
"""

from typing import NamedTuple

from engine.quoting import needs_quotes, quote, split_args

BASE, INCR, HISTORY = b"b", b"i", b"h"
LINE_BYTES_MAX = 1024
FORMAT = "Invalid AOF manifest file format"


class ManifestError(Exception):
    """The manifest is not to be trusted. line: its number, from 1; text: the line, or None where there is none."""

    def __init__(self, why: str, line: int = 0, text: str | None = None):
        super().__init__(why)
        self.line = line
        self.text = text


class Part(NamedTuple):
    """One file. sequence: counted for bases and increments apart, from 1."""

    name: str
    sequence: int
    kind: bytes


class Manifest(NamedTuple):
    """What the files are; its methods give the next state, which the caller writes before it believes it."""

    base: Part | None = None
    incrs: tuple[Part, ...] = ()
    history: tuple[Part, ...] = ()
    base_sequence: int = 0             # the highest that was given
    incr_sequence: int = 0

    def parts(self) -> tuple[Part, ...]:
        """The files to load, in order."""
        return (*((self.base,) if self.base else ()), *self.incrs)

    def next_base(self, stem: str, is_rdb: bool) -> Part:
        """The name and number that a new base gets."""
        number = self.base_sequence + 1
        return Part(f"{stem}.{number}.base.{'rdb' if is_rdb else 'aof'}", number, BASE)

    def next_incr(self, stem: str) -> Part:
        """The name and number that a new increment gets."""
        number = self.incr_sequence + 1
        return Part(f"{stem}.{number}.incr.aof", number, INCR)

    def with_incr(self, part: Part) -> "Manifest":
        """A new increment, to which writes go from now on."""
        return self._replace(incrs=(*self.incrs, part), incr_sequence=part.sequence)

    def rewritten(self, base: Part, keep: int) -> "Manifest":
        """A rewrite has ended: its base stands for all before the last `keep` increments."""
        old = (*((self.base,) if self.base else ()), *self.incrs[: len(self.incrs) - keep])
        history = (*(part._replace(kind=HISTORY) for part in reversed(old)), *self.history)     # as Valkey lists them
        return self._replace(base=base, incrs=self.incrs[len(self.incrs) - keep:], history=history,
                       base_sequence=base.sequence)

    def without_history(self) -> "Manifest":
        """What was history has been deleted."""
        return self._replace(history=())

    def text(self) -> bytes:
        """The file's contents."""
        lines = []
        for part in (*((self.base,) if self.base else ()), *self.history, *self.incrs):
            raw = part.name.encode("utf-8", "surrogateescape")
            name = quote(raw) if needs_quotes(raw) else raw
            lines.append(b"file %s seq %d type %s\n" % (name, part.sequence, part.kind))
        return b"".join(lines)


def _number(raw: bytes) -> int:
    digits = raw[: len(raw) - len(raw.lstrip(b"0123456789"))]
    return int(digits or b"0")


def _part(words: list[bytes] | None) -> Part:
    if words is None or len(words) < 6 or len(words) % 2:
        raise ManifestError(FORMAT)
    name, number, kind = b"", 0, b""
    for key, value in zip(words[::2], words[1::2], strict=True):
        key = key.lower()
        if key == b"file":
            if b"/" in value or b"\\" in value:
                raise ManifestError("File can't be a path, just a filename")
            name = value
        elif key == b"seq":
            number = _number(value)
        elif key == b"type":
            kind = value[:1]
    if not name or not number or not kind:
        raise ManifestError(FORMAT)
    return Part(name.decode("utf-8", "surrogateescape"), number, kind)


def _add(found: Manifest, part: Part) -> Manifest:
    if part.kind == BASE:
        if found.base is not None:
            raise ManifestError("Found duplicate base file information")
        return found._replace(base=part, base_sequence=part.sequence)
    if part.kind == HISTORY:
        return found._replace(history=(*found.history, part))
    if part.kind == INCR:
        if part.sequence <= found.incr_sequence:
            raise ManifestError("Found a non-monotonic sequence number")
        return found.with_incr(part)
    raise ManifestError("Unknown AOF file type")


def parse(text: bytes) -> Manifest:
    """Reads a manifest; ManifestError with Valkey's words, line number and line."""
    found = Manifest()
    lines = text.split(b"\n")
    if not text:
        raise ManifestError("Found an empty AOF manifest")
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line:
            break
        if line.startswith(b"#"):
            continue
        shown = line.decode("utf-8", "replace").strip(" \t\r\n")
        try:
            if len(line) >= LINE_BYTES_MAX or number == len(lines):
                shown = line[:LINE_BYTES_MAX].decode("utf-8", "replace")
                raise ManifestError("The AOF manifest file contains too long line")
            if not line.strip(b" \t\r"):
                raise ManifestError(FORMAT)
            found = _add(found, _part(split_args(line)))
        except ManifestError as error:
            raise ManifestError(str(error), number, shown) from None
    return found
