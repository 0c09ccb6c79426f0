"""Write to a znode, so that everybody who watches it runs."""

from __future__ import annotations

import time
from typing import Optional

from twitcher.errors import TwitcherError, UnreachableError
from twitcher.zookeeper import (
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooClient,
    KazooException,
    KazooTimeoutError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    new_client,
)

LARGEST = 1_000_000
"""Bytes that are sure to fit: a server drops a connection that sends more than jute.maxbuffer, by default 1 MiB."""

_LOST = (ConnectionLoss, ConnectionClosedError, SessionExpiredError, KazooTimeoutError)


def poke(hosts: str, znode: str, contents: Optional[bytes], create: bool, wait: float) -> int:
    """Set the znode's contents, or write what it has once more (None), and return its new version.

    With `create` a znode that is missing is made, with its parents. Raises UnreachableError when ZooKeeper has not answered
    within `wait` seconds, and TwitcherError for what ZooKeeper refuses.
    """
    limit = time.monotonic() + wait
    client = new_client(hosts, lambda reason: None)
    try:
        client.start(timeout=wait)
        while True:
            try:
                return _write(client, znode, contents, create, limit)
            except (NoNodeError, NodeExistsError, BadVersionError):
                # Somebody else was here in between; but a missing parent, as of a chroot, stays missing.
                if not create:
                    raise
    except _LOST:
        size = f' while {len(contents)} bytes were sent (its limit is jute.maxbuffer)' if contents else ''
        raise UnreachableError(f'ZooKeeper at {hosts} did not answer within {wait:g} s{size}') from None
    except NoNodeError:
        raise TwitcherError(f'{znode} does not exist') from None
    except KazooException as error:
        raise TwitcherError(f'{znode} cannot be written: {type(error).__name__}') from None
    finally:
        client.stop()
        client.close()


def _write(client: KazooClient, znode: str, contents: Optional[bytes], create: bool, limit: float) -> int:
    """One attempt, which another writer may spoil."""
    def left() -> float:
        return max(limit - time.monotonic(), 0.001)

    exists = client.exists_async(znode).get(timeout=left())
    if not exists and not create:
        raise NoNodeError
    if not exists:
        client.create_async(znode, contents or b'', makepath=True).get(timeout=left())
        return 0
    version = -1
    if contents is None:
        contents, stat = client.get_async(znode).get(timeout=left())
        version = stat.version
    return int(client.set_async(znode, contents, version).get(timeout=left()).version)
