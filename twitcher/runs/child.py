"""Starts the process of a run, and reaps it: the parent's half.

The process has the contents on stdin, one pipe as stdout and stderr, and no other
descriptor; no signal blocked or ignored; a session and process group of its own; and
the user, groups, environment, cwd and umask that the watch asks for. If a command
cannot have any of this, that is a SpawnError; a function's fork exits 1. No action ever
runs as another user. A command is spawned directly; a Python function runs in a fork
(fork.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from typing import Any, Dict, NamedTuple, Optional, Protocol

from twitcher.config.action import Exec
from twitcher.config.spec import WatchSpec
from twitcher.daemonize import UMASK
from twitcher.errors import SpawnError
from twitcher.runs import pidfd, posix_spawn, procfs
from twitcher.runs.environment import Environment
from twitcher.runs.exec_errors import directory_fault, reason
from twitcher.runs.fork import run_in_child
from twitcher.runs.process_group import signal_name

_SHORTAGE = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_TRANSIENT = (*_SHORTAGE, errno.ETXTBSY, errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.ENOTCONN, errno.EINTR)
_SIGNALS = signal.valid_signals()

# Then subprocess has to fork, which is slower: see posix_spawn.py.
_VFORK_HOLDS_GIL = (3, 10) <= sys.version_info < (3, 11, 4)
if _VFORK_HOLDS_GIL and not posix_spawn.is_available:
    vars(subprocess)['_USE_VFORK'] = False


REAP_TIMEOUT = 5.0
"""Seconds that init may take to reap a process; after that its exit code counts as
unknown. Some look for ended processes only every other second."""


class ExitStatus(NamedTuple):
    """The exit code of a process, or minus the signal that killed it. None is unknown:
    we are not its parent, and the kernel does not report it."""

    code: Optional[int]

    def __str__(self) -> str:
        if self.code is None:
            return 'ended (exit code unknown: it was started by an earlier daemon)'
        return f'exited {self.code}' if self.code >= 0 else f'was killed by {signal_name(-self.code)}'


class Child(Protocol):
    """The process of a run."""

    pid: int

    def poll(self) -> Optional[ExitStatus]:
        """Reap the process if it has ended; None as long as it runs."""


def spawn(spec: WatchSpec, environment: Environment, stdin: int, output: int) -> Child:
    """Start the spec's action; `output` becomes its stdout and its stderr.

    For a command this returns when its exec is done. Raises SpawnError.
    """
    try:
        if isinstance(spec.action, Exec):
            return _spawn_command(spec.action, spec, environment, stdin, output)
        return _Forked(spec, environment, stdin, output)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        if isinstance(spec.action, Exec):
            what = repr(spec.action.command)
            why, cwd = str(error), spec.process.cwd
            if isinstance(error, OSError):
                why = directory_fault(cwd) or reason(error, spec.action.argv[0], environment.path, cwd)
        else:
            what, why = 'a Python function', getattr(error, 'strerror', None) or str(error)
        raise spawn_error(f'{what} cannot be run: {why}', error) from error


def spawn_error(message: str, error: BaseException) -> SpawnError:
    """The error as a SpawnError: transient unless the action is at fault."""
    if isinstance(error, OSError):
        return SpawnError(message, error.errno in _TRANSIENT, error.errno in _SHORTAGE)
    return SpawnError(message, not isinstance(error, (subprocess.SubprocessError, ValueError)), isinstance(error, MemoryError))


def _spawn_command(action: Exec, spec: WatchSpec, environment: Environment, stdin: int, output: int) -> Child:
    account, cwd, umask = spec.account, spec.process.cwd, spec.process.umask
    if account and account.is_in_force():
        account = None
    if not account and umask is None and posix_spawn.is_available:
        os.umask(UMASK)  # a .twc file may have set the daemon's
        return _Process(posix_spawn.posix_spawn(action.argv, environment, stdin, output, cwd))
    who: Dict[str, Any] = {}
    if account:  # and only then: with these arguments subprocess forks instead of vforking
        who = {'user': account.uid, 'group': account.gid, 'extra_groups': account.groups}
    elif _VFORK_HOLDS_GIL:
        who = {'preexec_fn': int}  # which does nothing; but for a function subprocess forks, too
    # posix_spawn cannot set a umask, and all threads share the daemon's: subprocess
    # sets it in the child.
    return _Spawned(subprocess.Popen(
        action.argv, stdin=stdin, stdout=output, stderr=output, env=environment.variables(), cwd=cwd,
        umask=UMASK if umask is None else umask, start_new_session=True, close_fds=True, **who))


class _Process:
    """A child of ours that no other code reaps."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> Optional[ExitStatus]:
        """As Child says."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # a .twc file has set SIGCHLD to be ignored: the kernel has reaped it
            return ExitStatus(None)
        return ExitStatus(os.waitstatus_to_exitcode(status)) if pid else None


class _Spawned:
    """A child of ours that subprocess has started, and reaps."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process

    def poll(self) -> Optional[ExitStatus]:
        """As Child says."""
        code = self._process.poll()
        return None if code is None else ExitStatus(code)


class Reattached:
    """The process of a run that an earlier daemon has started.

    It is not our child, so its exit code is known only if the kernel reports it, and if
    the process was running when this object was made. `start_time` is in clock ticks;
    None accepts whatever process has this pid now.
    """

    def __init__(self, pid: int, start_time: Optional[int]) -> None:
        self.pid = pid
        self.start_time = procfs.start_time(pid) if start_time is None else start_time
        self._dead_since: Optional[float] = None
        self._pidfd: Optional[int] = None
        with contextlib.suppress(OSError):  # it has ended, or we are out of descriptors
            self._pidfd = os.pidfd_open(pid)
        if not self._is_running():  # the pidfd may be that of another process
            self._close()

    def poll(self) -> Optional[ExitStatus]:
        """As Child says. Also returns None until init has reaped the process, but for
        no longer than REAP_TIMEOUT."""
        if self._is_running():
            return None
        code = None
        if self._pidfd is not None:
            now = time.monotonic()
            self._dead_since = self._dead_since or now
            with contextlib.suppress(OSError):  # the kernel does not report it
                code = pidfd.exit_code(self._pidfd)
                if code is None and now - self._dead_since < REAP_TIMEOUT:
                    return None
            self._close()
        return ExitStatus(code)

    def _is_running(self) -> bool:
        return self.start_time is not None and procfs.is_running(self.pid, self.start_time)

    def _close(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


class _Forked(_Process):
    """A fork of the daemon that runs a Python function."""

    def __init__(self, spec: WatchSpec, environment: Environment, stdin: int, output: int) -> None:
        # If the child got a signal before it resets its handlers, its handler would
        # write to the daemon's wakeup descriptor, and the daemon would believe that it
        # was signalled.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                run_in_child(spec, environment.variables(), stdin, output)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        super().__init__(pid)
