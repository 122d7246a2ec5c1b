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


AGGREGATES = {ord("*"): list, ord("~"): Set, ord(">"): Push, ord("%"): dict, ord("|"): None}
WITH_BULK = frozenset(b"$=!")


class Parser:
    """Bytes in, replies out. What it has read of a reply it keeps, so that long ones are read once."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._more: list[bytes] = []  # what came since, joined when it can be enough
        self._more_bytes = 0
        self._needed = 0  # bytes of _data that the bulk string on its way ends with
        self._open: list[tuple[int, list, int]] = []  # aggregates on their way: kind, items, how many there will be

    def feed(self, data: bytes) -> None:
        """Takes what came."""
        self._more.append(data)
        self._more_bytes += len(data)

    @property
    def pending(self) -> bytes:
        """What came and was not yet read."""
        return b"".join([self._data[self._at :], *self._more])

    def next(self) -> object:
        """The next reply, or NOTHING."""
        if self._more and len(self._data) + self._more_bytes >= self._needed:
            self._data = self.pending
            self._at = self._needed = self._more_bytes = 0
            self._more = []
        while True:
            if self._open:
                self._bulks(*self._open[-1][1:])
            if (value := self._value()) is NOTHING:
                return NOTHING
            while self._open:
                kind, items, count = self._open[-1]
                items.append(value)
                if len(items) < count:
                    break
                self._open.pop()
                if kind == ord("|"):  # attributes come before the reply that they describe
                    break
                value = self._whole(kind, items)
            else:
                return value

    def _bulks(self, items: list, count: int) -> None:
        """The bulk strings that come next in an aggregate, all but its last item: most of what tests read, so in one
        loop."""
        data, at = self._data, self._at
        find, have = data.find, len(data)
        for _ in range(count - 1 - len(items)):
            if data[at : at + 1] != b"$" or (end := find(b"\r\n", at)) < 0:
                break
            first = end + 2
            end = first + int(data[at + 1 : end])
            if end < first or end + 2 > have or data[end : end + 2] != b"\r\n":
                break  # null, cut or wrong
            items.append(data[first:end])
            at = end + 2
        self._at = at

    @staticmethod
    def _whole(kind: int, items: list) -> object:
        if kind == ord("%"):
            return dict(zip(items[::2], items[1::2], strict=True))
        return items if kind == ord("*") else AGGREGATES[kind](items)

    def _value(self) -> object:
        """The next value that is not an aggregate of something; heads of those are noted on the way."""
        data = self._data
        while True:
            at = self._at
            end = data.find(b"\r\n", at)
            if end < 0:
                return NOTHING
            kind = data[at]
            if kind in WITH_BULK:
                return self._bulk(kind, int(data[at + 1 : end]), end + 2)
            self._at = end + 2
            if kind not in AGGREGATES:
                return self._simple(kind, data[at + 1 : end])
            count = int(data[at + 1 : end])
            if count < 0:
                return None
            if count:
                self._open.append((kind, [], 2 * count if kind in b"%|" else count))
            elif kind != ord("|"):
                return self._whole(kind, [])

    def _bulk(self, kind: int, size: int, at: int) -> object:
        data, end = self._data, at + size
        if size < 0:
            self._at = at
            return None
        if len(data) < end + 2:
            self._needed = end + 2
            return NOTHING
        if data[end : end + 2] != b"\r\n":
            raise ValueError(f"no CRLF after a bulk string of {size} bytes")
        self._at = end + 2
        if kind == ord("$"):
            return data[at:end]
        return data[at + 4 : end] if kind == ord("=") else Error(data[at:end].decode("utf-8", "backslashreplace"))

    @staticmethod
    def _simple(kind: int, rest: bytes) -> object:
        if kind == ord("+"):
            return rest
        if kind in b":(":
            return int(rest)
        if kind == ord("-"):
            return Error(rest.decode("utf-8", "backslashreplace"))
        if kind == ord("_"):
            return None
        if kind == ord("#"):
            return rest == b"t"
        if kind == ord(","):
            return float(rest)
        raise ValueError(f"not a reply: {bytes([kind]) + rest[:80]!r}")


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
        """The next `count` replies; Closed, or TimeoutError where nothing comes for that time (or little for five
        times as long). A long reply that comes late but whole is none: a machine that stood still proves nothing."""
        allowed_s = timeout_s or self.timeout_s
        begun = last = time.monotonic()
        longest_s, pieces = 0.0, 0
        found: list = []
        while len(found) < count:
            value = self.parser.next()
            if value is not NOTHING:
                found.append(value)
                continue
            self.socket.settimeout(allowed_s)
            try:
                if last - begun > 5 * allowed_s:
                    raise TimeoutError
                data = self.socket.recv(RECV_BYTES)
            except TimeoutError:
                came = f"{pieces} pieces in {last - begun:.1f} s, at most {longest_s:.1f} s apart, then silence"
                raise TimeoutError(
                    f"{len(found)} of {count} replies, then {self.parser.pending[:80]!r}; {came}") from None
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed(f"{len(found)} of {count} replies")
            now = time.monotonic()
            longest_s, last, pieces = max(longest_s, now - last), now, pieces + 1
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
