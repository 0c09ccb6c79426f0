"""A stop is a stop, whatever signals come, and no other signal ends the daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import command
from tests.support.waiting import PATIENCE, wait_for


@pytest.mark.parametrize('second', ['SIGTERM', 'SIGINT', 'SIGHUP'])
def test_a_second_signal_during_the_stop_neither_kills_it_nor_leaves_the_pidfile(
        twitcher: Twitcher, ensemble: Ensemble, second: str) -> None:
    for _ in range(5):
        twitcher.start('--pidfile', str(twitcher.pidfile))
        assert twitcher.process
        twitcher.process.send_signal(signal.SIGTERM)
        while twitcher.process.poll() is None:
            twitcher.process.send_signal(signal.Signals[second])
            time.sleep(0.001)  # without it the handlers would take all the time that the stop needs
        assert twitcher.process.returncode == 0
        assert not twitcher.pidfile.exists()
    assert len(twitcher.log_lines('stopping; runs')) == 5
    assert not twitcher.log_lines('Traceback|ERROR')


@pytest.mark.parametrize('name', ['SIGUSR1', 'SIGUSR2'])
def test_a_signal_without_meaning_is_ignored(twitcher: Twitcher, ensemble: Ensemble, name: str) -> None:
    twitcher.start()
    os.kill(twitcher.pid, signal.Signals[name])
    twitcher.wait_log(f'{name}: ignored')
    twitcher.fence(ensemble)
    assert twitcher.stop() == 0


def test_actions_do_not_ignore_what_the_daemon_does(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('u.twc', "RegisterWatch('/u', Exec('kill -USR1 $$'))")
    ensemble.put('/u', '')
    twitcher.start()
    assert twitcher.wait_ended('u.twc') == ['was killed by SIGUSR1']


@pytest.mark.parametrize('closed', ['<&-', '>&-', '2>&-', '<&- >&- 2>&-'])
def test_a_daemon_detaches_from_closed_standard_streams(twitcher: Twitcher, closed: str) -> None:
    pid = twitcher.detach(wrapper=['sh', '-c', f'exec "$@" {closed}', 'sh'])
    os.kill(pid, signal.SIGTERM)
    twitcher.wait_log('INFO: ended')
    wait_for('the pidfile to go', lambda: not twitcher.pidfile.exists())


@pytest.mark.parametrize('given', [{}, {'LC_CTYPE': 'C.UTF-8'}], ids=['nothing', 'LC_CTYPE'])
def test_actions_get_no_locale_that_nobody_has_set(twitcher: Twitcher, ensemble: Ensemble, given: dict[str, str]) -> None:
    twitcher.config('l.twc', "RegisterWatch('/l', Exec('env | grep ^L[AC]; echo end'))")
    ensemble.put('/l', '')
    words = [f'{name}={value}' for name, value in given.items()]
    twitcher.start(wrapper=['env', '-u', 'LANG', '-u', 'LC_ALL', '-u', 'LC_CTYPE', *words])
    lines = [f'{name}={value}' for name, value in given.items()] + ['end']
    assert twitcher.wait_printed('l.twc', len(lines)) == lines


def test_on_a_terminal_it_says_where_it_logs(twitcher: Twitcher) -> None:
    ours, theirs = os.openpty()
    socket = twitcher.directory / 'syslog'
    socket.touch()
    options = ['--zkservers', '127.0.0.1:1', '--config_path', twitcher.configs, '--state_dir', twitcher.directory / 'state',
               '--syslog_socket', socket]
    process = subprocess.Popen(command('twitcher', *options), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=theirs)
    try:
        line = ''
        while not line.endswith('\n'):  # a terminal may hand it over in pieces
            line += os.read(ours, 1000).decode()
        assert line == (f'twitcher: running on the files in {twitcher.configs} and logging to syslog; --log_to_stdout shows '
                        'the log here\r\n')
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
        os.close(ours)
        os.close(theirs)


def test_the_command_line_can_be_checked_without_running(twitcher: Twitcher) -> None:
    twitcher.start('--check_options', wait=False, log_to=[])
    assert twitcher.process
    assert twitcher.process.wait(PATIENCE) == 0
    twitcher.start('--check_options', '--max_running', '0', wait=False, log_to=[])
    assert twitcher.process.wait(PATIENCE) == 2
    assert "twitcher: argument --max_running: '0' is not allowed" in twitcher.stdio()
