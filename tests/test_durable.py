"""Waiting for the disk (WAITAOF, WAIT), what the append-only files look like in cases, a full disk."""

import os
import re
import select
import threading
import time

import pytest
import redis
from resp import Raw, encode
from servers import ServerDied
from test_aof import FOLDER, OPTIONS, incr_path, wait_rewritten

pytestmark = pytest.mark.usefixtures("slotring_only")
NO_AOF = "WAITAOF cannot be used when numlocal is set but appendonly is disabled."


def waitaof(client, local: int, replicas: int, timeout_ms: int) -> list:
    """WAITAOF"""
    return client.execute_command("WAITAOF", local, replicas, timeout_ms)


def limit_files(server, size: str) -> None:
    """No file of the server may grow beyond so many bytes (its log neither)."""
    assert os.system(f"prlimit --pid {server.pid} --fsize={size}:unlimited") == 0


# ---- waiting

def test_waitaof_until_the_disk_has_it(own_server):
    server = own_server(*OPTIONS, "--appendfsync", "no")
    with server.connect() as client, server.connect() as idle:
        client.set("key", "1")
        began_s = time.monotonic()
        assert waitaof(client, 1, 0, 60) == [0, 0]             # its time ends
        assert time.monotonic() - began_s >= 0.06
        assert waitaof(idle, 1, 0, 0) == [1, 0]                # it has written nothing
        assert waitaof(client, 0, 0, 0) == [0, 0]
        client.config_set("appendfsync", "everysec")
        assert waitaof(client, 1, 0, 0) == [1, 0]
        assert waitaof(client, 0, 0, 0) == [1, 0]
        client.config_set("appendfsync", "always")
        client.set("key", "2")
        assert waitaof(client, 1, 0, 0) == [1, 0]
        assert waitaof(client, 1, 1, 20) == [1, 0]
        pipe = client.pipeline(transaction=False)
        pipe.set("key", "3")
        pipe.execute_command("WAITAOF", 1, 0, 0)
        pipe.get("key")
        assert pipe.execute() == [True, [1, 0], b"3"]


def test_waitaof_does_not_wait_in_a_transaction(own_server):
    server = own_server(*OPTIONS, "--appendfsync", "no")
    with server.connect() as client:
        client.set("key", "1")
        pipe = client.pipeline(transaction=True)
        for words in (("WAITAOF", 1, 0, 0), ("WAITAOF", 0, 3, 0), ("WAIT", 3, 0)):
            pipe.execute_command(*words)
        assert pipe.execute() == [[0, 0], [0, 0], 0]


def test_waitaof_ends_with_the_aof(own_server):
    server = own_server(*OPTIONS, "--appendfsync", "no")
    with server.connect() as client, server.connect() as other:
        client.set("key", "1")
        failures: list = []

        def wait() -> None:
            try:
                failures.append(waitaof(client, 1, 0, 0))
            except redis.ResponseError as error:
                failures.append(str(error))

        thread = threading.Thread(target=wait)
        thread.start()
        while other.info("clients")["blocked_clients"] != 1:
            time.sleep(0.01)
        other.config_set("appendonly", "no")
        thread.join(10)
        assert failures == [NO_AOF]
        with pytest.raises(redis.ResponseError, match=re.escape(NO_AOF)):
            waitaof(client, 1, 0, 0)
        assert waitaof(client, 0, 0, 0) == [0, 0]


def test_waitaof_while_the_first_base_is_written(own_server):
    """What the increment has counts for nothing before there is a base."""
    server = own_server("--enable-debug-command", "yes", "--rdb-key-save-delay", "3000", "--appendfsync", "always")
    with server.connect() as client:
        client.mset({f"key:{number}": number for number in range(100)})
        client.config_set("appendonly", "yes")
        client.set("later", "1")
        assert waitaof(client, 1, 0, 30) == [0, 0]
        assert waitaof(client, 1, 0, 0) == [1, 0]
        assert client.info("persistence")["aof_rewrite_in_progress"] == 0


