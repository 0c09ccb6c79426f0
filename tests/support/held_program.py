"""A program that cannot be executed for a while: what a dead NFS server does, or an on-access scanner."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List

_HOLD = '''
import fcntl, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
held = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
for descriptor in held:
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()
'''


def write_script(path: Path, text: str) -> Path:
    """An executable file that /bin/sh interprets."""
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def exec_blocked(*paths: Path) -> Iterator[None]:
    """In a with block: an exec of one of these programs waits, for up to 45 s: fcntl(2), leases."""
    with subprocess.Popen([sys.executable, '-c', _HOLD, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline() == b'held\n'
        try:
            yield
        finally:
            holder.stdin.close()


def children_before_exec(parent: int) -> List[int]:
    """The children of the daemon that are about to execute an action.

    They still have its command line, and a pipe as stdout; twitcher-output has none.
    """
    found = []
    for path in Path('/proc').glob('[0-9]*'):
        try:
            fields = (path / 'stat').read_text().rpartition(')')[2].split()
            if int(fields[1]) == parent and b'bin/twitcher\0' in (path / 'cmdline').read_bytes() \
                    and os.readlink(path / 'fd/1').startswith('pipe:'):
                found.append(int(path.name))
        except (OSError, IndexError):
            continue
    return found
