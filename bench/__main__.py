"""`python -m bench [NAME...]`: measure, print a table for each benchmark, and write
them to bench/RESULTS."""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable, Dict

from bench import fleet, growth, idle, latency, memory, reload, start, throughput
from bench.table import Table
from bench.world import HERE, World
from twitcher import __version__

BENCHMARKS: Dict[str, Callable[..., Table]] = {
    'latency': latency.run, 'memory': memory.run, 'start': start.run, 'throughput': throughput.run, 'fleet': fleet.run,
    'reload': reload.run, 'idle': idle.run, 'growth': growth.run,
}
_WITH_ROUNDS = ('latency', 'memory', 'start', 'fleet', 'reload')
RESULTS = HERE / 'RESULTS'


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog='./dev bench', description=__doc__)
    parser.add_argument('name', nargs='*', help=f'{", ".join(BENCHMARKS)}; default: all')
    parser.add_argument('--rounds', type=int, metavar='N', help=f'for {", ".join(_WITH_ROUNDS)}')
    parser.add_argument('--results', type=Path, metavar='FILE', default=RESULTS,
                        help='where to write the tables, each replacing an earlier one (default: %(default)s)')
    options = parser.parse_args()
    for name in options.name:
        if name not in BENCHMARKS:
            parser.error(f'{name!r}: allowed: {", ".join(BENCHMARKS)}')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # sys.exit, so that everything that was started is ended
    for name in options.name or BENCHMARKS:
        how: Dict[str, Any] = {'rounds': options.rounds} if options.rounds and name in _WITH_ROUNDS else {}
        begin, busy = time.monotonic(), _busy()
        world = World()
        try:
            where = machine(world)
            table = BENCHMARKS[name](world, **how)
        finally:
            world.close()
        seconds = time.monotonic() - begin
        others = max(0.0, _busy() - busy) / seconds / (os.cpu_count() or 1)
        text = f'{table.text()}\n{where}; it took {seconds:.0f} s, and others took {others:.0%} of the CPUs meanwhile\n'
        print(text, flush=True)
        write(options.results, name, text)


def machine(world: World) -> str:
    """The date, the versions and the machine, in one line."""
    memory_mb = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2 ** 20
    model = re.search(r'^model name\s*: (.*)$', Path('/proc/cpuinfo').read_text(), re.MULTILINE)
    return (f'{time.strftime("%Y-%m-%d")}; twitcher {__version__} ({_commit()}), Python {platform.python_version()}, kazoo '
            f'{version("kazoo")}, ZooKeeper {world.zookeeper.facts()["zk_version"].partition("-")[0]}, Linux '
            f'{platform.release()}; {os.cpu_count()} x {model[1] if model else platform.machine()}, {memory_mb:,.0f} MB')


def _busy() -> float:
    """CPU seconds that the machine has spent so far, without this process and the
    children that it has reaped."""
    user, nice, system = (int(ticks) for ticks in Path('/proc/stat').read_text().split()[1:4])
    mine = os.times()
    return (user + nice + system) / os.sysconf('SC_CLK_TCK') - sum(mine[:4])


def _commit() -> str:
    """The commit of the checkout, with a + if it has changes."""
    found = subprocess.run(['git', '-c', 'safe.directory=*', '-C', str(HERE.parent), 'describe', '--always', '--dirty=+'],
                           capture_output=True, text=True, check=False)
    return found.stdout.strip() or 'no git'


def write(path: Path, name: str, text: str) -> None:
    """Replace a benchmark's section in the file of results, and leave the others."""
    old = path.read_text() if path.exists() else ''
    sections = dict(re.findall(r'^== (\w+)\n\n(.*?)\n*(?=^== |\Z)', old, re.MULTILINE | re.DOTALL))
    sections[name] = text.rstrip('\n')
    order = [known for known in BENCHMARKS if known in sections]
    path.write_text('\n\n\n'.join(f'== {known}\n\n{sections[known]}' for known in order) + '\n')


if __name__ == '__main__':
    main()
