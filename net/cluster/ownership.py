"""Who has which slots under which epoch: claims, collisions, roles, and what follows when slots go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.cluster import messages as m
from net.cluster.decisions import DropKeys, Follow
from net.cluster.nodes import T_BROADCAST, T_FSYNC, T_SAVE, T_STATE, Node, slots_of
from net.lazy import numpy as np

if TYPE_CHECKING:
    from net.cluster.bus import Bus

VERBOSE, NOTICE = 1, 2
SAVE_ALL = T_SAVE | T_STATE | T_FSYNC


def same_shard(one: Node, other: Node) -> bool:
    """Are they of one shard?"""
    return one.shard_id == other.shard_id


def shard(node: Node) -> str:
    """A node's shard id as text."""
    return node.shard_id.decode()


# --- epochs --------------------------------------------------------------------------------------


def bump_epoch(bus: Bus) -> bool:
    """Takes a new configuration epoch without asking anybody; False: it is the greatest already."""
    state, me = bus.state, bus.state.myself
    if me.config_epoch and me.config_epoch == state.max_epoch():
        return False
    me.config_epoch = state.next_epoch()
    bus.todo(T_SAVE | T_FSYNC | T_BROADCAST)
    bus.log(NOTICE, f"New configEpoch set to {me.config_epoch}")
    return True


def resolve_collision(bus: Bus, sender: Node) -> None:
    """Two primaries have one epoch: the one with the smaller id takes a new one."""
    state, me = bus.state, bus.state.myself
    if sender.config_epoch != me.config_epoch or not sender.is_primary or not me.is_primary or sender.id <= me.id:
        return
    me.config_epoch = state.next_epoch()
    bus.todo(T_SAVE | T_FSYNC | T_BROADCAST)
    bus.log(NOTICE, f"configEpoch collision with node {sender.label}. configEpoch set to {me.config_epoch}")


# --- roles ---------------------------------------------------------------------------------------


def set_as_primary(bus: Bus, node: Node) -> None:
    """A replica is a primary now."""
    if node.is_primary:
        return
    bus.log(NOTICE, f"Reconfiguring node {node.label} as primary for shard {shard(node)}")
    me = bus.state.myself
    if node.replicaof is not None:
        bus.state.remove_replica(node.replicaof, node)
        if node is not me:
            node.flags |= m.F_MIGRATE_TO
    node.flags = node.flags & ~m.F_REPLICA | m.F_PRIMARY
    node.replicaof = None
    if node is me:
        bus.actions.append(Follow("", 0, False))
    bus.state.version += 1
    bus.todo(T_SAVE | T_STATE)


def set_my_primary(bus: Bus, node: Node, close_slots: bool, full_sync: bool) -> None:
    """This node, which has no slots, becomes that one's replica."""
    from net.cluster import failover, gossip  # they import this module
    state, me = bus.state, bus.state.myself
    if me.is_primary:
        me.flags = me.flags & ~(m.F_PRIMARY | m.F_MIGRATE_TO) | m.F_REPLICA
    elif me.replicaof is not None:
        state.remove_replica(me.replicaof, me)
    if close_slots:
        state.close_slots()
    me.replicaof = node
    gossip.update_shard_id(bus, me, node.shard_id)
    state.add_replica(node, me)
    bus.actions.append(Follow(node.ip, node.tcp_port, full_sync))
    failover.reset_manual(bus)
    bus.election.auth_time = 0
    state.version += 1


# --- claims --------------------------------------------------------------------------------------


