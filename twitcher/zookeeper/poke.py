"""One write to a znode, within a time limit.

Guarantees: it ends in time, with a result, or with an error that says what each server
did instead of answering. The session is left to expire, because the server could make
us wait if we closed it.
"""

from __future__ import annotations

import socket
import threading
import time
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
"""Bytes that fit in any case: a server closes a connection that sends more than its
jute.maxbuffer, by default 1 MiB."""

_LOST = (ConnectionLoss, ConnectionClosedError, SessionExpiredError)
_PAUSE = 0.1
_DIAGNOSIS = 1.0
"""Seconds to find out why no server has answered."""


class Poked(NamedTuple):
    """The result: the znode's new version, and whether it was created."""

    version: int
    was_created: bool


def poke(ensemble: Ensemble, znode: str, contents: Optional[bytes], create: bool, wait: float) -> Poked:
    """Set the znode's contents; None writes its present contents once more.

    `create` also creates a missing znode, with its parents and the chroot. Raises
    UnreachableError if ZooKeeper has not answered within `wait` seconds, and
    TwitcherError for what ZooKeeper refuses.
    """
    deadline = time.monotonic() + wait

    def remaining() -> float:
        """Seconds, and a thousandth at least."""
        return max(deadline - time.monotonic(), 0.001)

    root = ensemble._replace(chroot='')  # a session below a chroot that is missing could not create it
    path = ensemble.chroot + ('' if znode == '/' and ensemble.chroot else znode)
    client = new_client(root, lambda reason: None)
    if not client.start_async().wait(remaining()):
        raise UnreachableError(f'ZooKeeper at {root} did not answer within {wait:g} s{_reasons(root)}')
    while True:
        try:
            return _write(client, path, contents, create, remaining)
        except (NodeExistsError, BadVersionError):
            continue  # another client was faster: try again
        except NoNodeError:
            if not create:
                raise TwitcherError(f'{znode} does not exist') from None
        except _LOST:
            time.sleep(min(_PAUSE, remaining()))
            if time.monotonic() >= deadline:
                raise UnreachableError(_broken_off(root, wait, contents)) from None
        except KazooTimeoutError:
            raise UnreachableError(_broken_off(root, wait, contents)) from None
        except KazooException as error:
            raise TwitcherError(f'{znode} cannot be written: {type(error).__name__}') from None


def _reasons(ensemble: Ensemble) -> str:
    """Why each server cannot be reached, if _DIAGNOSIS is enough to find out."""
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


def _write(client: KazooClient, path: str, contents: Optional[bytes], create: bool,
           remaining: Callable[[], float]) -> Poked:
    """One attempt. Another client or a lost connection may make it fail."""
    exists = client.exists_async(path).get(timeout=remaining())
    if not exists and not create:
        raise NoNodeError
    if not exists:
        client.create_async(path, contents or b'', makepath=True).get(timeout=remaining())
        return Poked(0, was_created=True)
    version = -1
    if contents is None:
        contents, stat = client.get_async(path).get(timeout=remaining())
        version = stat.version
    return Poked(client.set_async(path, contents, version).get(timeout=remaining()).version, was_created=False)


def _broken_off(ensemble: Ensemble, wait: float, contents: Optional[bytes]) -> str:
    size = f' to a write of {len(contents)} bytes (its limit is jute.maxbuffer)' if contents else ''
    return f'ZooKeeper at {ensemble} did not answer{size} within {wait:g} s'
