"""One seed: a daemon, faults drawn from it, and the verdict of the checker.

It goes in rounds: some seconds of faults and of writes, then all is healed, and every
watch has to come to rest with the final contents. In the end each znode is written once
more, while nothing runs.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Collection, Dict, List, Optional, Sequence, Set

from tests.chaos.checker import check, check_final, check_output
from tests.chaos.faults import LANES, Fault, draw
from tests.chaos.history import TICKS, History, Reader
from tests.chaos.inject import Injector
from tests.chaos.journal import now
from tests.chaos.world import Features, World
from tests.chaos.writer import AT_RANDOM, Writer
from tests.support.programs import TOP
from tests.support.quorum import Quorum
from tests.support.waiting import PATIENCE

_REST = 1.0
"""Seconds in which nothing happens, after which nothing will."""
_LOOK_AGAIN = 100.0
"""Seconds until a daemon has looked again at a znode that changed while its ACL kept it
out: no event says so."""
_ROUND = (6.0, 14.0)
_SHARES = {'syslog': 0.4, 'symlinks': 0.4, 'acl': 0.3}
"""The share of the seeds that has a feature. ACLs are closed in the first round only:
to recover takes a minute."""
_TOLD = 10
"""Violations of a seed that are told in full."""
_NO_ACL = tuple(lane for lane in LANES if lane != 'acl')


@dataclass(frozen=True)
class Outcome:
    """What came of a seed."""

    seed: int
    seconds: float
    faults: Dict[str, int]
    updates: int
    runs: int
    violations: List[str]

    def lines(self) -> List[str]:
        """The report."""
        faults = ', '.join(f'{kind} {count}' for kind, count in sorted(self.faults.items()))
        about = (f'seed {self.seed}: {self.seconds:.0f} s, {sum(self.faults.values())} faults, {self.updates} updates, '
                 f'{self.runs} runs')
        if not self.violations:
            return [f'faults: {faults}', f'{about}: no violation']
        told = self.violations[:_TOLD]
        more = [f'{about}: and {len(self.violations) - _TOLD} more'] if len(self.violations) > _TOLD else []
        return [f'faults: {faults}', *(f'{about}: VIOLATION {violation}' for violation in told), *more]


def run_chaos(seed: int, seconds: float, directory: Path, quorum: Quorum, top: Path = TOP, patience: float = PATIENCE,
              plan: Optional[List[Fault]] = None, names: Sequence[str] = AT_RANDOM,
              lanes: Collection[str] = LANES, features: Optional[Features] = None) -> Outcome:
    """Run the seed for so long, and longer until it comes to rest, with updates of the
    watches with these names.

    With a plan its faults happen, and no others: it is for one round, and `seconds`
    should be, too. Else those of the lanes. What a seed has that not all have may be
    said. The history is left in the directory.
    """
    random_numbers = random.Random(seed)
    began = time.monotonic()
    has = {what: random_numbers.random() < share for what, share in _SHARES.items()}
    world = World(directory, quorum, top, features or Features(has['syslog'], has['symlinks']))
    faults: Counter[str] = Counter()
    writer = injector = None
    try:
        writer = Writer(world, random.Random(f'{seed} writer'), names)
        injector = Injector(world, writer)
        rest = _Rest(world, writer, patience)
        possible = set(world.lanes) & set(lanes if has['acl'] or len(lanes) < len(LANES) else _NO_ACL)
        world.start_daemon()
        while time.monotonic() - began < seconds:
            length = min(random_numbers.uniform(*_ROUND), seconds)
            injected = draw(random_numbers, length, possible) if plan is None else plan
            writer.go_on()
            _inflict(injector, injected, length)
            faults.update(fault.kind for fault in injected)
            writer.pause()
            rest.come(idle=False)
            possible.discard('acl')
        for name in (*AT_RANDOM, 'guarded'):
            writer.write(name)
        rest.come(idle=True)
        history = rest.history()
        return Outcome(seed, time.monotonic() - began, dict(faults), writer.updates, len(history.runs), check(history))
    finally:
        if injector:
            injector.close()
        if writer:
            writer.close()
        world.close()


def _inflict(injector: Injector, plan: List[Fault], seconds: float) -> None:
    """Let the faults happen, each in its time, for so many seconds."""
    edges = sorted([(fault.begin, 0, fault) for fault in plan] + [(fault.end, 1, fault) for fault in plan],
                   key=lambda edge: edge[:2])
    start = time.monotonic()
    for moment, is_end, fault in edges:
        time.sleep(max(0.0, start + moment - time.monotonic()))
        (injector.end if is_end else injector.begin)(fault)
    time.sleep(max(0.0, start + seconds - time.monotonic()))


class _Rest:
    """Waits until nothing is left to happen."""

    def __init__(self, world: World, writer: Writer, patience: float) -> None:
        self._world = world
        self._writer = writer
        self._patience = patience
        self._reader = Reader(world.directory)

    def history(self) -> History:
        """All that has happened."""
        return self._reader.read()

    def come(self, idle: bool) -> None:
        """Heal all and wait for rest, or until patience has run out; note what is to be
        checked then."""
        world = self._world
        world.heal()
        contents = self._writer.contents()
        began = time.monotonic()
        place, since = world.place(), began
        while True:
            time.sleep(0.2)
            checkpoint = {'contents': contents, 'editions': world.configs.editions, 'place': place, 'idle': idle}
            if world.place() != place:
                place, since = world.place(), time.monotonic()
            elif time.monotonic() - since > _REST:
                pending = self._pending({'kind': 'checkpoint', 'at': now(), **checkpoint})
                may_take = max(self._patience, _LOOK_AGAIN) if pending == {'guarded'} else self._patience
                if not pending or time.monotonic() - began > may_take:
                    break
            elif time.monotonic() - began > self._patience:
                break
        world.journal.note('checkpoint', **checkpoint)

    def _pending(self, checkpoint: Dict[str, object]) -> Set[str]:
        """The watches that have not run with the final contents, or still do, or of
        which not all output is in the log."""
        history = self.history()
        takes_back = {watch['name'] for watch in history.facts('watch') if watch['takes_back']}
        running = {run.watch for run in history.runs
                   if run.end is None and run.watch not in takes_back and _is_running(run.pid, run.started)}
        silent = {'output'} if check_output(history) else set()
        return running | silent | set(check_final(history, checkpoint))


def _is_running(pid: int, started: float) -> bool:
    try:
        fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] != 'Z' and int(fields[19]) == round(started * TICKS)
