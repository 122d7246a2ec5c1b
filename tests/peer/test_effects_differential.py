"""What Slotring and a real Valkey write to their append-only files for the same commands: the same commands.

The fixed steps name every command that is written otherwise than it was typed; the random ones mix all families. Times
and ids made from the clock may differ by TOLERANCE_MS; SELECT is compared as the database of what follows it. Members
that are drawn at random are compared by their number (test_spop).
"""

import itertools
import os
import random
import time

import pytest
from resp import NOTHING, Error, Parser, encode
from servers import Server

from persist import incr_index

pytestmark = pytest.mark.peer
SERVER_OPTIONS = VALKEY_OPTIONS = ["--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "yes",
                                   "--hz", "100"]

TOLERANCE_MS = 20_000
CLOCK_MS = 3_600_000                   # a time or id so near to now comes from the clock
COMMANDS = int(os.environ.get("SLOTRING_TEST_COMMANDS", "800"))
LOG_WAIT_S = 10.0
MARK = b"#mark"
MARKS = itertools.count(1)
# what a step may begin with
WAITING = "waiting"                    # the first command waits, of another client; then the second is given
SLEEP = "sleep"


# ---- reading the files

class Log:
    """A server's append-only file, from where it was read last."""

    def __init__(self, server):
        self.server = server
        self.at = 0
        self.parser = Parser()
        self.db = None

    def more(self) -> list:
        """The commands that came since."""
        folder = self.server.folder / "appendonlydir"
        files = sorted(folder.glob("appendonly.aof.*.incr.aof")) if folder.exists() else []
        if not files:
            return []
        side = files[-1].with_name(files[-1].name + ".idx")
        begin = self.at // incr_index.LINE_BYTES * incr_index.LINE_BYTES
        with open(files[-1], "rb") as file:
            file.seek(begin)
            data = file.read()
        if side.exists():              # ours: behind the end there may be room
            data = data[:incr_index.end_of(data, side.read_bytes())]
        data = data[self.at - begin:]
        self.at += len(data)
        self.parser.feed(data)
        found = []
        while (words := self.parser.next()) is not NOTHING:
            found.append(words)
        return found

    def until(self, mark: bytes) -> list:
        """What came up to a mark, as (database, words), MULTI and EXEC with none: a list for each mark."""
        deadline = time.monotonic() + LOG_WAIT_S
        parts, part = [], []
        while time.monotonic() < deadline:
            for words in self.more():
                if words[0] == b"SELECT":
                    self.db = words[1]
                elif words[:2] == [b"SET", MARK]:
                    parts.append(part)
                    part = []
                    if words[2] == mark:
                        return parts
                else:
                    part.append((None if words[0] in (b"MULTI", b"EXEC") else self.db, words))
            time.sleep(0.002)
        raise AssertionError(f"no {mark!r} in the file of {self.server.argv[0]}; after {parts[-3:]} {part}")


def same_word(a: bytes, b: bytes) -> bool:
    """Equal, or two times or ids from about the same moment."""
    if a == b:
        return True
    a_ms, _, b_ms = a.partition(b"-")[0], 0, b.partition(b"-")[0]
    if not (a_ms.isdigit() and b_ms.isdigit() and (b"-" in a) == (b"-" in b)):
        return False
    return abs(int(a_ms) - time.time() * 1000) < CLOCK_MS and abs(int(a_ms) - int(b_ms)) < TOLERANCE_MS


def same_log(ours: list, theirs: list) -> bool:
    """Equal but for times?"""
    return len(ours) == len(theirs) and all(
        db == other_db and len(words) == len(others) and all(map(same_word, words, others))
        for (db, words), (other_db, others) in zip(ours, theirs, strict=True))


def show(log: list) -> str:
    """For people."""
    lines = [f"    [{'' if db is None else db.decode()}] {b' '.join(words)[:600]!r}" for db, words in log]
    return "\n".join(lines) or "    -"


# ---- doing the same to both

