"""Locks in the state directory: only one daemon serves a configuration directory.

The daemon holds the locks (flock(2)) from before it detaches until it has written its
state for the last time. Other spellings of the directory's path lead to the same lock.
This module also names the file of the state, which belongs to the holder of the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from typing import Dict, List
from zlib import crc32

from twitcher.errors import LockedError

LOCK_TIMEOUT = 1.0
"""Seconds to wait for a daemon that is about to exit and to release its lock."""
_MAX_READABLE = 40
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class StateLock:
    """The right to serve `config_path` with the state in `directory`, both absolute
    paths."""

    def __init__(self, directory: str, config_path: str) -> None:
        self._directory = directory
        self._config_path = config_path
        self.name = _name(config_path)
        """The beginning of the names of the state's files."""
        self._held: Dict[str, int] = {}

    @property
    def descriptors(self) -> List[int]:
        """The locked descriptors. A fork that keeps them open keeps the locks."""
        return list(self._held.values())

    def acquire(self, timeout: float = 0.0) -> None:
        """Take the locks that we do not hold yet. Waits for at most `timeout` seconds.

        Raises LockedError if another daemon holds one, OSError if the state directory
        cannot be used.
        """
        os.makedirs(self._directory, mode=0o755, exist_ok=True)
        deadline = time.monotonic() + timeout
        before = set(self._held)
        try:
            for name in self._names():
                self._lock(os.path.join(self._directory, f'{name}.0.lock'), deadline)
            self._rename_from_2_0_0()
        except BaseException:
            for path in set(self._held) - before:
                os.close(self._held.pop(path))
            raise

    def write_pid(self) -> None:
        """Write our pid into the locked files, for the error message of a second
        daemon."""
        for descriptor in self._held.values():
            with contextlib.suppress(OSError):  # the disk may be full; the lock holds without it
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f'{os.getpid()}\n'.encode(), 0)

    def release_in_forks(self) -> None:
        """Close the locks in processes that are forked from now on: one that a .twc
        file forks may outlive us. Call it once."""
        os.register_at_fork(after_in_child=self.close)

    def close(self) -> None:
        """Release the locks."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _names(self) -> List[str]:
        """The names to lock: for the path as given, for the directory that it resolves
        to, and for the same two as release 2.0.0 names them."""
        paths = (self._config_path, os.path.realpath(self._config_path))
        names = [self.name, _name(paths[1])]
        names += [old for old in map(_name_in_2_0_0, paths)
                  if os.path.exists(os.path.join(self._directory, f'{old}.0.lock'))]
        return list(dict.fromkeys(names))

    def _lock(self, path: str, deadline: float) -> None:
        while not self._is_current(path):
            if path in self._held:
                os.close(self._held.pop(path))
            descriptor = os.open(path, _FLAGS, 0o600)
            try:
                status = os.fstat(descriptor)
                owners = (os.geteuid(), os.stat(self._directory).st_uid)
                if not stat.S_ISREG(status.st_mode) or status.st_uid not in owners:
                    raise OSError(errno.EPERM, 'it is not a file of our own', path)
                os.fchmod(descriptor, 0o600)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(descriptor, 20, 0).decode('ascii', 'replace').strip()
                is_late = time.monotonic() >= deadline
                if not is_late:
                    time.sleep(LOCK_TIMEOUT / 20)
                os.close(descriptor)
                if is_late:
                    raise LockedError(
                        f'a twitcher{f" with pid {pid}" if pid else ""} serves {self._config_path} already, with its state '
                        f'in {self._directory}; allowed: another --config_path, or, on purpose, another --state_dir'
                    ) from None
            except BaseException:
                os.close(descriptor)
                raise
            else:
                self._held[path] = descriptor

    def _is_current(self, path: str) -> bool:
        """Whether the file at the path is the one that we have locked: it may have been
        removed, or the whole directory."""
        try:
            return path in self._held and os.path.samestat(os.fstat(self._held[path]), os.stat(path))
        except FileNotFoundError:
            return False

    def _rename_from_2_0_0(self) -> None:
        """Rename the files of release 2.0.0, whose names could begin with a hyphen,
        which `rm *` takes for an option."""
        old, new = (os.path.join(self._directory, name) for name in (_name_in_2_0_0(self._config_path), self.name))
        if old == new:
            return
        if os.path.exists(f'{old}.0.sqlite3') and not os.path.exists(f'{new}.0.sqlite3'):
            for suffix in ('sqlite3-wal', 'sqlite3'):  # in this order, so that the log is never missing
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f'{old}.0.{suffix}', f'{new}.0.{suffix}')
        if f'{old}.0.lock' in self._held:
            os.unlink(f'{old}.0.lock')
            os.close(self._held.pop(f'{old}.0.lock'))


def _name(config_path: str) -> str:
    """A readable name, unique to the path, that begins with a letter or a digit."""
    return _name_in_2_0_0(config_path).lstrip('-')


def _name_in_2_0_0(config_path: str) -> str:
    readable = re.sub('[^A-Za-z0-9]+', '-', config_path).strip('-')[-_MAX_READABLE:]
    return f'{readable}-{crc32(config_path.encode("utf-8", "surrogateescape")):08x}'
