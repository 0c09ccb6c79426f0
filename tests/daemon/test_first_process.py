"""Twitcher as process 1, as a container starts it: it reaps what actions leave, and stops and rereads when it is told to."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import PATIENCE, wait_for

# A pid namespace whose process 1 is the daemon, with a /proc that shows it.
CONTAINER = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc']


@pytest.fixture
def container(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> Iterator[Twitcher]:
    """A daemon that is process 1, with an action that leaves five orphans behind."""
    if subprocess.run([*CONTAINER, 'true'], capture_output=True).returncode:
        pytest.fail('no pid namespace can be had here')
    twitcher.config('o.twc', "RegisterWatch('/o', Exec('for i in 1 2 3 4 5; do (sleep 0.2 &); done; echo left'))")
    ensemble.put('/o', '')
    twitcher.start(wrapper=CONTAINER)
    twitcher.wait_printed('o.twc', 1)
    yield twitcher
    assert twitcher.process
    twitcher.process.kill()  # which ends the whole namespace
    twitcher.process.wait(PATIENCE)
    twitcher.log_path.unlink()  # its pids are the namespace's, and mean other processes outside


def first_process(twitcher: Twitcher) -> int:
    """The pid, seen from here, of the namespace's process 1."""
    (child,) = children(twitcher.pid)
    return child


def children(pid: int) -> List[int]:
    """The children of a process."""
    return [int(word) for word in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def states_below(pid: int) -> List[str]:
    """The name and state of each child of a process."""
    texts = []
    for child in children(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may be reaped meanwhile
            texts.append(Path(f'/proc/{child}/stat').read_text())
    return [f'{text[text.index("(") + 1:text.rindex(")")]} {text.rpartition(") ")[2][0]}' for text in texts]


def test_the_orphans_of_actions_are_reaped(container: Twitcher) -> None:
    first = first_process(container)
    wait_for('the sleeping orphans', lambda: any(state.startswith('sleep') for state in states_below(first)) or
             container.ended('o.twc'))
    container.wait_ended('o.twc')
    wait_for('all orphans to be gone', lambda: not any(state.startswith('sleep') for state in states_below(first)))
    assert not [state for state in states_below(first) if state.endswith('Z')]


def test_signals_reach_the_daemon_and_its_exit_code_comes_out(container: Twitcher) -> None:
    first = first_process(container)
    subprocess.run(['kill', '-HUP', str(first)], check=True)
    container.wait_log('SIGHUP: rereading')
    subprocess.run(['kill', '-TERM', str(first)], check=True)
    assert container.process
    assert container.process.wait(PATIENCE) == 0
    assert container.log_lines('INFO: ended')


def test_a_daemon_that_is_killed_ends_the_container(container: Twitcher) -> None:
    first = first_process(container)
    (daemon,) = [child for child in children(first) if str(container.configs) in Path(f'/proc/{child}/cmdline').read_text()]
    subprocess.run(['kill', '-KILL', str(daemon)], check=True)
    assert container.process
    assert container.process.wait(PATIENCE) == 128 + signal.SIGKILL
