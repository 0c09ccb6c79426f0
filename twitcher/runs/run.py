"""One run in progress: its end, its timeout and its signals.

A run begins before its process exists, because an exec may take long. It ends with its
process. But if its timeout or an update ends it, or if notify_signal has killed the
process, it ends with its whole process group, which is sent SIGTERM, and SIGKILL when
the grace is over. It supervises itself until then: no caller has to keep a reference to
it. The state notes its end before any callback of `on_end` is called. output.py takes
care of its output.
"""

from __future__ import annotations

import asyncio
import signal
from enum import Enum
from typing import Callable, List, Optional

from twitcher.errors import SpawnError
from twitcher.log import get_logger
from twitcher.log_target import INFO, WARNING
from twitcher.run_record import RunEnd, RunRecord
from twitcher.runs.child import Child, ExitStatus
from twitcher.runs.coarse_timer import CoarseTimer
from twitcher.runs.notify_signal import Notifier
from twitcher.runs.process_group import group_exists, signal_group, signal_name
from twitcher.runs.process_handle import POLL, ProcessHandle
from twitcher.runs.procfs import find_session_leader, is_group_left, start_time
from twitcher.runs.slow_run import SlowRunWarnings
from twitcher.znode import Update

log = get_logger(__name__)

KILL_TIMEOUT = 2.0
"""Seconds after SIGKILL until we no longer wait for the process group: a process in it
may hang in the kernel for ever."""
SEARCH = 1.0
"""Seconds between two searches in /proc, for a process whose exec is in progress or for
what is left of a process group."""


class _State(Enum):
    STARTING = 'its process may not exist yet'
    RUNNING = 'its process is running'
    LEFTOVERS = 'its process has ended, but not its process group, which was sent SIGTERM'
    OVER = 'it has ended'


