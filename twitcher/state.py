"""What must outlive the daemon: the runs in progress, what each watch has applied last, and which watch still owes a run.

One daemon's state is one sqlite3 file, named after its configuration directory and held by a lock: a restarted daemon finds
its own again, daemons with other directories have others, and a second one with the same directory takes the next. A
state that cannot be read or written costs a warning and these extras, nothing else: no method here raises.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sqlite3
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, List, Optional, Tuple

from twitcher.procfs import start_time
from twitcher.znode import Stamp

log = logging.getLogger(__name__)

_LEAVE = 1.0
_VERSION = 1
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS run (
        id INTEGER PRIMARY KEY, watch TEXT NOT NULL, description TEXT NOT NULL, boot TEXT NOT NULL, pipe INTEGER NOT NULL,
        began REAL NOT NULL, timeout REAL, pid INTEGER, start_time INTEGER);
    CREATE TABLE IF NOT EXISTS watch (
        name TEXT PRIMARY KEY, czxid INTEGER, zxid INTEGER, moment INTEGER, started REAL, ended REAL, exit_code INTEGER,
        owes_run INTEGER NOT NULL DEFAULT 0);
"""


_COLUMNS = ('SELECT id, watch, description, pipe, began, timeout, pid, start_time FROM run',
            'SELECT name, czxid, zxid, moment, started, ended, exit_code, owes_run FROM watch LIMIT 1')


@dataclass(frozen=True)
class RunRecord:
    """A run that had not ended when its daemon did. `began` is in seconds of CLOCK_MONOTONIC, which counts from the boot.

    `pid` is None if the daemon died between its two notes of it; then only the pipe that it prints to is known, by its inode.
    """

    id: int
    watch: str
    description: str
    pipe: int
    began: float
    timeout: Optional[float]
    pid: Optional[int]
    start_time: Optional[int]