def test_waitaof_over_a_rewrite(own_server):
    """The increment that a rewrite replaces is on the disk too, before it is said."""
    server = own_server(*OPTIONS, "--appendfsync", "everysec")
    with server.connect() as client:
        for number in range(3):
            client.set("key", number)
            client.bgrewriteaof()
            assert waitaof(client, 1, 0, 5000) == [1, 0]
            wait_rewritten(client)


def test_unblocked_and_refused(own_server):
    server = own_server(*OPTIONS, "--appendfsync", "no")
    with server.connect() as client, server.connect() as other:
        number = client.client_id()
        client.set("key", "1")
        for words, expected in ((("WAITAOF", 1, 0, 0), [0, 0]), (("WAIT", 1, 0), 0)):
            found: list = []
            thread = threading.Thread(target=lambda words=words, found=found: found.append(
                client.execute_command(*words)))
            thread.start()
            while not other.client_unblock(number):
                time.sleep(0.01)
            thread.join(10)
            assert found == [expected]
        for words, text in (
                (("WAITAOF", 2, 0, 0), "value is out of range, value must between 0 and 1"),
                (("WAITAOF", "x", 0, 0), "value is not an integer or out of range"),
                (("WAITAOF", 0, -1, 0), "value is out of range, must be positive"),
                (("WAITAOF", 0, "x", 0), "value is out of range, must be positive"),
                (("WAITAOF", 0, 0, "x"), "timeout is not an integer or out of range"),
                (("WAITAOF", 0, 0, -1), "timeout is negative"),
                (("WAIT", 1, (1 << 63) - 1), "timeout is out of range"),
                (("WAIT", "x", 0), "value is not an integer or out of range")):
            with pytest.raises(redis.ResponseError, match=f"^{text}$"):
                client.execute_command(*words)
        assert client.execute_command("WAIT", -1, 0) == 0
        assert client.execute_command("WAIT", 1, 20) == 0


def test_a_closed_connection_waits_no_more(own_server):
    server = own_server(*OPTIONS, "--appendfsync", "no")
    with server.connect() as other:
        with server.raw() as raw:
            raw.call("SET", "key", "1")
            raw.send(b"WAITAOF 1 0 0\r\n")
            while other.info("clients")["blocked_clients"] != 1:
                time.sleep(0.01)
        while other.info("clients")["blocked_clients"]:
            time.sleep(0.01)
        other.config_set("appendfsync", "everysec")
        other.set("key", "2")
        assert waitaof(other, 1, 0, 0) == [1, 0]


def test_no_reply_before_the_write(own_server):
    """DEBUG AOF-FLUSH-SLEEP makes the time between them long."""
    server = own_server(*OPTIONS, "--appendfsync", "always", "--io-threads", "1")
    with server.connect() as client:
        client.execute_command("DEBUG", "AOF-FLUSH-SLEEP", 200_000)
        size = incr_path(server).stat().st_size
        began_s = time.monotonic()
        client.set("key", "1")
        assert time.monotonic() - began_s >= 0.2
        assert incr_path(server).stat().st_size > size
        client.execute_command("DEBUG", "AOF-FLUSH-SLEEP", 0)


# ---- files

def manifest(server) -> list[str]:
    """The manifest's lines without the names' beginnings."""
    text = (server.folder / FOLDER / "appendonly.aof.manifest").read_text()
    return [line.split()[1].removeprefix("appendonly.aof.") + " " + line.split()[5] for line in text.splitlines()]


@pytest.mark.parametrize("sleep_us", [0, 3000])
def test_no_reply_of_any_group_before_its_write(own_server, sleep_us):
    """Many connections, which come to take turns at the disk: what is replied to one is in the file."""
    server = own_server(*OPTIONS, "--appendfsync", "always", "--io-threads", "1")
    connections = [Raw(server.port) for _ in range(24)]
    poll = select.poll()
    by_fd = {connection.socket.fileno(): number for number, connection in enumerate(connections)}
    sent = [0] * len(connections)

    def write(number: int) -> None:
        sent[number] += 1
        connections[number].send(encode("SET", f"c{number}", f"<{number}.{sent[number]}>"))

    with server.connect() as client:
        client.execute_command("DEBUG", "AOF-FLUSH-SLEEP", sleep_us)
    for fd, number in by_fd.items():
        poll.register(fd, select.POLLIN)
        write(number)
    path = incr_path(server)
    replies = 0
    while replies < 600:
        ready = [by_fd[fd] for fd, _ in poll.poll(5000)]
        assert ready
        data = path.read_bytes()
        for number in ready:
            assert connections[number].reply() == b"OK"
            assert f"<{number}.{sent[number]}>".encode() in data
            replies += 1
            write(number)
    for connection in connections:
        connection.close()


