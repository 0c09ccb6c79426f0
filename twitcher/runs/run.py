"""One run in progress: its end, its timeout, its signals. What it prints is `output`'s business.

A run begins before its process exists, which may take as long as its exec does. It ends with its process; after a timeout,
or if our notify_signal has killed its process, also with its process group, or SIGKILL to it. Whoever started a run may
forget it: it looks after itself until it is over.
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
from twitcher.runs.child import Child, Exit
from twitcher.runs.notify import Notifier, signal_name
from twitcher.runs.procfs import find_leader
from twitcher.runs.reminders import Reminders
from twitcher.state import RunRecord
from twitcher.znode import Update

log = get_logger(__name__)

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""
POLL = 0.1
"""Seconds between two looks at what no descriptor tells: the last of a process group."""
SEARCH = 1.0
"""Seconds between two searches for a process that is about to be executed."""
SLOW_START = 10.0
"""Seconds after which the log says that a program has not been executed yet."""
LONG_WAIT = 60.0
"""Seconds after which the log says that an update waits for the end of a run."""

_Ended = Callable[[Optional[SpawnError]], None]


class _State(Enum):
    STARTING = 'its process may not exist yet'
    RUNNING = 'its process goes on'
    LEFTOVERS = 'its process has ended, its process group was sent SIGTERM and has not'
    OVER = 'it has ended'


class Run:
    """A process with a deadline.

    The record's `began` and `timeout` are in seconds, of the loop's clock and from then on; no timeout is None. The clock is
    the same for all processes of a boot, so that a run may have begun under another daemon. `note_sigterm(moment)` is called
    before SIGTERM is sent.
    """

    def __init__(self, record: RunRecord, reminders: Reminders, note_sigterm: Callable[[float], None],
                 update: Optional[Update] = None) -> None:
        self.pid = record.pid
        self.exit: Optional[Exit] = None
        self.update = update
        self._record = record
        self._description = record.description
        self._reminders = reminders
        self._note_sigterm = note_sigterm
        self._loop = asyncio.get_running_loop()
        self._state = _State.STARTING
        self._child: Optional[Child] = None
        self._pidfd: Optional[int] = None
        self._notifier = Notifier(record.description, self._signal)
        self._callbacks: List[_Ended] = []
        self._is_overdue = record.sigterm is not None
        self._awaited_since: Optional[float] = None
        self._alarm: Optional[asyncio.TimerHandle] = None
        if record.sigterm is not None:
            self._alarm = self._loop.call_at(record.sigterm + GRACE, self._grace_is_over)
        elif record.timeout:
            self._alarm = self._loop.call_at(record.began + record.timeout, self._time_is_up)
        reminders.add(SLOW_START, self._say_that_it_is_slow)

    def on_end(self, callback: _Ended) -> None:
        """Call back once, when the run is over; with the reason if its process could not be started."""
        self._callbacks.append(callback)

    def started(self, child: Child) -> None:
        """Its process exists."""
        self._reminders.remove(self._say_that_it_is_slow)
        self._state = _State.RUNNING
        self._child, self.pid, self.update = child, child.pid, None
        try:
            self._pidfd = os.pidfd_open(child.pid)
        except OSError:  # out of descriptors: a process that is running must be looked after all the same
            self._loop.call_later(POLL, self._poll)
        else:
            self._loop.add_reader(self._pidfd, self.reap)

    def failed(self, error: SpawnError) -> None:
        """Its process could not be started, or did not get as far as its program before its timeout."""
        self._finish(SpawnError(f'{error} (within its timeout)', transient=False) if self._is_overdue else error)

    def withdraw(self) -> None:
        """It was never started, and nobody waits for its end."""
        self._callbacks.clear()
        self._finish()

    def notify(self, signum: int) -> None:
        """Send the signal to the process itself, as soon as there is one that can take it; nothing if it has just ended."""
        if self._state in (_State.STARTING, _State.RUNNING):
            self._notifier.notify(signum)

    def send_signals(self) -> None:
        """Send the signals that came before the process did."""
        if self._state is _State.RUNNING and self.pid:
            self._notifier.start(self.pid)

    def awaited(self) -> None:
        """An update waits for the end of this run from now on."""
        if self._awaited_since is None:
            self._awaited_since = self._loop.time()
            self._reminders.add(LONG_WAIT, self._say_that_it_is_awaited)

    def _signal(self, signum: int) -> None:
        if self.exit or self.pid is None:
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
        """Take note of the end of the process, if it has ended."""
        if self._state is not _State.RUNNING:
            return
        assert self._child
        self.exit = self._child.poll()
        if self.exit is None:
            return
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        log.log(WARNING if self.exit.code else INFO, '%s: pid %d %s after %.3f s', self._description,
                self.pid, _how(self.exit.code), self._loop.time() - self._record.began)
        self._notifier.stop()
        if not self._is_overdue and self._notifier.has_ended_it(self.exit.code):
            self._end_group()
        if self._is_overdue:
            self._state = _State.LEFTOVERS
            self._wait_for_group()
        else:
            self._finish()

    def _end_group(self) -> None:
        """End what is left of a service that our own signal has killed, so that the next run does not start a second one."""
        assert self.pid
        if _group_exists(self.pid):
            log.warning('%s: notify_signal has ended pid %d, but not its process group: SIGTERM to that', self._description,
                        self.pid)
            self._send_sigterm(self.pid)

    def _wait_for_group(self) -> None:
        """What the process has left behind has to go as well. While it exists, its id is not given away."""
        assert self.pid
        if self._state is not _State.LEFTOVERS:
            return
        if self._alarm and _group_exists(self.pid):
            self._loop.call_later(POLL, self._wait_for_group)
        else:
            self._finish()

    def _finish(self, error: Optional[SpawnError] = None) -> None:
        self._state = _State.OVER
        for callback in (self._say_that_it_is_slow, self._say_that_it_is_awaited):
            self._reminders.remove(callback)
        if self._alarm:
            self._alarm.cancel()
        for on_end in self._callbacks:
            on_end(error)

    def _leader(self) -> Optional[int]:
        """The process, if there is one."""
        return self.pid or find_leader(self._record.pipe)

    def _time_is_up(self) -> None:
        """SIGTERM. When we were stopped ourselves the end of the process and this are due at once: the end comes first."""
        self.reap()
        if self._state is _State.OVER:
            return
        leader = self._leader()
        if leader is None:
            self._alarm = self._loop.call_later(SEARCH, self._time_is_up)
            return
        log.warning('%s: pid %d is still running after %g s (timeout): SIGTERM to its process group', self._description,
                    leader, self._record.timeout)
        self._send_sigterm(leader)

    def _send_sigterm(self, leader: int) -> None:
        self._is_overdue = True
        self._note_sigterm(self._loop.time())
        if self._alarm:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(GRACE, self._grace_is_over)
        if not _signal_group(leader, signal.SIGTERM):  # a fork that has not come to make its group yet
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

    def _say_that_it_is_slow(self) -> None:
        log.warning('%s: its program has not been executed after %g s; still waiting for it', self._description,
                    self._loop.time() - self._record.began)

    def _say_that_it_is_awaited(self) -> None:
        now = self._loop.time()
        log.warning('%s: an update has been waiting for %.0f s for the end of %s, which was started %.0f s ago',
                    self._description, now - (self._awaited_since or now),
                    f'pid {self.pid}' if self.pid else 'a program that is still to be executed', now - self._record.began)


def _how(exit_code: Optional[int]) -> str:
    if exit_code is None:
        return 'has ended (the exit code is not known: its daemon did before)'
    if exit_code >= 0:
        return f'exited {exit_code}'
    return f'was killed by {signal_name(-exit_code)}'


def _signal_group(pid: int, signum: int) -> bool:
    """Whether there is such a group."""
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
    except PermissionError:  # it exists, and is not ours
        return True
    return True