class _Claim:
    """What a node claims, and what comes of it."""

    def __init__(self, bus: Bus, sender: Node, epoch: int, raw: bytes):
        state, me = bus.state, bus.state.myself
        self.bus, self.sender, self.epoch = bus, sender, epoch
        self.claimed = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little").astype(bool)
        owned = state.owners == sender.index
        state.not_claimed[self.claimed & owned] = False
        unclaimed = state.unclaimed()
        self.taken = self.claimed & ~owned & (unclaimed | (state.owner_epochs() < np.uint64(epoch)))
        for granted in bus.granted(sender.name):                    # they may be its, whatever the epochs
            self.taken[granted] |= (self.claimed & ~owned)[granted]
        self.moved = np.flatnonzero(self.taken & ~unclaimed)
        self.given_up = owned & ~self.claimed
        self.cur_primary = me if me.is_primary else me.replicaof
        self.count = int(np.count_nonzero(self.claimed))
        ours = self.cur_primary is not None and self.cur_primary.index
        self.ours = int(np.count_nonzero(self.taken & (state.owners == ours))) if ours else 0
        self.dirty: list[int] = []

    def log_moves(self) -> None:
        """A line for each run of slots that leave a shard."""
        state, sender = self.bus.state, self.sender
        owners = state.owners[self.moved]
        breaks = np.flatnonzero((np.diff(self.moved) != 1) | (np.diff(owners) != 0)) + 1
        for run in np.split(np.arange(len(owners)), breaks) if len(owners) else ():
            source = state.order[int(owners[run[0]])]
            if same_shard(source, sender):
                continue
            self.bus.log(NOTICE, f"Slot range [{self.moved[run[0]]}, {self.moved[run[-1]]}] is migrated from node "
                                 f"{source.label} in shard {shard(source)} to node {sender.label} in shard "
                                 f"{shard(sender)}.")

    def open_taken(self) -> None:
        """Slots under way that have a new owner."""
        bus, state, sender = self.bus, self.bus.state, self.sender
        for slot, node in list(state.migrating.items()):
            if self.taken[slot] and not same_shard(sender, state.myself):
                bus.log(NOTICE, f"Slot {slot} is no longer being migrated to node {node.label} in shard {shard(node)}.")
                del state.migrating[slot]
        for slot, node in list(state.importing.items()):
            if not self.taken[slot] or node is sender:
                continue
            if same_shard(sender, node):
                bus.log(VERBOSE, f"Failover occurred in migration source. Update importing source for slot {slot} to "
                                 f"node {sender.label} in shard {shard(sender)}.")
                state.importing[slot] = sender
            else:
                bus.log(NOTICE, f"Slot {slot} is no longer being imported from node {node.label} in shard "
                                f"{shard(node)}.")
                del state.importing[slot]

    def open_unclaimed(self) -> None:
        """Slots under way that the sender does not claim, though perhaps it should."""
        bus, state, sender, me = self.bus, self.bus.state, self.sender, self.bus.state.myself
        for slot, node in list(state.migrating.items()):
            if (not self.claimed[slot] and node is not sender and same_shard(node, sender)
                    and (node.config_epoch < self.epoch or node.is_replica)):
                bus.log(VERBOSE, f"Failover occurred in migration target. Slot {slot} is now being migrated to node "
                                 f"{sender.label} in shard {shard(sender)}.")
                state.migrating[slot] = sender
                bus.todo(SAVE_ALL)
        if not me.is_primary:
            return
        for slot in [slot for slot, node in state.importing.items() if node is sender and not self.claimed[slot]]:
            bus.log(NOTICE, f"Slot {slot} is no longer being imported from node {sender.label} in shard "
                            f"{shard(sender)}; Clear my importing source for the slot.")
            del state.importing[slot]
            if state.owner(slot) is not me:
                state.assign(me, np.array([slot]))
                bump_epoch(bus)
                bus.todo(SAVE_ALL)

    def apply(self) -> None:
        """Gives the sender what it takes."""
        bus, state, me = self.bus, self.bus.state, self.bus.state.myself
        taken = np.flatnonzero(self.taken)
        if len(taken):
            mine = taken[state.owners[taken] == me.index]
            self.dirty = bus.with_keys(mine.tolist())
            self.log_moves()
        if state.migrating or state.importing:
            self.open_taken()
        state.not_claimed |= self.given_up
        if len(taken):
            state.assign(self.sender, taken)
            bus.todo(SAVE_ALL)
        if state.migrating or state.importing:
            self.open_unclaimed()
        state.any_not_claimed = bool(state.not_claimed.any())


