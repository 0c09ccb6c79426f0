"""A record of the log, and the destinations that it can be written to: syslog, a file,
stdout or stderr.

A record is one line unless it has a traceback. Characters that cannot be encoded or
would control a terminal are escaped. This module does not depend on `logging`, which
.twc files and their libraries may change.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import time
import traceback
from functools import partial
from typing import Any, Callable, Mapping, NamedTuple, Optional, Protocol, Tuple

SYSLOG_SOCKET = '/dev/log'
IDENT = 'twitcher'

DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50
"""The levels, with the numbers that `logging` and kazoo use."""

MAX_MESSAGE = 8000
"""Characters of a message. rsyslog accepts 8 KiB by default."""
MAX_TRACEBACK = 32_000
"""Characters of a traceback, whose end is kept. A datagram may have about 200 KiB."""

_DAEMON = 3 << 3
_LEVELS = ((CRITICAL, 'CRITICAL', 2), (ERROR, 'ERROR', 3), (WARNING, 'WARNING', 4), (INFO, 'INFO', 6), (0, 'DEBUG', 7))
_CONTROL = r'[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]'


def escaped(text: str) -> str:
    """The text in one line, with characters that would control a terminal as backslash
    sequences."""
    line = text.rstrip('\n').replace('\n', ' | ')
    if line.isprintable():  # nearly all are: the expression takes half a millisecond to compile
        return line
    return re.sub(_CONTROL, lambda match: match[0].encode('unicode_escape').decode(), line)


class Record:
    """One record. Its attributes have the names that logging.LogRecord uses.

    `on_delivered` is called in another thread when the record has been written or
    dropped.
    """

    __slots__ = ('name', 'levelno', 'msg', 'args', 'exc_info', 'created', 'on_delivered')

    def __init__(self, name: str, levelno: int, msg: object, args: Tuple[Any, ...] = (), exc_info: Any = None,
                 created: Optional[float] = None, on_delivered: Optional[Callable[[], None]] = None) -> None:
        self.name = name
        self.levelno = levelno
        self.msg = msg
        self.args: Any = args
        self.exc_info = exc_info
        self.created = time.time() if created is None else created
        self.on_delivered = on_delivered

    def getMessage(self) -> str:
        """The message with its arguments."""
        if not self.args:
            return str(self.msg)
        args: Any = self.args
        if len(args) == 1 and isinstance(args[0], Mapping) and args[0]:
            args = args[0]
        try:
            return str(str(self.msg) % args)
        except Exception:  # a wrong format string must not lose the record
            return f'{self.msg} {self.args!r}'

    def traceback(self) -> str:
        """The traceback to write after the message; empty if there is none."""
        if not self.exc_info or not self.exc_info[1]:
            return ''
        text = ''.join(traceback.format_exception(*self.exc_info)).rstrip('\n')
        return '\n' + text[-MAX_TRACEBACK:]


class LogTarget(NamedTuple):
    """One destination: `kind` is syslog, file, stdout or stderr; `path` is the socket
    or the file."""

    kind: str
    path: str = ''


class Destination(Protocol):
    """Writes records. It opens its file or socket at the first record, and again after
    a failure."""

    def write(self, record: Record, timeout: float) -> None:
        """Write the record, or the rest of it if a part was written before. Raises
        OSError if that fails or takes more than `timeout` seconds; then it may be
        called again with the same record or with the next one."""

    def close(self) -> None:
        """Close the file or the socket."""


def open_target(target: LogTarget, pid: int) -> Destination:
    """The destination; its records are tagged twitcher[pid]. Opens nothing yet."""
    if target.kind == 'syslog':
        return _Syslog(target.path, pid)
    if target.kind == 'file':
        return _File(target.path, pid)
    return _Lines(1 if target.kind == 'stdout' else 2, pid)


def check_file(path: str) -> None:
    """Raise OSError if the log file cannot be opened."""
    os.close(_open(path))


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY, 0o640)


def _level(record: Record) -> Tuple[str, int]:
    """The name of the record's level, and its severity in syslog."""
    for least, name, severity in _LEVELS:
        if record.levelno >= least:
            return name, severity
    return _LEVELS[-1][1:]


def _text(record: Record) -> str:
    return escaped(record.getMessage()[:MAX_MESSAGE]) + record.traceback()


