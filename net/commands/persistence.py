"""SAVE, LASTSAVE: the data set on the disk."""

from engine.command import register_python

from net import saving
from net.commands.common import NO_KEYS, about
from net.reply import OK, Error


def save(_client: object, _args: list[bytes]) -> object:
    """SAVE"""
    saving.state.saves += 1
    if not saving.save():
        raise Error("ERR")
    return OK


def last_save(_client: object, _args: list[bytes]) -> object:
    """LASTSAVE"""
    return saving.state.last_save_s


register_python("save", 1, "admin noscript no_async_loading no_multi", NO_KEYS, save, about(
    "1.0.0", "server", "admin slow dangerous", "Writes all data to the disk and waits for it.", "O(N), N all keys"))
register_python("lastsave", 1, "loading stale fast", NO_KEYS, last_save, {**about(
    "1.0.0", "server", "admin fast dangerous", "Says when the data was last written to the disk."),
    "tips": "nondeterministic_output"})
