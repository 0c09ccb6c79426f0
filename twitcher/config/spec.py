"""WatchSpec: the checked arguments of one RegisterWatch. Knows no files, no ZooKeeper
and no processes."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Optional

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

    @property
    def overlaps(self) -> bool:
        """Whether each update has a run of its own, and these may be in progress at
        once."""
        return self is RunMode.PARALLEL

    @property
    def drops_updates(self) -> bool:
        """Whether an update that arrives during a run is dropped."""
        return self is RunMode.DISCARD


class WatchSpec(NamedTuple):
    """One watch of a config, every field checked. `description` is empty if the file
    gave none."""

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
        """Whether notify_signal goes to a shell that does not pass it on."""
        return (bool(self.notify_signal) and self.run_mode is RunMode.QUEUE and isinstance(self.action, Exec)
                and isinstance(self.action.command, str) and shell.keeps_signals(self.action.command))

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
