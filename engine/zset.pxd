# A sorted set's storage. Small: a listpack of member, score, member, score … in order, scores as integers where
# they are whole, else as text. Large (ENC_SKIPLIST to OBJECT ENCODING): a Zset block with a table of members, whose
# items carry their score, and the rank tree that orders the same items. A set becomes large when it outgrows
# zset-max-listpack-entries or -value, and small again only where a command builds it anew.
#
# Code works on a Z, a handle; what changes a set may move its value, and `z_keep` writes the address back to the entry.
from engine.defs cimport *
from engine.arena cimport Arena
from engine.listpack cimport lp_len
from engine.members cimport Members
from engine.ranktree cimport *
from engine.store cimport (ENC_LISTPACK, ENC_SKIPLIST, Entry, Key, entry_enc, entry_set_enc, value_ptr)

cdef enum:
    ZIN_INCR = 1
    ZIN_NX = 2
    ZIN_XX = 4
    ZIN_GT = 8
    ZIN_LT = 16

    ZOUT_NOP = 1
    ZOUT_NAN = 2
    ZOUT_ADDED = 4
    ZOUT_UPDATED = 8

cdef struct Zset:
    Members members
    RankTree tree

cdef struct Z:
    Arena* a
    void* v                        # a listpack or a Zset
    int enc

cdef struct ZItem:                 # good until the set changes, or the walk goes on
    const char* s
    size_t n
    double score

cdef struct ZWalk:
    u8* lp                         # NULL: the tree
    u8* p                          # the next member in the listpack
    Place at
    bint back
    char tmp[24]

cdef void z_new(Z* z, Arena* a, u64 entries, size_t longest) noexcept nogil   # hints that choose the encoding
cdef void z_free(Z* z) noexcept nogil
cdef void z_expect(Z* z, u64 entries, size_t longest) noexcept nogil          # becomes large where the hints say so
cdef bint z_score(Z* z, const char* p, size_t n, double* score) noexcept nogil
cdef i64 z_rank(Z* z, const char* p, size_t n, double* score) noexcept nogil  # -1: not there
# ranks of the first pair that is not before `low`, and of the first one behind it that is not before `high`
cdef void z_range(Z* z, Bound* low, Bound* high, u64* start, u64* end) noexcept nogil
cdef u32 z_add(Z* z, double score, const char* p, size_t n, u32 flags, double* now) noexcept nogil   # ZOUT_…
cdef void z_put(Z* z, double score, const char* p, size_t n) noexcept nogil   # a member that is not there
cdef bint z_remove(Z* z, const char* p, size_t n) noexcept nogil
cdef void z_remove_ranks(Z* z, u64 start, u64 n) noexcept nogil
cdef void z_walk(Z* z, ZWalk* w, u64 rank, bint back) noexcept nogil
cdef bint z_next(ZWalk* w, ZItem* item) noexcept nogil                        # False: the end
cdef bint z_random(Z* z, u64 random, ZItem* item, char* tmp) noexcept nogil   # tmp: 24 bytes
# A Zset's table is filled (cells with scores), its tree is empty: sorts and fills the tree, or, if `small` and the
# limits allow, makes a listpack of it.
cdef void z_finish(Z* z, bint small) noexcept nogil


cdef inline void z_of(Z* z, Key* k, Entry* e) noexcept nogil:
    z.a = &k.part.arena
    z.v = value_ptr(e)[0]
    z.enc = entry_enc(e)


cdef inline void z_keep(Z* z, Entry* e) noexcept nogil:
    """The value may have moved or changed its encoding: tell the entry."""
    value_ptr(e)[0] = z.v
    entry_set_enc(e, z.enc)


cdef inline u64 z_len(Z* z) noexcept nogil:
    if z.enc == ENC_LISTPACK:
        return lp_len(<u8*>z.v) >> 1
    return (<Zset*>z.v).members.count
