"""A slot migration's source: a thread that sends the slots, and then what is written to them, to the target."""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

from net import log
from net.cluster import jobs
from net.cluster.migrations import Doubt, count_flushes, fail_flushed, write_log

if TYPE_CHECKING:
    from net.cluster.migrations import Migrations

CHUNK_BYTES = 64 << 10
UNSENT_BYTES = 256 << 10     # more than this is not kept ready to be sent
REST = 0.5                   # of the time that a piece took: clients need the processors too, at both ends
SEND_BYTES = 1 << 20
FEED_BYTES = 1 << 30         # of what is written meanwhile, where the setting has no limit
SLACK_BYTES = 64 << 10       # writes reach the connection a moment after they are made
BUSY_MS, IDLE_MS = 1, 50
FEED_FULL, FEED_ALL = 2, 3   # see persist/slot_feed.pxd
FULL = "Output buffer limit reached: the slots are written to faster than the target takes it"
REPLICA = 1                  # the class of client-output-buffer-limit


class ExportRun:
    """An export and its thread."""

    def __init__(self, migrations: Migrations, job: jobs.Job, address: tuple[str, int]):
        config = migrations.driver.config
        user, password = config.get_value("primaryuser"), config.get_value("primaryauth")
        auth = tuple(word.encode() for word in ((user, password) if user else (password,))) if password else ()
        self.migrations, self.job, self.address = migrations, job, address
        self.config, self.lock, self.now = config, migrations.driver.lock, migrations.now
        self.machine = jobs.Export(job, auth, write_log)
        self.doubt = Doubt(self.machine)
        self.flushes = count_flushes()
        self.slots = job.slots
        self.at = 0                        # the next of them to be sent
        self.unsent: deque[memoryview] = deque()
        self.unsent_bytes = 0
        self.is_whole = True               # what is unsent ends with a whole record
        self.feed = -1
        self.is_paused = False             # the router holds the slots' writers
        self.paused_since = 0.0
        self.sock: socket.socket | None = None
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.thread = Thread(target=self._run, name=f"export-{job.name[:6]}", daemon=True)

    # ---- for others

    def moved(self) -> None:
        """Its state may have changed; the lock is held. Slots that it holds no longer go on at once."""
        if self.is_paused and not self.machine.holds_writes:
            from net import router
            self.is_paused = False
            router.resume(self.slots)
            held_ms = (time.monotonic() - self.paused_since) * 1000
            log.notice(f"Slot migration {self.job}: writes were paused for {held_ms:.0f} ms")
        with suppress(BlockingIOError, OSError):
            os.eventfd_write(self.wake_fd, 1)

    def work(self) -> None:
        """Nothing: it has its own thread."""

    # ---- the thread

    def _run(self) -> None:
        try:
            self._connect()
            while self._turn():
                pass
        except Exception as error:
            log.warning(f"Slot migration {self.job}: {error!r}")
            with self.lock:
                self._lost(str(error))
        self._end()
        self._wait_over()

    def _wait_over(self) -> None:
        while True:
            with self.lock:
                if self.job.is_over:
                    self.moved()
                    fd, self.wake_fd = self.wake_fd, -1
                    os.close(fd)
                    return
            time.sleep(BUSY_MS / 20)

    def _end(self) -> None:
        from persist import slot_feed
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        if self.feed >= 0:
            slot_feed.close_feed(self.feed)
            self.feed = -1
        self.unsent.clear()
        self.job.left_bytes = 0

    def _lost(self, why: str = "") -> None:
        self.machine.lost(self.now(), why)
        if self.job.in_progress and not self.machine.in_doubt:
            self.machine.fail(why, self.now())
        self.moved()

    def _connect(self) -> None:
        source = self.config.get_value("bind-source-addr")
        try:
            self.sock = socket.create_connection(self.address, self.config.get_value("repl-timeout"),
                                                 (source, 0) if source else None)
        except OSError as error:
            with self.lock:
                self._lost(os.strerror(error.errno) if error.errno else str(error))
            return
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            if self.job.in_progress:
                self.machine.connected(self.now())

    def _turn(self) -> bool:
        """One round; False: the connection is not needed any more."""
        with self.lock:
            if not self.job.in_progress or self.machine.in_doubt:
                return False
            state = self.job.state
            self._take_messages()
        began = time.monotonic()
        busy = self._supply(state)
        self._send()
        if busy:
            time.sleep((time.monotonic() - began) * REST)
        self._wait(0 if busy and not self.unsent else BUSY_MS if self.feed >= 0 else IDLE_MS)
        return True

    def _take_messages(self) -> None:
        if self.is_whole:
            for data in self.machine.out:
                self._put(data)
            self.machine.out.clear()

    def _put(self, data: bytes) -> None:
        if data:
            self.unsent.append(memoryview(data))
            self.unsent_bytes += len(data)

    # ---- what is sent

    def _supply(self, state: str) -> bool:
        """More to be sent; is there more still?"""
        if state == jobs.WAIT_SNAPSHOT:
            return self._begin()
        if self.feed < 0:
            return False
        more = False
        if state == jobs.SNAPSHOTTING and self.unsent_bytes < UNSENT_BYTES:
            more = self._snapshot()
        if self.unsent_bytes < UNSENT_BYTES:
            self._take_feed()
        self._check_feed()
        if state == jobs.WAIT_PAUSE:
            self._try_pause()
        return more

    def _begin(self) -> bool:
        from persist import slot_feed
        limit = self.config.get_value("client-output-buffer-limit")[REPLICA][0]
        self.feed = slot_feed.open_feed(limit or FEED_BYTES)
        with self.lock:
            if self.feed < 0:
                self.machine.fail("Too many slot migrations at once", self.now())
            elif self.job.in_progress:
                self.machine.snapshot_begun(self.now())
            self.moved()
        return True

    def _snapshot(self) -> bool:
        from engine import slots
        from persist import slot_feed
        if not self.is_whole:
            return True
        delay_us = self.config.get_value("rdb-key-save-delay")
        if self.at < len(self.slots):
            keys = slots.count(self.slots[self.at]) if delay_us else 0
            data, self.at = slot_feed.capture(self.feed, self.slots, self.at, 1 if delay_us else CHUNK_BYTES)
            self._put(data)
            self._nap(keys * delay_us / 1e6)
            return True
        with self.lock:
            if self.job.state == jobs.SNAPSHOTTING:
                self.machine.snapshot_done(self.now())
                self._take_messages()
        return False

    def _nap(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self.job.in_progress:
            self._send()
            time.sleep(min(left, BUSY_MS / 20))

    def _take_feed(self) -> None:
        from persist import aof
        data, self.is_whole = aof.take_feed(self.feed)
        self._put(data)

    def _left(self) -> int:
        from persist import slot_feed
        return self.unsent_bytes + slot_feed.state(self.feed)[1]

    def _check_feed(self) -> None:
        from persist import slot_feed
        state, self.job.left_bytes = slot_feed.state(self.feed)
        self.job.left_bytes += self.unsent_bytes
        if state not in (FEED_FULL, FEED_ALL) and self.flushes == count_flushes():
            return
        with self.lock:
            if not self.job.in_progress:
                return
            if state == FEED_FULL and self.job.state != jobs.GRANTED:
                self.machine.fail(FULL, self.now())
            elif state != FEED_FULL:
                fail_flushed(self.machine, self.now())
            self.moved()

    def _try_pause(self) -> None:
        from net import router
        from persist import aof
        most = self.config.get_value("slot-migration-max-failover-repl-bytes")
        if self.migrations.prevents_pause or not self.is_whole or (most >= 0 and self._left() > max(most, SLACK_BYTES)):
            return
        with self.lock:
            if self.job.state != jobs.WAIT_PAUSE or self.migrations.is_flushing(self.slots):
                return
            timeout_ms = self.config.get_value("cluster-manual-failover-timeout")
            self.machine.pausing(self._left(), timeout_ms, self.now())
        self.paused_since = time.monotonic()
        router.pause(self.slots)       # not under the lock: whoever has a slot may be waiting for it
        with self.lock:
            self.is_paused = True
            self.moved()
        upto = aof.position()[0]
        while aof.pump() < upto or not self.is_whole:
            self._take_feed()
            if not self.job.in_progress:
                return
        self._take_feed()
        self._check_feed()
        with self.lock:
            if self.job.state == jobs.WAIT_PAUSE:
                self.machine.paused(self.now())
                self._take_messages()

    # ---- the socket

    def _send(self) -> None:
        while self.unsent and self.sock is not None:
            data = self.unsent[0]
            try:
                n = self.sock.send(data[:SEND_BYTES])
            except BlockingIOError:
                return
            except OSError:
                with self.lock:
                    self._lost()
                return
            self.unsent_bytes -= n
            if n == len(data):
                self.unsent.popleft()
            else:
                self.unsent[0] = data[n:]

    def _wait(self, timeout_ms: int) -> None:
        """Until something comes, can be sent, or has happened."""
        if self.sock is None:
            return
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | (select.POLLOUT if self.unsent else 0))
        poll.register(self.wake_fd, select.POLLIN)
        for fd, _events in poll.poll(timeout_ms):
            if fd == self.wake_fd:
                with suppress(BlockingIOError):
                    os.eventfd_read(self.wake_fd)
            else:
                self._receive()

    def _receive(self) -> None:
        try:
            data = self.sock.recv(16384)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        with self.lock:
            if data:
                self.machine.received(data, self.now())
                self.moved()
            else:
                self._lost()
