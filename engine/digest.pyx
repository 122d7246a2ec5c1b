# slotring: data plane
"""DEBUG DIGEST's fingerprints, the same as Valkey's: SHA-1 over the parts of the data, folded with XOR where their
order must not matter (keys, members, fields) and chained where it does (a list's elements, a stream's entries)."""
from libc.math cimport isinf
from libc.string cimport memcpy, memset, strlen
from engine.defs cimport *
from engine.doubles cimport DOUBLE_CHARS, write_digits
from engine.hashing cimport hash_bytes, key_slot, SLOTS
from engine.lock cimport lock, unlock
from engine.reply cimport write_i64
from engine.store cimport *
from engine.stream cimport stream_pieces

cdef extern from * nogil:
    u32 bswap32 "__builtin_bswap32"(u32)

cdef enum:
    SHA_BYTES = 20
    SHA_BLOCK = 64

cdef struct Digest:
    u8 v[SHA_BYTES]

cdef struct Mixing:                # a value under way
    Digest* d
    int type_


# ---- SHA-1

cdef inline u32 rol(u32 v, int n) noexcept nogil:
    return v << n | v >> (32 - n)


cdef void sha_block(u32* h, const u8* p) noexcept nogil:
    """One block of 64 bytes."""
    cdef u32 w[80]
    cdef u32 a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], t
    cdef int i
    memcpy(w, p, SHA_BLOCK)
    for i in range(16):
        w[i] = bswap32(w[i])
    for i in range(16, 80):
        w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1)
    for i in range(80):
        if i < 20:
            t = ((b & c) | (~b & d)) + <u32>0x5A827999
        elif i < 40:
            t = (b ^ c ^ d) + <u32>0x6ED9EBA1
        elif i < 60:
            t = ((b & c) | (b & d) | (c & d)) + <u32>0x8F1BBCDC
        else:
            t = (b ^ c ^ d) + <u32>0xCA62C1D6
        t += rol(a, 5) + e + w[i]
        e = d
        d = c
        c = rol(b, 30)
        b = a
        a = t
    h[0] += a
    h[1] += b
    h[2] += c
    h[3] += d
    h[4] += e


cdef void sha1(const void* data, size_t n, u8* out) noexcept nogil:
    """SHA-1 of n bytes: 20 at out."""
    cdef u32[5] h
    cdef u8 tail[2 * SHA_BLOCK]
    cdef const u8* p = <const u8*>data
    cdef size_t left = n, end
    cdef u64 bits = bswap64(<u64>n * 8)
    cdef int i
    h[0] = <u32>0x67452301
    h[1] = <u32>0xEFCDAB89
    h[2] = <u32>0x98BADCFE
    h[3] = <u32>0x10325476
    h[4] = <u32>0xC3D2E1F0
    while left >= SHA_BLOCK:
        sha_block(h, p)
        p += SHA_BLOCK
        left -= SHA_BLOCK
    memset(tail, 0, sizeof(tail))
    if left:
        memcpy(tail, p, left)
    tail[left] = 0x80
    end = SHA_BLOCK if left < SHA_BLOCK - 8 else 2 * SHA_BLOCK
    memcpy(tail + end - 8, &bits, 8)
    sha_block(h, tail)
    if end > SHA_BLOCK:
        sha_block(h, tail + SHA_BLOCK)
    for i in range(5):
        h[i] = bswap32(h[i])
    memcpy(out, h, SHA_BYTES)


# ---- folding and chaining

cdef void fold_in(Digest* d, const void* p, size_t n) noexcept nogil:
    """Data whose order does not matter."""
    cdef Digest one
    cdef int i
    sha1(p, n, one.v)
    for i in range(SHA_BYTES):
        d.v[i] ^= one.v[i]


cdef void mix_in(Digest* d, const void* p, size_t n) noexcept nogil:
    """Data whose order matters."""
    fold_in(d, p, n)
    sha1(d.v, SHA_BYTES, d.v)


cdef void mix_number(Digest* d, u32 n) noexcept nogil:
    n = bswap32(n)
    mix_in(d, &n, 4)


cdef size_t score_text(double v, char* text) noexcept nogil:
    """A score's digits, DOUBLE_CHARS at most; large integers are in scientific notation here."""
    cdef const char* word
    if v == 0:
        word = b"-0" if 1.0 / v < 0 else b"0"
    elif isinf(v):
        word = b"inf" if v > 0 else b"-inf"
    else:
        return write_digits(text, v)
    memcpy(text, word, strlen(word))
    return strlen(word)


