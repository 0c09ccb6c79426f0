"""Repeats starts that the machine refused, in one queue for all watches.

During a shortage of descriptors, processes or memory, it tries the first in the queue
whenever a run has started or ended, and a few every second. A start that is refused
again goes to the end of the queue, so that one user's limits do not hold up the runs of
others. It tries starts that failed for other reasons only once a second.
"""

from __future__ import annotations

from collections import deque
from typing import Callable, Deque

from twitcher.log import get_logger

log = get_logger(__name__)

RETRY = 1.0
"""Seconds between two rounds of attempts."""
BATCH = 16
"""Attempts in one round, for each of the two reasons."""

Attempt = Callable[[], None]


class Retries:
    """Queues attempts. `call_later(seconds, callback)` calls back. An attempt that
    fails adds itself again."""

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._call_later = call_later
        self._short: Deque[Attempt] = deque()
        self._others: Deque[Attempt] = deque()
        self._is_short = False
        self._has_timer = False
        self._is_due = False

    def add(self, attempt: Attempt, is_shortage: bool) -> bool:
        """Try it again later. Returns whether this is the beginning of a shortage."""
        begins = is_shortage and not self._is_short
        if is_shortage:
            self._is_short = True
            self._short.append(attempt)
        else:
            self._others.append(attempt)
        self._start_timer()
        return begins

    def serve(self) -> None:
        """A run has started or ended: there may be room for another one."""
        if self._is_short and not self._is_due:
            self._is_due = True
            self._call_later(0, self._serve)

    def _serve(self) -> None:
        self._is_due = False
        if self._short:
            self._short.popleft()()
        elif self._is_short:
            self._is_short = False
            log.info('all runs that the machine had no room for have been started')

    def _start_timer(self) -> None:
        if not self._has_timer and (self._short or self._others):
            self._has_timer = True
            self._call_later(RETRY, self._round)

    def _round(self) -> None:
        self._has_timer = False
        try:
            for queue in (self._others, self._short):
                for _ in range(min(BATCH, len(queue))):
                    queue.popleft()()
        finally:
            self._start_timer()