class Pair:
    """Both servers, emptied, without active expiry."""

    def __init__(self, server, valkey):
        self.servers = (server, valkey)
        self.raws = [one.raw() for one in self.servers]
        self.waiting = [one.raw() for one in self.servers]
        self.logs = [Log(one) for one in self.servers]
        self.mark = 0
        self.call("SELECT", "0")
        self.call("FLUSHALL")
        self.call("DEBUG", "SET-ACTIVE-EXPIRE", "0")

    def call(self, *words) -> list:
        """A command to both; their replies."""
        return [raw.call(*words) for raw in self.raws]

    def wait(self, *words) -> None:
        """A command that blocks, of another client."""
        for raw, waiting in zip(self.raws, self.waiting, strict=True):
            waiting.send(encode(*words))
            deadline = time.monotonic() + LOG_WAIT_S
            while b"blocked_clients:1" not in raw.call("INFO", "clients"):
                assert time.monotonic() < deadline, f"does not wait: {words}"
                time.sleep(0.002)

    def step(self, step: tuple) -> list:
        """A step of a script; the replies. A mark ends it in the logs."""
        if step[0] == WAITING:
            self.wait(*step[1])
            replies = self.call(*step[2])
            for waiting in self.waiting:
                waiting.reply()
        elif step[0] == SLEEP:
            time.sleep(step[1])
            replies = ["", ""]
        else:
            replies = self.call(*step)
        self.mark = next(MARKS)
        self.call("SET", MARK, self.mark)
        return replies

    def parts(self) -> list:
        """Of both logs: what each step since the last call left."""
        return list(zip(*(log.until(b"%d" % self.mark) for log in self.logs), strict=True))

    def close(self) -> None:
        """As it was."""
        self.call("DEBUG", "SET-ACTIVE-EXPIRE", "1")
        for raw in (*self.raws, *self.waiting):
            raw.close()


@pytest.fixture
def pair(server, valkey):
    """Both servers."""
    both = Pair(server, valkey)
    both.step(("PING",))
    both.parts()
    yield both
    both.close()


def compare(pair: Pair, steps: list) -> None:
    """The steps leave the same in both logs; all that do not are told."""
    replies = [pair.step(step) for step in steps]
    wrong = []
    for step, (ours, theirs), (reply, other) in zip(steps, pair.parts(), replies, strict=True):
        if not same_log(ours, theirs):
            words = " ".join(str(word) for word in step)
            wrong.append(f"{words[:300]}  -> {str(reply)[:80]} / {str(other)[:80]}\n  ours\n{show(ours)}\n"
                         f"  Valkey's\n{show(theirs)}")
        elif isinstance(reply, Error) != isinstance(other, Error):
            wrong.append(f"{step}: {reply!r}, not {other!r}")
    assert not wrong, f"{len(wrong)} of {len(steps)}\n" + "\n".join(wrong)


# ---- the steps

def steps_of(text: str) -> list:
    """A command a line; $NOW+n is the time in s, $MS+n in ms; `~ a ~ b`: a waits until b."""
    found = []
    for line in text.strip().splitlines():
        words = []
        for word in line.split():
            if word.startswith("$NOW"):
                word = str(int(time.time()) + int(word[4:]))
            elif word.startswith("$MS"):
                word = str(int(time.time() * 1000) + int(word[3:]))
            words.append("" if word == "''" else word)
        if words[0] == "~":
            second = words.index("~", 1)
            found.append((WAITING, tuple(words[1:second]), tuple(words[second + 1:])))
        elif words[0] == SLEEP:
            found.append((SLEEP, float(words[1])))
        else:
            found.append(tuple(words))
    return found


