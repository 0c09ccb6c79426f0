"""The daemon's descriptors while user code is executed in it: what is closed behind its back is put back."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from typing import Dict, List, Set, Tuple


class KeptDescriptors:
    """A duplicate of each descriptor that is open now, so far as there is room for it.

    TCP connections are left out: kazoo's thread may close and open its own at any time, and survives to lose one.
    """

    def __init__(self, are_tcp: Dict[int, bool]) -> None:
        """`are_tcp` is a cache, by inode, for the next ones as well."""
        self._duplicates: List[Tuple[int, int, Tuple[int, int]]] = []
        self.numbers: Set[int] = set()
        try:
            names = os.listdir('/proc/self/fd')
        except OSError:  # no descriptor left to list them with
            return
        for number in map(int, names):
            try:
                duplicate = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
            except OSError:  # the one that listed them; or the limit is reached
                continue
            status = os.fstat(duplicate)
            if stat.S_ISSOCK(status.st_mode) and _is_tcp(duplicate, status.st_ino, are_tcp):
                os.close(duplicate)
                continue
            self._duplicates.append((number, duplicate, (status.st_dev, status.st_ino)))
            self.numbers |= {number, duplicate}

    def put_back(self) -> List[int]:
        """Those that are gone, or were something else by now. Closes the duplicates."""
        lost = []
        for number, duplicate, identity in self._duplicates:
            if _identity(number) != identity:
                lost.append(number)
                if _identity(duplicate) == identity:
                    os.dup2(duplicate, number, inheritable=number <= 2)
        for _, duplicate, identity in self._duplicates:
            if _identity(duplicate) == identity:
                os.close(duplicate)
        return lost


def _identity(descriptor: int) -> Tuple[int, int]:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return (-1, -1)
    return (status.st_dev, status.st_ino)


def _is_tcp(descriptor: int, inode: int, known: Dict[int, bool]) -> bool:
    if inode not in known:
        if len(known) > 1000:
            known.clear()
        found = socket.socket(fileno=descriptor)
        known[inode] = found.family in (socket.AF_INET, socket.AF_INET6)
        found.detach()
    return known[inode]
