# Effects in other words than the command's own, in the shapes that several commands share. Valkey's words, letter for
# letter. All but `also_open` and `restate_words` stand for the command's own words (effect_own). Ask effects_wanted()
# before.
from engine.defs cimport *
from engine.command cimport Ctx
from engine.store cimport Key

cdef enum:
    RESTATED_WORDS = 1024          # fields or members in one command; more go into several

cdef void restate(Ctx* c, Key* k, i64 argc, const char* name) noexcept nogil       # NAME key, more words to come
cdef void restate_key(Ctx* c, Key* k, const char* name) noexcept nogil             # NAME key
cdef void restate_count(Ctx* c, Key* k, const char* name, i64 n) noexcept nogil    # NAME key n
cdef void restate_words(Ctx* c, i64 first, i64 end) noexcept nogil                 # words of the command, as they are
# The command's words with one more, fewer or other: begins with the name given, "": as it was typed.
cdef void restate_named(Ctx* c, i64 argc, const char* name) noexcept nogil
# How many words there will be is not known yet: open, effect_arg …, close. The latter counts the name and the key too.
cdef void restate_open(Ctx* c, Key* k, const char* name) noexcept nogil
cdef void also_open(Ctx* c, Key* k, const char* name) noexcept nogil               # besides the command's words
cdef void restate_close(Ctx* c, i64 argc) noexcept nogil
