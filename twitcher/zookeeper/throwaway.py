"""A private, throw-away ZooKeeper server from the distribution's packages, for trying things out and for tests."""

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
"""The packages of Debian and Ubuntu that have the jar and Java."""
START_LIMIT = 60.0
"""Seconds for a server to come up: half a second on an idle machine."""

_LEAST_PORT, _PORTS = 10_000, 22_768

# Measured: with these a server is ready in less than half a second and takes 60 MB.
_JAVA = ('-Xmx64m', '-XX:-UsePerfData', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Dzookeeper.admin.enableServer=false',
         '-Dzookeeper.4lw.commands.whitelist=*')


class ThrowAwayServer:
    """One server on 127.0.0.1; its data lie in a temporary directory until `remove`.

    `settings` go into its zoo.cfg. It dies with the thread that has started it (prctl(2), PR_SET_PDEATHSIG). Raises
    TwitcherError that names the packages to install if the jar or Java is missing.
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
        """Start it and wait until it serves. Raises TwitcherError with what the server said."""
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
        """Until it serves. Raises TwitcherError."""
        limit = time.monotonic() + START_LIMIT
        while not is_serving(self.port):
            if self._process and self._process.poll() is not None or time.monotonic() > limit:
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
        """Kill it, as a crash would; `start` goes on with the same data."""
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
    """A TCP port on 127.0.0.1 that nobody listens on.

    It is none of those that outgoing connections are given (ip(7), ip_local_port_range): one of them could take it before the
    server does, even one of somebody who tries whether the server is there.
    """
    while True:
        port = _LEAST_PORT + secrets.randbelow(_PORTS)
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
