"""What must outlive the daemon: the runs in progress, what each watch has applied last, and which update waits for its run.

A restarted daemon finds what its predecessor with the same configuration directory has noted; daemons with other directories
have notes of their own. As far as these cannot be written or read, the next daemon does without: no method here raises.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from itertools import count
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple
from zlib import adler32, crc32

from twitcher.database import Database, Later
from twitcher.lock import StateLock
from twitcher.procfs import boot_id, start_time
from twitcher.znode import Stamp

_VERSION = 1
_SCHEMA = """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY, watch TEXT NOT NULL, description TEXT NOT NULL, boot TEXT NOT NULL, pipe INTEGER NOT NULL,
        began REAL NOT NULL, timeout REAL, has_slot INTEGER NOT NULL, pid INTEGER, start_time INTEGER);
    CREATE TABLE watch (
        name TEXT PRIMARY KEY, czxid INTEGER, zxid INTEGER, moment INTEGER, started REAL, ended REAL, exit_code INTEGER,
        waiting_czxid INTEGER, waiting_zxid INTEGER, waiting_moment INTEGER);
    CREATE TABLE config (
        path TEXT PRIMARY KEY, text BLOB NOT NULL, fingerprint INTEGER NOT NULL, loaded REAL NOT NULL);
    CREATE TABLE helper (config TEXT NOT NULL, path TEXT NOT NULL, text BLOB NOT NULL, PRIMARY KEY (config, path));
"""
_RUNS = 'SELECT id, watch, description, pipe, began, timeout, has_slot, pid, start_time FROM run WHERE boot = ?'
# A daemon that was killed right after a start may not have come to note that nothing waits any more.
_OWING = ('SELECT name FROM watch WHERE waiting_zxid IS NOT NULL '
          'AND (waiting_czxid, waiting_zxid, waiting_moment) IS NOT (czxid, zxid, moment)')


_APPLIED = """
    INSERT INTO watch (name, czxid, zxid, moment, started) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET czxid = excluded.czxid, zxid = excluded.zxid, moment = excluded.moment,
        started = excluded.started, ended = NULL, exit_code = NULL
