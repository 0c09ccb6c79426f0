"""A private, throw-away ZooKeeper server from the distribution's package, for --devel
and for tests."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import Dict, Optional

from twitcher.errors import TwitcherError

JAR = '/usr/share/java/zookeeper.jar'
PACKAGES = 'libzookeeper-java and default-jre-headless'
"""The packages of Debian and Ubuntu that contain the jar and Java."""
START_TIMEOUT = 60.0
"""Seconds for a server to start. On an idle machine it takes half a second."""

_FIRST_PORT, _PORTS = 10_000, 22_768

# With these a server is ready in less than half a second and takes 55 MB (measured). It
# keeps the last 500 transactions in memory, with their contents: a heap of 64 MB is not
# enough for them if they are large.
_JAVA = ('-Xms16m', '-Xmx512m', '-XX:-UsePerfData', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1',
         '-Dzookeeper.admin.enableServer=false', '-Dzookeeper.4lw.commands.whitelist=*')


class ThrowAwayServer:
    """One server on 127.0.0.1, with its data in a temporary directory until `remove`.

    `settings` are added to its zoo.cfg. It dies with the thread that has started it
    (prctl(2), PR_SET_PDEATHSIG). Raises TwitcherError, which names the packages to
    install, if there is no Java or no ZooKeeper.
    """

    def __init__(self, settings: Optional[Dict[str, str]] = None) -> None:
        self._java = _find_java()
        self.port = free_port()
        self.hosts = f'127.0.0.1:{self.port}'
        self.directory = tempfile.mkdtemp(prefix='twitcher-zookeeper.')
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._settings = {'tickTime': '2000', 'clientPort': str(self.port), 'clientPortAddress': '127.0.0.1',
                          'dataDir': self.directory, 'maxClientCnxns': '0', **(settings or {})}

    def start(self) -> None:
        """Start it and wait until it serves. Raises TwitcherError with its last
        output."""
        config = os.path.join(self.directory, 'zoo.cfg')
        with open(config, 'w') as file:
            file.writelines(f'{name}={value}\n' for name, value in self._settings.items())
        with open(os.path.join(self.directory, 'log'), 'ab') as log:
            self._process = subprocess.Popen(
                ['setpriv', '--pdeathsig', 'KILL', self._java, *_JAVA, '-cp', JAR,
                 'org.apache.zookeeper.server.quorum.QuorumPeerMain', config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self.directory)
        self.wait()

    def wait(self) -> None:
        """Return when it serves. Raises TwitcherError with its last output."""
        deadline = time.monotonic() + START_TIMEOUT
        while not is_serving(self.port):
            if self._process and self._process.poll() is not None or time.monotonic() > deadline:
                with open(os.path.join(self.directory, 'log'), errors='replace') as log:
                    said = ' '.join(log.read()[-500:].split())
                self.remove()
                raise TwitcherError(f'the throw-away ZooKeeper did not come up: {said}')
            time.sleep(0.02)

    def signal(self, signum: int) -> None:
        """Send the server a signal, such as SIGSTOP or SIGCONT."""
        if self._process:
            self._process.send_signal(signum)

    def stop(self) -> None:
        """Kill it, as a crash would. `start` starts it again with the same data."""
        if self._process:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def _find_java() -> str:
    java = shutil.which('java')
    if not os.path.exists(JAR) or not java:
        raise TwitcherError(f'{JAR if java else "java"} was not found: install the packages {PACKAGES} for a '
                            'throw-away ZooKeeper, or name a server with --zkservers')
    return java


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on.

    It is outside the range for outgoing connections (ip(7), ip_local_port_range). One
    of those could take the port before the server does, even the one that checks
    whether the server is up.
    """
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(('127.0.0.1', port))
            return port


def is_serving(port: int) -> bool:
    """Whether a ZooKeeper server on 127.0.0.1 answers clients at the port."""
    try:
        with socket.create_connection(('127.0.0.1', port), 2) as connection:
            connection.sendall(b'srvr')
            return b'Mode:' in connection.recv(4096)
    except OSError:
        return False
