"""A long life in a short time: runs, config reloads and reconnects by the thousand, and what a daemon holds before and after.

`Life` is one daemon with its own server, behind a proxy. Every round changes each of WATCHES znodes once and ends when every
change has had its run and every run has ended, while configs are rewritten and connections cut: so a round also shows that
nothing is lost. `main` is the program, python -m tests.endurance; test_long_lived.py is a short life.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import process_status
from tests.support.proxy import Proxy
from tests.support.subscriber import ask_server
from tests.support.waiting import wait_for
from twitcher.zookeeper.throwaway import ThrowAwayServer

WATCHES = 50
MORE_RSS = 1.10
"""How much more memory than after the warm-up is no growth."""
_EXPIRY_EVERY = 5
_SIGHUP_EVERY = 10
_MOST_SHOWN = 30

# Commands, shells and functions, half of them changed by every edit.
_CONFIG = """
GENERATION = {generation}

def say():
    print('said')

def action(number):
    if number % 10 == 0:
        return say
    if number % 10 == 5:
        return Exec('echo one; echo two')
    return Exec(['true', str(GENERATION if number % 2 else 0)])

for number in range({watches}):
    RegisterWatch('/n%d' % number, action(number), run_on_load=False, timeout=600,
                  run_mode=PARALLEL if number % 4 < 2 else QUEUE)
