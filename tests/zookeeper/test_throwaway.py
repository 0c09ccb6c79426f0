"""twitcher --devel: a private ZooKeeper for trying things out, and what is left of it afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from tests.support.processes import is_alive
from tests.support.programs import call, command
from tests.support.waiting import PATIENCE, Trace, wait_for
from twitcher.errors import TwitcherError
from twitcher.zookeeper.throwaway import ThrowAwayServer, is_serving

SERVES = r'a throw-away ZooKeeper serves at (127\.0\.0\.1:(\d+))'


class Devel:
    """`twitcher --devel`, with its stdout and stderr in files and its temporary directories in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.temporary = directory / 'tmp'
        self.configs = directory / 'etc'
        self.stdout = Trace(directory / 'stdout')
        self.stderr = directory / 'stderr'
        for path in (self.temporary, self.configs):
            path.mkdir()

    def start(self, *options: str) -> None:
        """Start it; it may take a moment until it is up."""
        with self.stdout.path.open('wb') as stdout, self.stderr.open('wb') as stderr:
            self.process = subprocess.Popen(
                command('twitcher', '--devel', '--config_path', self.configs, *options), stdin=subprocess.DEVNULL,
                stdout=stdout, stderr=stderr, env={**os.environ, 'TMPDIR': str(self.temporary)}, start_new_session=True)

    def wait_line(self, pattern: str) -> re.Match[str]:
        """The first match of the regular expression in a line of stdout."""
        def probe() -> List[re.Match[str]]:
            return [match for line in self.stdout.lines() for match in [re.search(pattern, line)] if match]

        try:
            return wait_for(f'{pattern!r} on stdout', probe)[0]
        except AssertionError as error:
            raise AssertionError(f'{error}: {self.stdout.lines()} {self.stderr.read_text()}') from None

    def servers(self) -> List[int]:
        """The pids of the processes that have been started in its temporary directory."""
        result = []
        for process in Path('/proc').glob('[0-9]*'):
            with contextlib.suppress(OSError):
                if b'java' in (process / 'cmdline').read_bytes() and str(self.temporary) in os.readlink(process / 'cwd'):
                    result.append(int(process.name))
        return result

    def close(self) -> None:
        """End it and its server."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.servers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def devel(tmp_path: Path) -> Iterator[Devel]:
    """Not started yet."""
    daemon = Devel(tmp_path)
    yield daemon
    daemon.close()


def test_devel_runs_actions_on_a_private_zookeeper_and_says_how_to_poke_it(devel: Devel, trace: Trace) -> None:
    action = f"Exec('cat >> {trace}; echo done; echo >> {trace}')"
    (devel.configs / 'hello.twc').write_text(f"RegisterWatch('/examples/hello', {action})")
    devel.start()
    poke = shlex.split(devel.wait_line(r': (\S*twitcherctl poke .*)')[1])
    devel.wait_line('hello.twc: loaded')
    path = {'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'}  # twitcherctl begins with `env python3`
    answer = subprocess.run(poke, stdout=subprocess.PIPE, check=True, timeout=PATIENCE, env={**os.environ, **path})
    assert answer.stdout == b'0\n'
    assert trace.wait(1) == [' '.join(poke[poke.index('/examples/hello') + 1:])]
    devel.wait_line(r'hello.twc\[\d+\]: done')
    devel.process.send_signal(signal.SIGHUP)
    devel.wait_line(r' DEBUG: .*hello.twc: loaded, 1 watch, 1 of them unchanged')
    assert devel.stderr.read_text() == ''


def test_the_private_zookeeper_listens_on_127_0_0_1_alone(devel: Devel) -> None:
    devel.start()
    port = int(devel.wait_line(SERVES)[2])
    listening = [line.split()[1] for name in ('tcp', 'tcp6') for line in Path(f'/proc/net/{name}').read_text().splitlines()[1:]
                 if line.split()[3] == '0A' and line.split()[1].endswith(f':{port:04X}')]
    assert [address.rpartition(':')[0] for address in listening] in (['0100007F'], ['0000000000000000FFFF00000100007F'])
    [directory] = devel.temporary.iterdir()
    assert directory.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_neither_server_nor_directory(devel: Devel, signum: signal.Signals) -> None:
    devel.start()
    port = int(devel.wait_line(SERVES)[2])
    devel.wait_line('ZooKeeper: connected')
    [server] = devel.servers()
    devel.process.send_signal(signum)
    assert devel.process.wait(PATIENCE) == 0
    assert not is_alive(server) and not is_serving(port)
    assert list(devel.temporary.iterdir()) == []
    assert devel.stderr.read_text() == ''


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_server_comes_up_leaves_nothing_either(devel: Devel, signum: signal.Signals) -> None:
    devel.start()
    wait_for('the server', devel.servers)
    devel.process.send_signal(signum)
    code = devel.process.wait(PATIENCE)
    assert devel.stderr.read_text() == ''
    assert code == 0
    wait_for('the end of the server', lambda: not devel.servers())
    assert list(devel.temporary.iterdir()) == []


def test_the_server_dies_with_a_daemon_that_is_killed(devel: Devel) -> None:
    devel.start()
    devel.wait_line('ZooKeeper: connected')
    [server] = devel.servers()
    devel.process.kill()
    devel.process.wait(PATIENCE)
    wait_for('the end of the server', lambda: not is_alive(server))


def test_with_zkservers_no_server_is_started(devel: Devel, shared_server: ThrowAwayServer, tmp_path: Path) -> None:
    devel.start('--zkservers', shared_server.hosts, '--state_dir', str(tmp_path / 'state'))
    devel.wait_line(f'ZooKeeper: connected to {re.escape(shared_server.hosts)}')
    assert devel.servers() == [] and list(devel.temporary.iterdir()) == []
    assert not [line for line in devel.stdout.lines() if 'throw-away' in line]
    devel.process.send_signal(signal.SIGTERM)
    assert devel.process.wait(PATIENCE) == 0


def test_two_of_them_do_not_meet(devel: Devel, tmp_path: Path) -> None:
    (tmp_path / 'other').mkdir()
    other = Devel(tmp_path / 'other')
    devel.start()
    other.start()
    try:
        assert devel.wait_line(SERVES)[1] != other.wait_line(SERVES)[1]
        other.wait_line('ZooKeeper: connected')
        devel.wait_line('ZooKeeper: connected')
    finally:
        other.close()


def _environment_without(tmp_path: Path, program: str) -> Dict[str, str]:
    """A PATH on which everything that --devel needs is found but the program."""
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'tmp').mkdir()
    for name in {'java', 'setpriv'} - {program}:
        found = shutil.which(name)
        assert found
        (tmp_path / 'bin' / name).symlink_to(found)
    return {'PATH': str(tmp_path / 'bin'), 'TMPDIR': str(tmp_path / 'tmp')}


def _assert_refused(result: subprocess.CompletedProcess[bytes], tmp_path: Path) -> None:
    error = result.stderr.decode()
    assert result.returncode == 1 and len(error.splitlines()) == 1 and error.startswith('twitcher: '), error
    assert 'packages libzookeeper-java and default-jre-headless ' in error and '--zkservers' in error
    assert list((tmp_path / 'tmp').iterdir()) == []


def test_a_missing_java_is_one_line_that_names_the_packages(tmp_path: Path) -> None:
    result = call('twitcher', '--devel', '--config_path', tmp_path, environment=_environment_without(tmp_path, 'java'))
    _assert_refused(result, tmp_path)


def test_a_zookeeper_that_is_not_installed_is_an_error_that_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('twitcher.zookeeper.throwaway.JAR', '/no/such/zookeeper.jar')
    with pytest.raises(TwitcherError, match='^/no/such/zookeeper.jar was not found: install the packages lib.*--zk'):
        ThrowAwayServer()


def test_a_java_that_fails_is_an_error_that_quotes_it(tmp_path: Path) -> None:
    environment = _environment_without(tmp_path, 'java')
    java = tmp_path / 'bin' / 'java'
    java.write_text('#!/bin/sh\necho no room for a heap >&2\nexit 1\n')
    java.chmod(0o755)
    result = call('twitcher', '--devel', '--config_path', tmp_path, environment=environment)
    error = result.stderr.decode()
    assert result.returncode == 1 and error.startswith('twitcher: ') and len(error.splitlines()) == 1, error
    assert 'no room for a heap' in error
    assert list((tmp_path / 'tmp').iterdir()) == []
