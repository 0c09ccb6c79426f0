"""The ZooKeeper client: a KazooClient set up to try for ever, to keep quiet, and to say when it has died.

The only module that knows kazoo; the names that others need of it are imported here. Blocks nowhere.
"""

from __future__ import annotations

import ipaddress
import os
import re
import select
import socket
import sys
import threading
from importlib import import_module
from typing import Any, Callable, List, Optional, Sequence, Tuple

import kazoo.protocol.connection
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
)
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
from kazoo.protocol.states import KazooState, WatchedEvent
from kazoo.retry import KazooRetry

from twitcher.errors import UsageError
from twitcher.log import Logger, get_logger
from twitcher.log_target import DEBUG, WARNING, Record
from twitcher.spec import znode_fault

__all__ = [
    'BadVersionError', 'ConnectionClosedError', 'ConnectionLoss', 'KazooClient', 'KazooException', 'KazooState',
    'KazooTimeoutError', 'NoAuthError', 'NoNodeError', 'NodeExistsError', 'SessionExpiredError', 'WatchedEvent',
    'checked_hosts', 'new_client',
]

log = get_logger(__name__)


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

DEFAULT_PORT = 2181
SESSION_TIMEOUT = 10.0
"""Seconds that we ask for; the server has the last word. It is kazoo's default, and clients of a fleet should agree."""
LONGEST_PAUSE = 5.0
"""Seconds (and up to 40 percent more, so that a fleet does not return at once) between two rounds of attempts."""

# kazoo passes a host to getaddrinfo, whose IDNA step kills kazoo's thread for an empty label or one over 63 characters.
_LABEL = r'[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?'
_ZONE = r'%[A-Za-z0-9_-]{1,15}(\.[A-Za-z0-9_-]{1,15})*'
_HOST = re.compile(rf'^(?P<name>\[(?P<address>[^\]%]+)({_ZONE})?\]|{_LABEL}(\.{_LABEL})*\.?)(:(?P<port>[0-9]{{1,5}}))?$')


def checked_hosts(text: str) -> str:
    """A host list HOST[:PORT],...[/CHROOT], in the form kazoo takes. Raises UsageError that names the part that is wrong."""
    servers, slash, chroot = text.partition('/')
    hosts = [_checked_host(text, part.strip()) for part in servers.split(',')]
    fault = znode_fault(slash + chroot) if slash and chroot else None
    if fault or ',' in chroot or ':' in chroot:
        raise UsageError(f'zkservers {text!r}: the chroot {slash + chroot!r} cannot be used: '
                         f'{fault or "it comes once, after the last server"}; allowed: HOST:PORT,...[/CHROOT]')
    return ','.join(hosts) + (slash + chroot if chroot else '')


def _checked_host(text: str, part: str) -> str:
    match = _HOST.match(part)
    port = int(match['port'] or DEFAULT_PORT) if match else 0
    if not match or not 1 <= port <= 65535 or len(match['name']) > 253 or not _is_address(match['address']):
        raise UsageError(f'zkservers {text!r}: {part!r} is no server; allowed: HOST:PORT,...[/CHROOT], for instance '
                         'zk1:2181,zk2:2181 or [::1]:2181/chroot')
    return f'{match["name"]}:{port}'


def _is_address(text: Optional[str]) -> bool:
    """Whether what stood in brackets is an IPv6 address; None, where no brackets were, is fine."""
    try:
        return text is None or ipaddress.IPv6Address(text) is not None
    except ValueError:
        return False


def new_client(hosts: str, on_thread_end: Callable[[str], None]) -> KazooClient:
    """A client that is not started yet.

    When one of kazoo's threads ends, by stop() or by an error, `on_thread_end` is called in it, with the reason.
    """
    return KazooClient(
        hosts=hosts,
        timeout=SESSION_TIMEOUT,
        handler=_Handler(on_thread_end),
        connection_retry=KazooRetry(max_tries=-1, delay=0.1, backoff=2, max_jitter=0.4, max_delay=LONGEST_PAUSE),
        logger=_calm_logger(),
    )


class _Pipe:
    """One end of a pipe, with as much of a socket as kazoo wants of its socket pair."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

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
        for name in ('fileno', 'send', 'close', 'setblocking', 'getpeername'):
            setattr(self, name, getattr(connection, name))

    def pending(self) -> int:
        """How much `recv` gives, or raises, without waiting."""
        return self._until - self._at or bool(self._end)

    def fill(self) -> None:
        """Read ahead, should there be something."""
        try:
            self._until, self._at = self._socket.recv_into(self._buffer), 0
            self._end = None if self._until else ConnectionResetError('the server has closed the connection')
        except BlockingIOError:
            return
        except OSError as error:
            self._end = error

    def recv(self, size: int) -> bytes:
        """As a socket does it, but that the end is an error."""
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


class _Handler(SequentialThreadingHandler):
    """kazoo's one thread, which reports its end, and what wakes it."""

    queue_impl = _AtOnce

    def __init__(self, on_thread_end: Callable[[str], None]) -> None:
        super().__init__()
        self._on_thread_end = on_thread_end

    def start(self) -> None:
        """As kazoo asks; without threads for the queues."""
        self._running = True

    def stop(self) -> None:
        """As kazoo asks."""
        self._running = False

    def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        """As kazoo asks."""
        connection = super().create_connection(*args, **kwargs)
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


def _calm_logger() -> Logger:
    """kazoo's log. It has two lines for every attempt to connect: of an outage only each different trouble is worth one."""
    logger = get_logger('twitcher.kazoo')
    logger.filter = _Calm().filter
    return logger


class _Calm:
    """Turns kazoo's records into DEBUG, but for the first of each kind of trouble since the last connection."""

    def __init__(self) -> None:
        self._told: List[Tuple[str, str]] = []

    def filter(self, record: Record) -> bool:
        """Whether to log the record, which may be changed."""
        if record.levelno < WARNING:
            if 'connection established' in str(record.msg):
                self._told.clear()
        elif record.levelno == WARNING:
            trouble = (str(record.msg), str(record.args))
            if str(record.msg).startswith(_TROUBLE) and trouble not in self._told and len(self._told) < _MOST_TROUBLES:
                self._told.append(trouble)
                record.msg, record.args = 'ZooKeeper: %s; trying again until it answers', (record.getMessage(),)
                return True
        elif (str(record.msg), '') not in self._told:
            # Neither its arguments, which may hold the session's password, nor its traceback: they are kazoo's affair.
            self._told.append((str(record.msg), ''))
            record.msg, record.args, record.exc_info = f'ZooKeeper: {str(record.msg).partition("%")[0]}', (), None
            return True
        record.levelno = DEBUG
        return get_logger(record.name).isEnabledFor(DEBUG)


_TROUBLE = ('Connection dropped', 'Connection time-out', 'Cannot resolve', 'AUTH_FAILED')
_MOST_TROUBLES = 8
