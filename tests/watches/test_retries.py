"""What a watch does with an update whose run could not be started, and in what order such runs are tried again."""

from __future__ import annotations

import pytest

from tests.support.fake_machine import FakeMachine, Znode
from twitcher.config.spec import RunMode
from twitcher.errors import SpawnError


def transient(shortage: bool = False) -> SpawnError:
    """Why a run was refused."""
    return SpawnError('no run: the test says so', transient=True, is_shortage=shortage)


def test_an_update_whose_run_fails_to_start_in_the_end_is_run_later() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch()
    watch.on_state(znode.put('first'))
    machine.active[0].end(transient())
    assert machine.started == ['first']
    machine.wait(1)
    assert machine.started == ['first', 'first']
    machine.end_all()
    machine.wait(10)
    assert machine.started == ['first', 'first']


@pytest.mark.parametrize('mode', [RunMode.QUEUE, RunMode.DISCARD])
def test_a_newer_update_takes_the_place_of_one_whose_run_fails_to_start(mode: RunMode) -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_mode=mode)
    watch.on_state(znode.put('first'))
    watch.on_state(znode.put('second'))
    machine.active[0].end(transient())
    machine.wait(1)
    assert machine.started[-1] == 'second'
    machine.end_all()
    machine.wait(10)
    assert machine.started == ['first', 'second']


def test_updates_of_a_parallel_watch_keep_their_order_though_their_runs_fail_to_start_in_another() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_mode=RunMode.PARALLEL)
    for contents in 'abc':
        watch.on_state(znode.put(contents))
    for run in reversed(machine.active):
        run.end(transient())
    watch.on_state(znode.put('d'))
    machine.wait(1)
    assert machine.started == [*'abc', *'abcd']


def test_a_refused_run_is_tried_again_as_soon_as_another_run_has_ended() -> None:
    machine, znode = FakeMachine(), Znode()
    first, second = machine.watch(), machine.watch()
    state = znode.put('x')
    first.on_state(state)
    second.on_state(state)
    machine.runs[1].end(transient(shortage=True))
    machine.runs[0].end()
    machine.retries.serve()
    machine.wait(0)
    assert len(machine.runs) == 3


def test_a_shortage_is_logged_once_when_it_begins_and_once_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    machine, state = FakeMachine(), Znode().put('x')
    for _ in range(100):
        machine.watch().on_state(state)
    for run in machine.active:
        run.end(transient(shortage=True))
    for _ in range(8):
        machine.wait(1)
    machine.retries.serve()
    machine.wait(0)
    assert len(machine.runs) == 200
    assert caplog.messages == ['w: no run: the test says so; trying again',
                               'all runs that the machine had no room for have been started']
