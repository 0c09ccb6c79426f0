"""Znodes: the rules for a path, the two sides of a znode, its state at one moment, and
the update that a run is for. Data only."""

from __future__ import annotations

import time
from enum import Enum
from typing import NamedTuple, Optional

MAX_PATH_LENGTH = 4096
"""Characters. A request that is larger than the server's jute.maxbuffer would cost
every watch its connection."""


class WatchType(Enum):
    """Which side of a znode is watched."""

    DATA = 'WATCH_DATA'
    CHILDREN = 'WATCH_CHILDREN'
    TREE = 'WATCH_TREE'


class Revision(NamedTuple):
    """Tells one state of a znode from every other: two reads with equal revisions found
    the same.

    For contents `zxid` is the mzxid, and `tiebreak` the mtime, which tells the znode of
    a restored or replaced ensemble from its namesake if their zxids happen to be equal.
    For children they are the pzxid and the cversion.
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


class ZnodeState(NamedTuple):
    """The result of a read: no znode (`revision` is None), one that we may not read
    (`contents` is None), or its contents."""

    revision: Optional[Revision] = None
    contents: Optional[bytes] = None
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
    """A state of a znode that a watch has to run for.

    `arrived` orders updates by the time of their arrival. `attempt` is 1 for the first
    run, and counts up in retries.
    """

    __slots__ = ('event', 'contents', 'version', 'revision', 'arrived', 'attempt')

    def __init__(self, event: Event, contents: bytes, version: int, revision: Revision, attempt: int = 1) -> None:
        self.event = event
        self.contents = contents
        self.version = version
        self.revision = revision
        self.arrived = time.monotonic()
        self.attempt = attempt

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
