# slotring: data plane
"""What is not run; see gate.pxd."""
from libc.string cimport memcmp, strerror, strlen
from engine.command cimport Arg, Command, F_LOADING
from engine.conf cimport conf
from engine.defs cimport *
from engine.reply cimport OutBuf, reply_error, reply_error_len

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

loading = 0
cdef const char* MISCONF = (
    b"MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that "
    b"may modify the data set are disabled, because this instance is configured to report errors during writes if RDB "
    b"snapshotting fails (stop-writes-on-bgsave-error option). Please check the Valkey logs for details about the RDB "
    b"error.")


cdef void unknown_command(OutBuf* o, Arg* argv, i64 argc) noexcept nogil:
    cdef char text[512]
    cdef int n, room
    cdef i64 i
    n = snprintf(text, 400, b"ERR unknown command '%.*s', with args beginning with: ",
                 <int>(argv[0].len if argv[0].len < 128 else 128), argv[0].ptr)
    i = 1
    room = 128
    while i < argc and room > 0:
        n += snprintf(text + n, 160, b"'%.*s' ",
                      <int>(argv[i].len if argv[i].len < <size_t>room else room), argv[i].ptr)
        room -= <int>(argv[i].len if argv[i].len < <size_t>room else room) + 3
        i += 1
    reply_error_len(o, text, n)


cdef bint subscriber_may(Command* cmd) noexcept nogil:
    """May a connection that has subscriptions and speaks RESP2 run this?"""
    cdef const char** words = [b"ping", b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ssubscribe",
                               b"sunsubscribe", b"quit", b"reset"]
    cdef int i
    for i in range(9):
        if cmd.name_len == strlen(words[i]) and not memcmp(cmd.name, words[i], cmd.name_len):
            return True
    return False


cdef void say_misconf(OutBuf* o, const char* before) noexcept nogil:
    """The error of a write that the state of the disk forbids, after a prefix."""
    cdef char text[640]
    if conf.refuse_writes:
        snprintf(text, 640, b"%s%s", before, MISCONF)
    else:
        snprintf(text, 640, b"%sMISCONF Errors writing to the AOF file: %s", before, strerror(<int>conf.aof_errno))
    reply_error(o, text)


cdef bint must_wait(Command* cmd, OutBuf* o) noexcept nogil:
    """Is the data set being loaded, and the command about it? Then that is replied. (WATCH may run as to Valkey, but
    here its key's lock is not free.)"""
    if not atomic_load32(&loading, RELAXED) or (cmd.flags & F_LOADING and not cmd.first):
        return False
    reply_error(o, b"LOADING Valkey is loading the dataset in memory")
    return True


def set_loading(on: bool) -> None:
    """From here on only commands that need no data are run; or all are."""
    atomic_store32(&loading, on, RELEASE)


def is_loading() -> bool:
    """Is the data set not there yet?"""
    return bool(atomic_load32(&loading, RELAXED))
