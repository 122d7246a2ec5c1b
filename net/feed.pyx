# slotring: data plane
"""MONITOR's lines. They can be several times as long as the command, and there is one for every command."""
from libc.stdlib cimport malloc, free
from engine.defs cimport *
from engine.command cimport Arg
from engine.lock cimport lock, unlock
from engine.racy cimport racy_begin, racy_end
from engine.reply cimport out_write
from net.conn cimport *
from net.worker cimport workers, nworkers, post, flush_later

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

cdef const char* HEX = b"0123456789abcdef"


cdef char* put_quoted(char* to, const char* p, size_t n) noexcept nogil:
    """Bytes between quotes, with escapes for those that cannot be printed: at most 4n + 2."""
    cdef size_t i
    cdef u8 byte
    cdef char short
    to[0] = c'"'
    to += 1
    for i in range(n):
        byte = <u8>p[i]
        if byte == c'"' or byte == c'\\':
            short = <char>byte
        elif 0x20 <= byte < 0x7F:
            to[0] = <char>byte
            to += 1
            continue
        elif byte == c'\n':
            short = c'n'
        elif byte == c'\r':
            short = c'r'
        elif byte == c'\t':
            short = c't'
        elif byte == c'\a':
            short = c'a'
        elif byte == c'\b':
            short = c'b'
        else:
            to[0] = c'\\'
            to[1] = c'x'
            to[2] = HEX[byte >> 4]
            to[3] = HEX[byte & 15]
            to += 4
            continue
        to[0] = c'\\'
        to[1] = short
        to += 2
    to[0] = c'"'
    return to + 1


cdef void feed_line(Worker* w, const char* line, size_t n) noexcept nogil:
    """A line to every client in MONITOR: at once to this worker's, so that it comes before the command's reply."""
    cdef u32 i
    cdef Conn* c
    cdef bint watches
    for i in range(nworkers):
        lock(&workers[i].conns_lock)
        c = workers[i].conns
        while c != NULL:
            racy_begin()               # the flag's owner may just be setting it: then the line is not for it yet
            watches = c.flags & C_MONITOR != 0
            racy_end()
            if watches:
                if workers[i] != w:
                    post(workers[i], MSG_OUTPUT, -1, c, c.session.id, line, n)
                elif not c.flags & C_CLOSING:
                    out_write(&c.out, line, n)
                    flush_later(w, c)
            c = c.next
        unlock(&workers[i].conns_lock)


cdef void feed_monitors(Worker* w, Conn* c, Arg* argv, i64 argc) noexcept nogil:
    """A command of c is about to run. c.addr is known."""
    cdef size_t most = 160
    cdef i64 i, now = wall_us()
    cdef char* line
    cdef char* p
    for i in range(argc):
        most += argv[i].len * 4 + 3
    line = <char*>malloc(most)
    if line == NULL:
        return
    p = line + snprintf(line, 160, b"+%ld.%06ld [%u %.64s]", <long>(now // 1000000), <long>(now % 1000000),
                        <unsigned int>c.session.db, c.addr)
    for i in range(argc):
        p[0] = c' '
        p = put_quoted(p + 1, argv[i].ptr, argv[i].len)
    p[0] = c'\r'
    p[1] = c'\n'
    feed_line(w, line, p + 2 - line)
    free(line)
