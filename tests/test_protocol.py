"""The wire: frames however cut, pipelines, inline commands, large values, errors, slow peers."""

import random
import resource
import time

import pytest
from resp import Closed, Error, Raw, encode

BULK_BYTES = 64 << 20
INLINE_MAX_BYTES = 64 << 10
CONNECTIONS = 1000
PIPELINE = 10_000
CUT_PAUSE_S = 0.0008  # lets the server read what came before the cut


def wait_for(condition, seconds: float = 10.0):
    """Waits until the condition holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


# --- frames -----------------------------------------------------------------------------


FRAME = [
    (("SET", "cut:a", "value of a"), b"OK"),
    (("GET", "cut:a"), b"value of a"),
    (("GET", "cut:none"), None),
    (("APPEND", "cut:a", b"\r\n$3\r\n*1\r\n\x00\xff"), 22),
    (("STRLEN", "cut:a"), 22),
    (("SET", "cut:empty", ""), b"OK"),
    (("MGET", "cut:a", "cut:none", "cut:empty"),
     [b"value of a\r\n$3\r\n*1\r\n\x00\xff", None, b""]),
    (("INCR", "cut:n"), 1),
    (("DEL", "cut:a", "cut:empty", "cut:n"), 3),
]
FRAME_BYTES = b"".join(encode(*command) for command, _ in FRAME)


@pytest.mark.parametrize("protocol", [2, 3])
def test_frame_cut_at_every_byte(client, server, protocol):
    with server.raw() as raw:
        if protocol == 3:
            assert raw.call("HELLO", "3")[b"proto"] == 3
        for cut in range(1, len(FRAME_BYTES)):
            raw.send(FRAME_BYTES[:cut])
            time.sleep(CUT_PAUSE_S)
            raw.send(FRAME_BYTES[cut:])
            assert raw.replies(len(FRAME)) == [reply for _, reply in FRAME], f"cut at byte {cut}"


@pytest.mark.parametrize("protocol", [2, 3])
def test_frame_byte_by_byte(client, server, protocol):
    with server.raw() as raw:
        raw.call("HELLO", protocol)
        for at in range(len(FRAME_BYTES)):
            raw.send(FRAME_BYTES[at : at + 1])
            if at % 7 == 0:
                time.sleep(CUT_PAUSE_S)
        assert raw.replies(len(FRAME)) == [reply for _, reply in FRAME]


def test_frames_cut_at_random_with_large_values(client, server):
    chance = random.Random(7)
    commands, expected = [], []
    for number in range(40):
        value = chance.randbytes(chance.choice([0, 1, 100, 4000, 17_000, 70_000, 300_000]))
        commands += [("SET", f"r:{number}", value), ("GET", f"r:{number}")]
        expected += [b"OK", value]
    data = b"".join(encode(*command) for command in commands)
    cuts = sorted(chance.randrange(len(data)) for _ in range(300))
    with server.raw() as raw:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            raw.send(data[start:end])
            if chance.random() < 0.3:
                time.sleep(CUT_PAUSE_S)
        assert raw.replies(len(commands)) == expected


def test_pipeline_of_10_000(client, server):
    with server.raw() as raw:
        raw.send(b"".join(encode("SET", f"p:{i}", i) for i in range(PIPELINE)))
        assert raw.replies(PIPELINE) == [b"OK"] * PIPELINE
        raw.send(b"".join(encode("GET", f"p:{i}") for i in range(PIPELINE)))
        assert raw.replies(PIPELINE) == [b"%d" % i for i in range(PIPELINE)]
        raw.send(b"".join(encode("INCR", "p:n") for _ in range(PIPELINE)))
        assert raw.replies(PIPELINE) == list(range(1, PIPELINE + 1))
    assert client.dbsize() == PIPELINE + 1


def test_pipeline_with_errors_keeps_order(client, server):
    with server.raw() as raw:
        replies = raw.pipeline([("SET", "a", "x"), ("INCR", "a"), ("GET", "a"), ("NOSUCH", "a b"),
                                ("GET",), ("PING",), ("ECHO", "end")])
    assert replies == [b"OK", Error("ERR value is not an integer or out of range"), b"x",
                       Error("ERR unknown command 'NOSUCH', with args beginning with: 'a b' "),
                       Error("ERR wrong number of arguments for 'get' command"), b"PONG", b"end"]


def test_many_arguments(client, server):
    pairs = [item for i in range(10_000) for item in (f"m:{i}", i)]
    with server.raw() as raw:
        assert raw.call("MSET", *pairs) == b"OK"
        assert raw.call("MGET", *pairs[::2]) == [b"%d" % i for i in range(10_000)]
        assert raw.call("DEL", *pairs[::2]) == 10_000


def test_resp3_types(client, server):
    with server.raw() as raw:
        hello = raw.call("HELLO", "3")
        assert isinstance(hello, dict)
        assert hello[b"server"] == b"valkey" and hello[b"mode"] == b"standalone"
        assert raw.call("GET", "none") is None
        raw.send(encode("GET", "none"))
        assert raw.socket.recv(100) == b"_\r\n"
        hello = raw.call("HELLO", "2")
        assert isinstance(hello, list)
        raw.send(encode("GET", "none"))
        assert raw.socket.recv(100) == b"$-1\r\n"
        assert raw.call("HELLO", "4") == Error("NOPROTO unsupported protocol version")


# --- inline commands --------------------------------------------------------------------


def test_inline_commands(client, server):
    with server.raw() as raw:
        raw.send(b"PING\r\n")
        assert raw.reply() == b"PONG"
        raw.send(b"PING\n\r\n\nping\r\n")
        assert raw.replies(2) == [b"PONG", b"PONG"]
        raw.send(b"  set   inline:a    'single quoted'  \r\n")
        raw.send(b'SET inline:b "tab\\t hex\\x41 quote\\" nl\\n"\r\n')
        raw.send(b"SET inline:c 'it\\'s'\r\n")
        assert raw.replies(3) == [b"OK"] * 3
        assert raw.call("GET", "inline:a") == b"single quoted"
        assert raw.call("GET", "inline:b") == b'tab\t hexA quote" nl\n'
        assert raw.call("GET", "inline:c") == b"it's"


def test_inline_between_frames(client, server):
    with server.raw() as raw:
        raw.send(encode("SET", "x", "1") + b"GET x\r\n" + encode("INCR", "x") + b"\r\nINCR x\n")
        assert raw.replies(4) == [b"OK", b"1", 2, 3]


def test_inline_cut_at_every_byte(client, server):
    line = b'SET inline:cut "a b\\x00c"\r\nGET inline:cut\r\n'
    with server.raw() as raw:
        for cut in range(1, len(line)):
            raw.send(line[:cut])
            time.sleep(CUT_PAUSE_S)
            raw.send(line[cut:])
            assert raw.replies(2) == [b"OK", b"a b\x00c"], f"cut at byte {cut}"


def test_empty_and_negative_requests_are_ignored(client, server):
    for request in (b"\r\n", b"\n", b"*0\r\n", b"*-1\r\n", b"*-10\r\n"):
        with server.raw() as raw:
            raw.send(request + encode("PING"))
            assert raw.reply() == b"PONG", request


# --- errors -----------------------------------------------------------------------------


INVALID_MULTIBULK = "ERR Protocol error: invalid multibulk length"
INVALID_BULK = "ERR Protocol error: invalid bulk length"
INVALID_CRLF = "ERR Protocol error: invalid CRLF in request"
UNBALANCED = "ERR Protocol error: unbalanced quotes in request"
SET_X = b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n"

PROTOCOL_ERRORS = [
    (b"*3000000000\r\n", INVALID_MULTIBULK),
    (b"*abc\r\n", INVALID_MULTIBULK),
    (b"*\r\n", INVALID_MULTIBULK),
    (b"*3x\n$3\r\nSET\r\n", INVALID_MULTIBULK),
    (b"*3\rx$3\r\nSET\r\n", INVALID_CRLF),
    (b"*1\r\nfoo\r\n", "ERR Protocol error: expected '$', got 'f'"),
    (SET_X + b"fooz\r\n", "ERR Protocol error: expected '$', got 'f'"),
    (SET_X + b"$-10\r\n", INVALID_BULK),
    (SET_X + b"$2000000000\r\n", INVALID_BULK),
    (SET_X + b"$blabla\r\n", INVALID_BULK),
    (SET_X + b"$\r\n", INVALID_BULK),
    (SET_X + b"$ 1\r\n", INVALID_BULK),
    (SET_X + b"$+1\r\n", INVALID_BULK),
    (SET_X + b"$01\r\n", INVALID_BULK),
    (SET_X + b"$5x\nvalue\r\n", INVALID_BULK),
    (SET_X + b"$5\rxvalue\r\n", INVALID_CRLF),
    (SET_X + b"$5\r\nvaluex\n", INVALID_CRLF),
    (SET_X + b"$5\r\nvalue\rx", INVALID_CRLF),
    (SET_X + b"$5\r\nvaluexx", INVALID_CRLF),
    (b"*3\r\n$3\r\nSETxx$3\r\nkey\r\n", INVALID_CRLF),
    (b"set foo 'b'a'r\r\n", UNBALANCED),
    (b'set foo "b"a"r\r\n', UNBALANCED),
    (b'set foo "bar\r\n', UNBALANCED),
]


@pytest.mark.parametrize(("request_", "text"), PROTOCOL_ERRORS, ids=lambda value: repr(value)[:40])
def test_protocol_errors(server, request_, text):
    with server.raw() as raw:
        raw.send(encode("PING") + request_ + encode("PING"))
        assert raw.reply() == b"PONG"
        assert raw.reply() == Error(text)
        assert raw.is_closed()


@pytest.mark.parametrize(("start", "text"), [
    (b"\x00", "ERR Protocol error: too big inline request"),
    (b"$\x00", "ERR Protocol error: too big inline request"),
    (b"*\x00", "ERR Protocol error: too big mbulk count string"),
    (b"*1\r\n$\x00", "ERR Protocol error: too big bulk count string"),
])
def test_endless_lines(server, start, text):
    with server.raw() as raw:
        raw.send(start)
        try:
            for _ in range(INLINE_MAX_BYTES // 1024 + 2):
                raw.send(b"A" * 1024)
        except OSError:
            pass
        assert raw.reply() == Error(text)
        assert raw.is_closed()


def test_unauthenticated_sizes_are_small(own_server):
    server = own_server("--requirepass", "secret")
    with server.raw() as raw:
        assert raw.call("GET", "x") == Error("NOAUTH Authentication required.")
        raw.send(b"*11\r\n")
        assert raw.reply() == Error("ERR Protocol error: unauthenticated multibulk length")
        assert raw.is_closed()
    with server.raw() as raw:
        raw.send(b"*1\r\n$16385\r\n")
        assert raw.reply() == Error("ERR Protocol error: unauthenticated bulk length")
        assert raw.is_closed()
    with server.raw() as raw:
        assert raw.call("AUTH", "wrong") == Error(
            "WRONGPASS invalid username-password pair or user is disabled.")
        assert raw.call("AUTH", "secret") == b"OK"
        assert raw.call("SET", "x", "y" * 20_000) == b"OK"


def test_a_bad_connection_harms_no_other(client, server):
    with server.raw() as good:
        for request, _ in PROTOCOL_ERRORS:
            with server.raw() as bad:
                bad.send(request)
                assert good.call("PING") == b"PONG"
        assert good.call("SET", "a", "1") == b"OK"


# --- sizes ------------------------------------------------------------------------------


def test_value_of_64_mb(client, server):
    value = random.Random(1).randbytes(1 << 20) * (BULK_BYTES >> 20)
    with server.raw(60) as raw:
        assert raw.call("SET", "large", value) == b"OK"
        assert raw.call("STRLEN", "large") == BULK_BYTES
        assert raw.call("GET", "large") == value
        assert raw.call("APPEND", "large", "end") == BULK_BYTES + 3
        assert raw.call("GETRANGE", "large", -5, -1) == value[-2:] + b"end"
        assert raw.call("DEL", "large") == 1


def test_large_value_sent_slowly_does_not_stop_others(client, server):
    value = b"v" * (4 << 20)
    data = encode("SET", "slow", value)
    with server.raw() as slow, server.raw() as other:
        for at in range(0, len(data), 64 << 10):
            slow.send(data[at : at + (64 << 10)])
            started = time.monotonic()
            assert other.call("PING") == b"PONG"
            assert time.monotonic() - started < 2
        assert slow.reply() == b"OK"
        assert slow.call("GET", "slow") == value


def test_proto_max_bulk_len(own_server):
    server = own_server("--proto-max-bulk-len", "2mb")
    with server.raw() as raw:
        assert raw.call("SET", "x", b"v" * (1 << 20)) == b"OK"
        raw.send(SET_X + b"$%d\r\n" % ((2 << 20) + 1))
        assert raw.reply() == Error(INVALID_BULK)
        assert raw.is_closed()


def test_query_buffer_limit(own_server):
    server = own_server("--client-query-buffer-limit", "1mb")
    with server.raw() as raw:
        assert raw.call("SET", "x", b"v" * 500_000) == b"OK"
        try:
            raw.send(b"*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$900000\r\n" + b"a" * 900_000)
            raw.send(b"\r\n$1\r\nb\r\n$900000\r\n" + b"b" * 800_000)
            raw.send(encode("SET", "y", b"w" * 3_000_000))
        except OSError:
            pass
        assert raw.is_closed()
    with server.connect() as client:
        assert client.ping()
        assert client.exists("a", "b", "y") == 0


# --- closing ----------------------------------------------------------------------------


def test_half_closed_sockets_are_served(client, server):
    with server.raw() as raw:
        raw.send(b"".join(encode("INCR", "half") for _ in range(1000)))
        raw.half_close()
        try:
            assert raw.replies(1000) == list(range(1, 1001))
        except Closed:  # as Valkey may, when it sees the end first; what counts is what was done
            pass
        assert raw.is_closed()
    assert int(client.get("half")) == 1000


def test_connection_closed_in_the_middle_of_a_frame(client, server):
    data = encode("SET", "partial", "x" * 100)
    for cut in range(1, len(data), 7):
        with server.raw() as raw:
            raw.send(encode("INCR", "whole") + data[:cut])
    wait_for(lambda: int(client.get("whole") or 0) == len(range(1, len(data), 7)))
    assert client.get("partial") is None
    wait_for(lambda: client.info("clients")["connected_clients"] == 1)


def test_quit_and_reset_by_peer(client, server):
    with server.raw() as raw:
        raw.send(encode("SET", "q", "1") + encode("QUIT") + encode("SET", "q", "2"))
        assert raw.replies(2) == [b"OK", b"OK"]
        assert raw.is_closed()
    assert client.get("q") == b"1"
    for _ in range(50):  # RST while replies are under way
        raw = Raw(server.port)
        raw.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: on, 0 s
        raw.send(encode("SET", "rst", "x" * 10_000) + encode("GET", "rst") * 100)
        raw.close()
    assert client.ping()
    wait_for(lambda: client.info("clients")["connected_clients"] == 1)


def test_1000_connections(client, server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 100:
        pytest.skip(f"only {hard} open files allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CONNECTIONS + 100), hard))
    raws = [server.raw(60) for _ in range(CONNECTIONS)]
    try:
        for turn in range(3):
            for number, raw in enumerate(raws):
                raw.send(encode("INCR", "many") + encode("SET", f"c:{number}", turn))
            for raw in raws:
                count, done = raw.replies(2)
                assert isinstance(count, int) and done == b"OK"
        assert int(client.get("many")) == 3 * CONNECTIONS
        assert client.dbsize() == CONNECTIONS + 1
        assert client.info("clients")["connected_clients"] >= CONNECTIONS
    finally:
        for raw in raws:
            raw.close()
    wait_for(lambda: client.info("clients")["connected_clients"] == 1)


def test_maxclients(own_server):
    server = own_server("--maxclients", "10")
    raws: list[Raw] = []

    def fill() -> bool:  # the connection that saw the server start may still count
        raw = server.raw()
        try:
            if raw.call("PING") == b"PONG":
                raws.append(raw)
        except (Closed, OSError):
            raw.close()
        return len(raws) == 10

    wait_for(fill)
    with server.raw() as extra:
        assert extra.reply() == Error("ERR max number of clients reached")
        assert extra.is_closed()
    raws.pop().close()

    def admitted() -> bool:
        with server.raw() as again:
            try:
                again.send(encode("PING"))
                return again.reply() == b"PONG"
            except (Closed, OSError):
                return False

    wait_for(admitted)
    for raw in raws:
        assert raw.call("PING") == b"PONG"
        raw.close()


# --- slow readers -----------------------------------------------------------------------


def test_output_to_a_slow_reader(client, server):
    value = random.Random(3).randbytes(256 << 10)
    client.set("slow", value)
    with server.raw(60, recv_bytes=4096) as slow, server.raw() as other:
        slow.send(encode("GET", "slow") * 200)  # 50 MB that nobody reads for now
        for _ in range(100):
            started = time.monotonic()
            assert other.call("PING") == b"PONG"
            assert time.monotonic() - started < 2
        slow.socket.setsockopt(1, 8, 1 << 20)
        for _ in range(200):
            assert slow.reply() == value
        assert slow.call("PING") == b"PONG"


def test_slow_reader_that_leaves_frees_its_output(client, server):
    client.set("slow", b"v" * (1 << 20))
    before = client.info("memory")["used_memory"]
    slow = server.raw(60, recv_bytes=4096)
    slow.send(encode("GET", "slow") * 64)
    time.sleep(0.3)
    slow.close()
    wait_for(lambda: client.info("clients")["connected_clients"] == 1)
    wait_for(lambda: client.info("memory")["used_memory"] < before + (8 << 20))


def test_output_buffer_limit(own_server):
    server = own_server("--client-output-buffer-limit", "normal 4mb 0 0")
    with server.connect() as client:
        client.set("big", b"v" * (1 << 20))
        with server.raw(30, recv_bytes=4096) as slow:
            slow.send(encode("GET", "big") * 64)
            wait_for(lambda: client.info("clients")["connected_clients"] == 1)
        assert client.ping()
