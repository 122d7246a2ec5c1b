# A hash's value. ENC_LISTPACK: a listpack of field, value, field, value. ENC_HASHTABLE: a block with a Hash, whose
# table of members holds the fields; only where E_FIELDS is set does the block have room for the part about expiry.
#
# A field whose time is over is not seen by anything that looks fields up or lists them; it counts in the length until
# it is taken away: by a write to it, or by hash_expire, the active expiry. That looks at a few thousand cells at a
# time, in passes over the table from a cursor that is kept here. A pass finds the time at which the first of the
# fields left will expire (next_due, kept a lower bound afterwards), and the next one does not begin before that, nor,
# where a pass finds few, sooner than a while that grows with the table, so that passes cost a few per cent of a core
# at most.
from engine.defs cimport *
from engine.arena cimport Arena
from engine.command cimport Ctx
from engine.keyspace cimport *
from engine.listpack cimport lp_find, lp_first, lp_len, lp_next, lp_text
from engine.members cimport *

cdef enum:
    FIELD_NEW = 0                  # what hash_set did
    FIELD_UPDATED = 1
    FIELD_WAS_EXPIRED = 2          # as new: what was overwritten had expired

cdef struct Hash:
    Members t                      # 24 bytes; the rest only with E_FIELDS
    i64 next_due                   # no field expires before, ms
    i64 mark                       # during a pass: the first expiry seen; else: no pass is to begin before, ms
    u32 expiring                   # fields with an expiry
    u32 cursor                     # of the pass, as of members_scan; 0: none is under way
    u32 found                      # fields that the pass took away

cdef struct FieldWalk:             # live fields of a hash, which must not change meanwhile
    u8* lp
    u8* p
    i64 now_ms                     # -1: expired ones too
    MemberWalk w
    const char* f                  # the field that field_next stepped to
    size_t fn
    const char* v
    size_t vn
    i64 expire_ms
    char f_tmp[24]
    char v_tmp[24]

cdef u64 expired_fields            # INFO

# under the partition's lock; the entry is k.entry, a hash
# an empty hash, about so many fields to come; table: no listpack in any case
cdef Entry* hash_make(Ctx* c, Key* k, i64 fields, bint table) noexcept nogil
cdef int hash_set(Ctx* c, Key* k, const char* f, size_t fn, const char* v, size_t vn, i64 expire_ms,
                  bint keep_ttl) noexcept nogil                                  # FIELD_…
cdef bint hash_delete(Ctx* c, Key* k, const char* f, size_t fn, bint even_expired) noexcept nogil
cdef void hash_to_table(Key* k, i64 fields) noexcept nogil
cdef void hash_set_expire(Key* k, u64* cell, i64 when_ms) noexcept nogil          # -1: none
cdef u64 hash_live(Entry* e, i64 now_ms) noexcept nogil                           # fields that have not expired
cdef void fields_walk(Entry* e, i64 now_ms, FieldWalk* w) noexcept nogil
cdef bint field_next(FieldWalk* w) noexcept nogil                                 # False at the end


cdef inline Hash* hash_of(Entry* e) noexcept nogil:
    return <Hash*>value_ptr(e)[0]


cdef inline bint cell_over(u64 cell, i64 now_ms) noexcept nogil:
    """Has the field expired?"""
    return unlikely(cell & 1) and cell_expire(cell) < now_ms


cdef inline u64 hash_length(Entry* e) noexcept nogil:
    """Fields, with those that have expired and are still there."""
    if entry_enc(e) == ENC_LISTPACK:
        return lp_len(<u8*>value_ptr(e)[0]) // 2
    return hash_of(e).t.count


cdef inline u64* hash_cell(Entry* e, i64 now_ms, const char* f, size_t n) noexcept nogil:
    """The live field's cell in a hash of encoding ENC_HASHTABLE, or NULL."""
    cdef u64* cell = members_find(&hash_of(e).t, f, n, hash_bytes(f, n))
    return NULL if cell == NULL or cell_over(cell[0], now_ms) else cell


cdef inline i64 hash_get(Entry* e, i64 now_ms, const char* f, size_t n, char* tmp, const char** v) noexcept nogil:
    """A live field's value: *v and the length, -1: it is not there. tmp: 24 bytes, for integers."""
    cdef u8* lp
    cdef u64* cell
    if entry_enc(e) == ENC_LISTPACK:
        lp = <u8*>value_ptr(e)[0]
        lp = lp_find(lp, lp_first(lp), f, n, 1)
        return -1 if lp == NULL else <i64>lp_text(lp_next(<u8*>value_ptr(e)[0], lp), tmp, v)
    cell = hash_cell(e, now_ms, f, n)
    return -1 if cell == NULL else <i64>cell_value(cell, v)
