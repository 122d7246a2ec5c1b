"""A slot migration's target. The source is a client whose commands are run whoever has the slot; what it says of the
migration itself comes to `said`, what ends it to `link_event`, in the thread of the client's worker."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

from engine.shared import find
from net import bridge, log
from net.cluster import jobs, restored
from net.cluster.migrations import count_flushes, delete_for, write_log
from net.cluster.nodes import T_BROADCAST, T_FSYNC, T_SAVE, T_STATE

if TYPE_CHECKING:
    from net.cluster.migrations import Migrations

LINK_ERROR, LINK_FULL, LINK_GONE = 1, 2, 3       # as in net/worker.pxd
CLEAN_S = 0.005                                  # of one turn
WRONG = "Failed to process command during slot migration. Check logs for more information"
TCP_ESTABLISHED = 1                              # tcpi_state, the first byte of TCP_INFO
NO_MEMORY = "Ran out of memory (OOM) during slot import"

links: dict[int, ImportRun] = {}                 # by the client's id


def _is_logging() -> bool:
    """Is there an append-only file?"""
    from net import appendonly
    return appendonly.state.mode != appendonly.OFF


class ImportRun:
    """An import and its connection."""

    def __init__(self, migrations: Migrations, job: jobs.Job, client_id: int, fd: int):
        self.migrations, self.job, self.client_id = migrations, job, client_id
        self.lock, self.now = migrations.driver.lock, migrations.now
        self.machine = jobs.Import(job, write_log, _is_logging())
        self.flushes = count_flushes()
        self.slots = job.slots
        self.is_gone = False               # the connection
        self.is_killed = False
        self.is_begun = False
        self.left: list[int] | None = None # that are still to be cleaned
        self.peek: socket.socket | None = socket.socket(fileno=os.dup(fd))
        links[client_id] = self

    def said(self, word: bytes) -> None:
        """A message of the source."""
        with self.lock:
            if self.job.in_progress:
                self.machine.message(word, self.now())
            self.moved()
            if not self.job.in_progress or self.job.state == jobs.GRANTED or self.machine.wants_sync:
                self.migrations.wants(self)

    def moved(self) -> None:
        """Its state may have changed; the lock is held."""
        for data in self.machine.out:
            bridge.push(self.client_id, data)
        self.machine.out.clear()

    def _is_held(self) -> bool:
        """Has the source still got the connection? The kernel knows, also while the connection's worker is busy."""
        try:
            return self.peek is not None and (
                self.peek.family == socket.AF_UNIX
                or self.peek.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED)
        except OSError:
            return False

    def _let_go(self) -> None:
        """The connection may end; the lock is held."""
        if self.peek is not None:
            self.peek.close()
            self.peek = None

    def ended(self, what: int) -> None:
        """Something that ends it has happened to the connection."""
        if what == LINK_GONE:
            self.is_gone = True
            links.pop(self.client_id, None)
        with self.lock:
            if what == LINK_GONE:
                self._let_go()
                self.machine.lost(self.now())
            elif self.job.in_progress:
                if what == LINK_FULL:
                    log.warning(f"Slot migration {self.job} failed due to OOM")
                self.machine.fail(NO_MEMORY if what == LINK_FULL else WRONG, self.now())
            self.migrations.wants(self)

    # ---- in the thread of all migrations

    def work(self) -> None:
        """Begins, brings to the disk what has come, takes the slots over, or cleans up."""
        if not self.is_begun:
            self._begin()
        if self.machine.wants_sync:
            self._sync()                   # whether it could be is asked when the slots are taken
            with self.lock:
                self.machine.synced()
                self.moved()
        state = self.job.state
        if state == jobs.GRANTED and not self.migrations.prevents_failover:
            self._take_over()
        if self.job.state == jobs.CLEANING:
            self._clean()

    def _begin(self) -> None:
        """The slots are out of sight, and the log tells of it, before the source hears that it may send them."""
        from engine import slots
        self.is_begun = True
        slots.hide(self.slots, True)
        restored.say(restored.establish_words(self.job), self.slots[0])
        bridge.push(self.client_id, b"+OK\r\n")

    def _sync(self) -> bool:
        """What has come is on the disk, where there is an append-only file."""
        from persist import aof
        if not _is_logging():
            return True
        return not (aof.flush() or aof.sync())

    def _take_over(self) -> None:
        from engine import slots
        is_safe = self._sync()
        driver = self.migrations.driver
        with driver.working() as bus:
            if self.job.state != jobs.GRANTED:
                return
            if self.is_gone or not self._is_held():  # the source may have given it up meanwhile: then it has the slots
                self.machine.lost(self.now())
                return
            if not is_safe:
                self.machine.fail("The append-only file could not be written", self.now())
                return
            state, me = bus.state, bus.state.myself
            if state.max_epoch() != me.config_epoch or not me.config_epoch:
                me.config_epoch = state.next_epoch()
                log.notice(f"New configEpoch set to {me.config_epoch}")
            state.assign(me, self.job.places)
            bus.todo(T_SAVE | T_FSYNC | T_STATE | T_BROADCAST)
            self.machine.taken_over(self.now())
        slots.hide(self.slots, False)
        restored.say(restored.finish_words(self.job), self.slots[0])
        self._close()

    def _close(self) -> None:
        with self.lock:
            self._let_go()
        if not self.is_killed and not self.is_gone:
            self.is_killed = True
            if not bridge.kill_client(self.client_id):
                self.is_gone = True

    def _clean(self) -> None:
        from engine import slots
        self._close()
        if not self.is_gone:               # what it has sent must not come after the deletion
            return
        if self.left is None:
            with self.lock:
                state = self.migrations.driver.bus.state
                self.left = [slot for slot in self.slots if state.owner(slot) is not state.myself]
        until = time.monotonic() + CLEAN_S     # a part: other migrations have their turns
        while self.left and time.monotonic() < until:
            if not delete_for(self.left[-1], CLEAN_S):
                self.left.pop()
        if self.left:
            self.migrations.wants(self)
            return
        slots.hide(self.slots, False)
        with self.lock:
            if self.job.state == jobs.CLEANING:
                self.machine.cleaned(self.now())
        restored.say(restored.finish_words(self.job), self.slots[0])


def link_event(client_id: int, what: int) -> None:
    """What a worker tells of a link."""
    run = find(links, client_id)
    if run is not None:
        run.ended(what)
