# slotring: data plane
"""Storage of lists; see quicklist.pxd."""
from libc.stdlib cimport malloc, free, abort
from libc.string cimport memcpy, memmove, memcmp
from engine.defs cimport *
from engine.arena cimport Arena, arena_alloc, arena_free, arena_usable
from engine.conf cimport conf
from engine.listpack cimport *
from engine.rdbio cimport *
from engine.store cimport *

cdef enum:
    SAFE_BYTES = 8192              # of a node when its limit is a count of elements
    ENTRY_EXTRA = 8                # what an element may take beside its bytes, as Valkey estimates
    NODE_BYTES_MIN = 64            # of a fresh node of a chain
    LZF_BYTES_MIN = 48             # smaller nodes are not compressed
    LZF_GAIN_MIN = 8

cdef u64 packed_threshold = 0      # DEBUG QUICKLIST-PACKED-THRESHOLD


# ---- limits

cdef inline size_t size_limit() noexcept nogil:
    """Bytes a node may have; 0: the limit is a count."""
    cdef i64 fill = conf.list_max_listpack_size
    if fill >= 0:
        return 0
    return <size_t>4096 << ((-fill if fill > -5 else 5) - 1)


cdef inline bint beyond(size_t bytes, u64 count) noexcept nogil:
    """Would a node of so many bytes and elements be over the limit?"""
    cdef size_t limit = size_limit()
    if likely(limit != 0):
        return bytes > limit
    if bytes > SAFE_BYTES:
        return True
    return count > <u64>(conf.list_max_listpack_size if conf.list_max_listpack_size else 1)


cdef inline bint is_large(size_t n) noexcept nogil:
    """Does an element get a node of its own?"""
    if unlikely(packed_threshold):
        return n >= packed_threshold
    return n > (size_limit() if size_limit() else SAFE_BYTES)


cdef inline bint node_takes(Node* n, size_t bytes) noexcept nogil:
    """May an element of so many bytes go into this node?"""
    if n == NULL or n.kind & N_PLAIN or is_large(bytes):
        return False
    return not beyond(n.size + bytes + ENTRY_EXTRA, n.count + 1)


# ---- nodes

cdef inline u8* node_lp(Node* n) noexcept nogil:
    return n.block + n.skip


cdef Node* node_new(Arena* a, u8* block, u32 kind) noexcept nogil:
    cdef Node* n = <Node*>arena_alloc(a, sizeof(Node))
    n.next = n.prev = NULL
    n.block = block
    n.skip = n.count = n.size = 0
    n.kind = kind
    return n


cdef Node* node_plain(Arena* a, const char* s, size_t n) noexcept nogil:
    cdef Node* node = node_new(a, <u8*>arena_alloc(a, n), N_PLAIN)
    memcpy(node.block, s, n)
    node.count = 1
    node.size = <u32>n
    return node


cdef void node_link(Quicklist* q, Node* n, Node* before) noexcept nogil:
    """Put a node in front of another; NULL: at the end."""
    n.next = before
    n.prev = q.tail if before == NULL else before.prev
    if n.prev != NULL:
        n.prev.next = n
    else:
        q.head = n
    if before != NULL:
        before.prev = n
    else:
        q.tail = n
    q.nodes += 1


cdef void node_drop(List* l, Node* n) noexcept nogil:
    """Take a node out of the chain and free it. The one node of a listpack only becomes empty."""
    cdef Quicklist* q = l.ql
    if n == &l.only:
        return
    if n.prev != NULL:
        n.prev.next = n.next
    else:
        q.head = n.next
    if n.next != NULL:
        n.next.prev = n.prev
    else:
        q.tail = n.prev
    q.nodes -= 1
    arena_free(l.a, n.block)
    arena_free(l.a, n)


cdef void node_flat(Node* n) noexcept nogil:
    """Close the gap in front."""
    if n.skip:
        memmove(n.block, n.block + n.skip, n.size)
        n.skip = 0


cdef void node_fit(Arena* a, Node* n) noexcept nogil:
    """Give back what a full node does not use."""
    node_flat(n)
    if not n.kind & N_PLAIN:
        n.block = lp_shrink(a, n.block)


cdef bint node_open(Arena* a, Node* n) noexcept nogil:
    """Uncompress; True if it was compressed."""
    cdef u8* block
    if likely(not n.kind & N_LZF):
        return False
    block = <u8*>arena_alloc(a, n.size)
    lzf_decompress(n.block, n.skip, block, n.size)
    arena_free(a, n.block)
    n.block = block
    n.kind &= ~<u32>N_LZF
    n.skip = 0
    return True


