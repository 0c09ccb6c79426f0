"""settle, splay, repeat, lock and run_on_delete in the live daemon, and over its end."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.support.configs import fence, slow, watch
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace

FAR = 1000
"""Seconds that no test waits for."""


def test_a_stream_of_updates_is_one_run_with_the_last_contents(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('a.twc', watch('/a', trace, 'run', 'settle=0.5', 'run_on_load=False'))
    ensemble.put('/a', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    for number in range(20):
        ensemble.put('/a', number)
    began = time.monotonic()
    assert trace.wait(1) == ['run changed 19']
    assert time.monotonic() - began >= 0.4
    twitcher.fence(ensemble)
    assert len(trace.lines()) == 1
    assert len(twitcher.log_lines(r'a\.twc: changed \(version \d+\) runs in 0\.5 s \(settle\)')) == 1


def test_a_stream_without_end_is_put_off_ten_times_at_most(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('a.twc', watch('/a', trace, 'run', 'settle=0.2', 'run_on_load=False'))
    ensemble.put('/a', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    began = time.monotonic()
    while not trace.lines():
        ensemble.put('/a', 0)
        assert time.monotonic() - began < 15
    assert time.monotonic() - began >= 1.9


@pytest.mark.parametrize('delay', [f'settle={FAR}', f'splay={10 ** 9}'])
@pytest.mark.parametrize('is_killed', [True, False])
def test_what_is_delayed_is_run_for_by_the_next_daemon_as_its_file_says_then(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, delay: str, is_killed: bool) -> None:
    twitcher.config('a.twc', watch('/a', trace, 'run', delay, 'run_on_load=False'))
    ensemble.put('/a', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/a', 1)
    twitcher.wait_log(r'a\.twc: changed \(version 1\) runs in [\d.]+ s')
    if is_killed:
        twitcher.kill()
    else:
        twitcher.stop()
    twitcher.config('a.twc', watch('/a', trace, 'run', 'run_on_load=False'))
    twitcher.start()
    assert trace.wait(1) == ['run changed 1']


def test_an_edit_in_the_middle_of_a_delay_loses_nothing_and_another_files_edit_leaves_it_alone(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('a.twc', watch('/a', trace, 'run', f'settle={FAR}', 'run_on_load=False'))
    ensemble.put('/a', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/a', 1)
    twitcher.wait_log('runs in')
    text = (twitcher.configs / 'a.twc').read_text()
    twitcher.config('a.twc', text + watch('/b', trace, 'other'))
    fence(twitcher, ensemble)
    assert trace.lines() == []
    twitcher.config('a.twc', text.replace(f'settle={FAR}', 'settle=0.1'))
    assert trace.wait(1) == ['run changed 1']


def test_splay_delays_the_load_by_the_time_that_the_log_names(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('a.twc', watch('/a', trace, 'run', 'splay=2'))
    ensemble.put('/a', 0)
    twitcher.start()
    match, = twitcher.wait_log(r'a\.twc: load \(version 0\) runs in ([\d.]+) s \(splay\)')
    assert 0 <= float(match[1]) <= 2
    ensemble.put('/a', 1)
    trace.wait(1)
    twitcher.fence(ensemble)
    assert trace.lines()[-1].endswith(' 1')


def test_repeat_runs_again_with_the_newest_contents_and_ends_with_the_znode(twitcher: Twitcher, ensemble: Ensemble,
                                                                            trace: Trace) -> None:
    twitcher.config('a.twc', watch('/a', trace, 'run', 'repeat=0.3'))
    ensemble.put('/a', 0)
    twitcher.start()
    assert trace.wait(3)[:3] == ['run load 0', 'run repeat 0', 'run repeat 0']
    ensemble.put('/a', 1)
    trace.wait_for_line('run repeat 1')
    assert 'run changed 1' in trace.lines()
    ensemble.client.delete('/a')
    twitcher.wait_log('/a was deleted')
    twitcher.fence(ensemble)
    so_far = len(trace.lines())
    time.sleep(0.8)  # for what must not happen there is nothing to wait for
    assert len(trace.lines()) <= so_far + 1


def test_run_on_delete_runs_with_empty_stdin(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('a.twc', watch('/a', trace, 'run', 'run_on_delete=True'))
    ensemble.put('/a', 'x')
    twitcher.start()
    trace.wait(1)
    ensemble.client.delete('/a')
    trace.wait(2)
    ensemble.put('/a', 'y')
    assert trace.wait(3) == ['run load x', 'run deleted', 'run created y']


def test_a_deletion_that_waits_is_run_for_by_the_next_daemon(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                             gate: Path) -> None:
    twitcher.config('a.twc', slow('/a', trace, gate, 'slow', 'run_on_delete=True', 'run_on_load=False'))
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/a', 'x')
    trace.wait_for_line('slow begin x')
    twitcher.wait_started('a.twc')
    ensemble.client.delete('/a')
    twitcher.fence(ensemble)
    twitcher.kill()
    twitcher.start()
    twitcher.fence(ensemble)
    gate.touch()
    assert trace.wait(4) == ['slow begin x', 'slow end', 'slow begin', 'slow end']


def test_a_lock_is_held_over_a_restart_by_a_run_of_another_file(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                gate: Path) -> None:
    twitcher.config('z.twc', slow('/a', trace, gate, 'first', "lock='deploy'", 'run_on_load=False'))
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/a', 'x')
    trace.wait_for_line('first begin x')
    twitcher.wait_started('z.twc')
    ensemble.put('/b', 'y')
    twitcher.config('a.twc', watch('/b', trace, 'second', "lock='deploy'", 'run_mode=PARALLEL'))
    twitcher.wait_log(r"a\.twc: waits for lock 'deploy'")
    twitcher.kill()
    seen = len(twitcher.log())
    twitcher.start()
    twitcher.wait_log(r"a\.twc: waits for lock 'deploy'", after=seen)
    twitcher.fence(ensemble)
    assert trace.lines() == ['first begin x']
    gate.touch()
    lines = trace.wait(3)
    assert lines[:3] == ['first begin x', 'first end', 'second load y']
    assert not re.search('Traceback', twitcher.log())


def test_runs_with_one_lock_never_overlap_and_have_the_newest_contents_at_their_turn(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    twitcher.config('a.twc', slow('/a', trace, gate, 'first', "lock='deploy'"))
    twitcher.config('b.twc', watch('/b', trace, 'second', "lock='deploy'"))
    ensemble.put('/a', 'x')
    twitcher.start()
    trace.wait_for_line('first begin x')
    ensemble.put('/b', 1)
    twitcher.wait_log("b.twc: waits for lock 'deploy'")
    ensemble.put('/b', 2)
    twitcher.fence(ensemble)
    assert trace.lines() == ['first begin x']
    gate.touch()
    assert trace.wait(3) == ['first begin x', 'first end', 'second changed 2']
