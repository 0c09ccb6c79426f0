"""Hands out the members of a set in turn, a few at a time: each once in a period.

Guarantees: with few members the period is the one that was asked for. With more it is
longer, so that the rate is bounded, but never longer than MAX_PERIOD. It has no clock:
the caller says how much time has passed.
"""

from __future__ import annotations

from collections import deque
from typing import Callable, Collection, Deque, Generic, List, TypeVar

MAX_PERIOD = 900.0
"""Seconds in which each member has its turn, however many there are."""

Member = TypeVar('Member')


class Rotation(Generic[Member]):
    """Each round begins with all that `members()` returns then.

    `period` is in seconds and `rate` in turns a second. A round of more than
    `period * rate` members takes longer than the period.
    """

    def __init__(self, members: Callable[[], Collection[Member]], period: float, rate: float) -> None:
        self._members = members
        self._period = period
        self._rate = rate
        self._left: Deque[Member] = deque()
        self._per_second = 0.0
        self._due = 0.0

    def take(self, seconds: float) -> List[Member]:
        """The members whose turn it is after so many more seconds."""
        if not self._left:
            self._left.extend(self._members())
            period = max(self._period, min(len(self._left) / self._rate, MAX_PERIOD))
            self._per_second = len(self._left) / period
            self._due = 0.0
        self._due += self._per_second * seconds
        turns = min(int(self._due + 1e-6), len(self._left))
        self._due -= turns
        return [self._left.popleft() for _ in range(turns)]
