"""A small RESP2 and RESP3 codec, and a raw connection that shows what really came over the socket.

The codec is sans-IO: `Parser.feed` takes bytes however they were cut, `Parser.next` gives whole
replies. Values: simple and bulk strings are bytes, errors are `Error`, numbers int or float, null
None, maps dict, sets and pushes lists of their own kind, verbatim strings bytes, format cut off.
"""

import socket
import time

NOTHING = object()  # what Parser.next returns while a reply is incomplete
DEFAULT_TIMEOUT_S = 20.0
RECV_BYTES = 1 << 18


class Error(str):
    """An error reply; equal to its text, never to a string reply (those are bytes)."""


class Push(list):
    """A RESP3 push."""


class Set(list):
    """A RESP3 set, in the order in which it came."""


class Closed(Exception):
    """The server closed the connection before the reply was complete."""


def encode(*args: bytes | str | int | float) -> bytes:
    """One command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Parser:
    """Bytes in, replies out."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Takes what came."""
        if self._at > 1 << 20:
            del self._data[: self._at]
            self._at = 0
        self._data += data

    @property
    def pending(self) -> bytes:
        """What came and was not yet part of a whole reply."""
        return bytes(self._data[self._at :])

    def next(self) -> object:
        """The next reply, or NOTHING."""
        try:
            value, self._at = self._value(self._at)
        except IndexError:
            return NOTHING
        return value

    def _line(self, at: int) -> tuple[bytes, int]:
        end = self._data.find(b"\r\n", at)
        if end < 0:
            raise IndexError
        return bytes(self._data[at:end]), end + 2

    def _items(self, count: int, at: int) -> tuple[list, int]:
        items = []
        for _ in range(count):
            value, at = self._value(at)
            items.append(value)
        return items, at

    def _bulk(self, line: bytes, at: int) -> tuple[bytes | None, int]:
        size = int(line[1:])
        if size < 0:
            return None, at
        if len(self._data) < at + size + 2:
            raise IndexError
        if self._data[at + size : at + size + 2] != b"\r\n":
            raise ValueError(f"no CRLF after a bulk string of {size} bytes")
        return bytes(self._data[at : at + size]), at + size + 2

    def _value(self, at: int) -> tuple[object, int]:
        line, at = self._line(at)
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return self._bulk(line, at)
        if kind == b"+":
            return rest, at
        if kind == b":":
            return int(rest), at
        if kind == b"-":
            return Error(rest.decode("utf-8", "backslashreplace")), at
        if kind in (b"*", b"~", b">"):
            if int(rest) < 0:
                return None, at
            items, at = self._items(int(rest), at)
            return {b"*": list, b"~": Set, b">": Push}[kind](items), at
        return self._value_of_resp3(kind, rest, line, at)

    def _value_of_resp3(self, kind: bytes, rest: bytes, line: bytes, at: int) -> tuple[object, int]:
        if kind == b"%":
            items, at = self._items(2 * int(rest), at)
            return dict(zip(items[::2], items[1::2], strict=True)), at
        if kind == b"|":  # attributes come before the reply they describe
            _, at = self._items(2 * int(rest), at)
            return self._value(at)
        if kind == b"_":
            return None, at
        if kind == b"#":
            return rest == b"t", at
        if kind == b",":
            return float(rest), at
        if kind == b"(":
            return int(rest), at
        if kind == b"=":
            text, at = self._bulk(line, at)
            return text[4:], at
        if kind == b"!":
            text, at = self._bulk(line, at)
            return Error(text.decode("utf-8", "backslashreplace")), at
        raise ValueError(f"not a reply: {line[:80]!r}")


class Raw:
    """A connection to a server, byte by byte."""

    def __init__(self, port: int, timeout_s: float = DEFAULT_TIMEOUT_S, recv_bytes: int = 0):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if recv_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, recv_bytes)
        self.socket.settimeout(timeout_s)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout_s = timeout_s
        self.parser = Parser()

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes our side."""
        self.socket.close()

    def half_close(self) -> None:
        """Says that we send no more."""
        self.socket.shutdown(socket.SHUT_WR)

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def replies(self, count: int, timeout_s: float | None = None) -> list:
        """The next `count` replies; Closed or TimeoutError where they do not come."""
        deadline = time.monotonic() + (timeout_s or self.timeout_s)
        found: list = []
        while len(found) < count:
            value = self.parser.next()
            if value is not NOTHING:
                found.append(value)
                continue
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                rest = self.parser.pending[:80]
                raise TimeoutError(f"{len(found)} of {count} replies, then {rest!r}")
            self.socket.settimeout(left_s)
            try:
                data = self.socket.recv(RECV_BYTES)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed(f"{len(found)} of {count} replies")
            self.parser.feed(data)
        return found

    def reply(self, timeout_s: float | None = None) -> object:
        """The next reply."""
        return self.replies(1, timeout_s)[0]

    def call(self, *args: bytes | str | int | float) -> object:
        """One command and its reply."""
        self.send(encode(*args))
        return self.reply()

    def pipeline(self, commands: list[tuple]) -> list:
        """Several commands in one send, and their replies."""
        self.send(b"".join(encode(*command) for command in commands))
        return self.replies(len(commands))

    def is_closed(self, timeout_s: float = 5.0) -> bool:
        """Does the server close the connection within that time? What it still sends is skipped."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left_s)
            try:
                data = self.socket.recv(RECV_BYTES)
            except TimeoutError:
                return False
            except (ConnectionResetError, BrokenPipeError):
                return True
            if not data:
                return True
        return False
