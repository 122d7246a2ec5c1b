"""The slot migrations that this node takes part in, as source (exporting.py) or target (importing.py).

Their states (jobs.py) are changed under the driver's lock only. One thread does what may take time and nobody waits
for, and is the clock of all of them; each export has a thread of its own besides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Protocol

from net import log
from net.cluster import gossip, jobs
from net.cluster import messages as m
from net.cluster.nodes import T_BROADCAST, T_FSYNC, T_SAVE, Node
from net.lazy import numpy as np

if TYPE_CHECKING:
    from net.cluster.bus import Link
    from net.cluster.driver import Driver

TICK_S = 0.1
DROP_S, DROP_REST_S = 0.001, 0.001
FIRST_PING_MS = 1000        # after a doubt begins: what was on its way to the target has arrived or is lost


class Run(Protocol):
    """A migration with what carries it out."""

    job: jobs.Job
    machine: jobs.Export | jobs.Import
    flushes: int

    def moved(self) -> None:
        """Its state may have changed; the driver's lock is held: neither waits nor takes partitions' locks."""

    def work(self) -> None:
        """What takes time, in the thread of all migrations, without the driver's lock."""


def write_log(text: str, is_warning: bool) -> None:
    """A line about a migration."""
    (log.warning if is_warning else log.notice)(text)


def count_flushes() -> int:
    """How often the data was flushed so far."""
    from engine import slots
    return slots.flushes()


def hide(slots: list[int], hidden: bool) -> None:
    """Slots go out of sight, or come back."""
    from engine import slots as data
    data.hide(slots, hidden)


def delete_for(slot: int, seconds: float, lazy: bool = True) -> bool:
    """Deletes keys of a slot for about so long; are some left?"""
    from engine import slots as data
    return data.delete_slot(slot, lazy, False, int(seconds * 1e6))[1]


class Doubt:
    """Asks a target that was granted the slots whether it has them."""

    def __init__(self, machine: jobs.Export):
        self.machine = machine
        self.asked_at = 0
        self.link: Link | None = None

    def ask(self, driver: Driver, now: int) -> None:
        """Ten times a second; the driver's lock is held."""
        bus, machine = driver.bus, self.machine
        node = bus.state.lookup(machine.job.target.encode())
        bus.now = now
        if node is None or node.flags & m.F_FAIL:
            self._fence(driver, now)
        elif node.link is None or not node.link.is_connected or node.link is not self.link:
            self.link, self.asked_at = node.link, 0
        elif self.asked_at and self._answered(node):
            self.asked_at = 0
            machine.round_over(now)
        elif not self.asked_at and not node.ping_sent and now >= machine.doubt_at + FIRST_PING_MS:
            gossip.send_ping(bus, node.link, m.PING)
            self.asked_at = now

    def _answered(self, node: Node) -> bool:
        return not node.ping_sent and node.pong_received >= self.asked_at

    def _fence(self, driver: Driver, now: int) -> None:
        state, me = driver.bus.state, driver.bus.state.myself
        state.current_epoch = state.max_epoch() + 1
        me.config_epoch = state.next_epoch()
        driver.bus.todo(T_SAVE | T_FSYNC | T_BROADCAST)
        self.machine.fenced(now)


class Drops:
    """Keys of slots that have gone to others, deleted a few slots at a time: who wants the lock waits no longer.
    Until they are deleted they are out of sight: DBSIZE, SCAN and KEYS do not have them.

    Before such a slot is used again in any way, its old keys go (`now`)."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self.slots: dict[int, None] = {}
        self.version = -1                  # of the state that was looked at

    def some(self) -> bool:
        """Deletes for a moment; are some left? The lock is held."""
        until = time.monotonic() + DROP_S
        while self.slots and time.monotonic() < until:
            slot, _ = self.slots.popitem()     # from the end: at the front it would walk over all that have gone
            if delete_for(slot, DROP_S, self.driver.config.get_value("lazyfree-lazy-server-del")):
                self.slots[slot] = None
            else:
                hide([slot], False)
        return bool(self.slots)

    def _drop(self, slots: list[int]) -> None:
        self.driver.routes.drop_keys(slots)
        hide(slots, False)

    def add(self, slots: list[int]) -> None:
        """The keys of these are to go."""
        self.slots |= dict.fromkeys(slots)
        self.version = -1
        hide(slots, True)

    def now(self, slots: Iterable[int]) -> None:
        """These are to be used again; the lock is held."""
        found = [slot for slot in slots if slot in self.slots]
        for slot in found:
            del self.slots[slot]
        self._drop(found)

    def regained(self) -> None:
        """The map has changed: what is this node's again, or is being imported."""
        state = self.driver.bus.state
        if state.version == self.version:
            return
        self.version = state.version
        slots = np.fromiter(self.slots, np.intp)
        ours = slots[state.owners[slots] == state.myself.index].tolist()
        self.now(ours + [slot for slot in state.importing if slot in self.slots])

    def work(self) -> None:
        """Some of the rest, in the thread of all migrations; then it is the others' turn."""
        with self.driver.lock:
            more = self.some()
        if more:
            time.sleep(DROP_REST_S)
            self.driver.migrations.queue.put(self)


