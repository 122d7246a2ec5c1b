"""Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH, and what is not allowed in them."""

import threading

import pytest
import redis


@pytest.fixture
def pair(server):
    """Two connections to an empty server."""
    first, second = server.connect(), server.connect()
    first.flushall()
    return first, second


def raw(client, *words):
    """A command on one connection, its reply or its error's text."""
    connection = client.connection or client.connection_pool.get_connection()
    client.connection = connection
    connection.send_command(*words)
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return f"-{error}"


def test_exec_runs_all(pair):
    one, _ = pair
    assert raw(one, "MULTI") == b"OK"
    assert raw(one, "SET", "a", "1") == b"QUEUED"
    assert raw(one, "INCR", "a") == b"QUEUED"
    assert raw(one, "GET", "nothing") == b"QUEUED"
    assert raw(one, "RANDOMKEY") == b"QUEUED"
    assert raw(one, "EXEC") == [b"OK", 2, None, b"a"]
    assert raw(one, "EXEC") == "-EXEC without MULTI"


def test_errors_abort(pair):
    one, _ = pair
    raw(one, "MULTI")
    assert "unknown command" in raw(one, "NOSUCH")
    assert raw(one, "SET", "a", "1") == b"QUEUED"
    assert raw(one, "EXEC") == "-Transaction discarded because of previous errors."
    assert raw(one, "EXISTS", "a") == 0
    raw(one, "MULTI")
    assert raw(one, "MULTI") == "-Command 'multi' not allowed inside a transaction"
    assert raw(one, "WATCH", "a") == "-Command 'watch' not allowed inside a transaction"
    assert raw(one, "EXEC") == "-Transaction discarded because of previous errors."
    raw(one, "MULTI")
    raw(one, "SET", "a", "x")
    raw(one, "INCR", "a")
    raw(one, "SET", "b", "y")
    replies = raw(one, "EXEC")
    assert replies[0] == b"OK" and isinstance(replies[1], redis.ResponseError) and replies[2] == b"OK"


@pytest.mark.parametrize(
    "change",
    [
        ("SET", "w", "2"), ("DEL", "w"), ("APPEND", "w", "x"), ("RENAME", "w", "v"), ("FLUSHALL",),
        ("EXPIRE", "w", "100"), ("SETBIT", "w", "7", "1"), ("INCR", "w"), ("GETDEL", "w"),
        ("COPY", "z", "w", "REPLACE"), ("MSET", "q", "1", "w", "3"), ("SWAPDB", "0", "1"),
    ],
    ids=lambda words: words[0],
)
def test_watch_sees(pair, change):
    one, two = pair
    two.set("w", "1")
    two.set("z", "1")
    assert raw(one, "WATCH", "w") == b"OK"
    two.execute_command(*change)
    raw(one, "MULTI")
    raw(one, "SET", "after", "1")
    assert raw(one, "EXEC") is None
    raw(one, "MULTI")
    raw(one, "PING")
    assert raw(one, "EXEC") in ([b"PONG"], ["PONG"])


def test_watch_is_quiet_about_others(pair):
    one, two = pair
    two.set("w", "1")
    raw(one, "WATCH", "w", "x", "w")
    two.set("other", "1")
    two.get("w")
    raw(one, "MULTI")
    raw(one, "GET", "w")
    assert raw(one, "EXEC") == [b"1"]
    raw(one, "WATCH", "w")
    two.set("w", "2")
    raw(one, "UNWATCH")
    raw(one, "MULTI")
    raw(one, "GET", "w")
    assert raw(one, "EXEC") == [b"2"]


def test_discard_and_reset(pair):
    one, two = pair
    raw(one, "WATCH", "w")
    raw(one, "MULTI")
    raw(one, "SET", "a", "1")
    assert raw(one, "DISCARD") == b"OK"
    assert raw(one, "DISCARD") == "-DISCARD without MULTI"
    two.set("w", "1")
    raw(one, "MULTI")
    raw(one, "SET", "a", "1")
    assert raw(one, "EXEC") == [b"OK"]
    raw(one, "MULTI")
    assert raw(one, "RESET") == b"RESET"
    assert raw(one, "EXEC") == "-EXEC without MULTI"


def test_info_counts_watches(pair):
    one, two = pair
    raw(one, "WATCH", "a", "b")
    info = two.info("clients")
    assert info["watching_clients"] == 1 and info["total_watched_keys"] == 2
    raw(one, "MULTI")
    raw(one, "PING")
    row = next(row for row in two.client_list() if row["multi"] != "-1")
    assert row["multi"] == "1" and row["watch"] == "2" and "x" in row["flags"]
    one.connection.disconnect()
    for _ in range(100):
        if two.info("clients")["watching_clients"] == 0:
            break
    assert two.info("clients")["total_watched_keys"] == 0


def test_transactions_are_isolated(server):
    """Threads move amounts between keys of different slots; a reader always sees the same sum."""
    names = [f"account:{i}" for i in range(8)]
    server.connect().flushall()
    server.connect().mset(dict.fromkeys(names, 100))
    wrong = []

    def move(seed):
        client = server.connect()
        for i in range(400):
            with client.pipeline(transaction=True) as pipe:
                pipe.decrby(names[(seed + i) % 8], i % 7)
                pipe.incrby(names[(seed * 3 + i * 5 + 1) % 8], i % 7)
                pipe.execute()

    def watch():
        client = server.connect()
        for _ in range(400):
            with client.pipeline(transaction=True) as pipe:
                for name in names:
                    pipe.get(name)
                total = sum(int(value) for value in pipe.execute())
            if total != 800:
                wrong.append(total)

    threads = [threading.Thread(target=move, args=(i,)) for i in range(3)]
    threads += [threading.Thread(target=watch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_monitors_and_logs_see_what_exec_runs(server, pair):
    one, two = pair
    two.config_set("slowlog-log-slower-than", 0)
    watcher = server.raw()
    watcher.send(b"MONITOR\r\n")
    assert watcher.reply() == b"OK"
    two.slowlog_reset()
    for words in (("MULTI",), ("SET", "a", "1"), ("GET", "a"), ("EXEC",)):
        raw(one, *words)
    lines = [str(line) for line in watcher.replies(4)]
    watcher.close()
    two.config_set("slowlog-log-slower-than", 10000)
    seen = [next(word for word in ("multi", "set", "get", "exec") if f'"{word}"' in line.lower())
            for line in lines]
    assert seen == ["multi", "set", "get", "exec"]
    assert {b"SET a 1", b"GET a"} <= {entry["command"] for entry in two.slowlog_get(20)}


def test_monitors_see_an_exec_that_runs_nothing(server, pair):
    """Aborted, failed for a watched key, or without MULTI: it shows that the transaction has ended."""
    one, two = pair
    for client in pair:
        raw(client, "PING")            # connects, which would show
    with server.raw() as watcher:
        assert watcher.call("MONITOR") == b"OK"
        for words in (("MULTI",), ("NOSUCH",), ("EXEC",), ("EXEC",), ("WATCH", "a"), ("MULTI",)):
            raw(one, *words)
        raw(two, "SET", "a", 1)
        assert raw(one, "EXEC") is None
        lines = [str(line).lower() for line in watcher.replies(7)]
    seen = [next(word for word in ("multi", "watch", "set", "exec") if f'"{word}"' in line) for line in lines]
    assert seen == ["multi", "exec", "exec", "watch", "multi", "set", "exec"]
