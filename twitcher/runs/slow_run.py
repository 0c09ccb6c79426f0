"""Warns of a run that is slow to start, or that an update waits for."""

from __future__ import annotations

import asyncio
from typing import Optional

from twitcher.log import get_logger
from twitcher.runs.coarse_timer import CoarseTimer

log = get_logger(__name__)

SLOW_START = 10.0
"""Seconds after which the log says that a program has not been executed yet."""
LONG_WAIT = 60.0
"""Seconds after which the log says that an update waits for the end of a run."""


class SlowRunWarnings:
    """The warnings of one run, each logged once. It `began` at this time of the loop's
    clock."""

    __slots__ = ('_description', '_began', '_timer', '_pid', '_awaited_since')

    def __init__(self, description: str, began: float, timer: CoarseTimer) -> None:
        self._description = description
        self._began = began
        self._timer = timer
        self._pid: Optional[int] = None
        self._awaited_since: Optional[float] = None
        timer.call_later(SLOW_START, self._warn_slow_start)

    def started(self, pid: int) -> None:
        """Its process exists."""
        self._pid = pid
        self._timer.cancel(self._warn_slow_start)

    def awaited(self) -> None:
        """From now on an update waits for its end."""
        if self._awaited_since is None:
            self._awaited_since = asyncio.get_running_loop().time()
            self._timer.call_later(LONG_WAIT, self._warn_long_wait)

    def stop(self) -> None:
        """The run has ended."""
        for callback in (self._warn_slow_start, self._warn_long_wait):
            self._timer.cancel(callback)

    def _warn_slow_start(self) -> None:
        log.warning('%s: its program has not been executed after %g s; still waiting for it', self._description,
                    asyncio.get_running_loop().time() - self._began)

    def _warn_long_wait(self) -> None:
        now = asyncio.get_running_loop().time()
        log.warning('%s: an update has been waiting for %.0f s for the end of %s, which was started %.0f s ago',
                    self._description, now - (self._awaited_since or now),
                    f'pid {self._pid}' if self._pid else 'a program that is still to be executed', now - self._began)
