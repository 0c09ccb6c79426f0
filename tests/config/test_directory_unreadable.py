"""What cannot be read for a moment stays in force, and is read as soon as it can be, without an event that says so."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from pathlib import Path
from typing import Any, Callable, List

import pytest

from tests.support.followed_directory import FollowedDirectory, replace
from twitcher.config import recent_events

SOON = 8.0


def test_a_change_that_met_a_want_of_descriptors_is_seen_when_there_are_some(followed: FollowedDirectory, root: Path) -> None:
    (root / 'a.twc').write_text('1')
    followed.start()
    (root / 'a.twc').write_text('2')
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken: List[int] = []
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        followed.loop.run_until_complete(asyncio.sleep(6 * recent_events.SETTLE))
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    followed.until_it_has(SOON, a='2')
    assert followed.reports == ['+a.twc', '+a.twc']


@pytest.mark.parametrize('call', ['scandir', 'stat', 'open'])
@pytest.mark.parametrize('number', [errno.EIO, errno.ESTALE, errno.ENOMEM])
def test_an_error_that_passes_harms_nobody_and_is_not_told(followed: FollowedDirectory, root: Path, call: str, number: int,
                                                           monkeypatch: pytest.MonkeyPatch,
                                                           caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    (root / 'd').mkdir()
    (root / 'd/a.twc').write_text('1')
    (root / 'link').symlink_to('d')
    followed.start()
    failures = fail(monkeypatch, call, number, lambda: True)
    replace(root / 'd/a.twc', '2')
    followed.until('the error', lambda: failures)
    followed.loop.run_until_complete(asyncio.sleep(2 * recent_events.SETTLE))
    monkeypatch.undo()
    followed.until_it_has(SOON, **{'d/a': '2'})
    assert followed.reports == ['+d/a.twc', '+d/a.twc']
    assert told(caplog) == []


def test_an_error_that_lasts_is_told_once_and_so_is_its_end(
        followed: FollowedDirectory, root: Path, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    (root / 'd').mkdir()
    (root / 'd/a.twc').write_text('1')
    followed.start()
    failures = fail(monkeypatch, 'scandir', errno.EIO, lambda: True)
    replace(root / 'd/a.twc', '2')
    followed.until('three attempts', lambda: len(failures) > 2, 15)
    monkeypatch.undo()
    followed.until_it_has(SOON, **{'d/a': '2'})
    followed.until('the end', lambda: [record for record in caplog.records if 'can be read again' in record.getMessage()])
    begun, _ = told(caplog)
    assert begun.startswith('WARNING') and 'Input/output error; what it held stays in force' in begun


def test_a_file_that_cannot_be_read_for_long_is_an_error_of_that_file(followed: FollowedDirectory, root: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    (root / 'a.twc').write_text('1')
    followed.start()
    fail(monkeypatch, 'open', errno.EIO, lambda: True)
    (root / 'a.twc').chmod(0o600)
    followed.until('the error', lambda: 'Input/output error' in str(followed.files['a.twc']), SOON)
    monkeypatch.undo()
    followed.until_it_has(SOON, a='1')
    assert followed.reports == ['+a.twc', '+a.twc', '+a.twc']


def test_a_symlink_to_a_directory_that_cannot_be_looked_at_for_a_moment_keeps_what_it_held(
        followed: FollowedDirectory, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = root.parent / 'elsewhere/d'
    elsewhere.mkdir(parents=True)
    (elsewhere / 'a.twc').write_text('1')
    (root / 'link').symlink_to(elsewhere)
    os.seteuid(65534)
    followed.start()
    os.seteuid(0)
    elsewhere.parent.chmod(0o700)
    (root / 'b.twc').write_text('1')
    os.seteuid(65534)
    followed.until('the new file', lambda: 'b.twc' in followed.files)
    assert followed.files == {'link/a.twc': b'1', 'b.twc': b'1'}
    os.seteuid(0)
    (elsewhere / 'a.twc').write_text('2')
    elsewhere.parent.chmod(0o755)
    os.seteuid(65534)
    followed.until_it_has(15, **{'link/a': '2', 'b': '1'})


def told(caplog: pytest.LogCaptureFixture) -> List[str]:
    """What has been logged, less what is said of the file system that the tests run on."""
    records = [f'{record.levelname}: {record.getMessage()}' for record in caplog.records]
    return [record for record in records if 'inotify does not report' not in record]


def fail(monkeypatch: pytest.MonkeyPatch, call: str, number: int, is_due: Callable[[], bool]) -> List[str]:
    """Have a system call fail for what is below a directory `d`, or for a.twc. Returns what it was called for."""
    real, failures = getattr(os, call), []

    def faulty(path: Any, *more: Any, **named: Any) -> Any:
        if isinstance(path, str) and (path.endswith('/d') or path.endswith('a.twc')) and is_due():
            failures.append(path)
            raise OSError(number, os.strerror(number))
        return real(path, *more, **named)

    monkeypatch.setattr(os, call, faulty)
    return failures
