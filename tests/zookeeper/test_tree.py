"""Subscriptions to trees: each state is that of a whole tree, through changes of all kinds, outages and ACLs."""

from __future__ import annotations

import contextlib
import re
import threading
from typing import Callable, List, Optional

import pytest
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from tests.support.ensemble import Ensemble, ReconnectingEnsemble, connected
from tests.support.proxy import Proxy
from tests.support.subscriber import NewSubscriber, Subscriber, ask_server
from tests.support.trees import ChangingTree, tree_of
from tests.support.waiting import wait_for
from twitcher.znode import Revision, Tree, WatchType, ZnodeState
from twitcher.zookeeper.throwaway import ThrowAwayServer
from twitcher.zookeeper.tree import Trees

NOBODY_READS = [make_acl('world', 'anyone', create=True, write=True, delete=True, admin=True)]


class TreeListener:
    """A subscription to the tree below a znode, and the states that it has received."""

    def __init__(self, subscriber: Subscriber, path: str) -> None:
        self.states: List[ZnodeState] = []
        self._subscriber = subscriber
        self._path = path
        self._trees = Trees(subscriber.subscriptions)
        subscriber.call(self._trees.subscribe, path, WatchType.TREE, self.states.append)

    def close(self) -> None:
        """End it."""
        self._subscriber.call(self._trees.unsubscribe, self._path, WatchType.TREE, self.states.append)

    @property
    def trees(self) -> List[Tree]:
        """The trees of all states."""
        return [state.contents for state in self.states if isinstance(state.contents, Tree)]

    @property
    def revision(self) -> Optional[Revision]:
        """That of the last state."""
        return self.states[-1].revision

    def wait(self, tree: Tree) -> None:
        """Return as soon as the last state has this tree."""
        wait_for(f'{len(tree)} znodes', lambda: self.states and self.states[-1].contents == tree)

    def wait_paths(self, *paths: str) -> None:
        """Return as soon as the last state has these znodes."""
        wait_for(f'{paths}', lambda: self.states and isinstance(self.states[-1].contents, Tree)
                 and sorted(self.states[-1].contents) == sorted(paths))


def watches_of(server: ThrowAwayServer) -> int:
    """The watches that a server holds, on contents and on children."""
    match = re.search(r'zk_watch_count\s+(\d+)', ask_server(server.port, 'mntr'))
    assert match
    return int(match[1])


