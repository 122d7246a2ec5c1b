"""The commands, a family a module: one function and one row of the table each."""

import os

_root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_variant = os.environ.get("SLOTRING_VARIANT", "release")
__path__.append(os.path.join(_root, ".build", _variant, *__name__.split(".")))
