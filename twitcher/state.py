"""Keeps for the next daemon: the runs in progress; for each watch, its last run, its
pending update and whether it is stopped; and the last versions of the .twc files that
loaded.

Each configuration directory has a state of its own. No method raises: what cannot be
written or read is simply not known to the next daemon.
"""

from __future__ import annotations

import re
import time
from itertools import count
from typing import Callable, List, Mapping, Optional, Protocol, Tuple
from zlib import crc32

from twitcher import good_configs
from twitcher.database import Database, Execute, Later
from twitcher.good_configs import GoodConfigs
from twitcher.lock import StateLock
from twitcher.run_record import LastRun, Outcome, RunEnd, RunRecord
from twitcher.znode import UNKNOWN, Revision

_VERSION = 3
_SCHEMA = """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY, watch TEXT NOT NULL, description TEXT NOT NULL, boot TEXT NOT NULL, pipe INTEGER NOT NULL,
        began REAL NOT NULL, timeout REAL, has_slot INTEGER NOT NULL, pid INTEGER, start_time INTEGER,
        sigterm REAL, is_overdue INTEGER NOT NULL DEFAULT 0, notified REAL, grace REAL NOT NULL DEFAULT 5.0,
        ok_codes TEXT NOT NULL DEFAULT '0', lock TEXT);
    CREATE TABLE watch (
        name TEXT PRIMARY KEY, czxid INTEGER, zxid INTEGER, moment INTEGER, started REAL, ended REAL, exit_code INTEGER,
        waiting_czxid INTEGER, waiting_zxid INTEGER, waiting_moment INTEGER, path TEXT,
        stopped INTEGER, attempt INTEGER, failed INTEGER);
"""
_RUNS = """
    SELECT id, watch, description, pipe, began, timeout, has_slot, pid, start_time,
        COALESCE((SELECT path FROM watch WHERE name = run.watch), ''), sigterm, is_overdue, notified, grace, ok_codes, lock
    FROM run WHERE boot = ? ORDER BY id
"""
_RUN_BEGINS = """
    INSERT INTO run (id, watch, description, boot, pipe, began, timeout, has_slot, grace, ok_codes, lock)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# A daemon killed right after a start may not have noted that nothing is pending any
# more.
_PENDING = """
    SELECT name, COALESCE(path, '') FROM watch WHERE waiting_zxid IS NOT NULL
    AND (waiting_czxid, waiting_zxid, waiting_moment) IS NOT (czxid, zxid, moment) ORDER BY rowid
"""
_APPLIED = """
    INSERT INTO watch (name, path, czxid, zxid, moment, started, attempt) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET czxid = excluded.czxid, zxid = excluded.zxid, moment = excluded.moment,
        path = excluded.path, started = excluded.started, attempt = excluded.attempt, ended = NULL, exit_code = NULL,
        failed = NULL
"""
# A watch may have been forgotten while its program was being executed.
_APPLIED_IF_KNOWN = """
    UPDATE watch SET czxid = ?, zxid = ?, moment = ?, started = ?, attempt = ?, ended = NULL, exit_code = NULL, failed = NULL
    WHERE name = ?
"""
_SAVE_PENDING = """
    INSERT INTO watch (name, path, waiting_czxid, waiting_zxid, waiting_moment) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET waiting_czxid = excluded.waiting_czxid, waiting_zxid = excluded.waiting_zxid,
        waiting_moment = excluded.waiting_moment, path = COALESCE(excluded.path, path)
"""
_SAVE_STOPPED = """
    INSERT INTO watch (name, path, stopped) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET stopped = excluded.stopped
"""
_LAST_RUN = 'SELECT czxid, zxid, moment, ended, failed, attempt, stopped FROM watch WHERE name = ?'
# It is not known which update is pending: any state of the znode calls for a run.
_INTERRUPTED = f"""
    INSERT INTO watch (name, waiting_czxid, waiting_zxid, waiting_moment)
    SELECT DISTINCT watch, {UNKNOWN.czxid}, {UNKNOWN.zxid}, {UNKNOWN.tiebreak} FROM run WHERE boot != ?
    ON CONFLICT (name) DO UPDATE SET waiting_czxid = excluded.waiting_czxid, waiting_zxid = excluded.waiting_zxid,
        waiting_moment = excluded.waiting_moment
