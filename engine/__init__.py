"""The data and what commands do to it; knows no sockets, files or loops."""
import os

_root = os.path.dirname(os.path.abspath(__file__))
for _ in range(0 + 1):
    _root = os.path.dirname(_root)
__path__.append(os.path.join(_root, ".build", os.environ.get("SLOTRING_VARIANT", "release"),
                             *__name__.split(".")))
