"""Starts a program with posix_spawn(3), without holding the GIL until its exec is done.

subprocess holds it in CPython 3.10 and before 3.11.4 (gh-104372), so that a program on
a file system that hangs would stop all threads. Needs glibc 2.34, the first that can
close a range of descriptors in the child; elsewhere `is_available` is false.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Dict, Optional, Sequence

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


def posix_spawn(argv: Sequence[str], environment: Dict[str, str], stdin: int, output: int, cwd: str = '/') -> int:
    """Execute argv in a new session, in `cwd`, with three descriptors. Returns its pid.

    The program is searched for in the PATH of the given environment, as subprocess
    does. Raises OSError if it cannot be executed, or the directory not be entered.
    """
    arguments = _vector([os.fsencode(word) for word in argv])
    variables = _vector([os.fsencode(f'{name}={value}') for name, value in environment.items()])
    attributes, actions, pid = _attributes(), ctypes.create_string_buffer(_SIZE), ctypes.c_int()
    _check(_libc.posix_spawn_file_actions_init(actions))
    try:
        for target, source in enumerate((stdin, output, output)):
            _check(_libc.posix_spawn_file_actions_adddup2(actions, source, target))
        _check(_libc.posix_spawn_file_actions_addclosefrom_np(actions, 3))
        _check(_libc.posix_spawn_file_actions_addchdir_np(actions, os.fsencode(cwd)))
        failure = errno.ENOENT
        for path in candidates(argv[0], environment):
            error: int = _libc.posix_spawn(ctypes.byref(pid), path, actions, attributes, arguments, variables)
            if not error:
                return pid.value
            if error not in (errno.ENOENT, errno.ENOTDIR):
                failure = error
            if error not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                break
        raise OSError(failure, os.strerror(failure))
    finally:
        _libc.posix_spawn_file_actions_destroy(actions)


def candidates(program: str, environment: Dict[str, str]) -> Sequence[bytes]:
    """The paths to try for argv[0], in order: execvp(3)."""
    if '/' in program:
        return [os.fsencode(program)]
    return [os.path.join(os.fsencode(directory), os.fsencode(program)) for directory in os.get_exec_path(environment)]


def _vector(words: Sequence[bytes]) -> Optional[ctypes.Array[ctypes.c_char_p]]:
    """A NULL-terminated array of strings."""
    return (ctypes.c_char_p * (len(words) + 1))(*words)


def _check(error: int) -> None:
    if error:
        raise OSError(error, os.strerror(error))
