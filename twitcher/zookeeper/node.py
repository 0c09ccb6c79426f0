"""One side of one znode as subscriptions know it, and the tokens that bring its reads
into one order.

Guarantees: of one node no more than one request is on its way or its answer unconsumed,
whichever threads want to ask; an event that comes meanwhile is remembered. All methods
are safe on any thread.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Callable, Optional, Tuple

from twitcher.znode import Revision, WatchType, ZnodeState
from twitcher.zookeeper.session import Session

Listener = Callable[[ZnodeState], None]

IN_FLIGHT = 256
"""Requests whose answers have not been consumed: enough to hide the round trip, too few
to swamp a server or our memory."""

_NO_CONNECTION = -1


class Node:
    """One side of one znode, and who listens to it.

    `reading` is the connection that it is being read on: the token. `stale`: it may
    have changed since it was asked for. `wanted` is what it waits in the backlog for.
    `known` is the revision that listeners have been told, on the connection `known_on`.
    `failure` is what keeps it from being read, and `retry` the timer then.
    """

    __slots__ = ('path', 'watch_type', 'listeners', 'wanted', 'reading', 'stale', 'known', 'known_on', 'failure', 'retry')

    def __init__(self, path: str, watch_type: WatchType) -> None:
        self.path = path
        self.watch_type = watch_type
        self.listeners: Tuple[Listener, ...] = ()
        self.wanted = ''
        self.reading = self.known_on = _NO_CONNECTION
        self.stale = False
        self.known: Optional[Revision] = None
        self.failure = ''
        self.retry: Optional[asyncio.TimerHandle] = None


def revision_of(watch_type: WatchType, stat: Any) -> Revision:
    """What a server says of a znode, as far as it concerns this side of it."""
    if watch_type is WatchType.DATA:
        return Revision(stat.czxid, stat.mzxid, stat.mtime)
    return Revision(stat.czxid, stat.pzxid, stat.cversion)


class Tokens:
    """The tokens of all nodes of one session. Those of an earlier connection count as
    put back."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._in_flight = 0
        self._connection = _NO_CONNECTION

    def are_used_up(self) -> bool:
        """Whether so many are taken that further nodes have to wait."""
        return self._in_flight >= IN_FLIGHT and self._connection == self._session.connection

    def take(self, node: Node) -> bool:
        """Whether the caller is to ask. If not, the node is being read, and will be
        once more afterwards."""
        with self._lock:
            connection = self._session.connection
            if node.reading == connection:
                node.stale = True
                return False
            node.reading = connection
            node.stale = False
            if self._connection != connection:
                self._connection, self._in_flight = connection, 0
            self._in_flight += 1
            return True

    def note_change(self, node: Node) -> bool:
        """Whether the node is being read. If so, it will be once more afterwards."""
        with self._lock:
            node.stale = node.reading == self._session.connection
            return node.stale

    def put_back(self, node: Node) -> bool:
        """The answer has been consumed. Whether the node has to be read once more."""
        with self._lock:
            node.reading = _NO_CONNECTION
            self._in_flight -= 1
            return node.stale
