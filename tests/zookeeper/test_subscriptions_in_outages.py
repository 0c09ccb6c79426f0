"""Subscriptions while the server stops and starts, is restored from a backup, hangs, or is no ZooKeeper at all."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from tests.support.ensemble import ReconnectingEnsemble
from tests.support.proxy import Proxy
from tests.support.subscriber import CHILDREN, NewSubscriber, Subscriber, count_watches
from tests.support.waiting import wait_for
from twitcher.zookeeper.throwaway import ThrowAwayServer, free_port


def test_a_server_that_comes_up_later_is_found(new_subscriber: NewSubscriber) -> None:
    server = ThrowAwayServer()
    subscriber = new_subscriber(server.hosts)
    listener = subscriber.subscribe('/a')
    try:
        server.start()
        listener.wait_absent()
        subscriber.unsubscribe(listener)
    finally:
        server.remove()


def test_a_restart_hides_no_change_and_changes_no_revision(new_subscriber: NewSubscriber, own_server: ThrowAwayServer) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    for name in ('same', 'other', 'p/child'):
        part.put(f'/{name}', 0)
    subscriber = new_subscriber(part.hosts)
    same, other, absent = (subscriber.subscribe(f'/{name}') for name in ('same', 'other', 'absent'))
    children = subscriber.subscribe('/p', CHILDREN)
    for listener in (same, other):
        listener.wait(b'0')
    children.wait(b'child\n')
    absent.wait_absent()
    threads = threading.active_count()
    for number in range(1, 3):
        own_server.stop()
        own_server.start()
        part.put('/other', number)
        other.wait(b'%d' % number)
        wait_for('all znodes read again', lambda number=number: all(  # type: ignore[misc]
            len(listener.states) > number for listener in (same, children, absent)))
    for listener in (same, children, absent):
        assert len({state.revision for state in listener.states}) == 1
    assert threading.active_count() == threads
    wait_for('one watch for each', lambda: count_watches(own_server.port, part.chroot) == 3)  # it does not list children's


@pytest.mark.filterwarnings('ignore:No chroot path exists')  # the restored server has lost it
def test_a_server_restored_with_smaller_zxids_is_believed(new_subscriber: NewSubscriber, own_server: ThrowAwayServer) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    for number in range(30):
        part.put('/a', number)
    subscriber = new_subscriber(part.hosts)
    listener = subscriber.subscribe('/a')
    old = listener.wait(b'29')
    own_server.stop()
    shutil.rmtree(Path(own_server.directory) / 'version-2')
    own_server.start()
    part.put('/a', 'restored')
    new = listener.wait(b'restored')
    assert old.revision and new.revision and new.revision.zxid < old.revision.zxid


def test_what_changed_on_a_half_open_connection_is_told_after_it(new_subscriber: NewSubscriber, own_server: ThrowAwayServer,
                                                                 proxy: Proxy) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    part.put('/a', 0)
    subscriber = new_subscriber(proxy.hosts + part.chroot)
    listener = subscriber.subscribe('/a')
    listener.wait(b'0')
    proxy.swallow()
    part.put('/a', 1)
    late = subscriber.subscribe('/late')
    proxy.heal()
    listener.wait(b'1')
    late.wait_absent()


def test_changes_are_told_over_a_slow_and_often_cut_connection(
        new_subscriber: NewSubscriber, own_server: ThrowAwayServer, proxy: Proxy) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    part.put('/a', -1)
    proxy.delay = 0.02
    subscriber = new_subscriber(proxy.hosts + part.chroot)
    listener = subscriber.subscribe('/a')
    listener.wait(b'-1')
    for number in range(8):
        proxy.cut()
        part.put('/a', number)
        if number % 2:
            proxy.cut()
    listener.wait(b'7')
    versions = [state.version for state in listener.states]
    assert versions == sorted(versions)


@pytest.mark.parametrize('greeting', [b'', b'\0\0\0\0', b'\xff\xff\xff\xff', b'\0\0\0\x04\0\0', b'HTTP/1.1 400 Bad\r\n'])
def test_thirty_vain_attempts_are_logged_in_few_lines(
        new_subscriber: NewSubscriber, own_server: ThrowAwayServer, proxy: Proxy, greeting: bytes,
        caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    proxy.greet(greeting)
    subscriber = new_subscriber(','.join([proxy.hosts] * 15))  # a round of 15 attempts before each pause
    listener = subscriber.subscribe('/a')
    wait_for('30 attempts', lambda: proxy.attempts >= 30)
    assert 0 < len([record for record in caplog.records if record.levelname != 'DEBUG']) < 10
    proxy.heal()
    listener.wait_absent()


def test_a_stop_ends_the_threads_whether_connected_or_not(
        new_subscriber: NewSubscriber, shared_server: ThrowAwayServer) -> None:
    for hosts in (shared_server.hosts, f'127.0.0.1:{free_port()}'):
        before = threading.active_count()
        subscriber = Subscriber(hosts)
        if hosts == shared_server.hosts:
            subscriber.subscribe('/a').wait_absent()
        subscriber.close()
        wait_for('the end of the threads', lambda before=before: threading.active_count() <= before)  # type: ignore[misc]
