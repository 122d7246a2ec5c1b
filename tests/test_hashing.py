"""The two hashes of a key: the protocol's slot, and the table's."""
import binascii

from hypothesis import given
from hypothesis import strategies as st

from engine import hashing


def slot(key: bytes) -> int:
    """The rule of the cluster specification, by the standard library's CRC16."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1:end]
    return binascii.crc_hqx(key, 0) % 16384


def test_check_value():
    assert hashing.slot_of(b"123456789") == 0x31C3 % 16384


@given(st.binary(max_size=100) | st.text("{}ab", max_size=12).map(str.encode))
def test_slot_is_the_specifications(key):
    assert hashing.slot_of(key) == slot(key)


@given(st.binary(max_size=64))
def test_hash_depends_on_every_byte(key):
    for i in range(len(key)):
        other = key[:i] + bytes([key[i] ^ 1]) + key[i + 1:]
        assert hashing.hash_of(other) != hashing.hash_of(key)
