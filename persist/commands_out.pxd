# Data as the plain commands that make it again: word for word what BGREWRITEAOF writes without an RDB preamble.
from engine.defs cimport *
from engine.rdbio cimport RdbOut
from engine.store cimport Entry, Table

cdef void commands_select(RdbOut* o, u32 db) noexcept nogil
cdef void commands_entry(RdbOut* o, Entry* e, i64 now_ms) noexcept nogil      # now_ms is not looked at
cdef u64 commands_table(RdbOut* o, Table* t) noexcept nogil                   # how many keys; their partition is held
