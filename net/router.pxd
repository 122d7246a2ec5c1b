# The slot map, and what it says of a command before it runs: here, or one of MOVED, ASK, TRYAGAIN, CROSSSLOT,
# CLUSTERDOWN, or not yet (a paused slot).
#
# The map is words that the cluster's thread sets (the functions of router.pyx) while workers read them without a lock
# of their own. A command looks at them once more after it has taken the locks of its keys, and who takes a slot away
# changes the map first and then passes through the slot's lock (`barrier`): after that no command runs there any more.
# `plain` answers for nearly all of them: a set bit means that the slot is served here and nothing more is to be asked.
#
# Outside of cluster mode the map is not looked at, unless slots are paused (conf.routing).
from engine.command cimport Arg, Command, Ctx
from engine.conf cimport conf
from engine.defs cimport *
from engine.hashing cimport SLOTS
from engine.multikey cimport PartSet
from engine.reply cimport OutBuf
from net.conn cimport Worker

cdef extern from * nogil:
    u16 atomic_load16 "__atomic_load_n"(u16*, int)
    void atomic_store16 "__atomic_store_n"(u16*, u16, int)

cdef enum:
    PLAIN_WORDS = 256              # of 64 slots each
    NODES_MAX = SLOTS + 2
    OWNER_NONE = 0
    OWNER_HERE = 1                 # others count from 2

    STATE_OK = 0

    TURNED_REPLIED = 1             # Ctx.turned: the command did not run, it was answered
    TURNED_HELD = 2                # it has to wait

    ROUTE_HERE = 0
    ROUTE_MOVED = 1
    ROUTE_ASK = 2
    ROUTE_TRYAGAIN = 3
    ROUTE_CROSSSLOT = 4
    ROUTE_UNBOUND = 5              # nobody has the slot
    ROUTE_DOWN = 6
    ROUTE_DOWN_WRITE = 7           # only reads are served while the cluster is down

cdef struct Router:
    u64 plain[PLAIN_WORDS]
    u16 owners[SLOTS]
    u16 migrating[SLOTS]           # who the slot goes to, 0: nobody
    u16 importing[SLOTS]           # who it comes from
    u16 pauses[SLOTS]              # how many hold its writes back
    u32 paused                     # slots that are paused
    u32 state
    u32 primary                    # of whom we are a replica; 0: we are a primary
    u64 endpoints[2][NODES_MAX]    # const char*: host:port, for IPv4 and for IPv6 clients; never freed

cdef struct KeySlots:              # what the keys of a command, or of a transaction, have for slots
    PartSet* parts                 # filled in too, unless NULL
    u32 slot                       # of the first key; SLOTS: there is none
    u32 cross                      # they have several
    u32 paused                     # one of them is paused

cdef Router router

cdef void slots_init(KeySlots* s, PartSet* parts) noexcept nogil
cdef void slots_add(void* key_slots, u32 slot) noexcept nogil       # a slot_visit
# Is this command, with keys of one slot, not for this node or not for now? Then it was answered or is to be held
# (x.turned). The slot's lock is held. txn: a Txn* where the command is EXEC.
cdef bint turned_away(Ctx* x, Command* cmd, void* txn, u32 slot) noexcept nogil
cdef bint turned_many(Ctx* x, Command* cmd, void* txn, KeySlots* s) noexcept nogil     # the same of what slots_add saw
cdef bint turned_early(Ctx* x, Command* cmd) noexcept nogil         # the same without locks
cdef void say_crossslot(Ctx* x) noexcept nogil
cdef u64 request_bytes(Arg* argv, i64 argc) noexcept nogil          # of a command as RESP
cdef void count_slot_out(Worker* w, u32 slot, u64 net_out) noexcept nogil
cdef void count_slot(Worker* w, Ctx* x, u64 cycles, u64 net_out) noexcept nogil
cdef u32 route_blocked(Ctx* x, Command* cmd, u32 slot, u32* node) noexcept nogil
cdef void say_route(OutBuf* o, int fd, u32 route, u32 slot, u32 node) noexcept nogil


cdef inline bint is_plain(u32 slot) noexcept nogil:
    """Is the slot served here, with nothing more to ask?"""
    return atomic_load64(&router.plain[slot >> 6], RELAXED) >> (slot & 63) & 1


cdef inline bint is_ours(u32 slot) noexcept nogil:
    """Does the slot belong to this node, or to its primary?"""
    cdef u32 owner = atomic_load16(&router.owners[slot], RELAXED)
    return owner == OWNER_HERE or (owner and owner == atomic_load32(&router.primary, RELAXED))
