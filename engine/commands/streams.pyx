# slotring: data plane
"""Commands of streams: adding, ranges, deleting, trimming; and what the other files of stream commands share."""
from libc.stdlib cimport malloc, free, abort
from libc.string cimport memcpy, memchr, strlen
from engine.defs cimport *
from engine.arena cimport Arena, arena_free
from engine.command cimport Ctx, Arg, register, arg_is
from engine.conf cimport conf
from engine.effects cimport effect_end, effect_int, effect_word, effects_wanted
from engine.later cimport Later, reply_head_later, reply_head_now
from engine.listpack cimport lp_skip, lp_text
from engine.numbers cimport parse_i64
from engine.reply cimport *
from engine.restate cimport *
from engine.restate_stream cimport effect_id
from engine.store cimport *
from engine.stream cimport *
from engine.stream_type cimport stream_type_ready

cdef extern from "<stdlib.h>" nogil:
    unsigned long long strtoull(const char*, char**, int)
cdef extern from * nogil:
    """
    #include <errno.h>
    #define set_errno(v) (errno = (v))
    """
    void set_errno(int)
    int errno

cdef enum:
    ID_TEXT_MAX = 127
    TRIM_NODES = 100               # whole nodes that an approximate trim looks at, unless told
    TRIM_LIMIT_USUAL = 10000       # where stream-node-max-entries does not bound it
    TRIM_LIMIT_MAX = 1000000

    # XADD's and XTRIM's options
    ADD_NO_MAKE = 1
    ADD_ID = 2                     # an id was given
    ADD_SEQ = 4                    # and its second part too

stream_type_ready()


# ---- arguments

cdef bint u64_text(const char* p, size_t n, u64* v) noexcept nogil:
    """A part of an id: digits, or what strtoull makes of the rest, as in Valkey."""
    cdef u64 x = 0, d
    cdef size_t i = 0
    cdef char text[ID_TEXT_MAX + 1]
    cdef char* end
    cdef i64 whole
    while i < n:
        d = <u64><u8>p[i] - c'0'
        if d > 9:
            break
        if x > <u64>1844674407370955161 or (x == <u64>1844674407370955161 and d > 5):
            return False
        x = x * 10 + d
        i += 1
    if likely(i == n and n):
        v[0] = x
        return True
    if n == 0 or parse_i64(p, n, &whole):      # a negative number
        return False
    memcpy(text, p, n)
    text[n] = 0
    set_errno(0)
    v[0] = strtoull(text, &end, 10)
    return errno == 0 and end == text + n


cdef bint parse_id(Arg* a, u128* id_, u64 missing_seq, bint strict, bint* seq_given) noexcept nogil:
    cdef size_t n = a.len, k
    cdef const char* dash
    cdef const char* nul
    cdef u64 ms, seq = missing_seq
    if n > ID_TEXT_MAX:
        return False
    if seq_given != NULL:
        seq_given[0] = True
    if unlikely(n == 0 or not c'0' <= a.ptr[n - 1] <= c'9'):
        nul = <const char*>memchr(a.ptr, 0, n)
        if nul != NULL:            # text ends there
            n = nul - a.ptr
        if n == 1 and (a.ptr[0] == c'-' or a.ptr[0] == c'+'):
            id_[0] = 0 if a.ptr[0] == c'-' else id_max()
            return not strict
    else:
        nul = <const char*>memchr(a.ptr, 0, n)
        if unlikely(nul != NULL):
            n = nul - a.ptr
    dash = <const char*>memchr(a.ptr, c'-', n)
    k = n if dash == NULL else <size_t>(dash - a.ptr)
    if not u64_text(a.ptr, k, &ms):
        return False
    if dash != NULL:
        n -= k + 1
        if seq_given != NULL and n == 1 and dash[1] == c'*':
            seq = 0
            seq_given[0] = False
        elif not u64_text(dash + 1, n, &seq):
            return False
    id_[0] = id_of(ms, seq)
    return True


cdef bint id_arg(Ctx* c, Arg* a, u128* id_, u64 missing_seq, bint strict, bint* seq_given) noexcept nogil:
    if likely(parse_id(a, id_, missing_seq, strict, seq_given)):
        return True
    if c != NULL:
        reply_error(c.out, b"ERR Invalid stream ID specified as stream command argument")
    return False