class Migrations:
    """All of them, newest first."""

    def __init__(self, driver: Driver, now: Callable[[], int]):
        self.driver = driver
        self.now = now
        self.runs: list[Run] = []
        self.drops = Drops(driver)
        self.queue: SimpleQueue[Run | Drops] = SimpleQueue()
        self.thread: Thread | None = None
        self.version = -1
        self.flushing: list[int] = []      # slots whose keys FLUSHSLOT is deleting
        self.prevents_pause = self.prevents_failover = False       # DEBUG SLOTMIGRATION

    def add(self, run: Run) -> None:
        """A new one; the driver's lock is held."""
        self.runs.insert(0, run)
        self._start()

    def drop(self, slots: list[int]) -> None:
        """The keys of slots that are not this node's any more go; the router knows that they are not."""
        self.drops.add(slots)
        if self.drops.some():
            self._start()
            self.queue.put(self.drops)

    def _start(self) -> None:
        if self.thread is None:
            self.thread = Thread(target=self._serve, name="migrations", daemon=True)
            self.thread.start()

    def _under_way(self, operation: str) -> list[Run]:
        return [run for run in self.runs if run.job.operation == operation
                and (run.job.in_progress if operation == "EXPORT" else not run.job.is_over)]

    def moving(self, operation: str) -> bool:
        """Is one under way that is an EXPORT or IMPORT?"""
        return bool(self._under_way(operation))

    def first_moving(self, operation: str, ranges: Iterable[tuple[int, int]]) -> int | None:
        """The first of these slots of which an EXPORT or IMPORT is under way."""
        under_way = [pair for run in self._under_way(operation) for pair in run.job.ranges]
        for first, last in ranges:
            found = [max(first, a) for a, b in under_way if a <= last and first <= b]
            if found:
                return min(found)
        return None

    def granted(self, target: str) -> list[np.ndarray]:
        """Slots that this node is told it may take; the driver's lock is held."""
        return [run.job.places for run in self.runs
                if run.job.operation == "EXPORT" and run.job.target == target and run.job.state == jobs.GRANTED]

    def wants(self, run: Run) -> None:
        """Its `work` is to be called soon."""
        self.queue.put(run)

    def holds_writes(self) -> bool:
        """Do writers of some slots wait for a migration?"""
        return any(isinstance(run.machine, jobs.Export) and run.machine.holds_writes for run in tuple(self.runs))

    def flush_begins(self, slot: int) -> bool:
        """FLUSHSLOT is about to delete; `flush_ends` follows. False: it may not now, for what it deletes would not be
        told to the node that is about to have the slot. The driver's lock is held."""
        for run in self.runs:
            if not run.job.in_progress or not run.job.overlaps(slot, slot):
                continue
            if isinstance(run.machine, jobs.Import):
                fail_flushed(run.machine, self.now())
            elif run.machine.holds_writes:
                return False
        self.flushing.append(slot)
        return True

    def flush_ends(self, slot: int) -> None:
        """It has deleted; the driver's lock is held."""
        self.flushing.remove(slot)

    def is_flushing(self, slots: list[int]) -> bool:
        """Is one of these being flushed? Their writers are not held before that has been told."""
        return not set(slots).isdisjoint(self.flushing)

    def owners_changed(self) -> None:
        """The router knows a new map; the driver's lock is held."""
        state = self.driver.bus.state
        if state.version == self.version:
            return
        self.version = state.version
        for run in self.runs:
            if not run.job.in_progress:
                continue
            owners = state.owners[run.job.places]
            owner = state.order[int(owners[0])].name if owners[0] and (owners == owners[0]).all() else None
            run.machine.owned_by(owner, self.now())
            run.moved()

    # ---- the thread

    def _serve(self) -> None:
        due = 0.0
        while True:
            try:
                run = self.queue.get(timeout=TICK_S)
            except Empty:
                run = None
            try:
                if run is not None:
                    run.work()
                now = self.now()
                if now >= due or now < due - 1000:
                    due = now + TICK_S * 1000
                    self.tick(now)
            except Exception as error:      # the others must go on
                log.warning(f"Slot migrations: {error!r}")

    def tick(self, now: int) -> None:
        """Time passes for all of them."""
        silence_ms = self.driver.config.get_value("repl-timeout") * 1000
        flushes = count_flushes()
        with self.driver.lock:
            for run in self.runs:
                if run.job.is_over:
                    continue
                if run.job.in_progress and flushes != run.flushes:
                    fail_flushed(run.machine, now)
                run.machine.tick(silence_ms, now)
                doubt = getattr(run, "doubt", None)
                if doubt is not None and run.machine.in_doubt:
                    doubt.ask(self.driver, now)
                run.moved()
                self.queue.put(run)
            self.trim()
            self.driver.settle()

    def trim(self) -> None:
        """The oldest that are over go when there are too many."""
        most = self.driver.config.get_value("cluster-slot-migration-log-max-len")
        for run in self.runs[::-1]:
            if len(self.runs) <= most:
                break
            if run.job.is_over:
                self.runs.remove(run)


def fail_flushed(machine: jobs.Export | jobs.Import, now: int) -> None:
    """What was to be moved is gone, at one side at least."""
    if isinstance(machine, jobs.Export) and machine.job.state == jobs.GRANTED:
        if not machine.in_doubt:
            machine.doubt(jobs.FAILED, "Data was flushed", now)
    else:
        machine.fail("Data was flushed", now)
