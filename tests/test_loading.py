"""While the data set is loaded at the start, clients are told so."""

import subprocess
import time

import pytest
from resp import Raw

pytestmark = pytest.mark.usefixtures("slotring_only")
KEYS = 500_000
LOADING = "LOADING Valkey is loading the dataset in memory"


def test_clients_are_told(own_server):
    server = own_server("--enable-debug-command", "yes", "--io-threads", "2")
    with server.connect() as client:
        client.execute_command("DEBUG", "POPULATE", KEYS)
        client.execute_command("SET", "volatile", 1, "EX", 1000)
        assert client.save()
    server.stop()
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen(server.argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                          cwd=server.folder, env=server.env)
    told, infos = set(), []
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            raw = Raw(server.port, 10)
        except OSError:
            time.sleep(0.001)
            continue
        with raw:
            while time.monotonic() < deadline:
                reply = raw.call("GET", "key:1")
                if not str(reply).startswith("LOADING"):
                    break
                told.add(str(reply))
                told.add(str(raw.call("PING")))
                told.add(str(raw.call("WATCH", "key:1")))
                raw.call("MULTI")
                refused = str(raw.call("SET", "key:1", "value:1"))
                told.add(refused)
                if raw.call("EXEC") == [b"OK"]:       # the load has ended between two of these
                    assert refused == "b'QUEUED'"
                infos.append(raw.call("INFO", "persistence").decode())
                assert raw.call("CONFIG", "GET", "port")
            break
    assert reply == b"value:1"
    if not told:
        pytest.skip("it was all loaded before the first command")
    assert LOADING in told
    assert not [text for text in told if text.startswith("LOADING") and text != LOADING]
    assert any("\r\nloading:1\r\n" in text for text in infos)
    for text in infos:
        if "loading_total_bytes" in text:
            assert "\r\nloading_loaded_perc:" in text
    with server.connect() as client:
        assert client.dbsize() == KEYS + 1
        assert client.info("persistence")["loading"] == 0
        assert "loading_total_bytes" not in client.info("persistence")


@pytest.mark.parametrize("form", ["rdb", "aof"])
@pytest.mark.parametrize("delay_us", [500, -1])
def test_a_load_is_slowed_down(own_server, form, delay_us):
    """key-load-delay: of each key, or negative: a microsecond for so many."""
    keys = 2000
    server = own_server("--enable-debug-command", "yes", "--aof-use-rdb-preamble", "no",
                        "--appendonly", "yes" if form == "aof" else "no")
    with server.connect() as client:
        for number in range(keys):
            client.set(f"key:{number}", "x" * 100)
        if form == "rdb":
            client.save()
    server.stop()
    server.argv += ["--key-load-delay", str(delay_us)]
    began_s = time.monotonic()
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen(server.argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                          cwd=server.folder, env=server.env)
    loading = 0
    while True:
        try:
            with Raw(server.port, 10) as raw:
                loading += b"\r\nloading:1\r\n" in raw.call("INFO", "persistence")
                if raw.call("GET", "key:1") == b"x" * 100:
                    break
        except OSError:
            assert server.process.poll() is None
        time.sleep(0.01)
    if delay_us > 0:
        assert time.monotonic() - began_s >= keys * delay_us / 1e6
        assert loading