"""
_STARTED = re.compile(r': main\.twc#(\d+): pid \d+ started \(\w+, version (\d+)\)$')
_ENDED = re.compile(r': main\.twc#\d+: pid \d+ (exited 0|exited|was killed)')
# Also the lines of a traceback, which do not begin with the time.
_TROUBLE = re.compile(r'\] (ERROR|CRITICAL): |^(?!\d{4}-)')


@dataclass(frozen=True)
class Holdings:
    """What a daemon and its output process hold: memory in KiB, and numbers of things."""

    daemon_rss: int
    daemon_fds: int
    daemon_threads: int
    daemon_children: int
    output_rss: int
    output_fds: int
    output_threads: int
    output_children: int
    state_size: int

    def growth_since(self, before: Holdings) -> List[str]:
        """What has grown: by any number, or for memory and the state by more than a tenth."""
        grown = []
        for name, now in asdict(self).items():
            then = asdict(before)[name]
            is_memory = name.endswith(('_rss', '_size'))
            if now > (then * MORE_RSS if is_memory else then):
                grown.append(f'{name}: {then} -> {now}')
        return grown


class Life:
    """One daemon, started, with WATCHES watches; `runs` is how many have ended so far. End it with `close`."""

    def __init__(self, directory: Path) -> None:
        self.runs = self.reloads = self.reconnects = 0
        self._server = ThrowAwayServer({'tickTime': '100', 'minSessionTimeout': '500', 'maxSessionTimeout': '1500'})
        self._server.start()
        self._proxy = Proxy(self._server.port)
        self._part = Ensemble(self._server.hosts)
        self._versions = [0] * WATCHES
        for number in range(WATCHES):
            self._part.client.create(f'/n{number}')
        self.daemon = Twitcher(directory, self._proxy.hosts + self._part.chroot)
        self._tail = (directory / 'log').open('a+')
        self._rest = ''
        self._started = 0
        self._seen: Dict[int, int] = {}
        self._connections = self._loads = 0
        self.faults: List[str] = []
        self._write_config()
        self.daemon.start()
        wait_for('the first load', lambda: self._read() and self._loads == 1 and self._connections == 1)
        wait_for('all watches', self._watches_are_set)

    def live(self, runs: int, reloads: int, reconnects: int, limit: float = float('inf')) -> None:
        """Have so many more of each, evenly mixed; less when `limit` seconds are over."""
        end = time.monotonic() + limit
        first = (self.runs, self.reloads, self.reconnects)
        while self.runs - first[0] < runs and time.monotonic() < end:
            self._change_all()
            part = (self.runs - first[0] + WATCHES) / runs
            while self.reconnects - first[2] < min(part, 1) * reconnects:
                self._reconnect()
            while self.reloads - first[1] < min(part, 1) * reloads:
                self._reload()
            wait_for('a run for every change', self._all_ran)

    def holdings(self) -> Holdings:
        """What is held when everything has come to rest."""
        last: List[Optional[Holdings]] = [None] * 4

        def settled() -> bool:
            last.append(self._holdings())
            del last[0]
            counts = [[held.daemon_fds, held.daemon_children, held.output_fds] for held in last if held]
            time.sleep(0.05)
            return len(counts) == len(last) and all(count == counts[0] for count in counts)

        wait_for('the daemon to come to rest', settled)
        assert last[-1]
        return last[-1]

    def close(self) -> None:
        """End it. (Runs are not looked for, as Twitcher.close does: after so many their pids may be others'.)"""
        self._tail.close()
        if self.daemon.process and self.daemon.process.poll() is None:
            self.daemon.kill()
        self._part.close()
        self._proxy.close()
        self._server.remove()

    def _change_all(self) -> None:
        for number in range(WATCHES):
            self._versions[number] = self._part.client.retry(self._part.client.set, f'/n{number}', b'x').version

    def _reload(self) -> None:
        self.reloads += 1
        loads = self._loads
        self._write_config()
        if self.reloads % _SIGHUP_EVERY == 0:
            os.kill(self.daemon.pid, signal.SIGHUP)
        wait_for('a reload', lambda: self._read() and self._loads > loads)

    def _write_config(self) -> None:
        self.daemon.config('main.twc', _CONFIG.format(generation=self.reloads, watches=WATCHES))

    def _reconnect(self) -> None:
        """Cut the connection; now and then for so long that the session expires."""
        self.reconnects += 1
        self._read()
        connections = self._connections
        if self.reconnects % _EXPIRY_EVERY:
            self._proxy.cut()
        else:
            self._proxy.refuse()
            mine = f'0x{(self._part.client.client_id or (0,))[0]:x}'
            wait_for('the session to expire', lambda: set(_sessions(self._server.port)) <= {mine})
            self._proxy.heal()
        wait_for('a connection', lambda: self._read() and self._connections > connections)

    def _watches_are_set(self) -> bool:
        return f'Total watches:{WATCHES}' in ask_server(self._server.port, 'wchs')

    def _all_ran(self) -> bool:
        self._read()
        done = all(self._seen.get(number + 1, 0) >= version for number, version in enumerate(self._versions))
        return done and self.runs == self._started

    def _read(self) -> bool:
        """Take in what the log has got since the last time; True."""
        *lines, self._rest = (self._rest + self._tail.read()).split('\n')
        for line in lines:
            started, ended = _STARTED.search(line), _ENDED.search(line)
            if started:
                self._started += 1
                self._seen[int(started[1])] = int(started[2])
            elif ended:
                self.runs += 1
            self._loads += 'main.twc: loaded, ' in line
            self._connections += 'ZooKeeper: connected' in line
            if ended and ended[1] != 'exited 0' or not ended and _TROUBLE.search(line):
                self.faults.append(line)
        return True

    def _holdings(self) -> Optional[Holdings]:
        children = _children(self.daemon.pid)
        output = next((pid for pid in children if _name(pid) == 'twitcher-output'), 0)
        if not output or _has_pipes(output):  # of runs that are over, but whose output was not read to its end yet
            return None
        state = sum(path.stat().st_size for path in (self.daemon.directory / 'state').iterdir())
        return Holdings(*_held(self.daemon.pid), *_held(output), state // 1024)


def _held(pid: int) -> Tuple[int, int, int, int]:
    status = process_status(pid)
    return int(status['VmRSS'].split()[0]), len(os.listdir(f'/proc/{pid}/fd')), int(status['Threads']), len(_children(pid))


def _has_pipes(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return any(os.readlink(f'/proc/{pid}/fd/{name}').startswith('pipe:') for name in os.listdir(f'/proc/{pid}/fd'))
    return True


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f'/proc/{pid}/comm').read_text().strip()
    return ''


def _children(pid: int) -> List[int]:
    """The processes, zombies too, whose parent it is."""
    children = []
    for name in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):
            if int(Path(f'/proc/{name}/stat').read_text().rpartition(')')[2].split()[1]) == pid:
                children.append(int(name))
    return children


def _sessions(port: int) -> List[str]:
    """The ids of all sessions of a server."""
    return re.findall(r'^\t(0x[0-9a-f]+)$', ask_server(port, 'dump').partition('Session Sets')[2], re.MULTILINE)


@contextlib.contextmanager
def life(directory: Path) -> Iterator[Life]:
    """A Life for the length of a with block."""
    made = Life(directory)
    try:
        yield made
    finally:
        made.close()


def main() -> int:
    """The program: live long, print what was held, and whether anything has grown (then the exit code is 1)."""
    parser = argparse.ArgumentParser(prog='python -m tests.endurance',
                                     description='Have a daemon live long, and tell what it holds before and after.')
    parser.add_argument('--runs', type=int, default=50_000)
    parser.add_argument('--reloads', type=int, default=2_000)
    parser.add_argument('--reconnects', type=int, default=200)
    parser.add_argument('--limit', type=float, default=float('inf'), metavar='SECONDS', help='end after so long, come what may')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='twitcher-endurance.') as directory, life(Path(directory)) as daemon:
        began = time.monotonic()
        daemon.live(WATCHES, 1, 0)
        holdings = [daemon.holdings()]
        daemon.live(options.runs // 10, options.reloads // 10, options.reconnects // 10)
        holdings.append(daemon.holdings())
        daemon.live(options.runs, options.reloads, options.reconnects, options.limit - (time.monotonic() - began))
        holdings.append(daemon.holdings())
        print(f'{daemon.runs} runs, {daemon.reloads} reloads, {daemon.reconnects} reconnects in '
              f'{time.monotonic() - began:.0f} s (a tenth of them the warm-up)')
        print(f'{"":20}{"at first":>12}{"warm":>12}{"at the end":>12}')
        for name in asdict(holdings[0]):
            print(f'{name:20}' + ''.join(f'{asdict(held)[name]:12}' for held in holdings))
        troubles = daemon.faults + holdings[2].growth_since(holdings[1])
        print('\n'.join(troubles[:_MOST_SHOWN]) or 'nothing has grown')
        if len(troubles) > _MOST_SHOWN:
            print(f'... and {len(troubles) - _MOST_SHOWN} lines more')
        return 1 if troubles else 0


if __name__ == '__main__':
    sys.exit(main())
