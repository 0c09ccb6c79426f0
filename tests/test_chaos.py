"""The fault harness at work: seeds of some seconds each without a violation, and each guarantee broken and noticed.

`tests/chaos` runs as many seeds as one likes, as long as one likes.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.chaos_faults import ALL, LANES, Fault, draw
from tests.chaos_run import BREAKS, run_chaos
from tests.chaos_world import ShortSessions, broken_copy
from tests.quorum import Quorum


@pytest.fixture(scope='module')
def quorum() -> Iterator[Quorum]:
    """An ensemble for all tests of this file."""
    ensemble = ShortSessions()
    try:
        ensemble.start()
        yield ensemble
    finally:
        ensemble.remove()


@pytest.mark.parametrize('seed', [1, 2])
def test_no_fault_breaks_a_guarantee(seed: int, tmp_path: Path, quorum: Quorum) -> None:
    outcome = run_chaos(seed, 8, tmp_path, quorum)
    assert outcome.violations == []
    assert outcome.updates > 20 and outcome.runs > 20
    assert sum(outcome.faults.values()) > 3


@pytest.mark.parametrize('name, kinds, violation', [
    ('final', [], 'G1 '),
    ('overlap', [], 'G2 '),
    ('forgotten', ['daemon killed'], 'G2 '),
    ('needless', ['cut'], 'G3 '),
    ('reloaded', ['SIGHUP', 'config rewritten'], 'G3 '),
    ('backwards', [], 'backwards '),
    ('lost output', [], 'G6 '),
    ('doubled output', [], 'G6 '),
    ('nameless output', [], 'G6 '),
])
def test_a_broken_guarantee_is_noticed(name: str, kinds: List[str], violation: str, tmp_path: Path, quorum: Quorum) -> None:
    top = broken_copy(tmp_path / 'broken', BREAKS[name])
    busy = 'q-quick' if name == 'reloaded' else 'q-slow'  # a load that waits for a run may become one with a change
    plan = [Fault(kind, moment, moment + 0.1, ALL, 0) for kind in kinds for moment in (3.0, 4.5)]
    found: List[str] = []
    for seed in (1, 2, 3, 4):  # a break shows if an update comes in the right moment, which a busy machine may shift
        (tmp_path / str(seed)).mkdir()
        found += run_chaos(seed, 5, tmp_path / str(seed), quorum, top, patience=2, plan=plan, names=[busy]).violations
        if any(line.startswith(violation) for line in found):
            return
    raise AssertionError(f'none of {found} is {violation}')


def test_a_break_that_no_longer_fits_the_code_fails_loudly(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match='the break must be adapted'):
        broken_copy(tmp_path, [('watch.py', 'a text that is not there', '')])


def test_a_seed_always_draws_the_same_faults() -> None:
    first, again, other = (draw(random.Random(seed), 30) for seed in (5, 5, 6))
    assert first == again != other
    assert all(0 < fault.begin <= fault.end <= 30 and fault.target in (ALL, 0, 1, 2) for fault in first)


def test_faults_that_are_not_possible_leave_the_others_as_they_are() -> None:
    every = draw(random.Random(5), 60)
    fewer = draw(random.Random(5), 60, tuple(lane for lane in LANES if lane not in ('disk', 'syslog')))
    assert fewer == [fault for fault in every if fault.kind not in ('disk full', 'syslog away')]
