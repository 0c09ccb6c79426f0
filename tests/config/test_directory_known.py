"""Files that an earlier daemon knew, and what becomes of them at a start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.followed_directory import FollowedDirectory
from twitcher.config.scan import read


def test_a_known_file_that_is_not_there_is_reported_gone(root: Path) -> None:
    followed = FollowedDirectory(root, known=[str(root / 'a.twc')]).start()
    try:
        assert followed.reports == ['-a.twc']
    finally:
        followed.close()


def test_a_known_file_that_is_renamed_during_the_first_scan_is_reported_gone(
        root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = root / 'old.twc', root / 'new.twc'
    old.write_text('text')

    def read_late(path: str) -> Any:
        """Rename the file after the scan has found it."""
        if old.exists():
            old.rename(new)
        return read(path)

    monkeypatch.setattr('twitcher.config.directory.read', read_late)
    followed = FollowedDirectory(root, known=[str(old)]).start()
    try:
        followed.until_it_has(new='text')
        followed.until('the old name to be reported gone', lambda: '-old.twc' in followed.reports)
    finally:
        followed.close()


def test_a_known_file_that_is_empty_at_the_start_is_not_believed_at_once(root: Path) -> None:
    path = root / 'a.twc'
    path.touch()
    followed = FollowedDirectory(root, known=[str(path)]).start()
    try:
        assert followed.reports == [] and followed.configs.unreadable == []
        path.write_text('text')
        followed.until_it_has(a='text')
        assert followed.reports == ['+a.twc']
    finally:
        followed.close()
