"""One side of one znode as subscriptions know it, and the states that bring its reads
into one order.

Guarantees: a node has at most one request that is under way or whose answer has not
been consumed, whichever threads want to read it; so answers cannot overtake each
other. A change that is reported meanwhile is remembered. All methods of Reads are safe
on any thread.
"""

from __future__ import annotations

import asyncio
import threading
from enum import Enum
from typing import Any, Callable, Dict, Optional, Tuple

from twitcher.znode import Revision, WatchType, ZnodeState
from twitcher.zookeeper.session import Session

Listener = Callable[[ZnodeState], None]

MAX_IN_FLIGHT = 256
"""Requests whose answers have not been consumed: enough to hide the round trip, too few
to swamp a server or our memory."""


class ReadState(Enum):
    """Where the reading of a node stands."""

    IDLE = 'idle'
    READING = 'reading'
    STALE = 'stale'
    """Being read, and changed since the request: to be read once more."""


IDLE, READING, STALE = ReadState

# The state after an event, by the state before it.
_BEGIN = {IDLE: READING, READING: STALE, STALE: STALE}
_CHANGE = {IDLE: IDLE, READING: STALE, STALE: STALE}
_END = {READING: IDLE, STALE: IDLE}


class Request(Enum):
    """What a server is asked."""

    READ = 'read'
    """For the contents, or the children."""
    EXISTS = 'exists'
    """Whether the znode exists, after a read has failed."""
    CHECK = 'check'
    """Whether the znode is as we know it."""


class Node:
    """One side of one znode, and its listeners.

    `state` is how its reading stands on `connection`; it is Reads that changes both.
    `wanted` is what it waits in the backlog for. Listeners have been given the state
    with the revision `known`, last on the connection `known_on`. `failure` is what
    keeps it from being read, and `retry` the timer for another attempt. A listener
    `awaits_creation` if it has no other way to learn that the znode is there again.
    """

    # There may be tens of thousands.
    __slots__ = ('path', 'watch_type', 'listeners', 'wanted', 'state', 'connection', 'known', 'known_on', 'failure',
                 'retry', 'awaits_creation')

    def __init__(self, path: str, watch_type: WatchType) -> None:
        self.path = path
        self.watch_type = watch_type
        self.listeners: Tuple[Listener, ...] = ()
        self.wanted: Optional[Request] = None
        self.state = IDLE
        self.connection = self.known_on = 0
        self.known: Optional[Revision] = None
        self.failure = ''
        self.retry: Optional[asyncio.TimerHandle] = None
        self.awaits_creation = False


def revision_of(watch_type: WatchType, stat: Any) -> Revision:
    """What a stat says about this side of its znode."""
    if watch_type is WatchType.DATA:
        return Revision(stat.czxid, stat.mzxid, stat.mtime)
    return Revision(stat.czxid, stat.pzxid, stat.cversion)


class Reads:
    """The reads of all nodes of one session. With its connection every read ends."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._connection = 0
        self._in_flight = 0

    def are_used_up(self) -> bool:
        """Whether so many are in flight that further nodes have to wait."""
        return self._in_flight >= MAX_IN_FLIGHT and self._connection == self._session.connection

    def is_idle(self, node: Node) -> bool:
        """Whether the node is not being read."""
        return node.state is IDLE or node.connection != self._session.connection

    def begin(self, node: Node) -> Optional[int]:
        """Begin to read the node: the caller sends the request, on this connection.

        None if it is being read. It will be read once more afterwards.
        """
        before, connection = self._change(node, _BEGIN)
        return connection if before is IDLE else None

    def note_change(self, node: Node) -> bool:
        """The node has changed. Whether it is being read: then it will be once more
        afterwards."""
        return self._change(node, _CHANGE)[0] is not IDLE

    def end(self, node: Node) -> bool:
        """The answer has been consumed. Whether the node has to be read once more."""
        return self._change(node, _END)[0] is STALE

    def _change(self, node: Node, event: Dict[ReadState, ReadState]) -> Tuple[ReadState, int]:
        """The one place where a state changes. Returns the one before the event, and
        the connection that both are about."""
        with self._lock:
            connection = self._session.connection
            if self._connection != connection:
                self._connection, self._in_flight = connection, 0
            before = node.state if node.connection == connection else IDLE
            after = event[before]
            node.state, node.connection = after, connection
            self._in_flight += (after is not IDLE) - (before is not IDLE)
        return before, connection
