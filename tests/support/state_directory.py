"""A state without a daemon, and disks that are too small for it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Callable, Iterator, List, Optional

from tests.support.daemon import Twitcher
from twitcher.run_record import RunEnd, RunRecord
from twitcher.runs.procfs import start_time
from twitcher.state import State
from twitcher.znode import Revision

CONFIGS = '/etc/twitcher'
MACHINE = 'boot 1'
WATCH = 'WATCH_DATA /a 01234567 1'


class Clock:
    """A clock turned by hand."""

    def __init__(self) -> None:
        self.alarms: List[Callable[[], None]] = []

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """As the loop's call_later."""
        self.alarms.append(callback)

    def ring(self) -> None:
        """Let enough time pass for all that wait for it."""
        alarms, self.alarms = self.alarms, []
        for alarm in alarms:
            alarm()


class InForce:
    """A watch, as far as the state has to know it."""

    path = f'{CONFIGS}/a.twc'


def use_every_method(state: State, watch: str = WATCH) -> None:
    """Call every method of the state but `close`."""
    state.in_force = {watch: InForce()}
    state.unfinished()
    first, second = begin_run(state, 1, watch), new_run(state, 2, watch)
    state.applied(watch, Revision(1, 2, 3))
    state.save_pending(watch, Revision(1, 2, 4))
    state.pending()
    state.has_run(watch)
    state.purge(lambda name, path: False)
    state.run_ended(first, RunEnd(0))
    state.run_failed(second)
    state.in_force = {}
    state.forget(watch)
    state.applied(watch, Revision(1, 2, 3))


def new_run(state: State, pipe: int, watch: str = WATCH) -> RunRecord:
    """A run that is noted, and has no process yet."""
    record = RunRecord(state.new_run_id(), watch, 'a.twc', pipe, 1.0, None, has_slot=False)
    state.run_begins(record)
    return record


def begin_run(state: State, pipe: int, watch: str = WATCH) -> RunRecord:
    """A run that is noted, whose process is this one."""
    pid = os.getpid()
    record = new_run(state, pipe, watch)._replace(pid=pid, start_time=start_time(pid))
    state.run_started(record)
    return record


def noted_pipes(state: State) -> List[int]:
    """The pipes of the runs that are noted."""
    return sorted(record.pipe for record in state.unfinished())


def has_pending(state: State, watch: str = WATCH) -> bool:
    """Whether an update of the watch is noted as pending."""
    return watch in [name for name, _ in state.pending()]


@contextlib.contextmanager
def opened_state(directory: Path, configs: str = CONFIGS, clock: Optional[Clock] = None) -> Iterator[State]:
    """A state for the length of a with block."""
    clock = clock or Clock()
    state = State(str(directory), configs, MACHINE, clock.later)
    try:
        yield state
    finally:
        state.close()


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """A file system of 256 KiB on the directory, for the length of a with block."""
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'none', directory], check=True)
    try:
        yield
    finally:
        subprocess.run(['umount', '--lazy', directory], check=True)


def fill_disk(directory: Path) -> None:
    """Leave no room in the file system."""
    with (directory / 'filler').open('wb', buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))


def assert_state_warnings(twitcher: Twitcher, count: int) -> None:
    """So many warnings about the state, nothing worse, and no traceback."""
    assert len(twitcher.log_lines('WARNING: state: ')) == count
    assert twitcher.log_lines('Traceback|ERROR|CRITICAL') == []
    assert 'Traceback' not in twitcher.stdio()


def change_state(twitcher: Twitcher, statement: str) -> int:
    """Execute an SQL statement on the daemon's state. Returns the number of changed rows."""
    (path,) = (twitcher.directory / 'state').glob('*.0.sqlite3')
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        return database.execute(statement).rowcount
