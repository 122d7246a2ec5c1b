# slotring: data plane
"""Commands of HyperLogLogs, whose values are strings (see hll.pxd)."""
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset
from engine.defs cimport *
from engine.store cimport *
from engine.arena cimport arena_usable
from engine.command cimport Arg, Ctx, arg_is, register
from engine.conf cimport conf
from engine.events cimport *
from engine.hll cimport *
from engine.keyspace cimport *
from engine.reply cimport *

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

cdef enum:
    GROW_MAX = 300                 # room made for opcodes to come
    DECODED_OP_MAX = 8             # characters: "Z:16384 "
    TEST_ROUNDS = 100
    TEST_ELEMENTS = 1000000

cdef bint simd_asked = True        # PFDEBUG SIMD: it changes nothing here


# ---- the value in its entry

cdef bint is_hll(Ctx* c, Entry* e) noexcept nogil:
    """False: an error was replied."""
    cdef const u8* h
    if wrong_type(c, e, TYPE_STRING):
        return False
    h = <const u8*>entry_value(e)
    if (entry_enc(e) == ENC_INT or entry_vlen(e) < HLL_HEAD or memcmp(h, b"HYLL", 4) != 0 or h[4] > HLL_SPARSE
            or (h[4] == HLL_DENSE and entry_vlen(e) != HLL_DENSE_BYTES)):
        reply_error(c.out, b"WRONGTYPE Key is not a valid HyperLogLog string value.")
        return False
    return True


cdef void error_corrupt(Ctx* c) noexcept nogil:
    reply_error(c.out, b"INVALIDOBJ Corrupted HLL object detected")


cdef inline u8* hll_of(Key* k) noexcept nogil:
    return <u8*>entry_value(k.entry)


cdef inline size_t room_of(Entry* e) noexcept nogil:
    """Bytes that the value may take in its block."""
    cdef size_t n = arena_usable(e) - (entry_value(e) - <char*>e)
    return n if e.flags & E_BIG or n < 65535 else 65535


cdef void set_len(Entry* e, size_t n) noexcept nogil:
    if e.flags & E_BIG:
        (<u32*>(<char*>e + 8))[1] = <u32>n
    else:
        e.vlen = <u16>n


cdef u8* hll_resize(Ctx* c, Key* k, size_t n, size_t spare) noexcept nogil:
    """Make the value n bytes long, what is there kept, with room for `spare` more; or make the key."""
    cdef Entry* e = k.entry
    cdef Entry* fresh
    cdef u32 clock = e.head >> 8 if e != NULL else 0
    cdef bint expires = e != NULL and e.flags & E_EXPIRE
    fresh = entry_new(k.part, k.ptr, k.len, n + spare, TYPE_STRING, expires)
    set_len(fresh, n)
    if e != NULL:
        memcpy(entry_value(fresh), entry_value(e), entry_vlen(e) if entry_vlen(e) < n else n)
    if expires:
        entry_expire_at(fresh)[0] = entry_expire(e)
    key_put(c, k, fresh)
    if e != NULL:
        fresh.head = (fresh.head & 0xFF) | clock << 8
    else:
        table_find(k)              # so that it can be put again
    return <u8*>entry_value(fresh)


cdef void hll_create(Ctx* c, Key* k) noexcept nogil:
    hll_start(hll_resize(c, k, HLL_EMPTY_BYTES, 0))


cdef bint make_dense(Ctx* c, Key* k) noexcept nogil:
    """False: it is corrupt."""
    cdef u8 dense[HLL_DENSE_BYTES]
    if hll_of(k)[4] == HLL_DENSE:
        return True
    if not hll_to_dense(hll_of(k), entry_vlen(k.entry), dense):
        return False
    memcpy(hll_resize(c, k, HLL_DENSE_BYTES, 0), dense, HLL_DENSE_BYTES)
    return True