cdef bint range_start_arg(Ctx* c, Arg* a, u128* id_) noexcept nogil:
    cdef Arg rest
    if a.len > 1 and a.ptr[0] == c'(':
        rest.ptr = a.ptr + 1
        rest.len = a.len - 1
        if not id_arg(c, &rest, id_, 0, True, NULL):
            return False
        id_[0] += 1
        if id_[0] == 0:
            reply_error(c.out, b"ERR invalid start ID for the interval")
            return False
        return True
    return id_arg(c, a, id_, 0, False, NULL)


cdef bint range_end_arg(Ctx* c, Arg* a, u128* id_) noexcept nogil:
    cdef Arg rest
    if a.len > 1 and a.ptr[0] == c'(':
        rest.ptr = a.ptr + 1
        rest.len = a.len - 1
        if not id_arg(c, &rest, id_, <u64>0 - 1, True, NULL):
            return False
        if id_[0] == 0:
            reply_error(c.out, b"ERR invalid end ID for the interval")
            return False
        id_[0] -= 1
        return True
    return id_arg(c, a, id_, <u64>0 - 1, False, NULL)


cdef bint i64_arg(Ctx* c, Arg* a, i64* v, const char* message) noexcept nogil:
    """An integer; False: an error was replied, `message` if it is not NULL."""
    cdef const char* text = b"ERR value is not an integer or out of range"
    if likely(parse_i64(a.ptr, a.len, v)):
        return True
    reply_error(c.out, text if message == NULL else message)
    return False


cdef u128* ids_args(Ctx* c, i64 first, u128* few, i64 room) noexcept nogil:
    """All arguments from one on as ids."""
    cdef i64 i, n = c.argc - first
    cdef u128* ids = few
    if n > room:
        ids = <u128*>malloc(n * sizeof(u128))
        if ids == NULL:
            abort()
    for i in range(n):
        if not id_arg(c, &c.argv[first + i], &ids[i], 0, True, NULL):
            if ids != few:
                free(ids)
            return NULL
    return ids


cdef inline size_t text_len(Arg* a) noexcept nogil:
    """Bytes before a NUL."""
    cdef const char* nul = <const char*>memchr(a.ptr, 0, a.len)
    return a.len if nul == NULL else <size_t>(nul - a.ptr)


cdef void error_two(Ctx* c, const char* before, Arg* a, const char* middle, Arg* b, const char* after) noexcept nogil:
    """An error with two arguments in it, each up to its first NUL."""
    cdef size_t n1 = strlen(before), n2 = text_len(a), n3 = strlen(middle), n4 = text_len(b), n5 = strlen(after)
    cdef char* text = <char*>malloc(n1 + n2 + n3 + n4 + n5)
    if text == NULL:
        abort()
    memcpy(text, before, n1)
    memcpy(text + n1, a.ptr, n2)
    memcpy(text + n1 + n2, middle, n3)
    memcpy(text + n1 + n2 + n3, b.ptr, n4)
    memcpy(text + n1 + n2 + n3 + n4, after, n5)
    reply_error_len(c.out, text, n1 + n2 + n3 + n4 + n5)
    free(text)


cdef void help_lines(Ctx* c, const char* command, const char** lines, u32 n) noexcept nogil:
    """The reply of a HELP subcommand."""
    cdef u32 i
    reply_array(c.out, n + 3)
    out_write(c.out, b"+", 1)
    out_write(c.out, command, strlen(command))
    reply_raw(c.out, b" <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n")
    for i in range(n):
        reply_status(c.out, lines[i])
    reply_status(c.out, b"HELP")
    reply_status(c.out, b"    Print this help.")


# ---- replies

cdef void reply_id(OutBuf* o, u128 id_) noexcept nogil:
    cdef char text[48]
    cdef size_t n = write_u64(text, id_ms(id_))
    text[n] = c'-'
    n += 1
    n += write_u64(text + n, id_seq(id_))
    reply_bulk(o, text, n)


cdef inline u8* reply_element(OutBuf* o, u8* p) noexcept nogil:
    """An element of a node; returns the place behind it."""
    cdef char tmp[24]
    cdef const char* s
    cdef size_t n
    if likely(0x80 <= p[0] < 0xC0):
        n = p[0] & 63
        reply_bulk(o, <char*>p + 1, n)
        return p + n + 2
    n = lp_text(p, tmp, &s)
    reply_bulk(o, s, n)
    return lp_skip(p)


