"""fleet: many daemons of one kind, as on many machines, watch one znode. Measures the
time from a set until the last has started its command, and their memory in total.

All fleets run at once and take turns. Unlike a hundred machines, the daemons share two
cores, so this measures what a daemon costs from the event to the command rather than
how long a real fleet would take.
"""

from __future__ import annotations

import random
import time
from statistics import median
from typing import Callable, Dict, List, Tuple

from bench import proc
from bench.contender import Contender
from bench.contenders.floor import Floor
from bench.contenders.naive import Naive
from bench.contenders.twitcher import Twitcher
from bench.table import Table, target
from bench.world import Stamps, World

ROUNDS = 30
DAEMONS = 100
WARM_UP = 2
_TARGET = 1.6
_PAUSE = 0.3
_AT_ONCE = 10
"""Daemons that are started at once: starting takes more memory and time than
waiting."""


class _Fleet:
    """Daemons that watch one znode."""

    def __init__(self, world: World, kind: Callable[[], Contender], number: int) -> None:
        self._world = world
        self._znode = f'/{world.new_name()}'
        self._stamps: Stamps = world.stamps()
        self.daemons = [kind() for _ in range(number)]
        world.zookeeper.create([self._znode])

    def start(self) -> None:
        """Start all, and wait until all watch."""
        zookeeper = self._world.zookeeper
        before = zookeeper.watches()
        for index, daemon in enumerate(self.daemons):
            daemon.start(self._world.job(zookeeper, [self._znode], self._stamps))
            if index % _AT_ONCE == 0 or index == len(self.daemons) - 1:
                # The server counts a watch for each client and path.
                self._world.wait_watches(before + index + 1)

    def turn(self) -> float:
        """Set the znode once. Returns the seconds until the last daemon has run its
        command."""
        begin = time.monotonic()
        self._world.zookeeper.put(self._znode, b'x' * 100)
        return max(self._stamps.take(len(self.daemons))) - begin

    def memory(self) -> float:
        """MB of all daemons and the processes that they have started, with shared pages
        divided among those that share them."""
        pids = [daemon.pid for daemon in self.daemons]
        return sum(proc.memory(pid).proportional for pid in pids + [child for pid in pids for child in proc.children(pid)])

    def close(self) -> None:
        """End all."""
        for daemon in self.daemons:
            daemon.stop()
        self._stamps.close()


def run(world: World, rounds: int = ROUNDS, number: int = DAEMONS) -> Table:
    """The benchmark."""
    kinds: List[Tuple[str, Callable[[], Contender]]] = [(Floor.name, Floor), (Naive.name, Naive), ('Twitcher', Twitcher)]
    fleets = {name: _Fleet(world, kind, number) for name, kind in kinds}
    samples: Dict[str, List[float]] = {name: [] for name in fleets}
    try:
        for fleet in fleets.values():
            fleet.start()
        for round_ in range(rounds + WARM_UP):
            for name in random.sample(list(fleets), len(fleets)):
                seconds = fleets[name].turn()
                if round_ >= WARM_UP:
                    samples[name].append(seconds)
                time.sleep(_PAUSE)
        sizes = {name: fleet.memory() for name, fleet in fleets.items()}
    finally:
        for fleet in fleets.values():
            fleet.close()
    table = Table(f'fleet: one set() to the start of the last of {number} commands, {rounds} rounds',
                  ['contender', 'p50 ms', 'of FLOOR', 'target', 'MB in all', 'of FLOOR'])
    for name, values in samples.items():
        ratio = median(values) / median(samples[Floor.name])
        table.rows.append([name, median(values) * 1000, ratio, target(_TARGET, ratio) if name == 'Twitcher' else None,
                           sizes[name], sizes[name] / sizes[Floor.name]])
    return table
