# What reading and claiming do to consumer groups, as Valkey puts it in the log. It stands beside the command's own
# words unless that calls effect_own.
from engine.defs cimport *
from engine.command cimport Arg, Ctx
from engine.store cimport Key
from engine.stream_groups cimport Group, Pending

cdef void effect_id(Ctx* c, u128 id_) noexcept nogil
# XCLAIM of an entry as it is pending now. id_text: the id as it was typed, NULL: it was not
cdef void say_claimed(Ctx* c, Key* k, Arg* group, Group* g, Arg* id_text, u128 id_, Pending* p) noexcept nogil
cdef void say_group_at(Ctx* c, Key* k, Arg* group, Group* g) noexcept nogil        # XGROUP SETID
cdef void say_consumer(Ctx* c, Key* k, Arg* group, Arg* consumer) noexcept nogil   # XGROUP CREATECONSUMER
