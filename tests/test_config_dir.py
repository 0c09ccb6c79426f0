"""The configuration directory, without a daemon: what of it is reported, on a real loop, with real files and real inotify."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Union

import pytest

from tests.harness import PATIENCE, wait_for
from twitcher import configdir
from twitcher.configdir import Changes, ConfigDir
from twitcher.configtree import LARGEST


class Followed:
    """A ConfigDir on a loop of its own, which runs only inside `until`, and what it has reported so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: Dict[str, Union[bytes, str]] = {}
        self.reports: List[str] = []
        self.errors: List[Any] = []
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        self.configs = ConfigDir(str(root), self._changed)
        self._fences = 0

    def _changed(self, changes: Changes) -> None:
        for path in changes.gone:
            del self.files[os.path.relpath(path, self.root)]
            self.reports.append('-' + os.path.relpath(path, self.root))
        for path, text in changes.texts.items():
            self.files[os.path.relpath(path, self.root)] = text if isinstance(text, bytes) else str(text)
            self.reports.append('+' + os.path.relpath(path, self.root))

    def start(self) -> Followed:
        async def start() -> None:
            self.configs.start()

        self.loop.run_until_complete(start())
        return self

    def until(self, what: str, probe: Callable[[], object], patience: float = PATIENCE) -> None:
        """Run the loop until the probe is true."""
        async def poll() -> None:
            limit = time.monotonic() + patience
            while not probe():
                assert time.monotonic() < limit, f'waited {patience:g} s for {what}; {self.reports}, {self.files}'
                assert not self.errors
                await asyncio.sleep(0.01)

        self.loop.run_until_complete(poll())

    def until_it_has(self, patience: float = PATIENCE, /, **names: str) -> None:
        """Run the loop until exactly these files (less the .twc) have been reported, with these texts."""
        expected = {f'{name}.twc': text.encode() for name, text in names.items()}
        self.until(str(expected), lambda: {name: text for name, text in self.files.items() if name != 'fence.twc'} == expected,
                   patience)

    def until_all_is_seen(self) -> None:
        """Run the loop until what has happened before this call has been looked at."""
        self._fences += 1
        token = b'%d' % self._fences
        replace(self.root / 'fence.twc', token)
        self.until('the fence', lambda: self.files.get('fence.twc') == token)
        self.reports = [report for report in self.reports if 'fence' not in report]

    def close(self) -> None:
        self.configs.stop()
        self.loop.close()


