"""The benchmarks work: each runs, small, and gives a table of ratios. No time is judged here."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest

from bench import fleet, growth, idle, latency, memory, reload, start, throughput
from bench.__main__ import BENCHMARKS, machine, write
from bench.contenders.floor import Floor
from bench.contenders.naive import Naive
from bench.contenders.twitcher import Twitcher, exec_string, function, with_uid
from bench.table import Table, target
from bench.world import World
from tests.support.programs import TOP

SMALL: Dict[Callable[..., Table], Dict[str, Any]] = {
    latency.run: {'rounds': 2, 'many': 20, 'contenders': [
        (Floor(), False), (Naive(), False), (Twitcher(), False), (exec_string(), False), (function(), False),
        (with_uid(), True)]},
    memory.run: {'rounds': 1, 'shapes': [(1, 1), (20, 5)]},
    start.run: {'rounds': 1},
    throughput.run: {'waves': 1, 'width': 5, 'rates': [20], 'seconds': 0.2},
    fleet.run: {'rounds': 1, 'number': 2},
    reload.run: {'rounds': 1, 'files': [1, 5]},
    idle.run: {'seconds': 4, 'watches': 5},  # the sessions' heartbeats are 3.3 s apart
    growth.run: {'watches': [1, 2], 'files': [1, 2], 'rates': [10, 20], 'sizes': [1, 1000], 'concurrent': [1, 2],
                 'seconds': 0.2},
}


@pytest.fixture(scope='module')
def world() -> Iterator[World]:
    """Servers and programs for all of them."""
    here = World()
    yield here
    here.close()


def test_every_benchmark_is_tried_here() -> None:
    assert set(SMALL) == set(BENCHMARKS.values())


@pytest.mark.parametrize('name', BENCHMARKS)
def test_a_benchmark_gives_a_table_of_ratios(world: World, name: str) -> None:
    table = BENCHMARKS[name](world, **SMALL[BENCHMARKS[name]])
    assert len(table.rows) >= 2
    assert table.ratios()
    assert [ratio for ratio in table.ratios() if not (math.isfinite(ratio) and ratio > 0)] == []
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_the_machine_and_the_versions_are_told(world: World) -> None:
    assert [word for word in ('twitcher 2', 'Python 3', 'kazoo 2', 'ZooKeeper 3', 'Linux ') if word not in machine(world)] == []


def test_results_replace_those_of_the_same_benchmark_only(tmp_path: Path) -> None:
    results = tmp_path / 'RESULTS'
    for name, text in (('start', 'first\n'), ('latency', 'kept\n'), ('start', 'second\n')):
        write(results, name, text)
    assert results.read_text().split() == ['==', 'latency', 'kept', '==', 'start', 'second']


def test_a_target_says_whether_it_is_reached() -> None:
    assert [target(1.15, 1.15), target(1.15, 1.2)] == ['<= 1.15 reached', '<= 1.15 MISSED']


def test_an_unknown_benchmark_is_refused() -> None:
    refused = subprocess.run([sys.executable, '-m', 'bench', 'nonsense'], cwd=TOP, capture_output=True, text=True, timeout=60,
                             check=False)
    assert refused.returncode == 2
    assert "'nonsense'" in refused.stderr
