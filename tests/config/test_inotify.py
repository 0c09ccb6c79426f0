"""What the kernel tells is passed on where it may concern a .twc file, and kept back where it cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import List

import pytest

from twitcher.config.inotify import Inotify
from twitcher.config.scan import scan


def told_of(root: Path, *names: str) -> List[str]:
    """Which of the events are passed on when the files of these names below the root's parent are written, one by one."""
    told: List[str] = []
    loop = asyncio.new_event_loop()
    inotify = Inotify(loop, lambda entry, change: told.append(entry[1] if entry else ''))
    try:
        inotify.watch(scan(str(root)).dependencies)
        for name in names:
            with (root.parent / name).open('a') as file:
                file.write('pass\n')
        inotify.drain()
    finally:
        inotify.stop()
        loop.close()
    return told


@pytest.mark.parametrize('name', ['neighbour', 'root/.a.twc.swp', 'root/.hidden.twc', 'root/README'])
def test_the_writing_of_what_is_no_config_wakes_nobody(tmp_path: Path, name: str) -> None:
    root = tmp_path / 'root'
    root.mkdir()
    (tmp_path / name).touch()
    assert set(told_of(root, name, 'root/last.twc', name)) == {'last.twc'}


def test_a_file_that_a_symlink_makes_a_config_is_told_of(tmp_path: Path) -> None:
    root = tmp_path / 'root'
    root.mkdir()
    (tmp_path / 'real').touch()
    (root / 'a.twc').symlink_to('../real')
    assert set(told_of(root, 'real')) == {'real'}
