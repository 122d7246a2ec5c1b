# slotring: data plane
"""Commands of hashes; those about fields' expiry are in hash_expiry.pyx, HRANDFIELD and HSCAN in hash_walks.pyx."""
from engine.defs cimport *
from engine.command cimport Arg, Ctx, arg_is, register
from engine.effects cimport effect_arg, effect_end, effect_int, effect_word, effects_wanted
from engine.hash cimport *
from engine.keyspace cimport *
from engine.listpack cimport *
from engine.members cimport *
from engine.numbers cimport parse_i64, parse_long_double, write_long_double
from engine.reply cimport *
from engine.restate cimport *

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)
cdef extern from "<math.h>" nogil:
    bint isnan(long double)
    bint isinf(long double)

cdef enum:
    LONG_DOUBLE_CHARS = 5120

cdef const char* FIELDS_WRONG = b"ERR numfields should be greater than 0 and match the provided number of fields"


cdef Entry* hash_to_read(Ctx* c, bint* wrong) noexcept nogil:
    """The hash of c.key for reading, NULL: there is none; *wrong: WRONGTYPE was replied."""
    cdef Entry* e = lookup_read(c, &c.key)
    wrong[0] = wrong_type(c, e, TYPE_HASH)
    return NULL if wrong[0] else e


cdef Entry* hash_to_write(Ctx* c, bint* wrong) noexcept nogil:
    cdef Entry* e = lookup_write(c, &c.key)
    wrong[0] = wrong_type(c, e, TYPE_HASH)
    return NULL if wrong[0] else e


cdef bint fields_count(Ctx* c, i64 at, i64 each, const char* wrong) noexcept nogil:
    """The number of fields in argv[at], `each` arguments a field: what follows must be just that. False: replied."""
    cdef i64 n
    if not parse_i64(c.argv[at].ptr, c.argv[at].len, &n):
        reply_error(c.out, b"ERR value is not an integer or out of range")
        return False
    if n > 0 and n <= c.argc and n * each == c.argc - at - 1:
        return True
    reply_error(c.out, FIELDS_WRONG if wrong == NULL else wrong)
    return False


cdef bint fields_here(Ctx* c, const char* wrong) noexcept nogil:
    """FIELDS count field ... from argv[2] on; wrong: the error for a wrong count, NULL: the usual."""
    if not arg_is(&c.argv[2], b"fields", 6):
        reply_error(c.out, b"ERR syntax error")
        return False
    return fields_count(c, 3, 1, wrong)


cdef void reply_arity(Ctx* c) noexcept nogil:
    cdef char text[96]
    reply_error_len(c.out, text, snprintf(
        text, 96, b"ERR wrong number of arguments for '%s' command", c.cmd.name))


cdef void reply_field(Ctx* c, Entry* e, Arg* f) noexcept nogil:
    """A field's value, or a null (e NULL too)."""
    cdef char tmp[24]
    cdef const char* v
    cdef i64 n = -1 if e == NULL else hash_get(e, c.now_ms, f.ptr, f.len, tmp, &v)
    if n < 0:
        reply_null(c.out, c.resp)
    else:
        reply_bulk(c.out, v, n)


cdef void fields_expired(Ctx* c, u32 n) noexcept nogil:
    """So many fields that had expired were overwritten: they count, and one event tells it."""
    if n:
        atomic_add64(&expired_fields, n, RELAXED)
        notify(c, N_HASH, b"hexpired", &c.key)


cdef void drop_if_empty(Ctx* c) noexcept nogil:
    """The last field may have gone: the key goes with it."""
    if hash_length(c.key.entry) == 0:
        key_delete(c, &c.key)
        notify(c, N_GENERIC, b"del", &c.key)


# ---- reading

