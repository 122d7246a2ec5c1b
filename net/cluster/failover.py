"""Failovers: votes for other shards' replicas, and a replica's own elections, automatic or asked for by a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.cluster import gossip, liveness, ownership
from net.cluster import messages as m
from net.cluster.decisions import PauseWrites
from net.cluster.nodes import T_BROADCAST, T_FAILOVER, T_FSYNC, T_MANUAL, T_SAVE, T_STATE, Node, slots_of
from net.lazy import numpy as np

if TYPE_CHECKING:
    from net.cluster.bus import Bus, Link

VERBOSE, NOTICE, WARNING = 1, 2, 3
OPERATION_TIMEOUT_MS = 2000
DELAY_MAX_MS = 500
EMPTY_DELAY_MS = 500
PAUSE_TIMES = 2               # manual-failover-timeouts that writes wait at most
MIGRATION_DELAY_MS = 5000
RELOG_MS = 1000
DATA_AGE_RELOG_MS = 10000
NONE, DATA_AGE, WAITING_DELAY, EXPIRED, WAITING_VOTES = range(5)
WHY_NOT = {
    DATA_AGE: "Disconnected from primary for longer than allowed. Please check the 'cluster-replica-validity-factor' "
              "configuration option.",
    WAITING_DELAY: "Waiting the delay before I can start a new failover.",
    EXPIRED: "Failover attempt expired.",
    WAITING_VOTES: "Waiting for votes, but majority still not reached.",
}


# --- votes ---------------------------------------------------------------------------------------


def vote(bus: Bus, node: Node, request: m.Packet) -> None:
    """A replica wants to be primary: this node's vote, once an epoch, is saved before it leaves."""
    state, me = bus.state, bus.state.myself
    if not me.is_voting:
        return
    denied = f"Failover auth denied to {node.label}"
    if not state.safe_to_join:
        bus.log(WARNING, f"{denied}: it is not safe to vote in this moment)")
        return
    if request.current_epoch < state.current_epoch:
        bus.log(WARNING, f"{denied}: reqEpoch ({request.current_epoch}) < curEpoch({state.current_epoch})")
        return
    if state.last_vote_epoch == state.current_epoch:
        bus.log(WARNING, f"{denied}: already voted for epoch {state.current_epoch}")
        return
    primary = node.replicaof
    why = ""
    if node.is_primary:
        why = "it is a primary node"
    elif primary is None:
        why = "I don't know its primary"
    elif not primary.is_failed and not request.mflags & m.M_FORCEACK:
        why = "its primary is up"
    if why:
        bus.log(WARNING, f"{denied} for epoch {request.current_epoch}: {why}")
        return
    claimed = np.unpackbits(np.frombuffer(request.slots, np.uint8), bitorder="little").astype(bool)
    newer = claimed & ~state.unclaimed() & (state.owner_epochs() > np.uint64(request.config_epoch))
    if newer.any():
        slot = int(np.argmax(newer))
        owner = state.owner(slot)
        bus.log(WARNING, f"{denied}: slot {slot} epoch ({owner.config_epoch}) > reqConfigEpoch "
                         f"({request.config_epoch})")
        bus.log(VERBOSE, f"Node {node.label} has old slots configuration, sending an UPDATE message about "
                         f"{owner.label}")
        bus.send_update(node.link, owner)
        return
    state.last_vote_epoch = state.current_epoch
    bus.todo(T_SAVE | T_FSYNC)
    bus.send(node.link, m.AUTH_ACK, m.finish(bus.head(m.AUTH_ACK), m.AUTH_ACK))
    bus.log(NOTICE, f"Failover auth granted to {node.label} for epoch {state.current_epoch}")


# --- manual failover -----------------------------------------------------------------------------


def reset_manual(bus: Bus) -> None:
    """No manual failover is under way any more."""
    election = bus.election
    if election.mf_replica is not None:
        bus.actions.append(PauseWrites(0))
    election.mf_end = 0
    election.mf_can_start = False
    election.mf_replica = None
    election.mf_primary_offset = -1


