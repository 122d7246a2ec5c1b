"""What is in the log when the server dies, when it is asked where it is, when a client talks nonsense."""

import os
import signal
import time

import pytest
from resp import Closed, Raw
from servers import Server

pytestmark = pytest.mark.usefixtures("slotring_only")
WAIT_S = 20.0


@pytest.fixture
def start(tmp_path):
    """Starts servers; what is left of them is killed."""
    started = []

    def one(*options):
        server = Server(tmp_path, "--enable-debug-command", "yes", "--loglevel", "verbose", *options)
        server.forked = False                              # reports name scripts/launch.py
        started.append(server)
        return server.start()

    yield one
    for server in started:
        server.kill()


def ended(server):
    """Its exit code and its log."""
    code = server.process.wait(WAIT_S)
    return code, server.log_path.read_text()


def logged(server, text):
    deadline = time.monotonic() + WAIT_S
    while text not in server.log_path.read_text():
        assert time.monotonic() < deadline, server.log_tail()
        time.sleep(0.02)
    return server.log_path.read_text()


def send(server, *words):
    with Raw(server.port, WAIT_S) as raw:
        try:
            raw.call(*words)
        except (OSError, Closed):
            pass


def test_a_segfault_is_reported(start):
    server = start()
    send(server, "DEBUG", "SEGFAULT")
    code, log = ended(server)
    assert code == -signal.SIGSEGV
    head, _, report = log.partition("=== SLOTRING BUG REPORT START ===")
    assert head
    for text in ("crashed by signal: 11, si_code: 1", "Accessing address: 0x8", "faults.py", "in segfault",
                 "launch.py", "crash.cpython", "- REGISTERS ------", "the last one: debug", "BUG REPORT END"):
        assert text in report
    assert log.count("------ STACK TRACE ------") == 1


def test_who_aborts_it_is_named(start, tmp_path):
    logfile = tmp_path / "own.log"
    server = start("--logfile", logfile)
    os.kill(server.pid, signal.SIGABRT)
    assert server.process.wait(WAIT_S) == -signal.SIGABRT
    report = logfile.read_text()
    assert "crashed by signal: 6" in report
    assert f"Killed by PID: {os.getpid()}, UID: {os.getuid()}" in report


def test_no_report_where_none_is_wanted(start):
    server = start("--crash-log-enabled", "no")
    os.kill(server.pid, signal.SIGABRT)
    code, log = ended(server)
    assert code == -signal.SIGABRT
    assert "BUG REPORT" not in log


@pytest.mark.parametrize(("word", "text"), [("ASSERT", "ASSERTION FAILED"), ("PANIC", "DEBUG PANIC was")])
@pytest.mark.parametrize("exits", ["yes", "no"])
def test_failures_of_its_own(start, word, text, exits):
    server = start("--use-exit-on-panic", exits)
    send(server, "DEBUG", word)
    code, log = ended(server)
    assert code == (1 if exits == "yes" else -signal.SIGABRT)
    assert text in log
    assert log.count("------ STACK TRACE ------") == 1


def test_sigalrm_shows_the_stacks(start):
    server = start()
    os.kill(server.pid, signal.SIGALRM)
    log = logged(server, "------ STACK TRACE DONE ------")
    assert "Received SIGALRM" in log
    assert "launch.py" in log
    with Raw(server.port, WAIT_S) as raw:
        assert raw.call("PING") == b"PONG"


def test_nonsense_of_any_byte_is_logged_while_it_is_asked_for(start):
    server = start()
    def send():
        with Raw(server.port, WAIT_S) as raw:
            raw.send(b"*1\r\n\xff\r\n")
            return raw.reply()

    send()
    assert "(expected '$', got " in logged(server, "Protocol error")
    with Raw(server.port, WAIT_S) as raw:
        assert raw.call("CONFIG", "SET", "loglevel", "notice") == b"OK"
        send()
        assert raw.call("CONFIG", "SET", "loglevel", "verbose") == b"OK"
    text = server.log_path.read_text(errors="replace")
    assert text.count("Protocol error") == 1
    assert "Traceback" not in text


@pytest.mark.parametrize(("hidden", "shown"), [("no", "'*3..$3..SET..$1..x..$blabla..'"), ("yes", "*redacted*")])
def test_nonsense_is_logged(start, hidden, shown):
    server = start("--hide-user-data-from-log", hidden)
    with Raw(server.port, WAIT_S) as raw:
        raw.send(b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$blabla\r\n")
        log = logged(server, "Protocol error")
    line = log.split("Protocol error")[1].splitlines()[0]
    assert line.startswith(" (invalid bulk length) from client: id=")
    assert line.endswith(f". Query buffer: {shown}")
