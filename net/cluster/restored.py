"""Slot imports that the files of the data tell of: `CLUSTER SYNCSLOTS ESTABLISH … FINISH` in an append-only file, an
opcode of its own in an RDB file. They are Valkey's. An import that has no end there was under way when the process
ended: what came of it is kept if the slots are this node's, by nodes.conf, and deleted if they are not."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from net import log
from net.cluster import jobs

if TYPE_CHECKING:
    from net.cluster.driver import Driver

OP_SLOT_IMPORT = 243
RESTARTED = "Process restarted"
MASK_6, MASK_14 = 64, 0x40


class Past:
    """An import of another life, for the log of migrations."""

    def __init__(self, job: jobs.Job):
        self.job, self.machine, self.flushes = job, None, 0

    def moved(self) -> None:
        """It does not any more."""

    def work(self) -> None:
        """Nothing is left to be done."""


found: dict[bytes, jobs.Job] = {}


def add(name: bytes, ranges: list[tuple[int, int]]) -> None:
    """An import that has begun."""
    job = jobs.Job("IMPORT", ranges, "", "", "", time.time_ns() // 1_000_000, name.decode("latin-1"))
    job.state = jobs.RECEIVING
    found[name] = job


def _pairs(words: list[bytes]) -> dict[bytes, bytes]:
    return {words[at].lower(): words[at + 1] for at in range(0, len(words) - 1, 2)}


def note(words: list[bytes]) -> None:
    """CLUSTER SYNCSLOTS in an append-only file. Other words than the two mean nothing there."""
    what = words[2].lower() if len(words) > 2 else b""
    if what == b"establish":
        name, ranges, at = b"", [], 3
        while at + 1 < len(words):
            if words[at].lower() == b"name":
                name = words[at + 1]
            elif words[at].lower() == b"slotsrange":
                numbers = [int(word) for word in words[at + 1:] if word.isdigit()]
                ranges = list(zip(numbers[::2], numbers[1::2], strict=False))
                at += len(ranges) * 2 - 1
            at += 2
        if len(name) == jobs.NAME_LEN and ranges:
            add(name, ranges)
    elif what == b"finish":
        pairs = _pairs(words[3:])
        job = found.get(pairs.get(b"name", b""))
        if job is not None:
            job.state = jobs.SUCCESS if pairs.get(b"state", b"").lower() == b"success" else jobs.FAILED
            job.text = pairs.get(b"message", b"").decode("utf-8", "replace")


def establish_words(job: jobs.Job) -> list[bytes]:
    """What the append-only file says when an import begins."""
    return [b"CLUSTER", b"SYNCSLOTS", b"ESTABLISH", b"SOURCE", job.source.encode(), b"NAME", job.name.encode(),
            b"SLOTSRANGE", *[b"%d" % slot for pair in job.ranges for slot in pair]]


def finish_words(job: jobs.Job) -> list[bytes]:
    """And when it ends."""
    state = b"success" if job.state == jobs.SUCCESS else b"failed"
    text = [b"MESSAGE", job.text.encode()] if job.text else []
    return [b"CLUSTER", b"SYNCSLOTS", b"FINISH", b"STATE", state, b"NAME", job.name.encode("latin-1"), *text]


def say(words: list[bytes], slot: int) -> None:
    """To the effects log, in the place of a slot of the job."""
    from engine import slots
    slots.log_words(slot, words)


# ---- in files that are written


def _length(n: int) -> bytes:
    return bytes([n]) if n < MASK_6 else bytes([MASK_14 | n >> 8, n & 0xFF])


def under_way() -> list[jobs.Job]:
    """The imports whose slots are hidden."""
    from net.cluster import running
    if running.driver is None:
        return []
    return [run.job for run in tuple(running.driver.migrations.runs)
            if run.job.operation == "IMPORT" and not run.job.is_over]


def as_rdb() -> bytes:
    """The part of an RDB file, before its keys."""
    parts = []
    for job in under_way():
        parts += [bytes([OP_SLOT_IMPORT]), _length(len(job.name)), job.name.encode("latin-1"), _length(len(job.ranges)),
                  *[_length(slot) for pair in job.ranges for slot in pair]]
    return b"".join(parts)


def as_commands() -> bytes:
    """The head of an append-only file's base that is commands."""
    return b"".join(jobs.command(*establish_words(job)) for job in under_way())


# ---- after a load


def take(driver: Driver) -> Iterable[int]:
    """The data is loaded: the imports go to the log of migrations, those without an end have failed. The driver's lock
    is held. Returns the slots of these that are not this node's: their keys are to be deleted."""
    state, gone = driver.bus.state, []
    known = {run.job.name for run in driver.migrations.runs}
    for job in [job for job in found.values() if job.name not in known]:
        if not job.is_over:
            job.state, job.text = jobs.FAILED, RESTARTED
            gone += [slot for slot in job.slots if state.owner(slot) is not state.myself]
            log.notice(f"Slot migration {job} finished. State: {job.state}, Message: {job.text}")
            say(finish_words(job), job.ranges[0][0])
        driver.migrations.runs.insert(0, Past(job))
    found.clear()
    return gone


def loaded_again() -> None:
    """Files have been loaded while the server runs (DEBUG)."""
    from net.cluster import running
    if running.driver is None:
        found.clear()
        return
    with running.driver.lock:
        gone = take(running.driver)
        running.driver.routes.drop_keys(gone)
