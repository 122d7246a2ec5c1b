"""The RDB file: what was there comes back, what is damaged is refused with a message."""

import os
import random
import subprocess

import pytest
from rdbdata import digest, fill
from servers import server_command

pytestmark = pytest.mark.usefixtures("slotring_only")
DEBUG = ("--enable-debug-command", "yes", "--enable-protected-configs", "yes")
CUTS = 5
FLIPS = 8


def try_file(folder, data: bytes) -> tuple[int, str]:
    """(exit code, log) of a server that finds this file and is told to end as soon as it has started."""
    (folder / "dump.rdb").write_bytes(data)
    argv = [*server_command(), "--port", "0", "--unixsocket", str(folder / "sock"), "--dir", str(folder), "--save", "",
            "--io-threads", "1"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder)
    lines = []
    for line in process.stdout:
        lines.append(line.decode("utf-8", "replace"))
        if "Ready to accept" in lines[-1]:
            process.terminate()
    return process.wait(20), "".join(lines)


def test_everything_comes_back(own_server):
    server = own_server(*DEBUG)
    with server.connect() as client:
        fill(client)
        before = digest(client)
        assert client.save()
        assert client.execute_command("DEBUG", "RELOAD") == b"OK"
        assert digest(client) == before
        client.execute_command("FLUSHALL")
        assert client.execute_command("DEBUG", "RELOAD", "NOSAVE") == b"OK"
        assert digest(client) == before
    server.stop()
    server.start()
    with server.connect() as client:
        assert digest(client) == before
        assert 9_000_000 < client.pttl("s:0") < 20_000_000
        assert client.execute_command("HPTTL", "h:0", "FIELDS", "1", "f0")[0] > 5_000_000
        info = client.info("persistence")
        assert info["rdb_last_load_keys_loaded"] == sum(client.info("keyspace")[f"db{db}"]["keys"] for db in (0, 5))
        assert info["rdb_changes_since_last_save"] == 0


def test_merge_and_duplicates(own_server):
    server = own_server(*DEBUG)
    with server.connect() as client:
        client.set("a", "old")
        client.save()
        client.set("a", "new")
        client.set("b", "kept")
        client.execute_command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH", "MERGE")
        assert client.mget("a", "b") == [b"old", b"kept"]
        with pytest.raises(Exception, match="Error trying to load the RDB dump"):
            client.execute_command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH")
        with pytest.raises(Exception, match="only supports the MERGE"):
            client.execute_command("DEBUG", "RELOAD", "NONSENSE")


def test_expired_keys_stay_away(own_server):
    server = own_server(*DEBUG)
    with server.connect() as client:
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        client.set("gone", "x", px=1)
        client.set("stays", "x")
        client.save()
    server.stop()
    server.start()
    with server.connect() as client:
        info = client.info("persistence")
        assert (info["rdb_last_load_keys_loaded"], info["rdb_last_load_keys_expired"]) == (1, 1)


def test_saved_at_the_end(own_server):
    server = own_server(*DEBUG)
    with server.connect() as client:
        client.set("a", 1)
        client.config_set("save", "900 1")
    server.stop()
    server.start()
    with server.connect() as client:
        assert client.get("a") == b"1"
        client.config_set("dbfilename", "missing.rdb")
        os.mkdir(server.folder / "missing.rdb")      # the file cannot take that name
        with pytest.raises(Exception, match="Errors trying to SHUTDOWN"):
            client.execute_command("SHUTDOWN", "SAVE")
        assert client.set("a", 2)
        os.rmdir(server.folder / "missing.rdb")


@pytest.fixture(scope="module")
def small_file(tmp_path_factory, server):
    """The bytes of a file with something of every type."""
    with server.connect() as client:
        client.flushall()
        fill(client, 80)
        client.save()
    return (server.folder / "dump.rdb").read_bytes()


def test_a_cut_file_is_refused(small_file, tmp_path):
    rng = random.Random(7)
    places = {0, 1, 8, 9, len(small_file) - 1, len(small_file) - 8}
    places |= {rng.randrange(len(small_file)) for _ in range(CUTS)}
    for place in sorted(places):
        code, text = try_file(tmp_path, small_file[:place])
        assert code == 1 and "Fatal error loading the DB" in text, (place, code, text)
        assert "Short read or OOM loading DB" in text, (place, text[-400:])


def test_a_flipped_byte_is_refused(small_file, tmp_path):
    rng = random.Random(8)
    for _ in range(FLIPS):
        place = rng.randrange(len(small_file))
        data = bytearray(small_file)
        data[place] ^= 1 << rng.randrange(8)
        if not any(data[-8:]):
            continue
        code, text = try_file(tmp_path, bytes(data))
        assert code == 1 and "Fatal error loading the DB" in text, (place, code, text)
