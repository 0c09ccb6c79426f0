"""WatchSpec: what one RegisterWatch asks for, checked. It does not know files, ZooKeeper or processes."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Optional, Tuple

from twitcher.config import shell
from twitcher.config.account import Account, UserOrGroup, find_account
from twitcher.config.action import Action, Exec, checked_action, identity
from twitcher.errors import SpecError

_LONGEST_DESCRIPTION = 200
LONGEST_PATH = 4096
"""Characters. A request that is larger than the server's jute.maxbuffer would cost every watch its connection."""
LONGEST_TIMEOUT = 1e9
"""Seconds: thirty years."""


class RunMode(Enum):
    """What an update does that arrives while a run of the same watch is in progress."""

    QUEUE = 'QUEUE'
    DISCARD = 'DISCARD'
    PARALLEL = 'PARALLEL'


class WatchType(Enum):
    """Which side of a znode is watched."""

    DATA = 'WATCH_DATA'
    CHILDREN = 'WATCH_CHILDREN'


@dataclass(frozen=True)
class WatchSpec:
    """One watch of a config, every field checked. `description` is empty where the file gave none."""

    __slots__ = ('znode', 'action', 'pipe_stdin', 'run_on_load', 'run_mode', 'account', 'notify_signal', 'timeout',
                 'description', 'watch_type')

    znode: str
    action: Action
    pipe_stdin: bool
    run_on_load: bool
    run_mode: RunMode
    account: Optional[Account]
    notify_signal: Optional[int]
    timeout: Optional[float]
    description: str
    watch_type: WatchType

    @property
    def notifies_shell(self) -> bool:
        """Whether notify_signal meets a shell that does not pass it on."""
        return (bool(self.notify_signal) and self.run_mode is RunMode.QUEUE and isinstance(self.action, Exec)
                and isinstance(self.action.command, str) and shell.keeps_signals(self.action.command))

    def is_same(self, other: WatchSpec, whatever_the_action: bool = False) -> bool:
        """Whether the other asks for the same thing, though its file was executed at another time."""
        if replace(self, action=_nothing) != replace(other, action=_nothing):
            return False
        try:
            return whatever_the_action or bool(identity(self.action) == identity(other.action))
        except BaseException:  # the user's own objects are compared here, and may refuse in any way
            return False


def make_spec(znode: Any, action: Any, pipe_stdin: Any = True, run_on_load: Any = True, run_mode: Any = RunMode.QUEUE, *,
              uid: UserOrGroup = None, gid: UserOrGroup = None, notify_signal: Any = None, timeout: Any = None,
              description: Any = None, watch_type: Any = WatchType.DATA) -> WatchSpec:
    """RegisterWatch's arguments as a WatchSpec.

    `timeout` is in seconds. Raises SpecError that names the argument, its value and what is allowed.
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


def znode_fault(path: str) -> Optional[str]:
    """Why a path cannot name a znode, or None. The rules are ZooKeeper's own: its programmer's guide, "data model"."""
    if len(path) > LONGEST_PATH:
        return f'it has more than {LONGEST_PATH} characters'
    if not path.startswith('/'):
        return 'it does not begin with /'
    if path != '/' and path.endswith('/'):
        return 'it ends with /'
    if any(part in ('.', '..') for part in path.split('/')) or '//' in path:
        return 'it has an empty part, or one that is . or ..'
    if any(ord(char) < 0x20 or 0x7f <= ord(char) <= 0x9f or 0xd800 <= ord(char) <= 0xf8ff or ord(char) >= 0xfff0
           for char in path):
        return 'it has a character that no znode may have'
    return None


def _nothing() -> None:
    """Stands for an action where everything but the action is compared."""


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
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= LONGEST_TIMEOUT:
        raise SpecError(f'timeout={value!r}: allowed: a number of seconds greater than 0 (and no more than '
                        f'{LONGEST_TIMEOUT:g}), or None')
    return float(value)


def _checked_description(value: Any) -> str:
    if value is None:
        return ''
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > _LONGEST_DESCRIPTION:
        raise SpecError(f'description={value!r}: allowed: one printable line of 1 to {_LONGEST_DESCRIPTION} characters')
    return value


LANGUAGE: Tuple[Tuple[str, Any], ...] = (
    ('QUEUE', RunMode.QUEUE), ('DISCARD', RunMode.DISCARD), ('PARALLEL', RunMode.PARALLEL),
    ('WATCH_DATA', WatchType.DATA), ('WATCH_CHILDREN', WatchType.CHILDREN),
)
"""The constants of the configuration language and what they stand for."""
