"""idle: CPU time and wakeups per hour of a daemon with a thousand watches while nothing
happens.

Each contender has a server of its own, so that the server's packet count is the number
of the contender's heartbeats. All are observed at once for a while; the hour is
extrapolated.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import Callable, Dict, List, NamedTuple, Tuple

from bench import proc
from bench.contender import Contender
from bench.contenders.floor import Floor
from bench.contenders.naive import Naive
from bench.contenders.twitcher import Twitcher
from bench.stores import ZooKeeper, names
from bench.table import Table
from bench.world import World, wait_for

SECONDS = 120.0
WATCHES = 1_000
_HOUR = 3600.0


class _Reading(NamedTuple):
    activity: proc.Activity
    packets: float


def run(world: World, seconds: float = SECONDS, watches: int = WATCHES) -> Table:
    """The benchmark."""
    kinds: List[Tuple[str, Callable[[], Contender]]] = [(Floor.name, Floor), (Naive.name, Naive), ('Twitcher', Twitcher)]
    with ExitStack() as stack:
        pairs: Dict[str, Tuple[Contender, ZooKeeper]] = {}
        for name, kind in kinds:
            server = stack.enter_context(closing(ZooKeeper()))
            stamps = stack.enter_context(closing(world.stamps()))
            znodes = names('/idle', watches)
            server.create(znodes)
            contender = kind()
            stack.callback(contender.stop)
            contender.start(world.job(server, znodes, stamps))
            pairs[name] = contender, server
        for contender, server in pairs.values():
            wait_for('the watches', _has_watches(server, watches))
            server.client.stop()  # its own heartbeats would be counted
            proc.wait_until_idle(contender.pid)
        begin = time.monotonic()
        before = {name: _read(*pair) for name, pair in pairs.items()}
        time.sleep(seconds)
        after = {name: _read(*pair) for name, pair in pairs.items()}
        factor = _HOUR / (time.monotonic() - begin)
    return _table(before, after, factor, seconds, watches)


def _table(before: Dict[str, _Reading], after: Dict[str, _Reading], factor: float, seconds: float, watches: int) -> Table:
    table = Table(f'idle: {watches:,} watches and nothing happening, extrapolated from {seconds:g} s',
                  ['contender', 'CPU s per hour', 'of FLOOR', 'wakeups per hour', 'heartbeats per hour',
                   'wakeups each heartbeat'],
                  notes=['a wakeup is a voluntary context switch of any thread; a heartbeat costs a client at least two: '
                                           'to send it, and to receive the answer'])
    floor = after[Floor.name].activity.seconds - before[Floor.name].activity.seconds
    for name in after:
        cpu = after[name].activity.seconds - before[name].activity.seconds
        wakeups = after[name].activity.wakeups - before[name].activity.wakeups
        beats = after[name].packets - before[name].packets - 1  # the request that counts is counted
        table.rows.append([name, cpu * factor, cpu / floor if floor else None, wakeups * factor, beats * factor,
                           wakeups / beats if beats > 0 else None])
    return table


def _has_watches(server: ZooKeeper, watches: int) -> Callable[[], bool]:
    return lambda: server.watches() >= watches


def _read(contender: Contender, server: ZooKeeper) -> _Reading:
    return _Reading(proc.activity(contender.pid), float(server.facts()['zk_packets_received']))
