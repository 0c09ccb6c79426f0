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
from typing import Any, Dict, NamedTuple, Optional, Protocol

from twitcher.account import Account
from twitcher.action import Exec
from twitcher.errors import SpawnError
from twitcher.fork import UMASK, run_in_child
from twitcher.spec import WatchSpec

_TRANSIENT = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY, errno.ESTALE, errno.EIO)


class Exit(NamedTuple):
    """How a process ended: with an exit code, or minus the signal that killed it; None if nobody was there to be told."""

    code: Optional[int]


class Child(Protocol):
    """The process of a run."""

    pid: int

    def poll(self) -> Optional[Exit]:
        """Reap it if it has ended; None while it runs."""


def spawn(spec: WatchSpec, environment: Dict[str, str], stdin: int, output: int) -> Child:
    """Start the spec's action; it reads from `stdin` and writes to `output`. Raises SpawnError."""
    try:
        if isinstance(spec.action, Exec):
            return _spawn_command(spec.action, spec.account, environment, stdin, output)
        return _Forked(spec, environment, stdin, output)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or str(error)
        what = repr(spec.action.command) if isinstance(spec.action, Exec) else 'a Python function'
        raise SpawnError(f'{what} cannot be run: {reason}', is_transient(error)) from error


def is_transient(error: Exception) -> bool:
    """Whether it is the machine's fault, and likely to pass."""
    return isinstance(error, OSError) and error.errno in _TRANSIENT


def _spawn_command(action: Exec, account: Optional[Account], environment: Dict[str, str], stdin: int, output: int) -> Child:
    who: Dict[str, Any] = {}
    if account:  # not otherwise: it costs a fork instead of a vfork
        who = {'user': account.uid, 'group': account.gid, 'extra_groups': account.groups}
    return _Spawned(subprocess.Popen(action.argv, stdin=stdin, stdout=output, stderr=output, env=environment, cwd='/',
                                     umask=UMASK, start_new_session=True, close_fds=True, **who))


class _Spawned:
    """A command."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process

    def poll(self) -> Optional[Exit]:
        """As Child says."""
        code = self._process.poll()
        return None if code is None else Exit(code)


class _Forked:
    """A fork of the daemon that runs a Python function."""

    def __init__(self, spec: WatchSpec, environment: Dict[str, str], stdin: int, output: int) -> None:
        # A signal that the child got before it has reset its handlers would be taken for one of the daemon's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.pid = os.fork()
            if self.pid == 0:
                run_in_child(spec, environment, stdin, output)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def poll(self) -> Optional[Exit]:
        """As Child says."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # a .twc file has had SIGCHLD ignored, and the kernel reaps
            return Exit(None)
        return Exit(os.waitstatus_to_exitcode(status)) if pid else None