"""
# In pages: ten thousand rows at once would take megabytes.
_PAGE = "SELECT rowid, name, COALESCE(path, '') FROM watch WHERE rowid > ? ORDER BY rowid LIMIT 500"
_FAILED = {Outcome.SUCCESS: 0, Outcome.FAILURE: 1}
_NAME_1 = r'(.*?\.twc) (WATCH_DATA|WATCH_CHILDREN) (/.*) (\d+)'
"""The name of a watch in version 1: its file, the side, the znode and a number."""


class InForce(Protocol):
    """A watch in force."""

    path: str


class State:
    """The state, in `directory`, of the daemon that reads `config_path`.

    `machine` identifies the machine since its boot, and begins with the boot id.
    `later(seconds, callback)` calls back. `in_force` are the watches in force by name,
    kept up to date by their owner. `good_configs` are the last versions of the .twc
    files that loaded. `lock` may have been acquired already; `close` releases it.
    """

    in_force: Mapping[str, InForce]

    def __init__(self, directory: str, config_path: str, machine: str, later: Later, lock: Optional[StateLock] = None) -> None:
        self._lock = lock or StateLock(directory, config_path)
        self._machine = machine
        self.in_force = {}
        self._run_ids = count(time.time_ns())  # an id must differ from those in the file even while the file cannot be read
        self._database = Database(
            directory, self._lock.name, _SCHEMA + good_configs.SCHEMA,
            [_RUNS.replace('?', "''"), _PENDING, *good_configs.QUERIES], _VERSION, later, self._lock.acquire,
            {1: self._from_version_1, 2: _from_version_2})
        self.good_configs = GoodConfigs(self._database)
        self._database.note('interrupted', _INTERRUPTED, self._machine)
        self._database.note('boot', 'DELETE FROM run WHERE boot != ?', self._machine)

    def close(self) -> None:
        """Close the database and release the lock: the next daemon may have them."""
        self._database.close()
        self._lock.close()

    def unfinished(self) -> List[RunRecord]:
        """The runs that an earlier daemon left in progress.

        Not those that ended with the machine (a crash, a reboot, the end of a
        container): their watches have an update pending instead, because it is not
        known how far the runs got.
        """
        return [RunRecord(*row)._replace(ok_codes=tuple(map(int, row[-2].split())))
                for row in self._database.rows(_RUNS, self._machine)]

    def pending(self) -> List[Tuple[str, str]]:
        """The name and the file of each watch that an earlier daemon left pending."""
        return [(name, path) for name, path in self._database.rows(_PENDING)]

    def has_run(self, watch: str) -> bool:
        """Whether a run of the watch was ever started, by this daemon or an earlier
        one."""
        return bool(self._database.rows('SELECT 1 FROM watch WHERE name = ? AND zxid IS NOT NULL', watch))

    def new_run_id(self) -> int:
        """An id that no other run in this state has, including those of earlier
        daemons."""
        return next(self._run_ids)

    def run_begins(self, record: RunRecord) -> None:
        """Note a run before its process exists: the next daemon finds it even if we die
        in between."""
        self._database.note(
            f'run {record.id}', _RUN_BEGINS, record.id, record.watch, record.description, self._machine, record.pipe,
            record.began, record.timeout, record.has_slot, record.grace, ' '.join(map(str, record.ok_codes)), record.lock)

    def run_started(self, record: RunRecord) -> None:
        """Note the process of a run: its pid and start time."""
        self._database.note(f'pid {record.id}', 'UPDATE run SET pid = ?, start_time = ? WHERE id = ?',
                            record.pid, record.start_time, record.id)

    def run_signalled(self, record: RunRecord) -> None:
        """Note when the process group of a run was sent SIGTERM, and when its process
        was sent a notify_signal that is expected to kill it."""
        self._database.note(f'signal {record.id}', 'UPDATE run SET sigterm = ?, is_overdue = ?, notified = ? WHERE id = ?',
                            record.sigterm, record.is_overdue, record.notified, record.id)

    def run_lost(self, record: RunRecord) -> None:
        """Forget a run that may never have had a process, and note that its watch has
        an update pending."""
        self.save_pending(record.watch, UNKNOWN)  # first: we may be killed in between
        self.run_failed(record)

    def run_failed(self, record: RunRecord) -> None:
        """Forget a run whose process could not be started."""
        was_noted = not self._database.cancel(f'run {record.id}')
        self._database.cancel(f'pid {record.id}')
        self._database.cancel(f'signal {record.id}')
        if was_noted:
            self._database.note(f'end {record.id}', 'DELETE FROM run WHERE id = ?', record.id)

    def run_ended(self, record: RunRecord, end: RunEnd) -> None:
        """Note the end of a run, and whether it was a success."""
        self.run_failed(record)
        self._database.note(
            f'ended {record.watch}', 'UPDATE watch SET ended = ?, exit_code = ?, failed = ? WHERE name = ?', time.time(),
            end.exit_code, _FAILED.get(end.outcome), record.watch)

    def applied(self, watch: str, revision: Revision, attempt: int = 1) -> None:
        """Note the state of its znode that a watch has started a run for, and which
        attempt it is."""
        self._database.cancel(f'ended {watch}')
        if watch in self.in_force:
            self._database.note(f'applied {watch}', _APPLIED, watch, self._path(watch), *revision, time.time(), attempt)
        else:
            self._database.note(f'applied {watch}', _APPLIED_IF_KNOWN, *revision, time.time(), attempt, watch)

    def save_pending(self, watch: str, revision: Optional[Revision]) -> None:
        """Note the latest pending update of a watch; None if nothing is pending now."""
        self._database.note(f'pending {watch}', _SAVE_PENDING, watch, self._path(watch), *(revision or (None, None, None)))

    def last_run(self, watch: str) -> Optional[LastRun]:
        """The last run of a watch, and whether it was stopped; None if nothing is known
        of it."""
        for czxid, zxid, moment, ended, failed, attempt, stopped in self._database.rows(_LAST_RUN, watch):
            return LastRun(None if zxid is None else Revision(czxid, zxid, moment), ended is not None,
                           None if failed is None else bool(failed), attempt or 1, stopped)
        return None

    def save_stopped(self, watch: str, digest: Optional[int]) -> None:
        """Note that a watch was stopped with a spec of this digest; None if it was
        resumed."""
        self._database.note(f'stopped {watch}', _SAVE_STOPPED, watch, self._path(watch), digest)

    def moved(self, watch: str) -> None:
        """Note the present file of a watch."""
        self._database.note(f'path {watch}', 'UPDATE watch SET path = ? WHERE name = ?', self._path(watch), watch)

    def rename_runs(self, earlier: str, watch: str) -> None:
        """Note that the runs in progress of `earlier` now belong to `watch`."""
        self._database.note(f'runs {earlier} {watch}', 'UPDATE run SET watch = ? WHERE watch = ?', watch, earlier)

    def forget(self, watch: str) -> None:
        """The watch is gone for good."""
        for what in ('applied', 'ended', 'pending', 'stopped', 'path'):
            self._database.cancel(f'{what} {watch}')
        self._database.note(f'gone {watch}', 'DELETE FROM watch WHERE name = ?', watch)

    def purge(self, is_gone: Callable[[str, str], bool]) -> None:
        """Forget each watch for which `is_gone(name, file)` is true."""
        rows = self._database.rows(_PAGE, 0)
        while rows:
            for _, name, path in rows:
                if is_gone(name, path):
                    self.forget(name)
            rows = self._database.rows(_PAGE, rows[-1][0])

    def _path(self, watch: str) -> Optional[str]:
        in_force = self.in_force.get(watch)
        return in_force.path if in_force else None

    def _from_version_1(self, execute: Execute) -> None:
        """Version 1 named a watch by its place in its file, not by what it does."""
        for table in filter(str.strip, good_configs.SCHEMA.split(';')):
            execute(table)
        execute('ALTER TABLE run ADD COLUMN sigterm REAL')
        execute('ALTER TABLE watch ADD COLUMN path TEXT')
        boot_id = self._machine.partition(' ')[0]  # all that it noted of the machine
        execute('UPDATE run SET boot = ? WHERE boot = ?', self._machine, boot_id)
        execute('INSERT OR IGNORE INTO watch (name) SELECT DISTINCT watch FROM run')
        for name, in execute('SELECT name FROM watch'):
            match = re.fullmatch(_NAME_1, name, re.DOTALL)
            if match:
                path, side, znode, number = match.groups()
                new = f'{side} {znode} {crc32(name.encode("utf-8", "surrogateescape")):08x} {number}'
                execute('UPDATE run SET watch = ? WHERE watch = ?', new, name)
                execute('UPDATE watch SET name = ?, path = ? WHERE name = ?', new, path, name)


def _from_version_2(execute: Execute) -> None:
    """In version 2, every SIGTERM was sent because of a timeout, and the grace was
    always the same."""
    for column in ('is_overdue INTEGER NOT NULL DEFAULT 0', 'notified REAL', 'grace REAL NOT NULL DEFAULT 5.0',
                   "ok_codes TEXT NOT NULL DEFAULT '0'", 'lock TEXT'):
        execute(f'ALTER TABLE run ADD COLUMN {column}')
    execute('UPDATE run SET is_overdue = 1 WHERE sigterm IS NOT NULL')
    for column in ('stopped', 'attempt', 'failed'):
        execute(f'ALTER TABLE watch ADD COLUMN {column} INTEGER')
