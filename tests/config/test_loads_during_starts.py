"""Files are loaded while threads start programs and open the log again: neither harms the other."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.held_program import children_before_exec, exec_blocked, write_script
from tests.support.waiting import wait_for
from twitcher.config.language import load_config
from twitcher.log_target import INFO, LogTarget, Record, open_target
from twitcher.runs import posix_spawn
from twitcher.runs.environment import Environment, SharedVariables

LOAD = """
import os, time
open({begun!r}, 'w').close()
while not os.path.exists({go!r}):
    time.sleep(0.01)
time.sleep(0.2)
RegisterWatch('/b', Exec('true'))
"""


def _pipes(pid: int) -> int:
    """How many ends of pipes a process has open."""
    found = 0
    for path in Path(f'/proc/{pid}/fd').iterdir():
        try:
            found += os.readlink(path).startswith('pipe:')
        except FileNotFoundError:
            continue
    return found


@pytest.mark.parametrize('who', ['', ', uid=65534'], ids=['as root', 'as nobody'])
def test_a_file_is_not_blamed_for_what_is_closed_when_a_program_has_been_started(
        twitcher: Twitcher, ensemble: Ensemble, who: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        begun, go, ran = (Path(name, each) for each in ('begun', 'go', 'ran'))
        slow = write_script(Path(name, 'slow'), f'touch {ran}')
        twitcher.config('s.twc', f"RegisterWatch('/s', Exec(['{slow}']), run_on_load=False{who})")
        ensemble.put('/s', 0)
        twitcher.start()
        twitcher.fence(ensemble)
        before = _pipes(twitcher.pid)
        with exec_blocked(slow):
            ensemble.put('/s', 1)
            wait_for('the program to be about to be executed', lambda: children_before_exec(twitcher.pid))
            twitcher.config('b.twc', LOAD.format(begun=str(begun), go=str(go)))
            wait_for('the load to begin', begun.exists)
        wait_for('the program to run', ran.exists)
        go.touch()
        twitcher.wait_log('b.twc: loaded, 1 watch|b.twc.*; not loaded')
        assert not twitcher.log_lines('closed descriptors')
        twitcher.wait_ended('s.twc')
        wait_for('the pipes to be closed', lambda: _pipes(twitcher.pid) <= before)


def test_the_log_may_be_opened_again_while_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / 'log'
    begun, go = tmp_path / 'begun', tmp_path / 'go'
    log = open_target(LogTarget('file', str(path)), 1)
    log.write(Record('x', INFO, 'one'), 1)

    def rotate() -> None:
        wait_for('the load to begin', begun.exists)
        path.rename(tmp_path / 'log.1')
        log.write(Record('x', INFO, 'two'), 1)
        go.touch()

    thread = threading.Thread(target=rotate)
    thread.start()
    assert load_config('/x.twc', LOAD.format(begun=str(begun), go=str(go)).encode())
    thread.join()
    log.write(Record('x', INFO, 'three'), 1)
    log.close()
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ['two', 'three']
    assert not [each for each in Path('/proc/self/fd').iterdir() if each.exists() and str(tmp_path) in os.readlink(each)]


@pytest.mark.skipif(not posix_spawn.is_available, reason='subprocess sets the umask in the child')
def test_a_program_that_is_started_during_a_load_has_the_umask_that_it_should_have(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, stdin = tmp_path / 'found', os.open(os.devnull, os.O_RDONLY)
    output = os.open(found, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    before, is_over, umask = os.umask(0o022), threading.Event(), os.umask
    environment = Environment({}, SharedVariables({}))

    def start() -> None:
        for _ in range(20):
            os.waitpid(posix_spawn.posix_spawn(['/bin/sh', '-c', 'umask'], environment, stdin, output), 0)
        is_over.set()

    def slow_umask(value: int) -> int:
        """So that a thread comes between two calls."""
        earlier = umask(value)
        time.sleep(0.01)
        return earlier

    monkeypatch.setattr(os, 'umask', slow_umask)
    thread = threading.Thread(target=start)
    try:
        thread.start()
        while not is_over.is_set():
            load_config('/x.twc', b'import os')
    finally:
        thread.join()
        umask(before)
        os.close(stdin)
        os.close(output)
    assert set(found.read_text().split()) == {'0022'}
