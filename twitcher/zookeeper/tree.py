"""A tree: a znode and everything below it, built from a subscription to each znode.

Guarantees: a listener gets the first state of a tree when all of it has been read, and
further states soon after changes, one state for many changes. It gets no state twice in
a row, not even after a lost session. A znode that may not be read stays as it was last
known, and does not delay the rest. Everything happens on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Deque, Dict, List, Optional, Set, Tuple
from zlib import crc32

from twitcher.log import get_logger
from twitcher.znode import ABSENT, MAX_PATH_LENGTH, Revision, Tree, WatchType, ZnodeState
from twitcher.zookeeper.node import MAX_IN_FLIGHT, Listener
from twitcher.zookeeper.subscriptions import RETRY_DELAY, Subscriptions

log = get_logger(__name__)

QUIET = 0.02
"""Seconds from a change to the state that includes it, so that changes that are made
together are in one state."""
MAX_READING = MAX_IN_FLIGHT // 2
"""Znodes of a tree that are being read for the first time at once: a large tree leaves
room for the reads of other watches."""
MAX_WAIT = 1.0
"""Seconds that a change waits for new znodes to be read."""

_DIGEST = (1 << 63) - 1


class Trees:
    """The subscriptions of watches: each is to one side of a znode, or to a tree."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._trees: Dict[Tuple[str, Listener], TreeSubscription] = {}

    def subscribe(self, path: str, watch_type: WatchType, listener: Listener) -> None:
        """As Subscriptions.subscribe."""
        if watch_type is WatchType.TREE:
            self._trees[path, listener] = TreeSubscription(self._subscriptions, path, listener)
        else:
            self._subscriptions.subscribe(path, watch_type, listener)

    def unsubscribe(self, path: str, watch_type: WatchType, listener: Listener) -> None:
        """As Subscriptions.unsubscribe."""
        if watch_type is WatchType.TREE:
            self._trees.pop((path, listener)).close()
        else:
            self._subscriptions.unsubscribe(path, watch_type, listener)


class _Znode:
    """A znode that is listed as a child in the tree, or its root.

    `names` are its children as a read returns them: sorted, one per line. They are
    watched once the znode itself has been read. `is_read`: no read of it is under way
    that the next state has to wait for.
    """

    __slots__ = ('tree', 'path', 'names', 'is_read', 'is_watched', 'are_children_watched')  # there may be many

    def __init__(self, tree: TreeSubscription, path: str) -> None:
        self.tree = tree
        self.path = path
        self.names = b''
        self.is_read = self.is_watched = self.are_children_watched = False

    def on_data(self, state: ZnodeState) -> None:
        """The listener of its contents."""
        self.tree.data_read(self, state)

    def on_children(self, state: ZnodeState) -> None:
        """The listener of its children."""
        self.tree.children_read(self, state)


