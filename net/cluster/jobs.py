"""Atomic slot migration as two machines, the source's (Export) and the target's (Import): bytes and time in, bytes and
states out. No sockets, no data, no clock. Times are Unix milliseconds. The protocol is `CLUSTER SYNCSLOTS` of Valkey 9.

    source                                     target
    AUTH, ESTABLISH                    ->
                                       <-      +OK
    ACK, the slots as commands,
    what is written to them meanwhile,
    SNAPSHOT-EOF                       ->
                                       <-      REQUEST-PAUSE
    the slots' writers wait; the rest
    of what they wrote, PAUSED         ->
                                       <-      REQUEST-FAILOVER
    FAILOVER-GRANTED                   ->      takes the slots over and tells all nodes

Once it has granted, the source no longer knows who has the slots. Real Valkey lets writes go on when its pause is over,
and loses them if the target takes over after all. Here the slots stay paused until it is known (Export.in_doubt): the
connection is closed, so that a target that has not taken over fails its job, and after that two rounds of ping and pong
must show that it has not. A target that the cluster has found dead is fenced off by a config epoch above any that it
can have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cached_property

from net.lazy import numpy as np

CONNECTING = "connecting"
READ_AUTH = "reading-auth-response"
SEND_AUTH = "sending-auth-command"
SEND_ESTABLISH = "sending-establish-command"
READ_ESTABLISH = "reading-establish-response"
WAIT_SNAPSHOT = "waiting-to-snapshot"
SNAPSHOTTING = "snapshotting"
STREAMING = "replicating"
WAIT_PAUSE = "waiting-to-pause"
PAUSED = "failover-paused"
GRANTED = "failover-granted"            # of both sides
WAIT_ACK = "waiting-for-ack"
RECEIVING = "receiving-snapshot"
WAIT_PAUSED = "waiting-for-paused"
REQUESTED = "failover-requested"
CLEANING = "cleaning-up"
FAILED, CANCELLED, SUCCESS = "failed", "cancelled", "success"
OVER = frozenset((FAILED, CANCELLED, SUCCESS))
NO_EXPORT_ACK = frozenset((CONNECTING, SEND_AUTH, READ_AUTH, SEND_ESTABLISH, READ_ESTABLISH, SNAPSHOTTING, GRANTED))
NO_IMPORT_ACK = frozenset((WAIT_ACK, CLEANING, GRANTED))

NAME_LEN = 40
ACK_MS = 1000
GRANT_MS = 2000                         # so long a pause lasts at least once the failover is granted
PAUSE_FACTOR = 2                        # times cluster-manual-failover-timeout
ROUNDS = 2                              # of ping and pong that end the doubt
REPLY_MAX = 16 * 1024                   # of a line of the handshake
ARGS_MAX, ARG_MAX = 64, 4096            # of a message of the target
UNEXPECTED = "Unexpected state machine transition"
LOST = "Connection lost to {0}. Check CLUSTER GETSLOTMIGRATIONS on the {0} node for more information."
SILENT = "Timed out after too long with no interaction"

Log = Callable[[str, bool], None]       # text, is it a warning?


def command(*words: bytes) -> bytes:
    """A command as RESP."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def message(word: bytes) -> bytes:
    """A message of the protocol."""
    return command(b"CLUSTER", b"SYNCSLOTS", word)


def range_text(ranges: Iterable[tuple[int, int]]) -> str:
    """Slot ranges as clients see them."""
    return " ".join(f"{first}-{last}" for first, last in ranges)


class ProtocolError(Exception):
    """The other side has sent what cannot be."""


