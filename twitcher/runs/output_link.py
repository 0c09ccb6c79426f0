"""One process that logs what actions print, and the socket over which it is told about their pipes.

Messages arrive in order, and whole. They are sent at once as long as the process takes them; what does not fit the socket
waits here, with its descriptor. A message that the process has not read when we die stays in the socket, with its descriptor.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections import deque
from typing import Callable, Deque, Optional, Tuple

from twitcher.log_target import LogTarget

BUFFER_SIZE = 4 << 20
"""Bytes of the socket's buffer, for some thousands of messages, where we may ask for that (socket(7), SO_SNDBUFFORCE)."""
RETRY_DELAY = 0.2
"""Seconds until a message is sent again that the kernel had no room for."""
_SO_SNDBUFFORCE = 32
_NO_ROOM = (errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS)
_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'twitcher_output.py')


class OutputLink:
    """Starts a process that logs to the target. `on_death` is called when it has died. Raises OSError."""

    def __init__(self, target: LogTarget, on_death: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._unsent: Deque[Tuple[bytes, Optional[int]]] = deque()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, '-I', _PROGRAM, target.kind, target.path, str(os.getpid())],
                    stdin=theirs.fileno(), start_new_session=True, cwd='/',
                    stdout=None if target.kind == 'stdout' else subprocess.DEVNULL,
                    stderr=None if target.kind == 'stderr' else subprocess.DEVNULL)
            self._socket.setblocking(False)
            with contextlib.suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, BUFFER_SIZE)
            self._loop.add_reader(self._socket, on_death)  # it never says anything
        except BaseException:
            self._socket.close()
            raise

    def send(self, packet: bytes, descriptor: Optional[int] = None) -> None:
        """Send a packet, and the descriptor with it; as soon as there is room."""
        self._unsent.append((packet, descriptor))
        if len(self._unsent) == 1:
            self._send_unsent()

    def send_now(self, packet: bytes) -> bool:
        """Send a packet if there is room; whether there was. May be called in any thread."""
        with self._lock, contextlib.suppress(OSError):
            return not self._unsent and self._socket.send(packet) > 0
        return False

    def discard(self, descriptor: int) -> None:
        """Do not send the descriptor, which is about to be closed, if it is still here."""
        self._unsent = deque(message for message in self._unsent if message[1] != descriptor)

    def is_drained(self) -> bool:
        """Whether the process has taken everything."""
        unread = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
        return not self._unsent and not struct.unpack('i', unread)[0]

    def flush(self, timeout: float) -> int:
        """Send what is unsent, for at most so many seconds. Returns the number of descriptors that are left."""
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while self._unsent and time.monotonic() < deadline:
            poll.poll(RETRY_DELAY * 1000)
            if not self._send_unsent():
                break
        return sum(descriptor is not None for _, descriptor in self._unsent)

    def close(self) -> Optional[int]:
        """Let go of the process. Returns its exit code, or minus its signal, if it has died."""
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        with self._lock:
            self._socket.close()
        return self._process.poll()  # subprocess reaps what is dropped

    def _send_unsent(self) -> bool:
        """Returns whether the process is alive, as far as we know."""
        if self._socket.fileno() < 0:
            return False
        self._loop.remove_writer(self._socket)
        while self._unsent:
            packet, descriptor = self._unsent[0]
            try:
                with self._lock:
                    socket.send_fds(self._socket, [packet], [] if descriptor is None else [descriptor])
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._send_unsent)
                return True
            except ConnectionError:  # on_death is about to be called
                return False
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._loop.call_later(RETRY_DELAY, self._send_unsent)
                    return True
                # The descriptor is not open, for a .twc file has closed it.
            self._unsent.popleft()
        return True
