"""What a new daemon knows of the one before it: runs in progress, timeouts, updates that wait."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Callable

import pytest

from tests.support.actions import endless, slow
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.state_directory import change_state
from tests.support.waiting import Trace, wait_for
from twitcher.zookeeper.throwaway import ThrowAwayServer

END = pytest.mark.parametrize('end', [Twitcher.kill, Twitcher.stop], ids=['killed', 'stopped'])


@END
@pytest.mark.parametrize('mode', ['QUEUE', 'DISCARD'])
def test_a_run_of_an_earlier_daemon_is_waited_for(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path,
                                                  mode: str, end: Callable[[Twitcher], object]) -> None:
    twitcher.config('s.twc', f"RegisterWatch('/s', {slow(trace, gate)}, run_mode={mode})")
    ensemble.put('/s', 1)
    twitcher.start()
    trace.wait_for_line('begin 1')
    end(twitcher)
    ensemble.put('/s', 2)
    twitcher.start()
    twitcher.fence(ensemble)
    assert trace.lines() == ['begin 1']
    gate.touch()
    assert trace.wait(4) == ['begin 1', 'end', 'begin 2', 'end']
    twitcher.wait_log(r's.twc: pid \d+ (exited 0|ended \(exit code unknown)')


@END
def test_a_timeout_holds_though_its_daemon_is_gone(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                   end: Callable[[Twitcher], object]) -> None:
    twitcher.config('t.twc', f"RegisterWatch('/t', {endless(trace)}, timeout=4)")
    ensemble.put('/t', 1)
    twitcher.start()
    trace.wait(1)
    twitcher.wait_log('t.twc: pid .* started')
    end(twitcher)
    (pid,) = twitcher.wait_started('t.twc')
    ensemble.put('/t', 2)
    twitcher.start()
    twitcher.wait_log(f't.twc: pid {pid} is still running after 4 s')
    wait_for('the run to die', lambda: not is_alive(pid))
    assert trace.wait(2) == ['1', '2']


@END
def test_an_update_that_waited_is_run_by_the_next_daemon_whatever_run_on_load_says(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path,
        end: Callable[[Twitcher], object]) -> None:
    twitcher.config('w.twc', f"RegisterWatch('/w', {slow(trace, gate)}, run_on_load=False)")
    ensemble.put('/w', 0)
    twitcher.start('--verbose')
    twitcher.fence(ensemble)
    ensemble.put('/w', 1)
    trace.wait_for_line('begin 1')
    ensemble.put('/w', 2)
    twitcher.wait_log('w.twc: changed .* waits for the run in progress')
    twitcher.fence(ensemble)
    end(twitcher)
    gate.touch()
    twitcher.start('--verbose')
    assert trace.wait(4) == ['begin 1', 'end', 'begin 2', 'end']
    end(twitcher)
    twitcher.start('--verbose')
    twitcher.fence(ensemble)
    assert len(trace.lines()) == 4


def test_a_daemon_killed_between_its_two_notes_of_a_run_leaves_enough_to_find_it(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    twitcher.config('n.twc', f"RegisterWatch('/n', {slow(trace, gate)})")
    ensemble.put('/n', 1)
    twitcher.start()
    trace.wait_for_line('begin 1')
    twitcher.wait_log('n.twc: pid .* started')
    twitcher.kill()
    assert change_state(twitcher, 'UPDATE run SET pid = NULL, start_time = NULL') == 1
    ensemble.put('/n', 2)
    twitcher.start()
    twitcher.fence(ensemble)
    assert trace.lines() == ['begin 1']
    gate.touch()
    assert trace.wait(4) == ['begin 1', 'end', 'begin 2', 'end']


def start_and_kill_during_a_run(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> int:
    """A daemon is killed, and its run, which does not end by itself, goes on. Returns the run's pid."""
    twitcher.config('r.twc', f"RegisterWatch('/r', {endless(trace)})")
    ensemble.put('/r', 1)
    twitcher.start()
    trace.wait(1)
    [pid] = twitcher.wait_started('r.twc')
    twitcher.kill()
    return pid


def test_a_recycled_pid_is_no_run_of_ours(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    os.killpg(start_and_kill_during_a_run(twitcher, ensemble, trace), signal.SIGKILL)
    assert change_state(twitcher, f'UPDATE run SET pid = {os.getpid()}') == 1
    twitcher.start()
    assert trace.wait(2) == ['1', '1']


def test_runs_from_before_a_reboot_are_forgotten(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    start_and_kill_during_a_run(twitcher, ensemble, trace)
    assert change_state(twitcher, "UPDATE run SET boot = 'another'") == 1
    twitcher.start()
    assert trace.wait(2) == ['1', '1']


def test_a_daemon_that_is_still_stopping_hands_over_all_the_same(tmp_path: Path, own_server: ThrowAwayServer,
                                                                         trace: Trace) -> None:
    part = Ensemble(own_server.hosts)
    part.put('/l', 1)
    twitcher = Twitcher(tmp_path, part.hosts)
    try:
        twitcher.config('l.twc', f"RegisterWatch('/l', {endless(trace)})")
        twitcher.start()
        trace.wait(1)
        twitcher.wait_log('l.twc: pid .* started')
        own_server.signal(signal.SIGSTOP)  # so that the stop takes as long as it can
        earlier = twitcher.process
        assert earlier
        earlier.send_signal(signal.SIGTERM)
        twitcher.start(wait=False)
        twitcher.wait_log('INFO: started; ', count=2)
        own_server.signal(signal.SIGCONT)
        earlier.wait()
        twitcher.wait_log('ZooKeeper: connected', count=2)
        twitcher.fence(part)
        assert trace.lines() == ['1']
    finally:
        own_server.signal(signal.SIGCONT)
        twitcher.close()
        part.close()