# The life of a znode in a tree:
#
# - Its parent lists it: its contents are read and watched, then its children.
# - It is deleted: it leaves the tree. No watch for its creation stays on the server:
#   these would pile up where names come and go. The parent's list is read again after
#   each deletion and creation. If the znode is still in it, it has been created again,
#   and is read again.
# - The list no longer has it: it is forgotten, with everything below it.
# - It may not be read: it stays as it is, and Subscriptions tries again.
class TreeSubscription:
    """Gives the listener the states of the tree from `root` down. Two states have the
    same revision exactly if they are the same."""

    def __init__(self, subscriptions: Subscriptions, root: str, listener: Listener) -> None:
        self._subscriptions = subscriptions
        self._path = root
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._znodes: Dict[str, _Znode] = {}
        self._tree = Tree()
        self._is_shared = False
        """Whether the listener has `_tree`, so that a change has to copy it first."""
        self._digest = 0
        self._version = -1
        self._unread = 0
        self._is_complete = False
        self._absent: Set[_Znode] = set()
        self._known: Optional[Revision] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._unwatched: Deque[_Znode] = deque()
        self._root = self._add(root)

    def close(self) -> None:
        """Never call the listener again."""
        self._forget([self._root])
        if self._timer:
            self._timer.cancel()

    def data_read(self, znode: _Znode, state: ZnodeState) -> None:
        """The contents of a znode have been read, or may not be read."""
        if state.revision is None:
            self._absent.add(znode)
            self._unwatch_children(znode)
            self._set(znode, None)
        elif state.contents is not None:
            self._absent.discard(znode)
            if znode is self._root:
                self._version = state.version
            self._set(znode, state.revision)
            if not znode.are_children_watched:
                self._watch_children(znode)
                return
        self._finish(znode)

    def children_read(self, znode: _Znode, state: ZnodeState) -> None:
        """The children of a znode have been read, or may not be read."""
        if isinstance(state.contents, bytes):
            self._set_names(znode, state.contents)
        elif state.revision is None:  # if it is there again, the next read of its contents finds it
            self._unwatch_children(znode)
        self._finish(znode)

    def _add(self, path: str) -> _Znode:
        """A znode is in the tree from now on."""
        znode = self._znodes[path] = _Znode(self, path)
        self._unread += 1
        self._unwatched.append(znode)
        self._watch_some()
        return znode

    def _watch_some(self) -> None:
        while self._unwatched and self._unread - len(self._unwatched) < MAX_READING:
            znode = self._unwatched.popleft()
            if self._znodes.get(znode.path) is znode:
                znode.is_watched = True
                self._subscriptions.subscribe(znode.path, WatchType.DATA, znode.on_data, znode.path == self._path)

    def _watch_again(self, znode: _Znode) -> None:
        """A znode that was absent is listed, so it has been created again: read it."""
        self._subscriptions.unsubscribe(znode.path, WatchType.DATA, znode.on_data)
        self._begin(znode)
        self._subscriptions.subscribe(znode.path, WatchType.DATA, znode.on_data, awaits_creation=False)

    def _watch_children(self, znode: _Znode) -> None:
        znode.are_children_watched = True
        self._begin(znode)
        self._subscriptions.subscribe(znode.path, WatchType.CHILDREN, znode.on_children, awaits_creation=False)

    def _unwatch_children(self, znode: _Znode) -> None:
        """The znode is gone, with everything below it."""
        self._forget(self._children(znode))
        znode.names = b''
        if znode.are_children_watched:
            znode.are_children_watched = False
            self._subscriptions.unsubscribe(znode.path, WatchType.CHILDREN, znode.on_children)

    def _forget(self, znodes: List[_Znode]) -> None:
        """These have left the tree, with everything below them."""
        while znodes:
            znode = znodes.pop()
            znodes += self._children(znode)
            del self._znodes[znode.path]
            if znode.is_watched:
                self._subscriptions.unsubscribe(znode.path, WatchType.DATA, znode.on_data)
            if znode.are_children_watched:
                self._subscriptions.unsubscribe(znode.path, WatchType.CHILDREN, znode.on_children)
            self._absent.discard(znode)
            self._set(znode, None)
            self._unread -= not znode.is_read

    def _children(self, znode: _Znode) -> List[_Znode]:
        paths = (_child(znode, name) for name in znode.names.split(b'\n')[:-1])
        return [self._znodes[path] for path in paths if path in self._znodes]

    def _set_names(self, znode: _Znode, names: bytes) -> None:
        """The znode has these children."""
        if names != znode.names:
            before, now = set(znode.names.split(b'\n')), set(names.split(b'\n'))
            gone = (_child(znode, name) for name in before - now)
            self._forget([self._znodes[path] for path in gone if path in self._znodes])
            znode.names = names
            for path in (_child(znode, name) for name in now - before):
                if len(path) <= MAX_PATH_LENGTH:
                    self._add(path)
                else:
                    log.warning('ZooKeeper: %s... is left out of the tree: its path has more than %d characters',
                                path[:100], MAX_PATH_LENGTH)
        if self._absent:
            listed = {_child(znode, name) for name in names.split(b'\n')[:-1]}
            for other in [other for other in self._absent if other.path in listed]:
                self._watch_again(other)

    def _set(self, znode: _Znode, revision: Optional[Revision]) -> None:
        """The znode has this revision; None if it does not exist."""
        before = self._tree.get(znode.path)
        if revision == before:
            return
        if self._is_shared:
            self._tree, self._is_shared = Tree(self._tree), False
        if before:
            self._digest -= _digest(znode.path, before)
            del self._tree[znode.path]
        if revision:
            self._digest += _digest(znode.path, revision)
            self._tree[znode.path] = revision
        self._schedule()

    def _begin(self, znode: _Znode) -> None:
        """A read begins that the next state has to wait for."""
        self._unread += znode.is_read
        znode.is_read = False

    def _finish(self, znode: _Znode) -> None:
        """The znode has been read, or may not be read."""
        self._unread -= not znode.is_read
        znode.is_read = True
        self._watch_some()
        if not self._is_complete:
            self._schedule()

    def _schedule(self) -> None:
        """Notify the listener soon."""
        if not self._timer and (self._is_complete or not self._unread):
            self._timer = self._loop.call_later(QUIET, self._notify, self._loop.time())

    def _notify(self, since: float) -> None:
        """Call the listener with the state. The first change since the last one was at
        the time `since`."""
        self._timer = None
        if self._unread and (not self._is_complete or self._loop.time() < since + MAX_WAIT):
            if self._is_complete:
                self._timer = self._loop.call_later(QUIET, self._notify, since)
            return
        state = self._state()
        self._is_complete = state is not None and state.revision is not None
        if state and (state.revision or ABSENT) != self._known:
            try:
                self._listener(state)
            except Exception:
                log.exception('ZooKeeper: internal error (please report it)')
                self._timer = self._loop.call_later(RETRY_DELAY, self._notify, since)
            else:
                self._known = state.revision or ABSENT

    def _state(self) -> Optional[ZnodeState]:
        """The tree as it is known; None if its root may not be read and never has
        been."""
        root = self._tree.get(self._root.path)
        if root:
            self._is_shared = True
            return ZnodeState(root._replace(tiebreak=self._digest & _DIGEST), self._tree, self._version)
        return ZnodeState() if self._root in self._absent else None


def _child(parent: _Znode, name: bytes) -> str:
    """The path of a child."""
    return f'{parent.path.rstrip("/")}/{name.decode()}'


def _digest(path: str, revision: Revision) -> int:
    """A znode's part in the digest of its tree, which is the sum of all parts. It is
    the same in every daemon."""
    return hash((crc32(path.encode()), *revision))
