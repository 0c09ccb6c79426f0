"""One watch's decisions, with neither processes nor ZooKeeper: what runs, when, and with which contents."""

from __future__ import annotations

import signal
from typing import List

import pytest

from tests.support.fake_machine import MODES, Bench, Znode
from twitcher.config.spec import RunMode

QUEUE, DISCARD, PARALLEL = MODES


# What each mode makes of updates, by what is going on when they come: the runs so far, then those after all have ended.

@pytest.mark.parametrize('mode, now, in_the_end', [
    (QUEUE, ['0'], ['0']),
    (DISCARD, ['0'], ['0']),
    (PARALLEL, ['0'], ['0']),
])
def test_an_update_of_an_idle_watch_runs_at_once(mode: RunMode, now: List[str], in_the_end: List[str]) -> None:
    check(mode, 1, now, in_the_end)


@pytest.mark.parametrize('mode, now, in_the_end', [
    (QUEUE, ['0'], ['0', '1']),
    (DISCARD, ['0'], ['0']),
    (PARALLEL, ['0', '1'], ['0', '1']),
])
def test_an_update_during_a_run(mode: RunMode, now: List[str], in_the_end: List[str]) -> None:
    check(mode, 2, now, in_the_end)


@pytest.mark.parametrize('mode, now, in_the_end', [
    (QUEUE, ['0'], ['0', '5']),
    (DISCARD, ['0'], ['0']),
    (PARALLEL, ['0', '1', '2'], ['0', '1', '2', '3', '4', '5']),
])
def test_updates_that_find_no_room(mode: RunMode, now: List[str], in_the_end: List[str]) -> None:
    check(mode, 6, now, in_the_end, limit=3)


def check(mode: RunMode, updates: int, now: List[str], in_the_end: List[str], limit: int = 256) -> None:
    """Let a watch see some updates at once."""
    bench, znode = Bench(limit), Znode()
    watch = bench.watch(run_mode=mode)
    for number in range(updates):
        watch.state_is(znode.put(str(number)))
    assert bench.started == now
    bench.end_all()
    assert bench.started == in_the_end
    watch.state_is(znode.put('later'))
    assert bench.started == [*in_the_end, 'later']


# States of the znode

@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('run_on_load, events', [(True, ['load']), (False, [])])
def test_what_exists_at_load_runs_if_run_on_load_says_so(mode: RunMode, run_on_load: bool, events: List[str]) -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch(run_mode=mode, run_on_load=run_on_load)
    watch.state_is(znode.put('a'))
    assert bench.events == events
    bench.end_all()
    watch.state_is(znode.put('b'))
    assert bench.events == [*events, 'changed']


@pytest.mark.parametrize('run_on_load', [True, False])
def test_creation_is_a_change_whatever_run_on_load_says(run_on_load: bool) -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch(run_on_load=run_on_load)
    watch.state_is(znode.state)
    assert bench.runs == []
    watch.state_is(znode.put('a'))
    assert bench.events == ['created']


@pytest.mark.parametrize('mode', MODES)
def test_a_state_that_is_told_again_runs_nothing(mode: RunMode) -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch(run_mode=mode)
    for state in (znode.put('a'), znode.state, znode.delete(), znode.state, znode.put('a'), znode.state):
        for _ in range(3):
            watch.state_is(state)
        bench.end_all()
    assert bench.events == ['load', 'created']


def test_the_same_contents_written_again_are_a_change() -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch()
    watch.state_is(znode.put('a'))
    bench.end_all()
    watch.state_is(znode.put('a'))
    assert bench.events == ['load', 'changed']


def test_a_znode_of_a_restored_ensemble_with_smaller_zxids_has_changed() -> None:
    bench, znode, restored = Bench(), Znode(), Znode()
    watch = bench.watch()
    for contents in ('a', 'b', 'c'):
        watch.state_is(znode.put(contents))
        bench.end_all()
    watch.state_is(restored.put('r'))
    assert bench.started == ['a', 'b', 'c', 'r']


# Signals

@pytest.mark.parametrize('mode, signals', [(QUEUE, [signal.SIGHUP] * 2), (DISCARD, []), (PARALLEL, [])])
def test_notify_signal_goes_to_the_run_that_keeps_an_update_waiting(mode: RunMode, signals: List[int]) -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch(run_mode=mode, notify_signal='HUP')
    for contents in ('a', 'b', 'c'):
        watch.state_is(znode.put(contents))
    watch.state_is(znode.state)
    assert bench.runs[0].signals == signals
    bench.end_all()
    assert not any(run.signals for run in bench.runs[1:])


