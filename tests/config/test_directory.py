"""The configuration directory, without a daemon: what of it is reported when its files and the directories above change."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Callable

import pytest

from tests.support.followed_directory import FollowedDirectory, replace
from twitcher.config import directory as configdir
from twitcher.config import recent_events

# Files and trees

def test_files_are_added_edited_replaced_and_removed(followed: FollowedDirectory, root: Path) -> None:
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


def test_what_is_no_twc_file_or_begins_with_a_dot_is_passed_over(followed: FollowedDirectory, root: Path) -> None:
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


def test_a_tree_is_moved_in_edited_and_moved_out(followed: FollowedDirectory, root: Path) -> None:
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


def test_no_file_of_a_tree_that_is_made_fast_is_missed(followed: FollowedDirectory, root: Path) -> None:
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


def test_a_config_map_is_swapped(followed: FollowedDirectory, root: Path) -> None:
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


def test_rewriting_the_same_text_reports_nothing(followed: FollowedDirectory, root: Path) -> None:
    for name in 'abc':
        (root / f'{name}.twc').write_text(name)
    followed.start()
    (root / 'a.twc').write_text('a')
    replace(root / 'b.twc', 'b')
    os.utime(root / 'c.twc')
    (root / 'c.twc').chmod(0o600)
    followed.until_all_is_seen()
    assert sorted(followed.reports) == ['+a.twc', '+b.twc', '+c.twc']


def test_the_last_of_edits_that_follow_each_other_at_once_is_seen(followed: FollowedDirectory, root: Path) -> None:
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


def test_a_reread_reports_every_file(followed: FollowedDirectory, root: Path) -> None:
    (root / 'a.twc').write_text('1')
    (root / 'b.twc').write_text('2')
    followed.start()
    followed.configs.reread()
    assert sorted(followed.reports) == ['+a.twc', '+a.twc', '+b.twc', '+b.twc']


def test_nothing_is_reported_and_no_descriptor_kept_after_stop(root: Path) -> None:
    before = len(os.listdir('/proc/self/fd'))
    follower = FollowedDirectory(root).start()
    (root / 'a.twc').write_text('1')
    follower.until_it_has(a='1')
    (root / 'a.twc').write_text('2')
    follower.configs.stop()
    follower.loop.run_until_complete(asyncio.sleep(2 * recent_events.SETTLE))
    assert follower.reports == ['+a.twc']
    follower.loop.close()
    assert len(os.listdir('/proc/self/fd')) == before


# The root and what is above it

def test_the_root_is_removed_and_made_again(followed: FollowedDirectory, root: Path) -> None:
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


def test_the_root_is_made_again_before_its_removal_is_seen(followed: FollowedDirectory, root: Path) -> None:
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
    follower = FollowedDirectory(top / below).start()
    try:
        follower.until_it_has(a='1')
        swap(top, second)
        follower.until_it_has(10, a='2')
        (top / below / 'a.twc').write_text('3')
        follower.until_it_has(10, a='3')
    finally:
        follower.close()


def test_a_root_that_does_not_exist_yet_is_waited_for(root: Path) -> None:
    follower = FollowedDirectory(root / 'x/y').start()
    try:
        follower.until('nothing', lambda: not follower.files)
        for directory in (root / 'x', root / 'x/y'):
            directory.mkdir()
            follower.loop.run_until_complete(asyncio.sleep(2 * recent_events.SETTLE))
        (root / 'x/y/a.twc').write_text('1')
        follower.until_it_has(a='1')
    finally:
        follower.close()
