"""latency: from just before set() to the first instruction of the command.

All contenders run at once, each with a znode of its own, and take turns, in a random
order in each round.
"""

from __future__ import annotations

import random
import time
from statistics import quantiles
from typing import Dict, List, Optional, Sequence, Tuple

from bench.contender import Contender
from bench.contenders.etcd import Etcdctl
from bench.contenders.floor import Floor
from bench.contenders.naive import Naive
from bench.contenders.twitcher import Twitcher, exec_string, function, with_uid
from bench.stores import Store, names
from bench.table import Table, medians, target
from bench.world import Missing, Stamps, World, fit

ROUNDS = 300
WARM_UP = 20
MANY = 10_000
PAUSE = 0.01
"""Seconds between two turns: time for a contender to finish its work after the start of
the command."""

TARGETS = {'Twitcher, Exec list': 1.15, 'Twitcher, uid=': 1.6, 'Twitcher, uid=, 10,000 watches': 1.6}


class _Lane:
    """A contender at work on its znode."""

    def __init__(self, world: World, contender: Contender, watches: int) -> None:
        self.contender = contender
        self._store: Store = world.store(contender.store)
        self._stamps: Stamps = world.stamps()
        znodes = names(f'/{world.new_name()}', watches)
        self._znode = znodes[0]
        self._store.create(znodes)
        contender.start(world.job(self._store, znodes, self._stamps))

    def wait_until_ready(self) -> None:
        """Set the znode until the command runs."""
        for _ in range(600):
            self._store.put(self._znode, b'ready?')
            try:
                self._stamps.take(1, 0.2)
                self._stamps.rest(0.2)
                return
            except Missing:
                continue
        raise Missing(f'{self.contender.name}: no command ran')

    def turn(self, contents: bytes) -> float:
        """The seconds that one update takes."""
        begin = time.monotonic()
        self._store.put(self._znode, contents)
        return self._stamps.take(1)[0] - begin

    def close(self) -> None:
        """End the contender."""
        self.contender.stop()
        self._stamps.close()


def all_contenders() -> List[Tuple[Contender, bool]]:
    """All contenders; with each, whether it has many more watches than the one."""
    return [(Floor(), False), (Naive(), False), (Twitcher(), False), (exec_string(), False), (function(), False),
            (with_uid(), False), (with_uid('uid=, 10,000 watches'), True), (Etcdctl(), False)]


def run(world: World, rounds: int = ROUNDS, contenders: Optional[Sequence[Tuple[Contender, bool]]] = None,
        contents: bytes = b'x' * 100, many: int = MANY) -> Table:
    """The benchmark."""
    chosen = all_contenders() if contenders is None else contenders
    able, notes = fit([contender for contender, _ in chosen])
    lanes: List[_Lane] = []
    samples: Dict[str, List[float]] = {contender.name: [] for contender in able}
    try:
        for contender, has_many in chosen:
            if contender in able:
                lanes.append(_Lane(world, contender, many if has_many else 1))
        for lane in lanes:
            lane.wait_until_ready()
        for number in range(rounds + min(rounds, WARM_UP)):
            for lane in random.sample(lanes, len(lanes)):
                seconds = lane.turn(contents)
                if number >= min(rounds, WARM_UP):
                    samples[lane.contender.name].append(seconds)
                time.sleep(PAUSE)
    finally:
        for lane in lanes:
            lane.close()
    return _table(samples, rounds, notes)


def _table(samples: Dict[str, List[float]], rounds: int, notes: List[str]) -> Table:
    table = Table(f'latency: set() to the first instruction of the command, {rounds} rounds',
                  ['contender', 'p50 ms', 'p90 ms', 'of FLOOR', 'target'], notes=notes)
    middle = medians(samples)
    for name, values in samples.items():
        ratio = middle[name] / middle['FLOOR']
        tenth = quantiles(values, n=10)[-1] if len(values) > 1 else values[0]
        table.rows.append([name, middle[name] * 1000, tenth * 1000, ratio,
                           target(TARGETS[name], ratio) if name in TARGETS else None])
    return table
