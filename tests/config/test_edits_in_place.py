"""A config file that is rewritten in place, scanned at the worst instant of it: only the finished text is believed."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Any, Callable, List

import pytest

from tests.support.configs import fence, watch
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.followed_directory import FollowedDirectory, replace
from tests.support.waiting import Trace
from twitcher.config import directory as configdir
from twitcher.config import recent_events

SOON = 5.0
"""Seconds for what takes effect by itself, far below what a poll or a full reread would need."""


@pytest.fixture
def during_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object], Callable[[], object]], None]:
    """Have two functions called once, right before and right after the next time that a.twc is read."""
    def arrange(before: Callable[[], object], after: Callable[[], object]) -> None:
        real, is_due = vars(configdir)['read'], [True]

        def read(path: str, *more: Any) -> Any:
            if not path.endswith('a.twc') or not is_due:
                return real(path, *more)
            is_due.clear()
            before()
            result = real(path, *more)
            after()
            return result

        monkeypatch.setattr(configdir, 'read', read)

    return arrange


Arrange = Callable[[Callable[[], object], Callable[[], object]], None]


def test_what_is_read_between_a_truncation_and_a_close_is_not_believed(followed: FollowedDirectory, root: Path,
                                                                      during_read: Arrange) -> None:
    path = root / 'a.twc'
    path.write_text('old')
    followed.start()
    files: List[IO[str]] = []

    def truncate() -> None:
        files.append(path.open('w'))
        files[0].write('ha')
        files[0].flush()

    def finish() -> None:
        files[0].write('lf')
        files[0].close()

    during_read(truncate, finish)
    replace(path, 'first')
    followed.until_it_has(a='half')
    assert followed.reports == ['+a.twc', '+a.twc']


def test_an_edit_that_begins_during_a_scan_and_ends_after_it_takes_effect(followed: FollowedDirectory, root: Path,
                                                                         during_read: Arrange) -> None:
    path = root / 'a.twc'
    path.write_text('1')
    followed.start()
    files: List[IO[str]] = []

    def append() -> None:
        files.append(path.open('a'))
        files[0].write('3')
        files[0].flush()

    during_read(append, lambda: None)
    replace(path, '12')
    followed.until('the read', lambda: files)
    followed.until_all_is_seen()
    files[0].close()
    followed.until_it_has(SOON, a='123')


@pytest.mark.parametrize('empty', ['', '\n'])
def test_a_file_that_is_empty_between_two_commands_keeps_its_previous_text(followed: FollowedDirectory, root: Path, empty: str,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configdir, 'EMPTY_DELAY', 60.0, raising=False)
    path = root / 'a.twc'
    path.write_text('old')
    followed.start()
    path.write_text(empty)
    followed.until_all_is_seen()
    followed.configs.reread()
    assert followed.files['a.twc'] == b'old'
    with path.open('a') as file:
        file.write('new')
    followed.until_it_has(a=f'{empty}new')
    assert followed.reports.count('+a.twc') == 2


def test_a_file_that_stays_empty_is_believed_to_be(followed: FollowedDirectory, root: Path) -> None:
    (root / 'a.twc').write_text('old')
    followed.start()
    (root / 'a.twc').write_text('')
    followed.until_it_has(a='')
    assert followed.reports == ['+a.twc', '+a.twc']


def test_a_file_that_a_script_writes_line_by_line_takes_effect_whole(followed: FollowedDirectory, root: Path) -> None:
    path = root / 'a.twc'
    path.write_text('old')
    followed.start()
    path.write_text('1\n')
    for line in '23':
        followed.configs.reread()
        with path.open('a') as file:
            file.write(f'{line}\n')
    followed.until_it_has(a='1\n2\n3\n')
    assert followed.reports == ['+a.twc', '+a.twc']


def test_a_file_that_is_removed_and_made_again_at_once_was_never_gone(followed: FollowedDirectory, root: Path) -> None:
    (root / 'a.twc').write_text('1')
    followed.start()
    (root / 'a.twc').unlink()
    followed.configs.reread()
    (root / 'a.twc').write_text('1')
    followed.until_all_is_seen()
    assert '-a.twc' not in followed.reports


def test_the_half_written_file_behind_a_symlink_is_left_alone_whatever_its_name(
        followed: FollowedDirectory, root: Path) -> None:
    (root / 'real').write_text('old')
    (root / 'a.twc').symlink_to('real')
    followed.start()
    with (root / 'real').open('w') as file:
        file.write('ne')
        file.flush()
        followed.until_all_is_seen()
        assert followed.files['a.twc'] == b'old'
        file.write('w')
    followed.until_it_has(a='new')


def test_no_text_is_believed_that_was_not_finished(followed: FollowedDirectory, root: Path) -> None:
    chance = random.Random(4)
    texts = [f'{number}\n'.encode() * 3 for number in range(150)]
    path = root / 'a.twc'
    path.write_bytes(texts[0])

    def rewrite(text: bytes) -> None:
        pause = chance.choice([0, 0, 0.001, 0.01, 0.04, 0.07])
        way = chance.randrange(3)
        if way == 0:
            path.write_bytes(b'')
            time.sleep(pause)
            with path.open('ab') as file:
                file.write(text)
        elif way == 1:
            with path.open('wb', buffering=0) as file:
                for byte in text:
                    time.sleep(pause / 5)
                    file.write(bytes([byte]))
        else:
            replace(path, text)
        time.sleep(chance.choice([0, 0.02, 0.045, 0.06]))

    def rewrite_all() -> None:
        for text in texts:
            rewrite(text)

    writer = threading.Thread(target=rewrite_all)
    followed.start()
    writer.start()
    seen = set()

    def is_over() -> bool:
        seen.add(followed.files['a.twc'])
        return not writer.is_alive()

    followed.until('the writer', is_over)
    followed.until_it_has(a=texts[-1].decode())
    assert seen <= set(texts)


def test_an_edit_that_is_never_closed_is_read_after_a_while(followed: FollowedDirectory, root: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_events, 'WRITING_LIMIT', 0.3)
    (root / 'a.twc').write_text('1')
    followed.start()
    with (root / 'a.twc').open('a') as file:
        file.write('2')
        file.flush()
        followed.until_it_has(SOON, a='12')


def test_an_edit_in_place_keeps_the_watch_and_runs_nothing(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    text = watch('/a', trace, 'a')
    path = twitcher.config('a.twc', text)
    ensemble.put('/a', 0)
    twitcher.start()
    trace.wait_for_line('a load 0')
    subprocess.run(['sh', '-c', ': > "$1"; sleep 0.3; cat >> "$1"', 'sh', path], input=text.encode(), check=True)
    fence(twitcher, ensemble)
    ensemble.put('/a', 1)
    trace.wait_for_line('a changed 1')
    assert trace.lines() == ['a load 0', 'a changed 1']
    assert twitcher.log_lines('0 watches') == twitcher.log_lines(r'(seen-.*|fence)\.twc: loaded, 0 watches')