cdef bint inside(Quicklist* q, Node* n) noexcept nogil:
    """Is a node far enough from both ends to be compressed?"""
    cdef i64 i
    cdef Node* a = q.head
    cdef Node* b = q.tail
    for i in range(conf.list_compress_depth):
        if a == n or b == n or a == NULL:
            return False
        a = a.next
        b = b.prev
    return True


cdef void node_close(List* l, Node* n) noexcept nogil:
    """Compress again what is far from the ends."""
    cdef u8* block
    cdef size_t room, packed
    if likely(conf.list_compress_depth == 0) or n == NULL or n == &l.only:
        return
    if n.kind or n.size < LZF_BYTES_MIN or not inside(l.ql, n):
        return
    node_flat(n)
    room = n.size - LZF_GAIN_MIN
    block = <u8*>arena_alloc(l.a, room)
    packed = lzf_compress(n.block, n.size, block, room)
    if packed == 0:
        arena_free(l.a, block)
        return
    arena_free(l.a, n.block)
    n.block = <u8*>arena_alloc(l.a, packed)
    memcpy(n.block, block, packed)
    arena_free(l.a, block)
    n.skip = <u32>packed
    n.kind |= N_LZF


cdef void ends_settle(List* l) noexcept nogil:
    """After nodes came or went: the ends open, what has moved inside compressed."""
    cdef i64 i
    cdef Node* a = l.ql.head
    cdef Node* b = l.ql.tail
    if likely(conf.list_compress_depth == 0):
        return
    for i in range(conf.list_compress_depth):
        if a == NULL:
            return
        node_open(l.a, a)
        node_open(l.a, b)
        a = a.next
        b = b.prev
    node_close(l, a)
    node_close(l, b)


# ---- a list, open

cdef u8* list_new(Arena* a, size_t room) noexcept nogil:
    return lp_new(a, LP_HEADER + 1 + (room if room < SAFE_BYTES else SAFE_BYTES))


cdef void list_open(List* l, Arena* a, Entry* e) noexcept nogil:
    """Begin to work on a list. Nothing else may touch it before list_close."""
    l.a = a
    l.e = e
    if entry_enc(e) == ENC_QUICKLIST:
        l.ql = <Quicklist*>value_ptr(e)[0]
        return
    l.only.next = l.only.prev = NULL
    l.only.block = <u8*>value_ptr(e)[0]
    l.only.skip = l.only.kind = 0
    l.only.count = lp_len(l.only.block)
    l.only.size = lp_bytes(l.only.block)
    l.one.head = l.one.tail = &l.only
    l.one.nodes = 1
    l.one.count = l.only.count
    l.ql = &l.one


cdef void list_close(List* l) noexcept nogil:
    """Write back where the listpack is now."""
    if l.ql == &l.one:
        node_flat(&l.only)
        value_ptr(l.e)[0] = l.only.block


cdef void list_will_grow(List* l, size_t more_bytes, u64 more) noexcept nogil:
    cdef Quicklist* q
    cdef Node* n
    if l.ql != &l.one or not beyond(l.only.size + more_bytes, l.only.count + more):
        return
    q = <Quicklist*>arena_alloc(l.a, sizeof(Quicklist))
    q.head = q.tail = NULL
    q.nodes = 0
    q.count = l.only.count
    if l.only.count:
        n = <Node*>arena_alloc(l.a, sizeof(Node))
        n[0] = l.only
        node_link(q, n, NULL)
    else:
        arena_free(l.a, l.only.block)
    l.ql = q
    value_ptr(l.e)[0] = q
    entry_set_enc(l.e, ENC_QUICKLIST)


