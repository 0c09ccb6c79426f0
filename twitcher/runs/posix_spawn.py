"""Starts a program with posix_spawn(3), without holding the GIL until its exec is done.

subprocess holds it in CPython 3.10 and before 3.11.4 (gh-104372), so that a program on
a file system that hangs would stop all threads. Needs glibc 2.34, the first that can
close a range of descriptors in the child; elsewhere `is_available` is false.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Sequence

from twitcher.runs.environment import Environment

# spawn.h of glibc, where the structures take 336 and 80 bytes.
_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80
_SIZE = 512
# sigset_t of glibc. All bits of it are set in the sigdefault attribute: otherwise glibc
# would leave its internal signals, 32 and 33, ignored in the child.
_SIGSET_SIZE = 128

_libc = ctypes.CDLL(None, use_errno=False)
is_available = hasattr(_libc, 'posix_spawn_file_actions_addclosefrom_np')


def _attributes() -> ctypes.Array[ctypes.c_char]:
    """Attributes for a new session with no signal blocked and none ignored."""
    attributes = ctypes.create_string_buffer(_SIZE)
    _libc.posix_spawnattr_init(attributes)
    _libc.posix_spawnattr_setsigdefault(attributes, b'\xff' * _SIGSET_SIZE)
    _libc.posix_spawnattr_setsigmask(attributes, bytes(_SIGSET_SIZE))
    _libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSIGDEF | _SETSIGMASK | _SETSID))
    return attributes


_ATTRIBUTES = _attributes() if is_available else None


def posix_spawn(argv: Sequence[str], environment: Environment, stdin: int, output: int, cwd: str = '/') -> int:
    """Execute argv in a new session, in `cwd`, with three descriptors. Returns its pid.

    The program is searched for in the PATH of the given environment, as subprocess
    does. Raises OSError if it cannot be executed or `cwd` cannot be entered.
    """
    arguments = (ctypes.c_char_p * (len(argv) + 1))(*map(os.fsencode, argv))
    variables = environment.vector()
    actions, pid = ctypes.create_string_buffer(_SIZE), ctypes.c_int()
    _check(_libc.posix_spawn_file_actions_init(actions))
    try:
        for target, source in enumerate((stdin, output, output)):
            _check(_libc.posix_spawn_file_actions_adddup2(actions, source, target))
        _check(_libc.posix_spawn_file_actions_addclosefrom_np(actions, 3))
        _check(_libc.posix_spawn_file_actions_addchdir_np(actions, os.fsencode(cwd)))
        failure = errno.ENOENT
        for path in candidates(argv[0], environment.path):
            error: int = _libc.posix_spawn(ctypes.byref(pid), path, actions, _ATTRIBUTES, arguments, variables)
            if not error:
                return pid.value
            if error not in (errno.ENOENT, errno.ENOTDIR):
                failure = error
            if error not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                break
        raise OSError(failure, os.strerror(failure))
    finally:
        _libc.posix_spawn_file_actions_destroy(actions)


def candidates(program: str, search_path: str) -> Sequence[bytes]:
    """The paths to try for argv[0], in order: execvp(3)."""
    if '/' in program:
        return [os.fsencode(program)]
    return [os.path.join(os.fsencode(directory), os.fsencode(program)) for directory in search_path.split(os.pathsep)]


def _check(error: int) -> None:
    if error:
        raise OSError(error, os.strerror(error))
