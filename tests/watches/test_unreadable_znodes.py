"""What a watch makes of a time in which its znode may not be read, with neither processes nor ZooKeeper."""

from __future__ import annotations

from typing import List

import pytest

from tests.support.fake_machine import FakeMachine, Znode


@pytest.mark.parametrize('run_on_load, events', [(True, ['load']), (False, [])])
def test_a_znode_that_becomes_readable_is_loaded_then(run_on_load: bool, events: List[str]) -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_on_load=run_on_load)
    znode.put('a')
    watch.on_state(znode.hidden())
    assert machine.runs == []
    watch.on_state(znode.state)
    assert machine.events == events


@pytest.mark.parametrize('is_changed, events', [(True, ['load', 'changed']), (False, ['load'])])
def test_a_time_without_permission_hides_no_change_and_makes_none(is_changed: bool, events: List[str]) -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch()
    watch.on_state(znode.put('a'))
    machine.end_all()
    watch.on_state(znode.hidden())
    if is_changed:
        znode.put('b')
        watch.on_state(znode.hidden())
    watch.on_state(znode.state)
    assert machine.events == events


def test_a_change_before_the_first_permission_is_no_reason_to_forget_it() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_on_load=False)
    znode.put('a')
    watch.on_state(znode.hidden())
    watch.on_state(znode.put('b'))
    assert machine.events == ['changed']


def test_a_znode_made_without_permission_was_created_once_it_can_be_read() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_on_load=False)
    watch.on_state(znode.state)
    znode.put('a')
    watch.on_state(znode.hidden())
    watch.on_state(znode.state)
    assert machine.events == ['created']
