# slotring: data plane
"""Tables and seeds of the two hashes; see hashing.pxd."""
import os
import struct

from engine.defs cimport *


cdef void make_crc16() noexcept nogil:
    cdef u32 i, k, bit, crc
    for i in range(256):
        crc = i << 8
        for bit in range(8):
            crc = ((crc << 1) ^ 0x1021) & 0xFFFF if crc & 0x8000 else (crc << 1) & 0xFFFF
        crc16_table[0][i] = <u16>crc
    for k in range(1, 8):
        for i in range(256):
            crc = crc16_table[k - 1][i]
            crc16_table[k][i] = <u16>((crc << 8) ^ crc16_table[0][crc >> 8])


def slot_of(key: bytes) -> int:
    """Hash slot of a key, hash tag respected."""
    return key_slot(key, len(key))


def hash_of(key: bytes) -> int:
    """The keyed 64-bit hash, for tests."""
    return hash_bytes(key, len(key))


make_crc16()
hash_seed[0], hash_seed[1], hash_seed[2], hash_seed[3] = (
    word | 1 for word in struct.unpack("<4Q", os.urandom(32)))
