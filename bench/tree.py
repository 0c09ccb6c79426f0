"""tree: the cost of a WATCH_TREE, and of a watch for each znode: the memory, the time
until everything is watched, and the time from a change to the run.

Each directory has a hundred znodes. One daemon runs at a time, in turns. The server
holds two watches for each znode of a tree: on its contents and on its children.
"""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import median
from typing import Callable, DefaultDict, Dict, List, NamedTuple, Sequence

from bench import proc
from bench.contenders.twitcher import Twitcher
from bench.table import Table
from bench.world import World, wait_for

ROUNDS = 3
SIZES = (1, 5_000, 50_000)
"""Znodes."""

_WIDTH = 100
_CHANGES = 20
_SINGLE = 'a watch for each znode'
_BOTH = 'two for each: contents, children'
_TREE = 'one WATCH_TREE'


class _Measured(NamedTuple):
    memory: proc.Memory
    seconds: float
    latency: float


def run(world: World, rounds: int = ROUNDS, sizes: Sequence[int] = SIZES) -> Table:
    """The benchmark."""
    samples: DefaultDict[int, Dict[str, List[_Measured]]] = defaultdict(lambda: defaultdict(list))
    for size in sizes:
        root = f'/{world.new_name()}'
        directories = [f'{root}/{number:03}' for number in range((size - 1) // (_WIDTH + 1))]
        leaves = [f'{(directories or [root])[number // _WIDTH % max(len(directories), 1)]}/{number:05}'
                  for number in range(size - 1 - len(directories))]
        world.zookeeper.create(leaves or [root])
        znodes = [root, *directories, *leaves]
        for _ in range(rounds):
            samples[size][_SINGLE].append(_measured(world, Twitcher(), znodes, znodes[-1], size))
            both = Twitcher(extra='); RegisterWatch(znode, Exec(COMMAND), run_on_load=False, watch_type=WATCH_CHILDREN')
            samples[size][_BOTH].append(_measured(world, both, znodes, znodes[-1], 2 * size))
            tree = Twitcher(extra=', watch_type=WATCH_TREE')
            samples[size][_TREE].append(_measured(world, tree, [root], znodes[-1], 2 * size))
    table = Table(f'tree: one WATCH_TREE beside single watches, {rounds} rounds',
                  ['watched by', 'znodes', 'RSS MB', 'private MB', 'of single', 'set after s', 'of single', 'change to run ms'])
    for size, kinds in samples.items():
        for name, runs in kinds.items():
            private, seconds = _middle(runs, _private), _middle(runs, _seconds)
            table.rows.append([name, f'{size:,}', _middle(runs, lambda run: run.memory.resident), private,
                               private / _middle(kinds[_SINGLE], _private), seconds,
                               seconds / _middle(kinds[_SINGLE], _seconds), _middle(runs, lambda run: run.latency) * 1000])
    return table


def _measured(world: World, contender: Twitcher, watched: Sequence[str], changed: str, watches: int) -> _Measured:
    stamps = world.stamps()
    before = world.zookeeper.watches()
    try:
        job = world.job(world.zookeeper, watched, stamps)
        argv = contender.prepare(job)
        begin = time.monotonic()
        contender.launch(argv, job)
        seconds = world.wait_watches(before + watches) - begin
        proc.wait_until_idle(contender.pid)
        memory = proc.memory(contender.pid)
        latencies = []
        for number in range(_CHANGES):
            begin = time.monotonic()
            world.zookeeper.put(changed, b'%d' % number)
            latencies.append(stamps.take(1)[0] - begin)
        return _Measured(memory, seconds, median(latencies))
    finally:
        contender.stop()
        stamps.close()
        wait_for('the server to forget its watches', lambda: world.zookeeper.watches() <= before)


def _middle(runs: Sequence[_Measured], what: Callable[[_Measured], float]) -> float:
    return median(what(run) for run in runs)


def _private(run: _Measured) -> float:
    return run.memory.private


def _seconds(run: _Measured) -> float:
    return run.seconds
