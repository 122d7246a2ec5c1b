# slotring: data plane
"""Segments, page runs and spans; see arena.pxd for the theory."""
from libc.string cimport memset
from libc.stdlib cimport abort
from engine.defs cimport *
from engine.lock cimport lock, unlock

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void*, size_t, int, int, int, long)
    int munmap(void*, size_t)
    int madvise(void*, size_t, int)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTNEED
    void* MAP_FAILED
cdef extern from "<stdio.h>" nogil:
    int dprintf(int, const char*, ...)

cdef enum:
    SEGMENT_BYTES = 4194304
    PAGE_BYTES = 8192
    HEADER_PAGES = 4           # sizeof(Segment) in pages
    FIRST_SEGMENTS = 8         # a store that needs no more is kept in small pages: huge ones would round its memory up
    FILLED = 3                 # quarters of a segment that are taken before it gets huge pages (again)
    MADV_COLLAPSE = 25         # Linux 6.1; older C libraries do not name it
    DIRTY = 1                  # Segment.state: pages were freed since the last purge
    SMALL = 2                  # it has small pages, as it is mostly free or one of the first

cdef u32 class_pages[CLASSES]
cdef u32 heap_lock = 0
cdef Segment* segments = NULL  # those with free pages first
cdef u64 mapped_bytes = 0
cdef u32 idle_segments = 0
cdef Segment* first_segments[FIRST_SEGMENTS]
cdef u32 first_count = 0
cdef u32 first_settled = 0     # of the first, those that needed no more small pages
memory_used_atomic = 0


