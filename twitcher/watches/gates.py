"""What decides when a pending update may start its run.

A watch knows one gate, by three methods, and nothing of what is behind it. It asks for a
run, not for the run of a certain update: which one that is, is decided when the gate opens.
"""

from __future__ import annotations

from typing import Callable, Protocol

from twitcher.config.spec import WatchSpec

Start = Callable[[], None]


class Gate(Protocol):
    """May it start now?"""

    def acquire(self, start: Start) -> None:
        """Call `start` once, now or as soon as a run may start; not twice if it waits already."""

    def release(self) -> None:
        """What `start` was called for is over, or was not started. To be called once for each call of `start`."""

    def cancel(self, start: Start) -> None:
        """Do not call `start` any more, if it waits."""


class AlwaysOpen:
    """The gate of those that wait for nothing but their own runs."""

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
