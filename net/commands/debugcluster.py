"""DEBUG: what tests of a cluster need."""

from net.cluster import running
from net.commands import debug
from net.commands.cluster import current, find_node
from net.commands.common import help_lines, integer, loose_int, words
from net.reply import OK, Error

ONLY_CLUSTER = "ERR Debug option only available for cluster mode enabled setup!"


def kill_link(_client: object, args: list[bytes]) -> object:
    """DEBUG CLUSTERLINK KILL to|from|all node-id"""
    if args[2].lower() != b"kill":
        raise debug.bare_syntax_error(args)
    if running.driver is None:
        raise Error(ONLY_CLUSTER)
    with running.driver.working() as bus:
        node = find_node(bus, args[4])
        if node is bus.state.myself:
            raise Error("ERR Cannot free cluster link(s) to myself")
        way = args[3].lower()
        if way not in (b"to", b"from", b"all"):
            raise Error(f"ERR Unknown direction {words(args[3])}")
        if way != b"to":
            bus.drop_link(node.inbound)
        if way != b"from":
            bus.drop_link(node.link)
    return OK


def drop_filter(_client: object, args: list[bytes]) -> object:
    """DEBUG DROP-CLUSTER-PACKET-FILTER type: packets of that type are ignored; -1: none, -2: all"""
    current().bus.drop_filter = integer(args[2])
    return OK


def close_on_drop(_client: object, args: list[bytes]) -> object:
    """DEBUG CLOSE-CLUSTER-LINK-ON-PACKET-DROP 0|1"""
    current().bus.close_on_drop = bool(loose_int(args[2]))
    return OK


def disable_random_ping(_client: object, args: list[bytes]) -> object:
    """DEBUG DISABLE-CLUSTER-RANDOM-PING 0|1"""
    current().bus.disable_random_ping = bool(loose_int(args[2]))
    return OK


def disable_reconnection(_client: object, args: list[bytes]) -> object:
    """DEBUG DISABLE-CLUSTER-RECONNECTION 0|1"""
    current().bus.disable_reconnection = bool(loose_int(args[2]))
    return OK


debug.HANDLERS |= {
    b"clusterlink": (5, 5, kill_link),
    b"drop-cluster-packet-filter": (3, 3, drop_filter),
    b"close-cluster-link-on-packet-drop": (3, 3, close_on_drop),
    b"disable-cluster-random-ping": (3, 3, disable_random_ping),
    b"disable-cluster-reconnection": (3, 3, disable_reconnection),
}
debug.HELP += [
    ("CLUSTERLINK KILL <to|from|all> <node-id>", "Closes the links to a node, from it, or both."),
    ("CLOSE-CLUSTER-LINK-ON-PACKET-DROP <0|1>", "A packet that the filter drops closes its link."),
    ("DISABLE-CLUSTER-RANDOM-PING <0|1>", "No node is pinged just because it was picked."),
    ("DISABLE-CLUSTER-RECONNECTION <0|1>", "Lost links stay lost."),
    ("DROP-CLUSTER-PACKET-FILTER <packet-type>", "Bus packets of that type are ignored; -1: none, -2: all."),
]
debug.HELP_LINES[:] = help_lines("debug", debug.HELP)
