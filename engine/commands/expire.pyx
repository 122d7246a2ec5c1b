# slotring: data plane
"""Expiry of keys: EXPIRE and its variants, TTL and its variants, PERSIST."""
from engine.defs cimport *
from engine.store cimport Entry, entry_expire
from engine.command cimport Ctx, Arg, register, arg_is
from engine.conf cimport conf
from engine.effects cimport effect_arg, effect_end, effect_gone, effect_int, effect_own, effects_wanted
from engine.events cimport notify, N_EXPIRED, N_GENERIC
from engine.keyspace cimport key_delete, key_expire_at, lookup_write
from engine.numbers cimport parse_i64
from engine.reply cimport reply_error, reply_int
from engine.restate cimport *
from engine.commands.keys cimport error_quoting, lookup_untouched

cdef enum:
    OPT_NX = 1
    OPT_XX = 2
    OPT_GT = 4
    OPT_LT = 8

cdef i64 I64_MAX = 0x7FFFFFFFFFFFFFFF


cdef int expire_options(Ctx* c) noexcept nogil:
    """The options after the time as bits; -1: an error was replied."""
    cdef int bits = 0
    cdef i64 i
    cdef Arg* a
    for i in range(3, c.argc):
        a = &c.argv[i]
        if arg_is(a, b"nx", 2):
            bits |= OPT_NX
        elif arg_is(a, b"xx", 2):
            bits |= OPT_XX
        elif arg_is(a, b"gt", 2):
            bits |= OPT_GT
        elif arg_is(a, b"lt", 2):
            bits |= OPT_LT
        else:
            error_quoting(c, b"ERR Unsupported option ", a, <size_t>-1, b"")
            return -1
    if bits & OPT_NX and bits & (OPT_XX | OPT_GT | OPT_LT):
        reply_error(c.out,
                    b"ERR NX and XX, GT or LT options at the same time are not compatible")
        return -1
    if bits & OPT_GT and bits & OPT_LT:
        reply_error(c.out, b"ERR GT and LT options at the same time are not compatible")
        return -1
    return bits


cdef void bad_time(Ctx* c) noexcept nogil:
    cdef Arg name
    name.ptr = c.cmd.name
    name.len = c.cmd.name_len
    error_quoting(c, b"ERR invalid expire time in '", &name, <size_t>-1, b"' command")


cdef bint options_allow(int bits, i64 now_at, i64 when_ms) noexcept nogil:
    """May an expiry (now_at, -1: none) become when_ms? No expiry counts as an endless one."""
    if bits & OPT_NX and now_at >= 0:
        return False
    if bits & OPT_XX and now_at < 0:
        return False
    if bits & OPT_GT and (now_at < 0 or when_ms <= now_at):
        return False
    return not (bits & OPT_LT and now_at >= 0 and when_ms >= now_at)


cdef void restate_expire(Ctx* c, bint as_given, i64 when_ms) noexcept nogil:
    """With the absolute time, unless that was given."""
    restate_named(c, c.argc, b"" if c.cmd.name_len == 9 else b"PEXPIREAT")
    effect_arg(c, c.key.ptr, c.key.len)
    if as_given:
        restate_words(c, 2, 3)
    else:
        effect_int(c, when_ms)
    restate_words(c, 3, c.argc)
    effect_end(c)


cdef void expire_generic(Ctx* c, i64 base_ms, i64 unit_ms) noexcept nogil:
    cdef int bits = expire_options(c)
    cdef i64 when_ms
    cdef Entry* e
    if bits < 0:
        return
    if not parse_i64(c.argv[2].ptr, c.argv[2].len, &when_ms):
        reply_error(c.out, b"ERR value is not an integer or out of range")
        return
    if mul_overflow(when_ms, unit_ms, &when_ms) or when_ms > I64_MAX - base_ms:
        bad_time(c)
        return
    when_ms += base_ms
    if when_ms < 0:
        when_ms = 0
    e = lookup_write(c, &c.key)
    if e == NULL or not options_allow(bits, entry_expire(e), when_ms):
        reply_int(c.out, 0)
        return
    if when_ms <= c.now_ms and not conf.import_mode:
        key_delete(c, &c.key)
        if effects_wanted():
            effect_own(c)
            effect_gone(c, &c.key)
        notify(c, N_EXPIRED, b"expired", &c.key)
        c.expired += 1
    else:
        key_expire_at(c, &c.key, when_ms)
        if effects_wanted():
            restate_expire(c, base_ms == 0 and unit_ms == 1, when_ms)
        notify(c, N_GENERIC, b"expire", &c.key)
    c.dirty += 1
    reply_int(c.out, 1)


