"""The daemon's link to one output process: the child itself, and the socket to it.

Messages arrive whole and in order. Each is sent at once if the socket has room;
otherwise it is queued here, with its descriptor. What the process has not read when the
daemon dies stays in the socket, descriptors included.
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
"""Bytes of the socket's send buffer, if we may set it (socket(7), SO_SNDBUFFORCE): room
for some thousands of messages."""
RETRY_DELAY = 0.2
"""Seconds until a message is sent again for which the kernel had no memory."""
_SO_SNDBUFFORCE = 32
_NO_MEMORY = (errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS)
_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'twitcher_output.py')


class OutputLink:
    """Starts an output process that logs to `target`. Raises OSError.

    `on_death` is called when the process has died.
    """

    def __init__(self, target: LogTarget, on_death: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._queue: Deque[Tuple[bytes, Optional[int]]] = deque()
        self._waits_for_room = False
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
            self._loop.add_reader(self._socket, on_death)  # readable only at its end: the process sends nothing
        except BaseException:
            self._socket.close()
            raise

    def send(self, packet: bytes, descriptor: Optional[int] = None) -> None:
        """Send a packet and the descriptor, or queue them until there is room."""
        self._queue.append((packet, descriptor))
        if len(self._queue) == 1:
            self._send_queue()

    def send_now(self, packet: bytes) -> bool:
        """Send a packet if there is room. Returns whether there was. Thread-safe."""
        with self._lock, contextlib.suppress(OSError):
            return not self._queue and self._socket.send(packet) > 0
        return False

    def discard(self, descriptor: int) -> None:
        """Remove a descriptor that is about to be closed from the queue."""
        self._queue = deque(message for message in self._queue if message[1] != descriptor)

    def is_drained(self) -> bool:
        """Whether the process has read everything."""
        unread = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
        return not self._queue and not struct.unpack('i', unread)[0]

    def flush(self, timeout: float) -> int:
        """Send the queue, for at most `timeout` seconds.

        Returns the number of descriptors left in it.
        """
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while self._queue and time.monotonic() < deadline:
            poll.poll(RETRY_DELAY * 1000)
            if not self._send_queue():
                break
        return sum(descriptor is not None for _, descriptor in self._queue)

    def close(self) -> Optional[int]:
        """Close the socket.

        Returns the exit code of the process, or minus its signal, if it has died.
        """
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        with self._lock:
            self._socket.close()
        return self._process.poll()  # if it has not ended yet, subprocess reaps it later

    def _send_queue(self) -> bool:
        """Send what the socket has room for. Returns False if the process has died."""
        if self._socket.fileno() < 0:
            return False
        if self._waits_for_room:
            self._waits_for_room = False
            self._loop.remove_writer(self._socket)
        while self._queue:
            packet, descriptor = self._queue[0]
            try:
                with self._lock:
                    if descriptor is None:
                        self._socket.send(packet)
                    else:
                        socket.send_fds(self._socket, [packet], [descriptor])
            except BlockingIOError:
                self._waits_for_room = True
                self._loop.add_writer(self._socket, self._send_queue)
                return True
            except ConnectionError:  # on_death is about to be called
                return False
            except OSError as error:
                if error.errno in _NO_MEMORY:
                    self._loop.call_later(RETRY_DELAY, self._send_queue)
                    return True
                # Otherwise a .twc file has closed the descriptor: drop the packet.
            self._queue.popleft()
        return True
