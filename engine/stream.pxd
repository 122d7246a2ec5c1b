# Streams: nodes of entries in an ordered map by the id of their first one, figures, and consumer groups.
#
# A node is a listpack, byte for byte as in Valkey, so that DUMP and RDB copy it. It begins with a master entry
#     live entries, deleted entries, number of fields, field …, 0
# and goes on with entries, each
#     flags, ms - master's ms, seq - master's seq, [number of fields,] [field,] value …, elements before this one
# where SAME_FIELDS says that the fields are those of the master entry and left out. A deleted entry stays, flagged,
# until its node has no live one.
#
# Only the last node grows. Its block is the stream's previous node's size at once, or doubles while there is no such
# node; a full node is put into the smallest block that holds it.
from engine.defs cimport *
from engine.arena cimport Arena
from engine.command cimport Arg
from engine.idtree cimport *
from engine.names cimport Names
from engine.store cimport Entry, value_ptr

cdef enum:
    ENTRY_DELETED = 1
    SAME_FIELDS = 2

    ADD_OK = 0
    ADD_SMALL_ID = 1               # not above the last one
    ADD_TOO_LARGE = 2

    TRIM_NONE = 0
    TRIM_MAXLEN = 1
    TRIM_MINID = 2

cdef struct Stream:
    IdTree nodes                   # listpacks by the id of their master entry
    u64 length                     # live entries
    u64 last_ms                    # the last id given
    u64 last_seq
    u64 first_ms                   # of the first live entry, 0-0 if there is none
    u64 first_seq
    u64 deleted_ms                 # the largest id that XDEL removed
    u64 deleted_seq
    u64 added                      # entries ever added
    Names groups                   # Group*, see stream_groups.pxd

cdef struct StreamIter:            # entries in a range; the stream must not change meanwhile
    IdPos pos
    u8* lp                         # NULL: the next node is due
    u8* at                         # forward: the first element not looked at; backward: of the entry shown last
    i64 left                       # forward: elements between `at` and the next entry
    bint rev
    bint tombs                     # show deleted entries too
    u128 start
    u128 end
    u128 master
    i64 master_fields
    u8* master_start               # the master's first field
    u128 id_                       # the entry shown
    i64 flags
    i64 fields
    u8* flags_at
    u8* data                       # its first field (SAME_FIELDS: value)

cdef struct Trim:
    int strategy
    bint approx                    # whole nodes only
    i64 maxlen
    i64 limit                      # entries to delete at most; 0: any number
    u128 minid

ctypedef void (*piece_fn)(void* arg, const char* p, size_t n) noexcept nogil

cdef Stream* stream_new(Arena* a) noexcept nogil
# the last id must be below id_; argv: field, value, field, …
cdef int stream_append(Arena* a, Stream* s, u128 id_, Arg* argv, i64 fields) noexcept nogil
cdef bint stream_delete(Arena* a, Stream* s, u128 id_) noexcept nogil      # False: there is no such entry
cdef bint stream_has(Stream* s, u128 id_) noexcept nogil
cdef bint stream_edge(Stream* s, bint first, bint tombs, u128* id_) noexcept nogil   # False: no entry
cdef i64 stream_trim(Arena* a, Stream* s, Trim* t) noexcept nogil          # entries deleted
cdef void stream_first_changed(Stream* s) noexcept nogil
cdef void iter_start(StreamIter* it, Stream* s, u128 start, u128 end, bint rev) noexcept nogil
cdef bint iter_next(StreamIter* it) noexcept nogil
cdef bint node_valid(u8* lp, size_t size, u64* live) noexcept nogil        # is it, from anywhere, a stream's node?
cdef u64 rax_nodes(Stream* s) noexcept nogil                               # of Valkey's tree for these nodes
# for DEBUG DIGEST: the pieces that are mixed in, one after the other (each entry's "ms.seq", field, value, …)
cdef void stream_pieces(Entry* e, piece_fn fn, void* arg) noexcept nogil


cdef inline u128 last_id(Stream* s) noexcept nogil:
    return id_of(s.last_ms, s.last_seq)


cdef inline u128 first_id(Stream* s) noexcept nogil:
    return id_of(s.first_ms, s.first_seq)


cdef inline u128 deleted_id(Stream* s) noexcept nogil:
    return id_of(s.deleted_ms, s.deleted_seq)


cdef inline u128 id_max() noexcept nogil:
    return ~<u128>0


cdef inline void set_last_id(Stream* s, u128 id_) noexcept nogil:
    s.last_ms = id_ms(id_)
    s.last_seq = id_seq(id_)


cdef inline Stream* stream_of(Entry* e) noexcept nogil:
    return <Stream*>value_ptr(e)[0]
