# Room ahead of the append-only file's end. With appendfsync always one fdatasync follows the other, and one that finds
# the file's length as it was need not wait for the file system's journal, which is a third of its time and more. A file
# has room once it is four megabytes long, a sixteenth of it at a time.
#
# What is not written yet is lines of annotation, which every loader skips, Valkey's too:
#     '#', 16 hexadecimal digits, '#' …, '\n': LINE_BYTES, at a multiple of LINE_BYTES
# The digits are the file's own and stand in its side file (persist/aof.pxd): no client can have written such a line. A
# write goes over them and puts one '#' behind itself, so that a line begins there whatever is left of the old one.
# Whoever closes the file cuts it; after a kill persist/incr_index finds where it ends: at the first of those lines.
# Where the power failed and later bytes had reached the disk before earlier ones, nobody was told of what lies behind.
from engine.defs cimport *

cdef enum:
    LINE_BYTES = 128

cdef bint prealloc_room(int fd, int index_fd, u64 size, u64 n) noexcept nogil    # are there n bytes and one, now?
cdef bint prealloc_has(u64 size, u64 n) noexcept nogil                           # … without laying more
cdef void prealloc_cut(int fd, u64 size) noexcept nogil                          # the file ends at its size
cdef void prealloc_forget() noexcept nogil                                       # it is another file from now on
