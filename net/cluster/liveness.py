"""Who is gone and who is back, and whether the cluster can serve: failure reports, FAIL, the cluster's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.cluster import messages as m
from net.cluster.nodes import (
    REASON_COVERAGE,
    REASON_MINORITY,
    REASON_NONE,
    SLOTS,
    STATE_FAIL,
    STATE_OK,
    T_FAILOVER,
    T_SAVE,
    T_STATE,
    Node,
)

if TYPE_CHECKING:
    from net.cluster.bus import Bus

NOTICE, WARNING = 2, 3
REPORT_VALIDITY = 2           # node timeouts
UNDO_AFTER = 2                # node timeouts
WRITABLE_DELAY_MS = 2000      # after a start
REJOIN_MIN_MS, REJOIN_MAX_MS = 500, 5000
REASONS = {
    REASON_COVERAGE: "At least one hash slot is not served by any available node. "
                     "Please check the 'cluster-require-full-coverage' configuration.",
    REASON_MINORITY: "I am part of a minority partition.",
}


def oldest_report(bus: Bus) -> int:
    """Reports of failures up to then no longer count."""
    return bus.now - bus.settings.node_timeout * REPORT_VALIDITY


def count_reports(bus: Bus, node: Node) -> int:
    """How many primaries say, and have not long ceased to, that the node fails."""
    return bus.state.count_reports(node, oldest_report(bus))


def mark_failing(bus: Bus, node: Node) -> None:
    """The node has failed."""
    node.flags = node.flags & ~m.F_PFAIL | m.F_FAIL
    node.fail_time = bus.now
    me = bus.state.myself
    if me.is_replica and me.replicaof is node:
        me.flags |= m.F_PRIMARY_FAIL
        bus.todo(T_FAILOVER)
    bus.todo(T_SAVE | T_STATE)


def fail_if_agreed(bus: Bus, node: Node) -> None:
    """Marks a suspected node as failed, if most primaries suspect it; then all are told."""
    if node.flags & (m.F_PFAIL | m.F_FAIL) != m.F_PFAIL:
        return
    votes = count_reports(bus, node) + bus.state.myself.is_voting
    if votes < bus.state.size // 2 + 1:
        return
    bus.log(NOTICE, f"Marking node {node.label} as failing (quorum reached).")
    mark_failing(bus, node)
    bus.send_fail(node)


def clear_failure(bus: Bus, node: Node) -> None:
    """A failed node answers: it is well again at once if it has no slots, else when nobody has taken them for a
    while."""
    if not node.is_voting:
        what = "replica" if node.is_replica else "primary without slots"
        bus.log(NOTICE, f"Clear FAIL state for node {node.label}: {what} is reachable again.")
    elif bus.now - node.fail_time > bus.settings.node_timeout * UNDO_AFTER:
        bus.log(NOTICE, f"Clear FAIL state for node {node.label}: is reachable again and nobody is serving its slots "
                        "after some time.")
    else:
        return
    node.flags &= ~m.F_FAIL
    me = bus.state.myself
    if me.is_replica and me.replicaof is node:
        me.flags &= ~m.F_PRIMARY_FAIL
    bus.todo(T_STATE | T_SAVE)


def update_state(bus: Bus) -> None:
    """Can the cluster serve, as far as this node sees?"""
    state = bus.state
    now, me = bus.now, state.myself
    state.todo &= ~T_STATE
    if not bus.first_state_time:
        bus.first_state_time = now
    if me.is_primary and state.state == STATE_FAIL and now - bus.first_state_time < WRITABLE_DELAY_MS:
        state.safe_to_join = False
        return
    state.safe_to_join = True
    state.size, reachable, covered = state.table.census()
    state.table.quorum = state.size // 2 + 1
    fresh, reason = STATE_OK, REASON_NONE
    if bus.settings.require_full_coverage and covered < SLOTS:
        fresh, reason = STATE_FAIL, REASON_COVERAGE
    if reachable < state.size // 2 + 1:
        fresh, reason = STATE_FAIL, REASON_MINORITY
        bus.among_minority_time = now
    _set_state(bus, fresh, reason)


def _set_state(bus: Bus, fresh: int, reason: int) -> None:
    state, now = bus.state, bus.now
    if fresh != state.state:
        delay = min(max(bus.settings.node_timeout, REJOIN_MIN_MS), REJOIN_MAX_MS)
        if fresh == STATE_OK and state.myself.is_primary and now - bus.among_minority_time < delay:
            return
        bus.log(NOTICE if fresh == STATE_OK else WARNING,
                f"Cluster state changed: {'ok' if fresh == STATE_OK else 'fail'}")
        state.state = fresh
        state.version += 1
    if fresh == STATE_FAIL and reason != state.fail_reason:
        bus.log(WARNING, f"Cluster is currently down: {REASONS[reason]}")
    if reason != state.fail_reason:
        state.fail_reason = reason
        state.version += 1
