"""Timeouts: SIGTERM to the whole process group, SIGKILL five seconds later."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.actions import with_deaf_child
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import group_members
from tests.support.waiting import Trace, wait_for

SIGTERM, SIGKILL = r't\.twc: .*: SIGTERM to its process group', r't\.twc: .*: SIGKILL'


@pytest.mark.parametrize('timeout', [0.3, 1])
def test_a_run_gets_sigterm_when_its_time_is_up(twitcher: Twitcher, ensemble: Ensemble, timeout: float) -> None:
    twitcher.config('t.twc', f"RegisterWatch('/t', Exec(['sleep', '1000']), timeout={timeout})")
    ensemble.put('/t', '')
    twitcher.start()
    end = twitcher.wait_end_line('t.twc')
    assert end[2] == 'was killed by SIGTERM'
    assert timeout <= float(end[3]) < timeout + 20
    assert twitcher.log_lines(rf't.twc: pid {end[1]} is still running after {timeout:g} s')


def test_a_pipeline_dies_whole(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('t.twc', "RegisterWatch('/t', Exec('sleep 100 | cat'), timeout=0.4)")
    ensemble.put('/t', '')
    twitcher.start()
    twitcher.wait_log('t.twc: pid .* started')
    [pid] = twitcher.wait_started('t.twc')
    wait_for('the pipeline', lambda: len(group_members(pid)) >= 2)
    assert twitcher.wait_end_line('t.twc')[2] == 'was killed by SIGTERM'
    wait_for('the end of all of it', lambda: not group_members(pid))
    assert not twitcher.log_lines('SIGKILL')


@pytest.mark.parametrize('action', [
    "Exec('trap \"\" TERM; while :; do sleep 0.1; done')", "Exec('trap \"\" TERM; sleep 100 | cat')", 'deaf'])
def test_an_action_that_ignores_sigterm_is_killed_five_seconds_after_it(
        twitcher: Twitcher, ensemble: Ensemble, action: str) -> None:
    twitcher.config('t.twc', f'''
        import signal, time
        def deaf():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(1000)
        RegisterWatch('/t', {action}, timeout=0.5)
    ''')
    ensemble.put('/t', '')
    twitcher.start()
    end = twitcher.wait_end_line('t.twc')
    assert end[2] == 'was killed by SIGKILL'
    assert 4.9 < twitcher.seconds_between(SIGTERM, SIGKILL) < 8
    wait_for('the end of all of it', lambda: not group_members(int(end[1])))


def test_an_action_may_clean_up_on_sigterm_and_choose_its_exit_code(
        twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('t.twc', '''
        import signal, sys, time
        def tidy():
            def finish(*_):
                print('tidied up')
                sys.exit(4)
            signal.signal(signal.SIGTERM, finish)
            time.sleep(1000)
        RegisterWatch('/t', tidy, timeout=0.4, description='function')
        RegisterWatch('/t', Exec('trap "echo tidied up; exit 3" TERM; sleep 1000 & wait'), timeout=0.4, description='command')
    ''')
    ensemble.put('/t', '')
    twitcher.start()
    for description, code in (('function', 4), ('command', 3)):
        assert twitcher.wait_end_line(description)[2] == f'exited {code}'
        assert twitcher.wait_printed(description, 1) == ['tidied up']


def test_a_python_action_that_has_just_been_forked_gets_its_sigterm_too(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('t.twc', '''
        import time
        for number in range(10):
            RegisterWatch('/t', lambda: time.sleep(1000), timeout=1e-6)
    ''')
    ensemble.put('/t', '')
    twitcher.start()
    for number in range(1, 11):
        end = twitcher.wait_end_line(f't.twc#{number}')
        assert end[2] == 'was killed by SIGTERM'


def end_leader_alone(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> int:
    """A run for 0 is over at its timeout, but not its child, and an update to 1 waits for that. Returns the run's pid."""
    twitcher.config('t.twc', f"RegisterWatch('/t', {with_deaf_child(trace, gate)}, timeout=0.5)")
    ensemble.put('/t', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    ensemble.put('/t', 1)
    end = twitcher.wait_end_line('t.twc')
    assert end[2] == 'exited 0'
    return int(end[1])


def test_the_next_run_waits_for_what_ignores_the_sigterm_that_its_leader_heeded_but_no_more_than_five_seconds(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    pid = end_leader_alone(twitcher, ensemble, trace, gate)
    assert group_members(pid)
    trace.wait_for_line('next')
    assert not group_members(pid)
    assert twitcher.seconds_between(SIGTERM, SIGKILL) > 4.9
    assert trace.lines() == ['ready', 'next']


def test_the_next_run_starts_as_soon_as_the_last_of_the_group_is_gone(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    end_leader_alone(twitcher, ensemble, trace, gate)
    twitcher.fence(ensemble)
    assert trace.lines() == ['ready']
    gate.touch()
    assert trace.wait(3) == ['ready', 'gone', 'next']
    assert not twitcher.log_lines('SIGKILL')
