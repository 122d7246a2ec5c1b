"""A real Valkey loads our RDB file and we load its: the data is the same to the digest."""

import pytest
from rdbdata import digest, fill

SERVER_OPTIONS = VALKEY_OPTIONS = ["--enable-debug-command", "yes"]
pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("slotring_only")]
POLICIES = ("noeviction", "allkeys-lru", "allkeys-lfu")


@pytest.fixture
def pair(server, valkey):
    """Clients of both servers, which are empty."""
    with server.connect() as ours, valkey.connect() as theirs:
        for client in (ours, theirs):
            client.flushall()
            client.config_set("maxmemory-policy", "noeviction")
        yield (server, ours), (valkey, theirs)


def move(source, target) -> None:
    """The file of one is loaded by the other."""
    (server, client), (other, reader) = source, target
    client.save()
    (other.folder / "dump.rdb").write_bytes((server.folder / "dump.rdb").read_bytes())
    reader.execute_command("DEBUG", "RELOAD", "NOSAVE")


def encodings(client) -> dict:
    """Key -> encoding and time to live, of every key of database 0."""
    found = {}
    for key in sorted(client.keys()):
        found[key] = (client.type(key), client.object("encoding", key), client.pexpiretime(key))
    return found


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ours_first", [True, False], ids=["ours", "theirs"])
def test_the_other_loads_it(pair, ours_first, policy):
    source, target = pair if ours_first else pair[::-1]
    for _, client in pair:
        client.config_set("maxmemory-policy", policy)
    fill(source[1])
    before, kinds = digest(source[1]), encodings(source[1])
    move(source, target)
    assert digest(target[1]) == before
    assert encodings(target[1]) == kinds
    groups = target[1].execute_command("XINFO", "STREAM", "x:3", "FULL")
    assert groups == source[1].execute_command("XINFO", "STREAM", "x:3", "FULL")
    assert target[1].execute_command("HPEXPIRETIME", "h:3", "FIELDS", 2, "f0", "f1") == source[1].execute_command(
        "HPEXPIRETIME", "h:3", "FIELDS", 2, "f0", "f1")
    move(target, source)
    assert digest(source[1]) == before


def test_the_file_of_a_save_in_the_background(pair):
    (server, ours), (valkey, theirs) = pair
    fill(ours)
    ours.bgsave()
    while ours.info("persistence")["rdb_bgsave_in_progress"]:
        pass
    (valkey.folder / "dump.rdb").write_bytes((server.folder / "dump.rdb").read_bytes())
    theirs.execute_command("DEBUG", "RELOAD", "NOSAVE")
    assert digest(theirs) == digest(ours)


def test_idle_and_frequency(pair):
    ours, theirs = pair
    for policy, ask in (("allkeys-lru", "idletime"), ("allkeys-lfu", "freq")):
        for source, target in ((ours, theirs), (theirs, ours)):
            for _, client in pair:
                client.config_set("maxmemory-policy", policy)
            source[1].flushall()
            source[1].set("key", "value")
            payload = source[1].dump("key")
            source[1].restore("key", 0, payload, replace=True, **{"idletime" if ask == "idletime" else "frequency": 90})
            move(source, target)
            assert 85 <= target[1].object(ask, "key") <= 95, (policy, source[0].port)


def test_same_size(pair):
    """The same data makes files of the same length, but for the AUX fields."""
    (server, ours), (valkey, theirs) = pair
    fill(ours)
    move(*pair)
    theirs.save()
    sizes = [len((one.folder / "dump.rdb").read_bytes()) for one in (server, valkey)]
    assert abs(sizes[0] - sizes[1]) < max(64, sizes[1] // 50), sizes
