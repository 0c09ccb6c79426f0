"""What the state notes of a run besides its process: how it is to be ended, how it ended, and what earlier versions noted."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, List, Optional

import pytest

from tests.support.state_directory import CONFIGS, MACHINE, WATCH, InForce, begin_run, opened_state
from twitcher.errors import SpawnError
from twitcher.run_record import Outcome, RunEnd, RunRecord
from twitcher.znode import Revision

# As version 2 made it.
VERSION_2 = """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY, watch TEXT NOT NULL, description TEXT NOT NULL, boot TEXT NOT NULL, pipe INTEGER NOT NULL,
        began REAL NOT NULL, timeout REAL, has_slot INTEGER NOT NULL, pid INTEGER, start_time INTEGER,
        sigterm REAL);
    CREATE TABLE watch (
        name TEXT PRIMARY KEY, czxid INTEGER, zxid INTEGER, moment INTEGER, started REAL, ended REAL, exit_code INTEGER,
        waiting_czxid INTEGER, waiting_zxid INTEGER, waiting_moment INTEGER, path TEXT);
    CREATE TABLE config (
        path TEXT PRIMARY KEY, text BLOB NOT NULL, fingerprint INTEGER NOT NULL, loaded REAL NOT NULL);
    CREATE TABLE helper (config TEXT NOT NULL, path TEXT NOT NULL, text BLOB NOT NULL, PRIMARY KEY (config, path));
    PRAGMA user_version = 2;
"""


def rows(directory: Path, query: str) -> List[Any]:
    """What a query finds in the file."""
    (path,) = directory.glob('*.sqlite3')
    with contextlib.closing(sqlite3.connect(path)) as file:
        return file.execute(query).fetchall()


def test_how_a_run_is_ended_is_known_to_the_next_daemon(tmp_path: Path) -> None:
    with opened_state(tmp_path) as state:
        record = RunRecord(state.new_run_id(), WATCH, 'a.twc', 1, 1.0, 2.0, has_slot=True, grace=0.5, ok_codes=(0, 3, 255))
        state.run_begins(record)
        assert state.unfinished() == [record]
        record = record._replace(pid=1, start_time=2, sigterm=3.5, is_overdue=True, notified=3.25)
        state.run_started(record)
        state.run_signalled(record)
    with opened_state(tmp_path) as state:
        assert state.unfinished() == [record]


@pytest.mark.parametrize(('end', 'outcome', 'failed'), [
    (RunEnd(0), Outcome.SUCCESS, 0), (RunEnd(3, ok_codes=(0, 3)), Outcome.SUCCESS, 0), (RunEnd(1), Outcome.FAILURE, 1),
    (RunEnd(0, ok_codes=(1,)), Outcome.FAILURE, 1), (RunEnd(-15), Outcome.FAILURE, 1), (RunEnd(), Outcome.UNKNOWN, None),
    (RunEnd(0, is_overdue=True), Outcome.FAILURE, 1), (RunEnd(is_overdue=True), Outcome.FAILURE, 1),
    (RunEnd(0, is_terminated=True), Outcome.NEITHER, None), (RunEnd(-9, is_terminated=True), Outcome.NEITHER, None),
    (RunEnd(error=SpawnError('no such program', transient=False)), Outcome.FAILURE, 1),
])
def test_an_end_is_a_success_a_failure_or_neither(tmp_path: Path, end: RunEnd, outcome: Outcome, failed: Optional[int]) -> None:
    assert end.outcome is outcome
    with opened_state(tmp_path) as state:
        state.in_force = {WATCH: InForce()}
        record = begin_run(state, 1)
        state.applied(WATCH, Revision(1, 2, 3))
        state.run_ended(record, end)
    assert rows(tmp_path, 'SELECT exit_code, failed FROM watch') == [(end.exit_code, failed)]


def test_what_the_machine_refused_to_start_is_no_failure() -> None:
    assert RunEnd(error=SpawnError('no memory', transient=True)).outcome is Outcome.NEITHER


def test_a_run_that_starts_is_neither_a_success_nor_a_failure_yet(tmp_path: Path) -> None:
    with opened_state(tmp_path) as state:
        state.in_force = {WATCH: InForce()}
        record = begin_run(state, 1)
        state.applied(WATCH, Revision(1, 2, 3))
        state.run_ended(record, RunEnd(1))
        begin_run(state, 2)
        state.applied(WATCH, Revision(1, 2, 4))
    assert rows(tmp_path, 'SELECT zxid, failed FROM watch') == [(2, None)]


@pytest.mark.parametrize('sigterm', [None, 5.0])
def test_a_state_of_version_2_is_brought_up_to_date(tmp_path: Path, sigterm: Optional[float]) -> None:
    with opened_state(tmp_path):
        pass
    (path,) = tmp_path.glob('*.sqlite3')
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.executescript(VERSION_2)
        file.execute("INSERT INTO run VALUES (7, ?, 'a.twc', ?, 1, 2.0, 3.0, 1, 4, 5, ?)", (WATCH, MACHINE, sigterm))
        file.execute("INSERT INTO watch (name, path, zxid, waiting_zxid) VALUES (?, ?, 8, 9)", (WATCH, f'{CONFIGS}/a.twc'))
        file.commit()
    with opened_state(tmp_path) as state:
        assert state.unfinished() == [RunRecord(7, WATCH, 'a.twc', 1, 2.0, 3.0, True, 4, 5, f'{CONFIGS}/a.twc', sigterm,
                                                is_overdue=sigterm is not None)]
        assert state.pending() == [(WATCH, f'{CONFIGS}/a.twc')]
        state.run_ended(state.unfinished()[0], RunEnd(0))
    assert rows(tmp_path, 'SELECT failed, stopped, attempt FROM watch') == [(0, None, None)]