class Messages:
    """RESP arrays of bulk strings, cut anywhere."""

    def __init__(self) -> None:
        self.pending = bytearray()

    def line(self) -> bytes | None:
        """The next line, without its end."""
        end = self.pending.find(b"\r\n")
        if end < 0:
            if len(self.pending) > REPLY_MAX:
                raise ProtocolError("a line is too long")
            return None
        found = bytes(self.pending[:end])
        del self.pending[:end + 2]
        return found

    def words(self) -> list[bytes] | None:
        """The next message; ProtocolError."""
        at, found = self._number(0, b"*", ARGS_MAX)
        if found is None:
            return None
        words = []
        for _ in range(found):
            at, size = self._number(at, b"$", ARG_MAX)
            if size is None or len(self.pending) < at + size + 2:
                return None
            words.append(bytes(self.pending[at:at + size]))
            at += size + 2
        del self.pending[:at]
        return words

    def _number(self, at: int, kind: bytes, most: int) -> tuple[int, int | None]:
        if len(self.pending) <= at:
            return at, None
        end = self.pending.find(b"\r\n", at)
        if end < 0:
            if len(self.pending) - at > REPLY_MAX:
                raise ProtocolError("a number is too long")
            return at, None
        text = bytes(self.pending[at + 1:end])
        if self.pending[at:at + 1] != kind or not text.isdigit() or int(text) > most:
            raise ProtocolError("not a message")
        return end + 2, int(text)


