# slotring: data plane
"""Effects in other words than the command's own; see restate.pxd."""
from libc.string cimport memmove, strlen
from engine.command cimport LOCK_KEY
from engine.effects cimport *
from engine.hashing cimport SLOTS
from engine.reply cimport write_i64


cdef void restate(Ctx* c, Key* k, i64 argc, const char* name) noexcept nogil:
    effect_own(c)
    effect_begin(c, k.db, k.slot, argc, name)
    effect_arg(c, k.ptr, k.len)


cdef void restate_key(Ctx* c, Key* k, const char* name) noexcept nogil:
    restate(c, k, 2, name)
    effect_end(c)


cdef void restate_count(Ctx* c, Key* k, const char* name, i64 n) noexcept nogil:
    restate(c, k, 3, name)
    effect_int(c, n)
    effect_end(c)


cdef void restate_words(Ctx* c, i64 first, i64 end) noexcept nogil:
    cdef i64 i
    for i in range(first, end):
        effect_arg(c, c.argv[i].ptr, c.argv[i].len)


cdef void restate_named(Ctx* c, i64 argc, const char* name) noexcept nogil:
    cdef u32 slot = SLOTS
    if c.cmd.lock == LOCK_KEY:
        slot = c.key.slot
    effect_own(c)
    effect_begin(c, c.db, slot, argc, name)
    if name[0] == 0:
        c.fx_len -= 6                  # the empty name: "$0\r\n\r\n"
        restate_words(c, 0, 1)


cdef void also_open(Ctx* c, Key* k, const char* name) noexcept nogil:
    cdef char tmp[24]
    cdef size_t n = strlen(name)
    effect_begin(c, k.db, k.slot, 0, name)
    c.fx_words = c.fx_len - (n + 5 + write_i64(tmp, <i64>n)) - 4       # of "*0\r\n" before the name
    effect_arg(c, k.ptr, k.len)


cdef void restate_open(Ctx* c, Key* k, const char* name) noexcept nogil:
    effect_own(c)
    also_open(c, k, name)


cdef void restate_close(Ctx* c, i64 argc) noexcept nogil:
    """Puts the number of words where "0" is; effect_arg has left room for some digits more."""
    cdef char tmp[24]
    cdef size_t n = write_i64(tmp, argc), i
    cdef size_t rest = c.fx_len - c.fx_words - 2
    if n > 1:
        memmove(c.fx + c.fx_words + 1 + n, c.fx + c.fx_words + 2, rest)
        c.fx_len += n - 1
    for i in range(n):
        c.fx[c.fx_words + 1 + i] = tmp[i]
    effect_end(c)
