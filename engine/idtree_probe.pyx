"""An id tree for the tests (tests/test_idtree.py), in an arena of its own."""
from engine.defs cimport *
from engine.arena cimport Arena, arena_init
from engine.idtree cimport *


cdef class Probe:
    """A map from (ms, seq) to integers; `used` is what the arena has handed out."""
    cdef Arena arena
    cdef IdTree t

    def __cinit__(self):
        arena_init(&self.arena)
        idtree_init(&self.t)

    def __dealloc__(self):
        cdef i64 budget = 1 << 62
        idtree_free(&self.arena, &self.t, NULL, &budget)

    @property
    def used(self):
        return self.arena.used

    def __len__(self):
        return self.t.count

    def bytes(self):
        return idtree_bytes(&self.t)

    def free(self, i64 budget):
        return idtree_free(&self.arena, &self.t, NULL, &budget)

    def add(self, u64 ms, u64 seq, u64 v):
        return idtree_add(&self.arena, &self.t, id_of(ms, seq), <void*>v)

    def remove(self, u64 ms, u64 seq):
        return <u64>idtree_remove(&self.arena, &self.t, id_of(ms, seq))

    def find(self, u64 ms, u64 seq):
        cdef void** v = idtree_find(&self.t, id_of(ms, seq))
        return None if v == NULL else <u64>v[0]

    def last(self):
        cdef IdEntry* e = idtree_last(&self.t)
        return None if e == NULL else (e.ms, e.seq)

    cdef entry(self, IdPos* p):
        return pos_entry(p).ms, pos_entry(p).seq

    def ge(self, u64 ms, u64 seq, int most=1):
        """The ids at or after one."""
        cdef IdPos p
        found = []
        if idtree_ge(&self.t, id_of(ms, seq), &p):
            while most:
                found.append(self.entry(&p))
                most -= 1
                if not idtree_next(&p):
                    break
        return found

    def le(self, u64 ms, u64 seq, int most=1):
        """The ids at or before one, downwards."""
        cdef IdPos p
        found = []
        if idtree_le(&self.t, id_of(ms, seq), &p):
            while most:
                found.append(self.entry(&p))
                most -= 1
                if not idtree_prev(&p):
                    break
        return found
