# The hash table inside a value: the members of a set, the fields of a hash, the members of a sorted set.
#
# Linear hashing over the store's 64-byte buckets (seven cells and their hash bytes, chained when full), so that it
# grows and shrinks by a bucket at a time; up to 64 buckets are one block, beyond that `mem` is a directory. A cell is
# 8 bytes:
#   - a member of at most 7 bytes and nothing else to it, kept in the cell: low byte 2 | length << 3, then the bytes;
#   - else a pointer to an Item, with CELL_EXPIRE (bit 0) set where the item has an expiry.
#
# An Item is one block without alignment: u8 flags, u8 key length, u8 value length (with ITEM_BIG: 3 bytes of padding
# and two u32 instead), [8 bytes expiry, ms], [8 bytes score], key, value.
from libc.string cimport memcpy
from engine.defs cimport *
from engine.arena cimport Arena
from engine.store cimport Bucket

cdef enum:
    ITEM_EXPIRE = 1
    ITEM_BIG = 2
    ITEM_SCORE = 4
    CELL_INLINE = 2
    INLINE_MAX = 7

cdef struct Members:               # 24 bytes
    void* mem                      # Bucket*, or Bucket** when nbuckets > 64; NULL while empty
    u32 nbuckets
    u32 count
    u32 cap
    u32 chained

ctypedef void (*member_fn)(void* arg, u64* cell) noexcept nogil   # must not change the table

cdef struct MemberWalk:            # all cells, bucket by bucket; the table must not change meanwhile
    Members* t
    Bucket* b
    u32 index
    u32 bits

# `hash` is always hash_bytes (hashing.pxd) of the member
cdef u64* members_find(Members* t, const char* p, size_t n, u64 hash) noexcept nogil     # the cell, or NULL
# what members_find will read, asked for ahead: the bucket; once that is there, the items of it that may be meant
cdef void members_prefetch_bucket(Members* t, u64 hash) noexcept nogil
cdef void members_prefetch_item(Members* t, u64 hash) noexcept nogil
cdef void members_add(Arena* a, Members* t, u64 cell, u64 hash) noexcept nogil           # that is not there yet
# takes the cell that members_find gave out of the table; its item is the caller's to free (cell_free)
cdef void members_remove(Arena* a, Members* t, u64* cell, u64 hash) noexcept nogil
cdef void members_expect(Arena* a, Members* t, u32 count) noexcept nogil                 # room for so many, when empty
cdef u64* members_random(Members* t, u64 random) noexcept nogil                          # fair enough; NULL when empty
# visits the bucket that covers `position` (32 bits of reversed hash) with its chain; returns the next position,
# 1 << 32 at the end: SCAN's guarantee holds while the table grows and shrinks between two calls
cdef u64 members_scan(Members* t, u64 position, member_fn fn, void* arg) noexcept nogil
cdef void members_walk(Members* t, MemberWalk* w) noexcept nogil
cdef u64* members_walk_next(MemberWalk* w) noexcept nogil                                # NULL at the end
# frees items, at most *budget of them (counted down), then buckets; True when all is gone
cdef bint members_free(Arena* a, Members* t, i64* budget) noexcept nogil
# of buckets and items; 0 samples: look at all
cdef u64 members_bytes(Members* t, i64 samples) noexcept nogil
cdef void members_copy(Arena* to, Members* src, Members* dst) noexcept nogil    # items and all; dst is fresh

# cells and items. expire_ms -1: none. score NULL: none.
cdef u64 cell_new(Arena* a, const char* key, size_t klen, const char* value, size_t vlen,
                  i64 expire_ms, double* score) noexcept nogil
cdef void cell_free(Arena* a, u64 cell) noexcept nogil
cdef size_t cell_bytes(u64 cell) noexcept nogil    # arena bytes; 0 for an inline one


cdef inline void members_init(Members* t) noexcept nogil:
    t.mem = NULL
    t.nbuckets = t.count = t.cap = t.chained = 0


cdef inline bint cell_inline(u64 cell) noexcept nogil:
    return cell & CELL_INLINE


cdef inline u8* cell_item(u64 cell) noexcept nogil:
    return <u8*>(cell & ~<u64>7)


cdef inline size_t cell_key(u64* cell, const char** p) noexcept nogil:
    """The member's bytes: *p and the length. For an inline cell *p points into the cell."""
    cdef u8* i
    if cell[0] & CELL_INLINE:
        p[0] = <char*>cell + 1
        return (cell[0] >> 3) & 7
    i = cell_item(cell[0])
    if unlikely(i[0] & ITEM_BIG):
        p[0] = <char*>i + 12 + ((i[0] & ITEM_EXPIRE) << 3) + ((i[0] & ITEM_SCORE) << 1)
        return (<u32*>(i + 4))[0]
    p[0] = <char*>i + 3 + ((i[0] & ITEM_EXPIRE) << 3) + ((i[0] & ITEM_SCORE) << 1)
    return i[1]


cdef inline size_t cell_value(u64* cell, const char** p) noexcept nogil:
    """The field's value: *p and the length (an inline cell has none: length 0)."""
    cdef size_t n = cell_key(cell, p)
    cdef u8* i
    p[0] += n
    if cell[0] & CELL_INLINE:
        return 0
    i = cell_item(cell[0])
    return (<u32*>(i + 8))[0] if i[0] & ITEM_BIG else i[2]


cdef inline i64 cell_expire(u64 cell) noexcept nogil:
    """When it expires, ms; -1: never."""
    cdef i64 v
    cdef u8* i
    if not (cell & 1) or cell & CELL_INLINE:
        return -1
    i = cell_item(cell)
    memcpy(&v, i + (12 if i[0] & ITEM_BIG else 3), 8)
    return v


cdef inline size_t item_length(u8* i) noexcept nogil:
    """Bytes of an item, head and all."""
    cdef size_t n = ((i[0] & ITEM_EXPIRE) << 3) + ((i[0] & ITEM_SCORE) << 1)
    if unlikely(i[0] & ITEM_BIG):
        return n + 12 + (<u32*>(i + 4))[0] + <size_t>(<u32*>(i + 8))[0]
    return n + 3 + i[1] + i[2]


cdef inline double item_score(u8* i) noexcept nogil:
    cdef double v
    memcpy(&v, i + (12 if i[0] & ITEM_BIG else 3) + ((i[0] & ITEM_EXPIRE) << 3), 8)
    return v


cdef inline void item_set_score(u8* i, double v) noexcept nogil:
    memcpy(i + (12 if i[0] & ITEM_BIG else 3) + ((i[0] & ITEM_EXPIRE) << 3), &v, 8)
