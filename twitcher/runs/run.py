"""One run in progress: its end, its timeout and its signals.

A run begins before its process exists, because an exec may take long. It ends with its
process; but after a timeout, or if notify_signal has killed the process, not before the
whole process group has ended or has been sent SIGKILL. It supervises itself until then:
no caller has to keep a reference to it. The state notes its end before any callback of
`on_end` is called. output.py takes care of its output.
"""

from __future__ import annotations

import asyncio
import os
import signal
from enum import Enum
from typing import Callable, List, Optional

from twitcher.errors import SpawnError
from twitcher.log import get_logger
from twitcher.log_target import INFO, WARNING
from twitcher.run_record import RunEnd, RunRecord
from twitcher.runs.child import Child, ExitStatus
from twitcher.runs.coarse_timer import CoarseTimer
from twitcher.runs.notify_signal import Notifier, signal_name
from twitcher.runs.procfs import find_session_leader, start_time
from twitcher.znode import Update

log = get_logger(__name__)

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""
POLL = 0.1
"""Seconds between two checks whether a process group has ended."""
SEARCH = 1.0
"""Seconds between two searches in /proc for a process whose exec is in progress."""
SLOW_START = 10.0
"""Seconds after which the log says that a program has not been executed yet."""
LONG_WAIT = 60.0
"""Seconds after which the log says that an update waits for the end of a run."""


class _State(Enum):
    STARTING = 'its process may not exist yet'
    RUNNING = 'its process is running'
    LEFTOVERS = 'its process has ended; its process group was sent SIGTERM and has not'
    OVER = 'it has ended'


