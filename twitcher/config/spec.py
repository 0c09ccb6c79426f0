"""WatchSpec: the checked arguments of one RegisterWatch. Knows no files, no ZooKeeper
and no processes."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, NamedTuple, Optional, Tuple
from zlib import crc32

from twitcher.config import shell
from twitcher.config.account import Account
from twitcher.config.action import Action, Exec, identity
from twitcher.znode import WatchType


class RunMode(Enum):
    """Decides about an update that arrives while a run of the same watch is in
    progress."""

    QUEUE = 'QUEUE'
    DISCARD = 'DISCARD'
    PARALLEL = 'PARALLEL'
    RESTART = 'RESTART'

    @property
    def overlaps(self) -> bool:
        """Whether each update has a run of its own, and these may be in progress at
        once."""
        return self is RunMode.PARALLEL

    @property
    def drops_updates(self) -> bool:
        """Whether an update that arrives during a run is dropped."""
        return self is RunMode.DISCARD

    @property
    def restarts(self) -> bool:
        """Whether an update that arrives during a run ends that run."""
        return self is RunMode.RESTART


class RunOnLoad(Enum):
    """Whether a watch runs when it comes into force."""

    NEVER = False
    ALWAYS = True
    CHANGED = 'CHANGED'


class Then(Enum):
    """What follows a failure, after the last retry if there are any."""

    KEEP = 'KEEP'
    STOP = 'STOP'


class FailurePolicy(NamedTuple):
    """What counts as a failure, and what follows: up to `times` retries, then `then`.

    `times` is infinite for FOREVER. The first retry comes `delay` seconds after the
    failure; each further delay is `backoff` times as long, but no longer than
    `max_delay` seconds.
    """

    then: Then = Then.KEEP
    times: float = 0
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 300.0
    ok_codes: Tuple[int, ...] = (0,)


class Timing(NamedTuple):
    """When a pending update runs, and what else calls for a run. Times are in seconds;
    0 turns `settle` or `splay` off."""

    settle: float = 0.0
    splay: float = 0.0
    repeat: Optional[float] = None
    lock: Optional[str] = None
    run_on_delete: bool = False


class ProcessSettings(NamedTuple):
    """What the process of a run gets, and how it is ended.

    `environment` are names and values, sorted. A `umask` of None is the default.
    `grace` is the number of seconds between SIGTERM and SIGKILL.
    """

    environment: Tuple[Tuple[str, str], ...] = ()
    cwd: str = '/'
    umask: Optional[int] = None
    grace: float = 5.0


# Shared by all watches that ask for nothing else: there may be tens of thousands.
DEFAULT_FAILURE = FailurePolicy()
DEFAULT_TIMING = Timing()
DEFAULT_PROCESS = ProcessSettings()


class WatchSpec(NamedTuple):
    """One watch of a config, every field checked. `description` is empty if the file
    gave none."""

    znode: str
    action: Action
    pipe_stdin: bool
    run_on_load: RunOnLoad
    run_mode: RunMode
    account: Optional[Account]
    notify_signal: Optional[int]
    timeout: Optional[float]
    description: str
    watch_type: WatchType
    failure: FailurePolicy = DEFAULT_FAILURE
    timing: Timing = DEFAULT_TIMING
    process: ProcessSettings = DEFAULT_PROCESS

    @property
    def run_on_delete(self) -> bool:
        """Whether a deletion of the znode calls for a run."""
        return self.timing.run_on_delete

    @property
    def notifies_shell(self) -> bool:
        """Whether notify_signal goes to a shell that does not pass it on."""
        return (bool(self.notify_signal) and self.run_mode is RunMode.QUEUE and isinstance(self.action, Exec)
                and isinstance(self.action.command, str) and shell.keeps_signals(self.action.command))

    @property
    def has_policies(self) -> bool:
        """Whether it asks for more than an immediate run for each update, no matter how
        the last one ended."""
        return (self.timing is not DEFAULT_TIMING or bool(self.failure.times) or self.failure.then is Then.STOP
                or self.run_on_load is RunOnLoad.CHANGED)

    @property
    def digest(self) -> int:
        """A number that is the same in a later daemon if the file still asks for the
        same."""
        try:
            action = _canonical(identity(self.action))
        except BaseException:  # the user's own objects, which may raise anything
            action = ''
        text = f'{self[2:]!r} {action}'
        return crc32(text.encode('utf-8', 'backslashreplace'))

    def is_same(self, other: WatchSpec, ignore_action: bool = False) -> bool:
        """Whether the other asks for the same thing, although its file was executed at
        another time."""
        if self._replace(action=_nothing) != other._replace(action=_nothing):
            return False
        try:
            return ignore_action or bool(identity(self.action) == identity(other.action))
        except BaseException:  # this compares the user's own objects, which may raise anything
            return False


def _nothing() -> None:
    """Stands in for the action when everything else is compared."""


def _canonical(value: Any) -> str:
    """What `repr` returns, without what differs between two processes: addresses and
    the order of sets."""
    if isinstance(value, (tuple, list)):
        return f'({",".join(map(_canonical, value))})'
    if isinstance(value, (set, frozenset)):
        return f'{{{",".join(sorted(map(_canonical, value)))}}}'
    return re.sub(r' at 0x[0-9a-f]+', '', repr(value))
