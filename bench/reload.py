"""reload: the time from the rename of a file into the configuration directory to its
watch's run on load, with few and with many files; and how long SIGHUP keeps a daemon
with many unchanged files busy.

The daemon does not log when it has reread its files. So the benchmark makes an update
as soon as the log shows the signal: its run starts when the files have been read.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from statistics import median
from typing import List, Optional, Sequence

from bench import proc
from bench.contenders.twitcher import Twitcher
from bench.stores import names
from bench.table import Table
from bench.world import World

ROUNDS = 20
FILES = (1, 10_000)


class _Daemon:
    """A daemon with one file for each watch."""

    def __init__(self, world: World, files: int) -> None:
        self.files = files
        self.edits: List[float] = []
        self.signals: List[float] = []
        self._world = world
        self._stamps = world.stamps()
        self._twitcher = Twitcher()
        self._root = f'/{world.new_name()}'
        self._znodes = names(self._root, files)
        self._configs: Optional[Path] = None

    def start(self) -> None:
        """Start it, and wait until all watches are set."""
        zookeeper = self._world.zookeeper
        zookeeper.create(self._znodes)
        before = zookeeper.watches()
        job = self._world.job(zookeeper, self._znodes, self._stamps, files=self.files)
        self._configs, self._command = job.directory / 'etc', job.command
        self._twitcher.start(job)
        self._world.wait_watches(before + self.files)
        proc.wait_until_idle(self._twitcher.pid)

    def edit(self, number: int) -> None:
        """Add a file, and note how long its run takes to start."""
        assert self._configs
        znode = f'{self._root}/new-{number}'
        self._world.zookeeper.create([znode])
        begin = time.monotonic()
        self._twitcher.write_config(self._configs / f'new-{number}.twc', [znode], self._command, run_on_load=True)
        self.edits.append(self._stamps.take(1)[0] - begin)
        proc.wait_until_idle(self._twitcher.pid, quiet=0.1)

    def reread(self) -> None:
        """Send SIGHUP, and note how long the next run takes to start."""
        seen = len(self._world.syslog.records)
        begin = time.monotonic()
        os.kill(self._twitcher.pid, signal.SIGHUP)
        self._world.syslog.wait(rf'\[{self._twitcher.pid}\]: SIGHUP', after=seen)
        self._world.zookeeper.put(self._znodes[0], b'again')
        self.signals.append(self._stamps.take(1)[0] - begin)
        proc.wait_until_idle(self._twitcher.pid, quiet=0.1)

    def close(self) -> None:
        """Stop the daemon."""
        self._twitcher.stop()
        self._stamps.close()


def run(world: World, rounds: int = ROUNDS, files: Sequence[int] = FILES) -> Table:
    """The benchmark."""
    daemons = [_Daemon(world, number) for number in files]
    try:
        for daemon in daemons:
            daemon.start()
        for number in range(rounds):
            for daemon in daemons:
                daemon.edit(number)
                daemon.reread()
    finally:
        for daemon in daemons:
            daemon.close()
    first = daemons[0]
    fewest = f'of {first.files:,}'
    table = Table(f'reload, {rounds} rounds', ['files', 'new file to its run ms', fewest, 'SIGHUP to next run ms', fewest])
    for daemon in daemons:
        table.rows.append([f'{daemon.files:,}', median(daemon.edits) * 1000, median(daemon.edits) / median(first.edits),
                           median(daemon.signals) * 1000, median(daemon.signals) / median(first.signals)])
    return table
