"""The process of a run, by its pidfd: notices its end, and sends it signals.

A pidfd always means the same process, while the kernel may give its pid to another one.
If no pidfd can be had, the pid is used.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Callable, Optional

POLL = 0.1
"""Seconds between two checks whether a process, or a process group, has ended."""
FIRST_POLL = 0.002
"""Seconds after which init has usually reaped a process that has ended."""


class ProcessHandle:
    """Calls `on_death` when the process has ended, and again until this is closed.

    `died`: the process has ended. If it is not our child, its exit code is known only
    when its parent has reaped it.
    """

    __slots__ = ('died', '_is_closed', '_pid', '_on_death', '_loop', '_pidfd', '_timer')

    def __init__(self, pid: int, on_death: Callable[[], None]) -> None:
        self.died = self._is_closed = False
        self._pid = pid
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._pidfd: Optional[int] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:  # out of descriptors: the process must be waited for all the same
            self._timer = self._loop.call_later(POLL, self._poll, POLL)
        else:
            self._loop.add_reader(self._pidfd, self._readable)

    def send(self, signum: int) -> None:
        """Send it a signal. Raises OSError."""
        if self._pidfd is None:
            os.kill(self._pid, signum)
        else:
            signal.pidfd_send_signal(self._pidfd, signum)

    def close(self) -> None:
        """Its end is known: do not call `on_death` any more."""
        self._is_closed = True
        if self._timer:
            self._timer.cancel()
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)

    def _readable(self) -> None:
        assert self._pidfd is not None
        self.died = True
        self._loop.remove_reader(self._pidfd)
        self._poll(FIRST_POLL)

    def _poll(self, seconds: float) -> None:
        self._on_death()
        if not self._is_closed:
            self._timer = self._loop.call_later(seconds, self._poll, min(2 * seconds, POLL))
