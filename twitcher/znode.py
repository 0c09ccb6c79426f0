"""What is known of a znode at one moment, and what a run is told about it. Data only."""

from __future__ import annotations

import time
from enum import Enum
from typing import NamedTuple, Optional


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


class ZnodeState(NamedTuple):
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


class Update:
    """One state of a znode that some watch has to run for. `arrived` puts it in order with others."""

    __slots__ = ('event', 'contents', 'version', 'stamp', 'arrived')

    def __init__(self, event: Event, contents: bytes, version: int, stamp: Stamp) -> None:
        self.event = event
        self.contents = contents
        self.version = version
        self.stamp = stamp
        self.arrived = time.monotonic()
