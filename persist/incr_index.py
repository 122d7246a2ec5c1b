"""The side file of an increment (its layout: persist/aof.pxd), read, checked against the increment, mended.

What does not fit is either damage, which must not be believed, or the increment is another one than the side file is
about: somebody has edited it, or put a file of his own there. Which of them it is, is told from what a failing disk
cannot do: it changes bytes, it does not move those that follow, and it does not make a file longer. So it is damage

- where the length is the one that the side file says (an edit that keeps it cannot be told from damage), or
- where blocks behind the wrong one are right, or
- where the file is longer than its last row says as it may be after a kill (no mark), and a record begins where that
  row ends: the bytes before it have not moved. (From MOVED_BLOCKS wrong blocks on, up to the last, this is not asked:
  records of one length stay records when one of them is taken out.)
"""

import struct
from collections.abc import Buffer, Iterator
from typing import NamedTuple

from persist.aof import block_sum

MAGIC = b"SLOTRIX1"
HEAD = struct.Struct("<QQII")
ANY_SLOT = 0xFFFFFFFF
SLOTS = 16384
MOVED_BLOCKS = 4
LINE_BYTES = 128                       # of room made ahead (persist/prealloc.pxd)
LINES = 2                              # the row that says how its lines look
ROW_BYTES_MAX = 64 << 20               # of the increment, in a row that is made when it is opened again


class Block(NamedTuple):
    """A run of the increment's bytes. slots: those whose records are in it, or None: any."""

    begin: int
    end: int
    sum: int
    slots: tuple[int, ...] | None


class Damage(Exception):
    """Bytes of the increment are not those that were written: from begin to before end."""

    def __init__(self, begin: int, end: int):
        super().__init__(f"bytes {begin} to {end - 1} are not what was written")
        self.begin = begin
        self.end = end


class Replaced(Exception):
    """The increment was changed by somebody: what the side file says is not about it."""


class Rows(NamedTuple):
    """A side file, as far as it is whole and makes sense. closed: nothing was written after the last row. line: of room
    that was made ahead, b"": there is none."""

    blocks: list[Block]
    closed: bool
    line: bytes


def _rows(raw: bytes) -> Iterator[Block | bytes | None]:
    """Blocks, a line of room ahead, and None for a mark."""
    if raw[: len(MAGIC)] != MAGIC:
        return
    at, begin = len(MAGIC), 0
    while at + HEAD.size <= len(raw):
        end, total, count, closed = HEAD.unpack_from(raw, at)
        at += HEAD.size
        if closed == LINES:
            yield (b"#%016x" % end).ljust(LINE_BYTES - 1, b"#") + b"\n"
            continue
        if closed and end == begin and not count:
            yield None
            continue
        slots = None
        if count != ANY_SLOT:
            if count > SLOTS or at + 2 * count > len(raw):
                return
            slots = struct.unpack_from(f"<{count}H", raw, at)
            at += (2 * count + 7) & ~7
        if end <= begin:
            return
        yield Block(begin, end, total, slots)
        begin = end


def read(raw: bytes) -> Rows:
    """A side file."""
    found, closed, line = [], False, b""
    for each in _rows(raw):
        closed = each is None and bool(found)
        if isinstance(each, Block):
            found.append(each)
        elif each is not None:
            line = each
    return Rows(found, closed, line)


def blocks(raw: bytes) -> list[Block]:
    """The rows of a side file."""
    return read(raw).blocks


def rows_bytes(raw: bytes, size: int) -> int:
    """How much of the side file is about the increment's first `size` bytes, and may be followed by more rows."""
    length, marks = len(MAGIC), 0
    for block in _rows(raw):
        if not isinstance(block, Block):
            marks += HEAD.size
            continue
        if block.end > size:
            break
        length += marks + HEAD.size + (0 if block.slots is None else (2 * len(block.slots) + 7) & ~7)
        marks = 0
    return length


def check(data: Buffer, raw: bytes) -> int:
    """Compare an increment's bytes with its side file; returns how far it reaches. Damage or Replaced where they
    differ.

    A side file that goes on where the increment ends early says nothing, unless it was closed: the end was cut, which
    is another matter."""
    found = read(raw)
    with memoryview(data) as view:
        whole = [block for block in found.blocks if block.end <= len(view)]
        right = [block_sum(bytes(view[block.begin:block.end])) == block.sum for block in whole]
        if all(right):
            if found.closed and len(view) < found.blocks[-1].end:
                raise Replaced
            return whole[-1].end if whole else 0
        first = right.index(False)
        if _is_damage(view, found, len(right) - first, any(right[first:])):
            raise Damage(whole[first].begin, whole[first].end)
    raise Replaced


def _is_damage(view: memoryview, found: Rows, behind: int, some_right: bool) -> bool:
    """behind: blocks from the first wrong one on, which the file has in full; some_right: of these."""
    end = found.blocks[-1].end
    if some_right or len(view) == end:
        return True
    if len(view) < end or found.closed or behind >= MOVED_BLOCKS:
        return False
    return bytes(view[end:end + 1]) in (b"*", b"#")


def reach(raw: bytes) -> int:
    """Up to where the increment went when the side file was written last."""
    return max((block.end for block in blocks(raw)), default=0)


def end_of(data: Buffer, raw: bytes) -> int:
    """Where an increment's records end that the server left without a word: before the first line of the room made
    ahead (also where the side file goes on: it may have reached the disk before the records), and before an annotation
    without an end."""
    rows = read(raw)
    size, line = len(data), rows.line
    at = data.find(line) if line and not rows.closed else -1
    while at >= 0 and at % LINE_BYTES:
        at = data.find(line, at + 1)
    if at >= 0:
        # in front of it there may be the rest of one, behind the '#' that ended the last write
        size = next((at - LINE_BYTES + k for k in range(LINE_BYTES if at else 0)
                     if data[at - LINE_BYTES + k] == b"#"[0]
                     and data[at - LINE_BYTES + k + 1:at] == line[k + 1:]), at)
    last = data.rfind(b"\n", 0, size) + 1
    return last if data[last:min(last + 1, size)] == b"#" else size


def row(data: bytes, end: int) -> bytes:
    """A row for bytes that nobody has counted slots in, which end at `end`."""
    return HEAD.pack(end, block_sum(data), ANY_SLOT, 0)
