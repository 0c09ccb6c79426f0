"""What ZooKeeper says, for ever: subscribe to a znode and be told its state now, and after every change.

Guarantees: a listener is told the latest state as soon as the ensemble can be reached, whatever happened to connections and
sessions in between; it may be told the same state again (stamps tell), and of states that follow each other fast it may be
told the last only; it is never told an older state after a newer one of the same ensemble. All of this happens on the event
loop's thread: kazoo's threads only hand over. Any number of listeners share one server-side watch.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from twitcher.log import get_logger
from twitcher.spec import WatchType
from twitcher.znode import UNKNOWN, Stamp, ZnodeState
from twitcher.zookeeper import (
    ConnectionClosedError,
    ConnectionLoss,
    KazooState,
    NoAuthError,
    NoNodeError,
    SessionExpiredError,
    WatchedEvent,
    new_client,
)

log = get_logger(__name__)

Listener = Callable[[ZnodeState], None]

IN_FLIGHT = 256
"""Requests that may be unanswered at a time: enough to hide the round trip, too few to swamp a server or our memory."""
RETRY_DELAY = 10.0
"""Seconds until a znode is read again that could not be, for want of permission or for an error of the server."""

REREAD_INTERVAL = 900.0
"""Seconds, give or take a fifth, after which all znodes are read again: no update is later than that, whatever happened."""

_BATCH = 64

_CONNECTION_ERRORS = (ConnectionLoss, SessionExpiredError, ConnectionClosedError)
# The events of kazoo that make a read necessary, and for which side of a znode.
_CONCERNS = {
    'CREATED': (WatchType.DATA, WatchType.CHILDREN), 'DELETED': (WatchType.DATA, WatchType.CHILDREN),
    'CHANGED': (WatchType.DATA,), 'CHILD': (WatchType.CHILDREN,),
}


class _Node:
    """One side of one znode, and who listens to it. `stale`: it changed while it was being read, so read it again."""

    __slots__ = ('path', 'watch_type', 'listeners', 'waiting', 'reading', 'stale', 'failure', 'retry')

    def __init__(self, path: str, watch_type: WatchType) -> None:
        self.path = path
        self.watch_type = watch_type
        self.listeners: Tuple[Listener, ...] = ()
        self.waiting = self.reading = self.stale = False
        self.failure = ''
        self.retry: Optional[asyncio.TimerHandle] = None


class Keeper:
    """A client of one ensemble. `on_death(reason)` is called when kazoo has given up for good, which it never should, and
    `on_connection(is_connected)` when a connection comes or goes."""

    def __init__(self, hosts: str, on_death: Callable[[str], None], on_connection: Callable[[bool], None],
                 retry_delay: float = RETRY_DELAY, reread_interval: float = REREAD_INTERVAL) -> None:
        self._hosts = hosts
        self._on_death = on_death
        self._on_connection = on_connection
        self._retry_delay = retry_delay
        self._reread_interval = reread_interval
        self._nodes: Dict[WatchType, Dict[str, _Node]] = {side: {} for side in WatchType}
        self._backlog: Deque[_Node] = deque()
        self._in_flight = 0
        self._in_flight_here = 0
        self._ready = False
        # Counts connections: what was asked on one connection is of no interest on the next, where all is asked again.
        self._epoch = 0
        self._on_watch = self._watch_fired  # one object, which kazoo keeps for each znode
        self._closing = False
        self._taking_over = False
        self._handed_over: Deque[Tuple[Callable[..., None], Tuple[Any, ...]]] = deque()

    def start(self) -> None:
        """Connect, now or when a server comes up. Returns at once; call it on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._client = new_client(self._hosts, lambda reason: self._hand_over(self._thread_ended, reason))
        self._client.add_listener(self._listen)
        self._client.start_async()
        self._reread_later()

    def stop(self) -> threading.Thread:
        """Begin to close the session. The thread that does it is returned: it may take as long as a connect takes."""
        self._closing = True
        thread = threading.Thread(target=self._client.stop, name='close', daemon=True)
        thread.start()
        return thread

    def subscribe(self, path: str, watch_type: WatchType, listener: Listener) -> None:
        """Call the listener with the znode's state, soon and after each change."""
        nodes = self._nodes[watch_type]
        node = nodes.get(path)
        if not node:
            node = nodes[path] = _Node(path, watch_type)
        node.listeners += (listener,)
        self._want(node)

    def unsubscribe(self, path: str, watch_type: WatchType, listener: Listener) -> None:
        """Never call the listener again."""
        node = self._nodes[watch_type][path]
        node.listeners = tuple(other for other in node.listeners if other != listener)
        if not node.listeners:
            del self._nodes[watch_type][path]

    @property
    def subscriptions(self) -> int:
        """How many listeners there are."""
        return sum(len(node.listeners) for node in self._all_nodes())

    # On kazoo's threads

    def _hand_over(self, function: Callable[..., None], *args: Any) -> None:
        """Have the function called on the loop, after everything that was handed over before. Wakes the loop once a batch."""
        self._handed_over.append((function, args))
        if not self._taking_over:
            self._taking_over = True
            try:
                self._loop.call_soon_threadsafe(self._take_over)
            except RuntimeError:
                log.debug('ZooKeeper: an answer after the end')

    def _listen(self, state: str) -> None:
        """kazoo's state listener."""
        if state != KazooState.CONNECTED:
            # Else an ensemble that was restored with smaller zxids would turn us away for ever. Against a follower that lags
            # there is the sync.
            self._client.last_zxid = 0
        self._hand_over(self._state_changed, state)

    def _watch_fired(self, event: WatchedEvent) -> None:
        """kazoo's watch callback, one for all znodes, so that kazoo's own set of them cannot grow.

        A change is read here and now: the way over the loop costs a tenth of the time until an action runs (measured).
        """
        sides = _CONCERNS.get(event.type, ())  # not NONE: the connection is gone and will be back, and then all is read anyway
        node = self._nodes[sides[0]].get(event.path) if len(sides) == 1 else None
        if node and self._in_flight_here < IN_FLIGHT:
            self._in_flight_here += 1
            epoch = self._epoch
            self._read(node).rawlink(partial(self._read_here, epoch, node))
        elif sides:
            self._hand_over(self._changed, event.path, sides)

    def _read_here(self, epoch: int, node: _Node, answer: Any) -> None:
        self._in_flight_here -= 1
        self._hand_over(self._reread_answered, epoch, node, answer)

    # On either

    def _read(self, node: _Node) -> Any:
        if node.watch_type is WatchType.DATA:
            return self._client.get_async(node.path, watch=self._on_watch)
        return self._client.get_children_async(node.path, watch=self._on_watch, include_data=True)

    def _ask(self, node: _Node, question: str) -> None:
        exists = question == 'exists'
        answer = self._client.exists_async(node.path, watch=self._on_watch) if exists else self._read(node)
        answer.rawlink(partial(self._hand_over, self._answered, self._epoch, node, question))

    # On the loop

    def _take_over(self) -> None:
        # Before the first is taken: what a thread adds from now on either is found below, or wakes the loop again.
        self._taking_over = False
        for _ in range(0 if self._closing else min(len(self._handed_over), _BATCH)):
            function, args = self._handed_over.popleft()
            try:
                function(*args)
            except Exception:
                log.exception('ZooKeeper: a mistake of twitcher itself')
        if self._handed_over and not self._closing:  # after everybody else has had a turn
            self._taking_over = True
            self._loop.call_soon(self._take_over)

    def _state_changed(self, state: str) -> None:
        if self._closing:
            return
        self._ready = False
        self._on_connection(state == KazooState.CONNECTED)
        if state != KazooState.CONNECTED:
            lost = 'the session has expired' if state == KazooState.LOST else 'the connection is lost'
            log.warning('ZooKeeper: %s', lost)
            return
        log.info('ZooKeeper: connected to %s, session 0x%x', self._hosts, (self._client.client_id or (0,))[0])
        self._in_flight = 0
        self._backlog.clear()
        # A follower that lags could answer a new session with what an old one has seen overwritten. After a sync it has
        # caught up with its leader, and whatever differs from what we know is a change, even where zxids are smaller.
        epoch = self._epoch + 1
        self._client.sync_async('/').rawlink(lambda result: self._hand_over(self._synced, epoch, result))
        self._epoch = epoch  # not before: what kazoo's thread asks in this moment must be asked after the sync to be believed

    def _synced(self, epoch: int, answer: Any) -> None:
        if epoch != self._epoch or isinstance(answer.exception, _CONNECTION_ERRORS):
            return
        self._ready = True
        for node in self._all_nodes():
            node.reading = node.waiting = node.stale = False
            self._want(node)

    def _reread_later(self) -> None:
        """A server sends no event to whoever may not read a znode when it changes, and takes back the watch silently."""
        self._loop.call_later(self._reread_interval * random.uniform(0.8, 1.2), self._reread)

    def _reread(self) -> None:
        for node in self._all_nodes():
            self._want(node)
        self._reread_later()

    def _changed(self, path: str, sides: Tuple[WatchType, ...]) -> None:
        for side in sides:
            if path in self._nodes[side]:
                self._want(self._nodes[side][path])

    def _all_nodes(self) -> List[_Node]:
        return [node for nodes in self._nodes.values() for node in nodes.values()]

    def _want(self, node: _Node) -> None:
        """Read the node soon; again, if it is being read: the event may be younger than the answer on its way."""
        if node.reading:
            node.stale = True
        elif self._ready and not node.waiting:
            node.waiting = True
            self._backlog.append(node)
            self._pump()

    def _pump(self) -> None:
        while self._ready and self._backlog and self._in_flight < IN_FLIGHT:
            node = self._backlog.popleft()
            node.waiting = False
            if node.listeners:
                node.reading = True
                self._in_flight += 1
                self._ask(node, 'read')

    def _answered(self, epoch: int, node: _Node, question: str, answer: Any) -> None:
        if epoch != self._epoch:
            return
        error = answer.exception
        if question == 'read' and isinstance(error, (NoNodeError, NoAuthError)):
            if isinstance(error, NoNodeError):
                node.failure = ''
            else:
                self._note_failure(node, f'no permission to read {node.path}')
            self._ask(node, 'exists')  # neither leaves a watch; this does
            return
        if question == 'exists' and not error and answer.value and not node.failure:
            self._ask(node, 'read')  # it was made in between
            return
        self._in_flight -= 1
        node.reading = False
        # The connection's end is on its way to us, or here: the next one reads everything.
        if not isinstance(error, _CONNECTION_ERRORS):
            self._conclude(node, question, answer)
        self._pump()

    def _reread_answered(self, epoch: int, node: _Node, answer: Any) -> None:
        """What was read at once after an event."""
        if epoch != self._epoch:
            return
        if answer.exception:  # whatever it is, it is dealt with where others are
            self._want(node)
        else:
            self._conclude(node, 'read', answer)

    def _conclude(self, node: _Node, question: str, answer: Any) -> None:
        """A node has been read, or cannot be: tell the listeners."""
        if question == 'exists' and isinstance(answer.exception, NoAuthError):  # newer servers ask for permission here, too
            self._tell(node, ZnodeState(UNKNOWN))
        elif answer.exception:
            self._note_failure(node, f'{node.path} cannot be read: {answer.exception!r}')
        elif question == 'read':
            self._note_failure(node, '')
            self._tell(node, _state(node.watch_type, *answer.value))
        elif answer.value is None:
            node.failure = ''
            self._tell(node, ZnodeState())
        else:
            self._tell(node, ZnodeState(_stamp(node.watch_type, answer.value)))
        if node.failure and (not node.retry or node.retry.when() <= self._loop.time()):
            node.retry = self._loop.call_later(self._retry_delay, self._want, node)
        if node.stale:
            node.stale = False
            self._want(node)

    def _tell(self, node: _Node, state: ZnodeState) -> None:
        for listener in node.listeners:
            try:
                listener(state)
            except Exception:
                log.exception('ZooKeeper: what listens to %s has made a mistake', node.path)

    def _note_failure(self, node: _Node, failure: str) -> None:
        """Log what keeps a node from being read when it comes, and when it goes."""
        if failure and failure != node.failure:
            log.warning('ZooKeeper: %s; trying again every %g s', failure, self._retry_delay)
        if node.failure and not failure:
            log.info('ZooKeeper: %s can be read again', node.path)
        node.failure = failure

    def _thread_ended(self, reason: str) -> None:
        if not self._closing:
            self._closing = True
            self._on_death(reason)


def _stamp(watch_type: WatchType, stat: Any) -> Stamp:
    if watch_type is WatchType.DATA:
        return Stamp(stat.czxid, stat.mzxid, stat.mtime)
    return Stamp(stat.czxid, stat.pzxid, stat.cversion)


def _state(watch_type: WatchType, found: Any, stat: Any) -> ZnodeState:
    """What a read found, as get and get_children of kazoo return it."""
    if watch_type is WatchType.DATA:
        return ZnodeState(_stamp(watch_type, stat), found or b'', stat.version)
    names = ''.join(f'{name}\n' for name in sorted(found))
    return ZnodeState(_stamp(watch_type, stat), names.encode(), stat.cversion)
