"""A process that an earlier daemon has started: nobody's child, told from all others by its pid and its start time."""

from __future__ import annotations

from typing import Optional

from twitcher.child import Exit
from twitcher.procfs import is_zombie, start_time


class Adopted:
    """A child.Child, whose exit code can no longer be known. `started` is None if it is what runs under the pid now."""

    def __init__(self, pid: int, started: Optional[int]) -> None:
        self.pid = pid
        self._started = start_time(pid) if started is None else started

    def poll(self) -> Optional[Exit]:
        """As Child says."""
        is_alive = self._started is not None and start_time(self.pid) == self._started and not is_zombie(self.pid)
        return None if is_alive else Exit(None)
