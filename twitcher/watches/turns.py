"""Gates that let a limited number of runs pass at once, first come, first served.

All PARALLEL watches share the slots. A lock lets one run pass at once; the watches that
name it share it.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, Optional, Set

from twitcher.log import get_logger
from twitcher.watches.gates import Start, Wait
from twitcher.znode import Update

log = get_logger(__name__)


class Turns:
    """A Gate that lets `limit` runs pass at once.

    Each call of a `start` takes a turn until `release`. A watch that has more to start
    asks again, and waits behind the others.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._taken = 0
        self._queue: Deque[Start] = deque()
        self._waiting: Set[Start] = set()
        self._is_serving = False

    def acquire(self, start: Start, update: Optional[Update] = None) -> None:
        """As Gate says."""
        if start in self._waiting:
            return
        self._queue.append(start)
        self._waiting.add(start)
        self._serve()

    def count(self) -> None:
        """Take a turn for a run that is in progress already, even if none is free."""
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

    def wait(self, start: Start) -> Optional[Wait]:
        """As Gate says."""
        return Wait(self._name) if start in self._waiting else None

    def _serve(self) -> None:
        if self._is_serving:  # called by a `start` that asks again, or that has started nothing
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
        self._served()

    def _served(self) -> None:
        """Called when all that can pass have passed."""


class Slots(Turns):
    """The gate of all PARALLEL watches: at most `limit` runs in progress at once."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, 'a slot (--max_running)')
        self._is_full = False

    def _served(self) -> None:
        if self._queue and not self._is_full:
            log.warning('%d PARALLEL runs are in progress (--max_running): further ones wait; watches take turns', self._taken)
        elif self._is_full and not self._queue:
            log.info('no PARALLEL run waits any more')
        self._is_full = bool(self._queue)


class Locks:
    """The locks of this machine, by name."""

    def __init__(self) -> None:
        self._locks: Dict[str, Turns] = {}

    def lock(self, name: str) -> Turns:
        """The gate of all watches with this lock."""
        if name not in self._locks:
            self._locks[name] = Turns(1, f'lock {name!r}')
        return self._locks[name]
