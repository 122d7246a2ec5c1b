# Consumer groups of a stream: groups and consumers in the order of their names, and the entries that were delivered
# and not acknowledged yet. Such an entry is one Pending block, known by its id to the group and to its consumer.
from engine.defs cimport *
from engine.arena cimport Arena
from engine.idtree cimport *
from engine.names cimport *
from engine.stream cimport Stream

cdef enum:
    READ_UNKNOWN = -1              # Group.read: cannot be told

cdef struct Consumer:
    Named name
    i64 seen_ms                    # the last attempt to read or claim
    i64 active_ms                  # the last one that got something; -1: never
    IdTree pending
    char text[0]

cdef struct Group:
    Named name
    u64 last_ms                    # the last id delivered
    u64 last_seq
    i64 read                       # entries ever read, or READ_UNKNOWN
    IdTree pending
    Names consumers
    char text[0]

cdef struct Pending:
    i64 delivered_ms
    u64 deliveries
    Consumer* consumer

cdef Group* group_find(Stream* s, const char* p, size_t n) noexcept nogil
# NULL: there is one of that name
cdef Group* group_new(Arena* a, Stream* s, const char* p, size_t n, u128 last, i64 read) noexcept nogil
cdef void group_delete(Arena* a, Stream* s, Group* g) noexcept nogil
cdef Consumer* consumer_find(Group* g, const char* p, size_t n) noexcept nogil
# NULL: there is one of that name
cdef Consumer* consumer_new(Arena* a, Group* g, const char* p, size_t n, i64 now_ms) noexcept nogil
cdef void consumer_delete(Arena* a, Group* g, Consumer* consumer) noexcept nogil      # with all that it has
cdef Pending* pending_find(Group* g, u128 id_) noexcept nogil
cdef Pending* pending_new(Arena* a, Group* g, u128 id_, i64 now_ms) noexcept nogil    # nobody's yet
cdef void pending_give(Arena* a, Pending* p, u128 id_, Consumer* to) noexcept nogil   # from whoever has it
cdef void pending_delete(Arena* a, Group* g, u128 id_, Pending* p) noexcept nogil
cdef i64 read_before(Stream* s, u128 id_) noexcept nogil          # entries ever added up to id, or READ_UNKNOWN
cdef bint tombs_after(Stream* s, u128 id_) noexcept nogil         # may deleted entries lie at or after id?
cdef bint groups_free(Arena* a, Stream* s, i64* budget) noexcept nogil    # as TypeOps.free
cdef void groups_copy(Arena* to, Stream* src, Stream* dst) noexcept nogil
cdef u64 groups_bytes(Stream* s) noexcept nogil
cdef u64 groups_blocks(Stream* s) noexcept nogil


cdef inline u128 group_last(Group* g) noexcept nogil:
    return id_of(g.last_ms, g.last_seq)


cdef inline void set_group_last(Group* g, u128 id_) noexcept nogil:
    g.last_ms = id_ms(id_)
    g.last_seq = id_seq(id_)
