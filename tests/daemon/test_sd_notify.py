"""What a service manager is told, by a real daemon at a real socket: sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
import uuid
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import process_status
from tests.support.waiting import PATIENCE, Trace
from twitcher.zookeeper.throwaway import ThrowAwayServer

VARIABLES = ('NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID')


class Manager:
    """A service manager: the messages that came to its socket, in order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: List[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace('@', '\0', 1))
        self.socket.settimeout(PATIENCE)

    def receive(self) -> str:
        """The next message."""
        self.messages.append(self.socket.recv(4096).decode())
        return self.messages[-1]

    def wait(self, pattern: str) -> re.Match[str]:
        """The next message that the regular expression matches as a whole, and none before it."""
        try:
            while True:
                match = re.fullmatch(pattern, self.receive())
                if match:
                    return match
        except socket.timeout:
            raise AssertionError(f'no {pattern!r} among {self.messages}') from None

    def take_all(self) -> List[str]:
        """What has come and was not received yet."""
        taken = []
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                taken.append(self.receive())
        self.socket.settimeout(PATIENCE)
        return taken

    def fill(self) -> None:
        """Have the socket full of messages that nobody has read."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, contextlib.suppress(BlockingIOError):
            other.setblocking(False)
            while True:
                other.sendto(b'X=1', self.address)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Listens at a socket in the test's directory."""
    manager = Manager(str(tmp_path / 'notify'))
    yield manager
    manager.socket.close()


def start(twitcher: Twitcher, manager: Manager, **more: str) -> None:
    """Start the daemon as the manager would."""
    twitcher.start(wait=False, environment={'NOTIFY_SOCKET': manager.address, **more})


def test_it_is_ready_when_its_files_have_been_read(twitcher: Twitcher, ensemble: Ensemble, manager: Manager) -> None:
    twitcher.config('a.twc', "RegisterWatch('/a', Exec('true'))\nRegisterWatch('/a', Exec('true'))")
    twitcher.config('b.twc', "RegisterWatch('/b', Exec('true'))")
    start(twitcher, manager)
    manager.wait('READY=1')
    assert [message for message in manager.messages if re.fullmatch('STATUS=.*; watches in force: 3', message)]
    assert twitcher.stop() == 0
    manager.wait('STOPPING=1')


def test_it_is_ready_although_zookeeper_cannot_be_reached(tmp_path: Path, manager: Manager) -> None:
    twitcher = Twitcher(tmp_path, '127.0.0.1:1')
    try:
        start(twitcher, manager)
        manager.wait('STATUS=trying to connect to 127.0.0.1:1; watches in force: 0')
        manager.wait('READY=1')
    finally:
        twitcher.close()


def test_the_status_follows_the_connection_and_the_files(tmp_path: Path, own_server: ThrowAwayServer, manager: Manager) -> None:
    twitcher = Twitcher(tmp_path, own_server.hosts)
    try:
        start(twitcher, manager)
        manager.wait(f'STATUS=connected to {own_server.hosts}; watches in force: 0')
        path = twitcher.config('a.twc', "RegisterWatch('/a', Exec('true'))")
        manager.wait('STATUS=connected to .*; watches in force: 1')
        own_server.stop()
        manager.wait(f'STATUS=trying to connect to {own_server.hosts}; watches in force: 1')
        path.unlink()
        manager.wait('STATUS=trying to connect to .*; watches in force: 0')
        own_server.start()
        manager.wait('STATUS=connected to .*; watches in force: 0')
    finally:
        twitcher.close()


def test_the_status_tells_how_many_files_do_not_load_and_names_the_first(twitcher: Twitcher, ensemble: Ensemble,
                                                                         manager: Manager) -> None:
    for name in ('c', 'b'):
        twitcher.config(f'{name}.twc', 'nonsense')
    start(twitcher, manager)
    first = re.escape(str(twitcher.configs / 'b.twc'))
    manager.wait(f'STATUS=connected to .*; watches in force: 0; files that do not load: 2, {first} first')
    twitcher.config('b.twc', "RegisterWatch('/b', Exec('true'))")
    manager.wait('STATUS=connected to .*; watches in force: 1; files that do not load: 1, .*/c.twc first')
    (twitcher.configs / 'c.twc').unlink()
    manager.wait('STATUS=connected to .*; watches in force: 1')


def test_a_reload_is_told_at_its_begin_and_at_its_end(twitcher: Twitcher, ensemble: Ensemble, manager: Manager) -> None:
    start(twitcher, manager)
    manager.wait('READY=1')
    for _ in range(2):
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        os.kill(twitcher.pid, signal.SIGHUP)
        told = int(manager.wait('RELOADING=1\nMONOTONIC_USEC=([0-9]+)')[1]) / 1e6
        assert before - 1e-6 <= told <= time.clock_gettime(time.CLOCK_MONOTONIC)
        manager.wait('READY=1')