class Job:
    """What GETSLOTMIGRATIONS tells of a migration. operation: IMPORT or EXPORT; source, target: node ids; peer: what
    the log says of the other node."""

    def __init__(self, operation: str, ranges: list[tuple[int, int]], source: str, target: str, peer: str, now: int,
                 name: str = ""):
        self.operation = operation
        self.ranges = ranges
        self.source = source
        self.target = target
        self.peer = peer
        self.now = now
        self.name = name or os.urandom(NAME_LEN // 2).hex()
        self.state = CONNECTING
        self.text = ""
        self.created_s = self.updated_s = self.acked_s = now // 1000
        self.left_bytes = 0
        self.slots = [slot for first, last in ranges for slot in range(first, last + 1)]

    @cached_property
    def places(self) -> np.ndarray:
        """The same as an index of the map of slots."""
        return np.array(self.slots, np.intp)

    @property
    def is_over(self) -> bool:
        """Is all work done?"""
        return self.state in OVER

    @property
    def in_progress(self) -> bool:
        """May it still succeed?"""
        return self.state not in OVER and self.state != CLEANING

    def overlaps(self, first: int, last: int) -> bool:
        """Does it move one of these slots?"""
        return any(a <= last and first <= b for a, b in self.ranges)

    def __str__(self) -> str:
        what = "export" if self.operation == "EXPORT" else "import"
        other = "target_node" if self.operation == "EXPORT" else "source_node"
        return (f"{{name: {self.name}, operation: {what}, {other}_id: {self.peer}, "
                f"slots: {range_text(self.ranges)}}}")


class _Side:
    """What both sides have."""

    def __init__(self, job: Job, log: Log):
        self.job = job
        self.log = log
        self.out: list[bytes] = []      # to the other side
        self.acked = self.sent_ack = job.now

    def go(self, state: str, now: int) -> None:
        """The next state."""
        job = self.job
        self.log(f"Slot migration {job} state transition: {job.state} -> {state}", False)
        job.state = state
        job.updated_s = now // 1000

    def end(self, state: str, text: str, now: int) -> None:
        """It is over."""
        self.job.text = text
        self.go(state, now)
        self.log(f"Slot migration {self.job} finished. State: {state}, Message: {text or 'none'}", state == FAILED)

    def ack(self, now: int) -> None:
        """The other side lives."""
        self.acked = now
        self.job.acked_s = now // 1000


class Export(_Side):
    """The source's side."""

    def __init__(self, job: Job, auth: tuple[bytes, ...], log: Log):
        super().__init__(job, log)
        self.auth = auth                # words after AUTH
        self.messages = Messages()
        self.pause_end = 0              # until then the slots' writers wait; 0: they do not
        self.pause_wanted = False       # by the target
        self.in_doubt = False           # the failover was granted and is not known to have happened or not
        self.doubt_at = 0               # when the target could still get the grant, at the latest
        self.rounds = 0
        self.after = (FAILED, "")       # what it becomes if the target has not taken over

    @property
    def holds_writes(self) -> bool:
        """Do the slots' writers wait?"""
        return self.pause_end != 0

    # ---- the connection

    def connected(self, now: int) -> None:
        """The target has taken the connection."""
        self.log(f"Slot migration {self.job} connection established.", False)
        if self.auth:
            self.go(SEND_AUTH, now)
            self.out.append(command(b"AUTH", *self.auth))
            self.go(READ_AUTH, now)
        else:
            self._establish(now)

    def _establish(self, now: int) -> None:
        job = self.job
        self.go(SEND_ESTABLISH, now)
        ranges = [b"%d" % slot for pair in job.ranges for slot in pair]
        self.out.append(command(b"CLUSTER", b"SYNCSLOTS", b"ESTABLISH", b"SOURCE", job.source.encode(), b"NAME",
                                job.name.encode(), b"SLOTSRANGE", *ranges))
        self.go(READ_ESTABLISH, now)

    def lost(self, now: int, why: str = "") -> None:
        """The connection has ended, or could not be had (why)."""
        if not self.job.in_progress or self.in_doubt:
            return
        if self.job.state == CONNECTING:
            self.fail(f"Unable to connect to target node: {why}", now)
            return
        self.log(f"Slot migration {self.job} connection lost", False)
        if self.job.state == GRANTED:
            self.doubt(FAILED, LOST.format("target"), now)
        else:
            self.fail(LOST.format("target"), now)

    def received(self, data: bytes, now: int) -> None:
        """Bytes of the target."""
        self.messages.pending += data
        try:
            while self.job.in_progress and self._step(now):
                pass
        except ProtocolError as error:
            self.log(f"Slot migration {self.job}: {error}", True)
            self.lost(now)

    def _step(self, now: int) -> bool:
        state = self.job.state
        if state in (READ_AUTH, READ_ESTABLISH):
            line = self.messages.line()
            if line is None:
                return False
            self._answer(line, now)
            return True
        words = self.messages.words()
        if words is None:
            return False
        if len(words) == 3 and [word.upper() for word in words[:2]] == [b"CLUSTER", b"SYNCSLOTS"]:
            self._message(words[2].upper(), now)
        return True

    def _answer(self, line: bytes, now: int) -> None:
        text = line.decode("utf-8", "replace")
        if self.job.state == READ_AUTH:
            if line[:1] == b"-":
                self.fail(f"Failed to AUTH to target node: {text}", now)
                return
            self.log(f"Successfully authenticated slot migration {self.job}", False)
            self._establish(now)
        elif line[:1] == b"-":
            self.fail(f"Received error during handshake to target: {text}", now)
        else:
            self.go(WAIT_SNAPSHOT, now)
            self.out.append(message(b"ACK"))
            self.ack(now)

    def _message(self, word: bytes, now: int) -> None:
        state = self.job.state
        if word == b"ACK":
            self.ack(now)
        elif word == b"REQUEST-PAUSE":
            if state not in (STREAMING, SNAPSHOTTING):
                self._unexpected(word, now)
                return
            self.ack(now)
            self.go(WAIT_PAUSE, now)
        elif word == b"REQUEST-FAILOVER":
            if state != PAUSED:
                self._unexpected(word, now)
            elif now > self.pause_end:
                self.fail("Unpaused before failover completed", now)
            else:
                self.pause_end = max(self.pause_end, now + GRANT_MS)
                self.out.append(message(b"FAILOVER-GRANTED"))
                self.go(GRANTED, now)
        elif word != b"CAPA":
            self.log(f"Slot migration {self.job}: unknown SYNCSLOTS subcommand", True)
            self.fail("Unknown SYNCSLOTS subcommand used", now)

    def _unexpected(self, word: bytes, now: int) -> None:
        self.log(f"Received CLUSTER SYNCSLOTS {word.decode()} in state {self.job.state} from slot migration "
                 f"{self.job}. Failing migration.", True)
        self.fail(UNEXPECTED, now)

    # ---- what the caller has done

    def snapshot_begun(self, now: int) -> None:
        """The slots are being written to the connection."""
        self.log(f"Beginning snapshot of slot migration {self.job}.", False)
        self.go(SNAPSHOTTING, now)

    def snapshot_done(self, now: int) -> None:
        """All of the slots has been given to the connection."""
        self.out.append(message(b"SNAPSHOT-EOF"))
        self.go(STREAMING, now)
        self.acked = now                # the target was busy
        self.log(f"Slot migration {self.job} snapshot finished, starting streaming.", False)

    def pausing(self, left_bytes: int, timeout_ms: int, now: int) -> None:
        """The writers of the slots are about to wait: no more is logged of them."""
        self.log(f"Pausing writes (remaining_repl_size is {left_bytes}) to allow slot migration {self.job} to finalize "
                 "failover.", False)
        self.pause_end = now + timeout_ms * PAUSE_FACTOR

    def paused(self, now: int) -> None:
        """All that was logged of the slots has been given to the connection."""
        self.out.append(message(b"PAUSED"))
        self.go(PAUSED, now)

    def owned_by(self, owner: str | None, now: int) -> None:
        """Who has the slots, as far as it is known here; None: several nodes, or one has no owner."""
        job = self.job
        if not job.in_progress or owner == job.source:
            return
        if owner == job.target:
            self.log(f"Slot migration {job} slots are now owned by target node.", False)
            self._end(SUCCESS, "", now)
        else:
            self.log(f"Slot migration {job} contains slots that are no longer all owned by myself", True)
            self.fail("Slots are no longer owned by myself", now)

    def cancel(self, now: int) -> None:
        """The user does not want it any more. After a grant that is only known when the target has been asked."""
        if self.job.state != GRANTED:
            self._end(CANCELLED, "", now)
        elif self.in_doubt:
            self.after = (CANCELLED, "")
        else:
            self.doubt(CANCELLED, "", now)

    def fail(self, text: str, now: int) -> None:
        """It cannot go on."""
        self._end(FAILED, text, now)

    def _end(self, state: str, text: str, now: int) -> None:
        self.in_doubt = False
        self.pause_end = 0
        self.end(state, text, now)

    # ---- time

    def tick(self, silence_ms: int, now: int) -> None:
        """Ten times a second, and when something has happened. silence_ms: repl-timeout."""
        state = self.job.state
        if not self.job.in_progress or self.in_doubt:
            return
        if state == GRANTED:
            if now > self.pause_end:
                self.doubt(FAILED, "Unpaused before migration completed: the target did not take the slots over", now)
        elif now - self.acked > silence_ms:
            self.log(f"Timing out slot migration {self.job} after not receiving ack for too long", True)
            self.fail(SILENT, now)
        elif state == PAUSED and now > self.pause_end:
            self.fail("Timed out before streaming completed", now)
        elif state not in NO_EXPORT_ACK and now - self.sent_ack >= ACK_MS:
            self.sent_ack = now
            self.out.append(message(b"ACK"))

    # ---- after a grant

    def doubt(self, state: str, text: str, now: int) -> None:
        """The connection ends now; what the job becomes if it turns out that the target has not taken over."""
        self.in_doubt = True
        self.doubt_at = now
        self.rounds = 0
        self.after = (state, text)
        self.log(f"Slot migration {self.job}: asking the target whether it has taken the slots over; their writers "
                 "wait until that is known.", False)

    def round_over(self, now: int) -> None:
        """The target has answered a ping that was sent after the doubt began, and does not say that it has the slots.
        One round is not enough: it may answer before it looks at the connection that has ended."""
        self.rounds += 1
        if self.rounds >= ROUNDS:
            self._end(*self.after, now)

    def fenced(self, now: int) -> None:
        """The target is dead for the cluster, and our config epoch is above any that it can have claimed slots with."""
        self.log(f"Slot migration {self.job}: the target has failed; its claim, should it have made one, is void.",
                 True)
        self._end(*self.after, now)


class Import(_Side):
    """The target's side. syncs: once the slots have come the caller brings them to its disk and then calls `synced`,
    so that little is left to be written while writers wait."""

    def __init__(self, job: Job, log: Log, syncs: bool = False):
        super().__init__(job, log)
        self.syncs = syncs
        self.wants_sync = False
        job.state = WAIT_ACK
        log(f"New slot import job created: {job}.", False)

    def message(self, word: bytes, now: int) -> str:
        """A message of the source; an error's text where there is no such message."""
        state = self.job.state
        self.acked = now
        if word == b"ACK":
            self.ack(now)
            if state == WAIT_ACK:
                self.go(RECEIVING, now)
        elif word == b"SNAPSHOT-EOF":
            if self._expects(word, RECEIVING, now):
                self.log(f"Slot migration {self.job} successfully received slot snapshot. Beginning incremental "
                         "stream...", False)
                self.go(WAIT_PAUSED, now)
                if self.syncs:
                    self.wants_sync = True
                else:
                    self.out.append(message(b"REQUEST-PAUSE"))
        elif word == b"PAUSED":
            if self._expects(word, WAIT_PAUSED, now):
                self.out.append(message(b"REQUEST-FAILOVER"))
                self.go(REQUESTED, now)
        elif word == b"FAILOVER-GRANTED":
            if self._expects(word, REQUESTED, now):
                self.go(GRANTED, now)
        elif word != b"CAPA":
            self.log(f"Received unknown SYNCSLOTS subcommand from slot migration {self.job}. Failing the migration.",
                     True)
            self.fail("Unknown SYNCSLOTS subcommand used", now)
        return ""

    def synced(self) -> None:
        """The slots are on the disk; what is written to them meanwhile need not be."""
        if self.wants_sync and self.job.state == WAIT_PAUSED:
            self.out.append(message(b"REQUEST-PAUSE"))
        self.wants_sync = False

    def _expects(self, word: bytes, state: str, now: int) -> bool:
        if self.job.state == state:
            return True
        self.log(f"Received unexpected CLUSTER SYNCSLOTS {word.decode()} from slot migration {self.job}. Failing "
                 "migration.", True)
        self.fail(UNEXPECTED, now)
        return False

    def fail(self, text: str, now: int) -> None:
        """It cannot go on; what has come is to be deleted, then the caller says `cleaned`."""
        if self.job.in_progress:
            self.job.text = text
            self.go(CLEANING, now)

    def cleaned(self, now: int) -> None:
        """What had come is deleted."""
        self.log(f"Cleaning up slot migration {self.job} after {FAILED}", False)
        self.end(FAILED, self.job.text, now)

    def lost(self, now: int) -> None:
        """The connection has ended."""
        if self.job.in_progress:
            self.log(f"Slot migration {self.job} connection lost", False)
            self.fail(LOST.format("source"), now)

    def owned_by(self, owner: str | None, now: int) -> None:
        """Who has the slots, as far as it is known here."""
        if not self.job.in_progress or owner == self.job.source:
            return
        if owner == self.job.target:
            self.fail("Slots were unexpectedly assigned to myself during import", now)
        else:
            self.fail("Slots are no longer owned by source node", now)

    def taken_over(self, now: int) -> None:
        """The slots are ours."""
        self.log(f"Slot migration {self.job} completed successfully. This node is now the owner of the slots", False)
        self.end(SUCCESS, "", now)

    def tick(self, silence_ms: int, now: int) -> None:
        """Ten times a second."""
        if not self.job.in_progress or self.job.state == GRANTED:
            return
        if now - self.acked > silence_ms:
            self.log(f"Timing out slot migration {self.job} after not receiving ack for too long", True)
            self.fail(SILENT, now)
        elif self.job.state not in NO_IMPORT_ACK and now - self.sent_ack >= ACK_MS:
            self.sent_ack = now
            self.out.append(message(b"ACK"))
