"""What a service manager is told that has started us and wants to know how we do: sd_notify(3).

Nothing here raises or blocks. Messages wait for a manager that does not read at the moment; one that is gone misses them. What
it has said to us is taken out of the environment, so that no process that we start can speak for us.
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
"""Seconds until another attempt when the manager's socket is full."""
_MAX_UNSENT = 100


class Notifier:
    """Whoever the environment names as that; nobody, if it names none. `later` is the loop's call_later.

    With a watchdog (WATCHDOG_USEC) it is told twice in each of its intervals that the loop is alive.
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
            log.warning('the service manager is told nothing: %s', error.strerror)
            return
        self._socket.setblocking(False)
        path = os.fsencode(address)
        self._address = b'\0' + path[1:] if address[0] == '@' else path
        if interval.isdecimal() and int(interval) and whose == str(os.getpid()):
            self._keep_alive(int(interval) / 1e6 / 2)

    def ready(self) -> None:
        """We are up, or have reloaded."""
        self._queue('READY=1')

    def reloading(self) -> None:
        """We begin to reload, until `ready`."""
        self._queue(f'RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}')

    def stopping(self) -> None:
        """We are about to end."""
        self._queue('STOPPING=1')

    def status(self, line: str) -> None:
        """How we do, for a human; said again only when it is something else."""
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
                log.debug('the service manager is not told %s: %s', self._unsent[0], error.strerror)
            self._unsent.popleft()
