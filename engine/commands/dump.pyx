# slotring: data plane
"""DUMP and RESTORE. A payload is a type byte, the value in RDB's form, 2 bytes of RDB version and 8 of CRC64, the two
little endian. Strings are read and written here, other types by their families (type_ops, load_ops)."""
import engine.oldrdb  # its load_ops

from engine.defs cimport *
from engine.store cimport *
from engine.args cimport long_arg
from engine.command cimport Ctx, Arg, arg_is, register
from engine.conf cimport conf
from engine.effects cimport effect_end, effect_int, effect_word, effects_wanted
from engine.events cimport *
from engine.keyspace cimport (key_delete, key_put, lfu_policy, lookup, lookup_read, lookup_write, lru_clock,
                              set_string)
from engine.rdbio cimport *
from engine.reply cimport *
from engine.restate cimport *

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

cdef enum:
    FOOTER_BYTES = 10
    RDB_TYPES = 23                 # type bytes known to 9.1: 0 to 22, without 8
    FOREIGN_FIRST = 12             # RDB versions of other servers
    FOREIGN_LAST = 79
    FOREIGN_TYPE_MIN = 22          # types that other servers and Valkey number differently
    IDLE_MAX = 0xFFFFFF            # the LRU clock's range

cdef struct Restore:               # RESTORE's arguments
    i64 ttl
    i64 idle_s                     # -1: not given
    i64 freq
    bint replace
    bint absttl

cdef bint any_version = False      # rdb-version-check relaxed
cdef bint any_checksum = False     # DEBUG SET-SKIP-CHECKSUM-VALIDATION


cdef void dump_entry(RdbOut* o, Entry* e) noexcept nogil:
    """The payload of a value; o is to be freed."""
    cdef char tmp[24]
    cdef const char* s
    cdef size_t n
    cdef u64 crc
    o.p = NULL
    o.len = o.cap = 0
    o.compress = conf.rdb_compression
    if entry_type(e) == TYPE_STRING:
        n = string_text(e, tmp, &s)
        rdb_out_byte(o, RDB_TYPE_STRING)
        rdb_out_string(o, s, n)
    else:
        rdb_out_byte(o, <u8>type_ops[entry_type(e)].rdb_type(e))
        type_ops[entry_type(e)].save(o, e)
    rdb_out_byte(o, RDB_VERSION & 255)
    rdb_out_byte(o, RDB_VERSION >> 8)
    crc = crc64(0, o.p, o.len)
    rdb_out_bytes(o, &crc, 8)


