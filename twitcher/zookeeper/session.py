"""The session with the ensemble: kept up, and replaced by a new one, for as long as the
daemon lives.

Guarantees: whatever ends kazoo's thread, a new client takes over after a pause that
grows to half a minute at most; a connection that ends within a second counts as a
failed attempt. An outage is logged in few lines, with its reason. What is asked of
`client` after `on_ready` has called is answered by a server that has caught up with its
leader.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from functools import partial
from typing import Any, Callable, List, Optional

from twitcher.log import get_logger
from twitcher.zookeeper.client import (
    Client,
    ConnectionClosedError,
    ConnectionLoss,
    KazooState,
    KeeperState,
    SessionExpiredError,
    TroubleFilter,
    new_client,
)
from twitcher.zookeeper.ensemble import Ensemble
from twitcher.zookeeper.loop_calls import LoopCalls

log = get_logger(__name__)

CONNECTION_ERRORS = (ConnectionLoss, SessionExpiredError, ConnectionClosedError)
"""What a request fails with when its connection has ended. The next connection is on
its way."""

SHORT_LIFE = 1.0
"""Seconds. A connection that ends sooner is a failed attempt: a server that refuses us
may accept a session first."""
MAX_PAUSE = 30.0
"""Seconds between two attempts, at most: the daemon promises to try that often."""

_FIRST_PAUSE = 0.25
_SYNC_ATTEMPTS = 3
_MAX_REPORTS = 8


class Backoff:
    """When the next attempt may be made. Its methods are called on kazoo's thread and
    on the loop."""

    def __init__(self) -> None:
        self.failures = 0
        self._connected_at: Optional[float] = None
        self._not_before = 0.0

    def connected(self) -> None:
        """A connection has been made."""
        self._connected_at = time.monotonic()

    def ended(self) -> None:
        """The connection has ended, if there was one."""
        connected_at, self._connected_at = self._connected_at, None
        if connected_at is not None and time.monotonic() - connected_at >= SHORT_LIFE:
            self.failures = 0
        elif connected_at is not None:
            self._fail()

    def client_ended(self) -> None:
        """The client has ended; if its connection has as well just now, that has been
        counted."""
        self.ended()
        if not self.remaining():
            self._fail()

    def _fail(self) -> None:
        self.failures = min(self.failures + 1, 20)
        self._not_before = time.monotonic() + min(_FIRST_PAUSE * 2 ** self.failures, MAX_PAUSE) * random.uniform(0.7, 1)

    def remaining(self) -> float:
        """Seconds until then."""
        return max(0.0, self._not_before - time.monotonic())


class Session:
    """A client of one ensemble. `on_connection(is_connected)` is called when the
    ensemble comes or goes."""

    def __init__(self, ensemble: Ensemble, on_connection: Callable[[bool], None]) -> None:
        self.connection = 0
        """Counts connections. What was asked on one is of no interest on the next,
        where all is asked again."""
        self.is_ready = False
        self._ensemble = ensemble
        self._on_connection = on_connection
        self._on_ready: List[Callable[[], None]] = []
        self._generation = 0
        self._backoff = Backoff()
        self._trouble = TroubleFilter()
        self._reports: List[str] = []
        self._is_announced = False
        self._is_closing = False
        self._calls = LoopCalls()
        self.call_on_loop = self._calls.add
        """Have a function called on the loop, with arguments. For any thread."""

    def start(self) -> None:
        """Connect, now or when a server comes up. Returns at once; call it on the
        running loop."""
        self._loop = asyncio.get_running_loop()
        self._calls.start()
        self._open()

    def stop(self) -> threading.Thread:
        """Begin to close the session. The thread that does it is returned: it may take
        as long as a connect takes."""
        self._is_closing = True
        self._calls.close()
        thread = threading.Thread(target=self.client.stop if self._generation else lambda: None, name='close', daemon=True)
        thread.start()
        return thread

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Call back whenever a connection can be used, on the loop."""
        self._on_ready.append(callback)

    def _open(self) -> None:
        """Make a client. It is needed even where it cannot be made for want of memory,
        threads or descriptors: try again."""
        if self._is_closing:
            return
        generation = self._generation + 1
        client = None
        try:
            client = new_client(self._ensemble, partial(self.call_on_loop, self._client_ended, generation),
                                self._backoff.remaining, self._trouble)
            client.add_listener(partial(self._listen, client))
            self.client: Client = client
            self._generation = generation
            client.start_async()
        except Exception as error:
            self._client_ended(self._generation, f'{type(error).__name__}: {error}')

    def _client_ended(self, generation: int, reason: str) -> None:
        """kazoo's thread has ended, or could not be started."""
        if self._is_closing or generation != self._generation:
            return
        self._backoff.client_ended()
        self._lost(f'the client has failed ({reason})')
        if generation:
            try:
                self.client.close()
            except Exception as error:
                log.debug('ZooKeeper: the old client cannot be closed: %r', error)
        self._loop.call_later(self._backoff.remaining(), self._open)

    def _listen(self, client: Client, state: str) -> None:
        """kazoo's state listener, called on its thread."""
        if state == KazooState.CONNECTED:
            self._backoff.connected()
        else:
            self._backoff.ended()
            # Else an ensemble that was restored with smaller zxids would refuse us for
            # ever. A follower that lags is handled by the sync.
            client.last_zxid = 0
        self.call_on_loop(self._state_changed, client, state, client.client_state == KeeperState.EXPIRED_SESSION)

    def _state_changed(self, client: Client, state: str, has_expired: bool) -> None:
        if self._is_closing or client is not self.client:
            return
        if state == KazooState.CONNECTED:
            self._sync()
        elif has_expired:
            self._lost('the session has expired')
        elif self._is_announced:
            self._lost('the connection is lost')
        else:
            self._lost('the server has accepted a session and ended it at once')

    def _sync(self, attempts: int = 1) -> None:
        # A follower that lags could answer a new session with what an old one has seen
        # overwritten. After a sync it has caught up with its leader, and whatever
        # differs from what we know is a change, even where zxids are smaller.
        self.is_ready = False
        connection = self.connection + 1
        try:
            self.client.sync_async('/').rawlink(partial(self.call_on_loop, self._synced, connection, attempts))
        except Exception as error:  # out of memory
            self._report(f'{type(error).__name__} while the connection was made')
            self._loop.call_later(SHORT_LIFE, self._sync_again, connection, attempts)
        self.connection = connection  # not before: only what kazoo's thread asks after the sync may be believed

    def _synced(self, connection: int, attempts: int, answer: Any) -> None:
        error = answer.exception
        if self._is_closing or connection != self.connection:
            return
        if isinstance(error, CONNECTION_ERRORS):  # if not because the connection is lost, the server has answered so
            self._loop.call_later(SHORT_LIFE, self._sync_again, connection, attempts)
            return
        if error:
            self._report(f'the server refuses a sync ({error!r})')
            if attempts < _SYNC_ATTEMPTS:
                self._loop.call_later(SHORT_LIFE, self._sync_again, connection, attempts + 1)
                return
        self.is_ready = True
        if self._backoff.failures:
            self._loop.call_later(SHORT_LIFE, self._announce, connection)
        else:
            self._announce(connection)
        for callback in self._on_ready:
            self._call_ready(connection, callback)

    def _sync_again(self, connection: int, attempts: int) -> None:
        if connection == self.connection and not self._is_closing:
            self._sync(attempts)

    def _call_ready(self, connection: int, callback: Callable[[], None]) -> None:
        if connection != self.connection or not self.is_ready:
            return
        try:
            callback()
        except Exception:
            log.exception('ZooKeeper: internal error after the connection was made (please report it)')
            self._loop.call_later(SHORT_LIFE, self._call_ready, connection, callback)

    def _announce(self, connection: int) -> None:
        """Say that there is a connection; after failures, not before it has lasted."""
        if connection == self.connection and self.is_ready and not self._is_closing:
            self._is_announced = True
            self._reports.clear()
            self._trouble.forget()
            log.info('ZooKeeper: connected to %s, session 0x%x', self._ensemble, (self.client.client_id or (0,))[0])
            self._on_connection(True)

    def _lost(self, reason: str) -> None:
        self.is_ready = False
        if self._is_announced:
            self._is_announced = False
            log.warning('ZooKeeper: %s', reason)
            self._on_connection(False)
        else:
            self._report(reason)

    def _report(self, reason: str) -> None:
        """Say once in an outage what has failed."""
        if reason not in self._reports and len(self._reports) < _MAX_REPORTS:
            self._reports.append(reason)
            log.warning('ZooKeeper: %s; trying again until it works, at least every %g s', reason, MAX_PAUSE)
