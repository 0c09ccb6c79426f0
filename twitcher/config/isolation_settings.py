"""Settings of the interpreter and of the process that a .twc file may change, each with how it is read and put back."""

from __future__ import annotations

import gc
import locale
import os
import resource
import signal
import socket
import sys
from typing import Any, Callable, List, Tuple

_LIMITS = range(16)
"""RLIMIT_*: getrlimit(2)."""

Put = Callable[[Any], Any]


def _set_umask(value: int) -> int:
    """The umask that was in force."""
    return os.umask(value)


def _umask() -> int:
    """Not read by setting it: a program that a thread starts just then would inherit that."""
    with open('/proc/self/status', 'rb') as file:
        for line in file:
            if line.startswith(b'Umask:'):
                return int(line.split()[1], 8)
    raise OSError('the kernel does not tell the umask')


def _set_ids(value: Tuple[Any, Any, Any]) -> None:
    users, groups, further = value
    os.seteuid(users[0])  # only root may set the others
    os.setgroups(further)
    os.setresgid(*groups)
    os.setresuid(*users)


def _set_limits(value: List[Tuple[int, int]]) -> None:
    for number, limit in zip(_LIMITS, value):
        if resource.getrlimit(number) != limit:
            try:
                resource.setrlimit(number, limit)
            except (OSError, ValueError):  # only root may raise a hard limit again, and not in every container
                resource.setrlimit(number, (resource.getrlimit(number)[1], resource.getrlimit(number)[1]))
                raise


def _set_gc(value: Tuple[bool, Tuple[int, int, int]]) -> None:
    (gc.enable if value[0] else gc.disable)()
    gc.set_threshold(*value[1])


OF_FUNCTIONS: Tuple[Tuple[Callable[[], Any], Put], ...] = (
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (sys.getswitchinterval, sys.setswitchinterval),
    (socket.getdefaulttimeout, socket.setdefaulttimeout),
    (lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value)),
    (lambda: (gc.isenabled(), gc.get_threshold()), _set_gc),
)
"""Settings that are in force again in the file's functions."""
OF_THE_PROCESS: Tuple[Tuple[Callable[[], Any], Put], ...] = (
    (lambda: (os.getresuid(), os.getresgid(), os.getgroups()), _set_ids),
    (os.getcwd, os.chdir),
    (_umask, _set_umask),
    (lambda: [resource.getrlimit(number) for number in _LIMITS], _set_limits),
    (lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()), lambda value: signal.pthread_sigmask(signal.SIG_SETMASK, value)),
    (lambda: signal.getitimer(signal.ITIMER_VIRTUAL), lambda value: signal.setitimer(signal.ITIMER_VIRTUAL, *value)),
    (lambda: signal.getitimer(signal.ITIMER_PROF), lambda value: signal.setitimer(signal.ITIMER_PROF, *value)),
    (sys.getprofile, sys.setprofile),
)
"""Settings of which an action finds what the manual says."""


def value_of(get: Callable[[], Any]) -> Any:
    """What a setting is at the moment; None if that cannot be told."""
    try:
        return get()
    except OSError:  # a working directory that is gone
        return None
