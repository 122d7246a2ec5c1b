"""The process: how it starts, refuses to, writes its files and ends."""

import os
import signal
import subprocess
import time

import pytest
from servers import free_port, server_command

pytestmark = pytest.mark.usefixtures("slotring_only")

WAIT_S = 20.0


def run(*options, stdin=b""):
    """A server that is expected to end by itself."""
    return subprocess.run([*server_command(), *map(str, options)], input=stdin, timeout=WAIT_S,
                          capture_output=True, check=False)


def wait_for(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_version():
    assert run("--version").stdout.startswith(b"Valkey server v=9.1.2 ")


@pytest.mark.parametrize(("options", "text"), [
    (["--port", "abc"], b">>> 'port \"abc\"'\nargument couldn't be parsed into an integer\n"),
    (["--nonsense", "1"], b"Bad directive or wrong number of arguments\n"),
    (["--loadmodule", "x.so"], b"the directive 'loadmodule' is not supported\n"),
])
def test_wrong_settings_end_it(options, text):
    ended = run(*options)
    assert ended.returncode == 1
    assert b"*** FATAL CONFIG FILE ERROR (Version 9.1.2) ***" in ended.stderr
    assert ended.stderr.endswith(text)


def test_missing_file():
    ended = run("/nowhere/valkey.conf")
    assert ended.returncode == 1
    assert b"can't open config file '/nowhere/valkey.conf': No such file" in ended.stdout


def test_port_taken(server):
    ended = run("--port", server.port, "--bind", "127.0.0.1")
    assert ended.returncode == 1
    assert f"Failed listening on port {server.port} (tcp), aborting.".encode() in ended.stdout


def test_nowhere_to_listen():
    ended = run("--port", 0)
    assert ended.returncode == 1
    assert b"Configured to not listen anywhere, exiting." in ended.stdout


def test_what_the_log_says(own_server, tmp_path):
    socket_path, pid_path = tmp_path / "socket", tmp_path / "pid"
    server = own_server("--always-show-logo", "yes", "--unixsocket", socket_path,
                        "--unixsocketperm", "700", "--pidfile", pid_path)
    wait_for(lambda: "Ready to accept connections unix" in server.log_path.read_text())
    text = server.log_path.read_text()
    logo = text.index(f" PID: {server.pid}\n")
    assert logo < text.index("Server initialized")
    assert text.index("Server initialized") < text.index("Ready to accept connections tcp")
    assert pid_path.read_text() == f"{server.pid}\n"
    assert oct(socket_path.stat().st_mode)[-3:] == "700"
    server.process.send_signal(signal.SIGHUP)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(WAIT_S) == 0
    text = server.log_path.read_text()
    assert "Received SIGINT scheduling shutdown..." in text
    assert text.endswith("# Valkey is now ready to exit, bye bye...\n")
    assert not pid_path.exists()
    assert not socket_path.exists()
    server.process = None


def test_shutdown_command(own_server):
    server = own_server()
    with server.connect() as client:
        with pytest.raises(Exception, match="No shutdown in progress"):
            client.execute_command("SHUTDOWN", "ABORT")
        for words in (["x"], ["save", "nosave"], ["abort", "now"]):
            with pytest.raises(Exception, match="syntax error"):
                client.execute_command("SHUTDOWN", *words)
        client.shutdown(nosave=True)
    assert server.process.wait(WAIT_S) == 0
    server.process = None


def test_in_the_background(tmp_path):
    port, pid_path, log_path = free_port(), tmp_path / "pid", tmp_path / "log"
    ended = run("--daemonize", "yes", "--port", port, "--bind", "127.0.0.1", "--dir", tmp_path,
                "--pidfile", pid_path, "--logfile", log_path)
    assert ended.returncode == 0
    wait_for(lambda: log_path.exists() and "Ready to accept" in log_path.read_text())
    os.kill(int(pid_path.read_text()), signal.SIGTERM)
    wait_for(lambda: "bye bye" in log_path.read_text())


def test_settings_at_run_time(own_server, tmp_path):
    path = tmp_path / "valkey.conf"
    path.write_text("# mine\nhz 20\n")
    server = own_server()
    with server.connect() as client, pytest.raises(Exception, match="without a config file"):
        client.config_rewrite()
    other = own_server("--include", path)
    with other.connect() as client:
        assert client.config_get("hz") == {"hz": "20"}
        client.config_set("maxmemory", "5mb")
        assert client.config_get("maxmemory") == {"maxmemory": "5242880"}


def test_a_plain_server_loads_nothing_of_a_clusters(server):
    """numpy and asyncio were once half of its memory, and most of the time of a start."""
    with open(f"/proc/{server.pid}/maps") as file:
        files = {line.split()[-1].rpartition("/")[2] for line in file if ".so" in line}
    assert any(name.startswith("worker.") for name in files)
    for foreign in ("_multiarray_umath", "_asyncio", "_ssl", "libcrypto"):
        assert not any(name.startswith(foreign) for name in files), foreign
