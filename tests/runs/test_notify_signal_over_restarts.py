"""A daemon that is killed while its notify_signal kills a service leaves no second service behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import tempfile
from pathlib import Path
from typing import Any, List

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.waiting import Trace, wait_for


def test_what_a_killed_service_leaves_is_ended_though_the_daemon_is_killed_first(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('n.twc', f'''
        RegisterWatch('/n', Exec(['sh', '-c', 'sleep 1000 & echo $! >> {trace}; wait']), notify_signal='SIGTERM')
    ''')
    ensemble.put('/n', 0)
    twitcher.start()
    [first] = map(int, trace.wait(1))
    [leader] = twitcher.wait_started('n.twc')
    os.kill(leader, signal.SIGSTOP)  # so that it dies of the signal only after the daemon
    ensemble.put('/n', 1)
    twitcher.wait_log(f'n.twc: SIGTERM to pid {leader}')
    twitcher.kill()
    os.kill(leader, signal.SIGCONT)
    wait_for('the end of the shell', lambda: not is_alive(leader))
    assert is_alive(first)
    twitcher.start()
    trace.wait(2)
    assert not is_alive(first)
    twitcher.fence(ensemble)
    assert len(trace.lines()) == 2
    assert twitcher.log_lines(f'n.twc: notify_signal has ended pid {leader}, but not its process group: SIGTERM')


def test_a_service_that_outlives_a_deadly_signal_is_not_taken_for_killed_by_it_later(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('n.twc', f'''
        RegisterWatch('/n', Exec(['sh', '-c', 'sleep 1000 & echo $! >> {trace}; wait']), notify_signal='SIGTERM',
                      run_on_load=False)
    ''')
    ensemble.put('/n', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/n', 1)
    [background] = map(int, trace.wait(1))
    [leader] = twitcher.wait_started('n.twc')
    os.kill(leader, signal.SIGSTOP)
    ensemble.put('/n', 2)
    twitcher.wait_log(f'n.twc: SIGTERM to pid {leader}')
    wait_for('the note that it lives', lambda: notified(twitcher) == [None])
    twitcher.kill()
    os.kill(leader, signal.SIGKILL)
    wait_for('the end of the shell', lambda: not is_alive(leader))
    twitcher.start()
    trace.wait(2)
    assert is_alive(background)
    os.kill(background, signal.SIGKILL)


def notified(twitcher: Twitcher) -> List[Any]:
    """When the processes of the runs in progress were sent a signal that kills them, as the next daemon would read it.

    The file is locked: a copy has what was written.
    """
    with tempfile.TemporaryDirectory() as directory:
        for path in (twitcher.directory / 'state').glob('*.sqlite3*'):
            shutil.copy(path, directory)
        (path,) = Path(directory).glob('*.sqlite3')
        with contextlib.closing(sqlite3.connect(path)) as file:
            return [moment for moment, in file.execute('SELECT notified FROM run WHERE description = ?', ('n.twc',))]
