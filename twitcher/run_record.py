"""The facts about a run and its end. Data only.

runs/ makes them, state.py keeps them for the next daemon, and watches/ learns of an end
without importing runs/.
"""

from __future__ import annotations

from enum import Enum
from signal import Signals
from typing import NamedTuple, Optional, Tuple

from twitcher.errors import SpawnError
from twitcher.znode import Revision


class RunRecord(NamedTuple):
    """The facts of a run that the state keeps, so that the next daemon can reattach it.

    `id` is unique among all runs of a state. `watch` is the name of the watch, and
    `path` its file; empty if unknown. `pipe` is the inode of the pipe that the process
    prints to. With `has_slot` the run counts against --max_running. `pid` and
    `start_time`, in clock ticks, are None until the process exists, and for ever if the
    daemon dies before noting them.

    `began`, `sigterm` and `notified` are in seconds of CLOCK_MONOTONIC, which counts
    from the boot; `timeout` is in seconds from `began`. `sigterm` is the moment when
    the process group was sent SIGTERM, because of the timeout if `is_overdue`. `grace`
    is the number of seconds from then to SIGKILL. `notified` is the moment of a
    notify_signal that is expected to kill the process. `ok_codes` are the exit codes
    that are a success. `lock` is the name of the lock that the run holds.
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
    is_overdue: bool = False
    notified: Optional[float] = None
    grace: float = 5.0
    ok_codes: Tuple[int, ...] = (0,)
    lock: Optional[str] = None

    @property
    def is_terminated(self) -> bool:
        """Whether its process group was sent SIGTERM because of an update."""
        return self.sigterm is not None and not self.is_overdue

    @property
    def is_being_ended(self) -> bool:
        """Whether it was sent a signal that is expected to end it."""
        return self.sigterm is not None or self.notified is not None


class Outcome(Enum):
    """What the end of a run means for the failure policy."""

    SUCCESS = 'an exit code that is in ok_codes'
    FAILURE = 'another exit code, a signal, a timeout, or a program that can never be started'
    UNKNOWN = 'its exit code is not known'
    NEITHER = 'it was ended for an update, or the machine refused to start it'


class RunEnd(NamedTuple):
    """The end of a run: its exit code, or the error if its process could not be
    started.

    An exit code below 0 is minus the signal that killed the process; None is unknown,
    because an earlier daemon was its parent and the kernel does not report it.
    `is_overdue` says that its timeout ended it, and `is_terminated` that it was ended
    because of an update. `ok_codes` are the exit codes of a success.
    """

    exit_code: Optional[int] = None
    error: Optional[SpawnError] = None
    is_overdue: bool = False
    is_terminated: bool = False
    ok_codes: Tuple[int, ...] = (0,)

    @property
    def outcome(self) -> Outcome:
        """Whether that is a success, a failure, neither, or unknown."""
        if self.is_overdue:
            return Outcome.FAILURE
        if self.is_terminated or self.error and self.error.transient:
            return Outcome.NEITHER
        if self.exit_code is None and not self.error:
            return Outcome.UNKNOWN
        return Outcome.SUCCESS if self.exit_code in self.ok_codes else Outcome.FAILURE


def describe(end: RunEnd) -> str:
    """How a run has failed, for the log."""
    if end.is_overdue:
        return 'failed (timeout)'
    if end.error:
        return 'failed (not started)'
    if end.exit_code is None:
        return 'failed (exit code unknown)'
    if end.exit_code >= 0:
        return f'failed (exit {end.exit_code})'
    names = {int(known): known.name for known in Signals}
    return f'failed ({names.get(-end.exit_code, f"signal {-end.exit_code}")})'


class LastRun(NamedTuple):
    """The last run of a watch, as the state knows it.

    `revision` is the state of the znode that it ran for. `failed` is None if the run is
    in progress, was ended for an update, or ended in an unknown way. `stopped` is the
    digest of the spec with which the watch was stopped after a failure; None if it was
    not stopped.
    """

    revision: Optional[Revision]
    has_ended: bool
    failed: Optional[bool]
    attempt: int
    stopped: Optional[int]
