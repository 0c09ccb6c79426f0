"""Run modes against a running daemon: QUEUE, DISCARD and PARALLEL."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace


def slow(trace: Trace) -> str:
    """An action that says begin and the contents, and end when there is a file of the trace's name with .go."""
    return f"Exec('echo begin `cat` >> {trace}; until [ -e {trace}.go ]; do sleep 0.02; done; echo end >> {trace}')"


def let_go(trace: Trace) -> None:
    """Have those actions end, now and in future."""
    Path(f'{trace}.go').touch()


def test_queue_runs_once_more_with_the_last_of_five_updates(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('q.twc', f"RegisterWatch('/q', {slow(trace)})")
    ensemble.put('/q', 0)
    twitcher.start()
    trace.wait_for_line('begin 0')
    for number in range(1, 6):
        ensemble.put('/q', number)
    twitcher.fence(ensemble)
    let_go(trace)
    assert trace.wait(4) == ['begin 0', 'end', 'begin 5', 'end']
    twitcher.fence(ensemble)
    assert len(twitcher.started('q.twc')) == 2


def test_discard_forgets_updates_that_come_during_a_run(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('d.twc', f"RegisterWatch('/d', {slow(trace)}, run_mode=DISCARD)")
    ensemble.put('/d', 0)
    twitcher.start()
    trace.wait_for_line('begin 0')
    for number in range(1, 6):
        ensemble.put('/d', number)
    twitcher.fence(ensemble)
    let_go(trace)
    assert trace.wait(2) == ['begin 0', 'end']
    twitcher.wait_log('d.twc: pid .* exited')
    twitcher.fence(ensemble)
    assert len(twitcher.started('d.twc')) == 1
    ensemble.put('/d', 6)
    trace.wait_for_line('begin 6')


def test_parallel_runs_once_for_each_update_side_by_side(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('p.twc', f"RegisterWatch('/p', {slow(trace)}, run_mode=PARALLEL)")
    twitcher.start()
    for number in range(5):
        ensemble.put('/p', number)
        trace.wait_for_line(f'begin {number}')
    let_go(trace)
    assert trace.wait(10)[:5] == [f'begin {number}' for number in range(5)]
    assert trace.lines()[5:] == ['end'] * 5


@pytest.mark.parametrize('mode', ['QUEUE', 'PARALLEL'])
def test_forty_spaced_updates_give_forty_runs(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, mode: str) -> None:
    twitcher.config('f.twc', f"RegisterWatch('/f', Exec('echo `cat` >> {trace}'), run_mode={mode})")
    twitcher.start()
    for number in range(40):
        ensemble.put('/f', number)
        trace.wait(number + 1)
    twitcher.fence(ensemble)
    assert trace.lines() == [str(number) for number in range(40)]


def test_forty_updates_at_a_steady_pace_give_forty_runs(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    # Twitcher 1.7.5 managed 8 of these and then hung, and ran each twice.
    twitcher.config('f.twc', f"RegisterWatch('/f', Exec('echo `cat` >> {trace}'))")
    twitcher.start()
    twitcher.fence(ensemble)
    for number in range(40):
        ensemble.put('/f', number)
        time.sleep(0.4)
    trace.wait(40)
    twitcher.fence(ensemble)
    assert trace.lines() == [str(number) for number in range(40)]
