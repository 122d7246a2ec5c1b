"""Listpacks from Python, for tests: one in an arena of its own."""
from engine.defs cimport *
from engine.arena cimport Arena, arena_init, arena_free
from engine.listpack cimport *


cdef class Listpack:
    """A listpack; elements are bytes, places are indexes."""
    cdef Arena arena
    cdef u8* lp

    def __cinit__(self):
        arena_init(&self.arena)
        self.lp = lp_new(&self.arena, 0)

    def __dealloc__(self):
        arena_free(&self.arena, self.lp)

    def append(self, bytes s):
        self.lp = lp_append(&self.arena, self.lp, s, len(s))

    def prepend(self, bytes s):
        self.lp = lp_prepend(&self.arena, self.lp, s, len(s))

    def insert(self, i64 index, bytes s, int where):
        cdef u8* at
        self.lp = lp_insert(&self.arena, self.lp, lp_seek(self.lp, index), s, len(s), where, &at)
        return lp_equals(at, s, len(s))

    def delete(self, i64 index, u64 many):
        self.lp = lp_delete_index(&self.arena, self.lp, index, many)

    def concat(self, Listpack other):
        self.lp = lp_concat(&self.arena, self.lp, lp_copy(&self.arena, other.lp))

    def shrink(self):
        self.lp = lp_shrink(&self.arena, self.lp)

    def find(self, bytes s, u32 skip=0):
        cdef u8* p = lp_find(self.lp, lp_first(self.lp), s, len(s), skip)
        cdef u8* at = lp_first(self.lp)
        cdef int i = 0
        while at != NULL and at != p:
            at = lp_next(self.lp, at)
            i += 1
        return -1 if p == NULL else i

    def forward(self):
        return self._walk(True)

    def backward(self):
        return self._walk(False)

    cdef list _walk(self, bint ahead):
        cdef u8* p = lp_first(self.lp) if ahead else lp_last(self.lp)
        cdef char tmp[24]
        cdef const char* s
        cdef size_t n
        found = []
        while p != NULL:
            n = lp_text(p, tmp, &s)
            found.append(s[:n])
            p = lp_next(self.lp, p) if ahead else lp_prev(self.lp, p)
        return found

    def used(self):
        return self.arena.used

    def __len__(self):
        return lp_len(self.lp)

    def __bytes__(self):
        return (<char*>self.lp)[:lp_bytes(self.lp)]


def valid(bytes data) -> bool:
    """lp_valid of any bytes."""
    return lp_valid(<const u8*><char*>data, len(data))
