# slotring: data plane
"""Commands about the expiry of hashes' fields."""
from libc.stdlib cimport abort, free, malloc
from engine.defs cimport *
from engine.command cimport Arg, Ctx, arg_is, register
from engine.commands.hashes cimport *
from engine.commands.keys cimport error_quoting
from engine.effects cimport effect_arg, effect_end, effect_int, effect_word, effects_wanted
from engine.hash cimport *
from engine.keyspace cimport *
from engine.members cimport *
from engine.numbers cimport parse_i64
from engine.reply cimport *
from engine.restate cimport *

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

cdef enum:
    # options of HSETEX, HGETEX
    OPT_NX = 1
    OPT_XX = 2
    OPT_FNX = 4
    OPT_FXX = 8
    OPT_KEEPTTL = 16
    OPT_PERSIST = 32
    OPT_EX = 64
    OPT_PX = 128
    OPT_EXAT = 256
    OPT_PXAT = 512
    OPT_EXPIRES = OPT_EX | OPT_PX | OPT_EXAT | OPT_PXAT
    # and of HEXPIRE and its kin
    OPT_GT = 1024
    OPT_LT = 2048

    OF_HSETEX = OPT_NX | OPT_XX | OPT_FNX | OPT_FXX | OPT_KEEPTTL | OPT_EXPIRES
    CONDITIONS = OPT_NX | OPT_XX | OPT_FNX | OPT_FXX
    OF_HGETEX = OPT_PERSIST | OPT_EXPIRES

    # replies of HEXPIRE, HPERSIST for a field
    NO_FIELD = -2
    NO_EXPIRY = -1
    NOT_MET = 0
    DONE = 1
    DELETED = 2


# ---- arguments

cdef bint expire_time(Ctx* c, Arg* a, bint seconds, bint relative, i64* out) noexcept nogil:
    """The absolute time in ms that an argument means; False: an error was replied."""
    cdef i64 ms
    cdef char text[96]
    if not parse_i64(a.ptr, a.len, &ms):
        reply_error(c.out, b"ERR value is not an integer or out of range")
        return False
    if ms < 0 or (seconds and mul_overflow(ms, 1000, &ms)) or (relative and add_overflow(ms, c.now_ms, &ms)):
        reply_error_len(c.out, text, snprintf(text, 96, b"ERR invalid expire time in '%s' command", c.cmd.name))
        return False
    out[0] = ms
    return True


cdef i64 fields_word(Ctx* c, i64 at) noexcept nogil:
    """The place of FIELDS, looked for from `at` on, with something after it; -1: it is not there."""
    while at < c.argc - 1:
        if arg_is(&c.argv[at], b"fields", 6):
            return at
        at += 1
    return -1


cdef bint fields_after(Ctx* c, i64 at, i64 each) noexcept nogil:
    """As fields_count for FIELDS at argv[at], -1: it was not found. False: an error was replied."""
    if at >= 0:
        return fields_count(c, at + 1, each, NULL)
    reply_error(c.out, b"ERR numfields should be greater than 0 and match the provided number of fields")
    return False


cdef u32 option_word(Arg* a) noexcept nogil:
    if arg_is(a, b"ex", 2):
        return OPT_EX
    if arg_is(a, b"px", 2):
        return OPT_PX
    if arg_is(a, b"exat", 4):
        return OPT_EXAT
    if arg_is(a, b"pxat", 4):
        return OPT_PXAT
    if arg_is(a, b"keepttl", 7):
        return OPT_KEEPTTL
    if arg_is(a, b"persist", 7):
        return OPT_PERSIST
    if arg_is(a, b"fnx", 3):
        return OPT_FNX
    if arg_is(a, b"fxx", 3):
        return OPT_FXX
    if arg_is(a, b"nx", 2):
        return OPT_NX
    if arg_is(a, b"xx", 2):
        return OPT_XX
    return 0


cdef u32 rivals(u32 option) noexcept nogil:
    """The options that may not come before this one."""
    if option == OPT_NX:
        return OPT_XX
    if option == OPT_XX:
        return OPT_NX
    if option == OPT_FNX:
        return OPT_FXX
    if option == OPT_FXX:
        return OPT_FNX
    return (OPT_EXPIRES | OPT_KEEPTTL | OPT_PERSIST) & ~option