def start_as_primary(bus: Bus, sender: Node, link: Link) -> None:
    """A replica of this primary wants its place: writes wait, and it is told the offset."""
    if sender.replicaof is not bus.state.myself:
        return
    reset_manual(bus)
    timeout = bus.settings.manual_failover_timeout
    bus.election.mf_end = bus.now + timeout
    bus.election.mf_replica = sender
    bus.actions.append(PauseWrites(bus.now + timeout * PAUSE_TIMES))
    bus.log(NOTICE, f"Manual failover requested by replica {sender.label}.")
    gossip.send_ping(bus, link, m.PING)


def start_as_replica(bus: Bus, force: bool, takeover: bool) -> None:
    """CLUSTER FAILOVER on a replica that may: asks the primary, or not (force), or nobody (takeover)."""
    reset_manual(bus)
    bus.election.mf_end = bus.now + bus.settings.manual_failover_timeout
    me = bus.state.myself
    if takeover:
        ownership.bump_epoch(bus)
        replace_primary(bus)
    elif force:
        _can_start(bus)
        bus.todo(T_MANUAL)
    else:
        bus.send(me.replicaof.link, m.MFSTART, m.finish(bus.head(m.MFSTART), m.MFSTART))


def check_manual_timeout(bus: Bus) -> None:
    """Gives a manual failover up that takes too long."""
    if bus.election.mf_end and bus.election.mf_end < bus.now:
        bus.log(WARNING, "Manual failover timed out.")
        reset_manual(bus)


def _can_start(bus: Bus) -> None:
    election = bus.election
    if election.auth_time:
        election.auth_time = 0
        bus.log(WARNING, f"Failover election in progress for epoch {election.auth_epoch}, but received a new manual "
                         "failover. Resetting the election.")
    election.mf_can_start = True


def handle_manual(bus: Bus) -> None:
    """As a replica: is all of the paused primary's stream here?"""
    election = bus.election
    if not election.mf_end or election.mf_can_start or election.mf_primary_offset == -1:
        return
    if election.mf_primary_offset == bus.repl_offset():
        _can_start(bus)
        bus.log(NOTICE, "All primary replication stream processed, manual failover can start.")
        bus.todo(T_FAILOVER)
        return
    bus.todo(T_MANUAL)


# --- a replica's election ------------------------------------------------------------------------


def replica_rank(bus: Bus) -> int:
    """How many of the primary's replicas have more data (as much: and a smaller id)."""
    me = bus.state.myself
    mine, rank = bus.repl_offset(), 0
    for other in (me.replicaof.replicas or ()) if me.replicaof else ():
        if other is me or other.flags & m.F_NOFAILOVER:
            continue
        if other.repl_offset > mine or (other.repl_offset == mine and other.id < me.id):
            rank += 1
    return rank


def failed_primary_rank(bus: Bus) -> int:
    """How many failed shards come before this one, so that their elections do not meet."""
    me, s = bus.state.myself, bus.settings
    limit = s.node_timeout * s.replica_validity_factor
    rank = 0
    for node in bus.state.order[1:]:
        if not node.is_failed or not node.is_voting or not node.replicas:
            continue
        if s.replica_validity_factor and bus.now - node.fail_time > limit:
            continue
        if node.shard_id < me.shard_id:
            rank += 1
    return rank


def _is_best(bus: Bus) -> bool:
    """May this replica start at once: is it the first in all respects, and do all replicas see the failure?"""
    election, me = bus.election, bus.state.myself
    return (not election.mf_end and bus.repl_offset() != 0 and not election.auth_rank and not election.primary_rank
            and all(node.flags & m.F_PRIMARY_FAIL for node in me.replicaof.replicas or ()))


