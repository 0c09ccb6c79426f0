"""An action that reads its own pipe. It prints bytes and takes them back, at random
moments, until the reader of its output has seen them in select(2) and then blocks in
read(2). It then prints nothing more, so that the reader stays blocked."""

from __future__ import annotations

import contextlib
import os
import random
import time
from pathlib import Path
from typing import Iterator, List

ATTEMPTS_FOR = 2.0
"""Seconds after which it gives up."""
_CHECK_AFTER = 0.002


def main() -> None:
    """Try until it works, or for so long."""
    pipe = os.readlink('/proc/self/fd/1')
    ours = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)
    readers = _others_with(pipe)
    end = time.monotonic() + ATTEMPTS_FOR
    while time.monotonic() < end:
        os.write(1, b'x\n')
        spin_until = time.perf_counter() + random.uniform(0, 0.0002)
        while time.perf_counter() < spin_until:
            pass
        with contextlib.suppress(BlockingIOError):
            if os.read(ours, 2):
                time.sleep(_CHECK_AFTER)
                if any(_waits_for(pipe, reader) for reader in readers):
                    time.sleep(1000)


def _others_with(pipe: str) -> List[Path]:
    """The processes besides us and our shell that have the pipe open."""
    us = (os.getpid(), os.getppid())
    return [process for process in Path('/proc').iterdir()
            if process.name.isdigit() and int(process.name) not in us and pipe in _links(process)]


def _links(process: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for descriptor in (process / 'fd').iterdir():
            with contextlib.suppress(OSError):
                yield os.readlink(descriptor)


def _waits_for(pipe: str, process: Path) -> bool:
    """Whether a thread of the process is in a system call whose first argument is the
    pipe: proc(5), /proc/PID/syscall."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        for thread in (process / 'task').iterdir():
            descriptor = int((thread / 'syscall').read_text().split()[1], 16)
            if os.readlink(process / 'fd' / str(descriptor)) == pipe:
                return True
    return False


if __name__ == '__main__':
    main()
