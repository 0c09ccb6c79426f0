"""Gates: decide when a pending update may start its run.

A watch has one gate, and knows only its three methods. It asks to start a run, not to
start one for a particular update: it picks the update when the gate opens. That is the
latest one at that moment or, if runs overlap, the one that has waited longest.
"""

from __future__ import annotations

from typing import Callable, Protocol

from twitcher.config.spec import WatchSpec

Start = Callable[[], None]


class Gate(Protocol):
    """May it start now?"""

    def acquire(self, start: Start) -> None:
        """Call `start` once, now or as soon as a run may start. Does nothing if it is
        waiting already."""

    def release(self) -> None:
        """The run has ended, or none was started. Called once for each `start`."""

    def cancel(self, start: Start) -> None:
        """Do not call `start`. Does nothing if it is not waiting."""


class AlwaysOpen:
    """The gate of a watch that only waits for the runs in progress."""

    def acquire(self, start: Start) -> None:
        """As Gate says."""
        start()

    def release(self) -> None:
        """As Gate says."""

    def cancel(self, start: Start) -> None:
        """As Gate says."""


_ALWAYS_OPEN = AlwaysOpen()


def gate_for(spec: WatchSpec, slots: Gate) -> Gate:
    """The gate of a watch with this spec."""
    return slots if spec.run_mode.overlaps else _ALWAYS_OPEN