STRINGS = """
SET a 1
set a 1 ex 100
SET a 1 EX 100 NX
DEL a
SET a 1 EX 100 NX
SET a 1 PX 100000 GET
SET a 1 EXAT $NOW+100
SET a 1 PXAT $MS+100000
SET a 1 PXAT $MS+100000 GET
SET a 2 GET
SET a 2 get XX Get
SET a 2 GET NX
SET a 3 IFEQ 2
SET a 4 IFEQ 3 GET
SET a 4 IFEQ 2
SET a 4 KEEPTTL
SET a 4 KEEPTTL GET XX
SET a 1 EXAT 1
SET a 1 EXAT 1
SET a 1
SET a 1 PXAT 1 GET
SETEX a 100 v
setex a 100 v
PSETEX a 100000 v
SETNX a v
SETNX b v
GETSET b w
getset b2 w
GETEX b
GETEX b EX 100
GETEX b PX 100000
GETEX b EXAT $NOW+100
GETEX b PXAT $MS+100000
GETEX b PERSIST
GETEX b PERSIST
GETEX b EXAT 1
GETEX b EXAT 1
GETDEL b
GETDEL b
SET b 5
DELIFEQ b 6
DELIFEQ b 5
DELIFEQ b 5
INCRBYFLOAT f 0.1
INCRBYFLOAT f 0.2
incrbyfloat f 1e3
SET f 1 EX 100
INCRBYFLOAT f 5
INCR n
DECR n
INCRBY n 5
DECRBY n 3
APPEND n 5
APPEND n ''
APPEND new ''
SETRANGE n 3 xx
SETRANGE n 3 ''
MSET a 1 b 2
MSETNX a 1 c 2
MSETNX d 1 e 2
MSETEX 2 a 1 b 2
MSETEX 2 a 1 b 2 EX 100
msetex 2 a 1 b 2 xx px 100000
MSETEX 2 a 1 b 2 NX EX 100
MSETEX 2 g1 1 g2 2 NX EXAT $NOW+100
MSETEX 2 a 1 b 2 PXAT $MS+100000
MSETEX 2 a 1 b 2 KEEPTTL
SETBIT bits 7 1
SETBIT bits 7 1
BITFIELD bits SET u8 0 255 GET u8 0
BITFIELD bits GET u8 0
BITFIELD bits INCRBY u8 0 10 OVERFLOW FAIL INCRBY u8 0 250
BITFIELD_RO bits GET u8 0
BITOP NOT dest bits
BITOP AND dest nokey nokey2
BITOP AND dest nokey nokey2
PFADD hll a b c
PFADD hll a b c
PFADD hll2
PFADD hll2
PFCOUNT hll
PFCOUNT hll
PFCOUNT hll hll2
PFMERGE hll3 hll hll2
PFMERGE hll3
PFCOUNT hll3
"""

KEYS = """
SET a 1
EXPIRE a 100
EXPIRE a 100 NX
expire a 200 gt
PEXPIRE a 300000
PEXPIRE a 100000 LT
EXPIREAT a $NOW+100
PEXPIREAT a $MS+100000
pexpireat a $MS+100001
PEXPIREAT a $MS+200000 XX GT
PERSIST a
PERSIST a
EXPIRE a -1
SET a 1
EXPIREAT a 1
SET a 1
PEXPIRE a 0
EXPIRE a 10
CONFIG SET lazyfree-lazy-expire no
SET a 1
EXPIRE a -1
SET a 1 PX 1
sleep 0.01
GET a
SET a 1 PX 1
sleep 0.01
SET a 2
SET a 1 PX 1
sleep 0.01
DEL a
SET a 1 PX 1
sleep 0.01
INCR a
CONFIG SET lazyfree-lazy-expire yes
SET a 1 PX 1
SET b 1 PX 1
sleep 0.01
MGET a b
SET a 1 PX 1
SET b 1 PX 1
sleep 0.01
DEL a b c
SET a 1 PX 1
sleep 0.01
LPUSH a x
DEL a
DEL a
UNLINK a
SET a 1
UNLINK a nokey
SET a 1
COPY a b
COPY a b
COPY a b REPLACE
COPY a b DB 3
RENAME a c
RENAMENX c b
RENAMENX c d
RENAME d d
RENAMENX d d
MOVE d 2
MOVE d 2
SELECT 2
MOVE d 0
SET x 1
SWAPDB 0 2
SELECT 0
SWAPDB 1 1
TOUCH x
SORT x
RPUSH l 3 1 2
SORT l STORE s
SORT nokey STORE s
SORT nokey STORE s
FLUSHDB
FLUSHDB
FLUSHALL
flushall async
FLUSHDB SYNC
SELECT 5
SET a 1
SELECT 0
MULTI
SET a 1 EX 100
GET a
INCRBYFLOAT n 1
EXEC
MULTI
GET a
EXEC
MULTI
SET a 1
EXEC
MULTI
SELECT 4
SET a 1
SELECT 0
SET a 1
EXEC
OBJECT ENCODING a
DEBUG SLEEP 0
"""

