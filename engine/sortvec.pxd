# What SORT sorts: copies of the elements, and a rank for each. A rank's `key` is a number whose order is that of the
# elements as far as it goes (a score's bits, a text's first eight bytes); only where two keys are equal are the texts
# looked at. The last word is the place at which an element came in, so that the order is total and always the same.
from engine.defs cimport *

cdef enum:
    BY_SCORE = 0               # numbers; equal ones by their element's bytes
    BY_BYTES = 1               # memcmp, then length
    BY_LOCALE = 2              # strcoll: up to the first NUL
    BY_C_LOCALE = 3            # strcoll where that is strcmp

cdef struct Piece:             # memory for texts, given back all at once
    Piece* next

cdef struct Item:
    const char* s              # the element, with a NUL behind it
    const char* k              # the text that it is sorted by; NULL: there is none, which comes first
    u32 n
    u32 kn

cdef struct Rank:
    u64 key
    u64 at                     # of the item

cdef struct SortVec:
    Item* items
    Rank* ranks                # NULL until they are made
    i64 n
    i64 room
    Piece* pieces
    char* pos                  # in the latest piece
    char* end
    int mode
    bint desc

cdef bint vec_init(SortVec* v, i64 room) noexcept nogil        # False: no memory
cdef void vec_free(SortVec* v) noexcept nogil
cdef const char* vec_keep(SortVec* v, const char* s, size_t n) noexcept nogil    # a copy with a NUL; NULL: no memory
cdef bint vec_add(SortVec* v, const char* s, size_t n) noexcept nogil
cdef void vec_reverse(SortVec* v) noexcept nogil
cdef u64 score_key(SortVec* v, double score) noexcept nogil
cdef u64 text_key(SortVec* v, const char* s, size_t n) noexcept nogil
# puts the ranks in order; only those from..to (inclusive) need be right
cdef void vec_sort(SortVec* v, i64 from_, i64 to) noexcept nogil
# a number as SORT takes it, up to the first NUL: False: it is none
cdef bint sort_score(const char* s, size_t n, double* out) noexcept nogil
