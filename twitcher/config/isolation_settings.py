"""The settings of the interpreter and of the process that a .twc file may change, each
with a function that reads it and one that restores it."""

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
Setting = Tuple[str, Callable[[], Any], Put]
"""Its name in an error, and the functions that read and restore it."""


def _set_umask(value: int) -> int:
    """Returns the previous umask."""
    return os.umask(value)


def _umask() -> int:
    """Read from /proc, because os.umask would set it, and a program that a thread
    starts at that moment would inherit it."""
    with open('/proc/self/status', 'rb') as file:
        for line in file:
            if line.startswith(b'Umask:'):
                return int(line.split()[1], 8)
    raise OSError('/proc/self/status has no Umask')


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
            except (OSError, ValueError):  # only root may raise a hard limit, and not in every container
                resource.setrlimit(number, (resource.getrlimit(number)[1], resource.getrlimit(number)[1]))
                raise


def _set_gc(value: Tuple[bool, Tuple[int, int, int]]) -> None:
    (gc.enable if value[0] else gc.disable)()
    gc.set_threshold(*value[1])


OF_FUNCTIONS: Tuple[Setting, ...] = (
    ('the recursion limit', sys.getrecursionlimit, sys.setrecursionlimit),
    ('the switch interval', sys.getswitchinterval, sys.setswitchinterval),
    ('the default timeout of sockets', socket.getdefaulttimeout, socket.setdefaulttimeout),
    ('the locale', lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value)),
    ('the garbage collector', lambda: (gc.isenabled(), gc.get_threshold()), _set_gc),
)
"""The settings that are made again in the processes of the file's functions."""
OF_THE_PROCESS: Tuple[Setting, ...] = (
    ('the user, the group or the supplementary groups', lambda: (os.getresuid(), os.getresgid(), os.getgroups()), _set_ids),
    ('the working directory', os.getcwd, os.chdir),
    ('the umask', _umask, _set_umask),
    ('a resource limit', lambda: [resource.getrlimit(number) for number in _LIMITS], _set_limits),
    ('the signal mask', lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
     lambda value: signal.pthread_sigmask(signal.SIG_SETMASK, value)),
    ('a timer', lambda: signal.getitimer(signal.ITIMER_VIRTUAL), lambda value: signal.setitimer(signal.ITIMER_VIRTUAL, *value)),
    ('a timer', lambda: signal.getitimer(signal.ITIMER_PROF), lambda value: signal.setitimer(signal.ITIMER_PROF, *value)),
    ('the profile function', sys.getprofile, sys.setprofile),
)
"""The settings that every action finds as the manual says, even if its file changed
them."""


def value_of(get: Callable[[], Any]) -> Any:
    """The present value of a setting; None if it cannot be read."""
    try:
        return get()
    except OSError:  # a working directory that is gone
        return None
