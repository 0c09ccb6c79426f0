"""Turns a server's list of child names into an action's stdin: sorted, one per line.

Guarantees: names are sorted by code point, which for UTF-8 is the order of their bytes.
A list of any length is sorted in steps so short that another thread gets its turn
within some milliseconds.
"""

from __future__ import annotations

import struct
import threading
from heapq import merge
from typing import Callable, Iterator, List

MAX_AT_ONCE = 20_000
"""Bytes. A list no longer than this can be sorted on the event loop: it takes two
milliseconds at most."""

_CHUNK = 8192
"""Names. sort() is one step, during which no other thread runs; this many take 5 ms."""


def sorted_lines(names: memoryview) -> bytes:
    """The names, which ZooKeeper sends with their lengths, as sorted lines."""
    chunks = list(_sorted_chunks(names))
    return b''.join(chunks[0] if len(chunks) == 1 else merge(*chunks))


class Sorter:
    """Sorts long lists in threads of their own, one list at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def sort(self, names: memoryview, done: Callable[[bytes], None], failed: Callable[[Exception], None]) -> None:
        """Call `done` with the sorted lines, or `failed`, in the thread."""
        threading.Thread(target=self._sort, args=(names, done, failed), name='sort', daemon=True).start()

    def _sort(self, names: memoryview, done: Callable[[bytes], None], failed: Callable[[Exception], None]) -> None:
        try:
            with self._lock:
                lines = sorted_lines(names)
            done(lines)
        except Exception as error:
            failed(error)


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
