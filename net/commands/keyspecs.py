"""Where commands have their keys and what they do with them; tips for clients. Valkey's facts.

A specification is "flags begin find": begin is `@N` (the keys begin at argument N) or `WORD@N` (after
WORD, looked for from argument N on, from the end if N is negative) or `?`; find is `last,step` or
`last,step,limit` (a range), `#number,first,step` (an argument says how many keys) or `?`."""

from engine.shared import find

_TABLE = (
    ("RO access @1 0,1",
     "bitcount bitfield_ro bitpos dump expiretime geodist geohash geopos georadius_ro "
     "georadiusbymember_ro geosearch get getbit getrange hexpiretime hget hgetall hkeys hmget "
     "hpexpiretime hpttl hrandfield hscan httl hvals lindex lpos lrange pexpiretime pttl "
     "smembers smismember srandmember sscan substr ttl xpending xrange xrevrange zcount "
     "zlexcount zmscore zrandmember zrange zrangebylex zrangebyscore zrank zrevrange "
     "zrevrangebylex zrevrangebyscore zrevrank zscan zscore"),
    ("RO @1 0,1", "hexists hlen hstrlen llen scard sismember strlen type xlen zcard"),
    ("RO @1 -1,1", "exists touch watch"),
    ("RO @2 0,1",
     "memory|usage object|encoding object|freq object|idletime object|refcount"),
    ("RO access @2 0,1", "xinfo|consumers xinfo|groups xinfo|stream"),
    ("RO access @1 -1,1", "mget sdiff sinter sunion"),
    ("RO access @1 1,1", "lcs"),
    ("RO access @1 #0,1,1", "sintercard zdiff zinter zintercard zunion"),
    ("RO access @2 #0,1,1", "eval_ro evalsha_ro fcall_ro"),
    ("RW access update @2 #0,1,1", "eval evalsha fcall"),
    ("RO access STREAMS@1 -1,1,2", "xread"),
    ("RO access STREAMS@4 -1,1,2", "xreadgroup"),
    ("RW access update @1 0,1",
     "decr decrby getex getset hgetex hincrby hincrbyfloat incr incrby incrbyfloat move setbit "
     "zincrby"),
    ("RW access update variable_flags @1 0,1", "bitfield set"),
    ("RW access delete @1 0,1", "getdel hgetdel lpop rpop spop zpopmax zpopmin"),
    ("RW access delete @1 -2,1", "blpop brpop bzpopmax bzpopmin"),
    ("RW access delete @1 #0,1,1", "lmpop zmpop"),
    ("RW access delete @2 #0,1,1", "blmpop bzmpop"),
    ("RW access @1 -1,1", "pfcount"),
    ("RW access @2 0,1", "pfdebug"),
    ("RW delete @1 0,1",
     "hdel lrem ltrim srem xautoclaim xdel xtrim zrem zremrangebylex zremrangebyrank "
     "zremrangebyscore"),
    ("RW delete @2 0,1", "xgroup|delconsumer xgroup|destroy"),
    ("RW insert @1 0,1",
     "append hsetex hsetnx linsert lpush lpushx pfadd rpush rpushx sadd"),
    ("RW insert @2 0,1", "xgroup|create xgroup|createconsumer"),
    ("RW update @1 0,1",
     "expire expireat geoadd hexpire hexpireat hmset hpersist hpexpire hpexpireat hset lset "
     "persist pexpire pexpireat setrange xack xadd xclaim xsetid zadd"),
    ("RW update @2 0,1", "xgroup|setid"),
    ("OW update @1 0,1", "psetex restore restore-asking setex"),
    ("OW update @1 -1,2", "mset"),
    ("OW update @1 #0,1,2", "msetex"),
    ("OW insert @1 -1,2", "msetnx"),
    ("OW insert @1 0,1", "setnx"),
    ("RM delete @1 -1,1", "del unlink"),
    ("RM delete @1 0,1", "delifeq"),
    ("RO access @1 0,1; OW update @2 0,1", "copy"),
    ("OW update @1 0,1; RO access @2 0,1", "geosearchstore zrangestore"),
    ("OW update @1 0,1; RO access @2 -1,1", "sdiffstore sinterstore sunionstore"),
    ("OW update @1 0,1; RO access @2 #0,1,1", "zdiffstore zinterstore zunionstore"),
    ("OW update @2 0,1; RO access @3 -1,1", "bitop"),
    ("RW access insert @1 0,1; RO access @2 -1,1", "pfmerge"),
    ("RW access delete @1 0,1; OW insert @2 0,1", "renamenx"),
    ("RW access delete @1 0,1; OW update @2 0,1", "rename"),
    ("RW access delete @1 0,1; RW insert @2 0,1", "blmove brpoplpush lmove rpoplpush smove"),
    ("RO access @1 0,1; RO access ? ?", "sort_ro"),
    ("RO access @1 0,1; RO access ? ?; OW update ? ?", "sort"),
    ("RO access @1 0,1; OW update variable_flags STORE@6 0,1; "
     "OW update variable_flags STOREDIST@6 0,1", "georadius"),
    ("RO access @1 0,1; OW update variable_flags STORE@5 0,1; "
     "OW update variable_flags STOREDIST@5 0,1", "georadiusbymember"),
    ("RW access delete @3 0,1; RW access delete incomplete KEYS@-2 -1,1", "migrate"),
    ("not_key @1 -1,1", "ssubscribe sunsubscribe"),
    ("not_key @1 0,1", "clusterscan spublish"),
)

