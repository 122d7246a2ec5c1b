# slotring: data plane
"""Commands of strings."""
from libc.string cimport memcmp, memcpy
from libc.stdlib cimport free, malloc
from engine.defs cimport *
from engine.store cimport *
from engine.command cimport Arg, Ctx, arg_is, register
from engine.conf cimport conf
from engine.effects cimport effect_arg, effect_end, effect_gone, effect_int, effect_own, effect_word, effects_wanted
from engine.events cimport notify, N_EXPIRED, N_GENERIC, N_STRING
from engine.keyspace cimport *
from engine.multikey cimport *
from engine.numbers cimport parse_i64, parse_long_double, write_long_double
from engine.reply cimport *
from engine.restate cimport *

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)
cdef extern from "<math.h>" nogil:
    bint isnan(long double)
    bint isinf(long double)

cdef enum:
    # options of SET, GETEX and MSETEX
    OPT_NX = 1
    OPT_XX = 2
    OPT_IFEQ = 4
    OPT_GET = 8
    OPT_KEEPTTL = 16
    OPT_PERSIST = 32
    OPT_EX = 64
    OPT_PX = 128
    OPT_EXAT = 256
    OPT_PXAT = 512
    OPT_EXPIRES = OPT_EX | OPT_PX | OPT_EXAT | OPT_PXAT

    OF_SET = OPT_NX | OPT_XX | OPT_IFEQ | OPT_GET | OPT_KEEPTTL | OPT_EXPIRES
    OF_GETEX = OPT_PERSIST | OPT_EXPIRES
    OF_MSETEX = OPT_NX | OPT_XX | OPT_KEEPTTL | OPT_EXPIRES

    LONG_DOUBLE_CHARS = 5120
    KEYS_MAX = 0x7FFFFFFF          # the largest count of keys a command may name
    LCS_LEN_MAX = 0xFFFFFFFE       # strings this long are refused by LCS

cdef struct Options:
    u32 flags
    Arg* expire                    # the text of the time
    Arg* compare                   # IFEQ's
    i64 expire_ms                  # absolute; -1: none


# ---- shared by the commands

cdef inline bint int_arg(Ctx* c, Arg* a, i64* out) noexcept nogil:
    """The integer of an argument; False: replied that it is none."""
    if likely(parse_i64(a.ptr, a.len, out)):
        return True
    reply_error(c.out, b"ERR value is not an integer or out of range")
    return False


cdef void expire_error(Ctx* c) noexcept nogil:
    cdef char text[96]
    reply_error_len(c.out, text, snprintf(text, 96, b"ERR invalid expire time in '%s' command",
                                          c.cmd.name))