LISTS = """
RPUSH l 1 2 3 4 5 6 7 8
LPUSH l 0
LPUSHX l x
LPUSHX nokey x
LINSERT l BEFORE 4 3.5
LINSERT l BEFORE nothere 3.5
LSET l 0 y
LREM l 0 y
LREM l 0 nothere
LTRIM l 0 -1
LTRIM l 0 -2
LPOP l
RPOP l 1
LPOP l 0
LPOP nokey
LMPOP 2 nokey l LEFT
lmpop 2 nokey l RIGHT COUNT 2
LMPOP 1 l LEFT COUNT 100
LMPOP 1 l LEFT COUNT 100
RPUSH l 1 2 3 4 5 6
LMOVE l l2 LEFT right
LMOVE l l LEFT RIGHT
LMOVE nokey l LEFT RIGHT
RPOPLPUSH l l2
BLPOP nokey l 0
brpop l 0
BLMOVE l l2 left RIGHT 0
BRPOPLPUSH l l2 0
BLMPOP 0 2 nokey l2 LEFT COUNT 10
BLMPOP 0.001 2 nokey l LEFT COUNT 10
BLPOP nokey 0.001
DEL l l2
~ BLPOP nokey l 0 ~ RPUSH l 1
~ BLPOP nokey l 0 ~ RPUSH l 1 2
~ BRPOP l3 0 ~ RPUSH l3 1 2
~ BLMOVE l4 l5 LEFT LEFT 0 ~ RPUSH l4 1 2
~ BRPOPLPUSH l6 l5 0 ~ RPUSH l6 1 2
~ BLMPOP 0 2 nokey l7 RIGHT COUNT 2 ~ RPUSH l7 1 2
~ BLMPOP 0 2 nokey l7 RIGHT COUNT 5 ~ RPUSH l7 1 2
"""

SETS = """
SADD s 1 2 3
SADD s 1 2 3
SREM s 1 x
SREM s x
SMOVE s t 2
SMOVE s t 2
SMOVE s s 3
SPOP s
SPOP s
SADD s 1 2 3
SPOP s 5
SPOP s 0
CONFIG SET lazyfree-lazy-server-del no
SADD s 1 2 3
SPOP s 3
CONFIG SET lazyfree-lazy-server-del yes
SADD s 1 2 3
SADD t 2 3 4
SINTERSTORE u s t
SUNIONSTORE u s t
SDIFFSTORE u s t
SDIFFSTORE u nokey
SDIFFSTORE u nokey
ZADD z 1 a 2 b 3 c 4 d 5 e 6 f
ZADD z 1 a
ZADD z XX CH 2 a
ZADD z NX 5 a
ZADD z INCR 1.5 a
ZINCRBY z 0.1 a
ZREM z a
ZREM z a
ZPOPMIN z
ZPOPMAX z 2
ZPOPMIN z 0
ZMPOP 2 nokey z MIN
zmpop 2 nokey z MAX COUNT 10
ZMPOP 2 nokey z MAX COUNT 10
ZADD z 1 a 2 b 3 c 4 d 5 e 6 f
BZPOPMIN nokey z 0
bzpopmax z 0
BZMPOP 0 1 z MIN COUNT 2
BZMPOP 0 1 z MAX COUNT 20
~ BZPOPMIN nokey z 0 ~ ZADD z 1 a 2 b
~ BZPOPMAX nokey z2 0 ~ ZADD z2 1 a 2 b
~ BZMPOP 0 2 nokey z3 MAX COUNT 5 ~ ZADD z3 1 a 2 b
ZADD z 1 a 2 b 3 c 4 d 5 e 6 f
ZRANGESTORE y z 0 2
ZRANGESTORE y z 10 12
ZRANGESTORE y z 10 12
ZUNIONSTORE y 2 z z2
ZINTERSTORE y 2 z z2 WEIGHTS 1 2
ZDIFFSTORE y 2 z z2
ZREMRANGEBYRANK z 0 0
ZREMRANGEBYSCORE z 2 2
ZREMRANGEBYLEX z [x [y
GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
geoadd g xx ch 13.361389 38.5 Palermo
GEOADD g 13.361389 38.5 Palermo
GEOADD g NX 1 1 other
GEOADD g 200 1 other
GEOSEARCHSTORE gs g FROMLONLAT 15 37 BYRADIUS 200 km
GEOSEARCHSTORE gs g FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST
GEOSEARCHSTORE gs g FROMLONLAT 0 0 BYRADIUS 1 km
GEORADIUS g 15 37 200 km STORE gs
GEORADIUS g 15 37 200 km
GEORADIUSBYMEMBER g Palermo 200 km STOREDIST gs
"""

