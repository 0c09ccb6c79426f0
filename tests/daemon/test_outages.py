"""A running daemon whose ZooKeeper goes away in every way: nothing is lost, nothing runs twice, the log stays short."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Callable, Iterator, List

import pytest
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble, ReconnectingEnsemble, connected
from tests.support.proxy import Proxy
from tests.support.quorum import Quorum
from tests.support.subscriber import ask_server
from tests.support.waiting import Trace, wait_for
from twitcher.zookeeper.throwaway import ThrowAwayServer

NOBODY_READS = [make_acl('world', 'anyone', create=True, write=True, delete=True, admin=True)]
LOADED = ['a 0 load', 'idle 0 load', 'par 0 load']


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Callable[[str], Twitcher]]:
    """Makes daemons for a host list; they are not started yet."""
    made: List[Twitcher] = []

    def make(hosts: str) -> Twitcher:
        made.append(Twitcher(tmp_path, hosts))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()


@pytest.fixture
def proxies() -> Iterator[Callable[[ThrowAwayServer], Proxy]]:
    """Makes proxies that stand before a server."""
    made: List[Proxy] = []

    def make(server: ThrowAwayServer) -> Proxy:
        made.append(Proxy(server.port))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def watch_several(daemon: Twitcher, part: Ensemble, trace: Trace) -> None:
    """Have /a watched, and other znodes that stay as they are, in all modes."""
    for name in ('a', 'idle', 'late', 'par'):
        part.put(f'/{name}', 0)
    daemon.config('all.twc', f"""
        def watch(name, **more):
            RegisterWatch('/' + name, Exec('echo ' + name + ' `cat` $TWITCHER_EVENT >> {trace}'), description=name, **more)

        watch('a')
        watch('idle')
        watch('late', run_on_load=False)
        watch('par', run_mode=PARALLEL)
        watch('absent')
        RegisterWatch('/', Exec('echo children >> {trace}'), watch_type=WATCH_CHILDREN, run_on_load=False)
        """)


def settled(daemon: Twitcher, part: Ensemble, trace: Trace) -> List[str]:
    """The lines of all runs, with the znodes read again and all said."""
    daemon.fence(part)
    wait_for('the end of all runs', lambda: len(daemon.log_lines(r': pid \d+ (exited|was killed)'))
             == len(daemon.log_lines(r': pid \d+ started')))
    return sorted(line for line in trace.lines() if line != 'children')


def start(daemon: Twitcher, part: Ensemble, trace: Trace) -> None:
    """Start it and let the load runs pass."""
    daemon.config('fence.twc', f"RegisterWatch('/fence', Exec('echo `cat` >> {daemon.directory}/fence'), run_mode=PARALLEL)")
    watch_several(daemon, part, trace)
    part.put('/fence', 'there')
    daemon.start()
    assert settled(daemon, part, trace) == LOADED


def test_a_zookeeper_that_is_not_there_at_start_is_waited_for(
        daemons: Callable[[str], Twitcher], own_server: ThrowAwayServer, trace: Trace) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    daemon = daemons(part.hosts)
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
    assert settled(daemon, part, trace) == sorted([*LOADED, 'absent 1 created'])


def test_a_restart_of_an_idle_server_runs_nothing(
        daemons: Callable[[str], Twitcher], own_server: ThrowAwayServer, trace: Trace) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    daemon = daemons(part.hosts)
    start(daemon, part, trace)
    for _ in range(2):
        seen = len(daemon.log())
        own_server.stop()
        daemon.wait_log('the connection is lost', after=seen)
        own_server.start()
        daemon.wait_log('ZooKeeper: connected', after=seen)
    assert settled(daemon, part, trace) == LOADED
    assert 'children' not in trace.lines()


@pytest.mark.parametrize('is_noticed', [True, False])
def test_updates_around_a_restart_run_once_each_and_nothing_else_does(
        daemons: Callable[[str], Twitcher], own_server: ThrowAwayServer, trace: Trace,
        proxies: Callable[[ThrowAwayServer], Proxy], is_noticed: bool) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    proxy = proxies(own_server)
    daemon = daemons(proxy.hosts + part.chroot)
    start(daemon, part, trace)
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
    assert settled(daemon, part, trace) == sorted([*LOADED, 'a 1 changed', 'late 1 changed', 'absent 1 created'])


def test_a_server_killed_in_the_midst_of_updates_loses_none_and_repeats_none(
        daemons: Callable[[str], Twitcher], own_server: ThrowAwayServer, trace: Trace) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    daemon = daemons(part.hosts)
    start(daemon, part, trace)
    for number in range(1, 7):
        part.put('/a', number)
        if number % 2:
            own_server.stop()
            own_server.start()
        trace.wait_for_line(f'a {number} changed')
    assert settled(daemon, part, trace) == sorted([*LOADED, *(f'a {number} changed' for number in range(1, 7))])


@pytest.mark.parametrize('session', ['goes on', 'expires'])
def test_an_update_during_a_cut_runs_once_whether_the_session_goes_on_or_expires(
        daemons: Callable[[str], Twitcher], own_server: ThrowAwayServer, short_server: ThrowAwayServer, trace: Trace,
        proxies: Callable[[ThrowAwayServer], Proxy], session: str) -> None:
    server = own_server if session == 'goes on' else short_server
    part = ReconnectingEnsemble(server.hosts)
    proxy = proxies(server)
    daemon = daemons(proxy.hosts + part.chroot)
    start(daemon, part, trace)
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
    assert settled(daemon, part, trace) == sorted([*LOADED, 'a 1 changed', 'late 1 changed'])
    if session == 'expires':
        assert len(daemon.log_lines('the session has expired')) == 1


def test_a_run_goes_on_while_the_session_expires_and_what_waits_for_it_runs_once(
        daemons: Callable[[str], Twitcher], short_server: ThrowAwayServer, trace: Trace,
        proxies: Callable[[ThrowAwayServer], Proxy], tmp_path: Path) -> None:
    part = ReconnectingEnsemble(short_server.hosts)
    proxy = proxies(short_server)
    daemon = daemons(proxy.hosts + part.chroot)
    gate = tmp_path / 'gate'
    daemon.config('q.twc', f"RegisterWatch('/q', Exec('echo begin `cat` >> {trace}; until [ -e {gate} ]; do sleep 0.05; done; "
                           f"echo end >> {trace}'))")
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
        daemons: Callable[[str], Twitcher], short_server: ThrowAwayServer, trace: Trace,
        proxies: Callable[[ThrowAwayServer], Proxy]) -> None:
    part = ReconnectingEnsemble(short_server.hosts)
    proxy = proxies(short_server)
    daemon = daemons(proxy.hosts + part.chroot)
    start(daemon, part, trace)
    proxy.swallow()
    part.put('/a', 1)
    daemon.wait_log('the connection is lost')
    proxy.heal()
    trace.wait_for_line('a 1 changed')
    assert settled(daemon, part, trace) == sorted([*LOADED, 'a 1 changed'])


def test_a_server_that_hangs_holds_up_neither_runs_nor_a_stop(
        daemons: Callable[[str], Twitcher], short_server: ThrowAwayServer, trace: Trace,
        proxies: Callable[[ThrowAwayServer], Proxy]) -> None:
    part = ReconnectingEnsemble(short_server.hosts)
    proxy = proxies(short_server)
    daemon = daemons(proxy.hosts + part.chroot)
    start(daemon, part, trace)
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
        daemons: Callable[[str], Twitcher], trace: Trace) -> None:
    quorum = Quorum()
    try:
        quorum.start()
        part = ReconnectingEnsemble(quorum.hosts)
        daemon = daemons(part.hosts)
        start(daemon, part, trace)
        for number in (1, 3, 5):
            member = quorum.server_of(daemon.pid)
            part.put('/a', number)
            member.stop()
            part.put('/a', number + 1)
            trace.wait_for_line(f'a {number + 1} changed')
            quorum.restart(member)
        lines = settled(daemon, part, trace)
        assert len(set(lines)) == len(lines)
        assert [line for line in lines if not line.startswith('a ')] == LOADED[1:]
        order = [int(line.split()[1]) for line in trace.lines() if line.startswith('a ')]
        assert order == sorted(order)
        assert {0, 2, 4, 6} <= set(order)
        assert daemon.stop() == 0
    finally:
        quorum.remove()


def test_an_outage_of_thirty_attempts_is_logged_in_few_lines(
        daemons: Callable[[str], Twitcher], own_server: ThrowAwayServer, trace: Trace,
        proxies: Callable[[ThrowAwayServer], Proxy]) -> None:
    part = ReconnectingEnsemble(own_server.hosts)
    proxy = proxies(own_server)
    daemon = daemons(','.join([proxy.hosts] * 10) + part.chroot)  # ten attempts before each pause
    start(daemon, part, trace)
    seen, attempts = len(daemon.log()), proxy.attempts
    proxy.refuse()
    part.put('/a', 1)
    wait_for('thirty attempts', lambda: proxy.attempts >= attempts + 30)
    proxy.heal()
    trace.wait_for_line('a 1 changed')
    about = [line for line in daemon.log()[seen:].splitlines() if re.search('zookeeper|connect', line, re.IGNORECASE)]
    assert 2 <= len(about) < 10, about


def test_a_znode_that_is_deleted_runs_nothing_and_once_when_it_is_made_again(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    start(twitcher, ensemble, trace)
    for number in (1, 2):
        ensemble.client.delete('/a')
        twitcher.wait_log(' a: /a was deleted', count=number)
        twitcher.fence(ensemble)
        assert len(twitcher.started('a')) == number
        ensemble.put('/a', number)
        trace.wait_for_line(f'a {number} created')
    assert settled(twitcher, ensemble, trace) == sorted([*LOADED, 'a 1 created', 'a 2 created'])


def test_a_znode_that_may_not_be_read_is_logged_once_and_hinders_no_other(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    watch_several(twitcher, ensemble, trace)
    twitcher.config('secret.twc', f"RegisterWatch('/secret', Exec('echo secret `cat` >> {trace}'))")
    ensemble.client.create('/secret', b'1', acl=NOBODY_READS)
    twitcher.start()
    assert settled(twitcher, ensemble, trace) == LOADED
    ensemble.put('/a', 1)
    trace.wait_for_line('a 1 changed')
    twitcher.wait_log('no permission to read /secret; trying again every 10 s')
    with connected(ensemble.hosts) as client:
        client.set_acls('/secret', OPEN_ACL_UNSAFE)
    trace.wait_for_line('secret 1')
    twitcher.wait_log('/secret can be read again')
    assert len(twitcher.log_lines('no permission')) == 1
