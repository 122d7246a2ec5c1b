"""Times commands on the store alone: no socket, no parsing, one thread. perf/micro.py prints what it finds."""
from libc.string cimport memset, memcpy
from engine.defs cimport *
from engine.arena cimport memory_used_atomic
from engine.command cimport Arg, Command, Ctx, Session, command_find
from engine.keyspace cimport key_init
from engine.lock cimport lock, unlock
from engine.reply cimport ChunkPool, OutBuf, out_free, out_init

cdef enum:
    KEY_BYTES = 16


cdef void write_key(char* p, u64 number) noexcept nogil:
    """key:000000000123"""
    cdef int i
    for i in range(KEY_BYTES - 1, 3, -1):
        p[i] = <char>(c'0' + number % 10)
        number //= 10


cdef void loop(Ctx* c, u64 first, u64 count, u64 keys, bint shuffled) noexcept nogil:
    """The command of c on `count` keys, from a place on or in random order."""
    cdef u64 i, state = 88172645463325252
    for i in range(count):
        if shuffled:
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            write_key(c.argv[1].ptr, state % keys)
        else:
            write_key(c.argv[1].ptr, (first + i) % keys)
        key_init(c, &c.key, &c.argv[1])
        lock(&c.key.part.lock)
        c.cmd.fn(c)
        unlock(&c.key.part.lock)
        if c.out.chunks > 4:
            out_free(c.out)


def run(list words, u64 count, u64 keys, bint shuffled=True) -> tuple:
    """Runs [name, b"", value …] so often; (nanoseconds a command, bytes of memory that it took)."""
    cdef Ctx c
    cdef Session session
    cdef ChunkPool pool
    cdef OutBuf out
    cdef Arg args[8]
    cdef char key[KEY_BYTES]
    cdef bytes name = words[0], word
    cdef int i
    cdef i64 before = memory_used_atomic, started
    memset(&c, 0, sizeof(c))
    memset(&session, 0, sizeof(session))
    memset(&pool, 0, sizeof(pool))
    session.resp = c.resp = 2
    memcpy(key, b"key:000000000000", KEY_BYTES)
    out_init(&out, &pool)
    if not 2 <= len(words) <= 8:
        raise ValueError("a name, a place for the key, and up to six words")
    for i in range(<int>len(words)):
        word = words[i]
        args[i].ptr = word
        args[i].len = len(word)
    args[1].ptr = key
    args[1].len = KEY_BYTES
    c.argv = args
    c.argc = len(words)
    c.out = &out
    c.session = &session
    c.now_ms = wall_us() // 1000
    c.random = 88172645463325252
    c.cmd = command_find(name, len(name), NULL, 0)
    if c.cmd == NULL or c.cmd.fn == NULL:
        raise ValueError(f"{name!r} is not a command of the data plane")
    started = mono_us()
    with nogil:
        loop(&c, 0, count, keys, shuffled)
    started = mono_us() - started
    if out.errors:
        raise ValueError(f"{name!r} replied {out.errors} errors")
    out_free(&out)
    return started * 1000.0 / count, memory_used_atomic - before