"""
_WAITING = """
    INSERT INTO watch (name, waiting_czxid, waiting_zxid, waiting_moment) VALUES (?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET waiting_czxid = excluded.waiting_czxid, waiting_zxid = excluded.waiting_zxid,
        waiting_moment = excluded.waiting_moment
"""
_GOOD_CONFIG = """
    INSERT INTO config VALUES (?, ?, ?, ?)
    ON CONFLICT (path) DO UPDATE SET text = excluded.text, fingerprint = excluded.fingerprint, loaded = excluded.loaded
"""
_GOOD_CONFIGS = 'SELECT text, loaded, fingerprint FROM config'
_GOOD_HELPER = """
    INSERT INTO helper VALUES (?, ?, ?)
    ON CONFLICT (config, path) DO UPDATE SET text = excluded.text
"""
_USING_HELPERS = 'SELECT DISTINCT config FROM helper WHERE text IS NOT NULL'
_GOOD_HELPERS = 'SELECT path, text FROM helper WHERE config = ?'


@dataclass(frozen=True)
class GoodConfig:
    """A version of a .twc file that has loaded, and the texts of the helpers that it imports, by their paths.

    `loaded` is when it first did, in seconds since 1970; 0 for now.
    """

    path: str
    text: bytes
    helpers: Mapping[str, bytes]
    loaded: float = 0

    @property
    def fingerprint(self) -> int:
        """Tells versions of one file apart."""
        crc, adler = crc32(self.text), adler32(self.text)
        for name, text in sorted(self.helpers.items()):
            crc, adler = (checksum(text, checksum(os.fsencode(name), value))
                          for checksum, value in ((crc32, crc), (adler32, adler)))
        return crc | (adler & 0x7fffffff) << 32


@dataclass(frozen=True)
class RunRecord:
    """A run that had not ended when its daemon did. `began` is in seconds of CLOCK_MONOTONIC, which counts from the boot.

    `pid` is None if the daemon died between its two notes of it; then only the pipe that it prints to is known, by its inode.
    `has_slot` says that it counts against --max_running.
    """

    id: int
    watch: str
    description: str
    pipe: int
    began: float
    timeout: Optional[float]
    has_slot: bool
    pid: Optional[int]
    start_time: Optional[int]


class State:
    """The state of the daemon that reads `config_path`, in `directory`. `later(seconds, callback)` calls back.

    `lock` may have been acquired; it is released at the end.
    """

    def __init__(self, directory: str, config_path: str, later: Later, lock: Optional[StateLock] = None) -> None:
        self._lock = lock or StateLock(directory, config_path)
        self._boot = boot_id()
        self._ids = count(time.time_ns())  # what could not be noted yet must not be taken for an older run
        queries = [_RUNS.replace('?', "''"), _OWING, f'{_GOOD_CONFIGS} LIMIT 0', f'{_USING_HELPERS} LIMIT 0']
        self._database = Database(directory, self._lock.name, _SCHEMA, queries, _VERSION, later, self._lock.acquire)
        self._using_helpers = {path for path, in self._database.rows(_USING_HELPERS)}
        self._owing = {watch for watch, in self._database.rows(_OWING)}

    def close(self) -> None:
        """Leave it to the next daemon."""
        self._database.close()
        self._lock.close()

    def unfinished(self) -> List[RunRecord]:
        """The runs that an earlier daemon has noted since the machine was booted, and not their end."""
        self._database.note('boot', 'DELETE FROM run WHERE boot != ?', self._boot)
        return [RunRecord(*row) for row in self._database.rows(_RUNS, self._boot)]

    def run_begins(self, watch: str, description: str, pipe: int, began: float, timeout: Optional[float],
                   has_slot: bool = False) -> int:
        """Note a run before its process exists, so that it can be found even if we die in between; its id."""
        run = next(self._ids)
        self._database.note(f'run {run}', 'INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)', run, watch,
                            description, self._boot, pipe, began, timeout, has_slot)
        return run

    def run_started(self, run: int, pid: int) -> None:
        """Note the process of a run."""
        self._database.note(f'pid {run}', 'UPDATE run SET pid = ?, start_time = ? WHERE id = ?', pid, start_time(pid), run)

    def run_failed(self, run: int) -> None:
        """The process of a run could not be started."""
        was_noted = not self._database.cancel(f'run {run}')
        self._database.cancel(f'pid {run}')
        if was_noted:
            self._database.note(f'end {run}', 'DELETE FROM run WHERE id = ?', run)

    def run_ended(self, run: int, watch: str, exit_code: Optional[int]) -> None:
        """Note the end of a run; None for an exit code that is not known."""
        self.run_failed(run)
        self._database.note(f'ended {watch}', 'UPDATE watch SET ended = ?, exit_code = ? WHERE name = ?', time.time(),
                            exit_code, watch)

    def applied(self, watch: str, stamp: Stamp) -> None:
        """Note which state of its znode a watch runs for."""
        self._database.cancel(f'ended {watch}')
        self._database.note(f'applied {watch}', _APPLIED, watch, *stamp, time.time())

    def owes_run(self, watch: str) -> bool:
        """Whether an update of the watch was received, but its run not started, by a daemon before this one."""
        return watch in self._owing

    def set_waiting(self, watch: str, stamp: Optional[Stamp]) -> None:
        """Note the latest update that waits for its run; None: none does any more."""
        self._owing.discard(watch)
        self._database.note(f'waiting {watch}', _WAITING, watch, *(stamp or (None, None, None)))

    def forget(self, watch: str) -> None:
        """The watch is gone for good."""
        self._owing.discard(watch)
        for what in ('applied', 'ended', 'waiting'):
            self._database.cancel(f'{what} {watch}')
        self._database.note(f'gone {watch}', 'DELETE FROM watch WHERE name = ?', watch)

    def good_configs(self) -> Dict[str, int]:
        """The .twc files of which a good version is known, with its fingerprint."""
        return dict(self._database.rows('SELECT path, fingerprint FROM config'))

    def good_config(self, path: str) -> Optional[GoodConfig]:
        """The last version of a .twc file that has loaded, if one is known."""
        for text, loaded, _ in self._database.rows(f'{_GOOD_CONFIGS} WHERE path = ?', path):
            helpers = {helper: _as_bytes(source) for helper, source in self._database.rows(_GOOD_HELPERS, path)}
            return GoodConfig(path, _as_bytes(text), helpers, loaded)
        return None

    def save_configs(self, configs: Iterable[GoodConfig]) -> None:
        """Note versions that have loaded."""
        self._database.note_all(self._notes_of(configs))

    def forget_config(self, path: str) -> None:
        """The .twc file is gone."""
        self._using_helpers.discard(path)
        self._database.note_all([(f'config {path}', 'DELETE FROM config WHERE path = ?', (path,)),
                                 (f'helpers {path}', 'DELETE FROM helper WHERE config = ?', (path,))])

    def _notes_of(self, configs: Iterable[GoodConfig]) -> Iterator[Tuple[str, str, Tuple[Any, ...]]]:
        now = time.time()
        for config in configs:
            path, helpers = config.path, config.helpers
            yield f'config {path}', _GOOD_CONFIG, (path, config.text, config.fingerprint, now)
            if helpers or path in self._using_helpers:
                marks = ', '.join('?' * len(helpers))
                yield f'helpers {path}', f'DELETE FROM helper WHERE config = ? AND path NOT IN ({marks})', (path, *helpers)
            for helper, text in helpers.items():
                self._using_helpers.add(path)
                yield f'helper {path} {helper}', _GOOD_HELPER, (path, helper, text)


def _as_bytes(text: str) -> bytes:
    """The database gives all bytes back as text."""
    return text.encode('utf-8', 'surrogateescape')
