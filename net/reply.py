"""Replies of control-plane commands: Python objects and their bytes in RESP2 and RESP3.

None is the null, int a number, bytes a bulk string, str a status line, list and tuple an array, dict a
map, set a set, float a double, bool a boolean; the classes here are the rest.
"""

_INT64 = 1 << 63


class Error(Exception):
    """An error reply: "ERR text", with its code. Raising it in a handler replies it."""

    @property
    def text(self) -> str:
        """The line without its minus sign."""
        return str(self.args[0]) if self.args else "ERR"


class Verbatim:
    """A text with its kind ("txt", "mkd")."""

    __slots__ = ("kind", "text")

    def __init__(self, text: bytes, kind: str = "txt"):
        self.text = text
        self.kind = kind


class Raw(bytes):
    """Bytes that already are a reply; empty: no reply at all."""

    __slots__ = ()


class Push(list):
    """An out-of-band message; an array under RESP2."""

    __slots__ = ()


class Set(list):
    """A set that is sent in this order."""

    __slots__ = ()


class _NullArray:
    __slots__ = ()


NULL_ARRAY = _NullArray()  # "*-1" under RESP2, the null under RESP3
OK = "OK"
NO_REPLY = Raw()


def _line(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if b"\r" in raw or b"\n" in raw:
        raw = raw.replace(b"\r", b" ").replace(b"\n", b" ")
    return raw


def _bulk(out: list[bytes], raw: bytes) -> None:
    out.append(b"$%d\r\n%b\r\n" % (len(raw), raw))


def format_double(value: float) -> bytes:
    """A double as Valkey prints it: the shortest digits, no ".0"."""
    if value != value:
        return b"nan"
    if value in (float("inf"), float("-inf")):
        return b"inf" if value > 0 else b"-inf"
    text = repr(value)
    return text.removesuffix(".0").encode()


def _array(out: list[bytes], sign: bytes, items: object, resp: int) -> None:
    out.append(b"%b%d\r\n" % (sign, len(items)))
    for item in items:
        _put(out, item, resp)


def _number(out: list[bytes], obj: int, resp: int) -> None:
    if -_INT64 <= obj < _INT64:
        out.append(b":%d\r\n" % obj)
    elif resp >= 3:
        out.append(b"(%d\r\n" % obj)
    else:
        _bulk(out, b"%d" % obj)


def _put_rare(out: list[bytes], obj: object, resp: int) -> None:
    if isinstance(obj, Raw):
        out.append(obj)
    elif isinstance(obj, bytes | bytearray | memoryview):
        _bulk(out, bytes(obj))
    elif isinstance(obj, str):
        out.append(b"+%b\r\n" % _line(obj))
    elif isinstance(obj, Error):
        out.append(b"-%b\r\n" % _line(obj.text))
    elif isinstance(obj, Verbatim):
        if resp >= 3:
            body = b"%b:%b" % (obj.kind.encode()[:3], obj.text)
            out.append(b"=%d\r\n%b\r\n" % (len(body), body))
        else:
            _bulk(out, obj.text)
    elif isinstance(obj, Push):
        _array(out, b">" if resp >= 3 else b"*", obj, resp)
    elif isinstance(obj, set | frozenset | Set):
        _array(out, b"~" if resp >= 3 else b"*", obj, resp)
    elif isinstance(obj, list | tuple):
        _array(out, b"*", obj, resp)
    elif isinstance(obj, int):
        _number(out, int(obj), resp)
    elif obj is NULL_ARRAY:
        out.append(b"_\r\n" if resp >= 3 else b"*-1\r\n")
    else:
        raise TypeError(f"no reply can be made of {type(obj).__name__}")


def _put(out: list[bytes], obj: object, resp: int) -> None:
    kind = type(obj)
    if kind is bytes:
        _bulk(out, obj)
    elif kind is int:
        _number(out, obj, resp)
    elif kind is Raw:
        out.append(obj)
    elif obj is None:
        out.append(b"_\r\n" if resp >= 3 else b"$-1\r\n")
    elif kind is list or kind is tuple:
        _array(out, b"*", obj, resp)
    elif kind is dict:
        out.append(b"%%%d\r\n" % len(obj) if resp >= 3 else b"*%d\r\n" % (2 * len(obj)))
        for key, value in obj.items():
            _put(out, key, resp)
            _put(out, value, resp)
    elif kind is bool:
        if resp >= 3:
            out.append(b"#t\r\n" if obj else b"#f\r\n")
        else:
            out.append(b":1\r\n" if obj else b":0\r\n")
    elif kind is float:
        text = format_double(obj)
        if resp >= 3:
            out.append(b",%b\r\n" % text)
        else:
            _bulk(out, text)
    else:
        _put_rare(out, obj, resp)


def pieces(obj: object, resp: int = 2) -> list[bytes]:
    """The bytes of a reply, in pieces: one line or bulk string each, or a Raw of any length."""
    out: list[bytes] = []
    _put(out, obj, resp)
    return out


def encode(obj: object, resp: int = 2) -> bytes:
    """The bytes of a reply."""
    return b"".join(pieces(obj, resp))
