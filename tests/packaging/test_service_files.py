"""The files in etc and debian with which Twitcher is a service: the init script as it answers, the unit as systemd reads it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.programs import TOP, command
from tests.support.waiting import PATIENCE, wait_for
from twitcher import __version__

ETC = TOP / 'etc'
UNIT = ETC / 'systemd' / 'twitcher.service'
LSB_FUNCTIONS = 'log_success_msg() { echo "$*"; }\nlog_failure_msg() { echo "$*"; }\n'


class Script:
    """The init script, with files in the test's directory instead of the system's."""

    def __init__(self, twitcher: Twitcher) -> None:
        self.twitcher = twitcher
        self.pidfile = twitcher.directory / 'pidfile'
        self.daemon = twitcher.directory / 'bin' / 'twitcher'  # the name matters: processes are known by it
        self.defaults = twitcher.directory / 'default'
        self.complaints = twitcher.directory / 'complaints'  # what the last call wrote to stderr
        self._path = twitcher.directory / 'init'
        self.daemon.parent.mkdir()
        self.daemon.write_text(f'#!{command("twitcher")[0]}\nimport runpy\nrunpy.run_path({command("twitcher")[1]!r})\n')
        self.daemon.chmod(0o755)
        functions = twitcher.directory / 'init-functions'
        functions.write_text(LSB_FUNCTIONS)
        text = (ETC / 'init.d' / 'twitcher').read_text()
        for old, new in (('/usr/sbin/twitcher', self.daemon), ('/etc/default/twitcher', self.defaults),
                         ('/run/twitcher.pid', self.pidfile), ('/lib/lsb/init-functions', functions)):
            assert old in text
            text = text.replace(old, str(new))
        self._path.write_text(text)
        self.configure()

    def configure(self, hosts: str = '', options: str = '', more: str = '') -> None:
        """Write what is /etc/default/twitcher."""
        given = f'--config_path {self.twitcher.configs} --logfile {self.twitcher.log_path} --state_dir {self.pidfile}.state'
        self.defaults.write_text(f'ZKSERVERS="{hosts or self.twitcher.hosts}"\nTWITCHER_OPTS="{given} {options}"\n{more}')

    def __call__(self, action: str) -> int:
        """Its exit code."""
        with self.complaints.open('wb') as complaints:
            done = subprocess.run(['sh', str(self._path), action], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=complaints, timeout=PATIENCE, check=False, env={**os.environ, 'OUTER': 'yes'})
        return done.returncode

    @property
    def pid(self) -> int:
        """The daemon's."""
        return int(self.pidfile.read_text())

    def close(self) -> None:
        """End the daemon."""
        if self.pidfile.exists() and self.pidfile.read_text() and is_alive(self.pid):
            os.kill(self.pid, signal.SIGKILL)


@pytest.fixture
def script(twitcher: Twitcher) -> Iterator[Script]:
    """The init script for the `twitcher` fixture."""
    script = Script(twitcher)
    yield script
    script.close()


def test_the_exit_codes_in_the_life_of_a_service(script: Script) -> None:
    assert (script('status'), script('reload'), script('force-reload'), script('try-restart')) == (3, 7, 7, 0)
    assert script('status') == 3
    assert (script('start'), script('status')) == (0, 0)
    pid = script.pid
    assert (script('start'), script.pid) == (0, pid)
    script.twitcher.wait_log('ZooKeeper: connected')
    assert script('reload') == 0
    script.twitcher.wait_log('SIGHUP')
    assert script('force-reload') == 0
    script.twitcher.wait_log('SIGHUP', count=2)
    for action in ('restart', 'try-restart', 'condrestart'):
        assert script(action) == 0
        assert script.pid != pid
        pid = script.pid
    os.kill(pid, signal.SIGKILL)
    wait_for('its end', lambda: not Path(f'/proc/{pid}').exists())  # to the script, a zombie runs
    assert (script('status'), script('reload'), script('start'), script('status')) == (1, 7, 0, 0)
    pid = script.pid
    assert (script('stop'), is_alive(pid), script('status'), script('stop')) == (0, False, 3, 0)
    assert script('frobnicate') == script('') == 2


def test_a_service_that_cannot_start_says_why_with_its_exit_code(script: Script) -> None:
    script.configure(hosts='no port:x')
    assert script('start') == 6
    script.configure(options='--no-such-option')
    assert script('start') == 6
    script.configure(options='--state_dir')
    assert script('start') == 6
    script.defaults.write_text('')
    assert script('start') == script('restart') == 6
    script.defaults.unlink()
    assert script('start') == 6
    script.configure()
    script.pidfile.mkdir()
    assert script('start') == 1
    script.pidfile.rmdir()
    script.daemon.unlink()
    assert script('start') == 5


def test_a_restart_that_is_not_configured_leaves_the_daemon_running(script: Script) -> None:
    assert script('start') == 0
    pid = script.pid
    script.defaults.write_text('ZKSERVERS=')
    assert (script('restart'), script('try-restart'), script.pid, is_alive(pid)) == (6, 6, pid, True)


