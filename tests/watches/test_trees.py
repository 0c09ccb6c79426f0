"""What a run of a WATCH_TREE is told: what has changed since the last run that was started, whatever happened in between."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from tests.support.fake_machine import Bench, HandMadeRun
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
def bench() -> Bench:
    """What stands around a watch."""
    return Bench()


@pytest.fixture
def tree() -> FakeTree:
    """A tree."""
    return FakeTree()


def watch_tree(bench: Bench, **arguments: Any) -> Watch:
    """A watch on the tree."""
    return bench.watch(watch_type=WatchType.TREE, **arguments)


def lines(*changes: str) -> str:
    """The stdin with these changes, each an event and a path."""
    return ''.join(change.replace(' ', '\t') + '\n' for change in changes)


def test_the_load_is_told_the_whole_tree_sorted_and_each_further_run_what_has_changed(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench)
    watch.on_state(tree.put('/z/b', '/z/a', '/z/a-b', '/z/a/c'))
    bench.end_all()
    assert bench.started == [lines('created /z', 'created /z/a', 'created /z/a-b', 'created /z/a/c', 'created /z/b')]
    tree.put('/z/b', '/z/c')
    watch.on_state(tree.delete('/z/a-b'))
    bench.end_all()
    assert bench.started[1] == lines('deleted /z/a-b', 'changed /z/b', 'created /z/c')
    assert bench.events == ['load', 'changed']


def test_a_state_that_is_told_again_runs_nothing(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench)
    for _ in range(3):
        watch.on_state(tree.state())
        bench.end_all()
    assert len(bench.started) == 1


def test_updates_during_a_run_are_told_as_one_which_has_what_differs_in_the_end(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench)
    watch.on_state(tree.put('/z/old', '/z/again'))
    watch.on_state(tree.put('/z/new', '/z/brief'))
    watch.on_state(tree.put('/z/new'))
    watch.on_state(tree.delete('/z/brief', '/z/old', '/z/again'))
    watch.on_state(tree.put('/z/again'))
    bench.end_all()
    assert bench.started[1:] == [lines('created /z/again', 'created /z/new', 'deleted /z/old')]


def test_what_discard_drops_is_told_by_the_next_run(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench, run_mode=RunMode.DISCARD)
    watch.on_state(tree.state())
    watch.on_state(tree.put('/z/a'))
    bench.end_all()
    assert len(bench.started) == 1
    watch.on_state(tree.put('/z/b'))
    bench.end_all()
    assert bench.started[1:] == [lines('created /z/a', 'created /z/b')]


@pytest.mark.parametrize('is_transient', [True, False])
@pytest.mark.parametrize('mode', [RunMode.QUEUE, RunMode.DISCARD, RunMode.PARALLEL])
def test_what_a_run_was_to_be_told_that_was_not_started_the_next_is_told(
        bench: Bench, tree: FakeTree, mode: RunMode, is_transient: bool) -> None:
    watch = watch_tree(bench, run_mode=mode)
    watch.on_state(tree.state())
    bench.end_all()
    bench.failures.append(is_transient)
    watch.on_state(tree.put('/z/refused'))
    bench.is_exec_slow = True
    watch.on_state(tree.put('/z/not_executed'))
    bench.wait(1)
    for run in bench.active:
        run.end(SpawnError('no run: the test says so', transient=is_transient))
    bench.is_exec_slow = False
    watch.on_state(tree.put('/z/last'))
    bench.wait(1)
    bench.end_all()
    told = [line for text in bench.started[1:] for line in text.splitlines()]
    assert sorted(set(told[-3:])) == ['created\t/z/last', 'created\t/z/not_executed', 'created\t/z/refused']


def test_parallel_runs_are_told_their_changes_each(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench, run_mode=RunMode.PARALLEL)
    watch.on_state(tree.state())
    for name in ('a', 'b'):
        watch.on_state(tree.put(f'/z/{name}'))
    assert bench.started[1:] == [lines('created /z/a'), lines('created /z/b')]


def test_updates_that_the_backlog_drops_are_told_with_the_next(tree: FakeTree) -> None:
    bench = Bench(limit=1)
    watch = watch_tree(bench, run_mode=RunMode.PARALLEL)
    watch.on_state(tree.put(*(f'/z/{number}' for number in range(1000))))
    for number in range(1000):
        watch.on_state(tree.put(f'/z/more{number}'))  # 64 MiB are room for some hundred trees of this size
    bench.end_all()
    assert len(bench.started) < 800
    told = [line for text in bench.started for line in text.splitlines()]
    assert sorted(told) == sorted(['created\t/z', *(f'created\t/z/{number}' for number in range(1000)),
                                   *(f'created\t/z/more{number}' for number in range(1000))])


def test_a_retry_is_told_what_the_failed_run_was_told(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench, on_failure=RETRY(times=3, delay=1))
    watch.on_state(tree.state())
    bench.end_all()
    watch.on_state(tree.put('/z/a'))
    bench.active[0].end(code=1)
    bench.wait(1)
    bench.active[0].end(code=1)
    watch.on_state(tree.put('/z/b'))  # instead of a retry
    bench.active[0].end(code=0)
    watch.on_state(tree.put('/z/c'))
    assert bench.started[1:] == [lines('created /z/a'), lines('created /z/a'), lines('created /z/a', 'created /z/b'),
                                 lines('created /z/c')]


def test_the_run_after_one_that_restart_has_ended_is_told_what_that_was_told(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench, run_mode=RunMode.RESTART)
    watch.on_state(tree.state())
    watch.on_state(tree.put('/z/a'))
    bench.active[0].end(code=-15)
    assert bench.started == [lines('created /z'), lines('created /z', 'created /z/a')]
    bench.active[0].end(code=0)
    watch.on_state(tree.put('/z/b'))
    assert bench.started[2:] == [lines('created /z/b')]


def test_a_failed_run_of_an_earlier_daemon_is_followed_by_the_whole_tree(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench, run_on_load=False, on_failure=RETRY(times=3, delay=1))
    earlier = HandMadeRun(watch.spec, Update(Event.CHANGED, b'', 0, UNKNOWN))
    watch.take_over([earlier])
    watch.on_state(tree.put('/z/a'))
    earlier.end(code=1)
    bench.wait(1)
    assert bench.started == [lines('created /z', 'created /z/a')]


def test_a_repetition_without_a_change_is_told_nothing(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench, repeat=60)
    watch.on_state(tree.state())
    bench.end_all()
    bench.wait(60)
    assert bench.started == [lines('created /z'), '']


def test_with_changed_a_tree_that_is_the_same_is_known_and_another_one_is_told_as_a_whole(bench: Bench, tree: FakeTree) -> None:
    state = tree.put('/z/a')
    last = LastRun(state.revision, has_ended=True, failed=False, attempt=1, stopped=None)
    same, other = (watch_tree(bench, run_on_load=RunOnLoad.CHANGED, last=last) for _ in range(2))
    same.on_state(state)
    assert bench.started == []
    same.on_state(tree.put('/z/b'))
    other.on_state(tree.state())
    assert bench.started == [lines('created /z/b'), lines('created /z', 'created /z/a', 'created /z/b')]


def test_without_run_on_load_what_is_there_at_first_is_known(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench, run_on_load=False)
    watch.on_state(tree.put('/z/a'))
    watch.on_state(tree.put('/z/b'))
    assert bench.started == [lines('created /z/b')]


def test_a_tree_that_comes_later_is_told_as_a_whole_even_without_run_on_load(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench, run_on_load=False)
    watch.on_state(ZnodeState())
    watch.on_state(tree.put('/z/a'))
    assert bench.started == [lines('created /z', 'created /z/a')]
    assert bench.events == ['created']


def test_an_update_pending_from_an_earlier_daemon_is_told_the_whole_tree(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench, run_on_load=False, has_pending=True)
    watch.on_state(tree.put('/z/a'))
    assert bench.started == [lines('created /z', 'created /z/a')]
    assert bench.events == ['changed']


def test_a_tree_that_was_deleted_and_came_back_is_told_as_the_difference(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench)
    watch.on_state(tree.put('/z/a', '/z/b'))
    bench.end_all()
    watch.on_state(tree.delete('/z', '/z/a', '/z/b'))
    assert len(bench.started) == 1
    watch.on_state(tree.put('/z', '/z/a'))
    assert bench.started[1:] == [lines('created /z', 'created /z/a', 'deleted /z/b')]
    assert bench.events == ['load', 'created']


def test_an_edited_watch_goes_on_from_what_the_last_run_was_told(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench)
    watch.on_state(tree.put('/z/a'))
    watch.on_state(tree.put('/z/b'))  # pending
    watch.close()
    new = watch_tree(bench, run_on_load=False, timeout=5)
    new.continue_from(watch)
    new.on_state(tree.put('/z/c'))
    bench.end_all()
    assert bench.started[1:] == [lines('created /z/b', 'created /z/c')]


def test_an_edited_watch_that_runs_on_load_is_told_the_whole_tree(bench: Bench, tree: FakeTree) -> None:
    watch = watch_tree(bench)
    watch.on_state(tree.put('/z/a'))
    bench.end_all()
    watch.close()
    new = watch_tree(bench, timeout=5)
    new.continue_from(watch)
    new.on_state(tree.state())
    assert bench.started[1:] == [lines('created /z', 'created /z/a')]
