"""Znodes: the rules for a path, the two sides of a znode, its state at one moment, and
the update that a run is for. Data only."""

from __future__ import annotations

import time
from enum import Enum
from typing import Dict, NamedTuple, Optional, Union

MAX_PATH_LENGTH = 4096
"""Characters. A request that is larger than the server's jute.maxbuffer would cost
every watch its connection."""


class WatchType(Enum):
    """Which side of a znode is watched, or that everything below it is watched, too."""

    DATA = 'WATCH_DATA'
    CHILDREN = 'WATCH_CHILDREN'
    TREE = 'WATCH_TREE'


class Revision(NamedTuple):
    """Tells one state of a znode from every other: two reads with equal revisions found
    the same.

    For contents `zxid` is the mzxid, and `tiebreak` the mtime, which tells the znode of
    a restored or replaced ensemble from its namesake if their zxids happen to be equal.
    For children they are the pzxid and the cversion. For a tree they are the mzxid of
    its root and a digest of all paths and revisions.
    """

    czxid: int
    zxid: int
    tiebreak: int


ABSENT = Revision(-1, -1, -1)
"""No znode."""
UNREADABLE = Revision(-3, -3, -3)
"""An ACL keeps us from asking whether the znode exists."""
UNKNOWN = Revision(-2, -2, -2)
"""The revision of a pending update that is not known: any state of the znode calls for
a run."""


class Tree(Dict[str, Revision]):
    """The znodes of a tree at one moment, by path. Do not change one."""


class LastStarted:
    """The tree for which the last run of a watch was started; empty at first.

    `updates` is the number of updates so far, and `number` that of the one that was
    run.
    """

    __slots__ = ('tree', 'number', 'updates', '_before')

    def __init__(self) -> None:
        self.tree = self._before = Tree()
        self.number = self.updates = 0

    def note_started(self, tree: Tree, number: int) -> None:
        """A run has started for this tree."""
        self._before, self.tree, self.number = self.tree, tree, number

    def withdraw(self) -> None:
        """The last run does not count: the next one gets its lines again."""
        self.tree, self.number = self._before, 0


class TreeChanges:
    """What has changed in a tree since the last run of a watch that was started.

    The trees are compared when a run starts, not when its update arrives: no line is
    lost with an update that is replaced or dropped, or whose run cannot be started.
    """

    __slots__ = ('_tree', '_number', '_last')

    def __init__(self, tree: Tree, last: LastStarted) -> None:
        last.updates += 1
        self._tree = tree
        self._number = last.updates
        self._last = last

    def __len__(self) -> int:
        """About how many bytes the tree takes."""
        return _NODE_SIZE * len(self._tree)

    def lines(self) -> bytes:
        """`created`, `changed` or `deleted`, a tab, and the path, for each znode that
        differs. Sorted by path, so that each comes after its parent."""
        if self._number <= self._last.number:  # this update, or a later one, has had its run already
            return b''
        before, now = self._last.tree, self._tree
        changes = {path: 'deleted' for path in before if path not in now}
        for path, revision in now.items():
            old = before.get(path)
            if old != revision:
                changes[path] = 'changed' if old and old.czxid == revision.czxid else 'created'
        return ''.join(f'{changes[path]}\t{path}\n' for path in sorted(changes)).encode()

    def note_started(self) -> None:
        """The process of the run with these changes exists."""
        if self._number > self._last.number:
            self._last.note_started(self._tree, self._number)


Contents = Union[bytes, TreeChanges]

_NODE_SIZE = 100
"""Bytes that each znode of a tree takes, for the limit of what may be pending."""


class ZnodeState(NamedTuple):
    """The result of a read: no znode (`revision` is None), one that we may not read
    (`contents` is None), or its contents."""

    revision: Optional[Revision] = None
    contents: Union[bytes, Tree, None] = None
    version: int = -1


class Event(Enum):
    """The cause of a run; the value of TWITCHER_EVENT."""

    LOAD = 'load'
    CREATED = 'created'
    CHANGED = 'changed'
    CHILDREN = 'children'
    DELETED = 'deleted'
    REPEAT = 'repeat'


class Update:
    """A state of a znode that calls for a run.

    `arrived` orders updates by the time of their arrival. `attempt` is 1 for the first
    run and counts up in retries.
    """

    __slots__ = ('event', 'contents', 'version', 'revision', 'arrived', 'attempt')

    def __init__(self, event: Event, contents: Contents, version: int, revision: Revision, attempt: int = 1) -> None:
        self.event = event
        self.contents = contents
        self.version = version
        self.revision = revision
        self.arrived = time.monotonic()
        self.attempt = attempt

    def stdin(self) -> bytes:
        """What a run that starts now gets on stdin."""
        return self.contents if isinstance(self.contents, bytes) else self.contents.lines()

    def note_started(self) -> None:
        """The process of its run exists."""
        if isinstance(self.contents, TreeChanges):
            self.contents.note_started()

    def again(self, event: Event, attempt: int = 1) -> Update:
        """Another update with the same contents."""
        return Update(event, self.contents, self.version, self.revision, attempt)


def znode_fault(path: str) -> Optional[str]:
    """Why the path cannot name a znode, or None.

    The rules are ZooKeeper's own: its programmer's guide, "data model".
    """
    if len(path) > MAX_PATH_LENGTH:
        return f'it has more than {MAX_PATH_LENGTH} characters'
    if not path.startswith('/'):
        return 'it does not begin with /'
    if path != '/' and path.endswith('/'):
        return 'it ends with /'
    if any(part in ('.', '..') for part in path.split('/')) or '//' in path:
        return 'it has an empty part, or one that is . or ..'
    if any(ord(char) < 0x20 or 0x7f <= ord(char) <= 0x9f or 0xd800 <= ord(char) <= 0xf8ff or ord(char) >= 0xfff0
           for char in path):
        return 'it has a character that no znode may have'
    return None