def test_a_restart_with_a_mistake_in_the_options_leaves_the_daemon_running(script: Script) -> None:
    assert script('start') == 0
    pid = script.pid
    script.defaults.write_text(f'ZKSERVERS="{script.twitcher.hosts}"\nTWITCHER_OPTS=--verbose --logfile /tmp/log\n')
    assert (script('restart'), script('try-restart'), script.pid, is_alive(pid)) == (6, 6, pid, True)
    for options in ('--verbos', '--max_running none', '--logfile /no/such/directory/log'):
        script.configure(options=options)
        assert (script('restart'), script('try-restart'), script.pid, is_alive(pid)) == (6, 6, pid, True)


@pytest.mark.parametrize('mistake', ['TWITCHER_OPTS="--verbose', 'ZKSERVERS ="localhost"', 'exit 0', ')'])
def test_a_mistake_in_the_defaults_stops_neither_the_daemon_nor_a_stop(script: Script, mistake: str) -> None:
    assert script('start') == 0
    pid = script.pid
    script.configure(more=f'{mistake}\n')
    for action in ('start', 'restart', 'try-restart'):
        assert (script(action), script.pid, is_alive(pid)) == (6, pid, True)
        assert f'{script.defaults} has a mistake' in script.complaints.read_text()
    assert (script('status'), script('reload')) == (0, 0)
    assert (script('stop'), is_alive(pid), script('status')) == (0, False, 3)
    assert script('start') == 6


def test_actions_find_what_the_defaults_set_and_nothing_of_the_callers_environment(script: Script, ensemble: Ensemble) -> None:
    script.configure(more='EXTRA="two words"\nLANG=xx\n')
    look = 'echo $EXTRA, $LANG, ${OUTER-none}, ${TWITCHER_INIT-none}, ${VIRTUAL_ENV-none}'
    script.twitcher.config('a.twc', f"RegisterWatch('/a', Exec({look!r}))")
    ensemble.put('/a', '')
    assert script('start') == 0
    assert script.twitcher.wait_printed('a.twc', 1) == ['two words, xx, none, none, none']


def test_the_shell_finds_no_mistake_in_the_scripts() -> None:
    for path in (ETC / 'init.d' / 'twitcher', ETC / 'default' / 'twitcher', TOP / 'debian' / 'twitcher.postrm', TOP / 'dev'):
        subprocess.run(['sh', '-n', str(path)], check=True)


def test_systemd_finds_no_mistake_in_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    assert '/usr/sbin/twitcher ' in text  # which need not be installed here
    unit = tmp_path / 'twitcher.service'
    unit.write_text(text.replace('/usr/sbin/twitcher ', f'{TOP}/bin/twitcher '))
    done = subprocess.run(['systemd-analyze', 'verify', '--man=no', str(unit)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, [line for line in done.stdout.splitlines() if 'twitcher' in line]) == (0, [])


def test_the_watchdog_leaves_time_for_files_that_are_slow() -> None:
    minutes = re.findall('^(?:WatchdogSec|TimeoutStartSec)=([0-9]+)min$', UNIT.read_text(), re.MULTILINE)
    assert minutes == ['10', '10']


def test_the_defaults_are_the_same_for_a_shell_and_for_systemd() -> None:
    lines = [line for line in (ETC / 'default' / 'twitcher').read_text().splitlines() if line and not line.startswith('#')]
    assert lines == ['ZKSERVERS=""', 'TWITCHER_OPTS=""']
    for name in ('ZKSERVERS', 'TWITCHER_OPTS'):
        assert name in UNIT.read_text()
        assert f'${name}' in (ETC / 'init.d' / 'twitcher').read_text()


def test_logrotate_takes_the_file_away_and_the_log_goes_on(twitcher: Twitcher, ensemble: Ensemble) -> None:
    text = (ETC / 'logrotate.d' / 'twitcher').read_text()
    assert '/var/log/twitcher.log {' in text
    configuration = twitcher.directory / 'logrotate'
    configuration.write_text(text.replace('/var/log/twitcher.log', str(twitcher.log_path)))
    configuration.chmod(0o644)
    twitcher.start()
    twitcher.fence(ensemble)
    twitcher.directory.chmod(0o755)
    subprocess.run(['/usr/sbin/logrotate', '--force', '--state', str(twitcher.directory / 'rotated'), str(configuration)],
                   check=True)
    old = twitcher.log_path.with_name('log.1')
    assert 'ZooKeeper: connected' in old.read_text()
    os.kill(twitcher.pid, signal.SIGHUP)
    twitcher.wait_log('SIGHUP')
    assert (twitcher.log_path.stat().st_mode & 0o777, 'SIGHUP' in old.read_text()) == (0o640, False)


def test_the_package_has_the_version_of_the_program() -> None:
    assert (TOP / 'debian' / 'changelog').read_text().startswith(f'twitcher ({__version__}) ')
