"""Checks of single values that a .twc file passes, for arguments.py.

Each returns the checked value, or raises SpecError with one line that names the
argument, its value and what is allowed.
"""

from __future__ import annotations

import os
from typing import Any, Tuple

from twitcher.errors import SpecError

MAX_SECONDS = 1e9
"""Thirty years."""
_MAX_LINE_LENGTH = 200
_MAX_PATH_LENGTH = 4095
"""Bytes, as execve(2) and chdir(2) take them: PATH_MAX without the NUL."""
_RESERVED = 'TWITCHER_'
"""The prefix of our own variables."""


def checked_bool(argument: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise SpecError(f'{argument}={value!r}: allowed: True or False')
    return value


def checked_member(argument: str, value: Any, kind: Any) -> Any:
    """A member of the Enum `kind`."""
    if not isinstance(value, kind):
        raise SpecError(f'{argument}={value!r}: allowed: {", ".join(member.value for member in kind)}')
    return value


def checked_seconds(argument: str, value: Any, lowest: float = 0.0, is_lowest_allowed: bool = True,
                    alternative: str = '') -> float:
    """A number of seconds. The error message ends with the `alternative` that is
    allowed."""
    if not _is_number(value) or not lowest <= value <= MAX_SECONDS or value == lowest and not is_lowest_allowed:
        bounds = (f'from {lowest:g} to {MAX_SECONDS:g}' if is_lowest_allowed
                  else f'greater than {lowest:g} (and no more than {MAX_SECONDS:g})')
        raise SpecError(f'{argument}={value!r}: allowed: a number of seconds {bounds}{alternative}')
    return float(value)


def checked_factor(argument: str, value: Any, highest: float) -> float:
    """A number from 1 to `highest`."""
    if not _is_number(value) or not 1 <= value <= highest:
        raise SpecError(f'{argument}={value!r}: allowed: a number from 1 to {highest:g}')
    return float(value)


def checked_line(argument: str, value: Any) -> str:
    """A line of text that the log can show."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > _MAX_LINE_LENGTH:
        raise SpecError(f'{argument}={value!r}: allowed: one printable line of 1 to {_MAX_LINE_LENGTH} characters')
    return value


def checked_codes(argument: str, value: Any) -> Tuple[int, ...]:
    """Exit codes, sorted."""
    if not isinstance(value, (tuple, list, set, frozenset)) or not value or not all(_is_int(code, 255) for code in value):
        raise SpecError(f'{argument}={value!r}: allowed: a tuple, list or set of exit codes from 0 to 255, not empty')
    return tuple(sorted({int(code) for code in value}))


def checked_environment(argument: str, value: Any) -> Tuple[Tuple[str, str], ...]:
    """Names and values of variables, sorted. The error message shows only the one that
    is wrong: the others may be secrets."""
    wrong = value if not isinstance(value, dict) else next(
        ({name: text} for name, text in value.items() if not _is_variable(name) or not _fits_process(text)), None)
    if wrong is not None:
        raise SpecError(f'{argument}={wrong!r}: allowed: a dict of strings without NUL, whose names are not empty, have no =, '
                        f'and do not begin with {_RESERVED}')
    return tuple(sorted((str(name), str(text)) for name, text in value.items()))


def checked_directory(argument: str, value: Any) -> str:
    """An absolute path. Whether it is a directory is checked when a run starts."""
    if not _fits_process(value) or not value.startswith('/') or len(os.fsencode(value)) > _MAX_PATH_LENGTH:
        raise SpecError(f'{argument}={value!r}: allowed: the absolute path of a directory, as a string')
    return str(value)


def checked_umask(argument: str, value: Any) -> int:
    """The permissions that new files do not get."""
    if not _is_int(value, 0o777):
        raise SpecError(f'{argument}={value!r}: allowed: a whole number from 0 to 0o777, or None')
    return int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_int(value: Any, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest


def _is_variable(name: Any) -> bool:
    return _fits_process(name) and bool(name) and '=' not in name and not name.startswith(_RESERVED)


def _fits_process(value: Any) -> bool:
    """Whether it is a string that execve(2) can pass on."""
    try:
        return isinstance(value, str) and b'\0' not in os.fsencode(value)
    except UnicodeEncodeError:
        return False
