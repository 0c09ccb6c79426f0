"""Hands calls from any thread over to the event loop.

Guarantees: calls are made in the order in which they were handed over, on the loop's
thread. The loop is woken once for many calls, and gets to its other work after a batch
of them. A call that raises is logged, and does not affect the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Callable, Deque, Tuple

from twitcher.log import get_logger

log = get_logger(__name__)

_BATCH = 64


class LoopCalls:
    """A queue of calls. `start` comes before the first call, on the running loop."""

    def __init__(self) -> None:
        self._calls: Deque[Tuple[Callable[..., None], Tuple[Any, ...]]] = deque()
        self._wakeup_is_due = False
        self._is_closed = False

    def start(self) -> None:
        """Make the calls on the running loop."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Make no more calls."""
        self._is_closed = True

    def add(self, function: Callable[..., None], *args: Any) -> None:
        """Call the function on the loop. Thread-safe."""
        self._calls.append((function, args))
        if not self._wakeup_is_due:
            self._wakeup_is_due = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                log.debug('ZooKeeper: an answer after the end')

    def _run(self) -> None:
        # Reset before the first call: what a thread adds from now on is either found
        # below, or wakes the loop again.
        self._wakeup_is_due = False
        for _ in range(0 if self._is_closed else min(len(self._calls), _BATCH)):
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                log.exception('ZooKeeper: internal error (please report it)')
        if self._calls and not self._is_closed:
            self._wakeup_is_due = True
            self._loop.call_soon(self._run)
