# slotring: data plane
"""Consumer groups in the log; see restate_stream.pxd."""
from engine.effects cimport *
from engine.reply cimport write_u64
from engine.stream cimport id_ms, id_seq
from engine.stream_groups cimport group_last


cdef void effect_id(Ctx* c, u128 id_) noexcept nogil:
    cdef char text[48]
    cdef size_t n = write_u64(text, id_ms(id_))
    text[n] = c'-'
    n += 1
    effect_arg(c, text, n + write_u64(text + n, id_seq(id_)))


cdef void say_claimed(Ctx* c, Key* k, Arg* group, Group* g, Arg* id_text, u128 id_, Pending* p) noexcept nogil:
    effect_begin(c, k.db, k.slot, 14, b"XCLAIM")
    effect_arg(c, k.ptr, k.len)
    effect_arg(c, group.ptr, group.len)
    effect_arg(c, p.consumer.text, p.consumer.name.len)
    effect_word(c, b"0")
    if id_text != NULL:
        effect_arg(c, id_text.ptr, id_text.len)
    else:
        effect_id(c, id_)
    effect_word(c, b"TIME")
    effect_int(c, p.delivered_ms)
    effect_word(c, b"RETRYCOUNT")
    effect_int(c, <i64>p.deliveries)
    effect_word(c, b"FORCE")
    effect_word(c, b"JUSTID")
    effect_word(c, b"LASTID")
    effect_id(c, group_last(g))
    effect_end(c)


cdef void say_group_at(Ctx* c, Key* k, Arg* group, Group* g) noexcept nogil:
    effect_begin(c, k.db, k.slot, 7, b"XGROUP")
    effect_word(c, b"SETID")
    effect_arg(c, k.ptr, k.len)
    effect_arg(c, group.ptr, group.len)
    effect_id(c, group_last(g))
    effect_word(c, b"ENTRIESREAD")
    effect_int(c, g.read)
    effect_end(c)


cdef void say_consumer(Ctx* c, Key* k, Arg* group, Arg* consumer) noexcept nogil:
    effect_begin(c, k.db, k.slot, 5, b"XGROUP")
    effect_word(c, b"CREATECONSUMER")
    effect_arg(c, k.ptr, k.len)
    effect_arg(c, group.ptr, group.len)
    effect_arg(c, consumer.ptr, consumer.len)
    effect_end(c)
