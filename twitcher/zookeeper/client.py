"""The ZooKeeper client: a KazooClient set up to try for ever, to keep quiet, and to say when it has died.

This module and its transport are the only ones that know kazoo; the names that others need of it are imported here.
Blocks nowhere.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

import kazoo.protocol.connection
import kazoo.protocol.serialization
from kazoo.client import KazooClient
from kazoo.exceptions import (
    EXCEPTIONS,
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    ZookeeperError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.serialization import GetChildren2, int_struct, stat_struct
from kazoo.protocol.states import KazooState, KeeperState, WatchedEvent, ZnodeStat
from kazoo.retry import KazooRetry

from twitcher.log import Logger, get_logger
from twitcher.log_target import DEBUG, WARNING, Record
from twitcher.zookeeper.ensemble import Ensemble
from twitcher.zookeeper.transport import Handler

__all__ = [
    'BadVersionError', 'Client', 'ConnectionClosedError', 'ConnectionLoss', 'KazooClient', 'KazooException', 'KazooState',
    'KazooTimeoutError', 'KeeperState', 'NoAuthError', 'NoNodeError', 'NodeExistsError', 'SessionExpiredError', 'WatchedEvent',
    'TroubleFilter', 'new_client',
]

log = get_logger(__name__)


SESSION_TIMEOUT = 10.0
"""Seconds that we ask for; the server has the last word. It is kazoo's default, and clients of a fleet should agree."""
LONGEST_PAUSE = 5.0
"""Seconds (and up to 40 percent more, so that a fleet does not return at once) between two rounds of attempts."""

_LATER_CODES = {-124: 'the server requires SASL authentication', -127: 'the server throttles requests'}


class _Exceptions(Dict[int, Any]):
    """kazoo's exceptions by error code. For a code that it does not know kazoo's own table raises in kazoo's thread, which
    ends it; here it is the error of the one request."""

    def __missing__(self, code: int) -> Callable[[], ZookeeperError]:
        return partial(ZookeeperError, f'error code {code}: {_LATER_CODES.get(code, "unknown")}')


kazoo.protocol.connection.EXCEPTIONS = kazoo.protocol.serialization.EXCEPTIONS = _Exceptions(EXCEPTIONS)


class _RawChildren(GetChildren2):
    """A request for a znode's children whose answer keeps the names as the server sent them: to take a million of them apart
    here would hold up all other answers for a second."""

    __slots__ = ()

    @classmethod
    def deserialize(cls, data: bytes, offset: int) -> Tuple[memoryview, ZnodeStat]:
        """The list, without its length, and the stat, which is the answer's end."""
        until = len(data) - stat_struct.size
        return memoryview(data)[offset + int_struct.size:until], ZnodeStat._make(stat_struct.unpack_from(data, until))


class Client(KazooClient):
    """A KazooClient that can also ask for children without taking their names apart."""

    def raw_children_async(self, path: str, watch: Callable[[WatchedEvent], None]) -> Any:
        """As get_children_async with include_data, but the names are bytes in ZooKeeper's own form (children.py)."""
        answer = self.handler.async_result()
        self._call(_RawChildren((self.chroot + path).rstrip('/') or '/', watch), answer)
        return answer


def new_client(ensemble: Ensemble, on_thread_end: Callable[[str], None], seconds_to_wait: Callable[[], float] = lambda: 0.0,
               trouble: Optional[TroubleFilter] = None) -> Client:
    """A client that is not started yet.

    When its thread ends, by stop() or by an error, `on_thread_end` is called in it, with the reason. Each attempt to
    connect begins `seconds_to_wait()` later than kazoo would begin it.
    """
    return Client(
        hosts=str(ensemble),
        timeout=SESSION_TIMEOUT,
        handler=Handler(on_thread_end, seconds_to_wait),
        connection_retry=KazooRetry(max_tries=-1, delay=0.1, backoff=2, max_jitter=0.4, max_delay=LONGEST_PAUSE),
        logger=_calm_logger(trouble or TroubleFilter()),
    )


def _calm_logger(trouble: TroubleFilter) -> Logger:
    """kazoo's log. It has two lines for every attempt to connect: of an outage only each different trouble is worth one."""
    logger = get_logger('twitcher.kazoo')
    logger.filter = trouble.filter
    return logger


class TroubleFilter:
    """Turns kazoo's records into DEBUG, but for the first of each kind of trouble since the last `forget`."""

    def __init__(self) -> None:
        self._told: List[Tuple[str, str]] = []

    def forget(self) -> None:
        """All is well again: log the next trouble of each kind."""
        self._told.clear()

    def filter(self, record: Record) -> bool:
        """Whether to log the record, which may be changed."""
        if record.levelno == WARNING:
            trouble = (str(record.msg), str(record.args))
            if str(record.msg).startswith(_TROUBLE) and trouble not in self._told and len(self._told) < _MOST_TROUBLES:
                self._told.append(trouble)
                record.msg, record.args = 'ZooKeeper: %s; trying again until it answers', (record.getMessage(),)
                return True
        elif record.levelno > WARNING and (str(record.msg), '') not in self._told and not _is_end(record):
            # Neither its arguments, which may hold the session's password, nor its traceback: they are kazoo's affair.
            self._told.append((str(record.msg), ''))
            record.msg, record.args, record.exc_info = f'ZooKeeper: {str(record.msg).partition("%")[0]}', (), None
            return True
        record.levelno = DEBUG
        return get_logger(record.name).isEnabledFor(DEBUG)


def _is_end(record: Record) -> bool:
    """Whether kazoo's thread ends now: that is reported, with its reason, when it has."""
    return str(record.msg).startswith('Unhandled exception in connection loop')


_TROUBLE = ('Connection dropped', 'Connection time-out', 'Cannot resolve', 'AUTH_FAILED')
_MOST_TROUBLES = 8
