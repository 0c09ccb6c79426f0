"""The pidfile: written before the parent exits, removed at the end, and held by one daemon at a time."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import List

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.programs import call
from tests.support.waiting import Trace, wait_for

QUIET = ['--logfile', '/dev/null']


def test_the_pidfile_holds_the_pid_by_the_time_the_parent_exits(twitcher: Twitcher) -> None:
    # An init script reads it then.
    twitcher.start('--daemonize', '--pidfile', str(twitcher.pidfile), wait=False)
    assert twitcher.process and twitcher.process.wait() == 0  # without a limit: that would look every now and then only
    text = twitcher.pidfile.read_text()
    twitcher.detached = wait_for('the pidfile', lambda: int(twitcher.pidfile.read_text() or 0))
    assert text == f'{twitcher.detached}\n'


@pytest.mark.parametrize('contents', ['', '1\n', '999999999\n', 'no pid\n', '\n' * 1000])
def test_what_a_dead_process_left_in_the_pidfile_does_not_block(twitcher: Twitcher, contents: str) -> None:
    twitcher.pidfile.write_text(contents)
    twitcher.start('--pidfile', str(twitcher.pidfile))
    assert twitcher.pidfile.read_text() == f'{twitcher.pid}\n'
    assert twitcher.stop() == 0
    assert not twitcher.pidfile.exists()


def test_the_pidfile_of_a_killed_daemon_does_not_block_even_with_its_runs_alive(twitcher: Twitcher, ensemble: Ensemble,
                                                                               trace: Trace) -> None:
    twitcher.config('s.twc', f"RegisterWatch('/s', Exec('echo begin >> {trace}; sleep 60'), description='command')\n"
                             f"RegisterWatch('/s', lambda: __import__('time').sleep(60), description='function')")
    ensemble.put('/s', '')
    twitcher.detach()
    twitcher.wait_log('command: pid .* started')
    twitcher.wait_log('function: pid .* started')
    trace.wait(1)
    os.kill(twitcher.detached, signal.SIGKILL)
    wait_for('the end of the daemon', lambda: not is_alive(twitcher.detached))
    assert twitcher.pidfile.read_text() == f'{twitcher.detached}\n'
    before, seen = twitcher.detached, len(twitcher.log())
    wait_for('another pid', lambda: twitcher.detach() != before)
    twitcher.wait_log('ZooKeeper: connected', after=seen)


@pytest.mark.parametrize('options', [[], ['--daemonize']])
def test_a_second_daemon_is_refused_and_the_first_undisturbed(twitcher: Twitcher, ensemble: Ensemble,
                                                             options: List[str]) -> None:
    twitcher.start('--pidfile', str(twitcher.pidfile))
    before = twitcher.pidfile.stat().st_mtime_ns
    result = call('twitcher', '--pidfile', twitcher.pidfile, '--config_path', twitcher.configs, *QUIET, *options)
    assert (result.returncode, result.stdout) == (1, b'')
    error = f'twitcher: pidfile {twitcher.pidfile}: a twitcher is running already, with pid {twitcher.pid}\n'
    assert result.stderr.decode() == error
    assert (twitcher.pidfile.read_text(), twitcher.pidfile.stat().st_mtime_ns) == (f'{twitcher.pid}\n', before)
    twitcher.fence(ensemble)
    assert twitcher.stop() == 0


def test_a_pidfile_that_was_replaced_is_left_to_whoever_did_it(twitcher: Twitcher, tmp_path: Path) -> None:
    (tmp_path / 'second').mkdir()
    second = Twitcher(tmp_path / 'second', twitcher.hosts)
    twitcher.start('--pidfile', str(twitcher.pidfile))
    twitcher.pidfile.unlink()
    try:
        second.start('--pidfile', str(twitcher.pidfile))
        assert twitcher.stop() == 0
        assert twitcher.pidfile.read_text() == f'{second.pid}\n'
        assert second.stop() == 0
        assert not twitcher.pidfile.exists()
    finally:
        second.close()


def test_a_pidfile_that_was_removed_does_not_spoil_the_stop(twitcher: Twitcher) -> None:
    twitcher.start('--pidfile', str(twitcher.pidfile))
    twitcher.pidfile.unlink()
    assert twitcher.stop() == 0
    assert twitcher.stdio() == ''
