"""Restores descriptors of the daemon that a .twc file has closed or replaced."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from typing import Dict, List, Set, Tuple

_FROM = 256
"""The lowest number of a duplicate: a loop that closes the first few misses it."""
NEEDED: Set[int] = set()
"""The pipes, and the files open for reading, that the daemon depends on, kept up to
date by their owners. Others come and go: threads open and close them."""


class KeptDescriptors:
    """Holds duplicates of the descriptors that the daemon depends on.

    It depends on epoll, inotify, NEEDED, socket pairs, files open for writing, stdin,
    stdout and stderr. Other descriptors may come and go: threads connect to ZooKeeper
    and to syslog, and start programs. If the limit of descriptors is reached, the rest
    have no duplicate.
    """

    def __init__(self, are_pairs: Dict[int, bool]) -> None:
        """`are_pairs` is a cache by inode that the caller keeps for the next time."""
        self._duplicates: List[Tuple[int, int, Tuple[int, int]]] = []
        self.numbers: Set[int] = set()
        try:
            names = os.listdir('/proc/self/fd')
        except OSError:  # out of descriptors: none is free to list them with
            return
        for number in map(int, names):
            try:
                status = os.fstat(number)
                self.numbers.add(number)
                if number <= 2 or _is_of_the_loop(number, status, are_pairs):
                    duplicate = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FROM)
                    self._duplicates.append((number, duplicate, (status.st_dev, status.st_ino)))
                    self.numbers.add(duplicate)
            except OSError:  # it is the one that listdir had open, or the limit is reached
                continue

    def close_in_fork(self) -> None:
        """Close the duplicates in a fork by user code: they may hold a lock."""
        for _, duplicate, _ in self._duplicates:
            with contextlib.suppress(OSError):
                os.close(duplicate)

    def put_back(self) -> List[int]:
        """Restore what was closed or replaced. Returns those descriptors. Closes the
        duplicates."""
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
    """Whether it is open for appending, as the log is, which its thread may reopen."""
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return is_file and bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND)
    except OSError:
        return False


def _is_of_the_loop(descriptor: int, status: os.stat_result, are_pairs: Dict[int, bool]) -> bool:
    if descriptor in NEEDED:
        return True
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:  # the state and the log; threads open files only for reading
        return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
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
