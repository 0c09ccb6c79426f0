"""Runs a Python function in a fork of the daemon: the child's half.

The fork never returns to the daemon's code. It ends as a Python program does: threads
are joined, atexit functions are called, and files are flushed and closed. No object of
the daemon is finalized in it.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import io
import logging
import os
import signal
import sys
import threading
import traceback
import weakref
from types import ModuleType
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, TextIO, Tuple

from twitcher.config.account import Account
from twitcher.config.action import FileFunction
from twitcher.config.spec import ProcessSettings, WatchSpec
from twitcher.daemonize import UMASK
from twitcher.errors import SpawnError

_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def run_in_child(spec: WatchSpec, environment: Mapping[str, str], stdin: int, output: int) -> NoReturn:
    """Do everything that the fork does, and exit, even after an exception."""
    code = next((code for code in range(1, 256) if code not in spec.failure.ok_codes), 1)  # if it does not get to the function
    try:
        _new_session(stdin, output)
        _enter(spec.process)
        _drop_privileges(spec.account)
        _set_environment(environment)
        streams = _reset_interpreter()
        if isinstance(spec.action, FileFunction):
            context = spec.action.context
            context.enter(*streams)
            with context.importable() as helpers:
                code = _run(spec.action.function)
                _finalize([context.module, *helpers.values()], streams)
        else:
            code = _run(spec.action)
            _finalize([], streams)
    except SpawnError as error:
        os.write(2, f'a Python function cannot be run: {error}\n'.encode('utf-8', 'backslashreplace'))
    except BaseException:
        traceback.print_exc()
        _flush(sys.stderr)
    finally:
        os._exit(code)


def _new_session(stdin: int, output: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    for target, source in enumerate((stdin, output, output)):
        os.dup2(source, target)
    os.close(stdin)
    os.close(output)
    for name in os.listdir('/proc/self/fd'):  # not earlier: it needs a descriptor, and none may have been free
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                continue  # the descriptor that listdir had open


def _enter(settings: ProcessSettings) -> None:
    os.umask(UMASK if settings.umask is None else settings.umask)
    try:
        os.chdir(settings.cwd)
    except OSError as error:
        raise SpawnError(f'its cwd {settings.cwd!r}: {error.strerror}', transient=False) from None


def _set_environment(environment: Mapping[str, str]) -> None:
    """Change only what differs: to set a variable takes microseconds."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _drop_privileges(account: Optional[Account]) -> None:
    if account and not account.is_in_force():
        os.setgroups(account.groups)
        os.setgid(account.gid)
        os.setuid(account.uid)


def _reset_interpreter() -> Tuple[TextIO, TextIO]:
    """Replace the daemon's event loop, log handlers, exit functions and streams.

    Their descriptors are closed in the fork, or refer to something else by now. Returns
    the stdout and stderr of the function.
    """
    gc.freeze()
    asyncio._set_running_loop(None)
    if sys.version_info < (3, 12):  # later versions do this at a fork
        asyncio.set_event_loop_policy(None)
    sys.stdin = open(0, encoding='utf-8', errors='surrogateescape', closefd=False)  # noqa: SIM115  # open to the end
    sys.stdout = _line_buffered(1)
    sys.stderr = _line_buffered(2)
    logging.captureWarnings(False)
    logging.getLogger().handlers.clear()
    logging.getLogger().setLevel(logging.WARNING)
    logging.raiseExceptions = True
    del logging._handlerList[:]  # type: ignore[attr-defined]  # logging.shutdown would close these
    # Drop the daemon's exit functions. From here on the user's function registers its
    # own.
    atexit._clear()
    atexit.register(logging.shutdown)
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    return sys.stdout, sys.stderr


def _line_buffered(descriptor: int) -> TextIO:
    return open(descriptor, 'w', encoding='utf-8', errors='backslashreplace', buffering=1, closefd=False)


def _finalize(modules: List[ModuleType], streams: Tuple[TextIO, TextIO]) -> None:
    """Do what the interpreter does at the end of a program.

    The daemon's objects are left alone, thanks to gc.freeze.
    """
    steps: List[Callable[[], Any]] = [
        threading._shutdown,  # type: ignore[attr-defined]
        atexit._run_exitfuncs,
        lambda: _for_all_files('flush'),  # before cycles are collected: that may close a file's raw file first
        lambda: _forget_globals(modules),
        lambda: _flush(streams[0]),
        lambda: _flush(streams[1]),
        lambda: _for_all_files('close'),
    ]
    for step in steps:
        try:
            step()
        except BaseException:
            traceback.print_exc()


def _forget_globals(modules: List[ModuleType]) -> None:
    """Finalize the objects that the function has put into globals or left in cycles."""
    new = {id(value) for value in gc.get_objects()}
    for module in modules:
        names: Dict[str, Any] = module.__dict__
        for name in [name for name, value in list(names.items()) if id(value) in new]:
            names[name] = None
    gc.collect()


def _for_all_files(method: str) -> None:
    """Call the method of all files, of each one before the file that it writes to."""
    files = [value for value in gc.get_objects() if isinstance(value, io.IOBase)]
    for file in sorted(files, key=_closing_order):
        if not any(file is stream or file in _below(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)):
            try:
                if not file.closed:
                    getattr(file, method)()
            except (OSError, ValueError):
                traceback.print_exc()


def _closing_order(file: io.IOBase) -> int:
    if isinstance(file, io.TextIOWrapper):
        return 0
    if type(file).__module__ != '_io':  # for example a compressed file, which writes to a plain one
        return 1
    return 3 if isinstance(file, io.RawIOBase) else 2


def _below(stream: Any) -> List[Any]:
    """The binary files that a text stream writes to."""
    try:
        return [stream.buffer, getattr(stream.buffer, 'raw', None)]
    except (AttributeError, ValueError):
        return []


def _flush(stream: TextIO) -> None:
    """Flush the stream, unless the function has closed it or its descriptor."""
    try:
        stream.flush()
    except (OSError, ValueError):
        return


def _run(action: Any) -> int:
    """Call the function. Returns the exit code: its result, or 1 after a traceback."""
    try:
        result = action()
    except SystemExit as error:
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
            return 1
        return _exit_code(error.code or 0)
    except BaseException as error:
        # Without the first frame, which is this function.
        traceback.print_exception(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
        return 1
    if result is None or result is True:
        return 0
    if result is False:
        return 1
    if not isinstance(result, int):
        print(f'the function returned {result!r}; allowed: an exit code from 0 to 255, True, False or None', file=sys.stderr)
        return 1
    return _exit_code(result)


def _exit_code(number: int) -> int:
    if 0 <= number <= 255:
        return int(number)
    print(f'exit code {number}: 255 is used; allowed: 0 to 255', file=sys.stderr)
    return 255
