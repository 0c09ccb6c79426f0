"""Shell commands: in which ones /bin/sh can replace itself by the program, and in which
ones a signal reaches the shell instead of the program.

With `exec` in front of one simple command the shell does not wait for it, and nothing
else changes: sh still looks it up, interprets a script without #!, and exits 127 if
there is no such program. The test is conservative: anything else is left to the shell.
"""

from __future__ import annotations

import re
from typing import Tuple

_SIMPLE = r'([A-Za-z0-9_./][A-Za-z0-9_./:,+@%-]*)([ \t]+[A-Za-z0-9_./:,=+@%-]+)*'
_BLANKS = ' \t\n'

# Reserved words of sh(1p), and the builtins of dash, bash, busybox, mksh and ksh93. A
# program of the same name behaves or prints differently.
_NOT_PROGRAMS = frozenset((
    'case', 'coproc', 'do', 'done', 'elif', 'else', 'esac', 'fi', 'for', 'function', 'if',
    'in', 'namespace', 'select', 'then', 'time', 'until', 'while', '.', '..', 'alias',
    'bg', 'bind', 'break', 'builtin', 'caller', 'cd', 'chdir', 'command', 'compgen',
    'complete', 'compopt', 'continue', 'declare', 'dirs', 'disown', 'echo', 'enable',
    'enum', 'eval', 'exec', 'exit', 'export', 'false', 'fc', 'fg', 'getconf', 'getopts',
    'global', 'hash', 'help', 'hist', 'history', 'integer', 'jobs', 'kill', 'let',
    'local', 'login', 'logout', 'mapfile', 'nameref', 'newgrp', 'popd', 'print', 'printf',
    'pushd', 'pwd', 'read', 'readarray', 'readonly', 'rename', 'return', 'set', 'shift',
    'shopt', 'source', 'suspend', 'test', 'times', 'trap', 'true', 'type', 'typeset',
    'ulimit', 'umask', 'unalias', 'unset', 'wait', 'whence',
))

_HANDLES_SIGNALS = r'\b(exec|trap)\b'


def argv(command: str) -> Tuple[str, str, str]:
    """The program and arguments that run the string."""
    return ('/bin/sh', '-c', f'exec {command.strip(_BLANKS)}' if _is_simple(command) else command)


def keeps_signals(command: str) -> bool:
    """Whether a signal reaches a shell that neither passes it on nor traps it."""
    return not _is_simple(command) and not re.search(_HANDLES_SIGNALS, command)


def _is_simple(command: str) -> bool:
    """Whether the string is one program with plain words, so that the shell is needed
    only to find it."""
    match = re.fullmatch(_SIMPLE, command.strip(_BLANKS))
    return match is not None and match[1] not in _NOT_PROGRAMS
