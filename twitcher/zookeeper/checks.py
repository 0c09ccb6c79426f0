"""Finds the changes that no event reports.

A server sends no event for a change while an ACL hides the znode from us, and it drops
our watch without a word. So each znode is compared with what we know of it from time to
time: every minute if there are few, otherwise at a bounded rate. Those whose ACL has
been changed, or has kept us out, are checked ten times as fast.
"""

from __future__ import annotations

import asyncio
from typing import Callable, Collection, Dict

from twitcher.zookeeper.node import Node
from twitcher.zookeeper.rotation import Rotation

CHECK_PERIOD = 60.0
"""Seconds between two checks of a znode, if there are few."""

_RATE = 2.0
_SUSPECT_RATE = 20.0
"""Checks a second."""
_STEPS_PER_PERIOD = 6


class Checks:
    """Calls `check` for each of the nodes once in a `period` of seconds, or as often as
    the rate allows."""

    def __init__(self, nodes: Callable[[], Collection[Node]], check: Callable[[Node], None], period: float) -> None:
        self._check = check
        self._interval = period / _STEPS_PER_PERIOD
        self._suspects: Dict[Node, None] = {}
        self._rotations = (Rotation(nodes, period, _RATE), Rotation(lambda: list(self._suspects), period, _SUSPECT_RATE))

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin."""
        self._loop = loop
        loop.call_later(self._interval, self._check_some)

    def suspect(self, node: Node) -> None:
        """Check this one more often from now on."""
        if node.listeners:  # without any, `forget` has been called already
            self._suspects[node] = None

    def forget(self, node: Node) -> None:
        """The node is gone."""
        self._suspects.pop(node, None)

    def _check_some(self) -> None:
        self._loop.call_later(self._interval, self._check_some)
        for rotation in self._rotations:
            for node in rotation.take(self._interval):
                self._check(node)
