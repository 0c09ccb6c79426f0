"""The configuration language: executes the text of a .twc file, and returns its
WatchSpecs or raises one ConfigError.

A file is plain Python and may do anything, except end the daemon or change what the
daemon or other files find: see `isolation`, `isolation_logging` and `captured_output`.
It is interrupted if it has not returned after TIME_LIMIT.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from contextlib import ExitStack
from types import ModuleType
from typing import Any, ContextManager, List, Mapping, Optional, TextIO

from twitcher.config.action import Exec, FileFunction, being_loaded
from twitcher.config.arguments import LANGUAGE, make_spec
from twitcher.config.captured_output import print_to, printing_collected
from twitcher.config.deadline import STOPPING, DeadlineError, interrupted_after
from twitcher.config.helper_modules import CONTEXT, HelperCode, Helpers
from twitcher.config.isolation import ISOLATION, Effects
from twitcher.config.isolation_check import can_reach_interpreter
from twitcher.config.isolation_logging import FileLogging, isolated_logging
from twitcher.config.spec import WatchSpec
from twitcher.errors import ConfigError, SpecError, StopError
from twitcher.log import get_logger
from twitcher.log_target import DEBUG, INFO, WARNING

log = get_logger(__name__)

TIME_LIMIT = 10.0
"""Seconds that a file may take to execute. It blocks the daemon: files are expected to
take milliseconds."""

MODULE = '__twitcher__'
"""The __name__ that a file finds."""
ARGUMENTS = make_spec.__code__.co_varnames[:make_spec.__code__.co_argcount + make_spec.__code__.co_kwonlyargcount]
_POSITIONAL = 5


def load_config(path: str, source: bytes, time_limit: float = TIME_LIMIT, helpers: Optional[Helpers] = None,
                is_retry: bool = False) -> List[WatchSpec]:
    """Execute the source of the file at `path` and return the watches that it
    registers, in order. It may import the `helpers`.

    Logs what the file prints: at DEBUG if `is_retry`, because it was logged before.
    Must be called in the main thread, where signals are delivered. Raises ConfigError,
    which gives the file, the line if it is known, and the reason; and StopError if
    SIGTERM or SIGINT arrives during the execution.
    """
    # A module, because dataclasses look up the module of a class to find its globals.
    context = _FileContext(ModuleType(MODULE), helpers or Helpers(HelperCode(os.path.dirname(path)), path))
    collector = _Collector(context)
    context.module.__dict__.update({'__file__': path, 'Exec': Exec, 'RegisterWatch': collector.register, **dict(LANGUAGE),
                                    CONTEXT: context.helpers})
    signals: List[int] = []
    with printing_collected() as printed:
        try:
            fault = _execute(path, source, time_limit, context, signals)
        except BaseException as error:
            fault = _fault(path, error, time_limit, context.helpers)
        finally:
            collector.is_open = False
    for line in printed.lines():
        log.log(DEBUG if is_retry else INFO, '%s printed: %s', path, line)
    if any(number in STOPPING for number in signals):
        raise StopError(f'{path}: interrupted')
    if context.effects.faults and not fault:
        fault = f'{path}: {"; ".join(context.effects.faults)}'
    if context.effects.threads:
        log.log(DEBUG if is_retry else WARNING,
                '%s has left threads in the daemon, which cannot be ended and run until the daemon stops: %s', path,
                ', '.join(map(str, context.effects.threads)))
    if fault:
        raise ConfigError(' '.join(filter(None, map(str.strip, fault.splitlines()))))
    return collector.specs


def _execute(path: str, source: bytes, time_limit: float, context: _FileContext, signals: List[int]) -> Optional[str]:
    """Execute the file in the globals of its module. Returns its fault, if any. Adds
    the signals that arrive to `signals`."""
    names = context.module.__dict__
    with ExitStack() as stack:
        try:
            # Outermost: its end needs descriptors that the others restore.
            stack.enter_context(interrupted_after(time_limit, path, signals))
            code = compile(source, path, 'exec', dont_inherit=True)
            if can_reach_interpreter(code):
                context.logging = stack.enter_context(isolated_logging())
                stack.enter_context(context.helpers.importable())
                context.effects = stack.enter_context(ISOLATION.isolated(lambda other: other is names))
                sys.modules[MODULE] = context.module
                stack.callback(sys.modules.pop, MODULE, None)
            stack.enter_context(being_loaded())
            exec(code, names)
        except BaseException as error:  # SystemExit and KeyboardInterrupt are errors of the file, too
            return _fault(path, error, time_limit, context.helpers)
    return None


class _FileContext:
    """As action.FileContext says."""

    __slots__ = ('module', 'helpers', 'effects', 'logging')

    def __init__(self, module: ModuleType, helpers: Helpers) -> None:
        self.module = module
        self.helpers = helpers
        self.effects = Effects()
        self.logging = FileLogging()

    def enter(self, stdout: TextIO, stderr: TextIO) -> None:
        """As action.FileContext says."""
        print_to(stdout, stderr)
        sys.modules[MODULE] = self.module
        self.logging.enter()
        ISOLATION.enter()
        self.effects.enter()

    def importable(self) -> ContextManager[Mapping[str, ModuleType]]:
        """As action.FileContext says."""
        return self.helpers.importable()


class _Collector:
    """RegisterWatch of one file."""

    def __init__(self, context: _FileContext) -> None:
        self._context = context
        self.specs: List[WatchSpec] = []
        self.is_open = True

    def register(self, *args: Any, **kwargs: Any) -> None:
        """Add one watch. Raises SpecError."""
        if not self.is_open:
            raise SpecError('RegisterWatch was called by an action; allowed: only while the file is being loaded')
        for name in kwargs:
            if name not in ARGUMENTS:
                raise SpecError(f'{name}={kwargs[name]!r}: RegisterWatch has no such argument; allowed: {", ".join(ARGUMENTS)}')
        try:
            spec = make_spec(*args, **kwargs)
            if not isinstance(spec.action, Exec):
                spec = spec._replace(action=FileFunction(spec.action, self._context))
            self.specs.append(spec)
        except TypeError:
            try:
                inspect.signature(make_spec).bind(*args, **kwargs)
            except TypeError as error:
                raise SpecError(f'RegisterWatch: {error} ({len(args)} were given by position); allowed: '
                                f'{", ".join(ARGUMENTS)}, of which the first {_POSITIONAL} may be given by position') from None
            raise


def _fault(path: str, error: BaseException, time_limit: float, helpers: Helpers) -> str:
    where = _where(path, error)
    try:
        return f'{where}: {_reason(error, time_limit)}{helpers.where(error)}'
    except BaseException:  # in case str(error) itself raises
        return f'{where}: {type(error).__name__}'


def _reason(error: BaseException, time_limit: float) -> str:
    if isinstance(error, DeadlineError):
        return f'still executing after {time_limit:g} s; a .twc file has to return'
    if isinstance(error, SpecError):
        return str(error)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return type(error).__name__ + (f': {text}' if text else '')


def _where(path: str, error: BaseException) -> str:
    """The file, with the line that was being executed when the error was raised, or
    that cannot be parsed."""
    if isinstance(error, SyntaxError) and error.filename == path:
        line = error.lineno
    else:
        lines = [number or frame.f_lineno for frame, number in traceback.walk_tb(error.__traceback__)
                 if frame.f_code.co_filename == path]
        line = lines[-1] if lines else None
    return f'{path}:{line}' if line else path
