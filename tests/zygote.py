"""Starts of servers without the loading of modules, which is nine tenths of a start: a process that has loaded them
forks one whenever a test wants a server. What is loaded, and in which order, is scripts/launch.py's business and
net.main's; that a start from nothing works is shown by test_start.py, and by all tests with SLOTRING_TEST_ZYGOTE=0.

As a program it is that process: it is asked on file descriptor 0 (JSON, and the log's descriptor beside it) and says
the pid of what it forked, which is a child of the asker's as well as if that had forked it (CLONE_PARENT).
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REQUEST_MAX = 1 << 20


class Forked(subprocess.Popen):
    """A server that was forked for this process."""

    def __init__(self, pid: int, argv: list[str]):
        self.pid = pid
        self.args = argv
        self.returncode = None
        self.stdin = self.stdout = self.stderr = None
        self._child_created = True
        self._input = None
        self._communication_started = False
        self._closed_child_pipe_fds = False
        self._waitpid_lock = threading.Lock()


class Zygote:
    """The process, as who wants servers sees it."""

    def __init__(self, python: str, for_clusters: bool):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # (the servers write their titles over the last word; OpenBLAS would start threads, which fork cannot have)
            self.process = subprocess.Popen(
                [python, "-X", "gil=0", os.path.abspath(__file__), "cluster" if for_clusters else "", "-" * 100],
                stdin=theirs, env={**os.environ, "OPENBLAS_NUM_THREADS": "1",
                                   "MIMALLOC_PURGE_DELAY": os.environ.get("MIMALLOC_PURGE_DELAY", "0")})
        self.socket = ours
        self.lock = threading.Lock()
        atexit.register(self.close)

    def fork(self, options: list[str], folder: str, env: dict[str, str], log_fd: int) -> Forked:
        """A server with these options, whose output goes to log_fd."""
        request = json.dumps([options, folder, env]).encode()
        assert len(request) < REQUEST_MAX
        with self.lock:
            socket.send_fds(self.socket, [request], [log_fd])
            pid = int(self.socket.recv(100))
        return Forked(pid, ["zygote", *options])

    def close(self) -> None:
        """No more servers."""
        self.socket.close()
        self.process.wait(10)


def fork_for_parent() -> int:
    """fork(), but the child is its grandparent's. No other thread may run."""
    import ctypes
    clone_parent, sys_clone = 0x8000, {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = ctypes.CDLL(None).syscall(sys_clone, clone_parent | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    return pid


def become_server(options: list[str], folder: str, env: dict[str, str], log_fd: int) -> None:
    """As scripts/server: the environment, the files and the folder, then net.main."""
    from net import log
    from net.main import main
    log.reset_pid()
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.close(log_fd)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    try:
        code = main(options)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    os._exit(code or 0)


def serve(for_clusters: bool) -> None:
    """Load what a server loads, then fork until nobody asks any more."""
    import gc
    gc.disable()
    sys.path[0] = ROOT
    from scripts import build
    if not build.fresh():
        build.build()
    from net import listen, main, title, words  # noqa: F401
    main.import_commands()
    if for_clusters:
        import numpy  # noqa: F401

        from net.cluster import driver  # noqa: F401
    asker = socket.socket(fileno=os.dup(0))
    while True:
        request, fds, _, _ = socket.recv_fds(asker, REQUEST_MAX, 1)
        if not request:
            break
        pid = fork_for_parent()
        if pid == 0:
            asker.close()
            become_server(*json.loads(request), fds[0])
        os.close(fds[0])
        asker.send(str(pid).encode())


if __name__ == "__main__":
    serve(sys.argv[1] == "cluster")
