"""Settings without a server: reading, changing, writing; quoting; replies; log lines."""

import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.quoting import format_memory, parse_memory, quote, split_args
from net import log, reply
from net.config import Config, ConfigError, ConfigFileError, parse_args
from net.settings import ACCEPTED_ONLY
from net.special import cpu_list


@pytest.fixture
def config():
    here = os.getcwd()
    yield Config()
    os.chdir(here)


def failure(config, *pairs, **options):
    with pytest.raises(ConfigError) as caught:
        config.set_many(list(pairs), **options)
    return str(caught.value)


# --- quoting -------------------------------------------------------------------------------------


@given(st.lists(st.binary()))
@settings(deadline=None)
def test_quoted_words_come_back(words):
    assert split_args(b" ".join(quote(word) for word in words)) == words


@given(st.binary())
@settings(deadline=None)
def test_any_line_is_split_or_refused(line):
    words = split_args(line)
    assert words is None or all(isinstance(word, bytes) for word in words)


@pytest.mark.parametrize(("line", "words"), [
    (b"", []),
    (b"  a  b\tc ", [b"a", b"b", b"c"]),
    (b'"a b" \'c d\' e', [b"a b", b"c d", b"e"]),
    (b'"\\x41\\n\\t\\q" \'\\n\\\'\'', [b"A\n\tq", b"\\n'"]),
    (b"\"\" ''", [b"", b""]),
    (b'a"b c"d', [b"ab cd"]),
    (b'"open', None),
    (b"'open", None),
])
def test_split(line, words):
    assert split_args(line) == words


@pytest.mark.parametrize(("text", "amount"), [
    ("0", 0), ("", 0), ("100", 100), ("1b", 1), ("1k", 1000), ("1kb", 1024), ("5MB", 5 << 20),
    ("2g", 2 * 10**9), ("2gb", 2 << 30), ("-1", None), ("1.5mb", None), ("1tb", None),
    ("18446744073709551615", 2**64 - 1), ("18446744073709551616", None),
])
def test_memory(text, amount):
    assert parse_memory(text) == amount


@given(st.integers(0, 2**63))
def test_formatted_memory_is_read_back(amount):
    assert parse_memory(format_memory(amount)) == amount


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "given", "shown"), [
    ("maxmemory", "5mb", "5242880"),
    ("hz", "0", "1"),
    ("hz", "100000", "500"),
    ("maxmemory-clients", "5%", "5%"),
    ("save", "", ""),
    ("save", "1 2 3 4", "1 2 3 4"),
    ("maxmemory-policy", "ALLKEYS-LRU", "allkeys-lru"),
    ("shutdown-on-sigterm", "force nosave", "nosave force"),
    ("shutdown-on-sigterm", "default now", "now"),
    ("notify-keyspace-events", "KEA", "AKE"),
    ("notify-keyspace-events", "gxE", "gxE"),
    ("slave-priority", "7", "7"),
    ("slowlog-log-slower-than", "-1", "-1"),
    ("latency-tracking-info-percentiles", "50 99.90", "50 99.9"),
    ("client-output-buffer-limit", "replica 1mb 1kb 3",
     "normal 0 0 0 slave 1048576 1024 3 pubsub 33554432 8388608 60"),
    ("slot-migration-max-failover-repl-bytes", "-1", "-1"),
])
def test_set_and_get(config, name, given, shown):
    config.set_many([(name.upper(), given)])
    assert config.get([name]) == {name: shown}


