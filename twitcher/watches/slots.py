"""How many runs may be in progress at once, for all watches that ask: a bound, and turns for those that wait."""

from __future__ import annotations

from collections import deque
from typing import Callable, Deque, Set

from twitcher.log import get_logger

log = get_logger(__name__)

Starter = Callable[[], bool]


class Slots:
    """`limit` runs at a time.

    A starter starts one run and says whether it did; each run that it did start is to be released once. While one waits
    for its turn it need not ask again; if it has more to start after its turn, it asks again and waits behind the others.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._queue: Deque[Starter] = deque()
        self._waiting: Set[Starter] = set()
        self._is_serving = self._is_full = False

    def acquire(self, starter: Starter) -> None:
        """Call the starter when there is a slot: now, or when it is its turn."""
        if starter in self._waiting:
            return
        self._queue.append(starter)
        self._waiting.add(starter)
        self._serve()

    def count(self) -> None:
        """Count a run that is in progress already."""
        self._taken += 1

    def release(self) -> None:
        """A run is over."""
        self._taken -= 1
        self._serve()

    def cancel(self, starter: Starter) -> None:
        """Do not call the starter any more."""
        if starter in self._waiting:
            self._waiting.remove(starter)
            self._queue.remove(starter)

    def _serve(self) -> None:
        if self._is_serving:  # a starter that asks again during its own turn
            return
        self._is_serving = True
        try:
            while self._queue and self._taken < self._limit:
                starter = self._queue.popleft()
                self._waiting.remove(starter)
                if starter():
                    self._taken += 1
        finally:
            self._is_serving = False
        if self._queue and not self._is_full:
            log.warning('%d PARALLEL runs are in progress (--max_running): further ones wait; watches take turns', self._taken)
        elif self._is_full and not self._queue:
            log.info('no PARALLEL run waits any more')
        self._is_full = bool(self._queue)
