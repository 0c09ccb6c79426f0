"""A running daemon whose ZooKeeper goes away in every way: nothing is lost, nothing runs twice, the log stays short."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Callable, Tuple

import pytest

from tests.support.actions import slow
from tests.support.daemon import NewDaemon, Twitcher
from tests.support.ensemble import ReconnectingEnsemble
from tests.support.proxy import NewProxy, Proxy
from tests.support.quorum import Quorum
from tests.support.several_watches import LOADED, settled_lines, start_several, watch_several
from tests.support.subscriber import ask_server
from tests.support.waiting import Trace, wait_for
from twitcher.zookeeper.throwaway import ThrowAwayServer

BehindProxy = Callable[[ThrowAwayServer], Tuple[Twitcher, ReconnectingEnsemble, Proxy]]


@pytest.fixture
def behind_proxy(new_daemon: NewDaemon, new_proxy: NewProxy) -> BehindProxy:
    """Makes a daemon that reaches a server through a proxy, a part of the server, reached without it, and the proxy."""
    def make(server: ThrowAwayServer) -> Tuple[Twitcher, ReconnectingEnsemble, Proxy]:
        part, proxy = ReconnectingEnsemble(server.hosts), new_proxy(server)
        return new_daemon(proxy.hosts + part.chroot), part, proxy

    return make


def test_a_zookeeper_that_is_not_there_at_start_is_waited_for(
        new_daemon: NewDaemon, own_server: ThrowAwayServer, trace: Trace) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    daemon = new_daemon(part.hosts)
    watch_several(daemon, part, trace)
    own_server.stop()
    daemon.start(wait=False)
    daemon.wait_log('Connection refused')
    daemon.wait_log(r'all\.twc: loaded')
    own_server.start()
    assert sorted(trace.wait(3)) == LOADED
    daemon.wait_log('ZooKeeper: connected')
    part.put('/absent', 1)
    trace.wait_for_line('absent 1 created')
    assert settled_lines(daemon, part, trace) == sorted([*LOADED, 'absent 1 created'])


def test_a_restart_of_an_idle_server_runs_nothing(
        new_daemon: NewDaemon, own_server: ThrowAwayServer, trace: Trace) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    daemon = new_daemon(part.hosts)
    start_several(daemon, part, trace)
    for _ in range(2):
        seen = len(daemon.log())
        own_server.stop()
        daemon.wait_log('the connection is lost', after=seen)
        own_server.start()
        daemon.wait_log('ZooKeeper: connected', after=seen)
    assert settled_lines(daemon, part, trace) == LOADED
    assert 'children' not in trace.lines()


@pytest.mark.parametrize('is_noticed', [True, False])
def test_updates_around_a_restart_run_once_each_and_nothing_else_does(
        behind_proxy: BehindProxy, own_server: ThrowAwayServer, trace: Trace, is_noticed: bool) -> None:
    daemon, part, proxy = behind_proxy(own_server)
    start_several(daemon, part, trace)
    if is_noticed:
        proxy.refuse()
        daemon.wait_log('the connection is lost')
    own_server.stop()
    own_server.start()
    for name in ('a', 'late', 'absent'):
        part.put(f'/{name}', 1)
    proxy.heal()
    for line in ('a 1 changed', 'late 1 changed', 'absent 1 created'):
        trace.wait_for_line(line)
    assert settled_lines(daemon, part, trace) == sorted([*LOADED, 'a 1 changed', 'late 1 changed', 'absent 1 created'])


def test_a_server_killed_in_the_midst_of_updates_loses_none_and_repeats_none(
        new_daemon: NewDaemon, own_server: ThrowAwayServer, trace: Trace) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    daemon = new_daemon(part.hosts)
    start_several(daemon, part, trace)
    for number in range(1, 7):
        part.put('/a', number)
        if number % 2:
            own_server.stop()
            own_server.start()
        trace.wait_for_line(f'a {number} changed')
    assert settled_lines(daemon, part, trace) == sorted([*LOADED, *(f'a {number} changed' for number in range(1, 7))])


@pytest.mark.parametrize('session', ['goes on', 'expires'])
def test_an_update_during_a_cut_runs_once_whether_the_session_goes_on_or_expires(
        behind_proxy: BehindProxy, own_server: ThrowAwayServer, short_server: ThrowAwayServer, trace: Trace,
        session: str) -> None:
    server = own_server if session == 'goes on' else short_server
    daemon, part, proxy = behind_proxy(server)
    start_several(daemon, part, trace)
    first = daemon.wait_log('session (0x[0-9a-f]+)')[0][1]
    seen = len(daemon.log())
    proxy.refuse()
    part.put('/a', 1)
    part.put('/late', 1)
    if session == 'expires':
        wait_for('the end of the session', lambda: first not in ask_server(server.port, 'dump'))
    proxy.heal()
    second = daemon.wait_log('session (0x[0-9a-f]+)', after=seen)[0][1]
    assert (first == second) == (session == 'goes on')
    for line in ('a 1 changed', 'late 1 changed'):
        trace.wait_for_line(line)
    assert settled_lines(daemon, part, trace) == sorted([*LOADED, 'a 1 changed', 'late 1 changed'])
    if session == 'expires':
        assert len(daemon.log_lines('the session has expired')) == 1


def test_a_run_goes_on_while_the_session_expires_and_what_waits_for_it_runs_once(
        behind_proxy: BehindProxy, short_server: ThrowAwayServer, trace: Trace, gate: Path) -> None:
    daemon, part, proxy = behind_proxy(short_server)
    daemon.config('q.twc', f"RegisterWatch('/q', {slow(trace, gate)})")
    part.put('/q', 0)
    daemon.start()
    trace.wait_for_line('begin 0')
    part.put('/q', 1)
    seen = len(daemon.log())
    proxy.refuse()
    part.put('/q', 2)
    session = daemon.wait_log('session (0x[0-9a-f]+)')[0][1]
    wait_for('the end of the session', lambda: session not in ask_server(short_server.port, 'dump'))
    proxy.heal()
    daemon.wait_log('ZooKeeper: connected', after=seen)
    daemon.fence(part)
    gate.touch()
    assert trace.wait(4) == ['begin 0', 'end', 'begin 2', 'end']
    daemon.fence(part)
    assert len(daemon.started('q.twc')) == 2


def test_a_half_open_connection_is_noticed_and_its_update_runs_once(
        behind_proxy: BehindProxy, short_server: ThrowAwayServer, trace: Trace) -> None:
    daemon, part, proxy = behind_proxy(short_server)
    start_several(daemon, part, trace)
    proxy.swallow()
    part.put('/a', 1)
    daemon.wait_log('the connection is lost')
    proxy.heal()
    trace.wait_for_line('a 1 changed')
    assert settled_lines(daemon, part, trace) == sorted([*LOADED, 'a 1 changed'])


def test_a_server_that_hangs_holds_up_neither_runs_nor_a_stop(
        behind_proxy: BehindProxy, short_server: ThrowAwayServer, trace: Trace) -> None:
    daemon, part, proxy = behind_proxy(short_server)
    start_several(daemon, part, trace)
    proxy.swallow()
    daemon.config('more.twc', "for number in range(1000): RegisterWatch(f'/more{number}', Exec('true'))")
    daemon.wait_log(r'more\.twc: loaded')
    daemon.wait_log('the connection is lost')
    daemon.config('one.twc', "RegisterWatch('/one', Exec('true'))")
    daemon.wait_log(r'one\.twc: loaded')
    before = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - before < 5  # a second on an idle machine; kazoo itself would take ten


def test_an_ensemble_that_loses_the_member_we_are_connected_to_loses_no_update(
        new_daemon: NewDaemon, trace: Trace) -> None:
    quorum = Quorum()
    try:
        quorum.start()
        part = ReconnectingEnsemble(quorum.hosts)
        daemon = new_daemon(part.hosts)
        start_several(daemon, part, trace)
        for number in (1, 3, 5):
            member = quorum.server_of(daemon.pid)
            part.put('/a', number)
            member.stop()
            part.put('/a', number + 1)
            trace.wait_for_line(f'a {number + 1} changed')
            quorum.restart(member)
        lines = settled_lines(daemon, part, trace)
        assert len(set(lines)) == len(lines)
        assert [line for line in lines if not line.startswith('a ')] == LOADED[1:]
        order = [int(line.split()[1]) for line in trace.lines() if line.startswith('a ')]
        assert order == sorted(order)
        assert {0, 2, 4, 6} <= set(order)
        assert daemon.stop() == 0
    finally:
        quorum.remove()


def test_an_outage_of_thirty_attempts_is_logged_in_few_lines(
        new_daemon: NewDaemon, own_server: ThrowAwayServer, trace: Trace,
        new_proxy: NewProxy) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    proxy = new_proxy(own_server)
    daemon = new_daemon(','.join([proxy.hosts] * 10) + part.chroot)  # ten attempts before each pause
    start_several(daemon, part, trace)
    seen, attempts = len(daemon.log()), proxy.attempts
    proxy.refuse()
    part.put('/a', 1)
    wait_for('thirty attempts', lambda: proxy.attempts >= attempts + 30)
    proxy.heal()
    trace.wait_for_line('a 1 changed')
    about = [line for line in daemon.log()[seen:].splitlines() if re.search('zookeeper|connect', line, re.IGNORECASE)]
    assert 2 <= len(about) < 10, about
