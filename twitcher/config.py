"""The configuration language: the text of a .twc file becomes a list of WatchSpecs, or one ConfigError.

A file is plain Python and may do anything while it is executed, with two exceptions: it cannot end the daemon by raising,
and it is interrupted when it has not returned after TIME_LIMIT.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal.getsignal makes an enum of each: half the time that a load takes
import inspect
import os
import signal
import sys
import traceback
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any, Iterator, List, Optional

from twitcher.action import Exec, being_loaded
from twitcher.errors import ConfigError, SpecError, StopError
from twitcher.helpers import CONTEXT, HelperCode, Helpers
from twitcher.spec import LANGUAGE, WatchSpec, make_spec

TIME_LIMIT = 10.0
"""Seconds that a file may take to execute. Nothing else happens meanwhile: files are expected to take milliseconds."""

MODULE = '__twitcher__'
"""What a file finds as its __name__."""
ARGUMENTS = make_spec.__code__.co_varnames[:make_spec.__code__.co_argcount + make_spec.__code__.co_kwonlyargcount]
_POSITIONAL = 5
_SIGNALS = tuple(map(int, signal.valid_signals()))

# A file may catch the interruption (`except BaseException`), so it comes again until it is felt.
_AGAIN = 0.05
_AT_ONCE = 1e-5


class _TakesTooLong(BaseException):
    """Raised in the midst of a file; no Exception, so that `except Exception` does not stop it."""


def load_config(path: str, source: bytes, time_limit: float = TIME_LIMIT, helpers: Optional[Helpers] = None) -> List[WatchSpec]:
    """Execute the source of the file at `path` and return what it registered, in order. It may import the `helpers`.

    Must be called in the main thread, where signals are delivered. Raises ConfigError, which names the file, the line where
    it is known, and the reason; StopError if SIGTERM or SIGINT came meanwhile.
    """
    collector = _Collector()
    helpers = helpers or Helpers(HelperCode(os.path.dirname(path)), path)
    # A module, so that what looks up the module of a class (dataclasses do) finds the file's globals.
    module = ModuleType(MODULE)
    module.__dict__.update({'__file__': path, 'Exec': Exec, 'RegisterWatch': collector.register, **dict(LANGUAGE),
                            CONTEXT: helpers})
    sys.modules[MODULE] = module
    fault: Optional[str] = None
    signals: List[int] = []
    try:
        with _limited(path, time_limit) as signals, being_loaded(), _unchanged(), helpers.importable():
            try:
                exec(compile(source, path, 'exec', dont_inherit=True), module.__dict__)
            except BaseException as error:  # SystemExit and KeyboardInterrupt are a file's mistakes, too
                fault = f'{_where(path, error)}: {type(error).__name__}'  # should it not even let itself be printed
                fault = f'{_where(path, error)}: {_reason(error, time_limit)}{helpers.where(error)}'
    except BaseException as error:
        fault = fault or f'{_where(path, error)}: {_reason(error, time_limit)}{helpers.where(error)}'
    finally:
        collector.is_open = False
        del sys.modules[MODULE]
    if signals:
        raise StopError(f'{path}: interrupted')
    if fault:
        raise ConfigError(' '.join(filter(None, map(str.strip, fault.splitlines()))))
    return collector.specs


class _Collector:
    """What RegisterWatch is, for one file."""

    def __init__(self) -> None:
        self.specs: List[WatchSpec] = []
        self.is_open = True

    def register(self, *args: Any, **kwargs: Any) -> None:
        """Take down one watch. Raises SpecError."""
        if not self.is_open:
            raise SpecError('RegisterWatch was called by an action; allowed: only while the file is being loaded')
        for name in kwargs:
            if name not in ARGUMENTS:
                raise SpecError(f'{name}={kwargs[name]!r}: RegisterWatch has no such argument; allowed: {", ".join(ARGUMENTS)}')
        try:
            self.specs.append(make_spec(*args, **kwargs))
        except TypeError:
            try:
                inspect.signature(make_spec).bind(*args, **kwargs)
            except TypeError as error:
                raise SpecError(f'RegisterWatch: {error} ({len(args)} were given by position); allowed: '
                                f'{", ".join(ARGUMENTS)}, of which the first {_POSITIONAL} may be given by position') from None
            raise


@contextmanager
def _limited(path: str, seconds: float) -> Iterator[List[int]]:
    """Raise _TakesTooLong in what is executed inside, until nothing catches it any more: `seconds` from now, or when one of
    the signals comes that stop a daemon. Those are put into the list.

    A `while True:` around a `try:` catches every exception that comes while the body runs. Tracing raises it on the next
    line instead, which is one of the handler's own.
    """
    def interrupt(signum: int, frame: Optional[FrameType]) -> None:
        """The handler of the alarm and of the signals."""
        inside = False
        while frame:
            inside = inside or frame.f_code.co_filename == path
            frame.f_trace = raise_on_line
            frame = frame.f_back
        if signum != signal.SIGALRM:
            received.append(signum)
        if inside:  # else the file has just returned, and this would hit the daemon itself
            sys.settrace(raise_on_line)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
            raise _TakesTooLong

    def raise_on_line(frame: FrameType, event: str, argument: Any) -> Any:
        """The trace function, for the time after the first interruption."""
        if event == 'line' and frame.f_code.co_filename == path:
            # Raising ends the tracing. Should this be caught as well, the next alarm is to find the handler still at it.
            signal.setitimer(signal.ITIMER_REAL, _AT_ONCE, _AGAIN)
            raise _TakesTooLong
        return raise_on_line

    received: List[int] = []
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)}
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        yield received
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.settrace(None)


@contextmanager
def _unchanged() -> Iterator[None]:
    """Put back what a file may have changed and the daemon depends on; end a copy of the daemon that it has made."""
    pid, recursion_limit = os.getpid(), sys.getrecursionlimit()
    handlers = {number: _signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        if os.getpid() != pid:
            os._exit(0)
        sys.setrecursionlimit(recursion_limit)
        for number, handler in handlers.items():
            if handler is not None and _signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _reason(error: BaseException, time_limit: float) -> str:
    if isinstance(error, _TakesTooLong):
        return f'still executing after {time_limit:g} s; a .twc file has to return'
    if isinstance(error, SpecError):
        return str(error)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return type(error).__name__ + (f': {text}' if text else '')


def _where(path: str, error: BaseException) -> str:
    """The file, and the line of it that was being executed when the error came, or that could not be parsed."""
    if isinstance(error, SyntaxError) and error.filename == path:
        line = error.lineno
    else:
        lines = [number or frame.f_lineno for frame, number in traceback.walk_tb(error.__traceback__)
                 if frame.f_code.co_filename == path]
        line = lines[-1] if lines else None
    return f'{path}:{line}' if line else path
