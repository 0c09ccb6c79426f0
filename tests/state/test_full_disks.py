"""The state on a disk that is full, or read-only: one warning is logged, and what could not be noted is noted later."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from tests.support.actions import echo
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.state_directory import (
    WATCH,
    Clock,
    begin_run,
    fill_disk,
    has_pending,
    noted_pipes,
    opened_state,
    small_disk,
    use_every_method,
)
from tests.support.waiting import Trace
from twitcher.run_record import RunEnd
from twitcher.znode import Revision


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of its own, of 256 KiB."""
    directory = tmp_path / 'small'
    directory.mkdir()
    with small_disk(directory):
        yield directory


@pytest.mark.parametrize('is_new', [False, True])
def test_what_a_full_disk_has_kept_from_being_noted_is_noted_when_there_is_room(
        small: Path, warnings: Callable[[], List[str]], is_new: bool) -> None:
    if not is_new:
        with opened_state(small) as state:
            begin_run(state, 1)
            state.save_pending(WATCH, Revision(1, 2, 3))
    fill_disk(small)
    clock = Clock()
    with opened_state(small, clock=clock) as state:
        assert (noted_pipes(state), has_pending(state)) == (([], False) if is_new else ([1], True))
        for number in range(50):
            use_every_method(state, f'/etc/twitcher/{number}.twc data /a 1')
        begin_run(state, 2)
        state.save_pending(WATCH, Revision(1, 2, 4))
        clock.ring()
        assert len(warnings()) == 1
        (small / 'filler').unlink()
        clock.ring()
        assert clock.alarms == []
    with opened_state(small) as state:
        assert noted_pipes(state) == ([2] if is_new else [1, 2])
        assert has_pending(state)
    assert len(warnings()) == 1


def test_a_disk_that_fills_up_costs_one_warning_each_time_and_loses_no_note(
        small: Path, warnings: Callable[[], List[str]]) -> None:
    clock = Clock()
    with opened_state(small, clock=clock) as state:
        before = begin_run(state, 1)
        for times in (1, 2):
            fill_disk(small)
            for _ in range(50):
                use_every_method(state)
            assert len(warnings()) == times
            during = begin_run(state, 2)
            ended = begin_run(state, 3)
            state.run_ended(ended, RunEnd(0))
            (small / 'filler').unlink()
            clock.ring()
            assert noted_pipes(state) == [1, 2]
            state.run_ended(during, RunEnd(0))
        state.run_ended(before, RunEnd(0))
        last = begin_run(state, 4)
    with opened_state(small) as state:
        assert [record.id for record in state.unfinished()] == [last.id]


@pytest.mark.parametrize('is_open', [False, True])
def test_a_disk_that_is_read_only_costs_one_warning(small: Path, warnings: Callable[[], List[str]], is_open: bool) -> None:
    with opened_state(small) as state:
        begin_run(state, 1)
    with contextlib.ExitStack() as stack:
        if is_open:
            state = stack.enter_context(opened_state(small))
        # As seen through this path only: the kernel refuses it for a file system on which files are open for writing.
        subprocess.run(['mount', '--bind', small, small], check=True)
        stack.callback(lambda: subprocess.run(['umount', '--lazy', small], check=True))
        subprocess.run(['mount', '-o', 'remount,bind,ro', small], check=True)
        if not is_open:
            state = stack.enter_context(opened_state(small))
        use_every_method(state)
        use_every_method(state)
    assert len(warnings()) == (0 if is_open else 1)  # what is open stays writable


@pytest.fixture
def small_state(twitcher: Twitcher) -> Iterator[Path]:
    """The daemon's state directory, on a file system of its own, of 256 KiB."""
    directory = twitcher.directory / 'state'
    directory.mkdir()
    with small_disk(directory):
        yield directory


def test_a_full_disk_costs_a_warning_and_no_run(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                small_state: Path) -> None:
    twitcher.config('d.twc', f"RegisterWatch('/d', {echo(trace)})")
    ensemble.put('/d', 'first')
    twitcher.start()
    trace.wait_for_line('first')
    fill_disk(small_state)
    for number in range(20):
        ensemble.put('/d', number)
        trace.wait_for_line(str(number))
    twitcher.kill()
    twitcher.start()
    trace.wait(22)
    twitcher.stop()
    (small_state / 'filler').unlink()
    assert 1 <= len(twitcher.log_lines('WARNING: state: ')) <= 2  # one of each daemon
    assert twitcher.log_lines('Traceback|ERROR|CRITICAL') == []
