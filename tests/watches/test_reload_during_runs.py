"""Config files that change and go while their actions run: no run is hurt, and none overlaps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.configs import fence, slow, watch
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.waiting import Trace, wait_for


@pytest.mark.parametrize('how', ['edited', 'removed', 'made bad'])
def test_a_run_in_progress_outlives_its_config_and_its_end_is_logged(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                     gate: Path, how: str) -> None:
    ensemble.put('/a', 0)
    path = twitcher.config('a.twc', slow('/a', trace, gate))
    twitcher.start()
    trace.wait_for_line('slow begin 0')
    pid, = twitcher.wait_started('a.twc')
    if how == 'removed':
        path.unlink()
        twitcher.wait_log(r'a\.twc: removed')
    else:
        twitcher.config('a.twc', 'RegisterWatch("/b", Exec("x"))' if how == 'edited' else '(')
        twitcher.wait_log(r'a\.twc: loaded', 2) if how == 'edited' else twitcher.wait_log('SyntaxError')
    fence(twitcher, ensemble)
    assert is_alive(pid)
    gate.touch()
    twitcher.wait_log(rf'a\.twc: pid {pid} exited 0')
    assert trace.wait(2)[1] == 'slow end'


@pytest.mark.parametrize('how', ['edited', 'removed'])
def test_the_timeout_of_a_run_holds_though_its_config_is_gone(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                              how: str) -> None:
    ensemble.put('/a', 0)
    path = twitcher.config('a.twc', f"RegisterWatch('/a', Exec('echo begin >> {trace}; sleep 1000 | cat'), timeout=1.5)")
    twitcher.start()
    trace.wait_for_line('begin')
    pid = int(twitcher.wait_log(r'a\.twc: pid (\d+) started')[0][1])
    if how == 'removed':
        path.unlink()
    else:
        twitcher.config('a.twc', watch('/a', trace, 'new', 'timeout=3000', 'run_on_load=False'))
    match, = twitcher.wait_log(rf'a\.twc: pid {pid} was killed by SIGTERM after ([0-9.]+) s')
    assert float(match[1]) >= 1.5
    wait_for('the end of the group', lambda: not is_alive(pid))


@pytest.mark.parametrize('mode', ['QUEUE', 'DISCARD'])
@pytest.mark.parametrize('how', ['edited', 'removed and added', 'moved to another znode and back'])
def test_a_new_version_does_not_overlap_with_a_run_of_the_old_one(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                  gate: Path, how: str, mode: str) -> None:
    ensemble.put('/a', 0)
    path = twitcher.config('a.twc', slow('/a', trace, gate, 'old', f'run_mode={mode}'))
    twitcher.start()
    trace.wait_for_line('old begin 0')
    for _ in range(3):
        if how == 'removed and added':
            path.unlink()
            twitcher.wait_log(r'a\.twc: removed')
        elif how != 'edited':
            twitcher.config('a.twc', watch('/other', trace, 'other'))
        fence(twitcher, ensemble)
        twitcher.config('a.twc', slow('/a', trace, gate, 'new', f'run_mode={mode}'))
        fence(twitcher, ensemble)
    ensemble.put('/a', 1)
    fence(twitcher, ensemble)
    assert trace.lines() == ['old begin 0']
    gate.touch()
    assert trace.wait(4) == ['old begin 0', 'old end', 'new begin 1', 'new end']
    twitcher.wait_log(r'a\.twc: pid \d+ exited', count=2)
    ensemble.put('/a', 2)
    trace.wait_for_line('new begin 2')


def test_an_update_that_waited_for_the_old_version_is_run_by_the_new_one(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                         gate: Path) -> None:
    ensemble.put('/a', 0)
    twitcher.config('a.twc', slow('/a', trace, gate, 'old'))
    twitcher.start()
    trace.wait_for_line('old begin 0')
    ensemble.put('/a', 1)
    fence(twitcher, ensemble)
    twitcher.config('a.twc', slow('/a', trace, gate, 'new', 'run_on_load=False'))
    fence(twitcher, ensemble)
    gate.touch()
    assert trace.wait(4) == ['old begin 0', 'old end', 'new begin 1', 'new end']


def test_a_queue_version_waits_for_every_run_of_a_parallel_one(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                               gate: Path) -> None:
    twitcher.config('a.twc', slow('/a', trace, gate, 'old', 'run_mode=PARALLEL'))
    twitcher.start('--max_running', '2')
    for number in range(2):
        ensemble.put('/a', number)
        trace.wait_for_line(f'old begin {number}')
    ensemble.put('/a', 2)
    twitcher.config('a.twc', slow('/a', trace, gate, 'new'))
    twitcher.wait_log(r'a\.twc: loaded', 2)
    gate.touch()
    lines = trace.wait(6)
    assert sorted(lines[2:4]) == ['old end', 'old end'] and lines[4:] == ['new begin 2', 'new end']
