"""The state directory in trouble: nothing raises, one warning is logged, and what can be repaired is."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Callable, List, Optional

import pytest

from tests.support.programs import TOP
from tests.support.state_directory import (
    WATCH,
    Clock,
    InForce,
    begin_run,
    has_pending,
    new_run,
    noted_pipes,
    opened_state,
    use_every_method,
)
from twitcher.run_record import RunEnd
from twitcher.znode import Revision


def database(directory: Path) -> Path:
    """The only state's file."""
    (path,) = directory.glob('*.sqlite3')
    return path


def test_what_is_noted_is_known_to_the_next(tmp_path: Path) -> None:
    with opened_state(tmp_path) as state:
        ended, failed, going = begin_run(state, 1), begin_run(state, 2), begin_run(state, 3)
        state.run_ended(ended, RunEnd(0))
        state.run_failed(failed)
        state.save_pending(WATCH, Revision(1, 2, 4))
    with opened_state(tmp_path) as state:
        assert [(record.id, record.pid) for record in state.unfinished()] == [(going.id, os.getpid())]
        assert has_pending(state)
        state.forget(WATCH)
        assert not has_pending(state)
    with opened_state(tmp_path) as state:
        assert not has_pending(state)


def test_a_crash_loses_nothing(tmp_path: Path) -> None:
    crash = f"""
import os, signal
from tests.support.state_directory import CONFIGS, MACHINE, Clock, begin_run
from twitcher.state import State

begin_run(State({str(tmp_path)!r}, CONFIGS, MACHINE, Clock().later), 1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, '-c', crash], cwd=TOP).returncode == -signal.SIGKILL
    with opened_state(tmp_path) as state:
        assert noted_pipes(state) == [1]


def test_what_another_daemon_has_locked_is_left_alone(tmp_path: Path, warnings: Callable[[], List[str]]) -> None:
    clock = Clock()
    with opened_state(tmp_path, clock=clock) as second:
        with opened_state(tmp_path) as first:
            pass
        begin_run(second, 2)
    with opened_state(tmp_path) as first, opened_state(tmp_path, clock=clock) as second:
        begin_run(first, 1)
        begin_run(second, 3)
        assert (noted_pipes(first), noted_pipes(second)) == ([1, 2], [])
        first.close()
        clock.ring()
        assert noted_pipes(second) == [1, 2, 3]
    assert len(warnings()) == 2 and 'serves /etc/twitcher already' in warnings()[1]


def test_directories_with_similar_names_are_not_mixed_up(tmp_path: Path) -> None:
    with opened_state(tmp_path, '/etc/a-b') as first:
        begin_run(first, 1)
    for other in ('/etc/a/b', '/etc/a_b', '/etc/a-b/', '/etc/A-b', '/' + 'x' * 200, '/etc/\udcff', '/etc/ü'):
        with opened_state(tmp_path, other) as second:
            assert noted_pipes(second) == []
            begin_run(second, 2)


def make_garbage(path: Path) -> None:
    path.write_bytes(b'this is no database, whatever its name says' * 100)


def make_malformed(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    for page in range(4096, len(contents), 4096):
        contents[page:page + 200] = b'\xff' * 200
    path.write_bytes(contents)


def make_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def make_empty(path: Path) -> None:
    path.write_bytes(b'')


def make_foreign(path: Path) -> None:
    """Another schema with the same names, as of another release."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript('DROP TABLE run; DROP TABLE watch; CREATE TABLE run (x); CREATE TABLE watch (y);')


def make_corrupt_log(path: Path) -> None:
    Path(f'{path}-wal').write_bytes(b'no log' * 10_000)


