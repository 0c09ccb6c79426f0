"""Runs that ended with their machine, or with the container: what they ran for is run for again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.actions import until
from tests.support.configs import watch
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import TOP
from tests.support.state_directory import change_state
from tests.support.waiting import Trace


def begin(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, mode: str) -> None:
    """A daemon, and a run for the contents 1."""
    twitcher.config('r.twc', f"RegisterWatch('/r', Exec('echo `cat` >> {trace}; [ -e {trace}.quick ] || exec sleep 100'), "
                             f"run_mode={mode}, run_on_load=False)")
    ensemble.put('/r', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/r', 1)
    trace.wait_for_line('1')
    twitcher.wait_started('r.twc')


@pytest.mark.parametrize('mode', ['QUEUE', 'DISCARD', 'PARALLEL'])
def test_a_run_that_ended_with_the_machine_is_made_again_whatever_run_on_load_says(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, mode: str) -> None:
    begin(twitcher, ensemble, trace, mode)
    twitcher.kill()
    (pid,) = twitcher.wait_started('r.twc')
    os.killpg(pid, signal.SIGKILL)
    change_state(twitcher, "UPDATE run SET boot = 'another'")
    trace.path.with_name(f'{trace.path.name}.quick').touch()
    twitcher.start()
    assert trace.wait(2) == ['1', '1']
    twitcher.wait_ended('r.twc')
    for _ in range(2):  # and once only
        twitcher.kill()
        twitcher.start()
        twitcher.fence(ensemble)
    assert trace.lines() == ['1', '1']


def test_a_run_that_came_to_its_end_while_no_daemon_ran_is_not_made_again(twitcher: Twitcher, ensemble: Ensemble,
                                                                          trace: Trace) -> None:
    go = twitcher.directory / 'go'
    twitcher.config('r.twc', f"RegisterWatch('/r', Exec('{until(go)}; echo `cat` >> {trace}'), "
                             'run_on_load=False)')
    twitcher.config('other.twc', watch('/r', trace, 'other'))
    ensemble.put('/r', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/r', 1)
    twitcher.wait_started('r.twc')
    twitcher.kill()
    go.touch()
    trace.wait_for_line('1')
    twitcher.start()
    twitcher.fence(ensemble)
    assert trace.lines().count('1') == 1


def test_each_start_of_a_container_is_a_life_of_its_own() -> None:
    show = [sys.executable, '-c', 'from twitcher.runs.procfs import machine_id; print(machine_id())']
    container = ['unshare', '--pid', '--fork', '--mount-proc']

    def machine_id(*wrapper: str) -> str:
        return subprocess.run([*wrapper, *show], cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout

    ids = [machine_id(), machine_id(*container), machine_id(*container), machine_id()]
    assert ids[0] == ids[3] and len(set(ids)) == 3