HASHES = """
HSET h a 1 b 2 c 3 d 4
HMSET h a 1
HSETNX h a 1
HSETNX h e 1
HINCRBY h a 5
HINCRBYFLOAT h a 0.5
HDEL h a x
HDEL h x
HGETDEL h FIELDS 2 b x
HGETDEL h FIELDS 1 x
HSETEX h EX 100 FIELDS 2 a 1 b 2
HINCRBY h a 5
HINCRBY h c 5
hincrby h new 5
HINCRBYFLOAT h b 0.5
HINCRBYFLOAT h c 0.5
HSETNX h newer 5
hsetex h fnx px 100000 fields 1 q 1
HSETEX h FXX PXAT $MS+100000 FIELDS 1 q 1
HSETEX h XX EXAT $NOW+100 FIELDS 1 q 1
HSETEX h NX EXAT $NOW+100 FIELDS 1 q 1
HSETEX h2 NX KEEPTTL FIELDS 1 q 1
HSETEX h PXAT $MS+100000 FIELDS 1 q 1
HSETEX h KEEPTTL FIELDS 1 q 1
HSETEX h FIELDS 1 q 1
HSETEX h EXAT 1 FIELDS 2 q 1 nothere 1
HSETEX h EXAT 1 FIELDS 1 nothere 1
HSETEX h3 EXAT 1 FIELDS 1 nothere 1
HSETEX h3 PX 20 FIELDS 2 a 1 b 2
HSETEX h3 FIELDS 1 c 1
sleep 0.03
HSETEX h3 KEEPTTL FIELDS 2 a 1 c 2
HSETNX h3 b 1
DEL h3
HSETEX h3 PX 1 FIELDS 2 a 1 b 2
sleep 0.01
HINCRBY h3 a 1
HINCRBYFLOAT h3 b 1
HSETEX h3 PX 1 FIELDS 2 a 1 b 2
sleep 0.01
HDEL h3 a b
HSET h3 a 1
HGETALL h3
DEL h3
HSETEX h3 PX 1 FIELDS 2 a 1 b 2
sleep 0.01
HLEN h3
HGET h3 a
HSET h3 c 1
HGETEX h FIELDS 1 a
HGETEX h EX 100 FIELDS 3 a b nothere
HGETEX h PX 100000 FIELDS 1 a
HGETEX h EXAT $NOW+100 FIELDS 1 a
HGETEX h PXAT $MS+100000 FIELDS 1 a
HGETEX h PERSIST FIELDS 2 a nothere
HGETEX h PERSIST FIELDS 2 a nothere
HGETEX h EXAT 1 FIELDS 2 a nothere
HGETEX h EXAT 1 FIELDS 2 a nothere
HEXPIRE h 100 FIELDS 2 b nothere
hpexpire h 100000 XX FIELDS 1 b
HEXPIREAT h $NOW+100 FIELDS 1 b
HPEXPIREAT h $MS+100000 FIELDS 1 b
hpexpireat h $MS+200000 GT FIELDS 2 b d
HPERSIST h FIELDS 2 b nothere
HPERSIST h FIELDS 2 b nothere
HEXPIRE h 0 FIELDS 2 b nothere
HSET h4 a 1
HEXPIREAT h4 1 FIELDS 1 a
HEXPIREAT h4 1 FIELDS 1 a
"""

