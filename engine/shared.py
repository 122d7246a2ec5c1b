"""Reading what threads share."""

from __future__ import annotations


def find(table: dict, key: object, default: object = None) -> object:
    """table.get(key, default), for a dict that another thread has made.

    Where dict.get of free-threaded CPython 3.13 finds a key in such a dict it waits for a lock that it holds itself:
    forty times sched_yield, 14 µs at best, seconds where the machine is busy. A subscript does not.
    """
    try:
        return table[key]
    except KeyError:
        return default