cdef void reply_entry(OutBuf* o, StreamIter* it) noexcept nogil:
    """The entry that an iterator shows: its id, and its fields and values."""
    cdef u8* f = it.master_start
    cdef u8* v = it.data
    cdef i64 i
    reply_array(o, 2)
    reply_id(o, it.id_)
    reply_array(o, it.fields * 2)
    if it.flags & SAME_FIELDS:
        for i in range(it.fields):
            f = reply_element(o, f)
            v = reply_element(o, v)
    else:
        for i in range(it.fields * 2):
            v = reply_element(o, v)
    if not it.rev:
        it.at = v
        it.left = 1


cdef u64 reply_range(OutBuf* o, Stream* s, u128 start, u128 end, u64 count, bint rev) noexcept nogil:
    """The entries of a range, at most `count` (0: all), without an array's head; returns how many."""
    cdef StreamIter it
    cdef u64 n = 0
    iter_start(&it, s, start, end, rev)
    while iter_next(&it):
        reply_entry(o, &it)
        n += 1
        if n == count:
            break
    return n


cdef void reply_range_array(OutBuf* o, Stream* s, u128 start, u128 end, u64 count, bint rev) noexcept nogil:
    cdef Later head
    reply_head_later(o, &head)
    reply_head_now(o, &head, c'*', <i64>reply_range(o, s, start, end, count, rev))


# ---- XADD, XTRIM

