"""MIGRATE: keys go to another server. The value is dumped, sent with RESTORE and deleted here once that server has it.

What is sent and what is deleted must be the same, though this server goes on serving: writes to the keys' slots are
held back meanwhile (router.pause), and nothing else is. Connections to other servers are kept and used again."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from functools import cache
from typing import TYPE_CHECKING

from engine.hashing import slot_of

from engine import conf, slots
from engine.shared import find
from net import cron, router
from net.reply import OK, Error

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

KEPT_MAX = 64          # idle connections
KEPT_S = 10.0          # and so long each
THREADS = 8            # MIGRATEs that run at a time
PIECE_BYTES = 64 << 10
LINE_BYTES_MAX = 1024


class Job:
    """MIGRATE's arguments, checked. db: the client's, from which the keys go."""

    def __init__(self, host: bytes, port: bytes, db: int, target_db: int, timeout_ms: int, keys: list[bytes]):
        self.host = host
        self.port = port
        self.db = db
        self.target_db = target_db
        self.timeout_ms = timeout_ms
        self.keys = keys
        self.copy = self.replace = False
        self.auth: list[bytes] = []

    @property
    def target(self) -> tuple[bytes, bytes]:
        """Where they go."""
        return self.host, self.port


class BrokenLinkError(Exception):
    """The connection failed. writing: while sending. timed_out: the other side was too slow."""

    def __init__(self, writing: bool, timed_out: bool):
        super().__init__()
        self.writing = writing
        self.timed_out = timed_out


class Link:
    """A connection to another server."""

    def __init__(self, job: Job):
        self.sock = socket.create_connection((job.host.decode(), int(job.port)), job.timeout_ms / 1000)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.db = -1               # which database is selected there, -1: unknown
        self.used_at = time.monotonic()
        self.rest = b""
        self.is_broken = False

    def send(self, data: bytes, timeout_ms: int) -> None:
        """All of it, or BrokenLinkError."""
        self.sock.settimeout(timeout_ms / 1000)
        try:
            for at in range(0, len(data), PIECE_BYTES):
                self.sock.sendall(data[at:at + PIECE_BYTES])
        except OSError as error:
            raise BrokenLinkError(True, isinstance(error, TimeoutError)) from None

    def line(self) -> bytes:
        """The next reply, a line; BrokenLinkError."""
        while b"\r\n" not in self.rest:
            try:
                more = self.sock.recv(PIECE_BYTES)
            except OSError as error:
                raise BrokenLinkError(False, isinstance(error, TimeoutError)) from None
            if not more:
                raise BrokenLinkError(False, False)
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line[:LINE_BYTES_MAX]

    def close(self) -> None:
        """The end of it."""
        self.sock.close()


class Links:
    """Connections that wait for the next MIGRATE to the same place."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: dict[tuple[bytes, bytes], list[Link]] = {}

    def take(self, job: Job) -> Link:
        """A connection, perhaps an old one; OSError or ValueError where there is none to be had."""
        with self.lock:
            kept = find(self.idle, job.target)
            if kept:
                return kept.pop()
        return Link(job)

    def keep(self, job: Job, link: Link) -> None:
        """It may be used again."""
        link.used_at = time.monotonic()
        with self.lock:
            if not link.is_broken and sum(map(len, self.idle.values())) < KEPT_MAX:
                self.idle.setdefault(job.target, []).append(link)
                return
        link.close()

    def count(self) -> int:
        """How many are idle."""
        with self.lock:
            return sum(map(len, self.idle.values()))

    def sweep(self, _now_ms: int) -> None:
        """From cron: what was not used for long goes."""
        oldest = time.monotonic() - KEPT_S
        with self.lock:
            old = [link for kept in self.idle.values() for link in kept if link.used_at < oldest]
            self.idle = {target: left for target, kept in self.idle.items()
                         if (left := [link for link in kept if link.used_at >= oldest])}
        for link in old:
            link.close()


links = Links()


@cache
def _pool() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # not every server migrates keys
    return ThreadPoolExecutor(THREADS, thread_name_prefix="migrate")


def command(*words: bytes) -> bytes:
    """A command for the other server."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def dump_all(job: Job) -> list[tuple[bytes, bytes, int]]:
    """(key, payload, when it expires or -1) of each key that is there."""
    now_ms = time.time_ns() // 1_000_000
    found = []
    for key in job.keys:
        dumped = slots.dump(job.db, key, now_ms)
        if dumped is not None:
            found.append((key, *dumped))
    return found


def restores(job: Job, found: list[tuple[bytes, bytes, int]]) -> bytes:
    """The commands that make the keys at the target."""
    word = b"RESTORE-ASKING" if conf.get("cluster") else b"RESTORE"
    now_ms = time.time_ns() // 1_000_000
    tail = (b"REPLACE",) if job.replace else ()
    return b"".join(command(word, key, b"%d" % (0 if expires < 0 else max(expires - now_ms, 1)), payload, *tail)
                    for key, payload, expires in found)


def exchange(job: Job, link: Link, found: list[tuple[bytes, bytes, int]]) -> object:
    """Send the keys and delete those that have arrived; the reply, or BrokenLinkError with nothing arrived."""
    before = []
    if job.auth:
        before.append(command(b"AUTH", *job.auth))
    if link.db != job.target_db:
        before.append(command(b"SELECT", b"%d" % job.target_db))
    link.send(b"".join(before) + restores(job, found), job.timeout_ms)
    refusals = [line for line in [link.line() for _ in before] if line.startswith(b"-")]
    outset = bool(refusals)            # then wherever the keys went, it is not where they should
    arrived = []
    broken = None
    try:
        for key, _payload, _expires in found:
            line = link.line()
            if line.startswith(b"-"):
                refusals.append(line)
            elif not outset:
                arrived.append(key)
    except BrokenLinkError as error:
        broken = error
    if arrived and not job.copy:
        slots.delete_keys(job.db, arrived)
    if broken is not None and not refusals:
        if arrived:
            broken.timed_out = True        # it is not tried again
        raise broken
    link.is_broken = broken is not None
    link.db = -1 if refusals else job.target_db
    if refusals:
        text = refusals[0][1:].decode("utf-8", "surrogateescape")
        return Error(f"ERR Target instance replied with error: {text}")
    return OK


def send_keys(job: Job) -> object:
    """The whole of it; the reply."""
    found = dump_all(job)
    if not found:
        return "NOKEY"
    for attempt in (1, 2):
        try:
            link = links.take(job)
        except (OSError, ValueError, UnicodeError):
            return Error("IOERR error or timeout connecting to the client")
        try:
            reply = exchange(job, link, found)
            links.keep(job, link)
            return reply
        except BrokenLinkError as error:
            link.close()
            if error.timed_out or attempt == 2:
                doing = "writing" if error.writing else "reading"
                return Error(f"IOERR error or timeout {doing} to target instance")
    raise AssertionError


def run(job: Job) -> object:
    """As send_keys, with the keys' slots paused unless they stay; whatever goes wrong is a reply."""
    paused = [] if job.copy else sorted({slot_of(key) for key in job.keys})
    router.pause(paused)
    try:
        return send_keys(job)
    except Exception as error:
        return Error(f"ERR internal error: {type(error).__name__}")
    finally:
        router.resume(paused)
        router.look_again()


def start(job: Job, answer: object) -> None:
    """Run in another thread; answer(reply) follows."""
    def work() -> None:
        reply: object = Error("ERR MIGRATE was cut short")
        with contextlib.suppress(Exception):
            reply = run(job)
        answer(reply)

    _pool().submit(work)


cron.CRON.append(links.sweep)
