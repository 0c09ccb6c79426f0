"""Write to a znode, so that everybody who watches it runs."""

from __future__ import annotations

import time
from typing import Callable, Optional

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

_LOST = (ConnectionLoss, ConnectionClosedError, SessionExpiredError)
_PAUSE = 0.1


def poke(hosts: str, znode: str, contents: Optional[bytes], create: bool, wait: float) -> int:
    """Set the znode's contents, or write what it has once more (None), and return its new version.

    With `create` a znode that is missing is made, with its parents (and the chroot). Raises UnreachableError when ZooKeeper
    has not answered within `wait` seconds, and TwitcherError for what ZooKeeper refuses. The session is left to expire: to
    close it would take as long as the server likes.
    """
    limit = time.monotonic() + wait

    def left() -> float:
        """The seconds that remain; a few thousandths at the least."""
        return max(limit - time.monotonic(), 0.001)

    servers, slash, chroot = hosts.partition('/')
    path = slash + chroot + ('' if znode == '/' and chroot else znode)
    client = new_client(servers, lambda reason: None)
    if not client.start_async().wait(left()):
        raise UnreachableError(f'ZooKeeper at {servers} did not answer within {wait:g} s')
    while True:
        try:
            return _write(client, path, contents, create, left)
        except (NodeExistsError, BadVersionError):
            continue  # somebody else was here in between
        except NoNodeError:
            if not create:
                raise TwitcherError(f'{znode} does not exist') from None
        except _LOST:
            time.sleep(min(_PAUSE, left()))
            if time.monotonic() >= limit:
                raise UnreachableError(_broken_off(servers, wait, contents)) from None
        except KazooTimeoutError:
            raise UnreachableError(_broken_off(servers, wait, contents)) from None
        except KazooException as error:
            raise TwitcherError(f'{znode} cannot be written: {type(error).__name__}') from None


def _write(client: KazooClient, path: str, contents: Optional[bytes], create: bool, left: Callable[[], float]) -> int:
    """One attempt, which another writer or a lost connection may spoil."""
    exists = client.exists_async(path).get(timeout=left())
    if not exists and not create:
        raise NoNodeError
    if not exists:
        client.create_async(path, contents or b'', makepath=True).get(timeout=left())
        return 0
    version = -1
    if contents is None:
        contents, stat = client.get_async(path).get(timeout=left())
        version = stat.version
    return int(client.set_async(path, contents, version).get(timeout=left()).version)


def _broken_off(servers: str, wait: float, contents: Optional[bytes]) -> str:
    size = f' to a write of {len(contents)} bytes (its limit is jute.maxbuffer)' if contents else ''
    return f'ZooKeeper at {servers} did not answer{size} within {wait:g} s'