cdef bint parse_options(Ctx* c, i64 end, u32 allowed, u32* flags, Arg** expire) noexcept nogil:
    """The options from argv[2] to before argv[end]; False: an error was replied."""
    cdef i64 at = 2
    cdef u32 option
    flags[0] = 0
    expire[0] = NULL
    while at < end:
        option = option_word(&c.argv[at])
        at += 1
        if not option & allowed or flags[0] & rivals(option) or (option & OPT_EXPIRES and at == end):
            reply_error(c.out, b"ERR syntax error")
            return False
        if option & OPT_EXPIRES:
            expire[0] = &c.argv[at]
            at += 1
        flags[0] |= option
    return True


cdef inline bint already_past(Ctx* c, i64 when_ms) noexcept nogil:
    return when_ms <= c.now_ms and not conf.import_mode


# ---- what the log is told: the fields in question, with absolute times

cdef i64* places_new(Ctx* c) noexcept nogil:
    """Room for the places of the fields that were changed; NULL: the log is not wanted."""
    cdef i64* places
    if not effects_wanted():
        return NULL
    places = <i64*>malloc(c.argc * sizeof(i64))
    if places == NULL:
        abort()
    return places


cdef void restate_fields(Ctx* c, const char* name, i64 when_ms, i64* places, i64 n) noexcept nogil:
    """HDEL key field ..., HPERSIST key FIELDS n field ..., HPEXPIREAT key time FIELDS n field ..."""
    cdef i64 i
    cdef bint counted = name[1] == c'P'
    restate(c, &c.key, 2 + n + (2 if counted else 0) + (1 if when_ms >= 0 else 0), name)
    if when_ms >= 0:
        effect_int(c, when_ms)
    if counted:
        effect_word(c, b"FIELDS")
        effect_int(c, n)
    for i in range(n):
        restate_words(c, places[i], places[i] + 1)
    effect_end(c)


cdef void restate_hsetex(Ctx* c, i64 first, Arg* expire, i64 when_ms) noexcept nogil:
    """Without conditions; the options end before FIELDS at argv[first - 2]."""
    cdef i64 i = 2, end = first - 2, argc = c.argc
    cdef u32 option
    for i in range(2, end):
        if &c.argv[i] != expire and option_word(&c.argv[i]) & CONDITIONS:
            argc -= 1
    restate_named(c, argc, b"")
    restate_words(c, 1, 2)
    for i in range(2, end):
        option = 0 if &c.argv[i] == expire else option_word(&c.argv[i])
        if option & OPT_EXPIRES:
            effect_word(c, b"PXAT")
            effect_int(c, when_ms)
        elif not option & CONDITIONS and &c.argv[i] != expire:
            restate_words(c, i, i + 1)
    restate_words(c, end, c.argc)
    effect_end(c)


# ---- HSETEX

cdef bint fields_conditions(Ctx* c, i64 first, u32 flags) noexcept nogil:
    """FNX and FXX."""
    cdef Entry* e = c.key.entry
    cdef char tmp[24]
    cdef const char* v
    cdef i64 i
    cdef bint there
    if not flags & (OPT_FNX | OPT_FXX):
        return True
    if e == NULL:
        return flags & OPT_FNX
    for i in range(first, c.argc, 2):
        there = hash_get(e, c.now_ms, c.argv[i].ptr, c.argv[i].len, tmp, &v) >= 0
        if there == <bint>(flags & OPT_FNX):
            return False
    return True


