"""What the log says of RESTORE's payloads."""

from engine import stream_type
from engine.shared import find
from net import log

# by RDB type: what of it can be damaged
KINDS = {
    9: "Zipmap", 10: "List ziplist", 11: "Intset", 12: "Zset ziplist", 13: "Hash ziplist",
    14: "Ziplist", 15: "Stream listpack", 16: "Hash listpack", 17: "Zset listpack",
    18: "Listpack", 19: "Stream listpack", 20: "Set listpack", 21: "Stream listpack",
}
SCORES = frozenset((3, 5, 12, 17))
STREAMS = frozenset((15, 19, 21))


def refused(rdb_type: int) -> None:
    """RESTORE replied that the value is damaged."""
    what = find(KINDS, rdb_type, f"RDB type {rdb_type}")
    scores = ", or there is a NAN score" if rdb_type in SCORES else ""
    reason = stream_type.REASONS[stream_type.reason()] if rdb_type in STREAMS else ""
    log.verbose(f"RESTORE: {what} integrity check failed{scores}{': ' if reason else ''}{reason}")
