# Arguments that are numbers, with the errors that Valkey gives where they are none.
from engine.defs cimport *
from engine.command cimport Arg, Ctx
from engine.numbers cimport parse_i64
from engine.reply cimport reply_error


cdef inline bint long_arg(Ctx* c, Arg* a, i64* v) noexcept nogil:
    """A 64-bit integer; False: the usual error was replied."""
    if likely(parse_i64(a.ptr, a.len, v)):
        return True
    reply_error(c.out, b"ERR value is not an integer or out of range")
    return False


cdef inline bint least_arg(Ctx* c, Arg* a, i64* v, i64 least, const char* message) noexcept nogil:
    """A number of at least `least`; else `message` is the error."""
    if parse_i64(a.ptr, a.len, v) and v[0] >= least:
        return True
    reply_error(c.out, message)
    return False
