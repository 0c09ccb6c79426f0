"""The pidfile: allows one daemon at a time. A lock decides, not the pid in the file,
which another process may have by now."""

from __future__ import annotations

import fcntl
import os
import stat

from twitcher.errors import PidFileError


class PidFile:
    """A file that holds the daemon's pid and is locked (flock(2)) while the daemon
    lives."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.descriptor = -1

    def lock(self) -> None:
        """Take the lock, which the kernel releases when a process ends in any way.
        Raises PidFileError if another process holds it."""
        try:
            while not self._is_current():
                self.close()
                self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
                if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
                    self.close()
                    raise PidFileError(f'pidfile {self._path}: it is no regular file')
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Twitcher 1.7 holds the other kind of lock. We only test that one,
                # because it does not survive a fork.
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)
                os.ftruncate(self.descriptor, 0)  # its writer is gone
        except BlockingIOError:
            holder = os.pread(self.descriptor, 20, 0).decode('ascii', 'replace').strip()
            self.close()
            raise PidFileError(f'pidfile {self._path}: a twitcher is running already'
                             + (f', with pid {holder}' if holder else '')) from None
        except OSError as error:
            self.close()
            raise PidFileError(f'pidfile {self._path}: cannot be written: {error.strerror}') from None

    def write(self) -> None:
        """Write this process's pid."""
        os.pwrite(self.descriptor, f'{os.getpid()}\n'.encode(), 0)

    def remove(self) -> None:
        """Remove the file and release the lock."""
        if self.descriptor >= 0 and self._is_current():
            os.unlink(self._path)
        self.close()

    def close(self) -> None:
        """Release the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _is_current(self) -> bool:
        """Whether the file at the path is the one that we have locked: the previous
        holder may have removed it since we opened it."""
        try:
            return self.descriptor >= 0 and os.path.samestat(os.fstat(self.descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False
