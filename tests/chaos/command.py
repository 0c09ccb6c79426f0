"""python -m tests.chaos: run one seed after the other until a guarantee is broken, or a range of
seeds in parallel, and print totals."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import random
import shutil
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Iterator, List, NamedTuple, NoReturn, Optional, Tuple

from tests.chaos.breaks import BREAKS, broken_copy
from tests.chaos.faults import LANES
from tests.chaos.run import Outcome, run_chaos
from tests.chaos.world import ShortSessions
from tests.support.programs import TOP
from tests.support.waiting import PATIENCE

_SHORT_PATIENCE = 10.0
"""Seconds, where what is waited for is expected not to come."""


class _Options(NamedTuple):
    """What is the same for all seeds."""

    seconds: float
    lanes: Tuple[str, ...]
    program: Path
    broken: Optional[str]
    keep: Optional[Path]

    @property
    def arguments(self) -> str:
        """How to say it on the command line."""
        only = f' --only {",".join(lane.replace(" ", "-") for lane in self.lanes)}' if self.lanes != LANES else ''
        program = f' --program {self.program}' if self.program != TOP else ''
        return f'--seconds {self.seconds:g}{only}{program}' + (f' --break {self.broken!r}' if self.broken else '')


def main() -> NoReturn:
    """The command. It exits 1 if there was a violation, and leaves the history of the
    seed."""
    parser = argparse.ArgumentParser(prog='python -m tests.chaos',
                                     description='Run a daemon among faults, and check its guarantees.')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--seed', type=int, help='what the faults are drawn from; without it one seed follows the other, until '
                                                'a violation or Ctrl-C')
    which.add_argument('--seeds', type=_range, metavar='FIRST:COUNT', help='run all of these, and print the totals')
    parser.add_argument('--jobs', type=int, default=1, metavar='N', help='how many of --seeds to run at a time')
    parser.add_argument('--seconds', type=float, default=60, help='how long, for each seed (default: %(default)s)')
    parser.add_argument('--only', type=_lanes, default=LANES, metavar='LANE,...',
                        help=f'these faults only, in every seed: {", ".join(lane.replace(" ", "-") for lane in LANES)}')
    parser.add_argument('--program', type=Path, default=TOP, metavar='DIR', help='run the daemon of another checkout')
    parser.add_argument('--keep', type=Path, metavar='DIR', help='keep the history of --seed here, whatever the verdict')
    parser.add_argument('--break', dest='broken', choices=sorted(BREAKS), help='break the daemon, to see it noticed')
    given = parser.parse_args()
    if given.keep and given.seed is None:
        parser.error('--keep goes with --seed')
    options = _Options(given.seconds, given.only, given.program, given.broken, given.keep)
    try:
        if given.seeds:
            sys.exit(not _run_many(given.seeds, given.jobs, options))
        for seed in _seeds() if given.seed is None else [given.seed]:
            if run_seed(seed, options).violations:
                sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _range(text: str) -> range:
    first, _, count = text.partition(':')
    return range(int(first), int(first) + int(count))


def _lanes(text: str) -> Tuple[str, ...]:
    asked = text.replace('-', ' ').split(',')
    unknown = sorted(set(asked) - set(LANES))
    if unknown:
        raise argparse.ArgumentTypeError(f'there are no faults called {", ".join(unknown)}')
    return tuple(lane for lane in LANES if lane in asked)


def _seeds() -> Iterator[int]:
    while True:
        yield random.randrange(10 ** 6)


def _run_many(seeds: range, jobs: int, options: _Options) -> bool:
    """Run all the seeds and print the totals; whether there was no violation."""
    outcomes: List[Outcome] = []
    failed: List[str] = []
    with ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn')) as pool:
        futures = {pool.submit(run_seed, seed, options): seed for seed in seeds}
        for future in as_completed(futures):
            try:
                outcomes.append(future.result())
            except Exception as error:  # of the harness, not of the daemon: the other seeds are worth having
                failed.append(f'seed {futures[future]}: the harness has failed: {error!r}')
                print(failed[-1], flush=True)
    print('\n'.join(totals(outcomes) + failed))
    return not failed and not any(outcome.violations for outcome in outcomes)


def totals(outcomes: List[Outcome]) -> List[str]:
    """The summary of many seeds."""
    faults: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    for outcome in outcomes:
        faults.update(outcome.faults)
        broken.update(violation.split()[0].rstrip(':') for violation in outcome.violations)
    lines = ['', f'{len(outcomes)} seeds, {sum(outcome.seconds for outcome in outcomes):.0f} s, {sum(faults.values())} faults, '
                 f'{sum(outcome.updates for outcome in outcomes)} updates, {sum(outcome.runs for outcome in outcomes)} runs',
             f'faults: {", ".join(f"{kind} {number}" for kind, number in sorted(faults.items()))}']
    if not broken:
        return [*lines, 'no violation']
    where = sorted(outcome.seed for outcome in outcomes if outcome.violations)
    return [*lines, f'VIOLATIONS: {", ".join(f"{what} {number}" for what, number in sorted(broken.items()))}',
            f'in {len(where)} seeds: {", ".join(map(str, where))}']


def run_seed(seed: int, options: _Options) -> Outcome:
    """Run one seed and print the verdict."""
    logging.getLogger('kazoo').addHandler(logging.NullHandler())  # the writer's troubles are no news here
    logging.getLogger('kazoo').propagate = False
    directory = options.keep or Path(tempfile.mkdtemp(prefix='twitcher-chaos.'))
    directory.mkdir(parents=True, exist_ok=True)
    is_worth_keeping = bool(options.keep)
    try:
        outcome = _run_alone(seed, options, directory)
        lines = outcome.lines()
        if outcome.violations:
            is_worth_keeping = True
            lines += [f'the history is in {directory}', f'once more: ./dev chaos --seed {seed} {options.arguments}']
        print('\n'.join(lines), flush=True)
        return outcome
    finally:
        if not is_worth_keeping:
            shutil.rmtree(directory)


def _run_alone(seed: int, options: _Options, directory: Path) -> Outcome:
    quorum = ShortSessions()
    try:
        quorum.start()
        top, patience = options.program, PATIENCE
        if options.broken:
            top, patience = broken_copy(directory / 'broken', BREAKS[options.broken], top), _SHORT_PATIENCE
        return run_chaos(seed, options.seconds, directory, quorum, top, patience, lanes=options.lanes)
    finally:
        quorum.remove()
