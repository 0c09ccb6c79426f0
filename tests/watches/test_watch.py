"""One watch's decisions, with neither processes nor ZooKeeper: what runs, when, and with which contents."""

from __future__ import annotations

import signal
from typing import List

import pytest

from tests.support.fake_machine import MODES, FakeMachine, Znode
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
    machine, znode = FakeMachine(limit), Znode()
    watch = machine.watch(run_mode=mode)
    for number in range(updates):
        watch.on_state(znode.put(str(number)))
    assert machine.started == now
    machine.end_all()
    assert machine.started == in_the_end
    watch.on_state(znode.put('later'))
    assert machine.started == [*in_the_end, 'later']


# States of the znode

@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('run_on_load, events', [(True, ['load']), (False, [])])
def test_what_exists_at_load_runs_if_run_on_load_says_so(mode: RunMode, run_on_load: bool, events: List[str]) -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_mode=mode, run_on_load=run_on_load)
    watch.on_state(znode.put('a'))
    assert machine.events == events
    machine.end_all()
    watch.on_state(znode.put('b'))
    assert machine.events == [*events, 'changed']


@pytest.mark.parametrize('run_on_load', [True, False])
def test_creation_is_a_change_whatever_run_on_load_says(run_on_load: bool) -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_on_load=run_on_load)
    watch.on_state(znode.state)
    assert machine.runs == []
    watch.on_state(znode.put('a'))
    assert machine.events == ['created']


@pytest.mark.parametrize('mode', MODES)
def test_a_state_that_is_told_again_runs_nothing(mode: RunMode) -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_mode=mode)
    for state in (znode.put('a'), znode.state, znode.delete(), znode.state, znode.put('a'), znode.state):
        for _ in range(3):
            watch.on_state(state)
        machine.end_all()
    assert machine.events == ['load', 'created']


def test_the_same_contents_written_again_are_a_change() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch()
    watch.on_state(znode.put('a'))
    machine.end_all()
    watch.on_state(znode.put('a'))
    assert machine.events == ['load', 'changed']


def test_a_znode_of_a_restored_ensemble_with_smaller_zxids_has_changed() -> None:
    machine, znode, restored = FakeMachine(), Znode(), Znode()
    watch = machine.watch()
    for contents in ('a', 'b', 'c'):
        watch.on_state(znode.put(contents))
        machine.end_all()
    watch.on_state(restored.put('r'))
    assert machine.started == ['a', 'b', 'c', 'r']


# Signals

@pytest.mark.parametrize('mode, signals', [(QUEUE, [signal.SIGHUP] * 2), (DISCARD, []), (PARALLEL, [])])
def test_notify_signal_goes_to_the_run_that_keeps_an_update_waiting(mode: RunMode, signals: List[int]) -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_mode=mode, notify_signal='HUP')
    for contents in ('a', 'b', 'c'):
        watch.on_state(znode.put(contents))
    watch.on_state(znode.state)
    assert machine.runs[0].signals == signals
    machine.end_all()
    assert not any(run.signals for run in machine.runs[1:])


# Starts that fail

@pytest.mark.parametrize('mode', MODES)
def test_a_start_that_the_machine_refused_is_tried_again(mode: RunMode, caplog: pytest.LogCaptureFixture) -> None:
    machine, znode = FakeMachine(limit=1), Znode()
    watch = machine.watch(run_mode=mode)
    machine.failures.extend([True, True])
    watch.on_state(znode.put('a'))
    machine.wait(1)
    assert machine.runs == []
    machine.wait(1)
    assert machine.started == ['a']
    machine.end_all()
    machine.wait(100)
    assert machine.started == ['a']
    assert caplog.messages == ['w: no run: the test says so; trying again']


@pytest.mark.parametrize('mode', MODES)
def test_updates_do_not_multiply_the_attempts_on_a_machine_that_refuses(mode: RunMode) -> None:
    machine, znode = FakeMachine(limit=100), Znode()
    watch = machine.watch(run_mode=mode)
    machine.failures.extend([True] * 6)
    for number in range(50):
        watch.on_state(znode.put(str(number)))
    assert len(machine.failures) == 5
    for left in (4, 3, 2, 1, 0):
        machine.wait(1)
        assert len(machine.failures) == left
    machine.wait(1)
    assert machine.started == ([str(number) for number in range(50)] if mode is RunMode.PARALLEL else ['49'])


@pytest.mark.parametrize('mode', MODES)
def test_a_start_that_can_never_succeed_is_given_up(mode: RunMode) -> None:
    machine, znode = FakeMachine(limit=1), Znode()
    watch = machine.watch(run_mode=mode)
    machine.failures.append(False)
    watch.on_state(znode.put('a'))
    machine.wait(100)
    assert machine.runs == []
    watch.on_state(znode.put('b'))
    assert machine.started == ['b']


@pytest.mark.parametrize('mode, started', [(QUEUE, ['c']), (DISCARD, ['c']), (PARALLEL, ['a', 'b', 'c'])])
def test_updates_during_the_pause_after_a_refused_start(mode: RunMode, started: List[str]) -> None:
    machine, znode = FakeMachine(limit=1), Znode()
    watch = machine.watch(run_mode=mode)
    machine.failures.extend([True] * 3)
    for contents in ('a', 'b', 'c'):
        watch.on_state(znode.put(contents))
    for _ in range(5):
        machine.wait(1)
        machine.end_all()
    assert machine.started == started
    assert machine.most_at_once == 1


# What is remembered for a daemon to come

@pytest.mark.parametrize('mode, pending', [(QUEUE, 'bc'), (DISCARD, ''), (PARALLEL, 'bc')])
def test_the_latest_update_that_waits_is_noted_as_pending(mode: RunMode, pending: str) -> None:
    machine, znode = FakeMachine(limit=1), Znode()
    watch = machine.watch(run_mode=mode)
    watch.on_state(znode.put('a'))
    assert machine.saved_pending == []
    revisions = {}
    for contents in 'bc':
        watch.on_state(znode.put(contents))
        revisions[contents] = znode.state.revision
    assert machine.saved_pending == [revisions[contents] for contents in pending]
    machine.end_all()
    assert machine.saved_pending == [revisions[contents] for contents in pending] + ([None] if pending else [])


@pytest.mark.parametrize('is_transient', [True, False])
def test_a_refused_start_is_pending_until_the_retry_or_given_up(is_transient: bool) -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch()
    machine.failures.append(is_transient)
    watch.on_state(znode.put('a'))
    assert machine.saved_pending == ([znode.state.revision] if is_transient else [])
    machine.wait(1)
    assert machine.saved_pending == ([znode.state.revision, None] if is_transient else [])


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('run_on_load, event', [(True, 'load'), (False, 'changed')])
def test_what_an_earlier_daemon_left_pending_is_run_for_once_when_the_znode_is_first_seen(
        mode: RunMode, run_on_load: bool, event: str) -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(has_pending=True, run_mode=mode, run_on_load=run_on_load)
    znode.put('a')
    for state in (znode.hidden(), znode.state, znode.state):
        watch.on_state(state)
    assert machine.events == [event]
    assert machine.saved_pending == [znode.state.revision, None]


def test_nothing_is_pending_for_a_znode_that_is_gone() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(has_pending=True, run_on_load=False)
    watch.on_state(znode.state)
    assert machine.saved_pending == [None]
    watch.on_state(znode.put('a'))
    assert machine.events == ['created']
