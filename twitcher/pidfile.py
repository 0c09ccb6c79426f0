"""The pidfile: one daemon at a time, told apart by a lock and not by a number that may be anybody's by now."""

from __future__ import annotations

import fcntl
import os
import stat

from twitcher.errors import PidFileError


class PidFile:
    """A file that holds the daemon's pid and is locked (flock(2)) for as long as the daemon lives."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.descriptor = -1

    def lock(self) -> None:
        """Take the lock, which a process that ended in any way has given back. Raises PidFileError if somebody has it."""
        try:
            while not self._is_current():
                self.close()
                self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
                if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
                    self.close()
                    raise PidFileError(f'pidfile {self._path}: it is no regular file')
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Twitcher 1.7 holds the other kind of lock, which does not survive a fork: it is enough that nobody has it.
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)
                os.ftruncate(self.descriptor, 0)  # whoever wrote the pid in it is gone
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
        """Remove the file and give the lock back."""
        if self.descriptor >= 0 and self._is_current():
            os.unlink(self._path)
        self.close()

    def close(self) -> None:
        """Give the lock back."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _is_current(self) -> bool:
        """Whether what we have locked is what lies there: whoever had it before may have removed it meanwhile."""
        try:
            return self.descriptor >= 0 and os.path.samestat(os.fstat(self.descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False
