"""A process that stands for a save in the background, whose pid the log and the temporary file have: who kills it ends
the save, as with the child that Valkey forks. It does nothing, and ends with the save or with the server."""

import os
import signal
import threading
from collections.abc import Callable

PROGRAM = "cat"                      # it reads a pipe that nobody writes to, and that ends with the server

started = [0]                        # such processes so far: INFO's total_forks


class StandIn:
    """One such process. killed: called with the signal's number where somebody ends it before `end`. Where it cannot be
    started the thread's own id stands for the save."""

    def __init__(self, killed: Callable[[int], None]):
        self._killed = killed
        self._over = threading.Event()
        self._pipe = -1
        self.signal = 0
        self.pid = self._spawn()
        if self.pid:
            threading.Thread(target=self._watch, daemon=True, name="standin").start()
        else:
            self.pid = threading.get_native_id()
            self._over.set()

    def _spawn(self) -> int:
        from shutil import which
        program = which(PROGRAM)
        if program is None:
            return 0
        reading, self._pipe = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, reading, 0)]
        actions += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
        started[0] += 1
        try:
            return os.posix_spawn(program, [PROGRAM], {}, file_actions=actions, setpgroup=0, setsigmask=[],
                                  setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGHUP])
        except OSError:
            os.close(self._pipe)
            self._pipe = -1
            return 0
        finally:
            os.close(reading)

    def _watch(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            self.signal = os.WTERMSIG(status)
            self._killed(self.signal)
        self._over.set()

    def end(self) -> None:
        """The save has ended; the process is gone when this returns."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        self._over.wait()