cdef int hll_set(Ctx* c, Key* k, u32 index, int value, HllPlace* place) noexcept nogil:
    """Raise a register: ADD_SAME, ADD_CHANGED or ADD_CORRUPT."""
    cdef size_t n, spare
    cdef int done
    while hll_of(k)[4] == HLL_SPARSE:
        n = entry_vlen(k.entry)
        done = hll_sparse_set(hll_of(k), &n, room_of(k.entry), <size_t>conf.hll_sparse_max_bytes, index, value,
                              place)
        set_len(k.entry, n)
        if done == ADD_NEEDS_ROOM:
            spare = n if n < GROW_MAX else GROW_MAX
            hll_resize(c, k, n, spare if spare > 3 else 3)
        elif done == ADD_TO_DENSE:
            if not make_dense(c, k):
                return ADD_CORRUPT
        else:
            return done
    return hll_dense_set(hll_of(k), index, value)


# ---- commands

cdef void cmd_pfadd(Ctx* c) noexcept nogil:
    cdef Entry* e = lookup_write(c, &c.key)
    cdef i64 changes = 0, i
    cdef u32 index
    cdef int value, done
    cdef HllPlace place
    if e == NULL:
        hll_create(c, &c.key)
        changes = 1
    elif not is_hll(c, e):
        return
    entry_set_enc(c.key.entry, ENC_RAW)
    for i in range(2, c.argc):
        value = hll_hash(c.argv[i].ptr, c.argv[i].len, &index)
        hll_place_start(&place)
        done = hll_set(c, &c.key, index, value, &place)
        if done == ADD_CORRUPT:
            error_corrupt(c)
            return
        changes += done
    if changes:
        hll_forget(hll_of(&c.key))
        key_changed(c, &c.key, N_STRING, b"pfadd")
        c.dirty += changes
    reply_int(c.out, changes != 0)


cdef bint merge_keys(Ctx* c, u8* registers, bint* dense) noexcept nogil:
    """The largest of each register over all keys named; False: an error was replied."""
    cdef i64 i
    cdef Key k
    cdef Entry* e
    memset(registers, 0, HLL_REGISTERS)
    for i in range(1, c.argc):
        key_init(c, &k, &c.argv[i])
        e = lookup_read(c, &k)
        if e == NULL:
            continue
        if not is_hll(c, e):
            return False
        dense[0] = dense[0] or hll_of(&k)[4] == HLL_DENSE
        if not hll_merge(registers, hll_of(&k), entry_vlen(e)):
            error_corrupt(c)
            return False
    return True


cdef void cmd_pfcount(Ctx* c) noexcept nogil:
    cdef u8 registers[HLL_REGISTERS]
    cdef Entry* e
    cdef u8* h
    cdef u64 n
    cdef bint dense = False
    if c.argc > 2:
        if merge_keys(c, registers, &dense):
            reply_int(c.out, <i64>hll_estimate(registers))
        return
    e = lookup_read(c, &c.key)
    if e == NULL:
        reply_int(c.out, 0)
        return
    if not is_hll(c, e):
        return
    entry_set_enc(e, ENC_RAW)
    h = <u8*>entry_value(e)
    memcpy(&n, h + 8, 8)
    if h[15] & 0x80:
        if not hll_unpack(registers, h, entry_vlen(e)):
            error_corrupt(c)
            return
        n = hll_estimate(registers)
        memcpy(h + 8, &n, 8)
        key_modified(c, &c.key)
        c.dirty += 1
    reply_int(c.out, <i64>n)


cdef void cmd_pfmerge(Ctx* c) noexcept nogil:
    cdef u8 registers[HLL_REGISTERS]
    cdef bint dense = False
    cdef HllPlace place
    cdef u64 eight
    cdef u32 i, byte
    if not merge_keys(c, registers, &dense):
        return
    if lookup_write(c, &c.key) == NULL:
        hll_create(c, &c.key)
    entry_set_enc(c.key.entry, ENC_RAW)
    if dense:
        if hll_of(&c.key)[4] != HLL_DENSE:
            hll_resize(c, &c.key, HLL_DENSE_BYTES, 0)[4] = HLL_DENSE
        hll_pack(hll_of(&c.key), registers)
    else:
        hll_place_start(&place)
        for i in range(0, HLL_REGISTERS, 8):
            memcpy(&eight, registers + i, 8)
            while eight:
                byte = ctz64(eight) >> 3
                eight &= ~(<u64>0xFF << 8 * byte)
                hll_set(c, &c.key, i + byte, registers[i + byte], &place)
    hll_forget(hll_of(&c.key))
    key_changed(c, &c.key, N_STRING, b"pfadd")
    c.dirty += 1
    reply_ok(c.out)


