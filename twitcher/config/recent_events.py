"""The entries that had an event recently, and whether each of them is quiet again.

A scan can come at any instant of an edit. A file is quiet, and its text can be trusted,
QUIET seconds after its last event, or WRITING_LIMIT seconds if that event was a write
and the file has not been closed since.
"""

from __future__ import annotations

from typing import Callable, Dict, Iterable, Optional, Set

from twitcher.config.inotify import Change
from twitcher.config.scan import Entry

SETTLE = 0.05
"""Seconds from an event to the scan: an editor's or a package manager's events come in
bursts."""
QUIET = 0.025
"""Seconds without an event after which a closed file is quiet: time for a script to
reach its next line."""
WRITING_LIMIT = 10.0
"""Seconds after its last write that a file is read even if it is still open for
writing."""


class RecentEvents:
    """Events by entry. The entry None stands for events that the kernel dropped, which
    may have been about any file.

    `now` is the loop's clock. `schedule_scan(seconds)` is called with the time after
    which a file may be quiet.
    """

    def __init__(self, now: Callable[[], float], schedule_scan: Callable[[float], None]) -> None:
        self._now = now
        self._schedule_scan = schedule_scan
        self._quiet_at: Dict[Optional[Entry], float] = {}

    @property
    def are_incomplete(self) -> bool:
        """Whether the kernel dropped events."""
        return None in self._quiet_at

    def add(self, entry: Optional[Entry], change: Change) -> None:
        """Record an event."""
        now = self._now()
        if change is Change.WRITING:
            self._quiet_at[entry] = now + WRITING_LIMIT
            self._schedule_scan(WRITING_LIMIT)
            return
        quiet_at = now + QUIET
        self._quiet_at[entry] = quiet_at if change is Change.COMPLETE else max(quiet_at, self._quiet_at.get(entry, 0.0))
        self._schedule_scan(SETTLE)

    def have(self, entries: Iterable[Optional[Entry]]) -> bool:
        """Whether one of these entries had an event."""
        return not self._quiet_at.keys().isdisjoint(entries)

    def are_quiet(self, entries: Iterable[Entry]) -> bool:
        """Whether all these entries are quiet. If not, a scan is scheduled for when
        they will be."""
        if not self._quiet_at:
            return True
        now = self._now()
        quiet_at = max(self._quiet_at.get(entry, now) for entry in (*entries, None))
        if quiet_at > now:
            self._schedule_scan(quiet_at - now)
        return quiet_at <= now

    def snapshot(self) -> Dict[Optional[Entry], float]:
        """The events so far, for `since`."""
        return dict(self._quiet_at)

    def since(self, snapshot: Dict[Optional[Entry], float]) -> Set[Optional[Entry]]:
        """The entries that had an event after the snapshot."""
        return {entry for entry, quiet_at in self._quiet_at.items() if snapshot.get(entry) != quiet_at}

    def forget_quiet(self, but: Set[Optional[Entry]]) -> None:
        """Forget the entries that are quiet, except those in `but`."""
        now = self._now()
        self._quiet_at = {entry: quiet_at for entry, quiet_at in self._quiet_at.items() if quiet_at > now or entry in but}
