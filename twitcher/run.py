"""One run in progress: its end, its timeout, its signals. What it prints is `output`'s business.

The end of a run is the end of its process; after a timeout also of its process group, or SIGKILL to it. Whoever started a
run may forget it: it looks after itself until it is over.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Callable, List, Optional

from twitcher.child import Child, Exit
from twitcher.log import get_logger
from twitcher.log_target import INFO, WARNING

log = get_logger(__name__)

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""
POLL = 0.1
"""Seconds between two looks at what no descriptor tells: the last of a process group."""


class Run:
    """A process with a deadline.

    `began` and `timeout` are in seconds, of the loop's clock and from then on; None for no end. The clock is the same for
    all processes of a boot, so that a run may have begun under another daemon.
    """

    def __init__(self, child: Child, description: str, began: float, timeout: Optional[float]) -> None:
        self.pid = child.pid
        self.exit: Optional[Exit] = None
        self._child = child
        self._description = description
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._began = began
        self._callbacks: List[Callable[[], None]] = []
        self._alarm = self._loop.call_at(began + timeout, self._time_is_up) if timeout else None
        self._is_overdue = False
        try:
            self._pidfd: Optional[int] = os.pidfd_open(self.pid)
            self._loop.add_reader(self._pidfd, self._look)
        except OSError:  # out of descriptors: a process that is running must be looked after all the same
            self._pidfd = None
            self._loop.call_later(POLL, self._look)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back once, when the run is over."""
        self._callbacks.append(callback)

    def notify(self, signum: int) -> None:
        """Send the signal to the process itself; nothing if it has just ended."""
        if not self.exit:
            log.info('%s: %s to pid %d: an update is waiting', self._description, signal_name(signum), self.pid)
            self._signal(signum)

    def _signal(self, signum: int) -> None:
        if self.exit:
            return
        try:
            if self._pidfd is None:
                os.kill(self.pid, signum)
            else:
                signal.pidfd_send_signal(self._pidfd, signum)
        except ProcessLookupError:
            return

    def _look(self) -> None:
        """Has it ended?"""
        if self.exit:
            return
        self.exit = self._child.poll()
        if self.exit is None:
            if self._pidfd is None:
                self._loop.call_later(POLL, self._look)
            return
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        seconds = self._loop.time() - self._began
        log.log(WARNING if self.exit.code else INFO, '%s: pid %d %s after %.3f s', self._description,
                self.pid, _how(self.exit.code), seconds)
        if self._is_overdue:
            self._wait_for_group()
        else:
            self._finish()

    def _wait_for_group(self) -> None:
        """After a timeout what the process has left behind has to go as well. While it exists, its id is not given away."""
        if self._alarm and _group_exists(self.pid):
            self._loop.call_later(POLL, self._wait_for_group)
        else:
            self._finish()

    def _finish(self) -> None:
        if self._alarm:
            self._alarm.cancel()
        for callback in self._callbacks:
            callback()

    def _time_is_up(self) -> None:
        log.warning('%s: pid %d is still running after %g s (timeout): SIGTERM to its process group', self._description,
                    self.pid, self._timeout)
        self._is_overdue = True
        self._alarm = self._loop.call_later(GRACE, self._grace_is_over)
        if not _signal_group(self.pid, signal.SIGTERM):  # a fork that has not come to make its group yet
            self._signal(signal.SIGTERM)

    def _grace_is_over(self) -> None:
        self._alarm = None
        log.warning('%s: the process group of pid %d is still there %g s after SIGTERM: SIGKILL', self._description,
                    self.pid, GRACE)
        _signal_group(self.pid, signal.SIGKILL)


def _how(exit_code: Optional[int]) -> str:
    if exit_code is None:
        return 'has ended (the exit code is not known: its daemon did before)'
    if exit_code >= 0:
        return f'exited {exit_code}'
    return f'was killed by {signal_name(-exit_code)}'


def signal_name(signum: int) -> str:
    """SIGTERM and so on; real-time signals have no names."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f'signal {signum}'


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
