# What the families of hash commands share.
from engine.defs cimport *
from engine.command cimport Arg, Ctx
from engine.store cimport Entry

cdef Entry* hash_to_read(Ctx* c, bint* wrong) noexcept nogil
cdef Entry* hash_to_write(Ctx* c, bint* wrong) noexcept nogil
cdef bint fields_count(Ctx* c, i64 at, i64 each, const char* wrong) noexcept nogil
cdef bint fields_here(Ctx* c, const char* wrong) noexcept nogil
cdef void reply_field(Ctx* c, Entry* e, Arg* f) noexcept nogil
cdef void fields_expired(Ctx* c, u32 n) noexcept nogil
cdef void drop_if_empty(Ctx* c) noexcept nogil
