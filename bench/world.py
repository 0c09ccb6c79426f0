"""The environment of a benchmark: servers, compiled programs, a syslog server,
contenders. All of it is removed at the end."""

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
"""Seconds to wait before something counts as missing."""

T = TypeVar('T')


class Missing(Exception):
    """Something did not happen in time."""


def wait_for(what: str, probe: Callable[[], T], pause: float = 0.002) -> T:
    """Wait for the first true value of the probe, and return it. Raises Missing."""
    deadline = time.monotonic() + PATIENCE
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Missing(f'waited {PATIENCE:g} s for {what}')
        time.sleep(pause)


class Stamps:
    """The time stamps that commands write when they start: see stamp.c."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        path.chmod(0o666)
        self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def take(self, count: int, seconds: float = PATIENCE) -> List[float]:
        """The next `count` stamps in order, in seconds of time.monotonic. Raises
        Missing if they do not arrive in time."""
        stamps: List[float] = []
        deadline = time.monotonic() + seconds
        while len(stamps) < count:
            if not select.select([self._fifo], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Missing(f'{len(stamps)} of {count} stamps in {self.path.name} after {seconds:g} s')
            data = os.read(self._fifo, min(65536, 8 * (count - len(stamps))))
            stamps += [nanoseconds / 1e9 for (nanoseconds,) in struct.iter_unpack('=q', data)]
        return stamps

    def rest(self, quiet: float) -> List[float]:
        """All stamps until none arrives for `quiet` seconds."""
        stamps: List[float] = []
        with contextlib.suppress(Missing):
            while True:
                stamps += self.take(1, quiet)
        return stamps

    def close(self) -> None:
        """Remove the FIFO."""
        os.close(self._fifo)
        self.path.unlink()


class Syslog:
    """Receives records, and keeps them with the time."""

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
        """The time of the first record, after so many, in which the pattern is found.
        Waits for it."""
        def probe() -> float:
            return next((when for when, text in self.records[after:] if re.search(pattern, text)), 0.0)

        return wait_for(f'{pattern!r} in the log', probe)

    def close(self) -> None:
        """Stop listening."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self.path.unlink()


class World:
    """The servers and programs for one run of the bench."""

    def __init__(self) -> None:
        self._exit = contextlib.ExitStack()
        # Not in /tmp: Twitcher notices changes in all directories above its
        # configuration, and /tmp has many.
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
        """Build the C programs, and an interpreter without development tools, such as
        an installed daemon has."""
        for source, libraries in (('stamp', ['-static']), ('contenders/floor', ['-lzookeeper_mt'])):
            program = self.directory / Path(source).name
            subprocess.run(['gcc', '-O2', '-DTHREADED', '-o', str(program), str(HERE / f'{source}.c'), *libraries], check=True)
        venv = self.directory / 'venv'
        subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(venv)], check=True)
        packages = next(venv.glob('lib/python*/site-packages'))
        (packages / 'libraries.pth').write_text(sysconfig.get_path('purelib') + '\n')
        compileall.compile_dir(TOP / 'twitcher', quiet=1)

    def store(self, kind: str) -> Store:
        """The server of this kind, which is started at the first call."""
        if kind not in self._stores:
            self._stores[kind] = self._exit.enter_context(contextlib.closing(Etcd(self.new_directory())))
        return self._stores[kind]

    def new_name(self) -> str:
        """A name that no earlier call has returned."""
        self._counter += 1
        return f'{self._counter:04}'

    def new_directory(self) -> Path:
        """A new, empty directory."""
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
        """Wait until the ZooKeeper server holds so many watches. Returns the time."""
        wait_for(f'{count} watches', lambda: self.zookeeper.watches() >= count)
        return time.monotonic()

    def close(self) -> None:
        """Stop and remove everything."""
        self._exit.close()


def fit(contenders: Sequence[Contender]) -> Tuple[List[Contender], List[str]]:
    """The contenders that can take part on this machine, and a note for each that
    cannot."""
    notes = [f'{contender.name}: left out, {contender.limitation()}' for contender in contenders if contender.limitation()]
    return [contender for contender in contenders if not contender.limitation()], notes
