"""A file of sqlite3 that may fail at any time: what could not be written is written as soon as it can be.

The file is named after what it is for and held by a lock, so that of several processes each has one of its own, and finds
it again. One that is missing, full, forbidden or damaged costs a warning, and nothing else: no method here raises.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from twitcher.log import get_logger

log = get_logger(__name__)

RETRY = 2.0
"""Seconds until another attempt to write what could not be written."""
_LEAVE = 1.0
"""Seconds that a process is given that is about to end and holds the lock still."""

Later = Callable[[float, Callable[[], None]], object]
Execute = Callable[..., List[Tuple[Any, ...]]]
"""Executes a statement with values for its question marks, and returns the rows."""


class Database:
    """The first of `directory`/`name`.0, .1 ... that nobody else holds.

    `schema` makes its tables, `queries` must work on them, and `version` tells them from those of other releases.
    `upgrades` holds, for each version that can be brought to the next one, the function that does it; a file of any
    other version is set aside. `later(seconds, callback)` calls back.
    """

    def __init__(self, directory: str, name: str, schema: str, queries: Sequence[str], version: int, later: Later,
                 upgrades: Mapping[int, Callable[[Execute], None]]) -> None:
        self._directory = directory
        self._name = name
        self._schema = schema
        self._queries = queries
        self._version = version
        self._later = later
        self._upgrades = upgrades
        self._lock = -1
        self._path = ''
        self._file: Optional[sqlite3.Connection] = None
        self._unwritten: Dict[str, Tuple[str, Sequence[Any]]] = {}
        self._has_failed = self._is_pausing = self._is_closed = False
        self._try(lambda: None)

    def close(self) -> None:
        """Leave it to the next process."""
        if self._unwritten:
            self._try(self._write)
        self._is_closed = True
        self._close_file()
        if self._lock >= 0:
            os.close(self._lock)

    def note(self, key: str, statement: str, *values: Any) -> None:
        """Execute a statement, now or when it can be; in the place of what still waits under its key."""
        self.cancel(key)
        self._unwritten[key] = (statement, values)
        self._try(self._write)

    def cancel(self, key: str) -> bool:
        """Drop the statement that waits under the key; whether one did."""
        return self._unwritten.pop(key, None) is not None

    def rows(self, query: str, *values: Any) -> List[Tuple[Any, ...]]:
        """What a query finds; nothing where it fails."""
        found: List[Tuple[Any, ...]] = []
        self._try(lambda: found.extend(self._execute(query, values)))
        return found

    def _write(self) -> None:
        while self._unwritten:
            key = next(iter(self._unwritten))
            try:
                self._execute(*self._unwritten[key])
            except (ValueError, OverflowError) as error:
                log.error('state: %r cannot be noted: %s', key, error)
            del self._unwritten[key]

    def _execute(self, statement: str, values: Sequence[Any]) -> List[Tuple[Any, ...]]:
        assert self._file
        return _execute(self._file, statement, *values)

    def _try(self, action: Callable[[], None]) -> bool:
        """Whether it was done, with an open file. Where that fails, say so once, and try to write again in a while."""
        if self._is_closed or self._is_pausing and not self._file:
            return False
        try:
            if not self._file:
                self._file = self._open()
            action()
            return True
        except (OSError, sqlite3.Error) as error:
            if not self._has_failed:
                self._has_failed = True
                log.warning('state: %s cannot be used (%s): should twitcher be restarted, it will not know runs that are still '
                            'in progress, nor updates that wait for them', self._directory, error)
            if not self._is_pausing:
                self._is_pausing = True
                self._later(RETRY, self._try_again)
            return False

    def _try_again(self) -> None:
        self._is_pausing = False
        self._close_file()  # it may be gone, or damaged
        if self._try(self._write):
            self._has_failed = False
            log.info('state: %s can be used again', self._directory)

    def _close_file(self) -> None:
        if self._file:
            with contextlib.suppress(sqlite3.Error):  # the log could not be moved into it; it will be when it is opened
                self._file.close()
            self._file = None

    def _open(self) -> sqlite3.Connection:
        """The file; a new one in the place of one that does not fit. Raises OSError or sqlite3.Error."""
        if self._lock < 0:
            self._claim()
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # a full disk, no permission: the file is what it was
                raise
            log.warning('state: %s is damaged (%s): moved to %s.damaged, and begun anew', self._path, error, self._path)
            os.replace(self._path, f'{self._path}.damaged')
            for leftover in (f'{self._path}-wal', f'{self._path}-shm'):
                if os.path.exists(leftover):
                    os.unlink(leftover)
            return self._connect()

    def _claim(self) -> None:
        """Find the file to use, and hold its lock. Raises OSError."""
        os.makedirs(self._directory, mode=0o755, exist_ok=True)
        number = 0
        limit = time.monotonic() + (0 if self._has_failed else _LEAVE)
        while True:
            path = os.path.join(self._directory, f'{self._name}.{number}')
            lock = os.open(f'{path}.lock', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(lock)
                if not isinstance(error, BlockingIOError):
                    raise
                if time.monotonic() < limit:
                    time.sleep(_LEAVE / 20)
                    continue
                log.warning('state: %s is held by another twitcher with the same configuration directory', path)
                number += 1
            else:
                self._lock, self._path = lock, f'{path}.sqlite3'
                return

    def _connect(self) -> sqlite3.Connection:
        file = sqlite3.connect(self._path, isolation_level=None, timeout=0)
        try:
            os.chmod(self._path, 0o600)
            # Nobody else opens it, and what a killed process has written the kernel still has: no need to wait for the disk.
            file.execute('PRAGMA locking_mode = EXCLUSIVE')
            file.execute('PRAGMA journal_mode = WAL')
            file.execute('PRAGMA synchronous = OFF')
            ((version,),) = file.execute('PRAGMA user_version')
            if not file.execute('SELECT * FROM sqlite_master').fetchall():
                file.executescript(f'BEGIN; {self._schema} PRAGMA user_version = {self._version}; COMMIT;')
            else:
                self._upgrade(file, version)
            self._check(file)
        except BaseException:
            file.close()
            raise
        return file

    def _upgrade(self, file: sqlite3.Connection, version: int) -> None:
        """Bring the tables to the present version, in one transaction. Raise DatabaseError if there is no way."""
        while version != self._version:
            if version not in self._upgrades:
                raise sqlite3.DatabaseError('another release has written it')
            file.execute('BEGIN')
            try:
                self._upgrades[version](partial(_execute, file))
            except sqlite3.OperationalError as error:
                if 'no such' in str(error):
                    raise sqlite3.DatabaseError(str(error)) from error
                raise
            version += 1
            file.execute(f'PRAGMA user_version = {version}')
            file.execute('COMMIT')

    def _check(self, file: sqlite3.Connection) -> None:
        """Raise DatabaseError, the mother of all others, if the file is damaged or holds something else."""
        ((verdict,),) = file.execute('PRAGMA quick_check(1)')
        if verdict != 'ok':
            raise sqlite3.DatabaseError(verdict)
        try:
            for query in self._queries:
                file.execute(query).fetchall()
        except sqlite3.OperationalError as error:
            if 'no such' in str(error):
                raise sqlite3.DatabaseError(str(error)) from error
            raise


def _execute(file: sqlite3.Connection, statement: str, *values: Any) -> List[Tuple[Any, ...]]:
    rows = file.execute(statement, [_encoded(value) for value in values]).fetchall()
    return [tuple(map(_decoded, row)) for row in rows]


def _encoded(value: Any) -> Any:
    """What sqlite takes: a file name may hold any bytes, and is no text then."""
    if isinstance(value, str) and not value.isascii():
        return value.encode('utf-8', 'surrogateescape')
    return value


def _decoded(value: Any) -> Any:
    return value.decode('utf-8', 'surrogateescape') if isinstance(value, bytes) else value
