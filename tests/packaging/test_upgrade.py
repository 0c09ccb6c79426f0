"""An installation of Twitcher 1.7 goes on with the new daemon: its command lines, its files, and what has become of both."""

from __future__ import annotations

import fcntl
import os
import pwd
import signal
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.programs import TOP, command
from tests.support.waiting import PATIENCE, Trace, wait_for

NOBODY = pwd.getpwnam('nobody')
# What a daemon remembers by default lies where only one that is installed should write.
HIDING = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /var/lib && exec "$@"', 'sh']

UPSTART = '--pidfile {pidfile} --logfile {log} --verbose --zkservers {zkservers} --config_path {configs}'
INIT = '--pidfile {pidfile} --daemonize --logfile {log} --zkservers {zkservers} --config_path {configs}'
OLDER_INIT = '--pidfile {pidfile} --log_to_stdout --zkservers={zkservers} --config_path={configs}'
BY_HAND = '--zkservers {zkservers} -d --config_path {configs} --log_to_stdout'
COMMAND_LINES = [
    UPSTART, INIT, OLDER_INIT, BY_HAND,
    '-v --logfile={log} --zkservers {zkservers} --config_path {configs}',
    '-vd --logfile {log} --zkservers {zkservers} --config_path {configs} --debug',
    '--devel --zkservers {zkservers} --config_path {configs}',
]

# Every argument, and every kind of value that 1.7 took for it.
FILE = """
import os

def python_function():
    import sys
    print('function ' + sys.stdin.read())

def shown(name, more=''):
    return 'read x; echo %s $x %s' % (name, more)

RegisterWatch(znode='/old', action=python_function)
RegisterWatch('/old', Exec(shown('positional')), True, True, QUEUE)
RegisterWatch('/old', lambda: os.system(shown('lambda')), True)
RegisterWatch(
    znode='/old',
    action=Exec(['/bin/sh', '-c', shown('everything', '$(id -u):$(id -g)')]),
    pipe_stdin=True,
    run_on_load=True,
    run_mode=PARALLEL,
    description='all that there is',
    uid='nobody',
    gid='nogroup',
    watch_type=WATCH_DATA,
    notify_signal=10,
    timeout=60.5)
RegisterWatch('/old', Exec(shown('numbers', '$(id -u):$(id -g)')), uid={uid}, gid={gid}, run_mode=DISCARD, timeout=60)
RegisterWatch('/old', Exec(shown('later')), run_on_load=False)
RegisterWatch('/old', Exec(shown('empty')), pipe_stdin=False)
"""
NAMES = ['old.twc#1', 'old.twc#2', 'old.twc#3', 'all that there is', 'old.twc#5', 'old.twc#6', 'old.twc#7']


class Installation(Twitcher):
    """A daemon that is started by the command lines of 1.7, and by no option more."""

    def start_as_before(self, line: str) -> None:
        """Start it in the environment that the init script left, and wait until it has reached ZooKeeper."""
        arguments = line.format(pidfile=self.pidfile, log=self.log_path, zkservers=self.hosts, configs=self.configs).split()
        environment = {name: value for name, value in os.environ.items() if name not in ('HOME', 'MAIL', 'USER', 'USERNAME')}
        with (self.directory / ('stdio' if '--logfile' in line else 'log')).open('ab') as stdio:
            self.process = subprocess.Popen([*HIDING, *command('twitcher', *arguments)], stdin=subprocess.DEVNULL, stdout=stdio,
                                            stderr=stdio, env=environment, start_new_session=True)
        if '--daemonize' in line:
            assert self.process.wait(PATIENCE) == 0, self.stdio()
            self.detached = int(self.pidfile.read_text())
        self.wait_log('ZooKeeper: connected')


@pytest.fixture
def installation(tmp_path: Path, ensemble: Ensemble) -> Iterator[Installation]:
    """A daemon for the `ensemble` fixture, not started yet."""
    daemon = Installation(tmp_path, ensemble.hosts)
    yield daemon
    daemon.close()


@pytest.mark.parametrize('line', COMMAND_LINES)
def test_a_command_line_of_1_7_starts_the_daemon_unchanged(installation: Installation, ensemble: Ensemble, trace: Trace,
                                                           line: str) -> None:
    installation.config('web/site.twc', f"RegisterWatch('/site', Exec('echo $(cat) >> {trace}'))")
    ensemble.put('/site', 'one')
    installation.start_as_before(line)
    trace.wait_for_line('one')
    ensemble.put('/site', 'two')
    trace.wait_for_line('two')
    installation.wait_ended('web/site.twc', 2)
    assert installation.process
    pid = installation.detached or installation.pid
    if '--pidfile' in line:
        assert int(installation.pidfile.read_text()) == pid
    os.kill(pid, signal.SIGTERM)
    wait_for('its end', lambda: not is_alive(pid))
    assert installation.process.wait(PATIENCE) == 0
    assert not installation.pidfile.exists()


