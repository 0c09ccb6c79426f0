"""Hands out the members of a set in turn, a few at a time, so that each has its turn
once in a period.

Guarantees: as long as there are few members the period is the one that is asked for;
more members make it longer, so that the rate is bounded, until it is MAX_PERIOD. No
clock: the caller says how much time has passed.
"""

from __future__ import annotations

from collections import deque
from typing import Callable, Collection, Deque, Generic, List, TypeVar

MAX_PERIOD = 900.0
"""Seconds after which each member has had its turn, however many there are."""

Member = TypeVar('Member')


class Rotation(Generic[Member]):
    """`members()` is asked for all of them at the beginning of each round. `period` is
    in seconds, `rate` in turns a second: beyond `period * rate` members a round
    takes longer."""

    def __init__(self, members: Callable[[], Collection[Member]], period: float, rate: float) -> None:
        self._members = members
        self._period = period
        self._rate = rate
        self._left: Deque[Member] = deque()
        self._per_second = 0.0
        self._due = 0.0

    def take(self, seconds: float) -> List[Member]:
        """Those whose turn it is after so many seconds more."""
        if not self._left:
            self._left.extend(self._members())
            period = max(self._period, min(len(self._left) / self._rate, MAX_PERIOD))
            self._per_second = len(self._left) / period
            self._due = 0.0
        self._due += self._per_second * seconds
        turns = min(int(self._due + 1e-6), len(self._left))
        self._due -= turns
        return [self._left.popleft() for _ in range(turns)]