@pytest.mark.parametrize(("name", "given", "why"), [
    ("maxmemory", "x", "argument must be a memory value"),
    ("maxmemory-clients", "x", "argument must be a memory or percent value"),
    ("maxmemory-clients", "101%", "percentage argument must be less or equal to 100"),
    ("port", "70000", "argument must be between 0 and 65535 inclusive"),
    ("port", "+1", "argument couldn't be parsed into an integer"),
    ("maxclients", "-5", "argument must be between 1 and 4294967295 inclusive"),
    ("appendonly", "maybe", "argument must be 'yes' or 'no'"),
    ("appendfsync", "later",
     "argument(s) must be one of the following: everysec, always, no"),
    ("save", "1 2 3", "Invalid save parameters"),
    ("daemonize", "yes", "can't set immutable config"),
    ("dir", "/", "can't set protected config"),
    ("notify-keyspace-events", "?",
     "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
    ("proc-title-template", "{nothing}",
     "template format is invalid or contains unknown variables"),
])
def test_refusals(config, name, given, why):
    assert failure(config, (name, given)) == (
        f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


def test_unknown_and_twice(config):
    assert failure(config, ("foo", "1")) == (
        "ERR Unknown option or number of arguments for CONFIG SET - 'foo'")
    assert failure(config, ("hz", "1"), ("HZ", "2")) == (
        "ERR CONFIG SET failed (possibly related to argument 'HZ') - duplicate parameter")


def test_protected_settings_may_be_left_to_local_clients(config, tmp_path):
    config.load_text(b"enable-protected-configs local")
    assert "protected" in failure(config, ("dir", str(tmp_path)))
    config.set_many([("dir", str(tmp_path))], local=True)
    assert config.get_text("dir") == str(tmp_path)


def test_all_or_nothing(config):
    failure(config, ("maxmemory", "1mb"), ("hz", "x"))
    assert config.get_value("maxmemory") == 0


def test_a_hook_may_refuse(config):
    seen = []
    config.on_change("maxmemory", seen.append)

    def refuse(value):
        if value == 7:
            raise ConfigError("seven is not to be")

    config.on_change("timeout", refuse)
    config.set_many([("timeout", "8")])
    assert "seven" in failure(config, ("maxmemory", "1mb"), ("timeout", "7"))
    assert (config.get_value("maxmemory"), config.get_value("timeout")) == (0, 8)
    assert seen == [1 << 20, 0]
    config.set_many([("maxmemory", "0")])
    assert seen == [1 << 20, 0], "nothing has changed, so no hook"


def test_get_patterns(config):
    assert set(config.get(["*max-zip*-value"])) == {
        "hash-max-ziplist-value", "zset-max-ziplist-value"}
    assert config.get(["MaxMemory"]) == {"MaxMemory": "0"}
    assert list(config.get(["timeout", "d[a-d]*s*"])) == ["databases", "timeout"]
    assert config.get(["use-exit-on-*"]) == {}
    assert config.get(["use-exit-on-panic"]) == {"use-exit-on-panic": "no"}
    assert config.get(["nothing"]) == {}
    everything = config.get(["*"])
    assert everything["save"] == "3600 1 300 100 60 10000"
    assert list(everything) == sorted(everything)
    assert set(ACCEPTED_ONLY) <= set(config.table)


# --- files and arguments -------------------------------------------------------------------------


def test_file(config, tmp_path):
    extra = tmp_path / "extra.conf"
    extra.write_text("hz 50\n")
    path = tmp_path / "valkey.conf"
    path.write_bytes(b"# comment\n\n  PORT 7000\nbind 127.0.0.1 -::1\nsave 1 2\nsave 3 4\n"
                     b"requirepass 'a b'\nclient-output-buffer-limit pubsub 1mb 1kb 5\n"
                     b"io-threads-do-reads yes\nuser bob on\n"
                     b"include " + os.fsencode(tmp_path / "ext*.conf") + b"\n")
    config.load_args([str(path), "--port", "7001", "--maxmemory 5mb"])
    assert config.get_value("port") == 7001
    assert config.get_value("bind") == ("127.0.0.1", "-::1")
    assert config.get_value("save") == ((1, 2), (3, 4))
    assert config.get_value("requirepass") == "a b"
    assert config.get_value("hz") == 50
    assert config.get_value("client-output-buffer-limit")[2] == (1 << 20, 1024, 5)
    assert config.path == str(path)
    assert config.directives[0][:2] == ("user", [b"bob", b"on"])


def test_settings_from_stdin_come_after_the_file(config, tmp_path):
    path = tmp_path / "valkey.conf"
    path.write_text("port 1\nhz 20\n")
    config.load_args([str(path), "--timeout", "3", "-"], io.BytesIO(b"port 2\ntimeout 2"))
    assert [config.get_value(name) for name in ("port", "hz", "timeout")] == [2, 20, 3]


@pytest.mark.parametrize(("argv", "options"), [
    (["--port", "1"], b'port "1" '),
    (["--port 1", "--hz", "2"], b'port 1 \nhz "2" '),
    (["--save", "--loglevel", "verbose"], b'save ""\nloglevel "verbose" '),
    (["--loglevel", "verbose", "--save"], b'loglevel "verbose" \nsave ""'),
    (["--proc-title-template", "--my--title", "--hz", "1"],
     b'proc-title-template "--my--title" \nhz "1" '),
    (["a.conf", "loglevel", "verbose", "--maxmemory '7mb'"],
     b'"loglevel" "verbose" \nmaxmemory \'7mb\' '),
])
def test_options_become_lines(argv, options):
    assert parse_args(argv)[2] == options


@pytest.mark.parametrize(("text", "number", "why"), [
    (b"port 1\nfoo bar", 2, "Bad directive or wrong number of arguments"),
    (b'bind "open', 1, "Unbalanced quotes in configuration line"),
    (b"port 1 2", 1, "wrong number of arguments"),
    (b"\n\nhz x", 3, "argument couldn't be parsed into an integer"),
    (b"replicaof a 1\ncluster-enabled yes", 0, "replicaof directive not allowed in cluster mode"),
])
def test_wrong_lines(config, text, number, why):
    with pytest.raises(ConfigFileError) as caught:
        config.load_text(text)
    assert (str(caught.value), caught.value.number) == (why, number)
    report = caught.value.report("9.1.2")
    assert report.startswith("\n*** FATAL CONFIG FILE ERROR (Version 9.1.2) ***\n")
    assert report.endswith(why + "\n")


def test_rewrite_keeps_comments_and_order(config, tmp_path):
    path = tmp_path / "valkey.conf"
    path.write_text("# mine\nport 1\n\n\n\nslave-priority 5\nsave 1 2\nsave 3 4\nodd thing\nhz 10\n"
                    "include none*.conf\n")
    config.path = str(path)
    config.load_text(b"port 1\nslave-priority 5\nsave 1 2\nsave 3 4\n")
    config.set_many([("maxmemory", "3mb"), ("requirepass", 'a"\n'), ("port", "2")])
    config.rewrite()
    lines = path.read_text().split("\n")
    start = lines.index("# Generated by CONFIG REWRITE")
    assert lines[:start] == [
        "# mine", "port 2", "", "replica-priority 5", "save 1 2 3 4", "", "# ??? odd thing",
        "hz 10", "include none*.conf", ""]
    assert {"maxmemory 3mb", 'requirepass "a\\"\\n"'} <= set(lines[start:])
    config.rewrite()
    assert path.read_text().rstrip("\n").split("\n") == lines[:-1]
    again = Config()
    again.load_text(path.read_bytes().replace(b"# ??? ", b"# "))
    assert again.values == config.values | {"dir": again.values["dir"]}
    assert oct(path.stat().st_mode)[-3:] == "644"
    assert os.listdir(tmp_path) == ["valkey.conf"]


def test_rewriting_everything_can_be_read_back(config, tmp_path):
    path = tmp_path / "valkey.conf"
    config.rewrite(str(path), force_all=True)
    again = Config()
    again.load_text(path.read_bytes())
    assert again.values == config.values | {"dir": again.values["dir"]}


def test_processor_lists():
    assert cpu_list("0-3,8") == [0, 1, 2, 3, 8]
    assert cpu_list("0-6:2") == [0, 2, 4, 6]
    assert cpu_list("") == []
    with pytest.raises(ConfigError):
        cpu_list("a-b")


# --- replies and the log -------------------------------------------------------------------------


@pytest.mark.parametrize(("obj", "resp2", "resp3"), [
    (None, b"$-1\r\n", b"_\r\n"),
    (reply.NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
    (7, b":7\r\n", b":7\r\n"),
    (1 << 70, b"$22\r\n1180591620717411303424\r\n", b"(1180591620717411303424\r\n"),
    (True, b":1\r\n", b"#t\r\n"),
    (b"ab", b"$2\r\nab\r\n", b"$2\r\nab\r\n"),
    ("OK", b"+OK\r\n", b"+OK\r\n"),
    ([1, [b"x"]], b"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", b"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n"),
    ({b"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
    ({b"a"}, b"*1\r\n$1\r\na\r\n", b"~1\r\n$1\r\na\r\n"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
    (2.0, b"$1\r\n2\r\n", b",2\r\n"),
    (float("-inf"), b"$4\r\n-inf\r\n", b",-inf\r\n"),
    (reply.Error("ERR a\r\nb"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
    (reply.Verbatim(b"hi"), b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n"),
    (reply.Push([b"x"]), b"*1\r\n$1\r\nx\r\n", b">1\r\n$1\r\nx\r\n"),
    (reply.Raw(b"+x\r\n"), b"+x\r\n", b"+x\r\n"),
    (reply.NO_REPLY, b"", b""),
])
def test_replies(obj, resp2, resp3):
    assert reply.encode(obj, 2) == resp2
    assert reply.encode(obj, 3) == resp3


def test_no_reply_of_a_stranger():
    with pytest.raises(TypeError):
        reply.encode(object())


def test_log_lines(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    pid = os.getpid()
    monkeypatch.setattr(log.state, "pid", pid)
    line = log.format_line(log.NOTICE, "text", 1795435200.125)
    assert line == f"{pid}:M 23 Nov 2026 12:00:00.125 * text\n"
    monkeypatch.setattr(log.state, "style", "json")
    monkeypatch.setattr(log.state, "stamp", "milliseconds")
    assert log.format_line(log.WARNING, 'a"\n\b', 1.0) == (
        f'{{"pid":{pid},"role":"primary","timestamp":"1000","level":"warning",'
        '"message":"a\\"\\n\\b"}\n')
    monkeypatch.setattr(log.state, "style", "logfmt")
    assert log.format_line(log.DEBUG, 'a"\n', 1.0) == (
        f'pid={pid} role=primary timestamp="1000" level=debug message="a\' "\n')


def test_the_title_is_shown(server, client):
    client.config_set("proc-title-template", "TEST {title} {port} " + "x" * 300)
    with open(f"/proc/{server.pid}/cmdline", "rb") as file:
        shown = file.read().rstrip(b"\0").split()
    client.config_set("proc-title-template", "{title} {listen-addr} {server-mode}")
    assert shown[0] == b"TEST"
    assert shown[1].endswith(b"/scripts/valkey-server")
    assert shown[2:] == [str(server.port).encode(), b"x" * 300]
