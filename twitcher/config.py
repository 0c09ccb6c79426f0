"""The configuration language: the text of a .twc file becomes a list of WatchSpecs, or one ConfigError.

A file is plain Python and may do anything while it is executed, with two exceptions: it cannot end the daemon by raising,
and it is interrupted when it has not returned after TIME_LIMIT.
"""

from __future__ import annotations

import signal
import sys
import traceback
from contextlib import contextmanager
from types import FrameType
from typing import Any, Dict, Iterator, List, Optional

from twitcher.action import Exec
from twitcher.errors import ConfigError, SpecError
from twitcher.spec import LANGUAGE, WatchSpec, make_spec

TIME_LIMIT = 10.0
"""Seconds that a file may take to execute. Nothing else happens meanwhile: files are expected to take milliseconds."""

# A file may catch the interruption (`except BaseException`), so it comes again until it is felt.
_AGAIN = 0.05


class _TakesTooLong(BaseException):
    """Raised in the midst of a file; no Exception, so that `except Exception` does not stop it."""


def load_config(path: str, source: bytes, time_limit: float = TIME_LIMIT) -> List[WatchSpec]:
    """Execute the source of the file at `path` and return what it registered, in order.

    Must be called in the main thread, where signals are delivered. Raises ConfigError, which names the file, the line where
    it is known, and the reason.
    """
    collector = _Collector()
    namespace: Dict[str, Any] = {'__name__': '__twitcher__', '__file__': path, 'Exec': Exec,
                                 'RegisterWatch': collector.register, **dict(LANGUAGE)}
    try:
        with _limited(path, time_limit):
            exec(compile(source, path, 'exec', dont_inherit=True), namespace)
    except BaseException as error:  # SystemExit and KeyboardInterrupt are a file's mistakes, too
        raise ConfigError(_describe(path, error, time_limit)) from None
    finally:
        collector.is_open = False
    return collector.specs


class _Collector:
    """What RegisterWatch is, for one file."""

    def __init__(self) -> None:
        self.specs: List[WatchSpec] = []
        self.is_open = True

    def register(self, *args: Any, **kwargs: Any) -> None:
        if not self.is_open:
            raise SpecError('RegisterWatch was called by an action; allowed: only while the file is being loaded')
        try:
            self.specs.append(make_spec(*args, **kwargs))
        except TypeError as error:  # names the unknown keyword, or the missing or surplus argument
            raise SpecError(str(error).replace('make_spec()', 'RegisterWatch()')) from None


@contextmanager
def _limited(path: str, seconds: float) -> Iterator[None]:
    """Raise _TakesTooLong in what is executed inside, `seconds` from now, until nothing catches it any more.

    A `while True:` around a `try:` catches every exception that comes while the body runs. Tracing raises it on the next
    line instead, which is one of the handler's own.
    """
    def interrupt(signum: int, frame: Optional[FrameType]) -> None:
        inside = False
        while frame:
            inside = inside or frame.f_code.co_filename == path
            frame.f_trace = raise_on_line
            frame = frame.f_back
        if inside:  # else the file has just returned, and this would hit the daemon itself
            sys.settrace(raise_on_line)
            raise _TakesTooLong

    def raise_on_line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == 'line' and frame.f_code.co_filename == path:
            raise _TakesTooLong
        return raise_on_line

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.settrace(None)


def _describe(path: str, error: BaseException, time_limit: float) -> str:
    line = _line(path, error)
    where = f'{path}:{line}' if line else path
    if isinstance(error, _TakesTooLong):
        return f'{where}: still executing after {time_limit:g} s; a .twc file has to return'
    if isinstance(error, SpecError):
        return f'{where}: {error}'
    if isinstance(error, SyntaxError):
        return f'{where}: {type(error).__name__}: {error.msg}'
    return f'{where}: {_one_line(error)}'


def _one_line(error: BaseException) -> str:
    try:
        text = ' '.join(str(error).split())
    except Exception:  # the file's own exception class may fail to print itself
        text = ''
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def _line(path: str, error: BaseException) -> Optional[int]:
    """The line of the file that was being executed when the error came, or that could not be parsed."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    lines = [frame.f_lineno if lineno is None else lineno for frame, lineno in traceback.walk_tb(error.__traceback__)
             if frame.f_code.co_filename == path]
    return lines[-1] if lines else None

