# Glob patterns as KEYS, SCAN, PSUBSCRIBE and CONFIG GET take them: * ? [abc] [^a-z] and backslash.
from engine.defs cimport *

cdef bint glob_match(const char* p, size_t pn, const char* s, size_t sn, bint nocase) noexcept nogil
cdef int glob_slot(const char* p, size_t n) noexcept nogil