# Starts that fail

@pytest.mark.parametrize('mode', MODES)
def test_a_start_that_the_machine_refused_is_tried_again(mode: RunMode, caplog: pytest.LogCaptureFixture) -> None:
    bench, znode = Bench(limit=1), Znode()
    watch = bench.watch(run_mode=mode)
    bench.failures.extend([True, True])
    watch.state_is(znode.put('a'))
    bench.wait(1)
    assert bench.runs == []
    bench.wait(1)
    assert bench.started == ['a']
    bench.end_all()
    bench.wait(100)
    assert bench.started == ['a']
    assert caplog.messages == ['w: no run: the test says so; trying again']


@pytest.mark.parametrize('mode', MODES)
def test_updates_do_not_multiply_the_attempts_on_a_machine_that_refuses(mode: RunMode) -> None:
    bench, znode = Bench(limit=100), Znode()
    watch = bench.watch(run_mode=mode)
    bench.failures.extend([True] * 6)
    for number in range(50):
        watch.state_is(znode.put(str(number)))
    assert len(bench.failures) == 5
    for left in (4, 3, 2, 1, 0):
        bench.wait(1)
        assert len(bench.failures) == left
    bench.wait(1)
    assert bench.started == ([str(number) for number in range(50)] if mode is RunMode.PARALLEL else ['49'])


@pytest.mark.parametrize('mode', MODES)
def test_a_start_that_can_never_succeed_is_given_up(mode: RunMode) -> None:
    bench, znode = Bench(limit=1), Znode()
    watch = bench.watch(run_mode=mode)
    bench.failures.append(False)
    watch.state_is(znode.put('a'))
    bench.wait(100)
    assert bench.runs == []
    watch.state_is(znode.put('b'))
    assert bench.started == ['b']


@pytest.mark.parametrize('mode, started', [(QUEUE, ['c']), (DISCARD, ['c']), (PARALLEL, ['a', 'b', 'c'])])
def test_updates_during_the_pause_after_a_refused_start(mode: RunMode, started: List[str]) -> None:
    bench, znode = Bench(limit=1), Znode()
    watch = bench.watch(run_mode=mode)
    bench.failures.extend([True] * 3)
    for contents in ('a', 'b', 'c'):
        watch.state_is(znode.put(contents))
    for _ in range(5):
        bench.wait(1)
        bench.end_all()
    assert bench.started == started
    assert bench.most_at_once == 1


# What is remembered for a daemon to come

@pytest.mark.parametrize('mode, owed', [(QUEUE, 'bc'), (DISCARD, ''), (PARALLEL, 'bc')])
def test_the_latest_update_that_waits_is_owed_a_run(mode: RunMode, owed: str) -> None:
    bench, znode = Bench(limit=1), Znode()
    watch = bench.watch(run_mode=mode)
    watch.state_is(znode.put('a'))
    assert bench.debts == []
    stamps = {}
    for contents in 'bc':
        watch.state_is(znode.put(contents))
        stamps[contents] = znode.state.stamp
    assert bench.debts == [stamps[contents] for contents in owed]
    bench.end_all()
    assert bench.debts == [stamps[contents] for contents in owed] + ([None] if owed else [])


@pytest.mark.parametrize('is_transient', [True, False])
def test_a_refused_start_is_owed_until_it_is_made_up_for_or_given_up(is_transient: bool) -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch()
    bench.failures.append(is_transient)
    watch.state_is(znode.put('a'))
    assert bench.debts == ([znode.state.stamp] if is_transient else [])
    bench.wait(1)
    assert bench.debts == ([znode.state.stamp, None] if is_transient else [])


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('run_on_load, event', [(True, 'load'), (False, 'changed')])
def test_an_owed_run_is_made_once_when_the_znode_is_first_seen(mode: RunMode, run_on_load: bool, event: str) -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch(has_pending=True, run_mode=mode, run_on_load=run_on_load)
    znode.put('a')
    for state in (znode.hidden(), znode.state, znode.state):
        watch.state_is(state)
    assert bench.events == [event]
    assert bench.debts == [znode.state.stamp, None]


def test_nothing_is_owed_for_a_znode_that_is_gone() -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch(has_pending=True, run_on_load=False)
    watch.state_is(znode.state)
    assert bench.debts == [None]
    watch.state_is(znode.put('a'))
    assert bench.events == ['created']
