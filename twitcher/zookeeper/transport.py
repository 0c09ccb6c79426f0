"""The transport of kazoo's requests: its one thread, its sockets, and the pipe that
wakes the thread.

Guarantees: a request never blocks its caller, even without a connection. A read takes
all that has arrived. The end of kazoo's thread is reported with the reason. Every error
has a text. Nothing here knows what a request says.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import threading
from importlib import import_module
from typing import Any, Callable, List, Optional, Sequence, Tuple

import kazoo.protocol.connection
from kazoo.handlers.threading import SequentialThreadingHandler

from twitcher.descriptors import NEEDED
from twitcher.log import get_logger

log = get_logger(__name__)

MAX_FRAME = 1 << 28
"""Bytes. A peer that announces more than this is no ZooKeeper. A list of a million
children takes 30 MB."""
CONNECT_TIMEOUT = 10.0
"""Seconds for connections that kazoo makes without a timeout, in search of a writable
server."""


class _Tls:
    """Replaces the ssl module in kazoo, which looks up ssl.SSLError when a connection
    is lost. As long as nothing has imported OpenSSL there can be no such error, and
    importing it costs four megabytes, and fails if no descriptor is free."""

    class _Never(OSError):
        """Is never raised."""

    def __getattr__(self, name: str) -> Any:
        if name == 'SSLError' and 'ssl' not in sys.modules:
            return self._Never
        return getattr(import_module('ssl'), name)


kazoo.protocol.connection.ssl = _Tls()


class _Pipe:
    """One end of a pipe, with the methods of a socket that kazoo calls."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        NEEDED.add(descriptor)

    def fileno(self) -> int:
        """For select."""
        return self._descriptor

    def recv(self, size: int) -> bytes:
        """As a socket does it."""
        return os.read(self._descriptor, size)

    def send(self, data: bytes) -> int:
        """As a socket does it."""
        return os.write(self._descriptor, data)

    def close(self) -> None:
        """As a socket does it."""
        if self._descriptor >= 0:
            NEEDED.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class _ReadAhead:
    """A socket that reads all that has arrived at once. kazoo reads four bytes and then
    the rest, and waits before each.

    It has `pending`, like a TLS socket; kazoo calls that before it waits.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray(65536)  # reused: buffers that recv() allocates and shrinks fragment the heap
        self._at = self._until = 0
        self._end: Optional[Exception] = None
        for name in ('fileno', 'send', 'sendall', 'close', 'setblocking', 'getpeername'):
            setattr(self, name, getattr(connection, name))

    def pending(self) -> int:
        """The number of bytes that `recv` returns without waiting; true also if it
        would raise."""
        return self._until - self._at or bool(self._end)

    def fill(self) -> None:
        """Read what has arrived, if anything has."""
        try:
            self._until, self._at = self._socket.recv_into(self._buffer), 0
            self._end = None if self._until else ConnectionResetError(errno.ECONNRESET, 'the server has closed the connection')
        except BlockingIOError:
            return
        except OSError as error:
            self._end = error

    def recv(self, size: int) -> bytes:
        """As a socket does it, except that the end of the stream is an error."""
        if size > MAX_FRAME:  # kazoo asks for the whole rest of a frame
            raise OSError(errno.EPROTO, f'a frame of {size} bytes: this is no ZooKeeper')
        if not self.pending():
            self.fill()
        if self._at == self._until:
            raise self._end or BlockingIOError()
        begin, self._at = self._at, min(self._at + size, self._until)
        return bytes(self._buffer[begin:self._at])


def _is_readable(reader: Any, is_ready: bool) -> bool:
    if not isinstance(reader, _ReadAhead):
        return is_ready
    if is_ready and not reader.pending():
        reader.fill()
    return reader.pending() > 0


class _NoQueue:
    """Replaces kazoo's queues of callbacks: `put` calls the callback at once, in the
    caller's thread. Our callbacks only hand over to the loop. Each queue would cost a
    thread, and each callback a change of threads."""

    def put(self, callback: Callable[[], None]) -> None:
        """Call it."""
        try:
            callback()
        except Exception:
            log.exception('ZooKeeper: internal error (please report it)')


class Handler(SequentialThreadingHandler):
    """kazoo's one thread, which reports its end, and the pipe that wakes it.

    Each attempt to connect begins `seconds_to_wait()` later than kazoo begins it.
    """

    queue_impl = _NoQueue

    def __init__(self, on_thread_end: Callable[[str], None], seconds_to_wait: Callable[[], float]) -> None:
        super().__init__()
        self._on_thread_end = on_thread_end
        self._seconds_to_wait = seconds_to_wait
        self._is_stopped = threading.Event()

    def start(self) -> None:
        """As kazoo wants it, but without threads for queues."""
        self._running = True
        self._is_stopped.clear()

    def stop(self) -> None:
        """As kazoo wants it."""
        self._running = False
        self._is_stopped.set()

    def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        """As kazoo wants it: kazoo logs only the `strerror` of an OSError, and some
        have none."""
        if self._is_stopped.wait(self._seconds_to_wait()):
            raise OSError(errno.ECANCELED, 'the client is stopping')
        kwargs.setdefault('timeout', CONNECT_TIMEOUT)
        try:
            connection = super().create_connection(*args, **kwargs)
        except OSError as error:
            if error.strerror:
                raise
            raise OSError(errno.ETIMEDOUT, str(error) or 'no connection in time') from None
        return connection if hasattr(connection, 'pending') else _ReadAhead(connection)

    def select(self, readers: Sequence[Any], writers: Sequence[Any], _: Sequence[Any], timeout: Optional[float] = None
               ) -> Tuple[List[Any], List[Any], List[Any]]:
        """As select.select, but without its limit of 1024 descriptors. kazoo's own
        creates an epoll object for each call and needs six calls for an update; with
        this one it is two."""
        waiting = any(isinstance(reader, _ReadAhead) and reader.pending() for reader in readers)
        poll = select.poll()
        for reader in readers:
            poll.register(reader, select.POLLIN)
        for writer in writers:
            poll.register(writer, select.POLLOUT)
        milliseconds = 0 if waiting else None if timeout is None else max(0.0, timeout) * 1000
        ready = {descriptor for descriptor, _ in poll.poll(milliseconds)}
        return ([reader for reader in readers if _is_readable(reader, reader.fileno() in ready)],
                [writer for writer in writers if writer.fileno() in ready], [])

    def create_socket_pair(self) -> Tuple[_Pipe, _Pipe]:
        """A pipe: each request wakes kazoo's thread with a byte. A socket pair holds
        278 of them (measured), and then blocks the sender until there is a connection.
        A pipe holds 65,536."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        return _Pipe(reader), _Pipe(writer)

    def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> threading.Thread:
        """Start a thread, as kazoo wants it."""
        def until_it_ends() -> None:
            """Call the function, and report why it has ended."""
            reason = 'it has returned'
            try:
                func(*args, **kwargs)
            except BaseException as error:
                reason = f'{type(error).__name__}: {error}'
            self._on_thread_end(reason)

        thread = threading.Thread(target=until_it_ends, name='kazoo', daemon=True)
        thread.start()
        return thread
