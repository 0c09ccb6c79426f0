"""The facts about a run, and how it ended. Data only.

runs/ makes them, state.py keeps them for the next daemon, and watches/ learns of the
end without importing runs/.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from twitcher.errors import SpawnError


class RunRecord(NamedTuple):
    """The facts of a run that the state keeps, so that the next daemon can reattach it.

    `id` is unique among all runs of a state. `watch` is the name of the watch, and
    `path` its file; empty if unknown. `pipe` is the inode of the pipe that the process
    prints to. `began` and `sigterm`, the moment of SIGTERM after a timeout, are in
    seconds of CLOCK_MONOTONIC, which counts from the boot; `timeout` is in seconds from
    `began`. With `has_slot` the run counts against --max_running. `pid` and
    `start_time`, in clock ticks, are None until the process exists, and for ever if the
    daemon dies before noting them.
    """

    id: int
    watch: str
    description: str
    pipe: int
    began: float
    timeout: Optional[float]
    has_slot: bool
    pid: Optional[int] = None
    start_time: Optional[int] = None
    path: str = ''
    sigterm: Optional[float] = None


class RunEnd(NamedTuple):
    """The end of a run: its exit code, or the error if its process could not be
    started.

    An exit code below 0 is minus the signal that killed the process; None is unknown,
    because an earlier daemon was its parent.
    """

    exit_code: Optional[int] = None
    error: Optional[SpawnError] = None
