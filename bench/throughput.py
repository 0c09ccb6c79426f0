"""throughput: how many runs a contender can start, what they cost, and how many updates
per second it can take.

Runs: many znodes are set at once, and again when all their commands have started. The
command reports its start, and becomes /bin/true. Updates: one znode is set at a growing
rate for a while; a contender falls behind if its last command starts late.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from bench import proc
from bench.contender import Contender
from bench.contenders.floor import Floor
from bench.contenders.naive import Naive
from bench.contenders.twitcher import Twitcher
from bench.stores import names
from bench.table import Table
from bench.world import Stamps, World

WAVES = 20
WIDTH = 100
RATES = (250, 500, 1_000, 2_000, 4_000)
SECONDS = 1.0
_PAUSE = 0.2
"""Seconds between two turns: time for a contender to finish its work after the start of
its commands."""
LATE = 0.1
"""Seconds from an update to the start of its command that count as falling behind:
thirty times the usual."""


@dataclass
class _Cost:
    """The cost of a number of runs; CPU time in seconds."""

    runs: int
    seconds: float
    own: float
    output: float
    children: float


def run(world: World, waves: int = WAVES, width: int = WIDTH, rates: Sequence[int] = RATES, seconds: float = SECONDS) -> Table:
    """The benchmark."""
    contenders: Dict[str, Contender] = {
        'FLOOR': Floor(), 'NAIVE': Naive(),
        'Twitcher, PARALLEL': Twitcher(extra=', run_mode=PARALLEL'), 'Twitcher, QUEUE': Twitcher()}
    costs = _costs(world, contenders, waves, width)
    floor = costs['FLOOR'].runs / costs['FLOOR'].seconds
    table = Table(f'throughput: {waves} waves of {width} runs of /bin/true; one znode, {seconds:g} s at each rate',
                  ['contender', 'runs/s', 'of FLOOR', 'CPU s per 1,000 runs: daemon', 'twitcher-output', 'children',
                   'updates/s taken'],
                  notes=['FLOOR does not wait for its children, so their time is not known'])
    for name, cost in costs.items():
        per_thousand = 1000 / cost.runs
        table.rows.append([name, cost.runs / cost.seconds, cost.runs / cost.seconds / floor, cost.own * per_thousand,
                           cost.output * per_thousand or None, cost.children * per_thousand or None,
                           _rate(world, contenders[name], rates, seconds)])
    return table


class _Runner:
    """A contender, its znodes, and the cost of its waves."""

    def __init__(self, world: World, contender: Contender, width: int) -> None:
        self.seconds = 0.0
        self.runs = 0
        self._world = world
        self._contender = contender
        self._stamps = world.stamps()
        self._znodes = names(f'/{world.new_name()}', width)
        world.zookeeper.create(self._znodes)

    def start(self) -> None:
        """Start it, and wait until each watch has run once: what only the first run
        does must not count."""
        before = self._world.zookeeper.watches()
        self._contender.start(self._world.job(self._world.zookeeper, self._znodes, self._stamps, then=['/bin/true']))
        self._world.wait_watches(before + len(self._znodes))
        _wave(self._world, self._znodes, self._stamps)
        self._before = self._times()

    def wave(self) -> None:
        """Set all znodes, and wait for their commands."""
        begin = time.monotonic()
        _wave(self._world, self._znodes, self._stamps)
        self.seconds += time.monotonic() - begin
        self.runs += len(self._znodes)

    def cost(self) -> _Cost:
        """The cost of all waves."""
        now, before = self._times(), self._before
        return _Cost(self.runs, self.seconds, *(new - old for new, old in zip(now, before)))

    def _times(self) -> Tuple[float, float, float]:
        pid = self._contender.pid
        proc.wait_until_idle(pid)
        times = proc.times(pid)
        return times.own, _output(pid), times.children

    def close(self) -> None:
        """End the contender."""
        self._contender.stop()
        self._stamps.close()


def _costs(world: World, contenders: Dict[str, Contender], waves: int, width: int) -> Dict[str, _Cost]:
    """Run all contenders at once, in turns."""
    runners = {name: _Runner(world, contender, width) for name, contender in contenders.items()}
    try:
        for runner in runners.values():
            runner.start()
        for _ in range(waves):
            for name in random.sample(list(runners), len(runners)):
                runners[name].wave()
                time.sleep(_PAUSE)
        return {name: runner.cost() for name, runner in runners.items()}
    finally:
        for runner in runners.values():
            runner.close()


def _wave(world: World, znodes: Sequence[str], stamps: Stamps) -> None:
    for answer in [world.zookeeper.client.set_async(znode, b'x' * 100) for znode in znodes]:
        answer.get()
    stamps.take(len(znodes))


def _output(pid: int) -> float:
    """CPU seconds of Twitcher's process for the output of commands."""
    return sum(proc.times(child).own for child in proc.children(pid) if proc.name(child) == 'twitcher-output')


def _rate(world: World, contender: Contender, rates: Sequence[int], seconds: float) -> Optional[str]:
    """The highest rate at which the contender did not fall behind."""
    stamps = world.stamps()
    znode = f'/{world.new_name()}'
    world.zookeeper.create([znode])
    taken = 0
    try:
        before = world.zookeeper.watches()
        contender.start(world.job(world.zookeeper, [znode], stamps))
        world.wait_watches(before + 1)
        world.zookeeper.put(znode, b'0')
        stamps.take(1)
        for rate in rates:
            made, last = _set_at(world, znode, rate, seconds)
            late = max(stamps.rest(0.5), default=last) - last
            if late > LATE:
                return f'{taken:,}'
            taken = made
            if made < 0.9 * rate:
                break
        return f'{taken:,} (the most tried)'
    finally:
        contender.stop()
        stamps.close()


def _set_at(world: World, znode: str, rate: int, seconds: float) -> Tuple[int, float]:
    """Set a znode at a rate. Returns the rate that was reached, and when the last set
    began."""
    answers: List[Any] = []
    begin = last = time.monotonic()
    for number in range(max(1, int(rate * seconds))):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        last = time.monotonic()
        answers.append(world.zookeeper.client.set_async(znode, b'%d' % number))
    for answer in answers:
        answer.get()
    return int(len(answers) / max(seconds, time.monotonic() - begin)), last
