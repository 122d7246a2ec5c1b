# slotring: data plane
"""HSCAN and HRANDFIELD."""
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
from engine.defs cimport *
from engine.command cimport Arg, Ctx, arg_is, ctx_random, register
from engine.commands.hashes cimport hash_to_read
from engine.commands.keys cimport ScanArgs, out_append, parse_cursor, scan_args
from engine.glob cimport glob_match
from engine.hash cimport *
from engine.keyspace cimport *
from engine.listpack cimport *
from engine.members cimport *
from engine.numbers cimport parse_i64
from engine.reply cimport *

cdef enum:
    RANDOM_TRIES = 100             # draws that may meet expired fields only, before there is no answer
    SAMPLE_FEW = 3                 # fewer than one field in so many: draw them one by one, else choose from all
    DRAWS_MAX = 1 << 27            # fields in one reply, as often as one may be drawn again

cdef i64 COUNT_MAX = 0x7FFFFFFFFFFFFFFF


# ---- HSCAN

cdef struct Scan:
    OutBuf out
    ScanArgs args
    i64 now_ms
    i64 seen
    i64 replied                    # bulk strings


cdef void scan_field(Scan* s, const char* f, size_t fn, const char* v, size_t vn) noexcept nogil:
    s.seen += 1
    if s.args.pattern != NULL and not glob_match(s.args.pattern, s.args.pattern_len, f, fn, False):
        return
    reply_bulk(&s.out, f, fn)
    s.replied += 1
    if not s.args.bare:
        reply_bulk(&s.out, v, vn)
        s.replied += 1


cdef void scan_visit(void* arg, u64* cell) noexcept nogil:
    cdef Scan* s = <Scan*>arg
    cdef const char* f
    cdef const char* v
    cdef size_t fn = cell_key(cell, &f), vn = cell_value(cell, &v)
    if not cell_over(cell[0], s.now_ms):
        scan_field(s, f, fn, v, vn)


cdef void cmd_hscan(Ctx* c) noexcept nogil:
    cdef Scan s
    cdef FieldWalk w
    cdef Entry* e
    cdef bint wrong
    cdef u64 cursor
    cdef i64 rounds = 0
    cdef char digits[32]
    if not parse_cursor(&c.argv[2], &cursor):
        reply_error(c.out, b"ERR invalid cursor")
        return
    e = hash_to_read(c, &wrong)
    if wrong:
        return
    if e == NULL:
        reply_raw(c.out, b"*2\r\n$1\r\n0\r\n*0\r\n")
        return
    if not scan_args(c, 3, TYPE_HASH, &s.args):
        return
    out_init(&s.out, c.out.pool)
    s.now_ms = c.now_ms
    s.seen = s.replied = 0
    if entry_enc(e) == ENC_LISTPACK:
        cursor = 0
        fields_walk(e, c.now_ms, &w)
        while field_next(&w):
            scan_field(&s, w.f, w.fn, w.v, w.vn)
    elif cursor >> 32:                     # no cursor of ours
        cursor = 0
    else:
        while True:
            cursor = members_scan(&hash_of(e).t, cursor, scan_visit, &s)
            rounds += 1
            if cursor >> 32:
                cursor = 0
            if cursor == 0 or s.seen >= s.args.count or rounds // 10 >= s.args.count:
                break
    reply_array(c.out, 2)
    reply_bulk(c.out, digits, write_u64(digits, cursor) & 31)    # the mask is for the compiler
    reply_array(c.out, s.replied)
    out_append(c.out, &s.out)


# ---- HRANDFIELD

cdef inline void reply_pair(Ctx* c, const char* f, size_t fn, const char* v, size_t vn, bint values) noexcept nogil:
    if values and c.resp > 2:
        reply_array(c.out, 2)
    reply_bulk(c.out, f, fn)
    if values:
        reply_bulk(c.out, v, vn)


cdef void reply_cell(Ctx* c, u64* cell, bint values) noexcept nogil:
    cdef const char* f
    cdef const char* v
    cdef size_t fn = cell_key(cell, &f), vn = cell_value(cell, &v)
    reply_pair(c, f, fn, v, vn, values)


cdef void reply_place(Ctx* c, u8* lp, u8* p, bint values) noexcept nogil:
    """The field at p of a listpack."""
    cdef char f_tmp[24]
    cdef char v_tmp[24]
    cdef const char* f
    cdef const char* v
    cdef size_t fn = lp_text(p, f_tmp, &f)
    cdef size_t vn = lp_text(lp_next(lp, p), v_tmp, &v)
    reply_pair(c, f, fn, v, vn, values)


cdef inline u64 random_below(Ctx* c, u64 n) noexcept nogil:
    return <u64>((<u128>ctx_random(c) * n) >> 64)


cdef u64* random_cell(Ctx* c, Entry* e) noexcept nogil:
    """A live field of a table, NULL: none was met."""
    cdef u64* cell
    cdef int tries
    for tries in range(RANDOM_TRIES):
        cell = members_random(&hash_of(e).t, ctx_random(c))
        if cell == NULL or not cell_over(cell[0], c.now_ms):
            return cell
    return NULL


cdef void* places_of(Ctx* c, Entry* e, u64* n) noexcept nogil:
    """All live fields: an array of n cells' addresses, or of places in the listpack; the caller frees it."""
    cdef u8* lp
    cdef u8* p
    cdef u64* cell
    cdef void** places = <void**>malloc((hash_length(e) + 1) * sizeof(void*))
    cdef MemberWalk w
    n[0] = 0
    if places == NULL:
        return NULL
    if entry_enc(e) == ENC_LISTPACK:
        lp = <u8*>value_ptr(e)[0]
        p = lp_first(lp)
        while p != NULL:
            places[n[0]] = p
            n[0] += 1
            p = lp_next(lp, lp_next(lp, p))
        return places
    members_walk(&hash_of(e).t, &w)
    cell = members_walk_next(&w)
    while cell != NULL:
        if not cell_over(cell[0], c.now_ms):
            places[n[0]] = cell
            n[0] += 1
        cell = members_walk_next(&w)
    return places


