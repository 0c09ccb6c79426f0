"""growth: how Twitcher's costs grow with an amount, step by step.

Growth is linear or better if a cost grows by no more than the amount does. If an amount
is impossible, a note says so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from statistics import median
from typing import Callable, List, Sequence, Tuple

from bench import proc
from bench.contenders.twitcher import Twitcher
from bench.memory import loaded
from bench.stores import names
from bench.table import Table
from bench.world import Missing, World

WATCHES = (1_250, 2_500, 5_000, 10_000, 20_000)
FILES = (1_250, 2_500, 5_000, 10_000)
RATES = (50, 100, 200, 400)
BYTES = (1_000, 10_000, 60_000, 100_000, 500_000, 1_000_000)
CONCURRENT = (32, 64, 128, 256, 512)

_LOADS = 2
_SETS = 30
_SECONDS = 3.0
_PATIENCE = 5.0
_LIFE = 10
"""Seconds that each of the concurrent actions lives: longer than it takes to start them
all."""

Costs = List[Tuple[str, float]]


def run(world: World, watches: Sequence[int] = WATCHES, files: Sequence[int] = FILES, rates: Sequence[int] = RATES,
        sizes: Sequence[int] = BYTES, concurrent: Sequence[int] = CONCURRENT, seconds: float = _SECONDS,
        life: int = _LIFE) -> Table:
    """The benchmark."""
    table = Table('growth', ['amount', 'of', 'cost', 'is', 'of last amount', 'of last cost'])
    znodes = names(f'/{world.new_name()}', max((*watches, *files)))
    world.zookeeper.create(znodes)
    _add(table, 'watches in one file', watches, lambda amount: _load(world, znodes[:amount], 1))
    _add(table, 'files with a watch each', files, lambda amount: _load(world, znodes[:amount], amount))
    _add(table, 'updates per second', rates, lambda amount: _updates(world, amount, seconds))
    _add(table, 'bytes in the znode', sizes, lambda amount: _contents(world, amount))
    _add(table, 'actions at once', concurrent, lambda amount: _concurrent(world, amount, life))
    return table


def _add(table: Table, of: str, amounts: Sequence[int], measure: Callable[[int], Costs]) -> None:
    """Add rows for each cost at each amount, up to the first amount that is
    impossible."""
    last_amount, last = 0, {'': 0.0}
    for amount in amounts:
        try:
            costs = measure(amount)
        except Missing as missing:
            table.notes.append(f'{amount:,} {of}: a limit is reached: {missing}')
            return
        for name, value in costs:
            is_first = not last_amount or not last.get(name)
            table.rows.append([f'{amount:,}', of, name, value, None if is_first else amount / last_amount,
                               None if is_first else value / last[name]])
        last_amount, last = amount, dict(costs)


def _load(world: World, znodes: Sequence[str], files: int) -> Costs:
    results = [loaded(world, Twitcher, znodes, files) for _ in range(_LOADS)]
    return [('s until all are set', min(result.seconds for result in results)),
            ('RSS MB', median(result.memory.resident for result in results))]


class _Daemon:
    """A Twitcher that runs in a with block."""

    def __init__(self, world: World, znodes: int, then: Sequence[str] = ()) -> None:
        self.world = world
        self.stamps = world.stamps()
        self.znodes = names(f'/{world.new_name()}', znodes)
        self._twitcher = Twitcher()
        world.zookeeper.create(self.znodes)
        before = world.zookeeper.watches()
        self._twitcher.start(world.job(world.zookeeper, self.znodes, self.stamps, then=then))
        world.wait_watches(before + znodes)
        self.pid = self._twitcher.pid

    def set_all(self) -> float:
        """Set every znode. Returns when that began."""
        begin = time.monotonic()
        for answer in [self.world.zookeeper.client.set_async(znode, b'x' * 100) for znode in self.znodes]:
            answer.get()
        return begin

    def __enter__(self) -> _Daemon:
        return self

    def __exit__(self, *exception: object) -> None:
        for child in proc.children(self.pid):  # actions that would run for long
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(child) == child:
                    os.killpg(child, signal.SIGKILL)
        self._twitcher.stop()
        self.stamps.close()


def _updates(world: World, rate: int, seconds: float) -> Costs:
    """Updates at that rate for a while, each with a run."""
    with _Daemon(world, 1) as daemon:
        daemon.set_all()
        daemon.stamps.take(1)
        proc.wait_until_idle(daemon.pid)
        before = proc.activity(daemon.pid).seconds
        begin = time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
            world.zookeeper.client.set_async(daemon.znodes[0], b'%d' % number)
        daemon.stamps.rest(0.5)
        return [('CPU s of the daemon per s', (proc.activity(daemon.pid).seconds - before) / seconds)]


def _contents(world: World, size: int) -> Costs:
    with _Daemon(world, 1) as daemon:
        samples = []
        for _ in range(_SETS):
            begin = time.monotonic()
            world.zookeeper.put(daemon.znodes[0], b'x' * size)
            samples.append(daemon.stamps.take(1, _PATIENCE)[0] - begin)
            time.sleep(0.02)
        return [('latency ms', median(samples) * 1000), ('RSS MB', proc.memory(daemon.pid).resident)]


def _concurrent(world: World, number: int, life: int) -> Costs:
    """Runs that are in progress at once, each of another watch."""
    with _Daemon(world, number + 1, then=['/bin/sleep', str(life)]) as daemon:
        world.zookeeper.put(daemon.znodes.pop(), b'x')  # what only the first run does must not count
        daemon.stamps.take(1)
        proc.wait_until_idle(daemon.pid)
        before = proc.memory(daemon.pid).resident
        begin = daemon.set_all()
        seconds = max(daemon.stamps.take(number, min(_PATIENCE, life))) - begin
        grown = proc.memory(daemon.pid).resident - before
        return [('s until all run', seconds), ('more RSS MB', max(grown, 0.01))]
