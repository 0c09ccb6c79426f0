"""How many runs may be in progress at once, for those that ask: a bound and a queue, first come, first served."""

from __future__ import annotations

from collections import deque
from typing import Callable, Deque

from twitcher.log import get_logger

log = get_logger(__name__)

Starter = Callable[[], bool]


class Slots:
    """`limit` runs at a time. A starter starts one run and says whether it did; each that did must be freed once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._queue: Deque[Starter] = deque()

    def ask(self, starter: Starter) -> None:
        """Call the starter when there is a slot: now, or when it is its turn."""
        if self._taken >= self._limit and not self._queue:
            log.warning('%d PARALLEL runs are in progress (--max_running): further ones wait in order', self._taken)
        self._queue.append(starter)
        self._serve()

    def take(self) -> None:
        """A run that nobody has asked for is in progress."""
        self._taken += 1

    def free(self) -> None:
        """A run is over."""
        waited = bool(self._queue)
        self._taken -= 1
        self._serve()
        if waited and not self._queue:
            log.info('no PARALLEL run waits any more')

    def forget(self, starter: Starter) -> None:
        """Take the starter out of the queue."""
        self._queue = deque(other for other in self._queue if other != starter)

    def _serve(self) -> None:
        while self._queue and self._taken < self._limit:
            if self._queue.popleft()():
                self._taken += 1
