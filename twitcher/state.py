"""What must outlive the daemon: the runs in progress, what each watch has applied last, and which update waits for its run.

A restarted daemon finds what its predecessor with the same configuration directory has noted; daemons with other directories
have notes of their own. As far as these cannot be written or read, the next daemon does without: no method here raises.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from itertools import count
from typing import List, Optional
from zlib import crc32

from twitcher.database import Database, Later
from twitcher.procfs import boot_id, start_time
from twitcher.znode import UNKNOWN, Stamp

_VERSION = 1
_SCHEMA = """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY, watch TEXT NOT NULL, description TEXT NOT NULL, boot TEXT NOT NULL, pipe INTEGER NOT NULL,
        began REAL NOT NULL, timeout REAL, has_slot INTEGER NOT NULL, pid INTEGER, start_time INTEGER,
        sigterm REAL);
    CREATE TABLE watch (
        name TEXT PRIMARY KEY, czxid INTEGER, zxid INTEGER, moment INTEGER, started REAL, ended REAL, exit_code INTEGER,
        waiting_czxid INTEGER, waiting_zxid INTEGER, waiting_moment INTEGER);
"""
_RUNS = 'SELECT id, watch, description, pipe, began, timeout, has_slot, pid, start_time, sigterm FROM run WHERE boot = ?'
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


@dataclass(frozen=True)
class RunRecord:
    """A run that had not ended when its daemon did. `began` is in seconds of CLOCK_MONOTONIC, which counts from the boot.

    `pid` is None if the daemon died between its two notes of it; then only the pipe that it prints to is known, by its inode.
    `has_slot` says that it counts against --max_running; `sigterm` is when SIGTERM was sent after a timeout.
    """

    id: int
    watch: str
    description: str
    pipe: int
    began: float
    timeout: Optional[float]
    has_slot: bool
    pid: Optional[int] = None
    start_time: Optional[int] = None
    sigterm: Optional[float] = None


class State:
    """The state of the daemon that reads `config_path`, in `directory`. `later(seconds, callback)` calls back."""

    def __init__(self, directory: str, config_path: str, later: Later) -> None:
        self._boot = boot_id()
        self._ids = count(time.time_ns())  # what could not be noted yet must not be taken for an older run
        readable = re.sub('[^A-Za-z0-9]+', '-', config_path).strip('-')[-40:]
        name = f'{readable}-{crc32(config_path.encode("utf-8", "surrogateescape")):08x}'
        self._database = Database(directory, name, _SCHEMA, [_RUNS.replace('?', "''"), _OWING], _VERSION, later)
        self._owing = {watch for watch, in self._database.rows(_OWING)}

    def close(self) -> None:
        """Leave it to the next daemon."""
        self._database.close()

    def unfinished(self) -> List[RunRecord]:
        """The runs that an earlier daemon has noted since the machine was booted, and not their end."""
        self._database.note('boot', 'DELETE FROM run WHERE boot != ?', self._boot)
        return [RunRecord(*row) for row in self._database.rows(_RUNS, self._boot)]

    def run_begins(self, watch: str, description: str, pipe: int, began: float, timeout: Optional[float],
                   has_slot: bool = False) -> int:
        """Note a run before its process exists, so that it can be found even if we die in between; its id."""
        run = next(self._ids)
        self._database.note(f'run {run}', 'INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)', run, watch,
                            description, self._boot, pipe, began, timeout, has_slot)
        return run

    def run_started(self, run: int, pid: int) -> None:
        """Note the process of a run."""
        self._database.note(f'pid {run}', 'UPDATE run SET pid = ?, start_time = ? WHERE id = ?', pid, start_time(pid), run)

    def run_overdue(self, run: int, sigterm: float) -> None:
        """Note when the process group of a run is sent SIGTERM, in seconds of CLOCK_MONOTONIC."""
        self._database.note(f'sigterm {run}', 'UPDATE run SET sigterm = ? WHERE id = ?', sigterm, run)

    def run_lost(self, run: int, watch: str) -> None:
        """A run whose process was not noted is not there: it may never have begun, so that its watch owes it."""
        self.run_failed(run)
        self.set_waiting(watch, UNKNOWN)
        self._owing.add(watch)

    def run_failed(self, run: int) -> None:
        """The process of a run could not be started."""
        was_noted = not self._database.cancel(f'run {run}')
        self._database.cancel(f'pid {run}')
        self._database.cancel(f'sigterm {run}')
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
