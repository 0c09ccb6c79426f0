"""The keeper on a real ZooKeeper: what listeners are told, how often, and at which cost to the server and to us."""

from __future__ import annotations

import threading
from typing import Iterator, List

import pytest
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from tests.support.ensemble import Ensemble
from tests.support.subscriber import CHILDREN, DATA, Keep, Keeping, Told, count_watches, keepers
from tests.support.waiting import wait_for
from twitcher.config.spec import WatchType
from twitcher.znode import ZnodeState
from twitcher.zookeeper.throwaway import ThrowAwayServer

NOBODY_READS = [make_acl('world', 'anyone', create=True, write=True, delete=True, admin=True)]


@pytest.fixture
def keep() -> Iterator[Keep]:
    """Makes keepers for a host list."""
    with keepers() as keep:
        yield keep


@pytest.fixture
def keeping(keep: Keep, ensemble: Ensemble) -> Keeping:
    """A keeper for the `ensemble` fixture."""
    return keep(ensemble.hosts)


def fence(keeping: Keeping, ensemble: Ensemble) -> None:
    """Return when all that has happened so far has been told."""
    for watch_type in (DATA, CHILDREN):
        told = keeping.subscribe('/fence', watch_type)
        wait_for('the fence', lambda told=told: told.states)  # type: ignore[misc]
        before = len(told.states)
        ensemble.client.ensure_path('/fence')
        ensemble.client.create('/fence/x', sequence=True)
        ensemble.client.set('/fence', b'')
        wait_for('the fence', lambda told=told, before=before: len(told.states) > before)  # type: ignore[misc]
        keeping.unsubscribe(told)


def test_a_listener_is_told_what_is_there_and_each_change(keeping: Keeping, ensemble: Ensemble) -> None:
    ensemble.put('/a', 'one')
    told = keeping.subscribe('/a')
    assert told.wait(b'one').version == 0
    for number in range(20):
        ensemble.put('/a', number)
        assert told.wait(b'%d' % number).version == number + 1
    fence(keeping, ensemble)
    assert told.contents == [b'one', *(b'%d' % number for number in range(20))]


@pytest.mark.parametrize('watch_type', [DATA, CHILDREN])
def test_creation_deletion_and_creation_again_are_told(keeping: Keeping, ensemble: Ensemble, watch_type: WatchType) -> None:
    contents = {DATA: b'x', CHILDREN: b''}[watch_type]
    told = keeping.subscribe('/deep/down', watch_type)
    told.wait_absent()
    stamps = set()
    for _ in range(3):
        ensemble.put('/deep/down', 'x')
        stamps.add(told.wait(contents).stamp)
        ensemble.client.delete('/deep', recursive=True)
        told.wait_absent()
    assert len(stamps) == 3


def test_the_root_can_be_watched(keeping: Keeping, ensemble: Ensemble) -> None:
    data, children = keeping.subscribe('/'), keeping.subscribe('/', CHILDREN)
    data.wait(b'')
    children.wait(b'')
    ensemble.put('/a', '')
    children.wait(b'a\n')
    ensemble.client.set('/', b'r')
    data.wait(b'r')


@pytest.mark.parametrize('contents', [b'', bytes(range(256)), b'x' * 1_000_000])
def test_contents_come_as_they_are(keeping: Keeping, ensemble: Ensemble, contents: bytes) -> None:
    told = keeping.subscribe('/a')
    ensemble.put('/a', contents)
    told.wait(contents)


def test_null_contents_are_empty(keeping: Keeping, ensemble: Ensemble) -> None:
    ensemble.client.create('/a', None)
    assert ensemble.client.get('/a')[0] in (None, b'')
    assert keeping.subscribe('/a').wait(b'').version == 0


def test_children_are_sorted_one_a_line_and_neither_their_nor_the_znodes_contents_count(keeping: Keeping,
                                                                                        ensemble: Ensemble) -> None:
    for name in ('b', 'ä', 'a', '10', '9'):
        ensemble.put(f'/p/{name}', '')
    told = keeping.subscribe('/p', CHILDREN)
    stamp = told.wait('10\n9\na\nb\nä\n'.encode()).stamp
    ensemble.put('/p', 'x')
    ensemble.put('/p/a', 'x')
    ensemble.put('/p/a/deeper', 'x')
    fence(keeping, ensemble)
    assert {state.stamp for state in told.states} == {stamp}
    ensemble.client.delete('/p/b')
    state = told.wait('10\n9\na\nä\n'.encode())
    assert state.stamp != stamp
    ensemble.put('/p/b', '')
    again = told.wait('10\n9\na\nb\nä\n'.encode())
    assert again.stamp not in (stamp, state.stamp)
    assert again.stamp and again.stamp.zxid == ensemble.client.get('/p')[1].pzxid


def test_all_listeners_of_a_znode_share_one_watch_on_the_server(keeping: Keeping, ensemble: Ensemble,
                                                                shared_server: ThrowAwayServer) -> None:
    ensemble.put('/a', 0)
    listeners = [keeping.subscribe('/a') for _ in range(20)]
    for number in range(5):
        ensemble.put('/a', number)
        for told in listeners:
            told.wait(b'%d' % number)
        wait_for('one watch', lambda: count_watches(shared_server.port, f'{ensemble.chroot}/a') == 1)


def test_a_listener_is_told_nothing_after_it_has_left_and_the_others_are(keeping: Keeping, ensemble: Ensemble) -> None:
    ensemble.put('/a', 0)
    gone, other = keeping.subscribe('/a'), keeping.subscribe('/a')
    gone.wait(b'0')
    other.wait(b'0')
    keeping.unsubscribe(gone)
    seen = len(gone.states)
    ensemble.put('/a', 1)
    other.wait(b'1')
    assert len(gone.states) == seen