STREAMS = """
XADD s * a 1
XADD s 9999999999999-* a 1
xadd s nomkstream 9999999999999-5 a 1
XADD nokey NOMKSTREAM * a 1
XADD s MAXLEN 2 * a 1
XADD s MAXLEN ~ 1 * a 1
XADD s MAXLEN = 2 * a 1
XADD s MINID ~ 5-0 LIMIT 10 * a 1
XADD s MAXLEN ~ 1 LIMIT 10 9999999999999-50 a 1
XTRIM s MAXLEN 1
XTRIM s MAXLEN 1
XTRIM s MAXLEN ~ 0
XTRIM s MINID ~ 9999999999999-90
XDEL s 9999999999999-50
XDEL s 9999999999999-50
XSETID s 9999999999999-60
DEL s
XADD s 1-1 a 1
XADD s 2-1 a 1
XADD s 3-1 a 1
XADD s 4-1 a 1
XADD s 5-1 a 1
XADD s 5-* a 1
XGROUP CREATE s g 0
XGROUP CREATE s g $
XGROUP CREATE t g $ MKSTREAM ENTRIESREAD 0
xgroup create s h $
XGROUP CREATECONSUMER s g c
XGROUP CREATECONSUMER s g c
XREADGROUP GROUP g c COUNT 1 STREAMS s >
XREADGROUP GROUP g c COUNT 2 STREAMS s >
XREADGROUP GROUP g c STREAMS s 0
XREADGROUP GROUP g new NOACK COUNT 1 STREAMS s >
XREADGROUP GROUP g new2 STREAMS s t > >
XREADGROUP GROUP g new3 STREAMS s t > >
XREADGROUP GROUP g new4 NOACK STREAMS s >
XREADGROUP GROUP h new4 NOACK STREAMS s 0
XGROUP SETID s g 2-1
XGROUP SETID s g 0 ENTRIESREAD 0
XREADGROUP GROUP g other COUNT 2 STREAMS s >
XACK s g 1-1 9-9
XACK s g 1-1
XCLAIM s g third 0 2-1 3-1
XCLAIM s g third 100000 2-1
XCLAIM s g third 0 2-1 JUSTID IDLE 5 RETRYCOUNT 7
XCLAIM s g third 0 5 FORCE TIME 1
XCLAIM s g third 0 5-1 FORCE TIME 1 LASTID 5-1
XCLAIM s g fourth 0 77-1 LASTID 6-1
XCLAIM s g fourth 0 77-1
XCLAIM s g fifth 0 77-1
XDEL s 3-1
XCLAIM s g fifth 0 3-1
XDEL s 5-1
XAUTOCLAIM s g sixth 0 0
XAUTOCLAIM s g sixth 0 0 COUNT 1 JUSTID
XAUTOCLAIM s g seventh 100000 0
XGROUP DELCONSUMER s g third
XGROUP DELCONSUMER s g nobody
XGROUP DESTROY s h
XGROUP DESTROY s h
XADD big 1 a 1
XADD big 2 a 1
XADD big 3 a 1
XADD big MAXLEN ~ 1 LIMIT 1 4 a 1
~ XREADGROUP GROUP g c BLOCK 0 STREAMS t > ~ XADD t 1-1 a 1
~ XREADGROUP GROUP g d BLOCK 0 NOACK STREAMS t > ~ XADD t 2-1 a 1
~ XREAD BLOCK 0 STREAMS t $ ~ XADD t * a 1
XPENDING t g
XINFO STREAM t
DEL t
"""

# what comes upon the key `a`, which expired a moment ago
UPON_EXPIRED = """
GET a
SET a 2
SET a 2 KEEPTTL
SET a 2 XX
SET a 2 NX
SET a 2 EX 100
SET a 2 GET
SETNX a 2
GETSET a 2
GETDEL a
GETEX a EX 100
MSET a 1 b 2
MSETNX a 1 b2 2
APPEND a x
SETRANGE a 0 x
SETBIT a 1 1
BITFIELD a SET u8 0 1
BITOP NOT a b
PFADD a 1
PFMERGE a nokey
PFCOUNT a
STRLEN a
EXISTS a a
TYPE a
TOUCH a
TTL a
OBJECT ENCODING a
DEBUG OBJECT b
KEYS *
SCAN 0 COUNT 1000
DBSIZE
DUMP a
DEL a
UNLINK a
PERSIST a
EXPIRE a 100
COPY b a
COPY b a REPLACE
COPY a c
RENAME b a
RENAMENX a c
RENAME a c
MOVE a 1
MOVE a 1
SORT l STORE a
SORT a
LPUSH a 1
LPUSHX a 1
LMOVE l a LEFT LEFT
LPOP a
BLPOP a l 1
SADD a 1
SMOVE s a 1
SPOP a
SUNIONSTORE a s
SINTERSTORE a s nokey
SDIFF a s
ZADD a 1 1
ZUNIONSTORE a 1 s
ZUNIONSTORE a 1 nokey
SUNIONSTORE a nokey
SORT nokey STORE a
ZRANGESTORE a z 0 -1
ZRANGESTORE a nokey 0 -1
ZPOPMIN a
GEOADD a 1 1 x
GEOSEARCHSTORE a nokey FROMLONLAT 1 1 BYBOX 1 1 m
HSET a f 1
HINCRBY a f 1
HSETEX a EX 100 FIELDS 1 f 1
HGETDEL a FIELDS 1 f
HRANDFIELD a
XADD a * f 1
XADD a NOMKSTREAM * f 1
XGROUP CREATE a g $ MKSTREAM
XTRIM a MAXLEN 1
XREAD STREAMS a 0
SWAPDB 0 1
SWAPDB 0 1
FLUSHALL
"""