cdef void reply_some(Ctx* c, Entry* e, void* place, bint values) noexcept nogil:
    if entry_enc(e) == ENC_LISTPACK:
        reply_place(c, <u8*>value_ptr(e)[0], <u8*>place, values)
    else:
        reply_cell(c, <u64*>place, values)


cdef void reply_count(Ctx* c, u64 n, bint values) noexcept nogil:
    reply_array(c.out, <i64>(n * 2 if values and c.resp == 2 else n))


cdef void random_again(Ctx* c, Entry* e, u64 count, bint values) noexcept nogil:
    """count fields, each drawn from all."""
    cdef u64 n, i
    cdef void** places
    if entry_enc(e) == ENC_HASHTABLE and not e.flags & E_FIELDS:
        reply_count(c, count, values)
        for i in range(count):
            reply_cell(c, random_cell(c, e), values)
        return
    places = <void**>places_of(c, e, &n)
    if places == NULL or n == 0:
        reply_array(c.out, 0)
    else:
        reply_count(c, count, values)
        for i in range(count):
            reply_some(c, e, places[random_below(c, n)], values)
    free(places)


cdef void random_from_all(Ctx* c, Entry* e, u64 count, bint values) noexcept nogil:
    """count different fields, or all there are in their order, from an array of all of them."""
    cdef u64 n, i, left
    cdef void** places = <void**>places_of(c, e, &n)
    if places == NULL:
        reply_array(c.out, 0)
        return
    if count > n:
        count = n
    reply_count(c, count, values)
    left = count
    for i in range(n):             # each field stays with the chance that the count needs
        if left == 0:
            break
        if random_below(c, n - i) < left:
            left -= 1
            reply_some(c, e, places[i], values)
    free(places)


cdef bint random_few(Ctx* c, Entry* e, u64 count, bint values) noexcept nogil:
    """count different fields of a table where many more are live, drawn one by one; False: no memory."""
    cdef u64 room = 4, at, i, tries = 0
    cdef u64* cell
    cdef void** seen
    while room < 2 * count:
        room *= 2
    seen = <void**>calloc(room, sizeof(void*))
    if seen == NULL:
        return False
    reply_count(c, count, values)
    while count:
        cell = members_random(&hash_of(e).t, ctx_random(c))
        at = (<u64>cell >> 3) * <u64>0x9E3779B97F4A7C15
        at = (at >> 32) & (room - 1)
        while seen[at] != NULL and seen[at] != cell:
            at = (at + 1) & (room - 1)
        if seen[at] == NULL:
            seen[at] = cell
            count -= 1
            reply_cell(c, cell, values)
    free(seen)
    return True


cdef void random_fields(Ctx* c, i64 count, bint values) noexcept nogil:
    """HRANDFIELD with a count."""
    cdef bint wrong
    cdef Entry* e = hash_to_read(c, &wrong)
    if wrong:
        return
    if e == NULL or count == 0:
        reply_array(c.out, 0)
    elif count < 0:
        if -count > DRAWS_MAX:     # it would take more memory than there is
            reply_error(c.out, b"ERR value is out of range")
        else:
            random_again(c, e, <u64>-count, values)
    elif entry_enc(e) == ENC_HASHTABLE and not e.flags & E_FIELDS and <u64>count < hash_length(e) // SAMPLE_FEW:
        if not random_few(c, e, count, values):
            reply_array(c.out, 0)
    else:
        random_from_all(c, e, count, values)


cdef void cmd_hrandfield(Ctx* c) noexcept nogil:
    cdef bint wrong
    cdef Entry* e
    cdef u8* lp
    cdef u64* cell
    cdef i64 count
    if c.argc > 2:
        if not parse_i64(c.argv[2].ptr, c.argv[2].len, &count):
            reply_error(c.out, b"ERR value is not an integer or out of range")
        elif count < -COUNT_MAX:
            reply_error(c.out, b"ERR value is out of range, value must between "
                        b"-9223372036854775807 and 9223372036854775807")
        elif c.argc > 4 or (c.argc == 4 and not arg_is(&c.argv[3], b"withvalues", 10)):
            reply_error(c.out, b"ERR syntax error")
        elif c.argc == 4 and (count < -COUNT_MAX // 2 or count > COUNT_MAX // 2):
            reply_error(c.out, b"ERR value is out of range")
        else:
            random_fields(c, count, c.argc == 4)
        return
    e = hash_to_read(c, &wrong)
    if wrong:
        return
    if e != NULL and entry_enc(e) == ENC_LISTPACK:
        lp = <u8*>value_ptr(e)[0]
        reply_place(c, lp, lp_seek(lp, 2 * <i64>random_below(c, hash_length(e))), False)
        return
    cell = NULL if e == NULL else random_cell(c, e)
    if cell == NULL:
        reply_null(c.out, c.resp)
    else:
        reply_cell(c, cell, False)


register("hscan", -3, "readonly", (1, 1, 1), cmd_hscan,
         {"since": "2.8.0", "group": "hash", "complexity": "O(1) a call, O(N) for all N fields",
          "summary": "Goes through the fields of a hash a few at a time.", "acl": "read hash slow"})
register("hrandfield", -2, "readonly", (1, 1, 1), cmd_hrandfield,
         {"since": "6.2.0", "group": "hash", "complexity": "O(N), N the fields replied",
          "summary": "Picks one or more fields of a hash.", "acl": "read hash slow"})
