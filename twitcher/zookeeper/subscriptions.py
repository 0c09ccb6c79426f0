"""What ZooKeeper says, for ever: subscribe to a znode and be told its state now, and after every change.

Guarantees: a listener is told the latest state as soon as the ensemble can be reached, whatever happened to connections and
sessions in between; it may be told the same state again (stamps tell), and of states that follow each other fast it may be
told the last only; it is never told an older state after a newer one of the same ensemble. What fails is tried again soon.
All of this happens on the event loop's thread. Any number of listeners share one server-side watch.

How: each node has one token (node.py). Whichever thread takes it sends the request, and it is put back on the loop when the
answer has been consumed. So a node has at most one answer on its way or waiting, and answers cannot overtake each other. An
event that finds the token taken makes the node stale: it is read once more when the token comes back.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from twitcher.log import get_logger
from twitcher.znode import UNREADABLE, WatchType, ZnodeState
from twitcher.zookeeper.children import MAX_AT_ONCE, sorted_lines
from twitcher.zookeeper.client import NoAuthError, NoNodeError, WatchedEvent
from twitcher.zookeeper.node import Listener, Node, Tokens, revision_of
from twitcher.zookeeper.rotation import Rotation
from twitcher.zookeeper.session import CONNECTION_ERRORS, Session

log = get_logger(__name__)

RETRY_DELAY = 10.0
"""Seconds until a znode is read again that could not be read, or whose answer could not be handled."""
CHECK_PERIOD = 60.0
"""Seconds after which a znode's stat is looked at without an event, as long as the znodes are few."""
_CHECK_RATE = 2.0
_SUSPECT_CHECK_RATE = 20.0
_CHECKS_PER_PERIOD = 6

# The questions: contents or children; after that failed, whether the znode exists; whether it is as we know it.
_READ, _EXISTS, _CHECK = 'read', 'exists', 'check'

# The events of kazoo that make a read necessary, and for which side of a znode.
_CONCERNS = {
    'CREATED': (WatchType.DATA, WatchType.CHILDREN), 'DELETED': (WatchType.DATA, WatchType.CHILDREN),
    'CHANGED': (WatchType.DATA,), 'CHILD': (WatchType.CHILDREN,),
}