cdef bint expire_arg(Ctx* c, Arg* a, u32 unit, i64* out) noexcept nogil:
    """The absolute time in ms that a time argument of a unit (one of OPT_EXPIRES) means."""
    cdef i64 ms
    if not int_arg(c, a, &ms):
        return False
    if ms <= 0 or (unit & (OPT_EX | OPT_EXAT) and ms > <i64>0x7FFFFFFFFFFFFFFF // 1000):
        expire_error(c)
        return False
    if unit & (OPT_EX | OPT_EXAT):
        ms *= 1000
    if unit & (OPT_EX | OPT_PX) and add_overflow(ms, c.now_ms, &ms):
        expire_error(c)
        return False
    out[0] = ms
    return True


cdef inline u32 expire_word(Arg* a) noexcept nogil:
    """Which of OPT_EXPIRES an argument names; 0: none."""
    if a.len == 2:
        if arg_is(a, b"ex", 2):
            return OPT_EX
        if arg_is(a, b"px", 2):
            return OPT_PX
    elif a.len == 4:
        if arg_is(a, b"exat", 4):
            return OPT_EXAT
        if arg_is(a, b"pxat", 4):
            return OPT_PXAT
    return 0


cdef u32 option_word(Arg* a) noexcept nogil:
    """The option that an argument names; 0: none."""
    cdef u32 found = expire_word(a)
    if found:
        return found
    if arg_is(a, b"nx", 2):
        return OPT_NX
    if arg_is(a, b"xx", 2):
        return OPT_XX
    if arg_is(a, b"get", 3):
        return OPT_GET
    if arg_is(a, b"keepttl", 7):
        return OPT_KEEPTTL
    if arg_is(a, b"ifeq", 4):
        return OPT_IFEQ
    if arg_is(a, b"persist", 7):
        return OPT_PERSIST
    return 0


cdef u32 option_rivals(u32 option) noexcept nogil:
    """The options that may not come before this one."""
    if option == OPT_NX:
        return OPT_XX | OPT_IFEQ
    if option == OPT_XX:
        return OPT_NX | OPT_IFEQ
    if option == OPT_IFEQ:
        return OPT_NX | OPT_XX | OPT_IFEQ
    if option == OPT_KEEPTTL:
        return OPT_PERSIST | OPT_EXPIRES
    if option == OPT_PERSIST:
        return OPT_KEEPTTL | OPT_EXPIRES
    if option == OPT_GET:
        return 0
    return (OPT_KEEPTTL | OPT_PERSIST | OPT_EXPIRES) & ~option


cdef bint parse_options(Ctx* c, i64 at, u32 allowed, Options* o) noexcept nogil:
    """Options from argv[at] on; then the expiry's time is known. False: an error was replied."""
    cdef u32 option
    o.flags = 0
    o.expire = o.compare = NULL
    o.expire_ms = -1
    while at < c.argc:
        option = option_word(&c.argv[at])
        if not option & allowed or o.flags & option_rivals(option):
            reply_error(c.out, b"ERR syntax error")
            return False
        if option & (OPT_EXPIRES | OPT_IFEQ):
            at += 1
            if at == c.argc:
                reply_error(c.out, b"ERR syntax error")
                return False
            if option == OPT_IFEQ:
                o.compare = &c.argv[at]
            else:
                o.expire = &c.argv[at]
        o.flags |= option
        at += 1
    return o.expire == NULL or expire_arg(c, o.expire, o.flags, &o.expire_ms)


cdef inline void reply_value(Ctx* c, Entry* e) noexcept nogil:
    cdef char tmp[24]
    cdef const char* p
    cdef size_t n = string_value(e, tmp, &p)
    reply_bulk(c.out, p, n)


cdef inline bint value_is(Entry* e, Arg* a) noexcept nogil:
    cdef char tmp[24]
    cdef const char* p
    cdef size_t n = string_value(e, tmp, &p)
    return n == a.len and memcmp(p, a.ptr, n) == 0


cdef inline bint length_fits(Ctx* c, u64 size, u64 more) noexcept nogil:
    """May a string have size + more bytes (both below 1 << 63)? False: replied that not."""
    if likely(size + more <= <u64>conf.proto_max_bulk_len):
        return True
    reply_error(c.out, b"ERR string exceeds maximum allowed size (proto-max-bulk-len)")
    return False


cdef void expired_at_once(Ctx* c) noexcept nogil:
    """The key (found) was given an expiry in the past: it goes."""
    key_delete(c, &c.key)
    if effects_wanted():
        effect_own(c)
        effect_gone(c, &c.key)
    notify(c, N_EXPIRED, b"expired", &c.key)
    c.dirty += 1
    c.expired += 1


cdef inline bint already_past(Ctx* c, i64 when_ms) noexcept nogil:
    return when_ms <= c.now_ms and not conf.import_mode


# ---- GET, SET and their kin

cdef void cmd_get(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_read(c, &c.key)
    if e == NULL:
        reply_null(c.out, c.resp)
    elif not wrong_type(c, e, TYPE_STRING):
        reply_value(c, e)


cdef bint get_first(Ctx* c) noexcept nogil:
    """Reply the key's value as GET does; False: it is no string."""
    cdef Entry* e = lookup_read(c, &c.key)
    if e == NULL:
        reply_null(c.out, c.resp)
    elif wrong_type(c, e, TYPE_STRING):
        return False
    else:
        reply_value(c, e)
    return True


cdef bint get_option(Ctx* c, i64 i) noexcept nogil:
    """Is argv[i] SET's option GET, and not what IFEQ compares with?"""
    return i > 2 and arg_is(&c.argv[i], b"get", 3) and not (i > 3 and arg_is(&c.argv[i - 1], b"ifeq", 4))


cdef void restate_set(Ctx* c, Options* o, Arg* value) noexcept nogil:
    """SET with an absolute time, or without GET."""
    cdef i64 i, n = 0
    if o.expire != NULL:
        if o.flags & OPT_PXAT:
            return
        restate_named(c, 5, b"" if c.cmd.name_len == 3 and c.argc == 5 else b"SET")
        effect_arg(c, c.key.ptr, c.key.len)
        effect_arg(c, value.ptr, value.len)
        effect_word(c, b"PXAT")
        effect_int(c, o.expire_ms)
    elif o.flags & OPT_GET:
        for i in range(c.argc):
            n += not get_option(c, i)
        restate_named(c, n, b"")
        for i in range(1, c.argc):
            if not get_option(c, i):
                restate_words(c, i, i + 1)
    else:
        return
    effect_end(c)


cdef void set_with(Ctx* c, Options* o, Arg* value) noexcept nogil:
    """SET with options that were parsed."""
    cdef Entry* e
    cdef bint quiet = o.flags & OPT_GET, refused
    if quiet and not get_first(c):
        return
    e = lookup_write(c, &c.key)
    if o.flags & OPT_IFEQ and e != NULL:
        if wrong_type(c, e, TYPE_STRING):
            return
        refused = not value_is(e, o.compare)
    else:
        refused = o.flags & OPT_IFEQ
    if refused or (o.flags & OPT_NX and e != NULL) or (o.flags & OPT_XX and e == NULL):
        if not quiet:
            reply_null(c.out, c.resp)
        return
    if o.expire != NULL and already_past(c, o.expire_ms):
        if e != NULL:
            expired_at_once(c)
    else:
        set_string(c, &c.key, value.ptr, value.len, o.expire_ms, o.flags & OPT_KEEPTTL)
        c.dirty += 1
        if effects_wanted():
            restate_set(c, o, value)
        notify(c, N_STRING, b"set", &c.key)
        if o.expire != NULL:
            notify(c, N_GENERIC, b"expire", &c.key)
    if not quiet:
        reply_ok(c.out)


cdef void cmd_set(Ctx* c) noexcept nogil:
    cdef Options o
    if likely(c.argc == 3):
        lookup(c, &c.key)
        set_string(c, &c.key, c.argv[2].ptr, c.argv[2].len, -1, False)
        c.dirty += 1
        notify(c, N_STRING, b"set", &c.key)
        reply_ok(c.out)
    elif parse_options(c, 3, OF_SET, &o):
        set_with(c, &o, &c.argv[2])


cdef void cmd_setnx(Ctx* c) noexcept nogil:
    if lookup_write(c, &c.key) != NULL:
        reply_int(c.out, 0)
        return
    set_string(c, &c.key, c.argv[2].ptr, c.argv[2].len, -1, False)
    c.dirty += 1
    notify(c, N_STRING, b"set", &c.key)
    reply_int(c.out, 1)


cdef void set_for(Ctx* c, u32 unit) noexcept nogil:
    """SETEX and PSETEX."""
    cdef Options o
    o.flags = unit
    o.expire = &c.argv[2]
    o.compare = NULL
    if expire_arg(c, o.expire, unit, &o.expire_ms):
        set_with(c, &o, &c.argv[3])


cdef void cmd_setex(Ctx* c) noexcept nogil:
    set_for(c, OPT_EX)


cdef void cmd_psetex(Ctx* c) noexcept nogil:
    set_for(c, OPT_PX)


cdef void cmd_getset(Ctx* c) noexcept nogil:
    if not get_first(c):
        return
    set_string(c, &c.key, c.argv[2].ptr, c.argv[2].len, -1, False)
    notify(c, N_STRING, b"set", &c.key)
    c.dirty += 1
    if effects_wanted():
        restate_named(c, 3, b"SET")
        restate_words(c, 1, 3)
        effect_end(c)


cdef void cmd_getdel(Ctx* c) noexcept nogil:
    if get_first(c) and c.key.entry != NULL:
        key_delete(c, &c.key)
        if effects_wanted():
            restate_key(c, &c.key, b"DEL")
        notify(c, N_GENERIC, b"del", &c.key)
        c.dirty += 1


cdef void cmd_getex(Ctx* c) noexcept nogil:
    cdef Options o
    cdef Entry* e
    if not parse_options(c, 2, OF_GETEX, &o) or not get_first(c):
        return
    e = c.key.entry
    if e == NULL:
        return
    if o.expire != NULL:
        if o.flags & (OPT_EXAT | OPT_PXAT) and already_past(c, o.expire_ms):
            expired_at_once(c)
            return
        key_expire_at(c, &c.key, o.expire_ms)
        if effects_wanted():
            restate_count(c, &c.key, b"PEXPIREAT", o.expire_ms)
        notify(c, N_GENERIC, b"expire", &c.key)
        c.dirty += 1
    elif o.flags & OPT_PERSIST and entry_has_expire(e):
        key_expire_at(c, &c.key, -1)
        if effects_wanted():
            restate_key(c, &c.key, b"PERSIST")
        notify(c, N_GENERIC, b"persist", &c.key)
        c.dirty += 1


cdef void cmd_delifeq(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_write(c, &c.key)
    if wrong_type(c, e, TYPE_STRING):
        return
    if e == NULL or not value_is(e, &c.argv[2]):
        reply_int(c.out, 0)
        return
    key_delete(c, &c.key)
    if effects_wanted():
        restate_key(c, &c.key, b"DEL")
    notify(c, N_GENERIC, b"del", &c.key)
    c.dirty += 1
    reply_int(c.out, 1)


# ---- parts of a string

cdef void cmd_append(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_write(c, &c.key)
    cdef Arg* a = &c.argv[2]
    cdef char tmp[24]
    cdef const char* old
    cdef size_t have
    if e == NULL:
        set_string(c, &c.key, a.ptr, a.len, -1, False)
        notify(c, N_STRING, b"append", &c.key)
        c.dirty += 1
        reply_int(c.out, a.len)
        return
    if wrong_type(c, e, TYPE_STRING):
        return
    have = string_value(e, tmp, &old)
    if not length_fits(c, have, a.len):
        return
    memcpy(string_writable(c, &c.key, have + a.len) + have, a.ptr, a.len)
    notify(c, N_STRING, b"append", &c.key)
    c.dirty += 1
    reply_int(c.out, have + a.len)


cdef void cmd_strlen(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_read(c, &c.key)
    cdef char tmp[24]
    cdef const char* p
    if e == NULL:
        reply_int(c.out, 0)
    elif not wrong_type(c, e, TYPE_STRING):
        reply_int(c.out, string_value(e, tmp, &p))


cdef void cmd_setrange(Ctx* c) noexcept nogil:
    cdef Entry* e
    cdef Arg* a = &c.argv[3]
    cdef i64 offset
    cdef char tmp[24]
    cdef const char* old
    cdef size_t have = 0, size
    if not int_arg(c, &c.argv[2], &offset):
        return
    if offset < 0:
        reply_error(c.out, b"ERR offset is out of range")
        return
    e = lookup_write(c, &c.key)
    if wrong_type(c, e, TYPE_STRING):
        return
    if e != NULL:
        have = string_value(e, tmp, &old)
    if a.len == 0:
        reply_int(c.out, have)
        return
    if not length_fits(c, offset, a.len):
        return
    size = offset + a.len
    if size < have:
        size = have
    memcpy(string_writable(c, &c.key, size) + offset, a.ptr, a.len)
    notify(c, N_STRING, b"setrange", &c.key)
    c.dirty += 1
    reply_int(c.out, size)


cdef void cmd_getrange(Ctx* c) noexcept nogil:
    cdef Entry* e
    cdef i64 start, end, n
    cdef char tmp[24]
    cdef const char* p
    if not int_arg(c, &c.argv[2], &start) or not int_arg(c, &c.argv[3], &end):
        return
    e = lookup_read(c, &c.key)
    if wrong_type(c, e, TYPE_STRING):
        return
    n = 0 if e == NULL else <i64>string_value(e, tmp, &p)
    if start < 0 and end < 0 and start > end:
        n = 0
    if start < 0:
        start = start + n if start + n > 0 else 0
    if end < 0:
        end = end + n if end + n > 0 else 0
    if end >= n:
        end = n - 1
    if n == 0 or start > end:
        reply_bulk(c.out, b"", 0)
    else:
        reply_bulk(c.out, p + start, end - start + 1)


# ---- numbers

cdef inline void increment(Ctx* c, i64 by) noexcept nogil:
    cdef Entry* e = lookup_write(c, &c.key)
    cdef const char* p
    cdef i64 v = 0
    if e != NULL:
        if wrong_type(c, e, TYPE_STRING):
            return
        if likely(entry_enc(e) == ENC_INT):
            memcpy(&v, entry_value(e), 8)
        elif not parse_i64(entry_value(e), entry_vlen(e), &v):
            reply_error(c.out, b"ERR value is not an integer or out of range")
            return
    if unlikely(add_overflow(v, by, &v)):
        reply_error(c.out, b"ERR increment or decrement would overflow")
        return
    set_integer(c, &c.key, v)
    notify(c, N_STRING, b"incrby", &c.key)
    c.dirty += 1
    reply_int(c.out, v)


cdef void cmd_incr(Ctx* c) noexcept nogil:
    increment(c, 1)


cdef void cmd_decr(Ctx* c) noexcept nogil:
    increment(c, -1)


cdef void cmd_incrby(Ctx* c) noexcept nogil:
    cdef i64 by
    if int_arg(c, &c.argv[2], &by):
        increment(c, by)


cdef void cmd_decrby(Ctx* c) noexcept nogil:
    cdef i64 by
    if not int_arg(c, &c.argv[2], &by):
        return
    if by == <i64>(<u64>1 << 63):
        reply_error(c.out, b"ERR decrement would overflow")
        return
    increment(c, -by)


cdef void cmd_incrbyfloat(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_write(c, &c.key)
    cdef char text[LONG_DOUBLE_CHARS]
    cdef char tmp[24]
    cdef const char* p
    cdef long double value = 0, by
    cdef size_t n
    if wrong_type(c, e, TYPE_STRING):
        return
    if e != NULL:
        n = string_value(e, tmp, &p)
    if ((e != NULL and not parse_long_double(p, n, &value))
            or not parse_long_double(c.argv[2].ptr, c.argv[2].len, &by)):
        reply_error(c.out, b"ERR value is not a valid float")
        return
    value += by
    if isnan(value) or isinf(value):
        reply_error(c.out, b"ERR increment would produce NaN or Infinity")
        return
    n = write_long_double(text, LONG_DOUBLE_CHARS, value)
    if effects_wanted():
        restate(c, &c.key, 4, b"SET")
        effect_arg(c, text, n)
        effect_word(c, b"KEEPTTL")
        effect_end(c)
    # its text is kept as text, even where it is an integer's
    memcpy(string_writable(c, &c.key, n), text, n)
    if string_embeds(c.key.len, n, entry_has_expire(c.key.entry)):
        entry_set_enc(c.key.entry, ENC_EMBSTR)
    notify(c, N_STRING, b"incrbyfloat", &c.key)
    c.dirty += 1
    reply_value(c, c.key.entry)


# ---- several keys

cdef void cmd_mget(Ctx* c) noexcept nogil:
    cdef Key keys[KEY_BATCH]
    cdef Entry* e
    cdef i64 at = 1, n, i
    reply_array(c.out, c.argc - 1)
    while at < c.argc:
        n = keys_batch(c, at, c.argc, 1, keys)
        for i in range(n):
            e = lookup_read(c, &keys[i])
            if e == NULL or unlikely(entry_type(e) != TYPE_STRING):
                reply_null(c.out, c.resp)
            else:
                reply_value(c, e)
        at += n


cdef void set_pairs(Ctx* c, i64 at, i64 end, i64 expire_ms, bint keep_ttl) noexcept nogil:
    """Set the keys argv[at], argv[at + 2], … to the values after them."""
    cdef Key keys[KEY_BATCH]
    cdef Arg* value
    cdef i64 n, i
    while at < end:
        n = keys_batch(c, at, end, 2, keys)
        for i in range(n):
            value = &c.argv[at + 1]
            lookup(c, &keys[i])
            set_string(c, &keys[i], value.ptr, value.len, expire_ms, keep_ttl)
            notify(c, N_STRING, b"set", &keys[i])
            if expire_ms >= 0:
                notify(c, N_GENERIC, b"expire", &keys[i])
            at += 2
        c.dirty += n


cdef bint none_or_all(Ctx* c, i64 at, i64 end, bint all_) noexcept nogil:
    """Is none, or is every one, of the keys argv[at], argv[at + 2], … there?"""
    cdef Key keys[KEY_BATCH]
    cdef i64 n, i
    while at < end:
        n = keys_batch(c, at, end, 2, keys)
        for i in range(n):
            if (lookup_write(c, &keys[i]) != NULL) != all_:
                return False
        at += 2 * n
    return True


cdef bint pairs_whole(Ctx* c) noexcept nogil:
    cdef char text[96]
    if c.argc & 1:
        return True
    reply_error_len(c.out, text, snprintf(
        text, 96, b"ERR wrong number of arguments for '%s' command", c.cmd.name))
    return False


cdef void cmd_mset(Ctx* c) noexcept nogil:
    if pairs_whole(c):
        set_pairs(c, 1, c.argc, -1, False)
        reply_ok(c.out)


cdef void cmd_msetnx(Ctx* c) noexcept nogil:
    if not pairs_whole(c):
        return
    if not none_or_all(c, 1, c.argc, False):
        reply_int(c.out, 0)
        return
    set_pairs(c, 1, c.argc, -1, False)
    reply_int(c.out, 1)


cdef void restate_msetex(Ctx* c, Options* o) noexcept nogil:
    """With an absolute time."""
    cdef i64 at = o.expire - c.argv
    restate_named(c, c.argc, b"")
    restate_words(c, 1, at - 1)
    effect_word(c, b"PXAT")
    effect_int(c, o.expire_ms)
    restate_words(c, at + 1, c.argc)
    effect_end(c)


cdef void cmd_msetex(Ctx* c) noexcept nogil:
    cdef Options o
    cdef i64 count, end
    cdef bint done
    if not parse_i64(c.argv[1].ptr, c.argv[1].len, &count) or not 1 <= count <= KEYS_MAX:
        reply_error(c.out, b"ERR invalid numkeys value or out of range")
        return
    end = 2 + count * 2
    if end > c.argc:
        reply_error(c.out, b"ERR syntax error")
        return
    if not parse_options(c, end, OF_MSETEX, &o):
        return
    c.key.ptr = NULL
    done = (not o.flags & (OPT_NX | OPT_XX) or none_or_all(c, 2, end, (o.flags & OPT_XX) != 0))
    if done:
        set_pairs(c, 2, end, o.expire_ms, o.flags & OPT_KEEPTTL)
        if effects_wanted() and o.expire != NULL and not o.flags & OPT_PXAT:
            restate_msetex(c, &o)
    reply_int(c.out, done)


# ---- LCS

cdef struct Lcs:
    const char* a
    const char* b
    u64 alen
    u64 blen
    u32* table                     # (alen + 1) rows of blen + 1: LCS lengths of the prefixes
    i64 min_len
    bint want_len
    bint want_ranges
    bint with_len


cdef bint lcs_options(Ctx* c, Lcs* l) noexcept nogil:
    cdef i64 at = 3
    cdef Arg* a
    l.min_len = 0
    l.want_len = l.want_ranges = l.with_len = False
    while at < c.argc:
        a = &c.argv[at]
        if arg_is(a, b"idx", 3):
            l.want_ranges = True
        elif arg_is(a, b"len", 3):
            l.want_len = True
        elif arg_is(a, b"withmatchlen", 12):
            l.with_len = True
        elif arg_is(a, b"minmatchlen", 11) and at + 1 < c.argc:
            at += 1
            if not int_arg(c, &c.argv[at], &l.min_len):
                return False
        else:
            reply_error(c.out, b"ERR syntax error")
            return False
        at += 1
    if l.want_len and l.want_ranges:
        reply_error(c.out, b"ERR If you want both the length and indexes, please just use IDX.")
        return False
    return True


cdef bint lcs_table(Ctx* c, Lcs* l) noexcept nogil:
    """Allocate and fill the table; the caller frees it."""
    cdef u64 i, j, bytes
    cdef u32* row
    cdef u32* above
    l.table = NULL
    if l.alen >= LCS_LEN_MAX or l.blen >= LCS_LEN_MAX:
        reply_error(c.out, b"ERR String too long for LCS")
        return False
    bytes = (l.alen + 1) * (l.blen + 1) * sizeof(u32)
    if bytes > <u64>conf.proto_max_bulk_len:
        reply_error(c.out, b"ERR Insufficient memory, transient memory for LCS exceeds "
                           b"proto-max-bulk-len")
        return False
    l.table = <u32*>malloc(bytes)
    if l.table == NULL:
        reply_error(c.out, b"ERR Insufficient memory, failed allocating transient memory for LCS")
        return False
    for j in range(l.blen + 1):
        l.table[j] = 0
    for i in range(1, l.alen + 1):
        row = l.table + i * (l.blen + 1)
        above = row - (l.blen + 1)
        row[0] = 0
        for j in range(1, l.blen + 1):
            if l.a[i - 1] == l.b[j - 1]:
                row[j] = above[j - 1] + 1
            else:
                row[j] = above[j] if above[j] > row[j - 1] else row[j - 1]
    return True


cdef void lcs_reply_range(Ctx* c, Lcs* l, u64 i, u64 j, u64 n) noexcept nogil:
    """One match of n bytes, a's from i and b's from j on."""
    reply_array(c.out, 3 if l.with_len else 2)
    reply_array(c.out, 2)
    reply_int(c.out, i)
    reply_int(c.out, i + n - 1)
    reply_array(c.out, 2)
    reply_int(c.out, j)
    reply_int(c.out, j + n - 1)
    if l.with_len:
        reply_int(c.out, n)


cdef u64 lcs_ranges(Ctx* c, Lcs* l, bint write) noexcept nogil:
    """Count the matches that are long enough, from the end backward; write them too if asked."""
    cdef u64 i = l.alen, j = l.blen, run = 0, count = 0
    cdef u32* cell
    while i and j:
        if l.a[i - 1] == l.b[j - 1]:
            i -= 1
            j -= 1
            run += 1
            if i and j:
                continue
        if run:
            if <i64>run >= l.min_len:
                count += 1
                if write:
                    lcs_reply_range(c, l, i, j, run)
            run = 0
            continue
        cell = l.table + i * (l.blen + 1) + j
        if (cell - l.blen - 1)[0] > (cell - 1)[0]:
            i -= 1
        else:
            j -= 1
    return count


cdef void lcs_reply_text(Ctx* c, Lcs* l, u32 n) noexcept nogil:
    """The common subsequence itself, written from its end backward."""
    cdef u64 i = l.alen, j = l.blen
    cdef u32 left = n
    cdef u32* cell
    cdef char* p
    reply_head(c.out, c'$', n)
    p = out_reserve(c.out, n)
    while i and j:
        cell = l.table + i * (l.blen + 1) + j
        if l.a[i - 1] == l.b[j - 1]:
            i -= 1
            j -= 1
            left -= 1
            p[left] = l.a[i]
        elif (cell - l.blen - 1)[0] > (cell - 1)[0]:
            i -= 1
        else:
            j -= 1
    c.out.pos += n
    out_write(c.out, b"\r\n", 2)


cdef void cmd_lcs(Ctx* c) noexcept nogil:
    cdef Lcs l
    cdef Key k
    cdef Entry* ea = lookup_read(c, &c.key)
    cdef Entry* eb
    cdef char tmp_a[24]
    cdef char tmp_b[24]
    cdef u32 length
    key_init(c, &k, &c.argv[2])
    eb = lookup_read(c, &k)
    if ((ea != NULL and entry_type(ea) != TYPE_STRING)
            or (eb != NULL and entry_type(eb) != TYPE_STRING)):
        reply_error(c.out, b"ERR The specified keys must contain string values")
        return
    l.alen = 0 if ea == NULL else string_value(ea, tmp_a, &l.a)
    l.blen = 0 if eb == NULL else string_value(eb, tmp_b, &l.b)
    if not lcs_options(c, &l) or not lcs_table(c, &l):
        return
    length = l.table[l.alen * (l.blen + 1) + l.blen]
    if l.want_ranges:
        reply_map(c.out, c.resp, 2)
        reply_bulk(c.out, b"matches", 7)
        reply_array(c.out, lcs_ranges(c, &l, False))
        lcs_ranges(c, &l, True)
        reply_bulk(c.out, b"len", 3)
        reply_int(c.out, length)
    elif l.want_len:
        reply_int(c.out, length)
    else:
        lcs_reply_text(c, &l, length)
    free(l.table)


# ---- the rows

cdef dict about(str since, str complexity, str summary, str acl):
    return {"since": since, "group": "string", "complexity": complexity, "summary": summary,
            "acl": acl}


cdef str O_RANGE = "O(N), N the bytes that are replied"
cdef str O_KEYS = "O(N), N the number of keys"

register("get", 2, "readonly fast", (1, 1, 1), cmd_get,
         about("1.0.0", "O(1)", "Reads a string.", "read string fast"))
register("set", -3, "write denyoom", (1, 1, 1), cmd_set,
         about("1.0.0", "O(1)", "Gives a key a string, whatever it held; options set conditions, "
               "an expiry or ask for the old value.", "write string slow"))
register("setnx", 3, "write denyoom fast", (1, 1, 1), cmd_setnx,
         about("1.0.0", "O(1)", "Gives a key a string unless the key exists.",
               "write string fast"))
register("setex", 4, "write denyoom", (1, 1, 1), cmd_setex,
         about("2.0.0", "O(1)", "Gives a key a string that lives for some seconds.",
               "write string slow"))
register("psetex", 4, "write denyoom", (1, 1, 1), cmd_psetex,
         about("2.6.0", "O(1)", "Gives a key a string that lives for some milliseconds.",
               "write string slow"))
register("getex", -2, "write fast", (1, 1, 1), cmd_getex,
         about("6.2.0", "O(1)", "Reads a string and changes or removes its expiry.",
               "write string fast"))
register("getdel", 2, "write fast", (1, 1, 1), cmd_getdel,
         about("6.2.0", "O(1)", "Reads a string and deletes its key.", "write string fast"))
register("getset", 3, "write denyoom fast", (1, 1, 1), cmd_getset,
         about("1.0.0", "O(1)", "Gives a key a string and replies the one it had.",
               "write string fast"))
register("delifeq", 3, "write fast", (1, 1, 1), cmd_delifeq,
         about("9.0.0", "O(1)", "Deletes a key that holds just the given string.",
               "write string fast"))
register("append", 3, "write denyoom fast", (1, 1, 1), cmd_append,
         about("2.0.0", "O(1) amortised", "Adds bytes at the end of a string, made if absent.",
               "write string fast"))
register("strlen", 2, "readonly fast", (1, 1, 1), cmd_strlen,
         about("2.2.0", "O(1)", "Says how many bytes a string has.", "read string fast"))
register("setrange", 4, "write denyoom", (1, 1, 1), cmd_setrange,
         about("2.2.0", "O(N), N the bytes written", "Writes bytes into a string from an offset "
               "on, with zero bytes before it where there was nothing.", "write string slow"))
register("getrange", 4, "readonly", (1, 1, 1), cmd_getrange,
         about("2.4.0", O_RANGE, "Reads a part of a string.", "read string slow"))
register("substr", 4, "readonly", (1, 1, 1), cmd_getrange,
         about("1.0.0", O_RANGE, "Reads a part of a string; GETRANGE's old name.",
               "read string slow"))
register("incr", 2, "write denyoom fast", (1, 1, 1), cmd_incr,
         about("1.0.0", "O(1)", "Adds one to an integer, zero if absent.", "write string fast"))
register("decr", 2, "write denyoom fast", (1, 1, 1), cmd_decr,
         about("1.0.0", "O(1)", "Takes one from an integer, zero if absent.",
               "write string fast"))
register("incrby", 3, "write denyoom fast", (1, 1, 1), cmd_incrby,
         about("1.0.0", "O(1)", "Adds to an integer, zero if absent.", "write string fast"))
register("decrby", 3, "write denyoom fast", (1, 1, 1), cmd_decrby,
         about("1.0.0", "O(1)", "Takes from an integer, zero if absent.", "write string fast"))
register("incrbyfloat", 3, "write denyoom fast", (1, 1, 1), cmd_incrbyfloat,
         about("2.6.0", "O(1)", "Adds to a number with a fraction, zero if absent.",
               "write string fast"))
register("mget", -2, "readonly fast", (1, -1, 1), cmd_mget,
         about("1.0.0", O_KEYS, "Reads the strings of several keys.", "read string fast"))
register("mset", -3, "write denyoom", (1, -1, 2), cmd_mset,
         about("1.0.1", O_KEYS, "Gives several keys their strings in one step.",
               "write string slow"))
register("msetnx", -3, "write denyoom", (1, -1, 2), cmd_msetnx,
         about("1.0.1", O_KEYS, "Gives several keys their strings unless one of them exists.",
               "write string slow"))
row_keynum(
    register("msetex", -4, "write denyoom movablekeys", (0, 0, 0), cmd_msetex,
             about("9.1.0", O_KEYS, "Gives several keys their strings, with one expiry and one "
                   "condition for all.", "write string slow")), 1, 2, 2)
register("lcs", -3, "readonly", (1, 2, 1), cmd_lcs,
         about("7.0.0", "O(N*M), N and M the lengths of the strings",
               "Finds a longest common subsequence of two strings.", "read string slow"))
