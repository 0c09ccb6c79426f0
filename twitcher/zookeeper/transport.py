"""What carries kazoo's requests: its one thread, its sockets, and what wakes it.

Guarantees: a call never blocks the caller for want of a connection; a read takes all there is at once; the end of kazoo's
thread is reported, with the reason; each error has a text. Nothing here knows a request.
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

from twitcher.descriptors import PIPES
from twitcher.log import get_logger

log = get_logger(__name__)

MAX_FRAME = 1 << 28
"""Bytes. What announces more than this is no ZooKeeper; a list of a million children takes 30 MB."""
CONNECT_TIMEOUT = 10.0
"""Seconds for a connection that kazoo makes without a timeout: its search for a writable server."""


class _Tls:
    """In the place of the ssl module, whose error kazoo looks for when a connection is lost: while OpenSSL has not been
    imported there is none, and to import it for that costs four megabytes, and fails when descriptors are out."""

    class _Never(OSError):
        """What is never raised."""

    def __getattr__(self, name: str) -> Any:
        if name == 'SSLError' and 'ssl' not in sys.modules:
            return self._Never
        return getattr(import_module('ssl'), name)


kazoo.protocol.connection.ssl = _Tls()

class _Pipe:
    """One end of a pipe, with as much of a socket as kazoo wants of its socket pair."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        PIPES.add(descriptor)

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
            PIPES.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class _ReadAhead:
    """A socket that reads all there is at once. kazoo asks for four bytes and then for the rest, and waits before each.

    It has `pending`, as one of TLS has, which kazoo looks at before it waits.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray(65536)  # one for all: what recv() allocates and cuts leaves malloc(3) in fragments
        self._at = self._until = 0
        self._end: Optional[Exception] = None
        for name in ('fileno', 'send', 'sendall', 'close', 'setblocking', 'getpeername'):
            setattr(self, name, getattr(connection, name))

    def pending(self) -> int:
        """How much `recv` gives, or raises, without waiting."""
        return self._until - self._at or bool(self._end)

    def fill(self) -> None:
        """Read ahead, should there be something."""
        try:
            self._until, self._at = self._socket.recv_into(self._buffer), 0
            self._end = None if self._until else ConnectionResetError(errno.ECONNRESET, 'the server has closed the connection')
        except BlockingIOError:
            return
        except OSError as error:
            self._end = error

    def recv(self, size: int) -> bytes:
        """As a socket does it, but that the end is an error."""
        if size > MAX_FRAME:  # kazoo asks for all that is left of a frame
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


class _AtOnce:
    """In the place of a queue of callbacks: whoever puts one in calls it. Ours only hand over, and each queue of kazoo's costs
    a thread, and every callback a change of threads."""

    def put(self, callback: Callable[[], None]) -> None:
        """Call it."""
        try:
            callback()
        except Exception:
            log.exception('ZooKeeper: a mistake of twitcher itself')


class Handler(SequentialThreadingHandler):
    """kazoo's one thread, which reports its end, and what wakes it.

    `seconds_to_wait()` is called before each attempt to connect, which begins that much later.
    """

    queue_impl = _AtOnce

    def __init__(self, on_thread_end: Callable[[str], None], seconds_to_wait: Callable[[], float]) -> None:
        super().__init__()
        self._on_thread_end = on_thread_end
        self._seconds_to_wait = seconds_to_wait
        self._is_stopped = threading.Event()

    def start(self) -> None:
        """As kazoo asks; without threads for the queues."""
        self._running = True
        self._is_stopped.clear()

    def stop(self) -> None:
        """As kazoo asks."""
        self._running = False
        self._is_stopped.set()

    def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        """As kazoo asks. It looks only at `strerror` of an OSError, which some do not have."""
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
        """As select.select, which takes no descriptor above 1023. kazoo's own makes an epoll object for each call, and calls
        it six times in the time of an update; this one is called twice."""
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
        """What a request is announced by, with a byte. A socket pair takes 278 of them (measured), and then blocks whoever
        sends, for as long as there is no connection; a pipe takes 65,536."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        return _Pipe(reader), _Pipe(writer)

    def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> threading.Thread:
        """Start a thread, as kazoo asks."""
        def until_it_ends() -> None:
            """Call the function, and report why it does not go on."""
            reason = 'it has returned'
            try:
                func(*args, **kwargs)
            except BaseException as error:
                reason = f'{type(error).__name__}: {error}'
            self._on_thread_end(reason)

        thread = threading.Thread(target=until_it_ends, name='kazoo', daemon=True)
        thread.start()
        return thread