class _Sender:
    """Sends records that may take several attempts. After a part of a record the rest
    is sent first, even if the next record is to be sent, so that two never mix."""

    def __init__(self) -> None:
        self._record: Optional[Record] = None
        self._unsent = b''
        self._rest = b''

    def send(self, record: Record, encode: Callable[[Record], bytes], send: Callable[[bytes], int]) -> None:
        """Send the record, or what is left of it. `send` returns the number of bytes
        that it has sent."""
        if record is not self._record:
            self._record, self._unsent = record, encode(record)
        while self._rest or self._unsent:
            if self._rest:
                self._rest = self._rest[send(self._rest):]
            else:
                self._rest, self._unsent = self._unsent[send(self._unsent):], b''


class _Lines:
    """Writes each record to a descriptor, as a line."""

    def __init__(self, descriptor: int, pid: int) -> None:
        self._descriptor = descriptor
        self._pid = pid
        self._sender = _Sender()

    def write(self, record: Record, timeout: float) -> None:
        """As Destination says, except that a disk or a terminal may take longer than
        the timeout."""
        self._sender.send(record, self._line, partial(os.write, self._descriptor))

    def close(self) -> None:
        """Leave the descriptor open: stdout and stderr are not ours alone."""

    def _line(self, record: Record) -> bytes:
        when = time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record.created))
        line = (f'{when}.{int(record.created % 1 * 1000):03d} {IDENT}[{self._pid}] {_level(record)[0]}: '
                f'{_text(record)}\n')
        return line.encode('utf-8', 'backslashreplace')


class _File(_Lines):
    """Writes to a file, and reopens it when it has been moved away, so that
    logrotate(8) only has to move it."""

    def __init__(self, path: str, pid: int) -> None:
        super().__init__(-1, pid)
        self._path = path

    def write(self, record: Record, timeout: float) -> None:
        """As Destination says."""
        try:
            is_there = self._descriptor >= 0 and os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            is_there = False
        if not is_there:
            self._reopen()
        super().write(record, timeout)

    def _reopen(self) -> None:
        """Reopen the file under the same descriptor, which is never closed in between:
        see descriptors.py."""
        opened = _open(self._path)
        self._sender = _Sender()
        if self._descriptor < 0:
            self._descriptor = opened
            return
        try:
            os.dup2(opened, self._descriptor, inheritable=False)
        finally:
            os.close(opened)

    def close(self) -> None:
        """As Destination says."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Syslog:
    """Sends each record to the syslog server of this machine: as a datagram or, if the
    socket is a stream, with a NUL at its end as syslog(3) does. Without a server it
    connects again for each record."""

    def __init__(self, path: str, pid: int) -> None:
        self._path = path
        self._pid = pid
        self._socket: Optional[socket.socket] = None
        self._end = b''
        self._sender = _Sender()

    def write(self, record: Record, timeout: float) -> None:
        """As Destination says."""
        try:
            if not self._socket:
                self._socket = self._connected(timeout)
            self._sender.send(record, self._message, partial(self._send, self._socket, timeout))
        except BlockingIOError:
            raise  # the server exists, but does not read
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """As Destination says."""
        if self._socket:
            self._socket.close()
        self._socket, self._sender = None, _Sender()

    def _connected(self, timeout: float) -> socket.socket:
        try:
            connection, self._end = self._connect(socket.SOCK_DGRAM, timeout), b''
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
            connection, self._end = self._connect(socket.SOCK_STREAM, timeout), b'\0'
        return connection

    def _connect(self, kind: socket.SocketKind, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, kind)
        try:
            connection.settimeout(timeout)
            connection.connect(self._path)
            connection.setblocking(False)
        except BaseException:
            connection.close()
            raise
        return connection

    def _send(self, connection: socket.socket, timeout: float, message: bytes) -> int:
        """Send what fits, and wait only if nothing fits: poll(2) calls a stream
        writable only while most of its buffer is free."""
        try:
            return connection.send(message)
        except BlockingIOError:
            poll = select.poll()
            poll.register(connection, select.POLLOUT)
            poll.poll(timeout * 1000)
            return connection.send(message)

    def _message(self, record: Record) -> bytes:
        text = f'<{_DAEMON | _level(record)[1]}>{IDENT}[{self._pid}]: {_text(record)}'
        return text.encode('utf-8', 'backslashreplace') + self._end
