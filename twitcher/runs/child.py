"""The process of one run: how it is started, and what it finds.

It finds the contents on stdin, one pipe as stdout and stderr, nothing open above 2, no signal blocked or ignored, its own
session and process group, cwd /, umask 022, and the user, groups and environment that it should have. A command is spawned
directly; a Python function runs in a fork, which never returns to the daemon's code. What cannot be honoured is a
SpawnError, never a run as somebody else.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from typing import Any, Dict, NamedTuple, Optional, Protocol

from twitcher.config.account import Account
from twitcher.config.action import Exec
from twitcher.config.spec import WatchSpec
from twitcher.daemonize import UMASK
from twitcher.errors import SpawnError
from twitcher.runs import posix_spawn
from twitcher.runs.exec_errors import reason
from twitcher.runs.fork import run_in_child
from twitcher.runs.procfs import is_running, start_time

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
    if account and account.is_in_force():
        account = None
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
                run_in_child(spec, environment, stdin, output)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        super().__init__(pid)
