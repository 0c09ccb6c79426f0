"""The world of the fault harness: an ensemble behind proxies, a daemon, its configs, its log and its disk, and what can be
done to them. Everything that happens is noted in a journal for the checker."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from tests.chaos_faults import ALL, LANES, Fault
from tests.chaos_syslog import Syslog
from tests.harness import PATIENCE, TOP, Twitcher, connected, process_status, wait_for
from tests.proxy import Proxy
from tests.quorum import Quorum
from twitcher.devel import is_serving

SESSION_TIMEOUT = 3.0
"""Seconds that the servers grant at most."""

ACTION = Path(__file__).with_name('chaos_action.sh')

# name: file, RegisterWatch's arguments, seconds that the action takes
WATCHES: Dict[str, Tuple[str, Dict[str, str], float]] = {
    'q-noload': ('a.twc', {'run_on_load': 'False'}, 0.4),
    'p-noload': ('a.twc', {'run_mode': 'PARALLEL', 'run_on_load': 'False'}, 0),
    'q-slow': ('a.twc', {}, 1.2),
    'q-quick': ('b.twc', {}, 0),
    'd-slow': ('b.twc', {'run_mode': 'DISCARD'}, 0.8),
    'p-slow': ('c.twc', {'run_mode': 'PARALLEL'}, 1),
    'children': ('c.twc', {'watch_type': 'WATCH_CHILDREN'}, 0.3),
    'killed': ('d.twc', {'timeout': '0.6'}, 30),
    'sentinel': ('z.twc', {'run_mode': 'PARALLEL'}, 0),
}
_EDITED = {'a.twc': 'q-slow', 'b.twc': 'd-slow'}


def now() -> float:
    """Seconds since the boot, as /proc/uptime has them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Journal:
    """What the harness does, a fact a line, for the checker."""

    def __init__(self, path: Path) -> None:
        self._file = path.open('a')
        self._lock = threading.Lock()

    def note(self, kind: str, **about: Any) -> None:
        """Note a fact; it has happened now."""
        with self._lock:
            self._file.write(json.dumps({'kind': kind, 'at': now(), **about}) + '\n')
            self._file.flush()


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


