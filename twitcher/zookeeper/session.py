"""Session: a client of the ensemble that is connected whenever it can be, for as long
as the daemon lives.

Guarantees: if kazoo's thread ends for any reason, a new client takes over after a pause
that grows to half a minute at most. A connection that ends within a second counts as a
failed attempt. An outage is logged in few lines, with its reason. A request that is
sent to `client` after `on_ready` has called is answered by a server that has caught up
with its leader.
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
"""The errors of a request whose connection has ended. Another connection will
follow."""

SHORT_LIFE = 1.0
"""Seconds. A connection that ends sooner is a failed attempt: some servers accept a
session before they refuse us."""
MAX_PAUSE = 30.0
"""Seconds between two attempts, at most."""

_FIRST_PAUSE = 0.25
_SYNC_ATTEMPTS = 3
_MAX_REPORTS = 8


class Backoff:
    """When the next attempt to connect may be made. Its methods are called on kazoo's
    thread and on the loop."""

    def __init__(self) -> None:
        self.failures = 0
        self._connected_at: Optional[float] = None
        self._not_before = 0.0

    def connected(self) -> None:
        """A connection has been made."""
        self._connected_at = time.monotonic()

    def ended(self) -> None:
        """The connection has ended, or none was made."""
        connected_at, self._connected_at = self._connected_at, None
        if connected_at is not None and time.monotonic() - connected_at >= SHORT_LIFE:
            self.failures = 0
        elif connected_at is not None:
            self._fail()

    def client_ended(self) -> None:
        """The client has ended. The end of its connection may have been counted just
        before."""
        self.ended()
        if not self.remaining():
            self._fail()

    def _fail(self) -> None:
        self.failures = min(self.failures + 1, 20)
        self._not_before = time.monotonic() + min(_FIRST_PAUSE * 2 ** self.failures, MAX_PAUSE) * random.uniform(0.7, 1)

    def remaining(self) -> float:
        """Seconds until the next attempt."""
        return max(0.0, self._not_before - time.monotonic())


class Session:
    """A session with one ensemble, which several parts of the daemon share.

    `client` is the present client. `on_connection(is_connected)` is called when a
    connection has been made or lost.
    """

    def __init__(self, ensemble: Ensemble, on_connection: Callable[[bool], None]) -> None:
        self.connection = 0
        """The number of the present connection. An answer to a request of an earlier
        one does not count: each connection reads everything again."""
        self.is_ready = False
        """Whether its server has caught up, so that requests may be sent."""
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
        """Call a function with arguments on the loop. Thread-safe."""

    def start(self) -> None:
        """Connect, now or as soon as a server is up. Returns at once. Call it on the
        running loop."""
        self._loop = asyncio.get_running_loop()
        self._calls.start()
        self._open()

    def stop(self) -> threading.Thread:
        """Begin to close the session. Returns the thread that does it, which may take
        as long as a connect does."""
        self._is_closing = True
        self._calls.close()
        thread = threading.Thread(target=self.client.stop if self._generation else lambda: None, name='close', daemon=True)
        thread.start()
        return thread

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Call back, on the loop, whenever a new connection is ready."""
        self._on_ready.append(callback)

    def _open(self) -> None:
        """Make a client and start it. If that fails, for lack of memory, threads or
        descriptors, try again later."""
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
        """kazoo's thread has ended, or could not be started. On the loop."""
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
            # Forget the last zxid: a restored ensemble has smaller ones and would
            # refuse us for ever. A lagging follower is handled by the sync.
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
        # A lagging follower could answer with contents that the last session has seen
        # overwritten. After a sync it has caught up with its leader. Then everything
        # that differs from what we know is a change, even if its zxid is smaller.
        self.is_ready = False
        connection = self.connection + 1
        try:
            self.client.sync_async('/').rawlink(partial(self.call_on_loop, self._synced, connection, attempts))
        except Exception as error:  # out of memory
            self._report(f'{type(error).__name__} while the connection was made')
            self._loop.call_later(SHORT_LIFE, self._sync_again, connection, attempts)
                # Not earlier: requests of kazoo's thread before the sync do not count.
        self.connection = connection

    def _synced(self, connection: int, attempts: int, answer: Any) -> None:
        error = answer.exception
        if self._is_closing or connection != self.connection:
            return
        if isinstance(error, CONNECTION_ERRORS):  # some server may answer this although the connection is not lost
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
        """Report the connection. After failures, this is called once it has lasted."""
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
        """Log a failure, once in an outage."""
        if reason not in self._reports and len(self._reports) < _MAX_REPORTS:
            self._reports.append(reason)
            log.warning('ZooKeeper: %s; trying again until it works, at least every %g s', reason, MAX_PAUSE)
