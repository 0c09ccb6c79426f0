"""The process of one run: how it is started, and what it finds.

It finds the contents on stdin, one pipe as stdout and stderr, nothing open above 2, no signal blocked or ignored, its own
session and process group, cwd /, umask 022, and the user, groups and environment that it should have. A command is spawned
directly; a Python function runs in a fork, which never returns to the daemon's code. What cannot be honoured is a
SpawnError, never a run as somebody else.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import subprocess
import sys
import traceback
from typing import Any, Dict, NamedTuple, NoReturn, Optional, Protocol, TextIO, Tuple

from twitcher import posix_spawn
from twitcher.account import Account
from twitcher.action import Exec
from twitcher.errors import SpawnError
from twitcher.exec_errors import reason
from twitcher.helpers import importable_by
from twitcher.procfs import is_running, start_time
from twitcher.spec import WatchSpec

UMASK = 0o022
_SHORTAGE = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_TRANSIENT = (*_SHORTAGE, errno.ETXTBSY, errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.ENOTCONN, errno.EINTR)

if not posix_spawn.is_available and sys.version_info[:2] in ((3, 10), (3, 11)):
    # Slower, but without it the GIL may be held until the exec is done: see posix_spawn.
    vars(subprocess)['_USE_VFORK'] = False


class Exit(NamedTuple):
    """How a process ended: with an exit code, or minus the signal that killed it; None if nobody was there to be told."""

    code: Optional[int]


class Child(Protocol):
    """The process of a run."""

    pid: int

    def poll(self) -> Optional[Exit]:
        """Reap it if it has ended; None while it runs."""


def spawn(spec: WatchSpec, environment: Dict[str, str], stdin: int, output: int) -> Child:
    """Start the spec's action; it reads from `stdin` and writes to `output`. Raises SpawnError.

    With a command this returns when it has been executed.
    """
    try:
        if isinstance(spec.action, Exec):
            return _spawn_command(spec.action, spec.account, environment, stdin, output)
        return _Forked(spec, environment, stdin, output)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        if isinstance(spec.action, Exec):
            what = repr(spec.action.command)
            why = reason(error, spec.action.argv[0], environment) if isinstance(error, OSError) else str(error)
        else:
            what, why = 'a Python function', getattr(error, 'strerror', None) or str(error)
        raise spawn_error(f'{what} cannot be run: {why}', error) from error


def spawn_error(message: str, error: BaseException) -> SpawnError:
    """What this error makes of a start. Only a fault of the action is not tried again."""
    if isinstance(error, OSError):
        return SpawnError(message, error.errno in _TRANSIENT, error.errno in _SHORTAGE)
    return SpawnError(message, not isinstance(error, (subprocess.SubprocessError, ValueError)), isinstance(error, MemoryError))


def _spawn_command(action: Exec, account: Optional[Account], environment: Dict[str, str], stdin: int, output: int) -> Child:
    if not account and posix_spawn.is_available:
        os.umask(UMASK)  # a .twc file may have set the daemon's
        return _Process(posix_spawn.posix_spawn(action.argv, environment, stdin, output))
    who: Dict[str, Any] = {}
    if account:  # not otherwise: it costs a fork instead of a vfork
        who = {'user': account.uid, 'group': account.gid, 'extra_groups': account.groups}
    return _Spawned(subprocess.Popen(action.argv, stdin=stdin, stdout=output, stderr=output, env=environment, cwd='/',
                                     umask=UMASK, start_new_session=True, close_fds=True, **who))


class _Process:
    """A child of ours that nobody else waits for."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> Optional[Exit]:
        """As Child says."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # a .twc file has had SIGCHLD ignored, and the kernel reaps
            return Exit(None)
        return Exit(os.waitstatus_to_exitcode(status)) if pid else None


class _Spawned:
    """A command that subprocess has started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process

    def poll(self) -> Optional[Exit]:
        """As Child says."""
        code = self._process.poll()
        return None if code is None else Exit(code)


class Reattached:
    """The process of a run that an earlier daemon has started: not our child, so that its exit code cannot be known.

    `started` is its start time in clock ticks; None accepts whatever process has this pid now.
    """

    def __init__(self, pid: int, started: Optional[int]) -> None:
        self.pid = pid
        self._started = start_time(pid) if started is None else started

    def poll(self) -> Optional[Exit]:
        """As Child says."""
        return None if self._started is not None and is_running(self.pid, self._started) else Exit(None)


class _Forked(_Process):
    """A fork of the daemon that runs a Python function."""

    def __init__(self, spec: WatchSpec, environment: Dict[str, str], stdin: int, output: int) -> None:
        # A signal that the child got before it has reset its handlers would be taken for one of the daemon's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _be_the_child(spec, environment, stdin, output)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        super().__init__(pid)


def _be_the_child(spec: WatchSpec, environment: Dict[str, str], stdin: int, output: int) -> NoReturn:
    """The fork's whole life. Whatever happens in it ends here."""
    code = 1
    try:
        _become_a_process_of_its_own(stdin, output)
        _become(spec.account)
        os.environ.clear()
        os.environ.update(environment)
        streams = _forget_the_daemon()
        with importable_by(spec.action):
            code = _run(spec.action)
        for stream in streams:
            _flush(stream)
    except BaseException:
        traceback.print_exc()
        _flush(sys.stderr)
    finally:
        os._exit(code)


def _become_a_process_of_its_own(stdin: int, output: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    for target, source in enumerate((stdin, output, output)):
        os.dup2(source, target)
    os.close(stdin)
    os.close(output)
    for name in os.listdir('/proc/self/fd'):  # which takes a descriptor itself, and there may have been no other left
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                continue  # the one that listed them
    os.chdir('/')
    os.umask(UMASK)


def _become(account: Optional[Account]) -> None:
    if account:
        os.setgroups(account.groups)
        os.setgid(account.gid)
        os.setuid(account.uid)


def _forget_the_daemon() -> Tuple[TextIO, TextIO]:
    """Leave the user's function nothing of the daemon that would write to a closed descriptor, or one opened since.

    Returns its stdout and stderr.
    """
    gc.freeze()
    asyncio._set_running_loop(None)
    if sys.version_info < (3, 12):  # from then on a fork does it
        asyncio.set_event_loop_policy(None)
    sys.stdin = open(0, encoding='utf-8', errors='surrogateescape', closefd=False)  # noqa: SIM115  # open to the end
    sys.stdout = _line_buffered(1)
    sys.stderr = _line_buffered(2)
    logging.captureWarnings(False)
    logging.getLogger().handlers.clear()
    logging.getLogger().setLevel(logging.WARNING)
    logging.raiseExceptions = True
    return sys.stdout, sys.stderr


def _line_buffered(descriptor: int) -> TextIO:
    return open(descriptor, 'w', encoding='utf-8', errors='backslashreplace', buffering=1, closefd=False)


def _flush(stream: TextIO) -> None:
    """Write what is left. The function may have closed it, or the descriptor below it: then that is what it wanted."""
    try:
        stream.flush()
    except (OSError, ValueError):
        return


def _run(action: Any) -> int:
    """The exit code of a function: what it returns, or 1 after its traceback."""
    try:
        result = action()
    except SystemExit as error:
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
            return 1
        result = error.code
    except BaseException as error:
        # The first frame is this one; the rest is the user's.
        traceback.print_exception(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
        return 1
    if result is None:
        return 0
    if not isinstance(result, int):
        print(f'the function returned {result!r}; allowed: an exit code from 0 to 255, or None', file=sys.stderr)
        return 1
    return result if 0 <= result <= 255 else 255