class World:
    """Everything, in `directory`; `top` is the checkout whose daemon is run. `close` ends it all."""

    def __init__(self, directory: Path, quorum: Quorum, top: Path = TOP, has_syslog: bool = False) -> None:
        self.directory = directory
        self.journal = Journal(directory / 'journal')
        self.chroot = f'/chaos-{uuid.uuid4().hex}'
        self.quorum = quorum
        with connected(quorum.hosts) as client:
            client.create(self.chroot)
        self.proxies = [Proxy(member.port) for member in quorum.members]
        self.daemon = Daemon(directory, ','.join(proxy.hosts for proxy in self.proxies) + self.chroot, top)
        self.syslog = Syslog(directory / 'syslog', directory / 'log') if has_syslog else None
        self._log_to = ('--syslog_socket', str(directory / 'syslog')) if has_syslog else ('--logfile', str(directory / 'log'))
        if self.syslog:
            self.syslog.come()
        self._has_disk = self._mount()
        self._timeouts = {name: 60 for name in _EDITED.values()}
        self._down: List[int] = []
        for name in sorted({file for file, _, _ in WATCHES.values()}):
            self.daemon.config(name, self._text(name))
        for name, (_, arguments, _) in WATCHES.items():
            self.journal.note('watch', name=name, mode=arguments.get('run_mode', 'QUEUE'),
                              run_on_load='run_on_load' not in arguments, timeout='timeout' in arguments,
                              children='watch_type' in arguments, sentinel=name == 'sentinel')

    @property
    def lanes(self) -> Tuple[str, ...]:
        """The kinds of faults that are possible here."""
        missing = {'disk': self._has_disk, 'syslog': self.syslog is not None}
        return tuple(lane for lane in LANES if missing.get(lane, True))

    def close(self) -> None:
        """End everything but the ensemble. The history stays."""
        self.daemon.close()
        for pid in {line.split()[3] for line in self._run_lines() if line[0] == 'B'}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(pid), signal.SIGKILL)
        for proxy in self.proxies:
            proxy.close()
        if self.syslog:
            self.syslog.go()
        if self._has_disk:
            subprocess.run(['umount', '-l', str(self.directory / 'state')], check=False)

    def place(self) -> int:
        """How many lines all runs together have told."""
        return len(self._run_lines())

    # Faults

    def begin(self, fault: Fault) -> None:
        """Let it happen."""
        self.journal.note('fault', what=str(fault), fault=fault.kind)
        self._do(fault, 'begin')

    def end(self, fault: Fault) -> None:
        """Let it be over."""
        self.journal.note('healed', what=str(fault))
        self._do(fault, 'end')

    def _do(self, fault: Fault, edge: str) -> None:
        method: Optional[Callable[[Fault], None]] = getattr(self, f'_{edge}_{fault.kind.replace(" ", "_").lower()}', None)
        if method:
            method(fault)

    def heal(self) -> None:
        """Have all back that should be there, the daemon included."""
        for proxy in self.proxies:
            proxy.delay = 0
            proxy.heal()
        for member in self.quorum.members:
            wait_for('the members to serve', lambda member=member: is_serving(member.port))  # type: ignore[misc]
        assert self.daemon.process
        if self.daemon.process.poll() is not None:
            self.trouble(f'it has ended by itself, with {self.daemon.process.returncode}')
            self.start_daemon()

    def trouble(self, what: str) -> None:
        """The daemon has done what it never should."""
        self.journal.note('trouble', what=what)

    def start_daemon(self) -> None:
        """Start it."""
        self.journal.note('start')
        self.daemon.begin(*self._log_to)

    def _proxies(self, fault: Fault) -> List[Proxy]:
        return self.proxies if fault.target == ALL else [self.proxies[fault.target]]

    def _begin_cut(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.cut()

    def _begin_refuse(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.refuse()

    def _begin_swallow(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.swallow()

    def _begin_delay(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.delay = fault.strength * 0.3

    def _end_delay(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.delay = 0

    def _end_refuse(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.heal()

    _end_swallow = _end_refuse

    def _begin_server_killed(self, fault: Fault) -> None:
        self.quorum.members[fault.target].stop()

    def _end_server_killed(self, fault: Fault) -> None:
        self.quorum.members[fault.target].start()

    def _begin_server_stopped(self, fault: Fault) -> None:
        self.quorum.members[fault.target].signal(signal.SIGSTOP)

    def _end_server_stopped(self, fault: Fault) -> None:
        self.quorum.members[fault.target].signal(signal.SIGCONT)

    def _begin_daemon_killed(self, fault: Fault) -> None:
        self.daemon.kill()
        self.journal.note('gone', how='killed')

    def _begin_daemon_ended(self, fault: Fault) -> None:
        try:
            self.daemon.stop()
        except subprocess.TimeoutExpired:
            self.trouble(f'it did not end within {PATIENCE:g} s after SIGTERM')
            self.daemon.kill()
        self.journal.note('gone', how='ended')

    def _end_daemon_killed(self, fault: Fault) -> None:
        self.start_daemon()

    _end_daemon_ended = _end_daemon_killed

    def _begin_daemon_stopped(self, fault: Fault) -> None:
        os.kill(self.daemon.pid, signal.SIGSTOP)

    def _end_daemon_stopped(self, fault: Fault) -> None:
        os.kill(self.daemon.pid, signal.SIGCONT)

    def _begin_sighup(self, fault: Fault) -> None:
        with contextlib.suppress(FileNotFoundError, KeyError):
            # Before Python has set up the daemon's handlers, the signal means what it means to every process.
            if int(process_status(self.daemon.pid)['SigCgt'], 16) & 1 << signal.SIGHUP - 1:
                os.kill(self.daemon.pid, signal.SIGHUP)

    def _begin_config_rewritten(self, fault: Fault) -> None:
        names = sorted({file for file, _, _ in WATCHES.values()})
        self._write_config(names[int(fault.strength * len(names))])

    def _begin_config_edited(self, fault: Fault) -> None:
        name = sorted(_EDITED)[int(fault.strength * len(_EDITED))]
        self._timeouts[_EDITED[name]] += 1
        self.journal.note('edit', watches=[_EDITED[name]])
        self._write_config(name)

    def _write_config(self, name: str) -> None:
        self.daemon.config(name, self._text(name))

    def _begin_disk_full(self, fault: Fault) -> None:
        self.journal.note('full')
        with contextlib.suppress(OSError), (self.directory / 'state' / 'filling').open('wb', buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def _end_disk_full(self, fault: Fault) -> None:
        (self.directory / 'state' / 'filling').unlink()
        self.journal.note('emptied')

    def _begin_syslog_away(self, fault: Fault) -> None:
        assert self.syslog
        self.syslog.go()

    def _end_syslog_away(self, fault: Fault) -> None:
        assert self.syslog
        self.syslog.come()

    # Parts

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

    def _text(self, name: str) -> str:
        text = ''
        for watch, (file, arguments, seconds) in WATCHES.items():
            if file == name:
                if watch in self._timeouts:
                    arguments = {**arguments, 'timeout': str(self._timeouts[watch])}
                command = ['/bin/sh', str(ACTION), str(self.directory), watch, f'{seconds:g}']
                others = ''.join(f', {argument}={value}' for argument, value in arguments.items())
                text += f'RegisterWatch({"/" + watch!r}, Exec({command!r}), description={watch!r}{others})\n'
        return text


def broken_copy(directory: Path, replacements: List[Tuple[str, str, str]]) -> Path:
    """A copy of the program in which texts of its modules are replaced. Raises LookupError for one that is not found once."""
    for name in ('bin', 'twitcher'):
        shutil.copytree(TOP / name, directory / name, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(TOP / 'setup.py', directory)
    for module, old, new in replacements:
        path = directory / 'twitcher' / module
        text = path.read_text()
        if text.count(old) != 1:
            raise LookupError(f'{module} has {old!r} {text.count(old)} times: the break must be adapted to the code')
        path.write_text(text.replace(old, new))
    return directory
