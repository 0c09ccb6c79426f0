"""A state that an earlier release has written is brought up to date, not set aside: runs are in progress meanwhile."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from tests.support.configs import fence, slow, watch
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace

# As Twitcher 2.0.0 made it.
VERSION_1 = """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY, watch TEXT NOT NULL, description TEXT NOT NULL, boot TEXT NOT NULL, pipe INTEGER NOT NULL,
        began REAL NOT NULL, timeout REAL, has_slot INTEGER NOT NULL, pid INTEGER, start_time INTEGER);
    CREATE TABLE watch (
        name TEXT PRIMARY KEY, czxid INTEGER, zxid INTEGER, moment INTEGER, started REAL, ended REAL, exit_code INTEGER,
        waiting_czxid INTEGER, waiting_zxid INTEGER, waiting_moment INTEGER);
    PRAGMA user_version = 1;
"""


def downgrade(twitcher: Twitcher, number: int) -> None:
    """Leave what version 2.0.0 would have noted: the run of the watch with this number on /a, and an update behind it."""
    (path,) = (twitcher.directory / 'state').glob('*.0.sqlite3')
    boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        ((pid, start_time, pipe, began),) = database.execute('SELECT pid, start_time, pipe, began FROM run')
        for kind, name in database.execute("SELECT type, name FROM sqlite_master WHERE type = 'table'").fetchall():
            database.execute(f'DROP {kind} {name}')
        database.executescript(VERSION_1)
        name = f'{twitcher.configs}/a.twc WATCH_DATA /a {number}'
        database.execute("INSERT INTO run VALUES (1, ?, 'a.twc', ?, ?, ?, NULL, 0, ?, ?)",
                         (name, boot, pipe, began, pid, start_time))
        database.execute("INSERT INTO watch VALUES (?, 1, 2, 3, 4.0, NULL, NULL, 1, 3, 4)", (name,))


@pytest.mark.parametrize('number', [1, 2])
def test_a_run_and_a_pending_update_survive_the_upgrade(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path,
                                                        number: int) -> None:
    above = watch('/other', trace, 'other') if number == 1 else watch('/a', trace, 'above', 'run_on_load=False')
    twitcher.config('a.twc', above + slow('/a', trace, gate, 'slow', 'run_on_load=False'))
    ensemble.put('/a', 0)
    twitcher.start()
    fence(twitcher, ensemble)
    ensemble.put('/a', 1)
    trace.wait_for_line('slow begin 1')
    (twitcher.configs / 'fence.twc').unlink()
    twitcher.wait_log('fence.twc: removed')
    twitcher.wait_started('a.twc#2')
    twitcher.stop()
    downgrade(twitcher, number)
    ensemble.put('/a', 2)
    twitcher.start()
    fence(twitcher, ensemble)
    assert [line for line in trace.lines() if 'slow' in line] == ['slow begin 1']
    gate.touch()
    if number == 1:
        trace.wait_for_line('slow begin 2')
    else:
        trace.wait_for_line('slow end')
    assert twitcher.log_lines('WARNING: state: ') == []
