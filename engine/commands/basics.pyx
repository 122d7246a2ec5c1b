# slotring: data plane
"""PING, ECHO, SELECT, TIME."""
from engine.defs cimport *
from engine.store cimport store
from engine.command cimport Ctx, register, S_PUBSUB
from engine.reply cimport (reply_array, reply_bulk, reply_bulk_int, reply_error, reply_ok,
                           reply_raw)
from engine.commands.keys cimport int_arg


cdef void cmd_ping(Ctx* c) noexcept nogil:
    if c.argc > 2:
        reply_error(c.out, b"ERR wrong number of arguments for 'ping' command")
    elif unlikely(c.session.flags & S_PUBSUB) and c.resp == 2:
        reply_array(c.out, 2)
        reply_bulk(c.out, b"pong", 4)
        if c.argc == 2:
            reply_bulk(c.out, c.argv[1].ptr, c.argv[1].len)
        else:
            reply_bulk(c.out, b"", 0)
    elif c.argc == 2:
        reply_bulk(c.out, c.argv[1].ptr, c.argv[1].len)
    else:
        reply_raw(c.out, b"+PONG\r\n")


cdef void cmd_echo(Ctx* c) noexcept nogil:
    reply_bulk(c.out, c.argv[1].ptr, c.argv[1].len)


cdef void cmd_select(Ctx* c) noexcept nogil:
    cdef i64 db
    if not int_arg(c, &c.argv[1], &db, NULL):
        return
    if db < 0 or db >= store.ndbs:
        reply_error(c.out, b"ERR DB index is out of range")
        return
    c.session.db = <u32>db
    c.db = <u32>db
    reply_ok(c.out)


cdef void cmd_time(Ctx* c) noexcept nogil:
    cdef i64 now = wall_us()
    reply_array(c.out, 2)
    reply_bulk_int(c.out, now // 1000000)
    reply_bulk_int(c.out, now % 1000000)


register("ping", -1, "fast", (0, 0, 0), cmd_ping, {
    "since": "1.0.0", "group": "connection", "complexity": "O(1)",
    "summary": "Answers PONG, or the message it was given.", "acl": "connection fast",
    "tips": "request_policy:all_shards response_policy:all_succeeded"})
register("echo", 2, "loading stale fast", (0, 0, 0), cmd_echo, {
    "since": "1.0.0", "group": "connection", "complexity": "O(1)",
    "summary": "Sends its argument back.", "acl": "connection fast"})
register("select", 2, "allow_busy loading stale fast", (0, 0, 0), cmd_select, {
    "since": "1.0.0", "group": "connection", "complexity": "O(1)",
    "summary": "Switches the connection to another database.", "acl": "connection fast"})
register("time", 1, "loading stale fast", (0, 0, 0), cmd_time, {
    "since": "2.6.0", "group": "server", "complexity": "O(1)",
    "summary": "Tells the server's clock as seconds and microseconds.", "acl": "fast",
    "tips": "nondeterministic_output"})
