"""Notifies the service manager that started us of our state: sd_notify(3).

Nothing here raises or blocks. Messages are queued while the manager does not read, and
dropped if it is gone. Its variables are removed from the environment, so that no
process that we start can send notifications in our name.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from typing import Any, Callable, Deque, MutableMapping

from twitcher.log import get_logger

log = get_logger(__name__)

RETRY_DELAY = 0.2
"""Seconds until the next attempt when the manager's socket is full."""
_MAX_UNSENT = 100


class Notifier:
    """Notifies the manager named by NOTIFY_SOCKET. Without one every method does
    nothing. `later` is the loop's call_later.

    With a watchdog (WATCHDOG_USEC) it sends a sign of life twice per interval.
    """

    def __init__(self, environment: MutableMapping[str, str], later: Callable[..., Any]) -> None:
        address = environment.pop('NOTIFY_SOCKET', '')
        interval = environment.pop('WATCHDOG_USEC', '')
        whose = environment.pop('WATCHDOG_PID', str(os.getpid()))
        self._later = later
        self._unsent: Deque[bytes] = deque(maxlen=_MAX_UNSENT)
        self._is_waiting = False
        self._status = ''
        self._address = b''
        if address[:1] not in ('/', '@'):
            return
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError as error:
            log.warning('cannot notify the service manager: %s', error.strerror)
            return
        self._socket.setblocking(False)
        path = os.fsencode(address)
        self._address = b'\0' + path[1:] if address[0] == '@' else path
        if interval.isdecimal() and int(interval) and whose == str(os.getpid()):
            self._keep_alive(int(interval) / 1e6 / 2)

    def ready(self) -> None:
        """We have started, or reloaded."""
        self._queue('READY=1')

    def reloading(self) -> None:
        """We are reloading, until `ready`."""
        self._queue(f'RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}')

    def stopping(self) -> None:
        """We are about to exit."""
        self._queue('STOPPING=1')

    def status(self, line: str) -> None:
        """A line about our state, for a human. Sent only if it has changed."""
        if line != self._status:
            self._status = line
            self._queue(f'STATUS={line}')

    def _keep_alive(self, interval: float) -> None:
        self._queue('WATCHDOG=1')
        self._later(interval, self._keep_alive, interval)

    def _queue(self, message: str) -> None:
        if self._address:
            self._unsent.append(message.encode())
            if not self._is_waiting:
                self._send()

    def _send(self) -> None:
        self._is_waiting = False
        while self._unsent:
            try:
                self._socket.sendto(self._unsent[0], self._address)
            except BlockingIOError:
                self._is_waiting = True
                self._later(RETRY_DELAY, self._send)
                return
            except OSError as error:
                log.debug('cannot notify the service manager of %s: %s', self._unsent[0], error.strerror)
            self._unsent.popleft()
