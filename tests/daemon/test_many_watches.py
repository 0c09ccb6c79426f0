"""Ten thousand watches on ten thousand znodes, and a session that expires: few threads, little memory, nothing lost."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import ReconnectingEnsemble, connected
from tests.support.processes import process_status
from tests.support.proxy import Proxy
from tests.support.subscriber import ask_server
from tests.support.waiting import Trace, wait_for
from twitcher.zookeeper.node import MAX_IN_FLIGHT
from twitcher.zookeeper.throwaway import ThrowAwayServer

COUNT = 10_000
BATCH = 200
"""Znodes that are made in one transaction, which must not take as long as a session."""
MOST_THREADS = 10
MOST_GROWTH = 20 * 1024
"""KiB."""
_OTHERS_IN_FLIGHT = 3
"""A connect, a sync and a ping are not counted by MAX_IN_FLIGHT."""
_UNASKED = -1
"""The xid of a server's watch events."""


@dataclass
class Frames:
    """Cuts one direction of a ZooKeeper connection into its frames."""

    rest: bytes = b''

    def take(self, chunk: bytes) -> Iterator[int]:
        """The xids of the frames that are complete with this chunk."""
        self.rest += chunk
        while len(self.rest) >= 8:
            size, xid = struct.unpack('>ii', self.rest[:8])
            if len(self.rest) < 4 + size:
                return
            self.rest = self.rest[4 + size:]
            yield xid


class CountingProxy(Proxy):
    """Reads along, for one client: `asked` requests on the last connection, and the `most_in_flight` at any time."""

    def __init__(self, target: int) -> None:
        self.asked = self.in_flight = self.most_in_flight = 0
        self._count = threading.Lock()
        super().__init__(target)

    def _serve(self, client: socket.socket) -> None:
        self.asked = self.in_flight = 0
        super()._serve(client)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        frames = Frames()
        with contextlib.suppress(OSError):
            is_answering = source.getpeername()[1] == self._target
            while True:
                chunk = source.recv(65536)
                if not chunk:
                    break
                self._note(is_answering, sum(xid != _UNASKED for xid in frames.take(chunk)))
                target.sendall(chunk)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _note(self, is_answering: bool, number: int) -> None:
        with self._count:
            if is_answering:
                self.in_flight -= number
            else:
                self.asked += number
                self.in_flight += number
                self.most_in_flight = max(self.most_in_flight, self.in_flight)


class Gauge:
    """Looks at a process again and again, in a thread: the most threads and the most memory, in KiB, that it had."""

    def __init__(self, pid: int) -> None:
        self.threads = self.memory = 0
        self._pid = pid
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._end.wait(0.01):
            status = process_status(self._pid)
            self.threads = max(self.threads, int(status['Threads']))
            self.memory = max(self.memory, int(status['VmRSS'].split()[0]))

    def close(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join()


@pytest.fixture
def proxy(short_server: ThrowAwayServer) -> Iterator[CountingProxy]:
    """Stands before the server."""
    proxy = CountingProxy(short_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def part(short_server: ThrowAwayServer) -> ReconnectingEnsemble:
    """A part of the server with COUNT znodes."""
    part = ReconnectingEnsemble(short_server.hosts)
    with connected(part.hosts) as client:
        for first in range(0, COUNT, BATCH):
            transaction = client.transaction()
            for number in range(first, first + BATCH):
                transaction.create(f'/n{number:05}', b'old')
            assert set(transaction.commit()) == {f'/n{number:05}' for number in range(first, first + BATCH)}
    return part


@pytest.fixture
def daemon(tmp_path: Path, proxy: CountingProxy, part: ReconnectingEnsemble, trace: Trace) -> Iterator[Twitcher]:
    """A daemon that watches all of them."""
    daemon = Twitcher(tmp_path, proxy.hosts + part.chroot)
    daemon.config('many.twc', f"""
        for number in range({COUNT}):
            znode = '/n%05d' % number
            RegisterWatch(znode, Exec('echo ' + znode + ' `cat` >> {trace}'), run_on_load=False)
        """)
    yield daemon.start()
    daemon.close()


def watches(server: ThrowAwayServer) -> int:
    """How many watches the server holds."""
    match = re.search(r'Total watches:(\d+)', ask_server(server.port, 'wchs'))
    return int(match[1]) if match else 0


def expire(server: ThrowAwayServer, proxy: Proxy) -> None:
    """Keep the daemon away until its session has expired."""
    proxy.refuse()
    wait_for('the session to expire', lambda: 'Sessions with Ephemerals (0)' in ask_server(server.port, 'dump')
             and not re.search('^\t0x', ask_server(server.port, 'dump'), re.MULTILINE))


def test_an_expired_session_costs_ten_thousand_watches_few_threads_little_memory_and_no_update(
        short_server: ThrowAwayServer, proxy: CountingProxy, part: ReconnectingEnsemble, trace: Trace,
        daemon: Twitcher) -> None:
    wait_for('all watches', lambda: watches(short_server) == COUNT)
    daemon.fence(part)
    before = int(process_status(daemon.pid)['VmRSS'].split()[0])
    gauge = Gauge(daemon.pid)
    try:
        expire(short_server, proxy)
        part.put('/n05000', 'meanwhile')
        with connected(part.hosts) as client:
            proxy.heal()
            wait_for('some to be read again', lambda: proxy.asked > COUNT // 10)
            client.set('/n00001', b'in the midst')  # the first and the last that are read again
            client.set('/n09998', b'in the midst')
        wait_for('all watches', lambda: watches(short_server) == COUNT + 1)
        daemon.fence(part)
        part.put('/n09999', 'afterwards')
        trace.wait(4)
        daemon.fence(part)
    finally:
        gauge.close()
    assert daemon.log_lines('the session has expired')
    assert sorted(trace.lines()) == ['/n00001 in the midst', '/n05000 meanwhile', '/n09998 in the midst',
                                     '/n09999 afterwards']
    assert proxy.asked > COUNT
    assert 1 < proxy.most_in_flight <= MAX_IN_FLIGHT + _OTHERS_IN_FLIGHT
    assert gauge.threads <= MOST_THREADS
    assert gauge.memory - before < MOST_GROWTH


def test_expired_sessions_do_not_add_up(
        short_server: ThrowAwayServer, proxy: CountingProxy, part: ReconnectingEnsemble, trace: Trace,
        daemon: Twitcher) -> None:
    memory = []
    for _ in range(4):
        wait_for('all watches', lambda: watches(short_server) == COUNT)
        memory.append(int(process_status(daemon.pid)['VmRSS'].split()[0]))
        expire(short_server, proxy)
        proxy.heal()
        daemon.wait_log('ZooKeeper: connected', count=1 + len(memory))
    wait_for('all watches', lambda: watches(short_server) == COUNT)
    assert max(memory[1:]) - memory[0] < MOST_GROWTH
    assert memory[-1] - memory[1] < MOST_GROWTH // 4
    assert trace.lines() == []
