"""Detaching: --daemonize, and what the caller's descriptors, directory and signals mean to the daemon."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive, process_status, signals_in
from tests.support.waiting import Trace, wait_for


def stop(pid: int) -> None:
    """Stop a daemon that is not our child."""
    os.kill(pid, signal.SIGTERM)
    wait_for('the end of the daemon', lambda: not is_alive(pid))


def test_a_detached_daemon_has_a_session_of_its_own_and_no_tie_to_its_caller(twitcher: Twitcher) -> None:
    pid = twitcher.detach()
    twitcher.wait_log('ZooKeeper: connected')
    assert os.getsid(pid) not in (pid, os.getsid(0), twitcher.pid) and process_status(pid)['PPid'] != str(twitcher.pid)
    assert {os.readlink(f'/proc/{pid}/fd/{number}') for number in range(3)} == {'/dev/null'}
    assert os.readlink(f'/proc/{pid}/cwd') == '/'
    assert process_status(pid)['Umask'] == '0022'
    assert twitcher.stdio() == ''
    stop(pid)
    assert not twitcher.pidfile.exists()


def test_relative_paths_are_those_of_the_caller(twitcher: Twitcher, tmp_path: Path) -> None:
    twitcher.config('x.twc', "RegisterWatch('/x', Exec('true'))")
    wrapper = ['env', '--chdir', str(tmp_path)]
    twitcher.detach('--pidfile', 'pid', '--config_path', 'etc', wrapper=wrapper, log_to=['--logfile', 'log'])
    twitcher.wait_log(f'{tmp_path}/etc/x.twc: loaded')


@pytest.mark.parametrize('is_function', [False, True])
def test_actions_of_a_detached_daemon_find_a_clean_process(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                          is_function: bool) -> None:
    look = f'(grep -E ^Sig[BI] /proc/self/status; ulimit -c; umask; pwd; echo end) >> {trace}'
    action = f"lambda: __import__('os').execv('/bin/sh', ['sh', '-c', {look!r}])" if is_function else f'Exec({look!r})'
    twitcher.config('look.twc', f"RegisterWatch('/look', {action})")
    ensemble.put('/look', '')
    # As nohup(1) and a shell's & leave it, with a core limit that it must keep and a umask that it must not.
    limit = '7' if resource.getrlimit(resource.RLIMIT_CORE)[1] else '0'  # sudo(8) may have forbidden cores for good
    script = f'trap "" HUP INT QUIT TSTP TTOU; ulimit -S -c {limit} && umask 077 && exec "$@"'
    twitcher.detach(wrapper=['sh', '-c', script, 'sh'])
    lines = trace.wait_for_line('end')
    core, umask, directory = lines[-4:-1]
    assert (core, int(umask, 8), directory) == (limit, 0o022, '/')
    assert [signals_in(line.split()[1]) for line in lines[:2]] == [[], []]


def test_closed_standard_streams_hurt_neither_the_daemon_nor_its_actions(twitcher: Twitcher, ensemble: Ensemble,
                                                                        trace: Trace) -> None:
    twitcher.config('c.twc', f"RegisterWatch('/c', Exec('cat >> {trace}; echo said'), description='command')\n"
                             "RegisterWatch('/c', lambda: print('said'), description='function')")
    ensemble.put('/c', 'contents\n')
    twitcher.start(wrapper=['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh'])
    for name in ('command', 'function'):
        twitcher.wait_log(rf': {name}\[\d+\]: said')
        twitcher.wait_log(rf': {name}: pid \d+ exited 0')
    assert trace.lines() == ['contents']
    assert twitcher.stop() == 0


@pytest.mark.parametrize('closed', ['<&-', '>&-', '2>&-', '<&- >&- 2>&-'])
def test_a_daemon_detaches_from_closed_standard_streams(twitcher: Twitcher, closed: str) -> None:
    pid = twitcher.detach(wrapper=['sh', '-c', f'exec "$@" {closed}', 'sh'])
    os.kill(pid, signal.SIGTERM)
    twitcher.wait_log('INFO: ended')
    wait_for('the pidfile to go', lambda: not twitcher.pidfile.exists())
