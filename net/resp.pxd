# RESP requests, sans-IO: bytes in, arguments out. See resp.pyx.
from engine.defs cimport *
from engine.command cimport Arg
from net.conn cimport Parser, Worker

cdef int parse(Parser* ps, Worker* w, char* base, size_t n, size_t* used, bint trusted) noexcept nogil
cdef void parser_free(Parser* ps) noexcept nogil
cdef size_t parser_wants(Parser* ps) noexcept nogil
