# What clients in MONITOR are sent: a line for each command, made without the interpreter.
from engine.defs cimport i64
from net.conn cimport Worker, Conn
from engine.command cimport Arg

cdef void feed_monitors(Worker* w, Conn* c, Arg* argv, i64 argc) noexcept nogil
