# Lists: one listpack while small (ENC_LISTPACK), then a chain of nodes (ENC_QUICKLIST), each a listpack or, for one
# large element, its plain bytes. When a list becomes the one or the other is Valkey's rule (list-max-listpack-size).
#
# A node's listpack begins `skip` bytes into its block: room in front, so that pushing and popping at the front move the
# 6 bytes of the header and not the whole node. Any other change first closes that gap. Nodes farther than
# list-compress-depth from both ends are kept as LZF (N_LZF) and opened while they are looked at.
#
# Commands work on a List: a handle that makes both encodings look like a chain of nodes. list_open, work, list_close.
from engine.defs cimport *
from engine.arena cimport Arena
from engine.listpack cimport LpValue
from engine.store cimport Entry

cdef enum:
    N_PACKED = 0
    N_PLAIN = 1
    N_LZF = 2                      # added to N_PACKED

cdef struct Node:                  # 40 bytes
    Node* next
    Node* prev
    u8* block
    u32 skip                       # bytes before the listpack in the block; N_LZF: bytes of the compressed form
    u32 count                      # elements
    u32 size                       # bytes of the listpack, or of the plain element; true also while compressed
    u32 kind

cdef struct Quicklist:             # 32 bytes
    Node* head
    Node* tail
    u64 count                      # elements
    u64 nodes

cdef struct List:                  # an open list
    Arena* a
    Entry* e
    Quicklist* ql                  # the list's own, or &one
    Quicklist one                  # stands for a listpack
    Node only

cdef struct Spot:                  # an element of an open list
    Node* node                     # NULL: beyond the end
    u8* p                          # in a listpack; NULL: the plain element

# the value of a fresh list: an empty listpack with room for elements of so many bytes (lp_entry_bytes)
cdef u8* list_new(Arena* a, size_t room) noexcept nogil
cdef void list_open(List* l, Arena* a, Entry* e) noexcept nogil
cdef void list_close(List* l) noexcept nogil
# before adding elements: becomes a chain if the listpack would outgrow its limit
cdef void list_will_grow(List* l, size_t more_bytes, u64 more) noexcept nogil
cdef void list_shrunk(List* l, bint half) noexcept nogil       # after deletions (half) or loading: a listpack again?
cdef void list_push(List* l, const char* s, size_t n, bint front) noexcept nogil
cdef void list_end(List* l, Spot* s, bint front) noexcept nogil
cdef void list_seek(List* l, i64 index, Spot* s) noexcept nogil
cdef void list_step(List* l, Spot* s, bint forward) noexcept nogil
cdef void list_leave(List* l, Spot* s) noexcept nogil          # done looking here: compress the node again if it was
cdef void list_get(Spot* s, LpValue* v) noexcept nogil
cdef bint list_equals(Spot* s, const char* p, size_t n) noexcept nogil
# *s goes to the element that follows in that direction
cdef void list_delete(List* l, Spot* s, bint forward) noexcept nogil
cdef void list_delete_range(List* l, u64 start, u64 n) noexcept nogil
cdef void list_insert(List* l, Spot* s, const char* p, size_t n, bint after) noexcept nogil
cdef void list_replace(List* l, Spot* s, const char* p, size_t n) noexcept nogil


cdef inline u64 list_len(List* l) noexcept nogil:
    return l.ql.count