cdef i64 set_expired(Ctx* c, i64 first) noexcept nogil:
    """HSETEX with a time in the past: the fields go; how many there were."""
    cdef i64 i, n = 0
    cdef i64* places
    atomic_add64(&expired_fields, (c.argc - first) // 2, RELAXED)
    if c.key.entry == NULL:
        notify(c, N_NEW, b"new", &c.key)       # as if made and deleted again
        return 0
    places = places_new(c)
    for i in range(first, c.argc, 2):
        if hash_delete(c, &c.key, c.argv[i].ptr, c.argv[i].len, True):
            if places != NULL:
                places[n] = i
            n += 1
    if places != NULL and n:
        restate_fields(c, b"HDEL", -1, places, n)
    free(places)
    return n


cdef u32 set_fields(Ctx* c, i64 first, i64 when_ms, bint keep_ttl) noexcept nogil:
    """HSETEX's work; returns how many of the fields overwritten had expired."""
    cdef i64 i
    cdef u32 expired = 0
    cdef Arg* a
    cdef bint tell = keep_ttl and effects_wanted()     # elsewhere what expired here may still be there
    if c.key.entry == NULL:
        # unlike HSET, it does not guess from how many there are that they differ
        hash_make(c, &c.key, (c.argc - first) // 2 if when_ms >= 0 else 1, when_ms >= 0)
    for i in range(first, c.argc, 2):
        a = &c.argv[i]
        if hash_set(c, &c.key, a.ptr, a.len, a[1].ptr, a[1].len, when_ms, keep_ttl) != FIELD_WAS_EXPIRED:
            continue
        if tell and expired % RESTATED_WORDS == 0:
            if expired:
                restate_close(c, 2 + RESTATED_WORDS)
            also_open(c, &c.key, b"HDEL")
        if tell:
            effect_arg(c, a.ptr, a.len)
        expired += 1
    if tell and expired:
        restate_close(c, 3 + (expired - 1) % RESTATED_WORDS)
    return expired


cdef void cmd_hsetex(Ctx* c) noexcept nogil:
    cdef i64 at = fields_word(c, 0), first = at + 2, when_ms = -1, changes
    cdef u32 flags = 0
    cdef Arg* expire = NULL
    cdef bint wrong, past = False
    cdef Entry* e
    if at >= 0 and not parse_options(c, at, OF_HSETEX, &flags, &expire):
        return
    if not fields_after(c, at, 2):
        return
    e = hash_to_write(c, &wrong)
    if wrong:
        return
    if (flags & OPT_NX and e != NULL) or (flags & OPT_XX and e == NULL):
        reply_int(c.out, 0)
        return
    if expire != NULL and not flags & OPT_KEEPTTL:
        if not expire_time(c, expire, flags & (OPT_EX | OPT_EXAT), flags & (OPT_EX | OPT_PX), &when_ms):
            return
        past = already_past(c, when_ms)
    if not fields_conditions(c, first, flags):
        reply_int(c.out, 0)
        return
    if past:
        changes = set_expired(c, first)
        if changes:
            key_modified(c, &c.key)
    else:
        changes = (c.argc - first) // 2
        fields_expired(c, set_fields(c, first, when_ms, flags & OPT_KEEPTTL))
        if effects_wanted() and flags & (CONDITIONS | OPT_EX | OPT_PX | OPT_EXAT):
            restate_hsetex(c, first, expire, when_ms)
        key_modified(c, &c.key)
    c.dirty += changes
    notify(c, N_HASH, b"hset", &c.key)
    if expire != NULL:
        notify(c, N_HASH, b"hexpire", &c.key)
    if past:
        notify(c, N_HASH, b"hexpired", &c.key)
        if c.key.entry == NULL:
            notify(c, N_GENERIC, b"del", &c.key)
        else:
            drop_if_empty(c)
    reply_int(c.out, 1)


# ---- changing the expiry of fields

cdef int expire_field(Ctx* c, Arg* f, i64 when_ms, u32 flags) noexcept nogil:
    """Give a field an expiry if the conditions are met, or delete it where that is past."""
    cdef Entry* e = c.key.entry
    cdef char tmp[24]
    cdef const char* v
    cdef u64* cell
    cdef i64 old
    if e == NULL:
        return NO_FIELD
    if entry_enc(e) == ENC_LISTPACK:
        if hash_get(e, c.now_ms, f.ptr, f.len, tmp, &v) < 0:
            return NO_FIELD
        if flags & (OPT_XX | OPT_GT):
            return NOT_MET
        if not already_past(c, when_ms):
            hash_to_table(&c.key, 0)
    else:
        cell = hash_cell(e, c.now_ms, f.ptr, f.len)
        if cell == NULL:
            return NO_FIELD
        old = cell_expire(cell[0])
        if ((flags & OPT_NX and old >= 0) or (flags & (OPT_XX | OPT_GT) and old < 0)
                or (flags & OPT_GT and when_ms <= old) or (flags & OPT_LT and 0 <= old <= when_ms)):
            return NOT_MET
    if already_past(c, when_ms):
        hash_delete(c, &c.key, f.ptr, f.len, True)
        return DELETED
    hash_set_expire(&c.key, hash_cell(e, c.now_ms, f.ptr, f.len), when_ms)
    return DONE


cdef int persist_field(Ctx* c, Arg* f) noexcept nogil:
    """Take a field's expiry away."""
    cdef Entry* e = c.key.entry
    cdef char tmp[24]
    cdef const char* v
    cdef u64* cell
    if e == NULL or hash_get(e, c.now_ms, f.ptr, f.len, tmp, &v) < 0:
        return NO_FIELD
    if entry_enc(e) == ENC_LISTPACK:
        return NO_EXPIRY
    cell = hash_cell(e, c.now_ms, f.ptr, f.len)
    if cell_expire(cell[0]) < 0:
        return NO_EXPIRY
    hash_set_expire(&c.key, cell, -1)
    return DONE


cdef void cmd_hgetex(Ctx* c) noexcept nogil:
    cdef i64 at = fields_word(c, 0), first = at + 2, when_ms = -1, changes = 0, i
    cdef u32 flags = 0
    cdef Arg* expire = NULL
    cdef bint wrong, past = False
    cdef int done = 0
    cdef Entry* e
    cdef i64* places
    if at >= 0 and not parse_options(c, at, OF_HGETEX, &flags, &expire):
        return
    if not fields_after(c, at, 1):
        return
    e = hash_to_read(c, &wrong)
    if wrong:
        return
    if expire != NULL and not flags & OPT_PERSIST:
        if not expire_time(c, expire, flags & (OPT_EX | OPT_EXAT), flags & (OPT_EX | OPT_PX), &when_ms):
            return
        past = already_past(c, when_ms)
    reply_array(c.out, c.argc - first)
    places = places_new(c)
    for i in range(first, c.argc):
        reply_field(c, e, &c.argv[i])
        if e == NULL:
            continue
        if flags & OPT_PERSIST:
            done = persist_field(c, &c.argv[i])
        elif expire != NULL:
            done = expire_field(c, &c.argv[i], when_ms, 0)
        if done > 0:
            if places != NULL:
                places[changes] = i
            changes += 1
    if places != NULL and changes:
        restate_fields(c, b"HPERSIST" if flags & OPT_PERSIST else (b"HDEL" if past else b"HPEXPIREAT"),
                       -1 if past else when_ms, places, changes)
    free(places)
    if changes == 0:
        return
    if past:
        atomic_add64(&expired_fields, changes, RELAXED)
    notify(c, N_HASH, b"hpersist" if flags & OPT_PERSIST else (b"hexpired" if past else b"hexpire"), &c.key)
    c.dirty += changes
    key_modified(c, &c.key)
    drop_if_empty(c)


cdef bint expire_flags(Ctx* c, i64 end, u32* flags) noexcept nogil:
    """NX, XX, GT, LT from argv[3] to before argv[end]; False: an error was replied."""
    cdef i64 i
    cdef Arg* a
    flags[0] = 0
    for i in range(3, end):
        a = &c.argv[i]
        if arg_is(a, b"nx", 2):
            flags[0] |= OPT_NX
        elif arg_is(a, b"xx", 2):
            flags[0] |= OPT_XX
        elif arg_is(a, b"gt", 2):
            flags[0] |= OPT_GT
        elif arg_is(a, b"lt", 2):
            flags[0] |= OPT_LT
        else:
            error_quoting(c, b"ERR Unsupported option ", a, <size_t>-1, b"")
            return False
    if flags[0] & OPT_NX and flags[0] & (OPT_XX | OPT_GT | OPT_LT):
        reply_error(c.out, b"ERR NX and XX, GT or LT options at the same time are not compatible")
        return False
    if flags[0] & OPT_GT and flags[0] & OPT_LT:
        reply_error(c.out, b"ERR GT and LT options at the same time are not compatible")
        return False
    return True


cdef void restate_hexpire(Ctx* c, bint as_given, i64 when_ms) noexcept nogil:
    restate_named(c, c.argc, b"" if c.cmd.name_len == 10 else b"HPEXPIREAT")
    restate_words(c, 1, 2)
    if as_given:
        restate_words(c, 2, 3)
    else:
        effect_int(c, when_ms)
    restate_words(c, 3, c.argc)
    effect_end(c)


cdef void expire_generic(Ctx* c, bint seconds, bint relative) noexcept nogil:
    """HEXPIRE and its kin."""
    cdef i64 at = fields_word(c, 3), when_ms, i
    cdef u32 flags = 0, expired = 0, updated = 0
    cdef bint wrong
    cdef int done
    cdef i64* places
    if at >= 0 and not expire_flags(c, at, &flags):
        return
    if not fields_after(c, at, 1) or not expire_time(c, &c.argv[2], seconds, relative, &when_ms):
        return
    hash_to_write(c, &wrong)
    if wrong:
        return
    reply_array(c.out, c.argc - at - 2)
    places = places_new(c)
    for i in range(at + 2, c.argc):
        done = expire_field(c, &c.argv[i], when_ms, flags)
        updated += done == DONE
        if done == DELETED:
            if places != NULL:
                places[expired] = i
            expired += 1
        reply_int(c.out, done)
    if places != NULL and expired:
        restate_fields(c, b"HDEL", -1, places, expired)
    elif places != NULL and updated:
        restate_hexpire(c, not seconds and not relative, when_ms)
    free(places)
    if not expired and not updated:
        return
    if expired:
        atomic_add64(&expired_fields, expired, RELAXED)
    notify(c, N_HASH, b"hexpired" if expired else b"hexpire", &c.key)
    c.dirty += expired + updated
    key_modified(c, &c.key)
    drop_if_empty(c)


cdef void cmd_hexpire(Ctx* c) noexcept nogil:
    expire_generic(c, True, True)


cdef void cmd_hpexpire(Ctx* c) noexcept nogil:
    expire_generic(c, False, True)


cdef void cmd_hexpireat(Ctx* c) noexcept nogil:
    expire_generic(c, True, False)


cdef void cmd_hpexpireat(Ctx* c) noexcept nogil:
    expire_generic(c, False, False)


cdef void cmd_hpersist(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef i64 i, changes = 0
    cdef int done
    if not fields_here(c, NULL):
        return
    hash_to_write(c, &wrong)
    if wrong:
        return
    reply_array(c.out, c.argc - 4)
    for i in range(4, c.argc):
        done = persist_field(c, &c.argv[i])
        changes += done > 0
        reply_int(c.out, done)
    if changes:
        c.dirty += changes
        key_changed(c, &c.key, N_HASH, b"hpersist")


# ---- asking for it

cdef void ttl_generic(Ctx* c, bint seconds, bint relative) noexcept nogil:
    """HTTL and its kin."""
    cdef bint wrong
    cdef Entry* e
    cdef i64 i, at
    cdef char tmp[24]
    cdef const char* v
    if not fields_here(c, b"ERR syntax error"):
        return
    e = hash_to_read(c, &wrong)
    if wrong:
        return
    reply_array(c.out, c.argc - 4)
    for i in range(4, c.argc):
        if e == NULL or hash_get(e, c.now_ms, c.argv[i].ptr, c.argv[i].len, tmp, &v) < 0:
            reply_int(c.out, NO_FIELD)
            continue
        at = -1
        if entry_enc(e) == ENC_HASHTABLE:
            at = cell_expire(hash_cell(e, c.now_ms, c.argv[i].ptr, c.argv[i].len)[0])
        if at >= 0:
            if relative:
                at = at - c.now_ms if at > c.now_ms else 0
            if seconds:
                at = at // 1000 + (1 if at % 1000 >= 500 else 0)
        reply_int(c.out, at)


cdef void cmd_httl(Ctx* c) noexcept nogil:
    ttl_generic(c, True, True)


cdef void cmd_hpttl(Ctx* c) noexcept nogil:
    ttl_generic(c, False, True)


cdef void cmd_hexpiretime(Ctx* c) noexcept nogil:
    ttl_generic(c, True, False)


cdef void cmd_hpexpiretime(Ctx* c) noexcept nogil:
    ttl_generic(c, False, False)


# ---- rows

cdef dict about(str summary, str acl):
    return {"since": "9.0.0", "group": "hash", "complexity": "O(N), N the fields named", "summary": summary, "acl": acl}


cdef str READ = "read hash fast"
cdef str WRITE = "write hash fast"

register("hsetex", -6, "write denyoom fast", (1, 1, 1), cmd_hsetex,
         about("Sets fields of a hash, with an expiry if one is given.", WRITE))
register("hgetex", -5, "write fast", (1, 1, 1), cmd_hgetex,
         about("Reads fields of a hash and changes or removes their expiry.", WRITE))
register("hexpire", -6, "write fast", (1, 1, 1), cmd_hexpire,
         about("Lets fields of a hash expire after some seconds.", WRITE))
register("hpexpire", -6, "write fast", (1, 1, 1), cmd_hpexpire,
         about("Lets fields of a hash expire after some milliseconds.", WRITE))
register("hexpireat", -6, "write fast", (1, 1, 1), cmd_hexpireat,
         about("Lets fields of a hash expire at a time in seconds.", WRITE))
register("hpexpireat", -6, "write fast", (1, 1, 1), cmd_hpexpireat,
         about("Lets fields of a hash expire at a time in milliseconds.", WRITE))
register("hpersist", -5, "write fast", (1, 1, 1), cmd_hpersist,
         about("Takes the expiry of fields of a hash away.", WRITE))
register("httl", -5, "readonly fast", (1, 1, 1), cmd_httl,
         about("Says how many seconds fields of a hash have left.", READ))
register("hpttl", -5, "readonly fast", (1, 1, 1), cmd_hpttl,
         about("Says how many milliseconds fields of a hash have left.", READ))
register("hexpiretime", -5, "readonly fast", (1, 1, 1), cmd_hexpiretime,
         about("Says when fields of a hash expire, in seconds.", READ))
register("hpexpiretime", -5, "readonly fast", (1, 1, 1), cmd_hpexpiretime,
         about("Says when fields of a hash expire, in milliseconds.", READ))
