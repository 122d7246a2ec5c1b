# What others need of DUMP.
from engine.rdbio cimport RdbOut
from engine.store cimport Entry

cdef void dump_entry(RdbOut* o, Entry* e) noexcept nogil
