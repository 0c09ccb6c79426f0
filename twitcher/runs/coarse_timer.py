"""One timer for many callbacks, of which nearly all are cancelled before they are due.

It fires every INTERVAL seconds while there are callbacks, so that adding and cancelling
one costs next to nothing, and a callback comes up to INTERVAL seconds late.
"""

from __future__ import annotations

from typing import Callable, Dict

INTERVAL = 5.0
"""Seconds between two checks for callbacks that are due."""


class CoarseTimer:
    """`later(seconds, callback)` is the loop's `call_later`, and `now()` its clock."""

    def __init__(self, later: Callable[[float, Callable[[], None]], object], now: Callable[[], float]) -> None:
        self._later = later
        self._now = now
        self._due: Dict[Callable[[], None], float] = {}
        self._has_timer = False

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, so many seconds from now or a few later.

        If the callback is waiting already, this does nothing.
        """
        self._due.setdefault(callback, self._now() + seconds)
        if not self._has_timer:
            self._has_timer = True
            self._later(INTERVAL, self._call_due)

    def cancel(self, callback: Callable[[], None]) -> None:
        """Do not call back. If the callback is not waiting, this does nothing."""
        self._due.pop(callback, None)

    def _call_due(self) -> None:
        now = self._now()
        for callback in [callback for callback, due in self._due.items() if due <= now]:
            del self._due[callback]
            callback()
        self._has_timer = bool(self._due)
        if self._has_timer:
            self._later(INTERVAL, self._call_due)
