"""The way to an end of the process: who asks for it, what may refuse it, what it waits for.

Commands and signals ask (request, signalled); the control thread does it (step). A command's thread waits
for the outcome, so that its client gets an error if the server cannot end.
"""

import os
import time
from threading import Event, Lock

from net import log
from net.config import config

# fn(flags) each; one that raises Refused keeps the server running, unless flags have "force".
BEFORE_EXIT: list = []
# fn() each, after the last refusal is past: closing files, telling others.
AT_EXIT: list = []
# fn() -> bool each: is nothing left to wait for? Asked until shutdown-timeout has passed.
READY: list = []
SIGNALS = ("SIGTERM", "SIGINT")
FLAGS = frozenset(("nosave", "save", "now", "force", "safe", "failover"))

_lock = Lock()
_asked: "Request | None" = None      # not yet begun
_waiting: "Request | None" = None    # begun, waits for READY
_deadline = 0.0
_wake_fd = -1


class Refused(Exception):
    """The server cannot end now; the text goes to the log."""


class Request:
    """One wish to end."""

    def __init__(self, flags: frozenset, who: str = ""):
        self.flags = flags
        self.who = who
        self.over = Event()
        self.failed = False

    def finish(self, failed: bool) -> None:
        """Lets the asking thread go on."""
        self.failed = failed
        self.over.set()


def set_wake_fd(fd: int) -> None:
    """Where a byte ends the control thread's wait."""
    global _wake_fd
    _wake_fd = fd


def wake() -> None:
    """Ends the control thread's wait."""
    if _wake_fd >= 0:
        try:
            os.write(_wake_fd, b"\0")
        except OSError:
            pass  # a full pipe wakes as well


def request(flags: frozenset, who: str = "") -> Request:
    """Asks for the end; the caller waits on the result's `over`."""
    global _asked
    with _lock:
        wish = _asked or _waiting
        if wish is None:
            wish = _asked = Request(flags, who)
    wake()
    return wish


def signalled(name: str) -> Request:
    """A signal asks."""
    return request(frozenset(config.get_value(f"shutdown-on-{name.lower()}").split()) & FLAGS, name)


def is_asked() -> bool:
    """Has somebody asked, and is it not over?"""
    return _asked is not None or _waiting is not None


def abort() -> bool:
    """SHUTDOWN ABORT; False: there is nothing to abort."""
    global _asked, _waiting
    with _lock:
        wish = _asked or _waiting
        if wish is None:
            return False
        _asked = _waiting = None
    log.notice("Shutdown manually aborted.")
    wish.finish(True)
    return True


def deadline_ms() -> int:
    """Milliseconds that a begun shutdown may still wait; -1: none is under way."""
    if _waiting is None:
        return -1
    return max(0, int((_deadline - time.monotonic()) * 1000))


def _fail(wish: Request) -> None:
    log.warning("Errors trying to shut down the server. Check the logs for more information.")
    if wish.who in SIGNALS:
        log.warning(f"{wish.who} received but errors trying to shut down the server, "
                    "check the logs for more information")
    wish.finish(True)


def _begin(wish: Request) -> bool:
    """Announces it; True: there is nothing to wait for."""
    global _deadline
    if config.is_loading():  # half a data set must not replace the file it comes from
        wish.flags = (wish.flags - {"save"}) | {"nosave"}
    by_client = wish.who and wish.who not in SIGNALS
    log.notice("User requested shutdown..." + (f" (user request from '{wish.who}')" if by_client
                                               else ""))
    timeout = config.get_value("shutdown-timeout")
    if "now" in wish.flags or timeout == 0 or all(ready() for ready in READY):
        return True
    _deadline = time.monotonic() + timeout
    log.notice("Waiting for replicas before shutting down.")
    return False


def _ask_all(wish: Request) -> bool:
    for hook in tuple(BEFORE_EXIT):
        try:
            hook(wish.flags)
        except Refused as error:
            if "force" not in wish.flags:
                log.warning(f"{error}, can't exit.")
                return False
            log.warning(f"{error}. Exit anyway.")
    return True


def step(paused: bool = False) -> bool:
    """The control thread's part, each time it wakes; True: the process is to end now.

    paused: signals wait (DEBUG PAUSE-CRON), commands do not.
    """
    global _asked, _waiting
    with _lock:
        wish = _asked
        if wish is not None and paused and wish.who in SIGNALS:
            return False
        _asked = None
        if wish is not None:
            _waiting = wish
    if wish is not None:
        if not _begin(wish):
            return False
    else:
        wish = _waiting
        if wish is None:
            return False
        if time.monotonic() < _deadline and not all(ready() for ready in READY):
            return False
    agreed = _ask_all(wish)
    with _lock:
        if _waiting is not wish:  # aborted meanwhile
            return False
        _waiting = None
    if not agreed:
        _fail(wish)
        return False
    for hook in tuple(AT_EXIT):
        try:
            hook()
        except Exception as error:
            log.warning(f"While ending: {error!r}")
    wish.finish(False)
    return True
