# A set's value in its three encodings: an intset, a listpack, or a table of members (a block that is a Members).
#
# Whoever works on one takes it out of its entry into a SetRef, and puts it back after a change (its block may have
# moved): set_ref, set_add, set_put_back. A SetRef may also stand for a set that is no key's yet. Elements are shown as
# LpValue: a string, or (s NULL) an integer.
from engine.defs cimport *
from engine.arena cimport Arena
from engine.intset cimport is_len
from engine.listpack cimport LpValue, lp_len
from engine.members cimport Members, MemberWalk
from engine.reply cimport OutBuf, reply_bulk, write_i64
from engine.store cimport Entry, Partition, ENC_INTSET, ENC_LISTPACK, entry_enc, entry_set_enc, value_ptr

cdef struct SetRef:
    Arena* arena
    void* value
    int enc                        # ENC_INTSET, ENC_LISTPACK or ENC_HASHTABLE

cdef struct SetWalk:               # all elements; the set must not change meanwhile
    int enc
    u8* p                          # of a listpack: the next element
    u32 index                      # of an intset
    MemberWalk w

cdef void set_new(SetRef* r, Arena* a, int enc) noexcept nogil
cdef void set_new_for(SetRef* r, Arena* a, const char* s, size_t n, u64 expect) noexcept nogil
cdef void set_free(SetRef* r) noexcept nogil
cdef void set_expect(SetRef* r, u64 more) noexcept nogil
cdef void set_convert(SetRef* r, int enc, u64 expect) noexcept nogil
cdef void set_to_intset(SetRef* r) noexcept nogil                  # if it may be one; all its elements are integers
cdef void set_shrink(SetRef* r) noexcept nogil                     # gives back what a listpack was given in advance
cdef bint set_has(SetRef* r, const char* s, size_t n) noexcept nogil
cdef bint set_has_value(SetRef* r, LpValue* v) noexcept nogil
cdef bint set_add(SetRef* r, const char* s, size_t n) noexcept nogil        # False: it was there
cdef bint set_add_value(SetRef* r, LpValue* v) noexcept nogil
cdef bint set_remove(SetRef* r, const char* s, size_t n) noexcept nogil     # False: it was not there
cdef bint set_remove_value(SetRef* r, LpValue* v) noexcept nogil
cdef void set_walk(SetRef* r, SetWalk* w) noexcept nogil
cdef bint set_next(SetWalk* w, LpValue* v) noexcept nogil          # False: that was all


cdef inline void set_ref(SetRef* r, Partition* p, Entry* e) noexcept nogil:
    """The value of an entry."""
    r.arena = &p.arena
    r.value = value_ptr(e)[0]
    r.enc = entry_enc(e)


cdef inline void set_put_back(SetRef* r, Entry* e) noexcept nogil:
    value_ptr(e)[0] = r.value
    entry_set_enc(e, r.enc)


cdef inline u64 set_size(SetRef* r) noexcept nogil:
    """Elements."""
    if r.enc == ENC_INTSET:
        return is_len(<u8*>r.value)
    if r.enc == ENC_LISTPACK:
        return lp_len(<u8*>r.value)
    return (<Members*>r.value).count


cdef inline void reply_number(OutBuf* o, i64 v) noexcept nogil:
    """An integer as a bulk string."""
    cdef char tmp[24]
    reply_bulk(o, tmp, write_i64(tmp, v) & 31)     # the mask is for the compiler


cdef inline void reply_value(OutBuf* o, LpValue* v) noexcept nogil:
    """An element as a bulk string."""
    if v.s != NULL:
        reply_bulk(o, v.s, v.n)
    else:
        reply_number(o, v.v)