_TIPS = (
    ("nondeterministic_output",
     "client|info client|list dump hrandfield hscan lastsave migrate object|encoding object|freq "
     "object|idletime object|refcount pttl spop srandmember sscan time ttl xadd xautoclaim xclaim "
     "xinfo|consumers xpending xtrim zrandmember zscan cluster|bumpepoch cluster|count-failure-reports "
     "cluster|info cluster|links cluster|myshardid cluster|nodes cluster|replicas cluster|shards cluster|slaves "
     "cluster|slots"),
    ("nondeterministic_output_order",
     "command command|docs command|info command|list function|list hgetall hkeys hvals "
     "module|list sdiff sinter smembers sunion"),
    ("request_policy:all_shards response_policy:special nondeterministic_output", "randomkey"),
    ("request_policy:all_shards response_policy:all_succeeded",
     "flushall flushdb function|delete function|flush function|load function|restore "
     "memory|purge ping"),
    ("nondeterministic_output request_policy:all_shards response_policy:special",
     "function|stats info memory|doctor memory|malloc-stats memory|stats"),
    ("request_policy:multi_shard response_policy:all_succeeded", "mset msetex"),
    ("request_policy:all_nodes response_policy:all_succeeded",
     "acl|deluser acl|save acl|setuser client|setinfo client|setname commandlog|reset "
     "config|resetstat config|rewrite config|set script|flush script|load slowlog|reset"),
    ("request_policy:multi_shard response_policy:agg_sum", "del exists touch unlink"),
    ("request_policy:all_nodes nondeterministic_output", "commandlog|get slowlog|get"),
    ("request_policy:all_nodes response_policy:agg_sum nondeterministic_output",
     "commandlog|len slowlog|len"),
    ("request_policy:multi_shard", "mget"),
    ("nondeterministic_output request_policy:all_nodes response_policy:special",
     "latency|doctor latency|graph latency|histogram latency|history latency|latest"),
    ("request_policy:all_nodes response_policy:agg_sum", "latency|reset"),
    ("request_policy:all_shards response_policy:agg_sum", "dbsize"),
    ("request_policy:all_shards nondeterministic_output_order", "keys"),
    ("nondeterministic_output request_policy:special response_policy:special",
     "clusterscan scan"),
)


class Spec:
    """One specification, taken apart."""

    __slots__ = ("begin", "find", "flags")

    def __init__(self, text: str) -> None:
        *flags, begin, find = text.split()
        self.flags = flags
        self.begin: tuple[str, int] | None = None        # (word or "", argument)
        self.find: tuple[str, list[int]] | None = None   # ("range" or "keynum", its numbers)
        if begin != "?":
            word, _, at = begin.partition("@")
            self.begin = (word, int(at))
        if find != "?":
            numbers = [int(number) for number in find.removeprefix("#").split(",")]
            if find.startswith("#"):
                self.find = ("keynum", numbers)
            else:
                self.find = ("range", [*numbers, 0][:3])


def _by_name(table: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {name: text for text, names in table for name in names.split()}


_specs = _by_name(_TABLE)
_tips = _by_name(_TIPS)


def of_row(row: dict) -> list[Spec]:
    """The specifications of a command; those that its row implies where none are listed."""
    text = find(_specs, row["name"])
    if text is None:
        first, last, step = row["keys"]
        if not first:
            return []
        flags = "RO access" if "readonly" in row["flags"] else "RW access update"
        text = f"{flags} @{first} {last if last < 0 else last - first},{step}"
    return [Spec(part) for part in text.split("; ")]


def tips(name: str) -> list[str]:
    """The tips of a command."""
    return find(_tips, name, "").split()
