"""SAVE, BGSAVE, LASTSAVE: the data set on the disk."""

from engine.command import register_python

from net import appendonly, log, saving
from net.commands.common import NO_KEYS, about, syntax_error
from net.reply import OK, Error

IN_PROGRESS = "ERR Background save already in progress"


def save(_client: object, _args: list[bytes]) -> object:
    """SAVE"""
    if saving.state.child is not None:
        raise Error(IN_PROGRESS)
    saving.state.saves += 1
    if not saving.save():
        raise Error("ERR")
    return OK


def cancel() -> str:
    """BGSAVE CANCEL"""
    child = saving.state.child
    if child is not None and child.kind == "rdb":
        log.notice("Background saving will be aborted due to user request")
        child.stop()
        return "Background saving cancelled"
    if saving.state.scheduled:
        log.notice("Scheduled background saving will be cancelled due to user request")
        saving.state.scheduled = False
        return "Scheduled background saving cancelled"
    raise Error("ERR Background saving is currently not in progress or scheduled")


def background_save(client: object, args: list[bytes]) -> object:
    """BGSAVE [SCHEDULE | CANCEL]"""
    word = args[1].lower() if len(args) == 2 else b""
    if len(args) > 1:
        if word == b"cancel":
            return cancel()
        if word != b"schedule":
            raise syntax_error()
    child = saving.state.child
    if child is not None and child.kind == "rdb":
        raise Error(IN_PROGRESS)
    if child is not None and word == b"schedule":
        saving.state.scheduled = True
        return "Background saving scheduled"
    if child is not None:
        raise Error("ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order "
                    "to schedule a BGSAVE whenever possible.")
    if client.in_exec:
        saving.state.scheduled = True
        log.notice("Background saving scheduled to run after transaction execution")
        return "Background saving scheduled"
    if not saving.start_background():
        raise Error("ERR")
    return "Background saving started"


def last_save(_client: object, _args: list[bytes]) -> object:
    """LASTSAVE"""
    return saving.state.last_save_s


def rewrite(client: object, _args: list[bytes]) -> object:
    """BGREWRITEAOF"""
    child = saving.state.child
    if child is not None and child.kind == "aof":
        raise Error("ERR Background append only file rewriting already in progress")
    if child is not None or client.in_exec:
        appendonly.state.scheduled = True
        appendonly.state.next_try_s = 0.0
        return "Background append only file rewriting scheduled"
    if not appendonly.start_rewrite():
        raise Error("ERR Can't execute an AOF background rewriting. Please check the server logs for more information.")
    return "Background append only file rewriting started"


register_python("bgrewriteaof", 1, "admin noscript no_async_loading", NO_KEYS, rewrite, about(
    "1.0.0", "server", "admin slow dangerous", "Writes the append-only file anew while commands go on.", "O(1)"))
register_python("save", 1, "admin noscript no_async_loading no_multi", NO_KEYS, save, about(
    "1.0.0", "server", "admin slow dangerous", "Writes all data to the disk and waits for it.", "O(N), N all keys"))
register_python("bgsave", -1, "admin noscript no_async_loading", NO_KEYS, background_save, about(
    "1.0.0", "server", "admin slow dangerous", "Writes all data to the disk while commands go on.", "O(1)"))
register_python("lastsave", 1, "loading stale fast", NO_KEYS, last_save, {**about(
    "1.0.0", "server", "admin fast dangerous", "Says when the data was last written to the disk."),
    "tips": "nondeterministic_output"})
