"""INFO's counters: the workers' loops, limits that closed connections, errors, commands that wait."""

import time

import pytest
from resp import Closed, encode

SERVER_OPTIONS = ["--io-threads", "2", "--enable-debug-command", "yes"]


@pytest.fixture
def raw(server):
    with server.raw() as connection:
        connection.call("FLUSHALL")
        yield connection


def fields(text: bytes) -> dict[bytes, bytes]:
    return dict(line.split(b":", 1) for line in text.split(b"\r\n") if b":" in line)


def number(raw, section: str, name: str) -> int:
    return int(fields(raw.call("INFO", section))[name.encode()])


def test_info_counts_the_loops(raw):
    """Turns of the workers' loops, what they took, and the control thread's ticks."""
    before = {name: number(raw, "stats", name) for name in
              ("eventloop_cycles", "eventloop_duration_sum", "eventloop_duration_cmd_sum")}
    cron = number(raw, "debug", "eventloop_duration_cron_sum")
    for _ in range(20):
        raw.call("PING")
    time.sleep(0.3)
    for name, value in before.items():
        assert 0 < value < number(raw, "stats", name)
    assert number(raw, "stats", "eventloop_duration_cmd_sum") <= number(raw, "stats", "eventloop_duration_sum")
    assert number(raw, "debug", "eventloop_duration_cron_sum") > cron
    assert number(raw, "debug", "eventloop_duration_max") > 0
    assert number(raw, "debug", "eventloop_cmd_per_cycle_max") >= 1
    assert number(raw, "stats", "total_reads_processed") > 20 < number(raw, "stats", "total_writes_processed")


def test_info_counts_who_was_closed_for_a_limit(raw, server):
    raw.call("CONFIG", "RESETSTAT")
    raw.call("CONFIG", "SET", "client-query-buffer-limit", 1 << 20)
    try:
        with server.raw() as large, pytest.raises((Closed, ConnectionError)):
            large.send(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3000000\r\n" + b"x" * 2_500_000)
            large.reply()
    finally:
        raw.call("CONFIG", "SET", "client-query-buffer-limit", 1 << 30)
    assert number(raw, "stats", "client_query_buffer_limit_disconnections") == 1
    raw.call("SET", "a", "x" * 100_000)
    raw.call("CONFIG", "SET", "client-output-buffer-limit", "normal 10 0 0")
    try:
        with server.raw() as large, pytest.raises((Closed, ConnectionError)):
            large.call("GET", "a")
    finally:
        with server.connect() as client:
            client.config_set("client-output-buffer-limit", "normal 0 0 0")
    with server.connect() as client:
        assert client.info("stats")["client_output_buffer_limit_disconnections"] >= 1


def test_errors_are_counted_where_they_belong(raw, server):
    """An error inside EXEC is its command's, CLIENT UNBLOCK's is a rejected call."""
    raw.call("CONFIG", "RESETSTAT")
    raw.pipeline([("MULTI",), ("SET", "s", "x"), ("LPUSH", "s", 1), ("EXEC",)])
    found = fields(raw.call("INFO", "commandstats"))
    assert found[b"cmdstat_exec"].endswith(b"rejected_calls=0,failed_calls=0")
    assert found[b"cmdstat_lpush"].endswith(b"rejected_calls=0,failed_calls=1")
    assert raw.call("EXEC").startswith("ERR EXEC without")
    assert fields(raw.call("INFO", "commandstats"))[b"cmdstat_exec"].endswith(b"failed_calls=1")
    with server.raw() as waits:
        number_ = waits.call("CLIENT", "ID")
        waits.send(encode("BLPOP", "nolist", 0))
        while not raw.call("CLIENT", "UNBLOCK", number_, "ERROR"):
            time.sleep(0.01)
        assert waits.reply().startswith("UNBLOCKED")
        found = fields(raw.call("INFO", "commandstats"))[b"cmdstat_blpop"]
        assert found.startswith(b"calls=1,") and found.endswith(b"rejected_calls=1,failed_calls=0")


def test_a_waiting_command_counts_when_it_has_run(raw, server):
    with server.raw() as waits:
        number_ = waits.call("CLIENT", "ID")
        waits.send(encode("BLPOP", "nolist", 0))
        for total in (1, 2):
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                text = raw.call("CLIENT", "LIST", "ID", number_).decode()
                if "cmd=blpop" in text and f"tot-cmds={total}\n" in text:
                    break
                time.sleep(0.01)
            assert f"tot-cmds={total}\n" in text
            raw.call("RPUSH", "nolist", "x")
