"""The bound on PARALLEL runs, for all watches of a daemon together."""

from __future__ import annotations

from typing import Callable, List

import pytest

from tests.support.fake_machine import FakeMachine, Znode
from twitcher.config.spec import RunMode
from twitcher.watches.turns import Slots


class Served:
    """Who was served, in order."""

    def __init__(self) -> None:
        self.names: List[str] = []

    def start(self, name: str) -> Callable[[], None]:
        """Starts a run that goes on."""
        return lambda: self.names.append(name)


def test_slots_serve_in_the_order_in_which_they_were_asked() -> None:
    slots, served = Slots(1), Served()
    slots.acquire(served.start('first'))
    for name in 'abc':
        slots.acquire(served.start(name))
    for count in range(4):
        assert served.names == ['first', *'abc'][:count + 1]
        slots.release()


def test_what_starts_nothing_releases_its_slot_at_once() -> None:
    slots, served = Slots(1), Served()
    slots.acquire(slots.release)
    slots.acquire(served.start('a'))
    assert served.names == ['a']


def test_what_was_cancelled_is_not_started_and_the_others_keep_their_order() -> None:
    slots, served = Slots(1), Served()
    slots.acquire(served.start('first'))
    cancelled = served.start('no')
    for start in (served.start('a'), cancelled, served.start('b'), cancelled, served.start('c')):
        slots.acquire(start)
    slots.cancel(cancelled)
    for _ in range(3):
        slots.release()
    assert served.names == ['first', 'a', 'b', 'c']


def test_the_slots_of_all_watches_are_bounded_and_given_in_order() -> None:
    machine, znodes = FakeMachine(limit=2), [Znode() for _ in range(5)]
    watches = [machine.watch(run_mode=RunMode.PARALLEL) for _ in znodes]
    for round_ in range(3):
        for number, (watch, znode) in enumerate(zip(watches, znodes)):
            watch.on_state(znode.put(f'{round_}{number}'))
    watches[2].close()
    machine.end_all()
    assert machine.started == [f'{round_}{number}' for round_ in range(3) for number in (0, 1, 3, 4)]
    assert machine.most_at_once == 2


def test_waiting_for_slots_is_logged_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    machine, znode = FakeMachine(limit=2), Znode()
    watch = machine.watch(run_mode=RunMode.PARALLEL)
    for number in range(50):
        watch.on_state(znode.put(str(number)))
    machine.end_all()
    assert caplog.messages == ['2 PARALLEL runs are in progress (--max_running): further ones wait; watches take turns',
                               'no PARALLEL run waits any more']