def test_the_first_state_has_the_whole_tree(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ChangingTree(ensemble.client, '/t', 500).grow()
    tree = tree_of(ensemble.client, '/t')
    listener = TreeListener(subscriber, '/t')
    listener.wait(tree)
    assert listener.trees == [tree]
    assert len(tree) == 500
    root = tree['/t']
    assert listener.states[0].version == 0
    assert listener.revision and listener.revision[:2] == root[:2]


def test_the_root_of_all_may_be_watched(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ensemble.put('/a/b', '')
    listener = TreeListener(subscriber, '/')
    listener.wait(tree_of(ensemble.client, '/'))
    ensemble.client.delete('/a/b')
    listener.wait_paths('/', '/a')


def test_creations_changes_and_deletions_are_seen_at_any_depth(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ensemble.put('/t/a/b', '')
    listener = TreeListener(subscriber, '/t')
    listener.wait_paths('/t', '/t/a', '/t/a/b')
    before = listener.trees[-1]
    ensemble.put('/t/a/b', '1')
    wait_for('the change', lambda: listener.trees[-1]['/t/a/b'] != before['/t/a/b'])
    ensemble.put('/t/a/b/c/d', '')
    listener.wait_paths('/t', '/t/a', '/t/a/b', '/t/a/b/c', '/t/a/b/c/d')
    ensemble.client.delete('/t/a', recursive=True)
    listener.wait_paths('/t')
    assert sorted(before) == ['/t', '/t/a', '/t/a/b'], 'a state changed after it had been given'


def test_changes_that_are_made_at_once_are_one_state(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ensemble.put('/t', '')
    listener = TreeListener(subscriber, '/t')
    listener.wait_paths('/t')
    paths = [f'/t/{number}' for number in range(50)]
    transaction = ensemble.client.transaction()
    for path in paths:
        transaction.create(path)
        transaction.create(f'{path}/below')
    transaction.commit()
    listener.wait(tree_of(ensemble.client, '/t'))
    assert len(listener.states) == 2


def test_a_tree_that_is_not_there_is_waited_for_and_may_go_and_come_back(subscriber: Subscriber, ensemble: Ensemble) -> None:
    listener = TreeListener(subscriber, '/t')
    wait_for('no tree', lambda: listener.states == [ZnodeState()])
    ensemble.put('/t/a', '')
    listener.wait_paths('/t', '/t/a')
    before = listener.revision
    ensemble.client.delete('/t', recursive=True)
    wait_for('no tree', lambda: listener.states[-1] == ZnodeState())
    ensemble.put('/t/a', '')
    listener.wait_paths('/t', '/t/a')
    assert before and listener.revision and before.czxid < listener.revision.czxid


def test_the_revision_is_another_one_exactly_if_a_znode_is(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ensemble.put('/t/a', '')
    listener = TreeListener(subscriber, '/t')
    listener.wait_paths('/t', '/t/a')
    first = listener.revision
    ensemble.put('/t/b', '')
    listener.wait_paths('/t', '/t/a', '/t/b')
    assert listener.revision != first
    ensemble.client.delete('/t/b')
    listener.wait_paths('/t', '/t/a')
    assert listener.revision == first
    ensemble.put('/t/a', '')
    wait_for('the change', lambda: listener.revision != first)


def test_two_subscribers_agree_on_the_revision(new_subscriber: NewSubscriber, ensemble: Ensemble) -> None:
    ChangingTree(ensemble.client, '/t', 100).grow()
    one, other = (TreeListener(new_subscriber(ensemble.hosts), '/t') for _ in range(2))
    for listener in (one, other):
        listener.wait(tree_of(ensemble.client, '/t'))
    assert one.revision == other.revision


def test_nothing_is_left_behind_on_the_server(new_subscriber: NewSubscriber, own_server: ThrowAwayServer) -> None:
    # Not of znodes that come and go while they are read, either: their names may never return.
    ensemble = Ensemble(own_server.hosts)
    with contextlib.closing(ensemble):
        ensemble.put('/t', '')
        listener = TreeListener(new_subscriber(ensemble.hosts), '/t')
        listener.wait_paths('/t')
        client = ensemble.client
        for number in range(300):
            answers = [client.create_async(f'/t/{number}'), client.delete_async(f'/t/{number}')]
            for answer in answers:
                answer.get()
        client.create('/t/end')
        listener.wait(tree_of(client, '/t'))
        wait_for('two watches for each znode', lambda: watches_of(own_server) == 4)


def test_trees_and_single_watches_share_watches_of_the_server(
        new_subscriber: NewSubscriber, own_server: ThrowAwayServer) -> None:
    ensemble = Ensemble(own_server.hosts)
    with contextlib.closing(ensemble):
        ensemble.put('/t/a', 'x')
        subscriber = new_subscriber(ensemble.hosts)
        single = subscriber.subscribe('/t/a')
        trees = [TreeListener(subscriber, path) for path in ('/t', '/t', '/t/a')]
        wait_for('the trees', lambda: all(listener.trees for listener in trees))
        single.wait(b'x')
        assert watches_of(own_server) == 4
        for listener in trees:
            listener.close()
        ensemble.put('/t/a', 'y')
        single.wait(b'y')
        ensemble.client.delete('/t/a')
        single.wait_absent()
        ensemble.put('/t/a', 'z')
        single.wait(b'z')
        assert [len(listener.states) for listener in trees] == [1, 1, 1]


def test_what_may_not_be_read_stays_as_it_was_and_the_rest_goes_on(subscriber: Subscriber, ensemble: Ensemble,
                                                                   warnings: Callable[[], List[str]]) -> None:
    for path in ('/t/hidden/below', '/t/closed/below', '/t/open/below'):
        ensemble.put(path, '')
    ensemble.client.set_acls('/t/hidden', NOBODY_READS)
    listener = TreeListener(subscriber, '/t')
    listener.wait_paths('/t', '/t/closed', '/t/closed/below', '/t/open', '/t/open/below')
    ensemble.client.set_acls('/t/closed', NOBODY_READS)
    ensemble.put('/t/closed', '1')
    ensemble.put('/t/open/below/new', '')
    ensemble.put('/t/closed/below', '1')
    listener.wait_paths('/t', '/t/closed', '/t/closed/below', '/t/open', '/t/open/below', '/t/open/below/new')
    assert [line for line in warnings() if '/hidden' in line] == [
        'ZooKeeper: no permission to read /t/hidden; trying again every 0.2 s']
    for path in ('/t/hidden', '/t/closed'):
        ensemble.client.set_acls(path, OPEN_ACL_UNSAFE)
    listener.wait(tree_of(ensemble.client, '/t'))


def test_a_tree_whose_root_may_not_be_read_is_waited_for(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ensemble.put('/t/a', '')
    ensemble.client.set_acls('/t', NOBODY_READS)
    listener = TreeListener(subscriber, '/t')
    single = subscriber.subscribe('/t')
    wait_for('the refusal', lambda: single.states)
    assert listener.states == []
    ensemble.client.set_acls('/t', OPEN_ACL_UNSAFE)
    listener.wait_paths('/t', '/t/a')
    assert len(listener.states) == 1


def test_a_lost_session_brings_no_state_if_nothing_has_changed(
        new_subscriber: NewSubscriber, short_server: ThrowAwayServer) -> None:
    part = ReconnectingEnsemble(short_server.hosts)
    with connected(part.hosts) as client:
        ChangingTree(client, '/t', 300).grow()
    proxy = Proxy(short_server.port)
    with contextlib.closing(proxy):
        subscriber = new_subscriber(f'{proxy.hosts}{part.chroot}')
        listener = TreeListener(subscriber, '/t')
        fence = subscriber.subscribe('/fence')
        for number in range(2):
            with connected(part.hosts) as client:
                listener.wait(tree_of(client, '/t'))
            proxy.refuse()
            wait_for('the end of all sessions', lambda: '\t0x' not in ask_server(short_server.port, 'dump'))
            part.put('/fence', number)
            proxy.heal()
            fence.wait(b'%d' % number)
        part.put('/t/last', '')
        with connected(part.hosts) as client:
            listener.wait(tree_of(client, '/t'))
        assert len(listener.states) == 2


@pytest.mark.parametrize('seed', range(4))
def test_a_tree_is_followed_through_any_changes_and_lost_connections(
        new_subscriber: NewSubscriber, own_server: ThrowAwayServer, seed: int) -> None:
    part = Ensemble(own_server.hosts)
    proxy = Proxy(own_server.port)
    with contextlib.closing(part), contextlib.closing(proxy):
        tree = ChangingTree(part.client, '/t', 500, seed)
        tree.grow()
        listener = TreeListener(new_subscriber(f'{proxy.hosts}{part.chroot}'), '/t')
        changing = threading.Thread(target=tree.change, args=(3000,))
        changing.start()
        while changing.is_alive():
            proxy.cut()
            changing.join(0.5)
        listener.wait(tree_of(part.client, '/t'))
        assert len({state.revision for state in listener.states}) == len(listener.states)