# ---- PFDEBUG, PFSELFTEST

cdef void debug_registers(Ctx* c) noexcept nogil:
    """PFDEBUG GETREG: makes it dense, too."""
    cdef u8 registers[HLL_REGISTERS]
    cdef u32 i
    if hll_of(&c.key)[4] == HLL_SPARSE:
        if not make_dense(c, &c.key):
            error_corrupt(c)
            return
        c.dirty += 1
    hll_unpack(registers, hll_of(&c.key), HLL_DENSE_BYTES)
    reply_array(c.out, HLL_REGISTERS)
    for i in range(HLL_REGISTERS):
        reply_int(c.out, registers[i])


cdef void debug_decode(Ctx* c) noexcept nogil:
    """PFDEBUG DECODE: the opcodes as text."""
    cdef const u8* p = hll_of(&c.key)
    cdef const u8* end = p + entry_vlen(c.key.entry)
    cdef char* text
    cdef size_t n = 0
    if p[4] != HLL_SPARSE:
        reply_error(c.out, b"ERR HLL encoding is not sparse")
        return
    text = <char*>malloc((end - p) * DECODED_OP_MAX)
    p += HLL_HEAD
    while p < end and text != NULL:
        if p[0] < 0x40:
            n += snprintf(text + n, 16, b"z:%d ", p[0] + 1)
        elif p[0] >= 0x80:
            n += snprintf(text + n, 16, b"v:%d,%d ", ((p[0] >> 2) & 31) + 1, (p[0] & 3) + 1)
        elif end - p > 1:
            n += snprintf(text + n, 16, b"Z:%d ", ((p[0] & 63) << 8 | p[1]) + 1)
            p += 1
        p += 1
    reply_bulk(c.out, text, n - 1 if n else 0)
    free(text)


cdef void debug_to_dense(Ctx* c) noexcept nogil:
    if hll_of(&c.key)[4] == HLL_DENSE:
        reply_int(c.out, 0)
    elif make_dense(c, &c.key):
        c.dirty += 1
        reply_int(c.out, 1)
    else:
        error_corrupt(c)


cdef void debug_simd(Ctx* c) noexcept nogil:
    global simd_asked
    if arg_is(&c.argv[2], b"on", 2):
        simd_asked = True
    elif arg_is(&c.argv[2], b"off", 3):
        simd_asked = False
    else:
        reply_error(c.out, b"ERR Argument must be ON or OFF")
        return
    reply_status(c.out, b"enabled" if simd_asked else b"disabled")


cdef void cmd_pfdebug(Ctx* c) noexcept nogil:
    cdef Arg* what = &c.argv[1]
    cdef Entry* e
    cdef char text[192]
    if arg_is(what, b"simd", 4):
        debug_simd(c)
        return
    e = lookup_write(c, &c.key)
    if e == NULL:
        reply_error(c.out, b"ERR The specified key does not exist")
        return
    if not is_hll(c, e):
        return
    entry_set_enc(e, ENC_RAW)
    if arg_is(what, b"getreg", 6):
        debug_registers(c)
    elif arg_is(what, b"decode", 6):
        debug_decode(c)
    elif arg_is(what, b"encoding", 8):
        reply_status(c.out, b"sparse" if hll_of(&c.key)[4] == HLL_SPARSE else b"dense")
    elif arg_is(what, b"todense", 7):
        debug_to_dense(c)
    else:
        reply_error_len(c.out, text, snprintf(text, 192, b"ERR Unknown PFDEBUG subcommand '%.*s'",
                                              <int>(what.len if what.len < 128 else 128), what.ptr))


