"""Isolates Python's global logging: each .twc file finds it as in a new process, and
its configuration is removed when the file has been loaded.

That configuration is in force again in the processes of the file's functions. In the
daemon it has no effect, and holds no descriptor: handlers reopen their files and
sockets when they next emit a record.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from operator import is_
from typing import Any, Dict, Iterator, List, NamedTuple, Set, Tuple


class _Settings(NamedTuple):
    """The settings of a logger: its attributes, and the contents of its two lists."""

    attributes: Dict[str, Any]
    handlers: Tuple[Any, ...]
    filters: Tuple[Any, ...]


_Loggers = List[Tuple[logging.Logger, _Settings]]


class FileLogging:
    """The logging configuration of one file."""

    def __init__(self) -> None:
        self._loggers: List[Tuple[logging.Logger, _Settings]] = []
        self._manager: Dict[str, Any] = {}
        self._handlers: List[Any] = []

    def take(self, before: _Loggers, manager: Dict[str, Any]) -> None:
        """Move what the file has changed from the loggers to this object, and close
        what its handlers have open."""
        self._handlers = logging._handlerList[:]  # type: ignore[attr-defined]  # what shutdown() closes
        known = {logger for logger, _ in before}
        for logger, settings in [*before, *((logger, _as_new(logger)) for logger in _loggers() if logger not in known)]:
            now = _settings(logger)
            if not _is_same(now, settings):
                self._loggers.append((logger, now))
                _set(logger, settings)
        self._manager = {name: value for name, value in vars(logging.root.manager).items()
                         if value is not manager.get(name) and name != 'loggerDict'}
        met: Set[int] = set()
        for handler in [*(reference() for reference in self._handlers),
                        *(handler for _, settings in self._loggers for handler in settings.handlers)]:
            _release(handler, met)

    def enter(self) -> None:
        """Put the configuration into force, in the process of a function."""
        _set_root()
        logging._handlerList[:] = self._handlers  # type: ignore[attr-defined]
        for logger, settings in self._loggers:
            _set(logger, settings)
        vars(logging.root.manager).update(self._manager)
        _forget_levels()


@contextmanager
def isolated_logging() -> Iterator[FileLogging]:
    """In the block, global logging is as in a new process, except that existing loggers
    stay. Yields the object that has the file's configuration after the block."""
    root = _settings(logging.root)
    manager, names = dict(vars(logging.root.manager)), dict(logging.root.manager.loggerDict)
    handlers = logging._handlerList[:]  # type: ignore[attr-defined]
    is_capturing = logging._warnings_showwarning is not None  # type: ignore[attr-defined]
    logging.captureWarnings(False)
    _set_root()
    del logging._handlerList[:]  # type: ignore[attr-defined]  # dictConfig and shutdown() close all that is in it
    before = [(logger, _settings(logger)) for logger in _loggers()]
    own = FileLogging()
    try:
        yield own
    finally:
        try:
            own.take(before, manager)
        finally:
            vars(logging.root.manager).update(manager)
            for name, logger in names.items():
                if logging.root.manager.loggerDict.get(name) is not logger:
                    logging.root.manager.loggerDict[name] = logger
            _set(logging.root, root)
            logging._handlerList[:] = handlers  # type: ignore[attr-defined]
            logging.captureWarnings(is_capturing)
            _forget_levels()


def _loggers() -> List[logging.Logger]:
    return [logging.root, *(each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger))]


def _is_same(one: _Settings, other: _Settings) -> bool:
    """Compares identities, and so calls no method of a file's objects."""
    return all(len(a) == len(b) and all(map(is_, a, b)) for a, b in zip(one[1:], other[1:])) and len(
        one.attributes) == len(other.attributes) and all(map(is_, one.attributes.values(), other.attributes.values()))


def _as_new(logger: logging.Logger) -> _Settings:
    return _Settings({**vars(logger), 'level': logging.NOTSET, 'propagate': True, 'disabled': False}, (), ())


def _settings(logger: logging.Logger) -> _Settings:
    attributes = vars(logger)
    return _Settings(attributes.copy(), tuple(attributes['handlers']), tuple(attributes['filters']))


def _set(logger: logging.Logger, settings: _Settings) -> None:
    vars(logger).update(settings.attributes, handlers=list(settings.handlers), filters=list(settings.filters))


def _set_root() -> None:
    vars(logging.root).update(level=logging.WARNING, propagate=True, disabled=False, handlers=[], filters=[])


def _forget_levels() -> None:
    """Loggers cache which levels are enabled."""
    logging.root.manager._clear_cache()  # type: ignore[attr-defined]


def _release(handler: Any, met: Set[int]) -> None:
    """Close the file or socket of a handler from the standard library, in a way that
    lets the handler reopen it."""
    if not isinstance(handler, logging.Handler) or id(handler) in met:
        return
    met.add(id(handler))
    handlers: Any = getattr(logging, 'handlers', None)  # not imported, there is none of its handlers
    if isinstance(handler, logging.FileHandler):
        if handler.stream:
            stream, handler.stream, handler.mode = handler.stream, None, 'a'  # as with delay=True
            stream.close()
    elif handlers and isinstance(handler, handlers.MemoryHandler):
        _release(handler.target, met)
    elif handlers and isinstance(handler, handlers.SocketHandler):
        if handler.sock:
            handler.sock.close()
            handler.sock = None
    elif handlers and isinstance(handler, handlers.SysLogHandler):
        handler.socket.close()  # sending fails, and then it connects again
