"""twitcherctl poke against a real ZooKeeper, and against servers that do not answer."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import pytest
from kazoo.security import make_acl

from tests.support.ensemble import Ensemble
from tests.support.programs import call, command
from tests.support.waiting import wait_for
from twitcher.ctl import service
from twitcher.zookeeper.throwaway import ThrowAwayServer, free_port

Poke = Callable[..., 'subprocess.CompletedProcess[bytes]']


@pytest.fixture
def poke(ensemble: Ensemble) -> Poke:
    """Call twitcherctl poke for the test's part of ZooKeeper."""
    def run(*arguments: Any, contents: Optional[bytes] = None, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
        return call('twitcherctl', 'poke', '--zkservers', ensemble.hosts, *arguments, contents=contents, **kwargs)

    return run


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        yield f'127.0.0.1:{listener.getsockname()[1]}'


def assert_version(result: subprocess.CompletedProcess[bytes], version: int) -> None:
    """Check that it printed the version alone on one line, and of a new znode, on stderr, that it was created."""
    assert (result.returncode, result.stdout) == (0, b'%d\n' % version)
    assert re.fullmatch(b'' if version else b'twitcherctl: /\\S* did not exist: created\n', result.stderr)


def assert_error(result: subprocess.CompletedProcess[bytes], *parts: str) -> None:
    """Check that it failed with one line on stderr that has these parts."""
    error = result.stderr.decode()
    assert (result.returncode, result.stdout) == (1, b''), error
    assert error.startswith('twitcherctl: ') and len(error.splitlines()) == 1, error
    for part in parts:
        assert part in error


def test_poke_makes_the_znode_with_its_parents_and_prints_version_0(poke: Poke, ensemble: Ensemble) -> None:
    assert_version(poke('/git/repository/head', 'abc'), 0)
    assert ensemble.client.get('/git/repository/head')[0] == b'abc'
    assert ensemble.client.get('/git/repository')[0] == b''


def test_poke_sets_the_contents_and_prints_the_new_version_alone(poke: Poke, ensemble: Ensemble) -> None:
    ensemble.put('/head', 'old')
    for version in (1, 2, 3):
        assert_version(poke('/head', f'new {version}'), version)
        assert ensemble.client.get('/head')[0] == f'new {version}'.encode()


def test_poke_without_data_keeps_the_contents_and_raises_the_version(poke: Poke, ensemble: Ensemble) -> None:
    ensemble.put('/head', b'\x00kept\xff')
    assert_version(poke('/head'), 1)
    assert_version(poke('/head'), 2)
    assert ensemble.client.get('/head')[0] == b'\x00kept\xff'


def test_poke_without_data_makes_an_empty_znode(poke: Poke, ensemble: Ensemble) -> None:
    assert_version(poke('/new'), 0)
    assert ensemble.client.get('/new')[0] == b''


def test_poke_with_empty_data_empties_the_znode(poke: Poke, ensemble: Ensemble) -> None:
    ensemble.put('/head', 'full')
    assert_version(poke('/head', ''), 1)
    assert ensemble.client.get('/head')[0] == b''


@pytest.mark.parametrize('contents', [b'', b'\n', bytes(range(256)) * 10, b'no newline', b'x' * 1_000_000],
                         ids=['empty', 'newline', 'binary', 'text', 'megabyte'])
def test_a_hyphen_stands_for_stdin_byte_for_byte(poke: Poke, ensemble: Ensemble, contents: bytes) -> None:
    assert_version(poke('/head', '-', contents=contents), 0)
    assert ensemble.client.get('/head')[0] == contents


@pytest.mark.parametrize('data', ['--force', '-x', '---', '-1', '--no-create', '--zk-servers=a'])
def test_data_that_begins_with_a_hyphen_follows_two_hyphens(poke: Poke, ensemble: Ensemble, data: str) -> None:
    assert_version(poke('--', '/head', data), 0)
    assert ensemble.client.get('/head')[0] == data.encode()


@pytest.mark.parametrize('locale', ['C', 'C.UTF-8', 'POSIX'])
def test_data_that_is_no_utf8_arrives_as_it_was_given(poke: Poke, ensemble: Ensemble, locale: str) -> None:
    data = b'\xff\xfe \xc3\xa4 \xe4'
    plain = {'LC_ALL': locale, 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    assert_version(poke('/head', data, environment=plain), 0)
    assert ensemble.client.get('/head')[0] == data


def test_a_znode_may_have_a_name_beyond_ascii(poke: Poke, ensemble: Ensemble) -> None:
    assert_version(poke('/grün/☃', '1'), 0)
    assert ensemble.client.get('/grün/☃')[0] == b'1'


def test_a_second_poke_runs_the_watch_once_more_also_with_the_same_data(poke: Poke, ensemble: Ensemble, twitcher: Any,
                                                                       trace: Any) -> None:
    twitcher.config('p.twc', f"RegisterWatch('/head', Exec('echo $TWITCHER_VERSION `cat` >> {trace}'))")
    twitcher.start()
    for version in range(3):
        assert_version(poke('/head', 'same'), version)
        assert trace.wait(version + 1)[version] == f'{version} same'
    assert_version(poke('/head'), 3)
    trace.wait(4)
    twitcher.fence(ensemble)
    assert trace.lines() == [f'{version} same' for version in range(4)]


@pytest.mark.parametrize('option', ['--no_create', '--no-create'])
def test_no_create_fails_on_a_missing_znode_and_makes_nothing(poke: Poke, ensemble: Ensemble, option: str) -> None:
    for data in (['x'], [], ['-']):
        assert_error(poke('/a/b', *data, option), '/a/b does not exist')
    assert not ensemble.client.exists('/a')


def test_no_create_sets_a_znode_that_exists(poke: Poke, ensemble: Ensemble) -> None:
    ensemble.put('/head', 'old')
    assert_version(poke('/head', 'new', '--no_create'), 1)
    assert ensemble.client.get('/head')[0] == b'new'


def test_the_chroot_of_zkservers_comes_before_the_znode(ensemble: Ensemble) -> None:
    ensemble.put('/chroot', '')
    assert_version(call('twitcherctl', 'poke', '--zkservers', ensemble.hosts + '/chroot', '/head', 'x'), 0)
    assert ensemble.client.get('/chroot/head')[0] == b'x'


@pytest.mark.parametrize('chroot', ['/new', '/new/er'])
@pytest.mark.parametrize('znode', ['/head', '/git/head', '/'])
def test_a_chroot_that_does_not_exist_is_made_like_any_parent(ensemble: Ensemble, chroot: str, znode: str) -> None:
    result = call('twitcherctl', 'poke', '--zkservers', ensemble.hosts + chroot, znode, 'x', '--wait', '30')
    assert_version(result, 0)
    assert ensemble.client.get((chroot + znode).rstrip('/'))[0] == b'x'


def test_no_create_makes_no_chroot(ensemble: Ensemble) -> None:
    result = call('twitcherctl', 'poke', '--zkservers', ensemble.hosts + '/new', '/head', 'x', '--no_create')
    assert_error(result, '/head does not exist')
    assert not ensemble.client.exists('/new')


def test_the_first_server_that_answers_will_do(ensemble: Ensemble) -> None:
    result = call('twitcherctl', 'poke', '--zkservers', f'127.0.0.1:{free_port()},{ensemble.hosts}', '/head', 'x')
    assert_version(result, 0)


@pytest.mark.parametrize('wait', [0, 0.5, 2])
def test_a_server_that_refuses_is_an_error_after_the_wait(wait: float) -> None:
    hosts = f'127.0.0.1:{free_port()}'
    before = time.monotonic()
    result = call('twitcherctl', 'poke', '/head', 'x', '--zkservers', hosts, '--wait', f'{wait:g}')
    assert wait <= time.monotonic() - before < wait + 6
    assert_error(result, hosts, f'did not answer within {wait:g} s')
    assert f'; {hosts} cannot be connected to: Connection refused' in result.stderr.decode()
    assert 'jute' not in result.stderr.decode()  # nothing was sent: it cannot have been too much


def test_a_server_that_never_answers_is_an_error_after_the_wait(black_hole: str) -> None:
    before = time.monotonic()
    result = call('twitcherctl', 'poke', '/head', 'x', '--zkservers', black_hole, '--wait', '1')
    assert 1 <= time.monotonic() - before < 7
    assert_error(result, black_hole, 'did not answer within 1 s')
    assert 'cannot' not in result.stderr.decode()


def test_a_server_whose_name_nobody_knows_is_told_from_one_that_does_not_answer(black_hole: str) -> None:
    result = call('twitcherctl', 'poke', '/head', 'x', '--zkservers', f'no-such-host.invalid:1,{black_hole}', '--wait', '0.5')
    assert_error(result, 'no-such-host.invalid:1 cannot be resolved: ')
    assert f'{black_hole} cannot' not in result.stderr.decode()


def test_quiet_prints_nothing_but_errors(poke: Poke, ensemble: Ensemble) -> None:
    for _ in range(2):
        result = poke('/head', 'x', '--quiet')
        assert (result.returncode, result.stdout, result.stderr) == (0, b'', b'')
    assert ensemble.client.exists('/head').version == 1
    assert_error(poke('/other', 'x', '-q', '--no_create'), '/other does not exist')


@pytest.mark.parametrize('line', ['ZKSERVERS="{}"', "ZKSERVERS='{}'", 'ZKSERVERS={} # ours', 'ZKSERVERS=a:1\nZKSERVERS="{}"'])
def test_the_servers_are_those_of_the_service_unless_they_are_given(
        ensemble: Ensemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    (tmp_path / 'default').write_text(f'# how the service runs\n{line.format(ensemble.hosts)}\nTWITCHER_OPTS=""\n')
    assert _found(tmp_path / 'default', monkeypatch) == ensemble.hosts


@pytest.mark.parametrize('text', ['', 'ZKSERVERS=""\n', 'ZKSERVERS="\n', '# ZKSERVERS=a:1\n', 'ZKSERVERS=a b\n', None])
def test_defaults_that_name_no_servers_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                       text: Optional[str]) -> None:
    if text is not None:
        (tmp_path / 'default').write_text(text)
    assert _found(tmp_path / 'default', monkeypatch) is None


def _found(defaults: Path, monkeypatch: pytest.MonkeyPatch) -> Optional[str]:
    monkeypatch.setattr(service, 'DEFAULTS', str(defaults))
    return service.configured_servers()


def test_a_server_that_stops_answering_is_an_error_after_the_wait(own_server: ThrowAwayServer) -> None:
    assert_version(call('twitcherctl', 'poke', '/head', 'x', '--zkservers', own_server.hosts), 0)
    own_server.signal(signal.SIGSTOP)
    before = time.monotonic()
    result = call('twitcherctl', 'poke', '/head', 'x', '--zkservers', own_server.hosts, '--wait', '1')
    assert 1 <= time.monotonic() - before < 7
    assert_error(result, own_server.hosts, 'did not answer within 1 s')


def test_a_server_that_comes_up_during_the_wait_is_poked(own_server: ThrowAwayServer) -> None:
    own_server.stop()
    with subprocess.Popen(command('twitcherctl', 'poke', '/head', 'x', '--zkservers', own_server.hosts, '--wait', '60'),
                          stdout=subprocess.PIPE) as process:
        own_server.start()
        assert process.communicate(timeout=60)[0] == b'0\n'


def test_more_than_fits_is_refused_and_changes_nothing(poke: Poke, ensemble: Ensemble) -> None:
    ensemble.put('/head', 'old')
    result = poke('/head', '-', contents=b'x' * 1_000_001)
    assert result.returncode > 0 and result.stdout == b''
    assert b'1000000 bytes' in result.stderr and len(result.stderr.splitlines()) == 1
    assert ensemble.client.get('/head')[0] == b'old'


@pytest.mark.parametrize('data', [['x'], []])
def test_no_permission_is_an_error_that_says_so(poke: Poke, ensemble: Ensemble, data: Any) -> None:
    ensemble.client.create('/head', b'old', acl=[make_acl('world', 'anyone', read=True, delete=True)])
    assert_error(poke('/head', *data), '/head', 'NoAuth')
    assert_error(poke('/head/below', *data), '/head/below', 'NoAuth')
    assert ensemble.client.get('/head')[0] == b'old'


def test_a_znode_below_an_ephemeral_one_is_an_error_that_says_so(poke: Poke, ensemble: Ensemble) -> None:
    ensemble.client.create('/brief', b'', ephemeral=True)
    assert_error(poke('/brief/head', 'x', '--wait', '5'), '/brief/head', 'Ephemeral')


def test_pokes_of_eight_processes_at_once_are_all_counted(ensemble: Ensemble) -> None:
    line = command('twitcherctl', 'poke', '--zkservers', ensemble.hosts, '--wait', '60', '/count')
    for data in ([], ['x']):
        before = ensemble.client.exists('/count').version if data else -1
        processes = [subprocess.Popen([*line, *data], stdout=subprocess.PIPE) for _ in range(8)]
        said = [process.communicate(timeout=60)[0] for process in processes]
        assert sorted(map(int, said)) == [before + number for number in range(1, 9)]
        assert ensemble.client.exists('/count').version == before + 8


def test_an_interrupt_is_one_line_on_stderr(black_hole: str) -> None:
    with subprocess.Popen(command('twitcherctl', 'poke', '/head', 'x', '--zkservers', black_hole, '--wait', '60'),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        port = int(black_hole.rpartition(':')[2])
        wait_for('a connection', lambda: f'0100007F:{port:04X} 01' in Path('/proc/net/tcp').read_text())
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=40)[1]
        assert (process.returncode, error) == (1, b'twitcherctl: interrupted\n')


def test_a_reader_of_stdout_that_is_gone_does_not_undo_the_poke(ensemble: Ensemble) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(command('twitcherctl', 'poke', '--zkservers', ensemble.hosts, '/head', 'x'), stdout=writer,
                          stderr=subprocess.PIPE) as process:
        os.close(writer)
        error = process.communicate(timeout=40)[1]
    assert ensemble.client.get('/head')[0] == b'x'
    assert b'Traceback' not in error