cdef const char* test_registers(u8* dense, u8* expected, u8* found, u64 random) noexcept nogil:
    """Do registers keep what they are given? NULL: yes."""
    cdef u32 round_, i
    for round_ in range(TEST_ROUNDS):
        memset(dense, 0, HLL_DENSE_BYTES)
        for i in range(HLL_REGISTERS):
            random ^= random << 13
            random ^= random >> 7
            random ^= random << 17
            expected[i] = random & 63
            hll_dense_set(dense, i, expected[i])
        hll_unpack(found, dense, HLL_DENSE_BYTES)
        if memcmp(found, expected, HLL_REGISTERS) != 0:
            return b"ERR TESTFAILED Registers do not keep their values"
    return NULL


cdef const char* test_counting(u8* dense, u8* sparse, u8* registers, u64 random) noexcept nogil:
    """Are estimates within six standard errors, and the same from both encodings? NULL: yes."""
    cdef u64 i, element, checkpoint = 1, found, most
    cdef size_t n = HLL_EMPTY_BYTES
    cdef HllPlace place
    cdef u32 index
    cdef int value
    memset(dense, 0, HLL_DENSE_BYTES)
    hll_start(sparse)
    for i in range(1, TEST_ELEMENTS + 1):
        element = i ^ random
        value = hll_hash(<const char*>&element, 8, &index)
        hll_dense_set(dense, index, value)
        hll_place_start(&place)
        if sparse[4] == HLL_SPARSE and hll_sparse_set(sparse, &n, HLL_DENSE_BYTES, 3000, index, value, &place) < 0:
            sparse[4] = 255            # it has done its part
        if i != checkpoint:
            continue
        checkpoint *= 10
        hll_unpack(registers, dense, HLL_DENSE_BYTES)
        found = hll_estimate(registers)
        most = 1 if i == 10 else <u64>(1.04 / 128 * 6 * i) + 1
        if (found - i if found > i else i - found) > most:
            return b"ERR TESTFAILED Too big error"
        if sparse[4] == HLL_SPARSE:
            if not hll_unpack(registers, sparse, n) or hll_estimate(registers) != found:
                return b"ERR TESTFAILED dense/sparse disagree"
        elif i <= 1000:
            return b"ERR TESTFAILED sparse encoding not used"
    return NULL


cdef void cmd_pfselftest(Ctx* c) noexcept nogil:
    cdef u8* room = <u8*>malloc(2 * (HLL_DENSE_BYTES + HLL_REGISTERS))
    cdef u8* registers = room + 2 * HLL_DENSE_BYTES
    cdef const char* text = b"ERR out of memory"
    if room != NULL:
        text = test_registers(room, registers, registers + HLL_REGISTERS, c.random | 1)
        if text == NULL:
            text = test_counting(room, room + HLL_DENSE_BYTES, registers, c.random)
    free(room)
    if text == NULL:
        reply_ok(c.out)
    else:
        reply_error(c.out, text)


def about(summary, acl, complexity, **more):
    """What COMMAND DOCS and ACL say of a row of this family."""
    return {"since": "2.8.9", "group": "hyperloglog", "complexity": complexity, "summary": summary, "acl": acl, **more}


register("pfadd", -2, "write denyoom fast", (1, 1, 1), cmd_pfadd, about(
    "Adds elements to a HyperLogLog.", "hyperloglog write fast", "O(1) an element", key_flags=["RW insert"]))
register("pfcount", -2, "readonly may_replicate", (1, -1, 1), cmd_pfcount, about(
    "Estimates how many different elements were added to one or more HyperLogLogs.", "hyperloglog read slow",
    "O(1) for one key, whose last estimate is kept; O(N) for N keys", key_flags=["RW access"]))
register("pfmerge", -2, "write denyoom", (1, -1, 1), cmd_pfmerge, about(
    "Merges HyperLogLogs into the first one.", "hyperloglog write slow", "O(N), N HyperLogLogs",
    key_flags=["RW access insert", "RO access"]))
register("pfdebug", 3, "write denyoom admin", (2, 2, 1), cmd_pfdebug, about(
    "Looks inside a HyperLogLog.", "hyperloglog admin write slow dangerous", "N/A", key_flags=["RW access"],
    doc_flags="syscmd"))
register("pfselftest", 1, "admin lock=none", (0, 0, 0), cmd_pfselftest, about(
    "Tests the arithmetic of HyperLogLogs.", "hyperloglog admin slow dangerous", "N/A", doc_flags="syscmd"))
