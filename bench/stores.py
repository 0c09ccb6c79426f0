"""The servers that contenders watch, and how the bench writes to them. Each is private,
on 127.0.0.1, and is removed at the end."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from base64 import b64encode
from pathlib import Path
from typing import Dict, List, Protocol, Sequence

from kazoo.client import KazooClient

from twitcher.zookeeper.throwaway import ThrowAwayServer, free_port

_PIPELINE = 500


class Store(Protocol):
    """A server. `put` returns when the server has confirmed the write."""

    hosts: str

    def create(self, znodes: Sequence[str], contents: bytes = b'0') -> None:
        """Create the znodes and their parents, if they are missing."""

    def put(self, znode: str, contents: bytes) -> None:
        """Set the contents of a znode."""

    def close(self) -> None:
        """Stop the server and remove its data."""


class ZooKeeper:
    """A ZooKeeper server from the distribution's package."""

    def __init__(self) -> None:
        self._server = ThrowAwayServer()
        self._server.start()
        self.hosts = self._server.hosts
        self.client = KazooClient(self.hosts, timeout=60)
        self.client.start(60)

    def create(self, znodes: Sequence[str], contents: bytes = b'0') -> None:
        """As Store says."""
        for parent in {znode.rpartition('/')[0] for znode in znodes} - {''}:
            self.client.ensure_path(parent)
        for start in range(0, len(znodes), _PIPELINE):
            for answer in [self.client.create_async(znode, contents) for znode in znodes[start:start + _PIPELINE]]:
                answer.get()

    def put(self, znode: str, contents: bytes) -> None:
        """As Store says."""
        self.client.set(znode, contents)

    def watches(self) -> int:
        """How many watches of all its clients the server holds."""
        return int(self.facts()['zk_watch_count'])

    def facts(self) -> Dict[str, str]:
        """The server's own statistics: "mntr" in ZooKeeper's administrator's guide."""
        with socket.create_connection(('127.0.0.1', self._server.port), 10) as connection:
            connection.sendall(b'mntr')
            text = b''.join(iter(lambda: connection.recv(65536), b''))
        return dict(line.split('\t', 1) for line in text.decode().splitlines())

    def close(self) -> None:
        """As Store says."""
        self.client.stop()
        self.client.close()
        self._server.remove()


class Etcd:
    """An etcd server from the distribution's package."""

    def __init__(self, directory: Path) -> None:
        port, peers = free_port(), free_port()
        self.hosts = f'127.0.0.1:{port}'
        self._directory = directory
        urls = f'http://127.0.0.1:{peers}'
        with (directory / 'log').open('wb') as log:
            self._process = subprocess.Popen(
                ['etcd', '--data-dir', str(directory / 'data'), '--listen-client-urls', f'http://{self.hosts}',
                 '--advertise-client-urls', f'http://{self.hosts}', '--listen-peer-urls', urls,
                 '--initial-advertise-peer-urls', urls, '--initial-cluster', f'default={urls}'],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, 'ETCD_UNSUPPORTED_ARCH': 'arm64'})
        self._connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.put('/ready', b'')
                return
            except (OSError, http.client.HTTPException):
                self._connection.close()
                if time.monotonic() > deadline:
                    self.close()
                    raise
                time.sleep(0.05)

    def create(self, znodes: Sequence[str], contents: bytes = b'0') -> None:
        """As Store says."""
        for znode in znodes:
            self.put(znode, contents)

    def put(self, znode: str, contents: bytes) -> None:
        """As Store says: through its JSON gateway, on a connection that stays open."""
        text = json.dumps({'key': b64encode(znode.encode()).decode(), 'value': b64encode(contents).decode()})
        self._connection.request('POST', '/v3/kv/put', text)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise http.client.HTTPException(f'etcd answered {answer.status}')

    def close(self) -> None:
        """As Store says."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


def names(prefix: str, number: int) -> List[str]:
    """The paths of `number` znodes below the prefix."""
    return [f'{prefix}/{index:05}' for index in range(number)]
