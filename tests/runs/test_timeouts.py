"""Timeouts, notify_signal, and how the end of a run is logged."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import List

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.waiting import Trace, wait_for

END = r'{}: pid (\d+) (exited \d+|was killed by SIG\w+) after ([\d.]+) s$'


def wait_end(twitcher: Twitcher, description: str) -> re.Match[str]:
    """The record of the first end of a run."""
    return twitcher.wait_log(END.format(re.escape(description)))[0]


def group_members(group: int) -> List[int]:
    """The pids of a process group that are no zombies."""
    found = []
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            state, _, its_group = Path(f'/proc/{name}/stat').read_text().rpartition(')')[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != 'Z':
            found.append(int(name))
    return found


@pytest.mark.parametrize('timeout', [0.3, 1])
def test_a_run_gets_sigterm_when_its_time_is_up(twitcher: Twitcher, ensemble: Ensemble, timeout: float) -> None:
    twitcher.config('t.twc', f"RegisterWatch('/t', Exec(['sleep', '1000']), timeout={timeout})")
    ensemble.put('/t', '')
    twitcher.start()
    end = wait_end(twitcher, 't.twc')
    assert end[2] == 'was killed by SIGTERM'
    assert timeout <= float(end[3]) < timeout + 4
    assert twitcher.log_lines(rf't.twc: pid {end[1]} is still running after {timeout:g} s')


def test_a_pipeline_dies_whole(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('t.twc', "RegisterWatch('/t', Exec('sleep 100 | cat'), timeout=0.4)")
    ensemble.put('/t', '')
    twitcher.start()
    twitcher.wait_log('t.twc: pid .* started')
    [pid] = twitcher.wait_started('t.twc')
    wait_for('the pipeline', lambda: len(group_members(pid)) >= 2)
    assert wait_end(twitcher, 't.twc')[2] == 'was killed by SIGTERM'
    wait_for('the end of all of it', lambda: not group_members(pid))
    assert not twitcher.log_lines('SIGKILL')


@pytest.mark.parametrize('action', [
    "Exec('trap \"\" TERM; while :; do sleep 0.1; done')", "Exec('trap \"\" TERM; sleep 100 | cat')", 'deaf'])
def test_an_action_that_ignores_sigterm_is_killed_between_five_and_six_seconds_after_it(
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
    end = wait_end(twitcher, 't.twc')
    assert end[2] == 'was killed by SIGKILL'
    assert 5.5 <= float(end[3]) < 6.5
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
        assert wait_end(twitcher, description)[2] == f'exited {code}'
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
        end = wait_end(twitcher, f't.twc#{number}')
        assert end[2] == 'was killed by SIGTERM'
        assert float(end[3]) < 4


def test_the_next_run_waits_for_what_ignores_the_sigterm_that_its_leader_heeded_but_no_more_than_five_seconds(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('t.twc', f'''
        RegisterWatch('/t', Exec("""
            case `cat` in
                0) (trap '' TERM; echo ready >> {trace}; while :; do sleep 0.1; done) & trap 'exit 0' TERM; wait;;
                *) echo next >> {trace};;
            esac"""), timeout=0.5)
    ''')
    ensemble.put('/t', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    ensemble.put('/t', 1)
    end = wait_end(twitcher, 't.twc')
    ended = time.monotonic()
    assert end[2] == 'exited 0'
    assert float(end[3]) < 4
    assert group_members(int(end[1]))
    trace.wait_for_line('next')
    assert 4 < time.monotonic() - ended < 7
    assert not group_members(int(end[1]))
    assert trace.lines() == ['ready', 'next']


def test_the_next_run_starts_as_soon_as_the_last_of_the_group_is_gone(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('t.twc', f'''
        RegisterWatch('/t', Exec("""
            case `cat` in
                0) (trap '' TERM; echo ready >> {trace}; while [ ! -e {trace}.go ]; do sleep 0.05; done; echo gone >> {trace}) &
                   trap 'exit 0' TERM; wait;;
                *) echo next >> {trace};;
            esac"""), timeout=0.5)
    ''')
    ensemble.put('/t', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    ensemble.put('/t', 1)
    wait_end(twitcher, 't.twc')
    twitcher.fence(ensemble)
    assert trace.lines() == ['ready']
    Path(f'{trace}.go').touch()
    assert trace.wait(3) == ['ready', 'gone', 'next']
    assert not twitcher.log_lines('SIGKILL')


def test_what_a_run_leaves_in_the_background_is_left_alone(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('t.twc', f'''
        RegisterWatch('/t', Exec('sleep 1000 & echo $! >> {trace}'), description='no timeout')
        RegisterWatch('/t', Exec('sleep 1000 & echo $! >> {trace}'), timeout=3, description='in time')
        RegisterWatch('/t', Exec(['sleep', '1000']), timeout=3.5, description='later')
    ''')
    ensemble.put('/t', '')
    twitcher.start()
    for description in ('no timeout', 'in time'):
        assert wait_end(twitcher, description)[2] == 'exited 0'
    wait_end(twitcher, 'later')  # by now the other timeout would have come
    assert all(is_alive(int(line)) for line in trace.wait(2))
    assert not twitcher.log_lines('(no timeout|in time): .*SIG')
    ensemble.put('/t', 'a change')
    trace.wait(4)  # nor does it hold up the next run
    for description in ('no timeout', 'in time'):
        twitcher.wait_started(description, 2)  # whose groups are ended by what the log says


def test_the_end_of_a_run_is_logged_with_description_pid_how_and_duration(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('t.twc', '''
        RegisterWatch('/t', Exec('sleep 0.3'), description='good one')
        RegisterWatch('/t', Exec('exit 7'), description='bad one')
        RegisterWatch('/t', Exec('kill -SEGV $$'), description='killed one')
    ''')
    ensemble.put('/t', '')
    twitcher.start()
    for description, level, how in (('good one', 'INFO', 'exited 0'), ('bad one', 'WARNING', 'exited 7'),
                                    ('killed one', 'WARNING', 'was killed by SIGSEGV')):
        end = wait_end(twitcher, description)
        assert (int(end[1]), end[2]) == (twitcher.started(description)[0], how)
        assert twitcher.log_lines(rf' {level}: {description}: pid {end[1]} {how} after')
    assert 0.3 <= float(wait_end(twitcher, 'good one')[3]) < 4


# notify_signal

@pytest.mark.parametrize('name', ["'SIGUSR1'", "'USR1'", str(int(signal.SIGUSR1)), 'signal.SIGUSR1'])
def test_notify_signal_reaches_the_process_itself_when_an_update_arrives(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, name: str) -> None:
    twitcher.config('n.twc', f'''
        import signal
        RegisterWatch('/n', Exec("""
            if [ `cat` != 0 ]; then echo next >> {trace}; exit; fi
            sh -c 'trap "echo child >> {trace}" USR1; while [ ! -e {trace}.go ]; do sleep 0.02; done' &
            trap 'echo notified >> {trace}' USR1
            echo ready >> {trace}
            while [ ! -e {trace}.go ]; do sleep 0.02; done
            wait; echo end >> {trace}"""), notify_signal={name})
    ''')
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    twitcher.fence(ensemble)
    assert trace.lines() == ['ready']
    for number in (1, 2):
        ensemble.put('/n', number)
        trace.wait(1 + number)
    Path(f'{trace}.go').touch()
    trace.wait_for_line('next')
    assert trace.lines() == ['ready', 'notified', 'notified', 'end', 'next']
    twitcher.fence(ensemble)
    assert twitcher.ended('n.twc') == ['exited 0', 'exited 0']


def test_notify_signal_reaches_a_python_action(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('n.twc', f'''
        import signal, sys
        def f():
            signal.signal(signal.SIGHUP, lambda *_: sys.exit(5))
            if sys.stdin.read() == '0':
                print('ready', file=open('{trace}', 'w'))
                signal.pause()
        RegisterWatch('/n', f, notify_signal='SIGHUP')
    ''')
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    ensemble.put('/n', 1)
    assert twitcher.wait_ended('n.twc', 2) == ['exited 5', 'exited 0']


@pytest.mark.parametrize('mode', ['DISCARD', 'PARALLEL'])
def test_notify_signal_is_not_sent_in_other_modes(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, mode: str) -> None:
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec('echo ready >> {trace}; exec sleep 1000'), notify_signal='SIGUSR1', "
                             f"run_mode={mode})")
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    ensemble.put('/n', 1)
    twitcher.fence(ensemble)
    assert len(twitcher.started('n.twc')) == (1 if mode == 'DISCARD' else 2)
    assert all(is_alive(pid) for pid in twitcher.started('n.twc'))
    assert not twitcher.log_lines('SIGUSR1')


def test_notify_signal_is_not_sent_to_what_a_leader_left_behind(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('n.twc', f'''
        RegisterWatch('/n', Exec("""(trap 'echo notified >> {trace}' USR1; echo ready >> {trace}
                                     while :; do sleep 0.05; done) & true"""), notify_signal='USR1')
    ''')
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait(1)
    twitcher.wait_ended('n.twc')
    ensemble.put('/n', 1)
    twitcher.wait_ended('n.twc', 2)
    twitcher.fence(ensemble)
    assert trace.wait(2) == ['ready', 'ready']
