"""tests/chaos: a daemon, faults drawn from a seed, and the verdict of the checker.

It goes in rounds: some seconds of faults and of writes, then all is healed, and every watch has to come to rest with the
final contents. In the end each znode is written once more, while nothing runs.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple

from tests.chaos_check import History, check, check_final, check_output, read_history
from tests.chaos_faults import Fault, draw
from tests.chaos_world import WATCHES, ShortSessions, World, broken_copy, now
from tests.chaos_writer import Writer
from tests.harness import PATIENCE, TOP
from tests.quorum import Quorum

_REST = 1.0
"""Seconds in which nothing happens, after which nothing will."""
_ROUND = (6.0, 14.0)
_SHORT_PATIENCE = 10.0
"""Seconds, where what is waited for is expected not to come."""

BREAKS: Dict[str, List[Tuple[str, str, str]]] = {
    'final': [('watch.py', '        if self.spec.run_mode is not RunMode.PARALLEL:\n            self._proceed()\n',
               '        return\n')],
    'overlap': [('watch.py', 'if mode is not RunMode.PARALLEL and self.runs:', 'if False:'),
                ('watch.py', 'elif not self.runs:', 'else:')],
    'forgotten': [('daemon.py', 'in state.unfinished():', 'in []:')],
    'needless': [('watch.py', 'if self._seen is None or self._seen == stamp:', 'if self._seen is None:')],
    'reloaded': [('watches.py', '        if watch.spec.is_same(spec, whatever_the_action):', '        if False:')],
    'backwards': [('watch.py', '            self._waiting.clear()\n        self._waiting.append(update)',
                   '            pass\n        self._waiting.append(update)'),
                  ('watch.py', 'update = self._waiting.pop(0)', 'update = self._waiting.pop()')],
    'lost output': [('outputd.py',
                     'list(source.lines.take(chunk) if chunk',
                     'list(list(source.lines.take(chunk))[1:] if chunk')],
    'doubled output': [('outputd.py', 'for line in lines), len', 'for line in lines for _ in range(2)), len')],
    'nameless output': [('outputd.py',
                         'source.pid, source.deadline = str(message.pid),',
                         "source.pid, source.deadline = '?',")],
}
"""Ways to break a guarantee: the module, a text of it, and what to have instead."""


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
        return [f'faults: {faults}', *(f'{about}: VIOLATION {violation}' for violation in self.violations)]


def run_chaos(seed: int, seconds: float, directory: Path, quorum: Quorum, top: Path = TOP, patience: float = PATIENCE,
              plan: Optional[List[Fault]] = None, names: Sequence[str] = tuple(WATCHES)) -> Outcome:
    """Run the seed for so long, and longer until it comes to rest, with updates of the watches with these names.

    With a plan its faults happen, and no others: it is for one round, and `seconds` should be, too.
    The history is left in the directory.
    """
    random_numbers = random.Random(seed)
    began = time.monotonic()
    world = World(directory, quorum, top, has_syslog=random_numbers.random() < 0.4)
    faults: Counter[str] = Counter()
    writer = None
    try:
        writer = Writer(world, random.Random(f'{seed} writer'), names)
        world.start_daemon()
        while time.monotonic() - began < seconds:
            length = min(random_numbers.uniform(*_ROUND), seconds)
            injected = draw(random_numbers, length, world.lanes) if plan is None else plan
            writer.go_on()
            _inflict(world, injected, length)
            faults.update(fault.kind for fault in injected)
            writer.pause()
            _come_to_rest(world, writer, patience, idle=False)
        for name in WATCHES:
            writer.write(name)
        _come_to_rest(world, writer, patience, idle=True)
        history = read_history(directory)
        return Outcome(seed, time.monotonic() - began, dict(faults), writer.updates, len(history.runs), check(history))
    finally:
        if writer:
            writer.close()
        world.close()


def _inflict(world: World, plan: List[Fault], seconds: float) -> None:
    """Let the faults happen, each in its time, for so many seconds."""
    edges = sorted([(fault.begin, 0, fault) for fault in plan] + [(fault.end, 1, fault) for fault in plan],
                   key=lambda edge: edge[:2])
    start = time.monotonic()
    for moment, is_end, fault in edges:
        time.sleep(max(0.0, start + moment - time.monotonic()))
        (world.end if is_end else world.begin)(fault)
    time.sleep(max(0.0, start + seconds - time.monotonic()))


def _come_to_rest(world: World, writer: Writer, patience: float, idle: bool) -> None:
    """Heal all and wait until nothing is left to happen, or patience has run out; note what is to be checked then."""
    world.heal()
    contents = writer.contents()
    limit = time.monotonic() + patience
    place, since = world.place(), time.monotonic()
    while time.monotonic() < limit:
        time.sleep(0.1)
        if world.place() != place:
            place, since = world.place(), time.monotonic()
        elif time.monotonic() - since > _REST and _is_done(read_history(world.directory), contents, place, idle):
            break
    world.journal.note('checkpoint', contents=contents, place=place, idle=idle)


def _is_done(history: History, contents: Dict[str, str], place: int, idle: bool) -> bool:
    """Whether all have run with the final contents, and have ended, and all that they have printed is in the log."""
    final = {'kind': 'checkpoint', 'at': now(), 'contents': contents, 'place': place, 'idle': idle}
    runs = [run for run in history.runs if run.end is None and _is_running(run.pid, run.started)]
    return not runs and not list(check_final(history, final)) and not check_output(history)


def _is_running(pid: int, started: float) -> bool:
    try:
        fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] != 'Z' and int(fields[19]) == round(started * 100)


def main() -> NoReturn:
    """The command. It exits 1 at the first violation, and leaves the history of that seed."""
    parser = argparse.ArgumentParser(prog='tests/chaos', description='Run a daemon among faults, and check its guarantees.')
    parser.add_argument('--seed', type=int, help='what the faults are drawn from; without it one seed follows the other, until '
                                                 'a violation or Ctrl-C')
    parser.add_argument('--seconds', type=float, default=60, help='how long, for each seed (default: %(default)s)')
    parser.add_argument('--keep', type=Path, metavar='DIR', help='keep the history of --seed here, whatever the verdict')
    parser.add_argument('--break', dest='broken', choices=sorted(BREAKS), help='break the daemon, to see it noticed')
    options = parser.parse_args()
    if options.keep and options.seed is None:
        parser.error('--keep goes with --seed')
    logging.getLogger('kazoo').addHandler(logging.NullHandler())  # the writer's troubles are no news here
    logging.getLogger('kazoo').propagate = False
    try:
        for seed in _seeds() if options.seed is None else [options.seed]:
            if not _passes(seed, options):
                sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _seeds() -> Iterator[int]:
    while True:
        yield random.randrange(10 ** 6)


def _passes(seed: int, options: argparse.Namespace) -> bool:
    """Run one seed and tell the verdict."""
    directory = options.keep or Path(tempfile.mkdtemp(prefix='twitcher-chaos.'))
    directory.mkdir(parents=True, exist_ok=True)
    is_worth_keeping = bool(options.keep)
    try:
        outcome = _run_alone(seed, options.seconds, directory, options.broken)
        print('\n'.join(outcome.lines()), flush=True)
        if outcome.violations:
            is_worth_keeping = True
            how = f' --break {options.broken!r}' if options.broken else ''
            print(f'the history is in {directory}\nonce more: ./dev chaos --seed {seed} --seconds {options.seconds:g}{how}')
        return not outcome.violations
    finally:
        if not is_worth_keeping:
            shutil.rmtree(directory)


def _run_alone(seed: int, seconds: float, directory: Path, broken: Optional[str]) -> Outcome:
    quorum = ShortSessions()
    try:
        quorum.start()
        top = broken_copy(directory / 'broken', BREAKS[broken]) if broken else TOP
        return run_chaos(seed, seconds, directory, quorum, top, _SHORT_PATIENCE if broken else PATIENCE)
    finally:
        quorum.remove()
