"""A daemon whose state directory is removed or damaged: it costs a warning, and no run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable

import pytest

from tests.support.actions import echo
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.state_directory import assert_state_warnings
from tests.support.waiting import Trace


def test_a_state_directory_that_is_removed_costs_no_run_and_no_start(twitcher: Twitcher, ensemble: Ensemble,
                                                                     trace: Trace) -> None:
    twitcher.config('r.twc', f"RegisterWatch('/r', {echo(trace)})")
    ensemble.put('/r', 1)
    twitcher.start()
    trace.wait(1)
    shutil.rmtree(twitcher.directory / 'state')
    ensemble.put('/r', 2)
    trace.wait(2)
    twitcher.stop()
    twitcher.start()
    assert trace.wait(3) == ['1', '2', '2']
    assert_state_warnings(twitcher, 0)


def _make_corrupt(directory: Path) -> None:
    for path in directory.glob('*.sqlite3'):
        path.write_bytes(b'this is no database, whatever its name says' * 100)


def _make_a_file(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    directory.write_text('no directory')


@pytest.mark.parametrize('damage', [_make_corrupt, _make_a_file])
def test_a_state_that_cannot_be_used_costs_a_warning_only(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                          damage: Callable[[Path], None]) -> None:
    twitcher.config('d.twc', f"RegisterWatch('/d', {echo(trace)})")
    ensemble.put('/d', 1)
    twitcher.start()
    trace.wait(1)
    twitcher.stop()
    damage(twitcher.directory / 'state')
    twitcher.start()
    trace.wait(2)
    ensemble.put('/d', 2)
    assert trace.wait(3) == ['1', '1', '2']
    twitcher.fence(ensemble)
    assert len(twitcher.log_lines('WARNING: state: ')) == 1
