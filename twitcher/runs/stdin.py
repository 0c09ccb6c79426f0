"""The stdin of an action, filled before the action starts."""

from __future__ import annotations

import fcntl
import os
from typing import Optional

# From linux/fcntl.h; the module fcntl has it from Python 3.10 on.
_F_SETPIPE_SZ = 1031
# The capacity of a new pipe in bytes: pipe(7).
_DEFAULT_SIZE = 65536
# What fits into any new pipe, even if its user has many: pipe(7), pipe-user-pages-soft.
_PAGE = 4096


def open_stdin(contents: Optional[bytes], uid: int = -1, gid: int = -1) -> int:
    """Return a descriptor to read the contents from, which the caller closes.

    It is a pipe if the kernel allows one of that capacity (1 MiB for an ordinary user:
    /proc/sys/fs/pipe-max-size), otherwise an anonymous file, and /dev/null for no
    contents. It belongs to the given user and group, so that they may open /dev/stdin.
    Raises OSError.
    """
    if not contents:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    reader = _filled_pipe(contents)
    if reader is None:
        reader = _filled_file(contents)
    if (uid, gid) != (-1, -1):
        os.fchown(reader, uid, gid)
    return reader


def _filled_pipe(contents: bytes) -> Optional[int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        if len(contents) > _DEFAULT_SIZE:
            fcntl.fcntl(writer, _F_SETPIPE_SZ, len(contents))
        if len(contents) > _PAGE:
            os.set_blocking(writer, False)
        if os.write(writer, contents) == len(contents):
            return reader
    except OSError:  # larger than we may make a pipe
        os.close(reader)
        return None
    finally:
        os.close(writer)
    os.close(reader)
    return None


def _filled_file(contents: bytes) -> int:
    descriptor = os.memfd_create('stdin', os.MFD_CLOEXEC)
    rest = memoryview(contents)
    while rest:
        rest = rest[os.write(descriptor, rest):]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
