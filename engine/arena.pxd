# Memory of the store: segments -> pages -> spans -> blocks.
#
# A segment is 4 MiB of address space, aligned to 4 MiB, advised for huge pages unless it is mostly free or one of a
# small store's. Its first pages hold a Span descriptor for each of its pages (in place of their own: its fields); the
# rest is cut into runs of 8 KiB pages. A run that holds blocks of one size class is a span and belongs to one arena.
# Every partition has one arena and allocates under its own lock; only taking and returning runs of pages touches the
# page heap, which has a lock of its own. A block's span is found from its address (mask, shift), so free() needs no
# size. Blocks over SMALL_MAX get a run of their own, blocks over a segment a mapping of their own.
#
# Accounting is exact: arena.used is the sum of the block sizes handed out (class sizes, run sizes), and
# `memory_used` is the sum over arenas, kept to within DRIFT_MAX bytes an arena for cheap reading.
#
# AddressSanitizer sees free blocks, free pages and what was never handed out as poisoned. In its build freed blocks
# wait until their span is used up, and every second place of a span stays empty: what overruns a block meets it.
from engine.defs cimport *
from engine.sanitizer cimport ASAN_ON, asan_poison, asan_unpoison

cdef enum:
    SEGMENT_BITS = 22
    PAGE_BITS = 13
    PAGES_PER_SEGMENT = 512
    SMALL_MAX = 32768
    CLASSES = 96
    DRIFT_MAX = 1024
    CLS_RUN = 254          # a span that is one block of several pages
    CLS_HUGE = 255         # a block with a mapping of its own

cdef struct Span:          # 64 bytes: one cache line, owned by one arena
    void* free             # freed blocks, linked through their first word
    char* bump             # first byte never handed out
    char* end              # end of the blocks
    Span* next             # spans of the class that have room
    Span* prev
    Arena* owner
    u32 size               # of a block, bytes (runs: see pages)
    u32 live
    u16 head               # index of the span's first page
    u16 pages
    u8 cls
    u8 listed              # is in its class's list of spans with room
    u16 pad

cdef struct Segment:
    Segment* next
    Segment* prev
    u32 free_pages
    u32 state              # what arena.pyx notes: pages were freed since the last purge, small pages
    u64 huge_size          # bytes of the mapping (CLS_HUGE)
    u64 used_map[8]        # one bit a page: 1 = taken
    char pad[32]           # the spans begin at a cache line
    Span spans[510]        # see span_at

cdef struct Arena:
    Span* room[CLASSES]    # head: the span blocks are taken from
    i64 used               # bytes handed out
    i64 reported           # what of it memory_used has been told

cdef u8 class_of_units[4097]
cdef u32 class_size[CLASSES]
cdef i64 memory_used_atomic

cdef void* arena_refill(Arena* a, u32 cls) noexcept nogil
cdef void* arena_alloc_large(Arena* a, size_t size) noexcept nogil
cdef void arena_free_slow(Arena* a, Span* s, void* p) noexcept nogil
cdef void arena_init(Arena* a) noexcept nogil
cdef u64 arena_pages_bytes() noexcept nogil
cdef u64 arena_purge() noexcept nogil
cdef void arena_trim(Arena* a) noexcept nogil
cdef u64 arena_free_bytes() noexcept nogil


cdef inline Span* span_at(Segment* seg, u32 page) noexcept nogil:
    return <Span*>seg + page


cdef inline Span* span_of(const void* p) noexcept nogil:
    cdef Segment* seg = <Segment*>(<uintptr_t>p & ~((<uintptr_t>1 << SEGMENT_BITS) - 1))
    cdef u32 page = (<uintptr_t>p >> PAGE_BITS) & (PAGES_PER_SEGMENT - 1)
    cdef Span* s = span_at(seg, page)
    return s - (page - s.head)


cdef inline void arena_account(Arena* a, i64 delta) noexcept nogil:
    a.used += delta
    cdef i64 drift = a.used - a.reported
    if unlikely(drift > DRIFT_MAX or drift < -DRIFT_MAX):
        a.reported = a.used
        atomic_addi64(&memory_used_atomic, drift, RELAXED)


cdef inline void* arena_alloc(Arena* a, size_t size) noexcept nogil:
    """size bytes, 8-aligned (64-aligned if size is a multiple of 64). Never NULL: out of memory aborts."""
    if unlikely(size > SMALL_MAX):
        return arena_alloc_large(a, size)
    cdef u32 cls = class_of_units[(size + 7) >> 3]
    cdef Span* s = a.room[cls]
    cdef void* p
    if likely(s != NULL):
        p = s.free
        if p != NULL and not (ASAN_ON and s.bump < s.end):
            asan_unpoison(p, s.size)
            s.free = (<void**>p)[0]
            s.live += 1
            arena_account(a, s.size)
            return p
        if s.bump < s.end:
            p = s.bump
            s.bump += <size_t>s.size << ASAN_ON
            asan_unpoison(p, s.size)
            s.live += 1
            arena_account(a, s.size)
            return p
    return arena_refill(a, cls)


cdef inline size_t arena_usable(const void* p) noexcept nogil:
    """Bytes of the block at p, which is what it counts for."""
    cdef Span* s = span_of(p)
    if likely(s.cls < CLASSES):
        return s.size
    if s.cls == CLS_RUN:
        return <size_t>s.pages << PAGE_BITS
    return (<Segment*>(<uintptr_t>p & ~((<uintptr_t>1 << SEGMENT_BITS) - 1))).huge_size


cdef inline size_t arena_good_size(size_t size) noexcept nogil:
    """What a request of size bytes will count for."""
    if likely(size <= SMALL_MAX):
        return class_size[class_of_units[(size + 7) >> 3]]
    return (size + 8191) & ~<size_t>8191


cdef inline void arena_free(Arena* a, void* p) noexcept nogil:
    cdef Span* s = span_of(p)
    if likely(s.cls < CLASSES and s.live > 1 and s.listed):
        (<void**>p)[0] = s.free
        s.free = p
        s.live -= 1
        asan_poison(p, s.size)
        arena_account(a, -<i64>s.size)
        return
    arena_free_slow(a, s, p)
