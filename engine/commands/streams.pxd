# What the files of the stream commands share: ids as arguments and as replies, entries as replies.
from engine.defs cimport *
from engine.command cimport Ctx, Arg
from engine.keyspace cimport *
from engine.reply cimport OutBuf
from engine.stream cimport Stream, StreamIter

# `missing_seq` where there is only <ms>; strict: - and + are no ids. False: no id (and, if c is not NULL, that was
# replied). seq_given NULL: <ms>-* is no id either.
cdef bint id_arg(Ctx* c, Arg* a, u128* id_, u64 missing_seq, bint strict, bint* seq_given) noexcept nogil
# the two ends of a range, with ( for exclusive ones; False: replied
cdef bint range_start_arg(Ctx* c, Arg* a, u128* id_) noexcept nogil
cdef bint range_end_arg(Ctx* c, Arg* a, u128* id_) noexcept nogil
cdef bint i64_arg(Ctx* c, Arg* a, i64* v, const char* message) noexcept nogil    # message NULL: the usual one
cdef u128* ids_args(Ctx* c, i64 first, u128* few, i64 room) noexcept nogil       # NULL: replied; free if not `few`
cdef void error_two(Ctx* c, const char* before, Arg* a, const char* middle, Arg* b, const char* after) noexcept nogil
cdef void reply_id(OutBuf* o, u128 id_) noexcept nogil
cdef void reply_entry(OutBuf* o, StreamIter* it) noexcept nogil
cdef u64 reply_range(OutBuf* o, Stream* s, u128 start, u128 end, u64 count, bint rev) noexcept nogil
cdef void reply_range_array(OutBuf* o, Stream* s, u128 start, u128 end, u64 count, bint rev) noexcept nogil
cdef void help_lines(Ctx* c, const char* command, const char** lines, u32 n) noexcept nogil
