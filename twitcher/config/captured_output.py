"""Captures what a .twc file prints, in the sys.stdout and sys.stderr that it finds.

While the file is loading, its lines are collected for the daemon's log. The file may
keep the two streams for its functions; in the process of a function they write to that
process's stdout and stderr.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, TextIO

MAX_PRINTED = 100_000
"""Bytes of the output of one file that are kept; the rest is dropped and counted."""


class _Sink(io.RawIOBase):
    """Writes the bytes of one stream to the place that is in use now: the collected
    lines, a stream, or the descriptor."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.printed: Optional[_Printed] = None
        self.stream: Optional[TextIO] = None

    def write(self, data: Any) -> int:
        """As io.RawIOBase says."""
        if self.printed:
            self.printed.add(self._descriptor, bytes(data))
            return len(data)
        if self.stream:
            self.stream.flush()
        return os.write(self._descriptor, data)

    def writable(self) -> bool:
        """As io.IOBase says."""
        return True

    def fileno(self) -> int:
        """As io.IOBase says. A process that the file starts writes to the daemon's
        descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """As io.IOBase says."""
        return False


class _Printed:
    """The output of one file."""

    def __init__(self) -> None:
        self._lines: List[bytes] = []
        self._open = {1: b'', 2: b''}
        self._size = 0
        self._dropped = 0

    def add(self, descriptor: int, data: bytes) -> None:
        """Add output of stdout (1) or stderr (2)."""
        kept = data[:max(0, MAX_PRINTED - self._size)]
        self._size += len(kept)
        self._dropped += len(data) - len(kept)
        *lines, self._open[descriptor] = (self._open[descriptor] + kept).split(b'\n')
        self._lines += lines

    def lines(self) -> List[str]:
        """The lines in order, with a last one about dropped bytes if there are any."""
        lines = [line.decode('utf-8', 'backslashreplace') for line in (*self._lines, *filter(None, self._open.values()))]
        if self._dropped:
            lines.append(f'... and {self._dropped} bytes more, which are not logged; allowed: {MAX_PRINTED}')
        return lines


class _Streams:
    """The pair of streams that all files use, one file at a time."""

    def __init__(self) -> None:
        self.sinks: List[Any] = []
        self.texts: List[Any] = []

    def renew(self) -> None:
        """Make a new pair, because a file has closed or detached the old one."""
        self.sinks = [_Sink(1), _Sink(2)]
        self.texts = [io.TextIOWrapper(sink, 'utf-8', 'backslashreplace',  # raw: unbuffered
                                       line_buffering=True, write_through=True) for sink in self.sinks]

    def are_usable(self) -> bool:
        """Whether they are still open and attached to their sinks."""
        try:
            return bool(self.texts) and not any(text.closed or text.buffer is not sink
                                                for text, sink in zip(self.texts, self.sinks))
        except ValueError:
            return False


_STREAMS = _Streams()


@contextmanager
def printing_collected() -> Iterator[_Printed]:
    """Collect what is printed in the block."""
    if not _STREAMS.are_usable():
        _STREAMS.renew()
    printed = _Printed()
    sinks = _STREAMS.sinks
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _STREAMS.texts
    for sink in sinks:
        sink.printed = printed
    try:
        yield printed
    finally:
        for sink in sinks:
            sink.printed = None
        sys.stdout, sys.stderr = before


def print_to(stdout: TextIO, stderr: TextIO) -> None:
    """In the process of a function: let the streams that the file has kept write in
    order with these."""
    for sink, stream in zip(_STREAMS.sinks, (stdout, stderr)):
        sink.stream = stream
