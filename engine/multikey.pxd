# Commands of many keys: batches of looked-ahead keys, sets of partitions to lock, key positions
# that a command's arguments give.
#
# Key positions: a row whose keys follow a count has keys (0, 0, 0) and `special` set by row_keynum:
# the count is argv[special & 255], the first key is argv[special >> 8 & 255], and every
# (special >> 16 & 255)th after it is one; bit 30 says that special has this form (SPECIAL_KEYNUM).
# row["keynum"] has the three numbers for COMMAND.
from engine.defs cimport *
from engine.store cimport *
from engine.command cimport Ctx, Command, Arg

cdef enum:
    KEY_BATCH = 16                 # keys looked ahead at once
    PARTSET_WORDS = 256            # of 64 bits: one for each of up to 16384 partitions
    SPECIAL_KEYNUM = 1 << 30       # `special` is count place | first << 8 | step << 16 | this

cdef struct PartSet:               # partitions to be locked together; 2 KB, lives on the stack
    u64 words[PARTSET_WORDS]
    u32 used                       # words in use: those of the store's partitions

cdef void parts_clear(PartSet* s) noexcept nogil
cdef void parts_lock(PartSet* s) noexcept nogil
cdef void parts_unlock(PartSet* s) noexcept nogil
cdef i64 keys_batch(Ctx* c, i64 first, i64 end, i64 step, Key* keys) noexcept nogil
# adds the partitions of all keys of a command; False: they cannot be told, lock everything
cdef bint command_parts(PartSet* s, Command* cmd, Arg* argv, i64 argc) noexcept nogil
# calls fn with each key of a command, or with its slot; False: there are others that cannot be told
ctypedef void (*key_visit)(void* arg, Arg* key) noexcept nogil
ctypedef void (*slot_visit)(void* arg, u32 slot) noexcept nogil
cdef bint command_keys(Command* cmd, Arg* argv, i64 argc, key_visit fn, void* arg) noexcept nogil
cdef bint command_slots(Command* cmd, Arg* argv, i64 argc, slot_visit fn, void* arg) noexcept nogil
cdef object row_keynum(dict row, int count_at, int first, int step)


cdef inline void parts_add(PartSet* s, Partition* p) noexcept nogil:
    s.words[p.index >> 6] |= <u64>1 << (p.index & 63)
