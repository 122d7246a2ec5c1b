"""A rank tree for the tests (tests/test_ranktree.py), in an arena of its own."""
from engine.defs cimport *
from engine.arena cimport Arena, arena_init
from engine.members cimport cell_free, cell_item, cell_key, cell_new, item_score
from engine.ranktree cimport *


cdef class Probe:
    """(score, member) pairs in order."""
    cdef Arena arena
    cdef RankTree t
    cdef dict cells

    def __cinit__(self):
        arena_init(&self.arena)
        tree_init(&self.t)
        self.cells = {}

    def __dealloc__(self):
        cdef i64 budget = 1 << 62
        tree_free(&self.arena, &self.t, &budget)

    def __len__(self):
        return self.t.count

    @property
    def tree_bytes(self):
        return tree_bytes(&self.t)

    def check(self):
        return tree_check(&self.t)

    def insert(self, double score, bytes member):
        cell = cell_new(&self.arena, member, len(member), NULL, 0, -1, &score)
        self.cells[member] = cell
        tree_insert(&self.arena, &self.t, score, cell_item(cell))

    def remove(self, bytes member):
        cdef u64 cell = self.cells.pop(member)
        done = tree_remove(&self.arena, &self.t, item_score(cell_item(cell)), cell_item(cell))
        cell_free(&self.arena, cell)
        return done

    def remove_at(self, u32 rank):
        cdef u64 cell = <u64>tree_remove_at(&self.arena, &self.t, rank)
        cdef const char* p
        if not cell:
            return None
        n = cell_key(&cell, &p)
        member = p[:n]
        cell_free(&self.arena, self.cells.pop(member))
        return member

    def rank(self, int kind, double score, bytes member):
        cdef Bound b
        b.kind = kind
        b.score = score
        b.p = member
        b.n = len(member)
        return tree_rank(&self.t, &b)

    def walk(self, u32 rank, bint back):
        cdef Place at
        cdef const char* p
        cdef u64 cell
        found = []
        tree_at(&self.t, rank, &at)
        while at.leaf != NULL:
            cell = <u64>at.leaf.pairs[at.i].item
            n = cell_key(&cell, &p)
            found.append((at.leaf.pairs[at.i].score, p[:n]))
            if back:
                place_prev(&at)
            else:
                place_next(&at)
        return found
