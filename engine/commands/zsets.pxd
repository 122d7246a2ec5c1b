# What the families of sorted sets and geo share.
from engine.defs cimport *
from engine.command cimport Arg, Ctx
from engine.store cimport Entry, Key
from engine.zset cimport Z

cdef bint zset_read(Ctx* c, Key* k, Z* z) noexcept nogil       # False: it is missing (wrong: replied)
cdef Entry* zset_write(Ctx* c, Key* k, Z* z, bint* wrong) noexcept nogil
cdef bint double_arg(Ctx* c, Arg* a, double* v, const char* message) noexcept nogil
# ZADD behind its arguments: the i-th of `scores` is for the member argv[at + step * i + step - 1]
cdef void zadd_scored(Ctx* c, i64 at, i64 step, double* scores, u32 flags, bint ch) noexcept nogil
# makes z (not empty) the value of a key that was looked up, or deletes what is there where z is empty; event, reply
cdef void store_result(Ctx* c, Key* dst, Z* z, const char* event) noexcept nogil
