"""One daemon for one configuration: a second one refuses to start, and nothing else is in the way of one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
from pathlib import Path
from typing import Callable, Iterator, List
from zlib import crc32

import pytest

from tests.support.actions import echo
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import call
from tests.support.state_directory import begin_run, noted_pipes, opened_state
from tests.support.waiting import PATIENCE, Trace, wait_for


@pytest.fixture
def others(tmp_path: Path, ensemble: Ensemble) -> Iterator[Callable[[], Twitcher]]:
    """Further daemons with the configuration and the state of `twitcher`."""
    made: List[Twitcher] = []

    def make() -> Twitcher:
        made.append(Twitcher(tmp_path, ensemble.hosts))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()


def state_name(configs: object) -> str:
    """What the names of the files of a configuration begin with in the state directory."""
    readable = re.sub('[^A-Za-z0-9]+', '-', str(configs)).strip('-')[-40:]
    return f'{readable}-{crc32(str(configs).encode()):08x}'.lstrip('-')


def refusal(daemon: Twitcher, *options: str) -> str:
    """What a daemon that has to refuse says on stderr."""
    before = len(daemon.stdio())
    daemon.start(*options, wait=False)
    assert daemon.process
    assert daemon.process.wait(PATIENCE) == 1
    return daemon.stdio()[before:]


def test_a_second_daemon_refuses_to_start_and_runs_nothing(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, others: Callable[[], Twitcher]) -> None:
    twitcher.config('a.twc', f"RegisterWatch('/a', {echo(trace)})")
    ensemble.put('/a', 1)
    twitcher.start()
    trace.wait(1)
    line = (f'twitcher: a twitcher with pid {twitcher.pid} serves {twitcher.configs} already, with its state in '
            f'{twitcher.directory / "state"}; allowed: another --config_path, or, on purpose, another --state_dir\n')
    assert refusal(others()) == line
    assert refusal(others(), '--daemonize', '--pidfile', str(twitcher.directory / 'pid')) == line
    assert not (twitcher.directory / 'pid').exists()
    ensemble.put('/a', 2)
    twitcher.fence(ensemble)
    assert trace.lines() == ['1', '2']


def test_it_also_refuses_beside_one_that_has_detached(twitcher: Twitcher, ensemble: Ensemble,
                                                      others: Callable[[], Twitcher]) -> None:
    pid = twitcher.detach()
    assert f'a twitcher with pid {pid} serves ' in refusal(others())


@pytest.mark.parametrize('spelling', ['link', 'etc/../etc', 'etc/', 'link/sub/..'])
def test_another_spelling_of_the_directory_is_the_same_configuration(
        twitcher: Twitcher, ensemble: Ensemble, others: Callable[[], Twitcher], spelling: str) -> None:
    (twitcher.directory / 'link').symlink_to(twitcher.configs)
    (twitcher.configs / 'sub').mkdir()
    twitcher.start()
    assert f'with pid {twitcher.pid} serves ' in refusal(others(), '--config_path', f'{twitcher.directory}/{spelling}')


def test_a_symlink_that_has_been_turned_since_is_the_same_configuration(
        twitcher: Twitcher, ensemble: Ensemble, others: Callable[[], Twitcher]) -> None:
    link = twitcher.directory / 'current'
    for name in ('one', 'two'):
        (twitcher.directory / name).mkdir()
    link.symlink_to('one')
    twitcher.start('--config_path', str(link))
    link.unlink()
    link.symlink_to('two')
    assert f'with pid {twitcher.pid} serves ' in refusal(others(), '--config_path', str(link))


def test_with_another_state_directory_a_second_one_may_run_on_purpose(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, others: Callable[[], Twitcher], tmp_path: Path) -> None:
    twitcher.config('a.twc', f"RegisterWatch('/a', {echo(trace)})")
    ensemble.put('/a', 1)
    twitcher.start()
    trace.wait(1)
    others().start('--state_dir', str(tmp_path / 'other'))
    assert trace.wait(2) == ['1', '1']


@pytest.mark.parametrize('end', [Twitcher.kill, Twitcher.stop])
def test_a_daemon_that_has_ended_is_in_nobody_s_way(twitcher: Twitcher, ensemble: Ensemble,
                                                    end: Callable[[Twitcher], object]) -> None:
    twitcher.start()
    end(twitcher)
    twitcher.start()


def test_a_daemon_that_is_about_to_end_is_waited_for(twitcher: Twitcher, ensemble: Ensemble,
                                                     others: Callable[[], Twitcher]) -> None:
    (twitcher.directory / 'state').mkdir()
    with (twitcher.directory / 'state' / f'{state_name(twitcher.configs)}.0.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = others().start(wait=False)
        wait_for('it to find the lock', lambda: any(name.endswith('.lock') for name in _open_files(other.pid)))
    other.wait_log('ZooKeeper: connected')


def _open_files(pid: int) -> List[str]:
    found = []
    for entry in Path(f'/proc/{pid}/fd').iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry))
    return found


def test_runs_and_what_a_file_forks_hold_no_lock(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    pids = tmp_path / 'pids'
    twitcher.config('f.twc', f'''
        import os, subprocess, time
        forked = os.fork()
        if not forked:
            time.sleep(1000)
        spawned = subprocess.Popen(['sleep', '1000']).pid
        with open({str(pids)!r}, 'a') as file:
            print(forked, spawned, file=file)
        def work():
            time.sleep(1000)
        RegisterWatch('/f', work)
        RegisterWatch('/f', Exec('sleep 1000'))
    ''')
    ensemble.put('/f', 1)
    try:
        twitcher.start()
        twitcher.wait_started('f.twc#1')
        twitcher.wait_started('f.twc#2')
        twitcher.kill()
        (twitcher.configs / 'f.twc').unlink()
        twitcher.start()
    finally:
        for pid in pids.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def test_the_lock_is_its_owner_s_alone(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.start()
    locks = list((twitcher.directory / 'state').glob('*.lock'))
    assert len(locks) == 1
    assert (locks[0].stat().st_mode & 0o777, locks[0].read_text()) == (0o600, f'{twitcher.pid}\n')


@pytest.mark.parametrize('make', [lambda path, elsewhere: path.symlink_to(elsewhere), lambda path, elsewhere: os.mkfifo(path)])
def test_a_lock_file_that_is_something_else_is_not_touched(
        tmp_path: Path, make: Callable[[Path, Path], None], warnings: Callable[[], List[str]]) -> None:
    directory, elsewhere = tmp_path / 'state', tmp_path / 'elsewhere'
    elsewhere.write_text('precious')
    elsewhere.chmod(0o644)
    directory.mkdir()
    make(directory / f'{state_name("/etc/twitcher")}.0.lock', elsewhere)
    with opened_state(directory, '/etc/twitcher') as state:
        begin_run(state, 1)
    assert (elsewhere.read_text(), elsewhere.stat().st_mode & 0o777) == ('precious', 0o644)
    assert len(warnings()) == 1


def test_a_state_directory_that_cannot_be_used_keeps_no_daemon_from_starting(twitcher: Twitcher, ensemble: Ensemble) -> None:
    (twitcher.directory / 'state').write_text('no directory')
    twitcher.start()
    assert len(twitcher.log_lines('WARNING: state: ')) == 1


LONG = '/etc/' + 'x' * 10 + '/' + 'y' * 39


@pytest.mark.parametrize('path', [LONG, '/', '/ü'])
def test_no_name_in_the_state_directory_begins_with_a_hyphen(tmp_path: Path, path: str) -> None:
    with opened_state(tmp_path, path):
        assert [file.name for file in tmp_path.iterdir() if file.name.startswith('-')] == []
        assert list(tmp_path.glob('*.0.sqlite3'))


@pytest.mark.parametrize('ended', ['cleanly', 'with a log'])
def test_what_2_0_0_has_left_under_a_name_with_a_hyphen_is_found_and_renamed(tmp_path: Path, ended: str) -> None:
    with opened_state(tmp_path, LONG) as state:
        begin_run(state, 1)
        if ended == 'with a log':
            for file in tmp_path.glob('*.sqlite3*'):
                (tmp_path / f'-{file.name}').write_bytes(file.read_bytes())
    for file in list(tmp_path.iterdir()):
        if ended == 'cleanly':
            file.rename(tmp_path / f'-{file.name}')
        elif not file.name.startswith('-'):
            file.unlink()
    (tmp_path / f'-{state_name(LONG)}.0.lock').touch()
    with opened_state(tmp_path, LONG) as state:
        assert noted_pipes(state) == [1]
        assert [file.name for file in tmp_path.iterdir() if file.name.startswith('-')] == []


def test_a_2_0_0_that_still_runs_under_a_name_with_a_hyphen_is_found(tmp_path: Path) -> None:
    configs, state = tmp_path / ('y' * 39), tmp_path / 'state'
    configs.mkdir()
    state.mkdir()
    with open(state / f'-{state_name(configs)}.0.lock', 'w') as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        answer = call('twitcher', '--zkservers', '127.0.0.1:1', '--config_path', configs, '--state_dir', state,
                      '--log_to_stdout')
    assert (answer.returncode, b'a twitcher serves' in answer.stderr) == (1, True)