@pytest.mark.parametrize('whose', ['of the daemon', 'nobody in particular'])
def test_the_watchdog_hears_from_the_daemon_until_it_hangs(twitcher: Twitcher, ensemble: Ensemble, manager: Manager,
                                                         trace: Trace, tmp_path: Path, whose: str) -> None:
    set_pid = 'export WATCHDOG_PID=$$; ' if whose == 'of the daemon' else ''
    twitcher.start(wait=False, environment={'NOTIFY_SOCKET': manager.address, 'WATCHDOG_USEC': '200000'},
                   wrapper=['sh', '-c', set_pid + 'exec "$@"', 'sh'])
    manager.wait('READY=1')
    for _ in range(3):
        manager.wait('WATCHDOG=1')
    twitcher.config('hangs.twc', f"import os\nopen('{trace}', 'w').write('hangs\\n')\n"
                                 f"while not os.path.exists('{tmp_path}/go'):\n    pass")
    trace.wait(1)
    manager.take_all()
    manager.socket.settimeout(0.4)
    with pytest.raises(socket.timeout):
        manager.receive()
    manager.socket.settimeout(PATIENCE)
    (tmp_path / 'go').touch()
    for _ in range(3):
        manager.wait('WATCHDOG=1')


@pytest.mark.parametrize('variables', [{}, {'WATCHDOG_USEC': '200000', 'WATCHDOG_PID': '1'}, {'WATCHDOG_USEC': '0'},
                                       {'WATCHDOG_USEC': 'often'}])
def test_without_a_watchdog_of_its_own_it_sends_no_sign_of_life(twitcher: Twitcher, ensemble: Ensemble, manager: Manager,
                                                              variables: Dict[str, str]) -> None:
    start(twitcher, manager, **variables)
    twitcher.fence(ensemble)  # the first would come before READY
    manager.wait('READY=1')
    assert 'WATCHDOG=1' not in [*manager.messages, *manager.take_all()]


def test_what_the_manager_said_reaches_no_other_process(twitcher: Twitcher, ensemble: Ensemble, manager: Manager,
                                                       trace: Trace) -> None:
    look = 'echo found `env | grep -cE "^(NOTIFY|WATCHDOG)_"`'
    twitcher.config('a.twc', f"import subprocess\nsubprocess.run(['sh', '-c', {f'{look} >> {trace}'!r}])\n"
                             f"RegisterWatch('/a', Exec({look!r}), description='command')\n"
                             f"RegisterWatch('/a', lambda: Exec({look!r})(), description='function')")
    ensemble.put('/a', '')
    start(twitcher, manager, WATCHDOG_USEC='60000000', WATCHDOG_PID='1')
    for name in ('command', 'function'):
        assert twitcher.wait_printed(name, 1) == ['found 0']
    assert trace.wait(1) == ['found 0']
    helpers = [int(entry.name) for entry in Path('/proc').glob('[0-9]*')
               if with_parent(entry, twitcher.pid, 'twitcher-output')]
    assert len(helpers) == 1
    assert not [name for name in VARIABLES if f'{name}=' in Path(f'/proc/{helpers[0]}/environ').read_text()]


def with_parent(entry: Path, parent: int, name: str) -> bool:
    """Whether the process is called that and is a child of the parent."""
    try:
        status = process_status(int(entry.name))
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status['Name'] == name and status['PPid'] == str(parent)


@pytest.mark.parametrize('address', ['', 'no-path', '/nonexistent/notify', '@nobody-listens', '/' + 'x' * 200, '/', '@'])
def test_a_socket_that_is_none_does_no_harm(twitcher: Twitcher, ensemble: Ensemble, address: str) -> None:
    twitcher.start(environment={'NOTIFY_SOCKET': address, 'WATCHDOG_USEC': '100000'})
    os.kill(twitcher.pid, signal.SIGHUP)
    twitcher.wait_log('SIGHUP')
    twitcher.fence(ensemble)
    assert twitcher.stop() == 0


def test_a_manager_that_is_gone_does_no_harm(twitcher: Twitcher, ensemble: Ensemble, manager: Manager) -> None:
    start(twitcher, manager, WATCHDOG_USEC='100000')
    manager.wait('READY=1')
    manager.socket.close()
    twitcher.fence(ensemble)
    assert twitcher.stop() == 0


def test_a_manager_that_does_not_read_holds_up_nothing_and_misses_nothing(twitcher: Twitcher, ensemble: Ensemble,
                                                                        manager: Manager) -> None:
    manager.fill()
    start(twitcher, manager)
    twitcher.wait_log('ZooKeeper: connected')
    twitcher.fence(ensemble)
    assert manager.receive() == 'X=1'
    manager.wait('READY=1')
    manager.wait('STATUS=connected to .*; watches in force: 1')


def test_an_abstract_socket_will_do(twitcher: Twitcher, ensemble: Ensemble) -> None:
    manager = Manager(f'@twitcher-test-{uuid.uuid4().hex}')
    with manager.socket:
        start(twitcher, manager)
        manager.wait('READY=1')
