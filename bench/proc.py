"""What the kernel tells about a process's memory and time: proc(5)."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

_TICK = os.sysconf('SC_CLK_TCK')
_MB = 1024


class Memory(NamedTuple):
    """In MB; `private` is what would be free if the process ended, `proportional` has its share of what others use, too."""

    resident: float
    private: float
    proportional: float
    threads: float


def memory(pid: int) -> Memory:
    """Of a process, as it is now."""
    status, rollup = _fields(pid, 'status'), _fields(pid, 'smaps_rollup')
    return Memory(status['VmRSS'] / _MB, (rollup['Private_Clean'] + rollup['Private_Dirty']) / _MB, rollup['Pss'] / _MB,
                  status['Threads'])


class Times(NamedTuple):
    """In seconds of CPU: the process itself, and those of its children that have ended."""

    own: float
    children: float


def times(pid: int) -> Times:
    """So far."""
    stat = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    user, system, children_user, children_system = (int(field) / _TICK for field in stat[11:15])
    return Times(user + system, children_user + children_system)


class Activity(NamedTuple):
    """Of all threads: seconds of CPU, finely measured, and how often one of them waited for something and was woken."""

    seconds: float
    wakeups: float


def activity(pid: int) -> Activity:
    """So far."""
    seconds = wakeups = 0.0
    for task in Path(f'/proc/{pid}/task').iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            seconds += int((task / 'schedstat').read_text().split()[0]) / 1e9
            wakeups += _fields(pid, f'task/{task.name}/status')['voluntary_ctxt_switches']
    return Activity(seconds, wakeups)


def children(pid: int) -> List[int]:
    """The living ones."""
    return [int(child) for task in Path(f'/proc/{pid}/task').iterdir() for child in (task / 'children').read_text().split()]


def name(pid: int) -> str:
    """What it calls itself."""
    return Path(f'/proc/{pid}/comm').read_text().strip()


def wait_until_idle(pid: int, quiet: float = 0.3, patience: float = 60.0) -> None:
    """Until it has not used 10 ms of CPU for so long, or is not going to."""
    limit = time.monotonic() + patience
    before = activity(pid).seconds
    while time.monotonic() < limit:
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
