"""Write to a znode, so that everybody who watches it runs."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from typing import Callable, Dict, NamedTuple, Optional

from twitcher.errors import TwitcherError, UnreachableError
from twitcher.zookeeper.client import (
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
from twitcher.zookeeper.ensemble import Ensemble

MAX_CONTENTS = 1_000_000
"""Bytes that are sure to fit: a server drops a connection that sends more than jute.maxbuffer, by default 1 MiB."""

_LOST = (ConnectionLoss, ConnectionClosedError, SessionExpiredError)
_PAUSE = 0.1
_DIAGNOSIS = 1.0
"""Seconds that are spent on finding out why no server has answered."""


class Poked(NamedTuple):
    """What a write came to: the znode's new version, and whether it was created."""

    version: int
    was_created: bool


def poke(ensemble: Ensemble, znode: str, contents: Optional[bytes], create: bool, wait: float) -> Poked:
    """Set the znode's contents, or write what it has once more (None).

    With `create` a znode that is missing is made, with its parents (and the chroot). Raises UnreachableError when ZooKeeper
    has not answered within `wait` seconds, which says what each server did instead, and TwitcherError for what ZooKeeper
    refuses. The session is left to expire: to close it would take as long as the server likes.
    """
    limit = time.monotonic() + wait

    def left() -> float:
        """The seconds that remain; a few thousandths at the least."""
        return max(limit - time.monotonic(), 0.001)

    root = replace(ensemble, chroot='')  # a session below a chroot that is missing could not create it
    path = ensemble.chroot + ('' if znode == '/' and ensemble.chroot else znode)
    client = new_client(root, lambda reason: None)
    if not client.start_async().wait(left()):
        raise UnreachableError(f'ZooKeeper at {root} did not answer within {wait:g} s{_reasons(root)}')
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
                raise UnreachableError(_broken_off(root, wait, contents)) from None
        except KazooTimeoutError:
            raise UnreachableError(_broken_off(root, wait, contents)) from None
        except KazooException as error:
            raise TwitcherError(f'{znode} cannot be written: {type(error).__name__}') from None


def _reasons(ensemble: Ensemble) -> str:
    """What keeps each server from being reached, as far as that can be found out within a second."""
    reasons: Dict[str, str] = {}
    threads = [threading.Thread(target=_find_reason, args=(server, reasons), daemon=True) for server in ensemble.servers]
    deadline = time.monotonic() + _DIAGNOSIS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return ''.join(f'; {server} {reason}' for server, reason in sorted(reasons.items()))


def _find_reason(server: str, reasons: Dict[str, str]) -> None:
    host, _, port = server.rpartition(':')
    try:
        socket.create_connection((host.strip('[]'), int(port)), _DIAGNOSIS).close()
    except socket.gaierror as error:
        reasons[server] = f'cannot be resolved: {error.strerror}'
    except socket.timeout:
        return
    except OSError as error:
        reasons[server] = f'cannot be connected to: {error.strerror}'


def _write(client: KazooClient, path: str, contents: Optional[bytes], create: bool, left: Callable[[], float]) -> Poked:
    """One attempt, which another writer or a lost connection may spoil."""
    exists = client.exists_async(path).get(timeout=left())
    if not exists and not create:
        raise NoNodeError
    if not exists:
        client.create_async(path, contents or b'', makepath=True).get(timeout=left())
        return Poked(0, was_created=True)
    version = -1
    if contents is None:
        contents, stat = client.get_async(path).get(timeout=left())
        version = stat.version
    return Poked(client.set_async(path, contents, version).get(timeout=left()).version, was_created=False)


def _broken_off(ensemble: Ensemble, wait: float, contents: Optional[bytes]) -> str:
    size = f' to a write of {len(contents)} bytes (its limit is jute.maxbuffer)' if contents else ''
    return f'ZooKeeper at {ensemble} did not answer{size} within {wait:g} s'
