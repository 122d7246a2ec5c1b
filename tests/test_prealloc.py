"""Room ahead of the append-only file's end: what a kill, a cut, a power failure, a rewrite, a setting leave of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import Server
from test_aof import OPTIONS, incr_path, wait_rewritten

from persist import incr_index

LARGE = 4 << 20                        # a file has room once it is so long
SIDE = ".idx"


def side_line(raw: bytes) -> bytes:
    return incr_index.read(raw).line


def side_path(path):
    return path.with_name(path.name + SIDE)


def fill(client) -> None:
    client.set("large", "x" * LARGE)
    client.set("hashes", "#" * 500 + "\n")
    for number in range(20):
        client.rpush("list", f"{number}#")


def loaded(client) -> tuple:
    return client.strlen("large"), client.strlen("hashes"), client.llen("list")


FILLED = (LARGE, 501, 20)


def incr_bytes(server, client) -> int:
    """How long the server says that the increment is."""
    base = sum(path.stat().st_size for path in incr_path(server).parent.glob("*.base.rdb"))
    return client.info("persistence")["aof_current_size"] - base


@pytest.fixture
def killed(slotring_only, engine, tmp_path):
    """A server with appendfsync always that was killed while its file had room."""
    server = Server(tmp_path / "server", *OPTIONS, "--appendfsync", "always", engine=engine).start()
    try:
        with server.connect() as client:
            fill(client)
            size = incr_bytes(server, client)
        server.kill()
        path = incr_path(server)
        raw = path.read_bytes()
        assert size + 1000 < len(raw) <= size + LARGE // 8 and len(raw) % incr_index.LINE_BYTES == 0
        assert raw.endswith(side_line(side_path(path).read_bytes()))
        assert raw[:size].endswith(b"\r\n") and raw[size:size + 1] == b"#"
        yield server
    finally:
        server.kill()


def test_a_kill_leaves_room_which_the_next_start_cuts(killed):
    path = incr_path(killed)
    before = path.stat().st_size
    killed.start()
    assert path.stat().st_size < before
    with killed.connect() as client:
        assert loaded(client) == FILLED
        assert path.stat().st_size == incr_bytes(killed, client)
        client.rpush("list", "more")
    killed.stop()
    assert path.read_bytes().endswith(b"more\r\n")         # an end in good order cuts it too
    killed.start()
    with killed.connect() as client:
        assert loaded(client) == (LARGE, 501, 21)


def test_without_its_side_file_the_room_is_skipped(killed):
    """As real Valkey does, which knows of no side file."""
    side_path(incr_path(killed)).unlink()
    for count in (20, 21):
        killed.start()
        with killed.connect() as client:
            assert loaded(client) == (LARGE, 501, count)
            client.rpush("list", "more")
        killed.kill()


def test_a_cut_within_the_room_loses_nothing(killed):
    path = incr_path(killed)
    raw = path.read_bytes()
    begin = incr_index.end_of(raw, side_path(path).read_bytes())
    for cut in (len(raw) - 1, begin + 1, begin + 127, begin + 129, begin):
        path.write_bytes(raw[:cut])
        killed.start()
        with killed.connect() as client:
            assert loaded(client) == FILLED
            client.set("after", cut)
        killed.stop()
        killed.start()
        with killed.connect() as client:
            assert client.get("after") == str(cut).encode()
        killed.kill()


def test_what_lies_behind_a_hole_was_not_acknowledged(killed):
    """The power failed: a later page has reached the disk, the one before it still has its lines."""
    path = incr_path(killed)
    raw = bytearray(path.read_bytes())
    line = side_line(side_path(path).read_bytes())
    end = incr_index.end_of(raw, side_path(path).read_bytes())
    hole = (end - 300) // len(line) * len(line)
    raw[hole:hole + len(line)] = line
    path.write_bytes(raw)
    killed.start()
    with killed.connect() as client:
        large, hashes, count = loaded(client)
        assert (large, hashes) == FILLED[:2] and 0 < count < 20
    assert "loaded anyway because aof-load-truncated is enabled" in killed.log_path.read_text()


@pytest.mark.peer
def test_real_valkey_reads_what_a_kill_left(killed, valkey_binary):
    valkey = Server(killed.folder, "--appendonly", "yes", command=[valkey_binary])
    try:
        valkey.start()
        with valkey.connect() as client:
            assert loaded(client) == FILLED
        valkey.stop()
    finally:
        valkey.kill()


@pytest.mark.usefixtures("slotring_only")
def test_a_rewrite_and_another_policy_leave_no_room(own_server):
    server = own_server(*OPTIONS, "--appendfsync", "always")
    with server.connect() as client:
        fill(client)
        first = incr_path(server)
        assert first.stat().st_size > incr_bytes(server, client)
        with open(first, "rb") as file:                    # it stays readable when the rewrite removes its name
            client.bgrewriteaof()
            wait_rewritten(client)
            file.seek(-4, 2)
            assert file.read() == b"19#\r\n"[-4:]
        fill(client)
        client.config_set("appendfsync", "everysec")
        for number in range(3):
            client.set("more", str(number) * (LARGE // 2))
        assert client.execute_command("DEBUG", "LOADAOF")
        assert loaded(client) == (LARGE, 501, 40)
        assert client.get("more") == b"2" * (LARGE // 2)
        client.set("last", "1")
    server.kill()
    assert incr_path(server).read_bytes().endswith(b"$1\r\n1\r\n")
    server.start()
    with server.connect() as client:
        assert client.get("last") == b"1"


# ---- where the records end

RECORD = st.binary(min_size=1, max_size=300).map(lambda key: b"*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n" % (len(key), key))
DIGITS = 0x0123456789ABCDEF
RAW = incr_index.MAGIC + incr_index.HEAD.pack(DIGITS, 0, 0, incr_index.LINES)
LINE = side_line(RAW)


def room(size: int, lines: int) -> bytes:
    """What stands behind `size` bytes of records."""
    rest = -size % len(LINE)
    return b"#" + ((LINE[-rest:] if rest else b"") + LINE * lines)[1:]


@given(st.lists(RECORD, min_size=1, max_size=5), st.integers(2, 4), st.data())
def test_the_end_is_found_in_whatever_is_left(records, lines, data):
    assert len(LINE) == incr_index.LINE_BYTES and LINE.startswith(b"#0123456789abcdef#")
    written = b"".join(records)
    whole = written + room(len(written), lines)
    assert incr_index.end_of(whole, RAW) == len(written)
    cut = data.draw(st.integers(0, len(whole)))
    found = incr_index.end_of(whole[:cut], RAW)
    # nothing that was written goes, but for an annotation without an end, which a value's rest may look like
    assert found <= cut and (found == len(written) or b"\n" not in whole[found:cut])
    if cut > len(written) + 2 * len(LINE):
        assert found == len(written)


def test_lines_of_others_are_nothing_to_it():
    value = LINE.replace(b"0123", b"0124") * 8
    written = b"*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n" % (len(value), value)
    assert incr_index.end_of(written, RAW) == len(written)
    assert incr_index.end_of(b"#" + written, b"") == len(written) + 1
    assert incr_index.end_of(written[:20], RAW) == 20
