"""A daemon whose ZooKeeper server misbehaves: it goes on, says once what is wrong, and is well when the server is."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Iterator, List, Optional

import pytest

from tests.support.daemon import Twitcher
from tests.support.rogue_server import Connection, RogueServer, child_list
from tests.support.waiting import Trace, wait_for


@pytest.fixture
def rogue() -> Iterator[RogueServer]:
    """A server that behaves until it is told otherwise."""
    server = RogueServer()
    server.znodes = {'/a': b'0', '/b': b'0'}
    yield server
    server.close()


@pytest.fixture
def daemon(tmp_path: Path, rogue: RogueServer, trace: Trace) -> Iterator[Twitcher]:
    """A daemon for it that watches /a and /b, not started yet."""
    twitcher = Twitcher(tmp_path, rogue.hosts)
    twitcher.config('ab.twc', f"""
        for name in 'ab':
            RegisterWatch('/' + name, Exec('echo ' + name + ' `cat` >> {trace}'), description=name)
        """)
    yield twitcher
    twitcher.close()


def complaints(daemon: Twitcher) -> List[str]:
    """What the log says above INFO."""
    return daemon.log_lines(r'\] (WARNING|ERROR|CRITICAL): ')


def break_once(rogue: RogueServer, frame: bytes) -> None:
    """Answer the next read of /a with this frame."""
    def misbehave(connection: Connection, kind: str, path: str) -> Optional[int]:
        if (kind, path) == ('get', '/a'):
            rogue.misbehave = lambda connection, kind, path: None
            connection.send(frame)
        return None

    rogue.misbehave = misbehave


@pytest.mark.parametrize('frame', [b'', b'\0\0', b'\xff' * 16, b'\0\0\x7f\x7f' + b'\0' * 12],
                         ids=['empty', 'short', 'odd event', 'odd xid'])
def test_a_malformed_frame_is_a_lost_session_and_no_more(
        rogue: RogueServer, daemon: Twitcher, trace: Trace, frame: bytes) -> None:
    daemon.start()
    assert sorted(trace.wait(2)) == ['a 0', 'b 0']
    break_once(rogue, frame)
    rogue.put('/a', b'1')
    trace.wait_for_line('a 1')
    rogue.put('/b', b'1')
    trace.wait_for_line('b 1')
    daemon.wait_log('ZooKeeper: connected', count=2)
    assert len(trace.lines()) == 4
    assert daemon.process and daemon.process.poll() is None


def test_a_session_that_breaks_each_time_is_tried_again_with_a_growing_pause(rogue: RogueServer, daemon: Twitcher,
                                                                              trace: Trace) -> None:
    def misbehave(connection: Connection, kind: str, path: str) -> Optional[int]:
        if kind == 'sync':
            connection.send(b'\0\0')
        return None

    rogue.misbehave = misbehave
    daemon.start(wait=False)
    wait_for('five connections', lambda: len(rogue.connections) >= 5)
    at = [connection.at for connection in rogue.connections]
    assert at[4] - at[3] > 2 * (at[1] - at[0])
    rogue.misbehave = lambda connection, kind, path: None
    assert sorted(trace.wait(2)) == ['a 0', 'b 0']
    assert len(complaints(daemon)) <= 3


@pytest.mark.parametrize('code', [-124, -127, -999])
def test_an_unknown_error_code_is_the_error_of_one_request(
        rogue: RogueServer, daemon: Twitcher, trace: Trace, code: int) -> None:
    daemon.start()
    assert sorted(trace.wait(2)) == ['a 0', 'b 0']
    rogue.misbehave = lambda connection, kind, path: code if (kind, path) == ('get', '/a') else None
    rogue.put('/a', b'1')
    daemon.wait_log('/a cannot be read: .*; trying again every 10 s')
    rogue.put('/b', b'1')
    trace.wait_for_line('b 1')
    rogue.misbehave = lambda connection, kind, path: None
    trace.wait_for_line('a 1')
    daemon.wait_log('/a can be read again')
    assert len(rogue.connections) == 1
    assert len(complaints(daemon)) == 1


def test_a_server_that_drops_each_session_for_want_of_authentication_is_named_once_and_why(
        rogue: RogueServer, daemon: Twitcher, trace: Trace) -> None:
    def misbehave(connection: Connection, kind: str, path: str) -> Optional[int]:
        if kind != 'connect':
            connection.reply(1, -124)
            raise EOFError
        return None

    rogue.misbehave = misbehave
    daemon.start(wait=False)
    wait_for('four connections', lambda: len(rogue.connections) >= 4)
    assert daemon.log_lines(r'refuses.*(SessionClosedRequireSasl|requires SASL)')
    assert not daemon.log_lines('ZooKeeper: connected')
    assert len(daemon.log_lines('ZooKeeper:')) <= 3, daemon.log()
    begin, before = time.monotonic(), len(rogue.connections)
    wait_for('five connections', lambda: len(rogue.connections) >= 5)
    assert (len(rogue.connections) - before) / (time.monotonic() - begin) < 2
    rogue.misbehave = lambda connection, kind, path: None
    assert sorted(trace.wait(2)) == ['a 0', 'b 0']
    daemon.wait_log('ZooKeeper: connected')


def test_a_shortage_of_descriptors_while_a_server_is_looked_up_passes(
        rogue: RogueServer, daemon: Twitcher, trace: Trace) -> None:
    daemon.hosts = f'localhost:{rogue.port}'
    daemon.start()
    assert sorted(trace.wait(2)) == ['a 0', 'b 0']
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    seen = len(daemon.log())
    rogue.connections[0].end()
    daemon.wait_log('Too many open files|Errno 24', after=seen)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
    rogue.put('/a', b'1')
    trace.wait_for_line('a 1')
    daemon.wait_log('ZooKeeper: connected', after=seen)
    # Where localhost is ::1 as well, nobody listens there.
    assert len([line for line in complaints(daemon) if 'refused' not in line]) < 6, daemon.log()


def test_a_read_only_server_that_becomes_writable_is_used_on(rogue: RogueServer, daemon: Twitcher, trace: Trace) -> None:
    rogue.is_read_only = True
    daemon.start()
    assert sorted(trace.wait(2)) == ['a 0', 'b 0']
    rogue.is_read_only = False
    wait_for('its check whether the server can be written, and a new connection', lambda: len(rogue.connections) >= 3)
    rogue.put('/a', b'1')
    trace.wait_for_line('a 1')
    assert len(daemon.log_lines('has failed')) == 0
    assert daemon.process and daemon.process.poll() is None


def test_a_server_that_closes_is_told_in_words(rogue: RogueServer, daemon: Twitcher, trace: Trace) -> None:
    daemon.start()
    trace.wait(2)
    rogue.connections[0].end()
    daemon.wait_log('the server has closed the connection')
    daemon.wait_log('ZooKeeper: connected', count=2)
    assert not daemon.log_lines('None')


def test_an_announcement_of_a_gigabyte_is_no_reason_to_wait_for_it(rogue: RogueServer, daemon: Twitcher, trace: Trace) -> None:
    daemon.start()
    trace.wait(2)
    rogue.connections[0].send(b'')  # a frame that cannot be: the client starts anew
    daemon.wait_log('ZooKeeper: connected', count=2)
    with_length = rogue.connections[-1]
    with_length._socket.sendall(b'HTTP/1.1 400 Bad Request\r\n')
    daemon.wait_log('a frame of 1213486160 bytes')
    rogue.put('/a', b'1')
    trace.wait_for_line('a 1')


def test_a_parent_of_a_million_children_costs_others_less_than_half_a_second(rogue: RogueServer, daemon: Twitcher, trace: Trace,
                                                                            tmp_path: Path) -> None:
    rogue.children['/p'] = child_list(1_000_000)
    daemon.config('p.twc', f"RegisterWatch('/p', Exec('wc -l >> {tmp_path}/children'), watch_type=WATCH_CHILDREN)")
    daemon.config('b.twc', "RegisterWatch('/b', Exec(['true']), run_mode=PARALLEL, run_on_load=False, description='quick')")
    daemon.start()
    worst = 0.0
    number = 0
    children = Trace(tmp_path / 'children')
    while not children.lines() or number < 20:
        number += 1
        before = len(daemon.started('quick'))
        begin = time.monotonic()
        rogue.put('/b', b'%d' % number)
        wait_for('a run', lambda before=before: len(daemon.started('quick')) > before)  # type: ignore[misc]
        worst = max(worst, time.monotonic() - begin)
    assert children.lines() == ['1000000']
    assert worst < 0.5