def test_a_base_of_commands_begins_with_its_time(own_server):
    server = own_server(*OPTIONS, "--aof-timestamp-enabled", "yes", "--aof-use-rdb-preamble", "no")
    with server.connect() as client:
        client.set("key", "1")
        client.bgrewriteaof()
        wait_rewritten(client)
        base = next((server.folder / FOLDER).glob("*.base.aof")).read_bytes()
        assert re.match(rb"#TS:\d+\r\n\*", base) and abs(int(base[4:base.index(b"\r")]) - time.time()) < 60
    server.stop()
    server.start()
    with server.connect() as client:
        assert client.get("key") == b"1"


def test_a_rewrite_by_hand_with_the_aof_off(own_server):
    """There is no increment that goes with its base; numbers begin anew when the files are read again."""
    server = own_server(*OPTIONS)
    with server.connect() as client:
        client.set("key", "1")
        client.config_set("appendonly", "no")
        client.bgrewriteaof()
        wait_rewritten(client)
        assert manifest(server) == ["2.base.rdb b"]
        client.execute_command("DEBUG", "LOADAOF")
        assert client.get("key") == b"1"
        client.config_set("appendonly", "yes")
        wait_rewritten(client)
        assert manifest(server) == ["3.base.rdb b", "1.incr.aof i"]


def test_history_stays_while_it_is_wanted(own_server):
    server = own_server(*OPTIONS, "--aof-disable-auto-gc", "yes")
    with server.connect() as client:
        for _ in range(2):
            client.bgrewriteaof()
            wait_rewritten(client)
        assert manifest(server) == ["3.base.rdb b", "2.incr.aof h", "2.base.rdb h", "1.incr.aof h", "1.base.rdb h",
                                    "3.incr.aof i"]
        client.config_set("aof-disable-auto-gc", "no")
        assert manifest(server) == ["3.base.rdb b", "3.incr.aof i"]
        assert not (server.folder / FOLDER / "appendonly.aof.1.base.rdb").exists()


@pytest.mark.parametrize("change", ["longer", "shorter", "taken out"])
def test_an_edited_increment_is_loaded(own_server, change):
    """As people do to get rid of a FLUSHALL, and Valkey's own tests with whole files."""
    server = own_server(*OPTIONS)
    with server.connect() as client:
        for number in range(50):
            client.set(f"key:{number}", number)
    server.stop()
    path = incr_path(server)
    text = path.read_bytes()
    at = text.index(b"*3\r\n$3\r\nSET\r\n$6\r\nkey:17")
    record = text[at:text.index(b"*", at + 1)]
    path.write_bytes({"longer": text[:at] + b"*2\r\n$3\r\nDEL\r\n$5\r\nkey:1\r\n" + text[at:],
                      "shorter": b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
                      "taken out": text.replace(record, b"")}[change])
    server.start()
    assert "somebody has changed it" in server.log_path.read_text()
    with server.connect() as client:
        keys = set(client.keys())
        everything = {b"key:%d" % number for number in range(50)}
        assert keys == {"longer": everything - {b"key:1"}, "shorter": {b"a"},
                        "taken out": everything - {b"key:17"}}[change]
        client.set("more", "1")
    server.stop()
    server.start()                                    # the side file is about the new contents
    assert server.log_path.read_text().count("somebody has changed it") == 1
    text = bytearray(path.read_bytes())
    text[-5] ^= 1
    server.stop()
    path.write_bytes(text)
    with pytest.raises(ServerDied, match="are not what was written"):
        server.start()
    path.write_bytes(path.read_bytes()[:-5] + bytes([text[-5] ^ 1]) + text[-4:])
    server.start()


