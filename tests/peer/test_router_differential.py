"""Redirections and refusals of commands with keys, by Slotring and by a real Valkey in a real cluster: the same texts.

Two real nodes share the slots. The first of them is compared: it gives one slot key by key (MIGRATING), and takes one
(IMPORTING). Slotring has the same map by hand, and the same endpoints.

MSETEX is left out: Valkey 9.1.2 does not find its keys when it routes, and stores them on any node that is asked.
Slotring sends it where the keys belong (test_router.py)."""

import time

import pytest
import slotmap
from resp import Error, Raw, encode
from servers import Server
from slotmap import key

pytestmark = pytest.mark.peer

HERE, HERE2, GOING, COMING, THERE, THERE2 = 1, 2, 3, 9001, 9002, 9003
FIRST, SECOND = (0, 8191), (8192, 16382)      # 16383 is nobody's
NOBODYS = 16383
REDIRECTS = ("MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "CLUSTERDOWN", "EXECABORT")
# % is a key of the slot, & another of the same slot
COMMANDS = """
GET % | SET % 1 | DEL % | DEL % & | MGET % & | MSET % 1 & 2 | MSETNX % 1 & 2 | EXISTS % & | TOUCH % | UNLINK & %
RENAME % & | RENAMENX & % | COPY % & | COPY % & DB 0 | COPY % & DB 1 | COPY % & REPLACE DB 1 DB 0 | MOVE % 1 | TYPE %
DUMP % | RESTORE % 0 x | RESTORE-ASKING % 0 x | EXPIRE % 100 | TTL % | PERSIST % | OBJECT ENCODING % | SORT %
SORT % STORE & | SORT_RO % | LPUSH %l 1 | LMOVE %l &l LEFT RIGHT | RPOPLPUSH %l &l | LMPOP 2 %l &l LEFT | LLEN %l
BLPOP %n &n 0.01 | BLMPOP 0.01 2 %n &n LEFT | SADD %s 1 | SUNION %s &s | SUNIONSTORE %s &s %s | SINTERCARD 2 %s &s
SMOVE %s &s 1 | ZADD %z 1 a | ZUNION 2 %z &z | ZUNIONSTORE %z 2 &z %z | ZRANGESTORE %z &z 0 -1 | ZMPOP 2 %z &z MIN
BZMPOP 0.01 2 %n &n MIN | HSET %h f v | HGET %h f | XADD %x * f v | XREAD STREAMS %x &x 0 0 | XLEN %x
XGROUP CREATE %x g $ | XREADGROUP GROUP g c STREAMS %x &x > > | PFADD %p a | PFCOUNT %p &p | PFMERGE %p &p
BITOP AND % & % | SETBIT %b 1 1 | GEOADD %g 1 1 a | GEORADIUS %g 1 1 1 m STORE &g
GEOSEARCHSTORE %g &g FROMLONLAT 1 1 BYRADIUS 1 m
WATCH % & | LCS % & | APPEND %a x | INCR %i | GETEX % | SPUBLISH %c x | PUBLISH c x | DBSIZE | MEMORY USAGE %
CLUSTER KEYSLOT % | PING | OBJECT FREQ % | SUBSTR % 0 1 | CLUSTERSCAN % | MIGRATE 127.0.0.1 1 % 0 1
"""


def pairs() -> list[tuple[str, str]]:
    """The two keys of a command: by slot and name; the names say whether they are there."""
    found = []
    for slot in (HERE, GOING, COMING, THERE, NOBODYS):
        found += [(key(slot, "there"), key(slot, "there2")), (key(slot, "there"), key(slot, "gone")),
                  (key(slot, "gone"), key(slot, "gone2")), (key(slot, "gone"), key(slot, "gone"))]
    for one, two in ((HERE, HERE2), (HERE, THERE), (THERE, THERE2), (GOING, COMING), (HERE, NOBODYS)):
        found.append((key(one, "there"), key(two, "there")))
    return found


def commands() -> list[list[str]]:
    """Every command with every pair of keys."""
    forms = [form.strip().split(" ") for line in COMMANDS.strip().splitlines() for form in line.split("|")]
    return [[word.replace("%", one).replace("&", two) for word in form] for one, two in pairs() for form in forms]


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the real cluster does not come to be"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def real(valkey_binary, tmp_path_factory):
    """Two nodes of a real cluster."""
    nodes = [Server(tmp_path_factory.mktemp(name), "--cluster-enabled", "yes", "--cluster-databases", 4,
                    "--cluster-require-full-coverage", "no", command=[valkey_binary]).start()
             for name in ("one", "two")]
    try:
        with nodes[0].raw() as one, nodes[1].raw() as two:
            one.call("CLUSTER", "ADDSLOTSRANGE", *FIRST)
            two.call("CLUSTER", "ADDSLOTSRANGE", *SECOND)
            one.call("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
            wait_for(lambda: all(b"cluster_slots_assigned:16383" in raw.call("CLUSTER", "INFO")
                                 and b"cluster_state:ok" in raw.call("CLUSTER", "INFO") for raw in (one, two)))
        yield nodes
        for node in nodes:
            node.stop()
    finally:
        for node in nodes:
            node.kill()


@pytest.fixture(scope="module")
def ours(real, engine, tmp_path_factory):
    """Slotring in the place of the first of them."""
    server = slotmap.start(tmp_path_factory.mktemp("ours"), "--cluster-databases", 4, engine=engine)
    try:
        with server.raw() as raw:
            raw.call("TESTMAP", "NODE", 2, f"127.0.0.1:{real[1].port}")
            raw.call("TESTMAP", "OWNERS", *FIRST, 1, *SECOND, 2)
        yield server
        server.stop()
    finally:
        server.kill()


@pytest.fixture
def both(real, ours):
    """(real, ours) with the same keys, one slot going, one coming."""
    with real[0].raw() as one, real[1].raw() as two, ours.raw() as raw:
        my_id, other_id = one.call("CLUSTER", "MYID"), two.call("CLUSTER", "MYID")
        for each in (one, raw):
            each.call("FLUSHALL")
            fill(each, (HERE, HERE2, GOING))
        for source, slot in ((one, COMING), (raw, COMING)):
            importing = source is one
            source.call(*(("CLUSTER", "SETSLOT", slot, "IMPORTING", other_id) if importing
                          else ("TESTMAP", "IMPORTING", slot, 2)))
            fill(source, (slot,))
            source.call(*(("CLUSTER", "SETSLOT", GOING, "MIGRATING", other_id) if importing
                          else ("TESTMAP", "MIGRATING", GOING, 2)))
        assert my_id != other_id
        yield one, raw
        for slot in (GOING, COMING):
            one.call("CLUSTER", "SETSLOT", slot, "STABLE")
            raw.call("TESTMAP", "IMPORTING", slot, 0)
            raw.call("TESTMAP", "MIGRATING", slot, 0)


def fill(raw: Raw, slots: tuple) -> None:
    """Keys "there" and "there2" of these slots, and where a name says a type, of that."""
    for slot in slots:
        for name in ("there", "there2"):
            words = [("SET", "", 1), ("RPUSH", "l", 1), ("SADD", "s", 1), ("ZADD", "z", 1, 1), ("HSET", "h", 1, 1),
                     ("XADD", "x", "1-1", 1, 1), ("PFADD", "p", 1), ("GEOADD", "g", 1, 1, 1)]
            for word, ending, *rest in words:
                raw.call("ASKING")
                assert not isinstance(raw.call(word, key(slot, name + ending), *rest), Error)


def verdict(reply: object) -> str:
    """The redirection in a reply, or that there was none."""
    return str(reply) if isinstance(reply, Error) and reply.startswith(REDIRECTS) else "served"


@pytest.mark.parametrize("asking", [False, True])
def test_single_commands(both, real, ours, asking):
    wanted, got = both
    for words in commands():
        for raw in (wanted, got):
            if asking:
                raw.send(encode("ASKING"))
                raw.reply()
            raw.send(encode(*words))
        theirs, mine = wanted.reply(), got.reply()
        assert verdict(mine) == verdict(theirs), (words, mine, theirs)
        for raw in (wanted, got):
            raw.send(encode("UNWATCH"))
            raw.reply()


def test_transactions(both):
    wanted, got = both
    forms = [["SET", "%", "1"], ["GET", "%"], ["MGET", "%", "&"], ["SELECT", "1"], ["PING"], ["SPUBLISH", "%", "x"]]
    for one, two in pairs():
        for first in forms:
            for second in forms:
                lines = [["MULTI"], first, [word.replace("%", "&") for word in second], ["EXEC"], ["SELECT", "0"]]
                lines = [[word.replace("%", one).replace("&", two) for word in line] for line in lines]
                replies = [[verdict(reply) for reply in raw.pipeline(lines)] for raw in (wanted, got)]
                assert replies[0] == replies[1], lines
