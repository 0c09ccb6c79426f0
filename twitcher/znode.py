"""What a znode is: the rules for its path, its two sides, its state at one moment, and
the update that a run is for. Data only."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Optional

MAX_PATH_LENGTH = 4096
"""Characters. A request that is larger than the server's jute.maxbuffer would cost every
watch its connection."""


class WatchType(Enum):
    """Which side of a znode is watched."""

    DATA = 'WATCH_DATA'
    CHILDREN = 'WATCH_CHILDREN'


class Stamp(NamedTuple):
    """Tells one state of a znode from every other: two reads with equal stamps found the same.

    For contents `zxid` is the mzxid and `moment` the mtime (which tells a restored or replaced ensemble's znode from its
    namesake where the zxids happen to be equal); for children they are the pzxid and the cversion.
    """

    czxid: int
    zxid: int
    moment: int


UNKNOWN = Stamp(-2, -2, -2)
"""Of a znode that may not even be looked at."""


@dataclass(frozen=True)
class ZnodeState:
    """What a read found: no znode (`stamp` is None), one that may not be read (`contents` is None), or its contents."""

    stamp: Optional[Stamp] = None
    contents: Optional[bytes] = None
    version: int = -1


class Event(Enum):
    """Why a run happens, as TWITCHER_EVENT says it."""

    LOAD = 'load'
    CREATED = 'created'
    CHANGED = 'changed'
    CHILDREN = 'children'


@dataclass(frozen=True)
class Update:
    """One state of a znode that some watch has to run for. `arrived` puts it in order with others."""

    event: Event
    contents: bytes
    version: int
    stamp: Stamp
    arrived: float = field(default_factory=time.monotonic, compare=False)


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
