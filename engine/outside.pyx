# slotring: data plane
"""Memory outside the arenas; see outside.pxd."""
from engine.defs cimport *

outside.base = outside.clients = outside.dying = 0


def set_base(i64 n) -> None:
    """Bytes of threads and partitions."""
    atomic_store64(<u64*>&outside.base, <u64>n, RELAXED)