cdef void make_classes() noexcept nogil:
    cdef u32 size = 8, cls = 0, step, unit, n, waste
    while True:
        class_size[cls] = size
        n = 1
        # a span holds at least 8 blocks (4 of the largest) and wastes at most one part in 32
        while True:
            waste = (n * PAGE_BYTES) % size
            if n * PAGE_BYTES >= size * (8 if size <= 4096 else 4) and waste * 32 <= n * PAGE_BYTES:
                break
            n += 1
        class_pages[cls] = n
        cls += 1
        if size >= SMALL_MAX:
            break
        if size < 256:
            step = 8
        elif size < 512:
            step = 16
        else:
            step = 64
            while step * 16 < size + 1:
                step *= 2
        size += step
        if size > SMALL_MAX:
            size = SMALL_MAX
    cls = 0
    for unit in range(SMALL_MAX // 8 + 1):
        if unit * 8 > class_size[cls]:
            cls += 1
        class_of_units[unit] = cls


cdef void* map_aligned(size_t size) noexcept nogil:
    """size bytes (a multiple of a page) aligned to a segment; the slack is unmapped again."""
    cdef char* raw = <char*>mmap(NULL, size + SEGMENT_BYTES, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if raw == <char*>MAP_FAILED:
        dprintf(2, b"Out Of Memory allocating %lu bytes!\n", <unsigned long>size)
        abort()
    cdef char* base = <char*>((<uintptr_t>raw + SEGMENT_BYTES - 1) & ~<uintptr_t>(SEGMENT_BYTES - 1))
    if base > raw:
        munmap(raw, base - raw)
    if raw + SEGMENT_BYTES > base:
        munmap(base + size, raw + SEGMENT_BYTES - base)
    return base


cdef void segment_unlink(Segment* seg) noexcept nogil:
    global segments
    if seg.prev != NULL:
        seg.prev.next = seg.next
    else:
        segments = seg.next
    if seg.next != NULL:
        seg.next.prev = seg.prev


cdef void segment_push(Segment* seg) noexcept nogil:
    global segments
    seg.prev = NULL
    seg.next = segments
    if segments != NULL:
        segments.prev = seg
    segments = seg


cdef Segment* segment_new() noexcept nogil:
    global mapped_bytes, idle_segments, first_count
    cdef Segment* seg = <Segment*>map_aligned(SEGMENT_BYTES)
    if first_count < FIRST_SEGMENTS:
        first_segments[first_count] = seg
        first_count += 1
        madvise(seg, SEGMENT_BYTES, MADV_NOHUGEPAGE)
        seg.state = SMALL
    else:
        madvise(seg, SEGMENT_BYTES, MADV_HUGEPAGE)
        seg.state = 0
    memset(seg.used_map, 0, sizeof(seg.used_map))
    seg.used_map[0] = (<u64>1 << HEADER_PAGES) - 1
    seg.free_pages = PAGES_PER_SEGMENT - HEADER_PAGES
    seg.huge_size = 0
    asan_poison(<char*>seg + HEADER_PAGES * PAGE_BYTES, SEGMENT_BYTES - HEADER_PAGES * PAGE_BYTES)
    segment_push(seg)
    mapped_bytes += SEGMENT_BYTES
    idle_segments += 1
    return seg


cdef i32 find_run(Segment* seg, u32 pages) noexcept nogil:
    """First page of a free run of that length, or -1."""
    cdef u32 i = HEADER_PAGES, run = 0
    cdef u64 word
    while i < PAGES_PER_SEGMENT:
        word = seg.used_map[i >> 6] >> (i & 63)
        if word & 1:
            run = 0
            # skip the taken pages of this word at once
            word = ~word
            if word == 0:
                i = (i | 63) + 1
            else:
                i += ctz64(word)
            continue
        run += 1
        if run == pages:
            return <i32>(i + 1 - pages)
        i += 1
    return -1


cdef Span* take_pages(u32 pages) noexcept nogil:
    """A run of pages as a span whose head, pages are set; the heap's lock is taken here."""
    global idle_segments
    cdef Segment* seg
    cdef i32 at = -1
    cdef u32 i, tried = 0
    lock(&heap_lock)
    seg = segments
    while seg != NULL:
        if seg.free_pages >= pages:
            at = find_run(seg, pages)
            if at >= 0:
                break
            tried += 1
            if tried == 16:       # bounded search: a fresh segment costs address space only
                seg = NULL
                break
        seg = seg.next
    if seg == NULL:
        seg = segment_new()
        at = HEADER_PAGES
    if seg.free_pages == PAGES_PER_SEGMENT - HEADER_PAGES:
        idle_segments -= 1
    for i in range(pages):
        seg.used_map[(at + i) >> 6] |= <u64>1 << ((at + i) & 63)
        span_at(seg, at + i).head = <u16>at
    seg.free_pages -= pages
    if (seg.state & SMALL and seg.free_pages * 4 < PAGES_PER_SEGMENT * (4 - FILLED)
            and mapped_bytes > FIRST_SEGMENTS * SEGMENT_BYTES):
        seg.state &= ~<u32>SMALL
        madvise(seg, SEGMENT_BYTES, MADV_HUGEPAGE)
    if seg.free_pages == 0:
        segment_unlink(seg)
    unlock(&heap_lock)
    cdef Span* s = span_at(seg, at)
    s.pages = <u16>pages
    return s


cdef inline Segment* segment_of(const void* p) noexcept nogil:
    return <Segment*>(<uintptr_t>p & ~<uintptr_t>(SEGMENT_BYTES - 1))


cdef inline char* span_base(Span* s) noexcept nogil:
    return <char*>segment_of(s) + (<size_t>s.head << PAGE_BITS)


cdef void give_pages(Span* s) noexcept nogil:
    global idle_segments
    cdef Segment* seg = segment_of(s)
    cdef u32 i, at = s.head, pages = s.pages
    asan_poison(span_base(s), <size_t>pages << PAGE_BITS)
    lock(&heap_lock)
    if seg.free_pages == 0:
        segment_push(seg)
    for i in range(pages):
        seg.used_map[(at + i) >> 6] &= ~(<u64>1 << ((at + i) & 63))
    seg.free_pages += pages
    if seg.free_pages == PAGES_PER_SEGMENT - HEADER_PAGES:
        # never unmapped: workers prefetch through pointers that they read without a lock
        idle_segments += 1
    seg.state |= DIRTY
    unlock(&heap_lock)


cdef void room_push(Arena* a, Span* s) noexcept nogil:
    s.prev = NULL
    s.next = a.room[s.cls]
    if s.next != NULL:
        s.next.prev = s
    a.room[s.cls] = s
    s.listed = 1


cdef void room_unlink(Arena* a, Span* s) noexcept nogil:
    if s.prev != NULL:
        s.prev.next = s.next
    else:
        a.room[s.cls] = s.next
    if s.next != NULL:
        s.next.prev = s.prev
    s.listed = 0


cdef void* arena_refill(Arena* a, u32 cls) noexcept nogil:
    """The head span of the class is full (or there is none): go to one with room, or make one."""
    cdef Span* s = a.room[cls]
    cdef char* base
    cdef u32 pages
    while s != NULL and s.free == NULL and s.bump >= s.end:
        room_unlink(a, s)
        s = a.room[cls]
    if s == NULL:
        s = take_pages(class_pages[cls])
        base = span_base(s)
        pages = s.pages
        s.free = NULL
        s.bump = base
        s.size = class_size[cls]
        s.end = base + (pages * PAGE_BYTES // s.size) * s.size
        s.live = 0
        s.owner = a
        s.cls = <u8>cls
        room_push(a, s)
    return arena_alloc(a, class_size[cls])


cdef void* arena_alloc_large(Arena* a, size_t size) noexcept nogil:
    global mapped_bytes
    cdef u32 pages
    cdef Segment* seg
    cdef Span* s
    if size <= <size_t>(PAGES_PER_SEGMENT - HEADER_PAGES) * PAGE_BYTES // 2:
        pages = <u32>((size + PAGE_BYTES - 1) >> PAGE_BITS)
        s = take_pages(pages)
        s.cls = CLS_RUN
        s.owner = a
        s.live = 1
        s.listed = 0
        arena_account(a, <i64>pages << PAGE_BITS)
        asan_unpoison(span_base(s), <size_t>pages << PAGE_BITS)
        return span_base(s)
    size = (size + PAGE_BYTES - 1) & ~<size_t>(PAGE_BYTES - 1)
    seg = <Segment*>map_aligned(size + HEADER_PAGES * PAGE_BYTES)
    madvise(seg, size + HEADER_PAGES * PAGE_BYTES, MADV_HUGEPAGE)
    seg.huge_size = size
    s = span_at(seg, HEADER_PAGES)
    s.head = HEADER_PAGES
    s.cls = CLS_HUGE
    s.owner = a
    s.live = 1
    s.listed = 0
    lock(&heap_lock)
    mapped_bytes += size + HEADER_PAGES * PAGE_BYTES
    unlock(&heap_lock)
    arena_account(a, <i64>size)
    return <char*>seg + HEADER_PAGES * PAGE_BYTES


cdef void arena_free_slow(Arena* a, Span* s, void* p) noexcept nogil:
    global mapped_bytes
    cdef Segment* seg
    cdef size_t size
    if s.cls == CLS_HUGE:
        seg = segment_of(s)
        size = seg.huge_size
        arena_account(a, -<i64>size)
        size += HEADER_PAGES * PAGE_BYTES
        lock(&heap_lock)
        mapped_bytes -= size
        unlock(&heap_lock)
        munmap(seg, size)
        return
    if s.cls == CLS_RUN:
        arena_account(a, -(<i64>s.pages << PAGE_BITS))
        give_pages(s)
        return
    arena_account(a, -<i64>s.size)
    s.live -= 1
    if s.live == 0 and not (s.listed and s.next == NULL and s.prev == NULL):
        # empty, and not the last span with room of its class
        if s.listed:
            room_unlink(a, s)
        give_pages(s)
        return
    (<void**>p)[0] = s.free
    s.free = p
    asan_poison(p, s.size)
    if not s.listed:
        room_push(a, s)


cdef void arena_init(Arena* a) noexcept nogil:
    memset(a, 0, sizeof(Arena))


cdef u64 arena_pages_bytes() noexcept nogil:
    """Bytes mapped for all arenas."""
    return mapped_bytes


cdef void arena_trim(Arena* a) noexcept nogil:
    """Give back the last span of each class if it is empty (arena_free keeps one)."""
    cdef u32 cls
    cdef Span* s
    for cls in range(CLASSES):
        s = a.room[cls]
        if s != NULL and s.live == 0 and s.next == NULL:
            room_unlink(a, s)
            give_pages(s)


cdef u64 arena_free_bytes() noexcept nogil:
    """Bytes of free pages that may still hold memory of the kernel's."""
    cdef u64 total = 0
    cdef Segment* seg
    lock(&heap_lock)
    seg = segments
    while seg != NULL:
        if seg.state & DIRTY:
            total += <u64>seg.free_pages << PAGE_BITS
        seg = seg.next
    unlock(&heap_lock)
    return total


cdef void arena_settle() noexcept nogil:
    """Once a second: one of the first segments gets huge pages, now that there are more; half a millisecond each."""
    global first_settled
    cdef Segment* seg = NULL
    lock(&heap_lock)
    if first_settled < first_count and mapped_bytes > FIRST_SEGMENTS * SEGMENT_BYTES:
        seg = first_segments[first_settled]
        first_settled += 1
        if seg.free_pages * 2 > PAGES_PER_SEGMENT:
            seg = NULL         # mostly free: it gets them when it fills up
        else:
            seg.state &= ~<u32>SMALL
            madvise(seg, SEGMENT_BYTES, MADV_HUGEPAGE)
    unlock(&heap_lock)
    if seg != NULL:            # without the lock: others may need pages meanwhile
        madvise(seg, SEGMENT_BYTES, MADV_COLLAPSE)


cdef u64 arena_purge() noexcept nogil:
    """Give the free pages of every segment back to the kernel; returns bytes advised away."""
    cdef u64 total = 0
    cdef Segment* seg
    cdef u32 i, start
    lock(&heap_lock)
    seg = segments
    while seg != NULL:
        i = HEADER_PAGES if seg.state & DIRTY else PAGES_PER_SEGMENT
        if seg.state == DIRTY and seg.free_pages * 2 > PAGES_PER_SEGMENT:
            # else the kernel would make its huge pages whole again, free ones and all
            seg.state = SMALL
            madvise(seg, SEGMENT_BYTES, MADV_NOHUGEPAGE)
        seg.state &= ~<u32>DIRTY
        while i < PAGES_PER_SEGMENT:
            if seg.used_map[i >> 6] >> (i & 63) & 1:
                i += 1
                continue
            start = i
            while i < PAGES_PER_SEGMENT and not (seg.used_map[i >> 6] >> (i & 63) & 1):
                i += 1
            madvise(<char*>seg + (<size_t>start << PAGE_BITS), <size_t>(i - start) << PAGE_BITS,
                    MADV_DONTNEED)
            total += <u64>(i - start) << PAGE_BITS
        seg = seg.next
    unlock(&heap_lock)
    return total


def used_bytes() -> int:
    """Bytes handed out by all arenas, to within DRIFT_MAX bytes an arena."""
    return atomic_loadi64(&memory_used_atomic, RELAXED)


def mapped() -> int:
    """Bytes of address space mapped for segments."""
    return mapped_bytes


def purge() -> int:
    """Give free pages back to the kernel; returns how many bytes."""
    cdef u64 n
    with nogil:
        n = arena_purge()
    return n


def settle() -> None:
    """What is due once a second: huge pages for segments that began without, two at a time."""
    with nogil:
        arena_settle()
        arena_settle()


make_classes()
assert sizeof(Span) == 64, sizeof(Span)
assert sizeof(Segment) == HEADER_PAGES * PAGE_BYTES == 512 * sizeof(Span), sizeof(Segment)
