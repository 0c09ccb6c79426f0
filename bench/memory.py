"""memory: the memory of an idle daemon, and the time until all its watches are set.

One contender runs at a time, in turns. A watch is set when the server holds it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import Callable, DefaultDict, List, Sequence, Tuple

from bench import proc
from bench.contender import Contender
from bench.contenders.floor import Floor
from bench.contenders.naive import Naive
from bench.contenders.twitcher import Twitcher
from bench.stores import names
from bench.table import Table, target
from bench.world import World, wait_for

ROUNDS = 3
SHAPES = ((1, 1), (1_000, 1), (1_000, 1_000), (10_000, 1), (10_000, 100), (10_000, 10_000))
"""Watches, and the files that they are in."""

_RESIDENT = {1: 24.0, 10_000: 40.0}
_TIME = {10_000: 2.5}


@dataclass(frozen=True)
class Loaded:
    """A contender with its watches."""

    memory: proc.Memory
    seconds: float


def run(world: World, rounds: int = ROUNDS, shapes: Sequence[Tuple[int, int]] = SHAPES) -> Table:
    """The benchmark."""
    znodes = names(f'/{world.new_name()}', max(watches for watches, _ in shapes))
    world.zookeeper.create(znodes)
    samples: DefaultDict[Tuple[int, str, str], List[Loaded]] = defaultdict(list)
    for _ in range(rounds):
        for watches in sorted({watches for watches, _ in shapes}):
            for kind in (Floor, Naive):
                samples[watches, kind.name, ''].append(loaded(world, kind, znodes[:watches]))
            for files in sorted(files for number, files in shapes if number == watches):
                samples[watches, 'Twitcher', f'{files:,}'].append(loaded(world, Twitcher, znodes[:watches], files))
    table = Table(f'memory and load, idle, {rounds} rounds',
                  ['contender', 'watches', 'files', 'RSS MB', 'target', 'private MB', 'of FLOOR', 'threads', 'set after s',
                   'of FLOOR', 'target'])
    for (watches, name, in_files), runs in samples.items():
        floor = samples[watches, Floor.name, '']
        resident, private, seconds = _middle(runs, _resident), _middle(runs, _private), _middle(runs, _seconds)
        ratio = seconds / _middle(floor, _seconds)
        is_ours = name == 'Twitcher'
        table.rows.append([name, f'{watches:,}', in_files, resident,
                           target(_RESIDENT[watches], resident) if is_ours and watches in _RESIDENT else None,
                           private, private / _middle(floor, _private), _middle(runs, lambda run: run.memory.threads), seconds,
                           ratio, target(_TIME[watches], ratio) if is_ours and watches in _TIME else None])
    return table


def loaded(world: World, kind: Callable[[], Contender], znodes: Sequence[str], files: int = 1) -> Loaded:
    """Start a contender, and measure it when all its watches are set and it is idle."""
    contender = kind()
    stamps = world.stamps()
    before = world.zookeeper.watches()
    try:
        job = world.job(world.zookeeper, znodes, stamps, files=files)
        argv = contender.prepare(job)
        begin = time.monotonic()
        contender.launch(argv, job)
        seconds = world.wait_watches(before + len(znodes)) - begin
        proc.wait_until_idle(contender.pid)
        return Loaded(proc.memory(contender.pid), seconds)
    finally:
        contender.stop()
        stamps.close()
        wait_for('the server to forget its watches', lambda: world.zookeeper.watches() <= before)


def _middle(runs: Sequence[Loaded], what: Callable[[Loaded], float]) -> float:
    return median(what(run) for run in runs)


def _resident(run: Loaded) -> float:
    return run.memory.resident


def _private(run: Loaded) -> float:
    return run.memory.private


def _seconds(run: Loaded) -> float:
    return run.seconds
