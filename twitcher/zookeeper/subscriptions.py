"""Subscriptions: a znode's state now, and after every change, for as long as the
session lives.

Guarantees: a listener is called with the latest state as soon as the ensemble can be
reached, no matter what happened to connections and sessions in between. It may be
called with the same state again (the revision tells), and with only the last of several
states that follow each other fast, but never with an older state after a newer one of
the same ensemble. A failed read is repeated soon. Listeners are called on the event
loop's thread. Any number of them share one watch on the server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from twitcher.log import get_logger
from twitcher.znode import UNREADABLE, WatchType, ZnodeState
from twitcher.zookeeper.checks import CHECK_PERIOD, Checks
from twitcher.zookeeper.children import MAX_AT_ONCE, Sorter, sorted_lines
from twitcher.zookeeper.client import NoAuthError, NoNodeError, WatchedEvent
from twitcher.zookeeper.node import Listener, Node, Reads, Request, revision_of
from twitcher.zookeeper.session import CONNECTION_ERRORS, Session

log = get_logger(__name__)

RETRY_DELAY = 10.0
"""Seconds until another attempt to read a znode that could not be read, or whose answer
could not be handled."""

# The events of kazoo after which a znode has to be read, and which of its sides. Not
# NONE, which means that the connection is lost: the next one reads everything.
_CHANGED_SIDES = {
    'CREATED': (WatchType.DATA, WatchType.CHILDREN), 'DELETED': (WatchType.DATA, WatchType.CHILDREN),
    'CHANGED': (WatchType.DATA,), 'CHILD': (WatchType.CHILDREN,),
}


# Subscriptions has these concerns:
#
# - Latency. An event is answered with a read at once, on kazoo's thread: the way over
#   the loop would cost a tenth of the time until an action runs (measured). All else
#   happens on the loop.
# - Order. Reads (node.py) lets a node have one request under way; what changes in the
#   meantime is read once more afterwards.
# - Connections. kazoo forgets all watches when one is lost, and a server all answers.
#   The next one reads every node again, and answers of the last one do not count.
# - Bounds. No more than MAX_IN_FLIGHT requests are under way. Other nodes wait in the
#   backlog.
# - Watches. A read that finds no znode, or is refused, leaves none on the server; a
#   request whether the znode exists does.
# - Failures. A node that cannot be read is read again after RETRY_DELAY, and logged
#   when that begins and when it ends.
# - Changes that no event reports. Checks (checks.py) finds them.
class Subscriptions:
    """The subscriptions to znodes of one session. Make them before the session is
    started."""

    def __init__(self, session: Session, retry_delay: float = RETRY_DELAY, check_period: float = CHECK_PERIOD) -> None:
        self._session = session
        self._retry_delay = retry_delay
        self._nodes: Dict[WatchType, Dict[str, Node]] = {side: {} for side in WatchType}
        self._backlog: Deque[Node] = deque()
        self._reads = Reads(session)
        self._sorter = Sorter()
        self._checks = Checks(self._all_nodes, self._check, check_period)
        self._on_watch = self._watch_fired  # one object, which kazoo keeps for each znode
        session.on_ready(self._read_all)

    def start(self) -> None:
        """Begin to check. Call it on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._checks.start(self._loop)

    def subscribe(self, path: str, watch_type: WatchType, listener: Listener, awaits_creation: bool = True) -> None:
        """Call the listener with the znode's state, soon and after each change.

        With `awaits_creation`, a watch stays on the server while the znode does not
        exist, so that its creation is a change.
        """
        nodes = self._nodes[watch_type]
        node = nodes.get(path)
        if not node:
            node = nodes[path] = Node(path, watch_type)
        node.listeners += (listener,)
        node.awaits_creation |= awaits_creation
        self._schedule(node)

    def unsubscribe(self, path: str, watch_type: WatchType, listener: Listener) -> None:
        """Never call the listener again."""
        node = self._nodes[watch_type][path]
        node.listeners = tuple(other for other in node.listeners if other != listener)
        if not node.listeners:
            del self._nodes[watch_type][path]
            self._checks.forget(node)

    # On kazoo's thread

    def _watch_fired(self, event: WatchedEvent) -> None:
        """kazoo's watch callback, one for all znodes, so that kazoo's own set of them
        cannot grow."""
        sides = _CHANGED_SIDES.get(event.type, ())
        node = self._nodes[sides[0]].get(event.path) if len(sides) == 1 else None
        if node and not self._reads.are_used_up():
            connection = self._reads.begin(node)
            if connection is not None:
                self._request(node, Request.READ, connection)
        elif sides:
            self._session.call_on_loop(self._changed, event.path, sides)

    # On either

    def _request(self, node: Node, kind: Request, connection: int) -> None:
        """Send a request of a read. Its answer is consumed on the loop."""
        client = self._session.client
        try:
            if kind is not Request.READ:
                # To check a znode's children needs no watch: theirs is lost only when
                # they change.
                has_watch = kind is Request.EXISTS or node.watch_type is WatchType.DATA
                answer = client.exists_async(node.path, watch=self._on_watch if has_watch else None)
            elif node.watch_type is WatchType.DATA:
                answer = client.get_async(node.path, watch=self._on_watch)
            else:
                answer = client.raw_children_async(node.path, self._on_watch)
            answer.rawlink(partial(self._session.call_on_loop, self._answered, connection, node, kind))
        except Exception as error:  # out of memory
            self._session.call_on_loop(self._failed, connection, node, error)

    # On the loop

    def _read_all(self) -> None:
        """There is a new connection. Neither answers nor watches of the last one
        count."""
        self._backlog.clear()
        for node in self._all_nodes():
            node.wanted = None
            self._schedule(node)

    def _check(self, node: Node) -> None:
        if not node.failure and self._reads.is_idle(node):
            is_known = node.known_on == self._session.connection
            self._schedule(node, Request.CHECK if is_known else Request.READ)

    def _changed(self, path: str, sides: Tuple[WatchType, ...]) -> None:
        for side in sides:
            if path in self._nodes[side]:
                self._schedule(self._nodes[side][path])

    def _all_nodes(self) -> List[Node]:
        return [node for nodes in self._nodes.values() for node in nodes.values()]

    def _schedule(self, node: Node, kind: Request = Request.READ) -> None:
        """Read the node soon. If it is being read, do it again afterwards: the change
        may be younger than the answer under way."""
        if self._reads.note_change(node) or not self._session.is_ready:
            return
        if not node.wanted:
            self._backlog.append(node)
        if node.wanted is not Request.READ:
            node.wanted = kind
        self._send_some()

    def _send_some(self) -> None:
        while self._backlog and self._session.is_ready and not self._reads.are_used_up():
            node = self._backlog.popleft()
            kind, node.wanted = node.wanted, None
            connection = self._reads.begin(node) if node.listeners else None
            if kind and connection is not None:
                self._request(node, kind, connection)

    def _answered(self, connection: int, node: Node, kind: Request, answer: Any) -> None:
        self._consume(connection, node, partial(self._handle, node, kind, answer))

    def _consume(self, connection: int, node: Node, handle: Callable[[], bool]) -> None:
        """Handle an answer, unless there is a newer connection. `handle` returns
        whether the read is done; if not, it has sent another request."""
        if connection != self._session.connection:
            return
        try:
            is_done = handle()
        except Exception as error:
            self._failed(connection, node, error)
        else:
            if is_done:
                self._end_read(node)

    def _failed(self, connection: int, node: Node, error: Exception) -> None:
        """An answer could not be handled, or a request could not be sent."""
        if connection != self._session.connection:
            return
        failure = f'{node.path} cannot be handled: {error!r}'
        if failure != node.failure:
            log.error('ZooKeeper: internal error (please report it)', exc_info=error)
        self._note_failure(node, failure)
        self._end_read(node)

    def _end_read(self, node: Node) -> None:
        has_changed = self._reads.end(node)
        if node.failure:
            self._retry_later(node)
        if has_changed:
            self._schedule(node)
        self._send_some()

    def _retry_later(self, node: Node) -> None:
        node.retry = node.retry or self._loop.call_later(self._retry_delay, self._retry, node)

    def _retry(self, node: Node) -> None:
        node.retry = None
        self._schedule(node)

    def _ask_further(self, node: Node, kind: Request) -> bool:
        """Send another request of a read that is not done yet."""
        self._request(node, kind, self._session.connection)
        return False

    def _handle(self, node: Node, kind: Request, answer: Any) -> bool:
        error = answer.exception
        if isinstance(error, CONNECTION_ERRORS):
            self._retry_later(node)  # if the connection is lost after all, the next one reads everything
            return True
        if kind is Request.CHECK:
            is_same = not error and node.known == (answer.value and revision_of(node.watch_type, answer.value))
            return is_same or self._ask_further(node, Request.READ)
        if kind is Request.READ:
            return self._handle_read(node, answer)
        if isinstance(error, NoAuthError):  # newer servers require a permission for this request, too
            self._notify(node, ZnodeState(UNREADABLE))
        elif error:
            self._note_failure(node, f'{node.path} cannot be read: {error!r}')
        elif answer.value is None:
            node.failure = ''
            self._notify(node, ZnodeState())
        elif not node.failure:  # it was created after the read
            return self._ask_further(node, Request.READ)
        else:
            self._notify(node, ZnodeState(revision_of(node.watch_type, answer.value)))
        return True

    def _handle_read(self, node: Node, answer: Any) -> bool:
        error = answer.exception
        if isinstance(error, NoNodeError):
            node.failure = ''
            return self._ask_further(node, Request.EXISTS) if node.awaits_creation else self._notify(node, ZnodeState())
        if isinstance(error, NoAuthError):
            self._checks.suspect(node)
            self._note_failure(node, f'no permission to read {node.path}')
            return self._ask_further(node, Request.EXISTS)
        if error:
            self._note_failure(node, f'{node.path} cannot be read: {error!r}')
            return True
        contents, stat = answer.value
        if stat.aversion:
            self._checks.suspect(node)
        if node.watch_type is WatchType.DATA:
            return self._notify_read(node, stat, contents or b'')
        if len(contents) <= MAX_AT_ONCE:
            return self._notify_read(node, stat, sorted_lines(contents))
        call, connection = self._session.call_on_loop, self._session.connection
        self._sorter.sort(contents, partial(call, self._sorted, connection, node, stat),
                          partial(call, self._failed, connection, node))
        return False

    def _sorted(self, connection: int, node: Node, stat: Any, lines: bytes) -> None:
        self._consume(connection, node, partial(self._notify_read, node, stat, lines))

    def _notify_read(self, node: Node, stat: Any, contents: bytes) -> bool:
        version = stat.version if node.watch_type is WatchType.DATA else stat.cversion
        self._notify(node, ZnodeState(revision_of(node.watch_type, stat), contents, version))
        self._note_failure(node, '')
        return True

    def _notify(self, node: Node, state: ZnodeState) -> bool:
        """Call all listeners. Raises their first error: the node is read again soon."""
        first_error: Optional[Exception] = None
        for listener in node.listeners:
            try:
                listener(state)
            except Exception as error:
                first_error = first_error or error
        if first_error:
            raise first_error
        node.known, node.known_on = state.revision, self._session.connection
        return True

    def _note_failure(self, node: Node, failure: str) -> None:
        """Log why a node cannot be read, when that begins and when it ends."""
        if failure and failure != node.failure:
            log.warning('ZooKeeper: %s; trying again every %g s', failure, self._retry_delay)
        if node.failure and not failure:
            log.info('ZooKeeper: %s can be read again', node.path)
        node.failure = failure
