"""The command lines: what is refused, and how; what the options are called; what they are without being given."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any, List

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import call
from tests.support.waiting import PATIENCE, wait_for
from twitcher import __version__
from twitcher.cli import new_parser

BAD_HOSTS = [
    '', ' ', ',', 'a:1,', ',a:1', 'a:1,,b:2', ':2181', 'a:', 'a:0', 'a:65536', 'a:-1', 'a:port', 'a:1:2', 'a b:1', '-a:1',
    'a-:1', '.a:1', 'a..b:1', 'a' * 64 + ':1', '.'.join(['a' * 60] * 5) + ':1', 'zk://a:1', 'a:1;b:2', 'a:1 b:2', 'a:1?', '@',
    'a:1@b:2', '::1', '[::1', '::1]:1', '[]:1', '[zz]:1', '[127.0.0.1]:1', 'ä:1', '\udcff:1', 'a:1\nb:2', '\x1b[2J:1',
    'a:1/foo,b:2', 'a:1,b:2/foo,c:3', 'a:1//foo', 'a:1/foo/', 'a:1/foo//bar', 'a:1/.', 'a:1/../foo', 'a:1/fo\no', 'a:1/\udcff',
    '/', '/foo',
]
GOOD = ['--config_path', '/proc/self/task', '--logfile', '/dev/null']

BAD_USAGE = [
    ['--unknown'], ['--unknown=1'], ['--un\nknown'], ['--\udcff'], ['-x'], ['-vx'], ['surplus'], ['--', 'surplus'], [''],
    ['--zkserver', 'a:1'], ['--daemon'], ['--verbose=1'], ['--daemonize=yes'], ['--log_to_stdout='],
    ['--zkservers'], ['--config_path'], ['--pidfile'], ['--logfile'], ['--syslog_socket'], ['--max_running'],
    ['--zkservers', '--verbose'], ['--pidfile', '--daemonize'],
    ['--zkservers='], ['--config_path='], ['--pidfile='], ['--logfile='], ['--syslog_socket='], ['--max_running='],
    ['--max_running', '0'], ['--max_running', '-1'], ['--max_running', '1.5'], ['--max_running', 'many'],
    ['--max_running', 'inf'], ['--max_running', 'nan'], ['--max_running', '9' * 5000],
    ['--config_path', '/nowhere'], ['--config_path', '/etc/passwd'], ['--config_path', '/etc/passwd/x'],
    ['--config_path', '/\n'], ['--config_path', 'x' * 5000], ['--config_path', '/nowhere/\udcff'],
    ['--logfile', '/nowhere/log'], ['--logfile', '/'], ['--logfile', '/etc/passwd/log'], ['--logfile', 'x' * 300],
    ['--logfile', '/no\nwhere/log'],
    ['--pidfile', '/nowhere/pid'], ['--pidfile', '/'], ['--pidfile', '/etc/passwd/pid'], ['--pidfile', 'x' * 300],
    ['--log_to_stdout'], ['--logfile', '/dev/null', '--syslog_socket', '/dev/log'], ['--daemonize', '--devel'],
]


def assert_one_line(result: subprocess.CompletedProcess[bytes], name: str) -> str:
    """Check that the program refused, in one line on stderr; the line."""
    error = result.stderr.decode()
    assert result.returncode > 0, error
    assert error.startswith(f'{name}: ') and error.endswith('\n') and len(error.splitlines()) == 1, error
    assert 'Traceback' not in error and result.stdout == b''
    return error


@pytest.mark.parametrize('options', BAD_USAGE, ids=lambda options: ascii(' '.join(options))[:40])
def test_bad_usage_of_twitcher_is_one_line_on_stderr(options: List[str]) -> None:
    assert_one_line(call('twitcher', *GOOD, *map(os.fsencode, options)), 'twitcher')


@pytest.mark.parametrize('hosts', BAD_HOSTS, ids=lambda hosts: ascii(hosts)[:40])
@pytest.mark.parametrize('name', ['twitcher', 'twitcherctl'])
def test_a_bad_host_list_is_one_line_that_quotes_it(name: str, hosts: str) -> None:
    arguments = GOOD if name == 'twitcher' else ['poke', '/znode', '--wait', '1']
    error = assert_one_line(call(name, *arguments, b'--zkservers=' + os.fsencode(hosts)), name)
    assert f'zkservers {hosts!r}' in error and 'HOST:PORT,...[/CHROOT]' in error


@pytest.mark.parametrize('options', [
    [], ['unknown'], ['--unknown'], ['poke'], ['poke', ''], ['poke', 'relative'], ['poke', '/a/'], ['poke', '/a//b'],
    ['poke', '/a/../b'], ['poke', '/a\nb'], ['poke', '/\udcff'], ['poke', '/a', 'b', 'c'], ['poke', '/a', '--unknown'],
    ['poke', '/a', '--un\nknown'], ['poke', '/a', '--data'], ['poke', '/a', '--no_create=1'], ['poke', '/a', '--zkservers'],
    ['poke', '/a', '--wait'], ['poke', '/a', '--wait', ''], ['poke', '/a', '--wait', 'long'], ['poke', '/a', '--wait=-1'],
    ['poke', '/a', '--wait', 'nan'], ['poke', '/a', '--wait', 'inf'], ['poke', '/a', '--wai', '1'], ['un\nknown'],
], ids=lambda options: ascii(' '.join(options))[:40])
def test_bad_usage_of_twitcherctl_is_one_line_on_stderr(options: List[str]) -> None:
    assert_one_line(call('twitcherctl', *map(os.fsencode, options)), 'twitcherctl')


@pytest.mark.parametrize('options', [
    ['--config_path', '/nowhere'], ['--zkservers', 'a:0'], ['--logfile', '/nowhere/log'], ['--pidfile', '/nowhere/pid'],
    ['--pidfile', '/'], ['--log_to_stdout'], ['--zkservers', ''],
], ids=' '.join)
def test_bad_usage_is_found_before_detaching(tmp_path: Path, options: List[str]) -> None:
    # After it the parent would have exited 0, and nobody would read stderr.
    pidfile = tmp_path / 'pid'
    try:
        assert_one_line(call('twitcher', *GOOD, '--pidfile', str(pidfile), '--daemonize', *options), 'twitcher')
        assert not pidfile.exists()
    finally:
        if pidfile.exists():
            os.kill(wait_for('a pid', lambda: int(pidfile.read_text() or 0)), signal.SIGKILL)


def test_a_pidfile_that_is_no_regular_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    pidfile = tmp_path / 'pid'
    os.mkfifo(pidfile)
    assert_one_line(call('twitcher', *GOOD, '--pidfile', str(pidfile)), 'twitcher')
    assert pidfile.is_fifo()


def test_a_relative_path_in_a_directory_that_is_gone_is_one_line_on_stderr(tmp_path: Path) -> None:
    here = tmp_path / 'here'
    here.mkdir()
    wrapper = ['sh', '-c', 'cd "$0" && rmdir "$0" && exec "$@"', str(here)]
    assert_one_line(call('twitcher', '--config_path', 'etc', wrapper=wrapper), 'twitcher')


def test_a_wait_that_no_clock_can_count_is_one_line_on_stderr() -> None:
    error = assert_one_line(call('twitcherctl', 'poke', '/a', '--wait', '1e30', '--zkservers', 'localhost:1'), 'twitcherctl')
    assert '--wait' in error


@pytest.mark.parametrize(['option', 'value', 'hint'], [
    ('--config_path', '/nowhere', 'No such file or directory'), ('--config_path', '/etc/passwd', 'Not a directory'),
    ('--logfile', '/nowhere/log', 'No such file or directory'), ('--pidfile', '/nowhere/pid', 'No such file or directory'),
    ('--max_running', 'many', 'a whole number from 1 to 1000000'), ('--zkservers', 'zk1:2181,b@d:1', 'b@d:1'),
])
def test_an_error_names_the_argument_its_value_and_the_reason(option: str, value: str, hint: str) -> None:
    error = assert_one_line(call('twitcher', *GOOD, option, value), 'twitcher')
    assert option[2:] in error and value in error and hint in error


@pytest.mark.parametrize('spell', [lambda text: text, lambda text: text.replace('_', '-')], ids=['underscores', 'hyphens'])
def test_long_options_are_understood_with_underscores_and_with_hyphens(tmp_path: Path, spell: Any) -> None:
    missing = str(tmp_path / 'a_b-c')
    for option in ('--config_path', '--config_path='):
        arguments = [spell(option) + missing] if option.endswith('=') else [spell(option), missing]
        assert missing in assert_one_line(call('twitcher', *arguments), 'twitcher')
    for option in ('--log_to_stdout', '--syslog_socket=/x', '--max_running=1'):
        error = assert_one_line(call('twitcher', spell(option), '--config_path', missing), 'twitcher')
        assert 'No such file' in error
    result = call('twitcherctl', 'poke', '/a', spell('--no_create'), '--wait', '0', '--zkservers', 'localhost:1')
    assert 'did not answer' in assert_one_line(result, 'twitcherctl')


@pytest.mark.parametrize('name', ['twitcher', 'twitcherctl'])
def test_version_is_one_line_on_stdout(name: str) -> None:
    result = call(name, '--version')
    assert (result.returncode, result.stdout.decode(), result.stderr) == (0, f'{name} {__version__}\n', b'')


def test_help_names_every_option_and_its_default() -> None:
    result = call('twitcher', '--help', environment={'COLUMNS': '200'})
    text = result.stdout.decode()
    assert (result.returncode, result.stderr) == (0, b'')
    for option in ('--zkservers', '--config_path', '--max_running', '--daemonize', '--pidfile', '--logfile', '--log_to_stdout',
                   '--syslog_socket', '-v, --verbose', '-d, --debug', '--devel', '--version'):
        assert option in text
    for default in ('localhost:2181', '/etc/twitcher', '256', '/dev/log', 'facility daemon'):
        assert default in text


def test_help_of_twitcherctl_names_its_commands_and_their_options() -> None:
    assert b'poke' in call('twitcherctl', '--help').stdout
    result = call('twitcherctl', 'poke', '--help', environment={'COLUMNS': '200'})
    for word in (b'--zkservers', b'localhost:2181', b'--no_create', b'--wait', b'default: 10', b'ZNODE', b'DATA'):
        assert word in result.stdout
    assert (result.returncode, result.stderr) == (0, b'')


def test_zookeeper_is_looked_for_at_localhost_by_default(tmp_path: Path, ensemble: Ensemble) -> None:
    twitcher = Twitcher(tmp_path, 'localhost:2181')
    try:
        twitcher.start(wait=False)
        twitcher.wait_log(r'started; configs in .*, ZooKeeper at localhost:2181$')
    finally:
        twitcher.close()


def test_the_defaults_are_those_of_the_contract() -> None:
    options = new_parser().parse([])
    assert (options.config_path, options.syslog_socket, options.max_running, options.state_dir) == (
        '/etc/twitcher', '/dev/log', 256, '/var/lib/twitcher')
    assert not (options.daemonize or options.pidfile or options.logfile or options.log_to_stdout or options.devel
                or options.verbose or options.debug)


def test_the_command_line_can_be_checked_without_running(twitcher: Twitcher) -> None:
    twitcher.start('--check_options', wait=False, log_to=[])
    assert twitcher.process
    assert twitcher.process.wait(PATIENCE) == 0
    twitcher.start('--check_options', '--max_running', '0', wait=False, log_to=[])
    assert twitcher.process.wait(PATIENCE) == 2
    assert "twitcher: argument --max_running: '0' is not allowed" in twitcher.stdio()
