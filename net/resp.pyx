# slotring: data plane
"""The request parser: multibulk and inline, resumable at any byte.

`parse` looks at the bytes of one command from its first byte on. Arguments go to worker.args as pointers into those
bytes. When they do not suffice, what was found is kept as offsets, so that nothing is read twice.
"""
from libc.stdlib cimport realloc, free, abort
from libc.string cimport memchr
from engine.defs cimport *
from engine.numbers cimport parse_i64
from engine.conf cimport conf
from net.conn cimport Parser, Worker, INLINE_MAX

cdef enum:
    MULTIBULK_MAX = 1 << 30
    UNTRUSTED_ARGS_MAX = 10        # before authentication, as Valkey
    UNTRUSTED_BULK_MAX = 16384

cdef const char* BAD_CRLF = b"Protocol error: invalid CRLF in request"


cdef inline void push_arg(Worker* w, char* p, size_t n) noexcept nogil:
    if unlikely(w.args_n == w.args_cap):
        w.args_cap = w.args_cap * 2 if w.args_cap else 1024
        w.args = <Arg*>realloc(w.args, w.args_cap * sizeof(Arg))
        if w.args == NULL:
            abort()
    w.args[w.args_n].ptr = p
    w.args[w.args_n].len = n
    w.args_n += 1


cdef void parser_free(Parser* ps) noexcept nogil:
    free(ps.saved)
    ps.saved = NULL
    ps.saved_n = ps.saved_cap = 0
    ps.left = 0
    ps.pos = 0


cdef size_t parser_wants(Parser* ps) noexcept nogil:
    """Bytes from the command's start that the bulk on its way needs; 0 unknown."""
    if ps.left > 0 and ps.bulk >= 0:
        return ps.pos + <size_t>ps.bulk + 2
    return 0


cdef int save(Parser* ps, Worker* w, char* base, i64 first) noexcept nogil:
    """Keep the arguments found in this round (from place `first`) as offsets."""
    cdef i64 i, n = w.args_n - first
    if ps.saved_n + n > ps.saved_cap:
        ps.saved_cap = (ps.saved_n + n) * 2 + 16
        ps.saved = <size_t*>realloc(ps.saved, ps.saved_cap * 2 * sizeof(size_t))
        if ps.saved == NULL:
            abort()
    for i in range(n):
        ps.saved[2 * (ps.saved_n + i)] = w.args[first + i].ptr - base
        ps.saved[2 * (ps.saved_n + i) + 1] = w.args[first + i].len
    ps.saved_n += n
    w.args_n = first
    return 0


cdef inline char* line_end(char* p, char* end) noexcept nogil:
    """The CR of a line whose LF is in too, or NULL."""
    cdef char* cr = <char*>memchr(p, c'\r', end - p)
    return cr if cr != NULL and cr + 1 < end else NULL


