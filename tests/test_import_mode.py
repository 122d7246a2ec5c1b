"""Import mode: expired keys are not deleted, and its source sees them. What monitors leave behind."""

import os
import time

import pytest

RSS_SLACK_BYTES = 40 << 20


def test_expired_keys_in_import_mode(server):
    with server.connect() as client, server.connect() as source:
        client.config_set("import-mode", "yes")
        assert source.execute_command("CLIENT", "IMPORT-SOURCE", "ON") == b"OK"
        client.set("k", 1, px=1)
        time.sleep(0.3)                              # three rounds of the cron
        assert client.get("k") is None
        assert client.scan(0, match="*") == (0, [])
        assert client.keys("*") == []
        assert client.dbsize() == 1
        assert source.ttl("k") == 0
        assert source.incr("k") == 2
        assert source.scan(0, match="*", count=1000) == (0, [b"k"])
        assert source.keys("*") == [b"k"]
        client.config_set("import-mode", "no")
        deadline = time.monotonic() + 5
        while client.dbsize() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.dbsize() == 0


@pytest.mark.skipif("SLOTRING_TEST_VARIANT" in os.environ, reason="RSS of a sanitizer's build")
def test_long_lines_of_monitors_leave_no_memory_behind(server):
    data = os.urandom(70_000)
    with server.raw() as watcher, server.raw() as raw:
        watcher.call("MONITOR")
        raw.call("ECHO", data)
        before = server.rss_bytes()
        for _ in range(300):
            raw.call("ECHO", data)
            watcher.socket.settimeout(0.001)
            try:
                while watcher.socket.recv(1 << 20):
                    pass
            except TimeoutError:
                pass
    assert server.rss_bytes() - before < RSS_SLACK_BYTES
