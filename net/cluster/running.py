"""The cluster node that this server is, if it is one. Apart from driver.py, so that a server that is none need not load
what a node is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from net.cluster.driver import Driver

driver: Driver | None = None


def links_bytes() -> int:
    """Memory of the links' buffers."""
    if driver is None:
        return 0
    with driver.lock:
        bus = driver.bus
        links = [link for node in bus.state.order[1:] for link in (node.link, node.inbound) if link is not None]
        links += bus.strangers
        return sum(bus.queued_bytes(link) + len(link.pending) for link in links)


def connections() -> int:
    """About how many sockets the bus has."""
    return 0 if driver is None else (len(driver.bus.state.nodes) - 1) * 2
