# A base file's index: where each slot is in it. See extents.pyx.
from engine.defs cimport *

cdef enum:
    FORM_RDB = 1
    FORM_COMMANDS = 2

cdef struct Extent:                # a slot's piece of the file
    u64 offset
    u64 len                        # 0: the slot has no keys
    u64 crc
    u32 keys
    u32 next                       # for who writes the file: the slot that follows in the same piece

cdef struct IndexHead:
    u32 form
    u64 base_bytes
    u64 head_bytes                 # before the first extent
    u64 head_crc

cdef int index_write(const char* path, Extent* rows, IndexHead* h) noexcept nogil     # errno or 0; rows: of all slots
