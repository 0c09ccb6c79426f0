"""A file that does not load leaves its last good version in force, also over restarts, and is tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from tests.support.configs import fence, watch
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace, wait_for

BROKEN = 'RegisterWatch(\n\nnonsense'

END = pytest.mark.parametrize('end', [Twitcher.kill, Twitcher.stop], ids=['killed', 'stopped'])


@END
def test_a_broken_file_has_its_last_good_version_in_force_after_a_restart(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, end: Callable[[Twitcher], object]) -> None:
    twitcher.config('a.twc', watch('/a', trace, 'good'))
    ensemble.put('/a', 1)
    twitcher.start()
    trace.wait_for_line('good load 1')
    twitcher.config('a.twc', BROKEN)
    twitcher.wait_log(r'a\.twc:\d+: SyntaxError: .*; its previous version stays in force')
    end(twitcher)
    for number in (2, 3):  # also over two restarts
        seen = len(twitcher.log())
        twitcher.start()
        twitcher.wait_log(r'ERROR: .*/a\.twc:\d+: SyntaxError: .*; its version of 20\d\d-.* is in force', after=seen)
        trace.wait(2 * number - 2)
        ensemble.put('/a', number)
        trace.wait(2 * number - 1)
        end(twitcher)
    assert trace.lines() == ['good load 1', 'good load 1', 'good changed 2', 'good load 2', 'good changed 3']


@pytest.fixture
def restored(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    """A second daemon has started with the last good version of a file that was broken in between; both have run once."""
    twitcher.config('a.twc', watch('/a', trace, 'good'))
    ensemble.put('/a', 1)
    twitcher.start()
    trace.wait(1)
    twitcher.stop()
    twitcher.config('a.twc', BROKEN)
    twitcher.start()
    assert trace.wait(2) == ['good load 1'] * 2


@pytest.mark.usefixtures('restored')
def test_the_file_takes_over_as_soon_as_it_loads(twitcher: Twitcher, trace: Trace) -> None:
    twitcher.config('a.twc', watch('/a', trace, 'better'))
    assert trace.wait(3) == ['good load 1', 'good load 1', 'better load 1']


@pytest.mark.usefixtures('restored')
def test_a_return_to_the_last_good_version_runs_nothing(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('a.twc', watch('/a', trace, 'good'))
    twitcher.wait_log(r'a\.twc: loads again')
    fence(twitcher, ensemble)
    assert trace.lines() == ['good load 1'] * 2


def test_a_file_that_is_removed_takes_its_last_good_version_with_it(twitcher: Twitcher, ensemble: Ensemble,
                                                                    trace: Trace) -> None:
    for name in ('a', 'b'):
        twitcher.config(f'{name}.twc', watch(f'/{name}', trace, name))
        ensemble.put(f'/{name}', 1)
    twitcher.start()
    trace.wait(2)
    (twitcher.configs / 'a.twc').unlink()  # while the daemon runs
    twitcher.wait_log(r'a\.twc: removed')
    twitcher.stop()
    (twitcher.configs / 'b.twc').unlink()  # while none does
    twitcher.start()
    fence(twitcher, ensemble)
    twitcher.stop()
    for name in ('a', 'b'):
        twitcher.config(f'{name}.twc', BROKEN)
    twitcher.start()
    fence(twitcher, ensemble)
    assert len(twitcher.log_lines('SyntaxError: .*; not loaded$')) == 2
    assert len(trace.lines()) == 2


def test_a_last_good_version_that_fails_as_well_is_said_and_nothing_is_loaded(twitcher: Twitcher, ensemble: Ensemble,
                                                                             trace: Trace, tmp_path: Path) -> None:
    (tmp_path / 'there').touch()
    twitcher.config('a.twc', f'open({str(tmp_path / "there")!r})\n' + watch('/a', trace, 'good'))
    ensemble.put('/a', 1)
    twitcher.start()
    trace.wait(1)
    twitcher.stop()
    twitcher.config('a.twc', BROKEN)
    (tmp_path / 'there').unlink()
    twitcher.start()
    twitcher.wait_log(r'a\.twc:\d+: SyntaxError: .*; not loaded; nor does its last good version load any more: '
                      r'.*/a\.twc:1: FileNotFoundError: ')
    fence(twitcher, ensemble)
    assert len(trace.lines()) == 1


def test_a_file_that_cannot_be_read_at_a_start_stays_in_force(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    path = twitcher.config('a.twc', watch('/a', trace, 'a'))
    ensemble.put('/a', 1)
    twitcher.start()
    trace.wait(1)
    twitcher.stop()
    path.unlink()
    path.symlink_to(path.name)  # root may read everything, but not a symlink to itself
    twitcher.start()
    assert trace.wait(2) == ['a load 1'] * 2
    twitcher.wait_log(r'a\.twc: cannot be read: .*; its version of 20.* is in force')


def test_what_failed_for_a_reason_that_passes_is_loaded_within_about_a_minute(twitcher: Twitcher, ensemble: Ensemble,
                                                                             trace: Trace, tmp_path: Path) -> None:
    twitcher.config('a.twc', f"open({str(tmp_path / 'mounted')!r})\n" + watch('/a', trace, 'a'))
    twitcher.config('b.twc', BROKEN)
    ensemble.put('/a', 1)
    twitcher.start()
    twitcher.wait_log(r'a\.twc:1: FileNotFoundError.*; not loaded')
    (tmp_path / 'mounted').touch()
    wait_for('another attempt', trace.lines, 100)
    twitcher.wait_log(r'a\.twc: loads again')
    assert len(twitcher.log_lines('b.twc:')) == 1


def test_a_state_that_cannot_be_used_costs_no_file(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    (twitcher.directory / 'state').write_text('no directory')
    twitcher.config('a.twc', watch('/a', trace, 'good'))
    twitcher.config('b.twc', BROKEN)
    ensemble.put('/a', 1)
    twitcher.start()
    trace.wait(1)
    twitcher.wait_log('b.twc:.*; not loaded')
