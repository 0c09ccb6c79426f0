"""Calls back for what takes too long; costs next to nothing for what does not: one coarse timer for all."""

from __future__ import annotations

from typing import Callable, Dict

INTERVAL = 5.0
"""Seconds between two looks at what goes on."""


class Reminders:
    """`later(seconds, callback)` calls back, `now()` is its clock."""

    def __init__(self, later: Callable[[float, Callable[[], None]], object], now: Callable[[], float]) -> None:
        self._later = later
        self._now = now
        self._due: Dict[Callable[[], None], float] = {}
        self._has_timer = False

    def add(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, so many seconds from now or a few later, unless it is removed before."""
        self._due.setdefault(callback, self._now() + seconds)
        if not self._has_timer:
            self._has_timer = True
            self._later(INTERVAL, self._look)

    def remove(self, callback: Callable[[], None]) -> None:
        """Do not call back any more; nothing if it has been, or was not added."""
        self._due.pop(callback, None)

    def _look(self) -> None:
        now = self._now()
        for callback in [callback for callback, due in self._due.items() if due <= now]:
            del self._due[callback]
            callback()
        self._has_timer = bool(self._due)
        if self._has_timer:
            self._later(INTERVAL, self._look)