cdef void cmd_hget(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = hash_to_read(c, &wrong)
    if not wrong:
        reply_field(c, e, &c.argv[2])


cdef void cmd_hmget(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = hash_to_read(c, &wrong)
    cdef i64 i
    if wrong:
        return
    reply_array(c.out, c.argc - 2)
    for i in range(2, c.argc):
        reply_field(c, e, &c.argv[i])


cdef void cmd_hlen(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = hash_to_read(c, &wrong)
    if not wrong:
        reply_int(c.out, 0 if e == NULL else <i64>hash_length(e))


cdef i64 field_length(Ctx* c, Entry* e) noexcept nogil:
    """Bytes of the value of field argv[2]; -1: it is not there."""
    cdef char tmp[24]
    cdef const char* v
    return -1 if e == NULL else hash_get(e, c.now_ms, c.argv[2].ptr, c.argv[2].len, tmp, &v)


cdef void cmd_hstrlen(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = hash_to_read(c, &wrong)
    cdef i64 n
    if not wrong:
        n = field_length(c, e)
        reply_int(c.out, n if n > 0 else 0)


cdef void cmd_hexists(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = hash_to_read(c, &wrong)
    if not wrong:
        reply_int(c.out, 0 if field_length(c, e) < 0 else 1)


cdef void reply_all(Ctx* c, bint fields, bint values) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = hash_to_read(c, &wrong)
    cdef FieldWalk w
    cdef i64 n
    if wrong:
        return
    n = 0 if e == NULL else <i64>hash_live(e, c.now_ms)
    if fields and values:
        reply_map(c.out, c.resp, n)
    else:
        reply_array(c.out, n)
    if n == 0:
        return
    fields_walk(e, c.now_ms, &w)
    while field_next(&w):
        if fields:
            reply_bulk(c.out, w.f, w.fn)
        if values:
            reply_bulk(c.out, w.v, w.vn)


cdef void cmd_hgetall(Ctx* c) noexcept nogil:
    reply_all(c, True, True)


cdef void cmd_hkeys(Ctx* c) noexcept nogil:
    reply_all(c, True, False)


cdef void cmd_hvals(Ctx* c) noexcept nogil:
    reply_all(c, False, True)


# ---- writing

cdef bint too_long_for_listpack(Arg* first, i64 n) noexcept nogil:
    cdef i64 i
    for i in range(n):
        if first[i].len > <size_t>conf.hash_max_listpack_value:
            return True
    return False


cdef void make_room(Ctx* c, i64 first, i64 n) noexcept nogil:
    """There is a hash at the key, in the encoding that fields and values argv[first] to argv[first + n - 1] want."""
    if c.key.entry == NULL:
        hash_make(c, &c.key, n // 2, False)
    elif entry_enc(c.key.entry) == ENC_LISTPACK and n // 2 > conf.hash_max_listpack_entries:
        hash_to_table(&c.key, n // 2)
    if entry_enc(c.key.entry) == ENC_LISTPACK and too_long_for_listpack(&c.argv[first], n):
        hash_to_table(&c.key, n // 2)


cdef void hset_pairs(Ctx* c, bint count) noexcept nogil:
    """HSET, HMSET."""
    cdef bint wrong
    cdef Arg* a
    cdef i64 i, created = 0
    cdef u32 expired = 0
    cdef int done
    if c.argc & 1:
        reply_arity(c)
        return
    hash_to_write(c, &wrong)
    if wrong:
        return
    make_room(c, 2, c.argc - 2)
    for i in range(2, c.argc, 2):
        a = &c.argv[i]
        done = hash_set(c, &c.key, a.ptr, a.len, a[1].ptr, a[1].len, -1, False)
        created += done != FIELD_UPDATED
        expired += done == FIELD_WAS_EXPIRED
    key_modified(c, &c.key)
    fields_expired(c, expired)
    notify(c, N_HASH, b"hset", &c.key)
    c.dirty += (c.argc - 2) // 2
    if count:
        reply_int(c.out, created)
    else:
        reply_ok(c.out)


cdef void cmd_hset(Ctx* c) noexcept nogil:
    hset_pairs(c, True)


cdef void cmd_hmset(Ctx* c) noexcept nogil:
    hset_pairs(c, False)


cdef void cmd_hsetnx(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = hash_to_write(c, &wrong)
    cdef Arg* a = &c.argv[2]
    if wrong:
        return
    if field_length(c, e) >= 0:
        reply_int(c.out, 0)
        return
    if effects_wanted() and e != NULL and e.flags & E_FIELDS:     # elsewhere an expired field may still be there
        restate_named(c, 4, b"HSET")
        restate_words(c, 1, 4)
        effect_end(c)
    make_room(c, 2, 2)
    wrong = hash_set(c, &c.key, a.ptr, a.len, a[1].ptr, a[1].len, -1, False) == FIELD_WAS_EXPIRED
    key_modified(c, &c.key)
    fields_expired(c, wrong)
    notify(c, N_HASH, b"hset", &c.key)
    c.dirty += 1
    reply_int(c.out, 1)


cdef void fields_deleted(Ctx* c, i64 n) noexcept nogil:
    """What follows the deletion of n fields by a command."""
    if n == 0:
        return
    key_modified(c, &c.key)
    notify(c, N_HASH, b"hdel", &c.key)
    c.dirty += n
    drop_if_empty(c)


cdef void cmd_hdel(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e = hash_to_write(c, &wrong)
    cdef i64 i, n = 0
    if wrong:
        return
    if e != NULL:
        for i in range(2, c.argc):
            if hash_delete(c, &c.key, c.argv[i].ptr, c.argv[i].len, False):
                n += 1
                if hash_length(e) == 0:
                    break
        fields_deleted(c, n)
    reply_int(c.out, n)


cdef void cmd_hgetdel(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e
    cdef i64 i, n = 0
    if not fields_here(c, NULL):
        return
    e = hash_to_write(c, &wrong)
    if wrong:
        return
    reply_array(c.out, c.argc - 4)
    for i in range(4, c.argc):
        reply_field(c, e, &c.argv[i])
        if e != NULL and hash_delete(c, &c.key, c.argv[i].ptr, c.argv[i].len, False):
            n += 1
    fields_deleted(c, n)


# ---- numbers

cdef void restate_number(Ctx* c, const char* v, size_t n, i64 expire_ms) noexcept nogil:
    """The field gets the number that was the result, and its expiry."""
    if expire_ms < 0:
        restate(c, &c.key, 4, b"HSET")
    else:
        restate(c, &c.key, 8, b"HSETEX")
        effect_word(c, b"PXAT")
        effect_int(c, expire_ms)
        effect_word(c, b"FIELDS")
        effect_word(c, b"1")
    restate_words(c, 2, 3)
    effect_arg(c, v, n)
    effect_end(c)


cdef void set_number(Ctx* c, const char* v, size_t n, i64 expire_ms, bint fraction) noexcept nogil:
    """The number of field argv[2], which keeps its expiry."""
    cdef Arg* f = &c.argv[2]
    cdef u32 expired
    if c.key.entry == NULL:
        hash_make(c, &c.key, 1, False)
    if effects_wanted() and (fraction or c.key.entry.flags & E_FIELDS):
        restate_number(c, v, n, expire_ms)
    expired = hash_set(c, &c.key, f.ptr, f.len, v, n, expire_ms, False) == FIELD_WAS_EXPIRED
    key_modified(c, &c.key)
    fields_expired(c, expired)
    notify(c, N_HASH, b"hincrbyfloat" if fraction else b"hincrby", &c.key)
    c.dirty += 1


cdef i64 number_text(Ctx* c, Entry* e, char* tmp, const char** v, i64* expire_ms) noexcept nogil:
    """The value of field argv[2]: *v and the length, -1: none; and its expiry."""
    cdef u64* cell
    expire_ms[0] = -1
    if e == NULL:
        return -1
    if entry_enc(e) == ENC_LISTPACK:
        return hash_get(e, c.now_ms, c.argv[2].ptr, c.argv[2].len, tmp, v)
    cell = hash_cell(e, c.now_ms, c.argv[2].ptr, c.argv[2].len)
    if cell == NULL:
        return -1
    expire_ms[0] = cell_expire(cell[0])
    return <i64>cell_value(cell, v)


cdef void cmd_hincrby(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e
    cdef char tmp[24]
    cdef const char* v
    cdef i64 by, value = 0, n, expire_ms
    if not parse_i64(c.argv[3].ptr, c.argv[3].len, &by):
        reply_error(c.out, b"ERR value is not an integer or out of range")
        return
    e = hash_to_write(c, &wrong)
    if wrong:
        return
    n = number_text(c, e, tmp, &v, &expire_ms)
    if n >= 0 and not parse_i64(v, n, &value):
        reply_error(c.out, b"ERR hash value is not an integer")
    elif add_overflow(value, by, &value):
        reply_error(c.out, b"ERR increment or decrement would overflow")
    else:
        set_number(c, tmp, write_i64(tmp, value), expire_ms, False)
        reply_int(c.out, value)


cdef void cmd_hincrbyfloat(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e
    cdef char tmp[24]
    cdef char text[LONG_DOUBLE_CHARS]
    cdef const char* v
    cdef i64 n, expire_ms
    cdef size_t size
    cdef long double by, value = 0
    if not parse_long_double(c.argv[3].ptr, c.argv[3].len, &by):
        reply_error(c.out, b"ERR value is not a valid float")
        return
    if isnan(by) or isinf(by):
        reply_error(c.out, b"ERR value is NaN or Infinity")
        return
    e = hash_to_write(c, &wrong)
    if wrong:
        return
    n = number_text(c, e, tmp, &v, &expire_ms)
    if n >= 0 and not parse_long_double(v, n, &value):
        reply_error(c.out, b"ERR hash value is not a float")
        return
    value += by
    if isnan(value) or isinf(value):
        reply_error(c.out, b"ERR increment would produce NaN or Infinity")
        return
    size = write_long_double(text, LONG_DOUBLE_CHARS, value) & 8191      # the mask is for the compiler
    set_number(c, text, size, expire_ms, True)
    reply_bulk(c.out, text, size)


# ---- rows

cdef dict about(str since, str complexity, str summary, str acl):
    return {"since": since, "group": "hash", "complexity": complexity, "summary": summary, "acl": acl}


cdef str N_FIELDS = "O(N), N the fields named"
cdef str N_ALL = "O(N), N the fields of the hash"
cdef str READ = "read hash fast"
cdef str READ_SLOW = "read hash slow"
cdef str WRITE = "write hash fast"

register("hget", 3, "readonly fast", (1, 1, 1), cmd_hget,
         about("2.0.0", "O(1)", "Reads a field of a hash.", READ))
register("hmget", -3, "readonly fast", (1, 1, 1), cmd_hmget,
         about("2.0.0", N_FIELDS, "Reads several fields of a hash.", READ))
register("hlen", 2, "readonly fast", (1, 1, 1), cmd_hlen,
         about("2.0.0", "O(1)", "Counts the fields of a hash.", READ))
register("hstrlen", 3, "readonly fast", (1, 1, 1), cmd_hstrlen,
         about("3.2.0", "O(1)", "Says how many bytes a field's value has.", READ))
register("hexists", 3, "readonly fast", (1, 1, 1), cmd_hexists,
         about("2.0.0", "O(1)", "Says whether a hash has a field.", READ))
register("hgetall", 2, "readonly", (1, 1, 1), cmd_hgetall,
         about("2.0.0", N_ALL, "Reads all fields of a hash with their values.", READ_SLOW))
register("hkeys", 2, "readonly", (1, 1, 1), cmd_hkeys,
         about("2.0.0", N_ALL, "Lists the fields of a hash.", READ_SLOW))
register("hvals", 2, "readonly", (1, 1, 1), cmd_hvals,
         about("2.0.0", N_ALL, "Lists the values in a hash.", READ_SLOW))
register("hset", -4, "write denyoom fast", (1, 1, 1), cmd_hset,
         about("2.0.0", "O(N), N the pairs given", "Sets fields of a hash, made if absent.", WRITE))
register("hmset", -4, "write denyoom fast", (1, 1, 1), cmd_hmset,
         about("2.0.0", "O(N), N the pairs given", "Sets fields of a hash; HSET's old form.", WRITE))
register("hsetnx", 4, "write denyoom fast", (1, 1, 1), cmd_hsetnx,
         about("2.0.0", "O(1)", "Sets a field of a hash unless it is there.", WRITE))
register("hdel", -3, "write fast", (1, 1, 1), cmd_hdel,
         about("2.0.0", N_FIELDS, "Deletes fields of a hash.", WRITE))
register("hgetdel", -5, "write fast", (1, 1, 1), cmd_hgetdel,
         about("9.1.0", N_FIELDS, "Reads fields of a hash and deletes them.", WRITE))
register("hincrby", 4, "write denyoom fast", (1, 1, 1), cmd_hincrby,
         about("2.0.0", "O(1)", "Adds to an integer in a field, zero if absent.", WRITE))
register("hincrbyfloat", 4, "write denyoom fast", (1, 1, 1), cmd_hincrbyfloat,
         about("2.6.0", "O(1)", "Adds to a number with a fraction in a field, zero if absent.", WRITE))