cdef bint trim_value(Ctx* c, Trim* t, i64* i, int strategy) noexcept nogil:
    """The [~|=] and the bound behind MAXLEN or MINID at argv[*i]; *i becomes the bound's place."""
    cdef Arg* a
    if t.strategy != TRIM_NONE:
        reply_error(c.out, b"ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
        return False
    t.approx = False
    i[0] += 1
    a = &c.argv[i[0]]
    if i[0] + 1 < c.argc and a.len and (a.ptr[0] == c'~' or a.ptr[0] == c'=') and text_len(a) == 1:
        t.approx = a.ptr[0] == c'~'
        i[0] += 1
        a += 1
    if strategy == TRIM_MINID:
        if not id_arg(c, a, &t.minid, 0, True, NULL):
            return False
    elif not i64_arg(c, a, &t.maxlen, NULL):
        return False
    elif t.maxlen < 0:
        reply_error(c.out, b"ERR The MAXLEN argument must be >= 0.")
        return False
    t.strategy = strategy
    return True


cdef bint trim_limit(Ctx* c, Trim* t, bint given, bint add) noexcept nogil:
    """Is the limit allowed? Where none was given, set the usual one."""
    if t.limit and t.strategy == TRIM_NONE:
        reply_error(c.out, b"ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
        return False
    if not add and t.strategy == TRIM_NONE:
        reply_error(c.out, b"ERR syntax error, XTRIM must be called with a trimming strategy")
        return False
    if c.session != NULL and c.session.id == 0:        # a log is loaded: what it says is exact, with a LIMIT or not
        t.limit = 0
        return True
    if given and not t.approx:
        reply_error(c.out, b"ERR syntax error, LIMIT cannot be used without the special ~ option")
        return False
    if not given and t.approx:
        t.limit = TRIM_LIMIT_MAX
        if conf.stream_node_max_entries <= TRIM_LIMIT_MAX // TRIM_NODES:
            t.limit = TRIM_NODES * conf.stream_node_max_entries
        if t.limit <= 0:
            t.limit = TRIM_LIMIT_USUAL
    return True


cdef i64 add_options(Ctx* c, Trim* t, bint add, u32* flags, u128* id_) noexcept nogil:
    """The options of XADD (add) and XTRIM. Returns the place of XADD's id; -1: an error was replied."""
    cdef i64 i = 2
    cdef bint limit_given = False, seq_given = True
    cdef Arg* a
    t.strategy = TRIM_NONE
    t.approx = False
    t.maxlen = t.limit = 0
    t.minid = 0
    flags[0] = 0
    while i < c.argc:
        a = &c.argv[i]
        if add and a.len and a.ptr[0] == c'*' and text_len(a) == 1:
            break
        if add and a.len and c'0' <= a.ptr[0] <= c'9':
            if not id_arg(c, a, id_, 0, True, &seq_given):
                return -1
            flags[0] |= ADD_ID | (ADD_SEQ if seq_given else 0)
            break
        if arg_is(a, b"maxlen", 6) and i + 1 < c.argc:
            if not trim_value(c, t, &i, TRIM_MAXLEN):
                return -1
        elif arg_is(a, b"minid", 5) and i + 1 < c.argc:
            if not trim_value(c, t, &i, TRIM_MINID):
                return -1
        elif arg_is(a, b"limit", 5) and i + 1 < c.argc:
            i += 1
            if not i64_arg(c, &c.argv[i], &t.limit, NULL):
                return -1
            if t.limit < 0:
                reply_error(c.out, b"ERR The LIMIT argument must be >= 0.")
                return -1
            limit_given = True
        elif add and arg_is(a, b"nomkstream", 10):
            flags[0] |= ADD_NO_MAKE
        elif add:
            if not id_arg(c, a, id_, 0, True, &seq_given):
                return -1
            flags[0] |= ADD_ID | (ADD_SEQ if seq_given else 0)
            break
        else:
            reply_error(c.out, b"ERR syntax error")
            return -1
        i += 1
    if (t.strategy != TRIM_NONE or t.limit or limit_given or not add) and not trim_limit(c, t, limit_given, add):
        return -1
    return i


cdef bint next_id(Ctx* c, Stream* s, u32 flags, u128* id_) noexcept nogil:
    """The id of an entry to be added; False: there is none above the last one."""
    cdef u128 last = last_id(s)
    if not flags & ADD_ID:
        id_[0] = id_of(<u64>c.now_ms, 0) if <u64>c.now_ms > s.last_ms else last + 1
    elif not flags & ADD_SEQ and s.last_ms == id_ms(id_[0]):
        if s.last_seq == <u64>0 - 1:
            return False
        id_[0] = last + 1
    return id_[0] > last


cdef bint add_entry(Ctx* c, Stream* s, u32 flags, u128* id_, i64 first) noexcept nogil:
    """False: an error was replied."""
    cdef int result = ADD_SMALL_ID
    if last_id(s) == id_max():
        reply_error(c.out, b"ERR The stream has exhausted the last possible ID, unable to add more items")
        return False
    if likely(next_id(c, s, flags, id_)):
        result = stream_append(&c.key.part.arena, s, id_[0], &c.argv[first], (c.argc - first) // 2)
    if likely(result == ADD_OK):
        return True
    if result == ADD_TOO_LARGE:
        reply_error(c.out, b"ERR Elements are too large to be stored")
    else:
        reply_error(c.out, b"ERR The ID specified in XADD is equal or smaller than the target stream top item")
    return False


cdef i64 trim_place(Ctx* c) noexcept nogil:
    """The place of the ~ behind MAXLEN or MINID."""
    cdef i64 i = 2
    while not arg_is(&c.argv[i], b"maxlen", 6) and not arg_is(&c.argv[i], b"minid", 5):
        i += 2 if arg_is(&c.argv[i], b"limit", 5) else 1
    return i + 1


cdef void restate_stream(Ctx* c, Stream* s, Trim* t, i64 id_at, u128 id_) noexcept nogil:
    """With the id that was made (id_at 0: none was), and with what trimming came to where it was approximate."""
    cdef u128 first = 0
    cdef i64 trim = trim_place(c) if t.approx else 0, i
    if id_at == 0 and trim == 0:
        return
    restate_named(c, c.argc, b"")
    for i in range(1, c.argc):
        if id_at and i == id_at:
            effect_id(c, id_)
        elif trim and i == trim:
            effect_word(c, b"=")
        elif trim and i == trim + 1 and t.strategy == TRIM_MAXLEN:
            effect_int(c, <i64>s.length)
        elif trim and i == trim + 1:
            if not stream_edge(s, True, True, &first):
                first = id_max()
            effect_id(c, first)
        else:
            restate_words(c, i, i + 1)
    effect_end(c)


cdef void cmd_xadd(Ctx* c) noexcept nogil:
    cdef Trim t
    cdef u32 flags
    cdef u128 id_ = 0
    cdef i64 first = add_options(c, &t, True, &flags, &id_) + 1
    cdef Entry* e
    cdef Stream* s
    if first == 0:
        return
    if c.argc - first < 2 or (c.argc - first) & 1:
        reply_error(c.out, b"ERR wrong number of arguments for 'xadd' command")
        return
    if flags & ADD_SEQ and id_ == 0:
        reply_error(c.out, b"ERR The ID specified in XADD must be greater than 0-0")
        return
    e = lookup_write(c, &c.key)
    if wrong_type(c, e, TYPE_STREAM):
        return
    if e != NULL:
        s = stream_of(e)
        if not add_entry(c, s, flags, &id_, first):
            return
    elif flags & ADD_NO_MAKE:
        reply_null(c.out, c.resp)
        return
    else:
        s = stream_new(&c.key.part.arena)
        if not add_entry(c, s, flags, &id_, first):
            arena_free(&c.key.part.arena, s)
            return
        key_put_value(c, &c.key, TYPE_STREAM, ENC_STREAM, s)
    notify(c, N_STREAM, b"xadd", &c.key)
    c.dirty += 1
    reply_id(c.out, id_)
    if t.strategy != TRIM_NONE and stream_trim(&c.key.part.arena, s, &t):
        notify(c, N_STREAM, b"xtrim", &c.key)
    if effects_wanted():
        restate_stream(c, s, &t, 0 if flags & ADD_SEQ else first - 1, id_)
    key_modified(c, &c.key)
    key_ready(c, &c.key)


cdef void cmd_xtrim(Ctx* c) noexcept nogil:
    cdef Trim t
    cdef u32 flags
    cdef u128 id_
    cdef Entry* e
    cdef i64 deleted
    if add_options(c, &t, False, &flags, &id_) < 0:
        return
    e = lookup_write(c, &c.key)
    if wrong_type(c, e, TYPE_STREAM):
        return
    deleted = 0 if e == NULL else stream_trim(&c.key.part.arena, stream_of(e), &t)
    if deleted:
        notify(c, N_STREAM, b"xtrim", &c.key)
        key_modified(c, &c.key)
        c.dirty += deleted
        if effects_wanted():
            restate_stream(c, stream_of(e), &t, 0, 0)
    reply_int(c.out, deleted)


# ---- the rest

cdef void cmd_xlen(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_read(c, &c.key)
    if e == NULL:
        reply_int(c.out, 0)
    elif not wrong_type(c, e, TYPE_STREAM):
        reply_int(c.out, <i64>stream_of(e).length)


cdef void xrange_generic(Ctx* c, bint rev) noexcept nogil:
    cdef u128 start, end
    cdef i64 count = -1, i = 4
    cdef Entry* e
    if not range_start_arg(c, &c.argv[3 if rev else 2], &start) or \
            not range_end_arg(c, &c.argv[2 if rev else 3], &end):
        return
    while i < c.argc:
        if not arg_is(&c.argv[i], b"count", 5) or i + 1 == c.argc:
            reply_error(c.out, b"ERR syntax error")
            return
        if not i64_arg(c, &c.argv[i + 1], &count, NULL):
            return
        if count < 0:
            count = 0
        i += 2
    e = lookup_read(c, &c.key)
    if wrong_type(c, e, TYPE_STREAM):
        return
    if e == NULL:
        reply_array(c.out, 0)
    elif count == 0:
        reply_null_array(c.out, c.resp)
    else:
        reply_range_array(c.out, stream_of(e), start, end, 0 if count < 0 else <u64>count, rev)


cdef void cmd_xrange(Ctx* c) noexcept nogil:
    xrange_generic(c, False)


cdef void cmd_xrevrange(Ctx* c) noexcept nogil:
    xrange_generic(c, True)


cdef void cmd_xdel(Ctx* c) noexcept nogil:
    cdef u128 few[8]
    cdef u128* ids
    cdef Entry* e = lookup_write(c, &c.key)
    cdef Stream* s
    cdef i64 i, deleted = 0
    cdef bint first = False
    if e == NULL:
        reply_int(c.out, 0)
        return
    if wrong_type(c, e, TYPE_STREAM):
        return
    ids = ids_args(c, 2, few, 8)
    if ids == NULL:
        return
    s = stream_of(e)
    for i in range(c.argc - 2):
        if stream_delete(&c.key.part.arena, s, ids[i]):
            deleted += 1
            if ids[i] == first_id(s):
                first = True
            if ids[i] > deleted_id(s):
                s.deleted_ms = id_ms(ids[i])
                s.deleted_seq = id_seq(ids[i])
    if ids != few:
        free(ids)
    if deleted:
        if first or s.length == 0:
            stream_first_changed(s)
        key_changed(c, &c.key, N_STREAM, b"xdel")
        c.dirty += deleted
    reply_int(c.out, deleted)


cdef bint setid_options(Ctx* c, u128 id_, i64* added, u128* deleted) noexcept nogil:
    cdef i64 i = 3
    while i < c.argc:
        if arg_is(&c.argv[i], b"entriesadded", 12) and i + 1 < c.argc:
            if not i64_arg(c, &c.argv[i + 1], added, NULL):
                return False
            if added[0] < 0:
                reply_error(c.out, b"ERR entries_added must be positive")
                return False
        elif arg_is(&c.argv[i], b"maxdeletedid", 12) and i + 1 < c.argc:
            if not id_arg(c, &c.argv[i + 1], deleted, 0, True, NULL):
                return False
            if id_ < deleted[0]:
                reply_error(c.out, b"ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
                return False
        else:
            reply_error(c.out, b"ERR syntax error")
            return False
        i += 2
    return True


cdef void cmd_xsetid(Ctx* c) noexcept nogil:
    cdef u128 id_, deleted = 0, top = 0
    cdef i64 added = -1
    cdef Entry* e
    cdef Stream* s
    if not id_arg(c, &c.argv[2], &id_, 0, True, NULL) or not setid_options(c, id_, &added, &deleted):
        return
    e = lookup_write(c, &c.key)
    if e == NULL:
        reply_error(c.out, b"ERR no such key")
        return
    if wrong_type(c, e, TYPE_STREAM):
        return
    s = stream_of(e)
    if id_ < deleted_id(s):
        reply_error(c.out, b"ERR The ID specified in XSETID is smaller than current max_deleted_entry_id")
        return
    if s.length:
        stream_edge(s, False, False, &top)
        if id_ < top:
            reply_error(c.out, b"ERR The ID specified in XSETID is smaller than the target stream top item")
            return
        if added != -1 and s.length > <u64>added:
            reply_error(c.out, b"ERR The entries_added specified in XSETID is smaller than the target stream length")
            return
    set_last_id(s, id_)
    if added != -1:
        s.added = <u64>added
    if deleted:
        s.deleted_ms = id_ms(deleted)
        s.deleted_seq = id_seq(deleted)
    c.dirty += 1
    notify(c, N_STREAM, b"xsetid", &c.key)
    reply_ok(c.out)


# ---- rows

def about(since, summary, acl, complexity, key_flags, tips=""):
    """What COMMAND DOCS and ACL say of a row of this family."""
    return {"since": since, "group": "stream", "complexity": complexity, "summary": summary,
            "acl": "stream " + acl, "key_flags": [key_flags], "tips": tips}


register("xadd", -5, "write denyoom fast", (1, 1, 1), cmd_xadd, about(
    "5.0.0", "Adds an entry to a stream, making the stream if it is not there.", "write fast",
    "O(1) to add, O(N) to trim N entries", "RW update", "nondeterministic_output"))
register("xlen", 2, "readonly fast", (1, 1, 1), cmd_xlen, about(
    "5.0.0", "Says how many entries a stream has.", "read fast", "O(1)", "RO"))
register("xrange", -4, "readonly", (1, 1, 1), cmd_xrange, about(
    "5.0.0", "Shows the entries between two IDs.", "read slow", "O(N), N entries shown", "RO access"))
register("xrevrange", -4, "readonly", (1, 1, 1), cmd_xrevrange, about(
    "5.0.0", "Shows the entries between two IDs, the last one first.", "read slow", "O(N), N entries shown",
    "RO access"))
register("xdel", -3, "write fast", (1, 1, 1), cmd_xdel, about(
    "5.0.0", "Deletes entries of a stream.", "write fast", "O(1) an entry", "RW delete"))
register("xtrim", -4, "write", (1, 1, 1), cmd_xtrim, about(
    "5.0.0", "Deletes entries from a stream's beginning.", "write slow", "O(N), N entries deleted", "RW delete",
    "nondeterministic_output"))
register("xsetid", -3, "write denyoom fast", (1, 1, 1), cmd_xsetid, about(
    "5.0.0", "Sets a stream's last ID and counters, for replication.", "write fast", "O(1)", "RW update"))