cdef int parse(Parser* ps, Worker* w, char* base, size_t n, size_t* used, bint trusted) noexcept nogil:
    """1: a command is in w.args (from its place at the call on; none for an empty line), *used bytes long.
    0: more bytes are needed. -1: ps.error says what is wrong (a Protocol error)."""
    cdef char* p
    cdef char* end = base + n
    cdef char* cr
    cdef i64 v, first = w.args_n, i
    if ps.left == 0:
        if n == 0:
            return 0
        if base[0] != c'*':
            return parse_inline(ps, w, base, n, used)
        cr = line_end(base + 1, end)
        if cr == NULL:
            if n > INLINE_MAX:
                ps.error = b"Protocol error: too big mbulk count string"
                return -1
            return 0
        if cr[1] != c'\n':
            ps.error = BAD_CRLF
            return -1
        if not parse_i64(base + 1, cr - base - 1, &v) or v > MULTIBULK_MAX:
            ps.error = b"Protocol error: invalid multibulk length"
            return -1
        if v > UNTRUSTED_ARGS_MAX and not trusted:
            ps.error = b"Protocol error: unauthenticated multibulk length"
            return -1
        p = cr + 2
        if v <= 0:
            used[0] = p - base
            return 1
        ps.left = ps.total = v
        ps.bulk = -1
    else:
        p = base + ps.pos
    while ps.left:
        if ps.bulk < 0:
            # the usual case first: $N with one or two digits
            if likely(end - p >= 5 and p[0] == c'$' and c'0' <= p[1] <= c'9' and p[2] == c'\r'
                      and p[3] == c'\n'):
                ps.bulk = p[1] - c'0'
                p += 4
            else:
                cr = line_end(p, end)
                if cr == NULL:
                    if end - p > INLINE_MAX:
                        ps.error = b"Protocol error: too big bulk count string"
                        return -1
                    ps.pos = p - base
                    return save(ps, w, base, first)
                if cr[1] != c'\n':
                    ps.error = BAD_CRLF
                    return -1
                if p[0] != c'$':
                    ps.error = NULL        # the caller says which byte it got
                    ps.pos = p - base
                    return -1
                if (not parse_i64(p + 1, cr - p - 1, &v) or v < 0
                        or v > conf.proto_max_bulk_len):
                    ps.error = b"Protocol error: invalid bulk length"
                    return -1
                if v > UNTRUSTED_BULK_MAX and not trusted:
                    ps.error = b"Protocol error: unauthenticated bulk length"
                    return -1
                ps.bulk = v
                p = cr + 2
        if end - p < ps.bulk + 2:
            ps.pos = p - base
            return save(ps, w, base, first)
        if unlikely(p[ps.bulk] != c'\r' or p[ps.bulk + 1] != c'\n'):
            ps.error = BAD_CRLF
            return -1
        push_arg(w, p, <size_t>ps.bulk)
        p += ps.bulk + 2
        ps.bulk = -1
        ps.left -= 1
    used[0] = p - base
    if unlikely(ps.saved_n):
        # arguments of earlier rounds come before those of this one
        save(ps, w, base, first)
        for i in range(ps.saved_n):
            push_arg(w, base + ps.saved[2 * i], ps.saved[2 * i + 1])
        ps.saved_n = 0
        if ps.saved_cap > 4096:
            parser_free(ps)
    ps.pos = 0
    return 1


cdef inline int hex_digit(char c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 0x20
    if c'a' <= c <= c'f':
        return c - c'a' + 10
    return -1


cdef inline bint is_space(char c) noexcept nogil:
    return c == c' ' or c == c'\t' or c == c'\n' or c == c'\r' or c == c'\v' or c == c'\f'


cdef int parse_inline(Parser* ps, Worker* w, char* base, size_t n, size_t* used) noexcept nogil:
    """One line, words separated by space, quoted as in valkey-cli. Unquoting happens in place."""
    cdef char* nl = <char*>memchr(base, c'\n', n)
    cdef char* end
    cdef char* p = base
    cdef char* out
    cdef char* start
    cdef char quote, c
    if nl == NULL:
        if n > INLINE_MAX:
            ps.error = b"Protocol error: too big inline request"
            return -1
        return 0
    if nl - base > INLINE_MAX:
        ps.error = b"Protocol error: too big inline request"
        return -1
    used[0] = nl + 1 - base
    end = nl
    if end > base and end[-1] == c'\r':
        end -= 1
    while True:
        while p < end and is_space(p[0]):
            p += 1
        if p == end:
            return 1
        start = out = p
        quote = 0
        while p < end:
            c = p[0]
            if quote == c'"' and c == c'\\' and p + 1 < end:
                p += 1
                c = p[0]
                if c == c'x' and p + 2 < end and hex_digit(p[1]) >= 0 and hex_digit(p[2]) >= 0:
                    c = <char>(hex_digit(p[1]) * 16 + hex_digit(p[2]))
                    p += 2
                elif c == c'n':
                    c = c'\n'
                elif c == c'r':
                    c = c'\r'
                elif c == c't':
                    c = c'\t'
                elif c == c'b':
                    c = c'\b'
                elif c == c'a':
                    c = c'\a'
            elif quote == c"'" and c == c'\\' and p + 1 < end and p[1] == c"'":
                p += 1
                c = c"'"
            elif quote and c == quote:
                quote = 0              # the word may go on, quoted or not
                p += 1
                continue
            elif not quote and (c == c'"' or c == c"'"):
                quote = c
                p += 1
                continue
            elif not quote and is_space(c):
                break
            out[0] = c
            out += 1
            p += 1
        if quote:
            ps.error = b"Protocol error: unbalanced quotes in request"
            return -1
        push_arg(w, start, out - start)
