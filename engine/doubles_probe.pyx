"""Doubles for the tests (tests/test_doubles.py)."""
from engine.doubles cimport *


def write(double v):
    cdef char buf[DOUBLE_CHARS]
    return buf[:write_double(buf, v)]


def read(bytes text):
    cdef double v
    return v if read_double(text, len(text), &v) else None