SCRIPTS = {"strings": STRINGS, "keys": KEYS, "lists": LISTS, "sets": SETS, "hashes": HASHES, "streams": STREAMS}


@pytest.mark.parametrize("family", SCRIPTS)
def test_fixed(pair, family):
    compare(pair, steps_of(SCRIPTS[family]))


def test_upon_expired(pair):
    """The deletion comes first, and both are one transaction."""
    steps = []
    for step in steps_of(UPON_EXPIRED):
        steps += [("DEL", "a", "b", "l", "s", "z"), ("SET", "b", "1"), ("RPUSH", "l", "1", "2"),
                  ("SADD", "s", "1", "2"), ("ZADD", "z", "1", "x"), ("SET", "a", "1", "PX", "1"),
                  (SLEEP, 0.004), step]
    compare(pair, steps)


@pytest.mark.parametrize("later", ["yes", "no"])
def test_evicted(pair, later):
    pair.call("MSET", "a", "1", "b", "2", "c", "3")
    pair.step(("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "lazyfree-lazy-eviction", later))
    pair.parts()
    pair.call("CONFIG", "SET", "maxmemory", "1")
    pair.call("SET", "d", "refused")
    pair.step(("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction", "lazyfree-lazy-eviction", "yes"))
    ours, theirs = pair.parts()[0]
    word = b"UNLINK" if later == "yes" else b"DEL"
    assert [word, b"a"] in [words for _, words in theirs]
    assert sorted(ours) == sorted(theirs), f"\n{show(ours)}\n  Valkey's\n{show(theirs)}"


def test_restore(pair):
    pair.call("SET", "a", "hello")
    payload = pair.call("DUMP", "a")[1]
    now_ms = int(time.time() * 1000)
    compare(pair, [
        ("RESTORE", "b", "0", payload), ("RESTORE", "b", "0", payload),
        ("RESTORE", "b", "0", payload, "REPLACE"), ("restore", "b", "100000", payload, "replace"),
        ("RESTORE", "c", now_ms + 100000, payload, "ABSTTL"), ("RESTORE", "b", "1", payload, "ABSTTL", "REPLACE"),
        ("RESTORE", "b", "1", payload, "ABSTTL", "REPLACE"), ("RESTORE", "d", "1", payload, "ABSTTL"),
        ("RESTORE", "d", "0", payload, "IDLETIME", "100"), ("RESTORE", "e", "0", payload[:-1] + b"x"),
        ("CONFIG", "SET", "lazyfree-lazy-server-del", "no"), ("RESTORE", "d", "1", payload, "ABSTTL", "REPLACE"),
        ("CONFIG", "SET", "lazyfree-lazy-server-del", "yes")])


@pytest.mark.parametrize("size,member", [(20, b"m%d"), (20, b"%d"), (5000, b"%d"), (5000, b"member%d"), (100, b"m%d")])
def test_spop(pair, size, member):
    """The same shape; and what the log says is what was replied."""
    members = [member % number for number in range(size)]
    for count in (None, 1, 3, size // 2, size - 1, 1500, size - 1024):
        if count is not None and not 0 < count < size:
            continue
        pair.call("DEL", "s")
        pair.call("SADD", "s", *members)
        pair.step(("PING",))
        pair.parts()
        replies = pair.step(("SPOP", "s") if count is None else ("SPOP", "s", count))
        ours, theirs = pair.parts()[0]
        assert [(db, words[0], len(words)) for db, words in ours] == [
            (db, words[0], len(words)) for db, words in theirs]
        gone = [word for _, words in ours if words[0] == b"SREM" for word in words[2:]]
        assert gone == ([replies[0]] if count is None else replies[0])


def test_active_expiry(pair):
    """Fields and keys that expire by themselves: one HDEL (and UNLINK of a hash that is empty then)."""
    steps = [("HSETEX", "h", "PX", "30", "FIELDS", "1", "a", "1"), ("HSETEX", "k", "PX", "30", "FIELDS", "1", "a", "1"),
             ("HSET", "k", "b", "1"), ("DEBUG", "SET-ACTIVE-EXPIRE", "1"), (SLEEP, 1.5),
             ("HSETEX", "h", "PX", "30", "FIELDS", "1", "b", "1"), (SLEEP, 1.5),
             ("SET", "a", "1", "PX", "30"), (SLEEP, 1.0)]
    for step in steps:
        pair.step(step)
    found = []
    for log in zip(*pair.parts(), strict=True):
        log = [entry for part in log for entry in part]
        at = [number for number, (_, words) in enumerate(log) if words[0] == b"HSET"][0]
        found.append(log[at + 1:])
    ours, theirs = found
    def key(log):
        return sorted((words for _, words in log if words[0] in (b"HDEL", b"UNLINK", b"DEL")), key=repr)
    assert key(ours) == key(theirs), f"\n{show(ours)}\n  Valkey's\n{show(theirs)}"
    assert same_log(sorted(ours, key=repr), sorted(theirs, key=repr)), f"\n{show(ours)}\n  Valkey's\n{show(theirs)}"


def test_many_fields_expire(pair):
    """HDELs of at most 1024 fields, then the key goes."""
    fields = [word for number in range(3000) for word in (b"f%d" % number, b"1")]
    pair.step(("HSETEX", "h", "PX", "300", "FIELDS", "3000", *fields))
    pair.step(("DEBUG", "SET-ACTIVE-EXPIRE", "1"))
    pair.step((SLEEP, 3.0))
    for log in zip(*pair.parts(), strict=True):
        log = [words for part in log for _, words in part][1:]
        gone = [word for words in log if words[0] == b"HDEL" for word in words[2:]]
        assert sorted(gone) == sorted(fields[::2])
        assert max(len(words) for words in log) <= 1026
        assert [b"UNLINK", b"h"] in log[-2:], show([(None, words) for words in log[-4:]])


def load(valkey_binary, tmp_path, file: bytes, ours: bool) -> str:
    """The digest of what a server makes of an INCR file."""
    folder = tmp_path / ("ours" if ours else "theirs")
    (folder / "appendonlydir").mkdir(parents=True)
    (folder / "appendonlydir" / "appendonly.aof.1.incr.aof").write_bytes(file)
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text(
        "file appendonly.aof.1.incr.aof seq 1 type i\n")
    server = Server(folder, *SERVER_OPTIONS, command=None if ours else [valkey_binary]).start()
    try:
        with server.raw() as raw:
            return raw.call("DEBUG", "DIGEST")
    finally:
        server.kill()


def test_loaded(pair, valkey_binary, tmp_path):
    """Both servers make of the file what the server had that wrote it."""
    for db, script in enumerate((LISTS, SETS, HASHES, STREAMS, STRINGS), 1):
        for step in (("SELECT", db), *steps_of(script)):
            if step[0] != WAITING:     # whose client is in another database
                pair.step(step)
    pair.step(("SELECT", 0))
    for step in random_steps(17):
        pair.step(step)
    pair.call("DEBUG", "SET-ACTIVE-EXPIRE", "1")
    pair.step((SLEEP, 1.5))
    pair.parts()
    digests = pair.call("DEBUG", "DIGEST")
    folder = pair.servers[0].folder / "appendonlydir"
    file = sorted(folder.glob("appendonly.aof.*.incr.aof"))[-1].read_bytes()
    for ours in (False, True):
        assert load(valkey_binary, tmp_path, file, ours) == digests[0], ours


def random_steps(seed: int) -> list:
    """Lines of all scripts in any order, on few keys."""
    rng = random.Random(seed)
    never = ("sleep", "SPOP", "FLUSH", "SELECT", "MULTI", "EXEC", "DEBUG", "~", "CONFIG", "BLPOP", "BRPOP", "BLMOVE",
             "BLMPOP", "BRPOPLPUSH", "BZ", "SWAPDB", "DUMP", "PX 1", "PX 20", "OBJECT")
    lines = [line for script in SCRIPTS.values() for line in script.strip().splitlines()
             if not line.upper().startswith(tuple(word.upper() for word in never)) and " PX 1\n" not in line + "\n"
             and "PX 1 " not in line and "PX 20 " not in line]
    keys = {"strings": "abfn", "keys": "abcx", "lists": "l", "sets": "sz", "hashes": "h", "streams": "s"}
    several = [word for words in keys.values() for word in words]
    chosen = []
    for _ in range(COMMANDS):
        words = rng.choice(lines).split()
        if rng.random() < 0.05 and len(words) > 1:
            words[1] = rng.choice(several)
        chosen.append(" ".join(words))
    return steps_of("\n".join(chosen))


@pytest.mark.parametrize("seed", range(int(os.environ.get("SLOTRING_TEST_SEEDS", "1"))))
def test_random(pair, seed):
    compare(pair, random_steps(seed))
