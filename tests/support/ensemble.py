"""A test's own part of a ZooKeeper server."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any, Iterator

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError


@contextlib.contextmanager
def connected(hosts: str) -> Iterator[KazooClient]:
    """A client of its own for the length of a with block."""
    client = KazooClient(hosts, timeout=30)
    client.start(60)
    try:
        yield client
    finally:
        client.stop()
        client.close()


class Ensemble:
    """A part of a ZooKeeper server that belongs to one test: a chroot, and a client in it."""

    def __init__(self, hosts: str) -> None:
        self.chroot = f'/test-{uuid.uuid4().hex}'
        self.hosts = hosts + self.chroot
        root = KazooClient(hosts)
        root.start(60)
        root.create(self.chroot)
        root.stop()
        root.close()
        self.client = KazooClient(self.hosts, timeout=30)
        self.client.start(60)

    def put(self, znode: str, contents: Any) -> None:
        """Create the znode or set it."""
        data = contents if isinstance(contents, bytes) else str(contents).encode()
        try:  # not exists(), for which newer servers want the permission to read
            self.client.set(znode, data)
        except NoNodeError:
            self.client.create(znode, data, makepath=True)

    def close(self) -> None:
        """Leave."""
        self.client.stop()
        self.client.close()


class ReconnectingEnsemble(Ensemble):
    """A part of a server that stops and starts: each `put` connects anew, and closes its `client`."""

    def __init__(self, hosts: str) -> None:
        super().__init__(hosts)
        self.close()

    def put(self, znode: str, contents: Any) -> None:
        """As Ensemble says."""
        with connected(self.hosts) as self.client:
            super().put(znode, contents)
