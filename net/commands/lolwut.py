"""LOLWUT: a picture that no two servers need to draw alike. Here: a ring of slots, some of them taken."""

import math
import os

from engine.command import register_python

from net import version
from net.commands.common import NO_KEYS, about, integer
from net.config import config
from net.reply import Verbatim

SLOTS_DEFAULT = 24
SLOTS_MAX = 200
RADIUS_DEFAULT = 9
RADIUS_MAX = 40
_TAKEN, _FREE, _HUB = "@", "o", "+"


def draw(slots: int, radius: int, noise: bytes) -> str:
    """A ring of `slots` places; noise decides which are taken, and lines lead from those to the hub."""
    width, height = 4 * radius + 3, 2 * radius + 1
    rows = [[" "] * width for _ in range(height)]
    for at in range(slots):
        angle = 2 * math.pi * at / slots
        taken = noise[at % len(noise)] & 3 == 0
        for step in range(radius if taken else 1):
            reach = radius - step
            x = round(2 * radius + 1 + 2 * reach * math.sin(angle))
            y = round(radius - reach * math.cos(angle))
            if rows[y][x] == " ":
                rows[y][x] = "." if step else (_TAKEN if taken else _FREE)
    rows[radius][2 * radius + 1] = _HUB
    return "\n".join("".join(row).rstrip() for row in rows)


def lolwut(_client: object, args: list[bytes]) -> object:
    """LOLWUT [VERSION n] [slots [radius]]"""
    rest = args[1:]
    if len(rest) >= 2 and rest[0].lower() == b"version":
        integer(rest[1])
        rest = rest[2:]
    slots = integer(rest[0]) if rest else SLOTS_DEFAULT
    radius = integer(rest[1]) if len(rest) > 1 else RADIUS_DEFAULT
    slots = max(1, min(slots, SLOTS_MAX))
    radius = max(2, min(radius, RADIUS_MAX))
    compatible = config.get_value("extended-redis-compatibility")
    name = f"Redis ver. {version.REDIS}" if compatible else f"Valkey ver. {version.VALKEY}"
    text = f"{draw(slots, radius, os.urandom(SLOTS_MAX))}\n\n{name}\n"
    return Verbatim(text.encode())


register_python("lolwut", -1, "readonly fast", NO_KEYS, lolwut, about(
    "5.0.0", "server", "read fast", "A small picture and the server's version.",
    "O(1)"))
