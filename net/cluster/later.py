"""Modules that only a node of a cluster needs, loaded when something of them is first asked for.

Commands import the cluster's modules whether it is on or not; numpy and asyncio would be more than half of the memory
of a process without data, and most of the time that its start takes.
"""

from importlib import import_module
from types import ModuleType


class Later(ModuleType):
    """Stands for the module of its name."""

    def __getattr__(self, name: str) -> object:
        value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)
        return value


asyncio = Later("asyncio")
numpy = Later("numpy")
