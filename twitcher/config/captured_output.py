"""What a .twc file prints: sys.stdout and sys.stderr as the file finds them.

While the file is loaded its lines are collected for the daemon's log. In the process of one of its functions the same
two streams, which the file may have kept, write to that process's stdout and stderr.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, TextIO

MAX_PRINTED = 100_000
"""Bytes that are kept of what one file prints while it is loaded."""


class _Sink(io.RawIOBase):
    """Takes the bytes of one stream to wherever they belong at the moment."""

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
        """As io.IOBase says. A process that the file starts writes to the daemon's own descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """As io.IOBase says."""
        return False


class _Printed:
    """The lines of one file."""

    def __init__(self) -> None:
        self._lines: List[bytes] = []
        self._open = {1: b'', 2: b''}
        self._size = 0
        self._dropped = 0

    def add(self, descriptor: int, data: bytes) -> None:
        """Take what is printed to stdout or stderr."""
        kept = data[:max(0, MAX_PRINTED - self._size)]
        self._size += len(kept)
        self._dropped += len(data) - len(kept)
        *lines, self._open[descriptor] = (self._open[descriptor] + kept).split(b'\n')
        self._lines += lines

    def lines(self) -> List[str]:
        """The lines in order, the last of which may be one about what was not kept."""
        lines = [line.decode('utf-8', 'backslashreplace') for line in (*self._lines, *filter(None, self._open.values()))]
        if self._dropped:
            lines.append(f'... and {self._dropped} bytes more, which are not logged; allowed: {MAX_PRINTED}')
        return lines


class _Streams:
    """One pair for all files: it serves one at a time."""

    def __init__(self) -> None:
        self.sinks: List[Any] = []
        self.texts: List[Any] = []

    def renew(self) -> None:
        """A file may have closed or detached what it found."""
        self.sinks = [_Sink(1), _Sink(2)]
        self.texts = [io.TextIOWrapper(sink, 'utf-8', 'backslashreplace',  # raw: unbuffered
                                       line_buffering=True, write_through=True) for sink in self.sinks]

    def are_usable(self) -> bool:
        """Whether they are as they were made."""
        try:
            return bool(self.texts) and not any(text.closed or text.buffer is not sink
                                                for text, sink in zip(self.texts, self.sinks))
        except ValueError:
            return False


_STREAMS = _Streams()


@contextmanager
def printing_collected() -> Iterator[_Printed]:
    """Collect what is printed inside."""
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
    """In the process of a function: let what the file has kept of its streams write in order with these."""
    for sink, stream in zip(_STREAMS.sinks, (stdout, stderr)):
        sink.stream = stream
