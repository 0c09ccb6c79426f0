"""The world of the fault harness: an ensemble behind proxies, a daemon, its configs,
its log and its disk. Everything that happens is noted in a journal for the checker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Dict, List, NamedTuple, Set, Tuple

from kazoo.security import ACL, Id

from tests.chaos.configs import WATCHES, Configs
from tests.chaos.faults import LANES
from tests.chaos.journal import Journal
from tests.chaos.proxy import ErringProxy
from tests.chaos.syslog import Syslog
from tests.support.daemon import Twitcher
from tests.support.ensemble import connected
from tests.support.processes import is_action, is_alive
from tests.support.quorum import Quorum
from tests.support.waiting import PATIENCE, wait_for
from twitcher.zookeeper.throwaway import is_serving

SESSION_TIMEOUT = 3.0
"""Seconds that the servers grant at most."""
OPEN = [ACL(31, Id('world', 'anyone'))]
UNREADABLE = [ACL(30, Id('world', 'anyone'))]
"""Everything but to read: ZooKeeper's programmer's guide, "ACL permissions"."""


class ShortSessions(Quorum):
    """An ensemble whose sessions expire soon."""

    def __init__(self) -> None:
        super().__init__()
        for member in self.members:
            member._settings['maxSessionTimeout'] = str(int(SESSION_TIMEOUT * 1000))


class Daemon(Twitcher):
    """A daemon whose program may be a copy of ours."""

    def __init__(self, directory: Path, hosts: str, top: Path) -> None:
        super().__init__(directory, hosts)
        self._top = top

    def begin(self, *log_to: str) -> None:
        """Start it, and wait for nothing."""
        with (self.directory / 'stdio').open('ab') as stdio:
            self.process = subprocess.Popen(
                [sys.executable, str(self._top / 'bin' / 'twitcher'), '--zkservers', self.hosts, '--config_path',
                 str(self.configs), '--state_dir', str(self.directory / 'state'), *log_to],
                stdin=subprocess.DEVNULL, stdout=stdio, stderr=stdio, start_new_session=True)

    def signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        assert self.process
        self.process.send_signal(number)


class Features(NamedTuple):
    """What a seed may have beside what every seed has."""

    has_syslog: bool = False
    is_linked: bool = False


class World:
    """Everything, in `directory`; `top` is the checkout whose daemon is run. `close`
    ends it all."""

    def __init__(self, directory: Path, quorum: Quorum, top: Path, features: Features) -> None:
        self.directory = directory
        self.journal = Journal(directory / 'journal')
        self.chroot = f'/chaos-{uuid.uuid4().hex}'
        self.quorum = quorum
        with connected(quorum.hosts) as client:
            client.create(self.chroot)
        self.proxies = [ErringProxy(member.port) for member in quorum.members]
        self.configs = Configs(directory / 'etc', self.journal, features.is_linked)
        self.daemon = Daemon(directory, ','.join(proxy.hosts for proxy in self.proxies) + self.chroot, top)
        self.closed: Set[str] = set()
        self.syslog = Syslog(directory / 'syslog', directory / 'log') if features.has_syslog else None
        self._log_to = ('--syslog_socket', str(directory / 'syslog')) if self.syslog else ('--logfile', str(directory / 'log'))
        if self.syslog:
            self.syslog.come()
        self._has_disk = self._mount()

    @property
    def lanes(self) -> Tuple[str, ...]:
        """The kinds of faults that are possible here."""
        missing = {'disk': self._has_disk, 'syslog': self.syslog is not None}
        return tuple(lane for lane in LANES if missing.get(lane, True))

    def close(self) -> None:
        """End everything but the ensemble. The history stays."""
        self.daemon.close()
        self.end_runs()
        for proxy in self.proxies:
            proxy.close()
        if self.syslog:
            self.syslog.go()
        if self._has_disk:
            subprocess.run(['umount', '-l', str(self.directory / 'state')], check=False)

    def end_runs(self) -> None:
        """End all that actions have left."""
        for pid in {line.split()[3] for line in self._run_lines() if line[0] == 'B'}:
            # Another process may have got the pid since.
            if is_action(int(pid)) or not is_alive(int(pid)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(int(pid), signal.SIGKILL)

    def place(self) -> int:
        """How many lines all runs together have told."""
        return len(self._run_lines())

    def heal(self) -> None:
        """Have all back that should be there, the daemon included."""
        for proxy in self.proxies:
            proxy.delay = proxy.error_rate = 0
            proxy.heal()
        for member in self.quorum.members:
            wait_for('the members to serve', lambda member=member: is_serving(member.port))  # type: ignore[misc]
        with connected(self.quorum.hosts + self.chroot) as client:
            for name in self.closed:
                client.set_acls(f'/{name}', OPEN)
        self.closed.clear()
        if self.is_daemon_gone():
            self.start_daemon()

    def is_daemon_gone(self) -> bool:
        """Whether the daemon, which should be there, is not; then that is noted."""
        assert self.daemon.process
        if self.daemon.process.poll() is None:
            return False
        self.trouble(f'it has ended by itself, with {self.daemon.process.returncode}')
        return True

    def trouble(self, what: str) -> None:
        """The daemon has done what it never should."""
        self.journal.note('trouble', what=what)

    def start_daemon(self) -> None:
        """Start it."""
        self.journal.note('start')
        self.daemon.begin(*self._log_to)

    def stop_daemon(self) -> None:
        """End it, as its service manager does."""
        self.is_daemon_gone()
        try:
            self.daemon.stop()
        except subprocess.TimeoutExpired:
            self.trouble(f'it did not end within {PATIENCE:g} s after SIGTERM')
            self.daemon.kill()
        self.journal.note('gone', how='ended')

    def kill_daemon(self) -> None:
        """Kill it."""
        self.is_daemon_gone()
        self.daemon.kill()
        self.journal.note('gone', how='killed')

    def _run_lines(self) -> List[str]:
        path = self.directory / 'runs'
        return path.read_text().splitlines() if path.exists() else []

    def _mount(self) -> bool:
        """A small disk for the state; whether that could be had."""
        state = self.directory / 'state'
        state.mkdir()
        mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=6m', 'chaos', str(state)], check=False,
                                 capture_output=True)
        return mounted.returncode == 0


def contents_of(world: World) -> Dict[str, str]:
    """What is in the znodes, as their watches' runs name it. Raises NoNodeError for one
    that is missing."""
    found = {}
    with connected(world.quorum.hosts + world.chroot) as client:
        client.sync('/')
        for name, plan in WATCHES.items():
            if plan.watches_children:
                found[name] = ','.join(sorted(client.get_children(f'/{name}'))) or '-'
            else:
                found[name] = client.get(f'/{name}')[0].decode().strip() or '-'
    return found
