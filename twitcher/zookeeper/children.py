"""Turns the list of child names that a server sends into what an action gets: sorted,
one a line.

Guarantees: names are sorted as their code points are, which is how UTF-8 sorts as
bytes. A list of any length is sorted in steps so short that another thread gets its
turn within some milliseconds.
"""

from __future__ import annotations

import struct
from heapq import merge
from typing import Iterator, List

MAX_AT_ONCE = 20_000
"""Bytes of a list that is short enough to be sorted on the event loop: within two
milliseconds."""

_CHUNK = 8192
"""Names. To sort() is one step, during which no other thread runs; this many take 5 ms."""


def sorted_lines(names: memoryview) -> bytes:
    """The names, each behind its length as ZooKeeper sends them, as sorted lines."""
    chunks = list(_sorted_chunks(names))
    return b''.join(chunks[0] if len(chunks) == 1 else merge(*chunks))


def _sorted_chunks(names: memoryview) -> Iterator[List[bytes]]:
    at, chunk = 0, []
    while at < len(names):
        begin = at + 4
        at = begin + int(struct.unpack_from('!i', names, at)[0])
        chunk.append(bytes(names[begin:at]) + b'\n')
        if len(chunk) == _CHUNK:
            yield sorted(chunk)
            chunk = []
    yield sorted(chunk)