cdef void cmd_dump(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_read(c, &c.key)
    cdef RdbOut o
    if e == NULL:
        reply_null(c.out, c.resp)
        return
    dump_entry(&o, e)
    reply_bulk(c.out, o.p, o.len)
    rdb_out_free(&o)


cdef size_t string_text(Entry* e, char* tmp, const char** s) noexcept nogil:
    cdef i64 v
    if entry_enc(e) == ENC_INT:
        memcpy(&v, entry_value(e), 8)
        s[0] = tmp
        return write_i64(tmp, v)
    s[0] = entry_value(e)
    return entry_vlen(e)


# ---- RESTORE

cdef bint restore_options(Ctx* c, Restore* r) noexcept nogil:
    """The words after the payload; False: an error was replied."""
    cdef i64 i = 4
    cdef bint more
    r.idle_s = r.freq = -1
    r.replace = r.absttl = False
    while i < c.argc:
        more = i + 1 < c.argc
        if arg_is(&c.argv[i], b"replace", 7):
            r.replace = True
        elif arg_is(&c.argv[i], b"absttl", 6):
            r.absttl = True
        elif more and r.freq == -1 and arg_is(&c.argv[i], b"idletime", 8):
            i += 1
            if not long_arg(c, &c.argv[i], &r.idle_s):
                return False
            if r.idle_s < 0:
                reply_error(c.out, b"ERR Invalid IDLETIME value, must be >= 0")
                return False
        elif more and r.idle_s == -1 and arg_is(&c.argv[i], b"freq", 4):
            i += 1
            if not long_arg(c, &c.argv[i], &r.freq):
                return False
            if not 0 <= r.freq <= 255:
                reply_error(c.out, b"ERR Invalid FREQ value, must be >= 0 and <= 255")
                return False
        else:
            reply_error(c.out, b"ERR syntax error")
            return False
        i += 1
    return True


cdef bint payload_good(Ctx* c, Arg* a, int* rdb_type) noexcept nogil:
    """Version, checksum and type byte of a payload; False: an error was replied."""
    cdef const u8* p = <const u8*>a.ptr
    cdef u32 version = 0
    cdef u64 crc
    cdef char text[64]
    if a.len >= FOOTER_BYTES:
        version = p[a.len - 10] | <u32>p[a.len - 9] << 8
        memcpy(&crc, p + a.len - 8, 8)
    if (version == 0 or (not any_version and (version > RDB_VERSION or FOREIGN_FIRST <= version <= FOREIGN_LAST))
            or (not any_checksum and crc64(0, p, a.len - 8) != crc)):
        reply_error(c.out, b"ERR DUMP payload version or checksum are wrong")
        return False
    rdb_type[0] = p[0]
    if a.len == FOOTER_BYTES or p[0] >= RDB_TYPES or p[0] == 8:
        reply_error(c.out, b"ERR Bad data format")
        return False
    if FOREIGN_FIRST <= version <= FOREIGN_LAST and p[0] >= FOREIGN_TYPE_MIN:
        reply_error_len(c.out, text, snprintf(text, 64, b"ERR Unsupported foreign data type: %d", <int>p[0]))
        return False
    return True


cdef Entry* load_entry(Ctx* c, RdbIn* in_, int rdb_type, bint with_expire) noexcept nogil:
    """The value of a type other than string, as an entry that is in no table; NULL: it is corrupt."""
    cdef int enc = 0
    cdef u32 flags = 0
    cdef void* value = NULL
    cdef Entry* e
    if load_ops[rdb_type].load != NULL:
        value = load_ops[rdb_type].load(&c.key.part.arena, in_, rdb_type, &enc, &flags, 0)   # 0: fields that
        # have expired are kept
    if value == NULL:
        return NULL
    e = entry_new(c.key.part, c.key.ptr, c.key.len, sizeof(void*), <u32>load_ops[rdb_type].type_ | (<u32>enc << 4),
                  with_expire)
    e.flags |= <u8>(flags & E_FIELDS)
    value_ptr(e)[0] = value
    return e


cdef void set_clock(Ctx* c, Entry* e, Restore* r) noexcept nogil:
    """IDLETIME and FREQ, each under the policy that knows it."""
    cdef u32 clock
    if lfu_policy():
        if r.freq < 0:
            return
        clock = (<u32>(c.now_ms // 60000) & 0xFFFF) << 8 | <u32>r.freq
    elif r.idle_s < 0:
        return
    else:
        clock = (lru_clock(c.now_ms) - <u32>(r.idle_s if r.idle_s < IDLE_MAX else IDLE_MAX)) & 0xFFFFFF
    e.head = (e.head & 0xFF) | (clock << 8)


cdef void put_restored(Ctx* c, Restore* r, Entry* e, const char* s, size_t n) noexcept nogil:
    """Store the value: e, or the string s of n bytes where e is NULL. r.ttl: when it expires, 0: never."""
    cdef Key* k = &c.key
    cdef bint gone = r.ttl and r.ttl <= c.now_ms and not conf.import_mode
    cdef bint had = r.replace and lookup(c, k) != NULL
    if had:
        key_delete(c, k)
    if gone:
        if e != NULL:
            entry_free(k.part, e)
        if had:
            if effects_wanted():
                restate_key(c, k, b"UNLINK" if conf.lazyfree_server_del else b"DEL")
            key_changed(c, k, N_GENERIC, b"del")
            c.dirty += 1
        return
    if e == NULL:
        set_string(c, k, s, n, r.ttl if r.ttl else -1, False)
    else:
        if r.ttl:
            entry_expire_at(e)[0] = r.ttl
        key_put(c, k, e)
    set_clock(c, k.entry, r)
    key_modified(c, k)
    key_ready(c, k)
    if effects_wanted() and r.ttl and not r.absttl:
        restate_named(c, c.argc + 1, b"")
        restate_words(c, 1, 2)
        effect_int(c, r.ttl)
        restate_words(c, 3, c.argc)
        effect_word(c, b"ABSTTL")
        effect_end(c)
    notify(c, N_GENERIC, b"restore", k)
    c.dirty += 1


cdef void cmd_restore(Ctx* c) noexcept nogil:
    cdef Restore r
    cdef Arg* payload = &c.argv[3]
    cdef int rdb_type
    cdef RdbIn in_
    cdef char tmp[24]
    cdef const char* s = NULL
    cdef size_t n = 0
    cdef Entry* e = NULL
    if not restore_options(c, &r):
        return
    if not r.replace and lookup_write(c, &c.key) != NULL:
        reply_error(c.out, b"BUSYKEY Target key name already exists.")
        return
    if not long_arg(c, &c.argv[2], &r.ttl):
        return
    if r.ttl < 0:
        reply_error(c.out, b"ERR Invalid TTL value, must be >= 0")
        return
    if not payload_good(c, payload, &rdb_type):
        return
    if r.ttl and not r.absttl:
        r.ttl = <i64>(<u64>r.ttl + <u64>c.now_ms)      # too large a one wraps, and has passed
    rdb_in_init(&in_, payload.ptr + 1, payload.len - 1 - FOOTER_BYTES)
    if rdb_type == RDB_TYPE_STRING:
        n = rdb_in_string(&in_, tmp, &s)
    else:
        e = load_entry(c, &in_, rdb_type, r.ttl != 0)
        in_.bad = e == NULL
    if in_.bad:
        reply_error(c.out, b"ERR Bad data format")
    else:
        put_restored(c, &r, e, s, n)
        reply_ok(c.out)
    rdb_in_done(&in_)


# ---- what the control plane sets

def set_any_version(on: bool) -> None:
    """rdb-version-check relaxed: versions of the future and of other servers are taken."""
    global any_version
    any_version = on


def set_any_checksum(on: bool) -> None:
    """DEBUG SET-SKIP-CHECKSUM-VALIDATION"""
    global any_checksum
    any_checksum = on


def is_any_checksum() -> bool:
    """Are checksums not looked at?"""
    return any_checksum


def about(since, summary, acl, complexity, **more):
    """What COMMAND DOCS and ACL say of a row of this family."""
    return {"since": since, "group": "generic", "complexity": complexity, "summary": summary, "acl": acl, **more}


register("dump", 2, "readonly", (1, 1, 1), cmd_dump, about(
    "2.6.0", "Gives a key's value as bytes for RESTORE.", "keyspace read slow", "O(N), N the size of the value",
    tips="nondeterministic_output", key_flags=["RO access"]))
register("restore", -4, "write denyoom", (1, 1, 1), cmd_restore, about(
    "2.6.0", "Makes a key of the bytes that DUMP gave.", "keyspace write slow dangerous",
    "O(N), N the size of the value; sorted sets O(N*log(N))", key_flags=["OW update"]))
register("restore-asking", -4, "write denyoom asking", (1, 1, 1), cmd_restore, {**about(
    "3.0.0", "RESTORE for keys that move within a cluster.", "keyspace write slow dangerous",
    "O(N), N the size of the value; sorted sets O(N*log(N))", key_flags=["OW update"]),
    "group": "server", "doc_flags": "syscmd"})
