"""Administration: INFO, CLIENT, COMMAND, HELLO, logs, LATENCY, MEMORY, DEBUG, MONITOR."""

import hashlib
import re
import threading
import time

import pytest
import redis
from resp import Closed, Error, Push, Set
from servers import is_slotring

SERVER_OPTIONS = ["--enable-debug-command", "yes"]

SYNTAX = "ERR syntax error"
DEFAULT_SECTIONS = (
    "Server Clients Memory Persistence Stats Replication CPU Modules Errorstats Cluster Keyspace"
)


@pytest.fixture
def raw(server):
    with server.raw() as connection:
        connection.call("FLUSHALL")
        yield connection


def wait_for(condition, timeout_s=5.0):
    """Until the condition holds; its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.01)
    return value


def titles(text: bytes) -> list[str]:
    return [line[2:].decode() for line in text.split(b"\r\n") if line.startswith(b"# ")]


def fields(text: bytes) -> dict[bytes, bytes]:
    return dict(line.split(b":", 1) for line in text.split(b"\r\n") if b":" in line)


# ---- INFO


def test_info_sections(raw):
    assert titles(raw.call("INFO")) == DEFAULT_SECTIONS.split()
    assert raw.call("INFO", "nosuch") == b""
    assert titles(raw.call("INFO", "keyspace", "CPU")) == ["CPU", "Keyspace"]
    assert titles(raw.call("INFO", "default")) == DEFAULT_SECTIONS.split()
    every = titles(raw.call("INFO", "everything"))
    assert every == titles(raw.call("INFO", "all"))
    assert {"TLS", "Commandstats", "Latencystats", "Cluster Info"} < set(every)
    assert titles(raw.call("INFO", "commandstats", "default"))[7:9] == ["Modules", "Commandstats"]


def test_info_says_who_the_server_is(raw, slotring_only):
    found = fields(raw.call("INFO", "server"))
    assert found[b"server_name"] == b"valkey"
    assert found[b"redis_version"] == b"7.2.4"
    assert found[b"valkey_version"] == b"9.1.2"
    assert re.fullmatch(rb"\d+\.\d+\.\d+", found[b"slotring_version"])
    assert re.fullmatch(rb"[0-9a-f]{40}", found[b"run_id"])
    assert found[b"multiplexing_api"] in (b"epoll", b"io_uring")


def test_info_is_verbatim_in_resp3(raw):
    raw.call("HELLO", 3)
    raw.send(b"*2\r\n$4\r\nINFO\r\n$7\r\ncluster\r\n")
    time.sleep(0.2)
    assert raw.socket.recv(4096) == b"=34\r\ntxt:# Cluster\r\ncluster_enabled:0\r\n\r\n"


def test_info_counts(client):
    before = client.info("everything")
    for _ in range(10):
        client.set("k", 1)
    client.get("k")
    client.get("nokey")
    with pytest.raises(redis.ResponseError):
        client.execute_command("SET", "k", "v", "NOSUCHOPTION")
    after = client.info("everything")
    assert after["total_commands_processed"] - before["total_commands_processed"] >= 13
    assert after["keyspace_hits"] - before["keyspace_hits"] == 1
    assert after["keyspace_misses"] - before["keyspace_misses"] == 1
    assert after["total_error_replies"] > before["total_error_replies"]
    assert after["errorstat_ERR"]["count"] > before.get("errorstat_ERR", {}).get("count", 0)
    old = before.get("cmdstat_set", {"calls": 0, "failed_calls": 0})
    assert after["cmdstat_set"]["calls"] - old["calls"] == 11
    assert after["cmdstat_set"]["failed_calls"] - old["failed_calls"] == 1
    assert set(after["latency_percentiles_usec_set"]) == {"p50", "p99", "p99.9"}
    assert after["total_net_input_bytes"] > before["total_net_input_bytes"]


def test_info_keyspace_and_memory(client):
    assert client.info("keyspace") == {}
    client.set("a", "b")
    client.set("c", "d", px=100_000)
    found = client.info("keyspace")["db0"]
    assert (found["keys"], found["expires"]) == (2, 1)
    assert found["avg_ttl"] <= 100_000
    if is_slotring():       # Valkey knows it only after a while
        assert found["avg_ttl"] > 90_000
    before = client.info("memory")
    client.execute_command("DEBUG", "POPULATE", 1000, "big", 1000)
    after = client.info("memory")
    assert after["used_memory"] - before["used_memory"] > 1_000_000
    assert after["used_memory_peak"] >= after["used_memory"]
    assert after["used_memory_dataset"] > 900_000
    assert client.info("stats")["instantaneous_ops_per_sec"] >= 0


# ---- CLIENT


def line_of(text: bytes) -> dict[bytes, bytes]:
    return dict(word.split(b"=", 1) for word in text.split())


def test_client_list_and_info(raw, server):
    number = raw.call("CLIENT", "ID")
    raw.call("CLIENT", "SETNAME", "probe")
    raw.call("CLIENT", "SETINFO", "LIB-NAME", "lib")
    raw.call("CLIENT", "SETINFO", "lib-ver", "1.2")
    raw.call("SELECT", 3)
    found = line_of(raw.call("CLIENT", "INFO"))
    assert int(found[b"id"]) == number
    assert found[b"name"] == b"probe"
    assert (found[b"lib-name"], found[b"lib-ver"]) == (b"lib", b"1.2")
    assert found[b"db"] == b"3"
    assert found[b"laddr"] == b"127.0.0.1:%d" % server.port
    assert found[b"addr"] == b"127.0.0.1:%d" % raw.socket.getsockname()[1]
    assert found[b"cmd"] == b"client|info"
    assert found[b"flags"] == b"N"
    own = [line_of(line) for line in raw.call("CLIENT", "LIST", "ID", number).splitlines()]
    assert [row[b"id"] for row in own] == [b"%d" % number]
    for filters in (
        ("NAME", "probe"), ("DB", 3), ("LIB-NAME", "lib"), ("LIB-VER", "1.2"), ("TYPE", "normal"),
        ("ADDR", found[b"addr"]), ("LADDR", found[b"laddr"]), ("USER", "default"), ("FLAGS", "N"),
        ("IP", "127.0.0.1"), ("ID", number, "SKIPME", "no"), ("NOT-TYPE", "pubsub"),
        ("NOT-NAME", "other"), ("NOT-DB", 1), ("NOT-ID", 99999), ("NOT-FLAGS", "P"),
    ):  # fmt: skip
        ids = re.findall(rb"(?m)^id=(\d+) ", raw.call("CLIENT", "LIST", *filters))
        assert b"%d" % number in ids, filters
    for filters in (
        ("NAME", "other"), ("NOT-NAME", "probe"), ("DB", 1), ("TYPE", "pubsub"),
        ("SKIPME", "yes"), ("NOT-ID", number), ("MAXAGE", 1000), ("IDLE", 1000), ("IP", "9.9.9.9"),
        ("ADDR", "9.9.9.9:1"), ("FLAGS", "x"), ("CAPA", "r"), ("NOT-USER", "default"),
    ):  # fmt: skip
        ids = re.findall(rb"(?m)^id=(\d+) ", raw.call("CLIENT", "LIST", *filters))
        assert b"%d" % number not in ids, filters


def test_client_filter_errors(raw):
    def reply(*args):
        return raw.call("CLIENT", "LIST", *args)

    assert reply("ID") == SYNTAX
    assert reply("ID", "x") == SYNTAX
    assert reply("ID", 0) == "ERR client-id should be greater than 0"
    assert reply("TYPE", "foo") == "ERR Unknown client type 'foo'"
    assert reply("USER", "foo") == "ERR No such user 'foo'"
    assert reply("SKIPME", "perhaps") == SYNTAX
    assert reply("MAXAGE", "x") == "ERR maxage is not an integer or out of range"
    assert reply("IDLE", 0) == "ERR idle should be greater than 0"
    assert reply("DB", 99) == "ERR DB number should be between 0 and 15"
    assert reply("NOT-DB", "x") == "ERR NOT-DB is not an integer or out of range"
    assert reply("FLAGS", "zz") == "ERR Unknown flags found in the provided filter: zz"
    assert reply("NOT-CAPA", "z") == "ERR Unknown capa found in the NOT-CAPA filter: z"


def test_client_name(raw):
    assert raw.call("CLIENT", "GETNAME") is None
    bad = "ERR Client names cannot contain spaces, newlines or special characters."
    assert raw.call("CLIENT", "SETNAME", "a b") == bad
    assert raw.call("CLIENT", "SETNAME", "abc") == b"OK"
    assert raw.call("CLIENT", "GETNAME") == b"abc"
    assert raw.call("CLIENT", "SETNAME", "") == b"OK"
    assert raw.call("CLIENT", "GETNAME") is None
    assert raw.call("CLIENT", "SETINFO", "x", "y") == "ERR Unrecognized option 'x'"


def test_client_kill(raw, server):
    with server.raw() as other:
        number = other.call("CLIENT", "ID")
        assert raw.call("CLIENT", "KILL", "ID", number) == 1
        assert other.is_closed()
    with server.raw() as other:
        addr = b"127.0.0.1:%d" % other.socket.getsockname()[1]
        other.call("PING")
        assert raw.call("CLIENT", "KILL", addr) == b"OK"
        assert other.is_closed()
    assert raw.call("CLIENT", "KILL", "9.9.9.9:1") == "ERR No such client"
    assert raw.call("CLIENT", "KILL", "ID", 999999) == 0
    own = raw.call("CLIENT", "ID")
    assert raw.call("CLIENT", "KILL", "ID", own) == 0
    assert raw.call("CLIENT", "KILL", "ID", own, "SKIPME", "no") == 1
    assert raw.is_closed()


def test_client_reply(raw):
    raw.send(b"CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY SKIP\r\nPING\r\nCLIENT REPLY ON\r\n")
    assert raw.reply() == b"OK"
    raw.send(b"CLIENT REPLY SKIP\r\nPING one\r\nPING two\r\n")
    assert raw.reply() == b"two"
    assert raw.call("CLIENT", "REPLY", "foo") == SYNTAX


def test_client_switches(raw):
    assert raw.call("CLIENT", "NO-EVICT", "on") == b"OK"
    assert raw.call("CLIENT", "NO-TOUCH", "ON") == b"OK"
    assert raw.call("CLIENT", "CAPA", "redirect", "foo") == b"OK"
    found = line_of(raw.call("CLIENT", "INFO"))
    assert (found[b"flags"], found[b"capa"]) == (b"eT", b"r")
    assert raw.call("CLIENT", "NO-EVICT", "off") == b"OK"
    assert raw.call("CLIENT", "NO-TOUCH", "off") == b"OK"
    assert line_of(raw.call("CLIENT", "INFO"))[b"flags"] == b"N"
    assert raw.call("CLIENT", "NO-TOUCH", "foo") == SYNTAX
    assert raw.call("CLIENT", "IMPORT-SOURCE", "on") == "ERR Server is not in import mode"
    assert raw.call("CLIENT", "UNBLOCK", 99999) == 0
    assert raw.call("CLIENT", "TRACKINGINFO") == [
        b"flags", [b"off"], b"redirect", -1, b"prefixes", []
    ]  # fmt: skip


def test_client_pause(raw, server):
    assert raw.call("CLIENT", "PAUSE", "x") == "ERR timeout is not an integer or out of range"
    assert raw.call("CLIENT", "PAUSE", -1) == "ERR timeout is negative"
    mode = raw.call("CLIENT", "PAUSE", 1, "foo")
    assert mode == "ERR CLIENT PAUSE mode must be WRITE or ALL"
    with server.raw() as other:
        other.call("SET", "k", "1")
        assert raw.call("CLIENT", "PAUSE", 60000, "WRITE") == b"OK"
        found = fields(raw.call("INFO", "clients"))
        assert found[b"paused_actions"] == b"write"
        assert found[b"paused_reason"] == b"client_pause"
        assert 0 < int(found[b"paused_timeout_milliseconds"]) <= 60000
        assert other.call("GET", "k") == b"1"
        other.send(b"SET k 2\r\n")
        with pytest.raises(TimeoutError):
            other.reply(0.2)
        assert raw.call("CLIENT", "UNPAUSE") == b"OK"
        assert other.reply() == b"OK"
        assert raw.call("CLIENT", "PAUSE", 200, "WRITE") == b"OK"
        began = time.monotonic()
        assert other.call("SET", "k", "3") == b"OK"
        assert 0.1 < time.monotonic() - began < 5
    assert fields(raw.call("INFO", "clients"))[b"paused_actions"] == b"none"


# ---- HELLO, AUTH, RESET


def test_hello(raw):
    found = raw.call("HELLO", 3, "SETNAME", "me")
    assert isinstance(found, dict)
    assert found[b"server"] == b"valkey"
    assert found[b"version"] == b"9.1.2"
    assert found[b"proto"] == 3
    assert (found[b"mode"], found[b"role"]) == (b"standalone", b"master")
    assert raw.call("CLIENT", "GETNAME") == b"me"
    assert raw.call("HELLO")[b"proto"] == 3
    assert isinstance(raw.call("HELLO", 2), list)
    assert raw.call("HELLO", "x") == "ERR Protocol version is not an integer or out of range"
    assert raw.call("HELLO", 4) == "NOPROTO unsupported protocol version"
    assert raw.call("HELLO", 2, "FOO") == "ERR Syntax error in HELLO option 'FOO'"
    assert raw.call("HELLO", 2, "AUTH", "u", "p").startswith("WRONGPASS ")
    assert raw.call("AUTH", "x").startswith("ERR AUTH <password> called without any password")
    assert raw.call("AUTH", "default", "anything") == b"OK"
    assert raw.call("AUTH", "a", "b", "c") == SYNTAX


def test_reset(raw):
    raw.call("HELLO", 3, "SETNAME", "me")
    raw.call("SELECT", 2)
    raw.call("CLIENT", "NO-TOUCH", "on")
    assert raw.call("RESET") == b"RESET"
    found = line_of(raw.call("CLIENT", "INFO"))
    assert (found[b"name"], found[b"db"], found[b"resp"], found[b"flags"]) == (b"", b"0", b"2", b"N")


def test_password(own_server):
    server = own_server("--requirepass", "secret")
    with server.raw() as raw:
        assert raw.call("GET", "k") == "NOAUTH Authentication required."
        assert raw.call("HELLO", 3).startswith("NOAUTH HELLO must be called")
        assert raw.call("AUTH", "wrong").startswith("WRONGPASS ")
        assert raw.call("AUTH", "nobody", "secret").startswith("WRONGPASS ")
        assert raw.call("HELLO", 3, "AUTH", "default", "secret")[b"proto"] == 3
        assert raw.call("GET", "k") is None
        assert fields(raw.call("INFO", "stats"))[b"acl_access_denied_auth"] == b"2"
        assert raw.call("RESET") == b"RESET"
        assert raw.call("GET", "k") == "NOAUTH Authentication required."
        assert raw.call("AUTH", "secret") == b"OK"
        assert raw.call("GET", "k") is None


# ---- COMMAND


def test_command_info(raw):
    get, none, sub = raw.call("COMMAND", "INFO", "GET", "nosuch", "client|list")
    assert none is None
    assert get[:6] == [b"get", 2, [b"readonly", b"fast"], 1, 1, 1]
    assert get[6] == [b"@read", b"@string", b"@fast"]
    assert get[8][0][1] == [b"RO", b"access"]
    assert sub[:3] == [b"client|list", -2, [b"admin", b"noscript", b"loading", b"stale"]]
    assert raw.call("COMMAND", "INFO", "get|key") == [None]
    rows = raw.call("COMMAND")
    assert len(rows) == raw.call("COMMAND", "COUNT") == len(raw.call("COMMAND", "INFO"))
    client = next(row for row in rows if row[0] == b"client")
    assert b"client|id" in [row[0] for row in client[9]]
    raw.call("HELLO", 3)
    get = raw.call("COMMAND", "INFO", "get")[0]
    assert isinstance(get[2], Set)
    assert isinstance(get[8], Set)
    assert get[8][0][b"begin_search"] == {b"type": b"index", b"spec": {b"index": 1}}


def test_command_docs(client):
    found = client.execute_command("COMMAND DOCS", "client", "get", "nosuch")
    found = dict(zip(found[::2], found[1::2], strict=True))
    assert set(found) == {b"client", b"get"}
    text = dict(zip(found[b"get"][::2], found[b"get"][1::2], strict=True))
    assert (text[b"since"], text[b"group"]) == (b"1.0.0", b"string")
    text = dict(zip(found[b"client"][::2], found[b"client"][1::2], strict=True))
    assert b"client|id" in text[b"subcommands"]


def test_command_list(raw):
    names = raw.call("COMMAND", "LIST")
    assert {b"get", b"client|list", b"command"} <= set(names)
    assert raw.call("COMMAND", "LIST", "FILTERBY", "PATTERN", "client|i[dn]*") == [
        b"client|id", b"client|info"
    ]  # fmt: skip
    assert raw.call("COMMAND", "LIST", "FILTERBY", "MODULE", "x") == []
    assert raw.call("COMMAND", "LIST", "FILTERBY", "ACLCAT", "nosuch") == []
    strings = raw.call("COMMAND", "LIST", "FILTERBY", "ACLCAT", "string")
    assert b"get" in strings
    assert b"client" not in strings
    assert raw.call("COMMAND", "LIST", "FILTERBY", "bad") == SYNTAX


def test_command_getkeys(raw):
    def keys(*args):
        return raw.call("COMMAND", "GETKEYS", *args)

    assert keys("get", "k") == [b"k"]
    assert keys("mset", "a", 1, "b", 2) == [b"a", b"b"]
    assert keys("memory", "usage", "k") == [b"k"]
    assert keys("msetex", 2, "a", 1, "b", 2, "ex", 10) == [b"a", b"b"]
    assert keys("msetex", 5, "a", 1) == "ERR Invalid arguments specified for command"
    assert keys("nosuch") == "ERR Invalid command specified"
    assert keys("info") == "ERR The command has no key arguments"
    assert keys("get") == "ERR Invalid number of arguments specified for command"
    flags = raw.call("COMMAND", "GETKEYSANDFLAGS", "set", "k", "v")
    assert flags == [[b"k", [b"OW", b"update"]]]
    flags = raw.call("COMMAND", "GETKEYSANDFLAGS", "set", "k", "v", "get")
    assert flags == [[b"k", [b"RW", b"access", b"update"]]]


@pytest.mark.parametrize("head", ["client", "command", "slowlog", "commandlog", "latency", "memory"])
def test_containers(raw, head):
    unknown = raw.call(head, "NOSUCH")
    assert unknown == f"ERR unknown subcommand 'NOSUCH'. Try {head.upper()} HELP."
    lines = raw.call(head, "HELP")
    assert lines[0].startswith(head.upper().encode() + b" <subcommand> [<arg> [value] [opt] ...]")
    assert raw.call(head, "HELP", "x") == (
        f"ERR wrong number of arguments for '{head}|help' command"
    )
    assert raw.call(f"{head}|HELP").startswith(f"ERR unknown command '{head}|HELP'")


# ---- logs


def test_slowlog(raw):
    raw.call("CONFIG", "SET", "slowlog-log-slower-than", 0, "slowlog-max-len", 10)
    raw.call("SLOWLOG", "RESET")
    raw.call("CLIENT", "SETNAME", "me")
    raw.call("SET", "k", "A" * 129)
    raw.call("DEL", *range(40))
    raw.call("AUTH", "default", "secret")
    raw.call("CONFIG", "SET", "slowlog-log-slower-than", -1)
    entries = raw.call("SLOWLOG", "GET")
    by_name = {entry[3][0]: entry for entry in entries}
    assert entries[0][0] > entries[-1][0]
    assert by_name[b"SET"][3] == [b"SET", b"k", b"A" * 128 + b"... (1 more bytes)"]
    assert len(by_name[b"DEL"][3]) == 32
    assert by_name[b"DEL"][3][31] == b"... (10 more arguments)"
    assert by_name[b"AUTH"][3] == [b"AUTH", b"(redacted)", b"(redacted)"]
    assert by_name[b"SET"][4] == b"127.0.0.1:%d" % raw.socket.getsockname()[1]
    assert by_name[b"SET"][5] == b"me"
    assert abs(by_name[b"SET"][1] - time.time()) < 60
    assert len(raw.call("SLOWLOG", "GET", 2)) == 2
    assert raw.call("SLOWLOG", "LEN") == len(raw.call("SLOWLOG", "GET", -1))
    bad = "ERR count should be greater than or equal to -1"
    assert raw.call("SLOWLOG", "GET", -2) == bad
    assert raw.call("SLOWLOG", "RESET") == b"OK"
    assert raw.call("SLOWLOG", "LEN") == 0
    raw.call("CONFIG", "SET", "slowlog-log-slower-than", 0)
    for _ in range(30):
        raw.call("PING")
    raw.call("CONFIG", "SET", "slowlog-log-slower-than", 10000)
    assert raw.call("SLOWLOG", "LEN") == 10
    raw.call("CONFIG", "SET", "slowlog-max-len", 128)


def test_commandlog(raw):
    raw.call("CONFIG", "SET", "commandlog-request-larger-than", 1000)
    raw.call("CONFIG", "SET", "commandlog-reply-larger-than", 1000)
    for kind in ("slow", "large-request", "large-reply"):
        assert raw.call("COMMANDLOG", "RESET", kind) == b"OK"
    raw.call("SET", "k", "x" * 2000)
    raw.call("GET", "k")
    requests = raw.call("COMMANDLOG", "GET", -1, "large-request")
    assert [entry[3][0] for entry in requests] == [b"SET"]
    assert requests[0][2] > 2000
    replies = raw.call("COMMANDLOG", "GET", 10, "large-reply")
    assert [entry[3] for entry in replies] == [[b"GET", b"k"]]
    assert raw.call("COMMANDLOG", "LEN", "large-reply") == 1
    bad = "ERR type should be one of the following: slow, large-request, large-reply"
    assert raw.call("COMMANDLOG", "LEN", "foo") == bad
    raw.call("CONFIG", "SET", "commandlog-request-larger-than", 1048576)
    raw.call("CONFIG", "SET", "commandlog-reply-larger-than", 1048576)


# ---- LATENCY


def test_latency_events(raw):
    raw.call("CONFIG", "SET", "latency-monitor-threshold", 50)
    raw.call("LATENCY", "RESET")
    raw.call("DEBUG", "SLEEP", 0.1)
    raw.call("CONFIG", "SET", "latency-monitor-threshold", 0)
    (name, when, last, worst, total, count), = raw.call("LATENCY", "LATEST")
    assert name == b"command"
    assert abs(when - time.time()) < 60
    assert 100 <= last == worst == total < 1000
    assert count == 1
    assert raw.call("LATENCY", "HISTORY", "command") == [[when, last]]
    assert raw.call("LATENCY", "HISTORY", "nosuch") == []
    graph = raw.call("LATENCY", "GRAPH", "command")
    assert graph.startswith(b"command - high %d ms, low %d ms (all time high" % (last, last))
    assert raw.call("LATENCY", "GRAPH", "x") == "ERR No samples available for event 'x'"
    assert b"command: 1 latency spikes" in raw.call("LATENCY", "DOCTOR")
    assert raw.call("LATENCY", "RESET", "nosuch") == 0
    assert raw.call("LATENCY", "RESET", "command") == 1
    assert raw.call("LATENCY", "LATEST") == []
    assert raw.call("LATENCY", "DOCTOR")


def test_latency_histogram(raw):
    raw.call("CONFIG", "RESETSTAT")
    raw.call("HELLO", 3)
    for _ in range(5):
        raw.call("SET", "k", "v")
    raw.call("CLIENT", "ID")
    found = raw.call("LATENCY", "HISTOGRAM", "set", "client", "nosuch")
    assert set(found) == {b"set", b"client|id"}
    assert found[b"set"][b"calls"] == 5
    assert max(found[b"set"][b"histogram_usec"].values()) == 5
    assert b"hello" in raw.call("LATENCY", "HISTOGRAM")
    assert raw.call("LATENCY", "HISTOGRAM", "nosuch") == {}


# ---- MEMORY


def test_memory(raw):
    assert raw.call("MEMORY", "USAGE", "nokey") is None
    raw.call("SET", "k", "v" * 1000)
    assert 1000 < raw.call("MEMORY", "USAGE", "k", "SAMPLES", 0) < 1400
    assert raw.call("MEMORY", "USAGE", "k", "SAMPLES") == SYNTAX
    assert raw.call("MEMORY", "USAGE", "k", "SAMPLES", -1) == SYNTAX
    raw.call("HELLO", 3)
    found = raw.call("MEMORY", "STATS")
    assert found[b"keys.count"] == 1
    assert found[b"db.0"][b"overhead.hashtable.main"] > 0
    assert isinstance(found[b"fragmentation"], float)
    assert found[b"total.allocated"] >= found[b"dataset.bytes"] > 1000
    assert raw.call("MEMORY", "PURGE") == b"OK"
    assert raw.call("MEMORY", "DOCTOR")
    assert b"alloc" in raw.call("MEMORY", "MALLOC-STATS")


# ---- DEBUG


def mixed(digest: bytes, data: bytes) -> bytes:
    return hashlib.sha1(folded(digest, data)).digest()


def folded(digest: bytes, data: bytes) -> bytes:
    both = zip(digest, hashlib.sha1(data).digest(), strict=True)
    return bytes(a ^ b for a, b in both)


def test_debug_digest(raw):
    assert raw.call("DEBUG", "DIGEST") == b"0" * 40
    raw.call("SET", "k", "v")
    raw.call("SET", "n", 12345, "EX", 1000)
    values = {}
    for key, value, expires in ((b"k", b"v", False), (b"n", b"12345", True)):
        values[key] = mixed(mixed(bytes(20), b"\0\0\0\0"), value)
        if expires:
            values[key] = folded(values[key], b"!!expire!!")
    assert raw.call("DEBUG", "DIGEST-VALUE", "k", "n", "nokey") == [
        values[b"k"].hex().encode(), values[b"n"].hex().encode(), b"0" * 40
    ]  # fmt: skip
    whole = mixed(bytes(20), b"\0\0\0\0")
    for key, value, expires in ((b"k", b"v", False), (b"n", b"12345", True)):
        one = mixed(mixed(mixed(bytes(20), key), b"\0\0\0\0"), value)
        one = folded(one, b"!!expire!!") if expires else one
        whole = folded(whole, one)
    assert raw.call("DEBUG", "DIGEST") == whole.hex().encode()


def test_debug_populate(raw):
    assert raw.call("DEBUG", "POPULATE", 3) == b"OK"
    assert raw.call("DEBUG", "POPULATE", 12, "p", 20) == b"OK"
    assert raw.call("GET", "key:2") == b"value:2"
    assert raw.call("GET", "p:11") == b"value:11".ljust(20, b"\0")
    assert raw.call("DBSIZE") == 15
    raw.call("SET", "key:1", "mine")
    raw.call("DEBUG", "POPULATE", 3)
    assert raw.call("GET", "key:1") == b"mine"
    bad = "ERR value is out of range, must be positive"
    assert raw.call("DEBUG", "POPULATE", -1) == bad


def test_debug_keys(raw):
    raw.call("SET", "n", 5)
    raw.call("SET", "s", "hello")
    text = raw.call("DEBUG", "OBJECT", "n").decode()
    shape = r"Value at:0x[0-9a-f]+ refcount:1 encoding:int serializedlength:2 lru:\d+ lru_seconds_idle:\d+"
    assert re.fullmatch(shape, text)
    assert b"encoding:embstr" in raw.call("DEBUG", "OBJECT", "s", "FAST")
    assert raw.call("DEBUG", "OBJECT", "nokey") == "ERR no such key"
    assert raw.call("DEBUG", "SDSLEN", "n") == "ERR Not an sds encoded string."
    assert raw.call("DEBUG", "SDSLEN", "s").startswith(b"key_sds_len:1 key_sds_avail:0 obj_alloc:")
    assert b" number of entries: 2\n" in raw.call("DEBUG", "HTSTATS", 0)
    assert b"chain length distribution" in raw.call("DEBUG", "HTSTATS", 0, "full")
    assert raw.call("DEBUG", "HTSTATS", 99) == "ERR Out of range database"
    assert isinstance(raw.call("DEBUG", "HTSTATS-KEY", "s"), Error)


def test_debug_protocol(raw):
    raw.call("HELLO", 3)
    assert raw.call("DEBUG", "PROTOCOL", "double") == 3.141
    assert raw.call("DEBUG", "PROTOCOL", "bignum") == 1234567999999999999999999999999999999
    assert raw.call("DEBUG", "PROTOCOL", "null") is None
    assert raw.call("DEBUG", "PROTOCOL", "map") == {0: False, 1: True, 2: False}
    assert isinstance(raw.call("DEBUG", "PROTOCOL", "set"), Set)
    assert raw.call("DEBUG", "PROTOCOL", "verbatim") == b"This is a verbatim\nstring"
    assert raw.call("DEBUG", "PROTOCOL", "attrib").startswith(b"Some real reply")
    assert raw.call("DEBUG", "PROTOCOL", "push").startswith(b"Some real reply")
    assert isinstance(raw.reply(), Push)
    raw.call("HELLO", 2)
    assert raw.call("DEBUG", "PROTOCOL", "push") == "ERR RESP2 is not supported by this command"
    assert raw.call("DEBUG", "ERROR", "CODE some\ntext") == "CODE some text"


def test_debug_the_rest(raw):
    assert raw.call("DEBUG", "SET-ACTIVE-EXPIRE", 0) == b"OK"
    raw.call("SET", "k", "v", "PX", 1)
    time.sleep(0.4)
    assert raw.call("DBSIZE") == 1
    assert raw.call("DEBUG", "SET-ACTIVE-EXPIRE", 1) == b"OK"
    wait_for(lambda: raw.call("DBSIZE") == 0)
    for args in (("DICT-RESIZING", 1), ("CLIENT-ENFORCE-REPLY-LIST", 0), ("LOG", "x"),
                 ("REPLYBUFFER", "RESIZING", 0), ("REPLYBUFFER", "PEAK-RESET-TIME", "NEVER")):
        assert raw.call("DEBUG", *args) == b"OK"
    for word in ("JMAP", "NOSUCH"):
        assert raw.call("DEBUG", word) == (
            f"ERR unknown subcommand or wrong number of arguments for '{word}'. Try DEBUG HELP."
        )
    assert raw.call("DEBUG", "HELP")[0].startswith(b"DEBUG <subcommand>")


def test_debug_must_be_allowed(own_server):
    with own_server().raw() as raw:
        assert raw.call("DEBUG", "HELP").startswith("ERR DEBUG command not allowed.")
    with own_server("--enable-debug-command", "local").raw() as raw:
        assert raw.call("DEBUG", "SLEEP", 0) == b"OK"


# ---- MONITOR


def test_monitor(raw, server):
    with server.raw() as watcher:
        assert watcher.call("MONITOR") == b"OK"
        assert b"flags=O " in raw.call("CLIENT", "LIST")
        raw.call("SELECT", 9)
        raw.call("SET", "k", b"a\"\\\n\x01\xff z")
        raw.call("AUTH", "default", "secret")
        raw.call("CONFIG", "GET", "maxmemory")      # not shown: administration
        raw.call("GET", "k")
        lines = watcher.replies(4)
        port = raw.socket.getsockname()[1]
        pattern = rb"\d+\.\d{6} \[(\d+) 127\.0\.0\.1:%d\] (.*)" % port
        shown = [re.fullmatch(pattern, line).groups() for line in lines]
        assert shown[1] == (b"9", rb'"SET" "k" "a\"\\\n\x01\xff z"')
        assert shown[2] == (b"9", b'"AUTH" "(redacted)" "(redacted)"')
        assert shown[3] == (b"9", b'"GET" "k"')
        assert watcher.call("RESET") == b"RESET"         # which is not shown
        raw.call("GET", "k")
        with pytest.raises(TimeoutError):
            watcher.reply(0.2)
        assert watcher.call("PING") == b"PONG"


def test_many_threads_ask_at_once(server):
    failures = []

    def ask():
        try:
            with server.raw() as raw:
                for _ in range(10):
                    raw.call("INFO", "everything")
                    raw.call("CLIENT", "LIST")
                    raw.call("LATENCY", "HISTOGRAM")
                    raw.call("MEMORY", "STATS")
                    raw.call("COMMAND", "DOCS")
        except (AssertionError, Closed, TimeoutError, OSError) as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
