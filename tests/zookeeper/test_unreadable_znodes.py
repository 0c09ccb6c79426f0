"""Znodes that may not be read for a while: that is logged once, and no change is missed, although the server does not
tell of it."""

from __future__ import annotations

import pytest
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble, connected
from tests.support.several_watches import LOADED, settled_lines, watch_several
from tests.support.subscriber import Subscriber
from tests.support.waiting import Trace, wait_for

NOBODY_READS = [make_acl('world', 'anyone', create=True, write=True, delete=True, admin=True)]


@pytest.mark.timeout(200)
@pytest.mark.parametrize('watch_type', ['WATCH_DATA', 'WATCH_CHILDREN'])
def test_a_watch_that_the_server_took_back_while_an_acl_was_closed_is_set_again_within_two_minutes(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, watch_type: str) -> None:
    def change(number: int) -> None:
        if watch_type == 'WATCH_DATA':
            ensemble.put('/a', number)
        else:
            ensemble.put(f'/a/{number}', '')

    ensemble.put('/a', 0)
    twitcher.config('a.twc', f"RegisterWatch('/a', Exec('cat >> {trace}; echo :$TWITCHER_VERSION >> {trace}'), "
                             f"watch_type={watch_type}, run_on_load=False)")
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.client.set_acls('/a', NOBODY_READS)
    change(1)  # the server does not tell, and forgets the watch
    ensemble.client.set_acls('/a', OPEN_ACL_UNSAFE)
    for number in range(2, 7):
        change(number)
    wait_for('the run that has seen the last change', lambda: trace.lines() and '6' in ''.join(trace.lines()), patience=120)
    twitcher.fence(ensemble)
    change(7)
    trace.wait_for_line({'WATCH_DATA': '7:7', 'WATCH_CHILDREN': ':7'}[watch_type])


def test_a_znode_that_may_not_be_read_is_logged_once_and_hinders_no_other(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    watch_several(twitcher, ensemble, trace)
    twitcher.config('secret.twc', f"RegisterWatch('/secret', Exec('echo secret `cat` >> {trace}'))")
    ensemble.client.create('/secret', b'1', acl=NOBODY_READS)
    twitcher.start()
    assert settled_lines(twitcher, ensemble, trace) == LOADED
    ensemble.put('/a', 1)
    trace.wait_for_line('a 1 changed')
    twitcher.wait_log('no permission to read /secret; trying again every 10 s')
    with connected(ensemble.hosts) as client:
        client.set_acls('/secret', OPEN_ACL_UNSAFE)
    trace.wait_for_line('secret 1')
    twitcher.wait_log('/secret can be read again')
    assert len(twitcher.log_lines('no permission')) == 1


def test_a_znode_that_may_not_be_read_is_logged_once_and_read_when_it_may(
        subscriber: Subscriber, ensemble: Ensemble, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    ensemble.client.create('/secret', b'0', acl=NOBODY_READS)
    listeners = [subscriber.subscribe('/secret'), subscriber.subscribe('/secret')]
    wait_for('several attempts', lambda: len(listeners[0].states) > 4)
    assert all(state.contents is None and state.revision for state in listeners[0].states)
    ensemble.client.set_acls('/secret', OPEN_ACL_UNSAFE)
    for listener in listeners:
        listener.wait(b'0')
    about = [message for message in caplog.messages if '/secret' in message]
    assert about == ['ZooKeeper: no permission to read /secret; trying again every 0.2 s',
                     'ZooKeeper: /secret can be read again']
    ensemble.client.set('/secret', b'1')
    listeners[1].wait(b'1')


def test_a_znode_made_unreadable_and_opened_later_is_told(subscriber: Subscriber, ensemble: Ensemble) -> None:
    # Servers with the remedy for CVE-2024-23944 send no event to those who may not read the znode; the watch is gone.
    listener = subscriber.subscribe('/a')
    listener.wait_absent()
    ensemble.client.create('/a', b'0', acl=NOBODY_READS)
    ensemble.client.set_acls('/a', OPEN_ACL_UNSAFE)
    ensemble.client.set('/a', b'1')
    listener.wait(b'1')


def test_a_change_while_a_znode_may_not_be_read_is_told_later(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ensemble.put('/a', '0')
    listener = subscriber.subscribe('/a')
    listener.wait(b'0')
    ensemble.client.set_acls('/a', NOBODY_READS)
    ensemble.client.set('/a', b'1')
    ensemble.client.set_acls('/a', OPEN_ACL_UNSAFE)
    listener.wait(b'1')


def test_the_deletion_of_a_znode_that_may_not_be_read_is_told(subscriber: Subscriber, ensemble: Ensemble) -> None:
    ensemble.client.create('/secret', b'0', acl=NOBODY_READS)
    listener = subscriber.subscribe('/secret')
    wait_for('a state', lambda: listener.states)
    ensemble.client.delete('/secret')
    listener.wait_absent()
    ensemble.put('/secret', 'open')
    listener.wait(b'open')
