"""RegisterWatch's arguments: checks each one and makes a WatchSpec of them all.

Guarantees: a wrong argument raises SpecError with one line that names the argument, its
value and what is allowed. Nothing that a file passes reaches a WatchSpec unchecked.
"""

from __future__ import annotations

import signal
from typing import Any, Optional, Tuple

from twitcher.config.account import UserOrGroup, find_account
from twitcher.config.action import checked_action
from twitcher.config.spec import RunMode, WatchSpec
from twitcher.errors import SpecError
from twitcher.znode import WatchType, znode_fault

MAX_TIMEOUT = 1e9
"""Seconds: thirty years."""

_MAX_DESCRIPTION_LENGTH = 200

LANGUAGE: Tuple[Tuple[str, Any], ...] = (
    ('QUEUE', RunMode.QUEUE), ('DISCARD', RunMode.DISCARD), ('PARALLEL', RunMode.PARALLEL),
    ('WATCH_DATA', WatchType.DATA), ('WATCH_CHILDREN', WatchType.CHILDREN),
)
"""The constants of the configuration language, with their values."""


def make_spec(znode: Any, action: Any, pipe_stdin: Any = True, run_on_load: Any = True, run_mode: Any = RunMode.QUEUE, *,
              uid: UserOrGroup = None, gid: UserOrGroup = None, notify_signal: Any = None, timeout: Any = None,
              description: Any = None, watch_type: Any = WatchType.DATA) -> WatchSpec:
    """RegisterWatch's arguments as a WatchSpec.

    `timeout` is in seconds. Raises SpecError, which names the argument, its value and
    what is allowed.
    """
    return WatchSpec(
        znode=_checked_znode(znode),
        action=checked_action(action),
        pipe_stdin=_checked_bool('pipe_stdin', pipe_stdin),
        run_on_load=_checked_bool('run_on_load', run_on_load),
        run_mode=_checked_member('run_mode', run_mode, RunMode),
        account=find_account(uid, gid),
        notify_signal=_checked_signal(notify_signal),
        timeout=_checked_timeout(timeout),
        description=_checked_description(description),
        watch_type=_checked_member('watch_type', watch_type, WatchType),
    )


def _checked_znode(value: Any) -> str:
    fault = znode_fault(value) if isinstance(value, str) else 'it is no string'
    if fault:
        raise SpecError(f'znode={value!r}: {fault}; allowed: an absolute path such as /git/head')
    return str(value)


def _checked_bool(argument: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise SpecError(f'{argument}={value!r}: allowed: True or False')
    return value


def _checked_member(argument: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        names = [member.name if kind is RunMode else member.value for member in kind]
        raise SpecError(f'{argument}={value!r}: allowed: {", ".join(names)}')
    return value


def _checked_signal(value: Any) -> Optional[int]:
    if value is None:
        return None
    if isinstance(value, str):
        for known in signal.Signals:
            if value in (known.name, known.name[3:]):
                return int(known)
    elif isinstance(value, int) and not isinstance(value, bool) and value in signal.valid_signals():
        return int(value)
    raise SpecError(f"notify_signal={value!r}: allowed: a signal's number, or its name such as 'SIGHUP'")


def _checked_timeout(value: Any) -> Optional[float]:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_TIMEOUT:
        raise SpecError(f'timeout={value!r}: allowed: a number of seconds greater than 0 (and no more than '
                        f'{MAX_TIMEOUT:g}), or None')
    return float(value)


def _checked_description(value: Any) -> str:
    if value is None:
        return ''
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > _MAX_DESCRIPTION_LENGTH:
        raise SpecError(
            f'description={value!r}: allowed: one printable line of 1 to {_MAX_DESCRIPTION_LENGTH} characters')
    return value