cdef bint mix_element(void* arg, Element* el) noexcept nogil:
    cdef Mixing* m = <Mixing*>arg
    cdef Digest one
    cdef char text[DOUBLE_CHARS]
    if m.type_ == TYPE_LIST:
        mix_in(m.d, el.s, el.n)
        return True
    if m.type_ == TYPE_SET:
        fold_in(m.d, el.s, el.n)
        return True
    memset(&one, 0, sizeof(Digest))
    mix_in(&one, el.s, el.n)
    if m.type_ == TYPE_HASH:
        mix_in(&one, el.v, el.vn)
    else:
        mix_in(&one, text, score_text(el.score, text))
    fold_in(m.d, one.v, SHA_BYTES)
    return True


cdef void mix_piece(void* arg, const char* p, size_t n) noexcept nogil:
    mix_in(<Digest*>arg, p, n)


cdef void mix_entry(Digest* d, Entry* e) noexcept nogil:
    """An entry's type, value, and whether it has an expiry."""
    cdef Mixing m
    cdef i64 v
    cdef char tmp[24]
    mix_number(d, entry_type(e))
    if entry_type(e) == TYPE_STRING and entry_enc(e) == ENC_INT:
        memcpy(&v, entry_value(e), 8)
        mix_in(d, tmp, write_i64(tmp, v))
    elif entry_type(e) == TYPE_STRING:
        mix_in(d, entry_value(e), entry_vlen(e))
    elif entry_type(e) == TYPE_STREAM:
        stream_pieces(e, mix_piece, d)
    elif type_ops[entry_type(e)].walk != NULL:
        m.d = d
        m.type_ = entry_type(e)
        type_ops[m.type_].walk(e, mix_element, &m)
    if e.flags & E_EXPIRE:
        fold_in(d, b"!!expire!!", 10)


# ---- keys, databases

cdef void mix_table(Digest* whole, Table* t) noexcept nogil:
    """Every key of a table with its value."""
    cdef Digest one
    cdef Bucket* b
    cdef Entry* e
    cdef u32 i, bits
    for i in range(t.nbuckets):
        b = table_bucket_at(t, i)
        while b != NULL:
            bits = b.bits & (0x3F if b.bits & BUCKET_CHAINED else 0x7F)
            while bits:
                e = cell_entry(b.cells[ctz32(bits)])
                bits &= bits - 1
                memset(&one, 0, sizeof(Digest))
                mix_in(&one, entry_key(e), entry_klen(e))
                mix_entry(&one, e)
                fold_in(whole, one.v, SHA_BYTES)
            b = <Bucket*>b.cells[6] if b.bits & BUCKET_CHAINED else NULL


cdef void mix_database(Digest* whole, u32 db) noexcept nogil:
    cdef u32 i, slot
    cdef Partition* p
    for i in range(store.nparts):
        p = &store.parts[i]
        if p.db_keys[db] == 0:
            continue
        lock(&p.lock)
        for slot in range(i << store.part_shift, (i + 1) << store.part_shift):
            if store.dbs[db].slots[slot] != NULL and not slot_hidden(slot):
                mix_table(whole, store.dbs[db].slots[slot])
        unlock(&p.lock)


def dataset() -> bytes:
    """The digest of all databases, each partition as it is when it is read."""
    cdef Digest d
    cdef u32 db
    with nogil:
        memset(&d, 0, sizeof(Digest))
        for db in range(store.ndbs):
            if store_count(db):
                mix_number(&d, db)
                mix_database(&d, db)
    return d.v[:SHA_BYTES]


def of_key(int db, bytes key) -> bytes:
    """The digest of a key's value, expired or not; zeros if it is not there."""
    cdef Digest d
    cdef Key k
    k.ptr = key
    k.len = len(key)
    with nogil:
        k.hash = hash_bytes(k.ptr, k.len)
        k.slot = key_slot(k.ptr, k.len)
        k.db = db
        k.part = part_of(k.slot)
        memset(&d, 0, sizeof(Digest))
        lock(&k.part.lock)
        if table_find(&k) != NULL:
            mix_entry(&d, k.entry)
        unlock(&k.part.lock)
    return d.v[:SHA_BYTES]
