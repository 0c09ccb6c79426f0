"""What a benchmark works in: servers, compiled programs, a syslog server, contenders. All of it is gone at the end."""

from __future__ import annotations

import compileall
import contextlib
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple, TypeVar

from bench.contender import Contender, Job
from bench.contenders.twitcher import TOP
from bench.stores import Etcd, Store, ZooKeeper

HERE = Path(__file__).resolve().parent
PATIENCE = 120.0
"""Seconds until what has to come is taken to be missing."""

T = TypeVar('T')


class Missing(Exception):
    """What was waited for did not come."""


def wait_for(what: str, probe: Callable[[], T], pause: float = 0.002) -> T:
    """The first true value of the probe. Raises Missing."""
    limit = time.monotonic() + PATIENCE
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > limit:
            raise Missing(f'waited {PATIENCE:g} s for {what}')
        time.sleep(pause)


class Stamps:
    """What commands write when they start: see stamp.c."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        path.chmod(0o666)
        self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def take(self, count: int, seconds: float = PATIENCE) -> List[float]:
        """The next `count`, in seconds of time.monotonic, in order. Raises Missing when they have not come in that time."""
        stamps: List[float] = []
        limit = time.monotonic() + seconds
        while len(stamps) < count:
            if not select.select([self._fifo], [], [], max(0.0, limit - time.monotonic()))[0]:
                raise Missing(f'{len(stamps)} of {count} stamps in {self.path.name} after {seconds:g} s')
            data = os.read(self._fifo, min(65536, 8 * (count - len(stamps))))
            stamps += [nanoseconds / 1e9 for (nanoseconds,) in struct.iter_unpack('=q', data)]
        return stamps

    def rest(self, quiet: float) -> List[float]:
        """All that come until none has for so many seconds."""
        stamps: List[float] = []
        with contextlib.suppress(Missing):
            while True:
                stamps += self.take(1, quiet)
        return stamps

    def close(self) -> None:
        """Have no more of them."""
        os.close(self._fifo)
        self.path.unlink()


class Syslog:
    """Takes records, and remembers them with the time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: List[Tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            datagram = self._socket.recv(65536)
            if not datagram:
                return
            self.records.append((time.monotonic(), datagram.decode(errors='replace')))

    def wait(self, pattern: str, after: int = 0) -> float:
        """When the first record came, from this number on, in which the regular expression is found."""
        def probe() -> float:
            return next((when for when, text in self.records[after:] if re.search(pattern, text)), 0.0)

        return wait_for(f'{pattern!r} in the log', probe)

    def close(self) -> None:
        """Listen no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self.path.unlink()


class World:
    """The servers and programs for one run of the bench."""

    def __init__(self) -> None:
        self._exit = contextlib.ExitStack()
        # Not in /tmp: Twitcher notices what happens beside the path of its configuration, and much does there.
        self.directory = Path(tempfile.mkdtemp(prefix='twitcher-bench.', dir='/var/tmp'))
        self._exit.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._counter = 0
        self._stores: Dict[str, Store] = {}
        try:
            self.directory.chmod(0o755)  # other users run commands from here
            self._build()
            self.syslog = self._exit.enter_context(contextlib.closing(Syslog(self.directory / 'syslog')))
            self.zookeeper = self._exit.enter_context(contextlib.closing(ZooKeeper()))
            self._stores['zookeeper'] = self.zookeeper
        except BaseException:
            self._exit.close()
            raise

    def _build(self) -> None:
        """The C programs; and an interpreter as an installed daemon has it, whose start finds no development tools."""
        for source, libraries in (('stamp', ['-static']), ('contenders/floor', ['-lzookeeper_mt'])):
            program = self.directory / Path(source).name
            subprocess.run(['gcc', '-O2', '-DTHREADED', '-o', str(program), str(HERE / f'{source}.c'), *libraries], check=True)
        venv = self.directory / 'venv'
        subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(venv)], check=True)
        packages = next(venv.glob('lib/python*/site-packages'))
        (packages / 'libraries.pth').write_text(sysconfig.get_path('purelib') + '\n')
        compileall.compile_dir(TOP / 'twitcher', quiet=1)

    def store(self, kind: str) -> Store:
        """The server of this kind, started when it is first asked for."""
        if kind not in self._stores:
            self._stores[kind] = self._exit.enter_context(contextlib.closing(Etcd(self.new_directory())))
        return self._stores[kind]

    def new_name(self) -> str:
        """One that was not given before."""
        self._counter += 1
        return f'{self._counter:04}'

    def new_directory(self) -> Path:
        """An empty one."""
        path = self.directory / self.new_name()
        path.mkdir()
        return path

    def stamps(self) -> Stamps:
        """A new FIFO for stamps; the caller closes it."""
        return Stamps(self.directory / f'fifo-{self.new_name()}')

    def job(self, store: Store, znodes: Sequence[str], stamps: Stamps, run_on_load: bool = False, files: int = 1,
            then: Sequence[str] = ()) -> Job:
        """A job whose command stamps, and becomes `then` if that is given."""
        return Job(store.hosts, znodes, (str(self.directory / 'stamp'), str(stamps.path), *then), self.new_directory(),
                   self.syslog.path, self.directory, run_on_load, files)

    def wait_watches(self, count: int) -> float:
        """When the ZooKeeper server was seen to hold so many watches."""
        wait_for(f'{count} watches', lambda: self.zookeeper.watches() >= count)
        return time.monotonic()

    def close(self) -> None:
        """End everything."""
        self._exit.close()


def fit(contenders: Sequence[Contender]) -> Tuple[List[Contender], List[str]]:
    """Those that can take part on this machine, and a sentence for each that cannot."""
    notes = [f'{contender.name}: left out, {contender.shortcoming()}' for contender in contenders if contender.shortcoming()]
    return [contender for contender in contenders if not contender.shortcoming()], notes