cdef void list_shrunk(List* l, bint half) noexcept nogil:
    cdef Node* n
    cdef size_t limit = size_limit()
    cdef u64 most = <u64>(conf.list_max_listpack_size if conf.list_max_listpack_size > 0 else 1)
    if l.ql == &l.one or l.ql.nodes != 1 or l.ql.head.kind & N_PLAIN:
        return
    n = l.ql.head
    if limit:
        if n.size > (limit // 2 if half else limit):
            return
    elif n.count > (most // 2 if half else most):
        return
    node_open(l.a, n)
    node_fit(l.a, n)
    arena_free(l.a, l.ql)
    l.only = n[0]
    arena_free(l.a, n)
    l.one.head = l.one.tail = &l.only
    l.one.nodes = 1
    l.one.count = l.only.count
    l.ql = &l.one
    value_ptr(l.e)[0] = l.only.block
    entry_set_enc(l.e, ENC_LISTPACK)


# ---- ends

cdef inline size_t grown(Node* n, size_t want) noexcept nogil:
    """Bytes for a node that needs so many: a small list is one of many and spares them, a chain has two ends only."""
    return want + (want >> (3 if n.next == n.prev else 2))


cdef void node_room(Arena* a, Node* n, size_t more, bint front) noexcept nogil:
    """Room for `more` bytes in front of the listpack or behind it."""
    cdef size_t have = arena_usable(n.block), want = n.size + more, room
    cdef size_t limit = size_limit() if size_limit() else SAFE_BYTES
    cdef u8* block
    if (n.skip if front else have - n.skip - n.size) >= more:
        return
    if not front and have - n.size >= more:
        node_flat(n)
        return
    if front and have - n.size >= more and (have - n.size) * 4 >= have:
        block = n.block + have - n.size            # enough room, all of it at the other side
        memmove(block, n.block + n.skip, n.size)
        n.skip = <u32>(have - n.size)
        return
    room = grown(n, want)
    if room > limit:
        room = limit if limit > want else want
    block = <u8*>arena_alloc(a, room)
    room = arena_usable(block) if front else n.size
    memcpy(block + room - n.size, n.block + n.skip, n.size)
    arena_free(a, n.block)
    n.block = block
    n.skip = <u32>(room - n.size)


cdef inline void count_up(u8* lp, i64 by) noexcept nogil:
    """The header's count of elements, which stays 65535 once it is."""
    cdef u16 count
    memcpy(&count, lp + 4, 2)
    if count != 65535:
        count = <u16>(count + by)
        memcpy(lp + 4, &count, 2)


cdef void lp_push_front(Arena* a, Node* n, const char* s, size_t len_) noexcept nogil:
    """Prepend by moving the header into the gap."""
    cdef LpCoded e
    cdef u8* lp
    lp_code(&e, s, len_)
    node_room(a, n, e.all_, True)
    lp = node_lp(n) - e.all_
    memmove(lp, lp + e.all_, LP_HEADER)
    lp_put(lp + LP_HEADER, &e)
    n.skip -= <u32>e.all_
    n.size += <u32>e.all_
    n.count += 1
    (<u32*>lp)[0] = n.size
    count_up(lp, 1)


cdef void lp_push_front_flat(Arena* a, Node* n, const char* s, size_t len_) noexcept nogil:
    """As lp_push_front for the listpack of a whole list, which cannot keep a gap."""
    cdef LpCoded e
    cdef u8* old = n.block
    cdef u8* lp = old
    cdef size_t body = n.size - LP_HEADER
    lp_code(&e, s, len_)
    if arena_usable(old) >= n.size + e.all_:
        memmove(lp + LP_HEADER + e.all_, lp + LP_HEADER, body)
    else:
        lp = <u8*>arena_alloc(a, grown(n, n.size + e.all_))
        memcpy(lp, old, LP_HEADER)
        memcpy(lp + LP_HEADER + e.all_, old + LP_HEADER, body)
        arena_free(a, old)
        n.block = lp
    lp_put(lp + LP_HEADER, &e)
    n.size += <u32>e.all_
    n.count += 1
    (<u32*>lp)[0] = n.size
    count_up(lp, 1)


cdef void lp_push_back(Arena* a, Node* n, const char* s, size_t len_) noexcept nogil:
    cdef LpCoded e
    cdef u8* lp
    lp_code(&e, s, len_)
    node_room(a, n, e.all_, False)
    lp = node_lp(n)
    lp_put(lp + n.size - 1, &e)
    n.size += <u32>e.all_
    n.count += 1
    lp[n.size - 1] = LP_EOF
    (<u32*>lp)[0] = n.size
    count_up(lp, 1)


cdef Node* node_for(Arena* a) noexcept nogil:
    """An empty node."""
    cdef Node* n = node_new(a, lp_new(a, NODE_BYTES_MIN), N_PACKED)
    n.size = LP_HEADER + 1
    return n


cdef void list_push(List* l, const char* s, size_t n, bint front) noexcept nogil:
    """An element at an end. list_will_grow has been called for it."""
    cdef Quicklist* q = l.ql
    cdef Node* end = q.head if front else q.tail
    q.count += 1
    if q == &l.one and end.skip == 0:      # it must end without a gap in front, so none is made
        end.block = lp_prepend(l.a, end.block, s, n) if front else lp_append(l.a, end.block, s, n)
        end.size = lp_bytes(end.block)
        end.count += 1
        return
    if q != &l.one and unlikely(not node_takes(end, n)):
        if end != NULL and not end.kind:
            node_fit(l.a, end)
        if is_large(n):
            node_link(q, node_plain(l.a, s, n), q.head if front else NULL)
            ends_settle(l)
            return
        end = node_for(l.a)
        node_link(q, end, q.head if front else NULL)
        ends_settle(l)
    if not front:
        lp_push_back(l.a, end, s, n)
    elif q == &l.one and end.skip == 0:
        lp_push_front_flat(l.a, end, s, n)
    else:
        lp_push_front(l.a, end, s, n)


cdef void list_end(List* l, Spot* s, bint front) noexcept nogil:
    """The first or the last element; s.node NULL: there is none."""
    s.node = l.ql.head if front else l.ql.tail
    s.p = NULL
    if s.node == NULL or s.node.count == 0:
        s.node = NULL
        return
    node_open(l.a, s.node)
    if not s.node.kind & N_PLAIN:
        s.p = lp_first(node_lp(s.node)) if front else lp_last(node_lp(s.node))


cdef void list_seek(List* l, i64 index, Spot* s) noexcept nogil:
    """The element at an index (negative: from the end)."""
    cdef Quicklist* q = l.ql
    cdef Node* n
    cdef i64 count = <i64>q.count
    s.node = NULL
    s.p = NULL
    if index < 0:
        index += count
    if index < 0 or index >= count:
        return
    if index <= count // 2:
        n = q.head
        while index >= n.count:
            index -= n.count
            n = n.next
    else:
        n = q.tail
        index -= count
        while -index > <i64>n.count:
            index += n.count
            n = n.prev
    node_open(l.a, n)
    s.node = n
    if not n.kind & N_PLAIN:
        s.p = lp_seek(node_lp(n), index)


cdef void list_step(List* l, Spot* s, bint forward) noexcept nogil:
    """The neighbour of an element."""
    cdef Node* n = s.node
    if s.p != NULL:
        s.p = lp_next(node_lp(n), s.p) if forward else lp_prev(node_lp(n), s.p)
        if likely(s.p != NULL):
            return
    s.node = n.next if forward else n.prev
    node_close(l, n)
    n = s.node
    if n == NULL:
        return
    node_open(l.a, n)
    if not n.kind & N_PLAIN:
        s.p = lp_first(node_lp(n)) if forward else lp_last(node_lp(n))


cdef void list_leave(List* l, Spot* s) noexcept nogil:
    """Nothing more is read at *s."""
    node_close(l, s.node)


cdef void list_get(Spot* s, LpValue* v) noexcept nogil:
    """What is there; good until the list changes."""
    if likely(s.p != NULL):
        lp_get(s.p, v)
        return
    v.s = <char*>s.node.block
    v.n = s.node.size


cdef bint list_equals(Spot* s, const char* p, size_t n) noexcept nogil:
    if likely(s.p != NULL):
        return lp_equals(s.p, p, n)
    return s.node.size == n and not memcmp(s.node.block, p, n)


# ---- changes

cdef inline void node_trim(List* l, Node* n) noexcept nogil:
    """Give back room after deletions; sooner in a small list than at the end of a chain."""
    cdef size_t have = arena_usable(n.block)
    if <size_t>n.size * 2 < have or (n == &l.only and <size_t>n.size * 4 < have * 3):
        node_fit(l.a, n)


cdef void pop_front(List* l, Node* n) noexcept nogil:
    """Delete the first element of a listpack by moving its header."""
    cdef u8* lp = node_lp(n)
    cdef size_t gone = lp_skip(lp + LP_HEADER) - (lp + LP_HEADER)
    memmove(lp + gone, lp, LP_HEADER)
    n.size -= <u32>gone
    n.skip += <u32>gone
    n.count -= 1
    lp += gone
    (<u32*>lp)[0] = n.size
    count_up(lp, -1)
    node_trim(l, n)


cdef void pop_back(List* l, Node* n, u8* last) noexcept nogil:
    """Delete the last element, which is at `last`."""
    cdef u8* lp = node_lp(n)
    last[0] = LP_EOF
    n.size = <u32>(last - lp) + 1
    n.count -= 1
    (<u32*>lp)[0] = n.size
    count_up(lp, -1)
    node_trim(l, n)


cdef void spot_end(List* l, Spot* s, Node* n, bint first) noexcept nogil:
    """Go to a node's first or last element; n NULL: beyond the end."""
    s.node = n
    s.p = NULL
    if n == NULL:
        return
    node_open(l.a, n)
    if not n.kind & N_PLAIN:
        s.p = lp_first(node_lp(n)) if first else lp_last(node_lp(n))


cdef void list_delete(List* l, Spot* s, bint forward) noexcept nogil:
    """Delete an element; *s becomes the one that follows it in the direction."""
    cdef Node* n = s.node
    cdef Node* other = n.next if forward else n.prev
    cdef size_t at, before
    l.ql.count -= 1
    if n.count == 1:
        if n == &l.only:
            pop_back(l, n, s.p)
        else:
            node_drop(l, n)
            ends_settle(l)
        spot_end(l, s, other, forward)
        return
    at = s.p - node_lp(n)
    if at == LP_HEADER:
        pop_front(l, n)
        spot_end(l, s, n if forward else other, forward)
    elif lp_skip(s.p)[0] == LP_EOF:
        pop_back(l, n, s.p)
        spot_end(l, s, other if forward else n, forward)
    else:
        before = lp_prev(node_lp(n), s.p) - node_lp(n)
        node_flat(n)
        n.block = lp_delete(l.a, n.block, n.block + at, NULL)
        n.count -= 1
        n.size = lp_bytes(n.block)
        s.p = n.block + (at if forward else before)


cdef void list_delete_range(List* l, u64 start, u64 many) noexcept nogil:
    """Delete up to `many` elements from an index on; whole nodes at once."""
    cdef Spot s
    cdef Node* n
    cdef Node* following
    cdef u64 skip
    if many == 0 or start >= l.ql.count:
        return
    if many > l.ql.count - start:
        many = l.ql.count - start
    l.ql.count -= many
    n = l.ql.head
    while start >= n.count:
        start -= n.count
        n = n.next
    while many:
        following = n.next
        skip = n.count - start
        if skip > many:
            skip = many
        many -= skip
        if start == 0 and skip == n.count and n != &l.only:
            node_drop(l, n)
        else:
            node_open(l.a, n)
            node_flat(n)
            n.block = lp_delete_index(l.a, n.block, <i64>start, skip)
            n.count -= <u32>skip
            n.size = lp_bytes(n.block)
            node_close(l, n)
        start = 0
        n = following
    ends_settle(l)


cdef void add_in(List* l, Node* n, u8* p, const char* s, size_t len_, int where) noexcept nogil:
    """Put an element into a node, beside or instead of the one at p."""
    cdef size_t at = p - node_lp(n)
    node_flat(n)
    n.block = lp_insert(l.a, n.block, n.block + at, s, len_, where, NULL)
    n.count += where != LP_REPLACE
    n.size = lp_bytes(n.block)


cdef Node* split(List* l, Node* n, u8* p) noexcept nogil:
    """Give the elements from p on a node of their own, which is returned."""
    cdef Node* rest
    cdef size_t at = p - node_lp(n)
    cdef u32 kept = 0
    node_flat(n)
    p = lp_first(n.block)
    while <size_t>(p - n.block) < at:
        p = lp_skip(p)
        kept += 1
    rest = node_new(l.a, lp_copy(l.a, n.block), N_PACKED)
    rest.block = lp_delete_index(l.a, rest.block, 0, kept)
    rest.count = n.count - kept
    rest.size = lp_bytes(rest.block)
    n.block = lp_delete_many(l.a, n.block, n.block + at, rest.count, NULL)
    n.count = kept
    n.size = lp_bytes(n.block)
    node_link(l.ql, rest, n.next)
    return rest


cdef Node* merge(List* l, Node* a, Node* b) noexcept nogil:
    """Make one node of two neighbours if their elements fit in one; returns the node that b's elements are in."""
    if a == NULL or b == NULL or (a.kind | b.kind) & N_PLAIN or beyond(a.size + b.size - 7, a.count + b.count):
        return b
    node_open(l.a, a)
    node_open(l.a, b)
    node_flat(a)
    node_flat(b)
    a.block = lp_concat(l.a, a.block, lp_copy(l.a, b.block))
    a.count += b.count
    a.size = lp_bytes(a.block)
    node_drop(l, b)
    return a


cdef void insert_alone(List* l, Node* before, const char* s, size_t n) noexcept nogil:
    """An element in a new node, in front of another (NULL: at the end)."""
    cdef Node* fresh
    if is_large(n):
        fresh = node_plain(l.a, s, n)
    else:
        fresh = node_for(l.a)
        lp_push_back(l.a, fresh, s, n)
    node_link(l.ql, fresh, before)


cdef void list_insert(List* l, Spot* s, const char* p, size_t n, bint after) noexcept nogil:
    """An element beside another; list_will_grow has been called. *s is not good afterwards."""
    cdef Node* node = s.node
    cdef Node* rest
    cdef bint at_edge, large = is_large(n)
    l.ql.count += 1
    if node == &l.only or (s.p != NULL and not large and node_takes(node, n)):
        add_in(l, node, s.p, p, n, LP_AFTER if after else LP_BEFORE)
        node_close(l, node)
        return
    at_edge = s.p == NULL or (lp_skip(s.p)[0] == LP_EOF if after else s.p == lp_first(node_lp(node)))
    if at_edge:
        rest = node.next if after else node.prev
        if rest != NULL and not large and node_takes(rest, n):
            node_open(l.a, rest)
            if after:
                lp_push_front(l.a, rest, p, n)
            else:
                lp_push_back(l.a, rest, p, n)
            node_close(l, rest)
        else:
            insert_alone(l, node.next if after else node, p, n)
    else:
        rest = split(l, node, lp_skip(s.p) if after else s.p)
        if large:
            insert_alone(l, rest, p, n)
        else:
            lp_push_back(l.a, node, p, n)
            merge(l, node.prev, node)
            merge(l, rest, rest.next)
    node_close(l, node if at_edge else NULL)
    ends_settle(l)


cdef void list_replace(List* l, Spot* s, const char* p, size_t n) noexcept nogil:
    """Another element in an element's place. *s is not good afterwards."""
    cdef Node* node = s.node
    cdef Node* following = node.next
    cdef Spot at = s[0]
    cdef size_t others
    cdef Node* rest
    if s.p != NULL:
        others = node.size - (lp_skip(s.p) - s.p)
        if node == &l.only or (not is_large(n) and (node.count == 1 or not beyond(
                others + n + ENTRY_EXTRA, node.count))):
            add_in(l, node, s.p, p, n, LP_REPLACE)
            node_close(l, node)
            return
        if node.count > 1:             # cut it out, and put the new one where it was
            if lp_skip(s.p)[0] != LP_EOF:
                following = split(l, node, lp_skip(s.p))
                list_end_of(l, node, &at)
            list_delete(l, &at, True)
            l.ql.count += 1
            insert_alone(l, following, p, n)
            merge(l, following.prev if following != NULL else l.ql.tail, following)
            ends_settle(l)
            return
    if s.p == NULL and following != NULL and not is_large(n) and node_takes(following, n):
        node_open(l.a, following)      # no longer large: the neighbour has it, as after an insertion
        lp_push_front(l.a, following, p, n)
        node_close(l, following)
    else:
        insert_alone(l, node, p, n)
    node_drop(l, node)
    ends_settle(l)


cdef void list_end_of(List* l, Node* n, Spot* s) noexcept nogil:
    """A node's last element."""
    spot_end(l, s, n, False)


# ---- what every type tells of its values

cdef bint ops_free(Arena* a, Entry* e, i64* budget) noexcept nogil:
    cdef Quicklist* q = <Quicklist*>value_ptr(e)[0]
    cdef Node* n
    if entry_enc(e) == ENC_LISTPACK:
        arena_free(a, q)
        return True
    while q.head != NULL:
        if budget[0] <= 0:
            return False
        n = q.head
        q.head = n.next
        arena_free(a, n.block)
        arena_free(a, n)
        budget[0] -= 2
    arena_free(a, q)
    return True


cdef u64 ops_blocks(Entry* e) noexcept nogil:
    return 1 if entry_enc(e) == ENC_LISTPACK else (<Quicklist*>value_ptr(e)[0]).nodes * 2


cdef u64 ops_length(Entry* e) noexcept nogil:
    if entry_enc(e) == ENC_LISTPACK:
        return lp_len(<u8*>value_ptr(e)[0])
    return (<Quicklist*>value_ptr(e)[0]).count


cdef u64 ops_bytes(Entry* e, i64 samples) noexcept nogil:
    cdef Quicklist* q = <Quicklist*>value_ptr(e)[0]
    cdef Node* n
    cdef u64 bytes = 0, seen = 0
    if entry_enc(e) == ENC_LISTPACK:
        return arena_usable(q)
    n = q.head
    while n != NULL and (samples == 0 or seen < <u64>samples):
        bytes += arena_usable(n.block)
        seen += 1
        n = n.next
    if seen:
        bytes = bytes * q.nodes // seen
    return bytes + q.nodes * arena_usable(q.head) + arena_usable(q)


cdef void* ops_copy(Arena* to, Entry* e) noexcept nogil:
    cdef Quicklist* q = <Quicklist*>value_ptr(e)[0]
    cdef Quicklist* copy
    cdef Node* n
    cdef Node* fresh
    if entry_enc(e) == ENC_LISTPACK:
        return lp_copy(to, <u8*>q)
    copy = <Quicklist*>arena_alloc(to, sizeof(Quicklist))
    copy.head = copy.tail = NULL
    copy.nodes = 0
    copy.count = q.count
    n = q.head
    while n != NULL:
        fresh = <Node*>arena_alloc(to, sizeof(Node))
        fresh[0] = n[0]
        if n.kind & N_LZF:
            fresh.block = <u8*>arena_alloc(to, n.skip)
            memcpy(fresh.block, n.block, n.skip)
        else:
            fresh.skip = 0
            fresh.block = <u8*>arena_alloc(to, n.size)
            memcpy(fresh.block, n.block + n.skip, n.size)
        node_link(copy, fresh, NULL)
        n = n.next
    return copy


cdef bint show_listpack(u8* lp, element_fn fn, void* arg) noexcept nogil:
    cdef Element el
    cdef char tmp[24]
    cdef u8* p = lp_first(lp)
    el.v = NULL
    el.vn = 0
    el.score = 0
    el.expire_ms = -1
    while p != NULL:
        el.n = lp_text(p, tmp, &el.s)
        if not fn(arg, &el):
            return False
        p = lp_next(lp, p)
    return True


cdef void ops_walk(Entry* e, element_fn fn, void* arg) noexcept nogil:
    cdef Quicklist* q = <Quicklist*>value_ptr(e)[0]
    cdef Node* n
    cdef Element el
    cdef u8* open_
    if entry_enc(e) == ENC_LISTPACK:
        show_listpack(<u8*>q, fn, arg)
        return
    n = q.head
    while n != NULL:
        if n.kind & N_PLAIN:
            el.s = <char*>n.block
            el.n = n.size
            el.v = NULL
            el.vn = 0
            el.score = 0
            el.expire_ms = -1
            if not fn(arg, &el):
                return
        elif n.kind & N_LZF:
            open_ = <u8*>malloc(n.size)
            if open_ == NULL:
                abort()
            lzf_decompress(n.block, n.skip, open_, n.size)
            if not show_listpack(open_, fn, arg):
                free(open_)
                return
            free(open_)
        elif not show_listpack(node_lp(n), fn, arg):
            return
        n = n.next


cdef int ops_rdb_type(Entry* e) noexcept nogil:
    return RDB_TYPE_LIST_QUICKLIST_2


cdef void ops_save(RdbOut* o, Entry* e) noexcept nogil:
    """A count of nodes; for each 1 (plain) or 2 (listpack) and its bytes as a string."""
    cdef Quicklist* q = <Quicklist*>value_ptr(e)[0]
    cdef Node* n
    cdef u8* open_
    if entry_enc(e) == ENC_LISTPACK:
        rdb_out_length(o, 1)
        rdb_out_length(o, 2)
        rdb_out_string(o, <char*>q, lp_bytes(<u8*>q))
        return
    rdb_out_length(o, q.nodes)
    n = q.head
    while n != NULL:
        rdb_out_length(o, 1 if n.kind & N_PLAIN else 2)
        if n.kind & N_LZF:
            open_ = <u8*>malloc(n.size)
            if open_ == NULL:
                abort()
            lzf_decompress(n.block, n.skip, open_, n.size)
            rdb_out_string(o, <char*>open_, n.size)
            free(open_)
        else:
            rdb_out_string(o, <char*>node_lp(n), n.size)
        n = n.next


# ---- loading

cdef void give_up(Arena* a, Entry* e) noexcept nogil:
    cdef i64 budget = 0x7FFFFFFFFFFFFFFF
    ops_free(a, e, &budget)


cdef void load_strings(List* l, RdbIn* in_, u64 n) noexcept nogil:
    cdef char tmp[24]
    cdef const char* s
    cdef size_t len_
    while n and not in_.bad:
        len_ = rdb_in_string(in_, tmp, &s)
        if in_.bad:
            return
        list_will_grow(l, len_, 1)
        list_push(l, s, len_, False)
        n -= 1


cdef void load_nodes(List* l, RdbIn* in_, u64 n) noexcept nogil:
    cdef u64 container
    cdef char tmp[24]
    cdef const char* s
    cdef size_t len_
    cdef Node* node
    while n and not in_.bad:
        container = rdb_in_length(in_)
        len_ = rdb_in_string(in_, tmp, &s)
        if in_.bad or container < 1 or container > 2 or len_ == 0 or len_ >= <size_t>1 << 32:
            in_.bad = True
            return
        n -= 1
        if container == 1:
            node_link(l.ql, node_plain(l.a, s, len_), NULL)
            l.ql.count += 1
            continue
        if not lp_valid(<const u8*>s, len_):
            in_.bad = True
            return
        if len_ == LP_HEADER + 1:
            continue                   # Valkey too leaves empty nodes out
        node = node_new(l.a, <u8*>arena_alloc(l.a, len_), N_PACKED)
        memcpy(node.block, s, len_)
        node.size = <u32>len_
        node.count = lp_len(node.block)
        node_link(l.ql, node, NULL)
        l.ql.count += node.count


cdef void* load_list(Arena* a, RdbIn* in_, int rdb_type, int* enc, u32* flags, i64 now_ms) noexcept nogil:
    """RDB_TYPE_LIST (strings) and RDB_TYPE_LIST_QUICKLIST_2 (nodes)."""
    cdef u64 n = rdb_in_length(in_)
    cdef Quicklist* q
    cdef List l
    cdef u64 room[8]
    cdef Entry* e = <Entry*>room           # a stand-in: an entry with an empty key
    if in_.bad or n == 0 or n > rdb_in_left(in_):
        in_.bad = True
        return NULL
    e.head = TYPE_LIST | (ENC_QUICKLIST << 4)
    e.flags = 0
    e.klen = 0
    e.vlen = sizeof(void*)
    q = <Quicklist*>arena_alloc(a, sizeof(Quicklist))
    q.head = q.tail = NULL
    q.count = q.nodes = 0
    value_ptr(e)[0] = q
    list_open(&l, a, e)
    if rdb_type == RDB_TYPE_LIST:
        load_strings(&l, in_, n)
    else:
        load_nodes(&l, in_, n)
    if in_.bad or l.ql.count == 0:
        in_.bad = True
        give_up(a, e)
        return NULL
    list_shrunk(&l, False)
    ends_settle(&l)
    list_close(&l)
    enc[0] = entry_enc(e)
    return value_ptr(e)[0]


def set_packed_threshold(u64 n) -> None:
    """DEBUG QUICKLIST-PACKED-THRESHOLD: elements of so many bytes get a node of their own; 0: the usual rule."""
    global packed_threshold
    packed_threshold = n


type_ops[TYPE_LIST].free = ops_free
type_ops[TYPE_LIST].blocks = ops_blocks
type_ops[TYPE_LIST].length = ops_length
type_ops[TYPE_LIST].bytes = ops_bytes
type_ops[TYPE_LIST].copy = ops_copy
type_ops[TYPE_LIST].walk = ops_walk
type_ops[TYPE_LIST].rdb_type = ops_rdb_type
type_ops[TYPE_LIST].save = ops_save
load_ops[RDB_TYPE_LIST].load = load_ops[RDB_TYPE_LIST_QUICKLIST_2].load = load_list
load_ops[RDB_TYPE_LIST].type_ = load_ops[RDB_TYPE_LIST_QUICKLIST_2].type_ = TYPE_LIST
assert sizeof(Node) == 40 and sizeof(Quicklist) == 32
