"""The side file of an increment (its layout: persist/aof.pxd), read, checked against the increment, mended."""

import struct
from collections.abc import Buffer, Iterator
from typing import NamedTuple

from persist.aof import block_sum

MAGIC = b"SLOTRIX1"
HEAD = struct.Struct("<QQII")
ANY_SLOT = 0xFFFFFFFF
SLOTS = 16384


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


def blocks(raw: bytes) -> Iterator[Block]:
    """The rows of a side file, as far as they are whole and make sense."""
    if raw[: len(MAGIC)] != MAGIC:
        return
    at, begin = len(MAGIC), 0
    while at + HEAD.size <= len(raw):
        end, total, count, _zero = HEAD.unpack_from(raw, at)
        at += HEAD.size
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


def rows_bytes(raw: bytes, size: int) -> int:
    """How much of the side file is about the increment's first `size` bytes."""
    length = len(MAGIC)
    for block in blocks(raw):
        if block.end > size:
            break
        length += HEAD.size + (0 if block.slots is None else (2 * len(block.slots) + 7) & ~7)
    return length


def check(data: Buffer, raw: bytes) -> int:
    """Compare an increment's bytes with its side file; returns how far it reaches. Damage where they differ.

    A side file that goes on where the increment ends early says nothing: the end was cut, which is another matter."""
    covered = 0
    with memoryview(data) as view:
        for block in blocks(raw):
            if block.end > len(view):
                break
            if block_sum(bytes(view[block.begin:block.end])) != block.sum:
                raise Damage(block.begin, block.end)
            covered = block.end
    return covered


def reach(raw: bytes) -> int:
    """Up to where the increment went when the side file was written last."""
    return max((block.end for block in blocks(raw)), default=0)


def row(data: bytes, end: int) -> bytes:
    """A row for bytes that nobody has counted slots in, which end at `end`."""
    return HEAD.pack(end, block_sum(data), ANY_SLOT, 0)
