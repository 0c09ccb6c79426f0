"""A process's memory and CPU time, from the kernel: proc(5)."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

_TICK = os.sysconf('SC_CLK_TCK')
_MB = 1024


class Memory(NamedTuple):
    """A process's memory in MB. `private` would be free if the process ended;
    `proportional` includes its share of pages that others use, too."""

    resident: float
    private: float
    proportional: float
    threads: float


def memory(pid: int) -> Memory:
    """The present memory of a process."""
    status, rollup = _fields(pid, 'status'), _fields(pid, 'smaps_rollup')
    return Memory(status['VmRSS'] / _MB, (rollup['Private_Clean'] + rollup['Private_Dirty']) / _MB, rollup['Pss'] / _MB,
                  status['Threads'])


class Times(NamedTuple):
    """CPU seconds of a process, and of those of its children that have ended."""

    own: float
    children: float


def times(pid: int) -> Times:
    """The CPU time of a process so far."""
    stat = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    user, system, children_user, children_system = (int(field) / _TICK for field in stat[11:15])
    return Times(user + system, children_user + children_system)


class Activity(NamedTuple):
    """Of all threads of a process: CPU seconds, finely measured, and how often one of
    them waited and was woken."""

    seconds: float
    wakeups: float


def activity(pid: int) -> Activity:
    """The activity of a process so far."""
    seconds = wakeups = 0.0
    for task in Path(f'/proc/{pid}/task').iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            seconds += int((task / 'schedstat').read_text().split()[0]) / 1e9
            wakeups += _fields(pid, f'task/{task.name}/status')['voluntary_ctxt_switches']
    return Activity(seconds, wakeups)


def children(pid: int) -> List[int]:
    """The pids of the children that are running."""
    return [int(child) for task in Path(f'/proc/{pid}/task').iterdir() for child in (task / 'children').read_text().split()]


def name(pid: int) -> str:
    """The name that the process has given itself."""
    return Path(f'/proc/{pid}/comm').read_text().strip()


def wait_until_idle(pid: int, quiet: float = 0.3, patience: float = 60.0) -> None:
    """Wait until the process uses less than 10 ms of CPU in `quiet` seconds, for at
    most `patience` seconds."""
    deadline = time.monotonic() + patience
    before = activity(pid).seconds
    while time.monotonic() < deadline:
        time.sleep(quiet)
        now = activity(pid).seconds
        if now - before < 0.01:
            return
        before = now


def _fields(pid: int, file: str) -> Dict[str, int]:
    """The numbers of a file whose lines are `Name: number ...`."""
    return dict(_numbers(Path(f'/proc/{pid}/{file}').read_text().splitlines()))


def _numbers(lines: List[str]) -> Iterator[Tuple[str, int]]:
    for line in lines:
        name, colon, rest = line.partition(':')
        words = rest.split()
        if colon and words and words[0].isdigit():
            yield name, int(words[0])