cdef void cmd_expire(Ctx* c) noexcept nogil:
    expire_generic(c, c.now_ms, 1000)


cdef void cmd_pexpire(Ctx* c) noexcept nogil:
    expire_generic(c, c.now_ms, 1)


cdef void cmd_expireat(Ctx* c) noexcept nogil:
    expire_generic(c, 0, 1000)


cdef void cmd_pexpireat(Ctx* c) noexcept nogil:
    expire_generic(c, 0, 1)


cdef void ttl_generic(Ctx* c, i64 base_ms, bint seconds) noexcept nogil:
    cdef Entry* e = lookup_untouched(c, &c.key)
    cdef i64 v = -2
    if e != NULL:
        v = entry_expire(e)
        if v >= 0:
            v -= base_ms
            if v < 0:
                v = 0
            if seconds:
                v = v // 1000 + (1 if v % 1000 >= 500 else 0)
    reply_int(c.out, v)


cdef void cmd_ttl(Ctx* c) noexcept nogil:
    ttl_generic(c, c.now_ms, True)


cdef void cmd_pttl(Ctx* c) noexcept nogil:
    ttl_generic(c, c.now_ms, False)


cdef void cmd_expiretime(Ctx* c) noexcept nogil:
    ttl_generic(c, 0, True)


cdef void cmd_pexpiretime(Ctx* c) noexcept nogil:
    ttl_generic(c, 0, False)


cdef void cmd_persist(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_write(c, &c.key)
    if e == NULL or entry_expire(e) < 0:
        reply_int(c.out, 0)
        return
    key_expire_at(c, &c.key, -1)
    notify(c, N_GENERIC, b"persist", &c.key)
    c.dirty += 1
    reply_int(c.out, 1)


def about(since, summary, write):
    """What COMMAND DOCS and ACL say of a row of this family."""
    return {"since": since, "group": "generic", "complexity": "O(1)", "summary": summary,
            "acl": "keyspace write fast" if write else "keyspace read fast",
            "key_flags": ["RW update" if write else "RO access"]}


register("expire", -3, "write fast", (1, 1, 1), cmd_expire, about(
    "1.0.0", "Lets a key live for so many seconds from now.", True))
register("pexpire", -3, "write fast", (1, 1, 1), cmd_pexpire, about(
    "2.6.0", "Lets a key live for so many milliseconds from now.", True))
register("expireat", -3, "write fast", (1, 1, 1), cmd_expireat, about(
    "1.2.0", "Lets a key live until a Unix time in seconds.", True))
register("pexpireat", -3, "write fast", (1, 1, 1), cmd_pexpireat, about(
    "2.6.0", "Lets a key live until a Unix time in milliseconds.", True))
register("ttl", 2, "readonly fast", (1, 1, 1), cmd_ttl, about(
    "1.0.0", "Tells how many seconds a key has left.", False)
    | {"tips": "nondeterministic_output"})
register("pttl", 2, "readonly fast", (1, 1, 1), cmd_pttl, about(
    "2.6.0", "Tells how many milliseconds a key has left.", False)
    | {"tips": "nondeterministic_output"})
register("expiretime", 2, "readonly fast", (1, 1, 1), cmd_expiretime, about(
    "7.0.0", "Tells the Unix time in seconds at which a key goes.", False))
register("pexpiretime", 2, "readonly fast", (1, 1, 1), cmd_pexpiretime, about(
    "7.0.0", "Tells the Unix time in milliseconds at which a key goes.", False))
register("persist", 2, "write fast", (1, 1, 1), cmd_persist, about(
    "2.2.0", "Takes a key's expiry away.", True))
