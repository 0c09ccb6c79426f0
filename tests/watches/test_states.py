"""What follows which event in each state of a watch: cases that histories at random do not reach, or that are to be read."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import pytest

from tests.support.fake_machine import FakeMachine, Znode
from twitcher.config.arguments import FOREVER, RETRY
from twitcher.config.spec import RunMode, Then
from twitcher.errors import SpawnError
from twitcher.watches.gates import Wait
from twitcher.watches.states import TABLE, Action, State, Trigger

STOP = Then.STOP


def test_the_table_says_for_each_state_what_follows_each_trigger() -> None:
    assert list(TABLE) == list(State)
    assert all(list(row) == list(Trigger) for row in TABLE.values())
    assert {action for row in TABLE.values() for action, _ in row.values()} == set(Action)
    assert {state for row in TABLE.values() for _, state in row.values()} == set(State)


@pytest.mark.parametrize('mode', list(RunMode))
@pytest.mark.parametrize('arguments', [{}, {'timeout': 5}, {'notify_signal': 'HUP', 'ok_codes': (0, 1)}])
def test_a_watch_without_policies_has_no_schedule(mode: RunMode, arguments: Dict[str, Any]) -> None:
    assert FakeMachine().watch(run_mode=mode, **arguments).schedule is None


def logged(caplog: pytest.LogCaptureFixture) -> List[str]:
    """What the log says of the watch."""
    return [message for message in caplog.messages if message.startswith('w: ')]


@pytest.mark.parametrize(('end', 'text'), [
    ({'code': 1}, 'exit 1'), ({'code': -9}, 'SIGKILL'), ({'code': None}, 'exit code unknown'), ({'code': -40}, 'signal 40'),
    ({'code': 0, 'is_overdue': True}, 'timeout'),
])
def test_the_log_says_how_a_run_failed_and_when_which_attempt_follows(end: Dict[str, Any], text: str,
                                                                      caplog: pytest.LogCaptureFixture) -> None:
    bench, znode = FakeMachine(), Znode()
    watch = bench.watch(on_failure=RETRY(times=1, delay=2))
    watch.on_state(znode.put('a'))
    bench.runs[0].end(**end)
    assert watch.schedule and watch.schedule.wait == Wait('retry', 2.0)
    bench.wait(2)
    bench.runs[1].end(**end)
    assert logged(caplog) == [f'w: failed ({text}), attempt 2 of 2 in 2.0 s',
                              f'w: failed ({text}); gave up after 2 attempts']


@pytest.mark.parametrize(('ok_codes', 'runs'), [((0,), 2), ((0, 1), 1)])
def test_ok_codes_are_no_failures(ok_codes: Tuple[int, ...], runs: int) -> None:
    bench, znode = FakeMachine(), Znode()
    bench.watch(on_failure=RETRY(delay=1), ok_codes=ok_codes).on_state(znode.put('a'))
    bench.runs[0].end(code=1)
    bench.wait(1)
    assert len(bench.runs) == runs


def test_an_unknown_end_is_no_reason_to_stop_but_one_to_retry() -> None:
    for policy, runs in ((STOP, ['a', 'b']), (RETRY(delay=1, then=STOP), ['a', 'a', 'b'])):
        bench, znode = FakeMachine(), Znode()
        watch = bench.watch(on_failure=policy)
        watch.on_state(znode.put('a'))
        bench.runs[0].end(code=None)
        bench.wait(1)
        watch.on_state(znode.put('b'))
        bench.end_all()
        assert bench.started == runs


def test_a_retry_in_discard_mode_has_the_contents_that_were_discarded() -> None:
    bench, znode = FakeMachine(), Znode()
    watch = bench.watch(run_mode=RunMode.DISCARD, on_failure=RETRY(delay=1))
    watch.on_state(znode.put('a'))
    watch.on_state(znode.put('b'))
    bench.runs[0].end(code=1)
    bench.wait(1)
    assert bench.started == ['a', 'b']
    assert [run.given.attempt for run in bench.runs] == [1, 2]


def test_a_stop_in_parallel_mode_starts_nothing_that_waits_for_a_slot() -> None:
    bench, znode = FakeMachine(limit=2), Znode()
    watch = bench.watch(run_mode=RunMode.PARALLEL, on_failure=STOP)
    for contents in 'abcd':
        watch.on_state(znode.put(contents))
    bench.runs[0].end(code=1)
    bench.runs[1].end(SpawnError('no run', transient=True))
    bench.wait(10)
    assert bench.started == ['a', 'b']
    assert bench.stopped == watch.spec.digest
    watch = bench.successor(watch, run_mode=RunMode.PARALLEL, run_on_load=False)
    watch.on_state(znode.state)
    assert bench.started == ['a', 'b', 'd']


@pytest.mark.parametrize('is_at_once', [True, False])
def test_a_program_that_cannot_be_started_for_good_is_a_failure(is_at_once: bool) -> None:
    bench, znode = FakeMachine(), Znode()
    watch = bench.watch(on_failure=RETRY(times=FOREVER, delay=1, backoff=1))
    if is_at_once:
        bench.failures.append(False)
    watch.on_state(znode.put('a'))
    if not is_at_once:
        bench.runs[0].end(SpawnError('no run', transient=False))
    assert watch.schedule and watch.schedule.wait == Wait('retry', 1.0)
    bench.wait(1)
    assert bench.runs[-1].given.attempt == 2


def test_what_the_machine_refuses_is_tried_again_as_the_same_attempt() -> None:
    bench, znode = FakeMachine(), Znode()
    watch = bench.watch(on_failure=STOP)
    bench.failures.extend([True, True])
    watch.on_state(znode.put('a'))
    bench.wait(2)
    assert [(run.given.contents, run.given.attempt) for run in bench.runs] == [(b'a', 1)]


def test_an_update_that_was_refused_gives_way_to_one_that_settles() -> None:
    bench, znode = FakeMachine(), Znode()
    watch = bench.watch(settle=5, run_on_load=False)
    watch.on_state(znode.put('a'))
    watch.on_state(znode.put('b'))
    bench.wait(5)
    watch.on_state(znode.put('c'))
    bench.runs[0].end(SpawnError('no run', transient=True))
    bench.wait(4)
    assert bench.started == ['b']
    bench.wait(1)
    assert bench.started == ['b', 'c']


def test_an_update_that_is_due_takes_later_contents_without_another_delay() -> None:
    bench, znode = FakeMachine(), Znode()
    watch = bench.watch(settle=5)
    watch.on_state(znode.put('a'))
    watch.on_state(znode.put('b'))
    bench.wait(5)
    assert bench.started == ['a']
    watch.on_state(znode.put('c'))
    bench.end_all()
    assert bench.started == ['a', 'c']


def test_settle_in_parallel_mode_makes_one_run_of_a_burst_but_not_of_two() -> None:
    bench, znode = FakeMachine(), Znode()
    watch = bench.watch(settle=5, run_mode=RunMode.PARALLEL, run_on_load=False)
    watch.on_state(znode.state)
    for burst in ('abc', 'def'):
        for contents in burst:
            watch.on_state(znode.put(contents))
        bench.wait(5)
    assert bench.started == ['c', 'f']


def test_the_same_watch_in_another_file_keeps_its_delay_and_its_stop() -> None:
    bench, znode = FakeMachine(), Znode()
    watch = bench.watch(settle=5, run_on_load=False, on_failure=STOP)
    watch.on_state(znode.state)
    watch.on_state(znode.put('a'))
    bench.wait(3)
    watch.close()
    bench.wait(3)
    watch = bench.watch(earlier=watch, is_same=True, settle=5, run_on_load=False, on_failure=STOP)
    assert bench.started == ['a']
    watch.close()
    bench.runs[0].end(code=1)
    watch = bench.watch(earlier=watch, is_same=True, settle=5, run_on_load=False, on_failure=STOP)
    watch.on_state(znode.put('b'))
    bench.wait(100)
    assert bench.started == ['a']


def test_a_start_that_waits_for_its_lock_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    bench, znode = FakeMachine(), Znode()
    first, second = bench.watch(lock='x'), bench.watch(lock='x')
    first.on_state(znode.put('a'))
    second.on_state(znode.state)
    second.on_state(znode.put('b'))
    assert logged(caplog) == ["w: waits for lock 'x'"]
    bench.runs[0].end()
    assert bench.started == ['a', 'b']


def test_locks_with_different_names_know_nothing_of_each_other() -> None:
    bench, znode = FakeMachine(), Znode()
    for name in ('x', 'y', None):
        bench.watch(lock=name).on_state(znode.put('a'))
    assert len(bench.active) == 3
