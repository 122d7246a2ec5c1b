"""SHUTDOWN: ends the server. The command's thread waits for the control thread's outcome."""

from engine.command import register_python

from net import shutdown
from net.commands.common import NO_KEYS, about, syntax_error, words
from net.config import config
from net.reply import NO_REPLY, OK, Error


def _who(client: object) -> str:
    return (f"id={client.id} addr={words(client.addr)} laddr={words(client.laddr)} "
            f"name={words(client.name)} user={words(client.user)}")


def shut_down(client: object, args: list[bytes]) -> object:
    """SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [SAFE] [FAILOVER] | SHUTDOWN ABORT"""
    flags = {words(arg).lower() for arg in args[1:]}
    abort = "abort" in flags
    flags.discard("abort")
    if not flags <= shutdown.FLAGS or (abort and flags) or {"save", "nosave"} <= flags:
        raise syntax_error()
    if "failover" in flags and not config.get_value("cluster-enabled"):
        raise Error("ERR SHUTDOWN FAILOVER is only supported in cluster mode.")
    if abort:
        if not shutdown.abort():
            raise Error("ERR No shutdown in progress.")
        return OK
    wish = shutdown.request(frozenset(flags), _who(client))
    wish.over.wait()
    if wish.failed:
        raise Error("ERR Errors trying to SHUTDOWN. Check logs.")
    return NO_REPLY


register_python("shutdown", -1, "admin noscript loading stale no_multi allow_busy", NO_KEYS,
                shut_down, about("1.0.0", "server", "admin slow dangerous",
                                 "Ends the server, by default after saving its data.",
                                 "O(N) with N keys where it saves."))
