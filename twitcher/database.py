"""An sqlite3 file that may fail at any time: failed writes are repeated until they
succeed.

A lock keeps other processes from using it. No method raises: a file that is missing,
damaged or forbidden, or a full disk, costs a warning and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from enum import Enum
from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from twitcher.errors import LockedError
from twitcher.log import get_logger

log = get_logger(__name__)

RETRY = 2.0
"""Seconds until the next attempt to write."""

Later = Callable[[float, Callable[[], None]], object]
Execute = Callable[..., List[Tuple[Any, ...]]]
"""Executes a statement with the values of its parameters, and returns the rows."""


class _State(Enum):
    READY = 'as far as is known, the file can be used'
    RETRY_IS_DUE = 'it could not be used; without an open file nothing is tried before the retry'
    RETRYING = 'it could not be used, and is tried now'
    CLOSED = 'nothing is written or read any more'


class Database:
    """The file `directory`/`name`.0.sqlite3.

    `claim` acquires its lock before it is opened, or raises OSError or LockedError.
    `schema` creates its tables, and `version` is the schema's; `queries` fail if the
    tables are not ours. `upgrades` has a function for each version that can be upgraded
    to the next one; a file of any other version is set aside.
    `later(seconds, callback)` calls back.
    """

    def __init__(self, directory: str, name: str, schema: str, queries: Sequence[str], version: int, later: Later,
                 claim: Callable[[], None], upgrades: Mapping[int, Callable[[Execute], None]]) -> None:
        self._directory = directory
        self._path = os.path.join(directory, f'{name}.0.sqlite3')
        self._claim = claim
        self._upgrades = upgrades
        self._schema = schema
        self._queries = queries
        self._version = version
        self._later = later
        self._file: Optional[sqlite3.Connection] = None
        self._unwritten: Dict[str, Tuple[str, Sequence[Any]]] = {}
        self._state = _State.READY
        self._try(lambda: None)

    def close(self) -> None:
        """Write what is still unwritten, and close the file."""
        if self._unwritten:
            self._try(self._write)
        self._change_to(_State.CLOSED)
        self._close_file()

    def note(self, key: str, statement: str, *values: Any) -> None:
        """Execute a statement now, or as soon as possible. It replaces an unwritten one
        with the same key."""
        self.cancel(key)
        self._unwritten[key] = (statement, values)
        self._try(self._write)

    def note_all(self, notes: Iterable[Tuple[str, str, Sequence[Any]]]) -> None:
        """As `note` for many, each a key, a statement and its values, in one
        transaction."""
        for key, statement, values in notes:
            self.cancel(key)
            self._unwritten[key] = (statement, values)
        if self._unwritten:
            self._try(self._write)

    def cancel(self, key: str) -> bool:
        """Drop the unwritten statement with this key. Returns whether there was one."""
        return self._unwritten.pop(key, None) is not None

    def rows(self, query: str, *values: Any) -> List[Tuple[Any, ...]]:
        """The rows that a query finds; none if it fails."""
        found: List[Tuple[Any, ...]] = []
        self._try(lambda: found.extend(self._execute(query, values)))
        return found

    def _write(self) -> None:
        """Write what is unwritten: all of it, or nothing."""
        with self._transaction() if len(self._unwritten) > 1 else contextlib.nullcontext():
            for key, (statement, values) in self._unwritten.items():
                try:
                    self._execute(statement, values)
                except (ValueError, OverflowError) as error:
                    log.error('state: %r cannot be noted: %s', key, error)
        self._unwritten.clear()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        assert self._file
        self._file.execute('BEGIN')
        try:
            yield
            self._file.execute('COMMIT')
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # some errors roll back by themselves
                self._file.execute('ROLLBACK')
            raise

    def _execute(self, statement: str, values: Sequence[Any]) -> List[Tuple[Any, ...]]:
        assert self._file
        return _execute(self._file, statement, *values)

    def _try(self, action: Callable[[], None]) -> bool:
        """Call `action` with the file open. Returns whether that worked; if not, logs
        it once, and writes again later."""
        if self._state is _State.CLOSED or self._state is _State.RETRY_IS_DUE and not self._file:
            return False
        try:
            if not self._file:
                self._file = self._open()
            action()
            return True
        except (OSError, sqlite3.Error, LockedError) as error:
            if self._state is _State.READY:
                log.warning('state: %s cannot be used (%s): if twitcher is restarted, it will not know of runs that are '
                            'still in progress, nor of updates that wait for them', self._directory, error)
            if self._state is not _State.RETRY_IS_DUE:
                self._change_to(_State.RETRY_IS_DUE)
                self._later(RETRY, self._retry)
            return False

    def _retry(self) -> None:
        self._change_to(_State.RETRYING)
        self._close_file()  # it may be deleted, or damaged
        if self._try(self._write):
            self._change_to(_State.READY)
            log.info('state: %s can be used again', self._directory)

    def _change_to(self, state: _State) -> None:
        """The one place where the state changes. CLOSED is final."""
        if self._state is not _State.CLOSED:
            self._state = state

    def _close_file(self) -> None:
        if self._file:
            with contextlib.suppress(sqlite3.Error):  # the write-ahead log could not be merged; the next open does it
                self._file.close()
            self._file = None

    def _open(self) -> sqlite3.Connection:
        """Open the file, or a new one if it is not ours. Raises OSError, sqlite3.Error
        or LockedError."""
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

    def _connect(self) -> sqlite3.Connection:
        file = sqlite3.connect(self._path, isolation_level=None, timeout=0)
        try:
            os.chmod(self._path, 0o600)
            # No other process opens it, and what we write survives our death: do not
            # wait for the disk.
            file.execute('PRAGMA locking_mode = EXCLUSIVE')
            file.execute('PRAGMA journal_mode = WAL')
            file.execute('PRAGMA synchronous = OFF')
            file.execute('PRAGMA cache_size = -200')
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
        """Upgrade the tables to the present version, one step a transaction. Raises
        DatabaseError if that is impossible."""
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
        """Raise DatabaseError itself if the file is damaged, or its tables are not
        ours."""
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
    """The value for sqlite. A file name may hold any bytes, so text that is not ASCII
    is stored as a blob."""
    if isinstance(value, str) and not value.isascii():
        return value.encode('utf-8', 'surrogateescape')
    return value


def _decoded(value: Any) -> Any:
    return value.decode('utf-8', 'surrogateescape') if isinstance(value, bytes) else value
