"""What the daemon does after a run has failed, and whether it runs at load: with real processes, over restarts too."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.configs import fence
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace, wait_for

FAR = 1000
"""Seconds that no test waits for."""


def watch(trace: Trace, arguments: str, fails_if: str = 'false', znode: str = '/a') -> str:
    """A watch that notes its event, its attempt, the time and its contents, and fails on a condition of the shell."""
    command = (f'c=$(cat); echo $TWITCHER_EVENT $TWITCHER_ATTEMPT $c >> {trace}; date +%s.%N >> {trace}.times; '
               f'if {fails_if}; then exit 1; fi')
    return f'RegisterWatch({znode!r}, Exec({command!r}), {arguments})\n'


def test_a_run_that_fails_twice_and_succeeds_the_third_time(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('a.twc', watch(trace, 'on_failure=RETRY(times=3, delay=0.4, backoff=2)', '[ $TWITCHER_ATTEMPT -lt 3 ]'))
    ensemble.put('/a', 'x')
    twitcher.start()
    assert trace.wait(3) == ['load 1 x', 'load 2 x', 'load 3 x']
    twitcher.wait_ended('a.twc', 3)
    fence(twitcher, ensemble)
    assert len(trace.lines()) == 3
    times = [float(line) for line in Trace(Path(f'{trace}.times')).lines()]
    first, second = (later - earlier for earlier, later in zip(times, times[1:]))
    assert 0.4 <= first < 0.4 + 1 and 0.8 <= second < 0.8 + 1
    assert [line.partition('a.twc: ')[2] for line in twitcher.log_lines('attempt . of')] == [
        'failed (exit 1), attempt 2 of 4 in 0.4 s', 'failed (exit 1), attempt 3 of 4 in 0.8 s']


def test_an_update_during_the_wait_runs_at_once_and_starts_the_count_anew(twitcher: Twitcher, ensemble: Ensemble,
                                                                          trace: Trace) -> None:
    twitcher.config('a.twc', watch(trace, f'on_failure=RETRY(delay={FAR}, max_delay={FAR})', '[ "$c" = bad ]'))
    ensemble.put('/a', 'bad')
    twitcher.start()
    twitcher.wait_log(rf'a\.twc: failed \(exit 1\), attempt 2 of 4 in {FAR}\.0 s')
    ensemble.put('/a', 'good')
    assert trace.wait(2) == ['load 1 bad', 'changed 1 good']


def test_retries_end_after_so_many_and_the_next_update_runs(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('a.twc', watch(trace, 'on_failure=RETRY(times=2, delay=0)', 'true'))
    ensemble.put('/a', 'x')
    twitcher.start()
    twitcher.wait_log(r'a\.twc: failed \(exit 1\); gave up after 3 attempts')
    ensemble.put('/a', 'y')
    assert trace.wait(4)[:4] == ['load 1 x', 'load 2 x', 'load 3 x', 'changed 1 y']


@pytest.mark.parametrize('policy', ['STOP', 'RETRY(times=1, delay=0, then=STOP)'])
def test_a_stopped_watch_stays_stopped_over_a_restart_until_it_is_edited(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                         policy: str) -> None:
    twitcher.config('a.twc', watch(trace, f'on_failure={policy}', 'true'))
    ensemble.put('/a', 'x')
    twitcher.start()
    twitcher.wait_log(r'ERROR: a\.twc: failed \(exit 1\): stopped \(on_failure\): it runs again when it is changed in '
                      rf'{twitcher.configs}/a\.twc')
    so_far = trace.lines()
    ensemble.put('/a', 'y')
    fence(twitcher, ensemble)
    twitcher.kill()
    seen = len(twitcher.log())
    twitcher.start()
    twitcher.wait_log(r'WARNING: a\.twc: stopped \(on_failure\)', after=seen)
    ensemble.put('/a', 'z')
    twitcher.fence(ensemble)
    assert trace.lines() == so_far
    twitcher.config('a.twc', watch(trace, f'on_failure={policy}, timeout=100', 'false'))
    assert trace.wait(len(so_far) + 1)[len(so_far):] == ['load 1 z']
    twitcher.stop()
    twitcher.start()
    trace.wait(len(so_far) + 2)


def test_a_stopped_function_runs_when_it_is_edited_while_no_daemon_runs_even_without_run_on_load(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    text = f"""
        def act():
            with open({str(trace)!r}, 'a') as file:
                file.write('run\\n')
            return 1 if 'a' in {{'a', 'b', 'c'}} else 0

        RegisterWatch('/a', act, on_failure=STOP, run_on_load=False)
        """
    twitcher.config('a.twc', text)
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/a', 'x')
    twitcher.wait_log(r'stopped \(on_failure\)')
    for _ in range(2):  # each daemon with hashes of its own
        twitcher.stop()
        twitcher.start()
        twitcher.fence(ensemble)
    assert trace.lines() == ['run']
    twitcher.stop()
    twitcher.config('a.twc', text.replace('return 1', 'return 0'))
    twitcher.start()
    trace.wait(2)


def test_a_retry_that_waits_is_run_by_the_next_daemon_and_the_count_goes_on(twitcher: Twitcher, ensemble: Ensemble,
                                                                            trace: Trace) -> None:
    twitcher.config('a.twc', watch(trace, f'on_failure=RETRY(delay={FAR}, max_delay={FAR}), run_on_load=False', 'true'))
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/a', 'x')
    for attempt in (2, 3, 4):
        twitcher.wait_log(rf'attempt {attempt} of 4')
        twitcher.kill()
        twitcher.start()
        trace.wait(attempt)
    twitcher.wait_log('gave up after 4 attempts')
    twitcher.kill()
    twitcher.start()
    twitcher.fence(ensemble)
    assert trace.lines() == ['created 1 x', 'changed 2 x', 'changed 3 x', 'changed 4 x']


def test_a_program_that_cannot_be_started_is_a_failure(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    program = twitcher.directory / 'program'
    twitcher.config('a.twc', f"RegisterWatch('/a', Exec(['{program}']), on_failure=RETRY(times=FOREVER, delay=0.3, backoff=1))")
    ensemble.put('/a', 'x')
    twitcher.start()
    twitcher.wait_log(r'a\.twc: failed \(not started\), attempt 3 in 0\.3 s')
    new = twitcher.directory / 'new'
    new.write_text(f'#!/bin/sh\necho run >> {trace}\n')
    new.chmod(0o755)
    new.rename(program)
    assert trace.wait(1) == ['run']


# CHANGED

def test_run_on_load_changed_runs_after_a_restart_only_for_another_state_or_after_a_failure(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('a.twc', watch(trace, 'run_on_load=CHANGED', '[ "$c" = bad ]'))
    ensemble.put('/a', 'x')
    twitcher.start()
    assert trace.wait(1) == ['load 1 x']
    twitcher.wait_ended('a.twc')
    twitcher.stop()
    twitcher.start()
    twitcher.fence(ensemble)
    assert trace.lines() == ['load 1 x']
    twitcher.stop()
    ensemble.put('/a', 'x')
    twitcher.start()
    assert trace.wait(2)[1:] == ['load 1 x']
    ensemble.put('/a', 'bad')
    twitcher.wait_ended('a.twc', 3)
    twitcher.stop()
    twitcher.start()
    assert trace.wait(4)[2:] == ['changed 1 bad', 'load 1 bad']


def test_an_edit_with_run_on_load_changed_runs_nothing_for_a_state_that_was_run_for(twitcher: Twitcher, ensemble: Ensemble,
                                                                                    trace: Trace) -> None:
    twitcher.config('a.twc', watch(trace, 'run_on_load=CHANGED'))
    ensemble.put('/a', 'x')
    twitcher.start()
    twitcher.wait_ended('a.twc')
    twitcher.config('a.twc', watch(trace, 'run_on_load=CHANGED, timeout=100'))
    fence(twitcher, ensemble)
    assert trace.lines() == ['load 1 x']


# RESTART

def service(trace: Trace, pidfile: Path, trap: str, arguments: str) -> str:
    """A watch on /a whose action runs until it is ended, and says so if another one still runs."""
    command = (f'{trap}; c=$(cat); [ -e {pidfile} ] && grep -qs "^State:.[RSD]" /proc/$(cat {pidfile})/status && '
               f'echo overlap >> {trace}; '
               f'echo $$ > {pidfile}; echo $TWITCHER_EVENT $c >> {trace}; date +%s.%N >> {trace}.times; '
               'while true; do sleep 0.05; done')
    return f"RegisterWatch('/a', Exec({command!r}), run_mode=RESTART, {arguments})\n"


def test_a_service_that_ignores_sigterm_is_killed_after_its_grace_and_never_overlaps(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    twitcher.config('a.twc', service(trace, tmp_path / 'pid', "trap '' TERM", 'grace=0.5, on_failure=STOP'))
    ensemble.put('/a', 0)
    twitcher.start()
    for number in range(3):
        trace.wait(number + 1)
        ensemble.put('/a', number + 1)
    assert trace.wait(4) == ['load 0', 'changed 1', 'changed 2', 'changed 3']
    times = [float(line) for line in Trace(Path(f'{trace}.times')).wait(4)]
    assert all(later - earlier >= 0.5 for earlier, later in zip(times, times[1:]))
    assert twitcher.log_lines(r'a\.twc: (stopped|failed)') == []


def test_a_service_goes_on_over_a_restart_of_the_daemon_and_is_ended_for_a_change_meanwhile(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    twitcher.config('a.twc', service(trace, tmp_path / 'pid', 'true', 'run_on_load=CHANGED'))
    ensemble.put('/a', 0)
    twitcher.start()
    trace.wait(1)
    twitcher.wait_started('a.twc')
    twitcher.kill()
    twitcher.start()
    twitcher.fence(ensemble)
    assert trace.lines() == ['load 0']
    twitcher.stop()
    ensemble.put('/a', 1)
    twitcher.start()
    assert trace.wait(2) == ['load 0', 'load 1']


def test_a_service_that_fails_while_the_daemon_is_another_one_is_loaded_again(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    twitcher.config('a.twc', service(trace, tmp_path / 'pid', 'true', 'run_on_load=CHANGED'))
    ensemble.put('/a', 0)
    twitcher.start()
    pid, = twitcher.wait_started('a.twc')
    trace.wait(1)
    twitcher.kill()
    twitcher.start()
    twitcher.fence(ensemble)
    os.killpg(pid, signal.SIGKILL)
    assert trace.wait(2) == ['load 0', 'load 0']


def test_an_edit_to_restart_ends_the_run_that_keeps_an_update_waiting(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                      tmp_path: Path) -> None:
    text = service(trace, tmp_path / 'pid', 'true', 'run_on_load=False')
    twitcher.config('a.twc', text.replace('RESTART', 'QUEUE'))
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/a', 0)
    trace.wait(1)
    ensemble.put('/a', 1)
    fence(twitcher, ensemble)
    assert trace.lines() == ['created 0']
    twitcher.config('a.twc', text)
    wait_for('the second run', lambda: trace.lines() == ['created 0', 'changed 1'])