class State:
    """The state of the daemon that reads `config_path`, in `directory`."""

    def __init__(self, directory: str, config_path: str) -> None:
        self._directory = directory
        self._boot = ''
        self._has_complained = False
        self._lock = -1
        self._database: Optional[sqlite3.Connection] = None
        try:
            self._boot = _boot_id()
            os.makedirs(directory, mode=0o755, exist_ok=True)
            self._database = self._open(self._claim(config_path))
        except (OSError, sqlite3.Error) as error:
            self._complain(error)

    def close(self) -> None:
        """Leave it to the next daemon."""
        if self._database:
            self._database.close()
            self._database = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def unfinished(self) -> List[RunRecord]:
        """The runs that an earlier daemon has noted since the machine was booted, and not their end."""
        self._do('DELETE FROM run WHERE boot != ?', self._boot)
        rows = self._do(_COLUMNS[0])
        return [RunRecord(*map(_decoded, row)) for row in rows or ()]

    def run_begins(self, watch: str, description: str, pipe: int, began: float, timeout: Optional[float]) -> int:
        """Note a run before its process exists, so that it can be found even if we die in between; its id (0: not noted)."""
        rows = self._do('INSERT INTO run (watch, description, boot, pipe, began, timeout) VALUES (?, ?, ?, ?, ?, ?)', watch,
                        description, self._boot, pipe, began, timeout)
        # Asked for only after a success: sqlite remembers the id of an insert that failed, too, and gives it away again.
        number = self._do('SELECT last_insert_rowid()') if rows is not None else None
        return int(number[0][0]) if number else 0

    def run_started(self, run: int, pid: int) -> None:
        """Note the process of a run."""
        self._do('UPDATE run SET pid = ?, start_time = ? WHERE id = ?', pid, start_time(pid), run)

    def run_failed(self, run: int) -> None:
        """The process of a run could not be started."""
        self._do('DELETE FROM run WHERE id = ?', run)

    def run_ended(self, run: int, watch: str, exit_code: Optional[int]) -> None:
        """Note the end of a run; None for an exit code that is not known."""
        self._do('DELETE FROM run WHERE id = ?', run)
        self._do('UPDATE watch SET ended = ?, exit_code = ? WHERE name = ?', time.time(), exit_code, watch)

    def applied(self, watch: str, stamp: Stamp) -> None:
        """Note which state of its znode a watch runs for."""
        self._do('INSERT INTO watch (name, czxid, zxid, moment, started) VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE '
                 'SET czxid = excluded.czxid, zxid = excluded.zxid, moment = excluded.moment, started = excluded.started, '
                 'ended = NULL, exit_code = NULL', watch, *stamp, time.time())

    def owes_run(self, watch: str) -> bool:
        """Whether an update of the watch was received, but its run not started."""
        rows = self._do('SELECT owes_run FROM watch WHERE name = ?', watch)
        return bool(rows and rows[0][0])

    def set_owes_run(self, watch: str, owes: bool) -> None:
        """Note that an update waits for its run, or that none does any more."""
        self._do('INSERT INTO watch (name, owes_run) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET '
                 'owes_run = excluded.owes_run', watch, owes)

    def forget(self, watch: str) -> None:
        """The watch is gone for good."""
        self._do('DELETE FROM watch WHERE name = ?', watch)

    def _do(self, statement: str, *values: Any) -> Optional[List[Tuple[Any, ...]]]:
        """The rows that the statement gives, or None if it failed."""
        if not self._database:
            return None
        try:
            return self._database.execute(statement, [_encodable(value) for value in values]).fetchall()
        except (sqlite3.Error, OverflowError) as error:
            self._complain(error)
            return None

    def _claim(self, config_path: str) -> str:
        """The path of the first state for this configuration directory that no living daemon holds. Raises OSError."""
        readable = re.sub('[^A-Za-z0-9]+', '-', config_path).strip('-')[-40:]
        name = f'{readable}-{sha256(config_path.encode("utf-8", "surrogateescape")).hexdigest()[:8]}'
        number = 0
        limit = time.monotonic() + _LEAVE
        while True:
            path = os.path.join(self._directory, f'{name}.{number}')
            self._lock = os.open(f'{path}.lock', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return f'{path}.sqlite3'
            except BlockingIOError:
                os.close(self._lock)
                self._lock = -1
                if time.monotonic() < limit:  # it may be about to end
                    time.sleep(_LEAVE / 20)
                    continue
                log.warning('state: %s is held by another twitcher with the same configuration directory', path)
                number += 1

    def _open(self, path: str) -> sqlite3.Connection:
        """The database; a new one in the place of one that is no database. Raises OSError or sqlite3.Error."""
        try:
            return _connect(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # a full disk, no permission: the file is what it was
                raise
            log.warning('state: %s is damaged (%s): moved to %s.damaged, and begun anew', path, error, path)
            os.replace(path, f'{path}.damaged')
            for leftover in (f'{path}-wal', f'{path}-shm'):
                if os.path.exists(leftover):
                    os.unlink(leftover)
            return _connect(path)

    def _complain(self, error: Exception) -> None:
        """Say once what does not work; a disk that is full now may be emptied later, so go on trying."""
        if not self._has_complained:
            self._has_complained = True
            log.warning('state: %s cannot be used (%s): should twitcher be restarted, it will not know runs that are still in '
                        'progress, nor updates that wait for them', self._directory, error)


def _connect(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        os.chmod(path, 0o600)
        # Nobody else opens it, and what a killed process has written the kernel still has: no need to wait for the disk.
        database.execute('PRAGMA locking_mode = EXCLUSIVE')
        database.execute('PRAGMA journal_mode = WAL')
        database.execute('PRAGMA synchronous = OFF')
        ((version,),) = database.execute('PRAGMA user_version')
        if version != _VERSION and database.execute('SELECT * FROM sqlite_master').fetchall():
            raise sqlite3.DatabaseError('another release has written it')
        database.executescript(_SCHEMA)
        database.execute(f'PRAGMA user_version = {_VERSION}')
        try:
            for query in _COLUMNS:
                database.execute(query).fetchall()
        except sqlite3.OperationalError as error:
            raise sqlite3.DatabaseError(str(error)) from error
    except BaseException:
        database.close()
        raise
    return database


def _encodable(value: Any) -> Any:
    """What sqlite takes: a file name may hold any bytes, and is no text then."""
    if isinstance(value, str) and not value.isascii():
        return value.encode('utf-8', 'surrogateescape')
    return value


def _decoded(value: Any) -> Any:
    return value.decode('utf-8', 'surrogateescape') if isinstance(value, bytes) else value


def _boot_id() -> str:
    with open('/proc/sys/kernel/random/boot_id') as file:
        return file.read().strip()
