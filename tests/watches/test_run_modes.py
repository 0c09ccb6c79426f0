"""Run modes against a running daemon: QUEUE, DISCARD and PARALLEL."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.actions import echo, slow
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace


def update_five_times_during_a_run(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path, mode: str) -> None:
    """A run for 0 goes on until 1 to 5 have been seen; then the gate opens."""
    twitcher.config('a.twc', f"RegisterWatch('/a', {slow(trace, gate)}, run_mode={mode})")
    ensemble.put('/a', 0)
    twitcher.start()
    trace.wait_for_line('begin 0')
    for number in range(1, 6):
        ensemble.put('/a', number)
    twitcher.fence(ensemble)
    gate.touch()


def test_queue_runs_once_more_with_the_last_of_five_updates(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    update_five_times_during_a_run(twitcher, ensemble, trace, gate, 'QUEUE')
    assert trace.wait(4) == ['begin 0', 'end', 'begin 5', 'end']
    twitcher.fence(ensemble)
    assert len(twitcher.started('a.twc')) == 2


def test_discard_forgets_updates_that_come_during_a_run(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    update_five_times_during_a_run(twitcher, ensemble, trace, gate, 'DISCARD')
    assert trace.wait(2) == ['begin 0', 'end']
    twitcher.wait_ended('a.twc')
    twitcher.fence(ensemble)
    assert len(twitcher.started('a.twc')) == 1
    ensemble.put('/a', 6)
    trace.wait_for_line('begin 6')


def test_parallel_runs_once_for_each_update_side_by_side(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    twitcher.config('p.twc', f"RegisterWatch('/p', {slow(trace, gate)}, run_mode=PARALLEL)")
    twitcher.start()
    for number in range(5):
        ensemble.put('/p', number)
        trace.wait_for_line(f'begin {number}')
    gate.touch()
    assert trace.wait(10)[:5] == [f'begin {number}' for number in range(5)]
    assert trace.lines()[5:] == ['end'] * 5


@pytest.mark.parametrize('mode', ['QUEUE', 'PARALLEL'])
def test_forty_spaced_updates_give_forty_runs(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, mode: str) -> None:
    twitcher.config('f.twc', f"RegisterWatch('/f', {echo(trace)}, run_mode={mode})")
    twitcher.start()
    for number in range(40):
        ensemble.put('/f', number)
        trace.wait(number + 1)
    twitcher.fence(ensemble)
    assert trace.lines() == [str(number) for number in range(40)]


def test_forty_updates_at_a_steady_pace_give_forty_runs(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    # Twitcher 1.7.5 managed 8 of these and then hung, and ran each twice.
    twitcher.config('f.twc', f"RegisterWatch('/f', {echo(trace)})")
    twitcher.start()
    twitcher.fence(ensemble)
    for number in range(40):
        ensemble.put('/f', number)
        time.sleep(0.4)
    trace.wait(40)
    twitcher.fence(ensemble)
    assert trace.lines() == [str(number) for number in range(40)]