def replace(path: Path, text: Union[str, bytes]) -> None:
    """Write it as an editor does that renames."""
    new = path.with_name('.new')
    new.write_bytes(text if isinstance(text, bytes) else text.encode())
    new.rename(path)


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that other users may enter, three levels below /tmp."""
    top = Path(tempfile.mkdtemp(prefix='twitcher-test-', dir='/tmp'))
    top.chmod(0o755)
    (top / 'srv/etc').mkdir(parents=True)
    try:
        yield top / 'srv/etc'
    finally:
        os.seteuid(0)
        shutil.rmtree(top)


@pytest.fixture
def followed(root: Path) -> Iterator[Followed]:
    follower = Followed(root)
    yield follower
    follower.close()


# Files and trees

def test_files_are_added_edited_replaced_and_removed(followed: Followed, root: Path) -> None:
    (root / 'a.twc').write_text('1')
    followed.start()
    assert followed.files == {'a.twc': b'1'}
    (root / 'b.twc').write_text('2')
    followed.until_it_has(a='1', b='2')
    (root / 'a.twc').write_text('3')
    replace(root / 'b.twc', '4')
    followed.until_it_has(a='3', b='4')
    (root / 'a.twc').unlink()
    (root / 'b.twc').rename(root / 'c.twc')
    followed.until_it_has(c='4')
    with (root / 'c.twc').open('r+') as file:
        file.write('5')
    followed.until_it_has(c='5')
    (root / 'c.twc').rename(root / 'c.twc~')
    followed.until_it_has()


def test_what_is_no_twc_file_or_begins_with_a_dot_is_passed_over(followed: Followed, root: Path) -> None:
    for name in ('.a.twc', '.git/b.twc', 'd/.c.twc', 'd/.x/e.twc', 'f.twc~', 'g.twc.bak', 'twc', 'h.TWC', '.twc', 'd/i.conf'):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('1')
    followed.start()
    assert followed.files == {}
    (root / '.a.twc').write_text('2')
    (root / '.git/new.twc').write_text('2')
    followed.until_all_is_seen()
    assert followed.reports == []
    (root / '.a.twc').rename(root / 'a.twc')
    (root / '.git').rename(root / 'git.twc')
    followed.until_it_has(**{'a': '2', 'git.twc/b': '1', 'git.twc/new': '2'})


def test_a_tree_is_moved_in_edited_and_moved_out(followed: Followed, root: Path) -> None:
    tree = root.parent / 'tree'
    (tree / 'x/y/z').mkdir(parents=True)
    (tree / 'a.twc').write_text('1')
    (tree / 'x/y/z/b.twc').write_text('2')
    followed.start()
    tree.rename(root / 'tree')
    followed.until_it_has(**{'tree/a': '1', 'tree/x/y/z/b': '2'})
    (root / 'tree/x/y/z/b.twc').write_text('3')
    followed.until_it_has(**{'tree/a': '1', 'tree/x/y/z/b': '3'})
    (root / 'tree/x').rename(root / 'w')
    followed.until_it_has(**{'tree/a': '1', 'w/y/z/b': '3'})
    (root / 'w/y/z/b.twc').write_text('4')
    followed.until_it_has(**{'tree/a': '1', 'w/y/z/b': '4'})
    (root / 'tree').rename(tree)
    shutil.rmtree(root / 'w')
    followed.until_it_has()
    (tree / 'a.twc').write_text('5')
    followed.until_all_is_seen()
    assert '+tree/a.twc' not in followed.reports[2:]


def test_no_file_of_a_tree_that_is_made_fast_is_missed(followed: Followed, root: Path) -> None:
    followed.start()
    expected = {}
    for number in range(600):
        path = root / f'd{number % 20}/e{number % 7}/f{number}.twc'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
        expected[str(path.relative_to(root))] = str(number).encode()
        if number % 50 == 0:
            followed.until('a moment', lambda: True)
    followed.until('600 files', lambda: followed.files == expected)
    shutil.rmtree(root / 'd7')
    followed.until('30 files less', lambda: len(followed.files) == 570)


def test_a_config_map_is_swapped(followed: Followed, root: Path) -> None:
    for version in '12':
        (root / f'..v{version}').mkdir()
        (root / f'..v{version}/a.twc').write_text(version)
    (root / '..data').symlink_to('..v1')
    (root / 'a.twc').symlink_to('..data/a.twc')
    followed.start()
    assert followed.files == {'a.twc': b'1'}
    (root / '..data_tmp').symlink_to('..v2')
    (root / '..data_tmp').rename(root / '..data')
    shutil.rmtree(root / '..v1')
    followed.until_it_has(a='2')
    assert followed.reports == ['+a.twc', '+a.twc']


def test_rewriting_the_same_text_reports_nothing(followed: Followed, root: Path) -> None:
    for name in 'abc':
        (root / f'{name}.twc').write_text(name)
    followed.start()
    (root / 'a.twc').write_text('a')
    replace(root / 'b.twc', 'b')
    os.utime(root / 'c.twc')
    (root / 'c.twc').chmod(0o600)
    followed.until_all_is_seen()
    assert sorted(followed.reports) == ['+a.twc', '+b.twc', '+c.twc']


def test_the_last_of_edits_that_follow_each_other_at_once_is_seen(followed: Followed, root: Path) -> None:
    path = root / 'a.twc'
    path.write_text('00')
    followed.start()
    for number in range(10, 60):
        path.write_text(str(number))
        followed.configs.reread()
        path.write_text(str(number + 1))
        if number % 10 == 0:
            followed.until_it_has(a=str(number + 1))
    followed.until_it_has(a='60')


def test_a_reread_reports_every_file(followed: Followed, root: Path) -> None:
    (root / 'a.twc').write_text('1')
    (root / 'b.twc').write_text('2')
    followed.start()
    followed.configs.reread()
    assert sorted(followed.reports) == ['+a.twc', '+a.twc', '+b.twc', '+b.twc']


def test_nothing_is_reported_and_no_descriptor_kept_after_stop(root: Path) -> None:
    before = len(os.listdir('/proc/self/fd'))
    follower = Followed(root).start()
    (root / 'a.twc').write_text('1')
    follower.until_it_has(a='1')
    (root / 'a.twc').write_text('2')
    follower.configs.stop()
    follower.loop.run_until_complete(asyncio.sleep(2 * configdir.SETTLE))
    assert follower.reports == ['+a.twc']
    follower.loop.close()
    assert len(os.listdir('/proc/self/fd')) == before


# The root and what is above it

def test_the_root_is_removed_and_made_again(followed: Followed, root: Path) -> None:
    (root / 'a.twc').write_text('1')
    followed.start()
    for text in '23':
        shutil.rmtree(root)
        followed.until_it_has()
        root.mkdir()
        (root / 'a.twc').write_text(text)
        followed.until_it_has(a=text)
        (root / 'b.twc').write_text(text)
        followed.until_it_has(a=text, b=text)


def test_the_root_is_made_again_before_its_removal_is_seen(followed: Followed, root: Path) -> None:
    (root / 'a.twc').write_text('1')
    followed.start()
    shutil.rmtree(root)
    root.mkdir()
    (root / 'a.twc').write_text('1')
    followed.until_all_is_seen()
    assert followed.reports == ['+a.twc']
    (root / 'a.twc').write_text('2')
    followed.until_it_has(a='2')


def swap_by_rename(path: Path, other: Path) -> None:
    path.rename(path.with_name('old'))
    other.rename(path)


def swap_symlink(path: Path, other: Path) -> None:
    path.with_name('link').symlink_to(other)
    path.with_name('link').rename(path)


@pytest.mark.parametrize('level', [0, 1, 2])
@pytest.mark.parametrize('swap', [swap_by_rename, swap_symlink])
def test_the_root_or_a_directory_above_it_is_replaced(root: Path, swap: Callable[[Path, Path], None], level: int,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configdir, 'POLL', 0.5)
    top = root.parent / 'current'
    first, second = root.parent / 'v1', root.parent / 'v2'
    below = Path(*['x'] * level)
    for path, text in ((first, '1'), (second, '2')):
        (path / below).mkdir(parents=True)
        (path / below / 'a.twc').write_text(text)
    if swap is swap_symlink:
        top.symlink_to(first)
    else:
        first.rename(top)
    follower = Followed(top / below).start()
    try:
        follower.until_it_has(a='1')
        swap(top, second)
        follower.until_it_has(10, a='2')
        (top / below / 'a.twc').write_text('3')
        follower.until_it_has(10, a='3')
    finally:
        follower.close()


def test_a_root_that_does_not_exist_yet_is_waited_for(root: Path) -> None:
    follower = Followed(root / 'x/y').start()
    try:
        follower.until('nothing', lambda: not follower.files)
        for directory in (root / 'x', root / 'x/y'):
            directory.mkdir()
            follower.loop.run_until_complete(asyncio.sleep(2 * configdir.SETTLE))
        (root / 'x/y/a.twc').write_text('1')
        follower.until_it_has(a='1')
    finally:
        follower.close()


# Symlinks

def test_symlinks_to_themselves_to_nothing_and_to_the_tree_do_no_harm(followed: Followed, root: Path) -> None:
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


def test_a_symlink_to_a_directory_of_the_tree_moves_no_file(followed: Followed, root: Path) -> None:
    (root / 'm').mkdir()
    (root / 'm/a.twc').write_text('1')
    followed.start()
    for name in 'azbyx':
        (root / name).symlink_to('m')
        followed.until_all_is_seen()
    assert followed.reports == ['+m/a.twc']


@pytest.mark.parametrize('where', ['elsewhere', '.'])
@pytest.mark.parametrize('write', [Path.write_text, replace])
def test_the_file_behind_a_symlink_is_followed(followed: Followed, root: Path, where: str,
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


def test_the_file_behind_a_symlink_goes_and_comes_back(followed: Followed, root: Path,
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

def test_a_name_that_is_not_utf_8_is_a_name(followed: Followed, root: Path) -> None:
    followed.start()
    path = os.fsencode(root) + b'/\xff\n.twc'
    for text in '12':
        Path(os.fsdecode(path)).write_text(text)
        (root / 'a.twc').write_text(text)
        followed.until_it_has(**{'\udcff\n': text, 'a': text})
    os.unlink(path)
    followed.until_it_has(a='2')


def test_a_directory_that_inotify_cannot_watch_is_looked_at_now_and_then(
        followed: Followed, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
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
        followed: Followed, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
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


def test_what_is_no_regular_file_is_an_error_and_is_not_opened(followed: Followed, root: Path) -> None:
    os.mkfifo(root / 'fifo.twc')
    writer = threading.Thread(target=lambda: os.close(os.open(root / 'fifo.twc', os.O_WRONLY)))  # waits for a reader
    writer.start()
    wait_for('the writer', lambda: Path(f'/proc/self/task/{writer.native_id}/stat').read_text().rpartition(')')[2].split()[0]
             == 'S')
    (root / 'large.twc').write_bytes(b'#' * (LARGEST + 1))
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
    assert 'no regular file' in reasons['fifo.twc'] and str(LARGEST) in reasons['large.twc']
    assert 'no regular file' in reasons['socket.twc']


def test_what_cannot_be_read_stays_and_is_read_when_it_can_be(followed: Followed, root: Path) -> None:
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
def test_a_half_written_file_is_read_when_it_is_closed(followed: Followed, root: Path, is_link: bool) -> None:
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


def test_a_reread_in_the_midst_of_writing_leaves_the_file_alone(followed: Followed, root: Path) -> None:
    (root / 'a.twc').write_text('old')
    followed.start()
    with (root / 'a.twc').open('w') as file:
        file.write('ne')
        file.flush()
        followed.configs.reread()
        assert followed.files['a.twc'] == b'old'
        file.write('w')
    followed.until_it_has(a='new')


def test_a_file_that_stays_open_is_read_after_a_while(followed: Followed, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configdir, 'WRITING_LIMIT', 0.3)
    followed.start()
    with (root / 'a.twc').open('w') as file:
        file.write('1')
        file.flush()
        followed.until_it_has(a='1')


def test_nothing_is_missed_when_the_kernel_drops_events(followed: Followed, root: Path,
                                                        caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('DEBUG', 'twitcher.inotify')
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
