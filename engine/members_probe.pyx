"""A table of members for the tests (tests/test_members.py): a set, or a dict with expiries, in an arena of its own."""
from engine.defs cimport *
from engine.arena cimport Arena, arena_init
from engine.hashing cimport hash_bytes
from engine.members cimport *


cdef void collect(void* arg, u64* cell) noexcept nogil:
    cdef u64** at = <u64**>arg
    at[0][0] = <u64>cell
    at[0] += 1


cdef class Probe:
    """Members with or without values; `used` is what the arena has handed out."""
    cdef Arena arena
    cdef Members t

    def __cinit__(self):
        arena_init(&self.arena)
        members_init(&self.t)

    def __dealloc__(self):
        cdef i64 budget = 1 << 62
        members_free(&self.arena, &self.t, &budget)

    @property
    def used(self):
        return self.arena.used

    @property
    def shape(self):
        """(members, buckets, chained buckets)"""
        return self.t.count, self.t.nbuckets, self.t.chained

    def bytes(self, i64 samples=0):
        return members_bytes(&self.t, samples)

    def expect(self, u32 n):
        members_expect(&self.arena, &self.t, n)

    def put(self, bytes key, value=None, i64 expire_ms=-1, score=None):
        """Add or replace."""
        cdef u64 hash = hash_bytes(key, len(key))
        cdef u64* cell = members_find(&self.t, key, len(key), hash)
        cdef double d = 0.0 if score is None else score
        cdef double* dp = NULL if score is None else &d
        cdef const char* v = NULL
        cdef size_t vn = 0
        if value is not None:
            v = value
            vn = len(value)
        cdef u64 fresh = cell_new(&self.arena, key, len(key), v, vn, expire_ms, dp)
        if cell != NULL:
            cell_free(&self.arena, cell[0])
            cell[0] = fresh
        else:
            members_add(&self.arena, &self.t, fresh, hash)

    cdef look(self, u64* cell):
        cdef const char* p
        cdef const char* v
        cdef size_t n = cell_key(cell, &p), vn = cell_value(cell, &v)
        cdef double score = 0.0
        if not cell_inline(cell[0]) and cell_item(cell[0])[0] & ITEM_SCORE:
            score = item_score(cell_item(cell[0]))
        return p[:n], v[:vn], cell_expire(cell[0]), score

    def get(self, bytes key):
        """(key, value, expiry, score) or None"""
        cdef u64* cell = members_find(&self.t, key, len(key), hash_bytes(key, len(key)))
        return None if cell == NULL else self.look(cell)

    def remove(self, bytes key):
        cdef u64 hash = hash_bytes(key, len(key)), gone
        cdef u64* cell = members_find(&self.t, key, len(key), hash)
        if cell == NULL:
            return False
        gone = cell[0]
        members_remove(&self.arena, &self.t, cell, hash)
        cell_free(&self.arena, gone)
        return True

    def random(self, u64 seed):
        cdef u64* cell = members_random(&self.t, seed)
        return None if cell == NULL else self.look(cell)

    def items(self):
        cdef MemberWalk w
        cdef u64* cell
        members_walk(&self.t, &w)
        found = []
        while True:
            cell = members_walk_next(&w)
            if cell == NULL:
                return found
            found.append(self.look(cell))

    def scan(self, u64 position):
        """(next position, items)"""
        cdef u64 cells[4096]
        cdef u64* at = cells
        position = members_scan(&self.t, position, collect, &at)
        return position, [self.look(<u64*>cells[i]) for i in range(at - cells)]

    def free_some(self, i64 budget):
        """(all gone, budget left)"""
        done = members_free(&self.arena, &self.t, &budget)
        return done, budget

    def copy(self):
        cdef Probe other = Probe()
        members_copy(&other.arena, &self.t, &other.t)
        return other
