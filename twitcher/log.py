"""Where the log goes, for the daemon and for the process that logs what actions print.

A message is one record of one line unless it carries a traceback; what cannot be encoded or would steer a terminal is
escaped. Records are delivered by a thread, so that a syslog server or a disk that is stuck holds up nobody: an outage of up
to GIVE_UP loses nothing that fits the queue, and what is lost is counted and told afterwards.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import re
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Dict, Optional

SYSLOG_SOCKET = '/dev/log'
IDENT = 'twitcher'

LONGEST_RECORD = 8000
"""Characters of a record; rsyslog takes 8 KiB by default, and a datagram has its limit."""
GIVE_UP = 60.0
"""Seconds since the log has last taken a record, after which further ones are dropped until it does again."""
MOST_WAITING = 10_000
"""Records that wait to be delivered before further ones are dropped."""
MOST_READ = 500
"""Records that wait to be delivered where whoever makes them can wait as well: a megabyte of output."""
_RETRY = 0.1
_FAREWELL = 0.3

_CONTROL = re.compile(r'[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


@dataclass(frozen=True)
class LogTarget:
    """One destination: `kind` is syslog, file, stdout or stderr; `path` is the socket or the file."""

    kind: str
    path: str = ''

    def as_dict(self) -> Dict[str, Any]:
        """For another process: LogTarget(**target.as_dict()) is the same again."""
        return asdict(self)


def open_log(target: LogTarget, pid: int) -> logging.Handler:
    """A handler for the target whose records say twitcher[pid], and whose emit raises OSError when one cannot be delivered.

    Raises OSError when a file cannot be opened. It is opened again when it has been moved away, so that logrotate(8) needs
    to do nothing else.
    """
    handler: logging.Handler
    if target.kind == 'syslog':
        handler = _SyslogHandler(target.path, logging.handlers.SysLogHandler.LOG_DAEMON)
        handler.setFormatter(_OneLine(f'{IDENT}[{pid}]: %(message)s'))
        return handler
    handler = _FileHandler(target.path) if target.kind == 'file' else _LineHandler(1 if target.kind == 'stdout' else 2)
    handler.setFormatter(_OneLine(f'%(asctime)s {IDENT}[{pid}] %(levelname)s: %(message)s'))
    return handler


def start_logging(target: LogTarget, pid: int, may_wait: bool = False) -> None:
    """Send all records of this process to the target, and nowhere else. Raises OSError.

    With `may_wait` a record that finds the queue full waits; without it is dropped.
    """
    handler = _Queue(open_log(target, pid), may_wait)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    logging.raiseExceptions = False
    logging.captureWarnings(True)


def set_levels(verbose: bool, debug: bool) -> None:
    """INFO; with `verbose` all of Twitcher's own DEBUG records, with `debug` also those of the libraries."""
    logging.getLogger().setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger('twitcher').setLevel(logging.DEBUG if verbose or debug else logging.INFO)
    logging.getLogger('twitcher.kazoo').setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger('pyinotify').setLevel(logging.NOTSET)


def escaped(text: str) -> str:
    """The text in one line, with every character that would steer a terminal as a backslash sequence."""
    return _CONTROL.sub(lambda match: match[0].encode('unicode_escape').decode(), text.rstrip('\n').replace('\n', ' | '))


def report_to_stderr(program: str, message: str) -> None:
    """One line for whoever has started us."""
    print(f'{program}: {escaped(message)}', file=sys.stderr, flush=True)


class _OneLine(logging.Formatter):
    """Escapes the message, which may quote anything, but leaves the traceback after it its lines."""

    default_msec_format = '%s.%03d'

    def formatMessage(self, record: logging.LogRecord) -> str:
        """As logging.Formatter says."""
        record.message = escaped(record.message[:LONGEST_RECORD])
        return super().formatMessage(record)


class _SyslogHandler(logging.handlers.SysLogHandler):
    """Connects again for each record until syslog is there."""

    append_nul = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Let the caller know, who has called us in the midst of an exception."""
        raise sys.exc_info()[1] or OSError


class _LineHandler(logging.Handler):
    """Writes each record to a descriptor, as a line: whole, also if it takes several attempts."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._record: Optional[logging.LogRecord] = None
        self._rest = b''

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or the rest of one that was written in part. Raises OSError."""
        if record is not self._record:
            self._record, self._rest = record, self.format(record).encode('utf-8', 'backslashreplace') + b'\n'
        while self._rest:
            self._rest = self._rest[os.write(self._descriptor, self._rest):]


class _FileHandler(_LineHandler):
    """Writes to a file, which logrotate(8) may move away."""

    def __init__(self, path: str) -> None:
        self._path = path
        super().__init__(self._open())

    def emit(self, record: logging.LogRecord) -> None:
        """As the base says."""
        try:
            is_there = os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            is_there = False
        if not is_there:
            moved, self._descriptor = self._descriptor, self._open()
            os.close(moved)
        super().emit(record)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        super().close()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY, 0o640)


class _Queue(logging.Handler):
    """Takes records at once; its thread delivers them, as long as it takes."""

    def __init__(self, target: logging.Handler, may_wait: bool) -> None:
        super().__init__()
        self._target = target
        self._may_wait = may_wait
        self._queue: queue.Queue[Optional[logging.LogRecord]] = queue.Queue(MOST_READ if may_wait else MOST_WAITING)
        self._lost = 0
        self._delivered = time.monotonic()
        self._thread = threading.Thread(target=self._deliver_all, name='log', daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take the record. Formats nothing: that is done by the thread."""
        try:
            record.msg, record.args = record.getMessage(), ()
            self._queue.put(record, block=self._may_wait)
        except queue.Full:
            self._lost += 1
        except Exception:  # the message does not fit its arguments
            self.handleError(record)

    def close(self) -> None:
        """Deliver what is there, if that can be done at once (with `may_wait`: if that can be done at all)."""
        try:
            self._queue.put(None, block=self._may_wait)
            self._thread.join(None if self._may_wait else _FAREWELL)
        except queue.Full:
            self._lost += 1
        super().close()

    def _deliver_all(self) -> None:
        for record in iter(self._queue.get, None):
            if self._deliver(record) and self._lost:
                lost, self._lost = self._lost, 0
                self._deliver(logging.makeLogRecord({
                    'name': __name__, 'levelno': logging.ERROR, 'levelname': 'ERROR',
                    'msg': f'{lost} records were lost: the log did not take them'}))

    def _deliver(self, record: logging.LogRecord) -> bool:
        """Deliver one record, or drop and count it when the log has taken none for too long."""
        while True:
            try:
                self._target.emit(record)
                self._delivered = time.monotonic()
                return True
            except Exception:  # whatever it is, there is nobody left to tell now
                if time.monotonic() - self._delivered > GIVE_UP:
                    self._lost += 1
                    return False
                time.sleep(_RETRY)
