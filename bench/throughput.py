"""throughput: how many runs a contender can start, what they cost, and how many updates it can take.

Runs: many znodes are set at once, and again when all their commands have started. The command says that it runs, and
becomes /bin/true. Updates: one znode is set at a growing rate for a while; a contender falls behind when its last command
starts late.
"""

from __future__ import annotations

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
LATE = 0.1
"""Seconds from an update to the start of its command that are taken for falling behind: thirty times the usual."""


@dataclass
class _Cost:
    """Of a number of runs; CPU in seconds."""

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
    costs = {name: _runs(world, contender, waves, width) for name, contender in contenders.items()}
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


def _runs(world: World, contender: Contender, waves: int, width: int) -> _Cost:
    stamps = world.stamps()
    znodes = names(f'/{world.new_name()}', width)
    world.zookeeper.create(znodes)
    try:
        before = world.zookeeper.watches()
        contender.start(world.job(world.zookeeper, znodes, stamps, then=['/bin/true']))
        world.wait_watches(before + width)
        _wave(world, znodes, stamps)  # what happens at the first run only does not count
        proc.wait_until_idle(contender.pid)
        own, output = proc.times(contender.pid), _output(contender.pid)
        begin = time.monotonic()
        for _ in range(waves):
            _wave(world, znodes, stamps)
        seconds = time.monotonic() - begin
        proc.wait_until_idle(contender.pid)
        now = proc.times(contender.pid)
        return _Cost(waves * width, seconds, now.own - own.own, _output(contender.pid) - output, now.children - own.children)
    finally:
        contender.stop()
        stamps.close()


def _wave(world: World, znodes: Sequence[str], stamps: Stamps) -> None:
    for answer in [world.zookeeper.client.set_async(znode, b'x' * 100) for znode in znodes]:
        answer.get()
    stamps.take(len(znodes))


def _output(pid: int) -> float:
    """CPU seconds of the process that a Twitcher has for what commands print."""
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
    """Set a znode at a rate; the rate that was reached, and when the last one was begun."""
    answers: List[Any] = []
    begin = last = time.monotonic()
    for number in range(max(1, int(rate * seconds))):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        last = time.monotonic()
        answers.append(world.zookeeper.client.set_async(znode, b'%d' % number))
    for answer in answers:
        answer.get()
    return int(len(answers) / max(seconds, time.monotonic() - begin)), last
