"""start: from exec to the first instruction of the first command, which runs on load.
For comparison, also the start of an empty Python program."""

from __future__ import annotations

import subprocess
import time
from typing import Dict, List

from bench.contender import Contender
from bench.contenders.floor import Floor
from bench.contenders.naive import Naive
from bench.contenders.twitcher import Twitcher
from bench.table import Table, medians, target
from bench.world import World

ROUNDS = 40
_EMPTY = 'python3 -c pass'
_WISHED = 5.0


def run(world: World, rounds: int = ROUNDS) -> Table:
    """The benchmark."""
    znode = f'/{world.new_name()}'
    world.zookeeper.create([znode])
    samples: Dict[str, List[float]] = {_EMPTY: [], Floor.name: [], Naive.name: [], 'Twitcher': []}
    for _ in range(rounds):
        samples[_EMPTY].append(_empty(str(world.directory / 'venv' / 'bin' / 'python')))
        for kind, name in ((Floor, Floor.name), (Naive, Naive.name), (Twitcher, 'Twitcher')):
            samples[name].append(_first_action(world, kind(), znode))
    middle = medians(samples)
    table = Table(f'start: exec to the first action on load, {rounds} rounds',
                  ['contender', 'p50 ms', f'of {_EMPTY}', 'of NAIVE', 'target'])
    for name, seconds in middle.items():
        table.rows.append([name, seconds * 1000, seconds / middle[_EMPTY], seconds / middle[Naive.name],
                           f'{target(middle[Naive.name] / middle[_EMPTY], seconds / middle[_EMPTY])} (NAIVE\'s; wished: '
                           f'{_WISHED:g})' if name == 'Twitcher' else None])
    return table


def _empty(python: str) -> float:
    begin = time.monotonic()
    subprocess.run([python, '-c', 'pass'], check=True, cwd='/')
    return time.monotonic() - begin


def _first_action(world: World, contender: Contender, znode: str) -> float:
    stamps = world.stamps()
    try:
        job = world.job(world.zookeeper, [znode], stamps, run_on_load=True)
        argv = contender.prepare(job)
        begin = time.monotonic()
        contender.launch(argv, job)
        return stamps.take(1)[0] - begin
    finally:
        contender.stop()
        stamps.close()
