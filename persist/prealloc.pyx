# slotring: data plane
"""Lines that are written over; see prealloc.pxd. The caller has aof.lock."""
from libc.stdlib cimport malloc
from libc.string cimport memcpy, memset
from engine.defs cimport *

cdef extern from "<unistd.h>" nogil:
    ssize_t c_write "write"(int, const void*, size_t)
    ssize_t pwrite(int, const void*, size_t, i64)
    int ftruncate(int, i64)
    int fdatasync(int)
cdef extern from "<sys/random.h>" nogil:
    ssize_t getrandom(void*, size_t, unsigned)
cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

cdef enum:
    WORTH_BYTES = 4 << 20          # smaller files stay as they are: people read those
    SHARE = 16                     # of the file: so much of it is laid at a time, at most
    MOST_BYTES = 1 << 20
    PIECE_BYTES = 1 << 16
    ROW_OF_LINES = 2               # the side file's word for the row that has the digits

cdef u64 laid_to = 0               # the file has lines up to here; 0: none
cdef bint refused = False          # the disk would not: not again in this file
cdef bint named = False            # the side file has the digits
cdef u64 digits = 0
cdef char* piece = NULL            # PIECE_BYTES of lines


cdef bint name_lines(int index_fd) noexcept nogil:
    """Digits for this file, in its side file and in `piece`."""
    global digits, named, piece
    cdef u64[3] row
    cdef u32 i
    if named:
        return True
    if piece == NULL:
        piece = <char*>malloc(PIECE_BYTES)
    if index_fd < 0 or piece == NULL or getrandom(&digits, 8, 0) != 8:
        return False
    row[0] = digits
    row[1] = 0
    row[2] = <u64>ROW_OF_LINES << 32
    if c_write(index_fd, row, sizeof(row)) != sizeof(row) or fdatasync(index_fd):
        return False                   # (after a power failure nobody would know the lines)
    memset(piece, c'#', LINE_BYTES)
    snprintf(piece + 1, 17, b"%016llx", <unsigned long long>digits)
    piece[17] = c'#'
    piece[LINE_BYTES - 1] = c'\n'
    for i in range(1, <u32>(PIECE_BYTES // LINE_BYTES)):
        memcpy(piece + i * LINE_BYTES, piece, LINE_BYTES)
    named = True
    return True


cdef bint lay(int fd, u64 begin, u64 end) noexcept nogil:
    """Lines from begin to end (a multiple of LINE_BYTES), of which the first may be the rest of one."""
    cdef u64 at = begin, n
    cdef char first
    cdef ssize_t r
    while at < end:
        n = PIECE_BYTES - at % PIECE_BYTES
        n = n if n < end - at else end - at
        r = at % PIECE_BYTES
        first = piece[r]
        piece[r] = c'#'                # (a line's own first byte is one already)
        n = <u64>pwrite(fd, piece + r, n, <i64>at)
        piece[r] = first
        if <ssize_t>n <= 0:
            return False
        at += n
    return True


cdef bint prealloc_has(u64 size, u64 n) noexcept nogil:
    return size + n < laid_to


cdef bint prealloc_room(int fd, int index_fd, u64 size, u64 n) noexcept nogil:
    global laid_to, refused
    cdef u64 begin, end
    if size + n < laid_to:
        return True
    if size < WORTH_BYTES or refused or not name_lines(index_fd):
        return False
    begin = laid_to if laid_to > size else size
    end = size // SHARE if size // SHARE < MOST_BYTES else MOST_BYTES
    end = (size + n + end) & ~<u64>(LINE_BYTES - 1)
    if not lay(fd, begin, end):
        refused = True
        ftruncate(fd, <i64>size)       # it may be the disk's last bytes
        laid_to = 0
        return False
    laid_to = end
    return True


cdef void prealloc_cut(int fd, u64 size) noexcept nogil:
    global laid_to
    if laid_to > size:
        ftruncate(fd, <i64>size)
    laid_to = 0


cdef void prealloc_forget() noexcept nogil:
    global laid_to, refused, named
    laid_to = 0
    refused = named = False