def test_a_file_of_1_7_does_what_it_did(installation: Installation, ensemble: Ensemble) -> None:
    installation.config('old.twc', FILE.format(uid=NOBODY.pw_uid, gid=NOBODY.pw_gid))
    ensemble.put('/old', 'contents')
    installation.start_as_before(UPSTART)
    who = f'{NOBODY.pw_uid}:{NOBODY.pw_gid}'
    at_load = ['function contents', 'positional contents', 'lambda contents', f'everything contents {who}',
               f'numbers contents {who}', None, 'empty']
    for name, line in zip(NAMES, at_load):
        if line:
            assert (installation.wait_printed(name, 1), installation.wait_ended(name)) == ([line], ['exited 0'])
    ensemble.put('/old', 'changed')
    at_change = [line.replace('contents', 'changed') if line else 'later changed' for line in at_load]
    for name, before, line in zip(NAMES, at_load, at_change):
        expected = [before, line] if before else [line]
        assert installation.wait_printed(name, len(expected)) == expected


def test_the_files_that_1_7_found_are_found(installation: Installation, ensemble: Ensemble, trace: Trace) -> None:
    for name in ('a.twc', 'deep/er/b.twc', 'not.twc.bak', 'not.txt'):
        installation.config(name, f"RegisterWatch('/a', Exec('echo {name} >> {trace}'))")
    ensemble.put('/a', '')
    installation.start_as_before(UPSTART)
    assert sorted(trace.wait(2)) == ['a.twc', 'deep/er/b.twc']
    installation.fence(ensemble)
    assert len(trace.lines()) == 2


@pytest.mark.parametrize(('text', 'reason'), [
    ("print 'hello'\nRegisterWatch('/a', Exec('true'))", r':1: SyntaxError: .*print'),
    ("RegisterWatch('/a', Exec('true'), True, True, QUEUE, 'sixth')", r':1: .*the first 5 may be given by position'),
    ("RegisterWatch('/a', Exec('true'), run_mode=None)", r':1: run_mode=None: allowed: QUEUE, DISCARD, PARALLEL'),
    ("RegisterWatch('/a', Exec('true'), uid='nobody-here')", ":1: uid='nobody-here': no such user"),
], ids=['python 2', 'positional', 'none', 'unknown user'])
def test_what_cannot_be_taken_over_is_named_with_its_line_and_hurts_no_other_file(
        installation: Installation, ensemble: Ensemble, trace: Trace, text: str, reason: str) -> None:
    installation.config('a.twc', text)
    installation.config('b.twc', f"RegisterWatch('/b', Exec('echo ran >> {trace}'))")
    ensemble.put('/b', '')
    installation.start_as_before(UPSTART)
    installation.wait_log(rf'ERROR: {installation.configs}/a\.twc{reason}.*; not loaded$')
    assert trace.wait(1) == ['ran']


def test_a_daemon_of_1_7_that_is_still_running_is_noticed(installation: Installation) -> None:
    with installation.pidfile.open('a') as old:  # as it locks its pidfile, without a newline behind the pid
        fcntl.lockf(old, fcntl.LOCK_NB | fcntl.LOCK_EX)
        old.write(str(os.getpid()))
        old.flush()
        assert installation.start('--pidfile', str(installation.pidfile), wait=False).process
        assert installation.process and installation.process.wait(PATIENCE) == 1
        assert f'a twitcher is running already, with pid {os.getpid()}' in installation.stdio()
    assert installation.pidfile.read_text() == str(os.getpid())
    installation.start('--pidfile', str(installation.pidfile))
    assert installation.pidfile.read_text() == f'{installation.pid}\n'


def test_files_can_be_tried_out_where_no_znode_exists_and_so_nothing_runs(tmp_path: Path, trace: Trace) -> None:
    configs = tmp_path / 'etc'
    configs.mkdir()
    (configs / 'good.twc').write_text(f"RegisterWatch('/a', Exec('echo ran >> {trace}'))")
    (configs / 'bad.twc').write_text("RegisterWatch('a', Exec('true'))")
    output = tmp_path / 'output'
    with output.open('wb') as file:
        process = subprocess.Popen(command('twitcher', '--devel', '--config_path', str(configs)), stdout=file, stderr=file,
                                   cwd=TOP, start_new_session=True)
    try:
        wait_for('the connection', lambda: 'ZooKeeper: connected' in output.read_text())
        wait_for('the good file', lambda: 'good.twc: loaded, 1 watch' in output.read_text())
        wait_for('the bad file', lambda: "bad.twc:1: znode='a'" in output.read_text())
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert trace.lines() == []
    assert 'started (' not in output.read_text()