def apply_claim(bus: Bus, sender: Node, epoch: int, raw: bytes) -> None:
    """A primary claims the slots of this map under this epoch (or somebody says so in UPDATE): those that nobody has,
    or that have an owner of a lesser epoch, are its. A shard that loses its last slot follows the winner."""
    state, me = bus.state, bus.state.myself
    if sender is me:
        bus.log(NOTICE, "Discarding UPDATE message about myself.")
        return
    alike = same_shard(sender, me)
    claim = _Claim(bus, sender, epoch, raw)
    claim.apply()
    wins = claim.ours > 0
    if (not wins and me.replicaof is not sender and not claim.count and not me.numslots and me.epoch < epoch
            and alike):
        wins = True
    drop_dirty = False
    if wins and claim.cur_primary is not None and not claim.cur_primary.numslots:
        if bus.settings.can_replicate and (bus.settings.allow_replica_migration or alike):
            bus.log(NOTICE, f"Configuration change detected. Reconfiguring myself as a replica of node {sender.label} "
                            f"in shard {shard(sender)}")
            set_my_primary(bus, sender, not alike, not alike)
            bus.todo(SAVE_ALL | T_BROADCAST)
        elif me.is_primary and (not alike or not bus.settings.can_replicate) and claim.count >= claim.ours:
            bus.log(NOTICE, f"My last slot was migrated to node {sender.label} in shard {shard(sender)}. I am now an "
                            "empty primary.")
            drop_dirty = True
    else:
        drop_dirty = bool(claim.dirty)
    if drop_dirty and claim.dirty:
        drop_keys(bus, claim.dirty)
    state.version += 1


def drop_keys(bus: Bus, slots: list[int]) -> None:
    """Keys of slots that have gone to others are deleted. Whoever does it logs it: lines take time, and writers may be
    waiting to hear where the slots are."""
    bus.actions.append(DropKeys(slots))


def move_node_slots(bus: Bus, old: Node, fresh: Node) -> tuple[int, int, int]:
    """After a failover in a shard: slots, and slots under way, go from the old primary to the new: how many each."""
    state = bus.state
    slots = slots_of(old.slots)
    state.assign(fresh, slots)
    importing = migrating = 0
    for slot, node in list(state.importing.items()):
        if node is old:
            bus.log(VERBOSE, f"Failover occurred in migration source. Update importing source for slot {slot} to node "
                             f"{fresh.label} in shard {shard(fresh)}.")
            state.importing[slot] = fresh
            importing += 1
    for slot, node in list(state.migrating.items()):
        if node is old:
            bus.log(VERBOSE, f"Failover occurred in migration target. Slot {slot} is now being migrated to node "
                             f"{fresh.label} in shard {shard(fresh)}.")
            state.migrating[slot] = fresh
            migrating += 1
    return len(slots), importing, migrating


def reset(bus: Bus, hard: bool) -> None:
    """CLUSTER RESET: no other nodes, no slots, a shard of its own; hard: a new id, and epochs begin anew."""
    from net.cluster import failover
    state, me = bus.state, bus.state.myself
    was_replica = bool(me.is_replica)
    state.close_slots()
    failover.reset_manual(bus)
    state.unassign(np.flatnonzero(state.owners))
    for node in state.others():
        bus.delete_node(node)
    state.blacklist.clear()
    if hard:
        state.current_epoch = state.last_vote_epoch = me.config_epoch = 0
        bus.log(NOTICE, "configEpoch set to 0 via CLUSTER RESET HARD")
        state.rename(me, state.hex_id())
        bus.log(NOTICE, f"Node hard reset, now I'm {me.name}")
    state.move_to_shard(me, state.hex_id())
    bus.log(NOTICE, f"Moving myself to a new shard {shard(me)}.")
    if was_replica:
        set_as_primary(bus, me)
    bus.todo(SAVE_ALL)