class Run:
    """A run, whose process exists from `started` on.

    `update` is what it runs for, until its process exists. `note_signal(record)` is
    called before its process group is sent SIGTERM, and before its process is sent a
    signal that kills it; `note_end(record, end)` is called at its end. The times in the
    record are of the loop's clock, which all processes of a boot share: a run may have
    begun under an earlier daemon.
    """

    def __init__(self, record: RunRecord, timer: CoarseTimer, note_signal: Callable[[RunRecord], None],
                 note_end: Callable[[RunRecord, RunEnd], None], update: Optional[Update] = None) -> None:
        self.record = record
        self.update = update
        self._description = record.description
        self._note_signal = note_signal
        self._note_end = note_end
        self._loop = asyncio.get_running_loop()
        self._state = _State.STARTING
        self._child: Optional[Child] = None
        self._exit_status: Optional[ExitStatus] = None
        self._process: Optional[ProcessHandle] = None
        self._notifier = Notifier(record.description, self._signal, self._expect_death, record.notified is not None)
        self._callbacks: List[Callable[[RunEnd], None]] = []
        self._is_unwanted = False
        self._next_scan = 0.0
        self._alarm: Optional[asyncio.TimerHandle] = None
        if record.sigterm is not None:
            self._alarm = self._loop.call_at(record.sigterm + record.grace, self._grace_is_over)
        elif record.timeout:
            self._alarm = self._loop.call_at(record.began + record.timeout, self._time_is_up)
        self._warnings = SlowRunWarnings(record.description, record.began, timer)

    @property
    def pid(self) -> Optional[int]:
        """The pid of its process; None as long as there is none."""
        return self.record.pid

    def on_end(self, callback: Callable[[RunEnd], None]) -> None:
        """Call back once, when the run is over and its end has been noted."""
        self._callbacks.append(callback)

    def started(self, child: Child) -> None:
        """Its process exists."""
        self._warnings.started(child.pid)
        self._state = _State.RUNNING
        self._child, self.update = child, None
        if self.pid is None:
            self.record = self.record._replace(pid=child.pid, start_time=start_time(child.pid))
        self._process = ProcessHandle(child.pid, self.reap)

    def failed(self, error: SpawnError) -> None:
        """Its process could not be started, or its timeout was over before its exec."""
        if self.record.is_overdue:
            error = SpawnError(f'{error} (within its timeout)', transient=False)
        self._finish(self._end(error=error))

    def withdraw(self) -> None:
        """Its process was never started: note no end, and call no callback."""
        self._stop()

    def notify(self, signum: int) -> None:
        """Send the signal to the process itself as soon as it is ready for it.

        Nothing happens if the process has ended.
        """
        if self._state in (_State.STARTING, _State.RUNNING):
            self._notifier.notify(signum)

    def terminate(self) -> None:
        """End it because of an update: SIGTERM to its process group, then SIGKILL when
        its grace is over.

        If its process does not exist yet, this waits for it. Nothing happens if the run
        is being ended already.
        """
        if self._state in (_State.STARTING, _State.RUNNING) and self.record.sigterm is None and not self._is_unwanted:
            self._is_unwanted = True
            self._set_alarm(0 if self._state is _State.RUNNING else SEARCH, self._end_for_update)

    def send_signals(self) -> None:
        """Send the signals that `notify` and `terminate` could not send before the
        process existed."""
        if self._is_unwanted and self.record.sigterm is None:
            self._set_alarm(0, self._end_for_update)
        if self._state is _State.RUNNING and self.pid:
            self._notifier.start(self.pid)

    def awaited(self) -> None:
        """From now on an update waits for the end of this run."""
        self._warnings.awaited()

    def _signal(self, signum: int) -> None:
        if self._state is not _State.RUNNING or self._process is None:
            return
        try:
            self._process.send(signum)
        except ProcessLookupError:
            return
        except OSError as error:  # a program that changes its user, and we are not root
            log.error('%s: %s to pid %d failed: %s', self._description, signal_name(signum), self.pid, error.strerror)

    def _expect_death(self, is_expected: bool) -> None:
        self.record = self.record._replace(notified=self._loop.time() if is_expected else None)
        self._note_signal(self.record)

    def reap(self) -> None:
        """Reap the process if it has ended."""
        if self._state is not _State.RUNNING:
            return
        assert self._child and self._process
        self._exit_status = status = self._child.poll()
        if status is None:
            return
        self._process.close()
        is_expected = status.code is None or status.code in self.record.ok_codes or self.record.is_terminated
        log.log(INFO if is_expected else WARNING, '%s: pid %d %s after %.3f s', self._description, self.pid, status,
                self._loop.time() - self.record.began)
        self._notifier.stop()
        if self.record.sigterm is None and self._notifier.has_killed(status.code):
            self._end_group()
        if self.record.sigterm is None:
            self._finish(self._end(status.code))
        else:
            self._state = _State.LEFTOVERS
            self._wait_for_group()

    def _end_group(self) -> None:
        """Send SIGTERM to what is left of a service that notify_signal has killed:
        otherwise the next run would start the service a second time."""
        assert self.pid
        if group_exists(self.pid):
            log.warning('%s: notify_signal has ended pid %d, but not its process group: SIGTERM to that', self._description,
                        self.pid)
            self._send_sigterm(self.pid)

    def _wait_for_group(self) -> None:
        """End the run when its process group has ended; until then the kernel does not
        reuse its id."""
        if self._state is not _State.LEFTOVERS:
            return
        assert self._exit_status
        if self._alarm and self._is_group_left():
            self._loop.call_later(POLL, self._wait_for_group)
        else:
            self._finish(self._end(self._exit_status.code))

    def _is_group_left(self) -> bool:
        """Whether any process is in its group.

        Zombies, which their own parents have to reap, do not count; but this is checked
        only every SEARCH seconds.
        """
        assert self.pid
        if not group_exists(self.pid):
            return False
        if self._loop.time() < self._next_scan:
            return True
        self._next_scan = self._loop.time() + SEARCH
        return is_group_left(self.pid, self.record.start_time or 0)

    def _end(self, exit_code: Optional[int] = None, error: Optional[SpawnError] = None) -> RunEnd:
        is_killed = not error and not self.record.is_overdue and self._notifier.has_killed(exit_code)
        return RunEnd(exit_code, error, self.record.is_overdue, self.record.is_terminated or is_killed, self.record.ok_codes)

    def _finish(self, end: RunEnd) -> None:
        """Note the end in the state first, then call back."""
        self._stop()
        self._note_end(self.record, end)
        for callback in self._callbacks:
            callback(end)

    def _stop(self) -> None:
        self._state = _State.OVER
        self._warnings.stop()
        if self._alarm:
            self._alarm.cancel()

    def _leader(self) -> Optional[int]:
        """The pid of the process, if it exists. Searches for it if it is not known
        yet."""
        return self.pid or find_session_leader(self.record.pipe)

    def _time_is_up(self) -> None:
        leader = self._leader_to_end(self._time_is_up)
        if leader:
            log.warning('%s: pid %d is still running after %g s (timeout): SIGTERM to its process group', self._description,
                        leader, self.record.timeout)
            self._send_sigterm(leader, is_overdue=True)

    def _end_for_update(self) -> None:
        leader = self._leader_to_end(self._end_for_update)
        if leader:
            log.info('%s: an update ends pid %d: SIGTERM to its process group', self._description, leader)
            self._send_sigterm(leader)

    def _leader_to_end(self, again: Callable[[], None]) -> Optional[int]:
        """The pid of the process, unless it has ended or is being ended.

        Calls `again` later if it does not exist yet. If the daemon itself was stopped
        (SIGSTOP), the end and the timeout may both be due: so reap first.
        """
        self.reap()
        if self._state is _State.OVER or self.record.sigterm is not None or self._process and self._process.died:
            return None
        leader = self._leader()
        if leader is None:
            self._set_alarm(SEARCH, again)
        return leader

    def _send_sigterm(self, leader: int, is_overdue: bool = False) -> None:
        self.record = self.record._replace(sigterm=self._loop.time(), is_overdue=is_overdue)
        self._note_signal(self.record)
        self._set_alarm(self.record.grace, self._grace_is_over)
        if not signal_group(leader, signal.SIGTERM):  # a fork that has not made its group yet
            self._signal(signal.SIGTERM)

    def _set_alarm(self, seconds: float, callback: Callable[[], None]) -> None:
        """Replace the alarm."""
        if self._alarm:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(seconds, callback)

    def _grace_is_over(self) -> None:
        self._next_scan = 0.0
        self.reap()
        if self._state is _State.LEFTOVERS:
            self._wait_for_group()
        leader = self._leader()
        if self._state is _State.OVER or leader is None:
            return
        if self._process and self._process.died and not self._is_group_left():  # and init has not reaped it yet
            return
        log.warning('%s: the process group of pid %d is still there %g s after SIGTERM: SIGKILL', self._description,
                    leader, self.record.grace)
        self._set_alarm(KILL_TIMEOUT, self._give_up)
        signal_group(leader, signal.SIGKILL)
        self._next_scan = 0.0

    def _give_up(self) -> None:
        """Wait for the process alone."""
        self._alarm = None
        self._wait_for_group()
