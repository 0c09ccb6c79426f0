"""A timeout that has come is carried through by the next daemon, and no process that goes on is taken for ended."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Callable

import pytest

from tests.support.actions import until, with_deaf_child
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import group_members, is_alive
from tests.support.waiting import Trace, wait_for

SIGTERM = r't\.twc: .*: SIGTERM to its process group'
END = pytest.mark.parametrize('end', [Twitcher.kill, Twitcher.stop], ids=['killed', 'stopped'])


@END
def test_what_a_timed_out_run_has_left_is_killed_by_the_next_daemon_before_the_next_run(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path,
        end: Callable[[Twitcher], object]) -> None:
    twitcher.config('t.twc', f"RegisterWatch('/t', {with_deaf_child(trace, gate)}, timeout=1)")
    ensemble.put('/t', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    twitcher.wait_log(SIGTERM)
    assert twitcher.wait_ended('t.twc') == ['exited 0']
    [pid] = twitcher.started('t.twc')
    end(twitcher)
    ensemble.put('/t', 1)
    twitcher.start()
    wait_for('the end of the group', lambda: not group_members(pid))
    assert twitcher.seconds_between(
        SIGTERM, f't.twc: the process group of pid {pid} is still there 5 s after SIGTERM: SIGKILL') > 4.9
    assert trace.wait(2) == ['ready', 'next']


def test_a_leader_that_is_deaf_to_sigterm_is_killed_by_the_next_daemon_in_time(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('t.twc', f"""RegisterWatch('/t', Exec('trap "" TERM; echo ready >> {trace}; while :; do sleep 0.1; done'),
                                               timeout=1)""")
    ensemble.put('/t', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    twitcher.wait_log(SIGTERM)
    [pid] = twitcher.started('t.twc')
    twitcher.kill()
    twitcher.start()
    wait_for('the end of the process', lambda: not is_alive(pid))
    assert 4.9 < twitcher.seconds_between(SIGTERM, r't\.twc: .*: SIGKILL') < 20
    twitcher.wait_started('t.twc', 2)
    assert len(twitcher.log_lines(f't.twc: pid {pid} .*SIGTERM to its process group')) == 1  # and no grace anew


def test_a_process_whose_main_thread_has_ended_is_waited_for_by_the_next_daemon(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    program = tmp_path / 'program.py'
    program.write_text(f'''
import ctypes, os, sys, threading, time
def go_on():
    with open('{trace}', 'a', 1) as file:
        file.write('begin\\n')
        while not os.path.exists('{trace}.go'):
            time.sleep(0.02)
        file.write('end\\n')
        os._exit(0)
threading.Thread(target=go_on).start()
# exit(2), not exit_group(2)
ctypes.CDLL(None).syscall({{'x86_64': 60}}.get(os.uname().machine, 93), 0)
''')
    twitcher.config('t.twc', f"RegisterWatch('/t', Exec(['python3', '{program}']))")
    ensemble.put('/t', 0)
    twitcher.start()
    trace.wait_for_line('begin')
    [pid] = twitcher.wait_started('t.twc')
    wait_for('the end of its main thread', lambda: not is_alive(pid))
    assert not twitcher.ended('t.twc')
    twitcher.kill()
    ensemble.put('/t', 1)
    twitcher.start()
    twitcher.wait_log(f't.twc: pid {pid} of an earlier daemon')
    twitcher.fence(ensemble)
    assert twitcher.started('t.twc') == [pid]
    Path(f'{trace}.go').touch()
    assert trace.wait(4) == ['begin', 'end', 'begin', 'end']


def test_a_daemon_that_was_stopped_beyond_a_timeout_sees_the_end_first(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('t.twc', f'''
        RegisterWatch('/t', Exec('sleep 1000 & echo $! >> {trace}; {until(f'{trace}.go')}'), timeout=4)
    ''')
    ensemble.put('/t', 0)
    twitcher.start()
    [background] = map(int, trace.wait(1))
    [pid] = twitcher.wait_started('t.twc')
    os.kill(twitcher.pid, signal.SIGSTOP)
    began = time.monotonic()
    Path(f'{trace}.go').touch()
    wait_for('the end of the process', lambda: not is_alive(pid))
    wait_for('the timeout', lambda: time.monotonic() - began > 5)
    os.kill(twitcher.pid, signal.SIGCONT)
    assert twitcher.wait_ended('t.twc') == ['exited 0']
    twitcher.fence(ensemble)
    assert not twitcher.log_lines('t.twc: .*(still|SIGTERM)')
    assert is_alive(background)
