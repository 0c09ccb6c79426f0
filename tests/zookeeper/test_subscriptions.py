"""Subscriptions on a real ZooKeeper: what listeners receive, how often, and at what cost to the server and to us."""

from __future__ import annotations

import threading
from typing import List

import pytest

from tests.support.ensemble import Ensemble
from tests.support.subscriber import CHILDREN, DATA, Listener, Subscriber, count_watches
from tests.support.waiting import wait_for
from twitcher.znode import WatchType, ZnodeState
from twitcher.zookeeper.throwaway import ThrowAwayServer


def fence(subscriber: Subscriber, ensemble: Ensemble) -> None:
    """Return when listeners have received all that has happened so far."""
    for watch_type in (DATA, CHILDREN):
        listener = subscriber.subscribe('/fence', watch_type)
        wait_for('the fence', lambda listener=listener: listener.states)  # type: ignore[misc]
        before = len(listener.states)
        ensemble.client.ensure_path('/fence')
        ensemble.client.create('/fence/x', sequence=True)
        ensemble.client.set('/fence', b'')
        wait_for('the fence', lambda listener=listener, before=before: len(listener.states) > before)  # type: ignore[misc]
        subscriber.unsubscribe(listener)


def test_a_listener_is_told_what_is_there_and_each_change(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ensemble.put('/a', 'one')
    listener = subscriber.subscribe('/a')
    assert listener.wait(b'one').version == 0
    for number in range(20):
        ensemble.put('/a', number)
        assert listener.wait(b'%d' % number).version == number + 1
    fence(subscriber, ensemble)
    assert listener.contents == [b'one', *(b'%d' % number for number in range(20))]


@pytest.mark.parametrize('watch_type', [DATA, CHILDREN])
def test_creation_deletion_and_creation_again_are_told(
        subscriber: Subscriber, ensemble: Ensemble, watch_type: WatchType) -> None:
    contents = {DATA: b'x', CHILDREN: b''}[watch_type]
    listener = subscriber.subscribe('/deep/down', watch_type)
    listener.wait_absent()
    revisions = set()
    for _ in range(3):
        ensemble.put('/deep/down', 'x')
        revisions.add(listener.wait(contents).revision)
        ensemble.client.delete('/deep', recursive=True)
        listener.wait_absent()
    assert len(revisions) == 3


def test_the_root_can_be_watched(subscriber: Subscriber, ensemble: Ensemble) -> None:
    data, children = subscriber.subscribe('/'), subscriber.subscribe('/', CHILDREN)
    data.wait(b'')
    children.wait(b'')
    ensemble.put('/a', '')
    children.wait(b'a\n')
    ensemble.client.set('/', b'r')
    data.wait(b'r')


@pytest.mark.parametrize('contents', [b'', bytes(range(256)), b'x' * 1_000_000])
def test_contents_come_as_they_are(subscriber: Subscriber, ensemble: Ensemble, contents: bytes) -> None:
    listener = subscriber.subscribe('/a')
    ensemble.put('/a', contents)
    listener.wait(contents)


def test_null_contents_are_empty(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ensemble.client.create('/a', None)
    assert ensemble.client.get('/a')[0] in (None, b'')
    assert subscriber.subscribe('/a').wait(b'').version == 0


def test_children_are_sorted_one_a_line_and_neither_their_nor_the_znodes_contents_count(subscriber: Subscriber,
                                                                                        ensemble: Ensemble) -> None:
    for name in ('b', 'ä', 'a', '10', '9'):
        ensemble.put(f'/p/{name}', '')
    listener = subscriber.subscribe('/p', CHILDREN)
    revision = listener.wait('10\n9\na\nb\nä\n'.encode()).revision
    ensemble.put('/p', 'x')
    ensemble.put('/p/a', 'x')
    ensemble.put('/p/a/deeper', 'x')
    fence(subscriber, ensemble)
    assert {state.revision for state in listener.states} == {revision}
    ensemble.client.delete('/p/b')
    state = listener.wait('10\n9\na\nä\n'.encode())
    assert state.revision != revision
    ensemble.put('/p/b', '')
    again = listener.wait('10\n9\na\nb\nä\n'.encode())
    assert again.revision not in (revision, state.revision)
    assert again.revision and again.revision.zxid == ensemble.client.get('/p')[1].pzxid


def test_all_listeners_of_a_znode_share_one_watch_on_the_server(subscriber: Subscriber, ensemble: Ensemble,
                                                                shared_server: ThrowAwayServer) -> None:
    ensemble.put('/a', 0)
    listeners = [subscriber.subscribe('/a') for _ in range(20)]
    for number in range(5):
        ensemble.put('/a', number)
        for listener in listeners:
            listener.wait(b'%d' % number)
        wait_for('one watch', lambda: count_watches(shared_server.port, f'{ensemble.chroot}/a') == 1)


def test_a_listener_is_told_nothing_after_it_has_left_and_the_others_are(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ensemble.put('/a', 0)
    gone, other = subscriber.subscribe('/a'), subscriber.subscribe('/a')
    gone.wait(b'0')
    other.wait(b'0')
    subscriber.unsubscribe(gone)
    seen = len(gone.states)
    ensemble.put('/a', 1)
    other.wait(b'1')
    assert len(gone.states) == seen


def test_a_listener_that_fails_keeps_no_other_from_being_told(subscriber: Subscriber, ensemble: Ensemble) -> None:
    class Failing(Listener):
        def __call__(self, state: ZnodeState) -> None:
            super().__call__(state)
            raise RuntimeError('the test says so')

    ensemble.put('/a', 0)
    failing = Failing('/a', DATA)
    subscriber.call(subscriber.subscriptions.subscribe, '/a', DATA, failing)
    wait_for('the failure', lambda: failing.states)
    listener = subscriber.subscribe('/a')
    for number in range(3):
        ensemble.put('/a', number)
        listener.wait(b'%d' % number)


def test_thousands_of_subscriptions_leave_no_trace(subscriber: Subscriber, ensemble: Ensemble,
                                                   shared_server: ThrowAwayServer) -> None:
    ensemble.put('/a', 0)

    def come_and_go() -> None:
        for watch_type in (DATA, CHILDREN):
            for path in ('/a', '/absent'):
                listener = Listener(path, watch_type)
                subscriber.subscriptions.subscribe(path, watch_type, listener)
                subscriber.subscriptions.unsubscribe(path, watch_type, listener)

    for _ in range(1000):
        subscriber.call(come_and_go)
    listener = subscriber.subscribe('/a')
    listener.wait(b'0')
    fence(subscriber, ensemble)
    client = subscriber.session.client
    for watchers in (client._data_watchers, client._child_watchers):
        assert sum(len(of_path) for of_path in watchers.values()) <= 4
    assert count_watches(shared_server.port, ensemble.chroot) <= 8
    ensemble.put('/a', 1)
    listener.wait(b'1')


def test_of_fast_updates_the_last_is_told_and_never_an_older_after_a_newer(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ensemble.put('/a', 0)
    listener = subscriber.subscribe('/a')
    listener.wait(b'0')
    for result in [ensemble.client.set_async('/a', b'%d' % number) for number in range(1, 3001)]:
        result.get(60)
    listener.wait(b'3000')
    versions = [state.version for state in listener.states]
    assert versions == sorted(versions)


def test_two_thousand_znodes_are_told_with_few_threads_and_few_requests_at_a_time(
        subscriber: Subscriber, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    for result in [ensemble.client.create_async(f'/z{number}', b'%d' % number) for number in range(0, 2000, 2)]:
        result.get(60)
    before = threading.active_count()
    subscriber.subscribe('/').wait(b'')
    monkeypatch.setattr('twitcher.zookeeper.node.MAX_IN_FLIGHT', 16)
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, len(subscriber.session.client._pending) + len(subscriber.session.client._queue))

    listeners: List[Listener] = []

    def subscribe_all() -> None:
        for number in range(2000):
            listeners.append(Listener(f'/z{number}', DATA))
            subscriber.subscriptions.subscribe(f'/z{number}', DATA, listeners[-1])
            look()

    subscriber.call(subscribe_all)
    for number, listener in enumerate(listeners):
        if number % 2:
            listener.wait_absent()
        else:
            listener.wait(b'%d' % number)
        look()
    assert most <= 17
    assert threading.active_count() <= before