class Run:
    """A run, whose process exists from `started` on.

    `update` is what it runs for, until its process exists. `note_sigterm(record)` is
    called before its process group is sent SIGTERM, and `note_end(record, end)` at its
    end. The times in the record are of the loop's clock, which all processes of a boot
    share: a run may have begun under an earlier daemon.
    """

    def __init__(self, record: RunRecord, timer: CoarseTimer, note_sigterm: Callable[[RunRecord], None],
                 note_end: Callable[[RunRecord, RunEnd], None], update: Optional[Update] = None) -> None:
        self.record = record
        self.update = update
        self._description = record.description
        self._timer = timer
        self._note_sigterm = note_sigterm
        self._note_end = note_end
        self._loop = asyncio.get_running_loop()
        self._state = _State.STARTING
        self._child: Optional[Child] = None
        self._exit_status: Optional[ExitStatus] = None
        self._pidfd: Optional[int] = None
        self._notifier = Notifier(record.description, self._signal)
        self._callbacks: List[Callable[[RunEnd], None]] = []
        self._is_overdue = record.sigterm is not None
        self._awaited_since: Optional[float] = None
        self._alarm: Optional[asyncio.TimerHandle] = None
        if record.sigterm is not None:
            self._alarm = self._loop.call_at(record.sigterm + GRACE, self._grace_is_over)
        elif record.timeout:
            self._alarm = self._loop.call_at(record.began + record.timeout, self._time_is_up)
        timer.call_later(SLOW_START, self._warn_slow_start)

    @property
    def pid(self) -> Optional[int]:
        """The pid of its process; None as long as there is none."""
        return self.record.pid

    def on_end(self, callback: Callable[[RunEnd], None]) -> None:
        """Call back once, when the run is over and its end has been noted."""
        self._callbacks.append(callback)

    def started(self, child: Child) -> None:
        """Its process exists."""
        self._timer.cancel(self._warn_slow_start)
        self._state = _State.RUNNING
        self._child, self.update = child, None
        if self.pid is None:
            self.record = self.record._replace(pid=child.pid, start_time=start_time(child.pid))
        try:
            self._pidfd = os.pidfd_open(child.pid)
        except OSError:  # out of descriptors: the process must be waited for all the same
            self._loop.call_later(POLL, self._poll)
        else:
            self._loop.add_reader(self._pidfd, self.reap)

    def failed(self, error: SpawnError) -> None:
        """Its process could not be started, or its timeout was over before its exec."""
        if self._is_overdue:
            error = SpawnError(f'{error} (within its timeout)', transient=False)
        self._finish(RunEnd(error=error))

    def withdraw(self) -> None:
        """It was never started: note no end, and call no callbacks."""
        self._stop()

    def notify(self, signum: int) -> None:
        """Send the signal to the process itself as soon as it is ready for it.

        Nothing happens if the process has ended.
        """
        if self._state in (_State.STARTING, _State.RUNNING):
            self._notifier.notify(signum)

    def send_signals(self) -> None:
        """Send the signals that `notify` was given before the process existed."""
        if self._state is _State.RUNNING and self.pid:
            self._notifier.start(self.pid)

    def awaited(self) -> None:
        """From now on an update waits for the end of this run."""
        if self._awaited_since is None:
            self._awaited_since = self._loop.time()
            self._timer.call_later(LONG_WAIT, self._warn_long_wait)

    def _signal(self, signum: int) -> None:
        if self._exit_status or self.pid is None:
            return
        try:
            if self._pidfd is None:
                os.kill(self.pid, signum)
            else:
                signal.pidfd_send_signal(self._pidfd, signum)
        except ProcessLookupError:
            return
        except OSError as error:  # a program that changes its user, and we are not root
            log.error('%s: %s to pid %d failed: %s', self._description, signal_name(signum), self.pid, error.strerror)

    def _poll(self) -> None:
        self.reap()
        if self._state is _State.RUNNING:
            self._loop.call_later(POLL, self._poll)

    def reap(self) -> None:
        """Reap the process if it has ended."""
        if self._state is not _State.RUNNING:
            return
        assert self._child
        self._exit_status = status = self._child.poll()
        if status is None:
            return
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        log.log(WARNING if status.code else INFO, '%s: pid %d %s after %.3f s', self._description,
                self.pid, _outcome(status.code), self._loop.time() - self.record.began)
        self._notifier.stop()
        if not self._is_overdue and self._notifier.has_killed(status.code):
            self._end_group()
        if self._is_overdue:
            self._state = _State.LEFTOVERS
            self._wait_for_group()
        else:
            self._finish(RunEnd(status.code))

    def _end_group(self) -> None:
        """Send SIGTERM to what is left of a service that notify_signal has killed.

        Otherwise the next run would start the service a second time.
        """
        assert self.pid
        if _group_exists(self.pid):
            log.warning('%s: notify_signal has ended pid %d, but not its process group: SIGTERM to that', self._description,
                        self.pid)
            self._send_sigterm(self.pid)

    def _wait_for_group(self) -> None:
        """End the run when its process group has: until then its id is not reused."""
        assert self.pid and self._exit_status
        if self._state is not _State.LEFTOVERS:
            return
        if self._alarm and _group_exists(self.pid):
            self._loop.call_later(POLL, self._wait_for_group)
        else:
            self._finish(RunEnd(self._exit_status.code))

    def _finish(self, end: RunEnd) -> None:
        """Note the end in the state first, then call back."""
        self._stop()
        self._note_end(self.record, end)
        for callback in self._callbacks:
            callback(end)

    def _stop(self) -> None:
        self._state = _State.OVER
        for callback in (self._warn_slow_start, self._warn_long_wait):
            self._timer.cancel(callback)
        if self._alarm:
            self._alarm.cancel()

    def _leader(self) -> Optional[int]:
        """The pid of the process, if it exists; searched for if it is not known yet."""
        return self.pid or find_session_leader(self.record.pipe)

    def _time_is_up(self) -> None:
        """Send SIGTERM, unless the process has ended.

        Both may be due at once if the daemon itself was stopped (SIGSTOP): so reap
        first.
        """
        self.reap()
        if self._state is _State.OVER:
            return
        leader = self._leader()
        if leader is None:
            self._alarm = self._loop.call_later(SEARCH, self._time_is_up)
            return
        log.warning('%s: pid %d is still running after %g s (timeout): SIGTERM to its process group', self._description,
                    leader, self.record.timeout)
        self._send_sigterm(leader)

    def _send_sigterm(self, leader: int) -> None:
        self._is_overdue = True
        self.record = self.record._replace(sigterm=self._loop.time())
        self._note_sigterm(self.record)
        if self._alarm:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(GRACE, self._grace_is_over)
        if not _signal_group(leader, signal.SIGTERM):  # a fork that has not made its group yet
            self._signal(signal.SIGTERM)

    def _grace_is_over(self) -> None:
        self.reap()
        if self._state is _State.LEFTOVERS:
            self._wait_for_group()
        leader = self._leader()
        if self._state is _State.OVER or leader is None:
            return
        self._alarm = None
        log.warning('%s: the process group of pid %d is still there %g s after SIGTERM: SIGKILL', self._description,
                    leader, GRACE)
        _signal_group(leader, signal.SIGKILL)

    def _warn_slow_start(self) -> None:
        log.warning('%s: its program has not been executed after %g s; still waiting for it', self._description,
                    self._loop.time() - self.record.began)

    def _warn_long_wait(self) -> None:
        now = self._loop.time()
        log.warning('%s: an update has been waiting for %.0f s for the end of %s, which was started %.0f s ago',
                    self._description, now - (self._awaited_since or now),
                    f'pid {self.pid}' if self.pid else 'a program that is still to be executed', now - self.record.began)


def _outcome(exit_code: Optional[int]) -> str:
    if exit_code is None:
        return 'ended (exit code unknown: it was started by an earlier daemon)'
    if exit_code >= 0:
        return f'exited {exit_code}'
    return f'was killed by {signal_name(-exit_code)}'


def _signal_group(pid: int, signum: int) -> bool:
    """Send a signal to a process group. Returns whether it exists."""
    try:
        os.killpg(pid, signum)
    except ProcessLookupError:
        return False
    except OSError as error:
        log.error('%s to process group %d failed: %s', signal.Signals(signum).name, pid, error.strerror)
    return True


def _group_exists(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists, but we may not signal it
        return True
    return True
