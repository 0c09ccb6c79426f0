"""The log of the daemon, and of the process that logs what actions print.

Twitcher's own loggers come from `get_logger`. They share nothing with the module `logging`, which any .twc file or library
may reconfigure, shut down or patch: none of that reaches a record of ours. What others log there comes into our log too,
through one handler on its root logger, as long as they leave it there.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Callable, Dict, List, Optional

from twitcher.log_queue import LogQueue
from twitcher.log_target import CRITICAL, DEBUG, ERROR, INFO, WARNING, LogTarget, Record, escaped, open_target

MAX_QUEUED = 10_000
"""Records that wait to be written before further ones are dropped."""
FLUSH_TIMEOUT = 0.3
"""Seconds that the end of the process waits for what is queued."""


class Logger:
    """As much of logging.Logger as we and kazoo use. `filter` may change a record, or drop it by returning False.

    `on_delivered`, an argument by keyword, is called when the record has been written or dropped, in another thread.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.filter: Optional[Callable[[Record], bool]] = None
        self._level = 0

    def setLevel(self, level: int) -> None:
        """Log nothing below this level; 0 for what `set_levels` says."""
        self._level = level

    def isEnabledFor(self, level: int) -> bool:
        """Whether a record of this level is logged."""
        return level >= (self._level or _root.level)

    def log(self, level: int, msg: object, *args: Any, exc_info: Any = None,
            on_delivered: Optional[Callable[[], None]] = None, **_: Any) -> None:
        """Log `msg % args` and, if asked, the traceback of the exception that is being handled."""
        if not self.isEnabledFor(level):
            return
        if exc_info:
            if isinstance(exc_info, BaseException):
                exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
            elif not isinstance(exc_info, tuple):
                exc_info = sys.exc_info()
        record = Record(self.name, level, msg, args, exc_info, on_delivered=on_delivered)
        if self.filter is None or self.filter(record):
            record.msg, record.args = record.getMessage(), ()  # now: the arguments may change
            _root.handle(record)

    def debug(self, msg: object, *args: Any, **options: Any) -> None:
        """Details, for whoever looks for a fault."""
        self.log(DEBUG, msg, *args, **options)

    def info(self, msg: object, *args: Any, **options: Any) -> None:
        """What an operator wants of a healthy day."""
        self.log(INFO, msg, *args, **options)

    def warning(self, msg: object, *args: Any, **options: Any) -> None:
        """What may need an operator."""
        self.log(WARNING, msg, *args, **options)

    def error(self, msg: object, *args: Any, **options: Any) -> None:
        """What does need one."""
        self.log(ERROR, msg, *args, **options)

    def exception(self, msg: object, *args: Any, **options: Any) -> None:
        """An error, with the traceback of the exception that is being handled."""
        self.log(ERROR, msg, *args, **{'exc_info': True, **options})

    def critical(self, msg: object, *args: Any, **options: Any) -> None:
        """The end."""
        self.log(CRITICAL, msg, *args, **options)


class _Root:
    """Where all records of the process meet."""

    def __init__(self) -> None:
        self.level = WARNING
        self.loggers: Dict[str, Logger] = {}
        self.handlers: List[Callable[[Record], None]] = []
        self.queue: Optional[LogQueue] = None

    def handle(self, record: Record) -> None:
        """Pass the record on to what writes it."""
        for handler in self.handlers:
            handler(record)


_root = _Root()


class _Bridge(logging.Handler):
    """Brings what is logged by `logging` into our log."""

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
    """Call the handler with every record of ours: for tests."""
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
    """Write what is queued, if that can be done at once. The process is about to end."""
    if _root.queue:
        _root.queue.close(FLUSH_TIMEOUT)


def set_levels(verbose: bool, debug: bool) -> None:
    """INFO; with `verbose` all of Twitcher's own DEBUG records, with `debug` also those of the libraries."""
    _root.level = DEBUG if verbose or debug else INFO
    get_logger('twitcher.kazoo').setLevel(DEBUG if debug else INFO)
    logging.getLogger().setLevel(logging.DEBUG if debug else logging.INFO)


def take_over_library(name: str) -> None:
    """Log what the library logs, at our level and nowhere else, although it has set up a logger of its own."""
    logging.getLogger(name).handlers.clear()
    logging.getLogger(name).setLevel(logging.NOTSET)


def report_to_stderr(program: str, message: str) -> None:
    """One line for whoever has started us."""
    print(f'{program}: {escaped(message)}', file=sys.stderr, flush=True)
