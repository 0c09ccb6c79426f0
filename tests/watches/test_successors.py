"""A watch whose config is edited or removed: what its successor takes over, and what nobody runs any more."""

from __future__ import annotations

import signal

import pytest

from tests.support.fake_machine import MODES, Bench, Znode
from twitcher.config.spec import RunMode
from twitcher.errors import SpawnError

QUEUE, DISCARD, PARALLEL = MODES


@pytest.mark.parametrize('mode', MODES)
def test_a_closed_watch_starts_nothing(mode: RunMode) -> None:
    bench, znode = Bench(limit=1), Znode()
    watch, refused = bench.watch(run_mode=mode), bench.watch(run_mode=mode)
    watch.on_state(znode.put('a'))
    watch.on_state(znode.put('b'))
    bench.failures.append(True)
    refused.on_state(znode.state)
    watch.close()
    refused.close()
    watch.on_state(znode.put('c'))
    bench.wait(100)
    bench.end_all()
    assert bench.started == ['a']


@pytest.mark.parametrize('first', MODES)
@pytest.mark.parametrize('second', [QUEUE, DISCARD])
@pytest.mark.parametrize('run_on_load', [True, False])
def test_a_successor_never_overlaps_with_what_its_predecessor_started(first: RunMode, second: RunMode,
                                                                      run_on_load: bool) -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch(run_mode=first)
    watch.on_state(znode.put('a'))
    watch = bench.successor(watch, run_mode=second, run_on_load=run_on_load)
    watch.on_state(znode.state)
    watch.on_state(znode.put('b'))
    assert bench.started == ['a']
    bench.end_all()
    # In DISCARD mode an update is forgotten, but not the load of the file, which runs with the newest contents.
    assert bench.started == (['a', 'b'] if second is QUEUE or run_on_load else ['a'])
    assert bench.most_at_once == 1


def test_a_successor_runs_what_waited_for_its_predecessor() -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch()
    watch.on_state(znode.put('a'))
    watch.on_state(znode.put('b'))
    watch = bench.successor(watch, run_on_load=False)
    watch.on_state(znode.state)
    bench.end_all()
    assert bench.started == ['a', 'b']


def test_an_update_that_a_load_was_to_see_is_not_lost_to_a_second_edit() -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch()
    watch.on_state(znode.put('a'))
    watch.on_state(znode.put('b'))
    watch = bench.successor(watch)
    watch = bench.successor(watch, run_on_load=False)
    watch.on_state(znode.state)
    bench.end_all()
    assert bench.started == ['a', 'b']


def test_a_successor_does_not_run_for_what_its_predecessor_has_seen() -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch()
    watch.on_state(znode.put('a'))
    bench.end_all()
    watch = bench.successor(watch, run_on_load=False)
    watch.on_state(znode.state)
    assert bench.started == ['a']
    watch.on_state(znode.put('b'))
    assert bench.started == ['a', 'b']


def test_a_queueing_successor_runs_once_for_all_that_waited_for_a_parallel_one() -> None:
    bench, znode = Bench(limit=1), Znode()
    watch = bench.watch(run_mode=PARALLEL)
    for contents in ('a', 'b', 'c', 'd'):
        watch.on_state(znode.put(contents))
    watch = bench.successor(watch, run_mode=QUEUE, run_on_load=False)
    watch.on_state(znode.state)
    bench.end_all()
    assert bench.started == ['a', 'd']


def test_a_parallel_successor_runs_all_that_waited_in_order() -> None:
    bench, znode = Bench(limit=1), Znode()
    watch = bench.watch(run_mode=PARALLEL)
    for contents in ('a', 'b', 'c'):
        watch.on_state(znode.put(contents))
    watch = bench.successor(watch, run_mode=PARALLEL, run_on_load=False)
    watch.on_state(znode.put('d'))
    assert bench.started == ['a']
    bench.end_all()
    assert bench.started == ['a', 'b', 'c', 'd']
    assert bench.most_at_once == 1


def test_a_refused_start_is_not_lost_to_a_successor() -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch()
    bench.failures.append(True)
    watch.on_state(znode.put('a'))
    watch = bench.successor(watch, run_on_load=False)
    watch.on_state(znode.state)
    bench.wait(1)
    assert bench.started == ['a']


@pytest.mark.parametrize('mode', [QUEUE, PARALLEL])
def test_a_start_that_fails_while_its_watch_is_gone_is_made_when_it_comes_back(mode: RunMode) -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch(run_mode=mode, run_on_load=False)
    watch.on_state(znode.put('a'))
    watch.on_state(znode.put('b'))
    watch.close()
    bench.runs[0].end(SpawnError('no run: the test says so', transient=True))
    again = bench.watch(run_mode=mode, run_on_load=False)
    again.continue_from(watch)
    again.on_state(znode.state)
    bench.end_all()
    assert bench.started == ['b', 'b']


def test_what_a_successor_is_left_to_run_for_is_noted_while_it_waits() -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch()
    watch.on_state(znode.put('a'))
    watch.close()
    bench.runs[0].end(SpawnError('no run: the test says so', transient=True))
    again = bench.watch(run_on_load=False)
    bench.failures.append(True)
    again.continue_from(watch)
    assert bench.noted[-1] == znode.state.revision


def test_a_run_that_cannot_start_is_not_run_for_by_a_watch_that_only_waited_for_it() -> None:
    bench, znode = Bench(), Znode()
    gone, other = bench.watch(), bench.watch(run_on_load=False)
    gone.on_state(znode.put('a'))
    gone.close()
    other.wait_for(gone.runs)
    other.on_state(znode.state)
    bench.runs[0].end(SpawnError('no run: the test says so', transient=True))
    bench.wait(1)
    assert bench.started == ['a']


def test_a_discarding_watch_discards_no_update_for_a_run_that_it_only_waits_for() -> None:
    bench, znode = Bench(), Znode()
    gone, other = bench.watch(), bench.watch(run_mode=DISCARD, run_on_load=False)
    gone.on_state(znode.put('a'))
    gone.close()
    other.wait_for(gone.runs)
    other.on_state(znode.state)
    other.on_state(znode.put('b'))
    update = bench.runs[0].update
    assert update and update.contents == b'a'
    bench.end_all()
    assert bench.started == ['a', 'b']


def test_a_signal_for_an_update_goes_to_no_run_that_is_only_waited_for() -> None:
    bench, znode = Bench(), Znode()
    gone, other = bench.watch(), bench.watch(run_on_load=False, notify_signal='USR1')
    gone.on_state(znode.put('a'))
    gone.close()
    other.wait_for(gone.runs)
    other.on_state(znode.state)
    other.on_state(znode.put('b'))
    assert bench.runs[0].signals == []
    bench.end_all()
    assert bench.started == ['a', 'b']


def test_runs_of_a_removed_watch_that_comes_back_do_not_overlap_with_its_own() -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch()
    watch.on_state(znode.put('a'))
    watch.close()
    again = bench.watch(notify_signal='USR1')
    again.take_over(watch.runs)
    again.on_state(znode.state)
    assert bench.started == ['a']
    assert bench.runs[0].signals == [signal.SIGUSR1]
    bench.end_all()
    assert bench.started == ['a', 'a']
