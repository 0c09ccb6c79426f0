"""A znode that is deleted runs nothing; when it is made again, that is a change."""

from __future__ import annotations

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.fake_machine import FakeMachine, Znode
from tests.support.several_watches import LOADED, settled_lines, start_several
from tests.support.waiting import Trace


def test_deletion_runs_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch()
    watch.on_state(znode.put('a'))
    machine.end_all()
    watch.on_state(znode.delete())
    watch.on_state(znode.state)
    assert len(machine.runs) == 1
    assert caplog.messages == ['w: /z was deleted']


def test_a_znode_deleted_and_made_again_unseen_was_created() -> None:
    machine, znode = FakeMachine(), Znode()
    watch = machine.watch(run_on_load=False)
    watch.on_state(znode.put('a'))
    znode.delete()
    watch.on_state(znode.put('a'))
    assert machine.events == ['created']


def test_a_znode_that_is_deleted_runs_nothing_and_once_when_it_is_made_again(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    start_several(twitcher, ensemble, trace)
    for number in (1, 2):
        ensemble.client.delete('/a')
        twitcher.wait_log(' a: /a was deleted', count=number)
        twitcher.fence(ensemble)
        assert len(twitcher.started('a')) == number
        ensemble.put('/a', number)
        trace.wait_for_line(f'a {number} created')
    assert settled_lines(twitcher, ensemble, trace) == sorted([*LOADED, 'a 1 created', 'a 2 created'])
