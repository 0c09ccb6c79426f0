"""The ZooKeeper client: a KazooClient that retries for ever, logs little, and reports
the end of its thread.

Only this module and transport.py know kazoo. Others import kazoo's names from here.
Nothing here blocks.
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
"""Seconds that we ask for; the server decides. This is kazoo's default, and the clients
of a fleet should agree."""
MAX_RETRY_DELAY = 5.0
"""Seconds between two rounds of attempts; up to 40 percent more, so that the machines
of a fleet do not all return at once."""

_LATER_CODES = {-124: 'the server requires SASL authentication', -127: 'the server throttles requests'}


class _Exceptions(Dict[int, Any]):
    """kazoo's exceptions by error code. For an unknown code, kazoo's own table raises
    in kazoo's thread and ends it. This one makes it the error of the one request."""

    def __missing__(self, code: int) -> Callable[[], ZookeeperError]:
        return partial(ZookeeperError, f'error code {code}: {_LATER_CODES.get(code, "unknown")}')


kazoo.protocol.connection.EXCEPTIONS = kazoo.protocol.serialization.EXCEPTIONS = _Exceptions(EXCEPTIONS)


class _RawChildren(GetChildren2):
    """A request for a znode's children whose answer has the names as the server sent
    them. To parse a million of them in kazoo's thread would delay all other answers by
    a second."""

    __slots__ = ()

    @classmethod
    def deserialize(cls, data: bytes, offset: int) -> Tuple[memoryview, ZnodeStat]:
        """The list, without its length, and the stat, which comes last."""
        until = len(data) - stat_struct.size
        return memoryview(data)[offset + int_struct.size:until], ZnodeStat._make(stat_struct.unpack_from(data, until))


class Client(KazooClient):
    """A KazooClient that can also return children as the server sent them."""

    def raw_children_async(self, path: str, watch: Callable[[WatchedEvent], None]) -> Any:
        """As get_children_async with include_data, but with the names as bytes in
        ZooKeeper's format (see children.py)."""
        answer = self.handler.async_result()
        self._call(_RawChildren((self.chroot + path).rstrip('/') or '/', watch), answer)
        return answer


def new_client(ensemble: Ensemble, on_thread_end: Callable[[str], None], seconds_to_wait: Callable[[], float] = lambda: 0.0,
               trouble: Optional[TroubleFilter] = None) -> Client:
    """A client that is not started yet.

    When its thread ends, by stop() or by an error, it calls `on_thread_end` with the
    reason. Each attempt to connect begins `seconds_to_wait()` later than kazoo would
    begin it.
    """
    return Client(
        hosts=str(ensemble),
        timeout=SESSION_TIMEOUT,
        handler=Handler(on_thread_end, seconds_to_wait),
        connection_retry=KazooRetry(max_tries=-1, delay=0.1, backoff=2, max_jitter=0.4, max_delay=MAX_RETRY_DELAY),
        logger=_calm_logger(trouble or TroubleFilter()),
    )


def _calm_logger(trouble: TroubleFilter) -> Logger:
    """kazoo's logger. kazoo logs two lines for each attempt to connect; in an outage,
    one for each kind of trouble is enough."""
    logger = get_logger('twitcher.kazoo')
    logger.filter = trouble.filter
    return logger


class TroubleFilter:
    """Turns kazoo's records into DEBUG, except the first of each kind of trouble since
    the last `forget`."""

    def __init__(self) -> None:
        self._seen: List[Tuple[str, str]] = []

    def forget(self) -> None:
        """All is well again: log the next trouble of each kind."""
        self._seen.clear()

    def filter(self, record: Record) -> bool:
        """Whether to log the record, which this may change."""
        if record.levelno == WARNING:
            trouble = (str(record.msg), str(record.args))
            if str(record.msg).startswith(_TROUBLE) and trouble not in self._seen and len(self._seen) < _MAX_TROUBLES:
                self._seen.append(trouble)
                record.msg, record.args = 'ZooKeeper: %s; trying again until it answers', (record.getMessage(),)
                return True
        elif record.levelno > WARNING and (str(record.msg), '') not in self._seen and not _is_end(record):
            # Without arguments, which may hold the session's password, and traceback.
            self._seen.append((str(record.msg), ''))
            record.msg, record.args, record.exc_info = f'ZooKeeper: {str(record.msg).partition("%")[0]}', (), None
            return True
        record.levelno = DEBUG
        return get_logger(record.name).isEnabledFor(DEBUG)


def _is_end(record: Record) -> bool:
    """Whether the record reports the end of kazoo's thread, which Handler reports with
    its reason."""
    return str(record.msg).startswith('Unhandled exception in connection loop')


_TROUBLE = ('Connection dropped', 'Connection time-out', 'Cannot resolve', 'AUTH_FAILED')
_MAX_TROUBLES = 8
