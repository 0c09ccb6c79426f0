"""Where the log goes, for the daemon and for the process that logs what actions print.

A message is one record of one line unless it carries a traceback; what cannot be encoded or would steer a terminal is
escaped. A handler that fails loses its record and says nothing: there is nobody left to tell.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import sys
from dataclasses import asdict, dataclass
from typing import Any, Dict, TextIO

SYSLOG_SOCKET = '/dev/log'
IDENT = 'twitcher'

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
    """A handler for the target whose records say twitcher[pid]. Raises OSError when the target cannot be opened.

    A file is opened again when it has been moved away, so that logrotate(8) needs to do nothing else.
    """
    handler: logging.Handler
    if target.kind == 'syslog':
        if not os.path.exists(target.path):
            raise FileNotFoundError(2, 'No such file or directory', target.path)
        syslog = logging.handlers.SysLogHandler(target.path, logging.handlers.SysLogHandler.LOG_DAEMON)
        syslog.append_nul = False
        handler = syslog
        handler.setFormatter(_OneLine(f'{IDENT}[{pid}]: %(message)s'))
        return handler
    if target.kind == 'file':
        handler = logging.handlers.WatchedFileHandler(target.path, encoding='utf-8', errors='backslashreplace')
    else:
        handler = logging.StreamHandler(_standard_stream(1 if target.kind == 'stdout' else 2))
    handler.setFormatter(_OneLine(f'%(asctime)s {IDENT}[{pid}] %(levelname)s: %(message)s'))
    return handler


def _standard_stream(descriptor: int) -> TextIO:
    return open(descriptor, 'w', encoding='utf-8', errors='backslashreplace', closefd=False)


def start_logging(target: LogTarget, pid: int) -> None:
    """Send all records of this process to the target, and nowhere else. Raises OSError."""
    handler = open_log(target, pid)
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
    """The text with every character that would end the line or steer a terminal as a backslash sequence."""
    return _CONTROL.sub(lambda match: match[0].encode('unicode_escape').decode(), text)


class _OneLine(logging.Formatter):
    """Escapes the message, which may quote anything, but leaves the traceback after it its lines."""

    default_msec_format = '%s.%03d'

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = escaped(record.message.rstrip('\n').replace('\n', ' | '))
        return super().formatMessage(record)


def report_to_stderr(message: str) -> None:
    """One line for whoever has started us."""
    print(f'{IDENT}: {escaped(message)}', file=sys.stderr, flush=True)
