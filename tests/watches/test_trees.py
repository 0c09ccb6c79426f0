"""What a run of a WATCH_TREE finds on stdin: what has changed since the last run that was started, whatever came between."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from tests.support.fake_machine import FakeMachine, FakeRun
from twitcher.config.arguments import RETRY
from twitcher.config.spec import RunMode, RunOnLoad
from twitcher.errors import SpawnError
from twitcher.run_record import LastRun
from twitcher.watches.watch import Watch
from twitcher.znode import UNKNOWN, Event, Revision, Tree, Update, WatchType, ZnodeState


class FakeTree:
    """A tree below /z, as a subscription would tell of it."""

    def __init__(self) -> None:
        self._znodes: Dict[str, Revision] = {}
        self._zxid = 0
        self.put('/z')

    def put(self, *paths: str) -> ZnodeState:
        """Create znodes or set them."""
        for path in paths:
            self._zxid += 1
            before = self._znodes.get(path)
            self._znodes[path] = Revision(before.czxid if before else self._zxid, self._zxid, 0)
        return self.state()

    def delete(self, *paths: str) -> ZnodeState:
        """Delete znodes."""
        for path in paths:
            del self._znodes[path]
        return self.state()

    def state(self) -> ZnodeState:
        """The tree as it is."""
        if '/z' not in self._znodes:
            return ZnodeState()
        digest = hash(tuple(sorted(self._znodes.items())))
        return ZnodeState(self._znodes['/z']._replace(tiebreak=digest), Tree(self._znodes), 0)


@pytest.fixture
def machine() -> FakeMachine:
    """What stands around a watch."""
    return FakeMachine()


@pytest.fixture
def tree() -> FakeTree:
    """A tree."""
    return FakeTree()


def watch_tree(machine: FakeMachine, **arguments: Any) -> Watch:
    """A watch on the tree."""
    return machine.watch(watch_type=WatchType.TREE, **arguments)


def lines(*changes: str) -> str:
    """The stdin with these changes, each an event and a path."""
    return ''.join(change.replace(' ', '\t') + '\n' for change in changes)


def test_the_load_gets_the_whole_tree_sorted_and_later_runs_what_has_changed(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine)
    watch.on_state(tree.put('/z/b', '/z/a', '/z/a-b', '/z/a/c'))
    machine.end_all()
    assert machine.started == [lines('created /z', 'created /z/a', 'created /z/a-b', 'created /z/a/c', 'created /z/b')]
    tree.put('/z/b', '/z/c')
    watch.on_state(tree.delete('/z/a-b'))
    machine.end_all()
    assert machine.started[1] == lines('deleted /z/a-b', 'changed /z/b', 'created /z/c')
    assert machine.events == ['load', 'changed']


def test_a_state_that_is_delivered_again_runs_nothing(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine)
    for _ in range(3):
        watch.on_state(tree.state())
        machine.end_all()
    assert len(machine.started) == 1


def test_updates_during_a_run_become_one_which_has_what_differs_in_the_end(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine)
    watch.on_state(tree.put('/z/old', '/z/again'))
    watch.on_state(tree.put('/z/new', '/z/brief'))
    watch.on_state(tree.put('/z/new'))
    watch.on_state(tree.delete('/z/brief', '/z/old', '/z/again'))
    watch.on_state(tree.put('/z/again'))
    machine.end_all()
    assert machine.started[1:] == [lines('created /z/again', 'created /z/new', 'deleted /z/old')]


def test_the_next_run_has_what_discard_drops(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine, run_mode=RunMode.DISCARD)
    watch.on_state(tree.state())
    watch.on_state(tree.put('/z/a'))
    machine.end_all()
    assert len(machine.started) == 1
    watch.on_state(tree.put('/z/b'))
    machine.end_all()
    assert machine.started[1:] == [lines('created /z/a', 'created /z/b')]


@pytest.mark.parametrize('is_transient', [True, False])
@pytest.mark.parametrize('mode', [RunMode.QUEUE, RunMode.DISCARD, RunMode.PARALLEL])
def test_the_next_run_has_the_lines_of_one_that_was_not_started(
        machine: FakeMachine, tree: FakeTree, mode: RunMode, is_transient: bool) -> None:
    watch = watch_tree(machine, run_mode=mode)
    watch.on_state(tree.state())
    machine.end_all()
    machine.failures.append(is_transient)
    watch.on_state(tree.put('/z/refused'))
    machine.is_exec_slow = True
    watch.on_state(tree.put('/z/not_executed'))
    machine.wait(1)
    for run in machine.active:
        run.end(SpawnError('no run: the test says so', transient=is_transient))
    machine.is_exec_slow = False
    watch.on_state(tree.put('/z/last'))
    machine.wait(1)
    machine.end_all()
    lines_of_all = [line for text in machine.started[1:] for line in text.splitlines()]
    assert sorted(set(lines_of_all[-3:])) == ['created\t/z/last', 'created\t/z/not_executed', 'created\t/z/refused']


def test_each_parallel_run_has_its_own_changes(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine, run_mode=RunMode.PARALLEL)
    watch.on_state(tree.state())
    for name in ('a', 'b'):
        watch.on_state(tree.put(f'/z/{name}'))
    assert machine.started[1:] == [lines('created /z/a'), lines('created /z/b')]


def test_the_next_run_has_the_lines_of_updates_that_the_backlog_drops(tree: FakeTree) -> None:
    machine = FakeMachine(limit=1)
    watch = watch_tree(machine, run_mode=RunMode.PARALLEL)
    watch.on_state(tree.put(*(f'/z/{number}' for number in range(1000))))
    for number in range(1000):
        watch.on_state(tree.put(f'/z/more{number}'))  # 64 MiB are room for some hundred trees of this size
    machine.end_all()
    assert len(machine.started) < 800
    lines_of_all = [line for text in machine.started for line in text.splitlines()]
    assert sorted(lines_of_all) == sorted(['created\t/z', *(f'created\t/z/{number}' for number in range(1000)),
                                   *(f'created\t/z/more{number}' for number in range(1000))])


def test_a_retry_has_the_lines_of_the_failed_run(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine, on_failure=RETRY(times=3, delay=1))
    watch.on_state(tree.state())
    machine.end_all()
    watch.on_state(tree.put('/z/a'))
    machine.active[0].end(code=1)
    machine.wait(1)
    machine.active[0].end(code=1)
    watch.on_state(tree.put('/z/b'))  # instead of a retry
    machine.active[0].end(code=0)
    watch.on_state(tree.put('/z/c'))
    assert machine.started[1:] == [lines('created /z/a'), lines('created /z/a'), lines('created /z/a', 'created /z/b'),
                                 lines('created /z/c')]


def test_the_run_after_one_that_restart_has_ended_has_its_lines(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine, run_mode=RunMode.RESTART)
    watch.on_state(tree.state())
    watch.on_state(tree.put('/z/a'))
    machine.active[0].end(code=-15)
    assert machine.started == [lines('created /z'), lines('created /z', 'created /z/a')]
    machine.active[0].end(code=0)
    watch.on_state(tree.put('/z/b'))
    assert machine.started[2:] == [lines('created /z/b')]


def test_a_failed_run_of_an_earlier_daemon_is_followed_by_the_whole_tree(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine, run_on_load=False, on_failure=RETRY(times=3, delay=1))
    earlier = FakeRun(watch.spec, Update(Event.CHANGED, b'', 0, UNKNOWN))
    watch.take_over([earlier])
    watch.on_state(tree.put('/z/a'))
    earlier.end(code=1)
    machine.wait(1)
    assert machine.started == [lines('created /z', 'created /z/a')]


def test_a_repetition_without_a_change_has_no_lines(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine, repeat=60)
    watch.on_state(tree.state())
    machine.end_all()
    machine.wait(60)
    assert machine.started == [lines('created /z'), '']


def test_with_changed_the_same_tree_is_known_and_another_one_runs_as_a_whole(machine: FakeMachine, tree: FakeTree) -> None:
    state = tree.put('/z/a')
    last = LastRun(state.revision, has_ended=True, failed=False, attempt=1, stopped=None)
    same, other = (watch_tree(machine, run_on_load=RunOnLoad.CHANGED, last=last) for _ in range(2))
    same.on_state(state)
    assert machine.started == []
    same.on_state(tree.put('/z/b'))
    other.on_state(tree.state())
    assert machine.started == [lines('created /z/b'), lines('created /z', 'created /z/a', 'created /z/b')]


def test_without_run_on_load_what_is_there_at_first_is_known(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine, run_on_load=False)
    watch.on_state(tree.put('/z/a'))
    watch.on_state(tree.put('/z/b'))
    assert machine.started == [lines('created /z/b')]


def test_a_tree_that_comes_later_is_run_for_as_a_whole_even_without_run_on_load(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine, run_on_load=False)
    watch.on_state(ZnodeState())
    watch.on_state(tree.put('/z/a'))
    assert machine.started == [lines('created /z', 'created /z/a')]
    assert machine.events == ['created']


def test_the_run_for_an_update_of_an_earlier_daemon_gets_the_whole_tree(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine, run_on_load=False, has_pending=True)
    watch.on_state(tree.put('/z/a'))
    assert machine.started == [lines('created /z', 'created /z/a')]
    assert machine.events == ['changed']


def test_a_tree_that_was_deleted_and_came_back_is_a_difference(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine)
    watch.on_state(tree.put('/z/a', '/z/b'))
    machine.end_all()
    watch.on_state(tree.delete('/z', '/z/a', '/z/b'))
    assert len(machine.started) == 1
    watch.on_state(tree.put('/z', '/z/a'))
    assert machine.started[1:] == [lines('created /z', 'created /z/a', 'deleted /z/b')]
    assert machine.events == ['load', 'created']


def test_an_edited_watch_goes_on_from_the_last_run(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine)
    watch.on_state(tree.put('/z/a'))
    watch.on_state(tree.put('/z/b'))  # pending
    watch.close()
    new = watch_tree(machine, run_on_load=False, timeout=5)
    new.continue_from(watch)
    new.on_state(tree.put('/z/c'))
    machine.end_all()
    assert machine.started[1:] == [lines('created /z/b', 'created /z/c')]


def test_an_edited_watch_that_runs_on_load_gets_the_whole_tree(machine: FakeMachine, tree: FakeTree) -> None:
    watch = watch_tree(machine)
    watch.on_state(tree.put('/z/a'))
    machine.end_all()
    watch.close()
    new = watch_tree(machine, timeout=5)
    new.continue_from(watch)
    new.on_state(tree.state())
    assert machine.started[1:] == [lines('created /z', 'created /z/a')]
