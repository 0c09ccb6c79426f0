"""The gate of all PARALLEL watches: limits how many runs are in progress at once.

Watches take turns.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, Set

from twitcher.log import get_logger
from twitcher.watches.gates import Start

log = get_logger(__name__)


class Slots:
    """A Gate with `limit` slots.

    Each call of a `start` takes a slot until `release`. A watch that has more to start
    asks again, and waits behind the others.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._queue: Deque[Start] = deque()
        self._waiting: Set[Start] = set()
        self._is_serving = self._is_full = False

    def acquire(self, start: Start) -> None:
        """As Gate says."""
        if start in self._waiting:
            return
        self._queue.append(start)
        self._waiting.add(start)
        self._serve()

    def count(self) -> None:
        """Take a slot for a run that is in progress already, even if none is free."""
        self._taken += 1

    def release(self) -> None:
        """As Gate says."""
        self._taken -= 1
        self._serve()

    def cancel(self, start: Start) -> None:
        """As Gate says."""
        if start in self._waiting:
            self._waiting.remove(start)
            self._queue.remove(start)

    def _serve(self) -> None:
        if self._is_serving:  # called by a `start`, which asks again or has started nothing
            return
        self._is_serving = True
        try:
            while self._queue and self._taken < self._limit:
                start = self._queue.popleft()
                self._waiting.remove(start)
                self._taken += 1
                start()
        finally:
            self._is_serving = False
        if self._queue and not self._is_full:
            log.warning('%d PARALLEL runs are in progress (--max_running): further ones wait; watches take turns', self._taken)
        elif self._is_full and not self._queue:
            log.info('no PARALLEL run waits any more')
        self._is_full = bool(self._queue)