def make_bad_index(path: Path) -> None:
    """Where only writing would notice it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name LIKE 'sqlite_autoindex_watch%'")
        ((size,),) = connection.execute('PRAGMA page_size')
    with path.open('r+b') as file:
        file.seek((page - 1) * size)
        file.write(b'\xff' * size)


REPAIRABLE = [make_garbage, make_bad_index, make_malformed, make_short, make_empty, make_foreign, make_corrupt_log]


@pytest.mark.parametrize('damage', REPAIRABLE)
def test_a_damaged_file_is_begun_anew_with_one_warning_at_most(
        tmp_path: Path, warnings: Callable[[], List[str]], damage: Callable[[Path], None]) -> None:
    with opened_state(tmp_path) as state:
        begin_run(state, 1)
    damage(database(tmp_path))
    with opened_state(tmp_path) as state:
        use_every_method(state)
        begin_run(state, 2)
    with opened_state(tmp_path) as state:
        assert noted_pipes(state) in ([2], [1, 2])
    assert len(warnings()) <= 1


def put_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_a_directory_for_the_lock(path: Path) -> None:
    put_a_directory(path.with_suffix('.lock'))


def put_a_file_for_the_directory(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    path.parent.write_text('no directory')


def put_a_directory_for_the_log(path: Path) -> None:
    Path(f'{path}-wal').mkdir()


@pytest.mark.parametrize('obstacle', [put_a_directory, put_a_directory_for_the_lock, put_a_file_for_the_directory,
                                      put_a_directory_for_the_log])
def test_what_cannot_be_opened_costs_one_warning(tmp_path: Path, warnings: Callable[[], List[str]],
                                                 obstacle: Callable[[Path], None]) -> None:
    directory = tmp_path / 'state'
    with opened_state(directory):
        pass
    obstacle(database(directory))
    with opened_state(directory) as state:
        use_every_method(state)
        use_every_method(state)
    assert len(warnings()) == 1


def test_a_directory_that_another_user_owns_costs_one_warning(tmp_path: Path, warnings: Callable[[], List[str]]) -> None:
    directory = tmp_path / 'state'
    directory.mkdir(0o700)
    os.seteuid(65534)
    try:
        with opened_state(directory) as state:
            use_every_method(state)
    finally:
        os.seteuid(0)
    assert len(warnings()) == 1


def remove(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


@pytest.mark.parametrize('damage', [remove, make_garbage, make_empty, make_corrupt_log, lambda path: path.chmod(0)])
def test_damage_while_it_is_open_raises_nothing(tmp_path: Path, warnings: Callable[[], List[str]],
                                                damage: Callable[[Path], None]) -> None:
    with opened_state(tmp_path) as state:
        begin_run(state, 1)
        damage(database(tmp_path))
        for _ in range(600):  # enough for the log to be moved into the file
            use_every_method(state)
    before = len(warnings())
    with opened_state(tmp_path) as state:
        use_every_method(state)
        begin_run(state, 2)
    with opened_state(tmp_path) as state:
        assert 2 in noted_pipes(state)
    assert before <= 1 and len(warnings()) <= before + 1


def test_a_lock_that_cannot_be_had_costs_one_warning_and_no_descriptors(
        tmp_path: Path, warnings: Callable[[], List[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, 'flock', refuse)
    clock = Clock()
    with opened_state(tmp_path, clock=clock) as state:
        before = len(os.listdir('/proc/self/fd'))
        for _ in range(20):
            use_every_method(state)
            clock.ring()
        assert len(os.listdir('/proc/self/fd')) == before
    assert len(warnings()) == 1


def test_a_state_that_never_works_keeps_nothing_of_what_is_over(tmp_path: Path) -> None:
    directory = tmp_path / 'file'
    directory.write_text('no directory')
    with opened_state(directory) as state:
        use_every_method(state)
        waiting = len(state._database._unwritten)
        for _ in range(100):
            use_every_method(state)
        assert len(state._database._unwritten) == waiting


@pytest.mark.parametrize('waiting, applied, is_pending', [
    (Revision(1, 2, 3), None, True), (Revision(1, 2, 3), Revision(1, 1, 3), True),
    (Revision(1, 2, 3), Revision(1, 2, 3), False), (None, Revision(1, 2, 3), False), (None, None, False),
])
def test_an_update_that_waited_is_pending_unless_it_was_run_for(
        tmp_path: Path, waiting: Optional[Revision], applied: Optional[Revision], is_pending: bool) -> None:
    with opened_state(tmp_path) as state:
        state.save_pending(WATCH, Revision(1, 1, 1))
        state.save_pending(WATCH, waiting)
        if applied:
            state.in_force = {WATCH: InForce()}
            state.applied(WATCH, applied)
    with opened_state(tmp_path) as state:
        assert has_pending(state) == is_pending
        state.save_pending(WATCH, None)
        assert not has_pending(state)


@pytest.mark.parametrize('watch', ['/etc/\udcff.twc data /a 1', '/etc/ü.twc data /ü 1', '/etc/a\nb.twc data /a 1'])
def test_any_file_name_can_be_noted(tmp_path: Path, warnings: Callable[[], List[str]], watch: str) -> None:
    with opened_state(tmp_path) as state:
        use_every_method(state, watch)
        state.save_pending(watch, Revision(1, 2, 4))
        assert [record.watch for record in state.unfinished()] == []
        new_run(state, 1, watch)
        assert [record.watch for record in state.unfinished()] == [watch]
    with opened_state(tmp_path) as state:
        assert has_pending(state, watch)
    assert warnings() == []
