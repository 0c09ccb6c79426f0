"""Limits the pending updates in PARALLEL mode, for all watches together.

Beyond the limit, the oldest updates of a watch that has more than its fair share are
dropped, so that a flood on one znode costs the other watches no update. Each watch
keeps its newest update even beyond the limit.
"""

from __future__ import annotations

from typing import Dict, Optional, Protocol

from twitcher.log import get_logger

log = get_logger(__name__)

MAX_UPDATES = 10_000
MAX_BYTES = 64 * 1024 * 1024
"""The limit for the contents of all pending updates."""


class Queue(Protocol):
    """The pending updates of one watch."""

    description: str

    def drop_oldest(self) -> int:
        """Drop the oldest update. Returns the size of its contents in bytes."""


class _Share:
    def __init__(self) -> None:
        self.updates = self.bytes = self.dropped = 0


class Backlog:
    """At most `max_updates` may be pending, with `max_bytes` of contents."""

    def __init__(self, max_updates: int = MAX_UPDATES, max_bytes: int = MAX_BYTES) -> None:
        self._max_updates = max_updates
        self._max_bytes = max_bytes
        self._shares: Dict[Queue, _Share] = {}
        self._updates = 0
        self._bytes = 0

    def add(self, queue: Queue, size: int) -> None:
        """One more update is pending, with `size` bytes of contents. Drops others if
        there are too many now."""
        share = self._shares.get(queue)
        if not share:
            share = self._shares[queue] = _Share()
        share.updates += 1
        share.bytes += size
        self._updates += 1
        self._bytes += size
        while self._updates > self._max_updates or self._bytes > self._max_bytes:
            victim = self._victim(queue)
            if not victim:
                break
            self._drop_oldest(victim)

    def remove(self, queue: Queue, size: int) -> None:
        """An update is no longer pending; `size` is what `add` was given."""
        share = self._shares[queue]
        self._take(share, size)
        if not share.updates:
            self._end(queue)

    def cancel(self, queue: Queue) -> None:
        """The queue has no pending updates now."""
        if queue in self._shares:
            share = self._shares[queue]
            self._updates -= share.updates
            self._bytes -= share.bytes
            self._end(queue)

    def _drop_oldest(self, queue: Queue) -> None:
        share = self._shares[queue]
        if not share.dropped:
            log.warning('%s: too many updates wait for a run (--max_running): dropping the oldest, keeping the newest',
                        queue.description)
        share.dropped += 1
        self._take(share, queue.drop_oldest())

    def _take(self, share: _Share, size: int) -> None:
        share.updates -= 1
        share.bytes -= size
        self._updates -= 1
        self._bytes -= size

    def _end(self, queue: Queue) -> None:
        dropped = self._shares.pop(queue).dropped
        if dropped:
            log.warning('%s: %d updates that waited for a run were dropped', queue.description, dropped)

    def _victim(self, queue: Queue) -> Optional[Queue]:
        """A queue that has more than its share, and more than one update."""
        if self._updates == len(self._shares):
            return None
        if self._excess(self._shares[queue]) >= 1:  # saves a search among all queues for each update of a flood
            return queue
        others = [other for other, share in self._shares.items() if share.updates > 1]
        return max(others, key=lambda other: self._excess(self._shares[other]))

    def _excess(self, share: _Share) -> float:
        """How many times its fair share a queue has: of the updates if there are too
        many, otherwise of the bytes."""
        if share.updates < 2:
            return 0
        part = share.updates / self._updates if self._updates > self._max_updates else share.bytes / self._bytes
        return part * len(self._shares)
