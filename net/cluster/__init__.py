"""The cluster: its bus, epochs and votes, and the slots under way."""

import os

_root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
__path__.append(os.path.join(_root, ".build", os.environ.get("SLOTRING_VARIANT", "release"), "net", "cluster"))
