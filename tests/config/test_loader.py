"""What the loader does with files that fail, on a clock turned by hand."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple, Union

import pytest

from tests.support.state_directory import Clock, opened_state
from twitcher.config import loader
from twitcher.config.directory import Changes, ConfigDir
from twitcher.config.loader import Loader
from twitcher.config.spec import WatchSpec
from twitcher.errors import ConfigError

A = '/etc/twitcher/a.twc'
B = '/etc/twitcher/b.twc'


class LoaderUnderTest:
    """A loader, and what it has put into force: of each file the znodes, and whether its text was the same."""

    def __init__(self, directory: Path, root: str = '/etc/twitcher') -> None:
        self.clock = Clock()
        self.in_force: Dict[str, Tuple[List[str], bool]] = {}
        self.at_first: Dict[str, Tuple[List[str], bool]] = {}
        self.replaced = self.changed = 0
        self._opened = opened_state(directory, clock=self.clock)
        self.loader = Loader(root, self._opened.__enter__().good_configs, self._replace, self._remove, self.clock.later,
                             self._changed)

    def _replace(self, path: str, specs: List[WatchSpec], is_same_text: bool) -> None:
        self.replaced += 1
        self.in_force[path] = ([spec.znode for spec in specs], is_same_text)

    def _remove(self, path: str) -> None:
        self.in_force.pop(path, None)

    def _changed(self) -> None:
        self.changed += 1

    def apply(self, texts: Dict[str, Union[str, ConfigError]], *gone: str) -> None:
        """Report changes."""
        self.loader.apply(Changes({path: text.encode() if isinstance(text, str) else text for path, text in texts.items()},
                                  list(gone)))

    def start(self, root: Path) -> None:
        """Scan a directory for the first time, as a user to whom one in it may be closed; and as root, when it is not."""
        async def start() -> None:
            configs = ConfigDir(str(root), self.loader.apply, self.loader.known)
            os.seteuid(65534)
            try:
                configs.start()
                self.loader.restore(configs.unreadable)
                self.at_first = dict(self.in_force)
            finally:
                os.seteuid(0)
            configs.reread()
            configs.stop()

        asyncio.run(start())

    def close(self) -> None:
        """Leave it to the next."""
        self._opened.__exit__(None, None, None)


@pytest.fixture
def new_loader(tmp_path: Path) -> Iterator[Callable[[], LoaderUnderTest]]:
    """Makes loaders with one state, one after the other."""
    made: List[LoaderUnderTest] = []

    def make() -> LoaderUnderTest:
        if made:
            made[-1].close()
        made.append(LoaderUnderTest(tmp_path / 'state'))
        return made[-1]

    yield make
    made[-1].close()


def needs(path: Path) -> str:
    """A file that loads if the path exists."""
    return f"open({str(path)!r})\nRegisterWatch('/a', Exec('true'))"


def test_a_failed_file_is_tried_again_and_only_what_changes_is_logged(
        new_loader: Callable[[], LoaderUnderTest], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    subject, there = new_loader(), tmp_path / 'there'
    subject.apply({A: needs(there), B: "RegisterWatch('/b', Exec('true'))"})
    assert (subject.loader.failing, list(subject.in_force), len(caplog.records)) == ([A], [B], 1)
    for _ in range(3):
        subject.clock.ring()
    assert (len(caplog.records), subject.replaced) == (1, 1)
    there.mkdir()
    subject.clock.ring()
    subject.clock.ring()
    assert [record.getMessage().partition('Error')[0] for record in caplog.records[1:]] == [f'{A}:1: IsADirectory']
    there.rmdir()
    there.touch()
    subject.clock.ring()
    assert (subject.loader.failing, subject.in_force[A]) == ([], (['/a'], False))
    assert (caplog.records[-1].getMessage(), len(caplog.records)) == (f'{A}: loads again', 3)
    assert subject.changed == 6 and not subject.clock.alarms


def test_one_file_is_tried_in_each_round_of_the_loop(new_loader: Callable[[], LoaderUnderTest], tmp_path: Path) -> None:
    subject = new_loader()
    subject.apply({f'/etc/twitcher/{number}.twc': needs(tmp_path / 'there') for number in range(10)})
    (tmp_path / 'there').touch()
    for number in range(1, 11):
        subject.clock.ring()
        assert subject.replaced == number


def test_a_file_that_fails_slowly_is_tried_less_and_less_often(new_loader: Callable[[], LoaderUnderTest], tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, '_SLOW', -1)
    subject, tries = new_loader(), tmp_path / 'tries'
    subject.apply({A: f"open({str(tries)!r}, 'a').write('.')\nnonsense"})
    at = []
    for minute in range(1, 260):
        before = tries.stat().st_size
        subject.clock.ring()
        if tries.stat().st_size > before:
            at.append(minute)
    assert at == [1, 3, 7, 15, 31, 63, 127, 191, 255]


def test_a_file_with_a_fault_for_good_falls_back_as_soon_as_its_last_good_version_loads(
        new_loader: Callable[[], LoaderUnderTest], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    there = tmp_path / 'there'
    there.touch()
    new_loader().apply({A: needs(there)})
    there.unlink()
    subject = new_loader()
    subject.apply({A: 'nonsense'})
    subject.clock.ring()
    assert (subject.in_force, len(caplog.records)) == ({}, 1)
    there.touch()
    subject.clock.ring()
    subject.clock.ring()
    assert (subject.in_force, subject.loader.failing) == ({A: (['/a'], False)}, [A])
    assert [record.getMessage().rpartition('; ')[2][:15] for record in caplog.records] == [
        'nor does its la', 'its version of ']


def test_what_was_there_last_time_and_was_not_found_is_put_into_force(new_loader: Callable[[], LoaderUnderTest]) -> None:
    new_loader().apply({path: "RegisterWatch('/a', Exec('true'))" for path in (A, B)})
    subject = new_loader()
    assert sorted(subject.loader.known) == [A, B]
    subject.apply({}, B)
    subject.loader.restore([A])
    assert (list(subject.in_force), subject.loader.failing) == ([A], [A])
    subject.apply({A: "RegisterWatch('/a', Exec('true'))"})
    assert (subject.in_force[A], subject.loader.failing) == ((['/a'], True), [])


@pytest.mark.parametrize('is_removed', [False, True])
def test_a_directory_that_cannot_be_read_at_a_start_costs_no_watch(tmp_path: Path, root: Path, is_removed: bool,
                                                                   caplog: pytest.LogCaptureFixture) -> None:
    path = root / 'sub/a.twc'
    path.parent.mkdir()
    path.write_text("RegisterWatch('/a', Exec('true'))")
    first = LoaderUnderTest(tmp_path / 'state', str(root))
    first.start(root)
    first.close()
    path.parent.chmod(0)
    if is_removed:
        path.unlink()
    second = LoaderUnderTest(tmp_path / 'state', str(root))
    second.start(root)
    second.close()
    assert second.at_first == {str(path): (['/a'], False)}
    assert second.in_force == ({} if is_removed else {str(path): (['/a'], True)})
    assert re.search('a.twc: its directory cannot be read; its version of 20.* is in force', caplog.text)


@pytest.mark.parametrize('path', ['/etc/twitcher/\udcff.twc', '/etc/twitcher/\u00fc.twc'], ids=['no UTF-8', 'u umlaut'])
@pytest.mark.parametrize('text', ['# \u00fc', '', '# ' + 'x' * 1_000_000], ids=['u umlaut', 'empty', 'large'])
def test_any_text_of_any_file_is_kept(new_loader: Callable[[], LoaderUnderTest], path: str, text: str) -> None:
    new_loader().apply({path: text})
    subject = new_loader()
    subject.apply({path: 'nonsense'})
    assert subject.loader._texts[path] == text.encode()


def test_a_state_that_cannot_be_used_keeps_no_text_twice(new_loader: Callable[[], LoaderUnderTest], tmp_path: Path) -> None:
    (tmp_path / 'state').write_text('no directory')
    subject = new_loader()
    for number in range(10):
        subject.apply({A: f'# {number}'})
    waiting = [key for key in subject.loader._good_configs._database._unwritten if key.startswith('config ')]
    assert len(waiting) == 1
