"""Modules that not every server needs: imported when one of their names is first used. numpy takes longer than all the
rest of a start, and only a node of a cluster uses it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING


class Lazy:
    """Stands for a module; remembers each name that it was asked for."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> object:
        value = getattr(import_module(self._name), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import numpy
else:
    numpy = Lazy("numpy")
