"""Memory: bytes a key, what FLUSHALL and deletion give back, maxmemory policies, active expiry."""

import os
import threading
import time

import pytest
from resp import Error, encode
from servers import is_slotring

SERVER_OPTIONS = ["--enable-debug-command", "yes", "--io-threads", "2"]
KEYS = 150_000
MANY = 70_000  # to be evicted
KEY_BYTES = 16
VALUE_BYTES = 64
KEY_COST_MAX_BYTES = 112  # of 16 + 64: a header, the place in the table, and the rounding of both
RSS_COST_MAX_BYTES = 135
MB = 1 << 20
RSS_TELLS = is_slotring() and "SLOTRING_TEST_VARIANT" not in os.environ    # a sanitizer keeps what is freed
BATCH = 2000


def wait_for(condition, seconds: float = 10.0):
    """Waits until the condition holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def key(number: int) -> str:
    return f"key:{number:012d}"


def load(server, count: int, size: int = VALUE_BYTES, first: int = 0, extra: tuple = ()) -> list:
    """Writes keys in pipelines; returns the errors."""
    command = encode("SET", key(0), b"v" * size, *extra)
    head, tail = command.split(key(0).encode())
    errors: list[Error] = []
    with server.raw(60) as raw:
        for start in range(first, first + count, BATCH):
            numbers = range(start, min(start + BATCH, first + count))
            raw.send(b"".join(b"%bkey:%012d%b" % (head, i, tail) for i in numbers))
            lines = b""
            while lines.count(b"\r\n") < len(numbers):
                lines += raw.socket.recv(1 << 20)
            if lines != b"+OK\r\n" * len(numbers):
                errors += [Error(line[1:].decode()) for line in lines.split(b"\r\n")[:-1]
                           if line != b"+OK"]
    return errors


def used(client) -> int:
    return client.info("memory")["used_memory"]


def settled(client) -> int:
    """used_memory once what was deleted in the background is gone."""
    before = used(client)
    while True:
        time.sleep(0.1)
        now = used(client)
        if now >= before - 4096:
            return now
        before = now


def alive(client, first: int, count: int) -> int:
    return sum(
        client.exists(*[key(i) for i in range(start, min(start + BATCH, first + count))])
        for start in range(first, first + count, BATCH)
    )


# --- what a key costs -------------------------------------------------------------------


@pytest.mark.skipif("SLOTRING_TEST_VARIANT" in os.environ, reason="RSS of a sanitizer's build")
def test_bytes_a_key(own_server):
    server = own_server()
    with server.connect() as client:
        load(server, 1000)  # what the first commands need anyway
        client.flushall()
        used_before, rss_before = used(client), server.rss_bytes()
        load(server, KEYS)
        cost = (used(client) - used_before) / KEYS
        rss_cost = (server.rss_bytes() - rss_before) / KEYS
        print(f"{cost:.1f} bytes a key in used_memory, {rss_cost:.1f} in RSS")
        assert cost > KEY_BYTES + VALUE_BYTES
        assert KEY_BYTES + VALUE_BYTES < client.memory_usage(key(1)) < 150
        if is_slotring():
            assert cost <= KEY_COST_MAX_BYTES
            assert rss_cost <= RSS_COST_MAX_BYTES


def test_memory_grows_with_what_is_kept(client):
    client.set("a", "x" * 100)
    assert 100 < client.memory_usage("a") < 200
    client.set("a", "x" * 100_000)
    assert 100_000 < client.memory_usage("a") < 140_000
    client.set("a", "1")
    assert client.memory_usage("a") < 100
    assert client.memory_usage("none") is None


@pytest.mark.skipif(not RSS_TELLS, reason="RSS of another server, or of a sanitizer's build")
def test_a_burst_leaves_no_receive_buffers(own_server):
    """The rings' buffers, a megabyte a worker, have memory while they are used."""
    server = own_server("--io-threads", "1")
    with server.connect() as client, server.raw() as raw:
        client.info("memory")
        raw.call("SET", "k", "v")
        before = server.rss_bytes()
        burst = encode("APPEND", "none", "") * 400_000
        threading.Thread(target=raw.send, args=(burst,)).start()
        assert set(raw.replies(400_000)) == {0}
    wait_for(lambda: server.rss_bytes() < before + MB // 2, 3)


def test_overwriting_leaks_nothing(client, server):
    load(server, 20_000)
    time.sleep(0.2)
    before = used(client)
    for size in (10, 300, 64, 5000, 1, 64):
        load(server, 20_000, size)
    assert used(client) < before * 1.05 + MB
    for _ in range(3):
        load(server, 20_000, extra=("EX", "1000"))
        load(server, 20_000)
    assert used(client) < before * 1.05 + MB
    assert client.info("keyspace")["db0"]["expires"] == 0


def test_flushall_gives_memory_back(own_server):
    server = own_server()
    with server.connect() as client:
        load(server, 1000)
        client.flushall()
        used_before, rss_before = used(client), server.rss_bytes()
        for command in ("FLUSHALL SYNC", "FLUSHALL ASYNC", "FLUSHDB"):
            load(server, MANY, 600)
            assert server.rss_bytes() > rss_before + MANY * 600
            client.execute_command(*command.split())
            assert client.dbsize() == 0
            wait_for(lambda: used(client) < used_before + 2 * MB)
            if RSS_TELLS:
                wait_for(lambda: server.rss_bytes() < rss_before + 24 * MB)


def test_deletion_gives_memory_back(own_server):
    server = own_server()
    with server.connect() as client:
        used_before, rss_before = used(client), server.rss_bytes()
        load(server, 100_000, 500)
        for start in range(0, 100_000, BATCH):
            client.unlink(*[key(i) for i in range(start, start + BATCH)])
        assert client.dbsize() == 0
        wait_for(lambda: used(client) < used_before + 4 * MB)
        if RSS_TELLS:
            wait_for(lambda: server.rss_bytes() < rss_before + 32 * MB)


# --- maxmemory --------------------------------------------------------------------------


@pytest.fixture
def limited(client):
    """Sets maxmemory to what is used and so many bytes more; takes it away afterwards."""

    def limit(policy: str, more_bytes: int) -> int:
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", settled(client) + more_bytes)
        return client.info("memory")["maxmemory"]

    yield limit
    client.config_set("maxmemory", 0)
    client.config_set("maxmemory-policy", "noeviction")


OOM = Error("OOM command not allowed when used memory > 'maxmemory'.")


def test_noeviction_refuses_writes_only(client, server, limited):
    limited("noeviction", 4 * MB)
    errors = load(server, 100_000)
    assert set(errors) == {OOM}
    with server.raw() as raw:
        assert raw.call("GET", key(0)) == b"v" * VALUE_BYTES
        while raw.call("SET", f"more{raw.call('DBSIZE')}", "x" * 1000) == b"OK":
            pass                           # the connection that is gone made some room
        assert raw.call("SET", "more", "x" * 1000) == OOM
        assert raw.call("INCR", "more") == OOM
        assert raw.call("DEL", *[key(i) for i in range(10_000)]) == 10_000
        wait_for(lambda: raw.call("SET", "more", "x") == b"OK")
    assert client.info("stats")["evicted_keys"] == 0


def test_any_command_evicts(client, server, limited):
    """Over maxmemory it is not only commands that take memory that make room."""
    with server.raw() as raw:
        assert load(server, 20_000) == []
        limited("noeviction", 0)
        client.config_set("maxmemory", used(client) - MB)
        raw.call("DEBUG", "PAUSE-CRON", "1")
        try:
            raw.call("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
            for _ in range(100):
                assert raw.call("PING") == b"PONG"
            assert client.dbsize() < 20_000
        finally:
            raw.call("DEBUG", "PAUSE-CRON", "0")


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_allkeys_policies_keep_the_limit(client, server, limited, policy):
    evicted = client.info("stats")["evicted_keys"]
    maximum = limited(policy, 3 * MB)
    assert load(server, MANY) == []
    assert used(client) <= maximum + MB
    evicted = client.info("stats")["evicted_keys"] - evicted
    assert evicted > 10_000
    client.config_set("maxmemory", 0)
    assert client.dbsize() == MANY - evicted == alive(client, 0, MANY)


@pytest.mark.parametrize("how", ["lru", "lfu", "random", "ttl"])
def test_volatile_policies_spare_keys_without_expiry(client, server, limited, how):
    assert load(server, 5_000) == []
    maximum = limited(f"volatile-{how}", 4 * MB)
    assert load(server, 50_000, first=5_000, extra=("EX", "10000")) == []
    assert used(client) <= maximum + MB
    assert alive(client, 0, 5_000) == 5_000
    assert client.dbsize() < 55_000
    errors = load(server, 50_000, first=200_000)  # once the volatile keys are gone, nothing can go
    assert set(errors) == {OOM}


def test_volatile_ttl_takes_the_soonest_first(client, server, limited):
    limited("volatile-ttl", 8 * MB)
    load(server, 30_000, first=0, extra=("EX", "100000"))
    load(server, 30_000, first=30_000, extra=("EX", "1000"))
    load(server, 30_000, first=60_000)
    client.config_set("maxmemory", 0)
    late, soon = alive(client, 0, 30_000), alive(client, 30_000, 30_000)
    assert 30_000 - late < (30_000 - soon) / 2, (late, soon)


def test_allkeys_lru_keeps_what_is_read(client, server, limited):
    maximum = limited("allkeys-lru", 8 * MB)
    load(server, 40_000)
    assert used(client) < maximum
    time.sleep(2.1)
    for start in range(0, 8000, BATCH):
        client.mget([key(i) for i in range(start, start + BATCH)])
    time.sleep(1.1)
    load(server, 50_000, first=100_000)
    client.config_set("maxmemory", 0)
    read, unread = alive(client, 0, 8000) / 8000, alive(client, 8000, 32_000) / 32_000
    assert unread < 0.95 and 1 - read < (1 - unread) / 2, (read, unread)


def test_allkeys_lfu_keeps_what_is_read_often(client, server, limited):
    client.config_set("lfu-log-factor", 1)
    limited("allkeys-lfu", 8 * MB)
    load(server, 40_000)
    touch = encode("TOUCH", *[key(i) for i in range(8000)])
    with server.raw() as raw:
        raw.send(touch * 20)
        assert raw.replies(20) == [8000] * 20
    load(server, 60_000, first=100_000)
    client.config_set("maxmemory", 0)
    read, unread = alive(client, 0, 8000) / 8000, alive(client, 8000, 32_000) / 32_000
    assert unread < 0.95 and 1 - read < (1 - unread) / 2, (read, unread)
    client.config_set("lfu-log-factor", 10)


def test_a_small_limit_is_kept_to_the_kilobyte(client, server, limited):
    """What is used is compared as INFO says it, not as a sum that lags."""
    for policy in ("allkeys-random", "allkeys-lru", "volatile-ttl"):
        client.flushall()
        maximum = limited(policy, 100 << 10)
        with server.raw() as raw:
            for at in range(0, 4_000, 10):
                raw.pipeline([("SET", f"{policy}:{i}", "x", "EX", 10_000) for i in range(at, at + 10)])
        assert used(client) < maximum + 4096
        client.config_set("maxmemory", 0)
        assert 100 < client.dbsize() < 4_000


def test_long_names_are_evicted_too(client, limited):
    limited("allkeys-lru", MB)
    for i in range(3_000):
        client.set(f"{i}:" + "n" * 1500, "x")
    client.config_set("maxmemory", 0)
    assert 100 < client.dbsize() < 1_500


def test_a_flush_of_a_few_keys_gives_their_memory_back_at_once(client, server):
    before = used(client)
    assert load(server, 5_000) == []
    client.flushall()
    assert used(client) < before + 64 * 1024


def unread_replies(server, clients: int, times: int) -> list:
    """Connections that ask for the key `big` so often and read nothing."""
    found = [server.raw(recv_bytes=4096) for _ in range(clients)]
    for raw in found:
        raw.send(encode("GET", "big") * times)
    return found


def test_replies_that_nobody_reads_push_keys_out(client, server, limited):
    """The buffers of connections are memory in use; without maxmemory-clients keys make room for them."""
    client.set("big", "x" * 100_000)
    for i in range(50):
        client.set(f"k{i}", "x" * 100_000)
    limited("allkeys-random", 2 * MB)
    slow = unread_replies(server, 8, 100)
    try:
        wait_for(lambda: client.info("stats")["evicted_keys"] > 0 and client.dbsize() < 51)
    finally:
        for raw in slow:
            raw.close()


def test_maxmemory_clients_closes_who_takes_most(client, server):
    """The largest go, none that said CLIENT NO-EVICT, and no key."""
    client.config_resetstat()
    client.set("big", "x" * 100_000)
    with server.raw() as kept, server.raw() as small:
        assert kept.call("CLIENT", "NO-EVICT", "ON") == b"OK"
        kept.send(encode("GET", "big") * 150)
        slow = unread_replies(server, 2, 200)
        try:
            wait_for(lambda: client.info("memory")["mem_clients_normal"] > 20 * MB)
            client.config_set("maxmemory-clients", 20 * MB)
            wait_for(lambda: client.info("stats")["evicted_clients"] == 2)
            wait_for(lambda: client.info("clients")["connected_clients"] == 3)   # the last test's may be going still
            assert small.call("PING") == b"PONG"
            assert client.dbsize() == 1
            wait_for(lambda: client.info("memory")["mem_clients_normal"] < 20 * MB)
        finally:
            client.config_set("maxmemory-clients", 0)
            for raw in slow:
                raw.close()


def test_maxmemory_clients_as_a_share(client, server):
    """-N is N percent of maxmemory, and follows it."""
    client.config_resetstat()
    client.config_set("maxmemory", 1 << 30)
    client.config_set("maxmemory-clients", "1%")
    client.set("big", "x" * 100_000)
    slow = unread_replies(server, 1, 300)
    try:
        wait_for(lambda: client.info("stats")["evicted_clients"] == 1)
    finally:
        client.config_set("maxmemory-clients", 0)
        client.config_set("maxmemory", 0)
        slow[0].close()


def test_no_eviction_while_paused_or_importing(client, server, limited):
    client.set("a", 1)
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("import-mode", "yes")
    client.config_set("maxmemory", 1)
    with server.raw() as raw:
        assert raw.call("SET", "b", "1") == OOM
        time.sleep(0.3)
        assert raw.call("DBSIZE") == 1
        raw.call("CONFIG", "SET", "maxmemory", "0")
        raw.call("CONFIG", "SET", "import-mode", "no")
        raw.call("CLIENT", "PAUSE", "100000", "WRITE")
        raw.call("CONFIG", "SET", "maxmemory", "1")
        time.sleep(0.3)
        assert raw.call("DBSIZE") == 1
        raw.call("CLIENT", "UNPAUSE")
        wait_for(lambda: raw.call("DBSIZE") == 0)
    client.config_set("maxmemory", 0)
    client.config_set("maxmemory-policy", "noeviction")


# --- expiry -----------------------------------------------------------------------------


def test_active_expiry_removes_what_nobody_reads(client, server):
    expired = client.info("stats")["expired_keys"]
    load(server, 1000, first=100_000)
    before = used(client)
    load(server, 50_000, extra=("PX", "300"))
    assert client.info("keyspace")["db0"]["expires"] > 0
    wait_for(lambda: client.dbsize() == 1000)
    assert client.info("stats")["expired_keys"] - expired == 50_000
    assert client.info("keyspace")["db0"]["expires"] == 0
    wait_for(lambda: used(client) < before + 2 * MB)


def test_expiry_on_access_without_active_expiry(client, server):
    client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    try:
        load(server, 5000, extra=("PX", "50"))
        time.sleep(0.3)
        assert client.dbsize() == 5000
        assert alive(client, 0, 5000) == 0
        assert client.mget([key(i) for i in range(10)]) == [None] * 10
        assert client.dbsize() == 0
    finally:
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "1")


def test_expiry_in_every_database(server, client):
    for db in range(16):
        with server.connect(db=db) as other:
            other.set("short", "1", px=100)
            other.set("long", "1", ex=1000)
            other.set("kept", "1")
    wait_for(lambda: all(client.info("keyspace")[f"db{db}"]["keys"] == 2 for db in range(16)))
    assert all(client.info("keyspace")[f"db{db}"]["expires"] == 1 for db in range(16))


def test_expiry_is_not_early(client):
    for _ in range(5):
        client.set("e", "1", px=150)
        written = time.monotonic()
        while client.get("e") is not None:
            time.sleep(0.002)
        assert 0.140 < time.monotonic() - written < 0.5


def advised_bytes(pid: int) -> int:
    """Bytes of a process that are mapped with an advice for huge pages."""
    total = size = 0
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            if line.startswith("Size:"):
                size = int(line.split()[1]) << 10
            elif line.startswith("VmFlags:") and "hg" in line.split():
                total += size
    return total


@pytest.mark.skipif(not os.path.exists("/sys/kernel/mm/transparent_hugepage"), reason="the kernel has no huge pages")
def test_which_memory_has_huge_pages(slotring_only, own_server):
    """A small store none, a large one nearly all, an emptied one none again: the kernel would fill its holes."""
    server = own_server("--io-threads", "1")
    assert load(server, 50_000) == []
    assert advised_bytes(server.pid) == 0
    assert load(server, 400_000) == []
    mapped = 400_000 * (KEY_BYTES + VALUE_BYTES)
    wait_for(lambda: advised_bytes(server.pid) > mapped)
    with server.raw() as raw:
        raw.call("FLUSHALL")
    wait_for(lambda: advised_bytes(server.pid) < mapped // 4, 20)
