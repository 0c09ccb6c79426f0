"""The daemon's descriptors while user code is executed in it: what is closed behind its back is put back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from typing import Dict, List, Set, Tuple

_FROM = 256
"""Where the duplicates are: above those that a loop over the first few descriptors closes."""


PIPES: Set[int] = set()
"""The pipes that the daemon depends on, kept up to date by their owners. A thread that
starts a program opens and closes others."""


class KeptDescriptors:
    """A duplicate of each descriptor that the daemon depends on, so far as there is room for it.

    Those are epoll, inotify, PIPES, pairs of sockets, files that are written, stdin, stdout and stderr. Others may come and
    go meanwhile: threads connect to ZooKeeper and to syslog, and start programs.
    """

    def __init__(self, are_pairs: Dict[int, bool]) -> None:
        """`are_pairs` is a cache, by inode, for the next ones as well."""
        self._duplicates: List[Tuple[int, int, Tuple[int, int]]] = []
        self.numbers: Set[int] = set()
        try:
            names = os.listdir('/proc/self/fd')
        except OSError:  # no descriptor left to list them with
            return
        for number in map(int, names):
            try:
                status = os.fstat(number)
                self.numbers.add(number)
                if number <= 2 or _is_of_the_loop(number, status, are_pairs):
                    duplicate = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FROM)
                    self._duplicates.append((number, duplicate, (status.st_dev, status.st_ino)))
                    self.numbers.add(duplicate)
            except OSError:  # the one that listed them; or the limit is reached
                continue

    def close_in_fork(self) -> None:
        """In a process that has been forked meanwhile: close the duplicates, which may hold a lock."""
        for _, duplicate, _ in self._duplicates:
            with contextlib.suppress(OSError):
                os.close(duplicate)

    def put_back(self) -> List[int]:
        """Those that are gone, or were something else by now. Closes the duplicates."""
        lost = []
        for number, duplicate, identity in self._duplicates:
            if _identity(number) != identity and not (_is_log(number) and _is_log(duplicate)):
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


def _is_log(descriptor: int) -> bool:
    """Whether it is a file that is appended to. Its thread may open it again."""
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return is_file and bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND)
    except OSError:
        return False


def _is_of_the_loop(descriptor: int, status: os.stat_result, are_pairs: Dict[int, bool]) -> bool:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:  # the state and the log; what threads open is read
        return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
    if kind == stat.S_IFIFO:
        return descriptor in PIPES
    if kind != stat.S_IFSOCK:
        return kind == 0
    if status.st_ino not in are_pairs:
        if len(are_pairs) > 1000:
            are_pairs.clear()
        are_pairs[status.st_ino] = _is_pair(descriptor)
    return are_pairs[status.st_ino]


def _is_pair(descriptor: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as found:
            return found.family == socket.AF_UNIX and not found.getsockname() and not found.getpeername()
    except OSError:
        return False
