"""RegisterWatch's arguments: checks each one and makes a WatchSpec of them all.

Guarantees: a wrong argument raises SpecError with one line that names the argument, its
value and what is allowed. Nothing that a file passes reaches a WatchSpec unchecked.
"""

from __future__ import annotations

import math
import signal
from typing import Any, Optional, Tuple, TypeVar

from twitcher.config.account import UserOrGroup, find_account
from twitcher.config.action import checked_action
from twitcher.config.checks import (
    checked_bool,
    checked_codes,
    checked_directory,
    checked_environment,
    checked_factor,
    checked_line,
    checked_member,
    checked_seconds,
    checked_umask,
)
from twitcher.config.spec import (
    DEFAULT_FAILURE,
    DEFAULT_PROCESS,
    DEFAULT_TIMING,
    FailurePolicy,
    ProcessSettings,
    RunMode,
    RunOnLoad,
    Then,
    Timing,
    WatchSpec,
)
from twitcher.errors import SpecError
from twitcher.znode import WatchType, znode_fault

FOREVER = math.inf
_MAX_TIMES = 10 ** 9
_MAX_BACKOFF = 1000

_Settings = TypeVar('_Settings', FailurePolicy, Timing, ProcessSettings)


def RETRY(times: Any = 3, delay: Any = 1.0, backoff: Any = 2.0, max_delay: Any = 300.0, then: Any = Then.KEEP) -> FailurePolicy:
    """The configuration language's RETRY(...), a value of on_failure. Times are in
    seconds. Raises SpecError."""
    if isinstance(times, bool) or not isinstance(times, int) and times != FOREVER or times < 1:
        raise SpecError(f'RETRY: times={times!r}: allowed: a whole number of 1 or more, or FOREVER')
    first = checked_seconds('RETRY: delay', delay)
    return FailurePolicy(
        then=checked_member('RETRY: then', then, Then),
        times=FOREVER if times > _MAX_TIMES else times,
        delay=first,
        backoff=checked_factor('RETRY: backoff', backoff, _MAX_BACKOFF),
        max_delay=checked_seconds('RETRY: max_delay', max_delay, lowest=first),
    )


LANGUAGE: Tuple[Tuple[str, Any], ...] = (
    ('QUEUE', RunMode.QUEUE), ('DISCARD', RunMode.DISCARD), ('PARALLEL', RunMode.PARALLEL), ('RESTART', RunMode.RESTART),
    ('WATCH_DATA', WatchType.DATA), ('WATCH_CHILDREN', WatchType.CHILDREN), ('WATCH_TREE', WatchType.TREE),
    ('CHANGED', RunOnLoad.CHANGED), ('KEEP', Then.KEEP), ('STOP', Then.STOP), ('RETRY', RETRY), ('FOREVER', FOREVER),
)
"""What the configuration language adds to Python besides RegisterWatch and Exec: names
and values."""


def make_spec(znode: Any, action: Any, pipe_stdin: Any = True, run_on_load: Any = True, run_mode: Any = RunMode.QUEUE, *,
              uid: UserOrGroup = None, gid: UserOrGroup = None, notify_signal: Any = None, timeout: Any = None,
              description: Any = None, watch_type: Any = WatchType.DATA, on_failure: Any = Then.KEEP, ok_codes: Any = (0,),
              grace: Any = 5.0, settle: Any = 0, splay: Any = 0, run_on_delete: Any = False, lock: Any = None,
              repeat: Any = None, environment: Any = None, cwd: Any = '/', umask: Any = None) -> WatchSpec:
    """RegisterWatch's arguments as a WatchSpec.

    Times are in seconds. Raises SpecError, which names the argument, its value and what
    is allowed.
    """
    spec = WatchSpec(
        znode=_checked_znode(znode),
        action=checked_action(action),
        pipe_stdin=checked_bool('pipe_stdin', pipe_stdin),
        run_on_load=_checked_run_on_load(run_on_load),
        run_mode=checked_member('run_mode', run_mode, RunMode),
        account=find_account(uid, gid),
        notify_signal=_checked_signal(notify_signal),
        timeout=None if timeout is None else checked_seconds('timeout', timeout, is_lowest_allowed=False,
                                                             alternative=', or None'),
        description='' if description is None else checked_line('description', description),
        watch_type=checked_member('watch_type', watch_type, WatchType),
        failure=_shared(_checked_on_failure(on_failure)._replace(ok_codes=checked_codes('ok_codes', ok_codes)),
                        DEFAULT_FAILURE),
        timing=_shared(Timing(
            settle=checked_seconds('settle', settle),
            splay=checked_seconds('splay', splay),
            repeat=None if repeat is None else checked_seconds('repeat', repeat, is_lowest_allowed=False,
                                                               alternative=', or None'),
            lock=None if lock is None else checked_line('lock', lock),
            run_on_delete=checked_bool('run_on_delete', run_on_delete)), DEFAULT_TIMING),
        process=_shared(ProcessSettings(
            environment=() if environment is None else checked_environment('environment', environment),
            cwd=checked_directory('cwd', cwd),
            umask=None if umask is None else checked_umask('umask', umask),
            grace=checked_seconds('grace', grace)), DEFAULT_PROCESS),
    )
    if spec.failure.times and spec.run_mode.overlaps:
        raise SpecError(f'on_failure={on_failure!r}: RETRY does not go with run_mode=PARALLEL, whose runs overlap; allowed: '
                        'KEEP, STOP, or another run_mode')
    return spec


def _shared(settings: _Settings, default: _Settings) -> _Settings:
    return default if settings == default else settings


def _checked_znode(value: Any) -> str:
    fault = znode_fault(value) if isinstance(value, str) else 'it is no string'
    if fault:
        raise SpecError(f'znode={value!r}: {fault}; allowed: an absolute path such as /git/head')
    return str(value)


def _checked_run_on_load(value: Any) -> RunOnLoad:
    if not isinstance(value, (bool, RunOnLoad)):
        raise SpecError(f'run_on_load={value!r}: allowed: True or False, or CHANGED')
    return RunOnLoad(value)


def _checked_on_failure(value: Any) -> FailurePolicy:
    policy = RETRY() if value is RETRY else value
    if isinstance(policy, FailurePolicy):
        return policy
    if isinstance(policy, Then):
        return FailurePolicy(policy)
    raise SpecError(f'on_failure={value!r}: allowed: KEEP, STOP, RETRY, or RETRY(times=..., delay=..., backoff=..., '
                    'max_delay=..., then=...)')


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
