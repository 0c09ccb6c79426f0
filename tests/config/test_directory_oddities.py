"""The configuration directory, without a daemon: symlinks, odd files, files in the making, and events that are lost."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import threading
from pathlib import Path
from typing import Callable

import pytest

from tests.support.followed_directory import FollowedDirectory, replace
from tests.support.waiting import wait_for
from twitcher.config import directory as configdir
from twitcher.config import recent_events
from twitcher.config.scan import MAX_FILE_SIZE

# Symlinks

def test_symlinks_to_themselves_to_nothing_and_to_the_tree_do_no_harm(followed: FollowedDirectory, root: Path) -> None:
    (root / 'd').mkdir()
    (root / 'd/a.twc').write_text('1')
    followed.start()
    (root / 'self.twc').symlink_to('self.twc')
    (root / 'self').symlink_to('self')
    (root / 'nothing.twc').symlink_to('nowhere')
    (root / 'd/up').symlink_to('..')
    (root / 'd/here').symlink_to('.')
    followed.until('the loop', lambda: 'self.twc' in followed.files)
    assert 'symbolic links' in str(followed.files.pop('self.twc')) and followed.files.pop('d/a.twc') == b'1'
    assert followed.files == {}


def test_a_symlink_to_a_directory_of_the_tree_moves_no_file(followed: FollowedDirectory, root: Path) -> None:
    (root / 'm').mkdir()
    (root / 'm/a.twc').write_text('1')
    followed.start()
    for name in 'azbyx':
        (root / name).symlink_to('m')
        followed.until_all_is_seen()
    assert followed.reports == ['+m/a.twc']


@pytest.mark.parametrize('where', ['elsewhere', '.'])
@pytest.mark.parametrize('write', [Path.write_text, replace])
def test_the_file_behind_a_symlink_is_followed(followed: FollowedDirectory, root: Path, where: str,
                                               write: Callable[[Path, str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configdir, 'POLL', 0.5)
    target = root.parent / where / 'real.twc'
    target.parent.mkdir(exist_ok=True)
    target.write_text('1')
    (root / 'a.twc').symlink_to(target)
    followed.start()
    for text in '23':
        write(target, text)
        followed.until_it_has(10, a=text)


def test_the_file_behind_a_symlink_goes_and_comes_back(followed: FollowedDirectory, root: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configdir, 'POLL', 0.5)
    target = root.parent / 'elsewhere/real'
    target.parent.mkdir()
    target.write_text('1')
    (root / 'a.twc').symlink_to(target)
    followed.start()
    target.unlink()
    followed.until_it_has()
    target.write_text('2')
    followed.until_it_has(10, a='2')


# Odd names, odd files, unreadable ones

def test_a_name_that_is_not_utf_8_is_a_name(followed: FollowedDirectory, root: Path) -> None:
    followed.start()
    path = os.fsencode(root) + b'/\xff\n.twc'
    for text in '12':
        Path(os.fsdecode(path)).write_text(text)
        (root / 'a.twc').write_text(text)
        followed.until_it_has(**{'\udcff\n': text, 'a': text})
    os.unlink(path)
    followed.until_it_has(a='2')


def test_a_directory_that_inotify_cannot_watch_is_looked_at_now_and_then(
        followed: FollowedDirectory, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(configdir, 'POLL', 0.2)
    directory = Path(os.fsdecode(os.fsencode(root) + b'/\xff'))
    directory.mkdir()
    (directory / 'a.twc').write_text('1')
    followed.start()
    for text in '23':
        (directory / 'a.twc').write_text(text)
        followed.until_it_has(**{'\udcff/a': text})
    assert [record.levelname for record in caplog.records] == ['WARNING']


def test_without_an_inotify_instance_the_directory_is_looked_at_now_and_then(
        followed: FollowedDirectory, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(configdir, 'POLL', 0.2)
    libc = ctypes.CDLL(None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.seteuid(1 << 30 | os.getpid())  # instances are counted for each user
    try:
        while (descriptor := libc.inotify_init1(os.O_CLOEXEC)) >= 0:
            taken.append(descriptor)
        followed.start()
    finally:
        os.seteuid(0)
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ['max_user_instances' in record.getMessage() for record in caplog.records] == [True]
    (root / 'a.twc').write_text('1')
    followed.until_it_has(a='1')
    replace(root / 'a.twc', '2')
    followed.until_it_has(a='2')
    (root / 'a.twc').unlink()
    followed.until_it_has()


def test_what_is_no_regular_file_is_an_error_and_is_not_opened(followed: FollowedDirectory, root: Path) -> None:
    os.mkfifo(root / 'fifo.twc')
    writer = threading.Thread(target=lambda: os.close(os.open(root / 'fifo.twc', os.O_WRONLY)))  # waits for a reader
    writer.start()
    wait_for('the writer', lambda: Path(f'/proc/self/task/{writer.native_id}/stat').read_text().rpartition(')')[2].split()[0]
             == 'S')
    (root / 'large.twc').write_bytes(b'#' * (MAX_FILE_SIZE + 1))
    (root / 'directory.twc').mkdir()
    (root / 'directory.twc/a.twc').write_text('1')
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(root / 'socket.twc'))
    followed.start()
    (root / 'b.twc').write_text('2')
    followed.until('the last', lambda: 'b.twc' in followed.files)
    was_waiting = writer.is_alive()
    reader = os.open(root / 'fifo.twc', os.O_RDONLY | os.O_NONBLOCK)
    writer.join()
    os.close(reader)
    assert was_waiting
    assert followed.files.pop('directory.twc/a.twc') == b'1' and followed.files.pop('b.twc') == b'2'
    reasons = {name: str(text) for name, text in followed.files.items()}
    assert sorted(reasons) == ['fifo.twc', 'large.twc', 'socket.twc']
    assert 'no regular file' in reasons['fifo.twc'] and str(MAX_FILE_SIZE) in reasons['large.twc']
    assert 'no regular file' in reasons['socket.twc']


def test_what_cannot_be_read_stays_and_is_read_when_it_can_be(followed: FollowedDirectory, root: Path) -> None:
    (root / 'd').mkdir()
    (root / 'd/a.twc').write_text('1')
    (root / 'b.twc').write_text('1')
    os.seteuid(65534)
    followed.start()
    os.seteuid(0)
    (root / 'd').chmod(0o700)
    (root / 'b.twc').chmod(0o600)
    os.seteuid(65534)
    followed.until('the reason', lambda: 'Permission denied' in str(followed.files['b.twc']))
    assert followed.files['d/a.twc'] == b'1'
    os.seteuid(0)
    (root / 'd').chmod(0o755)
    (root / 'd/a.twc').write_text('2')
    (root / 'b.twc').chmod(0o644)
    os.seteuid(65534)
    followed.until_it_has(**{'d/a': '2', 'b': '1'})


# Files that are being written, events that are lost

@pytest.mark.parametrize('is_link', [False, True])
def test_a_half_written_file_is_read_when_it_is_closed(followed: FollowedDirectory, root: Path, is_link: bool) -> None:
    path = root.parent / 'real.d/a.twc' if is_link else root / 'a.twc'
    path.parent.mkdir(exist_ok=True)
    path.write_text('old')
    if is_link:
        (root / 'a.twc').symlink_to(path)
    followed.start()
    with path.open('w') as file:
        for part in ('a', 'b'):
            file.write(part)
            file.flush()
            followed.until_all_is_seen()
            assert followed.files['a.twc'] == b'old'
    followed.until_it_has(a='ab')
    assert followed.reports.count('+a.twc') == 2


def test_a_reread_in_the_midst_of_writing_leaves_the_file_alone(followed: FollowedDirectory, root: Path) -> None:
    (root / 'a.twc').write_text('old')
    followed.start()
    with (root / 'a.twc').open('w') as file:
        file.write('ne')
        file.flush()
        followed.configs.reread()
        assert followed.files['a.twc'] == b'old'
        file.write('w')
    followed.until_it_has(a='new')


def test_a_file_that_stays_open_is_read_after_a_while(
        followed: FollowedDirectory, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_events, 'WRITING_LIMIT', 0.3)
    followed.start()
    with (root / 'a.twc').open('w') as file:
        file.write('1')
        file.flush()
        followed.until_it_has(a='1')


def test_nothing_is_missed_when_the_kernel_drops_events(followed: FollowedDirectory, root: Path,
                                                        caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('DEBUG', 'twitcher.config.inotify')
    (root / 'a.twc').write_text('1')
    (root / 'gone.twc').write_text('1')
    followed.start()
    for number in range(int(Path('/proc/sys/fs/inotify/max_queued_events').read_text()) // 2 + 100):
        os.link(root / 'a.twc', root / f'n{number % 2}')
        os.unlink(root / f'n{number % 2}')
    (root / 'a.twc').write_text('2')
    (root / 'gone.twc').unlink()
    (root / 'd').mkdir()
    (root / 'd/b.twc').write_text('3')
    followed.until_it_has(**{'a': '2', 'd/b': '3'})
    assert [record for record in caplog.records if 'lost events' in record.getMessage()]
    (root / 'd/b.twc').write_text('4')
    followed.until_it_has(**{'a': '2', 'd/b': '4'})
