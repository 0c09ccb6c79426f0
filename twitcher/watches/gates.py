"""Gates: decide when a pending update may start its run.

A watch asks to start a run, not to start one for a particular update: it picks the
update when the gate opens. That is the latest one at that moment or, if runs overlap,
the one that has waited longest. Several gates make a Row, which is a gate like any
other.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Protocol, Sequence

from twitcher.znode import Update

Start = Callable[[], None]


class Wait(NamedTuple):
    """What a start waits for, and until when, if that is known."""

    reason: str
    until: Optional[float] = None


class Gate(Protocol):
    """Decides when a run may start."""

    def acquire(self, start: Start, update: Optional[Update] = None) -> None:
        """Call `start` once, now or as soon as a run may start.

        `update` is the cause, for gates that ask for it. If `start` is waiting already,
        this is a further update, and `start` is still called only once.
        """

    def release(self) -> None:
        """The run has ended, or none was started. Called once after each `start`."""

    def cancel(self, start: Start) -> None:
        """Do not call `start`. Does nothing if it is not waiting."""

    def wait(self, start: Start) -> Optional[Wait]:
        """What `start` waits for; None if it does not wait."""


class AlwaysOpen:
    """The gate of a watch that only waits for the runs in progress."""

    def acquire(self, start: Start, update: Optional[Update] = None) -> None:
        """As Gate says."""
        start()

    def release(self) -> None:
        """As Gate says."""

    def cancel(self, start: Start) -> None:
        """As Gate says."""

    def wait(self, start: Start) -> Optional[Wait]:
        """As Gate says."""
        return None


ALWAYS_OPEN = AlwaysOpen()


class Row:
    """Gates of one watch that are passed one after the other.

    `on_wait(wait, update)` is called once for each gate at which a start has to wait.
    """

    __slots__ = ('_gates', '_on_wait', '_position', '_start', '_update', '_reported')

    def __init__(self, gates: Sequence[Gate], on_wait: Callable[[Wait, Optional[Update]], None]) -> None:
        self._gates = gates
        self._on_wait = on_wait
        self._position = self._reported = -1
        self._start: Optional[Start] = None
        self._update: Optional[Update] = None

    def acquire(self, start: Start, update: Optional[Update] = None) -> None:
        """As Gate says. A further update is passed to the gate at which `start`
        waits."""
        self._update = update
        if self._start is None:
            self._start = start
            self._next()
        else:
            self._gates[self._position].acquire(self._next, update)

    def _next(self) -> None:
        """The gate at this position is open."""
        self._position = position = self._position + 1
        if position < len(self._gates):
            gate = self._gates[position]
            gate.acquire(self._next, self._update)
            wait = gate.wait(self._next) if self._position == position else None
            if wait and self._reported != position:
                self._reported = position
                self._on_wait(wait, self._update)
        elif self._start:
            start = self._start
            self._reset()
            start()

    def release(self) -> None:
        """As Gate says."""
        for gate in self._gates:
            gate.release()

    def cancel(self, start: Start) -> None:
        """As Gate says."""
        if self._start is not None:
            self._gates[self._position].cancel(self._next)
            for gate in self._gates[:self._position]:
                gate.release()
            self._reset()

    def _reset(self) -> None:
        self._start, self._position, self._reported = None, -1, -1

    def wait(self, start: Start) -> Optional[Wait]:
        """As Gate says."""
        return None if self._start is None else self._gates[self._position].wait(self._next)
