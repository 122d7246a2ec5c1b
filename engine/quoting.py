"""Words of a configuration line, their quoted form, and amounts of memory."""

from engine.shared import find

_SPACE = b" \t\n\v\f\r"
_BREAK = b" \t\n\r"
_HEX = b"0123456789abcdefABCDEF"
_UNESCAPE = {0x6E: 10, 0x72: 13, 0x74: 9, 0x62: 8, 0x61: 7}
_ESCAPE = {10: b"\\n", 13: b"\\r", 9: b"\\t", 7: b"\\a", 8: b"\\b", 0x22: b'\\"', 0x5C: b"\\\\"}
_UNITS = {
    "": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 10**6, "mb": 1 << 20, "g": 10**9, "gb": 1 << 30,
}
_U64 = (1 << 64) - 1


def _double_quoted(line: bytes, at: int, word: bytearray) -> int:
    """Reads up to the closing quote; its place, or -1 where there is none."""
    end = len(line)
    while at < end:
        byte = line[at]
        if byte == 0x22:
            return at
        if byte == 0x5C and at + 1 < end:
            following = line[at + 1]
            if following == 0x78 and at + 3 < end and line[at + 2] in _HEX and line[at + 3] in _HEX:
                word.append(int(line[at + 2 : at + 4], 16))
                at += 4
            else:
                word.append(find(_UNESCAPE, following, following))
                at += 2
            continue
        word.append(byte)
        at += 1
    return -1


def _single_quoted(line: bytes, at: int, word: bytearray) -> int:
    """As _double_quoted; only the quote itself can be escaped."""
    end = len(line)
    while at < end:
        byte = line[at]
        if byte == 0x27:
            return at
        if byte == 0x5C and line[at + 1 : at + 2] == b"'":
            word.append(0x27)
            at += 2
            continue
        word.append(byte)
        at += 1
    return -1


def split_args(line: bytes) -> list[bytes] | None:
    """The words of a line, quotes resolved; None where a quote is not closed."""
    words = []
    end = line.find(b"\0")
    if end < 0:
        end = len(line)
    else:
        line = line[:end]
    at = 0
    while True:
        while at < end and line[at] in _SPACE:
            at += 1
        if at >= end:
            return words
        word = bytearray()
        while at < end and line[at] not in _BREAK:
            byte = line[at]
            at += 1
            if byte not in b"\"'":
                word.append(byte)
                continue
            inside = _double_quoted if byte == 0x22 else _single_quoted
            at = inside(line, at, word) + 1
            if at == 0:
                return None
        words.append(bytes(word))


def quote(raw: bytes) -> bytes:
    """Bytes in double quotes, so that split_args gives them back."""
    out = bytearray(b'"')
    for byte in raw:
        if byte in _ESCAPE:        # (rarely: find would raise and catch for nearly every byte)
            out += _ESCAPE[byte]
        elif 0x20 <= byte < 0x7F:
            out.append(byte)
        else:
            out += b"\\x%02x" % byte
    out += b'"'
    return bytes(out)


def needs_quotes(raw: bytes) -> bool:
    """Would split_args read these bytes as something else than one word?"""
    return not raw or any(not 0x20 < byte < 0x7F or byte in b"\"'\\" for byte in raw)


def parse_memory(text: str) -> int | None:
    """Bytes of "64", "5mb", "1G"; None where the text is no amount. Wraps at 64 bits."""
    digits = 0
    while digits < len(text) and "0" <= text[digits] <= "9":
        digits += 1
    unit = find(_UNITS, text[digits:].lower())
    if unit is None or digits >= 128:
        return None
    value = int(text[:digits] or "0")
    return None if value > _U64 else (value * unit) & _U64


def format_memory(value: int) -> str:
    """An amount in the largest unit that divides it."""
    for shift, unit in ((30, "gb"), (20, "mb"), (10, "kb")):
        if value and not value & ((1 << shift) - 1):
            return f"{value >> shift}{unit}"
    return str(value)
