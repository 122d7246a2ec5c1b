"""The base as commands is what a real Valkey's BGREWRITEAOF writes for the same data, key by key; and it loads it."""

import sys
import time
from pathlib import Path

import pytest
from rdbdata import digest, fill
from servers import Server
from test_aof_base import DRIVER, commands, fill_odd, replay, saved, state

VALKEY_OPTIONS = ["--enable-debug-command", "yes", "--appendonly", "no", "--aof-use-rdb-preamble", "no"]
OPTIONS = ("--enable-debug-command", "yes", "--io-threads", "2")
pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("slotring_only")]
PAIRS = {b"ZADD", b"HMSET"}
NO_ORDER = {b"SADD", b"ZADD", b"HMSET", b"HSETEX"}


@pytest.fixture
def ours(tmp_path):
    """A server whose BGSAVE writes commands, with data of all types."""
    server = Server(tmp_path / "ours", *OPTIONS, command=[sys.executable, "-X", "gil=0", "-B", DRIVER, "commands"])
    try:
        server.start()
        with server.connect() as client:
            fill(client)
            fill_odd(client)
        yield server
        server.stop()
    finally:
        server.kill()


def by_key(data: bytes) -> dict:
    """(database, key) -> its commands; what is in no order is sorted, with the sizes of the commands it came in."""
    found: dict = {}
    db = b""
    for words in commands(data):
        if words[0] == b"SELECT":
            db = words[1]
            continue
        at = 2 if words[0] == b"XGROUP" else 1
        found.setdefault((db, words[at]), []).append(words[:at] + words[at + 1:])
    return {key: sorted_items(lists) for key, lists in found.items()}


def sorted_items(lists: list) -> list:
    """The commands of a key: items of unordered types by themselves."""
    plain = [words for words in lists if words[0] not in NO_ORDER]
    sizes = [(words[0], len(words)) for words in lists if words[0] in NO_ORDER]
    items = []
    for words in lists:
        if words[0] == b"HSETEX":
            items.append(tuple(words))
        elif words[0] in NO_ORDER:
            step = 2 if words[0] in PAIRS else 1
            items += [(words[0], *words[at:at + step]) for at in range(1, len(words), step)]
    return [plain, sizes, sorted(items)]


def rewritten(valkey, theirs) -> bytes:
    """The base that a real Valkey writes."""
    theirs.execute_command("BGREWRITEAOF")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        info = theirs.info("persistence")
        if not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]:
            break
        time.sleep(0.02)
    files = sorted(Path(valkey.folder, "appendonlydir").glob("*.base.aof"), key=lambda path: path.stat().st_mtime)
    return files[-1].read_bytes()


def test_the_commands_are_valkeys(ours, valkey):
    with ours.connect() as client, valkey.connect() as theirs:
        path, _ = saved(ours, client)
        mine = path.read_bytes()
        client.save()
        (valkey.folder / "dump.rdb").write_bytes((ours.folder / "dump.rdb").read_bytes())
        theirs.execute_command("DEBUG", "RELOAD", "NOSAVE")
        assert digest(theirs) == digest(client)
        wanted, found = by_key(rewritten(valkey, theirs)), by_key(mine)
        assert set(found) == set(wanted)
        for key, lists in wanted.items():
            assert found[key] == lists, key


def test_valkey_takes_the_commands(ours, valkey):
    with ours.connect() as client, valkey.connect() as theirs:
        path, _ = saved(ours, client)
        theirs.flushall()
        replay(path.read_bytes(), valkey.port)
        assert digest(theirs) == digest(client)
        assert state(theirs) == state(client)