def test_an_edited_base_of_commands_is_loaded_and_a_cut_one_is_not(own_server):
    server = own_server(*OPTIONS, "--aof-use-rdb-preamble", "no")
    with server.connect() as client:
        client.mset({f"key:{number}": number for number in range(20)})
        client.bgrewriteaof()
        wait_rewritten(client)
    server.stop()
    path = next((server.folder / FOLDER).glob("*.base.aof"))
    text = path.read_bytes()
    record = re.search(rb"\*3\r\n\$3\r\nSET\r\n\$5\r\nkey:(\d)\r\n\$1\r\n\d\r\n", text)[0]
    key, number = re.search(rb"key:(\d)", record)[0], re.search(rb"key:(\d)", record)[1]
    last = text.rindex(b"*3\r\n")
    for damaged in (text[:last], text.replace(record, record.replace(number + b"\r\n", b"x\r\n"))):
        path.write_bytes(damaged)
        with pytest.raises(ServerDied, match="Bad file format reading the append only file"):
            server.start()
    path.write_bytes(text.replace(record, b""))
    server.start()
    assert "somebody has changed it" in server.log_path.read_text()
    with server.connect() as client:
        assert client.dbsize() == 19 and not client.exists(key)


# ---- a full disk

def test_a_full_disk_during_a_rewrite(own_server):
    """The rewrite fails and leaves nothing; the data, the log of changes and the next rewrite are whole."""
    server = own_server(*OPTIONS, "--appendfsync", "always", "--rdbcompression", "no")
    with server.connect() as client:
        for number in range(60):
            client.set(f"key:{number}", "x" * 5000)
        client.bgrewriteaof()
        wait_rewritten(client)
        before = manifest(server)
        limit_files(server, "200000")
        client.bgrewriteaof()
        client.set("meanwhile", "1")
        wait_rewritten(client)
        assert client.info("persistence")["aof_last_bgrewrite_status"] == "err"
        client.set("later", "1")
        assert manifest(server) == [*before, "3.incr.aof i"]
        assert not list(server.folder.glob("temp-*"))
        assert "Write error while saving DB to the disk" in server.log_path.read_text()
    server.kill()
    server.start()
    with server.connect() as client:
        assert client.get("meanwhile") == client.get("later") == b"1" and client.dbsize() == 62
        client.bgrewriteaof()
        wait_rewritten(client)
        assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
        assert manifest(server) == ["3.base.rdb b", "4.incr.aof i"]


def test_a_full_disk_during_a_bgsave(own_server):
    """The old file stays, writes are refused until a save succeeds."""
    server = own_server("--enable-debug-command", "yes", "--rdbcompression", "no", "--save", "3600 1")
    with server.connect() as client:
        client.set("key", "1")
        client.save()
        old = (server.folder / "dump.rdb").read_bytes()
        for number in range(60):
            client.set(f"key:{number}", "x" * 5000)
        limit_files(server, "200000")
        client.bgsave()
        while client.info("persistence")["rdb_bgsave_in_progress"]:
            time.sleep(0.01)
        assert client.info("persistence")["rdb_last_bgsave_status"] == "err"
        assert (server.folder / "dump.rdb").read_bytes() == old
        assert not list(server.folder.glob("temp-*"))
        with pytest.raises(redis.ResponseError, match="MISCONF"):
            client.set("refused", "1")
        assert client.get("key") == b"1"
        limit_files(server, "unlimited")
        client.bgsave()
        while client.info("persistence")["rdb_bgsave_in_progress"]:
            time.sleep(0.01)
        assert client.info("persistence")["rdb_last_bgsave_status"] == "ok"
        client.set("again", "1")
        digest = client.execute_command("DEBUG", "DIGEST")
        client.execute_command("DEBUG", "RELOAD")
        assert client.execute_command("DEBUG", "DIGEST") == digest