def _cannot(bus: Bus, reason: int) -> None:
    """Logs why there is no failover, if that is news or some time has passed."""
    election = bus.election
    since = bus.now - election.cant_logged
    if reason == election.cant_reason and since < (DATA_AGE_RELOG_MS if reason == DATA_AGE else RELOG_MS):
        return
    election.cant_reason = reason
    election.cant_logged = bus.now
    bus.log(NOTICE, f"Currently unable to failover: {WHY_NOT[reason]}")
    if reason in (WAITING_VOTES, EXPIRED):
        bus.log(NOTICE, f"Needed quorum: {bus.state.size // 2 + 1}. Number of votes received so far: "
                        f"{len(election.voters)}")


def handle_replica(bus: Bus) -> None:
    """As a replica: the steps of an election, whenever there is reason for one."""
    me, s, election, now = bus.state.myself, bus.settings, bus.election, bus.now
    if not s.can_replicate:       # a replica in nodes.conf only: it has no data to be primary with
        return
    bus.state.todo &= ~T_FAILOVER
    manual = bool(election.mf_end and election.mf_can_start)
    primary = me.replicaof
    if (me.is_primary or primary is None or (not primary.is_failed and not manual)
            or (s.replica_no_failover and not manual)):
        election.cant_reason = NONE
        return
    age = bus.data_age_ms()
    if age > s.node_timeout:
        age -= s.node_timeout
    if (s.replica_validity_factor and not manual
            and age > s.repl_ping_period_s * 1000 + s.node_timeout * s.replica_validity_factor):
        _cannot(bus, DATA_AGE)
        return
    timeout = max(s.node_timeout * 2, OPERATION_TIMEOUT_MS)
    delay = min(s.node_timeout // 30, DELAY_MAX_MS)
    auth_age = now - election.auth_time
    if auth_age > timeout * 2:
        _schedule(bus, delay)
        if now < election.auth_time:
            return
        auth_age = 0
    if not election.auth_sent and not election.mf_end and election.auth_time != now:
        _reschedule(bus, delay)
    if now < election.auth_time:
        _cannot(bus, WAITING_DELAY)
    elif auth_age > timeout:
        _cannot(bus, EXPIRED)
    elif not election.auth_sent:
        _ask_for_votes(bus)
    elif len(election.voters) >= bus.state.size // 2 + 1:
        _won(bus)
    else:
        _cannot(bus, WAITING_VOTES)


def _schedule(bus: Bus, delay: int) -> None:
    election, now = bus.election, bus.now
    election.auth_time = now + delay + (bus.rng.randrange(delay) if delay else 0)
    election.voters.clear()
    election.auth_sent = False
    election.auth_rank = replica_rank(bus)
    election.auth_time += election.auth_rank * delay * 2
    if bus.repl_offset() == 0:
        election.auth_time += EMPTY_DELAY_MS
    election.primary_rank = failed_primary_rank(bus)
    election.auth_time += election.primary_rank * delay
    if election.mf_end:
        election.auth_time = now
        election.auth_rank = election.primary_rank = 0
    elif _is_best(bus):
        election.auth_time = now
        bus.log(NOTICE, "This is the best ranked replica and can initiate the election immediately.")
    bus.log(NOTICE, f"Start of election delayed for {election.auth_time - now} milliseconds "
                    f"(rank #{election.auth_rank}, primary rank #{election.primary_rank}, offset {bus.repl_offset()}).")
    bus.broadcast_pong(local_replicas=True)


def _reschedule(bus: Bus, delay: int) -> None:
    """Others' offsets, or the list of failed shards, may have changed meanwhile."""
    election = bus.election
    rank = replica_rank(bus)
    if rank != election.auth_rank:
        added = (rank - election.auth_rank) * delay * 2
        election.auth_time += added
        election.auth_rank = rank
        bus.log(NOTICE, f"Replica rank updated to #{rank}, added {added} milliseconds of delay.")
    rank = failed_primary_rank(bus)
    if rank != election.primary_rank:
        added = (rank - election.primary_rank) * delay
        election.auth_time += added
        election.primary_rank = rank
        bus.log(NOTICE, f"Failed primary rank updated to #{rank}, added {added} milliseconds of delay.")
    if _is_best(bus):
        election.auth_time = bus.now
        bus.log(NOTICE, "Myself become the best ranked replica, initiate the election immediately.")


def _ask_for_votes(bus: Bus) -> None:
    election, state = bus.election, bus.state
    election.auth_epoch = state.next_epoch()
    bus.log(NOTICE, f"Starting a failover election for epoch {state.current_epoch}, node config epoch is "
                    f"{state.myself.epoch}")
    force = m.M_FORCEACK if election.mf_end or _is_best(bus) else 0
    bus.broadcast(m.AUTH_REQUEST, m.finish(bus.head(m.AUTH_REQUEST), m.AUTH_REQUEST, b"", force))
    election.auth_sent = True
    bus.todo(T_SAVE | T_STATE | T_FSYNC)


def _won(bus: Bus) -> None:
    me, election = bus.state.myself, bus.election
    bus.log(NOTICE, "Failover election won: I'm the new primary.")
    if me.config_epoch < election.auth_epoch:
        me.config_epoch = election.auth_epoch
        bus.todo(T_SAVE | T_FSYNC | T_BROADCAST)
        bus.log(NOTICE, f"configEpoch set to {me.config_epoch} after successful failover")
    replace_primary(bus)


def replace_primary(bus: Bus) -> None:
    """This replica takes its primary's place and slots; its epoch is new already."""
    state, me = bus.state, bus.state.myself
    old = me.replicaof
    if me.is_primary or old is None:
        return
    bus.log(NOTICE, f"Setting myself to primary in shard {ownership.shard(me)} after failover; my old primary is "
                    f"{old.label}")
    ownership.set_as_primary(bus, me)
    state.assign(me, slots_of(old.slots))
    liveness.update_state(bus)
    bus.todo(T_SAVE | T_FSYNC | T_BROADCAST)
    reset_manual(bus)
    bus.election.auth_time = 0


# --- replicas that move to primaries without any ---------------------------------------------------


def _working_replicas(node: Node) -> int:
    return sum(not replica.is_failed for replica in node.replicas or ())


def count_replicas(bus: Bus) -> tuple[int, int, int]:
    """As a replica: (primaries without a working replica that should have one, the most that a primary has, this
    shard's)."""
    orphaned = most = mine = 0
    skip = m.F_MYSELF | m.F_NOADDR | m.F_HANDSHAKE
    for node in bus.state.others():
        if node.flags & skip or not node.is_primary or node.is_failed:
            continue
        working = _working_replicas(node)
        if not working and node.numslots and node.flags & m.F_MIGRATE_TO:
            orphaned += 1
        most = max(most, working)
        if bus.state.myself.replicaof is node:
            mine = working
    return orphaned, most, mine


def migrate_replica(bus: Bus, most: int) -> None:
    """Of the replicas that can be spared, the one with the smallest id goes to an orphaned primary."""
    state, me = bus.state, bus.state.myself
    if state.state or me.replicaof is None:
        return
    fine = sum(not node.flags & (m.F_FAIL | m.F_PFAIL) for node in me.replicaof.replicas or ())
    if fine <= bus.settings.migration_barrier:
        return
    target, candidate = None, me
    for node in state.order[1:]:
        working = _working_replicas(node) if node.is_primary else 0
        if node.is_replica or node.is_failed or not node.flags & m.F_MIGRATE_TO or working:
            node.orphaned_time = 0
        else:
            if target is None and node.numslots:
                target = node
            node.orphaned_time = node.orphaned_time or bus.now
        if working == most:
            candidate = min((candidate, *(node.replicas or ())), key=lambda other: other.id)
    if target is None or candidate is not me or bus.now - target.orphaned_time <= MIGRATION_DELAY_MS:
        return
    bus.log(NOTICE, f"Migrating to orphaned primary {target.label} in shard {ownership.shard(target)}")
    ownership.set_my_primary(bus, target, True, True)
    bus.todo(T_SAVE | T_FSYNC | T_BROADCAST | T_STATE)
