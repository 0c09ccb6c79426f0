"""A watch whose config is edited or removed: what its successor takes over, and what nobody runs any more."""

from __future__ import annotations

import signal

import pytest

from tests.support.fake_machine import MODES, FakeMachine, Znode
from twitcher.config.spec import RunMode
from twitcher.errors import SpawnError

QUEUE, DISCARD, PARALLEL = MODES


@pytest.mark.parametrize('mode', MODES)
def test_a_closed_watch_starts_nothing(mode: RunMode) -> None:
    machine, znode = FakeMachine(limit=1), Znode()
    watch, refused = machine.watch(run_mode=mode), machine.watch(run_mode=mode)
    watch.on_state(znode.put('a'))
    watch.on_state(znode.put('b'))
    machine.failures.append(True)
    refused.on_state(znode.state)
    watch.close()
    refused.close()
    watch.on_state(znode.put('c'))
    machine.wait(100)
    machine.end_all()
    assert machine.started == ['a']


@pytest.mark.parametrize('first', MODES)
@pytest.mark.parametrize('second', [QUEUE, DISCARD])
@pytest.mark.parametrize('run_on_load', [True, False])
def test_a_successor_never_overlaps_with_what_its_predecessor_started(first: RunMode, second: RunMode,
                                                                      run_on_load: bool) -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_mode=first)
    watch.on_state(znode.put('a'))
    watch = machine.successor(watch, run_mode=second, run_on_load=run_on_load)
    watch.on_state(znode.state)
    watch.on_state(znode.put('b'))
    assert machine.started == ['a']
    machine.end_all()
    # In DISCARD mode an update is forgotten, but not the load of the file, which runs with the newest contents.
    assert machine.started == (['a', 'b'] if second is QUEUE or run_on_load else ['a'])
    assert machine.most_at_once == 1


def test_a_successor_runs_what_waited_for_its_predecessor() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch()
    watch.on_state(znode.put('a'))
    watch.on_state(znode.put('b'))
    watch = machine.successor(watch, run_on_load=False)
    watch.on_state(znode.state)
    machine.end_all()
    assert machine.started == ['a', 'b']


def test_an_update_that_a_load_was_to_see_is_not_lost_to_a_second_edit() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch()
    watch.on_state(znode.put('a'))
    watch.on_state(znode.put('b'))
    watch = machine.successor(watch)
    watch = machine.successor(watch, run_on_load=False)
    watch.on_state(znode.state)
    machine.end_all()
    assert machine.started == ['a', 'b']


def test_a_successor_does_not_run_for_what_its_predecessor_has_seen() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch()
    watch.on_state(znode.put('a'))
    machine.end_all()
    watch = machine.successor(watch, run_on_load=False)
    watch.on_state(znode.state)
    assert machine.started == ['a']
    watch.on_state(znode.put('b'))
    assert machine.started == ['a', 'b']


def test_a_queueing_successor_runs_once_for_all_that_waited_for_a_parallel_one() -> None:
    machine, znode = FakeMachine(limit=1), Znode()
    watch = machine.watch(run_mode=PARALLEL)
    for contents in ('a', 'b', 'c', 'd'):
        watch.on_state(znode.put(contents))
    watch = machine.successor(watch, run_mode=QUEUE, run_on_load=False)
    watch.on_state(znode.state)
    machine.end_all()
    assert machine.started == ['a', 'd']


def test_a_parallel_successor_runs_all_that_waited_in_order() -> None:
    machine, znode = FakeMachine(limit=1), Znode()
    watch = machine.watch(run_mode=PARALLEL)
    for contents in ('a', 'b', 'c'):
        watch.on_state(znode.put(contents))
    watch = machine.successor(watch, run_mode=PARALLEL, run_on_load=False)
    watch.on_state(znode.put('d'))
    assert machine.started == ['a']
    machine.end_all()
    assert machine.started == ['a', 'b', 'c', 'd']
    assert machine.most_at_once == 1


def test_a_refused_start_is_not_lost_to_a_successor() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch()
    machine.failures.append(True)
    watch.on_state(znode.put('a'))
    watch = machine.successor(watch, run_on_load=False)
    watch.on_state(znode.state)
    machine.wait(1)
    assert machine.started == ['a']


@pytest.mark.parametrize('mode', [QUEUE, PARALLEL])
def test_a_start_that_fails_while_its_watch_is_gone_is_made_when_it_comes_back(mode: RunMode) -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_mode=mode, run_on_load=False)
    watch.on_state(znode.put('a'))
    watch.on_state(znode.put('b'))
    watch.close()
    machine.runs[0].end(SpawnError('no run: the test says so', transient=True))
    again = machine.watch(run_mode=mode, run_on_load=False)
    again.continue_from(watch)
    again.on_state(znode.state)
    machine.end_all()
    assert machine.started == ['b', 'b']


def test_what_a_successor_is_left_to_run_for_is_noted_while_it_waits() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch()
    watch.on_state(znode.put('a'))
    watch.close()
    machine.runs[0].end(SpawnError('no run: the test says so', transient=True))
    again = machine.watch(run_on_load=False)
    machine.failures.append(True)
    again.continue_from(watch)
    assert machine.saved_pending[-1] == znode.state.revision


def test_a_run_that_cannot_start_is_not_run_for_by_a_watch_that_only_waited_for_it() -> None:
    machine, znode = FakeMachine(), Znode()
    gone, other = machine.watch(), machine.watch(run_on_load=False)
    gone.on_state(znode.put('a'))
    gone.close()
    other.wait_for(gone.runs)
    other.on_state(znode.state)
    machine.runs[0].end(SpawnError('no run: the test says so', transient=True))
    machine.wait(1)
    assert machine.started == ['a']


def test_a_discarding_watch_discards_no_update_for_a_run_that_it_only_waits_for() -> None:
    machine, znode = FakeMachine(), Znode()
    gone, other = machine.watch(), machine.watch(run_mode=DISCARD, run_on_load=False)
    gone.on_state(znode.put('a'))
    gone.close()
    other.wait_for(gone.runs)
    other.on_state(znode.state)
    other.on_state(znode.put('b'))
    update = machine.runs[0].update
    assert update and update.contents == b'a'
    machine.end_all()
    assert machine.started == ['a', 'b']


def test_a_signal_for_an_update_goes_to_no_run_that_is_only_waited_for() -> None:
    machine, znode = FakeMachine(), Znode()
    gone, other = machine.watch(), machine.watch(run_on_load=False, notify_signal='USR1')
    gone.on_state(znode.put('a'))
    gone.close()
    other.wait_for(gone.runs)
    other.on_state(znode.state)
    other.on_state(znode.put('b'))
    assert machine.runs[0].signals == []
    machine.end_all()
    assert machine.started == ['a', 'b']


def test_runs_of_a_removed_watch_that_comes_back_do_not_overlap_with_its_own() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch()
    watch.on_state(znode.put('a'))
    watch.close()
    again = machine.watch(notify_signal='USR1')
    again.take_over(watch.runs)
    again.on_state(znode.state)
    assert machine.started == ['a']
    assert machine.runs[0].signals == [signal.SIGUSR1]
    machine.end_all()
    assert machine.started == ['a', 'a']