def test_a_listener_that_fails_keeps_no_other_from_being_told(keeping: Keeping, ensemble: Ensemble) -> None:
    class Failing(Told):
        def __call__(self, state: ZnodeState) -> None:
            super().__call__(state)
            raise RuntimeError('the test says so')

    ensemble.put('/a', 0)
    failing = Failing('/a', DATA)
    keeping.call(keeping.keeper.subscribe, '/a', DATA, failing)
    wait_for('the failure', lambda: failing.states)
    told = keeping.subscribe('/a')
    for number in range(3):
        ensemble.put('/a', number)
        told.wait(b'%d' % number)


def test_thousands_of_subscriptions_leave_no_trace(keeping: Keeping, ensemble: Ensemble,
                                                   shared_server: ThrowAwayServer) -> None:
    ensemble.put('/a', 0)

    def come_and_go() -> None:
        for watch_type in (DATA, CHILDREN):
            for path in ('/a', '/absent'):
                told = Told(path, watch_type)
                keeping.keeper.subscribe(path, watch_type, told)
                keeping.keeper.unsubscribe(path, watch_type, told)

    for _ in range(1000):
        keeping.call(come_and_go)
    told = keeping.subscribe('/a')
    told.wait(b'0')
    fence(keeping, ensemble)
    client = keeping.session.client
    for watchers in (client._data_watchers, client._child_watchers):
        assert sum(len(of_path) for of_path in watchers.values()) <= 4
    assert count_watches(shared_server.port, ensemble.chroot) <= 8
    ensemble.put('/a', 1)
    told.wait(b'1')


def test_a_znode_that_may_not_be_read_is_logged_once_and_read_when_it_may(
        keeping: Keeping, ensemble: Ensemble, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    ensemble.client.create('/secret', b'0', acl=NOBODY_READS)
    listeners = [keeping.subscribe('/secret'), keeping.subscribe('/secret')]
    wait_for('several attempts', lambda: len(listeners[0].states) > 4)
    assert all(state.contents is None and state.stamp for state in listeners[0].states)
    ensemble.client.set_acls('/secret', OPEN_ACL_UNSAFE)
    for told in listeners:
        told.wait(b'0')
    about = [message for message in caplog.messages if '/secret' in message]
    assert about == ['ZooKeeper: no permission to read /secret; trying again every 0.2 s',
                     'ZooKeeper: /secret can be read again']
    ensemble.client.set('/secret', b'1')
    listeners[1].wait(b'1')


def test_a_znode_made_unreadable_and_opened_later_is_told(keeping: Keeping, ensemble: Ensemble) -> None:
    # Servers with the remedy for CVE-2024-23944 send no event to those who may not read the znode; the watch is gone.
    told = keeping.subscribe('/a')
    told.wait_absent()
    ensemble.client.create('/a', b'0', acl=NOBODY_READS)
    ensemble.client.set_acls('/a', OPEN_ACL_UNSAFE)
    ensemble.client.set('/a', b'1')
    told.wait(b'1')


def test_a_change_while_a_znode_may_not_be_read_is_told_later(keeping: Keeping, ensemble: Ensemble) -> None:
    ensemble.put('/a', '0')
    told = keeping.subscribe('/a')
    told.wait(b'0')
    ensemble.client.set_acls('/a', NOBODY_READS)
    ensemble.client.set('/a', b'1')
    ensemble.client.set_acls('/a', OPEN_ACL_UNSAFE)
    told.wait(b'1')


def test_the_deletion_of_a_znode_that_may_not_be_read_is_told(keeping: Keeping, ensemble: Ensemble) -> None:
    ensemble.client.create('/secret', b'0', acl=NOBODY_READS)
    told = keeping.subscribe('/secret')
    wait_for('a state', lambda: told.states)
    ensemble.client.delete('/secret')
    told.wait_absent()
    ensemble.put('/secret', 'open')
    told.wait(b'open')


def test_of_fast_updates_the_last_is_told_and_never_an_older_after_a_newer(keeping: Keeping, ensemble: Ensemble) -> None:
    ensemble.put('/a', 0)
    told = keeping.subscribe('/a')
    told.wait(b'0')
    for result in [ensemble.client.set_async('/a', b'%d' % number) for number in range(1, 3001)]:
        result.get(60)
    told.wait(b'3000')
    versions = [state.version for state in told.states]
    assert versions == sorted(versions)


def test_two_thousand_znodes_are_told_with_few_threads_and_few_requests_at_a_time(
        keeping: Keeping, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    for result in [ensemble.client.create_async(f'/z{number}', b'%d' % number) for number in range(0, 2000, 2)]:
        result.get(60)
    before = threading.active_count()
    keeping.subscribe('/').wait(b'')
    monkeypatch.setattr('twitcher.zookeeper.node.IN_FLIGHT', 16)
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, len(keeping.session.client._pending) + len(keeping.session.client._queue))

    listeners: List[Told] = []

    def subscribe_all() -> None:
        for number in range(2000):
            listeners.append(Told(f'/z{number}', DATA))
            keeping.keeper.subscribe(f'/z{number}', DATA, listeners[-1])
            look()

    keeping.call(subscribe_all)
    for number, told in enumerate(listeners):
        if number % 2:
            told.wait_absent()
        else:
            told.wait(b'%d' % number)
        look()
    assert most <= 17
    assert threading.active_count() == before