class Keeper:
    """The subscriptions to znodes of one session. It is made before the session is started."""

    def __init__(self, session: Session, retry_delay: float = RETRY_DELAY, check_period: float = CHECK_PERIOD) -> None:
        self._session = session
        self._retry_delay = retry_delay
        self._check_interval = check_period / _CHECKS_PER_PERIOD
        self._nodes: Dict[WatchType, Dict[str, Node]] = {side: {} for side in WatchType}
        self._backlog: Deque[Node] = deque()
        self._tokens = Tokens(session)
        self._sorting = threading.Lock()
        self._on_watch = self._watch_fired  # one object, which kazoo keeps for each znode
        # Those whose ACL has been changed, or has kept us out.
        self._suspects: Dict[Node, None] = {}
        self._checks = (Rotation(self._all_nodes, check_period, _CHECK_RATE),
                        Rotation(lambda: list(self._suspects), check_period, _SUSPECT_CHECK_RATE))
        session.on_ready(self._read_all)

    def start(self) -> None:
        """Begin to check. Call it on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(self._check_interval, self._check_some)

    def subscribe(self, path: str, watch_type: WatchType, listener: Listener) -> None:
        """Call the listener with the znode's state, soon and after each change."""
        nodes = self._nodes[watch_type]
        node = nodes.get(path)
        if not node:
            node = nodes[path] = Node(path, watch_type)
        node.listeners += (listener,)
        self._want(node)

    def unsubscribe(self, path: str, watch_type: WatchType, listener: Listener) -> None:
        """Never call the listener again."""
        node = self._nodes[watch_type][path]
        node.listeners = tuple(other for other in node.listeners if other != listener)
        if not node.listeners:
            del self._nodes[watch_type][path]
            self._suspects.pop(node, None)

    @property
    def subscriptions(self) -> int:
        """How many listeners there are."""
        return sum(len(node.listeners) for node in self._all_nodes())

    # On kazoo's thread

    def _watch_fired(self, event: WatchedEvent) -> None:
        """kazoo's watch callback, one for all znodes, so that kazoo's own set of them cannot grow.

        A change is read here and now: the way over the loop costs a tenth of the time until an action runs (measured).
        """
        sides = _CONCERNS.get(event.type, ())  # not NONE: the connection is gone and will be back, and then all is read anyway
        node = self._nodes[sides[0]].get(event.path) if len(sides) == 1 else None
        if node and not self._tokens.are_used_up():
            if self._tokens.take(node):
                self._ask(node, _READ)
        elif sides:
            self._session.call_on_loop(self._changed, event.path, sides)

    # On either

    def _ask(self, node: Node, question: str) -> None:
        """Ask, with the token taken, and have the answer handled on the loop."""
        connection = node.reading
        client = self._session.client
        try:
            if question == _READ and node.watch_type is WatchType.DATA:
                answer = client.get_async(node.path, watch=self._on_watch)
            elif question == _READ:
                answer = client.raw_children_async(node.path, self._on_watch)
            else:
                # To check a znode's children needs no watch: theirs is lost only when they change.
                has_watch = question == _EXISTS or node.watch_type is WatchType.DATA
                answer = client.exists_async(node.path, watch=self._on_watch if has_watch else None)
            answer.rawlink(partial(self._session.call_on_loop, self._answered, connection, node, question))
        except Exception as error:  # out of memory
            self._session.call_on_loop(self._failed, connection, node, error)

    # On the loop

    def _read_all(self) -> None:
        """There is a new connection: nothing of the last one counts any more, neither answers nor watches."""
        self._backlog.clear()
        for node in self._all_nodes():
            node.wanted = ''
            self._want(node)

    def _check_some(self) -> None:
        """A server sends no event for a change while an ACL keeps us out, and takes back the watch silently: look whether
        znodes are as we know them."""
        self._loop.call_later(self._check_interval, self._check_some)
        for rotation in self._checks:
            for node in rotation.take(self._check_interval):
                if not node.failure and node.reading != self._session.connection:
                    self._want(node, _CHECK if node.known_on == self._session.connection else _READ)

    def _changed(self, path: str, sides: Tuple[WatchType, ...]) -> None:
        for side in sides:
            if path in self._nodes[side]:
                self._want(self._nodes[side][path])

    def _all_nodes(self) -> List[Node]:
        return [node for nodes in self._nodes.values() for node in nodes.values()]

    def _want(self, node: Node, question: str = _READ) -> None:
        """Read the node soon; again, if it is being read: the event may be younger than the answer on its way."""
        if self._tokens.note_change(node) or not self._session.is_ready:
            return
        if not node.wanted:
            self._backlog.append(node)
        if node.wanted != _READ:
            node.wanted = question
        self._pump()

    def _pump(self) -> None:
        while self._backlog and self._session.is_ready and not self._tokens.are_used_up():
            node = self._backlog.popleft()
            question, node.wanted = node.wanted, ''
            if node.listeners and self._tokens.take(node):
                self._ask(node, question)

    def _answered(self, connection: int, node: Node, question: str, answer: Any) -> None:
        self._consume(connection, node, partial(self._handle, node, question, answer))

    def _consume(self, connection: int, node: Node, handle: Callable[[], bool]) -> None:
        """Handle an answer, unless a newer connection has made it void. The token goes back unless `handle` asks further."""
        if connection != self._session.connection:
            return
        try:
            is_done = handle()
        except Exception as error:
            self._failed(connection, node, error)
        else:
            if is_done:
                self._put_token_back(node)

    def _failed(self, connection: int, node: Node, error: Exception) -> None:
        """An answer could not be handled, or a request not be made."""
        if connection != self._session.connection:
            return
        failure = f'{node.path} cannot be handled: {error!r}'
        if failure != node.failure:
            log.error('ZooKeeper: internal error (please report it)', exc_info=error)
        self._note_failure(node, failure)
        self._put_token_back(node)

    def _put_token_back(self, node: Node) -> None:
        is_stale = self._tokens.put_back(node)
        if node.failure:
            self._retry_later(node)
        if is_stale:
            self._want(node)
        self._pump()

    def _retry_later(self, node: Node) -> None:
        node.retry = node.retry or self._loop.call_later(self._retry_delay, self._retry, node)

    def _retry(self, node: Node) -> None:
        node.retry = None
        self._want(node)

    def _handle(self, node: Node, question: str, answer: Any) -> bool:
        """Tell what the answer says, or ask further; whether it has been consumed."""
        error = answer.exception
        if isinstance(error, CONNECTION_ERRORS):
            self._retry_later(node)  # unless a server has answered so, the connection is lost, and the next one reads all
            return True
        if question == _CHECK:
            if not error and node.known == (answer.value and revision_of(node.watch_type, answer.value)):
                return True
            self._ask(node, _READ)
            return False
        if question == _READ:
            return self._handle_read(node, answer)
        if isinstance(error, NoAuthError):  # newer servers ask for permission here, too
            self._tell(node, ZnodeState(UNREADABLE))
        elif error:
            self._note_failure(node, f'{node.path} cannot be read: {error!r}')
        elif answer.value is None:
            node.failure = ''
            self._tell(node, ZnodeState())
        elif not node.failure:
            self._ask(node, _READ)  # it was made in between
            return False
        else:
            self._tell(node, ZnodeState(revision_of(node.watch_type, answer.value)))
        return True

    def _handle_read(self, node: Node, answer: Any) -> bool:
        error = answer.exception
        if isinstance(error, (NoNodeError, NoAuthError)):
            if isinstance(error, NoNodeError):
                node.failure = ''
            else:
                self._suspect(node)
                self._note_failure(node, f'no permission to read {node.path}')
            self._ask(node, _EXISTS)  # neither leaves a watch; this does
            return False
        if error:
            self._note_failure(node, f'{node.path} cannot be read: {error!r}')
            return True
        contents, stat = answer.value
        if stat.aversion:
            self._suspect(node)
        if node.watch_type is WatchType.CHILDREN and len(contents) > MAX_AT_ONCE:
            threading.Thread(target=self._sort, args=(node.reading, node, contents, stat), name='sort', daemon=True).start()
            return False
        return self._tell_read(node, sorted_lines(contents) if node.watch_type is WatchType.CHILDREN else contents or b'', stat)

    def _suspect(self, node: Node) -> None:
        if node.listeners:
            self._suspects[node] = None

    def _sort(self, connection: int, node: Node, names: memoryview, stat: Any) -> None:
        """On a thread of its own: what a long list of children takes; one at a time."""
        try:
            with self._sorting:
                lines = sorted_lines(names)
            self._session.call_on_loop(self._sorted, connection, node, lines, stat)
        except Exception as error:
            self._session.call_on_loop(self._failed, connection, node, error)

    def _sorted(self, connection: int, node: Node, lines: bytes, stat: Any) -> None:
        self._consume(connection, node, partial(self._tell_read, node, lines, stat))

    def _tell_read(self, node: Node, contents: bytes, stat: Any) -> bool:
        version = stat.version if node.watch_type is WatchType.DATA else stat.cversion
        self._tell(node, ZnodeState(revision_of(node.watch_type, stat), contents, version))
        self._note_failure(node, '')
        return True

    def _tell(self, node: Node, state: ZnodeState) -> None:
        """Tell all listeners. A node that one of them fails on is read again soon."""
        first_error: Optional[Exception] = None
        for listener in node.listeners:
            try:
                listener(state)
            except Exception as error:
                first_error = first_error or error
        if first_error:
            raise first_error
        node.known, node.known_on = state.revision, self._session.connection

    def _note_failure(self, node: Node, failure: str) -> None:
        """Log what keeps a node from being read when it comes, and when it goes."""
        if failure and failure != node.failure:
            log.warning('ZooKeeper: %s; trying again every %g s', failure, self._retry_delay)
        if node.failure and not failure:
            log.info('ZooKeeper: %s can be read again', node.path)
        node.failure = failure
