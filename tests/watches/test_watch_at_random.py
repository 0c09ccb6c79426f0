"""A watch that anything may happen to, in any order: what holds all the same."""

from __future__ import annotations

from typing import List

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fake_machine import MODES, FakeMachine, Znode
from twitcher.config.spec import RunMode

QUEUE, DISCARD, PARALLEL = MODES

STEPS = st.lists(st.sampled_from(['put', 'put', 'put', 'tell', 'delete', 'hide', 'end', 'end the last', 'wait', 'refuse',
                                  'edit']), max_size=60)


def play(machine: FakeMachine, steps: List[str], mode: RunMode, run_on_load: bool) -> List[str]:
    """Let things happen to a watch, then let all come to rest. Returns the contents that it was told of, in order."""
    znode, told = Znode(), []
    watch = machine.watch(run_mode=mode, run_on_load=run_on_load)
    watch.on_state(znode.state)
    for number, step in enumerate(steps):
        if step == 'put':
            told.append(str(number))
            watch.on_state(znode.put(told[-1]))
        elif step == 'tell':
            watch.on_state(znode.state)
        elif step == 'delete':
            watch.on_state(znode.delete())
        elif step == 'hide':
            watch.on_state(znode.hidden())
        elif step.startswith('end') and machine.active:
            machine.active[-1 if step == 'end the last' else 0].end()
        elif step == 'wait':
            machine.wait(0.7)
        elif step == 'refuse':
            machine.failures.append(True)
        elif step == 'edit':
            watch = machine.successor(watch, run_mode=mode, run_on_load=run_on_load)
            watch.on_state(znode.state)
    watch.on_state(znode.state)
    for _ in range(2 * len(steps) + 2):
        machine.wait(1)
        machine.end_all()
    assert machine.saved_pending[-1:] in ([], [None])
    assert all(revision != following for revision, following in zip(machine.saved_pending, machine.saved_pending[1:]))
    return told


@settings(max_examples=300, deadline=None, database=None)
@given(STEPS, st.booleans())
def test_in_queue_mode_runs_never_overlap_and_the_last_one_has_the_latest_contents(steps: List[str], run_on_load: bool) -> None:
    machine = FakeMachine()
    told = play(machine, steps, QUEUE, run_on_load)
    assert machine.most_at_once <= 1
    assert machine.started == sorted(machine.started, key=int)
    was_deleted = max((number for number, step in enumerate(steps) if step == 'delete'), default=-1) > int((told or ['-1'])[-1])
    if not was_deleted:
        assert machine.started[-1:] == told[-1:]
    if not run_on_load or 'edit' not in steps:
        assert len(machine.started) <= len(told)


@settings(max_examples=300, deadline=None, database=None)
@given(STEPS, st.booleans())
def test_in_discard_mode_runs_never_overlap(steps: List[str], run_on_load: bool) -> None:
    machine = FakeMachine()
    told = play(machine, steps, DISCARD, run_on_load)
    assert machine.most_at_once <= 1
    assert set(machine.started) <= set(told)


@settings(max_examples=300, deadline=None, database=None)
@given(STEPS, st.integers(1, 4))
def test_in_parallel_mode_each_state_runs_once_in_order_within_the_limit(steps: List[str], limit: int) -> None:
    machine = FakeMachine(limit)
    told = play(machine, steps, PARALLEL, run_on_load=False)
    assert machine.started == told
    assert machine.most_at_once <= limit
