"""Where inotify says nothing, or would say it to somebody else: directories with two names, mounts, silent file systems."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.support.daemon import Twitcher
from tests.support.followed_directory import FollowedDirectory, replace
from twitcher.config import directory as configdir

SOON = 8.0


@contextlib.contextmanager
def mounted(*arguments: object) -> Iterator[None]:
    """Mount something on the last argument for the length of a with block; skip the test where that is not allowed."""
    done = subprocess.run(['mount', *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f'cannot mount: {done.stderr.strip()}')
    try:
        yield
    finally:
        subprocess.run(['umount', '-l', str(arguments[-1])], check=True)


# One directory, several names

def test_an_edit_is_seen_in_a_directory_that_is_reached_by_two_names(root: Path) -> None:
    link = root.parent / 'link'
    link.symlink_to('etc')
    (root / 'real.conf').write_text('1')
    (root / 'a.twc').symlink_to('real.conf')
    (root / 'b.twc').write_text('1')
    follower = FollowedDirectory(link).start()
    try:
        for text in '23':
            (root / 'b.twc').write_text(text)
            follower.until_it_has(SOON, a=text if text == '3' else '1', b=text)
            (root / 'real.conf').write_text('3')
            follower.until_it_has(SOON, a='3', b=text)
    finally:
        follower.close()


def test_a_half_written_file_is_left_alone_by_whichever_name_its_directory_is_entered(root: Path) -> None:
    real = root.parent / 'real'
    real.mkdir()
    (real / 'b.twc').write_text('old')
    (root / 'd').symlink_to('../real')
    (root / 'a.twc').symlink_to('../real/b.twc')
    follower = FollowedDirectory(root).start()
    try:
        with (real / 'b.twc').open('w') as file:
            file.write('ne')
            file.flush()
            follower.until_all_is_seen()
            assert follower.files['a.twc'] == follower.files['d/b.twc'] == b'old'
            file.write('w')
        follower.until_it_has(SOON, **{'a': 'new', 'd/b': 'new'})
    finally:
        follower.close()


def test_a_directory_that_is_moved_is_followed_under_its_new_name_without_a_word(
        followed: FollowedDirectory, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / 'd/e').mkdir(parents=True)
    (root / 'd/e/a.twc').write_text('1')
    followed.start()
    (root / 'd').rename(root / 'f')
    followed.until_it_has(**{'f/e/a': '1'})
    (root / 'f/e/a.twc').write_text('2')
    followed.until_it_has(**{'f/e/a': '2'})
    assert caplog.records == []


# Mounts

def test_what_is_mounted_over_the_directory_is_seen_and_so_is_its_end(followed: FollowedDirectory, root: Path) -> None:
    (root / 'a.twc').write_text('1')
    followed.start()
    with mounted('-t', 'tmpfs', 'none', root):
        followed.until_it_has(SOON)
        (root / 'b.twc').write_text('2')
        followed.until_it_has(SOON, b='2')
    followed.until_it_has(SOON, a='1')


def test_what_is_mounted_below_the_directory_is_seen(followed: FollowedDirectory, root: Path) -> None:
    (root / 'd').mkdir()
    (root.parent / 'other').mkdir()
    (root.parent / 'other/a.twc').write_text('1')
    followed.start()
    with mounted('--bind', root.parent / 'other', root / 'd'):
        followed.until_it_has(SOON, **{'d/a': '1'})
        replace(root.parent / 'other/a.twc', '2')
        followed.until_it_has(SOON, **{'d/a': '2'})
    followed.until_it_has(SOON)


def test_a_file_that_is_a_mount_of_its_own_is_followed(followed: FollowedDirectory, root: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configdir, 'POLL', 0.2)
    real = root.parent / 'real'
    real.write_text('1')
    (root / 'a b.twc').touch()
    with mounted('--bind', real, root / 'a b.twc'):
        followed.start()
        for text in '23':
            real.write_text(text)
            followed.until_it_has(SOON, **{'a b': text})
    followed.until_it_has(SOON, **{'a b': ''})


def test_a_mount_elsewhere_is_of_no_interest(followed: FollowedDirectory, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / 'a.twc').write_text('1')
    followed.start()
    scans: List[bool] = []
    rescan = followed.configs._rescan

    def counted(reads_all: bool = False) -> None:
        scans.append(reads_all)
        rescan(reads_all)

    monkeypatch.setattr(followed.configs, '_rescan', counted)
    (root.parent / 'other').mkdir()
    with mounted('-t', 'tmpfs', 'none', root.parent / 'other'):
        followed.until_all_is_seen()
    assert len(scans) <= 2  # for the fence


# Silent file systems

def test_what_changes_in_the_lower_layer_of_an_overlay_is_seen(followed: FollowedDirectory, root: Path,
                                                               monkeypatch: pytest.MonkeyPatch,
                                                               caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(configdir, 'POLL', 0.2)
    caplog.set_level('INFO')
    lower, upper, work = (root.parent / name for name in ('lower', 'upper', 'work'))
    with mounted('-t', 'tmpfs', 'none', root.parent):
        for directory in (lower, upper, work, root):
            directory.mkdir()
        (lower / 'a.twc').write_text('1')
        (lower / 'b.twc').write_text('1')
        with mounted('-t', 'overlay', '-o', f'lowerdir={lower},upperdir={upper},workdir={work}', 'none', root):
            followed.start()
            assert followed.files == {'a.twc': b'1', 'b.twc': b'1'}
            for text in '23':
                (lower / 'a.twc').write_text(text)
                followed.until_it_has(SOON, a=text, b='1')
            (root / 'b.twc').write_text('4')
            followed.until_it_has(SOON, a='3', b='4')
            told = [record.getMessage() for record in caplog.records if 'overlay' in record.getMessage()]
            assert len(told) == 1 and 'every 0.2 s' in told[0]


# Names that are none

def test_a_dangling_symlink_and_a_suffix_in_capitals_are_told_of_once(twitcher: Twitcher) -> None:
    twitcher.config('good.twc', '')
    (twitcher.configs / 'dangling.twc').symlink_to('/no/such/file.twc')
    (twitcher.configs / 'loud.TWC').touch()
    (twitcher.configs / 'directory.Twc').mkdir()
    twitcher.start()
    twitcher.wait_log(r'WARNING: .*/dangling\.twc: ignored: .*/no/such/file\.twc, which does not exist')
    twitcher.wait_log(r'WARNING: .*/loud\.TWC: ignored: rename it')
    twitcher.config('later.twc', '')
    twitcher.wait_log(r'later\.twc: loaded')
    assert len(twitcher.log_lines(r'ignored: ')) == 2
