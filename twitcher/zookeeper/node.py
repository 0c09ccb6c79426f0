"""Node: one side of one znode. Reads: keeps the reads of each node in order.

Guarantees: a node has at most one request that is under way or whose answer has not
been consumed, no matter which threads want to read it, so that answers cannot overtake
each other. A change that is reported in the meantime is remembered. All methods of
Reads are thread-safe.
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
    """The state of a node's reads."""

    IDLE = 'idle'
    READING = 'reading'
    STALE = 'stale'
    """Being read, but changed since the request: to be read once more."""


IDLE, READING, STALE = ReadState

# The state after an event, by the state before it.
_BEGIN = {IDLE: READING, READING: STALE, STALE: STALE}
_CHANGE = {IDLE: IDLE, READING: STALE, STALE: STALE}
_END = {READING: IDLE, STALE: IDLE}


class Request(Enum):
    """The kinds of requests to a server."""

    READ = 'read'
    """Return the contents, or the children."""
    EXISTS = 'exists'
    """Does the znode exist? After a read that failed."""
    CHECK = 'check'
    """Is the znode as we know it?"""


class Node:
    """One side of one znode, and its listeners.

    `state` is the state of its reads on `connection`; only Reads changes both. `wanted`
    is the request that it waits in the backlog for. The listeners know the revision
    `known`, delivered last on the connection `known_on`. `failure` is the reason why it
    cannot be read, and `retry` is the timer for another attempt. With
    `awaits_creation`, a watch stays on the server while the znode does not exist: some
    listener has no other way to learn of its creation.
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
    """The revision of this side of a znode, from its stat."""
    if watch_type is WatchType.DATA:
        return Revision(stat.czxid, stat.mzxid, stat.mtime)
    return Revision(stat.czxid, stat.pzxid, stat.cversion)


class Reads:
    """The reads of all nodes of one session. The end of a connection ends its reads."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._connection = 0
        self._in_flight = 0

    def are_used_up(self) -> bool:
        """Whether so many requests are in flight that further nodes have to wait."""
        return self._in_flight >= MAX_IN_FLIGHT and self._connection == self._session.connection

    def is_idle(self, node: Node) -> bool:
        """Whether the node is not being read."""
        return node.state is IDLE or node.connection != self._session.connection

    def begin(self, node: Node) -> Optional[int]:
        """Begin to read the node. Returns the connection for the caller's request.

        Returns None if it is being read: it is then read once more afterwards.
        """
        before, connection = self._change(node, _BEGIN)
        return connection if before is IDLE else None

    def note_change(self, node: Node) -> bool:
        """The node has changed. Returns whether it is being read: it is then read once
        more afterwards."""
        return self._change(node, _CHANGE)[0] is not IDLE

    def end(self, node: Node) -> bool:
        """The answer has been consumed. Returns whether to read the node once more."""
        return self._change(node, _END)[0] is STALE

    def _change(self, node: Node, event: Dict[ReadState, ReadState]) -> Tuple[ReadState, int]:
        """The one place where a state changes. Returns the state before the event, and
        the connection."""
        with self._lock:
            connection = self._session.connection
            if self._connection != connection:
                self._connection, self._in_flight = connection, 0
            before = node.state if node.connection == connection else IDLE
            after = event[before]
            node.state, node.connection = after, connection
            self._in_flight += (after is not IDLE) - (before is not IDLE)
        return before, connection
