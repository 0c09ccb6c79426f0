"""The daemon's log.

Twitcher's own loggers come from `get_logger`. They are independent of the module
`logging`, which any .twc file or library may reconfigure, shut down or patch. Records
that these log there reach our log through a handler on its root logger, unless they
remove it.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Callable, Dict, List, Optional

from twitcher.log_queue import LogQueue
from twitcher.log_target import CRITICAL, DEBUG, ERROR, INFO, WARNING, LogTarget, Record, escaped, open_target

MAX_QUEUED = 10_000
"""Records in the queue before further ones are dropped."""
FLUSH_TIMEOUT = 0.3
"""Seconds that the end of the process waits for the queue."""


class Logger:
    """The part of logging.Logger that we and kazoo use. `filter` may change a record,
    or drop it by returning False.

    The keyword argument `on_delivered` is called in another thread when the record has
    been written or dropped.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.filter: Optional[Callable[[Record], bool]] = None
        self._level = 0

    def setLevel(self, level: int) -> None:
        """Log nothing below this level; 0 stands for the level of `set_levels`."""
        self._level = level

    def isEnabledFor(self, level: int) -> bool:
        """Whether a record of this level is logged."""
        return level >= (self._level or _root.level)

    def log(self, level: int, msg: object, *args: Any, exc_info: Any = None,
            on_delivered: Optional[Callable[[], None]] = None, **_: Any) -> None:
        """Log `msg % args` and, with `exc_info`, the traceback of an exception."""
        if not self.isEnabledFor(level):
            return
        if exc_info:
            if isinstance(exc_info, BaseException):
                exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
            elif not isinstance(exc_info, tuple):
                exc_info = sys.exc_info()
        record = Record(self.name, level, msg, args, exc_info, on_delivered=on_delivered)
        if self.filter is None or self.filter(record):
            record.msg, record.args = record.getMessage(), ()  # now, because the arguments may change
            _root.handle(record)

    def debug(self, msg: object, *args: Any, **options: Any) -> None:
        """Log a detail that helps to find a fault."""
        self.log(DEBUG, msg, *args, **options)

    def info(self, msg: object, *args: Any, **options: Any) -> None:
        """Log what an operator wants to see on a healthy day."""
        self.log(INFO, msg, *args, **options)

    def warning(self, msg: object, *args: Any, **options: Any) -> None:
        """Log what may need an operator."""
        self.log(WARNING, msg, *args, **options)

    def error(self, msg: object, *args: Any, **options: Any) -> None:
        """Log what needs an operator."""
        self.log(ERROR, msg, *args, **options)

    def exception(self, msg: object, *args: Any, **options: Any) -> None:
        """Log an error, with the traceback of the exception that is being handled."""
        self.log(ERROR, msg, *args, **{'exc_info': True, **options})

    def critical(self, msg: object, *args: Any, **options: Any) -> None:
        """Log the reason why the process ends."""
        self.log(CRITICAL, msg, *args, **options)


class _Root:
    """All records of the process pass through it."""

    def __init__(self) -> None:
        self.level = WARNING
        self.loggers: Dict[str, Logger] = {}
        self.handlers: List[Callable[[Record], None]] = []
        self.queue: Optional[LogQueue] = None

    def handle(self, record: Record) -> None:
        """Pass the record on to the handlers."""
        for handler in self.handlers:
            handler(record)


_root = _Root()


class _Bridge(logging.Handler):
    """Brings the records of `logging` into our log."""

    def emit(self, record: logging.LogRecord) -> None:
        """As logging.Handler says."""
        try:
            _root.handle(Record(record.name, record.levelno, record.getMessage(), (), record.exc_info, record.created))
        except Exception:  # the message does not fit its arguments
            self.handleError(record)


def get_logger(name: str) -> Logger:
    """The logger with this name; always the same."""
    return _root.loggers.setdefault(name, Logger(name))


def add_handler(handler: Callable[[Record], None]) -> None:
    """Call the handler with every record. For tests."""
    _root.handlers.append(handler)


def start_logging(target: LogTarget, pid: int) -> None:
    """Send all records of this process to the target, and nowhere else."""
    _root.queue = log_queue = LogQueue(open_target(target, pid), MAX_QUEUED)
    _root.handlers[:] = [lambda record: log_queue.put((record,))]
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(_Bridge())
    logging.captureWarnings(True)


def stop_logging() -> None:
    """Write the queued records, for at most FLUSH_TIMEOUT, before the process ends."""
    if _root.queue:
        _root.queue.close(FLUSH_TIMEOUT)


def set_levels(verbose: bool, debug: bool) -> None:
    """Log INFO and above; with `verbose` also Twitcher's own DEBUG records, and with
    `debug` those of the libraries as well."""
    _root.level = DEBUG if verbose or debug else INFO
    get_logger('twitcher.kazoo').setLevel(DEBUG if debug else INFO)
    logging.getLogger().setLevel(logging.DEBUG if debug else logging.INFO)


def take_over_library(name: str) -> None:
    """Send the records of a library that has set up its own logger to our log only, at
    our level."""
    logging.getLogger(name).handlers.clear()
    logging.getLogger(name).setLevel(logging.NOTSET)


def report_to_stderr(program: str, message: str) -> None:
    """Print one line for the user or program that started us."""
    print(f'{program}: {escaped(message)}', file=sys.stderr, flush=True)
