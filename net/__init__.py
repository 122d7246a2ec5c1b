"""Bytes in, bytes out: rings, RESP, connections, the slot router, administration."""

import os

_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
__path__.append(os.path.join(_root, ".build", os.environ.get("SLOTRING_VARIANT", "release"), "net"))
