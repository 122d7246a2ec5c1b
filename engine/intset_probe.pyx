"""Intsets from Python, for tests: one in an arena of its own."""
from engine.defs cimport *
from engine.arena cimport Arena, arena_init, arena_free
from engine.intset cimport *


cdef class Intset:
    """An intset; `used` is what the arena has handed out."""
    cdef Arena arena
    cdef u8* s

    def __cinit__(self):
        arena_init(&self.arena)
        self.s = is_new(&self.arena)

    def __dealloc__(self):
        arena_free(&self.arena, self.s)

    def add(self, i64 v):
        cdef bint added
        self.s = is_add(&self.arena, self.s, v, &added)
        return added

    def remove(self, i64 v):
        cdef bint removed
        self.s = is_remove(&self.arena, self.s, v, &removed)
        return removed

    def find(self, i64 v):
        cdef u32 place
        found = is_find(self.s, v, &place)
        return found, place

    def keep(self, bytes gone):
        self.s = is_keep(&self.arena, self.s, <const u8*><char*>gone)

    @property
    def used(self):
        return self.arena.used

    def all(self):
        cdef u32 i
        return [is_get(self.s, i) for i in range(is_len(self.s))]

    def __bytes__(self):
        return (<char*>self.s)[:is_bytes(self.s)]


def valid(bytes data) -> bool:
    """is_valid of any bytes."""
    return is_valid(<const u8*><char*>data, len(data))
